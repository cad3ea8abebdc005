"""The shell's side: `llm-mcp-hub ask`, its output and exit codes, and where its settings may come from."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import pytest

from llm_mcp_hub import cli
from llm_mcp_hub.conversation import Answer
from tests.harness import DEADLINE_S, TOKEN, World, run_command
from tests.protocol.conftest import CANARY
from tests.upstreams import anthropic as claude
from tests.upstreams import google
from tests.upstreams.anthropic import system_texts
from tests.upstreams.google import prompt_texts

PROMPT = f"Who feeds the {CANARY}?\nWho?"

# One answer ---------------------------------------------------------------------------------------------------------


def test_an_answer_of_claude_is_printed_and_nothing_else(world: World) -> None:
    """Stdout is the answer, fit for a pipe; what is to be known of it stands on stderr."""
    world.claude.script(claude.Answer("Eins,\nzwei: 漢字 🎺", chunks=4))

    asked = run_command(world, "ask", "claude", PROMPT)

    assert asked.returncode == 0
    assert asked.stdout.decode() == "Eins,\nzwei: 漢字 🎺\n"
    assert asked.stderr.decode().startswith("claude-sonnet-5-5 (served), ")
    assert "paid by subscription" in asked.stderr.decode()
    assert world.claude.prompts == [PROMPT]
    assert CANARY.encode() not in asked.stderr
    world.wait_until_no_child()


@pytest.mark.parametrize("dash", [["-"], []], ids=["dash", "no prompt"])
def test_a_prompt_is_read_from_stdin(world: World, dash: list[str]) -> None:
    """For prompts that no command line can hold, or that should not stand on one."""
    world.gemini.script(google.Answer("One.\n"))

    asked = run_command(world, "ask", "gemini", *dash, stdin=PROMPT)

    assert asked.returncode == 0
    assert asked.stdout == b"One.\n"
    assert b"gemini-2.5-pro (requested)" in asked.stderr
    assert prompt_texts(world.gemini.generations[-1])[-1] == PROMPT
    world.wait_until_no_child()


@pytest.mark.parametrize(("name", "model"), [("claude", "opus"), ("gemini", "gemini-3-pro-preview")])
def test_an_answer_can_be_had_as_json(world: World, name: str, model: str) -> None:
    """The same object as over MCP; model and system text are honoured."""
    system = "Sing.\nAlways."

    asked = run_command(world, "ask", name, PROMPT, "--json", "--model", model, "--system", system, "--timeout", "60")

    assert asked.returncode == 0
    assert asked.stderr == b""
    answer = Answer.model_validate_json(asked.stdout)
    assert (answer.provider, answer.status, answer.stop_reason) == (name, "completed", "end_turn")
    assert model in answer.model
    if name == "claude":
        [received] = world.claude.received
        assert system in "\n".join(system_texts(received))
    else:
        [received] = world.gemini.generations
        assert any(system in text for text in prompt_texts(received))
    assert answer.model == received.json["model"]


# A stream -----------------------------------------------------------------------------------------------------------


@contextmanager
def started(world: World, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """A command that runs; one that hangs is ended at the deadline, and so is what waits for its output."""
    process = subprocess.Popen(
        [*world.command, *arguments],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["claude", "gemini"])
def test_the_answer_is_printed_as_it_comes_and_ctrl_c_ends_it(world: World, name: str) -> None:
    """The first words are there while the provider still speaks; Ctrl-C ends the request and leaves nothing."""
    world.claude.script(claude.Hang("First words "))
    world.gemini.script(google.Hang("First words "))
    upstream = world.upstream(name)
    with started(world, "ask", name, PROMPT) as process:
        assert process.stdout is not None
        first = process.stdout.read(len("First words "))
        still_speaking = len(upstream.open)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate()

    assert (first, still_speaking) == (b"First words ", 1)
    assert process.returncode == 130
    assert rest.strip() == b""
    assert said.decode().strip() == "llm-mcp-hub: cancelled"
    upstream.wait_until_quiet()
    world.wait_until_no_child()


def test_an_answer_that_comes_without_a_stream_after_half_of_one_is_printed(world: World) -> None:
    """After a malformed stream Claude's CLI asks again and streams nothing: the half alone would stand there."""
    world.claude.script(claude.Malformed("Half of "), claude.Answer("A whole answer."))
    done = run_command(world, "ask", "claude", "hello")

    assert (done.returncode, done.stderr.decode().count("began anew")) == (0, 1)
    assert done.stdout.decode() == "Half of A whole answer.\n"


def test_a_stream_that_begins_anew_says_so_where_it_does_not_disturb(world: World) -> None:
    """What was printed cannot be taken back; the whole answer follows, and stderr tells why there is more."""
    gate = threading.Event()
    world.claude.script(claude.Cut("Half of ", gate=gate), claude.Answer("A whole answer."))
    with started(world, "ask", "claude", PROMPT) as process:
        assert process.stdout is not None
        first = process.stdout.read(len("Half of "))
        gate.set()
        rest, said = process.communicate()

    assert process.returncode == 0
    assert first + rest == b"Half of A whole answer.\n"
    assert b"[the answer began anew]" in said


def test_a_reader_that_has_seen_enough_ends_the_ask_in_peace(world: World) -> None:
    """`| head -c 9`: no traceback, no complaint, and no further text is paid for."""
    gate = threading.Event()
    world.claude.script(claude.Cut("Half of ", gate=gate), claude.Hang("A whole answer."))
    with started(world, "ask", "claude", PROMPT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(len("Half of ")) == b"Half of "
        process.stdout.close()
        gate.set()
        said = process.stderr.read()
        process.wait()
        process.stdout = None

    assert process.returncode == 0, said
    assert b"Traceback" not in said
    assert b"Error" not in said
    world.claude.wait_until_quiet()
    assert world.claude.received[-1].ended == "disconnected"
    world.wait_until_no_child()


# Failures -----------------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[list[str], bytes, int, str]] = {
    # words, stdin -> exit code, code of the error
    "quota": (["ask", "gemini", PROMPT], b"", 75, "quota_exhausted"),
    "upstream": (["ask", "claude", PROMPT], b"", 69, "upstream_error"),
    "blank": (["ask", "claude", " \n"], b"", 64, "invalid_request"),
    "nothing on stdin": (["ask", "gemini"], b"", 64, "invalid_request"),
    "no UTF-8 on stdin": (["ask", "claude", "-"], CANARY.encode() + b"\xff\xfe", 64, "invalid_request"),
    "another provider's model": (["ask", "gemini", PROMPT, "--model", "sonnet"], b"", 64, "invalid_request"),
    "too long to wait": (["ask", "claude", PROMPT, "--timeout", "3601"], b"", 64, "invalid_request"),
}


@pytest.mark.parametrize("row", FAILURES)
def test_a_failure_has_an_exit_code_a_sentence_and_a_next_step(world: World, row: str) -> None:
    """For people on stderr, two lines; for programs the code of sysexits; the prompt is not repeated."""
    words, stdin, exit_code, code = FAILURES[row]
    world.claude.default = claude.Error.overloaded()
    world.gemini.default = google.Error.daily_quota()

    asked = run_command(world, *words, stdin=stdin)

    assert asked.returncode == exit_code
    said = asked.stderr.decode().splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"llm-mcp-hub: {code}: ")
    assert said[1].startswith("  ")
    assert asked.stdout == b""
    assert CANARY.encode() not in asked.stderr
    world.wait_until_no_child()


def test_a_failure_can_be_had_as_json(world: World) -> None:
    """The coded error as over MCP, on stdout where the answer would have stood."""
    world.gemini.script(google.NoFinish("So far"))

    asked = run_command(world, "ask", "gemini", PROMPT, "--json")

    assert asked.returncode == 69
    error = json.loads(asked.stdout)["error"]
    assert (error["code"], error["partial_text"], error["provider"]) == ("upstream_error", "So far", "gemini")
    assert error["action"]
    assert CANARY.encode() not in asked.stdout + asked.stderr


def test_a_failure_as_json_speaks_the_shells_words(world: World) -> None:
    """A script prints its sentences to a person; the same ones stand on stderr, also where nothing was asked yet."""
    unknown = run_command(world, "ask", "gemini", PROMPT, "--json", "--conversation", "conv-0000000000000000000000")
    unread = run_command(world, "ask", "gemini", "--json", stdin=b"")

    for asked, word in ((unknown, "--conversation"), (unread, "llm-mcp-hub ask gemini")):
        error = json.loads(asked.stdout)["error"]
        said = asked.stderr.decode()
        assert asked.returncode == 64
        assert word in error["message"] + error["action"]
        assert "conversation_id" not in asked.stdout.decode() + said
        assert error["message"] in said
        assert error["action"] in said


@pytest.mark.parametrize(
    "words",
    [["ask", "gpt", "hi"], ["ask"], ["asks", "burn"], ["ask", "claude", "a", "b"], ["--nonsense"], ["status", "x"]],
)
def test_words_that_are_no_command_are_a_usage_error(world: World, words: list[str]) -> None:
    """Exit 64 with the usage; nothing is started, no file is written."""
    asked = run_command(world, *words)

    assert asked.returncode == 64
    assert asked.stderr.startswith(b"usage: llm-mcp-hub")
    assert asked.stdout == b""
    assert not world.state.exists()


def test_the_version_is_the_packages(world: World) -> None:
    """What a bug report begins with; it needs no settings."""
    world.changes["LOG_LEVEL"] = "nonsense"

    asked = run_command(world, "--version")

    assert asked.returncode == 0
    assert asked.stdout.decode() == version("llm-mcp-hub") + "\n"


# Where settings come from -------------------------------------------------------------------------------------------

DATES = {"environment": "2026-01-01", "file": "2026-02-02", "configuration": "2026-03-03", "folder": "2026-04-04"}
"""Each place says another day for CLAUDE_TOKEN_ISSUED_AT; the status tells whose word was taken."""


def _settings(path: Path, place: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"CLAUDE_TOKEN_ISSUED_AT={DATES[place]}\nHUB_PORT=9\n")
    path.chmod(mode)
    return path


def _taken(world: World, *words: str, cwd: Path | None = None) -> str | None:
    """The place whose date the hub believes; None when it knows none."""
    shown = run_command(world, *words, "status", "--json", cwd=cwd)
    assert shown.returncode == 0, shown.stderr
    claude = json.loads(shown.stdout)["claude"]
    if claude["expires_source"] != "operator":
        return None
    return {f"2027{day[4:]}": place for place, day in DATES.items()}[claude["expires_at"][:10]]


def test_settings_come_from_the_environment_then_a_named_file_then_the_users_own(world: World, tmp_path: Path) -> None:
    """Each place counts where the one before it says nothing; a named file takes the place of the user's own."""
    _settings(world.home / ".config" / "llm-mcp-hub" / ".env", "configuration")
    named = _settings(tmp_path / "named.env", "file")

    assert _taken(world) == "configuration"
    assert _taken(world, "--env-file", str(named)) == "file"
    world.changes["CLAUDE_TOKEN_ISSUED_AT"] = DATES["environment"]
    assert _taken(world, "--env-file", str(named)) == "environment"


def test_the_users_configuration_folder_is_where_xdg_says(world: World, tmp_path: Path) -> None:
    """`XDG_CONFIG_HOME` moves it, as for every other program."""
    world.changes["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    _settings(tmp_path / "xdg" / "llm-mcp-hub" / ".env", "configuration")

    assert _taken(world) == "configuration"


@pytest.mark.parametrize("words", [["status"], ["install", "cursor"], ["setup"], ["doctor"], ["serve"]], ids=" ".join)
def test_a_user_without_a_home_is_told(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container that runs as a number of no user, without HOME."""

    def nobody(_uid: int) -> NoReturn:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)

    assert cli.main(words) == 78
    assert capsys.readouterr().err.startswith("llm-mcp-hub: misconfigured: This user has no home folder.\n  Set HOME ")


def test_a_home_that_hangs_on_the_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the paths would begin here and half in the home that the system knows."""
    monkeypatch.setenv("HOME", "../elsewhere")

    assert cli.main(["status"]) == 78
    assert capsys.readouterr().err.startswith(
        "llm-mcp-hub: misconfigured: HOME is not an absolute path.\n  Set HOME to this user's home folder"
    )


def test_a_file_of_the_working_folder_is_never_read(world: World, tmp_path: Path) -> None:
    """A cloned repository must not steer a hub that an editor starts inside it."""
    project = tmp_path / "project"
    _settings(project / ".env", "folder")
    _settings(project / "llm-mcp-hub" / ".env", "folder")

    assert _taken(world, cwd=project) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_settings_that_others_can_write_are_refused(world: World, mode: int) -> None:
    """Whoever can write them could send the next ask somewhere else: exit 78, and the command that mends it."""
    file = _settings(world.home / ".config" / "llm-mcp-hub" / ".env", "configuration", mode)

    shown = run_command(world, "status")

    assert shown.returncode == 78
    assert f"chmod 600 {file}" in shown.stderr.decode()
    assert DATES["configuration"].encode() not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"CLAUDE_TOKEN_ISSUED_AT": f"{CANARY}"}, "CLAUDE_TOKEN_ISSUED_AT"),
        ({"HUB_ASK_TIMEOUT_S": f"{CANARY}"}, "HUB_ASK_TIMEOUT_S"),
        ({"HUB_CLAUDE_UPSTREAM": f"https://{CANARY}.example"}, "HUB_CLAUDE_UPSTREAM"),
        ({"CLAUDE_MODEL": f"gpt-{CANARY}"}, "CLAUDE_MODEL"),
        ({"CLAUDE_CODE_OAUTH_TOKEN": "", "CLAUDE_CODE_OAUTH_TOKEN_FILE": f"/{CANARY}"}, "CLAUDE_CODE_OAUTH_TOKEN_FILE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_cannot_be_used_is_named_and_not_shown(
    world: World, changes: dict[str, str], named: str
) -> None:
    """A value may be a secret in the wrong place: the name is told, and what to do."""
    world.changes.update(changes)

    shown = run_command(world, "status")

    said = shown.stderr.decode()
    assert shown.returncode == 78
    assert named in said
    assert CANARY not in said
    assert TOKEN not in said
    assert len(said.splitlines()) == 2


def test_a_named_file_that_cannot_be_read_is_told(world: World) -> None:
    """Named on purpose, so it must be there."""
    shown = run_command(world, "--env-file", os.devnull + "/nothing", "status")

    assert shown.returncode == 78
    assert b"--env-file" in shown.stderr
