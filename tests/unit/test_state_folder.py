"""The folder of HUB_STATE_DIR: whose it may be, who may write there, and what may stand in it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llm_mcp_hub import cli, state_folder
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.commands import client
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.finding import Finding
from llm_mcp_hub.main import open_store
from llm_mcp_hub.main_commands import preconditions_of
from llm_mcp_hub.providers import gemini_install
from llm_mcp_hub.settings import load
from llm_mcp_hub.store import sqlite

SOMEBODY = 54321


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder as a hub has made it."""
    made = tmp_path / "state"
    state_folder.make(made)
    return made


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's from now on; root really gives it away, anybody else becomes somebody else."""
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    else:
        os.chown(path, SOMEBODY, -1, follow_symlinks=False)


def refused(folder: Path) -> Misconfigured:
    with pytest.raises(Misconfigured) as told:
        state_folder.check(folder)
    assert "HUB_STATE_DIR" in told.value.message
    return told.value


def test_what_is_looked_at_is_what_the_hub_uses(folder: Path) -> None:
    """A file that its owner has renamed would not be looked at any more."""
    settings = load(around={"HUB_STATE_DIR": str(folder)})
    with closing(RunFolder(folder)) as run:
        used = [settings.clients_file, folder / client.FIRST, gemini_install.folder(folder), folder / sqlite.FILE]
        used += [SavedLogins(folder).folder, run.path.parent]

    assert sorted(used) == [folder / name for name in sorted(state_folder.USED)]


def test_a_folder_whose_path_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """Not at the first ask, when the path goes to a CLI in JSON; and the sentence can be written."""
    told = refused(Path(os.fsdecode(os.fsencode(tmp_path) + b"/stat\xe9")))

    assert told.message.encode()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o722, 0o2770])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    """They could put a login of theirs there; its owner can close it."""
    folder.chmod(mode)

    assert refused(folder).action == f"Run: chmod 700 {folder}"


def test_a_folder_that_is_open_on_purpose_is_not_to_be_closed(folder: Path) -> None:
    """Such as /tmp, or an image's volume: the hub's own goes into it, not in its place."""
    folder.chmod(0o1777)

    assert refused(folder).action.endswith(f"such as {folder / 'state'}")
    state_folder.make(folder / "state")
    assert (folder / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """Whoever owns it can put anything into it, whatever its mode: as in a volume where another uid was first."""
    folder.chmod(mode)
    give_away(folder, monkeypatch)

    error = refused(folder)

    assert "belongs to another user" in error.message
    assert error.action == "Set HUB_STATE_DIR to a folder that this user has made."


def test_a_link_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads to a folder of this user's today, and elsewhere tomorrow."""
    link = folder.with_name("link")
    link.symlink_to(folder)
    state_folder.check(link)
    give_away(link, monkeypatch)

    assert "belongs to another user" in refused(link).message


@pytest.mark.parametrize("name", state_folder.USED)
def test_what_another_user_left_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """While the folder was open; closing it does not make that the hub's own."""
    (folder / "notes").touch()
    (folder / name).mkdir()
    if user := os.geteuid():  # who is somebody else as soon as the folder itself has been looked at
        users = itertools.chain([user, user], itertools.repeat(SOMEBODY))
        monkeypatch.setattr(os, "geteuid", lambda: next(users))
    else:
        give_away(folder / "notes", monkeypatch)  # which the hub does not use
        state_folder.check(folder)
        give_away(folder / name, monkeypatch)

    error = refused(folder)

    assert error.message.startswith(f"{folder / name}, in the state folder")
    assert error.action.endswith(f"mv {folder / name} {folder / name}.foreign")


def test_who_may_look_around_may_not_stop_it(folder: Path) -> None:
    """A doctor's warning is enough: the files in it are their owner's alone."""
    folder.chmod(0o755)
    state_folder.make(folder)


def test_a_folder_that_is_removed_under_a_hub_is_not_another_users_afterwards(folder: Path) -> None:
    """A cleaner takes it out of an open place; whoever makes it anew there is not believed."""
    run = RunFolder(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(Misconfigured):
        run.new_home("claude")

    assert list(folder.iterdir()) == []
    folder.rmdir()
    assert run.new_home("claude").is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    run.close()


WRITERS: dict[str, Callable[[Path], object]] = {
    "a hub": RunFolder,
    "a saved login": lambda folder: SavedLogins(folder).put("claude", Saved("x")),
    "the store": lambda folder: open_store(load(around={"HUB_STATE_DIR": str(folder)})),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_nothing_is_written_where_others_can_write(folder: Path, write: Callable[[Path], object]) -> None:
    """Whoever writes there looks first."""
    folder.chmod(0o777)

    with pytest.raises(Misconfigured):
        write(folder)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [["serve", "--first-client", "me"], ["ask", "claude", "hello"], ["client", "add", "me"], ["login", "gemini"]],
    ids=lambda words: words[0],
)
def test_each_command_that_would_write_there_ends_with_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Exit 78, as for every other setting that cannot be used, with the setting's name; nothing is made."""
    folder.chmod(0o777)
    monkeypatch.setenv("HUB_STATE_DIR", str(folder))

    code = cli.main(words)

    assert (code, list(folder.iterdir())) == (78, [])
    said = capsys.readouterr().err
    assert said.startswith(f"llm-mcp-hub: misconfigured: Others can write to the state folder {folder} (HUB_STATE_DIR")
    assert said.endswith(f"\n  Run: chmod 700 {folder}\n")


@pytest.mark.anyio
async def test_a_doctor_starts_no_cli_that_others_could_have_left_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look at Gemini's CLI runs a program: none of a folder that is open to others."""
    program = folder / "gemini-cli" / gemini_install.wanted() / "gemini"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ntouch {folder}/started\necho {gemini_install.wanted()}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("HUB_STATE_DIR", str(folder))
    known: dict[int, list[Finding]] = {}
    for mode in (0o700, 0o777):
        folder.chmod(mode)
        with preconditions_of(None) as looks:
            gemini = looks["gemini"]
            assert not callable(gemini)
            known[mode] = [finding async for finding in gemini if finding.name == "gemini-cli"]
        started = folder / "started"
        assert started.exists() is (mode == 0o700)
        started.unlink(missing_ok=True)

    assert str(program) in known[0o700][0].message
    assert str(program) not in known[0o777][0].message
