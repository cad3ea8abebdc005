"""What callers send, thrown at what reads it: tool arguments, attachments, diffs, bodies and sessions."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any, cast

from hypothesis import strategies as st

from llm_mcp_hub.checks import checked
from llm_mcp_hub.errors import InvalidRequest
from llm_mcp_hub.material import diff, repository, rules
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import attachment
from llm_mcp_hub.material.rules import Unreadable
from llm_mcp_hub.serving import sealed
from llm_mcp_hub.serving.arguments import (
    AskArguments,
    CancelArguments,
    ResultArguments,
    Strict,
    schema_of,
    status_arguments,
    validated,
)
from llm_mcp_hub.serving.shape import Shape
from llm_mcp_hub.serving.unreadable import answer_to_half_a_character, without_quotation
from tests.fuzz.engine import CANARY, TAKEN, Target, refused, safe
from tests.fuzz.forms import CUTS, cut
from tests.guarantees.fuzzing import fitting, nearly
from tests.unit.scripted import ScriptedProvider
from tests.unit.strategies import ANY_TEXT, any_json

INVALID = frozenset({"invalid_request"})
TRAITS = ScriptedProvider("one").traits

# -- arguments ---------------------------------------------------------------------------------------------------------

MODELS: Mapping[str, type[Strict]] = {
    "ask": AskArguments,
    "result": ResultArguments,
    "cancel": CancelArguments,
    "status": status_arguments(("claude", "gemini")),
}
CALLS: list[tuple[str, Any]] = [
    ("ask", {"prompt": CANARY, "model": "one-1", "system": CANARY, "effort": "low", "timeout_s": 60, "wait_s": 0.5}),
    ("ask", {"prompt": "x", "files": ["a.txt"], "git_diff": {"base": "HEAD", "paths": ["src"]}}),
    ("ask", {"prompt": "x", "attachments": [{"name": "a", "mime_type": "text/plain", "text": CANARY}]}),
    ("ask", {"prompt": "x", "conversation_id": "c_1", "model": None}),
    ("result", {"ask_id": "ask_1", "wait_s": 3, "offset": 10}),
    ("cancel", {"ask_id": "ask_1"}),
    ("status", {"provider": "claude", "verify": True}),
]


def _arguments(value: tuple[str, Any]) -> str:
    name, held = value
    model = MODELS.get(name)
    if model is None or not isinstance(held, dict):
        return "invalid_request"  # the SDK takes nothing but objects
    given = cast("dict[str, Any]", held)
    try:
        found = validated(model, given, "claude")
        assert set(given) <= set(model.model_fields)
        if isinstance(found, AskArguments):
            assert found.prompt == given["prompt"]
            ask = checked(
                TRAITS,
                found.prompt,
                principal="owner",
                model=found.model,
                system=found.system,
                conversation_id=found.conversation_id,
                effort=found.effort,
                timeout_s=found.timeout_s or 600,
                arrived=0.0,
            )
            assert ask.prompt == given["prompt"], "a prompt was changed"
            ask.prompt.encode()
    except InvalidRequest as error:
        return refused(error)
    return TAKEN


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
SENT: list[tuple[Any, ...]] = [
    ("notes.txt", "text/plain; charset=utf-8", CANARY, None),
    ("a.png", "image/png", None, PNG),
    ("a.jpg", "image/jpg", None, PNG),
    ("a/b.json", "application/json", None, base64.b64encode(b'{"a": 1}').decode()),
    (".env", "text/plain", "A=1", None),
    ("k.txt", "text/plain", f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}", None),
]


def _attachment(value: tuple[Any, ...]) -> str:
    name, kind, text, data = (each if each is None or isinstance(each, str) else str(each) for each in value)
    try:
        made = attachment(name or "", kind or "", text, data, "claude")
        content = made.data if made.data is not None else (made.text or "").encode()
        rules.any_refused(["", *made.name.split("/")])
        rules.holds_secret(content)
        assert rules.kind(content) is None or rules.kind(content) in rules.BINARY
        assert made.text is None or made.text == text
    except InvalidRequest as error:
        # Its name is told, as its caller wrote it.
        return refused(error) if CANARY[:8] not in (name or "") else error.code
    return TAKEN


CONTENTS = [
    *(
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF1234WEBP",
        b"GIF89a",
        b"%PDF-1.7",
        b"\xff\xfea\0",
        b"\xef\xbb\xbftext",
    ),
    *(
        f"{hint} {CANARY}".encode()
        for hint in ("sk-ant-oat01-abcdefghijkl", '"refresh_token": "1//x"', "ya29." + "a" * 20)
    ),
]


def _content(value: tuple[bytes, str]) -> str:
    data, name = value
    text = rules.text_of(data)
    assert text is None or "\0" not in text
    told = rules.shown(name)
    assert rules.is_one_line(told)
    assert len(told) <= 100
    told.encode()
    refuses = rules.refused("", name)
    assert not name.isascii() or rules.refused("", name.swapcase()) == refuses, "case makes a difference"
    return "secret" if rules.holds_secret(data) else "refused" if refuses else TAKEN


LISTED = [
    b":100644 100644 " + b"a" * 40 + b" " + b"0" * 40 + b" M\0src/a.py\0:000000 120000 "
    b"" + b"0" * 40 + b" " + b"0" * 40 + b" A\0../../etc/passwd\0",
    b"",
]
SETTINGS = [
    b"core.filemode\ntrue\0core.repositoryformatversion\n0\0",
    b"extensions.objectformat\nsha256\0core.eol\nlf\0",
    b"core.fsmonitor\n/bin/evil\0alias.x\n!sh\0core.autocrlf\ntrue\n[alias]\0",
]
REVISIONS = ["HEAD", "main~1", "origin/main", "-x", "a b", "", "v1.0^{commit}"]


def _difference(value: tuple[bytes, bytes, str]) -> str:
    """What git prints of a repository that nobody has to trust, and the names that a caller gives."""
    listed, settings, base = value
    try:
        name = diff._revision_name(GitDiff(base or None).base)  # pyright: ignore[reportPrivateUsage]
        assert not name.startswith("-")
        assert rules.is_one_line(name)
        text = repository.settings(settings)
        written = text.removeprefix(repository._SETTINGS)  # pyright: ignore[reportPrivateUsage]
        assert "\n\t" in written or not written
        assert all(line[:1] in "[\t" for line in written.splitlines())
        for change in diff._changes(listed):  # pyright: ignore[reportPrivateUsage]
            os.fsdecode(change.path)
    except Unreadable as error:
        safe(f"{error.reason} {error.action}")
        return "unreadable"
    return TAKEN


# -- bodies and sessions -----------------------------------------------------------------------------------------------

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask_claude", "arguments": {"prompt": "x"}},
}
GREETING = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "claude-code", "version": "1"},
    },
}
BODIES = [json.dumps(body).encode() for body in (CALL, GREETING, {**CALL, "id": "\ud800"}, [CALL], "x" * 300)]


def _body(value: tuple[bytes, bytes]) -> str:
    data, cuts = value
    first, second = Shape(), Shape()
    outcomes = [first.takes(data), all(second.takes(piece) for piece in cut(data, cuts))]
    assert outcomes[0] == outcomes[1], "pieces make a difference"
    answer = answer_to_half_a_character(data)
    if answer is not None:
        text = answer.model_dump_json(by_alias=True)
        text.encode()
        assert json.loads(text)
    quoted = without_quotation(data)
    if quoted is not None:
        safe(quoted.model_dump_json(by_alias=True))
    return TAKEN if outcomes[0] else "too many values"


SEAL = sealed.Seal((CANARY, CANARY[::-1]))
NOW = 1_800_000_000.0
SESSION = sealed.began("client:anna", GREETING["params"], NOW)
FORGED = sealed.Seal(("another key of thirty-two bytes..",))


def _session(value: tuple[str, Any]) -> str:
    given, params = value
    session = sealed.began("client:anna", params, NOW)
    assert SEAL.opened(SEAL.sealed(session), "client:anna", NOW) == session
    assert len(session.client) <= sealed.NAME_CHARS
    number = cast("dict[str, Any]", params).get("requestId") if isinstance(params, dict) else None
    if isinstance(number, int | str):
        assert len(sealed.call_of(number)) == 32
    found = SEAL.opened(given, "client:anna", NOW)
    if found is None:
        return "no session"
    assert found.principal == "client:anna"
    assert given == SEAL.sealed(found) or base64.urlsafe_b64decode(given.split(".")[1] + "==")
    return TAKEN


def targets() -> list[Target]:
    """All of them."""
    schemas = {name: fitting(schema_of(model)) for name, model in MODELS.items()}
    calls = st.one_of(
        *(st.tuples(st.just(name), st.one_of(right, nearly(right))) for name, right in schemas.items()),
        st.tuples(st.sampled_from(sorted(MODELS)), any_json()),
    )
    texts = st.one_of(st.none(), ANY_TEXT)
    return [
        Target("tool arguments", CALLS, calls, _arguments, INVALID, 3),
        Target("attachments", SENT, st.tuples(texts, texts, texts, texts), _attachment, INVALID),
        Target(
            "files' names and contents",
            [(content, name) for content in CONTENTS for name in (".env", "id_rsa", "a.txt", "．ｅｎｖ")],
            st.tuples(st.binary(max_size=60), ANY_TEXT),
            _content,
            frozenset({"secret", "refused"}),
        ),
        Target(
            "git's lists and names",
            [(listed, settings, base) for listed in LISTED for settings in SETTINGS for base in REVISIONS],
            st.tuples(st.sampled_from(LISTED), st.binary(), ANY_TEXT),
            _difference,
            frozenset({"unreadable"}),
        ),
        Target(
            "bodies",
            [(body, b"\x30\x80") for body in BODIES],
            st.tuples(any_json().map(lambda value: json.dumps(value).encode()), CUTS),
            _body,
            frozenset({"too many values"}),
        ),
        Target(
            "sealed sessions",
            [(SEAL.sealed(SESSION), GREETING["params"]), (FORGED.sealed(SESSION), {"requestId": 1})],
            st.tuples(ANY_TEXT, any_json()),
            _session,
            frozenset({"no session"}),
        ),
    ]
