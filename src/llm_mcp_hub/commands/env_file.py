"""Writing a secret into an env file of the user's: as a whole or not at all, and into nothing that others could change.

Knows files, no variable and no provider.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from llm_mcp_hub import others
from llm_mcp_hub.env_text import MOST_CHARS, Unreadable
from llm_mcp_hub.errors import Misconfigured

MOST_BYTES = 4 * MOST_CHARS


def check(file: Path) -> Path:
    """The file that is meant, if it may be written: its links are followed as long as they stay in its folder.

    Raises Misconfigured, before anybody has made an effort.
    """
    file = file.absolute()
    try:
        folder = file.parent.resolve(strict=True)
        meant = file.resolve()
        about = meant.stat() if meant.exists() else None
    except (OSError, RuntimeError) as error:  # the second: links in a circle
        raise _unusable(file, "its folder cannot be found", "Name a file in a folder that exists.") from error
    if meant.parent != folder:
        raise _unusable(file, f"it is a link to {meant}, in another folder", f"Name the file itself: {meant}")
    if about is not None and not stat.S_ISREG(about.st_mode):
        raise _unusable(file, "it is no file", "Name a file.")
    if about is not None and others.can_write(about.st_mode):
        raise _unusable(file, "other users can write it", f"Run: chmod go-w {shlex.quote(str(meant))}")
    if not os.access(folder, os.W_OK | os.X_OK) or (about is not None and not os.access(meant, os.R_OK)):
        raise _unusable(file, "this user cannot read and replace it", "Name a file in a folder that you can write.")
    return meant


def rehearse(file: Path, change: Callable[[str], str]) -> None:
    """Make this change of a checked file's text, and write nothing. Raises Misconfigured where the text forbids it."""
    try:
        _changed(file, change, MOST_BYTES)
    except OSError as error:
        raise _unreplaceable(file, error) from error


def rewrite(file: Path, change: Callable[[str], str], *, most: int = MOST_BYTES) -> str:
    """Put `change` of its text in place of a checked file. Returns what the user is to be told of it, mostly nothing.

    A new file is for its owner alone, an old one keeps its mode, its extended attributes (Linux) and, where the system
    allows it, its owner. One of more than `most` bytes is refused.
    Raises Misconfigured; the file is then as it was.
    """
    beside = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        about = file.stat() if file.exists() else None
        content = _changed(file, change, most)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # else Windows writes other line ends
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as written:
            written.write(content)
            if about is not None:
                others.keep(written.fileno(), about, others.attributes(file))
            written.flush()
            os.fsync(written.fileno())
        beside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unreplaceable(file, error) from error
    if about is not None and others.can_read(about.st_mode):
        return f"Other users of this machine can read {file}: chmod 600 {shlex.quote(str(file))}"
    return ""


def _changed(file: Path, change: Callable[[str], str], most: int) -> bytes:
    # Bytes that are no UTF-8, and line ends, come back as they were.
    text = ""
    if file.exists():
        with file.open("rb") as there:
            content = there.read(most + 1)
        if len(content) > most:  # a part of it would be written back as the whole
            raise _unusable(file, f"it is larger than {most >> 20} MiB", "Name another file.")
        text = content.decode("utf-8", "surrogateescape")
    try:
        return change(text).encode("utf-8", "surrogateescape")
    except Unreadable as error:
        raise _unusable(file, f"{error}, so it is no settings file", "Name another file.") from error


def _unreplaceable(file: Path, error: OSError) -> Misconfigured:
    why = f"it cannot be replaced ({error.strerror})"
    return _unusable(file, why, "Name a file in a folder that you can write.")


def _unusable(file: Path, why: str, action: str) -> Misconfigured:
    return Misconfigured(f"{file} is not written: {why}.", action=action)
