"""What somebody types at a question: answers, near answers, Ctrl-D."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path

import pytest

from llm_mcp_hub.commands import client, login, setup
from llm_mcp_hub.commands.words import parse
from llm_mcp_hub.settings import load


class Typed(io.StringIO):
    """A terminal at which these lines are typed."""

    def isatty(self) -> bool:
        return True


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
        ("", 0, "Left out: Google Cloud project."),
        ("q\n", 130, "to go on, run: llm-mcp-hub setup"),
    ],
)
def test_what_is_no_answer_is_asked_again(
    typed: str, code: int, end: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither yes nor no is taken for one; q ends it, and a yes on a Korean keyboard is one."""
    monkeypatch.setattr(sys, "stdin", Typed(typed))

    assert setup.run(None, ["project"], skip=[], yes=False) == code
    said = capsys.readouterr().out
    assert end in said
    assert said.count("Answer y or n; q ends setup.") == typed.count("maybe") + typed.count("?")
    assert (home / ".config").exists() is ("Done" in end)


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
