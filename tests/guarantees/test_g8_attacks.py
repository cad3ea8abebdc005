"""G8, an endpoint that strangers may reach: each attack gets its answer, and whoever else calls gets theirs."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guarantees.attacks import OTHERS, STRANGERS, Attack
from tests.guarantees.bombs import SIZES, clean, shaped, worded
from tests.guarantees.floods import MANY, SLOW
from tests.guarantees.target import SETTINGS, Target, furnished, tokens_for
from tests.guarantees.wire import TRICKS, WIRE
from tests.harness import ROOT, HttpHub, make_world

FEW = 8
"""Descriptors that may come and go."""
ROOM_MIB = 64
"""What an allocator may keep for itself."""
SERVE = ("-m", "llm_mcp_hub", "serve")
HURRIED = ("-m", "tests.protocol.hurried", "serve")
UVICORN = ("-m", "uvicorn", "llm_mcp_hub.main:app")


@contextmanager
def attackable(folder: Path, command: Sequence[str]) -> Generator[Target]:
    """A hub on every address of this machine, with clients of its own."""
    with make_world(folder) as world:
        world.changes |= {**SETTINGS, "LOG_LEVEL": "DEBUG"}
        tokens = tokens_for(world)
        hub = HttpHub(world.environment, "--host", "0.0.0.0", command=command, cwd=ROOT)
        try:
            hub.url = hub.url.replace("0.0.0.0", "127.0.0.1")
            target = furnished(world, hub, tokens)
            yield target
        finally:
            code = hub.stop()
        assert code in {0, -signal.SIGTERM}  # uvicorn's own command ends by the signal
        assert target.exceptions() == []
        assert world.surprises == []
        world.wait_until_no_child()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Generator[Target]:
    """As its own command serves it."""
    with attackable(tmp_path_factory.mktemp("attacked"), SERVE) as made:
        yield made


def attacked(target: Target, attacks: Sequence[Attack]) -> None:
    """Every attack, and after each one a client's call; the table is printed. Raises AssertionError."""
    wrong: list[str] = []
    print()
    for attack in attacks:
        try:
            seen = attack.seen(target)
        except AssertionError as error:
            seen = f"nothing right: {str(error)[:300]}"
        target.serves()
        seen += "".join(f", and in the log: {line}" for line in target.exceptions())
        right = seen in attack.right
        print(f"G8  {attack.name:<50} {seen if len(seen) < 60 else seen[:57] + '...'}{'' if right else '  WRONG'}")
        if not right:
            wrong.append(f"{attack.name}: {seen!r}, and not {attack.answer!r}")
    assert not wrong, "\n".join(wrong)


def test_strangers_others_and_what_is_no_http(target: Target) -> None:
    """Who has no right gets nothing, whoever's name and id it knows, and however it is written down."""
    attacked(target, [*STRANGERS, *OTHERS, *WIRE, *TRICKS])


def test_bodies_that_are_too_much(target: Target) -> None:
    """Once more all of it takes no more memory and no more descriptors."""
    attacked(target, [*SIZES, *shaped()])
    once = target.resources()
    attacked(target, [*SIZES, *shaped()])
    twice = target.resources()

    print(f"G8  descriptors and MiB: {once} after all of it, {twice} after all of it again")
    assert twice[0] <= once[0] + FEW
    assert twice[1] <= once[1] + ROOM_MIB


def test_no_text_of_a_clients_writes_the_log(target: Target) -> None:
    """Ends of lines and a terminal's orders in every field: each line of the log stays one of the hub's own."""
    attacked(target, worded())
    assert clean(target.hub.log) == []


def test_any_asgi_server_has_the_same_door(tmp_path: Path) -> None:
    """Under plain uvicorn too: who may come in, and what a body may be. Connections are that server's own."""
    with attackable(tmp_path, UVICORN) as target:
        attacked(
            target, [attack for attack in [*STRANGERS, *OTHERS, *TRICKS, *SIZES, *shaped()] if not attack.only_serve]
        )


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_the_slow_and_the_many(tmp_path: Path) -> None:
    """What they held is let go: as many descriptors as before, and no more memory than all of it has ever needed."""
    with attackable(tmp_path, HURRIED) as target:
        before = target.resources()
        attacked(target, [*SLOW, *MANY])
        once = target.resources()
        attacked(target, MANY[:4])
        twice = target.resources()

        print(f"G8  descriptors and MiB: {before} before, {once} after all of it, {twice} after some of it again")
        assert twice[0] <= before[0] + FEW
        assert twice[1] <= once[1] + ROOM_MIB
