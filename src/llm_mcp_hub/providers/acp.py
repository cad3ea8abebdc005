"""Agent Client Protocol, version 1: bytes in, values out. A pure codec: no I/O, no clock, no process, no provider.

JSON-RPC 2.0, one message a line. What stands before a message on its line (a terminal's start-up sequences, a login
text) is not part of the protocol and is handed out as `Noise`, so that the caller can look at it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

VERSION = 1
_MARK = b'{"jsonrpc"'
_SURROGATES = dict.fromkeys(range(55296, 57344), "�")


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one of our requests: `result`, or `error_code` with `error_message`."""

    id: int
    result: Mapping[str, Any] | None
    error_code: int | None = None
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """A `session/update`: something happened in a session. `text` is "" for kinds without text."""

    session: str
    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """The agent asks us for something (a permission, a file, a terminal)."""

    id: int | str
    method: str


@dataclass(frozen=True, slots=True)
class Noise:
    """Bytes that are no message of the protocol."""

    data: bytes


Message = Reply | Update | AgentRequest | Noise


@dataclass(frozen=True, slots=True)
class Data:
    """A block of data: a picture, or what the agent hands on to the model as it does pictures."""

    mime_type: str
    content: bytes = field(repr=False)


Block = str | Data
"""What a prompt is made of."""


class Decoder:
    """Reassembles messages from chunks that may end anywhere."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting = 0
        """How many bytes have arrived of a line that is not complete."""

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not complete: a prompt that waits for input has no line end."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Never raises: what cannot be read is `Noise`."""
        if b"\n" not in data:
            self._parts.append(data)
            self.waiting += len(data)
            return []
        *lines, rest = (b"".join(self._parts) + data).split(b"\n")
        self._parts = [rest] if rest else []
        self.waiting = len(rest)
        found: list[Message] = []
        for line in lines:
            found.extend(_decode(line.rstrip(b"\r")))
        return found


def _decode(line: bytes) -> list[Message]:
    start = line.find(_MARK)
    if start < 0:
        return [Noise(line)] if line else []
    noise: list[Message] = [Noise(line[:start])] if start else []
    try:
        message = json.loads(line[start:])
    except (ValueError, RecursionError):
        return [Noise(line)]
    if not isinstance(message, dict):
        return [Noise(line)]
    known = _message(cast("dict[str, Any]", message))
    return [*noise, known if known is not None else Noise(line[start:])]


def _message(message: Mapping[str, Any]) -> Message | None:
    number, method = message.get("id"), message.get("method")
    if isinstance(number, bool):  # Python counts it among the integers: `true` would answer request 1
        return None
    if isinstance(method, str):
        if isinstance(number, int) or (isinstance(number, str) and number == _text(number)):
            return AgentRequest(number, method)
        return _update(message) if method == "session/update" else None
    if not isinstance(number, int):
        return None
    error = message.get("error")
    if isinstance(error, dict):
        told = cast("dict[str, Any]", error)
        code = told.get("code")
        return Reply(number, None, code if isinstance(code, int) else 0, _text(told.get("message")))
    result = message.get("result")
    return Reply(number, cast("dict[str, Any]", result) if isinstance(result, dict) else {})


def _update(message: Mapping[str, Any]) -> Update | None:
    params = message.get("params")
    if not isinstance(params, dict):
        return None
    given = cast("dict[str, Any]", params)
    session, update = given.get("sessionId"), given.get("update")
    if not isinstance(session, str) or not isinstance(update, dict):
        return None
    told = cast("dict[str, Any]", update)
    content = told.get("content")
    text = cast("dict[str, Any]", content).get("text") if isinstance(content, dict) else None
    # The text as it is: half of a character at its end may meet its other half at the beginning of the next.
    return Update(session, _text(told.get("sessionUpdate")), text if isinstance(text, str) else "")


def _text(value: object) -> str:
    # Lone surrogates survive JSON, but no UTF-8 after it.
    return value.translate(_SURROGATES) if isinstance(value, str) else ""


def request(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """A request of ours."""
    return _encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    """A message that wants no answer."""
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def refusal(asked: AgentRequest) -> bytes:
    """No, whatever the agent asks for: permissions are cancelled, other methods do not exist here."""
    if asked.method == "session/request_permission":
        return _encode({"jsonrpc": "2.0", "id": asked.id, "result": {"outcome": {"outcome": "cancelled"}}})
    return _encode({"jsonrpc": "2.0", "id": asked.id, "error": {"code": -32601, "message": "Method not found"}})


def initialize(number: int) -> bytes:
    """The first request: we offer the agent no file system and no terminal."""
    capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}}
    return request(number, "initialize", {"protocolVersion": VERSION, "clientCapabilities": capabilities})


def prompt(number: int, session: str, given: Sequence[Block]) -> bytes:
    """One turn, as text and data blocks only: a resource or a link to one would make the agent look for a file."""
    blocks = [
        {"type": "text", "text": block}
        if isinstance(block, str)
        else {"type": "image", "mimeType": block.mime_type, "data": base64.b64encode(block.content).decode()}
        for block in given
    ]
    return request(number, "session/prompt", {"sessionId": session, "prompt": blocks})


def _encode(message: Mapping[str, Any]) -> bytes:
    # JSON escapes every control character below 0x20, so a prompt cannot end the line early. Other characters go as
    # UTF-8: half the bytes of \\u escapes, and a pseudo-terminal is slow.
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"
