"""What Claude's CLI says in one turn, as ours: real message objects of the SDK in, events and one end out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    RateLimitEvent,
    RateLimitInfo,
    ResultMessage,
    StreamEvent,
    TextBlock,
    ThinkingBlock,
)
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers.base import Alive, Event, Finished, Restarted, Text
from llm_mcp_hub.providers.claude_turn import ALIASES, Turn
from tests.unit.strategies import ANY_TEXT, any_json, loose

SERVED = "claude-sonnet-5-5"
HOUR = 3600

Message = StreamEvent | AssistantMessage | RateLimitEvent | ResultMessage


def ask(model: str = "sonnet") -> Ask:
    return Ask("ask_1", "claude", "hello", model, None, 60)


def play(turn: Turn, messages: Sequence[Message]) -> list[Event]:
    """Hand messages to a turn by their kind, in order, as the provider does."""
    events: list[Event] = []
    for message in messages:
        match message:
            case StreamEvent():
                events += turn.streamed(message.event)
            case AssistantMessage():
                events += turn.said(message)
            case RateLimitEvent():
                turn.limited(message)
            case ResultMessage():
                events.append(turn.result(message))
    return events


def told(events: list[Event]) -> list[Event]:
    """Without what only says that something is alive."""
    return [event for event in events if not isinstance(event, Alive)]


def ended(messages: Sequence[Message], model: str = "sonnet") -> Finished:
    last = play(Turn(ask(model), time.time), messages)[-1]
    assert isinstance(last, Finished)
    return last


def failed(messages: Sequence[Message], model: str = "sonnet") -> HubError:
    with pytest.raises(HubError) as raised:
        play(Turn(ask(model), time.time), messages)
    return raised.value


# -- messages as the CLI writes them -----------------------------------------------------------------------------------


def event(**raw: Any) -> StreamEvent:
    return StreamEvent(uuid="u", session_id="s", event=raw)


def start(number: str = "msg_1", model: str = SERVED) -> StreamEvent:
    return event(type="message_start", message={"id": number, "model": model, "role": "assistant", "content": []})


def piece(text: str) -> StreamEvent:
    return event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def stop(reason: str = "end_turn") -> list[Message]:
    return [
        event(type="message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 7}),
        event(type="message_stop"),
    ]


def block(text: str, number: str = "msg_1") -> AssistantMessage:
    return AssistantMessage([TextBlock(text)], SERVED, message_id=number)


def failure(kind: str | None) -> AssistantMessage:
    return AssistantMessage([TextBlock("API Error")], "<synthetic>", error=cast(Any, kind))


def result(text: str | None = "Hello.", **changes: Any) -> ResultMessage:
    fields: dict[str, Any] = {
        "subtype": "success",
        "duration_ms": 10,
        "duration_api_ms": 9,
        "is_error": False,
        "num_turns": 1,
        "session_id": "s",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 3},
        "result": text,
        "terminal_reason": "completed",
    }
    return ResultMessage(**{**fields, **changes})


def limits(
    status: str = "allowed", kind: str | None = None, resets_at: int | None = None, **raw: Any
) -> RateLimitEvent:
    info = RateLimitInfo(cast(Any, status), resets_at, cast(Any, kind), raw={"status": status, **raw})
    return RateLimitEvent(info, uuid="u", session_id="s")


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_streamed_answer_comes_in_pieces_and_whole() -> None:
    """The usual turn: each piece as it comes, then the end with the model that served and what it counted."""
    events = play(
        Turn(ask(), time.time),
        [limits(), start(), piece("Hel"), piece("lo."), block("Hello."), *stop(), result("Hello.")],
    )

    *pieces, end = told(events)
    assert pieces == [Text("Hel"), Text("lo.")]
    assert isinstance(end, Finished)
    assert end.text == "Hello."
    assert (end.model, end.model_source) == (SERVED, "served")
    assert end.stop_reason == "end_turn"
    assert end.usage.model_dump() == {
        "input_tokens": 11,
        "output_tokens": 7,
        "cached_input_tokens": 3,
        "thinking_tokens": None,
    }
    assert (end.billing.source, end.billing.evidence) == ("subscription", "handshake")
    assert end.warnings == ()


def test_whatever_is_no_text_feeds_the_idle_timer() -> None:
    """Thinking, pings and block borders are signs of life, and no part of the answer."""
    turn = Turn(ask(), time.time)
    silent = [
        event(type="ping"),
        event(type="content_block_start", index=0, content_block={"type": "thinking"}),
        event(type="content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        event(type="content_block_stop", index=0),
    ]

    assert play(turn, [start(), *silent]) == [Alive()] * 5
    assert turn.text == ""


def test_an_answer_that_begins_anew_voids_what_was_streamed() -> None:
    """A cut stream is repeated by the CLI: the same words come again, and must not stand there twice."""
    turn = Turn(ask(), time.time)
    events = play(
        turn,
        [start("msg_1"), piece("Hel"), event(type="message_stop"), start("msg_2"), piece("Hello."), *stop(), result()],
    )

    assert told(events)[:-1] == [Text("Hel"), Restarted(), Text("Hello.")]
    assert turn.text == "Hello."
    assert cast(Finished, events[-1]).text == "Hello."


def test_an_answer_that_is_repeated_before_its_first_word_is_no_new_beginning() -> None:
    """Nothing had been shown, so nothing is void."""
    assert told(play(Turn(ask(), time.time), [start("msg_1"), start("msg_2"), piece("x")])) == [Text("x")]


def test_an_answer_that_was_repeated_without_streaming_is_whole() -> None:
    """After a malformed stream the CLI asks again without streaming: no piece of the real answer ever comes."""
    assert (
        ended([start("msg_1"), piece("Hel"), block("Hello, all.", "msg_2"), result("Hello, all.")]).text
        == "Hello, all."
    )


def test_an_answer_that_was_repeated_without_streaming_is_told_too() -> None:
    """Whoever prints what comes would else print the void half alone."""
    events = play(
        Turn(ask(), time.time),
        [start("msg_1"), piece("Hel"), block("Hello, ", "msg_2"), block("all.", "msg_2"), result("all.")],
    )

    assert told(events)[:-1] == [Text("Hel"), Restarted(), Text("Hello, "), Text("all.")]
    assert cast(Finished, events[-1]).text == "Hello, all."


def test_what_the_cli_makes_up_is_no_text() -> None:
    """Its own words about a failure stand in messages of their own."""
    made_up = AssistantMessage([TextBlock("API Error: 500")], "<synthetic>", message_id="msg_2")

    assert told(play(Turn(ask(), time.time), [start("msg_1"), made_up])) == []


def test_a_sequel_without_streaming_stands_behind_the_first_part() -> None:
    """Its stream may fail before it has begun."""
    events = play(
        Turn(ask(), time.time),
        [start("msg_1"), piece("One, "), *stop("max_tokens"), block("two.", "msg_2"), result("two.")],
    )

    assert told(events)[:-1] == [Text("One, "), Text("two.")]
    assert cast(Finished, events[-1]).text == "One, two."


def test_a_sequel_that_begins_anew_leaves_the_first_part() -> None:
    """What is void is the sequel alone."""
    turn = Turn(ask(), time.time)
    events = play(
        turn,
        [
            *[start("msg_1"), piece("One, "), *stop("max_tokens")],
            *[start("msg_2"), piece("tw"), start("msg_3"), piece("two."), *stop(), result("two.")],
        ],
    )

    assert seen_of(events[:-1]) == turn.text == cast(Finished, events[-1]).text == "One, two."


def numbered(parts: Sequence[Sequence[Message]]) -> list[Message]:
    """Each part as a message of its own."""
    for number, part in enumerate(parts):
        for message in part:
            if isinstance(message, AssistantMessage):
                message.message_id = f"msg_{number}"
            elif isinstance(message, StreamEvent) and "message" in message.event:
                message.event["message"]["id"] = f"msg_{number}"
    return [message for part in parts for message in part]


def seen_of(events: Sequence[Event]) -> str:
    """The text so far of somebody who has seen these events."""
    text = ""
    for event in events:
        if isinstance(event, Restarted):
            text = ""
        elif isinstance(event, Text):
            text += event.piece
    return text


PIECES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
ENDS: st.SearchStrategy[list[Message]] = st.sampled_from([[], stop("end_turn"), stop("max_tokens")])


def streamed(texts: list[str], end: list[Message]) -> list[Message]:
    return [start(), *map(piece, texts), *end]


@given(
    st.lists(
        st.one_of(st.builds(streamed, PIECES, ENDS), PIECES.map(lambda texts: [block(text) for text in texts])),
        max_size=6,
    ).map(numbered)
)
def test_whatever_comes_the_events_tell_the_text_so_far(messages: list[Message]) -> None:
    """A caller that gets no answer is given what it saw: it must be what the answer would have been."""
    turn = Turn(ask(), time.time)

    for message in messages:
        before = turn.text
        events = play(turn, [message])
        assert seen_of([Text(before), *events]) == turn.text


def test_an_answer_that_was_cut_by_length_goes_on_where_it_was() -> None:
    """The CLI asks for a sequel: it belongs behind the first part, and `result` holds the sequel alone."""
    events = play(
        Turn(ask(), time.time),
        [
            *[start("msg_1"), piece("One, "), block("One, ", "msg_1"), *stop("max_tokens")],
            *[start("msg_2"), piece("two."), block("two.", "msg_2"), *stop(), result("two.")],
        ],
    )

    assert told(events)[:-1] == [Text("One, "), Text("two.")]
    assert cast(Finished, events[-1]).text == "One, two."


def test_all_blocks_of_an_answer_are_the_answer() -> None:
    """An answer that was thought over in between has several blocks of text; `result` holds the last one alone."""
    thought = AssistantMessage([ThinkingBlock("hm", "sig")], SERVED, message_id="msg_1")

    end = ended(
        [start(), piece("One. "), block("One. "), thought, piece("Two."), block("Two."), *stop(), result("Two.")]
    )

    assert end.text == "One. Two."


def test_a_full_name_that_was_not_served_is_said() -> None:
    """The CLI upgrades an old model in silence; the hub does not (G9)."""
    end = ended([start(model="claude-opus-5-5"), piece("x"), result("x")], model="claude-opus-4-1-20250805")

    assert end.model == "claude-opus-5-5"
    assert any("claude-opus-4-1-20250805" in warning and "claude-opus-5-5" in warning for warning in end.warnings)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_becomes_a_full_name_without_a_warning(alias: str) -> None:
    """That is what an alias is for."""
    assert ended([start(), piece("x"), result("x")], model=alias).warnings == ()


@pytest.mark.parametrize(
    ("given", "told_as"),
    [
        ("end_turn", "end_turn"),
        ("stop_sequence", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("odd", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_stop_reason_is_told_or_unknown(given: str | None, told_as: str) -> None:
    """A reason that we do not know is not guessed."""
    assert ended([start(), piece("x"), result("x", stop_reason=given)]).stop_reason == told_as


@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_answer_without_text_is_no_answer(text: str | None) -> None:
    """A success without a word must not reach a caller as an empty answer."""
    assert failed([start(), *stop(), result(text)]).code == "upstream_error"


# -- the subscription's windows ----------------------------------------------------------------------------------------


def test_the_windows_of_the_subscription_ride_on_the_answer() -> None:
    """`unifiedWindows` is the only place where the CLI tells what is left."""
    windows = {
        "five_hour": {"utilization": 0.12, "resetsAt": 1_800_000_000, "status": "allowed"},
        "seven_day": {"utilization": 0.05},
    }

    turn = Turn(ask(), time.time)
    play(turn, [limits(unifiedWindows=windows), start(), piece("x"), result("x")])
    five_hour, seven_day = turn.quota

    assert (five_hour.window, five_hour.used_fraction, five_hour.resets_at) == (
        "five_hour",
        0.12,
        "2027-01-15T08:00:00Z",
    )
    assert (seven_day.window, seven_day.used_fraction, seven_day.resets_at) == ("seven_day", 0.05, None)


@pytest.mark.parametrize("sign", ["isUsingOverage", "overageInUse"])
def test_an_answer_paid_as_extra_usage_says_so(sign: str) -> None:
    """G1: paid extra usage is named when the provider's event shows it."""
    end = ended(
        [RateLimitEvent(RateLimitInfo("allowed", raw={sign: True}), "u", "s"), start(), piece("x"), result("x")]
    )

    assert (end.billing.source, end.billing.evidence) == ("overage", "event")
    assert any("extra usage" in warning for warning in end.warnings)


def test_a_subscription_that_pays_again_says_so() -> None:
    """The last event counts: after the reset the hub must not go on blocking."""
    turn = Turn(ask(), time.time)
    play(turn, [limits(isUsingOverage=True), limits()])

    assert turn.overage is False


def test_without_an_event_nothing_is_known_of_extra_usage() -> None:
    """No news is not good news: the provider keeps what it knew."""
    turn = Turn(ask(), time.time)
    play(turn, [start(), piece("x")])

    assert turn.overage is None


# -- errors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What the CLI ends with, and what a caller is told."""

    told: str
    kind: str | None = None
    status: int | None = None
    reason: str = "api_error"
    subtype: str = "success"
    stop_reason: str | None = "stop_sequence"
    said: str = "API Error"
    limits: RateLimitEvent | None = None
    action: str = ""
    """A part of the next step."""

    @property
    def messages(self) -> list[Message]:
        end = result(
            self.said,
            is_error=True,
            api_error_status=self.status,
            terminal_reason=self.reason,
            subtype=self.subtype,
            stop_reason=self.stop_reason,
        )
        return [*([self.limits] if self.limits else []), failure(self.kind), end]


def used_up(kind: str | None) -> RateLimitEvent:
    return limits("rejected", kind, int(time.time()) + 2 * HOUR)


ERRORS: dict[str, Row] = {
    "401": Row("auth_rejected", "authentication_failed", 401, action="llm-mcp-hub login claude"),
    "403 revoked": Row("auth_rejected", "authentication_failed", 403, action="llm-mcp-hub login claude"),
    "403 organisation": Row("permission_denied", "oauth_org_not_allowed", 403, action="administrator"),
    "no login": Row("auth_rejected", said="Not logged in · Please run /login", action="llm-mcp-hub login claude"),
    "429 five hours": Row("quota_exhausted", "rate_limit", 429, limits=used_up("five_hour"), action="reset"),
    "429 week": Row("quota_exhausted", "rate_limit", 429, limits=used_up("seven_day"), action="reset"),
    "429 opus": Row("quota_exhausted", "rate_limit", 429, limits=used_up("seven_day_opus"), action="sonnet"),
    "429 plain": Row("rate_limited", "rate_limit", 429, limits=used_up(None), action="again"),
    "429 without an event": Row("rate_limited", "rate_limit", 429, action="again"),
    "credit balance": Row("billing_blocked", "billing_error", 400, action="subscription"),
    "404": Row("model_unavailable", "model_not_found", 404, action="opus"),
    "400 too long": Row("invalid_request", "invalid_request", 400, "prompt_too_long", action="Shorten"),
    "too long for the CLI": Row("invalid_request", reason="blocking_limit", action="Shorten"),
    "400": Row("invalid_request", "unknown", 400),
    "413": Row("invalid_request", "invalid_request", 413, "image_error", action="Shorten"),
    "500": Row("upstream_error", "server_error", 500),
    "503": Row("upstream_error", "server_error", 503),
    "529": Row("upstream_error", "server_error", 529),
    "refused connection": Row("upstream_error", "server_error", said="API Error: Unable to connect (ECONNREFUSED)"),
    "timed out": Row("timeout", "server_error", said="API Error: Request timed out."),
    "refusal": Row("refused", "invalid_request", stop_reason="refusal"),
    "length, again and again": Row("upstream_error", "max_output_tokens", action="shorter"),
    "a tool was wanted": Row(
        "upstream_error", reason="max_turns", subtype="error_max_turns", stop_reason="tool_use", action="text"
    ),
    "interrupted": Row("upstream_error", reason="aborted_streaming", subtype="error_during_execution"),
}


@pytest.mark.parametrize("row", ERRORS.values(), ids=ERRORS)
def test_a_failed_turn_becomes_this_error(row: Row) -> None:
    """The measured table of CLI 2.1.330, one row an error."""
    error = failed(row.messages)

    assert error.code == row.told
    assert error.provider == "claude"
    assert error.message
    assert row.action in error.action
    assert error.action


@pytest.mark.parametrize("row", ERRORS.values(), ids=ERRORS)
def test_no_error_quotes_the_cli(row: Row) -> None:
    """The API's sentence may hold the prompt, and has no place in ours."""
    said = row.said + " the owner's own words"
    error = failed([*row.messages[:-1], result(said, **_end_of(row))])

    assert "own words" not in error.message + error.action


def _end_of(row: Row) -> dict[str, Any]:
    end = row.messages[-1]
    assert isinstance(end, ResultMessage)
    names = ("is_error", "api_error_status", "terminal_reason", "subtype", "stop_reason")
    return {name: getattr(end, name) for name in names}


@pytest.mark.parametrize("name", ["500", "529", "timed out", "length, again and again", "429 plain", "429 week"])
def test_text_that_came_before_the_failure_is_kept(name: str) -> None:
    """What was streamed is the caller's, whatever ended it."""
    error = failed([start(), piece("half an"), *ERRORS[name].messages])

    assert error.partial_text == "half an"


@pytest.mark.parametrize("kind", ["five_hour", "seven_day", "seven_day_opus"])
def test_a_used_up_window_says_when_it_resets(kind: str) -> None:
    """The one next step needs a time."""
    error = failed(ERRORS["429 week"].messages[1:] and [used_up(kind), *ERRORS["429 without an event"].messages])

    assert error.code == "quota_exhausted"
    assert error.retry_after_s == pytest.approx(2 * HOUR, abs=120)
    assert "Z" in error.message


@pytest.mark.parametrize(
    "said",
    ["what does Not logged in mean?", "why has my request timed out?"],
)
def test_a_prompt_that_the_api_quotes_cannot_choose_the_error(said: str) -> None:
    """With a status the text is the API's, which may hold the prompt: the status alone decides."""
    row = Row("upstream_error", "server_error", 500, said=said)

    assert failed(row.messages).code == "upstream_error"


def test_a_rejected_window_does_not_spoil_an_answer_that_came() -> None:
    """With paid extra usage the window is rejected and the answer is there all the same."""
    assert ended([used_up("five_hour"), start(), piece("x"), result("x")]).text == "x"


# -- properties --------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "ping", "error"]
)
RAW_EVENTS = st.fixed_dictionaries(
    {"type": loose(KINDS)},
    optional={
        "message": loose(st.fixed_dictionaries({}, optional={"id": any_json(), "model": loose(st.just(SERVED))})),
        "delta": loose(
            st.fixed_dictionaries(
                {},
                optional={
                    "type": loose(st.just("text_delta")),
                    "text": loose(ANY_TEXT),
                    "stop_reason": loose(st.just("max_tokens")),
                },
            )
        ),
    },
)
WINDOW = st.fixed_dictionaries({}, optional={"utilization": loose(st.floats(0, 1)), "resetsAt": loose(st.integers())})
RAW_LIMITS = st.fixed_dictionaries(
    {}, optional={"unifiedWindows": loose(st.dictionaries(ANY_TEXT, loose(WINDOW))), "isUsingOverage": any_json()}
)
USAGE = st.fixed_dictionaries(
    {}, optional={"input_tokens": any_json(), "output_tokens": any_json(), "cache_read_input_tokens": any_json()}
)


@st.composite
def any_limits(draw: st.DrawFn) -> RateLimitEvent:
    status, resets_at = draw(loose(st.sampled_from(["allowed", "rejected"]))), draw(loose(st.integers()))
    kind = draw(loose(st.sampled_from(["five_hour", "seven_day_opus"])))
    return RateLimitEvent(RateLimitInfo(status, resets_at, kind, raw=draw(RAW_LIMITS)), "u", "s")


@st.composite
def any_block(draw: st.DrawFn) -> AssistantMessage:
    kinds = [row.kind for row in ERRORS.values()]
    error: Any = draw(st.one_of(st.none(), st.sampled_from(kinds), ANY_TEXT))
    number = draw(st.one_of(st.none(), st.sampled_from(["msg_1", "msg_2"])))
    return AssistantMessage([TextBlock(draw(ANY_TEXT))], SERVED, error=error, message_id=number)


@st.composite
def any_result(draw: st.DrawFn) -> ResultMessage:
    status = st.one_of(st.none(), st.integers(), st.sampled_from([400, 401, 403, 404, 413, 429, 500, 529]))
    return result(
        draw(st.one_of(st.none(), ANY_TEXT)),
        is_error=draw(st.booleans()),
        usage=draw(st.one_of(st.none(), USAGE)),
        stop_reason=draw(st.one_of(st.none(), ANY_TEXT, st.just("refusal"))),
        subtype=draw(st.one_of(ANY_TEXT, st.just("error_max_turns"))),
        terminal_reason=draw(st.one_of(st.none(), ANY_TEXT)),
        api_error_status=draw(status),
        errors=draw(st.one_of(st.none(), st.lists(ANY_TEXT, max_size=2))),
        model_usage=draw(st.one_of(st.none(), st.dictionaries(ANY_TEXT, st.none(), max_size=2))),
    )


def raw_event(raw: dict[str, Any]) -> StreamEvent:
    return StreamEvent("u", "s", raw)


ANY_MESSAGES = st.lists(st.one_of(RAW_EVENTS.map(raw_event), any_block(), any_limits()), max_size=8)


@given(ANY_MESSAGES, any_result())
def test_any_turn_ends_in_an_answer_or_a_coded_error(messages: list[Message], end: ResultMessage) -> None:
    """Whatever a CLI gone wrong says: pieces are text, and the end is one of the two, fit for JSON."""
    try:
        turn = Turn(ask(), time.time)
        *events, last = play(turn, [*messages, end])
    except HubError as error:
        shown: object = error.details()
    else:
        assert all(type(event.piece) is str for event in events if isinstance(event, Text))
        assert isinstance(last, Finished)
        assert last.text.strip()
        assert last.usage.input_tokens >= 0
        shown = [last.usage.model_dump(), *[window.model_dump() for window in turn.quota]]

    json.dumps(shown, allow_nan=False)
