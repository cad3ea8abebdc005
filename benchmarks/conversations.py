"""What a conversation's next turn costs, warm and cold, against the bare CLIs; and what waiting hubs cost. One run.

Everything runs against the stand-ins on loopback with delay 0. `warm`: the hub holds the vendor's session of the
conversation. `cold`: another hub, that is told the transcript. The bare CLIs as people use them: `claude -p --resume`,
and `gemini -p` with the history in the prompt.

    make bench          or: python benchmarks/conversations.py [--rounds N] [--cold N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402 - after the path is set
from mcp.client import Client  # noqa: E402

from llm_mcp_hub.providers.claude_child import bundled_cli  # noqa: E402
from tests.harness import GEMINI, TOKEN, HttpHub, World, answer_of, connect, make_world  # noqa: E402
from tests.upstreams import google  # noqa: E402

PROVIDERS = ("claude", "gemini")
PAUSE_S = 1.0
IDLE = 200


async def ask(client: Client, provider: str, prompt: str, conversation: str | None = None) -> tuple[str, float]:
    """One ask. Returns its conversation and how long it took (seconds)."""
    given: dict[str, Any] = {"prompt": prompt, **({"conversation_id": conversation} if conversation else {})}
    began = time.perf_counter()
    result = await client.call_tool(f"ask_{provider}", given)
    took = time.perf_counter() - began
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


def bare_claude(world: World, folder: Path, rounds: int) -> list[float]:
    """`claude -p --resume ID`, as a person or a script goes on."""
    folder.mkdir()
    around = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "ANTHROPIC_BASE_URL": world.claude.url,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    first = _run([str(bundled_cli()), "-p", "--output-format", "json", "hello"], around, folder)[0]
    session = json.loads(first)["session_id"]
    return [
        _run([str(bundled_cli()), "-p", "--resume", session, "and then?"], around, folder)[1] for _ in range(rounds)
    ]


def bare_gemini(world: World, folder: Path, rounds: int) -> list[float]:
    """`gemini -p` with what was said before it."""
    folder.mkdir()
    google.write_login(folder / ".gemini")
    (folder / ".gemini" / "settings.json").write_text(
        json.dumps({"security": {"auth": {"selectedType": "oauth-personal"}}})
    )
    around = {"PATH": os.environ["PATH"], "HOME": str(folder), **world.gemini.environment}
    said = "You were asked: hello\nYou answered: Hello from the stand-in of Gemini.\nNow: and then?"
    command = [str(GEMINI), "-m", "gemini-2.5-pro", "--skip-trust", "-p", said]
    return [_run(command, around, folder)[1] for _ in range(rounds)]


def _run(command: list[str], around: dict[str, str], cwd: Path) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        command, env=around, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True, text=True
    )
    return done.stdout, time.perf_counter() - began


async def memory(world: World) -> tuple[float, float]:
    """MB of a hub after one Gemini conversation, and KB that each of `IDLE` further ones adds to it."""
    hub = await asyncio.to_thread(HttpHub, world.environment)
    process = psutil.Process(hub.process.pid)
    try:
        async with Client(hub.url + "/mcp") as client:
            for _ in range(20):
                await ask(client, "gemini", "hello")
            before = process.memory_info().rss
            for _ in range(IDLE):
                await ask(client, "gemini", "hello")
            after = process.memory_info().rss
    finally:
        await asyncio.to_thread(hub.stop)
    return before / 1e6, (after - before) / IDLE / 1e3


async def at_once(world: World, number: int) -> float:
    """Seconds for so many Gemini asks of 1 s at once, on a hub that has had as many before."""
    hub = await asyncio.to_thread(HttpHub, world.environment)
    try:
        async with Client(hub.url + "/mcp") as client:
            await asyncio.gather(*(ask(client, "gemini", "hello") for _ in range(number)))
            await asyncio.sleep(3 * PAUSE_S)  # sessions for the next burst are made ahead
            world.gemini.default = google.Answer("Hello.", delay_s=1.0)
            began = time.perf_counter()
            await asyncio.gather(*(ask(client, "gemini", "hello") for _ in range(number)))
            return time.perf_counter() - began
    finally:
        world.gemini.default = google.Answer("Hello.")
        await asyncio.to_thread(hub.stop)


async def idle_hubs(world: World, number: int) -> tuple[float, float]:
    """MB (unshared) and CPU seconds per minute of so many stdio hubs that nobody has asked anything."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            client = await stack.enter_async_context(connect(world, "stdio", "auto"))
            await client.list_tools()
        hubs = [p for p in psutil.Process().children(recursive=True) if "llm_mcp_hub" in p.cmdline()]
        spent = sum(sum(hub.cpu_times()[:2]) for hub in hubs)
        await asyncio.sleep(5)
        spent = sum(sum(hub.cpu_times()[:2]) for hub in hubs) - spent
        return sum(hub.memory_full_info().uss for hub in hubs) / 1e6, spent * 12


def _line(provider: str, way: str, taken: list[float], against: float) -> None:
    median = statistics.median(taken)
    print(f"{provider:8} {way:36} {median * 1e3:8.1f}ms {max(taken) * 1e3:8.1f}ms {against / median:7.1f} x as fast")


async def main(rounds: int, few: int) -> None:
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        with make_world(folder / "world") as world:
            bare = {
                "claude": ("claude -p --resume", await asyncio.to_thread(bare_claude, world, folder / "c", few)),
                "gemini": (
                    "gemini -p, history in the prompt",
                    await asyncio.to_thread(bare_gemini, world, folder / "g", few),
                ),
            }
            print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; stand-in delay 0; {rounds} turns")
            print(f"{'provider':8} {'second turn':36} {'median':>10} {'max':>10}   against the bare CLI")
            for provider in PROVIDERS:
                against = statistics.median(bare[provider][1])
                _line(provider, "hub, warm", await second_turns(world, provider, rounds, elsewhere=False), against)
                _line(
                    provider,
                    "hub, cold (told the transcript)",
                    await second_turns(world, provider, few, elsewhere=True),
                    against,
                )
                _line(provider, *bare[provider], against)
            own, each = await memory(world)
            print(f"\nhub: {own:.0f} MB after 20 conversations, {each:.1f} KB for each further idle one ({IDLE})")
            print(f"20 Gemini asks of 1 s each at once: {await at_once(world, 20):.2f} s wall")
            size, spent = await idle_hubs(world, 3)
            print(f"three idle stdio hubs: {size:.0f} MB of their own in all, {spent:.2f} CPU s a minute")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cold", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.cold))
