"""Calls of the older era that outlive their connection, where replicas serve it without sessions of the SDK's.

There the SDK ends a call with its connection; the specification wants a lost connection to be no wish to cancel. So
an ask's call runs as a task of its own, which ends by its answer, and by its client's explicit wish, which may come to
any replica. Knows sessions and the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import Cancelled, HubError
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.sealed import SEALED, Session, call_of
from llm_mcp_hub.serving.shapes import failure

Context = ServerRequestContext[Any, Any]
log = structlog.stdlib.get_logger("llm_mcp_hub.detached")


def session_of(context: Context) -> Session | None:
    """The sealed session that a call came in; None in the newer era, over stdio, and where the SDK keeps sessions."""
    request: Any = context.request
    found: Session | None = None if request is None else request.scope.get(SEALED)
    return found


class Detached:
    """The calls of one hub that are on their way."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._calls: dict[tuple[str, str], asyncio.Task[CallToolResult]] = {}
        self._beside: set[asyncio.Task[None]] = set()

    async def run(self, context: Context, call: Awaitable[CallToolResult]) -> CallToolResult:
        """The result of a call, which goes on if its connection is lost."""
        name = _name(context)
        if name is None:
            return await call
        task = asyncio.get_running_loop().create_task(_failing(call))
        self._calls[name] = task
        task.add_done_callback(lambda _: self._over(name, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                log.debug("connection lost, its call goes on")
                raise
            return failure(Cancelled("This call was cancelled.", action="Ask again if you still want an answer."))

    @asynccontextmanager
    async def named(self, context: Context, ask: Ask) -> AsyncGenerator[None]:
        """As long as a call waits for its ask, whichever replica hears that it is called off knows which one to end."""
        name = _name(context)
        if name is None:
            yield
            return
        with contextlib.suppress(HubError):  # the store is away: then it can be called off here alone
            if not await self._hub.begun.note(*name, ask.ask_id):
                await self._hub.cancel(ask.principal, ask.ask_id)
        try:
            yield
        finally:
            with contextlib.suppress(HubError):
                await self._hub.begun.forget(*name)

    def call_off(self, session: Session, call: int | str) -> None:
        """End the ask of a call, wherever it runs. By itself: nobody waits for the answer to a notification."""
        name = session.id, call_of(call)
        here = self._calls.get(name)
        if here is not None:
            here.cancel()
            return
        task = asyncio.get_running_loop().create_task(self._call_off(session, name))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def close(self) -> None:
        """End all calls, before their hub is closed."""
        tasks: list[asyncio.Task[Any]] = [*self._calls.values(), *self._beside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _call_off(self, session: Session, name: tuple[str, str]) -> None:
        try:
            ask_id = await self._hub.begun.called_off(*name)
            if ask_id is not None:
                await self._hub.cancel(session.principal, ask_id)
        except HubError as error:
            log.warning("not called off", code=error.code, reason=error.message)

    def _over(self, name: tuple[str, str], task: asyncio.Task[CallToolResult]) -> None:
        if self._calls.get(name) is task:  # a client may use an id twice
            del self._calls[name]


def _name(context: Context) -> tuple[str, str] | None:
    """What a call is known by at every replica: its session, and its id there."""
    session = session_of(context)
    return None if session is None or context.request_id is None else (session.id, call_of(context.request_id))


async def _failing(call: Awaitable[CallToolResult]) -> CallToolResult:
    """A call whose errors are results: nobody may be left to hear of one."""
    try:
        return await call
    except HubError as error:
        return failure(error)
