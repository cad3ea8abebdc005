"""The Claude CLIs that are connected: made ahead, taken for an ask, kept for a conversation's next turn, ended.

Knows how a client is connected and guarded, not what is asked of it. A client that is kept for a conversation has seen
exactly that conversation, and serves no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from llm_mcp_hub.children.supervision import EXHAUSTED, Child, RunFolder, child_in, exhausted, hindrance
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import CliMissing, HubError, UpstreamError
from llm_mcp_hub.providers.claude_child import no_cli, options, state_unwritable, transcript_file
from llm_mcp_hub.providers.claude_guard import check_account, check_settings_in_force
from llm_mcp_hub.providers.claude_history import transcript
from llm_mcp_hub.providers.claude_turn import NAME

if TYPE_CHECKING:  # importing the SDK costs a tenth of a second: not before the first ask
    from claude_agent_sdk import ClaudeSDKClient

MAX_AGE_S = 30 * 60.0
"""A connected client was measured to work after 10 idle minutes; older than this it is replaced."""
KEPT = 2
"""How many clients are kept for their conversations' next turns: one is about 106 MB."""
KEPT_S = 10 * 60.0
KEPT_BYTES = 400 << 20
CONNECT_TIMEOUT_S = 30.0
LOOK_S = 0.1
"""How often a client that is being connected is looked at: whether its CLI still lives."""
SETTINGS_S = 10.0
DRAIN_S = 1.0


@dataclass(slots=True, eq=False)
class Connected:
    """A client that is connected and guarded."""

    client: ClaudeSDKClient
    child: Child | None
    home: Path
    model: str
    system: str | None = field(repr=False)
    effort: str | None
    token: str = field(repr=False)
    since: float
    conversation: str | None = None
    """The conversation that it has seen, and nothing else; None for one that has seen nothing."""
    last: str | None = None
    """The ask whose answer was the last that it saw."""
    connecting: asyncio.Task[None] | None = None
    busy: bool = False


def _has_ended(connected: Connected) -> bool:
    """Whether its CLI has begun, and is no more."""
    if connected.child is None:
        try:
            connected.child = child_in(connected.home)
        except ProcessLookupError:
            return True
        except (OSError, ValueError):  # it has not noted its number yet
            return False
    return connected.child.ended


def _seen(task: asyncio.Task[None]) -> None:
    """Or the loop would log the error of a child that was killed while it started."""
    if not task.cancelled():
        task.exception()


async def _settings(client: ClaudeSDKClient) -> Mapping[str, Any]:
    """The settings that the CLI says are in force, and where the organisation's stand. Takes about 5 ms."""
    # The CLI answers this request (its own `/config` asks it); the SDK has no public name for it, and is pinned.
    query = cast("Any", client)._query
    until = time.monotonic() + SETTINGS_S
    while True:
        told: Mapping[str, Any] = await query._send_control_request({"subtype": "get_settings"})
        if told.get("served_settings_state") != "pending" or time.monotonic() > until:
            return told
        await asyncio.sleep(0.1)  # an organisation's settings are still on their way


class Pool:
    """See the module. Every client in it is a child of this hub."""

    def __init__(
        self,
        *,
        run: RunFolder,
        around: Mapping[str, str],
        default_model: str,
        ahead: int,
        upstream: str | None,
        cli: Path | None,
        version: str,
    ) -> None:
        self._run = run
        self._around = around
        self._default_model = default_model
        self._ahead = ahead
        self._upstream = upstream
        self._cli = cli
        self._version = version
        self._ready: list[Connected] = []
        self._kept: list[Connected] = []
        self._all: set[Connected] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._filling: asyncio.Task[None] | None = None
        self.closed = False

    async def take(self, ask: Ask, token: str) -> Connected:
        """A client that has seen the ask's conversation so far and nothing else. Raises HubError."""
        self._let_homeless_go()
        kept = self._of(ask, token)
        if kept is not None and await self._still_good(kept, ask.model):
            return kept
        if not ask.history and ask.system is None and ask.effort is None:
            while self._ready:
                ready = self._ready.pop(0)
                if ready.token == token and time.monotonic() - ready.since < MAX_AGE_S:
                    if await self._still_good(ready, ask.model):
                        return ready
                else:
                    self.drop_later(ready)
        return await self._connect(ask, token)

    def keep(self, connected: Connected, ask: Ask) -> None:
        """Keep a client for the next turn of the conversation whose ask it has just answered."""
        heavy = connected.child is not None and connected.child.memory > KEPT_BYTES
        if self.closed or heavy or not ask.conversation_id:
            self.drop_later(connected)
            return
        connected.conversation, connected.last, connected.since = ask.conversation_id, ask.ask_id, time.monotonic()
        self._kept.append(connected)
        while len(self._kept) > KEPT:
            self.drop_later(self._kept.pop(0))
        asyncio.get_running_loop().call_later(KEPT_S + 1, self._let_old_go)

    async def refill(self, token: str) -> None:
        """Connect clients ahead, up to the number wanted. Raises HubError. Who comes meanwhile waits for the same."""
        if self._filling is None or self._filling.done():  # or each would start a child, and all but one be dropped
            self._filling = self.later(self._fill(token))
            self._filling.add_done_callback(_seen)  # of an ask that was cancelled nobody waits for it any more
        filling = self._filling
        await asyncio.wait([filling])
        if not filling.cancelled():  # else the pool is closed
            filling.result()

    async def close(self) -> None:
        """End every client and wait for it."""
        self.closed = True
        for task in list(self._background):
            task.cancel()
        self._ready.clear()
        self._kept.clear()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(self.drop(c) for c in list(self._all)), return_exceptions=True)
            await asyncio.gather(*list(self._background), return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL to every client, also to those that are connecting right now."""
        for connected in list(self._all):
            if connected.child is not None:
                connected.child.kill()
        for file in self._run.path.glob(f"{NAME}-*/pid"):
            with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                Child(int(file.read_text())).kill()

    async def quieten(self, connected: Connected) -> None:
        """Make a client that is still answering quiet: interrupt and drain for a second, else end it."""
        try:
            with anyio.fail_after(DRAIN_S):
                await connected.client.interrupt()
                async for _ in connected.client.receive_response():
                    pass
        except Exception:
            if connected.child is not None:
                connected.child.kill()

    async def drop(self, connected: Connected) -> None:
        """End a client and remove its folder."""
        with anyio.CancelScope(shield=True):
            if connected.child is None:
                with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                    connected.child = child_in(connected.home)
            if connected.child is not None:
                connected.child.kill()  # it keeps nothing that a graceful end would save
            if connected.connecting is not None and not connected.connecting.done():
                connected.connecting.cancel()
                await asyncio.wait([connected.connecting])
            with contextlib.suppress(Exception):
                await connected.client.disconnect()
            self._all.discard(connected)
            self._run.drop_home(connected.home)

    def drop_later(self, connected: Connected) -> None:
        """End a client in the background."""
        self.later(self.drop(connected))

    def later(self, work: Any) -> asyncio.Task[None]:
        """Do something in the background; `close` ends it, and waits for its end."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _fill(self, token: str) -> None:
        while not self.closed and len(self._ready) < self._ahead:
            connected = await self._connect(Ask("", NAME, "", self._default_model, None, 0), token)
            if self.closed:
                await self.drop(connected)
                return
            self._ready.append(connected)

    def _of(self, ask: Ask, token: str) -> Connected | None:
        """The client that was kept for this conversation, if it has seen all of it and fits."""
        for kept in self._kept:
            if ask.history and kept.conversation == ask.conversation_id:
                self._kept.remove(kept)
                if kept.token == token and kept.effort == ask.effort and kept.last == ask.history[-1].ask_id:
                    return kept
                self.drop_later(kept)
                return None
        return None

    async def _unless_it_ends(self, connected: Connected, connecting: asyncio.Task[None]) -> None:
        """Wait for a handshake. Raises what that raises, and EOFError when the CLI has ended without a word of one.

        To one that ends as if all were well the SDK goes on listening for a minute (measured: exit code 0).
        """
        while not connecting.done():
            ended = _has_ended(connected)
            await asyncio.wait([connecting], timeout=LOOK_S)
            if ended and not connecting.done():  # what it said last has had its time
                raise EOFError("the CLI has ended")
        await connecting

    def _let_homeless_go(self) -> None:
        """End clients whose folders somebody has removed: what they write there goes nowhere."""
        for waiting in (self._kept, self._ready):
            for one in [one for one in waiting if not one.home.exists()]:
                waiting.remove(one)
                self.drop_later(one)

    def _let_old_go(self) -> None:
        old = [kept for kept in self._kept if time.monotonic() - kept.since >= KEPT_S]
        for kept in old:
            self._kept.remove(kept)
            self.drop_later(kept)

    async def _still_good(self, connected: Connected, model: str) -> bool:
        """Whether a waiting client lives, with the model set and nobody's settings in force. Raises HubError."""
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                if connected.model != model:
                    await connected.client.set_model(model)
                    connected.model = model
                check_settings_in_force(await _settings(connected.client))
        except HubError:
            self.drop_later(connected)
            raise
        except Exception:  # it died while it waited: any other client will do
            self.drop_later(connected)
            return False
        except BaseException:
            self.drop_later(connected)
            raise
        return True

    async def _connect(self, ask: Ask, token: str) -> Connected:
        """A new client that has seen the ask's conversation. Raises HubError."""
        from claude_agent_sdk import ClaudeSDKClient

        if self._cli is None or not self._cli.is_file():
            raise no_cli()
        session = str(uuid.uuid4()) if ask.history else None
        home: Path | None = None
        try:
            home = self._run.new_home(NAME)
            chosen = options(
                home=home,
                cwd=self._run.empty,
                cli=self._cli,
                around=self._around,
                model=ask.model,
                system=ask.system,
                effort=ask.effort,
                resume=session,
                token=token,
                upstream=self._upstream,
                app=f"llm-mcp-hub/{self._version}",
            )
            if session is not None:
                file = transcript_file(home, self._run.empty, session)
                file.parent.mkdir(mode=0o700, parents=True)
                file.touch(mode=0o600)
                seen = transcript(ask.history, session=session, cwd=self._run.empty, provider=NAME)
                file.write_text(seen, "utf-8")
        except OSError as error:
            if home is not None:
                self._run.drop_home(home)
            raise state_unwritable(error) from error
        client = ClaudeSDKClient(chosen)
        connected = Connected(client, None, home, ask.model, ask.system, ask.effort, token, time.monotonic())
        self._all.add(connected)
        try:
            # In a task of its own: a cancelled `connect` waits 5 s for its CLI to end by itself. `drop` is quicker.
            connected.connecting = asyncio.get_running_loop().create_task(client.connect())
            connected.connecting.add_done_callback(_seen)  # of an ask that was cancelled nobody waits for it any more
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                await self._unless_it_ends(connected, connected.connecting)
            with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                connected.child = child_in(home)
            info = await client.get_server_info() or {}
            check_account(cast("Mapping[str, Any]", info.get("account") or {}))
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                check_settings_in_force(await _settings(client))
        except HubError:
            self.drop_later(connected)
            raise
        except Exception as error:
            cause = error.__cause__
            try:
                short = isinstance(cause, OSError) and cause.errno in EXHAUSTED  # which may be over by now
                hindered = cause if isinstance(cause, OSError) and short else await hindrance(self._cli, home)
            finally:
                self.drop_later(connected)
            if hindered is not None and hindered.errno in EXHAUSTED:
                raise exhausted(hindered, NAME) from error
            if hindered is not None:
                raise CliMissing(
                    "The Claude Code program cannot be run on this machine.",
                    action="Install it again: pip install --force-reinstall claude-agent-sdk",
                    provider=NAME,
                ) from error
            raise UpstreamError(
                f"Claude's CLI did not start ({type(error).__name__}).",
                action="Try again; if it stays so: pip install --force-reinstall claude-agent-sdk",
                provider=NAME,
                transient=True,
            ) from error
        except BaseException:
            self.drop_later(connected)
            raise
        return connected
