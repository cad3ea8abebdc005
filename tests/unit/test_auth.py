"""Client tokens: what is kept of them, whose one is, how they take turns, and when their file admits nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub import main as composition
from llm_mcp_hub.errors import InvalidRequest, Misconfigured, NotFound
from llm_mcp_hub.observe.logs import HIDDEN, cleaned
from llm_mcp_hub.serving.auth import (
    Added,
    Allowance,
    Book,
    Caller,
    Clients,
    added,
    all_scopes,
    new_token,
    recognised,
    revoked,
    still,
)
from llm_mcp_hub.settings import load
from tests.harness import DEADLINE_S, ROOT
from tests.unit.test_steady import no_more_files

EVERY = ("ask:claude", "ask:gemini", "status")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def put(book: Book, name: str, token: str, *scopes: str, hours: int = 0) -> Added:
    return added(book, name, scopes, token, NOON + timedelta(hours=hours), every=EVERY)


def principal(book: Book, token: str) -> str | None:
    """Who comes in with this token."""
    caller = recognised(book, token.encode())
    return None if caller is None else caller.principal


def refused(clients: Clients) -> Misconfigured:
    with pytest.raises(Misconfigured) as raised:
        clients.current()
    return raised.value


def caller_of(book: Book, token: str) -> Caller:
    caller = recognised(book, token.encode())
    assert caller is not None
    return caller


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_has_256_random_bits_and_a_form_that_the_log_knows() -> None:
    """No two are the same; one that slips into a text is not shown there."""
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    for token in tokens:
        assert len(token.removeprefix("llmhub_")) == 43  # 256 bits, six a character
        assert cleaned(f"it said {token}!") == f"it said {HIDDEN}!"


def test_of_a_token_nothing_but_its_hash_is_kept(tmp_path: Path) -> None:
    """Who reads the file cannot come in with what stands there."""
    clients = Clients(tmp_path / "clients.json")
    token, change = clients.add("anna", (), NOON, every=EVERY)

    text = clients.file.read_text()
    held = json.loads(text)["clients"]["anna"]["tokens"][0]["sha256"]

    assert token not in text + repr(change) + repr(clients.current())
    assert principal(change.book, held) is None
    assert principal(change.book, token) == "client:anna"


@pytest.mark.parametrize("which", range(7))
def test_every_hash_is_compared_whichever_it_is(which: int) -> None:
    """How long an answer takes must not say which client was meant, or how near a guess was: no way out is early."""
    book, tokens = Book(), [new_token() for _ in range(6)]
    for number, token in enumerate(tokens):
        book = put(book, f"c{number // 2}", token).book
    calls: list[str] = []

    def seen(_frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            calls.append(called.__name__)

    sys.setprofile(seen)
    try:
        recognised(book, (tokens[which] if which < 6 else "llmhub_of-nobody").encode())
    finally:
        sys.setprofile(None)

    assert calls.count("compare_digest") + calls.count("_compare_digest") == 6


@given(st.binary(max_size=200))
def test_no_other_bytes_come_in(given_bytes: bytes) -> None:
    """Whatever stands in the header: it is nobody, and no error."""
    book = put(Book(), "anna", "llmhub_right").book

    assert recognised(book, given_bytes) is None or given_bytes == b"llmhub_right"


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_clients_limits_stay_until_they_are_told_anew(tmp_path: Path) -> None:
    """With its second token too; each for itself. They come in with whoever bears one of its tokens."""
    clients = Clients(tmp_path / "clients.json")
    clients.add("anna", (), NOON, every=EVERY, limits={"asks_per_minute": 3, "at_once": 2})
    clients.add("bob", (), NOON, every=EVERY)
    token, _ = clients.add("anna", (), NOON, every=EVERY, limits={"at_once": 5})
    book = clients.current()
    assert book is not None

    caller = recognised(book, token.encode())

    assert caller is not None
    assert caller.limits == Allowance(asks_per_minute=3, at_once=5)
    assert book.clients["bob"].limits is None


@pytest.mark.parametrize("number", [0, -1, 1_000_001])
def test_a_limit_that_is_none_changes_nothing(number: int, tmp_path: Path) -> None:
    """Zero would be a client that may do nothing: that is what `revoke` is for."""
    clients = Clients(tmp_path / "clients.json")
    with pytest.raises(InvalidRequest):
        clients.add("anna", (), NOON, every=EVERY, limits={"at_once": number})

    assert not clients.file.exists()


def test_a_file_without_limits_is_one_of_before_there_were_any(tmp_path: Path) -> None:
    """An older hub that reads it refuses what it does not know; and what it wrote is read."""
    clients = Clients(tmp_path / "clients.json")
    clients.add("anna", (), NOON, every=EVERY)
    told = json.loads(clients.file.read_text())

    assert set(told["clients"]["anna"]) == {"scopes", "tokens", "created_at"}
    told["clients"]["anna"]["rotated_at"] = None
    clients.file.write_text(json.dumps(told))
    assert clients.current() is not None


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_two_tokens_live_and_a_third_ends_the_oldest() -> None:
    """So a client changes its token while the old one still works. The dates say when."""
    first, second, third = put(Book(), "anna", "one"), None, None
    second = put(first.book, "anna", "two", hours=1)
    third = put(second.book, "anna", "three", hours=2)

    assert [(change.rotated, change.dropped) for change in (first, second, third)] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert [principal(second.book, token) for token in ("one", "two", "three")] == ["client:anna", "client:anna", None]
    assert [principal(third.book, token) for token in ("one", "two", "three")] == [None, "client:anna", "client:anna"]
    client = third.book.clients["anna"]
    assert (client.created_at, client.rotated_at) == (NOON, NOON + timedelta(hours=2))


def test_a_client_keeps_its_scopes_unless_others_are_given() -> None:
    """A new token is no new right; given ones count for both tokens from then on."""
    everything = put(Book(), "anna", "one").book
    narrow = put(everything, "anna", "two", "status", "status").book
    again = put(narrow, "anna", "three").book

    assert everything.clients["anna"].scopes == EVERY
    assert narrow.clients["anna"].scopes == again.clients["anna"].scopes == ("status",)
    caller = recognised(narrow, b"one")
    assert caller is not None
    assert [caller.may(scope) for scope in EVERY] == [False, False, True]


def test_one_token_or_a_whole_client_can_be_revoked() -> None:
    """By its number, the oldest first. Others stay. The only one goes with its client alone: its number has changed."""
    book = put(put(put(Book(), "anna", "one").book, "anna", "two").book, "bob", "other").book

    assert [principal(revoked(book, "anna", 1), token) for token in ("one", "two")] == [None, "client:anna"]
    assert [principal(revoked(book, "anna", 2), token) for token in ("one", "two")] == ["client:anna", None]
    with pytest.raises(InvalidRequest, match="the only token of 'anna'") as raised:
        revoked(revoked(book, "anna", 1), "anna", 1)
    assert "client revoke anna" in raised.value.action
    assert list(revoked(book, "anna", None).clients) == ["bob"]


@pytest.mark.parametrize(("name", "number"), [("bob", None), ("bob", 1), ("anna", 0), ("anna", 2), ("anna", -1)])
def test_what_is_not_there_cannot_be_revoked(name: str, number: int | None) -> None:
    """A slip in the name must not look like success."""
    with pytest.raises(NotFound) as raised:
        revoked(put(Book(), "anna", "one").book, name, number)

    assert "client list" in raised.value.action


@pytest.mark.parametrize("name", ["", "a:b", "-a", "a" * 65, "ä", "a b", "a\n", "a/b", "*", "a\x00"])
def test_a_name_is_plain(name: str) -> None:
    """It must not look like a part of another's keys, nor write a line of its own into the log."""
    with pytest.raises(InvalidRequest):
        put(Book(), name, "one")


def test_a_scope_that_is_none_is_refused() -> None:
    """It would give nothing in silence."""
    with pytest.raises(InvalidRequest) as raised:
        put(Book(), "anna", "one", "status", "ask:gpt")

    assert "ask:claude, ask:gemini, status" in raised.value.action


def test_the_scopes_are_those_of_the_provider_table() -> None:
    """A third provider has its scope by being in it; the names for commands are those of the hub."""
    hub = composition.build_hub(load(around={"HUB_STATE_DIR": str(Path.home() / "state")}))
    hub.kill()

    assert tuple(traits.name for traits in hub.traits) == composition.PROVIDERS
    assert all_scopes(composition.PROVIDERS) == EVERY


BEFORE = put(put(Book(), "anna", "one", "status").book, "bob", "other").book
CHANGES: dict[str, tuple[Book | None, bool]] = {
    "nothing": (BEFORE, True),
    "another client goes": (revoked(BEFORE, "bob", None), True),
    "another client comes": (put(BEFORE, "carol", "more").book, True),
    "a second token": (put(BEFORE, "anna", "two").book, True),
    "more rights": (put(BEFORE, "anna", "two", "status", "ask:claude").book, True),
    "other rights": (put(BEFORE, "anna", "two", "ask:claude").book, False),
    "it goes": (revoked(BEFORE, "anna", None), False),
    "its token goes": (revoked(put(BEFORE, "anna", "two").book, "anna", 1), False),
    "it goes and comes back": (put(revoked(BEFORE, "anna", None), "anna", "two", "status").book, False),
    "nobody is left": (Book(), False),
    "the file goes": (None, False),
}


@pytest.mark.parametrize(("after", "stays"), CHANGES.values(), ids=CHANGES)
def test_who_was_let_in_stays_as_long_as_that_token_may_do_as_much(after: Book | None, stays: bool) -> None:
    """For streams, which outlive the moment in which their client came in."""
    assert still(after, caller_of(BEFORE, "one")) is stays


def test_who_came_in_without_a_token_stays_until_there_are_some() -> None:
    """The door was open to this machine; then somebody shut it."""
    assert still(None, Caller())
    assert not still(Book(), Caller())


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """0600 in 0700; beside it only the lock of those who change it."""
    clients = Clients(tmp_path / "state" / "clients.json")
    clients.add("anna", (), NOON, every=EVERY)

    modes = {path.name: path.stat().st_mode & 0o777 for path in clients.file.parent.iterdir()}

    assert modes == {"clients.json": 0o600, ".clients.json.lock": 0o600}
    assert clients.file.parent.stat().st_mode & 0o777 == 0o700


def test_a_change_counts_at_once(tmp_path: Path) -> None:
    """A hub that runs knows of a new client, and of one that is revoked, at the next look; no file: nobody is asked."""
    hub, shell = Clients(tmp_path / "clients.json"), Clients(tmp_path / "clients.json")
    assert hub.current() is None

    token, _ = shell.add("anna", (), NOON, every=EVERY)
    book = hub.current()
    assert book is not None
    assert principal(book, token) == "client:anna"
    assert hub.current() is book  # not read again

    shell.revoke("anna")
    book = hub.current()
    assert book is not None
    assert principal(book, token) is None


def test_changes_of_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    """Each reads and writes under one lock, and a reader finds a whole file at every moment."""
    file = tmp_path / "clients.json"
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from llm_mcp_hub.serving.auth import Clients
clients = Clients(Path(sys.argv[1]))
sys.stdin.read(1)
for number in range(25):
    clients.add(f"{sys.argv[2]}{number}", (), datetime.now(UTC), every=("status",))
    if number % 2:
        clients.revoke(f"{sys.argv[2]}{number}")
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(file), name], stdin=subprocess.PIPE, cwd=ROOT)
        for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go")
        writer.stdin.close()
    reader = Clients(file)
    looks = 0
    while any(writer.poll() is None for writer in writers):
        reader.current()
        looks += 1
    assert [writer.wait(DEADLINE_S) for writer in writers] == [0, 0]

    assert set(reader.list().clients) == {f"{name}{number}" for name in "ab" for number in range(0, 25, 2)}
    assert looks > 10


BROKEN: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_text(""),
    "half": lambda file: file.write_text(file.read_text()[:-20]),
    "null": lambda file: file.write_text("null"),
    "a list": lambda file: file.write_text("[]"),
    "no JSON": lambda file: file.write_bytes(b"\xff\xfe"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "of a later version": lambda file: file.write_text(file.read_text().replace('"version": 1', '"version": 2')),
    "with more": lambda file: file.write_text(file.read_text().replace('"version"', '"paused": true, "version"')),
    "a client with more": lambda file: file.write_text(
        file.read_text().replace('"scopes"', '"paused": true, "scopes"')
    ),
    "a limit that is none": lambda file: file.write_text(
        file.read_text().replace('"scopes"', '"limits": {"at_once": 0}, "scopes"')
    ),
    "a limit of a later version": lambda file: file.write_text(
        file.read_text().replace('"scopes"', '"limits": {"asks_per_day": 1}, "scopes"')
    ),
    "no hash": lambda file: file.write_text(file.read_text().replace('"sha256": "', '"sha256": "x')),
    "a name that is none": lambda file: file.write_text(file.read_text().replace('"anna"', '"an:na"')),
    "written by others": lambda file: file.chmod(0o620),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a link to nowhere": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file.name)),
    "gone": lambda file: file.unlink(),
    "its folder gone": lambda file: (file.rename(file.parent.parent / "away"), file.parent.rmdir()),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_broken_admits_nobody(tmp_path: Path, how: str) -> None:
    """Never is everybody the owner again; a file that is whole again is taken up. No word of what stands there."""
    (tmp_path / "state").mkdir()
    clients = Clients(tmp_path / "state" / "clients.json")
    token, _ = clients.add("anna", (), NOON, every=EVERY)
    whole = clients.file.read_bytes()
    assert clients.current() is not None
    (tmp_path / "state" / ".clients.json.lock").unlink()

    BROKEN[how](clients.file)
    errors = [refused(clients), refused(clients)]

    for error in errors:
        assert error.action
        assert str(clients.file) in error.message
        assert "anna" not in error.message + error.action
    clients.file.parent.mkdir(exist_ok=True)
    beside = tmp_path / "whole"
    beside.write_bytes(whole)
    beside.chmod(0o600)
    if clients.file.is_dir():
        clients.file.rmdir()
    beside.replace(clients.file)
    book = clients.current()
    assert book is not None
    assert principal(book, token) == "client:anna"


def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    """What stands there may be all clients there are, with one comma too many."""
    clients = Clients(tmp_path / "clients.json")
    clients.file.write_text("{,}")
    clients.file.chmod(0o600)

    for change in (
        lambda: clients.add("anna", (), NOON, every=EVERY),
        lambda: clients.revoke("anna"),
    ):
        with pytest.raises(Misconfigured):
            change()

    assert clients.file.read_text() == "{,}"


def test_a_file_that_somebody_has_named_must_be_there(tmp_path: Path) -> None:
    """A slip in HUB_CLIENTS_FILE must not open the door; the next step makes the file."""
    clients = Clients(tmp_path / "clients.json", expected=True)

    assert "llm-mcp-hub client add" in refused(clients).action
    clients.add("anna", (), NOON, every=EVERY)
    assert clients.current() is not None


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """With the next step, and no traceback."""
    (tmp_path / "file").write_text("")
    clients = Clients(tmp_path / "file" / "clients.json")

    with pytest.raises(Misconfigured) as raised:
        clients.add("anna", (), NOON, every=EVERY)

    assert "HUB_CLIENTS_FILE" in raised.value.action


def test_a_moment_without_descriptors_shuts_the_door_for_that_moment_alone(tmp_path: Path) -> None:
    """The file is another one, cannot be opened, and does not change again: it is looked at again all the same."""
    clients = Clients(tmp_path / "clients.json")
    clients.add("one", (), NOON, every=EVERY)
    clients.current()
    clients.add("two", (), NOON, every=EVERY)

    with no_more_files():
        assert "Too many open files" in refused(clients).message

    book = clients.current()
    assert book is not None
    assert set(book.clients) == {"one", "two"}
