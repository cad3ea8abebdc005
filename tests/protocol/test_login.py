"""`llm-mcp-hub login` at a real terminal: both real CLIs, their sign-in pages played by the stand-ins."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pexpect
import psutil
import pytest

from tests.harness import DEADLINE_S, ROOT, TOKEN, World, run_command
from tests.upstreams import anthropic as claude
from tests.upstreams import google
from tests.upstreams.anthropic_oauth import AnthropicOAuth
from tests.upstreams.google import Account
from tests.upstreams.loopback import Received
from tests.upstreams.redis import RedisServer

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
        child: pexpect.spawn[str] = pexpect.spawn(
            command,
            words,
            env=self.world.environment,
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

    def end_keeping_the_terminal(self) -> tuple[int, str]:
        """As `end`, and the terminal is as it was before: it shows what is typed."""
        with open(f"/proc/self/fd/{self.child.child_fd}") as terminal:  # stays open when the command has ended
            ended = self.end()
            assert termios.tcgetattr(terminal)[3] & termios.ECHO
        return ended

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
    files = {file for file in desk.world.home.rglob("*") if file.is_file()}
    assert {file for file in files if desk.world.state not in file.parents} == set()
    status = json.loads(run_command(desk.world, "status", "--json").stdout)[desk.provider]
    assert (status["status"], status["credential"]["source"], status["evidence"]["level"]) == (
        "valid",
        "saved",
        "proven",
    )
    assert (status["expires_source"], status["days_remaining"]) == (
        ("ledger", 364) if desk.provider == "claude" else ("none", None)
    )


# Codes --------------------------------------------------------------------------------------------------------------


def test_a_wrong_code_is_told_and_a_new_link_is_given(desk: Desk) -> None:
    """Codes are pasted in part, or from another window; the person goes on where the mistake was made."""
    with desk.terminal() as terminal:
        first = terminal.link()
        terminal.type(desk.wrong)
        terminal.child.expect_exact("did not accept that code")
        second = terminal.link()
        terminal.type(desk.authorize(second))
        code, said = terminal.end()

    assert code == 0, said
    assert first != second
    assert desk.bearer == desk.issued[-1]
    assert desk.issued[-1] in desk.saved


def test_three_wrong_codes_end_it(desk: Desk) -> None:
    """More would only be a loop; what was saved before stays."""
    run_login_before(desk)
    before = desk.saved_file.read_bytes()
    with desk.terminal() as terminal:
        for _ in range(3):
            terminal.link()
            terminal.type(desk.wrong)
        code, said = terminal.end()

    assert code == 77, said
    assert "auth_rejected" in said
    assert NOT_SAVED in said
    assert desk.saved_file.read_bytes() == before
    assert desk.homes() == []


def test_a_third_code_may_be_the_right_one(gemini_desk: Desk) -> None:
    """Gemini's CLI ends after two links; it is started again without a word."""
    with gemini_desk.terminal() as terminal:
        for _ in range(2):
            terminal.link()
            terminal.type(gemini_desk.wrong)
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert gemini_desk.issued[-1] in gemini_desk.saved


def test_white_space_in_a_code_is_not_taken_for_a_part_of_it(claude_desk: Desk) -> None:
    """Pages and terminals put some around and inside; an empty line is nothing at all."""
    with claude_desk.terminal() as terminal:
        code = claude_desk.authorize(terminal.link())
        terminal.type("")
        terminal.child.expect_exact(PASTE)
        terminal.type(f"  {code[:10]} {code[10:]}\t ")
        ended, said = terminal.end()

    assert ended == 0, said
    assert len(claude_desk.exchanges) == 1


LOOK_ALIKES = {
    "claude": ["sk-ant-api03-" + "x" * 95, TOKEN, "half-of-a-code", "a-code#\x1bwith-keys"],
    "gemini": ["AIza" + "x" * 35, "sk-ant-api03-" + "x" * 95, '{"access_token":"x"}', "\x1b[A"],
}


def test_what_is_no_code_is_not_handed_on(desk: Desk) -> None:
    """An API key least of all: it is told what it is, and neither typed into a CLI nor sent anywhere."""
    with desk.terminal() as terminal:
        url = terminal.link()
        for text in LOOK_ALIKES[desk.provider]:
            terminal.type(text)
            terminal.child.expect("not a code|no code|not the whole code")
            terminal.child.expect_exact(PASTE)
        before = len(desk.exchanges)
        terminal.type(desk.authorize(url))
        code, said = terminal.end()

    assert code == 0, said
    assert before == 0
    assert len(desk.exchanges) == 1


def test_a_sign_in_service_that_fails_is_told_as_such(desk: Desk) -> None:
    """It is not the code's fault, and may be over at the next link."""
    desk.token_endpoint("error500")
    with desk.terminal() as terminal:
        terminal.log_in()
        terminal.child.expect("That did not work|could not be reached, or failed")
        desk.token_endpoint("ok")
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert desk.issued[-1] in desk.saved


def test_a_sign_in_service_that_is_away_ends_in_a_coded_error(desk: Desk) -> None:
    """After three tries, with the network as the next step and no word against the code."""
    desk.token_endpoint("unreachable")
    with desk.terminal() as terminal:
        for _ in range(3):
            terminal.log_in()
        code, said = terminal.end()

    assert code == 69, said
    assert "upstream_error" in said
    assert "HTTPS_PROXY" in said
    desk.assert_nothing_left()


def test_an_api_key_is_not_taken_for_a_token(claude_desk: Desk) -> None:
    """Whatever the sign-in gives: only a subscription's token is saved."""
    claude_desk.token_endpoint("api_key")
    with claude_desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 78, said
    assert "billing_blocked" in said
    assert claude_desk.world.claude.received == []
    claude_desk.assert_nothing_left()


def test_a_browser_on_the_same_machine_may_finish_it_without_a_code(claude_desk: Desk) -> None:
    """Claude's CLI listens for it where it has opened one; nobody is then left before a question without use."""
    with claude_desk.terminal() as terminal:
        url = terminal.link()
        code, _, state = claude_desk.authorize(url).partition("#")
        [port] = listening(claude_desk.world)
        httpx.get(f"http://127.0.0.1:{port}/callback", params={"code": code, "state": state})
        ended, said = terminal.end()

    assert ended == 0, said
    assert claude_desk.saved == claude_desk.issued[-1]


def listening(world: World) -> list[int]:
    """The ports that the hub's children wait at."""
    connections = [connection for child in world.children() for connection in child.net_connections("tcp")]
    return [connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN]


# Without a terminal -------------------------------------------------------------------------------------------------


@contextmanager
def piped(desk: Desk, *command: str | Path, cwd: Path | None = None) -> Generator[subprocess.Popen[str]]:
    """`login`, or another command, between pipes; ended at the deadline whatever it does."""
    process = subprocess.Popen(
        command or [*desk.world.command, "login", desk.provider],
        env=desk.world.environment,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.communicate()


def test_the_code_may_come_through_a_pipe(desk: Desk) -> None:
    """Stdout is the link and nothing else, so that a program can take it; a code needs no line end."""
    with piped(desk) as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        rest, said = process.communicate(desk.authorize(url.strip()))

    assert process.returncode == 0, said
    assert rest == ""
    assert desk.issued[-1] in desk.saved
    desk.assert_nothing_secret_in(url + said)


def test_codes_through_a_pipe_are_taken_one_by_one(claude_desk: Desk) -> None:
    """A wrong one has its answer, and the next line is the next code."""
    with piped(claude_desk) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write(f"{claude_desk.wrong}\n")
        process.stdin.flush()
        url = process.stdout.readline()
        _, said = process.communicate(claude_desk.authorize(url.strip()) + "\n")

    assert process.returncode == 0, said
    assert "did not accept that code" in said


def test_without_anybody_to_paste_a_code_it_says_so(claude_desk: Desk) -> None:
    """A container started without a terminal must not wait until its time is over."""
    with piped(claude_desk) as process:
        _, said = process.communicate("")

    assert process.returncode == 64
    assert "stdin has ended" in said
    claude_desk.assert_nothing_left()


@pytest.mark.parametrize("stdin", ["<code.txt", "</dev/null", "<&-"])
def test_stdin_may_be_a_file_or_nothing(claude_desk: Desk, tmp_path: Path, stdin: str) -> None:
    """None of these can be waited for as a terminal can; each is read to its end."""
    (tmp_path / "code.txt").write_text("no-code\n")
    command = ["sh", "-c", f'exec "$@" {stdin}', "sh", *claude_desk.world.command, "login", "claude"]
    with piped(claude_desk, *command, cwd=tmp_path) as process:
        _, said = process.communicate()

    assert process.returncode == 64, said
    assert "stdin has ended" in said
    claude_desk.assert_nothing_left()


# Ends ---------------------------------------------------------------------------------------------------------------


def starting(desk: Desk, terminal: Terminal) -> None:
    terminal.child.expect_exact("is started")


def waiting(desk: Desk, terminal: Terminal) -> None:
    terminal.link()


def exchanging(desk: Desk, terminal: Terminal) -> None:
    desk.token_endpoint("hang")
    terminal.log_in()
    desk.wait_for_exchange()


def trying(desk: Desk, terminal: Terminal) -> None:
    desk.answer_with(claude.Hang() if desk.provider == "claude" else google.Hang())
    terminal.log_in()
    desk.wait_for_question()


STAGES = pytest.mark.parametrize("stage", [starting, waiting, exchanging, trying])
Stage = Callable[[Desk, Terminal], None]


@STAGES
def test_ctrl_c_ends_it_at_any_time_and_changes_nothing(desk: Desk, stage: Stage) -> None:
    """No child, no folder, no login; and the terminal shows again what is typed."""
    with desk.terminal() as terminal:
        stage(desk, terminal)
        terminal.child.sendintr()
        code, said = terminal.end_keeping_the_terminal()

    assert code == 130, said
    assert "cancelled, nothing was saved" in said
    desk.assert_nothing_left()


def test_ctrl_c_after_it_was_saved_says_so(claude_desk: Desk, tmp_path: Path) -> None:
    """What the login has shown is being written into a store that does not answer."""
    with RedisServer(tmp_path / "redis") as server:
        claude_desk.world.changes["REDIS_URL"] = server.url
        server.freeze()
        with claude_desk.terminal() as terminal:
            terminal.log_in()
            until = time.monotonic() + DEADLINE_S
            while not claude_desk.saved_file.exists():
                assert time.monotonic() < until
                time.sleep(0.01)
            terminal.child.sendintr()
            code, said = terminal.end()
        server.thaw()

    words = " ".join(said.split())
    assert code == 130, said
    assert f"cancelled, after the login was saved in {claude_desk.saved_file}" in words.replace(" /", "/").replace(
        "in/", "in /"
    )
    assert "nothing was saved" not in words


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_cleanly(claude_desk: Desk, number: signal.Signals) -> None:
    """A container that is stopped, a window that is closed."""
    with claude_desk.terminal() as terminal:
        terminal.link()
        terminal.child.kill(number)
        code, _ = terminal.end()

    assert code == 128 + number
    claude_desk.assert_nothing_left()


@STAGES
def test_no_process_shows_a_secret_and_a_kill_leaves_no_child(desk: Desk, stage: Stage) -> None:
    """Every user of a machine can read all command lines; an environment is for the one child that needs it.

    The folder that nobody could remove is removed by the next command.
    """
    with desk.terminal() as terminal:
        stage(desk, terminal)
        assert_no_process_shows_a_secret(desk)
        terminal.child.kill(signal.SIGKILL)
        terminal.child.expect(pexpect.EOF)
        desk.world.wait_until_no_child()

    run_command(desk.world, "status")
    desk.assert_nothing_left()


def test_a_person_who_does_not_come_back_is_told_what_to_do(claude_desk: Desk) -> None:
    """Nothing waits for ever, least of all a child with a link that has ended."""
    with claude_desk.terminal("--timeout", "4") as terminal:
        code, said = terminal.end()

    assert code == 75, said
    assert "timeout" in said
    assert f"llm-mcp-hub login {claude_desk.provider} --timeout 3600" in " ".join(said.split())
    claude_desk.assert_nothing_left()


# What becomes of a login that does not answer -----------------------------------------------------------------------


def run_login_before(desk: Desk) -> None:
    """There is a login already."""
    with desk.terminal() as terminal:
        terminal.log_in()
        assert terminal.end()[0] == 0
    desk.codes.clear()


def test_a_login_that_is_refused_does_not_take_the_place_of_one_that_works(desk: Desk) -> None:
    """It was made, and the provider does not take it: nothing is changed."""
    run_login_before(desk)
    before = desk.saved_file.read_bytes()
    desk.answer_with(claude.Error.unauthorized() if desk.provider == "claude" else google.Error.unauthenticated())
    with desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 77, said
    assert "auth_rejected" in said
    assert "It was refused, so nothing was saved" in said
    assert desk.saved_file.read_bytes() == before


def test_an_account_that_is_not_served_is_told_as_such(gemini_desk: Desk) -> None:
    """The login works, Google does not serve the account: nobody is to think that the code was wrong."""
    gemini_desk.world.gemini.account = Account.ineligible()
    with gemini_desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 77, said
    words = " ".join(said.split())
    assert "account_ineligible: The login works, but Google no longer serves this account" in words
    assert "nothing was saved" in words
    gemini_desk.assert_nothing_left()


@pytest.mark.parametrize("trouble", ["unreachable", "quota"])
def test_a_login_that_cannot_be_tried_is_kept(desk: Desk, trouble: str) -> None:
    """A token lives a year; a network that is away, or a quota that is used up, says nothing against it."""
    if trouble == "unreachable":
        desk.world.changes["HUB_CLAUDE_UPSTREAM"] = desk.world.changes["HUB_GEMINI_UPSTREAM"] = "http://127.0.0.1:9"
    else:
        exhausted = claude.Error.quota() if desk.provider == "claude" else google.Error.quota_exhausted()
        desk.answer_with(exhausted)
    with desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert "not proven yet" in said
    assert ("quota_exhausted" if trouble == "quota" else "upstream_error") in said
    assert desk.issued[-1] in desk.saved


def test_a_login_that_needs_something_else_is_kept_and_says_what(gemini_desk: Desk) -> None:
    """With the setting that is missing the same login will work."""
    gemini_desk.world.gemini.account = Account.licensed()
    with gemini_desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 78, said
    assert "Saved in" in said
    assert "does not answer with it yet" in said
    assert "GEMINI_PROJECT" in said
    assert gemini_desk.issued[-1] in gemini_desk.saved


def test_a_variable_that_comes_first_is_pointed_out(claude_desk: Desk) -> None:
    """Else the new token would be saved and the old one used."""
    claude_desk.world.changes["CLAUDE_CODE_OAUTH_TOKEN"] = TOKEN
    with claude_desk.terminal() as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert "CLAUDE_CODE_OAUTH_TOKEN is set and comes before what is saved" in " ".join(said.split())
    assert claude_desk.bearer == claude_desk.issued[-1] != TOKEN


# An env file --------------------------------------------------------------------------------------------------------

OTHERS = b"# mine \xff\r\nREDIS_URL=redis://x\r\n\r\nexport CLAUDE_MODEL='opus'"


def test_an_env_file_gets_the_login_and_keeps_everything_else(desk: Desk, tmp_path: Path) -> None:
    """Byte for byte, with its mode; and a hub that reads it uses the new login."""
    file = tmp_path / "hub.env"
    old = b"CLAUDE_CODE_OAUTH_TOKEN=old # of last year\r\nGEMINI_AUTH_PATH=/old\r\n"
    file.write_bytes(old + OTHERS)
    file.chmod(0o640)
    with desk.terminal("--write-env", str(file)) as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    written = file.read_bytes()
    assert written.partition(b"# mine")[2].startswith(OTHERS.partition(b"# mine")[2])
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert f"chmod 600 {file}" in said
    values = dict(line.split("=", 1) for line in written.decode("latin-1").splitlines() if "=" in line)
    if desk.provider == "claude":
        assert values["CLAUDE_CODE_OAUTH_TOKEN"] == desk.issued[-1]
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", values["CLAUDE_TOKEN_ISSUED_AT"])
        assert values["GEMINI_AUTH_PATH"] == "/old"
    else:
        beside = Path(values["GEMINI_AUTH_PATH"])
        assert beside == tmp_path / "hub.env.gemini.json"
        assert beside.read_text() == desk.saved
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600
        assert values["CLAUDE_CODE_OAUTH_TOKEN"] == "old # of last year"
    assert {path.name for path in tmp_path.iterdir() if "hub.env" in path.name} <= {"hub.env", "hub.env.gemini.json"}


def test_a_new_env_file_is_for_its_owner_alone(claude_desk: Desk, tmp_path: Path) -> None:
    """It holds a secret from its first byte on."""
    file = tmp_path / "new.env"
    with claude_desk.terminal("--write-env", str(file)) as terminal:
        terminal.log_in()
        code, said = terminal.end()

    assert code == 0, said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("", 0o666, "other users can write it"),
        (f"A={' ' * 1_000}#\n", 0o600, "it has a thousand blanks in a row"),
        ("#" * (1 << 20), 0o600, "it has more than a million characters"),
    ],
    ids=["open", "blanks", "full"],
)
def test_an_env_file_that_must_not_be_written_is_told_before_the_login(
    claude_desk: Desk, tmp_path: Path, content: str, mode: int, reason: str
) -> None:
    """Nobody signs in for nothing."""
    file = tmp_path / "open.env"
    file.write_text(content)
    file.chmod(mode)

    told = run_command(claude_desk.world, "login", "claude", "--write-env", str(file))

    assert told.returncode == 78
    assert reason in told.stderr.decode()
    assert told.stdout == b""
    assert file.read_text() == content


@pytest.mark.parametrize("there", [True, False], ids=["with .env", "without"])
def test_the_scripts_of_the_brief_do_it_right(desk: Desk, tmp_path: Path, there: bool) -> None:
    """Their names are known to whoever read it: the .env of the folder gets Claude's token, if there is one."""
    folder = tmp_path / "project"
    folder.mkdir()
    if there:
        (folder / ".env").write_text("CLAUDE_CODE_OAUTH_TOKEN=old\nREDIS_URL=redis://x\n")
    with piped(desk, ROOT / "scripts" / f"refresh-{desk.provider}-token.sh", cwd=folder) as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        _, said = process.communicate(desk.authorize(url.strip()))

    assert process.returncode == 0, said
    assert desk.issued[-1] in desk.saved
    assert [file.name for file in folder.iterdir()] == ([".env"] if there else [])
    if there:
        written = (folder / ".env").read_text()
        expected = desk.issued[-1] if desk.provider == "claude" else "old"
        assert written.startswith(f"CLAUDE_CODE_OAUTH_TOKEN={expected}\nREDIS_URL=redis://x\n")


# Secrets ------------------------------------------------------------------------------------------------------------


def shown_by_the_system(desk: Desk) -> Generator[str]:
    """The command line of every process of this machine, and its environment if it is none of the hub's children."""
    children = {child.pid for child in desk.world.children()}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield " ".join(process.cmdline())
            if process.pid not in children:
                yield json.dumps(process.environ())


def assert_no_process_shows_a_secret(desk: Desk) -> None:
    lines = list(shown_by_the_system(desk))
    assert len(lines) > 1
    for secret in (*desk.issued, *desk.codes):  # these alone: other tests' hubs have secrets of their own
        assert [line for line in lines if secret in line] == []
