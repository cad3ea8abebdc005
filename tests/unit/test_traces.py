"""An ask's span: what it says, and that whatever is plugged in behind it takes nothing from the ask."""

from __future__ import annotations

from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llm_mcp_hub.conversation import Answer, Ask, Billing, Usage
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.observe import traces
from llm_mcp_hub.observe.traces import Traces
from llm_mcp_hub.observer import Ending

PROMPT = "what somebody asked"
ASK = Ask("ask_x", "claude", PROMPT, "sonnet", PROMPT, 60.0, conversation_id="conv_x")
ANSWER = Answer(
    ask_id="ask_x",
    status="completed",
    provider="claude",
    model="claude-sonnet-5-5",
    model_source="served",
    text=PROMPT,
    conversation_id="conv_x",
    stop_reason="max_tokens",
    usage=Usage(input_tokens=30, output_tokens=4, cached_input_tokens=20),
    duration_ms=2_000,
    first_text_ms=900,
    billing=Billing(source="subscription", evidence="fuse"),
    warnings=(PROMPT,),
)


def span_of(ending: Ending, *again: str) -> ReadableSpan:
    """The span of an ask that ends so, after these tries."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    following = Traces(provider.get_tracer("test")).accepted(ASK)
    for code in again:
        following.tried_again(code)
    assert exporter.get_finished_spans() == ()
    following.ended(ending)
    (span,) = exporter.get_finished_spans()
    assert PROMPT not in span.to_json()
    return span


def test_an_answer_is_told_by_the_conventions_names() -> None:
    """Whatever reads traces of models finds the same names as of any other program."""
    span = span_of(Ending(ANSWER, None, 2_000, queue_ms=20, first_text_ms=900), "upstream_error")

    assert (span.name, span.kind, span.status.status_code) == ("chat sonnet", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "sonnet",
        "gen_ai.response.model": "claude-sonnet-5-5",
        "gen_ai.response.finish_reasons": ("max_tokens",),
        "gen_ai.response.time_to_first_chunk": 0.9,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.conversation.id": "conv_x",
        "llm_hub.ask.id": "ask_x",
        "llm_hub.ask.queue_time": 0.02,
    }
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("tried again", {"error.type": "upstream_error"})
    ]


@pytest.mark.parametrize("error", [None, *HubError.__subclasses__()], ids=lambda kind: getattr(kind, "code", "none"))
def test_a_failure_is_told_by_its_code(error: type[HubError] | None) -> None:
    """Its words may be a provider's."""
    failure = None if error is None else error(PROMPT, action=PROMPT, partial_text=PROMPT)
    span = span_of(Ending(None, failure, 5))

    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert (span.attributes or {})["error.type"] == ("internal" if error is None else error.code)


class Broken:
    """A tracer, a span, a provider: nothing of it works."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("made up")


class Starts:
    """A tracer whose spans do not work."""

    def start_span(self, *_: object, **__: object) -> Any:
        return Broken()


@pytest.mark.parametrize("kind", [Broken, Starts])
def test_an_sdk_that_breaks_takes_nothing_from_an_ask(kind: type[object]) -> None:
    """Samplers, processors and exporters are whoever's."""
    held = Traces(cast("trace.Tracer", kind()))
    following = held.accepted(ASK)
    following.tried_again("timeout")
    following.ended(Ending(ANSWER, None, 5))
    held.refused("claude", "busy")

    assert following is not None


def test_without_an_sdk_nothing_is_gathered() -> None:
    """As it is for most: no span, and nothing to send."""
    following = Traces().accepted(ASK)
    following.ended(Ending(ANSWER, None, 5))
    traces.flush()

    assert not trace.get_current_span().get_span_context().is_valid
