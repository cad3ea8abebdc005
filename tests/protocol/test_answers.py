"""G9: an answer is honest. What it looks like to an MCP client, from both providers' own programs, over every way to
the hub: the text, the model and how that is known, the usage, who pays."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from concurrent.futures import Future

import pytest
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult

from llm_mcp_hub.conversation import Answer
from tests.harness import DEADLINE_S, Era, Line, Transport, World, answer_of, open_line, texts_of
from tests.protocol.conftest import CANARY, Shared
from tests.upstreams import anthropic as claude
from tests.upstreams import google
from tests.upstreams.anthropic import last_user_texts, system_texts
from tests.upstreams.google import prompt_texts, system_text

PROMPT = f"Say something, {CANARY}."


def about(result: CallToolResult) -> str:
    """The line about an answer, for models and people."""
    return texts_of(result)[1] or ""


def check(result: CallToolResult, text: str) -> Answer:
    """The shape that every answer has; returns what a program reads of it."""
    answer = Answer.model_validate(answer_of(result))

    assert texts_of(result) == [text, about(result)]
    assert answer.text == text
    assert "\n" not in about(result)
    for part in (answer.provider, answer.model, answer.model_source, f"ask_id: {answer.ask_id}"):
        assert part in about(result)
    assert result.structured_content is None
    assert not result.is_error
    assert CANARY not in result.model_dump_json(by_alias=True)
    assert answer.status == "completed"
    assert answer.ask_id.startswith("ask_")
    assert answer.conversation_id is not None
    assert answer.conversation_id.startswith("conv_")
    assert f"conversation_id: {answer.conversation_id}" in about(result)
    assert 0 <= (answer.first_text_ms or 0) <= answer.duration_ms
    return answer


def test_claude_answers_with_model_usage_and_who_pays(line: Line, warm: World) -> None:
    """The answer alone in the first block, one line about it in the second, and the whole of it for programs."""
    text = "Zwei\n\n- Zeilen, <b>ohne</b> Änderung & 漢字 🎺\n"
    warm.claude.script(claude.Answer(text, chunks=3, thinking="Hm.", input_tokens=321, output_tokens=45, cache_read=6))

    result = line.call("ask_claude", {"prompt": PROMPT})

    answer = check(result, text)
    assert (answer.provider, answer.model, answer.model_source) == ("claude", "claude-sonnet-5-5", "served")
    assert answer.stop_reason == "end_turn"
    assert answer.usage.model_dump() == {
        "input_tokens": 321,
        "output_tokens": 45,
        "cached_input_tokens": 6,
        "thinking_tokens": None,
    }
    assert answer.billing.model_dump() == {"source": "subscription", "evidence": "handshake"}
    assert answer.warnings == ()
    assert answer.first_text_ms is not None
    assert "321 tokens in, 45 out" in about(result)
    assert warm.claude.prompts[-1] == PROMPT


def test_gemini_answers_with_model_usage_and_who_pays(line: Line, warm: World) -> None:
    """As with Claude; the CLI does not say what Google served, so the model is only known as the one asked for."""
    text = "Zwei\n\n- Zeilen, <b>ohne</b> Änderung & 漢字 🎺\n"
    scripted = google.Answer(
        text, chunks=3, thought="**Hm**\nWell", prompt_tokens=321, output_tokens=45, cached_tokens=6, thoughts_tokens=78
    )
    warm.gemini.script(scripted)

    result = line.call("ask_gemini", {"prompt": PROMPT})

    answer = check(result, text)
    assert (answer.provider, answer.model, answer.model_source) == ("gemini", "gemini-2.5-pro", "requested")
    assert answer.stop_reason == "end_turn"
    assert answer.usage.model_dump() == {
        "input_tokens": 321,
        "output_tokens": 45,
        "cached_input_tokens": 6,
        "thinking_tokens": 78,
    }
    assert answer.billing.model_dump() == {"source": "subscription", "evidence": "fuse"}
    assert answer.warnings == ()
    assert answer.first_text_ms is not None
    assert prompt_texts(warm.gemini.generations[-1])[-1] == PROMPT


def test_every_ask_has_a_name_of_its_own(one_line: Line, warm: World) -> None:
    """By the same words asked twice, two asks are known."""
    asked = [one_line.begin("ask_gemini", {"prompt": PROMPT}) for _ in range(3)]

    assert len({answer_of(waiting.result(DEADLINE_S))["ask_id"] for waiting in asked}) == 3


# Arguments that reach the model -------------------------------------------------------------------------------------


def test_a_system_text_reaches_either_model_and_no_later_ask(one_line: Line, warm: World) -> None:
    """It comes with the ask that gives it; the next one through the same warm CLI does not see it."""
    system = f"Answer as the {CANARY}: in verse.\nAlways."
    for name in ("claude", "gemini"):
        given = one_line.call(f"ask_{name}", {"prompt": PROMPT, "system": system})
        later = one_line.call(f"ask_{name}", {"prompt": PROMPT})
        assert not given.is_error
        assert not later.is_error

    with_system, without = warm.claude.received[-2:]
    assert system in "\n".join(system_texts(with_system))
    assert last_user_texts(with_system) == [PROMPT]
    assert CANARY not in "\n".join(system_texts(without))
    with_system, without = warm.gemini.generations[-2:]
    assert any(system in text for text in [*prompt_texts(with_system), system_text(with_system)])
    assert prompt_texts(with_system)[-1] == PROMPT
    assert not any(system in text for text in [*prompt_texts(without), system_text(without)])


@pytest.mark.parametrize(
    ("given", "wire"),
    [
        ("opus", "claude-opus-5-5"),
        ("haiku", "claude-haiku-5-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
    ],
)
def test_a_model_is_honoured_by_claude(one_line: Line, warm: World, given: str, wire: str) -> None:
    """By alias and by full name, and the answer names the model that was on the wire."""
    answer = check(
        one_line.call("ask_claude", {"prompt": PROMPT, "model": given}), "Hello from the stand-in of Claude."
    )

    assert warm.claude.received[-1].json["model"] == wire
    assert (answer.model, answer.model_source, answer.warnings) == (wire, "served", ())


def test_a_model_is_honoured_by_gemini_for_its_ask_alone(one_line: Line, warm: World) -> None:
    """All asks go through one process, and another ask's model must not stick to it."""
    other = check(
        one_line.call("ask_gemini", {"prompt": PROMPT, "model": "gemini-3-pro-preview"}),
        "Hello from the stand-in of Gemini.",
    )
    usual = check(one_line.call("ask_gemini", {"prompt": PROMPT}), "Hello from the stand-in of Gemini.")

    assert [request.json["model"] for request in warm.gemini.generations[-2:]] == [other.model, usual.model]
    assert (other.model, usual.model) == ("gemini-3-pro-preview", "gemini-2.5-pro")


def test_a_model_that_the_cli_replaces_is_answered_with_a_warning(one_line: Line, warm: World) -> None:
    """Claude's CLI upgrades some names in silence; the hub does not."""
    asked = "claude-opus-4-1-20250805"

    result = one_line.call("ask_claude", {"prompt": PROMPT, "model": asked})

    answer = check(result, "Hello from the stand-in of Claude.")
    assert answer.model == warm.claude.received[-1].json["model"] == "claude-opus-5-5"
    [warning] = answer.warnings
    assert asked in warning
    assert "claude-opus-5-5" in warning
    assert f"warning: {warning}" in about(result)


def test_a_model_that_the_api_replaces_is_named_as_the_one_that_served(one_line: Line, warm: World) -> None:
    """The answer's own word counts, not what was asked for."""
    warm.claude.script(claude.Answer("Me.", model="claude-sonnet-5-5-20260901"))

    answer = check(one_line.call("ask_claude", {"prompt": PROMPT, "model": "claude-sonnet-5-5"}), "Me.")

    assert (answer.model, answer.model_source) == ("claude-sonnet-5-5-20260901", "served")
    assert any("claude-sonnet-5-5-20260901" in warning for warning in answer.warnings)


def test_a_licence_that_hangs_on_a_project_answers_with_that_project_named(world: World) -> None:
    """`GEMINI_PROJECT` is the only way by which a project reaches Google, and it reaches every request."""
    world.gemini.account = google.Account.licensed("my-work-project")
    world.changes.update(GEMINI_PROJECT="my-work-project", GOOGLE_CLOUD_PROJECT="not-this-one")
    with open_line(world, "stdio", "auto") as line:
        check(line.call("ask_gemini", {"prompt": PROMPT}), "Hello from the stand-in of Gemini.")

    assert {request.json["project"] for request in world.gemini.generations} == {"my-work-project"}


# How an answer comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken", [claude.Cut("Half of it, "), claude.Malformed("Half of it, "), claude.StreamError("Half of it, ")]
)
def test_an_answer_that_claude_begins_anew_is_not_doubled(one_line: Line, warm: World, broken: claude.Reply) -> None:
    """The CLI repeats a request whose stream broke; the answer is the repeated one, whole and once."""
    warm.claude.script(broken, claude.Answer("A whole one.", chunks=2))

    check(one_line.call("ask_claude", {"prompt": PROMPT}), "A whole one.")


def test_an_answer_cut_off_by_its_length_goes_on_where_it_was_cut(one_line: Line, warm: World) -> None:
    """The CLI asks the model to resume; what came before the cut belongs to the answer."""
    warm.claude.script(claude.Answer.cut_short("The first half, "), claude.Answer("and the second."))

    answer = check(one_line.call("ask_claude", {"prompt": PROMPT}), "The first half, and the second.")

    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (22, 14)  # of both requests


LARGE: list[tuple[Transport, Era, int]] = [
    ("stdio", "auto", 110_000),
    ("stdio", "legacy", 30_000),
    ("http", "auto", 30_000),
    ("http", "legacy", 30_000),
]
"""Lines of about 50 bytes."""


@pytest.mark.parametrize(("transport", "era", "lines"), LARGE)
@pytest.mark.parametrize("name", ["claude", "gemini"])
def test_a_very_long_answer_arrives_whole(
    shared: Shared, warm: World, transport: Transport, era: Era, lines: int, name: str
) -> None:
    """In pages, 5 MB over stdio: far over every buffer on the way (the SDK's 1 MiB, a terminal's line, a pipe)."""
    line = shared.lines[transport, era]
    text = "".join(f"{number:06} äöü 漢字 🎺 and so on, to fill it.\n" for number in range(lines))
    assert len(text.encode()) > 45 * lines
    if name == "claude":
        warm.claude.script(claude.Answer(text, chunks=20))
    else:
        warm.gemini.script(google.Answer(text, chunks=20))

    result = line.call(f"ask_{name}", {"prompt": PROMPT})

    pages = list(_pages(line, result))
    assert len(pages) > 2
    assert max(len(page.encode()) for page in pages) <= 480_000
    arrived = "".join(pages) == text  # outside of `assert`, which would show both
    assert arrived


def test_an_answer_of_one_page_has_400_000_characters(one_line: Line, warm: World) -> None:
    """DESIGN 3.1: only what is longer is cut into pages, and a page says where the next begins."""
    text = "x" * 400_000
    warm.gemini.script(google.Answer(text), google.Answer(text + "yz"))

    assert [len(page) for page in _pages(one_line, one_line.call("ask_gemini", {"prompt": PROMPT}))] == [400_000]
    assert [len(page) for page in _pages(one_line, one_line.call("ask_gemini", {"prompt": PROMPT}))] == [400_000, 2]


def _pages(line: Line, result: CallToolResult) -> Generator[str]:
    """What a reader gets who goes on as the second block says, until nothing is left."""
    while True:
        page = str(texts_of(result)[0])
        assert answer_of(result)["text"] == page
        yield page
        going_on = re.search(r'ask_result\(ask_id="(\w[\w-]*)", offset=(\d+)\)', str(texts_of(result)[1]))
        told = (result.meta or {}).get("llm-mcp-hub/page") or {"next_offset": None}
        assert told["next_offset"] == (int(going_on[2]) if going_on else None)
        if going_on is None:
            return
        result = line.call("ask_result", {"ask_id": going_on[1], "offset": int(going_on[2])})


def test_progress_comes_in_time_and_names_the_ask(shared: Shared, warm: World) -> None:
    """A client that asked for it hears of a slow answer before it is there, over every way and from both providers."""
    gate, heard = threading.Event(), threading.Semaphore(0)
    begun: list[tuple[Future[CallToolResult], list[str]]] = []
    warm.claude.default = claude.Answer("At last.", gate=gate)
    warm.gemini.default = google.Answer("At last.", gate=gate)
    for line in shared.lines.values():
        for name in ("claude", "gemini"):
            messages: list[str] = []
            waiting = line.begin(f"ask_{name}", {"prompt": PROMPT}, _noting(messages, heard))
            begun.append((waiting, messages))
    for _ in begun:
        assert heard.acquire(timeout=DEADLINE_S)
    gate.set()

    for waiting, messages in begun:
        answer = check(waiting.result(DEADLINE_S), "At last.")
        assert answer.ask_id in messages[0]
        assert answer.provider in messages[0].lower()
        assert CANARY not in messages[0]


def _noting(messages: list[str], heard: threading.Semaphore) -> ProgressFnT:
    async def note(progress: float, total: float | None, message: str | None) -> None:
        messages.append(message or "")
        if len(messages) == 1:
            heard.release()

    return note
