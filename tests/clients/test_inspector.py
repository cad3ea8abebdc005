"""The MCP Inspector's command line against the hub, over stdio and HTTP, in both eras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import CLAUDE_SAYS, GEMINI_SAYS, TOOLS, Served
from tests.clients.programs import PACKAGES, around, node, run

INSPECTOR = PACKAGES / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
IS_ERROR = 5
"""The Inspector's exit code for a tool result that is an error."""


def inspect(home: Path, hubs: Served, transport: str, era: str, *words: str) -> tuple[int, dict[str, Any], str]:
    """Run it on one method. Returns its exit code, the result that it printed, and what it complained of."""
    options = ["--cli", "--protocol-era", era, "--format", "json", *words]
    if transport == "http":
        options += [hubs.url]
    elif transport == "http with a token":
        options += [
            "--stored-auth-only",
            "--header",
            f"Authorization: Bearer {hubs.token}",
            "--server-url",
            hubs.guarded,
        ]
    else:
        given = [word for name, value in hubs.world.environment.items() for word in ("-e", f"{name}={value}")]
        options = [*options, *given, "--", *hubs.world.command]
    ended = run([node(), str(INSPECTOR), *options], around(home))
    result: dict[str, Any] = json.loads(ended.stdout)["result"] if ended.stdout else {}
    return ended.returncode, result, ended.stderr


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("transport", ["stdio", "http", "http with a token"])
def test_its_strict_look_at_the_tools_finds_nothing(transport: str, era: str, hubs: Served, home: Path) -> None:
    """Schemas that some client's model could not take would be found here."""
    code, result, complaints = inspect(home, hubs, transport, era, "--method", "tools/list", "--strict")

    assert code == 0, complaints
    assert [tool["name"] for tool in result["tools"]] == TOOLS
    assert "schema" not in complaints.lower(), complaints


@pytest.mark.parametrize(
    ("transport", "era", "tool", "answer"),
    [
        ("stdio", "modern", "ask_gemini", GEMINI_SAYS),
        ("stdio", "legacy", "ask_claude", CLAUDE_SAYS),
        ("http", "modern", "ask_claude", CLAUDE_SAYS),
        ("http", "legacy", "ask_gemini", GEMINI_SAYS),
        ("http with a token", "modern", "ask_gemini", GEMINI_SAYS),
        ("http with a token", "legacy", "ask_claude", CLAUDE_SAYS),
    ],
)
def test_it_gets_an_answer(transport: str, era: str, tool: str, answer: str, hubs: Served, home: Path) -> None:
    """Over every way: the answer first, and whole."""
    call = ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", '{"prompt": "Who are you?"}', "-q"]

    code, result, complaints = inspect(home, hubs, transport, era, *call)

    assert code == 0, complaints
    assert result["content"][0] == {"type": "text", "text": answer}
    assert result["_meta"]["llm-mcp-hub/answer"]["text"] == answer


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_it_knows_an_error_from_an_answer(era: str, hubs: Served, home: Path) -> None:
    """By `isError`, with the code as data and the next step as text."""
    call = [
        "--method",
        "tools/call",
        "--tool-name",
        "ask_claude",
        "--tool-args-json",
        '{"prompt": "x", "model": "gpt-4"}',
    ]

    code, result, _complaints = inspect(home, hubs, "http", era, *call, "-q")

    assert code == IS_ERROR
    assert result["_meta"]["llm-mcp-hub/error"]["code"] == "invalid_request"
    assert result["content"][0]["text"].startswith("invalid_request: ")


def test_it_reads_prompts_and_resources(hubs: Served, home: Path) -> None:
    """What a person picks in a client, and what a client shows beside the tools."""
    ask = ["--method", "prompts/get", "--prompt-name", "second_opinion", "--prompt-args", "question=Why?", "-q"]
    code, prompt, complaints = inspect(home, hubs, "http", "modern", *ask)
    assert code == 0, complaints
    assert "Why?" in prompt["messages"][0]["content"]["text"]

    read = ["--method", "resources/read", "--uri", "hub://tokens", "-q"]
    code, resource, complaints = inspect(home, hubs, "http", "legacy", *read)
    assert code == 0, complaints
    assert set(json.loads(resource["contents"][0]["text"])) == {"claude", "gemini"}


def test_it_is_not_let_in_without_the_token(hubs: Served, home: Path) -> None:
    """The cases above would pass at a door that stands open."""
    words = ["--cli", "--stored-auth-only", "--method", "tools/list", "--format", "json", "-q", hubs.guarded]

    ended = run([node(), str(INSPECTOR), *words], around(home))

    assert (ended.returncode != 0, ended.stdout) == (True, ""), ended.stderr
    assert "401" in ended.stderr or "auth" in ended.stderr
