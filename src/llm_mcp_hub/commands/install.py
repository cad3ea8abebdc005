"""`llm-mcp-hub install`: writes a client's configuration, or prints it.

A client's file is edited in place, and not by the client's own command: those take a token as an argument, which every
user of the machine can read, and replace an entry by taking it away first.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.commands import client_file, json_edit
from llm_mcp_hub.commands.client_file import Edited
from llm_mcp_hub.commands.mcp_clients import (
    CLIENTS,
    SERVER,
    TOKEN_INPUT,
    Around,
    Entry,
    McpClient,
    Remote,
    command_of,
)
from llm_mcp_hub.errors import CliMissing, InvalidRequest, Misconfigured
from llm_mcp_hub.serving.auth import MARK
from llm_mcp_hub.settings import is_loopback

HIDDEN = "<the client's token>"
TOKEN_FORM = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of a client's configuration.

    Attributes:
        client: its name here.
        path: its file.
        changed: whether the file is another one now.
        backup: the copy of the file before; None where nothing was changed, or nothing was there.
        text: what belongs into the file, as JSON, without the token.
        next_steps: what the user should know or do, a sentence each.
        printed: whether nothing was to be written.
    """

    client: str
    path: Path
    changed: bool
    backup: Path | None
    text: str
    next_steps: tuple[str, ...]
    printed: bool = False


def found_clients(around: Around | None = None) -> tuple[str, ...]:
    """The clients that seem to be on this machine, in the order of CLIENTS."""
    around = around or here()
    path = around.variables.get("PATH", "")
    return tuple(
        name
        for name, client in CLIENTS.items()
        if any(_is_there(sign) for sign in client.signs(around))
        or (client.program is not None and shutil.which(client.program, path=path) is not None)
    )


def install(
    client: str,
    *,
    http: str | None = None,
    token: str | None = None,
    printed: bool = False,
    env_file: Path | None = None,
) -> Installed:
    """Put our server into a client's configuration. A second time changes nothing.

    Args:
        client: one of CLIENTS.
        http: the URL of a hub that runs elsewhere; without it the client starts this installation's.
        token: the client's token for that hub.
        printed: only tell what would be written, and where.
        env_file: a settings file that the started hub is to read.

    Raises InvalidRequest, Misconfigured, CliMissing.
    """
    about = _known(client)
    around = here()
    file = _file_of(about, around)
    if http is None:
        if token is not None:
            raise _no_hub_for_it()
        entry, notes = _started(about, env_file)
    else:
        if env_file is not None:
            raise InvalidRequest(
                "A hub over HTTP reads its own settings, so --env-file has no meaning here.", action="Leave it out."
            )
        entry, notes = _remote(about, _address(http), token, around, printed=printed)
    text = _piece(about, entry, token)
    if printed:
        if entry.token_in_file:
            notes = (*notes, f"Put the token in place of {HIDDEN}.")
        return Installed(client, file, False, None, text, (*notes, about.then), printed=True)
    replaced: list[bool] = []
    held: list[bool] = []

    def change(before: str) -> str:
        servers: Any = json_edit.read(before).get(about.outer)
        if not about.comments and not json_edit.is_strict(before):
            raise json_edit.Unreadable(f"it has comments or trailing commas, which {about.title} cannot read")
        replaced[:] = [isinstance(servers, dict) and SERVER in servers]
        held[:] = [_holds_token(before)]
        after = json_edit.put(before, [about.outer, SERVER], entry.server)
        if entry.question is not None:
            after = json_edit.drop(after, "inputs", lambda held: _is_ours(held) and held != entry.question)
            after = json_edit.add(after, "inputs", entry.question, _is_ours)
        return after

    otherwise = f"put it there yourself: llm-mcp-hub install {client} --print"
    edited = _edited(about, file, change, otherwise)
    if edited.changed and replaced[0]:
        notes = (f"Another entry {SERVER} was there. It has been replaced; the copy has it.", *notes)
    if entry.token_in_file and edited.others_read:
        notes = (
            *notes,
            f"The file holds the token, and others on this machine can read it: chmod 600 {shlex.quote(str(file))}",
        )
    elif entry.token_in_file:
        notes = (*notes, "The file holds the token as plain text, for you alone.")
    if edited.changed:
        notes = (*notes, *_of_copy(edited, held[0]), about.then)
    return Installed(client, file, edited.changed, edited.backup, text, notes)


def _holds_token(text: str) -> bool:
    return MARK in text


def _of_copy(edited: Edited, held_token: bool) -> tuple[str, ...]:
    """What is told of a copy of the file as it was that holds a token, and has the mode of the file."""
    if edited.backup is None or not edited.others_read or not held_token:
        return ()
    return (
        f"The copy holds a token, and other users of this machine can read it: rm {shlex.quote(str(edited.backup))}",
    )


def remove(client: str) -> Installed:
    """Take our server out of a client's configuration again. Raises InvalidRequest, Misconfigured."""
    about = _known(client)
    file = _file_of(about, here())

    held: list[bool] = []

    def change(before: str) -> str:
        held[:] = [_holds_token(before)]
        after = json_edit.remove(before, [about.outer, SERVER])
        return json_edit.drop(after, "inputs", _is_ours) if about.asks_for_token else after

    if not _is_there(file):
        return Installed(client, file, False, None, "", ())
    edited = _edited(about, file, change, f"take {SERVER} out of it yourself")
    notes = (f"{about.title} knows it until it is started again.",) if edited.changed else ()
    return Installed(client, file, edited.changed, edited.backup, "", (*notes, *_of_copy(edited, any(held))))


def run(given: argparse.Namespace) -> int:
    """Do what was asked, and tell it. Returns the exit code. Raises HubError."""
    if given.remove:
        if given.print or given.http or given.token_file:
            raise InvalidRequest("--remove goes with no other option.", action="Run: llm-mcp-hub install --help")
        done = remove(given.name)
        print(f"{done.path}: {'llm-hub is taken out' if done.changed else 'llm-hub is not in it'}")
    else:
        if given.token_file is not None and not given.http:
            raise _no_hub_for_it()  # before the file is looked at: that is not what is wrong
        token = None if given.token_file is None else _token_from(given.token_file)
        done = install(given.name, http=given.http, token=token, printed=given.print, env_file=given.env_file)
        if done.printed:
            print(done.text)
            print(f"belongs into {done.path}", file=sys.stderr)
        else:
            print(f"{done.path}: {'written' if done.changed else 'nothing to change, it is there already'}")
    if done.backup is not None:
        print(f"  the file as it was: {done.backup}")
    for step in done.next_steps:
        print(f"  {step}", file=sys.stderr if done.printed else sys.stdout)
    return 0


def _no_hub_for_it() -> InvalidRequest:
    return InvalidRequest("A token is for a hub over HTTP.", action="Name that hub too: --http URL")


def here() -> Around:
    """This machine, for this user."""
    variables = surroundings()
    packages: list[str] = []
    local = variables.get("LOCALAPPDATA")
    if sys.platform == "win32" and local and (Path(local) / "Packages").is_dir():
        packages = sorted(folder.name for folder in (Path(local) / "Packages").iterdir())
    return Around(sys.platform, Path.home(), variables, packages)


def _known(client: str) -> McpClient:
    if client not in CLIENTS:
        raise InvalidRequest(
            f"No client is called so. There are: {', '.join(CLIENTS)}.",
            action="For another one: llm-mcp-hub install cursor --print shows what its file takes.",
        )
    return CLIENTS[client]


def _file_of(about: McpClient, around: Around) -> Path:
    files = [Path(file) for file in about.files(around)]
    return next((file for file in files if _is_there(file)), files[-1])


def _is_there(path: PurePath) -> bool:
    """Whether something is there. What this user may not look at counts as there: to read it tells why."""
    try:
        return Path(path).exists()
    except OSError:
        return True


def _edited(about: McpClient, file: Path, change: Callable[[str], str], otherwise: str) -> client_file.Edited:
    try:
        return client_file.edit(file, change, lock=about.lock)
    except (client_file.Unusable, json_edit.Unreadable) as error:
        raise Misconfigured(
            f"{file} is left as it is: {error}.",
            action=f"Mend {file} and run this again, or {otherwise}",
        ) from error


def _started(about: McpClient, env_file: Path | None) -> tuple[Entry, tuple[str, ...]]:
    """The entry for this installation's hub, and what it will not see of this shell."""
    program, *arguments = command_of(
        scripts=PurePath(sysconfig.get_path("scripts")),
        interpreter=PurePath(sys.executable),
        platform=sys.platform,
        exists=lambda path: Path(path).is_file(),
    )
    if env_file is not None:
        arguments += ["--env-file", str(env_file.absolute())]
    from llm_mcp_hub import main_commands as composition

    notes = composition.unseen_by_a_client(about.title, env_file)
    if {"archive-v0", "environments-v2"} & set(Path(program).parts):
        notes = (
            *notes,
            "This installation is in uv's cache, which uv empties: use `uv tool install` first.",
        )
    return Entry(about.started(program, arguments)), notes


def _remote(
    about: McpClient, url: SplitResult, token: str | None, around: Around, *, printed: bool
) -> tuple[Entry, tuple[str, ...]]:
    """The entry for a hub elsewhere, and what is to be known of the way to it."""
    local = is_loopback(url.hostname or "")
    if token is None and not local and not about.asks_for_token:
        raise InvalidRequest(
            "A hub on another machine lets nobody in without a client token.",
            action="Make one there with `llm-mcp-hub client add NAME`, and name its file here: --token-file FILE",
        )
    npx = shutil.which("npx", path=around.variables.get("PATH")) if about.bridged else None
    if about.bridged and npx is None and not printed:
        raise CliMissing(
            f"{about.title} takes no hub over HTTP from its file; the bridge to one needs npx, which is not in PATH.",
            action="Install Node.js 20 or newer, or let this machine's hub be started: leave out --http",
        )
    if about.asks_for_token and not local:
        token = token or HIDDEN
    entry = about.remote(Remote(url.geturl(), token, None if npx is None else Path(npx)))
    notes: tuple[str, ...] = ()
    if url.scheme == "http" and not local:
        notes = ("http:// to another machine: whoever is on the way can read the token. Put TLS before the hub.",)
    if token and token != HIDDEN and not token.startswith(MARK):
        notes = (*notes, f"It is no token that a hub has made (those begin with {MARK}): is it a proxy's?")
    if token is None and entry.question is None:
        notes = (*notes, "Without a token: if that hub has clients (llm-mcp-hub client list), add --token-file FILE.")
    if entry.question is not None:
        notes = (*notes, f"{about.title} asks for the token when it starts llm-hub; no file holds it.")
    return entry, notes


def _address(url: str) -> SplitResult:
    """A hub's address; `/mcp` where no path is named. Raises InvalidRequest."""
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        address, port = urlsplit(""), None
    if address.username or address.password or "@" in address.netloc:
        raise InvalidRequest(
            "The address behind --http has a user name in it, which no client sends.",
            action="Give it as http://127.0.0.1:8000/mcp; a client's token by --token-file",
        )
    plain = re.fullmatch(r"[\x21-\x7e]+", url)
    if address.scheme not in {"http", "https"} or not address.hostname or not plain or address.fragment or port == 0:
        raise InvalidRequest(
            "What stands behind --http is no http:// or https:// address.",
            action="Give it as http://127.0.0.1:8000/mcp",
        )
    return address if address.path not in {"", "/"} else address._replace(path="/mcp")


def _token_from(name: str) -> str:
    try:
        if name != "-":
            with Path(name).expanduser().open("rb") as file:
                raw = file.read(8192)
        elif sys.stdin is None:
            raw = b""
        elif sys.stdin.isatty():  # what is typed there is not shown: it may be recorded
            raw = getpass.getpass("The client's token: ").encode("utf-8", "replace")
        else:
            raw = sys.stdin.buffer.read(8192)
    except EOFError:
        raw = b""
    except (OSError, RuntimeError) as error:
        raise InvalidRequest("The file that --token-file names cannot be read.", action="Name another.") from error
    token = raw.decode("utf-8", "replace").strip()
    if TOKEN_FORM.fullmatch(token) is None:
        raise InvalidRequest(
            "What --token-file names holds no token: one line without blanks.",
            action="Make one on the hub's machine: llm-mcp-hub client add NAME",
        )
    return token


def _piece(about: McpClient, entry: Entry, token: str | None) -> str:
    """What belongs into the file, for people: the token is not shown."""
    held: Mapping[str, Any] = {about.outer: {SERVER: entry.server}}
    if entry.question is not None:
        held = {**held, "inputs": [entry.question]}
    text = json.dumps(held, indent=2, ensure_ascii=False)
    if token is None or not entry.token_in_file:
        return text
    written = json.dumps(f"Bearer {token}", ensure_ascii=False)  # a quotation mark in it is not written as itself
    return text.replace(written, json.dumps(f"Bearer {HIDDEN}", ensure_ascii=False))


def _is_ours(question: Any) -> bool:
    return isinstance(question, dict) and cast("dict[str, Any]", question).get("id") == TOKEN_INPUT
