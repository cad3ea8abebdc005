"""What the hub's HTTP adds to a call, against a bare server of the MCP SDK with the same trivial tool. One run.

The same tool stands behind the hub's door, once for this machine's owner and once for a client with a token; beside it
is the hub's own `token_status`. Both protocol eras, 1, 16 and 64 clients at once, all servers running, blocks in turns.
Then what a session of the older era weighs, how long each takes to start, and how often `/health/tokens` is answered.

    make bench          or: python benchmarks/over_http.py [--seconds N] [--blocks N]

(Not named http.py: in this folder that would stand before Python's own `http`.)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402 - after the path is set
import psutil  # noqa: E402

from tests.harness import HttpHub, World, make_world, run_command  # noqa: E402

MODERN, LEGACY = "2026-07-28", "2025-11-25"
CLIENTS = (1, 16, 64)
SESSIONS = 200
STARTS = 5
TRIVIAL = "test_simple_text"
BARE = "bare SDK server, a trivial tool"
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def serve_bare() -> None:
    """The SDK's own server and HTTP app, as its documentation has them."""
    import uvicorn
    from mcp.server import MCPServer

    server = MCPServer("bare")

    @server.tool(name=TRIVIAL, structured_output=False)
    async def simple_text() -> str:  # pyright: ignore[reportUnusedFunction]
        """The suite's trivial tool."""
        return "This is a simple text response for testing."

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=0, access_log=False)


@dataclass(frozen=True)
class Target:
    """A server, and the tool of it that is called."""

    name: str
    url: str
    tool: str
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return ACCEPT if self.token is None else {**ACCEPT, "Authorization": f"Bearer {self.token}"}


@asynccontextmanager
async def opened() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


async def post(http: aiohttp.ClientSession, target: Target, headers: dict[str, str], message: Any) -> tuple[bytes, str]:
    """One message. Returns what came back, and the session that it belongs to. Raises RuntimeError for a failure."""
    async with http.post(target.url + "/mcp", json=message, headers={**target.headers, **headers}) as response:
        said = await response.read()
        if response.status >= 300 or b'"error"' in said or b'"isError":true' in said:
            raise RuntimeError(f"{target.name}: {response.status} {said[:300]!r}")
        return said, response.headers.get("mcp-session-id", "")


async def begun(http: aiohttp.ClientSession, target: Target) -> dict[str, str]:
    """A session of the older era: the headers that belong to it."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "load", "version": "0"}}
    _, session = await post(http, target, {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
    headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
    await post(http, target, headers, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return headers


async def caller(http: aiohttp.ClientSession, target: Target, era: str) -> Callable[[], Awaitable[Any]]:
    """What one client does again and again."""
    params: dict[str, Any] = {"name": target.tool, "arguments": {}}
    if era == LEGACY:
        headers = await begun(http, target)
    else:
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": target.tool}
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return lambda: post(http, target, headers, message)


async def load(calls: Sequence[Callable[[], Awaitable[Any]]], seconds: float) -> list[float]:
    """Each client calls one after the other for so long: how long each call took (seconds)."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def one_after_another(call: Callable[[], Awaitable[Any]]) -> None:
        while (began := time.perf_counter()) < until:
            await call()
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one_after_another(call) for call in calls))
    return taken


async def latency(targets: Sequence[Target], era: str, clients: int, seconds: float, blocks: int) -> None:
    """One table: every target under the same load, in turns."""
    taken: dict[str, list[float]] = {target.name: [] for target in targets}
    async with opened() as http:
        calls = {target.name: [await caller(http, target, era) for _ in range(clients)] for target in targets}
        for each in calls.values():
            await load(each, 0.3)
        for _ in range(blocks):
            for name, each in calls.items():
                taken[name] += await load(each, seconds)
    floor = {name: statistics.quantiles(each, n=100) for name, each in taken.items()}
    p50, p99 = floor[BARE][49], floor[BARE][98]
    print(f"\n{era}, {clients} {'client' if clients == 1 else 'clients at once'}")
    print(f"  {'':38}{'p50':>9}{'added':>9}{'p99':>9}{'added':>9}{'calls/s':>9}   p50 against bare")
    for name, each in taken.items():
        mine, tail = floor[name][49], floor[name][98]
        shown = [mine, mine - p50, tail, tail - p99]
        figures = "".join(f"{value * 1e3:7.2f}ms" for value in shown)
        print(f"  {name:38}{figures}{len(each) / seconds / blocks:9.0f}   {mine / p50:.2f} x")


async def session_weight(target: Target, process: psutil.Process) -> float:
    """KB that each of so many sessions of the older era adds, none of which does anything."""
    async with opened() as http:
        for _ in range(20):
            await begun(http, target)
        before = process.memory_info().rss
        for _ in range(SESSIONS):
            await begun(http, target)
        return (process.memory_info().rss - before) / SESSIONS / 1e3


async def start_up(start: Callable[[], HttpHub]) -> float:
    """Seconds from the start of the process to its first answer to `tools/list`, the fastest client there is."""
    taken: list[float] = []
    for _ in range(STARTS):
        began = time.perf_counter()
        server = await asyncio.to_thread(start)
        try:
            async with opened() as http:
                target = Target("start", server.url, "")
                headers = await begun(http, target)
                await post(http, target, headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            taken.append(time.perf_counter() - began)
        finally:
            await asyncio.to_thread(server.stop)
    return statistics.median(taken)


async def rate(url: str, path: str, clients: int, seconds: float) -> float:
    """Answers a second of a plain route."""
    async with opened() as http:

        async def get() -> None:
            async with http.get(url + path) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{path}: {response.status}")

        return len(await load([get] * clients, seconds)) / seconds


def bare(world: World) -> HttpHub:
    return HttpHub(world.environment, command=(str(Path(__file__).resolve()), "--bare"))


async def main(seconds: float, blocks: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = stack.enter_context(make_world(folder / "world"))
        guarded = World(world.home, world.claude, world.gemini, {"HUB_STATE_DIR": str(folder / "guarded")})
        limits = ("--requests-per-minute", "10000000", "--at-once", "1000")
        token = run_command(guarded, "client", "add", "load", *limits).stdout.decode().strip()
        fixtures = (str(ROOT / "tests" / "clients" / "fixture_server.py"), "serve")

        def started(server: HttpHub) -> HttpHub:
            stack.callback(server.stop)
            return server

        plain = started(bare(world))
        hub = started(HttpHub(world.environment))
        owner = started(HttpHub({**world.environment, "HUB_STATE_DIR": str(folder / "owner")}, command=fixtures))
        client = started(HttpHub(guarded.environment, command=fixtures))
        targets = [
            Target(BARE, plain.url, TRIVIAL),
            Target("hub, the same tool", owner.url, TRIVIAL),
            Target("hub, the same tool, with a token", client.url, TRIVIAL, token),
            Target("hub, token_status", hub.url, "token_status"),
        ]
        print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, which the load shares with them")
        for era in (LEGACY, MODERN):
            for clients in CLIENTS:
                await latency(targets, era, clients, seconds, blocks)
        for clients in (1, 16):
            tokens, live = [
                await rate(hub.url, path, clients, 2 * seconds) for path in ("/health/tokens", "/health/live")
            ]
            print(f"\n/health/tokens, {clients} at once: {tokens:.0f} answers/s; /health/live: {live:.0f}")
        weights = [
            await session_weight(target, psutil.Process(server.process.pid))
            for target, server in zip((targets[0], targets[3]), (plain, hub), strict=True)
        ]
        print(f"\neach idle session of the older era ({SESSIONS}): hub {weights[1]:.1f} KB, bare {weights[0]:.1f} KB")
        for server in (plain, hub, owner, client):
            await asyncio.to_thread(server.stop)
        of_bare = await start_up(lambda: bare(world))
        of_hub = await start_up(lambda: HttpHub(world.environment))
        print(f"start to tools/list: hub {of_hub:.2f} s, bare {of_bare:.2f} s: {of_hub / of_bare:.2f} x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block")
    parser.add_argument("--blocks", type=int, default=4, help="of each server under each load")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        serve_bare()
    else:
        asyncio.run(main(given.seconds, given.blocks))
