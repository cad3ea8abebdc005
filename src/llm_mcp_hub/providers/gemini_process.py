"""One `gemini --acp` on its pseudo-terminal: its start, its sessions, and who waits for which message.

Knows the CLI's traps (see `gemini.py`'s rules), not where its home, its login or its settings come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from llm_mcp_hub.children.supervision import Child, RunFolder
from llm_mcp_hub.children.terminal import TERMINAL_ACTION, Terminal, TerminalError
from llm_mcp_hub.conversation import Ask, Billing
from llm_mcp_hub.errors import CliMissing, HubError, Misconfigured, QuotaExhausted, UpstreamError
from llm_mcp_hub.providers import acp
from llm_mcp_hub.providers.base import Alive, Event, Finished, Text
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
)

OLDEST = (0, 61)
"""The oldest CLI whose behaviour was measured."""
START_TIMEOUT_S = 30.0
CONTROL_TIMEOUT_S = 20.0
CANCEL_S = 1.0
JUST_RENEWED_S = 120.0
DEBUG_LOG_S = 2.0
SPARE_SESSIONS = range(2, 33)
"""How many sessions are made ahead: as many as asks ran at once, within these bounds."""
OPENING_AT_ONCE = 3
"""With more `session/new` under way the CLI contends for its own lock file: 6 are slower than 1, 8 are never answered
in part (48 sessions: 1 at a time 2.0 s, 3 at a time 1.7 s, 6 at a time 3.2 s; at 8, 2 of 48 had no answer)."""
SPARE_AGE_S = 15 * 60.0
KEPT = 64
"""How many sessions are kept for their conversations' next turns: each is a part of the one process."""
KEPT_S = 30 * 60.0
KEPT_TURNS = 3
"""How many turns a session answers before the next begins with the transcript. See `gemini_child.SESSION_TURNS`."""
MAX_SESSIONS = 500
MAX_BYTES = 600 << 20
ROOM_BYTES = 1 << 20
"""With less than this on the disk, that is what ended a start."""
INSTALL_ACTION = (
    "Run `llm-mcp-hub setup`, or install it yourself: npm install -g @google/gemini-cli@0.61.0 (Node.js 20 or newer), "
    "or set HUB_GEMINI_COMMAND."
)
CHOSEN_ACTION = "Correct HUB_GEMINI_COMMAND; or unset it and run `llm-mcp-hub setup`."
"""Where one was chosen, to install another changes nothing."""
UPDATE_ACTION = (
    "Run `llm-mcp-hub setup` if that has installed it, else: npm install -g @google/gemini-cli@0.61.0 "
    "(Node.js 20 or newer)."
)

_LOGIN_TEXT = (b"Please visit the following URL", b"Enter the authorization code", b"Opening authentication page")
_TERMINAL_QUERY, _TERMINAL_ANSWER, _PREAMBLE_END = b"\x1b[c", b"\x1b[?62c", b"\x1b[0m"


@dataclass(slots=True)
class Session:
    """A session of the CLI, and what it has seen."""

    id: str
    model: str
    since: float
    turns: int = 0
    last: str | None = None
    """The ask that it answered last; None for one that has seen nothing."""


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
        self._home = home
        self._cwd = home
        self._model = model
        self._terminal: Terminal | None = None
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._number = 0
        self._sessions = 0
        self._replies: dict[int, asyncio.Future[acp.Reply]] = {}
        self._updates: dict[str, asyncio.Queue[acp.Update | acp.Reply | None]] = {}
        self._spare: list[Session] = []
        self._kept: dict[str, Session] = {}
        self._aging: asyncio.TimerHandle | None = None
        self._preparing = asyncio.Lock()
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._most_at_once = SPARE_SESSIONS.start
        self._login_written = 0
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
        """Whether it should serve no further ask: told to stop, too many sessions, or too much memory."""
        return (
            self.retired
            or self.ended
            or self._sessions >= MAX_SESSIONS
            or (self._child is not None and self._child.memory > MAX_BYTES)
        )

    # -- start and end ----------------------------------------------------------------------------------------------

    async def start(self, argv: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        """Spawn, and wait until `initialize` is answered; sessions are in `cwd` too. Raises HubError."""
        self._cwd = cwd
        self.new_login()  # the one that it begins with
        try:
            self._terminal = Terminal.spawn(
                argv, environment=environment, cwd=cwd, stderr=self._home / "stderr", columns=2000
            )
            (self._home / "pid").write_text(str(self._terminal.pid))
        except TerminalError as error:
            raise no_terminal(error) from error
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
            raise died_at_start(self._home) from error
        self._check_version(first)
        self._reader = asyncio.get_running_loop().create_task(self._read(self._terminal, decoder))

    async def _handshake(self, terminal: Terminal, decoder: acp.Decoder) -> acp.Reply:
        seen = b""
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                data = await terminal.read()
                if not data:
                    raise died_at_start(self._home)
                if asking is None:
                    seen = (seen + data)[-65536:]
                    if any(text in seen for text in _LOGIN_TEXT):
                        raise start_error(debug_log=await self._debug_log(LOGIN_VERDICT))
                    if _TERMINAL_QUERY in data:
                        await terminal.write(_TERMINAL_ANSWER)
                    query = seen.find(_TERMINAL_QUERY)
                    if query >= 0 and _PREAMBLE_END in seen[query:]:
                        asking = asyncio.get_running_loop().create_task(self._initialize(terminal))
                for message in decoder.feed(data):
                    if isinstance(message, acp.Reply) and message.result is not None:
                        return message
                    if isinstance(message, acp.Noise) and any(text in message.data for text in _LOGIN_TEXT):
                        raise start_error(debug_log=await self._debug_log(LOGIN_VERDICT))
                if any(text in decoder.pending for text in _LOGIN_TEXT):
                    raise start_error(debug_log=await self._debug_log(LOGIN_VERDICT))
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
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise CliMissing(
                f"The Gemini CLI is too old ({version or 'no version told'}); the hub needs 0.61 or newer.",
                action=UPDATE_ACTION,
                provider=NAME,
            )

    async def close(self) -> None:
        if self._aging is not None:
            self._aging.cancel()
        with anyio.CancelScope(shield=True):
            if self._terminal is not None:
                await self._terminal.close()
            if self._reader is not None:
                self._reader.cancel()
                await asyncio.gather(self._reader, return_exceptions=True)
            self._run.drop_home(self._home)

    def kill(self) -> None:
        if self._terminal is not None:
            self._terminal.kill()

    def new_login(self) -> str | None:
        """The login file, if the CLI has written it since it was last asked for: it renews the login as it needs to."""
        file = self._home / ".gemini" / "oauth_creds.json"
        try:
            written = file.stat().st_mtime_ns
            if self._login_written in (0, written):
                self._login_written = written
                return None
            self._login_written = written
            return file.read_text("utf-8")
        except (OSError, UnicodeError):
            return None

    @property
    def _logged(self) -> int:
        """How long the CLI's debug log is now."""
        try:
            return (self._home / "debug.log").stat().st_size
        except OSError:
            return 0

    async def _debug_log(self, sign: str, since: int = 0) -> str:
        """What the CLI's debug log says after its byte `since`, once that holds `sign`.

        It is written a little after what it explains (measured); what stands before explains an earlier failure.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEBUG_LOG_S):
                while sign not in self._file("debug.log", since):  # noqa: ASYNC110 - it is a file of another process
                    await asyncio.sleep(0.02)
        return self._file("debug.log", since)

    def _file(self, name: str, since: int = 0) -> str:
        return _file(self._home / name, since)

    # -- messages ---------------------------------------------------------------------------------------------------

    async def _read(self, terminal: Terminal, decoder: acp.Decoder) -> None:
        try:
            while data := await terminal.read():
                for message in decoder.feed(data):
                    await self._dispatch(terminal, message)
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
            raise UpstreamError(
                f"Gemini's CLI did not answer within {CONTROL_TIMEOUT_S:.0f} s.",
                action="Check the network and try again.",
                provider=NAME,
                shows="unreachable",
            ) from error
        finally:
            self._replies.pop(number, None)

    # -- sessions ---------------------------------------------------------------------------------------------------

    async def take_session(self, ask: Ask) -> Session:
        """The session that has seen this conversation and nothing else, one made ahead, or a new one."""
        self._most_at_once = min(max(self._most_at_once, self.active), SPARE_SESSIONS[-1])
        kept = self._kept.pop(ask.conversation_id, None)
        if kept is not None:
            fresh = time.monotonic() - kept.since < KEPT_S
            if ask.history and kept.last == ask.history[-1].ask_id and kept.turns < KEPT_TURNS and fresh:
                return kept
            self.forget(kept)
        while self._spare:
            session = self._spare.pop(0)
            if time.monotonic() - session.since < SPARE_AGE_S:
                return session
            self.forget(session)
        return await self._new_session()

    def keep(self, session: Session, ask: Ask) -> None:
        """Keep a session for the next turn of the conversation whose ask it has just answered."""
        session.last, session.since = ask.ask_id, time.monotonic()
        session.turns += 1
        if not ask.conversation_id:
            self.forget(session)
            return
        self._kept[ask.conversation_id] = session
        while len(self._kept) > KEPT:
            self.forget(self._kept.pop(next(iter(self._kept))))
        if self._aging is None:
            self._aging = asyncio.get_running_loop().call_later(KEPT_S, self._let_old_go)

    def _let_old_go(self) -> None:
        """Forget the sessions whose time is over, also where nobody asks any more: they hold what was said."""
        self._aging = None
        for conversation, session in list(self._kept.items()):  # the oldest first
            left = session.since + KEPT_S - time.monotonic()
            if left > 0:
                self._aging = asyncio.get_running_loop().call_later(left, self._let_old_go)
                return
            self.forget(self._kept.pop(conversation))

    async def prepare(self) -> None:
        """Make sessions ahead. Raises HubError."""
        async with self._preparing:
            while len(self._spare) < self._most_at_once and not self.worn_out:
                self._spare.append(await self._new_session())

    async def _new_session(self) -> Session:
        self._sessions += 1
        async with self._opening:
            logged = self._logged
            reply = await self._control("session/new", {"cwd": str(self._cwd), "mcpServers": []})
        if reply.result is None:
            raise account_error(reply, debug_log=await self._debug_log("Authentication failed", logged))
        session, self.models = opened(reply.result)
        return Session(session, self._model, time.monotonic())

    def forget(self, session: Session) -> None:
        """Remove what the CLI wrote about a session: it is the whole conversation."""
        for file in self._home.glob(f".gemini/tmp/*/chats/session-*-{session.id[:8]}.jsonl"):
            file.unlink(missing_ok=True)
        for file in (self._home / "tmp").glob("gemini-client-error-*.json"):
            file.unlink(missing_ok=True)

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
            sent = False
            try:
                sent = True
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
                if sent and not waiting.done():
                    with anyio.CancelScope(shield=True):
                        await self._cancel(session.id, waiting)
                self._replies.pop(number, None)
            if reply.result is None:
                error = prompt_error(reply, model=ask.model, partial="".join(text) or None, known=self.models)
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
        except (TimeoutError, HubError):
            # It does not listen. It gets no further ask; alone with this one it is ended at once.
            self.retired = True
            if self.active <= 1:
                self.kill()

    def _finish(self, session: str, ask: Ask, result: Mapping[str, Any], text: str) -> Finished:
        stop_reason, usage = finished(result, text)
        tokens = self._counted(session)
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

    def _counted(self, session: str) -> Mapping[str, int]:
        """The finer usage that the CLI writes only to its session file; empty when it is not there."""
        for file in self._home.glob(f".gemini/tmp/*/chats/session-*-{session[:8]}.jsonl"):
            try:
                for line in reversed(file.read_text("utf-8").splitlines()):
                    record = json.loads(line)
                    if record.get("type") == "gemini" and isinstance(record.get("tokens"), dict):
                        return {k: v for k, v in record["tokens"].items() if isinstance(v, int)}
            except (OSError, ValueError, AttributeError):
                return {}
        return {}


def no_terminal(error: TerminalError | None = None) -> Misconfigured:
    """Where there is nothing to hold the CLI on: Windows, or a machine that refuses a pseudo-terminal."""
    if error is None:
        what = "The Gemini CLI is held on a pseudo-terminal, which Windows has not: ask_gemini is not served here."
    else:
        what = f"This machine gives the hub no pseudo-terminal ({error})."
    return Misconfigured(what, action=TERMINAL_ACTION, provider=NAME)


def died_at_start(home: Path) -> HubError:
    """Why the CLI ended before it was ready, by what it wrote into its home."""
    stderr = _file(home / "stderr")
    if "node" in stderr and ("No such file" in stderr or "not found" in stderr):
        return CliMissing(
            "Node.js, which the Gemini CLI runs on, was not found.",
            action="Install Node.js 20 or newer, or put it into PATH.",
            provider=NAME,
        )
    if "SyntaxError" in stderr or "Unsupported engine" in stderr or "requires Node" in stderr:
        return CliMissing(
            "Node.js is too old for the Gemini CLI.", action="Install Node.js 20 or newer.", provider=NAME
        )
    if "FatalAuthenticationError" in stderr or "Manual authorization is required" in stderr:
        return start_error(debug_log=_file(home / "debug.log"))
    if "Unknown argument" in stderr or "Unknown arguments" in stderr:
        return CliMissing(
            "The Gemini CLI is too old: it does not know the hub's options.", action=UPDATE_ACTION, provider=NAME
        )
    # On a full disk the CLI's complaint could not be written either.
    if "EROFS" in stderr or "ENOSPC" in stderr or shutil.disk_usage(home).free < ROOM_BYTES:
        return Misconfigured(
            "Gemini's CLI cannot write its private home.",
            action="Make HUB_STATE_DIR a folder that this user can write, with space left.",
            provider=NAME,
        )
    return UpstreamError(
        "Gemini's CLI ended while it started.",
        action="Run `gemini --version` in a terminal to see what stops it, then try again.",
        provider=NAME,
    )


def _file(file: Path, since: int = 0) -> str:
    try:
        return file.read_bytes()[since:][-65536:].decode("utf-8", "replace")
    except OSError:
        return ""


def _gone() -> UpstreamError:
    return UpstreamError(
        "Gemini's CLI ended before the answer did.", action="Ask again.", provider=NAME, transient=True
    )


def _retrieve(waiting: asyncio.Future[acp.Reply]) -> None:
    """Mark a failure as seen: an ask that left early has nobody to tell."""
    if not waiting.cancelled():
        waiting.exception()
