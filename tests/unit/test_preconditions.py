"""What the doctor makes of what it sees of the hub's own surroundings: tables, and the rule that no secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub import preconditions
from llm_mcp_hub.credentials.status import Evidence, TokenStatus
from llm_mcp_hub.finding import Finding

NOW = 1_795_000_000.0
DAY = 86_400.0


def only(findings: list[Finding]) -> Finding:
    [finding] = findings
    return finding


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "secret", "state", "part"),
    [
        (0o600, True, "ok", "mode 0600"),
        (0o644, False, "ok", "mode 0644"),
        (0o644, True, "warning", "can be read by others"),
        (0o640, True, "warning", "can be read by others"),
        (0o620, False, "warning", "can be written by others"),
        (0o666, True, "warning", "can be written by others"),
    ],
)
def test_a_settings_file_is_its_owners_alone(tmp_path: Path, mode: int, secret: bool, state: str, part: str) -> None:
    """Who can write it steers the hub; who can read it has the token, if there is one in it."""
    file = tmp_path / "settings of mine"
    file.touch()
    file.chmod(mode)

    finding = only(preconditions.settings([], [("--env-file", file, secret)]))

    assert (finding.name, finding.state) == ("settings", state)
    assert part in finding.message
    assert finding.action == ("" if state == "ok" else f"Run: chmod 600 '{file}'")


def test_without_a_file_the_settings_come_from_the_environment() -> None:
    """What `doctor` says where nothing else is read."""
    assert only(preconditions.settings([], [])) == Finding("settings", "ok", "from the environment")


def test_a_setting_that_is_spelt_wrong_is_named_with_the_one_that_is_like_it() -> None:
    """Nobody reads it, so nothing else would tell."""
    finding = only(preconditions.settings([], [], [("HUB_WAIT", "HUB_WAIT_S")]))

    assert (finding.name, finding.state) == ("settings", "warning")
    assert "HUB_WAIT " in finding.message
    assert "HUB_WAIT_S" in finding.action


def test_who_can_reach_the_server_is_told() -> None:
    """By address, and by who has a token; what `serve` refuses is told as it tells it (see the doctor's tests)."""
    told = [
        only(preconditions.http("127.0.0.1", 8000, True, None)),
        only(preconditions.http("127.0.0.1", 8000, True, [])),
        only(preconditions.http("0.0.0.0", 8000, False, ["anna", "bob"])),
    ]

    assert [finding.state for finding in told] == ["ok", "warning", "ok"]
    assert "no client tokens" in told[0].message
    assert "nobody" in told[1].message
    assert "other machines" in told[2].message
    assert "anna, bob" in told[2].message


def status(state: str, **changes: Any) -> TokenStatus:
    """A status as its reader makes it."""
    told = {
        "status": state,
        "usable": state in {"valid", "warning", "unknown"},
        "expires_at": None,
        "days_remaining": None,
        "message": "This is how it is.",
        "action": "Run `do this`.",
        "expires_source": "none",
        "credential": None,
        "evidence": Evidence(level="well_formed", source="CLAUDE_CODE_OAUTH_TOKEN", observed_at="2026-11-25T09:00:00Z"),
    }
    return TokenStatus.model_validate({**told, **changes})


@pytest.mark.parametrize(
    ("state", "found"),
    {
        "valid": "ok",
        "warning": "warning",
        "unknown": "warning",
        "expired": "blocks",
        "rejected": "blocks",
        "missing": "blocks",
        "ineligible": "blocks",
        "misconfigured": "blocks",
    }.items(),
)
def test_a_login_is_told_as_its_status_says_and_how_that_is_known(state: str, found: str) -> None:
    """A login that cannot be used blocks an ask; one that nobody can tell about does not."""
    finding = preconditions.login("claude", status(state))

    assert (finding.name, finding.state) == ("claude-login", found)
    assert finding.message == "This is how it is (well-formed, by CLAUDE_CODE_OAUTH_TOKEN, 2026-11-25T09:00:00Z)"
    assert finding.action == "Run `do this`."


@pytest.mark.parametrize("state", ["warning", "missing"])
def test_a_login_without_a_next_step_of_its_own_gets_one(state: str) -> None:
    """Whatever a reader leaves out, who reads the doctor's words has something to type."""
    finding = preconditions.login("gemini", status(state, action="", evidence=None))

    assert "llm-mcp-hub status" in finding.action
    assert finding.message == "This is how it is"


# -- the machine -------------------------------------------------------------------------------------------------------

FILE = Path("state/hub.sqlite3")


@pytest.mark.parametrize(
    ("written", "file_system_ahead", "state", "part"),
    [
        ({}, None, "ok", "nobody else was asked"),
        ({FILE: NOW - DAY}, 0.0, "ok", "2026-11-18T11:06:40Z, later than all"),
        ({FILE: NOW + 30}, 30.0, "ok", "nobody else was asked"),
        ({FILE: NOW + 2 * DAY}, 0.0, "warning", "hub.sqlite3 was written 2 days later"),
        ({FILE: NOW + 2 * DAY, Path("old"): 0.0}, None, "warning", "2 days later"),
        ({FILE: NOW - DAY}, 2 * DAY, "warning", "is 2 days ahead of it"),
        ({}, -7200.0, "warning", "is 2 hours behind it"),
        ({FILE: NOW + 90}, None, "warning", "90 seconds later"),
        ({FILE: 1e30}, None, "warning", "days later"),
    ],
)
def test_a_clock_is_judged_by_what_was_written_before(
    written: dict[Path, float], file_system_ahead: float | None, state: str, part: str
) -> None:
    """Its own older stamps, and a file server's clock: two witnesses that need no network."""
    finding = preconditions.judge_clock(NOW, written, file_system_ahead)

    assert finding.state == state
    assert part in finding.message
    assert ("Set the clock: " in finding.action) is (state == "warning")


def test_a_folder_of_the_hubs_is_looked_at_before_it_is_written(tmp_path: Path) -> None:
    """What cannot be read leaves no stamp, and is no reason to fail."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "file").touch()

    assert set(preconditions.stamps(state, tmp_path / "gone")) == {state / "file"}
    assert preconditions.stamps(tmp_path / "gone") == {}


@pytest.mark.parametrize(("mode", "state"), [(0o700, "ok"), (0o755, "warning"), (0o711, "warning"), (0o770, "blocks")])
def test_a_state_folder_is_its_owners_alone(tmp_path: Path, mode: int, state: str) -> None:
    """Conversations are in it."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)

    finding = only(preconditions.state(folder))

    assert finding.state == state
    assert finding.action.partition(",")[0] == ("" if state == "ok" else f"Run: chmod 700 {folder}")
    assert ("a login or a program of theirs" in finding.message) is bool(mode & 0o022)
    assert list(folder.iterdir()) == []


def test_file_roots_must_be_there(tmp_path: Path) -> None:
    """A root that is gone gives no file; an ask without files does not mind."""
    (tmp_path / "file").touch()
    gone = preconditions.file_roots([tmp_path, tmp_path / "gone", tmp_path / "file"])

    assert [finding.state for finding in gone] == ["warning", "warning"]
    assert all("HUB_FILE_ROOTS" in finding.action for finding in gone)
    assert str(tmp_path) in only(preconditions.file_roots([tmp_path])).message
    assert "no file is read" in only(preconditions.file_roots([])).message
    assert only(preconditions.file_roots(None)).state == "ok"


def test_git_is_looked_for_where_the_hub_would(tmp_path: Path) -> None:
    """In the PATH of a child, which has no relative folder."""
    finding = only(preconditions.git({"PATH": f"{tmp_path}:."}))

    assert finding.state == "warning"
    assert "git --version" in finding.action


# -- the way out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    {
        "http://proxy.example:3128": "http://proxy.example:3128",
        "https://proxy.example": "https://proxy.example:443",
        "http://proxy.example/": "http://proxy.example:80",
        "http://[fd00::1]:3128": "http://[fd00::1]:3128",
        "http://me:secret@proxy.example:3128": "http://***@proxy.example:3128",
        "http://secret@proxy.example": "http://***@proxy.example:80",
        "http://me:sec@ret@proxy.example:1": "http://***@proxy.example:1",
        "http://proxy.example:3128/?secret=1#secret": "http://proxy.example:3128",
        # Python takes another host for it, or none: nothing of it may be shown.
        "http://me:12/34@proxy.example": None,
        "http://me:sec/ret@proxy.example": None,
        "http://me:sec#ret@proxy.example": None,
        "http://me:1?23@proxy.example": None,
        "me:secret@proxy.example:3128": None,
        "proxy.example:3128": None,
        "socks5://proxy.example:1080": None,
        "http://[secret": None,
        "http://proxy.example:secret": None,
        "://": None,
        "": None,
    }.items(),
)
def test_a_proxy_is_shown_without_who_uses_it(value: str, shown: str | None) -> None:
    """User and password stay hidden, and what cannot be read as an address is not shown at all."""
    parts = preconditions.proxy_parts(value)

    assert (parts and parts[0]) == shown


@given(
    user=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)
def test_no_part_of_a_proxys_password_is_shown(user: str, password: str) -> None:
    """Whatever characters it has, with or without the escapes that an address wants."""
    parts = preconditions.proxy_parts(f"http://{user}:{password}secret@proxy.example:3128")

    assert parts is None or parts == ("http://***@proxy.example:3128", "proxy.example", 3128)


def test_a_file_of_certificates_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, readable, and with certificates in it; for CLIs that run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    good, empty, key = tmp_path / "ca.pem", tmp_path / "empty.pem", tmp_path / "key.pem"
    good.write_text("-----BEGIN CERTIFICATE-----\n")
    empty.touch()
    key.write_text("-----BEGIN PRIVATE KEY-----\n")

    assert only(preconditions.certificates({})).state == "ok"
    assert str(good) in only(preconditions.certificates({"SSL_CERT_FILE": str(good)})).message
    for path, part in (
        (tmp_path / "gone", "is no file"),
        (tmp_path, "is no file"),
        (empty, "holds no certificate"),
        (key, "holds no certificate"),
        (Path(good.name), "is no absolute path"),
    ):
        finding = only(preconditions.certificates({"NODE_EXTRA_CA_CERTS": str(path)}))
        assert finding.state == "blocks"
        assert part in finding.message
        assert "NODE_EXTRA_CA_CERTS" in finding.action


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        (0, ["HUB_STATE_KEY is not set", "one hub"]),
        (1, ["sealed with HUB_STATE_KEY,", "shares Redis"]),
        (3, ["HUB_STATE_KEY, and 2 more", "shares Redis"]),
    ],
)
def test_the_doctor_tells_whether_a_hub_is_a_replica(keys: int, parts: list[str]) -> None:
    """It changes what older clients are given, and is switched by one variable."""
    (found,) = preconditions.replicas(keys, "Redis")

    assert (found.name, found.state) == ("replicas", "ok")
    assert all(part in found.message for part in parts)
