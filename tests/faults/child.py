"""Faults of a child: a CLI that ends, stops, falls silent, talks nonsense, or cannot be started at all."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.faults.stage import MIB, Stage, until
from tests.faults.table import ANSWERED, Fault, Got, Strike
from tests.guarantees.drill import FIRST, PROVIDERS
from tests.harness import DEADLINE_S
from tests.upstreams import anthropic, google

EITHER = {"claude": "upstream_error", "gemini": "upstream_error"}
LATE = {"claude": "timeout", "gemini": "timeout"}
MISCONFIGURED = {"claude": "misconfigured", "gemini": "misconfigured"}
BOTH_ANSWER = {"claude": ANSWERED, "gemini": ANSWERED}


def plays(does: str, *, silent: bool = False) -> Strike:
    """A program in each CLI's place does this; `silent`: it says no more, so the asks have a deadline."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        stage.play(does)
        limit_s = 3.0
        while True:
            got = stage.ask(**({"timeout_s": limit_s} if silent else {}))
            # On a busy machine the deadline may come before the program has got as far.
            if not silent or all(stage.fell(provider) for provider in PROVIDERS) or limit_s > DEADLINE_S / 2:
                break
            limit_s *= 2
        assert all(stage.fell(provider) for provider in PROVIDERS), f"{does}: not done, but {got}"
        for provider in PROVIDERS:  # from here on the real ones are started again
            (stage.folder / provider).unlink()
        yield got

    return strike


def says(claude: Any, gemini: Any) -> Strike:
    """The providers say this to the real CLIs."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        stage.say(claude=claude, gemini=gemini)
        yield stage.ask()
        stage.replies.clear()

    return strike


def struck_by(number: signal.Signals, **more: Any) -> Strike:
    """Both real CLIs get this signal in the middle of an answer."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        calls = stage.mid_answer(**more)
        stage.struck += [stage.busy(provider) for provider in PROVIDERS]
        for child in stage.struck:
            child.send_signal(number)
        got = {provider: stage.outcome(call) for provider, call in calls.items()}
        stage.replies.clear()
        yield got

    return strike


@contextmanager
def killed_before_the_first_text(stage: Stage) -> Generator[Got]:
    """No text is lost yet: another child is asked, and the caller need not know."""
    stage.say(claude=anthropic.Hang(), gemini=google.Hang())
    calls = {provider: stage.begin(provider) for provider in PROVIDERS}
    for provider in PROVIDERS:
        stage.world.upstream(provider).wait_until(
            lambda provider=provider: any("ended='open'" in repr(one) for one in asked(stage, provider)),
            timeout=DEADLINE_S,
        )
    stage.struck += [stage.busy(provider) for provider in PROVIDERS]
    stage.replies.clear()
    for child in stage.struck:
        child.kill()
    yield {provider: stage.outcome(call) for provider, call in calls.items()}


def asked(stage: Stage, provider: str) -> list[Any]:
    """Prompts that the provider has not answered yet."""
    received = stage.world.claude.received if provider == "claude" else stage.world.gemini.generations
    return [one for one in received if one.ended == "open"]


@contextmanager
def killed_while_idle(stage: Stage) -> Generator[Got]:
    """Nothing is asked when they die: whoever asks next must not meet it."""
    assert stage.next_ask() == ANSWERED
    until(lambda: len(stage.world.children()) > 1, "both CLIs are kept for a next turn")
    stage.kill_children()
    yield stage.ask()


@contextmanager
def program_gone(stage: Stage) -> Generator[Got]:
    """The Gemini CLI is uninstalled, and the one that ran has ended."""
    program = stage.folder / "bin" / "gemini"
    away = program.with_name("gemini.away")
    program.rename(away)
    stage.struck += [child for child in stage.world.children() if "--acp" in child.cmdline()]
    for child in stage.struck:
        child.kill()
    try:
        yield stage.ask()
    finally:
        away.rename(program)


@contextmanager
def nothing_starts(stage: Stage) -> Generator[Got]:
    """EAGAIN: too many processes."""
    (stage.folder / "no-fork").touch()
    stage.kill_children()
    try:
        yield stage.ask()
    finally:
        (stage.folder / "no-fork").unlink()


@contextmanager
def no_descriptors(stage: Stage) -> Generator[Got]:
    """EMFILE: the hub may open three more files, which is a connection, and no child."""
    stage.kill_children()
    logins = stage.statuses()
    hub = stage.hub.itself
    before = hub.rlimit(psutil.RLIMIT_NOFILE)
    taken = still_open(hub.pid)
    free = (number for number in itertools.count() if number not in taken)
    hub.rlimit(psutil.RLIMIT_NOFILE, (list(itertools.islice(free, 4))[-1], before[1]))
    try:
        got = {provider: stage.outcome(stage.begin(provider)) for provider in PROVIDERS}
        assert (short := stage.statuses()) == logins, f"logins that cannot be read are told as {short}"
        yield got
    finally:
        hub.rlimit(psutil.RLIMIT_NOFILE, before)


def still_open(pid: int) -> set[int]:
    """The descriptors of a process that has closed what it held of its children, which takes it a moment."""
    seen: list[set[int]] = []
    while len(seen) < 5 or any(one != seen[-1] for one in seen[-5:]):
        time.sleep(0.1)
        seen.append({int(name) for name in os.listdir(f"/proc/{pid}/fd")})
    return seen[-1]


@contextmanager
def no_space(stage: Stage) -> Generator[Got]:
    """ENOSPC: the disk is full when a child is to be started."""
    stage.kill_children()
    fill(stage)
    stage.ask()  # it meets the end of those children, and with that the room that their folders had
    fill(stage)
    try:
        yield stage.ask()
    finally:
        (stage.state / "ballast").unlink()


def fill(stage: Stage) -> None:
    """Leave not one byte on the disk."""
    with (stage.state / "ballast").open("ab", buffering=0) as file:
        piece = MIB
        while piece:
            try:
                file.write(b"\0" * piece)
            except OSError:
                piece //= 2


def scripted(name: str, does: str, expected: Any, *, silent: bool = False, outage: Any = None) -> Fault:
    return Fault(name, "child", "plain", plays(does, silent=silent), expected, "scripted", outage or {})


def real(name: str, strike: Strike, expected: Any, **more: Any) -> Fault:
    return Fault(name, "child", more.pop("stage", "plain"), strike, expected, **more)


FAULTS = [
    *(scripted(f"exit {code}, no output", f"exit {code}", EITHER) for code in (0, 1, 41, 55, 130)),
    scripted("crash in the middle of an answer", "crash", EITHER),
    scripted("ignores SIGTERM, and is silent", "deaf", LATE, silent=True),
    # Over pipes nothing says that it has ended as long as somebody holds them; on a terminal its end hangs up.
    scripted(
        "ends, and a grandchild holds its pipes",
        "grandchild",
        {"claude": "timeout", "gemini": "upstream_error"},
        silent=True,
    ),
    scripted("half a JSON line, then its end", "half_a_line", EITHER),
    scripted("half a JSON line, then silence", "half_a_line_and_silence", LATE, silent=True),
    scripted("bytes that are no UTF-8", "no_utf8", dict.fromkeys(PROVIDERS, (ANSWERED, "upstream_error"))),
    scripted("one line without an end", "one_line_without_end", EITHER),
    scripted("lines without an end", "lines_without_end", LATE, silent=True),
    scripted("one byte a second", "a_byte_a_second", LATE, silent=True),
    scripted(
        "asks for a login",
        "login",
        {"claude": "auth_rejected", "gemini": "auth_expired"},
        outage={"claude": "rejected"},
    ),
    scripted("asks for consent", "consent", BOTH_ANSWER),
    scripted("a flood of terminal sequences", "ansi", BOTH_ANSWER),
    scripted("messages of wrong shapes", "wrong_shapes", EITHER, silent=True),
    scripted("a flood of secrets on stderr", "loud", BOTH_ANSWER),
    real("killed in the middle of an answer", struck_by(signal.SIGKILL), EITHER),
    real("stopped in the middle of an answer", struck_by(signal.SIGSTOP, timeout_s=6), LATE),
    real("told to end in the middle of an answer", struck_by(signal.SIGTERM), EITHER),
    real("killed before its first text", killed_before_the_first_text, BOTH_ANSWER),
    real("killed while nothing is asked", killed_while_idle, BOTH_ANSWER),
    real(
        "a tool is called",
        says(anthropic.ToolCall("Bash", {"command": "id"}), google.FunctionCall("run_shell_command", {})),
        {"claude": "upstream_error", "gemini": ANSWERED},  # which is told that there is none, and goes on
    ),
    real("the provider's stream is cut", says(anthropic.Cut(FIRST), google.Cut(FIRST)), EITHER),
    real("the provider resets every connection", says(anthropic.Reset(), google.Reset()), EITHER),
    real("the provider's stream is no JSON", says(anthropic.Malformed(FIRST), google.Malformed(FIRST)), EITHER),
    real("Gemini's program is gone", program_gone, {"claude": ANSWERED, "gemini": "cli_missing"}),
    real("nothing can be started (EAGAIN)", nothing_starts, MISCONFIGURED, stage="troubled", by="injected"),
    # A terminal is one descriptor, where Claude's pipes are six: the room of a connection that ends may do for it.
    real("out of descriptors (EMFILE)", no_descriptors, {**MISCONFIGURED, "gemini": ("misconfigured", ANSWERED)}),
    real("no space left (ENOSPC)", no_space, MISCONFIGURED, stage="disk"),
]
