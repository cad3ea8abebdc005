"""One provider's login over time: which one an ask uses, what asks have shown of it, and what that makes its status.

Knows the reader by what it holds, and the store by the ledger. What is held is read anew at every question; what is
known of it is kept here and in the store, so all hubs learn from each other's asks. While the store is away a hub goes
on with what it knows itself, and writes it down later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.known import NOTHING, Held, Known, Lasted, Reading, merged
from llm_mcp_hub.credentials.ledger import VERIFY_S, Ledger
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.credentials.steady import Reader, Steady
from llm_mcp_hub.credentials.verdict import choose, current, verdict
from llm_mcp_hub.errors import HubError, StoreUnavailable

TICK_S = 0.001


def now() -> datetime:
    return datetime.now(UTC)


class Monitor:
    """See the module."""

    def __init__(
        self,
        reader: Reader,
        ledger: Ledger,
        *,
        alert: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """
        Args:
            reader: finds the logins.
            ledger: what all hubs know of them.
            alert: how long before a known end to warn.
            clock: knows its zone.
        """
        self._reader = Steady(reader)
        self._ledger = ledger
        self._alert = alert
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._unwritten: dict[str, Known] = {}
        """What the store has not taken yet, by mark."""
        self._moves = 0
        self._seen: set[str] = set()
        self._dated: set[str] = set()
        self._lasted: tuple[Lasted, ...] = ()
        self._verified = -VERIFY_S

    # -- what an ask needs, now ----------------------------------------------------------------------------------------

    def held(self) -> Held:
        """The login that an ask would use now, or what says why there is none. Reads files, nothing of the store."""
        return self._chosen(self._reader.held())

    def secret(self) -> Held:
        """The login for an ask. Raises HubError when there is none that may be used."""
        held = self.held()
        if held.problem is not None:
            raise held.problem
        return held

    def mark(self) -> str:
        """The name of the login that an ask would use now; empty where there is none."""
        return self.held().mark

    def status(self) -> TokenStatus:
        """The status by what is held now and what this hub knows already."""
        return self._verdict(self.held())

    def quota(self) -> tuple[QuotaWindow, ...]:
        """What was last seen of the windows of the login that an ask would use now."""
        return current(self._known.get(self.mark(), NOTHING).quota, self._clock())

    # -- with what other hubs know -------------------------------------------------------------------------------------

    async def look(self) -> TokenStatus:
        """The status, with what every hub on the store knows. While the store is away, with what this one knows."""
        held = self._reader.held()
        marks = [one.mark for one in held if one.mark]
        with contextlib.suppress(StoreUnavailable):
            for _ in range(2):
                moves = self._ledger.moves
                await self._write_down(held)
                account = next((one.account for one in held if one.account), "")
                found, self._lasted = await asyncio.gather(self._ledger.known(marks), self._ledger.lasted(account))
                for mark, known in found.items():
                    self._known[mark] = merged(self._known.get(mark, NOTHING), known)
                if moves == self._ledger.moves:  # else what was written down stands where nobody looks any more
                    break
        for one in held:
            if one.mark and self._known.get(one.mark, NOTHING).first_seen is None:
                self._learn(one.mark, Known(first_seen=self._clock().timestamp()))
        return self._verdict(self._chosen(held))

    async def _write_down(self, held: Sequence[Held]) -> None:
        """Write down what the store does not have yet: all of it, where the store has become another one."""
        if self._moves != self._ledger.moves:
            self._moves = self._ledger.moves
            self._seen.clear()
            self._dated.clear()
            self._unwritten = {mark: known for mark, known in self._known.items() if known != NOTHING}
        for mark in (one.mark for one in held if one.mark):
            if mark not in self._seen:
                first = self._known.get(mark, NOTHING).first_seen
                await self._ledger.saw(mark, self._clock().timestamp() if first is None else first)
                self._seen.add(mark)
        for one in held:
            if one.issued is not None and one.issued_by == "ledger" and one.mark not in self._dated:
                await self._ledger.note(one.mark, Known(issued_at=one.issued[0].timestamp()))
                self._dated.add(one.mark)
        for mark, known in list(self._unwritten.items()):
            await self._ledger.note(mark, known, late=True)
            if self._unwritten.get(mark) is known:  # else another look wrote it, or more was learned meanwhile
                del self._unwritten[mark]

    async def worked(self, mark: str, quota: Sequence[QuotaWindow] = ()) -> None:
        """An ask with this login was answered. Raises nothing."""
        await self._note(mark, Known(success=Reading(at=self._tick(mark)), quota=tuple(quota)))

    async def failed(self, mark: str, error: HubError, quota: Sequence[QuotaWindow] = ()) -> None:
        """An ask with this login ended in this error, which may say something of the login or not. Raises nothing."""
        known = Known(quota=tuple(quota))
        ended: tuple[Held, float] | None = None
        if error.shows is not None:
            held = next((one for one in self._reader.held() if one.mark == mark), None)
            reading = Reading(
                at=self._tick(mark),
                code=error.code,
                message=error.message,
                action=error.action,
                setting=held.setting if held else "",
            )
            if error.shows == "refused":
                known = known.model_copy(update={"refusal": reading})
                if error.code == "auth_expired" and held is not None and held.account:
                    ended = held, reading.at
            else:
                kind = "accepted" if error.shows == "accepted" else "trouble"
                known = known.model_copy(update={kind: reading})
        if known != NOTHING:
            await self._note(mark, known)
        if ended is not None:
            await self._ended(*ended)

    async def may_verify(self) -> bool:
        """Whether this hub may spend a verifying ask now: one a minute over all hubs, or by itself without a store."""
        try:
            return await self._ledger.may_verify()
        except StoreUnavailable:
            if time.monotonic() - self._verified < VERIFY_S:
                return False
            self._verified = time.monotonic()
            return True

    def _chosen(self, held: Sequence[Held]) -> Held:
        return choose(held, self._known, self._clock(), newest_first=self._reader.newest_first)

    def _verdict(self, held: Held) -> TokenStatus:
        known = self._known.get(held.mark, NOTHING)
        return verdict(held, known, self._clock(), alert=self._alert, lasted=self._lasted)

    async def _note(self, mark: str, known: Known) -> None:
        if not mark:
            return
        self._learn(mark, known)
        before = self._unwritten.get(mark)
        try:
            await self._ledger.note(mark, merged(before or NOTHING, known), late=before is not None)
        except (StoreUnavailable, asyncio.CancelledError) as error:
            self._unwritten[mark] = merged(self._unwritten.get(mark, NOTHING), known)
            if isinstance(error, asyncio.CancelledError):  # nobody knows whether it was written
                raise
        else:
            if self._unwritten.get(mark) is before:  # else the store has refused another ask's meanwhile
                self._unwritten.pop(mark, None)

    def _learn(self, mark: str, known: Known) -> None:
        self._known[mark] = merged(self._known.get(mark, NOTHING), known)

    def _tick(self, mark: str) -> float:
        """Now, and later than all that is known: clocks of hubs differ, and may be set back."""
        return max(self._clock().timestamp(), self._known.get(mark, NOTHING).newest + TICK_S)

    async def _ended(self, held: Held, at: float) -> None:
        known = self._known.get(held.mark, NOTHING)
        began = known.issued_at or known.first_seen
        if began is not None and at > began:
            life = Lasted(seconds=at - began, exact=known.issued_at is not None)
            with contextlib.suppress(StoreUnavailable):
                await self._ledger.ended(held.mark, held.account, life)
