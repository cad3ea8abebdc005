"""The commands: words in, exit codes out. Exit codes follow sysexits where one fits."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.commands import stdin, stdout
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
    try:
        return stdout.printed(_run(arguments))
    except SystemExit as ended:  # argparse's: --help, or a word that is none
        raise SystemExit(stdout.printed(ended.code if isinstance(ended.code, int) else EX_USAGE)) from None
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
            given.prompt, given.piped = stdin.read(given)  # before the loop runs: in it no Ctrl-C could end the reading
            return asyncio.run(_ask(settings, given))
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
    """Raises Misconfigured for a user of whom the system knows no home folder: most paths begin there."""
    try:
        Path.home()
    except RuntimeError as error:
        raise Misconfigured(
            "This user has no home folder.", action="Set HOME to a folder that this user can write."
        ) from error


def _warn(odd: Sequence[str], *, logged: bool) -> None:
    """Tell of what somebody has set and nobody reads: in the log of a hub, else on stderr."""
    for sentence in odd:
        if logged:
            log.warning(sentence)
        else:
            print(f"llm-mcp-hub: {sentence}", file=sys.stderr)


def _tell(error: HubError) -> int:
    print(f"llm-mcp-hub: {error.code}: {spoken(error.message)}\n  {spoken(error.action)}", file=sys.stderr)
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


async def _ask(settings: Settings, given: argparse.Namespace) -> int:
    from llm_mcp_hub import main as composition
    from llm_mcp_hub.commands.live import LiveLine
    from llm_mcp_hub.material import GitDiff
    from llm_mcp_hub.providers.base import Event, Restarted, Text
    from llm_mcp_hub.running import Watch
    from llm_mcp_hub.serving.signals import ENDING, on_loop

    printed = 0
    unread = False
    unwritable: OSError | None = None
    task = asyncio.current_task()

    def show(event: Event) -> None:
        nonlocal printed, unread, unwritable
        if isinstance(event, Text):
            if not printed:
                live.clear()
            try:
                sys.stdout.write(event.piece)
                sys.stdout.flush()
            except BrokenPipeError:  # `| head` has seen enough
                unread = True
                if task is not None:
                    task.cancel()
            except OSError as error:  # a full disk: the ask is spent, so its answer is waited for and kept
                unwritable = unwritable or error
                stdout.throw_away()
            printed += len(event.piece)
        elif isinstance(event, Restarted) and printed:
            print("\n[the answer began anew]", file=sys.stderr)
            printed = 0

    live = LiveLine(quiet=given.json)
    if task is not None:
        on_loop(ENDING, lambda _number: task.cancel())
    try:
        # What somebody types in a shell may read what that person can read; relative to where it is typed.
        async with composition.build_hub(settings, roots=(Path.cwd(), Path("/"))) as hub:
            ask = hub.new_ask(
                given.provider,
                given.prompt,
                model=given.model,
                system=given.system,
                conversation_id=given.conversation,
                effort=given.effort,
                timeout_s=given.timeout,
            )
            ask = await hub.with_material(
                ask,
                files=[str(Path.cwd() / file) for file in given.file or () if file != "-"],
                git_diff=None if given.git_diff is None else GitDiff(given.git_diff or None, ()),
                attachments=given.piped,
            )
            for part in ask.parts:
                if not part.size and not given.json:
                    print(f"{part.name} is empty, and is put before the question so.", file=sys.stderr)
            watch = Watch(None if given.json else show)
            async with live.shown(given.provider.title(), watch):
                answer = await hub.ask(ask, watch)
    except HubError as error:
        if given.json:
            print(json.dumps({"error": error.details()}, ensure_ascii=False))
        elif printed:
            print()
        return _tell(error)
    except asyncio.CancelledError:
        if unread:
            stdout.throw_away()
            return 0
        print("\nllm-mcp-hub: cancelled", file=sys.stderr)
        return 130
    if given.json:
        print(answer.model_dump_json())
        return 0
    try:
        if not printed:
            sys.stdout.write(answer.text)
        if not answer.text.endswith("\n"):
            print()
        sys.stdout.flush()  # before what goes to stderr: both may be one pipe
    except BrokenPipeError:
        stdout.throw_away()
    except OSError as error:
        unwritable = error
        stdout.throw_away()
    if unwritable is not None:
        print(
            f"llm-mcp-hub: what was to be printed cannot be written ({unwritable.strerror})\n"
            f"  The answer is kept: llm-mcp-hub asks show {answer.ask_id}",
            file=sys.stderr,
        )
        return stdout.EX_IOERR
    about = (
        f"{answer.model} ({answer.model_source}), {answer.duration_ms / 1000:.1f} s, paid by {answer.billing.source}"
    )
    if answer.conversation_id is not None:
        about += f"; go on with --conversation {answer.conversation_id}"
    print(about, *answer.warnings, sep="\n", file=sys.stderr)
    return 0
