"""What a child on a terminal says to a person, as text, and the waiting for a part of it. Knows no provider.

It knows no screen either: lines are read in the order in which they are written. A program that redraws a line by its
changed characters alone would be read wrong, so a child is asked for plain lines where it has a way to be asked.
"""

from __future__ import annotations

import codecs
import re

from llm_mcp_hub.children.terminal import Terminal

MOST = 1 << 18
"""Characters that are kept while nothing of what is waited for shows."""

_ESCAPE = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # a title, a hyperlink
    r"|\x1b[P^_X][^\x1b]*\x1b\\"
    r"|\x1b\[[0-?]*[ -/]*(?P<end>[@-~])"
    r"|\x1b[ -/]*[0-Z\\^-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x7f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\][^\x07\x1b]*\x1b?|[P^_X][^\x1b]*\x1b?|\[[0-?]*[ -/]*|[ -/]*)\Z")
_MOVES = frozenset("ABCDEFGHdf`")
"""What ends a movement of the cursor: some programs space their words with them."""


def _shown(escape: re.Match[str]) -> str:
    return " " if escape["end"] in _MOVES else ""


class Dialogue:
    """A terminal, read as text. One reader is expected."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""
        self.text = ""
        """What has been written and not been waited for yet."""

    async def until(self, *wanted: re.Pattern[str]) -> re.Match[str] | None:
        """The first of these to show, and all before it is done with. None when the child ends without.

        Nothing is lost where this is cancelled.
        """
        while True:
            found = [match for pattern in wanted if (match := pattern.search(self.text))]
            if found:
                first = min(found, key=re.Match[str].end)
                self.text = self.text[first.end() :]
                return first
            data = await self._terminal.read()
            if not data:
                return None
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        text = self._unfinished + self._decoder.decode(data)
        cut = _UNFINISHED.search(text)
        whole = text[: cut.start()] if cut else text
        self._unfinished = text[len(whole) :][-MOST:]
        self.text = (self.text + _ESCAPE.sub(_shown, whole))[-MOST:]
