"""Claude, through claude-agent-sdk and the Claude Code CLI bundled in its wheel. The only module that knows either.

Rules, each measured on SDK 0.2.187 with CLI 2.1.330:

- Contained: no tools, no settings, no MCP servers, no skills, `verbatim_prompts` (without it the CLI reads the file of
  an `@/abs/path` in the prompt into the request), an empty working directory, a private configuration folder.
- Who pays is settled before the prompt is sent: managed settings of the machine are looked at first (they can add a
  key without a trace in the handshake), then the handshake must name the subscription's token and nothing else.
- A client answers one ask and is thrown away: `session_id` does not separate conversations, contexts leak. One is kept
  connected ahead (first answer in about 0.1 s instead of 0.45).
- A cancelled ask is interrupted first (drained in about 20 ms, upstream closed), else the child is ended: leaving the
  SDK's own `async with` takes 5 s while the upstream keeps streaming.
- The CLI notices a stalled stream only after 300 s, so the deadlines are the hub's; it may begin an answer anew
  (`message_start` again), which voids what was streamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from llm_mcp_hub.children.supervision import Child, RunFolder, can_start
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import BillingBlocked, CliMissing, HubError, Misconfigured, UpstreamError
from llm_mcp_hub.providers.base import Alive, Event, Traits
from llm_mcp_hub.providers.claude_child import bundled_cli, options
from llm_mcp_hub.providers.claude_guard import (
    MANAGED_FOLDERS,
    check_account,
    check_managed_settings,
    check_settings_in_force,
)
from llm_mcp_hub.providers.claude_turn import ALIASES, NAME, Turn, iso

if TYPE_CHECKING:  # importing the SDK costs a tenth of a second: not before the first ask
    from claude_agent_sdk import ClaudeSDKClient

# No `[1m]`: the long-context variants are billed as extra usage.
MODEL_PATTERN = re.compile(r"claude-[a-z0-9][a-z0-9.-]{0,80}")
MAX_AGE_S = 30 * 60.0
"""A connected client was measured to work after 10 idle minutes; older than this it is replaced."""
CONNECT_TIMEOUT_S = 30.0
DRAIN_S = 1.0


@dataclass(slots=True, eq=False)
class _Connected:
    """A client that is connected, guarded, and has answered nothing yet."""

    client: ClaudeSDKClient
    child: Child | None
    home: Path
    model: str
    token: str
    since: float
    connecting: asyncio.Task[None] | None = None
    busy: bool = False


async def _settings(client: ClaudeSDKClient) -> Mapping[str, Any]:
    """The settings that the CLI says are in force, and where the organisation's stand. Takes about 5 ms."""
    # The CLI answers this request (its own `/config` asks it); the SDK has no public name for it, and is pinned.
    query = cast("Any", client)._query
    return await query._send_control_request({"subtype": "get_settings"})


class ClaudeProvider:
    """See the module's rules. `token` is asked at each ask, so a new token is taken up without a restart."""

    def __init__(
        self,
        *,
        run: RunFolder,
        around: Mapping[str, str],
        token: Callable[[], str],
        default_model: str,
        warm_clients: int = 1,
        allow_overage: bool = False,
        upstream: str | None = None,
        cli: Path | None = None,
        managed_folder: Path | None = None,
        version: str = "0",
    ) -> None:
        """
        Args:
            run: where children get their homes.
            around: the hub's own environment, from which the children's is made.
            token: returns the setup-token. Raises HubError when there is none that may be used.
            default_model: alias or full name.
            warm_clients: how many clients are kept connected ahead.
            allow_overage: whether asks go on while paid extra usage is in use.
            upstream: base URL of a stand-in, for tests.
            cli: the Claude Code program; the bundled one by default.
            managed_folder: where machine-wide settings are; the platform's by default.
            version: the hub's, told to the CLI as the app's name.
        """
        self.traits = Traits(
            name=NAME,
            title="Claude",
            spends="the owner's Claude subscription (Pro, Max, Team or Enterprise)",
            default_model=default_model,
            aliases=ALIASES,
            model_pattern=MODEL_PATTERN,
            model_hint=f"{', '.join(ALIASES)}, or a full name such as claude-sonnet-5-5",
        )
        self._run = run
        self._around = around
        self._token = token
        self._warm_clients = warm_clients
        self._allow_overage = allow_overage
        self._upstream = upstream
        self._cli = cli if cli is not None else bundled_cli()
        self._managed = managed_folder or MANAGED_FOLDERS.get(platform.system())
        self._version = version
        self._ready: list[_Connected] = []
        self._children: set[_Connected] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._overage_until: float | None = None
        self._closed = False
        self._refilling = False

    # -- the seam ---------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        """One question to a fresh client. See `Provider.ask`."""
        self._closed = False
        token = self._token()
        check_managed_settings(self._managed)
        self._check_overage()
        connected = await self._take(ask, token)
        try:
            yield Alive()
            async with contextlib.aclosing(self._converse(connected, ask)) as events:
                async for event in events:
                    yield event
        finally:
            with anyio.CancelScope(shield=True):
                if connected.busy:
                    await self._interrupt(connected)
            self._later(self._drop(connected))
            self._later(self._refill())

    async def warm(self) -> None:
        """Connect clients ahead, up to the number wanted."""
        self._closed = False
        await self._refill()

    async def _refill(self) -> None:
        if self._refilling:  # or asks that end together would each start a child, and all but one be dropped
            return
        self._refilling = True
        try:
            token = self._token()
            check_managed_settings(self._managed)
            while not self._closed and len(self._ready) < self._warm_clients:
                connected = await self._connect(self.traits.default_model, None, token)
                if self._closed or len(self._ready) >= self._warm_clients:
                    await self._drop(connected)
                    return
                self._ready.append(connected)
        except HubError:
            return  # the next ask meets the same and tells it
        finally:
            self._refilling = False

    async def close(self) -> None:
        self._closed = True
        for task in list(self._background):
            task.cancel()
        self._ready.clear()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(self._drop(c) for c in list(self._children)), return_exceptions=True)
            await asyncio.gather(*list(self._background), return_exceptions=True)

    def kill(self) -> None:
        for connected in list(self._children):
            if connected.child is not None:
                connected.child.kill()
        for file in self._run.path.glob(f"{NAME}-*/pid"):  # those that are connecting right now
            with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                Child(int(file.read_text())).kill()

    # -- clients ----------------------------------------------------------------------------------------------------

    async def _take(self, ask: Ask, token: str) -> _Connected:
        """A connected client for this ask: one kept ahead if it fits, else a new one."""
        while self._ready:
            ready = self._ready.pop(0)
            fits = ask.system is None and ready.token == token and time.monotonic() - ready.since < MAX_AGE_S
            if ask.system is not None:
                self._ready.insert(0, ready)  # it stays for an ask without a system text
                break
            if not fits:
                self._later(self._drop(ready))
                continue
            try:
                with anyio.fail_after(CONNECT_TIMEOUT_S):
                    if ready.model != ask.model:
                        await ready.client.set_model(ask.model)
                    check_settings_in_force(await _settings(ready.client))
            except HubError:
                self._later(self._drop(ready))
                raise
            except Exception:  # it died while it waited: any other client will do
                self._later(self._drop(ready))
                continue
            except BaseException:
                self._later(self._drop(ready))
                raise
            return ready
        return await self._connect(ask.model, ask.system, token)

    async def _connect(self, model: str, system: str | None, token: str) -> _Connected:
        from claude_agent_sdk import ClaudeSDKClient

        if self._cli is None or not self._cli.is_file():
            raise CliMissing(
                "The Claude Code program that belongs to claude-agent-sdk is not there.",
                action="Install it again: pip install --force-reinstall claude-agent-sdk",
                provider=NAME,
            )
        try:
            home = self._run.new_home(NAME)
            chosen = options(
                home=home,
                cwd=self._run.empty,
                cli=self._cli,
                around=self._around,
                model=model,
                system=system,
                token=token,
                upstream=self._upstream,
                app=f"llm-mcp-hub/{self._version}",
            )
        except OSError as error:
            raise Misconfigured(
                f"The hub cannot write its state folder ({error.strerror}).",
                action="Make HUB_STATE_DIR a folder that this user can write, with space left.",
                provider=NAME,
            ) from error
        client = ClaudeSDKClient(chosen)
        connected = _Connected(client, None, home, model, token, time.monotonic())
        self._children.add(connected)
        try:
            # In a task of its own: a cancelled `connect` waits 5 s for its CLI to end by itself. `_drop` is quicker.
            connected.connecting = asyncio.get_running_loop().create_task(client.connect())
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                await asyncio.shield(connected.connecting)
            with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                connected.child = Child(int((home / "pid").read_text()))
            info = await client.get_server_info() or {}
            check_account(cast("Mapping[str, Any]", info.get("account") or {}))
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                check_settings_in_force(await _settings(client))
        except HubError:
            self._later(self._drop(connected))
            raise
        except Exception as error:
            try:
                runs = await can_start(self._cli, home)
            finally:
                self._later(self._drop(connected))
            if not runs:
                raise CliMissing(
                    "The Claude Code program cannot be run on this machine.",
                    action="Install it again: pip install --force-reinstall claude-agent-sdk",
                    provider=NAME,
                ) from error
            raise UpstreamError(
                f"Claude's CLI did not start ({type(error).__name__}).",
                action="Try again; if it stays so: pip install --force-reinstall claude-agent-sdk",
                provider=NAME,
            ) from error
        except BaseException:
            self._later(self._drop(connected))
            raise
        return connected

    async def _interrupt(self, connected: _Connected) -> None:
        """Make an unfinished client quiet: interrupt and drain for a second, else end it."""
        try:
            with anyio.fail_after(DRAIN_S):
                await connected.client.interrupt()
                async for _ in connected.client.receive_response():
                    pass
        except Exception:
            if connected.child is not None:
                connected.child.kill()

    async def _drop(self, connected: _Connected) -> None:
        """End a client and remove its folder."""
        with anyio.CancelScope(shield=True):
            if connected.child is None:
                with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                    connected.child = Child(int((connected.home / "pid").read_text()))
            if connected.child is not None:
                connected.child.kill()  # it keeps nothing that a graceful end would save
            if connected.connecting is not None and not connected.connecting.done():
                connected.connecting.cancel()
                await asyncio.wait([connected.connecting])
            with contextlib.suppress(Exception):
                await connected.client.disconnect()
            self._children.discard(connected)
            self._run.drop_home(connected.home)

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- one conversation turn --------------------------------------------------------------------------------------

    async def _converse(self, connected: _Connected, ask: Ask) -> AsyncGenerator[Event]:
        from claude_agent_sdk import (
            AssistantMessage,
            ClaudeSDKError,
            CLIJSONDecodeError,
            RateLimitEvent,
            ResultMessage,
            StreamEvent,
        )

        turn = Turn(ask)
        try:
            connected.busy = True
            await connected.client.query(ask.prompt)
            async for message in connected.client.receive_response():
                if isinstance(message, StreamEvent):
                    for event in turn.streamed(message.event):
                        yield event
                elif isinstance(message, AssistantMessage):
                    turn.said(message)
                    yield Alive()
                elif isinstance(message, RateLimitEvent):
                    turn.limited(message)
                    self._note_overage(turn)
                    yield Alive()
                elif isinstance(message, ResultMessage):
                    connected.busy = False
                    yield turn.result(message)
                    return
                else:
                    yield Alive()
        except HubError:
            raise
        except CLIJSONDecodeError as error:
            raise UpstreamError(
                "Claude's CLI wrote something that cannot be read.",
                action="Ask again; ask for a shorter answer if it was a very long one.",
                provider=NAME,
                partial_text=turn.text or None,
            ) from error
        except (ClaudeSDKError, anyio.ClosedResourceError) as error:  # the second: closed under a running ask
            raise UpstreamError(
                f"Claude's CLI ended before the answer did ({type(error).__name__}).",
                action="Ask again.",
                provider=NAME,
                partial_text=turn.text or None,
            ) from error
        raise UpstreamError(
            "Claude's CLI ended without an answer.",
            action="Ask again.",
            provider=NAME,
            partial_text=turn.text or None,
        )

    # -- paid extra usage -------------------------------------------------------------------------------------------

    def _note_overage(self, turn: Turn) -> None:
        if turn.overage:
            self._overage_until = turn.resets_at or time.time() + 3600.0
        elif turn.overage is False:
            self._overage_until = None

    def _check_overage(self) -> None:
        until = self._overage_until
        if until is None or self._allow_overage:
            return
        left = until - time.time()
        if left <= 0:
            self._overage_until = None
            return
        raise BillingBlocked(
            "Claude's subscription is used up and further asks are paid as extra usage, so nothing was sent.",
            action=f"Wait until {iso(until)}, or set HUB_ALLOW_OVERAGE=1 to pay for extra usage.",
            provider=NAME,
            retry_after_s=round(left),
        )
