"""A hub like any other, on a system in trouble: its clock jumps, and the system starts nothing.

Run by path; the first word is a folder. While a file `clock` is there, the clock is off by so many seconds as it says;
while `no-fork` is there, each start of a program fails with EAGAIN, which the kernel tells a user who has too many
processes. It tells root that never, so here the call of the system fails in its stead.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv.pop(1))
REAL_TIME, REAL_MOMENT = time.time, datetime.datetime


def shift() -> float:
    with contextlib.suppress(OSError, ValueError):
        return float((FOLDER / "clock").read_text())
    return 0.0


class Moment(datetime.datetime):
    """`now` by the clock that is off."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return REAL_MOMENT.now(tz) + datetime.timedelta(seconds=shift())


def refuse(real: Any) -> Any:
    def fork(*given: Any, **named: Any) -> Any:
        if (FOLDER / "no-fork").exists():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real(*given, **named)

    return fork


if __name__ == "__main__":
    time.time = lambda: REAL_TIME() + shift()
    datetime.datetime = Moment
    starter: Any = subprocess
    starter._fork_exec = refuse(starter._fork_exec)
    import pty

    pty.fork = os.forkpty = refuse(os.forkpty)
    from llm_mcp_hub.cli import main

    words = sys.argv[1:]
    del words[: 3 if words[1:3] == ["-m", "llm_mcp_hub"] else 0]  # how others start it
    sys.argv[1:] = words
    raise SystemExit(main(words))
