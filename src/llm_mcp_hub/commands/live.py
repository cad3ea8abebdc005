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
    async def shown(self, title: str, watch: Watch) -> AsyncGenerator[None]:
        """Show it while this lasts."""
        began = time.monotonic()

        async def show() -> None:
            while self._wanted:
                await asyncio.sleep(1)
                state = f"place {watch.position} in the queue" if watch.position else f"{watch.characters:,} characters"
                if not watch.characters:
                    self.clear()  # the one before may have been longer
                    print(f"{title} · {state} · {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
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
