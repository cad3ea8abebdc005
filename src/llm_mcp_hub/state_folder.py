"""The folder of HUB_STATE_DIR: made for its user alone, or refused where others could put something into it.

What stands in it is believed: logins, client tokens, conversations, a CLI that is started. So nobody else may write
there, and nothing may stand there that somebody else has left while they could. Of who may only read the doctor tells.
"""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from llm_mcp_hub import others
from llm_mcp_hub.errors import Misconfigured

USED = ("clients.json", "first-client.token", "gemini-cli", "hub.sqlite3", "logins", "run")
"""What the hub reads or starts from there."""


def make(folder: Path) -> None:
    """Make it if need be, 0700, and see that it can be trusted. Raises OSError, and Misconfigured as `check` does."""
    _check_path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check(folder)


def check(folder: Path) -> None:
    """Raise Misconfigured where others could write there, or have; one that is not there yet is fine.

    Raised too for a path that is no UTF-8.
    """
    _check_path(folder)
    try:
        place, about = folder.lstat(), folder.stat()
    except OSError:  # told by whoever writes there
        return
    if others.is_anothers(place) or others.is_anothers(about):
        whose = place.st_uid if others.is_anothers(place) else about.st_uid
        raise Misconfigured(
            f"The state folder {folder} (HUB_STATE_DIR) belongs to another user ({whose}), who could put a login or a "
            "program of theirs into it.",
            action="Set HUB_STATE_DIR to a folder that this user has made.",
        )
    mode = stat.S_IMODE(about.st_mode)
    if others.can_write(mode):
        # A folder such as /tmp is open on purpose, and one of root's is not ours to close.
        meant = mode & stat.S_ISVTX or not others.is_ours(about)
        raise Misconfigured(
            f"Others can write to the state folder {folder} (HUB_STATE_DIR, mode {mode:04o}): they could put a login "
            "or a program of theirs into it.",
            action=f"Set HUB_STATE_DIR to a folder in it that is not there yet, such as {folder / 'state'}"
            if meant
            else f"Run: chmod 700 {shlex.quote(str(folder))}",
        )
    for path in map(folder.joinpath, USED):
        try:
            left = path.lstat()
        except OSError:
            continue
        if others.is_anothers(left):
            raise Misconfigured(
                f"{path}, in the state folder (HUB_STATE_DIR), belongs to another user ({left.st_uid}): it is none of "
                "this hub's.",
                action=f"Look at it, and move it away: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.foreign')}",
            )


def _check_path(folder: Path) -> None:
    """The Gemini CLI is told its path in JSON, which holds nothing but UTF-8."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise Misconfigured(
            "The path of the state folder (HUB_STATE_DIR) is no UTF-8.",
            action="Set HUB_STATE_DIR to a folder whose path is UTF-8.",
        ) from None
