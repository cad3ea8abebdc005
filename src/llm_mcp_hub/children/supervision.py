"""One hub's folder for its children, and the sweeping of folders that dead hubs left. Knows no provider.

    <state>/run/<instance>/          0700, held by a lock as long as this hub lives; made again if somebody removes it
        lock                         flock: the kernel drops it when the hub dies, whatever killed it
        empty/                       0500, every child's working directory: nothing to read, nowhere to write
        <child>/                     a child's private home; `pid` in it names the process

A folder whose lock is free belongs to a dead hub. Its children should be gone (pseudo-terminal, parent-death signal);
where the system has neither, the sweep ends those whose environment still points into that folder. Where the system
can, the folder itself is locked too: a cleaner of temporary files may take the lock file alone from a hub that lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import secrets
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import psutil

from llm_mcp_hub import state_folder
from llm_mcp_hub.children.locks import OPENED, held, lock, lock_folder
from llm_mcp_hub.errors import Busy, Misconfigured

EXHAUSTED = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""No more processes, descriptors or memory: the program that is not started then has no part in it."""
_LONGEST = 64 * 1024
_REAPED_S = 10.0
SWEPT_S = 30.0
"""How long a hub that starts waits for another's sweep of what dead hubs have left."""
PAUSE_S = 1.0
"""And how long one that runs, whose other asks stand still meanwhile."""
_UNLESS_ORPHANED = '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"'
"""The kernel tells of a parent's death only those that have asked by then: who died before leaves an orphan, which has
another parent."""


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / "empty").chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _end_children(homes: Iterable[Path]) -> None:
    """End what lives in these homes: each child, and what it has started in a process group that it leads."""
    noted: dict[int, Path] = {}
    for home in homes:
        with contextlib.suppress(OSError, ValueError):
            noted[int((home / "pid").read_text())] = home
    for pid in psutil.pids() if noted else ():
        with contextlib.suppress(OSError, psutil.Error):
            leader = pid if sys.platform == "win32" else os.getpgid(pid)
            home = noted.get(pid) or noted.get(leader)
            # The number may have a new owner by now: only a process that lives in this home is ours.
            if home is not None:
                process = psutil.Process(pid)
                if any(f"{value}{os.sep}".startswith(f"{home}{os.sep}") for value in process.environ().values()):
                    process.kill()


@contextlib.contextmanager
def _no_other_sweeps(root: Path, *, within_s: float) -> Generator[None]:
    """While no other hub sweeps, or makes its folder. Raises Busy where one does for longer, and OSError."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(root / ".lock", within_s=within_s))
        except BlockingIOError as error:
            raise Busy(
                f"Another hub has held {root} for more than {within_s:g} s: it may hang.",
                action="Try again; if it stays so, end that hub.",
            ) from error
        yield


class RunFolder:
    """The folder of this hub instance. Made at once; `close` removes it."""

    def __init__(self, state_dir: Path, *, swept: Iterable[str] = (), within_s: float | None = None) -> None:
        """Make the folder and sweep those of dead hubs; `swept` names others, whose folders are gone already.

        Another hub's sweep is waited for at most `within_s` seconds, by default SWEPT_S.

        Raises OSError when the state folder cannot be written, Misconfigured when others can write to it, and Busy
        while another hub sweeps for too long.
        """
        state_folder.make(state_dir)
        self._root = state_dir / "run"
        self._root.mkdir(mode=0o700, exist_ok=True)
        with _no_other_sweeps(
            self._root, within_s=SWEPT_S if within_s is None else within_s
        ):  # or a hub that sweeps could take our folder before its lock is ours
            self._swept = [*swept, *self._sweep()]
            self.name = secrets.token_hex(8)
            self.path = self._root / self.name
            self.empty = self.path / "empty"
            self._locks: list[int] = []
            self._closed = False
            self._make()
        self._count = itertools.count(1)
        self._homes: dict[Path, str] = {}
        self._left: list[Path] = []
        self._started: Counter[str] = Counter()

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        self._let_go()  # what follows may fail, and the numbers be other files' by the next time
        folder = lock_folder(self.path)
        if folder is not None:
            self._locks.append(folder)
        file = os.open(self.path / "lock", OPENED, 0o600)
        self._locks.append(file)
        lock(file, wait=False)
        self.empty.mkdir(mode=0o500, exist_ok=True)

    def _let_go(self) -> None:
        while self._locks:
            os.close(self._locks.pop())

    def _make_again(self) -> None:
        """Somebody has removed the folder of a hub that runs, as cleaners of temporary files do."""
        state_folder.make(self._root.parent)  # which may have gone too, and be another's by now
        self._root.mkdir(mode=0o700, exist_ok=True)
        with _no_other_sweeps(self._root, within_s=PAUSE_S):
            self._make()

    def new_home(self, name: str) -> Path:
        """A new private folder for one child. Raises OSError, and Misconfigured and Busy as the start does."""
        for home in self._left[:]:
            self._left.remove(home)
            self.drop_home(home)
        if not self._closed and not self.empty.exists():
            self._make_again()
        home = self.path / f"{name}-{next(self._count)}"
        home.mkdir(mode=0o700)
        self._homes[home] = name
        self._started[name] += 1
        return home

    def drop_home(self, home: Path) -> None:
        """End what still lives in a child's folder, and remove it with all that was written there."""
        _end_children([home])
        shutil.rmtree(home, ignore_errors=True)
        if home.exists():  # its disk takes nothing now, not even that; the next child's folder tries again
            self._left.append(home)
        self._homes.pop(home, None)

    def children(self, name: str) -> tuple[int, int]:
        """How many children of this name live here, and how many ever had a home here."""
        return list(self._homes.values()).count(name), self._started[name]

    def close(self) -> None:
        """Remove the folder. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if sys.platform != "win32":
            _remove(self.path)
        self._let_go()
        if sys.platform == "win32":  # which removes no file that is open
            _remove(self.path)

    def dead(self) -> list[str]:
        """Sweep what hubs have left that died meanwhile. Returns the names of those swept since the last call.

        Raises nothing: a folder that cannot be read now is looked at the next time.
        """
        with contextlib.suppress(OSError), held(self._root / ".lock"):
            self._swept += self._sweep()
        swept, self._swept = self._swept, []
        return swept

    def _sweep(self) -> Generator[str]:
        """Remove the folders of dead hubs. Yields the hubs' names."""
        for folder in self._root.iterdir():
            if not folder.is_dir():
                continue
            handles: list[int] = []
            try:
                itself = lock_folder(folder)
                if itself is not None:
                    handles.append(itself)
                handles.append(os.open(folder / "lock", OPENED, 0o600))
                lock(handles[-1], wait=False)
                homes = list(folder.iterdir())
            except OSError:  # its hub lives, or has just ended and removed it; or it is somebody else's, or no hub's
                continue
            else:
                _end_children(homes)
                if sys.platform != "win32":  # which removes no file that is open
                    _remove(folder)
                yield folder.name
            finally:
                for handle in handles:
                    os.close(handle)
            if sys.platform == "win32":
                _remove(folder)


async def hindrance(program: Path, home: Path) -> OSError | None:
    """What keeps the system from starting this program: it is not there, not for this machine, without its loader; or,
    by an errno of EXHAUSTED, the system has nothing left to start any with. None where it starts.

    It is started with nothing but `home` for its environment and ended at once. Asked only after a failure: what a
    shell in between reports about a program that it cannot start depends on who looks first.
    """
    quiet = asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(
            program, "--version", stdin=quiet, stdout=quiet, stderr=quiet, cwd=home, env={"HOME": str(home)}
        )
    except OSError as error:
        return error
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()
    return None


def exhausted(error: OSError, provider: str) -> Misconfigured:
    """What an ask meets where the system has nothing left to start a program with: an `error` of EXHAUSTED."""
    return Misconfigured(
        f"This machine lets the hub start no more programs ({error.strerror}).",
        action="Raise the limit of processes or open files (ulimit -u, ulimit -n), or end what uses them.",
        provider=provider,
    )


async def said(command: Sequence[str], *, environment: Mapping[str, str], limit_s: float) -> str | None:
    """What a program that ends by itself writes to stdout, at most 64 KiB of it; None when it has not ended in time.

    Nothing of it stays, see `_alone`. Raises OSError when it cannot be started.
    """
    try:
        async with _alone(command, environment, asyncio.subprocess.DEVNULL) as heard, asyncio.timeout(limit_s):
            await heard.enough.wait()
    except TimeoutError:
        return None
    return heard.first.decode("utf-8", "replace")


async def ran(command: Sequence[str], *, environment: Mapping[str, str], limit_s: float) -> tuple[int, str] | None:
    """The exit code of a program, and the last 64 KiB that it has written to stdout and stderr; None when it has not
    ended in time.

    Nothing of it stays, see `_alone`. Raises OSError when it cannot be started.
    """
    try:
        async with _alone(command, environment, asyncio.subprocess.STDOUT) as heard, asyncio.timeout(limit_s):
            await heard.silent.wait()
            await heard.ended.wait()
            code = heard.code()
    except TimeoutError:
        return None
    return code, heard.last.decode("utf-8", "replace")


class _Heard(asyncio.SubprocessProtocol):
    """The beginning and the end of what a program writes, and how far it is.

    asyncio's own `Process.wait` is of no use: in Python 3.11 it waits for the end of the pipes too, which anybody who
    has left the program's session can hold open, and which a reader that has paused never sees.
    """

    def __init__(self) -> None:
        self.first = bytearray()
        self.last = bytearray()
        self.enough = asyncio.Event()
        """As much as `first` holds has come, or all."""
        self.silent = asyncio.Event()
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        """It has ended, and its pipes are closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.first += data[: _LONGEST - len(self.first)]
        self.last = (self.last + data)[-_LONGEST:]
        if len(self.first) >= _LONGEST:
            self.enough.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.enough.set()
        self.silent.set()

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def code(self) -> int:
        """The exit code of one that has ended."""
        code = self._transport.get_returncode()
        assert code is not None
        return code

    async def reaped(self) -> None:
        """Wait until it is gone, its pipe closed whoever else holds it; one that no kill reaches is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAPED_S):
                await self.ended.wait()
                self._transport.close()
                await self.gone.wait()


@contextlib.asynccontextmanager
async def _alone(command: Sequence[str], environment: Mapping[str, str], stderr: int) -> AsyncGenerator[_Heard]:
    """A program in a session of its own, which is listened to, with nothing to read for itself.

    At the end it and what it has started in its session are killed, also where the caller is cancelled, and on Linux
    the kernel ends it with us.
    """
    setpriv = shutil.which("setpriv", path=environment.get("PATH")) if sys.platform == "linux" else None
    if setpriv is not None and not os.access(command[0], os.X_OK):
        raise FileNotFoundError(command[0])  # else setpriv would be what was started, and its complaint goes nowhere
    bound = ["--pdeathsig", "KILL", "--", "/bin/sh", "-c", _UNLESS_ORPHANED, "sh", str(os.getpid())]
    transport, heard = await asyncio.get_running_loop().subprocess_exec(
        _Heard,
        *([setpriv, *bound] if setpriv else []),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        cwd="/",
        env=dict(environment),
        start_new_session=True,
    )
    try:
        yield heard
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                transport.kill()
            else:
                os.killpg(transport.get_pid(), signal.SIGKILL)  # the whole session: it may hold our pipe open
        await asyncio.shield(heard.reaped())


def child_in(home: Path) -> Child:
    """The child that lives in a home, by the pid that it has noted there.

    Raises OSError, ValueError or ProcessLookupError where there is none.
    """
    file = home / "pid"
    if sys.platform == "win32" and not file.exists():  # no wrapper there that could note it
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(home):
                    file.write_text(str(process.pid))
    return Child(int(file.read_text()))


class Child:
    """A process that somebody else started and that we must be able to end at once, known by its pid.

    psutil remembers when the process began, so a number that the system gave to another process is never hit.
    """

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError when there is no such process."""
        try:
            self._process = psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(pid) from error

    @property
    def memory(self) -> int:
        """Resident bytes, 0 when it is gone."""
        try:
            return self._process.memory_info().rss
        except psutil.Error:
            return 0

    @property
    def ended(self) -> bool:
        """Whether it has ended, be it that nobody has taken note of it yet."""
        with contextlib.suppress(psutil.Error):
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        return True

    def kill(self) -> None:
        """SIGKILL; does nothing when it is gone."""
        with contextlib.suppress(psutil.Error):
            self._process.kill()
