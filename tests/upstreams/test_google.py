# pyright: strict
"""The stand-in of Google, proved against the real Gemini CLI.

What is asserted of the CLI here was measured with version 0.61.0. A test that fails after an update tells
that the CLI behaves in a new way, and what the hub makes of it has to be looked at again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from .google import (
    PROJECT,
    UNSUPPORTED_CLIENT_TEXT,
    Account,
    Answer,
    Cut,
    Empty,
    Error,
    FunctionCall,
    GoogleUpstream,
    Hang,
    Malformed,
    MaxTokens,
    NoFinish,
    Reply,
    Reset,
    Safety,
    all_texts,
    function_responses,
    prompt_texts,
    system_text,
    write_login,
)

GEMINI = str(Path(__file__).parents[2] / "gemini-cli" / "node_modules" / ".bin" / "gemini")
DEADLINE_S = 60.0
COMPILED = Path(GEMINI).parents[1] / ".cache" / "compiled"
"""What `make install` has had compiled, with these options: without it each start compiles all of it."""
MODEL = "gemini-2.5-pro"
SYSTEM = "You are asked by a test."
SETTINGS: dict[str, Any] = {
    "security": {
        "auth": {"selectedType": "oauth-personal", "enforcedType": "oauth-personal"},
        "disableYoloMode": True,
        "folderTrust": {"enabled": True},
    },
    "general": {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 1,
        "retryFetchErrors": False,
        "checkpointing": {"enabled": False},
        "plan": {"enabled": False},
        "topicUpdateNarration": False,
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "billing": {"overageStrategy": "never"},
    "model": {"disableLoopDetection": True, "skipNextSpeakerCheck": True, "name": MODEL},
    "context": {"fileName": ["__none__.md"], "includeDirectoryTree": False, "discoveryMaxDirs": 0},
    "tools": {"core": [], "useRipgrep": False},
    "useWriteTodos": False,
    "mcp": {"allowed": []},
    "mcpServers": {},
    "skills": {"enabled": False},
    "hooksConfig": {"enabled": False},
    "experimental": {"enableAgents": False, "autoMemory": False, "extensionManagement": False},
    "advanced": {"ignoreLocalEnv": True, "autoConfigureMemory": False},
    "ide": {"enabled": False},
    "admin": {"extensions": {"enabled": False}, "mcp": {"enabled": False}, "skills": {"enabled": False}},
}


class RefusedError(Exception):
    """An error answer of the CLI to a JSON-RPC request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Said:
    """What one prompt came to."""

    text: str
    thought: str
    stop_reason: str
    input_tokens: int
    output_tokens: int


class LoginWantedError(Exception):
    """The CLI does not speak ACP: it asks for an authorization code, and would take any line for one."""


class Gemini:
    """One `gemini --acp` over pipes, contained, with the stand-in for its upstream; a context manager.

    `home` is private to it. Everything it is told is a request and its answer; the rest it says is kept.
    """

    def __init__(self, google: GoogleUpstream, home: Path, **env: str) -> None:
        self.home = home
        self.login = home / ".gemini" / "oauth_creds.json"
        self.log = home / "debug.log"
        self.errors = home / "stderr.log"
        self._google = google
        self._env = env
        self._answers: dict[int, dict[str, Any]] = {}
        self._updates: list[tuple[str, dict[str, Any]]] = []
        self._last = 0
        self._heard = threading.Condition()
        self._ended = False
        self._initialized = False
        self._typed = False
        self.login_url = ""
        """Where the CLI wants somebody to log in; empty as long as it does not."""

    def __enter__(self) -> Gemini:
        cwd, tmp, settings = self.home / "empty", self.home / "tmp", self.home / ".gemini" / "settings.json"
        for folder in (cwd, tmp, settings.parent):
            folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(SETTINGS))
        (self.home / "system.md").write_text(SYSTEM)
        env = {
            "PATH": os.environ["PATH"],
            "NODE_OPTIONS": "--max-old-space-size=1024",
            "NODE_COMPILE_CACHE": str(COMPILED),
            "HOME": str(self.home),
            "GEMINI_CLI_HOME": str(self.home),
            "TMPDIR": str(tmp),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "NO_BROWSER": "true",
            "GEMINI_CLI_NO_RELAUNCH": "1",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_SYSTEM_MD": str(self.home / "system.md"),
            "GEMINI_DEBUG_LOG_FILE": str(self.log),
            # An API key is never used, whatever the CLI finds: these are taken first, and they lead nowhere.
            "GEMINI_API_KEY": "",
            "GOOGLE_API_KEY": "",
            "GOOGLE_GENAI_USE_VERTEXAI": "false",
            "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
            "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9",
            **self._google.environment,
            **self._env,
        }
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [GEMINI, "--acp", "-m", MODEL, "-e", "none"],
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def type(self, line: str) -> None:
        """Answer the CLI's question for an authorization code."""
        self.until(lambda: bool(self.login_url))
        self.login_url = ""
        self._typed = True
        self._write(line)

    def __exit__(self, *_: object) -> None:
        # SIGKILL at once: a busy CLI outlives its closed stdin, and nothing it would tidy up is looked at.
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def session(self) -> str:
        """A new session; the first call also initializes. Raises RefusedError."""
        if not self._initialized:
            self._initialize()
        return self.call("session/new", {"cwd": str(self.home / "empty"), "mcpServers": []})["sessionId"]

    def ask(self, text: str, session: str | None = None) -> Said:
        """Prompt a session (a new one, if none is given) and wait for the end. Raises RefusedError."""
        session = session or self.session()
        return self.wait(self.begin(text, session), session)

    def begin(self, text: str, session: str) -> int:
        return self._send("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})

    def wait(self, number: int, session: str) -> Said:
        result = self._answer(number)
        tokens = result.get("_meta", {}).get("quota", {}).get("token_count", {})
        return Said(
            self.heard(session),
            self.heard(session, "agent_thought_chunk"),
            result["stopReason"],
            tokens.get("input_tokens", 0),
            tokens.get("output_tokens", 0),
        )

    def cancel(self, session: str) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": session}}))

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._answer(self._send(method, params))

    def pieces(self, session: str, kind: str = "agent_message_chunk") -> list[str]:
        """The pieces of text that arrived in a session so far."""
        return [
            update["content"]["text"]
            for at, update in list(self._updates)
            if at == session
            if update["sessionUpdate"] == kind
        ]

    def heard(self, session: str, kind: str = "agent_message_chunk") -> str:
        return "".join(self.pieces(session, kind))

    def until(self, happened: Callable[[], bool]) -> None:
        """Block until `happened()`; it is looked at whenever the CLI says something."""
        with self._heard:
            assert self._heard.wait_for(lambda: happened() or self._ended, DEADLINE_S), self._state()
            assert happened(), self._state()

    def logged(self) -> str:
        """Wait for what the debug log has to say of why the login in the file was not taken."""
        marker = "Cached credentials are not valid: "
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            for line in self.log.read_text().splitlines() if self.log.exists() else ():
                if marker in line:
                    return line.partition(marker)[2]
            # The CLI writes the log later than it asks for a login, and a file tells nobody when it grows.
            time.sleep(0.01)
        raise AssertionError(self._state())

    def _initialize(self) -> None:
        capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}}
        number = self._send("initialize", {"protocolVersion": 1, "clientCapabilities": capabilities})
        with self._heard:
            # After a login the CLI drops what comes before it listens, and does not say when it does: ask again.
            while self._typed and not self._heard.wait_for(lambda: bool(self._answers) or self._ended, 0.25):
                number = self._send("initialize", {"protocolVersion": 1, "clientCapabilities": capabilities})
        self._answer(number)
        self._initialized = True

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._last += 1
        self._write(json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}))
        return self._last

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, number: int) -> dict[str, Any]:
        self.until(lambda: number in self._answers or bool(self.login_url))
        if number not in self._answers:
            raise LoginWantedError
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RefusedError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._heard:
                self._take(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _take(self, line: bytes) -> None:
        try:
            message = cast("dict[str, Any]", json.loads(line))
        except ValueError:
            if line.startswith(b"https://accounts.google.com/"):
                self.login_url = line.decode().strip()
        else:
            if message.get("method") == "session/update":
                self._updates.append((message["params"]["sessionId"], message["params"]["update"]))
            elif "method" not in message and "id" in message:
                self._answers[message["id"]] = message

    def _state(self) -> str:
        return f"the CLI said {self._updates[-3:]}, {self._answers}; ended: {self._ended}; {self.errors.read_text()}"


# Fixtures -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleUpstream]:
    with GoogleUpstream(tmp_path_factory.mktemp("google")) as google:
        yield google


@pytest.fixture
def google(stand_in: GoogleUpstream) -> Iterator[GoogleUpstream]:
    """The stand-in as in the beginning; what it did not expect fails the test."""
    stand_in.clear()
    yield stand_in
    assert stand_in.surprises == []
    assert stand_in.unused == 0


@pytest.fixture(scope="module")
def running(stand_in: GoogleUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gemini]:
    """One process for all cases that do not look at its start, which takes more than a second."""
    home = tmp_path_factory.mktemp("gemini")
    write_login(home / ".gemini")
    with Gemini(stand_in, home) as gemini:
        gemini.session()
        yield gemini


# A generation -------------------------------------------------------------------------------------------------------


def test_an_answer_arrives_piece_by_piece_with_thought_and_usage(google: GoogleUpstream, running: Gemini) -> None:
    """Pieces stay pieces; the thought comes apart from the text; tokens are those of the last frame."""
    google.script(Answer(chunks=("Hel", "lo ", "there"), thought="**Hm**\nWell", prompt_tokens=21, output_tokens=9))

    session = running.session()
    said = running.ask("Hi, all of you\n@x", session)

    assert said == Said("Hello there", "**Hm**\nWell", "end_turn", 21, 9)
    assert running.pieces(session) == ["Hel", "lo ", "there"]


def test_what_was_asked_can_be_read_verbatim(google: GoogleUpstream, running: Gemini) -> None:
    """The first message carries the CLI's own context as a part before ours; later ones carry ours alone."""
    google.script(Answer("One"), Answer("Two"))
    session = running.session()
    running.ask("First\n  äöü", session)
    running.ask("Second", session)

    first, second = google.generations
    assert prompt_texts(first)[1:] == ["First\n  äöü"]
    assert prompt_texts(second) == ["Second"]
    assert [(role, texts[-1]) for role, texts in all_texts(second)] == [
        ("user", "First\n  äöü"),
        ("model", "One"),
        ("user", "Second"),
    ]
    assert system_text(second) == SYSTEM
    assert (second.json["model"], second.json["project"]) == (MODEL, PROJECT)


def test_a_reply_can_be_found_from_the_request(google: GoogleUpstream, running: Gemini) -> None:
    google.default = lambda received: Answer(prompt_texts(received)[-1].upper())

    assert running.ask("louder").text == "LOUDER"


TIP = "\n\n💡 Tip: The shared Google Cloud project"
"""What the CLI adds to 429 and 503 of an account without a project of its own."""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Error.unauthenticated(), 401, '"status": "UNAUTHENTICATED"'),
        (Error.permission_denied(), 403, '"message": "The caller does not have permission"'),
        (Error.service_disabled("p-1"), 403, "cloudaicompanion.googleapis.com/overview?project=p-1 then retry"),
        (Error.validation_required(), 500, "Verify your account to continue."),
        (Error.model_not_found(), 500, "Requested entity was not found."),
        (Error.invalid_argument(), 400, '"status": "INVALID_ARGUMENT"'),
        (Error.internal(), 500, '"message": "Internal error encountered."'),
        (Error.unavailable(), 503, "The service is currently unavailable." + TIP),
        (Error.daily_quota(), 429, "You have exhausted your daily quota on this model." + TIP),
        (Error.quota_exhausted(), 429, "Your quota will reset after 5h12m3s." + TIP),
        (Error.rate_limited(), 429, "Your quota will reset after 2s." + TIP),
        (Error.no_capacity(), 429, "No capacity available for model gemini-2.5-pro on the server" + TIP),
        (Error.exhausted_without_details(), 429, "Resource has been exhausted (e.g. check quota)." + TIP),
    ],
    ids=lambda value: value.message[:24] if isinstance(value, Error) else "",
)
def test_an_error_arrives_as_the_facts_say(
    google: GoogleUpstream, running: Gemini, error: Error, code: int, message: str
) -> None:
    """At once, for maxAttempts is 1. Some messages are a sentence, and some the whole body of the answer."""
    google.script(error)

    with pytest.raises(RefusedError) as refused:
        running.ask("hi")

    assert refused.value.code == code
    assert message in refused.value.message
    assert len(google.generations) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Malformed(), Said("", "", "end_turn", 0, 0)),
        (Malformed("some"), Said("some", "", "end_turn", 0, 0)),
        (NoFinish("some"), Said("some", "", "end_turn", 0, 0)),
        (Empty(), Said("", "", "end_turn", 12, 0)),
        (Safety(), Said("", "", "end_turn", 12, 0)),
        (MaxTokens("some"), Said("some", "", "end_turn", 12, 7)),
    ],
    ids=repr,
)
def test_an_odd_end_looks_like_success(google: GoogleUpstream, running: Gemini, reply: Reply, said: Said) -> None:
    """ACP tells none of these from an answer; text and tokens are all there is to go by."""
    google.script(reply)

    assert running.ask("hi") == said


@pytest.mark.parametrize(
    ("reply", "text", "message"),
    [
        (Cut("The beginning"), "The beginning", "Premature close"),
        (Cut(""), "", "Premature close"),
        (Reset(), "", "read ECONNRESET"),
    ],
    ids=repr,
)
def test_a_broken_connection_is_an_error_after_what_was_said(
    google: GoogleUpstream, running: Gemini, reply: Reply, text: str, message: str
) -> None:
    google.script(reply)
    session = running.session()

    with pytest.raises(RefusedError) as refused:
        running.ask("hi", session)

    assert refused.value.code == 500
    assert message in refused.value.message
    assert running.heard(session) == text


@pytest.mark.parametrize("reply", [Hang(), Hang(before_headers=False), Hang("some")], ids=repr)
def test_a_cancelled_prompt_hangs_up_upstream(google: GoogleUpstream, running: Gemini, reply: Hang) -> None:
    """Which is how a test sees that no quota is spent on what nobody waits for."""
    google.script(reply)
    session = running.session()
    number = running.begin("hi", session)
    google.wait_for_generations(1, timeout=DEADLINE_S)
    running.until(lambda: running.heard(session) == reply.after_text)
    assert [request.ended for request in google.open] == ["open"]

    running.cancel(session)

    assert running.wait(number, session).stop_reason == "cancelled"
    google.wait_until_quiet(timeout=DEADLINE_S)
    assert [request.ended for request in google.generations] == ["disconnected"]


def test_a_gate_holds_answers_until_all_of_them_are_asked_for(google: GoogleUpstream, running: Gemini) -> None:
    gate = threading.Event()
    google.default = Answer("Now", gate=gate)
    sessions = [running.session() for _ in range(3)]
    numbers = [running.begin("hi", session) for session in sessions]
    google.wait_for_generations(3, timeout=DEADLINE_S)
    assert len(google.open) == 3

    gate.set()

    assert [running.wait(n, s).text for n, s in zip(numbers, sessions, strict=True)] == ["Now"] * 3


@pytest.mark.parametrize(
    "bait",
    [
        FunctionCall("run_shell_command", {"command": "touch taken"}),
        FunctionCall("read_file", {"file_path": "/etc/hostname"}),
        FunctionCall("google_web_search", {"query": "x"}),
    ],
    ids=lambda bait: bait.name,
)
def test_a_contained_cli_does_not_take_the_bait(google: GoogleUpstream, running: Gemini, bait: FunctionCall) -> None:
    """It tells the model that there is no such tool, in a second request, and nothing was done."""
    google.script(bait, Answer("Then not."))

    assert running.ask("hi").text == "Then not."
    first, second = google.generations
    assert function_responses(first) == []
    answered = [response["response"]["error"] for response in function_responses(second)]
    assert answered == [f'Tool "{bait.name}" not found in registry.']
    assert list((running.home / "empty").iterdir()) == []


# The login ----------------------------------------------------------------------------------------------------------


def test_an_expired_login_is_refreshed_through_the_proxy(google: GoogleUpstream, tmp_path: Path) -> None:
    """The new access token is used, and it is in the file; the refresh token stays."""
    login = write_login(tmp_path / ".gemini", refresh_token="made-up-refresh", expires_in_s=-60)
    with Gemini(google, tmp_path) as gemini:
        gemini.ask("hi")

        assert google.oauth.refreshes == 1
        (token,) = google.oauth.issued
        assert {request.headers["authorization"] for request in google.received} == {f"Bearer {token}"}
        written = json.loads(login.read_text())
        assert (written["access_token"], written["refresh_token"]) == (token, "made-up-refresh")
        assert written["expiry_date"] > time.time() * 1000
        assert stat.S_IMODE(login.stat().st_mode) == 0o600


def test_a_running_cli_refreshes_a_token_that_is_about_to_expire(google: GoogleUpstream, tmp_path: Path) -> None:
    """Less than five minutes left is expired, so with such tokens each request comes with a new one."""
    google.oauth.lifetime_s = 60
    write_login(tmp_path / ".gemini", expires_in_s=60)
    with Gemini(google, tmp_path) as gemini:
        session = gemini.session()
        before = google.oauth.refreshes
        gemini.ask("hi", session)
        assert google.oauth.refreshes > before

        google.oauth.token = "invalid_grant"
        with pytest.raises(RefusedError) as refused:
            gemini.ask("hi", session)

        assert (refused.value.code, refused.value.message) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "expires_in_s", "logged"),
    [
        ({"token": "invalid_grant"}, -60, "invalid_grant"),
        ({"token": "invalid_rapt"}, -60, '"error_subtype":"invalid_rapt"'),
        ({"token": "error500"}, -60, "internal_failure"),
        ({"token": "unreachable"}, -60, "request to https://oauth2.googleapis.com/token failed, reason: "),
        ({"token": "unreachable"}, 3600, "request to https://oauth2.googleapis.com/tokeninfo failed, reason: "),
        ({"tokeninfo": "invalid_token"}, 3600, "invalid_token"),
        ({"tokeninfo": "error500"}, 3600, "internal_failure"),
        ({"rejected": {"made-up-access"}}, 3600, "invalid_token"),
    ],
    ids=repr,
)
def test_a_login_that_does_not_work_is_told_apart_in_the_debug_log_only(
    google: GoogleUpstream, tmp_path: Path, changes: dict[str, Any], expires_in_s: float, logged: str
) -> None:
    """In all cases the CLI asks for a new login instead of speaking ACP, be it the login or the network."""
    for name, value in changes.items():
        setattr(google.oauth, name, value)
    write_login(tmp_path / ".gemini", access_token="made-up-access", expires_in_s=expires_in_s)
    with Gemini(google, tmp_path) as gemini:
        gemini.until(lambda: bool(gemini.login_url))

        assert logged in gemini.logged()
        assert google.received == []


@pytest.mark.parametrize("where", ["token", "tokeninfo"])
def test_an_oauth_that_hangs_keeps_the_cli_from_starting(google: GoogleUpstream, tmp_path: Path, where: str) -> None:
    """It waits, without saying anything, until it is killed; the stand-in sees that."""
    setattr(google.oauth, where, "hang")
    write_login(tmp_path / ".gemini", expires_in_s=-60)
    with Gemini(google, tmp_path) as gemini:
        google.wait_for_oauth(f"/{where}", timeout=DEADLINE_S)
        assert gemini.login_url == ""
        assert [request.path for request in google.open] == [f"/{where}"]

    google.wait_until_quiet(timeout=DEADLINE_S)
    assert google.oauth_received[-1].ended == "disconnected"


def test_a_login_with_a_code_works_after_a_wrong_one(google: GoogleUpstream, tmp_path: Path) -> None:
    google.oauth.codes.add("4/right")
    with Gemini(google, tmp_path) as gemini:
        gemini.type("4/wrong")
        gemini.type("4/right")
        google.wait_for_oauth("/oauth2/v2/userinfo", timeout=DEADLINE_S)

        assert gemini.ask("hi").text == "Hello from the stand-in of Gemini."
        assert json.loads(gemini.login.read_text())["access_token"] == google.oauth.issued[-1]
    assert "authorization code:invalid_grant" in gemini.errors.read_text()
    assert (google.oauth.logins, google.oauth.codes) == (1, set())


# The account --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unserved(stand_in: GoogleUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gemini]:
    """One process whose account has never been served: it asks anew for each session."""
    home = tmp_path_factory.mktemp("unserved")
    write_login(home / ".gemini")
    with Gemini(stand_in, home) as gemini:
        yield gemini


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (
            Account.licensed(),
            "This account requires setting the GOOGLE_CLOUD_PROJECT or GOOGLE_CLOUD_PROJECT_ID env var. ",
        ),
        (Account.ineligible("UNSUPPORTED_CLIENT"), UNSUPPORTED_CLIENT_TEXT),
        (Account.ineligible("UNSUPPORTED_CLIENT", tier="free-tier"), UNSUPPORTED_CLIENT_TEXT),
        (Account.ineligible("UNSUPPORTED_LOCATION"), "it is not currently available in your location."),
        (Account.ineligible("RESTRICTED_AGE"), "you must be 18 or older."),
        (Account.validation_required(), "Account validation required: Verify your account to continue."),
        (Account.failing(Error.unauthenticated()), "Request had invalid authentication credentials."),
        (Account.failing(Error.permission_denied()), "The caller does not have permission"),
        (Account.failing(Error.service_disabled()), "Enable it by visiting https://console.developers.google.com/"),
        (Account.failing(Error.internal()), "Internal error encountered."),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_an_account_that_is_not_served_gets_no_session(
    google: GoogleUpstream, unserved: Gemini, account: Account, message: str
) -> None:
    """All of them are code -32000; Google's text is all that tells them apart."""
    google.account = account
    with pytest.raises(RefusedError) as refused:
        unserved.session()

    assert refused.value.code == -32000
    assert message in refused.value.message
    assert google.generations == []


@pytest.mark.parametrize(
    ("project", "message"),
    [
        ("another-project", "Permission denied on resource project another-project."),
        ("123456789", 'Invalid Google Cloud Project ID: "123456789".'),
    ],
)
def test_a_project_that_is_not_the_licensed_one_gets_no_session(
    google: GoogleUpstream, tmp_path: Path, project: str, message: str
) -> None:
    google.account = Account.licensed("my-work-project")
    write_login(tmp_path / ".gemini")
    with Gemini(google, tmp_path, GOOGLE_CLOUD_PROJECT=project) as gemini, pytest.raises(RefusedError) as refused:
        gemini.session()

    assert refused.value.code == -32000
    assert message in refused.value.message


def test_a_licensed_account_works_with_its_project(google: GoogleUpstream, tmp_path: Path) -> None:
    """Every request names the project; and there is no tip about a shared one."""
    google.account = Account.licensed("my-work-project")
    google.script(Answer("At work"), Error.rate_limited())
    write_login(tmp_path / ".gemini")
    with Gemini(google, tmp_path, GOOGLE_CLOUD_PROJECT="my-work-project") as gemini:
        assert gemini.ask("hi").text == "At work"
        with pytest.raises(RefusedError) as refused:
            gemini.ask("hi")

    assert refused.value.message.endswith("Your quota will reset after 2s.")
    assert {request.json["project"] for request in google.generations} == {"my-work-project"}


def test_a_new_account_is_onboarded_once(google: GoogleUpstream, tmp_path: Path) -> None:
    google.account = Account.onboarding(project="brand-new-project")
    write_login(tmp_path / ".gemini")
    with Gemini(google, tmp_path) as gemini:
        gemini.ask("hi")
        gemini.ask("hi")

    assert [request.path for request in google.received].count("/v1internal:onboardUser") == 1
    assert {request.json["project"] for request in google.generations} == {"brand-new-project"}


# What is not expected -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["api.anthropic.com", "cloudcode-pa.googleapis.com", "play.googleapis.com"])
def test_the_proxy_refuses_every_other_host(stand_in: GoogleUpstream, host: str) -> None:
    stand_in.clear()
    port = int(stand_in.proxy_url.rpartition(":")[2])
    client = http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE_S)
    client.set_tunnel(host, 443)

    with pytest.raises(OSError, match="403 Forbidden"):
        client.connect()

    assert stand_in.surprises == [f"proxy: CONNECT {host}:443"]


@pytest.mark.parametrize(
    ("path", "headers", "status", "surprise"),
    [
        ("/v1internal:loadCodeAssist", {}, 401, "no bearer token"),
        ("/v1internal:loadCodeAssist", {"Authorization": "Bearer x", "x-goog-api-key": "x"}, 400, "an API key"),
        ("/v1internal:loadCodeAssist?key=x", {"Authorization": "Bearer x"}, 400, "an API key"),
        ("/v1beta/models/x:generateContent", {"Authorization": "Bearer x"}, 404, "unknown path"),
        ("/v1internal:loadCodeAssist", {"Authorization": "Bearer x", "Host": "example.invalid"}, 404, "unknown host"),
    ],
)
def test_code_assist_refuses_what_the_cli_must_not_send(
    stand_in: GoogleUpstream, path: str, headers: dict[str, str], status: int, surprise: str
) -> None:
    stand_in.clear()
    client = http.client.HTTPConnection(stand_in.url.removeprefix("http://"), timeout=DEADLINE_S)
    client.request("POST", path, body="{}", headers=headers)
    answer = client.getresponse()
    answer.read()
    client.close()

    assert answer.status == status
    assert [surprise in text for text in stand_in.surprises] == [True]


def test_a_key_in_the_surroundings_is_not_used(google: GoogleUpstream, tmp_path: Path) -> None:
    """Settings choose the login, so a key in the environment reaches nobody."""
    write_login(tmp_path / ".gemini", access_token="made-up-access")
    with Gemini(google, tmp_path, GEMINI_API_KEY="made-up-key", GOOGLE_API_KEY="made-up-key") as gemini:
        gemini.ask("hi")

    assert {request.headers["authorization"] for request in google.generations} == {"Bearer made-up-access"}
