"""A program in a CLI's place: it speaks just enough of the protocol to be asked, and then misbehaves in one way.

Run by path, with three words: the provider, what it does, and a file that it makes when it does it. Whatever it does,
it first says all it knows (the prompt, its environment) on stderr: what a CLI says there must not come out of the hub.
A second prompt it answers. It has nothing but Python's own library.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST = "The first words"
HELLO = {"claude": "Hello from the stand-in of Claude.", "gemini": "Hello from the stand-in of Gemini."}
MODEL = {"claude": "claude-sonnet-made-up", "gemini": "gemini-2.5-pro"}
PROVIDER, DOES, MARK = sys.argv[1:4]
Json = dict[str, Any]


def say(data: bytes) -> None:
    while data:
        data = data[os.write(1, data[: 1 << 16]) :]


def tell(message: Json) -> None:
    say(json.dumps(message).encode() + b"\n")


def for_ever() -> None:
    while True:
        time.sleep(60)


class Claude:
    """What claude-agent-sdk asks of its CLI, and a turn."""

    def __init__(self) -> None:
        self.prompt = ""

    def preamble(self) -> None:
        pass

    def heard(self, message: Json) -> bool:
        """Answer what is no prompt. Returns whether it is one."""
        if message.get("type") == "control_request":
            asked = message["request"]["subtype"]
            known: Json = {
                "initialize": {
                    "commands": [],
                    "account": {"tokenSource": "CLAUDE_CODE_OAUTH_TOKEN", "apiProvider": "firstParty"},
                },
                "get_settings": {"effective": {}, "served_settings_state": "absent"},
            }
            answer = {"subtype": "success", "request_id": message["request_id"], "response": known.get(asked, {})}
            tell({"type": "control_response", "response": answer})
        return message.get("type") == "user"

    def event(self, event: Json) -> bytes:
        return json.dumps({"type": "stream_event", "uuid": "u", "session_id": "s", "event": event}).encode() + b"\n"

    def piece(self, text: str) -> bytes:
        return self.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def begin(self) -> None:
        say(self.event({"type": "message_start", "message": {"id": "m", "model": MODEL["claude"]}}))
        say(self.piece(FIRST))

    def result(self, text: str, **more: Any) -> Json:
        counted = {"duration_ms": 1, "duration_api_ms": 1, "num_turns": 1, "session_id": "s"}
        usage = {"input_tokens": 3, "output_tokens": 2}
        done = {"subtype": "success", "is_error": False, "stop_reason": "end_turn", "result": text, "usage": usage}
        return {"type": "result", **done, **counted, "modelUsage": {MODEL["claude"]: {}}, **more}

    def answer(self) -> None:
        say(self.event({"type": "message_start", "message": {"id": "n", "model": MODEL["claude"]}}))
        say(self.piece(HELLO["claude"]))
        tell(self.result(HELLO["claude"]))

    def asks_for_a_login(self) -> None:
        tell(self.result("Not logged in · Please run /login", is_error=True, stop_reason=None))

    def asks_for_consent(self) -> None:
        asked = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "id"}}
        tell({"type": "control_request", "request_id": "r", "request": asked})

    def wrong_shapes(self) -> None:
        shapes: list[Any] = [[], {}, "text", 7, None, {"type": "stream_event", "event": []}, {"type": "assistant"}]
        for shape in shapes:
            say(json.dumps(shape).encode() + b"\n")
        tell({"type": "result", "is_error": "perhaps"})


class Gemini:
    """What the hub asks of `gemini --acp`, and a turn."""

    def __init__(self) -> None:
        self.number: object = None
        self.session = "s-000001"
        self.sessions = 0

    def preamble(self) -> None:
        say(b"\x1b[8m\x1b[c\x1b[2K\r\x1b[0m")

    def heard(self, message: Json) -> bool:
        self.session = message.get("params", {}).get("sessionId", self.session)
        method = message.get("method")
        if method == "session/prompt":
            self.number = message["id"]
            return True
        results: Json = {
            "initialize": {"protocolVersion": 1, "agentInfo": {"name": "gemini-cli", "version": "0.61.0"}},
            "session/set_model": {},
        }
        if method == "session/new":
            self.sessions += 1
            offered = [{"modelId": MODEL["gemini"]}]
            results[method] = {"sessionId": f"s-{self.sessions:06}", "models": {"availableModels": offered}}
        if "id" in message and method in results:
            tell({"jsonrpc": "2.0", "id": message["id"], "result": results[method]})
        return False

    def piece(self, text: str) -> bytes:
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        told = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": self.session, "update": update}}
        return json.dumps(told).encode() + b"\n"

    def begin(self) -> None:
        say(self.piece(FIRST))

    def answer(self) -> None:
        say(self.piece(HELLO["gemini"]))
        counted = {"quota": {"token_count": {"input_tokens": 3, "output_tokens": 2}}}
        tell({"jsonrpc": "2.0", "id": self.number, "result": {"stopReason": "end_turn", "_meta": counted}})

    def asks_for_a_login(self) -> None:
        say(b"Please visit the following URL to authorize the application:\n\nEnter the authorization code: ")
        for_ever()

    def asks_for_consent(self) -> None:
        options = [{"optionId": "proceed_always", "name": "Allow always", "kind": "allow_always"}]
        params = {"sessionId": self.session, "toolCall": {"toolCallId": "t", "title": "id"}, "options": options}
        tell({"jsonrpc": "2.0", "id": 900, "method": "session/request_permission", "params": params})

    def wrong_shapes(self) -> None:
        shapes: list[Json] = [{}, {"method": 7}, {"id": [], "result": 1}, {"method": "session/update", "params": []}]
        for shape in shapes:
            tell({"jsonrpc": "2.0", **shape})
        tell({"jsonrpc": "2.0", "id": self.number, "result": []})


child: Any = Claude() if PROVIDER == "claude" else Gemini()


def lines() -> Any:
    rest = b""
    while data := os.read(0, 1 << 16):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            start = line.find(b"{")
            if start >= 0:
                with contextlib.suppress(ValueError):
                    yield json.loads(line[start:])


arriving = lines()


def until_answered() -> None:
    """Wait for the answer to what was asked of the hub, whatever it is."""
    for message in arriving:
        if "result" in message or "error" in message or message.get("type") == "control_response":
            return


# What it does to a prompt ---------------------------------------------------------------------------------------------


def crash() -> None:
    child.begin()
    os.kill(os.getpid(), signal.SIGSEGV)


def deaf() -> None:
    """Deaf to all but SIGKILL, and silent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child.begin()
    for_ever()


def grandchild() -> None:
    """Ends, and leaves somebody who holds its pipes."""
    child.begin()
    subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
    os._exit(1)


def half_a_line() -> None:
    child.begin()
    say(child.piece("and more")[:40])
    os._exit(0)


def half_a_line_and_silence() -> None:
    child.begin()
    say(child.piece("and more")[:40])
    for_ever()


def no_utf8() -> None:
    child.begin()
    say(child.piece("A piece").replace(b"A piece", b"\xff\xfe\x80 \xc3("))
    child.answer()


def one_line_without_end() -> None:
    child.begin()
    say(child.piece("x").rstrip(b'}"\n'))
    while True:
        say(b"x" * (1 << 16))


def lines_without_end() -> None:
    child.begin()
    while True:
        say(b"no message of any protocol\n" * 1000)


def a_byte_a_second() -> None:
    child.begin()
    for byte in child.piece("a slow piece, which is not whole before the deadline has come, however long that is"):
        say(bytes([byte]))
        time.sleep(1)


def consent() -> None:
    child.begin()
    child.asks_for_consent()
    until_answered()
    child.answer()


def ansi() -> None:
    for _ in range(2_000):
        say(b"\x1b[2J\x1b[31m\x1b[c\x1b]0;title\x07\x1b[?25l" * 50 + b"\n")
    child.answer()


def wrong_shapes() -> None:
    child.begin()
    child.wrong_shapes()


def loud() -> None:
    """Megabytes on stderr, of what must not be told."""
    with contextlib.suppress(OSError):
        for _ in range(20_000):
            os.write(2, b"".join(known)[: 1 << 12] + b"\n")
    child.answer()


AT_A_PROMPT: dict[str, Callable[[], None]] = {
    work.__name__: work
    for work in (
        crash,
        deaf,
        grandchild,
        half_a_line,
        half_a_line_and_silence,
        no_utf8,
        one_line_without_end,
        lines_without_end,
        a_byte_a_second,
        consent,
        ansi,
        wrong_shapes,
        loud,
    )
}
AT_A_PROMPT["login"] = child.asks_for_a_login
known = [repr(dict(os.environ)).encode()]
"""All that it knows: its environment, and what it was asked."""


def main() -> None:
    if DOES.startswith("exit ") or (DOES == "login" and PROVIDER == "gemini"):
        os.write(2, b"".join(known) + b"\n")
        Path(MARK).touch()
        if DOES == "login":
            child.asks_for_a_login()
        os._exit(int(DOES.removeprefix("exit ")))
    child.preamble()
    done = False
    for message in arriving:
        if not child.heard(message):
            continue
        if done:
            child.answer()
            continue
        known.append(json.dumps(message).encode())
        with contextlib.suppress(OSError):
            os.write(2, b"".join(known) + b"\n")
        Path(MARK).touch()
        done = True
        AT_A_PROMPT[DOES]()


if __name__ == "__main__":
    main()
