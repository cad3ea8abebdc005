"""How much one client may do over HTTP, and how often an address may come without a valid token.

Requests and asks are counted by client, with the library `limits`: over all hubs on one Redis, else in this process.
While that Redis is away this process counts alone, to half of each limit: nobody knows what the other hubs let in. Open
requests and failures are counted in this process alone: what they protect is this process.

The owner without client tokens has no limits: nobody else is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.errors import Busy
from llm_mcp_hub.serving.auth import CALLER, Allowance, Caller
from llm_mcp_hub.serving.wire import PATH

STANDARD = Allowance(requests_per_minute=600, asks_per_minute=60, at_once=64)
"""What a client may do that is told nothing else."""
FAILURES_PER_MINUTE = 300
ADDRESSES = 10_000
"""Of so many addresses failures are remembered; of more, those of the newest."""
MINUTE_S = 60
TICK_S = 0.001
"""Of the clocks that windows have: at the very moment they still refuse."""
AT_ONCE_RETRY_S = 5.0
"""Nobody knows when one of a client's open requests ends."""
SESSIONS_RETRY_S = 60
AWAY_S = 1.0
"""How long a Redis that did not answer is left alone, before one request tries it again."""
TURNS = 16
"""How many ask the Redis at once: of those that wait, the rest is told by the first that it is away."""
log = structlog.stdlib.get_logger("llm_mcp_hub.limits")

Refused = Callable[[str], None]
"""Told of each refusal by a word for its reason: requests, asks, at_once, failures, body_size, body_time, body_form,
head_time, connections, sessions."""


def nobody(_reason: str) -> None:
    """Counts no refusal."""


def allowance(caller: Caller) -> tuple[int, int, int] | None:
    """Requests a minute, asks a minute and open requests of a caller; None: without limits."""
    if caller.client is None:
        return None
    told = {**STANDARD.told(), **(caller.limits.told() if caller.limits is not None else {})}
    return told["requests_per_minute"], told["asks_per_minute"], told["at_once"]


def whole_seconds(seconds: float) -> int:
    """As `Retry-After` has them: never too few."""
    return max(1, math.ceil(seconds))


def peer_of(address: str | None) -> str | None:
    """Whom an address stands for: None for this machine itself. In IPv6 one customer has 2**64 of them (a /64)."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # a socket file
        return None
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback:
        return None
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network(f"{parsed}/64", strict=False))


def wait_s(limit: int, previous: int, previous_left_s: float, current: int, current_left_s: float) -> float:
    """Seconds until a sliding window lets the next one in; zero where it does now.

    It does while `previous * previous_left_s / MINUTE_S + current < limit`.

    Args:
        limit: how many it lets in.
        previous: how many came in the minute before this one.
        previous_left_s: what is left of that minute's weight.
        current: how many came in this minute.
        current_left_s: what is left of this minute.
    """
    if current < limit:
        heavy_s = previous_left_s - (limit - current) * MINUTE_S / previous if previous else -1.0
        return 0.0 if heavy_s < 0 else heavy_s + TICK_S
    # Then this minute is the one before, and its weight goes down to less than the limit.
    return current_left_s + MINUTE_S * (1 - limit / current) + TICK_S


class Failures:
    """How often each address came without a valid token, in the minute that began with its first failure."""

    def __init__(
        self,
        *,
        most: int | None = None,
        addresses: int = ADDRESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = FAILURES_PER_MINUTE if most is None else most
        self._addresses = addresses
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, address: str | None) -> float | None:
        """Count one more. Returns the seconds that the address is to stay away, None where it may go on."""
        peer = peer_of(address) or "here"
        now = self._clock()
        since, count = self._seen.get(peer, (now, 0))
        if now >= since + MINUTE_S:
            self._seen.pop(peer, None)
            since, count = now, 0
        self._seen[peer] = since, count + 1
        if len(self._seen) > self._addresses:
            self._seen.popitem(last=False)
        return since + MINUTE_S - now if count >= self._most else None


class Rates:
    """Counts by name, over all hubs where they share a Redis. Made before the loop runs, used on one."""

    def __init__(
        self, redis_url: str | None = None, *, timeout_s: float = 0.25, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises Misconfigured for an address that cannot be one."""
        from limits.aio.storage import MemoryStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self._strategy = SlidingWindowCounterRateLimiter
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._redis_url = redis_url
        self._timeout_s = timeout_s
        self._clock = clock
        self._pool: Any = None
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._turns = asyncio.Semaphore(TURNS)
        self._away = False
        self._again_at = -math.inf
        self._full: dict[tuple[str, str], tuple[int, float]] = {}
        """Which counts are known to be full, to which limit, and until when: who goes on trying costs nothing."""
        if redis_url is not None:
            from llm_mcp_hub.store.redis import connection

            connection(redis_url)

    async def hit(self, what: str, who: str, per_minute: int) -> float | None:
        """Count one more. Returns the seconds to wait where that is one too many: then it is not counted."""
        limit, until = self._full.get((what, who), (0, 0.0))
        now = self._clock()
        if limit == per_minute and now < until:
            return until - now
        left = await self._counted(what, who, per_minute)
        if left is not None:
            self._full[what, who] = per_minute, self._clock() + left
        return left

    async def close(self) -> None:
        """Let the connections go."""
        pool, self._pool, self._shared = self._pool, None, None
        if pool is not None:
            with contextlib.suppress(Exception):  # one that is away cannot be taken leave of
                async with asyncio.timeout(self._timeout_s):
                    await pool.aclose()

    async def _counted(self, what: str, who: str, per_minute: int) -> float | None:
        if self._redis_url is not None and self._clock() >= self._again_at:
            async with self._turns:
                if self._clock() >= self._again_at:
                    try:
                        return await self._over_all(what, who, per_minute)
                    except Exception as error:
                        self._be_away(error)
        alone = per_minute if self._redis_url is None else max(1, per_minute // 2)
        return await _hit(self._own, what, who, alone)

    async def _over_all(self, what: str, who: str, per_minute: int) -> float | None:
        from llm_mcp_hub.store.redis import deadline

        if self._away:  # the others need not wait for what this one finds
            self._again_at = self._clock() + AWAY_S
        async with deadline(self._timeout_s):
            left = await _hit(self._shared or self._connect(), what, who, per_minute)
        if self._away:
            self._away = False
            self._again_at = -math.inf
            log.info("requests are counted over all hubs again")
        return left

    def _connect(self) -> Any:
        from limits.aio.storage import RedisStorage

        from llm_mcp_hub.store.redis import COUNTS, pool

        self._pool = pool(self._redis_url or "")
        # The address is in the pool; this one only says of which kind it is.
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix=COUNTS, connection_pool=self._pool
        )
        self._shared = self._strategy(storage)
        return self._shared

    def _be_away(self, error: Exception) -> None:
        self._again_at = self._clock() + AWAY_S
        if not self._away:  # its text may hold the address
            log.warning("requests are counted at this hub alone, to half of each limit", error=type(error).__name__)
        self._away = True


async def _hit(limiter: Any, what: str, who: str, per_minute: int) -> float | None:
    from limits import RateLimitItemPerMinute

    item = RateLimitItemPerMinute(per_minute, namespace=what)
    if await limiter.hit(item, who):
        return None
    previous, previous_left, current, current_left = await limiter.storage.get_sliding_window(
        item.key_for(who), MINUTE_S
    )
    # The library gives a window twice its time: once to be filled, once to weigh.
    return wait_s(per_minute, previous, previous_left, current, max(0.0, current_left - MINUTE_S))


class Limits:
    """All limits of one hub over HTTP."""

    def __init__(self, rates: Rates, *, failures: Failures | None = None, refused: Refused = nobody) -> None:
        self.rates = rates
        self.failures = failures or Failures()
        self.refused = refused
        self.open: Counter[str] = Counter()
        """How many requests of each client are open."""

    async def ask(self, caller: Caller) -> None:
        """Count one more ask of a caller. Raises Busy where it is one too many."""
        allowed = allowance(caller)
        if allowed is None:
            return
        left = await self.rates.hit("asks", caller.principal, allowed[1])
        if left is not None:
            self.refused("asks")
            seconds = whole_seconds(left)
            raise Busy(
                f"This client may ask {allowed[1]} times a minute, and has.",
                action=f"Try again in {seconds} s; the owner of the hub can give it more "
                "(llm-mcp-hub client add NAME --asks-per-minute N).",
                retry_after_s=seconds,
            )

    def failed(self, address: str | None) -> float | None:
        """Count one more request without a valid token. Returns the seconds that the address is to stay away."""
        left = self.failures.note(address)
        if left is not None:
            self.refused("failures")
        return left


class Turnstile:
    """Lets a client's requests through to its limits. Stands behind the door, which has told whose they are."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == PATH:
            send = _patient(send)
        caller: Caller | None = scope.get(CALLER)
        allowed = None if caller is None else allowance(caller)
        if caller is None or allowed is None:
            return await self._app(scope, receive, send)
        a_minute, _, at_once = allowed
        opened = self._limits.open
        left = await self._limits.rates.hit("requests", caller.principal, a_minute)
        if left is not None:
            return await self._refuse("requests", f"send {a_minute} requests a minute", left)(scope, receive, send)
        if opened[caller.principal] >= at_once:
            told = f"have {at_once} requests open at once"
            return await self._refuse("at_once", told, AT_ONCE_RETRY_S)(scope, receive, send)
        opened[caller.principal] += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            opened[caller.principal] -= 1
            if not opened[caller.principal]:
                del opened[caller.principal]

    def _refuse(self, reason: str, what: str, left: float) -> Response:
        self._limits.refused(reason)
        return too_many(f"This client may {what}, and has: try again in {whole_seconds(left)} s.\n", left)


def _patient(send: Send) -> Send:
    """Has the SDK's own refusals (`Too many open sessions`) say how long to wait too."""

    async def say(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            message = {**message, "headers": [*message["headers"], (b"retry-after", b"%d" % SESSIONS_RETRY_S)]}
        await send(message)

    return say


def too_many(sentence: str, left_s: float, headers: dict[str, str] | None = None) -> Response:
    """429, and how long to wait."""
    return Response(sentence, 429, {"Retry-After": str(whole_seconds(left_s)), **(headers or {})})
