"""What Gemini's CLI says, thrown at what reads it: the codec, refusals, results, its log and its login."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from hypothesis import strategies as st

from llm_mcp_hub.conversation import whole
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers import acp, gemini_home, gemini_turn
from tests.fuzz.engine import CANARY, TAKEN, Target, refused
from tests.fuzz.forms import CUTS, FAILED, cut
from tests.unit.strategies import ANY_TEXT, any_json, loose
from tests.unit.transcripts import cases

# -- Gemini's protocol -------------------------------------------------------------------------------------------------

RECORDED = [case.joinpath("input.bin").read_bytes() for case in cases()]
LINES = [line + b"\n" for recorded in RECORDED for line in recorded.splitlines()]
MESSAGE = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": st.one_of(st.integers(), any_json()),
        "method": loose(st.sampled_from(["session/update", "session/request_permission", "fs/read_text_file"])),
        "params": any_json(),
        "result": any_json(),
        "error": loose(st.fixed_dictionaries({"code": any_json(), "message": any_json()})),
    },
)
JSON_LINE = MESSAGE.map(lambda message: json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _codec(value: tuple[bytes, bytes]) -> str:
    data, cuts = value
    decoder = acp.Decoder()
    messages = [message for piece in cut(data, cuts) for message in decoder.feed(piece)]
    again = acp.Decoder()
    assert messages == again.feed(data), "chunks make a difference"
    assert decoder.pending == again.pending
    kinds: set[str] = set()
    kept = sum(len(message.data) for message in messages if isinstance(message, acp.Noise))
    assert kept + len(decoder.pending) <= len(data)
    for message in messages:
        kinds.add(type(message).__name__)
        if isinstance(message, acp.AgentRequest):
            assert json.loads(acp.refusal(message))["id"] == message.id
        elif isinstance(message, acp.Reply):
            message.error_message.encode()
        elif isinstance(message, acp.Update):
            message.kind.encode()
    return TAKEN if kinds - {"Noise"} else "noise"


# -- Gemini's turns ----------------------------------------------------------------------------------------------------

REPLIES: list[tuple[Any, ...]] = [
    (429, "You have exhausted your capacity on this model. Your quota will reset after 5h12m3s.", "", False),
    (429, f"{CANARY} reset after 2s", "", False),
    (401, "Authentication required", "", True),
    (403, "Permission denied on resource project my-work-project.", "", True),
    (403, "API has not been used in project 7, see https://console.developers.google.com/apis?project=7", "", True),
    (404, "Requested entity was not found.", "", False),
    (500, "request to https://host failed, reason: socket hang up", "", False),
    (400, json.dumps({"error": {"code": 400, "message": "Invalid", "status": "X"}}), "", True),
    (-32603, "invalid_grant", "", False),
    (-32603, "Internal error", "Authentication failed: ProjectIdRequiredError", True),
    (-32603, "Internal error", "Authentication failed: IneligibleTierError: no longer supported", True),
]


def _reply(value: tuple[Any, ...]) -> str:
    code, said, log, account = value
    message = acp.Reply(1, None, code if isinstance(code, int) else 0, whole(said))
    # What Google says of an account is told; what it says of a prompt may be the prompt.
    if account:
        error = gemini_turn.account_error(message, debug_log=log)
        assert error.code in FAILED
        json.dumps(error.details(), allow_nan=False, ensure_ascii=False).encode()
        return error.code
    return refused(gemini_turn.prompt_error(message, model="gemini-2.5-pro", known=("gemini-2.5-flash",)))


RESULTS: list[tuple[Any, ...]] = [
    (
        {
            "stopReason": "end_turn",
            "_meta": {"quota": {"token_count": {"input_tokens": 12, "output_tokens": 7}}},
            "sessionId": "s-1",
            "agentInfo": {"version": "0.61.0"},
            "models": {"availableModels": [{"modelId": "auto"}, {"modelId": "gemini-2.5-pro"}]},
        },
        "text",
    ),
    ({"stopReason": "refusal", "sessionId": "", "agentInfo": {"version": "1.2"}}, ""),
    ({"stopReason": "max_tokens", "_meta": {}}, " "),
]


def _result(value: tuple[Any, ...]) -> str:
    given, text = value
    result: Mapping[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    gemini_turn.version_of(gemini_turn.agent_version(result))
    outcomes: list[str] = []
    try:
        session, models = gemini_turn.opened(result)
        acp.prompt(1, session, ["x"])
        gemini_turn.unknown_model("gemini-x", models).action.encode()
        outcomes.append(TAKEN)
    except HubError as error:
        outcomes.append(refused(error))
    try:
        reason, usage = gemini_turn.finished(result, text)
        assert text.strip()
        assert reason in {"end_turn", "max_tokens", "unknown"}
        assert usage.input_tokens >= 0
        assert usage.output_tokens >= 0
        usage.model_dump_json()
    except HubError as error:
        outcomes.append(refused(error))
    return outcomes[-1]


SESSION_FILE = "\n".join(
    [
        json.dumps({"type": "user", "content": CANARY}),
        json.dumps({"type": "gemini", "tokens": {"input": 12, "cached": 3, "thoughts": 2}}),
        "",
    ]
)
LOGS = [
    *("Cached credentials are not valid: invalid_grant", "Cached credentials are not valid: internal_failure"),
    'Cached credentials are not valid: Error: {"error": "invalid_grant", "error_description": "reauth invalid_rapt"}',
    "Cached credentials are not valid: request to https://oauth2.googleapis.com/token failed, reason: EAI_AGAIN",
    "2026-01-01 [DEBUG] started\nCached credentials are not valid: No refresh token\n",
]
DEAD = re.compile(r"invalid_grant|invalid_token|No refresh token")


def _log(text: str) -> str:
    error = gemini_turn.start_error(debug_log=text)
    if error.shows == "refused":  # the one word that makes a person log in again
        assert DEAD.search(text), "a login is called dead without Google's word"
    gemini_home.counted(text)
    return refused(error)


def _to_renew(content: bytes) -> str:
    renewed = gemini_turn.to_be_renewed(content, 1_800_000_000.0)
    if renewed is None:
        return "unchanged"
    before, after = json.loads(content), json.loads(renewed)
    assert {**before, "expiry_date": 1} == after or any(value != value for value in before.values())
    return TAKEN


def targets() -> list[Target]:
    """All of them."""
    pieces = st.tuples(st.lists(st.one_of(st.binary(max_size=40), JSON_LINE)).map(b"".join), CUTS)
    words = st.one_of(ANY_TEXT, st.sampled_from([reply[1] for reply in REPLIES]))
    codes = st.one_of(st.sampled_from([400, 401, 403, 404, 429, 500, -32603]), st.integers())
    return [
        Target(
            "acp codec", [(data, b"\1\7\x90") for data in (*RECORDED, *LINES)], pieces, _codec, frozenset({"noise"}), 3
        ),
        Target(
            "gemini refusals",
            REPLIES,
            st.tuples(codes, words, st.one_of(ANY_TEXT, words), st.booleans()),
            _reply,
            FAILED,
        ),
        Target("gemini results", RESULTS, st.tuples(any_json(), ANY_TEXT), _result, FAILED),
        Target(
            "gemini debug log",
            [*LOGS, SESSION_FILE],
            st.lists(st.one_of(st.sampled_from(LOGS), ANY_TEXT)).map("".join),
            _log,
            FAILED,
        ),
        Target(
            "gemini renewal",
            [json.dumps({"refresh_token": CANARY, "access_token": CANARY, "expiry_date": 9e12}).encode(), b"{}"],
            any_json().map(lambda value: json.dumps(value).encode()),
            _to_renew,
            frozenset({"unchanged"}),
        ),
    ]
