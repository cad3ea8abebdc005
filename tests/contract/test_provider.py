"""The contract of `Provider`, for every one of them: its real CLI, against the stand-in of its upstream."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from llm_mcp_hub.errors import AuthMissing, HubError
from llm_mcp_hub.providers import claude_pool
from llm_mcp_hub.providers.base import Alive, Finished, Limits, Text
from tests.contract.conftest import (
    CODES,
    DEADLINE_S,
    Failure,
    Rig,
    all_events,
    answer,
    children,
    first_text,
    kill_children,
    new_ask,
    until,
    until_no_more_children_than,
    wait_until_ended,
    within,
)

pytestmark = pytest.mark.anyio
HELLO = {"claude": "Hello from the stand-in of Claude.", "gemini": "Hello from the stand-in of Gemini."}
"""What a stand-in answers that was told nothing."""
KEPT = {"claude": claude_pool.KEPT, "gemini": 0}
"""How many processes are kept for conversations alone."""


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_in_pieces_and_ends_once(rig: Rig) -> None:
    """Text as it is written, then one end that holds the same text, and nothing behind it."""
    pieces = ["One, ", "two, ", "한국어 👩‍👩‍👧 ", "four."]
    rig.say(*pieces)

    events = await all_events(rig, new_ask(rig))

    *before, end = [event for event in events if not isinstance(event, Alive | Limits)]
    assert before == [Text(piece) for piece in pieces]
    assert isinstance(end, Finished)
    assert end.text == "".join(pieces)
    assert end.stop_reason == "end_turn"
    assert end.usage.input_tokens > 0
    assert end.usage.output_tokens > 0
    assert end.billing.source == "subscription"
    assert end.model


@pytest.mark.parametrize("prompt", ["/about @/etc/passwd", "  $(id)\r\n\t-x", "\x00\x1b[31m\u202e 한국어 🜁", "a\n\n\n"])
async def test_a_prompt_arrives_character_for_character(rig: Rig, prompt: str) -> None:
    """G3; nothing is expanded, run, trimmed or escaped on the way."""
    await answer(rig, prompt)

    assert rig.prompt_of(rig.received[-1]) == prompt


async def test_one_ask_knows_nothing_of_the_one_before(rig: Rig) -> None:
    """Conversations do not touch: neither prompt, system text nor answer of another one may reach the model."""
    rig.say("made-up-answer")
    await answer(rig, "made-up-prompt", system="made-up-system")
    await answer(rig, "another")

    first, second = (request.body.decode() for request in rig.received[-2:])
    assert "made-up-prompt" in first
    assert "made-up-system" in first
    assert "made-up" not in second


async def test_asks_at_once_do_not_mix(rig: Rig) -> None:
    """Four answers on their way at the same time: each asker gets its own, whole."""
    gate = threading.Event()
    rig.say_to_each(lambda prompt: f"An answer to {prompt}, and to nobody else.", gate)
    prompts = [f"question-{number}" for number in range(4)]
    before = len(rig.received)
    asking = [asyncio.ensure_future(all_events(rig, new_ask(rig, prompt))) for prompt in prompts]
    await until(rig, lambda: len(rig.received) == before + len(prompts))

    gate.set()
    ended = await within(asyncio.gather(*asking))

    for prompt, events in zip(prompts, ended, strict=True):
        text = "".join(event.piece for event in events if isinstance(event, Text))
        assert text == events[-1].text == f"An answer to {prompt}, and to nobody else."


# -- early ends --------------------------------------------------------------------------------------------------------


async def test_a_stream_that_is_closed_leaves_the_provider_quiet(rig: Rig) -> None:
    """A deadline or a cancel closes the stream: the request at the upstream ends, and the next ask is answered."""
    rig.hang("half an")
    events = rig.provider.ask(new_ask(rig))
    assert await first_text(events) == "half an"

    await within(events.aclose())

    cut = rig.received[-1]
    await until(rig, lambda: cut.ended == "disconnected")
    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


@pytest.mark.parametrize("after_text", ["half an", ""], ids=["in the middle", "before the first byte"])
async def test_an_ask_that_is_cancelled_leaves_the_provider_quiet(rig: Rig, after_text: str) -> None:
    """The task that asks is cancelled while it waits for the next event."""
    rig.hang(after_text)
    before = len(rig.received)
    asking = asyncio.ensure_future(all_events(rig, new_ask(rig)))
    await until(rig, lambda: len(rig.received) > before)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(asking)

    cut = rig.received[before]
    await until(rig, lambda: cut.ended == "disconnected")
    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


async def test_an_ask_that_leaves_during_the_start_leaves_nothing_half_done(rig: Rig) -> None:
    """The child is being started for it: the next ask gets a sound one."""
    await within(rig.provider.close())
    asking = asyncio.ensure_future(all_events(rig, new_ask(rig)))
    await asyncio.sleep(0)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(asking)

    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", CODES)
async def test_an_upstream_that_fails_is_a_coded_error(rig: Rig, how: Failure) -> None:
    """One code for one cause, whoever the provider is, with its name and one next step; the next ask is answered."""
    rig.fail(how)
    with pytest.raises(HubError) as raised:
        await all_events(rig, new_ask(rig))
    rig.say("Hello again.")

    error = raised.value
    assert (error.code, error.provider) == (CODES[how], rig.provider.traits.name)
    assert error.action
    assert (await answer(rig)).text == "Hello again."


def content_of(file: Path) -> bytes:
    """What the file holds; nothing where it has gone, or is none to be read."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError:
        return b""


async def test_what_was_said_in_a_failed_ask_stays_in_no_file(rig: Rig) -> None:
    """Gemini's CLI writes the whole conversation into two files of its home then, and lives on."""
    mark = f"mark-{os.urandom(6).hex()}"
    rig.fail("the upstream fails")
    with pytest.raises(HubError):
        await all_events(rig, new_ask(rig, f"A question with a {mark}.", system=f"An instruction with a {mark}."))
    rig.say("Well.")
    assert (await answer(rig)).text == "Well."

    def holding() -> list[str]:
        files = [Path(folder, name) for folder, _, names in os.walk(rig.run.path) for name in names]
        return [file.name for file in files if mark.encode() in content_of(file)]

    async with asyncio.timeout(DEADLINE_S):
        while holding():
            await asyncio.sleep(0.1)


async def test_a_child_that_dies_ends_its_ask_with_what_it_had_said(rig: Rig) -> None:
    """The CLI is killed in the middle of an answer: coded, the partial text kept, and the next ask is answered."""
    rig.hang("half an")
    events = rig.provider.ask(new_ask(rig))
    await first_text(events)

    kill_children(rig)
    with pytest.raises(HubError) as raised:
        await first_text(events)

    assert raised.value.code == "upstream_error"
    assert raised.value.partial_text == "half an"
    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


async def test_without_a_login_nothing_is_started(rig: Rig) -> None:
    """The credential is asked for first, and its own error comes through."""
    await within(rig.provider.close())
    before = len(rig.received)
    rig.signed_in = False

    with pytest.raises(AuthMissing):
        await all_events(rig, new_ask(rig))
    await within(rig.provider.warm())

    assert children(rig) == []
    assert len(rig.received) == before


async def test_a_new_login_is_taken_up_without_a_restart(rig: Rig) -> None:
    """The owner logs in anew while a child is warm with the old login: the next ask is signed with the new one."""
    await answer(rig)
    signature = rig.renew_login()

    await answer(rig)

    assert rig.received[-1].headers["authorization"] == f"Bearer {signature}"


# -- children ----------------------------------------------------------------------------------------------------------


async def test_a_warm_provider_starts_nothing_for_an_ask(rig: Rig) -> None:
    """`warm` is for the next ask: the process that answers it was there before, also where another warms already."""
    await answer(rig)
    other = asyncio.ensure_future(rig.provider.warm())
    await asyncio.sleep(0)
    await within(rig.provider.warm())
    before = {child.pid for child in children(rig)}
    gate = threading.Event()
    rig.say("Hello.", gate=gate)
    count = len(rig.received)

    asking = asyncio.ensure_future(answer(rig))
    await until(rig, lambda: len(rig.received) > count)
    during = {child.pid for child in children(rig)}
    gate.set()
    await within(asking)
    await within(other)

    assert before
    assert during <= before


async def test_closing_leaves_no_child_and_no_file(rig: Rig) -> None:
    """Everything that lived is gone, what it wrote too; closing again is fine, and an ask starts anew."""
    await answer(rig)
    await within(rig.provider.warm())
    lived = children(rig)

    await within(rig.provider.close())
    await within(rig.provider.close())

    assert lived
    assert children(rig) == []
    assert {path.name for path in rig.run.path.iterdir()} == {"lock", "empty"}
    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


async def test_closing_while_an_ask_runs_ends_it(rig: Rig) -> None:
    """The hub goes: the ask is told, and its request ends at the upstream."""
    rig.hang("half an")
    events = rig.provider.ask(new_ask(rig))
    await first_text(events)
    cut = rig.received[-1]

    await within(rig.provider.close())
    with pytest.raises(HubError):
        await first_text(events)

    await until(rig, lambda: cut.ended == "disconnected")
    assert children(rig) == []


async def test_killing_does_not_wait_for_the_loop(rig: Rig) -> None:
    """The last resort at exit: when `kill` has returned, every child has its SIGKILL, though nothing was awaited."""
    await answer(rig)
    await within(rig.provider.warm())
    lived = children(rig)

    rig.provider.kill()
    wait_until_ended(lived)  # blocks the loop: nothing else can have ended them

    assert lived
    rig.provider.kill()
    assert (await answer(rig)).text == HELLO[rig.provider.traits.name]


async def test_asks_leave_no_process_behind_them(rig: Rig) -> None:
    """However many were answered: what lives on is what was kept warm before, and a few for the next turns."""
    await within(rig.provider.close())
    await within(rig.provider.warm())
    ahead = len(children(rig))

    for _ in range(5):
        await answer(rig)

    await until_no_more_children_than(rig, ahead + KEPT[rig.provider.traits.name])
    assert ahead == 1


async def test_a_provider_knows_its_models_from_others(rig: Rig) -> None:
    """What is no name of its own is refused before a CLI is started, options and half names included."""
    traits = rig.provider.traits

    assert traits.accepts(traits.default_model)
    assert all(traits.accepts(alias) for alias in traits.aliases)
    assert not any(
        traits.accepts(odd) for odd in ["", " ", "--help", "gpt-4", "auto", f"{traits.name}", f"{traits.name}-"]
    )
    assert not traits.accepts(f"{traits.default_model} ")
    assert not traits.accepts(f"{traits.default_model}\n")
    assert not traits.accepts(f"{traits.default_model}[1m]")


async def test_an_ask_that_is_cancelled_while_it_is_made_quiet_leaves_nothing(rig: Rig) -> None:
    """Its deadline has passed, its CLI does not listen, and its caller leaves before that is known."""
    rig.hang("half an")
    events = rig.provider.ask(new_ask(rig))
    assert await first_text(events) == "half an"
    for child in children(rig):
        child.suspend()
    closing = asyncio.ensure_future(events.aclose())
    await asyncio.sleep(0.1)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)

    await until(rig, lambda: rig.received[-1].ended == "disconnected")  # a CLI that is stopped closes nothing itself
