"""The hub's own Gemini CLI: which one is used, and what is told where npm cannot install it.

npm and Node.js are stood in for by scripts here; the real ones install the real CLI in `tests/protocol/test_setup.py`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from llm_mcp_hub.errors import CliMissing
from llm_mcp_hub.providers import gemini_install
from llm_mcp_hub.providers.gemini_install import fault, find, install, installed, node_of, wanted

NPM = 'echo "$*" >>"$HOME/npm-was-called"\n[ "$1" = --version ] && echo 11.0.0 && exit\n'
GOOD = (
    NPM
    + f"""mkdir -p "$3/node_modules/.bin"
echo 'echo {wanted()}' >"$3/node_modules/.bin/gemini"
"""
)


@pytest.fixture
def around(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has a node that runs shell scripts, and an npm that installs one."""
    programs = tmp_path / "programs"
    programs.mkdir()
    around = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    program(around, "node", f'[ "$1" = -p ] && echo "22.1.0 {programs}/node" && exit\nexec sh "$@"')
    program(around, "npm", GOOD)
    return around


def program(around: dict[str, str], name: str, text: str) -> Path:
    file = Path(around["PATH"].split(":")[0]) / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def made(own: Path, around: dict[str, str], *, again: bool = False) -> Path:
    return asyncio.run(install(own, around, again=again))


def test_what_is_installed_starts_with_the_node_that_it_was_installed_with(
    tmp_path: Path, around: dict[str, str]
) -> None:
    """An editor starts the hub without the PATH of its owner's shell."""
    own = tmp_path / "state" / "gemini-cli"
    cli = made(own, around)
    elsewhere = {"PATH": "/nonexistent", "HOME": str(tmp_path)}

    assert find("gemini", elsewhere, own) == installed(own) == cli
    assert node_of(cli, own) == cli.with_name("node")
    assert cli.with_name("node").resolve() == (tmp_path / "programs" / "node").resolve()
    assert subprocess.run([cli, "--version"], capture_output=True, text=True, check=True).stdout.strip() == wanted()
    assert [path.name for path in own.iterdir() if not path.name.startswith(".")] == [cli.parent.name]
    assert {path.stat().st_mode & 0o777 for path in (own.parent, own, cli.parent)} == {0o700}


def test_a_second_time_nothing_is_done_unless_what_is_there_does_not_start(
    tmp_path: Path, around: dict[str, str]
) -> None:
    """`again` puts a whole one in its place."""
    own = tmp_path / "gemini-cli"
    cli = made(own, around)
    (tmp_path / "npm-was-called").unlink()
    assert made(own, around) == cli
    assert not (tmp_path / "npm-was-called").exists()
    cli.with_name("node_modules").rename(own / ".new-left-by-somebody")

    assert made(own, around, again=True) == cli
    assert (cli.parent / "node_modules").is_dir()
    assert list(own.glob(".new-*")) == []


def test_what_is_left_of_one_that_was_taken_away_is_not_in_the_way(tmp_path: Path, around: dict[str, str]) -> None:
    """A folder of the pinned name without a program in it."""
    own = tmp_path / "gemini-cli"
    cli = made(own, around)
    cli.unlink()

    assert made(own, around) == cli
    assert cli.is_file()
    assert list(own.glob(".new-*")) == []


def test_a_cli_in_path_comes_first_and_a_chosen_command_is_never_replaced(
    tmp_path: Path, around: dict[str, str]
) -> None:
    """What a setting names and is not there is missing, whatever else is installed."""
    own = tmp_path / "gemini-cli"
    made(own, around)
    named = program(around, "gemini", "exit")

    assert find("gemini", around, own) == named
    assert find("gemini-of-mine", around, own) is None
    assert find("gemini", {"PATH": "/nonexistent"}, None) is None


def test_an_older_pin_is_used_until_setup_runs_again(tmp_path: Path, around: dict[str, str]) -> None:
    """A newer hub works at once; the last CLI before stays for hubs that run, older ones go."""
    own = tmp_path / "gemini-cli"
    for number, name in enumerate(("0.60.0-aaaaaaaa", "0.60.1-bbbbbbbb")):
        (own / name).mkdir(parents=True)
        (own / name / "gemini").write_text("")
        for path in (own / name, own / name / "gemini"):
            os.utime(path, (1_000 + number, 1_000 + number))
    before = installed(own)
    cli = made(own, around)

    assert before == own / "0.60.1-bbbbbbbb" / "gemini"
    assert installed(own) == cli
    assert {path.name for path in own.glob("[0-9]*")} == {"0.60.1-bbbbbbbb", cli.parent.name}


def test_two_at_once_install_one(tmp_path: Path, around: dict[str, str]) -> None:
    """The second waits and finds it done."""

    async def both() -> tuple[Path, Path]:
        return await asyncio.gather(install(own, around), install(own, around))

    own = tmp_path / "gemini-cli"
    first, second = asyncio.run(both())

    assert first == second
    assert (tmp_path / "npm-was-called").read_text().count("ci --prefix") == 1


@pytest.mark.parametrize(
    ("name", "text", "part", "step"),
    [
        ("node", None, "not found in PATH", "Install Node.js 20"),
        ("node", "exit 1", "cannot be started", "Install Node.js 20"),
        ("node", "echo 18.20.0 /usr/bin/node", "too old (18.20.0; 20 is needed)", "Install Node.js 20"),
        ("npm", None, "npm, which belongs to Node.js, was not found", "Install npm"),
        ("npm", "exit 1", "cannot be started", "--version"),
        ("npm", "echo 6.14.18", "too old (6.14.18)", "npm install -g npm"),
        ("npm", NPM + "echo 'npm error code ENOTFOUND' >&2; exit 1", "cannot be reached", "npm config get registry"),
        ("npm", NPM + "exit 0", "cannot be started here", "llm-mcp-hub doctor"),
        ("npm", NPM + "kill -9 $$", "npm has failed", "_logs"),
    ],
)
def test_what_is_in_the_way_is_told_and_nothing_torn_is_left(
    tmp_path: Path, around: dict[str, str], name: str, text: str | None, part: str, step: str
) -> None:
    """One sentence, one next step, which ends in the command to go on with."""
    own = tmp_path / "gemini-cli"
    if text is not None:
        program(around, name, text)
    else:
        around["PATH"] = around["PATH"].split(":")[0]
        (tmp_path / "programs" / name).unlink()
    with pytest.raises(CliMissing) as told:
        made(own, around)

    assert part in told.value.message
    assert step in told.value.action
    assert told.value.action.endswith("llm-mcp-hub setup")
    assert installed(own) is None
    assert [path.name for path in own.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_and_a_full_disk_are_told(
    tmp_path: Path, around: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before npm works for a minute."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CliMissing, match="cannot be written") as told:
        made(tmp_path / "file" / "gemini-cli", around)
    monkeypatch.setattr(gemini_install, "ROOM_BYTES", 1 << 60)
    with pytest.raises(CliMissing, match="MB left"):
        made(tmp_path / "gemini-cli", around)

    assert "HUB_STATE_DIR" in told.value.action
    assert "ci" not in (tmp_path / "npm-was-called").read_text()


def test_a_registry_that_says_nothing_is_told_of_and_not_waited_for(
    tmp_path: Path, around: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that swallows: npm itself would be silent for a quarter of an hour."""
    monkeypatch.setattr(gemini_install, "LIFE_S", 0.02)
    monkeypatch.setattr(gemini_install, "MUTE_S", 0.1)
    program(around, "npm", NPM + "exec sleep 600")
    told: list[str] = []

    with pytest.raises(CliMissing, match="nothing has come from the package registry") as error:
        asyncio.run(install(tmp_path / "gemini-cli", around, tell=told.append))

    assert "npm still waits for the package registry" in told[0]
    assert error.value.action.endswith("llm-mcp-hub setup")
    assert [path.name for path in (tmp_path / "gemini-cli").iterdir()] == [".lock"]


def test_a_slow_registry_is_waited_for_as_long_as_something_comes(
    tmp_path: Path, around: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much has come is told now and then."""
    monkeypatch.setattr(gemini_install, "LIFE_S", 0.02)
    waits = 'while [ ! -e "$HOME/seen" ]; do sleep 0.02; done'
    program(around, "npm", NPM + f'mkdir "$3/some"; head -c 3000000 /dev/zero >"$3/some/file"; {waits}\n{GOOD}')

    def tell(text: str) -> None:
        if text == "npm goes on; 3 MB have come":
            (tmp_path / "seen").touch()

    assert asyncio.run(install(tmp_path / "gemini-cli", around, tell=tell)).is_file()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("npm error code ENOSPC\nnpm error errno -28", "no space left"),
        ("npm ERR! code EINTEGRITY", "something else than what the hub was measured with"),
        ("npm error code E401\nnpm error 401 Unauthorized - GET https://me:secret@registry.example/x", "wants a login"),
        ("npm error code E403\nnpm error 403 Forbidden", "has refused"),
        ("npm error code E407", "the proxy before the package registry wants a login"),
        ("npm error code E404", "does not have it"),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", "is not trusted"),
        ("npm error code ECONNREFUSED\nnpm error errno ECONNREFUSED", "cannot be reached"),
        ("npm error code E503", "cannot be reached"),
        ("npm error code EACCES\nnpm error syscall mkdir", "may not write"),
        ("npm error code EUSAGE", "this npm cannot"),
        ("npm error code EWHATEVER", "npm has failed (exit code 7, EWHATEVER)"),
        ("Segmentation fault", "npm has failed (exit code 7)"),
    ],
)
def test_what_npm_says_is_told_by_its_code_alone(text: str, part: str) -> None:
    """An address in its words may hold a password."""
    error = fault(7, text)

    assert part in error.message
    assert "secret" not in error.message + error.action
    assert error.action.endswith("llm-mcp-hub setup")


def test_npm_gets_its_owners_configuration_and_no_token_of_the_hub(tmp_path: Path, around: dict[str, str]) -> None:
    """The registry comes from there; what the hub is logged in with is nothing of npm's."""
    program(around, "npm", f'env >"{tmp_path}/seen"\n{GOOD}')
    told = {"npm_config_registry": "http://127.0.0.1:9/", "NPM_TOKEN": "made-up", "https_proxy": "http://127.0.0.1:8"}
    secret = {"CLAUDE_CODE_OAUTH_TOKEN": "made-up", "ANTHROPIC_API_KEY": "made-up"}
    made(tmp_path / "gemini-cli", around | told | secret)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())

    assert {name: seen.get(name) for name in ("npm_config_registry", "NPM_TOKEN")} == {
        name: told[name] for name in ("npm_config_registry", "NPM_TOKEN")
    }
    assert seen["HTTPS_PROXY"] == "http://127.0.0.1:8"
    assert not set(secret) & set(seen)
