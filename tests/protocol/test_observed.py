"""What an operator sees of a hub over HTTP: its log, which nobody else can write in, and what Prometheus reads."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import DEADLINE_S, HttpHub, Line, World, answer_of, error_of, make_world, open_line, run_command
from tests.protocol.test_door import add, call
from tests.upstreams import anthropic

PROMPT = f"prompt {secrets.token_hex(16)}"
MARK = "pwned"
HOSTILE = [
    f'a\r\n{{"event": "{MARK}"}}',
    f"a\n2026-01-01T00:00:00Z [error    ] {MARK}",
    f"a\r{MARK}",
    f"a\x1b[2J\x1b[31m{MARK}",
    f"a\x1b]0;{MARK}\x07",
    f"a\x9b31m{MARK}\x85",
    f"a\u202e{MARK}\u2066",
    f"a\u2028{MARK}\u2029",
    f"a\x00\x08\x7f{MARK}",
    f"{MARK}" * 20_000,
]


def raw(url: str, head: bytes) -> bytes:
    """Send these bytes as the head of a request. Returns the first of what comes back."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=DEADLINE_S) as connection:
        # A server that refuses a head may have closed the connection before all of it was sent.
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return connection.recv(4096)
    return b""


def heads(word: str, token: str, host: str) -> Generator[bytes]:
    """A hostile word in each place of a request's head where a client has its say, as UTF-8 and escaped."""
    for text in (word.encode("utf-8", "surrogatepass"), word.encode("latin-1", "replace")):
        sent = text[:4000]
        known = f"Authorization: Bearer {token}".encode()
        escaped = b"".join(b"%%%02x" % byte for byte in sent[:1000])
        yield b"GET /health/live HTTP/1.1\r\nHost: " + sent
        for line in (
            b"GET /health/live HTTP/1.1",
            b"GET /" + sent + b" HTTP/1.1",
            b"GET /" + escaped + b"?" + escaped + b" HTTP/1.1",
            sent + b" /mcp HTTP/1.1",
            b"GET /mcp HTTP/" + sent,
        ):
            yield line + b"\r\nHost: " + host.encode()
            yield line + b"\r\nHost: " + host.encode() + b"\r\n" + known
        for name in (b"Origin", b"User-Agent", b"Authorization", b"Mcp-Session-Id", b"Mcp-Protocol-Version", b"Accept"):
            told = b"" if name == b"Authorization" else b"\r\n" + known
            yield b"POST /mcp HTTP/1.1\r\nHost: " + host.encode() + b"\r\n" + name + b": " + sent + told


def bodies(word: str) -> Generator[dict[str, Any]]:
    """A hostile word in each place of a message where a client has its say."""
    about = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": word, "version": word},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    for name, arguments in (
        (word, {}),
        ("ask_gemini", {"prompt": PROMPT, "model": word}),
        ("ask_gemini", {"prompt": PROMPT, "conversation_id": word}),
        ("ask_gemini", {"prompt": PROMPT, word: 1}),
        ("ask_claude", {"prompt": PROMPT, "files": [word]}),
        ("ask_result", {"ask_id": word}),
        ("ask_cancel", {"ask_id": word}),
    ):
        params = {"_meta": about, "name": name, "arguments": arguments}
        yield {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    yield {"jsonrpc": "2.0", "id": word, "method": word, "params": {"_meta": about}}
    yield {"jsonrpc": "2.0", "method": word, "params": {"_meta": about}}
    greeting = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": word, "version": word}}
    yield {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": greeting}


@pytest.mark.parametrize("form", ["json", "console"])
def test_nobody_writes_in_the_log(tmp_path: Path, form: str) -> None:
    """Line ends, escapes and turned text in whatever a client can choose: every line stays the hub's own."""
    with make_world(tmp_path / "world") as world:
        world.changes.update(HUB_LOG_FORMAT=form, LOG_LEVEL="DEBUG", HUB_CLAUDE_WARM="0")
        token = add(world, "anna")
        hub = HttpHub(world.environment)
        try:
            place = urlsplit(hub.url).netloc
            sent = 0
            for word in HOSTILE:
                for head in heads(word, token, place):
                    raw(hub.url, head)
                    sent += 1
                for body in bodies(word):
                    extra = [("Mcp-Protocol-Version", "2026-07-28")] if body["method"] != "initialize" else []
                    call(hub.url, "POST", "/mcp", extra, json.dumps(body).encode(), token=token)
                    sent += 1
                with open_line(world, "http", "legacy", hub=hub, token=token, program=word) as line:
                    error_of(line.call("ask_claude", {"prompt": PROMPT, "model": word}))
                    error_of(line.call(word))
            assert call(hub.url, token=token).status == 200
        finally:
            hub.stop()
        log = "".join(hub.log)

    assert sent > 300
    assert PROMPT not in log
    assert token not in log
    assert [line for line in hub.log if not line.removesuffix("\n").isprintable()] == []
    assert max(map(len, hub.log)) < 10_000
    if form == "json":
        told = [json.loads(line) for line in hub.log]
        assert MARK not in {record["event"] for record in told}
        assert {"hub starts", "request refused", "call refused"} <= {record["event"] for record in told}
        refused = [record for record in told if record["event"] == "call refused"]
        assert {record["client"] for record in refused} == {"anna"}
        assert any(MARK in record["program"] for record in refused)
        assert told[-1]["logger"].startswith("uvicorn") or told[-1]["event"] == "hub ended"
        start = next(record for record in told if record["event"] == "hub starts")
        assert start["version"]
        assert {name: start[name] for name in ("transport", "store", "clients")} == {
            "transport": "http",
            "store": "sqlite",
            "clients": 1,
        }
        # However many came: a line for a reason, and another one only some time later.
        assert sum(record["event"] == "request refused" for record in told) < sent / 5
    else:
        assert [line for line in hub.log if not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[\w+ *\] ", line)] == []


# -- what Prometheus reads ---------------------------------------------------------------------------------------------

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Measured:
    """A hub with tokens, and what it tells of itself."""

    world: World
    hub: HttpHub
    tokens: dict[str, str]

    def text(self) -> str:
        seen = call(self.hub.url, path="/metrics", token=self.tokens["anna"])
        assert seen.status == 200
        return seen.body.decode()

    def samples(self) -> Samples:
        found: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                found[sample.name.removeprefix("llm_hub_"), frozenset(sample.labels.items())] = sample.value
        return found

    def until(self, true: Callable[[Samples], bool]) -> Samples:
        """Scrape until this is so; what is open is seen a moment later."""
        for _ in range(1000):
            if true(found := self.samples()):
                return found
        raise AssertionError(self.text())


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def grown(before: Samples, after: Samples, name: str) -> dict[tuple[str, ...], float]:
    """By how much each series of this name has grown, by its labels' values in order of their names."""
    found: dict[tuple[str, ...], float] = {}
    for (sample, labels), value in after.items():
        more = value - before.get((sample, labels), 0)
        if sample == name and more:
            found[tuple(value for _, value in sorted(labels))] = more
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Generator[Measured]:
    with make_world(tmp_path_factory.mktemp("measured")) as world, ExitStack() as stack:
        world.changes.update(HUB_CLAUDE_WARM="0", HUB_CLAUDE_CONCURRENCY="3")
        tokens = {"anna": add(world, "anna"), "carol": add(world, "carol", "ask:claude")}
        hub = HttpHub(world.environment)
        stack.callback(hub.stop)
        yield Measured(world, hub, tokens)
        stack.close()
        world.wait_until_no_child()


@pytest.fixture
def line(measured: Measured) -> Generator[Line]:
    with open_line(measured.world, "http", "legacy", hub=measured.hub, token=measured.tokens["anna"]) as opened:
        yield opened


def test_asks_are_counted_where_prometheus_reads(measured: Measured, line: Line) -> None:
    """One that is answered, one that fails, one that is not accepted; what they used, and which processes they made."""
    before = measured.samples()

    usage = answer_of(line.call("ask_claude", {"prompt": PROMPT}))["usage"]
    measured.world.claude.default = anthropic.Error.bad_request()
    error_of(line.call("ask_claude", {"prompt": PROMPT}))
    measured.world.claude.default = anthropic.Answer("Hello.")
    error_of(line.call("ask_claude", {"prompt": PROMPT, "conversation_id": "conv_of_nobody"}))
    after = measured.samples()

    assert grown(before, after, "asks_total") == {("answer", "claude"): 1, ("invalid_request", "claude"): 1}
    assert grown(before, after, "asks_refused_total") == {("claude", "not_found"): 1}
    used = grown(before, after, "usage_total")
    assert used["input", "claude"] == usage["input_tokens"]
    assert used["output", "claude"] == usage["output_tokens"]
    for name in ("duration", "queue"):
        assert grown(before, after, f"ask_{name}_seconds_count") == {("claude",): 2}
    assert grown(before, after, "ask_first_text_seconds_count") == {("claude",): 1}
    assert after[of("children_started_total", provider="claude")] >= 1
    assert after[of("children", provider="claude")] >= 1
    assert after[of("ask_places", provider="claude")] == 3
    assert after[of("asks_running", provider="claude")] == 0
    assert after[of("store_up", kind="sqlite")] == 1
    assert after[of("draining")] == 0
    assert after["process_open_fds", frozenset()] > 0
    assert [word for word in (PROMPT, "Hello.", "anna", "conv_of_nobody") if word in measured.text()] == []


def test_requests_and_refusals_are_counted_by_what_they_were(measured: Measured) -> None:
    """Of paths that anybody makes up there is one series, and the reasons are ours."""
    anna, carol = measured.tokens["anna"], measured.tokens["carol"]
    before = measured.samples()

    seen = [
        call(measured.hub.url, path=path, headers=headers, token=token).status
        for path, headers, token in (
            ("/health/live", [], anna),
            ("/nowhere", [], anna),
            ("/nowhere/else", [], anna),
            ("/health/live", [], None),  # a probe: refused, and not told of
            ("/metrics", [], None),
            ("/health/live", [], "llmhub_wrong"),
            ("/health/live", [("Host", "evil.example")], anna),
            ("/health/live", [("Origin", "https://evil.example")], anna),
            ("/health/tokens", [], carol),
            ("/health/live", [("Content-Length", str(17 << 20))], anna),
        )
    ]
    after = measured.samples()

    assert seen == [200, 404, 404, 401, 401, 401, 421, 403, 403, 413]
    assert grown(before, after, "http_requests_total") == {
        ("/health/live", "2xx"): 1,
        ("/health/live", "4xx"): 5,
        ("/health/tokens", "4xx"): 1,
        ("/metrics", "2xx"): 1,
        ("/metrics", "4xx"): 1,
        ("other", "4xx"): 2,
    }
    assert grown(before, after, "http_refusals_total") == {
        ("no_token",): 1,
        ("wrong_token",): 1,
        ("host",): 1,
        ("origin",): 1,
        ("scope",): 1,
        ("body_size",): 1,
    }
    assert grown(before, after, "authentication_failures_total") == {("no_token",): 1, ("wrong_token",): 1}


def test_what_is_open_is_seen(measured: Measured) -> None:
    """A session of the older era has a stream of its own; it goes with its client."""
    at_rest = measured.until(lambda found: found[of("http_sessions")] == 0 and found[of("http_streams_open")] == 0)

    with open_line(measured.world, "http", "legacy", hub=measured.hub, token=measured.tokens["anna"]):
        measured.until(lambda found: found[of("http_sessions")] == 1 and found[of("http_streams_open")] == 1)
    gone = measured.until(lambda found: found[of("http_sessions")] == 0 and found[of("http_streams_open")] == 0)

    assert at_rest[of("http_requests_open")] == gone[of("http_requests_open")] == 1  # the scrape itself


def test_the_metrics_are_for_those_who_may_see_the_status(measured: Measured) -> None:
    """They tell how the owner's subscriptions are used."""
    tokens = (None, measured.tokens["carol"])

    assert [call(measured.hub.url, path="/metrics", token=token).status for token in tokens] == [401, 403]


def test_a_hub_that_a_client_starts_says_so(tmp_path: Path) -> None:
    """The first line names what runs, for whoever gets the log of another machine; the last says that it ended."""
    with make_world(tmp_path / "world") as world:
        shown = run_command(world)  # its stdin is at its end

    told = [json.loads(line) for line in shown.stderr.splitlines()]
    assert shown.returncode == 0
    assert (told[0]["event"], told[0]["transport"], told[0]["store"]) == ("hub starts", "stdio", "sqlite")
    assert told[-1]["event"] == "hub ended"
