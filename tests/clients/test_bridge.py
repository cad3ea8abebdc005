"""The bridge that `install claude-desktop --http` writes, as a client starts it: what goes over it, and what it leaves.

It is npm's mcp-remote, which `npx` finds below this folder in the version that is written; Claude Desktop itself cannot
be run here. Its place is taken by the Python SDK's client.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from anyio.from_thread import start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from llm_mcp_hub.commands.mcp_clients import BRIDGE, SERVER
from tests.clients.conftest import CLAUDE_SAYS, LONG, TOOLS, Served, installed
from tests.clients.programs import HERE, around
from tests.harness import DEADLINE_S, Line, answer_of, error_of, texts_of
from tests.upstreams import anthropic, google


@dataclass
class Bridge:
    """A line over it, and its processes."""

    line: Line
    processes: list[psutil.Process]


@pytest.fixture(scope="module")
def entry(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands in Claude Desktop's file."""
    home = tmp_path_factory.mktemp("desktop") / "home"
    installed("claude-desktop", "http", served, home)
    held = json.loads((home / ".config" / "Claude" / "claude_desktop_config.json").read_text())
    return held["mcpServers"][SERVER]


@pytest.fixture(scope="module")
def bridge(entry: dict[str, Any], served: Served, tmp_path_factory: pytest.TempPathFactory) -> Generator[Bridge]:
    """Started as the entry says, in a folder where npx need not ask a registry. At its end nothing of it is left."""
    folder = tmp_path_factory.mktemp("bridge")
    server = StdioServerParameters(
        command=entry["command"],
        args=entry["args"],
        env={**around(folder / "home"), **entry["env"], "NPM_CONFIG_OFFLINE": "true"},
        cwd=HERE,
    )
    before = set(psutil.Process().children(recursive=True))
    with (folder / "stderr").open("w") as errors, start_blocking_portal("asyncio") as portal:
        client = Client(stdio_client(server, errlog=errors), mode="legacy")
        with portal.wrap_async_context_manager(client):
            started = [each for each in psutil.Process().children(recursive=True) if each not in before]
            yield Bridge(Line(portal, client, lambda: ""), started)
        _gone, left = psutil.wait_procs(started, timeout=DEADLINE_S)
    assert left == []
    assert [
        path for path in folder.rglob("*") if path.is_file() and served.token in path.read_text("utf-8", "replace")
    ] == []


def test_it_is_the_version_that_is_tested() -> None:
    """What users get is what was tried."""
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]

    assert f"mcp-remote@{pinned['mcp-remote']}" == BRIDGE


def test_nobody_reads_the_token_in_its_arguments(bridge: Bridge, entry: dict[str, Any], hubs: Served) -> None:
    """Neither in npx's nor in those of what that starts."""
    told = [" ".join(process.cmdline()) for process in bridge.processes]

    assert any("mcp-remote" in words for words in told), told
    assert [words for words in told if hubs.token in words] == []
    assert entry["env"]["HUB_AUTHORIZATION"] == f"Bearer {hubs.token}"


def test_answers_errors_and_data_come_whole(bridge: Bridge, hubs: Served) -> None:
    """240,000 characters, and what is for programs."""
    hubs.world.gemini.default = google.Answer(LONG)

    assert [tool["name"] for tool in bridge.line.tools()] == TOOLS
    result = bridge.line.call("ask_gemini", {"prompt": "At length, please."})
    assert texts_of(result)[0] == LONG
    assert answer_of(result)["text"] == LONG
    assert error_of(bridge.line.call("ask_claude", {"prompt": "x", "model": "gpt-4"}))["code"] == "invalid_request"


def test_progress_comes_and_a_ticket_is_fetched(bridge: Bridge, hubs: Served) -> None:
    """A client that gives a call up after a minute has both."""
    may_end, told = threading.Event(), threading.Event()
    hubs.world.claude.default = lambda _received: anthropic.Answer(CLAUDE_SAYS, gate=may_end)

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        told.set()

    asked = bridge.line.begin("ask_claude", {"prompt": "Who are you?"}, heard)
    assert told.wait(DEADLINE_S)
    ticket = texts_of(bridge.line.call("ask_claude", {"prompt": "And you?", "wait_s": 0}))[0] or ""
    may_end.set()
    assert texts_of(asked.result(DEADLINE_S))[0] == CLAUDE_SAYS
    wanted = re.search(r'call ask_result\(ask_id="(ask_[\w-]+)"\)', ticket)
    assert wanted is not None, ticket
    assert texts_of(bridge.line.call("ask_result", {"ask_id": wanted[1], "wait_s": 60}))[0] == CLAUDE_SAYS


def test_a_cancelled_call_ends_at_the_provider(bridge: Bridge, hubs: Served) -> None:
    """The bridge hands the client's word on."""
    upstream = hubs.world.claude
    hubs.world.claude.default = lambda _received: anthropic.Hang()
    before = len(upstream.received)

    asked = bridge.line.begin("ask_claude", {"prompt": "For ever?"})
    upstream.wait_until(lambda: len(upstream.received) > before, timeout=DEADLINE_S)
    asked.cancel()

    upstream.wait_until(lambda: upstream.received[before].ended == "disconnected", timeout=DEADLINE_S)
