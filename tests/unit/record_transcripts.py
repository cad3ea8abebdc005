"""Records what the real Gemini CLI writes on its terminal, byte for byte, while it talks to the stand-in of Google.

    python -m tests.unit.record_transcripts [CASE ...]

Each case becomes a folder below `transcripts/`: `input.bin` holds the bytes as they came, `expected.json` what
`acp.Decoder` makes of them now. Read the difference before it is committed: a golden file that nobody read proves
nothing. The codec itself is not used to talk to the CLI, so that a fault of it cannot hide in a recording.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from llm_mcp_hub.children.terminal import Terminal
from llm_mcp_hub.providers import acp
from tests.harness import GEMINI
from tests.unit.transcripts import FOLDER, as_json, write_expected
from tests.upstreams.google import Account, Answer, Error, FunctionCall, GoogleUpstream, Hang, write_login

DEADLINE_S = 60.0
STRICT: dict[str, Any] = {
    "security": {"auth": {"selectedType": "oauth-personal"}},
    "general": {"maxAttempts": 1, "enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
    "tools": {"core": []},
}
WITH_TOOLS: dict[str, Any] = {name: value for name, value in STRICT.items() if name != "tools"}


class Talk:
    """One CLI on a terminal, and all that it wrote."""

    def __init__(self, terminal: Terminal, empty: Path) -> None:
        self._terminal = terminal
        self._empty = empty
        self.written = b""
        self._number = 0

    async def until(self, wanted: bytes) -> None:
        while wanted not in self.written:
            data = await self._terminal.read()
            if not data:
                raise SystemExit(f"the CLI ended before it wrote {wanted!r}: {self.written!r}")
            self.written += data

    async def send(self, message: dict[str, Any]) -> None:
        await self._terminal.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read until it is answered."""
        self._number += 1
        number = self._number
        before = len(self.written)
        await self.send({"id": number, "method": method, "params": params})
        return await self.answered(number, before)

    async def answered(self, number: int, since: int) -> dict[str, Any]:
        while True:
            for line in self.written[since:].split(b"\n")[:-1]:
                message = json.loads(line[max(0, line.find(b'{"jsonrpc"')) :])
                if message.get("id") == number and "method" not in message:
                    return message
            before = len(self.written)
            self.written += await self._terminal.read()
            if len(self.written) == before:
                raise SystemExit(f"the CLI ended before it answered: {self.written!r}")

    async def start(self) -> None:
        """Through the traps of the start, to the first answer."""
        await self.until(b"\x1b[c")
        await self._terminal.write(b"\x1b[?62c")
        await self.until(b"\x1b[0m")
        capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}}
        while b'"protocolVersion"' not in self.written:  # a line that comes too early is lost
            self._number += 1
            params = {"protocolVersion": 1, "clientCapabilities": capabilities}
            await self.send({"id": self._number, "method": "initialize", "params": params})
            reading = asyncio.ensure_future(self.until(b"\n"))
            await asyncio.wait([reading], timeout=0.3)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def session(self) -> str:
        reply = await self.ask("session/new", {"cwd": str(self._empty), "mcpServers": []})
        return reply["result"]["sessionId"]

    async def prompt(self, session: str, text: str) -> dict[str, Any]:
        return await self.ask("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})


async def a_streamed_answer(talk: Talk, google: GoogleUpstream) -> None:
    google.script(Answer(chunks=["One, ", "two, ", "three."], output_tokens=6))
    await talk.start()
    await talk.prompt(await talk.session(), "count to three")


async def a_thought_before_the_answer(talk: Talk, google: GoogleUpstream) -> None:
    google.script(Answer("Forty-two.", thought="**Counting**\nwhat there is to count", thoughts_tokens=5))
    await talk.start()
    await talk.prompt(await talk.session(), "how many?")


async def every_kind_of_character(talk: Talk, google: GoogleUpstream) -> None:
    pieces = [
        '"quoted" \\back\\ \t tab\r\n',
        "한국어 𝔘𝔫𝔦 👩‍👩‍👧 \u202eright to left\u202c \u2028",
        '{"jsonrpc":"2.0","id":1}\n',
    ]
    google.script(Answer(chunks=pieces))
    await talk.start()
    await talk.prompt(await talk.session(), "say something hard to say")


async def a_used_up_quota(talk: Talk, google: GoogleUpstream) -> None:
    google.script(Error.quota_exhausted())
    await talk.start()
    await talk.prompt(await talk.session(), "hello")


async def a_refused_token(talk: Talk, google: GoogleUpstream) -> None:
    google.script(Error.unauthenticated())
    await talk.start()
    await talk.prompt(await talk.session(), "hello")


async def an_account_that_is_no_longer_served(talk: Talk, google: GoogleUpstream) -> None:
    google.account = Account.ineligible()
    await talk.start()
    await talk.ask("session/new", {"cwd": str(talk._empty), "mcpServers": []})  # pyright: ignore[reportPrivateUsage]


async def a_cancelled_answer(talk: Talk, google: GoogleUpstream) -> None:
    google.script(Hang("The beginning of"))
    await talk.start()
    session = await talk.session()
    asked = asyncio.ensure_future(talk.prompt(session, "hello"))
    while b"The beginning of" not in talk.written:
        await asyncio.sleep(0.01)
    await talk.send({"method": "session/cancel", "params": {"sessionId": session}})
    await asked


async def a_permission_that_is_asked_for(talk: Talk, google: GoogleUpstream) -> None:
    google.script(FunctionCall("web_fetch", {"prompt": "read http://127.0.0.1:9/"}), Answer("It was not allowed."))
    await talk.start()
    session = await talk.session()
    asked = asyncio.ensure_future(talk.prompt(session, "read that page"))
    while b"session/request_permission" not in talk.written or not talk.written.endswith(b"\n"):
        await asyncio.sleep(0.01)
    line = next(line for line in talk.written.split(b"\n") if b"session/request_permission" in line)
    await talk.send({"id": json.loads(line)["id"], "result": {"outcome": {"outcome": "cancelled"}}})
    await asked


async def a_method_that_does_not_exist(talk: Talk, google: GoogleUpstream) -> None:
    await talk.start()
    await talk.ask("session/nothing", {})
    await talk.ask("session/prompt", {"sessionId": "no-such-session", "prompt": [{"type": "text", "text": "x"}]})


async def a_login_prompt(talk: Talk, google: GoogleUpstream) -> None:
    await talk.until(b"Enter the authorization code: ")


CASES: list[Callable[[Talk, GoogleUpstream], Awaitable[None]]] = [
    a_streamed_answer,
    a_thought_before_the_answer,
    every_kind_of_character,
    a_used_up_quota,
    a_refused_token,
    an_account_that_is_no_longer_served,
    a_cancelled_answer,
    a_permission_that_is_asked_for,
    a_method_that_does_not_exist,
    a_login_prompt,
]


async def record(case: Callable[[Talk, GoogleUpstream], Awaitable[None]], folder: Path) -> bytes:
    home, empty = folder / "home", folder / "empty"
    empty.mkdir(parents=True)
    with GoogleUpstream(folder / "google") as google:
        write_login(home / ".gemini")
        if case is a_login_prompt:
            (home / ".gemini" / "oauth_creds.json").unlink()
        settings = WITH_TOOLS if case is a_permission_that_is_asked_for else STRICT
        (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GEMINI_CLI_HOME": str(home),
            "TMPDIR": str(home),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "GEMINI_CLI_NO_RELAUNCH": "1",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "NO_BROWSER": "true",
            **google.environment,
        }
        terminal = Terminal.spawn(
            [str(GEMINI), "--acp", "-m", "gemini-2.5-pro", "-e", "none"],
            environment=environment,
            cwd=empty,
            stderr=folder / "stderr",
        )
        talk = Talk(terminal, empty)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await case(talk, google)
        except TimeoutError:
            raise SystemExit(f"{case.__name__}: stuck after {talk.written!r}") from None
        finally:
            await terminal.close()
        if google.surprises:
            raise SystemExit(f"{case.__name__}: {google.surprises}")
    if str(folder).encode() in talk.written:
        raise SystemExit(f"{case.__name__}: the recording holds a path of this machine")
    return talk.written


def main(wanted: list[str]) -> None:
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            written = asyncio.run(record(case, Path(temporary)))
        folder = FOLDER / case.__name__
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "input.bin").write_bytes(written)
        decoder = acp.Decoder()
        messages = [as_json(message) for message in decoder.feed(written)]
        write_expected(folder, messages, decoder.pending)
        print(f"{case.__name__}: {len(written)} bytes, {len(messages)} messages")


if __name__ == "__main__":
    main(sys.argv[1:])
