"""Faults of the store that hubs share: SQLite locked, damaged, taken away; Redis gone, frozen, slow, full, strange."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.faults.stage import Stage, sqlite, until
from tests.faults.table import ANSWERED, Fault, Got, Strike
from tests.guarantees.drill import PROVIDERS
from tests.harness import answer_of

BOTH = dict.fromkeys(PROVIDERS, ANSWERED)
TURN = {**BOTH, "a next turn": "store_unavailable"}


def while_(trouble: Callable[[Stage], AbstractContextManager[Any]], *, next_turn: bool = False) -> Strike:
    """Somebody asks while this lasts; with `next_turn` a conversation is to go on, too. Then it is over, and found so.

    It begins while both are in the middle of an answer, which goes on.
    """

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        conversation = ""
        if next_turn:
            first = stage.hub.ask("gemini", prompt=f"{stage['prompt']} first?").result()
            conversation = answer_of(first)["conversation_id"]
        with trouble(stage):
            got: Got = dict(stage.ask())
            if next_turn:
                got["a next turn"] = stage.outcome(stage.begin("gemini", conversation_id=conversation))
            yield got
        until_kept(stage)

    return strike


def until_kept(stage: Stage) -> None:
    """Block until an answer can be fetched again: the store is back, and the hub has found it so."""

    def kept() -> bool:
        answered = stage.hub.ask("gemini", prompt=f"{stage['prompt']} kept?").result()
        if answered.is_error or answered.meta is None:
            return False
        told = stage.hub.call("ask_result", {"ask_id": answered.meta["llm-mcp-hub/answer"]["ask_id"]}).result()
        return not told.is_error and not answered.meta["llm-mcp-hub/answer"]["warnings"]

    until(kept, "an answer is kept again")


# SQLite ---------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(stage: Stage) -> Generator[None]:
    """Another program holds the file, for longer than the hub waits."""
    with contextlib.closing(sqlite(stage)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def damaged(stage: Stage) -> Generator[None]:
    """Another file is in its place, which is none; it is moved away, as the error's next step says."""
    file = stage.world.state / "hub.sqlite3"
    new = file.with_name("new")
    new.write_bytes(b"no database " * 1000)
    new.chmod(0o600)
    for each in stage.world.state.glob("hub.sqlite3-*"):
        each.unlink()
    new.replace(file)
    yield
    for each in stage.world.state.glob("hub.sqlite3*"):
        each.unlink()


@contextmanager
def deleted(stage: Stage) -> Generator[None]:
    for each in stage.world.state.glob("hub.sqlite3*"):
        each.unlink()
    yield


@contextmanager
def closed(stage: Stage) -> Generator[None]:
    """A folder is in its place: not even root can write that."""
    deleted_first = stage.world.state / "hub.sqlite3"
    for each in stage.world.state.glob("hub.sqlite3*"):
        each.unlink()
    deleted_first.mkdir(mode=0o500)
    yield
    deleted_first.rmdir()


@contextmanager
def of_a_newer_hub(stage: Stage) -> Generator[None]:
    """A newer hub has taken the file over."""
    file = stage.world.state / "hub.sqlite3"
    for each in stage.world.state.glob("hub.sqlite3*"):
        each.unlink()
    file.touch(mode=0o600)
    with contextlib.closing(sqlite(stage)) as other:
        other.execute("PRAGMA user_version = 99")
    yield
    for each in stage.world.state.glob("hub.sqlite3*"):
        each.unlink()


# Redis ----------------------------------------------------------------------------------------------------------------


@contextmanager
def absent(stage: Stage) -> Generator[None]:
    """It is not there when the hub starts."""
    stage.redis.kill()
    stage.end()
    stage.start()
    yield
    stage.redis.start()


@contextmanager
def killed(stage: Stage) -> Generator[None]:
    stage.redis.kill()
    yield
    stage.redis.start()


@contextmanager
def frozen(stage: Stage) -> Generator[None]:
    stage.redis.freeze()
    try:
        yield
    finally:
        stage.redis.thaw()


@contextmanager
def slow(stage: Stage) -> Generator[None]:
    """Each answer of its takes 300 ms."""
    stage.way.delay_s = 0.3
    try:
        yield
    finally:
        stage.way.delay_s = 0


@contextmanager
def cut(stage: Stage) -> Generator[None]:
    """Its connections break, again and again."""
    stage.way.cut()
    yield
    stage.way.cut()


@contextmanager
def full(stage: Stage) -> Generator[None]:
    stage.redis.config(maxmemory="1", maxmemory_policy="noeviction")
    yield
    stage.redis.config(maxmemory="0")


@contextmanager
def flushed(stage: Stage) -> Generator[None]:
    with stage.redis.client() as client:
        client.flushall()
        client.script_flush()
    yield


@contextmanager
def strange(stage: Stage) -> Generator[None]:
    """Every key there is holds nonsense of another type."""
    with stage.redis.client() as client:
        for number, key in enumerate(list(client.scan_iter(count=1000))):
            with client.pipeline() as at_once:  # else a hub could write it between the two
                at_once.delete(key)
                at_once.set(key, b"\xff\x00 no JSON") if number % 2 else at_once.rpush(key, b"{", b"[]", b"\x00")
                at_once.execute()
    yield
    with stage.redis.client() as client:
        client.flushall()


@contextmanager
def another_password(stage: Stage) -> Generator[None]:
    """Its operator has changed the password, and ended who came with the old one."""
    with stage.redis.client() as client:  # one connection, which stays let in
        client.config_set("requirepass", stage["Redis password"])
        stage.way.cut()
        try:
            yield
        finally:
            client.config_set("requirepass", "")


def fault(name: str, trouble: Any, expected: Any, *, stage: str = "plain") -> Fault:
    return Fault(name, "store", stage, while_(trouble, next_turn="a next turn" in expected), expected)


FAULTS = [
    fault("SQLite: locked by another program", locked, BOTH),
    fault("SQLite: damaged", damaged, TURN),
    fault("SQLite: deleted", deleted, {**BOTH, "a next turn": "not_found"}),
    fault("SQLite: cannot be opened", closed, TURN),
    fault("SQLite: of a newer hub", of_a_newer_hub, TURN),
    fault("Redis: not there at the start", absent, BOTH, stage="redis"),
    fault("Redis: killed", killed, TURN, stage="redis"),
    fault("Redis: frozen", frozen, TURN, stage="redis"),
    fault("Redis: 300 ms late", slow, {**BOTH, "a next turn": (ANSWERED, "store_unavailable")}, stage="redis"),
    fault("Redis: connections break", cut, {**BOTH, "a next turn": ANSWERED}, stage="redis"),
    fault("Redis: full, noeviction", full, {**BOTH, "a next turn": ANSWERED}, stage="redis"),
    fault("Redis: flushed, scripts too", flushed, {**BOTH, "a next turn": "not_found"}, stage="redis"),
    fault("Redis: values of nonsense", strange, BOTH, stage="redis"),
    fault("Redis: another password", another_password, TURN, stage="redis"),
]
