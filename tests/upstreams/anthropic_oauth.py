"""A stand-in of Anthropic's sign-in for the real `claude setup-token`: the browser's part and the token endpoint.

The addresses are written into the CLI, so they are reached through a CONNECT proxy (HTTPS_PROXY) that tunnels them to
a local TLS server and refuses every other host. It knows the wire as the CLI speaks it: what Anthropic answers to a
right code is known from what the CLI reads, the words of its errors are made up.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs, urlsplit

import trustme
from aiohttp import web

from .loopback import LoopbackServer, Received
from .proxy import ConnectProxy

TOKEN_HOST, API_HOST = "platform.claude.com", "api.anthropic.com"
CLIENT = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
REDIRECT = "https://platform.claude.com/oauth/code/callback"
LISTENER = re.compile(r"http://localhost:[0-9]+/callback")
"""Where the CLI waits for a browser of its own machine."""
YEAR_S = 31_536_000


@dataclass(frozen=True)
class _Granted:
    challenge: str
    state: str


class AnthropicOAuth:
    """The sign-in page, the token endpoint and the proxy, from `start` to `stop`; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.token: Literal["ok", "error500", "unreachable", "hang", "api_key"] = "ok"
        """How the token endpoint behaves; may be changed at any time."""
        self.issued: list[str] = []
        """Setup-tokens handed out, in order."""
        self.surprises: list[str] = []
        self._granted: dict[str, _Granted] = {}
        authority = trustme.CA()
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "anthropic-ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(TOKEN_HOST, API_HOST).configure_cert(tls)  # pyright: ignore[reportUnknownMemberType] -- optional pyOpenSSL
        self._server = LoopbackServer(self._answer, tls=tls)
        self._proxy = ConnectProxy(self._tunnel_to, self.surprises.append)

    def __enter__(self) -> Self:
        self._server.start()
        self._proxy.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.stop()
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a CLI (or a hub that starts one) needs, to find this stand-in and nothing else."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self._proxy.port}",
            "NO_PROXY": "127.0.0.1,localhost",
            "NODE_EXTRA_CA_CERTS": str(self.ca_file),
        }

    @property
    def received(self) -> list[Received]:
        return list(self._server.received)

    def wait_for_requests(self, count: int) -> list[Received]:
        """Block until `count` requests have arrived."""
        return self._server.wait_for_requests(count)

    def authorize(self, url: str) -> str:
        """What a person gets who opens `url`, signs in and agrees: the code to paste, good for this link and once."""
        address = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        expected = {
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "code_challenge_method": "S256",
            "scope": "user:inference",
        }
        assert (address.scheme, address.netloc) == ("https", "claude.com"), url
        assert {name: asked.get(name) for name in expected} == expected, url
        code = f"made-up-code-{secrets.token_urlsafe(24)}"
        self._granted[code] = _Granted(asked["code_challenge"], asked["state"])
        return f"{code}#{asked['state']}"

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _tunnel_to(self, target: str) -> int | Literal["drop"] | None:
        host, _, port = target.rpartition(":")
        if host not in (TOKEN_HOST, API_HOST) or port != "443":
            return None
        return "drop" if self.token == "unreachable" else self._server.port

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        match received.method, received.host, received.path:
            case "POST", "platform.claude.com", "/v1/oauth/token":
                return await self._token(received)
            case "GET", "api.anthropic.com", "/api/oauth/profile":
                # A setup-token may ask models and nothing else; the CLI goes on without the profile.
                return _refusal(403, "permission_error", "OAuth token does not meet scope requirement user:profile")
            case _:
                return self._surprise(received, "unknown path", 404)

    async def _token(self, received: Received) -> web.StreamResponse:
        try:
            asked = cast("dict[str, Any]", received.json)
        except ValueError:
            return self._surprise(received, "the body is not JSON")
        expected = {"grant_type": "authorization_code", "client_id": CLIENT, "expires_in": YEAR_S}
        found = {name: asked.get(name) for name in expected}
        redirect = str(asked.get("redirect_uri"))
        if found != expected or (redirect != REDIRECT and not LISTENER.fullmatch(redirect)):
            return self._surprise(received, f"not the exchange of a setup-token: {found}, {redirect}")
        if self.token == "hang":
            await asyncio.Event().wait()
        if self.token == "error500":
            return _refusal(500, "api_error", "Internal server error")
        granted = self._granted.get(str(asked.get("code")))
        if granted is None:
            return _refused("Invalid 'code' in request.")
        verifier = hashlib.sha256(str(asked.get("code_verifier")).encode()).digest()
        if base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() != granted.challenge:
            return _refused("Invalid 'code_verifier' in request.")
        if asked.get("state") != granted.state:
            return _refused("Invalid 'state' in request.")
        del self._granted[str(asked["code"])]
        kind = "sk-ant-api03-" if self.token == "api_key" else "sk-ant-oat01-"
        token = kind + secrets.token_urlsafe(71)  # 95 characters, as a real one has
        self.issued.append(token)
        return web.json_response(
            {
                "token_type": "Bearer",
                "access_token": token,
                "expires_in": YEAR_S,
                "scope": "user:inference",
                "organization": {"uuid": "00000000-0000-0000-0000-000000000001", "name": "nobody's"},
                "account": {
                    "uuid": "00000000-0000-0000-0000-000000000002",
                    "email_address": "somebody@example.invalid",
                },
            }
        )

    def _surprise(self, received: Received, why: str, status: int = 400) -> web.Response:
        self.surprises.append(f"{received.method} {received.host}{received.path}: {why}")
        return _refusal(status, "invalid_request_error", f"stand-in: {why}")


def _refusal(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)


def _refused(why: str) -> web.Response:
    return web.json_response({"error": "invalid_grant", "error_description": why}, status=400)
