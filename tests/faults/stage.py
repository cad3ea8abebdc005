"""A hub that faults strike, with both real CLIs below it, and the looks that are taken after each of them.

Five kinds: `plain` (SQLite, no client tokens), `guarded` (client tokens), `redis` (on a Redis behind a way that can be
made slow), `disk` (its state is a small file system of its own) and `troubled` (its clock can be set, and the system
told to start nothing). It knows processes, the wire and the log; not how the hub keeps what it promises.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.faults.programs import Programs, on_a_small_disk
from tests.faults.slow_way import SlowWay
from tests.faults.table import ANSWERED, LOST
from tests.guarantees.drill import FIRST, HELLO, KEPT_WARM, PROVIDERS, Call, Hub, Log, Provider
from tests.guarantees.search import Canary, Search, text_of
from tests.harness import DEADLINE_S, Transport, World, error_of, make_world, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received
from tests.upstreams.redis import RedisServer

TROUBLED = Path(__file__).with_name("troubled_hub.py")
WITHIN_S = 5.0
"""So long after the blow a process may still be on its way out."""
USABLE = {"valid", "warning", "unknown"}
MIB = 1 << 20


def until(happened: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Look again and again, until it is so. Raises AssertionError when that takes too long."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


class GuardedHub(Hub):
    """One that wants a client's token."""

    def __init__(self, world: World, transport: Transport, token: str) -> None:
        self.token = token
        super().__init__(world, transport, "auto")

    def _headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        return {**super()._headers(message), "authorization": f"Bearer {self.token}"}


class Stage(Programs):
    """See the module. Make one by `make_stage`."""

    def __init__(self, kind: str, world: World, folder: Path, redis: RedisServer | None, way: SlowWay | None) -> None:
        super().__init__(world, folder)
        self.kind = kind
        self.tokens: dict[str, str] = {}
        self.struck: list[psutil.Process] = []
        """Processes that a blow has hit: none of them may live on."""
        self.replies: dict[Provider, Any] = {}
        """What is said to those who ask in a blow; everybody else gets HELLO."""
        names = ("setup token", "access token", "refresh token", "id token", "Redis password")
        befores = {"setup token": "sk-ant-oat01-"}
        self.search = Search(
            [
                *(Canary(name, befores.get(name, ""), plain=True) for name in names),
                Canary("prompt", "What is "),
            ]
        )
        self._redis, self._way = redis, way
        self._hub: Hub | None = None
        self._read = 0
        world.changes |= {"CLAUDE_CODE_OAUTH_TOKEN": "", "CLAUDE_CODE_OAUTH_TOKEN_FILE": str(self.token_file)}
        world.claude.default = lambda received: self._said("claude", received)
        world.gemini.default = lambda received: self._said("gemini", received)
        self.new_logins()

    def __getitem__(self, name: str) -> str:
        return next(canary.value for canary in self.search.canaries if canary.name == name)

    @property
    def hub(self) -> Hub:
        assert self._hub is not None, "no hub runs"
        return self._hub

    @property
    def running(self) -> bool:
        return self._hub is not None

    @property
    def log(self) -> Log:
        return self.hub.log

    @property
    def redis(self) -> RedisServer:
        assert self._redis is not None
        return self._redis

    @property
    def way(self) -> SlowWay:
        assert self._way is not None
        return self._way

    @property
    def state(self) -> Path:
        """The state folder, as its hub sees it."""
        seen_by = f"/proc/{self.hub.itself.pid}/root" if self.kind == "disk" and self._hub is not None else ""
        return Path(f"{seen_by}{self.world.state}")

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, transport: Transport = "http") -> Hub:
        """Start a hub in this world. The one before has ended."""
        self._read = 0
        if self.kind == "guarded":
            self._hub = GuardedHub(self.world, transport, self.tokens["alice"])
        else:
            self._hub = Hub(self.world, transport, "auto")
        return self._hub

    def end(self, *, by_force: bool = False) -> None:
        """End the hub, if one runs; what it has written is looked through."""
        hub, self._hub = self._hub, None
        if hub is None:
            return
        if by_force:
            with contextlib.suppress(psutil.Error):
                hub.itself.kill()
            hub.process.kill()
        hub.__exit__(None, None, None)
        self.search.look("the log", hub.log.end()[self._read :])

    def mended(self) -> None:
        """Have a hub that answers, whatever the last blow has left: a blow that was not survived is no other's."""
        self.play(None)
        self.replies.clear()
        self.struck.clear()
        if self._hub is None or self._hub.process.poll() is not None or self._hub.transport == "stdio":
            self.end(by_force=True)
            self.start()

    # -- who asks ------------------------------------------------------------------------------------------------------

    def begin(self, provider: Provider, **more: Any) -> Call:
        """Ask in the blow, and do not wait."""
        return self.hub.ask(provider, **{"prompt": f"{self['prompt']} now?", **more})

    def outcome(self, call: Call) -> str:
        """What somebody was told, in a word; all of it is searched."""
        try:
            result = call.result()
        except Exception as error:
            return LOST if isinstance(error, ConnectionError | http.client.HTTPException) else type(error).__name__
        self.search.look("a result", text_of(result))
        if result.is_error:
            return error_of(result)["code"]
        assert result.meta is not None
        status = result.meta["llm-mcp-hub/answer"]["status"]
        return ANSWERED if status == "completed" else status

    def ask(self, *providers: Provider, **more: Any) -> dict[str, str]:
        """Ask these (both, if none is named) at once, and wait."""
        calls = {provider: self.begin(provider, **more) for provider in providers or PROVIDERS}
        return {provider: self.outcome(call) for provider, call in calls.items()}

    def next_ask(self) -> str:
        """The ask after the blow, at both providers: the place of each is free again, and its CLI answers.

        A hub that says that it waits a little before it starts a CLI again is asked again when it says.
        """
        for provider in PROVIDERS:
            while True:
                result = self.hub.ask(provider, prompt=f"{self['prompt']} next?").result()
                self.search.look("a result", text_of(result))
                if not result.is_error:
                    assert result.meta is not None
                    if result.meta["llm-mcp-hub/answer"]["text"] != HELLO[provider]:
                        return f"{provider}: another's answer"
                    break
                error = error_of(result)
                if "waits a little" not in error["message"]:
                    return f"{provider}: {error['code']} ({error['message']})"
                time.sleep(0.2)
        return ANSWERED

    def statuses(self) -> dict[str, str]:
        """The word that token_status has for each login."""
        result = self.hub.call("token_status", {}).result()
        self.search.look("token_status", text_of(result))
        assert result.structured_content is not None, result
        return {name: status["status"] for name, status in result.structured_content.items()}

    def get(self, path: str) -> bytes:
        """One plain request to a hub over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.hub.url.split(":")[2].split("/")[0]), timeout=60)
        own = {"authorization": f"Bearer {self.tokens['alice']}"} if self.tokens else {}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=own)
            answer = connection.getresponse()
            return str(answer.getheaders()).encode() + answer.read()

    # -- looks ---------------------------------------------------------------------------------------------------------

    def look_for_secrets(self) -> None:
        """What the hub has logged since the last look, and what it shows."""
        log = self.log.text
        self.search.look("the log", log[self._read :])
        self._read = len(log)
        if self.hub.transport == "http":
            self.search.look("the metrics", self.get("/metrics"))
            self.search.look("the logins over HTTP", self.get("/health/tokens"))

    def orphans(self) -> list[str]:
        """What lives that should not, after WITHIN_S seconds at the latest."""
        deadline = time.monotonic() + WITHIN_S
        while (left := self._orphans()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _orphans(self) -> list[str]:
        left = [f"struck, and lives: {named(process)}" for process in self.struck if lives(process)]
        homes = self._homes()
        for provider in PROVIDERS:
            own = [home for home in homes if home.name.startswith(f"{provider}-")]
            if len(own) > KEPT_WARM[provider]:
                held = [sorted(file.name for file in home.iterdir()) for home in own]
                left.append(f"{len(own)} folders of children of {provider}: {held}")
        seen = {str(home).partition("/root")[2] if self.kind == "disk" else str(home): home for home in homes}
        for process in self.world.children():
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                home = process.environ().get("HOME")
                if home is None:  # it is just going
                    continue
                if home not in seen:
                    left.append(f"without a folder: {named(process)}")
                elif (file := seen[home] / "pid").exists():
                    root = int(file.read_text())
                    if process.pid != root and root not in {parent.pid for parent in process.parents()}:
                        left.append(f"of nobody: {named(process)}")
        return left

    def _homes(self) -> list[Path]:
        run = self.state / "run"
        return [home for home in run.glob("*/*-*") if home.is_dir()] if run.exists() else []

    def leftovers(self) -> list[str]:
        """What is left when no hub runs: processes and run folders, after WITHIN_S seconds at the latest."""
        assert self._hub is None
        deadline = time.monotonic() + WITHIN_S
        while True:
            left = [f"without a hub: {named(process)}" for process in self.world.children()]
            left += [f"struck, and lives: {named(process)}" for process in self.struck if lives(process)]
            run = self.world.state / "run"
            left += [f"a run folder: {one.name}" for one in run.iterdir() if one.is_dir()] if run.exists() else []
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)

    # -- blows ---------------------------------------------------------------------------------------------------------

    def new_logins(self) -> None:
        """Both logins as their owner has them."""
        self.write_token(self["setup token"])
        self.write_login()

    @property
    def token_file(self) -> Path:
        return self.world.home / "token"

    def write_token(self, text: str) -> None:
        if self.token_file.is_dir():
            self.token_file.rmdir()
        self.token_file.write_text(text)
        self.token_file.chmod(0o600)

    def write_login(self, **changes: Any) -> None:
        if self.world.login_file.is_dir():
            self.world.login_file.rmdir()
        own: dict[str, Any] = {name.replace(" ", "_"): self[name] for name in ("access token", "refresh token")}
        own["id_token"] = f"{self['id token']}.{self['id token']}.x"
        google.write_login(self.world.login_file.parent, **(own | changes))

    def kill_children(self) -> None:
        """End every child there is, in a moment in which nothing is asked."""
        self.struck += self.world.children()
        for child in self.struck:
            with contextlib.suppress(psutil.Error):
                child.kill()
        until(lambda: not self.world.children(), "no child is left")

    def say(self, claude: Any, gemini: Any) -> None:
        """What is said to those who ask in the blow."""
        self.replies |= {"claude": claude, "gemini": gemini}

    def mid_answer(self, *providers: Provider, **more: Any) -> dict[Provider, Call]:
        """Have these (both, if none is named) in the middle of an answer that does not go on."""
        calls: dict[Provider, Call] = {}
        for provider in providers or PROVIDERS:
            self.replies.setdefault(provider, HANGS[provider])
            texts = len(self.log.found("first text", provider=provider))
            calls[provider] = self.begin(provider, **more)
            self.log.wait_for("first text", provider=provider, more_than=texts)
        return calls

    def busy(self, provider: Provider) -> psutil.Process:
        """The child whose request the stand-in has open."""
        asked = self.world.claude.received if provider == "claude" else self.world.gemini.generations
        ports = {received.port for received in asked if received.ended == "open"}
        for child in self.world.children():
            with contextlib.suppress(psutil.Error):
                if f"/{provider}-" in child.environ().get("HOME", ""):
                    local: list[Any] = [connection.laddr for connection in child.net_connections("tcp")]
                    if any(address and address[1] in ports for address in local):
                        return child
        raise AssertionError(f"no child of {provider} has an open request")

    def _said(self, provider: Provider, received: Received) -> Any:
        asked = anthropic.last_user_texts(received) if provider == "claude" else google.prompt_texts(received)
        reply = self.replies.get(provider) if any("now?" in text for text in asked) else None
        if callable(reply):
            return reply(received)
        if reply is not None:
            return reply
        return anthropic.Answer(HELLO["claude"]) if provider == "claude" else google.Answer(HELLO["gemini"])


HANGS: Mapping[Provider, Any] = {"claude": anthropic.Hang(FIRST), "gemini": google.Hang(FIRST)}


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def named(process: psutil.Process) -> str:
    """A process in words that hold no path."""
    with contextlib.suppress(psutil.Error):
        return " ".join(Path(word).name for word in process.cmdline()[:3])
    return "one that has just gone"


def sqlite(stage: Stage) -> sqlite3.Connection:
    """The hubs' store, to be struck."""
    return sqlite3.connect(stage.world.state / "hub.sqlite3", timeout=DEADLINE_S, isolation_level=None)


@contextmanager
def make_stage(kind: str, folder: Path) -> Generator[Stage]:
    """A stage of this kind below `folder`, with its hub."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        world = stack.enter_context(make_world(folder / "world"))
        redis = stack.enter_context(RedisServer(folder / "redis")) if kind == "redis" else None
        way = stack.enter_context(SlowWay(redis.port)) if redis is not None else None
        stage = Stage(kind, world, folder, redis, way)
        if redis is not None and way is not None:
            world.changes["REDIS_URL"] = f"redis://127.0.0.1:{way.port}"
        if kind == "guarded":
            for name in ("alice", "bob", "gone"):
                much = ["--requests-per-minute", "100000", "--asks-per-minute", "100000"]
                stage.tokens[name] = run_command(world, "client", "add", name, *much).stdout.decode().strip()
        if kind == "disk":
            world.state.mkdir(mode=0o700)
            world.prefix = on_a_small_disk(world)
        if kind == "troubled":
            world.prefix = [sys.executable, "-P", str(TROUBLED), str(folder)]
        stage.start()
        try:
            assert (asked := stage.next_ask()) == ANSWERED, asked
            yield stage
        finally:
            stage.end(by_force=sys.exc_info()[0] is not None)
        world.wait_until_no_child()
        assert world.surprises == [], world.surprises
