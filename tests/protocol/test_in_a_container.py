"""What an image needs of the commands: a word for stdio, a look that needs no token, a first client by a variable."""

from __future__ import annotations

import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.main import http_findings
from llm_mcp_hub.settings import load
from tests.harness import World, http_hub, run_command

TOLD = {"HUB_HOST": "0.0.0.0", "HUB_FIRST_CLIENT": "owner", "HUB_ALLOWED_HOSTS": "hub.example"}


def look(world: World) -> subprocess.CompletedProcess[bytes]:
    """`llm-mcp-hub health`, as a probe beside the hub runs it."""
    return run_command(world, "health")


def test_a_probe_needs_no_token_and_is_not_told_of(world: World) -> None:
    """A HEALTHCHECK has no secret: who is refused by a hub has met one that lives. It would fill the log all day."""
    world.changes |= {"HUB_CLAUDE_WARM": "0", "HUB_FIRST_CLIENT": "owner"}
    with http_hub(world) as hub:
        world.changes["HUB_PORT"] = hub.url.rpartition(":")[2]
        well = look(world)
    gone = look(world)

    assert (well.returncode, b"(401)" in well.stdout) == (0, True)
    assert (gone.returncode, gone.stdout) == (1, b"")
    assert b"no hub answers at 127.0.0.1" in gone.stderr
    assert [line for line in hub.log if "refused" in line] == []


def test_another_program_on_its_port_is_no_hub(world: World) -> None:
    """It answers, and has no such route."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        world.changes["HUB_PORT"] = str(other.server_port)
        found = look(world)
        other.shutdown()

    assert (found.returncode, found.stdout) == (1, b"")
    assert b"is no hub" in found.stderr


@pytest.mark.anyio
async def test_stdio_has_a_word_of_its_own(world: World) -> None:
    """An image's command cannot be none at all: without a word it serves HTTP."""
    program, *words = world.command
    server = StdioServerParameters(command=program, args=[*words, "stdio"], env=world.environment)
    async with Client(server) as client:
        tools = await client.list_tools()

    assert "ask_claude" in {tool.name for tool in tools.tools}


def test_a_doctor_knows_that_the_first_client_will_be_made(world: World) -> None:
    """Before the first start there is no token yet, and nothing that would stop it; without names there is."""
    (found, _replicas) = http_findings(load(around=world.environment | TOLD))

    assert (found.state, "owner, made at the first start" in found.message) == ("ok", True)
    with pytest.raises(Misconfigured, match="HUB_ALLOWED_HOSTS"):
        http_findings(load(around=world.environment | TOLD | {"HUB_ALLOWED_HOSTS": ""}))
