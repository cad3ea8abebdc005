"""Redis dies, hangs, fills up or is full of nonsense while asks run: what did not need it goes on, and it comes back.

A real hub over HTTP, the real Gemini CLI, a real redis-server. The added delay is printed and judged by nobody here;
`benchmarks/store_away.py` tells it without the CLI's own ups and downs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.guarantees.drill import ROUNDS
from tests.harness import DEADLINE_S, HttpHub, Line, World, answer_of, error_of, open_line
from tests.upstreams.google import Hang
from tests.upstreams.redis import RedisServer

ASKS = 200 if ROUNDS >= 20 else 40
"""A p99 of forty asks is their slowest one: `make drill-full` asks enough of them for the figure to mean something."""
AT_ONCE = 4
LOAD_S = DEADLINE_S + ASKS
"""A deadline for so many asks, which take a few hundredths of a second each."""
CANNOT_BE_FETCHED = "cannot be fetched again"


@dataclass
class Stage:
    """A hub that has Redis, and a client on it."""

    world: World
    redis: RedisServer
    line: Line

    def ask(self, prompt: str = "hello", **more: Any) -> tuple[dict[str, Any], float]:
        """One ask that must succeed, and its time (seconds)."""
        began = time.perf_counter()
        answer = answer_of(self.line.call("ask_gemini", {"prompt": prompt, **more}))
        return answer, time.perf_counter() - began

    def load(self, number: int = ASKS) -> tuple[list[dict[str, Any]], list[float]]:
        """So many asks, a few at a time; every one must succeed."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(self.ask, ["hello"] * number))
        return [answer for answer, _ in done], [took for _, took in done]

    def until_it_is_back(self) -> None:
        """Ask until an answer can be fetched again: nothing but the return of Redis is needed for that."""
        deadline = time.monotonic() + DEADLINE_S
        while any(CANNOT_BE_FETCHED in warning for warning in self.ask()[0]["warnings"]):
            assert time.monotonic() < deadline, "the hub does not find Redis again"
        answer, _ = self.ask()
        fetched = answer_of(self.line.call("ask_result", {"ask_id": answer["ask_id"]}))
        assert fetched["text"] == answer["text"]


def quantiles(took: list[float], usual: list[float] | None = None) -> list[str]:
    """The p50, the p99 and the most of these, in ms; beyond those that are usual, where they are given."""
    found: list[str] = []
    for part in (0.5, 0.99, 1):
        at = sorted(took)[math.ceil(len(took) * part) - 1]
        off = 0 if usual is None else sorted(usual)[math.ceil(len(usual) * part) - 1]
        found.append(f"{(at - off) * 1e3:6.0f}")
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    """One hub for all of it: each fault leaves it as it was."""
    from tests.harness import make_world

    folder = tmp_path_factory.mktemp("stage")
    with make_world(folder) as world, RedisServer(folder / "redis", appendonly="yes", appendfsync="always") as redis:
        world.changes["REDIS_URL"] = redis.url
        hub = HttpHub(world.environment)
        try:
            with open_line(world, "http", "auto", hub=hub) as line:
                made = Stage(world, redis, line)
                made.load(8)
                yield made
        finally:
            hub.stop()
        world.wait_until_no_child()


@pytest.fixture
def whole(stage: Stage) -> Generator[Stage]:
    """The stage before each fault, and its return after it."""
    stage.until_it_is_back()
    yield stage
    stage.until_it_is_back()


@contextmanager
def frozen(redis: RedisServer) -> Generator[None]:
    redis.freeze()
    try:
        yield
    finally:
        redis.thaw()


@contextmanager
def killed(redis: RedisServer) -> Generator[None]:
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def full(redis: RedisServer) -> Generator[None]:
    redis.config(maxmemory="1", maxmemory_policy="noeviction")
    try:
        yield
    finally:
        redis.config(maxmemory="0")


@contextmanager
def restarted(redis: RedisServer) -> Generator[None]:
    redis.restart()
    yield


@contextmanager
def flushed(redis: RedisServer) -> Generator[None]:
    with redis.client() as client:
        client.flushall()
        client.script_flush()
    yield


@contextmanager
def full_of_garbage(redis: RedisServer) -> Generator[None]:
    """Every key there is holds nonsense of another type."""
    with redis.client() as client:
        for number, key in enumerate(list(client.scan_iter(count=1000))):
            with client.pipeline() as at_once:  # else a hub could write it between the two
                at_once.delete(key)
                at_once.set(key, b"\xff\x00 no JSON") if number % 2 else at_once.rpush(key, b"{", b"[]", b"\x00")
                at_once.execute()
    try:
        yield
    finally:
        with redis.client() as client:
            client.flushall()


FAULTS: list[Callable[[RedisServer], Any]] = [frozen, killed, full, restarted, flushed, full_of_garbage]


@pytest.mark.drill
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_no_ask_fails_that_did_not_need_the_store(whole: Stage, fault: Callable[[RedisServer], Any]) -> None:
    """The fault strikes under load and ends under load; all is well again without a restart."""
    _, usual = whole.load()
    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(whole.load)
        with fault(whole.redis):
            _, at_the_blow = struck.result(LOAD_S)
            _, meanwhile = whole.load()
            returning = pool.submit(whole.load)
        _, at_the_return = returning.result(LOAD_S)
    print(
        f"\nRedis {fault.__name__}, {3 * ASKS} asks answered; before it p50, p99, most {' '.join(quantiles(usual))} ms"
    )
    for when, took in {"as it struck": at_the_blow, "meanwhile": meanwhile, "as it ended": at_the_return}.items():
        print(f"    {when:12} added {' '.join(quantiles(took, usual))} ms")


@pytest.mark.parametrize("fault", [frozen, killed], ids=lambda fault: fault.__name__)
def test_what_needs_shared_state_says_that_it_is_away(whole: Stage, fault: Callable[[RedisServer], Any]) -> None:
    """A conversation cannot go on without its turns; afterwards it does, with all of them."""
    conversation = whole.ask("remember the tide")[0]["conversation_id"]
    with fault(whole.redis):
        answer, _ = whole.ask("something new")
        assert any(CANNOT_BE_FETCHED in warning for warning in answer["warnings"])
        assert answer["conversation_id"] is None
        assert error_of(whole.line.call("ask_result", {}))["code"] == "store_unavailable"
        refused = error_of(whole.line.call("ask_gemini", {"prompt": "and now?", "conversation_id": conversation}))
        assert (refused["code"], refused["retryable"]) == ("store_unavailable", True)
    whole.until_it_is_back()
    whole.ask("and now?", conversation_id=conversation)
    assert b"remember the tide" in whole.world.gemini.generations[-1].body


def test_a_full_store_can_still_be_read(whole: Stage) -> None:
    """A conversation goes on with all its turns; the answer says that this turn could not be kept."""
    conversation = whole.ask("remember the tide")[0]["conversation_id"]
    with full(whole.redis):
        answer, _ = whole.ask("and now?", conversation_id=conversation)
        assert b"remember the tide" in whole.world.gemini.generations[-1].body
        assert any(CANNOT_BE_FETCHED in warning for warning in answer["warnings"])


def test_an_answer_that_came_while_the_store_was_away_is_there_when_it_is_back(whole: Stage) -> None:
    """The hub keeps what could not be written, and writes it late: another hub finds it."""
    with frozen(whole.redis):
        answer, _ = whole.ask("written late")
        kept = answer_of(whole.line.call("ask_result", {"ask_id": answer["ask_id"]}))
        assert kept["text"] == answer["text"]
    whole.until_it_is_back()
    with open_line(whole.world, "stdio", "auto") as other:
        deadline = time.monotonic() + DEADLINE_S
        while (found := other.call("ask_result", {"ask_id": answer["ask_id"]})).is_error:
            assert error_of(found)["code"] == "not_found"
            assert time.monotonic() < deadline, "it was never written"
        assert answer_of(found)["text"] == answer["text"]


def test_a_ticket_that_nobody_else_knows_says_so_and_is_written_down_before_its_first_text(whole: Stage) -> None:
    """A hub that dies meanwhile is not to leave a ticket of which nobody has heard."""
    before = whole.world.gemini.default
    whole.world.gemini.default = Hang("")
    try:
        with frozen(whole.redis):
            given = whole.line.call("ask_gemini", {"prompt": "a long question", "wait_s": 0})
            ticket = answer_of(given)
            assert ticket["status"] == "working"
            assert [warning for warning in ticket["warnings"] if "known to this hub alone" in warning]
            # For many beats of the hub's.
            assert answer_of(whole.line.call("ask_result", {"ask_id": ticket["ask_id"], "wait_s": 3}))["text"] == ""
        with open_line(whole.world, "stdio", "auto") as other:
            deadline = time.monotonic() + DEADLINE_S
            while (found := other.call("ask_result", {"ask_id": ticket["ask_id"], "wait_s": 0})).is_error:
                assert error_of(found)["code"] in {"not_found", "store_unavailable"}
                assert time.monotonic() < deadline, "it was never written"
            assert answer_of(found)["status"] == "working"
            assert answer_of(found)["warnings"] == []
            other.call("ask_cancel", {"ask_id": ticket["ask_id"]})
    finally:
        whole.world.gemini.default = before
