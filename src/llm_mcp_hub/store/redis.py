"""The store of several machines: a Redis server, the only place that knows `redis`. Knows no ask, no key by name.

A server that is away costs one call its short time: from then on every call fails at once, while a task asks for the
server now and then, until it is back. Nothing is sent twice. redis-py's own errors quote what was read and say where
the server is: they decide about ours, and are not passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from llm_mcp_hub.errors import Misconfigured, StoreUnavailable
from llm_mcp_hub.store import redis_scripts as scripts
from llm_mcp_hub.store.base import LAPSED_KEPT_S, Held, Put, name_to_bytes, names_from_bytes
from llm_mcp_hub.store.redis_scripts import LIST, LOG, RECORD, SINCE, UNTIL

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT_S = 0.25
LOOKS = 20
"""How often a call's deadline looks at the loop."""
BYTES_PER_S = 20_000_000
"""What large values are given in time beside that."""
LARGE = 1_000_000
PINGS_S = (0.05, 0.1, 0.2, 0.4, 0.5)
"""How long to wait before asking again for a server that is away; the last of these from then on."""
CONNECTIONS = 16
FOREVER_MS = 100 * 365 * 86_400_000
KEPT_MS = int(LAPSED_KEPT_S * 1000)
COUNTS = "hub:count"
"""How the keys begin under which requests are counted, by a library of its own; each ends by itself."""

UNREACHABLE = ("The Redis server of REDIS_URL cannot be reached.", "Start it, or correct REDIS_URL.")
NO_ANSWER = ("The Redis server of REDIS_URL does not answer.", "Check that server; the hub finds it again by itself.")
NO_REDIS = ("What answers at REDIS_URL is no Redis server.", "Correct REDIS_URL.")
NO_TRUST = (
    "The certificate of the Redis server of REDIS_URL is not trusted.",
    "Name the file of its certificate authority: add ?ssl_ca_certs=FILE to REDIS_URL.",
)
NO_LOGIN = ("The Redis server refuses the login in REDIS_URL.", "Correct user and password in REDIS_URL.")
NO_RIGHT = (
    "The Redis user in REDIS_URL may not do what the hub needs.",
    "Allow that user: ~hub:* +@read +@write +@scripting +@connection +time -@dangerous",
)
NO_DATABASE = ("The Redis server has no database of the number in REDIS_URL.", "Correct REDIS_URL.")
NO_CLUSTER = ("The Redis server of REDIS_URL is part of a cluster.", "Use a Redis server that is none.")
LOADING = ("The Redis server of REDIS_URL is still loading its data.", "Try again in a moment.")
FULL = ("The Redis server of REDIS_URL is full.", "Give it more memory (maxmemory).")
READ_ONLY = ("The Redis server of REDIS_URL is a replica and takes no writes.", "Let REDIS_URL name the primary.")
NO_DISK = ("The Redis server of REDIS_URL cannot save to its disk.", "Mend that server's disk; its log says more.")
REFUSED = ("The Redis server of REDIS_URL refused a command.", "See that server's log.")


def _ms(seconds: float) -> int:
    return int(max(1, min(seconds * 1000, FOREVER_MS)))


def _held_ms(seconds: float) -> int:
    return min(_ms(seconds), KEPT_MS)


def _lease(lease: str) -> tuple[bytes, bytes]:
    name = name_to_bytes(lease)
    return UNTIL + name, SINCE + name


def connection(url: str) -> dict[str, Any]:
    """What redis-py is told of REDIS_URL: `redis[s]://[user][:password]@host[:port][/database]`, or `unix://path`.

    A query may hold `db`, and `ssl_ca_certs`, the file of an own certificate authority. Raises Misconfigured, without
    any part of the address: where there is a password, every part may be one.
    """

    def refused(what: str) -> Misconfigured:
        return Misconfigured(
            f"REDIS_URL is not usable: {what}.", action="Write it as redis://[user:password@]host[:port][/database]."
        )

    try:
        parts = urlsplit(url)
        port = parts.port
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise refused("it is no address") from None
    if not set(query) <= {"db", "ssl_ca_certs"} or parts.fragment:
        raise refused("what follows the `?` may be db and ssl_ca_certs only; a `#` in a password is written %23")
    told: dict[str, Any] = {"username": unquote(parts.username or "") or None}
    told["password"] = unquote(parts.password or "") or None
    database = query.get("db", "0")
    if parts.scheme == "unix":
        told["unix_socket_path"] = unquote(parts.path)
        if not parts.path:
            raise refused("it names no socket")
    elif parts.scheme in {"redis", "rediss"}:
        told |= {"host": parts.hostname or "localhost", "port": port or 6379}
        database = parts.path.strip("/") or database
    else:
        raise refused("it must begin with redis://, rediss:// or unix://")
    if not (database.isascii() and database.isdigit() and len(database) < 10):
        raise refused("the database is a number")
    if parts.scheme == "rediss":
        told |= {"ssl": True, "ssl_ca_certs": query.get("ssl_ca_certs")}
    return {**told, "db": int(database)}


def pool(url: str) -> Any:
    """Connections for a library that brings its own commands, within a `deadline`: nothing is sent twice.

    Raises Misconfigured.
    """
    return _client(connection(url)).connection_pool


def _client(told: dict[str, Any]) -> Redis:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # No time-outs of redis-py's own: our deadline holds for connecting, sending and reading together, grows with what
    # is sent, and knows when it was not the server that stood still.
    return Redis(**told, protocol=2, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0))


@contextlib.asynccontextmanager
async def deadline(limit: float) -> AsyncGenerator[None]:
    """`asyncio.timeout` on a clock that stands still with this loop: such time is not the server's.

    A hub that has just started imports half a second long while its first calls are on their way. The clock goes by
    looks at the loop, and however late a look comes, it counts as one.
    """
    loop = asyncio.get_running_loop()
    looks = LOOKS
    async with asyncio.timeout(None) as timer:

        def look() -> None:
            nonlocal looks, strike
            looks -= 1
            if looks > 0:
                strike = loop.call_later(limit / LOOKS, look)
            else:
                timer.reschedule(loop.time())

        strike = loop.call_later(limit / LOOKS, look)
        try:
            yield
        finally:
            strike.cancel()


@dataclass(frozen=True, slots=True)
class Server:
    """A Redis server as it shows itself."""

    version: str | None
    latency_s: float
    ahead_s: float
    """How far its clock is ahead of ours."""
    policy: str | None
    """What it removes when its memory is full; None where we may not ask."""


class RedisStore:
    """A `Store` on a Redis server. Nothing is connected, nor is `redis` imported, before the first call."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises Misconfigured for an address that cannot be one."""
        self._told = connection(url)
        self._timeout_s = timeout_s
        self._client: Redis | None = None
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._away: tuple[str, str] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    # -- records -------------------------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        keys = [RECORD + name_to_bytes(key)]
        if listed is not None:
            keys.append(LIST + name_to_bytes(listed))
        await self._run(scripts.PUT, keys, value, _ms(ttl_s), size=len(value))

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        return await self._run(scripts.ADD, [RECORD + name_to_bytes(key)], value, _ms(ttl_s), size=len(value)) == 1

    async def get(self, *keys: str) -> list[bytes | None]:
        return await self._read(scripts.GET, [RECORD + name_to_bytes(key) for key in keys]) if keys else []

    async def delete(self, *keys: str) -> int:
        names = [kind + name_to_bytes(key) for key in keys for kind in (RECORD, LOG)]
        return await self._send("DEL", *names) if names else 0

    async def newest(self, listed: str, limit: int) -> list[bytes]:
        return await self._read(scripts.NEWEST, [LIST + name_to_bytes(listed)], max(0, limit))

    # -- logs ----------------------------------------------------------------------------------------------------------

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        keys = [LOG + name_to_bytes(key)]
        arguments: list[bytes | int] = [value, at, _ms(ttl_s)]
        for put in also:
            record = RECORD + name_to_bytes(put.key)
            keys += [record, record if put.listed is None else LIST + name_to_bytes(put.listed)]
            arguments += [put.value, _ms(put.ttl_s)]
        size = len(value) + sum(len(put.value) for put in also)
        return await self._run(scripts.APPEND, keys, *arguments, size=size) == 1

    async def entries(self, key: str) -> list[bytes]:
        return await self._read(scripts.ENTRIES, [LOG + name_to_bytes(key)])

    # -- leases --------------------------------------------------------------------------------------------------------

    async def take(self, lease: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        return await self._run(scripts.TAKE, _lease(lease), KEPT_MS, _held_ms(ttl_s), name_to_bytes(holder), limit) == 1

    async def renew(self, held: Sequence[Held], *, ttl_s: float) -> None:
        if held:
            keys = [name for one in held for name in _lease(one.lease)]
            await self._run(scripts.RENEW, keys, KEPT_MS, _held_ms(ttl_s), *(name_to_bytes(one.holder) for one in held))

    async def release(self, held: Sequence[Held]) -> None:
        if held:
            keys = [name for one in held for name in _lease(one.lease)]
            await self._run(scripts.RELEASE, keys, *(name_to_bytes(one.holder) for one in held))

    async def holders(self, lease: str) -> list[str]:
        live, _over = await self._run(scripts.HOLDERS, _lease(lease), KEPT_MS)
        return names_from_bytes(live)

    async def lapsed(self, lease: str) -> list[str]:
        _live, over = await self._run(scripts.HOLDERS, _lease(lease), KEPT_MS)
        return names_from_bytes(over)

    async def lapse(self, leases: Sequence[str], *, holders_of: str) -> None:
        keys = [UNTIL + name_to_bytes(lease) for lease in leases]
        if keys:
            await self._run(scripts.LAPSE, keys, KEPT_MS, name_to_bytes(holders_of))

    # -- for the doctor ------------------------------------------------------------------------------------------------

    async def examine(self) -> Server:
        """What the server tells of itself. Raises StoreUnavailable."""
        words: list[Any] = []
        memory: dict[str, Any] = {}
        with contextlib.suppress(StoreUnavailable):  # older than 6; one that is away is told by what follows
            # Unlike INFO, it needs no more rights than the hub does (NO_RIGHT).
            words = [word.decode() if isinstance(word, bytes) else word for word in await self._send("HELLO")]
        began = time.perf_counter()
        seconds, parts = await self._send("TIME")
        taken = time.perf_counter() - began
        ahead = int(seconds) + int(parts) / 1e6 - (time.time() - taken / 2)
        with contextlib.suppress(StoreUnavailable):  # it may be forbidden
            memory = await self._send("INFO", "memory")
        version = str(words[words.index("version") + 1]) if "version" in words else None
        return Server(version, taken, ahead, memory.get("maxmemory_policy"))

    async def close(self) -> None:
        """What was asked for before is done before."""
        if self._closed:
            return
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        try:
            for _ in range(CONNECTIONS):  # each call that waits or is on its way has its turn first
                await self._turns.acquire()
        finally:
            if self._client is not None:
                with contextlib.suppress(Exception):  # one that is away cannot be taken leave of
                    async with asyncio.timeout(self._timeout_s):
                        await self._client.aclose()

    # -- the connection ------------------------------------------------------------------------------------------------

    async def _run(self, script: bytes, keys: Sequence[bytes], *arguments: bytes | int, size: int = 0) -> Any:
        # By its text each time, not by its sum: a server that was restarted or flushed needs no second try.
        return await self._send("EVAL", script, len(keys), *keys, *arguments, size=size)

    async def _read(self, script: bytes, keys: Sequence[bytes], *arguments: int) -> list[Any]:
        found = await self._run(script, keys, LARGE, *arguments)
        if isinstance(found, int):
            found = await self._run(script, keys, FOREVER_MS, *arguments, size=found)
        return found

    async def _send(self, *words: str | bytes | int, size: int = 0) -> Any:
        """One command, once. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("The store is closed: this hub is ending.", action="Start the hub again.")
        async with self._turns:
            if (reason := self._away) is not None:
                await asyncio.sleep(0)  # who tries again in a loop must not keep this one from hearing that it is back
                raise _unavailable(reason)
            try:
                return await self._sent(*words, size=size)
            except Exception as error:
                what, away = _why(error)
                if away:
                    self._be_away(what)
                elif self._client is not None and what == READ_ONLY:
                    # The name may lead to another server by now, but a connection stays where it is.
                    with contextlib.suppress(Exception):
                        await self._client.connection_pool.disconnect(inuse_connections=False)
                raise _unavailable(what) from None

    async def _sent(self, *words: str | bytes | int, size: int = 0) -> Any:
        client: Any = self._client or self._connect()  # its answers have no types
        async with deadline(self._timeout_s + size / BYTES_PER_S):
            return await client.execute_command(*words)

    def _connect(self) -> Redis:
        self._client = _client(self._told)
        return self._client

    def _be_away(self, what: tuple[str, str]) -> None:
        self._away = what
        if not self._closed and (self._asking is None or self._asking.done()):
            self._asking = asyncio.get_running_loop().create_task(self._ask_until_back())

    async def _ask_until_back(self) -> None:
        pauses = iter(PINGS_S)
        while self._away is not None:
            await asyncio.sleep(next(pauses, PINGS_S[-1]))
            try:
                await self._sent("PING")
            except Exception as error:
                what, away = _why(error)
                self._away = what if away else None
            else:
                self._away = None


def _unavailable(what: tuple[str, str]) -> StoreUnavailable:
    message, action = what
    return StoreUnavailable(message, action=action)


def _why(error: Exception) -> tuple[tuple[str, str], bool]:
    """What the user is told of a failure, and whether the server is away: it was not reached, or let nobody in."""
    from redis import exceptions as of

    # The code stands first in the server's own errors, and somewhere within where a script met it (before Redis 7).
    text = f"{getattr(error, 'status_code', None) or ''} {error}"
    known = {"OOM": FULL, "READONLY": READ_ONLY, "NOPERM": NO_RIGHT, "MISCONF": NO_DISK, "MASTERDOWN": READ_ONLY}
    known |= {"MOVED": NO_CLUSTER, "CROSSSLOT": NO_CLUSTER, "CLUSTERDOWN": NO_CLUSTER, "DB index": NO_DATABASE}
    match error:
        case of.AuthenticationError() | of.AuthorizationError():
            return NO_LOGIN, True
        case of.BusyLoadingError():
            return LOADING, True
        case of.ResponseError():
            return next((what for code, what in known.items() if code in text), REFUSED), False
        case of.InvalidResponse():
            return NO_REDIS, True
        case TimeoutError() | of.TimeoutError():
            return NO_ANSWER, True
        case _:
            return NO_TRUST if "CERTIFICATE_VERIFY_FAILED" in text else UNREACHABLE, True
