"""The units of systemd: what systemd itself says of them where it is there, and what the hub needs of them."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from llm_mcp_hub.settings import load
from tests.harness import DEADLINE_S, ROOT

FOLDER = ROOT / "examples" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def unit(file: Path) -> configparser.ConfigParser:
    """A unit, by sections; a key that stands twice is a fault here."""
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    read.read_string(file.read_text("utf-8"))
    return read


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.stem)
def test_systemd_has_nothing_to_say_against_it(file: Path, tmp_path: Path) -> None:
    """It would pass over a key that it does not know. Where there is no systemd, only keys that it knows are let in."""
    known = {
        "Unit": {"Description", "StartLimitIntervalSec"},
        "Service": {"Type", "ExecStart", "Environment", "Restart", "RestartSec", "KillMode", "TimeoutStopSec", "UMask"}
        | {"NoNewPrivileges"},
        "Install": {"WantedBy"},
    }
    read = unit(file)
    assert {section: set(read[section]) - known.get(section, set()) for section in read.sections()} == {
        "Unit": set(),
        "Service": set(),
        "Install": set(),
    }
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    copy = tmp_path / file.name
    text = file.read_text("utf-8")
    for absent in ("%h/.local/bin/llm-mcp-hub", "/usr/bin/ssh"):  # it wants the programs to be there
        text = text.replace(absent, "/bin/sh")
    copy.write_text(text)
    done = subprocess.run(
        [program, "--user", "--man=no", "verify", str(copy)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_hub_is_ended_as_it_wants_to_be() -> None:
    """It alone is told, for the CLIs of asks that are still answered must live on; and it has longer than it takes."""
    service = unit(FOLDER / "llm-mcp-hub.service")["Service"]

    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > load(around={}).hub_drain_s + 20
    assert shlex.split(service["ExecStart"]) == ["%h/.local/bin/llm-mcp-hub", "serve"]


def test_the_tunnel_reaches_no_further_than_both_loopbacks() -> None:
    """And never waits for a word that nobody can type, nor for a connection that has died."""
    words = shlex.split(unit(FOLDER / "llm-hub-tunnel.service")["Service"]["ExecStart"])

    assert words[words.index("-L") + 1] == "127.0.0.1:8000:127.0.0.1:8000"
    for option in ("BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3"):
        assert option in words


def test_the_walk_shows_the_same_tunnel_as_its_unit() -> None:
    """What is tried by hand is what then runs for good."""
    words = shlex.split(unit(FOLDER / "llm-hub-tunnel.service")["Service"]["ExecStart"])
    [line] = [
        line
        for line in (ROOT / "examples" / "home-server.md").read_text("utf-8").splitlines()
        if line.startswith("ssh -N")
    ]

    assert set(shlex.split(line.removesuffix(" &"))[1:]) <= set(words)
