"""A secret in an env file: what else stands there stays, and nobody else can take part."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.commands.env_file import check, rehearse, rewrite
from llm_mcp_hub.env_text import Unreadable, with_values
from llm_mcp_hub.errors import Misconfigured
from tests.harness import DEADLINE_S

NEW = {"TOKEN": "new"}
WITHOUT_RIGHTS = [] if os.geteuid() else ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
"""Root, who may give files away, in front of a program that may not."""


# The text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "TOKEN=new\n"),
        ("A=1", "A=1\nTOKEN=new\n"),
        ("A=1\r\n", "A=1\r\nTOKEN=new\r\n"),
        ("TOKEN=old\nA=1\n", "TOKEN=new\nA=1\n"),
        ("A=1\n\n  export TOKEN = 'old' # of last year\nB=2", "A=1\n\n  export TOKEN=new\nB=2"),
        ('TOKEN="o\nl\nd"\nA=1', "TOKEN=new\nA=1"),
        ("TOKEN\nTOKEN=\nTOKEN=old", "TOKEN=new\nTOKEN=new\nTOKEN=new"),
        ("#TOKEN=old\nMY_TOKEN=x\nTOKEN_FILE=y\n", "#TOKEN=old\nMY_TOKEN=x\nTOKEN_FILE=y\nTOKEN=new\n"),
        ("A='\nTOKEN=inside\n'\n", "A='\nTOKEN=inside\n'\nTOKEN=new\n"),
        ("\ufeffTOKEN=old\r\n", "\ufeffTOKEN=new\r\n"),
        ("no assignment at all !\nTOKEN=old", "no assignment at all !\nTOKEN=new"),
    ],
)
def test_a_variable_is_set_where_it_stands_or_at_the_end(before: str, after: str) -> None:
    """Line ends, comments, values over several lines, and names that only look like it."""
    assert with_values(before, NEW) == after


@given(st.lists(st.sampled_from(["A=1", "# TOKEN=x", "", "export B='two\nlines'", 'C="d" # e', "?? ==", "é=\udcff"])))
def test_every_other_line_stays_byte_for_byte(lines: list[str]) -> None:
    """Whatever stands there: it is somebody's."""
    text = "".join(f"{line}\n" for line in lines)

    assert with_values(text, NEW) == f"{text}TOKEN=new\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00", exclude_categories=["Cs"]), min_size=1))
def test_a_value_is_read_as_it_was_written(value: str) -> None:
    """A path may hold anything; the hub's own reader is the judge."""
    text = with_values("A=1\n", {"PATH_TO_IT": value})

    assert dotenv_values(stream=StringIO(text), interpolate=False) == {"A": "1", "PATH_TO_IT": value}


@pytest.mark.parametrize("blank", [" ", "\t", "\u2028"])
def test_blanks_that_would_take_a_minute_are_refused_and_nothing_is_written(tmp_path: Path, blank: str) -> None:
    """The rehearsal says so before anybody has made an effort; fewer of them stay as they are."""
    file = tmp_path / "wide.env"
    before = f"A=1{blank * 200_000}2\n"
    file.write_text(before)

    for attempt in (rehearse, rewrite):
        with pytest.raises(Misconfigured, match=r"wide\.env is not written: it has a thousand blanks in a row"):
            attempt(check(file), lambda text: with_values(text, NEW))
    assert file.read_text() == before
    assert list(tmp_path.glob(".wide*")) == []
    with pytest.raises(Unreadable):
        with_values("A=1\n", {"TOKEN": blank * 1_000})
    assert with_values(f"A=1{blank * 999}2\n", NEW) == f"A=1{blank * 999}2\nTOKEN=new\n"


# The file -----------------------------------------------------------------------------------------------------------


def put(file: Path) -> str:
    return rewrite(check(file), lambda before: with_values(before, NEW))


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """From the first byte on, whatever the umask says."""
    before = os.umask(0)
    try:
        told = put(tmp_path / "new.env")
    finally:
        os.umask(before)

    assert told == ""
    assert (tmp_path / "new.env").read_text() == "TOKEN=new\n"
    assert stat.S_IMODE((tmp_path / "new.env").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".new")] == []


@pytest.mark.parametrize(("mode", "told"), [(0o600, ""), (0o400, ""), (0o644, "chmod 600")])
def test_an_old_file_keeps_its_mode(tmp_path: Path, mode: int, told: str) -> None:
    """A file that others read is said to be one; to close it is its owner's business."""
    file = tmp_path / "old.env"
    file.write_bytes(b"\xff=1\r\n")
    file.chmod(mode)

    said = put(file)

    assert told in said
    assert bool(told) == bool(said)
    assert file.read_bytes() == b"\xff=1\r\nTOKEN=new\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.parametrize(("group", "mode"), [("ours", 0o660), ("another", 0o600)])
def test_nobody_reads_the_new_file_who_could_not_read_the_old_one(tmp_path: Path, group: str, mode: int) -> None:
    """A user who may not give it back to its owner gets no group into it that was not in it before."""
    file = tmp_path / "made.env"
    script = (
        "import os, sys; from llm_mcp_hub import others\n"
        "descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)\n"
        "others.keep(descriptor, os.stat_result((0o100660, 0, 0, 1, 54321, int(sys.argv[2]), 0, 0, 0, 0)))"
    )
    gid = os.getegid() if group == "ours" else 54322

    subprocess.run([*WITHOUT_RIGHTS, sys.executable, "-c", script, file, str(gid)], check=True, timeout=DEADLINE_S)

    about = file.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (os.geteuid(), os.getegid(), mode)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    """It stays a link; the file that it names gets the value."""
    (tmp_path / "real.env").write_text("A=1\n")
    (tmp_path / "link.env").symlink_to("real.env")

    put(tmp_path / "link.env")

    assert (tmp_path / "link.env").is_symlink()
    assert (tmp_path / "real.env").read_text() == "A=1\nTOKEN=new\n"


def elsewhere(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "real.env").touch(0o600)
    (folder / "x.env").symlink_to(folder / "other" / "real.env")
    return folder / "x.env"


def nowhere(folder: Path) -> Path:
    (folder / "x.env").symlink_to(folder / "other" / "not-there.env")
    return folder / "x.env"


def circle(folder: Path) -> Path:
    (folder / "x.env").symlink_to(folder / "y.env")
    (folder / "y.env").symlink_to(folder / "x.env")
    return folder / "x.env"


def written_by_a_group(folder: Path) -> Path:
    (folder / "x.env").touch()
    (folder / "x.env").chmod(0o620)
    return folder / "x.env"


def a_folder(folder: Path) -> Path:
    (folder / "x.env").mkdir()
    return folder / "x.env"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.env", 0o600)
    return folder / "x.env"


def no_folder(folder: Path) -> Path:
    return folder / "other" / "x.env"


@pytest.mark.parametrize(
    "make",
    [elsewhere, nowhere, circle, written_by_a_group, a_folder, a_pipe, no_folder],
    ids=lambda make: make.__name__,
)
def test_a_file_that_is_not_what_it_seems_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """A secret goes where its owner named it, and where nobody else writes; the next step is told."""
    file = make(tmp_path)

    with pytest.raises(Misconfigured) as told:
        put(file)

    assert str(file) in told.value.message
    assert told.value.action


def test_a_file_of_any_size_is_read_to_an_end(tmp_path: Path) -> None:
    """One of 3 GB, all of it a hole, would fill the memory."""
    file = tmp_path / "old.env"
    file.touch(mode=0o600)
    os.truncate(file, 3 << 30)

    with pytest.raises(Misconfigured, match="it is larger than 4 MiB"):
        put(file)


def test_a_part_of_a_file_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    """It would be written back as that."""
    file = tmp_path / "old.env"
    file.write_text("A=1\n" * 100)
    file.chmod(0o600)

    with pytest.raises(Misconfigured, match="it is larger than"):
        rewrite(check(file), lambda text: text, most=399)
    rewrite(check(file), lambda text: text, most=400)

    assert file.read_text() == "A=1\n" * 100


def test_a_change_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Half a file would be worse than an old one."""
    file = tmp_path / "old.env"
    file.write_text("A=1\n")
    file.chmod(0o600)

    with pytest.raises(UnicodeEncodeError):
        rewrite(check(file), lambda _: "\ud800")

    assert file.read_text() == "A=1\n"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".env"] == ["old.env"]
