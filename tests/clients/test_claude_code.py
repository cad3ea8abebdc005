"""The real Claude Code with the hub as its MCP server, over stdio and HTTP: what its *model* is told.

Its model is a stand-in of its own, which searches for the hub's tools and calls them one after the other; the hub asks
its own stand-ins. Nobody has an account.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from llm_mcp_hub.commands.mcp_clients import SERVER
from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.clients.conftest import CLAUDE_SAYS, GEMINI_SAYS, LONG, LONG_PROMPT, TOOLS, Served, installed
from tests.clients.programs import around, run
from tests.harness import TOKEN
from tests.upstreams import google
from tests.upstreams.anthropic import Answer, AnthropicUpstream, ToolCall, all_blocks
from tests.upstreams.loopback import Received

PREFIX = f"mcp__{SERVER}__"


@dataclass
class ClaudeCode:
    """Claude Code in a home of its own, which knows one way to the hub; and its model."""

    environment: dict[str, str]
    model: AnthropicUpstream

    def run(self, *words: str) -> str:
        """What it prints. Raises AssertionError when it does not end well."""
        ended = run([str(bundled_cli()), *words], self.environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture(scope="module", params=["stdio", "http"])
def claude_code(
    request: pytest.FixtureRequest, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Generator[ClaudeCode]:
    """As the README has it: `llm-mcp-hub install claude-code`, for each transport."""
    with AnthropicUpstream() as model:
        changes = {
            "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
            "ANTHROPIC_BASE_URL": model.url,
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        home = tmp_path_factory.mktemp("claude-code") / "home"
        made = ClaudeCode(around(home, changes), model)
        installed("claude-code", request.param, served, home)
        yield made
        assert model.surprises == []


@dataclass
class Told:
    """The tool results that its model got, in the order of its calls."""

    looked: dict[str, Any]
    """By words, as a model would that has not been told of the hub."""
    searched: dict[str, Any]
    """By the tools' names."""
    defined: dict[str, str]
    """The hub's tools that its model could call after that, with their descriptions."""
    gemini: dict[str, Any]
    claude: dict[str, Any]
    error: dict[str, Any]
    long: dict[str, Any]
    ticket: dict[str, Any]
    fetched: dict[str, Any]
    said: str
    """What Claude Code printed at the end."""


@pytest.fixture(scope="module")
def told(claude_code: ClaudeCode, served: Served) -> Told:
    """One run of `claude -p`, in which its model makes all these calls."""
    model = claude_code.model
    served.world.claude.default = Answer(CLAUDE_SAYS)
    served.world.gemini.default = _gemini
    model.clear()
    model.script(
        ToolCall("ToolSearch", {"query": "second opinion gemini", "max_results": 3}),
        ToolCall("ToolSearch", {"query": "select:" + ",".join(PREFIX + tool for tool in TOOLS)}),
        ToolCall(PREFIX + "ask_gemini", {"prompt": "Who are you?"}),
        ToolCall(PREFIX + "ask_claude", {"prompt": "Who are you?"}),
        ToolCall(PREFIX + "ask_claude", {"prompt": "Who are you?", "model": "gpt-4"}),
        ToolCall(PREFIX + "ask_gemini", {"prompt": LONG_PROMPT}),
        ToolCall(PREFIX + "ask_claude", {"prompt": "Who are you?", "wait_s": 0}),
        _fetch,
        Answer("That was all."),
    )
    said = claude_code.run("-p", "Ask the others.", "--allowedTools", ",".join(PREFIX + tool for tool in TOOLS))
    assert model.unused == 0
    results = [block for _role, blocks in all_blocks(model.received[-1]) for block in blocks if _is_result(block)]
    tools: list[dict[str, Any]] = model.received[2].json["tools"]
    defined = {tool["name"].removeprefix(PREFIX): tool["description"] for tool in tools if PREFIX in tool["name"]}
    looked, searched, gemini, claude, error, long, ticket, fetched = results
    assert served.world.surprises == []
    return Told(looked, searched, defined, gemini, claude, error, long, ticket, fetched, said)


def _gemini(received: Received) -> google.Reply:
    return google.Answer(LONG if LONG_PROMPT in "".join(google.prompt_texts(received)) else GEMINI_SAYS)


def _fetch(received: Received) -> ToolCall:
    """The model does as the ticket says."""
    ticket = [block for block in all_blocks(received)[-1][1] if _is_result(block)][-1]
    wanted = re.search(r'call ask_result\(ask_id="(ask_[\w-]+)"\)', texts(ticket)[0])
    assert wanted is not None, ticket
    return ToolCall(PREFIX + "ask_result", {"ask_id": wanted[1], "wait_s": 60})


def _is_result(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_result"


def texts(result: dict[str, Any]) -> list[str]:
    """The text of each block of a tool result."""
    content: str | list[dict[str, Any]] = result["content"]
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]


def test_it_lists_it_as_connected(claude_code: ClaudeCode) -> None:
    """`claude mcp list`, after `llm-mcp-hub install claude-code`."""
    lines = claude_code.run("mcp", "list").splitlines()

    assert [line for line in lines if line.startswith(f"{SERVER}: ") and line.endswith("✔ Connected")], lines


def test_its_model_finds_the_tools(told: Told) -> None:
    """Claude Code shows its model a tool when that has searched for it: by what it wants to do, or by name."""
    looked, found = (
        [block["tool_name"].rpartition("__")[2] for block in search["content"]]
        for search in (told.looked, told.searched)
    )

    assert looked[0] == "ask_gemini", told.looked
    assert found == TOOLS, told.searched
    assert set(told.defined) == set(TOOLS)
    assert "no API key is ever used" in told.defined["ask_gemini"]


def test_its_model_reads_the_answer_first_and_whole(told: Told) -> None:
    """As text, and after it one line about it: nothing in JSON, nothing cut."""
    for result, answer, about in ((told.gemini, GEMINI_SAYS, "gemini · "), (told.claude, CLAUDE_SAYS, "claude · ")):
        first, second = texts(result)
        assert first == answer
        assert second.startswith(about)
        assert "ask_id: ask_" in second
        assert not result.get("is_error")
    assert told.said.strip() == "That was all."


def test_its_model_reads_what_to_do_about_an_error(told: Told) -> None:
    """The code, what happened and the next step; marked as an error."""
    assert told.error["is_error"] is True
    assert texts(told.error)[0].startswith("invalid_request: model is no model name of Claude. Give sonnet, ")


def test_its_model_reads_a_very_long_answer_whole(told: Told) -> None:
    """By the tool's own word on how long its results may be; of 50,000 characters it would read a file's name."""
    assert texts(told.long)[0] == LONG


def test_its_model_fetches_what_came_as_a_ticket(told: Told) -> None:
    """The ticket's words are enough to come back with."""
    assert texts(told.ticket)[0].startswith("Still working: call ask_result(")
    assert texts(told.fetched)[0] == CLAUDE_SAYS
