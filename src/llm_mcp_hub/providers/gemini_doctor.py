"""What a Gemini ask needs of this machine, looked at without an ask: its CLI, Node.js, a pseudo-terminal, a project."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Literal

from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.children.supervision import said
from llm_mcp_hub.children.terminal import HERE, TERMINAL_ACTION, Terminal, TerminalError
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.finding import Finding, blocks, foreign, ok, told, warns
from llm_mcp_hub.providers.gemini_child import no_terminal
from llm_mcp_hub.providers.gemini_install import (
    CHOSEN_ACTION,
    DEFAULT,
    INSTALL_ACTION,
    OLDEST,
    OLDEST_NODE,
    UPDATE_ACTION,
    find,
    installed,
    node_of,
)
from llm_mcp_hub.providers.gemini_project import check_project

VERSION_S = 15.0
"""`gemini --version` takes 0.7 s."""
TERMINAL_S = 5.0
HANGS = "…"
NODE_ACTION = "Install Node.js 20 or newer and put it into PATH; then check with: node --version"

FOREIGN = re.compile(
    r"GEMINI_API_KEY|GOOGLE_API_KEY|GOOGLE_APPLICATION_CREDENTIALS|GOOGLE_GENAI_USE_(VERTEXAI|GCA)"
    r"|GOOGLE_(GEMINI|VERTEX)_BASE_URL|GOOGLE_CLOUD_ACCESS_TOKEN|CODE_ASSIST_(ENDPOINT|API_VERSION)"
    r"|CLOUD_SHELL|GEMINI_CLI_USE_COMPUTE_ADC"
)
"""Each was measured, or read in the CLI: another payer or another address."""
PROJECTS = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_PROJECT_ID")


async def findings(
    *,
    around: Mapping[str, str],
    home: Path,
    command: str,
    own: Path | None = None,
    project: str | None = None,
    upstream: str | None = None,
    limit_s: float = VERSION_S,
) -> AsyncGenerator[Finding]:
    """Every precondition of Gemini's own.

    Args:
        around: the hub's environment.
        home: a folder of this look's own, which the CLI gets for its home.
        command: the CLI's program, a name in PATH or a path.
        own: where `setup` installs a CLI, which is used where PATH has none.
        project: id of the Google Cloud project of the licence, if one is set.
        upstream: the stand-in that asks would go to, if one is set.
        limit_s: how long the CLI, and Node.js, may take to say their versions.
    """
    if not HERE:
        error = no_terminal()
        yield blocks("gemini-terminal", error.message.rstrip("."), error.action)
        return
    environment = _private(around, home)
    path = find(command, around, own)
    node = node_of(path, own) or find("node", around, None)
    texts = await asyncio.gather(*(_version(program, environment, limit_s) for program in (path, node)))
    cli = judge_cli(command, path, texts[0])
    yield cli
    yield judge_node(node, texts[1], runs=cli.state == "ok")
    yield await _terminal(environment)
    yield _project(project, around)
    yield foreign("gemini-variables", around, FOREIGN)
    if upstream is not None:
        yield warns(
            "gemini-upstream", "Asks go to a stand-in on this machine, not to Gemini", "Unset HUB_GEMINI_UPSTREAM."
        )


def _private(around: Mapping[str, str], home: Path) -> dict[str, str]:
    private = {"HOME": str(home), "GEMINI_CLI_HOME": str(home), "TMPDIR": str(home), "GEMINI_CLI_NO_RELAUNCH": "1"}
    return child_environment(around, {**private, "NO_COLOR": "1"})


async def used_cli(
    *, around: Mapping[str, str], home: Path, command: str, own: Path, limit_s: float = VERSION_S
) -> tuple[Literal["there", "installs", "foreign"], Finding]:
    """The CLI that asks would use, and whether all is well with it, `setup` installs one, or a person must see to it.

    The arguments are those of `findings`.
    """
    path = find(command, around, own)
    found = judge_cli(command, path, await _version(path, _private(around, home), limit_s))
    if path is None:
        return "installs" if command == DEFAULT else "foreign", found
    if path.parent.parent == own:
        return "there" if found.state == "ok" and path == installed(own, pinned=True) else "installs", found
    return "there" if found.state == "ok" else "foreign", found


async def _version(program: Path | None, environment: Mapping[str, str], limit_s: float) -> str:
    """What a program says to --version: "" for nothing, HANGS when that takes too long."""
    if program is None:
        return ""
    try:
        text = await said([str(program), "--version"], environment=environment, limit_s=limit_s)
    except OSError:
        return ""
    return HANGS if text is None else text


def judge_cli(command: str, path: Path | None, text: str) -> Finding:
    """What the CLI's answer to --version says of it."""
    name = "gemini-cli"
    if path is None:
        action = INSTALL_ACTION if command == DEFAULT else CHOSEN_ACTION
        return blocks(name, f"The Gemini CLI ({command}) was not found", action)
    look = f"See what stops it: {shlex.quote(str(path))} --version"
    if text == HANGS:
        return blocks(name, f"{path} --version hangs", look)
    numbers = re.search(r"(\d+)\.(\d+)\.\d+\S*", text)
    if numbers is None:
        return blocks(name, f"{path} cannot be started, or tells no version", look)
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return blocks(name, f"The Gemini CLI at {path} is too old ({numbers[0]}; {oldest} is needed)", UPDATE_ACTION)
    return ok(name, f"Gemini CLI {numbers[0]}, {path}")


def judge_node(path: Path | None, text: str, *, runs: bool) -> Finding:
    """What the answer of Node.js to --version says of it; `runs`: whether the CLI does."""
    name = "gemini-node"
    if path is None and runs:  # a wrapper of the owner's knows where it is
        return ok(name, "there is no node in PATH; the Gemini CLI runs all the same")
    if path is None:
        return blocks(name, "Node.js, which the Gemini CLI runs on, was not found in PATH", NODE_ACTION)
    numbers = re.match(r"v?(\d+)\.\d+\.\d+", text.strip())
    if numbers is None:
        what = "--version hangs" if text == HANGS else "cannot be started, or tells no version"
        return blocks(name, f"{path} {what}", NODE_ACTION)
    if int(numbers[1]) < OLDEST_NODE:
        return blocks(name, f"Node.js at {path} is too old ({numbers[0]}; {OLDEST_NODE} is needed)", NODE_ACTION)
    return ok(name, f"Node.js {numbers[0].removeprefix('v')}, {path}")


async def _terminal(environment: Mapping[str, str]) -> Finding:
    name = "gemini-terminal"
    try:
        terminal = Terminal.spawn(
            ["/bin/sh", "-c", "echo here"], environment=environment, cwd=Path("/"), stderr=Path(os.devnull)
        )
    except TerminalError as error:
        return blocks(name, f"This machine gives the hub no pseudo-terminal ({error})", _MOUNT)
    text = b""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMINAL_S):
                while data := await terminal.read():
                    text += data
    finally:
        terminal.kill()
    if b"here" not in text:
        return blocks(name, "A program on a pseudo-terminal of this machine is not heard", _MOUNT)
    return ok(name, "a pseudo-terminal can be had")


_MOUNT = f"{TERMINAL_ACTION.rstrip('.')}: mount -t devpts devpts /dev/pts"


def _project(project: str | None, around: Mapping[str, str]) -> Finding:
    name = "gemini-project"
    try:
        check_project(project)
    except Misconfigured as error:
        return told(name, error)
    if project is not None:
        return ok(name, f"GEMINI_PROJECT is {project}")
    elsewhere = [variable for variable in PROJECTS if around.get(variable)]
    if elsewhere:
        return warns(
            name,
            f"{elsewhere[0]} is not handed on: a licence that hangs on a project is found by GEMINI_PROJECT",
            f"If your licence needs it: GEMINI_PROJECT=${elsewhere[0]}; otherwise run: unset {elsewhere[0]}",
        )
    return ok(name, "GEMINI_PROJECT is not set; only some Standard and Enterprise licences need it")
