"""What the readers find of the two logins: every shape of their files, and clocks at their edges."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.credentials.claude import PREFIX, SHORTEST, ClaudeCredentials, checked
from llm_mcp_hub.credentials.gemini import LARGEST, GeminiCredentials
from llm_mcp_hub.credentials.known import NOTHING, Held
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.credentials.status import USABLE, TokenStatus
from llm_mcp_hub.credentials.steady import Reader
from llm_mcp_hub.credentials.verdict import choose, verdict
from llm_mcp_hub.errors import BillingBlocked, HubError, Misconfigured
from tests.unit.strategies import ANY_TEXT, any_json

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOKEN = PREFIX + "madeup" * 14


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


# -- Claude's setup-token ----------------------------------------------------------------------------------------------


class Found:
    """What a reader finds, where nothing else is known of it."""

    def __init__(self, reader: Reader, alert_days: float = 3) -> None:
        self.reader = reader
        self._alert = timedelta(days=alert_days)

    @property
    def held(self) -> Held:
        return choose(self.reader.held(), {}, NOW, newest_first=self.reader.newest_first)

    def login(self) -> Held:
        """As an ask gets it."""
        held = self.held
        if held.problem is not None:
            raise held.problem
        return held

    def status(self) -> TokenStatus:
        return verdict(self.held, NOTHING, NOW, alert=self._alert)


def claude(
    token: str | HubError | None = TOKEN,
    issued_at: datetime | None = None,
    alert_days: float = 3,
    own_login: Path = Path("no-such-file"),
    saved: SavedLogins | None = None,
    now: Callable[[], datetime] = lambda: NOW,
    **changes: Any,
) -> Found:
    def value() -> str | None:
        if isinstance(token, HubError):
            raise token
        return token

    more: dict[str, Any] = {"system": "Linux", **changes}
    reader = ClaudeCredentials(
        token=value,
        issued_at=issued_at,
        own_login=own_login,
        saved=saved or SavedLogins(Path("no-such-folder")),
        now=now,
        **more,
    )
    return Found(reader, alert_days)


@pytest.mark.parametrize(
    "raw",
    {
        "as printed": TOKEN,
        "with a line end": TOKEN + "\n",
        "wrapped by a terminal": TOKEN[:79] + "\n" + TOKEN[79:],
        "wrapped with CR LF": TOKEN[:40] + "\r\n" + TOKEN[40:],
        "with spaces around": f"  {TOKEN}\t",
        "in quotes": f'"{TOKEN}"',
        "in single quotes": f"'{TOKEN}'",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_token_is_read_however_it_was_pasted(raw: tuple[str, str]) -> None:
    """Terminals wrap it, editors end its line, shells quote it."""
    assert claude(raw[1]).login().secret == TOKEN


NO_TOKENS: dict[str, tuple[str, str]] = {
    "an API key": ("sk-ant-api03-" + "x" * 90, "billing_blocked"),
    "an API key of another kind": ("sk-ant-api99-" + "x" * 90, "billing_blocked"),
    "an API key in quotes": ('"sk-ant-api03-' + "x" * 90 + '"', "billing_blocked"),
    "an API key, wrapped": ("sk-ant-\napi03-" + "x" * 90, "billing_blocked"),
    "an admin key": ("sk-ant-admin01-" + "x" * 90, "misconfigured"),
    "a refresh token": ("sk-ant-ort01-" + "x" * 90, "misconfigured"),
    "a placeholder": ("your-token-here", "misconfigured"),
    "null, as jq writes it": ("null", "misconfigured"),
    "a JSON web token": ("eyJhbGciOiJ.eyJzdWIiOiI.x", "misconfigured"),
    "the export line": ("export CLAUDE_CODE_OAUTH_TOKEN=" + TOKEN, "misconfigured"),
    "a header": ("Bearer " + TOKEN, "misconfigured"),
    "an unexpanded variable": ("${CLAUDE_CODE_OAUTH_TOKEN}", "misconfigured"),
    "a token with foreign letters": (TOKEN + "é", "misconfigured"),
    "a token with a NUL": (TOKEN + "\0", "misconfigured"),
    "cut off at 79 columns": (TOKEN[:79], "misconfigured"),
    "one character too short": ((PREFIX + "x" * 200)[: SHORTEST - 1], "misconfigured"),
    "the prefix alone": (PREFIX, "misconfigured"),
    "only blanks": (" \n", "misconfigured"),
}


@pytest.mark.parametrize(("raw", "code"), NO_TOKENS.values(), ids=NO_TOKENS)
def test_what_is_no_setup_token_is_never_used(raw: str, code: str) -> None:
    """An ask and the status say the same, with a next step, and neither shows what was found (G1, G6, G7)."""
    with pytest.raises(HubError) as raised:
        claude(raw).login()
    status = claude(raw).status()

    assert raised.value.code == code
    assert "llm-mcp-hub login claude" in raised.value.action or "Copy the whole token" in raised.value.action
    assert (status.status, status.usable) == ("misconfigured", False)
    assert (status.message, status.action) == (raised.value.message, raised.value.action)
    secret = raw.strip(" \n\"'")
    assert len(secret) < 20 or secret not in status.model_dump_json() + str(raised.value)


def test_the_shortest_whole_token_is_taken() -> None:
    """One character less is a cut one: see the table above."""
    token = (PREFIX + "x" * 200)[:SHORTEST]

    assert checked(token) == token


@pytest.mark.parametrize("raw", [None, ""])
def test_without_a_token_an_ask_says_how_to_get_one(raw: str | None) -> None:
    """`auth_missing`, with the command that makes one."""
    with pytest.raises(HubError) as raised:
        claude(raw).login()
    status = claude(raw).status()

    assert raised.value.code == "auth_missing"
    assert "llm-mcp-hub login claude" in raised.value.action
    assert (status.status, status.usable, status.credential, status.evidence) == ("missing", False, None, None)


def test_a_token_without_a_date_is_valid_and_well_formed() -> None:
    """Nothing is known against it; how much is known for it, the evidence says."""
    status = claude().status()

    assert (status.status, status.usable) == ("valid", True)
    assert (status.expires_at, status.days_remaining, status.expires_source) == (None, None, "none")
    assert status.evidence is not None
    assert status.evidence.level == "well_formed"
    assert status.evidence.observed_at == "2026-11-23T12:00:00Z"
    assert "CLAUDE_TOKEN_ISSUED_AT" in status.action


YEAR = timedelta(days=365)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)

CLOCKS: dict[str, tuple[timedelta, str, int]] = {
    # how long ago the token was made, the status, the days that remain
    "today": (timedelta(0), "valid", 365),
    "in the future, by a wrong clock": (-DAY, "valid", 366),
    "more than three days before the end": (YEAR - 3 * DAY - SECOND, "valid", 3),
    "three days before the end": (YEAR - 3 * DAY, "warning", 3),
    "less than three days": (YEAR - 3 * DAY + SECOND, "warning", 2),
    "one day": (YEAR - DAY, "warning", 1),
    "less than a day": (YEAR - DAY + SECOND, "warning", 0),
    "one second": (YEAR - SECOND, "warning", 0),
    "the end": (YEAR, "expired", 0),
    "after the end": (YEAR + SECOND, "expired", 0),
    "long after the end": (3 * YEAR, "expired", 0),
}


@pytest.mark.parametrize(("age", "state", "days"), CLOCKS.values(), ids=CLOCKS)
def test_a_dated_token_counts_down_to_its_year(age: timedelta, state: str, days: int) -> None:
    """One year from its making, warned of three days before, never negative."""
    status = claude(issued_at=NOW - age).status()

    assert (status.status, status.days_remaining) == (state, days)
    assert status.usable is (state != "expired")
    assert status.expires_source == "operator"
    assert status.evidence is not None
    assert status.evidence.level == "clock"
    assert bool(status.action) is (state != "valid")


@pytest.mark.parametrize(("alert_days", "state"), [(0, "valid"), (10, "warning"), (365, "warning")])
def test_the_owner_chooses_how_early_to_be_warned(alert_days: float, state: str) -> None:
    """HUB_ALERT_DAYS."""
    assert claude(issued_at=NOW - YEAR + 5 * DAY, alert_days=alert_days).status().status == state


OWN_LOGIN = {
    "accessToken": "sk-ant-oat01-own",
    "refreshToken": "sk-ant-ort01-own",
    "expiresAt": milliseconds(NOW + timedelta(hours=8)),
    "scopes": ["user:inference"],
    "subscriptionType": "max",
}

OWN_FILES: dict[str, tuple[Any, str | None]] = {
    # content, the access token's end as reported
    "as the CLI writes it": ({"claudeAiOauth": OWN_LOGIN}, "2026-11-23T20:00:00Z"),
    "without an end": ({"claudeAiOauth": {"accessToken": "x"}}, None),
    "with an end that is no number": ({"claudeAiOauth": {**OWN_LOGIN, "expiresAt": "soon"}}, None),
    "with an end of 0": ({"claudeAiOauth": {**OWN_LOGIN, "expiresAt": 0}}, None),
}


@pytest.mark.parametrize(("content", "ends"), OWN_FILES.values(), ids=OWN_FILES)
def test_claude_codes_own_login_is_reported_and_never_used(tmp_path: Path, content: Any, ends: str | None) -> None:
    """Its refresh token is single-use: a second user logs the owner out."""
    file = tmp_path / ".credentials.json"
    file.write_text(json.dumps(content))
    credentials = claude(None, own_login=file)

    status = credentials.status()

    assert (status.status, status.usable) == ("missing", False)
    assert status.credential is not None
    assert (status.credential.kind, status.credential.source) == ("login", "file")
    assert status.credential.access_expires_at == ends
    assert "own" not in json.dumps(status.model_dump()["credential"])
    with pytest.raises(HubError) as raised:
        credentials.login()
    assert raised.value.code == "auth_missing"


NO_OWN_FILES: dict[str, bytes] = {
    "the brief's flat shape": b'{"accessToken": "eyJ", "expiresAt": 1}',
    "blanked by the CLI after a refused refresh": b'{"claudeAiOauth": {"accessToken": "", "expiresAt": 0}}',
    "only MCP logins": b'{"mcpOAuth": {}}',
    "a login that is no object": b'{"claudeAiOauth": "x"}',
    "a list": b"[]",
    "no JSON": b"{",
    "empty": b"",
    "no UTF-8": b"\xff\xfe",
    "an end beyond all calendars": b'{"claudeAiOauth": {"accessToken": "x", "expiresAt": 1e30}}',
    "an end that is no number at all": b'{"claudeAiOauth": {"accessToken": "x", "expiresAt": NaN}}',
    "deeper than anybody nests": b"[" * 100_000,
}


@pytest.mark.parametrize("content", NO_OWN_FILES.values(), ids=NO_OWN_FILES)
def test_a_file_that_is_no_login_is_not_reported(tmp_path: Path, content: bytes) -> None:
    """Whatever stands there, the status is `missing` and not an exception."""
    file = tmp_path / ".credentials.json"
    file.write_bytes(content)

    status = claude(None, own_login=file).status()

    assert status.status == "missing"


def saved_token(folder: Path, token: str = TOKEN, made: datetime | None = NOW - DAY) -> SavedLogins:
    saved = SavedLogins(folder)
    saved.put("claude", Saved(token, made))
    return saved


def test_the_saved_token_is_used_where_no_variable_is_set(tmp_path: Path) -> None:
    """`login` made it, and knows the day."""
    found = claude(None, saved=saved_token(tmp_path))

    status = found.status()

    assert found.login().secret == TOKEN
    assert status.credential is not None
    assert (status.credential.kind, status.credential.source) == ("setup_token", "saved")
    assert (status.status, status.expires_source, status.days_remaining) == ("valid", "ledger", 364)


def test_the_variable_comes_before_the_saved_token(tmp_path: Path) -> None:
    """DESIGN 3.5; the status names the source. The operator's date is the variable's, not the saved one's."""
    other = PREFIX + "another" * 12
    found = claude(other, NOW - 2 * DAY, saved=saved_token(tmp_path))

    assert found.login().secret == other
    status = found.status()
    assert status.credential is not None
    assert (status.credential.source, status.days_remaining) == ("env", 363)


@pytest.mark.parametrize("raw", ["sk-ant-api03-" + "x" * 90, TOKEN[:79]], ids=["an API key", "a cut token"])
def test_a_wrong_variable_is_told_and_not_passed_over(tmp_path: Path, raw: str) -> None:
    """A setting that is ignored in silence is never mended, and a key says that somebody means to pay by it."""
    found = claude(raw, saved=saved_token(tmp_path))

    assert found.status().status == "misconfigured"
    with pytest.raises(HubError):
        found.login()


def test_a_machine_that_lets_no_token_be_used_is_told_before_anybody_asks() -> None:
    """And no longer, once it does: nothing of it is kept."""
    held: list[HubError] = [BillingBlocked("The machine's settings could pay.", action="Mend them.")]

    def machine() -> None:
        for error in held:
            raise error

    found = claude(machine=machine)
    status = found.status()

    assert (status.status, status.usable, status.action) == ("misconfigured", False, "Mend them.")
    assert found.held.mark == ""
    with pytest.raises(BillingBlocked):
        found.login()
    held.clear()
    assert found.status().usable
    assert found.login().secret == TOKEN


def test_a_tokens_file_is_named_and_read_again(tmp_path: Path) -> None:
    """Files change while a hub runs; one that cannot be read any more is told by its variable."""
    values = iter([TOKEN, PREFIX + "renewed" * 12])
    found = Found(
        ClaudeCredentials(
            token=lambda: next(values),
            where="CLAUDE_CODE_OAUTH_TOKEN_FILE",
            issued_at=None,
            own_login=tmp_path / "none",
            saved=SavedLogins(tmp_path),
            now=lambda: NOW,
        )
    )
    first, second = found.login(), found.login()
    gone = claude(Misconfigured("The file that CLAUDE_CODE_OAUTH_TOKEN_FILE names cannot be read.", action="Mend."))

    assert (first.secret, second.secret) == (TOKEN, PREFIX + "renewed" * 12)
    assert first.credential is not None
    assert (first.credential.source, first.source) == ("file", "CLAUDE_CODE_OAUTH_TOKEN_FILE")
    assert "CLAUDE_CODE_OAUTH_TOKEN_FILE" in gone.status().message


def test_a_day_without_an_hour_may_have_been_any_hour_of_it() -> None:
    """G6: warned from its first moment on earth, never called expired before its last one."""
    midnight = datetime(2026, 11, 23, tzinfo=UTC) - YEAR

    on_the_day, the_day_after = (
        verdict(claude(TOKEN, midnight).held, NOTHING, NOW + later, alert=timedelta(days=3))
        for later in (timedelta(0), timedelta(days=1))
    )

    assert (on_the_day.status, on_the_day.days_remaining) == ("warning", 0)
    assert "ends today" in on_the_day.message
    assert the_day_after.status == "expired"


@pytest.mark.parametrize("there", [True, False])
def test_a_login_in_the_keychain_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """macOS keeps it there. The item's secret is not asked for: that would put a question on its owner's screen."""
    (tmp_path / "security").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit {0 if there else 44}\n')
    (tmp_path / "security").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    status = claude(None, system="Darwin").status()

    assert status.status == "missing"
    assert (status.credential and status.credential.source) == ("keychain" if there else None)
    assert (tmp_path / "asked").read_text() == "find-generic-password -s Claude Code-credentials\n"


def test_the_keychain_is_looked_into_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a program that is started, and a login that is not there is looked for with each ask."""
    (tmp_path / "security").write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\nexit 44\n")
    (tmp_path / "security").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    later = iter([0, 1, 59, 60, 61])
    found = claude(None, system="Darwin", now=lambda: NOW + timedelta(seconds=next(later)))

    counts: list[int] = []
    for _ in range(5):
        found.reader.held()
        counts.append(len((tmp_path / "asked").read_text().splitlines()))

    assert counts == [1, 1, 1, 2, 2]


def test_the_end_of_claude_codes_own_login_is_told(tmp_path: Path) -> None:
    """`refreshTokenExpiresAt` is its honest clock; the access token's 8 hours say nothing."""
    login = {**OWN_LOGIN, "refreshTokenExpiresAt": milliseconds(NOW + 20 * DAY)}
    (tmp_path / "own").write_text(json.dumps({"claudeAiOauth": login}))

    status = claude(None, own_login=tmp_path / "own").status()

    assert "13 Dec 2026" in status.message
    assert (status.expires_at, status.days_remaining) == (None, None)


# -- Gemini's login ----------------------------------------------------------------------------------------------------

GOOGLE = {
    "access_token": "made-up-access",
    "scope": "https://www.googleapis.com/auth/cloud-platform",
    "token_type": "Bearer",
    "id_token": "made-up.id.token",
    "expiry_date": milliseconds(NOW + timedelta(hours=1)),
    "refresh_token": "made-up-refresh",
}


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GOOGLE, **changes}.items() if name not in names}


def gemini(path: Path, saved: SavedLogins | None = None, project: str | None = None) -> Found:
    """Copies that it cannot keep, for the folder is a file, are no reason to fail."""
    nowhere = SavedLogins(Path("/dev/null"))
    return Found(GeminiCredentials(path=path, saved=saved or nowhere, now=lambda: NOW, project=project))


def written(folder: Path, content: Any) -> Path:
    file = folder / "oauth_creds.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


USABLE_FILES: dict[str, tuple[dict[str, Any], str | None, str]] = {
    # content, the access token's end, the level of evidence
    "as the CLI writes it": (GOOGLE, "2026-11-23T13:00:00Z", "clock"),
    "with an access token that has ended": (
        without(expiry_date=milliseconds(NOW - timedelta(days=40))),
        "2026-10-14T12:00:00Z",
        "clock",
    ),
    "a refresh token alone": (without("access_token", "expiry_date"), None, "well_formed"),
    "an access token alone, still alive": (without("refresh_token"), "2026-11-23T13:00:00Z", "clock"),
    "an access token alone, without an end": (without("refresh_token", "expiry_date"), None, "well_formed"),
    "the brief's ISO date": (without(expiry_date="2026-11-23T13:00:00Z"), None, "well_formed"),
    "an end beyond all calendars": (without(expiry_date=10**30), None, "well_formed"),
    "an end before all calendars": (without(expiry_date=-(10**30)), None, "well_formed"),
    "fields that nobody knows": (without(quota_project="x", universe_domain="y"), "2026-11-23T13:00:00Z", "clock"),
    "half a character in the token": (without(refresh_token="made-up-\ud800"), "2026-11-23T13:00:00Z", "clock"),
}


@pytest.mark.parametrize(("content", "ends", "level"), USABLE_FILES.values(), ids=USABLE_FILES)
def test_a_login_that_can_renew_itself_is_valid(
    tmp_path: Path, content: dict[str, Any], ends: str | None, level: str
) -> None:
    """G6: never `expired` because of an access token that lives one hour; a Google login has no date of its own."""
    credentials = gemini(written(tmp_path, content))

    status = credentials.status()

    assert (status.status, status.usable) == ("valid", True)
    assert (status.expires_at, status.days_remaining, status.expires_source) == (None, None, "none")
    assert status.credential is not None
    assert status.credential.access_expires_at == ends
    assert status.evidence is not None
    assert status.evidence.level == level
    assert json.loads(credentials.login().secret) == content


BAD_FILES: dict[str, tuple[Any, str, str]] = {
    # content, our code, the status
    "nothing to renew it with, and ended": (
        without("refresh_token", expiry_date=milliseconds(NOW)),
        "auth_expired",
        "expired",
    ),
    "blanked": (without(refresh_token="", access_token=""), "misconfigured", "misconfigured"),
    "a refresh token that is no text, and ended": (
        without(refresh_token=5, expiry_date=milliseconds(NOW)),
        "auth_expired",
        "expired",
    ),
    "another program's file": ({"installed": {"client_id": "x"}}, "misconfigured", "misconfigured"),
    "a service account": ({"type": "service_account", "private_key": "x"}, "billing_blocked", "misconfigured"),
    "a cloud account of another kind": (without(type="external_account"), "billing_blocked", "misconfigured"),
    "tokens that are no text": (without(refresh_token=5, access_token=None), "misconfigured", "misconfigured"),
    "a list": ([GOOGLE], "misconfigured", "misconfigured"),
    "a text": ("made-up", "misconfigured", "misconfigured"),
    "null": (None, "misconfigured", "misconfigured"),
    "cut off while it was written": (json.dumps(GOOGLE)[:-20].encode(), "misconfigured", "misconfigured"),
    "empty": (b"", "misconfigured", "misconfigured"),
    "no UTF-8": (b"\xff\xfe\x00", "misconfigured", "misconfigured"),
    "larger than any login": (b" " * (LARGEST + 1), "misconfigured", "misconfigured"),
    "deeper than anybody nests": (b"[" * 100_000, "misconfigured", "misconfigured"),
    "a number of ten thousand digits": (b'{"expiry_date": ' + b"9" * 10_000 + b"}", "misconfigured", "misconfigured"),
}


@pytest.mark.parametrize(("content", "code", "state"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_holds_no_usable_login_says_so(tmp_path: Path, content: Any, code: str, state: str) -> None:
    """An ask and the status agree, and name the file and a next step."""
    file = written(tmp_path, content)

    with pytest.raises(HubError) as raised:
        gemini(file).login()
    status = gemini(file).status()

    assert raised.value.code == code
    assert raised.value.action
    assert (status.status, status.usable) == (state, False)
    assert status.days_remaining == (0 if state == "expired" else None)
    assert (status.message, status.action) == (raised.value.message, raised.value.action)
    assert status.evidence is not None
    assert status.evidence.source == str(file)
    assert "made-up" not in status.model_dump_json()


def encrypted(folder: Path) -> Path:
    (folder / "gemini-credentials.json").write_text("iv:tag:hex")
    return folder / "oauth_creds.json"


def mounted_as_a_folder(folder: Path) -> Path:
    (folder / "oauth_creds.json").mkdir()
    return folder / "oauth_creds.json"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "oauth_creds.json"


PLACES: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "nothing there": (lambda folder: folder / "oauth_creds.json", "auth_missing", "missing"),
    "not even a folder": (lambda folder: folder / "no" / "oauth_creds.json", "auth_missing", "missing"),
    "a file where the folder should be": (below_a_file, "auth_missing", "missing"),
    "a folder in its place": (mounted_as_a_folder, "misconfigured", "misconfigured"),
    "the CLI's encrypted store": (encrypted, "misconfigured", "misconfigured"),
    "a name too long for a file": (lambda folder: folder / ("x" * 300), "misconfigured", "misconfigured"),
}


@pytest.mark.parametrize(("place", "code", "state"), PLACES.values(), ids=PLACES)
def test_a_place_without_a_login_says_what_is_there(
    tmp_path: Path, place: Callable[[Path], Path], code: str, state: str
) -> None:
    """Each has its own remedy: log in, mend a mount, unset a variable."""
    path = place(tmp_path)

    with pytest.raises(HubError) as raised:
        gemini(path).login()
    status = gemini(path).status()

    assert raised.value.code == code
    assert raised.value.action
    assert (status.status, status.usable) == (state, False)
    assert (status.credential is None) is (state == "missing")


def test_a_new_login_is_seen_by_its_mark(tmp_path: Path) -> None:
    """A refreshed access token is the same login, a new refresh token is another one."""
    credentials = gemini(written(tmp_path, GOOGLE))
    first = credentials.login()
    written(tmp_path, without(access_token="made-up-access-2", expiry_date=milliseconds(NOW + DAY)))
    refreshed = credentials.login()
    written(tmp_path, without(refresh_token="made-up-refresh-2"))
    renewed = credentials.login()

    assert first.mark == refreshed.mark != renewed.mark
    assert "made-up" not in first.mark


def test_the_owners_file_is_never_written(tmp_path: Path) -> None:
    """G7: read, copied, and nothing else."""
    file = written(tmp_path, GOOGLE)
    os.utime(file, (1, 1))
    before = file.stat(), file.read_bytes(), sorted(tmp_path.iterdir())
    credentials = gemini(file)
    credentials.login()
    credentials.status()

    after = file.stat(), file.read_bytes(), sorted(tmp_path.iterdir())

    assert (before[0].st_mtime, before[0].st_mode, before[1:]) == (after[0].st_mtime, after[0].st_mode, after[1:])


def test_a_file_that_others_can_read_works_and_is_told(tmp_path: Path) -> None:
    """A mount may have lost the mode; the remedy is one command."""
    file = written(tmp_path, GOOGLE)
    file.chmod(0o644)
    shared = gemini(file).status()
    file.chmod(0o600)

    assert shared.status == "valid"
    assert str(file) in shared.message
    assert shared.action == f"Run: chmod 600 {file}"
    assert "chmod" not in gemini(file).status().message


@pytest.mark.parametrize("content", [b"", json.dumps(GOOGLE)[:-20].encode(), b"{}"], ids=["empty", "half", "blanked"])
def test_a_torn_file_is_bridged_by_the_last_good_copy(tmp_path: Path, content: bytes) -> None:
    """The CLI writes it in place: a hub that reads meanwhile, or starts after a crash, goes on. The status tells it."""
    saved = SavedLogins(tmp_path / "state")
    file = written(tmp_path, GOOGLE)
    whole = gemini(file, saved).login()
    file.write_bytes(content)

    torn = gemini(file, saved)

    assert (torn.login().secret, torn.login().mark) == (whole.secret, whole.mark)
    assert torn.status().status == "valid"
    assert "empty or cut off" in torn.status().message
    assert file.read_bytes() == content


def test_a_copy_does_not_outlive_a_logout(tmp_path: Path) -> None:
    """The owner has removed the login: the hub must not go on with it, and keeps nothing of it."""
    saved = SavedLogins(tmp_path / "state")
    file = written(tmp_path, GOOGLE)
    found = gemini(file, saved)
    reader = found.reader
    assert isinstance(reader, GeminiCredentials)
    reader.renewed(found.login().mark, json.dumps(without(expiry_date=milliseconds(NOW + DAY))))
    file.unlink()

    assert found.status().status == "missing"
    assert list((tmp_path / "state" / "logins").iterdir()) == []


def test_another_files_copy_is_not_used(tmp_path: Path) -> None:
    """GEMINI_AUTH_PATH may be another one today, of somebody else."""
    saved = SavedLogins(tmp_path / "state")
    gemini(written(tmp_path, GOOGLE), saved).login()
    (tmp_path / "other").mkdir()

    assert gemini(written(tmp_path / "other", b""), saved).status().status == "misconfigured"


def test_what_the_cli_made_of_a_login_is_used_from_then_on(tmp_path: Path) -> None:
    """A renewal saves the next start one, and may have brought a new refresh token. The login's name stays."""
    saved = SavedLogins(tmp_path / "state")
    found = gemini(written(tmp_path, without(expiry_date=milliseconds(NOW - DAY))), saved)
    before = found.login()
    renewed = without(access_token="made-up-access-2", refresh_token="made-up-refresh-2")
    assert isinstance(found.reader, GeminiCredentials)

    found.reader.renewed(before.mark, json.dumps(renewed))
    after = found.login()
    found.reader.renewed(before.mark, "{")
    torn = found.login()
    written(tmp_path, without(access_token="made-up-access-3", expiry_date=milliseconds(NOW + DAY)))
    owners = found.login()
    written(tmp_path, without(refresh_token="made-up-refresh-9", expiry_date=milliseconds(NOW - DAY)))
    another = found.login()

    assert [json.loads(held.secret)["access_token"] for held in (before, after, torn, owners, another)] == [
        "made-up-access",
        "made-up-access-2",
        "made-up-access-2",
        "made-up-access-3",
        "made-up-access",
    ]
    assert before.mark == after.mark == torn.mark == owners.mark != another.mark


def test_the_newer_of_two_logins_is_used(tmp_path: Path) -> None:
    """`login` made one, the owner's CLI another: the one that came last, by when they were first seen or written."""
    saved = SavedLogins(tmp_path / "state")
    file = written(tmp_path, GOOGLE)
    os.utime(file, (NOW.timestamp(), NOW.timestamp()))
    found = gemini(file, saved)
    seen: list[str] = []
    for made in (NOW - DAY, NOW + DAY):
        saved.put("gemini", Saved(json.dumps(without(refresh_token="made-up-saved")), made))
        seen.append(str(json.loads(found.login().secret)["refresh_token"]))
    file.unlink()

    assert seen == ["made-up-refresh", "made-up-saved"]
    assert found.login().credential is not None
    assert found.login().credential.source == "saved"  # pyright: ignore[reportOptionalMemberAccess]


def test_a_broken_file_does_not_keep_the_saved_login_from_being_used(tmp_path: Path) -> None:
    """A container's mount of a folder that is none is no reason to fail, with a login at hand."""
    saved = SavedLogins(tmp_path / "state")
    saved.put("gemini", Saved(json.dumps(GOOGLE), NOW))

    assert gemini(mounted_as_a_folder(tmp_path), saved).status().status == "valid"
    saved.put("gemini", Saved("{", NOW))
    assert gemini(tmp_path / "none", saved).status().status == "misconfigured"


def test_two_hubs_on_one_state_folder_never_tear_a_copy(tmp_path: Path) -> None:
    """Both keep copies, while the owner's CLI writes the file again and again: what an ask gets is whole."""
    saved = SavedLogins(tmp_path / "state")
    file = written(tmp_path, GOOGLE)
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with file.open("w") as torn:
                torn.write(json.dumps(without(access_token=f"made-up-{number}" + "x" * 5000)))

    writer = threading.Thread(target=write)
    hubs = [gemini(file, saved), gemini(file, SavedLogins(tmp_path / "state"))]
    assert all(hub.login().secret for hub in hubs)
    writer.start()
    try:
        for _ in range(200):
            for hub in hubs:
                assert json.loads(hub.login().secret)["refresh_token"] == "made-up-refresh"
    finally:
        over.set()
        writer.join()


def test_whose_login_it_is_is_known_and_not_told(tmp_path: Path) -> None:
    """How long logins last is counted by account; the id token's subject names it, hashed."""
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "10001", "email": "x@example.invalid"}).encode()).decode()
    one, same, other = (
        gemini(written(tmp_path, content)).held.account
        for content in (
            without(id_token=f"a.{claims.rstrip('=')}.c"),
            without(id_token=f"d.{claims.rstrip('=')}.f", refresh_token="made-up-2"),
            GOOGLE,
        )
    )

    assert one == same
    assert len(one) == 16
    assert other == ""
    assert "10001" not in one


# -- properties --------------------------------------------------------------------------------------------------------


def sound(status: TokenStatus) -> None:
    """What holds for every status."""
    assert status.usable is (status.status in USABLE)
    assert status.days_remaining is None or status.days_remaining >= 0
    assert status.message
    assert status.usable or status.action
    json.loads(status.model_dump_json())


@given(
    raw=st.one_of(ANY_TEXT, st.from_regex(r"sk-ant-(oat01|api03)-[A-Za-z0-9_-]{0,100}", fullmatch=True)),
    issued_at=st.one_of(
        st.none(), st.integers(1_600_000_000, 4_100_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))
    ),
)
def test_any_token_has_a_sound_status(raw: str, issued_at: datetime | None) -> None:
    """And the status and an ask never disagree about what can be used."""
    credentials = claude(raw, issued_at)
    status = credentials.status()

    sound(status)
    if status.status in {"valid", "warning", "expired"}:
        assert credentials.login().secret.startswith(PREFIX)
    else:
        with pytest.raises(HubError):
            credentials.login()


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file that a property may rewrite hundreds of times."""
    return tmp_path_factory.mktemp("logins") / "oauth_creds.json"


FIELDS = st.sampled_from(["access_token", "refresh_token", "expiry_date", "claudeAiOauth", "accessToken", "expiresAt"])


@given(
    content=st.one_of(st.binary(max_size=60), st.dictionaries(FIELDS, any_json()).map(lambda v: json.dumps(v).encode()))
)
def test_any_file_has_a_sound_status(shared_file: Path, content: bytes) -> None:
    """Whatever bytes stand in a login file, both readers give a status, and an ask a login or a coded error."""
    shared_file.write_bytes(content)
    found = gemini(shared_file).status()

    sound(found)
    sound(claude(None, own_login=shared_file).status())
    if found.usable:
        assert gemini(shared_file).login().secret.encode("utf-8", "surrogateescape") == content
    else:
        with pytest.raises(HubError):
            gemini(shared_file).login()


def test_a_login_that_ends_with_the_calendar_is_reported_in_every_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claude Code's file is not ours: a date that this machine's zone cannot show must not end the status."""
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        file = tmp_path / "own.json"
        file.write_text(json.dumps({"claudeAiOauth": {"accessToken": "a", "refreshTokenExpiresAt": 253402300799000}}))

        assert claude(None, own_login=file).status().status == "missing"
    finally:
        monkeypatch.undo()
        time.tzset()
