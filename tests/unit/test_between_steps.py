"""What happens between two steps of an ask: a limit is met, the store goes and comes, a cancel comes twice or early.

Against a provider that plays a script, and a real store that fails when it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from mcp.client import Client

from llm_mcp_hub import journal as journal_module
from llm_mcp_hub import running as running_module
from llm_mcp_hub.asking import OVERTAKEN
from llm_mcp_hub.conversation import OWNER, QuotaWindow, Usage
from llm_mcp_hub.endings import cancelled
from llm_mcp_hub.errors import BillingBlocked, HubError, Internal, QuotaExhausted, StoreUnavailable
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.providers.base import Finished, Limits, Text
from llm_mcp_hub.running import Running, end
from llm_mcp_hub.serving.server import build_server
from llm_mcp_hub.store.base import COOL, RUNNING, Put
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import SUBSCRIPTION, Pause, ScriptedProvider, Step, done, login

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
LONG = 50.0
PAID = BillingBlocked("Paid extra from here on.", action="Wait.", retry_after_s=600)
T = TypeVar("T")


def paid(text: str = "Hello.") -> Finished:
    """An answer that was paid extra, as the next one would be."""
    return Finished(text, "one-1", "served", "end_turn", Usage(input_tokens=1, output_tokens=1), SUBSCRIPTION, (), PAID)


class Unreliable(SqliteStore):
    """Takes nothing new while it is `full`; holds what is put under `holds` until `go_on`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.full = False
        self.holds = ""
        self.waits, self.go_on = asyncio.Event(), asyncio.Event()

    def _room(self) -> None:
        if self.full:
            raise StoreUnavailable("It is full.", action="Make room.")

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        self._room()
        if self.holds and key.startswith(self.holds):
            self.waits.set()
            await self.go_on.wait()
        await super().put(key, value, ttl_s=ttl_s, listed=listed)

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        self._room()
        return await super().add(key, value, ttl_s=ttl_s)

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        self._room()
        return await super().append(key, value, at=at, ttl_s=ttl_s, also=also)


Begin = Callable[..., tuple[Hub, Unreliable]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncGenerator[Begin]:
    """A hub with a way of its own to one store, for a provider that plays these scripts."""
    stores: list[Unreliable] = []

    def make(
        *scripts: Sequence[Step], places: int = 8, instance: str = "hub", whole: float = LONG, dead: Sequence[str] = ()
    ) -> tuple[Hub, Unreliable]:
        store = Unreliable(tmp_path)
        stores.append(store)
        hub = Hub(
            {"one": Entry(ScriptedProvider("one", *scripts), login(store), places)},
            store=store,
            deadlines=Deadlines(whole, LONG, LONG),
            queue_limit=8,
            instance=instance,
            dead=lambda: dead,
        )
        return hub, store

    yield make
    for store in stores:
        await store.close()


async def within(work: Awaitable[T]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await work


async def begun(hub: Hub, conversation_id: str | None = None) -> Running:
    return await within(hub.begin(hub.new_ask("one", "hi", conversation_id=conversation_id)))


async def told(hub: Hub, conversation_id: str | None = None) -> str:
    """The text of the next answer, or the code that it ends with."""
    try:
        return (await within(hub.ask(hub.new_ask("one", "hi", conversation_id=conversation_id)))).text
    except HubError as error:
        return error.code


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not happened():
            await asyncio.sleep(0.01)


# -- a limit -----------------------------------------------------------------------------------------------------------


async def test_an_ask_that_waits_for_its_place_meets_what_another_hub_has_met_meanwhile(begin: Begin) -> None:
    """Places count over all hubs: its own hub has not seen the answer that was paid extra."""
    go = asyncio.Event()
    first, _ = begin([go, paid()], places=1, instance="a")
    second, _ = begin([done("paid again")], places=1, instance="b")
    one = await begun(first)
    other = await begun(second)
    assert other.watch.position == 1

    go.set()
    await within(one.ended(None))
    await within(other.ended(None))

    assert other.error is not None
    assert other.error.code == "billing_blocked"


@pytest.mark.parametrize("left_to", ["the beat", "the next ask", "the end"])
async def test_a_limit_that_the_store_did_not_take_stops_the_next_hub_all_the_same(begin: Begin, left_to: str) -> None:
    """It is written down with the records that the store did not take, before the next ask, or as the hub ends."""
    first, store = begin([paid()], instance="a")
    store.full = True
    assert await told(first) == "Hello."
    blocked = await told(first)
    store.full = False
    if left_to == "the beat":
        await until(lambda: not first._cooldowns._unwritten)  # pyright: ignore[reportPrivateUsage]
    elif left_to == "the end":
        await within(first.close())
    else:
        assert await told(first) == "billing_blocked"

    second, _ = begin([done("paid again")], instance="b")

    assert blocked == "billing_blocked"
    assert await told(second) == "billing_blocked"


@pytest.mark.parametrize("how", ["deadline", "cancel", "failure"])
async def test_a_limit_that_a_lost_answer_has_shown_stops_the_next_hub(begin: Begin, how: str) -> None:
    """What was paid extra and came to nothing would be paid extra again and again."""
    window = QuotaWindow(window="week", used_fraction=1.0, resets_at=None, observed_at="2026-11-23T12:00:00Z")
    last = Internal("It broke.", action="Ask again.") if how == "failure" else Pause(LONG)
    first, _ = begin(
        [Limits((window,), PAID), Text("half an"), last], instance="a", whole=1.0 if how == "deadline" else LONG
    )
    running = await begun(first)
    if how == "cancel":
        await until(lambda: running.first_text_ms is not None)
        await within(first.cancel(OWNER, running.ask.ask_id))
    await within(running.ended(None))
    assert running.error is not None

    second, _ = begin([done("paid again")], instance="b")

    assert await told(second) == "billing_blocked"


async def test_extra_usage_stops_other_hubs_before_the_answer_is_whole(begin: Begin) -> None:
    """It may take minutes: all that is asked meanwhile would be paid."""
    go = asyncio.Event()
    first, _ = begin([Limits((), PAID), Text("half an"), go, done()], instance="a")
    second, _ = begin([done("paid again")], instance="b")
    running = await begun(first)
    await until(lambda: running.first_text_ms is not None)

    assert await told(second) == "billing_blocked"

    go.set()
    await within(running.ended(None))
    assert running.error is None


@pytest.mark.parametrize("shown_by", ["the windows", "the error"])
@pytest.mark.parametrize("writing", [COOL, "ledger:"])
async def test_a_limit_is_not_lost_with_an_ask_that_is_cancelled_while_it_is_written_down(
    begin: Begin, shown_by: str, writing: str
) -> None:
    """The failure has been told by the provider, and its caller leaves just now."""
    used_up = QuotaExhausted("Used up.", action="Wait.", retry_after_s=600, shows="accepted")
    window = QuotaWindow(window="week", used_fraction=1.0, resets_at=None, observed_at="2026-11-23T12:00:00Z")
    script = [used_up] if shown_by == "the error" else [Limits((window,), PAID), Internal("Broke.", action="Again.")]
    first, store = begin(script, [done("paid again")], instance="a")
    store.holds = writing.partition("{")[0]
    running = await begun(first)
    await within(store.waits.wait())
    cancelling = asyncio.create_task(first.cancel(OWNER, running.ask.ask_id))
    await until(lambda: running.why is not None)
    store.holds = ""
    store.go_on.set()
    await within(cancelling)
    second, _ = begin([done("paid again")], instance="b")

    code = "quota_exhausted" if shown_by == "the error" else "billing_blocked"
    assert await told(first) == code
    assert await told(second) == code


# -- a store that takes nothing more -----------------------------------------------------------------------------------


async def test_the_next_turn_does_not_wait_for_one_that_the_store_did_not_take(begin: Begin) -> None:
    """Its answer has been delivered; what is held for it can be let go of."""
    hub, store = begin([done()], [done("two")], [done("three")])
    first = await within(hub.ask(hub.new_ask("one", "hi")))
    running = await begun(hub, first.conversation_id)
    store.full = True
    await within(running.ended(None))

    assert running.answer is not None
    assert await told(hub, first.conversation_id) == "three"


async def test_the_list_says_of_an_ask_what_its_result_says(begin: Begin) -> None:
    """The store still has it as one that was accepted."""
    go = asyncio.Event()
    hub, store = begin([go, done()])
    running = await begun(hub)
    store.full = True
    go.set()
    await within(running.ended(None))

    (listed,) = await within(hub.recent(OWNER))

    assert listed == await within(hub.result(OWNER, running.ask.ask_id))
    assert listed.status == "completed"


async def test_an_answer_that_was_written_late_is_one_like_any_other(begin: Begin) -> None:
    """Its caller was told that it could not be kept. It could: whoever comes for it must not be told so again."""
    hub, store = begin([done()])
    store.full = True
    degraded = await within(hub.ask(hub.new_ask("one", "hi")))
    store.full = False
    await until(lambda: not hub._floor._unsaved)  # pyright: ignore[reportPrivateUsage]

    other, _ = begin([done("two")], instance="b")
    kept = (await within(other.result(OWNER, degraded.ask_id))).answer

    assert degraded.warnings
    assert kept is not None
    assert (kept.text, kept.warnings) == (degraded.text, ())
    assert kept.conversation_id is not None
    assert await told(other, kept.conversation_id) == "two"


async def test_a_turn_that_is_still_to_be_written_is_written_before_the_next_one_reads(begin: Begin) -> None:
    """The store takes writes again, and the next turn comes before the beat does."""
    hub, store = begin([done()], [done("two")], [done("three")])
    first = await within(hub.ask(hub.new_ask("one", "hi")))
    running = await begun(hub, first.conversation_id)
    store.full = True
    await within(running.ended(None))
    store.full = False

    third = await within(hub.ask(hub.new_ask("one", "hi", conversation_id=first.conversation_id)))

    assert third.warnings == ()
    assert first.conversation_id is not None
    _, turns = await within(hub.transcripts.get(OWNER, first.conversation_id))
    assert [turn.answer for turn in turns] == ["Hello.", "two", "three"]


async def test_a_late_turn_that_was_overtaken_says_so(begin: Begin) -> None:
    """Its store is back, and its answer there: but it will be no turn."""
    hub, store = begin([done()], [done("two")], [done("three")])
    first = await within(hub.ask(hub.new_ask("one", "hi")))
    running = await begun(hub, first.conversation_id)
    store.full = True
    await within(running.ended(None))
    third = await within(hub.ask(hub.new_ask("one", "hi", conversation_id=first.conversation_id)))
    store.full = False
    await until(lambda: not hub._floor._unsaved)  # pyright: ignore[reportPrivateUsage]

    two, three = [(await within(hub.result(OWNER, id))).answer for id in (running.ask.ask_id, third.ask_id)]

    assert two is not None
    assert three is not None
    assert (two.warnings, three.warnings) == ((), (OVERTAKEN,))


async def test_an_ask_whose_end_was_never_written_down_has_ended_all_the_same(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many ended while the store was full that its hub let go of it: it is not said to run for ever."""
    monkeypatch.setattr(running_module, "UNSAVED", 1)
    monkeypatch.setattr(journal_module, "CONFIRM_S", 0.01)
    go = asyncio.Event()
    hub, store = begin([go, done()], [go, done()])
    asks = [await begun(hub), await begun(hub)]
    store.full = True
    go.set()
    for running in asks:
        await within(running.ended(None))
    store.full = False
    await store.lapse([RUNNING], holders_of="hub/")

    ends = [await within(hub.result(OWNER, running.ask.ask_id)) for running in asks]

    assert sorted(record.status for record in ends) == ["completed", "failed"]


async def test_an_error_with_half_a_character_is_the_end_of_its_ask(begin: Begin) -> None:
    """A provider's words can hold one, as JSON can. No encoding can: its record could not be written."""
    hub, _ = begin([Internal("It is \ud83d.", action="Look at \udcff.")])
    running = await begun(hub)
    await within(running.ended(None))

    assert not hub.is_asked
    assert running.error is not None
    assert (running.error.message, running.error.action) == ("It is ?.", "Look at ?.")
    assert (await within(hub.result(OWNER, running.ask.ask_id))).status == "failed"


async def test_an_ask_that_a_dead_hub_left_hides_no_other_one_in_a_full_store(begin: Begin) -> None:
    """That it has ended cannot be written down now, but told."""
    gone, its_store = begin([done()], [asyncio.Event()], instance="gone")
    ended = await within(gone.ask(gone.new_ask("one", "hi")))
    left = await begun(gone)
    await its_store.lapse([RUNNING], holders_of="gone/")
    other, store = begin(instance="other", dead=["gone"])
    store.full = True

    listed = {record.ask_id: record.status for record in await within(other.recent(OWNER))}

    assert listed == {ended.ask_id: "completed", left.ask.ask_id: "failed"}
    assert left.task is not None
    end(left, cancelled(left.ask))
    await within(left.ended(None))


# -- a cancel ----------------------------------------------------------------------------------------------------------


async def test_a_caller_who_cancels_twice_while_it_is_accepted_leaves_no_ask(begin: Begin) -> None:
    """A client that repeats its cancel, two Ctrl-C: nobody waits for what would run on."""
    hub, store = begin([asyncio.Event()])
    store.holds = "ask:"
    asking = asyncio.create_task(hub.begin(hub.new_ask("one", "hi")))
    await within(store.waits.wait())
    for _ in range(2):
        asking.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await within(asking)
    store.holds = ""
    store.go_on.set()

    async with asyncio.timeout(DEADLINE_S):
        while [record.status for record in await hub.recent(OWNER)] != ["cancelled"]:
            await asyncio.sleep(0.01)

    await until(lambda: not hub.is_asked)  # its end is told before its leases are given back


async def test_a_call_that_is_cancelled_while_its_ticket_is_written_leaves_no_ask(begin: Begin) -> None:
    """Nobody has got the ticket: it would run on for nobody."""
    hub, store = begin([asyncio.Event()])
    store.full = True  # so the ask is written down with its ticket, not before
    async with Client(build_server(hub, "1")) as client:
        calling = asyncio.create_task(client.call_tool("ask_one", {"prompt": "hi", "wait_s": 2}))
        await until(lambda: hub.is_asked)
        store.full, store.holds = False, "ask:"
        await until(lambda: hub.has_tickets)
        (running,) = hub._floor.all()  # pyright: ignore[reportPrivateUsage]
        calling.cancel()
        await until(lambda: running.why is not None)
        store.holds = ""
        store.go_on.set()
        await within(running.ended(None))

    assert [record.status for record in await within(hub.recent(OWNER))] == ["cancelled"]


async def test_an_ask_that_is_ended_before_its_first_step_ends(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is cancelled before it has begun never begins: its place and its record would stay for ever."""
    hub, _ = begin([done()], places=1)
    hold = hub.rest.hold

    def at_once() -> None:
        monkeypatch.setattr(hub.rest, "hold", hold)
        (running,) = hub._floor.all()  # pyright: ignore[reportPrivateUsage]
        end(running, cancelled(running.ask))

    monkeypatch.setattr(hub.rest, "hold", at_once)
    running = await begun(hub)
    await within(running.ended(None))

    assert running.error is not None
    assert running.error.code == "cancelled"
    assert not hub.is_asked
    assert hub.loads()["one"].running == 0
    assert (await within(hub.result(OWNER, running.ask.ask_id))).status == "cancelled"


async def test_an_answer_that_is_whole_is_not_thrown_away_with_the_hub(begin: Begin) -> None:
    """What it has shown of the login is being written down as the hub is told to end."""
    hub, store = begin([Text("Whole."), done("Whole.")])
    store.holds = "ledger:"
    running = await begun(hub)
    await within(store.waits.wait())
    ending = asyncio.create_task(hub.end_running())
    await asyncio.sleep(0.01)
    store.go_on.set()
    await within(ending)

    record = await within(hub.result(OWNER, running.ask.ask_id))

    assert record.answer is not None
    assert record.answer.text == "Whole."
