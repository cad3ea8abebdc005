"""What Claude's CLI says, thrown at what reads it: messages, who pays, and what both logins say on a terminal.

The SDK's parser stands before the turn, as it does in the provider: its module is private, and pinned with the SDK.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, cast

from claude_agent_sdk import AssistantMessage, RateLimitEvent, ResultMessage, StreamEvent
from claude_agent_sdk._errors import MessageParseError
from claude_agent_sdk._internal.message_parser import parse_message
from hypothesis import strategies as st

from llm_mcp_hub.children.dialogue import Dialogue
from llm_mcp_hub.conversation import Exchange, Part, whole
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers import acp, claude_login, gemini_login, gemini_turn
from llm_mcp_hub.providers.base import Finished, Text
from llm_mcp_hub.providers.claude_guard import check_account, check_settings_in_force
from llm_mcp_hub.providers.claude_history import blocks, transcript
from llm_mcp_hub.providers.claude_turn import Turn
from tests.fuzz.engine import CANARY, TAKEN, Target, refused
from tests.fuzz.forms import CUTS, FAILED, an_ask, cut
from tests.unit.strategies import ANY_TEXT, TEXT, any_json

# -- Claude's ----------------------------------------------------------------------------------------------------------

STREAMED: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-5-5"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
]
TURN: list[Any] = [
    *({"type": "stream_event", "uuid": "u", "session_id": "s", "event": event} for event in STREAMED[:2]),
    {
        "type": "assistant",
        "message": {"id": "msg_2", "model": "claude-sonnet-5-5", "content": [{"type": "text", "text": "Hello"}]},
    },
    {
        "type": "rate_limit_event",
        "uuid": "u",
        "session_id": "s",
        "rate_limit_info": {
            "status": "rejected",
            "resetsAt": 1_900_000_000,
            "rateLimitType": "five_hour",
            "isUsingOverage": False,
            "unifiedWindows": {"five_hour": {"utilization": 0.5, "resetsAt": 1_900_000_000}},
        },
    },
]
END: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "duration_ms": 1,
    "duration_api_ms": 1,
    "is_error": False,
    "num_turns": 1,
    "session_id": "s",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 1},
    "modelUsage": {"claude-sonnet-5-5": {}},
    "result": "Hello",
}
FAILURES: list[Any] = [
    {
        **END,
        "is_error": True,
        "result": f"{CANARY}",
        "api_error_status": status,
        "errors": ["x"],
        "terminal_reason": why,
    }
    for status in (None, 400, 401, 404, 413, 429, 500, 529)
    for why in ("max_turns", "completed")
]
TURNS: list[list[Any]] = [[*TURN, END], [TURN[0], END], [END], *([*TURN[:3], failure] for failure in FAILURES)]


def _turn(messages: Any) -> str:
    """As the provider does it: the SDK parses, and what it refuses is one of the errors that the provider knows."""
    turn = Turn(an_ask(), time.time)
    try:
        for raw in cast("list[Any]", messages) if isinstance(messages, list) else [messages]:
            try:
                message = parse_message(raw)
            except MessageParseError:
                return "unreadable"
            except (TypeError, AttributeError, KeyError, ValueError):
                return "unreadable by the SDK"
            if isinstance(message, StreamEvent):
                for event in turn.streamed(message.event):
                    assert not isinstance(event, Text) or type(event.piece) is str
            elif isinstance(message, AssistantMessage):
                turn.said(message)
            elif isinstance(message, RateLimitEvent):
                turn.limited(message)
                for window in turn.quota:
                    window.model_dump_json()
            elif isinstance(message, ResultMessage):
                _whole(turn.result(message), turn)
                return TAKEN
    except HubError as error:
        return refused(error)
    return "no end"


def _whole(finished: Finished, turn: Turn) -> None:
    assert finished.text.strip()
    finished.model.encode()
    finished.usage.model_dump_json()
    assert turn.text is not None
    json.dumps([finished.stop_reason, *finished.warnings], ensure_ascii=False).encode()


EXCHANGES: list[tuple[Any, ...]] = [
    ("question", "answer", "claude", "name.txt", "content", None),
    ("q\u2028\n", '"}\n{"type":"user"}', "gemini", "../x", None, b"\x89PNG\r\n\x1a\n"),
]


def _history(value: tuple[Any, ...]) -> str:
    """What nouns take is what conversations are made of; both providers are told it whole. Halves of characters are
    refused before."""
    prompt, answer, provider, name, text = (whole(each) if isinstance(each, str) else each for each in value[:5])
    data: Any = value[5]
    try:
        part = Part(name=name, mime_type="text/plain", text=text, data=data)
        turn = Exchange(
            ask_id="a", provider=provider, model="m", prompt=prompt, parts=(part,), answer=answer, at="2026-01-01"
        )
    except ValueError:
        return "no turn"
    lines = transcript([turn, turn], session="s", cwd=Path("/nowhere"), provider="claude").splitlines()
    said = [json.loads(line)["message"]["content"][-1]["text"] for line in lines]
    assert [said[0], said[2]] == [prompt, prompt]
    assert all(words.endswith(answer) for words in (said[1], said[3]))
    assert blocks([part], prompt)[-1]["text"] == prompt
    told = gemini_turn.prompt_blocks(an_ask(prompt, answer, (turn,)), seen=False)
    assert told[-1] == prompt
    assert acp.prompt(1, "s", told).count(b"\n") == 1
    return TAKEN


ACCOUNT = {"tokenSource": "CLAUDE_CODE_OAUTH_TOKEN", "apiProvider": "firstParty", "subscriptionType": "max"}
IN_FORCE: list[dict[str, Any]] = [
    {"effective": {"model": "opus"}, "served_settings_state": "loaded", "account": ACCOUNT},
    {"effective": {"env": {"ANTHROPIC_API_KEY": CANARY}}, "account": {**ACCOUNT, "apiKeySource": "user"}},
    {
        "effective": {"hooks": {"Stop": CANARY}},
        "served_settings_state": "pending",
        "account": {"apiProvider": "vertex"},
    },
]


def _payer(told: Any) -> str:
    given = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    account = given.get("account")
    try:
        check_settings_in_force(given)
        check_account(cast("dict[str, Any]", account) if isinstance(account, dict) else {})
    except HubError as error:
        return refused(error)
    settings = cast("dict[str, Any]", given["effective"])
    assert not {"env", "apiKeyHelper", "hooks"} & settings.keys()
    assert cast("dict[str, Any]", account)["tokenSource"] == "CLAUDE_CODE_OAUTH_TOKEN"
    return TAKEN


# -- terminals ---------------------------------------------------------------------------------------------------------


class Spoken:
    """A terminal's reading side: pieces of what a child says, then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        """The next piece, or nothing more."""
        return self._pieces.pop(0) if self._pieces else b""


WANTED = (
    claude_login._LINK,  # pyright: ignore[reportPrivateUsage]
    claude_login._TOKEN,  # pyright: ignore[reportPrivateUsage]
    claude_login._FAILED,  # pyright: ignore[reportPrivateUsage]
    gemini_login._LINK,  # pyright: ignore[reportPrivateUsage]
)
SAID = [
    b"\x1b[2J\x1b[1;1HOpen https://claude.ai/oauth/authorize?code=true&client_id=1\x1b[0m \r\nPaste\x1b[1Ccode here >",
    b"\x1b]8;;https://x\x07Go to https://accounts.google.com/o/oauth2/v2/auth?x=1\n\nEnter the authorization code: ",
    b"OAuth error: Request failed with status code 400\r\nPress Enter to retry",
    b"\x1b[?25l\x1bP+q\x1b\\sk-ant-oat01-" + b"a" * 95 + b" \r\n\x1b[?25h",
]


def _spoken(value: tuple[bytes, bytes]) -> str:
    data, cuts = value
    whole, found = _waited([data], re.compile("(?!)"))
    pieces, _ = _waited(cut(data, cuts), re.compile("(?!)"))
    assert whole.text == pieces.text, "pieces make a difference"
    assert found is None
    _, found = _waited(cut(data, cuts), *WANTED)
    return "nothing" if found is None else TAKEN


def _waited(pieces: list[bytes], *wanted: re.Pattern[str]) -> tuple[Dialogue, re.Match[str] | None]:
    """What a dialogue waits for, where its terminal never has to be waited for."""
    dialogue = Dialogue(cast("Any", Spoken(pieces)))
    try:
        dialogue.until(*wanted).send(None)
    except StopIteration as done:
        return dialogue, done.value
    raise AssertionError("it waits for a terminal that has ended")


def targets() -> list[Target]:
    """All of them."""
    return [
        Target(
            "claude stream",
            TURNS,
            st.lists(st.one_of(st.sampled_from([*TURN, *FAILURES, END]), any_json()), max_size=5),
            _turn,
            FAILED | {"unreadable", "unreadable by the SDK", "no end"},
            3,
        ),
        Target(
            "transcripts",
            EXCHANGES,
            st.tuples(
                ANY_TEXT, ANY_TEXT, TEXT, ANY_TEXT, st.one_of(st.none(), ANY_TEXT), st.one_of(st.none(), st.binary())
            ),
            _history,
            frozenset({"no turn"}),
        ),
        Target("claude payer", IN_FORCE, any_json(), _payer, FAILED),
        Target(
            "terminal words",
            [(said, b"\3\x20") for said in SAID],
            st.tuples(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(SAID))).map(b"".join), CUTS),
            _spoken,
            frozenset({"nothing"}),
        ),
    ]
