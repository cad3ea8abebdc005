"""The contract of `Provider` for conversations: what the model reads at a later turn, whoever answered before.

Warm: the provider has answered the turn before and may go on where it was. Cold: it has seen nothing of the
conversation, as after a restart or in another hub. The model reads the same in both.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest

from llm_mcp_hub.conversation import Ask, Part
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers.base import Finished
from tests.contract.conftest import (
    ClaudeRig,
    Rig,
    all_events,
    answer_to,
    children,
    exchange,
    first_text,
    kill_children,
    new_ask,
    new_ask_id,
    next_ask,
    until,
    within,
)

pytestmark = pytest.mark.anyio
Memory = Literal["warm", "cold"]
EITHER = pytest.mark.parametrize("memory", ["warm", "cold"])

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
WEBP = base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"
DATA = {"image/png": PNG, "image/jpeg": JPEG, "image/webp": WEBP, "image/gif": GIF, "application/pdf": PDF}


async def said(rig: Rig, ask: Ask, text: str) -> str:
    """Have this ask answered with this text. Returns it."""
    rig.say(text)
    assert (await answer_to(rig, ask)).text == text
    return text


async def begun(rig: Rig, memory: Memory, system: str | None = None, parts: Sequence[Part] = ()) -> Ask:
    """The second turn of a conversation whose first was answered. Cold: by a provider that has been closed since."""
    first = new_ask(rig, "question-one", system, parts)
    text = await said(rig, first, "answer-one")
    if memory == "cold":
        await within(rig.provider.close())
    return next_ask(first, exchange(first, text), "question-two")


def instead(ask: Ask, prompt: str, parts: Sequence[Part] = ()) -> Ask:
    """Another ask at the same place of the same conversation."""
    return replace(ask, ask_id=new_ask_id(), prompt=prompt, parts=tuple(parts))


def in_order(texts: Sequence[str], *wanted: str) -> bool:
    """Whether each of these stands in the texts once, in this order."""
    everything = "\n".join(texts)
    places = [everything.find(part) for part in wanted]
    return places == sorted(places) and all(everything.count(part) == 1 for part in wanted)


# -- history -----------------------------------------------------------------------------------------------------------


@EITHER
async def test_a_later_turn_has_the_whole_conversation_before_it(rig: Rig, memory: Memory) -> None:
    """Every prompt and every answer once, in order; what is asked now is the last."""
    second = await begun(rig, memory)
    third = next_ask(second, exchange(second, await said(rig, second, "answer-two")), "question-three")

    await answer_to(rig, third)

    one, two, three = rig.received[-3:]
    assert in_order(rig.texts_of(one), "question-one")
    assert in_order(rig.texts_of(two), "question-one", "answer-one", "question-two")
    assert in_order(rig.texts_of(three), "question-one", "answer-one", "question-two", "answer-two", "question-three")
    assert rig.prompt_of(three) == "question-three"


async def test_a_warm_turn_goes_on_in_the_same_session(rig: Rig) -> None:
    """The model finds its earlier words as its own, and no process is started for the turn."""
    second = await begun(rig, "warm")
    await within(rig.provider.warm())
    before = {child.pid for child in children(rig)}
    gate = threading.Event()
    rig.say("answer-two", gate=gate)
    count = len(rig.received)

    asking = asyncio.ensure_future(answer_to(rig, second))
    await until(rig, lambda: len(rig.received) > count)
    during = {child.pid for child in children(rig)}
    gate.set()
    await within(asking)

    assert during <= before
    assert rig.answers_of(rig.received[-1]) == ["answer-one"]


async def test_an_answer_of_the_other_provider_is_told_as_such(rig: Rig) -> None:
    """A live session has missed it, so it cannot be gone on in: all is told anew, with the name of who said it."""
    second = await begun(rig, "warm")
    third = next_ask(second, exchange(second, "answer-two", "other", "other-model-7"), "question-three")
    await said(rig, third, "answer-three")
    fourth = next_ask(third, exchange(third, "answer-three"), "question-four")

    await answer_to(rig, fourth)

    spoken = ["question-one", "answer-one", "question-two", "other-model-7", "answer-two", "question-three"]
    three, four = rig.received[-2:]
    assert in_order(rig.texts_of(three), *spoken)
    assert in_order(rig.texts_of(four), *spoken, "answer-three", "question-four")


async def test_a_long_history_arrives_whole(rig: Rig) -> None:
    """Thirty turns of a conversation that this provider has never seen, half of them the other's, some of them long."""
    ask = new_ask(rig, "question-0;")
    for number in range(30):
        own = None if number % 2 else "other"
        text = f"answer-{number};" + "한국어 👩‍👩‍👧 \r\n\t" * (400 if number % 10 == 3 else 1)
        ask = next_ask(ask, exchange(ask, text, own, own and "other-model-7"), f"question-{number + 1};")

    await answer_to(rig, ask)

    texts = rig.texts_of(rig.received[-1])
    assert in_order(
        texts, *(part for number in range(30) for part in (f"question-{number};", f"answer-{number};")), "question-30;"
    )
    assert "\n".join(texts).count("한국어 👩‍👩‍👧 \r\n\t") == 27 + 3 * 400


# -- what is not in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["failed", "cancelled", "its process died"])
async def test_a_turn_that_did_not_complete_is_not_in_the_next(rig: Rig, ending: str) -> None:
    """Neither its prompt nor the half of an answer that came: the transcript does not have it, so no session may."""
    second = await begun(rig, "warm")
    lost = instead(second, "lost-question")
    if ending == "failed":
        rig.fail("the quota is used up")
        with pytest.raises(HubError):
            await all_events(rig, lost)
    else:
        rig.hang("lost-half-of-an-answer")
        events = rig.provider.ask(lost)
        await first_text(events)
        if ending == "its process died":
            kill_children(rig)
            with pytest.raises(HubError):
                await first_text(events)
        await within(events.aclose())

    await said(rig, second, "answer-two")

    texts = rig.texts_of(rig.received[-1])
    assert in_order(texts, "question-one", "answer-one", "question-two")
    assert "lost" not in "\n".join(texts)


async def test_conversations_at_once_do_not_mix(rig: Rig) -> None:
    """More than are kept warm, all at the same time, three turns each: every request holds its own conversation."""
    names = ["alpha", "beta", "gamma", "delta"]
    asks = {name: new_ask(rig, f"{name}-question-0;", f"{name}-instruction;") for name in names}
    for number in range(3):
        gate = threading.Event()
        rig.say_to_each(lambda prompt: f"{prompt.partition('-')[0]}-answer-to-{prompt.partition('-')[2]}", gate)
        before = len(rig.received)
        asking = {name: asyncio.ensure_future(all_events(rig, ask)) for name, ask in asks.items()}
        await until(rig, lambda before=before: len(rig.received) == before + len(names))
        gate.set()

        for name, ask in asks.items():
            end = (await within(asking[name]))[-1]
            assert isinstance(end, Finished)
            assert end.text == f"{name}-answer-to-question-{number};"
            asks[name] = next_ask(ask, exchange(ask, end.text), f"{name}-question-{number + 1};")

    for request in rig.received[-len(names) :]:
        texts = rig.texts_of(request)
        mine = rig.prompt_of(request).partition("-")[0]
        assert in_order(
            texts,
            f"{mine}-instruction;",
            f"{mine}-question-0;",
            f"{mine}-answer-to-question-0;",
            f"{mine}-question-1;",
            f"{mine}-answer-to-question-1;",
            f"{mine}-question-2;",
        )
        assert not any(f"{other}-" in "\n".join(texts) for other in names if other != mine)


# -- the instruction ---------------------------------------------------------------------------------------------------


@EITHER
async def test_the_instruction_of_the_first_turn_holds_for_the_later_ones(rig: Rig, memory: Memory) -> None:
    """It stands there once, before everything else."""
    second = await begun(rig, memory, system="made-up-instruction")
    third = next_ask(second, exchange(second, await said(rig, second, "answer-two")), "question-three")

    await answer_to(rig, third)

    for request in rig.received[-3:]:
        assert in_order(rig.texts_of(request), "made-up-instruction", "question-one")


# -- verbatim ----------------------------------------------------------------------------------------------------------

ODD = ["/about", "@/etc/passwd", "  /memory show\n", "$(id) !ls", "--help", "\x00\x1b[31m\u202e 한국어 🜁"]


@EITHER
async def test_a_later_prompt_arrives_character_for_character(rig: Rig, memory: Memory) -> None:
    """G3, at the second turn as at the first: nothing is expanded, run, trimmed or escaped."""
    never_seen = new_ask(rig, "question-one")
    for prompt in ODD:
        cold = next_ask(never_seen, exchange(never_seen, "answer-one"), prompt)
        await answer_to(rig, cold if memory == "cold" else instead(await begun(rig, "warm"), prompt))

        assert rig.prompt_of(rig.received[-1]) == prompt


async def test_an_earlier_prompt_is_told_character_for_character(rig: Rig) -> None:
    """G3, for what stands in a transcript: a command in it is not run, a file that it names is not read."""
    for prompt in ODD:
        first = new_ask(rig, prompt)
        second = next_ask(first, exchange(first, f"You said: {prompt}"), "question-two")

        await answer_to(rig, second)

        assert f"You said: {prompt}" in "\n".join(rig.texts_of(rig.received[-1]))
        assert any(text in {prompt, f"{prompt}\n\n"} for text in rig.texts_of(rig.received[-1]))


# -- what is put before a prompt ---------------------------------------------------------------------------------------


@EITHER
async def test_what_is_put_before_a_prompt_stays_in_the_conversation(rig: Rig, memory: Memory) -> None:
    """A file, a picture and a PDF of the first turn are there at the second, in their order, the bytes unchanged."""
    parts = [
        Part(name="notes.txt", mime_type="text/plain", text="the-notes"),
        Part(name="a.png", mime_type="image/png", data=PNG),
        Part(name="b.pdf", mime_type="application/pdf", data=PDF),
    ]
    second = await begun(rig, memory, parts=parts)

    await answer_to(rig, second)

    for request in rig.received[-2:]:
        assert rig.data_of(request) == [("image/png", PNG), ("application/pdf", PDF)]
        assert in_order(rig.texts_of(request), "notes.txt ---\nthe-notes\n", "question-one")
    assert rig.prompt_of(rig.received[-2]) == "question-one"
    assert rig.prompt_of(rig.received[-1]) == "question-two"


async def test_every_kind_of_data_that_a_provider_takes_arrives(rig: Rig) -> None:
    """As it was sent, byte for byte, at a first turn and at a later one, with a prompt that looks like a command."""
    takes = rig.provider.traits.takes
    assert set(takes) == set(DATA)
    ask = await begun(rig, "warm")

    for kind in takes:
        parts = [Part(name="it", mime_type=kind, data=DATA[kind])]
        await answer_to(rig, new_ask(rig, "/about", parts=parts))
        assert rig.data_of(rig.received[-1]) == [(kind, DATA[kind])]
        assert rig.prompt_of(rig.received[-1]) == "/about"

        await answer_to(rig, instead(ask, "@/etc/passwd", parts))
        assert rig.data_of(rig.received[-1]) == [(kind, DATA[kind])]
        assert rig.prompt_of(rig.received[-1]) == "@/etc/passwd"


# -- effort ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_rig", [ClaudeRig], ids=["claude"], indirect=True)
async def test_effort_reaches_the_model(rig: Rig) -> None:
    """As the request's own field, for each of its values, also where the turn before had another one."""
    efforts = rig.provider.traits.efforts
    ask = new_ask(rig, "question-one")

    for effort in (*efforts, efforts[0]):
        ask = replace(ask, effort=effort)
        text = await said(rig, ask, "an answer")
        assert rig.received[-1].json["output_config"]["effort"] == effort
        ask = next_ask(ask, exchange(ask, text), "the next question")

    assert efforts == ("low", "medium", "high")
    assert rig.answers_of(rig.received[-1]) == ["an answer"] * 3
