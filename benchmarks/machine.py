"""What a run ran on, and of which versions, and what makes a run stale. Tells no host name and no path."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.harness import ROOT

PYTHON = ("llm-mcp-hub", "claude-agent-sdk", "mcp")
"""Packages of Python that every run measures."""
GEMINI = "@google/gemini-cli"


def ran_on() -> dict[str, Any]:
    """The machine and the tree, as they are now: asked when a run begins."""
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "memory_gb": round(page * pages / 1e9),
        "python": platform.python_version(),
        "node": _said(["node", "--version"]).removeprefix("v"),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The commit of the tree, and whether it has changes beside its results."""
    changed = [
        line
        for line in _said(["git", "status", "--porcelain"]).splitlines()
        if not line[3:].startswith(("benchmarks/results/", "docs/figures.md"))
    ]
    return _said(["git", "rev-parse", "--short=12", "HEAD"]) + (" and changes" if changed else "")


def changed_since(of: str, folder: str) -> int | None:
    """How many files of a folder differ from what they were at a commit; None where that is not here."""
    told = subprocess.run(
        ["git", "diff", "--name-only", of, "--", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return None if told.returncode else len(told.stdout.splitlines())


def pinned() -> dict[str, str]:
    """What the tree pins of all that is measured: a run of other versions is stale."""
    from benchmarks.peers import VERSIONS  # the drills and the soak have no peers

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    python = (ROOT / "requirements" / "runtime.txt").read_text("utf-8")
    lock = json.loads((ROOT / "gemini-cli" / "package-lock.json").read_text("utf-8"))["packages"]
    found = {PYTHON[0]: str(project["version"])}
    for name in PYTHON[1:]:
        locked = re.search(rf"^{name}==(\S+)", python, re.MULTILINE)
        assert locked is not None, name
        found[name] = locked[1]
    found[GEMINI] = lock[f"node_modules/{GEMINI}"]["version"]
    return {**found, **VERSIONS}


def installed() -> dict[str, str]:
    """What is measured, as it is there: what is pinned may not have been installed yet."""
    cli = ROOT / "gemini-cli" / "node_modules" / GEMINI / "package.json"
    return {
        "Claude Code": _said([str(bundled_cli()), "--version"]).split()[0],
        **{name: version(name) for name in PYTHON},
        GEMINI: json.loads(cli.read_text("utf-8"))["version"],
    }


def _said(command: list[str]) -> str:
    around = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    if "claude" in command[0]:
        around["HOME"] = "/nonexistent"
    done = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.stdout.strip()
