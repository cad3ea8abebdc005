"""The load of the soak: what many clients do to one hub, each ask with a number that its answer must bear.

Knows the tools, both eras and the stand-ins; knows nothing of memory. What a prompt says decides what its provider
does: `hang`, `cut`, `fail`, `slow`, or an answer at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import random
import re
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from mcp.client import Client
from mcp_types import CallToolResult

from tests.guarantees.drill import PROVIDERS, Provider, children_of
from tests.harness import World, answer_of
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

CALL_S = 180.0
"""No call takes this long, unless it is lost."""
MODERN = "2026-07-28"
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
WRONG_BODIES = (
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
    b"[" * 900,
)
_NUMBER = re.compile(r"\bquestion (\d+)\b(?: to (hang|cut|fail|slow))?")


class Load:
    """What is done to a hub, and what became of it."""

    def __init__(self, world: World, url: str, dice: random.Random) -> None:
        self.world = world
        self.url = url
        self.counts: collections.Counter[str] = collections.Counter()
        """What was done, and how asks ended."""
        self.wrong: list[str] = []
        """Calls that got no answer of the hub, or another one than theirs."""
        self.accepted: dict[str, str] = {}
        """Asks by their ids, with their prompts."""
        self.asks = 0
        self._dice = dice
        self._numbers = itertools.count(1)
        world.claude.default = lambda received: self._said("claude", anthropic.last_user_texts(received), received)
        world.gemini.default = lambda received: self._said("gemini", google.prompt_texts(received), received)

    # -- the providers -------------------------------------------------------------------------------------------------

    def _said(self, provider: Provider, texts: list[str], _received: Received) -> Any:
        kind = anthropic if provider == "claude" else google
        found = next((match for text in reversed(texts) if (match := _NUMBER.search(text))), None)
        if found is None:
            return kind.Answer("Hello.")
        words = f"answer {found[1]}, and some more words of it"
        match found[2]:
            case "hang":
                return kind.Hang("The first words")
            case "cut":
                return kind.Cut("The beginning of")
            case "fail":
                return anthropic.Error.bad_request() if provider == "claude" else google.Error.internal()
            case "slow":
                return kind.Answer(words, chunks=4, chunk_delay_s=0.2)
            case _:
                return kind.Answer(words)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def prompt(self, how: str = "") -> str:
        """A question like no other."""
        return f"question {next(self._numbers)}" + (f" to {how}" if how else "")

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """A client of one era or the other, connected anew."""
        async with Client(self.url + "/mcp", mode=self._dice.choice(("auto", "legacy"))) as client:
            yield client

    async def ask(self, client: Client, prompt: str, provider: str | None = None, **more: Any) -> CallToolResult | None:
        """An ask, looked at: the right answer, a ticket, or one coded error."""
        self.asks += 1
        given = {"prompt": prompt, "timeout_s": CALL_S / 2, **more}
        provider = provider or self._dice.choice(PROVIDERS)
        try:
            async with asyncio.timeout(CALL_S):
                result = await client.call_tool(f"ask_{provider}", given)
        except Exception as error:
            self.wrong.append(f"{prompt!r} of {provider}: {type(error).__name__}: {error}"[:500])
            return None
        self.look(result, prompt)
        return result

    def look(self, result: CallToolResult, prompt: str) -> None:
        """Count how an ask stands; note what must not be."""
        meta: Mapping[str, Any] = result.meta or {}
        if result.is_error:
            error = meta["llm-mcp-hub/error"]
            self.counts[error["code"]] += 1
            if error["code"] == "internal":
                self.wrong.append(f"{prompt!r}: {error}"[:500])
            if error["ask_id"] is not None:
                self.accepted[error["ask_id"]] = prompt
            return
        answer = answer_of(result)
        self.accepted[answer["ask_id"]] = prompt
        self.counts[answer["status"]] += 1
        number = prompt.split()[1]
        if answer["status"] == "completed" and not answer["text"].startswith(f"answer {number},"):
            self.wrong.append(f"{prompt!r} has the answer {answer['text'][:80]!r}")

    # -- what clients do -----------------------------------------------------------------------------------------------

    async def plain(self) -> None:
        """A question and its answer."""
        async with self.client() as client:
            await self.ask(client, self.prompt())

    async def conversation(self) -> None:
        """Four turns, of either provider."""
        async with self.client() as client:
            known: str | None = None
            for _ in range(4):
                more = {} if known is None else {"conversation_id": known}
                result = await self.ask(client, self.prompt(), **more)
                if result is None or result.is_error:
                    return
                known = answer_of(result)["conversation_id"]

    async def ticket(self) -> None:
        """An ask that is handed back, and fetched by another client."""
        prompt = self.prompt("slow")
        async with self.client() as client:
            result = await self.ask(client, prompt, wait_s=0)
        if result is None or result.is_error:
            return
        async with self.client() as client, asyncio.timeout(CALL_S):
            given = {"ask_id": answer_of(result)["ask_id"], "wait_s": CALL_S / 2}
            self.look(await client.call_tool("ask_result", given), prompt)

    async def cancelled(self) -> None:
        """An ask that is cancelled in the middle of its answer."""
        prompt = self.prompt("hang")
        async with self.client() as client:
            result = await self.ask(client, prompt, wait_s=self._dice.uniform(0, 0.5))
            if result is None or result.is_error:
                return
            named = {"ask_id": answer_of(result)["ask_id"]}
            async with asyncio.timeout(CALL_S):
                await client.call_tool("ask_cancel", named)
                self.look(await client.call_tool("ask_result", {**named, "wait_s": 60}), prompt)

    async def late(self) -> None:
        """An ask whose provider falls silent."""
        async with self.client() as client:
            await self.ask(client, self.prompt("hang"), timeout_s=1)

    async def failing(self) -> None:
        """Providers that fail."""
        async with self.client() as client:
            await self.ask(client, self.prompt(self._dice.choice(("cut", "fail"))))

    async def wrong_arguments(self) -> None:
        """A call that is refused."""
        async with self.client() as client:
            await self.ask(client, self.prompt(), model="no such model")

    async def status(self) -> None:
        """What programs look at."""
        async with self.client() as client, asyncio.timeout(CALL_S):
            await client.call_tool("token_status", {})
            await client.list_tools()
            await client.call_tool("ask_result", {})
        async with aiohttp.ClientSession() as http:
            for path in ("/health/live", "/health/ready", "/health/tokens", "/metrics"):
                async with http.get(self.url + path) as response:
                    await response.read()
                    if response.status >= 500:
                        self.wrong.append(f"{path}: {response.status}")

    async def hangs_up(self) -> None:
        """A client that closes its stream in the middle of an answer, which in the newer era is a cancel."""
        provider, prompt = self._dice.choice(PROVIDERS), self.prompt("slow")
        self.asks += 1
        params = {"name": f"ask_{provider}", "arguments": {"prompt": prompt}, "_meta": META}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with aiohttp.ClientSession() as http:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(self._dice.uniform(0.05, 0.8)):
                    headers = {**HEADERS, "Mcp-Name": f"ask_{provider}"}
                    async with http.post(self.url + "/mcp", json=message, headers=headers) as response:
                        await response.read()

    async def malformed(self) -> None:
        """Bodies that are no messages, and routes that are none."""
        async with aiohttp.ClientSession() as http:
            for body in self._dice.sample(WRONG_BODIES, 3):
                async with http.post(self.url + "/mcp", data=body, headers=HEADERS) as response:
                    await response.read()
                    if response.status >= 500:
                        self.wrong.append(f"{body[:40]!r}: {response.status}")
            async with http.get(self.url + "/nowhere") as response:
                await response.read()

    async def killed_child(self) -> None:
        """A CLI that is killed, whatever it does."""
        found = await asyncio.to_thread(children_of, self.world, self._dice.choice(PROVIDERS))
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._dice.choice(found).pid, signal.SIGKILL)

    async def refused_access(self) -> None:
        """Google takes an access token no more, before its time: the CLI is started again with a login to renew."""
        oauth = self.world.gemini.oauth
        if oauth.issued:
            oauth.rejected.add(oauth.issued[-1])

    def job(self) -> Callable[[], Awaitable[None]]:
        """What a client does next."""
        jobs: dict[Callable[[], Awaitable[None]], int] = {
            self.plain: 30,
            self.conversation: 14,
            self.ticket: 10,
            self.cancelled: 8,
            self.late: 4,
            self.failing: 6,
            self.wrong_arguments: 4,
            self.status: 10,
            self.hangs_up: 6,
            self.malformed: 6,
        }
        return self._dice.choices(list(jobs), list(jobs.values()))[0]

    async def run(self, job: Callable[[], Awaitable[None]]) -> None:
        """Do it, and count it. Whatever it raises is noted."""
        name = getattr(job, "__name__", "job").replace("_", " ")
        self.counts[f"did: {name}"] += 1
        try:
            await job()
        except Exception as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}"[:500])

    def forget(self) -> None:
        """Let go of what the stand-ins have kept of requests that have ended."""
        for upstream in (self.world.claude, self.world.gemini):
            for kept in (upstream.received, getattr(upstream, "oauth_received", [])):
                ended = [request for request in kept[:-50] if request.ended != "open"]
                for request in ended:
                    request.body = b""
