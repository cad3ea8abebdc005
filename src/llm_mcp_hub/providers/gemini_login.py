"""Gemini's login: the Gemini CLI's own code flow, led through on a terminal of ours.

Rules, each measured on gemini-cli 0.61.0:

- Without a login, `gemini --acp` with NO_BROWSER asks for a code before it does anything else. It has the same private
  home and the same strict settings as for an ask: an API key, were one around, could not take the login's place.
- A refused code, or five minutes without one, leads to a new link, once; after the second it ends. So it is started
  again as long as a person has tries left.
- Why it did not work stands on its stderr, which is a file here.
- It writes the login into its home, in place: half a file may be seen. What is whole there is the login.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from llm_mcp_hub.children.dialogue import Dialogue
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.children.terminal import HERE, Terminal, TerminalError
from llm_mcp_hub.errors import AuthRejected, HubError, UpstreamError
from llm_mcp_hub.providers.base import Provider
from llm_mcp_hub.providers.gemini_child import argv, lay_out, no_terminal, program, state_unwritable
from llm_mcp_hub.providers.gemini_home import died_at_start, login_file, stderr_file
from llm_mcp_hub.providers.gemini_turn import NAME
from llm_mcp_hub.providers.login import COLUMNS, TRIES, Exported, Person, pasted, whichever, within

LINK_S = 60.0
SHORTEST = 20
"""Characters: of Google's codes, which have some seventy, the half that a terminal or a hand has cut off."""
EXCHANGE_S = 90.0
LOOK_S = 0.05
AGAIN = "Run: llm-mcp-hub login gemini"

_NEW_LINK = " Here is a new link; the one before is worth nothing now."
_ENDED = "That link has ended." + _NEW_LINK
_NOT_ACCEPTED = "Google did not accept that code: it may be incomplete, used already, or from another link." + _NEW_LINK
_UNREACHABLE = "Google's login service could not be reached, or failed." + _NEW_LINK

_LINK = re.compile(r"(https://accounts\.google\.com/\S+)\s[\s\S]*?Enter\s+the\s+authorization\s+code:")
_FAILURE = re.compile(r"Failed to authenticate with (?:authorization|user) code:\s*(\S[^\n]*)")
_REFUSED = re.compile(r"invalid_grant|invalid_request|[Mm]alformed")
_KEY = re.compile(r"AIza|GOCSPX-|sk-|\{")

T = TypeVar("T")


class GeminiLogin:
    """See the module's rules."""

    name = NAME
    title = "Gemini"

    def __init__(
        self,
        *,
        run: RunFolder,
        around: Mapping[str, str],
        provider: Callable[[str], Provider],
        model: str,
        command: str = "gemini",
        own: Path | None = None,
        project: str | None = None,
        upstream: str | None = None,
    ) -> None:
        """
        Args:
            run: where the child gets its home.
            around: the command's own environment, from which the child's is made.
            provider: makes the provider with a given login.
            model: full name of the model that the CLI is started for.
            command: the CLI's program, a name in PATH or a path.
            own: where `setup` installs a CLI, which is used where PATH has none.
            project: id of the Google Cloud project that a licence hangs on.
            upstream: address of a stand-in for Code Assist, for tests.
        """
        self._run = run
        self._around = around
        self._provider = provider
        self._model = model
        self._command = command
        self._own = own
        self._project = project
        self._upstream = upstream

    def provider(self, content: str) -> Provider:
        return self._provider(content)

    def exported(self, content: str, issued_at: datetime, env_file: Path) -> Exported:
        """No variable holds a login of Google's: it goes into a file beside the env file, and the variable names it."""
        beside = env_file.with_name(f"{env_file.name}.gemini.json")
        return Exported({"GEMINI_AUTH_PATH": str(beside)}, {beside: content})

    async def make(self, person: Person) -> str:
        """A new login, as the CLI writes it. See `LoginFlow.make`."""
        if not HERE:
            raise no_terminal()
        tries = _Tries()
        cli = program(self._command, self._around, self._own)
        for _ in range(TRIES):  # each child has two links to give
            try:
                home = self._run.new_home("gemini-login")
            except OSError as error:
                raise state_unwritable(error) from error
            terminal: Terminal | None = None
            try:
                terminal = self._start(cli, home)
                login = await _converse(terminal, home, person, tries)
            except TerminalError as error:
                raise died_at_start(home) from error
            finally:
                if terminal is not None:
                    terminal.kill()
                self._run.drop_home(home)
            if login is not None:
                return login
        raise _gives_up(refused=False)

    def _start(self, cli: Path, home: Path) -> Terminal:
        environment = lay_out(
            home, cli, around=self._around, login=None, project=self._project, upstream=self._upstream
        )
        try:
            terminal = Terminal.spawn(
                argv(home, cli, self._model),
                environment=environment,
                cwd=home / "empty",
                stderr=stderr_file(home),
                columns=COLUMNS,
            )
        except TerminalError as error:
            raise no_terminal(error) from error
        with contextlib.suppress(OSError):  # it is only there for a sweep after a kill
            (home / "pid").write_text(str(terminal.pid))
        return terminal


class _Tries:
    """How often a code has failed, over all children, and what the person is told of the last time."""

    def __init__(self) -> None:
        self.note = ""
        self._failed = 0

    def failed(self, *, refused: bool) -> None:
        """Raises HubError when it was the last one."""
        self._failed += 1
        if self._failed == TRIES:
            raise _gives_up(refused=refused)
        self.note = _NOT_ACCEPTED if refused else _UNREACHABLE


async def _converse(terminal: Terminal, home: Path, person: Person, tries: _Tries) -> str | None:
    """The login, or None when the CLI has ended because its links are used up. Raises HubError and TerminalError."""
    dialogue = Dialogue(terminal)
    link = await _within(LINK_S, dialogue.until(_LINK), "showed no link")
    if link is None:
        raise died_at_start(home)
    while link is not None:
        came = await whichever(_code(person, link[1], tries.note), dialogue.until(_LINK))
        if not isinstance(came, str):
            link, tries.note = came, _ENDED
            continue
        await terminal.write(came.encode() + b"\r")
        done = await _within(EXCHANGE_S, whichever(_written(home), dialogue.until(_LINK)), "did not take the code")
        login = done if isinstance(done, str) else _read(home)
        if login is not None:
            return _renewable(login)
        tries.failed(refused=_was_refused(home))
        link = None if isinstance(done, str) else done
    return None


async def _code(person: Person, url: str, note: str) -> str:
    """A code that has the form of one; nothing else is typed into the program, least of all a key."""
    while True:
        code = unquote(pasted(await person.code(url, note=note)).removeprefix("code=").partition("&")[0])
        if _KEY.match(code):
            note = "That is a key, not a code. API keys bill by use; the hub takes none. The link stays the same."
        elif code.startswith(("http://", "https://")):
            note = "That is a link, not the code that its page shows. The link stays the same."
        elif code.startswith(("ya29.", "1//")):
            note = "That is a token, not a code. The link stays the same."
        elif not code.isascii() or not code.isprintable() or len(code) < SHORTEST:
            note = "That is not the whole code. The link stays the same."
        else:
            return code


async def _written(home: Path) -> str:
    """The login file, once it is whole."""
    while (login := _read(home)) is None:  # noqa: ASYNC110 - it is a file of another process
        await asyncio.sleep(LOOK_S)
    return login


def _read(home: Path) -> str | None:
    try:
        content = login_file(home).read_text("utf-8")
        held = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(held, dict) and cast("dict[str, Any]", held).get("access_token") else None


def _renewable(content: str) -> str:
    """The login, if it will last. Raises HubError."""
    if not json.loads(content).get("refresh_token"):
        raise UpstreamError(
            "Google gave a login that ends within the hour and cannot be renewed, so it was not saved.",
            action="Remove Gemini Code Assist's access at https://myaccount.google.com/connections, then log in again. "
            + AGAIN,
            provider=NAME,
        )
    return content


def _was_refused(home: Path) -> bool:
    """Whether it was the code that was wrong, not the way to Google."""
    try:
        reasons = _FAILURE.findall(stderr_file(home).read_text("utf-8", "replace"))
    except OSError:
        return False
    return bool(reasons) and _REFUSED.search(reasons[-1]) is not None


async def _within(seconds: float, answer: Awaitable[T], what: str) -> T:
    return await within(seconds, answer, title="Gemini", provider=NAME, what=what)


def _gives_up(*, refused: bool) -> HubError:
    if refused:
        return AuthRejected(
            f"Google did not accept the code, {TRIES} times over; nothing was saved.",
            action=f"Paste the code of the newest link, whole and right after signing in. {AGAIN}",
            provider=NAME,
        )
    return UpstreamError(
        "Google's login service could not be reached, or failed; nothing was saved.",
        action=f"Check the network and HTTPS_PROXY, then try again. {AGAIN}",
        provider=NAME,
    )
