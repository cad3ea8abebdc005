"""One ask, whatever happens to it: places, deadlines, errors, ends. Against a provider that plays a script."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import anyio
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub import rest
from llm_mcp_hub.conversation import PROMPT_LIMIT, Answer, Ask, Usage
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import (
    AuthRejected,
    BillingBlocked,
    Busy,
    HubError,
    Internal,
    InvalidRequest,
    NotFound,
    QuotaExhausted,
    Refused,
    Timeout,
    UpstreamError,
)
from llm_mcp_hub.hub import Deadlines, Entry, Hub, Watch
from llm_mcp_hub.providers.base import Alive, Event, Finished, Restarted, Text
from llm_mcp_hub.store.base import PLACES, RUNNING, TALKING, Put, key
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import SUBSCRIPTION, Login, Pause, ScriptedProvider, ScriptedReader, Step, done, login
from tests.unit.strategies import ANY_TEXT

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
LONG = 50.0
"""Seconds of a deadline that must not be what ends an ask."""
T = TypeVar("T")


class _Made:
    """Where the hubs of a test keep their records, and what is to be closed after it."""

    folder = Path()
    stores: ClassVar[list[SqliteStore]] = []


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path) -> Generator[None]:
    """Each test has a store of its own."""
    _Made.folder = tmp_path
    _Made.stores.clear()
    yield
    for store in _Made.stores:
        anyio.run(store.close)


def make_store() -> SqliteStore:
    store = SqliteStore(_Made.folder)
    _Made.stores.append(store)
    return store


async def within(work: Awaitable[T]) -> T:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


def make_hub(
    *providers: ScriptedProvider,
    places: int = 8,
    queue: int = 8,
    whole: float = LONG,
    first_text: float = LONG,
    idle: float = LONG,
    states: dict[str, Login] | None = None,
) -> Hub:
    store = make_store()

    def entry(provider: ScriptedProvider) -> Entry:
        name = provider.traits.name
        return Entry(provider, login(store, ScriptedReader((states or {}).get(name, "valid")), name), places)

    return Hub(
        {provider.traits.name: entry(provider) for provider in providers},
        store=store,
        deadlines=Deadlines(whole=whole, first_text=first_text, idle=idle),
        queue_limit=queue,
    )


async def failure(hub: Hub, ask: Ask, watch: Watch | None = None) -> HubError:
    with pytest.raises(HubError) as raised:
        await within(hub.ask(ask, watch))
    return raised.value


# -- an answer ---------------------------------------------------------------------------------------------------------


async def test_an_answer_is_the_providers_end_in_the_contracts_shape() -> None:
    """Every field of `Answer` comes from the ask, the provider's end, or the clock."""
    end = Finished(
        "Hello.", "one-7", "served", "max_tokens", Usage(input_tokens=3, output_tokens=4), SUBSCRIPTION, ("mind",)
    )
    hub = make_hub(ScriptedProvider("one", [Alive(), Text("Hel"), Text("lo."), end]))
    ask = hub.new_ask("one", "hi", model="one-1")

    answer = await within(hub.ask(ask))

    shape = answer.model_dump()
    assert shape.pop("duration_ms") >= shape.pop("first_text_ms") >= 0
    assert shape.pop("conversation_id").startswith("conv_")
    assert shape == {
        "ask_id": ask.ask_id,
        "status": "completed",
        "provider": "one",
        "model": "one-7",
        "model_source": "served",
        "text": "Hello.",
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 4, "cached_input_tokens": None, "thinking_tokens": None},
        "billing": {"source": "subscription", "evidence": "fuse"},
        "warnings": ("mind",),
    }


async def test_the_end_decides_what_the_text_is() -> None:
    """The provider may have repeated itself: what was streamed is a preview."""
    hub = make_hub(ScriptedProvider("one", [Text("Helo"), done("Hello.")]))

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "Hello."


async def test_an_answer_that_did_not_stream_has_no_first_text() -> None:
    """Null is the truth; 0 or the duration would be a guess."""
    hub = make_hub(ScriptedProvider("one", [Alive(), done()]))

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).first_text_ms is None


async def test_who_watches_sees_every_event_and_counts_the_text() -> None:
    """Progress is made of this; a new beginning sets the count back."""
    seen: list[Event] = []
    counts: list[int] = []

    def note(event: Event) -> None:
        seen.append(event)
        counts.append(watch.characters)

    watch = Watch(note)
    script = [Alive(), Text("Hel"), Restarted(), Text("Hello"), Text("."), done("Hello.")]
    hub = make_hub(ScriptedProvider("one", script))

    await within(hub.ask(hub.new_ask("one", "hi"), watch))

    assert seen == script
    assert counts == [0, 3, 0, 5, 6, 6]


async def test_who_watches_ends_nothing_by_failing() -> None:
    """What shows an answer may break; the answer is spent."""

    def broken(_event: Event) -> None:
        raise ValueError("made up")

    watch = Watch(broken)
    hub = make_hub(ScriptedProvider("one", [Text("Hel"), Text("lo"), done("Hello")]))

    answer = await within(hub.ask(hub.new_ask("one", "hi"), watch))

    assert (answer.text, watch.characters) == ("Hello", 5)


async def test_a_character_that_was_cut_in_two_arrives_whole() -> None:
    """No piece that is shown, and no answer, holds half of a character: nothing could encode it."""
    seen: list[Event] = []
    hub = make_hub(ScriptedProvider("one", [Text("a\ud83d"), Text("\ude00b\ud83d"), done("a\ud83d\ude00b\ud83d")]))

    answer = await within(hub.ask(hub.new_ask("one", "hi"), Watch(seen.append)))

    assert seen[:2] == [Text("a"), Text("😀b")]
    assert answer.text == "a😀b\ufffd"
    answer.model_dump_json()


# -- deadlines ---------------------------------------------------------------------------------------------------------


async def test_an_answer_that_takes_too_long_is_ended() -> None:
    """The ask's own deadline; what had arrived is kept, and the provider is quiet when the caller hears of it."""
    one = ScriptedProvider("one", [Text("half an"), asyncio.Event()])
    hub = make_hub(one)

    error = await failure(hub, hub.new_ask("one", "hi", timeout_s=1))

    assert isinstance(error, Timeout)
    assert "within 1 s" in error.message
    assert "timeout_s" in error.action
    assert error.partial_text == "half an"
    assert one.open == []


async def test_an_answer_that_does_not_begin_is_ended() -> None:
    """Signs of life are no text: this deadline is not fed by them."""
    one = ScriptedProvider("one", [Alive(), asyncio.Event()])
    hub = make_hub(one, first_text=0.2)

    error = await failure(hub, hub.new_ask("one", "hi"))

    assert isinstance(error, Timeout)
    assert "No text" in error.message
    assert "HUB_FIRST_TEXT_TIMEOUT_S" in error.action
    assert error.partial_text is None
    assert one.open == []


async def test_an_answer_that_falls_silent_is_ended() -> None:
    """A stalled stream is noticed by nobody else; the CLI waits for 300 s."""
    one = ScriptedProvider("one", [Text("half an"), asyncio.Event()])
    hub = make_hub(one, idle=0.2)

    error = await failure(hub, hub.new_ask("one", "hi"))

    assert isinstance(error, Timeout)
    assert "Nothing came" in error.message
    assert "HUB_IDLE_TIMEOUT_S" in error.action
    assert error.partial_text == "half an"
    assert one.open == []


async def test_any_sign_of_life_feeds_the_idle_deadline() -> None:
    """A model that thinks for long is not silent."""
    slowly: list[Step] = [step for _ in range(5) for step in (Pause(0.5), Alive())]
    hub = make_hub(ScriptedProvider("one", [*slowly, done()]), idle=2.0)

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "Hello."


async def test_once_text_has_come_the_first_text_deadline_is_over() -> None:
    """It is about the beginning, not about the whole."""
    hub = make_hub(ScriptedProvider("one", [Text("Hel"), Pause(0.3), Text("lo."), done()]), first_text=0.2)

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "Hello."


async def test_an_answer_that_begins_anew_has_begun() -> None:
    """The CLI repeats a cut stream late: the first text did come in time, and the repetition has its chance."""
    script = [Text("Hel"), Pause(0.3), Restarted(), Pause(0.1), Text("Hello."), done()]
    hub = make_hub(ScriptedProvider("one", script), first_text=0.2)

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "Hello."


async def test_void_text_is_not_handed_out_as_partial() -> None:
    """What a new beginning made void is not the caller's any more."""
    hub = make_hub(ScriptedProvider("one", [Text("void"), Restarted(), Text("kept"), asyncio.Event()]), idle=0.2)

    assert (await failure(hub, hub.new_ask("one", "hi"))).partial_text == "kept"


async def test_the_default_deadline_is_the_operators() -> None:
    """HUB_ASK_TIMEOUT_S, for an ask that names none."""
    hub = make_hub(ScriptedProvider("one"), whole=7)

    assert hub.new_ask("one", "hi").timeout_s == 7
    assert hub.new_ask("one", "hi", timeout_s=2).timeout_s == 2


# -- places and the queue ----------------------------------------------------------------------------------------------


async def test_asks_run_at_once_as_far_as_there_are_places() -> None:
    """Two places, three asks: the third waits, and takes the first place that is free."""
    first, second = asyncio.Event(), asyncio.Event()
    one = ScriptedProvider("one", [first, done("1")], [second, done("2")], [done("3")])
    hub = make_hub(one, places=2)
    asks = [hub.new_ask("one", "hi") for _ in range(3)]
    watches = [Watch() for _ in asks]
    running = [asyncio.ensure_future(hub.ask(ask, watch)) for ask, watch in zip(asks, watches, strict=True)]
    await within(one.until_asked(2))

    assert one.open == [ask.ask_id for ask in asks[:2]]
    assert [watch.position for watch in watches] == [0, 0, 1]

    second.set()
    assert [(await within(task)).text for task in running[1:]] == ["2", "3"]
    assert not running[0].done()
    first.set()
    assert (await within(running[0])).text == "1"


async def test_the_queue_is_served_in_order() -> None:
    """First come, first served; each knows its position."""
    hold = asyncio.Event()
    one = ScriptedProvider("one", [hold, done()], [done()], [done()], [done()])
    hub = make_hub(one, places=1)
    asks = [hub.new_ask("one", "hi") for _ in range(4)]
    watches = [Watch() for _ in asks]
    running = [asyncio.ensure_future(hub.ask(ask, watch)) for ask, watch in zip(asks, watches, strict=True)]
    await within(one.until_asked(1))
    await asyncio.sleep(0)

    assert [watch.position for watch in watches] == [0, 1, 2, 3]
    hold.set()
    await within(asyncio.gather(*running))
    assert one.asked == [ask.ask_id for ask in asks]
    assert [watch.position for watch in watches] == [0, 0, 0, 0]


@pytest.mark.parametrize("places", [1, 4, 16])
async def test_the_queue_is_fair_between_principals(places: int) -> None:
    """200 asks at once, most of one who came first: the others take turns with him, and do not wait for his crowd."""
    hold = [asyncio.Event() for _ in range(200)]
    one = ScriptedProvider("one", *([held, done()] for held in hold))
    hub = make_hub(one, places=places, queue=240)  # of which one may take a half
    whose = ["anna"] * 120 + ["bob", "carl", "dora", "emil"] * 20
    asks = [hub.new_ask("one", "hi", principal=f"client:{name}") for name in whose]
    running = [asyncio.ensure_future(hub.ask(ask)) for ask in asks]
    most = 0
    for number, held in enumerate(hold):
        await within(one.until_asked(min(200, number + places)))
        most = max(most, len(one.open))
        held.set()
    await within(asyncio.gather(*running))

    assert most == places
    assert sorted(one.asked) == sorted(ask.ask_id for ask in asks)
    names = dict(zip((ask.ask_id for ask in asks), whose, strict=True))
    for name in ("bob", "carl", "dora", "emil"):
        turns = [turn for turn, ask_id in enumerate(one.asked) if names[ask_id] == name]
        # A round is a turn of each of the five; before the first, one had all places.
        late = [turn - (places + 5 * nth + 4) for nth, turn in enumerate(turns)]
        assert max(late) <= 0, (name, late)
    for name in set(whose):  # and nobody is overtaken by himself
        asked = [ask_id for ask_id in one.asked if names[ask_id] == name]
        assert asked == [ask.ask_id for ask in asks if names[ask.ask_id] == name]


@pytest.mark.parametrize(("principal", "taken"), [("client:anna", 3), ("owner", 5)])
async def test_one_of_several_clients_takes_half_of_the_queue(principal: str, taken: int) -> None:
    """There is room for whoever comes beside it, and its next place is theirs. The owner is alone, and may have all."""
    hold = [asyncio.Event() for _ in range(6)]
    one = ScriptedProvider("one", *([held, done()] for held in hold))
    hub = make_hub(one, places=1, queue=4)
    theirs = [hub.new_ask("one", "hi", principal=principal) for _ in range(taken)]
    running = [asyncio.ensure_future(hub.ask(ask)) for ask in theirs]
    await within(one.until_asked(1))

    error = await failure(hub, hub.new_ask("one", "hi", principal=principal))

    assert (error.code, error.retryable, bool(error.retry_after_s)) == ("busy", True, True)
    other = hub.new_ask("one", "hi", principal="client:bob")
    if principal == "owner":
        assert (await failure(hub, other)).code == "busy"
    else:
        running.append(asyncio.ensure_future(hub.ask(other)))
        async with asyncio.timeout(DEADLINE_S):
            while hub.is_asked and other.ask_id not in [*one.asked]:
                hold[len(one.asked) - 1].set()
                await asyncio.sleep(0)
        assert one.asked.index(other.ask_id) == 1
    for held in hold:
        held.set()
    await within(asyncio.gather(*running))


async def test_a_full_queue_is_busy_and_nothing_is_started() -> None:
    """Better a coded error now than an ask that can only run out of time."""
    hold = asyncio.Event()
    one = ScriptedProvider("one", [hold, done()], [done()])
    hub = make_hub(one, places=1, queue=1)
    running = [asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi"))) for _ in range(2)]
    await within(one.until_asked(1))

    error = await failure(hub, hub.new_ask("one", "hi"))

    assert isinstance(error, Busy)
    assert error.retryable
    assert error.retry_after_s
    hold.set()
    await within(asyncio.gather(*running))
    assert len(one.asked) == 2


async def test_without_a_queue_a_free_place_is_still_given() -> None:
    """HUB_QUEUE_LIMIT=0 means that nobody waits, not that nobody is served."""
    hub = make_hub(ScriptedProvider("one", [done()]), places=1, queue=0)

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "Hello."


async def test_waiting_counts_against_the_asks_own_deadline() -> None:
    """DESIGN 3.1: the whole deadline runs from arrival, queue included; the waiter leaves no trace."""
    hold = asyncio.Event()
    one = ScriptedProvider("one", [hold, done()], [done("next")])
    hub = make_hub(one, places=1)
    running = asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi")))
    await within(one.until_asked(1))

    watch = Watch()
    error = await failure(hub, hub.new_ask("one", "hi", timeout_s=1), watch)

    assert isinstance(error, Timeout)
    assert "No place" in error.message
    assert watch.position == 0
    hold.set()
    await within(running)
    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "next"
    assert len(one.asked) == 2


async def test_a_waiter_that_is_cancelled_takes_no_place_with_it() -> None:
    """The next in the queue gets what it would have got."""
    hold = asyncio.Event()
    one = ScriptedProvider("one", [hold, done()], [done("next")])
    hub = make_hub(one, places=1, queue=2)
    running, leaving, staying = (asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi"))) for _ in range(3))
    await within(one.until_asked(1))
    await asyncio.sleep(0)

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(leaving)
    hold.set()

    await within(running)
    assert (await within(staying)).text == "next"


async def test_one_providers_crowd_does_not_hinder_the_other() -> None:
    """Each has its own places."""
    hold = asyncio.Event()
    one, two = ScriptedProvider("one", [hold, done()]), ScriptedProvider("two", [done("two")])
    hub = make_hub(one, two, places=1, queue=0)
    running = asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi")))
    await within(one.until_asked(1))

    assert (await within(hub.ask(hub.new_ask("two", "hi")))).text == "two"
    hold.set()
    await within(running)


ENDS: dict[str, Sequence[Step]] = {
    "an answer": [done()],
    "a coded error": [Text("x"), UpstreamError("It broke.", action="Again.")],
    "a surprise": [RuntimeError("made up")],
    "no end": [Text("x")],
    "silence": [asyncio.Event()],
}


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
async def test_however_an_ask_ends_its_place_is_free_again(script: Sequence[Step]) -> None:
    """One place, two asks: a place that is not given back shows at the second."""
    hub = make_hub(ScriptedProvider("one", script, [done("second")]), places=1, queue=0, idle=0.2)
    await asyncio.gather(within(hub.ask(hub.new_ask("one", "hi"))), return_exceptions=True)

    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "second"


# -- cancelling --------------------------------------------------------------------------------------------------------


async def test_a_cancelled_ask_leaves_the_provider_quiet() -> None:
    """G5: by the time the canceller hears of it, nothing runs, and the place is free."""
    one = ScriptedProvider("one", [Text("half an"), asyncio.Event()], [done("second")])
    hub = make_hub(one, places=1, queue=0)
    running = asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi")))
    await within(one.until_asked(1))
    await asyncio.sleep(0)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(running)

    assert one.open == []
    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "second"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "surprise",
    [RuntimeError("sk-ant-oat01-secret"), TimeoutError("x"), StopIteration(), KeyError("x"), OSError(5, "x")],
    ids=lambda error: type(error).__name__,
)
async def test_a_surprise_is_an_internal_error_that_quotes_nothing(surprise: Exception) -> None:
    """Whatever a provider did not foresee: coded, with the ask's id to find it in the log, and no foreign text."""
    one = ScriptedProvider("one", [Text("half an"), surprise])
    hub = make_hub(one)
    ask = hub.new_ask("one", "hi")

    error = await failure(hub, ask)

    assert isinstance(error, Internal)
    assert (error.provider, error.ask_id) == ("one", ask.ask_id)
    assert "secret" not in json.dumps(error.details())
    assert one.open == []


async def test_a_provider_that_ends_without_an_answer_is_an_error() -> None:
    """An empty success would be a lie."""
    hub = make_hub(ScriptedProvider("one", [Alive(), Text("half an")]))

    assert isinstance(await failure(hub, hub.new_ask("one", "hi")), Internal)


async def test_a_coded_error_comes_through_with_the_ask_named() -> None:
    """The provider's own words, and where they belong."""
    told = Refused("It declined.", action="Ask differently.", partial_text="half \ud83d")
    hub = make_hub(ScriptedProvider("one", [told]), ScriptedProvider("two"))
    ask = hub.new_ask("one", "hi")

    error = await failure(hub, ask)

    assert isinstance(error, Refused)
    assert (error.message, error.action) == ("It declined.", "Ask differently. Or use ask_two.")
    assert (error.provider, error.ask_id) == ("one", ask.ask_id)
    assert error.partial_text == "half \ufffd"


async def test_asks_that_are_given_the_same_error_are_each_told_of_their_own() -> None:
    """All who wait for one start of a CLI get its one error: no ask's id or next step may end up in another's."""
    shared = UpstreamError("It did not start.", action="Again.")
    hub = make_hub(ScriptedProvider("one", [shared], [shared]), ScriptedProvider("two"))
    asks = [hub.new_ask("one", "hi") for _ in range(2)]

    errors = await within(asyncio.gather(*(failure(hub, ask) for ask in asks)))

    assert [error.ask_id for error in errors] == [ask.ask_id for ask in asks]
    assert {error.action for error in errors} == {"Again. Or use ask_two."}


@pytest.mark.parametrize(
    "told",
    [
        QuotaExhausted("Used up.", action="Wait."),
        AuthRejected("Refused.", action="Log in."),
        BillingBlocked("Not paid.", action="Wait."),
        UpstreamError("It broke.", action="Again."),
        Timeout("Late.", action="Again."),
    ],
    ids=lambda error: error.code,
)
async def test_the_next_step_names_the_other_provider_where_it_helps(told: HubError) -> None:
    """DESIGN 3.2: when the other provider is usable, the action says so."""
    hub = make_hub(ScriptedProvider("one", [told]), ScriptedProvider("two"))

    assert (await failure(hub, hub.new_ask("one", "hi"))).action.endswith(" Or use ask_two.")


@pytest.mark.parametrize(("may_ask", "named"), [(None, True), ("one two", True), ("one", False), ("", False)])
async def test_a_provider_that_the_caller_may_not_ask_is_no_way_out(may_ask: str | None, named: bool) -> None:
    """Its tool would only refuse."""
    hub = make_hub(ScriptedProvider("one", [UpstreamError("It broke.", action="Again.")]), ScriptedProvider("two"))
    ask = replace(hub.new_ask("one", "hi"), may_ask=None if may_ask is None else frozenset(may_ask.split()))

    assert ("ask_two" in (await failure(hub, ask)).action) is named


async def test_a_hub_that_is_about_to_end_takes_no_new_ask_and_finishes_what_runs() -> None:
    """Refused with a time; the ask that runs is not touched, and ends as a record when its time is over."""
    provider = ScriptedProvider("one", [Text("so far"), asyncio.Event()])
    hub = make_hub(provider, ScriptedProvider("two"))
    running = await within(hub.begin(hub.new_ask("one", "hi")))
    await provider.until_asked(1)
    hub.take_no_more(time.monotonic() + 30)
    refusals = [await failure(hub, hub.new_ask(name, "hi")) for name in ("one", "two")]

    assert [(error.code, error.retryable) for error in refusals] == [("busy", True)] * 2
    assert all(0 < (error.retry_after_s or 0) <= 30 for error in refusals)
    assert not any("ask_" in error.action for error in refusals)
    assert hub.is_asked
    assert await within(hub.end_running()) == 1
    record = await hub.result("owner", running.ask.ask_id)
    assert (record.status, record.failure and record.failure.retryable) == ("failed", True)
    assert await within(hub.end_running()) == 0


@pytest.mark.parametrize("state", ["expired", "missing", "misconfigured"])
async def test_a_provider_whose_login_is_not_usable_is_no_way_out(state: Login) -> None:
    """Sending a caller from one dead login to the next helps nobody."""
    hub = make_hub(
        ScriptedProvider("one", [UpstreamError("It broke.", action="Again.")]),
        ScriptedProvider("two"),
        states={"two": state},
    )

    assert "two" not in (await failure(hub, hub.new_ask("one", "hi"))).action


@pytest.mark.parametrize(
    "told",
    [InvalidRequest("Wrong.", action="Mend it."), NotFound("Not here.", action="Look."), Internal("x", action="Log.")],
    ids=lambda error: error.code,
)
async def test_what_the_other_provider_cannot_mend_does_not_name_it(told: HubError) -> None:
    """A wrong request is wrong there too."""
    hub = make_hub(ScriptedProvider("one", [told]), ScriptedProvider("two"))

    assert "two" not in (await failure(hub, hub.new_ask("one", "hi"))).action


async def test_the_other_provider_is_named_once() -> None:
    """A provider may name it itself."""
    told = UpstreamError("It broke.", action="Again, or use ask_two.")
    hub = make_hub(ScriptedProvider("one", [told]), ScriptedProvider("two"))

    assert (await failure(hub, hub.new_ask("one", "hi"))).action == "Again, or use ask_two."


# -- what is asked -----------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "blank": ({"prompt": " \n\t"}, "prompt"),
    "empty": ({"prompt": ""}, "prompt"),
    "blank for JavaScript": ({"prompt": "\ufeff \ufeff"}, "prompt"),
    "too long": ({"prompt": "x" * (PROMPT_LIMIT + 1)}, "prompt"),
    "half a character": ({"prompt": "the owner's words \ud800"}, "prompt"),
    "system too long": ({"prompt": "hi", "system": "x" * (PROMPT_LIMIT + 1)}, "system"),
    "half a character in system": ({"prompt": "hi", "system": "the owner's words \udfff"}, "system"),
    "another provider's model": ({"prompt": "hi", "model": "two-1"}, "model"),
    "an option as a model": ({"prompt": "hi", "model": "--help"}, "model"),
    "a model with a line end": ({"prompt": "hi", "model": "one-1\n"}, "model"),
    "no time": ({"prompt": "hi", "timeout_s": 0}, "timeout_s"),
    "too much time": ({"prompt": "hi", "timeout_s": 3601}, "timeout_s"),
    "no number of seconds": ({"prompt": "hi", "timeout_s": float("nan")}, "timeout_s"),
    "endless": ({"prompt": "hi", "timeout_s": float("inf")}, "timeout_s"),
}


@pytest.mark.parametrize(("given", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_by_the_argument_and_never_quoted(given: dict[str, Any], named: str) -> None:
    """Before anything is started; the message says which argument, and holds nothing of the prompt."""
    hub = make_hub(ScriptedProvider("one"))

    with pytest.raises(InvalidRequest) as raised:
        hub.new_ask("one", **given)

    assert named in raised.value.message
    assert "owner's words" not in raised.value.message + raised.value.action
    assert raised.value.action


def test_a_prompt_of_the_largest_size_is_taken() -> None:
    """The limit is the limit, in characters and not in bytes."""
    hub = make_hub(ScriptedProvider("one"))

    assert len(hub.new_ask("one", "한" * PROMPT_LIMIT).prompt) == PROMPT_LIMIT


@pytest.mark.parametrize(("model", "wanted"), [(None, "one-1"), ("", "one-1"), ("small", "small"), ("one-9", "one-9")])
def test_the_model_is_the_one_that_was_asked_for_or_the_default(model: str | None, wanted: str) -> None:
    """Aliases and full names pass as they are."""
    assert make_hub(ScriptedProvider("one")).new_ask("one", "hi", model=model).model == wanted


def test_an_asks_id_cannot_be_guessed() -> None:
    """It is what a ticket is fetched by."""
    hub = make_hub(ScriptedProvider("one"))
    ids = {hub.new_ask("one", "hi").ask_id for _ in range(100)}

    assert len(ids) == 100
    assert min(len(name) for name in ids) >= 20


async def test_a_provider_that_is_not_there_is_not_found() -> None:
    """With the names of those that are."""
    hub = make_hub(ScriptedProvider("one"), ScriptedProvider("two"))

    with pytest.raises(NotFound) as asked:
        hub.new_ask("three", "hi")
    with pytest.raises(NotFound) as looked:
        await hub.token_status("three")

    for raised in (asked, looked):
        assert "one" in raised.value.action
        assert "two" in raised.value.action


async def test_a_login_can_be_asked_for_alone_or_with_all() -> None:
    """`token_status(provider?)`."""
    hub = make_hub(ScriptedProvider("one"), ScriptedProvider("two"), states={"two": "expired"})

    known = await hub.token_status()

    assert {name: status.status for name, status in known.items()} == {"one": "valid", "two": "expired"}
    assert list(await hub.token_status("two")) == ["two"]


REFUSED = AuthRejected("Not this one.", action="Make another.")


async def test_what_an_ask_shows_of_a_login_is_known_for_free() -> None:
    """An answer proves it, a refusal ends it, and every other hub on the store knows."""
    hub = make_hub(ScriptedProvider("one", [done()], [REFUSED], [done()]))
    another = make_hub(ScriptedProvider("one"))
    seen: list[tuple[str, str | None]] = []
    for expected in (None, "auth_rejected", None):
        if expected is None:
            await within(hub.ask(hub.new_ask("one", "hi")))
        else:
            await failure(hub, hub.new_ask("one", "hi"))
        (status,) = (await another.token_status()).values()
        assert status.evidence is not None
        seen.append((status.status, status.evidence.level))

    assert seen == [("valid", "proven"), ("rejected", "proven"), ("valid", "proven")]


async def test_a_login_that_was_refused_is_no_way_out() -> None:
    """What is known to fail is not offered."""
    hub = make_hub(
        ScriptedProvider("one", [UpstreamError("It broke.", action="Again.")]), ScriptedProvider("two", [REFUSED])
    )
    await failure(hub, hub.new_ask("two", "hi"))

    assert "two" not in (await failure(hub, hub.new_ask("one", "hi"))).action


async def test_text_proves_a_login_though_the_ask_is_cancelled() -> None:
    """What came of it came from the provider."""
    never = asyncio.Event()
    provider = ScriptedProvider("one", [Text("Hel"), never])
    hub = make_hub(provider)
    watch = Watch()
    running = await within(hub.begin(hub.new_ask("one", "hi"), watch))
    await within(provider.until_asked(1))
    async with asyncio.timeout(DEADLINE_S):
        while not watch.characters:
            await asyncio.sleep(0)

    await within(hub.stop(running))

    (status,) = (await hub.token_status()).values()
    assert (status.evidence and status.evidence.level, status.last_success_at is not None) == ("proven", True)


async def test_evidence_is_of_the_login_that_the_ask_had() -> None:
    """A login that is changed while an ask runs is not blamed for what the one before met."""
    go_on = asyncio.Event()
    store, reader = make_store(), ScriptedReader()
    provider = ScriptedProvider("one", [go_on, REFUSED])
    hub = Hub(
        {"one": Entry(provider, login(store, reader), 1)},
        store=store,
        deadlines=Deadlines(LONG, LONG, LONG),
        queue_limit=0,
    )
    running = await within(hub.begin(hub.new_ask("one", "hi")))
    await within(provider.until_asked(1))

    reader.mark = "another"
    go_on.set()
    await within(running.ended(None))

    assert (await hub.token_status())["one"].status == "valid"
    reader.mark = "made-up"
    assert (await hub.token_status())["one"].status == "rejected"


async def test_what_stops_a_hub_from_getting_warm_is_known_before_the_first_ask() -> None:
    """A dead login is told at the start, not when somebody needs it."""
    provider = ScriptedProvider("one")
    provider.stops_warming = REFUSED
    hub = make_hub(provider)

    await within(hub.warm())

    assert (await hub.token_status())["one"].status == "rejected"


async def test_to_verify_spends_one_tiny_ask_a_minute_over_all_hubs() -> None:
    """And leaves no ask and no conversation behind."""
    providers = [ScriptedProvider("one", [done()]) for _ in range(2)]  # whichever hub is first
    hub, another = map(make_hub, providers)
    assert (await hub.token_status(verify=False))["one"].last_success_at is None

    statuses = await asyncio.gather(*(within(one.token_status(verify=True)) for one in [hub, another] * 5))
    after = await another.token_status()

    assert sum(len(provider.asked) for provider in providers) == 1
    assert all(status["one"].usable for status in statuses)
    assert sum("It was not asked again" in status["one"].message for status in statuses) == 9
    assert after["one"].evidence is not None
    assert after["one"].evidence.level == "proven"
    for principal in ("owner", "hub"):
        assert await hub.recent(principal) == []
        assert await hub.transcripts.newest(principal, 10) == []


async def test_a_proof_that_failed_without_a_word_on_the_login_is_told() -> None:
    """The status is what it was before, and must not look like proven just now."""
    provider = ScriptedProvider(
        "one", [done()], [Timeout("No answer within 60 s.", action="Ask again.", provider="one")]
    )
    hub = make_hub(provider)
    await within(hub.ask(hub.new_ask("one", "Hello?")))
    [status] = (await within(hub.token_status(verify=True))).values()

    assert (status.status, status.usable) == ("valid", True)
    assert status.message.endswith("It could not be proven now (timeout): No answer within 60 s.")
    assert "could not be proven" not in (await hub.token_status())["one"].message


async def test_a_proof_that_a_limit_keeps_from_being_asked_is_told() -> None:
    """The provider is not asked as long as it has said that it would not answer."""
    used_up = QuotaExhausted("It is used up.", action="Wait.", retry_after_s=600)
    provider = ScriptedProvider("one", [used_up])
    hub = make_hub(provider)
    with pytest.raises(QuotaExhausted):
        await within(hub.ask(hub.new_ask("one", "Hello?")))

    [status] = (await within(hub.token_status(verify=True))).values()

    assert len(provider.asked) == 1
    assert status.usable
    assert status.message.endswith("It could not be proven now (quota_exhausted): It is used up.")


async def test_what_a_refused_proof_shows_is_told_once() -> None:
    """By the status itself."""
    hub = make_hub(ScriptedProvider("one", [REFUSED]))

    [status] = (await within(hub.token_status(verify=True))).values()

    assert status.status == "rejected"
    assert "could not be proven" not in status.message


async def test_there_is_nothing_to_verify_without_a_login() -> None:
    """No ask is spent on what is known to be missing."""
    provider = ScriptedProvider("one")
    hub = make_hub(provider, states={"one": "missing"})

    assert (await hub.token_status(verify=True))["one"].status == "missing"
    assert provider.asked == []


async def test_whoever_watches_is_told_at_once_what_an_ask_has_shown() -> None:
    """Alerts and subscribers do not wait for the next look; a watcher that fails takes nothing from the others."""
    hub = make_hub(ScriptedProvider("one", [REFUSED]))
    told: asyncio.Queue[str] = asyncio.Queue()

    async def fails(_known: object) -> None:
        raise OSError("made up")

    async def listens(known: Mapping[str, TokenStatus]) -> None:
        told.put_nowait(known["one"].status)

    hub.logins.watchers += [fails, listens]
    watching = asyncio.ensure_future(hub.logins.watch())
    assert await within(told.get()) == "valid"

    await failure(hub, hub.new_ask("one", "hi"))

    assert await within(told.get()) == "rejected"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


# -- the life of a hub -------------------------------------------------------------------------------------------------


async def test_only_providers_with_a_login_are_warmed() -> None:
    """The others would only fail, or ask for a login."""
    one, two = ScriptedProvider("one"), ScriptedProvider("two")

    await within(make_hub(one, two, states={"two": "missing"}).warm())

    assert (one.told, two.told) == (["warm"], [])


async def test_leaving_the_hub_closes_kills_and_releases_in_this_order() -> None:
    """First the gentle way, then the certain one, then what the children lived in."""
    one, store = ScriptedProvider("one"), make_store()
    hub = Hub(
        {"one": Entry(one, login(store), 1)},
        store=store,
        deadlines=Deadlines(LONG, LONG, LONG),
        queue_limit=1,
        release=lambda: one.told.append("released"),
    )

    async with hub:
        assert one.told == []

    assert one.told == ["close", "kill", "released"]


async def test_a_provider_that_fails_to_close_does_not_save_its_children() -> None:
    """All of them are killed, its own and the others'."""
    one, two = ScriptedProvider("one"), ScriptedProvider("two")
    one.fails_to_close = True

    with pytest.raises(OSError, match="made up"):
        await within(make_hub(one, two).close())

    assert "kill" in one.told
    assert two.told == ["close", "kill"]


async def test_an_idle_hub_lets_its_children_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over stdio there is a hub for each editor window; not while an ask runs, and asks may follow."""
    monkeypatch.setattr(rest, "AFTER_S", 0.05)
    one = ScriptedProvider("one", [Pause(0.2), done()], [done("after")])
    hub = make_hub(one)
    hub.rest.wanted = True
    running = asyncio.ensure_future(hub.ask(hub.new_ask("one", "hi")))

    await within(running)
    assert one.told == []
    await within(one.until_told("close"))
    assert (await within(hub.ask(hub.new_ask("one", "hi")))).text == "after"
    await within(hub.close())


async def test_a_serving_hub_keeps_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` stays warm."""
    monkeypatch.setattr(rest, "AFTER_S", 0.0)
    one = ScriptedProvider("one", [done()])
    hub = make_hub(one)

    await within(hub.ask(hub.new_ask("one", "hi")))
    for _ in range(10):  # turns of the loop, of which a timer of 0 s would need one
        await asyncio.sleep(0)

    assert one.told == []


# -- what is written down ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
async def test_the_log_tells_of_the_ask_and_nothing_of_its_text(script: Sequence[Step]) -> None:
    """G7: one line at least for each end, with the id; no word of prompt, system, answer or partial text."""
    words = "the-owners-own-words"
    spoken = [Text(f"{words}-streamed"), *script]
    hub = make_hub(ScriptedProvider("one", spoken), idle=0.2)
    ask = hub.new_ask("one", f"{words}-asked", system=f"{words}-system")

    with structlog.testing.capture_logs() as lines:
        await asyncio.gather(within(hub.ask(ask)), return_exceptions=True)

    assert any(line.get("ask_id") == ask.ask_id and "duration_ms" in line for line in lines)
    assert words not in repr(lines)


# -- properties --------------------------------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.just(Alive()),
    st.just(Restarted()),
    ANY_TEXT.map(Text),
    ANY_TEXT.map(done),
    st.sampled_from([Refused("No.", action="x"), RuntimeError("x"), TimeoutError(), ValueError("x")]),
)


@given(st.lists(EVENTS, max_size=8))
def test_any_script_ends_in_an_answer_or_a_coded_error(script: list[Step]) -> None:
    """Whatever a provider does, in whatever order: one of the two, fit for JSON, and nothing left open."""

    async def play() -> None:
        one = ScriptedProvider("one", script)
        hub = make_hub(one)
        watch = Watch()
        [outcome] = await asyncio.gather(within(hub.ask(hub.new_ask("one", "hi"), watch)), return_exceptions=True)
        if isinstance(outcome, HubError):
            json.dumps(outcome.details(), allow_nan=False).encode()
            assert outcome.ask_id
        else:
            assert isinstance(outcome, Answer)
            outcome.model_dump_json().encode()
            assert any(isinstance(step, Finished) for step in script)
        assert one.open == []
        assert watch.position == 0

    with structlog.testing.capture_logs():  # printing a traceback for each example would take a minute
        asyncio.run(play())


class Torn(SqliteStore):
    """Nothing comes through any more once a turn has been written, as for a hub that was killed then."""

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        written = await super().append(key, value, at=at, ttl_s=ttl_s, also=also)
        await self.close()
        return written


async def test_an_answer_and_its_turn_are_written_as_one() -> None:
    """Whatever becomes of the hub: no conversation goes on from an answer whose ask is told as failed."""
    store = Torn(_Made.folder)
    hub = Hub(
        {"one": Entry(ScriptedProvider("one", [done("Whole.")]), login(store), 8)},
        store=store,
        deadlines=Deadlines(LONG, LONG, LONG),
        queue_limit=8,
    )
    answer = await within(hub.ask(hub.new_ask("one", "hi")))
    assert answer.conversation_id is not None
    another = make_hub(ScriptedProvider("one", [done("More.")]))

    record = await another.result("owner", answer.ask_id)

    assert (record.status, record.answer) == ("completed", answer)
    _head, turns = await another.transcripts.get("owner", answer.conversation_id)
    assert [turn.ask_id for turn in turns] == [answer.ask_id]
    # The dead hub still holds the conversation, and has nothing more to say in it.
    next_turn = another.new_ask("one", "and?", conversation_id=answer.conversation_id)
    assert (await within(another.ask(next_turn))).text == "More."


async def test_a_conversation_is_free_at_once_when_its_hub_died_before_it_wrote_the_ask_down() -> None:
    """There is no record that tells what became of it, only that the hub which has the turn is dead."""
    first = make_hub(ScriptedProvider("one", [done("One.")]))
    answer = await within(first.ask(first.new_ask("one", "hi")))
    assert answer.conversation_id is not None
    store = make_store()
    turn = key(TALKING, who="owner", conversation_id=answer.conversation_id)
    assert await within(store.take(turn, "gone/ask_gone", limit=1, ttl_s=LONG))
    hub = Hub(
        {"one": Entry(ScriptedProvider("one", [done("Two.")]), login(store), 1)},
        store=store,
        deadlines=Deadlines(LONG, LONG, LONG),
        queue_limit=0,
        dead=lambda: ["gone"],
    )

    again = await within(hub.ask(hub.new_ask("one", "and?", conversation_id=answer.conversation_id)))

    assert again.text == "Two."


class Held(SqliteStore):
    """Ended records wait before they are written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waits, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        if b'"failed"' in value:
            self.waits.set()
            await self.go_on.wait()
        await super().put(key, value, ttl_s=ttl_s, listed=listed)


async def test_a_cancel_that_comes_while_a_failure_is_written_down_changes_nothing() -> None:
    """Or the ask would stay on the floor for ever, with its place and its conversation."""
    store = Held(_Made.folder)
    hub = Hub(
        {"one": Entry(ScriptedProvider("one", [Refused("No.", action="Ask otherwise.")]), login(store), 1)},
        store=store,
        deadlines=Deadlines(LONG, LONG, LONG),
        queue_limit=0,
    )
    running = await within(hub.begin(hub.new_ask("one", "hi")))
    await within(store.waits.wait())
    cancelling = asyncio.ensure_future(hub.cancel("owner", running.ask.ask_id))
    await asyncio.sleep(0)
    store.go_on.set()

    record = await within(cancelling)

    assert record.status == "failed"
    assert not hub.is_asked
    assert [await store.holders(lease) for lease in (RUNNING, PLACES.format(provider="one"))] == [[], []]
    await store.close()


async def test_what_an_answer_has_shown_to_be_paid_extra_stops_the_next_hub_unless_its_owner_pays() -> None:
    """Each `llm-mcp-hub ask` is a hub of its own: the first such answer must be the last that nobody allowed."""
    blocks = BillingBlocked("Paid extra from here on.", action="Wait.", retry_after_s=600)
    end = Finished(
        "Hello.", "one-1", "served", "end_turn", Usage(input_tokens=1, output_tokens=1), SUBSCRIPTION, blocks=blocks
    )
    first = make_hub(ScriptedProvider("one", [end]))
    careful, generous = (
        Hub(
            {"one": Entry(ScriptedProvider("one", [done()]), login(store), 8, pays_extra=pays)},
            store=store,
            deadlines=Deadlines(LONG, LONG, LONG),
            queue_limit=8,
        )
        for pays, store in ((False, make_store()), (True, make_store()))
    )

    await within(first.ask(first.new_ask("one", "hi")))

    assert isinstance(await failure(careful, careful.new_ask("one", "hi")), BillingBlocked)
    assert (await within(generous.ask(generous.new_ask("one", "hi")))).text == "Hello."
