"""G4, nothing lost: an accepted ask ends in an answer or one coded error, and whoever asked can come back for it.

Real hubs with the real CLIs. What ends an ask, and what does not, is tested for each transport and era; then clients
leave, hubs are killed at random moments, and more is asked at once than is served at once. HUB_DRILL_ROUNDS is as in
the drill of G5 (2 by default, 20 in `make drill-full`); `-s` shows a line for each drill.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.guarantees.drill import FIRST, PROVIDERS, ROUNDS, TIGHT, Call, Hub, Provider, gone, run_folders
from tests.guarantees.durable import (
    REST,
    STORES,
    WHOLE,
    Question,
    StoreKind,
    Voices,
    id_of,
    listed,
    status_of,
    stored,
    ticket,
    until,
    wait_until_nothing_is_left,
)
from tests.harness import DEADLINE_S, EVERY_WAY, Era, Transport, World, answer_of, error_of, make_world, run_command

pytestmark = pytest.mark.timeout(240 + 60 * ROUNDS)

Way = tuple[Transport, Era, Provider]
WAYS: list[Way] = [*((transport, era, "gemini") for transport, era in EVERY_WAY)]
WAYS += [("stdio", "auto", "claude"), ("http", "legacy", "claude")]


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


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("era", ["auto", "legacy"])
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
