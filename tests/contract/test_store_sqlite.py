"""What the store of one machine does beside the contract: files, several processes, other versions, bad disks."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import LAPSED_KEPT_S, Held
from llm_mcp_hub.store.sqlite import HELD_FOR_S, TIDY_S, SqliteStore, migrate
from llm_mcp_hub.store.sqlite_statements import STEPS
from tests.contract.stores import DEADLINE_S, LONG_S, SqliteShelf, opened, refusal, until_written

T = TypeVar("T")

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
FILES = {"hub.sqlite3", "hub.sqlite3-wal", "hub.sqlite3-shm"}

AS_A_HUB = """
import asyncio, sys
from pathlib import Path
from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store.base import Held
from llm_mcp_hub.store.sqlite import SqliteStore

async def main(folder, *words):
{body}

asyncio.run(asyncio.wait_for(main(Path(sys.argv[1]), *sys.argv[2:]), {deadline}))
"""


def as_a_hub(body: str) -> list[str]:
    """The words that run `body` in a process of its own; it knows `folder` and `words`."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return [sys.executable, "-c", AS_A_HUB.replace("{body}", indented).replace("{deadline}", str(DEADLINE_S))]


def output_of(words: list[str | Path]) -> str:
    """Run to the end. What it printed; an AssertionError with what it said if it failed."""
    run = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncGenerator[SqliteShelf]:
    async with opened(SqliteShelf(tmp_path / "state")) as made:
        assert isinstance(made, SqliteShelf)
        yield made


@contextmanager
def umask(mask: int) -> Generator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rows(shelf: SqliteShelf) -> int:
    """How many rows the file has, ended or not."""
    with closing(sqlite3.connect(shelf.folder / "hub.sqlite3", timeout=DEADLINE_S)) as db:
        tables = ("records", "logs", "entries", "leases")
        return sum(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


# -- files -------------------------------------------------------------------------------------------------------------


async def test_nothing_touches_the_disk_before_the_first_call(shelf: SqliteShelf) -> None:
    """A hub that only lists its tools, started by an editor somewhere, leaves no file."""
    store = shelf.open()
    assert not shelf.folder.exists()
    await store.close()
    assert not shelf.folder.exists()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_only_the_owner_reads_the_files(shelf: SqliteShelf, mask: int) -> None:
    """Whatever the umask is: prompts and answers are in them."""
    with umask(mask):
        await shelf.open().put("key", b"value", ttl_s=LONG_S)

    assert {file.name for file in shelf.folder.iterdir()} == FILES
    assert {oct(file.stat().st_mode & 0o777) for file in shelf.folder.iterdir()} == {"0o600"}
    assert oct(shelf.folder.stat().st_mode & 0o777) == "0o700"


async def test_files_that_others_could_read_are_closed_to_them(shelf: SqliteShelf) -> None:
    """A copy from a backup comes with the modes that the backup had; the folder's belong to whoever made it."""
    shelf.folder.mkdir(mode=0o755)
    with closing(sqlite3.connect(shelf.folder / "hub.sqlite3")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        (shelf.folder / "hub.sqlite3").chmod(0o644)

    await shelf.open().put("key", b"value", ttl_s=LONG_S)

    assert {oct(file.stat().st_mode & 0o777) for file in shelf.folder.iterdir()} == {"0o600"}
    assert oct(shelf.folder.stat().st_mode & 0o777) == "0o755"


async def test_the_file_may_lie_in_any_folder(tmp_path: Path) -> None:
    """Characters that mean something in an address, and one that is not there yet."""
    shelf = SqliteShelf(tmp_path / "new" / "a b%20?mode=ro#x" / "한국어")
    async with opened(shelf):
        await shelf.open().put("key", b"value", ttl_s=LONG_S)
        assert (shelf.folder / "hub.sqlite3").is_file()


async def test_what_a_hub_wrote_is_there_after_its_death(shelf: SqliteShelf) -> None:
    """Killed at any moment: every write that was confirmed is there, and the next hub goes on."""
    body = """
store = SqliteStore(folder)
number = 0
while True:
    await store.put("key", str(number).encode() * 2000, ttl_s=600)
    print(number, flush=True)
    number += 1
"""
    shelf.now = 0  # before any of these ends
    for lines in (1, 30, 200):
        with subprocess.Popen([*as_a_hub(body), shelf.folder], stdout=subprocess.PIPE, text=True) as hub:
            assert hub.stdout is not None
            said = [hub.stdout.readline() for _ in range(lines)]
            hub.kill()
            said += hub.stdout.read().splitlines(keepends=True)
        confirmed = max(int(line) for line in said if line.endswith("\n"))

        (value,) = await shelf.open().get("key")
        assert value is not None
        found = int(value[: len(value) // 2000])
        assert found >= confirmed
        assert value == str(found).encode() * 2000


# -- several hubs ------------------------------------------------------------------------------------------------------


async def test_hubs_that_start_at_once_share_one_store(shelf: SqliteShelf) -> None:
    """Four processes on a folder that is not there: none fails, none loses a write, one at a time holds the lease."""
    body = """
store = SqliteStore(folder)
for turn in range(40):
    while not await store.take("lease", words[0], limit=1, ttl_s=600):
        await asyncio.sleep(0.001)
    (count,) = await store.get("count")
    await store.put("count", str(int(count or b"0") + 1).encode(), ttl_s=600)
    await store.put(f"{words[0]}:{turn}", b"", ttl_s=600, listed="list")
    await store.release([Held("lease", words[0])])
await store.close()
"""
    hubs = [subprocess.Popen([*as_a_hub(body), shelf.folder, f"hub{n}"], stderr=subprocess.PIPE) for n in range(4)]
    said = [hub.communicate(timeout=DEADLINE_S)[1].decode() for hub in hubs]

    assert [hub.returncode for hub in hubs] == [0] * 4, said
    store = shelf.open()
    shelf.now = 0  # before any of these ends
    assert await store.get("count") == [b"160"]
    assert len(await store.newest("list", 1000)) == 160
    assert await store.holders("lease") == []


async def test_a_hub_that_stopped_in_the_middle_of_a_write_holds_nobody_up_for_long(tmp_path: Path) -> None:
    """Readers do not notice; all who write are told after one waiting time, however many they are."""
    store = SqliteStore(tmp_path, busy_s=0.5)
    await store.put("key", b"before", ttl_s=LONG_S)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE records SET value = x'00'")

        assert await store.get("key") == [b"before"]
        writing = [store.put(f"{n}", b"", ttl_s=LONG_S) for n in range(200)]
        # One after the other they would need 100 s.
        told = await asyncio.wait_for(asyncio.gather(*writing, return_exceptions=True), 50)
        assert {type(error) for error in told} == {StoreUnavailable}
        assert "Another process" in (await refusal(store)).message

    assert await store.get("key") == [b"before"]
    await store.put("key", b"after", ttl_s=LONG_S)
    await store.close()


@pytest.mark.parametrize("how", ["a write", "time"])
async def test_calls_one_after_the_other_wait_once_for_a_file_that_is_held(tmp_path: Path, how: str) -> None:
    """An ask makes several, and so does a hub's end: their times would add up. After a while, or a write that succeeds,
    the next one waits again."""
    store = SqliteStore(tmp_path, busy_s=3)
    await store.put("key", b"before", ttl_s=LONG_S)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refusal(store)
        async with asyncio.timeout(4):  # they would take 60 s
            for number in range(20):
                assert await store.get("key") == [b"before"]
                with pytest.raises(StoreUnavailable):
                    await store.put(f"{number}", b"", ttl_s=LONG_S)

        if how == "a write":
            other.execute("ROLLBACK")
            await store.put("key", b"after", ttl_s=LONG_S)
            other.execute("BEGIN IMMEDIATE")
        else:
            await asyncio.sleep(HELD_FOR_S)
        writing = asyncio.ensure_future(store.put("key", b"last", ttl_s=LONG_S))
        done, _ = await asyncio.wait([writing], timeout=1)
        other.execute("ROLLBACK")

        assert not done
        await asyncio.wait_for(writing, DEADLINE_S)
    await store.close()


async def test_a_disk_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended volume, a network file system: no ask waits for it without an end. What is asked for meanwhile is not
    done later, but for the one call that hangs."""
    monkeypatch.setattr("llm_mcp_hub.store.sqlite.STALLED_S", 0.3)
    answers = threading.Event()
    answers.set()

    def clock() -> float:  # the first thing that is read in the store's thread
        assert answers.wait(DEADLINE_S)
        return time.time()

    store = SqliteStore(tmp_path, clock=clock, busy_s=0.2)
    await store.put("key", b"before", ttl_s=LONG_S)
    await store.get("key")  # what a first write tidies is over
    answers.clear()
    try:
        async with asyncio.timeout(DEADLINE_S / 2):
            for number in range(3):
                with pytest.raises(StoreUnavailable, match="does not answer"):
                    await store.put(f"{number}", b"", ttl_s=LONG_S)
    finally:
        answers.set()

    async with asyncio.timeout(DEADLINE_S):
        while (found := await outcome(store.get("key", "0", "1", "2"))) is None:
            await asyncio.sleep(0.01)
    assert found == [b"before", b"", None, None]
    await store.close()


async def outcome(reading: Awaitable[T]) -> T | None:
    """What is read; None while the store cannot be reached."""
    try:
        return await reading
    except StoreUnavailable:
        return None


HANGING = """
import asyncio, sys, threading, time
from pathlib import Path
from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store import sqlite
sqlite.STALLED_S = 0.2

async def main():
    hangs = lambda: threading.Event().wait() or time.time()
    store = sqlite.SqliteStore(Path(sys.argv[1]), clock=hangs, busy_s=0.1)
    try:
        await store.get("key")
    except StoreUnavailable as error:
        print(error.message)
    await store.close()

asyncio.run(main())
"""


CUT_SHORT = """
import asyncio, sqlite3, sys, threading
from pathlib import Path
from llm_mcp_hub.store import sqlite

async def main():
    store = sqlite.SqliteStore(Path(sys.argv[1]))
    await store.put("key", b"before", ttl_s=60)
    other = sqlite3.connect(store.file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.put("key", b"after", ttl_s=60))
    await asyncio.sleep(0.2)
    writing.cancel()
    timer = threading.Timer(1, other.execute, ["ROLLBACK"])
    timer.daemon = True  # or the process would wait for it
    timer.start()
    ending = asyncio.ensure_future(store.close())
    await asyncio.sleep(0.05)
    ending.cancel()

asyncio.run(main())
"""


async def test_a_write_that_has_begun_is_done_before_the_process_ends(tmp_path: Path) -> None:
    """Also where its end is cut short, by a second Ctrl-C: an ask's last record may be in it."""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CUT_SHORT, str(tmp_path)], capture_output=True, timeout=DEADLINE_S
    )

    assert done.returncode == 0, done.stderr.decode()
    store = SqliteStore(tmp_path)
    assert await store.get("key") == [b"after"]
    await store.close()


def test_a_disk_that_never_answers_keeps_no_process_from_ending(tmp_path: Path) -> None:
    """Neither the store's end nor the process's waits for what hangs in it."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )

    assert (done.returncode, "does not answer" in done.stdout) == (0, True), done.stderr


async def test_a_write_waits_for_the_write_of_another_hub(tmp_path: Path) -> None:
    """Not lost, not refused, and nobody is told: hubs of one machine write at the same time all day."""
    store = SqliteStore(tmp_path)
    await store.put("key", b"before", ttl_s=LONG_S)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(store.put("key", b"after", ttl_s=LONG_S))
        done, _ = await asyncio.wait([writing], timeout=0.1)
        other.execute("COMMIT")

        assert not done
        await asyncio.wait_for(writing, DEADLINE_S)
    assert await store.get("key") == [b"after"]
    await store.close()


# -- versions ----------------------------------------------------------------------------------------------------------


async def test_a_newer_file_is_refused_and_left_alone(shelf: SqliteShelf) -> None:
    """An old hub that an editor still runs must not write what the new one cannot read."""
    shelf.folder.mkdir()
    file = shelf.folder / "hub.sqlite3"
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = file.read_bytes()[100:]

    error = await refusal(shelf.open())

    assert "newer llm-mcp-hub" in error.message
    assert str(file) in error.message
    assert error.action == "Update llm-mcp-hub."
    assert file.read_bytes()[100:] == before


async def test_each_step_is_taken_once_and_keeps_what_is_there(shelf: SqliteShelf) -> None:
    """From every version to the newest, and from that to one of the future, as a hub of that time would."""
    await shelf.open().put("key", b"value", ttl_s=LONG_S)
    future = (*STEPS, ("ALTER TABLE records ADD COLUMN colour TEXT", "UPDATE records SET colour = 'red'"))
    with closing(sqlite3.connect(shelf.folder / "hub.sqlite3", isolation_level=None)) as db:
        assert migrate(db) == len(STEPS)
        assert migrate(db, future) == len(future)
        assert migrate(db, future) == len(future)
        assert db.execute("SELECT value, colour FROM records").fetchall() == [(b"value", "red")]

    assert "newer llm-mcp-hub" in (await refusal(shelf.open())).message


def test_a_step_that_another_hub_has_just_taken_is_not_taken_again(tmp_path: Path) -> None:
    """Two hubs of a new version start at once: the second has looked before the first was done."""
    with closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as first, ThreadPoolExecutor(1) as thread:
        waits = threading.Event()

        def second() -> int:
            with closing(sqlite3.connect(tmp_path / "file", timeout=DEADLINE_S, isolation_level=None)) as db:
                db.set_trace_callback(lambda sql: waits.set() if "BEGIN" in sql else None)
                return migrate(db)

        first.execute("BEGIN IMMEDIATE")
        migrating = thread.submit(second)
        assert waits.wait(DEADLINE_S)
        for statement in STEPS[0]:
            first.execute(statement)
        first.execute("PRAGMA user_version = 1")
        first.execute("COMMIT")

        assert migrating.result(DEADLINE_S) == len(STEPS)


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Half a migration would be a file that no version can read."""
    broken = (*STEPS, ("ALTER TABLE records ADD COLUMN colour TEXT", "UPDATE no_such_table SET a = 1"))
    with closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as db:
        migrate(db)
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, broken)

        assert migrate(db) == len(STEPS)
        assert "colour" not in [column[1] for column in db.execute("PRAGMA table_info(records)")]


async def test_a_hub_that_a_newer_one_has_left_behind_is_told(shelf: SqliteShelf) -> None:
    """It had the file open when the newer one renamed a table: after one failure it knows why."""
    store = shelf.open()
    await store.put("key", b"value", ttl_s=LONG_S)
    with closing(sqlite3.connect(shelf.folder / "hub.sqlite3", isolation_level=None)) as db:
        migrate(db, (*STEPS, ("ALTER TABLE records RENAME TO records_2",)))

    await refusal(store)

    assert "newer llm-mcp-hub" in (await refusal(store)).message


# -- bad files and disks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"This is no database at all. " * 200, b"SQLite format 3\x00" + b"\xff" * 8000])
async def test_a_damaged_file_is_named_and_can_be_moved_away(shelf: SqliteShelf, garbage: bytes) -> None:
    """The hub says which file, touches nothing of it, and begins a new one without a restart."""
    shelf.folder.mkdir()
    file = shelf.folder / "hub.sqlite3"
    file.write_bytes(garbage)
    store = shelf.open()

    error = await refusal(store)

    assert f"{file} is damaged" in error.message
    assert error.action.startswith(f"Move {file} away")
    assert file.read_bytes() == garbage
    for part in shelf.folder.iterdir():
        part.rename(shelf.folder.parent / f"away-{part.name}")
    await store.put("key", b"value", ttl_s=LONG_S)
    assert await store.get("key") == [b"value"]


async def test_a_file_that_is_damaged_in_the_middle_is_named_too(shelf: SqliteShelf) -> None:
    """Its head is whole, so it opens; what is read from it is not."""
    store = shelf.open()
    for number in range(200):
        await store.put(f"{number}", b"value" * 100, ttl_s=LONG_S)
    await store.close()
    file = shelf.folder / "hub.sqlite3"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xee" * (len(whole) - 4096))

    assert f"{file} is damaged" in (await refusal(shelf.open())).message


async def test_a_file_that_was_taken_away_is_begun_anew(shelf: SqliteShelf) -> None:
    """Who empties the state folder under a running hub gets a hub that still shares what it writes."""
    store = shelf.open()
    await store.put("key", b"before", ttl_s=LONG_S)
    other = shelf.open()
    for number in range(3):
        shutil.rmtree(shelf.folder)
        await other.put("theirs", b"%d" % number, ttl_s=LONG_S)

        await store.put("ours", b"%d" % number, ttl_s=LONG_S)

        for hub in (store, other):
            assert await hub.get("ours", "theirs", "key") == [b"%d" % number, b"%d" % number, None]


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Before there is a file, and with one; for a user who is not root, or root without its rights."""
    body = """
store = SqliteStore(folder)
try:
    await store.put("key", b"value", ttl_s=600)
except StoreUnavailable as error:
    print(error.message, error.action, sep="\\n")
await store.close()
"""
    weak = [] if os.geteuid() else ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        without_file = output_of([*weak, *as_a_hub(body), folder])
        folder.chmod(0o700)
        assert output_of([*weak, *as_a_hub(body), folder]) == ""
        (folder / "hub.sqlite3").chmod(0o400)
        folder.chmod(0o500)
        with_file = output_of([*weak, *as_a_hub(body), folder])
    finally:
        folder.chmod(0o700)

    for said in (without_file, with_file):
        message, action = said.splitlines()
        assert str(folder / "hub.sqlite3") in message
        assert action == f"Make {folder} a folder that this user can write to."


async def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """A slip in HUB_STATE_DIR."""
    (tmp_path / "state").write_text("a file")

    async with opened(SqliteShelf(tmp_path / "state")) as shelf:
        assert str(tmp_path / "state") in (await refusal(shelf.open())).message


async def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    """On a real file system of 1 MB: writes fail with that reason, reads go on, and writes too once there is space."""
    body = """
(folder / "filler").write_bytes(bytes(300_000))
store = SqliteStore(folder / "state")
await store.put("small", b"value", ttl_s=600)
written = 0
try:
    while True:
        await store.put(f"{written}", b"x" * 20_000, ttl_s=600, listed="list")
        written += 1
except StoreUnavailable as error:
    print(error.message, error.action, sep="\\n")
small, last, failed = await store.get("small", f"{written - 1}", f"{written}")
print(written > 3, small, len(last), failed, len(await store.newest("list", 1000)) == written)
(folder / "filler").unlink()
await store.put("small", b"and on", ttl_s=600)
print(await store.get("small"))
await store.close()
"""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    mounted = ["/bin/sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"', "sh", str(tmp_path)]
    private = ["unshare", "--mount", *rights, "--propagation", "private", *mounted]

    said = output_of([*private, *as_a_hub(body), tmp_path]).splitlines()

    assert said == [
        f"The hub's store {tmp_path}/state/hub.sqlite3 cannot grow: the disk is full.",
        "Free some space on that disk.",
        "True b'value' 20000 None True",
        "[b'and on']",
    ]


async def test_a_file_that_may_not_grow_is_told(tmp_path: Path) -> None:
    """A limit on file sizes (`ulimit -f`) fails as a disk does, and kills nobody."""
    body = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
store = SqliteStore(folder)
await store.put("small", b"value", ttl_s=600)
try:
    for number in range(100):
        await store.put(f"{number}", b"x" * 20_000, ttl_s=600)
except StoreUnavailable as error:
    print(error.message)
print(await store.get("small"))
await store.close()
"""
    message, small = output_of([*as_a_hub(body), tmp_path]).splitlines()

    assert str(tmp_path / "hub.sqlite3") in message
    assert small == "[b'value']"


# -- time --------------------------------------------------------------------------------------------------------------


async def test_what_has_ended_is_removed_now_and_then(shelf: SqliteShelf) -> None:
    """A write does it, at most once a minute: the file does not grow with what nobody can read any more."""
    store = shelf.open()
    for number in range(20):
        await store.put(f"{number}", b"value", ttl_s=10, listed="list")
        await store.append(f"{number}", b"value", at=0, ttl_s=10)
        await store.append(f"{number}", b"value", at=1, ttl_s=10)
        await store.renew([Held("lease", f"{number}")], ttl_s=10)
    assert rows(shelf) == 100

    await shelf.wait(TIDY_S + LAPSED_KEPT_S)
    await store.put("stays", b"value", ttl_s=LONG_S)
    assert await store.get("stays") == [b"value"]  # the tidying stands before this in the queue

    assert rows(shelf) == 1


async def test_a_lapsed_holder_is_not_tidied_away_before_its_time(shelf: SqliteShelf) -> None:
    """Whoever comes back the next morning still learns what was running."""
    store = shelf.open()
    await store.renew([Held("running", "dead/1")], ttl_s=10)
    await shelf.wait(LAPSED_KEPT_S)

    await store.put("key", b"value", ttl_s=LONG_S)

    assert await store.lapsed("running") == ["dead/1"]


async def test_tidying_does_not_stop_when_the_clock_is_set_back(shelf: SqliteShelf) -> None:
    """A machine that began with a wrong clock removes what has ended by the right one."""
    store = shelf.open()
    await store.put("first", b"value", ttl_s=LONG_S)
    shelf.now -= 365 * 86_400
    await store.put("second", b"value", ttl_s=10)
    await store.get()

    await shelf.wait(TIDY_S)
    await store.put("third", b"value", ttl_s=LONG_S)
    await store.get()

    assert rows(shelf) == 2


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
async def test_a_clock_that_is_set_breaks_no_order(shelf: SqliteShelf, step: float) -> None:
    """Lists, logs and the order of holders do not hang on it; what is renewed after the step is held."""
    store = shelf.open()
    await store.put("a", b"a", ttl_s=1e7, listed="list")
    await store.append("log", b"a", at=0, ttl_s=1e7)
    await store.take("places", "hub/1", limit=1, ttl_s=10)

    shelf.now += step
    await store.put("b", b"b", ttl_s=1e7, listed="list")
    await store.append("log", b"b", at=1, ttl_s=1e7)
    await store.renew([Held("places", "hub/1")], ttl_s=10)

    assert await store.newest("list", 10) == [b"b", b"a"]
    assert await store.entries("log") == [b"a", b"b"]
    assert await store.holders("places") == ["hub/1"]
    assert not await store.take("places", "hub/2", limit=1, ttl_s=10)
    await shelf.wait(10)
    assert await store.take("places", "hub/2", limit=1, ttl_s=10)


async def test_the_store_is_there_again_by_itself(shelf: SqliteShelf) -> None:
    """After whatever was wrong with it has been mended, without a restart."""
    shelf.folder.parent.mkdir(exist_ok=True)
    shelf.folder.write_text("in the way")
    store = shelf.open()
    await refusal(store)

    shelf.folder.unlink()

    await until_written(store, "key", b"value")
    assert await store.get("key") == [b"value"]


async def test_a_holder_that_no_hub_has_written_is_passed_over(shelf: SqliteShelf) -> None:
    """A name that cannot be read is nobody's: it must not take the others along."""
    store = shelf.open()
    await store.take("lease", "one", limit=9, ttl_s=LONG_S)
    with closing(sqlite3.connect(shelf.folder / "hub.sqlite3")) as db, db:
        db.execute("UPDATE leases SET holder = ?", (b"\xff\xfe",))
    await store.take("lease", "other", limit=9, ttl_s=LONG_S)

    assert await store.holders("lease") == ["other"]
