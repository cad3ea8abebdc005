"""Composition root: settings → children's folder → credentials → providers → hub → app. The one place that names them.

`llm_mcp_hub.main:app` is the ASGI app for any server (`uvicorn llm_mcp_hub.main:app`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.credentials.alerts import Alerts, Sink
from llm_mcp_hub.credentials.claude import ClaudeCredentials
from llm_mcp_hub.credentials.gemini import GeminiCredentials
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.ledger import Ledger
from llm_mcp_hub.credentials.monitor import Monitor, Reader, now
from llm_mcp_hub.credentials.saved import SavedLogins
from llm_mcp_hub.errors import HubError, Misconfigured
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.material import Material, default_roots
from llm_mcp_hub.observe import logs
from llm_mcp_hub.providers.claude import ClaudeProvider
from llm_mcp_hub.providers.claude_login import ClaudeLogin
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from llm_mcp_hub.providers.gemini_login import GeminiLogin
from llm_mcp_hub.providers.login import LoginFlow
from llm_mcp_hub.settings import Settings

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette

    from llm_mcp_hub.finding import Finding, Look
    from llm_mcp_hub.serving.auth import Book, Clients
    from llm_mcp_hub.serving.resources import Updates
    from llm_mcp_hub.store.base import Store

VERSION = version("llm-mcp-hub")
PROVIDERS = ("claude", "gemini")
"""The table of `build_hub` by its names, for those who need no hub."""
DOCTOR_STORE_S = 5.0
"""An ask does not wait for a Redis that takes so long; whether it is there at all is another question."""
WEBHOOK_CLOSE_S = 3.0
"""Less than what a stdio hub has for its whole end."""


def build_hub(settings: Settings, *, roots: Sequence[Path] = (), dead: Sequence[str] = ()) -> Hub:
    """The hub with both providers; files are read from `roots` where no setting names others.

    `dead` names hubs that are known to have died, beside those whose folders are found ownerless.
    Raises Misconfigured when the state folder cannot be used.
    """
    around = surroundings()
    run = _run_folder(settings, dead)
    for secret in settings.secrets():
        logs.hide(secret)
    store = _store(settings)
    saved = SavedLogins(settings.hub_state_dir)
    alert = timedelta(days=settings.hub_alert_days)
    anthropic, google = _anthropic(settings, around, saved), _google(settings, saved)
    claude_login = Monitor(anthropic, Ledger(store, "claude"), alert=alert)
    gemini_login = Monitor(google, Ledger(store, "gemini"), alert=alert)

    def token() -> str:
        return _hidden(claude_login.secret()).secret

    def login_copy() -> Login:
        found = _hidden(gemini_login.secret())
        return Login(found.secret.encode("utf-8", "surrogateescape"), found.mark)

    claude = ClaudeProvider(
        run=run,
        around=around,
        token=token,
        default_model=settings.claude_model,
        warm_clients=settings.hub_claude_warm,
        allow_overage=settings.hub_allow_overage,
        upstream=settings.hub_claude_upstream,
        version=VERSION,
    )
    gemini = GeminiProvider(
        run=run,
        around=around,
        login=login_copy,
        default_model=settings.gemini_model,
        command=settings.hub_gemini_command,
        project=settings.gemini_project,
        upstream=settings.hub_gemini_upstream,
        renewed=google.renewed,
    )
    for provider in (claude, gemini):
        if not provider.traits.accepts(provider.traits.default_model):
            raise Misconfigured(
                f"{provider.traits.name.upper()}_MODEL is no model name of {provider.traits.title}.",
                action=f"Set it to {provider.traits.model_hint}.",
            )
    return Hub(
        {
            "claude": Entry(claude, claude_login, settings.hub_claude_concurrency, settings.hub_allow_overage),
            "gemini": Entry(gemini, gemini_login, settings.hub_gemini_concurrency),
        },
        store=store,
        deadlines=Deadlines(
            whole=settings.hub_ask_timeout_s,
            first_text=settings.hub_first_text_timeout_s,
            idle=settings.hub_idle_timeout_s,
        ),
        queue_limit=settings.hub_queue_limit,
        material=Material(
            roots if settings.hub_file_roots is None else settings.hub_file_roots,
            around=around,
            closed=(settings.hub_state_dir, settings.clients_file, settings.gemini_auth_path.parent),
            scratch=run.path,
        ),
        retention_s=settings.hub_retention_days * 86_400,
        instance=run.name,
        dead=run.dead,
        alerts=Alerts(store, _sinks(settings)),
        release=run.close,
    )


def _anthropic(settings: Settings, around: Mapping[str, str], saved: SavedLogins) -> ClaudeCredentials:
    return ClaudeCredentials(
        token=lambda: settings.secret("CLAUDE_CODE_OAUTH_TOKEN"),
        where=settings.origin("CLAUDE_CODE_OAUTH_TOKEN"),
        issued_at=settings.claude_token_issued_at,
        own_login=Path(around.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / ".credentials.json",
        saved=saved,
        now=now,
    )


def _google(settings: Settings, saved: SavedLogins) -> GeminiCredentials:
    return GeminiCredentials(path=settings.gemini_auth_path, saved=saved, now=now, project=settings.gemini_project)


def _hidden(held: Held) -> Held:
    """A login on its way to a child; the log never shows it from here on, whatever happens."""
    for secret in held.secrets():
        logs.hide(secret)
    return held


def _sinks(settings: Settings) -> list[Sink]:
    """Where alerts go beside the log."""
    if settings.hub_alert_webhook_url is None:
        return []
    from llm_mcp_hub.credentials.webhook import Webhook

    secret = settings.hub_alert_webhook_secret
    url = settings.hub_alert_webhook_url.get_secret_value()
    return [Webhook(url, None if secret is None else secret.get_secret_value(), close_s=WEBHOOK_CLOSE_S)]


def _run_folder(settings: Settings, dead: Sequence[str] = ()) -> RunFolder:
    try:
        return RunFolder(settings.hub_state_dir, swept=dead)
    except OSError as error:
        raise Misconfigured(
            f"The state folder {settings.hub_state_dir} cannot be used ({error.strerror}).",
            action="Set HUB_STATE_DIR to a folder that this user can write.",
        ) from error


def _store(settings: Settings, *, away_after_s: float | None = None) -> Store:
    """What this hub shares with others: by a file of this machine, or by Redis, which else is away after that long."""
    if settings.redis_url is not None:
        from llm_mcp_hub.store.redis import RedisStore

        url = settings.redis_url.get_secret_value()
        return RedisStore(url) if away_after_s is None else RedisStore(url, timeout_s=away_after_s)
    from llm_mcp_hub.store.sqlite import SqliteStore

    return SqliteStore(settings.hub_state_dir)


@contextlib.contextmanager
def preconditions_of(env_file: Path | None) -> Generator[dict[str, Look]]:
    """What the doctor looks at, in the order in which it is shown; by what to call a look that fails."""
    from llm_mcp_hub import preconditions
    from llm_mcp_hub.providers import claude_doctor, gemini_doctor

    examined, around = settings_module.examine(env_file), surroundings()
    settings = examined.settings
    state = settings.hub_state_dir
    stamps = preconditions.stamps(state, Path(__file__))  # before this hub makes its own
    run: RunFolder | None = None
    home = Path(os.devnull)
    with contextlib.suppress(OSError):  # one of the looks tells it
        run = RunFolder(state)
        home = run.new_home("doctor")

    async def logins() -> AsyncGenerator[Finding]:
        async with build_hub(settings, dead=() if run is None else run.dead()) as hub:
            for name, status in (await hub.token_status()).items():
                yield preconditions.login(name, status)

    try:
        yield {
            "hub": lambda: preconditions.itself(VERSION),
            "settings": lambda: preconditions.settings(examined.wrong, examined.sources),
            "state-folder": lambda: preconditions.state_folder(state),
            "clock": lambda: preconditions.clock(state, stamps),
            "store": preconditions.shared(lambda: _store(settings, away_after_s=DOCTOR_STORE_S)),
            "proxy": preconditions.proxies(around),
            "certificates": lambda: preconditions.certificates(around),
            "file-roots": lambda: preconditions.file_roots(settings.hub_file_roots),
            "git": lambda: preconditions.git(around),
            "http": lambda: _http(settings),
            "claude": claude_doctor.findings(around=around, home=home, upstream=settings.hub_claude_upstream),
            "gemini": gemini_doctor.findings(
                around=around,
                home=home,
                command=settings.hub_gemini_command,
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


def build_login(settings: Settings, provider: str) -> LoginParts:
    """The way to a login of that provider, and the place where it is kept. Raises Misconfigured as `build_hub` does."""
    around = surroundings()
    run = _run_folder(settings)

    def hide(secret: str) -> None:
        logs.hide(secret)
        _hidden(Held("The new login", None, "login", "", secret=secret))

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
            project=settings.gemini_project,
            upstream=settings.hub_gemini_upstream,
        )
    saved = SavedLogins(settings.hub_state_dir)

    async def learned(problem: HubError | None) -> None:
        reader: Reader = _anthropic(settings, around, saved) if provider == "claude" else _google(settings, saved)
        store = _store(settings)
        try:
            login = Monitor(reader, Ledger(store, provider), alert=timedelta(days=settings.hub_alert_days))
            await login.look()
            for held in reader.held():
                if held.credential is not None and held.credential.source == "saved":
                    await (login.worked(held.mark) if problem is None else login.failed(held.mark, problem))
        finally:
            await store.close()

    return LoginParts(flow, saved, hide, shadow, learned, run.close)


def editors_roots() -> tuple[Path, ...]:
    """The files of whatever project an editor started this hub in."""
    return default_roots(surroundings(), Path.cwd(), Path.home())


def build_server(hub: Hub, settings: Settings, updates: Updates | None = None) -> Server[Any]:
    """The MCP server of a hub. `updates`: who watches its logins; over HTTP they are given, and callers differ."""
    from llm_mcp_hub.serving.tools import build_server as build
    from llm_mcp_hub.serving.tools import by_request, the_owner

    who = the_owner if updates is None else by_request
    return build(hub, VERSION, wait_s=settings.hub_wait_s, updates=updates, who=who)


def clients_of(settings: Settings) -> Clients:
    """Who may use the hub over HTTP."""
    from llm_mcp_hub.serving.auth import Clients

    return Clients(settings.clients_file, expected=settings.hub_clients_file is not None)


def _check_address(settings: Settings, book: Book | None) -> None:
    """Raise Misconfigured where others could reach a hub that cannot tell who they are, and by which name."""
    if settings.loopback_only:
        return
    missing: list[tuple[str, str]] = []
    if book is None or not book.clients:
        missing.append(("a client token", "run llm-mcp-hub client add NAME"))
    if not settings.hub_allowed_hosts:
        missing.append(("HUB_ALLOWED_HOSTS", "set HUB_ALLOWED_HOSTS to the name that clients call the hub by"))
    if missing:
        raise Misconfigured(
            f"HUB_HOST is {settings.hub_host}, which other machines can reach, and {_and(what for what, _ in missing)} "
            "is missing: the hub would lend the owner's subscriptions to the network.",
            action=f"To serve others {_and(step for _, step in missing)}; else set HUB_HOST=127.0.0.1.",
        )


def _and(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def _http(settings: Settings) -> list[Finding]:
    """Who can reach `serve`, or why it would not start."""
    from llm_mcp_hub import preconditions

    book = clients_of(settings).current()
    _check_address(settings, book)
    names = None if book is None else tuple(book.clients)
    return preconditions.http(settings.hub_host, settings.hub_port, settings.loopback_only, names)


def build_app(settings: Settings) -> Starlette:
    """The ASGI app. Raises Misconfigured for an address that others could reach, and for what stops a hub."""
    from llm_mcp_hub.observe.metrics import Metrics
    from llm_mcp_hub.serving.http import build_app as build
    from llm_mcp_hub.serving.resources import Updates

    clients = clients_of(settings)
    _check_address(settings, clients.current())
    first = build_hub(settings)  # what is wrong is told now, in one sentence: in a lifespan it would be a traceback
    first.kill()
    updates = Updates()
    return build(
        lambda: build_hub(settings, dead=first.dead),
        lambda hub: build_server(hub, settings, updates),
        scrape=Metrics().scrape,
        updates=updates,
        clients=clients,
        hosts=settings.hub_allowed_hosts,
        origins=settings.hub_allowed_origins,
        drain_s=settings.hub_drain_s,
    )


def __getattr__(name: str) -> object:
    if name == "app":  # made when a server asks for it, not when the module is imported
        settings = settings_module.load()
        logs.configure(settings.log_level, settings.hub_log_format)
        return build_app(settings)
    raise AttributeError(name)
