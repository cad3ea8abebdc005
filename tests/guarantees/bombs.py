"""Attacks by what a body is: too large, without an end, deep, made of a million parts, or in its words.

They are a client's own: a stranger's body is not read, which is in the first rows.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, cast

from tests.guarantees.attacks import ALICE, Attack, get
from tests.guarantees.raw import chunk, request
from tests.guarantees.target import HOST, Piece, Target, greeting, legacy_body, message, modern, modern_body

MIB = 1 << 20
OPEN = "Transfer-Encoding: chunked"


def pieces(of: bytes, times: int) -> Callable[[], Iterable[bytes]]:
    """So many of these, made as they are sent."""
    return lambda: (of for _ in range(times))


def post(*headers: Any, token: bool = True, host: str = HOST, path: str = "/mcp") -> bytes:
    """The head of a call of the newer era, without its body."""
    own = [ALICE] if token else []
    told = [("MCP-Protocol-Version", "2026-07-28"), ("Content-Type", "application/json"), ("Accept", "*/*")]
    return request("POST", path, *own, *told, *headers, host=host)


ENDLESS = pieces(chunk(b"x" * 65_536), 1_600)
"""100 MB of a body that never says that it ends."""
LARGE = pieces(b"x" * MIB, 100)

HALF = legacy_body("alice", message("ping", {}), "%session%")[:-5]

# Size -----------------------------------------------------------------------------------------------------------------

SIZES = [
    Attack("100 MB, announced", "413 closed", [post(f"Content-Length: {100 * MIB}"), LARGE]),
    Attack(
        "100 MB, announced, to a route without bodies",
        "413 closed",
        [post(f"Content-Length: {100 * MIB}", path="/metrics"), LARGE],
    ),
    Attack("100 MB in chunks", "413 closed", [post(OPEN), pieces(chunk(b"x" * MIB), 100)]),
    Attack("100 MB in one chunk", "413 closed", [post(OPEN), b"%x\r\n" % (100 * MIB), LARGE]),
    Attack("a body without end", "413 closed", [post(OPEN), ENDLESS]),
    Attack("a body without end, to a route without bodies", "405 closed", [post(OPEN, path="/health/live"), ENDLESS]),
    Attack("a body without end, to nowhere", "404 closed", [post(OPEN, path="/nowhere"), ENDLESS]),
    Attack("100 MB of a stranger, announced", "413 closed", [post(f"Content-Length: {100 * MIB}", token=False), LARGE]),
    Attack(
        "100 KB of a stranger, announced", "413 closed", [post("Content-Length: 102400", token=False), b"x" * 102_400]
    ),
    Attack("a stranger's body without end", "401 closed", [post(OPEN, token=False), ENDLESS]),
    Attack("by a wrong name, a body without end", "421 closed", [post(OPEN, host="evil.example"), ENDLESS]),
    Attack(
        "from a wrong page, a body without end", "403 closed", [post(OPEN, ("Origin", "https://evil.example")), ENDLESS]
    ),
    Attack(
        "noise after a refused body's beginning",
        ("401 closed", "400 closed"),
        [post(OPEN, token=False) + chunk(b"x"), b"ZZZ\r\n" * 100],
        only_serve=True,
    ),
    Attack(
        "a million chunks of one byte", "400 closed", [post(OPEN), pieces(chunk(b" ") * 1_000, 1_000)], only_serve=True
    ),
    Attack(
        "a stranger's million chunks of one byte",
        ("400 closed", "401 closed"),
        [post(OPEN, token=False), pieces(chunk(b" ") * 1_000, 1_000)],
        only_serve=True,
    ),
    Attack(
        "16 MB of blanks before a call",
        "200",
        [
            modern_body(
                "alice",
                "tools/list",
                b" " * (15 * MIB)
                + message(
                    "tools/list",
                    {
                        "_meta": {
                            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
                            "io.modelcontextprotocol/clientCapabilities": {},
                        }
                    },
                ),
            )
        ],
    ),
    Attack(
        "a body that stops in the middle",
        "closed",
        run=lambda target: _leaves(target, post("Content-Length: 100") + b"{"),
    ),
    Attack("a body that stops in the middle, older era", "closed", run=lambda target: _leaves(target, HALF)),
    Attack(
        "a body that stops in the middle of a chunk",
        "closed",
        run=lambda target: _leaves(target, post(OPEN) + b"5\r\n{"),
    ),
]


def _leaves(target: Target, piece: bytes) -> str:
    """Says half of it, and hangs up."""
    given = target.filled(piece)
    assert isinstance(given, bytes)
    with target.talk() as talk:
        talk.send(given)
        talk.finish()
        heard = talk.hear()
    return " ".join([*map(str, heard.statuses), "closed"])


# Shape ----------------------------------------------------------------------------------------------------------------

CALL = modern("alice", "tools/call", {"name": "ask_result", "arguments": {}}).partition(b"\r\n\r\n")[2]
PLACE = b'"arguments": {}'
assert PLACE in CALL


def with_arguments(inner: bytes) -> bytes:
    return CALL.replace(PLACE, b'"arguments": {' + inner + b"}")


@cache
def shapes() -> dict[str, tuple[bytes, str, str]]:
    """By name: body, answer of the newer era, answer of the older one. 200 MB: made where they are sent."""
    return {  # name: (body, answer of the newer era, answer of the older one)
        "16 MB of brackets": (b"[" * (16 * MIB - 1), "400 closed", "400 closed"),
        "brackets in brackets, 1,000": (b"[" * 1_000 + b"]" * 1_000, "400 -32700", "400 -32700"),
        "objects in objects, 1,000": (b'{"a":' * 1_000 + b"1" + b"}" * 1_000, "400 -32700", "400 -32700"),
        "an argument 5,000 deep": (
            with_arguments(b'"ask_id":' + b"[" * 5_000 + b"]" * 5_000),
            "400 -32700",
            "400 -32700",
        ),
        "an argument 100 deep": (
            with_arguments(b'"ask_id":' + b"[" * 100 + b"]" * 100),
            "200 invalid_request",
            "200 invalid_request",
        ),
        "a batch of one": (b"[" + CALL + b"]", "400 -32600", "400 -32602"),
        "a batch of 1,000": (
            b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"ping"}'] * 1_000) + b"]",
            "400 -32600",
            "400 -32602",
        ),
        "a batch of 300,000": (
            b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"ping"}'] * 300_000) + b"]",
            "400 closed",
            "400 closed",
        ),
        "an empty batch": (b"[]", "400 -32600", "400 -32602"),
        "five million lists": (
            with_arguments(b'"x":[' + b",".join([b"[]"] * 5_000_000) + b"]"),
            "400 closed",
            "400 closed",
        ),
        "a million names": (
            with_arguments(b",".join(b'"%d":0' % number for number in range(1_000_000))),
            "400 closed",
            "400 closed",
        ),
        "one name, two million times": (with_arguments(b",".join([b'"a":0'] * 2_000_000)), "400 closed", "400 closed"),
        "a million empty texts in a row": (b'""' * 1_000_000, "400 closed", "400 closed"),
        "a number of 15 million digits": (
            CALL.replace(b'"id": 1', b'"id": ' + b"9" * (15 * MIB)),
            "400 -32700",
            "400 -32700",
        ),
        "a number with 15 million decimals": (with_arguments(b'"wait_s": 0.' + b"3" * (15 * MIB)), "200", "200"),
        "a number beyond all numbers": (
            with_arguments(b'"wait_s": 1e999999'),
            "200 invalid_request",
            "200 invalid_request",
        ),
        "no number": (with_arguments(b'"wait_s": NaN'), "200 invalid_request", "200 invalid_request"),
        "an id that is no number": (CALL.replace(b'"id": 1', b'"id": NaN'), "400 -32600", "202"),
        "an id below zero": (CALL.replace(b'"id": 1', b'"id": -1e400'), "400 -32600", "202"),
        "bytes that are no text": (CALL.replace(b"raw", b"\xff\xfe"), "400 -32700", "400 -32700"),
        "half of a character": (with_arguments(rb'"ask_id": "\ud800"'), "200 invalid_request", "200 invalid_request"),
        "zeros": (bytes(1_000), "400 closed", "400 closed"),
        "another way to write text": (CALL.decode().encode("utf-16"), "400 closed", "400 closed"),
        "nothing": (b"", "400 -32700", "400 -32700"),
        "packed zeros": (gzip.compress(bytes(100 * MIB)), "400 closed", "400 closed"),
        "null": (b"null", "400 -32600", "400 -32602"),
        "a text": (b'"' + b"x" * MIB + b'"', "400 -32600", "400 -32602"),
        "escapes, two million": (b'"' + rb"\\" * 2_000_000 + b'"', "400 -32600", "400 -32602"),
        "a text without end": (b'{"jsonrpc": "' + b"x" * MIB, "400 -32700", "400 -32700"),
    }


def shaped() -> list[Attack]:
    """Each of these in both eras."""
    made: list[Attack] = []
    for name, (body, newer, older) in shapes().items():
        made.append(Attack(f"{name}, newer era", newer, [_newer(body)]))
        made.append(Attack(f"{name}, older era", older, [legacy_body("alice", body, "%session%")]))
    return made


def _newer(body: bytes) -> Piece:
    return modern_body("alice", "tools/call", body, "ask_result")


# Words ----------------------------------------------------------------------------------------------------------------

FORGED = "FORGED"
LINE_ENDS = f"x\r\n{{{FORGED}\n{FORGED}\x1b[31m\x1b]0;{FORGED}\x07\x00\x85\u2028{FORGED}\u202e"
"""Ends of lines, a terminal's orders, and what looks like another line of the log."""


def _asks(**arguments: Any) -> dict[str, Any]:
    return {"name": "ask_gemini", "arguments": {"prompt": "x", **arguments}}


CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    # a field: (method, params, answer)
    "a tool's name": ("tools/call", {"name": LINE_ENDS, "arguments": {}}, "200 invalid_request"),
    "an argument's name": ("tools/call", _asks(**{LINE_ENDS: 1}), "200 invalid_request"),
    "prompt": ("tools/call", {"name": "ask_gemini", "arguments": {"prompt": LINE_ENDS}}, "200"),
    "system": ("tools/call", _asks(system=LINE_ENDS), "200"),
    "model": ("tools/call", _asks(model=f"gemini-{LINE_ENDS}"), "200 invalid_request"),
    "model, at its end": ("tools/call", _asks(model="gemini-2.5-pro\n"), "200 invalid_request"),
    "effort": ("tools/call", _asks(effort=LINE_ENDS), "200 invalid_request"),
    "conversation_id": ("tools/call", _asks(conversation_id=LINE_ENDS), "200 not_found"),
    "files": ("tools/call", _asks(files=[LINE_ENDS]), "200 invalid_request"),
    "git_diff": ("tools/call", _asks(git_diff={"base": LINE_ENDS, "paths": [LINE_ENDS]}), "200 invalid_request"),
    "an attachment": (
        "tools/call",
        _asks(attachments=[{"name": LINE_ENDS, "mime_type": LINE_ENDS, "text": LINE_ENDS}]),
        "200 invalid_request",
    ),
    "ask_id": ("tools/call", {"name": "ask_result", "arguments": {"ask_id": LINE_ENDS}}, "200 not_found"),
    "ask_id, to end it": ("tools/call", {"name": "ask_cancel", "arguments": {"ask_id": LINE_ENDS}}, "200 not_found"),
    "provider": ("tools/call", {"name": "token_status", "arguments": {"provider": LINE_ENDS}}, "200 invalid_request"),
    "a prompt's name": ("prompts/get", {"name": LINE_ENDS}, "-32602"),
    "a prompt's argument": ("prompts/get", {"name": "second_opinion", "arguments": {"question": LINE_ENDS}}, "200"),
    "an address": ("resources/read", {"uri": LINE_ENDS}, "-32602"),
    "a cursor": ("tools/list", {"cursor": LINE_ENDS}, "200"),
    "a progress token": ("tools/list", {"_meta": {"progressToken": LINE_ENDS}}, "200"),
}


def worded() -> list[Attack]:
    """The same text in every field that a client can fill."""
    made: list[Attack] = []
    for field, (method, params, answer) in CALLS.items():
        newer, older = (f"400 {answer}", f"200 {answer}") if answer.startswith("-") else (answer, answer)
        made.append(Attack(f"log: {field}, newer era", newer, [modern("alice", method, params)]))
        made.append(
            Attack(f"log: {field}, older era", older, [legacy_body("alice", message(method, params), "%session%")])
        )
    for method in ("notifications/cancelled", "notifications/progress", LINE_ENDS):
        given = {"requestId": [LINE_ENDS], "reason": LINE_ENDS, "progressToken": [LINE_ENDS], "progress": LINE_ENDS}
        body = message(method, given, None)
        made.append(Attack(f"log: {method.partition(chr(13))[0]}", "202", [legacy_body("alice", body, "%session%")]))
    made += [
        Attack("log: a method", "200 -32601", [legacy_body("alice", message(LINE_ENDS, {}), "%session%")]),
        Attack("log: an id", "200", [legacy_body("alice", message("ping", {}, LINE_ENDS), "%session%")]),
        Attack("log: a client's name", "200", [greeting("alice", LINE_ENDS)]),
        Attack("log: a session", "404 -32600", [legacy_body("alice", message("ping", {}), f"\x1b[31m{FORGED}")]),
        Attack("log: an address's end", "404", [get(f"/%0d%0a{FORGED}%1b[31m", ALICE)]),
        Attack("log: a question in an address", "200", [get(f"/health/live?%0d%0a{FORGED}", ALICE)]),
    ]
    for name in ("Host", "Origin", "User-Agent", "X-Request-ID", "traceparent", "X-Forwarded-For", "Mcp-Method"):
        host = None if name == "Host" else HOST
        seen = {"Host": "421", "Origin": "403"}.get(name, "200")
        made.append(
            Attack(
                f"log: {name}, escapes",
                seen,
                [get("/health/live", ALICE, (name, f"\x1b[31m{FORGED}\x9b0m"), host=host)],
            )
        )
        made.append(
            Attack(
                f"log: {name}, a line's end",
                "400 closed",
                [get("/health/live", ALICE, (name, f"x\n{{{FORGED}"), host=host)],
            )
        )
    return made


def clean(log: Iterable[str]) -> list[str]:
    """Lines of a JSON log that are not one object of the hub's own, or that an attacker has a say in.

    But for what is shown on purpose: what its program calls itself, a Host and an Origin that are not served. These
    cannot be anything but printable.
    """
    return [line for line in log if not _is_clean(line)]


def _is_clean(line: str) -> bool:
    try:
        event: Any = json.loads(line)
    except ValueError:
        return False
    if not isinstance(event, dict) or not {"event", "level", "timestamp"} <= event.keys():
        return False
    named = cast("dict[str, Any]", event)
    shown = [str(named.pop(name, "")) for name in ("program", "host", "origin")]
    return all(text.isprintable() for text in shown) and FORGED not in json.dumps(named)
