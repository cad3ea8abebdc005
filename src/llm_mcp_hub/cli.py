"""The commands: words in, exit codes out. Exit codes follow sysexits where one fits."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from llm_mcp_hub import settings as settings_module
from llm_mcp_hub.commands import stdin, stdout
from llm_mcp_hub.errors import HubError, Misconfigured
from llm_mcp_hub.observe import logs
from llm_mcp_hub.settings import Settings

EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 64, 69, 70, 75, 77, 78
STEPS = ("gemini-cli", "project", "login-claude", "login-gemini", "clients", "ask", "doctor")
"""Of `setup`, in their order."""
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As argparse's own, with the exit code that sysexits has for it."""
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="llm-mcp-hub",
        description="Ask Claude and Gemini with the subscriptions you already have. Without a command: serve MCP over "
        "stdio, as MCP clients start it.",
    )
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="read settings from FILE (NAME=VALUE lines)")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    commands.add_parser("stdio", help="serve MCP over stdio, as without a command")
    serve = commands.add_parser("serve", help="serve MCP over streamable HTTP")
    serve.add_argument("--host", help="address to listen on (HUB_HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (HUB_PORT, 8000)")
    serve.add_argument(
        "--first-client", metavar="NAME", help="where no client has a token yet, make this one's (HUB_FIRST_CLIENT)"
    )
    commands.add_parser("health", help="whether a hub answers at HUB_HOST and HUB_PORT; needs no token")

    ask = commands.add_parser("ask", help="ask one question; the answer is streamed to the terminal")
    ask.add_argument("provider", choices=["claude", "gemini"])
    ask.add_argument(
        "prompt",
        nargs="?",
        help="the question; without it, or as -, it is read from stdin; beside one, what is piped in is put before it",
    )
    ask.add_argument("--model", help="model name or alias")
    ask.add_argument("--system", help="instruction for the model")
    ask.add_argument("--conversation", metavar="ID", help="continue this conversation")
    ask.add_argument("--file", action="append", metavar="PATH", help="put a file before the question, - for stdin")
    ask.add_argument(
        "--git-diff", nargs="?", const="", metavar="BASE", help="put the changes since BASE (HEAD) before it"
    )
    ask.add_argument("--effort", choices=["low", "medium", "high"], help="how long the model thinks")
    ask.add_argument("--timeout", type=float, metavar="SECONDS", help="1 to 3600")
    ask.add_argument("--json", action="store_true", help="print the answer as one JSON object")

    asks = commands.add_parser("asks", help="your last asks: list, show, cancel or delete them")
    asks.add_argument("action", nargs="?", default="list", choices=["list", "show", "cancel", "delete"])
    asks.add_argument("id", nargs="?", help="an ask's id")
    asks.add_argument("--json", action="store_true", help="print it as JSON")

    talks = commands.add_parser("conversations", help="your conversations: list, show or delete them")
    talks.add_argument("action", nargs="?", default="list", choices=["list", "show", "delete"])
    talks.add_argument("id", nargs="?", help="a conversation's id")
    talks.add_argument("--json", action="store_true", help="print it as JSON")

    status = commands.add_parser("status", help="what is known of both logins")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.add_argument("--verify", action="store_true", help="prove each login by one tiny real ask")

    doctor = commands.add_parser("doctor", help="whether everything that an ask needs is there; spends no ask")
    doctor.add_argument("--json", action="store_true", help="print it as JSON")

    setup = commands.add_parser("setup", help="the first run, step by step; what is done already is left as it is")
    setup.add_argument("--skip", action="append", metavar="STEP", default=[], choices=STEPS, help="leave it out")
    setup.add_argument("--yes", action="store_true", help="take every step without asking, the small ask too")

    login = commands.add_parser("login", help="log in to Claude or Gemini, with a browser on any machine")
    login.add_argument("provider", choices=["claude", "gemini"])
    login.add_argument("--write-env", type=Path, metavar="FILE", help="write the login into this env file too")
    login.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="how long you have (600)")

    install = commands.add_parser("install", help="put the hub into an MCP client's configuration")
    install.add_argument("name", metavar="CLIENT", help="claude-desktop, claude-code, cursor, vscode or gemini-cli")
    install.add_argument("--print", action="store_true", help="print what would be written, and write nothing")
    install.add_argument("--http", metavar="URL", help="a hub over HTTP, instead of one that the client starts")
    install.add_argument("--token-file", metavar="FILE", help="with --http: the client's token; - for stdin")
    install.add_argument("--remove", action="store_true", help="take the hub out again")

    client = commands.add_parser("client", help="tokens of clients over HTTP: add, list or revoke them")
    client.add_argument("action", choices=["add", "list", "revoke"])
    client.add_argument("name", nargs="?", metavar="NAME", help="the client's; to add one again gives it a new token")
    client.add_argument(
        "--scope", action="append", metavar="SCOPE", help="add: ask:claude, ask:gemini or status (all); may be repeated"
    )
    for limit, what in [("requests-per-minute", "requests"), ("asks-per-minute", "asks"), ("at-once", "open requests")]:
        client.add_argument(f"--{limit}", type=int, metavar="N", help=f"add: how many {what} it may have")
    client.add_argument("--token", type=int, metavar="N", help="revoke: this token alone, by its number in the list")
    client.add_argument("--json", action="store_true", help="list: print it as JSON")
    return parser


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
        settings = settings_module.load(given.env_file)
        level = settings.log_level if given.command in {None, "stdio", "serve"} else "ERROR"
        logs.configure(level, settings.hub_log_format)
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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the words. argparse gives an optional word up too early when options stand before it: it is found here."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    if given.command == "ask" and given.prompt is None:
        match rest:
            case ["--", prompt]:
                given.prompt, rest = prompt, []
            case [prompt] if prompt == "-" or not prompt.startswith("-"):
                given.prompt, rest = prompt, []
            case _:
                pass
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)} (put -- before a prompt that begins with a dash)")
    return given


def _tell(error: HubError) -> int:
    print(f"llm-mcp-hub: {error.code}: {error.message}\n  {error.action}", file=sys.stderr)
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
    task = asyncio.current_task()

    def show(event: Event) -> None:
        nonlocal printed, unread
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
    if not printed:
        sys.stdout.write(answer.text)
    if not answer.text.endswith("\n"):
        print()
    try:
        sys.stdout.flush()  # before what goes to stderr: both may be one pipe
    except BrokenPipeError:
        stdout.throw_away()
    about = (
        f"{answer.model} ({answer.model_source}), {answer.duration_ms / 1000:.1f} s, paid by {answer.billing.source}"
    )
    if answer.conversation_id is not None:
        about += f"; go on with --conversation {answer.conversation_id}"
    print(about, *answer.warnings, sep="\n", file=sys.stderr)
    return 0
