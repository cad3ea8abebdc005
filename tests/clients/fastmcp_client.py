"""What a program does with FastMCP's client, told as lines of JSON. Run by the venv that has it.

argv: how the hub is reached, {"url", "token"} or {"command", "args", "env"}.
"""
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError


def tell(what: str, value: Any) -> None:
    sys.stdout.write(json.dumps([what, value]) + "\n")


async def main(reach: dict[str, Any]) -> None:
    transport: Any = (
        StreamableHttpTransport(reach["url"], auth=reach["token"]) if "url" in reach else StdioTransport(**reach)
    )
    async with Client(transport) as client:
        tell("tools", [tool.name for tool in await client.list_tools()])
        answer = await client.call_tool("ask_gemini", {"prompt": "Who are you?"})
        tell("answer", [answer.content[0].text, answer.meta["llm-mcp-hub/answer"]["text"]])
        status = await client.call_tool("token_status", {})
        tell("status", {name: known["status"] for name, known in status.structured_content.items()})
        refused = {"prompt": "Who are you?", "model": "gpt-4"}
        try:
            await client.call_tool("ask_claude", refused)
        except ToolError as error:
            tell("raised", str(error))
        error = await client.call_tool("ask_claude", refused, raise_on_error=False)
        tell("error", error.meta["llm-mcp-hub/error"]["code"])
        prompt = await client.get_prompt("second_opinion", {"question": "Why?"})
        tell("prompt", prompt.messages[0].content.text)
        tell("resources", [str(resource.uri) for resource in await client.list_resources()])


asyncio.run(main(json.loads(sys.argv[1])))
