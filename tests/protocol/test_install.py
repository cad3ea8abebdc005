"""`llm-mcp-hub install`: what a client's file held is there afterwards, whatever that is and whatever happens."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub import cli
from llm_mcp_hub.commands import client_file, install
from llm_mcp_hub.commands.json_edit import read
from llm_mcp_hub.commands.mcp_clients import CLIENTS, SERVER, Around
from llm_mcp_hub.credentials.saved import Saved, SavedLogins
from llm_mcp_hub.settings import load, own_file
from tests.harness import DEADLINE_S, TOKEN, World, run_command

EX_USAGE, EX_CONFIG = 64, 78
CLIENT_TOKEN = "llmhub_madeup-token-of-a-client"
STRANGE_TOKEN = r'mad\e-"up-token'
"""No hub makes one, and a proxy before it may: JSON writes it in another way than it is."""
URL = "https://hub.example/mcp"


class Desk:
    """One user's home, one client's file in it, and the command."""

    def __init__(self, client: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.client = client
        self.outer = CLIENTS[client].outer
        self.file = Path(CLIENTS[client].files(Around("linux", home))[-1])
        self.told = self.complaint = ""
        self._capsys = capsys

    def run(self, *words: str, client: str | None = None) -> int:
        """The exit code; what was said is kept."""
        self._capsys.readouterr()
        code = cli.main(["install", client or self.client, *words])
        self.told, self.complaint = self._capsys.readouterr()
        return code

    def holds(self, content: str | bytes, mode: int = 0o640) -> bytes:
        """Put this into the file. Returns its bytes; `SERVERS` stands for the client's own key."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        content = content.replace(b"SERVERS", self.outer.encode())
        self.file.write_bytes(content)
        self.file.chmod(mode)
        return content

    @property
    def held(self) -> dict[str, Any]:
        return read(self.file.read_bytes().decode("utf-8", "surrogateescape"))

    @property
    def entry(self) -> dict[str, Any]:
        return self.held[self.outer][SERVER]

    @property
    def beside(self) -> list[str]:
        """Whatever else is in the file's folder."""
        return sorted(path.name for path in self.file.parent.iterdir() if path.is_file() and path != self.file)

    @property
    def copy(self) -> Path:
        return self.file.with_name(self.file.name + ".before-llm-hub")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(params=CLIENTS)
def desk(request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """For each client."""
    return Desk(request.param, home, capsys)


@pytest.fixture
def cursor(home: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Where the client makes no difference."""
    return Desk("cursor", home, capsys)


def is_within(short: bytes, long: bytes) -> bool:
    """Whether every byte of one stands in the other, in its order."""
    rest = iter(long)
    return all(byte in rest for byte in short)


# What is there stays -------------------------------------------------------------------------------------------------

HELD: dict[str, str | bytes] = {
    "other servers": '{\n    "SERVERS": {\n        "files": {"command": "npx", "env": {"KEY": "secret"}}\n    }\n}\n',
    "unknown keys in their order": '{"z": 1, "SERVERS": {"b": {}, "a": {}}, "y": [1.50, 1e2, null], "\\u00e9": "\\/"}',
    "comments": '// mine\n{\n\t"SERVERS": {\n\t\t/* of last week */ "files": {}, // "llm-hub"\n\t},\n\t// the end\n}\n',
    "a byte order mark and CRLF": b'\xef\xbb\xbf{\r\n  "theme": "dark",\r\n  "SERVERS": {\r\n  }\r\n}\r\n',
    "a byte order mark within a text": '{"display": "a\ufeffb", "SERVERS": {}}',
    "bytes that are no UTF-8": b'{\n  "name": "caf\xe9",\n  "SERVERS": {}\n}',
    "numbers that no float holds": '{"id": 123456789012345678901234567890, "tiny": 1e-999}',
    "one key twice": '{"SERVERS": {"a": 1}, "SERVERS": {"b": 2}}',
    "nothing": "",
    "an empty object": "{}",
}


@pytest.mark.parametrize("held", HELD)
def test_nothing_that_was_there_is_lost(desk: Desk, held: str) -> None:
    """Byte for byte, and with its mode; the file as it was is beside it. A second run changes nothing."""
    before = desk.holds(HELD[held])
    if held == "comments" and not CLIENTS[desk.client].comments:  # Claude Code does not start with such a file
        assert desk.run() == EX_CONFIG
        assert "comments or trailing commas, which Claude Code cannot read" in desk.complaint
        assert (desk.file.read_bytes(), desk.beside) == (before, [])
        return
    text = before.decode("utf-8", "surrogateescape")
    expected = read(text)
    expected.setdefault(desk.outer, {})

    assert desk.run() == 0, desk.complaint

    after = desk.file.read_bytes()
    assert is_within(before, after)
    entry = expected[desk.outer][SERVER] = desk.entry
    assert entry["command"] == str(Path(sys.executable).with_name("llm-mcp-hub"))
    assert desk.held == expected
    assert desk.copy.read_bytes() == before
    assert [stat.S_IMODE(file.stat().st_mode) for file in (desk.file, desk.copy)] == [0o640, 0o640]
    assert str(desk.copy) in desk.told
    assert desk.beside == [desk.copy.name]

    assert desk.run() == 0
    assert desk.file.read_bytes() == after
    assert desk.beside == [desk.copy.name]
    assert "nothing to change" in desk.told

    assert desk.run("--remove") == 0
    del expected[desk.outer][SERVER]
    assert desk.held == expected
    if held not in {"nothing", "an empty object", "numbers that no float holds"}:  # these had no key for servers
        assert is_within(before.replace(b",", b""), desk.file.read_bytes())


def test_a_new_file_is_for_its_owner_alone(desk: Desk) -> None:
    """With the folders on the way to it; and it is taken out again as it came."""
    assert desk.run() == 0, desk.complaint

    assert list(desk.held) == [desk.outer]
    assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600
    assert desk.beside == []
    assert desk.run("--remove") == 0
    assert desk.held == {desk.outer: {}}
    assert desk.run("--remove") == 0
    assert "is not in it" in desk.told


def test_nothing_is_removed_where_nothing_is(desk: Desk) -> None:
    """And no file is made for it."""
    assert desk.run("--remove") == 0
    assert not desk.file.exists()


def test_another_entry_of_that_name_is_replaced_and_told(desk: Desk) -> None:
    """It is in the copy; an earlier copy is never written over."""
    first = desk.holds('{"SERVERS": {"x": {}, "llm-hub": {"command": "old"}, "y": {}}}')
    assert desk.run() == 0
    assert "Another entry llm-hub was there" in desk.told
    assert list(desk.held[desk.outer]) == ["x", SERVER, "y"]

    second = desk.holds(first.replace(b"old", b"other"))
    third = desk.holds(first.replace(b"old", b"third")) if desk.run() == 0 else b""
    assert desk.run() == 0

    copies = [desk.file.with_name(name).read_bytes() for name in desk.beside]
    assert sorted(copies) == sorted([first, second, third])


@pytest.mark.parametrize("beyond", ["in another folder", "over another link", "to nothing yet"])
def test_a_link_stays_a_link(desk: Desk, beyond: str, tmp_path: Path) -> None:
    """What it leads to is changed, as those want it who keep such files elsewhere; the copy stays here."""
    desk.holds('{"mine": 1}')
    kept = tmp_path / "dotfiles" / "kept.json"
    kept.parent.mkdir()
    desk.file.rename(kept)
    if beyond == "to nothing yet":
        kept.unlink()
    if beyond == "over another link":
        (tmp_path / "between").symlink_to(kept)
    desk.file.symlink_to(tmp_path / "between" if beyond == "over another link" else kept)

    assert desk.run() == 0, desk.complaint

    assert desk.file.is_symlink()
    assert desk.entry["command"]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert desk.beside == ([] if beyond == "to nothing yet" else [desk.copy.name])


# What cannot be changed is left as it is -----------------------------------------------------------------------------


def _folder(desk: Desk) -> None:
    desk.file.mkdir(parents=True)


def _fifo(desk: Desk) -> None:
    desk.file.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(desk.file)


def _circle(desk: Desk) -> None:
    desk.file.parent.mkdir(parents=True, exist_ok=True)
    desk.file.symlink_to(desk.file)


def _nowhere(desk: Desk) -> None:
    desk.file.parent.mkdir(parents=True, exist_ok=True)
    desk.file.symlink_to("/no/such/folder/mcp.json")


def _huge(desk: Desk) -> None:
    desk.holds("{}")
    os.truncate(desk.file, 65 * 1024 * 1024)


def _folder_is_a_file(desk: Desk) -> None:
    if desk.client == "claude-code":  # whose file stands in the home itself
        _folder(desk)
        return
    desk.file.parent.parent.mkdir(parents=True, exist_ok=True)
    desk.file.parent.write_text("a file")


REFUSED: dict[str, tuple[Callable[[Desk], Any], str]] = {
    "a missing bracket": (lambda desk: desk.holds('{\n  "SERVERS": {"x": "secret"\n}\n'), "no JSON at line"),
    "two objects": (lambda desk: desk.holds("{}\n{}"), "no JSON at line 2, column 1"),
    "UTF-16": (lambda desk: desk.holds('{"SERVERS": {}}'.encode("utf-16")), "no JSON"),
    "a list": (lambda desk: desk.holds('["secret"]'), "no JSON object"),
    "another type at the key": (lambda desk: desk.holds('{"SERVERS": ["secret"]}'), "is no object"),
    "a number at the key": (lambda desk: desk.holds('{"SERVERS": 5}'), "is no object"),
    "null at the key": (lambda desk: desk.holds('{"SERVERS": null}'), "is no object"),
    "a depth that nobody means": (lambda desk: desk.holds('{"SERVERS": ' + "[" * 100_000), "no JSON"),
    "write-protection": (lambda desk: desk.holds("{}", 0o444), "write-protected"),
    "a folder in its place": (_folder, "it is a folder"),
    "a file in place of its folder": (_folder_is_a_file, "i"),
    "a pipe": (_fifo, "it is no file"),
    "a link to itself": (_circle, "i"),
    "a link to nowhere": (_nowhere, "whose folder is not there"),
    "a file that is too large": (_huge, "larger than 64 MiB"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_changed_stays_and_one_step_is_named(desk: Desk, home: Path, case: str) -> None:
    """With one coded error that quotes nothing of it; no copy, no leftover."""
    make, why = REFUSED[case]
    make(desk)

    def everything() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in home.rglob("*")
        }

    before = everything()

    assert desk.run() == EX_CONFIG

    assert everything() == before
    assert desk.told == ""
    assert why in desk.complaint
    assert "secret" not in desk.complaint
    assert desk.complaint.startswith(f"llm-mcp-hub: misconfigured: {desk.file} is left as it is: ")
    assert desk.complaint.endswith(f"llm-mcp-hub install {desk.client} --print\n")
    assert desk.run("--print") == 0
    assert json.loads(desk.told)[desk.outer][SERVER]


WITHOUT_RIGHTS = [] if os.geteuid() else ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
"""Root, who may do everything, in front of a program that may do what the modes allow."""


@pytest.mark.parametrize(
    ("what", "mode", "words"),
    [("file", 0o200, []), ("folder", 0o555, []), ("folder", 0o000, []), ("folder", 0o000, ["--remove"])],
)
def test_a_user_without_the_right_is_told(what: str, mode: int, words: list[str], world: World, home: Path) -> None:
    """By its real error, at the first thing that is not allowed."""
    folder = home / ".cursor"
    folder.mkdir()
    (folder / "mcp.json").write_text("{}")
    (folder / "mcp.json" if what == "file" else folder).chmod(mode)
    world.prefix = WITHOUT_RIGHTS
    world.changes = {"HOME": str(home)}

    ended = run_command(world, "install", "cursor", *words)

    assert ended.returncode == EX_CONFIG
    assert b"it cannot be read and replaced (Permission denied)" in ended.stderr
    assert (b"take llm-hub out of it yourself" in ended.stderr) is (words == ["--remove"])
    folder.chmod(0o700)
    (folder / "mcp.json").chmod(0o600)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("mcp.json", "{}")]


def access_list(user: int) -> bytes:
    """A POSIX access list as Linux keeps it: its owner may write, and this user may read."""
    nobody = 0xFFFFFFFF
    entries = [(0x01, 6, nobody), (0x02, 4, user), (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACL = "system.posix_acl_access"


def test_who_could_read_it_can_read_it_and_nobody_else(cursor: Desk) -> None:
    """Its access list and every other attribute stay, with the file and with its copy; the folder's list adds none."""
    cursor.holds("{}", 0o600)
    os.setxattr(cursor.file, ACL, access_list(4242))
    os.setxattr(cursor.file, "user.backup", b"daily")
    os.setxattr(cursor.file.parent, "system.posix_acl_default", access_list(4343))

    assert cursor.run() == 0

    for file in (cursor.file, cursor.copy):
        held = {name: os.getxattr(file, name) for name in os.listxattr(file) if not name.startswith("security.")}
        assert held == {ACL: access_list(4242), "user.backup": b"daily"}
    cursor.holds("{}", 0o644)
    os.removexattr(cursor.file, ACL)
    assert cursor.run() == 0
    assert ACL not in os.listxattr(cursor.file), "the folder's would let 4343 in"


def test_an_attribute_that_cannot_be_kept_leaves_the_file_as_it_is(
    cursor: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may have it and take no second one: told, with the way to do it by hand."""
    before = cursor.holds("{}")
    os.setxattr(cursor.file, "user.backup", b"daily")

    def full(*_given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "setxattr", full)

    assert cursor.run() == EX_CONFIG
    assert "left as it is: it cannot be read and replaced (its extended attribute user.backup" in cursor.complaint
    assert "install cursor --print" in cursor.complaint
    assert cursor.file.read_bytes() == before
    assert cursor.beside == []


def test_killed_in_the_middle_it_has_lost_nothing(cursor: Desk, home: Path) -> None:
    """Between the new file and its name: the old one is whole, and the next run does it."""
    before = cursor.holds('{"mine": 1}')
    script = (
        "import os, signal, sys; from pathlib import Path; from llm_mcp_hub.cli import main\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(['install', 'cursor'])"
    )

    killed = subprocess.run([sys.executable, "-c", script], timeout=DEADLINE_S, check=False)

    assert killed.returncode == -9
    assert cursor.file.read_bytes() == before
    assert cursor.copy.read_bytes() == before
    assert cursor.run() == 0
    assert cursor.entry["command"]


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    """The change is made to what is there at last; who never rests is told of."""
    file = tmp_path / "settings.json"
    file.write_text("1")
    file_writes = iter(["2", "3"])

    def change(text: str) -> str:
        file.write_text(next(file_writes, file.read_text()))
        return text + "!"

    done = client_file.edit(file, change)

    assert file.read_text() == "3!"
    assert done.backup is not None
    assert done.backup.read_text() == "3"

    def never_resting(text: str) -> str:
        file.write_text(text + "?")
        return text + "!"

    with pytest.raises(client_file.Unusable, match="another program keeps writing it"):
        client_file.edit(file, never_resting)
    assert set(file.read_text()) == set("3!?")
    assert sorted(path.name for path in tmp_path.glob("settings*")) == [file.name, done.backup.name]


def test_a_large_file_of_a_clients_is_changed_too(tmp_path: Path) -> None:
    """Claude Code's grows with what it is used for."""
    file = tmp_path / "settings.json"
    file.write_text("x" * (5 << 20))

    done = client_file.edit(file, lambda text: text + "!")

    assert done.changed
    assert file.stat().st_size == (5 << 20) + 1


def test_it_waits_while_its_client_writes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claude Code holds a folder beside its file meanwhile; one that nobody holds any more is taken away."""
    file, lock = home / ".claude.json", home / ".claude.json.lock"
    lock.mkdir()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        assert not file.exists()
        waited.append(seconds)
        lock.rmdir()

    monkeypatch.setattr(time, "sleep", sleep)
    assert install.install("claude-code").changed
    assert (len(waited), lock.exists()) == (1, False)

    lock.mkdir()
    os.utime(lock, (1, 1))
    assert not install.install("claude-code").changed
    assert (len(waited), lock.exists()) == (1, False)

    lock.mkdir()
    monkeypatch.setattr(client_file, "LOCK_S", -1.0)
    with pytest.raises(install.Misconfigured, match="another program holds"):
        install.install("claude-code")
    assert lock.exists()


# What is written -----------------------------------------------------------------------------------------------------


def test_it_prints_what_it_would_write_and_touches_nothing(desk: Desk, home: Path) -> None:
    """The JSON alone on stdout, where it belongs on stderr."""
    assert desk.run("--print") == 0

    printed = json.loads(desk.told)
    assert str(desk.file) in desk.complaint
    assert list(home.iterdir()) == []
    assert desk.run() == 0
    assert desk.held == printed


def test_a_token_goes_where_it_is_needed_and_is_never_shown(desk: Desk, tmp_path: Path) -> None:
    """VS Code asks its user for it. Where it stands in a file that others can read, that is told."""
    token_file = tmp_path / "token"
    token_file.write_text(CLIENT_TOKEN + "\n")
    words = ["--http", URL, "--token-file", str(token_file)]
    asks = CLIENTS[desk.client].asks_for_token

    assert desk.run(*words, "--print") == 0
    assert CLIENT_TOKEN not in desk.told + desk.complaint
    assert desk.run(*words) == 0
    assert CLIENT_TOKEN not in desk.told + desk.complaint

    text = desk.file.read_text()
    assert (f"Bearer {CLIENT_TOKEN}" in text) is not asks
    assert ("no file holds it" if asks else "The file holds the token as plain text, for you alone.") in desk.told
    assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600
    if asks:
        question = desk.held["inputs"][0]
        assert question["password"] is True
        assert f"${{input:{question['id']}}}" in desk.entry["headers"]["Authorization"]
        assert desk.run("--http", "https://other.example") == 0  # whose token is asked for, whether one is named or not
        assert [each["description"] for each in desk.held["inputs"]] == ["Client token of https://other.example/mcp"]
    desk.file.chmod(0o644)
    assert desk.run(*words) == 0
    assert (f"chmod 600 {desk.file}" in desk.told) is not asks
    assert desk.run("--remove") == 0
    assert not desk.held.get("inputs")
    assert CLIENT_TOKEN not in desk.file.read_text()
    copies = [
        desk.file.with_name(name) for name in desk.beside if CLIENT_TOKEN in desk.file.with_name(name).read_text()
    ]
    assert bool(copies) is not asks
    assert all(f"rm {copy}" in desk.told for copy in copies if copy.stat().st_mode & 0o077)


def test_a_copy_that_holds_a_token_and_others_can_read_is_told(cursor: Desk, tmp_path: Path) -> None:
    """Whatever takes the token's place; a copy without one is not spoken of."""
    token_file = tmp_path / "token"
    token_file.write_text(CLIENT_TOKEN)
    cursor.holds('{"SERVERS": {"files": {}}}', 0o644)

    assert cursor.run("--http", URL, "--token-file", str(token_file)) == 0
    assert f"chmod 600 {cursor.file}" in cursor.told
    assert "rm " not in cursor.told
    assert cursor.run() == 0
    [copy] = [name for name in cursor.beside if CLIENT_TOKEN in cursor.file.with_name(name).read_text()]
    assert f"The copy holds a token, and other users of this machine can read it: rm {cursor.file.with_name(copy)}" in (
        cursor.told
    )


def test_a_token_that_json_writes_otherwise_is_not_shown_either(desk: Desk, tmp_path: Path) -> None:
    """What is printed has a word in its place, and is the JSON that it is told to be."""
    (tmp_path / "token").write_text(STRANGE_TOKEN)

    assert desk.run("--http", URL, "--token-file", str(tmp_path / "token"), "--print") == 0

    assert "up-token" not in desk.told + desk.complaint
    assert (install.HIDDEN in desk.told) is not CLIENTS[desk.client].asks_for_token
    assert json.loads(desk.told)[desk.outer][SERVER]


def test_a_token_from_a_stdin_that_is_closed_is_none(cursor: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's `<&-`: told as any other that holds none, and nothing is written."""
    monkeypatch.setattr(sys, "stdin", None)

    assert cursor.run("--http", URL, "--token-file", "-") == EX_USAGE
    assert "holds no token" in cursor.complaint
    assert not cursor.file.exists()


def test_a_token_comes_from_stdin_too(world: World, home: Path) -> None:
    """As the hub's machine prints it: `ssh there llm-mcp-hub client add laptop | llm-mcp-hub install …`."""
    world.changes = {"HOME": str(home)}

    ended = run_command(world, "install", "cursor", "--http", URL, "--token-file", "-", stdin=CLIENT_TOKEN + "\n")

    assert ended.returncode == 0, ended.stderr
    headers = json.loads((home / ".cursor" / "mcp.json").read_text())["mcpServers"][SERVER]["headers"]
    assert headers == {"Authorization": f"Bearer {CLIENT_TOKEN}"}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/mcp"),
        ("http://localhost:8000/", "http://localhost:8000/mcp"),
        ("http://[::1]:8000/mcp", "http://[::1]:8000/mcp"),
        ("http://127.0.0.1/behind/a/proxy/mcp", "http://127.0.0.1/behind/a/proxy/mcp"),
    ],
)
def test_a_hub_of_this_machine_needs_no_token(cursor: Desk, given: str, written: str) -> None:
    """And its address may be given as `serve` prints it."""
    assert cursor.run("--http", given) == 0, cursor.complaint
    assert cursor.entry == {"url": written}
    assert "whoever is on the way" not in cursor.told
    assert "add --token-file FILE" in cursor.told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--http", URL], "lets nobody in without a client token"),
        (["--http", "hub.example:8000"], "no http:// or https:// address"),
        (["--http", "http://me:secret@127.0.0.1/mcp"], "has a user name in it"),
        (["--http", "127.0.0.1:8000"], "is no http:// or https:// address"),
        (["--http", "http://127.0.0.1:99999/mcp"], "no http:// or https:// address"),
        (["--http", "http://127.0.0.1/a b"], "no http:// or https:// address"),
        (["--http", "http://[::1/mcp"], "no http:// or https:// address"),
        (["--http", "file:///etc/passwd"], "no http:// or https:// address"),
        (["--token-file", "TOKEN"], "A token is for a hub over HTTP"),
        (["--http", URL, "--token-file", "/no/such/file"], "cannot be read"),
        (["--token-file", "/no/such/file"], "--http URL"),
        (["--http", URL, "--token-file", "TWO LINES"], "holds no token"),
        (["--remove", "--print"], "--remove goes with no other option"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(cursor: Desk, tmp_path: Path, words: list[str], says: str) -> None:
    """Before anything is written, and without quoting what may be a secret."""
    (tmp_path / "token").write_text(CLIENT_TOKEN)
    (tmp_path / "two").write_text("secret\nsecret")
    files = {"TOKEN": str(tmp_path / "token"), "TWO LINES": str(tmp_path / "two")}

    assert cursor.run(*(files.get(word, word) for word in words)) == EX_USAGE
    assert says in cursor.complaint
    assert "secret" not in cursor.complaint
    assert not cursor.file.exists()


def test_plain_http_to_another_machine_is_told(cursor: Desk, tmp_path: Path) -> None:
    """One sentence: whoever does that on a network of their own may."""
    (tmp_path / "token").write_text(CLIENT_TOKEN)

    assert cursor.run("--http", "http://hub.example:8000", "--token-file", str(tmp_path / "token")) == 0
    assert "whoever is on the way can read the token" in cursor.told


@pytest.mark.parametrize(("token", "told"), [(CLIENT_TOKEN, False), ("what-was-in-the-clipboard", True)])
def test_a_token_of_another_form_is_told(cursor: Desk, tmp_path: Path, token: str, told: bool) -> None:
    """A wrong paste, or one of a proxy before the hub: it is written, and not shown."""
    (tmp_path / "token").write_text(token)

    assert cursor.run("--http", URL, "--token-file", str(tmp_path / "token")) == 0
    assert ("no token that a hub has made (those begin with llmhub_)" in cursor.told) is told
    assert token not in cursor.told


def test_a_bridge_without_npx_is_not_written(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """It would fail in a program that shows no reason."""
    desktop = Desk("claude-desktop", home, capsys)
    monkeypatch.setenv("PATH", "/nowhere")

    assert desktop.run("--http", "http://127.0.0.1:8000") == EX_CONFIG
    assert "cli_missing" in desktop.complaint
    assert "Node.js" in desktop.complaint
    assert desktop.run("--http", "http://127.0.0.1:8000", "--print") == 0


def test_an_unknown_client_is_told_which_there_are(cursor: Desk) -> None:
    """By name."""
    assert cursor.run(client="emacs") == EX_USAGE
    assert ", ".join(CLIENTS) in cursor.complaint


def test_what_the_started_hub_will_not_find_is_told(cursor: Desk, home: Path, monkeypatch: Any) -> None:
    """It sees files, and nothing of this shell: a login that is only exported, a state folder that is only set here."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("HUB_STATE_DIR", str(home / "elsewhere"))
    SavedLogins(home / "elsewhere").put("claude", Saved(TOKEN))
    assert cursor.run() == 0
    assert "run `llm-mcp-hub login claude`" in cursor.told
    assert "An exported CLAUDE_CODE_OAUTH_TOKEN is not enough" in cursor.told
    assert "run `llm-mcp-hub login gemini`" in cursor.told
    assert "HUB_STATE_DIR. Put" in cursor.told
    assert TOKEN not in cursor.told

    monkeypatch.delenv("HUB_STATE_DIR")
    SavedLogins(load().hub_state_dir).put("claude", Saved(TOKEN))
    assert cursor.run() == 0
    assert "login claude" not in cursor.told


@pytest.mark.usefixtures("home")
def test_what_stands_in_the_settings_file_too_is_no_stumble(cursor: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has done as told is not told again; another value is."""
    own_file().parent.mkdir(parents=True)
    own_file().write_text("HUB_WAIT_S=20\n")
    own_file().chmod(0o600)
    monkeypatch.setenv("HUB_WAIT_S", "20")
    assert cursor.run() == 0
    assert "in this shell alone" not in cursor.told

    monkeypatch.setenv("HUB_WAIT_S", "30")
    assert cursor.run() == 0
    assert "in this shell alone, which Cursor may not hand on: HUB_WAIT_S." in cursor.told


def test_a_settings_file_is_handed_on_by_its_whole_path(
    cursor: Desk, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client starts the hub in a folder of its own; and it must be there."""
    (home / "hub.env").write_text(f"CLAUDE_CODE_OAUTH_TOKEN={TOKEN}\n")
    monkeypatch.chdir(home)

    assert cli.main(["--env-file", "hub.env", "install", "cursor"]) == 0
    assert cursor.entry["args"] == ["--env-file", str(home / "hub.env")]
    assert "login claude" not in capsys.readouterr().out
    assert cli.main(["--env-file", "none.env", "install", "cursor"]) == EX_CONFIG
    assert cursor.entry["args"] == ["--env-file", str(home / "hub.env")]


def test_the_clients_of_this_machine_are_found(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their programs, or by what they leave in a home."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.found_clients() == ()
    for folder in (".cursor", ".config/Claude", ".config/Code/User"):
        (home / folder).mkdir(parents=True)
    for program in ("claude", "gemini"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)

    assert install.found_clients() == tuple(CLIENTS)
