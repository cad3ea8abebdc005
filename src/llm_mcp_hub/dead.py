"""Hubs that are known to have died, and what they held: nobody has to wait until it lapses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.journal import Journal
from llm_mcp_hub.store.base import PLACES, RUNNING, Store


class Dead:
    """The dead hubs of which this one has heard."""

    def __init__(
        self, store: Store, journal: Journal, found: Callable[[], Iterable[str]], providers: Sequence[str]
    ) -> None:
        """`found` names hubs that have died, each once; it is asked often."""
        self._store = store
        self._journal = journal
        self._found = found
        self._leases = [RUNNING, *(PLACES.format(provider=name) for name in providers)]
        self._unburied: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that still hold something."""
        self._unburied.update(self._found())
        return tuple(self._unburied)

    async def bury(self) -> None:
        """Let go of what they held, if the store can be reached. Raises nothing."""
        with contextlib.suppress(StoreUnavailable):
            for instance in self.names:
                self._journal.dead.add(instance)
                await self._store.lapse(self._leases, holders_of=f"{instance}/")
                self._unburied.discard(instance)
