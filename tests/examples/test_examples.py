"""The examples, as their users run them: against the real hub with both real CLIs, and when something is amiss."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.clients.programs import node, run
from tests.harness import DEADLINE_S, ROOT, World, http_hub, make_world, run_command
from tests.upstreams import anthropic, google

EXAMPLES = ROOT / "examples"
TYPESCRIPT = EXAMPLES / "typescript"
CLAUDE_SAYS = "Hello from the stand-in of Claude."
GEMINI_SAYS = "Hello from the stand-in of Gemini."
NOWHERE = "http://127.0.0.1:9"
LONG = "All of it, to the last word. " * 17_000
"""493,000 characters: more than one result holds."""
Done = subprocess.CompletedProcess[str]


class Served:
    """A hub over HTTP that wants a client's token, may read one repository, and hands a ticket to every call."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.repository = repository(folder / "project")
        self.token_file = folder / "laptop.token"
        self.token_file.touch(0o600)
        added = run_command(world, "client", "add", "laptop")
        assert added.returncode == 0, added.stderr
        self.token_file.write_bytes(added.stdout)
        self.root = ""

    @property
    def url(self) -> str:
        return f"{self.root}/mcp"

    @property
    def way(self) -> list[str]:
        """How the examples are told of it."""
        return ["--url", self.url, "--token-file", str(self.token_file)]


def repository(folder: Path) -> Path:
    """A git repository with one change since its last commit."""
    folder.mkdir()
    (folder / "answer.py").write_text("answer = 41\n")
    who = ["-c", "user.name=you", "-c", "user.email=you@example.com"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, timeout=DEADLINE_S, check=True, env={"PATH": os.environ["PATH"]})
    (folder / "answer.py").write_text("answer = 42\n")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """One hub for all of these."""
    folder = tmp_path_factory.mktemp("examples")
    with make_world(folder / "world") as world:
        given = Served(world, folder)
        world.changes |= {"HUB_FILE_ROOTS": str(given.repository), "HUB_WAIT_S": "0"}
        with http_hub(world) as hub:
            given.root = hub.url
            yield given


@pytest.fixture
def hub(served: Served) -> Generator[Served]:
    """The same for one test. At its end nothing that was scripted is left, and no stand-in was surprised."""
    world = served.world
    world.claude.default = anthropic.Answer(CLAUDE_SAYS)
    world.gemini.default = google.Answer(GEMINI_SAYS)
    yield served
    assert (world.claude.unused, world.gemini.unused) == (0, 0)
    assert world.surprises == []
    world.forget_limits()


def around(world: World, **changes: str) -> dict[str, str]:
    """What a user's shell knows: their own environment, and where the hub is installed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**world.environment, "PATH": path, "HUB_WAIT_S": "", **changes}


def python(world: World, script: str, *words: str, cwd: Path | None = None, **changes: str) -> Done:
    """Run one of the Python examples to its end."""
    return run([sys.executable, str(EXAMPLES / script), *words], around(world, **changes), cwd=cwd)


def shell(hub: Served, *words: str, **changes: str) -> Done:
    """Run the example with curl to its end."""
    own = {"LLM_HUB_URL": hub.root, "LLM_HUB_TOKEN_FILE": str(hub.token_file), **changes}
    return run(["bash", str(EXAMPLES / "ask.sh"), *words], around(hub.world, **own))


def typescript(hub: Served, *words: str, program: str = "node", script: str = "dist/ask.js") -> Done:
    """Run the example in TypeScript to its end, compiled by whoever comes first."""
    return run([program, str(TYPESCRIPT / script), *words], around(hub.world))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """As `npm start` does before it starts: the types are checked on the way."""
    words = [str(TYPESCRIPT / "node_modules" / ".bin" / "tsc"), "-p", str(TYPESCRIPT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout


# -- one question ------------------------------------------------------------------------------------------------------


def test_compare_prints_both_answers(hub: Served) -> None:
    """Over HTTP with a token from a file, though each call of this hub is answered by a ticket first."""
    done = python(hub.world, "compare.py", *hub.way, "What is a pseudo-terminal?")

    assert done.returncode == 0, done.stderr
    assert re.findall(r"^--- (\w+) \(", done.stdout, re.MULTILINE) == ["claude", "gemini"]
    assert f"\n{CLAUDE_SAYS}\n" in done.stdout
    assert f"\n{GEMINI_SAYS}\n" in done.stdout
    assert done.stderr == ""


def test_compare_prints_the_answer_of_the_one_whose_login_is_there(world: World) -> None:
    """Over stdio; the other one is told of with the one next step."""
    world.login_file.unlink()
    done = python(world, "compare.py", "What is a pseudo-terminal?")

    assert done.returncode == 1, done.stderr
    assert f"\n{CLAUDE_SAYS}\n" in done.stdout
    assert "--- gemini: no answer ---" in done.stdout
    assert "auth_missing: " in done.stdout
    assert "Next: Run `llm-mcp-hub login gemini`" in done.stdout
    assert done.stderr == ""
    world.wait_until_no_child()


def test_what_had_come_of_an_answer_that_broke_off_is_printed(hub: Served) -> None:
    """It is kept by the hub, and may be all that there will ever be. Of the URL the hub's own part is enough."""
    hub.world.gemini.default = google.Cut("So far")
    done = python(hub.world, "compare.py", "--url", hub.root, *hub.way[2:], "What is a pseudo-terminal?")

    assert done.returncode == 1, done.stderr
    assert f"\n{CLAUDE_SAYS}\n" in done.stdout
    assert "--- gemini: no answer ---\nSo far [...]\nupstream_error: " in done.stdout


@pytest.mark.parametrize("which", ["python", "typescript"])
def test_a_very_long_answer_comes_whole(hub: Served, which: str) -> None:
    """In several results, which are one answer to the user."""
    hub.world.claude.default = anthropic.Answer(LONG)
    if which == "python":
        done = python(hub.world, "compare.py", *hub.way, "At length, please.")
    else:
        done = typescript(hub, *hub.way, "claude", "At length, please.")

    assert done.returncode == 0, done.stderr
    assert LONG in done.stdout


def test_the_one_in_typescript_shows_how_an_answer_comes_along(hub: Served) -> None:
    """A ticket first, then what the hub tells every few seconds; on stdout nothing but the answer."""
    gate = threading.Event()
    hub.world.claude.default = anthropic.Answer(CLAUDE_SAYS, gate=gate)
    words = ["npm", "--prefix", str(TYPESCRIPT), "--silent", "start", "--", *hub.way, "claude", "Slowly, please."]
    told: list[str] = []
    with subprocess.Popen(
        words,
        env=around(hub.world, npm_config_update_notifier="false"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if re.search(r"… ask_\S+ · \w+ · \d+ s", line):
                gate.set()
        answer = process.stdout.read()
        code = process.wait(DEADLINE_S)

    assert code == 0, told
    assert answer == f"{CLAUDE_SAYS}\n"
    assert re.fullmatch(r"… a ticket: ask_\S+\n", told[0]), told
    assert gate.is_set()
    assert "conversation_id conv_" in told[-1]


def test_the_one_in_typescript_runs_as_it_is_on_a_newer_node(hub: Served) -> None:
    """Its first comment says so: nothing in it needs a compiler."""
    done = typescript(hub, *hub.way, "gemini", "hello", program=node(), script="ask.ts")

    assert (done.returncode, done.stdout) == (0, f"{GEMINI_SAYS}\n"), done.stderr


def test_curl_asks_and_shows_how_the_hub_is(hub: Served) -> None:
    """On stdout the answer, whatever is in the question; health, logins and an error on stderr."""
    question = 'What is "$(id)" & a \\ in\nsh, Schöne?'
    done = shell(hub, "gemini", question)

    assert (done.returncode, done.stdout) == (0, f"{GEMINI_SAYS}\n"), done.stderr
    assert google.prompt_texts(hub.world.gemini.generations[-1])[-1].endswith(question)
    for said in ('{"status":"alive"}', '"status":"ready"', '"usable": true', "invalid_request: ", "Next: Give a full"):
        assert said in done.stderr


def test_curl_is_told_why_a_request_is_refused(hub: Served) -> None:
    """By the hub's own words: there is no result then to be read."""
    added = run_command(hub.world, "client", "add", "hasty", "--requests-per-minute", "4")
    few = hub.token_file.with_name("hasty.token")
    few.touch(0o600)
    few.write_bytes(added.stdout)
    done = shell(hub, "gemini", "hello", LLM_HUB_TOKEN_FILE=str(few))

    assert (done.returncode, done.stdout) == (22, ""), done.stderr
    assert "429" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_token_stands_on_a_command_line_of_curl(hub: Served) -> None:
    """Every user of the machine can read those: what curl is given is written down by one that takes its place."""
    secret = hub.token_file.read_text().strip()
    programs = hub.world.home.parent / "programs"
    programs.mkdir()
    seen = programs / "seen"
    (programs / "curl").write_text(f'#!/bin/sh\necho "$@" >> {seen}\nPATH="${{PATH#*:}}" exec curl "$@"\n')
    (programs / "curl").chmod(0o755)
    done = shell(hub, "gemini", "hello", PATH=f"{programs}:{os.environ['PATH']}")

    assert done.returncode == 0, done.stderr
    assert seen.read_text().count("--config") == 5
    assert secret not in seen.read_text()


def test_a_file_that_holds_no_token_is_told_and_not_shown(hub: Served, tmp_path: Path) -> None:
    """A library, or curl, complains of a header that it cannot send by showing it."""
    file = tmp_path / "two.token"
    file.write_text("madeup-token\nmadeup-note\n")
    ended = [
        python(hub.world, "compare.py", "--url", hub.url, "--token-file", str(file), "hello"),
        typescript(hub, "--url", hub.url, "--token-file", str(file), "claude", "hello"),
        shell(hub, "claude", "hello", LLM_HUB_TOKEN_FILE=str(file)),
    ]

    assert [done.returncode for done in ended] == [69, 2, 2]
    for done in ended:
        assert "two.token holds no token" in done.stderr
        assert "madeup" not in done.stdout + done.stderr


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["compare.py", "second_opinion.py", "token_watch.py", "ask.sh", "ask.js"])
@pytest.mark.parametrize("what", ["no hub", "no token"])
def test_a_hub_that_is_away_or_closed_is_said_so(hub: Served, which: str, what: str) -> None:
    """In two lines with what to do, and an exit code that a script can tell from a failed ask."""
    url = NOWHERE if what == "no hub" else hub.root
    words = {"compare.py": ["hello"], "token_watch.py": ["--once"], "second_opinion.py": []}
    if which == "ask.sh":
        done = shell(hub, "gemini", "hello", LLM_HUB_URL=url, LLM_HUB_TOKEN_FILE="")
        codes = {"no hub": 7, "no token": 22}
    elif which == "ask.js":
        done = typescript(hub, "--url", f"{url}/mcp", "gemini", "hello")
        codes = {"no hub": 69, "no token": 69}
    else:
        done = python(hub.world, which, "--url", f"{url}/mcp", *words[which])
        codes = {"no hub": 69, "no token": 77}

    assert done.returncode == codes[what], done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "    at " not in done.stderr
    assert len(done.stderr.splitlines()) <= 4
    assert "client add" in done.stderr or "serve" in done.stderr


def test_a_failed_ask_is_told_by_its_data(hub: Served) -> None:
    """Code, message and the next step, by each of those that ask one provider."""
    hub.world.claude.default = anthropic.Error.unauthorized()
    for done in (shell(hub, "claude", "hello"), typescript(hub, *hub.way, "claude", "hello")):
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "auth_rejected: " in done.stderr
        assert "Next: " in done.stderr
    hub.world.claude.default = anthropic.Answer(CLAUDE_SAYS)
    python(hub.world, "compare.py", *hub.way, "It works again, and so it is known to.")


# -- a second opinion --------------------------------------------------------------------------------------------------

OBJECTION = "You have missed that 42 is even."


def test_a_second_opinion_goes_on_until_the_reviewer_is_content(world: World, tmp_path: Path) -> None:
    """Over stdio, in the project that one stands in: Gemini sees the changes and the answer, Claude the objections."""
    world.claude.script(anthropic.Answer("First answer."), anthropic.Answer("Second answer."))
    world.gemini.script(google.Answer(OBJECTION), google.Answer("**Nothing left to say.**"))
    done = python(world, "second_opinion.py", "Is this right?", cwd=repository(tmp_path / "project"))

    assert (done.returncode, done.stdout) == (0, "Second answer.\n"), done.stderr
    assert "Gemini has nothing left to say." in done.stderr
    first, second = (json.dumps(google.all_texts(received)) for received in world.gemini.generations)
    for seen in ("Is this right?", "answer = 42", "First answer."):
        assert seen in first
    assert "Second answer." in second
    told = json.dumps(anthropic.all_blocks(world.claude.received[-1]))
    for seen in ("answer = 42", "First answer.", OBJECTION):
        assert seen in told
    world.wait_until_no_child()


def test_a_second_opinion_ends_without_agreement_after_its_rounds(hub: Served) -> None:
    """Both are printed, and the exit code says so."""
    hub.world.claude.script(anthropic.Answer("First answer."), anthropic.Answer("Second answer."))
    hub.world.gemini.script(google.Answer(OBJECTION))
    done = python(hub.world, "second_opinion.py", *hub.way, "--rounds", "1")

    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("Second answer.\n")
    assert OBJECTION in done.stdout


def test_an_answer_without_its_review_is_still_printed(hub: Served) -> None:
    """It was paid for; why there is no review stands on stderr, with the conversation to go on in."""
    hub.world.gemini.default = google.Error.quota_exhausted()
    done = python(hub.world, "second_opinion.py", *hub.way)

    assert (done.returncode, done.stdout) == (1, f"{CLAUDE_SAYS}\n"), done.stderr
    assert "quota_exhausted: " in done.stderr
    assert re.search(r"conversation conv_\S+ can go on", done.stderr)


def test_a_base_that_is_not_there_is_said_so(hub: Served) -> None:
    """By the hub's own words."""
    done = python(hub.world, "second_opinion.py", *hub.way, "--base", "no-such-branch")

    assert (done.returncode, done.stdout) == (1, "")
    assert "invalid_request: " in done.stderr
    assert "no-such-branch" in done.stderr
    assert "Traceback" not in done.stderr


# -- the watch of the logins -------------------------------------------------------------------------------------------


class Watch:
    """`token_watch.py` as it runs; each line is read as it comes."""

    def __init__(self, hub: Served, *words: str) -> None:
        script = str(EXAMPLES / "token_watch.py")
        self.process = subprocess.Popen(
            [sys.executable, script, *words],
            env=around(hub.world),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.told: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._changed:
                    self.told.append(line.split(" | ", 1)[-1].strip())
                    self._changed.notify_all()

    def wait_for(self, beginning: str) -> str:
        """The first line, of those not waited for yet, that begins so; it and all before it are done with."""

        def found() -> bool:
            return any(line.startswith(beginning) for line in self.told)

        with self._changed:
            assert self._changed.wait_for(found, DEADLINE_S), self.told
            at = next(number for number, line in enumerate(self.told) if line.startswith(beginning))
            line = self.told[at]
            del self.told[: at + 1]
            return line

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)


def test_the_watch_tells_of_each_change_and_outlives_the_hub(tmp_path: Path) -> None:
    """In both eras at once: told of by the hub itself, for nobody reads again within an hour here."""
    with make_world(tmp_path / "world") as world:
        given = Served(world, tmp_path)
        with http_hub(world) as first:
            given.root, port = first.url, first.url.rsplit(":", 1)[1]
            watches = [Watch(given, *given.way, "--every", "3600", "--mode", mode) for mode in ("auto", "legacy")]
            try:
                for watch in watches:
                    watch.wait_for("claude | valid")
                    watch.wait_for("gemini | valid")
                world.claude.default = anthropic.Error.unauthorized()
                assert shell(given, "claude", "hello").returncode == 1
                for watch in watches:
                    assert "next: " in watch.wait_for("claude | valid -> rejected")
            except BaseException:
                for watch in watches:
                    watch.stop()
                raise
        try:
            watches[0].wait_for("hub | away")  # the older one hears of the end when it reads again
            watches[1].stop()
            given.world.changes |= {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-" + "another" * 12}
            with http_hub(world, "--port", port):
                watches[0].wait_for("hub | away -> there")
                watches[0].wait_for("claude | rejected -> valid")
        finally:
            for watch in watches:
                watch.stop()
        assert world.surprises == []


def test_the_watch_ends_when_nobody_reads_it(hub: Served) -> None:
    """It would take the broken pipe for a lost hub, and wait for that for ever."""
    words = " ".join([sys.executable, str(EXAMPLES / "token_watch.py"), *hub.way])
    done = run(["bash", "-c", f"{words} | true; echo ${{PIPESTATUS[0]}}"], around(hub.world))

    assert done.stdout.splitlines()[-1] == "141", done.stdout
    assert done.stderr == ""


def test_one_look_says_by_its_exit_code_whether_a_login_needs_somebody(world: World) -> None:
    """One that was never set up counts for who asks for it by name."""
    world.login_file.unlink()
    for words, code in ([], 0), (["--provider", "gemini"], 1):
        done = python(world, "token_watch.py", "--once", *words)

        assert done.returncode == code, done.stdout + done.stderr
        assert "gemini | missing" in done.stdout
        assert ("claude | valid" in done.stdout) == (not words)
        assert done.stderr == ""


# -- the folder --------------------------------------------------------------------------------------------------------


def test_the_list_of_examples_is_whole() -> None:
    """Each file that a user would copy is linked, and each that is linked is there."""
    linked = set(re.findall(r"\]\(([^)#]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    kept = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout.split()
    of_a_folder = {"README.md", "package.json", "package-lock.json", "tsconfig.json", "llm-mcp-hub.conf"}

    assert [file for file in kept if Path(file).name not in of_a_folder and file not in linked] == []
    assert [link for link in linked if not (EXAMPLES / link).exists()] == []


def test_the_examples_know_nothing_of_the_hub_but_what_it_says() -> None:
    """A user's program has the official SDK alone, and so must they."""
    imported = {
        name
        for file in EXAMPLES.glob("*.py")
        for name in re.findall(r"^ *(?:from|import) (\w+)", file.read_text("utf-8"), re.MULTILINE)
    }

    assert imported - sys.stdlib_module_names == {"hub_client", "httpx2", "mcp", "mcp_types"}


def test_the_example_in_typescript_uses_the_sdk_that_is_tested() -> None:
    """The same version as in `tests/clients`, where more is looked at."""
    pinned = json.loads((ROOT / "tests" / "clients" / "package.json").read_text("utf-8"))["dependencies"]
    used = json.loads((TYPESCRIPT / "package.json").read_text("utf-8"))["dependencies"]

    assert used.items() <= pinned.items()


def test_an_answer_of_agreement_is_known_however_it_is_dressed() -> None:
    """And nothing else is: an objection that quotes it, or a word of praise, goes on."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from second_opinion import agrees; "
        "print([agrees(text) for text in sys.argv[2:]])"
    )
    said = ["NOTHING LEFT TO SAY", "**Nothing left to say.**\n", "Nothing left to say, but line 3.", "Fine.", ""]
    done = run([sys.executable, "-c", script, str(EXAMPLES), *said], {"HOME": str(ROOT), "PATH": os.environ["PATH"]})

    assert done.stdout.strip() == str([True, True, False, False, False]), done.stderr


def test_an_example_without_the_sdk_says_what_is_missing() -> None:
    """Run by the system's Python, as most people try it first."""
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "examples" / "compare.py", "hello"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("httpx2 is not installed.\nNext: pip install ")
