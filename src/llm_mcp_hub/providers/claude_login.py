"""Claude's login: the bundled CLI's own `setup-token`, led through on a terminal of ours.

Rules, each measured on CLI 2.1.330:

- `CLAUDE_AX_SCREEN_READER` makes it write plain lines. Else it redraws a screen by its changed characters, and a token
  that stands where a link stood would lack those that both have in common.
- `CLAUDE_CODE_FULL_SIGN_IN_LINK` makes it show the whole link instead of a short one.
- A code that comes in one piece with its Enter is taken for a paste with a line break: the two are sent apart.
- A refused code is told, and Enter leads to a new link; the code of the old one is worth nothing then.
- A key that comes before a screen listens is lost. So a code is typed again where it does not show, and Enter pressed
  again where it leads nowhere; in the field for the code an Enter alone does nothing.
- Where a browser can be opened on the same machine, it opens one, and may finish without a code.
- It writes the token on its terminal and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from llm_mcp_hub.children.dialogue import Dialogue
from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.children.terminal import HERE, TERMINAL_ACTION, Terminal, TerminalError
from llm_mcp_hub.errors import AuthRejected, BillingBlocked, HubError, Misconfigured, UpstreamError
from llm_mcp_hub.providers.base import Provider
from llm_mcp_hub.providers.claude_child import bundled_cli, no_cli, state_unwritable
from llm_mcp_hub.providers.claude_guard import MANAGED_FOLDER, check_managed_settings
from llm_mcp_hub.providers.claude_turn import NAME
from llm_mcp_hub.providers.login import COLUMNS, TRIES, Exported, Person, pasted, whichever, within

LINK_S = 60.0
EXCHANGE_S = 90.0
ECHO_S = 5.0
ENTER_S = 3.0
SHORTEST = 85
"""Characters; a whole token has more than 90."""
AGAIN = "Run: llm-mcp-hub login claude"

_LINK = re.compile(r"(https://\S*/oauth/authorize\?\S+)\s[\s\S]*?Paste\s+code\s+here")
_TOKEN = re.compile(r"(?<![\w-])(sk-ant-[A-Za-z0-9_-]+)\s")
_FAILED = re.compile(r"OAuth\s+error:\s+(\S[^\r\n]*)[\r\n]")
_RETRY = re.compile(r"Enter\s+to\s+retry")
_REFUSED = re.compile(r"wasn.t\s+accepted")
_CLEAR = b"\x15"
_CODE = re.compile(r"[^#]{4,}#[^#]{4,}")

T = TypeVar("T")


_BY_HAND = "Run: claude setup-token, and put what it prints into CLAUDE_CODE_OAUTH_TOKEN in your settings file."
"""Where there is no terminal to lead a person through it."""


class ClaudeLogin:
    """See the module's rules."""

    name = NAME
    title = "Claude"

    def __init__(
        self,
        *,
        run: RunFolder,
        around: Mapping[str, str],
        provider: Callable[[str], Provider],
        cli: Path | None = None,
        managed_folder: Path | None = None,
    ) -> None:
        """
        Args:
            run: where the child gets its home.
            around: the command's own environment, from which the child's is made.
            provider: makes the provider with a given token.
            cli: the Claude Code program; the bundled one by default.
            managed_folder: where machine-wide settings are; the platform's by default.
        """
        self._run = run
        self._around = around
        self._provider = provider
        self._cli = cli if cli is not None else bundled_cli()
        self._managed = managed_folder or MANAGED_FOLDER

    def provider(self, content: str) -> Provider:
        return self._provider(content)

    def exported(self, content: str, issued_at: datetime, env_file: Path) -> Exported:
        made = issued_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Exported({"CLAUDE_CODE_OAUTH_TOKEN": content, "CLAUDE_TOKEN_ISSUED_AT": made})

    async def make(self, person: Person) -> str:
        """A new setup-token. See `LoginFlow.make`."""
        check_managed_settings(self._managed)  # no ask would be let through: better told before anybody signs in
        if self._cli is None or not self._cli.is_file():
            raise no_cli()
        try:
            home = self._run.new_home("claude-login")
            (home / "config").mkdir(mode=0o700)
        except OSError as error:
            raise state_unwritable(error) from error
        terminal: Terminal | None = None
        try:
            terminal = self._start(self._cli, home)
            return await self._converse(terminal, person)
        except TerminalError as error:
            raise _ended("") from error
        finally:
            if terminal is not None:
                terminal.kill()
            self._run.drop_home(home)

    def _start(self, cli: Path, home: Path) -> Terminal:
        try:
            terminal = Terminal.spawn(
                [str(cli), "setup-token"],
                environment=self._environment(home),
                cwd=self._run.empty,
                stderr=home / "stderr",
                columns=COLUMNS,
            )
        except TerminalError as error:
            raise Misconfigured(
                f"This machine gives the hub no pseudo-terminal ({error}).",
                action=TERMINAL_ACTION if HERE else _BY_HAND,
                provider=NAME,
            ) from error
        with contextlib.suppress(OSError):  # it is only there for a sweep after a kill
            (home / "pid").write_text(str(terminal.pid))
        return terminal

    def _environment(self, home: Path) -> dict[str, str]:
        return child_environment(
            self._around,
            {
                "HOME": str(home),
                "CLAUDE_CONFIG_DIR": str(home / "config"),
                "TMPDIR": str(home),
                "TERM": "xterm-256color",
                "NO_COLOR": "1",
                "CLAUDE_AX_SCREEN_READER": "1",
                "CLAUDE_CODE_FULL_SIGN_IN_LINK": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_TELEMETRY": "1",
            },
        )

    async def _converse(self, terminal: Terminal, person: Person) -> str:
        dialogue = Dialogue(terminal)
        failures, note = 0, ""
        while True:
            link = await _within(LINK_S, self._link(terminal, dialogue, again=failures > 0), "showed no link")
            if link is None:
                raise _ended(dialogue.text)
            came = await whichever(_code(person, link[1], note), dialogue.until(_TOKEN, _FAILED))
            if isinstance(came, str):
                await self._enter(terminal, dialogue, came)
                came = await _within(EXCHANGE_S, dialogue.until(_TOKEN, _FAILED), "did not say what became of the code")
            if came is None:
                raise _ended(dialogue.text)
            if came.re is _TOKEN:
                return _whole(came[1])
            failures += 1
            reason = came[1].rstrip()
            refused = _REFUSED.search(reason) is not None
            if failures == TRIES:
                raise _gives_up(reason, refused=refused)
            note = (
                "Claude did not accept that code: it may be incomplete, too old, used already, or from another link."
                if refused
                else f"That did not work: {reason}"
            ) + " Here is a new link; the one before is worth nothing now."
            await _within(LINK_S, dialogue.until(_RETRY), "did not go on")

    async def _link(self, terminal: Terminal, dialogue: Dialogue, *, again: bool) -> re.Match[str] | None:
        """The next link; `again`: Enter leads to it."""
        while again:
            await terminal.write(b"\r")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENTER_S):
                    return await dialogue.until(_LINK)
        return await dialogue.until(_LINK)

    async def _enter(self, terminal: Terminal, dialogue: Dialogue, code: str) -> None:
        """Type a code, and Enter when it is seen to have arrived: the program masks all but its end."""
        mask = re.compile(rf"\*[^\s*]*{re.escape(code[-4:])}")
        for again in range(3):
            if again:
                await terminal.write(_CLEAR)
                await asyncio.sleep(ECHO_S / 10)  # or it would be a part of what is pasted
            await terminal.write(code.encode())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ECHO_S):
                    await dialogue.until(mask)
                break
        await terminal.write(b"\r")


async def _code(person: Person, url: str, note: str) -> str:
    """A code that has the form of one; nothing else is typed into the program, least of all a key."""
    while True:
        code = pasted(await person.code(url, note=note))
        if "sk-ant-api" in code:
            note = "That is an API key, not a code. API keys bill by use; the hub takes none. The link stays the same."
        elif code.startswith("sk-ant-"):
            note = (
                "That is a token, not a code. To give the hub a token that you have, set CLAUDE_CODE_OAUTH_TOKEN; "
                "for a new one paste the code that the page shows. The link stays the same."
            )
        elif not code.isascii() or not code.isprintable():
            note = "There is a character in it that no code has. Paste the code alone. The link stays the same."
        elif _CODE.fullmatch(code) is None:
            note = "That is not the whole code: it has a # in its middle. The link stays the same."
        else:
            return code


async def _within(seconds: float, answer: Awaitable[T], what: str) -> T:
    return await within(seconds, answer, title="Claude", provider=NAME, what=what)


def _whole(token: str) -> str:
    """The token, if it is one that the hub uses. Raises HubError."""
    if token.startswith("sk-ant-api"):
        raise BillingBlocked(
            "Claude's CLI made an API key instead of a subscription's token; keys bill by use, so it was not saved.",
            action=f"Revoke it in the Anthropic console, then log in with a Claude subscription. {AGAIN}",
            provider=NAME,
        )
    if not token.startswith("sk-ant-oat01-") or len(token) < SHORTEST:
        raise UpstreamError(
            "What Claude's CLI printed is no whole setup-token, so it was not saved.", action=AGAIN, provider=NAME
        )
    return token


def _gives_up(said: str, *, refused: bool) -> HubError:
    if refused:
        return AuthRejected(
            f"Claude did not accept the code, {TRIES} times over; nothing was saved.",
            action=f"Paste the code of the newest link, whole and right after signing in. {AGAIN}",
            provider=NAME,
        )
    return UpstreamError(
        f"Claude's sign-in failed: {said} Nothing was saved.",
        action=f"Check the network and HTTPS_PROXY, then try again. {AGAIN}",
        provider=NAME,
    )


def _ended(text: str) -> HubError:
    """The program has ended by itself. Its last line says why, and holds no secret: it had none yet."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1][:300] if lines and "sk-ant-" not in lines[-1] else ""
    return UpstreamError(
        "Claude's CLI ended before there was a token" + (f": {said}" if said else "."), action=AGAIN, provider=NAME
    )
