"""Finding a work tree's repository, and a copy of what git may know of it. Knows git's files; starts no program.

A repository is a stranger. Its settings name programs (file monitor, filters, text converters, hooks, ways to a
remote), and its files point elsewhere (another work tree, another's objects, a forged index). So git never works in
it. It works in a folder of ours:

    git/         settings written here, of the repository's only a few harmless values; HEAD and such copied;
                 refs a link to the repository's
    borrowed/    links to its object folders, all but `info`, where alternates are named
    index        a copy: git writes its own where it finds one

Checked before: it belongs to us, as git demands; nothing in it is a link; its parts are where a file root is, or it
names this work tree as its own, which only git itself wrote there. What a program that changes `.git` while git runs
can reach that way are objects of another repository whose ids it knows.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llm_mcp_hub.material.reading import open_regular, small_file
from llm_mcp_hub.material.rules import Unreadable

OUTSIDE = "Set HUB_FILE_ROOTS to the repository, or send the output of git diff in `attachments`."
_OTHERWISE = "Send the output of git diff in `attachments`."
_NOT_PLAIN = ("the repository's .git holds links or special files", _OTHERWISE)
BORROWED = ("objects that are needed are in another repository or still at the remote", _OTHERWISE)
_COPY_LIMIT = 256_000_000
"""Bytes of one copied file; the index of a million files is about 100 MB."""
_REVISIONS = ("HEAD", "ORIG_HEAD", "MERGE_HEAD", "FETCH_HEAD")
"""Revisions that have no file below `refs`."""
_VALUE = re.compile(r"[A-Za-z0-9]{1,8}")
_TAKEN = ("core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode", "core.autocrlf", "core.eol")
"""Settings of the repository that change what differs, and start nothing."""
_FORMAT = "core.repositoryformatversion"
_EXTENSIONS = ("objectformat", "compatobjectformat", "noop", "worktreeconfig", "partialclone", "preciousobjects",
               "relativeworktrees")  # fmt: skip
_SETTINGS = """[core]
	repositoryformatversion = 1
	bare = false
	hooksPath = /dev/null
	attributesFile = /dev/null
	excludesFile = /dev/null
	fsmonitor = false
	untrackedCache = false
	quotePath = false
	pager = cat
[gc]
	auto = 0
[maintenance]
	auto = false
[protocol]
	allow = never
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where its parts are: absolute paths without links."""

    top: str
    """The work tree's first folder."""
    folder: Path
    """What is this work tree's own: HEAD, the index."""
    common: Path
    """What all work trees of the repository share: objects, refs."""


def work_tree(folder: str) -> str | None:
    """The first folder of the work tree that holds `folder`, looked for upwards as git does."""
    start = Path(os.path.realpath(folder))
    if ".git" in start.parts:
        return None
    try:
        for here in (start, *start.parents):
            if (here / ".git").is_file() or (here / ".git" / "HEAD").exists():
                return str(here)
    except OSError:
        return None
    return None


def find(top: str, roots: Collection[str]) -> Repository:
    """The repository of a work tree. Raises Unreadable where it may not be read."""

    def inside(path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in (top, *roots))

    mark = Path(top, ".git")
    folder = _real(mark)
    if mark.is_file() and not mark.is_symlink():
        named = re.fullmatch(rb"gitdir: ([^\0]+?)\n*", small_file(mark) or b"")
        if named is None:
            raise Unreadable("the work tree's .git is no git folder and names none", _OTHERWISE)
        folder = _real(top, named[1])
    by_its_word = not inside(folder) and _names_back(folder, mark)
    common = _real(folder, (small_file(folder / "commondir") or b".").rstrip(b"\n"))
    if not by_its_word and not (inside(folder) and inside(common)):
        raise Unreadable(
            "the work tree's repository is outside the file roots and does not name this work tree as its own",
            _OTHERWISE,
        )
    for path in (Path(top), mark, folder, common):
        if path.lstat().st_uid != os.geteuid():
            raise Unreadable("the repository belongs to another user", "Run the hub as its owner.")
    return Repository(top, folder, common)


def _names_back(folder: Path, mark: Path) -> bool:
    """Whether a git folder elsewhere says that it is this work tree's: one of `git worktree add`, or of a submodule."""
    linked = small_file(folder / "gitdir")
    if linked is not None:
        return _real(folder, linked.rstrip(b"\n")) == mark
    named = re.search(rb"^\s*worktree\s*=\s*([^\s\"\\]+)\s*$", small_file(folder / "config") or b"", re.MULTILINE)
    return named is not None and _real(folder, named[1]) == mark.parent


def _real(folder: str | Path, name: bytes = b"") -> Path:
    return Path(os.path.realpath(Path(folder, os.fsdecode(name))))


def prepare(repository: Repository, place: Path) -> None:
    """Make the folder that git works in. Raises Unreadable and OSError."""
    for name in ("home", "tree", "borrowed", "git/info", "git/objects"):
        (place / name).mkdir(parents=True)
    (place / "git/config").write_text(_SETTINGS)
    for name in ("objects", "refs"):
        _demand_plain(repository.common / name)
    for objects in (repository.common / "objects").iterdir():
        if objects.name != "info":
            (place / "borrowed" / objects.name).symlink_to(objects)
    (place / "git/refs").symlink_to(repository.common / "refs")
    for name in ("packed-refs", "info/exclude", "info/attributes"):
        _copy(repository.common / name, place / "git" / name)
    for name in (*_REVISIONS, *(shared.name for shared in repository.folder.glob("sharedindex.*"))):
        _copy(repository.folder / name, place / "git" / name)
    _copy(repository.folder / "index", place / "index")
    _copy(repository.common / "config", place / "theirs")


def _demand_plain(folder: Path) -> None:
    """Nothing but folders and regular files in it, itself included. Raises Unreadable."""
    plain = stat.S_ISDIR(folder.lstat().st_mode)
    left = [str(folder)]
    while plain and left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    plain = False
    if not plain:
        raise Unreadable(*_NOT_PLAIN)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, if it is there, with its time: by that git knows which entries of an index to look at again."""
    try:
        descriptor = open_regular(source)
    except (FileNotFoundError, NotADirectoryError):
        return
    except Unreadable as error:
        raise Unreadable(*_NOT_PLAIN) from error
    with open(descriptor, "rb") as file, target.open("wb") as copy:  # noqa: PTH123 -- a descriptor
        read = os.fstat(descriptor)
        if read.st_size > _COPY_LIMIT:
            raise Unreadable("the repository's own files are too large", _OTHERWISE)
        copy.write(file.read(_COPY_LIMIT))
    os.utime(target, ns=(read.st_atime_ns, read.st_mtime_ns))


def settings(listed: bytes) -> str:
    """The settings for git, from the repository's own as `git config --list -z` shows them. Raises Unreadable."""
    text = _SETTINGS
    for line in listed.decode("utf-8", "replace").split("\0"):
        name, _, value = line.partition("\n")
        section, _, key = name.partition(".")
        if (section == "extensions" and key not in _EXTENSIONS) or (name == _FORMAT and value not in ("0", "1")):
            raise Unreadable("the repository has a format that the hub does not know", _OTHERWISE)
        if (name in _TAKEN or name == "extensions.objectformat") and _VALUE.fullmatch(value):
            text += f"[{section}]\n\t{key} = {value}\n"
    return text


def borrows(repository: Repository) -> bool:
    """Whether some of its objects are elsewhere: in another repository, or still at the remote."""
    objects = repository.common / "objects"
    return (objects / "info/alternates").exists() or any((objects / "pack").glob("*.promisor"))
