"""The MCP surface: tools in, shaped results out. Knows the hub and the protocol's types, no provider by name.

The tools are derived from the provider table: a provider named `x` gives `ask_x`. Arguments are checked by our own
strict models (the SDK's would coerce, drop unknown names and quote the prompt in its complaint), which is why this
stands on the SDK's low-level `Server`. Answers are text only: Claude Code shows its model nothing but
`structuredContent` where a result has any.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar, cast

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_mcp_hub.conversation import PROMPT_LIMIT, Answer, Ask, whole
from llm_mcp_hub.errors import HubError, InvalidRequest
from llm_mcp_hub.hub import Hub, Watch
from llm_mcp_hub.providers.base import Traits

PROGRESS_EVERY_S = 4.0
"""Promised are 5 s; a busy machine is late."""
RESULT_CHARS = 500_000
"""Told to Claude Code, which else shows its model a file path instead of an answer of over 50,000 characters."""

ANSWER_META = "llm-mcp-hub/answer"
ERROR_META = "llm-mcp-hub/error"

INSTRUCTIONS = (
    "Puts questions to other large language models with the subscriptions that the owner already pays for. "
    "They answer in text only: they see nothing but the prompt, have no tools and read no files."
)


class Strict(BaseModel):
    """No coercion, no unknown names, and complaints that do not quote what was given."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


A = TypeVar("A", bound=Strict)


class AskArguments(Strict):
    """Arguments of every `ask_*` tool."""

    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=PROMPT_LIMIT,
            description="The question. It reaches the model character for character; nothing in it is expanded or run.",
        ),
    ]
    model: Annotated[str | None, Field(default=None, max_length=100)]
    system: Annotated[
        str | None,
        Field(
            default=None,
            max_length=PROMPT_LIMIT,
            description="Instruction for the model, before the prompt.",
        ),
    ]
    timeout_s: Annotated[
        float | None,
        Field(
            default=None,
            ge=1,
            le=3600,
            description="Seconds from now until the whole answer must be there. Default: the hub's HUB_ASK_TIMEOUT_S "
            "(600 if unset).",
        ),
    ]


def _status_arguments(providers: tuple[str, ...]) -> type[Strict]:
    class StatusArguments(Strict):
        """Arguments of `token_status`."""

        provider: Annotated[
            Literal[providers] | None,  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]
            Field(default=None, description="One provider; all of them if left out."),
        ]

    return StatusArguments


def build_server(hub: Hub, version: str) -> Server[Any]:
    """The MCP server of a hub, for any transport."""
    tools = _tools(hub)
    asks = {f"ask_{traits.name}": traits for traits in hub.traits}
    status_arguments = _status_arguments(tuple(traits.name for traits in hub.traits))

    async def list_tools(
        _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        given = params.arguments or {}
        try:
            if params.name in asks:
                return await _ask(hub, context, asks[params.name], given)
            if params.name == "token_status":
                return _token_status(hub, _validated(status_arguments, given, None))
        except HubError as error:
            return failure(error)
        known = ", ".join(tool.name for tool in tools)
        return failure(InvalidRequest("There is no tool of that name.", action=f"Use one of: {known}."))

    return Server(
        "llm-mcp-hub",
        version=version,
        title="LLM hub: Claude and Gemini by subscription",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


# -- calls ----------------------------------------------------------------------------------------------------------


async def _ask(
    hub: Hub, context: ServerRequestContext[Any, Any], traits: Traits, given: Mapping[str, Any]
) -> types.CallToolResult:
    arguments = _validated(AskArguments, given, traits.name)
    ask = hub.new_ask(
        traits.name,
        arguments.prompt,
        model=arguments.model,
        system=arguments.system,
        timeout_s=arguments.timeout_s,
    )
    watch = Watch()
    async with _progress(context, ask, traits.title, watch):
        answer = await hub.ask(ask, watch)
    return success(answer)


def _token_status(hub: Hub, arguments: Strict) -> types.CallToolResult:
    provider: str | None = getattr(arguments, "provider", None)
    status = {name: known.model_dump(mode="json") for name, known in hub.token_status(provider).items()}
    lines = [
        f"{name}: {known['status']}. {known['message']} {known['action']}".strip() for name, known in status.items()
    ]
    return types.CallToolResult(
        content=[types.TextContent(type="text", text="\n".join(lines))], structured_content=status
    )


def _validated(model: type[A], given: Mapping[str, Any], provider: str | None) -> A:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        named = ", ".join(model.model_fields)
        first = faults[0]
        where = str(first["loc"][0]) if first["loc"] else "arguments"
        if first["type"] == "extra_forbidden":
            # The name is the caller's text: a client that mixes names and values up could have put a prompt there.
            raise InvalidRequest("An argument is unknown.", action=f"Use only: {named}.", provider=provider) from None
        if first["type"] == "string_unicode":
            raise _half_a_character(provider) from None
        action = _ADVICE.get(first["type"], "Correct {}.").format(where)
        raise InvalidRequest(f"{where}: {first['msg']}.", action=action, provider=provider) from None


_ADVICE = {
    "missing": "Give {}.",
    "string_type": "Give {} as a text.",
    "float_type": "Give {} as a number.",
    "string_too_short": "Give {} with text in it.",
    "string_too_long": "Shorten {}.",
    "greater_than_equal": "Give a larger {}.",
    "less_than_equal": "Give a smaller {}.",
}
"""The next step by the kind of fault, as pydantic names it."""


def _half_a_character(provider: str | None) -> InvalidRequest:
    return InvalidRequest(
        "The arguments hold half of a character (a lone surrogate) or bytes that are no text.",
        action="Remove it, or send the whole character.",
        provider=provider,
    )


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
    result = failure(_half_a_character(None)).model_dump(by_alias=True, mode="json", exclude_none=True)
    return types.JSONRPCResponse(jsonrpc="2.0", id=number, result=result)


@asynccontextmanager
async def _progress(
    context: ServerRequestContext[Any, Any], ask: Ask, title: str, watch: Watch
) -> AsyncGenerator[None]:
    """Tell a client that asked for it, at least every 5 s, that the ask is alive: idle timers live on that."""
    began = time.monotonic()

    async def report() -> None:
        count = 0
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            count += 1
            state = f"place {watch.position} in the queue" if watch.position else f"{watch.characters:,} characters"
            message = f"{title} · {state} · {round(time.monotonic() - began)} s · {ask.ask_id}"
            await context.session.report_progress(count, None, message)

    # A plain task and no task group: an error raised inside a group would reach the client as a group.
    reporter = asyncio.get_running_loop().create_task(report())
    try:
        yield
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)


# -- shapes ---------------------------------------------------------------------------------------------------------


def success(answer: Answer) -> types.CallToolResult:
    """The answer and nothing else, then one line about it; the whole `Answer` for programs."""
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text=answer.text),
            types.TextContent(type="text", text=_about(answer)),
        ],
        _meta={ANSWER_META: answer.model_dump(mode="json")},
    )


def _about(answer: Answer) -> str:
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
    parts += [f"warning: {warning}" for warning in answer.warnings]
    return " · ".join(parts)


def failure(error: HubError) -> types.CallToolResult:
    """A coded error: what happened and the next step, short; text that had arrived as a second block."""
    text = f"{error.code}: {error.message} {error.action}"
    if error.retry_after_s is not None:
        text += f" (Again in {error.retry_after_s:.0f} s.)"
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
    if error.partial_text:
        content.append(types.TextContent(type="text", text=error.partial_text))
    return types.CallToolResult(content=content, is_error=True, _meta={ERROR_META: error.details()})


def _tools(hub: Hub) -> list[types.Tool]:
    tools = [_ask_tool(traits) for traits in hub.traits]
    names = tuple(traits.name for traits in hub.traits)
    tools.append(
        types.Tool(
            name="token_status",
            title="Status of the logins",
            description="Tells whether the logins that the ask tools use are there and working, until when, and what "
            "to do next. Costs nothing. Use it when an ask failed with an auth_* code, or before a long piece of work.",
            input_schema=_schema(_status_arguments(names)),
            annotations=types.ToolAnnotations(
                read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
            ),
        )
    )
    return tools


def _ask_tool(traits: Traits) -> types.Tool:
    schema = _schema(AskArguments)
    schema["properties"]["model"]["description"] = f"{traits.model_hint}. Default: {traits.default_model}."
    return types.Tool(
        name=f"ask_{traits.name}",
        title=f"Ask {traits.title}",
        description=f"Put a question to {traits.title} and get its whole answer as text. Use it for a second opinion, "
        f"a review or a task that suits {traits.title}. It sees only the prompt: no files, no tools, no earlier asks, "
        f"so put everything it needs into the prompt. Spends {traits.spends}; no API key is ever used.",
        input_schema=schema,
        annotations=types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True
        ),
        _meta={"anthropic/maxResultSizeChars": RESULT_CHARS},
    )


def _schema(model: type[Strict]) -> dict[str, Any]:
    """The model's JSON schema as clients like it: no titles, and an optional argument is simply not required."""
    schema = model.model_json_schema()
    for held in [schema, *schema["properties"].values()]:
        held.pop("title", None)
    schema.pop("description", None)
    for name, held in schema["properties"].items():
        options = held.pop("anyOf", None)
        if options is not None:
            schema["properties"][name] = {**next(o for o in options if o.get("type") != "null"), **held}
            schema["properties"][name].pop("default", None)
    return schema
