"""What a hub tells of an ask while it lives: to those who count it, and one line to the log. A scripted provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import Busy, HubError, NotFound, QuotaExhausted, UpstreamError
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.observer import Ending, Load
from llm_mcp_hub.providers.base import Text
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import ScriptedProvider, Step, done, login

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
LONG = 50.0
PROMPT = "what somebody asked"
ANSWER = "what was answered"
T = TypeVar("T")


class Listening:
    """An observer that writes down what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def accepted(self, ask: Ask) -> Listening:
        self.told.append(("accepted", ask.provider))
        return self

    def refused(self, provider: str, code: str) -> None:
        self.told.append(("refused", provider, code))

    def tried_again(self, code: str) -> None:
        self.told.append(("tried again", code))

    def ended(self, ending: Ending) -> None:
        self.told.append(ending)


async def within(work: Awaitable[T]) -> T:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


Opened = Callable[..., Hub]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncGenerator[Opened]:
    """Makes a hub whose provider plays this script; it is closed after the test."""
    hubs: list[Hub] = []

    def begin(*scripts: list[Step], listening: Listening | None = None, places: int = 1, queue: int = 1) -> Hub:
        store = SqliteStore(tmp_path)
        hub = Hub(
            {"one": Entry(ScriptedProvider("one", *scripts), login(store), places)},
            store=store,
            deadlines=Deadlines(whole=LONG, first_text=LONG, idle=LONG),
            queue_limit=queue,
            observers=() if listening is None else (listening, listening),
            children=lambda _provider: (5, 7),
        )
        hubs.append(hub)
        return hub

    yield begin
    for hub in hubs:
        await within(hub.close())


async def test_each_who_listens_follows_an_ask_to_its_answer(opened: Opened) -> None:
    """Once for each: that it was accepted, that it was tried again, and how it ended, with its times in order."""
    listening = Listening()
    failing = UpstreamError("made up", action="Wait.", transient=True)
    hub = opened([failing], [Text("Hel"), done(ANSWER)], listening=listening)

    answer = await within(hub.ask(hub.new_ask("one", PROMPT)))

    words = [told for told in listening.told if not isinstance(told, Ending)]
    endings = [told for told in listening.told if isinstance(told, Ending)]
    assert words == [*[("accepted", "one")] * 2, *[("tried again", "upstream_error")] * 2]
    assert len(endings) == 2
    assert (endings[0].answer, endings[0].error) == (answer, None)
    assert 0 <= (endings[0].queue_ms or 0) <= (endings[0].first_text_ms or 0) <= endings[0].duration_ms


async def test_a_failed_ask_ends_with_its_error(opened: Opened) -> None:
    """It was accepted, so it is no refusal."""
    listening = Listening()
    hub = opened([QuotaExhausted("made up", action="Wait.")], listening=listening)

    with pytest.raises(HubError):
        await within(hub.ask(hub.new_ask("one", PROMPT)))

    ending = listening.told[-1]
    assert ending.answer is None
    assert ending.error.code == "quota_exhausted"
    assert ending.first_text_ms is None


async def test_an_ask_that_breaks_the_hub_ends_for_those_who_listen(opened: Opened) -> None:
    """Or a span stays open, and a count is short, of just the ask that somebody will look for."""
    listening = Listening()
    hub = opened([RuntimeError(PROMPT)], listening=listening)

    with pytest.raises(HubError):
        await within(hub.ask(hub.new_ask("one", PROMPT)))

    assert listening.told[-1].error.code == "internal"


async def test_an_ask_that_is_not_accepted_is_a_refusal(opened: Opened) -> None:
    """A full queue is what an operator wants to see, and it has no ask that ends."""
    listening, go_on = Listening(), asyncio.Event()
    hub = opened([go_on, done()], listening=listening, queue=0)
    running = await within(hub.begin(hub.new_ask("one", PROMPT)))

    with pytest.raises(Busy):
        await within(hub.begin(hub.new_ask("one", PROMPT)))
    go_on.set()
    await within(running.ended(None))
    with pytest.raises(NotFound):
        await within(hub.begin(hub.new_ask("one", PROMPT, conversation_id="conv_of_nobody")))

    for code in ("busy", "not_found"):
        assert listening.told.count(("refused", "one", code)) == 2  # one for each who listens
    assert sum(isinstance(told, Ending) for told in listening.told) == 2


async def test_the_load_of_a_hub_is_what_it_does_now(opened: Opened) -> None:
    """Places and queue of this hub, and its children."""
    go_on = asyncio.Event()
    hub = opened([go_on, done()], [done()])
    first = await within(hub.begin(hub.new_ask("one", PROMPT)))
    second = await within(hub.begin(hub.new_ask("one", PROMPT)))
    while second.watch.position != 1 or first.watch.position:
        await within(asyncio.sleep(0))

    busy = hub.loads()
    go_on.set()
    await within(asyncio.gather(first.ended(None), second.ended(None)))

    assert busy == {"one": Load(1, 1, 1, children=5, children_started=7)}
    assert hub.loads() == {"one": Load(0, 0, 1, children=5, children_started=7)}


async def test_an_ask_that_comes_while_its_hub_ends_is_a_refusal(opened: Opened) -> None:
    """What a drain costs can be counted."""
    listening = Listening()
    hub = opened(listening=listening)
    hub.take_no_more(until=0.0)

    with pytest.raises(Busy):
        await within(hub.begin(hub.new_ask("one", PROMPT)))

    assert listening.told == [("refused", "one", "busy")] * 2


# -- the log -----------------------------------------------------------------------------------------------------------


async def lines_of(work: Awaitable[object]) -> list[dict[str, Any]]:
    """What the hub logs meanwhile, but for what only DEBUG shows."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await within(work)
    return [dict(line) for line in lines if line["log_level"] != "debug"]


async def test_an_answered_ask_is_one_line_that_says_all(opened: Opened) -> None:
    """Whoever reads the log finds by an id what was asked of whom, how long each part took, and what it used."""
    hub = opened([Text("Hel"), done(ANSWER)])
    ask = hub.new_ask("one", PROMPT)

    with structlog.contextvars.bound_contextvars(client="laptop", program="a-client"):
        (line,) = await lines_of(hub.ask(ask))

    times = {name: line.pop(name) for name in ("queue_ms", "first_text_ms", "duration_ms")}
    assert 0 <= times["queue_ms"] <= times["first_text_ms"] <= times["duration_ms"]
    assert line.pop("conversation_id").startswith("conv_")
    assert line == {
        "event": "ask answered",
        "log_level": "info",
        "ask_id": ask.ask_id,
        "client": "laptop",
        "program": "a-client",
        "provider": "one",
        "model": "one-1",
        "served": "one-1",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "prompt_chars": len(PROMPT),
        "answer_chars": len(ANSWER),
    }


@pytest.mark.parametrize(
    ("step", "event", "code", "level"),
    [
        (QuotaExhausted(PROMPT, action=PROMPT), "ask failed", "quota_exhausted", "warning"),
        (RuntimeError(PROMPT), "ask broke", "internal", "error"),
    ],
)
async def test_a_failed_ask_is_one_line_with_its_code(
    opened: Opened, step: Step, event: str, code: str, level: str
) -> None:
    """And not with the words of the error, which a provider may have chosen."""
    hub = opened([step])

    async def fails() -> None:
        with pytest.raises(HubError):
            await hub.ask(hub.new_ask("one", PROMPT))

    (line,) = await lines_of(fails())

    assert (line["event"], line["code"], line["log_level"]) == (event, code, level)
    assert {"ask_id", "conversation_id", "provider", "model", "queue_ms", "duration_ms"} <= set(line)
    assert PROMPT not in str({name: value for name, value in line.items() if name != "exc_info"})


async def test_a_cancelled_ask_is_one_line(opened: Opened) -> None:
    """It is no failure of anybody's."""
    hub = opened([Text(ANSWER), asyncio.Event()])

    async def cancels() -> None:
        running = await hub.begin(hub.new_ask("one", PROMPT))
        await hub.stop(running)

    (line,) = await lines_of(cancels())

    assert (line["event"], line["code"], line["log_level"]) == ("ask cancelled", "cancelled", "info")


REFUSED = {"event": "ask refused", "log_level": "warning", "provider": "one", "model": "one-1"}


async def test_an_ask_whose_files_are_refused_is_one_line(opened: Opened) -> None:
    """Who runs the hub sees that somebody was refused, and not what was named."""
    hub = opened()

    async def refused() -> None:
        with pytest.raises(HubError):
            await hub.with_material(hub.new_ask("one", PROMPT), files=["/of/somebody.txt"])

    (line,) = await lines_of(refused())

    assert line == {**REFUSED, "code": "invalid_request"}


async def test_a_refused_ask_is_one_line(opened: Opened) -> None:
    """Though it has no id: with what is known of it, and not with the id of nothing, which may be any words."""
    hub = opened()

    async def refused() -> None:
        with pytest.raises(HubError):
            await hub.begin(hub.new_ask("one", PROMPT, conversation_id="conv_of_nobody"))

    (line,) = await lines_of(refused())

    assert line == {**REFUSED, "code": "not_found"}
