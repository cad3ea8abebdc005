"""What callers get: answers, tickets, lists and errors as MCP results. Knows the nouns and nothing of how they came.

Answers are text: Claude Code shows its model nothing but `structuredContent` where a result has any. The first block is
the answer and nothing else, the second one line about it, and `_meta` holds all of it for programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import mcp_types as types

from llm_mcp_hub.conversation import Answer, Billing, QuotaWindow, Usage
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.journal import Record

ANSWER_META = "llm-mcp-hub/answer"
ERROR_META = "llm-mcp-hub/error"
PAGE_META = "llm-mcp-hub/page"
ASKS_META = "llm-mcp-hub/asks"
PAGE_CHARS = 400_000
PAGE_BYTES = 480_000
"""A result holds its text twice, for models and for programs, and the official Python client takes no event of over
1 MiB (measured): so what is not ASCII gets shorter pages."""


def success(answer: Answer, *, offset: int = 0, quota: Iterable[QuotaWindow] = ()) -> types.CallToolResult:
    """The answer, or its page from `offset` on; then one line about it; the whole `Answer` for programs."""
    page = _page(answer.text, offset)
    end = offset + len(page)
    meta: dict[str, Any] = {ANSWER_META: {**answer.model_dump(mode="json"), "text": page}}
    about = _about(answer, quota)
    if len(page) != len(answer.text):
        more = end if end < len(answer.text) else None
        meta[PAGE_META] = {"offset": offset, "next_offset": more, "characters": len(answer.text)}
        about += f" · characters {offset:,} to {end:,} of {len(answer.text):,}"
        if more is not None:
            about += f': go on with ask_result(ask_id="{answer.ask_id}", offset={more})'
    return types.CallToolResult(content=[_text(page), _text(about)], _meta=meta)


NOT_KEPT = "the hub's store cannot be reached: until it is back, this ask is known to this hub alone"


def ticket(record: Record, *, kept: bool = True) -> types.CallToolResult:
    """An ask that goes on without the call: how to come back for it, and how far it is. Never its text so far.

    `kept`: whether the store has it.
    """
    characters = len(record.partial_text or "")
    said = (
        f'Still working: call ask_result(ask_id="{record.ask_id}"). {characters:,} characters so far, {record.age_s} s.'
    )
    answer = Answer(
        ask_id=record.ask_id,
        status="working",
        provider=record.provider,
        model=record.model,
        model_source="requested",
        text="",
        conversation_id=record.conversation_id,
        stop_reason="unknown",
        usage=Usage(input_tokens=0, output_tokens=0),
        duration_ms=record.age_s * 1000,
        first_text_ms=None,
        billing=Billing(source="unknown", evidence="none"),
        warnings=() if kept else (NOT_KEPT,),
    )
    about = f"{record.provider} · {record.model} · ask_id: {record.ask_id} · conversation_id: {record.conversation_id}"
    about += "".join(f" · warning: {warning}" for warning in answer.warnings)
    return types.CallToolResult(
        content=[_text(said), _text(about)], _meta={ANSWER_META: answer.model_dump(mode="json")}
    )


def outcome(record: Record, *, offset: int = 0, quota: Iterable[QuotaWindow] = ()) -> types.CallToolResult:
    """A record as `ask_result` tells it."""
    if record.answer is not None:
        return success(record.answer, offset=offset, quota=quota)
    error = record.failure
    return ticket(record) if error is None else failure(error, offset=offset)


def listing(records: list[Record]) -> types.CallToolResult:
    """One's last asks, for somebody who has lost an id."""
    lines = [
        f"{record.ask_id} · {record.status} · {record.provider} · {record.created_at} · {record.title}"
        for record in records
    ]
    kept = ("ask_id", "status", "provider", "model", "conversation_id", "title", "created_at", "updated_at")
    told = [record.model_dump(mode="json", include=set(kept)) for record in records]
    return types.CallToolResult(content=[_text("\n".join(lines) or "There are no asks.")], _meta={ASKS_META: told})


def cancellation(record: Record) -> types.CallToolResult:
    """How an ask stands after somebody wanted it cancelled."""
    return data({"ask_id": record.ask_id, "status": record.status}, f"{record.ask_id}: {record.status}")


def failure(error: HubError, *, offset: int = 0) -> types.CallToolResult:
    """A coded error: what happened and the next step, short; text that had arrived as a second block."""
    text = f"{error.code}: {error.message} {error.action}"
    if error.retry_after_s is not None:
        text += f" (Again in {error.retry_after_s:.0f} s.)"
    details = error.details()
    content: list[types.ContentBlock] = [_text(text)]
    meta: dict[str, Any] = {ERROR_META: details}
    if error.partial_text:
        page = _page(error.partial_text, offset)
        end = offset + len(page)
        details["partial_text"] = page
        if end < len(error.partial_text):
            meta[PAGE_META] = {"offset": offset, "next_offset": end, "characters": len(error.partial_text)}
        content.append(_text(page))
    return types.CallToolResult(content=content, is_error=True, _meta=meta)


def how(status: TokenStatus) -> str:
    """How a status is known, and since when."""
    evidence = status.evidence
    if evidence is None:
        return "nothing found"
    return f"{evidence.level.replace('_', '-')} by {evidence.source}, {evidence.observed_at}"


def data(held: dict[str, Any], text: str) -> types.CallToolResult:
    """Data, with its text for clients that show only that."""
    return types.CallToolResult(content=[_text(text)], structured_content=held)


def _page(text: str, offset: int) -> str:
    """What fits into one result, from `offset` on; whole characters, and what belongs together is not cut if short."""
    page = text[offset : offset + PAGE_CHARS]
    while (size := len(json.dumps(page, ensure_ascii=False).encode())) > PAGE_BYTES:
        page = page[: max(1, len(page) * PAGE_BYTES // size - 1)]
    return page


def _about(answer: Answer, quota: Iterable[QuotaWindow]) -> str:
    usage = f"{answer.usage.input_tokens:,} tokens in, {answer.usage.output_tokens:,} out"
    parts = [
        f"{answer.provider} · {answer.model} ({answer.model_source})",
        usage,
        f"paid by: {answer.billing.source}",
        f"ask_id: {answer.ask_id}",
    ]
    if answer.conversation_id:
        parts.append(f"conversation_id: {answer.conversation_id}")
    if answer.stop_reason != "end_turn":
        parts.append(f"stopped: {answer.stop_reason}")
    parts += [
        f"{window.window.replace('_', ' ')} limit: {window.used_fraction:.0%} used"
        for window in quota
        if window.used_fraction is not None
    ]
    parts += [f"warning: {warning}" for warning in answer.warnings]
    return " · ".join(parts)


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)
