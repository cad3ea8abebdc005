"""The process that an MCP client starts and ends, and the hub behind it, which may outlive that end. Knows no MCP.

A client that leaves closes stdin and kills what it started two seconds later (both official SDKs do). An ask that was
handed back as a ticket has to go on all the same. So the hub is a child of the process that the client knows, in a
session of its own: the front waits for it, passes signals on, and ends with its exit code, or at once when the hub says
that it goes on alone. To the hub, the front's death is its client's leaving.

The split happens before anything heavy is imported and before there is any thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import NoReturn

_ALONE = b"a"
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, *(() if sys.platform == "win32" else (signal.SIGHUP,)))


@dataclass(frozen=True, slots=True)
class Front:
    """The hub's end of the link to its front."""

    gone: int
    """A descriptor that is at its end when the front has died."""
    word: int
    client: tuple[tuple[int, int], ...]
    """Device and inode of the client's ends of stdin, stdout and stderr."""

    def go_on_alone(self) -> None:
        """Let the client see the end of its server, and hold nothing of the client's any more."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, no paths
            descriptor = int(name)
            with contextlib.suppress(OSError):
                found = os.fstat(descriptor)
                if (found.st_dev, found.st_ino) in self.client:
                    os.dup2(nothing, descriptor)
        with contextlib.suppress(OSError):  # it has died already
            os.write(self.word, _ALONE)
        os.close(self.word)


def divide() -> Front:
    """Split this process. Returns in the hub; the front never returns. Call it before there is a second thread."""
    gone, alive = os.pipe()
    told, word = os.pipe()
    # Python forgets in a new process what came before it ran: a Ctrl-C in that moment would end nothing.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    hub = os.fork()
    if hub:
        os.close(gone)
        os.close(word)
        _wait(hub, told, held)
    os.close(alive)
    os.close(told)
    os.setsid()  # a client ends its server's whole process group
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    ends = [os.fstat(descriptor) for descriptor in (0, 1, 2)]
    return Front(gone, word, tuple((end.st_dev, end.st_ino) for end in ends))


def _wait(hub: int, told: int, held: set[int | signal.Signals]) -> NoReturn:
    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hub, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if os.read(told, 1) == _ALONE:
        os._exit(0)
    _, status = os.waitpid(hub, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # die of what the hub died of, so that the client sees it
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)
