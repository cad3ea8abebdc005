"""Inputs that have broken the hub once, by target: each run throws them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.fuzz.claude_says import END, TURN
from tests.fuzz.forms import TOKEN, written_down
from tests.fuzz.served import HEADERS, OLDER, REQUESTS
from tests.fuzz.stored import COOLED, ERROR, KNOWN, READING, RECORD
from tests.fuzz.texts import SECRET_URLS

FAILED = {**END, "is_error": True}
LIMITED = TURN[3]

FOUND: Mapping[str, Sequence[Any]] = {
    "gemini results": [
        ({"sessionId": "\udcff"}, "text"),  # half of a character, which no later request could carry
        ({"agentInfo": {"version": "9" * 5_000 + ".1"}}, ""),  # a number that `int` refuses
    ],
    "gemini refusals": [(-32603, "[" * 3_000, "", True)],
    "clients' JSON": ['{"a": 1' + "/*1e4" * 30_000],
    "gemini renewal": [b"[" * 3_000],
    "gemini debug log": ["[" * 100_000],  # as the last line of a session's file
    "claude stream": [
        [{"type": "stream_event", "uuid": "u", "session_id": "s", "event": "1"}],
        [{**FAILED, "terminal_reason": {}}],
        [{**FAILED, "api_error_status": "429"}],
        [{**FAILED, "api_error_status": []}],
        [{**FAILED, "errors": [1], "result": None}],
        [{**END, "result": 1}],
        [TURN[0], TURN[1], {**END, "stop_reason": []}],
        [{**LIMITED, "rate_limit_info": {"status": "x", "unifiedWindows": {"\ud800": {}}}}, END],
        [
            {
                "type": "stream_event",
                "uuid": "u",
                "session_id": "s",
                "event": {"type": "message_start", "message": {"model": "\ud800"}},
            },
            TURN[1],
            END,
        ],
    ],
    # Blanks without a line's end: a pattern tried each number of them.
    "terminal words": [(b"OAuth error: Request failed" + b" " * 60_000, b"\3")],
    "claude payer": [{"effective": {}, "account": {"apiKeySource": {"ANTHROPIC_API_KEY": TOKEN}}}],
    "claude login": [("", b"", {"content": TOKEN, "issued_at": "9999-12-31T00:00:00+00:00", "origin": ""})],
    "gemini login": [(b"", {"content": '{"access_token":"r","\ud80e":1}', "origin": ""}, b"", b"")],
    "settings, variables": [
        {"HUB_ALERT_WEBHOOK_URL": url} for url in SECRET_URLS[:2]
    ],  # urlsplit quotes what it refuses
    "settings, a file": [b"REDIS_URL_FILE=\0"],
    "stored records": [
        ("known", {**KNOWN, "success": {**READING, "at": 1e300}}),
        ("known", {**KNOWN, "issued_at": 253_402_300_000}),
        ("cooled", written_down({**COOLED, "until": float("inf")})),
        ("record", {**RECORD, "status": "working", "created_at": "2026-11-26"}),
        ("record", {**RECORD, "error": {**ERROR, "retry_after_s": "soon"}}),
        ("lasted", written_down({"seconds": float("inf"), "exact": True})),
    ],
    "git's lists and names": [(b"\xe9\0", b"\0", "HEAD"), (b":100644\0a\0", b"", "HEAD")],
    "HTTP": [
        ("GET /metrics", {**OLDER, "accept": "application/openmetrics-text;version=."}, b"", b""),
        ("POST /mcp", {**HEADERS, "mcp-mÜhod": "x"}, REQUESTS[1][2], b""),  # which Starlette lists and does not find
    ],
}
