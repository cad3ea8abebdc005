"""How many asks of one provider run at once over all hubs of the store, and whose turn is next. Knows no provider.

The limit is a lease that all hubs share. The queue is this hub's own: it is bounded, and fair between principals. Who
has the fewest running is served first, of those who has waited longest for a turn: by the age of their asks alone, one
who came early with many would be served until they are through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass

from llm_mcp_hub.conversation import OWNER
from llm_mcp_hub.errors import Busy, StoreUnavailable
from llm_mcp_hub.journal import LEASE_S
from llm_mcp_hub.observer import Load
from llm_mcp_hub.store.base import PLACES, Held, Store

POLL_S = 0.2
"""How often a full store is asked again: another hub does not tell us when it frees a place."""
RETRY_S = 15.0


@dataclass(slots=True, eq=False)
class Seat:
    """An ask in the queue, and then in its place."""

    principal: str
    ask_id: str
    number: int
    granted: asyncio.Future[bool]
    """Done when it has its place; whether the store knows of it."""


class Places:
    """The places of one provider."""

    def __init__(self, store: Store, *, provider: str, instance: str, limit: int, queue_limit: int) -> None:
        """
        Args:
            store: where all hubs count.
            provider: whose places these are.
            instance: this hub.
            limit: how many asks may run at once, in all hubs together.
            queue_limit: how many asks may wait here.
        """
        self._store = store
        self._lease = PLACES.format(provider=provider)
        self._instance = instance
        self._limit = limit
        self._queue_limit = queue_limit
        self._queue: list[Seat] = []
        self._running: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        """When each principal was served last, counted in turns."""
        self._count = 0
        self._serving: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def enter(self, principal: str, ask_id: str) -> Seat:
        """Stand in the queue. Raises Busy when it is full, and for one of several principals when half of it is theirs.

        So whoever comes beside one that asks without end finds room, and by the queue's order is served next.
        """
        own = self._running[principal] + sum(seat.principal == principal for seat in self._queue)
        if principal != OWNER and own >= self._limit + self._queue_limit // 2:
            raise Busy(
                "Your asks have taken their share of the places and of the queue for this provider.",
                action=f"Try again in {RETRY_S:.0f} s, or when some of your asks have ended.",
                retry_after_s=RETRY_S,
            )
        if len(self._queue) + self._running.total() >= self._limit + self._queue_limit:
            raise Busy(
                "All places for this provider are taken and the queue is full.",
                action=f"Try again in {RETRY_S:.0f} s.",
                retry_after_s=RETRY_S,
            )
        self._count += 1
        seat = Seat(principal, ask_id, self._count, asyncio.get_running_loop().create_future())
        self._queue.append(seat)
        self._wake()
        return seat

    async def leave(self, seat: Seat) -> None:
        """Leave the queue, or the place. May be called twice."""
        if seat in self._queue:
            self._queue.remove(seat)
        elif seat.granted.done() and not seat.granted.cancelled():
            shared = seat.granted.result()
            seat.granted = asyncio.get_running_loop().create_future()
            self._running[seat.principal] -= 1
            if shared:
                with contextlib.suppress(StoreUnavailable):  # it lapses
                    await self._store.release([self.held(seat)])
        self._wake()

    def position(self, seat: Seat) -> int:
        """Place in the queue, 1 for the next; 0 for an ask that does not wait."""
        return self._order().index(seat) + 1 if seat in self._queue else 0

    def load(self, children: int = 0, started: int = 0) -> Load:
        """How busy this hub is here, with so many processes now and since it began."""
        return Load(self._running.total(), len(self._queue), self._limit, children, started)

    def held(self, seat: Seat) -> Held:
        """The lease of a place, to be renewed while its ask runs."""
        return Held(self._lease, f"{self._instance}/{seat.ask_id}")

    def _order(self) -> list[Seat]:
        """Who is served in which order."""
        before = Counter(self._running)
        ranked: list[tuple[int, int, int, Seat]] = []
        for seat in self._queue:
            ranked.append((before[seat.principal], self._turns.get(seat.principal, 0), seat.number, seat))
            before[seat.principal] += 1
        return [found[-1] for found in sorted(ranked, key=lambda found: found[:-1])]

    def _wake(self) -> None:
        self._changed.set()
        if self._queue and (self._serving is None or self._serving.done()):
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while self._queue:
            self._changed.clear()
            seat = self._order()[0]
            granted = shared = False
            if self._running.total() < self._limit:
                try:
                    lease = self.held(seat)
                    granted = shared = await self._store.take(
                        lease.lease, lease.holder, limit=self._limit, ttl_s=LEASE_S
                    )
                except StoreUnavailable:  # nobody knows what the others run: half of it is ours at most
                    granted = self._running.total() < max(1, self._limit // 2)
            if not granted:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._changed.wait()
            elif seat in self._queue:
                self._queue.remove(seat)
                self._running[seat.principal] += 1
                self._turns[seat.principal] = max(self._turns.values(), default=0) + 1
                seat.granted.set_result(shared)
            elif shared:  # it left while the store was asked
                with contextlib.suppress(StoreUnavailable):
                    await self._store.release([self.held(seat)])
