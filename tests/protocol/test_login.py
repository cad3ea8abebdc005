"""`llm-mcp-hub login` at a real terminal: both real CLIs, their sign-in pages played by the stand-ins."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.harness import DEADLINE_S, World
from tests.upstreams.anthropic_oauth import AnthropicOAuth
from tests.upstreams.loopback import Received

URL = r"https://\S+"
WRONG = {"claude": "made-up-wrong-code#made-up-state", "gemini": "4/0Made-up-wrong-code"}
PASTE = "Paste the code"
NOT_SAVED = "nothing was saved"


@dataclass
class Desk:
    """One provider's sign-in page and what it has given out, and a terminal that is not very wide."""

    provider: str
    world: World
    oauth: AnthropicOAuth | None
    codes: list[str] = field(default_factory=list[str])

    @property
    def saved_file(self) -> Path:
        return self.world.state / "logins" / f"{self.provider}.json"

    @property
    def saved(self) -> str:
        """The content that was saved."""
        return json.loads(self.saved_file.read_text())["content"]

    @property
    def wrong(self) -> str:
        return WRONG[self.provider]

    @property
    def issued(self) -> list[str]:
        """Every token that the provider has handed out."""
        return self.oauth.issued if self.oauth is not None else self.world.gemini.oauth.issued

    @property
    def exchanges(self) -> list[Received]:
        """The codes that have reached the provider."""
        received = self.oauth.received if self.oauth is not None else self.world.gemini.oauth_received
        return [request for request in received if request.path in ("/v1/oauth/token", "/token")]

    @property
    def bearer(self) -> str:
        """Whose token the last ask was sent with."""
        received = self.world.claude.received if self.provider == "claude" else self.world.gemini.generations
        return received[-1].headers["authorization"].removeprefix("Bearer ")

    def authorize(self, url: str) -> str:
        """What a browser shows at the end of that link."""
        oauth = self.oauth if self.oauth is not None else self.world.gemini.oauth
        code = oauth.authorize(url)
        self.codes.append(code)
        return code

    def token_endpoint(self, behaves: Any) -> None:
        """How the exchange of a code for a token goes from now on."""
        (self.oauth if self.oauth is not None else self.world.gemini.oauth).token = behaves

    def wait_for_exchange(self) -> None:
        if self.oauth is not None:
            self.oauth.wait_for_requests(1)
        else:
            self.world.gemini.wait_for_oauth("/token")

    def answer_with(self, reply: Any) -> None:
        """What the one short question gets that a new login is tried with."""
        self.world.upstream(self.provider).default = reply

    def wait_for_question(self) -> None:
        if self.provider == "claude":
            self.world.claude.wait_for_requests(1)
        else:
            self.world.gemini.wait_for_generations(1)

    @contextmanager
    def terminal(self, *arguments: str) -> Generator[Terminal]:
        """`login` at a terminal. At its end nothing secret has been shown, and no child lives."""
        command, *words = [*self.world.command, "login", self.provider, *arguments]
        child = pexpect.spawn(
            command,
            words,
            env={**os.environ, **self.world.environment},  # pexpect takes a mapping of its own kind
            encoding="utf-8",
            timeout=DEADLINE_S,
            dimensions=(24, 80),
        )
        seen = self.world.home.parent / "terminal.txt"
        with seen.open("w+") as log:
            child.logfile_read = log
            terminal = Terminal(child, self)
            try:
                yield terminal
            finally:
                child.close(force=True)
        self.world.wait_until_no_child()
        self.assert_nothing_secret_in(seen.read_text())

    def assert_nothing_secret_in(self, text: str) -> None:
        assert "sk-ant-" not in text
        for secret in (*self.issued, *self.codes, self.wrong, "made-up-refresh"):
            assert secret not in text

    def assert_nothing_left(self) -> None:
        """No login saved, no child, no file of one."""
        self.world.wait_until_no_child()
        assert not self.saved_file.exists()
        assert self.homes() == []

    def homes(self) -> list[Path]:
        return list((self.world.state / "run").glob("*/*-[0-9]*"))


@dataclass
class Terminal:
    """Who sits there: reads, opens links, types."""

    child: pexpect.spawn[str]
    desk: Desk

    def link(self) -> str:
        """The next link, once its code is asked for."""
        self.child.expect(rf"\r\n({URL})\r\n")
        match = self.child.match
        assert isinstance(match, re.Match)
        self.child.expect_exact(PASTE)
        self.child.expect_exact(":")
        return str(match[1])

    def type(self, text: str) -> None:
        self.child.sendline(text)

    def log_in(self) -> None:
        """The next link is opened, its code typed."""
        self.type(self.desk.authorize(self.link()))

    def end(self) -> tuple[int, str]:
        """The exit code, and what was shown since the last look."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus is not None, self.child.signalstatus
        return self.child.exitstatus, str(self.child.before)


@pytest.fixture(params=["claude", "gemini"])
def desk(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Generator[Desk]:
    """Each provider in turn, in a world without a login."""
    with make_desk(request.param, world, tmp_path) as made:
        yield made


@pytest.fixture
def claude_desk(world: World, tmp_path: Path) -> Generator[Desk]:
    """Claude alone."""
    with make_desk("claude", world, tmp_path) as made:
        yield made


@pytest.fixture
def gemini_desk(world: World, tmp_path: Path) -> Generator[Desk]:
    """Gemini alone."""
    with make_desk("gemini", world, tmp_path) as made:
        yield made


@contextmanager
def make_desk(provider: str, world: World, folder: Path) -> Generator[Desk]:
    world.changes["CLAUDE_CODE_OAUTH_TOKEN"] = ""
    world.changes["LOG_LEVEL"] = "DEBUG"
    world.login_file.unlink()
    with ExitStack() as stack:
        oauth = None
        if provider == "claude":
            oauth = stack.enter_context(AnthropicOAuth(folder / "anthropic"))
            world.changes.update(oauth.environment)
        yield Desk(provider, world, oauth)
        if oauth is not None:
            assert oauth.surprises == []


def test_a_right_code_gives_a_login_that_is_tried_and_saved_whole(desk: Desk) -> None:
    """The one thing that the command is for; nothing else is written, and the secret is shown to nobody."""
    with desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert "has answered: the login works" in said
    [token] = desk.issued
    assert desk.bearer == token
    if desk.provider == "claude":
        assert desk.saved == token
    else:
        assert json.loads(desk.saved)["access_token"] == token
        assert json.loads(desk.saved)["refresh_token"].startswith("made-up-refresh")
    assert stat.S_IMODE(desk.saved_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.saved_file.parent.stat().st_mode) == 0o700
    assert json.loads(desk.saved_file.read_text())["issued_at"] is not None
    assert desk.homes() == []
    assert [
        file for file in desk.world.home.rglob("*") if file.is_file() and desk.world.state not in file.parents
    ] == []
