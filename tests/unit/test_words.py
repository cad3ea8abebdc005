"""What is told to somebody who has typed other words than there are."""

from __future__ import annotations

import pytest

from llm_mcp_hub import main
from llm_mcp_hub.commands.mcp_clients import CLIENTS
from llm_mcp_hub.commands.words import INSTALLS, PROVIDERS, STEPS, parse

QUESTION = "Who feeds the otter?"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """The usage that is shown, and the complaint below it."""
    with pytest.raises(SystemExit) as ended:
        parse(words)
    usage, _, complaint = capsys.readouterr().err.partition("error: ")
    assert ended.value.code == 64
    return usage, complaint.strip()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["ask", "gemini", *QUESTION.split()], "put it in quotes"),
        (["ask", "claude", "-f", "README.md", "hi"], "did you mean --file?"),
        (["ask", "--claude", "hi"], "the provider is a word: llm-mcp-hub ask claude"),
        (["ask", "claude", QUESTION, "--dash"], "before a question that begins with a dash put --"),
        (["status", "--env-file", "f.env"], "--env-file stands before the command: llm-mcp-hub --env-file … status"),
        (["status", "--env-file=f.env"], "--env-file stands before the command"),
        (["status", "--veriy"], "did you mean --verify?"),
        (["status", "now"], "it takes no further word"),
        (["setup", "help"], "its options: llm-mcp-hub setup --help"),
        (["setup", "--skip", "clients,ask"], "it takes one at a time: --skip clients --skip ask"),
        (["serve", "--port", "http"], "argument --port: it takes a whole number"),
        (["ask", "claude", QUESTION, "--timeout", "1m"], "argument --timeout: it takes a number"),
        (["serve", "8377"], "a port is given as --port 8377"),
        (["health", "--port", "8377"], "there is no --port; health looks at HUB_HOST and HUB_PORT"),
        (["install"], "llm-mcp-hub install --help"),
        (["install", "--list"], "there is no --list; its options: llm-mcp-hub install --help"),
        (
            ["install", "cursor", "vscode"],
            "one client at a time, and nothing was done; the other one by: llm-mcp-hub install vscode",
        ),
        (["asks", "--limit", "3"], "there is no --limit"),
        (["asks", "--jsno", "show"], "there is no --jsno; did you mean --json?"),
        (["asks", "--env-file", "f"], "--env-file stands before the command"),
        (["asks", "burn"], "there are: list, show"),
        (["asks", "-n", "3"], "there is no -n; its options: llm-mcp-hub asks --help"),
        (["status", "--version"], "--version stands alone: llm-mcp-hub --version"),
        (["status", "--verify=yes"], "argument --verify: it takes no value"),
        (["install", "cursor", "8000"], "it takes no further word"),
        (["setup", "--skip", "login"], "there are: gemini-cli, project"),
        (["ask", "gemni", "hi"], "did you mean gemini?"),
        (["ask", "gemni", f"-{QUESTION}"], "did you mean gemini?"),
    ],
    ids=" ".join,
)
def test_words_that_are_left_over_are_told_with_the_usage_of_their_command(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One next step; what may be the question is not repeated, and the dash is spoken of for a question alone."""
    usage, complaint = told(capsys, *words)

    assert usage.startswith(f"usage: llm-mcp-hub {words[0]} ")
    assert part in complaint
    assert "otter" not in complaint
    assert "begins with a dash" not in complaint or words[0] == "ask"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["statsu"], "did you mean status?"),
        (["conversation"], "did you mean conversations?"),
        (["-v"], "did you mean --version?"),
        (["--timeout", "5", "ask", "claude", "hi"], "--timeout stands behind the command: llm-mcp-hub ask --timeout …"),
        (
            ["--write-env", "f", "login", "claude"],
            "--write-env stands behind the command: llm-mcp-hub login --write-env …",
        ),
        (["--port", "1"], "--port stands behind the command: llm-mcp-hub serve --port …"),
        (["--json"], "--json stands behind the command: llm-mcp-hub COMMAND --json"),
        (["--nonsense"], "there is no --nonsense"),
        (["--hepl"], "did you mean --help?"),
        (["burn"], "there are: stdio, serve, "),
    ],
    ids=" ".join,
)
def test_a_command_that_is_none_is_told_with_the_nearest(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or with all there are."""
    usage, complaint = told(capsys, *words)

    assert usage.startswith("usage: llm-mcp-hub [")
    assert part in complaint


def test_the_clients_and_providers_that_are_named_are_those_there_are() -> None:
    """The words load nothing of the commands, and no composition root."""
    assert tuple(CLIENTS) == INSTALLS
    assert main.PROVIDERS == PROVIDERS


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--json", "status"], "--json stands behind the command: llm-mcp-hub status --json"),
        (["--yes", "setup"], "--yes stands behind the command: llm-mcp-hub setup --yes"),
        (["--skip", "ask", "setup"], "--skip stands behind the command: llm-mcp-hub setup --skip …"),
        (["--print", "install", "cursor"], "--print stands behind the command: llm-mcp-hub install --print …"),
    ],
    ids=" ".join,
)
def test_an_option_before_its_command_is_not_called_one_that_there_is_not(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is there; it only stands elsewhere. Dots stand for what has to follow, where anything has."""
    assert told(capsys, *words)[1] == part


@pytest.mark.parametrize(("words", "part"), [(["help"], "COMMAND"), (["help", "setup"], ", ".join(STEPS))])
def test_help_is_a_command_too(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As other programs have it; a command's help names what it can be given."""
    with pytest.raises(SystemExit) as ended:
        parse(words)

    assert ended.value.code == 0
    assert part in " ".join(capsys.readouterr().out.split()).replace("login- ", "login-")


def test_version_is_a_command_too() -> None:
    """As `help` is, and as other programs have it."""
    assert parse(["version"]) == parse(["--version"])


def test_a_client_is_known_in_any_case() -> None:
    """`install Claude-Code`, as it writes itself."""
    assert parse(["install", "Claude-Code"]).name == "claude-code"


@pytest.mark.parametrize(
    ("words", "name", "word"),
    [
        (["client", "add", "--scope", "status", "anna"], "name", "anna"),
        (["client", "revoke", "--token", "1", "anna"], "name", "anna"),
        (["asks", "show", "--json", "ask_1"], "id", "ask_1"),
        (["conversations", "delete", "--", "conv_1"], "id", "conv_1"),
    ],
    ids=" ".join,
)
def test_a_last_word_may_stand_behind_the_options(words: list[str], name: str, word: str) -> None:
    """As `--help` prints them."""
    assert getattr(parse(words), name) == word
