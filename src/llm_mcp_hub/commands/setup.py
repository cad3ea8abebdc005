"""`llm-mcp-hub setup`: the first run, step by step. Each can be left out, and leaves alone what is done already.

There is no record of where it was: every step looks at what is there. So it goes on where it was interrupted, and a
second run only tells. A step that fails ends no other one. Whatever wants a person's word is asked at a terminal; where
there is none, it is left out unless `--yes` was given, and told.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.commands import doctor, env_file, json_edit
from llm_mcp_hub.commands.install import Installed, found_clients, install
from llm_mcp_hub.commands.stdout import say
from llm_mcp_hub.commands.words import QUIT
from llm_mcp_hub.credentials.status import TokenStatus
from llm_mcp_hub.env_text import with_values
from llm_mcp_hub.errors import CliMissing, HubError
from llm_mcp_hub.settings import Settings, own_file

PROMPT = "Answer with the one word: ready"
ASK_S = 120.0
AGAIN = "llm-mcp-hub setup"
YES = ("y", "yes", "ㅛ", "네", "예")
"""The third is what the key of y types on a Korean keyboard; that of n below."""
NO = ("n", "no", "ㅜ", "아니오", "아니요")
CLI = "Gemini CLI"
TITLES = {"claude": "Claude", "gemini": "Gemini"}


class _LeftOut(Exception):
    """A step was not taken."""

    def __init__(self, why: str, then: str = "") -> None:
        """
        Args:
            why: in a few words.
            then: the command that takes it later, if there is one.
        """
        super().__init__(f"left out: {why}" + (f"; later: {then}" if then else ""))
        self.then = then


@dataclass
class _Told:
    """What came of the steps: for the last lines."""

    changed: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    later: list[str] = field(default_factory=list[str])
    failed: list[tuple[str, HubError]] = field(default_factory=list[tuple[str, HubError]])
    blocking: str = ""

    def leave_out(self, title: str, why: _LeftOut) -> None:
        """Note a step that was not taken."""
        self.left.append(title)
        self.later += [why.then] if why.then else []


def run(env_file_named: Path | None, steps: Sequence[str], *, skip: Sequence[str], yes: bool) -> int:
    """Lead through all steps. Returns the exit code: 1 where something blocks an ask, or a step has failed.

    Args:
        env_file_named: the file that --env-file names; the hub's own by default.
        steps: their names, in their order.
        skip: names of steps to leave out.
        yes: take every step without asking.
    """
    return _Setup(env_file_named, frozenset(skip), yes).run(steps)


class _Setup:
    def __init__(self, env_file_named: Path | None, skip: frozenset[str], yes: bool) -> None:
        self._env_file = env_file_named
        self._skip = skip
        self._yes = yes
        self._person = sys.stdin is not None and sys.stdin.isatty()
        self._told = _Told()
        self._interrupted = 0

    def run(self, names: Sequence[str]) -> int:
        steps: dict[str, tuple[str, Callable[[], None]]] = {
            "gemini-cli": (CLI, self._cli),
            "project": ("Google Cloud project", self._project),
            "login-claude": ("Claude's login", lambda: self._login("claude")),
            "login-gemini": ("Gemini's login", lambda: self._login("gemini")),
            "clients": ("MCP clients", self._clients),
            "ask": ("one ask", self._ask),
            "doctor": ("everything that an ask needs", self._doctor),
        }
        self._settings()  # what is wrong with them would stand in the way of each step: it is told once, and first
        try:
            for number, name in enumerate(names, 1):
                title, step = steps[name]
                say(f"{number}/{len(names)} {title} …")
                self._take(name, title, step)
                if self._interrupted:
                    break
        except (KeyboardInterrupt, asyncio.CancelledError):  # the second: a SIGTERM while the doctor looks
            self._interrupted = 130
        if self._interrupted:
            say(f"\nStopped. What is done stays done; to go on, run: {AGAIN}")
            return self._interrupted
        return self._end()

    def _take(self, name: str, title: str, step: Callable[[], None]) -> None:
        try:
            (self._left_out_by_name if name in self._skip else step)()
        except _LeftOut as why:
            say(f"    {why}")
            self._told.leave_out(title, why)
        except HubError as error:
            say(f"    {error.code}: {error.message}\n    → {error.action}")
            self._told.failed.append((title, error))

    def _end(self) -> int:
        told = self._told
        say("")
        if not (told.changed or told.left or told.failed):
            say("Everything was done already.")
        elif told.changed:
            say(f"Done now: {', '.join(told.changed)}.")
        if told.left:
            say(f"Left out: {', '.join(told.left)}.")
        if told.failed:
            say(f"Failed: {', '.join(f'{title} ({error.code})' for title, error in told.failed)}.")
            say(f"Next: {told.failed[0][1].action}")
        elif told.later or told.blocking:
            step = (told.later or [told.blocking])[0]
            left = " without leaving a step out" if not told.later and AGAIN in step else ""  # it is what runs now
            say(f"Next: {step}{left}")
        else:
            say('Next: llm-mcp-hub ask claude "What is a pseudo-terminal?"')
        return 1 if told.failed or told.blocking else 0

    def _settings(self) -> Settings:
        """As they are now: a step may have written one. Raises Misconfigured."""
        return settings_module.load(self._env_file)

    def _agrees(self, question: str, then: str, *, default: bool = True) -> None:
        """Ask for a person's word. Raises _LeftOut where it is not given; `then` is what takes the step later."""
        if self._yes and default:
            return
        if self._yes:
            raise _LeftOut("--yes does not answer for you whether it is so", then)
        if not self._person:
            raise _LeftOut("nobody can be asked here", f"{AGAIN} --yes" if default else then)
        while (word := _word(f"    {question} {'[Y/n]' if default else '[y/N]'} ")) not in {*YES, *NO, ""}:
            if word in QUIT:
                raise KeyboardInterrupt
            say("    Answer y or n; q ends setup.")
        if word not in YES and not (default and not word):
            raise _LeftOut("as you say", then)

    def _left_out_by_name(self) -> None:
        raise _LeftOut("--skip")

    # -- the steps --------------------------------------------------------------------------------------------------

    def _cli(self) -> None:
        from llm_mcp_hub import main_commands as composition

        cli = asyncio.run(composition.gemini_cli(self._settings()))
        if cli.state == "there":
            say(f"    there already: {cli.found.message}")
            return
        if cli.state == "foreign":
            raise CliMissing(f"{cli.found.message}; setup leaves it alone.", action=cli.found.action)
        self._agrees(
            f"Install Gemini CLI {cli.wanted} by npm into {cli.folder} (about 100 MB)?",
            f"npm install -g @google/gemini-cli@{cli.wanted}",
        )
        say(f"    npm installs Gemini CLI {cli.wanted} …")
        path = asyncio.run(_awaited(cli.install(lambda text: say(f"    {text}"))))
        say(f"    installed: {path}")
        self._told.changed.append(f"Gemini CLI {cli.wanted}")

    def _project(self) -> None:
        from llm_mcp_hub import main_commands as composition

        settings = self._settings()
        if settings.gemini_project is not None:
            composition.check_project(settings.gemini_project)
            say(f"    there already: GEMINI_PROJECT is {settings.gemini_project}")
            return
        found = composition.project_around()
        if found is None:
            say("    none is set, and most accounts need none")
            return
        name, project = found
        composition.check_project(project, name)
        say(f"    {name} is {project}. The hub hands on no project but GEMINI_PROJECT.")
        file = self._env_file or own_file()
        self._agrees(
            "Does your Gemini Code Assist licence (Standard, Enterprise) hang on this project?",
            f"put GEMINI_PROJECT={project} into {file}, if it does",
            default=False,
        )
        if self._env_file is None:
            _own_folder(file.parent)
        told = env_file.rewrite(env_file.check(file), lambda text: with_values(text, {"GEMINI_PROJECT": project}))
        say(f"    written: GEMINI_PROJECT={project} in {file}" + (f"\n    {told}" if told else ""))
        self._told.changed.append("GEMINI_PROJECT")

    def _login(self, provider: str) -> None:
        from llm_mcp_hub.commands import login

        command = f"llm-mcp-hub login {provider}"
        status = self._known()[provider]
        if status.usable:
            say(f"    there already: {status.message}" + (f"\n    → {status.action}" if status.action else ""))
            return
        say(f"    {status.message}")
        if provider == "gemini" and any(title == CLI for title, _ in self._told.failed):
            raise _LeftOut(f"it needs the {CLI}", command)
        if not self._person:
            raise _LeftOut("a login needs a person at a terminal", command)
        self._agrees(f"Log in to {TITLES[provider]} now? It takes a browser, on this machine or any other.", command)
        code = login.run(self._settings(), provider, write_env=None, timeout_s=login.USUAL_S)
        if code:
            self._interrupted = code
        else:
            self._told.changed.append(f"{TITLES[provider]}'s login")

    def _clients(self) -> None:
        clients = found_clients()
        if not clients:
            say("    no client that the hub knows was found here; see: llm-mcp-hub install --help")
            return
        for client in clients:
            try:
                self._client(client)
            except _LeftOut as why:
                say(f"    {client}: {why}")
                self._told.leave_out(client, why)
            except HubError as error:
                say(f"    {client}: {error.code}: {error.message}\n    → {error.action}")
                self._told.failed.append((client, error))

    def _client(self, client: str) -> None:
        if _stands_there(install(client, printed=True, env_file=self._env_file)):
            say(f"    {client}: there already")
            return
        self._agrees(f"Put the hub into the configuration of {client}?", f"llm-mcp-hub install {client}")
        done = install(client, env_file=self._env_file)
        kept = f", what was there before is in {done.backup}" if done.backup else ""
        say(f"    {client}: written to {done.path}{kept}")
        for step in done.next_steps:
            say(f"    → {step}")
        self._told.changed.append(client)

    def _ask(self) -> None:
        known = self._known()
        usable = [name for name, status in known.items() if status.usable]
        if not usable:
            raise _LeftOut("there is no login that could be used")
        unproven = [name for name in usable if (found := known[name].evidence) is None or found.level != "proven"]
        for name in usable:
            if name not in unproven:
                say(f"    {TITLES[name]} has answered already")
        if not unproven:
            return
        names = " and ".join(TITLES[name] for name in unproven)
        self._agrees(
            f"Put one small question to {names}? It spends a little of your subscription.",
            f"llm-mcp-hub ask {unproven[0]} hello",
        )
        for name in unproven:
            try:
                answer = asyncio.run(self._answer(name))
            except HubError as error:
                say(f"    {TITLES[name]}: {error.code}: {error.message}\n    → {error.action}")
                self._told.failed.append((f"an answer of {TITLES[name]}", error))
            else:
                say(f"    {TITLES[name]} has answered: {answer}")
                self._told.changed.append(f"an answer of {TITLES[name]}")

    async def _answer(self, provider: str) -> str:
        from llm_mcp_hub import main as composition

        async with composition.build_hub(self._settings()) as hub:
            answer = await hub.ask(hub.new_ask(provider, PROMPT, timeout_s=ASK_S))
        return " ".join(answer.text.split())[:60]

    def _doctor(self) -> None:
        findings = doctor.look(self._env_file)
        shown = [finding for finding in findings if finding.state != "ok"]
        for line in doctor.as_text(shown).strip().splitlines():
            say(f"    {line}".rstrip())
        blocking = [finding for finding in shown if finding.state == "blocks"]
        if blocking:
            self._told.blocking = blocking[0].action

    def _known(self) -> dict[str, TokenStatus]:
        from llm_mcp_hub.commands.status import looked

        return asyncio.run(looked(self._settings(), verify=False))


def _word(question: str) -> str:
    """What somebody types; at the end of stdin what ends it all."""
    say(question, end="")
    try:
        _wait_for(sys.stdin.fileno())
        answer = sys.stdin.readline()
    except UnicodeDecodeError:  # a word of another encoding
        return "?"
    if not answer:  # Ctrl-D
        say("")
        return QUIT[0]
    return answer.strip().lower()


def _wait_for(stdin: int) -> None:
    """Until a line is there, or a Ctrl-C comes: one in the instant before a read begins would not end that read."""
    if sys.platform == "win32":  # select takes sockets alone there
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        while stdin not in select.select([stdin, heard], [], [])[0]:
            os.read(heard, 1)  # of a signal that somebody handles and that ends nothing
    finally:
        signal.set_wakeup_fd(before)
        os.close(heard)
        os.close(told)


async def _awaited(work: Awaitable[Path]) -> Path:
    return await work


def _stands_there(planned: Installed) -> bool:
    """Whether what would be written into a client's file is in it."""
    try:
        held = json_edit.read(planned.path.read_text("utf-8-sig"))
        wanted = json_edit.read(planned.text)
    except (OSError, UnicodeError, json_edit.Unreadable):
        return False
    for outer, own in wanted.items():
        inner: Any = held.get(outer)
        if not isinstance(inner, dict) or not own.items() <= cast("dict[str, Any]", inner).items():
            return False
    return True


def _own_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return  # `env_file.check` tells it
