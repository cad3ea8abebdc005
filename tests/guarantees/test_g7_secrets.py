"""G7, secrets stay: no token and no prompt in logs, errors, a process's words, metrics, traces, `repr`s or store keys.

Canaries stand where an owner's secrets stand, and in what is asked. A hub goes through answers, each kind of failure,
with providers that quote all they know in every error, and through its own collapse; then everything it has written,
said and shown is searched. Prompts may stand in the store's values, and in what their asker lists and reads.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import web

from llm_mcp_hub.conversation import Ask, Exchange, Part
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.credentials.status import Credential
from llm_mcp_hub.journal import opened
from llm_mcp_hub.material.gathering import Attachment
from llm_mcp_hub.providers.acp import Data
from llm_mcp_hub.providers.claude_pool import Connected
from llm_mcp_hub.providers.gemini import Login
from llm_mcp_hub.providers.login import Exported
from llm_mcp_hub.serving.arguments import AskArguments
from llm_mcp_hub.transcripts import Conversation
from tests.guarantees.search import Canary, Search, text_of
from tests.harness import DEADLINE_S, HttpHub, Line, World, make_world, open_line, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import LoopbackServer, Received
from tests.upstreams.otlp import Collector
from tests.upstreams.redis import RedisServer

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeSDKClient

PROMPTS = ("prompt", "system", "file")
OF_THE_HUB = ("Redis password", "webhook secret", "webhook address", "collector key")
OF_GOOGLE = ("access token", "refresh token", "id token")


class Receiver(LoopbackServer):
    """Takes alerts, and fails."""

    def __init__(self) -> None:
        super().__init__(self._fail)

    async def _fail(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        return web.Response(status=500, text="no")


@dataclass
class Secrets:
    """An owner's secrets and what is asked, in a world; and the search for them."""

    world: World
    receiver: Receiver
    redis: RedisServer | None
    search: Search
    collector: Collector

    def __getitem__(self, name: str) -> str:
        return next(canary.value for canary in self.search.canaries if canary.name == name)

    @property
    def token_file(self) -> Path:
        return self.world.home / "token"

    @property
    def echo(self) -> str:
        """What a provider says that quotes all it has been told."""
        return f"{self['prompt']} {self['system']} Bearer {self['setup token']} {self['access token']}"

    def write_token(self, token: str) -> None:
        self.token_file.write_text(token)
        self.token_file.chmod(0o600)

    def write_login(self, **changes: Any) -> None:
        google.write_login(
            self.world.login_file.parent,
            access_token=self["access token"],
            refresh_token=self["refresh token"],
            id_token=f"{self['id token']}.{self['id token']}.x",
            **changes,
        )

    def search_traces(self) -> None:
        """All that the hub has sent to who gathers traces. The key to it stands in a header."""
        assert self.collector.spans
        assert self.collector.surprises == []
        assert all(self["collector key"] in received.headers["authorization"] for received in self.collector.received)
        for received in self.collector.received:
            self.search.look("a trace", received.body)

    def search_store(self) -> None:
        """The store, whichever it is."""
        if self.redis is not None:
            self.search.redis(self.redis, PROMPTS)
        else:
            self.search.sqlite(self.world.state, PROMPTS)

    def search_files(self, *, running: bool) -> list[Path]:
        """The state folder and the rest of the home. Returns where something was found that may stand there."""
        state = self.world.state
        logins, run = state / "logins", state / "run"

        def allowed(file: Path) -> tuple[str, ...]:
            if logins in file.parents:
                return (*OF_GOOGLE, "saved token")
            if running and run in file.parents:
                child = file.relative_to(run).parts[1:2]
                if any(name.startswith("gemini-") for name in child):
                    return (*OF_GOOGLE, *PROMPTS)
                if any(name.startswith("claude-") for name in child):
                    return PROMPTS
            return PROMPTS if file.name.startswith("hub.sqlite3") else ()

        owners = (self.token_file, self.world.login_file, self.world.home / "notes.txt")
        found = self.search.folder(self.world.home, allowed, but=owners)
        for folder in (state, run, *state.glob("logins")):
            assert folder.stat().st_mode & 0o077 == 0, folder
        for file in [*state.glob("logins/*"), *state.glob("hub.sqlite3*")]:
            assert file.stat().st_mode & 0o177 == 0, file
        return found


@contextmanager
def make_secrets(folder: Path, *, with_redis: bool, traced: bool = True) -> Generator[Secrets]:
    canaries = [
        Canary("setup token", "sk-ant-oat01-", plain=True),
        Canary("saved token", "sk-ant-oat01-", plain=True),
        Canary("access token", plain=True),
        Canary("refresh token", plain=True),
        Canary("id token", plain=True),
        Canary("webhook secret"),
        Canary("webhook address", plain=True),
        Canary("Redis password", plain=True),
        Canary("collector key", plain=True),
        Canary("prompt", "What is "),
        Canary("system", "You are "),
        Canary("file", "It says "),
    ]
    with make_world(folder) as world, Receiver() as receiver, Collector() as collector, ExitStack() as stack:
        search = Search(canaries)
        held = Secrets(world, receiver, None, search, collector)
        if traced:
            headers = f"authorization=Bearer%20{held['collector key']}"
            world.changes.update(collector.environment(folder / "loaded", OTEL_EXPORTER_OTLP_HEADERS=headers))
        if with_redis:
            held.redis = stack.enter_context(RedisServer(folder / "redis", requirepass=held["Redis password"]))
            world.changes["REDIS_URL"] = held.redis.url.replace("://", f"://:{held['Redis password']}@")
        held.write_token(held["setup token"])
        held.write_login()
        notes = world.home / "notes.txt"
        notes.write_text(held["file"])
        world.changes.update(
            CLAUDE_CODE_OAUTH_TOKEN="",
            CLAUDE_CODE_OAUTH_TOKEN_FILE=str(held.token_file),
            LOG_LEVEL="DEBUG",
            HUB_CLAUDE_WARM="0",
            HUB_FILE_ROOTS=str(world.home),
            HUB_ALERT_WEBHOOK_URL=f"{receiver.url}/{held['webhook address']}",
            HUB_ALERT_WEBHOOK_SECRET=held["webhook secret"],
        )
        yield held
        world.wait_until_no_child()


CLAUDE_ERRORS = (
    anthropic.Error.unauthorized(),
    anthropic.Error.revoked(),
    anthropic.Error.org_not_allowed(),
    anthropic.Error.credit_balance(),
    anthropic.Error.rate_limited(),
    anthropic.Error.model_not_found(),
    anthropic.Error.prompt_too_long(),
    anthropic.Error.bad_request(),
    anthropic.Error.too_large(),
    anthropic.Error.server_error(),
    anthropic.Error.quota("opus"),
)
GEMINI_ERRORS = (
    google.Error.unauthenticated(),
    google.Error.permission_denied(),
    google.Error.service_disabled(),
    google.Error.validation_required(),
    google.Error.model_not_found(),
    google.Error.invalid_argument(),
    google.Error.internal(),
    google.Error.rate_limited(30),
    google.Error.no_capacity(),
    google.Error.daily_quota(),
)


@dataclass
class Tour:
    """One hub that is led through everything, by one client."""

    secrets: Secrets
    hub: HttpHub
    line: Line
    said: int = 0

    @property
    def search(self) -> Search:
        return self.secrets.search

    def ask(self, provider: str, **arguments: Any) -> Any:
        """Ask with a prompt and an instruction; whatever comes back is searched."""
        given = {"prompt": self.secrets["prompt"], "system": self.secrets["system"], **arguments}
        result = self.line.call(f"ask_{provider}", given)
        self.search.look(f"a result of {provider}: {'error' if result.is_error else 'answer'}", text_of(result))
        self.said += 1
        return result

    def looks(self) -> None:
        """Every outlet of what is known of the logins."""
        self.search.look("token_status", text_of(self.line.call("token_status")))
        self.search.look("hub://tokens", self.line.read("hub://tokens"))
        for path in (
            "/health/tokens",
            "/health/tokens?strict=1",
            "/health/live",
            "/metrics",
            f"/{self.secrets['prompt']}",
        ):
            self.search.look(f"HTTP: {path[:10]}", self.request("GET", path.replace(" ", "%20")))

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One raw request: headers and body of the answer."""
        connection = http.client.HTTPConnection(urlsplit(self.hub.url).netloc, timeout=DEADLINE_S)
        accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        connection.request(method, path, body or None, accepted)
        answer = connection.getresponse()
        whole = str(answer.getheaders()).encode() + answer.read()
        connection.close()
        return whole

    # -- stations ------------------------------------------------------------------------------------------------------

    def answers(self) -> None:
        """Both providers, a second turn, a file, an attachment, the other provider in the same conversation."""
        for provider, other in (("claude", "gemini"), ("gemini", "claude")):
            first = self.ask(provider, files=["notes.txt"])
            assert not first.is_error, first.content
            name = first.meta["llm-mcp-hub/answer"]["conversation_id"]
            attachment = {"name": "a.txt", "mime_type": "text/plain", "text": self.secrets["file"]}
            for result in (
                self.ask(provider, conversation_id=name, system=None),
                self.ask(other, conversation_id=name, system=None, attachments=[attachment]),
            ):
                assert not result.is_error, result.content
        self.looks()

    def while_asks_run(self) -> None:
        """Words and environments of all processes, the files, the store: while both children are at work."""
        world, gate = self.secrets.world, threading.Event()
        world.claude.default = anthropic.Answer("Hello.", gate=gate)
        world.gemini.default = google.Answer("Hello.", gate=gate)
        given = {"prompt": self.secrets["prompt"], "system": self.secrets["system"]}
        try:
            calls = [self.line.begin(f"ask_{provider}", given) for provider in ("claude", "gemini")]
            world.claude.wait_until(lambda: bool(world.claude.open), timeout=DEADLINE_S)
            world.gemini.wait_until(lambda: bool(world.gemini.open), timeout=DEADLINE_S)
            hub = (self.hub.process.pid, OF_THE_HUB)
            children = [(child.pid, ("setup token",)) for child in world.children() if is_claude(child)]
            assert len(self.search.processes([hub, *children])) == 1 + len(children) > 1
            held = self.secrets.search_files(running=True)
            assert any("gemini-" in str(file) for file in held), held
            self.secrets.search_store()
        finally:
            gate.set()
        for call in calls:
            assert not call.result(DEADLINE_S).is_error

    def failures(self) -> None:
        """Each class of failure, from providers that quote all they have been told."""
        world, echo = self.secrets.world, self.secrets.echo
        for error in CLAUDE_ERRORS:
            world.claude.default = replace(error, message=f"{error.message} {echo}")
            assert self.ask("claude", model="opus").is_error
        for reply in (
            anthropic.Answer.refusal(f"{self.secrets['prompt']} {self.secrets['system']}"),  # no model sees a token
            anthropic.StreamError(message=echo),
            anthropic.Malformed(),
            anthropic.Reset(),
            anthropic.ToolCall("Bash", {"command": echo}),
        ):
            world.claude.default = reply
            self.ask("claude")
        for failure in GEMINI_ERRORS:
            world.gemini.default = replace(failure, message=f"{failure.message} {echo}")
            assert self.ask("gemini").is_error
        for reply in (
            google.Malformed(),
            google.Reset(),
            google.NoFinish("Hel"),
            google.FunctionCall("x", {"a": echo}),
        ):
            world.gemini.default = reply
            self.ask("gemini")
        world.claude.default = anthropic.Hang()
        world.gemini.default = google.Hang()
        for provider in ("claude", "gemini"):
            assert self.ask(provider, timeout_s=1).is_error
            ticket = self.ask(provider, wait_s=0).meta["llm-mcp-hub/answer"]["ask_id"]
            self.search.look("a ticket", text_of(self.line.call("ask_cancel", {"ask_id": ticket})))
            self.search.look("a ticket", text_of(self.line.call("ask_result", {"ask_id": ticket})))
        self.looks()

    def logins(self) -> None:
        """Logins that are none, are refused, and are renewed."""
        world, secrets = self.secrets.world, self.secrets
        world.claude.default, world.gemini.default = anthropic.Answer("Hello."), google.Answer("Hello.")
        for text in (
            secrets["setup token"][:79],
            f"sk-ant-api03-{secrets['setup token'][13:]}",
            f"{{{secrets['setup token']}",
            f"{secrets['setup token']}\n{secrets['setup token']}",
        ):
            secrets.write_token(text)
            self.ask("claude")
            self.looks()
        secrets.write_token(secrets["setup token"])
        login = world.login_file.read_text()
        for content in (
            login[: len(login) // 2],
            f'["{secrets["refresh token"]}"]',
            login.replace("refresh_token", "x"),
        ):
            world.login_file.write_text(content)
            self.ask("gemini")
            self.looks()
        for oauth in (
            google.OAuth(token="invalid_grant"),
            google.OAuth(token="error500"),
            google.OAuth(tokeninfo="invalid_token"),
            google.OAuth(rejected={secrets["access token"]}),
        ):
            secrets.write_login(expires_in_s=3600 if oauth.rejected else -60)
            world.gemini.oauth = oauth
            self.ask("gemini")
            self.looks()
        world.gemini.oauth = google.OAuth()
        SavedLogins(world.state).put("claude", Saved(secrets["saved token"], datetime.now(UTC)))
        world.claude.default = anthropic.Error.unauthorized()
        for _ in range(2):  # the owner's, then the saved one
            self.ask("claude")
        self.looks()

    def nonsense(self) -> None:
        """Calls that nobody should make: the SDK's own errors would quote them."""
        prompt = self.secrets["prompt"]
        for tool, arguments in (
            ("ask_claude", {"prompt": [prompt]}),
            ("ask_claude", {"prompt": "x", prompt: 1}),
            ("ask_gemini", {"prompt": "x", "timeout_s": prompt}),
            ("ask_gemini", {"prompt": "x", "attachments": [{"name": prompt, "data": prompt}]}),
            ("ask_gemini", {"prompt": prompt, "conversation_id": "conv_of_nobody"}),
            ("ask_result", {"ask_id": "ask_of_nobody", "offset": prompt}),
            ("token_status", {"provider": prompt}),
        ):
            self.search.look("an error for nonsense", text_of(self.line.call(tool, arguments)))
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        for body in (
            {**call, "params": {"name": ["ask_claude"], "arguments": {"prompt": prompt}}},
            {**call, "params": {"name": "ask_claude", "arguments": prompt}},
            {**call, "jsonrpc": "1.0", "params": {"name": "ask_claude", "arguments": {"prompt": prompt}}},
            {**call, "id": {"no": "id"}, "params": {"name": "ask_claude", "arguments": {"prompt": prompt}}},
            {**call, "method": 5, "params": {"name": "ask_claude", "arguments": {"prompt": prompt}}},
            prompt,
        ):
            self.search.look("an error for nonsense: raw", self.request("POST", "/mcp", json.dumps(body).encode()))
        whole = json.dumps({**call, "params": {"name": "ask_claude", "arguments": {"prompt": prompt}}}).encode()
        self.search.look("an error for nonsense: raw", self.request("POST", "/mcp", whole[:-4]))

    def store_away(self) -> None:
        """Nobody can read or write the store."""
        world = self.secrets.world
        world.claude.default, world.gemini.default = anthropic.Answer("Hello."), google.Answer("Hello.")
        if self.secrets.redis is not None:
            self.secrets.redis.stop()
        else:
            for file in world.state.glob("hub.sqlite3*"):
                file.rename(file.with_name(f"away-{file.name}"))
            (world.state / "hub.sqlite3").mkdir()
        self.ask("gemini")
        self.looks()
        self.search.look("a list", text_of(self.line.call("ask_result")))
        if self.secrets.redis is not None:
            self.secrets.redis.start()
        else:
            (world.state / "hub.sqlite3").rmdir()
            for file in world.state.glob("away-*"):
                file.rename(file.with_name(file.name.removeprefix("away-")))


def is_claude(process: Any) -> bool:
    return "/claude-" in process.environ().get("HOME", "")


CANARY = "made-up-canary"


def holders() -> list[object]:
    """Each kind of value that holds what was asked or a credential, with the canary in it."""
    part = Part(name="a", mime_type="text/plain", text=CANARY, data=CANARY.encode())
    turn = Exchange(ask_id="ask", provider="one", model="one-1", prompt=CANARY, parts=(part,), answer=CANARY, at="now")
    ask = Ask("ask", "one", CANARY, "one-1", CANARY, 60, parts=(part,), history=(turn,))
    given = {"prompt": CANARY, "system": CANARY}
    attached = [{"name": "a", "mime_type": "b", "text": CANARY, "data": CANARY}]
    return [
        part,
        turn,
        ask,
        opened(ask, "hub"),
        Conversation(
            conversation_id="a",
            principal="b",
            title=CANARY,
            system=CANARY,
            created_at="",
            updated_at="",
            provider="one",
        ),
        AskArguments.model_validate({**given, "attachments": attached}),
        Attachment("a", "b", CANARY, CANARY.encode()),
        Data("image/png", CANARY.encode()),
        Login(CANARY.encode(), "mark"),
        Connected(cast("ClaudeSDKClient", None), None, Path("/home"), "one-1", CANARY, None, CANARY, 0.0),
        Held("The login", Credential(kind="login", source="file"), "a", "b", secret=CANARY),
        Saved(CANARY, datetime.now(UTC)),
        Exported({"NAME": CANARY}, {Path("/home"): CANARY}),
    ]


@pytest.mark.parametrize("holder", holders(), ids=lambda holder: type(holder).__name__)
def test_no_value_shows_what_it_holds(holder: object) -> None:
    """An exception or a log line of anybody's shows a value by its `repr`."""
    assert CANARY not in repr(holder)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_no_secret_leaves_by_any_way_out(tmp_path: Path, store: str) -> None:
    """One hub, all it goes through, and everything it has written, said and shown."""
    with make_secrets(tmp_path / "world", with_redis=store == "redis") as secrets:
        search = secrets.search
        with ExitStack() as stack:
            hub = HttpHub(secrets.world.environment)
            stack.callback(hub.stop)
            line = stack.enter_context(open_line(secrets.world, "http", "auto", hub=hub))
            tour = Tour(secrets, hub, line)
            # What fails is the same whatever the store: once through all of it is enough.
            of_one = [] if secrets.redis is not None else [tour.failures, tour.nonsense]
            for station in (tour.answers, tour.while_asks_run, *of_one, tour.logins, tour.store_away):
                station()
                assert search.hits == [], station.__name__
            secrets.search_store()
        search.look("the log", "".join(hub.log))
        secrets.search_traces()
        for alert in secrets.receiver.received:
            search.look("an alert", f"{alert.headers}".encode() + alert.body)
        held = secrets.search_files(running=False)

        print(search.report(f"secrets, {store}"), f"after {tour.said} asks and {len(secrets.receiver.received)} alerts")
        assert search.hits == []
        assert secrets.receiver.received
        assert {file.parent.name for file in held} <= {"logins", "state"}
        assert [path.name for path in (secrets.world.state / "run").iterdir()] == [".lock"]


def test_a_hub_that_a_client_starts_shows_none(tmp_path: Path) -> None:
    """Over stdio, while both children are at work and after: log, processes, files; nothing but logins is left."""
    with make_secrets(tmp_path / "world", with_redis=False) as secrets:
        world, search, gate = secrets.world, secrets.search, threading.Event()
        world.claude.default = anthropic.Answer("Hello.", gate=gate)
        world.gemini.default = google.Answer("Hello.", gate=gate)
        others = set(psutil.Process().children(recursive=True))
        with open_line(world, "stdio", "auto") as line:
            given = {"prompt": secrets["prompt"], "system": secrets["system"]}
            calls = [line.begin(f"ask_{provider}", given) for provider in ("claude", "gemini")]
            world.claude.wait_until(lambda: bool(world.claude.open), timeout=DEADLINE_S)
            world.gemini.wait_until(lambda: bool(world.gemini.open), timeout=DEADLINE_S)
            started = set(psutil.Process().children(recursive=True)) - others
            hubs = [(process.pid, OF_THE_HUB) for process in started if process not in world.children()]
            children = [(child.pid, ("setup token",)) for child in world.children() if is_claude(child)]
            assert len(hubs) == 2  # the process that the client knows, and the hub behind it
            search.processes([*hubs, *children])
            secrets.search_files(running=True)
            gate.set()
            for call in calls:
                search.look("a result: answer", text_of(call.result(DEADLINE_S)))
        search.look("the log", line.log)
        secrets.search_traces()
        secrets.search_store()
        held = secrets.search_files(running=False)

        print(search.report("secrets, stdio"))
        assert search.hits == []
        assert {file.parent.name for file in held} <= {"logins", "state"}


def test_no_command_shows_a_secret(tmp_path: Path) -> None:
    """Each in good and in bad days: output, errors, and what it leaves; a prompt only where its asker lists it."""
    with make_secrets(tmp_path / "world", with_redis=False, traced=False) as secrets:
        world, search = secrets.world, secrets.search
        ids: dict[str, list[str]] = {}

        def run(*words: str, allowed: tuple[str, ...] = (), stdin: str = "") -> str:
            shown = run_command(world, *words, stdin=stdin)
            search.look(f"output of {words[0]}: {words}", shown.stdout, allowed)
            search.look(f"errors of {words[0]}: {words}", shown.stderr)
            return shown.stdout.decode()

        for days in ("good", "bad", "broken"):
            if days == "bad":
                echo = secrets.echo
                world.claude.default = replace(anthropic.Error.bad_request(), message=echo)
                world.gemini.default = replace(google.Error.permission_denied(), message=echo)
            if days == "broken":
                secrets.write_token(secrets["setup token"][:79])
                world.login_file.write_text(world.login_file.read_text()[:150])
                shutil.rmtree(world.state / "logins")
            for provider in ("claude", "gemini"):
                run("ask", provider, "-", "--system", "Be brief.", stdin=secrets["prompt"])
                run("ask", provider, "--json", stdin=secrets["prompt"])
            for words in (("status",), ("status", "--json"), ("doctor",), ("doctor", "--json")):
                run(*words)
            for what in ("asks", "conversations"):
                run(what, allowed=PROMPTS)
                listed = json.loads(run(what, "--json", allowed=PROMPTS))
                name = "ask_id" if what == "asks" else "conversation_id"
                ids[what] = [one[name] for one in listed]
                run(what, "show", ids[what][0], allowed=PROMPTS)
            secrets.search_store()
            secrets.search_files(running=False)

        print(search.report("secrets, commands"))
        assert search.hits == []
        assert len(ids["asks"]) == 12
        assert search.allowed["prompt in output of asks"] > 0


BREAKS = """
import json, os, sys
PROMPT, TOKEN = (open(file).read() for file in sys.argv[1:3])
del sys.argv[1:3]

class Broken(Exception):
    pass

def breaks(*_, **__):
    raise Broken(f"cannot send {PROMPT} as {TOKEN}") from ValueError(f"{PROMPT!r} is no value")

import claude_agent_sdk, pexpect
claude_agent_sdk.ClaudeSDKClient.query = breaks
pexpect.spawn.__init__ = breaks
import llm_mcp_hub.cli
sys.exit(llm_mcp_hub.cli.main(sys.argv[1:]))
"""
"""A hub whose libraries break in the worst way: with all they know in the words of an error nobody has thought of."""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_hub_that_breaks_tells_where_and_nothing_else(tmp_path: Path, form: str) -> None:
    """Whoever mends it finds the place and the kind of the error, and not what was asked, nor by whose login."""
    with make_secrets(tmp_path / "world", with_redis=False) as secrets, ExitStack() as stack:
        world, search = secrets.world, secrets.search
        world.changes["HUB_LOG_FORMAT"] = form
        prompt = world.home / "notes.txt"
        prompt.write_text(secrets["prompt"])
        hub = HttpHub(world.environment, command=("-c", BREAKS, str(prompt), str(secrets.token_file), "serve"))
        stack.callback(hub.stop)
        line = stack.enter_context(open_line(world, "http", "auto", hub=hub))
        tour = Tour(secrets, hub, line)

        codes = [tour.ask(provider).meta["llm-mcp-hub/error"]["code"] for provider in ("claude", "gemini")]
        tour.looks()
        secrets.search_store()
        hub.stop()
        log = "".join(hub.log)
        search.look("the log", log)
        secrets.search_traces()

        print(search.report(f"secrets, broken, {form}"))
        assert codes == ["internal", "internal"]
        assert search.hits == []
        assert log.count("Broken") >= 2
        assert "in breaks" in log or '"breaks"' in log


def test_a_secret_that_is_wrong_is_not_told(tmp_path: Path) -> None:
    """A hub that does not start says which setting is at fault, and never what stands in it; nor does one that answers,
    for a new ask needs no store."""
    with make_secrets(tmp_path / "world", with_redis=False, traced=False) as secrets:
        world, search = secrets.world, secrets.search
        password, address = secrets["Redis password"], secrets["webhook address"]
        told: list[tuple[str, int, str]] = []
        with RedisServer(tmp_path / "redis", requirepass="another") as server:
            for name, value in (
                ("REDIS_URL", f"redis://:{password}@127.0.0.1:{server.port}/0"),
                ("REDIS_URL", f"redis://:{password}@127.0.0.1:9/0"),
                ("REDIS_URL", f"redis://:{password}@127.0.0.1:{server.port}/not-a-number"),
                ("REDIS_URL", f"http://:{password}@127.0.0.1/0"),
                ("HUB_ALERT_WEBHOOK_URL", f"http://example.invalid/{address}"),
                ("HUB_ALERT_WEBHOOK_SECRET", f"whsec_{secrets['webhook secret']}"),
                ("HUB_ALERT_WEBHOOK_SECRET", secrets["webhook secret"][:15]),
                ("CLAUDE_TOKEN_ISSUED_AT", secrets["setup token"]),
                ("LOG_LEVEL", secrets["setup token"]),
                ("HUB_PORT", secrets["access token"]),
            ):
                before = dict(world.changes)
                world.changes[name] = value
                # Every command reads the settings in one way, but for the doctor, which asks the real CLIs besides.
                doctor = [("doctor",)] if name == "HUB_PORT" or told == [] else []
                for words in (("ask", "claude", "-"), *doctor):
                    shown = run_command(world, *words, stdin=secrets["prompt"])
                    text = (shown.stdout + shown.stderr).decode()
                    search.look(f"{words[0]} with a wrong {name}", shown.stdout + shown.stderr)
                    told.append((name, shown.returncode, text))
                world.changes = before

        print(search.report("secrets, wrong settings"))
        assert search.hits == []
        away = [text for name, code, text in told if (name, code) == ("REDIS_URL", 0)]
        assert [code for _, code, _ in told] == [0, 1, 0, *[78] * 8, 1]  # one that starts answers; the doctor says 1
        assert all("the hub's store cannot be reached" in text for text in away)
        assert [name for name, code, text in told if code and name not in text] == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """As it is, cut, as base64 and in an address: a search that is blind would find a hub clean."""
    canary = Canary("it")
    search = Search([canary])
    found = [
        canary.value,
        canary.value[3 : 3 + len(canary.mark) * 2],
        json.dumps({"a": [canary.value]}),
        f"/x?y={canary.mark.replace('+', '%2B')}",
        base64.b64encode(canary.value.encode()),
    ]
    for number, data in enumerate(found):
        search.look(f"place {number}", data)
    search.look("nowhere", os.urandom(1000))
    (tmp_path / "x").write_text(canary.value)
    search.folder(tmp_path, lambda _file: ())

    assert len(search.hits) == len(found) + 1
