"""A client that is revoked is gone: what it holds open ends, what it has asked goes on, others notice nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from tests.guarantees.durable import until
from tests.harness import DEADLINE_S, Era, HttpHub, World, http_hub, run_command
from tests.protocol.streams import Open, answer_in, greeted
from tests.protocol.test_door import add, call
from tests.upstreams import google

ERAS: list[Era] = ["auto", "legacy"]
FIRST, REST = "The first words", ", and the rest."


@pytest.fixture
def guarded(world: World) -> Generator[HttpHub]:
    """A hub that wants tokens: anna's or bob's, which are made by `add`."""
    world.changes |= {"HUB_CLAUDE_WARM": "0", "LOG_LEVEL": "DEBUG"}
    run_command(world, "client", "add", "somebody")
    with http_hub(world) as hub:
        yield hub
    assert "Traceback" not in "".join(hub.log)
    assert not any(json.loads(line)["level"] == "error" for line in hub.log)
    world.wait_until_no_child()


def revoke(world: World, *words: str) -> None:
    assert run_command(world, "client", "revoke", *words).returncode == 0


def test_what_a_revoked_client_holds_open_ends_and_what_it_asked_goes_on(world: World, guarded: HttpHub) -> None:
    """Streams and waiting calls of both eras. As if its connection were lost in the older era: no ask is cancelled."""
    go_on = threading.Event()
    world.gemini.default = google.Answer(chunks=[FIRST, REST], gate=go_on, gate_after=1)
    anna, bob = add(world, "anna"), add(world, "bob")
    with ExitStack() as stack:

        def line(token: str) -> Open:
            return stack.enter_context(Open(guarded.url, token))

        listening = [line(anna).listens(era) for era in ERAS]
        waiting = [line(anna).call(era, "ask_gemini", prompt="a question", wait_s=3600) for era in ERAS]
        others = [line(bob).listens(era) for era in ERAS]
        others += [line(bob).call(era, "ask_gemini", prompt="a question", wait_s=3600) for era in ERAS]
        until(lambda: sum("first text" in said for said in guarded.log) == 4, "four asks under way")
        revoke(world, "anna")
        for stream in (*listening, *waiting):
            assert stream.ended.wait(DEADLINE_S)
        assert all(stream.waits for stream in others)
        go_on.set()
        assert [answer_in(stream.result())["text"] for stream in others[2:]] == [FIRST + REST] * 2
        until(lambda: sum("ask answered" in said for said in guarded.log) == 4, "all asks answered")
        assert all(stream.waits for stream in others[:2])
    assert [stream.broke for stream in (*listening, *waiting)] == [None] * 4  # ended as HTTP has it
    assert not any(REST.encode() in stream.body for stream in (*listening, *waiting))

    with Open(guarded.url, add(world, "anna")) as again:  # who has the name again has its asks
        told = again.call("auto", "ask_result").result()
    assert [ask["status"] for ask in told["_meta"]["llm-mcp-hub/asks"]] == ["completed"] * 2


@pytest.mark.parametrize("number", [1, 2])
def test_with_one_of_two_tokens_go_its_own_streams_alone(world: World, guarded: HttpHub, number: int) -> None:
    """Who has stolen the old one is out, and the client itself is not. Either may have opened the session."""
    tokens = [add(world, "anna"), add(world, "anna")]
    session = greeted(guarded.url, tokens[0])
    with ExitStack() as stack:
        streams = [stack.enter_context(Open(guarded.url, token)).listens("auto") for token in tokens]
        gone, stays = streams[number - 1], streams[2 - number]
        revoke(world, "anna", "--token", str(number))
        assert gone.ended.wait(DEADLINE_S)
        other = tokens[2 - number]
        legacy = stack.enter_context(Open(guarded.url, other, session)).listens("legacy")
        assert stays.waits
        assert legacy.waits


def test_a_client_that_may_do_less_loses_its_streams(world: World, guarded: HttpHub) -> None:
    """It may be told by one of them what it is not to know any more. Its token itself is as good as before."""
    token = add(world, "anna", "status", "ask:claude")
    with Open(guarded.url, token) as stream:
        stream.listens("auto")
        add(world, "anna", "ask:claude")
        assert stream.ended.wait(DEADLINE_S)
    assert call(guarded.url, token=token).status == 200


def test_streams_of_before_there_were_tokens_end_when_there_are(world: World) -> None:
    """A file of clients shuts the door, also behind those who are in."""
    world.changes["HUB_CLAUDE_WARM"] = "0"
    with http_hub(world) as hub, ExitStack() as stack:
        streams = [stack.enter_context(Open(hub.url)).listens(era) for era in ERAS]
        add(world, "anna")
        for stream in streams:
            assert stream.ended.wait(DEADLINE_S)
        assert call(hub.url).status == 401


def test_a_broken_file_of_clients_ends_what_is_open(world: World, guarded: HttpHub) -> None:
    """It admits nobody, so nobody stays; the hub itself lives on."""
    token = add(world, "anna")
    with Open(guarded.url, token) as stream:
        stream.listens("auto")
        file = world.state / "clients.json"
        whole = file.read_bytes()
        file.write_text("{")
        assert stream.ended.wait(DEADLINE_S)
        file.write_bytes(whole)
    until(lambda: call(guarded.url, token=token).status == 200, "it comes in again")
    guarded.log[:] = [line for line in guarded.log if "nobody is let in" not in line]
