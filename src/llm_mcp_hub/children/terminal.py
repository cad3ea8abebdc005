"""A child on a pseudo-terminal of its own, as a stream of bytes. Alone in knowing pexpect; it knows no provider.

Why a pseudo-terminal at all: when the hub dies, even by SIGKILL, the kernel closes the master side and sends SIGHUP to
the child. Over pipes a busy child lives on (measured: over a minute, until killed by hand).

The terminal is raw from the start: no echo, no line editing, no limit of 4,096 bytes a line, no CR before LF. The
child's stderr goes to a file, so that its warnings cannot tear a line of the protocol.

One reader is expected. Reads and writes never block the event loop: the master's descriptor is non-blocking and the
loop watches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

if sys.platform != "win32":
    import tty

    import pexpect

CHUNK = 64 * 1024
REAPED_S = 1.0
"""How long `kill` waits for the end of what it has killed."""
_OPENED = {"exec_err_pipe_read", "exec_err_pipe_write", "master_fd", "slave_fd"}
HERE = sys.platform != "win32"
"""Whether this system has pseudo-terminals that end a child with its hub."""
TERMINAL_ACTION = (
    "Mount devpts (in a container: /dev/pts) and allow at least one pseudo-terminal."
    if HERE
    else "Run the hub in WSL (to have it: wsl --install) or as a container."
)
"""The next step where there is none."""


class TerminalError(Exception):
    """The child could not be started, or is gone."""


def _raw() -> None:
    # In the child, before it becomes the program: done from outside, a quick child may write its first line while the
    # terminal still puts a CR before each LF (seen on a busy machine).
    tty.setraw(0)


class Terminal:
    """A running child. Create it with `spawn`, on the event loop's own thread."""

    def __init__(self, child: pexpect.spawn[bytes]) -> None:
        if child.pid is None:
            raise TerminalError("the child was not started")
        self._child = child
        self.pid = child.pid
        self._fd = child.child_fd
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._readable = asyncio.Event()
        self._ended = False
        self._unsent: deque[memoryview] = deque()
        self._sent = asyncio.Event()
        self._sent.set()
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._read)

    @classmethod
    def spawn(
        cls, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, stderr: Path, columns: int = 400
    ) -> Terminal:
        """Start `command` (an absolute program first) on a new pseudo-terminal, its stderr appended to `stderr`.

        Raises TerminalError when the machine refuses a terminal. A program that is missing shows as a child that ends
        at once, with the reason in `stderr`.
        """
        if not HERE:
            raise TerminalError("Windows has none of the kind that ends a program with the hub")
        # A shell sends stderr to the file and then becomes the program (same pid): descriptors made in this
        # process would not reach the child, because ptyprocess closes all of them before it runs anything.
        # umask: what the child writes of its own is for its owner only.
        words = ["-c", 'umask 077; exec "$@" 2>>"$0"', str(stderr), *command]
        try:
            child: pexpect.spawn[bytes] = pexpect.spawn(
                "/bin/sh",
                words,
                env=dict(environment),
                cwd=str(cwd),
                echo=False,
                timeout=None,
                dimensions=(50, columns),
                encoding=None,
                preexec_fn=_raw,
            )
        except (pexpect.ExceptionPexpect, OSError) as error:
            _close_what_was_opened(error)
            raise TerminalError(f"no pseudo-terminal or no shell: {error}") from error
        child.delaybeforesend = None
        cast("Any", child).ptyproc.delayafterclose = 0  # or each `kill` would keep the loop for 0.1 s
        return cls(child)

    @property
    def ended(self) -> bool:
        """Whether the child has closed its side; what it wrote before may still be unread."""
        return self._ended

    async def read(self) -> bytes:
        """The next bytes, or b"" when the child has closed its side."""
        while not self._arrived:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        return self._arrived.popleft()

    async def write(self, data: bytes) -> None:
        """Hand all of `data` to the child, in order with other writers. Raises TerminalError when the child is gone.

        A cancelled write is still sent to its end: half a line would poison the next one.
        """
        if self._ended:
            raise TerminalError("the child has gone")
        self._unsent.append(memoryview(data))
        if self._sent.is_set():
            self._sent.clear()
            self._write()
        await self._sent.wait()
        if self._ended:
            raise TerminalError("the child has gone")

    def kill(self) -> None:
        """SIGKILL to the child's process group, and reap it. Does not await; does nothing when it is gone.

        A process that waits for a disk ends when the disk has answered, and one that is traced when its tracer allows
        it: after REAPED_S the waiting is left to a thread, or nothing else would go on here meanwhile.
        """
        self._close_stream()
        if self._child.closed:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        until = time.monotonic() + REAPED_S
        with contextlib.suppress(pexpect.ExceptionPexpect):  # somebody else has reaped it
            while self._child.isalive():
                if time.monotonic() >= until:
                    with contextlib.suppress(RuntimeError):  # no more threads: it stays until the hub ends
                        threading.Thread(target=_reap, args=(self.pid,), daemon=True).start()
                    self._child.terminated = cast("Any", self._child).ptyproc.terminated = True  # pexpect need not
                    break
                time.sleep(0.0005)
            self._child.close()

    async def close(self, grace_s: float = 2.0) -> None:
        """SIGTERM, `grace_s` seconds, then SIGKILL; reaped in any case. May be called twice."""
        if self._child.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while not self._ended:
                    self._readable.clear()
                    await self._readable.wait()
        self.kill()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process on the slave side has gone (Linux's way to say end of file)
            data = b""
        if data:
            self._arrived.append(data)
        else:
            self._close_stream()
        self._readable.set()

    def _write(self) -> None:
        try:
            while self._unsent:
                sent = os.write(self._fd, self._unsent[0][:CHUNK])
                if sent == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:
            self._close_stream()
            return
        self._loop.remove_writer(self._fd)
        self._sent.set()

    def _close_stream(self) -> None:
        if not self._ended:
            self._ended = True
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
                self._loop.remove_writer(self._fd)
            self._unsent.clear()
            self._readable.set()
            self._sent.set()


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _close_what_was_opened(error: BaseException) -> None:
    """ptyprocess (0.7) makes a pipe before it forks, Python's `pty.fork` two ends of a terminal, and where they cannot
    fork they leave them open.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        held = frame.f_locals
        if "pid" not in held:  # once there is a child they close them themselves
            for name in _OPENED & held.keys():
                os.close(held[name])
