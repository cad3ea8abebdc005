"""What hypothesis draws from in more than one of these tests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
"""Any text that UTF-8 can carry."""

ANY_TEXT = st.text(st.characters(), max_size=30)
"""Any text that JSON can carry: lone surrogates too."""


def any_json() -> st.SearchStrategy[Any]:
    """Any JSON value, NaN and huge numbers included, as a CLI gone wrong might write it."""
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY_TEXT, inner, max_size=3)),
        max_leaves=6,
    )


def loose(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`value`, or sometimes anything else."""
    return st.one_of(value, value, any_json())


@st.composite
def chunked(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same bytes cut into pieces anywhere."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in pairwise(edges)]
