"""The commands: words in, exit codes out. Exit codes follow sysexits where one fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.commands import stdout
from llm_mcp_hub.commands.spoken import spoken
from llm_mcp_hub.commands.words import EX_USAGE, STEPS, parse
from llm_mcp_hub.errors import HubError, Misconfigured
from llm_mcp_hub.observe import logs
from llm_mcp_hub.settings import Settings

log = structlog.stdlib.get_logger("llm_mcp_hub.cli")
EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 69, 70, 75, 77, 78
EXIT_CODES = {
    "invalid_request": EX_USAGE,
    "not_found": EX_USAGE,
    "internal": EX_SOFTWARE,
    "misconfigured": EX_CONFIG,
    "billing_blocked": EX_CONFIG,
    "cli_missing": EX_CONFIG,
    "auth_missing": EX_NOPERM,
    "auth_expired": EX_NOPERM,
    "auth_rejected": EX_NOPERM,
    "permission_denied": EX_NOPERM,
    "account_ineligible": EX_NOPERM,
    "busy": EX_TEMPFAIL,
    "rate_limited": EX_TEMPFAIL,
    "quota_exhausted": EX_TEMPFAIL,
    "timeout": EX_TEMPFAIL,
    "cancelled": 130,
}
"""By error code; every other one is EX_UNAVAILABLE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    stdout.take_all()
    try:
        return stdout.printed(_run(arguments))
    except SystemExit as ended:  # argparse's: --help, or a word that is none
        raise SystemExit(stdout.printed(ended.code if isinstance(ended.code, int) else EX_USAGE)) from None
    except stdout.Unwritable as unwritable:
        return stdout.unwritable(unwritable.__cause__)
    except BrokenPipeError:
        if not stdout.unread():
            raise
        return 0


def _run(arguments: Sequence[str] | None) -> int:
    given = parse(arguments)
    if given.version:
        from importlib.metadata import version

        print(version("llm-mcp-hub"))
        return 0
    try:
        _check_home()
        if given.command == "doctor":  # before the settings are loaded: they may be what ails
            from llm_mcp_hub.commands import doctor

            logs.configure("ERROR", None)
            return doctor.run(given.env_file, as_json=given.json)
        if given.command == "install":  # it reads them as a client's hub will, without this shell's variables
            from llm_mcp_hub.commands import install

            return install.run(given)
        if given.command == "setup":
            from llm_mcp_hub.commands import setup

            logs.configure("ERROR", None)
            return setup.run(given.env_file, STEPS, skip=given.skip, yes=given.yes)
        examined = settings_module.examine(given.env_file)
        settings = examined.usable()
        serves = given.command in {None, "stdio", "serve"}
        logs.configure(settings.log_level if serves else "ERROR", settings.hub_log_format)
        if given.command != "health":  # a probe says it every few seconds
            _warn(examined.odd(), logged=serves)
        if given.command == "serve":
            return _serve(settings, given.host, given.port, given.first_client)
        if given.command == "ask":
            from llm_mcp_hub.commands import ask

            return ask.run(settings, given)
        if given.command == "health":
            from llm_mcp_hub.commands import health

            return health.run(settings)
        if given.command == "status":
            from llm_mcp_hub.commands import status

            return status.run(settings, as_json=given.json, verify=given.verify)
        if given.command == "client":
            from llm_mcp_hub.commands import client

            return client.run(settings, given)
        if given.command == "login":
            from llm_mcp_hub.commands import login

            return login.run(settings, given.provider, write_env=given.write_env, timeout_s=given.timeout)
        if given.command in {"asks", "conversations"}:
            from llm_mcp_hub.commands import asked

            return asked.run(settings, given)
        return _stdio(settings)
    except HubError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130


def _check_home() -> None:
    """Raises Misconfigured where no home folder is known, or one below wherever this was started: most paths begin
    there."""
    try:
        home = Path.home()
    except RuntimeError as error:
        raise Misconfigured(
            "This user has no home folder.", action="Set HOME to a folder that this user can write."
        ) from error
    if not home.is_absolute():
        raise Misconfigured(
            "HOME is not an absolute path.", action="Set HOME to this user's home folder, as in HOME=/home/NAME."
        )


def _warn(odd: Sequence[str], *, logged: bool) -> None:
    """Tell of what somebody has set and nobody reads: in the log of a hub, else on stderr."""
    for sentence in odd:
        if logged:
            log.warning(sentence)
        else:
            stdout.aside(f"llm-mcp-hub: {sentence}")


def _tell(error: HubError) -> int:
    stdout.aside(f"llm-mcp-hub: {error.code}: {spoken(error.message)}\n  {spoken(error.action)}")
    return EXIT_CODES.get(error.code, EX_UNAVAILABLE)


def _stdio(settings: Settings) -> int:
    if sys.stdin is not None and sys.stdin.isatty():  # nobody types JSON-RPC
        print(
            "This serves MCP over stdio, to a client that starts it; Ctrl-C ends it.\n"
            "  For people: llm-mcp-hub setup, or llm-mcp-hub --help",
            file=sys.stderr,
        )
    front = None
    if sys.platform != "win32":
        from llm_mcp_hub.serving.front import divide

        front = divide()
    from llm_mcp_hub import main as composition
    from llm_mcp_hub.serving import stdio

    return stdio.run(
        lambda: composition.build_stdio_hub(settings),
        lambda hub: composition.build_server(hub, settings),
        front,
        composition.flush_traces,
    )


def _serve(settings: Settings, host: str | None, port: int | None, first_client: str | None) -> int:
    from llm_mcp_hub.serving.signals import Early

    early = Early()
    from llm_mcp_hub import main as composition
    from llm_mcp_hub.serving import http

    changes = {"hub_host": host, "hub_port": port}
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    if not 0 <= settings.hub_port <= 65_535:
        raise Misconfigured("The port is not between 0 and 65535.", action="Give a port with --port.")
    if name := first_client or settings.hub_first_client:
        from llm_mcp_hub.commands import client

        client.first(settings, name)
    app = composition.build_app(settings)
    return http.serve(app, host=settings.hub_host, port=settings.hub_port, early=early)
