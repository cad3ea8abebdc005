"""Messages that the SDK's parser refuses, and the answer that they get from us: to the call, and quoting nothing."""

from __future__ import annotations

import json
from typing import Any, cast

import mcp_types as types

from llm_mcp_hub.conversation import whole
from llm_mcp_hub.serving.arguments import half_a_character
from llm_mcp_hub.serving.shapes import failure


def answer_to_half_a_character(message: str | bytes) -> types.JSONRPCResponse | types.JSONRPCError | None:
    """The answer to a message that is JSON and still cannot be read, because it holds half of a character.

    The SDK's parser refuses such a one (`"\\ud800"`) without an answer to the call: a client would wait for ever.
    None for a message that has another fault, or wants no answer.
    """
    try:
        given: Any = json.loads(message)
        text = json.dumps(given, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    if whole(text) == text:
        return None
    asked = cast("dict[str, Any]", given if isinstance(given, dict) else {})
    number = asked.get("id")
    if not isinstance(number, int | str) or isinstance(number, bool):
        return None
    if isinstance(number, str) and whole(number) != number:
        number = None  # it cannot be written either
    if number is None or asked.get("method") != "tools/call":
        fault = types.ErrorData(code=types.PARSE_ERROR, message="Parse error: half of a character (a lone surrogate)")
        return types.JSONRPCError(jsonrpc="2.0", id=number, error=fault)
    result = failure(half_a_character(None)).model_dump(by_alias=True, mode="json", exclude_none=True)
    return types.JSONRPCResponse(jsonrpc="2.0", id=number, result=result)


def without_quotation(refusal: bytes) -> types.JSONRPCError | None:
    """The SDK's refusal of what is no JSON-RPC message, without what was sent: its own shows that, and so a prompt.

    None for a refusal that quotes nothing.
    """
    try:
        refused = types.JSONRPCError.model_validate_json(refusal)
    except ValueError:
        return None
    if not refused.error.message.startswith("Validation error"):
        return None
    fault = types.ErrorData(code=refused.error.code, message="Validation error: this is no message of JSON-RPC 2.0")
    return types.JSONRPCError(jsonrpc="2.0", id=refused.id, error=fault)
