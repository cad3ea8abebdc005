"""The stand-in of Anthropic's sign-in itself: what it takes, what it refuses, and that nothing leads past it.

That the real CLI goes through it is in `tests/protocol/test_login.py`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from .anthropic_oauth import CLIENT, REDIRECT, TOKEN_HOST, YEAR_S, AnthropicOAuth


@pytest.fixture
def oauth(tmp_path: Path) -> Generator[AnthropicOAuth]:
    with AnthropicOAuth(tmp_path) as running:
        yield running


@pytest.fixture
def client(oauth: AnthropicOAuth) -> Generator[httpx.Client]:
    trust = ssl.create_default_context(cafile=str(oauth.ca_file))
    with httpx.Client(proxy=oauth.environment["HTTPS_PROXY"], verify=trust, timeout=60) as made:
        yield made


class Flow:
    """A client that does it right, but for what a test changes."""

    def __init__(self) -> None:
        self.verifier = secrets.token_urlsafe(32)
        self.state = secrets.token_urlsafe(16)

    @property
    def url(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "code": "true",
            "client_id": CLIENT,
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": "user:inference",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "state": self.state,
        }
        return f"https://claude.com/cai/oauth/authorize?{urlencode(asked)}"

    def exchange(self, client: httpx.Client, pasted: str, **changes: Any) -> httpx.Response:
        body = {
            "grant_type": "authorization_code",
            "code": pasted.partition("#")[0],
            "redirect_uri": REDIRECT,
            "client_id": CLIENT,
            "code_verifier": self.verifier,
            "state": self.state,
            "expires_in": YEAR_S,
            **changes,
        }
        return client.post(f"https://{TOKEN_HOST}/v1/oauth/token", json=body)


def test_a_code_gives_one_token_once(oauth: AnthropicOAuth, client: httpx.Client) -> None:
    flow = Flow()
    code = oauth.authorize(flow.url)

    first, second = flow.exchange(client, code), flow.exchange(client, code)

    assert first.json()["access_token"] == oauth.issued[0]
    assert oauth.issued[0].startswith("sk-ant-oat01-")
    assert len(oauth.issued[0]) == 108
    assert second.status_code == 400
    assert oauth.surprises == []


@pytest.mark.parametrize("wrong", [{"code": "another"}, {"code_verifier": "another"}, {"state": "another"}])
def test_a_code_is_good_for_its_own_link_alone(
    oauth: AnthropicOAuth, client: httpx.Client, wrong: dict[str, str]
) -> None:
    flow = Flow()

    told = flow.exchange(client, oauth.authorize(flow.url), **wrong)

    assert told.status_code == 400
    assert told.json()["error"] == "invalid_grant"
    assert oauth.issued == []
    assert oauth.surprises == []


@pytest.mark.parametrize(
    "odd",
    [
        {"grant_type": "refresh_token"},
        {"client_id": "another"},
        {"redirect_uri": "https://elsewhere.invalid"},
        {"expires_in": 3600},
    ],
)
def test_what_setup_token_does_not_do_is_a_surprise(
    oauth: AnthropicOAuth, client: httpx.Client, odd: dict[str, Any]
) -> None:
    flow = Flow()

    told = flow.exchange(client, oauth.authorize(flow.url), **odd)

    assert told.status_code == 400
    assert len(oauth.surprises) == 1


def test_no_other_host_can_be_reached(oauth: AnthropicOAuth, client: httpx.Client) -> None:
    with pytest.raises(httpx.ProxyError):
        client.get("https://example.invalid")

    assert oauth.surprises == ["proxy: CONNECT example.invalid:443"]
