"""All logins at once: their status for whoever asks, and for those who want to be told. Knows no provider, and no ask.

What one login is, and what asks show of it, is `credentials/monitor.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.alerts import Alerts
from llm_mcp_hub.credentials.monitor import Monitor
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import HubError

WATCH_S = 30.0
"""How soon a login that was changed by hand, or another hub's evidence, is noticed where nobody asks."""
Watcher = Callable[[Mapping[str, TokenStatus]], Awaitable[None]]
log = structlog.stdlib.get_logger("llm_mcp_hub.logins")


class Logins:
    """The logins of a hub, by provider."""

    def __init__(
        self,
        table: Mapping[str, Monitor],
        prove: Callable[[str], Awaitable[HubError | None]],
        alerts: Alerts | None = None,
    ) -> None:
        """
        Args:
            table: what watches over each login.
            prove: spends one tiny real ask on a provider, and raises nothing: what it shows is learned on the way, and
                why it was not answered is returned.
            alerts: tells of logins that need a person, as long as somebody watches.
        """
        self._table = dict(table)
        self._prove = prove
        self._shown = asyncio.Event()
        self._alerts = alerts
        self.watchers: list[Watcher] = [] if alerts is None else [alerts.look]
        """Who is told the status of all logins when `watch` has looked at them."""

    async def status(self, names: Sequence[str], *, verify: bool = False) -> dict[str, TokenStatus]:
        """What all hubs know of these logins.

        `verify` spends one tiny real ask for each, at most once a minute over all hubs on the store; where that is not
        spent, or shows nothing of the login, the status says so.
        """
        notes = await asyncio.gather(*(self._verify(name) for name in names)) if verify else [Note()] * len(names)
        found = await asyncio.gather(*(self._table[name].look() for name in names))
        return {name: note.on(status) for name, note, status in zip(names, notes, found, strict=True)}

    def quota(self, name: str) -> tuple[QuotaWindow, ...]:
        """What the last ask has shown of the subscription's windows."""
        return self._table[name].quota()

    def shown(self) -> None:
        """An ask has shown something of a login: `watch` looks at once."""
        self._shown.set()

    async def watch(self, *, first_after_s: float = 0.0) -> None:
        """Look at the logins again and again until cancelled, and at once when an ask has shown something of one.

        An error of a watcher is logged, and ends nothing.
        """
        await asyncio.sleep(first_after_s)
        while True:
            self._shown.clear()
            known = await self.status(list(self._table))
            for watcher in self.watchers:
                try:
                    await watcher(known)
                except Exception:
                    log.exception("telling the status of the logins failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._shown.wait()

    async def close(self) -> None:
        """Let what is on its way to somebody arrive, within a bound."""
        if self._alerts is not None:
            await self._alerts.close()

    async def _verify(self, name: str) -> Note:
        """Prove it. Returns what the status does not say of that by itself."""
        login = self._table[name]
        await login.look()
        if not login.mark():
            return Note()  # there is nothing to prove
        if not await login.may_verify():
            return Note("It was not asked again: less than a minute ago somebody had it proven, or tried to.")
        error = await self._prove(name)
        if error is None or error.shows in {"accepted", "refused"}:
            return Note()
        return Note(f"It could not be proven now ({error.code}): {error.message}", error.message)


@dataclass(frozen=True, slots=True)
class Note:
    """What a proof has to say beside the status, and why it failed, which the status may say already."""

    text: str = ""
    why: str = ""

    def on(self, status: TokenStatus) -> TokenStatus:
        if not self.text or (self.why and self.why in status.message):
            return status
        return status.model_copy(update={"message": f"{status.message} {self.text}"})
