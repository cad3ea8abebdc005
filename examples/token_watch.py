"""Tell of the logins: how they stand now, then each change as one line, for as long as it runs.

    python token_watch.py                        # a hub of its own, over stdio
    python token_watch.py --url http://127.0.0.1:8000/mcp --token-file laptop.token
    python token_watch.py --once || notify-send "llm-mcp-hub" "A login needs you"     # from cron, or a status bar

A line is: when, whose login, its status (from what to what), until when, what it means, the next step. The hub tells of
a change at once: on a stream in the protocol's era 2026-07-28, to a subscriber in the older one (--mode legacy). Every
--every seconds the status is read anyway, which is what is left where a hub tells of nothing. A hub that goes away is
told of once, and waited for; a change that happened meanwhile is told when it is back.

Exit codes of --once: 0 no login needs you, 1 one does, or ends soon (a login that was never set up counts only if it is
named by --provider), 69 there is no hub, 77 it does not let this client in. Needs hub_client.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from hub_client import AskFailed, NotLetIn, Trouble, Way, connected, parser, run, way
from mcp.client import Client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

TOKENS = "hub://tokens"
WELL = {"valid", "unknown"}
"""Statuses that nobody has to act on: `unknown` means that the provider could not be reached."""
EX_PIPE = 141
"""What a shell calls a program that wrote to nobody."""
PAUSES_S = (1, 2, 5, 10, 30)
"""Before the next try at a hub that is away; the last one again and again."""

warnings.simplefilter("ignore", MCPDeprecationWarning)  # the older era's subscription is the only way there
Statuses = dict[str, dict[str, Any]]


def say(*parts: str | None) -> None:
    """One line, at once: whoever reads it may be a pipe. Once nobody reads any more, that is the end."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        print(" | ".join([now, *(part for part in parts if part)]), flush=True)
    except BrokenPipeError:
        os._exit(EX_PIPE)


def tell(provider: str, status: dict[str, Any], before: str | None = None) -> None:
    """One login, as one line."""
    name: str = status["status"]
    until = f"until {status['expires_at']}" if status["expires_at"] else None
    action = f"next: {status['action']}" if status["action"] else None
    say(provider, name if before is None else f"{before} -> {name}", until, status["message"], action)


async def read(client: Client, provider: str | None) -> Statuses:
    """The status of the logins. Costs nothing at the providers."""
    result = await client.call_tool("token_status", {"provider": provider} if provider else {})
    if result.is_error:
        raise AskFailed((result.meta or {})["llm-mcp-hub/error"])
    return result.structured_content or {}


class Seen:
    """What was told last; only what differs from it is told."""

    def __init__(self) -> None:
        self._told: Statuses = {}

    def look(self, statuses: Statuses) -> None:
        """Tell of each login whose status or end is another one than before."""
        for provider, status in statuses.items():
            before = self._told.get(provider)
            if before is None or (before["status"], before["expires_at"]) != (status["status"], status["expires_at"]):
                tell(provider, status, before["status"] if before else None)
            self._told[provider] = status


async def follow(client: Client, seen: Seen, provider: str | None, heard: asyncio.Event, every_s: float) -> None:
    """Tell of changes until the hub is lost. Raises Trouble then. `heard`: set when the older era tells of a change."""
    if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
        try:
            async with client.listen(resource_subscriptions=[TOKENS]) as stream:
                while True:
                    seen.look(await read(client, provider))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(every_s):
                            await anext(stream)
        except (StopAsyncIteration, SubscriptionLost):
            raise Trouble("The hub has ended.", "Start it again; it is waited for.") from None
    resources = client.server_capabilities.resources
    if resources is not None and resources.subscribe:  # replicas do not offer it
        await client.subscribe_resource(TOKENS)  # pyright: ignore[reportDeprecated]
    while True:
        seen.look(await read(client, provider))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await heard.wait()
        heard.clear()


async def watch(to: Way, mode: str, provider: str | None, every_s: float) -> int:
    """Follow a hub, and wait for it whenever it is away. Ends only by Ctrl-C, or when the hub does not let it in."""
    seen, heard, tries = Seen(), asyncio.Event(), 0

    async def hear(message: object) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.set()

    while True:
        try:
            async with connected(to, mode=mode, hear=hear) as client:
                if tries:
                    say("hub", "away -> there")
                tries = 0
                await follow(client, seen, provider, heard, every_s)
        except (NotLetIn, AskFailed):
            raise
        except Trouble as trouble:
            if not tries:
                say("hub", "away", trouble.message, f"next: {trouble.action}")
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1


async def once(to: Way, mode: str, provider: str | None) -> int:
    """Tell how all logins stand. Returns 1 if a person has to do something about one."""
    async with connected(to, mode=mode) as client:
        statuses = await read(client, provider)
    for name, status in statuses.items():
        tell(name, status)
    well = WELL if provider else WELL | {"missing"}
    return 0 if all(status["status"] in well for status in statuses.values()) else 1


def seconds(text: str) -> float:
    """How often to read: a second or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("whole seconds, 1 or more")
    return float(text)


async def main() -> int:
    """Read the words and do it."""
    words = parser(__doc__)
    words.add_argument("--once", action="store_true", help="tell how they stand now, and end")
    words.add_argument("--provider", metavar="NAME", help="claude or gemini; without it, all")
    words.add_argument("--every", type=seconds, default=60.0, metavar="S", help="read at least so often (60)")
    words.add_argument("--mode", choices=["auto", "legacy"], default="auto", help="the protocol's era (auto)")
    given = words.parse_args()
    if given.once:
        return await once(way(given), given.mode, given.provider)
    return await watch(way(given), given.mode, given.provider, given.every)


if __name__ == "__main__":
    sys.exit(run(main()))
