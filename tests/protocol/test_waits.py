"""How long a call waits before it hands back a ticket: by its own word, the operator's, or its client's name.

The hub and the official client in one process, on a loop whose time jumps to the next thing that is due: what takes
minutes is tested as it is, in seconds. Nothing here looks at how the choice is made.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, Implementation

from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.observe.metrics import Metrics
from llm_mcp_hub.serving.auth import Clients
from llm_mcp_hub.serving.detached import Detached
from llm_mcp_hub.serving.http import build_app
from llm_mcp_hub.serving.resources import Updates
from llm_mcp_hub.serving.server import build_server, by_request
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.harness import Era, answer_of, error_of
from tests.unit.scripted import ScriptedProvider, login

pytestmark = pytest.mark.anyio
TIMEOUT_S = 700
"""The asks' deadline, longer than any client is known to wait."""
LATE_S = 5.0
"""What a thread does takes its real time on the clock too."""
KNOWN: dict[str, float | None] = {
    "claude-code": None,
    "gemini-cli-mcp-client": 540,
    "cursor-vscode": 50,
    "not-claude-code": 50,
    "": 50,
}


class HastySelector(selectors.DefaultSelector):
    """Says at once that nothing happened, and counts the time as gone by, unless a thread is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0
        self.at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.at_work:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.ahead += timeout
        return ready


class HastyLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: where nothing happens, its clock goes on to the next timer.

    What a thread does takes its real time, and no more than that on this clock.
    """

    def __init__(self) -> None:
        self._hasty = HastySelector()
        super().__init__(self._hasty)

    def time(self) -> float:
        return super().time() + self._hasty.ahead

    def waits_for(self, work: asyncio.Future[Any]) -> None:
        """The clock goes as every clock until this future is done."""
        self._hasty.at_work += 1
        work.add_done_callback(self._rested)

    def _rested(self, _: asyncio.Future[Any]) -> None:
        self._hasty.at_work -= 1


@pytest.fixture(autouse=True)
def threads_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is outside of the loop here is the store's thread, whose results come as wrapped futures."""
    wrap = asyncio.wrap_future

    def counted(future: Any, **named: Any) -> asyncio.Future[Any]:
        wrapped = wrap(future, **named)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HastyLoop)
        loop.waits_for(wrapped)
        return wrapped

    monkeypatch.setattr(asyncio, "wrap_future", counted)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": HastyLoop}


def silent_hub(folder: Path) -> Hub:
    """A hub whose provider never says a word."""
    never = asyncio.Event()
    store = SqliteStore(folder)
    return Hub(
        {"one": Entry(ScriptedProvider("one", *[[never]] * 2), login(store), 8)},
        store=store,
        deadlines=Deadlines(whole=3600, first_text=3600, idle=3600),
        queue_limit=8,
    )


@asynccontextmanager
async def connected(folder: Path, era: Era, name: str, hub_wait_s: float | None = None) -> AsyncGenerator[Client]:
    """A client of this name on such a hub."""
    async with silent_hub(folder) as hub:
        server = build_server(hub, "1", wait_s=hub_wait_s)
        async with Client(server, mode=era, client_info=Implementation(name=name, version="1")) as client:
            yield client


async def timed(client: Client, tool: str, **arguments: Any) -> tuple[CallToolResult, float]:
    """The result of a call, and how long it took on the loop's clock."""
    clock = asyncio.get_running_loop().time
    began = clock()
    return await client.call_tool(tool, arguments), clock() - began


async def waited(client: Client, **arguments: Any) -> float | None:
    """How long `ask_one` waited before it gave a ticket; None where it waited until the deadline."""
    result, took = await timed(client, "ask_one", prompt="hello", timeout_s=TIMEOUT_S, **arguments)
    if result.is_error:
        assert error_of(result)["code"] == "timeout"
        assert TIMEOUT_S <= took < TIMEOUT_S + LATE_S
        return None
    assert answer_of(result)["status"] == "working"
    return took


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("name", KNOWN)
async def test_a_call_waits_as_long_as_its_client_is_known_to(tmp_path: Path, era: Era, name: str) -> None:
    """Claude Code until the deadline, Gemini's CLI nine minutes, every other less than the minute that is usual."""
    async with connected(tmp_path, era, name) as client:
        took = await waited(client)

    expected = KNOWN[name]
    assert took == expected if expected is None else expected <= (took or 0) < expected + LATE_S


@pytest.mark.parametrize("name", ["gemini-cli-mcp-client", "cursor-vscode"])
async def test_a_replica_knows_its_clients_name_by_the_sealed_session(tmp_path: Path, name: str) -> None:
    """There each call of the older era comes by itself, and what was said at `initialize` is nowhere kept."""
    key = "k" * 32
    hub = silent_hub(tmp_path)

    def server_maker(made: Hub, detached: Detached | None) -> Server[Any]:
        return build_server(made, "1", who=by_request, detached=detached)

    app = build_app(
        lambda: hub,
        server_maker,
        gauge=Metrics(),
        updates=Updates(),
        clients=Clients(tmp_path / "clients.json"),
        keys=[key],
    )
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), timeout=None) as http,
        Client(
            streamable_http_client("http://127.0.0.1/mcp", http_client=http),
            mode="legacy",
            client_info=Implementation(name=name, version="1"),
        ) as client,
    ):
        took = await waited(client)

    expected = KNOWN[name]
    assert took == expected if expected is None else expected <= (took or 0) < expected + LATE_S


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("name", ["claude-code", "gemini-cli-mcp-client", "cursor-vscode"])
async def test_what_the_operator_says_goes_before_the_clients_name(tmp_path: Path, era: Era, name: str) -> None:
    """HUB_WAIT_S holds for every client; `wait_s` of a call goes before it, and 0 is a word too."""
    async with connected(tmp_path, era, name, hub_wait_s=20) as client:
        by_the_operator = await waited(client)
        by_the_call = await waited(client, wait_s=90)

    assert 20 <= (by_the_operator or 0) < 20 + LATE_S
    assert 90 <= (by_the_call or 0) < 90 + LATE_S


async def test_a_wait_of_nothing_is_a_ticket_at_once(tmp_path: Path) -> None:
    """Where else the call would wait for ever, or as the operator says."""
    async with connected(tmp_path, "auto", "claude-code", hub_wait_s=20) as client:
        assert (await waited(client, wait_s=0) or 0) < LATE_S
    async with connected(tmp_path, "auto", "cursor-vscode", hub_wait_s=0) as client:
        assert (await waited(client) or 0) < LATE_S


@pytest.mark.parametrize(("name", "expected"), [("cursor-vscode", 50), ("gemini-cli-mcp-client", 540)])
async def test_a_wait_for_an_answer_is_chosen_in_the_same_way(tmp_path: Path, name: str, expected: float) -> None:
    """`ask_result` waits as its client is known to, or as the call says."""
    async with connected(tmp_path, "auto", name) as client:
        ticket, _ = await timed(client, "ask_one", prompt="hello", timeout_s=TIMEOUT_S, wait_s=0)
        ask_id = answer_of(ticket)["ask_id"]
        still, by_the_call = await timed(client, "ask_result", ask_id=ask_id, wait_s=7)
        again, by_name = await timed(client, "ask_result", ask_id=ask_id)

    assert [answer_of(result)["status"] for result in (still, again)] == ["working", "working"]
    assert 7 <= by_the_call < 7 + LATE_S
    assert expected <= by_name < expected + LATE_S


async def test_a_wait_ends_with_the_deadline_of_the_ask(tmp_path: Path) -> None:
    """A call that would wait longer than the ask may take is told the time-out, not given a ticket."""
    async with connected(tmp_path, "auto", "cursor-vscode") as client:
        result, took = await timed(client, "ask_one", prompt="hello", timeout_s=30)

    assert error_of(result)["code"] == "timeout"
    assert 30 <= took < 30 + LATE_S
