"""What stands in files of logins and of clients, thrown at what reads it.

Everything happens in one private folder: the owner's files of this machine are never looked at.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from llm_mcp_hub.credentials.alerts import alert_of
from llm_mcp_hub.credentials.claude import ClaudeCredentials
from llm_mcp_hub.credentials.gemini import GeminiCredentials
from llm_mcp_hub.credentials.known import NOTHING, Held, Known, Lasted
from llm_mcp_hub.credentials.saved import SavedLogins
from llm_mcp_hub.credentials.verdict import choose, verdict
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers.claude_guard import check_managed_settings
from llm_mcp_hub.serving.auth import Clients, recognised
from tests.fuzz.engine import CANARY, TAKEN, Target, refused, safe
from tests.fuzz.forms import BYTES, DAY, NOW, TOKEN, folder, placed, written_down
from tests.unit.strategies import ANY_TEXT

# -- logins ------------------------------------------------------------------------------------------------------------

ID_TOKEN = "e30.eyJzdWIiOiIxMjMifQ.x"
GOOGLE: dict[str, Any] = {
    "access_token": f"ya29.{CANARY}",
    "refresh_token": f"1//{CANARY}",
    "scope": "x",
    "token_type": "Bearer",
    "id_token": ID_TOKEN,
    "expiry_date": 1_795_000_000_000,
}
GOOGLES = [written_down(value) for value in (GOOGLE, {**GOOGLE, "type": "service_account"}, {"access_token": CANARY})]
OWN: dict[str, Any] = {
    "claudeAiOauth": {
        "accessToken": CANARY,
        "refreshToken": CANARY,
        "expiresAt": 1_795_000_000_000,
        "refreshTokenExpiresAt": 1_799_000_000_000,
    }
}
SAVED: dict[str, Any] = {"content": TOKEN, "issued_at": "2026-11-01T00:00:00+00:00", "origin": ""}
SAVED_GOOGLE: dict[str, Any] = {"content": json.dumps(GOOGLE), "issued_at": "2026-11-01T00:00:00+00:00", "origin": "x"}
UNUSABLE = frozenset({"missing", "expired", "misconfigured"})


def status_of(held: list[Held], known: Known = NOTHING, lasted: tuple[Lasted, ...] = ()) -> str:
    """Whatever is held and known, there is a status that can be told."""
    each = {one.mark: known for one in held}
    chosen = choose(held, each, NOW, newest_first=True)
    status = verdict(chosen, known, NOW, alert=DAY, lasted=lasted)
    safe(status.model_dump_json())
    alert = alert_of("claude", status, NOW)
    if alert is not None:
        safe(alert.model_dump_json())
        alert.text.encode()
    safe(repr(held))
    for one in held:
        assert one.secrets() is not None
        if one.problem is not None:
            refused(one.problem)
    return TAKEN if status.usable else status.status


def _claude(value: tuple[str, Any, Any]) -> str:
    token, own, saved = value[0], *map(written_down, value[1:])
    credentials = ClaudeCredentials(
        token=lambda: token,
        issued_at=None,
        own_login=placed("claude/.credentials.json", own),
        saved=SavedLogins(placed("claude/logins/claude.json", saved).parent.parent),
        now=lambda: NOW,
        system="Linux",
    )
    return status_of(list(credentials.held()))


def _gemini(value: tuple[Any, Any, Any, Any]) -> str:
    owners, saved, good, renewed = map(written_down, value)
    for name, content in (("gemini", saved), ("gemini-last-good", good), ("gemini-renewed", renewed)):
        placed(f"google/logins/{name}.json", content)
    file = placed("google/oauth_creds.json", owners)
    credentials = GeminiCredentials(path=file, saved=SavedLogins(folder() / "google"), now=lambda: NOW, project="p")
    held = list(credentials.held())
    for one in held:
        one.secret.encode("utf-8", "surrogateescape")
    credentials.renewed("x", owners.decode("utf-8", "replace"))
    assert file.read_bytes() == owners, "the owner's file was written"
    return status_of(held)


def _clients(content: bytes) -> str:
    file = placed("clients/clients.json", content)
    file.chmod(0o600)
    clients = Clients(file, expected=True)
    try:
        book = clients.current()
        assert book is not None
        assert recognised(book, CANARY.encode()) is None
        return TAKEN
    except HubError as error:
        return refused(error)


BOOK: dict[str, Any] = {
    "version": 1,
    "clients": {
        "anna": {
            "scopes": ["ask:claude"],
            "tokens": [{"sha256": "a" * 64, "made_at": "2026-11-01T00:00:00Z"}],
            "created_at": "2026-11-01T00:00:00Z",
            "limits": {"at_once": 3},
        }
    },
}
MANAGED = [b"{}", written_down({"model": "x"}), written_down({"env": {"K": CANARY}}), written_down({"hooks": {}})]


def _managed(content: bytes) -> str:
    place = placed("managed/managed-settings.json", content).parent
    try:
        check_managed_settings(place)
    except HubError as error:
        return refused(error)
    assert not {"env", "apiKeyHelper", "hooks", "policyHelper"} & json.loads(content).keys()
    return TAKEN


def targets() -> list[Target]:
    """All of them."""
    return [
        Target(
            "claude login",
            [(TOKEN, OWN, SAVED), ("", written_down(OWN), b""), ("", OWN, SAVED), (f"sk-ant-api03-{CANARY}", b"", b"")],
            st.tuples(st.one_of(st.just(""), ANY_TEXT), BYTES, BYTES),
            _claude,
            UNUSABLE,
        ),
        Target(
            "gemini login",
            [
                *((content, written_down(SAVED_GOOGLE), SAVED_GOOGLE, b"") for content in GOOGLES),
                *(
                    (content, SAVED_GOOGLE, SAVED_GOOGLE, SAVED_GOOGLE)
                    for content in (GOOGLE, {"access_token": CANARY})
                ),
            ],
            st.tuples(BYTES, BYTES, BYTES, BYTES),
            _gemini,
            UNUSABLE,
        ),
        Target("clients' file", [written_down(BOOK)], BYTES, _clients, frozenset({"misconfigured"})),
        Target("managed settings", MANAGED, BYTES, _managed, frozenset({"misconfigured", "billing_blocked"})),
    ]
