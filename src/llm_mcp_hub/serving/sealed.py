"""Sessions of the older era where there are replicas: what a client echoes is sealed, and no replica remembers it.

    Mcp-Session-Id: v1.<what is known of the session, as JSON in base64url>.<HMAC-SHA256 of that>

Any replica that has a key verifies it, and knows by it what the client said at `initialize`. It is worth nothing to
another client: whose it is stands in it. Newer requests (2026-07-28) have no session, and pass.
The upper half is pure. Knows nothing of asks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp_types import INVALID_REQUEST, ErrorData, JSONRPCError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.serving import wire
from llm_mcp_hub.serving.auth import CALLER, Caller

SEALED = "llm_mcp_hub.session"
"""Where the scope of a request of the older era says in which session it is."""
HEADER, VERSION = wire.SESSION.decode(), wire.VERSION.decode()
LIVES_S = 30 * 86_400.0
"""After that a client has to initialize anew, as after the end of any session."""
NAME_CHARS = 64
"""As much of a client's name as is kept: its beginning tells how long it waits."""
SMALL_BYTES = 64 << 10
"""A notification that is larger is none of those that are looked for."""
_LABEL = b"llm-mcp-hub session v1\0"

CalledOff = Callable[["Session", int | str], None]
"""Is told that a client calls off one of its calls: its session, and the call's JSON-RPC id there."""


class Session(BaseModel):
    """What a session is known by. The id is of chance, and its client's alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str
    principal: str
    client: str
    """The beginning of the client's own name; empty where it gave none."""
    version: str
    """Of the protocol, as agreed."""
    since: int
    """Seconds since 1970."""


class Seal:
    """Seals with the first key, verifies with all: so keys can be changed one replica after the other."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode("utf-8", "surrogateescape") for key in keys)

    def sealed(self, session: Session) -> str:
        """What the client will echo."""
        said = _text(session.model_dump_json().encode())
        return f"v1.{said}.{_text(self._mark(self._keys[0], said))}"

    def opened(self, given: str, principal: str, now: float) -> Session | None:
        """The session that a client echoes; None for one that is not sealed by us, over, or somebody else's."""
        form, _, rest = given.partition(".")
        said, _, mark = rest.partition(".")
        shown = _bytes(mark)
        # Every key is looked at, in constant time each.
        known = [hmac.compare_digest(self._mark(key, said), shown) for key in self._keys]
        if form != "v1" or not any(known):
            return None
        try:
            session = Session.model_validate_json(_bytes(said))
        except ValidationError:  # sealed by another version of the hub
            return None
        return session if session.principal == principal and now - session.since < LIVES_S else None

    def _mark(self, key: bytes, said: str) -> bytes:
        return hmac.digest(key, _LABEL + said.encode("utf-8", "surrogatepass"), hashlib.sha256)


def began(principal: str, params: object, now: float) -> Session:
    """The session that an `initialize` of these params begins."""
    given = cast("dict[str, Any]", params) if isinstance(params, dict) else {}
    info = given.get("clientInfo")
    name = cast("dict[str, Any]", info).get("name") if isinstance(info, dict) else None
    asked = given.get("protocolVersion")
    return Session(
        id=secrets.token_urlsafe(16),
        principal=principal,
        client=name[:NAME_CHARS].encode("utf-8", "replace").decode() if isinstance(name, str) else "",
        version=asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION,
        since=int(now),
    )


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


# -- over HTTP --------------------------------------------------------------------------------------------------------


class SealedSessions:
    """Stands before the MCP route: gives sessions, looks after them, and hears what a client calls off.

    The SDK behind it runs without sessions, each request by itself.
    """

    def __init__(
        self, app: ASGIApp, *, seal: Seal, called_off: CalledOff, body_bytes: int, path: str = wire.PATH
    ) -> None:
        self._app = app
        self._seal = seal
        self._called_off = called_off
        self._path = path
        self._older = RequestBodyLimitMiddleware(self._of_the_older_era, body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            return await self._app(scope, receive, send)
        version = Headers(scope=scope).get(VERSION)
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            return await self._app(scope, receive, send)
        return await self._older(scope, receive, send)

    async def _of_the_older_era(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        if method == "GET":  # nobody would ever say anything on that stream
            refused = _refusal(405, "There is no stream of the server's own here", {"Allow": "POST, DELETE"})
            return await refused(scope, receive, send)
        if method not in {"POST", "DELETE"}:
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        caller: Caller = scope[CALLER]
        session: Session | None = None
        given = headers.get(HEADER)
        if given is not None:
            session = self._seal.opened(given, caller.principal, time.time())
            if session is None:
                return await _refusal(404, "Session not found")(scope, receive, send)
            scope[SEALED] = session
            if VERSION not in headers:  # clients of before 2025-06-18
                MutableHeaders(scope=scope)[VERSION] = session.version
        if method == "DELETE":
            answer = _refusal(400, "Bad Request: Missing session ID") if session is None else Response(status_code=200)
            return await answer(scope, receive, send)
        length = headers.get("content-length", "0")
        if session is not None and length.isdigit() and int(length) > SMALL_BYTES:
            return await self._app(scope, receive, send)
        body = await _whole(receive)
        if body is None:
            return None
        return await self._message(scope, _again(body, receive), send, body, session)

    async def _message(self, scope: Scope, receive: Receive, send: Send, body: bytes, session: Session | None) -> None:
        try:
            said = from_json(body)
        except ValueError:  # the SDK has its answer
            return await self._app(scope, receive, send)
        message = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        if message.get("method") == "initialize" and "id" in message:
            caller: Caller = scope[CALLER]
            new = began(caller.principal, message.get("params"), time.time())
            scope[SEALED] = new
            return await self._app(scope, receive, _with_header(send, self._seal.sealed(new)))
        if session is None:
            return await _refusal(400, "Bad Request: Missing session ID")(scope, receive, send)
        if message.get("method") == "notifications/cancelled":
            params = message.get("params")
            call = cast("dict[str, Any]", params).get("requestId") if isinstance(params, dict) else None
            if isinstance(call, int | str) and not isinstance(call, bool):
                self._called_off(session, call)
        return await self._app(scope, receive, send)


def call_of(call: int | str) -> str:
    """A JSON-RPC id as a part of a key: of any length and type, 1 and "1" apart."""
    return hashlib.sha256(json.dumps(call).encode()).hexdigest()[:32]


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """As the SDK words it."""
    error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=INVALID_REQUEST, message=message))
    text = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(text, status, headers, "application/json")


def _with_header(send: Send, sealed: str) -> Send:
    async def say(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)[HEADER] = sealed
        await send(message)

    return say


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; None where its client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes after it."""
    told = False

    async def hear() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return hear
