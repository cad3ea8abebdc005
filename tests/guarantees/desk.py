"""Where a whole hub is asked what it thinks of its logins: one warm hub over HTTP, whose logins a test changes.

It knows how a login is changed, how a provider is made to answer, and every outlet of the status. What the status must
be is the tests' business.
"""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from llm_mcp_hub.credentials.saved import SavedLogins
from tests.harness import DEADLINE_S, HttpHub, Line, World, answer_of, error_of, http_hub, make_world, open_line
from tests.upstreams import anthropic, google

Provider = Literal["claude", "gemini"]
USABLE = {"valid", "warning", "unknown"}
OF_THE_BRIEF = {"status", "expires_at", "days_remaining", "message"}


def new_token() -> str:
    """A setup-token that no hub has seen before."""
    return "sk-ant-oat01-" + os.urandom(45).hex()


@dataclass(frozen=True)
class Told:
    """What must be told of a login.

    Attributes:
        status: the word.
        says: part of the message: what happened.
        action: part of the next step; empty where there is nothing to do.
        level: of the evidence; None where there is no login at all.
        ended: how the last ask ended; None where nobody has asked.
        days: `days_remaining`.
        source: which login is meant.
    """

    status: str
    says: str
    action: str = ""
    level: str | None = "proven"
    ended: str | None = None
    days: int | None = None
    source: str | None = None

    def check(self, status: Mapping[str, Any], ended: str | None) -> None:
        """Whether this is told. Raises AssertionError."""
        assert (ended, status["status"]) == (self.ended, self.status), status
        assert status["usable"] is (self.status in USABLE)
        assert status["days_remaining"] == self.days, status
        evidence = status["evidence"]
        assert (evidence and evidence["level"]) == self.level, status
        assert (evidence is None) is (self.level is None)
        assert self.says in status["message"], status["message"]
        assert self.action in status["action"], status["action"]
        assert bool(self.action) is bool(status["action"]), status["action"]
        assert self.source is None or status["credential"]["source"] == self.source, status["credential"]
        one_step(status["action"])


def one_step(action: str) -> None:
    """A next step is one sentence on one line. Raises AssertionError."""
    assert "\n" not in action
    assert re.search(r"\. [A-Z]", action) is None, action


def get(url: str, path: str = "/health/tokens") -> tuple[int, Any]:
    """One plain request: status code, and the body's JSON."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body)


def timeless(status: Any) -> Any:
    """Without the moment of looking."""
    return json.loads(re.sub(r'("observed_at": )"[^"]*"', r"\1null", json.dumps(status)))


@dataclass
class Desk:
    """A world, a hub in it, and how the last ask ended."""

    world: World
    hub: HttpHub
    line: Line
    ended: str | None = None
    kept: str = ""
    """What a step has put aside for a later one: a token, a file's content."""

    @property
    def token_file(self) -> Path:
        return self.world.home / "token"

    @property
    def saved(self) -> SavedLogins:
        return SavedLogins(self.world.state)

    def begin(self, provider: Provider) -> None:
        """A login that nobody has seen, and a provider that answers."""
        self.ended = None
        self.kept = ""
        if provider == "claude":
            self.world.claude.clear()
            self.write_token(new_token())
            self.saved.delete("claude")
        else:
            self.world.gemini.clear()
            self.new_login()
            for name in ("gemini", "gemini-last-good", "gemini-renewed"):
                self.saved.delete(name)

    # -- what happens --------------------------------------------------------------------------------------------------

    def write_token(self, token: str) -> None:
        """The owner puts another token into the file."""
        new = self.token_file.with_suffix(".new")
        new.write_text(token + "\n")
        new.chmod(0o600)
        new.replace(self.token_file)

    def new_login(self, **changes: Any) -> dict[str, Any]:
        """The owner logs in with Google anew. Returns what stands in the file."""
        path = google.write_login(self.world.login_file.parent, **changes)
        return json.loads(path.read_text())

    @property
    def login(self) -> dict[str, Any]:
        """What stands in the owner's login file."""
        return json.loads(self.world.login_file.read_text())

    def claude(self, reply: anthropic.Script | None = None) -> None:
        """Claude's API answers like this from now on, and somebody asks."""
        self.world.claude.default = reply or anthropic.Answer("Hello.")
        self.ask("claude")

    def gemini(
        self, reply: google.Script | None = None, *, account: google.Account | None = None, **oauth: Any
    ) -> None:
        """Google answers like this from now on, and somebody asks."""
        self.world.gemini.default = reply or google.Answer("Hello.")
        self.world.gemini.account = account or google.Account.free()
        self.world.gemini.oauth = google.OAuth(**oauth)
        self.ask("gemini")

    def ask(self, provider: Provider) -> Any:
        """Somebody asks; again as long as the hub only waits before it starts a CLI anew."""
        while True:
            result = self.line.call(f"ask_{provider}", {"prompt": "Hello?"})
            if not result.is_error:
                self.ended = "answered"
                return answer_of(result)
            error = error_of(result)
            self.ended = error["code"]
            if "waits a little" not in error["message"]:
                return error

    # -- what is told --------------------------------------------------------------------------------------------------

    def status(self, provider: Provider) -> dict[str, Any]:
        """What the hub tells of a login, which is the same by every way to ask it."""
        code, served = get(self.hub.url)
        by_tool = self.line.call("token_status", {"provider": provider})
        read = self.line.read("hub://tokens")
        assert code == 200
        assert list(served) == ["claude", "gemini"]
        assert timeless(by_tool.structured_content) == timeless({provider: served[provider]})
        assert timeless(json.loads(read)) == timeless(served)
        assert served[provider].keys() >= OF_THE_BRIEF
        return served[provider]


@contextmanager
def make_desk(folder: Path, **changes: str) -> Generator[Desk]:
    """A desk of its own below `folder`; `changes` are variables of the hub."""
    with make_world(folder) as world, ExitStack() as stack:
        token = world.home / "token"
        token.write_text(new_token())
        world.changes.update(CLAUDE_CODE_OAUTH_TOKEN="", CLAUDE_CODE_OAUTH_TOKEN_FILE=str(token), **changes)
        hub = stack.enter_context(http_hub(world))
        yield Desk(world, hub, stack.enter_context(open_line(world, "http", "auto", hub=hub)))
        stack.close()
        world.wait_until_no_child()
        assert world.surprises == []


Act = Callable[[Desk], object]
