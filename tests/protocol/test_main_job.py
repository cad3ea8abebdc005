"""The main job: a real client gets a real answer from both providers' own programs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import DEADLINE_S, EVERY_WAY, ROOT, Era, Transport, World, answer_of, connect, run_command


@pytest.mark.anyio
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


def test_the_live_demonstration_needs_no_token_of_the_owners_clients(world: World) -> None:
    """`make demo LIVE=1`, here with stand-ins in the owner's settings: their own hub may want tokens over HTTP."""
    run_command(world, "client", "add", "laptop")
    before = (world.state / "clients.json").read_bytes()

    shown = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), "--live"],
        env=world.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "All of it worked." in shown.stdout
    assert shown.stdout.count("Hello from the stand-in of") == 5
    assert (world.state / "clients.json").read_bytes() == before
