"""MCP over streamable HTTP, and the plain routes beside it.

The SDK checks Host, Origin and tokens on its own route alone; here one door stands before every route (`door.py`), so
that a page in a browser cannot reach the hub under a name of its own (DNS rebinding), nor a stranger at all. Answers
are streamed (SSE), never plain JSON (that drops all progress), and without an event store (its replay is shared between
sessions).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.auth import STATUS, Caller, Clients
from llm_mcp_hub.serving.door import CALLER, Door, insufficient
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.serving.unreadable import answer_to_half_a_character, without_quotation

BODY_BYTES = 16 << 20
"""A prompt of 1,000,000 characters takes up to 12 MB as escaped JSON."""
MAX_SESSIONS = 500
DRAIN_POLL_S = 0.1
Scrape = Callable[[Mapping[str, TokenStatus], str], tuple[bytes, str]]
"""What Prometheus reads, of these logins and in a format of this `Accept` header: the text and its content type."""


class Readable:
    """Gives a call that holds half of a character the same coded answer as stdio does, and quotes no message.

    In the older era the SDK answers 400 without the call's id, so that is what is looked for; and where a message is
    none of the protocol's, with all that its validation says, which holds the message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        body: list[bytes] = []
        refused: Message | None = None
        replaced = False

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            nonlocal refused, replaced
            if message["type"] == "http.response.start" and message["status"] == 400:
                refused = message
                return
            if refused is not None:
                start, refused = refused, None
                answer = answer_to_half_a_character(b"".join(body))
                told = answer or without_quotation(message.get("body", b""))
                if told is not None:
                    replaced = True
                    code = 400 if answer is None else 200
                    await JSONResponse(told.model_dump(by_alias=True, mode="json"), code)(scope, receive, send)
                else:
                    await send(start)
            body.clear()
            if not replaced:
                await send(message)

        return await self._app(scope, hear, say)


def build_app(
    hub_maker: Callable[[], Hub],
    server_maker: Callable[[Hub], Server[Any]],
    *,
    scrape: Scrape,
    updates: Updates,
    clients: Clients,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    drain_s: float = 0.0,
) -> Starlette:
    """The ASGI app. The hub is made and closed with the app's lifespan.

    Args:
        hub_maker: makes the hub, called on the running loop.
        server_maker: makes the MCP server of that hub.
        scrape: makes the text of `/metrics`.
        updates: who watches the logins through the server of `server_maker`.
        clients: who may come in.
        hosts: names of the hub beside this machine's own, as they stand in a request.
        origins: pages of other origins that may use it.
        drain_s: how long asks that were handed back as tickets may go on when the app is to end.
    """
    held: list[Hub] = []

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def tokens(request: Request) -> Response:
        known = await held[0].token_status()
        # A provider that nobody has set up is no outage.
        down = [status for status in known.values() if not status.usable and status.status != "missing"]
        strict = request.query_params.get("strict") in {"1", "true", "yes"}
        code = 503 if strict and (down or not any(status.usable for status in known.values())) else 200
        return JSONResponse({name: status.model_dump(mode="json") for name, status in known.items()}, code)

    async def metrics(request: Request) -> Response:
        text, content_type = scrape(await held[0].token_status(), request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        hub = hub_maker()
        held[:] = [hub]
        inner = server_maker(hub).streamable_http_app(
            max_request_body_size=BODY_BYTES,
            max_sessions=MAX_SESSIONS,
            # The door stands before every route; the SDK's own would only repeat it.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        app.router.routes[:] = [*plain, *inner.router.routes]
        beside = [asyncio.get_running_loop().create_task(work) for work in (hub.warm(), hub.logins.watch())]
        try:
            async with inner.router.lifespan_context(inner):
                yield
                # What nobody waits for on a connection has its time too: tickets, and what an older client has lost.
                # Ours may have used some of it already, or be told to hurry by a signal, which cannot set an event.
                hub.ends_soon()
                stop_by = time.monotonic() + drain_s
                while hub.is_asked and time.monotonic() < getattr(app.state, "stop_by", stop_by):  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_POLL_S)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await hub.close()

    plain = [
        Route("/health/live", live, methods=["GET"]),
        Route("/health/tokens", _needs(STATUS, tokens), methods=["GET"]),
        Route("/metrics", _needs(STATUS, metrics), methods=["GET"]),
    ]
    app = Starlette(
        routes=list(plain),
        middleware=[Middleware(Door, clients, hosts, origins), Middleware(Readable)],
        lifespan=lifespan,
    )
    app.state.end_streams = updates.close
    return app


def _needs(right: str, route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The route, for those who may use it."""

    async def guarded(request: Request) -> Response:
        caller: Caller = request.scope[CALLER]
        return await route(request) if caller.may(right) else insufficient(right)

    return guarded


class _Server(uvicorn.Server):
    """Closes the app in any case: after a second Ctrl-C uvicorn's own would leave it to be torn down with the loop."""

    def __init__(self, config: uvicorn.Config, app: Starlette, drain_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            self._app.state.stop_by = 0.0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.end_streams()
        self._app.state.stop_by = 0.0 if self.force_exit else time.monotonic() + self._drain_s
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def serve(app: Starlette, *, host: str, port: int, drain_s: float) -> int:
    """Serve until SIGTERM or SIGINT; running asks have `drain_s` seconds to end. Returns the exit code.

    Raises Misconfigured when the port cannot be had.
    """
    try:  # uvicorn would tell it after everything has been started, among its log lines
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise Misconfigured(
            f"Port {port} of {host} cannot be used ({error.strerror}).",
            action="Stop what uses it, or give another one with --port.",
        ) from error
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,  # our own chain has the loggers
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(drain_s),
        lifespan="on",
    )
    server = _Server(config, app, drain_s)

    # uvicorn raises the signal that stopped it again when it has ended; an orderly end is no death by signal. And one
    # that comes before uvicorn listens must not be lost.
    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run()
    return 0 if server.started else 1
