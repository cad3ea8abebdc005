"""Who has a place when all are taken: nobody waits at the door for somebody who does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.serving.connections import CONNECTIONS, Room, room_for


@pytest.mark.parametrize(
    ("files", "room"), [(-1, CONNECTIONS), (1 << 20, CONNECTIONS), (1024, 768), (256, 128), (16, 16)]
)
def test_a_process_that_may_open_few_files_has_few_connections(files: int, room: int) -> None:
    """Else it could not start a child, nor accept whoever makes room."""
    assert room_for(files) == room


def test_a_newcomer_takes_the_place_of_who_waited_longest() -> None:
    """Of the address that has most; who is being answered stays."""
    room = Room(4)
    for name, peer in [("a", "x"), ("b", "y"), ("c", "y"), ("d", None)]:
        assert room.enter(name, peer) == (True, None)
    room.busy("b")

    assert room.enter("e", "z") == (True, "c")
    assert room.enter("f", None) == (True, "a")
    room.busy("f")
    room.busy("e")
    assert room.enter("g", None) == (True, "d")
    room.busy("g")
    assert room.enter("h", None) == (False, None)
    room.waits("g")
    assert room.enter("h", None) == (True, "g")
    assert len(room) == 4


def test_one_address_cannot_have_all_places() -> None:
    """Half of them, however it holds them; the rest of the world and this machine come in."""
    room = Room(10)
    for number in range(5):
        room.enter(number, "x")
        room.busy(number)

    assert room.enter("more", "x") == (False, None)
    assert [room.enter(name, peer) for name, peer in [("a", "y"), ("b", None)]] == [(True, None)] * 2
    room.waits(3)
    assert room.enter("more", "x") == (True, 3)


@given(
    st.integers(2, 6),
    st.lists(st.tuples(st.sampled_from(["enter", "busy", "waits", "leave"]), st.integers(0, 9), st.integers(0, 2))),
)
def test_whatever_happens_the_places_are_counted_rightly(most: int, steps: list[tuple[str, int, int]]) -> None:
    """Against a plain list: no more than there are, none that is busy is sent away, and none is refused for nothing."""
    room = Room(most)
    there: dict[int, tuple[str | None, bool]] = {}
    for number, (step, which, of) in enumerate(steps):
        if step == "enter":
            peer = None if of == 0 else f"peer {of}"
            entered, out = room.enter(number, peer)
            if out is not None:
                assert isinstance(out, int)
                assert not there.pop(out)[1]
            crowded = sum(one == peer for one, _ in there.values()) >= max(1, most // 2) and peer is not None
            idle = [one for one, busy in there.values() if not busy and (not crowded or one == peer)]
            assert entered or (not idle and (crowded or len(there) >= most))
            if entered:
                there[number] = peer, False
        elif there:
            chosen = sorted(there)[which % len(there)]
            getattr(room, step)(chosen)
            if step == "leave":
                del there[chosen]
            else:
                there[chosen] = there[chosen][0], step == "busy"
        assert len(room) == len(there) <= most
