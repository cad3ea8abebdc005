"""Throws inputs at one part of the hub after the other, and counts what becomes of each. Knows no part.

An input is either taken or refused with a code that its target names. Everything else is unhandled: another exception,
an answer that its judge does not stand, a secret in what is told, more processor time than one input may take.
Half of the inputs are right ones with a few changes, half are drawn by hypothesis; all of them follow from one seed.
"""

from __future__ import annotations

import collections
import json
import logging
import random
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from llm_mcp_hub.errors import HubError
from tests.fuzz.mutations import mutated, smaller

MARK = "7f3a9c51"
CANARY = f"canary-{MARK}-{MARK}-{MARK}"
"""Stands in every secret and prompt that is thrown. No part of it may be in what the hub tells of a failure."""
TAKEN = "taken"
MOST_CPU_S = 2.0
"""Of this thread for one input of at most some 100 KB: a hub that thinks for longer serves nobody meanwhile."""
SHOWN = 3
"""So many failures of a target are told with their inputs."""


@dataclass(frozen=True)
class Target:
    """One part of the hub.

    Attributes:
        name: the row that it has in the table.
        seeds: right inputs.
        drawn: inputs by their grammar, right and wrong.
        judge: throws one. Returns TAKEN or the code of a refusal; raises for what must not happen.
        refusals: the codes that may be returned.
        weight: its part of all inputs; what is slow has less.
    """

    name: str
    seeds: Sequence[Any]
    drawn: st.SearchStrategy[Any]
    judge: Callable[[Any], str]
    refusals: frozenset[str] = frozenset()
    weight: float = 1.0


@dataclass
class Tally:
    """What became of a target's inputs."""

    target: str
    inputs: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter[str])
    unhandled: int = 0
    slowest_s: float = 0.0
    told: list[str] = field(default_factory=list[str])
    seen: set[str] = field(default_factory=set[str])


def refused(error: HubError) -> str:
    """The code of a refusal that is fit to be told. Raises AssertionError for one that is not."""
    details = error.details()
    assert error.message, "a refusal says nothing"
    assert error.action, f"a refusal names no next step: {error.message}"
    told = json.dumps({**details, "partial_text": None}, allow_nan=False, ensure_ascii=False)
    told.encode()  # half a character could not be sent
    safe(f"{told} {error!r} {error}")
    return error.code


def safe(told: str) -> None:
    """Raises AssertionError where a secret stands in what is told."""
    assert MARK not in told, f"a secret is told: {told[:300]}"


def run(target: Target, inputs: int, number: int) -> Tally:
    """Throw so many inputs at a target; `number` is the seed of all of them."""
    tally = Tally(target.name)
    quiet = logging.root.manager.disable
    logging.disable()  # libraries that warn of each input
    try:
        _run(target, inputs, number, tally)
    finally:
        logging.disable(quiet)
    return tally


def _run(target: Target, inputs: int, number: int, tally: Tally) -> None:
    own = random.Random(f"{number} {target.name}")
    for value in target.seeds[:inputs]:
        _throw(target, value, tally)
    drawn = max(0, (inputs - tally.inputs) // 2)
    if drawn:
        _draw(target, drawn, zlib.crc32(f"{number} {target.name}".encode()), tally)
    while tally.inputs < inputs:
        _throw(target, mutated(own.choice(target.seeds), own), tally)


def _draw(target: Target, most: int, number: int, tally: Tally) -> None:
    @seed(number)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(target.drawn)
    def throw(value: Any) -> None:
        _throw(target, value, tally)

    throw()


def _throw(target: Target, value: Any, tally: Tally) -> None:
    tally.inputs += 1
    began = time.thread_time()
    outcome, fault = _judged(target, value)
    spent = time.thread_time() - began
    tally.slowest_s = max(tally.slowest_s, spent)
    slow = fault is None and spent > MOST_CPU_S
    if slow:
        fault = f"it took {spent:.1f} s of processor time"
    if fault is None:
        tally.outcomes[outcome] += 1
        return
    tally.unhandled += 1
    if outcome in tally.seen or len(tally.told) >= SHOWN:
        return
    tally.seen.add(outcome)
    least = value if slow or outcome == TAKEN else smaller(value, lambda less: _judged(target, less)[0] == outcome)
    shown = repr(least)
    tally.told.append(f"{fault}\n  input: {shown if len(shown) < 2_000 else shown[:2_000] + '...'}")


def _judged(target: Target, value: Any) -> tuple[str, str | None]:
    """TAKEN, or the code of a refusal, and None; else where it broke, and how."""
    try:
        outcome = target.judge(value)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} at {where.filename.rpartition('/')[2]}:{where.lineno}"
        return kind, f"{kind}: {str(error)[:500]}\n{''.join(traceback.format_exception(error)[-6:-1])[:3_000]}"
    if outcome == TAKEN or outcome in target.refusals:
        return outcome, None
    return f"refused: {outcome}", f"refused with {outcome}, which is none of {sorted(target.refusals)}"
