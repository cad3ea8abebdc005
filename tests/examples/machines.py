"""Two machines made of folders, the one at home with an SSH server of asyncssh: the real `ssh` comes in there.

The server forwards ports and runs commands, and looks at the key's options in `authorized_keys` as sshd does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

from tests.examples import systemctl
from tests.harness import DEADLINE_S, World

OWN = ("HUB_", "CLAUDE_", "GEMINI_")
"""Beginnings of the hub's settings, which stand in its own file; what else is set is the machine's."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def program(path: Path, text: str) -> None:
    """A file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Machine:
    """A home folder, and what a shell there knows."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.programs = home / ".local" / "bin"
        self.programs.mkdir(parents=True, exist_ok=True)
        own = shutil.which("llm-mcp-hub", path=str(Path(sys.executable).parent))
        node = shutil.which("node")
        assert own is not None
        assert node is not None
        (self.programs / "llm-mcp-hub").symlink_to(own)
        (self.programs / "node").symlink_to(node)
        program(self.programs / "systemctl", f'#!/bin/sh\nexec "{sys.executable}" "{systemctl.__file__}" "$@"\n')
        program(self.programs / "loginctl", '#!/bin/sh\n[ "$*" = enable-linger ]\n')

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.programs}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "HTTPS_PROXY": "http://127.0.0.1:9"}

    def shut_down(self) -> None:
        """End every unit."""
        for pid in (self.home / ".units").glob("*"):
            if not pid.suffix:
                systemctl.stop(self.home, pid.name)


def furnish(home: Machine, world: World, port: int) -> None:
    """What the hub's owner has set, in the hub's own file, and what holds for the whole machine."""
    kept = {name: value for name, value in world.environment.items() if name not in ("HOME", "PATH", "LANG")}
    own = home.home / ".config" / "llm-mcp-hub" / ".env"
    own.parent.mkdir(parents=True)
    lines = [f"{name}={value}" for name, value in kept.items() if name.startswith(OWN)]
    own.write_text("\n".join([*lines, f"HUB_PORT={port}", ""]))
    own.chmod(0o600)
    machine = home.home / ".config" / "environment.d" / "50-machine.conf"
    machine.parent.mkdir()
    machine.write_text("\n".join(f"{name}={value}" for name, value in kept.items() if not name.startswith(OWN)))


class Sshd:
    """sshd of the machine at home, on a free port of loopback. A context manager."""

    def __init__(self, home: Machine, laptop: Machine, options: str) -> None:
        """`options` stand before the laptop's key in `authorized_keys`."""
        self._home = home
        self._up = threading.Event()
        self._end: Callable[[], object] = self._up.set
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="sshd", daemon=True)
        self._host_key, key = _key(), _key()
        self.port = free_port()
        theirs = laptop.home / ".ssh"
        theirs.mkdir(mode=0o700)
        (theirs / "id_ed25519").touch(0o600)
        (theirs / "id_ed25519").write_bytes(key.export_private_key())
        host = self._host_key.export_public_key().decode()
        (theirs / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host}")
        (theirs / "config").write_text(
            f"Host home\n HostName 127.0.0.1\n Port {self.port}\n User you\n IdentitiesOnly yes\n"
            f" IdentityFile {theirs}/id_ed25519\n UserKnownHostsFile {theirs}/known_hosts\n"
        )
        self._allowed = home.home / ".ssh" / "authorized_keys"
        self._allowed.parent.mkdir(mode=0o700, exist_ok=True)
        self._allowed.write_text(f"{options} {key.export_public_key().decode()}")
        ssh = shutil.which("ssh")
        if ssh is None:
            raise FileNotFoundError("ssh is not in PATH: install it (Debian: apt-get install openssh-client)")
        # ssh looks for its settings in the home of whoever runs it, whatever HOME says
        program(laptop.programs / "ssh", f'#!/bin/sh\nexec {ssh} -F "$HOME/.ssh/config" "$@"\n')

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._thread.join(DEADLINE_S)

    async def _serve(self) -> None:
        ending = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ending.set)
        server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_host_keys=[self._host_key],
            server_factory=_Forwarding,
            process_factory=self._run,
            authorized_client_keys=str(self._allowed),
            encoding=None,
        )
        async with server:
            self._up.set()
            await ending.wait()

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.command is None:
            process.exit(1)
            return
        # What sshd gives to a command: a login's few variables, and the home folder to stand in.
        around = {"HOME": str(self._home.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        running = await asyncio.create_subprocess_shell(
            process.command,
            cwd=self._home.home,
            env=around,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await running.communicate()
        process.stdout.write(out)
        process.stderr.write(err)
        process.exit(running.returncode or 0)


def _key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType]


class _Forwarding(asyncssh.SSHServer):
    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Yes: what the key may open is looked at before."""
        return True
