"""Right inputs made wrong: bytes, texts and JSON values, a little changed, by a `random.Random` that is handed in.

Knows no input's meaning. What it puts in is what has broken parsers before: ends cut off, halves of characters, numbers
without end, nesting, and one piece said a thousand times.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterable
from typing import Any, cast

LONG = 1 << 16
"""Bytes or characters that a repetition makes at most."""
MARKS = "\0\n\r\x1b\u2028\ufeff\ud800\udc00\udcff²١é\U0010ffff\"'\\{}[],:/#%=.-+ \t0"
PIECES: tuple[bytes, ...] = (
    *(b"\0", b"\n", b"\r\n", b"\xff", b"\xfe\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8"),
    *(b"\\ud800", b"\\u0000", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 5_000),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"[" * 3_000, b'{"a":' * 3_000, b"{}", b"[]", b'""'),
    *(b"\x1b[", b"\x1b]0;", b"\x07", b"=", b"'", b"${A}", b"%00", b"..", b"/", b"//", b"/*"),
)


def _deep() -> Any:
    value: Any = []
    for _ in range(200):
        value = [value]
    return value


STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 255, 10**15, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 1e-308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "\0", "\ud800", "\udcff", "²", "١٢", "0", "-1", "x" * 5_000),
    *("null", "{}", "1e999", "9" * 5_000, "1969-12-31", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"),
    *([], {}, [[]], {"": None}, [None] * 300, {"a": {"b": {"c": []}}}, _deep()),
)


def mutated(value: Any, random: random.Random) -> Any:
    """A copy with one change to five. Of several values in a tuple one or two are changed, each within its kind."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        value = _once(value, random)
    return value


def _once(value: Any, random: random.Random) -> Any:
    if isinstance(value, bytes):
        return _bytes(value, random)
    if isinstance(value, str):
        return _text(value, random)
    if isinstance(value, tuple):
        whole = cast("tuple[Any, ...]", value)
        at = random.randrange(len(whole))
        return (*whole[:at], _once(whole[at], random), *whole[at + 1 :])
    if isinstance(value, dict | list):
        return _json(cast("dict[str, Any] | list[Any]", value), random)
    return random.choice(STRANGE)


def _span(length: int, random: random.Random) -> tuple[int, int]:
    at = random.randint(0, length)
    return at, min(length, at + random.choice((0, 1, 1, 2, 4, 8, 16, 64, length)))


def _bytes(data: bytes, random: random.Random) -> bytes:
    at, end = _span(len(data), random)
    match random.randrange(9):
        case 0 if data:  # a bit
            at = random.randrange(len(data))
            return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]
        case 1 if data:
            at = random.randrange(len(data))
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:end]
        case 4:
            return data[:end] + data[at:]
        case 5:  # the same piece again and again
            piece = data[at:end] or random.choice(PIECES)
            return (data[:at] + piece * random.choice((2, 10, max(2, LONG // len(piece)))) + data[end:])[: 2 * LONG]
        case 6:
            return data[:at] + random.randbytes(random.choice((1, 2, 8, 32))) + data[end:]
        case 7:
            other, ends = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
            return data[:at] + data[other:ends] + data[at:]
        case _:
            return data[:at] + random.choice(PIECES) + data[end if random.random() < 0.5 else at :]


def _text(text: str, random: random.Random) -> str:
    at, end = _span(len(text), random)
    match random.randrange(7):
        case 0:
            return text[:at] + text[end:]
        case 1:
            return text[:end] + text[at:]
        case 2:
            piece = text[at:end] or random.choice(MARKS)
            return (text[:at] + piece * random.choice((2, 10, max(2, LONG // len(piece)))) + text[end:])[: 2 * LONG]
        case 3:
            return text[:at] + chr(random.choice((random.randrange(256), random.randrange(0x11_0000)))) + text[end:]
        case 4:
            return text[:at] + text[at:end].swapcase() + text[end:]
        case 5:
            return text[:at] + random.choice(PIECES).decode("utf-8", "surrogateescape") + text[end:]
        case _:
            return text[:at] + random.choice(MARKS) + text[end if random.random() < 0.5 else at :]


Place = tuple[Any, Any]
"""A container, and the name or number of one of its members."""


def _places(value: Any) -> Iterable[Place]:
    left: list[Any] = [value]
    while left:
        here = left.pop()
        members: Iterable[Any]
        if isinstance(here, dict):
            members = list(cast("dict[Any, Any]", here))
        elif isinstance(here, list):
            members = range(len(cast("list[Any]", here)))
        else:
            continue
        for name in members:
            yield here, name
            left.append(here[name])


def _json(value: dict[str, Any] | list[Any], random: random.Random) -> Any:
    whole: Any = copy.deepcopy(value)
    places = list(_places(whole))
    if not places or random.randrange(25) == 0:
        return _by_its_text(whole, random) if random.random() < 0.5 else random.choice(STRANGE)
    held, name = random.choice(places)
    member = held[name]
    match random.randrange(8):
        case 0:
            del held[name]
        case 1 if isinstance(held, dict):  # under another name
            del held[name]
            held[_text(str(name), random)] = member
        case 2:
            other, its = random.choice(places)
            held[name] = copy.deepcopy(other[its])
        case 3:
            held[name] = random.choice(([member], {"a": member}, [member] * 3))
        case 4 if isinstance(member, str | bytes):
            held[name] = _once(member, random)
        case 5 if isinstance(member, int | float) and not isinstance(member, bool):
            held[name] = random.choice((-member, member + 1, member * 1_000, member // 3, str(member)))
        case 6:
            return _by_its_text(whole, random)
        case _:
            held[name] = copy.deepcopy(random.choice(STRANGE))
    return whole


def _by_its_text(value: Any, random: random.Random) -> Any:
    """Changed where it is written, and read again where it still is JSON."""
    try:
        return json.loads(_bytes(json.dumps(value).encode(), random))
    except (ValueError, RecursionError, TypeError):
        return value


def smaller(value: Any, still: Callable[[Any], bool]) -> Any:
    """What is left of a value when everything is taken from it without which it is `still` the same. Bounded."""
    tries = 2_000
    changed = True
    while changed and tries > 0:
        changed = False
        for candidate in _reductions(value):
            tries -= 1
            if tries <= 0:
                break
            if still(candidate):
                value, changed = candidate, True
                break
    return value


def _reductions(value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes):
        line: Any = value
        size = len(value) // 2
        while size:
            for at in range(0, len(value), size):
                yield line[:at] + line[at + size :]
            size //= 2
    elif isinstance(value, tuple):
        whole = cast("tuple[Any, ...]", value)
        for at, member in enumerate(whole):
            for less in _reductions(member):
                yield (*whole[:at], less, *whole[at + 1 :])
    elif isinstance(value, dict):
        held = cast("dict[Any, Any]", value)
        for name in held:
            yield {other: member for other, member in held.items() if other != name}
        for name, member in held.items():
            for less in _reductions(member):
                yield {**held, name: less}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for at, member in enumerate(items):
            yield [*items[:at], *items[at + 1 :]]
            for less in _reductions(member):
                yield [*items[:at], less, *items[at + 1 :]]
