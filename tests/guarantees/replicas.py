"""Replicas as their operator runs them: hubs with folders of their own, one Redis, one key, and nginx before them.

It knows processes, the wire of both eras and the example's file; it does not know how replicas keep what they share.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

from aiohttp import web
from mcp_types import CallToolResult

from tests.guarantees.drill import MODERN, Call, Log
from tests.guarantees.durable import until
from tests.harness import DEADLINE_S, ROOT, Era, World
from tests.upstreams import nginx
from tests.upstreams.loopback import LoopbackServer, Received
from tests.upstreams.redis import free_port

EXAMPLE = ROOT / "examples" / "nginx" / "llm-mcp-hub.conf"
KEY = "the-first-key-of-the-replicas-made-up"
OLDER = "2025-11-25"


class Replica:
    """One `serve` on a port and in a state folder that stay its own, however often it is killed and started."""

    def __init__(self, world: World, name: str, **changes: str) -> None:
        self._world = world
        self._changes = {
            "HUB_STATE_DIR": f"{world.state}-{name}",
            "HUB_STATE_KEY": KEY,
            "HUB_CLAUDE_WARM": "0",
            **changes,
        }
        self.name = name
        self.port = free_port()
        self.logs: list[Log] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Log:
        """Of its present life."""
        return self.logs[-1]

    def start(self, *, listening: bool = True) -> Self:
        log = Log()
        self.logs.append(log)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llm_mcp_hub", "serve", "--port", str(self.port)],
            env={**self._world.environment, **self._changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log.write_end,
        )
        log.handed_over()
        if listening:
            log.wait_for("Uvicorn running on ")
        return self

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM. Returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


class Nginx:
    """The real nginx with the example's very file, its ports changed. A context manager."""

    def __init__(self, folder: Path, replicas: Sequence[Replica]) -> None:
        """Raises FileNotFoundError when this machine has no nginx."""
        self.port = free_port()
        folder.mkdir()
        text = EXAMPLE.read_text("utf-8")
        for there, port in [("8080", self.port), *zip(("8001", "8002"), (each.port for each in replicas), strict=True)]:
            text, changed = re.subn(rf"127\.0\.0\.1:{there}\b", f"127.0.0.1:{port}", text)
            assert changed == 1, f"127.0.0.1:{there} stands {changed} times in the example"
        (folder / "hub.conf").write_text(text)
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy"))
        others = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("fastcgi", "uwsgi", "scgi"))
        self.log = folder / "error.log"
        (folder / "nginx.conf").write_text(
            f"{'user root; ' if os.geteuid() == 0 else ''}worker_processes 1; pid {folder}/pid; daemon off;"
            f"error_log {self.log} info; events {{}} "
            f"http {{ access_log off; {paths} {others} include {folder}/hub.conf; }}"
        )
        self._words = [nginx.program(), "-e", str(self.log), "-c", str(folder / "nginx.conf")]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until(self._serves, "nginx serves")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text() if self.log.exists() else "nginx did not begin"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def __exit__(self, *_error: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)


class Receiver(LoopbackServer):
    """Takes alerts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        super().__init__(self._take)

    async def _take(self, _request: web.Request, received: Received) -> web.StreamResponse:
        self.alerts.append(received.json)
        return web.Response(status=204)


class Wire:
    """A client of one era without a library. It has one session, and says at each call which port it goes to."""

    def __init__(self, era: Era, *, name: str = "wire", token: str | None = None, host: str | None = None) -> None:
        self.era = era
        self.session: str | None = None
        self._name = name
        self._more = {} if token is None else {"authorization": f"Bearer {token}"}
        if host is not None:
            self._more["host"] = host
        self._numbers = itertools.count(1)
        self._threads: list[threading.Thread] = []

    def greet(self, port: int) -> Self:
        """Begin a session of the older era there."""
        info = {"name": self._name, "version": "1"}
        params = {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": info}
        status, headers, body = self.send(port, self.message("initialize", params, number=0))
        assert status == 200, body
        self.session = headers["mcp-session-id"]
        status, _, _ = self.send(port, self.message("notifications/initialized", {}))
        assert status == 202
        return self

    def call(self, port: int, tool: str, **arguments: Any) -> Call:
        """Call a tool, and do not wait."""
        call = Call(next(self._numbers))
        message = self.message("tools/call", {"name": tool, "arguments": arguments}, number=call.number)
        thread = threading.Thread(target=self._post, args=(port, message, call), daemon=True)
        self._threads.append(thread)
        thread.start()
        return call

    def cancel(self, port: int, call: Call) -> int:
        """Call it off by a notification. Returns the status."""
        return self.send(port, self.message("notifications/cancelled", {"requestId": call.number}))[0]

    def message(self, method: str, params: Mapping[str, Any], *, number: int | None = None) -> dict[str, Any]:
        """A message as this era has it; a notification without a number."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": dict(params)}
        if number is not None:
            message["id"] = number
        if self.era == "auto":
            message["params"]["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": self._name, "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        return message

    def headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", **self._more}
        if self.era == "auto":
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": message["method"]}
            headers["mcp-name"] = message["params"].get("name", "")
        elif self.session is not None:
            headers |= {"mcp-protocol-version": OLDER, "mcp-session-id": self.session}
        return headers

    def send(
        self, port: int, message: Mapping[str, Any] | None = None, method: str = "POST", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request as this client would make it, with these headers besides: status, headers and body."""
        given = {**self.headers(message or {"method": "", "params": {}}), **headers}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request(method, "/mcp", None if message is None else json.dumps(message), given)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def close(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _post(self, port: int, message: Mapping[str, Any], call: Call) -> None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
            connection.connect()
            call.socket = cast("socket.socket", connection.sock)
            with contextlib.closing(connection):
                connection.request("POST", "/mcp", json.dumps(message), self.headers(message))
                for line in connection.getresponse():
                    data = line.removeprefix(b"data:").strip()
                    if data.startswith(b"{") and (told := json.loads(data)).get("id") == call.number:
                        return call.settle(told)
            raise ConnectionError("the stream ended without an answer")
        except (OSError, http.client.HTTPException, ValueError) as error:
            call.outcome.set_exception(error)


@contextmanager
def wires(*eras: Era) -> Generator[list[Wire]]:
    """Clients that are waited for at the end."""
    made = [Wire(era) for era in eras]
    try:
        yield made
    finally:
        for wire in made:
            wire.close()


def id_of(listed: CallToolResult, prompt: str) -> str:
    """The ask of a prompt in what `ask_result` lists."""
    assert not listed.is_error, listed.content
    assert listed.meta is not None
    (found,) = [ask["ask_id"] for ask in listed.meta["llm-mcp-hub/asks"] if ask["title"] == prompt]
    return found
