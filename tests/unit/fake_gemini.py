"""A child that talks like `gemini --acp`, or worse, as a script says; run by path, with the script as its only word.

The script is a JSON object: by method, what is written when a request of it arrives. "same" for an `id`, or for the
`sessionId` of an update, is replaced by the request's, "next" for a `sessionId` by a new name; "die" ends the child,
"wait" waits for the next line and writes it into a text chunk. What arrives is kept, line by line, in the file `heard`,
and as the real one does it writes what was talked about into a file of its home.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def say(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def lines() -> Iterator[bytes]:
    rest = b""
    with open("heard", "ab", buffering=0) as heard:
        while data := os.read(0, 65536):
            heard.write(data)
            *whole, rest = (rest + data).split(b"\n")
            yield from whole


def keep(session: str, line: bytes) -> None:
    folder = Path(os.environ["HOME"], ".gemini", "tmp", "made-up", "chats")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"session-2026-11-24T00-{session[:8]}.jsonl").open("ab") as file:
        file.write(line + b"\n")


def main() -> None:
    script: dict[str, Any] = json.loads(sys.argv[1])
    preamble: str | list[str] = script.get("preamble", "\x1b[8m\x1b[c\x1b[2K\r\x1b[0m")
    for piece in [preamble] if isinstance(preamble, str) else preamble:
        say(piece.encode())
        time.sleep(0.05)
    deaf = script.get("deaf", 0)
    arriving = lines()
    sessions = itertools.count(1)
    for line in arriving:
        start = line.find(b"{")
        if start < 0 or deaf > 0:
            deaf -= 1
            continue
        message = json.loads(line[start:])
        session = message.get("params", {}).get("sessionId")
        if message.get("method") == "session/prompt":
            keep(session, line)
        for step in script.get(message.get("method"), []):
            if step == "die":
                os._exit(3)
            elif step == "wait":
                heard = next(arriving).decode()
                update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": heard}}
                params = {"sessionId": "s-1", "update": update}
                say(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}).encode() + b"\n")
            elif isinstance(step, str):
                say(step.encode())
            else:
                numbered = {"jsonrpc": "2.0", **step, **({"id": message["id"]} if step.get("id") == "same" else {})}
                if step.get("params", {}).get("sessionId") == "same":
                    numbered["params"] = {**step["params"], "sessionId": session}
                if isinstance(step.get("result"), dict) and step["result"].get("sessionId") == "next":
                    numbered["result"] = {**step["result"], "sessionId": f"s-{next(sessions):06}"}
                say(json.dumps(numbered).encode() + b"\n")


if __name__ == "__main__":
    main()
