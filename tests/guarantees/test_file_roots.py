"""G2 and G8 for files: a corpus of tries to read outside the file roots, or what is refused there. None succeeds.

Each try has ground of its own: a project (the only root, a git work tree with one commit), and outside of it a file, a
folder and a repository that hold a canary. It plants what it needs and asks for something. It has failed when the
canary, or what stands for it, is neither in an answer nor in an error, no planted program has run, and whatever was
refused or left out is named. Tries by files and attachments must end in an error; a diff may come without the canary.
Real files, real git.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm_mcp_hub.conversation import Part
from llm_mcp_hub.errors import InvalidRequest
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import Attachment, Material, attachment
from llm_mcp_hub.material.rules import shown

DEADLINE_S = 120.0
CANARY = "canary-7f3d of a made-up secret"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
PNG = b"\x89PNG\r\n\x1a\n"
ROUNDS = 500


@dataclass(frozen=True)
class Want:
    """What a try asks for."""

    files: Sequence[str] = ()
    diff: GitDiff | None = None
    attachments: Sequence[Attachment] = ()
    named: str | None = None
    """What an error or an answer must name; by default the first file."""
    canary: str = CANARY
    plainly: Sequence[str] = ()
    """A git command, in the project, that falls for it: the bait is good."""


@dataclass
class Ground:
    """Where one try takes place."""

    folder: Path
    stack: ExitStack
    roots: list[Path] = field(default_factory=list[Path])
    closed: list[Path] = field(default_factory=list[Path])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Of the hub's surroundings."""

    @property
    def root(self) -> Path:
        return self.folder / "project"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    @property
    def secret(self) -> Path:
        """A file outside."""
        return self.outside / "secret.txt"

    @property
    def private(self) -> Path:
        """A repository outside, with the canary in its one commit."""
        return self.folder / "private"

    @property
    def mark(self) -> Path:
        """Made by every planted program, when somebody runs it."""
        return self.folder / "a-planted-program-ran"

    @property
    def config(self) -> Path:
        return self.root / ".git" / "config"

    def file(self, path: str, content: str | bytes = CANARY) -> str:
        """Write a file of the project; its path there."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def link(self, path: str, target: str | Path) -> str:
        """Make a link in the project."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(target)
        return path

    def program(self, name: str = "planted") -> Path:
        """A program that leaves its mark, and fails."""
        program = self.folder / name
        program.write_text(f'#!/bin/sh\n: >"{self.mark}"\nexit 1\n')
        program.chmod(0o755)
        return program

    def git(self, *command: str, at: Path | None = None) -> str:
        """Git as the repository's owner uses it."""
        run = self.plain_git(*command, at=at)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def plain_git(
        self, *command: str, at: Path | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", *command],
            cwd=at or self.root,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), **who, **(more or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )

    def configure(self, text: str, repository: str = ".") -> None:
        """Add to the settings of a repository."""
        with (self.root / repository / ".git" / "config").open("a") as file:
            file.write(text)

    def change(self) -> None:
        """Something to show: a tracked file of the same length, so that git must read it."""
        self.file("inside.txt", "INSIDE")

    def commit(self) -> str:
        self.git("add", "-f", "-A")
        self.git("commit", "-q", "-m", "more")
        return self.git("rev-parse", "HEAD")

    def gather(self, want: Want) -> tuple[Part, ...]:
        """What the hub makes of it."""
        material = Material(self.roots, around={"PATH": os.environ["PATH"], **self.variables}, closed=self.closed)
        gathering = material.gather(
            provider="claude", takes=["image/png"], files=want.files, git_diff=want.diff, attachments=want.attachments
        )
        return asyncio.run(asyncio.wait_for(gathering, DEADLINE_S))


Try = Callable[[Ground], Want]
TRIES: dict[str, Try] = {}


def tries(name: str) -> Callable[[Try], Try]:
    """Put a try into the corpus."""

    def put(made: Try) -> Try:
        assert name not in TRIES
        TRIES[name] = made
        return made

    return put


@functools.cache
def template() -> Path:
    """A ground that all the others are copies of."""
    folder = Path(tempfile.mkdtemp(prefix="file-roots-"))
    ground = Ground(folder, ExitStack())
    for name in ("project", "outside", "private", "home"):
        (folder / name).mkdir()
    ground.secret.write_text(CANARY)
    ground.file("inside.txt", "inside")
    ground.file("sub/inside.txt", "inside")
    for repository in (ground.private, ground.root):
        ground.git("init", "-q", "-b", "main", at=repository)
        if repository == ground.private:
            (repository / "private.txt").write_text(CANARY)
        ground.git("add", ".", at=repository)
        ground.git("commit", "-q", "-m", "first", at=repository)
    return folder


@contextmanager
def ground_in(folder: Path) -> Generator[Ground]:
    """Fresh ground."""
    shutil.copytree(template(), folder, symlinks=True)
    with ExitStack() as stack:
        ground = Ground(folder, stack)
        ground.roots = [ground.root]
        yield ground


@pytest.fixture
def ground(tmp_path: Path) -> Generator[Ground]:
    with ground_in(tmp_path / "ground") as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def remove_template() -> Generator[None]:
    """What is shared by the tries of this process goes with it."""
    yield
    shutil.rmtree(template(), ignore_errors=True)
    template.cache_clear()


# -- paths -------------------------------------------------------------------------------------------------------------


def path_tries() -> Iterable[tuple[str, Callable[[Ground], str]]]:
    """Paths by themselves: nothing is planted."""
    yield "a path upwards", lambda g: "../outside/secret.txt"
    yield "a path down and up", lambda g: "sub/../../outside/secret.txt"
    yield "a path through a file and up", lambda g: "inside.txt/../../outside/secret.txt"
    yield "a path through nothing and up", lambda g: "no/such/../../../outside/secret.txt"
    yield "a path with dots and strokes", lambda g: ".//.././/outside/./secret.txt"
    yield "an absolute path", lambda g: str(g.secret)
    yield "an absolute path with two strokes", lambda g: f"/{g.secret}"
    yield "an absolute path by the root and up", lambda g: f"{g.root}/../outside/secret.txt"
    yield "an absolute path by the root twice", lambda g: f"{g.root}/../project/../outside/secret.txt"
    yield "a stroke behind the file", lambda g: f"{g.secret}/"
    yield "the strokes of another system", lambda g: "..\\outside\\secret.txt"
    yield "an encoded path", lambda g: "..%2foutside%2fsecret.txt"
    yield "an overlong encoding", lambda g: "..%c0%afoutside%c0%afsecret.txt"
    yield "wide dots", lambda g: "．．/outside/secret.txt"
    yield "a two-dot leader", lambda g: "‥/outside/secret.txt"
    yield "another stroke", lambda g: "..∕outside∕secret.txt"
    yield "dots with nothing between", lambda g: ".\u200b./outside/secret.txt"
    yield "dots with a space", lambda g: ".. /outside/secret.txt"
    yield "a file with NUL behind it", lambda g: "inside.txt\0../../outside/secret.txt"
    yield "NUL before", lambda g: "\0" + str(g.secret)
    yield "a line end", lambda g: "inside.txt\n../outside/secret.txt"
    yield "half of a character", lambda g: "../outside/secret.txt\ud83d"
    yield "a home by its sign", lambda g: "~/../outside/secret.txt"
    yield "a variable", lambda g: "$HOME/../outside/secret.txt"
    yield "an address", lambda g: f"file://{g.secret}"
    yield "a pattern", lambda g: "../outside/*"
    yield "nothing", lambda g: ""
    yield "the root itself", lambda g: "."
    yield "a folder outside", lambda g: str(g.outside)
    yield "what holds the root", lambda g: ".."
    yield "five thousand letters", lambda g: "a/../" * 1000 + "../outside/secret.txt"
    yield "a folder that begins like the root", lambda g: str(g.root) + "-secrets/secret.txt"
    yield "up from the first folder of all", lambda g: "../" * 64 + str(g.secret).lstrip("/")
    yield "the working folder of this process", lambda g: f"/proc/self/cwd{g.secret}"
    yield "the first folder by this process", lambda g: f"/proc/self/root{g.secret}"
    yield "the environment of this process", lambda g: "/proc/self/environ"
    yield "the standard input", lambda g: "/dev/stdin"
    yield "nulls without end", lambda g: "/dev/zero"


for _name, _path in path_tries():
    TRIES[_name] = lambda ground, path=_path: Want([path(ground)])


@tries("a root that begins alike is no root")
def _(ground: Ground) -> Want:
    (ground.folder / "project-secrets").mkdir()
    (ground.folder / "project-secrets" / "secret.txt").write_text(CANARY)
    return Want(["../project-secrets/secret.txt"])


@tries("no root at all")
def _(ground: Ground) -> Want:
    ground.roots = []
    return Want([str(ground.secret)], named="no file root")


@tries("what the hub keeps for itself")
def _(ground: Ground) -> Want:
    ground.closed = [ground.root / "state"]
    return Want([ground.file("state/saved")])


@tries("this process's environment, below a root of everything")
def _(ground: Ground) -> Want:
    ground.stack.enter_context(pytest.MonkeyPatch.context()).setenv("MADE_UP_TOKEN", CANARY)
    ground.roots = [Path("/")]
    return Want(["/proc/self/environ"])


@tries("an open file of this process, below a root of everything")
def _(ground: Ground) -> Want:
    ground.roots = [Path("/")]
    descriptor = ground.stack.enter_context(ground.secret.open()).fileno()
    return Want([f"/proc/self/fd/{descriptor}"])


@tries("an open file of this process by the shorter name, below a root of everything")
def _(ground: Ground) -> Want:
    ground.roots = [Path("/")]
    descriptor = ground.stack.enter_context(ground.secret.open()).fileno()
    return Want([f"/dev/fd/{descriptor}"])


@tries("a device, below a root of everything")
def _(ground: Ground) -> Want:
    ground.roots = [Path("/")]
    return Want(["/dev/zero"])


@tries("a device, below a root of devices")
def _(ground: Ground) -> Want:
    ground.roots = [Path("/dev")]
    return Want(["zero"])


@tries("the kernel, below a root of everything")
def _(ground: Ground) -> Want:
    ground.roots = [Path("/")]
    return Want(["/sys/kernel/../kernel/mm/transparent_hugepage/enabled"])


# -- links -------------------------------------------------------------------------------------------------------------


def link_tries() -> Iterable[tuple[str, str, Callable[[Ground], str | Path]]]:
    """The path that is asked for, and where the link `way` leads."""
    yield "a link", "way", lambda g: "../outside/secret.txt"
    yield "an absolute link", "way", lambda g: g.secret
    yield "a link to a folder", "way/secret.txt", lambda g: "../outside"
    yield "a link to an absolute folder", "way/secret.txt", lambda g: g.outside
    yield "a link to the folder above", "way/outside/secret.txt", lambda g: ".."
    yield "a link to the first folder of all", "way/proc/self/environ", lambda g: "/"
    yield "a folder's link and up", "way/../outside/secret.txt", lambda g: g.root
    yield "a link with a way around", "way", lambda g: "sub/../.././outside//secret.txt"
    yield "a link by the root's own path", "way", lambda g: f"{g.root}/../outside/secret.txt"
    yield "a link to nothing outside", "way", lambda g: "../outside/nothing"
    yield "a link to itself", "way", lambda g: "way"
    yield "a link by the first folder of this process", "way", lambda g: f"/proc/self/root{g.secret}"
    yield "a link to this process's environment", "way", lambda g: "/proc/self/environ"
    yield "a link to nulls without end", "way", lambda g: "/dev/zero"
    yield "a link to the standard input", "way", lambda g: "/dev/fd/0"
    yield "a link below a folder below a link", "way/sub/../../outside/secret.txt", lambda g: "."


for _name, _path, _target in link_tries():

    def _linked(ground: Ground, path: str = _path, target: Callable[[Ground], str | Path] = _target) -> Want:
        ground.link("way", target(ground))
        return Want([path])

    TRIES[_name] = _linked


@tries("a link by a link by a link")
def _(ground: Ground) -> Want:
    ground.link("one", "sub/two")
    ground.link("sub/two", "../three")
    ground.link("three", ground.folder / "four")
    (ground.folder / "four").symlink_to("outside")
    return Want(["one/secret.txt"])


@tries("forty-one links")
def _(ground: Ground) -> Want:
    for number in range(41):
        ground.link(str(number), str(number + 1))
    return Want([ground.file("41") and "0"])


@tries("a link in a second root")
def _(ground: Ground) -> Want:
    second = ground.folder / "second"
    second.mkdir()
    (second / "way").symlink_to("../outside/secret.txt")
    ground.roots = [ground.root, second]
    return Want([str(second / "way")])


@tries("a root that has become a link")
def _(ground: Ground) -> Want:
    # The root is looked up when the hub starts; later its name leads elsewhere.
    inner = ground.root / "sub"
    material = Material([inner], around={})
    ground.roots = list(material.roots)
    shutil.rmtree(inner)
    inner.symlink_to(ground.outside)
    ground.stack.enter_context(pytest.MonkeyPatch.context()).setattr(os.path, "realpath", os.path.abspath)
    return Want(["secret.txt"])


# -- what is no regular file, or too much of one -----------------------------------------------------------------------


@tries("a FIFO that nobody writes to")
def _(ground: Ground) -> Want:
    os.mkfifo(ground.root / "fifo")
    return Want(["fifo"])


@tries("a link to a FIFO")
def _(ground: Ground) -> Want:
    os.mkfifo(ground.root / "fifo")
    return Want([ground.link("way", "fifo")])


@tries("a folder that is a FIFO")
def _(ground: Ground) -> Want:
    os.mkfifo(ground.root / "fifo")
    return Want(["fifo/secret.txt"])


@tries("a socket")
def _(ground: Ground) -> Want:
    here = ground.stack.enter_context(socket.socket(socket.AF_UNIX))
    with pytest.MonkeyPatch.context() as patch:  # a socket's path is short
        patch.chdir(ground.root)
        here.bind("socket")
    return Want(["socket"])


@tries("ten gigabytes of holes")
def _(ground: Ground) -> Want:
    with (ground.root / "holes").open("wb") as file:
        file.truncate(10_000_000_000)
    return Want(["holes"])


@tries("a file that grows as it is read")
def _(ground: Ground) -> Want:
    path = ground.file("log", PNG)
    patch = ground.stack.enter_context(pytest.MonkeyPatch.context())
    really_read = os.read

    def grown(descriptor: int, length: int) -> bytes:
        patch.undo()
        with (ground.root / path).open("ab") as file:
            file.write(b"a" * 10_000_000)
        return really_read(descriptor, length)

    patch.setattr(os, "read", grown)
    return Want([path])


@tries("a program, by its bytes")
def _(ground: Ground) -> Want:
    return Want([ground.file("tool.txt", b"\x7fELF\2\1\1\0" + CANARY.encode())])


@tries("a database, by its bytes")
def _(ground: Ground) -> Want:
    return Want([ground.file("notes.md", b"SQLite format 3\0" + CANARY.encode())])


# -- keys and logins ---------------------------------------------------------------------------------------------------

NAMES = [
    *(".env", ".env.local", ".ENV", ".Env.Production", ".envrc", "deploy/prod.env", ".env.", "．ｅｎｖ", ".e\u200bnv"),
    *("id_rsa", "keys/ID_ED25519", "tls/server.pem", "tls/SERVER.KEY", "x.p12", "x.PFX", "vault.kdbx", "x.jks"),
    *(".netrc", ".npmrc", ".pypirc", ".git-credentials", "credentials.json", "home/oauth_creds.json", ".pgpass"),
    *(".aws/credentials", ".SSH/config", ".gnupg/pubring.kbx", ".kube/config", ".docker/config.json", ".claude.json"),
    *(".claude/settings.json", ".Gemini/settings.json", ".config/gcloud/a.db", "a/.config/gh/hosts.yml"),
    *(".git/config", ".git/HEAD", ".GIT/config", "sub/.git/config", "home/.local/state/llm-mcp-hub/saved"),
]
for _name in NAMES:
    TRIES[f"the file {shown(_name)}"] = lambda ground, name=_name: Want([ground.file(name)])


@tries("a folder of keys and back")
def _(ground: Ground) -> Want:
    (ground.root / ".env").mkdir()
    return Want([".env/../inside.txt"])


@tries("a harmless name that leads to a key")
def _(ground: Ground) -> Want:
    ground.file(".env")
    return Want([ground.link("readme.txt", ".env")])


@tries("a harmless folder that leads to keys")
def _(ground: Ground) -> Want:
    ground.file(".ssh/config")
    return Want([ground.link("documents", ".ssh") + "/config"])


@tries("a harmless name that leads to a key by an absolute link")
def _(ground: Ground) -> Want:
    ground.file("deep/server.key")
    return Want([ground.link("readme.txt", ground.root / "deep" / "server.key")])


@tries("a harmless name that leads to the repository's own files")
def _(ground: Ground) -> Want:
    ground.configure(f"# {CANARY}\n")
    return Want([ground.link("readme.txt", ".git/config")])


@tries("a key's name that leads to something harmless")
def _(ground: Ground) -> Want:
    return Want([ground.link("id_rsa", "inside.txt")])


@tries("a key by an absolute path with another link to the root")
def _(ground: Ground) -> Want:
    ground.file(".env")
    (ground.folder / "short").symlink_to(ground.root)
    return Want([f"{ground.folder}/short/.env"])


CONTENTS = {
    "a private key under another name": PEM,
    "a private key far down": "x" * 5_000_000 + PEM,
    "a private key in wide characters": PEM.encode("utf-16"),
    "a private key in one line of JSON": '{"key": "-----BEGIN RSA PRIVATE KEY-----\\n' + CANARY + '"}',
    "a private key of PGP": PEM.replace("KEY-", "KEY BLOCK-"),
    "a private key behind a picture's first bytes": PNG + PEM.encode(),
    "a setup-token": f"CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-{'madeup' * 14} {CANARY}",
    "a Google login": f'{{"note": "{CANARY}", "refresh_token": "1//0made-up"}}',
}
for _name, _content in CONTENTS.items():
    TRIES[_name] = lambda ground, content=_content: Want([ground.file("notes.txt", content)])


@tries("a second name of a key outside")
def _(ground: Ground) -> Want:
    ground.secret.write_text(PEM)
    os.link(ground.secret, ground.root / "notes.txt")
    return Want(["notes.txt"])


@tries("a key as an attachment, by its name")
def _(ground: Ground) -> Want:
    return Want(attachments=[attachment("home/.env", "text/plain", CANARY, None, "claude")], named="home/.env")


@tries("a key as an attachment, by its content")
def _(ground: Ground) -> Want:
    return Want(attachments=[attachment("notes", "text/plain", PEM, None, "claude")], named="notes")


@tries("a key as an attachment, by its bytes")
def _(ground: Ground) -> Want:
    data = base64.b64encode(PEM.encode("utf-16")).decode()
    return Want(attachments=[attachment("notes", "text/plain", None, data, "claude")], named="notes")


# -- diffs: what is asked for ------------------------------------------------------------------------------------------

BASES = [
    *("--output=../written", "--no-index", "-O../outside/secret.txt", "--ext-diff", "-", "--", ""),
    *("HEAD --output=../written", "HEAD\n--output=../written", "HEAD\0--ext-diff", "HEAD\u2028x", "HEAD\t--"),
    *("HEAD:inside.txt", "HEAD..HEAD", "nothing", ":/first", "HEAD^{tree}", "../outside/secret.txt", "h" * 300),
]
for _base in BASES:

    def _based(ground: Ground, base: str = _base) -> Want:
        ground.change()
        return Want(diff=GitDiff(base), named="git_diff: ")

    TRIES[f"the base {shown(_base)!r}"] = _based

PLACES: list[Callable[[Ground], str]] = [
    lambda g: "../outside",
    lambda g: "sub/../../outside/secret.txt",
    lambda g: str(g.secret),
    lambda g: "/",
    lambda g: "..",
    lambda g: ":(top)..",
    lambda g: ":(top)/../outside",
    lambda g: ":(glob)../**",
    lambda g: ":/",
    lambda g: ":^inside.txt",
    lambda g: "a\0b",
    lambda g: "../private/private.txt",
]
for _number, _place in enumerate(PLACES):

    def _placed(ground: Ground, place: Callable[[Ground], str] = _place) -> Want:
        ground.change()
        return Want(diff=GitDiff(None, (place(ground),)), named=f'git_diff: "{shown(place(ground))}" ')

    TRIES[f"the path {_number} of a diff"] = _placed


@tries("a path of a diff that looks like an option")
def _(ground: Ground) -> Want:
    ground.change()
    return Want(diff=GitDiff(None, ("--output=../written", "--no-index")), named="no difference")


@tries("a path of a diff by a link")
def _(ground: Ground) -> Want:
    ground.link("way", ground.private)
    return Want(diff=GitDiff(None, ("way/private.txt",)), named='git_diff: "way/private.txt" is outside')


# -- diffs: what lies in the work tree ---------------------------------------------------------------------------------

ALL = GitDiff(None)


@tries("a changed .env")
def _(ground: Ground) -> Want:
    ground.file(".env", "old")
    ground.commit()
    ground.file(".env")
    return Want(diff=ALL, named="  .env is refused", plainly=["diff"])


@tries("a removed .env")
def _(ground: Ground) -> Want:
    ground.file("deploy/.ENV.prod")
    ground.commit()
    (ground.root / "deploy" / ".ENV.prod").unlink()
    return Want(diff=ALL, named="  deploy/.ENV.prod is refused", plainly=["diff"])


@tries("a .env since a base, asked for by name")
def _(ground: Ground) -> Want:
    ground.file(".env")
    ground.commit()
    return Want(diff=GitDiff("HEAD~1", (".env",)), named="  .env is refused", plainly=["diff", "HEAD~1"])


@tries("a renamed key")
def _(ground: Ground) -> Want:
    ground.file("id_rsa", CANARY * 50)
    ground.commit()
    ground.git("mv", "id_rsa", "id_rsa.bak")
    ground.file("id_rsa.bak", CANARY * 50 + "\n")
    return Want(diff=ALL, named="  id_rsa.bak is refused", plainly=["diff", "-M", "HEAD"])


@tries("a changed key under another name")
def _(ground: Ground) -> Want:
    ground.file("notes.txt", "old")
    ground.commit()
    ground.file("notes.txt", PEM)
    return Want(diff=ALL, named="  notes.txt holds a key", plainly=["diff"])


@tries("a key under another name, of which a part has changed")
def _(ground: Ground) -> Want:
    lines = [f"{CANARY} {number}\n" for number in range(60)]
    ground.file("notes.txt", "-----BEGIN PRIVATE KEY-----\n" + "".join(lines))
    ground.commit()
    ground.file("notes.txt", "-----BEGIN PRIVATE KEY-----\n" + "".join(lines[:-1]))
    return Want(diff=ALL, named="  notes.txt held what the hub refuses", plainly=["diff"])


@tries("a key under another name, now removed")
def _(ground: Ground) -> Want:
    ground.file("notes.txt", PEM)
    ground.commit()
    (ground.root / "notes.txt").unlink()
    return Want(diff=ALL, named="  notes.txt held what the hub refuses", plainly=["diff"])


@tries("an untracked .env")
def _(ground: Ground) -> Want:
    return Want(diff=ALL, named=f"Untracked, not shown:\n  {ground.file('.env')}\n")


@tries("a file that is now a link outside")
def _(ground: Ground) -> Want:
    (ground.root / "inside.txt").unlink()
    ground.link("inside.txt", "../outside/secret.txt")
    return Want(diff=ALL, named="+../outside/secret.txt\n")


@tries("a folder that is now a link outside")
def _(ground: Ground) -> Want:
    (ground.outside / "inside.txt").write_text(CANARY)
    shutil.rmtree(ground.root / "sub")
    ground.link("sub", ground.outside)
    return Want(diff=ALL, named="deleted file mode 100644")


@tries("a file that is now a FIFO")
def _(ground: Ground) -> Want:
    (ground.root / "inside.txt").unlink()
    os.mkfifo(ground.root / "inside.txt")
    return Want(diff=ALL, named="inside.txt")


@tries("a file that is now ten gigabytes of holes")
def _(ground: Ground) -> Want:
    with (ground.root / "inside.txt").open("wb") as file:
        file.truncate(10_000_000_000)
    return Want(diff=ALL, named="  inside.txt is larger than 10 MB")


def forged_index(*paths: str) -> bytes:
    """An index as git would not write it: entries of other places."""
    entries = b""
    for path in sorted(paths):
        name = path.encode()
        entry = struct.pack(">10I", 0, 0, 0, 0, 0, 0, 0o100644, 0, 0, 3) + b"\1" * 20 + struct.pack(">H", len(name))
        entries += (entry + name).ljust((len(entry + name) + 8) // 8 * 8, b"\0")
    body = struct.pack(">4sII", b"DIRC", 2, len(paths)) + entries
    return body + hashlib.sha1(body).digest()


@tries("an index that names a file above")
def _(ground: Ground) -> Want:
    (ground.root / ".git" / "index").write_bytes(forged_index("../outside/secret.txt"))
    return Want(diff=ALL, named="inside.txt", plainly=["diff", "HEAD"])


@tries("an index that names an absolute file")
def _(ground: Ground) -> Want:
    (ground.root / ".git" / "index").write_bytes(forged_index(str(ground.secret)))
    return Want(diff=ALL, named="inside.txt", plainly=["diff", "HEAD"])


@tries("an index that names the repository's own files")
def _(ground: Ground) -> Want:
    ground.configure(f"# {CANARY}\n")
    (ground.root / ".git" / "index").write_bytes(forged_index(".git/config", "sub/../.git/config"))
    return Want(diff=ALL, named="  .git/config is refused", plainly=["diff", "HEAD"])


@tries("an index that is a link to another's")
def _(ground: Ground) -> Want:
    index = ground.root / ".git" / "index"
    index.unlink()
    index.symlink_to(ground.private / ".git" / "index")
    return Want(diff=ALL, canary="private.txt", named="git_diff: ", plainly=["diff", "--name-only"])


@tries("an index that is a FIFO")
def _(ground: Ground) -> Want:
    index = ground.root / ".git" / "index"
    index.unlink()
    os.mkfifo(index)
    return Want(diff=ALL, named="git_diff: ")


# -- diffs: a repository that leads elsewhere --------------------------------------------------------------------------


def private_head(ground: Ground) -> str:
    return ground.git("rev-parse", "HEAD", at=ground.private)


def elsewhere(ground: Ground, named: str = "git_diff: ") -> Want:
    """The whole of the private repository, as a difference against its commit."""
    head = private_head(ground)
    return Want(diff=GitDiff(head), named=named, plainly=["diff", head])


@tries("a .git file that names another repository")
def _(ground: Ground) -> Want:
    shutil.rmtree(ground.root / ".git")
    (ground.root / ".git").write_text(f"gitdir: {ground.private}/.git\n")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a .git file that names another repository by a way up")
def _(ground: Ground) -> Want:
    shutil.rmtree(ground.root / ".git")
    (ground.root / ".git").write_text("gitdir: ../private/.git")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a .git file that names another's linked work tree")
def _(ground: Ground) -> Want:
    ground.git("worktree", "add", "-q", str(ground.folder / "linked"), at=ground.private)
    shutil.rmtree(ground.root / ".git")
    (ground.root / ".git").write_text(f"gitdir: {ground.private}/.git/worktrees/linked\n")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a .git that is a link to another repository")
def _(ground: Ground) -> Want:
    shutil.rmtree(ground.root / ".git")
    (ground.root / ".git").symlink_to(ground.private / ".git")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a .git that is a FIFO")
def _(ground: Ground) -> Want:
    shutil.rmtree(ground.root / ".git")
    os.mkfifo(ground.root / ".git")
    return Want(diff=ALL, named="no file root is in a git work tree")


@tries("a linked work tree of one's own making")
def _(ground: Ground) -> Want:
    forged = ground.root / "forged"
    forged.mkdir()
    shutil.copy(ground.private / ".git" / "HEAD", forged)
    (forged / "commondir").write_text(f"{ground.private}/.git\n")
    (forged / "gitdir").write_text(f"{ground.root}/.git\n")
    shutil.rmtree(ground.root / ".git")
    (ground.root / ".git").write_text("gitdir: forged\n")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a shared folder that is another repository's")
def _(ground: Ground) -> Want:
    (ground.root / ".git" / "commondir").write_text(f"{ground.private}/.git")
    return elsewhere(ground, "does not name this work tree as its own")


@tries("a work tree elsewhere, by the settings")
def _(ground: Ground) -> Want:
    ground.git("config", "core.worktree", str(ground.outside))
    (ground.outside / "inside.txt").write_text(CANARY)
    ground.change()
    return Want(diff=ALL, named="+INSIDE", plainly=["diff"])


@tries("objects of another repository, by its alternates")
def _(ground: Ground) -> Want:
    alternates = ground.root / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{ground.private}/.git/objects\n")
    return elsewhere(ground)


@tries("objects of another repository, by alternates of alternates")
def _(ground: Ground) -> Want:
    (ground.root / "more" / "info").mkdir(parents=True)
    (ground.root / "more" / "info" / "alternates").write_text(f"{ground.private}/.git/objects\n")
    (ground.root / ".git" / "objects" / "info" / "alternates").write_text(f"{ground.root}/more\n")
    return elsewhere(ground)


@tries("objects of another repository, by a link to all")
def _(ground: Ground) -> Want:
    shutil.rmtree(ground.root / ".git" / "objects")
    (ground.root / ".git" / "objects").symlink_to(ground.private / ".git" / "objects")
    return elsewhere(ground, "links or special files")


@tries("objects of another repository, by links to folders")
def _(ground: Ground) -> Want:
    for folder in (ground.private / ".git" / "objects").iterdir():
        if len(folder.name) == 2:
            shutil.rmtree(ground.root / ".git" / "objects" / folder.name, ignore_errors=True)
            (ground.root / ".git" / "objects" / folder.name).symlink_to(folder)
    return elsewhere(ground, "links or special files")


@tries("objects of another repository, by links to packs")
def _(ground: Ground) -> Want:
    ground.git("gc", "-q", at=ground.private)
    for file in (ground.private / ".git" / "objects" / "pack").iterdir():
        (ground.root / ".git" / "objects" / "pack" / file.name).symlink_to(file)
    return elsewhere(ground, "links or special files")


@tries("revisions of another repository, by a link")
def _(ground: Ground) -> Want:
    ground.link(".git/refs/heads/other", ground.private / ".git" / "refs" / "heads" / "main")
    (ground.root / ".git" / "objects" / "info" / "alternates").write_text(f"{ground.private}/.git/objects\n")
    return Want(diff=GitDiff("other"), named="links or special files", plainly=["diff", "other"])


@tries("a HEAD that is a link outside")
def _(ground: Ground) -> Want:
    (ground.root / ".git" / "HEAD").unlink()
    ground.link(".git/HEAD", ground.secret)
    return Want(diff=ALL, named="git_diff: ")


@tries("revisions that are a FIFO")
def _(ground: Ground) -> Want:
    os.mkfifo(ground.root / ".git" / "refs" / "heads" / "slow")
    return Want(diff=GitDiff("slow"), named="links or special files")


@tries("settings that are a FIFO")
def _(ground: Ground) -> Want:
    ground.config.unlink()
    os.mkfifo(ground.config)
    return Want(diff=ALL, named="links or special files")


@tries("settings without end")
def _(ground: Ground) -> Want:
    with ground.config.open("ab") as file:
        file.truncate(10_000_000_000)
    return Want(diff=ALL, named="git_diff: ")


@tries("settings that include a file outside")
def _(ground: Ground) -> Want:
    ground.configure(f"[include]\n\tpath = {ground.secret}\n")
    ground.change()
    return Want(diff=ALL, named="+INSIDE")


@tries("a repository of another user")
def _(ground: Ground) -> Want:
    uid = os.geteuid()
    ground.stack.enter_context(pytest.MonkeyPatch.context()).setattr(os, "geteuid", lambda: uid + 1)
    ground.change()
    return Want(diff=ALL, canary="INSIDE", named="belongs to another user")


@tries("attributes that are a link outside")
def _(ground: Ground) -> Want:
    ground.link(".gitattributes", ground.secret)
    ground.change()
    return Want(diff=ALL, named="+INSIDE")


@tries("attributes that are a new link")
def _(ground: Ground) -> Want:
    ground.link(".gitattributes", "inside.txt")
    ground.git("add", ".gitattributes")
    ground.change()
    return Want(diff=ALL, named="new file mode 120000")


def variable_tries() -> Iterable[tuple[str, Callable[[Ground], str | Path]]]:
    """Variables of the surroundings that lead git elsewhere, and have the private repository shown."""
    yield "GIT_DIR", lambda g: g.private / ".git"
    yield "GIT_COMMON_DIR", lambda g: g.private / ".git"
    yield "GIT_OBJECT_DIRECTORY", lambda g: g.private / ".git" / "objects"
    yield "GIT_ALTERNATE_OBJECT_DIRECTORIES", lambda g: g.private / ".git" / "objects"


for _name, _value in variable_tries():

    def _varied(ground: Ground, name: str = _name, value: Callable[[Ground], str | Path] = _value) -> Want:
        ground.variables[name] = str(value(ground))
        return elsewhere(ground)

    TRIES[f"the variable {_name}"] = _varied


@tries("the variable GIT_WORK_TREE")
def _(ground: Ground) -> Want:
    ground.variables["GIT_WORK_TREE"] = str(ground.outside)
    (ground.outside / "inside.txt").write_text(CANARY)
    ground.change()
    return Want(diff=ALL, named="+INSIDE", plainly=["diff"])


# -- diffs: programs ---------------------------------------------------------------------------------------------------


def marked(ground: Ground, plainly: Sequence[str] = ("diff",)) -> Want:
    """A change is shown, and no planted program has run."""
    ground.change()
    return Want(diff=ALL, named="+INSIDE", canary="no such text", plainly=plainly)


SETTINGS = {
    "a file monitor": "[core]\n\tfsmonitor = PROGRAM\n",
    "an external diff": "[diff]\n\texternal = PROGRAM\n",
    "an external diff of a kind": '[diff "x"]\n\tcommand = PROGRAM\n',
    "a text converter": '[diff "x"]\n\ttextconv = PROGRAM\n',
    "a filter": '[filter "x"]\n\tclean = PROGRAM\n\tsmudge = PROGRAM\n\trequired = true\n',
    "a filter that stays": '[filter "x"]\n\tprocess = PROGRAM\n\trequired = true\n',
}
for _name, _setting in SETTINGS.items():

    def _set(ground: Ground, setting: str = _setting) -> Want:
        ground.configure(setting.replace("PROGRAM", str(ground.program())))
        ground.file(".gitattributes", "* filter=x diff=x\n")
        return marked(ground)

    TRIES[f"{_name}, in the settings"] = _set


@tries("a filter, by attributes of the repository's own")
def _(ground: Ground) -> Want:
    ground.configure(f'[filter "x"]\n\tclean = {ground.program()}\n')
    ground.file(".git/info/attributes", "* filter=x\n")
    return marked(ground)


@tries("a hook")
def _(ground: Ground) -> Want:
    shutil.copy(ground.program(), ground.root / ".git" / "hooks" / "post-index-change")
    os.utime(ground.root / "sub" / "inside.txt")
    return marked(ground, ["status"])


@tries("a hook elsewhere")
def _(ground: Ground) -> Want:
    ground.program("post-index-change")
    ground.git("config", "core.hooksPath", str(ground.folder))
    os.utime(ground.root / "sub" / "inside.txt")
    return marked(ground, ["status"])


@tries("a pager")
def _(ground: Ground) -> Want:
    ground.configure(f"[core]\n\tpager = {ground.program()}\n[pager]\n\tdiff = {ground.program()}\n\tconfig = true\n")
    return marked(ground, ())  # a plain git asks for a terminal first


@tries("another name for a command")
def _(ground: Ground) -> Want:
    ground.configure("".join(f"[alias]\n\t{name} = !{ground.program()}\n" for name in ("diff", "update-index", "x")))
    return marked(ground, ["x"])


@tries("a file monitor, by an included file")
def _(ground: Ground) -> Want:
    ground.file("more", f"[core]\n\tfsmonitor = {ground.program()}\n")
    ground.configure("[include]\n\tpath = ../more\n")
    return marked(ground)


@tries("a file monitor, by a file included on a condition")
def _(ground: Ground) -> Want:
    ground.file("more", f"[core]\n\tfsmonitor = {ground.program()}\n")
    ground.configure('[includeIf "onbranch:main"]\n\tpath = ../more\n')
    return marked(ground)


@tries("a file monitor, by settings of the work tree")
def _(ground: Ground) -> Want:
    ground.configure("[extensions]\n\tworktreeConfig = true\n")
    ground.file(".git/config.worktree", f"[core]\n\tfsmonitor = {ground.program()}\n")
    return marked(ground)


@tries("a file monitor in a submodule")
def _(ground: Ground) -> Want:
    nested(ground)
    ground.configure(f"[core]\n\tfsmonitor = {ground.program()}\n", "nested")
    return marked(ground)


@tries("a filter in a submodule that stands elsewhere")
def _(ground: Ground) -> Want:
    nested(ground)
    ground.file("nested/file", "other")
    ground.git("commit", "-q", "-a", "-m", "second", at=ground.root / "nested")
    ground.file("nested/file", "again")
    ground.file("nested/.git/info/attributes", "* filter=x\n")
    ground.configure(f'[filter "x"]\n\tclean = {ground.program()}\n', "nested")
    return marked(ground)


@tries("a submodule that is set to show its own diff")
def _(ground: Ground) -> Want:
    nested(ground)
    ground.file("nested/file", "other")
    ground.configure(f"[core]\n\tfsmonitor = {ground.program()}\n", "nested")
    ground.configure('[diff]\n\tsubmodule = diff\n\tignoreSubmodules = none\n[submodule "nested"]\n\tignore = none\n')
    return marked(ground)


def nested(ground: Ground) -> None:
    """A repository in the project, kept as a submodule."""
    ground.git("init", "-q", "-b", "main", "nested")
    ground.file("nested/file", "plain")
    ground.git("add", ".", at=ground.root / "nested")
    ground.git("commit", "-q", "-m", "first", at=ground.root / "nested")
    ground.git("-c", "advice.addEmbeddedRepo=false", "add", "nested")
    ground.git("commit", "-q", "-m", "nested")


REMOTES = {
    "a program as the remote": "\turl = ext::{}\n",
    "a program at the remote": "\turl = ../private\n\tuploadpack = {}\n",
    "a program to reach the remote": "\turl = ssh://nowhere.invalid/x\n[core]\n\tsshCommand = {}\n",
    "a program on the way to the remote": "\turl = git://nowhere.invalid/x\n[core]\n\tgitProxy = {}\n",
}
for _name, _setting in REMOTES.items():

    def _remote(ground: Ground, setting: str = _setting) -> Want:
        # A partial clone: what is missing is fetched when it is needed, by whatever the settings name.
        gone = ground.git("rev-parse", "HEAD:inside.txt")
        (ground.root / ".git" / "objects" / gone[:2] / gone[2:]).unlink()
        ground.git("config", "core.repositoryFormatVersion", "1")
        remote = setting.format(ground.program())
        ground.configure(
            '[extensions]\n\tpartialClone = origin\n[protocol]\n\tallow = always\n[protocol "ext"]\n\tallow = always\n'
            f'[remote "origin"]\n\tpromisor = true\n\tpartialCloneFilter = blob:none\n{remote}'
        )
        ground.change()
        return Want(diff=ALL, named="git_diff: ", plainly=["diff"])

    TRIES[f"{_name}, for what is missing"] = _remote


def planted_variables() -> Iterable[tuple[str, Callable[[Ground], dict[str, str]], Sequence[str]]]:
    """Variables of the surroundings that have git start a program, and a command that shows it."""
    one = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor"}
    yield "GIT_EXTERNAL_DIFF", lambda g: {"GIT_EXTERNAL_DIFF": str(g.program())}, ["diff"]
    yield "GIT_CONFIG_COUNT", lambda g: {**one, "GIT_CONFIG_VALUE_0": str(g.program())}, ["diff"]
    yield "GIT_CONFIG_PARAMETERS of a monitor", parameters, ["diff"]
    yield "GIT_CONFIG_GLOBAL", lambda g: {"GIT_CONFIG_GLOBAL": str(settings_file(g, "any"))}, ["diff"]
    yield "GIT_CONFIG_SYSTEM", lambda g: {"GIT_CONFIG_SYSTEM": str(settings_file(g, "any"))}, ["diff"]
    yield "HOME", lambda g: {"HOME": str(settings_file(g, "h/.gitconfig").parent)}, ["diff"]
    yield (
        "XDG_CONFIG_HOME",
        lambda g: {"XDG_CONFIG_HOME": str(settings_file(g, "c/git/config").parent.parent)},
        ["diff"],
    )
    yield "GIT_EXEC_PATH", lambda g: {"GIT_EXEC_PATH": str(g.program("git-made-up").parent)}, ["made-up"]
    yield "GIT_TRACE", lambda g: {"GIT_TRACE": str(g.mark)}, ["diff"]
    yield "GIT_TRACE2_EVENT", lambda g: {"GIT_TRACE2_EVENT": str(g.mark)}, ["diff"]


def parameters(ground: Ground) -> dict[str, str]:
    return {"GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={ground.program()}'"}


def settings_file(ground: Ground, path: str) -> Path:
    file = ground.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[core]\n\tfsmonitor = {ground.program()}\n")
    return file


for _name, _make, _plainly in planted_variables():

    def _planted(
        ground: Ground, make: Callable[[Ground], dict[str, str]] = _make, plainly: Sequence[str] = _plainly
    ) -> Want:
        ground.variables.update(make(ground))
        return marked(ground, plainly)

    TRIES[f"the variable {_name}, with a program"] = _planted


@tries("a git of the project's own")
def _(ground: Ground) -> Want:
    shutil.copy(ground.program(), ground.root / "git")
    ground.stack.enter_context(pytest.MonkeyPatch.context()).chdir(ground.root)
    ground.variables["PATH"] = f".:{os.environ['PATH']}"
    ground.change()
    return Want(diff=ALL, named="+INSIDE", canary="no such text")


# -- the corpus --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a try."""

    text: str
    """The error's message, or the parts as a model would see them."""
    error: InvalidRequest | None
    ran: bool


def attempt(ground: Ground, want: Want) -> Outcome:
    try:
        parts = ground.gather(want)
    except InvalidRequest as error:
        return Outcome(error.message, error, ground.mark.exists())
    return Outcome("\n".join(f"{part.shown}{part.data!r}" for part in parts), None, ground.mark.exists())


@functools.cache
def judged(name: str) -> str:
    """Why a try has succeeded after all; nothing if it has failed, as it should."""
    with tempfile.TemporaryDirectory(prefix="file-roots-") as folder, ground_in(Path(folder) / "ground") as ground:
        want = TRIES[name](ground)
        outcome = attempt(ground, want)
        details = str(outcome.error.details()) if outcome.error else ""
        named = want.named if want.named is not None else shown(want.files[0])
        if want.canary in outcome.text + details:
            return f"the canary is shown: {outcome.text[:2000]}"
        if outcome.ran:
            return "a planted program ran"
        if (ground.folder / "written").exists():
            return "something was written"
        if outcome.error is None and want.diff is None:
            return f"it was answered: {outcome.text[:2000]}"
        if outcome.error is not None and not (outcome.error.action and outcome.error.provider == "claude"):
            return "the error has no next step or no provider"
        if named not in outcome.text:
            return f"{named!r} is not named: {outcome.text[:2000]}"
    return ""


@pytest.mark.parametrize("name", TRIES)
def test_a_try_to_read_what_may_not_be_read_fails_and_is_named(name: str) -> None:
    """Nothing outside the roots, no key and no login reaches a model, and no planted program runs."""
    assert judged(name) == ""


def test_the_whole_corpus_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, counted."""
    succeeded = {name: why for name in TRIES if (why := judged(name))}

    with capsys.disabled():
        print(f"\nrefused {len(TRIES) - len(succeeded)}/{len(TRIES)}")
    assert succeeded == {}
    assert len(TRIES) >= 60


def test_the_baits_are_good(tmp_path: Path) -> None:
    """A plain git shows the canary, or runs the program: what the corpus does not find would have been there."""
    biting: list[str] = []
    harmless: dict[str, str] = {}
    for number, (name, made) in enumerate(TRIES.items()):
        with ground_in(tmp_path / str(number)) as ground:
            want = made(ground)
            if not want.plainly:
                continue
            run = ground.plain_git(*want.plainly, more=ground.variables)
            if want.canary in run.stdout or ground.mark.exists():
                biting.append(name)
            else:
                harmless[name] = run.stdout + run.stderr

    assert harmless == {}
    assert len(biting) >= 40


# -- races -------------------------------------------------------------------------------------------------------------


@contextmanager
def swapping(one: Path, other: Path) -> Generator[list[int]]:
    """Two names that trade places in a thread, over and over; the count of it."""
    aside = one.with_name("aside")
    ended = threading.Event()
    count = [0]

    def swap() -> None:
        while not ended.is_set():
            one.rename(aside)
            other.rename(one)
            aside.rename(other)
            count[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join(DEADLINE_S)


def read_in_turn(ground: Ground, path: str) -> dict[str, int]:
    """What that many reads find, or more until one has found what is inside, and one something else.

    A content, or the reason of a refusal. On a busy machine the thread that swaps may stand still for long.
    """
    material = Material(ground.roots, around={})
    found: dict[str, int] = {}

    async def read() -> None:
        while sum(found.values()) < ROUNDS or "inside" not in found or len(found) < 2:
            try:
                (part,) = await material.gather(
                    provider="claude", takes=(), files=[path], git_diff=None, attachments=()
                )
                seen = part.text or ""
            except InvalidRequest as error:
                seen = error.message
            found[seen] = found.get(seen, 0) + 1

    asyncio.run(asyncio.wait_for(read(), DEADLINE_S))
    return found


def link_outside(ground: Ground) -> Path:
    (ground.root / "other").symlink_to(ground.secret)
    return ground.root / "inside.txt"


def link_to_a_folder_outside(ground: Ground) -> Path:
    (ground.outside / "inside.txt").write_text(CANARY)
    (ground.root / "other").symlink_to(ground.outside)
    return ground.root / "sub"


def link_to_a_key(ground: Ground) -> Path:
    ground.file(".env")
    (ground.root / "other").symlink_to(".env")
    return ground.root / "inside.txt"


def fifo(ground: Ground) -> Path:
    os.mkfifo(ground.root / "other")
    return ground.root / "inside.txt"


@pytest.mark.parametrize("plant", [link_outside, link_to_a_folder_outside, link_to_a_key, fifo])
def test_what_is_swapped_while_it_is_read_is_what_is_inside_or_refused(
    ground: Ground, plant: Callable[[Ground], Path]
) -> None:
    """Between a check and a read somebody may put a link in a file's place: 500 reads, and a thread that does."""
    one = plant(ground)
    path = "sub/inside.txt" if one.name == "sub" else "inside.txt"

    with swapping(one, ground.root / "other") as count:
        found = read_in_turn(ground, path)

    assert sum(found.values()) >= ROUNDS
    assert all(seen == "inside" or seen.startswith(f'"{path}" ') for seen in found), found
    assert CANARY not in str(found)
    assert count[0] > 0


def test_what_is_swapped_while_git_compares_is_not_shown(ground: Ground) -> None:
    """Git looks whether a path is a link, and opens it later: so it is not git that opens what is shown."""
    ground.secret.write_text(CANARY)
    (ground.root / "other").symlink_to(ground.secret)
    ground.change()
    shown_texts: set[str] = set()

    with swapping(ground.root / "inside.txt", ground.root / "other") as count:
        for _ in range(ROUNDS // 20):
            shown_texts.add(attempt(ground, Want(diff=ALL)).text)

    assert count[0] > 0
    assert len(shown_texts) > 0
    assert not [text for text in shown_texts if CANARY in text]


def test_a_second_name_of_a_file_is_the_file(ground: Ground) -> None:
    """What holds for hard links: nothing tells one from a file of the root, so who may make one decides.

    Linux lets nobody make one of a file that they may not read and write (`fs.protected_hardlinks`); keys under one
    are refused by their content, as the corpus shows.
    """
    ground.secret.write_text("no key")
    os.link(ground.secret, ground.root / "second.txt")

    assert attempt(ground, Want(["second.txt"])).text.startswith("--- second.txt ---\nno key\n")


def test_an_object_that_unpacks_to_half_the_memory_is_refused(ground: Ground) -> None:
    """A commit with a message of 600 megabytes is a few kilobytes, packed: git is held to a bound on what it allocates.

    A plain git takes it.
    """
    head = ground.git("cat-file", "commit", "HEAD").encode() + b"\n"
    piece = b"a" * 50_000_000
    begin = b"commit %d\0%s" % (len(head) + 12 * len(piece), head)
    digest = hashlib.sha1(begin)
    packer = zlib.compressobj(1)
    packed = [packer.compress(begin)]
    for _ in range(12):
        digest.update(piece)
        packed.append(packer.compress(piece))
    name = digest.hexdigest()
    ground.file(f".git/objects/{name[:2]}/{name[2:]}", b"".join([*packed, packer.flush()]))
    ground.change()

    outcome = attempt(ground, Want(diff=GitDiff(name)))

    assert outcome.error is not None
    assert outcome.text == f'git_diff: there is no commit "{name}".'
    assert "+INSIDE" in ground.git("diff", name)
