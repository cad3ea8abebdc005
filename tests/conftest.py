"""What holds for every test: a scrubbed environment, and stand-ins that must not be surprised."""

from __future__ import annotations

import functools
import gc
import os
import re
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.remote import Producer  # pyright: ignore[reportMissingTypeStubs]
from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs]

from tests.harness import MACHINES_PATH, PINNED_NODE, World, make_world

gc.disable()  # what follows makes 6,000 tests and no garbage


def pytest_collection_finish() -> None:
    """From here on it is looked for again, and not among the tests."""
    gc.freeze()
    gc.enable()


KEPT = ("PATH", "LANG", "COVERAGE", "PYTEST", "PY_COLORS", "TERM")
"""Beginnings of the names that a test process keeps."""


SHARED = re.compile(r'scope="module"|\b(?:Shared|shared_rig|warm: World)\b')
"""What the source of tests has that share a hub or a CLI."""


class ByHub(LoadScopeScheduling):
    """Modules whose tests share a hub run in one worker each, which alone starts it; other tests where there is room.

    So do other people's clients and the examples: each module has its hubs, and each program starts once.

    xdist has groups by marks (`loadgroup`), which pytest 9.2 does not show it any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return _shared_by(module) or nodeid


@functools.cache
def _shared_by(module: str) -> str | None:
    if module.startswith(("tests/clients/", "tests/examples/")):
        return module
    source = (Path(__file__).parent.parent / module).read_text()
    if not SHARED.search(source):
        return None
    return "the hubs of tests/protocol" if re.search(r"\b(?:Shared|warm: World)\b", source) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByHub | None:
    """For whole runs (`--dist load`, which xdist takes where nothing is said)."""
    return ByHub(config, log) if config.option.dist == "load" else None


@pytest.fixture(scope="session", autouse=True)
def pinned_node() -> Generator[None]:
    """Hubs find the Node.js that the tests pin, where it is installed; the contract's tests keep the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        if PINNED_NODE.is_dir():
            patch.setenv("PATH", f"{PINNED_NODE}{os.pathsep}{MACHINES_PATH}")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_signal_is_ignored() -> None:
    """A shell's `&` has what it starts ignore Ctrl-C, `nohup` a hang-up; hubs would inherit that from the suite."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees this machine's variables, logins or settings, and none can reach a real host by a proxy."""
    for name in list(os.environ):
        if not name.startswith(KEPT):
            monkeypatch.delenv(name)
    home = tmp_path / "nobody"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    """Both stand-ins and a private home. At the end nothing unexpected may have reached a stand-in.

    A CLI that is started ahead costs a second of a core: for a test with a hub of its own, which asks once or twice or
    one provider alone, as much again as its asks. Hubs that tests share have one, and those where it matters.
    """
    with make_world(tmp_path / "world") as made:
        made.claude_warm = 0
        yield made
        assert made.surprises == []
