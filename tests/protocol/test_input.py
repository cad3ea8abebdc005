"""Wrong input of every kind: a coded error that says what to correct, echoes nothing, and reaches no CLI.

The SDK's own check would quote the prompt in its complaint, coerce `"12"` to 12 and drop unknown names; the hub's own
stands before it. Most of the table goes through a hub that has never been asked anything: it has started no child, and
must have none afterwards.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp_types import CallToolResult

from tests.harness import DEADLINE_S, Line, World, error_of, http_hub, make_world, open_line
from tests.protocol.conftest import CANARY, Shared

PROMPT = f"Where does the {CANARY} sleep?"
GOOD: dict[str, Any] = {"prompt": PROMPT}

# What is given beside a good prompt (or instead of it) -> what the caller is told to correct.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no arguments": ({}, "prompt"),
    "no prompt": ({"model": "sonnet"}, "prompt"),
    "empty": ({"prompt": ""}, "prompt"),
    "spaces": ({"prompt": "  "}, "prompt"),
    "white space": ({"prompt": " \n\t\u00a0\u2003\ufeff\n"}, "prompt"),
    "null": ({"prompt": None}, "prompt"),
    "number": ({"prompt": 12}, "prompt"),
    "boolean": ({"prompt": True}, "prompt"),
    "list": ({"prompt": [PROMPT]}, "prompt"),
    "object": ({"prompt": {"text": PROMPT}}, "prompt"),
    "too long": ({"prompt": CANARY + "x" * 1_000_000}, "prompt"),
    "model of another provider": ({**GOOD, "model": "gpt-4"}, "model"),
    "model that is an option": ({**GOOD, "model": "--help"}, "model"),
    "model that is two words": ({**GOOD, "model": "claude-x gemini-y"}, "model"),
    "model with an option behind": ({**GOOD, "model": "claude-x\n--help"}, "model"),
    "model with a line break at its end": ({**GOOD, "model": "gemini-2.5-pro\n"}, "model"),
    "model that chooses by itself": ({**GOOD, "model": "auto"}, "model"),
    "model billed as extra usage": ({**GOOD, "model": "sonnet[1m]"}, "model"),
    "model of capitals": ({**GOOD, "model": "CLAUDE-SONNET-5-5"}, "model"),
    "model that is the prompt": ({**GOOD, "model": PROMPT}, "model"),
    "model that is long": ({**GOOD, "model": "claude-" + "x" * 300}, "model"),
    "model that is a number": ({**GOOD, "model": 5}, "model"),
    "model that is a list": ({**GOOD, "model": ["sonnet"]}, "model"),
    "model that is empty": ({**GOOD, "model": ""}, "model"),
    "system that is a number": ({**GOOD, "system": 1}, "system"),
    "system that is an object": ({**GOOD, "system": {"text": PROMPT}}, "system"),
    "system too long": ({**GOOD, "system": CANARY + "x" * 1_000_000}, "system"),
    "timeout of nothing": ({**GOOD, "timeout_s": 0}, "timeout_s"),
    "timeout below one": ({**GOOD, "timeout_s": 0.5}, "timeout_s"),
    "timeout below zero": ({**GOOD, "timeout_s": -5}, "timeout_s"),
    "timeout over an hour": ({**GOOD, "timeout_s": 3601}, "timeout_s"),
    "timeout that is a text": ({**GOOD, "timeout_s": "5"}, "timeout_s"),
    "timeout that is a boolean": ({**GOOD, "timeout_s": True}, "timeout_s"),
    "timeout that is a list": ({**GOOD, "timeout_s": [5]}, "timeout_s"),
    "timeout without measure": ({**GOOD, "timeout_s": 1e300}, "timeout_s"),
    "unknown argument": ({**GOOD, "temperature": 1}, "prompt, model, system, timeout_s"),
    "unknown argument named like the prompt": ({**GOOD, PROMPT: 1}, "prompt, model, system, timeout_s"),
    "argument of a later version": ({**GOOD, "files": ["/etc/passwd"]}, "prompt, model, system, timeout_s"),
}

PROVIDERS = ("claude", "gemini")
OWN: dict[str, tuple[str, str]] = {
    "claude": ("gemini-2.5-pro", "sonnet, opus, haiku, fable"),
    "gemini": ("claude-sonnet-5-5", "gemini-2.5-pro"),
}


def check(result: CallToolResult, part: str) -> dict[str, Any]:
    """`invalid_request`, with a next step that names what to correct, and nothing of what was given."""
    error = error_of(result)

    assert error["code"] == "invalid_request", error
    assert part in error["action"], error
    assert error["retryable"] is False
    assert error["retry_after_s"] is None
    assert error["partial_text"] is None
    assert len(result.content) == 1
    assert result.structured_content is None
    assert CANARY not in result.model_dump_json(by_alias=True)
    return error


@pytest.fixture(scope="module")
def unasked(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[World, Line]]:
    """A hub over stdio, which starts nothing before the first ask that is one."""
    with make_world(tmp_path_factory.mktemp("unasked")) as world:
        world.changes["LOG_LEVEL"] = "DEBUG"
        with open_line(world, "stdio", "auto") as line:
            yield world, line


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("row", ROWS)
def test_wrong_input_is_refused_before_any_cli_is_started(
    unasked: tuple[World, Line], row: str, provider: str
) -> None:
    """Each kind of wrong input, to either provider: told what to correct, nothing echoed, nothing logged, no child."""
    world, line = unasked
    arguments, part = ROWS[row]

    error = check(line.call(f"ask_{provider}", arguments), part)

    assert error["provider"] in (provider, None)
    assert CANARY not in line.log
    assert world.children() == []
    assert world.claude.received == []
    assert world.gemini.received == world.gemini.oauth_received == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_model_of_the_other_provider_is_refused_with_a_hint(unasked: tuple[World, Line], provider: str) -> None:
    """The next step names models of the provider that was asked."""
    world, line = unasked
    foreign, hint = OWN[provider]

    check(line.call(f"ask_{provider}", {**GOOD, "model": foreign}), hint)

    assert world.children() == []


@pytest.mark.parametrize("arguments", [{"provider": "gpt"}, {"provider": ["claude"]}, {"provider": 1}, {"x": CANARY}])
def test_wrong_input_for_the_token_status_is_refused_too(
    unasked: tuple[World, Line], arguments: dict[str, Any]
) -> None:
    """The third tool keeps the same rules."""
    _, line = unasked

    check(line.call("token_status", arguments), "provider")


def test_a_tool_that_does_not_exist_is_answered_with_those_that_do(line: Line, warm: World) -> None:
    """A coded error and no crash, over every way; the wrong name, which may be anything, is not repeated."""
    check(line.call(f"ask_{CANARY}", GOOD), "ask_claude, ask_gemini, token_status")


SOME = ("empty", "number", "too long", "model that is an option", "timeout that is a text", "unknown argument")


@pytest.mark.parametrize("row", SOME)
def test_wrong_input_reads_the_same_over_every_way(line: Line, warm: World, row: str) -> None:
    """Transport and protocol era change nothing; what was asked wrongly reaches no provider."""
    arguments, part = ROWS[row]
    before = len(warm.claude.received), len(warm.gemini.generations)

    for provider in PROVIDERS:
        check(line.call(f"ask_{provider}", arguments), part)

    assert (len(warm.claude.received), len(warm.gemini.generations)) == before


# Raw JSON-RPC: what the official client would not send --------------------------------------------------------------

RAW: dict[str, tuple[str, str]] = {
    # the `params` of a tools/call, as they stand on the wire -> a part of the next step, or of the protocol's error
    "arguments are a list": ('{"name": "ask_claude", "arguments": ["PROMPT"]}', ""),
    "arguments are a text": ('{"name": "ask_claude", "arguments": "PROMPT"}', ""),
    "arguments are a number": ('{"name": "ask_claude", "arguments": 7}', ""),
    "name is a number": ('{"name": 7, "arguments": {"prompt": "PROMPT"}}', ""),
    "no name": ('{"arguments": {"prompt": "PROMPT"}}', ""),
    "no params": ("null", ""),
    "timeout is NaN": ('{"name": "ask_claude", "arguments": {"prompt": "PROMPT", "timeout_s": NaN}}', ""),
    "timeout is infinite": ('{"name": "ask_claude", "arguments": {"prompt": "PROMPT", "timeout_s": 1e999}}', ""),
    "half of a character": ('{"name": "ask_claude", "arguments": {"prompt": "PROMPT \\ud800"}}', ""),
    "twice the same argument": ('{"name": "ask_claude", "arguments": {"prompt": 1, "prompt": 2, "x": "PROMPT"}}', ""),
}
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "0"},
}


def _call(row: str) -> str:
    params = RAW[row][0].replace("PROMPT", PROMPT)
    return f'{{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {params}}}'


def _refused(answer: dict[str, Any]) -> None:
    """Either the coded result, or the protocol's own error; never silence, never an echo."""
    assert answer["id"] == 2
    if "error" in answer:
        assert answer["error"]["code"] in (-32700, -32600, -32602), answer
    else:
        assert answer["result"]["isError"], answer
        assert answer["result"]["_meta"]["llm-mcp-hub/error"]["code"] == "invalid_request"
    assert CANARY not in json.dumps(answer)


@pytest.mark.parametrize("row", RAW)
def test_a_malformed_call_over_stdio_is_answered_and_the_hub_goes_on(world: World, row: str) -> None:
    """A client that waits for an answer gets one, whatever it had sent; a good call after it still works."""
