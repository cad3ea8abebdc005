"""What clients can read beside the tools: one's conversations, and the status of the logins, which can be watched.

A client of the older era subscribes to a resource and hears of it on its connection; one of 2026-07-28 opens a stream
that carries what it asked for. Only the status of the logins is told of: tools and prompts never change, and who asks
knows of its own conversations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.transcripts import markdown

TOKENS = "hub://tokens"
CONVERSATION = "hub://conversations/{conversation_id}"
_CONVERSATION = re.compile(r"hub://conversations/([A-Za-z0-9_-]{1,100})")
LISTED = 50
WATCHERS = 500
"""Streams of the newer era at once, as many as sessions of the older one."""
TELL_S = 5.0
"""How long a client of the older era may leave what it is told unread before it misses it."""

Context = ServerRequestContext[Any, Any]


async def listed(hub: Hub, principal: str) -> list[types.Resource]:
    """The status of the logins, and the caller's last conversations; without those where the store is away."""
    tokens = types.Resource(uri=TOKENS, name="tokens", title="Status of the logins", mime_type="application/json")
    try:
        conversations = await hub.transcripts.newest(principal, LISTED)
    except HubError:
        conversations = []
    return [
        tokens,
        *(
            types.Resource(
                uri=CONVERSATION.format(conversation_id=head.conversation_id),
                name=head.conversation_id,
                title=head.title,
                description=f"{head.turns} turns, last {head.updated_at}",
                mime_type="text/markdown",
            )
            for head in conversations
        ),
    ]


def templates() -> list[types.ResourceTemplate]:
    """How a conversation is addressed."""
    return [
        types.ResourceTemplate(
            uri_template=CONVERSATION, name="conversation", title="A conversation", mime_type="text/markdown"
        )
    ]


async def read(hub: Hub, principal: str, uri: str) -> types.ReadResourceResult:
    """One resource. Raises MCPError: -32602 for one that is not there, -32603 when it cannot be read now."""
    if uri == TOKENS:
        status = {name: known.model_dump(mode="json") for name, known in (await hub.token_status()).items()}
        return _contents(uri, "application/json", json.dumps(status, indent=2))
    named = _CONVERSATION.fullmatch(uri)
    if named is None:
        raise _not_found(uri)
    try:
        head, turns = await hub.transcripts.get(principal, named[1])
    except HubError as error:
        if error.code == "not_found":
            raise _not_found(uri) from None
        raise MCPError(code=types.INTERNAL_ERROR, message=f"{error.code}: {error.message} {error.action}") from None
    return _contents(uri, "text/markdown", markdown(head, turns))


def _not_found(uri: str) -> MCPError:
    """As SEP-2164 has it: which one, as data."""
    return MCPError(code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri})


class Updates:
    """Who watches `hub://tokens`, of both eras. Has no loop of its own, and may be made before there is one."""

    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self._bus, max_subscriptions=WATCHERS)
        self._connections: set[Connection] = set()
        self._seen: Mapping[str, tuple[object, ...]] = {}

    async def look(self, statuses: Mapping[str, TokenStatus]) -> None:
        """Tell of it if these are not the statuses that were seen last. Each ask is new evidence, and no news."""
        seen = {name: (s.status, s.usable, s.expires_at, s.days_remaining) for name, s in statuses.items()}
        if seen != self._seen:  # so the first look tells too: somebody may have read what was before it
            self._seen = seen
            await self.changed()

    async def changed(self) -> None:
        """Tell everyone who watches that the status of the logins is another one. Never raises."""
        await self._bus.publish(ResourceUpdated(uri=TOKENS))
        await asyncio.gather(*(_tell(connection) for connection in self._connections), return_exceptions=True)

    def close(self) -> None:
        """End the streams of the newer era with grace: else they would hold up a server that waits for its requests."""
        self._streams.close()

    # -- as the protocol calls them ------------------------------------------------------------------------------------

    async def listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """One stream of the newer era. Acknowledged is only what will be told of, whatever else was asked for."""
        asked = params.notifications.resource_subscriptions or []
        told = types.SubscriptionFilter(resource_subscriptions=[TOKENS] if TOKENS in asked else None)
        return await self._streams(context, params.model_copy(update={"notifications": told}))

    async def subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """The older era's. Raises MCPError -32602 for what cannot be watched."""
        if params.uri != TOKENS:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Only {TOKENS} can be watched")
        connection = _connection(context)
        self._connections.add(connection)
        if not connection.state.get(TOKENS):  # once, however often it comes and goes
            connection.state[TOKENS] = True
            connection.exit_stack.callback(self._connections.discard, connection)
        return types.EmptyResult()

    async def unsubscribe(self, context: Context, _params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """The older era's. No error for who never subscribed: it is told of nothing, as it wishes."""
        self._connections.discard(_connection(context))
        return types.EmptyResult()


def advertise(server: Server[Any]) -> None:
    """Let the newer era's `server/discover` say what is told of.

    By itself the SDK takes one that serves streams for one that tells of changed lists, which nobody here does.
    """

    async def discover(context: Context, _params: types.RequestParams) -> types.DiscoverResult:
        found = server.get_capabilities(protocol_version=context.protocol_version)
        quiet = {
            name: getattr(found, name).model_copy(update={"list_changed": False})
            for name in ("tools", "prompts", "resources")
        }
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=found.model_copy(update=quiet),
            instructions=server.instructions,
        )

    server.add_request_handler("server/discover", types.RequestParams, discover)


def _connection(context: Context) -> Connection:
    # The SDK has no public way from a request to its connection, whose end must be heard of: what is sent to a
    # connection that has ended is dropped without a word, and it would be kept for ever.
    return context.session._connection  # pyright: ignore[reportPrivateUsage]


async def _tell(connection: Connection) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TELL_S):
            await connection.send_resource_updated(TOKENS)


def _contents(uri: str, mime_type: str, text: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)])
