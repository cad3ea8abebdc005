"""Runs the hub as if this were Windows or macOS, as far as Python code can tell.

What other people's libraries do there is theirs: they are loaded before. For our own modules, which are loaded after,
`sys.platform` says the other system, its modules are missing, `os` and `signal` have its names only, and on Windows an
event loop hears no signal and watches no descriptor.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import pkgutil
import platform
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = "llm_mcp_hub"
NOT_ON = {
    "win32": frozenset({"fcntl", "grp", "pexpect", "posix", "ptyprocess", "pty", "pwd", "resource", "termios", "tty"}),
    "darwin": frozenset[str](),
}
CALLED = {"win32": "Windows", "darwin": "Darwin"}
NO_NAMES_ON = {
    "win32": {
        "os": {"fork", "forkpty", "openpty", "setsid", "getpgid", "getuid", "geteuid", "getgid", "getegid", "killpg"}
        | {
            "fchown",
            "chown",
            "fchmod",
            "mkfifo",
            "set_blocking",
            "statvfs",
            "uname",
            "WNOHANG",
            "waitstatus_to_exitcode",
        }
        | {"O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH"},
        "signal": {"SIGHUP", "SIGKILL", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "pthread_sigmask"},
    },
    "darwin": {"os": {"O_PATH"}, "signal": set[str]()},
}


class _Missing(MetaPathFinder):
    """Modules that the other system has not."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def modules() -> list[str]:
    """All of ours."""
    package = importlib.import_module(OURS)
    found = pkgutil.walk_packages(package.__path__, f"{OURS}.")
    return [each.name for each in found if not each.name.endswith("__main__")]


def _narrowed(module: ModuleType, without: set[str]) -> ModuleType:
    narrow = ModuleType(module.__name__)
    narrow.__dict__.update({name: held for name, held in vars(module).items() if name not in without})
    return narrow


def become(system: str, scratch: Path) -> None:
    """From here on our modules see the other system."""
    for name in (*modules(), "claude_agent_sdk", "uvicorn", "mcp.client.stdio", "opentelemetry.trace"):
        importlib.import_module(name)  # with whatever they load
    import claude_agent_sdk
    import platformdirs

    for name in [name for name in sys.modules if name.partition(".")[0] in {OURS, *NOT_ON[system]}]:
        del sys.modules[name]
    real_flock, lock_now = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
    sys.meta_path.insert(0, _Missing(NOT_ON[system]))
    sys.platform = system
    importlib.reload(platformdirs)
    for module in (os, signal):
        sys.modules[module.__name__] = _narrowed(module, NO_NAMES_ON[system][module.__name__])
    sys.modules["platform"] = _narrowed(platform, set())
    sys.modules["platform"].system = lambda: CALLED[system]  # type: ignore[attr-defined]
    if system != "win32":
        return
    folders = importlib.import_module("platformdirs.windows")
    folders.get_win_folder = folders.get_win_folder_from_env_vars  # type: ignore[attr-defined]
    sys.modules["signal"].SIGBREAK = signal.SIGQUIT  # type: ignore[attr-defined]
    windows = ModuleType("msvcrt")
    windows.LK_NBLCK = 2  # type: ignore[attr-defined]
    windows.locking = lambda descriptor, mode, count: real_flock(descriptor, lock_now)  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = windows
    loop: Any = asyncio.SelectorEventLoop
    for name in ("add_signal_handler", "remove_signal_handler", "add_reader", "remove_reader", "add_writer"):
        setattr(loop, name, _not_here)
    loops: Any = asyncio
    loops.ProactorEventLoop = loop  # what uvicorn takes there
    spec = claude_agent_sdk.__spec__
    assert spec is not None
    assert spec.origin is not None
    (scratch / "_bundled").mkdir(exist_ok=True)
    program = scratch / "_bundled" / "claude.exe"
    if not program.exists():
        program.symlink_to(Path(spec.origin).parent / "_bundled" / "claude")
    spec.origin = str(scratch / "__init__.py")


def _not_here(*_: object) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    scratch = Path(os.environ["HOME"]) / "other-system"
    scratch.mkdir(exist_ok=True)
    become(sys.argv[1], scratch)
    words = sys.argv[sys.argv.index(OURS) + 1 :]
    if words == ["import-all"]:
        for name in modules():
            importlib.import_module(name)
        sys.exit()
    sys.argv = [OURS, *words]
    sys.exit(importlib.import_module("llm_mcp_hub.cli").main())
