"""Both stores as the contract is run on them: one body of state, any number of hubs at it, and time that goes by.

It knows how each is set up. It does not know what a store has to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

import pytest

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import Store
from llm_mcp_hub.store.redis import RedisStore
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.upstreams.redis import RedisServer

Kind = Literal["sqlite", "redis"]
DEADLINE_S = 60.0
LONG_S = 600.0
"""Longer than any test takes."""
SHORT_S = 0.05
"""What has so little time may be over at any moment, and is when `Shelf.wait` has returned."""


class Shelf(Protocol):
    """What hubs share."""

    def open(self) -> Store:
        """A store as one more hub has it."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return when so much time has gone by on the store's clock."""
        ...

    def empty(self) -> None:
        """Take all away that is in it, under the hubs that use it."""
        ...


class SqliteShelf:
    """A file; its clock stands still but for `wait`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_800_000_000.0
        self.stores: list[Store] = []

    def open(self) -> Store:
        self.stores.append(SqliteStore(self.folder, clock=lambda: self.now))
        return self.stores[-1]

    async def wait(self, seconds: float) -> None:
        self.now += seconds

    def empty(self) -> None:
        for file in self.folder.glob("hub.sqlite3*"):
            file.rename(file.with_name(f"away-{file.name}"))


class RedisShelf:
    """A server; its clock is its own. A busy machine must not look like a server that is away: hence the time-out."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.stores: list[Store] = []

    def open(self) -> Store:
        self.stores.append(RedisStore(self.server.url, timeout_s=DEADLINE_S))
        return self.stores[-1]

    async def wait(self, seconds: float) -> None:
        with self.server.client() as client:

            def now() -> float:
                whole, parts = client.time()
                return whole + parts / 1e6

            over = now() + seconds
            async with asyncio.timeout(DEADLINE_S):
                while now() <= over:
                    await asyncio.sleep(0.005)

    def empty(self) -> None:
        with self.server.client() as client:
            client.flushall()


@asynccontextmanager
async def opened(shelf: SqliteShelf | RedisShelf) -> AsyncGenerator[SqliteShelf | RedisShelf]:
    """A shelf whose stores are all closed at the end."""
    try:
        yield shelf
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(store.close() for store in shelf.stores))


async def refusal(store: Store, value: bytes = b"value") -> StoreUnavailable:
    """The error of a write that cannot be done; checks what holds for each of them."""
    with pytest.raises(StoreUnavailable) as caught:
        await store.put("key", value, ttl_s=LONG_S)
    error = caught.value
    assert 10 < len(error.message) < 300
    assert error.action
    assert error.retryable
    assert not any(word in error.message for word in ("SELECT", "INSERT", "redis.call", "EVAL", "://"))
    return error


async def until_refused(store: Store) -> None:
    """Read until the store is away: the first calls may be through before what was done to it."""
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(StoreUnavailable):
            while True:
                await store.get("key")


async def until_written(store: Store, key: str, value: bytes) -> None:
    """Try to write it until the store is there again, by itself."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await store.put(key, value, ttl_s=LONG_S)
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return
