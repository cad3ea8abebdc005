"""Whose turn is next, and what a store that is away leaves of the places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.places import Places, Seat
from llm_mcp_hub.store.base import PLACES
from llm_mcp_hub.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
LEASE = PLACES.format(provider="one")


class Away(SqliteStore):
    """A store that nobody reaches."""

    async def take(self, lease: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        raise StoreUnavailable("Away.", action="Wait.")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    """A store of the test's own."""
    made = SqliteStore(tmp_path)
    yield made
    await made.close()


def make(store: SqliteStore, limit: int, *, instance: str = "here") -> Places:
    return Places(store, provider="one", instance=instance, limit=limit, queue_limit=20)


async def until_served(*seats: Seat) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(seat.granted for seat in seats))


async def test_who_has_the_fewest_running_is_next_whoever_waits_for_longer(store: SqliteStore) -> None:
    """Anna's last turn is older than Bob's, and she has two of the three places: the next one is his."""
    places = make(store, 3)
    for number, name in enumerate(["anna", "anna", "bob"]):
        await until_served(places.enter(f"client:{name}", f"ask_{number}"))

    hers, his = places.enter("client:anna", "ask_3"), places.enter("client:bob", "ask_4")

    assert (places.position(his), places.position(hers)) == (1, 2)


@pytest.mark.parametrize(("limit", "served"), [(5, 2), (2, 1), (1, 1)])
async def test_while_the_store_is_away_a_hub_takes_half_of_the_places(tmp_path: Path, limit: int, served: int) -> None:
    """Nobody knows what the others run; one place is left in any case, or nobody would be served at all."""
    store = Away(tmp_path)
    places = make(store, limit)
    seats = [places.enter("owner", f"ask_{number}") for number in range(limit)]
    await until_served(*seats[:served])
    for _ in range(20):  # turns of the loop, in which another one could be served
        await asyncio.sleep(0)

    assert [seat.granted.done() for seat in seats] == [True] * served + [False] * (limit - served)
    for seat in seats:
        await places.leave(seat)
    await store.close()


async def test_a_place_that_is_left_is_free_for_every_hub(store: SqliteStore) -> None:
    """At once: the other hub does not wait until it lapses."""
    one, other = make(store, 1), make(store, 1, instance="there")
    first = one.enter("owner", "ask_1")
    await until_served(first)
    second = other.enter("owner", "ask_2")

    await one.leave(first)
    await one.leave(first)  # twice is once
    await until_served(second)

    assert await store.holders(LEASE) == ["there/ask_2"]
    assert (one.load().running, other.load().running) == (0, 1)
    await other.leave(second)


async def test_who_leaves_the_queue_is_never_served(store: SqliteStore) -> None:
    """And nothing of it stays in the store."""
    places = make(store, 1)
    seats = [places.enter("owner", f"ask_{number}") for number in range(3)]
    await until_served(seats[0])

    await places.leave(seats[1])
    await places.leave(seats[0])
    await until_served(seats[2])

    assert not seats[1].granted.done()
    assert await store.holders(LEASE) == ["here/ask_2"]
    await places.leave(seats[2])
    assert await store.holders(LEASE) == []
