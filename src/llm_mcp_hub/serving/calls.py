"""What every MCP message goes through: its client's name for the log, a line for a call that came to nothing.

Stands within the SDK's own middleware for OpenTelemetry, which writes the words of any error that passes it into its
span: none of ours gets that far with words that a caller may have chosen.
"""

from __future__ import annotations

from typing import Any, cast

import mcp_types as types
import structlog
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from llm_mcp_hub.serving.shapes import ERROR_META

NAME_CHARS = 100
"""What the log shows of a name that a client gives."""
TO_MEND = {"invalid_request", "not_found", "permission_denied"}
"""What the hub tells of besides has a line of its own: an ask that ended, or was not accepted."""
log = structlog.stdlib.get_logger("llm_mcp_hub.calls")


async def observed(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """A middleware of the SDK's server."""
    named = ctx.session.client_params
    program = {} if named is None else {"program": named.client_info.name[:NAME_CHARS]}
    with structlog.contextvars.bound_contextvars(**program):
        try:
            result = await call_next(ctx)
        except MCPError as error:
            _refused(ctx, error.error.code)
            raise
        except ValidationError:
            _refused(ctx, types.INVALID_PARAMS)
            raise
        except Exception as error:
            log.exception("call broke", error=type(error).__name__, **_call(ctx))
            text = "internal: The hub itself failed. See the hub's log."
            raise MCPError(code=types.INTERNAL_ERROR, message=text) from None
        code = _code(result)
        if code in TO_MEND:
            _refused(ctx, code)
        return result


def _refused(ctx: ServerRequestContext[Any, Any], code: str | int) -> None:
    log.info("call refused", code=code, **_call(ctx))


def _call(ctx: ServerRequestContext[Any, Any]) -> dict[str, str]:
    """Its method and tool: words of a caller, and no more of them."""
    tool = (ctx.params or {}).get("name") if ctx.method == "tools/call" else None
    return {"method": ctx.method[:NAME_CHARS], **({"tool": tool[:NAME_CHARS]} if isinstance(tool, str) else {})}


def _code(result: HandlerResult) -> str:
    """The code of a tool's error, as it stands on the wire."""
    wire: dict[str, Any] = result if isinstance(result, dict) else {}
    meta = cast("dict[str, dict[str, Any]]", wire.get("_meta") or {})
    return str((meta.get(ERROR_META) or {}).get("code", ""))
