"""What becomes of what a command prints, where nobody reads it or it cannot be written. Knows no command.

Python itself looks at its end only: it complains in a form of its own then, and the exit code is 120.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

EX_IOERR = 74
NAME = "llm-mcp-hub"


class Unwritable(Exception):
    """What a command that talks with somebody has to say cannot be written: there is nobody to go on with."""


def take_all() -> None:
    """Let stdout take every text, whatever its encoding: what that lacks is printed by its number (`\\u2713`).

    Python's own way would break an ask in the middle of its answer. The numbers are JSON's, so JSON stays whole.
    """
    out: object = sys.stdout
    # What it is told to do is tried first: on Windows, and where the locale is C, the bytes of files' names.
    first = out.errors if isinstance(out, io.TextIOWrapper) else None
    if first is not None and first != NAME:
        codecs.register_error(NAME, partial(_taken, codecs.lookup_error(first)))
        cast("Any", out).reconfigure(errors=NAME)


def _taken(first: Callable[[UnicodeError], tuple[str | bytes, int]], error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    with contextlib.suppress(UnicodeError):
        return first(one)
    units = error.object[one.start : one.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), one.end


def printed(code: int) -> int:
    """The exit code, once everything that was printed is out."""
    try:
        unread()
    except OSError as error:
        failed = unwritable(error)
        return code or failed
    return code


def say(text: str, *, end: str = "\n") -> None:
    """Print it at once. Raises Unwritable, and BrokenPipeError where nobody reads it any more."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable from error


def aside(*lines: str) -> None:
    """Say it on stderr, on which nothing hangs: where it cannot be written it is let go."""
    try:
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(2)


def unwritable(error: BaseException | None) -> int:
    """Tell that what was to be printed could not be. Returns the exit code."""
    throw_away()
    why = error.strerror if isinstance(error, OSError) else ""
    aside(f"llm-mcp-hub: what was to be printed cannot be written ({why})")
    return EX_IOERR


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
    _to_nowhere(1)


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
