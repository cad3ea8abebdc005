"""Windows and macOS, as far as path logic goes: the hub runs here with what they have not taken away.

`other_system.py` says what is taken away. Not proven by this: the systems themselves, which no test has run on.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest
from mcp.client import Client

from llm_mcp_hub.serving.auth import Clients
from tests.harness import HttpHub, World, answer_of, connect, error_of, run_command
from tests.protocol import other_system


def on(world: World, system: str) -> World:
    """The same world, whose hubs believe to be there; with a variable around that could pay."""
    world.prefix = [sys.executable, other_system.__file__, system]
    world.changes |= {
        "LOCALAPPDATA": str(world.home / "AppData" / "Local"),
        "APPDATA": str(world.home / "AppData" / "Roaming"),
        "ANTHROPIC_API_KEY": "sk-ant-api03-made-up",
    }
    return world


def test_every_module_can_be_imported_on_windows(world: World) -> None:
    """One import of what only POSIX has, at the top of any module, and there is no hub at all."""
    ended = run_command(on(world, "win32"), "import-all")

    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.anyio
async def test_windows_serves_claude_and_says_what_it_has_not(world: World) -> None:
    """By the real Claude CLI, without its wrapper; each refusal has its next step. Nothing is left at the end."""
    (world.home / "notes.txt").write_text("a file")
    world.changes["HUB_FILE_ROOTS"] = str(world.home)
    async with connect(on(world, "win32"), "stdio", "auto") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        answer = answer_of(await client.call_tool("ask_claude", {"prompt": "Are you there?"}))
        no_gemini = error_of(await client.call_tool("ask_gemini", {"prompt": "Are you there?"}))
        no_file = error_of(await client.call_tool("ask_claude", {"prompt": "Read.", "files": ["notes.txt"]}))
        again = {"prompt": "And now?", "conversation_id": answer["conversation_id"]}
        follows = answer_of(await client.call_tool("ask_claude", again))

    assert {"ask_claude", "ask_gemini", "token_status"} <= names
    assert "stand-in of Claude" in answer["text"]
    assert follows["conversation_id"] == answer["conversation_id"]
    assert (no_gemini["code"], "WSL" in no_gemini["action"]) == ("misconfigured", True)
    assert "Windows" in no_gemini["message"]
    assert (no_file["code"], "WSL" in no_file["action"]) == ("invalid_request", True)
    assert all("x-api-key" not in request.headers for request in world.claude.received)
    assert world.gemini.received == []
    world.wait_until_no_child()
    assert [path.name for path in (world.state / "run").iterdir()] == [".lock"]


@pytest.mark.anyio
async def test_windows_serves_claude_over_http(world: World) -> None:
    """Signals and descriptors are others there: it starts, answers, and ends in order."""
    hub = HttpHub(on(world, "win32").environment, command=(other_system.__file__, "win32", "llm_mcp_hub", "serve"))
    try:
        async with Client(hub.url + "/mcp") as client:
            answer = answer_of(await client.call_tool("ask_claude", {"prompt": "Are you there?"}))
    finally:
        code = hub.stop()

    assert "stand-in of Claude" in answer["text"]
    assert code == 0
    world.wait_until_no_child()


@pytest.mark.anyio
async def test_macos_serves_claude_without_what_only_linux_has(world: World) -> None:
    """No setpriv is looked for there, no O_PATH used: a file is read, and an ask is answered."""
    (world.home / "notes.txt").write_text("a file")
    world.changes["HUB_FILE_ROOTS"] = str(world.home)
    async with connect(on(world, "darwin"), "stdio", "auto") as client:
        answer = answer_of(await client.call_tool("ask_claude", {"prompt": "Read.", "files": ["notes.txt"]}))

    assert "stand-in of Claude" in answer["text"]
    world.wait_until_no_child()


FOLDERS = {
    "win32": ("AppData/Local/llm-mcp-hub/llm-mcp-hub", "AppData/Local/llm-mcp-hub/llm-mcp-hub"),
    "darwin": ("Library/Application Support/llm-mcp-hub", "Library/Application Support/llm-mcp-hub"),
}


@pytest.mark.parametrize("system", FOLDERS)
def test_the_doctor_tells_what_differs_there(world: World, system: str) -> None:
    """Folders are the system's own; a mode that means nothing there refuses no settings file."""
    config, state = (world.home / folder for folder in FOLDERS[system])
    config.mkdir(parents=True)
    (config / ".env").write_text("HUB_PORT=8123\n")
    (config / ".env").chmod(0o666 if system == "win32" else 0o600)
    clients = world.home / "clients.json"
    Clients(clients).add("laptop", ["status"], datetime.now(UTC), every=["status"])
    clients.chmod(0o666 if system == "win32" else 0o600)
    on(world, system).changes |= {"HUB_STATE_DIR": "", "HUB_CLIENTS_FILE": str(clients)}
    ended = run_command(world, "doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(ended.stdout)["findings"]}

    assert str(state) in found["state-folder"]["message"]
    assert "port 8123" in found["http"]["message"]
    assert "laptop" in found["http"]["message"]
    assert "the next hub that starts" in found["claude-setpriv"]["message"]
    assert found["claude-cli"]["state"] == found["claude-login"]["state"] == "ok", found
    if system == "win32":
        assert found["gemini-terminal"]["state"] == "blocks"
        assert "wsl --install" in found["gemini-terminal"]["action"]
        assert "gemini-cli" not in found
        assert "reads no files on Windows" in found["file-roots"]["message"]
    else:
        assert found["gemini-cli"]["state"] == found["gemini-terminal"]["state"] == "ok"


def test_a_login_on_windows_says_how_to_do_without(world: World) -> None:
    """A pseudo-terminal is what leads a person through it elsewhere."""
    ended = run_command(on(world, "win32"), "login", "claude")

    assert ended.returncode == 78, ended.stderr
    assert "Run: claude setup-token" in ended.stderr.decode()
    assert not (world.state / "logins").exists()


def test_setup_on_windows_installs_nothing_that_is_of_no_use_there(world: World) -> None:
    """It says why, and goes on with the rest."""
    on(world, "win32").changes |= {"HUB_GEMINI_COMMAND": ""}
    ended = run_command(world, "setup", "--yes", "--skip", "ask", "--skip", "doctor", "--skip", "clients")
    said = ended.stdout.decode()

    assert ended.returncode == 1
    assert "Windows has not: ask_gemini is not served here" in said
    assert "3/7 Claude's login …\n    there already" in said
    assert not (world.state / "gemini-cli").exists()
