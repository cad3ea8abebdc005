"""What a shell has beside a question: a line that lives, files and changes to ask about, and what was asked before."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pexpect
import pytest

from llm_mcp_hub import cli
from llm_mcp_hub.commands import stdin
from tests.harness import DEADLINE_S, World, answer_of, open_line, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.google import prompt_texts
from tests.upstreams.loopback import Received

HELLO = "Hello from the stand-in of Gemini."
HELLO_CLAUDE = "Hello from the stand-in of Claude."
ERASED = "\r\x1b[K"
"""Back to the line's begin, and nothing more in it."""


class Terminal:
    """A terminal that a command has its stderr on; what it shows is read as it comes."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.openpty()
        self.shown = ""

    def until(self, words: str) -> None:
        """Read until these words have been shown. Raises AssertionError."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.shown:
            readable, _w, _x = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"never shown: {words!r} in {self.shown!r}"
            self.shown += os.read(self._ours, 4096).decode()

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def on_a_terminal(world: World, *arguments: str) -> Generator[tuple[subprocess.Popen[bytes], Terminal]]:
    """A command whose stderr is a terminal and whose stdout is a pipe."""
    terminal = Terminal()
    process = subprocess.Popen(
        [*world.command, *arguments],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal.theirs,
    )
    try:
        yield process, terminal
    finally:
        process.kill()
        process.communicate()
        terminal.close()


def test_a_line_tells_a_terminal_how_an_ask_is_until_its_text_begins(world: World) -> None:
    """In the queue, then at the provider; each line replaces the one before whole, and the last is taken away."""
    world.changes["HUB_GEMINI_CONCURRENCY"] = "1"
    first, second = threading.Event(), threading.Event()

    def reply(received: Received) -> google.Reply:
        gate = first if prompt_texts(received)[-1] == "the first" else second
        return google.Answer(HELLO, gate=gate)

    world.gemini.default = reply
    with open_line(world, "stdio", "auto") as line:
        ahead = line.begin("ask_gemini", {"prompt": "the first"})
        world.gemini.wait_for_generations(1, timeout=DEADLINE_S)
        with on_a_terminal(world, "ask", "gemini", "the second") as (process, terminal):
            terminal.until("Gemini · place 1 in the queue · ")
            first.set()
            terminal.until("Gemini · 0 characters · ")
            second.set()
            out, _ = process.communicate(timeout=DEADLINE_S)
            terminal.until("go on with --conversation")
        assert answer_of(ahead.result(DEADLINE_S))["text"] == HELLO

    assert (process.returncode, out.decode()) == (0, f"{HELLO}\n")
    *lines, about = terminal.shown.split(ERASED)
    assert len(lines) >= 2
    assert all(shown.count("Gemini · ") == 1 and shown.endswith(" s") for shown in lines)
    assert about.startswith("gemini-2.5-pro (requested), ")


@pytest.mark.parametrize(
    "errors", ["", ":surrogateescape", ":surrogatepass"], ids=["here", "as on Windows", "as somebody told"]
)
def test_what_an_encoding_lacks_is_printed_by_its_number(world: World, errors: str) -> None:
    """Windows' pipes and older locales: the answer is spent by then. JSON stays JSON, and it can be read back."""
    said = "안녕 ✓ 😀"
    world.claude.default = anthropic.Answer(said)
    world.changes["PYTHONIOENCODING"] = f"cp949{errors}"

    asked = run_command(world, "ask", "claude", "hello")
    as_json = run_command(world, "ask", "claude", "hello", "--json")
    told = json.loads(as_json.stdout.decode("cp949"))
    again = run_command(world, "asks", "show", told["ask_id"])

    assert (asked.returncode, as_json.returncode, again.returncode) == (0, 0, 0), asked.stderr + as_json.stderr
    assert asked.stdout.decode("cp949").strip() == "안녕 \\u2713 \\ud83d\\ude00"
    assert told["text"] == said
    assert "\\u2713" in again.stdout.decode("cp949")


def test_a_pipe_gets_no_such_line(world: World) -> None:
    """What a script reads of stderr is the last line alone."""
    gate = threading.Event()
    world.gemini.default = google.Answer(HELLO, gate=gate)
    process = subprocess.Popen(
        [*world.command, "ask", "gemini", "hello"],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    world.gemini.wait_for_generations(1, timeout=DEADLINE_S)
    gate.set()
    out, said = process.communicate(timeout=DEADLINE_S)

    assert (process.returncode, out.decode()) == (0, f"{HELLO}\n")
    assert said.decode().startswith("gemini-2.5-pro (requested), ")


# Who reads it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["client", "list"]], ids=lambda words: words[0])
def test_a_reader_that_has_seen_enough_is_no_error(world: World, words: list[str]) -> None:
    """`| head`: in silence, and with the command's own exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run(
            [*world.command, *words],
            env=world.environment,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["2>/dev/full", "2>&-"])
def test_a_stderr_that_takes_nothing_takes_nothing_from_an_answer_or_a_token(world: World, closed: str) -> None:
    """What is said beside them is let go; a token that nobody saw would count as one of two."""
    for words in (["ask", "claude", "Hello?"], ["client", "add", "me"], ["client", "add", "me"]):
        ended = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *world.command, *words],
            env=world.environment,
            stdout=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (ended.returncode, len(ended.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["client", "list"], 74, "what was to be printed cannot be written (No space left on device)"),
        (["setup", "--yes"], 74, "what was to be printed cannot be written (No space left on device)"),
    ],
)
def test_what_cannot_be_written_is_told(world: World, words: list[str], code: int, said: str) -> None:
    """A full disk."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*world.command, *words],
            env=world.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )

    told = ended.stderr.decode()
    assert ended.returncode == code
    assert said in told
    assert "Traceback" not in told
    assert "exc_type" not in told


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_a_token_that_nobody_can_read_is_not_made(world: World, where: str) -> None:
    """It would end the oldest of two, which works."""
    for _ in range(2):
        assert run_command(world, "client", "add", "me").returncode == 0
    before = (world.state / "clients.json").read_bytes()
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {where}', "sh", *world.command, "client", "add", "me"],
        env=world.environment,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
    )

    assert ended.returncode == 74
    assert "The new token of me cannot be printed: nothing was changed.\n" in ended.stderr.decode()
    assert (world.state / "clients.json").read_bytes() == before


@pytest.mark.parametrize(
    ("where", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_an_answer_that_cannot_be_printed_is_kept(world: World, where: str, reason: str) -> None:
    """The ask is spent: whoever has a full disk gets the answer later."""
    asked = subprocess.run(
        ["sh", "-c", f'exec "$@" {where}', "sh", *world.command, "ask", "claude", "What is it?"],
        env=world.environment,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
    )
    told = asked.stderr.decode()
    kept = told.partition("The answer is kept: llm-mcp-hub asks show ")[2].split("\n")[0]

    assert asked.returncode == 74
    assert f"llm-mcp-hub: what was to be printed cannot be written ({reason})" in told
    assert HELLO_CLAUDE in run_command(world, "asks", "show", kept).stdout.decode()


@pytest.mark.parametrize("words", [["status"], ["asks"], ["doctor"], ["client", "list", "--json"]])
def test_a_closed_stdout_is_as_a_full_one(world: World, words: list[str]) -> None:
    """A shell's `>&-`: told, without a traceback and not in silence."""
    if words == ["asks"]:
        run_command(world, "ask", "claude", "What is it?")
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *world.command, *words],
        env=world.environment,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
    )

    assert ended.returncode in {74, 1}  # doctor's own code stays, where it has found something
    assert b"what was to be printed cannot be written (Bad file descriptor)" in ended.stderr
    assert b"exc_type" not in ended.stderr


# Files and changes --------------------------------------------------------------------------------------------------


def test_files_and_changes_are_put_before_the_question(world: World, tmp_path: Path) -> None:
    """By paths as they are typed; what the repository says has changed comes too."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(repository)]
    (repository / "tide.txt").write_text("low water\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True, timeout=DEADLINE_S)
    (repository / "tide.txt").write_text("high water\n")
    (tmp_path / "notes.md").write_text("It comes twice a day.\n")

    asked = run_command(world, "ask", "gemini", "What changed?", "--file", "../notes.md", "--git-diff", cwd=repository)

    assert asked.returncode == 0, asked.stderr.decode()
    *before, prompt = prompt_texts(world.gemini.generations[-1])
    assert prompt == "What changed?"
    text = "\n".join(before)
    assert "It comes twice a day." in text
    assert "-low water" in text
    assert "+high water" in text


def test_what_is_piped_in_is_put_before_the_question(world: World) -> None:
    """As a file of that name; the question stays the last word."""
    asked = run_command(world, "ask", "gemini", "What changed?", stdin="-low water\n+high water\n")

    assert asked.returncode == 0, asked.stderr.decode()
    *before, prompt = prompt_texts(world.gemini.generations[-1])
    assert prompt == "What changed?"
    assert "stdin" in "".join(before)
    assert "-low water\n+high water\n" in "".join(before)


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["--git-diff", "Is this safe?"], None),
        (["--git-diff=Is this safe?", "-"], None),
        (["--git-diff", "explain"], b""),
        (["--git-diff", "main"], b" \n"),
    ],
)
def test_a_question_that_an_option_has_swallowed_is_missed(
    words: list[str], typed: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No base has blanks in it, so stdin is not waited for; and the words are not told, for they may be the prompt."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)) if typed is not None else Unread())

    code = cli.main(["ask", "claude", *words])

    said = capsys.readouterr().err
    assert code == 64
    assert said.startswith("llm-mcp-hub: invalid_request: There is no question: --git-diff takes the word behind it")
    assert 'Put the question first: llm-mcp-hub ask claude "…" --git-diff; ' in said
    assert "--git-diff=BASE" in said
    assert "safe" not in said


class Unread:
    """A stdin that must not be read."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(name)


@pytest.mark.parametrize(
    ("words", "question", "base"),
    [
        (["Is it safe?", "--git-diff"], "Is it safe?", ""),
        (["Is it safe?", "--git-diff", "main"], "Is it safe?", "main"),
        (["--git-diff", "main", "Is it safe?"], "Is it safe?", "main"),
        (["--git-diff", "--", "Is it safe?"], "Is it safe?", ""),
        (["--git-diff=main"], "from stdin", "main"),
        (["--git-diff", "main", "-"], "from stdin", "main"),
        (["--git-diff"], "from stdin", ""),
        (["--model", "opus", "--", "-v, what is it?"], "-v, what is it?", None),
        (["--", "-v, what is it?"], "-v, what is it?", None),
        ([], "from stdin", None),
    ],
)
def test_a_question_is_found_wherever_it_stands(
    words: list[str], question: str, base: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the option and its base, behind them, or on stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from stdin")))

    given = cli.parse(["ask", "claude", *words])

    assert (stdin.question(given), given.git_diff) == (question, base)


def test_a_file_that_is_not_there_is_told_before_a_question_is_typed(world: World) -> None:
    """Else what somebody has typed is lost. The word that was meant for the question is the likeliest file."""
    ours, theirs = os.openpty()
    try:
        ended = subprocess.run(
            [*world.command, "ask", "claude", "--file", "hi"],
            env=world.environment,
            stdin=theirs,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert ended.returncode == 64
    assert b"--file names a file that is not there" in ended.stderr
    assert b"Type the question" not in ended.stderr


def test_without_a_stdin_there_is_no_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell's `<&-`: told, and no traceback."""
    monkeypatch.setattr(sys, "stdin", None)

    assert cli.main(["ask", "claude"]) == 64
    assert "invalid_request: There is no question: stdin is empty." in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--file", "--conversation", "--system"])
def test_a_question_that_an_option_has_taken_is_missed(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The word behind the option was meant for one."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))

    assert cli.main(["ask", "claude", option, "hi"]) == 64
    assert f"There is no question: {option} takes the word behind it." in capsys.readouterr().err


def test_what_a_shell_has_closed_is_given_to_no_file_and_spoils_no_answer(world: World) -> None:
    """`<&-` and `2>&-`: the database would have been number 0 or 2, and been written what a CLI complains of."""
    script = 'exec "$@" <&- 2>&-'
    asked = subprocess.run(
        ["sh", "-c", script, "sh", *world.command, "ask", "claude", "What is it?"],
        env=world.environment,
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (asked.returncode, asked.stdout.decode()) == (0, HELLO_CLAUDE + "\n")


@pytest.mark.parametrize("name", [".env", "gone.txt"])
def test_a_file_that_cannot_be_put_before_it_is_named_and_nothing_is_sent(
    world: World, tmp_path: Path, name: str
) -> None:
    """Also a shell reads no keys: whoever types the command may not be who wrote it."""
    (tmp_path / ".env").write_text("SECRET=made up\n")

    asked = run_command(world, "ask", "gemini", "What is it?", "--file", name, cwd=tmp_path)

    assert asked.returncode == 64
    assert name in asked.stderr.decode()
    assert b"made up" not in asked.stderr + asked.stdout
    assert world.gemini.generations == []


# What was asked before ----------------------------------------------------------------------------------------------


def test_who_starts_it_at_a_terminal_is_told_what_it_waits_for(world: World) -> None:
    """A newcomer types the name alone; a client is no terminal, and is told nothing. Ctrl-C ends it quietly."""
    program, *words = world.command
    child: pexpect.spawn[str] = pexpect.spawn(
        program, words, env=world.environment, encoding="utf-8", timeout=DEADLINE_S
    )
    try:
        child.expect_exact("llm-mcp-hub setup")
        child.sendintr()
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)

    assert "Traceback" not in str(child.before)
    world.wait_until_no_child()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_hub_splits_in_two_is_not_lost(world: World, number: signal.Signals) -> None:
    """On a busy machine that takes a while; whoever starts it holds its stdin open and waits for its end."""
    script = (
        "import os, sys\n"
        "from llm_mcp_hub.__main__ import main\n"
        f"os.register_at_fork(before=lambda: os.kill(os.getpid(), {number:d}))\n"
        "sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=world.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.wait(DEADLINE_S) in {0, 130, -number}
    finally:
        process.kill()
        _out, errors = process.communicate()

    assert b"ignored" not in errors
    world.wait_until_no_child()


def test_ctrl_c_while_the_commands_are_loaded_is_no_traceback() -> None:
    """It takes most of a second until they are, and people change their minds in it."""
    script = (
        "import os, signal, sys\n"
        "from llm_mcp_hub.__main__ import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'llm_mcp_hub.settings': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(main())"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE_S, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_answer_and_what_is_told_of_it_come_in_order_in_one_pipe(world: World) -> None:
    """`2>&1 | less`."""
    ended = subprocess.run(
        [*world.command, "ask", "claude", "Hello?"],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE_S,
        check=True,
    )

    assert HELLO_CLAUDE in [line.strip() for line in ended.stdout.decode().splitlines()]


def test_asks_are_listed_shown_cancelled_and_deleted(world: World) -> None:
    """Those of another hub too; what is deleted is not found, like one that never was."""
    world.claude.script(anthropic.Hang("So far"))
    with open_line(world, "stdio", "auto") as line:
        ask_id = answer_of(line.call("ask_claude", {"prompt": "a long one", "wait_s": 0}))["ask_id"]
        world.claude.wait_until(lambda: bool(world.claude.open), timeout=DEADLINE_S)
        listed = run_command(world, "asks").stdout.decode()
        as_json = json.loads(run_command(world, "asks", "--json").stdout)
        running = run_command(world, "asks", "delete", ask_id)
        cancelled = run_command(world, "asks", "cancel", ask_id)
    shown = run_command(world, "asks", "show", ask_id)
    deleted = run_command(world, "asks", "delete", ask_id)
    gone, never = (run_command(world, "asks", "show", each) for each in (ask_id, "ask_never"))

    assert ask_id in listed
    assert "a long one" in listed
    assert [(ask["ask_id"], ask["provider"], ask["title"]) for ask in as_json] == [(ask_id, "claude", "a long one")]
    assert running.returncode == 75
    assert f"llm-mcp-hub asks cancel {ask_id}" in running.stderr.decode()
    assert (cancelled.returncode, "cancelled" in cancelled.stdout.decode()) == (0, True)
    assert shown.returncode == 130
    assert "So far" in shown.stdout.decode()
    assert deleted.returncode == 0
    assert (gone.returncode, gone.stderr) == (never.returncode, never.stderr)
    assert gone.returncode == 64
    for command in ("asks", "conversations"):
        empty = run_command(world, command)
        assert empty.stdout == b""
        assert f"No {command} are kept." in empty.stderr.decode()


@pytest.mark.parametrize(("width", "number", "cut"), [(60, 2, True), (100, 2, False), (120, 1, True)])
def test_a_line_of_a_list_is_no_longer_than_a_terminal_is_wide(
    world: World, width: int, number: int, cut: bool
) -> None:
    """Hangul takes two columns a letter; where there is no room beside what is known the title stands below; what reads
    a pipe gets it whole."""
    title = "무엇이 답인가 " * 5
    run_command(world, "ask", "claude", title)
    program, *words = world.command
    child: pexpect.spawn[str] = pexpect.spawn(
        program,
        [*words, "conversations"],
        env=world.environment,
        encoding="utf-8",
        timeout=DEADLINE_S,
        dimensions=(24, width),
    )
    try:
        child.expect(pexpect.EOF)
        lines = str(child.before).strip("\r\n").splitlines()
    finally:
        child.close()

    assert child.exitstatus == 0
    assert (len(lines), lines[-1].endswith("…")) == (number, cut)
    assert "무엇이 답인가 무엇이" in lines[-1]
    columns = sum(2 if "가" <= character <= "힣" else 1 for character in lines[-1])
    assert (width - 2 if cut else 0) <= columns <= width
    assert title.strip() in run_command(world, "conversations").stdout.decode()


def test_conversations_can_be_had_as_json(world: World) -> None:
    """The list without what was said, one of them with all of it; gone on with by its id."""
    first = json.loads(run_command(world, "ask", "gemini", "one", "--json").stdout)
    conversation = first["conversation_id"]
    second = run_command(world, "ask", "claude", "two", "--conversation", conversation)
    listed = json.loads(run_command(world, "conversations", "--json").stdout)
    shown = json.loads(run_command(world, "conversations", "show", conversation, "--json").stdout)
    late = run_command(world, "asks", "cancel", first["ask_id"])

    assert second.returncode == 0
    assert (late.returncode, late.stderr) == (0, b"It had ended already.\n")
    assert [(head["conversation_id"], head["turns"], head["title"]) for head in listed] == [(conversation, 2, "one")]
    assert "exchanges" not in listed[0]
    said = [(turn["provider"], turn["prompt"], turn["answer"]) for turn in shown["exchanges"]]
    assert said == [("gemini", "one", HELLO), ("claude", "two", HELLO_CLAUDE)]


@pytest.mark.parametrize("words", [["asks", "show"], ["asks", "list", "ask_1"], ["conversations", "delete"]])
def test_a_command_that_lacks_its_id_is_a_usage_error(world: World, words: list[str]) -> None:
    """Or has one too many; the next step is its help."""
    refused = run_command(world, *words)

    assert refused.returncode == 64
    assert f"llm-mcp-hub {words[0]} --help" in refused.stderr.decode()


def test_a_question_needs_no_folder_to_be_asked_in(world: World) -> None:
    """A terminal sits in a work tree that was removed. A file of it is asked for in vain, and nothing is sent."""
    gone = world.home / "gone"
    world.prefix = ["/bin/sh", "-c", f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"', "sh"]

    answered = run_command(world, "ask", "claude", "hello")
    refused = run_command(world, "ask", "claude", "hello", "--file", "notes.txt")

    assert (answered.returncode, answered.stdout.decode().strip()) == (0, HELLO_CLAUDE)
    assert refused.returncode == 64, refused
    assert b"The folder you are in is no more" in refused.stderr
    assert len(world.claude.received) == 1
