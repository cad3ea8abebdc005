"""The store of one machine: a SQLite file that all its hubs share. Knows rows and clocks; no ask, no key by name.

    <folder>/hub.sqlite3      0600, with its -wal and -shm

One thread owns the connection. A method is one transaction and one hop to that thread, so a caller that goes away
meanwhile finds it done or not begun, and the event loop never waits for a disk or for another hub's lock. A commit is
safe from the death of every process; from a power cut it is safe from the next checkpoint on (`synchronous=NORMAL`).
Names are kept as bytes: SQLite's text functions end at a NUL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from llm_mcp_hub.errors import StoreUnavailable
from llm_mcp_hub.store import sqlite_statements as sql
from llm_mcp_hub.store.base import LAPSED_KEPT_S, Held, Put, name_to_bytes, names_from_bytes
from llm_mcp_hub.store.worker import Worker

T = TypeVar("T")
FILE = "hub.sqlite3"
BUSY_S = 5.0
"""How long a call waits for other hubs' writes, its time in our own queue included."""
HELD_S = 0.02
"""And how long within HELD_FOR_S after one that has waited in vain: an ask has several, and they would add up."""
HELD_FOR_S = 5.0
STALLED_S = 5.0
"""How much longer a call may take: beyond that its disk hangs, and nobody knows whether it is done."""
FOREVER = float("inf")
_HELD = ("SQLITE_BUSY", "SQLITE_LOCKED")
TIDY_S = 60.0
TIDY_ROWS = 500
"""At most so many of each kind are removed at once: a tidying never holds up another hub's write for long."""

# To close any handle of a file drops all locks that this process has on it, those of SQLite's own handles too. So ours
# is closed before another store of this process can have opened the file.
_creating = threading.Lock()


@contextlib.contextmanager
def _whole(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Generator[None]:
    """Several statements as one transaction."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


def migrate(db: sqlite3.Connection, steps: Sequence[Sequence[str]] = sql.STEPS) -> int:
    """Take the steps that this file has not taken yet, all or none. Returns its version, which may be a newer one."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version < len(steps):
        with _whole(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]  # another hub may just have done it
            for step in steps[version:]:
                for statement in step:
                    db.execute(statement)
            version = max(version, len(steps))
            db.execute(f"PRAGMA user_version = {version}")
    return version


def _row(put: Put) -> dict[str, Any]:
    """What `sql.PUT` is given, but for the time."""
    listed = None if put.listed is None else name_to_bytes(put.listed)
    return {"key": name_to_bytes(put.key), "value": put.value, "ttl": put.ttl_s, "listed": listed}


class SqliteStore:
    """A `Store` in one file. Nothing touches the disk before the first call."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time, busy_s: float = BUSY_S) -> None:
        self.file = folder.absolute() / FILE
        self._clock = clock
        self._busy_s = busy_s
        self._held_at = float("-inf")
        """When the last call had waited in vain; a write that succeeds makes it long ago."""
        self._thread = Worker("store")
        self._stuck: Future[Any] | None = None
        """A job that has not ended in time: until it does, no other one can begin."""
        # Below here only that thread.
        self._db: sqlite3.Connection | None = None
        self._opened = (0, 0)
        self._tidied = 0.0

    # -- records -------------------------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        given = _row(Put(key, value, ttl_s, listed))
        await self._write(lambda db, now: db.execute(sql.PUT, {**given, "now": now}))

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        given = {"key": name_to_bytes(key), "value": value, "ttl": ttl_s}
        return await self._write(lambda db, now: db.execute(sql.ADD, {**given, "now": now}).rowcount > 0)

    async def get(self, *keys: str) -> list[bytes | None]:
        names = [name_to_bytes(key) for key in keys]

        def work(db: sqlite3.Connection, now: float) -> list[bytes | None]:
            select = "SELECT value FROM records WHERE key = ? AND ends > ?"
            with _whole(db, "BEGIN") if len(names) > 1 else contextlib.nullcontext():
                rows = [db.execute(select, (name, now)).fetchone() for name in names]
            return [None if row is None else row[0] for row in rows]

        return await self._run(work)

    async def delete(self, *keys: str) -> int:
        names = [name_to_bytes(key) for key in keys]

        def work(db: sqlite3.Connection, now: float) -> int:
            with _whole(db):
                return sum(
                    db.execute(f"DELETE FROM {table} WHERE key = ? AND ends > ?", (name, now)).rowcount  # noqa: S608
                    for name in names
                    for table in ("records", "logs")
                )

        return await self._write(work)

    async def newest(self, listed: str, limit: int) -> list[bytes]:
        select = "SELECT value FROM records WHERE listed = ? AND ends > ? ORDER BY place DESC LIMIT ?"
        name = name_to_bytes(listed)
        return await self._run(
            lambda db, now: [row[0] for row in db.execute(select, (name, now, max(0, limit))).fetchall()]
        )

    # -- logs ----------------------------------------------------------------------------------------------------------

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        name = name_to_bytes(key)
        rows = [_row(put) for put in also]

        def work(db: sqlite3.Connection, now: float) -> bool:
            with _whole(db):
                db.execute("DELETE FROM logs WHERE key = ? AND ends <= ?", (name, now))
                row = db.execute("SELECT id, length FROM logs WHERE key = ?", (name,)).fetchone()
                if at != (0 if row is None else row[1]):
                    return False
                if row is None:
                    insert = "INSERT INTO logs (key, ends, length) VALUES (?, ?, 1)"
                    log = db.execute(insert, (name, now + ttl_s)).lastrowid
                else:
                    log = row[0]
                    db.execute("UPDATE logs SET ends = ?, length = ? WHERE id = ?", (now + ttl_s, at + 1, log))
                db.execute("INSERT INTO entries (log, number, value) VALUES (?, ?, ?)", (log, at, value))
                db.executemany(sql.PUT, [{**row, "now": now} for row in rows])
                return True

        return await self._write(work)

    async def entries(self, key: str) -> list[bytes]:
        given = {"key": name_to_bytes(key)}
        return await self._run(
            lambda db, now: [row[0] for row in db.execute(sql.ENTRIES, {**given, "now": now}).fetchall()]
        )

    # -- leases --------------------------------------------------------------------------------------------------------

    async def take(self, lease: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        given = {
            "lease": name_to_bytes(lease),
            "holder": name_to_bytes(holder),
            "limit": limit,
            "ttl": min(ttl_s, LAPSED_KEPT_S),
        }
        return await self._write(lambda db, now: db.execute(sql.TAKE, {**given, "now": now}).rowcount > 0)

    async def renew(self, held: Sequence[Held], *, ttl_s: float) -> None:
        ttl = min(ttl_s, LAPSED_KEPT_S)
        given = [{"lease": name_to_bytes(one.lease), "holder": name_to_bytes(one.holder), "ttl": ttl} for one in held]

        def work(db: sqlite3.Connection, now: float) -> None:
            with _whole(db):
                db.executemany(sql.RENEW, [{**one, "now": now} for one in given])

        await self._write(work)

    async def release(self, held: Sequence[Held]) -> None:
        given = [(name_to_bytes(one.lease), name_to_bytes(one.holder)) for one in held]

        def work(db: sqlite3.Connection, _now: float) -> None:
            with _whole(db):
                db.executemany("DELETE FROM leases WHERE lease = ? AND holder = ?", given)

        await self._write(work)

    async def holders(self, lease: str) -> list[str]:
        return await self._holding(lease, lambda now: (now, FOREVER))

    async def lapsed(self, lease: str) -> list[str]:
        return await self._holding(lease, lambda now: (now - LAPSED_KEPT_S, now))

    async def _holding(self, lease: str, between: Callable[[float], tuple[float, float]]) -> list[str]:
        select = "SELECT holder FROM leases WHERE lease = ? AND ends > ? AND ends <= ? ORDER BY since, holder"
        name = name_to_bytes(lease)
        return await self._run(
            lambda db, now: names_from_bytes(row[0] for row in db.execute(select, (name, *between(now))).fetchall())
        )

    async def lapse(self, leases: Sequence[str], *, holders_of: str) -> None:
        given = [{"lease": name_to_bytes(lease), "of": name_to_bytes(holders_of)} for lease in leases]

        def work(db: sqlite3.Connection, now: float) -> None:
            with _whole(db):
                db.executemany(sql.LAPSE, [{**one, "now": now} for one in given])

        await self._write(work)

    async def close(self) -> None:
        """What was asked for before is done before, but for a disk that does not answer."""
        with contextlib.suppress(RuntimeError):  # closed already
            last = self._thread.submit(self._let_go)
            self._thread.close(given_up=self._is_stuck)
            if not self._is_stuck:
                await asyncio.wait([asyncio.wrap_future(last)], timeout=self._busy_s + STALLED_S)

    # -- the thread ----------------------------------------------------------------------------------------------------

    @property
    def _is_stuck(self) -> bool:
        return self._stuck is not None and not self._stuck.done()

    async def _run(self, work: Callable[[sqlite3.Connection, float], T]) -> T:
        if self._is_stuck:
            raise self._silent()
        now = time.monotonic()
        patient = now >= self._held_at + HELD_FOR_S
        deadline = now + (self._busy_s if patient else min(HELD_S, self._busy_s))
        before = self._thread.doing
        try:
            job = self._thread.submit(lambda: self._work(work, deadline, patient))
        except RuntimeError:
            raise StoreUnavailable("The store is closed: this hub is ending.", action="Start the hub again.") from None
        done = asyncio.wrap_future(job)
        try:
            await asyncio.wait([done], timeout=deadline + STALLED_S - now)
        finally:
            if not done.done():  # who has gone finds it done or not begun
                job.cancel()
                done.cancel()
        if done.cancelled():
            doing = self._thread.doing
            if doing is job or doing is before:  # and no other one that has just begun
                self._stuck = doing
            raise self._silent()
        return done.result()

    async def _write(self, work: Callable[[sqlite3.Connection, float], T]) -> T:
        def and_tidy(db: sqlite3.Connection, now: float) -> T:
            result = work(db, now)
            self._held_at = float("-inf")  # a reading says nothing of that: it need not wait
            if not 0 <= now - self._tidied < TIDY_S:  # also after the clock was set back
                self._tidied = now
                with contextlib.suppress(RuntimeError):  # no more jobs: the hub is ending
                    self._thread.submit(self._tidy)
            return result

        return await self._run(and_tidy)

    def _work(self, work: Callable[[sqlite3.Connection, float], T], deadline: float, patient: bool) -> T:
        pause = 0.0005
        while True:
            try:
                return work(self._connection(), self._clock())
            except sqlite3.Error as error:
                # Waited for here and not by SQLite, whose pauses are longer, and which cannot know that a call has
                # spent its time in our queue: behind a hub that was frozen in the middle of a write, all calls end
                # when the first does.
                name = getattr(error, "sqlite_errorname", "")
                held = name.startswith(_HELD)
                if held and time.monotonic() < deadline:
                    time.sleep(pause)
                    pause = min(pause * 1.5, 0.02)
                    continue
                if held and patient:
                    self._held_at = time.monotonic()
                if not held:
                    self._let_go()  # the file may be mended, moved or replaced before the next call
                raise self._unavailable(name) from error
            except OSError as error:
                self._let_go()
                raise StoreUnavailable(
                    f"The hub's store {self.file} cannot be opened: {error.strerror}.",
                    action=f"Make {self.file.parent} a folder that this user can write to.",
                ) from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None:
            with contextlib.suppress(FileNotFoundError):
                now = self.file.stat()
                if (now.st_dev, now.st_ino) == self._opened:
                    return self._db
            self._let_go()  # moved away or deleted: what we wrote there, no other hub would see
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _creating, contextlib.suppress(FileExistsError):
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        for suffix in ("", "-wal", "-shm"):  # SQLite makes the other two with the mode of the first
            with contextlib.suppress(FileNotFoundError):
                file = self.file.with_name(FILE + suffix)
                if file.stat().st_mode & 0o077:
                    file.chmod(0o600)
        db = sqlite3.connect(f"{self.file.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA cache_size = -512")  # KiB, of 2,000: the system holds the file's pages too, once for all
            db.execute("PRAGMA journal_size_limit = 16777216")
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode = WAL")
            self._refuse_newer(migrate(db))
            opened = self.file.stat()
        except BaseException:
            db.close()
            raise
        self._db, self._opened = db, (opened.st_dev, opened.st_ino)
        return db

    def _refuse_newer(self, version: int) -> None:
        if version > len(sql.STEPS):
            raise StoreUnavailable(
                f"The hub's store {self.file} belongs to a newer llm-mcp-hub: its schema is {version}, "
                f"and this one knows {len(sql.STEPS)}.",
                action="Update llm-mcp-hub.",
            )

    def _tidy(self) -> None:
        """Remove what has ended. A failure is met again, and told, by the next call."""
        with contextlib.suppress(sqlite3.Error, OSError, StoreUnavailable):
            db, now = self._connection(), self._clock()
            for statement in sql.TIDY:
                db.execute(statement, {"now": now, "rows": TIDY_ROWS, "kept": LAPSED_KEPT_S})

    def _let_go(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _silent(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"The hub's store {self.file} does not answer.", action=f"Check the disk that {self.file.parent} is on."
        )

    def _unavailable(self, name: str) -> StoreUnavailable:
        """The failure as the user is told: SQLite's name of it decides."""
        if name.startswith(_HELD):
            return StoreUnavailable(
                f"Another process holds the hub's store {self.file}.",
                action="End the program that holds it, or try again.",
            )
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return StoreUnavailable(
                f"The hub's store {self.file} is damaged.",
                action=f"Move {self.file} away, with its -wal and -shm files; the hub begins a new one.",
            )
        if name.startswith("SQLITE_FULL"):
            return StoreUnavailable(
                f"The hub's store {self.file} cannot grow: the disk is full.", action="Free some space on that disk."
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return StoreUnavailable(
                f"The hub's store {self.file} cannot be written.",
                action=f"Make {self.file.parent} a folder that this user can write to.",
            )
        return StoreUnavailable(
            f"The hub's store {self.file} failed ({name or 'sqlite3'}).",
            action=f"Check the disk that {self.file.parent} is on.",
        )
