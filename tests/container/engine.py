"""Runs a built image as `docker run` would: its own words, user, environment, volume and a read-only root.

bubblewrap stands for the engine. It is started as the container's user, without any privilege, so every file is judged
by that user's rights; inside there are no capabilities, a private /tmp, and no process but the container's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.container.build import Image
from tests.harness import DEADLINE_S

VOLUME = "/var/lib/llm-mcp-hub"


def read_env_file(text: str) -> dict[str, str]:
    """`docker run --env-file`: NAME=VALUE, the value as it stands, quotes and all; lines that begin with # are none."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@dataclass
class Engine:
    """One image on one machine, with a folder for its volumes."""

    image: Image
    folder: Path
    made: list[Path] = field(default_factory=list[Path])

    def volume(self) -> Path:
        """A new named volume: the engine gives it the mode that its place has in the image."""
        place = self.folder / f"volume-{len(self.made)}"
        place.mkdir()
        place.chmod((self.image.rootfs / VOLUME.lstrip("/")).stat().st_mode & 0o7777)
        self.made.append(place)
        return place

    def command(
        self,
        *arguments: str,
        env: Mapping[str, str],
        uid: int | None = None,
        volume: Path | None = None,
        mounts: Mapping[str, Path] | None = None,
        entrypoint: Sequence[str] | None = None,
    ) -> list[str]:
        """The words that run a container in the foreground.

        Args:
            arguments: the command; without any the image's own.
            env: what `-e` and `--env-file` set.
            uid: `--user UID:UID`; None: the image's user.
            volume: what is mounted where the image declares its volume; None: a new one.
            mounts: what is mounted read-only elsewhere, by the path inside.
            entrypoint: what is run in the place of the image's entry point.
        """
        config = self.image.config
        user, group = (str(uid), str(uid)) if uid is not None else config["User"].split(":")
        words = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "bwrap"]
        words += ["--ro-bind", str(self.image.rootfs), "/", "--dev", "/dev", "--proc", "/proc"]
        words += ["--perms", "1777", "--tmpfs", "/tmp", "--bind", str(volume or self.volume()), VOLUME]
        for place, source in (mounts or {}).items():
            words += ["--ro-bind", str(source), place]
        words += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]
        words += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "container", "--clearenv"]
        for name, value in {**self.image.environment, **env}.items():
            words += ["--setenv", name, value]
        words += ["--chdir", config["WorkingDir"]]
        return [*words, *(config["Entrypoint"] if entrypoint is None else entrypoint), *(arguments or config["Cmd"])]


class Running:
    """A container in the background, its log read from a file."""

    def __init__(self, engine: Engine, command: Sequence[str], log: Path) -> None:
        self._engine = engine
        self._log = log
        with log.open("wb") as written:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env={})

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def first(self) -> psutil.Process:
        """Process 1 of the container, as this machine sees it."""
        (first,) = psutil.Process(self.process.pid).children()
        return first

    def processes(self, namespace: str) -> list[psutil.Process]:
        """Every process of that process namespace."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/pid") == namespace:
                    found.append(process)
            except OSError:
                continue
        return found

    @property
    def namespace(self) -> str:
        return os.readlink(f"/proc/{self.first.pid}/ns/pid")

    def execute(self, *words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """`docker exec`: another program in the container, as its user and with its environment."""
        first = self.first
        inside = ["nsenter", "--target", str(first.pid), "--mount", "--pid", "--ipc", "--uts", "--", "setpriv"]
        inside += ["--reuid", str(first.uids().real), "--regid", str(first.gids().real), "--clear-groups"]
        inside += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]
        return subprocess.run(
            [*inside, *words],
            env={**self._engine.image.environment, **env},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def stop(self) -> int:
        """`docker stop`: SIGTERM to process 1, and wait. Returns the exit code."""
        if self.process.poll() is None:
            self.first.terminate()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """Whatever it is about."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
