"""What is put before a prompt: kinds, bounds, names, diffs and attachments. Real files, real git, no other program.

Tries to read what may not be read stand in `tests/guarantees/test_file_roots.py`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import Part
from llm_mcp_hub.errors import InvalidRequest, Misconfigured, Timeout
from llm_mcp_hub.main import editors_roots
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import Attachment, Material, attachment, default_roots
from llm_mcp_hub.material.repository import settings
from llm_mcp_hub.material.rules import Unreadable, any_refused, holds_secret, is_text_type, kind, shown, text_of

DEADLINE_S = 120.0
KINDS = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0IEND",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(8) + b"\xff\xd9",
    "image/webp": b"RIFF\x1a\0\0\0WEBPVP8L" + bytes(18),
    "image/gif": b"GIF89a\1\0\1\0\0\0\0;",
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n%%EOF\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The one folder that files may be read from."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def repo(root: Path) -> Path:
    """The same, as a git work tree with one commit."""
    git(root, "init", "-q", "-b", "main")
    (root / "kept.txt").write_text("one\ntwo\nthree\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def git(at: Path, *command: str) -> str:
    """Git as the repository's owner uses it."""
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.c",
    }
    run = subprocess.run(
        ["git", *command],
        cwd=at,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_ALLOW_PROTOCOL": "file", **who},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def gather(
    *roots: Path,
    files: Sequence[str] = (),
    diff: GitDiff | None = None,
    attachments: Sequence[Attachment] = (),
    takes: Sequence[str] = tuple(KINDS),
    closed: Sequence[Path] = (),
) -> tuple[Part, ...]:
    """What one request gets."""
    material = Material(roots, around={"PATH": os.environ["PATH"]}, closed=closed)
    wanted = material.gather(provider="claude", takes=takes, files=files, git_diff=diff, attachments=attachments)
    return asyncio.run(asyncio.wait_for(wanted, DEADLINE_S))


def diff_of(root: Path, base: str | None = None, *paths: str) -> str:
    """The text of a diff."""
    (part,) = gather(root, diff=GitDiff(base, paths))
    assert part.text is not None
    return part.text


def refused(*roots: Path, **wanted: object) -> InvalidRequest:
    """The error that a request ends in."""
    with pytest.raises(InvalidRequest) as raised:
        gather(*roots, **wanted)  # pyright: ignore[reportArgumentType]
    assert raised.value.provider == "claude"
    return raised.value


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# -- kinds and names, pure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mime_type", "data"), KINDS.items())
def test_an_image_or_pdf_is_told_by_its_first_bytes(mime_type: str, data: bytes) -> None:
    """A wrong extension neither hides nor makes one."""
    assert kind(data) == mime_type
    assert kind(b" " + data) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"plain\r\n", "plain\r\n"),
        ("한국어 😀".encode(), "한국어 😀"),
        ("\ufeffmarked".encode(), "marked"),
        ("wide 한".encode("utf-16"), "wide 한"),
        (b"\xfe\xff" + "big".encode("utf-16-be"), "big"),
        ("wide".encode("utf-16-le"), None),
        ("very wide".encode("utf-32"), None),
        (b"\xff\xfea", None),
        (b"\xff\xfe\x00\xd8", None),
        (b"nul\0", None),
        ("\ufeffnul\0".encode("utf-16"), None),
        ("é".encode("latin-1"), None),
        (b"\xed\xa0\x80", None),
        (b"\x7fELF\x02\x01", "\x7fELF\x02\x01"),
    ],
)
def test_text_is_what_can_be_read_as_unicode(data: bytes, text: str | None) -> None:
    """UTF-8, or UTF-16 that says so; no guess at anything else, and no NUL."""
    assert text_of(data) == text


@given(st.text())
def test_any_text_is_read_back_as_it_was_written(text: str) -> None:
    """Verbatim, but for the mark that is no part of it."""
    expected = None if "\0" in text else text
    assert text_of(b"\xef\xbb\xbf" + text.encode()) == expected
    assert text_of(b"\xff\xfe" + text.encode("utf-16-le")) == expected


@pytest.mark.parametrize(
    "path",
    [
        *[".env", ".env.local", ".ENVRC", "prod.env", "a/.Env/b", ".env.", "．ｅｎｖ", ".e\u200bnv"],
        *["id_rsa", "ID_ED25519.old", "tls/server.PEM", "x.key", "x.p12", "x.pfx", "x.kdbx", "x.ppk"],
        *[".netrc", ".npmrc", ".pypirc", ".git-credentials", "sub/credentials.json", "oauth_creds.json"],
        *[".aws/config", ".ssh/known_hosts", ".gnupg/x", ".kube/config", ".claude/x", ".gemini/x", ".git/HEAD", ".GIT"],
        *[".docker/config.json", ".config/gcloud/x", ".config/gh/hosts.yml", "a/.local/state/llm-mcp-hub/x"],
    ],
)
def test_names_of_keys_and_logins_are_refused(path: str) -> None:
    """Wherever they stand, in any case, and in spellings that a file system takes for the same."""
    assert any_refused(["project", *path.split("/")])


@pytest.mark.parametrize(
    "path",
    [
        *[
            "environment.py",
            "env",
            "my.env.py",
            "credentials/claude.py",
            "credentials.py",
            "keys.py",
            "key",
            "id_card.txt",
        ],
        *[".gitignore", ".github/workflows/ci.yml", ".gitattributes", "config.json", "docker/config.json", "gcloud/x"],
        *["llm-mcp-hub/x", "한국어/파일.md", "ssh/config", "gemini.md", "CLAUDE.md", ".dockerignore", "x.pem.md"],
    ],
)
def test_names_that_only_look_alike_are_not(path: str) -> None:
    """A rule that refuses ordinary sources would be switched off."""
    assert not any_refused(["project", *path.split("/")])


SECRETS = {
    "a private key": "-----BEGIN PRIVATE KEY-----\nMIIE",
    "one of a kind": "x = '-----BEGIN RSA PRIVATE KEY-----'",
    "OpenSSH's": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "PGP's": "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "PuTTY's": "PuTTY-User-Key-File-3: ssh-ed25519",
    "a setup-token": "token: sk-ant-oat01-" + "madeup" * 14,
    "an API key": "sk-ant-api03-" + "x" * 90,
    "a Google login": '{"refresh_token": "1//0made-up"}',
    "a Google access token": "Bearer ya29." + "a0made-up" * 5,
    "a GitHub token": "ghp_" + "m" * 36,
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_keys_and_logins_are_told_by_their_content(text: str) -> None:
    """In any text, also a wide one, and between bytes that are none."""
    assert holds_secret(text.encode())
    assert holds_secret(text.encode("utf-16"))
    assert holds_secret(b"\x89PNG\r\n\x1a\n\0\xff" + text.encode())


@pytest.mark.parametrize(
    "text",
    ["-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "set sk-ant-oat01-… here", "PRIVATE KEY", "sk-ant-"],
)
def test_talk_about_keys_is_no_key(text: str) -> None:
    """Documents that explain a login can be read."""
    assert not holds_secret(text.encode())


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("src/한국어.py", "src/한국어.py"),
        ("a\nb\x1b[2Jc\u202ed", "a\ufffdb\ufffd[2Jc\ufffdd"),
        ("x" * 100, "x" * 100),
        ("a" * 50 + "b" * 51, "a" * 40 + "…" + "a" * 8 + "b" * 51),
    ],
)
def test_a_name_is_shown_on_one_line_and_short(name: str, seen: str) -> None:
    """An error must not steer a terminal, nor be longer than what it says."""
    assert shown(name) == seen


@pytest.mark.parametrize("mime_type", ["text/plain", "text/x-python", "application/json", "image/svg+xml"])
def test_types_of_text_are_known(mime_type: str) -> None:
    """Clients call a text by what it is about."""
    assert is_text_type(mime_type)


@pytest.mark.parametrize("mime_type", ["", "text", "text/", "image/png", "application/zip", "a/b\n", "text/plain\n"])
def test_other_types_are_no_text(mime_type: str) -> None:
    """Neither is what is no type at all."""
    assert not is_text_type(mime_type)


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_come_in_order_with_their_names_and_kinds(root: Path) -> None:
    """As the caller called them; a kind is told by content and not by a name."""
    write(root / "src" / "main.py", "print('한')\r\n")
    write(root / "photo.txt", KINDS["image/png"])
    write(root / "wide.md", "wide".encode("utf-16"))

    parts = gather(root, files=["src/../src/main.py", "photo.txt", str(root / "wide.md"), "./src//main.py"])

    assert parts == (
        Part(name="src/../src/main.py", mime_type="text/plain", text="print('한')\r\n"),
        Part(name="photo.txt", mime_type="image/png", data=KINDS["image/png"]),
        Part(name=str(root / "wide.md"), mime_type="text/plain", text="wide"),
        Part(name="./src//main.py", mime_type="text/plain", text="print('한')\r\n"),
    )


def test_nothing_asked_for_is_nothing() -> None:
    """Also without roots, and without git."""
    assert (
        asyncio.run(Material((), around={}).gather(provider="x", takes=(), files=(), git_diff=None, attachments=()))
        == ()
    )


def test_links_inside_the_roots_are_followed(tmp_path: Path, root: Path) -> None:
    """Relative, absolute, to folders, over several, and from one root into another."""
    other = tmp_path / "other"
    write(other / "far.txt", "far")
    write(root / "deep" / "er" / "near.txt", "near")
    (root / "relative").symlink_to("deep/er/near.txt")
    (root / "absolute").symlink_to(root / "deep" / "er" / "near.txt")
    (root / "folder").symlink_to("deep")
    (root / "folder2").symlink_to("folder/er/../er")
    (root / "up").symlink_to(f"../{root.name}/relative")
    (root / "other").symlink_to(other)
    near = ["relative", "absolute", "folder/er/near.txt", "folder2/near.txt", "up"]

    parts = gather(root, other, files=[*near, "other/far.txt"])

    assert [part.text for part in parts] == ["near"] * 5 + ["far"]


def test_a_root_may_be_named_by_a_link(tmp_path: Path, root: Path) -> None:
    """A path that begins as the root was given is in it, as is one by its real name."""
    write(root / "a.txt", "a")
    (tmp_path / "short").symlink_to(root)

    parts = gather(tmp_path / "short", files=["a.txt", str(tmp_path / "short" / "a.txt"), str(root / "a.txt")])

    assert [part.text for part in parts] == ["a", "a", "a"]


def test_a_relative_path_starts_at_the_first_root(tmp_path: Path, root: Path) -> None:
    """And an error says so where there are several."""
    write(tmp_path / "second" / "b.txt", "b")

    error = refused(root, tmp_path / "second", files=["b.txt"])

    assert error.message.startswith('"b.txt" is not in the first file root, where relative paths start')
    assert error.action == "Give its absolute path."
    assert gather(root, tmp_path / "second", files=[str(tmp_path / "second" / "b.txt")])[0].text == "b"


def test_an_inner_root_is_open_though_the_outer_one_would_refuse_its_name(root: Path) -> None:
    """Rules of names hold below the root: whoever names a folder means it."""
    write(root / ".claude" / "plans" / "a.txt", "a")

    assert "is refused" in refused(root, files=[".claude/plans/a.txt"]).message
    assert gather(root, root / ".claude" / "plans", files=[".claude/plans/a.txt"])[0].text == "a"


def test_what_is_closed_is_not_read_unless_a_root_is_further_inside(root: Path) -> None:
    """The hub's own folders, whatever they are called; a project inside one is a project."""
    write(root / "state" / "saved.txt", "a")
    write(root / "state" / "project" / "a.txt", "a")

    assert "is refused" in refused(root, closed=[root / "state"], files=["state/saved.txt"]).message
    assert "is refused" in refused(root, closed=[root], files=["state/saved.txt"]).message
    assert gather(root / "state" / "project", closed=[root / "state"], files=["a.txt"])[0].text == "a"


def test_what_takes_longer_than_the_ask_has_is_a_timeout(tmp_path: Path) -> None:
    """The deadline counts from the ask's arrival, what is read for it included."""
    (tmp_path / "notes.txt").write_text("here")
    material = Material((tmp_path,), around={})

    with pytest.raises(Timeout) as raised:
        asyncio.run(
            material.gather(
                provider="claude", takes=(), files=["notes.txt"], git_diff=None, attachments=(), within_s=0.0
            )
        )

    assert (raised.value.provider, "timeout_s" in raised.value.action) == ("claude", True)


def test_without_roots_an_error_says_how_they_are_set(root: Path) -> None:
    """And what works without."""
    for wanted in ({"files": ["a"]}, {"diff": GitDiff(None)}):
        error = refused(**wanted)
        assert "HUB_FILE_ROOTS" in error.action
        assert "--files-root" not in error.action, "there is no such option"
        assert "attachments" in error.action


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x7fELF\x02\x01\0\0", "is no text, image or PDF by its content"),
        ("é".encode("latin-1"), "is no text, image or PDF by its content"),
        (b"-----BEGIN PRIVATE KEY-----", "holds a key or a login"),
    ],
)
def test_a_content_that_is_not_taken_is_refused_by_name_and_reason(root: Path, content: bytes, reason: str) -> None:
    """One reason, one next step, and nothing of the content."""
    write(root / "x.txt", content)

    error = refused(root, files=["x.txt"])

    assert error.message == f'"x.txt" {reason}.'
    assert error.action
    assert "BEGIN" not in error.message + error.action


def test_a_kind_that_the_provider_does_not_take_is_refused_with_those_it_takes(root: Path) -> None:
    """The caller learns what to send instead, and whom it concerns."""
    write(root / "a.gif", KINDS["image/gif"])

    error = refused(root, files=["a.gif"], takes=["application/pdf", "image/png"])

    assert error.message == '"a.gif" is of a kind (image/gif) that claude does not take.'
    assert error.action == "Leave it out: claude takes texts, PNG images, PDF files."


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_hundred_files_are_taken_and_no_more(root: Path) -> None:
    """The bound is where it is said to be."""
    write(root / "a", "a")

    assert len(gather(root, files=["a"] * 100)) == 100
    assert refused(root, files=["a"] * 101).message == "files: at most 100 are taken."


def test_ten_megabytes_of_a_file_are_taken_and_no_more(root: Path) -> None:
    """By its size; a file of holes is as large as it says."""
    picture = KINDS["image/png"]
    write(root / "full", picture + b"x" * (10_000_000 - len(picture)))
    write(root / "over", picture + b"x" * (10_000_001 - len(picture)))
    with (root / "holes").open("wb") as file:
        file.truncate(10_000_000_000)

    assert len(gather(root, files=["full"])[0].data or b"") == 10_000_000
    for name in ("over", "holes"):
        assert refused(root, files=[name]).message == f'"{name}" is larger than 10 MB.'


def test_a_file_that_grows_while_it_is_read_is_bounded_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is only what it was: here it grows between the last look at it and the first read."""
    write(root / "log", "a")
    really_read = os.read

    def grown(descriptor: int, length: int) -> bytes:
        monkeypatch.undo()
        with (root / "log").open("ab") as file:
            file.write(b"a" * 10_000_000)
        return really_read(descriptor, length)

    monkeypatch.setattr(os, "read", grown)

    assert refused(root, files=["log"]).message == '"log" is larger than 10 MB.'


def test_two_million_characters_of_text_are_taken_and_no_more(root: Path) -> None:
    """Of all texts together, counted as characters, and the name that is too much is said."""
    write(root / "half", "한" * 1_000_000)
    write(root / "one", "a")
    note = attachment("note", "text/plain", "a", None, "claude")

    assert sum(part.size for part in gather(root, files=["half", "half"])) == 2_000_000
    assert refused(root, files=["half", "half", "one"]).message.startswith('With "one" the texts are longer than 2,000')
    assert refused(root, files=["half", "half"], attachments=[note]).message.startswith('With "note" the texts')


@pytest.mark.parametrize("mime_type", list(KINDS))
def test_what_is_cut_off_or_only_begins_like_a_picture_is_refused(root: Path, mime_type: str) -> None:
    """A CLI would leave it out without a word, and the ask would be spent."""
    whole = KINDS[mime_type]
    material = Material((root,), around={})

    def taken(data: bytes) -> bool:
        write(root / "a", data)
        with contextlib.suppress(InvalidRequest):
            wanted = material.gather(provider="x", takes=list(KINDS), files=["a"], git_diff=None, attachments=())
            return bool(asyncio.run(wanted))
        return False

    assert taken(whole)
    assert not taken(whole[: len(whole) * 3 // 4])
    assert not taken(whole[:12] + b"junk" * 9)


def test_all_images_together_are_bounded(root: Path) -> None:
    """A hundred files of ten megabytes would be more than any provider takes, and the hub's memory."""
    write(root / "a", KINDS["image/png"] + b"x" * 9_999_000)

    assert len(gather(root, files=["a"] * 3)) == 3
    assert refused(root, files=["a"] * 4).message == 'With "a" images and PDF files are larger than 32 MB.'


def test_attachments_are_bounded_all_together() -> None:
    """Text counts as the bytes that it is."""
    half = Attachment("a", "text/plain", "한" * 1_000_000, None)
    more = Attachment("b", "image/png", None, KINDS["image/png"] + b"x" * (7_000_000 - len(KINDS["image/png"])))
    one = Attachment("c", "text/plain", "a", None)

    assert len(gather(attachments=[half, more])) == 2
    assert refused(attachments=[half, more, one]).message == "attachments: all together are larger than 10 MB."
    assert refused(attachments=[one] * 101).message == "attachments: at most 100 are taken."


def test_the_event_loop_goes_on_while_files_are_read(root: Path) -> None:
    """Other asks stream meanwhile: a FIFO in the way of a thread does not stop them."""
    write(root / "a", KINDS["image/png"] + b"x" * 9_999_000)
    turns = 0

    async def both() -> None:
        nonlocal turns
        material = Material((root,), around={})
        wanted = material.gather(provider="claude", takes=["image/png"], files=["a"] * 3, git_diff=None, attachments=())
        gathering = asyncio.ensure_future(wanted)
        while not gathering.done():
            await asyncio.sleep(0)
            turns += 1
        await gathering

    asyncio.run(asyncio.wait_for(both(), DEADLINE_S))

    assert turns > 3


def test_no_descriptor_stays_open(root: Path) -> None:
    """Whether a file was taken or refused, however deep it was and wherever its way went wrong."""
    write(root / "a" / "b" / "c.txt", "c")
    (root / "a" / "circle").symlink_to("circle")
    (root / "a" / "out").symlink_to("/")
    os.mkfifo(root / "a" / "fifo")
    gather(root, files=["a/b/c.txt"])  # whatever a first time opens for good
    before = psutil.Process().num_fds()

    gather(root, files=["a/b/c.txt"])
    for name in ("a/b", "a/nothing", "a/b/c.txt/d", "a/circle", "a/out/etc", "a/fifo", "a/../../x"):
        refused(root, files=[name])

    assert psutil.Process().num_fds() == before


# -- attachments -------------------------------------------------------------------------------------------------------


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_attachments_are_text_or_data() -> None:
    """Data that is a text becomes one; a type is kept without its parameters."""
    sent = [
        attachment("notes", "text/markdown", "# 한", None, "claude"),
        attachment("a.png", "Image/PNG", None, encoded(KINDS["image/png"]), "claude"),
        attachment("b.jpg", "image/jpg", None, encoded(KINDS["image/jpeg"]), "claude"),
        attachment("c.json", "application/json; charset=utf-8", None, encoded(b"{}"), "claude"),
        attachment("d", "text/plain", "%PDF-1.7 as a text", None, "claude"),
    ]

    assert gather(attachments=sent) == (
        Part(name="notes", mime_type="text/markdown", text="# 한"),
        Part(name="a.png", mime_type="image/png", data=KINDS["image/png"]),
        Part(name="b.jpg", mime_type="image/jpeg", data=KINDS["image/jpeg"]),
        Part(name="c.json", mime_type="application/json", text="{}"),
        Part(name="d", mime_type="text/plain", text="%PDF-1.7 as a text"),
    )


BAD_ATTACHMENTS: dict[str, tuple[tuple[str, str, str | None, str | None], str]] = {
    "no name": (("", "text/plain", "a", None), "is no name"),
    "a blank name": ((" \u3000", "text/plain", "a", None), "is no name"),
    "a long name": (("n" * 256, "text/plain", "a", None), "is no name"),
    "a line end in the name": (("a\nb", "text/plain", "a", None), "is no name"),
    "another line end": (("a\u2028b", "text/plain", "a", None), "is no name"),
    "an escape in the name": (("a\x1b[2J", "text/plain", "a", None), "is no name"),
    "half of a character in the name": (("a\ud83d", "text/plain", "a", None), "is no name"),
    "both": (("a", "text/plain", "a", "YQ=="), "has both text and data, or neither"),
    "neither": (("a", "text/plain", None, None), "has both text and data, or neither"),
    "an unknown type": (("a", "application/zip", None, "YQ=="), "has a mime_type that is not taken"),
    "text as an image": (("a", "image/png", "a", None), "has a mime_type that is not taken"),
    "no type": (("a", "", "a", None), "has a mime_type that is not taken"),
    "no base64": (("a", "text/plain", None, "secret!"), "has data that is not base64"),
    "base64 in lines": (("a", "text/plain", None, "YWFh\nYWFh"), "has data that is not base64"),
    "base64 without padding": (("a", "text/plain", None, "YQ"), "has data that is not base64"),
    "base64 for addresses": (("a", "text/plain", None, "_-8="), "has data that is not base64"),
    "base64 beyond ASCII": (("a", "text/plain", None, "한국"), "has data that is not base64"),
    "a data address": (("a", "image/png", None, "data:image/png;base64,YQ=="), "has data that is not base64"),
    "too much": (("a", "image/png", None, "A" * 13_333_340), "is larger than 10 MB"),
    "NUL": (("a", "text/plain", "a\0", None), "is no text: it holds NUL or half of a character"),
    "half a character": (("a", "text/plain", "\ud83d", None), "is no text: it holds NUL or half of a character"),
}


@pytest.mark.parametrize(("sent", "reason"), BAD_ATTACHMENTS.values(), ids=BAD_ATTACHMENTS)
def test_an_attachment_that_is_not_sound_is_refused_with_its_reason(
    sent: tuple[str, str, str | None, str | None], reason: str
) -> None:
    """Named as it was called, and with nothing of its content."""
    with pytest.raises(InvalidRequest) as raised:
        attachment(*sent, "claude")

    assert raised.value.message == f'attachments: "{shown(sent[0])}" {reason}.'
    assert raised.value.provider == "claude"
    assert raised.value.action
    assert "secret" not in str(raised.value.details())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (("a", "image/png", None, encoded(KINDS["image/gif"])), "is image/gif by its content and not image/png"),
        (("a", "image/png", None, encoded(b"text")), "is a text by its content and not image/png"),
        (("a", "text/plain", None, encoded(KINDS["image/gif"])), "is image/gif by its content and not text/plain"),
        (("a", "text/plain", None, encoded(b"\0")), "is no text, image or PDF by its content"),
        (("a", "image/gif", None, encoded(KINDS["image/gif"])), "is of a kind (image/gif) that claude does not take"),
        (("a", "image/png", None, ""), "is a text by its content and not image/png"),
    ],
)
def test_the_content_of_an_attachment_must_be_what_it_says(
    sent: tuple[str, str, str | None, str | None], reason: str
) -> None:
    """A provider would refuse it, or take it for something else."""
    given = attachment(*sent, "claude")

    assert refused(attachments=[given], takes=["image/png"]).message == f'attachments: "a" {reason}.'


def test_everything_comes_in_the_order_files_diff_attachments(repo: Path) -> None:
    """What the prompt says about "the file above" must be true."""
    write(repo / "kept.txt", "one\n")

    parts = gather(
        repo, files=["kept.txt"], diff=GitDiff(None), attachments=[attachment("n", "text/plain", "n", None, "claude")]
    )

    assert [(part.name, part.mime_type) for part in parts] == [
        ("kept.txt", "text/plain"),
        ("git diff HEAD", "text/x-diff"),
        ("n", "text/plain"),
    ]


# -- diffs -------------------------------------------------------------------------------------------------------------


def test_a_diff_is_what_git_shows(repo: Path) -> None:
    """Changed, added, removed, renamed, with mode, as a link, in wide characters, staged or not: in git's words."""
    write(repo / "gone.txt", "gone\n")
    write(repo / "moved.txt", "".join(f"line {n}\n" for n in range(30)))
    write(repo / "크다.txt", "하나\n")
    write(repo / "run.sh", "#!/bin/sh\n")
    write(repo / "dos.bat", "one\r\n")
    write(repo / ".gitattributes", "*.bat text eol=crlf\n*.lock -diff\n")
    write(repo / "a.lock", "1\n")
    write(repo / "deep" / "er" / "x", "x\n")
    write(repo / "picture", KINDS["image/png"])
    (repo / "link").symlink_to("kept.txt")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "second")
    (repo / "gone.txt").unlink()
    git(repo, "mv", "moved.txt", "moved2.txt")
    write(repo / "크다.txt", "하나\n둘\n")
    (repo / "run.sh").chmod(0o755)
    write(repo / "dos.bat", "one\r\ntwo\r\n")
    write(repo / "a.lock", "2\n")
    (repo / "link").unlink()
    (repo / "link").symlink_to("/nowhere")
    write(repo / "picture", KINDS["image/gif"])
    (repo / "deep" / "er" / "x").unlink()
    (repo / "deep" / "er").rmdir()
    write(repo / "deep" / "er", "a file where a folder was\n")
    write(repo / "staged.txt", "staged\n")
    git(repo, "add", "staged.txt", "deep")
    os.utime(repo / "kept.txt")
    theirs = git(repo, "-c", "core.quotePath=false", "diff", "-M", "HEAD")

    text = diff_of(repo)

    assert theirs.count("diff --git") == 11
    assert "Binary files a/picture and b/picture differ" in theirs
    assert "rename to moved2.txt" in theirs
    title, _, body = text.partition("\n\n")
    assert title == f"Working tree against HEAD ({git(repo, 'rev-parse', 'HEAD')[:12]})."
    assert body == theirs


def test_a_diff_against_a_base_shows_what_was_committed_since(repo: Path) -> None:
    """By any name of a commit; the work tree stands on the other side."""
    git(repo, "tag", "-a", "v1", "-m", "v1")
    first = git(repo, "rev-parse", "HEAD").strip()
    write(repo / "kept.txt", "one\ntwo\n")
    git(repo, "commit", "-q", "-a", "-m", "second")
    git(repo, "pack-refs", "--all")
    git(repo, "gc", "-q")
    write(repo / "kept.txt", "one\n")

    for base in ("v1", "main~1", first, first[:10], "HEAD^", "refs/tags/v1"):
        assert "-two\n-three\n" in diff_of(repo, base)
    assert "-three" not in diff_of(repo, "main")


def test_untracked_files_are_named_and_not_shown(repo: Path) -> None:
    """A reviewer who is not told of a new file would review without it."""
    write(repo / ".gitignore", "*.log\n")
    write(repo / ".git" / "info" / "exclude", "mine\n")
    write(repo / "new.py", "CONTENT")
    write(repo / "x.log", "CONTENT")
    write(repo / "mine", "CONTENT")
    write(repo / "build" / "deep" / "out", "CONTENT")

    text = diff_of(repo)

    assert text.endswith("Untracked, not shown:\n  .gitignore\n  build/\n  new.py\n\n")
    assert "CONTENT" not in text
    assert diff_of(repo, None, "build/deep/out", "new.py", "no/such").endswith(":\n  build/\n  new.py\n\n")


def test_long_lists_of_names_say_how_many_more_there_are(repo: Path) -> None:
    """Nothing is cut in silence."""
    for number in range(1005):
        write(repo / f"{number:04}", "")

    assert "\n  0999\n  and 5 more\n" in diff_of(repo)


def test_a_diff_is_of_the_paths_asked_for(repo: Path) -> None:
    """Files, folders, relative or absolute, one that is gone, a link by its own name; patterns are names."""
    for name in ("a.txt", "b.txt", "sub/c.txt", "sub/d.txt", "*.txt"):
        write(repo / name, "old\n")
    (repo / "link").symlink_to("a.txt")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "second")
    for name in ("a.txt", "b.txt", "sub/c.txt", "*.txt"):
        write(repo / name, "new\n")
    (repo / "sub" / "d.txt").unlink()
    (repo / "link").unlink()
    (repo / "link").symlink_to("b.txt")

    def changed(*paths: str) -> list[str]:
        lines = diff_of(repo, None, *paths).splitlines()
        return [line.rpartition(" b/")[2] for line in lines if line.startswith("diff --git")]

    assert changed("a.txt", "sub") == ["a.txt", "sub/c.txt", "sub/d.txt"]
    assert changed(str(repo / "sub" / "d.txt")) == ["sub/d.txt"]
    assert changed("./sub/../b.txt") == ["b.txt"]
    assert changed("no/such/folder", "b.txt") == ["b.txt"]
    assert changed("*.txt") == ["*.txt"]
    assert "link" in changed("link")
    assert changed(".") == changed()
    for pattern in (":(top)a.txt", ":/", ":!a.txt", ""):
        assert refused(repo, diff=GitDiff(None, (pattern,))).message == f'git_diff: "{pattern}" is no path.'


def test_a_root_below_the_work_trees_first_folder_shows_its_own_part(repo: Path) -> None:
    """What lies beside the root is neither shown nor named."""
    write(repo / "sub" / "in.txt", "old\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "second")
    write(repo / "sub" / "in.txt", "new\n")
    write(repo / "kept.txt", "CHANGED")
    write(repo / "beside", "")
    write(repo / "sub" / "untracked", "")

    text = diff_of(repo / "sub")

    assert "+++ b/sub/in.txt" in text
    assert "  sub/untracked\n" in text
    assert "CHANGED" not in text
    assert "kept.txt" not in text
    assert "beside" not in text


def test_the_repository_is_that_of_the_first_root_that_is_in_one(tmp_path: Path, repo: Path) -> None:
    """A root of documents may come first."""
    (tmp_path / "documents").mkdir()
    write(repo / "kept.txt", "changed\n")

    (part,) = gather(tmp_path / "documents", repo, diff=GitDiff(None))

    assert "+changed" in (part.text or "")
    error = refused(tmp_path / "documents", diff=GitDiff(None))
    assert error.message == "git_diff: no file root is in a git work tree."


def test_before_the_first_commit_everything_is_new(root: Path) -> None:
    """A project begins without a HEAD."""
    git(root, "init", "-q", "-b", "main")
    write(root / "a", "one\n")
    git(root, "add", "a")
    write(root / "a", "two\n")

    text = diff_of(root)

    assert text.startswith("Working tree; nothing is committed yet.\n")
    assert "new file" in text
    assert "+two" in text
    assert "there is no commit" in refused(root, diff=GitDiff("main")).message


def test_no_difference_is_said_before_a_question_is_spent(repo: Path) -> None:
    """A review of nothing costs as much as one of something."""
    os.utime(repo / "kept.txt")

    error = refused(repo, diff=GitDiff(None))

    assert error.message == "git_diff: there is no difference between the working tree and HEAD."
    assert "no difference" in refused(repo, diff=GitDiff(None, ("nothing",))).message


def conflict(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    write(repo / "kept.txt", "theirs\n")
    git(repo, "commit", "-q", "-a", "-m", "theirs")
    git(repo, "checkout", "-q", "main")
    write(repo / "kept.txt", "ours\n")
    git(repo, "commit", "-q", "-a", "-m", "ours")
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "merge", "-q", "other"],
        cwd=repo, capture_output=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def long_and_sparse(repo: Path) -> None:
    write(repo / "far" / "x", "x\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "second")
    git(repo, "sparse-checkout", "set", "near")
    write(repo / "kept.txt", "theirs\n")


def split_index(repo: Path) -> None:
    git(repo, "update-index", "--split-index")
    write(repo / "kept.txt", "theirs\n")


def intended(repo: Path) -> None:
    write(repo / "new", "theirs\n")
    git(repo, "add", "-N", "new")


def not_on_a_branch(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    write(repo / "kept.txt", "theirs\n")


def modes_that_mean_nothing(repo: Path) -> None:
    git(repo, "config", "core.fileMode", "false")
    (repo / "kept.txt").chmod(0o755)
    write(repo / "kept.txt", "theirs\n")


def line_ends_of_another_system(repo: Path) -> None:
    git(repo, "config", "core.autocrlf", "true")
    write(repo / "kept.txt", "one\r\ntwo\r\nthree\r\ntheirs\r\n")


@pytest.mark.parametrize(
    "state",
    [
        *[conflict, long_and_sparse, split_index, intended, not_on_a_branch],
        *[modes_that_mean_nothing, line_ends_of_another_system],
    ],
)
def test_every_state_of_a_repository_can_be_compared(repo: Path, state: Callable[[Path], None]) -> None:
    """What the owner sees in it is what a model sees."""
    state(repo)

    text = diff_of(repo)

    assert "theirs" in text
    theirs = git(repo, "diff", "-M", "HEAD").replace("* Unmerged path kept.txt\n", "")
    assert text.partition("\n\n")[2] == theirs


def test_a_change_in_the_second_of_the_last_command_is_seen(repo: Path) -> None:
    """Git tells such a change only by the time of its index: a copy of it with another time would hide the change."""
    changed = repo / "kept.txt"
    second = 0
    for attempt in range(100):
        write(changed, f"{attempt:03} one\n")
        second = int(changed.stat().st_mtime)
        git(repo, "commit", "-q", "-a", "-m", "again")
        write(changed, f"{attempt:03} two\n")
        if int(changed.stat().st_mtime) == second:
            break
    while time.time() < second + 1:
        os.sched_yield()

    assert "two\n" in diff_of(repo)


def test_ids_of_the_longer_kind_are_read(root: Path) -> None:
    """`git init --object-format=sha256`."""
    git(root, "init", "-q", "-b", "main", "--object-format=sha256")
    write(root / "a", "one\n")
    git(root, "add", "a")
    git(root, "commit", "-q", "-m", "first")
    write(root / "a", "two\n")

    assert "-one\n+two\n" in diff_of(root)


def test_a_linked_work_tree_is_read_though_its_repository_is_elsewhere(tmp_path: Path, repo: Path) -> None:
    """`git worktree add`: the repository names it as its own, which only git wrote there."""
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "feature")
    write(tmp_path / "linked" / "kept.txt", "changed\n")

    assert "+changed" in diff_of(tmp_path / "linked")
    assert "+changed" in diff_of(tmp_path / "linked", "main")


@pytest.fixture
def parent(tmp_path: Path, repo: Path) -> Path:
    """A repository that holds another one as `sub`."""
    git(tmp_path, "init", "-q", "-b", "main", "parent")
    git(tmp_path / "parent", "submodule", "--quiet", "add", str(repo), "sub")
    git(tmp_path / "parent", "commit", "-q", "-m", "first")
    return tmp_path / "parent"


def test_a_submodule_is_shown_as_the_commit_that_it_stands_at(parent: Path) -> None:
    """As git shows it; what is changed inside it is a diff of its own."""
    write(parent / "sub" / "kept.txt", "CHANGED\n")
    git(parent / "sub", "commit", "-q", "-a", "-m", "second")
    write(parent / "sub" / "kept.txt", "MORE\n")
    old = git(parent, "rev-parse", "HEAD:sub").strip()
    new = git(parent / "sub", "rev-parse", "HEAD").strip()

    text = diff_of(parent)

    assert text.endswith(f"@@ -1 +1 @@\n-Subproject commit {old}\n+Subproject commit {new}\n")
    assert "+MORE" in diff_of(parent / "sub")


def shared(repo: Path, clone: Path) -> None:
    git(repo.parent, "clone", "-q", "--shared", str(repo), str(clone))


def partial(repo: Path, clone: Path) -> None:
    write(repo / "kept.txt", "second\n")
    git(repo, "commit", "-q", "-a", "-m", "second")
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(repo.parent, "clone", "-q", "--filter=blob:none", f"file://{repo}", str(clone))


@pytest.mark.parametrize(("make", "base"), [(shared, None), (partial, "HEAD~1")])
def test_a_repository_that_borrows_what_is_needed_is_refused_with_that_reason(
    repo: Path, tmp_path: Path, make: Callable[[Path, Path], None], base: str | None
) -> None:
    """Another's objects may be anything, and nothing is fetched; a partial clone does where it has what is needed."""
    clone = tmp_path / "clone"
    make(repo, clone)
    write(clone / "kept.txt", "changed\n")

    error = refused(clone, diff=GitDiff(base))

    assert error.message == "git_diff: objects that are needed are in another repository or still at the remote."
    assert "attachments" in error.action
    assert make is shared or "-second\n+changed\n" in diff_of(clone)


def test_a_diff_of_what_is_too_large_or_a_secret_names_it(repo: Path) -> None:
    """The rest is shown: one key in a commit does not keep a review from taking place."""
    write(repo / "was-large", "x" * 10_000_001)
    write(repo / "was-key", SECRETS["a private key"])
    write(repo / ".env", "A=1\n")
    git(repo, "add", "-f", ".")
    git(repo, "commit", "-q", "-m", "second")
    write(repo / "was-large", "small\n")
    write(repo / "was-key", "clean\n")
    write(repo / ".env", "A=CONTENT\n")
    write(repo / "kept.txt", "changed\n")
    write(repo / "is-large", "x" * 10_000_001)
    write(repo / "is-key", SECRETS["a setup-token"])
    git(repo, "add", "-f", ".")

    text = diff_of(repo)

    assert (
        "Changed, not shown:\n"
        "  .env is refused: keys, logins, .env files and their folders are never read\n"
        "  is-key holds a key or a login\n"
        "  is-large is larger than 10 MB\n"
        "  was-key held what the hub refuses: it holds a key or a login\n"
        "  was-large was larger than 10 MB\n"
        "\n"
    ) in text
    assert text.count("diff --git") == 1
    assert "+changed" in text
    assert "CONTENT" not in text


def test_bytes_that_are_no_text_are_shown_as_such(repo: Path) -> None:
    """And it is said that they were."""
    write(repo / "kept.txt", b"caf\xe9\n")

    text = diff_of(repo)

    assert "+caf\ufffd\n" in text
    assert "Bytes that are no UTF-8 are shown as \ufffd." in text


def test_a_diff_that_is_too_long_is_refused_and_not_cut(repo: Path) -> None:
    """With what to do: fewer paths or a nearer base."""
    line = "x" * 99 + "\n"
    write(repo / "long", line * 15_000)
    write(repo / "short", line * 10)
    git(repo, "add", ".")
    assert len(diff_of(repo)) > 1_500_000
    write(repo / "long", line * 25_000)

    error = refused(repo, diff=GitDiff(None))

    assert "the texts are longer than 2,000,000 characters" in error.message
    assert "paths" in error.action
    assert "+xxx" in diff_of(repo, None, "short")


def test_more_changed_files_than_the_bound_are_refused(repo: Path) -> None:
    """A base from years ago is a mistake, and must not fill the memory."""
    for number in range(5001):
        write(repo / "many" / str(number), "")
    git(repo, "add", ".")

    error = refused(repo, diff=GitDiff(None))

    assert error.message == "git_diff: more than 5,000 files differ."
    assert error.action == "Name fewer files in `paths`, or a nearer `base`."


def test_the_repository_is_left_as_it_was(repo: Path) -> None:
    """No lock, no refreshed index, no object: somebody works in it."""
    os.utime(repo / "kept.txt")
    write(repo / "new", "x")
    git(repo, "add", "new")

    def state() -> dict[Path, tuple[int, bytes]]:
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in [repo, *repo.rglob("*")]
        }

    before = state()
    diff_of(repo)

    assert state() == before


def test_nothing_is_left_in_the_working_folder(repo: Path, tmp_path: Path) -> None:
    """Copies of changed files must not outlive the request, whether it was answered or refused."""
    write(repo / "kept.txt", "changed\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    material = Material((repo,), around={"PATH": os.environ["PATH"]}, scratch=scratch)

    async def ask(base: str | None) -> None:
        wanted = material.gather(provider="x", takes=(), files=(), git_diff=GitDiff(base), attachments=())
        await asyncio.wait_for(wanted, DEADLINE_S)

    asyncio.run(ask(None))
    with pytest.raises(InvalidRequest):
        asyncio.run(ask("nothing"))

    assert list(scratch.iterdir()) == []
    assert Material((repo,), around={}).roots == (repo,)


def test_without_git_an_error_says_how_to_get_it(repo: Path, tmp_path: Path) -> None:
    """A container without it is told apart from a repository without a difference."""
    (tmp_path / "bin").mkdir()
    material = Material((repo,), around={"PATH": str(tmp_path / "bin")})

    with pytest.raises(Misconfigured) as raised:
        asyncio.run(material.gather(provider="x", takes=(), files=(), git_diff=GitDiff(None), attachments=()))

    assert "apt install git" in raised.value.action


@pytest.fixture
def slow_git(tmp_path: Path) -> Generator[Path]:
    """A folder for PATH whose git tells its pid and its child's, and never ends."""
    folder = tmp_path / "slow"
    folder.mkdir()
    program = folder / "git"
    program.write_text(
        f'#!/bin/sh\nsleep 600 &\necho $$ $! >"{tmp_path}/pids.new"\nmv "{tmp_path}/pids.new" "{tmp_path}/pids"\nwait\n'
    )
    program.chmod(0o755)
    yield folder
    assert all(gone(pid) for pid in pids(tmp_path))


def pids(folder: Path) -> list[int]:
    """Of the slow git and its child, once it runs."""
    file = folder / "pids"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


async def wait_for(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_git_that_hangs_ends_with_its_caller(repo: Path, tmp_path: Path, slow_git: Path) -> None:
    """A cancelled ask leaves no process, none of its processes, and no folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    material = Material((repo,), around={"PATH": f"{slow_git}:{os.environ['PATH']}"}, scratch=scratch)

    async def cancelled() -> None:
        wanted = material.gather(provider="x", takes=(), files=(), git_diff=GitDiff(None), attachments=())
        asking = asyncio.ensure_future(wanted)
        await wait_for(lambda: pids(tmp_path))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not psutil.pid_exists(pids(tmp_path)[0])  # reaped
        await wait_for(lambda: all(gone(pid) for pid in pids(tmp_path)))

    asyncio.run(cancelled())

    assert list(scratch.iterdir()) == []


def test_a_diff_that_is_cancelled_while_it_copies_leaves_no_folder(repo: Path, tmp_path: Path) -> None:
    """A thread is filling the folder just then: it is waited for, or it would make it again."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for number in range(2000):
        write(repo / "many" / str(number % 20) / str(number), "new")
    git(repo, "add", ".")
    material = Material((repo,), around={"PATH": os.environ["PATH"]}, scratch=scratch)

    async def cancelled() -> None:
        wanted = material.gather(provider="x", takes=(), files=(), git_diff=GitDiff(None), attachments=())
        asking = asyncio.ensure_future(wanted)
        await wait_for(lambda: any(scratch.glob("*/tree/many/*")))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(cancelled())  # at its end it waits for its threads

    assert list(scratch.iterdir()) == []


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_git_that_takes_too_long_is_ended_and_said(
    repo: Path, tmp_path: Path, slow_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is the diff's own; here it is shortened."""
    monkeypatch.setattr("llm_mcp_hub.material.diff.DEADLINE_S", 1.0)
    material = Material((repo,), around={"PATH": f"{slow_git}:{os.environ['PATH']}"})

    with pytest.raises(InvalidRequest) as raised:
        asyncio.run(material.gather(provider="x", takes=(), files=(), git_diff=GitDiff(None), attachments=()))

    assert raised.value.message == "git_diff: git took longer than 1 s."
    deadline = time.monotonic() + DEADLINE_S
    while not all(gone(pid) for pid in pids(tmp_path)) and time.monotonic() < deadline:
        os.sched_yield()
    assert all(gone(pid) for pid in pids(tmp_path))


def test_settings_of_a_repository_are_taken_by_name() -> None:
    """Only such as change what differs and start nothing; of these only plain values."""
    listed = (
        b"core.repositoryformatversion\n1\0core.autocrlf\ninput\0core.filemode\nfalse\0core.fsmonitor\nprogram\0"
        b"core.eol\ncrlf\n[core]\n\tfsmonitor = program\0filter.x.clean\nprogram\0extensions.objectformat\nsha256\0"
        b"core.worktree\n/\0diff.external\nprogram\0include.path\n/x\0core.symlinks\0"
    )

    ours = settings(listed)

    assert ours.removeprefix(settings(b"")) == (
        "[core]\n\tautocrlf = input\n[core]\n\tfilemode = false\n[extensions]\n\tobjectformat = sha256\n"
    )
    assert "program" not in ours


@pytest.mark.parametrize("listed", [b"extensions.refstorage\nreftable\0", b"core.repositoryformatversion\n2\0"])
def test_a_repository_of_an_unknown_format_is_refused(listed: bytes) -> None:
    """Read as a known one, it would show what is not so."""
    with pytest.raises(Unreadable, match="has a format that the hub does not know"):
        settings(listed)


# -- the default roots -------------------------------------------------------------------------------------------------


def test_the_clients_project_is_the_default_root(tmp_path: Path, repo: Path) -> None:
    """Claude Code names it; the working directory may be anywhere."""
    (tmp_path / "plain").mkdir()

    found = default_roots({"CLAUDE_PROJECT_DIR": str(tmp_path / "plain")}, repo, tmp_path / "home")

    assert found == (tmp_path / "plain",)


def test_else_it_is_the_working_directory_in_a_work_tree(repo: Path, tmp_path: Path) -> None:
    """Itself and not the first folder of the work tree; a folder that git does not know is none."""
    (repo / "sub").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / ".git").mkdir()
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))

    for cwd in (repo, repo / "sub", tmp_path / "linked"):
        assert default_roots({}, cwd, tmp_path / "home") == (cwd,)
        assert default_roots({"CLAUDE_PROJECT_DIR": "relative"}, cwd, tmp_path / "home") == (cwd,)
        assert default_roots({"CLAUDE_PROJECT_DIR": str(tmp_path / "no")}, cwd, tmp_path / "home") == (cwd,)
    for cwd in (tmp_path / "plain", repo / ".git", repo / "nothing", tmp_path):
        assert default_roots({}, cwd, tmp_path / "home") == ()


def test_a_working_directory_that_is_gone_is_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sits in a work tree that was removed: its hub starts all the same."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)

    assert editors_roots() == ()


def test_neither_the_home_nor_what_holds_it_is_a_root_by_default(repo: Path) -> None:
    """An editor that was started from a desktop has no project: all of the owner's files would be open."""
    home = repo / "people" / "me"
    home.mkdir(parents=True)
    (repo / "to-home").symlink_to(home)

    for folder in (home, home.parent, repo, Path("/"), repo / "to-home", home / "." / ".." / "me"):
        assert default_roots({}, folder, home) == ()
        assert default_roots({"CLAUDE_PROJECT_DIR": str(folder)}, Path("/"), home) == ()
    (home / "project").mkdir()
    assert default_roots({}, home / "project", home) == (home / "project",)


@given(st.text(max_size=30), st.sampled_from(["/", "../", "sub/", ""]))
def test_any_path_is_answered_or_refused(path: str, before: str) -> None:
    """Whatever a caller calls a file: a coded error, and never another."""
    with contextlib.suppress(InvalidRequest):
        gather(Path(__file__).parent, files=[before + path])
