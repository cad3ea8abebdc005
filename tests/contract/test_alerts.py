"""Alerts over both stores: what is told, how often, by which of several hubs, and while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Literal, get_args

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.typing import EventDict

from llm_mcp_hub.credentials import alerts as alerts_module
from llm_mcp_hub.credentials.alerts import NEEDS_A_PERSON, Alert, Alerts, alert_of
from llm_mcp_hub.credentials.status import Credential, State, TokenStatus
from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import Store
from llm_mcp_hub.store.redis import RedisStore
from tests.contract.stores import (
    DEADLINE_S,
    SHORT_S,
    RedisShelf,
    Shelf,
    SqliteShelf,
    opened,
    until_refused,
    until_written,
)
from tests.unit.statuses import status as made
from tests.upstreams.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
STATES: tuple[State, ...] = get_args(State)
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
Source = Literal["env", "saved", "file", "keychain"]


class Clock:
    """The hubs' clock; it goes when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def next_day(self) -> None:
        self.now += timedelta(days=1)


class Mailbox:
    """A sink that keeps what it was sent."""

    def __init__(self) -> None:
        self.got: list[Alert] = []
        self.closed = 0

    def send(self, alert: Alert) -> None:
        self.got.append(alert)

    async def close(self) -> None:
        self.closed += 1

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(alert.provider, alert.status) for alert in self.got]


class Broken(Mailbox):
    def send(self, alert: Alert) -> None:
        raise OSError("made up")

    async def close(self) -> None:
        raise OSError("made up")


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
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mail() -> Mailbox:
    return Mailbox()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Generator[list[EventDict]]:
    """The log; a logger that has written before in this process would write where it did then."""
    monkeypatch.setattr(alerts_module, "log", structlog.stdlib.get_logger("llm_mcp_hub.alerts"))
    with structlog.testing.capture_logs() as captured:
        yield captured


def status(state: State, source: Source | None = "env", message: str = "made up", action: str = "") -> TokenStatus:
    return made(
        state,
        expires_at="2026-11-29T14:03:00Z",
        days_remaining=2,
        message=message,
        action=action,
        credential=None if source is None else Credential(kind="login", source=source),
    )


async def look(hub: Alerts, state: State, provider: str = "one", source: Source | None = "env") -> None:
    """One look at one provider, whose status is this."""
    async with asyncio.timeout(DEADLINE_S):
        await hub.look({provider: status(state, source)})


def said(lines: Sequence[EventDict]) -> list[tuple[str, str]]:
    """What the log tells of logins: its level and the status."""
    return [(line["log_level"], line["status"]) for line in lines if line["event"].startswith("login ")]


# -- what an alert is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_an_alert_is_what_needs_a_person(state: State) -> None:
    """Five of the eight states; a login that was never made, works, or cannot be told about now is none."""
    alert = alert_of("one", status(state), NOON)

    assert (alert is not None) == (state in {"warning", "expired", "rejected", "ineligible", "misconfigured"})
    assert (alert is not None) == (state in NEEDS_A_PERSON)


def test_an_alert_says_what_the_status_says() -> None:
    """Whoever reads it in a chat knows which login, what is wrong and what to type; programs have it as fields."""
    found = status("rejected", message="The provider refused it.", action="Run: llm-mcp-hub login one")
    alert = alert_of("one", found, NOON, "valid")

    assert alert is not None
    assert alert.model_dump(exclude={"id"}) == {
        "at": "2026-11-27T12:00:00Z",
        "provider": "one",
        "status": "rejected",
        "previous": "valid",
        "message": "The provider refused it.",
        "action": "Run: llm-mcp-hub login one",
        "expires_at": "2026-11-29T14:03:00Z",
        "days_remaining": 2,
    }
    assert alert.text == (
        "llm-mcp-hub: the login of one needs attention (rejected). The provider refused it. Run: llm-mcp-hub login one"
    )


def test_two_alerts_have_two_ids() -> None:
    """A receiver may throw away what has an id that it knows."""
    moments = [NOON, NOON + timedelta(microseconds=1)]
    found = {
        alert.id
        for provider in ("one", "two")
        for state in NEEDS_A_PERSON
        for moment in moments
        if (alert := alert_of(provider, status(state), moment))
    }

    assert len(found) == 2 * len(NEEDS_A_PERSON) * 2


@given(message=st.text(st.characters(exclude_categories=[]), max_size=4_000))
@settings(deadline=None, derandomize=True)
def test_any_message_fits_into_a_chat(message: str) -> None:
    """Paths hold half characters, line breaks and what not; Discord refuses a text of over 2,000 characters."""
    alert = alert_of("one", status("expired", message=message), NOON)

    assert alert is not None
    assert len(alert.text) <= 1_900
    assert "\n" not in alert.text
    alert.text.encode()
    alert.model_dump_json()


# -- how often ---------------------------------------------------------------------------------------------------------


async def test_a_state_is_told_once_a_day(shelf: Shelf, clock: Clock, mail: Mailbox, lines: list[EventDict]) -> None:
    """However often it is looked at; the next day it is told again, for it still needs a person."""
    hub = Alerts(shelf.open(), [mail], clock)
    for _ in range(3):
        await look(hub, "expired")
    clock.next_day()
    await look(hub, "expired")

    assert mail.told == [("one", "expired")] * 2
    assert said(lines) == [("error", "expired")] * 2


async def test_a_login_that_gets_worse_is_told_again(
    shelf: Shelf, clock: Clock, mail: Mailbox, lines: list[EventDict]
) -> None:
    """Each state is news of its own, and says what was before."""
    hub = Alerts(shelf.open(), [mail], clock)
    for state in ("valid", "warning", "expired"):
        await look(hub, state)

    assert [(alert.status, alert.previous) for alert in mail.got] == [("warning", "valid"), ("expired", "warning")]
    assert said(lines) == [("warning", "warning"), ("error", "expired")]


async def test_a_restarted_hub_does_not_tell_again(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """An editor starts a hub per window, all day long; and a hub elsewhere has another day on its calendar."""
    for hours in (0, 14, -12):
        zone = timezone(timedelta(hours=hours))
        hub = Alerts(shelf.open(), [mail], lambda zone=zone: clock().astimezone(zone))
        await look(hub, "rejected")
        await hub.close()

    assert mail.told == [("one", "rejected")]


async def test_one_of_many_hubs_tells_and_one_of_them_tells_the_end(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """200 looks at once from eight hubs, at two logins; then as many when both work again."""
    hubs = [Alerts(shelf.open(), [mail], clock) for _ in range(8)]
    bad = {"one": status("rejected"), "two": status("warning")}
    good = {"one": status("valid"), "two": status("valid")}

    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(hubs[number % 8].look(bad) for number in range(200)))
        assert sorted(mail.told) == [("one", "rejected"), ("two", "warning")]
        await asyncio.gather(*(hubs[number % 8].look(good) for number in range(200)))

    assert sorted(mail.told[2:]) == [("one", "valid"), ("two", "valid")]


steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["one", "two"]), st.sampled_from([*STATES, "a day goes by"])),
    max_size=40,
)


@pytest.fixture(params=["sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@given(steps=steps)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_sequence_of_states_is_told_twice_a_day(
    kind: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, str]]
) -> None:
    """Three hubs that see two logins flap as they like; an end is told only of what was told before."""
    clock, mail = Clock(), Mailbox()
    if kind == "sqlite":
        made: SqliteShelf | RedisShelf = SqliteShelf(tmp_path_factory.mktemp("state"))
    else:
        with redis_server.client() as client:
            client.flushall()
        made = RedisShelf(redis_server)
    async with opened(made) as shelf:
        hubs = [Alerts(shelf.open(), [mail], clock) for _ in range(3)]
        for which, provider, step in steps:
            if step == "a day goes by":
                clock.next_day()
            else:
                await look(hubs[which], step, provider)  # pyright: ignore[reportArgumentType]

    days = [(alert.provider, alert.status, alert.at[:10]) for alert in mail.got if alert.status != "valid"]
    assert len(days) == len(set(days))
    for provider in ("one", "two"):
        told = [alert.status for alert in mail.got if alert.provider == provider]
        assert ("valid", "valid") not in zip(["valid", *told], told, strict=False)
        seen = [(day, state) for day, state in _seen(steps, provider) if state in NEEDS_A_PERSON]
        assert {(day, state) for name, state, day in days if name == provider} == set(seen)


def _seen(steps: list[tuple[int, str, str]], provider: str) -> list[tuple[str, str]]:
    clock = Clock()
    found: list[tuple[str, str]] = []
    for _which, name, step in steps:
        if step == "a day goes by":
            clock.next_day()
        elif name == provider:
            found.append((f"{clock.now:%Y-%m-%d}", step))
    return found


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_an_end_is_told_once(shelf: Shelf, clock: Clock, mail: Mailbox, lines: list[EventDict]) -> None:
    """And says what it is the end of. A login that was never told of has no end that would be news."""
    hub = Alerts(shelf.open(), [mail], clock)
    await look(hub, "valid")
    await look(hub, "rejected")
    for _ in range(3):
        await look(hub, "valid")

    assert [(alert.status, alert.previous) for alert in mail.got] == [("rejected", "valid"), ("valid", "rejected")]
    assert said(lines) == [("error", "rejected"), ("info", "valid")]
    assert mail.got[1].text.startswith("llm-mcp-hub: the login of one works again.")


async def test_what_is_not_known_is_no_end(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """An unreachable host, or a login that was deleted, does not make a rejected login work."""
    hub = Alerts(shelf.open(), [mail], clock)
    for state in ("rejected", "unknown", "missing"):
        await look(hub, state)
    assert mail.told == [("one", "rejected")]

    await look(hub, "valid")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_the_end_is_told_by_the_next_hub_too(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """A new token in the environment comes with a restart: the hub that told of the old one is gone."""
    first = Alerts(shelf.open(), [mail], clock)
    await look(first, "expired")
    await first.close()
    second = Alerts(shelf.open(), [mail], clock)
    await look(second, "valid")

    assert mail.told == [("one", "expired"), ("one", "valid")]
    assert mail.got[1].previous == "expired"


async def test_the_end_is_told_when_the_last_hub_sees_it(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """As long as one hub sees the login ail, another one's working login is another login."""
    ailing, other = (Alerts(shelf.open(), [mail], clock) for _ in range(2))
    await look(other, "valid")
    await look(ailing, "rejected")
    await look(other, "valid")
    assert mail.told == [("one", "rejected")]

    await look(ailing, "valid")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_a_hub_that_died_has_no_say_for_long(
    shelf: Shelf, clock: Clock, mail: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot see its login work again; what it held lapses."""
    monkeypatch.setattr(alerts_module, "AILING_S", SHORT_S)
    await look(Alerts(shelf.open(), [mail], clock), "rejected")
    await shelf.wait(SHORT_S)
    await look(Alerts(shelf.open(), [mail], clock), "valid")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_a_login_from_elsewhere_is_no_end(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """The token of the environment works, the saved one was refused and its hub has left: it is refused still."""
    saved, env = (Alerts(shelf.open(), [mail], clock) for _ in range(2))
    await look(saved, "rejected", source="saved")
    await saved.close()
    await look(env, "valid", source="env")
    assert mail.told == [("one", "rejected")]

    await look(Alerts(shelf.open(), [mail], clock), "valid", source="saved")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_a_hub_that_finds_another_login_has_seen_the_end(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """`login` saves a token beside the refused one of the environment; no credential at all counts as any."""
    hub = Alerts(shelf.open(), [mail], clock)
    await look(hub, "rejected", source="env")
    await look(hub, "valid", source="saved")
    assert mail.told == [("one", "rejected"), ("one", "valid")]

    clock.next_day()
    other = Alerts(shelf.open(), [mail], clock)
    await look(other, "misconfigured", source=None)
    await other.close()
    await look(Alerts(shelf.open(), [mail], clock), "valid", source="file")

    assert mail.told[2:] == [("one", "misconfigured"), ("one", "valid")]


@pytest.mark.parametrize("the_other", ["closes", "dies"])
async def test_the_end_is_told_although_another_hub_had_not_seen_it_yet(
    shelf: Shelf, clock: Clock, mail: Mailbox, monkeypatch: pytest.MonkeyPatch, the_other: str
) -> None:
    """Both saw the environment's token refused; one sees the saved one work, and the other leaves before its look."""
    one, other = (Alerts(shelf.open(), [mail], clock) for _ in range(2))
    await look(one, "rejected", source="env")
    if the_other == "dies":
        monkeypatch.setattr(alerts_module, "AILING_S", SHORT_S)
    await look(other, "rejected", source="env")
    await look(one, "valid", source="saved")
    assert mail.told == [("one", "rejected")]

    await (other.close() if the_other == "closes" else shelf.wait(SHORT_S))
    await look(one, "valid", source="saved")
    await look(one, "valid", source="saved")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_who_waits_for_anothers_end_does_not_tell_that_of_a_later_alert(
    shelf: Shelf, clock: Clock, mail: Mailbox
) -> None:
    """Both tokens were refused; the environment's is mended. The saved one is told the next day; its hub restarts."""
    env, saved = (Alerts(shelf.open(), [mail], clock) for _ in range(2))
    await look(env, "rejected", source="env")
    await look(saved, "rejected", source="saved")
    await look(env, "valid", source="env")
    clock.next_day()
    await look(saved, "rejected", source="saved")
    told = [("one", "rejected")] * 2
    assert mail.told == told

    await saved.close()
    await look(env, "valid", source="env")
    assert mail.told == told

    again = Alerts(shelf.open(), [mail], clock)
    await look(again, "rejected", source="saved")
    await look(again, "valid", source="saved")
    await look(env, "valid", source="env")

    assert mail.told == [*told, ("one", "valid")]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_a_sink_that_breaks_does_not_reach_who_looks(
    shelf: Shelf, clock: Clock, mail: Mailbox, lines: list[EventDict]
) -> None:
    """Nor the sinks beside it; the log has the alert, and that it did not go out."""
    hub = Alerts(shelf.open(), [Broken(), mail], clock)
    await look(hub, "expired")
    await hub.close()

    assert mail.told == [("one", "expired")]
    assert mail.closed == 1
    assert said(lines) == [("error", "expired")]
    assert [line["error"] for line in lines if line["event"] == "alert not sent"] == ["OSError"]


async def test_what_others_wrote_into_the_store_does_no_harm(shelf: Shelf, clock: Clock, mail: Mailbox) -> None:
    """A record that is not ours counts as absent."""
    store = shelf.open()
    await store.put("alerted:one", b"\xff{", ttl_s=600)
    hub = Alerts(store, [mail], clock)
    await look(hub, "valid")
    assert mail.told == []

    await look(hub, "rejected")
    await look(hub, "valid")

    assert mail.told == [("one", "rejected"), ("one", "valid")]


class Forgetful(RedisStore):
    """Its first answer to `add` is lost on the way."""

    lost = False

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        written = await super().add(key, value, ttl_s=ttl_s)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("made up", action="made up")
        return written


class Blinking(RedisStore):
    """It is away for one question: who holds a lease."""

    blinked = False

    async def holders(self, lease: str) -> list[str]:
        if not self.blinked:
            self.blinked = True
            raise StoreUnavailable("made up", action="made up")
        return await super().holders(lease)


@pytest.fixture
async def lonely(tmp_path: Path) -> AsyncGenerator[tuple[RedisServer, Store, Store]]:
    """A server that can be stopped, and two hubs' stores on it."""
    with RedisServer(tmp_path / "redis") as server:
        async with opened(RedisShelf(server)) as shelf:
            yield server, shelf.open(), shelf.open()


async def test_the_end_is_told_although_the_store_was_away_for_a_moment(
    lonely: tuple[RedisServer, Store, Store], clock: Clock, mail: Mailbox
) -> None:
    """The hub has taken its lease back, and does not get to hear whether another one has one."""
    server, *_ = lonely
    store = Blinking(server.url, timeout_s=DEADLINE_S)
    hub = Alerts(store, [mail], clock)
    await look(hub, "rejected", source="env")
    await look(hub, "valid", source="saved")
    assert mail.told == [("one", "rejected")]

    await look(hub, "valid", source="saved")
    await store.close()

    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_without_the_store_the_log_has_its_line_and_the_rest_waits(
    lonely: tuple[RedisServer, Store, Store], clock: Clock, mail: Mailbox, lines: list[EventDict]
) -> None:
    """One line a state and day; when the store is back one of the hubs sends it, and logs it no second time."""
    server, *stores = lonely
    server.kill()
    hubs = [Alerts(store, [mail], clock) for store in stores]
    for store in stores:
        await until_refused(store)
    for _ in range(3):
        for hub in hubs:
            await look(hub, "rejected")
    assert mail.got == []
    assert said(lines) == [("error", "rejected")] * 2

    server.start()
    for store in stores:
        await until_written(store, "key", b"value")
    for _ in range(3):
        for hub in hubs:
            await look(hub, "rejected")

    assert mail.told == [("one", "rejected")]
    assert said(lines) == [("error", "rejected")] * 2
    for hub in hubs:
        await look(hub, "valid")
    assert mail.told == [("one", "rejected"), ("one", "valid")]


async def test_an_end_without_the_store_is_in_the_log(
    lonely: tuple[RedisServer, Store, Store], clock: Clock, mail: Mailbox, lines: list[EventDict]
) -> None:
    """Once, and of what this hub has logged itself: of the others nobody can know."""
    server, store, _ = lonely
    server.kill()
    await until_refused(store)
    hub = Alerts(store, [mail], clock)
    for state in ("valid", "rejected", "valid", "valid"):
        await look(hub, state)
    await hub.close()

    assert mail.got == []
    assert said(lines) == [("error", "rejected"), ("info", "valid")]


async def test_a_claim_of_which_nobody_heard_is_not_lost(
    lonely: tuple[RedisServer, Store, Store], clock: Clock, mail: Mailbox
) -> None:
    """A store that wrote it and failed to say so: it is told at the next look, and once."""
    server, other, _ = lonely
    store = Forgetful(server.url, timeout_s=DEADLINE_S)
    hub = Alerts(store, [mail], clock)
    await look(hub, "rejected")
    assert mail.got == []

    await look(Alerts(other, [mail], clock), "rejected")
    for _ in range(2):
        await look(hub, "rejected")
    await store.close()

    assert mail.told == [("one", "rejected")]
