"""Who else may read or write a file, by its owner, group and mode. On Windows these say nothing of that."""

from __future__ import annotations

import os
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


def is_anothers(about: os.stat_result) -> bool:
    """Whether its owner, who may do with it what they like whatever its mode, is neither this user nor root."""
    return sys.platform != "win32" and about.st_uid not in {os.geteuid(), 0}


def is_ours(about: os.stat_result) -> bool:
    """Whether this user may change its mode."""
    return sys.platform == "win32" or about.st_uid == os.geteuid()


def keep(descriptor: int, about: os.stat_result) -> None:
    """Give an open file that is to stand for another one that one's owner, group and mode. Raises OSError.

    A user who may not give a file away owns it then; where it cannot have its group either, no group may use it: ours
    may be everybody's.
    """
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(about.st_mode)
    try:
        os.fchown(descriptor, about.st_uid, about.st_gid)
    except OSError:
        try:
            os.fchown(descriptor, -1, about.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG
    os.fchmod(descriptor, mode)
