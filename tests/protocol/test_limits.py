"""What a client may do over HTTP, and how long a connection may do nothing: a real `serve`, raw sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from llm_mcp_hub.serving import connections
from llm_mcp_hub.serving.connections import CONNECTIONS
from tests.harness import (
    DEADLINE_S,
    Era,
    HttpHub,
    Line,
    World,
    answer_of,
    error_of,
    http_hub,
    make_world,
    open_line,
    run_command,
)
from tests.protocol.hurried import FAILURES, IDLE_S, SESSIONS
from tests.protocol.test_http import GREETING, MCP
from tests.upstreams import google
from tests.upstreams.redis import RedisServer

pytestmark = pytest.mark.timeout(300)
ERAS: list[Era] = ["auto", "legacy"]
MIB = 1 << 20
Came = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""
NOTHING: Mapping[str, str] = {}


def add(world: World, name: str, **limits: int) -> str:
    """A new token for a client with these limits."""
    words = [word for limit, count in limits.items() for word in (f"--{limit.replace('_', '-')}", str(count))]
    done = run_command(world, "client", "add", name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@dataclass
class Hurried:
    """A hub without patience, and the tokens of its clients."""

    world: World
    hub: HttpHub
    tokens: dict[str, str]

    @property
    def address(self) -> tuple[str, int]:
        where = urlsplit(self.hub.url)
        return where.hostname or "", where.port or 0

    def status(self, name: str, path: str = "/health/live") -> int:
        """What a client's request gets."""
        return self.get(name, path)[0]

    def get(self, name: str, path: str = "/health/live") -> Came:
        connection = http.client.HTTPConnection(*self.address, timeout=DEADLINE_S)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.tokens.get(name, name)}"})
        answer = connection.getresponse()
        seen = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        connection.close()
        return seen

    def head(self, name: str, *lines: str, path: str = "/mcp") -> bytes:
        """The head of a POST."""
        token = f"Authorization: Bearer {self.tokens[name]}"
        kinds = [f"{key}: {value}" for key, value in MCP.items()]
        return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", token, *kinds, *lines, "", ""]).encode()

    @contextmanager
    def socket(self, *sent: bytes) -> Generator[socket.socket]:
        with socket.create_connection(self.address, timeout=DEADLINE_S) as opened:
            for part in sent:
                opened.sendall(part)
            yield opened


def everything(opened: socket.socket) -> bytes:
    """All that comes until the other side has closed."""
    came = b""
    with contextlib.suppress(ConnectionError):
        while part := opened.recv(1 << 16):
            came += part
    return came


def until_ended(opened: socket.socket, parts: Iterable[bytes]) -> bytes:
    """Send a part now and then until the other side has closed, and what came until then."""
    came = b""
    opened.settimeout(0.2)
    due = time.monotonic() + DEADLINE_S
    for part in parts:
        assert time.monotonic() < due, "it never ended"
        with contextlib.suppress(TimeoutError):
            try:
                opened.sendall(part)
                if not (more := opened.recv(1 << 16)):
                    return came
                came += more
            except ConnectionError:
                return came
    raise AssertionError("it never ended")


def for_ever(part: bytes) -> Generator[bytes]:
    while True:
        yield part


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Generator[Hurried]:
    with make_world(tmp_path_factory.mktemp("hurried")) as world, ExitStack() as stack:
        world.changes |= {"HUB_CLAUDE_WARM": "0", "HUB_GEMINI_CONCURRENCY": "1", "HUB_QUEUE_LIMIT": "4"}
        tokens = {
            "anna": add(world, "anna"),
            "bob": add(world, "bob"),
            "five": add(world, "five", requests_per_minute=5),
            "two": add(world, "two", at_once=2),
            "many": add(world, "many"),
            "auto": add(world, "auto", asks_per_minute=1),
            "legacy": add(world, "legacy", asks_per_minute=1),
        }
        hub = HttpHub(world.environment, command=("-m", "tests.protocol.hurried", "serve"))
        stack.callback(hub.stop)
        yield Hurried(world, hub, tokens)
        stack.close()
        assert not [line for line in hub.log if '"level": "error"' in line or "Traceback" in line]
        assert world.surprises == []
        world.wait_until_no_child()


@pytest.fixture
def line(hurried: Hurried) -> Generator[Line]:
    with open_line(hurried.world, "http", "auto", hub=hurried.hub, token=hurried.tokens["anna"]) as opened:
        yield opened


# Heads and bodies ---------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_come_is_not_waited_for(hurried: Hurried) -> None:
    """Whether nothing comes, or half of it, or a byte at a time; at a first request and at the next. Others go on."""
    whole = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        nothing = stack.enter_context(hurried.socket())
        half = stack.enter_context(hurried.socket(whole[:20]))
        slow = stack.enter_context(hurried.socket(whole[:-2]))
        second = stack.enter_context(hurried.socket(whole))
        first = b""
        while not first.endswith(b"NAME\n"):
            first += second.recv(1 << 16)
        assert first.startswith(b"HTTP/1.1 401")
        second.sendall(whole[:20])

        ended = [until_ended(slow, for_ever(b"X: y\r\n"))]
        assert hurried.status("bob") == 200
        ended += [everything(second), everything(half)]
        assert everything(nothing) == b""

    assert [said.split(b"\r\n")[0] for said in ended] == [b"HTTP/1.1 408 Request Timeout"] * 3


def test_a_connection_outlives_the_clients_that_would_use_it_again(hurried: Hurried) -> None:
    """The SDK's client keeps one for so long. Closed just then, it would lose the call that it sends."""
    kept_s = httpx2.Limits().keepalive_expiry
    assert kept_s is not None
    asked = hurried.head("bob", path="/health/live").replace(b"POST", b"GET")
    with hurried.socket(asked) as opened:
        time.sleep(kept_s + 0.5)
        opened.sendall(asked)
        came = everything(opened)

    assert came.count(b"HTTP/1.1 200 OK") == 2
    assert kept_s + 0.5 < IDLE_S < connections.IDLE_S


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(hurried: Hurried, length: str) -> None:
    """Silent or a byte at a time: 408, and the connection is closed. Others go on."""
    byte = b"1\r\nx\r\n" if "chunked" in length else b"x"
    with (
        hurried.socket(hurried.head("bob", length), byte) as silent,
        hurried.socket(hurried.head("bob", length)) as slow,
    ):
        trickled = until_ended(slow, for_ever(byte))
        assert hurried.status("bob") == 200
        waited = everything(silent)

    for said in (trickled, waited):
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in said.lower()
        assert b"did not come in time" in said


@pytest.mark.parametrize("path", ["/health/live", "/nowhere"])
def test_a_body_that_nobody_reads_ends_too(hurried: Hurried, path: str) -> None:
    """The answer has gone out long since; what is sent after it is dropped, and not for ever."""
    head = hurried.head("bob", "Content-Length: 60000", path=path)
    with hurried.socket(head) as opened:
        said = until_ended(opened, for_ever(b"x"))

    assert said.startswith(b"HTTP/1.1 40")  # POST is not what these routes are for


@pytest.mark.parametrize("name", ["anna", "stranger"])
@pytest.mark.parametrize("form", ["declared", "chunked"])
def test_a_body_that_is_too_large_is_413(hurried: Hurried, name: str, form: str) -> None:
    """Also for who sends all of it before listening; the connection is closed. A stranger has 64 KiB."""
    size = 17 * MIB if name == "anna" else 100 << 10
    length = f"Content-Length: {size}" if form == "declared" else "Transfer-Encoding: chunked"
    head = hurried.head("anna", length)
    if name == "stranger":
        head = head.replace(hurried.tokens["anna"].encode(), b"llmhub_wrong")
    with hurried.socket(head) as opened:
        with contextlib.suppress(ConnectionError):
            for _ in range(size // 1024):
                opened.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n" if form == "chunked" else b"x" * 1024)
        said = everything(opened)

    expected = b"401" if (name, form) == ("stranger", "chunked") else b"413"
    assert said.startswith(b"HTTP/1.1 " + expected)
    assert b"connection: close" in said.lower()


def test_a_body_of_the_promised_size_is_read(hurried: Hurried) -> None:
    """16 MiB: that it is no message is found out by who reads it."""
    with hurried.socket(hurried.head("anna", f"Content-Length: {16 * MIB}"), b"x" * 16 * MIB) as opened:
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("era", ERAS)
def test_an_answer_is_waited_for_however_long_it_takes(hurried: Hurried, era: Era) -> None:
    """Past every time that a head and a body have: also the stream that a client of the older era holds open."""
    gate = threading.Event()
    hurried.world.gemini.script(google.Answer("Done.", gate=gate))
    before = len(hurried.world.gemini.generations)
    with open_line(hurried.world, "http", era, hub=hurried.hub, token=hurried.tokens["bob"]) as line:
        asked = line.begin("ask_gemini", {"prompt": "hi"})
        hurried.world.gemini.wait_for_generations(before + 1, timeout=DEADLINE_S)
        for _ in range(2):  # so the one that opened first has had twice as long as each time
            with hurried.socket(hurried.head("anna", "Content-Length: 9")) as opened:
                assert everything(opened).startswith(b"HTTP/1.1 408")
        gate.set()

        assert answer_of(asked.result(DEADLINE_S))["text"] == "Done."
        assert not line.call("token_status").is_error


# Connections --------------------------------------------------------------------------------------------------------


def test_a_thousand_idle_connections_end_and_keep_nobody_out(hurried: Hurried) -> None:
    """More than there are places: each newcomer finds one, whoever does nothing loses it, and an answer goes on."""
    gate = threading.Event()
    hurried.world.gemini.script(google.Answer("Done.", gate=gate))
    before = len(hurried.world.gemini.generations)
    with (
        open_line(hurried.world, "http", "auto", hub=hurried.hub, token=hurried.tokens["anna"]) as line,
        ExitStack() as stack,
    ):
        asked = line.begin("ask_gemini", {"prompt": "hi"})
        hurried.world.gemini.wait_for_generations(before + 1, timeout=DEADLINE_S)
        idle = selectors.DefaultSelector()
        for number in range(CONNECTIONS + 100):
            opened = stack.enter_context(hurried.socket())
            opened.setblocking(False)
            idle.register(opened, selectors.EVENT_READ)
            if number % 100 == 0:
                assert hurried.status("bob") == 200
        assert hurried.status("bob") == 200
        due = time.monotonic() + DEADLINE_S
        while idle.get_map():
            assert time.monotonic() < due, f"{len(idle.get_map())} are left"
            for ready, _ in idle.select(DEADLINE_S):
                with contextlib.suppress(ConnectionError):
                    assert ready.fileobj.recv(1 << 16) == b""  # type: ignore[union-attr]
                idle.unregister(ready.fileobj)
        gate.set()

        assert answer_of(asked.result(DEADLINE_S))["text"] == "Done."


# Requests and asks --------------------------------------------------------------------------------------------------


def test_requests_over_a_clients_limit_are_told_when_to_come_back(hurried: Hurried) -> None:
    """429, whole seconds, a sentence; another client is not touched."""
    seen = [hurried.get("five") for _ in range(7)]
    status, headers, body = seen[-1]

    assert [one[0] for one in seen].count(200) in {5, 6}  # one more where a minute of the clock is just over
    assert 1 <= int(headers["retry-after"]) <= 60
    assert (
        body.decode()
        == f"This client may send 5 requests a minute, and has: try again in {headers['retry-after']} s.\n"
    )
    assert status == 429
    assert hurried.status("bob") == 200


@pytest.mark.parametrize("era", ERAS)
def test_asks_over_a_clients_limit_are_a_coded_error(hurried: Hurried, era: Era) -> None:
    """The model reads it, and what to do; nothing is spent, what was asked can be fetched."""
    hurried.world.gemini.default = google.Answer("Hello.")
    with open_line(hurried.world, "http", era, hub=hurried.hub, token=hurried.tokens[era]) as line:
        assert error_of(line.call("ask_gemini", {"prompt": 7}))["code"] == "invalid_request"
        first = answer_of(line.call("ask_gemini", {"prompt": "hi"}))
        if not (second := line.call("ask_gemini", {"prompt": "hi"})).is_error:  # a minute of the clock is just over
            second = line.call("ask_gemini", {"prompt": "hi"})
        error = error_of(second)
        before = hurried.world.prompts_received("gemini")
        assert error_of(line.call("ask_gemini", {"prompt": "hi"}))["code"] == "busy"

        assert (error["code"], error["retryable"]) == ("busy", True)
        assert 1 <= error["retry_after_s"] <= 60
        assert f"Try again in {error['retry_after_s']} s" in error["action"]
        assert hurried.world.prompts_received("gemini") == before
        assert answer_of(line.call("ask_result", {"ask_id": first["ask_id"]}))["text"] == "Hello."


def test_open_requests_over_a_clients_limit_are_told_to_wait(hurried: Hurried) -> None:
    """Two that are held open are all; when they have ended there is room again."""
    head = hurried.head("two", "Content-Length: 9")
    with hurried.socket(head) as one, hurried.socket(head) as other:
        status, headers, body = until(lambda: hurried.get("two"), 429)
        assert (status, headers["retry-after"].isdigit()) == (429, True)
        assert b"2 requests open at once" in body
        assert everything(one).startswith(b"HTTP/1.1 408")
        assert everything(other).startswith(b"HTTP/1.1 408")

    assert until(lambda: hurried.get("two"), 200)[0] == 200


def until(call: Callable[[], Came], status: int) -> Came:
    """Try it until this comes."""
    due = time.monotonic() + DEADLINE_S
    while (seen := call())[0] != status:
        assert time.monotonic() < due, seen
    return seen


def test_one_client_that_asks_without_end_leaves_room_for_another(hurried: Hurried) -> None:
    """Its share of the queue is a half; whoever comes beside it is the next to be served."""
    gates = [threading.Event() for _ in range(2)]
    hurried.world.gemini.script(google.Answer("First.", gate=gates[0]), google.Answer("Second.", gate=gates[1]))
    hurried.world.gemini.default = google.Answer("Later.")
    before = len(hurried.world.gemini.generations)
    with ExitStack() as stack:
        anna, bob = (
            stack.enter_context(open_line(hurried.world, "http", "auto", hub=hurried.hub, token=hurried.tokens[name]))
            for name in ("anna", "bob")
        )
        asked = [anna.begin("ask_gemini", {"prompt": "anna"})]
        hurried.world.gemini.wait_for_generations(before + 1, timeout=DEADLINE_S)
        asked += [anna.begin("ask_gemini", {"prompt": "anna", "wait_s": 0}) for _ in range(2)]
        waiting = [one.result(DEADLINE_S) for one in asked[1:]]
        assert not any(one.is_error for one in waiting)

        error = error_of(anna.call("ask_gemini", {"prompt": "anna"}))
        other = bob.begin("ask_gemini", {"prompt": "bob"})
        gates[0].set()
        answered = asked[0].result(DEADLINE_S)
        gates[1].set()

        assert (error["code"], error["retry_after_s"] > 0) == ("busy", True)
        assert "share" in error["message"]
        assert answer_of(answered)["text"] == "First."
        assert answer_of(other.result(DEADLINE_S))["text"] == "Second."
        for one in waiting:
            ticket = one.meta["llm-mcp-hub/answer"]["ask_id"]  # type: ignore[index]
            assert answer_of(anna.call("ask_result", {"ask_id": ticket}))["text"] == "Later."


def test_one_client_that_opens_sessions_without_end_leaves_room_for_another(hurried: Hurried) -> None:
    """Of the older era's, half of all; one that it ends is one it may open. The newer era needs none.

    A header that is sent twice makes no older request a newer one.
    """

    def call(name: str, method: str, body: bytes = b"", twice: Mapping[str, str] = NOTHING, **headers: str) -> Came:
        connection = http.client.HTTPConnection(*hurried.address, timeout=DEADLINE_S)
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        given = {**MCP, "Authorization": f"Bearer {hurried.tokens[name]}", "Content-Length": str(len(body)), **given}
        connection.putrequest(method, "/mcp")
        for header, value in (*given.items(), *twice.items()):
            connection.putheader(header, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        seen = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        connection.close()
        return seen

    greeting = json.dumps(GREETING).encode()
    opened = [call("many", "POST", greeting) for _ in range(SESSIONS // 2)]
    status, headers, body = call("many", "POST", greeting)

    assert {one[0] for one in opened} == {200}
    assert (status, headers["retry-after"]) == (429, "60")
    assert f"holds {SESSIONS // 2} sessions" in body.decode()
    newer = {"MCP-Protocol-Version": "2026-07-28"}  # of which the SDK takes the first
    assert call("many", "POST", greeting, newer, MCP_Protocol_Version="2025-11-25")[0] == 429
    assert call("bob", "POST", greeting)[0] == 200
    with open_line(hurried.world, "http", "auto", hub=hurried.hub, token=hurried.tokens["many"]) as line:
        assert not line.call("token_status").is_error
    session = opened[0][1]["mcp-session-id"]
    assert call("many", "DELETE", Mcp_Session_Id=session)[0] == 200
    assert [call("many", "POST", greeting)[0] for _ in range(2)] == [200, 429]


def test_who_guesses_is_sent_away_and_who_knows_comes_in(hurried: Hurried) -> None:
    """From the very address that guesses: a right token is looked at first."""
    guesses = [hurried.get("llmhub_wrong") for _ in range(FAILURES + 5)]
    status, headers, body = guesses[-1]

    assert {one[0] for one in guesses} <= {401, 429}
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["connection"] == "close"
    assert b"without a valid token" in body
    assert [hurried.status("bob") for _ in range(5)] == [200] * 5


# The commands -------------------------------------------------------------------------------------------------------


def test_limits_are_told_by_the_list_and_kept(world: World) -> None:
    """A second token changes what it names; for programs under the names of the file."""
    add(world, "anna", requests_per_minute=30, at_once=4)
    add(world, "anna", at_once=8)
    add(world, "bob")

    table = run_command(world, "client", "list").stdout.decode()
    told = json.loads(run_command(world, "client", "list", "--json").stdout)

    assert table.count("(30 requests a minute, 8 at once)") == 2
    assert told["anna"]["limits"] == {"requests_per_minute": 30, "asks_per_minute": None, "at_once": 8}
    assert told["bob"]["limits"] is None


@pytest.mark.parametrize(
    "words",
    [
        ["add", "anna", "--asks-per-minute", "0"],
        ["add", "anna", "--asks-per-minute", "many"],
        ["revoke", "anna", "--at-once", "1"],
        ["list", "--requests-per-minute", "1"],
    ],
    ids=" ".join,
)
def test_limits_that_make_no_sense_change_nothing(world: World, words: list[str]) -> None:
    """Exit 64, nothing on stdout that could be taken for a token."""
    ended = run_command(world, "client", *words)

    assert (ended.returncode, ended.stdout) == (64, b"")
    assert not (world.state / "clients.json").exists()


# Several hubs -------------------------------------------------------------------------------------------------------


def test_two_hubs_on_one_redis_share_a_clients_limits(world: World, tmp_path: Path) -> None:
    """What one has let in the other does not; when the server is away each lets half in, and serves on."""
    world.changes["HUB_CLAUDE_WARM"] = "0"
    tokens = {name: add(world, name, requests_per_minute=8) for name in ("anna", "bob")}
    with RedisServer(tmp_path / "redis") as redis, ExitStack() as stack:
        world.changes["REDIS_URL"] = redis.url
        hubs = [Hurried(world, stack.enter_context(http_hub(world)), tokens) for _ in range(2)]
        shared = [hubs[number % 2].status("anna") for number in range(12)]
        redis.kill()
        alone = [[hub.status("bob") for _ in range(6)] for hub in hubs]

    assert shared == [200] * 8 + [429] * 4
    for codes in alone:
        assert (codes.count(200) in {4, 5}, codes[-1]) == (True, 429)
