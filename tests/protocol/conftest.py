"""Warm lines to shared hubs, one for each way to reach one, and what must hold after every test that uses them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import EVERY_WAY, TOKEN, Era, Line, Transport, World, http_hub, make_world, open_line
from tests.upstreams import anthropic, google

CANARY = "plum-canary"
"""Stands in every prompt of these tests, and must never be seen in a log or in an error."""


MADE_UP = ("made-up-access", "made-up-refresh")
"""How the tokens begin that the stand-in of Google hands out."""


@dataclass
class Shared:
    """One world, and the lines into it: three hubs, for both eras over HTTP share one."""

    world: World
    url: str
    """Of the hub over HTTP."""
    lines: dict[tuple[Transport, Era], Line]

    def reset(self) -> None:
        """Both stand-ins as in the beginning, but for what has arrived; and no limit is remembered."""
        self.world.forget_limits()
        self.world.claude.default = anthropic.Answer("Hello from the stand-in of Claude.")
        self.world.gemini.default = google.Answer("Hello from the stand-in of Gemini.")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shared]:
    """The hubs log all they ever would: what must not be logged must not be at DEBUG either."""
    with make_world(tmp_path_factory.mktemp("shared")) as world, ExitStack() as stack:
        world.changes["LOG_LEVEL"] = "DEBUG"
        hub = stack.enter_context(http_hub(world))
        lines: dict[tuple[Transport, Era], Line] = {
            (transport, era): stack.enter_context(open_line(world, transport, era, hub=hub))
            for transport, era in EVERY_WAY
        }
        yield Shared(world, hub.url, lines)
        stack.close()
        world.wait_until_no_child()


@pytest.fixture
def warm(shared: Shared) -> Generator[World]:
    """The shared world for one test. At its end nothing is scripted, surprising or logged that must not be."""
    shared.reset()
    yield shared.world
    unused = shared.world.claude.unused, shared.world.gemini.unused
    shared.reset()
    assert unused == (0, 0)
    assert shared.world.surprises == []
    for way, line in shared.lines.items():
        for secret in (CANARY, TOKEN, *MADE_UP):
            assert secret not in line.log, way


@pytest.fixture(autouse=True)
def nothing_secret_is_logged(tmp_path: Path) -> Generator[None]:
    """What the hubs of a test's own have written to their logs holds no prompt and no credential."""
    yield
    for log in tmp_path.rglob("*.log"):
        said = log.read_text()
        for secret in (CANARY, TOKEN, *MADE_UP):
            assert secret not in said, log


@pytest.fixture(params=EVERY_WAY, ids="-".join)
def line(request: pytest.FixtureRequest, shared: Shared, warm: World) -> Line:
    """Each way to reach a hub, one after the other."""
    return shared.lines[request.param]


@pytest.fixture
def one_line(shared: Shared, warm: World) -> Line:
    """One way to reach a hub, for what does not depend on the way."""
    return shared.lines["http", "auto"]
