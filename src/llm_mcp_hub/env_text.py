"""The text of an env file: what it says, and how a value is put into it. Pure; knows no variable."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TextIO

from dotenv.parser import parse_stream

MOST_CHARS = 1 << 20
"""More than any env file has; so what has no end (`/dev/zero`) is not read to it."""
_TOO_MANY_BLANKS = re.compile(r"(?<![^\S\r\n])[^\S\r\n]{1000}")
"""dotenv's time grows with the square of blanks in a row: 4,000 take 0.02 s, 64,000 some 5 s (python-dotenv 1.2)."""
_ASSIGNED = re.compile(r"\A(?P<before>\s*(?:export[^\S\r\n]+)?)\S.*?(?P<end>\r\n|\n|\r|)\Z", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+~-]*")


class Unreadable(ValueError):
    """No env file has such a text; says why."""


def parsed(lines: TextIO) -> tuple[dict[str, str], list[int]]:
    """The variables that are set to something, and the numbers of the lines that are no NAME=VALUE.

    Raises Unreadable, and OSError of the reading.
    """
    try:
        text = _readable(lines.read(MOST_CHARS + 1))
    except UnicodeError as error:
        raise Unreadable("it is no text in UTF-8") from error
    read = list(parse_stream(io.StringIO(text)))
    values = {each.key: each.value for each in read if each.key and each.value}
    odd = [each for each in read if each.error or (each.key and each.value is None and not each.key.isidentifier())]
    return values, [each.original.line for each in odd]


def with_values(text: str, values: Mapping[str, str]) -> str:
    """An env file's text with these variables set; every other line stays as it is, byte for byte.

    A variable that is set already gets its new value where it stands, every time it stands there: programs differ in
    which one of two counts. Any other is appended.

    Raises Unreadable, also where it would be the values' fault.
    """
    mark, body = (text[:1], text[1:]) if _readable(text).startswith("\ufeff") else ("", text)
    written: list[str] = []
    missing = dict(values)
    for line in parse_stream(io.StringIO(body, newline="")):
        found = _ASSIGNED.match(line.original.string)
        value = values.get(line.key or "")
        if value is not None and found is not None:
            missing.pop(line.key or "", None)
            written.append(f"{found['before']}{line.key}={_quoted(value)}{found['end']}")
        else:
            written.append(line.original.string)
    ending = "\r\n" if "\r\n" in body else "\n"
    if missing and written and not written[-1].endswith(("\n", "\r")):
        written.append(ending)
    written += [f"{name}={_quoted(value)}{ending}" for name, value in missing.items()]
    return _readable(mark + "".join(written))


def _readable(text: str) -> str:
    if len(text) > MOST_CHARS:
        raise Unreadable("it has more than a million characters")
    if _TOO_MANY_BLANKS.search(text):
        raise Unreadable("it has a thousand blanks in a row")
    return text


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
