"""Gemini's credential: a Google login as the Gemini CLI writes it. The owner's file is read, copied, never written.

The file's clock (`expiry_date`, milliseconds) is the access token's, which the CLI renews itself every hour. The login
itself has no date. Two logins may be there: the owner's file, and the one that `login` has made. And the hub keeps two
copies of its own: of the owner's file as it was when it was last whole, because the CLI writes it in place and a reader
may find half of it; and of what the hub's own CLI has made of a login since, because a renewal may bring a new token.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from llm_mcp_hub import others
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.credentials.status import Credential, mark, utc
from llm_mcp_hub.errors import AuthExpired, AuthMissing, BillingBlocked, HubError, Misconfigured

NAME = "gemini"
LAST_GOOD, RENEWED = "gemini-last-good", "gemini-renewed"
"""Names of the hub's copies: see above."""
LOG_IN = "Run `llm-mcp-hub login gemini`."
LARGEST = 1 << 16
"""Bytes. A login has some two thousand. It is read at every question, and a larger buffer takes longer to make."""


_Found = Literal["file", "saved"]


class _Torn(Exception):
    """A file that holds nothing, or half of something: it may be just being written."""


@dataclass(frozen=True, slots=True)
class _Login:
    """What a login file holds."""

    content: str = field(repr=False)
    refresh: str | None = field(repr=False)
    access: str | None = field(repr=False)
    expires: datetime | None
    account: str

    @property
    def mark(self) -> str:
        return mark(str(self.refresh or self.access))


class GeminiCredentials:
    """Reads what there is, at every question anew."""

    newest_first = True

    def __init__(
        self, *, path: Path, saved: SavedLogins, now: Callable[[], datetime], project: str | None = None
    ) -> None:
        """
        Args:
            path: the owner's login file.
            saved: the hub's own copies; the one called `gemini` is a login that `login` has made.
            now: the clock.
            project: the Google Cloud project in force: what Google says of the account hangs on it.
        """
        self._path = path
        self._saved = saved
        self._now = now
        self._setting = project or ""
        self._kept: tuple[str, str] | None = None
        """What is known to stand in the last good copy: the login's mark, and its content."""

    def held(self) -> Sequence[Held]:
        """The owner's login and the saved one, or what says that there is none."""
        found: list[Held] = []
        missing: Held | None = None
        try:
            found.append(self._with_renewal(*self._owners()))
        except HubError as error:
            broken = self._broken(error, str(self._path))
            if error.code == "auth_missing":
                missing = broken
                self._forget_copy()
            else:
                found.append(broken)
        saved = self._saved.get(NAME)
        if saved is not None:
            place = str(self._saved.path(NAME))
            try:
                login = self._read(saved.content, place)
                issued = saved.issued_at.timestamp() if saved.issued_at is not None else 0.0
                held = self._held(login, "saved", place)
                found.append(self._with_renewal(held, issued))
            except (HubError, _Torn) as error:
                known = error if isinstance(error, HubError) else self._not_a_login(place)
                found.append(self._broken(known, place, source="saved"))
        return found or [missing or self._broken(self._none(), str(self._path))]

    def renewed(self, mark_before: str, content: str) -> None:
        """Keep what the hub's CLI has made of the login of that mark; the owner's file stays as it is.

        Raises nothing: without the copy the next start renews the login again.
        """
        with contextlib.suppress(HubError, _Torn):
            login = self._read(content, "")
            before = self._saved.get(RENEWED)
            if login.refresh and (before is None or (before.origin, before.content) != (mark_before, content)):
                self._saved.put(RENEWED, Saved(content, None, mark_before))

    # -- the owner's file ----------------------------------------------------------------------------------------------

    def _owners(self) -> tuple[Held, float]:
        """The owner's login, and when its file was written. Raises HubError."""
        content, since, note, step = self._content()
        try:
            login = self._read(content, str(self._path))
        except _Torn:
            copy = self._saved.get(LAST_GOOD)
            if copy is None or copy.origin != str(self._path):
                raise self._cut_off() from None
            with contextlib.suppress(_Torn):
                login = self._read(copy.content, str(self._path))
                gone = (
                    f"{self._path} is empty or cut off: the hub goes on with the copy that it made when it was whole."
                )
                return self._held(login, "file", str(self._path), note=gone, step=LOG_IN), since
            raise self._cut_off() from None
        if login.refresh and self._kept != (login.mark, content):
            with contextlib.suppress(HubError):
                kept = self._saved.get(LAST_GOOD)
                if kept is None or kept.content != content:
                    self._saved.put(LAST_GOOD, Saved(content, None, str(self._path)))
                self._kept = (login.mark, content)
        return self._held(login, "file", str(self._path), note=note, step=step), since

    def _forget_copy(self) -> None:
        """The owner has logged out: a copy must not outlive that."""
        self._kept = None
        copy = self._saved.get(LAST_GOOD)
        if copy is None or copy.origin != str(self._path):
            return
        self._saved.delete(LAST_GOOD)
        with contextlib.suppress(HubError, _Torn):
            renewed = self._saved.get(RENEWED)
            if renewed is not None and renewed.origin == self._read(copy.content, "").mark:
                self._saved.delete(RENEWED)

    def _content(self) -> tuple[str, float, str, str]:
        """The file's content, when it was written, what is to be told of it, and the next step. Raises HubError."""
        path = self._path
        try:
            if path.is_dir():
                raise Misconfigured(
                    f"{path} is a folder: a container mounted it before the file existed.",
                    action=f"Remove the folder and run `llm-mcp-hub login gemini`, or mount {path.parent} again.",
                    provider=NAME,
                )
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
            about = path.stat()
        except FileNotFoundError as error:
            if (path.parent / "gemini-credentials.json").exists():
                raise Misconfigured(
                    "The Google login is in the CLI's encrypted store, which only works under the same user and host "
                    "name; the hub needs the plain file.",
                    action=LOG_IN,
                    provider=NAME,
                ) from error
            raise self._none() from error
        except NotADirectoryError as error:
            raise self._none() from error
        except OSError as error:
            raise Misconfigured(
                f"The Google login file {path} cannot be read ({error.strerror}).",
                action=f"Let this user read it: chmod u+r {shlex.quote(str(path))}, or run the hub as its owner.",
                provider=NAME,
            ) from error
        if len(content) > LARGEST:
            raise self._not_a_login(str(path))
        shared = others.can_read(about.st_mode) or others.can_write(about.st_mode)
        note = f"Other users of this machine can read {path}." if shared else ""
        step = f"Run: chmod 600 {shlex.quote(str(path))}" if shared else ""
        return content.decode("utf-8", "surrogateescape"), about.st_mtime, note, step

    # -- any login -----------------------------------------------------------------------------------------------------

    def _read(self, content: str, where: str) -> _Login:
        """What a login file holds. Raises HubError, and _Torn for what may be just being written."""
        try:
            held = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _Torn from error
        if not isinstance(held, dict):
            raise self._not_a_login(where)
        login = cast("dict[str, Any]", held)
        if login.get("type") not in (None, "authorized_user"):
            raise BillingBlocked(
                f"{where} holds a cloud account's key, not a person's login: calls would be paid by that account, "
                "so nothing was sent.",
                action=LOG_IN,
                provider=NAME,
            )
        refresh, access = (
            token if isinstance(token := login.get(name), str) else None for name in ("refresh_token", "access_token")
        )
        if not refresh and not access:
            if not login or refresh is not None or access is not None:
                raise _Torn  # blanked
            raise self._not_a_login(where)
        ends = login.get("expiry_date")
        try:
            expires = datetime.fromtimestamp(ends / 1000, UTC) if isinstance(ends, int | float) and ends else None
        except (OverflowError, ValueError, OSError):
            expires = None
        if not refresh and (not access or (expires is not None and expires <= self._now())):
            raise AuthExpired(
                "The Google login has ended and holds nothing to renew it with.", action=LOG_IN, provider=NAME
            )
        return _Login(content, refresh, access, expires, _account(login.get("id_token")))

    def _held(self, login: _Login, found: _Found, source: str, *, note: str = "", step: str = "") -> Held:
        access = utc(login.expires) if login.expires else None
        return Held(
            name="The Google login",
            credential=Credential(kind="login", source=found, access_expires_at=access),
            source=source,
            renew=LOG_IN,
            secret=login.content,
            mark=login.mark,
            level="clock" if access else "well_formed",
            undated=(
                "A Google login is there. It has no date of its own: its access token renews itself, the login lasts "
                "until it is revoked.",
                step,
            ),
            note=note,
            setting=self._setting,
            account=login.account,
        )

    def _with_renewal(self, held: Held, since: float) -> Held:
        """The login as the hub's CLI has renewed it, where it has; under the name that it had before."""
        secret = held.secret
        copy = self._saved.get(RENEWED)
        if copy is not None and copy.origin == held.mark:
            with contextlib.suppress(HubError, _Torn):
                renewed, original = self._read(copy.content, held.source), self._read(secret, held.source)
                if (renewed.expires or _LONG_AGO) > (original.expires or _LONG_AGO):
                    secret = copy.content
        return replace(held, secret=secret, since=since)

    def _broken(self, error: HubError, where: str, *, source: _Found = "file") -> Held:
        credential = None if error.code == "auth_missing" else Credential(kind="login", source=source)
        return Held("The Google login", credential, where, LOG_IN, problem=error, level="present")

    def _none(self) -> AuthMissing:
        return AuthMissing(f"There is no Google login at {self._path}.", action=LOG_IN, provider=NAME)

    def _cut_off(self) -> Misconfigured:
        return Misconfigured(
            f"The Google login file {self._path} is empty or cut off; it may have been written just now.",
            action=LOG_IN,
            provider=NAME,
        )

    def _not_a_login(self, where: str) -> Misconfigured:
        return Misconfigured(
            f"{where} is not a login of the Gemini CLI (refresh_token and access_token are missing).",
            action=LOG_IN,
            provider=NAME,
        )


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _account(id_token: object) -> str:
    """A name for whose login it is, from the token's middle part; unverified: nothing but counting hangs on it."""
    if not isinstance(id_token, str) or id_token.count(".") != 2:
        return ""
    middle = id_token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        subject = claims["sub"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return mark(f"account {subject}") if isinstance(subject, str) and subject else ""
