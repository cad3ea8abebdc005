"""The seam to shared state: records with an end, logs, and leases. Knows no ask, no provider and no protocol.

Three kinds of things, all named by keys of the table below:

- a **record** is bytes under a key, with an end; it may be listed, and a list gives its newest;
- a **log** is bytes in a row; an entry is appended only where the writer thinks the end is, so two writers cannot mix;
- a **lease** is a name that a limited number of holders have for a time; a holder that is not heard of any more lapses.

Clocks are the store's own (the machine's for SQLite, the server's for Redis), so hubs need not agree on the time.
Values are JSON of our own nouns, read back through their models: what is not readable counts as absent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

# Every key. No key holds a token or a prompt. `{who}` is the principal: a record of somebody else has another key, so
# it cannot be found even by its id.
ASK = "ask:{who}:{ask_id}"  # record; ends HUB_RETENTION_DAYS after its last change
ASKS = "asks:{who}"  # list of ASK
CANCEL = "cancel:{ask_id}"  # record; a wish that the hub which runs the ask fulfils; ends with the longest ask
CALL = "call:{session}:{call}"  # record; the ask of a call that still waits; ends with the longest ask
CONVERSATION = "conversation:{who}:{conversation_id}"  # record; ends HUB_RETENTION_DAYS after its last turn
CONVERSATIONS = "conversations:{who}"  # list of CONVERSATION
TURNS = "turns:{who}:{conversation_id}"  # log; ends with its CONVERSATION
COOL = "cool:{provider}:{login}:{model}"  # record; ends when the provider's limit resets
ALERT = "alert:{provider}:{state}:{day}"  # record; which hub tells of this state on this day; ends a day later
ALERTED = "alerted:{provider}"  # record; the last alert, until the login works again; ends a week later
AILING = "ailing:{provider}"  # lease of every hub whose login needs a person; holder: a name of chance
SALT = "salt"  # record; ends after ten years; what fingerprints of logins are salted with
LEDGER = "ledger:{provider}:{login}:{kind}"  # record; ends 400 days after its last change; `login` is a fingerprint
LASTED = "lasted:{provider}:{account}"  # log; ends 400 days after its last entry; `account` is a fingerprint
VERIFIED = "verified:{provider}"  # record; ends after a minute
RUNNING = "running"  # lease of every running ask; holder `{instance}/{who}/{ask_id}`
PLACES = "places:{provider}"  # lease; as many as may run at once; holder `{instance}/{ask_id}`
TALKING = "talking:{who}:{conversation_id}"  # lease of one; holder `{instance}/{ask_id}`
PROBED = "probed"  # nothing ever; read to see whether the store answers
DOCTOR = "doctor"  # lease that `llm-mcp-hub doctor` takes and releases, to see that it can

LAPSED_KEPT_S = 86_400.0
"""How long a lapsed holder is remembered whom nobody releases, and how long a hub may hold a lease unrenewed at most:
nothing stays in a store for ever."""


def key(form: str, **parts: str) -> str:
    """A key of the table. No part can be mistaken for two, whatever a caller gives for an id: colons are escaped."""
    return form.format(**{name: part.replace("%", "%25").replace(":", "%3A") for name, part in parts.items()})


def name_to_bytes(name: str) -> bytes:
    """A key or a holder as both stores keep it: as bytes, so that a NUL or half a character in it does no harm."""
    return name.encode("utf-8", "surrogatepass")


def name_from_bytes(name: bytes) -> str:
    """Its way back. Raises UnicodeDecodeError for what no hub has written."""
    return name.decode("utf-8", "surrogatepass")


def names_from_bytes(names: Iterable[bytes]) -> list[str]:
    """Those of them that a hub has written."""
    found: list[str] = []
    for name in names:
        with contextlib.suppress(UnicodeDecodeError):
            found.append(name_from_bytes(name))
    return found


@dataclass(frozen=True, slots=True)
class Put:
    """A record to be written; see `Store.put`."""

    key: str
    value: bytes
    ttl_s: float
    listed: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One holder of one lease."""

    lease: str
    holder: str


class Store(Protocol):
    """Every method raises StoreUnavailable when the store cannot be reached or written, and nothing else.

    A method happens as a whole or not at all. After a failure, or for a caller who was cancelled, nobody knows which.
    """

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        """Write a record, which ends after `ttl_s` seconds.

        In its list it stands where it was first put, as long as it is there. A put that names no list leaves it in the
        one where it is; one that names another list moves it.
        """
        ...

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        """Write a record only where there is none. Returns whether it was written."""
        ...

    async def get(self, *keys: str) -> list[bytes | None]:
        """Records in the keys' order; None for one that is not there, or has ended."""
        ...

    async def delete(self, *keys: str) -> int:
        """Remove records and logs. Returns how many were there; a key that names one of each counts twice."""
        ...

    async def newest(self, listed: str, limit: int) -> list[bytes]:
        """The last `limit` records that were first put into a list, the newest first."""
        ...

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        """Add entry number `at` (from 0) to a log and prolong the log. False where its length is another one.

        With the entry, and only with it, the records of `also` are written.
        """
        ...

    async def entries(self, key: str) -> list[bytes]:
        """A log's entries, oldest first; empty for one that is not there, or has ended."""
        ...

    async def take(self, lease: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Become one of at most `limit` holders for `ttl_s` seconds. True for one who holds it already.

        Holders that have lapsed do not count. One of them that takes again is the last taker.
        """
        ...

    async def renew(self, held: Sequence[Held], *, ttl_s: float) -> None:
        """Hold each of these for `ttl_s` seconds from now, also where the lease had lapsed or was lost.

        No limit is looked at: a hub that was away for a moment has its work back. What is held without a limit may be
        joined by this.
        """
        ...

    async def release(self, held: Sequence[Held]) -> None:
        """Hold these no longer. A lease that somebody else holds by now is not touched."""
        ...

    async def holders(self, lease: str) -> list[str]:
        """Who holds it now, the first taker first."""
        ...

    async def lapsed(self, lease: str) -> list[str]:
        """Holders whose time is over and who did not release it, the first taker first.

        They stay here until `release`, which anybody may call for them, or LAPSED_KEPT_S later.
        """
        ...

    async def lapse(self, leases: Sequence[str], *, holders_of: str) -> None:
        """Let the time of every holder whose name begins with `holders_of` be over now: its hub is known to be dead."""
        ...

    async def close(self) -> None:
        """Let go of files and connections. May be called twice."""
        ...
