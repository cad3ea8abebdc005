"""The hub's own copies of logins: whole or not at all, and for their owner only."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.errors import Misconfigured

MADE = datetime(2026, 11, 23, 12, 30, tzinfo=timezone(timedelta(hours=9)))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Every part, in any hub of the state folder; the newest takes the place of the one before."""
    here, there = SavedLogins(tmp_path), SavedLogins(tmp_path)
    assert here.get("one") is None

    here.put("one", Saved("first"))
    here.put("one", Saved('{"né": "\\u0000"}', MADE, "a-mark"))

    assert there.get("one") == Saved('{"né": "\\u0000"}', MADE.astimezone(UTC), "a-mark")
    assert there.get("two") is None
    there.delete("one")
    there.delete("one")
    assert here.get("one") is None


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """0600 in 0700, and nothing else is left in the folder. A `repr` shows no secret."""
    logins = SavedLogins(tmp_path / "state")
    saved = Saved("a-secret", MADE)

    logins.put("one", saved)

    assert [path.name for path in logins.folder.iterdir()] == ["one.json"]
    assert (logins.folder.stat().st_mode & 0o777, logins.path("one").stat().st_mode & 0o777) == (0o700, 0o600)
    assert "a-secret" not in repr(saved)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"content": 1, "origin": ""}', '{"content": "", "origin": ""}', '{"content": "x"}'],
)
def test_what_is_none_of_ours_counts_as_absent(tmp_path: Path, content: str) -> None:
    """Somebody else's file in our folder must not end a hub."""
    logins = SavedLogins(tmp_path)
    logins.put("one", Saved("x"))
    logins.path("one").write_text(content)

    assert logins.get("one") is None


@pytest.mark.parametrize("date", ['"yesterday"', "7", '"2026-11-23T12:30:00"'])
def test_a_date_that_cannot_be_read_is_none(tmp_path: Path, date: str) -> None:
    """The login is worth more than its date. A date without a zone says nothing certain."""
    logins = SavedLogins(tmp_path)
    logins.put("one", Saved("x"))
    logins.path("one").write_text(f'{{"content": "x", "issued_at": {date}, "origin": ""}}')

    assert logins.get("one") == Saved("x")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """With the setting that mends it."""
    (tmp_path / "state").write_text("a file")

    with pytest.raises(Misconfigured) as raised:
        SavedLogins(tmp_path / "state").put("one", Saved("x"))

    assert "HUB_STATE_DIR" in raised.value.action


def test_readers_see_the_old_or_the_new_one(tmp_path: Path) -> None:
    """Two hubs that write by turns, while a third reads: never a torn file, never none."""
    logins = SavedLogins(tmp_path)
    texts = [letter * 100_000 for letter in "ab"]
    logins.put("one", Saved(texts[0]))

    def write(text: str) -> None:
        for _ in range(50):
            SavedLogins(tmp_path).put("one", Saved(text))

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    seen: set[str] = set()
    while any(writer.is_alive() for writer in writers):
        found = logins.get("one")
        assert found is not None
        seen.add(found.content)
    for writer in writers:
        writer.join()

    assert seen <= set(texts)
