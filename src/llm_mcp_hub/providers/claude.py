"""Claude, through claude-agent-sdk and the Claude Code CLI bundled in its wheel. These `claude*.py` alone know either.

Rules, each measured on SDK 0.2.187 with CLI 2.1.330:

- Contained: no tools, no settings, no MCP servers, no skills, `verbatim_prompts` (without it the CLI reads the file of
  an `@/abs/path` in the prompt into the request), an empty working directory, a private configuration folder.
- Who pays is settled before the prompt is sent: managed settings of the machine are looked at first (they can add a
  key without a trace in the handshake), then the handshake must name the subscription's token and nothing else.
- A client serves one conversation: `session_id` does not separate them, contexts leak. One is connected ahead (first
  answer in about 0.1 s instead of 0.45), a few are kept for the next turn (about 0.02 s). Any other client of a
  conversation begins with its transcript, which the CLI resumes as a session of its own (0.5 to 0.9 s).
- A cancelled ask is interrupted first (drained in about 20 ms, upstream closed), else the child is ended: leaving the
  SDK's own `async with` takes 5 s while the upstream keeps streaming.
- The CLI notices a stalled stream only after 300 s, so the deadlines are the hub's; it may begin an answer anew
  (`message_start` again), which voids what was streamed.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import BillingBlocked, HubError, UpstreamError
from llm_mcp_hub.providers.base import Alive, Event, Finished, Limits, Traits
from llm_mcp_hub.providers.claude_child import bundled_cli
from llm_mcp_hub.providers.claude_guard import MANAGED_FOLDER, check_managed_settings
from llm_mcp_hub.providers.claude_history import blocks
from llm_mcp_hub.providers.claude_pool import Connected, Pool
from llm_mcp_hub.providers.claude_turn import ALIASES, NAME, Turn, iso

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeSDKClient, Message

# No `[1m]`: the long-context variants are billed as extra usage.
MODEL_PATTERN = re.compile(r"claude-[a-z0-9][a-z0-9.-]{0,80}")


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
            efforts=("low", "medium", "high"),
            takes=("image/png", "image/jpeg", "image/webp", "image/gif", "application/pdf"),
        )
        self._pool = Pool(
            run=run,
            around=around,
            default_model=default_model,
            ahead=warm_clients,
            upstream=upstream,
            cli=cli if cli is not None else bundled_cli(),
            version=version,
        )
        self._token = token
        self._allow_overage = allow_overage
        self._managed = managed_folder or MANAGED_FOLDER
        self._overage_until: dict[str, float] = {}
        """By token: another one has another subscription."""

    # -- the seam ---------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        """One question to a client that has seen its conversation so far. See `Provider.ask`."""
        self._pool.closed = False
        token = self._token()
        check_managed_settings(self._managed)
        self._check_overage(token)
        connected = await self._pool.take(ask, token)
        answered = False
        try:
            yield Alive()
            self._check_overage(token)  # another ask may have shown it while this one waited for its client
            async with contextlib.aclosing(self._converse(connected, ask)) as events:
                async for event in events:
                    answered = isinstance(event, Finished)
                    yield event
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    if connected.busy:
                        await self._pool.quieten(connected)
            finally:  # the shield holds off no task's own `cancel`
                if answered:
                    self._pool.keep(connected, ask)
                else:  # what it has seen is not what the transcript will say
                    self._pool.drop_later(connected)
                self._pool.later(self._refill_quietly())

    async def warm(self) -> HubError | None:
        """Connect clients ahead, up to the number wanted."""
        self._pool.closed = False
        try:
            await self._refill()
        except HubError as error:
            return error
        return None

    async def _refill(self) -> None:
        token = self._token()
        check_managed_settings(self._managed)
        await self._pool.refill(token)

    async def _refill_quietly(self) -> None:
        with contextlib.suppress(HubError):  # the next ask meets the same and tells it
            await self._refill()

    async def close(self) -> None:
        await self._pool.close()

    def kill(self) -> None:
        self._pool.kill()

    # -- one conversation turn --------------------------------------------------------------------------------------

    async def _converse(self, connected: Connected, ask: Ask) -> AsyncGenerator[Event]:
        from claude_agent_sdk import (
            AssistantMessage,
            ClaudeSDKError,
            CLIJSONDecodeError,
            RateLimitEvent,
            ResultMessage,
            StreamEvent,
        )

        turn = Turn(ask, time.time)
        try:
            connected.busy = True
            await connected.client.query(_message(ask) if ask.parts else ask.prompt)
            async for message in messages_of(connected.client):
                if isinstance(message, StreamEvent):
                    for event in turn.streamed(message.event):
                        yield event
                elif isinstance(message, AssistantMessage):
                    for event in turn.said(message):
                        yield event
                elif isinstance(message, RateLimitEvent):
                    turn.limited(message)
                    self._note_overage(turn, connected.token)
                    yield Limits(turn.quota, self._blocked(connected.token) if turn.overage else None)
                elif isinstance(message, ResultMessage):
                    connected.busy = False
                    finished = turn.result(message)
                    if turn.overage:  # an ask without it, of another model, may have ended meanwhile
                        self._note_overage(turn, connected.token)
                    yield replace(finished, blocks=self._blocked(connected.token) if turn.overage else None)
                    return
                else:
                    yield Alive()
        except HubError:
            raise
        except (CLIJSONDecodeError, UnicodeDecodeError) as error:
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
                transient=True,
            ) from error
        raise UpstreamError(
            "Claude's CLI ended without an answer.",
            action="Ask again.",
            provider=NAME,
            partial_text=turn.text or None,
            transient=True,
        )

    # -- paid extra usage -------------------------------------------------------------------------------------------

    def _note_overage(self, turn: Turn, token: str) -> None:
        if turn.overage:
            self._overage_until[token] = turn.resets_at or time.time() + 3600.0
        elif turn.overage is False:
            self._overage_until.pop(token, None)

    def _check_overage(self, token: str) -> None:
        blocked = self._blocked(token)
        if blocked is not None:
            raise blocked

    def _blocked(self, token: str) -> BillingBlocked | None:
        """What an ask with this token meets while extra usage would pay for it."""
        until = self._overage_until.get(token, 0.0)
        left = until - time.time()
        if self._allow_overage or left <= 0:
            return None
        return BillingBlocked(
            "Claude's subscription is used up and further asks are paid as extra usage, so nothing was sent.",
            action=f"Wait until {iso(until)}, or set HUB_ALLOW_OVERAGE=1 to pay for extra usage.",
            provider=NAME,
            retry_after_s=round(left),
        )


async def messages_of(client: ClaudeSDKClient) -> AsyncGenerator[Message]:
    """What the CLI says until its turn ends. The SDK takes a message apart without a look at the kinds of its parts."""
    from claude_agent_sdk import ClaudeSDKError

    try:
        async for message in client.receive_response():
            yield message
    except UnicodeDecodeError:  # a ValueError, and no message at all: asked again, the CLI would say the same
        raise
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        raise ClaudeSDKError("a message has parts of another kind than its type says") from error


async def _message(ask: Ask) -> AsyncGenerator[dict[str, Any]]:
    """The one message of an ask that brings more than its prompt."""
    yield {
        "type": "user",
        "message": {"role": "user", "content": blocks(ask.parts, ask.prompt)},
        "parent_tool_use_id": None,
    }
