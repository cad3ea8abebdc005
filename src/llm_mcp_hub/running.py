"""What this hub is busy with: running asks, what is seen of them, and the beat that keeps their records true.

Once a second, as long as anything runs: new text is written down (so that little is lost with the hub), leases are
renewed (so that nobody takes the hub for dead), wishes of other hubs to cancel are fulfilled, and the chores of others
are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from llm_mcp_hub.conversation import Answer, Ask, whole
from llm_mcp_hub.endings import cancelled
from llm_mcp_hub.errors import HubError, StoreUnavailable
from llm_mcp_hub.journal import LEASE_S, Journal, Record, now
from llm_mcp_hub.providers.base import Event, Restarted, Text
from llm_mcp_hub.store.base import Held, Store

BEAT_S = 1.0
RENEW_S = LEASE_S / 5
CLOSE_LOST_S = 60.0
WRITE_CHARS_S = 1_000_000
"""What is written down of one ask's text in a second at most: all of it is written anew each time."""
UNSAVED = 100
"""How many ended asks are kept in memory while the store is away."""

log = structlog.stdlib.get_logger("llm_mcp_hub.running")


@dataclass(slots=True, eq=False)
class Watch:
    """What can be seen of a running ask; `on_event` is told each event as it comes."""

    on_event: Callable[[Event], None] | None = None
    pieces: list[str] = field(default_factory=list[str])
    characters: int = 0
    place: Callable[[], int] = lambda: 0

    @property
    def position(self) -> int:
        """Place in the queue, 1 for the next; 0 for an ask that has its place."""
        return self.place()

    @property
    def text(self) -> str | None:
        """The text so far; None where there is none."""
        return whole("".join(self.pieces)) or None

    def saw(self, event: Event) -> None:
        if isinstance(event, Text):
            self.pieces.append(event.piece)
            self.characters += len(event.piece)
        elif isinstance(event, Restarted):
            self.pieces.clear()
            self.characters = 0
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:  # who looks on ends nothing
                self.on_event = None
                log.exception("showing an answer failed")


@dataclass(slots=True, eq=False)
class Running:
    """An ask that has been accepted, from then on to its end."""

    ask: Ask
    watch: Watch
    record: Record
    held: list[Held]
    """Leases beside the record's own."""
    task: asyncio.Task[None] | None = None
    answer: Answer | None = None
    error: HubError | None = None
    begun: bool = False
    """Whether its task has taken its first step: one that is cancelled before would never take any."""
    why: HubError | None = None
    """Why it is being ended, where it is."""
    handed_back: bool = False
    """Whether its caller has got a ticket, or was sent away: then no caller's leaving ends it."""
    whole: bool = False
    """Whether its end is there and only has to be written down: too late to end it."""
    kept: bool = False
    """Whether the store has it."""
    late: Callable[[], Awaitable[bool]] | None = None
    """What writes its turn down with its record, where the store was away when the answer came."""
    queue_ms: int | None = None
    """From its arrival until it had its place."""
    first_text_ms: int | None = None
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Or a beat's record of the text so far could be written over the record of the end."""
    written: int = 0
    due: float = 0.0

    async def ended(self, within_s: float | None) -> bool:
        """Wait for the end. Returns whether it came."""
        if self.task is not None and not self.task.done():
            await asyncio.wait([self.task], timeout=within_s)
        return self.task is None or self.task.done()

    def outcome(self) -> Answer:
        """The answer of an ask that has ended. Raises the HubError of one that failed."""
        if self.answer is None:
            raise self.error or RuntimeError("it has not ended")
        return self.answer

    def snapshot(self) -> Record:
        """The record with the text so far."""
        if self.record.ended:
            return self.record
        return self.record.model_copy(update={"partial_text": self.watch.text})


class Floor:
    """The running asks of this hub."""

    def __init__(self, store: Store, journal: Journal, *chores: Callable[[], Awaitable[None]]) -> None:
        """`chores` are done at each beat and at the end, whatever becomes of them."""
        self._store = store
        self._journal = journal
        self._chores = chores
        self._asks: dict[str, Running] = {}
        self._unsaved: dict[str, Running] = {}
        self._renew_at = 0.0
        self._leasing = asyncio.Lock()
        """Or a renewal that is on its way could take again what an end has just released."""
        self._beating: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        """What looks for asks whose hubs have died; it goes on where the beat ends for want of asks."""
        self._closing_at = 0.0

    def get(self, principal: str, ask_id: str) -> Running | None:
        """One's own running ask."""
        running = self._asks.get(ask_id)
        return running if running is not None and running.ask.principal == principal else None

    def unsaved(self, principal: str, ask_id: str) -> Record | None:
        """One's own ended ask that the store did not take."""
        ended = self._unsaved.get(ask_id)
        return ended.record if ended is not None and ended.ask.principal == principal else None

    def latest(self, record: Record) -> Record:
        """What is known here of a record that was read in the store, which may have been unable to take the last."""
        running = self._asks.get(record.ask_id)
        if running is not None:
            return running.snapshot()
        ended = self._unsaved.get(record.ask_id)
        return record if ended is None else ended.record

    def knows(self, ask_id: str) -> bool:
        """Whether an ask runs, or has ended and is still to be written down."""
        return ask_id in self._asks or ask_id in self._unsaved

    def all(self) -> list[Running]:
        return list(self._asks.values())

    def enter(self, running: Running) -> None:
        """An ask begins."""
        self._asks[running.ask.ask_id] = running
        if self._beating is None or self._beating.done():
            self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def keep(self, running: Running) -> bool:
        """Write an ask down that is not written down yet, if the store can be reached. Returns whether it is."""
        async with running.saving:
            if not running.kept and not running.record.ended:
                with contextlib.suppress(StoreUnavailable):  # the next beat tries again
                    await self._journal.save(running.snapshot())
                    running.kept = True
        return running.kept

    async def leave(self, running: Running, record: Record) -> None:
        """An ask has ended, as `record` tells. Raises nothing: what the store does not take is kept here a while."""
        try:
            async with running.saving:
                written = running.record is record
                running.record = record
                try:
                    if not written:
                        await self._save(running)
                    async with self._leasing:
                        await self._store.release([record.lease, *running.held])
                except StoreUnavailable:
                    self._unsaved[record.ask_id] = running
                    while len(self._unsaved) > UNSAVED:
                        dropped = next(iter(self._unsaved))
                        del self._unsaved[dropped]
                        log.warning("ask not written down", ask_id=dropped)
                    with contextlib.suppress(StoreUnavailable):  # a full one gives back what it cannot write
                        async with self._leasing:
                            await self._store.release(running.held)
        finally:  # or the hub would wait for it for ever
            self._asks.pop(running.ask.ask_id, None)

    async def write_late(self, principal: str, conversation_id: str) -> None:
        """Write down what has ended in a conversation, where the store takes it now: its next turn is to read it."""
        for running in list(self._unsaved.values()):
            if (running.ask.principal, running.ask.conversation_id) == (principal, conversation_id):
                await self._written_late(running)

    async def end_all(self, why: Callable[[Ask], HubError]) -> int:
        """End every ask that runs, and wait until it has ended. Returns how many."""
        left = self.all()
        for running in left:
            end(running, why(running.ask))
        await asyncio.gather(*(running.ended(None) for running in left))
        return len(left)

    async def close(self) -> None:
        """Stop beating; what is running must have ended."""
        tasks = [task for task in (self._beating, self._closing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            for step in (self._save_late, *self._chores):
                await self._tried(step)
        finally:  # whoever closes may have no more time
            for ask_id in self._unsaved:
                log.warning("ask not written down", ask_id=ask_id)

    # -- the beat -----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        steps = (self._renew, self._cancel_the_unwanted, self._write_down, self._save_late, *self._chores)
        while self._asks or self._unsaved:
            await asyncio.sleep(BEAT_S)
            for step in steps:
                await self._tried(step)
            if time.monotonic() >= self._closing_at and (self._closing is None or self._closing.done()):
                self._closing = asyncio.get_running_loop().create_task(self._tried(self._journal.close_lost))
                self._closing_at = time.monotonic() + CLOSE_LOST_S

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except StoreUnavailable as error:
            log.debug("store away", reason=error.message)
        except Exception:  # the beat must go on: without it every ask here looks dead
            log.exception("beat failed")

    async def _renew(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        async with self._leasing:
            asks = [running for running in self._asks.values() if not running.record.ended]
            held = [lease for running in asks for lease in (running.record.lease, *running.held)]
            if held:
                await self._store.renew(held, ttl_s=LEASE_S)
        self._renew_at = time.monotonic() + RENEW_S

    async def _cancel_the_unwanted(self) -> None:
        for ask_id in await self._journal.cancel_wishes(list(self._asks)):
            running = self._asks.get(ask_id)
            if running is not None:
                end(running, cancelled(running.ask))

    async def _write_down(self) -> None:
        """Write new text of running asks down, long texts less often."""
        at = time.monotonic()
        for running in self.all():
            if not await self.keep(running):
                continue
            fresh = running.watch.characters != running.written
            if running.record.ended or at < running.due or not (fresh or running.record.status == "accepted"):
                continue
            if running.first_text_ms is None and running.watch.position:
                continue  # it waits
            async with running.saving:
                if running.record.ended:
                    continue
                running.record = running.record.model_copy(update={"status": "working", "updated_at": now()})
                characters = running.watch.characters
                with contextlib.suppress(StoreUnavailable):  # the next beat tries again
                    await self._journal.save(running.snapshot())
                    running.written = characters
                    running.due = at + characters / WRITE_CHARS_S

    async def _save_late(self) -> None:
        for running in list(self._unsaved.values()):
            await self._written_late(running)

    async def _written_late(self, running: Running) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._save(running)
            await self._store.release([running.record.lease, *running.held])
            self._unsaved.pop(running.ask.ask_id, None)

    async def _save(self, running: Running) -> None:
        """Write an end down, with the turn that was not written when the answer came."""
        if running.late is None or not await running.late():
            await self._journal.save(running.record)


def end(running: Running, why: HubError) -> None:
    """Make an ask end now; its record will say why."""
    if running.task is not None and not running.task.done() and running.why is None and not running.whole:
        running.why = why
        if running.begun:
            running.task.cancel()
