"""Opening files below the roots, so that nothing can be swapped between the check and the read. Knows no git.

A path is walked by hand, one name at a time, each folder opened from the one before it and no link followed by the
kernel: a link is read, and walked on by the same rules. So what is checked is what is open, whatever else renames or
relinks in these folders meanwhile. A link may leave a root only for another one.

What this cannot know: a hard link is the file itself. If somebody who may read a file made a second name for it inside
a root, it is a file of the root; only its content can still refuse it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from llm_mcp_hub.material.rules import Unreadable, any_refused, is_one_line, refused

HERE = sys.platform != "win32"
"""Whether this system can open a file below a folder that is open; without that no check would hold."""
_PASS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | int(getattr(os, "O_PATH", os.O_RDONLY)) if HERE else 0
"""How a folder is opened on the way; with O_PATH, which Linux has, it need not be readable."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC if HERE else 0
"""O_NONBLOCK: the opening of a FIFO that came in between must not wait for a writer."""
_LINKS = 40
"""As the kernel: more of them are a circle."""
_OF_THE_SYSTEM = ("/proc", "/sys", "/dev")
"""Regular files there are windows into the kernel and this process, its environment among them."""

OUTSIDE = ("is outside the file roots", "Name a file inside them, or send its content in `attachments`.")
REFUSED = (
    "is refused: keys, logins, .env files and their folders are never read",
    "Leave it out, or put what matters of it into the prompt.",
)
_MISSING = ("is not there", "Check the path; a relative one starts at the first file root.")
_NOT_FIRST = (
    "is not in the first file root, where relative paths start, and there are several roots",
    "Give its absolute path.",
)
_FOLDER = ("is a folder", "Name the files in it one by one.")
_SPECIAL = ("is no regular file", "Name a text, image or PDF file.")
_CIRCLE = ("leads through too many links, or changes while it is opened", "Name the file itself.")
_CLOSED = ("cannot be read by the hub", "Let the hub's user read it, or send its content in `attachments`.")
_NO_NAME = ("is no file name", "Give a path without line ends and control characters.")


class Roots:
    """The folders that files may be read from. The first one is where relative paths start."""

    def __init__(self, roots: Sequence[Path], closed: Sequence[Path] = ()) -> None:
        """`closed`: folders and files that are never read, unless a root is further inside."""
        as_given = [(os.path.abspath(root), os.path.realpath(root)) for root in roots]  # noqa: PTH100 -- links stay
        self.folders = tuple(dict.fromkeys(real for _, real in as_given))
        """As they really are: no link in them."""
        spelled = {**dict(as_given), **{real: real for real in self.folders}}
        self._spelled = sorted(spelled.items(), key=lambda pair: -len(pair[0]))
        self._closed = tuple(os.path.realpath(path) for path in closed)

    def holding(self, path: str) -> str | None:
        """The innermost root that holds this absolute path without links, None if there is none."""
        return max((root for root in self.folders if is_inside(path, root)), key=len, default=None)

    def may_show(self, path: str) -> bool:
        """Whether the names below its root, of an absolute path without links, allow to show what is there."""
        root = self.holding(path)
        if root is None or self._is_closed(path, root):
            return False
        return not any_refused([_last(root), *_names(path, root)])

    def read(self, path: str, limit: int) -> bytes:
        """The whole content of the file that `path` leads to. Raises Unreadable."""
        try:
            with self._opened(path) as descriptor:
                return _content(descriptor, limit)
        except (OSError, ValueError) as error:  # ValueError: NUL, or what the file system cannot spell
            raise self._told(error, path) from error

    @contextmanager
    def _opened(self, path: str) -> Generator[int]:
        if not path or not is_one_line(path):
            raise Unreadable(*_NO_NAME)
        if not path.startswith("/"):
            if len(os.fsencode(path)) > 4096:
                raise Unreadable(*_MISSING)
            path = f"{self.folders[0]}/{path}"
        for _ in range(_LINKS):
            root, names = self._placed(path)
            with ExitStack() as stack:
                way = _Way(root, stack)
                onward = self._walked(way, deque(names))
                if isinstance(onward, int):
                    yield onward
                    return
                path = onward
        raise Unreadable(*_CIRCLE)

    def _placed(self, path: str) -> tuple[str, list[str]]:
        """The root that an absolute path is in, and the names from there. Outside tells nothing of what is there."""
        for spelled, root in self._spelled:
            if is_inside(path, spelled):
                return root, _names(path, spelled)
        real = os.path.realpath(path)
        root = self.holding(real)
        if root is None:
            raise Unreadable(*OUTSIDE)
        return root, _names(real, root)

    def _walked(self, way: _Way, left: deque[str]) -> int | str:
        """The descriptor of the file at the end of the way, or the absolute path where it goes on outside the root."""
        links = 0
        while left:
            name = left.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if not way.names:
                    return os.path.realpath("/".join((way.root, "..", *left)))
                way.back()
                continue
            if refused(way.names[-1] if way.names else _last(way.root), name):
                raise Unreadable(*REFUSED)
            if self._is_closed("/".join((way.root.rstrip("/"), *way.names, name)), way.root):
                raise Unreadable(*REFUSED)
            mode = os.stat(name, dir_fd=way.here, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS:
                    raise Unreadable(*_CIRCLE)
                target = os.readlink(name, dir_fd=way.here)
                if target.startswith("/"):
                    return "/".join((target, *left))
                left.extendleft(reversed(target.split("/")))
            elif any(rest not in ("", ".") for rest in left):
                way.into(name)
            else:
                return way.file(name)
        raise Unreadable(*_FOLDER)

    def _is_closed(self, path: str, root: str) -> bool:
        shut = (closed for closed in self._closed if closed == root or not is_inside(root, closed))
        return any(is_inside(path, closed) for closed in (*shut, *_OF_THE_SYSTEM))

    def _told(self, error: OSError | ValueError, path: str) -> Unreadable:
        number = error.errno if isinstance(error, OSError) else errno.ENOENT
        if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            relative_to_one = len(self.folders) > 1 and not path.startswith("/")
            return Unreadable(*(_NOT_FIRST if relative_to_one else _MISSING))
        return Unreadable(*(_CIRCLE if number in (errno.ELOOP, errno.EMLINK) else _CLOSED))


class _Way:
    """A way down from a root: each folder on it is held open, so that going back needs no name."""

    def __init__(self, root: str, stack: ExitStack) -> None:
        self.root = root
        self.names: list[str] = []
        self._stack = stack
        self._open = [_folder(root, stack)]

    @property
    def here(self) -> int:
        return self._open[-1]

    def into(self, name: str) -> None:
        self._open.append(_held(os.open(name, _PASS, dir_fd=self.here), self._stack))
        self.names.append(name)

    def back(self) -> None:
        self._open.pop()
        self.names.pop()

    def file(self, name: str) -> int:
        return _held(open_regular(name, self.here), self._stack)


def look(top: str, names: Sequence[str], limit: int) -> tuple[int, bytes]:
    """What stands at a place of a tree, no link followed anywhere below `top`.

    Its mode as git writes it, and the content of a file or the target of a link. Raises Unreadable, also for what is
    not there.
    """
    try:
        with ExitStack() as stack:
            here = _folder(top, stack)
            for name in names[:-1]:
                here = _held(os.open(name, _PASS, dir_fd=here), stack)
            mode = os.stat(names[-1], dir_fd=here, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                return 0o120000, os.fsencode(os.readlink(names[-1], dir_fd=here))
            descriptor = _held(open_regular(names[-1], here), stack)
            return 0o100755 if mode & stat.S_IXUSR else 0o100644, _content(descriptor, limit)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise Unreadable(*(_MISSING if missing else _CLOSED)) from error


def small_file(path: Path, limit: int = 1_000_000) -> bytes | None:
    """The content of a file that is no link, None if it is not there. Raises Unreadable."""
    try:
        descriptor = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(*_CLOSED) from error
    try:
        return _content(descriptor, limit)
    finally:
        os.close(descriptor)


def open_regular(name: str | Path, folder: int | None = None) -> int:
    """A descriptor of a regular file; a link at its end is not followed. Raises Unreadable and OSError."""
    # Looked at first: the mere opening of a device can do something (wind a tape, arm a watchdog).
    _demand_regular(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        _demand_regular(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_inside(path: str, folder: str) -> bool:
    """Whether an absolute path is `folder` or below it, by its letters."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _demand_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise Unreadable(*_FOLDER)
    if stat.S_ISLNK(mode):  # it was none a moment ago
        raise Unreadable(*_CIRCLE)
    if not stat.S_ISREG(mode):
        raise Unreadable(*_SPECIAL)


def _names(path: str, folder: str) -> list[str]:
    return path[len(folder) :].strip("/").split("/")


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _held(descriptor: int, stack: ExitStack) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _folder(path: str, stack: ExitStack) -> int:
    """A folder by its absolute path without links: one that has become a link is not followed."""
    here = _held(os.open("/", _PASS), stack)
    for name in path.split("/"):
        if name:
            here = _held(os.open(name, _PASS, dir_fd=here), stack)
    return here


def _content(descriptor: int, limit: int) -> bytes:
    too_large = Unreadable(f"is larger than {limit // 1_000_000} MB", "Name a smaller file, or a part of it.")
    if os.fstat(descriptor).st_size > limit:
        raise too_large
    pieces: list[bytes] = []
    left = limit + 1  # its size is what it was: it may grow while it is read
    while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    if left <= 0:
        raise too_large
    return b"".join(pieces)
