"""G4, nothing lost: an accepted ask ends in an answer or one coded error, and whoever asked can come back for it.

Real hubs with the real CLIs. What ends an ask, and what does not, is tested for each transport and era; then clients
leave, hubs are killed at random moments, and more is asked at once than is served at once. HUB_DRILL_ROUNDS is as in
the drill of G5 (2 by default, 20 in `make drill-full`); `-s` shows a line for each drill.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.guarantees.drill import (
    FEW,
    FIRST,
    PROVIDERS,
    ROUNDS,
    TIGHT,
    Call,
    Hub,
    Provider,
    descriptors,
    gone,
    repeated,
    run_folders,
)
from tests.guarantees.durable import (
    REST,
    SEED,
    STORES,
    WHOLE,
    Question,
    StoreKind,
    Voices,
    fetched,
    held_in,
    id_of,
    listed,
    status_of,
    stored,
    ticket,
    until,
    wait_until_nothing_is_left,
)
from tests.harness import DEADLINE_S, EVERY_WAY, Era, Transport, World, answer_of, error_of, make_world, run_command

pytestmark = pytest.mark.timeout(240 + 240 * ROUNDS)

Way = tuple[Transport, Era, Provider]
OF_GEMINI: list[Way] = [(transport, era, "gemini") for transport, era in EVERY_WAY]
KILLS = 200 if ROUNDS >= 20 else 5 * ROUNDS
"""On each store; each is a hub's whole life with its CLI's start, so `make test` has a twentieth of them."""
ASKS_A_LIFE = 6
WAYS: list[Way] = [*OF_GEMINI, ("stdio", "auto", "claude"), ("http", "legacy", "claude")]


# What ends an ask, and what does not ----------------------------------------------------------------------------------


@dataclass
class Rig:
    """A hub that is reached in one of the ways, and another one on the same store, with one place in all."""

    world: World
    voices: Voices
    hub: Hub
    other: Hub
    transport: Transport
    era: Era
    provider: Provider

    def ask(self, question: Question, **more: Any) -> tuple[Call, str]:
        """Ask, until the first words are there. Returns the call that waits, and the ask."""
        before = len(self.hub.log.found("first text", provider=self.provider))
        call = self.hub.ask(self.provider, prompt=question.prompt, **more)
        self.voices.under_way(question)
        self.hub.log.wait_for("first text", more_than=before, provider=self.provider)
        return call, id_of(self.other, question)

    def ticket(self, question: Question, **more: Any) -> str:
        """Ask for a ticket, and see the ask begin."""
        before = len(self.hub.log.found("first text", provider=self.provider))
        ask_id = ticket(self.hub, question, **more)
        self.voices.under_way(question)
        self.hub.log.wait_for("first text", more_than=before, provider=self.provider)
        return ask_id

    def fetch(self, ask_id: str, hub: Hub | None = None) -> Any:
        """The ask's end, from the other hub if none is named."""
        return (hub or self.other).call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}).result()

    def ended(self, question: Question, ask_id: str, status: str, upstream: str) -> None:
        """The record is right in both hubs, the request upstream is what it should be, and nothing is left."""
        assert question.request.done.wait(DEADLINE_S), "the request is still open upstream"
        assert question.request.ended == upstream
        wait_until_nothing_is_left(self.world, hubs=2)
        assert [status_of(hub, ask_id) for hub in (self.hub, self.other)] == [status, status]

    def failed(self, question: Question, ask_id: str, code: str, status: str = "failed") -> None:
        """As `ended`, with this error and the first words, from both hubs."""
        self.ended(question, ask_id, status, "disconnected")
        for hub in (self.hub, self.other):
            error = error_of(self.fetch(ask_id, hub))
            assert (error["code"], error["partial_text"], error["ask_id"]) == (code, FIRST, ask_id)

    def still_works(self, question: Question, ask_id: str) -> None:
        """Nothing that came so far has ended it: it gets its whole answer when the provider goes on."""
        assert not self.hub.call("token_status", {}).result().is_error  # what was sent before has been read
        assert question.request.ended == "open"
        # A record of an ask that has just begun may say `accepted` until the hub's next beat.
        for hub in (self.hub, self.other):
            until(lambda hub=hub: status_of(hub, ask_id) == "working", "the ask is at work")
        question.go_on.set()
        assert answer_of(self.fetch(ask_id))["text"] == WHOLE
        self.ended(question, ask_id, "completed", "answered")


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Rig]:
    """Two warm hubs for all the rows of the table."""
    transport, era, provider = request.param
    with make_world(tmp_path_factory.mktemp("table") / "world") as world:
        world.changes |= TIGHT
        voices = Voices(world)
        with Hub(world, transport, era) as hub, Hub(world, "stdio", "auto") as other:
            yield Rig(world, voices, hub, other, transport, era, provider)
        world.wait_until_no_child()
        assert run_folders(world) == []
        assert world.surprises == []


def test_an_ask_ends_by_its_answer(rig: Rig) -> None:
    """The caller gets it, and so does whoever asks for it again."""
    question = rig.voices.holds(rig.provider)
    call, ask_id = rig.ask(question)
    question.go_on.set()

    answer = answer_of(call.result())
    assert (answer["text"], answer["status"], answer["ask_id"]) == (WHOLE, "completed", ask_id)
    rig.ended(question, ask_id, "completed", "answered")
    assert [answer_of(rig.fetch(ask_id, hub)) for hub in (rig.hub, rig.other)] == [answer, answer]


def test_an_ask_ends_by_an_error(rig: Rig) -> None:
    """The same one for the caller and for whoever comes later."""
    question = rig.voices.fails(rig.provider)
    error = error_of(rig.hub.ask(rig.provider, prompt=question.prompt).result())

    ask_id = id_of(rig.other, question)
    assert error["ask_id"] == ask_id
    rig.ended(question, ask_id, "failed", "answered")
    assert [error_of(rig.fetch(ask_id, hub)) for hub in (rig.hub, rig.other)] == [error, error]


@pytest.mark.parametrize("as_ticket", [False, True], ids=["waited for", "ticket"])
def test_an_ask_ends_by_its_deadline(rig: Rig, as_ticket: bool) -> None:
    """With the text so far; it counts from arrival, whether or not anybody waits."""
    deadline = 1.5
    while True:
        question = rig.voices.hangs(rig.provider)
        more = {"timeout_s": deadline, **({"wait_s": 0} if as_ticket else {})}
        result = rig.hub.ask(rig.provider, prompt=question.prompt, **more).result()
        ask_id = id_of(rig.other, question)
        error = error_of(rig.fetch(ask_id) if as_ticket else result)
        assert error["code"] == "timeout"
        if error["partial_text"] == FIRST:
            break
        deadline *= 2  # on a machine this busy it was too early for an answer
        assert deadline < DEADLINE_S
    rig.failed(question, ask_id, "timeout")


@pytest.mark.parametrize("where", ["same", "other"])
def test_an_ask_that_is_waited_for_ends_by_ask_cancel(rig: Rig, where: str) -> None:
    """From the hub that runs it or from another one; the call that waits is told. To cancel it again does no harm."""
    question = rig.voices.hangs(rig.provider)
    call, ask_id = rig.ask(question)
    hub = rig.hub if where == "same" else rig.other
    told = [hub.call("ask_cancel", {"ask_id": ask_id}).result().structured_content for _ in range(2)]

    assert told == [{"ask_id": ask_id, "status": "cancelled"}] * 2
    error = error_of(call.result())
    assert (error["code"], error["partial_text"]) == ("cancelled", FIRST)
    rig.failed(question, ask_id, "cancelled", "cancelled")


@pytest.mark.parametrize("where", ["same", "other"])
def test_a_ticket_ends_by_ask_cancel(rig: Rig, where: str) -> None:
    """From the hub that runs it or from another one; who waits in ask_result is told."""
    question = rig.voices.hangs(rig.provider)
    ask_id = rig.ticket(question)
    waiting = [hub.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}) for hub in (rig.hub, rig.other)]
    hub = rig.hub if where == "same" else rig.other
    told = hub.call("ask_cancel", {"ask_id": ask_id}).result().structured_content

    assert told == {"ask_id": ask_id, "status": "cancelled"}
    assert [error_of(call.result())["code"] for call in waiting] == ["cancelled", "cancelled"]
    rig.failed(question, ask_id, "cancelled", "cancelled")


def test_an_ask_that_is_waited_for_ends_when_its_caller_turns_away(rig: Rig) -> None:
    """By the explicit cancel, which over HTTP in the modern era is a closed stream."""
    question = rig.voices.hangs(rig.provider)
    call, ask_id = rig.ask(question)
    if (rig.transport, rig.era) == ("http", "auto"):
        call.hang_up()
    else:
        rig.hub.cancel(call)

    rig.failed(question, ask_id, "cancelled", "cancelled")


def test_a_ticket_outlives_whatever_its_caller_does(rig: Rig) -> None:
    """A late cancel of the call, a cancelled or cut wait for the answer, the end of the session: none ends the ask."""
    question = rig.voices.holds(rig.provider)
    asked = rig.hub.ask(rig.provider, prompt=question.prompt, wait_s=0)
    ask_id = answer_of(asked.result())["ask_id"]
    rig.voices.under_way(question)
    waiting = rig.hub.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S})
    assert not rig.hub.call("token_status", {}).result().is_error  # by now it waits, or is about to
    if (rig.transport, rig.era) != ("http", "auto"):
        rig.hub.cancel(asked)
        rig.hub.cancel(waiting)
    if rig.transport == "http":
        until(lambda: waiting.socket is not None, "the wait for the answer is on its way")
        asked.hang_up()
        waiting.hang_up()
    if (rig.transport, rig.era) == ("http", "legacy"):
        rig.hub.end_session()

    rig.still_works(question, ask_id)


@pytest.mark.parametrize(
    "rig", [way for way in WAYS if way[:2] == ("http", "legacy")], ids="-".join, indirect=True, scope="module"
)
def test_a_connection_lost_in_the_older_era_only_detaches(rig: Rig) -> None:
    """The call is lost, the ask goes on, and its answer is there for whoever comes for it."""
    question = rig.voices.holds(rig.provider)
    call, ask_id = rig.ask(question)
    call.hang_up()

    rig.still_works(question, ask_id)


# Clients that leave ---------------------------------------------------------------------------------------------------

AT_ONCE_S = 2.0
"""So long both official SDKs wait for a server whose stdin they have closed before they kill it."""


def front_killed(hub: Hub) -> None:
    """What the client started is killed, as clients do after two seconds; the hub is behind it."""
    hub.process.kill()


def terminated(hub: Hub) -> None:
    hub.process.terminate()


def vanished(hub: Hub) -> None:
    """All ends of its pipes close at once."""
    hub.stop_reading()
    hub.close_stdin()


LEAVES: dict[str, tuple[Era, StoreKind, Callable[[Hub], None]]] = {
    "end of stdin, auto, sqlite": ("auto", "sqlite", Hub.close_stdin),
    "end of stdin, legacy, redis": ("legacy", "redis", Hub.close_stdin),
    "SIGTERM, auto, redis": ("auto", "redis", terminated),
    "SIGKILL, legacy, sqlite": ("legacy", "sqlite", front_killed),
    "client vanishes, auto, sqlite": ("auto", "sqlite", vanished),
}


@pytest.mark.parametrize(("era", "kind", "leave"), LEAVES.values(), ids=LEAVES)
def test_a_client_over_stdio_that_leaves_ends_what_it_waits_for_and_no_ticket(
    world: World, tmp_path: Path, era: Era, kind: StoreKind, leave: Callable[[Hub], None]
) -> None:
    """The hub lets go of all that is the client's, brings the tickets to their end, and then itself."""
    voices = Voices(world)
    world.changes["LOG_LEVEL"] = "DEBUG"
    with stored(world, kind, tmp_path), Hub(world, "stdio", "auto") as other:
        with Hub(world, "stdio", era) as hub:
            itself = hub.itself
            tickets = {question: ticket(hub, question, wait_s=1) for question in map(voices.holds, PROVIDERS)}
            waited = [voices.hangs(provider) for provider in PROVIDERS]
            for question in waited:
                hub.ask(question.provider, prompt=question.prompt)
            for question in (*tickets, *waited):
                voices.under_way(question)
            hub.log.wait_for("first text", more_than=3)
            leave(hub)
            hub.process.wait(DEADLINE_S)
            hub.log.end()

        for question in waited:
            assert question.request.done.wait(DEADLINE_S)
            assert question.request.ended == "disconnected"
            error = error_of(other.call("ask_result", {"ask_id": id_of(other, question)}).result())
            assert (error["code"], error["partial_text"]) == ("cancelled", FIRST)
        for question, ask_id in tickets.items():
            until(lambda ask_id=ask_id: status_of(other, ask_id) == "working", "the ticket is at work")
            assert question.request.ended == "open"
            still = other.call("ask_result", {"ask_id": ask_id, "wait_s": 0}).result()
            assert answer_of(still)["status"] == "working"
        assert itself.is_running()
        waiting = [other.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}) for ask_id in tickets.values()]
        for question in tickets:
            question.go_on.set()
        assert [answer_of(call.result())["text"] for call in waiting] == [WHOLE] * 2
        gone([itself])
        wait_until_nothing_is_left(world, hubs=1)
        assert len(run_folders(world)) == 1


@pytest.mark.parametrize("kind", STORES)
def test_an_answer_outlives_its_client_and_every_hub(world: World, tmp_path: Path, kind: StoreKind) -> None:
    """Fetched from a second hub while the first still works, then after a restart of everything, without an id."""
    voices = Voices(world)
    with stored(world, kind, tmp_path):
        with Hub(world, "stdio", "legacy") as hub:
            itself = hub.itself
            questions = [voices.holds(provider) for provider in PROVIDERS]
            ids = [ticket(hub, question, wait_s=1) for question in questions]
            for question in questions:
                voices.under_way(question)
            since = time.monotonic()
            hub.close_stdin()
            hub.process.wait(DEADLINE_S)
            took = time.monotonic() - since
            assert took < AT_ONCE_S
            hub.log.end()
        with Hub(world, "http", "auto") as second:
            assert {ask["ask_id"] for ask in listed(second)} == set(ids)
            waiting = [second.call("ask_result", {"ask_id": ask_id}) for ask_id in ids]
            assert itself.is_running()
            for question in questions:
                question.go_on.set()
            assert [answer_of(call.result())["text"] for call in waiting] == [WHOLE] * 2
        gone([itself])
        world.wait_until_no_child()
        assert run_folders(world) == []
        with Hub(world, "stdio", "auto") as third:
            for question, ask_id in zip(questions, ids, strict=True):
                assert id_of(third, question) == ask_id
                assert answer_of(third.call("ask_result", {"ask_id": ask_id}).result())["text"] == WHOLE
        shown = run_command(world, "asks", "show", ids[0], "--json")
        assert json.loads(shown.stdout)["answer"]["text"] == WHOLE
        print(f"\nG4  a front with tickets, {kind}: gone {took * 1000:.0f} ms after its client")


LONG_S = 60.0 if ROUNDS >= 20 else 6.0
"""How long an answer takes for which nobody waits: a minute is what most clients give up after."""


@repeated
@pytest.mark.parametrize("kind", STORES)
def test_an_answer_of_a_minute_is_there_for_a_client_that_waited_three_seconds(
    world: World, tmp_path: Path, kind: StoreKind
) -> None:
    """It comes piece by piece while its client is gone: found without an id by a second hub, then after a restart."""
    voices = Voices(world)
    pieces = [f"piece {number} of 60, " for number in range(60)]
    with stored(world, kind, tmp_path):
        with Hub(world, "stdio", "legacy") as hub:
            itself = hub.itself
            questions = [voices.tells(provider, pieces, pause_s=LONG_S / len(pieces)) for provider in PROVIDERS]
            calls = [hub.ask(question.provider, prompt=question.prompt, wait_s=3) for question in questions]
            tickets = [answer_of(call.result()) for call in calls]
            assert [told["status"] for told in tickets] == ["working"] * 2
            hub.close_stdin()
            hub.process.wait(DEADLINE_S)
        with Hub(world, "http", "auto") as second:
            ids = [id_of(second, question) for question in questions]
            assert ids == [told["ask_id"] for told in tickets]
            waiting = [second.call("ask_result", {"ask_id": ask_id, "wait_s": 3600}) for ask_id in ids]
            answers = [answer_of(call.outcome.result(LONG_S + DEADLINE_S)) for call in waiting]
            assert [answer["text"] for answer in answers] == ["".join(pieces)] * 2
        gone([itself])
        world.wait_until_no_child()
        with Hub(world, "stdio", "auto") as third:
            found = [third.call("ask_result", {"ask_id": id_of(third, question)}).result() for question in questions]
            assert [answer_of(result) for result in found] == answers
        assert [len(question.requests) for question in questions] == [1, 1]
        took = " and ".join(f"{answer['duration_ms'] / 1000:.0f} s" for answer in answers)
        print(f"\nG4  wait_s 3, then gone, {kind}: answers of {took} fetched whole, without an id and after a restart")


@pytest.mark.parametrize(("kind", "era"), [("sqlite", "auto"), ("redis", "legacy")])
def test_a_ticket_over_http_needs_no_connection(world: World, tmp_path: Path, kind: StoreKind, era: Era) -> None:
    """The client leaves; another hub sees the ask work and end; after a restart of everything it is still there."""
    voices = Voices(world)
    with stored(world, kind, tmp_path):
        with Hub(world, "http", era) as hub, Hub(world, "stdio", "auto") as other:
            questions = [voices.holds(provider) for provider in PROVIDERS]
            ids = [ticket(hub, question, wait_s=1) for question in questions]
            if era == "legacy":
                hub.end_session()
            for question in questions:
                voices.under_way(question)
                assert id_of(other, question) in ids
            waiting = [other.call("ask_result", {"ask_id": ask_id}) for ask_id in ids]
            for question in questions:
                question.go_on.set()
            assert [answer_of(call.result())["text"] for call in waiting] == [WHOLE] * 2
            wait_until_nothing_is_left(world, hubs=2)
        world.wait_until_no_child()
        with Hub(world, "http", era) as again:
            ids = [id_of(again, question) for question in questions]
            found = [again.call("ask_result", {"ask_id": ask_id}).result() for ask_id in ids]
            assert [answer_of(result)["text"] for result in found] == [WHOLE] * 2


def test_a_hub_over_http_that_is_stopped_brings_tickets_to_their_end_first(world: World) -> None:
    """As it does with calls that wait: they have HUB_DRAIN_S seconds. What takes longer ends in a coded error."""
    voices = Voices(world)
    world.changes |= {"LOG_LEVEL": "DEBUG", "HUB_DRAIN_S": "6"}
    quick, late = voices.tells("gemini", [FIRST, REST], pause_s=1.5), voices.hangs("claude")
    with Hub(world, "http", "auto") as hub:
        late_id = ticket(hub, late)
        hub.log.wait_for("first text", provider="claude")
        quick_id = ticket(hub, quick)
        hub.log.wait_for("first text", provider="gemini")
        hub.process.terminate()
        assert hub.process.wait(DEADLINE_S) == 0
    world.wait_until_no_child()
    assert run_folders(world) == []
    with Hub(world, "stdio", "auto") as again:
        assert answer_of(again.call("ask_result", {"ask_id": quick_id}).result())["text"] == WHOLE
        error = error_of(again.call("ask_result", {"ask_id": late_id}).result())
    assert (error["code"], error["retryable"], error["partial_text"]) == ("internal", True, FIRST)


# Hubs that are killed -------------------------------------------------------------------------------------------------


class Struck:
    """One hub's life, cut off by SIGKILL: what it was asked, and what it had said by then."""

    def __init__(self, voices: Voices, hub: Hub, chance: random.Random, conversation: str | None) -> None:
        self.hub = hub
        self.voices = voices
        self.calls: dict[Question, Call] = {}
        self.whole: dict[Question, str] = {}
        for number in range(ASKS_A_LIFE):
            words = [f"word {chance.random()} " for _ in range(chance.randint(1, 12))]
            # Claude's CLI starts anew for each of these: one in every other life, or the drill would take hours.
            provider: Provider = "claude" if number == ASKS_A_LIFE - 1 and chance.random() < 0.5 else "gemini"
            question = voices.tells(provider, words, pause_s=chance.choice([0.0, 0.02, 0.1]))
            more: dict[str, Any] = {"wait_s": 0} if number % 2 else {}
            if number == 0 and conversation is not None:
                more["conversation_id"] = conversation
            self.whole[question] = "".join(words)
            self.calls[question] = hub.ask(provider, prompt=question.prompt, **more)

    def begun(self, question: Question) -> None:
        """Block until the provider has been asked it, or its caller told that it will not be."""
        try:
            until(lambda: bool(question.requests) or self.calls[question].outcome.done(), "it is asked or refused")
        except AssertionError as error:
            raise AssertionError(f"{question.prompt} was neither asked nor refused: {self.hub.log.text}") from error

    def refused(self) -> list[str]:
        """The codes of those that were not accepted: a conversation may still be the last hub's, or the store slow."""
        done = [call.outcome for call in self.calls.values() if call.outcome.done()]
        failed = [outcome.result() for outcome in done if outcome.exception() is None and outcome.result().is_error]
        return [error["code"] for error in map(error_of, failed) if error["ask_id"] is None]

    def acknowledged(self) -> dict[str, tuple[Question, bool]]:
        """The asks whose ids the client was told, and whether with the whole answer."""
        told: dict[str, tuple[Question, bool]] = {}
        for question, call in self.calls.items():
            if call.outcome.done() and call.outcome.exception() is None:
                result = call.result()
                if not result.is_error:
                    answer = answer_of(result)
                    told[answer["ask_id"]] = (question, answer["status"] == "completed")
        return told

    def accounted_for(self, by: Hub) -> int:
        """Every ask has ended, as another hub tells it. Returns how many were not answered."""
        asks = {ask["ask_id"]: ask for ask in listed(by)}
        of_prompt = {ask["title"]: ask["ask_id"] for ask in asks.values()}
        for ask_id, (question, answered) in self.acknowledged().items():
            assert ask_id in asks, f"{ask_id} was told to the client and is unknown"
            assert not answered or asks[ask_id]["status"] == "completed"
            assert asks[ask_id]["title"] == question.prompt
        cut = 0
        for question, whole in self.whole.items():
            assert len(question.requests) <= 1, "the provider was asked the same twice"
            assert not question.requests or question.prompt in of_prompt, "asked without a record"
            if question.prompt not in of_prompt:
                continue
            ask_id = of_prompt[question.prompt]
            result = fetched(by, ask_id=ask_id, wait_s=DEADLINE_S)
            if result.is_error:
                error = error_of(result)
                assert (error["code"], error["retryable"], error["ask_id"]) == ("internal", True, ask_id)
                assert whole.startswith(error["partial_text"] or "")
                assert status_of(by, ask_id) == "failed"
                cut += 1
            else:
                answer = answer_of(result)
                assert (answer["status"], answer["text"]) == ("completed", whole)
                assert status_of(by, ask_id) == "completed"
        return cut


def goes_on(voices: Voices, hub: Hub, conversation: str | None) -> str:
    """A turn of the conversation, or its first; one that a dead hub held is free again in time."""
    question = voices.tells("gemini", [WHOLE], pause_s=0)
    more = {} if conversation is None else {"conversation_id": conversation}
    until_s = time.monotonic() + DEADLINE_S
    while (result := hub.ask("gemini", prompt=question.prompt, **more).result()).is_error:
        error = error_of(result)
        assert error["code"] in {"busy", "store_unavailable"}
        assert time.monotonic() < until_s, "the conversation is busy for ever"
    answer = answer_of(result)
    assert answer["text"] == WHOLE
    return answer["conversation_id"]


@pytest.mark.drill
@pytest.mark.parametrize("kind", STORES)
def test_no_ask_is_lost_with_a_hub_that_is_killed(world: World, tmp_path: Path, kind: StoreKind) -> None:
    """At a random moment of several asks; the next hub accounts for them, goes on with their conversation, is next."""
    chance = random.Random(f"{SEED} {kind}")
    voices = Voices(world)
    conversation: str | None = None
    struck: Struck | None = None
    asked = told = cut = survived = 0
    refused: Counter[str] = Counter()
    world.claude_warm = 1
    world.changes["LOG_LEVEL"] = "DEBUG"
    try:
        with stored(world, kind, tmp_path):
            for number in range(KILLS + 1):
                era: Era = chance.choice(["auto", "legacy"])
                with Hub(world, "http" if number % 2 else "stdio", era) as hub:
                    if struck is not None:
                        asked += len(struck.calls)
                        told += len(struck.acknowledged())
                        cut += struck.accounted_for(hub)
                        refused.update(struck.refused())
                        survived += 1
                    if number % 4 in (0, 1) or number == KILLS:  # or its CLI would be warm in each life
                        conversation = goes_on(voices, hub, conversation)
                    if number == KILLS:
                        break
                    itself = hub.itself
                    struck = Struck(voices, hub, chance, conversation)
                    if chance.random() < 0.75:
                        question = chance.choice(list(struck.calls))
                        struck.begun(question)
                    # This moment is what the drill is about; nothing is waited for.
                    threading.Event().wait(chance.uniform(0, 0.4))
                    itself.kill()
                    hub.process.wait(DEADLINE_S)
                world.wait_until_no_child()
            world.wait_until_no_child()
            until(lambda: not held_in(world), "every lease is free again")
    finally:
        print(
            f"\nG4  SIGKILL of the hub, {kind:<6} survived {survived}/{KILLS}  seed {SEED}  asked {asked}, told {told}"
        )
        print(f"    before the kill, cut off {cut}, refused {dict(refused) or 'none'}")
    assert cut > 0
    assert refused.keys() <= {"busy", "store_unavailable"}
    assert run_folders(world) == []


def test_what_a_killed_hub_had_streamed_is_kept(world: World) -> None:
    """The text so far is in the record within a beat; another hub hands it out with the error."""
    voices = Voices(world)
    with Hub(world, "stdio", "auto") as other:
        with Hub(world, "http", "auto") as hub:
            questions = [voices.holds(provider) for provider in PROVIDERS]
            ids = [ticket(hub, question) for question in questions]
            for ask_id in ids:
                so_far = {"ask_id": ask_id, "wait_s": 0}
                until(
                    lambda so_far=so_far: f" {len(FIRST)} characters" in str(other.call("ask_result", so_far).result()),
                    "another hub sees how long the text is",
                )
            hub.itself.kill()
            hub.process.wait(DEADLINE_S)
        for question, ask_id in zip(questions, ids, strict=True):
            error = error_of(other.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}).result())
            assert (error["code"], error["retryable"], error["partial_text"]) == ("internal", True, FIRST)
            assert len(question.requests) == 1
        world.wait_until_no_child()


# Several hubs ---------------------------------------------------------------------------------------------------------


def test_three_hubs_are_one_to_whoever_asks(world: World) -> None:
    """Their places are shared; each fetches and cancels what another runs; the death of one takes nothing of theirs."""
    voices = Voices(world)
    world.changes |= {"HUB_GEMINI_CONCURRENCY": "2", "LOG_LEVEL": "DEBUG"}
    with contextlib.ExitStack() as stack:
        hubs = [stack.enter_context(Hub(world, "stdio", era)) for era in ("auto", "legacy", "auto")]
        first, second, third = hubs
        holding = [voices.holds("gemini") for _ in range(2)]
        ids = [ticket(first, question) for question in holding]
        for question in holding:
            voices.under_way(question)
        queued = {hub: [voices.tells("gemini", [FIRST, REST], 0.05) for _ in range(4)] for hub in hubs}
        unwanted = ticket(third, voices.hangs("gemini"))
        calls = {question: hub.ask("gemini", prompt=question.prompt) for hub in hubs for question in queued[hub]}
        told = second.call("ask_cancel", {"ask_id": unwanted}).result().structured_content
        assert told == {"ask_id": unwanted, "status": "cancelled"}
        assert len(voices.order) == 2, "both places are taken"
        holding[0].go_on.set()
        assert answer_of(third.call("ask_result", {"ask_id": ids[0]}).result())["text"] == WHOLE
        for hub in (second, third):
            for question in queued[hub]:
                answer = answer_of(calls[question].result())
                assert answer["text"] == WHOLE
                fetched = second.call("ask_result", {"ask_id": answer["ask_id"]}).result()
                assert answer_of(fetched) == answer
        assert holding[1].request.ended == "open"
        assert voices.most_open["gemini"] == 2
        for question in queued[first]:
            assert answer_of(calls[question].result())["text"] == WHOLE

        # Both places are the first hub's again, and the others wait for it, when it is killed.
        holding.append(voices.holds("gemini"))
        ids.append(ticket(first, holding[-1]))
        voices.under_way(holding[-1])
        waiting = {hub: voices.tells("gemini", [FIRST, REST], 0.05) for hub in (second, third)}
        taken = {hub: len(hub.log.found("ask taken")) for hub in waiting}
        calls = {question: hub.ask("gemini", prompt=question.prompt) for hub, question in waiting.items()}
        for hub in waiting:
            hub.log.wait_for("ask taken", more_than=taken[hub])
        since = time.monotonic()
        first.itself.kill()
        for question, call in calls.items():
            assert answer_of(call.result())["text"] == WHOLE
            assert len(question.requests) == 1
        print(f"\nG4  places of a killed hub are free again after {time.monotonic() - since:.1f} s")
        for ask_id in ids[1:]:
            error = error_of(second.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}).result())
            assert error["code"] == "internal"
            assert FIRST.startswith(error["partial_text"] or "")
        assert voices.most_open["gemini"] == 2
        wait_until_nothing_is_left(world, hubs=2)
    world.wait_until_no_child()


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1, 2], ids=["first", "second", "third"])
def test_any_of_three_hubs_may_be_killed(world: World, victim: int) -> None:
    """Each answers one ask and has another one waiting: what the dead one had ends with it, and nothing else does."""
    voices = Voices(world)
    world.changes |= {"HUB_GEMINI_CONCURRENCY": "3", "LOG_LEVEL": "DEBUG"}
    with contextlib.ExitStack() as stack:
        hubs = [stack.enter_context(Hub(world, "stdio", era)) for era in ("auto", "legacy", "auto")]
        held = {hub: voices.holds("gemini") for hub in hubs}
        ids = {hub: ticket(hub, question) for hub, question in held.items()}
        for hub, question in held.items():
            voices.under_way(question)
            hub.log.wait_for("first text")
        waiting = {hub: voices.tells("gemini", [FIRST, REST], 0.05) for hub in hubs}
        calls = {hub: hub.ask("gemini", prompt=question.prompt) for hub, question in waiting.items()}
        for hub in hubs:
            hub.log.wait_for("ask taken", more_than=1)
        assert not any(question.requests for question in waiting.values()), "all three places are taken"

        dead = hubs.pop(victim)
        dead.itself.kill()
        for hub in hubs:
            assert answer_of(calls[hub].result())["text"] == WHOLE
            assert held[hub].request.ended == "open"
        one, other = hubs
        for ask_id in (ids[dead], id_of(one, waiting[dead])):
            error = error_of(other.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}).result())
            assert (error["code"], error["retryable"]) == ("internal", True)
            assert FIRST.startswith(error["partial_text"] or "")
        assert waiting[dead].requests == []
        told = one.call("ask_cancel", {"ask_id": ids[other]}).result().structured_content
        assert told == {"ask_id": ids[other], "status": "cancelled"}
        held[one].go_on.set()
        assert answer_of(other.call("ask_result", {"ask_id": ids[one]}).result())["text"] == WHOLE
        assert [len(question.requests) for question in (*held.values(), *(waiting[hub] for hub in hubs))] == [1] * 5
        assert voices.most_open["gemini"] == 3
        wait_until_nothing_is_left(world, hubs=2)
    world.wait_until_no_child()


def test_the_asks_of_a_hub_on_another_machine_end_with_it(world: World, tmp_path: Path) -> None:
    """Both on one Redis: nobody there sees it die, but nobody hears of it any more."""
    voices = Voices(world)
    with stored(world, "redis", tmp_path), Hub(world, "stdio", "auto") as here:
        world.changes["HUB_STATE_DIR"] = str(tmp_path / "elsewhere")
        with Hub(world, "http", "auto") as there:
            question = voices.holds("gemini")
            ask_id = ticket(there, question)
            voices.under_way(question)
            there.itself.kill()
            there.process.wait(DEADLINE_S)
        error = error_of(here.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S}).result())
        assert (error["code"], error["retryable"]) == ("internal", True)
        assert status_of(here, ask_id) == "failed"
        assert FIRST.startswith(error["partial_text"] or "")


# More than is served at once ------------------------------------------------------------------------------------------

AT_ONCE: dict[Provider, tuple[int, int]] = {"gemini": (16, 200), "claude": (4, 200 if ROUNDS >= 20 else 40)}
"""Places, and asks; a process of Claude's for each new conversation is what makes those dear."""
GROWTH_BYTES = 40 << 20


def send_in_order(voices: Voices, hub: Hub, provider: Provider, count: int, go_on: threading.Event) -> list[Question]:
    """So many asks as tickets, each accepted before the next; nothing is answered before `go_on`."""
    questions: list[Question] = []
    for _ in range(count):
        question = voices.holds(provider, go_on, after=0)
        ticket(hub, question)
        questions.append(question)
    return questions


@pytest.mark.drill
@pytest.mark.parametrize("provider", AT_ONCE)
def test_many_asks_at_once_are_all_answered_in_their_order(world: World, provider: Provider) -> None:
    """Never more than the limit at the provider, none lost or asked twice; afterwards the hub is as it was before.

    One that is slow to start may be passed by any number on the other places, but an ask passes those alone that have a
    place already: fewer than there are places, on a machine of any speed.
    The exact order in which places are given is a matter of tests/unit/test_hub.py.
    """
    limit, count = AT_ONCE[provider]
    world.changes |= {f"HUB_{provider.upper()}_CONCURRENCY": str(limit), "HUB_QUEUE_LIMIT": str(count)}
    voices = Voices(world)
    with Hub(world, "http", "auto") as hub:
        first = [voices.tells(provider, [WHOLE], 0) for _ in range(2 * limit)]
        calls = [hub.ask(provider, prompt=question.prompt, wait_s=3600) for question in first]
        assert [answer_of(call.result())["text"] for call in calls] == [WHOLE] * len(calls)
        wait_until_nothing_is_left(world, hubs=1)
        itself = psutil.Process(hub.process.pid)
        descriptors_before, bytes_before, began = descriptors(itself), itself.memory_info().rss, len(voices.order)

        go_on = threading.Event()
        since = time.monotonic()
        questions = send_in_order(voices, hub, provider, count, go_on)
        world.upstream(provider).wait_until(lambda: len(voices.order) >= began + limit, timeout=DEADLINE_S)
        go_on.set()
        ids = {ask["title"]: ask["ask_id"] for ask in listed(hub)}
        for question in questions[-len(ids) :]:  # the list has the last ten; they end last
            result = hub.call("ask_result", {"ask_id": ids[question.prompt], "wait_s": 3600}).outcome.result(600)
            assert answer_of(result)["text"] == WHOLE
        for question in questions:  # one that ran beside the last ten may come to the provider after they have ended
            world.upstream(provider).wait_until(lambda question=question: bool(question.requests), timeout=DEADLINE_S)
            assert question.request.done.wait(DEADLINE_S)
            assert question.request.ended == "answered"
        took = time.monotonic() - since

        assert voices.most_open[provider] == limit
        asked = {prompt: place for place, prompt in enumerate(voices.order[began:])}
        assert len(asked) == len(voices.order[began:]) == count
        came = [asked[question.prompt] for question in questions]
        passed = [sum(earlier > own for earlier in came[:place]) for place, own in enumerate(came)]
        assert max(passed) < limit, "none overtakes more than those that run beside it"
        wait_until_nothing_is_left(world, hubs=1)
        assert descriptors(itself) - descriptors_before <= FEW
        grown = itself.memory_info().rss - bytes_before
        print(
            f"\nG4  {count} asks on {limit} places of {provider}: {took:.1f} s, most at once "
            f"{voices.most_open[provider]}, most that one overtook {max(passed)}, grown {grown / 1e6:.1f} MB"
        )
        assert grown < GROWTH_BYTES
    world.wait_until_no_child()


@pytest.mark.drill
def test_200_calls_at_once_are_all_answered(world: World) -> None:
    """Each on a connection of its own, and each with its own answer."""
    world.changes |= {"HUB_GEMINI_CONCURRENCY": "16", "HUB_QUEUE_LIMIT": "200"}
    voices = Voices(world)
    with Hub(world, "http", "auto") as hub:
        asked = {voices.tells("gemini", [f"to {number}"], 0): f"to {number}" for number in range(200)}
        calls = [hub.ask("gemini", prompt=question.prompt, wait_s=3600) for question in asked]
        assert [answer_of(call.result())["text"] for call in calls] == list(asked.values())
        assert [len(question.requests) for question in asked] == [1] * 200
        assert voices.most_open["gemini"] <= 16
        wait_until_nothing_is_left(world, hubs=1)
    world.wait_until_no_child()


def test_what_the_queue_does_not_hold_is_told_at_once(world: World) -> None:
    """200 at once, 4 places and a queue of 8: the others are `busy` while nobody is answered yet, and none of them
    reaches the provider."""
    world.changes |= {"HUB_GEMINI_CONCURRENCY": "4", "HUB_QUEUE_LIMIT": "8"}
    voices = Voices(world)
    go_on = threading.Event()
    with Hub(world, "http", "legacy") as hub:
        questions = [voices.holds("gemini", go_on, after=0) for _ in range(200)]
        calls = [hub.ask("gemini", prompt=question.prompt, wait_s=3600) for question in questions]
        until(lambda: sum(call.outcome.done() for call in calls) == 188, "188 have been told")
        for call in calls:
            if call.outcome.done():
                error = error_of(call.result())
                assert (error["code"], error["retryable"]) == ("busy", True)
                assert error["retry_after_s"] > 0
        world.gemini.wait_until(lambda: len(voices.order) >= 4, timeout=DEADLINE_S)
        go_on.set()
        results = [call.result() for call in calls]
        answers = [answer_of(result) for result in results if not result.is_error]
        assert [answer["text"] for answer in answers] == [WHOLE] * 12
        assert len(voices.order) == 12
        assert voices.most_open["gemini"] == 4
        goes_on(voices, hub, None)
        wait_until_nothing_is_left(world, hubs=1)
    world.wait_until_no_child()
