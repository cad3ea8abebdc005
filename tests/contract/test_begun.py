"""Which ask a call began, over two hubs on each store: neither the ask nor the wish to end it can miss the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_mcp_hub.begun import Begun
from llm_mcp_hub.store.base import CALL, key
from tests.contract.stores import LONG_S, SHORT_S, RedisShelf, Shelf, SqliteShelf, opened
from tests.upstreams.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
ROUNDS = 50


@pytest.fixture(params=["sqlite", "redis"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Shelf]:
    if request.param == "sqlite":
        async with opened(SqliteShelf(tmp_path / "state")) as made:
            yield made
        return
    with RedisServer(tmp_path / "redis") as server:
        async with opened(RedisShelf(server)) as made:
            yield made


async def test_a_call_that_runs_is_found_until_it_is_over(shelf: Shelf) -> None:
    """At another hub, and by its own session and id alone."""
    here, there = Begun(shelf.open()), Begun(shelf.open())

    assert await here.note("session", "call", "ask_1")
    assert await there.called_off("session", "call") == "ask_1"
    assert await there.called_off("other session", "call") is None
    assert await there.called_off("session", "other call") is None
    await here.forget("session", "call")
    assert await there.called_off("session", "call") is None


async def test_a_call_that_was_called_off_before_it_began_is_told_so(shelf: Shelf) -> None:
    """The notification may overtake the ask on its way to another replica. Such a wish is forgotten soon."""
    here, there = Begun(shelf.open()), Begun(shelf.open())

    assert await there.called_off("session", "call") is None
    assert not await here.note("session", "call", "ask_1")
    assert await there.called_off("session", "call") == "ask_1"

    hasty = Begun(shelf.open(), called_off_s=SHORT_S)
    assert await hasty.called_off("session", "late") is None
    await shelf.wait(SHORT_S)
    assert await here.note("session", "late", "ask_2")


async def test_an_id_that_is_used_twice_names_the_last_ask(shelf: Shelf) -> None:
    """The protocol forbids it; a client that does it can still call off what it waits for."""
    begun = Begun(shelf.open())

    assert await begun.note("session", "1", "ask_1")
    assert await begun.note("session", "1", "ask_2")
    assert await begun.called_off("session", "1") == "ask_2"


async def test_what_nobody_can_read_is_no_wish(shelf: Shelf) -> None:
    """Others can write to a store."""
    store = shelf.open()
    await store.put(key(CALL, session="session", call="1"), b"nonsense", ttl_s=LONG_S)

    assert await Begun(store).called_off("session", "1") is None
    assert await Begun(store).note("session", "1", "ask_1")


async def test_of_two_at_once_one_sees_the_other(shelf: Shelf) -> None:
    """However they fall: the ask is found by the wish, or finds it."""
    here, there = Begun(shelf.open()), Begun(shelf.open())
    for number in range(ROUNDS):
        wanted, found = await asyncio.gather(
            here.note("session", str(number), "ask"), there.called_off("session", str(number))
        )
        assert not wanted or found == "ask"
