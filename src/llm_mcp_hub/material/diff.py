"""The difference of a work tree against a revision, of a repository that nobody has to trust. Knows what git prints.

Git lists what differs and makes the diff, and never opens a changed file to show it: a file can be another one by the
time that git opens it, and a forged index names files outside of the work tree. In reading order: the revision; the
changed paths; their old sides, out of git's objects; their new sides, by `reading`; what a name or a content refuses
is left out and named; both sides go into an index of ours, and its diff is what is shown.

Renames are found. Filters (LFS and the like) are not run: a file that one has made is compared as it is stored.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import ParamSpec, TypeVar

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.material import repository
from llm_mcp_hub.material.git import FEWER, LOOK, Git, program
from llm_mcp_hub.material.reading import OUTSIDE, REFUSED, Roots, is_inside, look
from llm_mcp_hub.material.rules import FILE_LIMIT, SECRET, TEXT_LIMIT, Unreadable, holds_secret, is_one_line, shown

DEADLINE_S = 20.0
CHANGED_LIMIT = 5_000
"""Changed files of one diff."""
READ_LIMIT = 64_000_000
"""Bytes of their contents, the old sides and the new ones each."""
LIST_LIMIT = 16_000_000
"""Bytes of git's list of what differs, in the whole work tree."""
NAMED = 1_000
"""Names that a list of what is not shown has at most; it says how many more there are."""

_NOTHING, _FILE, _LINK, _SUBMODULE = 0, 0o100644, 0o120000, 0o160000
_TOO_LARGE = ("the difference is too large", FEWER)
# By default git looks for changes inside a submodule with another git, which obeys the settings that it finds there.
_SUBMODULES = ("--ignore-submodules=dirty", "--submodule=short")
_SAFE = ("--no-color", "--no-ext-diff", "--no-textconv", *_SUBMODULES)
_RAW = re.compile(rb":?([0-7]+) ([0-7]+) ([0-9a-f]+) ")
_OTHERS = ("--others", "--exclude-standard", "--directory", "--no-empty-directory")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class GitDiff:
    """What to compare: the work tree against `base` (None: HEAD), in `paths` (none: all that the roots hold).

    Paths are files and folders, no patterns; a relative one starts at the first root.
    """

    base: str | None
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Change:
    """One path that differs, as git lists it: modes and the old side's object."""

    path: bytes
    old_mode: int
    old_id: str
    new_mode: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """The part of a work tree that may be shown and is asked for."""

    top: str
    roots: Roots
    chosen: frozenset[str]
    """Absolute paths without links, inside the roots."""

    def holds(self, path: bytes) -> bool:
        """Whether a path of git's is in it. One that leaves the tree, as a forged index has it, is nowhere."""
        names = self.names(path)
        if {"", ".", ".."}.intersection(names):
            return False
        full = self.full(path)
        above = accumulate(names, lambda folder, name: f"{folder}/{name}", initial=self.top.rstrip("/"))
        return (
            any(is_inside(self.top, chosen) for chosen in self.chosen)
            or not self.chosen.isdisjoint(above)
            or (path.endswith(b"/") and any(is_inside(chosen, full) for chosen in self.chosen))
        )

    def folders(self) -> set[str]:
        """Folders of the tree that together hold all of it."""
        found: set[str] = set()
        for chosen in self.chosen:
            here = Path(chosen)
            while here.is_symlink() or not here.is_dir():
                here = here.parent
            found.add(str(here) if is_inside(str(here), self.top) else self.top)
        return found

    def full(self, path: bytes) -> str:
        return "/".join((self.top.rstrip("/"), *self.names(path)))

    @staticmethod
    def names(path: bytes) -> list[str]:
        return os.fsdecode(path).removesuffix("/").split("/")


@dataclass(slots=True)
class _Sides:
    """What goes into the diff, and what stays out of it."""

    changes: dict[bytes, _Change]
    out: dict[bytes, str] = field(default_factory=dict[bytes, str])
    """Named with a reason instead of shown."""

    def leave_out(self, path: bytes, reason: str) -> None:
        self.out[path] = reason
        del self.changes[path]


async def difference(wanted: GitDiff, roots: Roots, around: Mapping[str, str], scratch: Path | None) -> str:
    """The diff as text, what it leaves out named at its top. Raises Unreadable, and Misconfigured without git."""
    program(around)
    base = _revision_name(wanted.base)
    try:
        place = Path(tempfile.mkdtemp(prefix="diff-", dir=scratch))
    except OSError as error:
        raise Misconfigured("The folder for temporary files cannot be written.", action="Make it writable.") from error
    try:
        async with asyncio.timeout(DEADLINE_S):
            theirs, scope = await _to_its_end(_opened, roots, wanted.paths, place)
            git = Git(around, place, theirs.top)
            await _settle(git, place)
            try:
                return await _made(git, base, scope, place)
            except Unreadable as error:
                if error.action == LOOK and repository.borrows(theirs):
                    raise Unreadable(*repository.BORROWED) from error
                raise
    except TimeoutError:
        raise Unreadable(f"git took longer than {DEADLINE_S:.0f} s", FEWER) from None
    except OSError as error:
        raise Unreadable("the repository cannot be read", LOOK) from error
    finally:
        await _to_its_end(shutil.rmtree, place, ignore_errors=True)


async def _to_its_end(function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Run it in a thread. A cancelled caller waits for it: the folder that it works in is removed next."""
    thread = asyncio.ensure_future(asyncio.to_thread(function, *given, **named))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.gather(thread, return_exceptions=True)
        raise


def _revision_name(base: str | None) -> str:
    if base is None:
        return "HEAD"
    if not 0 < len(base) <= 250 or base.startswith("-") or not is_one_line(base) or re.search(r"\s", base):
        raise Unreadable("`base` is no revision", "Give a branch, a tag or a commit of the repository.")
    return base


def _opened(roots: Roots, paths: Sequence[str], place: Path) -> tuple[repository.Repository, _Scope]:
    """Find the repository and make the folder that git works in."""
    top = next(filter(None, map(repository.work_tree, roots.folders)), None)
    if top is None:
        raise Unreadable("no file root is in a git work tree", repository.OUTSIDE)
    theirs = repository.find(top, roots.folders)
    if paths:
        chosen = frozenset(place for path in paths for place in _places(path, roots))
    else:
        chosen = frozenset(root for root in roots.folders if is_inside(root, top) or is_inside(top, root))
    repository.prepare(theirs, place)
    return theirs, _Scope(top, roots, chosen)


def _places(path: str, roots: Roots) -> list[str]:
    """Where `path` is, itself and what it leads to if it is a link: both inside the roots, or it is refused."""
    if not path or not is_one_line(path) or path.startswith(":"):
        raise Unreadable(f'"{shown(path)}" is no path', "Give `paths` as files and folders, without patterns.")
    full = Path(os.path.normpath(Path(roots.folders[0], path)))
    itself = str(Path(os.path.realpath(full.parent), full.name))
    places = [place for place in (itself, os.path.realpath(full)) if roots.holding(place)]
    if not places:
        raise Unreadable(f'"{shown(path)}" {OUTSIDE[0]}', "Name `paths` inside them.")
    return places


async def _settle(git: Git, place: Path) -> None:
    listed = b""
    if (place / "theirs").exists():
        listed = await git.here("config", "--file", str(place / "theirs"), "--no-includes", "--list", "-z")
    (place / "git/config").write_text(repository.settings(listed))


# -- the steps ---------------------------------------------------------------------------------------------------------


async def _made(git: Git, base: str, scope: _Scope, place: Path) -> str:
    title, revision = await _revision(git, base)
    listed = await git.there("diff", "--raw", "-z", "--no-abbrev", "--no-renames", *_SAFE, revision, limit=LIST_LIMIT)
    sides = await _to_its_end(_chosen, listed, scope)
    submodules = await _submodules(git, revision, sides)
    await _look_at_old_sides(git, sides)
    await _to_its_end(_take_new_sides, scope, sides, place / "tree")
    text = await _diff(git, sides, submodules)
    untracked = await _untracked(git, scope)
    if not (text or sides.out or untracked):
        raise Unreadable(
            f"there is no difference between the working tree and {shown(base)}",
            "Leave git_diff out, or name another `base` or other `paths`.",
        )
    return _told(title, text, sides.out, untracked)


async def _revision(git: Git, base: str) -> tuple[str, str]:
    """What is compared, in words, and the commit: the empty tree where nothing is committed yet."""

    async def parsed(name: str) -> str:
        try:
            found = await git.here("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        except Unreadable:
            return ""
        return found.decode().strip()

    commit = await parsed(f"{base}^{{commit}}")
    if commit:
        return f"Working tree against {base} ({commit[:12]}).", commit
    if base == "HEAD" and not await parsed("HEAD"):
        return "Working tree; nothing is committed yet.", (await git.noted("mktree")).decode().strip()
    action = LOOK if await parsed(base) else "Give a branch, a tag or a commit of the repository."
    raise Unreadable(f'there is no commit "{shown(base)}"', action)


def _chosen(listed: bytes, scope: _Scope) -> _Sides:
    sides = _Sides({change.path: change for change in _changes(listed) if scope.holds(change.path)})
    if len(sides.changes) > CHANGED_LIMIT:
        raise Unreadable(f"more than {CHANGED_LIMIT:,} files differ", FEWER)
    for path in list(sides.changes):
        if not scope.roots.may_show(scope.full(path)):
            sides.leave_out(path, REFUSED[0])
    return sides


def _changes(listed: bytes) -> Generator[_Change]:
    """Git's raw list: a line of modes, objects and status, then the path."""
    fields = listed.split(b"\0")
    for line, path in zip(fields[::2], fields[1::2], strict=False):
        found = _RAW.match(line)
        if found is None:
            raise Unreadable("git's list of what differs cannot be read", LOOK)
        yield _Change(path, int(found[1], 8), found[3].decode(), int(found[2], 8))


async def _submodules(git: Git, revision: str, sides: _Sides) -> dict[bytes, str]:
    """The commit that each changed submodule stands at. Nothing else of what git prints about it is taken."""
    found: dict[bytes, str] = {}
    for path in [path for path, change in sides.changes.items() if change.new_mode == _SUBMODULE]:
        printed = await git.there("diff", *_SAFE, revision, "--", os.fsdecode(path), limit=LIST_LIMIT)
        commit = re.search(rb"^\+Subproject commit ([0-9a-f]{40,64})$", printed, re.MULTILINE)
        if commit is None:
            sides.leave_out(path, "is a submodule whose commit cannot be told")
        else:
            found[path] = commit[1].decode()
    return found


async def _look_at_old_sides(git: Git, sides: _Sides) -> None:
    """Leave out what is too large, or was a secret before."""
    wanted = {change.old_id for change in sides.changes.values() if change.old_mode not in (_NOTHING, _SUBMODULE)}
    checked = await git.here("cat-file", "--batch-check", given=_lines(wanted), limit=LIST_LIMIT)
    sizes: dict[str, int] = {}
    for line in checked.decode().splitlines():
        name, *rest = line.split(" ")
        if len(rest) != 2:
            raise Unreadable("some of its objects are missing", LOOK)
        sizes[name] = int(rest[1])
    read = [name for name, size in sizes.items() if size <= FILE_LIMIT]
    total = sum(sizes[name] for name in read)
    if total > READ_LIMIT:
        raise Unreadable(*_TOO_LARGE)
    contents = await git.here("cat-file", "--batch", given=_lines(read), limit=total + 200 * len(read))
    secret = await _to_its_end(_secrets, contents)
    for path, change in list(sides.changes.items()):
        if sizes.get(change.old_id, 0) > FILE_LIMIT:
            sides.leave_out(path, f"was larger than {FILE_LIMIT // 1_000_000} MB")
        elif change.old_id in secret:
            sides.leave_out(path, f"held what the hub refuses: it {SECRET[0]}")


def _lines(names: Collection[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()


def _secrets(contents: bytes) -> set[str]:
    """Of the objects that `cat-file --batch` printed, those that hold a secret."""
    found: set[str] = set()
    at = 0
    while at < len(contents):
        end = contents.index(b"\n", at)
        name, _, size = contents[at:end].decode().split(" ")
        at = end + 1 + int(size)
        if holds_secret(contents[end + 1 : at]):
            found.add(name)
        at += 1
    return found


def _take_new_sides(scope: _Scope, sides: _Sides, tree: Path) -> None:
    """Copy the files of the work tree, as they are now, and the attributes that say how git is to take them."""
    links: dict[Path, bytes] = {}
    folders: set[tuple[str, ...]] = set()
    left = READ_LIMIT
    for path, change in list(sides.changes.items()):
        if change.new_mode in (_NOTHING, _SUBMODULE):
            continue
        names = scope.names(path)
        try:
            mode, content = look(scope.top, names, FILE_LIMIT)
        except Unreadable as error:
            sides.leave_out(path, error.reason)
            continue
        if holds_secret(content):
            sides.leave_out(path, SECRET[0])
            continue
        left -= len(content)
        if left < 0:
            raise Unreadable(*_TOO_LARGE)
        folders.update(tuple(names[:end]) for end in range(len(names)))
        if mode == _LINK:
            links[tree.joinpath(*names)] = content
        else:
            _write(tree.joinpath(*names), content, mode)
    for folder in folders:
        try:
            mode, attributes = look(scope.top, [*folder, ".gitattributes"], 1_000_000)
            if mode != _LINK:  # which git does not follow either
                _write(tree.joinpath(*folder, ".gitattributes"), attributes, _FILE)
        except (Unreadable, FileExistsError):  # there is none, or it has changed and is there already
            continue
    for link, target in links.items():  # last: nothing is written through one
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.fsdecode(target))


def _write(target: Path, content: bytes, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o700)
    with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor
        file.write(content)


async def _diff(git: Git, sides: _Sides, submodules: Mapping[bytes, str]) -> str:
    """The diff of the two sides: the old ones as a tree, the new ones as an index."""
    old = [b"%o %s\t%s\0" % (c.old_mode, c.old_id.encode(), c.path) for c in sides.changes.values() if c.old_mode]
    await git.noted("update-index", "-z", "--index-info", given=b"".join(old))
    tree = (await git.noted("write-tree", "--missing-ok")).decode().strip()
    gone = [b"0 %s\t%s\0" % (b"0" * len(tree), c.path) for c in sides.changes.values() if c.new_mode == _NOTHING]
    moved = [b"%o %s\t%s\0" % (_SUBMODULE, commit.encode(), path) for path, commit in submodules.items()]
    await git.noted("update-index", "-z", "--index-info", given=b"".join(gone + moved))
    staged = [c.path + b"\0" for c in sides.changes.values() if c.new_mode not in (_NOTHING, _SUBMODULE)]
    await git.noted("update-index", "-z", "--add", "--replace", "--stdin", given=b"".join(staged))
    printed = await git.here("diff", "--cached", "--find-renames", "-l400", *_SAFE, tree, limit=4 * TEXT_LIMIT)
    return printed.decode("utf-8", "replace").replace("\0", "\ufffd")


async def _untracked(git: Git, scope: _Scope) -> list[bytes]:
    """Files that git does not keep and does not ignore; where that is a whole folder, its name and a slash."""
    found: set[bytes] = set()
    for folder in await _to_its_end(scope.folders):
        listed = await git.there("ls-files", "--full-name", "-z", *_OTHERS, at=folder, limit=LIST_LIMIT)
        found.update(path for path in listed.split(b"\0") if path and scope.holds(path))
    names: list[bytes] = []
    for path in sorted(found):
        if not (names and names[-1].endswith(b"/") and path.startswith(names[-1])):
            names.append(path)
    return names


def _told(title: str, text: str, out: Mapping[bytes, str], untracked: Sequence[bytes]) -> str:
    lines = [title]
    if out:
        lines += ["Changed, not shown:", *_named([f"{shown(os.fsdecode(path))} {out[path]}" for path in sorted(out)])]
    if untracked:
        lines += ["Untracked, not shown:", *_named([shown(os.fsdecode(path)) for path in untracked])]
    note = ["Bytes that are no UTF-8 are shown as \ufffd."] if "\ufffd" in text else []
    return "\n".join([*lines, *note, "", text])


def _named(names: Sequence[str]) -> list[str]:
    more = [f"  and {len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return [*(f"  {name}" for name in names[:NAMED]), *more]
