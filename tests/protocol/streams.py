"""Raw connections to a hub over HTTP, held open by a test: streams, calls that wait, half a request."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.harness import DEADLINE_S, Era
from tests.protocol.test_http import GREETING, MCP

VERSION = "2026-07-28"
SENT = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Open:
    """One connection, and what comes on it. A context manager: leaving it hangs up."""

    def __init__(self, url: str, token: str | None = None, session: str | None = None) -> None:
        self.url = url
        self.token = token
        self.session = session
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
        self.connection.connect()
        self._socket: socket.socket = self.connection.sock  # which it forgets where an answer ends the connection
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.headed = threading.Event()
        """The head of an answer has come."""
        self.ended = threading.Event()
        """The answer has ended, well or not."""
        self.broke: Exception | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # closed alone it would still be read, and waited for
            self.socket.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(DEADLINE_S)
        self.connection.close()

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def write(self, raw: bytes) -> None:
        """Half of a request, say."""
        self.socket.sendall(raw)

    def send(self, method: str, path: str, message: Any = None, **headers: str) -> Self:
        """Send a request; what comes is read by a thread. `headers` with `_` for `-`."""
        given = {**MCP, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        self.connection.request(method, path, None if message is None else json.dumps(message), given)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        try:
            response = self.connection.getresponse()
            self.status = response.status
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.headed.set()
            while piece := response.read1(1 << 16):  # line by line it would not notice that the end is missing
                self.body += piece
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            self.broke = error
        self.headed.set()
        self.ended.set()

    def post(self, era: Era, method: str, params: dict[str, Any]) -> Self:
        """One message of either era; the older one is greeted on a connection of its own."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        if era == "legacy":
            return self.send("POST", "/mcp", message, Mcp_Session_Id=self.session or greeted(self.url, self.token))
        message["params"] = {**params, "_meta": SENT}
        return self.send(
            "POST", "/mcp", message, MCP_Protocol_Version=VERSION, Mcp_Method=method, Mcp_Name=params.get("name", "")
        )

    def call(self, era: Era, tool: str, **arguments: Any) -> Self:
        """Call a tool."""
        return self.post(era, "tools/call", {"name": tool, "arguments": arguments})

    def listens(self, era: Era) -> Self:
        """The stream on which a client hears of changes; it has begun when this returns."""
        if era == "legacy":
            session = self.session or greeted(self.url, self.token)
            self.send("GET", "/mcp", Mcp_Session_Id=session, Accept="text/event-stream")
        else:
            self.post(era, "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["hub://tokens"]}})
        assert self.headed.wait(DEADLINE_S)
        assert self.status == 200, self.body
        return self

    def result(self) -> dict[str, Any]:
        """What the call was answered."""
        assert self.ended.wait(DEADLINE_S), "no answer"
        for line in self.body.splitlines():
            data = line.removeprefix(b"data:").strip()
            if data.startswith(b"{") and "result" in (told := json.loads(data)):
                return told["result"]
        raise AssertionError(f"{self.status} {self.broke!r}: {self.body[:500]!r}")

    @property
    def waits(self) -> bool:
        return not self.ended.is_set()


def greeted(url: str, token: str | None = None) -> str:
    """The id of a session of the older era."""
    with Open(url, token) as line:
        hello: dict[str, Any] = dict(GREETING)
        line.send("POST", "/mcp", {**hello, "params": {**hello["params"], "protocolVersion": "2025-11-25"}})
        assert line.ended.wait(DEADLINE_S)
        return line.headers["mcp-session-id"]


def error_in(result: dict[str, Any]) -> dict[str, Any]:
    """The coded error of a tool's result."""
    assert result["isError"], result
    return result["_meta"]["llm-mcp-hub/error"]


def answer_in(result: dict[str, Any]) -> dict[str, Any]:
    """The answer of a tool's result."""
    assert not result.get("isError"), result
    return result["_meta"]["llm-mcp-hub/answer"]
