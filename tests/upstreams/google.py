# pyright: strict
"""A stand-in of Google for the real Gemini CLI: Code Assist, and Google's OAuth behind a CONNECT proxy.

The CLI takes the address of Code Assist from its environment, but the addresses of OAuth are
written into it; so those are reached through a proxy (HTTPS_PROXY) that tunnels Google's OAuth hosts
to a local TLS server and refuses every other host. A real provider is out of reach by construction,
and whatever was not expected is kept in `surprises`, which a test asserts to be empty.

It knows how the wire looks and how the CLI reads it. It knows nothing of the hub. The shapes of
answers follow the CLI's source; none was captured from Google, and none is checked against Google.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import socket
import ssl
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

import trustme
from aiohttp import web

from .loopback import LoopbackServer, Received
from .proxy import ConnectProxy

PROJECT = "stand-in-project-1"
"""The project that Google keeps for an account of the free tier."""

CODE_ASSIST_DOMAIN = "cloudcode-pa.googleapis.com"
OAUTH_HOSTS = ("oauth2.googleapis.com", "www.googleapis.com", "accounts.google.com")
UNSUPPORTED_CLIENT_TEXT = (
    "This client is no longer supported for Gemini Code Assist for individuals. "
    "To continue using Gemini, please migrate to the Antigravity suite of products: https://antigravity.google"
)


# --- What a generation is answered with -------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A text, streamed if the request says so, and whole otherwise."""

    text: str = ""
    chunks: int | Sequence[str] | None = None
    """How the text is cut into frames: into so many, or exactly these (then `text` is ignored). None: one."""
    delay_s: float = 0.0
    """Before the first byte, headers included."""
    chunk_delay_s: float = 0.0
    """Before each frame of text but the first."""
    gate: threading.Event | None = None
    """Nothing is sent before it is set: lets a test hold many answers at once, without a sleep."""
    gate_after: int = 0
    """So many frames of text are sent before the gate is looked at."""
    finish_reason: str | None = "STOP"
    prompt_tokens: int = 12
    """All tokens of the prompt; those from the cache are among them."""
    output_tokens: int = 7
    thoughts_tokens: int = 0
    cached_tokens: int = 0
    thought: str = ""
    """A thought, sent before the text. The CLI expects `**subject**`, a line break, and what it is about."""
    model_version: str | None = None
    """None: the model that was asked for."""

    @property
    def pieces(self) -> list[str]:
        if self.chunks is None:
            return [self.text]
        if not isinstance(self.chunks, int):
            return list(self.chunks)
        size = max(1, -(-len(self.text) // self.chunks))
        return [self.text[at : at + size] for at in range(0, len(self.text), size)]


@dataclass(frozen=True)
class FunctionCall:
    """Bait: the model asks the CLI to run a tool."""

    name: str
    args: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Hang:
    """Sends nothing more until the caller hangs up, which is recorded as `disconnected`."""

    after_text: str = ""
    before_headers: bool = True
    """Not even headers are sent; without effect if there is an `after_text`."""


@dataclass(frozen=True)
class Cut:
    """The connection ends in the middle of an answer."""

    after_text: str = "The beginning of"


@dataclass(frozen=True)
class Reset:
    """The connection is reset before any answer."""


@dataclass(frozen=True)
class Malformed:
    """A frame that is no JSON, after `after_text` if there is one; then an orderly end."""

    after_text: str = ""


@dataclass(frozen=True)
class NoFinish:
    """Text and an orderly end, without a finish reason and without usage."""

    text: str = "An answer that"


@dataclass(frozen=True)
class Empty:
    """STOP without any text."""


@dataclass(frozen=True)
class Safety:
    """Blocked: finish reason SAFETY without any text."""


@dataclass(frozen=True)
class MaxTokens:
    """Cut off by the limit of output tokens."""

    text: str = "An answer cut off by"


def _error_info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": CODE_ASSIST_DOMAIN,
        "metadata": metadata,
    }


def _retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@dataclass(frozen=True)
class Error:
    """An error as Google's APIs say it. The constructors below are the rows of our table of errors."""

    status: int
    status_name: str
    message: str
    details: tuple[dict[str, Any], ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": self.status_name}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}

    @classmethod
    def unauthenticated(cls) -> Error:
        return cls(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
            "valid authentication credential.",
        )

    @classmethod
    def permission_denied(cls) -> Error:
        return cls(403, "PERMISSION_DENIED", "The caller does not have permission")

    @classmethod
    def service_disabled(cls, project: str = "my-work-project") -> Error:
        """The API is not enabled in the caller's project; the text holds the link that enables it."""
        link = (
            f"https://console.developers.google.com/apis/api/cloudaicompanion.googleapis.com/overview?project={project}"
        )
        return cls(
            403,
            "PERMISSION_DENIED",
            f"Gemini for Google Cloud API has not been used in project {project} before or it is disabled. Enable it "
            f"by visiting {link} then retry. If you enabled this API recently, wait a few minutes for the action to "
            "propagate to our systems and retry.",
            (
                {
                    **_error_info("SERVICE_DISABLED", service="cloudaicompanion.googleapis.com", activationUrl=link),
                    "domain": "googleapis.com",
                },
            ),
        )

    @classmethod
    def validation_required(cls, link: str = "https://accounts.google.com/signin/continue?made-up") -> Error:
        return cls(
            403,
            "PERMISSION_DENIED",
            "Verify your account to continue.",
            (_error_info("VALIDATION_REQUIRED", validation_link=link),),
        )

    @classmethod
    def model_not_found(cls) -> Error:
        return cls(404, "NOT_FOUND", "Requested entity was not found.")

    @classmethod
    def invalid_argument(cls) -> Error:
        return cls(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")

    @classmethod
    def internal(cls) -> Error:
        return cls(500, "INTERNAL", "Internal error encountered.")

    @classmethod
    def unavailable(cls) -> Error:
        return cls(503, "UNAVAILABLE", "The service is currently unavailable.")

    @classmethod
    def daily_quota(cls) -> Error:
        return cls(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'Gemini 2.5 Pro Requests' and limit 'Gemini 2.5 Pro Requests per day per "
            "user per tier' of service 'cloudcode-pa.googleapis.com'.",
            (
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [
                        {
                            "quotaMetric": "cloudcode-pa.googleapis.com/gemini_pro_requests",
                            "quotaId": "GeminiProRequestsPerDayPerUserPerTier",
                        }
                    ],
                },
            ),
        )

    @classmethod
    def quota_exhausted(cls, after: str = "5h12m3s", seconds: float = 18723.0) -> Error:
        return cls(
            429,
            "RESOURCE_EXHAUSTED",
            f"You have exhausted your capacity on this model. Your quota will reset after {after}.",
            (_error_info("QUOTA_EXHAUSTED", uiMessage="true"), _retry_info(f"{seconds}s")),
        )

    @classmethod
    def rate_limited(cls, seconds: int = 2) -> Error:
        return cls(
            429,
            "RESOURCE_EXHAUSTED",
            f"You have exhausted your capacity on this model. Your quota will reset after {seconds}s.",
            (_error_info("RATE_LIMIT_EXCEEDED", uiMessage="true"), _retry_info(f"{seconds}s")),
        )

    @classmethod
    def no_capacity(cls, model: str = "gemini-2.5-pro") -> Error:
        return cls(
            429,
            "RESOURCE_EXHAUSTED",
            f"No capacity available for model {model} on the server",
            (_error_info("MODEL_CAPACITY_EXHAUSTED", model=model),),
        )

    @classmethod
    def exhausted_without_details(cls) -> Error:
        return cls(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")


Reply = Answer | FunctionCall | Error | Hang | Cut | Reset | Malformed | NoFinish | Empty | Safety | MaxTokens
Script = Reply | Callable[[Received], Reply]
"""A reply, or what finds it from the request; it runs in the stand-in's thread and must not block."""


# --- Whose account it is, and whether the login works ---------------------------------------------------------------


@dataclass(frozen=True)
class Ineligible:
    """Why a tier is closed to an account."""

    reason_code: str
    text: str
    tier: str = "free-tier"
    tier_name: str = "Gemini Code Assist for individuals"
    validation_url: str | None = None


@dataclass(frozen=True)
class Account:
    """What `loadCodeAssist` says of an account. Use the constructors; each is one row of our table of errors."""

    tier: str | None = "free-tier"
    """None: the account has no tier yet, and the CLI asks for onboarding."""
    tier_name: str = "Gemini Code Assist for individuals"
    project: str | None = PROJECT
    """The project that Google names of its own accord."""
    licensed_projects: frozenset[str] = frozenset()
    """The projects that a caller may name; any other is refused with 403."""
    ineligible_tiers: tuple[Ineligible, ...] = ()
    onboarding_tier: str | None = None
    onboarding_project: str | None = None
    onboarding_polls: int = 0
    """How often the CLI has to ask (every 5 s) before onboarding is done."""
    error: Error | None = None
    """Answered by loadCodeAssist instead of anything else."""

    @classmethod
    def free(cls) -> Account:
        return cls()

    @classmethod
    def licensed(cls, project: str = "my-work-project") -> Account:
        """A Standard licence that hangs on the caller's own project: nothing works without naming it."""
        return cls(
            tier="standard-tier",
            tier_name="Gemini Code Assist Standard",
            project=None,
            licensed_projects=frozenset({project}),
        )

    @classmethod
    def ineligible(
        cls, reason_code: str = "UNSUPPORTED_CLIENT", text: str | None = None, *, tier: str | None = None
    ) -> Account:
        """Google will not serve the account. With `tier`, a current tier is named all the same."""
        texts = {
            "UNSUPPORTED_CLIENT": UNSUPPORTED_CLIENT_TEXT,
            "UNSUPPORTED_LOCATION": "Your current account is not eligible for Gemini Code Assist for individuals "
            "because it is not currently available in your location.",
            "RESTRICTED_AGE": "Your current account is not eligible for Gemini Code Assist for individuals "
            "because you must be 18 or older.",
        }
        reason = Ineligible(
            reason_code, text or texts.get(reason_code, f"Your account is not eligible: {reason_code}.")
        )
        return cls(tier=tier, project=None, ineligible_tiers=(reason,), onboarding_tier="standard-tier")

    @classmethod
    def validation_required(cls) -> Account:
        reason = Ineligible(
            "VALIDATION_REQUIRED",
            "Verify your account to continue.",
            validation_url="https://accounts.google.com/signin/continue?made-up",
        )
        return cls(tier=None, project=None, ineligible_tiers=(reason,))

    @classmethod
    def failing(cls, error: Error) -> Account:
        return cls(error=error)

    @classmethod
    def onboarding(cls, *, project: str = PROJECT, polls: int = 0) -> Account:
        """A new account. Once onboarded, it is one of the free tier."""
        return cls(
            tier=None,
            project=None,
            onboarding_tier="free-tier",
            onboarding_project=project,
            onboarding_polls=polls,
        )


@dataclass
class OAuth:
    """How Google's OAuth behaves; may be changed at any time."""

    token: Literal["ok", "invalid_grant", "invalid_rapt", "error500", "unreachable", "hang"] = "ok"
    """`unreachable`: the proxy drops whoever wants oauth2.googleapis.com, tokeninfo included."""
    tokeninfo: Literal["ok", "invalid_token", "error500", "hang"] = "ok"
    rejected: set[str] = field(default_factory=set[str])
    """Access tokens (401, invalid_token) and refresh tokens (invalid_grant) that no longer work."""
    codes: set[str] = field(default_factory=set[str])
    """Authorization codes that are accepted, once each."""
    challenges: dict[str, str] = field(default_factory=dict[str, str])
    """By code: the PKCE challenge of the link that it was given out for. A code without one is not checked."""
    issued: list[str] = field(default_factory=list[str])
    """Access tokens handed out, in order."""
    refreshes: int = 0
    logins: int = 0
    lifetime_s: int = 3599
    email: str = "somebody@example.invalid"

    def authorize(self, url: str) -> str:
        """What a person gets who opens `url`, signs in and agrees: the code to paste, good for this link and once."""
        address = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        assert (address.scheme, address.netloc) == ("https", "accounts.google.com"), url
        assert asked["redirect_uri"] == "https://codeassist.google.com/authcode", url
        assert (asked["response_type"], asked["access_type"]) == ("code", "offline"), url
        assert asked["code_challenge_method"] == "S256", url
        code = f"4/0Made-up{secrets.token_urlsafe(40)}"
        self.codes.add(code)
        self.challenges[code] = asked["code_challenge"]
        return code


def made_up(kind: str) -> str:
    """A token that is nobody's."""
    return f"made-up-{kind}-{secrets.token_hex(8)}"


def write_login(
    folder: Path,
    *,
    access_token: str | None = None,
    refresh_token: str | None = None,
    expires_in_s: float = 3600,
    without: Collection[str] = (),
    **changes: Any,
) -> Path:
    """Write a made-up login into `folder` (a `.gemini`) as the CLI does; `changes` are fields, `without` names some."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    login: dict[str, Any] = {
        "access_token": access_token or made_up("access"),
        "scope": _SCOPE,
        "token_type": "Bearer",
        "id_token": "made-up.id.token",
        "expiry_date": int((time.time() + expires_in_s) * 1000),
        "refresh_token": refresh_token or made_up("refresh"),
    }
    login.update(changes)
    path = folder / "oauth_creds.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({name: value for name, value in login.items() if name not in without}, file)
    return path


# --- Reading what arrived -------------------------------------------------------------------------------------------


def all_texts(received: Received) -> list[tuple[str, list[str]]]:
    """The whole conversation: role and text parts of each content. Parts without text are left out."""
    contents = cast("list[dict[str, Any]]", received.json["request"].get("contents") or [])
    return [(str(content.get("role", "")), _texts(content)) for content in contents]


def all_data(received: Received) -> list[tuple[str, bytes]]:
    """The type and content of each part that is data, in the order of the whole conversation."""
    contents = cast("list[dict[str, Any]]", received.json["request"].get("contents") or [])
    parts = [part for content in contents for part in cast("list[dict[str, Any]]", content.get("parts") or [])]
    held = [cast("dict[str, str]", part["inlineData"]) for part in parts if "inlineData" in part]
    return [(data["mimeType"], base64.b64decode(data["data"])) for data in held]


def prompt_texts(received: Received) -> list[str]:
    """The text parts of the last user content, verbatim, one per part."""
    of_the_user = [texts for role, texts in all_texts(received) if role == "user"]
    return of_the_user[-1] if of_the_user else []


def system_text(received: Received) -> str:
    """The system instruction; empty if there is none."""
    instruction = received.json["request"].get("systemInstruction")
    return "".join(_texts(cast("dict[str, Any]", instruction))) if instruction else ""


def function_responses(received: Received) -> list[dict[str, Any]]:
    """What the CLI answered to function calls, in the whole conversation."""
    contents = cast("list[dict[str, Any]]", received.json["request"].get("contents") or [])
    parts = [part for content in contents for part in cast("list[dict[str, Any]]", content.get("parts") or [])]
    return [part["functionResponse"] for part in parts if "functionResponse" in part]


def _texts(content: dict[str, Any]) -> list[str]:
    parts = cast("list[dict[str, Any]]", content.get("parts") or [])
    return [str(part["text"]) for part in parts if "text" in part]


# --- The stand-in ---------------------------------------------------------------------------------------------------

_SCOPE = (
    "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/userinfo.email "
    "https://www.googleapis.com/auth/userinfo.profile openid"
)
_STREAM = "/v1internal:streamGenerateContent"
_WHOLE = "/v1internal:generateContent"
_OPERATION = "operations/stand-in-onboarding"
_MODELS = ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3-pro-preview", "gemini-3-flash-preview")


class GoogleUpstream:
    """Code Assist, OAuth and the proxy, from `start` to `stop`; a context manager. Writes its CA below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.default: Script = Answer("Hello from the stand-in of Gemini.")
        self.account = Account.free()
        self.oauth = OAuth()
        self.surprises: list[str] = []
        """What arrived at any of the three that was not expected."""
        self.hold_quota_from: int | None = None
        """From this retrieveUserQuota on (1 is the first) none is answered until this is None. A start of the CLI sends
        2, and waits for them; each new session sends 1."""
        self._quotas_asked = 0
        self._scripts: deque[Script] = deque()
        self._polls_left = 0
        authority = trustme.CA()
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "google-ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*OAUTH_HOSTS).configure_cert(tls)  # pyright: ignore[reportUnknownMemberType] -- optional pyOpenSSL
        self._code_assist = LoopbackServer(self._answer_code_assist)
        self._oauth_server = LoopbackServer(self._answer_oauth, tls=tls)
        self._code_assist.surprises = self._oauth_server.surprises = self.surprises
        self._proxy = ConnectProxy(self._tunnel_to, self._surprise)

    def start(self) -> Self:
        self._code_assist.start()
        self._oauth_server.start()
        self._proxy.start()
        return self

    def stop(self) -> None:
        self._proxy.stop()
        self._oauth_server.stop()
        self._code_assist.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of Code Assist."""
        return self._code_assist.url

    @property
    def proxy_url(self) -> str:
        return f"http://127.0.0.1:{self._proxy.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a CLI (or a hub that starts one) needs, to find the stand-in and nothing else."""
        return {
            "CODE_ASSIST_ENDPOINT": self.url,
            "HTTPS_PROXY": self.proxy_url,
            "NO_PROXY": "127.0.0.1,localhost",
            "NODE_EXTRA_CA_CERTS": str(self.ca_file),
        }

    @property
    def received(self) -> list[Received]:
        """What arrived at Code Assist."""
        return list(self._code_assist.received)

    @property
    def oauth_received(self) -> list[Received]:
        return list(self._oauth_server.received)

    @property
    def generations(self) -> list[Received]:
        """Only the requests that would cost quota."""
        return [request for request in self.received if request.path in (_STREAM, _WHOLE)]

    @property
    def open(self) -> list[Received]:
        """Requests that are being answered right now, at Code Assist or at OAuth."""
        return self._code_assist.open + self._oauth_server.open

    def script(self, *replies: Script) -> None:
        """Line up replies, one for each coming streamGenerateContent; after them `default` answers."""
        self._scripts.extend(replies)

    @property
    def unused(self) -> int:
        """How many scripted replies nobody asked for yet."""
        return len(self._scripts)

    def clear(self) -> None:
        """Forget what arrived and what is scripted, and be as in the beginning."""
        self._scripts.clear()
        self.default = Answer("Hello from the stand-in of Gemini.")
        self.account = Account.free()
        self.oauth = OAuth()
        self.hold_quota_from = None
        self._quotas_asked = 0
        self._code_assist.received.clear()
        self._oauth_server.received.clear()
        self.surprises.clear()

    def wait_until(self, happened: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Block until `happened()`; it is looked at whenever Code Assist or the proxy saw something."""
        self._code_assist.wait_until(happened, timeout=timeout)

    def wait_for_generations(self, count: int, *, timeout: float = 30.0) -> list[Received]:
        self._code_assist.wait_until(lambda: len(self.generations) >= count, timeout=timeout)
        return self.generations

    def wait_for_oauth(self, path: str, *, count: int = 1, timeout: float = 30.0) -> list[Received]:
        """Block until OAuth got `count` requests for `path`."""

        def arrived() -> list[Received]:
            return [request for request in self.oauth_received if request.path == path]

        self._oauth_server.wait_until(lambda: len(arrived()) >= count, timeout=timeout)
        return arrived()

    def wait_until_quiet(self, *, timeout: float = 30.0) -> None:
        """Block until nothing is being answered."""
        until = time.monotonic() + timeout
        self._code_assist.wait_until_quiet(timeout=timeout)
        self._oauth_server.wait_until_quiet(timeout=max(0.0, until - time.monotonic()))

    def _surprise(self, what: str) -> None:
        self.surprises.append(what)
        self._code_assist.changed()

    def _refuse(self, received: Received, why: str, status: int = 400, status_name: str = "FAILED_PRECONDITION"):
        self._surprise(f"{received.method} {received.host}{received.path}: {why}")
        return _say(Error(status, status_name, f"stand-in: {why}"))

    # Code Assist

    async def _answer_code_assist(self, request: web.Request, received: Received) -> web.StreamResponse:
        if received.host.partition(":")[0] not in ("127.0.0.1", "localhost"):
            return self._refuse(received, "unknown host", 404, "NOT_FOUND")
        if "x-goog-api-key" in received.headers or "key" in received.query:
            return self._refuse(received, "an API key, where only a login may be used")
        token = _bearer(received)
        if token is None:
            return self._refuse(received, "no bearer token", 401, "UNAUTHENTICATED")
        if token in self.oauth.rejected:
            return _say(Error.unauthenticated())
        if received.method == "GET" and received.path == f"/v1internal/{_OPERATION}":
            return self._onboarding()
        if received.method != "POST":
            return self._refuse(received, "unknown method", 404, "NOT_FOUND")
        try:
            body = cast("dict[str, Any]", received.json)
        except ValueError:
            return self._refuse(received, "the body is not JSON")
        match received.path:
            case "/v1internal:loadCodeAssist":
                return self._load_code_assist(body)
            case "/v1internal:onboardUser":
                return self._onboard_user(body)
            case "/v1internal:retrieveUserQuota":
                self._quotas_asked += 1
                await self._quota_is_free(self._quotas_asked)
                return web.json_response({"buckets": [_bucket(model) for model in _MODELS]})
            case "/v1internal:listExperiments":
                return web.json_response({"experimentIds": [], "flags": []})
            case "/v1internal:fetchAdminControls" | "/v1internal:recordCodeAssistMetrics":
                return web.json_response({})
            case "/v1internal:countTokens":
                return web.json_response({"totalTokens": max(1, len(received.body) // 4)})
            case path if path in (_STREAM, _WHOLE):
                return await self._generate(request, received, body)
            case _:
                return self._refuse(received, "unknown path", 404, "NOT_FOUND")

    async def _quota_is_free(self, number: int) -> None:
        while self.hold_quota_from is not None and number >= self.hold_quota_from:
            # Looked at again and again, for a thread that waits could not be cancelled when the caller hangs up.
            await asyncio.sleep(0.005)

    def _load_code_assist(self, body: dict[str, Any]) -> web.Response:
        account = self.account
        if account.error is not None:
            return _say(account.error)
        asked: str | None = body.get("cloudaicompanionProject")
        if asked is not None and account.licensed_projects and asked not in account.licensed_projects:
            return _say(_no_licence(asked))
        answer: dict[str, Any] = {"allowedTiers": _allowed_tiers(account)}
        if account.tier is not None:
            answer["currentTier"] = {"id": account.tier, "name": account.tier_name}
        project = account.project or (asked if asked in account.licensed_projects else None)
        if project is not None:
            answer["cloudaicompanionProject"] = project
        if account.ineligible_tiers:
            answer["ineligibleTiers"] = [_ineligible_tier(reason) for reason in account.ineligible_tiers]
        return web.json_response(answer)

    def _onboard_user(self, body: dict[str, Any]) -> web.Response:
        asked: str | None = body.get("cloudaicompanionProject")
        if asked is not None and asked not in self.account.licensed_projects:
            return _say(_no_licence(asked))
        self._polls_left = self.account.onboarding_polls
        if self._polls_left:
            return web.json_response({"name": _OPERATION, "done": False})
        return self._onboarding()

    def _onboarding(self) -> web.Response:
        self._polls_left -= 1
        if self._polls_left > 0:
            return web.json_response({"name": _OPERATION, "done": False})
        account = self.account
        if account.onboarding_project is None:
            return web.json_response({"name": _OPERATION, "done": True, "response": {}})
        # From now on the account has its tier, as at Google; a later session is not onboarded again.
        self.account = replace(account, tier=account.onboarding_tier, project=account.onboarding_project)
        project = {
            "id": account.onboarding_project,
            "name": account.onboarding_project,
            "projectNumber": "100000000001",
        }
        return web.json_response(
            {"name": _OPERATION, "done": True, "response": {"cloudaicompanionProject": project}},
        )

    async def _generate(self, request: web.Request, received: Received, body: dict[str, Any]) -> web.StreamResponse:
        streaming = received.path == _STREAM
        if streaming and received.query != {"alt": "sse"}:
            return self._refuse(received, f"unexpected query {received.query}")
        inner: Any = body.get("request")
        if not body.get("model") or not isinstance(inner, dict) or not cast("dict[str, Any]", inner).get("contents"):
            return self._refuse(received, "no model or no contents")
        account = self.account
        if body.get("project") not in {account.project, *account.licensed_projects} - {None}:
            return self._refuse(received, f"a project that is not the account's: {body.get('project')}", 403)
        script = self._scripts.popleft() if streaming and self._scripts else self.default
        try:
            reply = script(received) if callable(script) else script
        except Exception as error:  # whatever the test raised, the test is to see it
            return self._refuse(received, f"the test's own script failed: {error!r}", 500, "INTERNAL")
        self._code_assist.changed()  # by what the script has noted
        return await _Stream(request, str(body["model"]), streaming).send(reply)

    # OAuth

    def _tunnel_to(self, target: str) -> int | Literal["drop"] | None:
        host, _, port = target.rpartition(":")
        if host not in OAUTH_HOSTS or port != "443":
            return None
        if host == "oauth2.googleapis.com" and self.oauth.token == "unreachable":
            return "drop"
        return self._oauth_server.port

    async def _answer_oauth(self, request: web.Request, received: Received) -> web.StreamResponse:
        match received.method, received.host.partition(":")[0], received.path:
            case "POST", "oauth2.googleapis.com", "/token":
                return await self._token(request, received)
            case "POST" | "GET", "oauth2.googleapis.com", "/tokeninfo":
                return await self._tokeninfo(request, received)
            case "GET", "www.googleapis.com", "/oauth2/v2/userinfo":
                if (_bearer(received) or "") in {"", *self.oauth.rejected}:
                    return _say(Error.unauthenticated())
                return web.json_response(
                    {"id": "100000000000000000001", "email": self.oauth.email, "verified_email": True},
                )
            case _:
                return self._refuse(received, "unknown path", 404, "NOT_FOUND")

    async def _token(self, request: web.Request, received: Received) -> web.StreamResponse:
        oauth = self.oauth
        form = dict(parse_qsl(received.body.decode()))
        grant = form.get("grant_type")
        if grant not in ("refresh_token", "authorization_code") or not form.get("client_id"):
            return self._refuse(received, f"unexpected grant {grant} of {form.get('client_id')}")
        refused = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        match oauth.token:
            case "unreachable":  # over a tunnel that was open before
                return _drop(request)
            case "hang":  # until it is told otherwise
                while oauth.token == "hang":
                    await asyncio.sleep(0.02)
            case "error500":
                return web.json_response(
                    {"error": "internal_failure", "error_description": "Backend Error"}, status=500
                )
            case "invalid_grant":
                return web.json_response(refused, status=400)
            case "invalid_rapt":
                reauth = {
                    "error": "invalid_grant",
                    "error_description": "reauth related error (invalid_rapt)",
                    "error_uri": "https://support.google.com/a/answer/9368756",
                    "error_subtype": "invalid_rapt",
                }
                return web.json_response(reauth, status=400)
            case "ok":
                pass
        answer: dict[str, Any] = {
            "access_token": made_up("access"),
            "expires_in": oauth.lifetime_s,
            "scope": _SCOPE,
            "token_type": "Bearer",
            "id_token": "made-up.id.token",
        }
        if grant == "refresh_token":
            if not form.get("refresh_token") or form["refresh_token"] in oauth.rejected:
                return web.json_response(refused, status=400)
            oauth.refreshes += 1
        else:
            if not form.get("code_verifier") or not form.get("redirect_uri"):
                return self._refuse(received, "a login without PKCE or without redirect_uri")
            if form.get("code") not in oauth.codes:
                return web.json_response(
                    {"error": "invalid_grant", "error_description": "Malformed auth code."}, status=400
                )
            verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
            if oauth.challenges.get(form["code"], challenge) != challenge:
                return web.json_response(
                    {"error": "invalid_grant", "error_description": "Invalid code verifier."}, status=400
                )
            oauth.codes.discard(form["code"])
            oauth.logins += 1
            answer["refresh_token"] = made_up("refresh")
        oauth.issued.append(answer["access_token"])
        return web.json_response(answer)

    async def _tokeninfo(self, request: web.Request, received: Received) -> web.StreamResponse:
        oauth = self.oauth
        form = dict(parse_qsl(received.body.decode()))
        token = _bearer(received) or form.get("access_token") or received.query.get("access_token")
        if oauth.token == "unreachable":
            return _drop(request)
        if oauth.tokeninfo == "hang":
            return await _for_ever()
        if oauth.tokeninfo == "error500":
            return web.json_response({"error": "internal_failure", "error_description": "Backend Error"}, status=500)
        if oauth.tokeninfo == "invalid_token" or not token or token in oauth.rejected:
            return web.json_response({"error": "invalid_token", "error_description": "Invalid Value"}, status=400)
        return web.json_response(
            {
                "azp": "stand-in.apps.googleusercontent.com",
                "aud": "stand-in.apps.googleusercontent.com",
                "scope": _SCOPE,
                "expires_in": str(oauth.lifetime_s),
                "email": oauth.email,
                "email_verified": "true",
                "access_type": "offline",
            }
        )


class _Stream:
    """One generation on its way out: frames of server-sent events, or one JSON body."""

    def __init__(self, request: web.Request, model: str, streaming: bool) -> None:
        self._request = request
        self._model = model
        self._streaming = streaming
        self._trace = uuid.uuid4().hex
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})

    async def send(self, reply: Reply) -> web.StreamResponse:
        match reply:
            case Error():
                return _say(reply)
            case Reset():
                return _drop(self._request, reset=True)
            case Hang("", True):
                return await _for_ever()
            case Answer():
                return await self._answer(reply)
            case FunctionCall():
                call = {"functionCall": {"name": reply.name, "args": reply.args}}
                return await self._finish([call], Answer())
            case Empty():
                return await self._finish([], Answer(output_tokens=0))
            case Safety():
                return await self._finish([], Answer(finish_reason="SAFETY", output_tokens=0))
            case MaxTokens():
                return await self._answer(Answer(reply.text, finish_reason="MAX_TOKENS"))
            case NoFinish():
                await self._text(reply.text)
            case Hang():
                await self._text(reply.after_text)
                return await _for_ever()
            case Cut():
                await self._text(reply.after_text)
                # Closing now leaves out the last chunk of the body: the caller sees an end too early.
                if self._request.transport is not None:
                    self._request.transport.close()
            case Malformed():
                await self._text(reply.after_text)
                await self._write(b'data: {"response": {"candidates": [{"cont\r\n\r\n')
        return self._response

    async def _answer(self, answer: Answer) -> web.StreamResponse:
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        pieces = answer.pieces or [""]
        if not self._streaming:
            pieces = ["".join(pieces)]
        before_the_gate = min(answer.gate_after, len(pieces) - 1)
        if not before_the_gate:
            await _opened(answer.gate)
        if answer.thought and self._streaming:
            await self._frame([{"text": answer.thought, "thought": True}])
        for number, piece in enumerate(pieces[:-1], 1):
            await self._frame([{"text": piece}])
            if number == before_the_gate:
                await _opened(answer.gate)
            if answer.chunk_delay_s:
                await asyncio.sleep(answer.chunk_delay_s)
        return await self._finish([{"text": pieces[-1]}], answer)

    async def _finish(self, parts: Sequence[dict[str, Any]], answer: Answer) -> web.StreamResponse:
        """The last frame: reason and usage, and whatever is left to say."""
        candidate: dict[str, Any] = {}
        if parts:
            candidate["content"] = {"role": "model", "parts": list(parts)}
        if answer.finish_reason is not None:
            candidate["finishReason"] = answer.finish_reason
        usage = {
            "promptTokenCount": answer.prompt_tokens,
            "candidatesTokenCount": answer.output_tokens,
            "totalTokenCount": answer.prompt_tokens + answer.output_tokens + answer.thoughts_tokens,
        }
        if answer.thoughts_tokens:
            usage["thoughtsTokenCount"] = answer.thoughts_tokens
        if answer.cached_tokens:
            usage["cachedContentTokenCount"] = answer.cached_tokens
        body = {
            "response": {
                "candidates": [candidate],
                "usageMetadata": usage,
                "modelVersion": answer.model_version or self._model,
                "responseId": self._trace[:16],
            },
            "traceId": self._trace,
        }
        if not self._streaming:
            return web.json_response(body)
        await self._write(_event(body))
        await self._response.write_eof()
        return self._response

    async def _text(self, text: str) -> None:
        if text:
            await self._frame([{"text": text}])
        else:
            await self._write(b"")

    async def _frame(self, parts: Sequence[dict[str, Any]]) -> None:
        candidate = {"content": {"role": "model", "parts": list(parts)}}
        response = {"candidates": [candidate], "modelVersion": self._model, "responseId": self._trace[:16]}
        await self._write(_event({"response": response, "traceId": self._trace}))

    async def _write(self, data: bytes) -> None:
        if not self._response.prepared:
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._request)
        if data:
            await self._response.write(data)


async def _opened(gate: threading.Event | None) -> None:
    while gate is not None and not gate.is_set():
        # Looked at again and again, for a thread that waits could not be cancelled when the caller hangs up.
        await asyncio.sleep(0.005)


def _say(error: Error) -> web.Response:
    # Indented, as Google's APIs send it: where the CLI passes a body on as its message, the lines come with it.
    text = json.dumps(error.body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=error.status, content_type="application/json")


async def _for_ever() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable: the handler is cancelled when the caller hangs up")


def _bearer(received: Received) -> str | None:
    scheme, _, token = received.headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


def _drop(request: web.Request, *, reset: bool = False) -> web.Response:
    """Hang up without an answer; what is returned is never sent."""
    transport = request.transport
    if transport is not None:
        if reset:
            raw: socket.socket | None = transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _event(body: dict[str, Any]) -> bytes:
    # As UTF-8 and not as escapes, like Google; what UTF-8 cannot say (half a surrogate pair) goes as an escape.
    try:
        said = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        said = json.dumps(body).encode()
    return b"data: " + said + b"\r\n\r\n"


def _bucket(model: str) -> dict[str, Any]:
    reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    return {
        "modelId": model,
        "tokenType": "REQUESTS",
        "remainingFraction": 0.99,
        "remainingAmount": "990",
        "resetTime": reset,
    }


def _no_licence(project: str) -> Error:
    return Error(403, "PERMISSION_DENIED", f"Permission denied on resource project {project}.")


def _allowed_tiers(account: Account) -> list[dict[str, Any]]:
    tier = account.onboarding_tier or account.tier
    if tier is None:
        return []
    own_project = tier != "free-tier"
    return [{"id": tier, "name": tier, "isDefault": True, "userDefinedCloudaicompanionProject": own_project}]


def _ineligible_tier(reason: Ineligible) -> dict[str, Any]:
    answer = {
        "reasonCode": reason.reason_code,
        "reasonMessage": reason.text,
        "tierId": reason.tier,
        "tierName": reason.tier_name,
    }
    if reason.validation_url is not None:
        answer["validationUrl"] = reason.validation_url
    return answer
