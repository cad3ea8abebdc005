"""What `ask` reads from stdin: the question, or something to put before one. Knows no provider.

Beside a question stdin may be anybody's: a pipe that a CI, an editor or ssh holds open and never writes to must not
hold up an ask. So a pipe is waited for `SILENT_S` seconds, and one that says nothing till then is left out and told of.
What is a file or begins to speak is read to its end; a device (`/dev/null`) and a terminal are not read. `--file -`
says that something comes, and waits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_mcp_hub.conversation import PROMPT_LIMIT
from llm_mcp_hub.errors import InvalidRequest

if TYPE_CHECKING:
    from llm_mcp_hub.material.gathering import Attachment

NAME = "stdin"
SILENT_S = 2.0
LONGEST = 4 * PROMPT_LIMIT
"""Bytes of a question at most, in UTF-8."""


def read(given: argparse.Namespace) -> tuple[str, list[Attachment]]:
    """The question, and what is put before it from stdin. Raises InvalidRequest."""
    named = "-" in (given.file or ())
    if given.prompt in {None, "-"}:
        if named:
            raise InvalidRequest(
                "stdin cannot be both the question and a file.",
                action=f'Give the question as a word: llm-mcp-hub ask {given.provider} "…" --file -',
            )
        return question(given), []
    data = _all() if named else _piped(quiet=given.json)
    return given.prompt, [_part(data)] if data else []


def question(given: argparse.Namespace) -> str:
    """What `ask` asks; read from stdin where no word says it. Raises InvalidRequest."""
    if given.prompt not in {None, "-"}:
        return given.prompt
    taken = bool(given.git_diff)  # a word that may have been meant for the question
    swallowed = InvalidRequest(
        "There is no question: --git-diff takes the word behind it for its base.",
        action=f'Put the question first: llm-mcp-hub ask {given.provider} "…" --git-diff; '
        "with one from stdin write --git-diff=BASE, BASE being a revision.",
    )
    if taken and len(given.git_diff.split()) != 1:  # as no revision is that the hub takes
        raise swallowed
    options = ("file", "conversation", "model", "system")
    named = next((f"--{option}" for option in options if given.prompt is None and getattr(given, option)), None)
    data = b""
    if sys.stdin is not None:
        if sys.stdin.isatty():
            _look_for(given.file or ())
            has = "--git-diff has the word behind it for its base" if taken else f"{named} has the word behind it"
            note = f"; {has}" if taken or named else ""
            print(f"Type the question, then Ctrl-D on a line of its own{note}.", file=sys.stderr)
        data = sys.stdin.buffer.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise InvalidRequest(
                f"stdin is larger than a question, which has {PROMPT_LIMIT:,} characters at most.",
                action=f'Put it before one: llm-mcp-hub ask {given.provider} "…" --file -',
            )
    if not data.strip():
        if taken:
            raise swallowed
        raise InvalidRequest(
            f"There is no question: {'stdin is empty' if named is None else f'{named} takes the word behind it'}.",
            action=f'Put it behind the provider: llm-mcp-hub ask {given.provider} "…"',
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(
            "stdin is no UTF-8 text, so it is no question.",
            action=f'Put an image, a PDF or another text before one: llm-mcp-hub ask {given.provider} "…" --file PATH',
        ) from None


def _piped(*, quiet: bool) -> bytes:
    """What somebody pipes in, as far as that can be told."""
    try:
        descriptor = -1 if sys.stdin is None else sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # closed, or none of the system's
        return b""
    waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    if sys.platform == "win32" or not (waits or stat.S_ISREG(mode)):  # there nobody can look whether a pipe speaks
        return b""
    if waits and not select.select([descriptor], [], [], SILENT_S)[0]:
        if not quiet:
            print(
                f"stdin is an open pipe that has said nothing for {SILENT_S:g} s, so the question goes without it.\n"
                "  To wait for it: --file -; to leave it out at once: < /dev/null",
                file=sys.stderr,
            )
        return b""
    return _all()


def _look_for(files: Sequence[str]) -> None:
    """Before somebody types a question, which would be lost. Raises InvalidRequest for a file that is not there."""

    def is_there(file: str) -> bool:
        with contextlib.suppress(OSError):  # a question, say, which is too long for a name
            return Path(file).exists()
        return False

    if any(file != "-" and not is_there(file) for file in files):
        raise InvalidRequest(
            "--file names a file that is not there.",
            action="Check the path; a relative one starts in the folder you are in.",
        )


def _all() -> bytes:
    from llm_mcp_hub.material.rules import FILE_LIMIT

    data = b"" if sys.stdin is None else sys.stdin.buffer.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise InvalidRequest(
            f"stdin is larger than {FILE_LIMIT // 1_000_000} MB.", action="Pipe a part of it, such as: … | tail -n 1000"
        )
    return data


def _part(data: bytes) -> Attachment:
    from llm_mcp_hub.material.gathering import Attachment
    from llm_mcp_hub.material.rules import kind

    return Attachment(NAME, kind(data) or "text/plain", None, data)
