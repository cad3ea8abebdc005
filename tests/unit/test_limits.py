"""What the limits say, without a clock of their own: how long to wait, whom an address stands for, who had a share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from llm_mcp_hub.errors import Busy
from llm_mcp_hub.serving.auth import CALLER, Allowance, Caller
from llm_mcp_hub.serving.limits import (
    MINUTE_S,
    STANDARD,
    Failures,
    Limits,
    Rates,
    Turnstile,
    allowance,
    peer_of,
    wait_s,
    whole_seconds,
)
from llm_mcp_hub.serving.sessions import Sessions

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
ANNA = Caller("client:anna", frozenset(), limits=Allowance(requests_per_minute=3, asks_per_minute=2, at_once=2))
BOB = Caller("client:bob", frozenset())


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# -- how long to wait --------------------------------------------------------------------------------------------------


def lets_in(limit: int, previous: int, previous_left: float, current: int) -> bool:
    """The library's own rule."""
    return int(previous * previous_left / MINUTE_S) + current + 1 <= limit


@given(
    st.integers(1, 1_000),
    st.integers(0, 1_000),
    st.integers(0, 1_000),
    st.floats(0, MINUTE_S, exclude_min=True),
)
def test_who_waits_as_long_as_told_is_let_in_and_not_before(
    limit: int, previous: int, current: int, left: float
) -> None:
    """By the rule of the library itself, in this minute or in the next; and it is never much too long."""
    previous, current = min(previous, limit), min(current, limit)

    def after(seconds: float) -> bool:
        if seconds < left:
            return lets_in(limit, previous, left - seconds, current)
        return lets_in(limit, current, max(0.0, left + MINUTE_S - seconds), 0)

    wait = wait_s(limit, previous, left if previous else 0.0, current, left)

    assert 0 <= wait <= 2 * MINUTE_S + 0.001
    assert after(wait + 0.001)
    assert wait < 0.003 or not after(wait - 0.002)


@pytest.mark.parametrize(("left", "told"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (59.9, 60)])
def test_whole_seconds_are_never_too_few(left: float, told: int) -> None:
    """Who comes back then is let in."""
    assert whole_seconds(left) == told


def test_a_clients_own_limits_take_the_place_of_everybodys() -> None:
    """Each for itself; the owner has none."""
    everybodys = (STANDARD.requests_per_minute, STANDARD.asks_per_minute, STANDARD.at_once)

    assert allowance(Caller()) is None
    assert allowance(BOB) == everybodys
    assert allowance(ANNA) == (3, 2, 2)
    assert allowance(Caller("client:c", frozenset(), limits=Allowance(at_once=7))) == (*everybodys[:2], 7)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        (None, None),
        ("", None),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_address_stands_for_somebody(address: str | None, peer: str | None) -> None:
    """Who has a network of 2**64 addresses is one; this machine is nobody else."""
    assert peer_of(address) == peer


def test_failures_of_a_minute_send_an_address_away_and_no_other() -> None:
    """Until the minute that began with its first is over."""
    clock = Clock()
    failures = Failures(most=3, clock=clock)
    told = [failures.note("192.0.2.7") for _ in range(2)]
    clock.now += 20
    told += [failures.note("192.0.2.7"), failures.note("192.0.2.7"), failures.note("192.0.2.8")]
    clock.now += 40
    told += [failures.note("192.0.2.7")]

    assert told == [None, None, None, 40.0, None, None]


def test_failures_of_the_oldest_addresses_are_forgotten() -> None:
    """However many come, so many are remembered."""
    failures = Failures(most=1, addresses=100, clock=Clock())
    for number in range(1_000):
        failures.note(f"192.0.{number // 250}.{number % 250}")

    assert failures.note("192.0.3.249") is not None
    assert failures.note("192.0.0.0") is None


# -- counts ------------------------------------------------------------------------------------------------------------


async def test_asks_over_the_limit_are_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a coded error; the owner, and another client, are not touched by it."""
    monkeypatch.setattr("limits.aio.storage.memory.time.time", Clock())
    refused: list[str] = []
    limits = Limits(Rates(), refused=refused.append)
    for caller in [ANNA, ANNA, *[Caller()] * 500, *[BOB] * 50]:
        await limits.ask(caller)

    with pytest.raises(Busy) as raised:
        await limits.ask(ANNA)

    error = raised.value
    assert isinstance(error.retry_after_s, int)
    assert 1 <= error.retry_after_s <= MINUTE_S
    assert f"{error.retry_after_s} s" in error.action
    assert (error.code, error.retryable, refused) == ("busy", True, ["asks"])


async def test_requests_over_the_limit_are_429(monkeypatch: pytest.MonkeyPatch) -> None:
    """And let in again after what they were told, by a clock that goes on."""
    clock = Clock()
    monkeypatch.setattr("limits.aio.storage.memory.time.time", clock)
    refused: list[str] = []
    turnstile = Turnstile(answers, Limits(Rates(clock=clock), refused=refused.append))

    seen = [await through(turnstile, ANNA) for _ in range(5)]
    others = [await through(turnstile, BOB), await through(turnstile, Caller()), await through(turnstile, None)]
    wait = int(seen[-1][1][b"retry-after"])
    clock.now += wait
    after = await through(turnstile, ANNA)

    assert [status for status, _, _ in seen] == [200, 200, 200, 429, 429]
    assert f"try again in {wait} s".encode() in seen[-1][2]
    assert [status for status, _, _ in [*others, after]] == [200] * 4
    assert refused == ["requests"] * 2


async def test_open_requests_over_the_limit_are_429_until_one_ends() -> None:
    """Also when it ends badly: what is open is counted, nothing else."""
    gate = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        raise OSError("made up")

    many = Caller("client:anna", frozenset(), limits=Allowance(at_once=2))
    limits = Limits(Rates())
    opened = [asyncio.ensure_future(through(Turnstile(waits, limits), many)) for _ in range(2)]
    async with asyncio.timeout(DEADLINE_S):
        while limits.open["client:anna"] < 2:
            await asyncio.sleep(0)

    status, headers, body = await through(Turnstile(answers, limits), many)
    gate.set()
    await asyncio.gather(*opened, return_exceptions=True)

    assert (status, headers[b"retry-after"].isdigit(), b"2 requests open" in body) == (429, True, True)
    assert limits.open == {}
    assert (await through(Turnstile(answers, limits), many))[0] == 200


@pytest.mark.parametrize(
    ("status", "path", "told"), [(503, "/mcp", True), (200, "/mcp", False), (503, "/other", False)]
)
async def test_what_the_sdk_refuses_says_how_long_to_wait_too(status: int, path: str, told: bool) -> None:
    """Too many sessions, say, for which it has no header; to the owner as well."""

    async def full(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})

    _, headers, _ = await through(Turnstile(full, Limits(Rates())), Caller(), path)

    assert (b"retry-after" in headers) is told


def test_a_session_is_held_until_it_ends_or_nobody_uses_it() -> None:
    """As long as a request of it is open somebody does."""
    clock = Clock()
    sessions = Sessions(idle_s=10, clock=clock)
    for name in ("one", "two", "three"):
        sessions.began(name, "client:anna")
    sessions.began("four", "client:bob")
    sessions.uses("one", "client:anna")
    sessions.uses("nobody's", "client:anna")
    sessions.uses("three", "client:bob")
    sessions.ended("four", "client:anna")
    sessions.ended("two", "client:anna")
    held = [sessions.of("client:anna"), sessions.of("client:bob")]
    clock.now += 11
    held += [sessions.of("client:anna"), sessions.of("client:bob")]
    sessions.used("one", "client:anna")
    held += [sessions.of("client:anna")]
    clock.now += 11
    held += [sessions.of("client:anna")]

    assert held == [2, 1, 1, 0, 1, 0]


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """An app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"yes"})


async def through(app: Any, caller: Caller | None, path: str = "/health/live") -> tuple[int, dict[bytes, bytes], bytes]:
    """What a caller's request gets."""
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        **({} if caller is None else {CALLER: caller}),
    }
    async with asyncio.timeout(DEADLINE_S):
        await app(scope, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), b"".join(part.get("body", b"") for part in said[1:])
