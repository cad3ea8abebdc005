"""One world with two hubs over HTTP, for all clients: one of this machine's owner, one that wants a client's token."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.commands import json_edit
from llm_mcp_hub.commands.mcp_clients import CLIENTS, SERVER
from tests.clients.programs import around, run
from tests.harness import World, http_hub, make_world, run_command
from tests.upstreams import anthropic, google

CLAUDE_SAYS = "Hello from the stand-in of Claude."
GEMINI_SAYS = "Hello from the stand-in of Gemini."
LONG = "All of it, to the last word. " * 8_280
"""240,120 characters."""
LONG_PROMPT = "At length, please."
TOOLS = ["ask_claude", "ask_gemini", "ask_result", "ask_cancel", "token_status"]


class Served:
    """Where a client finds the hub. What no test of a run asks for is not started."""

    def __init__(self, world: World, folder: Path, stack: ExitStack) -> None:
        self.world = world
        apart = {"HUB_STATE_DIR": str(folder / "guarded")}
        self._guarded_world = World(world.home, world.claude, world.gemini, apart, claude_warm=0)
        self._stack = stack

    @cached_property
    def url(self) -> str:
        """Of `/mcp` where the owner alone comes in."""
        return self._stack.enter_context(http_hub(self.world)).url + "/mcp"

    @cached_property
    def guarded(self) -> str:
        """Of `/mcp` where nobody comes in without `token`."""
        assert self.token
        return self._stack.enter_context(http_hub(self._guarded_world)).url + "/mcp"

    @cached_property
    def token(self) -> str:
        added = run_command(self._guarded_world, "client", "add", "laptop")
        assert added.returncode == 0, added.stderr
        return added.stdout.decode().strip()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """Two hubs that share their stand-ins, and nothing else."""
    folder = tmp_path_factory.mktemp("clients")
    with make_world(folder / "open") as world, ExitStack() as stack:
        world.claude_warm = 0  # what a client waits for here is not its first ask
        yield Served(world, folder, stack)


@pytest.fixture
def hubs(served: Served) -> Generator[Served]:
    """Both hubs for one test. At its end nothing that was scripted is left, and no stand-in was surprised."""
    world = served.world
    world.claude.default = anthropic.Answer(CLAUDE_SAYS)
    world.gemini.default = google.Answer(GEMINI_SAYS)
    yield served
    assert (world.claude.unused, world.gemini.unused) == (0, 0)
    assert world.surprises == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a client, and of nobody else."""
    return tmp_path / "of-a-client"


def installed(client: str, transport: str, served: Served, home: Path, **more: Any) -> None:
    """Have `llm-mcp-hub install` put the hub into a client's file, and put `more` into its entry, as its user might."""
    words = [*served.world.command, "install", client]
    if transport == "http":
        words += ["--http", served.guarded, "--token-file", "-"]
    else:  # the client has its own way to a provider, and what it starts has another one
        more = {**more, "env": served.world.environment}
    told = run(words, around(home), given=served.token if transport == "http" else "")
    assert told.returncode == 0, told.stderr
    file = Path(told.stdout.splitlines()[0].removesuffix(": written"))
    text = file.read_text()
    for name, value in more.items():
        text = json_edit.put(text, [CLIENTS[client].outer, SERVER, name], value)
    file.write_text(text)


def reach(transport: str, served: Served) -> dict[str, Any]:
    """How a client reaches a hub, as its scripts here take it: over stdio its own, over HTTP with a token."""
    if transport == "http":
        return {"url": served.guarded, "token": served.token}
    program, *arguments = served.world.command
    return {"command": program, "args": arguments, "env": served.world.environment}
