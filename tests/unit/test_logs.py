"""What the hub writes about itself: one line an event, never a secret, never a local variable."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from llm_mcp_hub.observe import logs
from llm_mcp_hub.observe.logs import HIDDEN, cleaned, configure, hide

SETUP_TOKEN = "sk-ant-oat01-" + "madeup" * 14
ODD_SECRET = "no form that anybody knows"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this test hides is not hidden from the next one."""
    for name in ("_kept", "_renewed"):
        monkeypatch.setattr(logs, name, dict[str, None]())
    monkeypatch.setattr(logs, "_longest_first", list[str]())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[str | None], io.StringIO]]:
    """Sets logging up as the hub does, onto a stream that can be read; undone after the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    for module, hook in (
        (sys, "excepthook"),
        (sys, "unraisablehook"),
        (threading, "excepthook"),
        (warnings, "showwarning"),
    ):
        monkeypatch.setattr(module, hook, getattr(module, hook))  # set anew by what is tested, and put back after it
    stream = io.StringIO()

    def begin(form: str | None) -> io.StringIO:
        monkeypatch.setattr("sys.stderr", stream)
        configure("INFO", form)
        return stream

    yield begin
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


@pytest.mark.usefixtures("forgetful")
def test_of_logins_that_are_renewed_the_newest_are_hidden() -> None:
    """A hub that runs for months sees thousands, and each line looks for each. What is in use is given anew."""
    kept, used = "a setting that is secret", "a token that is in use"
    hide(kept)
    for number in range(10 * logs.RENEWED):
        hide(used, renewed=True)
        hide(f"made up {number:05}", renewed=True)
    last = f"made up {10 * logs.RENEWED - 1:05}"

    assert cleaned(f"{kept}, {used}, {last}") == ", ".join([HIDDEN] * 3)
    assert cleaned("made up 00000") == "made up 00000"
    assert sum(cleaned(f"made up {number:05}") == HIDDEN for number in range(10 * logs.RENEWED)) == logs.RENEWED - 1


FORMS = {
    "a setup-token": SETUP_TOKEN,
    "an API key": "sk-ant-api03-" + "x" * 80,
    "a refresh token of Claude Code": "sk-ant-ort01-" + "x" * 80,
    "a Google access token": "ya29.a0AfB_madeup-madeup",
    "a Google refresh token": "1//0gmadeup-madeup_madeup",
    "a Google API key": "AIzaSyMadeUpMadeUpMadeUpMadeUp",
    "a client secret": "GOCSPX-madeup-madeup",
    "a JSON web token": "eyJhbGciOiJub25l.eyJzdWIiOiJtYWRlLXVw.c2ln",
    "a bearer": "Bearer made-up.token/with+all~kinds==",
    "a password in an address": "redis://user:hunter2@127.0.0.1:6379/0",
}
PARTS = {"a bearer": "made-up.token/with+all~kinds==", "a password in an address": "hunter2"}
"""The secret part, where not all of it is one."""


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("around", ["{}", "before {} after", '"{}"', "{}\n", "token={}&x=1", "({})"])
def test_what_looks_like_a_secret_is_hidden(name: str, around: str) -> None:
    """Nobody has to know a secret for it to be kept out."""
    text = cleaned(around.format(FORMS[name]))

    assert PARTS.get(name, FORMS[name]) not in text
    assert HIDDEN in text


@pytest.mark.parametrize(
    "text",
    [
        "input_tokens=12 output_tokens=7 cached_input_tokens=3",
        "sk-ant-",
        "Bearer realm",
        "http://127.0.0.1:8000/mcp",
        "ask_Zm9vYmFyYmF6cXV4",
        "claude-sonnet-5-5",
        "1// a comment",
        "the token is missing",
    ],
)
def test_what_is_no_secret_can_be_read(text: str) -> None:
    """A log that hides counters, models and addresses helps nobody."""
    assert cleaned(text) == text


@pytest.mark.usefixtures("forgetful")
def test_a_known_value_is_hidden_whatever_its_form() -> None:
    """The token in use is hidden by value, also one that was wrapped by a terminal or has no known form."""
    hide(ODD_SECRET)

    assert cleaned(f"<{ODD_SECRET}> and <{ODD_SECRET}>") == f"<{HIDDEN}> and <{HIDDEN}>"


@pytest.mark.usefixtures("forgetful")
def test_a_value_too_short_to_be_a_secret_is_not_hidden() -> None:
    """Hiding `1` or `true` would make every log unreadable."""
    hide("true")

    assert cleaned("true") == "true"


@pytest.mark.usefixtures("forgetful")
@given(
    st.lists(st.text("abcdefgh ", min_size=8, max_size=16), min_size=1, max_size=4), st.text("abcdefgh ", max_size=60)
)
@example(["abcdefgh", "abcdefgh abcd"], "abcdefgh abcd")
def test_no_hidden_value_ever_gets_through(secrets: list[str], filler: str) -> None:
    """Whatever is hidden, one inside the other too: neither a value nor the rest of one is left over."""
    for secret in secrets:
        hide(secret)

    for secret in secrets:
        for text in (secret, filler + secret, f"<{secret}>{filler}", filler):
            shown = cleaned(text)
            assert all(hidden not in shown for hidden in secrets)
        assert cleaned(secret) == HIDDEN


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=20), st.text(max_size=20))
def test_no_text_around_a_secret_makes_it_readable(name: str, before: str, after: str) -> None:
    """Whatever a sentence puts before and behind it; and what is cleaned stays as it is."""
    shown = cleaned(f"{before}{FORMS[name]}{after}")

    assert PARTS.get(name, FORMS[name]) not in shown
    assert cleaned(shown) == shown


# -- lines -------------------------------------------------------------------------------------------------------------


class Thing:
    """An object that shows a secret when it is printed, as an SDK's request might."""

    def __repr__(self) -> str:
        return f"Thing({SETUP_TOKEN})"


SHAPES: dict[str, Any] = {
    "text": SETUP_TOKEN,
    "a list": ["x", SETUP_TOKEN],
    "a tuple": ("x", SETUP_TOKEN),
    "a set": {SETUP_TOKEN},
    "a mapping": {"token": SETUP_TOKEN},
    "a key": {SETUP_TOKEN: 1},
    "deep": {"a": [{"b": (SETUP_TOKEN,)}]},
    "bytes": SETUP_TOKEN.encode(),
    "an exception": ValueError(f"refused {SETUP_TOKEN}"),
    "an object": Thing(),
}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_value_lets_a_secret_through(
    logged: Callable[[str | None], io.StringIO], form: str, shape: str
) -> None:
    """Our own events: in whatever a secret is wrapped, it is not printed, and the event is."""
    stream = logged(form)

    structlog.stdlib.get_logger("llm_mcp_hub.test").info("an event", thing=SHAPES[shape])

    line = stream.getvalue()
    assert SETUP_TOKEN not in line
    assert "an event" in line
    assert HIDDEN in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_libraries_logs_let_no_secret_through(
    logged: Callable[[str | None], io.StringIO], form: str, shape: str
) -> None:
    """Their records go the same way, with the arguments that they format themselves."""
    stream = logged(form)

    logging.getLogger("a_library").warning("it says %s", SHAPES[shape], extra={"more": SHAPES[shape]})

    assert SETUP_TOKEN not in stream.getvalue()
    assert "it says" in stream.getvalue()
    assert HIDDEN in stream.getvalue()


ASKED = "a prompt, as somebody asked it"


def fail() -> None:
    held_by_a_variable = ASKED
    raise ValueError(f"refused {SETUP_TOKEN} in {held_by_a_variable!r}")


def fail_because_of_another() -> None:
    """As a validation error that quotes its input, wrapped, in a group, with a note."""
    try:
        fail()
    except ValueError as error:
        error.add_note(ASKED)
        try:
            raise OSError(24, "Too many open files")
        except OSError as cause:
            raise ExceptionGroup(ASKED, [error]) from cause


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_traceback_shows_where_and_no_variable(
    logged: Callable[[str | None], io.StringIO], form: str, foreign: bool
) -> None:
    """A fault must be found by its log, and its log must not hold what was asked."""
    stream = logged(form)
    try:
        fail_because_of_another()
    except ExceptionGroup:
        if foreign:
            logging.getLogger("a_library").error("it broke", exc_info=True)
        else:
            structlog.stdlib.get_logger("llm_mcp_hub.test").error("it broke", exc_info=True)

    text = stream.getvalue()
    assert "it broke" in text
    assert "ValueError" in text
    assert "fail_because_of_another" in text
    assert "Too many open files" in text
    assert SETUP_TOKEN not in text
    assert ASKED not in text
    assert "Logging error" not in text


def test_numbers_stay_numbers(logged: Callable[[str | None], io.StringIO]) -> None:
    """Programs read these lines: a count is no text, and null is null."""
    stream = logged("json")

    structlog.stdlib.get_logger("llm_mcp_hub.test").info("an event", output_tokens=7, share=0.5, known=True, until=None)

    record = json.loads(stream.getvalue())
    assert (record["output_tokens"], record["share"], record["known"], record["until"]) == (7, 0.5, True, None)
    assert (record["event"], record["level"], record["logger"]) == ("an event", "info", "llm_mcp_hub.test")
    assert record["timestamp"].endswith("Z")


def test_the_form_is_json_where_nobody_watches(logged: Callable[[str | None], io.StringIO]) -> None:
    """Without a terminal a program reads."""
    stream = logged(None)

    structlog.stdlib.get_logger("llm_mcp_hub.test").info("an event")

    assert json.loads(stream.getvalue())["event"] == "an event"


@pytest.mark.parametrize("library", ["mcp", "claude_agent_sdk", "asyncio", "uvicorn.access"])
def test_the_libraries_are_quiet_whatever_the_level(logged: Callable[[str | None], io.StringIO], library: str) -> None:
    """At INFO and DEBUG they quote messages: prompts would stand in the log."""
    stream = logged("json")
    configure("DEBUG", "json")

    logging.getLogger(library).info("message: what the owner asked")
    logging.getLogger(f"{library}.part").debug("message: what the owner asked")

    assert stream.getvalue() == ""


# -- one event, one line -----------------------------------------------------------------------------------------------

HOSTILE = {
    "the end of the line": "a\r\nb",
    "a new line alone": "a\nb",
    "a carriage return": "a\rb",
    "a colour": "a\x1b[31mb",
    "a title": "a\x1b]0;pwned\x07b",
    "a C1 escape": "a\x9b31mb",
    "the end of a text": "a\x00b",
    "backspaces": "a\x08\x08b",
    "delete": "a\x7fb",
    "a bidi override": "a\u202eb",
    "a bidi isolate": "a\u2066b",
    "a line separator": "a\u2028b",
    "a paragraph separator": "a\u2029b",
    "next line": "a\x85b",
    "a zero-width space": "a\u200bb",
    "a tag character": "a\U000e0041b",
    "half a character": "a\ud800b",
}


def only_lines(text: str) -> list[str]:
    """The lines of a log, which hold nothing that does not print; each is an event's own."""
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert text.encode("utf-8").count(b"\n") == len(lines)
    return lines


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_nobodys_words_end_a_line_or_steer_a_terminal(
    logged: Callable[[str | None], io.StringIO], form: str, kind: str
) -> None:
    """Whoever chooses a name must not be able to write a line of the log, or over one."""
    stream, text = logged(form), HOSTILE[kind]
    log = structlog.stdlib.get_logger("llm_mcp_hub.test")

    log.info("an event", program=text, deep={"a": [text]}, **{text: 1})
    log.info(text)
    logging.getLogger("a_library").warning("it says %s", text, extra={"more": text})
    with structlog.contextvars.bound_contextvars(client=text):
        log.info("an event")

    lines = only_lines(stream.getvalue())
    assert len(lines) == 4
    if form == "json":
        read = [json.loads(line) for line in lines]
        assert all(value.isprintable() for record in read for value in map(str, record.values()))
        assert read[0]["event"] == "an event"


@given(st.text(max_size=200))
def test_whatever_a_text_is_it_prints_on_one_line(text: str) -> None:
    """And what prints stays as it is: names of people and files are to be read."""
    shown = logs.printable(text)

    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_a_long_text_is_cut(logged: Callable[[str | None], io.StringIO]) -> None:
    """A caller has 16 MiB to choose a name from; a secret at the cut is hidden all the same."""
    stream = logged("json")

    text = "x" * (logs.LONGEST - 50) + f" {SETUP_TOKEN} " + "y" * logs.LONGEST
    structlog.stdlib.get_logger("llm_mcp_hub.test").info("an event", name=text)

    line = stream.getvalue()
    assert len(line) < 2 * logs.LONGEST
    assert "characters more" in line
    assert "sk-ant" not in line


# -- what would be printed by itself -----------------------------------------------------------------------------------


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was logged, by our own chain: each line has its time, its level and its logger."""
    read = [json.loads(line) for line in only_lines(stream.getvalue())]
    assert all({"timestamp", "level", "logger", "event"} <= set(record) for record in read)
    return read


def test_a_warning_is_a_line(logged: Callable[[str | None], io.StringIO]) -> None:
    """Python would print it, and the line of code; a library's own kind may show the value that it warns of."""
    stream = logged("json")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs._speak_for_the_interpreter()  # pyright: ignore[reportPrivateUsage]
        warnings.warn(f"it is old\n{SETUP_TOKEN}", DeprecationWarning, stacklevel=1)
        warnings.warn(ASKED, UserWarning, stacklevel=1)

    old, of_a_library = records(stream)
    assert (old["event"], old["category"], old["level"]) == ("python warns", "DeprecationWarning", "warning")
    assert old["said"] == f"it is old\\n{HIDDEN}"
    assert "test_logs.py:" in of_a_library["where"]
    assert ASKED not in stream.getvalue()


def test_a_thread_that_breaks_is_a_line(logged: Callable[[str | None], io.StringIO]) -> None:
    """Python would print its traceback with the words of the error."""
    stream = logged("json")

    thread = threading.Thread(target=fail, name="a\nthread")
    thread.start()
    thread.join(60)

    (record,) = records(stream)
    assert (record["event"], record["error"], record["thread"]) == ("a thread broke", "ValueError", "a\\nthread")
    assert ASKED not in stream.getvalue()


def test_an_error_that_cannot_be_raised_is_a_line(logged: Callable[[str | None], io.StringIO]) -> None:
    """As in the end of an object."""
    stream = logged("json")

    class Ending:
        def __del__(self) -> None:
            fail()

    Ending()

    (record,) = records(stream)
    assert (record["event"], record["error"]) == ("an error could not be raised", "ValueError")
    assert ASKED not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_end_of_the_program_by_an_error_is_told(logged: Callable[[str | None], io.StringIO], form: str) -> None:
    """The last words of a process are read first."""
    stream = logged(form)

    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)

    assert "the program broke" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert ASKED not in stream.getvalue()


async def break_a_callback_and_a_task() -> None:
    loop = asyncio.get_running_loop()

    def call_back(_words: str) -> None:
        fail()

    loop.call_soon(call_back, ASKED)
    task = loop.create_task(asyncio.to_thread(fail), name=ASKED)
    await asyncio.wait([task])


def test_asyncio_speaks_through_the_same_chain(logged: Callable[[str | None], io.StringIO]) -> None:
    """It tells of what broke with arguments and words of an error."""
    stream = logged("json")

    asyncio.run(break_a_callback_and_a_task())

    broken = records(stream)
    assert {record["event"].partition(" ")[0] for record in broken} == {"Exception", "Task"}
    assert {record["logger"] for record in broken} == {"asyncio"}
    assert all(record["exception"] for record in broken)
    assert ASKED not in stream.getvalue()


@pytest.mark.parametrize("library", ["uvicorn.error", "mcp.server.runner", "opentelemetry.sdk", "redis", "httpx2"])
def test_a_library_speaks_through_the_same_chain(logged: Callable[[str | None], io.StringIO], library: str) -> None:
    """Its errors are lines like ours, with the place and not the words."""
    stream = logged("json")

    try:
        fail()
    except ValueError:
        logging.getLogger(library).exception("Exception in ASGI application\n")

    (record,) = records(stream)
    assert (record["event"], record["logger"], record["level"]) == ("Exception in ASGI application", library, "error")
    assert record["exception"][0]["exc_type"] == "ValueError"
    assert ASKED not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_record_that_cannot_be_shown_is_told_of(logged: Callable[[str | None], io.StringIO], form: str) -> None:
    """A library with a wrong format would have logging print all of its words, on several lines."""
    stream = logged(form)

    logging.getLogger("a_library").warning("%d", ASKED)

    (line,) = only_lines(stream.getvalue())
    assert logs.UNSHOWN in line
    assert "a_library" in line
    assert ASKED not in line
