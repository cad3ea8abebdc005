"""How many values a text holds, whatever it is cut into: compared with what a parser finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from llm_mcp_hub.serving.shape import Shape
from tests.unit.strategies import any_json, chunked


def values(told: Any) -> int:
    """The values in what a parser has made, names among them."""
    if isinstance(told, dict):
        return 1 + sum(1 + values(value) for value in told.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(told, list):
        return 1 + sum(values(value) for value in told)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return 1


@given(chunked(any_json().map(lambda told: json.dumps(told).encode())))
def test_no_text_has_more_values_than_are_counted(cut: tuple[bytes, list[bytes]]) -> None:
    """And not three times as many: so the limit is one for senders too. Cut anywhere, it is the same."""
    whole, pieces = cut
    found = values(json.loads(whole))

    def fits(most: int) -> bool:
        shape = Shape(most)
        return all(shape.takes(piece) for piece in pieces)

    assert fits(3 * found + 3)
    assert found <= 2 or not fits(found // 2 - 1)


@pytest.mark.parametrize(
    "text",
    [b'"' + b"," * 500 + b'"', rb'"\"[[[,,,"', b'"' + rb"\\" * 500 + b'"', b" " * 500, b'{"a": "[{,"}', b""],
    ids=["commas", "quotes", "backslashes", "blanks", "marks", "nothing"],
)
def test_what_stands_in_a_text_is_one_value(text: bytes) -> None:
    """A prompt may be all commas."""
    for size in (1, 2, 3, 500):
        shape = Shape(4)
        assert all(shape.takes(text[at : at + size]) for at in range(0, len(text), size))


@pytest.mark.parametrize(
    "text", [b"[" * 20, b"[" + b"[]," * 20, b'{"a":' * 20, b'""' * 20, b"1," * 20, b'"a\\\\"' + b"," * 20]
)
def test_many_values_are_too_many_however_they_come(text: bytes) -> None:
    """The count is kept from one piece to the next."""
    for size in (1, 2, 3, 500):
        shape = Shape(10)
        assert not all(shape.takes(text[at : at + size]) for at in range(0, len(text), size))


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-32", "utf-16-be"])
def test_other_forms_of_text_are_not_taken(form: str) -> None:
    """In them a quote is no quote, and the count would be of something else."""
    assert not Shape().takes('{"a": 1}'.encode(form))
