"""The main job: a real client gets a real answer from both providers' own programs."""

from __future__ import annotations

import pytest

from tests.harness import EVERY_WAY, Era, Transport, World, answer_of, connect

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("transport", "era"), EVERY_WAY)
async def test_both_providers_answer(world: World, transport: Transport, era: Era) -> None:
    """One question to each provider, over every transport in both protocol eras."""
    async with connect(world, transport, era) as client:
        claude = await client.call_tool("ask_claude", {"prompt": "hello"})
        gemini = await client.call_tool("ask_gemini", {"prompt": "hello"})

    assert answer_of(claude)["text"] == "Hello from the stand-in of Claude."
    assert answer_of(gemini)["text"] == "Hello from the stand-in of Gemini."
    assert answer_of(claude)["model_source"] == "served"
    assert answer_of(gemini)["model_source"] == "requested"
    world.wait_until_no_child()
