"""How a hub over HTTP is looked after, and how it comes to its end: readiness, drain, signals at every moment."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.guarantees.drill import Gate, Log, run_folders, wait_until_gemini_starts
from tests.guarantees.durable import until
from tests.harness import DEADLINE_S, ROOT, TOKEN, Era, HttpHub, World, http_hub, run_command
from tests.protocol.conftest import Shared
from tests.protocol.streams import SENT, VERSION, Open, answer_in, error_in, greeted
from tests.protocol.test_http import MCP, ask
from tests.upstreams import google
from tests.upstreams.redis import RedisServer

ERAS: list[Era] = ["auto", "legacy"]
NEVER_S = "3600"
"""As HUB_DRAIN_S: what ends within a test's time was not waited for."""
FIRST, REST = "The first words", ", and the rest."


def logged(hub: HttpHub, words: str) -> None:
    """Block until the hub has logged this."""
    until(lambda: any(words in line for line in hub.log), f"{words!r} in the log")


def complaints(hub: HttpHub) -> list[str]:
    """Errors in the log of a hub that has ended."""
    return [line for line in hub.log if json.loads(line)["level"] in {"error", "critical"}]


def held_answer(world: World) -> threading.Event:
    """What Gemini answers comes in two parts; the second when the event is set."""
    go_on = threading.Event()
    world.gemini.default = google.Answer(chunks=[FIRST, REST], gate=go_on, gate_after=1)
    return go_on


def asked(world: World, line: Open, era: Era, **arguments: object) -> Open:
    """A call that waits for Gemini's answer, which has begun."""
    before = world.prompts_received("gemini")
    line.call(era, "ask_gemini", prompt="a question", wait_s=3600, **arguments)
    world.gemini.wait_until(lambda: world.prompts_received("gemini") > before, timeout=DEADLINE_S)
    return line


@pytest.fixture
def lean(world: World) -> World:
    """A world whose hubs start Claude only when it is asked."""
    world.changes |= {"HUB_CLAUDE_WARM": "0", "HUB_DRAIN_S": NEVER_S, "LOG_LEVEL": "DEBUG"}
    return world


@pytest.fixture
def bare(lean: World) -> World:
    """A world whose hubs start nothing: there is no login."""
    lean.changes["CLAUDE_CODE_OAUTH_TOKEN"] = ""
    lean.login_file.unlink()
    return lean


# Ready --------------------------------------------------------------------------------------------------------------


def told_ready(url: str) -> tuple[int, dict[str, object]]:
    status, body = ask(url, "GET", "/health/ready")
    return status, json.loads(body)


def test_a_hub_that_can_ask_is_ready(shared: Shared) -> None:
    """No provider is asked for that."""
    before = [shared.world.prompts_received(provider) for provider in ("claude", "gemini")]

    told = told_ready(shared.url)

    assert told == (200, {"status": "ready", "failing": [], "store": "reachable"})
    assert [shared.world.prompts_received(provider) for provider in ("claude", "gemini")] == before


def test_a_hub_without_a_usable_login_is_not_ready(lean: World) -> None:
    """With one of two it is; which comes and goes without a restart. It lives in any case."""
    lean.changes["CLAUDE_CODE_OAUTH_TOKEN"] = ""
    login = lean.login_file.read_bytes()
    with http_hub(lean) as hub:
        assert told_ready(hub.url)[0] == 200
        lean.login_file.unlink()
        none = told_ready(hub.url)
        assert ask(hub.url, "GET", "/health/live")[0] == 200
        lean.login_file.write_bytes(login)
        assert told_ready(hub.url)[0] == 200

    assert none == (503, {"status": "not ready", "failing": ["providers"], "store": "reachable"})


def test_a_store_that_is_away_leaves_the_hub_ready(lean: World, tmp_path: Path) -> None:
    """Asks go on without it. A frozen server is told as one that is away, and holds up no answer."""
    with RedisServer(tmp_path / "redis") as server:
        lean.changes["REDIS_URL"] = server.url
        with http_hub(lean) as hub:
            assert told_ready(hub.url) == (200, {"status": "ready", "failing": [], "store": "reachable"})
            server.freeze()
            frozen = told_ready(hub.url)
            server.thaw()
            until(lambda: told_ready(hub.url)[1]["store"] == "reachable", "the store is seen again")
            server.kill()
            gone = told_ready(hub.url)

    assert frozen == gone == (200, {"status": "ready", "failing": [], "store": "degraded"})


# The drain ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_a_hub_that_drains_finishes_what_runs_and_takes_nothing_new(lean: World, era: Era) -> None:
    """On connections that are still open: not ready, a new ask is `busy`, an ask that runs can be come for."""
    go_on = held_answer(lean)
    with http_hub(lean) as hub, ExitStack() as stack:
        waiting, ticket, lost = (asked(lean, stack.enter_context(Open(hub.url)), era) for _ in range(3))
        session = greeted(hub.url)
        # Not sooner, for a connection that says nothing is closed; nor later, for then there are none to be had.
        look, one_more, lives = (stack.enter_context(Open(hub.url)) for _ in range(3))
        one_more.session = session
        hub.process.terminate()
        logged(hub, "the hub ends")
        look.send("GET", "/health/ready")
        refused = error_in(one_more.call(era, "ask_claude", prompt="one more").result())
        assert look.ended.wait(DEADLINE_S)
        live = lives.send("GET", "/health/live")
        assert live.ended.wait(DEADLINE_S)
        lost.socket.shutdown(socket.SHUT_RDWR)
        go_on.set()
        answers = [answer_in(line.result()) for line in (waiting, ticket)]
        code = hub.process.wait(DEADLINE_S)

    assert (look.status, json.loads(look.body)["failing"]) == (503, ["draining"])
    assert (live.status, live.headers["connection"]) == (200, "close")
    assert (refused["code"], refused["retryable"], refused["provider"]) == ("busy", True, "claude")
    assert 0 < refused["retry_after_s"] <= float(NEVER_S)
    assert "ask_gemini" not in refused["action"]  # it is the hub that is full, not the provider
    assert [answer["text"] for answer in answers] == [FIRST + REST] * 2
    assert code == 0
    lean.wait_until_no_child()


def test_nobody_who_only_listens_or_idles_is_waited_for(bare: World) -> None:
    """Streams of both eras, connections that idle, and one that never says a word: nothing runs, so the hub ends."""
    with http_hub(bare) as hub, ExitStack() as stack:
        streams = [stack.enter_context(Open(hub.url)).listens(era) for era in ERAS]
        idle = stack.enter_context(Open(hub.url)).send("GET", "/health/live")
        silent, halting = stack.enter_context(Open(hub.url)), stack.enter_context(Open(hub.url))
        halting.write(b"GET /health/live HTTP/1.1\r\nHost: loc")
        assert idle.ended.wait(DEADLINE_S)
        assert all(stream.waits for stream in streams)
        hub.process.terminate()
        code = hub.process.wait(DEADLINE_S)
        ended = [stream.ended.wait(DEADLINE_S) for stream in streams]
        assert silent.socket.recv(1) == b""

    assert (code, ended) == (0, [True, True])
    assert [stream.broke for stream in streams] == [None, None]  # ended as HTTP has it
    assert complaints(hub) == []


LONG = 400_000
"""Characters of an answer that comes in one page; what a result holds of it is twice as much."""


def test_a_client_that_does_not_read_or_never_ends_its_request_holds_nothing_up_for_long(lean: World) -> None:
    """As long as asks may take and a little longer, and then its connection is cut."""
    lean.changes["HUB_DRAIN_S"] = "1"
    lean.gemini.default = google.Answer("a" * LONG)
    pages = 12
    with http_hub(lean) as hub, ExitStack() as stack:
        line = stack.enter_context(Open(hub.url))
        answer = answer_in(line.call("auto", "ask_gemini", prompt="much", wait_s=3600).result())
        deaf, endless = (stack.enter_context(Open(hub.url)) for _ in range(2))
        endless.write(raw("ask_gemini", {"prompt": "x" * 1_000})[:-500])
        for _ in range(pages):
            deaf.write(raw("ask_result", {"ask_id": answer["ask_id"]}))
        assert deaf.socket.recv(1) == b"H"
        hub.process.terminate()
        code = hub.process.wait(DEADLINE_S)
        came = 0
        with contextlib.suppress(ConnectionError):
            while piece := deaf.socket.recv(1 << 20):
                came += len(piece)

    assert (code, complaints(hub)) == (0, [])
    assert 0 < came < pages * 2 * LONG  # more than the system takes for a client was still to be read
    lean.wait_until_no_child()


def raw(tool: str, arguments: dict[str, object]) -> bytes:
    """A call of the newer era as it stands on the wire."""
    params = {"name": tool, "arguments": arguments, "_meta": SENT}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = {"Host": "localhost", **MCP, "MCP-Protocol-Version": VERSION, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    lines = [f"{name}: {value}" for name, value in {**head, "Content-Length": str(len(message))}.items()]
    return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + message


@pytest.mark.parametrize("era", ERAS)
def test_what_does_not_end_in_time_is_told_to_who_waits_and_kept_for_the_next_hub(lean: World, era: Era) -> None:
    """One coded error that says to ask again, with the text that has come; the same by `ask_result` at the next hub."""
    lean.changes["HUB_DRAIN_S"] = "1"
    held_answer(lean)
    with http_hub(lean) as hub, Open(hub.url) as line:
        asked(lean, line, era)
        logged(hub, "first text")
        hub.process.terminate()
        told = error_in(line.result())
        code = hub.process.wait(DEADLINE_S)
    lean.wait_until_no_child()
    with http_hub(lean) as next_hub, Open(next_hub.url) as line:
        kept = error_in(line.call(era, "ask_result", ask_id=told["ask_id"]).result())

    assert code == 0
    assert (told["code"], told["retryable"], told["partial_text"]) == ("internal", True, FIRST)
    assert {name: kept[name] for name in told} == told


@pytest.mark.parametrize(("era", "number"), [("auto", signal.SIGTERM), ("legacy", signal.SIGINT)])
def test_a_second_signal_ends_the_hub_at_once(lean: World, era: Era, number: signal.Signals) -> None:
    """Whichever comes second; the ask is a record like one whose time was over, and no child is left."""
    held_answer(lean)
    with http_hub(lean) as hub, Open(hub.url) as line:
        asked(lean, line, era)
        logged(hub, "first text")
        hub.process.terminate()
        logged(hub, "the hub ends")
        assert hub.process.poll() is None
        hub.process.send_signal(number)
        code = hub.process.wait(DEADLINE_S)
    log = "".join(hub.log)
    lean.wait_until_no_child()
    listed = json.loads(run_command(lean, "asks", "--json").stdout)

    assert code == 0, log
    assert "Traceback" not in log
    assert [(ask["status"], ask["error"]["retryable"], ask["partial_text"]) for ask in listed] == [
        ("failed", True, FIRST)
    ]
    assert run_folders(lean) == []


def test_a_store_that_another_program_holds_does_not_hold_up_the_end(lean: World) -> None:
    """Each of its asks would wait for it once more. Who waits is told how they ended, and the log what is lost."""
    asks = 6
    lean.changes["HUB_DRAIN_S"] = "1"
    held_answer(lean)
    with http_hub(lean) as hub, ExitStack() as stack:
        lines = [asked(lean, stack.enter_context(Open(hub.url)), "auto") for _ in range(asks)]
        until(lambda: sum("first text" in line for line in hub.log) == asks, "all have begun")
        with contextlib.closing(sqlite3.connect(lean.state / "hub.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            hub.process.terminate()
            told = [error_in(line.result()) for line in lines]
            code = hub.process.wait(DEADLINE_S)
    lean.wait_until_no_child()

    assert [(one["code"], one["partial_text"]) for one in told] == [("internal", FIRST)] * asks
    assert (code, complaints(hub)) == (0, [])
    lost = [json.loads(line)["ask_id"] for line in hub.log if "not written down" in line]
    assert sorted(lost) == sorted(one["ask_id"] for one in told)


def test_a_wait_for_an_ask_of_another_hub_does_not_hold_up_the_end(lean: World) -> None:
    """The other hub goes on with it: who waits here is told how it stands, and comes back there."""
    go_on = held_answer(lean)
    with http_hub(lean) as other, http_hub(lean) as hub, Open(other.url) as line, Open(hub.url) as here:
        ticket = answer_in(line.call("auto", "ask_gemini", prompt="a question", wait_s=0).result())
        here.call("auto", "ask_result", ask_id=ticket["ask_id"], wait_s=3600)
        with Open(hub.url) as probe:  # accepted and read after it
            assert probe.send("GET", "/health/live").ended.wait(DEADLINE_S)
        hub.process.terminate()
        told = answer_in(here.result())
        code = hub.process.wait(DEADLINE_S)
        go_on.set()

    assert (code, told["status"]) == (0, "working")


# Signals at other moments -------------------------------------------------------------------------------------------


@contextmanager
def starting(world: World) -> Generator[tuple[subprocess.Popen[bytes], Log]]:
    """A hub that is on its way."""
    log = Log()
    process = subprocess.Popen(
        [*world.command, "serve", "--port", "0"],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log.write_end,
    )
    log.handed_over()
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def hears(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has a handler for SIGTERM."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    raise AssertionError("the kernel says nothing of its signals")


def ended_in_order(world: World, process: subprocess.Popen[bytes], log: Log) -> None:
    """Exit 0, nothing left, no traceback."""
    assert process.wait(DEADLINE_S) == 0, log.text
    said = log.end()
    world.wait_until_no_child()
    assert run_folders(world) == []
    assert "Traceback" not in said


def test_a_signal_before_the_hub_listens_ends_it_in_order(bare: World) -> None:
    """As soon as it hears signals at all, long before there is a server."""
    with starting(bare) as (process, log):
        until(lambda: hears(process), "it hears signals")
        process.terminate()
        ended_in_order(bare, process, log)

    assert "Uvicorn running" not in log.text


@pytest.mark.parametrize("moment", ["Waiting for application startup", "Uvicorn running on"])
def test_a_signal_during_the_start_ends_the_hub_in_order(lean: World, moment: str) -> None:
    """Whichever part of it was there already goes again."""
    with starting(lean) as (process, log):
        log.wait_for(moment)
        process.terminate()
        ended_in_order(lean, process, log)


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_signal_while_claude_is_warmed_ends_the_hub_in_order(world: World, tmp_path: Path, twice: bool) -> None:
    """Its child is held where nothing ties it to the hub yet."""
    world.claude_warm = 1
    with Gate(tmp_path / "gate", world) as gate, starting(world) as (process, log):
        gate.wait_until_held()
        process.terminate()
        if twice:
            process.terminate()
        ended_in_order(world, process, log)


def test_a_signal_while_gemini_is_warmed_ends_the_hub_in_order(lean: World) -> None:
    """In the middle of its start, which waits for an answer of its provider."""
    lean.changes["HUB_GEMINI_WARM"] = "1"
    lean.gemini.hold_quota_from = 1
    with starting(lean) as (process, log):
        wait_until_gemini_starts(lean)
        process.terminate()
        ended_in_order(lean, process, log)


def test_a_hub_over_stdio_whose_end_goes_wrong_ends_all_the_same(tmp_path: Path) -> None:
    """Its client's end of stdin is open, and the thread that reads it would keep the process."""
    words = [sys.executable, "-m", "tests.protocol.watched", "stdio", str(tmp_path), "fails-to-close"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
            process.stdin.flush()
            assert process.stdout.readline()
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
    assert "the hub did not end as it should" in (tmp_path / "log").read_text()


# Under another server -----------------------------------------------------------------------------------------------

UVICORN = ("-m", "uvicorn", "llm_mcp_hub.main:app")


@pytest.mark.parametrize("ends", [True, False], ids=["in time", "not in time"])
def test_under_plain_uvicorn_the_hub_drains_too(lean: World, ends: bool) -> None:
    """It hears the signal beside uvicorn, so nothing new is taken, streams end, and calls get answers, in both eras."""
    go_on = held_answer(lean)
    if not ends:
        lean.changes["HUB_DRAIN_S"] = "1"
    hub = HttpHub(lean.environment, command=UVICORN)
    with ExitStack() as stack:
        stack.callback(hub.stop)
        streams = [stack.enter_context(Open(hub.url)).listens(era) for era in ERAS]
        lines = [asked(lean, stack.enter_context(Open(hub.url)), era) for era in ERAS]
        logged(hub, "first text")
        hub.process.terminate()
        logged(hub, "the hub ends")
        if ends:
            go_on.set()
        results = [line.result() for line in lines]
        code = hub.process.wait(DEADLINE_S)

    assert code == -signal.SIGTERM  # uvicorn ends by the signal that stopped it
    for result in results:
        if ends:
            assert answer_in(result)["text"] == FIRST + REST
        else:
            assert (error_in(result)["retryable"], error_in(result)["partial_text"]) == (True, FIRST)
    assert all(stream.ended.wait(DEADLINE_S) for stream in streams)
    lean.wait_until_no_child()
    assert run_folders(lean) == []
    assert TOKEN not in "".join(hub.log)
