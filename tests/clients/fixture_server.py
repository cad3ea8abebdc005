"""`llm-mcp-hub serve` with the tools, prompts and resources of the official suite in the place of the hub's own.

Everything else is the hub's: settings, door, sessions, what shapes its answers on the way out. So the suite's scenarios
try the way that the hub's own calls go. What the suite wants of each is told by its `list` and its scenarios.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from llm_mcp_hub import cli, main
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.settings import Settings

Context = ServerRequestContext[Any, Any]
Arguments = Mapping[str, Any]
Tool = Callable[[Context, Arguments], Awaitable[list[types.ContentBlock]]]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA="
SHORT_S = 0.05
"""Between two notifications, as the suite wants them: so that they come as two."""
SCHEMA_TOOL: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
HEADER_TOOL: dict[str, Any] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    "required": ["region"],
}
DEFAULTS: dict[str, Any] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_TITLED = [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)]
ENUMS: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


def text(said: str) -> types.TextContent:
    return types.TextContent(type="text", text=said)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PIXEL, mime_type="image/png")


def embedded(uri: str, mime_type: str, said: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=said)
    return types.EmbeddedResource(type="resource", resource=contents)


# -- tools ----------------------------------------------------------------------------------------------------------


def says(*blocks: types.ContentBlock) -> Tool:
    async def tool(_context: Context, _given: Arguments) -> list[types.ContentBlock]:
        return list(blocks)

    return tool


async def with_logging(context: Context, _given: Arguments) -> list[types.ContentBlock]:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        note = types.LoggingMessageNotification(params=types.LoggingMessageNotificationParams(level="info", data=said))
        await context.session.send_notification(note, related_request_id=context.request_id)
        await asyncio.sleep(SHORT_S)
    return [text("Done.")]


async def with_progress(context: Context, _given: Arguments) -> list[types.ContentBlock]:
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100)
        await asyncio.sleep(SHORT_S)
    return [text("Done.")]


async def sampling(context: Context, given: Arguments) -> list[types.ContentBlock]:
    request = types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(
            messages=[types.SamplingMessage(role="user", content=text(str(given.get("prompt"))))], max_tokens=100
        )
    )
    on_its_stream = ServerMessageMetadata(related_request_id=context.request_id)
    answer = await context.session.send_request(request, types.CreateMessageResult, metadata=on_its_stream)
    return [text(f"LLM response: {getattr(answer.content, 'text', '')}")]


def elicits(properties: Arguments, required: list[str]) -> Tool:
    async def tool(context: Context, given: Arguments) -> list[types.ContentBlock]:
        schema = {"type": "object", "properties": dict(properties), "required": required}
        message = str(given.get("message", "Please tell."))
        answer = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
        return [text(f"User response: action={answer.action}, content={json.dumps(answer.content)}")]

    return tool


async def missing_capability(context: Context, _given: Arguments) -> list[types.ContentBlock]:
    wanted = types.ClientCapabilities(sampling=types.SamplingCapability())
    if not context.session.check_client_capability(wanted):
        data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=wanted)
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs sampling",
            data=data.model_dump(by_alias=True, mode="json", exclude_none=True),
        )
    return [text("Done.")]


TOOLS: Mapping[str, Tool] = {
    "test_simple_text": says(text("This is a simple text response for testing.")),
    "test_image_content": says(image()),
    "test_audio_content": says(types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")),
    "test_embedded_resource": says(
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": says(
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_tool_with_logging": with_logging,
    "test_tool_with_progress": with_progress,
    "test_error_handling": says(text("This tool intentionally returns an error for testing")),
    "test_sampling": sampling,
    "test_elicitation": elicits({"username": {"type": "string"}, "email": {"type": "string"}}, ["username", "email"]),
    "test_elicitation_sep1034_defaults": elicits(DEFAULTS, []),
    "test_elicitation_sep1330_enums": elicits(ENUMS, []),
    "json_schema_2020_12_tool": says(text("Done.")),
    "test_header": says(text("Done.")),
    "test_missing_capability": missing_capability,
}
ANYTHING: dict[str, Any] = {"type": "object"}
SCHEMAS = {"json_schema_2020_12_tool": SCHEMA_TOOL, "test_header": HEADER_TOOL}


async def list_tools(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name, description=f"The suite's {name}.", input_schema=SCHEMAS.get(name, {"type": "object"})
            )
            for name in TOOLS
        ]
    )


async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = TOOLS.get(params.name)
    if tool is None:
        raise MCPError(code=types.INVALID_PARAMS, message="Unknown tool")
    content = await tool(context, params.arguments or {})
    return types.CallToolResult(content=content, is_error=params.name == "test_error_handling")


# -- resources ------------------------------------------------------------------------------------------------------

TEXT, BINARY, TEMPLATE = "test://static-text", "test://static-binary", "test://template/{id}/data"


async def list_resources(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=TEXT, name="text", description="A text.", mime_type="text/plain"),
            types.Resource(uri=BINARY, name="binary", description="A pixel.", mime_type="image/png"),
        ]
    )


async def list_templates(
    _context: Context, _params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[types.ResourceTemplate(uri_template=TEMPLATE, name="template", description="By its id.")]
    )


async def read_resource(_context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = params.uri
    contents: types.TextResourceContents | types.BlobResourceContents
    if uri == BINARY:
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PIXEL)
    elif uri == TEXT:
        said = "This is the content of the static text resource."
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=said)
    elif found := re.fullmatch(r"test://template/(\w+)/data", uri):
        said = json.dumps({"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=said)
    else:
        raise MCPError(code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult(contents=[contents])


async def nothing(_context: Context, _params: Any) -> types.EmptyResult:
    return types.EmptyResult()


# -- prompts --------------------------------------------------------------------------------------------------------

PROMPTS: Mapping[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
}


async def list_prompts(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=f"The suite's {name}.",
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(_context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    given = params.arguments or {}
    blocks: list[types.ContentBlock]
    match params.name:
        case "test_simple_prompt":
            blocks = [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            blocks = [text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]
        case "test_prompt_with_embedded_resource":
            content = embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            blocks = [content, text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            blocks = [image(), text("Please analyze the image above.")]
        case _:
            raise MCPError(code=types.INVALID_PARAMS, message="Unknown prompt")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=block) for block in blocks])


async def complete(_context: Context, _params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=["paris", "park"], total=2, has_more=False))


# -- the server -----------------------------------------------------------------------------------------------------


def fixtures(_hub: Hub, _settings: Settings, updates: Updates | None = None, *_more: object) -> Server[Any]:
    """In the place of `main.build_server`."""
    assert updates is not None
    return Server(  # pyright: ignore[reportDeprecated] - a level for log messages is what the older era's scenarios set
        "fixtures",
        version="1",
        get_tool_input_schema=SCHEMAS.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
        on_subscriptions_listen=updates.listen,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=nothing,
    )


main.build_server = fixtures
sys.exit(cli.main())
