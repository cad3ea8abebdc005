"""The main job, shown: a real MCP client calls `ask_claude`, `ask_gemini` and `token_status` on the hub.

Without arguments both real CLIs run against the stand-ins in `tests/upstreams`, in a private home with made-up
logins: no account is needed and nothing leaves this machine. `--live` uses the owner's own logins and settings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    import httpx2
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client

    from tests.harness import HttpHub, make_world
    from tests.upstreams import anthropic, google
except KeyboardInterrupt:  # this takes a second, in which people change their minds
    sys.exit(130)

QUESTION = "In one sentence: what is a pseudo-terminal?"
HUB = [sys.executable, "-m", "llm_mcp_hub"]


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def show(title: str, result: Any, seconds: float) -> bool:
    """Print what a call gave. Returns whether it was an answer."""
    say(f"  {title}  ({seconds:.2f} s)")
    for block in result.content:
        for line in block.text.splitlines():
            say(f"    {line}")
    return not result.is_error


async def call_the_tools(client: Client) -> bool:
    """Call the three tools once each. Returns whether all went well."""
    well = True
    for tool, arguments in (
        ("token_status", {}),
        ("ask_claude", {"prompt": QUESTION}),
        ("ask_gemini", {"prompt": QUESTION}),
    ):
        began = time.monotonic()
        result = await client.call_tool(tool, arguments)
        well &= show(tool, result, time.monotonic() - began)
    return well


@contextmanager
def stand_in_environment() -> Generator[dict[str, str]]:
    """The stand-ins and a private home; yields the hub's whole environment."""
    with tempfile.TemporaryDirectory(prefix="llm-mcp-hub-demo-") as folder, make_world(Path(folder)) as world:
        world.claude.default = anthropic.Answer("A pseudo-terminal is a terminal made of software. (Claude's stand-in)")
        world.gemini.default = google.Answer("It is a pair of devices that acts as a terminal. (Gemini's stand-in)")
        yield world.environment
        if world.surprises:
            raise SystemExit(f"the stand-ins were surprised: {world.surprises}")


@contextmanager
def live_environment() -> Generator[dict[str, str]]:
    """The owner's own environment, as it is, but for the clients whose tokens the owner's own hub may want."""
    with tempfile.TemporaryDirectory(prefix="llm-mcp-hub-demo-") as folder:
        own = {"HUB_GEMINI_COMMAND": str(ROOT / "gemini-cli/node_modules/.bin/gemini"), **os.environ}
        yield {**own, "HUB_CLIENTS_FILE": str(Path(folder) / "clients.json")}


def new_token(environment: Mapping[str, str]) -> str:
    """The token of a client of this demonstration alone."""
    added = subprocess.run(
        [*HUB, "client", "add", "demo"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return added.stdout.decode().strip()


@asynccontextmanager
async def over_http(url: str, token: str) -> AsyncGenerator[Any]:
    """The way to a hub that wants a token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as plain,
        streamable_http_client(url, http_client=plain) as streams,
    ):
        yield streams


async def demonstrate(environment: dict[str, str]) -> bool:
    """Both transports, then the shell command. Returns whether all went well."""
    say("1. Over stdio, as Claude Code, Claude Desktop, Cursor and VS Code start it:")
    quiet = {**environment, "LOG_LEVEL": "ERROR"}
    async with Client(StdioServerParameters(command=HUB[0], args=HUB[1:], env=quiet)) as client:
        well = await call_the_tools(client)

    say("\n2. Over streamable HTTP on loopback (`llm-mcp-hub serve`), warm after the first ask:")
    token = new_token(environment) if "HUB_CLIENTS_FILE" in environment else ""
    hub = HttpHub(environment)
    try:
        async with Client(over_http(f"{hub.url}/mcp", token)) as client:
            await client.call_tool("ask_gemini", {"prompt": "warm up"})
            well &= await call_the_tools(client)
    finally:
        well &= hub.stop() == 0

    say('\n3. From a shell: llm-mcp-hub ask gemini "…"')
    command = [*HUB, "ask", "gemini", QUESTION]
    asked = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False
    )
    say(f"    {asked.stdout.strip()}\n    {asked.stderr.strip()}")
    return well and asked.returncode == 0


def main() -> int:
    """Run the demonstration. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", action="store_true", help="use your own logins")
    live = parser.parse_args().live
    if live:
        say("Live: this spends a little of your own subscriptions.\n")
    else:
        say("Both real CLIs against the bundled stand-ins: no account, nothing leaves this machine.\n")
    try:
        with live_environment() if live else stand_in_environment() as environment:
            well = asyncio.run(demonstrate(environment))
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130
    say("\nAll of it worked." if well else "\nSomething failed; see above.")
    if well is not live:
        say(f"{'With your own logins' if well else 'Next'}: .venv/bin/llm-mcp-hub setup")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
