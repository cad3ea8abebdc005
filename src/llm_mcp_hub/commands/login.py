"""`llm-mcp-hub login`: a person at a terminal, or behind a pipe, is led through a provider's own login.

The link goes to stdout, alone on its line and unwrapped; all words go to stderr; the code is read from stdin. What the
login gives is put nowhere but into the state folder and, where it is asked for, into an env file.

What is decided here is what becomes of a login that does not answer at once. It is saved unless the provider refuses
the login or the account itself: a token lives a year, and a network that is away, a used-up quota or a setting that is
missing say nothing against it. A refused one is not saved, for it would take the place of one that works.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_mcp_hub.commands import env_file
from llm_mcp_hub.commands.stdout import aside, say
from llm_mcp_hub.commands.words import QUIT
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.credentials.saved import Saved
from llm_mcp_hub.env_text import with_values
from llm_mcp_hub.errors import HubError, InvalidRequest, Timeout, UpstreamError
from llm_mcp_hub.providers.base import Finished, Provider
from llm_mcp_hub.serving.signals import LEAVING, on_loop
from llm_mcp_hub.settings import Settings

if TYPE_CHECKING:
    from llm_mcp_hub.main_commands import LoginParts
    from llm_mcp_hub.providers.login import LoginFlow

LONGEST_S = 86_400
USUAL_S = 600.0
CHECK_S = 90.0
CHECK_PROMPT = "Answer with the one word: ready"
REFUSED = frozenset({"auth_missing", "auth_expired", "auth_rejected", "account_ineligible"})
"""What the provider says against a login or its account: it is not saved."""
STDIN = 0
CHUNK = 64 * 1024
LONGEST = 16 * 1024
MOST_TOKEN_CHARS = 1024
"""A setup-token has 108."""


def run(settings: Settings, provider: str, *, write_env: Path | None, timeout_s: float) -> int:
    """Make a login, try it out, save it. Returns the exit code. Raises HubError.

    Args:
        settings: where children and logins are kept, and what the providers are driven with.
        provider: whose login.
        write_env: an env file that is to hold the login too.
        timeout_s: how long a person has.
    """
    if not 0 < timeout_s <= LONGEST_S:
        raise InvalidRequest(
            f"--timeout is not over 0 and up to {LONGEST_S}.",
            action=f"Run: llm-mcp-hub login {provider} --timeout 600",
        )
    from llm_mcp_hub import main_commands as composition

    return asyncio.run(_run(composition.build_login(settings, provider), write_env, timeout_s))


async def _run(parts: LoginParts, write_env: Path | None, timeout_s: float) -> int:
    """The login, with an end that is clean whatever ends it."""
    stopped: list[int] = []
    task = asyncio.current_task()

    def stop(number: int) -> None:
        if task is not None and not stopped:  # a second one would only disturb the cleaning up
            task.cancel()
        stopped.append(number)

    on_loop(LEAVING, stop)
    saved: list[Path] = []
    try:
        return await _login(parts, write_env, timeout_s, saved)
    except asyncio.CancelledError:
        left = ", and it was written nowhere else" if write_env is not None else ""
        became = f"after the login was saved in {saved[0]}{left}" if saved else "nothing was saved"
        _say(f"\nllm-mcp-hub: cancelled, {became}")
        return 128 + (stopped[0] if stopped else signal.SIGINT)
    finally:
        parts.release()


async def _login(parts: LoginParts, write_env: Path | None, timeout_s: float, saved: list[Path]) -> int:
    flow = parts.flow
    written = None
    if write_env is not None:  # what could not be written is told before anybody has made an effort
        written = env_file.check(write_env)
        like_it = flow.exported(MOST_TOKEN_CHARS * "x", datetime.now(UTC), written)
        env_file.rehearse(written, lambda before: with_values(before, like_it.variables))
        for file in like_it.files:
            env_file.check(file)
    _say(f"Logging in to {flow.title}: its own program is started …")
    person = AtTheTerminal(parts.hide)
    try:
        content = await _made(flow, person, timeout_s)
        return await _kept(parts, content, written, saved)
    finally:  # and not before: a second paste, while the login is tried, is not shown either
        person.show_typing()


async def _made(flow: LoginFlow, person: AtTheTerminal, timeout_s: float) -> str:
    """The login as it is kept. Raises HubError."""
    try:
        async with asyncio.timeout(timeout_s):
            return await flow.make(person)
    except TimeoutError as error:
        raise Timeout(
            f"The login was not finished within {timeout_s:.0f} s; nothing was saved.",
            action=f"Run it again when you can open the link, or give yourself longer: llm-mcp-hub login {flow.name} "
            "--timeout 3600",
            provider=flow.name,
        ) from error


async def _kept(parts: LoginParts, content: str, written: Path | None, saved: list[Path]) -> int:
    """Try a login that was made, and save it: then `saved` has where. Returns the exit code. Raises HubError."""
    flow = parts.flow
    issued_at = datetime.now(UTC)
    parts.hide(content)
    _say("Logged in. Trying it with one short question …")
    problem = await _tried(flow.provider(content), flow.name)
    if problem is not None and problem.code in REFUSED:
        _say("It was refused, so nothing was saved; what was there before is left as it was.")
        raise problem
    parts.saved.put(flow.name, Saved(content, issued_at))
    saved.append(parts.saved.path(flow.name))
    await parts.learned(problem)
    _say(f"Saved in {saved[0]}. Running hubs of this state folder take it up by themselves.")
    if written is not None:
        exported = flow.exported(content, issued_at, written)
        for file, text in exported.files.items():
            env_file.rewrite(env_file.check(file), lambda _before, text=text: text)
        told = env_file.rewrite(written, lambda before: with_values(before, exported.variables))
        _say(f"Written to {written}: {', '.join(exported.variables)}." + (f"\n{told}" if told else ""))
    elif parts.shadow:
        _say(parts.shadow)
    if problem is None:
        _say(f"{flow.title} has answered: the login works.")
        return 0
    if not problem.retryable:
        _say(f"{flow.title} does not answer with it yet:")
        raise problem
    _say(f"It is not proven yet: {problem.code}: {problem.message}")
    _say(f"  To try it later: llm-mcp-hub ask {flow.name} hello")
    return 0


async def _tried(provider: Provider, name: str) -> HubError | None:
    """One tiny real ask with the new login and no other. Returns what went wrong."""
    ask = Ask(
        ask_id="login",
        provider=name,
        prompt=CHECK_PROMPT,
        model=provider.traits.default_model,
        system=None,
        timeout_s=CHECK_S,
    )
    try:
        async with asyncio.timeout(CHECK_S), contextlib.aclosing(provider.ask(ask)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return None
    except HubError as error:
        return error
    except TimeoutError:
        return Timeout(f"No answer came within {CHECK_S:.0f} s.", action="Ask again later.", provider=name)
    finally:
        await provider.close()
    return UpstreamError("No answer came.", action="Ask again later.", provider=name)


def _say(text: str) -> None:
    aside(text)  # whoever listened may have hung up


class AtTheTerminal:
    """Whoever reads stderr, opens the link that stands on stdout, and types on stdin: a `Person`."""

    def __init__(self, hide: Callable[[str], None]) -> None:
        self._hide = hide
        self._typed = b""
        self._shown = ""
        self._before: list[Any] | None = None
        # Closed at the start, its number may by now be another file's.
        self._open = sys.__stdin__ is not None
        self._is_terminal = self._open and os.isatty(STDIN)

    async def code(self, url: str, *, note: str) -> str:
        if note:
            _say(f"\n{note}")
        if url != self._shown:
            _say("\nOpen this link in any browser, on any machine, and log in there:\n")
            say(url)
            self._shown = url
        self._hide_typing()
        while True:
            _say("\nPaste the code that the page shows, and press Enter (it is not shown here; q ends it):")
            code = "".join((await self._line()).split())
            if self._is_terminal and code.lower() in QUIT:
                raise asyncio.CancelledError
            if code:
                self._hide(code)
                return code

    def _hide_typing(self) -> None:
        """What is typed at a terminal is not shown from now on: it may be recorded. What was typed is thrown away."""
        if not self._is_terminal or sys.platform == "win32":
            return
        import termios

        now = termios.tcgetattr(STDIN)
        self._before = self._before or now
        silent = list(now)
        silent[3] = now[3] & ~termios.ECHO
        termios.tcsetattr(STDIN, termios.TCSAFLUSH, silent)
        self._typed = b""

    def show_typing(self) -> None:
        """The terminal as it was."""
        if self._before is not None and sys.platform != "win32":
            import termios

            termios.tcsetattr(STDIN, termios.TCSADRAIN, self._before)
            self._before = None

    async def _line(self) -> str:
        """The next line of stdin, or what stands before its end. Raises InvalidRequest where there is none."""
        while b"\n" not in self._typed:
            more = await self._more()
            if not more:
                if not self._typed:
                    if os.isatty(STDIN):  # Ctrl-D
                        raise asyncio.CancelledError
                    raise InvalidRequest(
                        "No code came: stdin has ended. Nothing was saved.",
                        action="Run it in a terminal (a container has one with -it), or write the code into stdin.",
                    )
                break
            self._typed += more
            if len(self._typed) > LONGEST:
                raise InvalidRequest(
                    "What came on stdin is no code. Nothing was saved.", action="Paste the code alone, then Enter."
                )
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace")

    async def _more(self) -> bytes:
        """What stdin has, as soon as it has anything; the loop goes on meanwhile. Nothing at its end."""
        if not self._open:
            return b""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            waits = not stat.S_ISREG(os.fstat(STDIN).st_mode)
            if waits:
                loop.add_reader(STDIN, ready.set)
        except OSError:  # closed, or a device that cannot be waited for and never makes one wait, such as /dev/null
            waits = False
        try:
            if waits:
                await ready.wait()
            return os.read(STDIN, CHUNK)
        except OSError:
            return b""
        finally:
            if waits:
                loop.remove_reader(STDIN)
