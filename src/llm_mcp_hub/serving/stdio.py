"""MCP over stdin and stdout, with an end that leaves nothing behind.

Under the SDK's own runner SIGTERM ends the process at once (children orphaned) and SIGINT hangs, because the thread
that reads stdin cannot be interrupted. Here both cancel the serving, the hub closes its children, and the process is
then left by `os._exit`. End of stdin takes the same way, and so does the death of the process that the client knows.
Asks that were handed back as tickets are brought to their end first, behind the client's back.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.closing import closed
from llm_mcp_hub.serving.signals import LEAVING, on_loop
from llm_mcp_hub.serving.unreadable import answer_to_half_a_character

if TYPE_CHECKING:
    from llm_mcp_hub.serving.front import Front

CLOSE_S = 5.0
"""How long the hub may take to end when its client has gone."""
log = structlog.stdlib.get_logger("llm_mcp_hub.stdio")
FLUSH_S = 2.0
"""The exit does not wait for whoever gathers traces and cannot be reached."""
WATCH_AFTER_S = 5.0
"""Nothing may stand in the way of a client's first calls, and many a hub lives no longer."""


def run(
    hub_maker: Callable[[], Hub],
    server_maker: Callable[[Hub], Server[Any]],
    front: Front | None,
    flush: Callable[[], None] = lambda: None,
) -> int:
    """Serve until the client has gone. Returns the exit code; does not return while a reader thread blocks.

    Args:
        hub_maker: makes the hub, called on the running loop.
        server_maker: makes the MCP server of that hub.
        front: the process that the client knows; None where that is this one.
        flush: sends what is gathered of traces; it may block, and gets little time.
    """
    asyncio.run(_run(hub_maker, server_maker, front, flush))
    return 0


async def _run(
    hub_maker: Callable[[], Hub],
    server_maker: Callable[[Hub], Server[Any]],
    front: Front | None,
    flush: Callable[[], None],
) -> None:
    hub = hub_maker()
    hub.rest.wanted = True
    loop = asyncio.get_running_loop()
    stopped, told = asyncio.Event(), asyncio.Event()
    serving = loop.create_task(_serve(server_maker(hub), stopped))
    watching = loop.create_task(hub.logins.watch(first_after_s=WATCH_AFTER_S))

    if front is not None:
        _at_the_end_of(front.gone, serving.cancel)
    on_loop(LEAVING, lambda _number: serving.cancel())
    try:
        await asyncio.wait([serving, loop.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        if hub.has_tickets:
            if front is not None:
                front.go_on_alone()
            on_loop(LEAVING, lambda _number: told.set())
            rest = [loop.create_task(hub.left_to_themselves()), loop.create_task(told.wait())]
            await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        try:
            await closed(hub, watching, within_s=CLOSE_S)
            log.info("hub ended")
            flushing = loop.run_in_executor(None, flush)
            await asyncio.wait([flushing], timeout=FLUSH_S)
            with contextlib.suppress(OSError):  # a client that has died reads neither
                sys.stdout.flush()
                sys.stderr.flush()
        finally:  # whatever has gone wrong: else the process would wait for its client
            failed = serving.done() and not serving.cancelled() and serving.exception() is not None
            os._exit(1 if failed else 0)


def _at_the_end_of(descriptor: int, then: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        then()

    loop.add_reader(descriptor, ended)


async def _serve(server: Server[Any], stopped: asyncio.Event) -> None:
    """Serve to the end of stdin. Stopped before it, `stopped` is set as soon as no ask runs any more.

    The task itself cannot end then: it waits for the thread that reads stdin, which waits for the client.
    """
    streams = stdio_server(stdin=_claimed_stdin())
    async with streams as (read, write), _with_answers_to_the_unreadable(read, write) as readable:
        try:
            await server.run(readable, write, server.create_initialization_options())
        except asyncio.CancelledError:
            stopped.set()
            raise


def _claimed_stdin() -> anyio.AsyncFile[str]:
    """The client's end of stdin; descriptor 0 itself is at its end from now on, so nobody else reads a message.

    The SDK would do the same, but decode with `replace`: bytes that are no UTF-8 would reach a model as U+FFFD without
    a word. As lone surrogates they are refused. And a line ends at LF alone, not at a CR too.
    """
    wire = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Never closed: a thread that blocks on it outlives the serving.
    stream = os.fdopen(wire, "rb", closefd=False)
    return anyio.wrap_file(io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n"))


@contextlib.asynccontextmanager
async def _with_answers_to_the_unreadable(
    read: Any, write: Any
) -> AsyncGenerator[MemoryObjectReceiveStream[SessionMessage | Exception]]:
    """The read stream, where a call that the SDK cannot parse gets a coded answer instead of none at all.

    See `answer_to_half_a_character`.
    """
    send: MemoryObjectSendStream[SessionMessage | Exception]
    send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def forward() -> None:
        async with send:
            async for message in read:
                if not isinstance(message, Exception):
                    await send.send(message)
                    continue
                # Not handed on: the SDK would write it into a debug log, and a parser's complaint quotes the prompt.
                answer = _answer(message)
                if answer is not None:
                    await write.send(SessionMessage(answer))

    async with anyio.create_task_group() as group:
        group.start_soon(forward)
        yield receive
        group.cancel_scope.cancel()


def _answer(error: Exception) -> types.JSONRPCResponse | types.JSONRPCError | None:
    if not isinstance(error, ValidationError):
        return None
    line: Any = error.errors(include_url=False)[0]["input"]
    if not isinstance(line, str):
        return None
    return answer_to_half_a_character(line) or _answer_to_too_deep(line)


def _answer_to_too_deep(line: str) -> types.JSONRPCError | None:
    """The answer to a request that Python can read and the SDK's parser cannot: it goes 200 levels deep."""
    try:
        asked: Any = json.loads(line)
        number, _method = asked["id"], asked["method"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(number, int | str) or isinstance(number, bool):
        return None
    fault = types.ErrorData(code=types.PARSE_ERROR, message="Parse error: nested too deeply")
    return types.JSONRPCError(jsonrpc="2.0", id=number, error=fault)
