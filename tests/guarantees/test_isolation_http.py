"""G8 over real HTTP: one client with another's ids, right, near and made up, gets what an id of nobody gets.

The hub itself is tried in `test_isolation.py`; here it is the door, the sessions, the tools and the resources of a hub
with client tokens. What is told must be the same to the byte, but for the id that was asked for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.drill import ROUNDS, repeated
from tests.guarantees.target import (
    ANSWER,
    HELD,
    SETTINGS,
    Target,
    furnished,
    legacy_body,
    message,
    modern,
    tokens_for,
)
from tests.guarantees.test_isolation import guesses
from tests.harness import DEADLINE_S, HttpHub, make_world
from tests.upstreams import google

GUESSES = 500 * ROUNDS
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
Call = Callable[[str], bytes]
"""An attempt on an id: the request, as bob's."""


def _tool(name: str, **arguments: Any) -> bytes:
    return modern("bob", "tools/call", {"name": name, "arguments": arguments})


def _in_his_session(method: str, params: Mapping[str, Any]) -> bytes:
    return legacy_body("bob", message(method, params), "%own%")


ON_AN_ASK: dict[str, Call] = {
    "result": lambda known: _tool("ask_result", ask_id=known),
    "result, older era": lambda known: _in_his_session(
        "tools/call", {"name": "ask_result", "arguments": {"ask_id": known, "wait_s": 30}}
    ),
    "cancel": lambda known: _tool("ask_cancel", ask_id=known),
}
ON_A_CONVERSATION: dict[str, Call] = {
    "go on": lambda known: _tool("ask_gemini", prompt="and?", conversation_id=known),
    "go on with the other one": lambda known: _tool("ask_claude", prompt="and?", conversation_id=known),
    "read": lambda known: modern("bob", "resources/read", {"uri": f"hub://conversations/{known}"}),
    "read, older era": lambda known: _in_his_session("resources/read", {"uri": f"hub://conversations/{known}"}),
}
ON_A_SESSION: dict[str, Call] = {
    "call": lambda known: legacy_body("bob", message("tools/list", {}), known),
    "end": lambda known: legacy_body("bob", b"", known).replace(b"POST", b"DELETE", 1),
    "listen": lambda known: legacy_body("bob", b"", known).replace(b"POST", b"GET", 1),
}


class Bob:
    """Sends requests over one connection, as they stand."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._target.port, timeout=DEADLINE_S)

    def told(self, piece: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        given = self._target.filled(piece)
        assert isinstance(given, bytes)
        head, _, body = given.partition(b"\r\n\r\n")
        first, *headers = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        self._connection.request(method, path, body, dict(line.split(": ", 1) for line in headers))
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


def without(told: tuple[int, bytes], guess: str) -> tuple[int, bytes]:
    """What was told, but for the address that was asked for: the protocol has it told again (SEP-2164)."""
    address = json.dumps(f"hub://conversations/{guess}", ensure_ascii=False).encode()
    return told[0], told[1].replace(address, b'"hub://conversations/ID"')


@pytest.fixture
def target(tmp_path: Path) -> Generator[Target]:
    with make_world(tmp_path) as world:
        world.changes |= SETTINGS
        tokens = tokens_for(world, ordinary=())
        hub = HttpHub(world.environment, "--host", "0.0.0.0")
        hub.url = hub.url.replace("0.0.0.0", "127.0.0.1")
        try:
            yield furnished(world, hub, tokens)
        finally:
            hub.stop()


def headed(text: str) -> bool:
    """Whether a header can hold it: what cannot is no request at all."""
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


def uri_part(text: str) -> bool:
    """Whether it is whole text: half of a character is refused as such, of whatever it is a part."""
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


@repeated
@pytest.mark.timeout(7_200)
def test_nobody_reaches_what_is_anothers(target: Target) -> None:
    """Each guess ends as one for an id that nobody has."""
    chance = random.Random(7)
    marks = target.marks
    with target.talk() as talk:
        opening = target.filled(legacy_body("bob", message("initialize", HELLO), None))
        assert isinstance(opening, bytes)
        talk.send(opening)
        marks["own"] = talk.hear(1).last.headers["mcp-session-id"]
    kinds: list[tuple[dict[str, Call], list[str], Callable[[], str]]] = [
        (ON_AN_ASK, [marks["ask"], marks["running"]], lambda: f"ask_{secrets.token_urlsafe(18)}"),
        (ON_A_CONVERSATION, [marks["conversation"]], lambda: f"conv_{secrets.token_urlsafe(18)}"),
        (ON_A_SESSION, [marks["session"]], lambda: secrets.token_hex(16)),
    ]
    tried: Counter[str] = Counter()
    with contextlib.closing(Bob(target)) as bob:
        nobodys: dict[str, tuple[int, bytes]] = {}
        for calls, _, made_up in kinds:
            nobody = made_up()
            nobodys |= {name: without(bob.told(call(nobody)), nobody) for name, call in calls.items()}
        while sum(tried.values()) < GUESSES:
            for calls, known, made_up in kinds:
                right = chance.choice(known)
                near = chance.choice(guesses(right, chance, right.partition("_")[0] + "_"))
                guess = chance.choice([right, near, made_up()])
                if not uri_part(guess) or (calls is ON_A_SESSION and not headed(guess)) or len(guess) > 100:
                    continue
                name = chance.choice(list(calls))

                assert without(bob.told(calls[name](guess)), guess) == nobodys[name], (name, guess)
                tried[name] += 1
        asks = bob.told(_tool("ask_result"))
        conversations = bob.told(modern("bob", "resources/list"))
    print(f"\nG8  {sum(tried.values()):,} guesses over HTTP, none hit: {dict(tried)}")

    assert ANSWER.encode() not in asks[1] + conversations[1]
    assert b"conv_" not in asks[1] + conversations[1]
    # And nothing of hers has been touched: she reads it, her session lives, and the ask that runs still does.
    target.serves()
    assert target.heard(legacy_body("alice", message("ping", {}), "%session%")).responses[0].status == 200
    running = modern("alice", "tools/call", {"name": "ask_result", "arguments": {"ask_id": "%running%", "wait_s": 0}})
    assert b'"working"' in target.heard(running).responses[0].body
    assert target.exceptions() == []
    assert not [one for one in target.world.gemini.generations if "and?" in google.prompt_texts(one)]
    assert [one for one in target.world.gemini.generations if HELD in google.prompt_texts(one)]
