"""A few inputs for each part that reads what others write, the same ones each time; `make fuzz` throws many more.

What has broken a part once is among them: see `found.py`.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.fuzz import served
from tests.fuzz.all_targets import targets
from tests.fuzz.engine import Target, run

MORE = 40
EACH = targets()


@pytest.fixture(scope="module", autouse=True)
def closed() -> Generator[None]:
    """The apps end with the module."""
    yield
    served.close()


@pytest.mark.parametrize("target", EACH, ids=lambda target: target.name)
def test_whatever_comes_is_taken_or_refused_with_a_code(target: Target) -> None:
    """Another exception would reach a caller as `internal`, or end a hub; a secret in a refusal would reach a log."""
    tally = run(target, len(target.seeds) + MORE, 1)

    assert tally.told == []
    assert tally.unhandled == 0
    assert tally.inputs == len(target.seeds) + MORE
