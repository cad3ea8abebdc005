"""Claude's CLI in trouble, as the provider meets it: with the program of the drill of faults in the CLI's place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import stat
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import psutil
import pytest
from claude_agent_sdk import ClaudeSDKClient, ProcessError

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers.base import Event, Text
from llm_mcp_hub.providers.claude import ClaudeProvider
from tests.faults.programs import FAKE

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
ASK = Ask("ask_1", "claude", "hello", "sonnet", None, DEADLINE_S)

Make = Callable[[str], ClaudeProvider]


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncGenerator[Make]:
    """A provider whose CLI does this; at the end no process of it is left."""
    run = RunFolder(tmp_path / "state")
    made: list[ClaudeProvider] = []

    def make(does: str) -> ClaudeProvider:
        cli = tmp_path / "cli"
        cli.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{FAKE}" claude "{does}" "{tmp_path}/fell"\n')
        cli.chmod(stat.S_IRWXU)
        around = {"PATH": os.environ["PATH"]}
        made.append(
            ClaudeProvider(
                run=run,
                around=around,
                token=lambda: "sk-ant-oat01-" + "madeup" * 14,
                default_model="sonnet",
                warm_clients=0,
                cli=cli,
                managed_folder=tmp_path / "none",
            )
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()
    left = [process for process in psutil.process_iter() if str(run.path) in home_of(process)]
    psutil.wait_procs(left, timeout=DEADLINE_S)
    assert [process for process in left if process.is_running()] == []
    run.close()


def home_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("HOME", "")
    return ""


async def talk(provider: ClaudeProvider) -> list[Event]:
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(provider.ask(ASK)) as events:
        return [event async for event in events]


async def test_a_cli_that_ends_as_if_all_were_well_is_noticed_at_once(provider: Make) -> None:
    """The SDK would listen to it for a minute, and the hub give up after half of one."""
    with pytest.raises(HubError) as raised:
        await talk(provider("exit 0"))

    assert (raised.value.code, raised.value.transient) == ("upstream_error", True)
    assert "EOFError" in raised.value.message


async def test_bytes_that_are_no_text_are_the_clis_fault(provider: Make) -> None:
    """Not the hub's own, which an operator would look for in its log."""
    with pytest.raises(HubError) as raised:
        await talk(provider("no_utf8"))

    assert raised.value.code == "upstream_error"
    assert "cannot be read" in raised.value.message


async def test_what_the_cli_has_started_ends_with_it(provider: Make) -> None:
    """It has ended itself, and what it has left holds its pipes: both are gone when the ask is."""
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(provider("grandchild").ask(ASK)) as events:
        async for event in events:
            if isinstance(event, Text):
                break


async def test_a_child_that_ends_while_its_asker_leaves_makes_no_line_of_the_log(
    provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its asker has gone in the same moment: what its start raises then is nobody's."""
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    starts, ends = asyncio.Event(), asyncio.Event()

    async def connect(*_: object) -> None:
        starts.set()
        await ends.wait()
        raise ProcessError("it was killed", exit_code=-9)

    monkeypatch.setattr(ClaudeSDKClient, "connect", connect)
    made = provider("exit 3")
    talking = asyncio.create_task(talk(made))
    await starts.wait()
    ends.set()
    talking.cancel()
    await asyncio.wait([talking])
    assert talking.cancelled()
    await made.close()
    del talking
    gc.collect()

    assert told == []
