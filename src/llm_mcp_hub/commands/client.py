"""`llm-mcp-hub client`: who may use the hub over HTTP.

A token is shown once, alone on stdout, fit for a pipe; all words go to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog

from llm_mcp_hub import main as composition
from llm_mcp_hub import state_folder
from llm_mcp_hub.commands.stdout import Unwritable, aside, say
from llm_mcp_hub.errors import InvalidRequest, Misconfigured
from llm_mcp_hub.serving.auth import Allowance, Book, Clients, all_scopes
from llm_mcp_hub.settings import Settings

HELP = "Run: llm-mcp-hub client --help"
LIMITS = {name: f"--{name.replace('_', '-')}" for name in Allowance.model_fields}
"""The options that set a client's limits, by their names in the file."""
FIRST = "first-client.token"
NOBODY = "nobody comes in over HTTP until llm-mcp-hub client add NAME"
OPEN_AGAIN = "To open the hub to everybody on this machine again: stop it, and delete"
log = structlog.stdlib.get_logger("llm_mcp_hub.client")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code. Raises HubError."""
    clients = composition.clients_of(settings)
    if (given.action == "list") != (given.name is None):
        raise InvalidRequest(f"{given.action} {'takes no' if given.action == 'list' else 'needs a'} name.", action=HELP)
    limits = {name: value for name in LIMITS if (value := getattr(given, name)) is not None}
    strange = {"--scope": given.scope, "--token": given.token, "--json": given.json or None}
    strange |= {LIMITS[name]: value for name, value in limits.items()}
    allowed = {"add": {"--scope", *LIMITS.values()}, "revoke": {"--token"}, "list": {"--json"}}[given.action]
    for option, value in strange.items():
        if value is not None and option not in allowed:
            raise InvalidRequest(f"{given.action} takes no {option}.", action=HELP)
    if given.action == "add":
        return _add(clients, given.name, given.scope or [], limits)
    if given.action == "revoke":
        numbers: list[int] = given.token or []
        if len(numbers) > 1:  # and after the first the others have new numbers
            raise InvalidRequest(
                "revoke takes one --token at a time.", action="Look after each: llm-mcp-hub client list"
            )
        return _revoke(clients, given.name, numbers[0] if numbers else None)
    book = clients.list()
    if not given.json and not book.clients:
        shut = settings.hub_clients_file is not None or clients.file.exists()
        print(nobody(clients.file if shut else None))
    else:
        print(as_json(book) if given.json else table(book))
    return 0


def first(settings: Settings, name: str) -> None:
    """Make the first client where nobody has made one yet, for `serve --first-client`: a container has no other hand.

    Its token goes into a file of the state folder, and the command that reads it into the log. Raises InvalidRequest
    and Misconfigured.
    """
    file = settings.hub_state_dir / FIRST
    now = datetime.now(UTC)
    made = composition.clients_of(settings).first(
        name, now, every=all_scopes(composition.PROVIDERS), keep=lambda token: _keep(file, token)
    )
    if made:
        log.warning(f"the first client is made; read its token with: cat {shlex.quote(str(file))}", client=name)
    elif not composition.clients_of(settings).list().clients:
        log.warning(f"no first client is made, for all were revoked: {NOBODY}", client=name)


def _keep(file: Path, token: str) -> None:
    """Write a token into a file of its owner's alone. Raises Misconfigured."""
    beside = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        state_folder.make(file.parent)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(token + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)  # it may hold the token
        raise Misconfigured(
            f"The first client's token cannot be written to {file} ({error.strerror}).",
            action="Set HUB_STATE_DIR to a folder that this user can write.",
        ) from error


def _add(clients: Clients, name: str, scopes: list[str], limits: Mapping[str, int]) -> int:
    every = all_scopes(composition.PROVIDERS)
    try:
        _token, change = clients.add(name, scopes, datetime.now(UTC), every=every, limits=limits, keep=say)
    except (Unwritable, BrokenPipeError):
        aside(f"The new token of {name} cannot be printed: nothing was changed.")
        raise
    client = change.book.clients[name]
    _say(
        f"{name} has a new token, for: {', '.join(client.scopes)}.",
        f"Its limits: {_limits(client.limits)}." if client.limits is not None else "",
        "Its oldest token has gone: two are live at most." if change.dropped else "",
        f"Its other token goes on until you run: llm-mcp-hub client revoke {name} --token 1" if change.rotated else "",
        "It is shown this once. The client sends it as: Authorization: Bearer TOKEN",
    )
    return 0


def _revoke(clients: Clients, name: str, number: int | None) -> int:
    left = clients.revoke(name, number)
    if name in left.clients:
        _say(f"That token of {name} is dead; its other one lives.")
    else:
        _say(f"{name} can use nothing any more.")
    if not left.clients:
        _say(
            "No client is left, so nobody is let in over HTTP.",
            f"{OPEN_AGAIN} {clients.file}",
        )
    return 0


def _say(*lines: str) -> None:
    aside(*(line for line in lines if line))


def _limits(limits: Allowance | None) -> str:
    """A client's own limits in words; empty where it has none."""
    told = {} if limits is None else limits.told()
    return ", ".join(f"{count} {name.replace('_', ' ').replace('per ', 'a ')}" for name, count in told.items())


def as_json(book: Book) -> str:
    """For programs; without the hashes, which are nobody's business."""
    told = book.model_dump(mode="json", exclude={"clients": {"__all__": {"tokens": {"__all__": {"sha256"}}}}})
    return json.dumps(told["clients"], indent=2)


def nobody(file: Path | None) -> str:
    """What an empty list means: there was never a client, or all are revoked and `file` keeps everybody out."""
    if file is None:
        return "No clients: every program on this machine comes in over HTTP. A first one: llm-mcp-hub client add NAME"
    return f"No clients, so nobody comes in over HTTP. {OPEN_AGAIN} {file}"


def table(book: Book) -> str:
    """For people: a line for each token, which tells of the client's limits where it has its own."""
    width = max(6, *(len(name) for name in book.clients))
    lines = [f"{'CLIENT':{width}}  TOKEN  MADE              SCOPES"]
    for name, client in sorted(book.clients.items()):
        for number, token in enumerate(client.tokens, 1):
            line = f"{name:{width}}  {number:5}  {token.made_at:%Y-%m-%d %H:%M}  {' '.join(client.scopes)}"
            own = _limits(client.limits)
            lines.append(f"{line}  ({own})" if own else line)
    return "\n".join(lines)
