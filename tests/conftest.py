"""What holds for every test: a scrubbed environment, and stand-ins that must not be surprised."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.harness import World, make_world

KEPT = ("PATH", "LANG", "COVERAGE", "PYTEST", "PY_COLORS", "TERM")
"""Beginnings of the names that a test process keeps."""


CHEAP = {"tmp_path_factory", "no_signal_is_ignored", "anyio_backend", "remove_template"}
"""Fixtures of a session or a module that each worker may as well have for itself."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture, which mostly is a hub with its CLIs, run in one worker, which alone makes it.

    They are of one module, or all over those that have a fixture of the whole session. Every other test goes to
    whichever worker is free (`--dist loadgroup`).
    """
    for item in items:
        if isinstance(item, pytest.Function):
            known = item._fixtureinfo.name2fixturedefs  # pyright: ignore[reportPrivateUsage]
            scopes = {fixtures[-1].scope: name for name, fixtures in known.items() if name not in CHEAP}
            if "session" in scopes:
                item.add_marker(pytest.mark.xdist_group(scopes["session"]))
            elif "module" in scopes:
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


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
