"""Takes the place of `systemctl --user`, which needs systemd as the machine's first process: same words, same units.

It finds units where systemd does, gives them the environment that systemd would (environment.d, not the caller's), and
starts what they say. Of a unit it knows what the examples' units use, and it fails on everything else.
"""

from __future__ import annotations

import configparser
import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

DEADLINE_S = 60.0
IGNORED = {"Type", "Restart", "RestartSec", "KillMode", "TimeoutStopSec", "UMask", "NoNewPrivileges"}
"""What matters to systemd itself: `test_units.py` looks at it."""


def started(home: Path, name: str) -> Path:
    """Where the process id of a unit is kept."""
    return home / ".units" / name


def service(home: Path, name: str) -> dict[str, str]:
    """The unit's own section."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    with (home / ".config" / "systemd" / "user" / f"{name}.service").open() as file:
        unit.read_file(file)
    found = {key: value.replace("%h", str(home)) for key, value in unit["Service"].items()}
    strange = found.keys() - IGNORED - {"ExecStart", "Environment"}
    assert not strange, strange
    return found


def start(home: Path, name: str) -> None:
    """As the unit says, and without waiting for more than that it runs."""
    told = service(home, name)
    lines = [
        line for file in (home / ".config" / "environment.d").glob("*.conf") for line in file.read_text().split("\n")
    ]
    lines += shlex.split(told.get("Environment", ""))
    around = dict(line.split("=", 1) for line in lines if line)
    pid_file = started(home, name)
    pid_file.parent.mkdir(exist_ok=True)
    with pid_file.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(
            shlex.split(told["ExecStart"]),
            env={"HOME": str(home), "LANG": "C.UTF-8", **around},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid_file.write_text(str(process.pid))
    process.returncode = 0  # it outlives this one, which has nothing to say of that


def stop(home: Path, name: str) -> None:
    """SIGTERM, and wait for the end. Nothing to do where it does not run."""
    pid_file = started(home, name)
    if not pid_file.exists():
        return
    try:
        process = os.pidfd_open(int(pid_file.read_text()))
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        pass
    else:
        ended, _, _ = select.select([process], [], [], DEADLINE_S)
        os.close(process)
        assert ended, f"{name} does not end"
    pid_file.unlink()


def main(words: list[str]) -> int:
    """What was asked for. Returns the exit code."""
    home = Path(os.environ["HOME"])
    match words:
        case ["--user", "daemon-reload"]:
            pass
        case ["--user", "enable", "--now", name]:
            start(home, name)
        case ["--user", "restart", name]:
            stop(home, name)
            start(home, name)
        case _:
            sys.exit(f"unknown to this stand-in: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
