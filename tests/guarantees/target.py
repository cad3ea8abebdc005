"""What is attacked: a hub that other machines may reach, with clients that have something of theirs there.

Knows how the hub is started and called, and how an answer is told in a word; the attacks themselves stand elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.guarantees.raw import Header, Heard, Response, Talk, request
from tests.harness import DEADLINE_S, HttpHub, World, open_line, run_command
from tests.protocol.test_door import add
from tests.upstreams import google

MODERN, LEGACY = "2026-07-28", "2025-11-25"
HOST = "hub.example"
ORDINARY = ("bob", "mallory", "oscar", "trudy", "victor")
"""Clients that may do what every client may; the others as much as they like."""
SCOPES: Mapping[str, Sequence[str]] = {"alice": (), "carol": ("ask:gemini",), "eve": (), "gone": ()}
LARGE = 1 << 16
"""From so many bytes on a body has no marks in it."""
HELD = "stays open"
"""Stands in the prompt of an ask that its provider answers when the test is over."""
SETTINGS = {
    "HUB_CLAUDE_WARM": "0",
    "HUB_DRAIN_S": "1",
    "HUB_ALLOWED_HOSTS": f"{HOST}, {HOST}:*",
    "HUB_ASK_TIMEOUT_S": "3600",  # the one that stays open does so for as long as a test takes
    "HUB_IDLE_TIMEOUT_S": "3600",
}
"""What a hub that is attacked is started with."""
ANSWER = "what nobody but alice may see"
Piece = bytes | Callable[[], Iterable[bytes]]
"""What is sent: `%alice%` and other marks stand for what is only known when the hub runs."""


def bearer(name: str) -> Header:
    """The header of this client's token."""
    return "Authorization", f"Bearer %{name}%"


def _in_a_header(text: str) -> str:
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def modern(client: str, method: str, params: Mapping[str, Any] | None = None, number: Any = 1) -> bytes:
    """A call of the newer era, as this client's."""
    given = dict(params or {})
    given["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return modern_body(client, method, message(method, given, number), given.get("name", given.get("uri")))


def modern_body(client: str, method: str, body: bytes, name: str | None = None) -> bytes:
    """The same with any body."""
    named = [] if name is None else [("Mcp-Name", _in_a_header(name))]
    return request(
        "POST",
        "/mcp",
        bearer(client),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("MCP-Protocol-Version", MODERN),
        ("Mcp-Method", _in_a_header(method)),
        *named,
        body=body,
        host=HOST,
    )


def legacy(client: str, method: str, params: Mapping[str, Any] | None = None, number: Any = 1) -> bytes:
    """A call of the older era, in alice's session, whoever's call it is."""
    return legacy_body(client, message(method, params or {}, number), "%session%")


def legacy_body(client: str, body: bytes, session: str | None) -> bytes:
    """The same with any body; without a session it may be one that opens one."""
    held = [] if session is None else [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)]
    return request(
        "POST",
        "/mcp",
        bearer(client),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        *held,
        body=body,
        host=HOST,
    )


def message(method: str, params: Mapping[str, Any], number: Any = 1) -> bytes:
    """A message of JSON-RPC; a number of None: a notification."""
    numbered = {} if number is None else {"id": number}
    return json.dumps({"jsonrpc": "2.0", **numbered, "method": method, "params": params}).encode()


def greeting(client: str, name: str = "raw") -> bytes:
    """What opens a session."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
    return legacy_body(client, message("initialize", hello), None)


def word(response: Response) -> str:
    """A response in a word or two: its status, and the code of its error if it has one."""
    said = response.body.partition(b"data: ")[2] if response.body.startswith(b"event:") else response.body
    try:
        told: Any = json.loads(said)
        error = told.get("error") or told["result"]["_meta"]["llm-mcp-hub/error"]
        return f"{response.status} {error['code']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(response.status)


PROBE = request("GET", "/probe", bearer("alice"), ("Connection", "close"))
"""404; sent after an attack, it shows whether the connection still serves, and that nothing but it is answered."""


@dataclass
class Target:
    """A hub, and what its clients have there."""

    world: World
    hub: HttpHub
    marks: dict[str, str] = field(default_factory=dict[str, str])
    _read: int = 0

    @property
    def port(self) -> int:
        return int(self.hub.url.rpartition(":")[2])

    def filled(self, piece: Piece) -> bytes | Iterable[bytes]:
        """A piece as it is sent to this hub."""
        if not isinstance(piece, bytes):
            return piece()
        head, end, body = piece.partition(b"\r\n\r\n")
        if len(body) < LARGE:
            # An id in a body makes it longer than it was when its length was written.
            length, body = len(body), self._filled(body)
            head = head.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % len(body))
        return b"".join([self._filled(head) if len(head) < LARGE else head, end, body])

    def _filled(self, text: bytes) -> bytes:
        for mark, value in self.marks.items():
            text = text.replace(f"%{mark}%".encode(), value.encode())
        return text

    def talk(self, heads: Sequence[str] = ()) -> Talk:
        """A connection to it."""
        return Talk(self.port, heads=heads)

    def heard(self, *pieces: Piece, count: int = 1, heads: Sequence[str] = ()) -> Heard:
        """What comes back for these pieces on one connection: so many responses, then that of PROBE, if any does."""
        with self.talk(heads) as talk:
            sender = talk.send_meanwhile(*map(self.filled, pieces))
            talk.hear(count)
            if not talk.heard.ended and not talk.heard.last.closes:
                sender.join(DEADLINE_S)
                talk.send(self.filled(PROBE))
            return talk.hear()

    def exceptions(self) -> list[str]:
        """What the log has of exceptions that nobody handled, since this was last asked."""
        lines = self.hub.log[self._read :]
        self._read += len(lines)
        return [line for line in lines if '"exception"' in line or "Traceback" in line]

    def resources(self) -> tuple[int, int]:
        """Descriptors and MiB of memory that the hub holds, its children not counted."""
        process = psutil.Process(self.hub.process.pid)
        return process.num_fds(), process.memory_info().rss >> 20

    def keeps(self, talk: Talk) -> bool:
        """Whether the hub still holds its side of that connection."""
        port = talk.socket.getsockname()[1]
        held = psutil.Process(self.hub.process.pid).net_connections("tcp")
        return any(one.laddr.port == self.port and one.raddr and one.raddr.port == port for one in held)

    def serves(self) -> None:
        """Another client, on a connection of its own, gets its answer. Raises AssertionError."""
        with self.talk() as talk:
            talk.send(
                self.filled(modern("alice", "tools/call", {"name": "ask_result", "arguments": {"ask_id": "%ask%"}}))
            )
            answer = talk.hear(1).last
        assert answer.status == 200, answer
        assert ANSWER.encode() in answer.body, answer


def told(heard: Heard) -> str:
    """What was heard, in words."""
    responses = list(heard.responses)
    kept = bool(responses) and responses[-1].status == 404 and responses[-1].body == b"Not Found" and len(responses) > 1
    if kept:
        responses.pop()
    words = [str(number) for number in heard.interim] + [word(one) for one in responses]
    return " ".join([*words, *([] if kept else ["closed"])])


def furnished(world: World, hub: HttpHub, tokens: Mapping[str, str]) -> Target:
    """The hub with an ask of alice's, one that still runs, and a session of hers."""
    target = Target(world, hub, dict(tokens))
    hashed = hashlib.sha256(tokens["alice"].encode()).hexdigest()
    target.marks |= {"hash": hashed, "cut": tokens["alice"][:-1], "port": str(target.port)}
    world.gemini.default = lambda received: (
        google.Hang("half of an answer") if HELD in google.prompt_texts(received) else google.Answer(ANSWER)
    )
    with open_line(world, "http", "auto", hub=hub, token=tokens["alice"]) as line:
        answered = line.call("ask_gemini", {"prompt": "one"})
        assert answered.meta is not None
        first = answered.meta["llm-mcp-hub/answer"]
        second = line.call("ask_gemini", {"prompt": HELD, "wait_s": 0})
        assert second.meta is not None
        running = second.meta["llm-mcp-hub/answer"]
    target.marks |= {
        "ask": first["ask_id"],
        "conversation": first["conversation_id"],
        "running": running["ask_id"],
    }
    with target.talk() as talk:
        talk.send(target.filled(greeting("alice")))
        target.marks["session"] = talk.hear(1).last.headers["mcp-session-id"]
    return target


def admitted(world: World, name: str, *scopes: str) -> str:
    """The token of a new client that may send and ask as often as a test does."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    much = ["--requests-per-minute", "1000000", "--asks-per-minute", "1000000"]
    done = run_command(world, "client", "add", name, *words, *much)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def tokens_for(world: World, *, ordinary: Sequence[str] = ORDINARY) -> dict[str, str]:
    """A token for each client; `gone` has been revoked, `wrong` never was one."""
    tokens = {name: admitted(world, name, *scopes) for name, scopes in SCOPES.items()}
    tokens |= {name: add(world, name) if name in ordinary else admitted(world, name) for name in ORDINARY}
    assert run_command(world, "client", "revoke", "gone").returncode == 0
    return {**tokens, "wrong": "llmhub_" + "A" * 43}
