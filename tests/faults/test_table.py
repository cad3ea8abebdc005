"""What is cheap to know of the drill of faults: its list is whole and speaks of what there is, and it can be failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest

from llm_mcp_hub.credentials.status import USABLE, State
from tests.faults.faults import FAULTS, STAGES, by_hub
from tests.faults.report import collapsed, summary
from tests.faults.table import ANSWERED, GROUPS, WORDS, Row
from tests.guarantees.drill import PROVIDERS


def test_the_list_has_all_five_groups_and_many_faults() -> None:
    """`survived n/N` says little of a short list; a row that is lost is not missed by anything else."""
    groups = Counter(fault.group for fault in FAULTS)

    assert len(FAULTS) >= 45
    assert set(groups) == set(GROUPS)
    assert min(groups.values()) >= 8
    assert len({(fault.group, fault.name) for fault in FAULTS}) == len(FAULTS)
    assert sum(fault.by == "real" for fault in FAULTS) > len(FAULTS) / 2


def test_every_fault_expects_what_there_is_and_strikes_a_hub_that_there_is() -> None:
    """A code that `errors.py` has not could never be told, and a status that there is not never shown."""
    expected = {word for fault in FAULTS for who in fault.expected for word in fault.words(who)}
    outages = {(name, word) for fault in FAULTS for name, word in fault.outage.items()}

    assert expected <= WORDS
    assert all(fault.expected for fault in FAULTS)
    assert {name for name, _ in outages} <= set(PROVIDERS)
    assert {word for _, word in outages} <= set(get_args(State)) - USABLE
    assert [fault for _, own in by_hub(FAULTS) for fault in own] == FAULTS
    assert {kind for kind, _ in by_hub(FAULTS)} == set(STAGES)


SURVIVED = Row(FAULTS[0], got={who: FAULTS[0].words(who)[0] for who in FAULTS[0].expected}, next_ask=ANSWERED)
FAILED = {
    "another code": replace(SURVIVED, got=dict.fromkeys(SURVIVED.got, "internal")),
    "somebody not told": replace(SURVIVED, got={}),
    "the next ask refused": replace(SURVIVED, next_ask="claude: busy"),
    "an orphan": replace(SURVIVED, orphans=["node"]),
    "a leak": replace(SURVIVED, leaks=["prompt in the log"]),
    "a false outage": replace(SURVIVED, false_outages=["claude: rejected"]),
    "a missed outage": replace(SURVIVED, missed_outages=["claude: valid"]),
    "a drill that broke": replace(SURVIVED, broke="OSError"),
}


@pytest.mark.parametrize("what", FAILED)
def test_a_fault_is_survived_only_if_every_look_finds_nothing(what: str) -> None:
    """Each of them alone makes it `NO`: a sum that hides one would call a broken hub sound."""
    assert SURVIVED.survived
    assert not FAILED[what].survived
    assert summary([SURVIVED, FAILED[what]]).startswith("survived 1/2, ")


def test_rounds_that_came_out_alike_are_one_line_and_others_stand_beside_it() -> None:
    """Ten rounds are no ten tables; what came out otherwise once is seen."""
    lines = [["one", "answered", "yes"], ["two", "timeout", "yes"], ["one", "answered", "yes"], ["one", "lost", "NO"]]

    assert collapsed(lines) == [["one", "answered", "yes, 2 times"], ["two", "timeout", "yes"], ["one", "lost", "NO"]]
