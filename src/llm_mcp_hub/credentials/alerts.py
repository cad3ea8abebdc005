"""Tells of a login that needs a person, and when it works again: once per state and day over all hubs on the store.

Knows statuses as values. Knows no provider by name, and nothing of how a status came about or how often it is looked
at. A hub that sees a login ail holds a lease for it, so that another hub, whose login works, does not call it mended.

While the store is away nobody can tell who else tells: the log has its line, once; what goes out waits for the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from llm_mcp_hub.conversation import Noun, read, whole
from llm_mcp_hub.credentials.status import State, TokenStatus, utc
from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import AILING, ALERT, ALERTED, Held, Store, key

NEEDS_A_PERSON: frozenset[State] = frozenset({"warning", "expired", "rejected", "ineligible", "misconfigured"})
"""Not `missing`: a login that was never made is no news. Not `unknown`: nothing is known to be wrong."""
CLAIM_S = 25 * 3600.0
"""A day, and an hour for clocks that do not agree."""
ALERTED_S = 7 * 86_400.0
AILING_S = 900.0
"""A hub that is not heard of for so long has no say any more. Look at least three times as often."""
TEXT_CHARS = 1_900
"""Discord takes 2,000."""
REMEMBERED = 256
log = structlog.stdlib.get_logger("llm_mcp_hub.alerts")


class Alert(Noun):
    """What a person is told. `status` is `valid` for a recovery. Holds no secret, as no status does."""

    id: str
    at: str
    provider: str
    status: State
    previous: State | None
    message: str
    action: str
    expires_at: str | None
    days_remaining: int | None

    @property
    def text(self) -> str:
        """All of it in one line, for a chat."""
        what = "works again." if self.status == "valid" else f"needs attention ({self.status})."
        line = " ".join(f"llm-mcp-hub: the login of {self.provider} {what} {self.message} {self.action}".split())
        return line if len(line) <= TEXT_CHARS else f"{line[: TEXT_CHARS - 1]}…"


class Told(Noun):
    """What was last told of a provider, for whoever sees it work again."""

    status: State
    source: str | None
    """Where the credential was found; None where none was."""
    alert: str = ""
    """The alert's id."""


class Sink(Protocol):
    """A way out of the machine."""

    def send(self, alert: Alert) -> None:
        """Take it along. Returns at once; what goes wrong later is the sink's own to log."""
        ...

    async def close(self) -> None:
        """Let what is on its way arrive, within a bound of the sink's own."""
        ...


def alert_of(provider: str, status: TokenStatus, now: datetime, previous: State | None = None) -> Alert | None:
    """The alert that this status is worth, None where nobody has to do anything."""
    return _alert(provider, status, now, previous) if status.status in NEEDS_A_PERSON else None


def recovery_of(provider: str, status: TokenStatus, now: datetime, previous: State | None) -> Alert:
    """The good news after an alert."""
    return _alert(provider, status, now, previous)


def _alert(provider: str, status: TokenStatus, now: datetime, previous: State | None) -> Alert:
    named = f"{provider}\n{status.status}\n{now.timestamp()!r}\n{status.message}"
    return Alert(
        id=f"alert_{hashlib.sha256(named.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}",
        at=utc(now),
        provider=provider,
        status=status.status,
        previous=previous,
        message=whole(status.message),
        action=whole(status.action),
        expires_at=status.expires_at,
        days_remaining=status.days_remaining,
    )


def _now() -> datetime:
    return datetime.now(UTC)


class Alerts:
    """One hub's part in telling. `clock` must know its zone."""

    def __init__(self, store: Store, sinks: Sequence[Sink] = (), clock: Callable[[], datetime] = _now) -> None:
        self._store = store
        self._sinks = tuple(sinks)
        self._clock = clock
        self._hub = secrets.token_hex(8)
        self._states: dict[str, tuple[State | None, State]] = {}
        """Of each provider the state before the last change, and the last one."""
        self._settled: dict[str, None] = {}
        """Keys of ALERT of which it is known who tells."""
        self._logged: dict[str, None] = {}
        """Those that this hub has logged while the store was away."""
        self._alone: dict[str, State] = {}
        """Providers of which nobody but this hub's log knows so far."""
        self._ailing: set[str] = set()
        self._waiting: dict[str, Told] = {}
        """What had been told of a provider when its login here came to work again, another hub's did not yet."""

    async def look(self, statuses: Mapping[str, TokenStatus]) -> None:
        """Tell what is due. Call it whenever a status may have changed, and at least every 5 minutes. Never raises."""
        now = self._clock()
        for provider, status in statuses.items():
            previous = self._noted(provider, status.status)
            try:
                alert = alert_of(provider, status, now, previous)
                if alert is not None:
                    await self._raise(alert, now, None if status.credential is None else status.credential.source)
                elif status.status == "valid":
                    await self._recover(provider, status, now)
            except Exception as error:  # whoever asks about a login must not fail because telling of it does
                log.warning("alert failed", provider=provider, status=status.status, error=type(error).__name__)

    async def close(self) -> None:
        """Let what is on its way arrive, and have no say any more. Call it before the store is closed. Never raises."""
        await asyncio.gather(*(sink.close() for sink in self._sinks), return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._store.release([self._held(provider) for provider in self._ailing])
            self._ailing.clear()

    # -- one provider --------------------------------------------------------------------------------------------------

    async def _raise(self, alert: Alert, now: datetime, source: str | None) -> None:
        name = key(ALERT, provider=alert.provider, state=alert.status, day=f"{now.astimezone(UTC):%Y-%m-%d}")
        self._ailing.add(alert.provider)
        try:
            await self._store.renew([self._held(alert.provider)], ttl_s=AILING_S)
            if name in self._settled:
                return
            # A claim that failed may have been written all the same: then the key holds our own name.
            ours = self._hub.encode()
            mine = await self._store.add(name, ours, ttl_s=CLAIM_S) or await self._store.get(name) == [ours]
            if mine:
                told = Told(status=alert.status, source=source, alert=alert.id)
                record = key(ALERTED, provider=alert.provider)
                await self._store.put(record, told.model_dump_json().encode(), ttl_s=ALERTED_S)
        except StoreUnavailable:
            if name not in self._settled and name not in self._logged:
                _remember(self._logged, name)
                self._alone[alert.provider] = alert.status
                _log(alert)
            return
        if name in self._settled:  # by another look of this hub, meanwhile
            return
        _remember(self._settled, name)
        self._alone.pop(alert.provider, None)
        if mine:
            if name not in self._logged:
                _log(alert)
            self._send(alert)

    async def _recover(self, provider: str, status: TokenStatus, now: datetime) -> None:
        source = None if status.credential is None else status.credential.source
        record = key(ALERTED, provider=provider)
        told: Told | None = None
        try:
            found = read(Told, (await self._store.get(record))[0])
            if provider in self._ailing:
                await self._store.release([self._held(provider)])
                self._ailing.discard(provider)
                if found is not None:
                    self._waiting[provider] = found
            ailed = found is not None and self._waiting.get(provider) == found
            # Another hub's login is another login: ours says nothing of it, unless it stands where that one stood.
            over = (
                found is not None
                and (ailed or found.source in (None, source))
                and not await self._store.holders(key(AILING, provider=provider))
            )
            if over and await self._store.delete(record) == 1:
                told = found
            if over or not ailed:  # else it is for a later look, when no other hub's ails any more
                self._waiting.pop(provider, None)
        except StoreUnavailable:
            pass
        alone = self._alone.pop(provider, None)
        if told is not None:
            recovery = recovery_of(provider, status, now, told.status)
            _log(recovery)
            self._send(recovery)
        elif alone is not None:
            _log(recovery_of(provider, status, now, alone))

    def _send(self, alert: Alert) -> None:
        for sink in self._sinks:
            try:
                sink.send(alert)
            except Exception as error:  # the next one may do better
                log.warning("alert not sent", sink=type(sink).__name__, error=type(error).__name__)

    def _held(self, provider: str) -> Held:
        return Held(key(AILING, provider=provider), self._hub)

    def _noted(self, provider: str, state: State) -> State | None:
        before, last = self._states.get(provider, (None, None))
        if last is None or last != state:
            before = last
            self._states[provider] = (before, state)
        return before


def _remember(names: dict[str, None], name: str) -> None:
    names[name] = None
    while len(names) > REMEMBERED:
        del names[next(iter(names))]


def _log(alert: Alert) -> None:
    fields = alert.model_dump(mode="json", exclude={"id", "at"})
    if alert.status == "valid":
        log.info("login works again", **fields)
    elif alert.status == "warning":
        log.warning("login needs attention", **fields)
    else:
        log.error("login needs attention", **fields)
