"""What Gemini's CLI says, as ours: every row of the measured table of errors, and whatever else it may say."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import Ask, Exchange, Part, StopReason
from llm_mcp_hub.errors import HubError, UpstreamError
from llm_mcp_hub.providers import acp
from llm_mcp_hub.providers.acp import Reply
from llm_mcp_hub.providers.gemini_home import counted
from llm_mcp_hub.providers.gemini_turn import (
    account_error,
    agent_version,
    finished,
    opened,
    prompt_blocks,
    prompt_error,
    quoted,
    reset_after_s,
    start_error,
    to_be_renewed,
    unknown_model,
)
from tests.unit.strategies import ANY_TEXT, TEXT, any_json, loose
from tests.upstreams.google import UNSUPPORTED_CLIENT_TEXT
from tests.upstreams.google import Error as GoogleError

KNOWN = ("gemini-2.5-pro", "gemini-3-pro-preview")
TIP = "\n\n💡 Tip: The shared Google Cloud project is experiencing high traffic and has hit its quota limits."


def body(error: GoogleError) -> str:
    """The whole JSON body, which the CLI hands on as its message for some errors."""
    return json.dumps(error.body, indent=2)


def of_a_prompt(code: int, message: str) -> HubError:
    return prompt_error(Reply(4, None, code, message), model="gemini-2.5-pro", known=KNOWN)


def of_an_account(code: int, message: str, debug_log: str = "") -> HubError:
    return account_error(Reply(2, None, code, message), debug_log=debug_log)


# -- a failed prompt ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What the CLI says, and what a caller is told."""

    code: int
    message: str
    told: str
    retry_after_s: float | None = None
    action: str = ""
    """A part of the next step."""


PROMPT_ERRORS: dict[str, Row] = {
    "401": Row(401, body(GoogleError.unauthenticated()), "auth_rejected", action="gemini"),
    "a login that was revoked": Row(400, "invalid_grant", "auth_expired", action="llm-mcp-hub login gemini"),
    "a login that a company's policy ended": Row(
        400, "invalid_rapt", "auth_expired", action="llm-mcp-hub login gemini"
    ),
    "the account must be verified": Row(
        403, GoogleError.validation_required().message, "account_ineligible", action="Run `gemini`"
    ),
    "403": Row(403, body(GoogleError.permission_denied()), "permission_denied", action="licence"),
    "the API is switched off": Row(
        403,
        body(GoogleError.service_disabled("p-1")),
        "permission_denied",
        action="https://console.developers.google.com/apis/api/cloudaicompanion.googleapis.com/overview?project=p-1",
    ),
    "404, which the CLI calls 500": Row(
        500, GoogleError.model_not_found().message, "model_unavailable", action="gemini-3-pro-preview"
    ),
    "404": Row(404, "Not here.", "model_unavailable", action="gemini-3-pro-preview"),
    "400": Row(400, body(GoogleError.invalid_argument()), "invalid_request"),
    "parameters refused": Row(-32602, "Session not found: x", "invalid_request"),
    "an internal error of the agent": Row(-32603, "Internal error", "invalid_request"),
    "429, the day's quota": Row(
        429,
        "You have exhausted your daily quota on this model." + TIP,
        "quota_exhausted",
        action="another Gemini model",
    ),
    "429, reset in hours": Row(429, GoogleError.quota_exhausted().message + TIP, "quota_exhausted", 18723),
    "429, QUOTA_EXHAUSTED": Row(429, body(GoogleError.quota_exhausted("10s", 10.0)), "quota_exhausted", 10),
    "429, a limit of nothing": Row(429, "Quota exceeded, limit: 0", "quota_exhausted"),
    "429, just long enough for a quota": Row(429, "Quota will reset after 5m0s.", "quota_exhausted", 300),
    "429, just too short for a quota": Row(429, "Quota will reset after 4m59s.", "rate_limited", 299),
    "429, 2 s": Row(429, GoogleError.rate_limited(2).message + TIP, "rate_limited", 2),
    "429, less than a second": Row(429, "Please retry after 150ms.", "rate_limited", 1),
    "429, without a word": Row(429, GoogleError.exhausted_without_details().message, "rate_limited", 30),
    "429, no capacity": Row(429, GoogleError.no_capacity().message, "model_unavailable", action="gemini-3-pro-preview"),
    "429, MODEL_CAPACITY": Row(
        429, body(GoogleError.no_capacity()), "model_unavailable", action="gemini-3-pro-preview"
    ),
    "500": Row(500, GoogleError.internal().message, "upstream_error"),
    "503": Row(503, GoogleError.unavailable().message + TIP, "upstream_error"),
    "the stream was cut": Row(500, "Premature close", "upstream_error"),
    "nobody listens": Row(500, "fetch failed", "upstream_error"),
    "no number at all": Row(0, "", "upstream_error"),
}


@pytest.mark.parametrize("row", PROMPT_ERRORS.values(), ids=PROMPT_ERRORS)
def test_a_failed_prompt_becomes_this_error(row: Row) -> None:
    """The measured table of gemini-cli 0.61.0, one row an error."""
    error = of_a_prompt(row.code, row.message)

    assert error.code == row.told
    assert error.provider == "gemini"
    assert error.retry_after_s == row.retry_after_s
    assert row.action in error.action
    assert error.action


@pytest.mark.parametrize("row", PROMPT_ERRORS.values(), ids=PROMPT_ERRORS)
def test_no_error_of_a_prompt_quotes_google(row: Row) -> None:
    """Google's sentence could hold the prompt; only a link to its console is taken from it."""
    secret = "the-owner's-own-words"
    error = of_a_prompt(row.code, row.message + secret)

    assert secret not in error.message
    assert secret not in error.action


@pytest.mark.parametrize(
    "quoting",
    [
        "invalid_grant",
        "invalid_rapt",
        "UNAUTHENTICATED",
        "Authentication required",
        "permission",
        "No capacity available",
        "Requested entity was not found",
        "Verify your account to continue.",
    ],
)
def test_a_prompt_that_google_quotes_cannot_choose_the_error(quoting: str) -> None:
    """A question about a dead login must not end a login that works."""
    error = of_a_prompt(400, f"Invalid value at 'contents[0]': \"what does {quoting} mean?\"")

    assert error.code == "invalid_request"


def test_the_model_that_failed_is_not_among_those_to_try() -> None:
    """The next step names models that this account has, without the one that was just refused."""
    action = of_a_prompt(500, "Requested entity was not found.").action

    assert "gemini-3-pro-preview" in action
    assert "gemini-2.5-pro" not in action


def test_an_unknown_model_is_told_with_those_that_are_known() -> None:
    """DESIGN 3.1: what the provider does not know ends in `model_unavailable` with the known list."""
    error = unknown_model("gemini-9", KNOWN)

    assert error.code == "model_unavailable"
    assert "gemini-9" in error.message
    assert all(name in error.action for name in KNOWN)


# -- the account -------------------------------------------------------------------------------------------------------

PROJECT_REQUIRED = (
    "This account requires setting the GOOGLE_CLOUD_PROJECT or GOOGLE_CLOUD_PROJECT_ID env var. "
    "See https://goo.gle/gemini-cli-auth-docs#workspace-gca"
)

ACCOUNT_ERRORS: dict[str, tuple[str, str, str, str]] = {
    # what the reply says, what the debug log says, our code, a part of the next step
    "a personal account": (UNSUPPORTED_CLIENT_TEXT, "IneligibleTierError", "account_ineligible", "licence"),
    "a place that is not served": (
        "Your current account is not eligible because it is not currently available in your location.",
        "IneligibleTierError: ...",
        "account_ineligible",
        "another Google account",
    ),
    "an account to be verified": (
        "Account validation required: x",
        "ValidationRequiredError",
        "account_ineligible",
        "Run `gemini`",
    ),
    "a licence without a project": (PROJECT_REQUIRED, "ProjectIdRequiredError: x", "misconfigured", "GEMINI_PROJECT"),
    "a project by its number": (
        "Using a project number instead of a project ID is not supported.",
        "InvalidNumericProjectIdError: x",
        "misconfigured",
        "GEMINI_PROJECT",
    ),
    "a project without a licence": ("Permission denied on resource project p.", "", "permission_denied", "licence"),
    "no permission": ("The caller does not have permission", "", "permission_denied", "licence"),
    "a refused access token": (GoogleError.unauthenticated().message, "", "auth_rejected", "gemini"),
    "no login": ("Authentication required", "", "auth_rejected", "gemini"),
    "a login that was revoked": ("invalid_grant", "", "auth_expired", "llm-mcp-hub login gemini"),
    "Google fails": ("Internal error encountered.", "", "upstream_error", "again"),
}


@pytest.mark.parametrize(("said", "log", "told", "action"), ACCOUNT_ERRORS.values(), ids=ACCOUNT_ERRORS)
def test_an_account_that_is_not_served_is_told_why(said: str, log: str, told: str, action: str) -> None:
    """`session/new` is refused with Google's sentence; the debug log names the class of the error."""
    error = of_an_account(-32000, said, log)

    assert error.code == told
    assert action in error.action


def test_before_a_prompt_was_sent_google_may_be_quoted() -> None:
    """Nothing of the owner's can be in it yet, and it says best what is wrong with an account."""
    assert "made-up reason" in of_an_account(-32000, "made-up reason").message


@pytest.mark.parametrize(
    ("log", "told"),
    {
        "": "auth_expired",
        "Cached credentials are not valid: invalid_grant": "auth_expired",
        "Cached credentials are not valid: invalid_token": "auth_expired",
        "Cached credentials are not valid: No refresh token is set.": "auth_expired",
        "Cached credentials are not valid: internal_failure": "upstream_error",
        "Cached credentials are not valid: request to https://oauth2.googleapis.com/token failed": "upstream_error",
    }.items(),
)
def test_a_dead_network_is_not_taken_for_a_dead_login(log: str, told: str) -> None:
    """The CLI asks for a login in both cases; only its debug log tells them apart (G6)."""
    assert start_error(debug_log=log).code == told


# -- small readers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "seconds"),
    {
        "Your quota will reset after 5h12m3s.": 18723.0,
        "reset after 2s": 2.0,
        "Suggested retry after 30s": 30.0,
        "Retrying after 21763725ms...": 21763.725,
        "RESET AFTER 1h": 3600.0,
        "reset after 1.5s": 1.5,
        "reset after 0s": 0.0,
        "reset after a while": None,
        "after 5s": None,
        "": None,
    }.items(),
)
def test_a_wait_is_read_from_the_message(message: str, seconds: float | None) -> None:
    """Google tells the wait in words only; the CLI hides its number."""
    assert reset_after_s(message) == (None if seconds is None else pytest.approx(seconds))


def test_no_wait_is_too_long_to_be_told() -> None:
    """A number beyond all measure is a long wait, not a crash."""
    error = of_a_prompt(429, f"reset after {'9' * 400}h")

    assert error.code == "quota_exhausted"
    json.dumps(error.details(), allow_nan=False)


def test_a_quoted_sentence_fits_one_line() -> None:
    """No control characters, no tips, no page of JSON."""
    said = quoted(body(GoogleError(403, "X", "Not\nallowed\x1b[31m \u202ehere" + "x" * 1000)) + TIP)

    assert said.startswith("Not allowed [31m  here")
    assert len(said) <= 400
    assert re.search(r"[\x00-\x1f\u202e]", said) is None
    assert quoted('{"error": {"message": "half: \\ud83d"}}') == "half: �"


# -- the prompt --------------------------------------------------------------------------------------------------------

PDF = b"%PDF-1.7 made up"


def asked(prompt: str, system: str | None = None, history: Sequence[Exchange] = (), parts: Sequence[Part] = ()) -> Ask:
    return Ask("ask_2", "gemini", prompt, "gemini-2.5-pro", system, 60, history=tuple(history), parts=tuple(parts))


def turn(
    prompt: str, answer: str, provider: str = "gemini", model: str = "gemini-2.5-pro", parts: Sequence[Part] = ()
) -> Exchange:
    return Exchange(
        ask_id="ask_1",
        provider=provider,
        model=model,
        prompt=prompt,
        parts=tuple(parts),
        answer=answer,
        at="2026-11-24T00:00:00.000Z",
    )


def taken_for_a_command(blocks: Sequence[acp.Block]) -> str:
    """What the CLI looks at: the text of all blocks before the first that is none, joined and trimmed (0.61.0)."""
    texts = itertools.takewhile(lambda block: isinstance(block, str), blocks)
    return re.sub(r"^[\s\ufeff]+", "", "".join(str(text) for text in texts))


COMMANDS = ["/about", "  /memory show", "\n/help", "\ufeff/help", "$x", "!id", "@file", "-v", "\u200b/help", "'/about"]


@pytest.mark.parametrize("prompt", COMMANDS)
@pytest.mark.parametrize("seen", [True, False])
def test_what_the_cli_might_run_itself_is_never_the_first_block(prompt: str, seen: bool) -> None:
    """The CLI runs a turn whose first block begins with `/about` by itself; a block before it prevents that."""
    first, *others = prompt_blocks(asked(prompt), seen=seen)

    assert isinstance(first, str)
    assert first[:1].isalpha()
    assert others == [prompt]


def test_a_plain_question_is_sent_as_it_is() -> None:
    """Nothing is put before what cannot be a command."""
    assert prompt_blocks(asked("Hello /about"), seen=False) == ["Hello /about"]


def test_a_system_text_stands_before_the_prompt() -> None:
    """The CLI has no system prompt per session: the text is the first block, never the prompt's."""
    first, *between, prompt = prompt_blocks(asked("/about", "be brief"), seen=False)

    assert isinstance(first, str)
    assert "be brief" in first
    assert between == ["Request:\n"]
    assert prompt == "/about"


def test_a_session_that_has_not_seen_the_conversation_is_told_it() -> None:
    """Instruction, turns in order with who answered, what was put before them, then the prompt: all of it, once."""
    paper = Part(name="paper.pdf", mime_type="application/pdf", data=PDF)
    notes = Part(name="notes.txt", mime_type="text/plain", text="first line")
    history = [
        turn("One?", "Two.", parts=[paper]),
        turn("/about", "Three.", provider="claude", model="claude-made-up"),
    ]

    assert prompt_blocks(asked("And now?", "be brief", history, [notes]), seen=False) == [
        "Instruction for this conversation:\nbe brief\n\n",
        "The conversation so far.\n\n",
        "The user asked:\n",
        acp.Data("application/pdf", PDF),
        "One?\n\n",
        "You answered:\nTwo.\n\n",
        "The user asked:\n",
        "/about\n\n",
        "claude-made-up answered:\nThree.\n\n",
        "--- notes.txt ---\nfirst line\n--- end of notes.txt ---\n\n",
        "Request:\n",
        "And now?",
    ]


def test_a_session_that_has_seen_the_conversation_is_told_nothing_twice() -> None:
    """In the vendor's own session the earlier turns and the instruction stand already; what is new comes with it."""
    picture = Part(name="a.png", mime_type="image/png", data=b"made up")
    history = [turn("One?", "Two.")]

    assert prompt_blocks(asked("And now?", "be brief", history), seen=True) == ["And now?"]
    assert prompt_blocks(asked("And now?", "be brief", history, [picture]), seen=True) == [
        acp.Data("image/png", b"made up"),
        "Request:\n",
        "And now?",
    ]


PARTS = st.lists(
    st.one_of(
        st.builds(Part, name=TEXT, mime_type=st.just("text/plain"), text=TEXT),
        st.builds(Part, name=TEXT, mime_type=st.just("application/pdf"), data=st.binary(max_size=9)),
    ),
    max_size=2,
)
TURNS = st.lists(st.builds(turn, TEXT, TEXT, st.sampled_from(["claude", "gemini"]), parts=PARTS), max_size=3)


@given(TEXT, st.one_of(st.none(), TEXT), TURNS, PARTS, st.booleans())
def test_every_prompt_is_the_last_block_untouched(
    prompt: str, system: str | None, history: list[Exchange], parts: list[Part], seen: bool
) -> None:
    """G3: character for character, whatever stands before it; and the CLI never sees the beginning of a command."""
    blocks = prompt_blocks(asked(prompt, system, history, parts), seen=seen)

    assert blocks[-1] == prompt
    assert taken_for_a_command(blocks)[:1] not in {"/", "$"}
    if not parts:
        assert isinstance(blocks[0], str)
        assert blocks[0][:1].isalnum()


@given(TURNS, PARTS)
def test_every_earlier_turn_is_told_whole_and_in_order(history: list[Exchange], parts: list[Part]) -> None:
    """Nothing of a conversation is left out, cut or moved for a session that has not seen it."""
    told = "".join(
        block if isinstance(block, str) else f"<{block.content!r}>"
        for block in prompt_blocks(asked("End?", None, history, parts), seen=False)
    )
    expected = [
        wanted
        for exchange in history
        for wanted in (*map(_shown, exchange.parts), f"{exchange.prompt}\n\n", f":\n{exchange.answer}\n\n")
    ]

    at = 0
    for wanted in [*expected, *map(_shown, parts), "End?"]:
        at = told.index(wanted, at) + len(wanted)
    assert at == len(told)


def _shown(part: Part) -> str:
    return part.shown if part.data is None else f"<{part.data!r}>"


# -- the end of a turn -------------------------------------------------------------------------------------------------


def result(reason: str, given: int = 12, written: int = 7) -> dict[str, Any]:
    count = {"input_tokens": given, "output_tokens": written}
    return {"stopReason": reason, "_meta": {"quota": {"token_count": count}}}


@pytest.mark.parametrize(
    ("reason", "told"), [("end_turn", "end_turn"), ("max_tokens", "max_tokens"), ("something_new", "unknown")]
)
def test_a_whole_answer_has_its_stop_reason_and_usage(reason: str, told: StopReason) -> None:
    """What the CLI counted is passed on; a reason that we do not know is `unknown`, not a guess."""
    stop_reason, usage = finished(result(reason), "text")

    assert stop_reason == told
    assert (usage.input_tokens, usage.output_tokens) == (12, 7)


NO_ANSWERS: dict[str, tuple[Mapping[str, Any], str, str, str | None]] = {
    # the result, the text before it, our code, the partial text
    "declined": (result("refusal"), "I", "refused", None),
    "a prompt too long to be sent": (result("max_tokens", 0, 0), "", "invalid_request", None),
    "a tool was wanted": (result("max_turn_requests"), "half an", "upstream_error", "half an"),
    "dropped": (result("cancelled"), "half an", "upstream_error", "half an"),
    "no text": (result("end_turn"), "", "upstream_error", None),
    "blank text": (result("end_turn"), " \n", "upstream_error", None),
    "an end without a count": (result("end_turn", 0, 0), "half an", "upstream_error", "half an"),
    "nothing at all": ({}, "", "upstream_error", None),
}


@pytest.mark.parametrize(("given", "text", "told", "partial"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_only_looks_like_an_answer_is_an_error(
    given: Mapping[str, Any], text: str, told: str, partial: str | None
) -> None:
    """The CLI says `end_turn` for a blocked, an empty, a malformed and a cut answer alike."""
    with pytest.raises(HubError) as raised:
        finished(given, text)

    assert raised.value.code == told
    assert raised.value.partial_text == partial


# -- properties --------------------------------------------------------------------------------------------------------

REASONS = st.sampled_from(["end_turn", "max_tokens", "refusal", "cancelled", "max_turn_requests"])
COUNTS = st.fixed_dictionaries(
    {}, optional={"input_tokens": loose(st.integers()), "output_tokens": loose(st.integers())}
)
META = st.fixed_dictionaries(
    {}, optional={"quota": loose(st.fixed_dictionaries({}, optional={"token_count": loose(COUNTS)}))}
)
SHAPED: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"stopReason": loose(REASONS), "_meta": loose(META)}
)
RESULTS = st.one_of(SHAPED, st.dictionaries(ANY_TEXT, any_json()))


@given(RESULTS, st.one_of(st.just("text"), ANY_TEXT))
@example({"stopReason": "end_turn", "_meta": {"quota": {"token_count": {"input_tokens": float("nan")}}}}, "text")
def test_any_end_of_a_turn_is_an_answer_or_a_coded_error(given: dict[str, Any], text: str) -> None:
    """Whatever a CLI gone wrong says at the end, the caller gets one of the two."""
    try:
        stop_reason, usage = finished(given, text)
    except HubError:
        return

    assert text.strip()
    assert stop_reason in {"end_turn", "max_tokens", "unknown"}
    assert usage.input_tokens >= 0
    assert usage.output_tokens >= 0


MODELS = st.lists(loose(st.fixed_dictionaries({}, optional={"modelId": loose(st.sampled_from(KNOWN))})), max_size=3)
BEGINNINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "sessionId": loose(st.just("s-1")),
        "models": loose(st.fixed_dictionaries({}, optional={"availableModels": loose(MODELS)})),
        "agentInfo": loose(st.fixed_dictionaries({}, optional={"version": loose(st.just("0.61.0"))})),
    },
)


@given(BEGINNINGS)
@example({"sessionId": "s-1", "models": {"availableModels": [{"modelId": "auto"}, {"modelId": KNOWN[0]}]}})
def test_any_beginning_is_a_session_or_a_coded_error(given: dict[str, Any]) -> None:
    """Whatever `initialize` and `session/new` are answered with: a name and models to ask for, or neither."""
    assert type(agent_version(given)) is str
    try:
        session, models = opened(given)
    except UpstreamError:
        return

    assert session == given["sessionId"]
    assert "auto" not in models
    assert all(type(model) is str for model in models)


MESSAGES = st.one_of(
    ANY_TEXT,
    st.from_regex(r"(reset|retry) after ([0-9.]{1,500}(ms|h|m|s) ?){1,3}", fullmatch=True),
    st.sampled_from([row.message for row in PROMPT_ERRORS.values()]),
)


@given(
    st.one_of(st.sampled_from([400, 401, 403, 404, 429, 500, -32000, -32602]), st.integers()), MESSAGES, st.booleans()
)
def test_any_refusal_is_one_coded_error(code: int, message: str, account: bool) -> None:
    """Any number with any text, of a prompt or of an account: a code, a sentence, a next step, and plain JSON."""
    error = of_an_account(code, message) if account else of_a_prompt(code, message)

    assert error.message
    assert error.action
    assert error.retry_after_s is None or error.retry_after_s >= 0
    json.dumps(error.details(), allow_nan=False)


# -- a login that is shown as over -------------------------------------------------------------------------------------

NOW_S = 1_800_000_000.0


def login(**changes: Any) -> bytes:
    held = {"access_token": "a", "refresh_token": "r", "expiry_date": (NOW_S + 3_600) * 1000, "scope": "s", **changes}
    return json.dumps({name: value for name, value in held.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (login(), True),
        (login(expiry_date=(NOW_S + 300) * 1000), True),
        (login(expiry_date=(NOW_S + 299) * 1000), False),  # the CLI renews it by itself
        (login(expiry_date=(NOW_S - 1) * 1000), False),
        (login(expiry_date=1), False),
        (login(expiry_date=None), True),
        (login(refresh_token=None), False),  # nothing to renew it with
        (login(refresh_token=""), False),
        (login(expiry_date="soon"), False),
        (login(expiry_date=[1]), False),
        (b"[]", False),
        (b"{", False),
        (b"\xff", False),
    ],
    ids=str,
)
def test_a_login_is_shown_as_over_where_the_cli_would_not_renew_it_by_itself(content: bytes, changes: bool) -> None:
    """It goes by its clock alone: an access token that is refused before its time would be refused for ever."""
    aged = to_be_renewed(content, NOW_S)

    assert (aged is not None) is changes
    if aged is not None:
        assert json.loads(aged) == {**json.loads(content), "expiry_date": 1}


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b"])
def test_no_character_of_an_answer_hides_what_it_took(mark: str) -> None:
    """JSON has these as they are, and Python takes each for the end of a line."""
    written = [{"type": "user"}, {"type": "gemini", "content": f"a{mark}b", "tokens": {"thoughts": 3, "cached": 9}}]
    file = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in written)

    assert counted(file) == {"thoughts": 3, "cached": 9}
    assert counted(file[:-5]) == {}
