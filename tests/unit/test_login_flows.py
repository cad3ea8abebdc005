"""What a vendor's login may do that the real programs do only after minutes, or in versions to come: scripted children.

The programs in these tests are Python scripts that stand where the CLIs stand; what the real ones do is in
`tests/protocol/test_login.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers import claude_login, gemini_login
from llm_mcp_hub.providers.base import Provider
from llm_mcp_hub.providers.claude_login import ClaudeLogin
from llm_mcp_hub.providers.gemini_login import GeminiLogin
from llm_mcp_hub.providers.login import LoginFlow, pasted

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
AROUND = {"PATH": os.environ["PATH"]}
TOKEN = "sk-ant-oat01-" + "madeup" * 16
LOGIN = {"access_token": "made-up-access", "refresh_token": "made-up-refresh", "expiry_date": 1}

CLAUDE = r"""
import os
def link(state="s1"):
    print("https://claude.com/cai/oauth/authorize?state=" + state, "\r\nPaste code here if prompted\r\n>", flush=True)
def line():
    text = b""
    while not text.endswith(b"\r"):
        text += os.read(0, 1)
        if text.endswith(b"#code"):
            os.write(1, b" *****#code")
    return text
"""
GEMINI = r"""
import json, os
from pathlib import Path
started = Path(os.environ["HOME"]).parent / "started"
started.write_text(started.read_text() + "x" if started.exists() else "x")
def link(name="a"):
    print("https://accounts.google.com/o/" + name, "\n\nEnter the authorization code: ", end="", flush=True)
def line():
    text = b""
    while not text.endswith(b"\r"):
        text += os.read(0, 1)
    return text
def write(login):
    (Path(os.environ["HOME"]) / ".gemini" / "oauth_creds.json").write_text(login)
"""


class Somebody:
    """Answers with the codes given, then never again; remembers what was shown."""

    def __init__(self, *codes: str) -> None:
        self._codes = list(codes)
        self.seen: list[tuple[str, str]] = []

    async def code(self, url: str, *, note: str) -> str:
        self.seen.append((url, note))
        if not self._codes:
            await asyncio.Event().wait()
        return self._codes.pop(0)


Make = Callable[[str], LoginFlow]


def nobody(_: str) -> Provider:
    raise AssertionError("a flow does not try its login out")


@pytest.fixture
def run(tmp_path: Path) -> Generator[RunFolder]:
    """The folder of the command; at the end no child has left its own there."""
    folder = RunFolder(tmp_path / "state")
    yield folder
    assert list(folder.path.glob("*-[0-9]*")) == []
    folder.close()


def program(tmp_path: Path, script: str) -> Path:
    file = tmp_path / "program"
    file.write_text(f"#!{sys.executable}\n{script}")
    file.chmod(0o700)
    return file


@pytest.fixture
def claude(run: RunFolder, tmp_path: Path) -> Make:
    """Makes Claude's flow with a script for a CLI."""

    def make(script: str) -> LoginFlow:
        cli = program(tmp_path, CLAUDE + script)
        return ClaudeLogin(run=run, around=AROUND, provider=nobody, cli=cli, managed_folder=tmp_path / "none")

    return make


@pytest.fixture
def gemini(run: RunFolder, tmp_path: Path) -> Make:
    """Makes Gemini's flow with a script for a CLI."""

    def make(script: str) -> LoginFlow:
        cli = program(tmp_path, GEMINI + script)
        return GeminiLogin(run=run, around=AROUND, provider=nobody, model="gemini-2.5-pro", command=str(cli))

    return make


async def made(flow: LoginFlow, somebody: Somebody) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return await flow.make(somebody)


async def failed(flow: LoginFlow, somebody: Somebody) -> HubError:
    with pytest.raises(HubError) as told:
        await made(flow, somebody)
    assert "llm-mcp-hub login" in told.value.action or told.value.code == "cli_missing" or "gemini" in told.value.action
    return told.value


# Claude -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["'a-whole#code'", "a-whole#codea-whole#code"])
async def test_a_code_is_typed_without_quotes_and_once(claude: Make, typed: str) -> None:
    """As a shell would have it; pasted again because nothing was to be seen of it."""
    script = f"link()\nif line() == b'a-whole#code\\r':\n    os.write(1, b'{TOKEN}\\r\\n')\nline()"

    assert await made(claude(script), Somebody(typed)) == TOKEN


async def test_a_token_is_taken_whole_however_it_is_written(claude: Make) -> None:
    """In pieces, and with colours around it."""
    half = len(TOKEN) // 2
    script = f"""
link()
line()
print("\\r\\nOAuth token:\\r\\n\\x1b[33m{TOKEN[:half]}", end="", flush=True)
os.write(1, b"{TOKEN[half:]}\\x1b[39m\\r\\n")
line()
"""
    assert await made(claude(script), Somebody("a-whole#code")) == TOKEN


@pytest.mark.parametrize(
    ("shown", "code"),
    [("sk-ant-oat01-cut-off", "upstream_error"), ("sk-ant-ort01-" + "x" * 95, "upstream_error")],
)
async def test_what_is_no_whole_token_is_not_taken(claude: Make, shown: str, code: str) -> None:
    """Saved, it would fail at every ask for a year."""
    error = await failed(claude(f"link()\nline()\nprint('{shown}', flush=True)\nline()"), Somebody("a-whole#code"))

    assert error.code == code
    assert shown not in error.message + error.action


async def test_a_program_that_will_not_is_quoted(claude: Make) -> None:
    """A company's policy, an account on hold: its own sentence says it best."""
    error = await failed(claude("print('This policy does not permit a token.', flush=True)"), Somebody())

    assert error.message == "Claude's CLI ended before there was a token: This policy does not permit a token."


async def test_a_program_that_dies_asks_nobody_any_more(claude: Make) -> None:
    """The person is let go from a question whose answer nobody takes."""
    somebody = Somebody()
    error = await failed(claude("link()"), somebody)

    assert error.code == "upstream_error"
    assert len(somebody.seen) == 1


async def test_a_program_that_shows_no_link_is_given_up(claude: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network as the next step."""
    monkeypatch.setattr(claude_login, "LINK_S", 0.3)

    assert "showed no link" in (await failed(claude("line()"), Somebody())).message


async def test_a_program_that_does_not_answer_is_given_up(claude: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the code, and says nothing."""
    monkeypatch.setattr(claude_login, "EXCHANGE_S", 0.3)

    error = await failed(claude("link()\nline()\nline()"), Somebody("a-whole#code"))

    assert "did not say what became of the code" in error.message


async def test_a_code_that_was_lost_is_typed_again(claude: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before a screen listens is gone; what may have come in part is cleared first."""
    monkeypatch.setattr(claude_login, "ECHO_S", 0.2)
    script = f"""
link()
os.read(0, 100)
assert line() == b'\\x15a-whole#code\\r'
print('\\r\\n{TOKEN}', flush=True)
line()
"""
    assert await made(claude(script), Somebody("a-whole#code")) == TOKEN


async def test_an_enter_that_was_lost_is_pressed_again(claude: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a person would wait for a link that nobody has asked for."""
    monkeypatch.setattr(claude_login, "ENTER_S", 0.2)
    script = f"""
link()
line()
print('OAuth error: it was not accepted.\\r\\nPress Enter to retry', flush=True)
os.read(0, 1)
os.read(0, 1)
link("s2")
line()
print('\\r\\n{TOKEN}', flush=True)
line()
"""
    somebody = Somebody("a-first#code", "a-whole#code")

    assert await made(claude(script), somebody) == TOKEN
    assert somebody.seen[-1][0].endswith("s2")


# Gemini -------------------------------------------------------------------------------------------------------------


async def test_a_link_that_ends_is_replaced(gemini: Make) -> None:
    """After five minutes the CLI shows another one by itself; the code of the first is worth nothing then."""
    right = "4/0a-whole-code-of-b"
    script = f"link('a')\nlink('b')\nif line() == b'{right}\\r':\n    write({json.dumps(json.dumps(LOGIN))})\nline()"

    class Slow(Somebody):
        async def code(self, url: str, *, note: str) -> str:
            self.seen.append((url, note))
            if url.endswith("a"):
                await asyncio.Event().wait()
            return right

    somebody = Slow()

    assert json.loads(await made(gemini(script), somebody)) == LOGIN
    assert somebody.seen[-1] == (
        "https://accounts.google.com/o/b",
        "That link has ended. Here is a new link; the one before is worth nothing now.",
    )


async def test_a_program_whose_links_are_used_up_is_started_again(gemini: Make, run: RunFolder) -> None:
    """But not for ever: one that ends as soon as it has shown its link would be started until the night."""
    error = await failed(gemini("link()"), Somebody())

    assert error.code == "upstream_error"
    assert (run.path / "started").read_text() == "xxx"


async def test_a_login_that_is_just_being_written_is_waited_for(gemini: Make) -> None:
    """The CLI writes it in place: empty, half, whole."""
    whole = json.dumps(LOGIN)
    script = f"link()\nline()\nfor cut in (0, 20, None):\n    write({whole!r}[:cut])\n    os.write(1, b'.')\nline()"

    assert await made(gemini(script), Somebody("4/0a-whole-code-of-google")) == whole


@pytest.mark.parametrize("typed", ["4%2F0a-whole-code-of-google", "code=4%2F0a-whole-code-of-google&scope=email"])
async def test_a_code_out_of_an_address_is_typed_as_google_means_it(gemini: Make, typed: str) -> None:
    """Where a browser shows the page's address, its code is escaped."""
    script = f"link()\nif line() == b'4/0a-whole-code-of-google\\r':\n    write({json.dumps(LOGIN)!r})\nline()"

    assert json.loads(await made(gemini(script), Somebody(typed))) == LOGIN


async def test_a_login_that_cannot_be_renewed_is_not_taken(gemini: Make) -> None:
    """It would end within the hour, without a word."""
    script = f"link()\nline()\nwrite({json.dumps({**LOGIN, 'refresh_token': ''})!r})\nline()"

    error = await failed(gemini(script), Somebody("4/0a-whole-code-of-google"))

    assert "cannot be renewed" in error.message
    assert "myaccount.google.com" in error.action


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        ("https://accounts.google.com/o/a", "a link"),
        ("ya29.made-up", "a token"),
        ("1//made-up", "a token"),
        ("4/0abc", ""),
    ],
)
async def test_what_is_no_code_of_googles_uses_up_no_try(gemini: Make, typed: str, what: str) -> None:
    """It is not typed into the program, and the link stays."""
    script = f"link()\nline()\nwrite({json.dumps(LOGIN)!r})\nline()"
    somebody = Somebody(typed, "4/0a-whole-code-of-google")

    assert json.loads(await made(gemini(script), somebody)) == LOGIN
    assert somebody.seen[0][0] == somebody.seen[1][0]
    assert (f"That is {what}, not" if what else "That is not the whole code") in somebody.seen[1][1]


@pytest.mark.parametrize("typed", ["'{}'", '"{}"', "code={}", "code={}&scope=a"])
async def test_googles_code_is_taken_out_of_what_stands_around_it(gemini: Make, typed: str) -> None:
    """Quotes of a shell, and the name that it has in a link."""
    right = "4/0a-whole-code-of-google"
    script = f"link()\nif line() == b'{right}\\r':\n    write({json.dumps(json.dumps(LOGIN))})\nline()"

    assert json.loads(await made(gemini(script), Somebody(typed.format(right)))) == LOGIN


async def test_a_program_that_cannot_start_is_told_as_such(gemini: Make) -> None:
    """Its own reasons, as for an ask."""
    error = await failed(gemini("import sys; sys.exit('SyntaxError: Unexpected token')"), Somebody())

    assert error.code == "cli_missing"


async def test_a_program_that_does_not_take_the_code_is_given_up(gemini: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google may be slow; for ever is too slow."""
    monkeypatch.setattr(gemini_login, "EXCHANGE_S", 0.3)

    assert (
        "did not take the code"
        in (await failed(gemini("link()\nline()\nline()"), Somebody("4/0a-whole-code-of-google"))).message
    )


async def test_a_program_that_is_not_there_is_told_before_anything(run: RunFolder, tmp_path: Path) -> None:
    """With the command that installs it."""
    flow = GeminiLogin(run=run, around=AROUND, provider=nobody, model="m", command=str(tmp_path / "none"))

    error = await failed(flow, Somebody())

    assert error.code == "cli_missing"
    assert "HUB_GEMINI_COMMAND" in error.action


async def test_settings_of_the_machine_that_stop_asks_stop_a_login(run: RunFolder, tmp_path: Path) -> None:
    """Nobody signs in for a token that no ask may use here."""
    managed = tmp_path / "managed"
    managed.mkdir()
    (managed / "managed-settings.json").write_text('{"apiKeyHelper": "/bin/key"}')
    flow = ClaudeLogin(run=run, around=AROUND, provider=nobody, managed_folder=managed)

    with pytest.raises(HubError) as told:
        await made(flow, Somebody())

    assert told.value.code == "billing_blocked"


@pytest.mark.parametrize("typed", ["4/0code#x", "'4/0code#x'", "4/0code#x4/0code#x", "\x1b[200~4/0code#x\x1b[201~"])
def test_a_code_is_taken_out_of_what_a_paste_puts_around_it(typed: str) -> None:
    """Quotes, a second paste, and the marks of a terminal that tells a paste from typing."""
    assert pasted(typed) == "4/0code#x"
