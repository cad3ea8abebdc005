"""A proxy on loopback for hosts whose addresses are written into a CLI. It knows CONNECT, and no provider.

A CLI that is told of it by HTTPS_PROXY reaches a stand-in where it means to reach its provider, and nothing else: it
never opens a connection to anything but 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Literal


class ConnectProxy:
    """An HTTP proxy that knows CONNECT only; `tunnel_to` says which port of this machine a target is.

    None refuses the target (403, a surprise), "drop" hangs up as a dead network does. It never
    opens a connection to anything but 127.0.0.1.
    """

    def __init__(
        self, tunnel_to: Callable[[str], int | Literal["drop"] | None], surprise: Callable[[str], None]
    ) -> None:
        self._tunnel_to = tunnel_to
        self._surprise = surprise
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in proxy", daemon=True)
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(10) or not self.port:
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20))
            self.port = int(server.sockets[0].getsockname()[1])
        finally:
            self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            self._turn()  # who has come just now gets a task yet, and that its beginning: it closes what it has
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._turn()
            self._loop.close()

    def _turn(self) -> None:
        """Let go on what can go on at once."""
        for _ in range(10):
            self._loop.run_until_complete(asyncio.sleep(0))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked = re.match(rb"(\S+) (\S+) HTTP/1\.[01]\r\n", head)
        method, target = (asked[1].decode("latin-1"), asked[2].decode("latin-1")) if asked else ("?", "?")
        port = self._tunnel_to(target) if method == "CONNECT" else None
        if port == "drop":
            return
        if port is None:
            self._surprise(f"proxy: {method} {target}")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            there = asyncio.ensure_future(_pump(reader, far_writer))
            back = asyncio.ensure_future(_pump(far_reader, writer))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
