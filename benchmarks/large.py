"""Large prompts and large answers, whole or not at all: 1 MB, and 5 MB of Hangul.

A prompt has arrived when the stand-in has as many of its characters as were sent. An answer is there when the caller
has all of it: over MCP the hub hands it out in pages, which its client fetches one after the other.

    python -m benchmarks.large [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

from benchmarks.bench import Bench, alone
from benchmarks.result import FailedError, Table
from benchmarks.ways import PROVIDERS, Opened, Provider, Way, answering, asked, text_of, ways
from tests.harness import World

ABOUT = "Prompts and answers of 1 MB and 5 MB."
ROUNDS = 3
PROMPT_LIMIT = 1_000_000
ENDS = 1_000
"""Characters at both ends of a prompt that are looked for in what arrives."""
SIZES = {
    "1": ("1 MB", "abcdefghijklmnopqrstuvwxyz", 1_000_000),
    "5": ("5 MB of Hangul", "가나다라마바사아자차", 1_666_667),
}
"""Of each: its name, its letters, and how many characters."""
LINE = 99
PIECE = 16_000
"""Characters of one event of the answer's stream."""


def text(letters: str, characters: int) -> str:
    """So many characters, in lines, the same each time. Nothing in it comes again: Gemini's CLI ends an answer that
    repeats itself."""
    chance = random.Random(1)
    lines = ("".join(chance.choices(letters, k=LINE)) for _ in range(characters // (LINE + 1) + 1))
    return "\n".join(lines)[: characters - 1] + "."


def strings(held: Any) -> Generator[str]:
    """Every text in a JSON value."""
    if isinstance(held, str):
        yield held
    elif isinstance(held, dict):
        for each in cast("dict[str, Any]", held).values():
            yield from strings(each)
    elif isinstance(held, list):
        for each in cast("list[Any]", held):
            yield from strings(each)


async def prompts(bench: Bench, world: World, provider: Provider, size: str) -> Table:
    name, letters, characters = SIZES[size]
    table = Table(f"prompt-{size}/{provider}", f"A prompt of {name}, {provider.title()}", "ms", base="direct")
    prompt = text(letters, characters)

    async def send(way: Way, opened: Opened) -> None:
        await _send(world, way, opened, prompt)

    def check(way: Way) -> None:
        came = "".join(strings(asked(world, way.provider)[-1].json))
        if len(came) < len(prompt):
            raise FailedError(f"{len(came):,} of {len(prompt):,} characters arrived")
        if not (prompt[:ENDS] in came and prompt[-ENDS:].strip() in came):  # a CLI's own words come with it
            raise FailedError("the prompt arrived without its beginning or its end")

    for way in ways(world, bench.peers, provider=provider):
        cut = way.key == "hub" and len(prompt) > PROMPT_LIMIT
        await _row(
            bench, table, way, send, check, "a prompt of 1,000,000 characters, the rest as a text" if cut else ""
        )
    bench.tell_absent(table, provider)
    return table


async def _send(world: World, way: Way, opened: Opened, prompt: str) -> None:
    before = world.prompts_received(way.provider)
    if way.key == "hub" and len(prompt) > PROMPT_LIMIT:
        # More than one prompt may hold: the rest goes before it, as a text attachment.
        rest = {"name": "rest.txt", "mime_type": "text/plain", "text": prompt[PROMPT_LIMIT:]}
        await _call(opened, way, {"prompt": prompt[:PROMPT_LIMIT], "attachments": [rest]})
    else:
        await opened.ask(prompt)
    if world.prompts_received(way.provider) == before:
        raise FailedError("no request arrived")


async def _call(opened: Opened, way: Way, arguments: dict[str, Any]) -> str:
    assert opened.client is not None
    return text_of(await opened.client.call_tool(f"ask_{way.provider}", arguments))


async def answers(bench: Bench, world: World, provider: Provider, size: str) -> Table:
    name, letters, characters = SIZES[size]
    table = Table(f"answer-{size}/{provider}", f"An answer of {name}, {provider.title()}", "ms", base="direct")
    said = text(letters, characters)

    async def fetch(way: Way, opened: Opened) -> None:
        await _fetch(way, opened, said)

    with answering(world, provider, [said[at : at + PIECE] for at in range(0, len(said), PIECE)]):
        for way in ways(world, bench.peers, provider=provider):
            await _row(bench, table, way, fetch)
    bench.tell_absent(table, provider)
    return table


async def _fetch(way: Way, opened: Opened, said: str) -> None:
    if way.key == "hub":
        got = await _pages(way, opened)
    elif way.key in {"direct", "bare"}:  # the stream as it is
        events = [line[6:] for line in (await opened.ask("hello")).splitlines() if line.startswith("data: ")]
        got = "".join("".join(strings(json.loads(event))) for event in events)
    else:
        got = await opened.ask("hello")
    if len(got) < len(said):
        raise FailedError(f"{len(got):,} of {len(said):,} characters came" + (f": {got}" if 0 < len(got) < 500 else ""))


async def _pages(way: Way, opened: Opened) -> str:
    """All pages of the hub's answer."""
    assert opened.client is not None
    result = await opened.client.call_tool(f"ask_{way.provider}", {"prompt": "hello"})
    got = text_of(result)
    meta: dict[str, Any] = dict(result.meta or {})
    ask_id = meta["llm-mcp-hub/answer"]["ask_id"]
    while (offset := meta.get("llm-mcp-hub/page", {}).get("next_offset")) is not None:
        result = await opened.client.call_tool("ask_result", {"ask_id": ask_id, "offset": offset})
        got += text_of(result)
        meta = dict(result.meta or {})
    return got


async def _row(
    bench: Bench,
    table: Table,
    way: Way,
    once: Callable[[Way, Opened], Awaitable[None]],
    check: Callable[[Way], None] = lambda _way: None,
    note: str = "",
) -> None:
    """What it took, or what went wrong at the first try. `check` is no part of what is measured."""
    taken: list[float] = []
    try:
        async with way.open() as opened:
            if way.stays:
                await opened.ask("hello")
                await asyncio.sleep(1)
            for _ in range(bench.rounds(ROUNDS) if way.stays else 1):
                began = time.perf_counter()
                await once(way, opened)
                taken.append((time.perf_counter() - began) * 1e3)
                check(way)
        table.add(way.key, way.name, taken, note)
    except FailedError as error:
        table.add(way.key, way.name, note=f"fails: {str(error).strip()[:120]}")


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    for part in (prompts, answers):
        for provider in PROVIDERS:
            with bench.world() as world:
                tables += [await part(bench, world, provider, size) for size in SIZES]
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
