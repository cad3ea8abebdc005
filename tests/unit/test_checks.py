"""How much a request may hold in all: everything that the provider would get counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_mcp_hub.checks import check_size
from llm_mcp_hub.conversation import Ask, Exchange, Part
from llm_mcp_hub.errors import InvalidRequest
from tests.unit.scripted import ScriptedProvider

TRAITS = replace(ScriptedProvider("one").traits, context_chars=100)
ASK = Ask("ask_1", "one", "hi", "one-1", None, 60)
TURN = Exchange(ask_id="ask_0", provider="one", model="one-1", prompt="p" * 30, answer="a" * 30, at="2026-11-26")


def text(characters: int) -> Part:
    return Part(name="notes", mime_type="text/plain", text="x" * characters)


FULL: dict[str, Ask] = {
    "its prompt": replace(ASK, prompt="x" * 100),
    "its instruction": replace(ASK, system="x" * 98),
    "what is put before it": replace(ASK, parts=(text(90), text(8))),
    "a picture, by a tenth": replace(ASK, parts=(Part(name="p", mime_type="image/png", data=b"x" * 980),)),
    "what was asked before": replace(ASK, history=(TURN,), parts=(text(38),)),
    "what was put before that": replace(ASK, history=(TURN.model_copy(update={"parts": (text(38),)}),)),
}


@pytest.mark.parametrize("ask", FULL.values(), ids=FULL)
def test_what_fills_a_request_is_taken_and_one_character_more_is_not(ask: Ask) -> None:
    """The provider would say so late, or not at all; the next step fits what there is to leave out."""
    check_size(ask, TRAITS)

    with pytest.raises(InvalidRequest) as raised:
        check_size(replace(ask, prompt=ask.prompt + "x"), TRAITS)

    assert "101 characters" in raised.value.message
    assert ("new conversation" in raised.value.action) is bool(ask.history)
