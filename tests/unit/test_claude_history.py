"""A conversation as Claude's CLI resumes it: the lines of its transcript, and the content of a message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import Exchange, Part
from llm_mcp_hub.providers.claude_child import transcript_file
from llm_mcp_hub.providers.claude_history import blocks, transcript
from tests.unit.strategies import TEXT

SESSION = "00000000-0000-4000-8000-000000000001"
CWD = Path("/state/run/made-up/empty")
AT = "2026-11-24T00:00:00.000Z"


def turn(
    prompt: str, answer: str, provider: str = "claude", model: str = "claude-made-up-1", parts: Sequence[Part] = ()
) -> Exchange:
    return Exchange(
        ask_id="ask_1", provider=provider, model=model, prompt=prompt, parts=tuple(parts), answer=answer, at=AT
    )


def lines_of(turns: Sequence[Exchange]) -> list[dict[str, Any]]:
    written = transcript(turns, session=SESSION, cwd=CWD, provider="claude")
    assert written == "" or written.endswith("\n")
    return [json.loads(line) for line in written.split("\n")[:-1]]


# -- the content of a message ------------------------------------------------------------------------------------------


def test_what_is_put_before_a_prompt_stands_before_it() -> None:
    """Text by its content between two lines that name it, pictures and PDFs as the API takes them, then the prompt."""
    parts = [
        Part(name="a.txt", mime_type="text/plain", text="without a line end"),
        Part(name="b.txt", mime_type="text/plain", text="with one\n"),
        Part(name="c.png", mime_type="image/png", data=b"\x89PNG"),
        Part(name="d.pdf", mime_type="application/pdf", data=b"%PDF"),
    ]

    assert blocks(parts, "And now?") == [
        {"type": "text", "text": "--- a.txt ---\nwithout a line end\n--- end of a.txt ---\n\n"},
        {"type": "text", "text": "--- b.txt ---\nwith one\n--- end of b.txt ---\n\n"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
        {"type": "text", "text": "And now?"},
    ]


@given(TEXT, st.lists(st.builds(Part, name=TEXT, mime_type=st.just("text/plain"), text=TEXT), max_size=3))
def test_a_prompt_is_the_last_block_untouched(prompt: str, parts: list[Part]) -> None:
    """G3: character for character, whatever stands before it."""
    made = blocks(parts, prompt)

    assert made[-1] == {"type": "text", "text": prompt}
    assert len(made) == len(parts) + 1


# -- the transcript ----------------------------------------------------------------------------------------------------


def test_a_transcript_is_these_lines() -> None:
    """What the CLI needs to resume, line by line; whose answer another provider's was stands in it."""
    paper = Part(name="d.pdf", mime_type="application/pdf", data=b"%PDF")
    written = lines_of(
        [
            turn("/about @/etc/passwd", "First."),
            turn("한국어\n?", "Second.", provider="gemini", model="gemini-2.5-pro", parts=[paper]),
        ]
    )

    names = {line["uuid"]: f"line {number}" for number, line in enumerate(written)}
    around = {
        "sessionId": SESSION,
        "timestamp": AT,
        "isSidechain": False,
        "userType": "external",
        "cwd": str(CWD),
        "version": "2.1.330",
    }
    said = {
        "type": "message",
        "role": "assistant",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    document = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert len(names) == 4
    assert len({line["message"].pop("id") for line in written if line["type"] == "assistant"}) == 2
    assert [{**line, "uuid": names[line["uuid"]], "parentUuid": names.get(line["parentUuid"])} for line in written] == [
        {
            **around,
            "type": "user",
            "uuid": "line 0",
            "parentUuid": None,
            "message": {"role": "user", "content": [{"type": "text", "text": "/about @/etc/passwd"}]},
        },
        {
            **around,
            "type": "assistant",
            "uuid": "line 1",
            "parentUuid": "line 0",
            "message": {**said, "model": "claude-made-up-1", "content": [{"type": "text", "text": "First."}]},
        },
        {
            **around,
            "type": "user",
            "uuid": "line 2",
            "parentUuid": "line 1",
            "message": {
                "role": "user",
                "content": [{"type": "document", "source": document}, {"type": "text", "text": "한국어\n?"}],
            },
        },
        {
            **around,
            "type": "assistant",
            "uuid": "line 3",
            "parentUuid": "line 2",
            "message": {
                **said,
                "model": "gemini-2.5-pro",
                "content": [{"type": "text", "text": "[Answered by gemini-2.5-pro]\nSecond."}],
            },
        },
    ]


def test_no_turns_are_no_lines() -> None:
    """The caller begins a new session then."""
    assert transcript([], session=SESSION, cwd=CWD, provider="claude") == ""


@given(st.lists(st.builds(turn, TEXT, TEXT), max_size=4))
def test_any_turns_come_back_out_of_it_in_order(turns: list[Exchange]) -> None:
    """No text can end a line early (U+2028 and the like too), and the chain of lines has no gap."""
    written = lines_of(turns)

    assert [line["message"]["content"][-1]["text"] for line in written] == [
        text for exchange in turns for text in (exchange.prompt, exchange.answer)
    ]
    assert [line["parentUuid"] for line in written] == [None, *(line["uuid"] for line in written)][: len(written)]


def test_the_transcript_stands_where_the_cli_looks_for_it() -> None:
    """By its working directory, every character that is neither letter nor digit a dash."""
    file = transcript_file(Path("/state/run/x/claude-1"), Path("/state/r.un/x_y/empty"), SESSION)

    assert file == Path(f"/state/run/x/claude-1/config/projects/-state-r-un-x-y-empty/{SESSION}.jsonl")
