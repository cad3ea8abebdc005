"""A reader that holds on to what it has read while this machine lets the hub open no more files. Knows no provider.

A login that cannot be read for want of a descriptor is as good as it was: to call it missing would be a false outage.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Protocol

from llm_mcp_hub.credentials.known import Held

SHORT = frozenset({errno.EMFILE, errno.ENFILE})


class Reader(Protocol):
    """What finds logins: files and variables of one provider."""

    newest_first: bool
    """Whether the login that came last is the one to use; else the first that is held."""

    def held(self) -> Sequence[Held]:
        """Every login that there is now, the preferred one first; one that says what is missing where there is none."""
        ...


class Steady:
    """Reads as the reader that it is given does, and again what it read before while no file can be opened."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._last: Sequence[Held] = ()
        self.newest_first = reader.newest_first

    def held(self) -> Sequence[Held]:
        """As the reader's."""
        found = self._reader.held()
        if self._last and _usable(found) != _usable(self._last):
            if _short():
                return self._last
            found = self._reader.held()  # the shortage may have ended between the reading and the look at it
        self._last = found
        return found


def _usable(found: Sequence[Held]) -> list[str]:
    return [one.mark for one in found]


def _short() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in SHORT
    return False
