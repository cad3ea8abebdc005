"""What is said of a login while this machine lets the hub open no more files: what it read before."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_mcp_hub.credentials.claude import PREFIX, ClaudeCredentials
from llm_mcp_hub.credentials.gemini import GeminiCredentials
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.credentials.steady import Reader, Steady
from llm_mcp_hub.settings import load
from tests.upstreams import google

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOKEN = PREFIX + "madeup" * 14
LOGIN = '{"refresh_token": "1//made-up", "access_token": "ya29.made-up"}'


@contextmanager
def no_more_files() -> Generator[None]:
    """This process has as many files open as it may."""
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def claude(folder: Path) -> Reader:
    file = folder / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    settings = load(around={"CLAUDE_CODE_OAUTH_TOKEN_FILE": str(file), "HUB_STATE_DIR": str(folder / "state")})
    return ClaudeCredentials(
        token=lambda: settings.secret("CLAUDE_CODE_OAUTH_TOKEN"),
        where="CLAUDE_CODE_OAUTH_TOKEN_FILE",
        issued_at=None,
        own_login=folder / "none",
        saved=SavedLogins(folder / "state"),
        now=lambda: NOW,
        system="Linux",
    )


def saved_claude(folder: Path) -> Reader:
    saved = SavedLogins(folder)
    saved.put("claude", Saved(TOKEN))
    return ClaudeCredentials(
        token=lambda: None, issued_at=None, own_login=folder / "none", saved=saved, now=lambda: NOW, system="Linux"
    )


def gemini(folder: Path) -> Reader:
    google.write_login(folder)
    return GeminiCredentials(path=folder / "oauth_creds.json", saved=SavedLogins(folder), now=lambda: NOW)


def saved_gemini(folder: Path) -> Reader:
    saved = SavedLogins(folder)
    saved.put("gemini", Saved(LOGIN))
    return GeminiCredentials(path=folder / "none.json", saved=saved, now=lambda: NOW)


READERS = [claude, saved_claude, gemini, saved_gemini]


@pytest.mark.parametrize("make", READERS)
def test_a_login_that_cannot_be_read_for_want_of_a_descriptor_is_the_one_it_was(
    make: Callable[[Path], Reader], tmp_path: Path
) -> None:
    """The reader alone takes it for broken or gone, which would be an outage that there is not."""
    reader = make(tmp_path)
    steady = Steady(reader)
    before = steady.held()

    with no_more_files():
        alone, short = reader.held(), steady.held()

    assert before[0].mark
    assert not alone[0].mark
    assert short == before
    assert [one.mark for one in steady.held()] == [one.mark for one in before]


def test_what_has_changed_is_told_as_soon_as_files_can_be_opened_again(tmp_path: Path) -> None:
    """And at once where they can."""
    steady = Steady(gemini(tmp_path))
    [before] = steady.held()

    with no_more_files():
        (tmp_path / "oauth_creds.json").unlink()
        assert steady.held() == [before]
    [gone] = steady.held()
    google.write_login(tmp_path, refresh_token="1//another-made-up-refresh-token")
    [new] = steady.held()

    assert gone.problem is not None
    assert gone.problem.code == "auth_missing"
    assert new.mark not in {"", before.mark}
