"""What hubs know of logins together, on each store: a SQLite file, and a real Redis server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.ledger import REMEMBERED, VERIFY_S, Ledger
from llm_mcp_hub.credentials.monitor import Monitor
from llm_mcp_hub.credentials.status import Credential, TokenStatus
from llm_mcp_hub.errors import (
    AuthExpired,
    AuthRejected,
    HubError,
    QuotaExhausted,
    StoreUnavailable,
    Timeout,
    UpstreamError,
)
from llm_mcp_hub.store.base import LEDGER, SALT, Store, key
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.contract.stores import LONG_S, RedisShelf, Shelf, SqliteShelf, opened
from tests.upstreams.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
REFUSED = AuthRejected("The provider refuses it.", action="Make another.")
DEAD = AuthExpired("It was revoked.", action="Make another.")
USED_UP = QuotaExhausted("Its quota is used up.", action="Wait.")
AWAY = UpstreamError("It could not be reached.", action="Check the network.", shows="unreachable")
SECRET = "made-up-secret-that-nobody-may-see"


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


class Clock:
    """A hub's own clock."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **of_time: float) -> None:
        self.now += timedelta(**of_time)


class OneLogin:
    """A reader that holds one login, or those of a test."""

    newest_first = False

    def __init__(self, *marks: str, account: str = "", lifetime: timedelta | None = None) -> None:
        self.marks = list(marks or ("made-up",))
        self.account = account
        self.lifetime = lifetime
        self.made: datetime | None = None

    def held(self) -> list[Held]:
        credential = Credential(kind="login", source="file")
        return [
            Held(
                "The login",
                credential,
                "made up",
                "Make one.",
                secret=SECRET,
                mark=mark,
                account=self.account,
                lifetime=self.lifetime,
                issued=None if self.made is None else (self.made, timedelta(0)),
                issued_by="ledger",
            )
            for mark in self.marks
        ]


def hub(store: Store, clock: Clock | None = None, reader: OneLogin | None = None, provider: str = "one") -> Monitor:
    """What one hub knows of a login."""
    return Monitor(reader or OneLogin(), Ledger(store, provider), alert=timedelta(days=3), clock=clock or Clock())


def level(status: TokenStatus) -> str | None:
    return status.evidence.level if status.evidence else None


async def test_what_one_hub_learns_every_hub_knows(shelf: Shelf) -> None:
    """An answer, a refusal, trouble, a used-up quota, and what is used of the windows."""
    clock = Clock()
    one, other = hub(shelf.open(), clock), hub(shelf.open(), clock)
    window = QuotaWindow(window="week", used_fraction=0.5, resets_at=None, observed_at="2026-11-23T12:00:00Z")
    seen: list[str] = []

    async def look() -> None:
        clock.go(seconds=1)
        seen.append((await other.look()).status)

    await one.worked("made-up", [window])
    await look()
    await one.failed("made-up", AWAY)
    await look()
    await one.failed("made-up", REFUSED)
    await look()
    await one.failed("made-up", USED_UP)
    await look()
    await one.failed("made-up", REFUSED)
    await look()
    await one.failed("made-up", Timeout("Nothing to do with it.", action="Again."))
    await look()
    await one.worked("made-up")
    await look()

    assert seen == ["valid", "unknown", "rejected", "valid", "rejected", "rejected", "valid"]
    assert other.status().quota == (window,)


async def test_a_refusal_is_known_although_its_ask_is_cancelled_just_then(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the login has ended comes first; how long it has lasted is written down after it."""
    clock, waits = Clock(), asyncio.Event()
    one, other = (hub(shelf.open(), clock, OneLogin(account="somebody")) for _ in range(2))
    await one.look()
    clock.go(hours=1)

    async def waiting(*_: object) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Ledger, "ended", waiting)
    failing = asyncio.create_task(one.failed("made-up", AuthExpired("It has ended.", action="Again.", shows="refused")))
    await waits.wait()
    failing.cancel()
    await asyncio.wait([failing])

    assert [(await each.look()).status for each in (one, other)] == ["expired"] * 2


async def test_a_new_login_begins_clean_and_an_old_one_is_remembered(shelf: Shelf) -> None:
    """A refusal counts for the very login that was refused, also after a restart and a change back."""
    clock, reader = Clock(), OneLogin()
    one = hub(shelf.open(), clock, reader)
    await one.look()
    await one.failed("made-up", REFUSED)

    reader.marks = ["another"]
    clock.go(days=1)
    another = (await one.look()).status
    reader.marks = ["made-up"]

    assert another == "valid"
    assert (await hub(shelf.open(), clock, reader).look()).status == "rejected"


async def test_a_dead_login_is_passed_over_by_every_hub(shelf: Shelf) -> None:
    """DESIGN 3.5. The next one is used, and the first again when both are refused."""
    reader = OneLogin("first", "second")
    one, other = hub(shelf.open(), reader=reader), hub(shelf.open(), reader=reader)
    used: list[str] = []
    for refused in ("first", "second"):
        await other.look()
        used.append(other.secret().mark)
        await one.failed(refused, REFUSED)
    await other.look()

    assert [*used, other.secret().mark] == ["first", "second", "first"]


async def test_a_clock_that_was_set_back_cannot_bring_an_old_refusal_to_power(shelf: Shelf) -> None:
    """A hub two days ahead saw it refused; then it was mended and answers: that came later, whatever clocks say."""
    ahead, right = Clock(), Clock()
    ahead.go(days=2)
    await hub(shelf.open(), ahead).failed("made-up", REFUSED)
    one = hub(shelf.open(), right)
    assert (await one.look()).status == "rejected"

    await one.worked("made-up")

    assert (await hub(shelf.open(), right).look()).status == "valid"
    assert (await hub(shelf.open(), ahead).look()).status == "valid"


async def test_the_first_sight_counts_once(shelf: Shelf) -> None:
    """Later hubs and later starts move no date."""
    clock = Clock()
    reader = OneLogin(lifetime=timedelta(days=365))
    await hub(shelf.open(), clock, reader).look()
    clock.go(days=100)

    status = await hub(shelf.open(), clock, reader).look()

    assert (status.expires_at, status.expires_source) == ("2027-11-23T12:00:00Z", "first_seen")
    assert status.days_remaining is None


async def test_the_day_that_a_login_was_made_is_known_to_all(shelf: Shelf) -> None:
    """Also where the same token stands in a variable of another machine."""
    clock = Clock()
    here, there = OneLogin(lifetime=timedelta(days=365)), OneLogin(lifetime=timedelta(days=365))
    here.made = clock.now - timedelta(days=364)
    await hub(shelf.open(), clock, here).look()

    status = await hub(shelf.open(), clock, there).look()

    assert (status.status, status.days_remaining, status.expires_source) == ("warning", 1, "ledger")


async def test_how_long_an_accounts_logins_lasted_is_counted_once_a_login(shelf: Shelf) -> None:
    """Several hubs see the same end; asks go on failing. The next login of the account tells what to expect."""
    clock, reader = Clock(), OneLogin("login-1", account="somebody")
    hubs = [hub(shelf.open(), clock, reader) for _ in range(3)]
    for one in hubs:
        await one.look()
    clock.go(days=7)
    for _ in range(3):
        for one in hubs:
            await one.failed("login-1", DEAD)
    ledger = Ledger(shelf.open(), "one")
    lives = await ledger.lasted("somebody")
    reader.marks = ["login-2"]

    status = await hub(shelf.open(), clock, reader).look()

    assert [(life.seconds, life.exact) for life in lives] == [(7 * 86_400.0, False)]
    assert "lasted at least 7 days" in status.message
    assert await ledger.lasted("somebody else") == await ledger.lasted("") == ()


async def test_lives_that_are_remembered_are_bounded(shelf: Shelf) -> None:
    """An account whose logins end every day must not fill a store."""
    clock, reader = Clock(), OneLogin(account="somebody")
    one = hub(shelf.open(), clock, reader)
    for number in range(REMEMBERED + 5):
        reader.marks = [f"login-{number}"]
        await one.look()
        clock.go(hours=1)
        await one.failed(f"login-{number}", DEAD)

    assert len(await Ledger(shelf.open(), "one").lasted("somebody")) == REMEMBERED


async def test_one_hub_a_minute_may_verify(shelf: Shelf) -> None:
    """Over all of them, for each provider."""
    hubs = [hub(shelf.open()) for _ in range(5)]

    first = await asyncio.gather(*(one.may_verify() for one in hubs))
    other = await hub(shelf.open(), provider="two").may_verify()

    assert sorted(first) == [False] * 4 + [True]
    assert other
    if isinstance(shelf, SqliteShelf):  # whose clock is ours to move
        await shelf.wait(VERIFY_S + 1)
        assert await hubs[0].may_verify()


async def test_the_store_knows_no_login(shelf: Shelf) -> None:
    """G7: keys hold salted fingerprints, values no secret; another store has another salt."""
    store = shelf.open()
    one = hub(store)
    await one.look()
    await one.worked("made-up")
    (salt,) = await store.get(SALT)

    assert salt is not None
    assert len(salt) == 32
    assert await store.get(key(LEDGER, provider="one", login="made-up", kind="success")) == [None]
    if isinstance(shelf, SqliteShelf):
        written = b"".join(path.read_bytes() for path in shelf.folder.rglob("*") if path.is_file())
        assert SECRET.encode() not in written
        assert b"ledger" in written
        assert b":made-up:" not in written


async def test_a_store_that_was_replaced_is_one_for_all_hubs_again(shelf: Shelf) -> None:
    """Its file was moved away, as is advised for a damaged one, or a Redis emptied: the salt in it is another one."""
    clock = Clock()
    one = hub(shelf.open(), clock)
    await one.look()
    await one.failed("made-up", USED_UP)
    clock.go(seconds=1)
    shelf.empty()
    others = [hub(shelf.open(), clock, provider=name) for name in ("two", "one")]
    before = [(await other.look()).status for other in others]

    clock.go(seconds=1)
    await one.look()
    learned = await hub(shelf.open(), clock).look()
    await one.failed("made-up", REFUSED)

    assert before == ["valid", "valid"]
    assert (learned.status, level(learned)) == ("valid", "proven")  # what it had learned before is not lost either
    assert (await others[1].look()).status == "rejected"
    assert (await hub(shelf.open(), clock).look()).status == "rejected"


async def test_garbage_in_the_ledger_counts_as_nothing(shelf: Shelf) -> None:
    """Others can write to a Redis."""
    store = shelf.open()
    one = hub(store)
    await one.worked("made-up")
    ledger = Ledger(store, "one")
    fingerprinted = key(LEDGER, provider="one", login=await ledger._fingerprint("made-up"), kind="success")  # pyright: ignore[reportPrivateUsage]
    await store.put(fingerprinted, b'{"at": "yesterday"}', ttl_s=LONG_S)

    assert level(await hub(store).look()) == "well_formed"


async def test_without_a_store_a_hub_knows_what_it_has_seen_itself(tmp_path: Path) -> None:
    """And writes it down when the store is there."""
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    clock = Clock()
    one = hub(SqliteStore(blocked), clock)
    await one.worked("made-up")
    alone = await one.look()
    await one.failed("made-up", REFUSED)
    refused = await one.look()
    verified = [await one.may_verify() for _ in range(2)]
    blocked.unlink()

    clock.go(seconds=1)
    await one.look()

    store = SqliteStore(blocked)
    assert (level(alone), refused.status, verified) == ("proven", "rejected", [True, False])
    assert (await hub(store, clock).look()).status == "rejected"
    await store.close()


async def test_many_looks_write_down_at_once_what_the_store_had_not_taken(tmp_path: Path) -> None:
    """Every ask looks: when the store is back, twenty of them find the same evidence unwritten."""
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    one = hub(SqliteStore(blocked))
    await one.worked("made-up")
    blocked.unlink()

    seen = await asyncio.gather(*(one.look() for _ in range(20)))

    assert {level(status) for status in seen} == {"proven"}
    store = SqliteStore(blocked)
    assert level(await hub(store).look()) == "proven"
    await store.close()


class Uneven(SqliteStore):
    """Takes the first value that is put only when it has refused the second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._puts = 0
        self._refused = asyncio.Event()

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        self._puts += 1
        if self._puts == 1:
            await self._refused.wait()
        elif self._puts == 2:
            self._refused.set()
            raise StoreUnavailable("made up", action="made up")
        await super().put(key, value, ttl_s=ttl_s, listed=listed)


async def test_what_the_store_refused_is_written_down_when_another_asks_was_taken_meanwhile(
    tmp_path: Path,
) -> None:
    """Two asks end together, and the store is away for one of them."""
    clock = Clock()
    store = Uneven(tmp_path)
    one = hub(store, clock)
    await one.look()

    await asyncio.gather(one.worked("made-up"), one.failed("made-up", REFUSED))
    clock.go(seconds=1)
    await one.look()

    assert (await hub(store, clock).look()).status == "rejected"
    await store.close()


class Slow(SqliteStore):
    """What is put waits for a word."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        self.asked.set()
        await self.may.wait()
        await super().put(key, value, ttl_s=ttl_s, listed=listed)


async def test_what_a_cancelled_ask_has_shown_is_written_down(tmp_path: Path) -> None:
    """Its caller leaves while the store is slow: it has been refused all the same."""
    store = Slow(tmp_path)
    one = hub(store)
    await one.look()
    ask = asyncio.create_task(one.failed("made-up", REFUSED))
    await store.asked.wait()
    ask.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ask
    store.may.set()

    await one.look()

    assert (await hub(store).look()).status == "rejected"
    await store.close()


class Cut(SqliteStore):
    """One hub's way to the store, which may be away."""

    away = False

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        if self.away:
            raise StoreUnavailable("made up", action="made up")
        await super().put(key, value, ttl_s=ttl_s, listed=listed)


async def test_what_is_written_late_takes_the_place_of_nothing_newer(tmp_path: Path) -> None:
    """A hub comes back to the store with an answer that is older than another hub's refusal and answer after it."""
    clock = Clock()
    cut, store = Cut(tmp_path), SqliteStore(tmp_path)
    late, other = hub(cut, clock), hub(store, clock)
    for one in (late, other):
        await one.look()
    cut.away = True
    clock.go(seconds=1)
    await late.worked("made-up")
    clock.go(seconds=1)
    await other.failed("made-up", REFUSED)
    clock.go(seconds=1)
    await other.worked("made-up")
    clock.go(seconds=1)
    cut.away = False

    seen = [(await one.look()).status for one in (late, other, hub(store, clock))]

    assert seen == ["valid"] * 3
    for one in (cut, store):
        await one.close()


@pytest.mark.parametrize("error", [REFUSED, DEAD, AWAY], ids=lambda error: error.code)
async def test_what_failed_without_a_login_says_nothing_of_one(shelf: Shelf, error: HubError) -> None:
    """An ask that found no login has no mark."""
    one = hub(shelf.open())
    await one.failed("", error)

    assert (await one.look()).status == "valid"
