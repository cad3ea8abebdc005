"""Every setting: where it may come from, what it may be, and what an error about it says."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub import cli
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.settings import APP, SECRETS, Settings, Source, examine, load

TOKEN = "sk-ant-oat01-" + "madeup" * 14


def shown(value: Any) -> Any:
    """A setting as a test compares it: a secret by its content."""
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def refused(around: dict[str, str], env_file: Path | None = None) -> Misconfigured:
    with pytest.raises(Misconfigured) as raised:
        load(env_file, around)
    return raised.value


def loaded(around: dict[str, str]) -> Settings | Misconfigured:
    """The settings, or why there are none."""
    try:
        return load(around=around)
    except Misconfigured as error:
        return error


# -- every variable ----------------------------------------------------------------------------------------------------

GIVEN: dict[str, tuple[str, Any]] = {
    "CLAUDE_CODE_OAUTH_TOKEN": (TOKEN, TOKEN),
    "CLAUDE_MODEL": ("opus", "opus"),
    "CLAUDE_TOKEN_ISSUED_AT": ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
    "GEMINI_AUTH_PATH": ("/logins/google.json", Path("/logins/google.json")),
    "GEMINI_MODEL": ("gemini-3-pro-preview", "gemini-3-pro-preview"),
    "GEMINI_PROJECT": ("my-project", "my-project"),
    "REDIS_URL": ("rediss://:made-up@cache:6380/1", "rediss://:made-up@cache:6380/1"),
    "LOG_LEVEL": ("DEBUG", "DEBUG"),
    "HUB_LOG_FORMAT": ("console", "console"),
    "HUB_HOST": ("::1", "::1"),
    "HUB_PORT": ("9000", 9000),
    "HUB_CLIENTS_FILE": ("/etc/hub/clients.json", Path("/etc/hub/clients.json")),
    "HUB_FIRST_CLIENT": ("laptop", "laptop"),
    "HUB_ALLOWED_HOSTS": ("Hub.Example, [fd00::1]:8000,hub:*,", ("hub.example", "[fd00::1]:8000", "hub:*")),
    "HUB_ALLOWED_ORIGINS": ("https://Pages.example,http://hub:*", ("https://pages.example", "http://hub:*")),
    "HUB_STATE_KEY": ("k" * 32 + "," + "l" * 40, "k" * 32 + "," + "l" * 40),
    "HUB_STATE_DIR": ("/state", Path("/state")),
    "HUB_ASK_TIMEOUT_S": ("30", 30.0),
    "HUB_FIRST_TEXT_TIMEOUT_S": ("1.5", 1.5),
    "HUB_IDLE_TIMEOUT_S": ("7", 7.0),
    "HUB_CLAUDE_CONCURRENCY": ("2", 2),
    "HUB_GEMINI_CONCURRENCY": ("3", 3),
    "HUB_CLAUDE_WARM": ("0", 0),
    "HUB_GEMINI_WARM": ("0", False),
    "HUB_QUEUE_LIMIT": ("5", 5),
    "HUB_RETENTION_DAYS": ("0.5", 0.5),
    "HUB_WAIT_S": ("0", 0.0),
    "HUB_FILE_ROOTS": ("/src:/docs", (Path("/src"), Path("/docs"))),
    "HUB_DRAIN_S": ("0", 0.0),
    "HUB_ALERT_DAYS": ("14", 14.0),
    "HUB_ALERT_WEBHOOK_URL": (
        "https://alerts.example.invalid/hook?key=made-up",
        "https://alerts.example.invalid/hook?key=made-up",
    ),
    "HUB_ALERT_WEBHOOK_SECRET": ("made-up-webhook-secret", "made-up-webhook-secret"),
    "HUB_ALLOW_OVERAGE": ("1", True),
    "HUB_GEMINI_COMMAND": ("/opt/gemini", "/opt/gemini"),
    "HUB_CLAUDE_UPSTREAM": ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    "HUB_GEMINI_UPSTREAM": ("http://localhost:8080", "http://localhost:8080"),
}


def test_every_setting_has_a_row() -> None:
    """A new setting without a row in this table is not tested."""
    assert {field.upper() for field in Settings.model_fields} == set(GIVEN)


@pytest.mark.parametrize("name", GIVEN)
def test_a_variable_sets_its_setting_alone(name: str) -> None:
    """Read by its name, in its type; every other setting keeps its default."""
    text, value = GIVEN[name]
    before, after = load(around={}), load(around={name: text})

    changed = {
        field.upper(): shown(getattr(after, field))
        for field in Settings.model_fields
        if getattr(after, field) != getattr(before, field)
    }

    assert changed == {name: value}


def test_the_defaults_are_the_documented_ones() -> None:
    """DESIGN 3.5; a default that changes is a change of the contract."""
    settings = load(around={})

    assert settings.model_dump() == {
        "claude_code_oauth_token": None,
        "claude_model": "sonnet",
        "claude_token_issued_at": None,
        "gemini_auth_path": Path.home() / ".gemini" / "oauth_creds.json",
        "gemini_model": "gemini-2.5-pro",
        "gemini_project": None,
        "redis_url": None,
        "log_level": "INFO",
        "hub_log_format": None,
        "hub_host": "127.0.0.1",
        "hub_port": 8000,
        "hub_clients_file": None,
        "hub_first_client": None,
        "hub_allowed_hosts": (),
        "hub_allowed_origins": (),
        "hub_state_key": None,
        "hub_state_dir": platformdirs.user_state_path(APP),
        "hub_ask_timeout_s": 600,
        "hub_first_text_timeout_s": 300,
        "hub_idle_timeout_s": 120,
        "hub_claude_concurrency": 4,
        "hub_gemini_concurrency": 32,
        "hub_claude_warm": 1,
        "hub_gemini_warm": True,
        "hub_queue_limit": 64,
        "hub_retention_days": 7,
        "hub_wait_s": None,
        "hub_file_roots": None,
        "hub_drain_s": 25,
        "hub_alert_days": 3,
        "hub_alert_webhook_url": None,
        "hub_alert_webhook_secret": None,
        "hub_allow_overage": False,
        "hub_gemini_command": "gemini",
        "hub_claude_upstream": None,
        "hub_gemini_upstream": None,
    }


NO_HOSTS = (
    "*",
    "*.example",
    "hub.*",
    "*:8000",
    "box.test:",
    "box.test:http",
    "box.test:1234567",
    "box.test/mcp",
    "one.example two.example",
    "me@box.test",
    "https://box.test",
    "-box.test",
    "hüb.example",
    "box.test,*",
)

WRONG: list[tuple[str, str]] = [
    ("CLAUDE_TOKEN_ISSUED_AT", "yesterday"),
    ("CLAUDE_TOKEN_ISSUED_AT", "2026-13-40"),
    ("CLAUDE_TOKEN_ISSUED_AT", "9999-12-31"),
    ("CLAUDE_TOKEN_ISSUED_AT", "0001-01-01T00:00:00+14:00"),
    ("GEMINI_AUTH_PATH", "~nobody-by-this-name/creds.json"),
    ("HUB_STATE_DIR", "~nobody-by-this-name"),
    ("LOG_LEVEL", "LOUD"),
    ("HUB_LOG_FORMAT", "xml"),
    ("HUB_CLIENTS_FILE", "~nobody-by-this-name/clients.json"),
    *(("HUB_ALLOWED_HOSTS", name) for name in NO_HOSTS),
    *(("HUB_ALLOWED_ORIGINS", f"https://{name}") for name in NO_HOSTS),
    ("HUB_ALLOWED_ORIGINS", "box.test"),
    ("HUB_ALLOWED_ORIGINS", "null"),
    ("HUB_ALLOWED_ORIGINS", "ftp://box.test"),
    ("HUB_PORT", "70000"),
    ("HUB_PORT", "-1"),
    ("HUB_PORT", "80.5"),
    ("HUB_ASK_TIMEOUT_S", "0"),
    ("HUB_ASK_TIMEOUT_S", "3601"),
    ("HUB_ASK_TIMEOUT_S", "nan"),
    ("HUB_FIRST_TEXT_TIMEOUT_S", "0.0"),
    ("HUB_FIRST_TEXT_TIMEOUT_S", "inf"),
    ("HUB_IDLE_TIMEOUT_S", "-5"),
    ("HUB_CLAUDE_CONCURRENCY", "0"),
    ("HUB_GEMINI_CONCURRENCY", "many"),
    ("HUB_CLAUDE_WARM", "17"),
    ("HUB_GEMINI_WARM", "2"),
    ("HUB_QUEUE_LIMIT", "-1"),
    ("REDIS_URL", "http://cache:6379"),
    ("REDIS_URL", "cache:6379"),
    ("HUB_STATE_KEY", "k" * 31),
    ("HUB_STATE_KEY", "k" * 32 + ", " + "short-one"),
    ("HUB_STATE_KEY", " , "),
    ("HUB_STATE_KEY", "four words that are long together"),
    ("HUB_RETENTION_DAYS", "0.0"),
    ("HUB_RETENTION_DAYS", "3651"),
    ("HUB_WAIT_S", "-1"),
    ("HUB_WAIT_S", "3601"),
    ("HUB_FILE_ROOTS", "/src:~nobody-by-this-name"),
    ("HUB_DRAIN_S", "nan"),
    ("HUB_ALERT_DAYS", "366"),
    ("HUB_ALERT_WEBHOOK_URL", "http://alerts.example.invalid/hook"),
    ("HUB_ALERT_WEBHOOK_URL", "https://alerts.example.invalid:port/hook"),
    ("HUB_ALERT_WEBHOOK_SECRET", "fifteen-letters"),
    ("HUB_ALLOW_OVERAGE", "perhaps"),
    ("HUB_CLAUDE_UPSTREAM", "https://api.anthropic.com"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    """The error names the variable and never shows the value: it may be a secret in the wrong place."""
    error = refused({name: value})

    assert name in error.message
    assert value not in error.message + error.action
    assert name in error.action


@pytest.mark.parametrize("name", GIVEN)
def test_a_secret_in_the_wrong_variable_is_never_shown(name: str) -> None:
    """People paste a token into the line above: neither an error nor a `repr` may print it."""
    found = loaded({name: TOKEN})

    if isinstance(found, Misconfigured):
        assert TOKEN not in str(found) + found.message + found.action + repr(found.__cause__)
    else:
        assert name not in SECRETS or TOKEN not in repr(found) + found.model_dump_json()


@given(st.sampled_from(sorted(GIVEN)), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_value_is_taken_or_refused(name: str, value: str) -> None:
    """No value of any variable ends in anything but settings or one coded error."""
    found = loaded({name: value})

    assert isinstance(found, Settings) or name in found.message


@pytest.mark.parametrize("url", ["https://[{}]/x", "https://user:{}\u2100@host/x", "//[{}]"])
def test_an_address_that_no_parser_takes_is_not_quoted(url: str) -> None:
    """Python's own parser shows what it refuses, and a webhook's address is a secret."""
    error = refused({"HUB_ALERT_WEBHOOK_URL": url.format("made-up-secret")})

    assert "made-up-secret" not in f"{error} {error.action}"


@pytest.mark.parametrize("line", ["REDIS_URL_FILE=a\0b", "HUB_STATE_DIR=a\0b", "HUB_FILE_ROOTS=/a\0b"])
def test_a_path_with_nul_in_a_settings_file_is_refused(tmp_path: Path, line: str) -> None:
    """No variable can hold it, a file can; the system's own complaint about it is no coded error."""
    file = tmp_path / "hub.env"
    file.write_text(f"{line}\n")

    assert line.partition("=")[0] in refused({}, file).message


# -- what a date is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    {
        "2026-11-23": datetime(2026, 11, 23, tzinfo=UTC),
        "2026-11-23T10:00": datetime(2026, 11, 23, 10, tzinfo=UTC),
        "2026-11-23T10:00:00Z": datetime(2026, 11, 23, 10, tzinfo=UTC),
        "2026-11-23T10:00:00+09:00": datetime(2026, 11, 23, 10, tzinfo=timezone(timedelta(hours=9))),
    }.items(),
)
def test_a_date_without_a_zone_is_utc(text: str, moment: datetime) -> None:
    """A status must be able to compare it with its clock."""
    assert load(around={"CLAUDE_TOKEN_ISSUED_AT": text}).claude_token_issued_at == moment


# -- where settings come from ------------------------------------------------------------------------------------------


def config_file(content: str = "HUB_PORT=7001\n", mode: int = 0o600) -> Path:
    """Write the file of the user's configuration folder (in this test's own HOME)."""
    file = platformdirs.user_config_path(APP) / ".env"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    file.chmod(mode)
    return file


def named_file(folder: Path, content: str = "HUB_PORT=7002\n") -> Path:
    file = folder / "named.env"
    file.write_text(content)
    return file


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """What an MCP client passes wins over every file."""
    config_file()

    assert load(named_file(tmp_path), {"HUB_PORT": "7003"}).hub_port == 7003


def test_a_named_file_replaces_the_configuration_file(tmp_path: Path) -> None:
    """`--env-file` says which file, so the other one is not read at all."""
    config_file("HUB_PORT=7001\nHUB_QUEUE_LIMIT=9\n")

    settings = load(named_file(tmp_path), {})

    assert settings.hub_port == 7002
    assert settings.hub_queue_limit == 64


def test_the_configuration_file_is_read_when_none_is_named() -> None:
    """The place for settings that hold for every client."""
    config_file()

    assert load(around={}).hub_port == 7001


def test_an_empty_variable_is_no_value(tmp_path: Path) -> None:
    """Container files pass `NAME=` for what is not set; it must not hide the file's value."""
    assert load(named_file(tmp_path), {"HUB_PORT": ""}).hub_port == 7002


def test_a_file_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    """Comments, quotes, `export`, a byte order mark, and values that look like other variables."""
    lines = [
        "\ufeff# a comment",
        "export HUB_PORT = 7004  # behind it",
        'CLAUDE_MODEL="opus"',
        "GEMINI_PROJECT='${HOME}'",
        "UNKNOWN=1",
        "",
    ]

    settings = load(named_file(tmp_path, "\n".join(lines)), {})

    assert (settings.hub_port, settings.claude_model) == (7004, "opus")
    assert settings.gemini_project == "${HOME}"


def test_the_working_folder_configures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G8: an editor starts the hub inside a cloned repository, whose `.env` must not steer it."""
    before = load(around={})
    (tmp_path / ".env").write_text(
        "HUB_PORT=6666\nHUB_GEMINI_COMMAND=/tmp/evil\nHUB_CLAUDE_UPSTREAM=http://127.0.0.1:1\n"
    )
    (tmp_path / "llm-mcp-hub").mkdir()
    (tmp_path / "llm-mcp-hub" / ".env").write_text("HUB_PORT=6667\n")
    monkeypatch.chdir(tmp_path)

    assert load(around={}) == before


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_configuration_file_that_others_can_write_is_refused(mode: int) -> None:
    """Its settings would be theirs: a command to start, a folder to write to."""
    file = config_file(mode=mode)

    error = refused({})

    assert str(file) in error.message
    assert f"chmod 600 {file}" in error.action


def test_a_named_file_may_be_anybodys(tmp_path: Path) -> None:
    """Who names it answers for it."""
    file = named_file(tmp_path)
    file.chmod(0o666)

    assert load(file, {}).hub_port == 7002


@pytest.mark.parametrize("kind", ["missing", "folder", "no text"])
def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path, kind: str) -> None:
    """Silence would start a hub with settings that nobody asked for."""
    file = tmp_path / "named.env"
    if kind == "folder":
        file.mkdir()
    elif kind == "no text":
        file.write_bytes(b"HUB_PORT=\xff\n")

    assert str(file) in refused({}, file).message


# -- secrets in files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str, marked: bool) -> None:
    """As containers mount secrets; the line end is the file's, not the secret's. Windows' editors put a mark before."""
    (tmp_path / "secret").write_text(f"\ufeff{GIVEN[name][0]}\n" if marked else f"{GIVEN[name][0]}\n")

    settings = load(around={f"{name}_FILE": str(tmp_path / "secret")})

    assert shown(getattr(settings, name.lower())) == GIVEN[name][1]


@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_secrets_file_is_an_error(tmp_path: Path, name: str) -> None:
    """The hub would start on a store of its own, unsealed, with unsigned alerts, or with another token."""
    (tmp_path / "secret").write_text("\n")
    file = named_file(tmp_path, f"{name}={GIVEN[name][0]}\n")

    error = refused({f"{name}_FILE": str(tmp_path / "secret")}, file)

    assert f"{name}_FILE names is empty" in error.message


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_itself_comes_before_its_file(tmp_path: Path, name: str) -> None:
    """Both may be set: the plain one is the more deliberate."""
    (tmp_path / "secret").write_text("from-the-file")

    settings = load(around={name: GIVEN[name][0], f"{name}_FILE": str(tmp_path / "secret")})

    assert shown(getattr(settings, name.lower())) == GIVEN[name][1]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_never_shown(tmp_path: Path, name: str) -> None:
    """Settings may be logged: a secret stands there as stars, wherever it came from."""
    settings = load(around={name: GIVEN[name][0]})

    assert GIVEN[name][0] not in repr(settings) + settings.model_dump_json()


def test_the_environments_secret_file_comes_before_a_files_secret(tmp_path: Path) -> None:
    """The order of the layers holds for both spellings."""
    (tmp_path / "secret").write_text("from-the-environments-file")
    file = named_file(tmp_path, f"CLAUDE_CODE_OAUTH_TOKEN={TOKEN}\n")

    settings = load(file, {"CLAUDE_CODE_OAUTH_TOKEN_FILE": str(tmp_path / "secret")})

    assert shown(settings.claude_code_oauth_token) == "from-the-environments-file"


def test_a_secrets_file_may_be_named_in_a_file(tmp_path: Path) -> None:
    """The configuration file then holds no secret itself."""
    (tmp_path / "secret").write_text(TOKEN)

    settings = load(named_file(tmp_path, f"CLAUDE_CODE_OAUTH_TOKEN_FILE={tmp_path}/secret\n"), {})

    assert shown(settings.claude_code_oauth_token) == TOKEN


@pytest.mark.parametrize("path", ["missing", ".", "~nobody-by-this-name/secret", "bytes"])
def test_a_secrets_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A hub that starts without the token it was given would blame the login."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    error = refused({"CLAUDE_CODE_OAUTH_TOKEN_FILE": path})

    assert "CLAUDE_CODE_OAUTH_TOKEN_FILE" in error.message


@pytest.mark.parametrize("name", sorted(set(GIVEN) - set(SECRETS)))
def test_only_secrets_are_read_from_files(tmp_path: Path, name: str) -> None:
    """`NAME_FILE` of anything else is no setting, and must not be read."""
    (tmp_path / "value").write_text(GIVEN[name][0])

    assert load(around={f"{name}_FILE": str(tmp_path / "value")}) == load(around={})


# -- file roots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "roots"),
    {
        "": None,
        "/src": (Path("/src"),),
        "/with space/a:/b": (Path("/with space/a"), Path("/b")),
        ":/src:": (Path("/src"),),
        ":": (),
        "~/src": (Path("~/src"),),
    }.items(),
)
def test_file_roots_are_a_list_of_paths(text: str, roots: tuple[Path, ...] | None) -> None:
    """As PATH is written. Unset, the hub looks for itself; a list of none closes every file."""
    expected = None if roots is None else tuple(root.expanduser() for root in roots)

    assert load(around={"HUB_FILE_ROOTS": text}).hub_file_roots == expected


# -- addresses of stand-ins --------------------------------------------------------------------------------------------

UPSTREAMS = ["HUB_CLAUDE_UPSTREAM", "HUB_GEMINI_UPSTREAM"]

LOOPBACK = [
    "http://127.0.0.1",
    "http://127.0.0.1:8080",
    "http://127.8.9.10:80",
    "http://localhost:1",
    "http://[::1]:8080",
    "http://[::1]",
    "http://127.0.0.1:8080/",
]

ELSEWHERE = [
    "https://127.0.0.1",
    "ftp://127.0.0.1",
    "//127.0.0.1",
    "127.0.0.1:8080",
    "http://",
    "http:///127.0.0.1",
    "http://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1@evil.example",
    "http://127.0.0.1:80@evil.example",
    "http://user@127.0.0.1",
    "http://:password@127.0.0.1",
    "http://@127.0.0.1",
    # Two readings: for Python the host is 127.0.0.1, for a browser's parser (and the CLIs') it is evil.example.
    "http://:@evil.example\\@127.0.0.1",
    "http://evil.example\\@127.0.0.1",
    "http://127.0.0.1\\@evil.example",
    "http://127.0.0.1\\.evil.example",
    "http://127.0.0.1#@evil.example",
    "http://127.0.0.1?@evil.example",
    "http://127.0.0.1/../@evil.example",
    "http://127.0.0.1 evil.example",
    "http://127.0.0.1\t.evil.example",
    "http://127.0.0.1\n",
    "ht\ntp://127.0.0.1",
    " http://127.0.0.1",
    "http://0.0.0.0:80",
    "http://10.0.0.1",
    "http://169.254.169.254",
    "http://[::]",
    "http://[::ffff:10.0.0.1]",
    "http://[fe80::1]",
    "http://[::1",
    "http://::1",
    "http://127.1",
    "http://2130706433",
    "http://0x7f.0.0.1",
    "http://0177.0.0.1",
    "http://127.0.0.1:65536",
    "http://127.0.0.1:port",
    "http://127.0.0.1:-1",
    "http://１２７.0.0.1",
]


@pytest.mark.parametrize("name", UPSTREAMS)
@pytest.mark.parametrize("address", LOOPBACK)
def test_a_stand_in_may_be_on_this_machine(name: str, address: str) -> None:
    """The variables exist for tests, and tests run here."""
    assert getattr(load(around={name: address}), name.lower()) == address


@pytest.mark.parametrize("name", UPSTREAMS)
@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_stand_in_anywhere_else_refuses_to_start(name: str, address: str) -> None:
    """G1: a login must not be sent to an address that only looks like this machine."""
    assert name in refused({name: address}).message


@pytest.mark.parametrize(
    ("host", "alone"),
    {
        "127.0.0.1": True,
        "127.1.2.3": True,
        "::1": True,
        "localhost": True,
        "0.0.0.0": False,
        "::": False,
        "192.168.0.2": False,
        "localhost.evil.example": False,
        "127.0.0.1.evil.example": False,
        "hub": False,
    }.items(),
)
def test_the_hub_knows_whether_others_can_reach_it(host: str, alone: bool) -> None:
    """G8: what this says decides whether the hub may start without client tokens."""
    assert load(around={"HUB_HOST": host}).loopback_only is alone


# -- as far as they can be used ----------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_at_once_and_the_rest_is_read() -> None:
    """The doctor shows all there is to mend; `load` would raise the first."""
    around = {
        "HUB_PORT": "plum-canary",
        "HUB_QUEUE_LIMIT": "-1",
        "CLAUDE_MODEL": "opus",
        "REDIS_URL_FILE": "/nonexistent",
    }

    examined = examine(around=around)

    said = [error.message for error in examined.wrong]
    assert [variable for variable in ("REDIS_URL_FILE", "HUB_PORT", "HUB_QUEUE_LIMIT") if variable in str(said)] == [
        "REDIS_URL_FILE",
        "HUB_PORT",
        "HUB_QUEUE_LIMIT",
    ]
    assert len(said) == 3
    assert "plum-canary" not in str(said)
    assert (examined.settings.hub_port, examined.settings.claude_model) == (8000, "opus")
    assert refused(around).message == said[0]


def test_an_env_file_that_is_refused_leaves_the_environment(tmp_path: Path) -> None:
    """What stands in it does not count, and it is no source."""
    examined = examine(tmp_path / "gone", {"HUB_PORT": "7004"})

    assert len(examined.wrong) == 1
    assert examined.settings.hub_port == 7004
    assert examined.sources == ()


def test_every_file_that_was_read_is_a_source(tmp_path: Path) -> None:
    """With why it was, and whether it holds a secret: its mode matters then."""
    token, file = tmp_path / "token", tmp_path / "env"
    token.write_text(TOKEN)
    file.write_text(f"CLAUDE_CODE_OAUTH_TOKEN_FILE={token}\n")

    assert examine(file, {}).sources == (
        Source("--env-file", file, secret=False),
        Source("CLAUDE_CODE_OAUTH_TOKEN_FILE", token, secret=True),
    )
    file.write_text("REDIS_URL=redis://:made-up@127.0.0.1\n")
    assert examine(file, {}).sources == (Source("--env-file", file, secret=True),)
    assert examine(None, {}).sources == ()


def test_keys_of_replicas_are_told_apart_and_kept_secret() -> None:
    """The first one seals; each of them by itself is kept out of what the hub writes."""
    one, two = "k" * 32, "한국어-열쇠-하나-더-길게"
    settings = load(around={"HUB_STATE_KEY": f"\n{one},\n {two} "})

    assert settings.state_keys == (one, two)
    assert {one, two} <= set(settings.secrets())
    assert one not in repr(settings)
    assert load(around={}).state_keys == ()


def test_names_that_are_almost_a_setting_are_found(tmp_path: Path) -> None:
    """In the environment what is not called `HUB_...` may be others', unless a letter is missing or swapped."""
    file = tmp_path / "env"
    file.write_text(
        "GEMINI_PROJET=a\nHUB_UID=1\nHUB_GID=1\nHUB_PUBLISH=127.0.0.1\nHUB_TLS_CERTS=x\nHUB_TLS_PUBLISH=y\n"
    )
    around = {"HUB_WAIT": "5", "HUB_WAIT_S": "5", "HUB_HTTP_PORT": "1", "HUB_IMAGE": "x", "CLAUDE_MODELS": "x"}
    around |= {"CLAUDE_CODE_OAUTH_TOKE": "x", "GEMINI_MDOEL": "x", "LOGLEVEL": "x", "GEMINI_API_KEY": "x"}

    assert examine(file, around).mistyped == (
        ("CLAUDE_CODE_OAUTH_TOKE", "CLAUDE_CODE_OAUTH_TOKEN"),
        ("GEMINI_MDOEL", "GEMINI_MODEL"),
        ("GEMINI_PROJET", "GEMINI_PROJECT"),
        ("HUB_HTTP_PORT", "HUB_PORT"),
        ("HUB_WAIT", "HUB_WAIT_S"),
    )


@pytest.mark.parametrize(
    ("words", "begins"),
    [(["client", "list"], "llm-mcp-hub: "), (["serve", "--port", "99999"], "{"), (["health"], None)],
    ids=["a command", "a hub", "a probe"],
)
def test_a_name_that_nobody_reads_is_told_by_every_command(
    words: list[str],
    begins: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once; by a hub in its log. A probe, which runs every few seconds, is silent."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for name, value in {"HOME": str(tmp_path), "HUB_PROT": "8000", "HUB_PORT": "1"}.items():
        monkeypatch.setenv(name, value)

    cli.main(words)

    told = [line for line in capsys.readouterr().err.splitlines() if "HUB_PROT" in line]
    assert len(told) == (begins is not None)
    for line in told:
        assert line.startswith(str(begins))
        assert "HUB_PROT is no setting, so it does nothing; did you mean HUB_PORT?" in line


def test_a_line_that_is_no_setting_is_told_by_its_number(tmp_path: Path) -> None:
    """And never shown: it may be a token that was pasted alone. A file without any setting is none."""
    file = tmp_path / "g.env"
    file.write_text("HUB_PORT=9\nthese are <notes>\n# a comment\n\n<p>\n")

    examined = examine(file, {})

    assert examined.settings.hub_port == 9
    assert examined.odd() == [f"{file}, line 2 (and 1 more), is no NAME=VALUE, so it does nothing."]
    file.write_text("<html>\n<p>Hello</p>\n")
    with pytest.raises(Misconfigured, match="is no settings file"):
        load(file, {})


@pytest.mark.parametrize("name", ["HUB_STATE_DIR", "HUB_CLIENTS_FILE", "GEMINI_AUTH_PATH"])
def test_a_path_that_depends_on_the_folder_of_the_start_is_refused(name: str) -> None:
    """From another folder every login would be missing."""
    with pytest.raises(Misconfigured, match=f"{name} is not usable: must be an absolute path"):
        load(around={name: "relative/dir"})
    load(around={name: "~/it"})


def test_what_is_wrong_with_a_value_is_said_in_plain_words() -> None:
    """Not in those of the library; a level may be written small."""
    [error] = examine(None, {"HUB_PORT": "eighty"}).wrong

    assert error.message == "HUB_PORT is not usable: must be a valid integer."
    assert load(around={"LOG_LEVEL": "info"}).log_level == "INFO"


def test_a_settings_file_that_cannot_be_read_is_told_with_its_reason(tmp_path: Path) -> None:
    """Who can read it would look at its mode."""
    binary = tmp_path / "settings.env"
    binary.write_bytes(b"\xff\xfe\x00")

    assert "(it is no text in UTF-8)" in refused({}, binary).message
    binary.write_text(f"HUB_PORT=8{' ' * 100_000}0\n")
    assert "(it has a thousand blanks in a row)" in refused({}, binary).message
    assert "(it has more than a million characters)" in refused({}, Path("/dev/zero")).message
    endless = {"CLAUDE_CODE_OAUTH_TOKEN_FILE": "/dev/zero"}
    assert "names cannot be read" in refused(endless).message
    assert "(Is a directory)" in refused({}, tmp_path).message
    assert "(No such file or directory)" in refused({}, tmp_path / "none.env").message
