"""Who else may read or write a file, by its owner, group and mode. On Windows these say nothing of that."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

ACL = "system.posix_acl_access"
LABELS = "security."
"""Attributes that the system itself gives to a new file, by its policy (SELinux, Smack, IMA). Not every user may set
them, and what they say may hold for one content alone."""


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


def attributes(file: Path | int) -> dict[str, bytes]:
    """The extended attributes of a file, its access list among them; none where there are none. Raises OSError."""
    if sys.platform != "linux":
        return {}
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.ENOSYS}:
            return {}
        raise
    found: dict[str, bytes] = {}
    for name in names:
        try:
            found[name] = os.getxattr(file, name)
        except OSError as error:
            if not name.startswith(LABELS) and error.errno != errno.ENODATA:
                raise
    return found


def keep(descriptor: int, about: os.stat_result, held: Mapping[str, bytes] | None = None) -> None:
    """Give an open file that is to stand for another one that one's owner, group, mode and extended attributes.

    A user who may not give a file away owns it then; where it cannot have its group either, no group may use it: ours
    may be everybody's. Raises OSError, also for an attribute that cannot be kept.
    """
    if sys.platform == "win32":
        return
    held = held or {}
    mode = stat.S_IMODE(about.st_mode)
    try:
        os.fchown(descriptor, about.st_uid, about.st_gid)
    except OSError:
        try:
            os.fchown(descriptor, -1, about.st_gid)
        except OSError:
            if ACL in held:  # it would let our group in, or nobody of those whom it names
                raise _lost(ACL) from None
            mode &= ~stat.S_IRWXG
    if sys.platform == "linux":
        given = attributes(descriptor)
        if ACL in given and ACL not in held:  # of its folder: those whom it names could not read the other file
            os.removexattr(descriptor, ACL)
        if ACL in held:  # before the mode, which would let a whole group in
            _set(descriptor, ACL, held[ACL])
        os.fchmod(descriptor, mode)
        for name, value in held.items():
            if name != ACL and given.get(name) != value:
                with contextlib.suppress(OSError) if name.startswith(LABELS) else contextlib.nullcontext():
                    _set(descriptor, name, value)
    else:
        os.fchmod(descriptor, mode)


def _set(descriptor: int, name: str, value: bytes) -> None:
    if sys.platform == "linux":
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            raise _lost(name) from error


def _lost(name: str) -> OSError:
    return OSError(errno.ENOTSUP, f"its extended attribute {name} cannot be kept")
