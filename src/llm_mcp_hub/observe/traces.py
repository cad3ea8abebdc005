"""A span for each ask, in the trace of the call that brought it. Knows OpenTelemetry's API, and nothing of its SDK.

Without an SDK, which whoever runs the hub configures (`opentelemetry-instrument llm-mcp-hub serve`), all of this does
nothing. The SDK for MCP makes the span of the call itself, and goes on in the trace that the call's `_meta` names.
Names are those of the semantic conventions for generative AI; no prompt, no answer, and no word of an error is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Protocol, cast

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.observer import Ending

NAMES = {"claude": "anthropic", "gemini": "gcp.gemini"}
"""What the conventions call a provider; one that they do not know has its own name."""


class Traces:
    """An `Observer`."""

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        """`tracer` instead of the one of this process."""
        self._tracer = tracer or trace.get_tracer("llm_mcp_hub")

    def accepted(self, ask: Ask) -> _Ask:
        """See `Observer`."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": NAMES.get(ask.provider, ask.provider),
            "gen_ai.request.model": ask.model,
            "gen_ai.conversation.id": ask.conversation_id,
            "llm_hub.ask.id": ask.ask_id,
        }
        with _harmless():
            return _Ask(self._tracer.start_span(f"chat {ask.model}", kind=SpanKind.CLIENT, attributes=attributes))
        return _Ask(trace.INVALID_SPAN)

    def refused(self, provider: str, code: str) -> None:
        """See `Observer`: the span of the call itself says that it failed, here why."""
        with _harmless():
            trace.get_current_span().set_attributes({"llm_hub.error.code": code, "llm_hub.provider": provider})


class _Ask:
    """One ask's span."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def tried_again(self, code: str) -> None:
        with _harmless():
            self._span.add_event("tried again", {"error.type": code})

    def ended(self, ending: Ending) -> None:
        with _harmless():
            self._told(ending)
        with _harmless():
            self._span.end()

    def _told(self, ending: Ending) -> None:
        span, answer = self._span, ending.answer
        if ending.queue_ms is not None:
            span.set_attribute("llm_hub.ask.queue_time", ending.queue_ms / 1000)
        if ending.first_text_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", ending.first_text_ms / 1000)
        if answer is None:
            code = "internal" if ending.error is None else ending.error.code
            span.set_attribute("error.type", code)
            span.set_status(StatusCode.ERROR)
            return
        span.set_attributes(
            {
                "gen_ai.response.model": answer.model,
                "gen_ai.response.finish_reasons": [answer.stop_reason],
                "gen_ai.usage.input_tokens": answer.usage.input_tokens,
                "gen_ai.usage.output_tokens": answer.usage.output_tokens,
            }
        )
        if answer.usage.cached_input_tokens is not None:
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", answer.usage.cached_input_tokens)


class _Flushes(Protocol):
    """What an SDK's tracer provider can do beyond the API."""

    def force_flush(self) -> object: ...


def flush() -> None:
    """Send what has been gathered, which may block; for a process that leaves without the interpreter's own end."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        with _harmless():
            cast("_Flushes", provider).force_flush()


@contextlib.contextmanager
def _harmless() -> Generator[None]:
    """An SDK, its samplers and processors are whoever's: no ask may fail by them."""
    with contextlib.suppress(Exception):
        yield
