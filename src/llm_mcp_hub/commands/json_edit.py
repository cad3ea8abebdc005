"""Changing one member of a JSON text that somebody else wrote. Everything else stays as it is, byte for byte.

Text in, text out; knows no file and no client. Comments and trailing commas, which some clients allow in their files,
are read over and kept. The standard library parses; what is done here is to find where in the text a member stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn, cast

_STRING = r'"(?:[^"\\\r\n]|\\.)*"'
_COMMENT = re.compile(rf"({_STRING}|/\*(?!.*?\*/).*)|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
"""The group is what stays: a string, or a comment without an end and all behind it (each would be sought an end)."""
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])")
_BLANK = re.compile(r"[ \t\r\n]*")
_INDENTED = re.compile(r"^([ \t]+)[\"}\]]", re.MULTILINE)
_BOM = "\ufeff"


class Unreadable(ValueError):
    """The text is no JSON object, or holds something else where the member belongs. Says where, and quotes nothing."""


class _Member(NamedTuple):
    """A member of an object, or an element of an array, whose `name` is then empty: where it stands in the text."""

    name: str
    begin: int
    value_at: int
    end: int
    value: Any


class _Container(NamedTuple):
    """An object or an array in the text: its members, and where its brackets stand."""

    opened: int
    members: list[_Member]
    closed: int


def read(text: str) -> dict[str, Any]:
    """The object that the text holds; an empty one for a text with nothing in it. Raises Unreadable."""
    plain = _plain(text)
    return cast("dict[str, Any]", _loads(plain)) if plain.strip() else {}


def is_strict(text: str) -> bool:
    """Whether the text, which can be read here, can be read by those too who allow no comments and trailing commas."""
    without_mark = f" {text[1:]}" if text.startswith(_BOM) else text
    return not text.strip() or _plain(text) == without_mark


def put(text: str, path: Sequence[str], value: Any) -> str:
    """The text with the member at `path` set to a value; objects on the way to it are made where they are missing.

    A text that holds the value there already is given back as it is. Raises Unreadable.
    """
    expected = read(text)
    inner: Any = expected
    for name in path[:-1]:
        inner = cast("dict[str, Any]", inner).setdefault(name, {}) if isinstance(inner, dict) else None
    plain = _plain(text)
    if not plain.strip():
        head = text.rstrip() + _end_of(text) if text.strip(_BOM + " \t\r\n") else text[: text.startswith(_BOM)]
        return head + _rendered(_nested(path, value), text, "") + _end_of(text)
    container = _container(plain, _skip(plain, 0))
    for depth, name in enumerate(path):
        member = _named(container, name)
        if member is None:
            new = _inserted(text, container, name, _nested(path[depth + 1 :], value))
            break
        if depth == len(path) - 1:
            if member.value == value:
                return text
            one_line = _one_line(text[container.opened : container.closed])
            written = _compact(value, text) if one_line else _rendered(value, text, _indent_at(text, member.begin))
            new = text[: member.value_at] + written + text[member.end :]
            break
        container = _container(plain, _object_at(plain, member, path[: depth + 1]))
    else:
        raise AssertionError("a path has at least one name")
    inner[path[-1]] = value
    return _checked(new, expected)


def add(text: str, name: str, element: dict[str, Any], same: Callable[[Any], bool]) -> str:
    """The text with an element at the end of the array `name`, unless one that is the `same` is there.

    Raises Unreadable.
    """
    expected = read(text)
    if name not in expected:
        return put(text, [name], [element])
    held: Any = expected[name]
    if not isinstance(held, list):
        raise Unreadable(f"its `{name}` is no array")
    elements = cast("list[Any]", held)
    if any(same(each) for each in elements):
        return text
    plain = _plain(text)
    member = _named(_container(plain, _skip(plain, 0)), name)
    assert member is not None
    elements.append(element)
    return _checked(_inserted(text, _container(plain, member.value_at), None, element), expected)


def remove(text: str, path: Sequence[str]) -> str:
    """The text without the member at `path`; the same text where there is none. Raises Unreadable."""
    expected: Any = read(text)
    plain = _plain(text)
    if not plain.strip():
        return text
    container, inner = _container(plain, _skip(plain, 0)), expected
    for depth, name in enumerate(path[:-1]):
        member = _named(container, name)
        if member is None:
            return text
        container, inner = _container(plain, _object_at(plain, member, path[: depth + 1])), inner[name]
    found = [member for member in container.members if member.name == path[-1]]
    if not found:
        return text
    if len(found) == 1:
        del inner[path[-1]]
        return _checked(_without(text, container, found[0]), expected)
    inner[path[-1]] = found[-2].value
    return remove(_checked(_without(text, container, found[-1]), expected), path)


def drop(text: str, name: str, which: Callable[[Any], bool]) -> str:
    """The text without the elements of the array `name` that are meant. Raises Unreadable."""
    while True:
        expected = read(text)
        plain = _plain(text)
        member = _named(_container(plain, _skip(plain, 0)), name) if plain.strip() else None
        if member is None or plain[member.value_at] != "[":
            return text
        container = _container(plain, member.value_at)
        found = next((number for number, each in enumerate(container.members) if which(each.value)), None)
        if found is None:
            return text
        del expected[name][found]
        text = _checked(_without(text, container, container.members[found]), expected)


def _nested(path: Sequence[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


# -- reading -----------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """The text as strict JSON, with blanks in place of what is none, so that everything stands where it stood."""
    text = text.replace(_BOM, " ", 1) if text.startswith(_BOM) else text
    try:
        _loads(text)
    except Unreadable:
        text = _TRAILING_COMMA.sub(_blanked, _COMMENT.sub(_blanked, text))
        if text.strip():
            _loads(text)
    return text


def _blanked(found: re.Match[str]) -> str:
    return found[1] or re.sub(r"[^\r\n]", " ", found[0])


def _strange(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_strange, parse_int=Decimal, parse_float=Decimal)
"""Numbers exactly as they are written, however many digits they have: `int` refuses 5,000."""


def _loads(plain: str) -> Any:
    try:
        held = _DECODER.decode(plain)
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is no JSON at line {error.lineno}, column {error.colno}") from None
    except (ValueError, ArithmeticError, RecursionError):
        raise Unreadable("it is no JSON that can be read") from None
    if not isinstance(held, dict):
        raise Unreadable("it holds no JSON object")
    return cast("dict[str, Any]", held)


def _skip(plain: str, at: int) -> int:
    found = _BLANK.match(plain, at)
    assert found is not None
    return found.end()


def _container(plain: str, opened: int) -> _Container:
    """The members of the object or array that begins here, by the parser's own word on where each one ends."""
    closing = {"{": "}", "[": "]"}[plain[opened]]
    members: list[_Member] = []
    at = _skip(plain, opened + 1)
    while plain[at] != closing:
        begin, name = at, ""
        if closing == "}":
            name, at = _DECODER.raw_decode(plain, at)
            at = _skip(plain, _skip(plain, at) + 1)
        value, end = _DECODER.raw_decode(plain, at)
        members.append(_Member(str(name), begin, at, end, value))
        at = _skip(plain, end)
        if plain[at] == ",":
            at = _skip(plain, at + 1)
    return _Container(opened, members, at)


def _named(container: _Container, name: str) -> _Member | None:
    """The last one of that name: where there are two, it is the one that counts for clients."""
    return next((member for member in reversed(container.members) if member.name == name), None)


def _object_at(plain: str, member: _Member, path: Sequence[str]) -> int:
    if plain[member.value_at] != "{":
        raise Unreadable(f"its `{'.'.join(path)}` is no object")
    return member.value_at


# -- writing -----------------------------------------------------------------------------------------------------------


def _end_of(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _one_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text


def _indent_at(text: str, at: int) -> str:
    line = text[max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    found = _INDENTED.search(text)
    return found[1] if found is not None else "  "


def _compact(value: Any, text: str) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ") if '": ' in text else (",", ":"))


def _rendered(value: Any, text: str, indent: str) -> str:
    """A value as the owner of the text would have written it."""
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text)).split("\n")
    return (_end_of(text) + indent).join(lines)


def _uncommented(text: str) -> str:
    """The text with blanks for comments alone: what still is a comma there, separates."""
    return _COMMENT.sub(_blanked, text)


def _inserted(text: str, container: _Container, name: str | None, value: Any) -> str:
    """With one more member, or element, behind the last one and behind the comments that follow it."""
    members, opened, closed = container.members, container.opened, container.closed
    last = members[-1].end if members else opened + 1
    behind = last + len(text[last:closed].rstrip())
    comma = "," if members and "," not in _uncommented(text)[last:closed] else ""
    if _one_line(text[opened:closed]) and (members or (_one_line(text.strip()) and text[:opened].strip(" " + _BOM))):
        spaced = '": ' in text
        head = "" if name is None else json.dumps(name) + (": " if spaced else ":")
        gap = " " if members and spaced else ""
        return text[:last] + comma + text[last:behind] + gap + head + _compact(value, text) + text[behind:]
    outer = _indent_at(text, opened)
    inner = _indent_at(text, members[-1].begin) if members else outer + _unit(text)
    head = "" if name is None else json.dumps(name) + ": "
    tail = text[behind:closed]
    if _one_line(tail):
        tail = _end_of(text) + outer
    new = _end_of(text) + inner + head + _rendered(value, text, inner)
    return text[:last] + comma + text[last:behind] + new + tail + text[closed:]


def _without(text: str, container: _Container, member: _Member) -> str:
    """Without a member, and without the comma that would be too many."""
    uncommented = _uncommented(text)
    after = _skip(uncommented, member.end)
    if uncommented[after] == ",":
        begin, end = member.begin, after + 1
        before = text[:begin].rstrip(" \t")
        rest = text[end:].lstrip(" \t")
        if before.endswith(("\n", "\r")) and rest.startswith(("\n", "\r")):  # whole lines
            return before + rest[2 if rest.startswith("\r\n") else 1 :]
        return text[:begin] + rest
    number = container.members.index(member)
    before = text[: member.begin]
    stripped = before.rstrip()
    if uncommented[len(stripped) - 1] != " " or not _one_line(text[member.end : container.closed]):
        before = stripped  # else a comment that ends with its line would take in what follows
    if number:
        comma = uncommented.index(",", container.members[number - 1].end)
        before = before[:comma] + before[comma + 1 :]
    return before + text[member.end :]


def _checked(new: str, expected: Any) -> str:
    """What was made of a text, if it says what it should and all that it said: nothing else may reach a file."""
    if read(new) != expected:
        raise Unreadable("it is written in a way that is not understood here")
    return new
