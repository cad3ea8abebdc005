"""What is thrown at a hub over HTTP: messages of both eras that are right, nearly right and wrong.

Knows the protocol's words and the tools' own schemas, and nothing of how the hub reads them. Everything is drawn by
hypothesis, so that what breaks the hub comes back small.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import strategies as st

from tests.unit.strategies import ANY_TEXT, TEXT, any_json, loose

Json = dict[str, Any]
MODERN, LEGACY = "2026-07-28", "2025-11-25"
METHODS = (
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "server/discover",
    "completion/complete",
    "logging/setLevel",
    "tasks/get",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
)
PATHS = ("/health/live", "/health/ready", "/health/tokens", "/metrics", "/mcp", "/", "/nowhere")


@dataclass(frozen=True)
class Input:
    """One request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    kind: str = field(default="", compare=False)
    """What it is of, for the count."""


# Arguments of tools ---------------------------------------------------------------------------------------------------


def fitting(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """What this schema allows, of the words that the tools' schemas use. Raises KeyError for others."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "string":
        # Near both ends of what is allowed; long texts are made of few draws.
        low, high = schema.get("minLength", 0), schema.get("maxLength", 2_000)
        longer = st.tuples(st.characters(), st.integers(low, min(high, 3_000))).map(lambda drawn: drawn[0] * drawn[1])
        return st.one_of(st.text(min_size=low, max_size=min(high, 40)), longer)
    if kind in {"number", "integer"}:
        low, high = schema.get("minimum", -9), schema.get("maximum", 10**9)
        return st.integers(low, high) if kind == "integer" else st.floats(low, high)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        return st.lists(fitting(schema["items"]), max_size=3)
    assert kind == "object", schema
    parts = {name: fitting(part) for name, part in schema["properties"].items()}
    needed = {name: parts.pop(name) for name in schema.get("required", [])}
    return st.fixed_dictionaries(needed, optional=parts)


def nearly(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`value`, one of its members replaced, added or left out."""

    @st.composite
    def changed(draw: st.DrawFn) -> Any:
        whole = draw(value)
        if not isinstance(whole, dict):
            return draw(any_json())
        copy: Json = dict(whole)  # pyright: ignore[reportUnknownArgumentType]
        name = draw(st.one_of(st.sampled_from(sorted(copy)), ANY_TEXT) if copy else ANY_TEXT)
        if name in copy and draw(st.booleans()):
            del copy[name]
        else:
            copy[name] = draw(any_json())
        return copy

    return changed()


@dataclass(frozen=True)
class Known:
    """Names and ids that a hub has, so that not every guess is of nothing."""

    tools: Mapping[str, Mapping[str, Any]]
    """Tools by name, with their schemas."""
    asks: tuple[str, ...]
    conversations: tuple[str, ...]
    files: tuple[str, ...]
    sessions: tuple[str, ...]


def arguments(known: Known, tool: str) -> st.SearchStrategy[Any]:
    """Arguments of a tool: of its schema with ids and files that are there, nearly of its schema, and any."""
    own = fitting(known.tools[tool])
    meant: dict[str, st.SearchStrategy[Any]] = {
        "ask_id": st.sampled_from(known.asks),
        "conversation_id": st.sampled_from(known.conversations),
        "files": st.lists(st.sampled_from(known.files), max_size=2),
        "wait_s": st.floats(0, 0.2),
        "git_diff": st.just({}),
    }

    @st.composite
    def likely(draw: st.DrawFn) -> Json:
        made: Json = draw(own)
        for name in sorted(meant.keys() & made.keys()):
            if draw(st.integers(0, 3)):
                made[name] = draw(meant[name])
        if tool.startswith("ask_") and "prompt" in made:
            made["wait_s"] = draw(meant["wait_s"])  # nobody here waits for a long answer
        return made

    # An ask of Claude's starts a process: most of them have a fault.
    rare = tool == "ask_claude"
    ways = [nearly(likely()), nearly(own), st.dictionaries(ANY_TEXT, any_json(), max_size=3)]
    right, wrong = likely(), st.one_of(ways)
    return st.integers(0, 40 if rare else 5).flatmap(lambda at: right if at == 0 else wrong)


# Messages -------------------------------------------------------------------------------------------------------------


def _tool_call(known: Known, tool: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"name": st.just(tool), "arguments": arguments(known, tool)})


def params(known: Known, method: str) -> st.SearchStrategy[Any]:
    """What may stand in `params` of this method, as a rule of the right shape."""
    if method == "tools/call":
        return st.one_of([_tool_call(known, tool) for tool in known.tools])
    if method == "prompts/get":
        names = st.one_of(st.sampled_from(["second_opinion", "review_code"]), ANY_TEXT)
        words = st.one_of(st.sampled_from(["question", "provider", "base", "focus"]), ANY_TEXT)
        return st.fixed_dictionaries(
            {"name": names}, optional={"arguments": loose(st.dictionaries(words, ANY_TEXT, max_size=3))}
        )
    if method.startswith("resources/") and "list" not in method:
        addresses = [f"hub://conversations/{one}" for one in known.conversations]
        uris = st.one_of(st.sampled_from(["hub://tokens", *addresses]), ANY_TEXT, TEXT.map("hub://".__add__))
        return st.fixed_dictionaries({"uri": loose(uris)})
    if method == "initialize":
        return st.fixed_dictionaries(
            {
                "protocolVersion": loose(st.sampled_from([LEGACY, "2025-06-18", "2024-11-05"])),
                "capabilities": loose(st.just({})),
                "clientInfo": loose(st.fixed_dictionaries({"name": ANY_TEXT, "version": ANY_TEXT})),
            }
        )
    if method == "subscriptions/listen":
        uris = st.lists(st.one_of(st.just("hub://tokens"), ANY_TEXT), max_size=3)
        return st.fixed_dictionaries({"notifications": loose(st.fixed_dictionaries({"resourceSubscriptions": uris}))})
    return st.one_of(st.just({}), st.fixed_dictionaries({"cursor": any_json()}), st.dictionaries(ANY_TEXT, any_json()))


NUMBERS = st.one_of(st.integers(-5, 10**6), ANY_TEXT, st.integers(2**53, 2**80), any_json())
"""Ids of calls."""


def meta(version: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """`_meta` of a call of the newer era, with a progress token now and then."""
    return st.fixed_dictionaries(
        {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": st.fixed_dictionaries({"name": ANY_TEXT, "version": ANY_TEXT}),
            "io.modelcontextprotocol/clientCapabilities": st.just({}),
        },
        optional={"progressToken": any_json()},
    )


@dataclass(frozen=True)
class _Words:
    """Strategies that are made once: to make one costs more than to draw from it."""

    params: Mapping[str, st.SearchStrategy[Any]]
    sessions: st.SearchStrategy[str]
    meta: st.SearchStrategy[Json]
    wrong_meta: st.SearchStrategy[Json]


METHOD = st.one_of(st.just("tools/call"), st.sampled_from(METHODS), st.sampled_from(METHODS))
ERA = st.sampled_from([MODERN, LEGACY])
KIND = st.sampled_from(["call", "call", "call", "call", "message", "bytes", "headers", "any"])
SELDOM = st.integers(0, 9).map(lambda at: at == 0)
ANY_JSON = any_json()
FEW_BYTES = st.binary(max_size=8)
ANY_BODY = st.one_of(ANY_JSON, st.binary(max_size=60))


@st.composite
def calls(draw: st.DrawFn, words: _Words, era: str) -> tuple[str, str | None, Json]:
    """A message that is one of JSON-RPC: its method, the name in it, and itself."""
    method = draw(METHOD)
    given: Any = draw(words.params[method])
    if era == MODERN and isinstance(given, dict):
        given = {**cast("Json", given), "_meta": draw(words.wrong_meta if draw(SELDOM) else words.meta)}
    message: Json = {"jsonrpc": "2.0", "method": method, "params": given}
    if not method.startswith("notifications/") or draw(SELDOM):
        message["id"] = draw(NUMBERS)
    told = cast("Json", given) if isinstance(given, dict) else {}
    name = told.get("name", told.get("uri"))
    return method, name if isinstance(name, str) else None, message


def _in_a_header(text: str) -> str:
    """As the newer era's clients write a name that no header can hold; bytes that are no text have no such form."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode(errors='replace')).decode()}?="


@st.composite
def _messages(draw: st.DrawFn, words: _Words, of_era: Mapping[str, st.SearchStrategy[Any]]) -> Input:
    era = draw(ERA)
    method, name, message = draw(of_era[era])
    headers: dict[str, str] = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if era == MODERN:
        headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if name is not None:
            headers["Mcp-Name"] = _in_a_header(name)
    elif method != "initialize" or draw(SELDOM):
        headers |= {"Mcp-Session-Id": draw(words.sessions), "MCP-Protocol-Version": LEGACY}
    kind = draw(KIND)
    body: Any = message
    if kind == "message":
        body = draw(st.one_of(nearly(st.just(message)), ANY_JSON, st.lists(st.just(message), max_size=3)))
    elif kind == "any":
        body = draw(ANY_BODY)
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    if kind == "bytes":
        at, size = draw(st.integers(0, len(written))), draw(st.integers(0, 8))
        written = written[:at] + draw(FEW_BYTES) + written[at + size :]
    elif kind == "headers":
        for one in draw(CHANGED_HEADERS):
            headers[one] = draw(WRONG_LINE)
    return Input(
        "POST", "/mcp", tuple(headers.items()), written, f"{'newer' if era == MODERN else 'older'} era, {kind}"
    )


def messages(known: Known) -> st.SearchStrategy[Input]:
    """One POST of either era: right, nearly right in its message, bytes or headers, or anything."""
    words = _Words(
        params={method: params(known, method) for method in METHODS},
        sessions=st.sampled_from(known.sessions),
        meta=meta(st.just(MODERN)),
        wrong_meta=meta(ANY_JSON),
    )
    return _messages(words, {era: calls(words, era) for era in (MODERN, LEGACY)})


HEADERS = (
    "Accept",
    "Content-Type",
    "Content-Encoding",
    "Last-Event-ID",
    "MCP-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Param-Model",
    "Mcp-Session-Id",
    "Origin",
    "Range",
    "If-None-Match",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Request-ID",
    "traceparent",
)
LINE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40).map(
    str.strip
)
"""What can stand in a header."""
WRONG_LINE = st.one_of(
    st.sampled_from([MODERN, LEGACY, "2099-01-01", "tools/call", "ask_gemini", "*/*", "text/plain"]), LINE
)
CHANGED_HEADERS = st.lists(st.sampled_from(HEADERS), min_size=1, max_size=3)
PATH = st.sampled_from(PATHS)
MORE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=20)
STRICT = st.sampled_from(["1", "0", "%00", "", "1&strict=2", "%ff"])
VERB = st.sampled_from(["GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"])
SOME_HEADERS = st.lists(st.tuples(st.sampled_from(HEADERS), LINE), max_size=4)
SMALL = st.binary(max_size=20)


@st.composite
def plain(draw: st.DrawFn) -> Input:
    """A request for a route that is no message: any method, any query, any headers."""
    path = draw(PATH)
    if draw(st.booleans()):
        path += draw(MORE)
    if draw(st.booleans()):
        path += "?strict=" + draw(STRICT)
    chosen: dict[str, str] = dict(draw(SOME_HEADERS))
    return Input(draw(VERB), path, tuple(chosen.items()), draw(SMALL), "plain routes")


def inputs(known: Known) -> st.SearchStrategy[Input]:
    """Everything; of five, four are messages."""
    other, message = plain(), messages(known)
    return st.integers(0, 4).flatmap(lambda at: other if at == 0 else message)
