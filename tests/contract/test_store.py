"""The contract of `Store`, for each of them: a SQLite file, and a real Redis server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import LAPSED_KEPT_S, Held, Put, Store
from tests.contract.stores import DEADLINE_S, LONG_S, SHORT_S, RedisShelf, Shelf, SqliteShelf, opened
from tests.upstreams.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
MANY_AT_ONCE = 50


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Shelf]:
    if request.param == "sqlite":
        made: SqliteShelf | RedisShelf = SqliteShelf(tmp_path / "state")
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.flushall()
        made = RedisShelf(server)
    async with opened(made):
        yield made


@pytest.fixture
def store(shelf: Shelf) -> Store:
    return shelf.open()


# -- records -----------------------------------------------------------------------------------------------------------


async def test_a_record_is_read_back_by_every_hub(shelf: Shelf, store: Store) -> None:
    """An answer is fetched from another hub than the one that wrote it."""
    await store.put("ask:owner:1", b'{"text": "\xed\x95\x9c"}', ttl_s=LONG_S)

    assert await shelf.open().get("ask:owner:1") == [b'{"text": "\xed\x95\x9c"}']


async def test_records_come_in_the_order_of_their_keys(store: Store) -> None:
    """The reader zips them with what it asked for; one that is not there keeps its place."""
    await store.put("b", b"2", ttl_s=LONG_S)
    await store.put("a", b"", ttl_s=LONG_S)

    assert await store.get("b", "nobody", "a", "b") == [b"2", None, b"", b"2"]
    assert await store.get() == []


async def test_a_record_ends(shelf: Shelf, store: Store) -> None:
    """Whatever has an end is gone with it: for readers, for lists, and for who counts what was deleted."""
    await store.put("short", b"1", ttl_s=SHORT_S, listed="list")
    await store.put("long", b"2", ttl_s=LONG_S, listed="list")

    await shelf.wait(SHORT_S)

    assert await store.get("short", "long") == [None, b"2"]
    assert await store.newest("list", 10) == [b"2"]
    assert await store.delete("short") == 0


async def test_writing_a_record_again_gives_it_a_new_value_and_a_new_end(shelf: Shelf, store: Store) -> None:
    """The last change counts, whether it makes the record live longer or shorter."""
    await store.put("longer", b"1", ttl_s=SHORT_S)
    await store.put("longer", b"2", ttl_s=LONG_S)
    await store.put("shorter", b"1", ttl_s=LONG_S)
    await store.put("shorter", b"2", ttl_s=SHORT_S)

    await shelf.wait(SHORT_S)

    assert await store.get("longer", "shorter") == [b"2", None]


async def test_add_writes_only_where_nothing_is(shelf: Shelf, store: Store) -> None:
    """Of two hubs that want to raise the same alert, one does; the next one after its end."""
    assert await store.add("alert", b"first", ttl_s=LONG_S)
    assert not await shelf.open().add("alert", b"second", ttl_s=LONG_S)
    assert await store.get("alert") == [b"first"]
    await store.put("alert", b"put", ttl_s=SHORT_S)

    await shelf.wait(SHORT_S)

    assert await store.add("alert", b"third", ttl_s=LONG_S)
    assert await store.get("alert") == [b"third"]


async def test_one_of_many_adds_at_once_wins(shelf: Shelf) -> None:
    """Also when three hubs ask at the same moment."""
    stores = [shelf.open() for _ in range(3)]

    won = await asyncio.gather(*(stores[n % 3].add("one", b"%d" % n, ttl_s=LONG_S) for n in range(MANY_AT_ONCE)))

    assert won.count(True) == 1
    assert await stores[0].get("one") == [b"%d" % won.index(True)]


async def test_delete_removes_and_counts_what_was_there(store: Store) -> None:
    """Records and logs, each once, and nothing beside them."""
    await store.put("record", b"1", ttl_s=LONG_S, listed="list")
    await store.put("other", b"2", ttl_s=LONG_S, listed="list")
    await store.append("log", b"1", at=0, ttl_s=LONG_S)
    await store.append("record", b"a log of the same name", at=0, ttl_s=LONG_S)

    assert await store.delete("record", "log", "nobody", "log") == 3
    assert await store.delete("record", "log") == 0
    assert await store.delete() == 0
    assert await store.get("record") == [None]
    assert await store.entries("log") == []
    assert await store.newest("list", 10) == [b"2"]


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_a_list_gives_its_newest_first(store: Store) -> None:
    """The last ten of one's asks, without those of anybody else."""
    for number in range(20):
        await store.put(f"ask:{number}", b"%d" % number, ttl_s=LONG_S, listed="asks:owner")
        await store.put(f"other:{number}", b"other", ttl_s=LONG_S, listed="asks:client:a")
        await store.put(f"unlisted:{number}", b"unlisted", ttl_s=LONG_S)

    assert await store.newest("asks:owner", 3) == [b"19", b"18", b"17"]
    assert len(await store.newest("asks:owner", 1000)) == 20
    assert await store.newest("asks:owner", 0) == []
    assert await store.newest("asks:nobody", 10) == []


async def test_a_record_keeps_its_place_when_it_is_written_again(store: Store) -> None:
    """An ask stands where it was asked, however late its answer was written."""
    for name in ("a", "b", "c"):
        await store.put(name, name.encode(), ttl_s=LONG_S, listed="list")

    await store.put("a", b"a, changed", ttl_s=LONG_S, listed="list")
    await store.put("b", b"b, changed", ttl_s=LONG_S)

    assert await store.newest("list", 10) == [b"c", b"b, changed", b"a, changed"]


@pytest.mark.parametrize("how", ["deleted", "ended"])
async def test_a_record_that_was_gone_is_a_new_one(shelf: Shelf, store: Store, how: str) -> None:
    """It has lost its place; and it is in no list if it is not put into one again."""
    for name in ("a", "b"):
        await store.put(name, name.encode(), ttl_s=SHORT_S, listed="list")
    await store.put("c", b"c", ttl_s=LONG_S, listed="list")
    if how == "deleted":
        await store.delete("a", "b")
    else:
        await shelf.wait(SHORT_S)

    await store.put("a", b"a, again", ttl_s=LONG_S, listed="list")
    await store.add("b", b"b, again", ttl_s=LONG_S)

    assert await store.newest("list", 10) == [b"a, again", b"c"]
    assert await store.get("b") == [b"b, again"]


async def test_a_record_is_in_one_list(store: Store) -> None:
    """The one that it was last put into."""
    await store.put("a", b"1", ttl_s=LONG_S, listed="old")
    await store.put("b", b"2", ttl_s=LONG_S, listed="new")
    await store.put("a", b"3", ttl_s=LONG_S, listed="new")

    assert await store.newest("old", 10) == []
    assert await store.newest("new", 10) == [b"3", b"2"]
    await store.put("a", b"4", ttl_s=LONG_S, listed="old")
    assert await store.newest("old", 10) == [b"4"]
    assert await store.newest("new", 10) == [b"2"]


async def test_many_that_have_ended_hide_none_that_has_not(shelf: Shelf, store: Store) -> None:
    """A list is read past what is gone, however much that is."""
    await store.put("first", b"first", ttl_s=LONG_S, listed="list")
    await asyncio.gather(*(store.put(f"gone:{n}", b"gone", ttl_s=SHORT_S, listed="list") for n in range(200)))
    await shelf.wait(SHORT_S)

    assert await store.newest("list", 2) == [b"first"]


# -- logs --------------------------------------------------------------------------------------------------------------


async def test_a_log_keeps_its_entries_in_order(shelf: Shelf, store: Store) -> None:
    """The turns of a conversation, read by another hub."""
    for number in range(30):
        assert await store.append("turns", b"%d" % number, at=number, ttl_s=LONG_S)

    assert await shelf.open().entries("turns") == [b"%d" % number for number in range(30)]
    assert await store.entries("nobody") == []


@pytest.mark.parametrize("at", [-1, 0, 1, 3, 100])
async def test_an_entry_that_would_not_be_the_next_is_not_appended(store: Store, at: int) -> None:
    """Who writes turn 3 having seen two has missed one: the log is left as it is."""
    await store.append("turns", b"a", at=0, ttl_s=LONG_S)
    await store.append("turns", b"b", at=1, ttl_s=LONG_S)

    assert not await store.append("turns", b"c", at=at, ttl_s=LONG_S)
    assert await store.entries("turns") == [b"a", b"b"]
    assert not await store.append("another", b"c", at=1, ttl_s=LONG_S)
    assert await store.entries("another") == []


async def test_records_are_written_with_an_entry_and_only_with_it(shelf: Shelf, store: Store) -> None:
    """An answer and the turn that it is: no hub can die between the two."""
    await store.put("earlier", b"of the list", ttl_s=LONG_S, listed="mine")
    await store.put("head", b"old", ttl_s=LONG_S, listed="mine")
    also = [Put("head", b"new", LONG_S, "mine"), Put("record", b"whole", LONG_S), Put("ends", b"soon", SHORT_S, "mine")]

    assert not await store.append("turns", b"a", at=1, ttl_s=LONG_S, also=also)
    assert await store.get("head", "record", "ends") == [b"old", None, None]
    assert await store.append("turns", b"a", at=0, ttl_s=LONG_S, also=also)
    other = shelf.open()
    assert await other.entries("turns") == [b"a"]
    assert await other.get("head", "record") == [b"new", b"whole"]

    await shelf.wait(SHORT_S)

    assert await other.newest("mine", 10) == [b"new", b"of the list"]
    assert await other.get("ends") == [None]


async def test_of_many_writers_of_one_entry_one_wins(shelf: Shelf) -> None:
    """Two hubs that hold the same conversation cannot mix its turns."""
    stores = [shelf.open() for _ in range(3)]
    for at in range(4):
        won = await asyncio.gather(
            *(stores[n % 3].append("turns", b"%d" % n, at=at, ttl_s=LONG_S) for n in range(MANY_AT_ONCE))
        )
        assert won.count(True) == 1
        assert (await stores[0].entries("turns"))[at:] == [b"%d" % won.index(True)]


async def test_a_log_ends_as_a_whole_and_is_prolonged_as_a_whole(shelf: Shelf, store: Store) -> None:
    """No conversation without its beginning; one that has ended begins at 0 again, with nothing of the old."""
    prolonged = False
    while not prolonged:  # on a busy machine the first entry may be over before the second comes
        await store.append("prolonged", b"a", at=0, ttl_s=SHORT_S)
        prolonged = await store.append("prolonged", b"b", at=1, ttl_s=LONG_S)
    await store.append("ended", b"a", at=0, ttl_s=LONG_S)
    await store.append("ended", b"b", at=1, ttl_s=SHORT_S)
    await store.append("refused", b"a", at=0, ttl_s=SHORT_S)
    await store.append("refused", b"b", at=2, ttl_s=LONG_S)

    await shelf.wait(SHORT_S)

    assert await store.entries("prolonged") == [b"a", b"b"]
    assert await store.entries("ended") == []
    assert await store.entries("refused") == []
    assert not await store.append("ended", b"c", at=2, ttl_s=LONG_S)
    assert await store.append("ended", b"new", at=0, ttl_s=LONG_S)
    assert await store.entries("ended") == [b"new"]


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_a_lease_has_as_many_holders_as_its_limit(shelf: Shelf, store: Store) -> None:
    """The first come have it, in that order; one that lets go makes room for one."""
    took = [await store.take("places", f"hub/{name}", limit=2, ttl_s=LONG_S) for name in ("z", "a", "m")]

    assert took == [True, True, False]
    assert await shelf.open().holders("places") == ["hub/z", "hub/a"]
    await store.release([Held("places", "hub/z")])
    assert await store.take("places", "hub/m", limit=2, ttl_s=LONG_S)
    assert await store.holders("places") == ["hub/a", "hub/m"]
    assert not await store.take("none", "hub/a", limit=0, ttl_s=LONG_S)


async def test_who_holds_it_already_takes_it_again(shelf: Shelf, store: Store) -> None:
    """Also where there is no room by now; it holds for the new time, and keeps its place in the order."""
    for name in ("first", "second"):
        await store.take("places", name, limit=2, ttl_s=LONG_S)

    assert await store.take("places", "first", limit=1, ttl_s=LONG_S)
    assert await store.holders("places") == ["first", "second"]
    assert await store.take("places", "first", limit=1, ttl_s=SHORT_S)
    await shelf.wait(SHORT_S)
    assert await store.holders("places") == ["second"]


async def test_never_more_than_the_limit_hold_it(shelf: Shelf) -> None:
    """50 asks over three hubs on four places: none too many at any moment, none left out, none left holding."""
    stores = [shelf.open() for _ in range(3)]
    holding = most = 0

    async def ask(number: int) -> None:
        nonlocal holding, most
        store, holder = stores[number % 3], f"hub-{number % 3}/{number}"
        while not await store.take("places", holder, limit=4, ttl_s=LONG_S):
            await asyncio.sleep(0.001)
        holding += 1
        most = max(most, holding)
        assert holder in await store.holders("places")
        holding -= 1
        await store.release([Held("places", holder)])

    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(ask(number) for number in range(MANY_AT_ONCE)))

    assert 1 < most <= 4
    assert await stores[0].holders("places") == []
    assert await stores[0].lapsed("places") == []


async def test_a_holder_that_is_not_heard_of_lapses(shelf: Shelf, store: Store) -> None:
    """Its place is free again without its doing; who it was is told until somebody releases it, its own hub or not."""
    await store.take("places", "dead/1", limit=1, ttl_s=SHORT_S)
    await store.renew([Held("running", "dead/1"), Held("running", "alive/2")], ttl_s=SHORT_S)
    await store.renew([Held("running", "alive/2")], ttl_s=LONG_S)

    await shelf.wait(SHORT_S)

    assert await store.take("places", "alive/2", limit=1, ttl_s=LONG_S)
    assert await store.holders("places") == ["alive/2"]
    other = shelf.open()
    assert await other.holders("running") == ["alive/2"]
    assert await other.lapsed("running") == ["dead/1"]
    await other.release([Held("running", "dead/1")])
    assert await store.lapsed("running") == []


async def test_a_lease_is_renewed_also_when_it_was_lost(shelf: Shelf, store: Store) -> None:
    """A hub that slept, or whose store was emptied, goes on with what it runs; several leases in one go."""
    mine = [Held("running", "hub/1"), Held("running", "hub/2"), Held("places", "hub/1"), Held("talking", "hub/1")]
    await store.take("places", "hub/1", limit=1, ttl_s=SHORT_S)
    await store.renew(mine[:1], ttl_s=SHORT_S)
    await shelf.wait(SHORT_S)

    await store.renew(mine, ttl_s=LONG_S)
    await store.renew([], ttl_s=LONG_S)

    assert await store.holders("running") == ["hub/1", "hub/2"]
    assert await store.holders("places") == ["hub/1"]
    assert await store.holders("talking") == ["hub/1"]
    assert await store.lapsed("running") == []
    assert not await store.take("places", "hub/9", limit=1, ttl_s=LONG_S)


async def test_a_renewal_counts_from_now(shelf: Shelf, store: Store) -> None:
    """Not from the end of what was left: a hub that says `a moment` is not believed for longer."""
    await store.take("places", "hub/1", limit=1, ttl_s=LONG_S)

    await store.renew([Held("places", "hub/1")], ttl_s=SHORT_S)
    await shelf.wait(SHORT_S)

    assert await store.holders("places") == []
    assert await store.lapsed("places") == ["hub/1"]


async def test_one_who_takes_again_after_lapsing_is_the_last(shelf: Shelf, store: Store) -> None:
    """It had given up its place in the order with the lease."""
    await store.take("places", "sleeper", limit=3, ttl_s=SHORT_S)
    await store.take("places", "awake", limit=3, ttl_s=LONG_S)
    await shelf.wait(SHORT_S)

    assert await store.take("places", "sleeper", limit=3, ttl_s=LONG_S)
    assert await store.holders("places") == ["awake", "sleeper"]


async def test_nobody_releases_what_another_holds(store: Store) -> None:
    """A hub that comes back late must not end the turn of the one that has the conversation now."""
    await store.take("talking", "second/2", limit=1, ttl_s=LONG_S)

    await store.release([Held("talking", "first/1"), Held("nobody", "first/1"), Held("talking", "second")])
    await store.release([])

    assert await store.holders("talking") == ["second/2"]


async def test_the_holders_of_a_dead_hub_lapse_at_once(shelf: Shelf, store: Store) -> None:
    """Only those whose name begins with its name, letter for letter, in the leases that are named."""
    names = ["hub%/1", "hub%/2", "hub_/3", "HUB%/4", "hub%", "a hub%/5"]
    await store.renew([Held("running", name) for name in names], ttl_s=LONG_S)
    await store.renew([Held("places", "hub%/1"), Held("other", "hub%/1")], ttl_s=LONG_S)

    await shelf.open().lapse(["running", "places", "nobody"], holders_of="hub%/")
    await store.lapse([], holders_of="h")

    assert await store.holders("running") == ["hub_/3", "HUB%/4", "hub%", "a hub%/5"]
    assert await store.lapsed("running") == ["hub%/1", "hub%/2"]
    assert await store.lapsed("places") == ["hub%/1"]
    assert await store.holders("other") == ["hub%/1"]


async def test_no_lease_is_longer_than_a_lapsed_holder_is_remembered(shelf: Shelf, store: Store) -> None:
    """A hub with a wrong idea of time cannot hold a place for ever."""
    await store.take("places", "hub/1", limit=1, ttl_s=1e12)
    await store.renew([Held("running", "hub/1")], ttl_s=float("inf"))

    assert await store.holders("places") == ["hub/1"]
    assert await store.holders("running") == ["hub/1"]
    if isinstance(shelf, RedisShelf):
        lives = [ms for key, ms in shelf.server.keys().items() if b"until" in key]
        assert len(lives) == 2
        assert all(0 < ms <= LAPSED_KEPT_S * 1000 for ms in lives)
    else:
        await shelf.wait(LAPSED_KEPT_S)
        assert await store.holders("places") == []
        assert await store.holders("running") == []


# -- names and values --------------------------------------------------------------------------------------------------

NAMES = [
    "",
    "a:b",
    "a",
    "\x00",
    "a\x00b",
    "a\x00c",
    "👩‍👩‍👧",
    "%",
    "_",
    "'; DROP TABLE records",
    "\r\n",
    "\ud83d",
    "ü" * 300,
]


async def test_names_are_told_apart_letter_for_letter(store: Store) -> None:
    """Whatever an id or a client's name holds, it is nobody else's: NUL, emoji, half a character, SQL."""
    for name in NAMES:
        await store.put(name, name.encode("utf-8", "surrogatepass"), ttl_s=LONG_S, listed=name)
        await store.append(name, name.encode("utf-8", "surrogatepass"), at=0, ttl_s=LONG_S)
        assert await store.take(name, name, limit=1, ttl_s=LONG_S)

    for name in NAMES:
        value = name.encode("utf-8", "surrogatepass")
        assert await store.get(name) == [value]
        assert await store.newest(name, 10) == [value]
        assert await store.entries(name) == [value]
        assert await store.holders(name) == [name]


async def test_large_values_are_whole(store: Store) -> None:
    """5 MB of every byte: more than the longest answer; several of them at once, in records, lists and logs."""
    large = bytes(range(256)) * (5 * 4096)

    await asyncio.gather(*(store.put(f"{n}", large + b"%d" % n, ttl_s=LONG_S, listed="list") for n in range(3)))
    for at in range(3):
        assert await store.append("log", large, at=at, ttl_s=LONG_S)

    assert await store.get("0", "1", "2") == [large + b"0", large + b"1", large + b"2"]
    assert sorted(await store.newest("list", 10)) == [large + b"0", large + b"1", large + b"2"]
    assert await store.entries("log") == [large] * 3


ANY_NAME = st.sampled_from(["", "a", "a:", "\x00", "👩‍👩‍👧"]) | st.text(max_size=5)
ANY_VALUE = st.binary(max_size=40) | st.sampled_from([b"1:0000000000000000:", b"\x00", b"$-1\r\n"])
ANY_LIST = st.none() | st.sampled_from(["list", "another"])
STEP = st.one_of(
    st.tuples(st.just("put"), ANY_NAME, ANY_VALUE, ANY_LIST),
    st.tuples(st.just("add"), ANY_NAME, ANY_VALUE),
    st.tuples(st.just("delete"), ANY_NAME),
    st.tuples(st.just("append"), ANY_NAME, ANY_VALUE, st.integers(0, 3)),
    st.tuples(st.just("append"), ANY_NAME, ANY_VALUE, st.integers(0, 1), st.tuples(ANY_NAME, ANY_VALUE, ANY_LIST)),
    st.tuples(st.just("take"), ANY_NAME, ANY_NAME, st.integers(0, 2)),
    st.tuples(st.just("renew"), ANY_NAME, ANY_NAME),
    st.tuples(st.just("release"), ANY_NAME, ANY_NAME),
)


SPACES = itertools.count()


class Model:
    """What a store must be like as long as nothing ends, in the words of its contract."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.lists: dict[str, list[str]] = {}
        self.logs: dict[str, list[bytes]] = {}
        self.leases: dict[str, list[str]] = {}

    def put(self, key: str, value: bytes, listed: str | None) -> None:
        self.records[key] = value
        if listed is not None and key not in self.lists.setdefault(listed, []):
            self._unlist(key)
            self.lists[listed].append(key)

    def add(self, key: str, value: bytes) -> bool:
        if key in self.records:
            return False
        self.records[key] = value
        return True

    def delete(self, key: str) -> int:
        self._unlist(key)
        return (self.records.pop(key, None) is not None) + (self.logs.pop(key, None) is not None)

    def append(self, key: str, value: bytes, at: int, *also: tuple[str, bytes, str | None]) -> bool:
        if at != len(self.logs.get(key, [])):
            return False
        self.logs.setdefault(key, []).append(value)
        for put in also:
            self.put(*put)
        return True

    def take(self, lease: str, holder: str, limit: int) -> bool:
        holders = self.leases.setdefault(lease, [])
        if holder not in holders and len(holders) < limit:
            holders.append(holder)
        return holder in holders

    def renew(self, lease: str, holder: str) -> None:
        self.take(lease, holder, 1_000_000)

    def release(self, lease: str, holder: str) -> None:
        if holder in self.leases.get(lease, []):
            self.leases[lease].remove(holder)

    def _unlist(self, key: str) -> None:
        for keys in self.lists.values():
            if key in keys:
                keys.remove(key)


async def do(store: Store, step: tuple[object, ...]) -> object:
    """One step of a history, on a real store."""
    match step:
        case "put", str(key), bytes(value), str() | None as listed:
            return await store.put(key, value, ttl_s=LONG_S, listed=listed)
        case "add", str(key), bytes(value):
            return await store.add(key, value, ttl_s=LONG_S)
        case "delete", str(key):
            return await store.delete(key)
        case "append", str(key), bytes(value), int(at), *puts:
            also = [Put(name, what, LONG_S, of) for name, what, of in cast("list[tuple[str, bytes, str | None]]", puts)]
            return await store.append(key, value, at=at, ttl_s=LONG_S, also=also)
        case "take", str(lease), str(holder), int(limit):
            return await store.take(lease, holder, limit=limit, ttl_s=LONG_S)
        case "renew", str(lease), str(holder):
            return await store.renew([Held(lease, holder)], ttl_s=LONG_S)
        case "release", str(lease), str(holder):
            return await store.release([Held(lease, holder)])
        case _:
            raise AssertionError(step)


def in_space(space: int, key: Any, value: Any, listed: Any) -> tuple[str, bytes, str | None]:
    """What a put is given, with the names of this history."""
    return f"{space}:{key}", value, None if listed is None else f"{space}:{listed}"


@given(steps=st.lists(STEP, max_size=25))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_history_ends_as_the_contract_says(store: Store, steps: list[tuple[Any, ...]]) -> None:
    """Any keys, holders and bytes in any order: each result and all that is left are the model's."""
    model, space = Model(), next(SPACES)

    for name, first, *rest in steps:
        # Each history has names of its own, as the store is one and the same.
        named = (name, f"{space}:{first}", *rest)
        if name == "put":
            named = (name, *in_space(space, first, *rest))
        elif name == "append":
            named = (*named[:4], *(in_space(space, *also) for also in rest[2:]))
        assert await do(store, named) == getattr(model, str(name))(*named[1:])

    keys = list(model.records)
    assert await store.get(*keys) == list(model.records.values())
    for listed, members in model.lists.items():
        assert await store.newest(listed, 100) == [model.records[key] for key in reversed(members)]
    for key, entries in model.logs.items():
        assert await store.entries(key) == entries
    for lease, holders in model.leases.items():
        assert await store.holders(lease) == holders
        assert await store.lapsed(lease) == []


# -- callers that leave, and the end -----------------------------------------------------------------------------------


async def test_a_caller_who_leaves_breaks_nothing(store: Store) -> None:
    """Cancelled at any moment: what it asked for is done or not, as a whole, and others get their own answers."""
    small, large = b"before", b"after" * 400_000
    await store.put("key", small, ttl_s=LONG_S)
    for turns in range(40):
        calls = [
            asyncio.ensure_future(store.put("key", large if turns % 2 else small, ttl_s=LONG_S)),
            asyncio.ensure_future(store.get("key", "nobody")),
            asyncio.ensure_future(store.take("places", f"{turns}", limit=1000, ttl_s=LONG_S)),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls, timeout=DEADLINE_S)
        assert all(call.done() for call in calls)

    (value,) = await store.get("key")
    assert value in (small, large)
    assert all(not held or int(held) < 40 for held in await store.holders("places"))
    await store.put("key", b"and on", ttl_s=LONG_S)
    assert await store.get("key", "nobody") == [b"and on", None]


async def test_many_calls_at_once_get_each_its_own_answer(shelf: Shelf) -> None:
    """200 asks that end together: more than there are connections, or threads."""
    store = shelf.open()
    await asyncio.gather(*(store.put(f"ask:{n}", b"%d" % n, ttl_s=LONG_S) for n in range(200)))

    found = await asyncio.gather(*(store.get(f"ask:{n}") for n in range(200)))

    assert found == [[b"%d" % n] for n in range(200)]


async def test_closing_finishes_what_was_asked_for(shelf: Shelf) -> None:
    """A hub that ends writes down the last answers first; a second close does nothing."""
    store = shelf.open()
    await store.put("first", b"1", ttl_s=LONG_S)
    writing = [asyncio.ensure_future(store.put(f"{n}", b"%d" % n, ttl_s=LONG_S)) for n in range(100)]
    await asyncio.sleep(0)

    await store.close()
    await store.close()

    await asyncio.wait_for(asyncio.gather(*writing), DEADLINE_S)
    assert await shelf.open().get(*(f"{n}" for n in range(100))) == [b"%d" % n for n in range(100)]


async def test_a_store_that_was_never_used_closes(shelf: Shelf) -> None:
    """A hub that was started and ended without an ask."""
    await shelf.open().close()


async def test_a_closed_store_says_so(shelf: Shelf) -> None:
    """To a task that comes late, as the one error that it expects of a store."""
    store = shelf.open()
    await store.put("key", b"1", ttl_s=LONG_S)
    await store.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("key")
