"""One `gemini --acp` on its pseudo-terminal: its start, its turns, and who waits for which message.

Knows the CLI's traps (see `gemini.py`'s rules), not where its home, its login or its settings come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from llm_mcp_hub.children.supervision import Child, RunFolder
from llm_mcp_hub.children.terminal import Terminal, TerminalError
from llm_mcp_hub.conversation import Ask, Billing
from llm_mcp_hub.errors import CliMissing, HubError, QuotaExhausted, UpstreamError
from llm_mcp_hub.providers import acp
from llm_mcp_hub.providers.base import Alive, Event, Finished, Text
from llm_mcp_hub.providers.gemini_child import no_terminal, state_unwritable
from llm_mcp_hub.providers.gemini_home import Home, died_at_start, stderr_file
from llm_mcp_hub.providers.gemini_install import OLDEST, UPDATE_ACTION
from llm_mcp_hub.providers.gemini_sessions import Session, Sessions
from llm_mcp_hub.providers.gemini_turn import (
    LOGIN_VERDICT,
    NAME,
    account_error,
    agent_version,
    finished,
    opened,
    prompt_blocks,
    prompt_error,
    start_error,
    unknown_model,
    used_up,
    version_of,
)

START_TIMEOUT_S = 30.0
CONTROL_TIMEOUT_S = 20.0
CANCEL_S = 1.0
JUST_RENEWED_S = 120.0
OPENING_AT_ONCE = 3
"""With more `session/new` under way the CLI contends for its own lock file: 6 are slower than 1, 8 are never answered
in part (48 sessions: 1 at a time 2.0 s, 3 at a time 1.7 s, 6 at a time 3.2 s; at 8, 2 of 48 had no answer)."""
MAX_SESSIONS = 500
MAX_BYTES = 600 << 20
LONGEST_LINE = 64 << 20
"""No message of the CLI is as long: an answer comes in pieces."""

_LOGIN_TEXT = (b"Please visit the following URL", b"Enter the authorization code", b"Opening authentication page")
_TERMINAL_QUERY, _TERMINAL_ANSWER, _PREAMBLE_END = b"\x1b[c", b"\x1b[?62c", b"\x1b[0m"


class Process:
    """A child that is started once, serves sessions, and is closed."""

    def __init__(self, run: RunFolder, home: Path, mark: str, model: str, *, renews: bool = False) -> None:
        """`mark`: the login that it has; `renews`: it begins by renewing it."""
        self.mark = mark
        self._renews = renews
        self._began = time.monotonic()
        self.active = 0
        self.retired = False
        self._run = run
        self.home = Home(home)
        self.sessions = Sessions(self.home)
        self._cwd = home
        self._model = model
        self._terminal: Terminal | None = None
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._number = 0
        self._opened = 0
        self._replies: dict[int, asyncio.Future[acp.Reply]] = {}
        self._updates: dict[str, asyncio.Queue[acp.Update | acp.Reply | None]] = {}
        self._preparing = asyncio.Lock()
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._stuck: UpstreamError | None = None
        """Since it has left a request unanswered."""
        self.models: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self._terminal is None or self._terminal.ended

    @property
    def has_renewed(self) -> bool:
        """Whether it has just renewed its login: what is refused now is not an old access token."""
        return self._renews and time.monotonic() - self._began < JUST_RENEWED_S

    @property
    def worn_out(self) -> bool:
        """Whether it should serve no further ask: told to stop, too many sessions, too much memory, its home gone."""
        return (
            self.retired
            or self.ended
            or not self._cwd.exists()  # somebody has removed its home: it would refuse every session
            or self._opened >= MAX_SESSIONS
            or (self._child is not None and self._child.memory > MAX_BYTES)
        )

    # -- start and end ----------------------------------------------------------------------------------------------

    async def start(self, argv: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        """Spawn, and wait until `initialize` is answered; sessions are in `cwd` too. Raises HubError."""
        self._cwd = cwd
        self.home.new_login()  # the one that it begins with
        try:
            self._terminal = Terminal.spawn(
                argv, environment=environment, cwd=cwd, stderr=stderr_file(self.home.path), columns=2000
            )
            (self.home.path / "pid").write_text(str(self._terminal.pid))
        except TerminalError as error:
            raise no_terminal(error) from error
        except OSError as error:  # the file system has turned read-only since the home was laid out
            raise state_unwritable(error) from error
        with contextlib.suppress(ProcessLookupError):
            self._child = Child(self._terminal.pid)
        decoder = acp.Decoder()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                first = await self._handshake(self._terminal, decoder)
        except TimeoutError as error:
            raise UpstreamError(
                f"Gemini's CLI was not ready after {START_TIMEOUT_S:.0f} s; Google's login service may be unreachable.",
                action="Check the network and HTTPS_PROXY, then try again.",
                provider=NAME,
                shows="unreachable",
            ) from error
        except TerminalError as error:
            raise died_at_start(self.home.path) from error
        self._check_version(first)
        self._reader = asyncio.get_running_loop().create_task(self._read(self._terminal, decoder))

    async def _handshake(self, terminal: Terminal, decoder: acp.Decoder) -> acp.Reply:
        seen = b""
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                data = await terminal.read()
                if not data:
                    raise died_at_start(self.home.path)
                if asking is None:
                    fresh = seen[1 - len(_TERMINAL_QUERY) :] + data  # it may come in two pieces
                    seen = (seen + data)[-65536:]
                    if any(text in seen for text in _LOGIN_TEXT):
                        raise start_error(debug_log=await self.home.debug_log(LOGIN_VERDICT))
                    if _TERMINAL_QUERY in fresh:
                        await terminal.write(_TERMINAL_ANSWER)
                    query = seen.find(_TERMINAL_QUERY)
                    if query >= 0 and _PREAMBLE_END in seen[query:]:
                        asking = asyncio.get_running_loop().create_task(self._initialize(terminal))
                for message in decoder.feed(data):
                    if isinstance(message, acp.Reply) and message.result is not None:
                        return message
                    if isinstance(message, acp.Noise) and any(text in message.data for text in _LOGIN_TEXT):
                        raise start_error(debug_log=await self.home.debug_log(LOGIN_VERDICT))
                if any(text in decoder.pending for text in _LOGIN_TEXT):
                    raise start_error(debug_log=await self.home.debug_log(LOGIN_VERDICT))
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async def _initialize(self, terminal: Terminal) -> None:
        # What is written before the CLI's reader is attached is lost without a trace, so ask again until answered.
        while True:
            self._number += 1
            await terminal.write(acp.initialize(self._number))
            await asyncio.sleep(0.1)

    def _check_version(self, first: acp.Reply) -> None:
        version = agent_version(first.result or {})
        numbers = version_of(version)
        if numbers is None or numbers < OLDEST:
            raise CliMissing(
                f"The Gemini CLI is too old ({version or 'no version told'}); the hub needs 0.61 or newer.",
                action=UPDATE_ACTION,
                provider=NAME,
            )

    async def close(self) -> None:
        self.sessions.close()
        with anyio.CancelScope(shield=True):
            if self._terminal is not None:
                await self._terminal.close()
            if self._reader is not None:
                self._reader.cancel()
                await asyncio.gather(self._reader, return_exceptions=True)
            self._run.drop_home(self.home.path)

    def kill(self) -> None:
        if self._terminal is not None:
            self._terminal.kill()

    # -- messages ---------------------------------------------------------------------------------------------------

    async def _read(self, terminal: Terminal, decoder: acp.Decoder) -> None:
        try:
            while data := await terminal.read():
                for message in decoder.feed(data):
                    await self._dispatch(terminal, message)
                if decoder.waiting > LONGEST_LINE:  # it will not end, and all of it would be kept
                    terminal.kill()
                    break
        finally:
            self.retired = True  # nobody reads what it says any more
            for waiting in self._replies.values():
                if not waiting.done():
                    waiting.set_exception(_gone())
            self._replies.clear()
            for queue in self._updates.values():
                queue.put_nowait(None)

    async def _dispatch(self, terminal: Terminal, message: acp.Message) -> None:
        if isinstance(message, acp.Reply):
            waiting = self._replies.pop(message.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, acp.Update):
            queue = self._updates.get(message.session)
            if queue is not None:
                queue.put_nowait(message)
        elif isinstance(message, acp.AgentRequest):
            await terminal.write(acp.refusal(message))

    def _expect(self) -> tuple[int, asyncio.Future[acp.Reply]]:
        if self.ended:
            raise _gone()
        self._number += 1
        waiting: asyncio.Future[acp.Reply] = asyncio.get_running_loop().create_future()
        waiting.add_done_callback(_retrieve)
        self._replies[self._number] = waiting
        return self._number, waiting

    async def _send(self, data: bytes) -> None:
        if self._terminal is None:
            raise _gone()
        try:
            await self._terminal.write(data)
        except TerminalError as error:
            raise _gone() from error

    async def _control(self, method: str, params: Mapping[str, Any]) -> acp.Reply:
        """A request that no model works on, with a deadline of its own. Raises HubError when it is not answered."""
        number, waiting = self._expect()
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                await self._send(acp.request(number, method, params))
                return await waiting
        except TimeoutError as error:
            self.retired = True
            self._stuck = UpstreamError(
                f"Gemini's CLI did not answer within {CONTROL_TIMEOUT_S:.0f} s.",
                action="Check the network and try again.",
                provider=NAME,
                shows="unreachable",
            )
            raise self._stuck from error
        finally:
            self._replies.pop(number, None)

    # -- sessions ---------------------------------------------------------------------------------------------------

    async def take_session(self, ask: Ask) -> Session:
        """The session that has seen this conversation and nothing else, one made ahead, or a new one."""
        return self.sessions.take(ask, self.active) or await self._new_session()

    async def prepare(self) -> None:
        """Make sessions ahead. Raises HubError."""
        async with self._preparing:
            while self.sessions.few and not self.worn_out:
                self.sessions.add(await self._new_session())

    async def _new_session(self) -> Session:
        self._opened += 1
        with contextlib.ExitStack() as kept:
            async with self._opening:
                if self._stuck is not None:  # or all who wait here would wait in vain, one after the other
                    raise self._stuck
                logged = kept.enter_context(self.home.log_kept())
                reply = await self._control("session/new", {"cwd": str(self._cwd), "mcpServers": []})
            if reply.result is None:
                raise account_error(reply, debug_log=await self.home.debug_log("Authentication failed", logged))
        session, self.models = opened(reply.result)
        return Session(session, self._model, time.monotonic())

    async def converse(self, session: Session, ask: Ask) -> AsyncGenerator[Event]:
        """One turn in `session`. If it does not end in `Finished`, the session has seen what it should not have."""
        text: list[str] = []
        queue: asyncio.Queue[acp.Update | acp.Reply | None] = asyncio.Queue()
        self._updates[session.id] = queue
        try:
            if self.models and ask.model not in self.models:
                raise unknown_model(ask.model, self.models)
            if ask.model != session.model:
                reply = await self._control("session/set_model", {"sessionId": session.id, "modelId": ask.model})
                if reply.result is None:
                    raise unknown_model(ask.model, self.models)
                session.model = ask.model
            number, waiting = self._expect()
            waiting.add_done_callback(lambda _: queue.put_nowait(None))
            try:
                await self._send(acp.prompt(number, session.id, prompt_blocks(ask, seen=session.last is not None)))
                while True:
                    message = await queue.get()
                    if message is None:
                        break
                    if isinstance(message, acp.Update) and message.kind == "agent_message_chunk" and message.text:
                        text.append(message.text)
                        yield Text(message.text)
                    else:
                        yield Alive()
                reply = await waiting
            except HubError as error:
                error.partial_text = "".join(text) or None
                raise
            finally:
                if not waiting.done():
                    with anyio.CancelScope(shield=True):
                        await self._cancel(session.id, waiting)
                self._replies.pop(number, None)
            if reply.result is None:
                error = prompt_error(reply, model=ask.model, known=self.models)
                error.partial_text = "".join(text) or None  # whatever it is: what was said was said
                if isinstance(error, QuotaExhausted):
                    yield used_up(ask.model, error, datetime.now(UTC))
                raise error
            yield self._finish(session.id, ask, reply.result, "".join(text))
        finally:
            self._updates.pop(session.id, None)

    async def _cancel(self, session: str, waiting: asyncio.Future[acp.Reply]) -> None:
        try:
            async with asyncio.timeout(CANCEL_S):
                await self._send(acp.notification("session/cancel", {"sessionId": session}))
                await asyncio.wait([waiting])
        except BaseException as error:
            # It does not listen, or nobody waits until it has: a shield holds off no task's own `cancel`. It gets no
            # further ask; alone with this one it is ended at once.
            self.retired = True
            if self.active <= 1:
                self.kill()
            if not isinstance(error, (TimeoutError, HubError)):
                raise

    def _finish(self, session: str, ask: Ask, result: Mapping[str, Any], text: str) -> Finished:
        stop_reason, usage = finished(result, text)
        tokens = self.home.counted(session)
        if tokens:
            usage = usage.model_copy(
                update={"cached_input_tokens": tokens.get("cached"), "thinking_tokens": tokens.get("thoughts")}
            )
        return Finished(
            text=text,
            model=ask.model,
            model_source="requested",  # the CLI names what it asked for, not what Google served
            stop_reason=stop_reason,
            usage=usage,
            billing=Billing(source="subscription", evidence="fuse"),
        )


def _gone() -> UpstreamError:
    return UpstreamError(
        "Gemini's CLI ended before the answer did.", action="Ask again.", provider=NAME, transient=True
    )


def _retrieve(waiting: asyncio.Future[acp.Reply]) -> None:
    """Mark a failure as seen: an ask that left early has nobody to tell."""
    if not waiting.cancelled():
        waiting.exception()
