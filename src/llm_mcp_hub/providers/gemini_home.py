"""What the Gemini CLI writes into its private home, and what that tells. Knows files, and no process.

    <home>/.gemini/oauth_creds.json                  its login, which it renews in place
    <home>/.gemini/tmp/*/chats/session-*-ID.jsonl    a session: the whole conversation, and its finer usage
    <home>/tmp/gemini-client-error-*.json            on an API error, the whole conversation too
    <home>/debug.log                                 why it did not start, or opened no session; on an API error, again
                                                     the whole conversation
    <home>/stderr                                    why it did not start

What is said of a conversation goes with its session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path

from llm_mcp_hub.errors import CliMissing, HubError, Misconfigured, UpstreamError
from llm_mcp_hub.providers.gemini_install import UPDATE_ACTION
from llm_mcp_hub.providers.gemini_turn import NAME, start_error

DEBUG_LOG_S = 2.0
LATE_S = 1.0
"""After a session is let go of, the CLI may still write what it has to say of it."""
ROOM_BYTES = 1 << 20
"""With less than this on the disk, that is what ended a start."""


class Home:
    """One child's, read while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._login_written = 0
        self._log_readers = 0
        self._log_is_due = False

    def new_login(self) -> str | None:
        """The login file, if the CLI has written it since it was last asked for: it renews the login as it needs to."""
        file = login_file(self.path)
        try:
            written = file.stat().st_mtime_ns
            content = None if self._login_written in (0, written) else file.read_text("utf-8")
        except (OSError, UnicodeError):
            return None
        self._login_written = written
        return content

    @contextlib.contextmanager
    def log_kept(self) -> Generator[int]:
        """How long the CLI's debug log is now; as long as this lasts, nobody empties it."""
        self._log_readers += 1
        try:
            yield _size(debug_file(self.path))
        finally:
            self._log_readers -= 1
            if self._log_is_due:
                self._empty_log()

    async def debug_log(self, sign: str, since: int = 0) -> str:
        """What the CLI's debug log says after its byte `since`, once that holds `sign`.

        It is written a little after what it explains (measured); what stands before explains an earlier failure.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEBUG_LOG_S):
                while sign not in _text(debug_file(self.path), since):  # noqa: ASYNC110 - it is a file of another process
                    await asyncio.sleep(0.02)
        return _text(debug_file(self.path), since)

    def forget(self, session: str) -> None:
        """Remove what the CLI wrote about a session: it is the whole conversation. What stays goes with the home.

        Done at once, and once more a little later for what it was still writing. What comes after that goes with the
        next session, or with the home.
        """
        self._remove(session)
        asyncio.get_running_loop().call_later(LATE_S, self._remove, session)

    def _remove(self, session: str) -> None:
        self._empty_log()
        for pattern in (f".gemini/tmp/*/chats/session-*-{session[:8]}.jsonl", "tmp/gemini-client-error-*.json"):
            with contextlib.suppress(OSError):  # no descriptor is left to look with
                for file in list(self.path.glob(pattern)):
                    with contextlib.suppress(OSError):
                        file.unlink()

    def _empty_log(self) -> None:
        """The CLI appends to it (O_APPEND), so it goes on at the new end."""
        self._log_is_due = self._log_readers > 0
        if not self._log_is_due:
            with contextlib.suppress(OSError):
                os.truncate(debug_file(self.path), 0)

    def counted(self, session: str) -> Mapping[str, int]:
        """The finer usage that the CLI writes only to its session file; empty when it is not there."""
        for file in self.path.glob(f".gemini/tmp/*/chats/session-*-{session[:8]}.jsonl"):
            try:
                return counted(file.read_text("utf-8"))
            except (OSError, UnicodeError):
                return {}
        return {}


def counted(session_file: str) -> Mapping[str, int]:
    """The finer usage of the last answer in a session's file; empty where it tells none."""
    try:
        # Not `splitlines`: within a line an answer may have a U+2028 as it is.
        for line in reversed([line for line in session_file.split("\n") if line.strip()]):
            record = json.loads(line)
            if record.get("type") == "gemini" and isinstance(record.get("tokens"), dict):
                return {name: count for name, count in record["tokens"].items() if isinstance(count, int)}
    except (ValueError, AttributeError, RecursionError):
        pass
    return {}


def login_file(home: Path) -> Path:
    """Where the CLI of that home keeps its login."""
    return home / ".gemini" / "oauth_creds.json"


def debug_file(home: Path) -> Path:
    """Where it writes what it does."""
    return home / "debug.log"


def stderr_file(home: Path) -> Path:
    """Where its terminal sends what it complains of."""
    return home / "stderr"


def died_at_start(home: Path) -> HubError:
    """Why the CLI ended before it was ready, by what it wrote into its home."""
    stderr = _text(stderr_file(home))
    if "node" in stderr and ("No such file" in stderr or "not found" in stderr):
        return CliMissing(
            "Node.js, which the Gemini CLI runs on, was not found.",
            action="Install Node.js 20 or newer, or put it into PATH.",
            provider=NAME,
        )
    if "SyntaxError" in stderr or "Unsupported engine" in stderr or "requires Node" in stderr:
        return CliMissing(
            "Node.js is too old for the Gemini CLI.", action="Install Node.js 20 or newer.", provider=NAME
        )
    if "FatalAuthenticationError" in stderr or "Manual authorization is required" in stderr:
        return start_error(debug_log=_text(debug_file(home)))
    if "Unknown argument" in stderr or "Unknown arguments" in stderr:
        return CliMissing(
            "The Gemini CLI is too old: it does not know the hub's options.", action=UPDATE_ACTION, provider=NAME
        )
    # On a full disk the CLI's complaint could not be written either.
    if "EROFS" in stderr or "ENOSPC" in stderr or _free(home) < ROOM_BYTES:
        return Misconfigured(
            "Gemini's CLI cannot write its private home.",
            action="Make HUB_STATE_DIR a folder that this user can write, with space left.",
            provider=NAME,
        )
    return UpstreamError(
        "Gemini's CLI ended while it started.",
        action="Run `gemini --version` in a terminal to see what stops it, then try again.",
        provider=NAME,
    )


def _free(home: Path) -> int:
    """Bytes that its disk has left; as many as are needed where nobody can tell."""
    try:
        return shutil.disk_usage(home).free
    except OSError:
        return ROOM_BYTES


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _text(file: Path, since: int = 0) -> str:
    """The last 64 KiB of what stands after the byte `since`."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(since, _size(file) - 65536))
            return stream.read(65536).decode("utf-8", "replace")
    except OSError:
        return ""
