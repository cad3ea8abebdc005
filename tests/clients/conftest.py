"""One world with two hubs over HTTP, for all clients: one of this machine's owner, one that wants a client's token."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import World, http_hub, make_world, run_command
from tests.upstreams import anthropic, google

CLAUDE_SAYS = "Hello from the stand-in of Claude."
GEMINI_SAYS = "Hello from the stand-in of Gemini."


@dataclass
class Served:
    """Where a client finds the hub."""

    world: World
    url: str
    """Of `/mcp` where the owner alone comes in."""
    guarded: str
    """Of `/mcp` where nobody comes in without `token`."""
    token: str


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """The two hubs share their stand-ins, and nothing else."""
    folder = tmp_path_factory.mktemp("clients")
    with make_world(folder / "open") as world:
        guarded = World(world.home, world.claude, world.gemini, {"HUB_STATE_DIR": str(folder / "guarded")})
        added = run_command(guarded, "client", "add", "laptop")
        assert added.returncode == 0, added.stderr
        with http_hub(world) as hub, http_hub(guarded) as other:
            yield Served(world, f"{hub.url}/mcp", f"{other.url}/mcp", added.stdout.decode().strip())


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
