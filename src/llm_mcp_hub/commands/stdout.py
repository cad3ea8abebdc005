"""What becomes of what a command prints, where nobody reads it or it cannot be written. Knows no command.

Python itself looks at its end only: it complains in a form of its own then, and the exit code is 120.
"""

from __future__ import annotations

import errno
import os
import sys

EX_IOERR = 74


def printed(code: int) -> int:
    """The exit code, once everything that was printed is out."""
    try:
        unread()
    except OSError as error:
        throw_away()
        print(f"llm-mcp-hub: what was to be printed cannot be written ({error.strerror})", file=sys.stderr)
        return code or EX_IOERR
    return code


def unread() -> bool:
    """Whether nobody reads stdout any more: `| head` has seen enough. Raises OSError where it cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        throw_away()
        return True
    return False


def throw_away() -> None:
    """What is still buffered would fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def shown(line: str) -> str:
    """Print what can be printed this once. Returns why it could not be, nothing where it was."""
    if sys.stdout is None:
        return os.strerror(errno.EBADF)
    try:
        print(line, flush=True)
    except OSError as error:
        throw_away()
        return error.strerror or type(error).__name__
    return ""
