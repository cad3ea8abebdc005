"""The hub's tools: who may see and call which, their arguments in, shaped results out. Knows no provider by name.

The tools are derived from the provider table: a provider named `x` gives `ask_x`. Arguments are checked by our own
strict models, which is why this stands on the SDK's low-level `Server`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import mcp_types as types
import structlog
from mcp.server.context import ServerRequestContext

from llm_mcp_hub.errors import HubError, InvalidRequest, PermissionDenied
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import Attachment, attachment
from llm_mcp_hub.providers.base import Traits
from llm_mcp_hub.serving.arguments import (
    AskArguments,
    CancelArguments,
    ResultArguments,
    Strict,
    schema_of,
    status_arguments,
    validated,
)
from llm_mcp_hub.serving.auth import STATUS, Caller, ask_scope
from llm_mcp_hub.serving.detached import Detached, session_of
from llm_mcp_hub.serving.shapes import cancellation, data, failure, how, listing, outcome, success, ticket
from llm_mcp_hub.serving.underway import was_sent_away

PROGRESS_EVERY_S = 4.0
"""Promised are 5 s; a busy machine is late."""
RESULT_CHARS = 500_000
"""Told to Claude Code, which else shows its model a file path instead of an answer of over 50,000 characters."""
WAITS: Mapping[str, float | None] = {"claude-code": None, "gemini-cli": 540.0}
"""How long clients are known to wait for a call (seconds; None: without end), by the beginning of their names."""
WAIT_S = 50.0
"""Every other: clients that give up after 60 s are common."""


Context = ServerRequestContext[Any, Any]


class Tools:
    """The tools of a hub, for whoever calls them."""

    def __init__(
        self,
        hub: Hub,
        *,
        wait_s: float | None,
        who: Callable[[Context], Caller],
        admit: Callable[[Caller], Awaitable[None]] | None,
        detached: Detached | None,
    ) -> None:
        """The arguments are those of `server.build_server`."""
        self._hub = hub
        self._wait_s = wait_s
        self._who = who
        self._admit = admit
        self._detached = detached
        self._tools = _tools(hub)
        self._asks = {f"ask_{traits.name}": traits for traits in hub.traits}
        self._needed = {"token_status": STATUS} | {name: ask_scope(traits.name) for name, traits in self._asks.items()}
        self._of_status = status_arguments(tuple(traits.name for traits in hub.traits))

    @property
    def names(self) -> list[str]:
        return [tool.name for tool in self._tools]

    async def listed(self, context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Those that the caller may call."""
        return types.ListToolsResult(tools=self._open_to(self._who(context)))

    async def call(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """A call's result; what goes wrong is one too, with its code."""
        caller = self._who(context)
        named = {} if caller.client is None else {"client": caller.client}
        with structlog.contextvars.bound_contextvars(**named):
            try:
                return await self._called(context, caller, params.name, params.arguments or {})
            except HubError as error:
                return failure(error)

    async def _called(self, context: Context, caller: Caller, name: str, given: dict[str, Any]) -> types.CallToolResult:
        if name in self._needed:
            check(caller, self._needed[name])
        if name in self._asks:
            return await self._ask(context, caller, self._asks[name], given)
        if name == "ask_result":
            wanted = validated(ResultArguments, given, None)
            left = self._waits(context, wanted.wait_s)
            return await _result(self._hub, context, wanted, principal=caller.principal, wait_s=left)
        if name == "ask_cancel":
            unwanted = validated(CancelArguments, given, None)
            return cancellation(await self._hub.cancel(caller.principal, unwanted.ask_id))
        if name == "token_status":
            return await _token_status(self._hub, caller, context, validated(self._of_status, given, None))
        known = ", ".join(tool.name for tool in self._open_to(caller))
        raise InvalidRequest("There is no tool of that name.", action=f"Use one of: {known}.")

    async def _ask(
        self, context: Context, caller: Caller, traits: Traits, given: dict[str, Any]
    ) -> types.CallToolResult:
        arguments = validated(AskArguments, given, traits.name)
        if self._admit is not None:
            await self._admit(caller)
        left = self._waits(context, arguments.wait_s)
        call = _asked(self._hub, context, traits, arguments, self._detached, caller=caller, wait_s=left)
        return await (call if self._detached is None else self._detached.run(context, call))

    def _open_to(self, caller: Caller) -> list[types.Tool]:
        return [tool for tool in self._tools if tool.name not in self._needed or caller.may(self._needed[tool.name])]

    def _waits(self, context: Context, given: float | None) -> float | None:
        return next((seconds for seconds in (given, self._wait_s) if seconds is not None), _stands(context))


def check(caller: Caller, scope: str) -> None:
    """Raise PermissionDenied for a caller without this scope."""
    if not caller.may(scope):
        raise PermissionDenied(
            f"This client's token does not have the scope {scope}.",
            action=f"Ask the owner of the hub to give it the scope {scope}, or do without.",
        )


def askable(hub: Hub, caller: Caller) -> tuple[Traits, ...]:
    """The providers that this caller may ask."""
    return tuple(traits for traits in hub.traits if caller.may(ask_scope(traits.name)))


def _stands(context: Context) -> float | None:
    """How long the client at the other end is known to wait."""
    session, named = session_of(context), context.session.client_params
    name = session.client if session is not None else named.client_info.name if named is not None else ""
    return next((seconds for known, seconds in WAITS.items() if name.lower().startswith(known)), WAIT_S)


# -- calls ----------------------------------------------------------------------------------------------------------


async def _asked(
    hub: Hub,
    context: Context,
    traits: Traits,
    given: AskArguments,
    detached: Detached | None,
    *,
    caller: Caller,
    wait_s: float | None,
) -> types.CallToolResult:
    ask = hub.new_ask(
        traits.name,
        given.prompt,
        principal=caller.principal,
        model=given.model,
        system=given.system,
        conversation_id=given.conversation_id,
        effort=given.effort,
        timeout_s=given.timeout_s,
    )
    ask = replace(ask, may_ask=frozenset(each.name for each in askable(hub, caller)))
    ask = await hub.with_material(ask, files=given.files or (), git_diff=_diff(given), attachments=_sent(given, traits))
    running = await hub.begin(ask)

    def state() -> str:
        position = running.watch.position
        return f"place {position} in the queue" if position else f"{running.watch.characters:,} characters"

    named = nullcontext() if detached is None else detached.named(context, running.ask)
    try:
        async with named, _progress(context, f"{traits.title} · {{}} · {{}} s · {ask.ask_id}", state):
            left = None if wait_s is None else max(0.0, ask.arrived + wait_s - time.monotonic())
            ended = await running.ended(left)
        kept = ended or await hub.hand_back(running)
    except asyncio.CancelledError:
        if was_sent_away(context.request):  # it may not be here any more: nobody listens, and nobody has cancelled
            running.handed_back = True
        else:  # it has gone while it waited: cancelled, closed its stream, or ended
            running.handed_back = False  # its ticket has not been sent
            await hub.stop(running)
        raise
    if not ended:
        return ticket(running.snapshot(), kept=kept)
    return success(running.outcome(), quota=hub.logins.quota(traits.name))


def _diff(given: AskArguments) -> GitDiff | None:
    return None if given.git_diff is None else GitDiff(given.git_diff.base, tuple(given.git_diff.paths or ()))


def _sent(given: AskArguments, traits: Traits) -> list[Attachment]:
    return [
        attachment(sent.name, sent.mime_type, sent.text, sent.data, traits.name) for sent in given.attachments or ()
    ]


async def _result(
    hub: Hub, context: Context, given: ResultArguments, *, principal: str, wait_s: float | None
) -> types.CallToolResult:
    if given.ask_id is None:
        return listing(await hub.recent(principal))
    # A caller that leaves takes nothing with it: whoever comes back for an ask does not own its life.
    async with _progress(context, f"{given.ask_id} · {{}} · {{}} s", lambda: "waiting"):
        record = await hub.result(principal, given.ask_id, wait_s)
    return outcome(record, offset=given.offset or 0, quota=hub.logins.quota(record.provider))


async def _token_status(hub: Hub, caller: Caller, context: Context, arguments: Strict) -> types.CallToolResult:
    provider: str | None = getattr(arguments, "provider", None)
    verify = bool(getattr(arguments, "verify", False))
    if verify:  # it spends an ask of each
        for traits in hub.traits:
            if provider in {None, traits.name}:
                check(caller, ask_scope(traits.name))
    async with _progress(context, "{} · {} s", lambda: "asking" if verify else "looking"):
        known = await hub.token_status(provider, verify=verify)
    status = {name: one.model_dump(mode="json") for name, one in known.items()}
    lines = [f"{name}: {one.status} ({how(one)}). {one.message} {one.action}".strip() for name, one in known.items()]
    return data(status, "\n".join(lines))


@asynccontextmanager
async def _progress(context: Context, line: str, state: Callable[[], str]) -> AsyncGenerator[None]:
    """Tell a client that asked for it, at least every 5 s, that the call is alive: idle timers live on that."""
    began = time.monotonic()

    async def report() -> None:
        count = 0
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            count += 1
            message = line.format(state(), round(time.monotonic() - began))
            await context.session.report_progress(count, None, message)

    # A plain task and no task group: an error raised inside a group would reach the client as a group.
    reporter = asyncio.get_running_loop().create_task(report())
    try:
        yield
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)


# -- the list -------------------------------------------------------------------------------------------------------


def _tools(hub: Hub) -> list[types.Tool]:
    reads = types.ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    cancels = types.ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    )
    return [
        *(_ask_tool(traits) for traits in hub.traits),
        types.Tool(
            name="ask_result",
            title="Fetch an answer",
            description="Fetches the answer of an ask that was handed back as a ticket, that a broken connection lost, "
            "or that another program asked, and waits for it if it is not there yet. Costs nothing. Without ask_id it "
            "lists your last asks. A very long answer comes in pages: go on with offset.",
            input_schema=schema_of(ResultArguments),
            annotations=reads,
            _meta={"anthropic/maxResultSizeChars": RESULT_CHARS},
        ),
        types.Tool(
            name="ask_cancel",
            title="Cancel an ask",
            description="Ends an ask that still runs, so that it uses no more of the subscription. What had come of "
            "its answer stays readable with ask_result. Harmless for one that has ended.",
            input_schema=schema_of(CancelArguments),
            annotations=cancels,
        ),
        types.Tool(
            name="token_status",
            title="Status of the logins",
            description="Tells whether the logins that the ask tools use are there and working, until when, and what "
            "to do next, and how that is known. Costs nothing unless verify is set. Use it when an ask failed with an "
            "auth_* code, or before a long piece of work.",
            input_schema=schema_of(status_arguments(tuple(traits.name for traits in hub.traits))),
            annotations=reads,
        ),
    ]


def _ask_tool(traits: Traits) -> types.Tool:
    schema = schema_of(AskArguments)
    schema["properties"]["model"]["description"] = f"{traits.model_hint}. Default: {traits.default_model}."
    if not traits.efforts:
        schema["properties"]["effort"]["description"] = f"{traits.title} cannot be told: leave it out."
    return types.Tool(
        name=f"ask_{traits.name}",
        title=f"Ask {traits.title}",
        description=f"Put a question to {traits.title} and get its whole answer as text. Use it for a second opinion, "
        f"a review or a task that suits {traits.title}. It sees only what you send: the prompt, what you put before it "
        "with files, git_diff or attachments, and the earlier turns of conversation_id. It has no tools. Spends "
        f"{traits.spends}; no API key is ever used.",
        input_schema=schema,
        annotations=types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True
        ),
        _meta={"anthropic/maxResultSizeChars": RESULT_CHARS},
    )
