"""When nobody asks, children are let go: over stdio many hubs stand idle beside their editors. Knows no provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from llm_mcp_hub.providers.base import Provider

AFTER_S = 600.0
"""How long nobody has to ask."""


class Rest:
    """Lets every child go after a time without a sign of life."""

    def __init__(self, providers: Iterable[Provider], busy: Callable[[], bool]) -> None:
        self._providers = list(providers)
        self._busy = busy
        self._timer: asyncio.TimerHandle | None = None
        self._letting_go: set[asyncio.Task[None]] = set()
        self.wanted = False
        """Whether it is to happen at all: a server that is warmed at its start stays warm."""

    def hold(self) -> None:
        """Note a sign of life: the time begins anew, if nothing runs."""
        self.close()
        if self.wanted and not self._busy():
            self._timer = asyncio.get_running_loop().call_later(AFTER_S, self._let_go)

    def close(self) -> None:
        """Let nothing go by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        for provider in self._providers:
            task = asyncio.get_running_loop().create_task(self._close(provider))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    async def _close(self, provider: Provider) -> None:
        if not self._busy():  # an ask may have come between the timer and this
            await provider.close()
