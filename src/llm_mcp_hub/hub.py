"""The use case: one ask, in reading order. Knows providers by their seam only, and nothing of MCP or of a terminal.

`begin` checks what can be checked, stands in the queue, takes the conversation and writes the ask down; from then on it
runs by itself (`asking.py`). Whoever began it may wait for it, leave it or cancel it, and anyone of the same principal
may come for it later, here or at another hub on the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import anyio

from llm_mcp_hub.asking import Asking, Deadlines, Entry
from llm_mcp_hub.begun import Begun
from llm_mcp_hub.checks import check_size, checked
from llm_mcp_hub.conversation import OWNER, Answer, Ask
from llm_mcp_hub.cooldown import CoolDowns
from llm_mcp_hub.credentials.alerts import Alerts
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.dead import Dead
from llm_mcp_hub.endings import cancelled, closing, stopped
from llm_mcp_hub.errors import Busy, HubError, NotFound, StoreUnavailable
from llm_mcp_hub.journal import Journal, Record, opened
from llm_mcp_hub.logins import Logins
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import Attachment, Material
from llm_mcp_hub.observer import Load, Observer
from llm_mcp_hub.places import Places
from llm_mcp_hub.providers.base import Traits
from llm_mcp_hub.rest import Rest
from llm_mcp_hub.running import Floor, Running, Watch, end
from llm_mcp_hub.store.base import Store
from llm_mcp_hub.transcripts import Transcripts, fitting_system

POLL_S = 0.25
"""How often the record of an ask that another hub runs is read while somebody waits for it."""
CANCEL_S = 10.0
ITSELF = "hub"
"""The principal of what a hub asks for itself: nobody else's records."""
PROVING = "Answer with the one word: ok"
PROVE_S = 60.0


class Hub:
    """All providers behind one door. Use it as an async context manager: leaving it leaves no child."""

    def __init__(
        self,
        table: Mapping[str, Entry],
        *,
        store: Store,
        deadlines: Deadlines,
        queue_limit: int,
        material: Material | None = None,
        retention_s: float = 7 * 86_400.0,
        instance: str = "hub",
        dead: Callable[[], Iterable[str]] = tuple,
        alerts: Alerts | None = None,
        release: Callable[[], None] = lambda: None,
        observers: Sequence[Observer] = (),
        children: Callable[[str], tuple[int, int]] = lambda _provider: (0, 0),
    ) -> None:
        """
        Args:
            table: providers by name.
            store: what this hub shares with others; it is closed with the hub.
            queue_limit: how many asks may wait for a place, per provider.
            material: reads what is put before a prompt; without one only attachments are taken.
            retention_s: seconds that ended asks and conversations are kept.
            instance: this hub's name among those on the store.
            dead: names of hubs that are known to have died; it is asked often, and names each once.
            alerts: tells of logins that need a person, as long as somebody watches them.
            release: called last, when no child is left.
            observers: are told of every ask.
            children: how many processes a provider has now, and how many it has started.
        """
        self._table = dict(table)
        self._store, self._deadlines = store, deadlines
        self._material = material or Material((), around={})
        self._instance, self._release, self._children = instance, release, children
        self._journal = Journal(store, retention_s=retention_s, instance=instance)
        self.transcripts = Transcripts(store, retention_s=retention_s)
        self.begun = Begun(store)
        self._cooldowns = CoolDowns(store)
        self._dead = Dead(store, self._journal, dead, list(table))
        self._floor = Floor(store, self._journal, self._dead.bury, self._cooldowns.write_late)
        self._journal.runs = self._floor.knows
        self._places = {
            name: Places(store, provider=name, instance=instance, limit=entry.concurrency, queue_limit=queue_limit)
            for name, entry in table.items()
        }
        self.logins = Logins({name: entry.login for name, entry in table.items()}, self._prove, alerts)
        self._asking = Asking(
            self._places,
            self._floor,
            self._journal,
            self.transcripts,
            self._cooldowns,
            deadlines,
            self._usable_names,
            self.logins.shown,
            tuple(observers),
        )
        self.rest = Rest((entry.provider for entry in table.values()), lambda: self.is_asked)
        self.reaches_store = self._journal.reachable
        self._ending = False
        self._ends_at: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.close()

    @property
    def traits(self) -> tuple[Traits, ...]:
        """What the outer rooms show of the providers."""
        return tuple(entry.provider.traits for entry in self._table.values())

    @property
    def dead(self) -> tuple[str, ...]:
        """Names of hubs that are known to have died and still hold something."""
        return self._dead.names

    def new_ask(
        self,
        provider: str,
        prompt: str,
        *,
        principal: str = OWNER,
        model: str | None = None,
        system: str | None = None,
        conversation_id: str | None = None,
        effort: str | None = None,
        timeout_s: float | None = None,
    ) -> Ask:
        """An ask whose every part has been checked. Raises InvalidRequest or NotFound."""
        return checked(
            self._entry(provider).provider.traits,
            prompt,
            principal=principal,
            model=model,
            system=system,
            conversation_id=conversation_id,
            effort=effort,
            timeout_s=self._deadlines.whole if timeout_s is None else timeout_s,
            arrived=time.monotonic(),
        )

    async def with_material(
        self,
        ask: Ask,
        *,
        files: Sequence[str] = (),
        git_diff: GitDiff | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> Ask:
        """The ask with these before its prompt. Raises InvalidRequest, Timeout, Misconfigured where git is missing."""
        with self._asking.refusing(ask):
            parts = await self._material.gather(
                provider=ask.provider,
                takes=self._entry(ask.provider).provider.traits.takes,
                files=files,
                git_diff=git_diff,
                attachments=attachments,
                within_s=ask.ends_at - time.monotonic(),
            )
        return replace(ask, parts=parts)

    # -- an ask from outside -------------------------------------------------------------------------------------------

    async def begin(self, ask: Ask, watch: Watch | None = None) -> Running:
        """Accept an ask: from here on it runs, whoever waits. Raises HubError when it cannot be accepted."""
        if self._ends_at is not None:
            raise self._asking.refused(ask, closing(ask, max(1.0, self._ends_at - time.monotonic())))
        # A task of its own: cancelled half-way, once or twice, it would leave an ask of nobody.
        accepting = asyncio.get_running_loop().create_task(self._accept(ask, watch or Watch()))
        try:
            return await asyncio.shield(accepting)
        except asyncio.CancelledError:
            accepting.add_done_callback(lambda done: done.cancelled() or done.exception() or self._end(done.result()))
            with anyio.CancelScope(shield=True):
                await asyncio.wait([accepting])
                if not accepting.cancelled() and accepting.exception() is None:
                    await accepting.result().ended(None)
            raise
        except HubError as error:
            raise self._asking.told(self._asking.refused(ask, error), ask, None) from error

    async def ask(self, ask: Ask, watch: Watch | None = None) -> Answer:
        """Put one question and wait for the whole answer. Raises HubError; cancelling it makes the provider quiet."""
        running = await self.begin(ask, watch)
        try:
            await running.ended(None)
        except asyncio.CancelledError:
            await self.stop(running)
            raise
        return running.outcome()

    async def stop(self, running: Running) -> None:
        """Cancel an ask of this hub and wait until its provider is quiet."""
        self._end(running)
        with anyio.CancelScope(shield=True):
            await running.ended(None)

    async def hand_back(self, running: Running) -> bool:
        """Its caller gets a ticket and no answer. Returns whether the store has the ask, for who comes back."""
        running.handed_back = True
        return await self._floor.keep(running)

    async def result(self, principal: str, ask_id: str, wait_s: float | None = 0) -> Record:
        """One's own ask as it stands, after waiting up to `wait_s` seconds for its end (None: until then).

        Raises NotFound for an ask that never was, is forgotten, or is somebody else's, and StoreUnavailable.
        """
        deadline = time.monotonic() + (3600.0 if wait_s is None else wait_s)
        running = self._floor.get(principal, ask_id)
        if running is not None:
            await running.ended(max(0.0, deadline - time.monotonic()))
            return running.snapshot()
        await self._dead.bury()
        unsaved = self._floor.unsaved(principal, ask_id)
        while unsaved is None:
            record = await self._journal.get(principal, ask_id)
            if record is None:
                raise NotFound(
                    "There is no such ask.", action="Call ask_result without ask_id: it lists your last asks."
                )
            left = deadline - time.monotonic()
            if record.ended or left <= 0 or self._ends_at is not None:
                return record
            await asyncio.sleep(min(POLL_S, left))
            await self._dead.bury()
        return unsaved

    async def recent(self, principal: str, limit: int = 10) -> list[Record]:
        """One's own last asks, the newest first. Raises StoreUnavailable."""
        await self._dead.bury()
        return [self._floor.latest(record) for record in await self._journal.newest(principal, limit)]

    async def cancel(self, principal: str, ask_id: str) -> Record:
        """Cancel one's own ask, whichever hub runs it. Returns the record as it stands then. Raises as `result`."""
        running = self._floor.get(principal, ask_id)
        if running is not None:
            await self.stop(running)
            return running.record
        record = await self.result(principal, ask_id)
        if record.ended:
            return record
        await self._journal.wish_cancelled(ask_id)
        return await self.result(principal, ask_id, CANCEL_S)

    async def forget(self, principal: str, ask_id: str) -> None:
        """Delete one's own ended ask. Raises NotFound, Busy while it runs, StoreUnavailable."""
        record = await self.result(principal, ask_id)
        if not record.ended:
            raise Busy("This ask is still running.", action=f"Cancel it first: llm-mcp-hub asks cancel {ask_id}")
        await self._journal.delete(principal, ask_id)

    # -- the logins ----------------------------------------------------------------------------------------------------

    async def token_status(self, provider: str | None = None, *, verify: bool = False) -> dict[str, TokenStatus]:
        """What all hubs know of all logins, or of one; `verify` as `Logins.status` has it. Raises NotFound."""
        names = list(self._table) if provider is None else [self._entry(provider).provider.traits.name]
        return await self.logins.status(names, verify=verify)

    async def _prove(self, provider: str) -> HubError | None:
        """Spend one tiny ask, of which nothing is left. Returns why it was not answered, where it was not."""
        ask = self.new_ask(provider, PROVING, principal=ITSELF, timeout_s=PROVE_S)
        try:
            ended = await self.ask(ask)
        except HubError as error:
            ended = error
        with contextlib.suppress(HubError):
            await self._journal.delete(ITSELF, ask.ask_id)
            if isinstance(ended, Answer) and ended.conversation_id:  # else it is no turn of one
                await self.transcripts.delete(ITSELF, ended.conversation_id)
        return ended if isinstance(ended, HubError) else None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def warm(self) -> None:
        """Start ahead what makes the first ask fast, and let go of what dead hubs held: others may wait for it."""
        await asyncio.gather(self._dead.bury(), *(self._warm(entry) for entry in self._usable()))

    def loads(self) -> dict[str, Load]:
        """How busy this hub is now, by provider."""
        return {name: places.load(*self._children(name)) for name, places in self._places.items()}

    async def _warm(self, entry: Entry) -> None:
        login = entry.login.mark()
        error = await entry.provider.warm()
        if error is not None:  # so a dead login is known before somebody needs it
            await entry.login.failed(login, error)

    @property
    def usable(self) -> tuple[str, ...]:
        """Providers whose logins can be used, by what this hub knows: nobody is asked."""
        return self._usable_names()

    def take_no_more(self, until: float) -> None:
        """Refuse every new ask from now on: the hub ends at about `until` (`time.monotonic()`). What runs goes on."""
        self._ends_at = until

    async def end_running(self) -> int:
        """End every ask that still runs, as records that tell it: no caller has cancelled them. Returns how many."""
        self._ending = True
        return await self._floor.end_all(stopped)

    @property
    def is_asked(self) -> bool:
        """Whether any ask runs."""
        return bool(self._floor.all())

    @property
    def has_tickets(self) -> bool:
        """Whether an ask runs that was handed back as a ticket."""
        return any(running.handed_back for running in self._floor.all())

    async def left_to_themselves(self) -> None:
        """Wait for the asks that were handed back as tickets: their callers may have gone."""
        while asks := [running.task for running in self._floor.all() if running.handed_back and running.task]:
            await asyncio.wait(asks)

    async def close(self) -> None:
        """Let every child go. Asks that still run end first, as records that tell it."""
        self.rest.close()
        self._ending = True
        with anyio.CancelScope(shield=True):
            try:
                await self._dead.bury()  # nobody else may have heard of them
                await self.end_running()
                await self._floor.close()
                await asyncio.gather(*(entry.provider.close() for entry in self._table.values()))
                await self.logins.close()
                await self._store.close()
            finally:
                self.kill()

    def kill(self) -> None:
        """End every child at once, without awaiting; then release what the children lived in."""
        for entry in self._table.values():
            entry.provider.kill()
        self._release()

    async def _accept(self, ask: Ask, seen: Watch) -> Running:
        entry = self._entry(ask.provider)
        places = self._places[ask.provider]
        seat = places.enter(ask.principal, ask.ask_id)
        seen.place = lambda: places.position(seat)
        try:
            await self._dead.bury()
            await entry.login.look()
            await self._cooldowns.check(ask, entry.login.mark(), pays_extra=entry.pays_extra)
            begun = bool(ask.conversation_id)
            ask = replace(ask, conversation_id=ask.conversation_id or f"conv_{secrets.token_urlsafe(18)}")
            record = opened(ask, self._instance)
            held = await self._journal.hold_conversation(record, begun=begun)
            try:
                if begun:
                    await self._floor.write_late(ask.principal, ask.conversation_id)
                    head, turns = await self.transcripts.get(ask.principal, ask.conversation_id)
                    ask = replace(ask, system=fitting_system(ask.system, head.system), history=turns)
                check_size(ask, entry.provider.traits)
            except BaseException:
                with contextlib.suppress(StoreUnavailable):  # it lapses
                    await self._store.release(held)
                raise
            running = Running(ask, seen, record, held)
            await self._floor.keep(running)
        except BaseException:
            await places.leave(seat)
            raise
        running.task = asyncio.get_running_loop().create_task(self._asking.run(entry, running, seat))
        running.task.add_done_callback(lambda _: self.rest.hold())
        self._floor.enter(running)
        self.rest.hold()
        return running

    def _end(self, running: Running) -> None:
        end(running, stopped(running.ask) if self._ending else cancelled(running.ask))

    def _entry(self, provider: str) -> Entry:
        try:
            return self._table[provider]
        except KeyError:
            raise NotFound(f"There is no provider {provider!r}.", action=f"Use {' or '.join(self._table)}.") from None

    def _usable(self, but: str | None = None) -> Iterable[Entry]:
        return (entry for name, entry in self._table.items() if name != but and entry.login.status().usable)

    def _usable_names(self, but: str | None = None) -> tuple[str, ...]:
        return tuple(entry.provider.traits.name for entry in self._usable(but))
