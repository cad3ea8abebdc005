"""Claude's credentials: the setup-token that asks use, and Claude Code's own login, which is only reported.

A setup-token (`claude setup-token`) is opaque, lives one year, and is printed once; its clock is the operator's or the
hub's own, never the token's. Claude Code's own login is never used: its refresh token is single-use, so a copy or a
race would log the owner out.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.saved import SavedLogins
from llm_mcp_hub.credentials.status import Credential, local, mark, utc
from llm_mcp_hub.errors import AuthMissing, BillingBlocked, HubError, Misconfigured

NAME = "claude"
LIFETIME = timedelta(days=365)
"""What `claude setup-token` asks for: 31,536,000 s."""
PREFIX = "sk-ant-oat01-"
SHORTEST = 85
"""Characters. A token copied from a terminal of 80 columns is cut to 79 or 80; a whole one has more than 90."""
GET_ONE = "Run `llm-mcp-hub login claude`."
A_DAY = timedelta(hours=36)
"""How much later than midnight UTC of a day something of that day may be, wherever on earth it was."""
KEYCHAIN_ITEM = "Claude Code-credentials"
KEYCHAIN_S = 2.0
KEYCHAIN_AGAIN_S = 60.0
"""How long what was found there is taken to be there: to look is to start a program."""

_FORM = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"\s+")


def checked(raw: str, where: str = "CLAUDE_CODE_OAUTH_TOKEN") -> str:
    """The token without the white space that terminals and editors put inside. Raises HubError when it is none."""
    token = _SPACE.sub("", raw).strip("\"'")
    mend = f"Unset {where}, then run `llm-mcp-hub login claude`." if where.isupper() else GET_ONE
    if "sk-ant-api" in token:  # also behind a token: a file may hold both
        raise BillingBlocked(
            f"{where} holds an API key; API keys bill by use, so nothing was sent.", action=mend, provider=NAME
        )
    if not token.startswith(PREFIX) or not _FORM.fullmatch(token):
        raise Misconfigured(
            f"{where} does not hold a setup-token (those begin with {PREFIX}).", action=mend, provider=NAME
        )
    if len(token) < SHORTEST:
        raise Misconfigured(
            f"The token in {where} is cut off ({len(token)} characters): terminals wrap it.",
            action="Copy the whole token again, over all its lines.",
            provider=NAME,
        )
    return token


class ClaudeCredentials:
    """Reads what there is, at every question anew."""

    newest_first = False

    def __init__(
        self,
        *,
        token: Callable[[], str | None],
        where: str = "CLAUDE_CODE_OAUTH_TOKEN",
        issued_at: datetime | None,
        own_login: Path,
        saved: SavedLogins,
        now: Callable[[], datetime],
        system: str | None = None,
        machine: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            token: the variable's value as it is now, None when unset. Raises HubError where its file cannot be read.
            where: the variable's name, the one of its file if it has one.
            issued_at: when the operator says that token was made; at midnight for a day without an hour.
            own_login: Claude Code's own credentials file, only reported.
            saved: the hub's own copies; the one called `claude` holds a token that `login` has made.
            now: the clock.
            system: the platform's name; this machine's by default.
            machine: raises HubError where this machine lets no token be used.
        """
        self._token = token
        self._where = where
        self._issued_at = issued_at
        self._own_login = own_login
        self._saved = saved
        self._now = now
        self._system = system or platform.system()
        self._machine = machine
        self._keychain: tuple[bool, datetime] | None = None

    def held(self) -> Sequence[Held]:
        """The variable's token, the saved one, or what says that there is none."""
        found: list[Held] = []
        source: Literal["env", "file"] = "file" if self._where.endswith("_FILE") else "env"
        try:
            raw = self._token()
        except HubError as error:
            found.append(self._broken(error, Credential(kind="setup_token", source=source), self._where))
        else:
            if raw:
                slack = A_DAY if self._issued_at and _is_midnight(self._issued_at) else timedelta(0)
                issued = None if self._issued_at is None else (self._issued_at, slack)
                found.append(self._read(raw, Credential(kind="setup_token", source=source), self._where, issued))
        saved = self._saved.get(NAME)
        if saved is not None:
            issued = None if saved.issued_at is None else (saved.issued_at, timedelta(0))
            place = str(self._saved.path(NAME))
            found.append(self._read(saved.content, Credential(kind="setup_token", source="saved"), place, issued))
        return found or [self._missing()]

    def _read(self, raw: str, credential: Credential, source: str, issued: tuple[datetime, timedelta] | None) -> Held:
        try:
            token = checked(raw, self._where if credential.source != "saved" else "The saved login")
            self._machine()
        except HubError as error:
            return self._broken(error, credential, source)
        return Held(
            name="The setup-token",
            credential=credential,
            source=source,
            renew=GET_ONE,
            secret=token,
            mark=mark(token),
            lifetime=LIFETIME,
            issued=issued,
            issued_by="CLAUDE_TOKEN_ISSUED_AT" if credential.source != "saved" else "ledger",
            undated=(
                "A setup-token is there. It lives one year, and does not tell from when.",
                "Set CLAUDE_TOKEN_ISSUED_AT to the day it was made, for a warning before it ends.",
            ),
        )

    def _broken(self, error: HubError, credential: Credential, source: str) -> Held:
        # Firm where the operator has set it: a setting that is passed over in silence would never be mended.
        firm = credential.source != "saved"
        return Held("The setup-token", credential, source, GET_ONE, problem=error, level="present", firm=firm)

    def _missing(self) -> Held:
        own = self._own()
        message, credential = "There is no Claude token for the hub.", None
        message += " One that a shell exports does not reach a hub that Claude Code starts."
        if own is not None:
            credential, ends = own
            message += " Claude Code's own login is on this machine; the hub reports it and never uses it, because a "
            message += "second user of its single-use refresh token would log its owner out."
            if ends is not None:
                message += f" That login ends {local(self._now(), ends)}."
        source = str(self._own_login) if credential and credential.source == "file" else "keychain"
        problem = AuthMissing(message, action=GET_ONE, provider=NAME)
        return Held("The setup-token", credential, source, GET_ONE, problem=problem, level="present")

    def _own(self) -> tuple[Credential, datetime | None] | None:
        """Claude Code's own login, and when it ends; None where there is none."""
        try:
            held = json.loads(self._own_login.read_text("utf-8"))
            login = cast("dict[str, Any]", held["claudeAiOauth"])
            if login.get("accessToken"):  # else it was blanked by the CLI after a refused refresh
                access, ends = _moment(login.get("expiresAt")), _moment(login.get("refreshTokenExpiresAt"))
                shown = utc(access) if access is not None else None
                return Credential(kind="login", source="file", access_expires_at=shown), ends
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        return (Credential(kind="login", source="keychain"), None) if self._in_keychain() else None

    def _in_keychain(self) -> bool:
        """Whether macOS keeps Claude Code's login. To read it would make the system ask the user, so it stays there."""
        if self._system != "Darwin":
            return False
        now = self._now()
        if self._keychain is None or not 0 <= (now - self._keychain[1]).total_seconds() < KEYCHAIN_AGAIN_S:
            self._keychain = self._look_in_keychain(), now
        return self._keychain[0]

    def _look_in_keychain(self) -> bool:
        try:
            found = subprocess.run(
                ["security", "find-generic-password", "-s", KEYCHAIN_ITEM],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=KEYCHAIN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return found.returncode == 0


def _moment(milliseconds: object) -> datetime | None:
    """A moment of Claude Code's file, which counts in milliseconds."""
    try:
        number = milliseconds if isinstance(milliseconds, int | float) and milliseconds else None
        moment = None if number is None else datetime.fromtimestamp(number / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment if moment is not None and 1970 <= moment.year < 9000 else None  # no zone can show the last year's end


def _is_midnight(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
