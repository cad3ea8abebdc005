"""Ask both providers the same question, over HTTP, and print the answers side by side.

    python examples/compare.py http://127.0.0.1:8000/mcp "What is a pseudo-terminal?"

Needs only the official MCP client (`pip install mcp`) and a hub that serves (`llm-mcp-hub serve`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.client import Client


def text_of(result: Any) -> str:
    """The answer, or what went wrong and the next step: both are the first block."""
    return result.content[0].text


async def compare(url: str, question: str) -> int:
    """Ask both at once. Returns 0 when both answered."""
    async with Client(url) as client:
        claude, gemini = await asyncio.gather(
            client.call_tool("ask_claude", {"prompt": question}),
            client.call_tool("ask_gemini", {"prompt": question}),
        )
    for name, result in (("Claude", claude), ("Gemini", gemini)):
        print(f"--- {name} ---\n{text_of(result)}\n")
    return 1 if claude.is_error or gemini.is_error else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} URL QUESTION")
    sys.exit(asyncio.run(compare(sys.argv[1], sys.argv[2])))
