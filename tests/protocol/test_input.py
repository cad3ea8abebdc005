"""Wrong input of every kind: a coded error that says what to correct, echoes nothing, and reaches no CLI.

The SDK's own check would quote the prompt in its complaint, coerce `"12"` to 12 and drop unknown names; the hub's own
stands before it. Most of the table goes through a hub that has never been asked anything: it has started no child, and
must have none afterwards.
"""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp_types import CallToolResult

from tests.harness import DEADLINE_S, Line, World, error_of, make_world, open_line
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
    "unknown argument": ({**GOOD, "temperature": 1}, "prompt, model, system, conversation_id, files"),
    "unknown argument named like the prompt": ({**GOOD, PROMPT: 1}, "prompt, model, system, conversation_id, files"),
    "unknown argument that is almost one": ({**GOOD, "modle": "x"}, "Did you mean model?"),
    "missing argument that was given by almost its name": ({"promt": PROMPT}, "Did you mean prompt?"),
    "unknown argument within an argument": ({**GOOD, "git_diff": {"head": "x"}}, "Use only: base, paths in git_diff"),
    "attachment without a name": (
        {**GOOD, "attachments": [{"text": "x"}]},
        "Give attachments[0] with name, mime_type, and either text or data",
    ),
    "file that is no list": ({**GOOD, "files": "README.md"}, "files"),
    "file outside the roots": ({**GOOD, "files": ["/etc/passwd"]}, "attachments"),
    "diff that is no object": ({**GOOD, "git_diff": "HEAD"}, "git_diff"),
    "diff that is a yes": ({**GOOD, "git_diff": True}, "Give git_diff as an object: {} for all changes"),
    "attachment that is a text": ({**GOOD, "attachments": ["x"]}, "Give attachments[0] as an object: with name, "),
    "attachment without content": ({**GOOD, "attachments": [{"name": "a", "mime_type": "text/plain"}]}, "attachment"),
    "attachment that is no base64": (
        {**GOOD, "attachments": [{"name": "a", "mime_type": "image/png", "data": "***"}]},
        "attachment",
    ),
    "attachment of a kind that nobody takes": (
        {**GOOD, "attachments": [{"name": "a", "mime_type": "video/mp4", "data": "AAAA"}]},
        "attachment",
    ),
    "effort without measure": ({**GOOD, "effort": "utmost"}, "Give effort as 'low', 'medium' or 'high'."),
    "wait that is negative": ({**GOOD, "wait_s": -1}, "wait_s"),
    "wait that is too long": ({**GOOD, "wait_s": 3601}, "wait_s"),
    "conversation that is a number": ({**GOOD, "conversation_id": 7}, "conversation_id"),
    "conversation that is empty": ({**GOOD, "conversation_id": ""}, "conversation_id"),
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
    assert part in f"{error['message']} {error['action']}", error
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
def test_wrong_input_is_refused_before_any_cli_is_started(unasked: tuple[World, Line], row: str, provider: str) -> None:
    """Each kind of wrong input, to either provider: told what to correct, nothing echoed, nothing logged, no child."""
    world, line = unasked
    arguments, part = ROWS[row]

    error = check(line.call(f"ask_{provider}", arguments), part)

    assert error["provider"] == provider
    assert error["ask_id"] is None
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
    check(line.call(f"ask_{CANARY}", GOOD), "ask_claude, ask_gemini, ask_result, ask_cancel, token_status")


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

RAW: dict[str, str] = {
    # the `params` of a tools/call, as they stand on the wire
    "arguments are a list": '{"name": "ask_claude", "arguments": ["PROMPT"]META}',
    "arguments are a text": '{"name": "ask_claude", "arguments": "PROMPT"META}',
    "arguments are a number": '{"name": "ask_claude", "arguments": 7META}',
    "arguments are null": '{"name": "ask_claude", "arguments": nullMETA}',
    "name is a number": '{"name": 7, "arguments": {"prompt": "PROMPT"}META}',
    "no name": '{"arguments": {"prompt": "PROMPT"}META}',
    "timeout is NaN": '{"name": "ask_claude", "arguments": {"prompt": "PROMPT", "timeout_s": NaN}META}',
    "timeout is infinite": '{"name": "ask_claude", "arguments": {"prompt": "PROMPT", "timeout_s": 1e999}META}',
    "half of a character": '{"name": "ask_claude", "arguments": {"prompt": "PROMPT \\ud800"}META}',
    "half of a character in a name": '{"name": "ask_claude", "arguments": {"PROMPT \\udc00": 1}META}',
    "the same argument twice": '{"name": "ask_claude", "arguments": {"prompt": "PROMPT", "prompt": 2}META}',
    "deeply nested": '{"name": "ask_claude", "arguments": {"prompt": ' + "[" * 300 + '"PROMPT"' + "]" * 300 + "}META}",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}


def _request(row: str, number: int, *, modern: bool) -> bytes:
    meta = f', "_meta": {json.dumps(META)}' if modern else ""
    params = RAW[row].replace("META", meta).replace("PROMPT", PROMPT)
    return f'{{"jsonrpc": "2.0", "id": {number}, "method": "tools/call", "params": {params}}}'.encode()


def _check_raw(answer: dict[str, Any]) -> None:
    """Either a coded result, or the protocol's own error; never an echo."""
    if "error" in answer:
        assert answer["error"]["code"] in (-32700, -32600, -32602, -32020), answer
    else:
        assert answer["result"]["isError"], answer
        assert answer["result"]["_meta"]["llm-mcp-hub/error"]["code"] == "invalid_request"
    assert CANARY not in json.dumps(answer)


class RawStdio:
    """A hub over stdio, told lines and read line by line; a context manager that ends it."""

    def __init__(self, world: World, *, modern: bool) -> None:
        self.modern = modern
        self._numbers = itertools.count(1)
        self._log = world.home.parent / f"raw-{modern}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llm_mcp_hub"],
                env={**world.environment, "LOG_LEVEL": "DEBUG"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if not modern:
            greeting = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
            assert self._exchange(json.dumps(greeting).encode(), 0)["result"]["serverInfo"]["name"] == "llm-mcp-hub"
            self._send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')

    @property
    def log(self) -> str:
        return self._log.read_text()

    def call(self, row: str) -> dict[str, Any]:
        number = next(self._numbers)
        return self._exchange(_request(row, number, modern=self.modern), number)

    def __enter__(self) -> RawStdio:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its stdin, and expect an orderly end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdout:
            self._process.stdin.close()
            assert self._process.wait(DEADLINE_S) == 0, self.log[-2000:]

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _exchange(self, line: bytes, number: int) -> dict[str, Any]:
        assert self._process.stdout is not None
        self._send(line)
        watchdog = threading.Timer(DEADLINE_S, self._process.kill)  # a hub that does not answer ends the reading
        watchdog.start()
        try:
            for answered in self._process.stdout:
                answer = json.loads(answered)
                if answer.get("id") == number:
                    return answer
        finally:
            watchdog.cancel()
            watchdog.join()
        raise AssertionError(f"no answer to {line[:200]!r}: {self.log[-2000:]}")


@pytest.mark.parametrize("modern", [True, False], ids=["auto", "legacy"])
def test_malformed_calls_over_stdio_are_all_answered(world: World, modern: bool) -> None:
    """A client that waits gets an answer to whatever it had sent, each time from the same hub, which then ends well."""
    with RawStdio(world, modern=modern) as hub:
        answers = [hub.call(row) for row in RAW]

    for answer in answers:
        _check_raw(answer)
    assert CANARY not in hub.log
    assert world.claude.received == []


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], dict[str, Any]]:
    """One POST to the hub: status, headers, and the JSON-RPC message in the answer, streamed or not."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    connection.request("POST", "/mcp", body, {**accepted, **headers})
    response = connection.getresponse()
    received = response.read().decode()
    got = {name.lower(): value for name, value in response.getheaders()}
    connection.close()
    if "event-stream" in got.get("content-type", ""):
        data = [line.removeprefix("data:").strip() for line in received.splitlines() if line.startswith("data:")]
        received = next(line for line in data if line)
    return response.status, got, json.loads(received) if received.startswith("{") else {}


@pytest.mark.parametrize("row", RAW)
@pytest.mark.parametrize("modern", [True, False], ids=["auto", "legacy"])
def test_malformed_calls_over_http_are_all_answered(shared: Shared, warm: World, row: str, modern: bool) -> None:
    """As over stdio. Nothing that a client can post makes the hub fail, reaches a provider or comes back."""
    before = len(warm.claude.received)
    if modern:
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "ask_claude"}
    else:
        greeting = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
        _, given, _ = _post(shared.url, json.dumps(greeting).encode(), {})
        headers = {"Mcp-Session-Id": given["mcp-session-id"], "MCP-Protocol-Version": "2025-06-18"}

    status, _, answer = _post(shared.url, _request(row, 1, modern=modern), headers)

    assert status in (200, 400)
    _check_raw(answer)
    assert len(warm.claude.received) == before
