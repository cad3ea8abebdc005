"""The nouns: whole characters out of pieces, and values that cannot change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_mcp_hub.conversation import Characters, Usage, whole

HALVES = st.text(st.sampled_from("a한\U0001f600\ud83d\ude00\udbff\udc00\ud800\udfff\ue000\ufffd"), max_size=12)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", ""),
        ("plain 한국어 😀", "plain 한국어 😀"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d", "\ufffd"),
        ("b\ude00", "b\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a\ud83db", "a\ufffdb"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
        ("\ud83d😀", "\ufffd😀"),
    ],
)
def test_halves_that_meet_are_one_character_and_lone_ones_none(given: str, made: str) -> None:
    """JSON can carry half of a character; no encoding after it can."""
    assert whole(given) == made


def test_a_half_waits_for_the_next_piece() -> None:
    """A stream may be cut in the middle of an emoji: nothing is shown of it until it is whole."""
    characters = Characters()

    assert [characters.joined(piece) for piece in ["a\ud83d", "", "\ude00b", "c"]] == ["a", "", "😀b", "c"]


@given(st.lists(HALVES, max_size=6))
def test_pieces_join_to_what_the_whole_text_is(pieces: list[str]) -> None:
    """However a text is cut: what is shown is the whole text, but for a half that nothing follows."""
    characters = Characters()
    shown = "".join(characters.joined(piece) for piece in pieces)

    shown.encode()
    text = "".join(pieces)
    kept = text[:-1] if "\ud800" <= text[-1:] <= "\udbff" else text
    assert shown == whole(kept)


def test_a_noun_is_frozen_and_knows_its_fields() -> None:
    """What crosses the hub's border is neither changed on its way nor extended by accident."""
    usage = Usage(input_tokens=1, output_tokens=2)

    with pytest.raises(ValidationError):
        setattr(usage, "input_tokens", 5)  # noqa: B010 -- written plainly, the type checker would refuse it
    with pytest.raises(ValidationError):
        Usage.model_validate({"input_tokens": 1, "output_tokens": 2, "price": 3})
