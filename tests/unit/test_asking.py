"""One accepted ask on its way: when it came, how often it is tried, what is kept of a refusal. Against a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import structlog

from llm_mcp_hub import asking
from llm_mcp_hub.errors import Busy, HubError, Refused, Timeout, UpstreamError
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.providers.base import Text
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import ScriptedProvider, Step, done, login

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
LONG = 50.0
PASSING = UpstreamError("It broke.", action="Again.", transient=True)
T = TypeVar("T")


async def within(work: Awaitable[T]) -> T:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


Opened = Callable[..., tuple[Hub, ScriptedProvider]]


@pytest.fixture
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Opened]:
    """Makes a hub of one provider that plays a script, and that is tried again at once; it is closed after the test."""
    monkeypatch.setattr(asking, "RETRY_S", 0.0)
    hubs: list[Hub] = []

    def begin(*scripts: list[Step], queue: int = 1) -> tuple[Hub, ScriptedProvider]:
        provider, store = ScriptedProvider("one", *scripts), SqliteStore(tmp_path)
        table = {"one": Entry(provider, login(store), 1)}
        hubs.append(Hub(table, store=store, deadlines=Deadlines(LONG, LONG, LONG), queue_limit=queue))
        return hubs[-1], provider

    yield begin
    for hub in hubs:
        await within(hub.close())


async def failure(hub: Hub, prompt: str = "hi") -> HubError:
    with pytest.raises(HubError) as raised:
        await within(hub.ask(hub.new_ask("one", prompt)))
    return raised.value


async def test_what_fails_in_passing_is_tried_a_bounded_number_of_times(opened: Opened) -> None:
    """Each try may spend something of the subscription."""
    hub, provider = opened([PASSING], [PASSING], [PASSING], [done()])

    assert isinstance(await failure(hub), UpstreamError)
    assert len(provider.asked) == 3


async def test_what_has_shown_text_is_not_tried_again(opened: Opened) -> None:
    """The caller has seen the beginning of that answer, and the provider has counted it."""
    hub, provider = opened([Text("half an"), PASSING], [done()])

    assert (await failure(hub)).partial_text == "half an"
    assert len(provider.asked) == 1


async def test_what_fails_for_good_is_not_tried_again(opened: Opened) -> None:
    """Only who knows the failure knows that it passes."""
    hub, provider = opened([UpstreamError("It broke.", action="Again.")], [done()])

    await failure(hub)

    assert len(provider.asked) == 1


async def test_what_a_model_said_before_it_declined_is_no_answer(opened: Opened) -> None:
    """Unless the provider hands it out itself."""
    hub, _ = opened([Text("I will n"), Refused("It declined.", action="Ask differently.")])

    assert (await failure(hub)).partial_text is None


async def test_the_deadline_counts_from_the_asks_arrival(opened: Opened) -> None:
    """Also where something was read for it meanwhile, and where it then waits for its place."""
    hub, provider = opened([asyncio.Event()], [done()])
    ask = replace(hub.new_ask("one", "hi", timeout_s=30), arrived=time.monotonic() - 31)

    with pytest.raises(Timeout, match="within 30 s"):
        await within(hub.ask(ask))
    answer = await within(hub.ask(replace(hub.new_ask("one", "hi"), arrived=time.monotonic() - 5)))

    assert answer.duration_ms >= 5_000
    assert provider.open == []


async def test_a_refused_ask_is_logged_without_what_its_caller_calls_a_conversation(opened: Opened) -> None:
    """G7: nobody has looked yet whether there is one, and a client that mixes arguments up puts a prompt there."""
    go_on = asyncio.Event()
    hub, provider = opened([go_on, done()], queue=0)
    running = await within(hub.begin(hub.new_ask("one", "hi")))
    await within(provider.until_asked(1))

    with structlog.testing.capture_logs() as lines, pytest.raises(Busy):
        await within(hub.begin(hub.new_ask("one", "hi", conversation_id="the owner's own words")))
    go_on.set()
    await within(running.ended(None))

    assert [line["event"] for line in lines] == ["ask refused"]
    assert "own words" not in repr(lines)
