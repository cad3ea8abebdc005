"""What an attack is, and the first of them: who comes without a right, and who reaches for what is another's.

Each is a name, what is sent, and what must come back. Others are in `wire.py`, `bombs.py` (bodies) and `floods.py`
(time and number).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.guarantees.raw import Heard, request
from tests.guarantees.target import (
    ANSWER,
    HOST,
    Piece,
    Target,
    bearer,
    legacy,
    legacy_body,
    message,
    modern,
    told,
)

Check = Callable[[Heard], bool]


@dataclass(frozen=True)
class Attack:
    """One row. `answer`: what must come back, in words; more than one where either is right."""

    name: str
    answer: str | Sequence[str]
    sent: Sequence[Piece] = ()
    count: int = 1
    """How many responses come before the connection is tried with one more request."""
    heads: Sequence[str] = ()
    check: Check = lambda heard: True
    """What else must be true of it."""
    run: Callable[[Target], str] | None = None
    """Instead of `sent`: one that is more than bytes on one connection."""
    only_serve: bool = False
    """What `serve` defends by a protocol of its own, and a plain ASGI server leaves to whoever runs it."""

    def seen(self, target: Target) -> str:
        """The answer, in words. Raises AssertionError for one that is not what it must be."""
        if self.run is not None:
            return self.run(target)
        heard = target.heard(*self.sent, count=self.count, heads=self.heads)
        assert self.check(heard), (self.name, heard)
        return told(heard)

    @property
    def right(self) -> Sequence[str]:
        return (self.answer,) if isinstance(self.answer, str) else self.answer


def get(path: str = "/health/live", *headers: Any, host: str | None = HOST, method: str = "GET") -> bytes:
    return request(method, path, *headers, host=host)


ALICE = bearer("alice")
NAMED = 'Bearer realm="llm-mcp-hub"'


def challenged(heard: Heard) -> bool:
    """It says how one comes in, and nothing of who is known."""
    return heard.responses[0].headers["www-authenticate"].startswith(NAMED)


def silent(heard: Heard) -> bool:
    """It holds nothing of alice's."""
    return all(ANSWER.encode() not in response.body for response in heard.responses)


# Without a right ------------------------------------------------------------------------------------------------------

STRANGERS = [
    Attack("no token", "401", [get()], check=challenged),
    Attack(
        "no token, a call", "401", [modern("nobody", "tools/list").replace(b"Authorization", b"X")], check=challenged
    ),
    Attack("no token, the numbers", "401", [get("/metrics")], check=challenged),
    Attack("no token, the logins", "401", [get("/health/tokens?strict=1")], check=challenged),
    Attack("no token, what is not there", "401", [get("/admin")], check=challenged),
    Attack("no token, from this machine as it says", "401", [get("/health/live", ("X-Forwarded-For", "127.0.0.1"))]),
    Attack(
        "no token, as another's address",
        "401",
        [get("/health/live", ("X-Original-URL", "/"), ("Forwarded", "for=::1"))],
    ),
    Attack("wrong token", "401", [get("/health/live", bearer("wrong"))], check=challenged),
    Attack("revoked token", "401", [get("/health/live", bearer("gone"))], check=challenged),
    Attack("a token but for its last letter", "401", [get("/health/live", bearer("cut"))]),
    Attack("a token's hash as the token", "401", [get("/health/live", bearer("hash"))]),
    Attack("an empty token", "401", [get("/health/live", "Authorization: Bearer ")]),
    Attack("a token of 50 KB", "401", [get("/health/live", ("Authorization", "Bearer " + "x" * 50_000))]),
    Attack("a token that is no text", "401", [get("/health/live", ("Authorization", "Bearer \xff\xfe\x80"))]),
    Attack("a token in the address", "401", [get("/health/live?access_token=%alice%&token=%alice%")]),
    Attack(
        "a token in a cookie", "401", [get("/health/live", ("Cookie", "token=%alice%; Authorization=Bearer %alice%"))]
    ),
    Attack("a token as a password", "401", [get("/health/live", ("Authorization", "Basic %alice%"))]),
    Attack("a token for the proxy", "401", [get("/health/live", ("Proxy-Authorization", "Bearer %alice%"))]),
    Attack("two tokens, the right one first", "400", [get("/health/live", ALICE, bearer("wrong"))]),
    Attack("two tokens, the right one last", "400", [get("/health/live", bearer("wrong"), ALICE)]),
    Attack("a name that is not ours", "421", [get("/health/live", ALICE, host="evil.example")]),
    Attack(
        "rebinding: a page's own name",
        "421",
        [modern("alice", "tools/list").replace(b"hub.example", b"a.evil.example")],
    ),
    Attack("rebinding: every address", "421", [get("/health/live", ALICE, host="0.0.0.0:%port%")]),
    Attack("rebinding: an address as a number", "421", [get("/health/live", ALICE, host="2130706433:%port%")]),
    Attack("rebinding: an address in short", "421", [get("/health/live", ALICE, host="127.1")]),
    Attack("rebinding: an address within an address", "421", [get("/health/live", ALICE, host="[::ffff:127.0.0.1]")]),
    Attack("rebinding: our name below another", "421", [get("/health/live", ALICE, host="hub.example.evil.example")]),
    Attack("rebinding: our name before an @", "421", [get("/health/live", ALICE, host="hub.example@evil.example")]),
    Attack("rebinding: our name after a #", "421", [get("/health/live", ALICE, host="evil.example#hub.example")]),
    Attack(
        "rebinding: forwarded for our name",
        "421",
        [get("/health/live", ALICE, ("X-Forwarded-Host", HOST), host="evil.example")],
    ),
    Attack("no name", "400 closed", [get("/health/live", ALICE, host=None)]),
    Attack("two names", "400 closed", [get("/health/live", ALICE, ("Host", "evil.example"))]),
    Attack("a page that is not ours", "403", [get("/health/live", ALICE, ("Origin", "https://evil.example"))]),
    Attack("a page of nowhere", "403", [get("/health/live", ALICE, ("Origin", "null"))]),
    Attack(
        "a page that begins as ours", "403", [get("/health/live", ALICE, ("Origin", "http://localhost.evil.example"))]
    ),
    Attack(
        "two pages",
        "403",
        [get("/health/live", ALICE, ("Origin", "http://localhost"), ("Origin", "https://evil.example"))],
    ),
    Attack(
        "a page asks what it may",
        "403",
        [get("/mcp", ("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST"), method="OPTIONS")],
        check=lambda heard: not any(name.startswith("access-control") for name in heard.responses[0].headers),
    ),
    Attack("a client without the scope", "403", [get("/metrics", bearer("carol"))]),
    Attack(
        "a client without the scope, by a tool",
        "200 permission_denied",
        [modern("carol", "tools/call", {"name": "ask_claude", "arguments": {"prompt": "x"}})],
    ),
]

# What is another's ----------------------------------------------------------------------------------------------------


def _tool(name: str, **arguments: object) -> dict[str, object]:
    return {"name": name, "arguments": arguments}


def _stays(target: Target, *pieces: Piece) -> str:
    """Alice's ask still runs after what bob has sent."""
    seen = told(target.heard(*pieces))
    state = target.heard(modern("alice", "tools/call", _tool("ask_result", ask_id="%running%", wait_s=0)))
    assert b'"working"' in state.responses[0].body, state
    return seen


OTHERS = [
    Attack("another's session", "404 -32600", [legacy("bob", "tools/list")], check=silent),
    Attack(
        "another's session, to listen",
        "404 -32600",
        [get("/mcp", bearer("bob"), ("Mcp-Session-Id", "%session%"), ("Accept", "text/event-stream"))],
    ),
    Attack(
        "another's session, to end it",
        "404 -32600",
        [get("/mcp", bearer("bob"), ("Mcp-Session-Id", "%session%"), method="DELETE")],
    ),
    Attack("a session of nobody", "404 -32600", [legacy_body("bob", message("ping", {}), "0" * 32)]),
    Attack("another's session without a token", "401", [legacy("bob", "tools/list").replace(b"Authorization", b"X")]),
    Attack(
        "another's ask",
        "200 not_found",
        [modern("bob", "tools/call", _tool("ask_result", ask_id="%ask%"))],
        check=silent,
    ),
    Attack(
        "another's ask, waiting",
        "200 not_found",
        [modern("bob", "tools/call", _tool("ask_result", ask_id="%running%", wait_s=30))],
    ),
    Attack(
        "another's ask, to end it",
        "200 not_found",
        run=lambda target: _stays(target, modern("bob", "tools/call", _tool("ask_cancel", ask_id="%running%"))),
    ),
    Attack(
        "another's call, to cancel it",
        "404 -32600",
        run=lambda target: _stays(target, legacy("bob", "notifications/cancelled", {"requestId": 1}, None)),
    ),
    Attack(
        "another's conversation, to read it",
        "400 -32602",
        [modern("bob", "resources/read", {"uri": "hub://conversations/%conversation%"})],
        check=silent,
    ),
    Attack(
        "another's conversation, to go on in it",
        "200 not_found",
        [modern("bob", "tools/call", _tool("ask_gemini", prompt="and?", conversation_id="%conversation%"))],
        check=silent,
    ),
    Attack("everybody's asks", "200", [modern("bob", "tools/call", _tool("ask_result"))], check=silent),
    Attack(
        "everybody's conversations",
        "200",
        [modern("bob", "resources/list")],
        check=lambda heard: b"conv_" not in heard.responses[0].body,
    ),
    Attack(
        "a principal as an argument",
        "200 invalid_request",
        [modern("bob", "tools/call", _tool("ask_result", ask_id="%ask%", principal="client:alice"))],
    ),
]
