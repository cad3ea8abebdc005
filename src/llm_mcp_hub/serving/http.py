"""MCP over streamable HTTP, and the plain routes beside it.

The SDK checks Host, Origin and tokens on its own route alone; here one door stands before every route (`door.py`), so
that a page in a browser cannot reach the hub under a name of its own (DNS rebinding), nor a stranger at all. Answers
are streamed (SSE), never plain JSON (that drops all progress), and without an event store (its replay is shared between
sessions).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.observer import HubState, Traffic
from llm_mcp_hub.serving import bodies, connections, health
from llm_mcp_hub.serving.auth import CALLER, STATUS, Caller, Clients
from llm_mcp_hub.serving.closing import closed
from llm_mcp_hub.serving.detached import Detached
from llm_mcp_hub.serving.door import Door, insufficient
from llm_mcp_hub.serving.drain import LINGER_S, POLL_S, Drain
from llm_mcp_hub.serving.limits import Limits, Rates, Turnstile
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.serving.sealed import Seal, SealedSessions, Session
from llm_mcp_hub.serving.sessions import SessionShare
from llm_mcp_hub.serving.sign import PROBED, Signed
from llm_mcp_hub.serving.signals import Early, overheard
from llm_mcp_hub.serving.traffic import Meter, Metered, Refusals
from llm_mcp_hub.serving.underway import Counted, Underway
from llm_mcp_hub.serving.unreadable import answer_to_half_a_character, without_quotation

BODY_BYTES = 16 << 20
"""A prompt of 1,000,000 characters takes up to 12 MB as escaped JSON."""
MAX_SESSIONS = 500
CLOSE_S = 7.0
"""How long the hub may take to end once nothing is asked any more."""
log = structlog.stdlib.get_logger("llm_mcp_hub.http")


class Gauge(Protocol):
    """Who is told what happens over HTTP, and makes the text for Prometheus."""

    def answered(self, path: str, status: int) -> None: ...

    def turned_away(self, reason: str) -> None: ...

    def scrape(
        self, statuses: Mapping[str, TokenStatus], accept: str = "", *, state: HubState, traffic: Traffic
    ) -> tuple[bytes, str]:
        """The text in a format of this `Accept` header, and its content type."""
        ...


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
    server_maker: Callable[[Hub, Detached | None], Server[Any]],
    *,
    gauge: Gauge,
    updates: Updates,
    clients: Clients,
    limits: Limits | None = None,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    drain_s: float = 0.0,
    keys: Sequence[str] = (),
) -> Starlette:
    """The ASGI app. The hub is made and closed with the app's lifespan.

    Args:
        hub_maker: makes the hub, called on the running loop.
        server_maker: makes the MCP server of that hub, whose calls may be detached from their connections.
        gauge: counts, and makes the text of `/metrics`.
        updates: who watches the logins through the server of `server_maker`.
        clients: who may come in.
        limits: how much each of them may do; closed with the app. By default what every client may.
        hosts: names of the hub beside this machine's own, as they stand in a request.
        origins: pages of other origins that may use it.
        drain_s: how long running asks may go on when the app is to end.
        keys: what sessions of the older era are sealed with, where this hub is one of several replicas.
    """
    underway = Underway()
    drain = Drain(drain_s, underway, updates.close)
    meter = Meter(gauge.answered)
    refusals = Refusals(gauge.turned_away)
    limits = limits or Limits(Rates())
    limits.refused = refusals
    life = _Life(hub_maker, server_maker, drain, sealed=bool(keys))
    plain = _Plain(life, gauge, meter, drain, refusals).routes

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            async with life.lived(lambda: underway.watch(clients)) as routes:
                app.router.routes[:] = [*plain, *routes]
                yield
        finally:
            await limits.rates.close()
            log.info("hub ended")

    of_replicas = (
        [Middleware(SealedSessions, seal=Seal(keys), called_off=life.call_off, body_bytes=BODY_BYTES)] if keys else []
    )
    app = Starlette(
        routes=list(plain),
        middleware=[
            Middleware(Signed),
            Middleware(Metered, meter),
            Middleware(bodies.Bodies, bodies.Bounds(BODY_BYTES, bodies.QUIET_S, bodies.WHOLE_S), limits.refused),
            Middleware(Door, clients, hosts, origins, failed=limits.failed, refusals=refusals),
            Middleware(Turnstile, limits),
            Middleware(Counted, underway),
            Middleware(Readable),
            *(of_replicas or [Middleware(SessionShare, MAX_SESSIONS // 2, limits.refused)]),
        ],
        lifespan=lifespan,
    )
    app.state.drain = drain
    app.state.refused = limits.refused
    return app


class _Life:
    """The hub of an app and its MCP server, from the app's start to its end."""

    def __init__(
        self,
        hub_maker: Callable[[], Hub],
        server_maker: Callable[[Hub, Detached | None], Server[Any]],
        drain: Drain,
        *,
        sealed: bool,
    ) -> None:
        """`sealed`: one of several replicas, whose calls outlive their connections. The rest is as for `build_app`."""
        self._hub_maker = hub_maker
        self._server_maker = server_maker
        self._drain = drain
        self._sealed = sealed
        self._hub: Hub | None = None
        self._server: Server[Any] | None = None
        self._detached: Detached | None = None

    @property
    def hub(self) -> Hub:
        """There is one as long as requests come."""
        assert self._hub is not None
        return self._hub

    @property
    def open_sessions(self) -> int:
        """How many sessions of the older era are open: the SDK has no public word for it."""
        assert self._server is not None
        return len(getattr(self._server.session_manager, "_server_instances", ()))

    def call_off(self, session: Session, call: int | str) -> None:
        """A client of a replica has cancelled a call."""
        assert self._detached is not None
        self._detached.call_off(session, call)

    @contextlib.asynccontextmanager
    async def lived(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[list[BaseRoute]]:
        """The routes of MCP, while its hub lives and `works` go on beside it."""
        hub = self._hub = self._hub_maker()
        self._detached = Detached(hub) if self._sealed else None
        self._server = self._server_maker(hub, self._detached)
        inner = self._server.streamable_http_app(
            max_request_body_size=BODY_BYTES,
            max_sessions=MAX_SESSIONS,
            stateless_http=self._sealed,
            # The door stands before every route; the SDK's own would only repeat it.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        create_task = asyncio.get_running_loop().create_task
        beside = [self._drain.of(hub), *(create_task(work()) for work in (hub.warm, hub.logins.watch, *works))]
        try:
            # Whichever server runs us stops us by a signal, and tells us when it has waited for all connections.
            with overheard(self._drain.signalled):
                async with inner.router.lifespan_context(inner):
                    yield inner.router.routes
                    await self._drain.over()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if self._detached is not None:
                await self._detached.close()
            await closed(hub, within_s=CLOSE_S)


class _Plain:
    """The routes beside MCP: is it alive, how are the logins, what is measured."""

    def __init__(self, life: _Life, gauge: Gauge, meter: Meter, drain: Drain, refusals: Refusals) -> None:
        self._life = life
        self._gauge = gauge
        self._meter = meter
        self._drain = drain
        self.routes = [
            Route(PROBED, self._live, methods=["GET"]),
            Route("/health/ready", self._ready, methods=["GET"]),
            Route("/health/tokens", _needs(STATUS, self._tokens, refusals), methods=["GET"]),
            Route("/metrics", _needs(STATUS, self._metrics, refusals), methods=["GET"]),
        ]

    async def _live(self, _request: Request) -> Response:
        return health.alive()

    async def _ready(self, _request: Request) -> Response:
        return await health.ready(self._life.hub, draining=self._drain.begun)

    async def _tokens(self, request: Request) -> Response:
        known = await self._life.hub.token_status()
        # A provider that nobody has set up is no outage.
        down = [status for status in known.values() if not status.usable and status.status != "missing"]
        strict = request.query_params.get("strict") in {"1", "true", "yes"}
        code = 503 if strict and (down or not any(status.usable for status in known.values())) else 200
        return JSONResponse({name: status.model_dump(mode="json") for name, status in known.items()}, code)

    async def _metrics(self, request: Request) -> Response:
        hub = self._life.hub
        text, content_type = self._gauge.scrape(
            await hub.token_status(),
            request.headers.get("accept", ""),
            state=HubState(hub.loads(), await hub.reaches_store(health.STORE_S), self._drain.begun),
            traffic=Traffic(self._life.open_sessions, self._meter.requests, self._meter.streams),
        )
        return Response(text, headers={"content-type": content_type})


Answering = Callable[[Request], Awaitable[Response]]


def _needs(right: str, route: Answering, refusals: Refusals) -> Answering:
    """The route, for those who may use it."""

    async def guarded(request: Request) -> Response:
        caller: Caller = request.scope[CALLER]
        if caller.may(right):
            return await route(request)
        answer = insufficient(right)
        refusals(answer.reason, request.scope, answer.status_code)
        return answer

    return guarded


class _Server(uvicorn.Server):
    """Waits for asks and not for connections, and closes the app in any case.

    uvicorn's own would wait for every stream that a client holds open, close a connection under a client that comes
    for its answer, keep one for ever whose client does not read, and after a second Ctrl-C leave the app to be torn
    down with the loop.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._drain.over()
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while connections:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        for connection in list(connections):
            connection.transport.abort()
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def serve(app: Starlette, *, host: str, port: int, early: Early | None = None) -> int:
    """Serve until SIGTERM or SIGINT, and until the app has come to its end. Returns the exit code.

    `early` has heard signals from before on. Raises Misconfigured when the port cannot be had.
    """
    early = early or Early()
    try:  # uvicorn would tell it after everything has been started, among its log lines
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise Misconfigured(
            # Python puts the address behind the reason, which the sentence begins with.
            f"Port {port} of {host} cannot be used ({str(error.strerror).partition(' (while ')[0]}).",
            action="Stop what uses it, or give another one with --port.",
        ) from error
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=connections.guarded(app.state.refused, head_s=connections.HEAD_S, idle_s=connections.IDLE_S),
        ws="none",  # it would take a connection over from what watches it
        log_config=None,  # our own chain has the loggers
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # nothing is left to wait for by then
        lifespan="on",
    )
    server = _Server(config, app.state.drain)

    # uvicorn raises the signal that stopped it again when it has ended; an orderly end is no death by signal. And one
    # that comes before uvicorn listens must not be lost.
    def stop() -> None:
        server.should_exit = True

    early.then = stop
    if early.came:
        return 0
    server.run()
    return 0 if server.started else 1
