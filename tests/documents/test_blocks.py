"""Every block of the README and of the pages below `docs/` is executed, or known to be checked elsewhere.

`bash` and `json` blocks of the README are those of `test_readme.py`, `text` blocks are screenshots
(`test_screenshots.py`). `console` blocks are typed here: each line that begins with `$`, in the order of the page.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copyfile

import pytest

from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.documents.pages import Block, blocks, named
from tests.harness import DEADLINE_S, GEMINI, ROOT, World

README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
ELSEWHERE = {"docker": "tests/documents/test_docker_lines.py", "uv": "tests/protocol/test_packages.py"}
"""Programs of console blocks that this suite has not got, and which file checks the lines that begin with them."""
ADDRESS = "hub.example"
"""The name that the documents give a hub on another machine."""


def typed(block: Block) -> list[str]:
    """The commands of a console block; one that ends with a backslash goes on in the next line."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)


def program(command: str) -> str:
    """The program that a command starts: its first word that sets no variable."""
    return next(word for word in command.split() if not re.match(r"[A-Z_]+=", word))


CONSOLE = [(page, block) for page in PAGES for block in blocks(page) if block.language == "console"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    """A block of another kind would be a command, a file or a picture that nobody looks at."""
    text = page.read_text("utf-8")
    shots = len(re.findall(r"<!-- screenshot: [\w-]+ -->\n```text\n", text))
    found = blocks(page)
    allowed = {"text", "console"} if page != README else {"text", "console", "bash", "json", ""}

    assert [f"line {block.line}: {block.language}" for block in found if block.language not in allowed] == []
    assert len([block for block in found if block.language == "text"]) == shots
    assert [block.line for block in found if block.language == "console" and not typed(block)] == []


def test_the_picture_of_the_flow_names_what_there_is() -> None:
    """The one block without a language: its tools are those that the hub offers."""
    [picture] = [block.text for block in blocks(README) if not block.language]
    tools = {
        tool["name"] for tool in json.loads((ROOT / "tests" / "protocol" / "snapshots" / "tools.json").read_text())
    }

    drawn = set(re.findall(r"\b(?:ask|token)_\w+", picture))
    assert {"ask_claude", "ask_gemini", "token_status"} <= drawn
    assert drawn <= tools


@contextmanager
def serving(command: str, environment: dict[str, str], folder: Path) -> Generator[None]:
    """`serve`, as it is typed, until the block is over."""
    hub = subprocess.Popen(
        ["bash", "-c", "exec env " + command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert hub.stderr is not None
    try:
        log: list[str] = []
        for line in hub.stderr:
            log.append(line)
            if "Uvicorn running on " in line:
                break
        assert hub.poll() is None, "".join(log)
        yield
    finally:
        hub.terminate()
        hub.communicate(timeout=DEADLINE_S)


@pytest.mark.parametrize("block", [block for _, block in CONSOLE], ids=[f"{named(p)}:{b.line}" for p, b in CONSOLE])
def test_what_a_console_block_types_works(world: World, tmp_path: Path, block: Block) -> None:
    """In a private home, with the documents' name for another machine standing for this one.

    A token that one line prints is what is pasted into the next ones. What is installed in Claude Code must then be
    connected.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    claude = bundled_cli()
    assert claude is not None
    (programs / "claude").symlink_to(claude)
    (programs / "gemini").symlink_to(GEMINI)
    (programs / "llm-mcp-hub").symlink_to(Path(sys.executable).parent / "llm-mcp-hub")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **world.environment,
        "PATH": f"{programs}:{world.environment['PATH']}",
        "HUB_PORT": port,
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    folder = tmp_path / "anywhere"
    folder.mkdir()
    copyfile(ROOT / ".env.example", folder / ".env.example")
    token = "TOKEN"
    with ExitStack() as hubs:
        for command in typed(block):
            if program(command) in ELSEWHERE:
                continue
            text = command.replace(ADDRESS, "127.0.0.1").replace("8000", port)
            if " serve" in text:
                hubs.enter_context(serving(text.partition(" #")[0], environment, folder))
                continue
            done = run(text, environment, folder, token if "--token-file -" in text else "")
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if " client add " in text:
                token = done.stdout.strip()
            if "install claude-code" in text:
                # without a token, with which Claude Code tries for a quarter of a minute to reach its own service
                looked = {**environment, "HTTPS_PROXY": "http://127.0.0.1:9", "CLAUDE_CODE_OAUTH_TOKEN": ""}
                listed = run("claude mcp list", looked, folder, "")
                assert "Connected" in listed.stdout, listed.stdout + listed.stderr


def run(text: str, environment: dict[str, str], folder: Path, pasted: str) -> subprocess.CompletedProcess[str]:
    """A command as bash reads it, with what is pasted into it."""
    return subprocess.run(
        ["bash", "-u", "-c", text],
        cwd=folder,
        env=environment,
        input=pasted,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_what_is_checked_elsewhere_is_checked_there() -> None:
    """The file is there and speaks of that program, and some block needs it."""
    used = {program(command) for _, block in CONSOLE for command in typed(block)}

    for name, file in ELSEWHERE.items():
        assert name in used
        assert name in (ROOT / file).read_text("utf-8")
