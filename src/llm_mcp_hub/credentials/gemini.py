"""Gemini's credential: the owner's Google login in `oauth_creds.json`. Read, copied, never written.

The file's clock (`expiry_date`, milliseconds) is the access token's, which the CLI renews itself every hour. The login
itself has no date: `days_remaining` is null.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from llm_mcp_hub.credentials.status import Credential, Evidence, State, TokenStatus, mark, utc
from llm_mcp_hub.errors import AuthExpired, AuthMissing, BillingBlocked, HubError, Misconfigured

NAME = "gemini"
LOG_IN = "Run `gemini`, choose Login with Google, and keep GEMINI_AUTH_PATH at the file it writes."
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A login that may be used: the file's content, a mark of its refresh token, and the access token's end."""

    content: bytes
    mark: str
    access_expires_at: datetime | None


class GeminiCredentials:
    """Reads the file at every question anew."""

    def __init__(self, *, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def login(self) -> Found:
        """The login for an ask. Raises AuthMissing, AuthExpired, BillingBlocked or Misconfigured."""
        content = self._content()
        try:
            held = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Misconfigured(
                f"The Google login file {self._path} is no JSON; it may have been cut off while it was written.",
                action=LOG_IN,
                provider=NAME,
            ) from error
        if not isinstance(held, dict):
            raise self._not_a_login()
        login = cast("dict[str, Any]", held)
        if login.get("type") not in (None, "authorized_user"):
            raise BillingBlocked(
                f"{self._path} holds a cloud account's key, not a person's login: calls would be paid by that account, "
                "so nothing was sent.",
                action=LOG_IN,
                provider=NAME,
            )
        refresh, access = (
            token if isinstance(token := login.get(name), str) else None for name in ("refresh_token", "access_token")
        )
        if refresh is None and access is None:
            raise self._not_a_login()
        ends = login.get("expiry_date")
        try:
            expires = datetime.fromtimestamp(ends / 1000, UTC) if isinstance(ends, int | float) and ends else None
        except (OverflowError, ValueError, OSError):
            expires = None
        if not refresh and (not access or (expires is not None and expires <= self._now())):
            raise AuthExpired(
                "The Google login has ended and holds nothing to renew it with.", action=LOG_IN, provider=NAME
            )
        return Found(content, mark(str(refresh or access)), expires)

    def mark(self) -> str:
        """The login's name in the store; empty where there is none that may be used."""
        try:
            return self.login().mark
        except HubError:
            return ""

    def status(self) -> TokenStatus:
        """What is known of the login without using it."""
        now = self._now()
        try:
            found = self.login()
        except HubError as error:
            states: dict[str, State] = {"auth_missing": "missing", "auth_expired": "expired"}
            return TokenStatus(
                status=states.get(error.code, "misconfigured"),
                usable=False,
                expires_at=None,
                days_remaining=0 if error.code == "auth_expired" else None,
                message=error.message,
                action=error.action,
                expires_source="none",
                credential=None if error.code == "auth_missing" else Credential(kind="login", source="file"),
                evidence=None
                if error.code == "auth_missing"
                else Evidence(level="present", source=str(self._path), observed_at=utc(now)),
            )
        access = utc(found.access_expires_at) if found.access_expires_at else None
        return TokenStatus(
            status="valid",
            usable=True,
            expires_at=None,
            days_remaining=None,
            message="A Google login is there and nothing is known against it. It has no date of its own: its access "
            "token renews itself, the login lasts until it is revoked.",
            action="",
            expires_source="none",
            credential=Credential(kind="login", source="file", access_expires_at=access),
            evidence=Evidence(level="clock" if access else "well_formed", source=str(self._path), observed_at=utc(now)),
        )

    def _content(self) -> bytes:
        path = self._path
        try:
            if path.is_dir():
                raise Misconfigured(
                    f"{path} is a folder: a container mounted it before the file existed.",
                    action=f"Remove the folder, log in with `gemini`, then mount {path.parent} again.",
                    provider=NAME,
                )
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except FileNotFoundError as error:
            if (path.parent / "gemini-credentials.json").exists():
                raise Misconfigured(
                    "The Google login is in the CLI's encrypted store, which only works under the same user and host "
                    "name; the hub needs the plain file.",
                    action="Unset GEMINI_FORCE_ENCRYPTED_FILE_STORAGE and log in again with `gemini`.",
                    provider=NAME,
                ) from error
            raise AuthMissing(f"There is no Google login at {path}.", action=LOG_IN, provider=NAME) from error
        except NotADirectoryError as error:
            raise AuthMissing(f"There is no Google login at {path}.", action=LOG_IN, provider=NAME) from error
        except OSError as error:
            raise Misconfigured(
                f"The Google login file {path} cannot be read ({error.strerror}).",
                action=f"Let this user read it: chmod u+r {path}, or run the hub as its owner.",
                provider=NAME,
            ) from error
        if len(content) > LARGEST:
            raise self._not_a_login()
        return content

    def _not_a_login(self) -> Misconfigured:
        return Misconfigured(
            f"{self._path} is not a login of the Gemini CLI (refresh_token and access_token are missing).",
            action=LOG_IN,
            provider=NAME,
        )
