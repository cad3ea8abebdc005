"""G8's other half, the drill of the drain: a hub that is told to end loses no ask of those that run.

Twenty asks of a real hub over HTTP with the real CLIs: both providers, both eras, calls that wait, tickets, and calls
whose connection was lost; half of them end while the hub drains, half would never. SIGTERM; then each is an answer or a
record that the next hub on the same store hands out. HUB_DRILL_ROUNDS is as in the drill of G5; `-s` shows the counts.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.guarantees.drill import FIRST, PROVIDERS, ROUNDS, Call, Hub, run_folders
from tests.guarantees.durable import STORES, WHOLE, Question, StoreKind, Voices, held_in, id_of, stored, ticket
from tests.harness import DEADLINE_S, Era, World, answer_of, error_of

pytestmark = pytest.mark.timeout(240 + 120 * ROUNDS)

DRAIN_S = 8.0
GRACE_S = DRAIN_S + 20.0
"""A service manager's patience: what is asked for is DRAIN_S and a few seconds, on a machine that does nothing else."""
Kind = Literal["waits", "ticket", "connection lost"]
WAYS: list[tuple[Era, Kind]] = [
    ("legacy", "connection lost"),  # first those whose ids only the list tells: it has the last ten
    ("auto", "waits"),
    ("auto", "ticket"),
    ("legacy", "waits"),
    ("legacy", "ticket"),
]


@dataclass
class Asked:
    """One of the twenty."""

    question: Question
    kind: Kind
    ends: bool
    """Whether its provider answers while the hub drains."""
    call: Call | None = None
    ask_id: str = ""


def ask_all(voices: Voices, clients: dict[Era, Hub], go_on: threading.Event) -> list[Asked]:
    """All of them, each in the middle of its answer."""
    asked: list[Asked] = []
    for provider in PROVIDERS:
        for ends in (True, False):
            for era, kind in WAYS:
                one = Asked(voices.holds(provider, go_on if ends else None), kind, ends)
                client = clients[era]
                if kind == "ticket":
                    one.ask_id = ticket(client, one.question)
                else:
                    one.call = client.ask(provider, prompt=one.question.prompt, wait_s=3600)
                asked.append(one)
                voices.under_way(one.question)
                if kind == "connection lost":
                    one.ask_id = id_of(client, one.question)
                    assert one.call is not None
                    one.call.hang_up()
                    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever way a connection breaks
                        one.call.result()
    return asked


def told_by_its_call(one: Asked) -> str:
    """What a call that waited was told: `answer`, or `error`."""
    assert one.call is not None
    result = one.call.result()
    if one.ends:
        answer = answer_of(result)
        one.ask_id = answer["ask_id"]
        assert (answer["status"], answer["text"]) == ("completed", WHOLE)
        return "answer"
    error = error_of(result)
    one.ask_id = error["ask_id"]
    assert (error["code"], error["retryable"], error["partial_text"]) == ("internal", True, FIRST)
    return "error"


def found_at(next_hub: Hub, one: Asked) -> str:
    """How its record stands, at the next hub on the same store."""
    result = next_hub.call("ask_result", {"ask_id": one.ask_id}).result()
    if one.ends:
        assert answer_of(result)["text"] == WHOLE
        return "answer"
    error = error_of(result)
    assert (error["code"], error["retryable"], error["partial_text"]) == ("internal", True, FIRST)
    return "error"


@pytest.mark.drill
@pytest.mark.parametrize("kind", STORES)
def test_of_twenty_asks_each_ends_in_an_answer_or_a_record(world: World, tmp_path: Path, kind: StoreKind) -> None:
    """Exit code 0 within the grace time, no child left, nothing held, and no ask of which nobody knows."""
    world.changes |= {
        "HUB_CLAUDE_CONCURRENCY": "10",
        "HUB_GEMINI_CONCURRENCY": "10",
        "HUB_CLAUDE_WARM": "2",
        "HUB_DRAIN_S": str(DRAIN_S),
        "LOG_LEVEL": "DEBUG",
    }
    with stored(world, kind, tmp_path):
        for number in range(ROUNDS):
            go_on = threading.Event()
            voices = Voices(world)
            with Hub(world, "http", "auto") as hub:
                asked = ask_all(voices, {"auto": hub, "legacy": hub.another("legacy")}, go_on)
                hub.log.wait_for("first text", more_than=len(asked) - 1)
                since = time.monotonic()
                hub.process.terminate()
                hub.log.wait_for("the hub ends")
                go_on.set()
                told = [told_by_its_call(one) for one in asked if one.kind == "waits"]
                code = hub.process.wait(GRACE_S)
                took = time.monotonic() - since
                log = hub.log.end()
            world.wait_until_no_child()
            assert (code, run_folders(world), held_in(world)) == (0, [], []), log
            assert "Traceback" not in log
            with Hub(world, "http", "auto") as next_hub:
                kept = [found_at(next_hub, one) for one in asked]
            assert len({one.ask_id for one in asked}) == len(asked) == 20
            print(
                f"\nG8  drain, {kind:<6} round {number + 1}/{ROUNDS}: {len(kept)} of {len(asked)} asks are known at "
                f"the next hub ({kept.count('answer')} answers, {kept.count('error')} with what had come); "
                f"of {len(told)} calls that waited {told.count('answer')} got an answer, "
                f"{told.count('error')} a coded error; exit {code} {took:.1f} s after SIGTERM (drain {DRAIN_S:.0f} s)"
            )
    for one_upstream in PROVIDERS:
        world.upstream(one_upstream).wait_until_quiet(timeout=DEADLINE_S)
