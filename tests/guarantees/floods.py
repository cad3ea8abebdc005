"""Attacks by time and by number: who sends slowly, holds much, or comes without end. The hub of these is in a hurry
(`tests/protocol/hurried.py`), so that what would take minutes takes seconds.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from tests.guarantees.attacks import ALICE, Attack, get
from tests.guarantees.durable import until
from tests.guarantees.raw import Talk, chunk, request
from tests.guarantees.target import (
    HOST,
    Target,
    bearer,
    greeting,
    legacy_body,
    message,
    modern,
    modern_body,
    told,
    word,
)
from tests.harness import DEADLINE_S
from tests.protocol.hurried import SESSIONS

EVERY_S = 0.25
"""One byte so often: what a slow attacker sends, at the pace of a hub in a hurry."""
OPEN = "Transfer-Encoding: chunked"
IDLE = 1_000


def bytes_of(target: Target, piece: bytes) -> bytes:
    filled = target.filled(piece)
    assert isinstance(filled, bytes)
    return filled


# Slow -----------------------------------------------------------------------------------------------------------------


def dripped(target: Target, head: bytes, drop: bytes) -> str:
    """Sends the head, then a drop again and again until the hub hangs up, however long that is."""
    with target.talk() as talk:
        talk.send(bytes_of(target, head))
        gone = threading.Event()

        def drip() -> None:
            while not gone.wait(EVERY_S):
                talk.send(drop)

        sender = threading.Thread(target=drip, daemon=True)
        sender.start()
        try:
            return told(talk.hear())
        finally:
            gone.set()
            sender.join(DEADLINE_S)


def unread(target: Target) -> str:
    """Asks for much and reads nothing: the hub does not keep it for ever. What the system keeps of it after that, and
    for how long, is the system's: it may not even tell the client."""
    with target.talk() as talk:
        asked = talk.send_meanwhile(bytes_of(target, modern("alice", "tools/list")) * 20_000)
        until(lambda: target.keeps(talk), "the hub has it")
        until(lambda: not target.keeps(talk), "the hub lets it go")
        talk.finish()
        asked.join(DEADLINE_S)
    return "closed"


def posting(*headers: str, token: bool = True) -> bytes:
    own = [ALICE] if token else []
    return request("POST", "/mcp", *own, ("Content-Type", "application/json"), *headers, host=HOST)


SLOW = [
    Attack("nothing at all", "closed", run=lambda target: dripped(target, b"", b"")),
    Attack("half of a head", ("408 closed", "closed"), run=lambda target: dripped(target, b"GET /health/live HT", b"")),
    Attack("a head, one byte at a time", ("408 closed", "closed"), run=lambda target: dripped(target, b"GET /", b"x")),
    Attack(
        "headers without end, one at a time",
        ("408 closed", "closed"),
        run=lambda target: dripped(target, b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    ),
    Attack(
        "empty lines without end",
        ("408 closed", "400 closed", "closed"),
        run=lambda target: dripped(target, b"", b"\r\n"),
    ),
    Attack(
        "a body that never comes", "408 closed", run=lambda target: dripped(target, posting("Content-Length: 5"), b"")
    ),
    Attack(
        "a body, one byte at a time",
        "408 closed",
        run=lambda target: dripped(target, posting("Content-Length: 99999"), b"x"),
    ),
    Attack("chunks, one byte at a time", "408 closed", run=lambda target: dripped(target, posting(OPEN), chunk(b"x"))),
    Attack(
        "a chunk, one byte at a time",
        "408 closed",
        run=lambda target: dripped(target, posting(OPEN) + b"fffff\r\n", b"x"),
    ),
    Attack(
        "a stranger's body that never comes",
        "401 closed",
        run=lambda target: dripped(target, posting("Content-Length: 5", token=False), b""),
    ),
    Attack(
        "a stranger's body, one byte at a time",
        "401 closed",
        run=lambda target: dripped(target, posting("Content-Length: 60000", token=False), b"x"),
    ),
    Attack(
        "after an answer, half of a head",
        "200 408 closed",
        run=lambda target: dripped(target, get("/health/live", ALICE) + b"GET", b"x"),
    ),
    Attack(
        "after an answer, nothing", "200 closed", run=lambda target: dripped(target, get("/health/live", ALICE), b"")
    ),
    Attack("answers that nobody reads", "closed", run=unread),
]

# Many -----------------------------------------------------------------------------------------------------------------


@contextmanager
def held(target: Target, count: int, piece: bytes = b"") -> Generator[list[Talk]]:
    """So many connections at once, each of which has sent that."""
    with ExitStack() as stack:
        talks: list[Talk] = []
        for _ in range(count):
            with contextlib.suppress(OSError):  # a hub that is full may not even take it
                talks.append(stack.enter_context(target.talk()))
                talks[-1].send(piece)
        yield talks


def while_held(piece: bytes) -> Callable[[Target], str]:
    """What others get while a thousand connections are held open."""

    def attack(target: Target) -> str:
        with held(target, IDLE, bytes_of(target, piece)):
            target.serves()
        return "others are answered"

    return attack


def repeated(piece: bytes, times: int, at_a_time: int = 50) -> Callable[[Target], str]:
    """Which answers there are, each of them once, when this comes so many times."""

    def attack(target: Target) -> str:
        sent = bytes_of(target, piece)
        seen: Counter[str] = Counter()
        lock = threading.Lock()

        def one(times: int) -> None:
            for _ in range(times):
                with target.talk() as talk:
                    talk.send(sent)
                    answer = talk.hear(1).last
                    waits = "" if answer.status != 429 else f" after {bool(int(answer.headers['retry-after']))}"
                    with lock:
                        seen[word(answer) + waits] += 1

        threads = [threading.Thread(target=one, args=(times // at_a_time,), daemon=True) for _ in range(at_a_time)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert sum(seen.values()) == times, seen
        return " ".join(sorted(seen))

    return attack


def sessions(target: Target) -> str:
    """One client opens as many as it can; another one's still lives, and a third opens one more."""
    opening = bytes_of(target, greeting("eve"))
    with target.talk() as talk:
        talk.send(opening * (2 * SESSIONS))
        seen = Counter(talk.hear(2 * SESSIONS).statuses)
    assert told(target.heard(greeting("bob"))) == "200"
    assert told(target.heard(alive("alice"))) == "200"
    return _counted(seen)


def _counted(seen: Counter[int]) -> str:
    return " ".join(f"{status}: {count}" for status, count in sorted(seen.items()))


def alive(client: str) -> bytes:
    """A call in alice's session."""
    return legacy_body(client, message("ping", {}), "%session%")


def streams(target: Target) -> str:
    """A client holds more streams than it may."""
    listen = modern("victor", "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["hub://tokens"]}})
    seen: Counter[int] = Counter()
    with held(target, 100, bytes_of(target, listen)) as talks:
        for talk in talks:
            seen[talk.begun().status] += 1
        target.serves()
    return " ".join(f"{status}: {count}" for status, count in sorted(seen.items()))


def _left(target: Target, *, reset: bool = False) -> str:
    """Connections that go in the middle of an answer."""
    asked = bytes_of(target, modern_body("alice", "tools/list", json.dumps({}).encode()))
    for _ in range(IDLE):
        with target.talk() as talk:
            talk.send(asked)
            if reset:
                talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    target.serves()
    return "others are answered"


MANY = [
    Attack("1,000 idle connections", "others are answered", run=while_held(b"")),
    Attack("1,000 halves of heads", "others are answered", run=while_held(b"GET / HTTP/1.1\r\n")),
    Attack(
        "1,000 strangers' bodies", "others are answered", run=while_held(posting("Content-Length: 60000", token=False))
    ),
    Attack(
        "1,000 of a client's bodies",
        "others are answered",
        run=while_held(posting("Content-Length: 60000").replace(b"%alice%", b"%oscar%")),
    ),
    Attack("1,000 connections that are left at once", "others are answered", run=_left),
    Attack("1,000 connections that are reset", "others are answered", run=lambda target: _left(target, reset=True)),
    Attack("100 streams of one client", "200: 64 429: 36", run=streams),
    Attack("sessions of one client without end", f"200: {SESSIONS // 2} 429: {SESSIONS * 3 // 2}", run=sessions),
    Attack(
        "a client that asks without end",
        "200 200 busy",
        run=repeated(modern("mallory", "tools/call", {"name": "ask_gemini", "arguments": {"prompt": "x"}}), 100, 10),
    ),
    Attack(
        "a client that comes without end", "200 429 after True", run=repeated(get("/health/live", bearer("trudy")), 700)
    ),
    Attack(
        "wrong tokens without end",
        ("401 429 after True", "429 after True"),
        run=repeated(get("/health/live", bearer("wrong")), 1_000),
    ),
    Attack("no token, after that", "429 closed", [get()]),
    Attack("a right token, after that", "200", [get("/health/live", ALICE)]),
]
