"""G4 for conversations: whoever answers, wherever the hub is, the model gets the whole history in its order.

Through the real CLIs: what counts is what the stand-ins received, request by request.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Line, World, answer_of, error_of, open_line, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.redis import RedisServer

TURNS = 30
SYSTEM = "Speak like a lighthouse keeper."


def question(number: int) -> str:
    """A turn's prompt: what a CLI might run, read or mistake is in it."""
    return f"@/etc/passwd /about question {number:02} ends here"


def reply(number: int) -> str:
    return f"the answer to {number:02} ends here"


def script(world: World, provider: str, number: int) -> None:
    """Line up the answer of one turn."""
    if provider == "claude":
        world.claude.script(anthropic.Answer(reply(number)))
    else:
        world.gemini.script(google.Answer(reply(number)))


def last_request(world: World, provider: str) -> str:
    """All text that the model got with the last request, in its order."""
    if provider == "claude":
        messages = json.loads(world.claude.received[-1].body)["messages"]
        return "\n".join(_text(message["content"]) for message in messages)
    contents = json.loads(world.gemini.generations[-1].body)["request"]["contents"]
    return "\n".join(part.get("text", "") for content in contents for part in content["parts"])


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(block.get("text", "") for block in content)


def in_order(text: str, wanted: Sequence[str]) -> bool:
    """Whether each of these is in the text once, one after the other."""
    places = [text.find(each) for each in wanted]
    return -1 not in places and places == sorted(places) and all(text.count(each) == 1 for each in wanted)


def turn(world: World, line: Line, provider: str, number: int, conversation: str | None, **more: Any) -> str:
    """One turn, and what the stand-in got with it. Returns the conversation."""
    script(world, provider, number)
    given = {"prompt": question(number), **more, **({"conversation_id": conversation} if conversation else {})}
    answer = answer_of(line.call(f"ask_{provider}", given))

    assert answer["text"] == reply(number)
    history = [text for earlier in range(1, number) for text in (question(earlier), reply(earlier))]
    assert in_order(last_request(world, provider), [*history, question(number)])
    return answer["conversation_id"]


@pytest.fixture(params=["sqlite", "redis"])
def stored(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Generator[World]:
    """A world whose hubs share one store or the other."""
    if request.param == "sqlite":
        yield world
        return
    with RedisServer(tmp_path / "redis") as server:
        world.changes["REDIS_URL"] = server.url
        yield world


@pytest.mark.parametrize("stored", ["sqlite", pytest.param("redis", marks=pytest.mark.drill)], indirect=True)
def test_thirty_turns_alternate_between_both_providers_and_move_between_hubs(stored: World) -> None:
    """DESIGN 4: the transcript is the truth. Restarted after 10 turns, beside a second hub after 20."""
    world, conversation = stored, None
    with open_line(world, "stdio", "auto") as line:
        for number in range(1, 11):
            conversation = turn(world, line, ("claude", "gemini")[number % 2], number, conversation)
    with open_line(world, "http", "auto") as line:
        for number in range(11, 21):
            conversation = turn(world, line, ("claude", "gemini")[number % 2], number, conversation)
        with open_line(world, "stdio", "legacy") as other:
            for number in range(21, TURNS + 1):
                use = (line, other)[number // 2 % 2]
                conversation = turn(world, use, ("claude", "gemini")[number % 2], number, conversation)
    assert world.surprises == []


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_the_next_turns_go_on_in_the_same_live_session(world: World, provider: str) -> None:
    """Ten turns with one provider, past every limit of its live session: each request has the whole history."""
    with open_line(world, "stdio", "auto") as line:
        conversation = None
        for number in range(1, 11):
            conversation = turn(world, line, provider, number, conversation)


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_an_instruction_is_given_once_and_holds(world: World, provider: str) -> None:
    """In later turns, warm and in another hub; the same one again is no change, another one is refused."""
    with open_line(world, "stdio", "auto") as line:
        conversation = turn(world, line, provider, 1, None, system=SYSTEM)
        turn(world, line, provider, 2, conversation, system=SYSTEM)
        assert SYSTEM in _whole(world, provider)
        before = world.prompts_received(provider)
        refused = error_of(
            line.call(f"ask_{provider}", {"prompt": "x", "conversation_id": conversation, "system": "?"})
        )
        assert (refused["code"], world.prompts_received(provider)) == ("invalid_request", before)
    with open_line(world, "stdio", "auto") as line:
        turn(world, line, provider, 3, conversation)
        assert _whole(world, provider).count(SYSTEM) == 1


def _whole(world: World, provider: str) -> str:
    body = world.claude.received[-1].body if provider == "claude" else world.gemini.generations[-1].body
    return json.dumps(json.loads(body), ensure_ascii=False)


@contextmanager
def _failing(world: World, provider: str) -> Generator[None]:
    """The provider refuses whatever comes, and then answers again."""
    upstream: Any = world.upstream(provider)
    upstream.default = anthropic.Error.bad_request() if provider == "claude" else google.Error.invalid_argument()
    yield
    upstream.default = anthropic.Answer("fine") if provider == "claude" else google.Answer("fine")


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_a_turn_that_failed_is_not_in_the_conversation(world: World, provider: str) -> None:
    """Neither in the transcript nor in the live session that saw it."""
    with open_line(world, "stdio", "auto") as line:
        conversation = turn(world, line, provider, 1, None)
        with _failing(world, provider):
            given = {"prompt": "this one is lost", "conversation_id": conversation}
            assert error_of(line.call(f"ask_{provider}", given))["code"] == "invalid_request"
        turn(world, line, provider, 2, conversation)
        assert "this one is lost" not in _whole(world, provider)


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_a_second_ask_in_a_conversation_that_still_answers_is_busy(world: World, provider: str) -> None:
    """From this hub and from another one; afterwards the conversation goes on."""
    hang = anthropic.Hang("so far") if provider == "claude" else google.Hang("so far")
    with open_line(world, "stdio", "auto") as line, open_line(world, "stdio", "legacy") as other:
        conversation = turn(world, line, provider, 1, None)
        world.upstream(provider).script(hang)  # pyright: ignore[reportArgumentType]
        given = {"prompt": "a long one", "conversation_id": conversation, "wait_s": 0}
        ticket = answer_of(line.call(f"ask_{provider}", given))
        assert ticket["status"] == "working"
        for asked in (line, other):
            refused = error_of(asked.call(f"ask_{provider}", {"prompt": "x", "conversation_id": conversation}))
            assert (refused["code"], refused["retryable"]) == ("busy", True)
        other.call("ask_cancel", {"ask_id": ticket["ask_id"]})
        turn(world, other, provider, 2, conversation)
        assert "a long one" not in _whole(world, provider)


def test_a_conversation_that_is_too_long_is_refused_before_the_provider_refuses_it(world: World) -> None:
    """The error names the sizes, and nothing is sent."""
    with open_line(world, "stdio", "auto") as line:
        conversation = answer_of(line.call("ask_gemini", {"prompt": "x" * 1_000_000}))["conversation_id"]
        for _ in range(1):
            line.call("ask_gemini", {"prompt": "y" * 1_000_000, "conversation_id": conversation})
        before = world.prompts_received("gemini")
        refused = error_of(line.call("ask_gemini", {"prompt": "z" * 1_000_000, "conversation_id": conversation}))

        assert refused["code"] == "invalid_request"
        assert "3,000,000" in refused["message"]
        assert "new conversation" in refused["action"]
        assert world.prompts_received("gemini") == before


def test_a_conversation_can_be_read_and_forgotten(world: World) -> None:
    """As a resource, in the shell; after `delete` it is not found, like one that never was."""
    with open_line(world, "stdio", "auto") as line:
        conversation = turn(world, line, "gemini", 1, None, system=SYSTEM)
    listed = run_command(world, "conversations").stdout.decode()
    shown = run_command(world, "conversations", "show", conversation).stdout.decode()

    assert conversation in listed
    assert in_order(shown.partition("\n")[2], [SYSTEM, question(1), reply(1)])  # its title is its first prompt's begin
    assert run_command(world, "conversations", "delete", conversation).returncode == 0
    gone = run_command(world, "conversations", "show", conversation)
    never = run_command(world, "conversations", "show", "conv_never")
    assert (gone.returncode, gone.stderr) == (never.returncode, never.stderr)
    assert gone.returncode == 64
    with open_line(world, "stdio", "auto") as line:
        refused = error_of(line.call("ask_gemini", {"prompt": "x", "conversation_id": conversation}))
    assert refused["code"] == "not_found"


def test_all_that_a_hub_keeps_has_an_end(world: World, tmp_path: Path) -> None:
    """Answers, failures, tickets, wishes to cancel, limits that were met, leases: HUB_RETENTION_DAYS, or sooner."""
    with RedisServer(tmp_path / "redis") as server:
        world.changes |= {"REDIS_URL": server.url, "HUB_RETENTION_DAYS": "2"}
        with open_line(world, "stdio", "auto") as line, open_line(world, "stdio", "legacy") as other:
            conversation = turn(world, line, "claude", 1, None)
            turn(world, other, "gemini", 2, conversation)
            world.gemini.script(google.Hang("so far"), google.Error.quota_exhausted("4h", 14_400))
            ticket = answer_of(line.call("ask_gemini", {"prompt": "a long one", "wait_s": 0}))
            world.gemini.wait_for_generations(2)
            assert not other.call("ask_cancel", {"ask_id": ticket["ask_id"]}).is_error
            assert error_of(line.call("ask_gemini", {"prompt": "one too many"}))["code"] == "quota_exhausted"
            kept = server.keys()
        days = {key: left / 86_400_000 for key, left in kept.items()}

    # What is known of a login outlives asks and conversations: see the table of `store/base.py`.
    of_logins = {key for key in days if b":ledger:" in key or key.endswith(b":salt")}
    assert all(left > 0 for left in days.values()), days
    days = {key: left for key, left in days.items() if key not in of_logins}
    assert any(b"turns:" in key for key in days)
    assert all(left <= 2 for left in days.values()), days
    assert max(days.values()) > 1.9
