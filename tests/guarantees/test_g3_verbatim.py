"""G3, verbatim: what is asked reaches the model as written and what is answered comes back as written, or says why not.

The prompts are in `prompts.json`. The hub runs in a stranger's repository full of things that a prompt could call up
(`baits.py`), and at the end of this file none of them has been.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.guarantees import corpus
from tests.guarantees.baits import Baits
from tests.harness import (
    DEADLINE_S,
    EVERY_WAY,
    Era,
    HttpHub,
    Line,
    Transport,
    World,
    answer_of,
    error_of,
    http_hub,
    make_world,
    open_line,
    run_command,
)
from tests.upstreams import anthropic, google

PROVIDERS = ("claude", "gemini")
ARRIVE = corpus.prompts("arrive")
REFUSED = corpus.prompts("refused")
LONG = 10_000


# -- a warm hub, and what arrived ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baits(tmp_path_factory: pytest.TempPathFactory) -> Generator[Baits]:
    """A world full of baits, shared by the tests of this file: each looks at what came after it began."""
    with make_world(tmp_path_factory.mktemp("g3")) as world:
        planted = Baits(world)
        planted.plant()
        world.changes.update(planted.variables)
        yield planted
        world.wait_until_no_child()
        planted.assert_untouched()


@pytest.fixture(scope="module")
def line(baits: Baits) -> Generator[Line]:
    """One warm hub over stdio, in the stranger's repository."""
    with open_line(baits.world, "stdio", "auto", cwd=baits.cwd) as opened:
        yield opened


class Sent:
    """What reaches one provider from now on."""

    def __init__(self, world: World, provider: str) -> None:
        self._world = world
        self._provider = provider
        self._before = world.prompts_received(provider)

    @property
    def nothing(self) -> bool:
        return self._world.prompts_received(self._provider) == self._before

    def texts(self) -> list[str]:
        """The texts of the user's message in the one request that was sent."""
        if self._provider == "claude":
            messages = [anthropic.last_user_texts(r) for r in self._world.claude.received[self._before :]]
        else:
            messages = [google.prompt_texts(r) for r in self._world.gemini.generations[self._before :]]
        assert len(messages) == 1, f"{len(messages)} requests"
        return messages[0]

    def prompt(self) -> str:
        """The text that must be the prompt: the last, and Claude's only one. Gemini's CLI puts its own first."""
        texts = self.texts()
        assert len(texts) == 1 or self._provider == "gemini", shown("\n".join(texts))
        return texts[-1]


def shown(text: str) -> str:
    """Enough of a text for a message: a difference of a million characters says nothing."""
    return f"{text[:120]!r} … {text[-40:]!r}, {len(text):,} characters" if len(text) > 200 else repr(text)


def assert_same(arrived: str, meant: str) -> None:
    """The two texts are the same, character for character."""
    same = arrived == meant
    assert same, f"meant {shown(meant)}, arrived {shown(arrived)}"


# -- prompts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def going_on() -> dict[str, str]:
    """The conversation that goes on, by provider."""
    return {}


FIRST = ("commands of the CLIs", "mentions of files", "sizes")
"""What a CLI may take for its own at the beginning of a session, and what would make the history of one too long."""


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ARRIVE)
def test_a_hostile_prompt_reaches_the_model_character_for_character(
    line: Line, baits: Baits, going_on: dict[str, str], name: str, provider: str
) -> None:
    """One ask is one request, and its text is the prompt; most of them are later turns of one conversation."""
    prompt = corpus.placed(ARRIVE[name], baits.folders)
    later = not name.startswith(FIRST) and len(prompt) < LONG
    more = {"conversation_id": going_on[provider]} if later and provider in going_on else {}
    sent = Sent(baits.world, provider)

    answer = answer_of(line.call(f"ask_{provider}", {"prompt": prompt, **more}))

    assert_same(sent.prompt(), prompt)
    assert answer["status"] == "completed"
    if later:
        going_on[provider] = answer["conversation_id"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(line: Line, baits: Baits, name: str, provider: str) -> None:
    """Blank to Python or to JavaScript, or over the limit in code points: a reason, and no request."""
    sent = Sent(baits.world, provider)

    error = error_of(line.call(f"ask_{provider}", {"prompt": REFUSED[name]}))

    assert error["code"] == "invalid_request"
    assert sent.nothing


SYSTEM_OF_CLAUDE = (
    "commands of the CLIs: after white space",
    "mentions of files: in the home",
    "shells and templates: template of the system prompt",
    "control characters: all of C0",
    "unicode: byte order mark first",
    "unicode: separators",
    "white space and lines: around",
)
"""A few: an ask with a system text takes a new process of Claude's CLI."""


@pytest.mark.parametrize("name", SYSTEM_OF_CLAUDE)
def test_a_hostile_system_text_reaches_claude_character_for_character(line: Line, baits: Baits, name: str) -> None:
    """It is the end of the system prompt, and the prompt beside it is untouched."""
    system = corpus.placed(ARRIVE[name], baits.folders)
    sent = Sent(baits.world, "claude")

    answer_of(line.call("ask_claude", {"prompt": "/about", "system": system}))

    assert_same(sent.prompt(), "/about")
    texts = anthropic.system_texts(baits.world.claude.received[-1])
    assert [text for text in texts if text.endswith(f"\n\n{system}")], [shown(text) for text in texts]


@pytest.mark.parametrize("name", [name for name in ARRIVE if not name.startswith("sizes")])
def test_a_hostile_system_text_reaches_gemini_character_for_character(line: Line, baits: Baits, name: str) -> None:
    """It stands whole in a text before the prompt, and the prompt is untouched."""
    system = corpus.placed(ARRIVE[name], baits.folders)
    sent = Sent(baits.world, "gemini")

    answer_of(line.call("ask_gemini", {"prompt": "/about", "system": system}))

    assert_same(sent.prompt(), "/about")
    *_, instruction, between, _prompt = sent.texts()
    assert f"\n{system}\n" in instruction, [shown(text) for text in sent.texts()]
    assert between == "Request:\n"


PIECES = st.sampled_from(
    ["/", "@", "!", "$", "#", "\x00", "\x1b[", "\r", "\n", "\ufeff", "\u200b", "\u2028", "\\", '"', "Request:\n", "😀"]
)
TEXTS = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8).map("".join)


def _reaches(line: Line, world: World, provider: str, prompt: str, going_on: dict[str, str]) -> None:
    sent = Sent(world, provider)
    more = {"conversation_id": going_on[provider]} if provider in going_on else {}
    result = line.call(f"ask_{provider}", {"prompt": prompt, **more})
    if prompt.strip() and prompt.replace("\ufeff", "").strip():
        assert not result.is_error, result.content
        assert_same(sent.prompt(), prompt)
        going_on[provider] = answer_of(result)["conversation_id"]
    else:
        assert error_of(result)["code"] == "invalid_request"
        assert sent.nothing


_SETTINGS = settings(
    deadline=None,
    database=None,
    # The fixtures are one warm hub for all examples on purpose.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(_SETTINGS, max_examples=15)
@given(prompt=TEXTS)
def test_any_text_reaches_claude_or_is_refused_as_blank(
    line: Line, baits: Baits, going_on: dict[str, str], prompt: str
) -> None:
    """Whatever Unicode there is, in any order; as turns of one conversation, for each process costs a second."""
    _reaches(line, baits.world, "claude", prompt, going_on)


@settings(_SETTINGS, max_examples=60)
@given(prompt=TEXTS)
def test_any_text_reaches_gemini_or_is_refused_as_blank(line: Line, baits: Baits, prompt: str) -> None:
    """Whatever Unicode there is, in any order."""
    _reaches(line, baits.world, "gemini", prompt, {})


# -- the other ways in -----------------------------------------------------------------------------------------------

FEW = (
    "commands of the CLIs: after a byte order mark",
    "control characters: all of C0",
    "unicode: separators",
    "looks like a protocol: in a line of its own",
)


@pytest.fixture(scope="module")
def hub(baits: Baits) -> Generator[HttpHub]:
    """One warm hub over HTTP, for both eras."""
    with http_hub(baits.world, cwd=baits.cwd) as served:
        yield served


@pytest.mark.parametrize(("transport", "era"), [way for way in EVERY_WAY if way != ("stdio", "auto")])
def test_hostile_prompts_arrive_over_every_transport_in_both_eras(
    hub: HttpHub, baits: Baits, transport: Transport, era: Era
) -> None:
    """The way into the hub changes nothing either."""
    with open_line(baits.world, transport, era, hub=hub if transport == "http" else None, cwd=baits.cwd) as way:
        for provider in PROVIDERS:
            more: dict[str, str] = {}
            for name in FEW:
                sent = Sent(baits.world, provider)

                answer = answer_of(way.call(f"ask_{provider}", {"prompt": ARRIVE[name], **more}))

                assert_same(sent.prompt(), ARRIVE[name])
                more = {"conversation_id": answer["conversation_id"]}


EVERYTHING = (
    '\ufeff /about --help @canary.txt $(id)\r\n\t\x00\x1b[c\u202e\u2028\x85 e\u0301 😀 가\n\n {"jsonrpc":"2.0"} \n\n'
)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_command_sends_its_stdin_as_it_is(baits: Baits, provider: str) -> None:
    """No line end, byte order mark or NUL is lost between a pipe and the model."""
    sent = Sent(baits.world, provider)

    done = run_command(baits.world, "ask", provider, "-", stdin=EVERYTHING, cwd=baits.cwd)

    assert done.returncode == 0, done.stderr.decode()
    assert_same(sent.prompt(), EVERYTHING)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_command_sends_its_argument_as_it_is(baits: Baits, provider: str) -> None:
    """An argument may look like an option after `--`; it may hold anything but NUL."""
    prompt = "--help " + EVERYTHING.replace("\x00", "")
    sent = Sent(baits.world, provider)

    done = run_command(baits.world, "ask", provider, "--", prompt, cwd=baits.cwd)

    assert done.returncode == 0, done.stderr.decode()
    assert_same(sent.prompt(), prompt)


@pytest.mark.parametrize(
    "given_bytes", [b"secret words \xff", b"secret words \xed\xa0\x80", b"secret words \xc0\x80", b" \n"]
)
def test_the_command_refuses_stdin_that_is_no_text(baits: Baits, given_bytes: bytes) -> None:
    """Bytes that are no UTF-8 are not replaced by something else, and not quoted."""
    sent = Sent(baits.world, "gemini")

    done = run_command(baits.world, "ask", "gemini", "-", stdin=given_bytes, cwd=baits.cwd)

    assert done.returncode == 64
    assert b"invalid_request" in done.stderr
    assert b"secret words" not in done.stderr + done.stdout
    assert sent.nothing


# -- half characters, which no client library of Python can send -----------------------------------------------------

HALVES = {
    "first half": r"\ud800",
    "second half": r"\udfff",
    "halves the wrong way round": r"\ude00\ud83d",
    "half between words": r"words \ud83d words",
    "half after a pair": r"\ud83d\ude00\ud83d",
}
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": "first",
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}

Exchange = Callable[[bytes], Any]
"""Sends the bytes of one request, and gives the message that answers it."""


def spelled(era: Era, number: str, tool: str, arguments: str) -> bytes:
    """A `tools/call` in which number, tool and arguments are JSON as it stands on the wire."""
    meta = f',"_meta":{json.dumps(MODERN)}' if era == "auto" else ""
    return (
        f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call",'
        f'"params":{{"name":{tool},"arguments":{arguments}{meta}}}}}'
    ).encode()


@contextmanager
def raw_stdio(world: World, era: Era, cwd: Path) -> Generator[Exchange]:
    """A hub whose stdin is written byte by byte."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_mcp_hub"],
        env=world.environment,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    lines: Queue[bytes] = Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in stdout], daemon=True)
    reader.start()

    def exchange(message: bytes) -> Any:
        stdin.write(message + b"\n")
        stdin.flush()
        try:
            return json.loads(lines.get(timeout=DEADLINE_S))
        except Empty:
            raise AssertionError(f"no answer to {message[:200]!r}") from None

    try:
        if era == "legacy":
            exchange(json.dumps(INITIALIZE).encode())
            stdin.write(json.dumps(INITIALIZED).encode() + b"\n")
        yield exchange
    finally:
        stdin.close()
        process.wait(DEADLINE_S)
        reader.join(DEADLINE_S)
        stdout.close()


@contextmanager
def raw_http(hub: HttpHub, era: Era) -> Generator[Exchange]:
    """A client of a hub over HTTP that writes its bodies byte by byte."""
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}

    def post(message: bytes, **more: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(urlsplit(hub.url).netloc, timeout=DEADLINE_S)
        try:
            connection.request("POST", "/mcp", message, {**headers, **more})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    if era == "legacy":
        started, _ = post(json.dumps(INITIALIZE).encode())
        headers |= {"mcp-protocol-version": "2025-11-25", "mcp-session-id": started.headers["mcp-session-id"]}
        post(json.dumps(INITIALIZED).encode())

    def exchange(message: bytes) -> Any:
        more = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"} if era == "auto" else {}
        if era == "auto":
            tool = json.loads(message.decode("utf-8", "replace"))["params"]["name"]
            more["mcp-name"] = tool.encode("ascii", "replace").decode()
        response, body = post(message, **more)
        for line in body.splitlines():
            if line.startswith(b"data: {"):
                return json.loads(line.removeprefix(b"data: "))
        return {"http_status": response.status, **json.loads(body)}

    yield exchange


@pytest.fixture(scope="module", params=EVERY_WAY, ids="-".join)
def raw(request: pytest.FixtureRequest, baits: Baits, hub: HttpHub) -> Generator[tuple[Era, Exchange]]:
    """Every way into a hub, written to by hand; one hub for all tests of a way."""
    transport, era = request.param
    made = raw_stdio(baits.world, era, baits.cwd) if transport == "stdio" else raw_http(hub, era)
    with made as exchange:
        yield era, exchange


def refusal_in(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The coded error of a tool result on the wire."""
    assert message["result"]["isError"] is True
    return message["result"]["_meta"]["llm-mcp-hub/error"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", HALVES)
def test_half_a_character_in_a_prompt_is_refused(
    raw: tuple[Era, Exchange], baits: Baits, name: str, provider: str
) -> None:
    """JSON can spell it, no encoding can carry it: the client is told, and does not wait for ever."""
    era, exchange = raw
    sent = Sent(baits.world, provider)
    call = spelled(era, '"half"', f'"ask_{provider}"', f'{{"prompt":"secret words {HALVES[name]}"}}')

    message = exchange(call)

    assert message["id"] == "half"
    assert refusal_in(message)["code"] == "invalid_request"
    assert "secret words" not in json.dumps(message)
    assert sent.nothing


@pytest.mark.parametrize(
    "arguments",
    [
        r'{"prompt":"x","system":"secret words \ud800"}',
        r'{"prompt":"x","model":"\ud800"}',
        r'{"prompt":"x","\ud800":1}',
    ],
    ids=["system", "model", "name of an argument"],
)
def test_half_a_character_in_any_argument_is_refused(raw: tuple[Era, Exchange], baits: Baits, arguments: str) -> None:
    """Not only in the prompt."""
    era, exchange = raw
    sent = Sent(baits.world, "gemini")

    message = exchange(spelled(era, "7", '"ask_gemini"', arguments))

    assert message["id"] == 7
    assert refusal_in(message)["code"] == "invalid_request"
    assert "secret words" not in json.dumps(message)
    assert sent.nothing


def test_two_halves_that_meet_are_one_character(raw: tuple[Era, Exchange], baits: Baits) -> None:
    """A client that escapes everything sends an emoji as two halves. After refusals the hub works as before."""
    era, exchange = raw
    sent = Sent(baits.world, "claude")

    message = exchange(spelled(era, "8", '"ask_claude"', r'{"prompt":"\ud83d\ude00 \uac00\u0000"}'))

    assert message["result"]["isError"] is False
    assert_same(sent.prompt(), "😀 가\x00")


def test_the_longest_prompt_may_be_spelled_in_the_longest_way(raw: tuple[Era, Exchange], baits: Baits) -> None:
    """1,000,000 emoji, each as two escapes, are 12 MB of JSON."""
    era, exchange = raw
    prompt = ARRIVE["sizes: 1,000,000 emoji"]
    sent = Sent(baits.world, "claude")

    message = exchange(spelled(era, "9", '"ask_claude"', json.dumps({"prompt": prompt})))

    assert message["result"]["isError"] is False
    assert_same(sent.prompt(), prompt)


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f\x98"])
def test_bytes_that_are_no_text_are_refused(raw: tuple[Era, Exchange], baits: Baits, bad: bytes) -> None:
    """They are not replaced by U+FFFD and sent: a coded error, or over HTTP a body that is no JSON (400)."""
    era, exchange = raw
    sent = Sent(baits.world, "gemini")

    message = exchange(
        spelled(era, "10", '"ask_gemini"', '{"prompt":"secret words "}').replace(b"words ", b"words " + bad)
    )

    if "error" in message:
        assert (message["http_status"], message["error"]["code"]) == (400, -32700)
    else:
        assert refusal_in(message)["code"] == "invalid_request"
    assert "secret words" not in json.dumps(message)
    assert sent.nothing


def test_half_a_character_in_the_number_of_a_call_does_not_end_the_hub(baits: Baits) -> None:
    """It cannot be written back, so the answer has no number; the next call is answered."""
    with raw_stdio(baits.world, "auto", baits.cwd) as exchange:
        first = exchange(spelled("auto", r'"\ud800"', '"token_status"', "{}"))
        second = exchange(spelled("auto", "2", '"token_status"', "{}"))

    assert (first["id"], first["error"]["code"]) == (None, -32700)
    assert second["result"]["isError"] is False


# -- answers ---------------------------------------------------------------------------------------------------------

ANSWERS: Mapping[str, Sequence[str]] = {
    "NUL and all of C0": ["".join(map(chr, range(32))) + "x"],
    "DEL and all of C1": ["".join(map(chr, range(127, 160)))],
    "terminal sequences": [
        "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://example.invalid\x1b\\x\x1b]8;;\x1b\\ \x1b[c"
    ],
    "terminal sequences in pieces": ["a\x1b", "[31mb\x1b]0;", "x", "\x07c\x1b"],
    "right to left, marks and separators": [
        "\ufeff\u202eabc\u202c \u200f\u05d0",
        " \u2066x\u2069\ufeff\u200b",
        "\u2028\u2029\x85",
    ],
    "white space and line ends in pieces": [" \n", "\t a\r", "\nb\r", "\r\nc\r\n", "\n", " "],
    "clusters in pieces": ["👨", "\u200d👩\u200d", "👧 e", "\u0301 \u1100", "\u1161"],
    "one character a piece": list("가나다😀" * 50),
    "a protocol": [
        'x\n{"jsonrpc":"2.0","id":1,"result":{}}\n',
        'data: {"type":"message_stop"}\n\n',
        '{"type":"result"}',
    ],
    "words of the CLIs": [
        "Please visit the following URL to authorize the application:\n\nEnter the authorization code: ",
        "\\u0041 \\n <b>&amp;</b> ```\n# x\n``` <thinking>x</thinking>\n\n💡 Tip: x",
        "The same again and again. " * 400,
    ],
    "5 MB": ["가나다라 마바사\n" * 250_000],
}


def answering(provider: str, pieces: Sequence[str]) -> Any:
    """The same answer from either stand-in."""
    return anthropic.Answer(chunks=pieces) if provider == "claude" else google.Answer(chunks=pieces)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_hostile_answer_comes_back_character_for_character(
    line: Line, baits: Baits, going_on: dict[str, str], name: str, provider: str
) -> None:
    """It is the whole of the first block (of all pages), and the text that programs read; no character is changed."""
    meant = "".join(ANSWERS[name])
    more = {"conversation_id": going_on[provider]} if provider in going_on and len(meant) < LONG else {}
    baits.world.upstream(provider).script(answering(provider, ANSWERS[name]))

    result = line.call(f"ask_{provider}", {"prompt": "hello", **more})

    assert_same("".join(text_of(page) for page in pages_of(line, result)), meant)
    assert_same("".join(answer_of(page)["text"] for page in pages_of(line, result)), meant)


def text_of(result: Any) -> str:
    """The first block of a tool result."""
    return result.content[0].text


def pages_of(line: Line, result: Any) -> list[Any]:
    """The result of an ask, and where an answer is too long for one, those with its rest."""
    pages = [result]
    while (page := pages[-1].meta.get("llm-mcp-hub/page")) is not None and page["next_offset"] is not None:
        wanted = {"ask_id": answer_of(result)["ask_id"], "offset": page["next_offset"]}
        pages.append(line.call("ask_result", wanted))
    return pages


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("pieces", "meant"),
    [
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ude00b\ud83d"], "a\ufffdb\ufffd"),
    ],
    ids=["two halves in two pieces", "half a character", "half a character at the end"],
)
def test_half_a_character_in_an_answer_is_mended_or_replaced(
    line: Line, baits: Baits, pieces: list[str], meant: str, provider: str
) -> None:
    """Only what no encoding can carry is replaced; it must not end the hub for everybody."""
    baits.world.upstream(provider).script(answering(provider, pieces))

    result = line.call(f"ask_{provider}", {"prompt": "hello"})

    assert_same(text_of(result), meant)


def test_all_of_an_answer_in_several_blocks_comes_back(line: Line, baits: Baits) -> None:
    """Claude thinks in between; its CLI names the last block alone as the result."""
    baits.world.claude.script(anthropic.Answer("third", thinking="hm", texts_before=["first\n", "  ", "second, "]))

    result = line.call("ask_claude", {"prompt": "hello"})

    assert_same(text_of(result), "first\n  second, third")


def test_an_answer_of_white_space_is_never_handed_out(line: Line, baits: Baits) -> None:
    """Claude's CLI asks its model once more by itself, in words of its own; Gemini's takes it, and the hub refuses."""
    baits.world.claude.script(anthropic.Answer(" \n"), anthropic.Answer("visible"))
    baits.world.gemini.script(google.Answer(" \n"))
    before = baits.world.prompts_received("claude")

    claude = line.call("ask_claude", {"prompt": "hello"})
    gemini = line.call("ask_gemini", {"prompt": "hello"})

    assert text_of(claude) == "visible"
    asked = [anthropic.last_user_texts(r) for r in baits.world.claude.received[before:]]
    assert asked[0] == ["hello"]
    assert asked[1:] == [["hello\n", *texts] for texts in [asked[1][1:]]]
    assert set(asked[1][1:]) <= anthropic.ADDED_BY_THE_CLI
    assert error_of(gemini)["code"] == "upstream_error"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_command_prints_the_answer_as_it_is(baits: Baits, provider: str) -> None:
    """Streamed piece by piece to a pipe, byte for byte, and one line break at its end where it has none."""
    pieces = [EVERYTHING, "half \ud83d", "\ude00 other half", "\r\n\x1b[31m", "end"]
    baits.world.upstream(provider).script(answering(provider, pieces))

    done = run_command(baits.world, "ask", provider, "hello", cwd=baits.cwd)

    assert done.returncode == 0, done.stderr.decode()
    assert_same(done.stdout.decode(), EVERYTHING + "half 😀 other half\r\n\x1b[31mend\n")
