"""G5, no leftovers: whatever ends an ask or the hub, no process, no request upstream, no held place is left.

Both real CLIs are struck in the middle of an answer: the hub has its first text, and the stand-in says no more. Each
blow falls HUB_DRILL_ROUNDS times on each provider: once in `make test`, twice in `make drill`, 20 times by
`make drill-full`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_mcp_hub import hub as hub_module
from llm_mcp_hub import main, rest, settings
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.providers.claude_pool import KEPT
from tests.guarantees.drill import (
    FEW,
    FIRST,
    HELLO,
    PROVIDERS,
    QUESTION,
    ROUNDS,
    TIGHT,
    Asking,
    Gate,
    Hub,
    Provider,
    Tally,
    busy_child,
    children_of,
    descriptors,
    gone,
    hello,
    in_a_drill,
    official_client,
    repeated,
    run_folders,
    shells,
    wait_until_gemini_starts,
    wait_until_settled,
)
from tests.harness import DEADLINE_S, Era, Line, Transport, World, answer_of, error_of
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

pytestmark = pytest.mark.timeout(180 + 60 * ROUNDS)

A_QUESTION = {"prompt": QUESTION}
MID_ANSWER = [FIRST] * ROUNDS
RARELY = max(1, ROUNDS // 10)
BEFORE_HEADERS = ""


@pytest.fixture
def tight(world: World) -> World:
    """A world whose hubs have one place a provider, and say at DEBUG when a first text has come."""
    world.changes |= TIGHT
    return world


def next_asks_work(line: Line, providers: Sequence[Provider] = PROVIDERS) -> None:
    """The place is free and the provider answers."""
    for provider in providers:
        assert answer_of(line.call(*hello(provider)))["text"] == HELLO[provider]


def fill_what_is_kept(line: Line) -> None:
    """Have so many conversations answered that the hub keeps as many children as it ever will: for `nothing_grew`."""
    for _ in range(KEPT if ROUNDS > 1 else 0):
        next_asks_work(line)


def nothing_grew(world: World, hub: psutil.Process, before: int) -> None:
    """A hub that lives on keeps no folder of children that have gone, and holds what it held before the rounds.

    In one round alone nothing shows that grows: `make drill` looks for it.
    """
    assert ROUNDS == 1 or descriptors(hub) - before <= FEW
    homes = [folder for folder in run_folders(world)[0].iterdir() if folder.name.startswith(PROVIDERS)]
    assert len(homes) <= len(world.children()) + 1


# A hub that lives on ------------------------------------------------------------------------------------------------


@repeated
@pytest.mark.parametrize(
    ("transport", "era"),
    [("stdio", "legacy"), ("http", "auto"), in_a_drill("stdio", "auto"), in_a_drill("http", "legacy")],
)
def test_an_ask_that_its_client_cancels_leaves_nothing(
    tight: World, tmp_path: Path, transport: Transport, era: Era
) -> None:
    """While a child starts, before the headers and mid-answer; over HTTP in the modern era it is a closed stream."""
    tight.gemini.hold_quota_from = 1
    with (
        Tally(f"cancel by the client, {transport} {era}") as tally,
        Gate(tmp_path / "gate", tight) as gate,
        official_client(tight, transport, era) as (line, log, hub),
    ):
        for provider in PROVIDERS:
            call = line.begin(f"ask_{provider}", A_QUESTION)
            if provider == "claude":
                gate.wait_until_held(2 if transport == "http" else 1)  # a hub over HTTP warms one by itself
            else:
                wait_until_gemini_starts(tight)
            log.wait_for("ask taken", provider=provider)
            call.cancel()
            log.wait_for("ask cancelled", provider=provider)
        gate.open()
        tight.gemini.hold_quota_from = None
        next_asks_work(line)
        assert tight.prompts_received("claude") == tight.prompts_received("gemini") == 1
        fill_what_is_kept(line)
        wait_until_settled(tight)

        before = descriptors(hub)
        for text in [BEFORE_HEADERS, *MID_ANSWER]:
            for provider in PROVIDERS:
                asking = Asking(tight, log, provider, text)
                call = line.begin(f"ask_{provider}", A_QUESTION)
                asking.under_way()
                since = time.monotonic()
                call.cancel()
                took = asking.closed(since)
                next_asks_work(line, [provider])
                wait_until_settled(tight)
                if text:
                    tally.survived(provider, took)
        nothing_grew(tight, hub, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@repeated
def test_an_ask_that_outlives_its_deadline_leaves_nothing(tight: World) -> None:
    """The client gets `timeout` with the text so far; both providers are late at once."""
    deadline = 2.0
    with Tally("deadline") as tally, official_client(tight, "http", "auto") as (line, log, hub):
        fill_what_is_kept(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        texts = [BEFORE_HEADERS, *MID_ANSWER]
        while texts:
            askings = [Asking(tight, log, provider, texts[-1]) for provider in PROVIDERS]
            given = {**A_QUESTION, "timeout_s": deadline}
            calls = [line.begin(f"ask_{provider}", given) for provider in PROVIDERS]
            errors = [error_of(call.result(DEADLINE_S)) for call in calls]
            assert [error["code"] for error in errors] == ["timeout"] * 2
            if all(asking.was_under_way() for asking in askings):
                text = texts.pop()
                assert [error["partial_text"] for error in errors] == [text or None] * 2
                for provider in PROVIDERS if text else ():
                    tally.survived(provider)
            else:  # on a machine this busy it was too early for an answer; nothing may be left all the same
                deadline *= 2
                assert deadline < DEADLINE_S
            for asking in askings:
                asking.withdrawn()
            next_asks_work(line)
            wait_until_settled(tight)
        nothing_grew(tight, hub, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@repeated
def test_an_ask_whose_provider_falls_silent_leaves_nothing(tight: World) -> None:
    """The idle timer ends it: the client gets `timeout` with the text so far; both providers are silent at once."""
    tight.changes["HUB_IDLE_TIMEOUT_S"] = "8"
    with Tally("idle stall") as tally, official_client(tight, "http", "auto") as (line, log, hub):
        next_asks_work(line)  # on a busy machine a first start takes longer than that
        fill_what_is_kept(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        for text in [BEFORE_HEADERS, *MID_ANSWER]:
            askings = [Asking(tight, log, provider, text) for provider in PROVIDERS]
            calls = [line.begin(f"ask_{provider}", A_QUESTION) for provider in PROVIDERS]
            for asking, call in zip(askings, calls, strict=True):
                error = error_of(call.result(DEADLINE_S))
                assert (error["code"], error["partial_text"]) == ("timeout", text or None)
                asking.closed(time.monotonic())
            next_asks_work(line)
            wait_until_settled(tight)
            for provider in PROVIDERS if text else ():
                tally.survived(provider)
        nothing_grew(tight, hub, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@repeated
def test_a_modern_stream_that_is_closed_leaves_nothing(tight: World) -> None:
    """The connection itself goes, without a word of the protocol: how a client that crashes looks."""
    with Tally("closed modern stream") as tally, Hub(tight, "http", "auto") as hub:
        for provider in PROVIDERS * KEPT:
            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
        wait_until_settled(tight)
        process = psutil.Process(hub.process.pid)
        before = descriptors(process)
        for text in [BEFORE_HEADERS, *MID_ANSWER]:
            for provider in PROVIDERS:
                asking = Asking(tight, hub.log, provider, text)
                call = hub.ask(provider)
                asking.under_way()
                since = time.monotonic()
                call.hang_up()
                took = asking.closed(since)
                assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
                wait_until_settled(tight)
                if text:
                    tally.survived(provider, took)
        nothing_grew(tight, process, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@repeated
@pytest.mark.parametrize(
    ("blow", "limit", "code"),
    [(signal.SIGKILL, {}, "upstream_error"), (signal.SIGSTOP, {"timeout_s": 10}, "timeout")],
    ids=["killed", "stopped"],
)
def test_a_child_that_is_struck_itself_leaves_nothing(
    tight: World, blow: signal.Signals, limit: dict[str, float], code: str
) -> None:
    """The ask ends in a coded error with the text so far, the child is gone, and the next ask gets another one."""
    with (
        Tally(f"child {'killed' if blow == signal.SIGKILL else 'stopped'}") as tally,
        official_client(tight, "stdio", "auto") as (line, log, hub),
    ):
        next_asks_work(line)  # on a busy machine a first start takes longer than the limit
        fill_what_is_kept(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        for text in MID_ANSWER:
            askings = [Asking(tight, log, provider, text) for provider in PROVIDERS]
            calls = [line.begin(f"ask_{provider}", {**A_QUESTION, **limit}) for provider in PROVIDERS]
            for asking in askings:
                asking.under_way()
            struck = [busy_child(tight, asking) for asking in askings]
            since = time.monotonic()
            for child in struck:
                child.send_signal(blow)
            for asking, call in zip(askings, calls, strict=True):
                error = error_of(call.result(DEADLINE_S))
                assert (error["code"], error["partial_text"]) == (code, text)
                asking.closed(since)
            gone(struck)
            next_asks_work(line)
            wait_until_settled(tight)
            for provider in PROVIDERS:
                tally.survived(provider)
        nothing_grew(tight, hub, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@repeated
def test_an_ask_whose_child_dies_before_its_first_text_is_asked_of_another(tight: World) -> None:
    """No text is lost yet, so the caller need not know; of the first child and its request nothing is left."""
    with (
        Tally("child killed before the first text") as tally,
        official_client(tight, "stdio", "auto") as (line, log, hub),
    ):
        fill_what_is_kept(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        for _ in range(ROUNDS):
            askings = [Asking(tight, log, provider, BEFORE_HEADERS) for provider in PROVIDERS]
            received = [tight.prompts_received(provider) for provider in PROVIDERS]
            calls = [line.begin(f"ask_{provider}", A_QUESTION) for provider in PROVIDERS]
            for asking in askings:
                asking.under_way()
            struck = [busy_child(tight, asking) for asking in askings]
            tight.claude.default = anthropic.Answer(HELLO["claude"])
            tight.gemini.default = google.Answer(HELLO["gemini"])
            for child in struck:
                child.kill()

            for asking, call, count in zip(askings, calls, received, strict=True):
                assert answer_of(call.result(DEADLINE_S))["text"] == HELLO[asking.provider]
                assert asking.request.done.wait(DEADLINE_S)
                assert asking.request.ended == "disconnected"
                assert tight.prompts_received(asking.provider) == count + 2
                tally.survived(asking.provider)
            gone(struck)
            wait_until_settled(tight)
        nothing_grew(tight, hub, before)
    tight.wait_until_no_child()
    assert run_folders(tight) == []


# A hub that ends ----------------------------------------------------------------------------------------------------


def client_vanishes(hub: Hub) -> None:
    """All ends of its pipes close at once: nobody reads what the hub still writes."""
    assert hub.process.stdout is not None
    hub.stop_reading()
    hub.close_stdin()


def ctrl_c(hub: Hub) -> None:
    hub.signal(signal.SIGINT, group=True)


def twice(number: signal.Signals) -> Callable[[Hub], None]:
    def blow(hub: Hub) -> None:
        hub.signal(number)
        hub.signal(number)

    return blow


def once(number: signal.Signals) -> Callable[[Hub], None]:
    return lambda hub: hub.signal(number)


def kill_itself(hub: Hub) -> None:
    """SIGKILL for the process that does the work; the one that the client knows stands before it."""
    hub.itself.kill()


Blow = tuple[Transport, Callable[[Hub], None], int | None]
"""How it is reached, what is done to it, and its exit code; None where nobody is left to read one."""
FINAL_BLOWS: dict[str, Blow] = {
    "end of stdin": ("stdio", Hub.close_stdin, 0),
    "SIGTERM, stdio": ("stdio", once(signal.SIGTERM), 0),
    "SIGTERM, http": ("http", once(signal.SIGTERM), 0),
    "SIGKILL, stdio": ("stdio", kill_itself, -signal.SIGKILL),
    "front killed, stdio": ("stdio", once(signal.SIGKILL), -signal.SIGKILL),
    "SIGKILL, http": ("http", once(signal.SIGKILL), -signal.SIGKILL),
}
RARER_BLOWS: dict[str, Blow] = {
    "client vanishes": ("stdio", client_vanishes, None),
    "Ctrl-C, stdio": ("stdio", ctrl_c, 0),
    "Ctrl-C, http": ("http", ctrl_c, 0),
    "SIGTERM twice, stdio": ("stdio", twice(signal.SIGTERM), 0),
    "SIGTERM twice, http": ("http", twice(signal.SIGTERM), 0),
    "SIGINT twice, http": ("http", twice(signal.SIGINT), 0),
}


def strike_the_hub(
    world: World, hub: Hub, blow: Callable[[Hub], None], *, stopped: bool = False
) -> tuple[int, dict[Provider, float]]:
    """Both providers are asked, then the blow falls. Returns the exit code, and when each was hung up on, in ms.

    With `stopped` the children are stopped before it, and cannot do a thing for their own end.
    """
    askings = [Asking(world, hub.log, provider) for provider in PROVIDERS]
    for provider in PROVIDERS:
        hub.ask(provider)
    for asking in askings:
        asking.under_way()
    itself = hub.itself
    below = itself.children(recursive=True)
    assert len(below) >= len(PROVIDERS)
    # Not what they are just forking: Node would wait for it to become a program, deaf to all but SIGKILL (seen).
    for child in itself.children() if stopped else ():
        child.suspend()
    since = time.monotonic()
    blow(hub)
    took: dict[Provider, float] = {}
    for asking in askings:
        took[asking.provider] = asking.closed(since)
    code = hub.process.wait(DEADLINE_S)
    gone([itself, *below])
    world.wait_until_no_child()
    return code, took


@repeated
@pytest.mark.parametrize(("transport", "blow", "expected"), FINAL_BLOWS.values(), ids=FINAL_BLOWS)
def test_a_hub_that_ends_takes_all_with_it(
    tight: World, transport: Transport, blow: Callable[[Hub], None], expected: int, request: pytest.FixtureRequest
) -> None:
    """Mid-answer of both providers at once; the next hub sweeps and works. Its own children are stopped at last.

    In a single round that is where the hub is killed: else it can tell its children.
    """
    left = 1 if request.node.callspec.id.startswith("SIGKILL") else 0
    with Tally(request.node.callspec.id) as tally:
        for number in range(ROUNDS + 1 if ROUNDS > 1 or left else ROUNDS):
            with Hub(tight, transport, "legacy" if number % 2 else "auto") as hub:
                assert len(run_folders(tight)) == 1
                for provider in PROVIDERS:
                    assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
                code, took = strike_the_hub(tight, hub, blow, stopped=number == ROUNDS)
            assert code == expected, hub.log.end()
            assert len(run_folders(tight)) == left
            for provider in PROVIDERS if number < ROUNDS else ():
                tally.survived(provider, took[provider])


@pytest.mark.drill
@pytest.mark.parametrize(("transport", "blow", "expected"), RARER_BLOWS.values(), ids=RARER_BLOWS)
def test_a_hub_that_ends_in_a_rarer_way_takes_all_with_it(
    tight: World, transport: Transport, blow: Callable[[Hub], None], expected: int | None
) -> None:
    """As above, a tenth as often: impatient signals, a terminal's Ctrl-C to the whole group, a client that has died."""
    for number in range(RARELY):
        with Hub(tight, transport, "legacy" if number % 2 else "auto") as hub:
            code, _took = strike_the_hub(tight, hub, blow)
        log = hub.log.end()
        assert expected is None or code == expected, log
        assert "Traceback" not in log
        assert run_folders(tight) == []


@pytest.mark.parametrize(
    ("blow", "expected"),
    [
        (Hub.close_stdin, 0),
        (once(signal.SIGTERM), 0),
        (once(signal.SIGKILL), -signal.SIGKILL),
        (kill_itself, -signal.SIGKILL),
    ],
    ids=["end of stdin", "SIGTERM", "front killed", "SIGKILL"],
)
def test_a_hub_that_ends_while_its_children_start_takes_them_with_it(
    tight: World, tmp_path: Path, blow: Callable[[Hub], None], expected: int
) -> None:
    """Held at the worst moment: Claude's child is not yet tied to the hub's life, Gemini's not yet answering."""
    for number in range(RARELY):
        tight.gemini.hold_quota_from = 1
        with Gate(tmp_path / f"gate{number}", tight) as gate:
            with Hub(tight, "stdio") as hub:
                for provider in PROVIDERS:
                    hub.ask(provider)
                gate.wait_until_held()
                wait_until_gemini_starts(tight)
                itself = hub.itself
                below = [itself, *itself.children(recursive=True)]
                blow(hub)
                code = hub.process.wait(DEADLINE_S)
            gate.open()
            gone(below)
            tight.wait_until_no_child()
        assert code == expected, hub.log.end()
        assert tight.prompts_received("claude") == tight.prompts_received("gemini") == 0


# The command --------------------------------------------------------------------------------------------------------


def requests_of(world: World, provider: Provider) -> list[Received]:
    return world.claude.received if provider == "claude" else world.gemini.generations


@repeated
def test_ctrl_c_ends_an_ask_of_the_command_line(world: World) -> None:
    """Mid-answer, to the whole group as a terminal sends it: exit code 130, one line and no traceback, nothing left."""
    with Tally("Ctrl-C of llm-mcp-hub ask") as tally:
        for _ in range(ROUNDS):
            world.claude.script(anthropic.Hang(FIRST))
            world.gemini.script(google.Hang(FIRST))
            with shells(world) as asked:
                for provider, shell in asked.items():
                    assert shell.read(len(FIRST)).decode() == FIRST
                    since = time.monotonic()
                    shell.ctrl_c()
                    request = requests_of(world, provider)[-1]
                    assert request.done.wait(DEADLINE_S)
                    assert request.ended == "disconnected"
                    took = (time.monotonic() - since) * 1000
                    assert shell.end() == (130, "\nllm-mcp-hub: cancelled\n")
                    tally.survived(provider, took)
            world.wait_until_no_child()
            assert run_folders(world) == []


@pytest.mark.parametrize(
    ("blow", "expected"),
    [
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM,), 130),
        ((signal.SIGHUP,), -signal.SIGHUP),
        ((signal.SIGKILL,), -signal.SIGKILL),
    ],
    ids=["Ctrl-C twice", "SIGTERM", "SIGHUP", "SIGKILL"],
)
def test_an_ask_of_the_command_line_leaves_nothing_however_it_ends(
    world: World, blow: Sequence[signal.Signals], expected: int
) -> None:
    """Impatience, a time limit of a script, a closed terminal window, the last resort."""
    world.claude.script(anthropic.Hang(FIRST))
    world.gemini.script(google.Hang(FIRST))
    with shells(world) as asked:
        for shell in asked.values():
            assert shell.read(len(FIRST)).decode() == FIRST
            for number in blow:
                shell.process.send_signal(number)
        for shell in asked.values():
            code, stderr = shell.end()
            assert code == expected
            assert "Traceback" not in stderr
    world.wait_until_no_child()
    for provider in PROVIDERS:
        (request,) = requests_of(world, provider)
        assert request.done.wait(DEADLINE_S)
        assert request.ended == "disconnected"


def test_ctrl_c_ends_an_ask_of_the_command_line_that_has_not_begun(world: World, tmp_path: Path) -> None:
    """While the child still starts: nothing is sent, nothing is left."""
    world.gemini.hold_quota_from = 1
    with Gate(tmp_path / "gate", world) as gate, shells(world) as asked:
        gate.wait_until_held()
        wait_until_gemini_starts(world)
        for shell in asked.values():
            shell.ctrl_c()
        for shell in asked.values():
            assert shell.end() == (130, "\nllm-mcp-hub: cancelled\n")
        world.wait_until_no_child()
    assert world.prompts_received("claude") == world.prompts_received("gemini") == 0
    assert run_folders(world) == []


def test_ctrl_c_ends_the_reading_of_a_prompt(world: World) -> None:
    """Who has changed his mind need not end his text first."""
    with shells(world, prompt="-") as asked:
        for shell in asked.values():
            assert shell.process.stdin is not None
            shell.process.stdin.write(b"x" * 500_000)  # more than a pipe holds: it returns when somebody reads
            shell.wait_until_it_waits()
            shell.ctrl_c()
            assert shell.end() == (130, "")


def test_an_ask_whose_reader_has_seen_enough_ends_in_silence(world: World) -> None:
    """As in `llm-mcp-hub ask ... | head`: the first word after the reader has gone ends the ask; nothing is left."""
    words = ["first ", *["second "] * 2000]
    world.claude.script(anthropic.Answer(chunks=words, chunk_delay_s=0.05))
    world.gemini.script(google.Answer(chunks=words, chunk_delay_s=0.05))
    with shells(world) as asked:
        for shell in asked.values():
            assert shell.read(len("first ")).decode() == "first "
            shell.stop_reading()
        for provider, shell in asked.items():
            assert shell.end() == (0, "")
            (request,) = requests_of(world, provider)
            assert request.done.wait(DEADLINE_S)
            assert request.ended == "disconnected"
    world.wait_until_no_child()
    assert run_folders(world) == []


# Worse moments ------------------------------------------------------------------------------------------------------


def test_an_ask_cancelled_while_gemini_opens_its_session_leaves_nothing(tight: World) -> None:
    """The process is up, `session/new` is not answered yet: no prompt is sent, and the next ask works."""
    tight.gemini.hold_quota_from = 3
    with Hub(tight, "stdio") as hub:
        call = hub.ask("gemini")
        wait_until_gemini_starts(tight)
        hub.cancel(call)
        hub.log.wait_for("ask cancelled")
        tight.gemini.hold_quota_from = None

        assert answer_of(hub.call(*hello("gemini")).result())["text"] == HELLO["gemini"]
        assert tight.prompts_received("gemini") == 1
        wait_until_settled(tight)
    tight.wait_until_no_child()


def test_an_ask_cancelled_while_gemini_changes_its_model_leaves_nothing(tight: World) -> None:
    """The child is stopped when it is told the model: no prompt is sent, and the child serves the next ask."""
    with Hub(tight, "stdio") as hub:
        assert answer_of(hub.call(*hello("gemini")).result())["text"] == HELLO["gemini"]
        (child,) = children_of(tight, "gemini")
        child.suspend()
        call = hub.ask("gemini", model="gemini-3-pro-preview")
        hub.call("token_status", {}).result()  # read after the ask, which by now waits for the child
        hub.cancel(call)
        hub.log.wait_for("ask cancelled")
        child.resume()

        assert answer_of(hub.call(*hello("gemini")).result())["text"] == HELLO["gemini"]
        assert tight.prompts_received("gemini") == 2
        wait_until_settled(tight)
    tight.wait_until_no_child()


def test_cancelling_one_of_ten_asks_does_not_touch_the_others(world: World) -> None:
    """One Gemini process serves all ten: the nine others are answered, each with its own answer."""
    world.changes["LOG_LEVEL"] = "DEBUG"
    release = threading.Event()

    def reply(received: Any) -> google.Reply:
        asked = google.prompt_texts(received)[-1]
        return google.Hang(FIRST) if asked == "number 4" else google.Answer(f"to {asked}", gate=release)

    world.gemini.default = reply
    with Hub(world, "stdio") as hub:
        calls = [hub.ask("gemini", prompt=f"number {n}") for n in range(10)]
        world.gemini.wait_for_generations(10, timeout=DEADLINE_S)
        hub.log.wait_for("first text", provider="gemini")
        hub.cancel(calls[4])
        world.gemini.wait_until(
            lambda: any(request.ended == "disconnected" for request in world.gemini.generations), timeout=DEADLINE_S
        )
        assert len(world.gemini.open) == 9
        release.set()

        answers = [answer_of(call.result())["text"] for n, call in enumerate(calls) if n != 4]
        assert answers == [f"to number {n}" for n in range(10) if n != 4]
        wait_until_settled(world)
    world.wait_until_no_child()


def test_two_cancels_in_a_row_are_as_good_as_one(tight: World) -> None:
    """Both arrive in one read; the second finds the ask in the middle of its clearing up."""
    with Hub(tight, "stdio") as hub:
        for provider in PROVIDERS:
            asking = Asking(tight, hub.log, provider)
            call = hub.ask(provider)
            asking.under_way()
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call.number}}
            since = time.monotonic()
            hub.send(cancel, cancel)
            asking.closed(since)
            hub.send(cancel)

            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
            wait_until_settled(tight)
    tight.wait_until_no_child()


def test_an_ask_that_leaves_the_queue_takes_no_place(tight: World) -> None:
    """Cancelled or late while it waits for a place: it never reaches the provider, and the place goes to the next."""
    with Hub(tight, "stdio", "auto") as hub:
        for provider in PROVIDERS:
            asking = Asking(tight, hub.log, provider)
            first = hub.ask(provider)
            asking.under_way()
            queued = [hub.ask(provider) for _ in range(3)]
            late = error_of(hub.ask(provider, timeout_s=1).result())
            for call in queued:
                hub.cancel(call)
            hub.log.wait_for("ask cancelled", more_than=2, provider=provider)
            since = time.monotonic()
            hub.cancel(first)
            asking.closed(since)

            assert (late["code"], late["partial_text"]) == ("timeout", None)
            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
            assert tight.prompts_received(provider) == 2
        wait_until_settled(tight)
    tight.wait_until_no_child()


def test_a_stream_closed_in_the_queue_takes_no_place(tight: World) -> None:
    """The client is gone before its turn comes."""
    with Hub(tight, "http", "auto") as hub:
        for provider in PROVIDERS:
            asking = Asking(tight, hub.log, provider)
            first = hub.ask(provider)
            asking.under_way()
            queued = hub.ask(provider)
            hub.log.wait_for("ask taken", more_than=1, provider=provider)
            queued.hang_up()
            hub.log.wait_for("ask cancelled", provider=provider)
            since = time.monotonic()
            first.hang_up()
            asking.closed(since)

            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
            assert tight.prompts_received(provider) == 2
        wait_until_settled(tight)
    tight.wait_until_no_child()


def test_an_ask_that_lost_its_legacy_connection_ends_by_its_deadline(tight: World) -> None:
    """In the older era a lost connection only detaches: the deadline is what frees the place."""
    with Hub(tight, "http", "legacy") as hub:
        for provider in PROVIDERS:
            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
        wait_until_settled(tight)
        askings = [Asking(tight, hub.log, provider) for provider in PROVIDERS]
        calls = [hub.ask(provider, timeout_s=6) for provider in PROVIDERS]
        for asking, call in zip(askings, calls, strict=True):
            asking.under_way()
            call.hang_up()
        for asking in askings:
            hub.log.wait_for("ask failed", provider=asking.provider, code="timeout")
            asking.closed(time.monotonic())

        for provider in PROVIDERS:
            assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
        wait_until_settled(tight)
    tight.wait_until_no_child()


def test_one_who_leaves_does_not_end_the_start_that_others_wait_for(world: World) -> None:
    """Two asks wait for one start of Gemini's CLI; the first is cancelled, the second is answered by the same child."""
    world.gemini.hold_quota_from = 1
    with Hub(world, "stdio") as hub:
        first, second = hub.ask("gemini"), hub.call(*hello("gemini"))
        wait_until_gemini_starts(world)
        (child,) = children_of(world, "gemini")
        hub.cancel(first)
        hub.log.wait_for("ask cancelled")
        world.gemini.hold_quota_from = None

        assert answer_of(second.result())["text"] == HELLO["gemini"]
        assert children_of(world, "gemini") == [child]
        assert world.prompts_received("gemini") == 1
    world.wait_until_no_child()


def test_asks_that_end_together_make_one_child_ready_for_the_next(world: World) -> None:
    """Not one for each, of which all but one would be thrown away as soon as they have started."""
    release = threading.Event()
    world.claude.script(*[anthropic.Answer("together", gate=release)] * 4)
    with Hub(world, "stdio") as hub:
        calls = [hub.ask("claude") for _ in range(4)]
        world.claude.wait_for_requests(4, timeout=DEADLINE_S)
        release.set()
        assert [answer_of(call.result())["text"] for call in calls] == ["together"] * 4
        wait_until_settled(world)
        assert answer_of(hub.call(*hello("claude")).result())["text"] == HELLO["claude"]
        wait_until_settled(world)

        homes = [int(home.name.removeprefix("claude-")) for home in run_folders(world)[0].glob("claude-*")]
        assert max(homes) <= 6  # four, and one made ready after them and after the fifth
    world.wait_until_no_child()


@contextlib.asynccontextmanager
async def hub_in_this_process(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[hub_module.Hub]:
    """For what can only be seen from inside: the composition root's own hub, with both real providers."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    async with main.build_hub(settings.load()) as hub:
        yield hub


@pytest.mark.anyio
async def test_a_start_that_nobody_waits_for_any_more_is_not_handed_out_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one ask is cancelled, the child comes up, then the login changes: the next ask goes out with the new one."""
    world.gemini.hold_quota_from = 1
    async with hub_in_this_process(world, monkeypatch) as hub:
        others = asyncio.all_tasks()
        asking = asyncio.create_task(hub.ask(hub.new_ask("gemini", "a question")))
        await asyncio.to_thread(wait_until_gemini_starts, world)
        starting = asyncio.all_tasks() - others - {asking}
        asking.cancel()
        await asyncio.wait([asking], timeout=DEADLINE_S)
        world.gemini.hold_quota_from = None
        _started, pending = await asyncio.wait(starting, timeout=DEADLINE_S)
        assert starting
        assert not pending
        google.write_login(world.login_file.parent, access_token="made-up-access-of-a-new-login")

        answer = await asyncio.wait_for(hub.ask(hub.new_ask("gemini", "the next one")), DEADLINE_S)
        assert answer.text == HELLO["gemini"]
        (generation,) = world.gemini.generations
        assert generation.headers["authorization"] == "Bearer made-up-access-of-a-new-login"
        children = world.children()
    gone(children)


@pytest.mark.anyio
async def test_an_idle_hub_lets_its_children_go_and_starts_others_when_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over stdio, where an editor may keep a hub for days; here the ten minutes are half a second."""
    monkeypatch.setattr(rest, "AFTER_S", 0.5)
    async with hub_in_this_process(world, monkeypatch) as hub:
        hub.rest.wanted = True
        children: list[psutil.Process] = []
        for _ in range(2):
            for provider in PROVIDERS:
                answer = await asyncio.wait_for(hub.ask(hub.new_ask(provider, "a question")), DEADLINE_S)
                assert answer.text == HELLO[provider]
                children += world.children()
            await asyncio.to_thread(gone, children)
        assert len(children) >= 2 * len(PROVIDERS)
    assert run_folders(world) == []


# Folders of hubs ----------------------------------------------------------------------------------------------------


def test_a_dead_hubs_folder_is_swept_with_what_still_lives_in_it(tmp_path: Path) -> None:
    """Where nothing ties children to the hub's life, the next start ends them; a noted number alone ends nobody."""
    living = RunFolder(tmp_path)
    dead = tmp_path / "run" / "dead"
    processes: list[subprocess.Popen[bytes]] = []
    for name, home in {"claude-1": dead / "claude-1", "gemini-1": tmp_path}.items():
        (dead / name).mkdir(parents=True)
        processes.append(subprocess.Popen(["sleep", "600"], env={"HOME": str(home), "PATH": os.environ["PATH"]}))
        (dead / name / "pid").write_text(str(processes[-1].pid))
    (dead / "lock").touch()
    left, stranger = processes
    try:
        RunFolder(tmp_path).close()

        assert left.wait(DEADLINE_S) == -signal.SIGKILL
        assert stranger.poll() is None
        assert [folder for folder in (tmp_path / "run").iterdir() if folder.is_dir()] == [living.path]
    finally:
        for process in processes:
            process.kill()
            process.wait(DEADLINE_S)
        living.close()


def test_hubs_that_start_and_end_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """One sweeps while another removes its own folder: both are right, and neither fails."""

    def live() -> None:
        for _ in range(300):
            run = RunFolder(tmp_path)
            run.new_home("claude")
            run.close()

    with ThreadPoolExecutor(4) as pool:
        lives = [pool.submit(live) for _ in range(4)]
        for life in lives:
            life.result(DEADLINE_S)
    assert [folder for folder in (tmp_path / "run").iterdir() if folder.is_dir()] == []
