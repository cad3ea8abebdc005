"""How the Python examples reach a hub, and what they make of what it says. Copy it along with any of them.

Needs nothing but the official SDK: pip install "mcp>=2.3,<3".

By itself the SDK starts `llm-mcp-hub` over stdio; what that may read is the project in the folder you are in. With
--url (http://127.0.0.1:8000/mcp) it is a hub that serves. Where that wants a client's token, name the file that holds
it, by --token-file or LLM_HUB_TOKEN_FILE, or put the token itself into LLM_HUB_TOKEN; never on the command line, where
every user of the machine can read it.

Exit codes: 0 all is well, 1 an ask has failed, 2 wrong words, 69 there is no hub, 77 it lets this client not in.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

try:
    import httpx2
    from mcp.client import Client
    from mcp.client.session import MessageHandlerFnT
    from mcp.client.stdio import StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.exceptions import MCPError
    from mcp_types import CallToolResult
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing.name} is not installed.\nNext: pip install 'mcp>=2.3,<3', or run this by the hub's .venv/bin/python"
    )

ANSWER, ERROR, PAGE = "llm-mcp-hub/answer", "llm-mcp-hub/error", "llm-mcp-hub/page"
"""Where a result holds, in its `_meta`, what its text says to people and models."""
WAIT_S = 50
"""How long one call for an ask that still runs may wait: many clients and proxies give a call up at 60 s."""
EX_FAILED, EX_UNAVAILABLE, EX_NOPERM = 1, 69, 77
TIMES = httpx2.Timeout(30, read=300)
"""A hub that works on a call lets hear of itself every 15 s."""

logging.getLogger("mcp").addHandler(logging.NullHandler())  # what the SDK has to say of a lost hub is said below
logging.getLogger("mcp").propagate = False


class Trouble(Exception):
    """What a person is told instead of a traceback: what happened, and the one next step."""

    exit_code = EX_UNAVAILABLE

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.message, self.action = message, action

    def __str__(self) -> str:
        return f"{self.message}\nNext: {self.action}"


class NotLetIn(Trouble):
    """The hub wants a client's token, or another one."""

    exit_code = EX_NOPERM


class AskFailed(Trouble):
    """The hub's coded error. `error` is all of it: code, message, action, retryable, ask_id, partial_text, ..."""

    exit_code = EX_FAILED

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}", error["action"])
        self.error = error


@dataclass(frozen=True)
class Way:
    """How the hub is reached: over HTTP at `url`, or over stdio where that is None."""

    url: str | None = None
    token: str | None = None


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all examples have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", help="of a hub that serves; without it one is started over stdio")
    made.add_argument("--token-file", type=Path, metavar="FILE", help="holds the client's token (LLM_HUB_TOKEN_FILE)")
    return made


def way(given: argparse.Namespace) -> Way:
    """From the words and the environment. Raises Trouble where a file that is named cannot be read."""
    url: str | None = given.url
    if url and urlsplit(url).path in {"", "/"}:
        url = f"{url.rstrip('/')}/mcp"  # where a hub speaks MCP
    named: Path | str | None = given.token_file or os.environ.get("LLM_HUB_TOKEN_FILE")
    if url is None or named is None:
        return Way(url, _usable(os.environ.get("LLM_HUB_TOKEN"), "LLM_HUB_TOKEN"))
    try:
        return Way(url, _usable(Path(named).expanduser().read_text("utf-8", "replace").strip(), str(named)))
    except OSError as error:
        raise Trouble(f"{named} cannot be read: {error.strerror}.", "Name the file with the client's token.") from error


def _usable(token: str | None, place: str) -> str | None:
    """A token that fits into a header: of another one the library would complain, and show it. Raises Trouble."""
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Trouble(f"{place} holds no token: one line without blanks.", "Name the file with the client's token.")
    return token


@asynccontextmanager
async def connected(to: Way, *, mode: str = "auto", hear: MessageHandlerFnT | None = None) -> AsyncGenerator[Client]:
    """A client on the hub. Raises Trouble when there is none, or when it is lost in between."""
    try:
        server = _over_http(to.url, to.token) if to.url else _over_stdio()
        async with Client(server, mode=mode, message_handler=hear) as client:
            yield client
    except Exception as error:
        raise _told(error, to) from error


async def ask(client: Client, provider: str, prompt: str, **arguments: Any) -> dict[str, Any]:
    """One answer, whole, as the hub's `Answer`. Raises AskFailed.

    A call that would wait too long for its client is answered by a ticket while the ask goes on, and a very long answer
    comes in pages: both are followed here, however long it takes.
    """
    result = await client.call_tool(f"ask_{provider}", {"prompt": prompt, **arguments})
    while answer(result)["status"] == "working":
        result = await client.call_tool("ask_result", {"ask_id": answer(result)["ask_id"], "wait_s": WAIT_S})
    found = answer(result)
    text: str = found["text"]
    while (following := (result.meta or {}).get(PAGE, {}).get("next_offset")) is not None:
        result = await client.call_tool("ask_result", {"ask_id": found["ask_id"], "offset": following})
        text += answer(result)["text"]
    return {**found, "text": text}


def answer(result: CallToolResult) -> dict[str, Any]:
    """The `Answer` in a result. Raises AskFailed if it is an error."""
    meta = result.meta or {}
    if result.is_error:
        raise AskFailed(meta[ERROR])
    return meta[ANSWER]


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run an example to its end. Returns its exit code; trouble is told on stderr."""
    try:
        return asyncio.run(work)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return trouble.exit_code
    except KeyboardInterrupt:
        return 130


def _over_stdio() -> StdioServerParameters:
    beside = Path(sys.executable).with_name("llm-mcp-hub")
    program = shutil.which("llm-mcp-hub") or (str(beside) if beside.exists() else None)
    if program is None:
        raise Trouble("llm-mcp-hub is not in PATH.", "Install it, or give the URL of a hub that serves.")
    # The SDK hands on next to nothing by itself, and the hub is your own: it sees to what its children may see.
    return StdioServerParameters(command=program, env={"LOG_LEVEL": "ERROR", **os.environ})


@asynccontextmanager
async def _over_http(url: str, token: str | None) -> AsyncGenerator[Any]:
    async def look(response: httpx2.Response) -> None:  # the SDK tells of no status
        if response.status_code == 401:
            raise NotLetIn(
                "The hub wants a client's token." if token is None else "The hub does not know this client's token.",
                "At the hub, run: llm-mcp-hub client add NAME; then name the file with the token: --token-file FILE",
            )

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=TIMES, event_hooks={"response": [look]}) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


def _told(error: Exception, to: Way) -> Exception:
    """The SDK's groups of errors as one Trouble; whatever is none of a lost hub stays as it is."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, Trouble):
            return leaf
    if all(isinstance(leaf, OSError | httpx2.HTTPError | MCPError) for leaf in leaves):
        where, why = to.url or "llm-mcp-hub", "; ".join(dict.fromkeys(str(leaf) for leaf in leaves))
        action = "Start it there: llm-mcp-hub serve" if to.url else "See what is wrong: llm-mcp-hub doctor"
        return Trouble(f"There is no hub at {where}: {why.rstrip('.')}.", action)
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from _leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error
