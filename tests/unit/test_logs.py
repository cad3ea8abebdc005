"""What the hub writes about itself: one line an event, never a secret, never a local variable."""

from __future__ import annotations

import io
import json
import logging
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
    monkeypatch.setattr(logs, "_exact", set[str]())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[str | None], io.StringIO]]:
    """Sets logging up as the hub does, onto a stream that can be read; undone after the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    stream = io.StringIO()

    def begin(form: str | None) -> io.StringIO:
        monkeypatch.setattr("sys.stderr", stream)
        configure("INFO", form)
        return stream

    yield begin
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


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
