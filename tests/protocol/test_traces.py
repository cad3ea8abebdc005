"""Traces, with the real SDK of OpenTelemetry and a collector: what is in them, whose trace they go on in, what is not.

The SDK is configured from outside, as `opentelemetry-instrument llm-mcp-hub serve` does; the hub has no word in it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp.client import Client
from mcp_types import CallToolResult
from opentelemetry import context, trace

from tests.harness import DEADLINE_S, EVERY_WAY, TOKEN, Era, HttpHub, Line, Transport, World, make_world, open_line
from tests.upstreams import anthropic, google
from tests.upstreams.otlp import Collector, Span

PROMPT = f"prompt {secrets.token_hex(16)}"
ANSWER = f"answer {secrets.token_hex(16)}"
UNREACHABLE = "http://127.0.0.1:9"


@dataclass
class Traced:
    """A world whose hubs send their traces to a collector."""

    world: World
    collector: Collector

    def spans_of(self, trace_id: str, *names: str) -> list[Span]:
        """The spans of one trace by the beginnings of their names, once they have come."""

        def found(name: str) -> Span:
            return self.collector.wait_for(
                lambda span: span.trace == trace_id and span.name.startswith(name), DEADLINE_S
            )

        return [found(name) for name in names]

    def look_for_words(self) -> None:
        """Nothing that was asked or answered, and no token, is in what has been sent."""
        sent = b"".join(received.body for received in self.collector.received)
        assert sent
        assert [word for word in (PROMPT, ANSWER, TOKEN) if word.encode() in sent] == []
        assert self.collector.surprises == []


@contextmanager
def make_traced(folder: Path, **more: str) -> Generator[Traced]:
    with make_world(folder) as world, Collector() as collector:
        world.changes.update(collector.environment(folder / "loaded", **more), HUB_CLAUDE_WARM="0")
        world.claude.default, world.gemini.default = anthropic.Answer(ANSWER), google.Answer(ANSWER)
        yield Traced(world, collector)
        world.wait_until_no_child()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Generator[Traced]:
    with make_traced(tmp_path_factory.mktemp("traces") / "world") as held:
        yield held


@pytest.fixture(scope="module")
def hub(traced: Traced) -> Generator[HttpHub]:
    """One hub over HTTP for both eras."""
    hub = HttpHub(traced.world.environment)
    yield hub
    hub.stop()


@contextmanager
def reached(traced: Traced, request: pytest.FixtureRequest, transport: Transport, era: Era) -> Generator[Line]:
    served = request.getfixturevalue("hub") if transport == "http" else None
    with open_line(traced.world, transport, era, hub=served) as line:
        yield line


def call(line: Line, tool: str, arguments: dict[str, Any]) -> tuple[str, str, CallToolResult]:
    """Call a tool from within a span of ours. Returns the trace's id, that span's id, and the result."""
    ours = trace.SpanContext(
        secrets.randbits(128), secrets.randbits(64), is_remote=False, trace_flags=trace.TraceFlags(1)
    )

    async def within(client: Client) -> CallToolResult:
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(ours)))
        try:
            return await client.call_tool(tool, arguments)
        finally:
            context.detach(token)

    result = line.run(within)
    return trace.format_trace_id(ours.trace_id), trace.format_span_id(ours.span_id), result


@pytest.mark.parametrize(("transport", "era"), EVERY_WAY)
def test_a_call_goes_on_in_its_callers_trace(
    traced: Traced, request: pytest.FixtureRequest, transport: Transport, era: Era
) -> None:
    """Whoever called finds in one trace its call, the ask within it, and which model answered; no word of either."""
    with reached(traced, request, transport, era) as line:
        trace_id, parent, result = call(line, "ask_gemini", {"prompt": PROMPT})
        answer = (result.meta or {})["llm-mcp-hub/answer"]

        served, asked = traced.spans_of(trace_id, "tools/call", "chat")

    assert (served.name, served.kind, served.parent) == ("tools/call ask_gemini", "server", parent)
    assert served.attributes["gen_ai.tool.name"] == "ask_gemini"
    assert (asked.name, asked.kind, asked.parent) == ("chat gemini-2.5-pro", "client", served.id)
    assert {served.service, asked.service} == {"a-hub"}
    attributes = dict(asked.attributes)
    assert attributes.pop("llm_hub.ask.queue_time") >= 0
    assert attributes.pop("gen_ai.response.time_to_first_chunk") >= 0
    attributes.pop("gen_ai.usage.cache_read.input_tokens", None)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.response.model": answer["model"],
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": answer["usage"]["input_tokens"],
        "gen_ai.usage.output_tokens": answer["usage"]["output_tokens"],
        "gen_ai.conversation.id": answer["conversation_id"],
        "llm_hub.ask.id": answer["ask_id"],
    }
    assert not asked.failed
    traced.look_for_words()


def test_an_ask_that_fails_is_told_by_its_code(traced: Traced, hub: HttpHub) -> None:
    """And not in the words of a provider that quotes what it was asked."""
    refusing = google.Error.invalid_argument()
    traced.world.gemini.default = replace(refusing, message=f"{refusing.message} {PROMPT}")
    with open_line(traced.world, "http", "auto", hub=hub) as line:
        trace_id, _parent, _result = call(line, "ask_gemini", {"prompt": PROMPT})
        traced.world.gemini.default = google.Answer(ANSWER)

        served, asked = traced.spans_of(trace_id, "tools/call", "chat")

    assert (asked.failed, asked.said, asked.events) == (True, "", ())
    assert asked.attributes["error.type"] == "invalid_request"
    assert (served.failed, served.said) == (True, "")
    traced.look_for_words()


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ask_gemini", {"prompt": PROMPT, "timeout_s": PROMPT}),
        ("ask_gemini", {"prompt": PROMPT, PROMPT: 1}),
        ("ask_gemini", {"prompt": PROMPT, "conversation_id": "conv_of_nobody"}),
        ("ask_result", {"ask_id": PROMPT}),
    ],
)
def test_a_call_that_comes_to_nothing_is_told_without_its_words(
    traced: Traced, hub: HttpHub, tool: str, arguments: dict[str, Any]
) -> None:
    """The words of whatever refuses it would hold what was refused."""
    with open_line(traced.world, "http", "auto", hub=hub) as line:
        trace_id, _parent, _result = call(line, tool, arguments)

        (served,) = traced.spans_of(trace_id, "tools/call")

    assert served.failed
    traced.look_for_words()


BREAKS = """
import sys
from llm_mcp_hub import hub
def breaks(*_, **given):
    raise ValueError(repr((_, given)))
hub.Hub.new_ask = hub.Hub.recent = breaks
hub.Hub.token_status = breaks
import llm_mcp_hub.cli
sys.exit(llm_mcp_hub.cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("era", ["auto", "legacy"])
def test_a_hub_that_breaks_is_told_without_its_words(traced: Traced, era: Era) -> None:
    """The SDK for MCP writes the words of an error that nobody has thought of into its span: there are none."""
    with ExitStack() as stack:
        broken = HttpHub(traced.world.environment, command=("-c", BREAKS, "serve"))
        stack.callback(broken.stop)
        line = stack.enter_context(open_line(traced.world, "http", era, hub=broken))
        with pytest.raises(Exception, match="The hub itself failed") as raised:
            call(line, "ask_gemini", {"prompt": PROMPT})
        broke = traced.collector.wait_for(lambda span: "The hub itself failed" in span.said, DEADLINE_S)

    assert broke.failed
    assert PROMPT not in str(raised.value)
    assert any('"call broke"' in line and "ValueError" in line for line in broken.log)
    assert PROMPT not in "".join(broken.log)
    traced.look_for_words()


def test_no_cli_is_told_of_a_trace(traced: Traced, hub: HttpHub) -> None:
    """Claude's SDK hands the trace on to its CLI, which would send spans of its own; nothing of all this gets there."""
    world, gate = traced.world, threading.Event()
    world.claude.default, world.gemini.default = anthropic.Answer(ANSWER, gate=gate), google.Answer(ANSWER, gate=gate)
    try:
        with open_line(world, "http", "auto", hub=hub) as line:
            calls = [line.begin(f"ask_{name}", {"prompt": PROMPT}) for name in ("claude", "gemini")]
            world.claude.wait_until(lambda: bool(world.claude.open), timeout=DEADLINE_S)
            world.gemini.wait_until(lambda: bool(world.gemini.open), timeout=DEADLINE_S)
            children = [child.environ() for child in world.children()]
            gate.set()
            for begun in calls:
                assert not begun.result(DEADLINE_S).is_error
    finally:
        gate.set()
        world.claude.default, world.gemini.default = anthropic.Answer(ANSWER), google.Answer(ANSWER)

    hubs = psutil.Process(hub.process.pid).environ()
    assert "OTEL_SERVICE_NAME" in hubs  # it is there to be handed on
    assert len(children) >= 2
    told = [name for child in children for name in child if name.startswith(("OTEL", "TRACE", "PYTHONPATH", "BAGGAGE"))]
    assert told == []


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_last_spans_are_sent_when_the_hub_ends(tmp_path: Path, transport: Transport) -> None:
    """They wait to be sent together, and a stdio hub leaves without the interpreter's own end."""
    with make_traced(tmp_path / "world", OTEL_BSP_SCHEDULE_DELAY="3600000") as held:
        with open_line(held.world, transport, "auto") as line:
            trace_id, _parent, result = call(line, "token_status", {})
            assert not result.is_error
            assert held.collector.spans == []

        (served,) = held.spans_of(trace_id, "tools/call")

    assert served.name == "tools/call token_status"


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_collector_that_is_away_takes_nothing_from_an_ask(tmp_path: Path, transport: Transport) -> None:
    """Nor from the end of the hub."""
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": UNREACHABLE, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with make_traced(tmp_path / "world", **away) as held:
        with open_line(held.world, transport, "auto") as line:
            result = line.call("ask_gemini", {"prompt": PROMPT})
        told = line.log

    assert not result.is_error, result.content
    assert PROMPT not in told
