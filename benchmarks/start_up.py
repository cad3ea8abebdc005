"""What a client waits for: from the start of a stdio server to its answer to `tools/list`, and a call of its own tool.

Every server is spoken to by the same few lines, the fastest client there is, and they start in turns. All are compiled:
each has been started before.

    python -m benchmarks.start_up [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bare
from benchmarks.bench import Bench, alone
from benchmarks.result import Table
from benchmarks.ways import cli_surroundings
from tests.harness import World

ABOUT = "Start over stdio to `tools/list`, and calls that ask no provider."
STARTS, CALLS = 12, 200
DEADLINE_S = 60.0
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "0"},
}


@dataclass(frozen=True)
class Stdio:
    """How a server is started."""

    key: str
    name: str
    command: list[str]
    environment: Mapping[str, str]
    cwd: Path
    tool: str = ""
    """A tool of it that asks no provider, without arguments; empty: it has none."""


class Talk:
    """One server's stdin and stdout, a message a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """A request and its answer; what comes between is passed over. Raises RuntimeError for an error."""
        assert self._process.stdout is not None
        self._number += 1
        self.say({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(DEADLINE_S):
            while line := await self._process.stdout.readline():
                answer = json.loads(line)
                if answer.get("id") == self._number:
                    if "error" in answer or answer["result"].get("isError"):
                        raise RuntimeError(str(answer)[:300])
                    return answer["result"]
        raise RuntimeError(f"no answer to {method}")

    def say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def greet(self) -> None:
        await self.ask("initialize", HELLO)
        self.say({"method": "notifications/initialized"})


async def start(server: Stdio) -> tuple[asyncio.subprocess.Process, Talk]:
    process = await asyncio.create_subprocess_exec(
        *server.command,
        env=dict(server.environment),
        cwd=server.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=1 << 24,
    )
    return process, Talk(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """As a client ends it: its stdin is closed, and it is killed if it takes that for nothing."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def servers(bench: Bench, world: World) -> list[Stdio]:
    """All of them, the bare one first."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(world.home), "LANG": "C.UTF-8"}
    found = [
        Stdio("bare", "bare MCP SDK server", [sys.executable, bare.__file__], plain, world.home, bare.TRIVIAL),
        Stdio("hub", "hub", world.command, world.environment, world.home, "token_status"),
    ]
    for peer in bench.peers:
        environment, cwd = cli_surroundings(world, peer.key)
        found.append(Stdio(peer.key, peer.name, peer.command, environment | peer.environment, cwd))
    return found


async def start_up(bench: Bench, world: World) -> Table:
    """In turns, so that what else the machine does falls on all alike."""
    table = Table("start", "Start over stdio to `tools/list`", "ms", base="bare")
    every = servers(bench, world)
    taken: dict[str, list[float]] = {server.key: [] for server in every}
    for number in range(bench.rounds(STARTS) + 1):
        for server in every:
            began = time.perf_counter()
            process, talk = await start(server)
            await talk.greet()
            await talk.ask("tools/list", {})
            if number:  # the first has compiled it
                taken[server.key].append((time.perf_counter() - began) * 1e3)
            await end(process)
    for server in every:
        table.add(server.key, server.name, taken[server.key])
    for provider in ("claude", "gemini"):
        bench.tell_absent(table, provider)
    return table


async def calls(bench: Bench, world: World) -> Table:
    """`token_status` against the trivial tool of a server without anything behind it."""
    table = Table("call", "A call over stdio that asks no provider", "ms", base="bare")
    for server in servers(bench, world):
        if not server.tool:
            continue
        process, talk = await start(server)
        await talk.greet()
        taken: list[float] = []
        for number in range(bench.rounds(CALLS) + 5):
            began = time.perf_counter()
            await talk.ask("tools/call", {"name": server.tool, "arguments": {}})
            if number >= 5:
                taken.append((time.perf_counter() - began) * 1e3)
        table.add(server.key, f"{server.name}, `{server.tool}`", taken)
        await end(process)
    return table


async def measure(bench: Bench) -> list[Table]:
    with bench.world() as world:
        return [await start_up(bench, world), await calls(bench, world)]


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
