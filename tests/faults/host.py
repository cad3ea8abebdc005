"""Faults of the hub itself and of its machine: told to end, killed, stopped, its folders and its clock taken away.

Where the hub ends, another one on the same state is what the looks are taken at: it has the asks of the first one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.child import BOTH_ANSWER, fill
from tests.faults.stage import HANGS, Stage
from tests.faults.table import Fault, Got, Strike
from tests.guarantees.drill import FIRST, PROVIDERS, Call, Hub
from tests.harness import DEADLINE_S, Transport, answer_of, error_of
from tests.upstreams import anthropic, google

IN_FLIGHT = 20


def tickets(stage: Stage, *, count: int = 1) -> list[str]:
    """So many asks at each provider that wait for no caller. Returns their ids."""
    asked = [stage.begin(provider, wait_s=0) for provider in PROVIDERS for _ in range(count)]
    return [answer_of(call.result())["ask_id"] for call in asked]


def fetched(stage: Stage, ask_id: str) -> str:
    """What the hub of now knows of an ask, when it has ended."""
    told = stage.hub.call("ask_result", {"ask_id": ask_id, "wait_s": DEADLINE_S / 2}).result()
    stage.search.look("a result", told.model_dump_json())
    return error_of(told)["code"] if told.is_error else answer_of(told)["status"]


def in_the_middle(stage: Stage, count: int = 1) -> list[str]:
    """The same, both providers in the middle of their first answers."""
    for provider in PROVIDERS:
        stage.replies.setdefault(provider, HANGS[provider])
    texts = {provider: len(stage.log.found("first text", provider=provider)) for provider in PROVIDERS}
    ids = tickets(stage, count=count)
    for provider in PROVIDERS:
        stage.log.wait_for("first text", provider=provider, more_than=texts[provider])
    return ids


def waited_for(stage: Stage) -> list[str]:
    """Both providers in the middle of an answer that a call waits for. Returns the asks' ids."""
    stage.mid_answer()
    listed = stage.hub.call("ask_result", {}).result()
    assert listed.meta is not None
    running = {
        ask["provider"]: ask["ask_id"] for ask in listed.meta["llm-mcp-hub/asks"] if ask["status"] != "completed"
    }
    return [running[provider] for provider in PROVIDERS]


def another_hub(stage: Stage) -> list[str]:
    """The hub has ended: what is left of it, and then one more on its state. Returns the leftovers."""
    stage.end(by_force=True)
    left = [one for one in stage.leftovers() if not one.startswith("a run folder")]
    stage.start()
    return left


def ends(
    blow: Callable[[Hub], object], expected: Any, *, transport: Transport = "http", name: str, code: int | None = None
) -> Fault:
    """The hub ends in the middle of both answers: by the next hub each has its record."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        if transport == "stdio":
            stage.end()
            stage.start("stdio")
        # A hub over stdio outlives its client for the sake of tickets: there, somebody waits for each.
        ids = in_the_middle(stage) if transport == "http" else waited_for(stage)
        hub = stage.hub
        stage.struck += hub.itself.children(recursive=True)
        blow(hub)
        exit_code = hub.process.wait(DEADLINE_S)
        stage.replies.clear()
        left = another_hub(stage)
        assert not left, left
        assert code is None or exit_code == code, f"exit code {exit_code}"
        yield dict(zip(PROVIDERS, (fetched(stage, ask_id) for ask_id in ids), strict=True))

    return fault(name, strike, expected)


@contextmanager
def told_to_end_with_twenty(stage: Stage) -> Generator[Got]:
    """SIGTERM, with twenty asks accepted: each is an answer or a record that the next hub has. None is lost."""
    go_on = threading.Event()
    stage.say(
        claude=anthropic.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
        gemini=google.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
    )
    ids = in_the_middle(stage, IN_FLIGHT // 2)
    stage.struck += stage.hub.itself.children(recursive=True)
    stage.hub.process.terminate()
    stage.log.wait_for("the hub ends")
    go_on.set()
    code = stage.hub.process.wait(DEADLINE_S)
    stage.replies.clear()
    left = another_hub(stage)
    assert (code, left) == (0, []), (code, left)
    told = Counter(fetched(stage, ask_id) for ask_id in ids)
    assert told["completed"] + told["internal"] == IN_FLIGHT, told
    yield {"twenty asks": "kept"}


@contextmanager
def stopped_for_a_while(stage: Stage) -> Generator[Got]:
    """SIGSTOP, and after some seconds SIGCONT: what its children said meanwhile is not lost."""
    go_on = threading.Event()
    stage.say(
        claude=anthropic.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
        gemini=google.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
    )
    calls = stage.mid_answer()
    stage.hub.itself.suspend()
    go_on.set()
    for provider in PROVIDERS:
        stage.world.upstream(provider).wait_until_quiet(timeout=DEADLINE_S)
    threading.Event().wait(3)  # longer than a beat of the hub's: what it does when it wakes late is the point
    stage.hub.itself.resume()
    got = {provider: stage.outcome(call) for provider, call in calls.items()}
    stage.replies.clear()
    yield got


def clock_jumps(seconds: float) -> Strike:
    """The clock is set by so much in the middle of both answers."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        go_on = threading.Event()
        stage.say(
            claude=anthropic.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
            gemini=google.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
        )
        calls = stage.mid_answer()
        (stage.folder / "clock").write_text(str(seconds))
        go_on.set()
        got = {provider: stage.outcome(call) for provider, call in calls.items()}
        stage.replies.clear()
        yield got
        (stage.folder / "clock").unlink()

    return strike


@contextmanager
def disk_full_in_the_middle(stage: Stage) -> Generator[Got]:
    """The disk fills up while both answer: what needs no room goes on."""
    go_on = threading.Event()
    stage.say(
        claude=anthropic.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
        gemini=google.Answer(chunks=[FIRST, "."], gate=go_on, gate_after=1),
    )
    calls = stage.mid_answer()
    fill(stage)
    go_on.set()
    got = {provider: stage.outcome(call) for provider, call in calls.items()}
    stage.replies.clear()
    (stage.state / "ballast").unlink()
    yield got


@contextmanager
def removed(stage: Stage, folder: Path) -> Generator[None]:
    """A folder is taken away at once, and then emptied: what lives there may go on writing."""
    away = folder.rename(stage.folder / "removed")
    try:
        yield
    finally:
        shutil.rmtree(away)


@contextmanager
def state_removed(stage: Stage) -> Generator[Got]:
    """Somebody has removed the state folder of a hub that runs, with its children's homes, while nothing is asked."""
    with removed(stage, stage.world.state):
        yield stage.ask()


@contextmanager
def run_folder_removed(stage: Stage) -> Generator[Got]:
    """A cleaner has taken the folder of the children alone."""
    with removed(stage, stage.world.state / "run"):
        yield stage.ask()


@contextmanager
def state_read_only(stage: Stage) -> Generator[Got]:
    """The state's file system turns read-only under the hub."""
    state = str(stage.world.state)
    inside = ["nsenter", f"--mount=/proc/{stage.hub.itself.pid}/ns/mnt", "--"]
    script = f'mount --bind "{state}" "{state}" && mount -o remount,bind,ro "{state}"'
    stage.kill_children()
    subprocess.run([*inside, "/bin/sh", "-c", script], check=True, timeout=DEADLINE_S)
    try:
        yield stage.ask()
    finally:
        subprocess.run([*inside, "umount", state], check=True, timeout=DEADLINE_S)


@contextmanager
def replica_lost(stage: Stage) -> Generator[Got]:
    """One of two hubs on one Redis, each with its own folder, is killed: the other tells of its ask, and answers."""
    here = stage.world.state
    stage.world.changes["HUB_STATE_DIR"] = str(stage.folder / "elsewhere")
    there = Hub(stage.world, "http", "auto")
    stage.world.changes["HUB_STATE_DIR"] = str(here)
    stage.replies["gemini"] = google.Hang(FIRST)
    prompt = f"{stage['prompt']} now?"
    given: Call = there.ask("gemini", prompt=prompt, wait_s=0)
    ask_id = answer_of(given.result())["ask_id"]
    there.log.wait_for("first text")
    stage.struck += there.itself.children(recursive=True)
    there.itself.kill()
    there.process.wait(DEADLINE_S)
    stage.replies.clear()
    yield {"the lost hub's ask": fetched(stage, ask_id), **stage.ask()}
    stage.search.look("the log", there.log.end())
    there.__exit__(None, None, None)
    # Nobody there sweeps its folder: its next start does.
    shutil.rmtree(stage.folder / "elsewhere")


def once(number: signal.Signals) -> Callable[[Hub], None]:
    return lambda hub: hub.signal(number)


def twice(hub: Hub) -> None:
    hub.signal(signal.SIGTERM)
    hub.signal(signal.SIGTERM)


def vanishes(hub: Hub) -> None:
    """All ends of its pipes close at once."""
    hub.stop_reading()
    hub.close_stdin()


def fault(name: str, strike: Strike, expected: Any, *, stage: str = "plain", **more: Any) -> Fault:
    return Fault(name, "host", stage, strike, expected, **more)


RECORDED = dict.fromkeys(PROVIDERS, "internal")
FAULTS = [
    fault("SIGTERM with 20 in flight", told_to_end_with_twenty, {"twenty asks": "kept"}),
    ends(once(signal.SIGTERM), RECORDED, name="SIGTERM in the middle of both answers", code=0),
    ends(twice, RECORDED, name="SIGTERM twice"),
    ends(once(signal.SIGINT), RECORDED, name="SIGINT in the middle of both answers", code=0),
    ends(once(signal.SIGKILL), RECORDED, name="kill -9 of the hub"),
    ends(lambda hub: hub.itself.kill(), RECORDED, transport="stdio", name="kill -9 of a hub over stdio"),
    ends(once(signal.SIGKILL), RECORDED, transport="stdio", name="kill -9 of the process that the client knows"),
    ends(vanishes, RECORDED, transport="stdio", name="the client vanishes"),
    fault("the hub is stopped for a while", stopped_for_a_while, BOTH_ANSWER),
    fault("the clock jumps two days ahead", clock_jumps(2 * 86_400), BOTH_ANSWER, stage="troubled", by="injected"),
    fault("the clock jumps two days back", clock_jumps(-2 * 86_400), BOTH_ANSWER, stage="troubled", by="injected"),
    fault("the disk fills up in the middle of both answers", disk_full_in_the_middle, BOTH_ANSWER, stage="disk"),
    fault(
        "the state's file system turns read-only",
        state_read_only,
        dict.fromkeys(PROVIDERS, "misconfigured"),
        stage="disk",
    ),
    fault("the state folder is removed", state_removed, BOTH_ANSWER),
    fault("the children's folder is removed", run_folder_removed, BOTH_ANSWER),
    fault("a replica is lost", replica_lost, {"the lost hub's ask": "internal", **BOTH_ANSWER}, stage="redis"),
]
