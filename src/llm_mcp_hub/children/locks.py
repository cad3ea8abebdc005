"""A file's lock, which the system drops when its holder dies, whatever killed it. Knows no reason to take one."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

OPENED = os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)  # Windows has none: there nothing is inherited
_AGAIN_S = 0.05

if sys.platform == "win32":
    import msvcrt

    def lock(descriptor: int, *, wait: bool = True) -> None:
        """Take it for as long as `descriptor` is open. Raises BlockingIOError if another holds it, unless `wait`."""
        while True:
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):  # nobody holds it: it cannot be locked at all
                    raise
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from error
                time.sleep(_AGAIN_S)  # its own waiting gives up after ten tries
            else:
                return

else:
    import fcntl

    def lock(descriptor: int, *, wait: bool = True) -> None:
        """Take it for as long as `descriptor` is open. Raises BlockingIOError if another holds it, unless `wait`."""
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_folder(folder: Path) -> int | None:
    """Take the lock of the folder itself, for as long as the descriptor is open that is returned.

    None where none can be had: on Windows, and on file systems such as NFS, which lock only what is open for writing.
    Raises BlockingIOError if another holds it, and OSError where the folder cannot be opened.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, wait=False)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def held(file: Path, *, within_s: float = 0.0) -> Generator[None]:
    """Hold the lock of a file, which is made if need be.

    Raises BlockingIOError where another holds it for longer than `within_s`, and OSError where it cannot be had.
    """
    handle = os.open(file, OPENED, 0o600)
    until, pause = time.monotonic() + within_s, 0.001
    try:
        while True:
            try:
                lock(handle, wait=False)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _AGAIN_S)
        yield
    finally:
        os.close(handle)
