"""What a conversation's next turn costs, warm and cold, against the bare CLIs; and what waiting hubs cost.

Everything runs against the stand-ins on loopback with delay 0. `warm`: the hub holds the vendor's session of the
conversation. `cold`: another hub, that is told the transcript. The bare CLIs as people use them: `claude -p --resume`,
and `gemini -p` with the history in the prompt. None of the public bridges has conversations.

    python -m benchmarks.conversations [--quick]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import AsyncExitStack
from typing import Any

import psutil
from mcp.client import Client

from benchmarks.bench import Bench, alone
from benchmarks.result import Table
from benchmarks.ways import PROVIDERS, Provider, cli_surroundings, tree, weight
from benchmarks.ways import hub as hub_over_stdio
from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.harness import GEMINI, HttpHub, World, answer_of
from tests.upstreams import google

ABOUT = "A conversation's next turn; a burst of asks; what a hub weighs that serves or waits."
PAUSE_S = 1.0
MANY, FEW = 8, 4
IDLE, FIRST = 600, 20
"""Idle conversations, and those before them. Over fewer the figure is that of caches that fill once: Python's allocator
takes 1 MiB at a time, which is 5 KB for each of 200."""
AT_ONCE = 20
WAITING = 3
WATCHED_S = 60.0
"""The system counts CPU time in hundredths of a second."""


async def ask(client: Client, provider: str, prompt: str, conversation: str | None = None) -> tuple[str, float]:
    """One ask. Returns its conversation and how long it took (milliseconds)."""
    given: dict[str, Any] = {"prompt": prompt, **({"conversation_id": conversation} if conversation else {})}
    began = time.perf_counter()
    result = await client.call_tool(f"ask_{provider}", given)
    took = (time.perf_counter() - began) * 1e3
    return answer_of(result)["conversation_id"], took


async def second_turns(world: World, provider: str, rounds: int, *, elsewhere: bool) -> list[float]:
    """The second turn of a conversation: in the hub that answered its first, or in one that is warm and has not."""
    hubs = [await asyncio.to_thread(HttpHub, world.environment) for _ in range(1 + elsewhere)]
    taken: list[float] = []
    try:
        async with Client(hubs[0].url + "/mcp") as begins, Client(hubs[-1].url + "/mcp") as goes_on:
            for client in (begins, goes_on):
                await ask(client, provider, "hello")
            for _ in range(rounds):
                await asyncio.sleep(PAUSE_S)
                conversation, _took = await ask(begins, provider, "hello")
                await asyncio.sleep(PAUSE_S)
                taken.append((await ask(goes_on, provider, "and then?", conversation))[1])
    finally:
        for hub in hubs:
            await asyncio.to_thread(hub.stop)
    return taken


def bare_turns(world: World, provider: Provider, rounds: int) -> list[float]:
    """As a person or a script goes on: `claude -p --resume ID`; `gemini -p` with what was said before it."""
    around, cwd = cli_surroundings(world, f"resumed-{provider}")
    if provider == "claude":
        claude = str(bundled_cli())
        first = _run([claude, "-p", "--output-format", "json", "hello"], around, str(cwd))[0]
        command = [claude, "-p", "--resume", json.loads(first)["session_id"], "and then?"]
    else:
        said = "You were asked: hello\nYou answered: Hello from the stand-in of Gemini.\nNow: and then?"
        command = [str(GEMINI), "-m", "gemini-2.5-pro", "-p", said]
    return [_run(command, around, str(cwd))[1] for _ in range(rounds)]


def _run(command: list[str], around: dict[str, str], cwd: str) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        command, env=around, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True, text=True
    )
    return done.stdout, (time.perf_counter() - began) * 1e3


async def turns(bench: Bench, world: World, provider: Provider) -> Table:
    table = Table(
        f"turn/{provider}",
        f"A conversation's second turn, {provider.title()}",
        "ms",
        base="cli",
        about=f"The hub's turns come {PAUSE_S:.0f} s after what was asked before.",
    )
    warm = await second_turns(world, provider, bench.rounds(MANY), elsewhere=False)
    table.add("hub", "hub, warm", warm)
    cold = await second_turns(world, provider, bench.rounds(FEW), elsewhere=True)
    table.add("hub-cold", "hub, cold: another hub, told the transcript", cold)
    name = "`claude -p --resume`" if provider == "claude" else "`gemini -p`, history in the prompt"
    table.add("cli", name, await asyncio.to_thread(bare_turns, world, provider, bench.rounds(FEW)))
    return table


async def memory(bench: Bench, world: World) -> list[Table]:
    """What the hub's own process holds, and what each further idle conversation adds to it."""
    table = Table("own", "The hub's own process, serving", "MB (RSS)")
    each = Table("each", "What each further idle conversation adds to it", "KB (RSS)")
    hub = await asyncio.to_thread(HttpHub, world.environment)
    process = psutil.Process(hub.process.pid)
    idle = IDLE if not bench.quick else IDLE // 4
    try:
        async with Client(hub.url + "/mcp") as client:
            for _ in range(FIRST):
                await ask(client, "gemini", "hello")
            before = process.memory_info().rss
            table.add("own", f"after {FIRST} conversations", [before / 1e6])
            for _ in range(idle):
                await ask(client, "gemini", "hello")
            after = process.memory_info().rss
            table.add("idle", f"after {idle} further idle ones", [after / 1e6])
            each.add("each", f"of {idle}", [(after - before) / idle / 1e3])
    finally:
        await asyncio.to_thread(hub.stop)
    return [table, each]


async def at_once(world: World) -> Table:
    """So many Gemini asks of 1 s at once, on a hub that has had as many before."""
    table = Table("burst", f"{AT_ONCE} Gemini asks of 1 s each at once, one process", "s")
    hub = await asyncio.to_thread(HttpHub, world.environment)
    try:
        async with Client(hub.url + "/mcp") as client:
            await asyncio.gather(*(ask(client, "gemini", "hello") for _ in range(AT_ONCE)))
            await asyncio.sleep(3 * PAUSE_S)  # sessions for the next burst are made ahead
            world.gemini.default = google.Answer("Hello.", delay_s=1.0)
            began = time.perf_counter()
            await asyncio.gather(*(ask(client, "gemini", "hello") for _ in range(AT_ONCE)))
            table.add("hub", "hub", [time.perf_counter() - began])
            table.add("floor", "the one second alone", [1.0])
    finally:
        world.gemini.default = google.Answer("Hello.")
        await asyncio.to_thread(hub.stop)
    return table


async def idle_hubs(world: World) -> Table:
    """Stdio hubs that nobody has asked anything."""
    table = Table("waiting", f"{WAITING} idle stdio hubs, together", "MB (USS)")
    async with AsyncExitStack() as stack:
        for _ in range(WAITING):
            opened = await stack.enter_async_context(hub_over_stdio(world, "gemini").open())
            assert opened.client is not None
            await opened.client.list_tools()
        hubs = [p for p in psutil.Process().children(recursive=True) if "llm_mcp_hub" in p.cmdline()]
        spent = sum(sum(hub.cpu_times()[:2]) for hub in hubs)
        await asyncio.sleep(WATCHED_S)
        spent = (sum(sum(hub.cpu_times()[:2]) for hub in hubs) - spent) * 60 / WATCHED_S
        _pss, uss, number = await asyncio.to_thread(lambda: weight(tree(hubs)))
    table.add("hubs", "hubs", [uss], f"{number} processes; {spent:.2f} s of CPU time a minute")
    return table


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    with bench.world() as world:
        tables += [await turns(bench, world, provider) for provider in PROVIDERS]
        tables += [*await memory(bench, world), await at_once(world), await idle_hubs(world)]
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure)
