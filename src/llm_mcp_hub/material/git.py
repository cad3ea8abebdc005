"""One git command at a time, in a folder of ours, with nothing of the surroundings. Knows no diff.

A command has a deadline from whoever calls it, a bound on what it prints, and ends with its caller: killed with all
that it started, and reaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.material.rules import Unreadable

LOOK = "Run git diff there: it names the fault. Or send its output in `attachments`."
FEWER = "Name fewer files in `paths`, or a nearer `base`."

_REAPED_S = 10.0
"""How long the end of a killed process is waited for."""


class Git:
    """The git program on the folder that `repository.prepare` has made."""

    def __init__(self, around: Mapping[str, str], place: Path, top: str) -> None:
        """Raises Misconfigured when there is no git."""
        self._place = place
        self._top = top
        # From around come PATH and the language: GIT_DIR and its kin steer git, and some of them start programs.
        self._environment = child_environment(
            around,
            {
                "LC_ALL": "C",
                "HOME": str(place / "home"),
                "XDG_CONFIG_HOME": str(place / "home"),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_SYSTEM": "/dev/null",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_ALLOW_PROTOCOL": "none",
                "GIT_NO_LAZY_FETCH": "1",
                "GIT_NO_REPLACE_OBJECTS": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_OPTIONAL_LOCKS": "0",
                "GIT_LITERAL_PATHSPECS": "1",
                "GIT_ALLOC_LIMIT": "512m",  # a forged object of a few kilobytes may unpack to more than the memory
                "GIT_DIR": str(place / "git"),
            },
        )
        self._ours = {"GIT_WORK_TREE": str(place / "tree"), "GIT_INDEX_FILE": str(place / "ours")}
        borrowed = str(place / "borrowed").replace("\\", "\\\\").replace('"', '\\"')
        self._borrowed = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{borrowed}"'}  # quoted: a colon would part it
        self._program = program(around)

    async def there(self, *command: str, limit: int, at: str | None = None) -> bytes:
        """What a command in the real work tree prints, with a copy of its index; `at` a folder in it."""
        variables = {"GIT_WORK_TREE": self._top, "GIT_INDEX_FILE": str(self._place / "index")}
        return await self._printed(command, b"", limit, at or self._top, {**variables, **self._borrowed})

    async def here(self, *command: str, given: bytes = b"", limit: int = 1_000_000) -> bytes:
        """What a command in the folder of copies prints, with an index of ours; `given` is its input."""
        return await self._printed(command, given, limit, str(self._place / "tree"), {**self._ours, **self._borrowed})

    async def noted(self, *command: str, given: bytes = b"") -> bytes:
        """The same for a command that writes objects: it sees ours only.

        Of an object that the repository has already, git would renew the file there instead.
        """
        return await self._printed(command, given, 1_000_000, str(self._place / "tree"), self._ours)

    async def _printed(
        self, command: tuple[str, ...], given: bytes, limit: int, at: str, variables: Mapping[str, str]
    ) -> bytes:
        source = self._input(given)
        starting = asyncio.get_running_loop().create_task(
            asyncio.create_subprocess_exec(
                self._program,
                *command,
                stdin=source,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it may quote what it read
                cwd=at,
                env={**self._environment, **variables},
                start_new_session=True,
            )
        )
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Cancelled itself it would end git, and leave what git has started by then.
            with contextlib.suppress(OSError):
                await _end(await starting)
            raise
        finally:
            os.close(source)
        assert child.stdout is not None
        printed = bytearray()
        try:
            while piece := await child.stdout.read(1 << 20):
                printed += piece
                if len(printed) > limit:
                    raise Unreadable("the difference is too large", FEWER)
            code = await child.wait()
        finally:
            if child.returncode is None:
                await _end(child)
        if code != 0:
            raise Unreadable(f"git failed with exit code {code}", LOOK)
        return bytes(printed)

    def _input(self, given: bytes) -> int:
        """A descriptor to read `given` from. A file: a pipe would have to be fed while the output is read."""
        file = self._place / "input"
        file.write_bytes(given)
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Kill a git with all that it has started, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):  # one that waits for a dead disk is not to be waited for
        await asyncio.wait_for(child.communicate(), _REAPED_S)


def program(around: Mapping[str, str]) -> str:
    """Where git is. Raises Misconfigured when it is nowhere in PATH."""
    found = shutil.which("git", path=child_environment(around, {})["PATH"])
    if found is None:
        raise Misconfigured(
            "The program git, which makes the diff, is not installed or not in PATH.",
            action="Install it: apt install git, dnf install git, or brew install git.",
        )
    return found
