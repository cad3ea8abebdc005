"""Composition root: settings → run folder → store → credentials → providers → hub → app. The place that names them all.

`llm_mcp_hub.main:app` is the ASGI app for any server (`uvicorn llm_mcp_hub.main:app`).
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub import starting, state_folder
from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.credentials.alerts import Alerts, Sink
from llm_mcp_hub.credentials.claude import ClaudeCredentials
from llm_mcp_hub.credentials.gemini import GeminiCredentials
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.ledger import Ledger
from llm_mcp_hub.credentials.monitor import Monitor, now
from llm_mcp_hub.credentials.saved import SavedLogins
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.material.gathering import Material, default_roots
from llm_mcp_hub.observe import logs
from llm_mcp_hub.observer import Observer
from llm_mcp_hub.providers import gemini_install
from llm_mcp_hub.providers.claude import ClaudeProvider
from llm_mcp_hub.providers.claude_guard import check_managed_settings
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from llm_mcp_hub.settings import Settings

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette

    from llm_mcp_hub.finding import Finding
    from llm_mcp_hub.serving.auth import Book, Clients
    from llm_mcp_hub.serving.detached import Detached
    from llm_mcp_hub.serving.limits import Limits
    from llm_mcp_hub.serving.resources import Updates
    from llm_mcp_hub.store.base import Store

log = structlog.stdlib.get_logger("llm_mcp_hub.main")
VERSION = version("llm-mcp-hub")
PROVIDERS = ("claude", "gemini")
"""The table of `build_hub` by its names, for those who need no hub."""
WEBHOOK_CLOSE_S = 3.0
"""Less than what a stdio hub has for its whole end."""


def build_hub(
    settings: Settings, *, roots: Sequence[Path] = (), dead: Sequence[str] = (), observers: Sequence[Observer] = ()
) -> Hub:
    """The hub with both providers; files are read from `roots` where no setting names others.

    `dead` names hubs that are known to have died, beside those whose folders are found ownerless. `observers` are told
    of every ask. Raises Misconfigured when the state folder cannot be used.
    """
    around = surroundings()
    run = run_folder(settings, dead)
    for secret in (*settings.secrets(), *_of_collectors(around)):
        logs.hide(secret)
    store = open_store(settings)
    saved = SavedLogins(settings.hub_state_dir)
    alert = timedelta(days=settings.hub_alert_days)
    anthropic, google = anthropic_logins(settings, around, saved), google_logins(settings, saved)
    claude_login = Monitor(anthropic, Ledger(store, "claude"), alert=alert)
    gemini_login = Monitor(google, Ledger(store, "gemini"), alert=alert)

    def token() -> str:
        return hidden(claude_login.secret()).secret

    def login_copy() -> Login:
        found = hidden(gemini_login.secret())
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
        own=gemini_install.folder(settings.hub_state_dir),
        project=settings.gemini_project,
        upstream=settings.hub_gemini_upstream,
        warm=settings.hub_gemini_warm,
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
        observers=observers,
        children=run.children,
    )


def anthropic_logins(settings: Settings, around: Mapping[str, str], saved: SavedLogins) -> ClaudeCredentials:
    return ClaudeCredentials(
        token=lambda: settings.secret("CLAUDE_CODE_OAUTH_TOKEN"),
        where=settings.origin("CLAUDE_CODE_OAUTH_TOKEN"),
        issued_at=settings.claude_token_issued_at,
        own_login=Path(around.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / ".credentials.json",
        saved=saved,
        now=now,
        machine=check_managed_settings,
    )


def google_logins(settings: Settings, saved: SavedLogins) -> GeminiCredentials:
    return GeminiCredentials(path=settings.gemini_auth_path, saved=saved, now=now, project=settings.gemini_project)


def hidden(held: Held) -> Held:
    """A login on its way to a child; the log never shows it from here on, whatever happens."""
    for secret in held.secrets():
        logs.hide(secret, renewed=True)
    return held


def _sinks(settings: Settings) -> list[Sink]:
    """Where alerts go beside the log."""
    if settings.hub_alert_webhook_url is None:
        return []
    from llm_mcp_hub.credentials.webhook import Webhook

    secret = settings.hub_alert_webhook_secret
    url = settings.hub_alert_webhook_url.get_secret_value()
    return [Webhook(url, None if secret is None else secret.get_secret_value(), close_s=WEBHOOK_CLOSE_S)]


def run_folder(settings: Settings, dead: Sequence[str] = ()) -> RunFolder:
    try:
        return RunFolder(settings.hub_state_dir, swept=dead)
    except OSError as error:
        raise Misconfigured(
            f"The state folder {settings.hub_state_dir} cannot be used ({error.strerror}).",
            action="Set HUB_STATE_DIR to a folder that this user can write.",
        ) from error


def open_store(settings: Settings, *, away_after_s: float | None = None) -> Store:
    """What this hub shares with others: by a file of this machine, or by Redis, which else is away after that long.

    Raises Misconfigured for a file that others could put something into.
    """
    if settings.redis_url is not None:
        from llm_mcp_hub.store.redis import RedisStore

        url = settings.redis_url.get_secret_value()
        return RedisStore(url) if away_after_s is None else RedisStore(url, timeout_s=away_after_s)
    from llm_mcp_hub.store.sqlite import SqliteStore

    state_folder.check(settings.hub_state_dir)
    return SqliteStore(settings.hub_state_dir)


def _of_collectors(around: Mapping[str, str]) -> list[str]:
    """What opens the door of whoever gathers traces: an SDK's complaint might quote it."""
    headers = [value for name, value in around.items() if re.fullmatch(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS", name)]
    told = [part.partition("=")[2].strip() for value in headers for part in value.split(",")]
    return [form for value in told for form in (value, unquote(value), unquote(value).rpartition(" ")[2])]


def store_kind(settings: Settings) -> str:
    """What `open_store` opens, in a word."""
    return "sqlite" if settings.redis_url is None else "redis"


def tell_start(settings: Settings, **more: object) -> None:
    """The log's first line of a hub that serves."""
    log.info("hub starts", version=VERSION, store=store_kind(settings), **more)


def editors_roots() -> tuple[Path, ...]:
    """The files of whatever project an editor started this hub in."""
    return default_roots(surroundings(), working_folder(), Path.home())


def working_folder() -> Path | None:
    """Where this program was started; None where that folder is no more (a work tree that was removed)."""
    with contextlib.suppress(OSError):
        return Path.cwd()
    return None


def build_stdio_hub(settings: Settings) -> Hub:
    """The hub behind one MCP client on this machine."""
    from llm_mcp_hub.observe.traces import Traces

    tell_start(settings, transport="stdio")
    return build_hub(settings, roots=editors_roots(), observers=(Traces(),))


def flush_traces() -> None:
    """Send what is gathered of traces; it may block."""
    from llm_mcp_hub.observe import traces

    traces.flush()


def build_server(
    hub: Hub,
    settings: Settings,
    updates: Updates | None = None,
    limits: Limits | None = None,
    detached: Detached | None = None,
) -> Server[Any]:
    """The MCP server of a hub. Over HTTP callers differ: `updates` watch its logins, `limits` count their asks.

    `detached` lets the calls of a replica outlive their connections.
    """
    from llm_mcp_hub.serving.server import build_server as build
    from llm_mcp_hub.serving.server import by_request, the_owner

    who = the_owner if updates is None else by_request
    admit = None if limits is None else limits.ask
    server = build(hub, VERSION, wait_s=settings.hub_wait_s, updates=updates, who=who, admit=admit, detached=detached)
    starting.loaded()
    return server


def clients_of(settings: Settings) -> Clients:
    """Who may use the hub over HTTP. Raises Misconfigured where others could put in a file of theirs."""
    from llm_mcp_hub.serving.auth import Clients

    if settings.hub_clients_file is None:
        state_folder.check(settings.hub_state_dir)
    return Clients(settings.clients_file, expected=settings.hub_clients_file is not None)


def _check_address(settings: Settings, book: Book | None) -> None:
    """Raise Misconfigured where others could reach a hub that cannot tell who they are, and by which name."""
    if settings.loopback_only:
        return
    try:  # "" are all addresses of this machine
        socket.getaddrinfo(settings.hub_host or None, 0, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # the latter for a name that can be none
        raise Misconfigured(
            f"HUB_HOST (--host) is {settings.hub_host}, which is no address of this machine and no name of one.",
            action="For this machine alone set HUB_HOST=127.0.0.1, to serve others 0.0.0.0 or an address of it.",
        ) from None
    missing: list[tuple[str, str]] = []
    if book is None or not book.clients:
        missing.append(("a client token", "run llm-mcp-hub client add NAME"))
    if not settings.hub_allowed_hosts:
        missing.append(("HUB_ALLOWED_HOSTS", "set HUB_ALLOWED_HOSTS to the name that clients call the hub by"))
    if missing:
        raise Misconfigured(
            f"HUB_HOST (--host) is {settings.hub_host or 'empty'}, which other machines can reach, without "
            f"{_and(what for what, _ in missing)}: the hub would lend the owner's subscriptions to the network.",
            action=f"To serve others {_and(step for _, step in missing)}; else set HUB_HOST=127.0.0.1.",
        )


def _and(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def http_findings(settings: Settings) -> list[Finding]:
    """Who can reach `serve`, or why it would not start."""
    from llm_mcp_hub import preconditions

    book = clients_of(settings).current()
    first = settings.hub_first_client if book is None else None
    if first is None or not settings.hub_allowed_hosts:
        _check_address(settings, book)
    names = None if book is None else tuple(book.clients)
    if first is not None:  # `serve` makes it before it looks
        names = (f"{first}, made at the first start",)
    shared = "SQLite in the state folder" if settings.redis_url is None else "Redis"
    return [
        *preconditions.http(settings.hub_host, settings.hub_port, settings.loopback_only, names),
        *preconditions.replicas(len(settings.state_keys), shared),
    ]


def build_app(settings: Settings) -> Starlette:
    """The ASGI app. Raises Misconfigured for an address that others could reach, and for what stops a hub."""
    from llm_mcp_hub.observe.metrics import Metrics
    from llm_mcp_hub.observe.traces import Traces
    from llm_mcp_hub.serving.http import build_app as build
    from llm_mcp_hub.serving.limits import Limits, Rates
    from llm_mcp_hub.serving.resources import Updates

    clients = clients_of(settings)
    _check_address(settings, clients.current())
    first = build_hub(settings)  # what is wrong is told now, in one sentence: in a lifespan it would be a traceback
    first.kill()
    updates = Updates()
    limits = Limits(Rates(None if settings.redis_url is None else settings.redis_url.get_secret_value()))
    metrics = Metrics(version=VERSION, store=store_kind(settings), providers=PROVIDERS)

    def begin() -> Hub:
        names = clients.current()
        told = {"clients": len(names.clients)} if names is not None else {}
        tell_start(settings, transport="http", address=f"{settings.hub_host}:{settings.hub_port}", **told)
        return build_hub(settings, dead=first.dead, observers=(metrics, Traces()))

    return build(
        begin,
        lambda hub, detached: build_server(hub, settings, updates, limits, detached),
        gauge=metrics,
        updates=updates,
        clients=clients,
        limits=limits,
        hosts=settings.hub_allowed_hosts,
        origins=settings.hub_allowed_origins,
        drain_s=settings.hub_drain_s,
        keys=settings.state_keys,
    )


def __getattr__(name: str) -> object:
    if name == "app":  # made when a server asks for it, not when the module is imported
        settings = settings_module.load()
        logs.configure(settings.log_level, settings.hub_log_format)
        return build_app(settings)
    raise AttributeError(name)
