"""A server of the MCP SDK as its documentation has it, and nothing else: what the hub is held against.

Two tools: a trivial one, and one that puts its prompt to the stand-in by the same plain request as the floor's. Run as
a program of its own, so that nothing of the benchmarks is in its start.

    python benchmarks/bare.py            over stdio
    python benchmarks/bare.py --port 0   over HTTP
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from mcp.server import MCPServer

if TYPE_CHECKING:
    import httpx2

TRIVIAL = "test_simple_text"
REQUEST = "BARE_REQUEST"
"""The variable with the plain request: its URL, its headers, and its body with PROMPT where the prompt goes."""
PROMPT = "{the prompt}"


@cache
def client() -> httpx2.AsyncClient:
    """Made at the first ask, and kept."""
    import httpx2

    return httpx2.AsyncClient(trust_env=False, timeout=300)


def server() -> MCPServer:
    """The server, with its two tools."""
    made = MCPServer("bare")

    @made.tool(name=TRIVIAL, structured_output=False)
    async def simple_text() -> str:  # pyright: ignore[reportUnusedFunction]
        """The suite's trivial tool."""
        return "This is a simple text response for testing."

    @made.tool(name="ask", structured_output=False)
    async def ask(prompt: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Ask by one plain request."""
        request = json.loads(os.environ[REQUEST])
        body = json.dumps(request["body"]).replace(json.dumps(PROMPT), json.dumps(prompt))
        answer = await client().post(request["url"], content=body, headers=request["headers"])
        answer.raise_for_status()
        return answer.text

    return made


if __name__ == "__main__":
    if "--port" in sys.argv:
        import uvicorn

        uvicorn.run(server().streamable_http_app(), host="127.0.0.1", port=0, access_log=False)
    else:
        server().run("stdio")
