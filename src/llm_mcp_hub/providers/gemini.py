"""Gemini, through the official Gemini CLI held on a pseudo-terminal: one warm `gemini --acp` for all asks.

Rules, each measured on gemini-cli 0.61.0:

- One process serves all asks, each conversation in a session of its own that is kept for its next turn (20 at once:
  1.1 s for 1 s answers, 214 MB); a warm ask adds about 6 ms where `gemini -p` costs 1.2 to 2.6 s.
- Start: answer the terminal query `ESC[c`, send nothing before the preamble ends (an early line is lost, or taken for
  an authorization code and posted to Google), then repeat `initialize` until it is answered. A login text: stop.
- A private, writable home with a copy of the login: the CLI writes in it at every start, so the owner's may be
  mounted read-only, and nothing of the owner's settings, extensions, hooks, memory or `.env` takes part.
- It reads the first `.gemini/.env` at or above its working directory, whatever `ignoreLocalEnv` says: the owner's own,
  were it to work in the hub's state folder (measured: a key's header, another token, another address on the wire). So
  it works below its private home, where an empty one comes first.
- No tools, by two means (`tools.core` empty and a deny-all policy); every permission it asks for is refused.
- `maxAttempts` 1: with the default the CLI sleeps for hours on a used-up quota and repeats text on a cut stream.
- It has no time-out of its own: the deadlines are the hub's. Cancel is answered in 3 to 5 ms and closes the upstream.
- An explicit model, always: `auto` chooses per prompt and asks a second model first.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.children.terminal import HERE
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import AuthExpired, AuthRejected, HubError, UpstreamError
from llm_mcp_hub.providers.base import Alive, Event, Finished, Traits
from llm_mcp_hub.providers.gemini_child import argv, lay_out, no_terminal, program, state_unwritable
from llm_mcp_hub.providers.gemini_process import Process
from llm_mcp_hub.providers.gemini_project import check_project
from llm_mcp_hub.providers.gemini_sessions import Session
from llm_mcp_hub.providers.gemini_turn import NAME, to_be_renewed

MODEL_PATTERN = re.compile(r"gemini-[a-z0-9][a-z0-9.-]{0,80}")
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@dataclass(frozen=True, slots=True)
class Login:
    """A copy of the owner's login: the file's content, and a mark that changes when the login does."""

    content: bytes = field(repr=False)
    mark: str


class GeminiProvider:
    """See the module's rules. `login` is asked at each ask, so a new login is taken up without a restart."""

    def __init__(
        self,
        *,
        run: RunFolder,
        around: Mapping[str, str],
        login: Callable[[], Login],
        default_model: str,
        command: str = "gemini",
        own: Path | None = None,
        project: str | None = None,
        upstream: str | None = None,
        warm: bool = True,
        renewed: Callable[[str, str], None] = lambda mark, content: None,
    ) -> None:
        """
        Args:
            run: where the child gets its home.
            around: the hub's own environment, from which the child's is made.
            login: reads the owner's login. Raises HubError when there is none that may be used.
            default_model: full name.
            command: the CLI's program, a name in PATH or a path.
            own: where `setup` installs a CLI, which is used where PATH has none.
            project: id of the Google Cloud project that a licence hangs on.
            upstream: address of a stand-in for Code Assist, for tests.
            warm: start the process ahead of the first ask, where somebody wants to be fast (`warm`).
            renewed: is told what the CLI has made of the login of a mark: its file's content.
        """
        self.traits = Traits(
            name=NAME,
            title="Gemini",
            spends="the owner's Gemini Code Assist licence",
            default_model=default_model,
            aliases=(),
            model_pattern=MODEL_PATTERN,
            model_hint="a full name such as gemini-2.5-pro or gemini-3-pro-preview",
            takes=("image/png", "image/jpeg", "image/webp", "image/gif", "application/pdf"),
        )
        self._run = run
        self._around = around
        self._login = login
        self._command = command
        self._own = own
        self._project = project
        self._upstream = upstream
        self._warm = warm
        self._renewed = renewed
        self._current: Process | None = None
        self._processes: set[Process] = set()
        self._starting: asyncio.Task[Process] | None = None
        self._starting_with = ""
        self._to_renew = ""
        """The mark of a login whose access token was refused while the CLI thought it good."""
        self._background: set[asyncio.Task[Any]] = set()
        self._failures = 0
        self._failed_with = ""
        self._not_before = 0.0

    # -- the seam ---------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        """One question in a session of its own. See `Provider.ask`."""
        process = await self._process()
        try:
            async with contextlib.aclosing(self._ask(process, ask)) as events:
                async for event in events:
                    yield event
        except AuthRejected as error:
            # The CLI renews a token by its clock alone. So one that is refused before its time is shown to a new CLI as
            # over: what is refused then is the login itself. No text has come; the token is the first thing looked at.
            held = self._login()
            if process.has_renewed or error.partial_text or to_be_renewed(held.content, time.time()) is None:
                raise
            if held.mark != process.mark:  # what comes of that one must not be taken for this one's
                raise UpstreamError(
                    "The Google login was changed while an ask used it.",
                    action="Ask again.",
                    provider=NAME,
                    transient=True,
                ) from error
        else:
            return
        self._to_renew = process.mark
        self._retire(process)
        async with contextlib.aclosing(self._ask(await self._process(), ask)) as events:
            async for event in events:
                yield event

    async def _ask(self, process: Process, ask: Ask) -> AsyncGenerator[Event]:
        process.active += 1
        session: Session | None = None
        answered = False
        try:
            session = await process.take_session(ask)
            yield Alive()
            async with contextlib.aclosing(process.converse(session, ask)) as events:
                async for event in events:
                    answered = isinstance(event, Finished)
                    yield event
        finally:
            process.active -= 1
            self._keep_renewal(process)
            if session is not None and answered:
                process.sessions.keep(session, ask)
            elif session is not None:
                process.sessions.forget(session)
            if process.worn_out:
                self._retire(process)
            elif session is not None:  # else Google would only be asked at once what it has just refused
                self._later(self._prepare_next(process))

    async def warm(self) -> HubError | None:
        """Start the process and a session ahead, where that is wanted."""
        if not self._warm:
            return None
        try:
            await self._prepare(await self._process())
        except HubError as error:
            return error
        return None

    async def _prepare(self, process: Process) -> None:
        """Sessions ahead. Raises HubError; a process that answers no more is let go of, and no ask waits for it."""
        try:
            await process.prepare()
        finally:
            if process is self._current and process.worn_out:
                self._retire(process)

    async def _prepare_next(self, process: Process) -> None:
        with contextlib.suppress(HubError):  # the next ask meets the same and tells it
            await self._prepare(process)

    async def close(self) -> None:
        self._current = None
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        for task in list(self._background):
            task.cancel()
        with anyio.CancelScope(shield=True):
            if starting is not None:
                await asyncio.gather(starting, return_exceptions=True)
            await asyncio.gather(*(self._close(p) for p in list(self._processes)), return_exceptions=True)
            await asyncio.gather(*list(self._background), return_exceptions=True)

    def kill(self) -> None:
        for process in list(self._processes):
            process.kill()

    # -- the process ------------------------------------------------------------------------------------------------

    async def _process(self) -> Process:
        """The running process, started if need be. All who wait share one start; one who leaves does not end it."""
        if not HERE:
            raise no_terminal()
        login = self._login()
        check_project(self._project)
        current = self._current
        if current is not None and (current.ended or current.worn_out or current.mark != login.mark):
            self._retire(current)
            current = self._current = None
        if current is not None:
            return current
        if self._starting is not None and self._starting_with != login.mark:
            # Whoever waits for it has come with the login of then, and goes on with the one of now.
            self._background.add(self._starting)
            self._starting.add_done_callback(self._background.discard)
            self._starting = None
        if self._starting is None:
            wait = self._not_before - time.monotonic()
            if wait > 0:
                raise UpstreamError(
                    f"{self._failed_with} The hub waits a little before it starts Gemini's CLI again.",
                    action=f"Try again in {max(1, round(wait))} s.",
                    provider=NAME,
                    retry_after_s=max(1, round(wait)),
                )
            self._starting = asyncio.get_running_loop().create_task(self._start(login))
            self._starting_with = login.mark
            self._starting.add_done_callback(self._started)
        process = await asyncio.shield(self._starting)
        if not process.retired:
            return process
        if self._login().mark != login.mark:  # what comes of that one must not be taken for this one's
            raise UpstreamError(
                "The Google login was changed while an ask waited for Gemini's CLI.",
                action="Ask again.",
                provider=NAME,
                transient=True,
            )
        return await self._process()

    def _started(self, starting: asyncio.Task[Process]) -> None:
        """A start is over, also where all who waited for it have left: the next ask must not get its old outcome."""
        if self._starting is starting:
            self._starting = None
        if not starting.cancelled():
            starting.exception()  # seen: those who wait tell it

    async def _start(self, login: Login) -> Process:
        """A process with this login. Raises HubError."""
        aged = to_be_renewed(login.content, time.time())
        if self._to_renew == login.mark and aged is not None:
            return await self._start_with(Login(aged, login.mark), renews=True)
        try:
            return await self._start_with(login)
        except AuthExpired:
            if aged is None:
                raise
        # Refused though its time is not over: the access token alone may have been taken back.
        return await self._start_with(Login(aged, login.mark), renews=True)

    async def _start_with(self, login: Login, *, renews: bool = False) -> Process:
        try:
            home = self._run.new_home(NAME)
        except OSError as error:
            raise state_unwritable(error) from error
        process = Process(self._run, home, login.mark, self.traits.default_model, renews=renews)
        self._processes.add(process)
        try:
            cli = program(self._command, self._around, self._own)
            words = argv(home, cli, self.traits.default_model)
            await process.start(words, self._environment(home, cli, login), home / "empty")
        except UpstreamError as error:
            self._failures += 1
            self._failed_with = error.message
            self._not_before = time.monotonic() + BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
            self._retire(process)
            raise
        except BaseException:
            self._retire(process)
            raise
        self._keep_renewal(process)
        if self._starting is asyncio.current_task():
            self._failures, self._to_renew, self._current = 0, "", process
        else:  # another login came meanwhile, and a start with it
            self._retire(process)
        return process

    def _environment(self, home: Path, cli: Path, login: Login) -> dict[str, str]:
        content, project = login.content, self._project
        return lay_out(home, cli, around=self._around, login=content, project=project, upstream=self._upstream)

    def _retire(self, process: Process) -> None:
        """No new asks for this process; it is closed when its last ask has ended."""
        if self._current is process:
            self._current = None
        process.retired = True
        if process.active == 0:
            self._later(self._close(process))

    def _keep_renewal(self, process: Process) -> None:
        """Tell what the CLI has made of its login, if it has renewed it."""
        content = process.home.new_login()
        if content is not None:
            self._renewed(process.mark, content)

    async def _close(self, process: Process) -> None:
        self._keep_renewal(process)
        await process.close()
        self._processes.discard(process)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
