"""G8, whatever is sent: every input over HTTP gets an answer of HTTP and of the protocol, and none breaks the hub.

With all rounds these are 20,000 inputs. A 5xx is only right when it is one of the hub's own coded errors; `internal` is
none of those, and the log must not hold one exception. hypothesis alone, and no schemathesis: that reads an OpenAPI
document, and what there is to vary of the plain routes are their addresses and headers.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.guarantees.drill import ROUNDS, repeated
from tests.guarantees.fuzzing import Input, Known, inputs
from tests.guarantees.target import admitted
from tests.harness import DEADLINE_S, HttpHub, World, answer_of, http_hub, make_world, open_line
from tests.protocol.test_http import GREETING, MCP

INPUTS = 1_000 * ROUNDS
SESSIONS = 3
CODED = {"store_unavailable", "busy"}
"""Codes that may come as a JSON-RPC error with a 5xx."""


class Broken(AssertionError):
    """An input that got no right answer."""


@dataclass
class Thrower:
    """Sends inputs over one connection, as a client, and looks at what comes back."""

    hub: HttpHub
    token: str
    known: Known

    def __post_init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.statuses: collections.Counter[int] = collections.Counter()
        self.last: collections.deque[Input] = collections.deque(maxlen=5)
        self._connection = self._connect()
        self._read = 0

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.hub.url).netloc, timeout=DEADLINE_S)

    def throw(self, one: Input) -> None:
        """Send it, and read the answer. Raises Broken."""
        self.last.append(one)
        try:
            response = self._send(one)
        except (http.client.HTTPException, OSError) as error:
            raise Broken(f"no answer: {error!r}") from error
        self.counts[one.kind] += 1
        self.statuses[response.status] += 1
        if response.headers.get_content_type() == "text/event-stream" and response.status == 200:
            self._stream(one, response)
        else:
            body = response.read()
            if response.headers.get_content_type() == "application/json" and one.method != "HEAD" and body:
                self._look(response.status, body)
            elif response.status >= 500:
                raise Broken(f"{response.status}: {body[:300]!r}")
        broken = [line for line in self.hub.log[self._read :] if '"exception"' in line or "Traceback" in line]
        self._read = len(self.hub.log)
        if broken:
            raise Broken(f"an exception that nobody handled: {broken}")

    def _send(self, one: Input) -> http.client.HTTPResponse:
        for attempt in (1, 2):
            self._connection.putrequest(one.method, one.path, skip_accept_encoding=True)
            for name, value in one.headers:
                self._connection.putheader(name, value.encode("latin-1"))
            self._connection.putheader("Authorization", f"Bearer {self.token}")
            self._connection.putheader("Content-Length", str(len(one.body)))
            try:
                self._connection.endheaders(one.body)
                return self._connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()  # it had been closed after the answer before
                if attempt == 2:
                    raise
        raise AssertionError

    def _stream(self, one: Input, response: http.client.HTTPResponse) -> None:
        """Read events until the answer; a stream that only tells is left after its beginning."""
        endless = one.method == "GET" or b"subscriptions/listen" in one.body
        if not endless:
            for line in response:
                if line.startswith(b"data:") and line[5:].strip():
                    self._look(200, line[5:])
            return
        response.close()
        self._connection.close()
        self._connection = self._connect()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _look(self, status: int, body: bytes) -> None:
        try:
            parsed: Any = json.loads(body)
        except ValueError:
            raise Broken(f"no JSON: {status} {body[:300]!r}") from None
        told = cast("dict[str, Any]", parsed if isinstance(parsed, dict) else {})
        error: dict[str, Any] = told.get("error") or {}
        coded = str(error.get("message", "")).partition(":")[0] in CODED
        if (status >= 500 or error.get("code") == -32603) and not coded:
            raise Broken(f"{status}: {body[:300]!r}")
        result: dict[str, Any] = told.get("result") or {}
        if result.get("isError") and result["_meta"]["llm-mcp-hub/error"]["code"] == "internal":
            raise Broken(f"{body[:300]!r}")


def opened(url: str, token: str) -> str:
    """A session of the older era."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        headers = {**MCP, "Authorization": f"Bearer {token}"}
        connection.request("POST", "/mcp", json.dumps(GREETING), headers)
        response = connection.getresponse()
        response.read()
        return response.headers["mcp-session-id"]


@pytest.fixture
def thrower(tmp_path: Path) -> Generator[Thrower]:
    with make_world(tmp_path) as world:
        files = _prepare(world, tmp_path / "files")
        token = admitted(world, "alice")
        with http_hub(world) as hub:
            with open_line(world, "http", "auto", hub=hub, token=token) as line:
                asked = [answer_of(line.call(f"ask_{name}", {"prompt": "one"})) for name in ("claude", "gemini")]
                tools = {tool["name"]: tool["inputSchema"] for tool in line.tools()}
            thrower = Thrower(
                hub,
                token,
                Known(
                    tools=tools,
                    asks=tuple(answer["ask_id"] for answer in asked),
                    conversations=tuple(answer["conversation_id"] for answer in asked),
                    files=files,
                    sessions=tuple(opened(hub.url, token) for _ in range(SESSIONS)),
                ),
            )
            with contextlib.closing(thrower):
                yield thrower
            with open_line(world, "http", "auto", hub=hub, token=token) as line:
                assert answer_of(line.call("ask_gemini", {"prompt": "still there?"}))["text"]
        assert hub.process.returncode == 0
        assert not [line for line in hub.log if '"exception"' in line or "Traceback" in line]
        assert world.surprises == []
        world.wait_until_no_child()


def _prepare(world: World, folder: Path) -> tuple[str, ...]:
    """Files that may be read, and one that is not there."""
    folder.mkdir()
    (folder / "one.txt").write_text("some text")
    (folder / "two.bin").write_bytes(bytes(range(256)))
    world.changes["HUB_FILE_ROOTS"] = str(folder)
    return tuple(str(folder / name) for name in ("one.txt", "two.bin", "none.txt", "../hub.sqlite3"))


@repeated
@pytest.mark.timeout(7_200)
def test_whatever_is_sent_gets_an_answer_and_breaks_nothing(thrower: Thrower) -> None:
    """Each route and tool, both eras; drawn anew in each full run, and the same ones in CI."""

    @settings(
        max_examples=INPUTS,
        deadline=None,
        database=None,
        derandomize=ROUNDS < 20,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(inputs(thrower.known))
    def throw(one: Input) -> None:
        thrower.throw(one)

    try:
        throw()
    finally:
        print(f"\nG8  {sum(thrower.counts.values()):,} inputs: {dict(thrower.counts.most_common())}")
        print(f"G8  answers by status: {dict(sorted(thrower.statuses.items()))}")
