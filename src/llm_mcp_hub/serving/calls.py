"""What every MCP message goes through: its client's name for the log, a line for a call that came to nothing.

Stands within the SDK's own middleware for OpenTelemetry, which writes the words of any error that passes it into its
span: none of ours gets that far with words that a caller may have chosen.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import mcp_types as types
import structlog
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.methods import SPEC_CLIENT_METHODS, SPEC_CLIENT_NOTIFICATION_METHODS
from pydantic import ValidationError

from llm_mcp_hub.serving.shapes import ERROR_META

NAME_CHARS = 100
"""What the log shows of a name that a client gives."""
TO_MEND = {"invalid_request", "not_found", "permission_denied"}
"""What the hub tells of besides has a line of its own: an ask that ended, or was not accepted."""
OTHER = "other"
METHODS = SPEC_CLIENT_METHODS | SPEC_CLIENT_NOTIFICATION_METHODS
"""Of the protocol, in any of its eras."""
Context = ServerRequestContext[Any, Any]
log = structlog.stdlib.get_logger("llm_mcp_hub.calls")


class Observed:
    """A middleware of the SDK's server.

    Of what a caller wrote the log shows its program's name alone: of a method or a tool only what there is.
    """

    def __init__(self, tools: Collection[str]) -> None:
        """`tools`: the server's."""
        self._tools = tools

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        named = ctx.session.client_params
        program = {} if named is None else {"program": named.client_info.name[:NAME_CHARS]}
        with structlog.contextvars.bound_contextvars(**program):
            try:
                result = await call_next(ctx)
            except MCPError as error:
                _refused(ctx, self._tools, error.error.code)
                raise
            except ValidationError:
                _refused(ctx, self._tools, types.INVALID_PARAMS)
                raise
            except Exception as error:
                log.exception("call broke", error=type(error).__name__, **_call(ctx, self._tools))
                text = "internal: The hub itself failed. See the hub's log."
                raise MCPError(code=types.INTERNAL_ERROR, message=text) from None
            code = _of(result)
            if code in TO_MEND:
                _refused(ctx, self._tools, code)
            return result


def _refused(ctx: Context, tools: Collection[str], code: str | int) -> None:
    log.info("call refused", code=code, **_call(ctx, tools))


def _call(ctx: Context, tools: Collection[str]) -> dict[str, str]:
    """Its method and tool, where there are such."""
    tool = (ctx.params or {}).get("name") if ctx.method == "tools/call" else None
    named = {"tool": tool if tool in tools else OTHER} if isinstance(tool, str) else {}
    return {"method": ctx.method if ctx.method in METHODS else OTHER, **named}


def _of(result: HandlerResult) -> str:
    """The code of a tool's error, as it stands on the wire."""
    wire: dict[str, Any] = result if isinstance(result, dict) else {}
    meta = cast("dict[str, dict[str, Any]]", wire.get("_meta") or {})
    return str((meta.get(ERROR_META) or {}).get("code", ""))
