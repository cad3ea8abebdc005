"""The most used public bridges, as their users run them: installed from their registries into a scratch folder.

They are measured in these versions, never committed, and started over stdio. Each starts the vendor's CLI for every
ask, found in PATH: the same CLI that the hub drives, over the same stand-ins.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CLAUDE_CODE_MCP = "@steipete/claude-code-mcp"
GEMINI_MCP_TOOL = "gemini-mcp-tool"
GEMINI_BRIDGE = "gemini-bridge"
VERSIONS = {CLAUDE_CODE_MCP: "1.10.12", GEMINI_MCP_TOOL: "1.1.8", GEMINI_BRIDGE: "1.3.2"}
INSTALL_S = 300.0


@dataclass(frozen=True)
class Peer:
    """A bridge, and the tool of it that asks."""

    key: str
    name: str
    provider: Literal["claude", "gemini"]
    command: list[str]
    tool: str
    arguments: Callable[[str, str], dict[str, Any]]
    """Of the prompt and the folder to work in."""
    environment: dict[str, str] = field(default_factory=dict[str, str])


async def install(folder: Path) -> tuple[list[Peer], dict[str, str]]:
    """Install all three into `folder`, or use those that are there. Returns them, and why others are not."""
    found = await asyncio.gather(_from_npm(folder / "npm"), _from_pypi(folder / "pypi"))
    peers = [peer for these, _ in found for peer in these]
    return peers, {name: why for _, absent in found for name, why in absent.items()}


async def _from_npm(folder: Path) -> tuple[list[Peer], dict[str, str]]:
    wanted = (CLAUDE_CODE_MCP, GEMINI_MCP_TOOL)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
        names = [f"{name}@{VERSIONS[name]}" for name in wanted]
        complaint = await _run(["npm", "install", "--prefix", str(folder), *quiet, *names])
    else:
        complaint = ""
    if complaint:
        return [], dict.fromkeys(wanted, complaint)
    programs = folder / "node_modules" / ".bin"
    return [
        Peer(
            "claude-code-mcp",
            f"npm `{CLAUDE_CODE_MCP}`",
            "claude",
            [str(programs / "claude-code-mcp")],
            "claude_code",
            lambda prompt, cwd: {"prompt": prompt, "workFolder": cwd},
        ),
        Peer(
            "gemini-mcp-tool",
            f"npm `{GEMINI_MCP_TOOL}`",
            "gemini",
            [str(programs / "gemini-mcp")],
            "ask-gemini",
            lambda prompt, _cwd: {"prompt": prompt, "model": "gemini-2.5-pro"},
            # Since 2026-06-18 it starts `agy` where nothing else is said.
            {"GEMINI_MCP_BACKEND": "gemini"},
        ),
    ], {}


async def _from_pypi(folder: Path) -> tuple[list[Peer], dict[str, str]]:
    python = folder / "bin" / "python"
    complaint = ""
    if not folder.is_dir():
        wanted = f"{GEMINI_BRIDGE}=={VERSIONS[GEMINI_BRIDGE]}"
        complaint = await _run([sys.executable, "-m", "venv", str(folder)]) or await _run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
        )
    if complaint:
        return [], {GEMINI_BRIDGE: complaint}
    bridge = Peer(
        GEMINI_BRIDGE,
        f"PyPI `{GEMINI_BRIDGE}`",
        "gemini",
        [str(folder / "bin" / "gemini-bridge")],
        "consult_gemini",
        lambda prompt, cwd: {"query": prompt, "directory": cwd, "model": "gemini-2.5-pro"},
    )
    return [bridge], {}


async def _run(command: list[str]) -> str:
    """Run an installer with this machine's own settings. Returns its last words if it failed, without any path."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"its registry did not answer within {INSTALL_S:.0f} s"
    if process.returncode == 0:
        return ""
    print(said.decode(errors="replace")[-2000:], file=sys.stderr)
    return f"{os.path.basename(command[0])} ended with exit code {process.returncode}"  # noqa: PTH119
