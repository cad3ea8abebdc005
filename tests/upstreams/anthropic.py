"""A scriptable stand-in of Anthropic's Messages API, for the real Claude CLI to talk to.

It knows the wire: which requests the CLI makes of its base URL, and what the API answers. It does not know
the hub, the SDK, or what a caller makes of an answer. How the *real* API words its answers is known from its
documents and from what the CLI looks for, not measured.

Point the CLI at it with `ANTHROPIC_BASE_URL=upstream.url`. That moves the Messages API only: a few calls of the CLI
ignore it, so a test also keeps those from leaving the machine (`HTTPS_PROXY` at a port where nobody listens).
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast

from aiohttp import web

from .loopback import LoopbackServer, Received

Status: TypeAlias = Literal["allowed", "allowed_warning", "rejected"]
Limit: TypeAlias = Literal["5-hour", "weekly", "opus"]
Json: TypeAlias = dict[str, Any]

HOUR, DAY = 3600, 86400


def seconds_from_now(seconds: int) -> int:
    """A time as the rate-limit headers give it: whole seconds since 1970."""
    return int(time.time()) + seconds


# What a subscription has left ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """One window of a subscription's limit: how much of it is used, and when it starts anew."""

    utilization: float = 0.0
    reset: int = field(default_factory=lambda: seconds_from_now(HOUR))
    status: Status = "allowed"
    surpassed_threshold: float | None = None
    """Setting it makes the CLI report `allowed_warning` for this window."""


def _five_hour() -> Window:
    return Window(0.12, seconds_from_now(2 * HOUR))


def _seven_day() -> Window:
    # Used slower than the week goes by: the CLI turns "allowed" into a warning for a week that is used up too fast.
    return Window(0.05, seconds_from_now(3 * DAY))


@dataclass(frozen=True)
class RateLimits:
    """The `anthropic-ratelimit-unified-*` headers of an answer. None leaves a header out."""

    status: Status = "allowed"
    representative_claim: str | None = "five_hour"
    """The limit that `status` and `reset` speak of: five_hour, seven_day, seven_day_opus, overage, ..."""
    reset: int | None = None
    """None: that of the window the claim names."""
    five_hour: Window | None = field(default_factory=_five_hour)
    seven_day: Window | None = field(default_factory=_seven_day)
    overage_status: Status | None = None
    overage_reset: int | None = None
    overage_disabled_reason: str | None = None
    """org_level_disabled, out_of_credits, overage_not_provisioned, ..."""
    overage_in_use: bool | None = None

    @staticmethod
    def overage(status: Status = "allowed") -> RateLimits:
        """The subscription is used up, and this very answer is paid for on top (`isUsingOverage` in the CLI)."""
        # isUsingOverage is: unified status rejected, and overage status not. overage-in-use alone does not set it.
        return RateLimits(
            status="rejected",
            five_hour=Window(1.0, seconds_from_now(2 * HOUR), "rejected"),
            overage_status=status,
            overage_reset=seconds_from_now(20 * DAY),
            overage_in_use=True,
        )

    def headers(self) -> dict[str, str]:
        windows = {"5h": self.five_hour, "7d": self.seven_day}
        claimed = {"five_hour": self.five_hour, "seven_day": self.seven_day}.get(self.representative_claim or "")
        values: dict[str, str | float | None] = {
            "status": self.status,
            "representative-claim": self.representative_claim,
            "reset": self.reset if self.reset is not None else claimed and claimed.reset,
            "overage-status": self.overage_status,
            "overage-reset": self.overage_reset,
            "overage-disabled-reason": self.overage_disabled_reason,
            "overage-in-use": None if self.overage_in_use is None else str(self.overage_in_use).lower(),
        }
        for name, window in windows.items():
            if window is not None:
                values[f"{name}-status"] = window.status
                values[f"{name}-reset"] = window.reset
                values[f"{name}-utilization"] = window.utilization
                values[f"{name}-surpassed-threshold"] = window.surpassed_threshold
        return {
            f"anthropic-ratelimit-unified-{name}": str(value) for name, value in values.items() if value is not None
        }


# What can be answered -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A text, streamed if the request says so, and whole otherwise."""

    text: str = ""
    chunks: int | Sequence[str] | None = None
    """How the text is cut into deltas: into so many, or exactly these (then `text` is ignored). None: one."""
    delay_s: float = 0.0
    """Before the first byte."""
    chunk_delay_s: float = 0.0
    """Before each delta but the first."""
    gate: threading.Event | None = None
    """Nothing is sent before it is set: lets a test hold many answers at once, without a sleep."""
    gate_after: int = 0
    """So many deltas of text are sent before the gate is looked at, if the answer streams."""
    stop_reason: str = "end_turn"
    input_tokens: int = 11
    output_tokens: int = 7
    cache_read: int = 0
    model: str | None = None
    """None: the model that was asked for."""
    thinking: str = ""
    """If any, comes first, as a block of its own."""
    texts_before: Sequence[str] = ()
    """Text blocks before the one of `text`: a model that thinks in between says more than one."""
    rate_limits: RateLimits | None = None

    @staticmethod
    def refusal(text: str = "") -> Answer:
        """The model declined."""
        return Answer(text, stop_reason="refusal")

    @staticmethod
    def cut_short(text: str) -> Answer:
        """The model reached max_tokens."""
        return Answer(text, stop_reason="max_tokens")

    @property
    def pieces(self) -> list[str]:
        if self.chunks is None:
            return [self.text] if self.text else []
        if not isinstance(self.chunks, int):
            return list(self.chunks)
        bounds = [len(self.text) * n // self.chunks for n in range(self.chunks + 1)]
        return [self.text[start:end] for start, end in pairwise(bounds) if start < end]


@dataclass(frozen=True)
class ToolCall:
    """Bait: the model asks for a tool. What the CLI sends back is kept in `tool_results`."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rate_limits: RateLimits | None = None


@dataclass(frozen=True)
class Error:
    """An HTTP error, in the API's own shape."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    rate_limits: RateLimits | None = None

    @staticmethod
    def unauthorized() -> Error:
        """401: the token is wrong or has run out."""
        return Error(401, "authentication_error", "Invalid bearer token")

    @staticmethod
    def revoked() -> Error:
        """403: the token was taken back."""
        return Error(403, "permission_error", "OAuth token has been revoked. Please obtain a new token.")

    @staticmethod
    def org_not_allowed() -> Error:
        """403: the organization does not let subscriptions in this way."""
        return Error(403, "permission_error", "OAuth authentication is currently not allowed for this organization.")

    @staticmethod
    def quota(limit: Limit = "5-hour", *, reset: int | None = None) -> Error:
        """429: the subscription's limit is reached; says when it resets."""
        claim = {"5-hour": "five_hour", "weekly": "seven_day", "opus": "seven_day_opus"}[limit]
        reset = reset if reset is not None else seconds_from_now(2 * HOUR if limit == "5-hour" else 3 * DAY)
        full = Window(1.0, reset, "rejected")
        limits = RateLimits(
            status="rejected",
            representative_claim=claim,
            reset=reset,
            five_hour=full if limit == "5-hour" else _five_hour(),
            seven_day=full if limit == "weekly" else _seven_day(),
            overage_status="rejected",
            overage_disabled_reason="org_level_disabled",
        )
        return Error(429, "rate_limit_error", "This request would exceed your account's rate limit.", {}, limits)

    @staticmethod
    def rate_limited(*, retry_after: int | None = None) -> Error:
        """429 that says nothing of the subscription: too many requests just now."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        return Error(429, "rate_limit_error", "Number of requests has exceeded your rate limit.", headers)

    @staticmethod
    def credit_balance() -> Error:
        """400: what only an API key's account can get; with a subscription, a sign that a key was used."""
        return Error(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. "
            "Please go to Plans & Billing to upgrade or purchase credits.",
        )

    @staticmethod
    def model_not_found(model: str = "no-such-model") -> Error:
        """404: no such model, or not for this subscription."""
        return Error(404, "not_found_error", f"model: {model}")

    @staticmethod
    def prompt_too_long(tokens: int = 1_200_000, limit: int = 1_000_000) -> Error:
        """400: more than the model's context holds."""
        return Error(400, "invalid_request_error", f"prompt is too long: {tokens} tokens > {limit} maximum")

    @staticmethod
    def bad_request(message: str = "messages: text content blocks must be non-empty") -> Error:
        """400: any other."""
        return Error(400, "invalid_request_error", message)

    @staticmethod
    def too_large() -> Error:
        """413: more bytes than the API takes."""
        return Error(413, "request_too_large", "Request exceeds the maximum size")

    @staticmethod
    def server_error(status: Literal[500, 503] = 500) -> Error:
        """500 or 503."""
        return Error(status, "api_error", "Internal server error" if status == 500 else "Service unavailable")

    @staticmethod
    def overloaded() -> Error:
        """529."""
        return Error(529, "overloaded_error", "Overloaded")


@dataclass(frozen=True)
class StreamError:
    """A stream that begins well, and then says that it failed."""

    after_text: str = ""
    type: str = "overloaded_error"
    message: str = "Overloaded"


@dataclass(frozen=True)
class Hang:
    """Sends nothing more until the caller hangs up, which is recorded as `disconnected`."""

    after_text: str = ""
    before_headers: bool = True
    """Not even headers are sent; without effect if there is an `after_text`."""


@dataclass(frozen=True)
class Cut:
    """Closes the connection in the middle of the answer."""

    after_text: str = ""
    gate: threading.Event | None = None
    """Closed when it is set. Without it the caller may lose the text along with the connection."""


@dataclass(frozen=True)
class Reset:
    """Resets the connection (RST) before any byte of an answer."""


@dataclass(frozen=True)
class Malformed:
    """Something that is not JSON where JSON belongs; then the answer ends, in order."""

    after_text: str = ""


Reply: TypeAlias = Answer | ToolCall | Error | StreamError | Hang | Cut | Reset | Malformed
Script: TypeAlias = Reply | Callable[[Received], Reply]
"""A reply, or what finds it from the request; it runs in the stand-in's thread and must not block."""


# What was asked -----------------------------------------------------------------------------------------------------


def last_user_texts(received: Received) -> list[str]:
    """The text blocks of the last user message, verbatim."""
    return [block["text"] for block in _last_user_blocks(received) if block.get("type") == "text"]


def all_blocks(received: Received) -> list[tuple[str, list[Json]]]:
    """The whole conversation: role and content blocks of each message, as the API takes them."""
    body = cast(Json, received.json)
    return [(str(message.get("role", "")), _blocks(message.get("content", []))) for message in _messages(body)]


def system_texts(received: Received) -> list[str]:
    """The text blocks of the system prompt, then those of system messages in the conversation, verbatim."""
    body = cast(Json, received.json)
    sources: list[object] = [body.get("system", [])]
    sources += [message.get("content", []) for message in _messages(body) if message.get("role") == "system"]
    return [block["text"] for source in sources for block in _blocks(source) if block.get("type") == "text"]


def _messages(body: Json) -> list[Json]:
    return cast(list[Json], body.get("messages", []))


def _blocks(content: object) -> list[Json]:
    """Content as the API takes it: a string stands for one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else cast(list[Json], content)


def _last_user_blocks(received: Received) -> list[Json]:
    messages = [m for m in _messages(cast(Json, received.json)) if m.get("role") == "user"]
    return _blocks(messages[-1].get("content", [])) if messages else []


# The stand-in -------------------------------------------------------------------------------------------------------


class AnthropicUpstream(LoopbackServer):
    """Answers `POST /v1/messages?beta=true` of a subscription, as scripted; refuses and records all else."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(self._answer_messages, port=port)
        self.default: Script = Answer("Hello from the stand-in of Claude.")
        """What is answered when no script is left."""
        self.prompts: list[str] = []
        """Per accepted request, what the last user message asks: its text without what the CLI added."""
        self.tool_results: list[str] = []
        """What came back for a ToolCall, once each."""
        self._scripts: deque[Script] = deque()
        self._tools_answered: set[str] = set()

    def script(self, *replies: Script) -> None:
        """Queue replies, one per request, in this order. Callable from any thread."""
        self._scripts.extend(replies)

    @property
    def unused(self) -> int:
        """How many scripted replies nobody asked for yet."""
        return len(self._scripts)

    def clear(self) -> None:
        """Forget what arrived and what is scripted, and be as in the beginning."""
        self._scripts.clear()
        self._tools_answered.clear()
        self.default = Answer("Hello from the stand-in of Claude.")
        self.received.clear()
        self.prompts.clear()
        self.tool_results.clear()
        self.surprises.clear()

    async def _answer_messages(self, request: web.Request, received: Received) -> web.StreamResponse:
        refused = _refusal_of(received)
        if refused is not None:
            self.surprises.append(f"{received.method} {received.host}{received.path}: {refused.message}")
            return _error_response(refused)
        self._note(received)
        script = self._scripts.popleft() if self._scripts else self.default
        try:
            reply = script(received) if callable(script) else script
        except Exception as error:
            # Left alone, aiohttp would log it and answer 500, and the test would look for the fault in the CLI.
            self.surprises.append(f"the test's own script failed: {error!r}")
            return _error_response(Error.server_error())
        self.changed()  # by what the script has noted
        return await _perform(reply, request, received)

    def _note(self, received: Received) -> None:
        self.prompts.append(_prompt(last_user_texts(received)))
        for block in _last_user_blocks(received):
            # A request that is sent again carries the same results again.
            if block.get("type") == "tool_result" and block["tool_use_id"] not in self._tools_answered:
                self._tools_answered.add(block["tool_use_id"])
                self.tool_results.append("".join(part.get("text", "") for part in _blocks(block.get("content", []))))


ADDED_BY_THE_CLI = {
    "[Request interrupted by user]",
    "[Your previous response had no visible output. Please continue and produce a user-visible response.]",
    (
        "Output token limit hit. Resume directly — no apology, no recap of what you were doing. "
        "Pick up mid-thought if that is where the cut happened. Break remaining work into smaller pieces."
    ),
    (
        "Your response above was stopped by a safety classifier — this is not a tool or API error. "
        "The rest of it was withheld, and tool calls in it that had not finished did not run. "
        "Do not produce that content again, even reworded."
    ),
}
"""What version 2.1.330 puts into user messages by itself, when contained. Whole texts, for a prompt that only looks
like the CLI's own (`<system-reminder>` ...) has to be seen in `prompts`."""


def _prompt(texts: Sequence[str]) -> str:
    # The CLI ends each text that another one follows with a line break of its own.
    asked = [text.removesuffix("\n") for text in texts[:-1]] + list(texts[-1:])
    return "\n".join(text for text in asked if text not in ADDED_BY_THE_CLI)


def _refusal_of(received: Received) -> Error | None:
    """Why this is not the request of a contained CLI with a subscription's token, if it is not."""
    headers = received.headers
    if (received.path, received.query) != ("/v1/messages", {"beta": "true"}):
        return Error(404, "not_found_error", f"unexpected path, query {received.query}")
    if received.method != "POST":
        return Error(404, "not_found_error", "unexpected method")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _bad(f"unexpected content-type {headers.get('content-type')!r}")
    if not headers.get("authorization", "").startswith("Bearer "):
        return _bad(f"no bearer token; headers: {sorted(headers)}")
    if "x-api-key" in headers:
        return _bad("an x-api-key: an API key must never be used")
    if "oauth-2025-04-20" not in headers.get("anthropic-beta", ""):
        # The CLI sends it with a subscription's token only, and the real API takes no such token without it.
        return _bad(f"a bearer that is no subscription's; anthropic-beta: {headers.get('anthropic-beta')!r}")
    try:
        body: object = received.json
    except ValueError as error:
        return _bad(f"the body is not JSON: {error}")
    if not isinstance(body, dict):
        return _bad("the body is no JSON object")
    fields = cast(Json, body)
    if not isinstance(fields.get("model"), str) or not fields.get("messages"):
        return _bad(f"no model or no messages; the body has {sorted(fields)}")
    return None


def _bad(message: str) -> Error:
    return Error(400, "invalid_request_error", message)


# The wire -----------------------------------------------------------------------------------------------------------


async def _perform(reply: Reply, request: web.Request, received: Received) -> web.StreamResponse:
    body = cast(Json, received.json)
    streams = bool(body.get("stream"))
    model = str(body["model"])
    match reply:
        case Error():
            return _error_response(reply)
        case Answer():
            await asyncio.sleep(reply.delay_s)
            held = bool(reply.gate_after) and streams
            if not held:
                await _opened(reply.gate)
            model = reply.model or model
            if not streams:
                return _json_response(_whole(reply, model), reply.rate_limits)
            return await _stream(request, _answer_events(reply, model), reply.rate_limits, reply.chunk_delay_s, reply)
        case ToolCall():
            if not streams:
                return _json_response(_tool_message(reply, model), reply.rate_limits)
            return await _stream(request, _tool_events(reply, model), reply.rate_limits)
        case StreamError(after_text, kind, message):
            if not streams:
                return _error_response(Error(529 if kind == "overloaded_error" else 500, kind, message))
            failed = {"type": "error", "error": {"type": kind, "message": message}}
            response = await _begin(request, after_text, model, streams)
            await response.write(_event(failed))
            return response
        case Malformed(after_text):
            response = await _begin(request, after_text, model, streams)
            await response.write(b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": \n\n')
            return response
        case Hang(after_text, before_headers):
            if after_text or not before_headers:
                await _begin(request, after_text, model, streams)
            await asyncio.Event().wait()
            raise AssertionError("unreachable: the handler is cancelled when the caller hangs up")
        case Cut(after_text, gate):
            response = await _begin(request, after_text, model, streams)
            await _opened(gate)
            if request.transport is not None:
                request.transport.close()
            return response
        case Reset():
            if request.transport is not None:
                # Lingering for no time at all is what makes the kernel send RST where it would send FIN.
                raw = cast(socket.socket, request.transport.get_extra_info("socket"))
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.transport.abort()
            return web.Response()


async def _opened(gate: threading.Event | None) -> None:
    while gate is not None and not gate.is_set():
        # Looked at again and again, for a thread that waits could not be cancelled when the caller hangs up.
        await asyncio.sleep(0.005)


async def _begin(request: web.Request, text: str, model: str, streams: bool) -> web.StreamResponse:
    """An answer as far as the end of `text`, its text block still open; if it does not stream, half a JSON object."""
    if streams:
        start = _message_start(Answer(), model)
        return await _stream(request, [start, *_text_block(0, [text])[:-1]] if text else [start])
    response = web.StreamResponse(headers={"content-type": "application/json", **_identity()})
    await response.prepare(request)
    await response.write(b'{"id": "msg_of_the_stand_in", "content": [')
    return response


async def _stream(
    request: web.Request,
    events: Sequence[Json],
    limits: RateLimits | None = None,
    delay_s: float = 0.0,
    held: Answer | None = None,
) -> web.StreamResponse:
    """Send headers and events; the answer stays open for more. `held`: whose gate is looked at on the way."""
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **_identity(limits)}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    deltas = 0
    for event in events:
        if event["type"] == "content_block_delta":
            deltas += 1
            if delay_s and deltas > 1:
                await asyncio.sleep(delay_s)
            if held is not None and held.gate_after and deltas == held.gate_after + 1:
                await _opened(held.gate)
        await response.write(_event(event))
    return response


def _event(event: Json) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), _dump(event))


def _identity(limits: RateLimits | None = None) -> dict[str, str]:
    return {"request-id": "req_of_the_stand_in", **(limits.headers() if limits is not None else {})}


def _json_response(body: Json, limits: RateLimits | None = None) -> web.Response:
    return web.Response(body=_dump(body), content_type="application/json", headers=_identity(limits))


def _error_response(error: Error) -> web.Response:
    body = {
        "type": "error",
        "error": {"type": error.type, "message": error.message},
        "request_id": "req_of_the_stand_in",
    }
    headers = {**_identity(error.rate_limits), **error.headers}
    return web.Response(status=error.status, body=_dump(body), content_type="application/json", headers=headers)


def _dump(value: Json) -> bytes:
    # As UTF-8 and not as escapes, like the API; what UTF-8 cannot say (half a surrogate pair) goes as an escape.
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _message(model: str, content: list[Json], stop_reason: str | None, usage: Json) -> Json:
    return {
        "id": f"msg_{time.monotonic_ns()}",  # never twice the same, as with the API
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(answer: Answer, output_tokens: int) -> Json:
    return {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cache_read,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _whole(answer: Answer, model: str) -> Json:
    content: list[Json] = []
    if answer.thinking:
        content.append({"type": "thinking", "thinking": answer.thinking, "signature": "c3RhbmQtaW4="})
    content += [{"type": "text", "text": text} for text in answer.texts_before]
    if answer.pieces:
        content.append({"type": "text", "text": "".join(answer.pieces)})
    return _message(model, content, answer.stop_reason, _usage(answer, answer.output_tokens))


def _tool_message(call: ToolCall, model: str) -> Json:
    content: Json = {"type": "tool_use", "id": _tool_id(), "name": call.name, "input": dict(call.input)}
    return _message(model, [content], "tool_use", _usage(Answer(), 7))


def _tool_id() -> str:
    # Never twice the same: by its id the CLI tells a new call from one that it has answered.
    return f"toolu_{time.monotonic_ns()}"


def _answer_events(answer: Answer, model: str) -> list[Json]:
    blocks: list[list[Json]] = []
    if answer.thinking:
        said: Json = {"type": "thinking_delta", "thinking": answer.thinking}
        signed: Json = {"type": "signature_delta", "signature": "c3RhbmQtaW4="}
        blocks.append(_block(len(blocks), {"type": "thinking", "thinking": "", "signature": ""}, [said, signed]))
    for text in answer.texts_before:
        blocks.append(_text_block(len(blocks), [text]))
    if answer.pieces:
        blocks.append(_text_block(len(blocks), answer.pieces))
    return [
        _message_start(answer, model),
        *[event for block in blocks for event in block],
        *_ending(answer.stop_reason, answer.output_tokens),
    ]


def _tool_events(call: ToolCall, model: str) -> list[Json]:
    begun: Json = {"type": "tool_use", "id": _tool_id(), "name": call.name, "input": {}}
    given: Json = {"type": "input_json_delta", "partial_json": json.dumps(dict(call.input))}
    return [_message_start(Answer(), model), *_block(0, begun, [given]), *_ending("tool_use", 7)]


def _message_start(answer: Answer, model: str) -> Json:
    return {"type": "message_start", "message": _message(model, [], None, _usage(answer, 1))}


def _text_block(index: int, pieces: Sequence[str]) -> list[Json]:
    return _block(index, {"type": "text", "text": ""}, ({"type": "text_delta", "text": piece} for piece in pieces))


def _block(index: int, begun: Json, deltas: Iterable[Json]) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _ending(stop_reason: str, output_tokens: int) -> list[Json]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output_tokens}},
        {"type": "message_stop"},
    ]
