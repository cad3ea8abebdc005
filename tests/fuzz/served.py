"""Requests, thrown at the whole ASGI app, by itself and as one of several replicas; a scripted provider answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.types import Message, Scope

from llm_mcp_hub.conversation import Ask, whole
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.observe.metrics import Metrics
from llm_mcp_hub.providers.base import Event
from llm_mcp_hub.serving.auth import Clients, digest
from llm_mcp_hub.serving.http import build_app
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.serving.server import build_server, by_request
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.fuzz.callers import BODIES, CALL, GREETING
from tests.fuzz.engine import CANARY, TAKEN, Target, safe
from tests.fuzz.forms import CUTS, cut, folder, placed
from tests.unit.scripted import ScriptedProvider, done, login
from tests.unit.strategies import ANY_TEXT, any_json

# -- the whole app -----------------------------------------------------------------------------------------------------


class AtOnce(ScriptedProvider):
    """Says the same to everybody, however often."""

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        yield done()


CLIENT = f"llmhub_{CANARY}"
BOOK = {
    "version": 1,
    "clients": {
        "anna": {
            "scopes": ["ask:claude", "status"],
            "tokens": [{"sha256": digest(CLIENT.encode()), "made_at": "2026-11-01T00:00:00Z"}],
            "created_at": "2026-11-01T00:00:00Z",
            "limits": {"requests_per_minute": 1_000_000, "asks_per_minute": 1_000_000, "at_once": 1_000},
        }
    },
}


class Served:
    """The app as `serve` builds it, on a loop of its own; the asks are answered by a scripted provider."""

    def __init__(self, *, keys: tuple[str, ...]) -> None:
        place = folder() / f"served-{len(keys)}"
        place.mkdir()
        clients = placed(f"served-{len(keys)}/clients.json", json.dumps(BOOK).encode())
        clients.chmod(0o600)
        self._loop = asyncio.new_event_loop()
        updates = Updates()
        self.app: Starlette = build_app(
            lambda: self._hub(place),
            lambda hub, detached: build_server(hub, "0", updates=updates, who=by_request, detached=detached),
            gauge=Metrics(version="0", store="sqlite", providers=("claude",)),
            updates=updates,
            clients=Clients(clients, expected=True),
            hosts=("hub.example", "hub.example:*"),
            origins=("https://pages.example",),
            keys=keys,
        )
        self._up, self._over = asyncio.Event(), asyncio.Event()
        self._life = self._loop.create_task(self._live())  # begun and ended by one task, as the SDK wants it
        self._loop.run_until_complete(self._up.wait())
        self.session = self._loop.run_until_complete(self._opened())
        """One of the older era."""

    def begin_anew(self) -> None:
        """Its session of the older era has been ended: what follows would meet nothing but that."""
        self.session = self._loop.run_until_complete(self._opened())

    async def _live(self) -> None:
        async with self.app.router.lifespan_context(self.app):
            self._up.set()
            await self._over.wait()

    async def _opened(self) -> str:
        message = httpx.Request("POST", "http://127.0.0.1/mcp", headers=OLDER, json=GREETING)
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport) as client, asyncio.timeout(60):
            return (await client.send(message)).headers["mcp-session-id"]

    @staticmethod
    def _hub(place: Path) -> Hub:
        store = SqliteStore(place)
        entry = Entry(AtOnce("claude"), login(store), 32)
        return Hub(
            {"claude": entry}, store=store, deadlines=Deadlines(whole=60, first_text=60, idle=60), queue_limit=64
        )

    def answered(self, scope: Scope, pieces: list[bytes]) -> tuple[int, bytes]:
        """What the app answers: a status, and the body. A client that gets its answer hangs up."""
        return self._loop.run_until_complete(self._answered(scope, pieces))

    async def _answered(self, scope: Scope, pieces: list[bytes]) -> tuple[int, bytes]:
        left = list(pieces)
        heard: list[bytes] = []
        status = 0
        over = asyncio.Event()

        async def receive() -> Message:
            if left:
                piece = left.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(left)}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                assert not status, "answered twice"
                status = message["status"]
                if scope["method"] == "GET" and status == 200:
                    over.set()  # a stream without an end
            elif message["type"] == "http.response.body":
                heard.append(message.get("body", b""))
                if not message.get("more_body", False) or b"data: {" in heard[-1]:
                    over.set()

        async with asyncio.timeout(60):
            await self.app(scope, receive, send)
        return status, b"".join(heard)

    def close(self) -> None:
        """The end of the app, and of its loop."""
        self._over.set()
        self._loop.run_until_complete(self._life)
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.close()


@cache
def served(replica: bool) -> Served:
    """One of each kind for all inputs."""
    made = Served(keys=(CANARY * 2,) if replica else ())
    OPEN.append(made)
    return made


OPEN: list[Served] = []


def close() -> None:
    """End what has been served."""
    while OPEN:
        OPEN.pop().close()
    served.cache_clear()


HEADERS: dict[str, str] = {
    "host": "127.0.0.1:8000",
    "authorization": f"Bearer {CLIENT}",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "ask_claude",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ASKED = {**CALL, "params": {"name": "ask_claude", "arguments": {"prompt": CANARY}, "_meta": META}}
STATUS = {**CALL, "params": {"name": "token_status", "arguments": {}, "_meta": META}}
OLDER = {name: value for name, value in HEADERS.items() if not name.startswith("mcp-")}
WITHIN = {**OLDER, "mcp-session-id": "%session%", "mcp-protocol-version": "2025-11-25"}
LISTING = {"jsonrpc": "2.0", "id": 3, "method": "tools/list"}
CANCELLED = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7, "reason": CANARY}}
REQUESTS: list[tuple[Any, ...]] = [
    ("POST /mcp", HEADERS, json.dumps(ASKED).encode(), b"\x40\x90"),
    ("POST /mcp", {**HEADERS, "mcp-name": "token_status"}, json.dumps(STATUS).encode(), b""),
    ("POST /mcp", {**HEADERS, "content-length": "10", "origin": "https://pages.example"}, BODIES[2], b""),
    ("POST /mcp", OLDER, json.dumps(GREETING).encode(), b""),
    *(
        ("POST /mcp", WITHIN, json.dumps(body).encode(), b"")
        for body in ({**CALL, "id": 2}, LISTING, CANCELLED, STATUS)
    ),
    ("DELETE /mcp", {**OLDER, "mcp-session-id": "v1.x.y"}, b"", b""),
    ("GET /health/tokens?strict=1", {"host": "hub.example:1", "authorization": f"bearer {CLIENT}"}, b"", b""),
    ("GET /metrics", {**OLDER, "accept": "application/openmetrics-text; version=1.0.0"}, b"", b""),
    ("GET /health/live", {"host": "evil.example"}, b"", b""),
]
ANSWERED = frozenset(str(status) for status in (200, 202, 307, 400, 401, 403, 404, 405, 406, 408, 413, 415, 421, 429))
"""No 5xx: nothing here is away, and nothing that is sent may break the app."""


def _request(replica: bool) -> Callable[[tuple[Any, ...]], str]:
    def judge(value: tuple[Any, ...]) -> str:
        line, headers, body, cuts = value
        method, _, path = line.partition(" ")
        app = served(replica)
        given = cast("dict[Any, Any]", headers) if isinstance(headers, dict) else {}
        raw = [
            (
                str(name).lower().encode("utf-8", "replace"),
                str(said).replace("%session%", app.session).encode("utf-8", "replace"),
            )
            for name, said in given.items()
        ]
        plain, _, query = path.partition("?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": whole(plain),
            "raw_path": plain.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8000),
        }
        status, said = app.answered(scope, cut(body, cuts) or [b""])
        assert status, "no answer"
        if method == "DELETE" and status == 200:
            app.begin_anew()
        if status >= 400:
            safe(said.decode("utf-8", "replace"))
        assert b'"code":"internal"' not in said, said[:300]
        assert b'"code":-32603' not in said, said[:300]
        return TAKEN if status in {200, 202} else str(status)

    return judge


def targets() -> list[Target]:
    """All of them."""
    requests = st.tuples(
        st.one_of(
            st.sampled_from([request[0] for request in REQUESTS]),
            st.tuples(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "X"]), ANY_TEXT).map(" /".join),
        ),
        st.tuples(
            st.sampled_from([HEADERS, OLDER, WITHIN]),
            st.dictionaries(st.sampled_from([*HEADERS, "mcp-session-id", "content-length"]), ANY_TEXT, max_size=1),
        ).map(lambda drawn: {**drawn[0], **drawn[1]}),
        st.one_of(any_json().map(lambda value: json.dumps(value).encode()), st.sampled_from(BODIES), st.binary()),
        CUTS,
    )
    return [
        Target("HTTP", REQUESTS, requests, _request(replica=False), ANSWERED),
        Target("HTTP, a replica", REQUESTS, requests, _request(replica=True), ANSWERED),
    ]
