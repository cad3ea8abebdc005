"""What `ask` reads from stdin beside a question: pipes, files, and what others hold open."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from llm_mcp_hub import cli
from llm_mcp_hub.commands import stdin
from llm_mcp_hub.errors import InvalidRequest
from llm_mcp_hub.material.rules import FILE_LIMIT

DIFF = b"-low water\n+high water\n"


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Generator[io.FileIO]:
    """The other end of the pipe that stdin is."""
    reader, end = os.pipe()
    with os.fdopen(reader) as opened, io.FileIO(end, "w") as writer:
        monkeypatch.setattr(sys, "stdin", opened)
        yield writer


def asked(*words: str) -> argparse.Namespace:
    return cli.parse(["ask", "claude", *words])


def test_what_is_piped_in_is_put_before_the_question(writer: io.FileIO) -> None:
    """`git diff | llm-mcp-hub ask claude "Review this change"`."""
    writer.write(DIFF)
    writer.close()

    question, [part] = stdin.read(asked("Review this change"))

    assert question == "Review this change"
    assert (part.name, part.mime_type, part.data) == ("stdin", "text/plain", DIFF)


def test_an_image_is_known_by_its_content(writer: io.FileIO) -> None:
    """As one that is named as a file."""
    writer.write(b"\x89PNG\r\n\x1a\n")
    writer.close()

    assert stdin.read(asked("What is it?"))[1][0].mime_type == "image/png"


def test_a_pipe_at_its_end_adds_nothing_and_is_not_told_of(
    writer: io.FileIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """What starts the hub from a program mostly looks so."""
    writer.close()

    assert stdin.read(asked("Who?")) == ("Who?", [])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("json", [False, True])
def test_a_pipe_that_says_nothing_is_left_out_and_told_of(
    writer: io.FileIO, json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CI, an editor and ssh hold one open for ever; for programs stderr stays empty."""
    monkeypatch.setattr(stdin, "SILENT_S", 0.0)

    assert stdin.read(asked("Who?", *["--json"] * json)) == ("Who?", [])
    assert ("--file -" in capsys.readouterr().err) is not json
    assert not writer.closed


def test_a_file_named_dash_is_stdin_and_is_waited_for(writer: io.FileIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what takes its time: `make test | llm-mcp-hub ask claude --file - "Why?"`."""
    monkeypatch.setattr(stdin, "SILENT_S", -1.0)  # select would raise: it is not asked
    writer.write(DIFF)
    writer.close()

    assert stdin.read(asked("Why?", "--file", "-"))[1][0].data == DIFF


def test_a_file_is_read_and_a_device_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`< notes.txt`, `< /dev/null`; one that never ends is no file."""
    (tmp_path / "notes").write_bytes(DIFF)
    found: list[int] = []
    for path in (str(tmp_path / "notes"), os.devnull, "/dev/zero"):
        with Path(path).open() as opened:
            monkeypatch.setattr(sys, "stdin", opened)
            found.append(len(stdin.read(asked("Who?"))[1]))

    assert found == [1, 0, 0]


def test_what_is_too_large_is_refused_before_all_of_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the limit of a file."""
    with (tmp_path / "large").open("wb") as large:
        large.truncate(FILE_LIMIT + 1)
    with (tmp_path / "large").open() as opened:
        monkeypatch.setattr(sys, "stdin", opened)
        with pytest.raises(InvalidRequest, match="stdin is larger than 10 MB"):
            stdin.read(asked("Who?"))


def test_a_question_is_read_to_the_longest_that_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`zcat big.log.gz | llm-mcp-hub ask claude`, or a pipe without an end: it would fill the memory."""
    with (tmp_path / "large").open("wb") as large:
        large.truncate(1 << 40)
    with (tmp_path / "large").open() as opened:
        monkeypatch.setattr(sys, "stdin", opened)
        with pytest.raises(InvalidRequest, match="larger than a question, which has 1,000,000 characters"):
            stdin.read(asked())


def test_a_question_that_went_to_a_file_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ask claude --file "Why …?"` at a terminal: too long for a name, it is not there either."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())

    with pytest.raises(InvalidRequest, match="--file names a file that is not there"):
        stdin.read(asked("--file", "Why? " * 100))


@pytest.mark.parametrize("words", [[], ["-"]])
def test_one_stdin_is_not_both_the_question_and_a_file(words: list[str]) -> None:
    """Whichever came first would leave nothing for the other."""
    with pytest.raises(InvalidRequest, match="cannot be both"):
        stdin.read(asked(*words, "--file", "-"))


def test_a_question_that_is_no_utf8_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was meant as a file."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG\r\n")))

    with pytest.raises(InvalidRequest, match="stdin is no UTF-8 text") as told:
        stdin.read(asked("-"))
    assert "--file PATH" in told.value.action


def test_a_closed_stdin_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's `<&-`."""
    monkeypatch.setattr(sys, "stdin", None)

    assert stdin.read(asked("Who?")) == ("Who?", [])
