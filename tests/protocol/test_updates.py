"""Clients that watch `hub://tokens`: the official one, over every transport, in both eras."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from llm_mcp_hub.serving.resources import TOKENS, Updates
from llm_mcp_hub.serving.server import build_server
from tests.harness import DEADLINE_S, EVERY_WAY, ROOT, Era, HttpHub, Transport
from tests.protocol.watched import hub_of, server_of
from tests.unit.scripted import ScriptedReader
from tests.unit.statuses import status

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")]
"""Told to those who call it in the newer era as well as in the older one, where it is the only way."""
CONVERSATION = "hub://conversations/conv_1"
Told = asyncio.Queue[str]


def environment() -> dict[str, str]:
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **coverage}


@asynccontextmanager
async def running_http(folder: Path) -> AsyncGenerator[HttpHub]:
    """The hub of `watched.py` over HTTP, stopped at the end."""
    command = ("-m", "tests.protocol.watched", "http", str(folder))
    hub = await asyncio.to_thread(lambda: HttpHub(environment(), cwd=ROOT, command=command))
    try:
        yield hub
    finally:
        await asyncio.to_thread(hub.stop)


@asynccontextmanager
async def connected(folder: Path, transport: Transport, era: Era) -> AsyncGenerator[tuple[Client, Told]]:
    """A client on a hub of its own, and the resources that it was told of outside of any stream."""
    told: Told = asyncio.Queue()

    async def hear(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            told.put_nowait(str(message.params.uri))

    async with AsyncExitStack() as stack:
        if transport == "http":
            hub = await stack.enter_async_context(running_http(folder))
            server: Any = hub.url + "/mcp"
        else:
            words = ["-m", "tests.protocol.watched", "stdio", str(folder)]
            errors = stack.enter_context((folder / "stdio.log").open("w"))
            started = StdioServerParameters(command=sys.executable, args=words, env=environment(), cwd=ROOT)
            server = stdio_client(started, errlog=errors)
        client = Client(server, mode=era, message_handler=hear)
        yield await stack.enter_async_context(client), told


async def within(work: Any) -> Any:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


async def change(client: Client) -> None:
    """One ask, with which the login is said to change."""
    result = await within(client.call_tool("ask_one", {"prompt": "hello"}))
    assert not result.is_error


async def state(client: Client) -> str:
    read = await within(client.read_resource(TOKENS))
    content = read.contents[0]
    assert isinstance(content, types.TextResourceContents)
    return json.loads(content.text)["one"]["status"]


@pytest.fixture(params=["stdio", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param


async def test_a_client_of_the_newer_era_hears_of_a_change_on_its_stream(tmp_path: Path, transport: Transport) -> None:
    """A second change is another event."""
    async with (
        connected(tmp_path, transport, "auto") as (client, _told),
        client.listen(resource_subscriptions=[TOKENS]) as stream,
    ):
        for _ in range(2):
            await change(client)

            assert await within(anext(stream)) == ResourceUpdated(TOKENS)


async def test_what_nobody_will_be_told_of_is_not_acknowledged(tmp_path: Path, transport: Transport) -> None:
    """A client that is promised changes of the tools, or of a conversation, would never ask for them again."""
    async with (
        connected(tmp_path, transport, "auto") as (client, _told),
        client.listen(
            tools_list_changed=True,
            prompts_list_changed=True,
            resources_list_changed=True,
            resource_subscriptions=[CONVERSATION, TOKENS],
        ) as all_there_is,
        client.listen(tools_list_changed=True, resource_subscriptions=[CONVERSATION]) as nothing,
    ):
        assert all_there_is.honored == types.SubscriptionFilter(resource_subscriptions=[TOKENS])
        assert nothing.honored == types.SubscriptionFilter()


async def test_a_client_of_the_older_era_hears_of_a_change_once_it_has_subscribed(
    tmp_path: Path, transport: Transport
) -> None:
    """Not before, once however often it subscribed, and not any more when it has unsubscribed."""
    async with connected(tmp_path, transport, "legacy") as (client, told):
        await change(client)
        await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        await change(client)
        assert await within(told.get()) == TOKENS
        await within(client.unsubscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        await change(client)
        await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        await change(client)

        assert await within(told.get()) == TOKENS
        assert told.empty()


async def test_a_client_of_the_older_era_cannot_watch_anything_else(tmp_path: Path, transport: Transport) -> None:
    """A subscription that is accepted and never fires is worse than a refusal."""
    async with connected(tmp_path, transport, "legacy") as (client, _told):
        with pytest.raises(MCPError) as caught:
            await within(client.subscribe_resource(CONVERSATION))  # pyright: ignore[reportDeprecated]

    assert caught.value.code == types.INVALID_PARAMS
    assert TOKENS in caught.value.message


@pytest.mark.parametrize(("way", "era"), EVERY_WAY)
async def test_capabilities_say_what_is_told_of(tmp_path: Path, way: Transport, era: Era) -> None:
    """Resources can be watched, in both eras; that a list has changed is told by nobody."""
    async with connected(tmp_path, way, era) as (client, _told):
        capabilities = client.server_capabilities

    assert capabilities.resources is not None
    assert capabilities.resources.subscribe is True
    for listed in (capabilities.resources, capabilities.tools, capabilities.prompts):
        assert listed is not None
        assert not listed.list_changed


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_hub_that_ends_does_not_wait_for_those_who_watch(tmp_path: Path, era: Era) -> None:
    """It would wait an hour for its open requests here: streams of watchers must end with it, and with grace."""
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_http(tmp_path))
        client = await stack.enter_async_context(Client(hub.url + "/mcp", mode=era))
        if era == "legacy":
            await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
            hub.process.terminate()
        else:
            stream = await stack.enter_async_context(client.listen(resource_subscriptions=[TOKENS]))
            hub.process.terminate()
            with pytest.raises(StopAsyncIteration):
                await within(anext(stream))

        assert await within(asyncio.to_thread(hub.process.wait, DEADLINE_S)) == 0


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_login_that_ends_is_heard_of_by_who_watches(tmp_path: Path, era: Era) -> None:
    """By nobody's ask: the hub looks at its logins again and again. What is read then is the new status."""
    reader, told = ScriptedReader(), asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            told.set()

    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(hub_of(tmp_path, Updates(), reader))
        client = await stack.enter_async_context(Client(build_server(hub, "1"), mode=era, message_handler=hear))
        if era == "legacy":
            await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        else:
            await stack.enter_async_context(client.listen(resource_subscriptions=[TOKENS]))
        watching = asyncio.get_running_loop().create_task(hub.logins.watch())
        for expected in ("valid", "expired"):
            await within(told.wait())
            assert await state(client) == expected
            told.clear()
            reader.state = "expired"
            hub.logins.shown()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_what_every_ask_shows_is_no_news(tmp_path: Path) -> None:
    """Evidence and quota are new after each answer; a client that reads again each time would do nothing else."""
    updates = Updates()
    async with (
        hub_of(tmp_path, updates) as hub,
        Client(server_of(hub, updates)) as client,
        client.listen(resource_subscriptions=[TOKENS]) as stream,
    ):
        await updates.look({"one": status()})
        assert await within(anext(stream)) == ResourceUpdated(TOKENS)
        for known in (status(message="other"), status(last_success_at="2026-11-27T00:00:00Z")):
            await updates.look({"one": known})
        updates.close()

        with pytest.raises(StopAsyncIteration):
            await within(anext(stream))


async def test_a_client_that_has_gone_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else every session of a long-lived hub would be kept, and told, for ever."""
    caplog.set_level(logging.DEBUG, "mcp")
    updates = Updates()
    async with hub_of(tmp_path, updates) as hub:
        for _ in range(3):
            async with Client(server_of(hub, updates), mode="legacy") as client:
                await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
        caplog.clear()
        await within(updates.changed())

    assert [record.message for record in caplog.records if "resources/updated" in record.message] == []


async def test_one_that_does_not_read_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stopped must not stop the hub: the others are told, and whoever tells goes on after a bound."""
    monkeypatch.setattr("llm_mcp_hub.serving.resources.TELL_S", 0.05)
    updates = Updates()
    heard: Told = asyncio.Queue()

    async def hear(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.put_nowait(str(message.params.uri))

    said, hearing = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    saying, read = anyio.create_memory_object_stream[SessionMessage](0)
    async with hub_of(tmp_path, updates) as hub, said, read, anyio.create_task_group() as group:
        server = server_of(hub, updates)
        group.start_soon(server.run, hearing, saying, server.create_initialization_options())
        greeting = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
        for number, (method, params) in enumerate(
            [("initialize", greeting), ("resources/subscribe", {"uri": TOKENS})], start=1
        ):
            request = types.JSONRPCRequest(jsonrpc="2.0", id=number, method=method, params=params)
            await within(said.send(SessionMessage(request)))
            answer = (await within(read.receive())).message
            assert isinstance(answer, types.JSONRPCResponse), answer
        async with Client(server, mode="legacy", message_handler=hear) as client:
            await within(client.subscribe_resource(TOKENS))  # pyright: ignore[reportDeprecated]
            for _ in range(2):
                await within(updates.changed())
                assert await within(heard.get()) == TOKENS
        group.cancel_scope.cancel()
