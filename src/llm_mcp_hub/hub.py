"""The use case: one ask, in reading order. Knows providers by their seam only, and nothing of MCP or of a terminal.

`begin` checks what can be checked, stands in the queue, takes the conversation and writes the ask down; from then on it
runs by itself. `_run` waits for its place, lets the provider stream while three deadlines watch (the whole answer, its
first text, silence), and writes down how it ended. Whoever began it may wait for it, leave it or cancel it, and anyone
of the same principal may come for it later, here or at another hub on the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import anyio
import structlog

from llm_mcp_hub.conversation import PROMPT_LIMIT, Answer, Ask, Characters, Exchange, QuotaWindow, whole
from llm_mcp_hub.cooldown import CoolDowns
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import Busy, HubError, Internal, InvalidRequest, NotFound, StoreUnavailable, Timeout
from llm_mcp_hub.journal import LEASE_S, Journal, Record, failed, now, opened
from llm_mcp_hub.material import Attachment, GitDiff, Material
from llm_mcp_hub.places import Places, Seat
from llm_mcp_hub.providers.base import Event, Finished, Provider, Restarted, Text, Traits
from llm_mcp_hub.running import Floor, Running, Watch, cancelled, end
from llm_mcp_hub.store.base import PLACES, RUNNING, Held, Store
from llm_mcp_hub.transcripts import Conversation, Transcripts, fitting_system

IDLE_RELEASE_S = 600.0
"""Over stdio a hub that nobody asked for this long lets its children go."""
POLL_S = 0.25
"""How often the record of an ask that another hub runs is read while somebody waits for it."""
CANCEL_S = 10.0
TRIES = 3
RETRY_S = 0.5
"""Before the second try; twice that before the third, each with chance in it."""
LONGEST_PAUSE_S = 5.0
UNSAVED = "the hub's store cannot be reached: this answer cannot be fetched again"

log = structlog.stdlib.get_logger("llm_mcp_hub.hub")


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider in the table: how it is driven, how its login is read, how many asks may run at once.

    `login` names the login without telling it: what a provider has refused counts for that login.
    """

    provider: Provider
    status: Callable[[], TokenStatus]
    concurrency: int
    login: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `whole` is the default of an ask that names none."""

    whole: float
    first_text: float
    idle: float


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
        dead: Iterable[str] = (),
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            table: providers by name.
            store: what this hub shares with others; it is closed with the hub.
            deadlines: see `Deadlines`.
            queue_limit: how many asks may wait for a place, per provider.
            material: reads what is put before a prompt; without one only attachments are taken.
            retention_s: seconds that ended asks and conversations are kept.
            instance: this hub's name among those on the store.
            dead: names of hubs that are known to have died.
            release: called last, when no child is left.
        """
        self._table = dict(table)
        self._store = store
        self._deadlines = deadlines
        self._material = material or Material((), around={})
        self._instance = instance
        self._dead = tuple(dead)
        self._release = release
        self._journal = Journal(store, retention_s=retention_s)
        self._transcripts = Transcripts(store, retention_s=retention_s)
        self._cooldowns = CoolDowns(store)
        self._floor = Floor(store, self._journal)
        self._places = {
            name: Places(store, provider=name, instance=instance, limit=entry.concurrency, queue_limit=queue_limit)
            for name, entry in table.items()
        }
        self._idle_timer: asyncio.TimerHandle | None = None
        self._letting_go: set[asyncio.Task[None]] = set()
        self.let_go_when_idle = False
        self.quota: dict[str, tuple[QuotaWindow, ...]] = {}
        """What the last answer of each provider said of its windows."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def traits(self) -> tuple[Traits, ...]:
        """What the outer rooms show of the providers."""
        return tuple(entry.provider.traits for entry in self._table.values())

    def new_ask(
        self,
        provider: str,
        prompt: str,
        *,
        principal: str = "owner",
        model: str | None = None,
        system: str | None = None,
        conversation_id: str | None = None,
        effort: str | None = None,
        timeout_s: float | None = None,
    ) -> Ask:
        """An ask whose every part has been checked. Raises InvalidRequest or NotFound."""
        traits = self._entry(provider).provider.traits
        _check_text("prompt", prompt, required=True, provider=provider)
        if system is not None:
            _check_text("system", system, required=False, provider=provider)
        wanted = model or traits.default_model
        if not traits.accepts(wanted):
            raise InvalidRequest(
                f"model is no model name of {traits.title}.", action=f"Give {traits.model_hint}.", provider=provider
            )
        if effort is not None and effort not in traits.efforts:
            raise InvalidRequest(
                f"{traits.title} takes no effort of that name."
                if traits.efforts
                else f"{traits.title} takes no effort through its CLI.",
                action=f"Use one of: {', '.join(traits.efforts)}." if traits.efforts else "Leave effort out.",
                provider=provider,
            )
        limit = self._deadlines.whole if timeout_s is None else timeout_s
        if not 1 <= limit <= 3600:
            raise InvalidRequest(
                "timeout_s is not between 1 and 3600.", action="Give 1 to 3600 seconds.", provider=provider
            )
        return Ask(
            ask_id=f"ask_{secrets.token_urlsafe(18)}",
            provider=provider,
            prompt=prompt,
            model=wanted,
            system=system or None,
            timeout_s=limit,
            principal=principal,
            conversation_id=conversation_id or "",
            effort=effort,
        )

    async def with_material(
        self,
        ask: Ask,
        *,
        files: Sequence[str] = (),
        git_diff: GitDiff | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> Ask:
        """The ask with these before its prompt. Raises InvalidRequest, and Misconfigured where git is missing."""
        if not files and git_diff is None and not attachments:
            return ask
        parts = await self._material.gather(
            provider=ask.provider,
            takes=self._entry(ask.provider).provider.traits.takes,
            files=files,
            git_diff=git_diff,
            attachments=attachments,
        )
        return replace(ask, parts=parts)

    # -- an ask from outside -------------------------------------------------------------------------------------------

    async def begin(self, ask: Ask, watch: Watch | None = None) -> Running:
        """Accept an ask: from here on it runs, whoever waits. Raises HubError when it cannot be accepted."""
        began = time.monotonic()
        # A task of its own: cancelled half-way, it would leave an ask of nobody.
        accepting = asyncio.get_running_loop().create_task(self._accept(ask, watch or Watch(), began))
        try:
            return await asyncio.shield(accepting)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([accepting])
                if not accepting.cancelled() and accepting.exception() is None:
                    await self.stop(accepting.result())
            raise
        except HubError as error:
            log.warning("ask refused", provider=ask.provider, model=ask.model, code=error.code)
            raise self._told(error, ask, ask_id=None) from error

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
        end(running, cancelled(running.ask))
        with anyio.CancelScope(shield=True):
            await running.ended(None)

    async def result(self, principal: str, ask_id: str, wait_s: float | None = 0) -> Record:
        """One's own ask as it stands, after waiting up to `wait_s` seconds for its end (None: until then).

        Raises NotFound for an ask that never was, is forgotten, or is somebody else's, and StoreUnavailable.
        """
        deadline = time.monotonic() + (3600.0 if wait_s is None else wait_s)
        running = self._floor.get(principal, ask_id)
        if running is not None:
            await running.ended(max(0.0, deadline - time.monotonic()))
            return running.snapshot()
        unsaved = self._floor.unsaved(principal, ask_id)
        while unsaved is None:
            record = await self._journal.get(principal, ask_id)
            if record is None:
                raise NotFound(
                    "There is no such ask.", action="Call ask_result without ask_id: it lists your last asks."
                )
            left = deadline - time.monotonic()
            if record.ended or left <= 0:
                return record
            await asyncio.sleep(min(POLL_S, left))
        return unsaved

    async def recent(self, principal: str, limit: int = 10) -> list[Record]:
        """One's own last asks, the newest first. Raises StoreUnavailable."""
        await self._bury_known()
        found: list[Record] = []
        for record in await self._journal.newest(principal, limit):
            running = self._floor.get(principal, record.ask_id)
            found.append(running.snapshot() if running is not None else record)
        return found

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

    async def conversations(self, principal: str, limit: int = 50) -> list[Conversation]:
        """One's own conversations, the newest first. Raises StoreUnavailable."""
        return await self._transcripts.newest(principal, limit)

    async def conversation(self, principal: str, conversation_id: str) -> tuple[Conversation, tuple[Exchange, ...]]:
        """One of one's own conversations with its turns. Raises NotFound and StoreUnavailable."""
        return await self._transcripts.get(principal, conversation_id)

    async def forget_conversation(self, principal: str, conversation_id: str) -> None:
        """Delete one of one's own conversations. Raises NotFound and StoreUnavailable."""
        await self._transcripts.get(principal, conversation_id)
        await self._transcripts.delete(principal, conversation_id)

    def token_status(self, provider: str | None = None) -> dict[str, TokenStatus]:
        """What is known of the logins: all of them, or one. Raises NotFound."""
        if provider is not None:
            return {provider: self._entry(provider).status()}
        return {name: entry.status() for name, entry in self._table.items()}

    # -- life ----------------------------------------------------------------------------------------------------------

    async def warm(self) -> None:
        """Start ahead what makes the first ask fast."""
        await asyncio.gather(*(entry.provider.warm() for entry in self._usable()))

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
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        with anyio.CancelScope(shield=True):
            try:
                for running in self._floor.all():
                    end(running, _stopped(running.ask))
                await asyncio.gather(*(running.ended(None) for running in self._floor.all()))
                await self._floor.close()
                await asyncio.gather(*(entry.provider.close() for entry in self._table.values()))
                await self._store.close()
            finally:
                self.kill()

    def kill(self) -> None:
        """End every child at once, without awaiting; then release what the children lived in."""
        for entry in self._table.values():
            entry.provider.kill()
        self._release()

    # -- one ask -------------------------------------------------------------------------------------------------------

    async def _accept(self, ask: Ask, seen: Watch, began: float) -> Running:
        entry = self._entry(ask.provider)
        places = self._places[ask.provider]
        seat = places.enter(ask.principal, ask.ask_id)
        seen.place = lambda: places.position(seat)
        try:
            await self._check_cool(entry, ask)
            ask = await self._in_conversation(ask)
            _check_size(ask, entry.provider.traits)
            record = opened(ask, self._instance)
            turn = await self._turn(record) if ask.history else None
            try:
                await self._journal.save(record)
                recorded = True
            except StoreUnavailable:
                recorded = False
        except BaseException:
            await places.leave(seat)
            raise
        running = Running(ask, seen, record, began, recorded, [places.held(seat), *([turn] if turn else [])])
        running.task = asyncio.get_running_loop().create_task(self._run(entry, running, seat))
        self._floor.enter(running)
        self._hold()
        return running

    async def _check_cool(self, entry: Entry, ask: Ask) -> None:
        """Raise the error that the provider would answer anyway, while its limit lasts."""
        await self._bury_known()
        with contextlib.suppress(StoreUnavailable):  # then the provider itself will tell
            met = await self._cooldowns.met(ask.provider, entry.login(), ask.model)
            if met is not None:
                raise met

    async def _in_conversation(self, ask: Ask) -> Ask:
        """The ask with its conversation's earlier turns, or with the name of a new conversation."""
        if not ask.conversation_id:
            return replace(ask, conversation_id=f"conv_{secrets.token_urlsafe(18)}")
        head, turns = await self._transcripts.get(ask.principal, ask.conversation_id)
        return replace(ask, system=fitting_system(ask.system, head.system), history=turns)

    async def _turn(self, record: Record) -> Held:
        """The conversation, for one turn. Raises Busy while another ask has it."""
        turn = record.turn
        for _ in range(2):
            if await self._store.take(turn.lease, turn.holder, limit=1, ttl_s=LEASE_S):
                return turn
            # Whoever has it may be dead: to look at its ask settles that, and frees the conversation.
            for holder in await self._store.holders(turn.lease):
                await self._journal.get(record.principal, holder.partition("/")[2])
        raise Busy(
            "This conversation is still answering an earlier ask.",
            action="Wait for that answer (ask_result lists it), or ask without conversation_id.",
            retry_after_s=5,
        )

    async def _run(self, entry: Entry, running: Running, seat: Seat) -> None:
        """Bring an accepted ask to its end, whatever happens to it. Raises nothing."""
        ask = running.ask
        said = log.bind(ask_id=ask.ask_id, provider=ask.provider, model=ask.model, prompt_chars=len(ask.prompt))
        said.debug("ask taken")
        try:
            try:
                await self._seated(running, seat)
                end_of_it = await self._tries(entry.provider, running)
                running.whole = True
                running.answer = await self._kept(entry, running, end_of_it)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._places[ask.provider].leave(seat)
        except HubError as error:
            await self._note_limit(entry, ask, error)
            running.error = self._told(error, ask, ask_id=ask.ask_id)
            said.warning("ask failed", code=error.code, duration_ms=_ms(running.began))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # it has done its work; what follows must be able to wait
            running.error = self._told(running.why or _stopped(ask), ask, ask_id=ask.ask_id)
            said.info("ask cancelled", code=running.error.code, duration_ms=_ms(running.began))
        except Exception as error:
            broke = Internal("The hub itself failed.", action="See the hub's log for this ask_id.")
            running.error = self._told(broke, ask, ask_id=ask.ask_id)
            running.error.__cause__ = error
            said.exception("ask broke", error=type(error).__name__, duration_ms=_ms(running.began))
        with anyio.CancelScope(shield=True):
            await self._floor.leave(running, _ended(running))
        self._hold()
        if running.answer is not None:
            said.info(
                "ask answered",
                served=running.answer.model,
                stop_reason=running.answer.stop_reason,
                answer_chars=len(running.answer.text),
                duration_ms=running.answer.duration_ms,
                first_text_ms=running.answer.first_text_ms,
            )

    async def _seated(self, running: Running, seat: Seat) -> None:
        ask = running.ask
        done, _ = await asyncio.wait([seat.granted], timeout=_left(running))
        if not done:
            raise Timeout(
                f"No place became free within {ask.timeout_s:.0f} s.",
                action="Try again, or with a larger timeout_s.",
            )

    async def _tries(self, provider: Provider, running: Running) -> Finished:
        """The answer, submitted anew after a passing failure as long as no text has come."""
        for number in range(1, TRIES + 1):
            try:
                return await self._converse(provider, running)
            except HubError as error:
                pause = max(RETRY_S * 2 ** (number - 1) * random.uniform(1, 2), error.retry_after_s or 0)  # noqa: S311
                if (
                    not error.transient
                    or running.first_text_ms is not None
                    or number == TRIES
                    or pause > min(LONGEST_PAUSE_S, _left(running) - 1)
                ):
                    raise
                log.info("ask tried again", ask_id=running.ask.ask_id, provider=running.ask.provider, code=error.code)
                await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the last try returned or raised

    async def _converse(self, provider: Provider, running: Running) -> Finished:
        ask, seen = running.ask, running.watch
        characters = Characters()
        started = quiet_since = time.monotonic()
        async with contextlib.aclosing(provider.ask(ask)) as events:
            while True:
                whole_by = running.began + ask.timeout_s
                # An answer that began and begins anew has begun: only silence and the whole deadline watch it now.
                first = started + self._deadlines.first_text if running.first_text_ms is None else whole_by
                limit = min(whole_by, first, quiet_since + self._deadlines.idle)
                event: Event | None = None
                try:
                    with anyio.move_on_after(max(0.0, limit - time.monotonic())):
                        event = await anext(events)
                except StopAsyncIteration:
                    raise Internal("The provider ended without an answer.", action="Ask again.") from None
                if event is None:  # and not by a TimeoutError: a provider may break with one of its own
                    raise self._too_late(ask, limit, whole_by, first)
                quiet_since = time.monotonic()
                if isinstance(event, Text):
                    event = Text(characters.joined(event.piece))
                    if running.first_text_ms is None:
                        running.first_text_ms = _ms(running.began)
                        log.debug("first text", ask_id=ask.ask_id, first_text_ms=running.first_text_ms)
                elif isinstance(event, Restarted):
                    characters = Characters()
                seen.saw(event)
                if isinstance(event, Finished):
                    return event

    def _too_late(self, ask: Ask, limit: float, whole_by: float, first: float) -> Timeout:
        if limit == whole_by:
            message, action = f"No whole answer within {ask.timeout_s:.0f} s.", "Ask again with a larger timeout_s."
        elif limit == first:
            message = f"No text within {self._deadlines.first_text:.0f} s."
            action = "Try again; the operator can raise HUB_FIRST_TEXT_TIMEOUT_S."
        else:
            message = f"Nothing came for {self._deadlines.idle:.0f} s."
            action = "Try again; the operator can raise HUB_IDLE_TIMEOUT_S."
        return Timeout(message, action=action)

    async def _kept(self, entry: Entry, running: Running, finished: Finished) -> Answer:
        """The answer, once its turn stands in the transcript."""
        ask = running.ask
        text = whole(finished.text)
        warnings = list(finished.warnings)
        turn = Exchange(
            ask_id=ask.ask_id,
            provider=ask.provider,
            model=finished.model,
            prompt=ask.prompt,
            parts=ask.parts,
            answer=text,
            at=now(),
        )
        conversation_id: str | None = ask.conversation_id
        try:
            if not await self._transcripts.add(ask, turn):
                warnings.append("another turn came in between: this one is not in the conversation")
            if finished.blocks is not None:
                await self._note_limit(entry, ask, finished.blocks)
        except StoreUnavailable:
            conversation_id = ask.conversation_id if ask.history else None
            warnings.append(UNSAVED)
        self.quota[ask.provider] = finished.quota or self.quota.get(ask.provider, ())
        return Answer(
            ask_id=ask.ask_id,
            status="completed",
            provider=ask.provider,
            model=finished.model,
            model_source=finished.model_source,
            text=text,
            conversation_id=conversation_id,
            stop_reason=finished.stop_reason,
            usage=finished.usage,
            duration_ms=_ms(running.began),
            first_text_ms=running.first_text_ms,
            billing=finished.billing,
            warnings=tuple(warnings),
        )

    # -- around it -----------------------------------------------------------------------------------------------------

    async def _note_limit(self, entry: Entry, ask: Ask, error: HubError) -> None:
        if error.code in {"quota_exhausted", "billing_blocked"}:
            with contextlib.suppress(StoreUnavailable):
                await self._cooldowns.note(ask.provider, entry.login(), ask.model, error)

    async def _bury_known(self) -> None:
        """Once: let go of what hubs held whose folders this one found ownerless at its start."""
        dead, self._dead = self._dead, ()
        leases = [RUNNING, *(PLACES.format(provider=name) for name in self._table)]
        try:
            for instance in dead:
                await self._store.lapse(leases, holders_of=f"{instance}/")
        except StoreUnavailable:
            self._dead = dead

    def _entry(self, provider: str) -> Entry:
        try:
            return self._table[provider]
        except KeyError:
            raise NotFound(f"There is no provider {provider!r}.", action=f"Use {' or '.join(self._table)}.") from None

    def _usable(self, but: str | None = None) -> Iterable[Entry]:
        return (entry for name, entry in self._table.items() if name != but and entry.status().usable)

    def _told(self, error: HubError, ask: Ask, *, ask_id: str | None) -> HubError:
        """The error as the caller gets it: a new one, for asks that wait for the same start of a CLI share theirs."""
        told = type(error)(
            error.message,
            action=error.action + self._other_provider(error, ask),
            provider=error.provider or ask.provider,
            retry_after_s=error.retry_after_s,
            partial_text=error.partial_text and whole(error.partial_text),
            ask_id=ask_id,
            retryable=error.retryable,
        )
        told.__cause__ = error
        return told

    def _other_provider(self, error: HubError, ask: Ask) -> str:
        """The way out that needs nobody: the other provider, if its login is usable."""
        if error.code in {"invalid_request", "cancelled", "not_found", "internal", "store_unavailable"}:
            return ""
        others = [f"ask_{entry.provider.traits.name}" for entry in self._usable(but=ask.provider)]
        if not others or others[0] in error.action:
            return ""
        same = " with the same conversation_id" if ask.conversation_id and ask.history else ""
        return f" Or use {' or '.join(others)}{same}."

    def _hold(self) -> None:
        """Note a sign of life: children are let go when none has come for a while and nothing runs."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.let_go_when_idle and not self._floor.all():
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_RELEASE_S, self._let_go)

    def _let_go(self) -> None:
        for entry in self._table.values():
            task = asyncio.get_running_loop().create_task(self._rest(entry.provider))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    async def _rest(self, provider: Provider) -> None:
        if not self._floor.all():  # an ask may have come between the timer and this
            await provider.close()


def _check_text(name: str, text: str, *, required: bool, provider: str) -> None:
    """Refuse what could not reach the model as it is; never quote it."""
    # JavaScript, in which both CLIs are written, counts U+FEFF as white space: Claude's would answer it by itself.
    if required and not text.replace("\ufeff", "").strip():
        raise InvalidRequest(f"{name} is blank.", action=f"Give a {name} with text in it.", provider=provider)
    if len(text) > PROMPT_LIMIT:
        raise InvalidRequest(
            f"{name} has {len(text):,} characters; the limit is {PROMPT_LIMIT:,}.",
            action=f"Shorten the {name}.",
            provider=provider,
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} holds half of a character (a lone surrogate) at position {error.start}, which no encoding can "
            "carry.",
            action="Remove it, or send the whole character.",
            provider=provider,
        ) from None


def _check_size(ask: Ask, traits: Traits) -> None:
    """Refuse what would be more than the provider takes, before it does: it would say so late, or not at all."""
    earlier = sum(turn.size for turn in ask.history)
    size = len(ask.prompt) + len(ask.system or "") + sum(part.size for part in ask.parts) + earlier
    if size > traits.context_chars:
        raise InvalidRequest(
            f"Together with {'the earlier turns and ' if earlier else ''}what is put before the prompt this is "
            f"{size:,} characters; {traits.title} takes {traits.context_chars:,}.",
            action="Begin a new conversation with what matters of this one." if earlier else "Send less.",
            provider=ask.provider,
        )


def _ended(running: Running) -> Record:
    """The record of an ask that has just ended."""
    if running.answer is None:
        error = running.error or _stopped(running.ask)
        partial = error.partial_text or running.watch.text
        error.partial_text = partial
        return failed(running.record, error, partial)
    return running.record.model_copy(
        update={"status": "completed", "answer": running.answer, "partial_text": None, "updated_at": now()}
    )


def _stopped(ask: Ask) -> HubError:
    return Internal(
        "The hub was stopped before the answer was whole.",
        action="Ask again; what had come is kept.",
        provider=ask.provider,
        retryable=True,
    )


def _left(running: Running) -> float:
    """Seconds until the ask's deadline."""
    return max(0.0, running.began + running.ask.timeout_s - time.monotonic())


def _ms(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
