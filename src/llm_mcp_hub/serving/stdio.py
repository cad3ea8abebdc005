"""MCP over stdin and stdout, with an end that leaves nothing behind.

Under the SDK's own runner SIGTERM ends the process at once (children orphaned) and SIGINT hangs, because the thread
that reads stdin cannot be interrupted. Here both cancel the serving, the hub closes its children, and the process is
then left by `os._exit`. End of stdin takes the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from typing import Any, cast

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from llm_mcp_hub.errors import InvalidRequest
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.tools import failure

CLOSE_S = 5.0


def run(hub_maker: Any, server_maker: Any) -> int:
    """Serve until stdin ends or a signal comes. Returns the exit code; does not return while a reader thread blocks.

    Args:
        hub_maker: makes the hub, called on the running loop.
        server_maker: makes the MCP server of that hub.
    """
    asyncio.run(_run(hub_maker, server_maker))
    return 0


async def _run(hub_maker: Any, server_maker: Any) -> None:
    hub: Hub = hub_maker()
    hub.let_go_when_idle = True
    loop = asyncio.get_running_loop()
    serving = loop.create_task(_serve(server_maker(hub)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await asyncio.wait([serving])
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await hub.close()
        hub.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        failed = not serving.cancelled() and serving.exception() is not None
        os._exit(1 if failed else 0)


async def _serve(server: Server[Any]) -> None:
    async with stdio_server() as (read, write), _with_answers_to_the_unreadable(read, write) as readable:
        await server.run(readable, write, server.create_initialization_options())


@contextlib.asynccontextmanager
async def _with_answers_to_the_unreadable(
    read: Any, write: Any
) -> AsyncGenerator[MemoryObjectReceiveStream[SessionMessage | Exception]]:
    """The read stream, where a call that the SDK cannot parse gets a coded answer instead of none at all.

    The SDK's parser refuses half characters (`"\\ud800"`), and then does not answer: the client would wait for ever.
    """
    send: MemoryObjectSendStream[SessionMessage | Exception]
    send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def forward() -> None:
        async with send:
            async for message in read:
                answer = _answer(message) if isinstance(message, Exception) else None
                if answer is not None:
                    await write.send(SessionMessage(answer))
                else:
                    await send.send(message)

    async with anyio.create_task_group() as group:
        group.start_soon(forward)
        yield receive
        group.cancel_scope.cancel()


def _answer(error: Exception) -> types.JSONRPCResponse | types.JSONRPCError | None:
    if not isinstance(error, ValidationError):
        return None
    try:
        line = error.errors(include_url=False)[0]["input"]
        message = cast("dict[str, Any]", json.loads(line))
        number, method = message["id"], message["method"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    if not isinstance(number, int | str) or isinstance(number, bool):
        return None
    if method != "tools/call":
        return types.JSONRPCError(
            jsonrpc="2.0", id=number, error=types.ErrorData(code=types.PARSE_ERROR, message="Parse error")
        )
    fault = InvalidRequest(
        "The arguments hold half of a character (a lone surrogate) or another thing that JSON cannot carry as text.",
        action="Remove it, or send the whole character.",
    )
    result = failure(fault).model_dump(by_alias=True, mode="json", exclude_none=True)
    return types.JSONRPCResponse(jsonrpc="2.0", id=number, result=result)
