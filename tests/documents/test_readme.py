"""The README's commands are run, its JSON is read. What holds for every document is in the files beside this one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.harness import DEADLINE_S, GEMINI, ROOT, TOKEN, World

NOT_HERE = {
    "make demo": "CI runs it before the tests (.ci/run)",
    "make test": "it is what runs this",
}
"""Commands of the README that no test can run, and who runs them."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return [body for kind, body in BLOCK.findall((ROOT / "README.md").read_text("utf-8")) if kind == language]


SCRIPTS = [script for script in blocks("bash") if set(script.splitlines()) - set(NOT_HERE)]


def test_what_is_not_run_here_stands_in_the_readme() -> None:
    """Else the list would excuse a command that nobody shows any more."""
    assert set(NOT_HERE) <= {line for script in blocks("bash") for line in script.splitlines()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.splitlines()[0][:50])
def test_every_shell_block_does_what_it_says(world: World, tmp_path: Path, script: str) -> None:
    """Each block is run as it stands, in a private home with both stand-ins, and must end well."""
    lines = [line for line in script.splitlines() if line not in NOT_HERE]
    programs = tmp_path / "programs"
    programs.mkdir()
    claude = bundled_cli()
    assert claude is not None
    (programs / "claude").symlink_to(claude)
    (programs / "gemini").symlink_to(GEMINI)
    # as the text beside it says: it connects to no server in a folder that it does not trust
    (world.home / ".gemini" / "trustedFolders.json").write_text(json.dumps({str(ROOT): "TRUST_FOLDER"}))
    text = "\n".join(lines).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    text = text.replace('"$PWD/', '"').replace("8000", str(8000 + 1 + sum(map(ord, str(tmp_path))) % 2000))
    environment = {**world.environment, "CLAUDE_CODE_OAUTH_TOKEN": TOKEN, "DISABLE_AUTOUPDATER": "1"}
    environment["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    if " mcp " in text:  # the reader's own Claude Code or Gemini CLI, not contained by the hub: it must reach nobody
        environment["HTTPS_PROXY"] = "http://127.0.0.1:9"
        # with a token Claude Code tries for a quarter of a minute to reach its own service
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", text],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    if "mcp list" in text:
        assert "Connected" in done.stdout + done.stderr, done.stdout + done.stderr
    if " ask " in text:
        assert done.stdout.count("Hello from the stand-in of") == text.count(" ask ")
    if "compare.py" in text:
        assert "stand-in of Claude" in done.stdout
        assert "stand-in of Gemini" in done.stdout
    world.wait_until_no_child()


def test_the_clients_that_it_names_are_those_that_are_tested() -> None:
    """By their versions: of what is pinned, and of the Claude Code that is in claude-agent-sdk's wheel."""
    text = (ROOT / "README.md").read_text("utf-8")
    pinned = json.loads((ROOT / "tests" / "clients" / "package.json").read_text("utf-8"))["dependencies"]
    fastmcp = (ROOT / "tests" / "clients" / "requirements.in").read_text("utf-8")
    python = (ROOT / "requirements" / "runtime.txt").read_text("utf-8")
    claude = bundled_cli()
    assert claude is not None
    told = subprocess.run([claude, "--version"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    named = [
        f"Claude Code {told.stdout.split()[0]}",
        f"TypeScript SDK {pinned['@modelcontextprotocol/sdk']} and {pinned['@modelcontextprotocol/client']}",
        f"MCP Inspector {pinned['@modelcontextprotocol/inspector']}",
        f"FastMCP {re.findall(r'==([0-9.]+)', fastmcp)[0]}",
        f"Python SDK {re.findall(r'^mcp==([0-9.]+)', python, re.MULTILINE)[0]}",
    ]

    assert [name for name in named if f"| {name} |" not in text] == []


@pytest.mark.parametrize("text", blocks("json"), ids=["client configuration"])
def test_every_json_block_is_json(text: str) -> None:
    """What a reader copies into a client's configuration can be read by it."""
    assert "llm-hub" in json.loads(text)["mcpServers"]
