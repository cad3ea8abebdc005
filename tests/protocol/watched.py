"""A hub to be started as a process, over `stdio` or `http`, whose login is said to change with every ask.

It is made of the hub's own parts around a provider that plays a script; what watches the logins is told of each change,
as whoever looks after the logins does it. With `fails-to-close` behind the folder, over stdio, its end goes wrong.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from mcp.server.lowlevel import Server

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.observe import logs
from llm_mcp_hub.observe.metrics import Metrics
from llm_mcp_hub.providers.base import Event
from llm_mcp_hub.serving.front import divide
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.serving.server import build_server
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import ScriptedProvider, ScriptedReader, done, login

ASKS = 8
NEVER_S = 3600.0
"""Longer than any test waits: what ends sooner was not waited for."""


class Changing(ScriptedProvider):
    """Each ask is one change of its login."""

    def __init__(self, updates: Updates) -> None:
        super().__init__("one", *[[done()]] * ASKS)
        self._updates = updates

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        async for event in super().ask(ask):
            await self._updates.changed()
            yield event


def hub_of(
    folder: Path, updates: Updates, reader: ScriptedReader | None = None, *, fails_to_close: bool = False
) -> Hub:
    store = SqliteStore(folder)
    provider = Changing(updates)
    provider.fails_to_close = fails_to_close
    return Hub(
        {"one": Entry(provider, login(store, reader), 1)},
        store=store,
        deadlines=Deadlines(whole=NEVER_S, first_text=NEVER_S, idle=NEVER_S),
        queue_limit=1,
    )


def server_of(hub: Hub, updates: Updates) -> Server[Any]:
    server = build_server(hub, "1", updates=updates)
    hub.logins.watchers.clear()  # what they tell of besides would be one change more than the test has made
    return server


def main(way: str, folder: Path, *, fails_to_close: bool = False) -> int:
    updates = Updates()
    if way == "stdio":
        front = divide()
        from llm_mcp_hub.serving import stdio

        return stdio.run(
            lambda: hub_of(folder, updates, fails_to_close=fails_to_close), lambda hub: server_of(hub, updates), front
        )
    from llm_mcp_hub.serving import http
    from llm_mcp_hub.serving.auth import Clients

    logs.configure("INFO", "console")
    app = http.build_app(
        lambda: hub_of(folder, updates),
        lambda hub, _detached: server_of(hub, updates),
        gauge=Metrics(),
        updates=updates,
        clients=Clients(folder / "clients.json"),
        drain_s=NEVER_S,
    )
    return http.serve(app, host="127.0.0.1", port=0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), fails_to_close="fails-to-close" in sys.argv[3:]))
