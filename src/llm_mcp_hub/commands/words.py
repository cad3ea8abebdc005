"""The commands' words: which there are, and what is told to somebody who has typed others. Knows no command's work."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

EX_USAGE = 64
PROVIDERS = ("claude", "gemini")
STEPS = ("gemini-cli", "project", "login-claude", "login-gemini", "clients", "ask", "doctor")
"""Of `setup`, in their order."""
INSTALLS = ("claude-desktop", "claude-code", "cursor", "vscode", "gemini-cli")
"""Clients whose configuration `install` writes."""
QUIT = ("q", "quit", "exit", "ㅂ")
"""What ends a question; the last is what the key of q types on a Korean keyboard."""
PROGRAM = "llm-mcp-hub"
_NUMBERS: Mapping[Any, str] = {int: "a whole number", float: "a number"}


class _Parser(argparse.ArgumentParser):
    words: Sequence[str] = ()
    """What was typed for it, up to a `--`."""
    of_strange: Callable[[str], str] = "there is no {}".format
    """What is told of an option that there is not."""

    def error(self, message: str) -> NoReturn:
        """As argparse's own, with the exit code that sysexits has for it. Of an option that is none that is told."""
        known = _options(self)
        strange = (one for one in _named(self.words) if not any(name.startswith(one) for name in known))
        if first := next(strange, None):
            message = self.of_strange(first)
        message = re.sub(r"ignored explicit argument .*", "it takes no value", message)
        self.print_usage(sys.stderr)
        if message.startswith("the following arguments are required"):
            message += f" (what they are: {self.prog} --help)"
        self.exit(EX_USAGE, f"{self.prog}: error: {message}\n")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """As argparse's own, in words that need no programmer."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if action.type not in _NUMBERS:
                raise
            raise argparse.ArgumentError(action, f"it takes {_NUMBERS[action.type]}") from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's own, with the word that was meant, if it is near one."""
        if action.choices is not None and value not in action.choices:
            if "," in str(value) and action.option_strings:
                first, *_ = action.option_strings
                each = " ".join(f"{first} {part.strip()}" for part in str(value).split(","))
                raise argparse.ArgumentError(action, f"it takes one at a time: {each}")
            word = repr(value) if len(str(value).split()) == 1 else "such word"  # of several it may be the question
            raise argparse.ArgumentError(action, f"there is no {word}; {_meant(str(value), action.choices)}")


def _parser() -> tuple[_Parser, Mapping[str, _Parser]]:
    parser = _Parser(
        prog="llm-mcp-hub",
        description="Ask Claude and Gemini with the subscriptions you already have. Without a command: serve MCP over "
        "stdio, as MCP clients start it.",
    )
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="read settings from FILE (NAME=VALUE lines)")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    commands.add_parser("stdio", help="serve MCP over stdio, as without a command")
    serve = commands.add_parser("serve", help="serve MCP over streamable HTTP")
    serve.add_argument("--host", help="address to listen on (HUB_HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (HUB_PORT, 8000)")
    serve.add_argument(
        "--first-client",
        metavar="NAME",
        help="where no clients' file is yet, make this one's token (HUB_FIRST_CLIENT)",
    )
    commands.add_parser("health", help="whether a hub answers at HUB_HOST and HUB_PORT; needs no token")

    ask = commands.add_parser("ask", help="ask one question; the answer is streamed to the terminal")
    ask.add_argument("provider", choices=PROVIDERS)
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
    setup.add_argument(
        "--skip", action="append", metavar="STEP", default=[], choices=STEPS, help=f"leave it out: {', '.join(STEPS)}"
    )
    setup.add_argument("--yes", action="store_true", help="take every step without asking, the small ask too")

    login = commands.add_parser("login", help="log in to Claude or Gemini, with a browser on any machine")
    login.add_argument("provider", choices=PROVIDERS)
    login.add_argument("--write-env", type=Path, metavar="FILE", help="write the login into this env file too")
    login.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="how long you have (600)")

    install = commands.add_parser("install", help="put the hub into an MCP client's configuration")
    install.add_argument("name", metavar="CLIENT", type=str.lower, help=f"{', '.join(INSTALLS[:-1])} or {INSTALLS[-1]}")
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
    client.add_argument(
        "--token", type=int, action="append", metavar="N", help="revoke: this token alone, by its number in the list"
    )
    client.add_argument("--json", action="store_true", help="list: print it as JSON")
    return parser, commands.choices


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the words. argparse gives an optional word up too early when options stand before it: it is found here."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if words == ["version"]:
        words = ["--version"]
    parser, commands = _parser()
    typed = words[: words.index("--")] if "--" in words else words
    command = next((word for word in typed if word in commands), "")
    at = typed.index(command) if command else len(typed)
    parser.words = typed[:at]
    parser.of_strange = lambda word: _behind(word, command, commands) or _left_over("", [word], parser, parser)
    if command:
        own = commands[command]
        own.words = [*(one for one in _named(typed[:at]) if one not in _options(parser)), *typed[at + 1 :]]
        own.of_strange = lambda word: (
            (_behind(word, command, commands) if word in _named(typed[:at]) else "")
            or _left_over(command, [word], parser, own)
        )
    given, rest = parser.parse_known_args(words)
    optional = {"ask": "prompt", "asks": "id", "conversations": "id", "client": "name"}.get(given.command or "")
    if optional is not None and getattr(given, optional) is None:
        match rest:
            case ["--", word]:
                setattr(given, optional, word)
                rest = []
            case [word] if word == "-" or not word.startswith("-"):
                setattr(given, optional, word)
                rest = []
            case _:
                pass
    if rest:
        own = commands.get(given.command, parser)
        own.error(_left_over(given.command or "", rest, parser, own))
    return given


def _behind(word: str, command: str, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """What is told of an option that stands before the command that has it; nothing where none has."""
    having = [name for name, parser in commands.items() if word in _options(parser)]
    if not having:
        return ""
    which = command if command in having else having[0] if len(having) == 1 else "COMMAND"
    return f"{word} stands behind the command: {PROGRAM} {which} {word}{_more(word, commands[having[0]])}"


def _named(words: Iterable[str]) -> list[str]:
    """The options among these; what has a blank in it may be the question."""
    names = (word.partition("=")[0] for word in words if word.startswith("-") and word.strip("-"))
    return [name for name in names if len(name.split()) == 1 and not name[1:].isdigit()]


def _left_over(command: str, rest: Sequence[str], parser: argparse.ArgumentParser, own: argparse.ArgumentParser) -> str:
    """What is told of words that nobody takes. Those that are no options may be a prompt or a secret: they are not
    repeated."""
    options = [word.partition("=")[0] for word in rest if word.startswith("-") and word != "--"]
    if not options:
        if command == "ask":
            return f'the question is one word for a shell: put it in quotes, as in {PROGRAM} ask claude "…"'
        if rest == ["help"]:
            return f"it takes no further word; its options: {PROGRAM} {command} --help"
        if command == "install" and rest[0].lower() in INSTALLS:
            return f"it takes one client at a time, and nothing was done; the other one by: {PROGRAM} install {rest[0]}"
        port = f"; a port is given as --port {rest[0]}" if command == "serve" and rest[0].isdigit() else ""
        return f"it takes no further word{port}"
    first = options[0]
    if command and first == "--version":
        return f"{first} stands alone: {PROGRAM} {first}"
    if command and first in _options(own):
        return f"{first} stands behind the command: {PROGRAM} {command} {first}{_more(first, own)}"
    if command and first in _options(parser):
        return f"{first} stands before the command: {PROGRAM} {first} … {command}"
    if command == "health" and first in {"--host", "--port"}:
        return f"there is no {first}; health looks at HUB_HOST and HUB_PORT"
    if command in {"ask", "login"} and first.lstrip("-") in PROVIDERS:
        return f"there is no {first}; the provider is a word: {PROGRAM} {command} {first.lstrip('-')}"
    near = _nearest(first, _options(own))
    if near:
        return f"there is no {first}; did you mean {near}?"
    if command == "ask":
        return f"there is no {first}; before a question that begins with a dash put --"
    return f"there is no {first}; its options: {PROGRAM} {command} --help" if command else f"there is no {first}"


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _more(option: str, parser: argparse.ArgumentParser) -> str:
    """What shows that more has to follow an option, its value or its command's own words; nothing where it may end."""
    wanted = (each.required or option in each.option_strings for each in parser._actions if each.nargs != 0)
    return " …" if any(wanted) else ""


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of these that was most likely meant; of a single letter the first that begins with it."""
    if len(word) == 2 and word.startswith("-"):
        return next((each for each in known if each.startswith(f"-{word}")), None)
    folded = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), folded, 1, 0.7)
    return folded[found[0]] if found else None


def _meant(word: str, known: Iterable[object]) -> str:
    names = [str(each) for each in known]
    near = _nearest(word, names)
    return f"did you mean {near}?" if near else f"there are: {', '.join(names)}"
