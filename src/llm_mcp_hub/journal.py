"""Asks as records: what was asked, how far it is, how it ended, for whoever comes back for it. Knows no provider.

    accepted → working → completed | failed | cancelled

A record is written before the provider sees the prompt, and while text streams. As long as it is open its hub renews a
lease on it; one whose lease has lapsed belongs to a dead hub and is closed as failed by whoever looks at it, with the
text that had come. A hub that was only asleep and still has the answer writes it over that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

from llm_mcp_hub.conversation import Answer, Ask, ErrorDetails, Moment, Noun, Unshown, read
from llm_mcp_hub.errors import Busy, HubError, Internal, StoreUnavailable, from_details
from llm_mcp_hub.store.base import ASK, ASKS, CANCEL, PROBED, RUNNING, TALKING, Held, Put, Store, key

Status = Literal["accepted", "working", "completed", "failed", "cancelled"]
TITLE_CHARS = 80
LEASE_S = 15.0
"""A hub that has not renewed for this long may be dead."""
CONFIRM_S = LEASE_S / 3
"""So much later it is looked for again: after a store that was away, or a machine that slept, all hubs look dead."""


class Record(Noun):
    """An ask as it stands in the store."""

    ask_id: str
    principal: str
    provider: str
    model: str
    status: Status
    instance: str
    """The hub that runs it."""
    conversation_id: str
    title: Unshown
    """The beginning of the prompt, so that its owner knows it again."""
    created_at: Moment
    updated_at: Moment
    """Both UTC."""
    partial_text: str | None = None
    answer: Answer | None = None
    error: ErrorDetails | None = None

    @property
    def ended(self) -> bool:
        return self.status not in {"accepted", "working"}

    @property
    def age_s(self) -> int:
        """Seconds since it was accepted."""
        return max(0, round((datetime.now(UTC) - datetime.fromisoformat(self.created_at)).total_seconds()))

    @property
    def failure(self) -> HubError | None:
        """The error that it ended with."""
        return from_details({**self.error, "partial_text": self.partial_text}) if self.error is not None else None

    @property
    def lease(self) -> Held:
        """What its hub renews while it is open."""
        return Held(RUNNING, f"{self.instance}/{self.principal}/{self.ask_id}")

    @property
    def turn(self) -> Held:
        """What keeps a second ask out of its conversation."""
        return Held(
            key(TALKING, who=self.principal, conversation_id=self.conversation_id), f"{self.instance}/{self.ask_id}"
        )


def opened(ask: Ask, instance: str) -> Record:
    """The record of an ask that has just been accepted."""
    at = now()
    return Record(
        ask_id=ask.ask_id,
        principal=ask.principal,
        provider=ask.provider,
        model=ask.model,
        status="accepted",
        instance=instance,
        conversation_id=ask.conversation_id,
        title=title(ask.prompt),
        created_at=at,
        updated_at=at,
    )


def title(prompt: str) -> str:
    """The beginning of a prompt, in one line of printable characters."""
    words = " ".join(prompt[: 4 * TITLE_CHARS].split())
    line = "".join(character if character.isprintable() else "�" for character in words)
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1] + "…"


def now() -> str:
    """ISO 8601, UTC, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """The records of all hubs on one store. Every method but `reachable` raises StoreUnavailable."""

    def __init__(self, store: Store, *, retention_s: float, instance: str = "") -> None:
        """`instance` is this hub: it knows itself what it runs, and whether it lives."""
        self._store = store
        self._retention_s = retention_s
        self._instance = instance
        self.runs: Callable[[str], bool] = lambda _ask_id: True
        """Whether this hub still knows of an ask of its own."""
        self.dead: set[str] = set()
        """Hubs that are known to be dead: nobody has to look twice."""

    async def reachable(self, within_s: float) -> bool:
        """Whether the store answers within so many seconds. Raises nothing."""
        try:
            async with asyncio.timeout(within_s):
                await self._store.get(PROBED)
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    async def save(self, record: Record) -> None:
        """Write a record as it is now. An open one is leased with it, so that nobody takes its hub for dead."""
        if not record.ended:
            await self._store.renew([record.lease], ttl_s=LEASE_S)
        put = self.put(record)
        await self._store.put(put.key, put.value, ttl_s=put.ttl_s, listed=put.listed)
        if record.ended:
            await self._store.release([record.lease])

    def put(self, record: Record) -> Put:
        """What writes a record, for a store operation that writes more than it."""
        return Put(
            key(ASK, who=record.principal, ask_id=record.ask_id),
            _bytes(record),
            self._retention_s,
            key(ASKS, who=record.principal),
        )

    async def get(self, principal: str, ask_id: str) -> Record | None:
        """One's own ask as it stands; None when there is none of that id."""
        (value,) = await self._store.get(key(ASK, who=principal, ask_id=ask_id))
        record = read(Record, value)
        if record is None or (record.principal, record.ask_id) != (principal, ask_id):
            return None
        return (await self._settled([record]))[0]

    async def newest(self, principal: str, limit: int) -> list[Record]:
        """One's own last asks, the newest first."""
        values = await self._store.newest(key(ASKS, who=principal), limit)
        return await self._settled([found for value in values if (found := read(Record, value)) is not None])

    async def delete(self, principal: str, ask_id: str) -> bool:
        """Forget an ask. Returns whether there was one."""
        return await self._store.delete(key(ASK, who=principal, ask_id=ask_id)) > 0

    async def close_lost(self) -> None:
        """Close the asks of dead hubs."""
        holders: list[str] = []
        records: list[Record] = []
        for holder in await self._store.lapsed(RUNNING):
            principal, _, ask_id = holder.partition("/")[2].rpartition("/")
            (value,) = await self._store.get(key(ASK, who=principal, ask_id=ask_id))
            record = read(Record, value)
            if record is None or record.ended:  # it ended otherwise, or was forgotten
                holders.append(holder)
            else:
                records.append(record)
        await self._store.release([Held(RUNNING, holder) for holder in holders])
        await self._settled(records)

    async def hold_conversation(self, record: Record, *, begun: bool) -> list[Held]:
        """Hold an ask's conversation for its turn. Raises Busy while another ask has it.

        A conversation that has not begun is known to nobody else, so it does without the store if it must.
        """
        turn = record.turn
        try:
            for _ in range(2):
                if await self._store.take(turn.lease, turn.holder, limit=1, ttl_s=LEASE_S):
                    return [turn]
                # Whoever has it may be dead: to look at its ask settles that, and frees the conversation.
                for holder in await self._store.holders(turn.lease):
                    instance, _, ask_id = holder.partition("/")
                    held = await self.get(record.principal, ask_id)
                    # Its hub died before it wrote the ask down, or between writing its end and letting go.
                    if instance in self.dead or (held is not None and held.ended):
                        await self._store.release([Held(turn.lease, holder)])
        except StoreUnavailable:
            if begun:
                raise
            return []
        raise Busy(
            "This conversation is still answering an earlier ask.",
            action="Wait for that answer (ask_result lists it), or ask without conversation_id.",
            retry_after_s=5,
        )

    async def wish_cancelled(self, ask_id: str) -> None:
        """Ask the hub that runs it, whichever it is, to cancel an ask."""
        await self._store.put(key(CANCEL, ask_id=ask_id), b"{}", ttl_s=3600)

    async def cancel_wishes(self, ask_ids: Iterable[str]) -> list[str]:
        """Those of these asks that somebody wants cancelled."""
        asked = list(ask_ids)
        values = await self._store.get(*(key(CANCEL, ask_id=ask_id) for ask_id in asked))
        return [ask_id for ask_id, value in zip(asked, values, strict=True) if value is not None]

    async def _settled(self, records: list[Record]) -> list[Record]:
        """Close those that are open and whose hub is dead. It takes CONFIRM_S where that is not known for sure."""
        lost = await self._without_a_hub(records)
        if any(record.instance not in self.dead for record in lost):
            await asyncio.sleep(CONFIRM_S)
            lost = await self._without_a_hub(lost)
        closed: dict[str, Record] = {}
        for record in lost:
            # Read again: it may have ended since.
            (value,) = await self._store.get(key(ASK, who=record.principal, ask_id=record.ask_id))
            latest = read(Record, value) or record
            if not latest.ended:
                latest = failed(latest, died(latest) if latest.instance != self._instance else unwritten(latest))
                with contextlib.suppress(StoreUnavailable):  # a full one can still be read; the next look writes it
                    await self.save(latest)
                    await self._store.release([latest.turn])
            closed[record.ask_id] = latest
        return [closed.get(record.ask_id, record) for record in records]

    async def _without_a_hub(self, records: list[Record]) -> list[Record]:
        """Those that are open and that no hub has renewed for long."""
        open_ones = [
            record
            for record in records
            if not record.ended and not (record.instance == self._instance and self.runs(record.ask_id))
        ]
        if not open_ones:
            return []
        alive = set(await self._store.holders(RUNNING))
        return [record for record in open_ones if record.lease.holder not in alive]


def completed(record: Record, answer: Answer) -> Record:
    """The record of an ask that ended with this answer."""
    return record.model_copy(
        update={"status": "completed", "answer": answer, "partial_text": None, "updated_at": now()}
    )


def failed(record: Record, error: HubError, partial: str | None = None) -> Record:
    """The record of an ask that ended with this error."""
    details = {name: value for name, value in error.details().items() if name != "partial_text"}
    return record.model_copy(
        update={
            "status": "cancelled" if error.code == "cancelled" else "failed",
            "error": details,
            "partial_text": partial or record.partial_text,
            "updated_at": now(),
        }
    )


def died(record: Record) -> HubError:
    """What an ask of a dead hub ends with."""
    return Internal(
        "The hub that ran this ask ended before the answer was whole.",
        action="Ask again; what had come is kept.",
        provider=record.provider,
        ask_id=record.ask_id,
        retryable=True,
    )


def unwritten(record: Record) -> HubError:
    """What an ask ends with whose end the store did not take for so long that its hub let go of it."""
    return Internal(
        "The store could not take the end of this ask.",
        action="Make room for the store, or mend it, and ask again.",
        provider=record.provider,
        ask_id=record.ask_id,
        retryable=True,
    )


def _bytes(noun: Noun) -> bytes:
    return noun.model_dump_json().encode()
