"""The hub's own Gemini CLI: the pinned one, put into the state folder by the owner's npm. And which CLI is used at all.

    <state>/gemini-cli/<version>-<hash of the lock>/    whole or not there: it is made beside, tried, and renamed
        package.json, package-lock.json, node_modules/
        node        a link to the Node.js that it was installed with
        gemini      what is started: that Node.js, or the one in PATH where that one has gone

Why a link to Node.js: an editor or a desktop starts the hub without the PATH of its owner's shell, and so without the
Node.js of a version manager. A newer hub with another pin has another folder; until `setup` has run there, the CLI
before is used. Nothing is updated by itself: the hub's settings of the CLI see to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.children.locks import held
from llm_mcp_hub.children.supervision import ran, said
from llm_mcp_hub.errors import CliMissing
from llm_mcp_hub.providers.gemini_compiled import FOLDER, NODE_OPTIONS, kept_by
from llm_mcp_hub.providers.gemini_turn import NAME

DEFAULT = "gemini"
"""The command where none is set: only then the hub's own is looked for."""
OLDEST = (0, 61)
"""The oldest CLI whose behaviour was measured."""
INSTALL_ACTION = (
    "Run `llm-mcp-hub setup`, or install it yourself: npm install -g @google/gemini-cli@0.61.0 (Node.js 20 or newer), "
    "or set HUB_GEMINI_COMMAND."
)
CHOSEN_ACTION = "Correct HUB_GEMINI_COMMAND; or unset it and run `llm-mcp-hub setup`."
"""Where one was chosen, to install another changes nothing."""
UPDATE_ACTION = (
    "Run `llm-mcp-hub setup` if that has installed it, else: npm install -g @google/gemini-cli@0.61.0 "
    "(Node.js 20 or newer)."
)
OLDEST_NODE = 20
OLDEST_NPM = 7
"""The first that reads this lock."""
ROOM_BYTES = 400 << 20
"""Of which 100 MB stay; npm has its cache on the same disk, mostly."""
INSTALL_S = 900.0
MUTE_S = 180.0
"""A registry from which nothing comes for so long: npm itself would wait for a quarter of an hour, and say nothing."""
LIFE_S = 30.0
"""How often a person is told how far it is."""
LOOK_S = 30.0
LOCK_LOOK_S = 0.2
SETUP = "then run: llm-mcp-hub setup"
NODE_ACTION = f"Install Node.js {OLDEST_NODE} or newer (npm is part of it) and put it into PATH; {SETUP}"

_START = """#!/bin/sh
here=${0%/*}
node=$here/node
[ -x "$node" ] || node=node
exec "$node" "$here/node_modules/.bin/gemini" "$@"
"""
_OF_NPM = (
    "HOME",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "TMPDIR",
    "TEMP",
    "TMP",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
)
_FAULTS: tuple[tuple[str, str, str], ...] = (
    ("ENOSPC", "there is no space left", "Make room on the disks of the state folder and of npm's cache"),
    (
        r"EINTEGRITY",
        "the registry has sent something else than what the hub was measured with",
        "Look which registry it is: npm config get registry",
    ),
    (
        r"E407",
        "the proxy before the package registry wants a login",
        "Put its user and password into HTTPS_PROXY",
    ),
    (
        r"E403",
        "the package registry, or the proxy before it, has refused",
        "Ask who runs them; which they are, npm config get registry and HTTPS_PROXY tell",
    ),
    (
        r"E401|ENEEDAUTH",
        "the package registry wants a login",
        "Log in: npm login",
    ),
    (
        r"E404|ETARGET|ENOVERSIONS",
        "the package registry does not have it",
        "Look which registry it is: npm config get registry",
    ),
    (
        r"CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL",
        "the certificate of the package registry, or of the proxy before it, is not trusted",
        "Make NODE_EXTRA_CA_CERTS the path of a PEM file with its authority",
    ),
    (
        r"ENOTFOUND|EAI_AGAIN|ECONN\w+|ETIMEDOUT|E(NET|HOST)UNREACH|ERR_SOCKET_TIMEOUT|EPROTO|ERR_INVALID_URL|E50\d",
        "the package registry cannot be reached",
        "Check the network, HTTPS_PROXY, and: npm config get registry",
    ),
    (
        r"EACCES|EPERM|EROFS",
        "npm may not write",
        "Let this user write HUB_STATE_DIR and the folder of: npm config get cache",
    ),
    (r"EUSAGE|EBADENGINE|EUNSUPPORTED\w*", "this npm cannot install it", "Update it: npm install -g npm"),
)
"""What npm calls it, what that means, and the next step; the first that is found counts."""


def folder(state: Path) -> Path:
    """Where the hub's own CLIs are, in a state folder."""
    return state / "gemini-cli"


def pin() -> Path:
    """The folder of what is pinned: in the package, or where the hub runs from its sources, beside them."""
    packaged = Path(__file__).parent.parent / "gemini-cli"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "gemini-cli"


@functools.cache
def wanted() -> str:
    """The version that the hub was measured with."""
    return str(json.loads((pin() / "package.json").read_text("utf-8"))["dependencies"]["@google/gemini-cli"])


@functools.cache
def _name() -> str:
    return f"{wanted()}-{hashlib.sha256((pin() / 'package-lock.json').read_bytes()).hexdigest()[:8]}"


def installed(own: Path, *, pinned: bool = False) -> Path | None:
    """The hub's own CLI in the folder `own`: the pinned one, else (unless `pinned`) the last that was installed."""
    ready = own / _name() / "gemini"
    if ready.is_file():
        return ready
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        found = [(file.stat().st_mtime, file) for file in own.glob("[0-9]*/gemini")]
    return max(found)[1] if found and not pinned else None


def find(command: str, around: Mapping[str, str], own: Path | None) -> Path | None:
    """The CLI: `command` by a name in PATH or a path, else the hub's own where no command was chosen."""
    found = shutil.which(command, path=child_environment(around, {})["PATH"])
    if found is not None:
        return Path(found).absolute()
    return installed(own) if own is not None and command == DEFAULT else None


def node_of(cli: Path | None, own: Path | None) -> Path | None:
    """The Node.js that one of the hub's own CLIs was installed with, as long as it is there."""
    if cli is None or own is None or cli.parent.parent != own:
        return None
    node = cli.with_name("node")
    return node if node.is_file() else None


@dataclass(frozen=True, slots=True)
class Tools:
    """What an installation needs of the owner's machine."""

    npm: Path
    node: Path
    """The program itself, no link or shim of a version manager."""


async def tools(around: Mapping[str, str]) -> Tools:
    """Node.js and npm in PATH, new enough. Raises CliMissing."""
    environment = _environment(around)
    node, npm = (shutil.which(name, path=environment["PATH"]) for name in ("node", "npm"))
    if node is None:
        raise _missing("Node.js, which it runs on, was not found in PATH.", NODE_ACTION)
    text = "process.versions.node + ' ' + process.execPath"
    about = (await _told([node, "-p", text], environment)).strip()
    number, _, itself = about.partition(" ")
    if not number.partition(".")[0].isdigit():
        raise _missing(f"Node.js at {node} cannot be started.", NODE_ACTION)
    if int(number.partition(".")[0]) < OLDEST_NODE:
        raise _missing(f"Node.js at {node} is too old ({number}; {OLDEST_NODE} is needed).", NODE_ACTION)
    if npm is None:
        raise _missing("npm, which belongs to Node.js, was not found in PATH.", f"Install npm; {SETUP}")
    version = (await _told([npm, "--version"], environment)).strip()
    if not version.partition(".")[0].isdigit():
        raise _missing(f"npm at {npm} cannot be started.", f"See what stops it: {shlex.quote(npm)} --version; {SETUP}")
    if int(version.partition(".")[0]) < OLDEST_NPM:
        raise _missing(f"npm at {npm} is too old ({version}).", f"Update it: npm install -g npm; {SETUP}")
    return Tools(Path(npm), Path(itself or node))


def _untold(_text: str) -> None:
    pass


async def install(
    own: Path, around: Mapping[str, str], *, again: bool = False, tell: Callable[[str], None] = _untold
) -> Path:
    """Install the pinned CLI into `own`, unless it is there, and take away what is older. Returns its program.

    `again`: also where it is there, for it does not start. Whatever ends this, a CLI that is there is whole.
    `tell` is told now and then how far it is. Raises CliMissing, which says what is in the way.
    """
    try:
        for folder in (own.parent, own):  # `parents` would make the first one with any mode
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with _alone(own):
            ready = installed(own, pinned=True)
            if ready is not None and not again:
                return ready
            _sweep(own)
            found = await tools(around)
            if shutil.disk_usage(own).free < ROOM_BYTES:
                raise _missing(f"{own} has less than {ROOM_BYTES >> 20} MB left.", f"Make room there, {SETUP}")
            made, gone = (own / f".new-{secrets.token_hex(4)}" for _ in range(2))
            made.mkdir(mode=0o700)
            try:
                await _fill(made, found, around, tell)
                with contextlib.suppress(FileNotFoundError):  # away as a whole: half of one would stay in the way
                    (own / _name()).rename(gone)
                made.rename(own / _name())
                await _compile(own / _name() / "gemini", around)
            finally:
                shutil.rmtree(made, ignore_errors=True)
                shutil.rmtree(gone, ignore_errors=True)
            return own / _name() / "gemini"
    except OSError as error:
        raise _missing(
            f"{own} cannot be written ({error.strerror}).",
            f"Set HUB_STATE_DIR to a folder that this user can write, {SETUP}",
        ) from error


async def _fill(made: Path, found: Tools, around: Mapping[str, str], tell: Callable[[str], None]) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(pin() / name, made / name)
    # with npm's own pauses a registry that is away is told of after more than a minute
    pauses = ["--fetch-retry-mintimeout=2000", "--fetch-retry-maxtimeout=10000"]
    quiet = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    npm = ran(
        [str(found.npm), "ci", "--prefix", str(made), *pauses, *quiet],
        environment=_environment(around),
        limit_s=INSTALL_S,
    )
    ended = await _watched(npm, made, tell)
    if ended is None:
        raise _missing(f"npm has not ended in {INSTALL_S / 60:.0f} minutes.", f"Check the network, {SETUP}")
    code, text = ended
    if code:
        raise fault(code, text)
    (made / "node").symlink_to(found.node)
    start = made / "gemini"
    start.write_text(_START)
    start.chmod(0o700)
    if wanted() not in await _version(start, around):
        raise _missing("what npm has installed cannot be started here.", f"See `llm-mcp-hub doctor`, {SETUP}")


async def _version(start: Path, around: Mapping[str, str], **more: str) -> str:
    """What a CLI of the hub's own says to --version, in a home that is made for it beside it."""
    home = start.with_name("home")
    home.mkdir(mode=0o700)
    private = {"HOME": str(home), "GEMINI_CLI_HOME": str(home), "TMPDIR": str(home), "GEMINI_CLI_NO_RELAUNCH": "1"}
    told = await _told([str(start), "--version"], child_environment(around, {**private, **more}))
    shutil.rmtree(home, ignore_errors=True)
    return told


async def _compile(start: Path, around: Mapping[str, str]) -> None:
    """Have Node.js keep what it compiles of the CLI, by its final path. Without it the CLI only starts more slowly."""
    with contextlib.suppress(OSError):
        (start.parent / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
        await _version(start, around, NODE_OPTIONS=NODE_OPTIONS, **kept_by(start))


async def _watched(
    npm: Awaitable[tuple[int, str] | None], made: Path, tell: Callable[[str], None]
) -> tuple[int, str] | None:
    """What npm ends with. Raises CliMissing where nothing has come into `made` for `MUTE_S` seconds."""
    task = asyncio.ensure_future(npm)
    begun = most = await asyncio.to_thread(_bytes, made)
    clock = asyncio.get_running_loop().time
    since = clock()
    try:
        while not (await asyncio.wait([task], timeout=LIFE_S))[0]:
            size = await asyncio.to_thread(_bytes, made)
            if size > most:
                most, since = size, clock()
            if clock() - since >= MUTE_S:
                raise _missing(
                    f"nothing has come from the package registry (or its proxy) in {MUTE_S / 60:.0f} minutes.",
                    f"Check the network, HTTPS_PROXY, and: npm config get registry; {SETUP}",
                )
            if most == begun:
                tell("npm still waits for the package registry, from which nothing has come yet; Ctrl-C ends it")
            else:
                tell(f"npm goes on; {(most - begun) // 1_000_000} MB have come")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _bytes(folder: Path) -> int:
    """How much is in it; what goes while it is looked at counts for nothing."""
    total = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 -- ten thousand
    return total


def fault(code: int, text: str) -> CliMissing:
    """What npm's complaint means. Of its words only the code is told: an address in them may hold a password."""
    codes = re.findall(r"^npm (?:error|ERR!) (?:code|errno|syscall) (\S+)", text, re.MULTILINE) or [text]
    for pattern, what, action in _FAULTS:
        if any(re.search(pattern, each) for each in codes):
            return _missing(f"{what} (npm: {codes[0] if codes[0] != text else code}).", f"{action}; {SETUP}")
    named = "" if codes[0] == text else f", {codes[0]}"
    return _missing(f"npm has failed (exit code {code}{named}).", f"Read its log: ls ~/.npm/_logs; {SETUP}")


def _sweep(own: Path) -> None:
    """Take away what was begun and never ended, and what is older than the CLI before."""
    for torn in own.glob(".new-*"):
        shutil.rmtree(torn, ignore_errors=True)
    before = sorted(own.glob("[0-9]*"), key=lambda path: path.stat().st_mtime)
    for old in before[:-1]:  # a hub that runs may still read in the last one
        shutil.rmtree(old, ignore_errors=True)


@contextlib.asynccontextmanager
async def _alone(own: Path) -> AsyncGenerator[None]:
    """No other `setup` installs meanwhile; it is waited for."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(own / ".lock"))
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_LOOK_S)
        yield


async def _told(command: list[str], environment: Mapping[str, str]) -> str:
    try:
        return await said(command, environment=environment, limit_s=LOOK_S) or ""
    except OSError:
        return ""


def _environment(around: Mapping[str, str]) -> dict[str, str]:
    """npm's: beside what any child gets, where it finds its owner's configuration, which names the registry."""
    kept = {name: value for name, value in around.items() if name in _OF_NPM or name.upper().startswith("NPM_")}
    return child_environment(around, {**kept, "NO_UPDATE_NOTIFIER": "1"})


def _missing(what: str, action: str) -> CliMissing:
    return CliMissing(f"The Gemini CLI is not installed: {what}", action=action, provider=NAME)
