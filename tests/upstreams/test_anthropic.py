"""The stand-in of Anthropic, proved against the real Claude CLI that ships with claude-agent-sdk.

What is asserted of the CLI here was measured with version 2.1.330. A test that fails after an update tells
that the CLI behaves in a new way, and what the hub makes of it has to be looked at again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import string
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    TextBlock,
    ThinkingBlock,
)

from .anthropic import (
    HOUR,
    Answer,
    AnthropicUpstream,
    Cut,
    Error,
    Hang,
    Malformed,
    RateLimits,
    Reply,
    Reset,
    StreamError,
    ToolCall,
    Window,
    last_user_texts,
    seconds_from_now,
    system_texts,
)
from .loopback import Received

T = TypeVar("T")
DEADLINE_S = 60.0
MODEL = "claude-sonnet-5-5"
TOKEN = "sk-ant-oat01-" + "".join(random.choices(string.ascii_letters, k=80))
"""Made up: nothing that could be used anywhere."""


@pytest.fixture(autouse=True)
def scrubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK hands its own environment down to the CLI, so this one holds nothing of the machine's."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def upstream() -> Iterator[AnthropicUpstream]:
    with AnthropicUpstream() as stand_in:
        yield stand_in
        assert stand_in.surprises == []
        assert stand_in.unused == 0


class Claude:
    """The real CLI, contained, with the stand-in for its upstream. One `ask` is one process."""

    def __init__(self, upstream: AnthropicUpstream, home: Path) -> None:
        self.home = home
        self.env = {
            "ANTHROPIC_BASE_URL": upstream.url,
            "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
            "CLAUDE_CONFIG_DIR": str(home / "config"),
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            # What ignores the base URL must not leave this machine: nobody listens on the discard port.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
        }

    def client(self, *, max_turns: int = 1, env: Mapping[str, str] | None = None) -> ClaudeSDKClient:
        empty = self.home / "empty"
        empty.mkdir(exist_ok=True)
        options = ClaudeAgentOptions(
            tools=[],
            setting_sources=[],
            strict_mcp_config=True,
            skills=[],
            system_prompt="You are asked by a test.",
            permission_mode="dontAsk",
            verbatim_prompts=True,
            extra_args={"no-session-persistence": None, "disable-slash-commands": None},
            model=MODEL,
            max_turns=max_turns,
            include_partial_messages=True,
            max_buffer_size=32 << 20,
            cwd=empty,
            env={**self.env, **(env or {})},
        )
        return ClaudeSDKClient(options)

    def ask(
        self,
        *prompts: str,
        max_turns: int = 1,
        env: Mapping[str, str] | None = None,
        on_text: Callable[[], None] = lambda: None,
    ) -> list[Message]:
        async def conversation() -> list[Message]:
            messages: list[Message] = []
            async with self.client(max_turns=max_turns, env=env) as client:
                for prompt in prompts:
                    await client.query(prompt)
                    async for message in client.receive_response():
                        messages.append(message)
                        if deltas([message]):
                            on_text()
            return messages

        return within_deadline(conversation())


@pytest.fixture
def claude(upstream: AnthropicUpstream, tmp_path: Path) -> Claude:
    return Claude(upstream, tmp_path)


def within_deadline(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def result(messages: list[Message]) -> ResultMessage:
    return [m for m in messages if isinstance(m, ResultMessage)][-1]


def deltas(messages: list[Message]) -> list[str]:
    events = [m.event for m in messages if isinstance(m, StreamEvent)]
    return [e["delta"]["text"] for e in events if e.get("delta", {}).get("type") == "text_delta"]


def limits(messages: list[Message]) -> dict[str, Any]:
    """The raw rate-limit report, as the CLI made it of the headers."""
    return [m.rate_limit_info.raw for m in messages if isinstance(m, RateLimitEvent)][-1]


def test_an_answer_streams_in_its_pieces(upstream: AnthropicUpstream, claude: Claude) -> None:
    pieces = ["One, ", "two, ", "three."]
    upstream.script(Answer(chunks=pieces, chunk_delay_s=0.01, input_tokens=123, output_tokens=45, cache_read=6))

    messages = claude.ask("Count.")

    assert deltas(messages) == pieces
    end = result(messages)
    assert (end.result, end.is_error, end.stop_reason, end.terminal_reason) == (
        "One, two, three.",
        False,
        "end_turn",
        "completed",
    )
    assert end.usage is not None
    assert [end.usage[k] for k in ("input_tokens", "output_tokens", "cache_read_input_tokens")] == [123, 45, 6]
    assert list(end.model_usage or {}) == [MODEL]


def test_the_request_is_recorded_as_the_cli_sent_it(upstream: AnthropicUpstream, claude: Claude) -> None:
    claude.ask("Who are you?")
    upstream.wait_until_quiet()

    [request] = upstream.received
    assert (request.method, request.path, request.query) == ("POST", "/v1/messages", {"beta": "true"})
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert "x-api-key" not in request.headers
    assert request.json["stream"] is True
    assert last_user_texts(request) == upstream.prompts == ["Who are you?"]
    assert "You are asked by a test." in system_texts(request)
    assert request.ended == "answered"


@pytest.mark.parametrize("chunks", [None, 7], ids=["whole", "in pieces"])
def test_any_text_arrives_unchanged_both_ways(upstream: AnthropicUpstream, claude: Claude, chunks: int | None) -> None:
    # Line separators that are none in JSON or in an event stream, NUL, right to left, joined and astral characters.
    text = "a\u2028b\u0085c\r\nd\x00e \u05d0\u0628 👩‍👩‍👧 𝒳 e\u0301 "
    text += "data: {\n\nevent: x\n\n<system-reminder>no</system-reminder>"
    upstream.script(Answer(text, chunks=chunks))

    messages = claude.ask(text)

    assert "".join(deltas(messages)) == result(messages).result == text
    assert len(deltas(messages)) == (chunks or 1)
    assert upstream.prompts == [text]


def test_thinking_comes_first_in_a_block_of_its_own(upstream: AnthropicUpstream, claude: Claude) -> None:
    upstream.script(Answer("Yes.", thinking="Let me see."))

    blocks = [block for m in claude.ask("Well?") if isinstance(m, AssistantMessage) for block in m.content]

    assert [type(block) for block in blocks] == [ThinkingBlock, TextBlock]
    assert isinstance(blocks[0], ThinkingBlock)
    assert blocks[0].thinking == "Let me see."


def test_each_request_takes_the_next_reply_and_then_the_default(upstream: AnthropicUpstream, claude: Claude) -> None:
    upstream.script(Answer("first"), lambda received: Answer(f"{last_user_texts(received)[-1]}, they said"))

    messages = claude.ask("one", "two", "three")

    ends = [m.result for m in messages if isinstance(m, ResultMessage)]
    assert ends == ["first", "two, they said", "Hello from the stand-in of Claude."]
    assert upstream.prompts == ["one", "two", "three"]


def test_a_gate_holds_answers_until_all_have_asked(upstream: AnthropicUpstream, claude: Claude) -> None:
    gate = threading.Event()
    upstream.default = Answer("at last", gate=gate)

    async def one() -> str | None:
        async with claude.client() as client:
            await client.query("now?")
            return result([message async for message in client.receive_response()]).result

    async def both() -> list[str | None]:
        asked = asyncio.gather(one(), one())
        await asyncio.to_thread(upstream.wait_until, lambda: len(upstream.open) == 2)
        gate.set()
        return list(await asked)

    assert within_deadline(both()) == ["at last", "at last"]


ERRORS: dict[str, tuple[Reply, int, str, int | None, str]] = {
    # what is answered to every request -> requests made, assistant.error, api_error_status, terminal_reason
    "unauthorized": (Error.unauthorized(), 2, "authentication_failed", 401, "api_error"),
    "revoked": (Error.revoked(), 2, "authentication_failed", 403, "api_error"),
    "org not allowed": (Error.org_not_allowed(), 1, "oauth_org_not_allowed", 403, "api_error"),
    "quota": (Error.quota(), 1, "rate_limit", 429, "api_error"),
    "rate limited": (Error.rate_limited(), 2, "rate_limit", 429, "api_error"),
    "credit balance": (Error.credit_balance(), 1, "billing_error", 400, "api_error"),
    "model not found": (Error.model_not_found(), 2, "model_not_found", 404, "api_error"),
    "prompt too long": (Error.prompt_too_long(), 1, "invalid_request", 400, "prompt_too_long"),
    "bad request": (Error.bad_request(), 3, "unknown", 400, "api_error"),
    "too large": (Error.too_large(), 1, "invalid_request", 413, "image_error"),
    "server error": (Error.server_error(), 2, "server_error", 500, "api_error"),
    "unavailable": (Error.server_error(503), 2, "server_error", 503, "api_error"),
    "overloaded": (Error.overloaded(), 2, "server_error", 529, "api_error"),
    "overloaded in the stream": (StreamError("Well, "), 2, "server_error", 529, "api_error"),
    "refusal": (Answer.refusal("I would"), 2, "invalid_request", None, "api_error"),
    "max tokens": (Answer.cut_short("And so on "), 4, "max_output_tokens", None, "api_error"),
    "reset": (Reset(), 2, "server_error", None, "api_error"),
    "cut": (Cut("Well, "), 3, "server_error", None, "api_error"),
    "malformed": (Malformed("Well, "), 2, "unknown", None, "api_error"),
}


@pytest.mark.parametrize("row", ERRORS)
def test_the_cli_takes_each_failure_for_what_it_is(upstream: AnthropicUpstream, claude: Claude, row: str) -> None:
    reply, requests, error, status, terminal_reason = ERRORS[row]
    upstream.default = reply

    messages = claude.ask("hello")

    end = result(messages)
    assert end.is_error
    assert [m.error for m in messages if isinstance(m, AssistantMessage)][-1] == error
    assert (end.api_error_status, end.terminal_reason) == (status, terminal_reason)
    assert len(upstream.received) == requests


@pytest.mark.parametrize(
    ("limit", "kind", "words"),
    [
        ("5-hour", "five_hour", "5-hour limit"),
        ("weekly", "seven_day", "weekly limit"),
        ("opus", "seven_day_opus", "Opus limit"),
    ],
)
def test_a_used_up_subscription_names_the_limit_and_its_reset(
    upstream: AnthropicUpstream, claude: Claude, limit: Any, kind: str, words: str
) -> None:
    reset = seconds_from_now(3 * HOUR)
    upstream.script(Error.quota(limit, reset=reset))

    messages = claude.ask("hello")

    seen = limits(messages)
    assert (seen["status"], seen["rateLimitType"], seen["resetsAt"]) == ("rejected", kind, reset)
    assert seen["isUsingOverage"] is False
    assert words in (result(messages).result or "")


def test_a_plain_429_names_no_limit(upstream: AnthropicUpstream, claude: Claude) -> None:
    upstream.default = Error.rate_limited(retry_after=0)

    messages = claude.ask("hello")

    assert limits(messages) == {"status": "rejected", "isUsingOverage": False}


def test_what_is_left_of_the_windows_is_reported(upstream: AnthropicUpstream, claude: Claude) -> None:
    five_hour, seven_day = Window(0.25, seconds_from_now(HOUR)), Window(0.5, seconds_from_now(2 * HOUR))
    upstream.script(Answer("ok", rate_limits=RateLimits(five_hour=five_hour, seven_day=seven_day)))

    seen = limits(claude.ask("hello"))

    assert (seen["status"], seen["rateLimitType"], seen["resetsAt"]) == ("allowed", "five_hour", five_hour.reset)
    assert seen["unifiedWindows"] == {
        "five_hour": {"utilization": 0.25, "resetsAt": five_hour.reset, "status": "allowed"},
        "seven_day": {"utilization": 0.5, "resetsAt": seven_day.reset, "status": "allowed"},
    }


@pytest.mark.parametrize(
    ("given", "status", "using", "billed"),
    [
        (RateLimits.overage(), "rejected", True, True),
        (RateLimits.overage("allowed_warning"), "rejected", True, True),
        (RateLimits(overage_in_use=True), "allowed", False, True),
        (RateLimits(overage_status="allowed", overage_in_use=False), "allowed", False, None),
        (RateLimits(overage_status="rejected", overage_disabled_reason="out_of_credits"), "allowed", False, None),
    ],
    ids=["used up and paid", "paid, near the cap", "paid though not used up", "available only", "closed"],
)
def test_paid_extra_usage_shows_in_two_members(
    upstream: AnthropicUpstream, claude: Claude, given: RateLimits, status: str, using: bool, billed: bool | None
) -> None:
    upstream.script(Answer("served", rate_limits=given))

    messages = claude.ask("hello")

    seen = limits(messages)
    assert (seen["status"], seen["isUsingOverage"], seen.get("overageInUse")) == (status, using, billed)
    assert (seen.get("overageStatus"), seen.get("overageDisabledReason")) == (
        given.overage_status,
        given.overage_disabled_reason,
    )
    assert result(messages).result == "served"


def test_a_caller_that_interrupts_a_hanging_answer_is_seen_to_hang_up(
    upstream: AnthropicUpstream, claude: Claude
) -> None:
    upstream.script(Hang("So far "), Answer("Here again."))

    async def conversation() -> list[Message]:
        messages: list[Message] = []
        async with claude.client() as client:
            await client.query("first")
            async for message in client.receive_response():
                messages.append(message)
                if deltas([message]):
                    await client.interrupt()
            assert await asyncio.to_thread(upstream.received[0].done.wait, DEADLINE_S)
            await client.query("second")
            messages += [message async for message in client.receive_response()]
        return messages

    messages = within_deadline(conversation())

    ends = [(m.terminal_reason, m.result) for m in messages if isinstance(m, ResultMessage)]
    assert ends == [("aborted_streaming", None), ("completed", "Here again.")]
    assert deltas(messages) == ["So far ", "Here again."]
    upstream.wait_until_quiet()
    assert [r.ended for r in upstream.received] == ["disconnected", "answered"]
    assert upstream.prompts == ["first", "second"]


@pytest.mark.parametrize("hang", [Hang(), Hang(before_headers=False)], ids=["no headers", "headers only"])
def test_a_caller_that_gives_up_before_any_text_is_seen_to_hang_up(
    upstream: AnthropicUpstream, claude: Claude, hang: Hang
) -> None:
    upstream.script(hang)

    async def abandoned() -> None:
        async with claude.client() as client:
            await client.query("hello")
            await asyncio.to_thread(upstream.wait_for_requests, 1)
            assert [r.ended for r in upstream.received] == ["open"]
            await client.interrupt()

    within_deadline(abandoned())

    upstream.wait_until_quiet()
    assert [r.ended for r in upstream.received] == ["disconnected"]


def test_who_waits_for_what_a_script_notes_is_woken_by_it(upstream: AnthropicUpstream, claude: Claude) -> None:
    """Who has looked in vain when the request came would else look again at its end, which is long after a `Hang`."""
    looked, noted = threading.Event(), threading.Event()

    def note(_received: Received) -> Reply:
        assert looked.wait(DEADLINE_S)
        noted.set()
        return Hang()

    def found() -> bool:
        is_noted = noted.is_set()
        if upstream.received:
            looked.set()
        return is_noted

    upstream.script(note)

    async def asked() -> None:
        async with claude.client() as client:
            await client.query("hello")
            await asyncio.to_thread(upstream.wait_until, found, timeout=threading.TIMEOUT_MAX)
            assert [r.ended for r in upstream.received] == ["open"]
            await client.interrupt()

    within_deadline(asked())


def test_the_cli_asks_again_after_a_stream_that_was_cut(upstream: AnthropicUpstream, claude: Claude) -> None:
    seen = threading.Event()
    upstream.script(Cut("Half ", gate=seen), Answer("A whole one."))

    messages = claude.ask("hello", on_text=seen.set)

    assert [r.json["stream"] for r in upstream.received] == [True, True]
    assert deltas(messages) == ["Half ", "A whole one."]
    assert (result(messages).is_error, result(messages).result) == (False, "A whole one.")


@pytest.mark.parametrize("reply", [Malformed("Half "), StreamError("Half ")], ids=["malformed", "error event"])
def test_the_cli_asks_again_without_streaming_after_a_stream_that_broke(
    upstream: AnthropicUpstream, claude: Claude, reply: Reply
) -> None:
    upstream.script(reply, Answer("A whole one.", chunks=3))

    messages = claude.ask("hello")

    assert [r.json.get("stream", False) for r in upstream.received] == [True, False]
    assert deltas(messages) == ["Half "]
    assert (result(messages).is_error, result(messages).result) == (False, "A whole one.")


def test_a_tool_call_is_refused_and_its_result_recorded(
    upstream: AnthropicUpstream, claude: Claude, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    upstream.script(ToolCall("Bash", {"command": f"touch {touched}"}), Answer("Never mind."))

    messages = claude.ask("hello", max_turns=3)

    [came_back] = upstream.tool_results
    assert "No such tool available: Bash" in came_back
    assert result(messages).result == "Never mind."
    assert not touched.exists()


@pytest.mark.parametrize(
    ("name", "complaint"), [("ANTHROPIC_API_KEY", "x-api-key"), ("ANTHROPIC_AUTH_TOKEN", "no subscription's")]
)
def test_a_request_that_does_not_use_the_subscription_is_a_surprise(
    upstream: AnthropicUpstream, claude: Claude, name: str, complaint: str
) -> None:
    end = result(claude.ask("hello", env={name: "sk-ant-api03-" + "x" * 20}))

    assert end.is_error
    assert upstream.surprises
    assert all(complaint in surprise or "no bearer" in surprise for surprise in upstream.surprises)
    assert upstream.prompts == []
    upstream.surprises.clear()


GOOD_HEADERS = {
    "content-type": "application/json",
    "authorization": f"Bearer {TOKEN}",
    "anthropic-beta": "oauth-2025-04-20",
}
GOOD_BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
GOOD_PATH = "/v1/messages?beta=true"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "complaint"),
    [
        ("POST", GOOD_PATH, {}, GOOD_BODY, 200, None),
        ("POST", "/v1/messages", {}, GOOD_BODY, 404, "unexpected path"),
        ("POST", "/v1/messages/count_tokens?beta=true", {}, GOOD_BODY, 404, "unexpected path"),
        ("GET", "/api/oauth/profile", {}, "", 404, "unexpected path"),
        ("GET", GOOD_PATH, {}, "", 404, "unexpected method"),
        ("POST", GOOD_PATH, {"content-type": "text/plain"}, GOOD_BODY, 400, "content-type 'text/plain'"),
        ("POST", GOOD_PATH, {"authorization": "Basic eDp5"}, GOOD_BODY, 400, "no bearer token"),
        ("POST", GOOD_PATH, {"x-api-key": "sk-ant-api03-x"}, GOOD_BODY, 400, "x-api-key"),
        ("POST", GOOD_PATH, {"anthropic-beta": "effort"}, GOOD_BODY, 400, "no subscription's"),
        ("POST", GOOD_PATH, {}, "{", 400, "not JSON"),
        ("POST", GOOD_PATH, {}, "[]", 400, "no JSON object"),
        ("POST", GOOD_PATH, {}, "{}", 400, "no model or no messages"),
    ],
)
def test_what_was_not_expected_is_refused_and_recorded(
    upstream: AnthropicUpstream,
    method: str,
    path: str,
    headers: dict[str, str],
    body: str,
    status: int,
    complaint: str | None,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=DEADLINE_S)
    connection.request(method, path, body, {**GOOD_HEADERS, **headers})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()

    assert answer.status == status
    assert said["type"] == ("error" if complaint else "message")
    assert [complaint is not None and complaint in surprise for surprise in upstream.surprises] == [True] * bool(
        complaint
    )
    upstream.surprises.clear()


def test_a_script_that_fails_is_the_tests_fault_and_says_so(upstream: AnthropicUpstream, claude: Claude) -> None:
    def broken(_: object) -> Reply:
        raise KeyError("nothing by this name")

    upstream.script(broken)

    claude.ask("hello")

    assert upstream.surprises == ["the test's own script failed: KeyError('nothing by this name')"]
    upstream.surprises.clear()
