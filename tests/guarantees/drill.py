"""How a hub is driven by hand, struck in the middle of an answer, and searched for what it left behind.

What is done to a hub is exactly what stands in the test: its pipes, signals and streams are in the test's hands.
Every wait is for an event (a request at a stand-in, a line of the hub's log, the end of a process) and has a deadline.
It knows the wire, the log and the processes; it does not know how the hub keeps its promise.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import itertools
import json
import os
import select
import shutil
import signal
import socket
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import psutil
import pytest
from _pytest.mark import ParameterSet
from anyio.from_thread import start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult

from llm_mcp_hub.providers.claude_pool import KEPT
from tests.harness import DEADLINE_S, Era, Line, Transport, World, stdio_server
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

ROUNDS = int(os.environ.get("HUB_DRILL_ROUNDS", "1"))
"""How often each blow falls: once; `make drill` says 2, and `make drill-full` 20. Read here because the tests' own
environment is scrubbed."""


def repeated(test: Callable[..., None]) -> Callable[..., None]:
    """A test that every run makes once, and that is a drill where it is made more often."""
    return pytest.mark.drill(test) if ROUNDS > 1 else test


def in_a_drill(*row: object) -> ParameterSet:
    """A row that only a drill makes: what it shows others have shown but for the way that leads there."""
    return pytest.param(*row, marks=pytest.mark.drill)


Provider = Literal["claude", "gemini"]
PROVIDERS: tuple[Provider, ...] = ("claude", "gemini")
QUESTION = "a question"
FIRST = "The first words"
HELLO: Mapping[Provider, str] = {
    "claude": "Hello from the stand-in of Claude.",
    "gemini": "Hello from the stand-in of Gemini.",
}
TIGHT = {
    "HUB_CLAUDE_WARM": "1",
    # One place each: an ask that kept its place would keep the next one waiting for ever.
    "HUB_CLAUDE_CONCURRENCY": "1",
    "HUB_GEMINI_CONCURRENCY": "1",
    "HUB_DRAIN_S": "1",
    "LOG_LEVEL": "DEBUG",
}
MODERN = "2026-07-28"
KEPT_WARM: Mapping[Provider, int] = {"claude": 1 + KEPT, "gemini": 1}
"""Most children that a hub may keep of each provider when nothing is asked: one ahead, and Claude's of the last
conversations; Gemini's conversations are all in the one process."""


# What is seen ---------------------------------------------------------------------------------------------------------


class Log:
    """What a hub writes to its stderr, line by line as it comes. `write_end` is what the hub is given."""

    def __init__(self) -> None:
        read_end, self.write_end = os.pipe()
        self._lines: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._reader.start()

    def handed_over(self) -> None:
        """The hub has its end: without ours the log ends when the hub does."""
        os.close(self.write_end)

    def _read(self, read_end: int) -> None:
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {}
                with self._came:
                    self._lines.append(line)
                    self._events.append(cast("dict[str, Any]", event if isinstance(event, dict) else {}))
                    self._came.notify_all()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def found(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The lines whose event begins with `event` and that have these fields."""
        wanted = fields.items()
        return [e for e in list(self._events) if str(e.get("event", "")).startswith(event) and wanted <= e.items()]

    def wait_for(self, event: str, *, more_than: int = 0, **fields: object) -> dict[str, Any]:
        """Block until more than so many of such lines have come; returns the last. Raises AssertionError."""
        with self._came:
            came = self._came.wait_for(lambda: len(self.found(event, **fields)) > more_than, DEADLINE_S)
        assert came, f"no {event!r} of {fields} within {DEADLINE_S} s; the log: {self.text}"
        return self.found(event, **fields)[-1]

    def end(self) -> str:
        """Wait for the log's end, which is the hub's. Returns all of it."""
        self._reader.join(DEADLINE_S)
        assert not self._reader.is_alive(), "something still holds the hub's stderr"
        return self.text


class Asking:
    """An ask that its provider never answers to the end: seen from the provider's side and in the hub's log.

    Make it before the ask is sent. Without `text` not even headers come.
    """

    def __init__(self, world: World, log: Log, provider: Provider, text: str = FIRST) -> None:
        self.provider: Provider = provider
        self._world = world
        self._log = log
        self._text = text
        self._before = world.prompts_received(provider)
        self._texts = len(log.found("first text", provider=provider))
        # By the question and not by the turn: an ask that never got as far must not leave its silence to the next.
        world.claude.default = lambda received: (
            anthropic.Hang(text)
            if QUESTION in anthropic.last_user_texts(received)
            else anthropic.Answer(HELLO["claude"])
        )
        world.gemini.default = lambda received: (
            google.Hang(text) if QUESTION in google.prompt_texts(received) else google.Answer(HELLO["gemini"])
        )

    @property
    def request(self) -> Received:
        received = self._world.claude.received if self.provider == "claude" else self._world.gemini.generations
        return received[self._before]

    def under_way(self) -> None:
        """Block until the ask is in the middle of its answer: the hub itself has the first text, if there is one."""
        try:
            self._world.upstream(self.provider).wait_until(
                lambda: self._world.prompts_received(self.provider) > self._before, timeout=DEADLINE_S
            )
        except AssertionError as error:
            raise AssertionError(f"{self.provider} was not asked; the hub's log: {self._log.text}") from error
        if self._text:
            self._log.wait_for("first text", more_than=self._texts, provider=self.provider)
        assert self.request.ended == "open"

    def was_under_way(self) -> bool:
        """Whether it came as far before it ended."""
        asked = self._world.prompts_received(self.provider) > self._before
        return asked and (not self._text or len(self._log.found("first text", provider=self.provider)) > self._texts)

    def withdrawn(self) -> None:
        """Block until the provider has seen its caller hang up, if it was asked at all."""
        if self._world.prompts_received(self.provider) > self._before:
            self.closed(time.monotonic())

    def closed(self, since: float) -> float:
        """Block until the provider sees its caller hang up. Returns the milliseconds since then."""
        assert self.request.done.wait(DEADLINE_S), f"{self.provider}: the request is still open upstream"
        took = (time.monotonic() - since) * 1000
        assert self.request.ended == "disconnected"
        assert self._world.prompts_received(self.provider) == self._before + 1, "the CLI asked again by itself"
        return took


class Tally:
    """Counts the rounds survived, and says so at the end, whether or not all were: one line for each provider."""

    def __init__(self, blow: str, rounds: int = ROUNDS) -> None:
        self._blow = blow
        self._rounds = rounds
        self._survived: dict[Provider, int] = dict.fromkeys(PROVIDERS, 0)
        self._took: dict[Provider, list[float]] = defaultdict(list)

    def survived(self, provider: Provider, closed_after_ms: float | None = None) -> None:
        self._survived[provider] += 1
        if closed_after_ms is not None:
            self._took[provider].append(closed_after_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        print()
        for provider, count in self._survived.items():
            took = self._took[provider]
            times = f"  upstream closed after {statistics.median(took):.0f} ms (most {max(took):.0f})" if took else ""
            print(f"G5  {self._blow:<38} {provider:<7} survived {count}/{self._rounds}{times}")


# What is left ---------------------------------------------------------------------------------------------------------


def run_folders(world: World) -> list[Path]:
    """The folders of hubs, living or dead."""
    root = world.state / "run"
    return [folder for folder in root.iterdir() if folder.is_dir()] if root.exists() else []


def children_of(world: World, provider: Provider) -> list[psutil.Process]:
    """A provider's children, the oldest first; of one that is a shell with helpers yet, the shell."""
    found: dict[str, psutil.Process] = {}
    for process in sorted(world.children(), key=lambda process: (process.create_time(), process.pid)):
        with contextlib.suppress(psutil.Error):
            home = process.environ().get("HOME", "")
            if Path(home).name.startswith(f"{provider}-"):
                found.setdefault(home, process)
    return list(found.values())


def busy_child(world: World, asking: Asking) -> psutil.Process:
    """The one whose request it is that the stand-in has; others may hold a connection from an earlier answer."""
    for child in children_of(world, asking.provider):
        for connection in child.net_connections("tcp"):
            if cast("tuple[str, int]", connection.laddr)[1] == asking.request.port:
                return child
    raise AssertionError(f"no child of {asking.provider} has this request at its stand-in")


def wait_until_settled(world: World) -> None:
    """Block until nothing is open upstream, and no child is left but those kept warm."""
    until = time.monotonic() + DEADLINE_S
    for provider in PROVIDERS:
        world.upstream(provider).wait_until_quiet(timeout=DEADLINE_S)
        while len(left := children_of(world, provider)) > KEPT_WARM[provider]:
            assert one_has_gone(left, until), f"left behind: {left}"


def descriptors(process: psutil.Process) -> int:
    """How many file descriptors a living hub holds."""
    return process.num_fds()


FEW = 8
"""So many descriptors may come and go (a warm child being connected has four); a leak of one a round shows in 20."""


# What is held ---------------------------------------------------------------------------------------------------------


class Gate:
    """Holds Claude's child at the worst moment of its start: its pid is noted, but nothing ties it to the hub yet.

    It stands in the way of `setpriv`, which is what the child's wrapper runs next. A context manager: leaving it lets
    all go on.
    """

    def __init__(self, folder: Path, world: World) -> None:
        folder.mkdir()
        real = shutil.which("setpriv")
        assert real is not None, "the drill needs setpriv (util-linux)"
        held, go, shut = folder / "held", folder / "go", folder / "shut"
        os.mkfifo(held)
        os.mkfifo(go)
        shut.touch()
        script = folder / "setpriv"
        script.write_text(f'#!/bin/sh\nif [ -e {shut} ]; then echo >{held}; read _ <{go}; fi\nexec {real} "$@"\n')
        script.chmod(stat.S_IRWXU)
        world.changes["PATH"] = f"{folder}:{os.environ['PATH']}"
        self._shut = shut
        self._held = os.open(held, os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(go, os.O_RDWR)

    def wait_until_held(self, count: int = 1) -> None:
        """Block until so many more children have come to the gate."""
        for _ in range(count):
            readable, _w, _x = select.select([self._held], [], [], DEADLINE_S)
            assert readable, "no child of Claude was started"
            os.read(self._held, 1)

    def open(self) -> None:
        """Let those who wait and all who come go on."""
        if self._shut.exists():
            self._shut.unlink()
            os.write(self._go, b"\n" * 64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        os.close(self._held)
        os.close(self._go)


def wait_until_gemini_starts(world: World) -> None:
    """Block until Gemini's child is in the middle of its start; set `hold_quota_from` to 1 before the hub is asked."""

    def held() -> bool:
        return any(request.path.endswith(":retrieveUserQuota") for request in world.gemini.open)

    world.gemini.wait_until(held, timeout=DEADLINE_S)


# A hub, and what is sent to it ----------------------------------------------------------------------------------------


class Call:
    """A tool call under way."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcome: Future[CallToolResult] = Future()
        self.socket: socket.socket | None = None

    def settle(self, message: Mapping[str, Any]) -> None:
        if "result" in message:
            self.outcome.set_result(CallToolResult.model_validate(message["result"]))
        else:
            self.outcome.set_exception(RuntimeError(f"refused: {message.get('error')}"))

    def result(self) -> CallToolResult:
        return self.outcome.result(DEADLINE_S)

    def hang_up(self) -> None:
        """Close the connection of a call over HTTP."""
        assert self.socket is not None
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Hub:
    """A real hub in a process group of its own, with its pipes and its connections in the test's hands."""

    def __init__(self, world: World, transport: Transport, era: Era = "legacy") -> None:
        self.transport = transport
        self.era = era
        self.log = Log()
        over_pipes = transport == "stdio"
        self.process = subprocess.Popen(
            [*world.command, *([] if over_pipes else ["serve", "--port", "0"])],
            env=world.environment,
            stdin=subprocess.PIPE if over_pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if over_pipes else subprocess.DEVNULL,
            stderr=self.log.write_end,
            start_new_session=True,
        )
        self.log.handed_over()
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._session: str | None = None
        self._threads: list[threading.Thread] = []
        self._port = 0
        try:
            self._begin(over_pipes=over_pipes)
        except BaseException:  # nobody will end it: there is no `with` yet
            self.process.kill()
            raise

    def _begin(self, *, over_pipes: bool) -> None:
        if over_pipes:
            self._in_a_thread(self._read)
        else:
            self._port = int(str(self.log.wait_for("Uvicorn running on ")["event"]).split(" ")[3].rpartition(":")[2])
        if self.era == "legacy":
            self._shake_hands()
        elif over_pipes:
            self.call("token_status", {}).result()  # there is no handshake in this era

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/mcp"

    @property
    def itself(self) -> psutil.Process:
        """The process that does the work: over stdio it stands behind the one that the client knows."""
        known = psutil.Process(self.process.pid)
        return known if self.transport == "http" else known.children()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in self._calls.values():
            if call.socket is not None:
                call.hang_up()
        try:
            if error is None:
                self.end()
        finally:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def another(self, era: Era) -> Hub:
        """One more client of the same hub over HTTP. The hub ends with the first one."""
        other = copy.copy(self)
        other.era = era
        other._calls, other._threads, other._session = {}, [], None
        if era == "legacy":
            other._shake_hands()
        return other

    # -- blows

    def end(self) -> int:
        """End it as its owner would. Returns the exit code."""
        if self.process.poll() is None:
            if self.transport == "stdio":
                self.close_stdin()
            else:
                self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def stop_reading(self) -> None:
        """Close the reading end of the hub's stdout, under the thread that reads it."""
        assert self.process.stdout is not None
        nobody = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nobody, self.process.stdout.fileno())
        os.close(nobody)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """To the hub alone, or as a terminal's Ctrl-C to its whole process group."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    # -- calls

    def ask(self, provider: Provider, **arguments: Any) -> Call:
        """Ask, and do not wait."""
        return self.call(f"ask_{provider}", {"prompt": QUESTION, **arguments})

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Call:
        call = Call(next(self._numbers))
        self._calls[call.number] = call
        message = self._message(call.number, "tools/call", {"name": tool, "arguments": dict(arguments)})
        if self.transport == "stdio":
            self.send(message)
        else:
            self._in_a_thread(self._post, message, call)
        return call

    def cancel(self, call: Call) -> None:
        """The explicit one: a notification. Over HTTP there is one in the older era only."""
        message = self._message(None, "notifications/cancelled", {"requestId": call.number})
        if self.transport == "stdio":
            self.send(message)
            return
        with contextlib.closing(self._connection()) as connection:
            connection.request("POST", "/mcp", json.dumps(message), self._headers(message))
            assert connection.getresponse().status == 202

    def end_session(self) -> None:
        """Take leave of a hub over HTTP as a client of the older era does, and come back as another one."""
        with contextlib.closing(self._connection()) as connection:
            connection.request("DELETE", "/mcp", headers=self._headers({}))
            assert connection.getresponse().status == 200
        self._session = None
        self._shake_hands()

    def send(self, *messages: Mapping[str, Any]) -> None:
        """Write messages to stdin, all at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.process.stdin.flush()

    def _message(self, number: int | None, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": dict(params)}
        if number is not None:
            message["id"] = number
        if self.era == "auto":
            message["params"]["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "drill", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        return message

    def _shake_hands(self) -> None:
        hello = Call(next(self._numbers))
        self._calls[hello.number] = hello
        info = {"name": "drill", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        greeting = self._message(hello.number, "initialize", params)
        done = self._message(None, "notifications/initialized", {})
        if self.transport == "stdio":
            self.send(greeting, done)
            hello.result()
            return
        connection = self._connection()
        with contextlib.closing(connection):
            connection.request("POST", "/mcp", json.dumps(greeting), self._headers(greeting))
            response = connection.getresponse()
            self._session = response.headers["mcp-session-id"]
            response.read()
            connection.request("POST", "/mcp", json.dumps(done), self._headers(done))
            assert connection.getresponse().status == 202

    def _headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.era == "auto":
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": message["method"]}
            headers["mcp-name"] = message["params"].get("name", "")
        elif self._session is not None:
            headers |= {"mcp-protocol-version": "2025-11-25", "mcp-session-id": self._session}
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        connection.connect()
        return connection

    def _post(self, message: Mapping[str, Any], call: Call) -> None:
        try:
            connection = self._connection()
            call.socket = cast("socket.socket", connection.sock)
            with contextlib.closing(connection):
                connection.request("POST", "/mcp", json.dumps(message), self._headers(message))
                for line in connection.getresponse():
                    data = line.removeprefix(b"data:").strip()
                    if data.startswith(b"{") and (told := json.loads(data)).get("id") == call.number:
                        return call.settle(told)
            raise ConnectionError("the stream ended without an answer")
        except (OSError, http.client.HTTPException, ValueError) as error:
            call.outcome.set_exception(error)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            call = self._calls.get(told.get("id", 0))
            if call is not None and not call.outcome.done():
                call.settle({"result": {"content": []}} if "serverInfo" in told.get("result", {}) else told)
        for call in list(self._calls.values()):
            if not call.outcome.done():
                call.outcome.set_exception(ConnectionError("the hub has gone"))

    def _in_a_thread(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


class Shell:
    """`llm-mcp-hub ask` as a shell runs it: in a process group of its own, which is what Ctrl-C is sent to."""

    def __init__(self, world: World, provider: Provider, prompt: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llm_mcp_hub", "ask", provider, prompt],
            env=world.environment,
            stdin=subprocess.PIPE if prompt == "-" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def read(self, count: int) -> bytes:
        """The first bytes of the answer, as soon as they are printed."""
        assert self.process.stdout is not None
        return self.process.stdout.read(count)

    def stop_reading(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_until_it_waits(self) -> None:
        """Block until it sleeps for want of input. The kernel tells nobody when that is, so it is looked at."""
        process, until = psutil.Process(self.process.pid), time.monotonic() + DEADLINE_S
        while process.status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < until, "it never came to wait"
            os.sched_yield()

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        code = self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        return code, self.process.stderr.read().decode()


@contextmanager
def shells(world: World, prompt: str = QUESTION) -> Generator[dict[Provider, Shell]]:
    """Both providers are asked from a shell, at once."""
    asked: dict[Provider, Shell] = {provider: Shell(world, provider, prompt) for provider in PROVIDERS}
    try:
        yield asked
    finally:
        for shell in asked.values():
            shell.process.kill()
            shell.process.wait(DEADLINE_S)
            for pipe in (shell.process.stdin, shell.process.stdout, shell.process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


@contextmanager
def official_client(world: World, transport: Transport, era: Era) -> Generator[tuple[Line, Log, psutil.Process]]:
    """The official Python client on a hub of its own: the line to it, the hub's log, and the hub."""
    with contextlib.ExitStack() as stack:
        if transport == "http":
            hub = stack.enter_context(Hub(world, "http", "auto"))
            log, process = hub.log, psutil.Process(hub.process.pid)
            client = Client(hub.url, mode=era)
        else:
            log, process = Log(), None
            errors = os.fdopen(log.write_end, "w")
            stack.callback(errors.close)
            client = Client(stdio_client(stdio_server(world), errlog=errors), mode=era)
        portal = stack.enter_context(start_blocking_portal("asyncio"))
        stack.enter_context(portal.wrap_async_context_manager(client))
        yield Line(portal, client, lambda: log.text), log, process or _own_hub(world)


def _own_hub(world: World) -> psutil.Process:
    fronts: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # what another test has left to be reaped
            if child.environ().get("HOME") == str(world.home):
                fronts.append(child)
    (front,) = fronts
    (hub,) = front.children()
    return hub


def hello(provider: Provider) -> tuple[str, dict[str, str]]:
    """Tool and arguments of an ask that the stand-in answers at once with HELLO."""
    return f"ask_{provider}", {"prompt": "and the next one"}


def one_has_gone(processes: Sequence[psutil.Process], until: float) -> bool:
    """Block until one of these has ended, or the time has come. A zombie has ended: its new parent may be slow."""
    with contextlib.ExitStack() as stack:
        watched: list[int] = []
        for process in processes:
            try:
                watched.append(os.pidfd_open(process.pid))
            except ProcessLookupError:
                return True
            stack.callback(os.close, watched[-1])
            if not process.is_running():  # the number has a new owner
                return True
        ended, _w, _x = select.select(watched, [], [], max(0.0, until - time.monotonic()))
        return bool(ended)


def gone(processes: Sequence[psutil.Process]) -> None:
    """Block until all of these have ended. Raises AssertionError."""
    until = time.monotonic() + DEADLINE_S
    for process in processes:
        assert one_has_gone([process], until), f"left behind: {process}"
