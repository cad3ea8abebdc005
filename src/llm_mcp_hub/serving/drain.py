"""How a hub over HTTP comes to its end: not ready, no new asks, time for those that run, then records that tell it.

    begin     at the first signal, within its handler: `/health/ready` is 503, connections close with their next answer
    ≤ drain   running asks end by themselves, and their callers are answered
    then      the rest end as failed, with the text that has come; whoever waits for one is told so
    ≤ LINGER  the answers go out
    at last   streams that would not end are cut

A second signal leaves out the waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sse_starlette.sse import AppStatus

from llm_mcp_hub.hub import Hub
from llm_mcp_hub.serving.underway import Underway

LINGER_S = 2.0
"""How long answers may take to go out."""
HURRIED_S = 0.25
ENDED_S = 7.0
"""How long asks that are ended may take to be written down: who waits for one is answered then."""
POLL_S = 0.05
log = structlog.stdlib.get_logger("llm_mcp_hub.drain")


class Drain:
    """See the module."""

    def __init__(self, drain_s: float, underway: Underway, end_streams: Callable[[], None]) -> None:
        """
        Args:
            drain_s: how long running asks may go on.
            underway: the requests that are being served.
            end_streams: ends with grace the streams that tell of changes.
        """
        # Else every answer that is streamed in the older era would be cut off half a second after the signal.
        AppStatus.disable_automatic_graceful_drain()
        self._drain_s = drain_s
        self._underway = underway
        self._end_streams = end_streams
        self._stop_by: float | None = None
        self._linger_s = LINGER_S
        self._hub: Hub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        return self._stop_by is not None

    def of(self, hub: Hub) -> asyncio.Task[None]:
        """Whose end it is. Call it on the running loop. Returns what brings it about."""
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._ending = self._loop.create_task(self._run(hub))
        if self.begun:
            self._begun.set()
        return self._ending

    def signalled(self) -> None:
        """A signal to end has come; the second one is impatient. Safe within a signal's handler."""
        if self.begun:
            self._stop_by, self._linger_s = time.monotonic(), HURRIED_S
        self.begin()

    def begin(self) -> None:
        """From now on the hub is not ready, and takes no new asks. May be called twice."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._drain_s
            self._underway.closing = True
            if self._hub is not None and self._loop is not None:
                self._hub.take_no_more(self._stop_by)
                self._loop.call_soon_threadsafe(self._begun.set)

    async def over(self) -> None:
        """Begin, if that has not been, and wait for the end of it. No ask runs then."""
        self.begin()
        if self._ending is not None:
            await asyncio.shield(self._ending)

    async def _run(self, hub: Hub) -> None:
        await self._begun.wait()
        hub.take_no_more(self._stop_by or 0.0)
        self._end_streams()
        log.info("the hub ends: it takes no new asks", drain_s=self._drain_s)
        # Both bounds are read anew each time: a second signal moves them.
        while (hub.is_asked or self._underway.owed) and time.monotonic() < (self._stop_by or 0.0):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        left = asyncio.ensure_future(hub.end_running())
        await asyncio.wait([left], timeout=ENDED_S)  # a store that somebody holds lets the last records wait
        if not left.done() or left.result():
            log.warning("asks were ended before their answers were whole", asks=left.result() if left.done() else None)
        since = time.monotonic()
        while self._underway.owed and time.monotonic() < since + self._linger_s:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        self._underway.cut()
