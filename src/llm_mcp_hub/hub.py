"""The use case: one ask, in reading order. Knows providers by their seam only, and nothing of MCP or of a terminal.

A place among the provider's running asks is taken, the provider streams, three deadlines watch (the whole answer, its
first text, silence), and the answer is shaped. However an ask ends, its place is free again and its provider is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import structlog

from llm_mcp_hub.conversation import PROMPT_LIMIT, Answer, Ask, Characters, whole
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.errors import Busy, HubError, Internal, InvalidRequest, NotFound, Timeout
from llm_mcp_hub.providers.base import Event, Finished, Provider, Restarted, Text, Traits

IDLE_RELEASE_S = 600.0
"""Over stdio a hub that nobody asked for this long lets its children go."""
QUEUE_RETRY_S = 15.0

log = structlog.stdlib.get_logger("llm_mcp_hub.hub")


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider in the table: how it is driven, how its login is read, how many asks may run at once."""

    provider: Provider
    status: Callable[[], TokenStatus]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `whole` is the default of an ask that names none."""

    whole: float
    first_text: float
    idle: float


@dataclass(slots=True, eq=False)
class Watch:
    """What can be seen of a running ask; `on_event` is told each event as it comes."""

    on_event: Callable[[Event], None] | None = None
    characters: int = 0
    queue: list[Watch] | None = None

    @property
    def position(self) -> int:
        """Place in the queue, 1 for the next; 0 for an ask that has its place."""
        return self.queue.index(self) + 1 if self.queue and self in self.queue else 0

    def saw(self, event: Event) -> None:
        if isinstance(event, Text):
            self.characters += len(event.piece)
        elif isinstance(event, Restarted):
            self.characters = 0
        if self.on_event is not None:
            self.on_event(event)


class Hub:
    """All providers behind one door. Use it as an async context manager: leaving it leaves no child."""

    def __init__(
        self,
        table: Mapping[str, Entry],
        *,
        deadlines: Deadlines,
        queue_limit: int,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            table: providers by name.
            deadlines: see `Deadlines`.
            queue_limit: how many asks may wait for a place, per provider.
            release: called last, when no child is left.
        """
        self._table = dict(table)
        self._deadlines = deadlines
        self._queue_limit = queue_limit
        self._release = release
        self._places = {name: asyncio.Semaphore(entry.concurrency) for name, entry in table.items()}
        self._waiting: dict[str, list[Watch]] = {name: [] for name in table}
        self._running = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._letting_go: set[asyncio.Task[None]] = set()
        self.let_go_when_idle = False

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
        model: str | None = None,
        system: str | None = None,
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
        limit = self._deadlines.whole if timeout_s is None else timeout_s
        if not 1 <= limit <= 3600:
            raise InvalidRequest(
                "timeout_s is not between 1 and 3600.", action="Give 1 to 3600 seconds.", provider=provider
            )
        return Ask(f"ask_{secrets.token_urlsafe(12)}", provider, prompt, wanted, system or None, limit)

    async def ask(self, ask: Ask, watch: Watch | None = None) -> Answer:
        """Put one question and wait for the whole answer. Raises HubError; cancelling it makes the provider quiet."""
        entry = self._entry(ask.provider)
        seen = watch or Watch()
        began = time.monotonic()
        said = log.bind(ask_id=ask.ask_id, provider=ask.provider, model=ask.model, prompt_chars=len(ask.prompt))
        said.debug("ask taken")
        self._running += 1
        self._hold()
        try:
            async with self._place(ask, seen, began + ask.timeout_s):
                answer = await self._converse(entry.provider, ask, seen, began)
        except HubError as error:
            said.warning("ask failed", code=error.code, duration_ms=_ms(began))
            # A new one, for asks that waited for the same start of a CLI are all given the same error.
            raise type(error)(
                error.message,
                action=error.action + self._other_provider(error, ask.provider),
                provider=error.provider or ask.provider,
                retry_after_s=error.retry_after_s,
                partial_text=error.partial_text and whole(error.partial_text),
                ask_id=ask.ask_id,
            ) from error
        except asyncio.CancelledError:
            said.info("ask cancelled", duration_ms=_ms(began))
            raise
        except Exception as error:
            said.error("ask broke", error=type(error).__name__, duration_ms=_ms(began), exc_info=True)
            raise Internal(
                "The hub itself failed.",
                action="See the hub's log for this ask_id.",
                provider=ask.provider,
                ask_id=ask.ask_id,
            ) from error
        finally:
            self._running -= 1
            self._hold()
        said.info(
            "ask answered",
            served=answer.model,
            stop_reason=answer.stop_reason,
            answer_chars=len(answer.text),
            duration_ms=answer.duration_ms,
            first_text_ms=answer.first_text_ms,
        )
        return answer

    def token_status(self, provider: str | None = None) -> dict[str, TokenStatus]:
        """What is known of the logins: all of them, or one. Raises NotFound."""
        if provider is not None:
            return {provider: self._entry(provider).status()}
        return {name: entry.status() for name, entry in self._table.items()}

    async def warm(self) -> None:
        """Start ahead what makes the first ask fast."""
        await asyncio.gather(*(entry.provider.warm() for entry in self._usable()))

    async def close(self) -> None:
        """Let every child go. Asks that still run end first, by their own cancel."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.gather(*(entry.provider.close() for entry in self._table.values()))
            finally:
                self.kill()

    def kill(self) -> None:
        """End every child at once, without awaiting; then release what the children lived in."""
        for entry in self._table.values():
            entry.provider.kill()
        self._release()

    # -- one ask ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _place(self, ask: Ask, seen: Watch, deadline: float) -> AsyncGenerator[None]:
        places, waiting = self._places[ask.provider], self._waiting[ask.provider]
        if places.locked() and len(waiting) >= self._queue_limit:
            raise Busy(
                "All places for this provider are taken and the queue is full.",
                action=f"Try again in {QUEUE_RETRY_S:.0f} s.",
                retry_after_s=QUEUE_RETRY_S,
            )
        waiting.append(seen)
        seen.queue = waiting
        try:
            with anyio.fail_after(max(0.0, deadline - time.monotonic())):
                await places.acquire()
        except TimeoutError:
            raise Timeout(
                f"No place became free within {ask.timeout_s:.0f} s.",
                action="Try again, or with a larger timeout_s.",
            ) from None
        finally:
            waiting.remove(seen)
        try:
            yield
        finally:
            places.release()

    async def _converse(self, provider: Provider, ask: Ask, seen: Watch, began: float) -> Answer:
        first_text_ms: int | None = None
        partial: list[str] = []
        characters = Characters()
        started = time.monotonic()
        quiet_since = started
        async with contextlib.aclosing(provider.ask(ask)) as events:
            while True:
                whole = began + ask.timeout_s
                # An answer that began and begins anew has begun: only silence and the whole deadline watch it now.
                first = started + self._deadlines.first_text if first_text_ms is None else whole
                idle = quiet_since + self._deadlines.idle
                limit = min(whole, first, idle)
                event: Event | None = None
                try:
                    with anyio.move_on_after(max(0.0, limit - time.monotonic())):
                        event = await anext(events)
                except StopAsyncIteration:
                    raise Internal("The provider ended without an answer.", action="Ask again.") from None
                if event is None:  # and not by a TimeoutError: a provider may break with one of its own
                    raise self._too_late(ask, limit, whole, first, "".join(partial) or None)
                quiet_since = time.monotonic()
                if isinstance(event, Text):
                    event = Text(characters.joined(event.piece))
                seen.saw(event)
                if isinstance(event, Text):
                    partial.append(event.piece)
                    if first_text_ms is None:
                        first_text_ms = _ms(began)
                        log.debug("first text", ask_id=ask.ask_id, provider=ask.provider, first_text_ms=first_text_ms)
                elif isinstance(event, Restarted):
                    partial.clear()
                    characters = Characters()
                elif isinstance(event, Finished):
                    return _answer(ask, event, began, first_text_ms)

    def _too_late(self, ask: Ask, limit: float, whole: float, first: float, partial: str | None) -> Timeout:
        if limit == whole:
            message, action = f"No whole answer within {ask.timeout_s:.0f} s.", "Ask again with a larger timeout_s."
        elif limit == first:
            message = f"No text within {self._deadlines.first_text:.0f} s."
            action = "Try again; the operator can raise HUB_FIRST_TEXT_TIMEOUT_S."
        else:
            message = f"Nothing came for {self._deadlines.idle:.0f} s."
            action = "Try again; the operator can raise HUB_IDLE_TIMEOUT_S."
        return Timeout(message, action=action, partial_text=partial)

    # -- around it --------------------------------------------------------------------------------------------------

    def _entry(self, provider: str) -> Entry:
        try:
            return self._table[provider]
        except KeyError:
            raise NotFound(f"There is no provider {provider!r}.", action=f"Use {' or '.join(self._table)}.") from None

    def _usable(self, but: str | None = None) -> Iterable[Entry]:
        return (entry for name, entry in self._table.items() if name != but and entry.status().usable)

    def _other_provider(self, error: HubError, asked: str) -> str:
        """The way out that needs nobody: the other provider, if its login is usable."""
        if error.code in {"invalid_request", "cancelled", "not_found", "internal", "store_unavailable"}:
            return ""
        others = [f"ask_{entry.provider.traits.name}" for entry in self._usable(but=asked)]
        return f" Or use {' or '.join(others)}." if others and others[0] not in error.action else ""

    def _hold(self) -> None:
        """Note a sign of life: children are let go when none has come for a while and nothing runs."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.let_go_when_idle and self._running == 0:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_RELEASE_S, self._let_go)

    def _let_go(self) -> None:
        for entry in self._table.values():
            task = asyncio.get_running_loop().create_task(self._rest(entry.provider))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    async def _rest(self, provider: Provider) -> None:
        if self._running == 0:  # an ask may have come between the timer and this
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


def _answer(ask: Ask, end: Finished, began: float, first_text_ms: int | None) -> Answer:
    return Answer(
        ask_id=ask.ask_id,
        status="completed",
        provider=ask.provider,
        model=end.model,
        model_source=end.model_source,
        text=whole(end.text),
        conversation_id=None,
        stop_reason=end.stop_reason,
        usage=end.usage,
        duration_ms=_ms(began),
        first_text_ms=first_text_ms,
        billing=end.billing,
        warnings=end.warnings,
    )


def _ms(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
