# pyright: strict
"""The stand-in of Google, proved against the real Gemini CLI.

What is asserted of the CLI here was measured with version 0.61.0. A test that fails after an update tells
that the CLI behaves in a new way, and what the hub makes of it has to be looked at again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from .google import (
    PROJECT,
    UNSUPPORTED_CLIENT_TEXT,
    Account,
    Answer,
    Cut,
    Empty,
    Error,
    FunctionCall,
    GoogleUpstream,
    Hang,
    Malformed,
    MaxTokens,
    NoFinish,
    Reply,
    Reset,
    Safety,
    all_texts,
    function_responses,
    prompt_texts,
    system_text,
    write_login,
)

GEMINI = os.environ.get("GEMINI_CLI") or shutil.which("gemini") or "/tmp/lab/gem/node_modules/.bin/gemini"
DEADLINE_S = 60.0
MODEL = "gemini-2.5-pro"
SYSTEM = "You are asked by a test."
SETTINGS = {
    "security": {
        "auth": {"selectedType": "oauth-personal", "enforcedType": "oauth-personal"},
        "disableYoloMode": True,
        "folderTrust": {"enabled": True},
    },
    "general": {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 1,
        "retryFetchErrors": False,
        "checkpointing": {"enabled": False},
        "plan": {"enabled": False},
        "topicUpdateNarration": False,
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "billing": {"overageStrategy": "never"},
    "model": {"disableLoopDetection": True, "skipNextSpeakerCheck": True, "name": MODEL},
    "context": {"fileName": ["__none__.md"], "includeDirectoryTree": False, "discoveryMaxDirs": 0},
    "tools": {"core": [], "useRipgrep": False},
    "useWriteTodos": False,
    "mcp": {"allowed": []},
    "mcpServers": {},
    "skills": {"enabled": False},
    "hooksConfig": {"enabled": False},
    "experimental": {"enableAgents": False, "autoMemory": False, "extensionManagement": False},
    "advanced": {"ignoreLocalEnv": True, "autoConfigureMemory": False},
    "ide": {"enabled": False},
    "admin": {"extensions": {"enabled": False}, "mcp": {"enabled": False}, "skills": {"enabled": False}},
}


class Refused(Exception):
    """An error answer of the CLI to a JSON-RPC request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Said:
    """What one prompt came to."""

    text: str
    thought: str
    stop_reason: str
    input_tokens: int
    output_tokens: int


class Gemini:
    """One `gemini --acp` over pipes, contained, with the stand-in for its upstream; a context manager.

    `home` is private to it. Everything it is told is a request and its answer; the rest it says is kept.
    """

    def __init__(self, google: GoogleUpstream, home: Path, **env: str) -> None:
        self.home = home
        self.login = home / ".gemini" / "oauth_creds.json"
        self.log = home / "debug.log"
        self.errors = home / "stderr.log"
        self._google = google
        self._env = env
        self._answers: dict[int, dict[str, Any]] = {}
        self._updates: list[tuple[str, dict[str, Any]]] = []
        self._last = 0
        self._heard = threading.Condition()
        self._ended = False

    def __enter__(self) -> Gemini:
        cwd, tmp, settings = self.home / "empty", self.home / "tmp", self.home / ".gemini" / "settings.json"
        for folder in (cwd, tmp, settings.parent):
            folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(SETTINGS))
        (self.home / "system.md").write_text(SYSTEM)
        if not self.login.exists():
            write_login(self.login.parent)
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "GEMINI_CLI_HOME": str(self.home),
            "TMPDIR": str(tmp),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "NO_BROWSER": "true",
            "GEMINI_CLI_NO_RELAUNCH": "1",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_SYSTEM_MD": str(self.home / "system.md"),
            "GEMINI_DEBUG_LOG_FILE": str(self.log),
            # An API key is never used, whatever the CLI finds: these are taken first, and they lead nowhere.
            "GEMINI_API_KEY": "",
            "GOOGLE_API_KEY": "",
            "GOOGLE_GENAI_USE_VERTEXAI": "false",
            "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
            "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9",
            **self._google.environment,
            **self._env,
        }
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [GEMINI, "--acp", "-m", MODEL, "-e", "none"],
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        # SIGKILL at once: a busy CLI outlives its closed stdin, and nothing it would tidy up is looked at.
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def session(self) -> str:
        """A new session; the first call also initializes. Raises Refused."""
        if self._last == 0:
            capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}}
            self.call("initialize", {"protocolVersion": 1, "clientCapabilities": capabilities})
        return self.call("session/new", {"cwd": str(self.home / "empty"), "mcpServers": []})["sessionId"]

    def ask(self, text: str, session: str | None = None) -> Said:
        """Prompt a session (a new one, if none is given) and wait for the end. Raises Refused."""
        session = session or self.session()
        return self.wait(self.begin(text, session), session)

    def begin(self, text: str, session: str) -> int:
        return self._send("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})

    def wait(self, number: int, session: str) -> Said:
        result = self._answer(number)
        tokens = result.get("_meta", {}).get("quota", {}).get("token_count", {})
        return Said(
            self.heard(session),
            self.heard(session, "agent_thought_chunk"),
            result["stopReason"],
            tokens.get("input_tokens", 0),
            tokens.get("output_tokens", 0),
        )

    def cancel(self, session: str) -> None:
        self._write({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": session}})

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._answer(self._send(method, params))

    def pieces(self, session: str, kind: str = "agent_message_chunk") -> list[str]:
        """The pieces of text that arrived in a session so far."""
        return [update["content"]["text"] for at, update in list(self._updates) if at == session if update["sessionUpdate"] == kind]

    def heard(self, session: str, kind: str = "agent_message_chunk") -> str:
        return "".join(self.pieces(session, kind))

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Block until `happened()`; it is looked at whenever the CLI says something."""
        with self._heard:
            assert self._heard.wait_for(lambda: happened() or self._ended, DEADLINE_S), self._state()
            assert happened(), self._state()

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._last += 1
        self._write({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        return self._last

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, number: int) -> dict[str, Any]:
        self.wait_until(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = cast("dict[str, Any]", json.loads(line))
            except ValueError:
                continue
            with self._heard:
                if message.get("method") == "session/update":
                    self._updates.append((message["params"]["sessionId"], message["params"]["update"]))
                elif "method" not in message and "id" in message:
                    self._answers[message["id"]] = message
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _state(self) -> str:
        return f"the CLI said {self._updates[-3:]}, {self._answers}; ended: {self._ended}; {self.errors.read_text()}"
