"""Who may use the hub over HTTP: client tokens, of which hashes alone are kept. Knows a file, and nothing of requests.

    clients.json   0600, replaced as a whole: a reader sees the old one or the new one, never half of one
        {"version": 1, "clients": {NAME: {"scopes": […], "tokens": [{"sha256": …, "made_at": …}], "created_at": …,
                                          "rotated_at": …,
                                          "limits": {"requests_per_minute": …, "asks_per_minute": …, "at_once": …}}}}

Where there is such a file, nobody comes in without a token. One that cannot be read, is not ours through and through,
or has gone since it was seen admits nobody; it never makes everybody the owner again. The upper half is pure.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shlex
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_mcp_hub import others
from llm_mcp_hub.children.locks import OPENED, lock
from llm_mcp_hub.conversation import OWNER
from llm_mcp_hub.errors import InvalidRequest, Misconfigured, NotFound

STATUS = "status"
CALLER = "llm_mcp_hub.caller"
"""Where a request's scope says whose it is."""
LIVE_TOKENS = 2
"""The one in use, and the one that takes its place."""
TOKEN_BYTES = 32
MARK = "llmhub_"
"""How each token begins: so the log, and whoever searches a repository for secrets, knows one."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # no colon: names become parts of keys


class Allowance(BaseModel):
    """How much a client may do, where it is told otherwise than all are; see `serving/limits.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    requests_per_minute: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    asks_per_minute: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    at_once: Annotated[int | None, Field(ge=1, le=1_000_000)] = None

    def told(self) -> dict[str, int]:
        """What it says, by its names."""
        return self.model_dump(exclude_none=True)


class Token(BaseModel):
    """What is kept of a token."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    made_at: datetime


class Client(BaseModel):
    """One client: what it may do, and its tokens, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    scopes: tuple[str, ...]
    tokens: Annotated[tuple[Token, ...], Field(min_length=1, max_length=LIVE_TOKENS)]
    created_at: datetime
    rotated_at: datetime | None = None
    limits: Allowance | None = None


class Book(BaseModel):
    """All clients by their names."""

    # What a later version adds may narrow a client's rights: an older hub must not pass it over.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1] = 1
    clients: Mapping[Annotated[str, Field(pattern=rf"^{_NAME}$")], Client] = {}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is, and what it may do; None: everything."""

    principal: str = OWNER
    scopes: frozenset[str] | None = None
    sha256: str = field(default="", repr=False)
    """Of the token that it bears, if any."""
    limits: Allowance | None = None

    def may(self, scope: str) -> bool:
        """Whether it has this scope."""
        return self.scopes is None or scope in self.scopes

    @property
    def client(self) -> str | None:
        """The name that the log shows; None for the owner."""
        return None if self.scopes is None else self.principal.partition(":")[2]


def ask_scope(provider: str) -> str:
    """The scope that asks of this provider need."""
    return f"ask:{provider}"


def all_scopes(providers: Sequence[str]) -> tuple[str, ...]:
    """Every scope there is."""
    return (*(ask_scope(name) for name in providers), STATUS)


def new_token() -> str:
    """256 random bits, as text that fits in a header."""
    return MARK + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: bytes) -> str:
    """What is kept of it. A slow hash would add nothing: 256 random bits cannot be guessed."""
    return hashlib.sha256(token).hexdigest()


def recognised(book: Book, token: bytes) -> Caller | None:
    """Whose token this is. Every hash is compared, in constant time each: how long it takes tells nothing of them."""
    given = digest(token)
    found: Caller | None = None
    for name, client in book.clients.items():
        for held in client.tokens:
            if hmac.compare_digest(held.sha256, given):
                found = Caller(f"client:{name}", frozenset(client.scopes), given, client.limits)
    return found


def still(book: Book | None, caller: Caller) -> bool:
    """Whether a caller of before would still come in, with no right less; `book` is None where nobody has a token."""
    if book is None or caller.client is None:
        return book is None and caller.client is None
    client = book.clients.get(caller.client)
    if client is None or caller.sha256 not in {token.sha256 for token in client.tokens}:
        return False
    return (caller.scopes or frozenset()) <= set(client.scopes)


class Added(NamedTuple):
    """A book with one token more, and what was given up for it."""

    book: Book
    rotated: bool
    dropped: bool


def added(
    book: Book,
    name: str,
    scopes: Sequence[str],
    token: str,
    now: datetime,
    *,
    every: Sequence[str],
    limits: Mapping[str, int] | None = None,
) -> Added:
    """The book with this token for that client, which is a new one, or gets its second token.

    Args:
        book: the book before.
        name: the client's.
        scopes: what it may do from now on. Empty: what it could before; a new one may do all.
        token: the new token.
        now: when it was made.
        every: all scopes there are.
        limits: what changes of its `Allowance`.

    Raises InvalidRequest.
    """
    if re.fullmatch(_NAME, name) is None:
        raise InvalidRequest(
            "This is no name for a client: it has 1 to 64 letters, digits, dots, dashes or underscores, and begins "
            "with a letter or a digit.",
            action="Choose another name.",
        )
    unknown = [scope for scope in scopes if scope not in every]
    if unknown:
        raise InvalidRequest(f"There is no scope {unknown[0]!r}.", action=f"Use one of: {', '.join(every)}.")
    new = Token(sha256=digest(token.encode()), made_at=now)
    before = book.clients.get(name)
    allowed = _allowance(before.limits if before is not None else None, limits or {})
    if before is None:
        client = Client(scopes=tuple(dict.fromkeys(scopes or every)), tokens=(new,), created_at=now, limits=allowed)
    else:
        kept = before.tokens[-(LIVE_TOKENS - 1) :]
        client = Client(
            scopes=tuple(dict.fromkeys(scopes)) or before.scopes,
            tokens=(*kept, new),
            created_at=before.created_at,
            rotated_at=now,
            limits=allowed,
        )
    dropped = before is not None and len(before.tokens) == LIVE_TOKENS
    return Added(Book(clients={**book.clients, name: client}), before is not None, dropped)


def _allowance(before: Allowance | None, changes: Mapping[str, int]) -> Allowance | None:
    """Raises InvalidRequest."""
    try:
        now = Allowance.model_validate({**(before.told() if before is not None else {}), **changes})
    except ValidationError:
        raise InvalidRequest("A limit is a number from 1 to 1,000,000.", action="Choose another number.") from None
    return now if now.told() else None


def revoked(book: Book, name: str, number: int | None) -> Book:
    """The book without that client, or without one of its tokens (1: the oldest).

    Raises NotFound, and InvalidRequest for the only token by its number: after a rotation the next one has that number,
    and who runs the same command once more would be shut out.
    """
    client = book.clients.get(name)
    look = "Run: llm-mcp-hub client list"
    if client is None:
        raise NotFound(f"There is no client {name!r}.", action=look)
    if number is not None and not 1 <= number <= len(client.tokens):
        raise NotFound(f"The client {name!r} has no token {number}.", action=look)
    if number is not None and len(client.tokens) == 1:
        raise InvalidRequest(
            f"That is the only token of {name!r}: nothing was changed.",
            action=f"To shut it out for good: llm-mcp-hub client revoke {name}",
        )
    left = () if number is None else (*client.tokens[: number - 1], *client.tokens[number:])
    others = {other: held for other, held in book.clients.items() if other != name}
    if not left:
        return Book(clients=others)
    return Book(clients={**others, name: client.model_copy(update={"tokens": left})})


# -- the file ----------------------------------------------------------------------------------------------------------

_Mark = tuple[int, ...]


class Clients:
    """The clients' file. It is looked at whenever somebody comes, and read again when it is another one."""

    def __init__(self, file: Path, *, expected: bool = False) -> None:
        """`expected`: somebody has named this file, so that none is there means that nobody may come in."""
        self.file = file
        self._seen = expected
        self._mark: _Mark | None = None
        self._known: Book | Misconfigured | None = None

    def current(self) -> Book | None:
        """Who may come in now; None: there is no file, and there was none. Raises Misconfigured.

        It blocks for one look at one file of this machine.
        """
        about = self._look()
        if about is None:
            if self._seen:
                raise self._unusable("it is not there", "Run: llm-mcp-hub client add NAME")
            return None
        self._seen = True
        if _mark(about) != self._mark or self._known is None:
            try:
                self._known, self._mark = self._read()
            except Misconfigured as error:
                self._known, self._mark = error, None if isinstance(error.__cause__, OSError) else _mark(about)
        if isinstance(self._known, Misconfigured):
            raise self._known.with_traceback(None)
        return self._known

    def list(self) -> Book:
        """What the file holds now. Raises Misconfigured."""
        return Book() if self._look() is None else self._read()[0]

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        now: datetime,
        *,
        every: Sequence[str],
        limits: Mapping[str, int] | None = None,
        keep: Callable[[str], None] | None = None,
    ) -> tuple[str, Added]:
        """A new token for that client: the token itself, which is nowhere else, and what became of the book.

        `keep` is given the token before it counts, and before an older one ends: where it raises, nothing has changed.
        Raises InvalidRequest and Misconfigured.
        """
        token = new_token()
        with self._alone():
            change = added(self.list(), name, scopes, token, now, every=every, limits=limits)
            if keep is not None:
                keep(token)
            self._write(change.book)
        return token, change

    def first(self, name: str, now: datetime, *, every: Sequence[str], keep: Callable[[str], None]) -> bool:
        """Add a first client where there is no file yet. Returns whether it was.

        `keep` is given the token, before anybody can come in with it: a token that was never kept would shut the hub's
        owner out. Of two that do this at once one does it. A file without clients stays as it is: they were revoked.
        Raises InvalidRequest and Misconfigured.
        """
        if self._look() is not None:  # and nothing is written, not even the lock: it may be mounted to be read
            return False
        token = new_token()
        change = added(Book(), name, (), token, now, every=every)
        with self._alone():
            if self._look() is not None:
                return False
            keep(token)
            self._write(change.book)
        return True

    def revoke(self, name: str, number: int | None = None) -> Book:
        """Forget a client, or one of its tokens. Returns what is left. Raises NotFound and Misconfigured."""
        with self._alone():
            book = revoked(self.list(), name, number)
            self._write(book)
        return book

    def _look(self) -> os.stat_result | None:
        try:
            return self.file.stat()
        except (FileNotFoundError, NotADirectoryError):
            if self.file.is_symlink():
                raise self._unusable("it is a link to nowhere", "Mend the link, or remove it.") from None
            return None
        except OSError as error:
            raise self._unreadable(error) from error

    def _read(self) -> tuple[Book, _Mark]:
        mend = f"Mend it, or remove it and give every client a new token: {self.file}"
        try:
            # Not to wait for the other end, should it be a pipe.
            with os.fdopen(os.open(self.file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
                about = os.fstat(opened.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise self._unusable("it is no file", "Name a file with HUB_CLIENTS_FILE.")
                if others.can_write(about.st_mode):
                    raise self._unusable("other users can write it", f"Run: chmod 600 {shlex.quote(str(self.file))}")
                return Book.model_validate_json(opened.read()), _mark(about)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValidationError:  # whose text would show what stands there
            raise self._unusable("it is not what this version writes", mend) from None

    def _write(self, book: Book) -> None:
        beside = self.file.with_name(f".{self.file.name}-{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                # What is not said is not written: so an older hub reads it as long as no client has limits.
                file.write(book.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.file)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """No other process changes the file meanwhile: of two that add at once, both clients are there."""
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.file.with_name(f".{self.file.name}.lock"), OPENED, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            lock(handle)
            yield
        finally:
            os.close(handle)

    def _unreadable(self, error: OSError) -> Misconfigured:
        return self._unusable(
            f"it cannot be read ({error.strerror})", f"Let the user that runs the hub read it: {self.file}"
        )

    def _unwritable(self, error: OSError) -> Misconfigured:
        return Misconfigured(
            f"The clients' file {self.file} cannot be written ({error.strerror}).",
            action="Set HUB_CLIENTS_FILE to a file in a folder that this user can write.",
        )

    def _unusable(self, why: str, action: str) -> Misconfigured:
        return Misconfigured(f"The clients' file {self.file} admits nobody: {why}.", action=action)


def _mark(about: os.stat_result) -> _Mark:
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
