"""The hub's own copies of logins, in the state folder. Knows files, and of no provider but its name.

    <state>/logins/          0700
        NAME.json            0600, replaced as a whole: a reader sees the old one or the new one, never half of one

Several hubs of one state folder read and write here, and a login made in another terminal is taken up by all of them:
files are read at every question anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from llm_mcp_hub import state_folder
from llm_mcp_hub.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Saved:
    """A login as it was saved. `origin` names the login that this one is a copy of; empty for one of its own."""

    content: str = field(repr=False)
    issued_at: datetime | None = None
    origin: str = ""


class SavedLogins:
    """The copies in one state folder, by name."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "logins"

    def path(self, name: str) -> Path:
        """Where the copy of that name stands."""
        return self.folder / f"{name}.json"

    def get(self, name: str) -> Saved | None:
        """The copy of that name; None where there is none, or what stands there is none of ours."""
        try:
            held: Any = json.loads(self.path(name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(held, dict):
            return None
        login = cast("dict[str, Any]", held)
        content, origin = login.get("content"), login.get("origin")
        if not isinstance(content, str) or not content or not isinstance(origin, str):
            return None
        try:
            content.encode("utf-8", "surrogateescape")  # as whoever uses it writes it
        except UnicodeEncodeError:
            return None
        return Saved(content, _moment(login.get("issued_at")), origin)

    def put(self, name: str, saved: Saved) -> None:
        """Save a copy in place of the one before. Raises Misconfigured when the state folder cannot be used."""
        held = {
            "content": saved.content,
            "issued_at": None if saved.issued_at is None else saved.issued_at.astimezone(UTC).isoformat(),
            "origin": saved.origin,
        }
        beside = self.path(f".{name}-{secrets.token_hex(4)}")
        try:
            state_folder.make(self.folder.parent)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(held, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path(name))
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise Misconfigured(
                f"The login cannot be saved in {self.folder} ({error.strerror}).",
                action="Set HUB_STATE_DIR to a folder that this user can write.",
            ) from error

    def delete(self, name: str) -> None:
        """Forget the copy of that name, if there is one."""
        with contextlib.suppress(OSError):
            self.path(name).unlink(missing_ok=True)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo and 1970 < moment.year < 9000 else None
