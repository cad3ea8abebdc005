"""What the hub's HTTP adds to a call, against a bare server of the MCP SDK with the same trivial tool.

The same tool stands behind the hub's door, once for this machine's owner and once for a client with a token; beside it
is the hub's own `token_status`. Both protocol eras, 1, 16 and 64 clients at once, all servers running, blocks in turns.
Then what a session of the older era weighs, how long each takes to start, and how often `/health/tokens` is answered.

    python -m benchmarks.over_http [--quick]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil

from benchmarks import bare
from benchmarks.bench import Bench, alone
from benchmarks.result import Table
from tests.harness import ROOT, HttpHub, World, run_command

ABOUT = "What the hub's HTTP adds to a call."
MODERN, LEGACY = "2026-07-28", "2025-11-25"
CLIENTS = (1, 16, 64)
BLOCKS, BLOCK_S = 2, 0.7
SESSIONS = 200
STARTS = 5
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Target:
    """A server, and the tool of it that is called."""

    key: str
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


async def load(calls: Sequence[Callable[[], Awaitable[Any]]], seconds: float) -> tuple[list[float], float]:
    """Each client calls one after the other for so long: how long each call took, and all of them (seconds)."""
    taken: list[float] = []
    start = time.perf_counter()
    until = start + seconds

    async def one_after_another(call: Callable[[], Awaitable[Any]]) -> None:
        while (began := time.perf_counter()) < until:
            await call()
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one_after_another(call) for call in calls))
    return taken, time.perf_counter() - start


async def latency(bench: Bench, targets: Sequence[Target], era: str, clients: int) -> list[Table]:
    """Every target under the same load, in turns: how long a call takes, and how many are answered."""
    taken: dict[str, list[float]] = {target.key: [] for target in targets}
    lasted = dict.fromkeys(taken, 0.0)
    title = f"era {era}, {clients} client{'s at once' if clients > 1 else ''}"
    seconds = bench.seconds(BLOCK_S)
    async with opened() as http:
        calls = {target.key: [await caller(http, target, era) for _ in range(clients)] for target in targets}
        for each in calls.values():
            await load(each, 0.3)
        for _ in range(BLOCKS):
            for key, each in calls.items():
                each_took, all_took = await load(each, seconds)
                taken[key] += each_took
                lasted[key] += all_took
    table = Table(f"http-{clients}/{era}", f"A call over HTTP: {title}", "ms", base="bare")
    for target in targets:
        each = taken[target.key]
        rate = len(each) / lasted[target.key]
        table.add(target.key, target.name, [value * 1e3 for value in each], f"{rate:,.0f} calls/s")
    return [table]


async def session_weight(target: Target, process: psutil.Process) -> float:
    """KB that each of so many sessions of the older era adds, none of which does anything."""
    async with opened() as http:
        for _ in range(20):
            await begun(http, target)
        before = process.memory_info().rss
        for _ in range(SESSIONS):
            await begun(http, target)
        return (process.memory_info().rss - before) / SESSIONS / 1e3


async def start_up(bench: Bench, start: Callable[[], HttpHub]) -> list[float]:
    """Milliseconds from the start of the process to its first answer to `tools/list`, the fastest client there is."""
    taken: list[float] = []
    for _ in range(bench.rounds(STARTS)):
        began = time.perf_counter()
        server = await asyncio.to_thread(start)
        try:
            async with opened() as http:
                target = Target("start", "start", server.url, "")
                headers = await begun(http, target)
                await post(http, target, headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            taken.append((time.perf_counter() - began) * 1e3)
        finally:
            await asyncio.to_thread(server.stop)
    return taken


async def rate(url: str, path: str, clients: int, seconds: float) -> float:
    """Answers a second of a plain route."""
    async with opened() as http:

        async def get() -> None:
            async with http.get(url + path) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{path}: {response.status}")

        answered, lasted = await load([get] * clients, seconds)
        return len(answered) / lasted


def plain_server(world: World) -> HttpHub:
    return HttpHub(world.environment, command=(str(bare.__file__),))


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    async with AsyncExitStack() as stack:
        world = stack.enter_context(bench.world())
        guarded = World(world.home, world.claude, world.gemini, {"HUB_STATE_DIR": str(bench.folder / "guarded")})
        limits = ("--requests-per-minute", "10000000", "--at-once", "1000")
        token = run_command(guarded, "client", "add", "load", *limits).stdout.decode().strip()
        fixtures = (str(ROOT / "tests" / "clients" / "fixture_server.py"), "serve")
        owners = {**world.environment, "HUB_STATE_DIR": str(bench.folder / "owner")}

        def started(server: HttpHub) -> HttpHub:
            stack.callback(server.stop)
            return server

        plain = started(plain_server(world))
        hub = started(HttpHub(world.environment))
        owner = started(HttpHub(owners, command=fixtures))
        client = started(HttpHub(guarded.environment, command=fixtures))
        targets = [
            Target("bare", "bare MCP SDK server, a trivial tool", plain.url, bare.TRIVIAL),
            Target("hub", "hub, the same tool", owner.url, bare.TRIVIAL),
            Target("token", "hub, the same tool, with a token", client.url, bare.TRIVIAL, token),
            Target("status", "hub, `token_status`", hub.url, "token_status"),
        ]
        for era in (LEGACY, MODERN):
            for clients in CLIENTS:
                tables += await latency(bench, targets, era, clients)
        health = Table("health", "Health routes of the hub, answers a second", "answers/s", better="more")
        for clients in (1, 16):
            for path in ("/health/tokens", "/health/live"):
                answered = await rate(hub.url, path, clients, bench.seconds(2 * BLOCK_S))
                health.add(f"{path}/{clients}", f"`{path}`, {clients} at once", [answered])
        weights = Table(
            "session",
            f"An idle session of the older era, of {SESSIONS}",
            "KB (RSS)",
            base="bare",
            about="One client may have 250. Python takes 1 MiB at a time, which is 5 KB for each of these.",
        )
        weights.add(
            "bare", "bare MCP SDK server", [await session_weight(targets[0], psutil.Process(plain.process.pid))]
        )
        weights.add("hub", "hub", [await session_weight(targets[3], psutil.Process(hub.process.pid))])
        for server in (plain, hub, owner, client):
            await asyncio.to_thread(server.stop)
        starts = Table("http-start", "Start over HTTP to `tools/list`", "ms", base="bare")
        starts.add("bare", "bare MCP SDK server", await start_up(bench, lambda: plain_server(world)))
        starts.add("hub", "hub", await start_up(bench, lambda: HttpHub(world.environment)))
    return [*tables, health, weights, starts]


if __name__ == "__main__":
    alone(ABOUT, measure)
