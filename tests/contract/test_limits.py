"""Counts of requests, in one process and over all hubs on one Redis: one body of tests, then a server in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.serving.limits import AWAY_S, Rates
from tests.contract.stores import DEADLINE_S
from tests.upstreams.redis import RedisServer, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
SECRET = "made-up-password"
NOBODY = 4 * AWAY_S
"""Added to a clock: longer than a server that is away is left alone."""


class Clock:
    """Stands still until it is told: how long a server is left alone is then the test's to say."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted in memory has minutes of the clock; none is over while a test runs."""
    monkeypatch.setattr("limits.aio.storage.memory.time.time", lambda: 1_800_000_000.0)


@pytest.fixture
def server(tmp_path: Path) -> Generator[RedisServer]:
    with RedisServer(tmp_path / "redis") as started:
        yield started


@asynccontextmanager
async def counting(url: str | None, clock: Clock | None = None, timeout_s: float = DEADLINE_S) -> AsyncGenerator[Rates]:
    """Rates, closed at the end. Where the server answers, a busy machine is no reason to fail."""
    rates = Rates(url, timeout_s=timeout_s, clock=clock or Clock())
    try:
        yield rates
    finally:
        await asyncio.wait_for(rates.close(), DEADLINE_S)


async def let_in(rates: Rates, who: str, limit: int, tries: int, what: str = "requests") -> int:
    """How many of so many tries at once were let in; the others are told to wait, two minutes at most."""
    async with asyncio.timeout(DEADLINE_S):
        waits = await asyncio.gather(*(rates.hit(what, who, limit) for _ in range(tries)))
    assert all(0 < wait <= 120.1 for wait in waits if wait is not None)
    return waits.count(None)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_as_many_as_the_limit_are_let_in(kind: str, server: RedisServer) -> None:
    """Each name for itself, each kind for itself, and by its own limit; at once, or one after another."""
    async with counting(server.url if kind == "redis" else None) as rates:
        assert await let_in(rates, "client:anna", 5, 20) == 5
        assert await let_in(rates, "client:bob", 5, 3) == 3
        assert [await let_in(rates, "client:bob", 5, 1) for _ in range(4)] == [1, 1, 0, 0]
        assert await let_in(rates, "client:anna", 2, 20, "asks") == 2
        assert await let_in(rates, "client:anna", 7, 20) == 7  # told anew, it is another limit


async def test_hubs_on_one_server_count_together(server: RedisServer) -> None:
    """At once, whoever of them is asked. All that is kept there is ours by its name, and ends."""
    async with counting(server.url) as one, counting(server.url) as other:
        both = await asyncio.gather(let_in(one, "client:anna", 9, 20), let_in(other, "client:anna", 9, 20))

    assert sum(both) == 9
    keys = server.keys()
    assert keys
    assert all(key.startswith(b"hub:count:") and 0 < left <= 120_000 for key, left in keys.items())


async def test_a_user_who_may_do_what_the_store_needs_may_count(server: RedisServer) -> None:
    """The rights that the documents name are enough."""
    with server.client() as admin:
        rights = "on >pass ~hub:* resetchannels +@read +@write +@scripting +@connection +time -@dangerous"
        admin.execute_command("ACL", "SETUSER", "hub", *rights.split())
    async with counting(server.url.replace("redis://", "redis://hub:pass@")) as rates:
        assert await let_in(rates, "client:anna", 6, 8) == 6
    assert server.keys()


@pytest.mark.parametrize("trouble", ["killed", "frozen", "full"])
async def test_without_the_server_each_hub_lets_in_half(trouble: str, server: RedisServer) -> None:
    """Nobody waits for it but the first; it is found again by itself, and what it had counted counts."""
    clock = Clock()
    async with counting(server.url, clock, 0.25) as rates:
        async with asyncio.timeout(DEADLINE_S):
            while await let_in(rates, "warm", 1_000, 1) and not server.keys():
                clock.now += NOBODY  # a busy machine may look like a server that is away
        if trouble == "killed":
            server.kill()
        elif trouble == "frozen":
            server.freeze()
        else:
            server.config(maxmemory="1")
        with capture_logs() as told:
            alone = await let_in(rates, "client:anna", 10, 40)
            again = await let_in(rates, "client:bob", 10, 40)
            single = await let_in(rates, "client:carol", 1, 3)

        assert (alone, again, single) == (5, 5, 1)
        assert [event["log_level"] for event in told] == ["warning"]
        if trouble == "killed":
            server.start()
        elif trouble == "frozen":
            server.thaw()
        else:
            server.config(maxmemory="0")
        with capture_logs() as told:
            async with asyncio.timeout(DEADLINE_S):
                tries = 0
                while await let_in(rates, f"try {tries}", 10, 40) != 10:
                    tries += 1
                    clock.now += NOBODY

        assert any(event["log_level"] == "info" for event in told)
        assert any(f"try {tries}".encode() in key for key in list(server.keys()))


async def test_while_it_is_away_one_request_at_a_time_tries_it(server: RedisServer) -> None:
    """The others need not wait for what that one finds."""
    clock = Clock()
    async with counting(f"redis://127.0.0.1:{free_port()}", clock) as rates:
        await let_in(rates, "client:anna", 1_000, 50)
        with capture_logs() as told:
            for _ in range(3):
                clock.now += NOBODY
                assert await let_in(rates, "client:anna", 1_000, 50) == 50

        assert told == []


async def test_a_password_is_not_told(server: RedisServer) -> None:
    """Neither by what the log says nor by the refusal of an address; counting goes on."""
    with server.client() as admin:  # one connection, which stays let in
        admin.config_set("requirepass", "another-one")
        try:
            with capture_logs() as told:
                async with counting(server.url.replace("redis://", f"redis://:{SECRET}@")) as rates:
                    assert await let_in(rates, "client:anna", 4, 8) == 2
        finally:
            admin.config_set("requirepass", "")
    with pytest.raises(Misconfigured) as raised:
        Rates(f"redis://:{SECRET}@host:port")

    assert len(told) == 1
    assert SECRET not in str(told) + str(raised.value) + raised.value.action
