"""Composition of the commands that need other parts than a hub: the doctor's looks, and a login."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from llm_mcp_hub import preconditions, state_folder
from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.children.terminal import HERE
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.ledger import Ledger
from llm_mcp_hub.credentials.monitor import Monitor
from llm_mcp_hub.credentials.saved import SavedLogins
from llm_mcp_hub.credentials.steady import Reader
from llm_mcp_hub.errors import Busy, HubError
from llm_mcp_hub.finding import Finding, Look, told
from llm_mcp_hub.main import (
    VERSION,
    anthropic_logins,
    build_hub,
    google_logins,
    hidden,
    http_findings,
    open_store,
    run_folder,
)
from llm_mcp_hub.observe import logs
from llm_mcp_hub.providers import claude_doctor, gemini_doctor, gemini_install, gemini_project
from llm_mcp_hub.providers.claude import ClaudeProvider
from llm_mcp_hub.providers.claude_login import ClaudeLogin
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from llm_mcp_hub.providers.gemini_child import no_terminal
from llm_mcp_hub.providers.gemini_login import GeminiLogin
from llm_mcp_hub.providers.login import LoginFlow
from llm_mcp_hub.settings import Settings

DOCTOR_STORE_S = 5.0
"""An ask does not wait for a Redis that takes so long; whether it is there at all is another question."""
HANGS_S = 2.0
"""How long the doctor waits for a hub that looks through what dead ones have left."""


@contextlib.contextmanager
def preconditions_of(env_file: Path | None) -> Generator[dict[str, Look]]:
    """What the doctor looks at, in the order in which it is shown; by what to call a look that fails."""
    examined, around = settings_module.examine(env_file), surroundings()
    settings = examined.settings
    state = settings.hub_state_dir
    stamps = preconditions.stamps(state, Path(__file__))  # before this hub makes its own
    run: RunFolder | None = None
    home = Path(os.devnull)
    hangs: Busy | None = None
    try:
        run = RunFolder(state, within_s=HANGS_S)
        home = run.new_home("doctor")
    except Busy as error:  # a hub of ours would only wait for it once more
        hangs = error
    except (OSError, HubError):  # one of the looks tells it
        pass

    async def logins() -> AsyncGenerator[Finding]:
        if hangs is not None:  # an ask would wait for longer
            yield told("logins", hangs, "warning")
            return
        async with build_hub(settings, dead=() if run is None else run.dead()) as hub:
            for name, status in (await hub.token_status()).items():
                yield preconditions.login(name, status)

    try:
        yield {
            "hub": lambda: preconditions.itself(VERSION),
            "settings": lambda: preconditions.settings(
                examined.wrong, examined.sources, examined.mistyped, examined.unread
            ),
            "state-folder": lambda: preconditions.state(state),
            "clock": lambda: preconditions.clock(state, stamps),
            "store": preconditions.shared(lambda: open_store(settings, away_after_s=DOCTOR_STORE_S)),
            "proxy": preconditions.proxies(around),
            "certificates": lambda: preconditions.certificates(around),
            "file-roots": lambda: preconditions.file_roots(settings.hub_file_roots),
            "git": lambda: preconditions.git(around),
            "http": lambda: http_findings(settings),
            "claude": claude_doctor.findings(around=around, home=home, upstream=settings.hub_claude_upstream),
            "gemini": gemini_doctor.findings(
                around=around,
                home=home,
                command=settings.hub_gemini_command,
                own=None
                if run is None and hangs is None
                else gemini_install.folder(state),  # nothing is started that others left
                project=settings.gemini_project,
                upstream=settings.hub_gemini_upstream,
            ),
            "logins": logins(),
        }
    finally:
        if run is not None:
            run.close()


@dataclass(frozen=True, slots=True)
class LoginParts:
    """What `login` needs for one provider."""

    flow: LoginFlow
    saved: SavedLogins
    hide: Callable[[str], None]
    """Keeps a value out of the log."""
    shadow: str
    """What the user is told where a setting comes before what is saved; "" where none does."""
    learned: Callable[[HubError | None], Awaitable[None]]
    """Writes down what the saved login has shown: that it answered, or why it did not, and the day it was made."""
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class GeminiCli:
    """What `setup` needs to see to the Gemini CLI."""

    wanted: str
    """The version that it installs."""
    folder: Path
    state: Literal["there", "installs", "foreign"]
    found: Finding
    install: Callable[[Callable[[str], None]], Awaitable[Path]]
    """Tells how far it is. Raises CliMissing."""


async def gemini_cli(settings: Settings) -> GeminiCli:
    """The Gemini CLI that asks would use, and how one is installed. Raises Misconfigured where none can be used."""
    if not HERE:
        raise no_terminal()
    state_folder.check(settings.hub_state_dir)
    around, own = surroundings(), gemini_install.folder(settings.hub_state_dir)
    command = settings.hub_gemini_command
    with tempfile.TemporaryDirectory() as home:
        state, found = await gemini_doctor.used_cli(around=around, home=Path(home), command=command, own=own)
    broken = state == "installs" and gemini_install.installed(own, pinned=True) is not None

    def install(tell: Callable[[str], None]) -> Awaitable[Path]:
        return gemini_install.install(own, around, again=broken, tell=tell)

    return GeminiCli(gemini_install.wanted(), own, state, found, install)


def project_around() -> tuple[str, str] | None:
    """The variable that names a Google Cloud project, and the project: the hub itself hands on none of them."""
    around = surroundings()
    return next(((name, around[name]) for name in gemini_doctor.PROJECTS if around.get(name)), None)


def check_project(project: str, name: str = "GEMINI_PROJECT") -> None:
    """Raise Misconfigured for what can be no project's id; `name`: of the variable that holds it."""
    gemini_project.check_project(project, name)


def build_login(settings: Settings, provider: str) -> LoginParts:
    """The way to a login of that provider, and the place where it is kept. Raises Misconfigured as `build_hub` does."""
    around = surroundings()
    own = gemini_install.folder(settings.hub_state_dir)
    run = run_folder(settings)

    def hide(secret: str) -> None:
        logs.hide(secret)
        hidden(Held("The new login", None, "login", "", secret=secret))

    def claude_with(token: str) -> ClaudeProvider:
        return ClaudeProvider(
            run=run,
            around=around,
            token=lambda: token,
            default_model=settings.claude_model,
            warm_clients=0,
            allow_overage=settings.hub_allow_overage,
            upstream=settings.hub_claude_upstream,
            version=VERSION,
        )

    def gemini_with(login: str) -> GeminiProvider:
        return GeminiProvider(
            run=run,
            around=around,
            login=lambda: Login(login.encode(), "new"),
            default_model=settings.gemini_model,
            command=settings.hub_gemini_command,
            own=own,
            project=settings.gemini_project,
            upstream=settings.hub_gemini_upstream,
        )

    shadow = ""
    flow: LoginFlow
    if provider == "claude":
        flow = ClaudeLogin(run=run, around=around, provider=claude_with)
        if settings.claude_code_oauth_token is not None:
            first = settings.origin("CLAUDE_CODE_OAUTH_TOKEN")
            shadow = f"{first} is set and comes before what is saved: unset it, or use --write-env FILE."
    else:
        flow = GeminiLogin(
            run=run,
            around=around,
            provider=gemini_with,
            model=settings.gemini_model,
            command=settings.hub_gemini_command,
            own=own,
            project=settings.gemini_project,
            upstream=settings.hub_gemini_upstream,
        )
    saved = SavedLogins(settings.hub_state_dir)

    async def learned(problem: HubError | None) -> None:
        reader: Reader = (
            anthropic_logins(settings, around, saved) if provider == "claude" else google_logins(settings, saved)
        )
        store = open_store(settings)
        try:
            login = Monitor(reader, Ledger(store, provider), alert=timedelta(days=settings.hub_alert_days))
            await login.look()
            for held in reader.held():
                if held.credential is not None and held.credential.source == "saved":
                    await (login.worked(held.mark) if problem is None else login.failed(held.mark, problem))
        finally:
            await store.close()

    return LoginParts(flow, saved, hide, shadow, learned, run.close)


def unseen_by_a_client(title: str, env_file: Path | None) -> tuple[str, ...]:
    """What a hub that this MCP client starts will not find, though this shell may have it; a sentence each.

    Raises Misconfigured as the settings do.
    """
    started = settings_module.load(env_file, {})
    names = {field.upper() for field in Settings.model_fields}
    exported = {name for name, value in surroundings().items() if value and name.removesuffix("_FILE") in names}
    told: list[str] = []
    saved = SavedLogins(started.hub_state_dir)
    with contextlib.suppress(OSError):  # what this user may not look at counts as there
        if saved.get("gemini") is None and not started.gemini_auth_path.exists():
            told.append("No Gemini login is saved, which its ask_gemini would need: run `llm-mcp-hub login gemini`.")
    if started.claude_code_oauth_token is None and saved.get("claude") is None:
        told.append("No Claude login is saved, which its ask_claude would need: run `llm-mcp-hub login claude`.")
        if "CLAUDE_CODE_OAUTH_TOKEN" in exported:
            told.append(
                "An exported CLAUDE_CODE_OAUTH_TOKEN is not enough: Claude Code takes it away from what it starts, and "
                "programs with a window see nothing of a shell."
            )
    here = settings_module.examine(env_file, surroundings())
    alike = {name for name in exported if not here.wrong and _value(started, name) == _value(here.settings, name)}
    if others := sorted(exported - alike - {"CLAUDE_CODE_OAUTH_TOKEN"}):
        file = env_file or settings_module.own_file()
        them = "it" if len(others) == 1 else "them"
        told.append(
            f"Set in this shell alone, which {title} may not hand on: {', '.join(others)}. Put {them} into {file}"
        )
    return tuple(told)


def _value(settings: Settings, variable: str) -> object:
    return getattr(settings, variable.removesuffix("_FILE").lower())
