"""G5, no leftovers: whatever ends an ask or the hub, no process, no request upstream, no held place is left.

Both real CLIs are struck in the middle of an answer: the hub has its first text, and the stand-in says no more. Each blow
falls HUB_DRILL_ROUNDS times on each provider (2 by default, 20 in `make drill-full`); `-s` shows one line for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp_types import CallToolResult

from tests.guarantees.drill import (
    FEW,
    FIRST,
    HELLO,
    PROVIDERS,
    ROUNDS,
    TIGHT,
    Asking,
    Gate,
    Hub,
    Log,
    Provider,
    Tally,
    busy_child,
    children_of,
    descriptors,
    gone,
    hello,
    official_client,
    run_folders,
    wait_until_gemini_starts,
    wait_until_settled,
)
from tests.harness import DEADLINE_S, EVERY_WAY, Era, Line, Transport, World, answer_of, error_of
from tests.upstreams import anthropic, google

pytestmark = pytest.mark.timeout(180 + 60 * ROUNDS)

A_QUESTION = {"prompt": "a question"}
MID_ANSWER = [FIRST] * ROUNDS
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


def nothing_grew(world: World, hub: psutil.Process, before: int) -> None:
    """A hub that lives on holds what it held before the rounds, and keeps no folder of children that have gone."""
    assert descriptors(hub) - before <= FEW
    homes = [folder for folder in run_folders(world)[0].iterdir() if folder.name.startswith(PROVIDERS)]
    assert len(homes) <= len(world.children()) + 1


# A hub that lives on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transport", "era"), EVERY_WAY)
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


@pytest.mark.parametrize(
    ("limit", "arguments"),
    [("HUB_ASK_TIMEOUT_S", {"timeout_s": 3}), ("HUB_IDLE_TIMEOUT_S", {})],
    ids=["deadline", "idle stall"],
)
def test_an_ask_that_runs_out_of_time_leaves_nothing(
    tight: World, limit: str, arguments: dict[str, Any]
) -> None:
    """The client gets `timeout` with the text so far; both providers are late at once."""
    tight.changes[limit] = "3"
    with (
        Tally("deadline" if arguments else "idle stall") as tally,
        official_client(tight, "http", "auto") as (line, log, hub),
    ):
        next_asks_work(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        for text in [BEFORE_HEADERS, *MID_ANSWER]:
            askings = [Asking(tight, log, provider, text) for provider in PROVIDERS]
            calls = [line.begin(f"ask_{provider}", {**A_QUESTION, **arguments}) for provider in PROVIDERS]
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


def test_a_modern_stream_that_is_closed_leaves_nothing(tight: World) -> None:
    """The connection itself goes, without a word of the protocol: how a client that crashes looks."""
    with Tally("closed modern stream") as tally, Hub(tight, "http", "auto") as hub:
        for provider in PROVIDERS:
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


@pytest.mark.parametrize(
    ("blow", "code"),
    [(signal.SIGKILL, "upstream_error"), (signal.SIGSTOP, "timeout")],
    ids=["killed", "stopped"],
)
def test_a_child_that_is_struck_itself_leaves_nothing(tight: World, blow: signal.Signals, code: str) -> None:
    """The ask ends in a coded error with the text so far, the child is gone, and the next ask gets another one."""
    with (
        Tally(f"child {'killed' if blow == signal.SIGKILL else 'stopped'}") as tally,
        official_client(tight, "stdio", "auto") as (line, log, hub),
    ):
        next_asks_work(line)
        wait_until_settled(tight)
        before = descriptors(hub)
        for text in [BEFORE_HEADERS, *MID_ANSWER]:
            askings = [Asking(tight, log, provider, text) for provider in PROVIDERS]
            calls = [line.begin(f"ask_{provider}", {**A_QUESTION, "timeout_s": 5}) for provider in PROVIDERS]
            for asking in askings:
                asking.under_way()
            struck = [busy_child(tight, provider) for provider in PROVIDERS]
            since = time.monotonic()
            for child in struck:
                child.send_signal(blow)
            for asking, call in zip(askings, calls, strict=True):
                error = error_of(call.result(DEADLINE_S))
                assert (error["code"], error["partial_text"]) == (code, text or None)
                asking.closed(since)
            gone(struck)
            next_asks_work(line)
            wait_until_settled(tight)
            for provider in PROVIDERS if text else ():
                tally.survived(provider)
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


Blow = tuple[Transport, Callable[[Hub], None], int | None]
"""How it is reached, what is done to it, and its exit code; None where nobody is left to read one."""
FINAL_BLOWS: dict[str, Blow] = {
    "end of stdin": ("stdio", Hub.close_stdin, 0),
    "SIGTERM, stdio": ("stdio", once(signal.SIGTERM), 0),
    "SIGTERM, http": ("http", once(signal.SIGTERM), 0),
    "SIGKILL, stdio": ("stdio", once(signal.SIGKILL), -signal.SIGKILL),
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


def strike_the_hub(world: World, hub: Hub, blow: Callable[[Hub], None], text: str) -> tuple[int, dict[Provider, float]]:
    """Both providers are asked, then the blow falls. Returns the exit code, and when each upstream request was closed."""
    askings = [Asking(world, hub.log, provider, text) for provider in PROVIDERS]
    for provider in PROVIDERS:
        hub.ask(provider)
    for asking in askings:
        asking.under_way()
    if not text:
        for provider in PROVIDERS:
            busy_child(world, provider).suspend()
    below = psutil.Process(hub.process.pid).children(recursive=True)
    assert len(below) >= len(PROVIDERS)
    since = time.monotonic()
    blow(hub)
    took = {asking.provider: asking.closed(since) for asking in askings}
    code = hub.process.wait(DEADLINE_S)
    gone(below)
    world.wait_until_no_child()
    return code, took


@pytest.mark.parametrize(("transport", "blow", "expected"), FINAL_BLOWS.values(), ids=FINAL_BLOWS)
def test_a_hub_that_ends_takes_all_with_it(
    tight: World, transport: Transport, blow: Callable[[Hub], None], expected: int, request: pytest.FixtureRequest
) -> None:
    """Mid-answer of both providers at once; over stdio also with both children stopped. The next hub sweeps and answers."""
    killed = expected == -signal.SIGKILL
    with Tally(request.node.callspec.id) as tally:
        for number, text in enumerate([BEFORE_HEADERS, *MID_ANSWER][transport == "http" :]):
            era: Era = "auto" if number % 2 else "legacy"
            with Hub(tight, transport, era) as hub:
                assert len(run_folders(tight)) == 1
                if text:
                    for provider in PROVIDERS:
                        assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
                code, took = strike_the_hub(tight, hub, blow, text)
            assert code == expected, hub.log.end()
            assert len(run_folders(tight)) == (1 if killed else 0)
            for provider in PROVIDERS if text else ():
                tally.survived(provider, took[provider])
        with Hub(tight, "stdio") as hub:
            assert len(run_folders(tight)) == 1
            for provider in PROVIDERS:
                assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
    tight.wait_until_no_child()
    assert run_folders(tight) == []


@pytest.mark.parametrize(("transport", "blow", "expected"), RARER_BLOWS.values(), ids=RARER_BLOWS)
def test_a_hub_that_ends_in_a_rarer_way_takes_all_with_it(
    tight: World, transport: Transport, blow: Callable[[Hub], None], expected: int | None
) -> None:
    """As above, a tenth as often: impatient signals, a terminal's Ctrl-C to the whole group, a client that is no more."""
    for number in range(max(1, ROUNDS // 10)):
        with Hub(tight, transport, "legacy" if number % 2 else "auto") as hub:
            code, _took = strike_the_hub(tight, hub, blow, FIRST)
        log = hub.log.end()
        assert expected is None or code == expected, log
        assert "Traceback" not in log
        assert run_folders(tight) == []


@pytest.mark.parametrize(
    ("blow", "expected"),
    [(Hub.close_stdin, 0), (once(signal.SIGTERM), 0), (once(signal.SIGKILL), -signal.SIGKILL)],
    ids=["end of stdin", "SIGTERM", "SIGKILL"],
)
def test_a_hub_that_ends_while_its_children_start_takes_them_with_it(
    tight: World, tmp_path: Path, blow: Callable[[Hub], None], expected: int
) -> None:
    """Held at the worst moment: Claude's child is not yet tied to the hub's life, Gemini's not yet answering."""
    for number in range(ROUNDS):
        tight.gemini.hold_quota_from = 1
        with Gate(tmp_path / f"gate{number}", tight) as gate:
            with Hub(tight, "stdio") as hub:
                for provider in PROVIDERS:
                    hub.ask(provider)
                gate.wait_until_held()
                wait_until_gemini_starts(tight)
                below = psutil.Process(hub.process.pid).children(recursive=True)
                blow(hub)
                code = hub.process.wait(DEADLINE_S)
            gate.open()
            gone(below)
            tight.wait_until_no_child()
        assert code == expected, hub.log.end()
        assert tight.prompts_received("claude") == tight.prompts_received("gemini") == 0


# The command --------------------------------------------------------------------------------------------------------


class Shell:
    """`llm-mcp-hub ask` as a shell runs it: in a process group of its own, which is what Ctrl-C is sent to."""

    def __init__(self, world: World, provider: Provider) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llm_mcp_hub", "ask", provider, "a question"],
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def read(self, count: int) -> bytes:
        """The first bytes of the answer, as soon as they are printed."""
        assert self.process.stdout is not None
        return self.process.stdout.read(count)

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        _stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr.decode()


def test_ctrl_c_ends_an_ask_of_the_command_line(world: World) -> None:
    """Mid-answer, to the whole group as a terminal sends it: exit code 130, one line and no traceback, nothing left."""
    with Tally("Ctrl-C of llm-mcp-hub ask") as tally:
        for _ in range(ROUNDS):
            world.claude.script(anthropic.Hang(FIRST))
            world.gemini.script(google.Hang(FIRST))
            shells = {provider: Shell(world, provider) for provider in PROVIDERS}
            for provider, shell in shells.items():
                assert shell.read(len(FIRST)).decode() == FIRST
                asked = world.claude.received if provider == "claude" else world.gemini.generations
                since = time.monotonic()
                shell.ctrl_c()
                code, stderr = shell.end()
                assert (code, stderr.strip()) == (130, "llm-mcp-hub: cancelled")
                assert asked[-1].done.wait(DEADLINE_S)
                assert asked[-1].ended == "disconnected"
                tally.survived(provider, (time.monotonic() - since) * 1000)
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
    shells = [Shell(world, provider) for provider in PROVIDERS]
    for shell in shells:
        assert shell.read(len(FIRST)).decode() == FIRST
        for number in blow:
            shell.process.send_signal(number)
    for shell in shells:
        code, stderr = shell.end()
        assert code == expected
        assert "Traceback" not in stderr
    world.wait_until_no_child()
    for request in [*world.claude.received, *world.gemini.generations]:
        assert request.done.wait(DEADLINE_S)
        assert request.ended == "disconnected"


def test_ctrl_c_ends_an_ask_of_the_command_line_that_has_not_begun(world: World, tmp_path: Path) -> None:
    """While the child still starts: nothing is sent, nothing is left."""
    world.gemini.hold_quota_from = 1
    with Gate(tmp_path / "gate", world) as gate:
        shells = [Shell(world, provider) for provider in PROVIDERS]
        gate.wait_until_held()
        wait_until_gemini_starts(world)
        for shell in shells:
            shell.ctrl_c()
        ends = [shell.end() for shell in shells]
        world.wait_until_no_child()
    assert ends == [(130, "\nllm-mcp-hub: cancelled\n")] * 2
    assert world.prompts_received("claude") == world.prompts_received("gemini") == 0
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


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_ask_that_leaves_the_queue_takes_no_place(tight: World, provider: Provider) -> None:
    """Cancelled or late while it waits for a place: it never reaches the provider, and the place goes to the next."""
    with Hub(tight, "stdio", "auto") as hub:
        asking = Asking(tight, hub.log, provider)
        first = hub.ask(provider)
        asking.under_way()
        queued = [hub.ask(provider) for _ in range(3)]
        late = error_of(hub.ask(provider, timeout_s=1).result())
        for call in queued:
            hub.cancel(call)
        hub.log.wait_for("ask cancelled", more_than=2)
        since = time.monotonic()
        hub.cancel(first)
        asking.closed(since)

        assert (late["code"], late["partial_text"]) == ("timeout", None)
        assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
        assert tight.prompts_received(provider) == 2
        wait_until_settled(tight)
    tight.wait_until_no_child()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_closed_in_the_queue_takes_no_place(tight: World, provider: Provider) -> None:
    """The client is gone before its turn comes."""
    with Hub(tight, "http", "auto") as hub:
        asking = Asking(tight, hub.log, provider)
        first = hub.ask(provider)
        asking.under_way()
        queued = hub.ask(provider)
        hub.log.wait_for("ask taken", more_than=1)
        queued.hang_up()
        hub.log.wait_for("ask cancelled")
        since = time.monotonic()
        first.hang_up()
        asking.closed(since)

        assert answer_of(hub.call(*hello(provider)).result())["text"] == HELLO[provider]
        assert tight.prompts_received(provider) == 2
    tight.wait_until_no_child()


def test_an_ask_that_lost_its_legacy_connection_ends_by_its_deadline(tight: World) -> None:
    """In the older era a lost connection only detaches: the deadline is what frees the place."""
    with Hub(tight, "http", "legacy") as hub:
        askings = [Asking(tight, hub.log, provider) for provider in PROVIDERS]
        calls = [hub.ask(provider, timeout_s=4) for provider in PROVIDERS]
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
