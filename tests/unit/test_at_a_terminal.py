"""What somebody types at a question: answers, near answers, Ctrl-D."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import operator
import os
import select
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.commands import client, login, setup
from llm_mcp_hub.commands.words import parse
from llm_mcp_hub.settings import load

CTRL_D = "\x04"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    """What is written into it is typed at the terminal that stdin is."""
    keys, terminal = os.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keys
    os.close(keys)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a Google Cloud project to be asked about."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "made-up-project")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "code", "end"),
    [
        ("maybe\n?\ny\n", 0, "Done now: GEMINI_PROJECT."),
        ("ㅛ\n", 0, "Done now: GEMINI_PROJECT."),
        ("\n", 0, "Left out: Google Cloud project."),
        ("N\n", 0, "Left out: Google Cloud project."),
        (CTRL_D, 130, "to go on, run: llm-mcp-hub setup"),
        ("q\n", 130, "to go on, run: llm-mcp-hub setup"),
    ],
)
def test_what_is_no_answer_is_asked_again(
    typed: str, code: int, end: str, home: Path, keyboard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither yes nor no is taken for one; q and Ctrl-D end it, and a yes on a Korean keyboard is one."""
    os.write(keyboard, typed.encode())

    assert setup.run(None, ["project"], skip=[], yes=False) == code
    said = capsys.readouterr().out
    assert end in said
    assert said.count("Answer y or n; q ends setup.") == typed.count("maybe") + typed.count("?")
    assert (home / ".config").exists() is ("Done" in end)


def test_ctrl_c_in_the_instant_before_a_question_waits_ends_it(
    home: Path, keyboard: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python notes it and goes on into the call that waits; nothing of Python runs between the two here."""
    then = select.select

    def interrupted(*given: Any) -> Any:
        interrupt = functools.partial(ctypes.CDLL(None)["raise"], signal.SIGINT)
        wait = functools.partial(then, *given, 5)
        return list(map(operator.call, (interrupt, wait)))[1]

    monkeypatch.setattr(setup.select, "select", interrupted)

    began = time.monotonic()
    code = setup.run(None, ["project"], skip=[], yes=False)

    assert code == 130
    assert time.monotonic() - began < 5, "it went on waiting"
    assert "made-up-project" in capsys.readouterr().out


def test_ctrl_d_at_the_code_of_a_login_is_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C; a pipe that has ended is told how it is used."""
    master, slave = os.openpty()
    monkeypatch.setattr(login, "STDIN", slave)

    async def typed() -> None:
        asked = asyncio.ensure_future(login.AtTheTerminal(lambda _secret: None).code("https://example.org/", note=""))
        await asyncio.sleep(0)  # it waits: what was typed before would be thrown away
        os.write(master, b"\x04")
        async with asyncio.timeout(30):
            await asked

    try:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(typed())
    finally:
        os.close(master)
        os.close(slave)


def test_an_empty_list_of_clients_says_who_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everybody where there was never one, nobody where all are revoked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    told: list[str] = []
    for words in (["list"], ["add", "bob"], ["revoke", "bob"], ["list"]):
        assert client.run(load(), parse(["client", *words])) == 0
        told.append(capsys.readouterr().out)

    assert told[0].startswith("No clients: every program on this machine comes in")
    assert told[3].startswith("No clients, so nobody comes in over HTTP. To open the hub")
    assert told[3].endswith("clients.json\n")
