"""The keys of the store: no two things have the same, whatever a caller calls one of its own."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from llm_mcp_hub.store.base import CONVERSATION, key, name_from_bytes, name_to_bytes

PARTS = st.text(st.sampled_from(":%23A5a\0\ud800"), max_size=6)


@given(PARTS, PARTS, PARTS, PARTS)
@example("client:anna", "x", "client", "anna:x")
@example("a", "%3A", "a", ":")
@example("a", "%253A", "a", "%3A")
def test_a_key_names_one_thing_alone(who: str, what: str, other: str, others: str) -> None:
    """G8: what is another's cannot be found by an id that is cut at another place."""
    one = key(CONVERSATION, who=who, conversation_id=what)
    two = key(CONVERSATION, who=other, conversation_id=others)

    assert (one == two) == ((who, what) == (other, others))
    assert one.count(":") == CONVERSATION.count(":")
    assert name_from_bytes(name_to_bytes(one)) == one
