"""The real Gemini CLI with the hub as its MCP server, over stdio and HTTP: what its *model* is told.

Its model is a stand-in of its own, which calls the hub's tools one after the other; the hub asks its own stand-ins.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.commands.mcp_clients import SERVER
from tests.clients.conftest import CLAUDE_SAYS, GEMINI_SAYS, LONG, LONG_PROMPT, TOOLS, Served, installed
from tests.clients.programs import around, run
from tests.harness import GEMINI
from tests.upstreams.anthropic import Answer as ClaudeAnswer
from tests.upstreams.anthropic import last_user_texts
from tests.upstreams.google import Answer, FunctionCall, GoogleUpstream, function_responses, write_login
from tests.upstreams.loopback import Received

PREFIX = f"mcp_{SERVER}_"
SETTINGS = {
    "security": {"auth": {"selectedType": "oauth-personal"}},
    "general": {"enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
}


@dataclass
class GeminiCli:
    """The CLI in a home of its own, which knows one way to the hub; and its model."""

    environment: dict[str, str]
    folder: Path
    """Where it is started. It connects to no MCP server, also to none of its user's, in a folder it does not trust."""
    model: GoogleUpstream

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end. Raises AssertionError when that is not well."""
        ended = run([str(GEMINI), *words], self.environment, cwd=self.folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended


@pytest.fixture(scope="module", params=["stdio", "http"])
def gemini_cli(
    request: pytest.FixtureRequest, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Generator[GeminiCli]:
    """`llm-mcp-hub install gemini-cli`, for each transport; its user has logged in with Google, and trusts the folder.

    The user's settings hold a comment, as that CLI allows it.
    """
    folder = tmp_path_factory.mktemp("gemini-cli")
    home = folder / "home"
    work = home / "work"
    with GoogleUpstream(folder / "google") as model:
        made = GeminiCli(around(home, model.environment), work, model)
        work.mkdir()
        write_login(home / ".gemini")
        (home / ".gemini" / "settings.json").write_text("// mine\n" + json.dumps(SETTINGS, indent=2))
        (home / ".gemini" / "trustedFolders.json").write_text(json.dumps({str(work): "TRUST_FOLDER"}))
        installed("gemini-cli", request.param, served, home, trust=True)  # else a person would be asked at each call
        yield made
        assert (home / ".gemini" / "settings.json").read_text().startswith("// mine\n")
        assert model.surprises == []


@dataclass
class Told:
    """What its model got for its calls, in their order."""

    offered: list[str]
    """The hub's tools that it could call."""
    gemini: dict[str, Any]
    claude: dict[str, Any]
    error: dict[str, Any]
    long: dict[str, Any]
    ticket: dict[str, Any]
    fetched: dict[str, Any]
    said: str
    """What the CLI printed at the end."""


@pytest.fixture(scope="module")
def told(gemini_cli: GeminiCli, served: Served) -> Told:
    """One run of `gemini -p`, in which its model makes all these calls."""
    model = gemini_cli.model
    served.world.claude.default = _claude
    served.world.gemini.default = Answer(GEMINI_SAYS)

    def fetch(received: Received) -> FunctionCall:
        ticket = output(function_responses(received)[-1])
        wanted = re.search(r'call ask_result\(ask_id="(ask_[\w-]+)"\)', ticket)
        assert wanted is not None, ticket
        return FunctionCall(PREFIX + "ask_result", {"ask_id": wanted[1], "wait_s": 60})

    model.clear()
    model.script(
        FunctionCall(PREFIX + "ask_gemini", {"prompt": "Who are you?"}),
        FunctionCall(PREFIX + "ask_claude", {"prompt": "Who are you?"}),
        FunctionCall(PREFIX + "ask_claude", {"prompt": "Who are you?", "model": "gpt-4"}),
        FunctionCall(PREFIX + "ask_claude", {"prompt": LONG_PROMPT}),
        FunctionCall(PREFIX + "ask_claude", {"prompt": "Who are you?", "wait_s": 0}),
        fetch,
        Answer("That was all."),
    )
    said = gemini_cli.run("-m", "gemini-2.5-pro", "-p", "Ask the others.").stdout
    assert model.unused == 0
    last = model.generations[-1]
    declared = [tool["name"] for each in last.json["request"]["tools"] for tool in each["functionDeclarations"]]
    offered = [name.removeprefix(PREFIX) for name in declared if name.startswith(PREFIX)]
    assert served.world.surprises == []
    gemini, claude, error, _masked, ticket, fetched = function_responses(last)
    long = function_responses(model.generations[4])[-1]  # as it came; later the CLI masks what is old and long
    return Told(offered, gemini, claude, error, long, ticket, fetched, said)


def _claude(received: Received) -> ClaudeAnswer:
    return ClaudeAnswer(LONG if LONG_PROMPT in "".join(last_user_texts(received)) else CLAUDE_SAYS)


def output(response: dict[str, Any]) -> str:
    """The text that stands for a tool's result."""
    told = response["response"]
    return str(told.get("output", told.get("error")))


def test_it_lists_it_as_connected(gemini_cli: GeminiCli) -> None:
    """`gemini mcp list`, after `llm-mcp-hub install gemini-cli`. It ends well either way, so its words count."""
    listed = gemini_cli.run("mcp", "list")
    lines = (listed.stdout + listed.stderr).splitlines()

    assert [line for line in lines if line.startswith(f"✓ {SERVER}: ") and line.endswith(" - Connected")], lines


def test_its_model_has_the_tools(told: Told) -> None:
    """Under names that the CLI did not have to shorten."""
    assert sorted(told.offered) == sorted(TOOLS)


def test_its_model_reads_the_answer_first_and_whole(told: Told) -> None:
    """As text, and after it one line about it, each marked by the CLI as somebody else's words."""
    for response, answer, about in ((told.gemini, GEMINI_SAYS, "gemini · "), (told.claude, CLAUDE_SAYS, "claude · ")):
        first, second = re.findall(r"<untrusted_context>\n(.*?)\n</untrusted_context>", output(response), re.DOTALL)
        assert first == answer
        assert second.startswith(about)
        assert "ask_id: ask_" in second
    assert told.said.strip() == "That was all."


def test_its_model_reads_what_to_do_about_an_error(told: Told) -> None:
    """The code, what happened and the next step."""
    assert "invalid_request: model is no model name of Claude. Give sonnet, " in output(told.error)


def test_its_model_reads_a_very_long_answer_whole(told: Told) -> None:
    """The CLI cuts a result that is one text at 40,000 characters; ours are two, and it leaves them as they are."""
    assert LONG in output(told.long)


def test_its_model_fetches_what_came_as_a_ticket(told: Told) -> None:
    """The ticket's words are enough to come back with."""
    assert "Still working: call ask_result(" in output(told.ticket)
    assert CLAUDE_SAYS in output(told.fetched)
