"""Canaries, and the search for them: everything that a hub writes, says or shows is looked through.

A canary is a made-up secret in whose middle a mark is repeated, so a part of it is found too. It knows where to look,
and not what may stand there: whoever looks says it.
"""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tests.harness import DEADLINE_S
from tests.upstreams.redis import RedisServer

LARGEST = 8 << 20


def _mark() -> str:
    # Letters that base64 in front of it, percent signs or escapes would change; no form that a regexp knows.
    return f"Zq{secrets.token_hex(5)}+{secrets.token_hex(3)}"


@dataclass
class Canary:
    """A secret to be searched for."""

    name: str
    before: str = ""
    mark: str = field(default_factory=_mark)
    plain: bool = False
    """Only letters, digits, dashes and underscores, as in a token."""

    def __post_init__(self) -> None:
        if self.plain:
            self.mark = self.mark.replace("+", "_")

    @property
    def value(self) -> str:
        return self.before + self.mark * 5

    @property
    def forms(self) -> tuple[bytes, ...]:
        """What is searched for: as it is, and as it would be written elsewhere."""
        as_base64 = base64.b64encode(self.value.encode()).rstrip(b"=")[4:-4]
        return tuple({self.mark.encode(), quote(self.mark, safe="").encode(), as_base64})


@dataclass
class Search:
    """Looks for canaries, and counts what it has looked through."""

    canaries: Collection[Canary]
    hits: list[str] = field(default_factory=list[str])
    allowed: Counter[str] = field(default_factory=Counter[str])
    """Where a canary was seen that may stand there: a search that finds nothing anywhere is blind."""
    scanned: Counter[str] = field(default_factory=Counter[str])
    """Bytes, by place."""

    def look(self, place: str, data: bytes | str, allowed: Collection[str] = ()) -> None:
        """Look through `data`; canaries whose names are `allowed` may stand there."""
        held = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        kind = place.partition(":")[0]
        self.scanned[kind] += len(held)
        for canary in self.canaries:
            if any(form in held for form in canary.forms):
                if canary.name in allowed:
                    self.allowed[f"{canary.name} in {kind}"] += 1
                else:
                    self.hits.append(f"{canary.name} in {place}")

    def report(self, title: str) -> str:
        """What was done, in one line."""
        return (
            f"\n{title}: {sum(self.scanned.values()):,} bytes in {len(self.scanned)} kinds of places, "
            f"{len(self.hits)} hits outside the allowed places; allowed: {dict(self.allowed)}"
        )

    # -- places --------------------------------------------------------------------------------------------------------

    def sqlite(self, state: Path, allowed: Collection[str]) -> None:
        """The hubs' store in files: all bytes, and its keys, in which nothing is allowed."""
        for file in state.glob("hub.sqlite3*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
            self.look(f"{file.name}", file.read_bytes(), allowed)
        with closing(sqlite3.connect(f"file:{state / 'hub.sqlite3'}?mode=ro", uri=True, timeout=DEADLINE_S)) as store:
            for columns in ("key, listed FROM records", "key FROM logs", "lease, holder FROM leases"):
                for row in store.execute(f"SELECT {columns}"):
                    for name in filter(None, row):
                        self.look("a key in SQLite", name)

    def redis(self, server: RedisServer, allowed: Collection[str]) -> None:
        """The hubs' store in Redis: every key, member and field, and every value."""
        with server.client() as client:
            for key in client.scan_iter(count=1000):
                self.look("a key in Redis", key)
                match client.type(key):
                    case b"string":
                        self.look("a value in Redis", client.get(key), allowed)
                    case b"list":
                        for value in client.lrange(key, 0, -1):
                            self.look("a value in Redis", value, allowed)
                    case b"zset":
                        for member in client.zrange(key, 0, -1):
                            self.look("a key in Redis", member)
                    case kind:
                        raise AssertionError(f"{key!r} is a {kind!r}: look at it, too")
            self.look("what Redis tells of its clients", repr(client.client_list()))
        self.look("Redis' log", server.log)

    def processes(self, allowed_in: Iterable[tuple[int, Collection[str]]]) -> list[psutil.Process]:
        """Words and environments of every process of this machine. Returns those in whose environment one may stand."""
        may = dict(allowed_in)
        seen: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                words, environment = process.cmdline(), process.environ()
            except psutil.Error:
                continue
            self.look(f"the words of a process: {words[:3]}", "\0".join(words))
            held = "\0".join(f"{name}={value}" for name, value in environment.items())
            self.look(f"the environment of a process: {words[:3]}", held, may.get(process.pid, ()))
            if process.pid in may:
                seen.append(process)
        return seen

    def folder(
        self, root: Path, allowed: Callable[[Path], Collection[str]], *, but: Collection[Path] = ()
    ) -> list[Path]:
        """Every file below a folder; `allowed(path)` says what may stand in it. Returns those that held something."""
        held: list[Path] = []
        for file in files_below(root):
            if file.is_symlink() or any(file == one or one in file.parents for one in but):
                continue
            try:
                data = file.read_bytes()
            except OSError:  # it has just gone
                continue
            before = sum(self.allowed.values())
            self.look(f"a file: {file.relative_to(root)}", data[:LARGEST], allowed(file))
            self.look("a file's name", str(file.relative_to(root)))
            if sum(self.allowed.values()) > before:
                held.append(file)
        return held


def files_below(root: Path) -> Iterator[Path]:
    """Every file below a folder, while others write there: what has just gone is passed over."""
    for folder, _, names in os.walk(root):  # rglob breaks where a folder has gone
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def text_of(value: Any) -> str:
    """Whatever a client got, as text."""
    dumped = getattr(value, "model_dump_json", None)
    return str(dumped(by_alias=True)) if dumped is not None else str(value)
