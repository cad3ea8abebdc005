"""How an ask is, on a terminal, until its text begins."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_mcp_hub.running import Watch


class LiveLine:
    """One line on a terminal's stderr that says how an ask is, until its text begins."""

    def __init__(self, *, quiet: bool) -> None:
        self._wanted = not quiet and sys.stderr.isatty()
        self._shown = False

    @contextlib.asynccontextmanager
    async def shown(self, title: str, watch: Watch | None) -> AsyncGenerator[None]:
        """Show it while this lasts; without a watch only for how long it has."""
        began = time.monotonic()

        async def show() -> None:
            while self._wanted:
                await asyncio.sleep(1)
                if watch is not None and watch.characters:
                    continue
                parts = [title, *_state(watch), f"{time.monotonic() - began:.0f} s"]
                self.clear()  # the one before may have been longer
                print(" · ".join(parts), end="", file=sys.stderr, flush=True)
                self._shown = True

        showing = asyncio.get_running_loop().create_task(show())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            self.clear()

    def clear(self) -> None:
        """Take it away again."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def _state(watch: Watch | None) -> list[str]:
    if watch is None:
        return []
    return [f"place {watch.position} in the queue" if watch.position else "0 characters"]
