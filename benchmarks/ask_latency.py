"""What an ask costs: the floor, the hub warm and cold, and the bare CLIs as people use them. One run, medians, ratios.

Everything runs against the stand-ins on loopback with delay 0, so what is measured is what stands between a caller and
the provider. `added` is the median minus the median of a direct HTTP request to the same stand-in.

    make bench          or: python benchmarks/ask_latency.py [--rounds N] [--cold N] [--json FILE]
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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402 - after the path is set

from llm_mcp_hub.providers.claude_child import bundled_cli  # noqa: E402
from tests.harness import GEMINI, TOKEN, HttpHub, World, connect, make_world  # noqa: E402
from tests.upstreams.google import PROJECT  # noqa: E402

PROMPT = "hello"
PAUSE_S = 1.0
"""Between two asks, as a person's or an agent's asks come; it also lets the hub make the next client ready."""


@dataclass(frozen=True)
class Row:
    """One way to ask one provider, measured several times (seconds)."""

    provider: str
    way: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


async def timed(rounds: int, work: Callable[[], Awaitable[Any]], pause: float = PAUSE_S) -> list[float]:
    """Durations of `rounds` runs of `work`, with a pause before each."""
    taken: list[float] = []
    for _ in range(rounds):
        await asyncio.sleep(pause)
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return taken


async def direct(world: World, provider: str, rounds: int) -> Row:
    """A plain HTTP request to the stand-in: the floor that nothing can beat."""
    if provider == "claude":
        url = f"{world.claude.url}/v1/messages?beta=true"
        body: dict[str, Any] = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 100,
            "stream": True,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        headers = {"authorization": f"Bearer {TOKEN}", "anthropic-beta": "oauth-2025-04-20"}
    else:
        url = f"{world.gemini.url}/v1internal:streamGenerateContent?alt=sse"
        contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
        body = {"model": "gemini-2.5-pro", "project": PROJECT, "request": {"contents": contents}}
        headers = {"authorization": f"Bearer {json.loads(world.login_file.read_text())['access_token']}"}
    async with httpx.AsyncClient(trust_env=False) as client:

        async def once() -> None:
            (await client.post(url, json=body, headers=headers)).raise_for_status()

        await once()
        return Row(provider, "direct HTTP (floor)", await timed(rounds, once, 0.05))


async def hub_warm(world: World, provider: str, rounds: int) -> Row:
    """`ask_*` of a client that stays connected over stdio, on a hub that has answered before."""
    async with connect(world, "stdio", "auto") as client:

        async def once() -> None:
            result = await client.call_tool(f"ask_{provider}", {"prompt": PROMPT})
            if result.is_error:
                raise RuntimeError(str(result.content))

        await once()
        return Row(provider, "hub, warm", await timed(rounds, once))


async def hub_cold(world: World, provider: str, rounds: int) -> Row:
    """A hub started for one ask: `llm-mcp-hub ask`."""

    async def once() -> None:
        command = [sys.executable, "-m", "llm_mcp_hub", "ask", provider, PROMPT]
        await asyncio.to_thread(subprocess.run, command, env=world.environment, check=True, capture_output=True)

    return Row(provider, "hub, cold (llm-mcp-hub ask)", await timed(rounds, once, 0))


async def bare_cli(world: World, provider: str, rounds: int) -> Row:
    """The vendor's CLI, once per ask, as bridges run it; isolated in a home of its own."""
    home = world.home / f"bare-{provider}"
    (home / "work").mkdir(parents=True)
    if provider == "claude":
        command = [str(bundled_cli()), "-p", PROMPT, "--model", "sonnet"]
        changes = {
            "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
            "ANTHROPIC_BASE_URL": world.claude.url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
    else:
        (home / ".gemini").mkdir()
        (home / ".gemini" / "oauth_creds.json").write_bytes(world.login_file.read_bytes())
        settings = {
            "security": {"auth": {"selectedType": "oauth-personal"}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
        (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
        command = [str(GEMINI), "-p", PROMPT, "-m", "gemini-2.5-pro", "--skip-trust"]
        changes = dict(world.gemini.environment)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **changes}

    async def once() -> None:
        await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment,
            cwd=home / "work",
            stdin=subprocess.DEVNULL,
            check=True,
            capture_output=True,
        )

    await once()
    return Row(provider, f"{'claude' if provider == 'claude' else 'gemini'} -p", await timed(rounds, once, 0))


async def at_once(world: World, callers: int) -> float:
    """Seconds for `callers` Gemini asks of 1 s each, started together on a warm hub over HTTP."""
    from mcp.client import Client

    from tests.upstreams import google

    world.gemini.default = google.Answer("one second", delay_s=1.0)
    hub = HttpHub(world.environment)
    try:
        async with Client(hub.url + "/mcp") as client:
            await client.call_tool("ask_gemini", {"prompt": PROMPT})
            began = time.perf_counter()
            results = await asyncio.gather(
                *(client.call_tool("ask_gemini", {"prompt": PROMPT}) for _ in range(callers))
            )
            taken = time.perf_counter() - began
            if any(result.is_error for result in results):
                raise RuntimeError("an ask failed")
            return taken
    finally:
        hub.stop()
        world.gemini.default = google.Answer("Hello from the stand-in of Gemini.")


def machine() -> str:
    """What this ran on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


async def measure(rounds: int, cold: int) -> tuple[list[Row], float]:
    """All rows of one run."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, make_world(Path(folder)) as world:
        for provider in ("claude", "gemini"):
            rows += [
                await direct(world, provider, rounds),
                await hub_warm(world, provider, rounds),
                await hub_cold(world, provider, cold),
                await bare_cli(world, provider, cold),
            ]
        wall = await at_once(world, 20)
    return rows, wall


def main() -> int:
    """Run and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="warm asks")
    parser.add_argument("--cold", type=int, default=5, help="cold starts")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    rows, wall = asyncio.run(measure(given.rounds, given.cold))
    print(f"{machine()}; stand-in delay 0; medians of {given.rounds} warm asks and {given.cold} cold ones\n")
    print(f"{'provider':9}{'way':30}{'median':>10}{'added':>10}{'max':>10}   against the bare CLI")
    floor = {row.provider: row.median for row in rows if row.way.startswith("direct")}
    bare = {row.provider: row.median for row in rows if row.way.endswith(" -p")}
    for row in rows:
        added = (row.median - floor[row.provider]) * 1000
        ratio = bare[row.provider] / row.median
        print(
            f"{row.provider:9}{row.way:30}{row.median * 1000:8.1f}ms{added:8.1f}ms{max(row.seconds) * 1000:8.1f}ms"
            f"   {ratio:,.1f} x as fast"
        )
    print(f"\n20 Gemini asks of 1 s each at once, one process: {wall:.2f} s wall")
    if given.json:
        figures = [{"provider": r.provider, "way": r.way, "seconds": r.seconds} for r in rows]
        given.json.write_text(json.dumps({"machine": machine(), "rows": figures, "twenty_at_once_s": wall}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
