"""One hub's folder, the sweeping after dead hubs, and ending a process by its number. With real processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_mcp_hub.children.supervision import EXHAUSTED, Child, RunFolder, hindrance, ran, said
from llm_mcp_hub.errors import Busy

DEADLINE_S = 60.0

# A hub as far as this module sees one: it makes its folder and a child's home in it, says where, and lives on.
HUB = """
import sys
from pathlib import Path
from llm_mcp_hub.children.supervision import RunFolder
run = RunFolder(Path(sys.argv[1]))
print(run.new_home("claude"), flush=True)
sys.stdin.read()
run.close()
"""


@contextmanager
def hub(state: Path) -> Generator[tuple[subprocess.Popen[str], Path]]:
    """A hub in a process of its own, and the home of its child."""
    with subprocess.Popen(
        [sys.executable, "-c", HUB, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


@contextmanager
def sleeper(**environment: str) -> Generator[subprocess.Popen[bytes]]:
    """A process that lives until it is ended."""
    with subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], **environment}) as process:
        try:
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


# -- one hub -----------------------------------------------------------------------------------------------------------


def test_what_the_hub_makes_is_for_its_owner_only(state: Path) -> None:
    """G7: 0600 in 0700, whatever the umask; and the children's working folder cannot be written."""
    before = os.umask(0)
    try:
        run = RunFolder(state)
        home = run.new_home("gemini")
    finally:
        os.umask(before)

    assert [mode(path) for path in (state, state / "run", run.path, home)] == [0o700] * 4
    assert mode(run.path / "lock") == 0o600
    assert mode(run.empty) == 0o500
    assert names(run.empty) == set()
    run.close()


def test_every_child_has_a_home_of_its_own(state: Path) -> None:
    """Two children of one provider must not share a login copy; a dropped home goes with all that is in it."""
    run = RunFolder(state)
    first, second = run.new_home("claude"), run.new_home("claude")
    (first / "deep").mkdir()
    (first / "deep" / "file").write_text("x")

    run.drop_home(first)
    run.drop_home(first)

    assert first != second
    assert not first.exists()
    assert second.is_dir()
    assert run.new_home("claude") not in (first, second)
    run.close()


def test_closing_leaves_nothing_and_may_be_repeated(state: Path) -> None:
    """A clean end needs no sweep."""
    run = RunFolder(state)
    (run.new_home("claude") / "file").write_text("x")

    run.close()
    run.close()

    assert names(state / "run") == {".lock"}


@pytest.mark.parametrize("removed", ["run", "."])
def test_a_folder_that_somebody_has_removed_is_made_again(state: Path, removed: str) -> None:
    """A cleaner of temporary files took it under the running hub: the next child has a home, and is not swept."""
    run = RunFolder(state)
    shutil.rmtree(state / removed)

    home = run.new_home("claude")
    other = RunFolder(state)

    assert home.is_dir()
    assert mode(run.empty) == 0o500
    assert other.dead() == []
    run.close()
    other.close()
    assert names(state / "run") == {".lock"}


@pytest.mark.parametrize("by", ["its own path", "a link"])
def test_a_hub_whose_lock_alone_is_removed_is_not_taken_for_dead(state: Path, tmp_path: Path, by: str) -> None:
    """As a cleaner does: its child lives on, so does a home where none lives yet, and no hub tells of its death."""
    (tmp_path / "link").symlink_to(state)
    run = RunFolder(state)
    home, laid_out = run.new_home("claude"), run.new_home("gemini")
    with sleeper(HOME=str(home)) as child:
        (home / "pid").write_text(str(child.pid))
        (run.path / "lock").unlink()

        other = RunFolder(state if by == "its own path" else tmp_path / "link")

        for _ in range(2):
            assert other.dead() == run.dead() == []
        assert child.poll() is None
        assert home.is_dir()
        assert laid_out.is_dir()
    run.close()
    other.close()
    assert names(state / "run") == {".lock"}


def test_a_dead_hub_whose_lock_is_removed_is_swept_with_its_child(state: Path) -> None:
    """Nothing holds its folder, so the next hub tells of its death and ends what is left."""
    with hub(state) as (process, home), sleeper(HOME=str(home)) as child:
        (home / "pid").write_text(str(child.pid))
        (home.parent / "lock").unlink()
        process.kill()
        process.wait(DEADLINE_S)

        run = RunFolder(state)

        assert run.dead() == [home.parent.name]
        assert child.wait(DEADLINE_S) == -9
        assert not home.exists()
        run.close()


def test_where_no_folder_can_be_locked_the_file_is_enough(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, which locks only what is open for writing."""
    flock = fcntl.flock

    def of_files(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", of_files)
    run, other = RunFolder(state), RunFolder(state)
    run.new_home("claude")

    assert other.dead() == []
    run.close()
    other.close()
    assert names(state / "run") == {".lock"}


def test_a_folder_that_cannot_be_made_again_closes_no_other_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock was closed, and the number of that file is another one's when it is tried the next time."""
    run = RunFolder(state)
    shutil.rmtree(state / "run")
    opened = os.open

    def full(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path) == str(run.path / "lock"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left"):
        run.new_home("claude")
    monkeypatch.undo()
    with (state / "another").open("w") as another:
        home = run.new_home("claude")
        another.write("its own")
        another.flush()
        assert home.is_dir()

    assert (state / "another").read_text() == "its own"
    run.close()


def test_a_lock_that_somebody_holds_for_ever_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the folder that is swept: a hub that is frozen in the middle of it holds up no other one for good."""
    run = RunFolder(state)
    shutil.rmtree(run.path)
    monkeypatch.setattr("llm_mcp_hub.children.supervision.PAUSE_S", 0.2)
    monkeypatch.setattr("llm_mcp_hub.children.supervision.SWEPT_S", 0.2)
    with (state / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        for begin in (lambda: run.new_home("claude"), lambda: RunFolder(state)):
            with pytest.raises(Busy, match="Another hub has held"):
                begin()

    assert run.new_home("claude").is_dir()
    run.close()


def test_what_could_not_be_removed_is_removed_later(state: Path) -> None:
    """On a disk that takes nothing a child's folder stays, with a login in it; not for as long as the hub lives."""
    run = RunFolder(state)
    home = run.new_home("claude")
    home.rmdir()
    home.symlink_to(state)  # what rmtree refuses
    run.drop_home(home)
    assert home.exists()
    home.unlink()
    home.mkdir()

    run.new_home("claude")

    assert not home.exists()
    run.close()


def test_what_a_child_has_started_ends_with_its_folder(state: Path) -> None:
    """Also where the child itself has gone before: it leads a process group, and who is left in it is known by that."""
    run = RunFolder(state)
    home = run.new_home("claude")
    leaves = 'echo $$ >"$HOME/pid"; sleep 600 & echo $!'
    with (
        sleeper(HOME=str(home)) as another,
        subprocess.Popen(
            ["/bin/sh", "-c", leaves],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as child,
    ):
        assert child.stdout is not None
        left = psutil.Process(int(child.stdout.readline()))
        child.wait(DEADLINE_S)

        run.drop_home(home)

        psutil.wait_procs([left], timeout=DEADLINE_S)
        assert not left.is_running()
        assert another.poll() is None, "of this group, and not of that one, or it could hit a stranger's"
    run.close()


def test_a_state_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """The composition root makes `misconfigured` of it; silence would leave children without a home."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(OSError, match="file"):
        RunFolder(tmp_path / "file" / "state")


# -- several hubs ------------------------------------------------------------------------------------------------------


def test_a_second_hub_leaves_a_living_ones_folder_alone(state: Path) -> None:
    """Editors start a hub each; all live on one state folder."""
    with hub(state) as (_, home):
        run = RunFolder(state)

        assert home.is_dir()
        assert len(names(state / "run") - {".lock"}) == 2
        run.close()
        assert home.is_dir()


def test_hubs_that_start_at_once_do_not_sweep_each_other(state: Path) -> None:
    """Between the making of a folder and its lock another hub could take it for a dead one's."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HUB, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    homes: list[Path] = []
    for process in started:
        assert process.stdout is not None
        homes.append(Path(process.stdout.readline().strip()))

    alive = [home.is_dir() for home in homes]
    for process in started:
        process.communicate(timeout=DEADLINE_S)

    assert alive == [True] * 4
    assert [process.returncode for process in started] == [0] * 4
    assert names(state / "run") == {".lock"}


def test_a_dead_hubs_folder_is_swept_with_the_child_that_lives_in_it(state: Path) -> None:
    """G5: after a SIGKILL of the hub the next start ends what is left, at the latest."""
    with hub(state) as (process, home), sleeper(HOME=str(home)) as child:
        (home / "pid").write_text(str(child.pid))
        process.kill()
        process.wait(DEADLINE_S)
        assert home.is_dir()

        run = RunFolder(state)

        assert child.wait(DEADLINE_S) == -signal.SIGKILL
        assert not home.exists()
        assert names(state / "run") == {".lock", run.path.name}
        run.close()


def test_a_living_hub_learns_who_has_died_once(state: Path) -> None:
    """What the dead held is free for the others at once, and not when it lapses."""
    with hub(state) as (process, home), hub(state) as (_, living):
        run = RunFolder(state, swept=["found before"])
        assert run.dead() == ["found before"]
        assert run.dead() == []
        process.kill()
        process.wait(DEADLINE_S)

        assert run.dead() == [home.parent.name]

        assert run.dead() == []
        assert not home.exists()
        assert living.is_dir()
        run.close()


def test_a_process_that_got_a_dead_childs_number_is_not_hit(state: Path) -> None:
    """Numbers are given out again: the new owner of one may be the owner's editor."""
    with hub(state) as (process, home), sleeper(HOME="/nowhere") as stranger:
        (home / "pid").write_text(str(stranger.pid))
        process.kill()
        process.wait(DEADLINE_S)

        RunFolder(state).close()

        assert not home.exists()
        assert stranger.poll() is None


@pytest.mark.parametrize("content", ["", "x", "-1", "0", str(2**22 + 1), str(10**30), "1.5", "\0"])
def test_a_pid_file_that_names_nobody_stops_no_sweep(state: Path, content: str) -> None:
    """A hub may die while it writes one."""
    dead = state / "run" / "0123456789abcdef"
    (dead / "claude-1").mkdir(parents=True)
    (dead / "claude-1" / "pid").write_text(content)

    run = RunFolder(state)

    assert not dead.exists()
    run.close()


def test_what_is_no_hubs_folder_is_left_alone(state: Path) -> None:
    """A file that somebody put there is no dead hub."""
    (state / "run").mkdir(parents=True)
    (state / "run" / "notes.txt").write_text("x")

    RunFolder(state).close()

    assert names(state / "run") == {".lock", "notes.txt"}


def test_a_folders_lock_ends_with_its_hub_alone(state: Path) -> None:
    """A child that inherited the lock would keep a dead hub's folder for ever."""
    run = RunFolder(state)
    with sleeper():  # started while the lock is held
        path = run.path
        (path / "kept").write_text("x")
        lock = os.open(path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        run.close()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)


# -- one process -------------------------------------------------------------------------------------------------------


def test_a_child_is_known_by_its_number_and_can_be_ended() -> None:
    """SIGKILL asks nobody; the memory is that of a living process."""
    with sleeper() as process:
        assert Child(process.pid).memory > 0
        Child(process.pid).kill()

        assert process.wait(DEADLINE_S) == -signal.SIGKILL


def test_a_child_that_has_gone_is_left_in_peace() -> None:
    """Ending it again does nothing and raises nothing: ends race each other."""
    with sleeper() as process:
        child = Child(process.pid)
        process.kill()
        process.wait(DEADLINE_S)

        child.kill()

        assert child.memory == 0


def test_nobody_is_no_child() -> None:
    """A number without a process is told at once."""
    with sleeper() as process:
        pass
    assert not psutil.pid_exists(process.pid)

    with pytest.raises(ProcessLookupError):
        Child(process.pid)


# -- a program that ends by itself -------------------------------------------------------------------------------------

AROUND = {"PATH": os.environ["PATH"], "HOME": "/"}


def script(path: Path, text: str) -> list[str]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.anyio
async def test_a_machine_that_starts_nothing_more_is_no_fault_of_a_program(tmp_path: Path) -> None:
    """Out of descriptors or processes: to install the program again would change nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        hindered = await hindrance(Path("/bin/true"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    missing = await hindrance(tmp_path / "none", tmp_path)

    assert hindered is not None
    assert hindered.errno in EXHAUSTED
    assert missing is not None
    assert missing.errno not in EXHAUSTED
    assert await hindrance(Path("/bin/true"), tmp_path) is None


@pytest.mark.anyio
async def test_what_a_program_says_is_read_to_its_end(tmp_path: Path) -> None:
    """Its stdout alone, in the environment that it is given, from a folder that is nobody's project."""
    command = script(tmp_path / "program", 'echo "$HOME in $(pwd)"; echo no >&2; exit 3')

    assert await said(command, environment=AROUND, limit_s=DEADLINE_S) == "/ in /\n"


@pytest.mark.anyio
async def test_a_program_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Also where it has ended itself, and only what it left behind holds the pipe."""
    held = tmp_path / "held"
    os.mkfifo(held)
    released = asyncio.get_running_loop().run_in_executor(None, held.read_bytes)  # until its last writer has gone
    command = script(tmp_path / "program", f'sleep 600 3>"{held}" &')

    assert await said(command, environment=AROUND, limit_s=1) is None
    async with asyncio.timeout(DEADLINE_S):
        assert await released == b""


def test_a_folder_that_cannot_be_looked_into_keeps_no_hub_from_starting(tmp_path: Path) -> None:
    """Nor the sweep from the folders behind it."""
    for name in ("0", "z"):
        (tmp_path / "run" / name / "lock").mkdir(parents=True)
    dead = tmp_path / "run" / "dead"
    dead.mkdir()
    (dead / "lock").touch()
    run = RunFolder(tmp_path)
    try:
        assert not dead.exists()
    finally:
        run.close()


@pytest.mark.anyio
@pytest.mark.parametrize("listen", [said, ran])
async def test_what_has_left_a_programs_session_is_not_waited_for(
    tmp_path: Path, listen: Callable[..., Awaitable[object]]
) -> None:
    """It lives on, as a daemon does, and holds the pipe that the program was given."""
    pid = tmp_path / "pid"
    command = script(tmp_path / "program", f"setsid sh -c 'echo $$ >\"{pid}\"; exec sleep 600' & echo here; wait")
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert await listen(command, environment=AROUND, limit_s=1) is None
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.anyio
async def test_a_program_that_never_stops_talking_is_cut_off(tmp_path: Path) -> None:
    """64 KiB are more than any version."""
    text = await said(script(tmp_path / "program", "exec yes"), environment=AROUND, limit_s=DEADLINE_S)

    assert text is not None
    assert len(text) == 64 * 1024


@pytest.mark.anyio
async def test_a_program_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    """Whoever would start it in between, what is told is that."""
    with pytest.raises(OSError, match="program"):
        await said([str(tmp_path / "program")], environment=AROUND, limit_s=DEADLINE_S)
