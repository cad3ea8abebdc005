"""What a provider has refused until a known time, remembered so that nobody asks in vain. Knows no provider.

A limit counts for one login: another login has other limits. It counts for one model where the provider says so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from llm_mcp_hub.conversation import Ask, ErrorDetails, Noun, Seconds, read
from llm_mcp_hub.errors import HubError, StoreUnavailable, from_details
from llm_mcp_hub.store.base import COOL, Store

EVERY_MODEL = "*"


class Cooled(Noun):
    """The error that an ask met, and until when the next would meet it too."""

    error: ErrorDetails
    until: Seconds
    """Seconds since 1970."""


class CoolDowns:
    """The cool-downs of all hubs on one store. What it does not take is kept here, and written down later."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._unwritten: dict[str, Cooled] = {}

    async def note(self, provider: str, login: str, model: str, error: HubError) -> None:
        """Remember an error that names the time of its end; one that does not is none to remember. Raises nothing.

        It is known at once, whatever becomes of its being written down.
        """
        if not error.retry_after_s:
            return
        told = error.details()
        del told["partial_text"], told["ask_id"]
        key = COOL.format(provider=provider, login=login, model=model if error.only_model else EVERY_MODEL)
        self._unwritten[key] = Cooled(error=told, until=self._clock() + error.retry_after_s)
        with contextlib.suppress(StoreUnavailable):
            await self.write_late()

    async def write_late(self) -> None:
        """Write down what the store has not taken yet. Raises StoreUnavailable."""
        for key, cooled in list(self._unwritten.items()):
            left = cooled.until - self._clock()
            if left > 0:
                await self._store.put(key, cooled.model_dump_json().encode(), ttl_s=left)
            if self._unwritten.get(key) is cooled:  # else another ask has met it meanwhile
                del self._unwritten[key]

    async def met(self, provider: str, login: str, model: str) -> HubError | None:
        """The error that an ask for this model would meet now. Raises StoreUnavailable where that alone knows."""
        keys = [COOL.format(provider=provider, login=login, model=which) for which in (EVERY_MODEL, model)]
        return self._met([self._unwritten.get(key) for key in keys]) or self._met(
            [read(Cooled, value) for value in await self._store.get(*keys)]
        )

    def _met(self, limits: Sequence[Cooled | None]) -> HubError | None:
        now = self._clock()
        return next((met for one in limits if one is not None and (met := met_by(one, now)) is not None), None)

    async def check(self, ask: Ask, login: str, *, pays_extra: bool) -> None:
        """Raise the error that the provider would answer anyway, while its limit lasts.

        Not one that another setting has met, where the owner allows asks beyond the subscription (`pays_extra`).
        """
        with contextlib.suppress(StoreUnavailable):
            await self.write_late()
        with contextlib.suppress(StoreUnavailable):  # then the provider itself will tell
            met = await self.met(ask.provider, login, ask.model)
            if met is not None and not (pays_extra and met.code == "billing_blocked"):
                raise met


def met_by(cooled: Cooled, now: float) -> HubError | None:
    """The error that an ask would meet at this moment; None when the limit is over."""
    left = cooled.until - now
    if left <= 0:
        return None
    error = from_details({**cooled.error, "retry_after_s": max(1, round(left))})
    error.shows = None  # nobody was asked: of the login it says nothing that was not known
    return error
