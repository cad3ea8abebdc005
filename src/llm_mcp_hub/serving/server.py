"""The MCP server of a hub: its tools, prompts and resources behind the protocol's requests, for any transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from llm_mcp_hub.errors import PermissionDenied
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving import prompts, resources
from llm_mcp_hub.serving.auth import CALLER, STATUS, Caller
from llm_mcp_hub.serving.calls import Observed
from llm_mcp_hub.serving.detached import Detached
from llm_mcp_hub.serving.tools import Context, Tools, askable, check

INSTRUCTIONS = (
    "Puts questions to other large language models with the subscriptions that the owner already pays for. "
    "They answer in text only: they see nothing but what is sent to them, have no tools and read no files. "
    "An answer that takes long comes as a ticket: fetch it with ask_result. Nothing that was asked is lost: "
    "ask_result without an ask_id lists the last asks."
)


def the_owner(_context: Context) -> Caller:
    """Whose call it is where a hub has one user: over stdio."""
    return Caller()


def by_request(context: Context) -> Caller:
    """Whose call it is over HTTP, by the very request that brought it: a session of the older era has many."""
    request: Any = context.request
    caller: Caller = request.scope[CALLER]
    return caller


def build_server(
    hub: Hub,
    version: str,
    *,
    wait_s: float | None = None,
    updates: resources.Updates | None = None,
    who: Callable[[Context], Caller] = the_owner,
    admit: Callable[[Caller], Awaitable[None]] | None = None,
    detached: Detached | None = None,
) -> Server[Any]:
    """The MCP server of a hub, for any transport.

    Args:
        hub: what answers.
        version: the hub's own.
        wait_s: how long calls wait, whichever client makes them.
        updates: who watches the logins, for whoever has to end it.
        who: tells whose call it is.
        admit: counts an ask of a caller; raises Busy where it is one too many.
        detached: lets calls outlive their connections, where the SDK keeps no sessions; then it cannot tell a client of
            the older era of a change either.
    """
    updates = updates or resources.Updates()
    hub.logins.watchers.append(updates.look)
    tools = Tools(hub, wait_s=wait_s, who=who, admit=admit, detached=detached)
    reading = _Reading(hub, updates, who)
    server: Server[Any] = Server(
        "llm-mcp-hub",
        version=version,
        title=f"LLM hub: {' and '.join(traits.title for traits in hub.traits)} by subscription",
        instructions=INSTRUCTIONS,
        on_list_tools=tools.listed,
        on_call_tool=tools.call,
        on_list_prompts=reading.list_prompts,
        on_get_prompt=reading.get_prompt,
        on_list_resources=reading.list_resources,
        on_list_resource_templates=reading.list_templates,
        on_read_resource=reading.read_resource,
        on_subscribe_resource=reading.subscribe if detached is None else None,
        on_unsubscribe_resource=updates.unsubscribe if detached is None else None,
        on_subscriptions_listen=reading.listen,
    )
    resources.advertise(server)
    server.middleware.append(Observed(tools.names))
    return server


class _Reading:
    """What spends nothing: prompts to fill in, resources to read and to watch, each for those who may."""

    def __init__(self, hub: Hub, updates: resources.Updates, who: Callable[[Context], Caller]) -> None:
        self._hub = hub
        self._updates = updates
        self._who = who

    async def list_prompts(
        self, context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=prompts.listed(askable(self._hub, self._who(context))))

    async def get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        return prompts.filled(params.name, params.arguments or {}, askable(self._hub, self._who(context)))

    async def list_resources(
        self, context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=await resources.listed(self._hub, self._who(context).principal))

    async def list_templates(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.templates())

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        caller = self._who(context)
        if params.uri == resources.TOKENS:
            _check_status(caller)
        return await resources.read(self._hub, caller.principal, params.uri)

    async def subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        _check_status(self._who(context))
        return await self._updates.subscribe(context, params)

    async def listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        if not self._who(context).may(STATUS):  # acknowledged is what will be told of: nothing
            nothing = params.notifications.model_copy(update={"resource_subscriptions": None})
            params = params.model_copy(update={"notifications": nothing})
        return await self._updates.listen(context, params)


def _check_status(caller: Caller) -> None:
    try:
        check(caller, STATUS)
    except PermissionDenied as error:
        text = f"{error.code}: {error.message} {error.action}"
        raise MCPError(code=types.INVALID_REQUEST, message=text) from None
