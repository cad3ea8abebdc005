"""Who else may read or write a file, by its mode. On Windows a mode says nothing of that."""

from __future__ import annotations

import stat
import sys


def can_write(mode: int) -> bool:
    """Whether the group or anybody can."""
    return sys.platform != "win32" and bool(mode & (stat.S_IWGRP | stat.S_IWOTH))


def can_read(mode: int) -> bool:
    """Whether the group or anybody can."""
    return sys.platform != "win32" and bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def can_enter(mode: int) -> bool:
    """Whether the group or anybody can do anything at all in a folder of this mode."""
    return sys.platform != "win32" and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
