"""Changing a file that a client of the user's reads, and may write: never torn, nothing lost, a copy kept beside it.

Knows files, no client and no JSON.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from llm_mcp_hub import others
from llm_mcp_hub.commands import env_file
from llm_mcp_hub.errors import Misconfigured

LARGEST = 64 * 1024 * 1024
TRIES = 5
LOCK_S, LOCK_STALE_S = 10.0, 60.0
"""How long another's lock is waited for; after how long it is that of a program that has died: its owner renews it."""
BACKUP = "before-llm-hub"


class Unusable(Exception):
    """The file stays as it is. Says why, as the end of a sentence, and quotes nothing of what is in it."""


class _Meanwhile(Exception):
    """Somebody else has written the file."""


class Edited(NamedTuple):
    """What was done: whether the file is another one now, the copy of the one before, and who else can read it."""

    changed: bool
    backup: Path | None
    others_read: bool


def edit(file: Path, change: Callable[[str], str], *, lock: str | None = None) -> Edited:
    """Put `change` of its text in place of a file; links to it stay. A missing one is made, for its owner alone.

    Args:
        file: where the client looks for it.
        change: from the text that is there, empty where there is none, to the one that is to be. Called again when
            somebody else has written the file meanwhile.
        lock: what is put behind the file's name for the folder that its client holds while it writes.

    Raises Unusable, and what `change` raises; the file is then as it was.
    """
    absent = False
    try:
        meant = file.resolve()
        about = _about(meant)
        absent = about is None
        if absent and not meant.parent.is_dir():
            if file.is_symlink():
                raise Unusable(f"it is a link to {meant}, whose folder is not there")
            meant.parent.mkdir(mode=0o700, parents=True)
        with _held(file.with_name(file.name + lock)) if lock is not None else contextlib.nullcontext():
            for _ in range(TRIES):
                about = _about(meant)
                before = b"" if about is None else meant.read_bytes()
                text = before.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 come back as they were
                after = change(text)
                if after == text:
                    return Edited(False, None, _others_read(about))
                backup = None if about is None else _copy(file, before, about, others.attributes(meant))
                try:
                    _replace(meant, text, after)
                except BaseException as error:
                    if backup is not None:  # nothing was changed, so it is a copy of nothing
                        backup.unlink()
                    if not isinstance(error, _Meanwhile):
                        raise
                else:
                    return Edited(True, backup, _others_read(about))
    except RuntimeError:  # links in a circle, before Python 3.13
        raise Unusable("its links lead in a circle") from None
    except UnicodeError:
        raise Unusable("it cannot hold the path of this installation") from None
    except OSError as error:
        what = "made" if absent else "read and replaced"
        raise Unusable(f"it cannot be {what} ({error.strerror})") from error
    raise Unusable("another program keeps writing it")


def _about(file: Path) -> os.stat_result | None:
    """What is there; None where nothing is. Raises Unusable for what is no file to be replaced."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode):
        raise Unusable("it is no file" if not stat.S_ISDIR(about.st_mode) else "it is a folder")
    if not about.st_mode & (stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH) or not os.access(file, os.R_OK):
        raise Unusable("it cannot be read and replaced (Permission denied)")
    if not about.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(file, os.W_OK):
        raise Unusable("it is write-protected")
    if about.st_size > LARGEST:
        raise Unusable(f"it is larger than {LARGEST // 1024 // 1024} MiB")
    return about


def _others_read(about: os.stat_result | None) -> bool:
    return about is not None and others.can_read(about.st_mode)


def _replace(file: Path, before: str, after: str) -> None:
    """Put one text in place of the other. Raises _Meanwhile where that is not there any more, and OSError."""

    def change(now: str) -> str:
        if now != before:
            raise _Meanwhile
        return after

    try:
        env_file.rewrite(file, change, most=LARGEST)
    except Misconfigured as error:
        raise error.__cause__ or error from None


def _copy(file: Path, content: bytes, about: os.stat_result, held: Mapping[str, bytes]) -> Path:
    """A copy beside the file, open to the same users, for it may hold secrets; under a name that nothing has yet."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for ending in ("", f"-{moment}", *(f"-{moment}-{number}" for number in range(2, 10))):
        copy = file.with_name(f"{file.name}.{BACKUP}{ending}")
        try:
            opened = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except FileExistsError:
            continue
        try:
            with os.fdopen(opened, "wb") as written:
                written.write(content)
                others.keep(written.fileno(), about, held)
                written.flush()
                os.fsync(written.fileno())
        except OSError:
            copy.unlink()
            raise
        return copy
    raise Unusable("there is no name left for a copy of it")


@contextlib.contextmanager
def _held(lock: Path) -> Generator[None]:
    """Hold a folder that stands for the right to write, as npm's proper-lockfile does it."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > LOCK_STALE_S:
                    lock.rmdir()
                    continue
        if time.monotonic() > until:
            raise Unusable(f"another program holds {lock}")
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.rmdir()
