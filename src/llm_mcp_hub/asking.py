"""One accepted ask, brought to its end. Knows the provider's events, the clock and the records; nothing of callers.

It waits for its place, lets the provider stream while three deadlines watch (the whole answer, its first text,
silence), submits anew what failed in passing as long as no text has come, and writes down how it ended. However it
ends, its place is free again and its provider is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import anyio
import structlog

from llm_mcp_hub.conversation import Answer, Ask, Characters, Exchange, QuotaWindow, whole
from llm_mcp_hub.cooldown import CoolDowns
from llm_mcp_hub.credentials.monitor import Monitor
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.endings import stopped, told
from llm_mcp_hub.errors import HubError, Internal, StoreUnavailable, Timeout
from llm_mcp_hub.journal import Journal, Record, completed, failed, now
from llm_mcp_hub.observer import Ending, Following, Observer
from llm_mcp_hub.places import Places, Seat
from llm_mcp_hub.providers.base import Event, Finished, Limits, Provider, Restarted, Text
from llm_mcp_hub.running import Floor, Running
from llm_mcp_hub.transcripts import Transcripts

TRIES = 3
RETRY_S = 0.5
"""Before the second try; twice that before the third, each with chance in it."""
LONGEST_PAUSE_S = 5.0
ANSWER_FIRST_S = 0.1
"""Good news of a login is told so much later: whoever looks at it then takes no time of the answer's."""
UNSAVED = (
    "the hub's store cannot be reached: as long as it is away this answer cannot be fetched again, "
    "and it is no turn of its conversation"
)
OVERTAKEN = "another turn came in between: this one is not in the conversation"

_OURS = re.compile(r"conv_[A-Za-z0-9_-]{24}")
"""How the hub itself names a conversation; before it has looked for one, what an ask names may be any words."""

log = structlog.stdlib.get_logger("llm_mcp_hub.asking")


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider in the table: how it is driven, how its login is read, how many asks may run at once.

    `pays_extra`: its owner allows asks that are paid beyond the subscription, so a limit that another setting has met
    does not bind them.
    """

    provider: Provider
    login: Monitor
    concurrency: int
    pays_extra: bool = False


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `whole` is the default of an ask that names none."""

    whole: float
    first_text: float
    idle: float


@dataclass(frozen=True, slots=True)
class Asking:
    """What an ask needs on its way."""

    places: Mapping[str, Places]
    floor: Floor
    journal: Journal
    transcripts: Transcripts
    cooldowns: CoolDowns
    deadlines: Deadlines
    usable: Callable[[str], Sequence[str]]
    """Names of providers whose logins can be used, but for the one that is given."""
    shown: Callable[[], None] = lambda: None
    """Called when an ask has shown something of a login."""
    observers: Sequence[Observer] = ()

    def refused(self, ask: Ask, error: HubError) -> HubError:
        """Tell of an ask that is not accepted. Returns its error."""
        given = {"conversation_id": ask.conversation_id} if _OURS.fullmatch(ask.conversation_id) else {}
        log.warning("ask refused", provider=ask.provider, model=ask.model, code=error.code, **given)
        for observer in self.observers:
            observer.refused(ask.provider, error.code)
        return error

    def told(self, error: HubError, ask: Ask, ask_id: str | None) -> HubError:
        """The error as the ask's caller gets it."""
        return told(error, ask, ask_id, self.usable(ask.provider))

    @contextlib.contextmanager
    def refusing(self, ask: Ask) -> Generator[None]:
        """Tell of an ask that is not accepted for what this raises."""
        try:
            yield
        except HubError as error:
            self.refused(ask, error)
            raise

    async def run(self, entry: Entry, running: Running, seat: Seat) -> None:
        """Bring an accepted ask to its end, whatever happens to it. Raises nothing."""
        running.begun = True
        ask = running.ask
        said = log.bind(
            ask_id=ask.ask_id,
            conversation_id=ask.conversation_id,
            provider=ask.provider,
            model=ask.model,
            prompt_chars=len(ask.prompt),
        )
        said.debug("ask taken")
        following = [observer.accepted(ask) for observer in self.observers]
        broke: Exception | None = None
        cancelled = False
        try:
            try:
                if running.why is not None:  # it was to end before it began
                    raise asyncio.CancelledError
                await self._seated(entry, running, seat)
                end_of_it = await self._tries(entry, running, following)
                running.answer = await self._kept(entry, running, end_of_it)
            finally:
                running.whole = True  # its end is known: to cancel it now would only keep it from being written down
                with anyio.CancelScope(shield=True):
                    await self.places[ask.provider].leave(seat)
        except HubError as error:
            running.error = self.told(error, ask, ask.ask_id)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # it has done its work; what follows must be able to wait
            running.error = self.told(running.why or stopped(ask), ask, ask.ask_id)
            cancelled = True
        except Exception as error:
            fault = Internal("The hub itself failed.", action="See the hub's log for this ask_id.")
            running.error = self.told(fault, ask, ask.ask_id)
            running.error.__cause__ = broke = error
        ending = Ending(running.answer, running.error, _ms(ask.arrived), running.queue_ms, running.first_text_ms)
        for one in following:
            one.ended(ending)
        with anyio.CancelScope(shield=True):
            await self.floor.leave(running, running.record if running.record.ended else _ended(running))
        _tell(said, ending, broke, cancelled=cancelled)

    async def _seated(self, entry: Entry, running: Running, seat: Seat) -> None:
        ask = running.ask
        waits = not seat.granted.done()
        done, _ = await asyncio.wait([seat.granted], timeout=_left(ask))
        if not done:
            raise Timeout(
                f"No place became free within {ask.timeout_s:.0f} s.",
                action="Try again, or with a larger timeout_s.",
            )
        running.held.append(self.places[ask.provider].held(seat))
        running.queue_ms = _ms(ask.arrived)
        if waits:  # another ask may have met a limit meanwhile
            await self.cooldowns.check(ask, entry.login.mark(), pays_extra=entry.pays_extra)
        log.debug("ask started", ask_id=ask.ask_id, provider=ask.provider, queue_ms=running.queue_ms)

    async def _tries(self, entry: Entry, running: Running, following: Sequence[Following]) -> Finished:
        """The answer, submitted anew after a passing failure as long as no text has come."""
        for number in range(1, TRIES + 1):
            try:
                return await self._learning(entry, running)
            except HubError as error:
                pause = RETRY_S * 2 ** (number - 1) * random.uniform(1, 2)  # noqa: S311 - chance, no secret
                if error.code == "rate_limited":
                    pause = max(pause, error.retry_after_s or 0)
                if (
                    not error.transient
                    or running.first_text_ms is not None
                    or number == TRIES
                    or pause > min(LONGEST_PAUSE_S, _left(running.ask) - 1)
                ):
                    raise
                log.info("ask tried again", ask_id=running.ask.ask_id, provider=running.ask.provider, code=error.code)
                for one in following:
                    one.tried_again(error.code)
                await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the last try returned or raised

    async def _learning(self, entry: Entry, running: Running) -> Finished:
        """One try, and what it shows of the login: for free, whatever comes of it."""
        login = entry.login.mark()  # that of now: another one may be in its place when the answer comes
        windows: dict[str, QuotaWindow] = {}
        try:
            finished = await self._converse(entry.provider, running, login, windows)
            running.whole = True  # to cancel it now would only keep it from being written down
        except HubError as error:
            try:
                await self._note_limit(running.ask, login, error)
            finally:  # for one, too, that is cancelled meanwhile
                await entry.login.failed(login, error, list(windows.values()))
            self.shown()
            raise
        except asyncio.CancelledError:
            if running.first_text_ms is not None:
                with anyio.CancelScope(shield=True):
                    await entry.login.worked(login, list(windows.values()))
            raise
        await self._note_limit(running.ask, login, finished.blocks)
        await entry.login.worked(login, list(windows.values()))
        asyncio.get_running_loop().call_later(ANSWER_FIRST_S, self.shown)
        return finished

    async def _converse(
        self, provider: Provider, running: Running, login: str, windows: dict[str, QuotaWindow]
    ) -> Finished:
        ask, watch = running.ask, running.watch
        characters = Characters()
        started = quiet_since = time.monotonic()
        async with contextlib.aclosing(provider.ask(ask)) as events:
            while True:
                whole_by = ask.ends_at
                # An answer that began and begins anew has begun: only silence and the whole deadline watch it now.
                first = started + self.deadlines.first_text if running.first_text_ms is None else whole_by
                limit = min(whole_by, first, quiet_since + self.deadlines.idle)
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
                        running.first_text_ms = _ms(ask.arrived)
                        log.debug(
                            "first text",
                            ask_id=ask.ask_id,
                            provider=ask.provider,
                            first_text_ms=running.first_text_ms,
                        )
                elif isinstance(event, Restarted):
                    characters = Characters()
                elif isinstance(event, Limits):
                    windows.update({window.window: window for window in event.windows})
                    # Now: other hubs are not to pay until this answer is whole, and its end is told from now on.
                    await self._note_limit(ask, login, event.blocks)
                watch.saw(event)
                if isinstance(event, Finished):
                    return event

    def _too_late(self, ask: Ask, limit: float, whole_by: float, first: float) -> Timeout:
        if limit == whole_by:
            message, action = f"No whole answer within {ask.timeout_s:.0f} s.", "Ask again with a larger timeout_s."
        elif limit == first:
            message = f"No text within {self.deadlines.first_text:.0f} s."
            action = "Try again; the operator can raise HUB_FIRST_TEXT_TIMEOUT_S."
        else:
            message = f"Nothing came for {self.deadlines.idle:.0f} s."
            action = "Try again; the operator can raise HUB_IDLE_TIMEOUT_S."
        return Timeout(message, action=action)

    async def _kept(self, entry: Entry, running: Running, finished: Finished) -> Answer:
        """The answer, once its turn stands in the transcript, and with it the end of the ask's record."""
        ask = running.ask
        text = whole(finished.text)
        turn = Exchange(
            ask_id=ask.ask_id,
            provider=ask.provider,
            model=finished.model,
            prompt=ask.prompt,
            parts=ask.parts,
            answer=text,
            at=now(),
        )
        answer = Answer(
            ask_id=ask.ask_id,
            status="completed",
            provider=ask.provider,
            model=finished.model,
            model_source=finished.model_source,
            text=text,
            conversation_id=ask.conversation_id,
            stop_reason=finished.stop_reason,
            usage=finished.usage,
            duration_ms=_ms(ask.arrived),
            first_text_ms=running.first_text_ms,
            billing=finished.billing,
            warnings=(*finished.warnings, *_notice(entry.login.status())),
        )
        overtaken = answer.model_copy(update={"warnings": (*answer.warnings, OVERTAKEN)})
        async with running.saving:
            record = completed(running.record, answer)
            try:
                if await self.transcripts.add(ask, turn, self.journal.put(record)):
                    running.record = record
                    return answer
            except StoreUnavailable:

                async def late() -> bool:
                    if await self.transcripts.add(ask, turn, self.journal.put(record)):
                        return True
                    running.record = completed(running.record, overtaken)
                    return False

                running.late = late
                known = ask.conversation_id if ask.history else None
                return answer.model_copy(update={"conversation_id": known, "warnings": (*answer.warnings, UNSAVED)})
        return overtaken

    async def _note_limit(self, ask: Ask, login: str, met: HubError | None) -> None:
        if met is not None and met.code in {"quota_exhausted", "billing_blocked"}:
            await self.cooldowns.note(ask.provider, login, ask.model, met)


def _tell(said: structlog.stdlib.BoundLogger, ending: Ending, broke: Exception | None, *, cancelled: bool) -> None:
    """The one line of an ask's end; no word of what was asked or answered."""
    times = {
        "queue_ms": ending.queue_ms,
        "first_text_ms": ending.first_text_ms,
        "duration_ms": ending.duration_ms,
    }
    said = said.bind(**{name: value for name, value in times.items() if value is not None})
    answer = ending.answer
    if answer is not None:
        said.info(
            "ask answered",
            served=answer.model,
            stop_reason=answer.stop_reason,
            answer_chars=len(answer.text),
            usage=answer.usage.model_dump(exclude_none=True),
        )
        return
    code = "internal" if ending.error is None else ending.error.code
    if broke is not None:
        said.error("ask broke", code=code, error=type(broke).__name__, exc_info=broke)
    elif cancelled:
        said.info("ask cancelled", code=code)
    else:
        said.warning("ask failed", code=code)


def _notice(status: TokenStatus) -> tuple[str, ...]:
    """What an answer says of a login that ends soon: who asks may be the only one who looks."""
    return (f"{status.message} {status.action}".strip(),) if status.status == "warning" else ()


def _ended(running: Running) -> Record:
    """The record of an ask that has just ended."""
    if running.answer is None:
        error = running.error or stopped(running.ask)
        # What a model said before it declined is no part of an answer, unless the provider thinks so.
        partial = error.partial_text or (None if error.code == "refused" else running.watch.text)
        error.partial_text = partial
        return failed(running.record, error, partial)
    return completed(running.record, running.answer)


def _left(ask: Ask) -> float:
    """Seconds until the ask's deadline."""
    return max(0.0, ask.ends_at - time.monotonic())


def _ms(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
