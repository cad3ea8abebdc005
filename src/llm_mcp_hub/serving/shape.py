"""Of how many values a JSON text is made, told while it comes and before anything is made of it. Pure; parses nothing.

A parser makes an object of each value: 16 MiB of empty lists take half a gigabyte and hold everybody up for seconds,
while the longest prompt is one value. Only what separates values is counted, outside of texts.
"""

from __future__ import annotations

import re

VALUES = 10_000
"""A call with every file, path and attachment that it may have is made of less than 2,000."""
_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE = ord('"')


class Shape:
    """Counts the values of one text that comes in pieces."""

    def __init__(self, most: int = VALUES) -> None:
        self._most = most
        self._count = 0
        self._in_text = False
        self._escaped = False

    def takes(self, piece: bytes) -> bool:
        """Count this piece too. Returns whether there are few enough values, and whether it can be UTF-8 at all.

        A zero byte stands in UTF-16 and UTF-32, which some parsers read as well, and nowhere in JSON's UTF-8.
        """
        if b"\0" in piece:
            return False
        at, end = 0, len(piece)
        if self._escaped and end:
            at, self._escaped = 1, False
        while at < end and self._count <= self._most:
            at = self._text(piece, at) if self._in_text else self._between(piece, at)
        return self._count <= self._most

    def _text(self, piece: bytes, at: int) -> int:
        found = _TEXT.match(piece, at)
        assert found is not None
        at = found.end()
        if at < len(piece):  # its end, or a backslash whose character is yet to come
            self._in_text = piece[at] != _QUOTE
            self._escaped = self._in_text
        return at + 1

    def _between(self, piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        end = len(piece) if quote < 0 else quote
        self._count += sum(piece.count(mark, at, end) for mark in (b",", b"[", b"{"))
        if quote >= 0:
            self._count += 1
            self._in_text = True
        return end + 1
