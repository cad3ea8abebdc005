"""What asks have shown of each login, in the store: for every hub on it, and for the next start. Knows no provider.

A login is named by a salted fingerprint, which nobody can turn back into it or look up elsewhere. Each kind of reading
has a record of its own, so two hubs that learn at the same time take nothing from each other. Clocks of hubs differ,
and may be set back: a reading is never written down as older than what is known already.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from llm_mcp_hub.conversation import Noun, QuotaWindow, Seconds, read
from llm_mcp_hub.credentials.known import Known, Lasted, Reading, merged
from llm_mcp_hub.store.base import LASTED, LEDGER, SALT, VERIFIED, Store, key

KEPT_S = 400 * 86_400.0
"""Longer than a setup-token lives: what is known of a login outlives it."""
SALT_S = 3650 * 86_400.0
QUOTA_S = 40 * 86_400.0
VERIFY_S = 60.0
"""One verifying ask a minute, whoever wants it, over all hubs."""
KINDS = ("first_seen", "issued_at", "success", "accepted", "refusal", "trouble")
REMEMBERED = 20
"""So many lives of earlier logins are written down for an account."""


class _Moment(Noun):
    at: Seconds


class _Quota(Noun):
    windows: tuple[QuotaWindow, ...]


class Ledger:
    """One provider's part of it. Every method raises StoreUnavailable."""

    def __init__(self, store: Store, provider: str) -> None:
        self._store = store
        self._provider = provider
        self._salt = b""
        self.moves = 0
        """How often the store has turned out to be another one: its file was replaced, or it was emptied."""

    async def known(self, marks: Sequence[str]) -> dict[str, Known]:
        """What is known of each of these logins, by its mark."""
        values = iter(await self._read(marks) if marks else [])
        found: dict[str, Known] = {}
        for mark in marks:
            first, issued = (read(_Moment, next(values)) for _ in range(2))
            success, accepted, refusal, trouble = (read(Reading, next(values)) for _ in range(4))
            quota = read(_Quota, next(values))
            found[mark] = Known(
                success=success,
                accepted=accepted,
                refusal=refusal,
                trouble=trouble,
                issued_at=issued.at if issued else None,
                first_seen=first.at if first else None,
                quota=quota.windows if quota else (),
            )
        return found

    async def _read(self, marks: Sequence[str]) -> Sequence[bytes | None]:
        """Every kind's record of each login, by the salt that the store has now: other hubs know no other."""
        values: Sequence[bytes | None] = ()
        for _ in range(2):
            keys = [await self._key(mark, kind) for mark in marks for kind in (*KINDS, "quota")]
            used = self._salt
            salt, *values = await self._store.get(SALT, *keys)
            if salt == used:
                break
            if self._salt == used:  # else another look has found the same meanwhile
                self._salt = b""
                self.moves += 1
        return values

    async def saw(self, mark: str, at: float) -> None:
        """Note when a login was first seen; only the first word counts."""
        moment = _Moment(at=at)
        await self._store.add(await self._key(mark, "first_seen"), _bytes(moment), ttl_s=KEPT_S)

    async def note(self, mark: str, known: Known, *, late: bool = False) -> None:
        """Write down what was learned, and what of it was not known before.

        `late`: it was learned some time ago, and other hubs may have learned newer things since, which are left.
        """
        newest = merged((await self.known([mark]))[mark], known) if late else known
        for kind in ("success", "accepted", "refusal", "trouble"):
            reading: Reading | None = getattr(known, kind)
            if reading is not None and reading == getattr(newest, kind):
                await self._store.put(await self._key(mark, kind), _bytes(reading), ttl_s=KEPT_S)
        if known.issued_at is not None:
            await self._store.put(await self._key(mark, "issued_at"), _bytes(_Moment(at=known.issued_at)), ttl_s=KEPT_S)
        if known.quota:
            name = await self._key(mark, "quota")
            (value,) = await self._store.get(name)
            before = read(_Quota, value)
            windows = merged(Known(quota=before.windows if before else ()), known).quota
            await self._store.put(name, _bytes(_Quota(windows=windows)), ttl_s=QUOTA_S)

    async def lasted(self, account: str) -> tuple[Lasted, ...]:
        """How long earlier logins of an account have lived."""
        if not account:
            return ()
        entries = [read(Lasted, entry) for entry in await self._store.entries(await self._lives(account))]
        return tuple(entry for entry in entries if entry is not None)

    async def ended(self, mark: str, account: str, life: Lasted) -> None:
        """Note how long a login has lived; once, whoever saw its end."""
        if not account or not await self._store.add(await self._key(mark, "ended"), _bytes(life), ttl_s=KEPT_S):
            return
        name = await self._lives(account)
        there = len(await self._store.entries(name))
        if there < REMEMBERED:
            await self._store.append(name, _bytes(life), at=there, ttl_s=KEPT_S)

    async def may_verify(self) -> bool:
        """Whether nobody has spent a verifying ask in the last minute; whoever is told so is the one to spend it."""
        return await self._store.add(key(VERIFIED, provider=self._provider), b"{}", ttl_s=VERIFY_S)

    async def _key(self, mark: str, kind: str) -> str:
        return key(LEDGER, provider=self._provider, login=await self._fingerprint(mark), kind=kind)

    async def _lives(self, account: str) -> str:
        return key(LASTED, provider=self._provider, account=await self._fingerprint(account))

    async def _fingerprint(self, mark: str) -> str:
        if not self._salt:
            made = secrets.token_bytes(32)
            await self._store.add(SALT, made, ttl_s=SALT_S)
            (salt,) = await self._store.get(SALT)
            self._salt = salt or made
        return hmac.new(self._salt, mark.encode(), hashlib.sha256).hexdigest()[:32]


def _bytes(noun: Noun) -> bytes:
    return noun.model_dump_json().encode()
