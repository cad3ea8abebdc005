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
import json
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from llm_mcp_hub.children.environment import blanked, child_environment
from llm_mcp_hub.children.supervision import Child, RunFolder
from llm_mcp_hub.conversation import Ask, Billing, QuotaWindow, StopReason, Usage
from llm_mcp_hub.errors import (
    AuthRejected,
    BillingBlocked,
    CliMissing,
    HubError,
    InvalidRequest,
    Misconfigured,
    ModelUnavailable,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    Refused,
    Timeout,
    UpstreamError,
)
from llm_mcp_hub.providers.base import Alive, Event, Finished, Restarted, Text, Traits

if TYPE_CHECKING:  # importing the SDK costs a tenth of a second: not before the first ask
    from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, RateLimitEvent, ResultMessage

NAME = "claude"
ALIASES = ("sonnet", "opus", "haiku", "fable")
# No `[1m]`: the long-context variants are billed as extra usage.
MODEL_PATTERN = re.compile(r"claude-[a-z0-9][a-z0-9.-]{0,80}")
BUFFER_BYTES = 32 << 20
"""The SDK's default of 1 MiB ends an answer of that size with a decoding error."""
MAX_AGE_S = 30 * 60.0
"""A connected client was measured to work after 10 idle minutes; older than this it is replaced."""
CONNECT_TIMEOUT_S = 30.0
DRAIN_S = 1.0
SYSTEM = "Answer in text. You have no tools, no files and no network access."
LOGIN_ACTION = "Run `llm-mcp-hub login claude`, or set CLAUDE_CODE_OAUTH_TOKEN to a new `claude setup-token` token."

MANAGED_FOLDERS = {
    "Linux": Path("/etc/claude-code"),
    "Darwin": Path("/Library/Application Support/ClaudeCode"),
    "Windows": Path("C:/Program Files/ClaudeCode"),
}

# Kept by the child's wrapper beside what `environment.py` allows: what the SDK itself tells its CLI.
_SDK_NAMES = (
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_AGENT_SDK_VERSION",
    "CLAUDE_AGENT_SDK_CLIENT_APP",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE",
    "PWD",
)

# The SDK merges our variables over its own and so cannot remove a name. This wrapper can: it keeps the names that it
# is told and drops the rest, notes its pid (it becomes the CLI by exec, so it is the CLI's) and, on Linux, asks the
# kernel to kill the CLI when the hub dies: over pipes it would live on.
_WRAPPER = """#!/bin/sh
umask 077
echo $$ >"$HUB_CHILD_HOME/pid"
cli=$HUB_CHILD_CLI
keep=" $HUB_CHILD_KEEP "
for name in $(env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'); do
    case $keep in *" $name "*) ;; *) unset "$name" ;; esac
done
exec SETPRIV"$cli" "$@"
"""


def bundled_cli() -> Path | None:
    """The CLI in claude-agent-sdk's wheel, or None where the wheel has none (a platform without a build)."""
    from importlib.util import find_spec

    package = find_spec("claude_agent_sdk")
    if package is None or package.origin is None:
        return None
    cli = Path(package.origin).parent / "_bundled" / ("claude.exe" if sys.platform == "win32" else "claude")
    return cli if cli.is_file() else None


def check_managed_settings(folder: Path | None) -> None:
    """Refuse machine-wide settings that could pay or redirect. They cannot be switched off for a child.

    Measured: `env` in them puts an API key or another base URL on the wire, `apiKeyHelper` likewise, and the handshake
    looks clean. Raises BillingBlocked.
    """
    if folder is None:
        return
    try:
        files = [folder / "managed-settings.json"]
        if (folder / "managed-settings.d").exists():
            files += sorted((folder / "managed-settings.d").iterdir())
        for file in files:
            if not file.exists():
                continue
            held = json.loads(file.read_text("utf-8"))
            if not isinstance(held, dict) or "env" in held or "apiKeyHelper" in held:
                raise BillingBlocked(
                    f"Claude Code's machine-wide settings ({file}) hold `env` or `apiKeyHelper`, or are not an object: "
                    "they could make Claude use a paid key or another address, so nothing was sent.",
                    action=f"Ask this machine's administrator to remove `env` and `apiKeyHelper` from {file}.",
                    provider=NAME,
                )
    except (OSError, ValueError) as error:
        raise BillingBlocked(
            f"Claude Code's machine-wide settings in {folder} cannot be read ({type(error).__name__}), so it is not "
            "known who would pay; nothing was sent.",
            action=f"Make the files in {folder} readable and valid JSON, or remove them.",
            provider=NAME,
        ) from error


def check_account(account: Mapping[str, Any]) -> None:
    """The handshake must name the subscription's token and no other way to pay. Raises a HubError otherwise."""
    if (
        account.get("tokenSource") == "CLAUDE_CODE_OAUTH_TOKEN"
        and "apiKeySource" not in account
        and account.get("apiProvider") == "firstParty"
    ):
        return
    seen = {key: str(account[key]) for key in ("tokenSource", "apiKeySource", "apiProvider") if key in account}
    raise BillingBlocked(
        f"Claude's CLI would not use the subscription's token alone ({seen or 'no account named'}), so nothing was "
        "sent.",
        action="Run `llm-mcp-hub doctor`; remove API keys and cloud settings for Claude from this machine.",
        provider=NAME,
    )


@dataclass(slots=True, eq=False)
class _Connected:
    """A client that is connected, guarded, and has answered nothing yet."""

    client: ClaudeSDKClient
    child: Child | None
    home: Path
    model: str
    token: str
    since: float


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

    # -- the seam ---------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        """One question to a fresh client. See `Provider.ask`."""
        self._closed = False
        token = self._token()
        check_managed_settings(self._managed)
        self._check_overage()
        connected = await self._take(ask, token)
        answered = False
        try:
            yield Alive()
            async with contextlib.aclosing(self._converse(connected, ask)) as events:
                async for event in events:
                    answered = isinstance(event, Finished)
                    yield event
        finally:
            with anyio.CancelScope(shield=True):
                if not answered:
                    await self._interrupt(connected)
            self._later(self._drop(connected))
            self._later(self.warm())

    async def warm(self) -> None:
        """Connect clients ahead, up to the number wanted."""
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
                if ready.model != ask.model:
                    with anyio.fail_after(CONNECT_TIMEOUT_S):
                        await ready.client.set_model(ask.model)
            except Exception:  # it died while it waited: any other client will do
                self._later(self._drop(ready))
                continue
            except BaseException:
                self._later(self._drop(ready))
                raise
            return ready
        return await self._connect(ask.model, ask.system, token)

    async def _connect(self, model: str, system: str | None, token: str) -> _Connected:
        from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError, CLINotFoundError

        if self._cli is None or not self._cli.is_file():
            raise CliMissing(
                "The Claude Code program that belongs to claude-agent-sdk is not there.",
                action="Install it again: pip install --force-reinstall claude-agent-sdk",
                provider=NAME,
            )
        try:
            home = self._run.new_home(NAME)
            options = self._options(home, model, system, token)
        except OSError as error:
            raise Misconfigured(
                f"The hub cannot write its state folder ({error.strerror}).",
                action="Make HUB_STATE_DIR a folder that this user can write.",
                provider=NAME,
            ) from error
        client = ClaudeSDKClient(options)
        connected = _Connected(client, None, home, model, token, time.monotonic())
        self._children.add(connected)
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                await client.connect()
            with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                connected.child = Child(int((home / "pid").read_text()))
            info = await client.get_server_info() or {}
            check_account(cast("Mapping[str, Any]", info.get("account") or {}))
        except HubError:
            self._later(self._drop(connected))
            raise
        except CLINotFoundError as error:
            self._later(self._drop(connected))
            raise CliMissing(
                "The Claude Code program could not be started.",
                action="Install it again: pip install --force-reinstall claude-agent-sdk",
                provider=NAME,
            ) from error
        except (ClaudeSDKError, TimeoutError, Exception) as error:
            self._later(self._drop(connected))
            raise UpstreamError(
                f"Claude's CLI did not start ({type(error).__name__}).",
                action="Try again; `llm-mcp-hub doctor` tells what stops it.",
                provider=NAME,
            ) from error
        except BaseException:
            self._later(self._drop(connected))
            raise
        return connected

    def _options(self, home: Path, model: str, system: str | None, token: str) -> ClaudeAgentOptions:
        from claude_agent_sdk import ClaudeAgentOptions

        (home / "config").mkdir(mode=0o700)
        # By file: on the command line every user of the machine could read it.
        prompt = home / "system.md"
        prompt.touch(mode=0o600)
        prompt.write_text(SYSTEM if system is None else f"{SYSTEM}\n\n{system}", "utf-8")
        wrapper = home / "claude"
        setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
        wrapper.touch(mode=0o700)
        wrapper.write_text(_WRAPPER.replace("SETPRIV", f"{setpriv} --pdeathsig KILL -- " if setpriv else ""))
        wrapper.chmod(stat.S_IRWXU)
        wanted = child_environment(
            self._around,
            {
                "HOME": str(home),
                "CLAUDE_CONFIG_DIR": str(home / "config"),
                "TMPDIR": str(home),
                "CLAUDE_CODE_OAUTH_TOKEN": token,
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "CLAUDE_CODE_MAX_RETRIES": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_TELEMETRY": "1",
                **({"ANTHROPIC_BASE_URL": self._upstream} if self._upstream else {}),
            },
        )
        told = {
            **wanted,
            "HUB_CHILD_HOME": str(home),
            "HUB_CHILD_CLI": str(self._cli),
            "HUB_CHILD_KEEP": " ".join([*wanted, *_SDK_NAMES]),
        }
        return ClaudeAgentOptions(
            tools=[],
            setting_sources=[],
            strict_mcp_config=True,
            skills=[],
            system_prompt={"type": "file", "path": str(prompt)},
            permission_mode="dontAsk",
            verbatim_prompts=True,
            max_turns=1,
            include_partial_messages=True,
            max_buffer_size=BUFFER_BYTES,
            model=model,
            cwd=self._run.empty,
            cli_path=wrapper,
            env=blanked(self._around, told),
            stderr=_ignore,  # without a callback the child would write on our own stderr
            client_app=f"llm-mcp-hub/{self._version}",
            extra_args={"no-session-persistence": None, "disable-slash-commands": None},
        )

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

        turn = _Turn(ask)
        try:
            await connected.client.query(ask.prompt)
            async for message in connected.client.receive_response():
                if isinstance(message, StreamEvent):
                    for event in turn.streamed(message.event):
                        yield event
                elif isinstance(message, AssistantMessage):
                    turn.failed_as = message.error or turn.failed_as
                    if message.error is None:
                        turn.model = turn.model or message.model
                    yield Alive()
                elif isinstance(message, RateLimitEvent):
                    turn.limited(message)
                    self._note_overage(turn)
                    yield Alive()
                elif isinstance(message, ResultMessage):
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
        except ClaudeSDKError as error:
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

    def _note_overage(self, turn: _Turn) -> None:
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
            action=f"Wait until {_iso(until)}, or set HUB_ALLOW_OVERAGE=1 to pay for extra usage.",
            provider=NAME,
            retry_after_s=round(left),
        )


def _ignore(line: str) -> None:
    """The CLI's stderr is for its developers, and could quote a prompt: it goes nowhere."""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Turn:
    """What one turn has shown so far: messages in, events and one result or error out. No I/O."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._kept = ""
        self._streamed = ""
        self._cut_by_length = False
        self.model: str | None = None
        self.failed_as: str | None = None
        self.quota: tuple[QuotaWindow, ...] = ()
        self.overage: bool | None = None
        self.resets_at: float | None = None
        self._rejected_window: str | None = None

    @property
    def text(self) -> str:
        return self._kept + self._streamed

    def streamed(self, event: Mapping[str, Any]) -> list[Event]:
        """One raw event of the Messages API."""
        kind = event.get("type")
        if kind == "message_start":
            message = cast("Mapping[str, Any]", event.get("message") or {})
            self.model = str(message.get("model") or "") or self.model
            if self._cut_by_length:  # the CLI goes on where the length limit cut: a sequel, not a new beginning
                self._kept, self._streamed, self._cut_by_length = self.text, "", False
                return [Alive()]
            if self._streamed:
                self._streamed = ""
                return [Restarted()]
        elif kind == "content_block_delta":
            delta = cast("Mapping[str, Any]", event.get("delta") or {})
            if delta.get("type") == "text_delta" and delta.get("text"):
                self._streamed += str(delta["text"])
                return [Text(str(delta["text"]))]
        elif kind == "message_delta":
            delta = cast("Mapping[str, Any]", event.get("delta") or {})
            self._cut_by_length = delta.get("stop_reason") == "max_tokens"
        return [Alive()]

    def limited(self, event: RateLimitEvent) -> None:
        """What the subscription's windows say; rides on every ask for free."""
        info = event.rate_limit_info
        raw = info.raw
        now = _iso(time.time())
        windows = cast("Mapping[str, Mapping[str, Any]]", raw.get("unifiedWindows") or {})
        self.quota = tuple(
            QuotaWindow(
                window=name,
                used_fraction=window.get("utilization"),
                resets_at=_iso(window["resetsAt"]) if window.get("resetsAt") else None,
                observed_at=now,
            )
            for name, window in windows.items()
        )
        # The first is the CLI's own conclusion (window rejected, overage allowed), the second the provider's word.
        self.overage = bool(raw.get("isUsingOverage") or raw.get("overageInUse"))
        if info.resets_at:
            self.resets_at = float(info.resets_at)
        # A plain 429 also says `rejected`, but names no window: only a named one means that the quota is gone.
        if info.status == "rejected" and info.rate_limit_type:
            self._rejected_window = str(info.rate_limit_type)

    def result(self, message: ResultMessage) -> Finished:
        """The end of the turn. Raises the coded error of a failed one."""
        if message.is_error:
            raise self._error(message)
        # `result` is the last message's whole text, also where no pieces were streamed (a repeated request).
        text = self._kept + (message.result if message.result is not None else self._streamed)
        if not text.strip():
            raise UpstreamError("Claude answered with no text.", action="Ask again.", provider=NAME)
        usage = message.usage or {}
        served = self.model or next(iter(message.model_usage or {}), None)
        warnings: list[str] = []
        asked = self._ask.model
        if served and asked not in ALIASES and served != asked:
            warnings.append(f"asked for {asked}, Claude's CLI used {served}")
        if self.overage:
            warnings.append("this answer was paid as extra usage, not by the subscription")
        cached = usage.get("cache_read_input_tokens")
        return Finished(
            text=text,
            model=served or asked,
            model_source="served" if served else "requested",
            stop_reason=_stop_reason(message.stop_reason),
            usage=Usage(
                input_tokens=int(usage.get("input_tokens") or 0),
                output_tokens=int(usage.get("output_tokens") or 0),
                cached_input_tokens=int(cached) if cached is not None else None,
            ),
            billing=Billing(source="overage", evidence="event")
            if self.overage
            else Billing(source="subscription", evidence="handshake"),
            quota=self.quota,
            warnings=tuple(warnings),
        )

    def _error(self, message: ResultMessage) -> HubError:
        """Claude's failures as ours. Order: window, kind of failure, HTTP status, end of the loop (measured table)."""
        status = message.api_error_status
        kind = self.failed_as
        said = message.result or " ".join(message.errors or ())
        partial = self.text or None
        if self._rejected_window is not None and (status == 429 or kind == "rate_limit"):
            reset = self.resets_at
            return QuotaExhausted(
                f"Claude's {_window(self._rejected_window)} limit of this subscription is used up"
                + (f" until {_iso(reset)}." if reset else "."),
                action="Wait for the reset, or ask the other provider.",
                provider=NAME,
                retry_after_s=max(0, round(reset - time.time())) if reset else None,
                partial_text=partial,
            )
        if message.stop_reason == "refusal":
            return Refused("Claude declined to answer this.", action="Put the question differently.", provider=NAME)
        if message.subtype == "error_max_turns" or message.terminal_reason == "max_turns":
            return UpstreamError(
                "Claude tried to use a tool instead of answering; the hub gives it none.",
                action="Ask again and ask for an answer in text only.",
                provider=NAME,
                partial_text=partial,
            )
        if message.terminal_reason in {"blocking_limit", "prompt_too_long"}:
            return _invalid("The prompt is longer than Claude takes.", "Shorten the prompt.")
        if kind == "oauth_org_not_allowed":
            return PermissionDenied(
                "The organisation of this Claude account does not allow Claude Code.",
                action="Ask the organisation's administrator to allow Claude Code for this account.",
                provider=NAME,
            )
        if kind == "authentication_failed" or status in {401, 403} or "Not logged in" in said:
            return AuthRejected("Claude refused the token.", action=LOGIN_ACTION, provider=NAME)
        if kind == "billing_error":
            return BillingBlocked(
                "Claude answered that a credit balance is too low: this account would pay by credit, not by a "
                "subscription.",
                action="Check with `llm-mcp-hub status` which account the token belongs to; use a subscription's.",
                provider=NAME,
            )
        if kind == "rate_limit" or status == 429:
            return RateLimited(
                "Claude is limiting requests for the moment (not the subscription's limit).",
                action="Try again in half a minute.",
                provider=NAME,
                retry_after_s=30,
                partial_text=partial,
            )
        if kind == "model_not_found" or status == 404:
            return ModelUnavailable(
                f"Claude does not offer the model {self._ask.model}.",
                action=f"Use one of: {', '.join(ALIASES)}.",
                provider=NAME,
            )
        if kind == "max_output_tokens":
            return UpstreamError(
                "Claude's answer hit its length limit again and again.",
                action="Ask for a shorter answer; the text so far is attached.",
                provider=NAME,
                partial_text=partial,
            )
        if status == 413:
            return _invalid("The request is larger than Claude takes.", "Shorten the prompt.")
        if status is not None and 400 <= status < 500:
            return _invalid("Claude refused the request as it is.", "Change the prompt or the model.")
        if status == 529:
            return UpstreamError(
                "Claude is overloaded.", action="Try again in a minute.", provider=NAME, retry_after_s=60,
                partial_text=partial,
            )
        if "timed out" in said.lower():
            return Timeout("Claude did not answer in time.", action="Try again.", provider=NAME, partial_text=partial)
        return UpstreamError(
            f"Claude failed{f' (HTTP {status})' if status else ' (the connection broke)'}.",
            action="Try again.",
            provider=NAME,
            partial_text=partial,
        )


def _invalid(message: str, action: str) -> InvalidRequest:
    return InvalidRequest(message, action=action, provider=NAME)


def _window(name: str) -> str:
    return {"five_hour": "5-hour", "seven_day": "weekly", "seven_day_opus": "weekly Opus"}.get(
        name, name.replace("_", " ")
    )


def _stop_reason(given: str | None) -> StopReason:
    if given == "end_turn" or given == "stop_sequence":
        return "end_turn"
    if given == "max_tokens":
        return "max_tokens"
    return "refusal" if given == "refusal" else "unknown"
