"""Names of variables that were most likely meant for a setting's. Pure; knows no setting."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

OWN = "HUB_"
"""What begins so is nobody else's."""
OTHERS = frozenset({"LOGLEVEL"})
"""Well-known names of other programs."""


def names(layers: Sequence[Mapping[str, str]], known: Collection[str]) -> tuple[tuple[str, str], ...]:
    """What is called almost like a setting, each with that one; the first layer is the environment.

    Other programs have their names there too, some of them much like ours: there only a name of ours, or one that has
    lost or swapped a letter, is meant; a longer one (`CLAUDE_MODELS`) is another's.
    """
    found: dict[str, str] = {}
    for number, layer in enumerate(layers):
        for name in {*layer} - {*known} - OTHERS:
            ours = number or name.startswith(OWN)
            likely = difflib.get_close_matches(
                name, known if ours else _not_inside(name, known), 1, 0.75 if ours else 0.9
            )
            if likely:
                found[name] = likely[0]
    return tuple(sorted(found.items()))


def _not_inside(name: str, known: Iterable[str]) -> list[str]:
    return [each for each in known if each not in name]
