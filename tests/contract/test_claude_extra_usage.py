"""Paid extra usage, and asks of Claude that run beside each other: the real CLI, a stand-in of the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.errors import BillingBlocked
from llm_mcp_hub.providers.base import Finished
from llm_mcp_hub.providers.claude import ClaudeProvider
from llm_mcp_hub.providers.claude_turn import Turn
from tests.contract.conftest import ClaudeRig, all_events, new_ask, within
from tests.upstreams import anthropic

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(200)]
EXTRA = anthropic.RateLimits.overage()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[ClaudeRig]:
    made = ClaudeRig(tmp_path)
    try:
        yield made
        await within(made.provider.close())
        assert made.upstream.surprises == []
    finally:
        made.provider.kill()
        made.upstream.stop()
        made.run.close()


async def test_an_ask_that_waited_for_its_client_is_not_sent_when_another_was_paid_extra(
    rig: ClaudeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client takes up to seconds to connect: what is known by then counts."""
    provider = rig.provider
    assert isinstance(provider, ClaudeProvider)
    pool = provider._pool  # pyright: ignore[reportPrivateUsage]
    take, slow, may = pool.take, asyncio.Event(), asyncio.Event()

    async def takes_long(*arguments: Any) -> Any:
        slow.set()
        await may.wait()
        return await take(*arguments)

    monkeypatch.setattr(pool, "take", takes_long)
    waiting = asyncio.ensure_future(all_events(rig, new_ask(rig, "two")))
    await within(slow.wait())
    monkeypatch.undo()
    rig.upstream.script(anthropic.Answer("Hello.", rate_limits=EXTRA))
    end = (await all_events(rig, new_ask(rig, "one")))[-1]
    may.set()

    with pytest.raises(BillingBlocked):
        await waiting

    assert isinstance(end, Finished)
    assert end.billing.source == "overage"
    assert rig.upstream.prompts == ["one"]


async def test_an_answer_that_was_paid_extra_stops_the_next_although_another_was_not(
    rig: ClaudeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opus alone has a window of its own: an answer of another model may end between its last two messages."""
    provider = rig.provider
    assert isinstance(provider, ClaudeProvider)
    usual = Turn(new_ask(rig), time.time)
    usual.overage = False
    note, waits = provider._note_overage, [usual]  # pyright: ignore[reportPrivateUsage]

    def noted(turn: Turn, token: str) -> None:
        note(turn, token)
        if waits:
            note(waits.pop(), token)

    monkeypatch.setattr(provider, "_note_overage", noted)
    rig.upstream.script(anthropic.Answer("Hello.", rate_limits=EXTRA))

    end = (await all_events(rig, new_ask(rig, "extra")))[-1]

    assert isinstance(end, Finished)
    assert end.billing.source == "overage"
    assert isinstance(end.blocks, BillingBlocked)
    with pytest.raises(BillingBlocked):
        await all_events(rig, new_ask(rig, "next"))
    assert rig.upstream.prompts == ["extra"]
