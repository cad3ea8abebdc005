"""What an image needs of the commands: a word for stdio, a look that needs no token, a first client by a variable."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from llm_mcp_hub.commands import health
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.main import http_findings
from llm_mcp_hub.settings import Settings, load
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
    assert gone.stderr.endswith(b"\n  Start it with: llm-mcp-hub serve\n")
    assert [line for line in hub.log if "refused" in line] == []


@pytest.mark.parametrize("status", [200, 401, 404, 503])
def test_another_program_on_its_port_is_no_hub(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it answers, with a hub's own words even: it has not the sign that every answer of a hub's has."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Bearer realm="llm-mcp-hub"')
            self.end_headers()
            self.wfile.write(b'{"status":"alive"}')

        def log_message(self, format: str, *args: object) -> None:
            """In silence."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        code = health.run(Settings(hub_port=other.server_port))
        other.shutdown()

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert f"what answers at 127.0.0.1, port {other.server_port}, is no hub ({status})" in said.err
    assert said.err.endswith("\n  Stop that program, or give the hub another HUB_PORT.\n")


def test_a_host_that_is_no_name_is_told_as_one_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Two dots in a row, which no name has: Python tells that by an error of its own."""
    code = health.run(Settings(hub_host="a..b"))

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert "no hub answers at a..b" in said.err


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
