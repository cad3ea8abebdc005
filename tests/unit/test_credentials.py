"""What is known of the two logins: every shape of their files, and clocks at their edges."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.credentials.claude import PREFIX, SHORTEST, ClaudeCredentials, checked
from llm_mcp_hub.credentials.gemini import LARGEST, GeminiCredentials
from llm_mcp_hub.credentials.status import USABLE, TokenStatus
from llm_mcp_hub.errors import HubError
from tests.unit.strategies import ANY_TEXT, any_json

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOKEN = PREFIX + "madeup" * 14


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


# -- Claude's setup-token ----------------------------------------------------------------------------------------------


def claude(
    token: str | None = TOKEN,
    issued_at: datetime | None = None,
    alert_days: float = 3,
    own_login: Path = Path("no-such-file"),
) -> ClaudeCredentials:
    return ClaudeCredentials(
        token=token, issued_at=issued_at, alert=timedelta(days=alert_days), own_login=own_login, now=lambda: NOW
    )


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
    assert claude(raw[1]).token() == TOKEN


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
        claude(raw).token()
    status = claude(raw).status()

    assert raised.value.code == code
    assert "claude setup-token" in raised.value.action or "Copy the whole token" in raised.value.action
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
        claude(raw).token()
    status = claude(raw).status()

    assert raised.value.code == "auth_missing"
    assert "claude setup-token" in raised.value.action
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
        credentials.token()
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


def gemini(path: Path) -> GeminiCredentials:
    return GeminiCredentials(path=path, now=lambda: NOW)


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
    assert json.loads(credentials.login().content) == content


BAD_FILES: dict[str, tuple[Any, str, str]] = {
    # content, our code, the status
    "nothing to renew it with, and ended": (
        without("refresh_token", expiry_date=milliseconds(NOW)),
        "auth_expired",
        "expired",
    ),
    "blanked": (without(refresh_token="", access_token=""), "auth_expired", "expired"),
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
        assert credentials.token().startswith(PREFIX)
    else:
        with pytest.raises(HubError):
            credentials.token()


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
        assert gemini(shared_file).login().content == content
    else:
        with pytest.raises(HubError):
            gemini(shared_file).login()
