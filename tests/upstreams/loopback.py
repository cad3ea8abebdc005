"""A recording HTTP server on loopback, in a thread of its own.

What every stand-in has in common: it answers on 127.0.0.1 only, records each request that arrived
(order, headers, body, whether the caller hung up) and refuses what it did not expect. It knows
no provider; `anthropic.py` and `google.py` say what is expected and what is answered.

It runs in its own thread with its own event loop, so a test may block, and a hub under test
may run in the same process or in another one.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass
class Received:
    """One request as it arrived. `ended` is how the exchange went."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case; a repeated header is joined by a comma."""
    body: bytes
    at: float
    """`time.monotonic()` when the whole body had arrived."""
    ended: str = "open"
    """`open`, `answered`, or `disconnected` (the caller hung up before the end)."""
    done: threading.Event = field(default_factory=threading.Event, repr=False)
    port: int = 0
    """The caller's end of the connection: which process asked can be told by it."""

    @property
    def json(self) -> Any:
        """The body, parsed. Raises ValueError if it is not JSON."""
        return json.loads(self.body)


Handler = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]


class LoopbackServer:
    """Serves `handle` on a free port of 127.0.0.1 until `stop`; a context manager."""

    def __init__(self, handle: Handler, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._handle = handle
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="stand-in", daemon=True)
        self._runner: web.AppRunner | None = None
        self._failure: BaseException | None = None
        self.port = port
        self.received: list[Received] = []
        self.surprises: list[str] = []
        """What arrived that the stand-in did not expect; a test asserts that this is empty."""

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10) or self._failure is not None:
            raise RuntimeError("the stand-in did not start") from self._failure
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def open(self) -> list[Received]:
        """Requests that are being answered right now."""
        return [r for r in list(self.received) if r.ended == "open"]

    def wait_until(self, happened: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Block until `happened()`; it is looked at whenever a request arrives, is put to a script, or ends.

        Raises AssertionError after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(happened, timeout):
                seen = [(r.method, r.host, r.path, r.ended) for r in self.received]
                raise AssertionError(f"did not happen within {timeout} s; arrived: {seen}; {self.surprises}")

    def wait_for_requests(self, count: int, *, timeout: float = 30.0) -> list[Received]:
        """Block until `count` requests have arrived."""
        self.wait_until(lambda: len(self.received) >= count, timeout=timeout)
        return list(self.received)

    def wait_until_quiet(self, *, timeout: float = 30.0) -> None:
        """Block until no request is open."""
        self.wait_until(lambda: not self.open, timeout=timeout)

    def changed(self) -> None:
        """Wake those who wait; call it after changing what they may look at."""
        with self._changed:
            self._changed.notify_all()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen())
        except BaseException as error:
            self._failure = error
            self._ready.set()
            return
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            if self._runner is not None:
                self._loop.run_until_complete(self._runner.cleanup())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _listen(self) -> None:
        # A middleware and no route: routes do not match `CONNECT host:443` and `OPTIONS *`, which must be seen too.
        @web.middleware
        async def every_request(request: web.Request, handler: object) -> web.StreamResponse:
            try:
                return await self._answer(request)
            except ConnectionResetError as error:  # who has hung up is not answered, and that is no error to print
                raise asyncio.CancelledError from error

        app = web.Application(client_max_size=64 << 20, middlewares=[every_request])
        # handler_cancellation: a caller that hangs up cancels the handler, which is what we record.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        for address in self._runner.addresses:
            self.port = address[1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        received = Received(
            method=request.method,
            host=request.host,
            path=request.path,
            query=dict(request.query),
            headers=headers,
            body=body,
            at=time.monotonic(),
            port=request.transport.get_extra_info("peername")[1] if request.transport is not None else 0,
        )
        self.received.append(received)
        self.changed()
        try:
            response = await self._handle(request, received)
        except BaseException:
            received.ended = "disconnected"
            raise
        else:
            received.ended = "answered" if not response.prepared or request.transport is not None else "disconnected"
            return response
        finally:
            received.done.set()
            self.changed()
