"""Settings, env files, and other people's JSON, thrown at what reads and writes them."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dotenv import dotenv_values
from hypothesis import strategies as st

from llm_mcp_hub.commands import json_edit
from llm_mcp_hub.env_text import Unreadable, with_values
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.settings import SECRETS, Settings, examine, load
from tests.fuzz.engine import CANARY, TAKEN, Target, refused, safe
from tests.fuzz.forms import TOKEN, folder, placed
from tests.unit.strategies import ANY_TEXT, any_json

# -- settings ----------------------------------------------------------------------------------------------------------

RIGHT: dict[str, str] = {
    "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
    "CLAUDE_MODEL": "opus",
    "CLAUDE_TOKEN_ISSUED_AT": "2026-11-23",
    "GEMINI_AUTH_PATH": "~/x/oauth_creds.json",
    "REDIS_URL": f"redis://:{CANARY}@127.0.0.1:6379/0",
    "LOG_LEVEL": "DEBUG",
    "HUB_HOST": "0.0.0.0",
    "HUB_PORT": "8000",
    "HUB_ALLOWED_HOSTS": "hub.example, hub.example:*,[::1]:80",
    "HUB_ALLOWED_ORIGINS": "https://pages.example",
    "HUB_STATE_KEY": f"{CANARY},{CANARY}",
    "HUB_STATE_DIR": "/nowhere/state",
    "HUB_FILE_ROOTS": "/a:/b",
    "HUB_WAIT_S": "1.5",
    "HUB_RETENTION_DAYS": "7",
    "HUB_CLAUDE_CONCURRENCY": "4",
    "HUB_ALERT_WEBHOOK_URL": f"https://user:{CANARY}@hooks.example:443/{CANARY}",
    "HUB_ALERT_WEBHOOK_SECRET": CANARY,
    "HUB_ALLOW_OVERAGE": "1",
    "HUB_CLAUDE_UPSTREAM": "http://127.0.0.1:1",
    "HUB_GEMINI_UPSTREAM": "http://[::1]:1/",
    "HUB_LOG_FORMAT": "json",
    "HUB_WAITS": "1",
}
SECRET_URLS = (f"https://[{CANARY}]/", f"https://user:{CANARY}\u2100@hooks.example/", f"https://x:{CANARY}/")
NAMES = sorted({*(field.upper() for field in Settings.model_fields), *(f"{name}_FILE" for name in SECRETS)})
VARIABLES = st.dictionaries(
    st.sampled_from(NAMES), st.one_of(ANY_TEXT, st.sampled_from(sorted(RIGHT.values()))), max_size=5
)


def _settings(around: Any) -> str:
    """An environment: names and values are texts without NUL, and what is no UTF-8 is escaped halves."""
    given = cast("dict[str, Any]", around) if isinstance(around, dict) else {}
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    environment = {_of_a_process(name): _of_a_process(value) for name, value in texts.items()}
    return _examined(None, environment)


def _of_a_process(text: str) -> str:
    return os.fsdecode(text.replace("\0", "").encode("utf-8", "replace"))


def _examined(file: Path | None, around: Mapping[str, str]) -> str:
    examined = examine(file, around)
    safe(repr([getattr(examined.settings, name.lower()) for name in SECRETS]))
    for error in examined.wrong:
        refused(error)
    if examined.wrong:
        with contextlib.suppress(Misconfigured):
            load(file, around)
            raise AssertionError("load takes what examine refuses")
        return "misconfigured"
    assert load(file, around) == examined.settings
    for name in SECRETS:
        examined.settings.secret(name)
    return TAKEN


ENV_FILES = [
    "".join(f"{name}={value}\n" for name, value in RIGHT.items()).encode(),
    f"# a comment\nexport CLAUDE_CODE_OAUTH_TOKEN='{TOKEN}' # it\nHUB_PORT=\"80\"\nREDIS_URL_FILE=/nowhere\n".encode(),
    b"REDIS_URL_FILE=a\0b\nHUB_STATE_KEY_FILE='~/x\0'\nHUB_STATE_DIR=\0\nHUB_FILE_ROOTS=/a\0b:/c\n",
    b"\xef\xbb\xbfA=1\r\nHUB_WAIT_S=2\r\nCLAUDE_CODE_OAUTH_TOKEN_FILE=~nobody/x\r\n",
]


def _env_file(content: bytes) -> str:
    return _examined(placed("settings.env", content), {"HOME": str(folder())})


def _written(value: tuple[bytes, str]) -> str:
    """An env file is written into: the value is read back, and all else as before."""
    content, secret = value
    text = content.decode("utf-8", "surrogateescape")
    kept = "".join(each for each in secret if each not in "\r\n\0" and not "\ud800" <= each <= "\udfff")
    try:
        done = with_values(text, {"TOKEN_X": kept})
    except Unreadable as error:
        safe(str(error))
        return "unreadable"
    done.encode("utf-8", "surrogateescape")
    before, after = (
        dotenv_values(stream=io.StringIO(each.removeprefix("\ufeff")), interpolate=False) for each in (text, done)
    )
    if after.get("TOKEN_X") != kept or {**after, "TOKEN_X": None} != {**before, "TOKEN_X": None}:
        # What opens a quotation and never closes it takes in whatever stands below.
        assert with_values(done, {"TOKEN_X": kept}) is not None
        return "unread"
    assert with_values(done, {"TOKEN_X": kept}) == done
    return TAKEN


# -- other people's JSON -----------------------------------------------------------------------------------------------

JSONS = [
    "",
    '{"mcpServers": {"a": {"command": "x", "args": ["1"]}}, "n": 1e400}',
    '{\n  // a comment\n  "mcpServers": {\n    "b": {},\n  },\n}\n',
    '\ufeff{\r\n\t"servers": {},\r\n\t"inputs": [{"id": "a"}, /* c */ {"id": "b"}],\r\n}',
    '{"mcpServers":{"llm-hub":{"command":"old"}},"mcpServers":{"llm-hub":1}}',
]
PATH = ["mcpServers", "llm-hub"]
ENTRY = {"command": "llm-mcp-hub", "env": {"A": "b"}}


def _edited(text: str) -> str:
    """It is understood and kept, or refused and kept."""
    try:
        before = json_edit.read(text)
        done = json_edit.put(text, PATH, ENTRY)
        gone = json_edit.remove(done, PATH)
    except json_edit.Unreadable as error:
        safe(str(error))
        return "unreadable"
    after = json_edit.read(done)
    assert after["mcpServers"]["llm-hub"] == ENTRY
    assert {name: value for name, value in after.items() if name != "mcpServers"} == {
        name: value for name, value in before.items() if name != "mcpServers"
    }
    assert "llm-hub" not in json_edit.read(gone).get("mcpServers", {})
    assert json_edit.put(done, PATH, ENTRY) == done
    json_edit.is_strict(done)
    with contextlib.suppress(json_edit.Unreadable):
        added = json_edit.add(done, "inputs", {"id": "hub"}, lambda each: each == {"id": "hub"})
        assert {"id": "hub"} in json_edit.read(added)["inputs"]
        dropped = json_edit.drop(added, "inputs", lambda each: each == {"id": "hub"})
        assert {"id": "hub"} not in json_edit.read(dropped)["inputs"]
    return TAKEN


def targets() -> list[Target]:
    """All of them."""
    return [
        Target(
            "settings, variables",
            [
                RIGHT,
                *({name: value} for name, value in RIGHT.items()),
                *({name: url} for name in ("HUB_ALERT_WEBHOOK_URL", "REDIS_URL") for url in SECRET_URLS),
            ],
            VARIABLES,
            _settings,
            frozenset({"misconfigured"}),
            1.5,
        ),
        Target("settings, a file", ENV_FILES, st.binary(max_size=80), _env_file, frozenset({"misconfigured"})),
        Target(
            "env file writer",
            [(content, CANARY) for content in ENV_FILES],
            st.tuples(st.one_of(st.binary(max_size=60), st.sampled_from(ENV_FILES)), ANY_TEXT),
            _written,
            frozenset({"unread", "unreadable"}),
        ),
        Target(
            "clients' JSON",
            JSONS,
            st.one_of(st.text('{}[]",:/*\\ \n\r\tna1\ufeff\ud800', max_size=40), any_json().map(json.dumps)),
            _edited,
            frozenset({"unreadable"}),
        ),
    ]
