"""Who comes in over HTTP. Stands before every route, and knows nothing of what is behind it.

In this order: from where a request came, by which name, from which page, with which token. What is refused is refused
from its head: nothing of a body is read before. Without client tokens the door is open to this machine alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

import structlog
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.serving.auth import CALLER, Book, Caller, Clients, recognised
from llm_mcp_hub.serving.limits import too_many, whole_seconds
from llm_mcp_hub.serving.sign import PROBED
from llm_mcp_hub.serving.traffic import Refusal, Refusals

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
STRANGERS_BODY_BYTES = 64 << 10
SHUT_RETRY_S = 60
"""A person has to mend the clients' file first."""
NEEDS_TOKENS = (
    "This hub has no client tokens, so it serves its own machine alone: else it would lend the owner's subscriptions "
    "to the network. Run there: llm-mcp-hub client add NAME\n"
)
log = structlog.stdlib.get_logger("llm_mcp_hub.door")
_REALM = 'Bearer realm="llm-mcp-hub"'


class Door:
    """Lets in who may come, with `CALLER` in the scope."""

    def __init__(
        self,
        app: ASGIApp,
        clients: Clients,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        *,
        failed: Callable[[str | None], float | None] = lambda _address: None,
        refusals: Refusals | None = None,
    ) -> None:
        """
        Args:
            app: what is behind it.
            clients: who may come in.
            hosts: under which names the hub may be used beside this machine's.
            origins: from which pages.
            failed: counts an address that came without a valid token; the seconds that it is to stay away, or None.
            refusals: is told who was not let in.
        """
        self._app = app
        self._failed = failed
        self._refusals = refusals or Refusals()
        self._clients = clients
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        self._told = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # A name that is no ASCII names nothing (RFC 9110, 5.1). Servers refuse it; past one that does not, Starlette
        # would list it and not find it.
        scope["headers"] = [header for header in scope["headers"] if header[0].isascii()]
        found = self._look(scope)
        if isinstance(found, Response):
            # A probe is refused like everybody; a log and a count that told of each would hide those that matter.
            if isinstance(found, Refusal) and (found.reason, scope["path"]) != ("no_token", PROBED):
                self._refusals(found.reason, scope, found.status_code)
            return await found(scope, receive, send)
        scope[CALLER] = found
        if found.client is None:
            return await self._app(scope, receive, send)
        # The SDK's own form: it binds a session to whom it finds here, and to everybody else the session does not
        # exist. The token itself goes no further than this door.
        known = AccessToken(token="", client_id=found.client, scopes=sorted(found.scopes or ()))
        scope["user"] = AuthenticatedUser(known)
        with structlog.contextvars.bound_contextvars(client=found.client):
            return await self._app(scope, receive, send)

    def _look(self, scope: Scope) -> Caller | Response:
        """Whose request this is, or the answer to one that is refused."""
        book: Book | None = None
        closed = False
        try:
            book = self._clients.current()
            self._told = ""
        except Misconfigured as error:
            closed = True
            self._tell(error)
        open_to_all = book is None and not closed
        if open_to_all and not _arrived_on_loopback(scope):
            return Refusal("address", NEEDS_TOKENS, 403)
        host = _one(scope, b"host") or ""
        if _name(host) not in LOOPBACK_NAMES:
            if not _listed(host.lower(), self._hosts):
                return Refusal("host", "This host name is not served here: it is not in HUB_ALLOWED_HOSTS.\n", 421)
            if open_to_all:  # by way of a proxy on this machine
                return Refusal("address", NEEDS_TOKENS, 403)
        origin = _one(scope, b"origin")
        if origin is not None and _name(origin.partition("://")[2]) not in LOOPBACK_NAMES:
            if not _listed(origin.lower(), self._origins):
                return Refusal("origin", "Pages of this origin may not use the hub.\n", 403)
            if open_to_all:
                return Refusal("address", NEEDS_TOKENS, 403)
        if open_to_all:
            return Caller()
        if book is None:
            shut = {"Retry-After": str(SHUT_RETRY_S)}
            return _shut(scope, Refusal("shut", "Nobody can be let in now. The hub's log says why.\n", 503, shut))
        found = _known(scope, book)
        if isinstance(found, Caller):  # whoever else comes from its address
            return found
        left = self._failed((scope.get("client") or (None,))[0])
        if left is None:
            return found
        told = f"Too often without a valid token from this address: try again in {whole_seconds(left)} s.\n"
        return _shut(scope, too_many(told, left, {"Connection": "close"}))

    def _tell(self, error: Misconfigured) -> None:
        """Say in the log, and only there, why nobody is let in; once, however many come."""
        if error.message != self._told:
            self._told = error.message
            log.error("nobody is let in", code=error.code, reason=error.message, action=error.action)


def insufficient(scope: str) -> Refusal:
    """The answer to a client that may not do this (RFC 6750, section 3.1)."""
    return Refusal(
        "scope",
        f"This client's token does not have the scope {scope}.\n",
        403,
        {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
    )


def _known(scope: Scope, book: Book) -> Caller | Response:
    """Whose token the request bears. Only its header is looked at: what stands in an address ends up in logs."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        fault = f'{_REALM}, error="invalid_request", error_description="More than one Authorization header"'
        return _shut(scope, Refusal("two_tokens", "Give one Authorization header.\n", 400, {"WWW-Authenticate": fault}))
    kind, _, token = given[0].partition(b" ") if given else (b"", b"", b"")
    if kind.lower() != b"bearer":  # no error in the header: so RFC 6750 has it for who shows nothing
        return _shut(
            scope,
            Refusal(
                "no_token",
                "This hub wants a client token: Authorization: Bearer TOKEN. Its owner makes one with: "
                "llm-mcp-hub client add NAME\n",
                401,
                {"WWW-Authenticate": _REALM},
            ),
        )
    caller = recognised(book, token.strip(b" "))
    return _shut(scope, unknown()) if caller is None else caller


def unknown() -> Refusal:
    """The answer to a token that is none, or none any more."""
    fault = f'{_REALM}, error="invalid_token", error_description="The token is unknown or revoked"'
    return Refusal("wrong_token", "This token is unknown or revoked.\n", 401, {"WWW-Authenticate": fault})


def _shut(scope: Scope, answer: Response) -> Response:
    """The answer to a stranger, after which nothing more of a long body is taken from it."""
    length = _one(scope, b"content-length") or "0"
    if not (length.isdigit() and len(length) < 20 and int(length) <= STRANGERS_BODY_BYTES):
        return Refusal("body_size", "Too much from somebody who is not known.\n", 413, {"Connection": "close"})
    if _one(scope, b"transfer-encoding") is not None:
        answer.headers["Connection"] = "close"
    return answer


def _arrived_on_loopback(scope: Scope) -> bool:
    """Whether the address of ours that a request came to is this machine's alone. What is not known is not."""
    server = scope.get("server")
    try:
        address = ipaddress.ip_address(server[0] if server else "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _one(scope: Scope, header: bytes) -> str | None:
    """The value of a header; of one that comes twice, something that no list holds."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == header]
    return None if not values else values[0] if len(values) == 1 else ", ".join(values)


def _name(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() and name else host).lower()


def _listed(name: str, listed: frozenset[str]) -> bool:
    """Whether a list has this name: with this port, or with any (`name:*`)."""
    if "*" in name:
        return False
    before, _, port = name.rpartition(":")
    return name in listed or (port.isdigit() and f"{before}:*" in listed) or f"{name}:*" in listed
