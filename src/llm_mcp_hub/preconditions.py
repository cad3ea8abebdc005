"""What an ask needs of the hub's own surroundings, looked at without spending one: for `llm-mcp-hub doctor`.

Knows the machine (folders, clock, way out), the settings' files and the store; no provider: each has its own in
`providers/`. Nothing is sent to anybody but the operator's own Redis and proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import shlex
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from llm_mcp_hub import others, state_folder
from llm_mcp_hub.children.environment import child_environment, network_settings
from llm_mcp_hub.credentials.status import TokenStatus, utc
from llm_mcp_hub.errors import HubError, Misconfigured
from llm_mcp_hub.finding import AGAIN, Finding, blocks, ok, step, told, warns
from llm_mcp_hub.store.base import DOCTOR, Held, Store
from llm_mcp_hub.store.redis import RedisStore

LEAST_BYTES = 1 << 20
"""With less room than this no CLI starts."""
LITTLE_BYTES = 100 << 20
SKEW_S = 60.0
CONNECT_S = 3.0
MOUNTED_SECRETS = Path("/run/secrets")
"""Where container engines mount secrets, readable by all in a container that is the hub's alone."""
SET_CLOCK = "sudo sntp -sS time.apple.com" if sys.platform == "darwin" else "timedatectl set-ntp true"


# -- the hub and its settings ------------------------------------------------------------------------------------------


def itself(version: str) -> list[Finding]:
    """The hub."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [ok("hub", f"llm-mcp-hub {version}, {python}, {platform.system()}")]


def settings(
    wrong: Sequence[Misconfigured],
    files: Sequence[tuple[str, Path, bool]],
    mistyped: Sequence[tuple[str, str]] = (),
    unread: Sequence[str] = (),
) -> list[Finding]:
    """Settings that cannot be used, where the others come from, and who else can read or write there.

    `files`: why each was read, its path, and whether it holds a secret. `mistyped`: a name, and the setting it is like.
    `unread`: where something stands that is no setting.
    """
    found = [told("settings", error) for error in wrong]
    for name, meant in mistyped:
        mend = f"Call it {meant} if that is meant; else unset it."
        found.append(warns("settings", f"{name} is no setting, so it does nothing", mend))
    for where in unread:
        mend = f"Write it as NAME=VALUE, or take it out, then run: {AGAIN}"
        found.append(warns("settings", f"{where} is no NAME=VALUE, so it does nothing", mend))
    source = "from the environment"
    for name, path, secret in files:
        held = path.stat()
        mode = stat.S_IMODE(held.st_mode)
        shown = f"{path} ({name}, mode {mode:04o})"
        source += f", and {shown}"
        if not stat.S_ISREG(held.st_mode) or path.is_relative_to(MOUNTED_SECRETS):
            continue
        mend = f"Run: chmod 600 {shlex.quote(str(path))}"
        if others.can_write(mode):
            found.append(warns("settings", f"{shown} can be written by others", mend))
        elif secret and others.can_read(mode):
            found.append(warns("settings", f"{shown} holds a secret and can be read by others", mend))
    return found or [ok("settings", source)]


def http(host: str, port: int, loopback_only: bool, clients: Sequence[str] | None) -> list[Finding]:
    """Who can reach `serve`: with client tokens (None: without) their clients alone."""
    where = f"{host}, port {port}: this machine only" if loopback_only else f"{host}, port {port}: other machines too"
    if clients is None:
        return [ok("http", f"{where}, and every program on it: there are no client tokens")]
    if not clients:
        return [
            warns("http", f"{where}, and nobody comes in: all clients are revoked", "Run: llm-mcp-hub client add NAME")
        ]
    return [ok("http", f"{where}, with a client token of: {', '.join(clients)}")]


def replicas(keys: int, shared: str) -> list[Finding]:
    """Whether `serve` is one of several replicas, and by what they share all they know."""
    if not keys:
        return [ok("replicas", "HUB_STATE_KEY is not set: one hub, which keeps the sessions of older clients itself")]
    others = "" if keys == 1 else f", and {keys - 1} more that are still accepted"
    return [ok("replicas", f"sessions are sealed with HUB_STATE_KEY{others}, for every hub that shares {shared}")]


def login(name: str, status: TokenStatus) -> Finding:
    """A provider's login as its status says it, with how that is known."""
    known = status.evidence
    message = status.message.rstrip(".")
    if known is not None:
        message += f" ({known.level.replace('_', '-')}, by {known.source}, {known.observed_at})"
    if not status.usable:
        return blocks(f"{name}-login", message, step(status.action or "Run: llm-mcp-hub status"))
    if status.status == "valid":
        return ok(f"{name}-login", message, status.action)
    return warns(f"{name}-login", message, status.action or "Run: llm-mcp-hub status --json")


# -- the machine -------------------------------------------------------------------------------------------------------


def state(folder: Path) -> list[Finding]:
    """Whether it can be written, has room, and is the owner's alone. Leaves nothing but the folder itself."""
    name = "state-folder"
    try:
        state_folder.make(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
        mode = stat.S_IMODE(folder.stat().st_mode)
    except Misconfigured as error:
        return [told(name, error)]
    except OSError as error:
        return [
            blocks(
                name,
                f"The state folder {folder} cannot be written ({error.strerror})",
                "Set HUB_STATE_DIR to a folder that this user can write, with space left.",
            )
        ]
    if free < LEAST_BYTES:
        return [
            blocks(
                name,
                f"The state folder {folder} has {_size(free)} left: no CLI can start there",
                "Make room, or set HUB_STATE_DIR to a folder with space left.",
            )
        ]
    found: list[Finding] = []
    if free < LITTLE_BYTES:
        found.append(
            warns(
                name,
                f"The state folder {folder} has only {_size(free)} left",
                "Make room, or set HUB_STATE_DIR to a folder with space left.",
            )
        )
    if others.can_enter(mode):
        found.append(
            warns(
                name,
                f"The state folder {folder} (mode {mode:04o}) is open to others, who may look around in it",
                f"Run: chmod 700 {shlex.quote(str(folder))}",
            )
        )
    return found or [ok(name, f"writable, private, {_size(free)} left: {folder}")]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def stamps(folder: Path, *others: Path) -> dict[Path, float]:
    """When the hub's own files were last written, by the clock of that time."""
    found: dict[Path, float] = {}
    paths = list(others)
    with contextlib.suppress(OSError):
        paths += folder.iterdir()
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = path.stat().st_mtime
    return found


def clock(folder: Path, written: Mapping[Path, float]) -> list[Finding]:
    """Compare this clock with stamps that it made before, and with the one that the folder's file system goes by.

    Nobody is asked. That shows a clock that has gone back, and a file server's that differs; not one that has always
    run wrong.
    """
    ahead: float | None = None
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0")
        probe.flush()
        ahead = os.fstat(probe.fileno()).st_mtime - time.time()
    return [judge_clock(time.time(), written, ahead)]


def judge_clock(now: float, written: Mapping[Path, float], file_system_ahead_s: float | None) -> Finding:
    """What the newest stamp, and a file system that stamps by its own clock, say of this one."""
    newest = max(written, key=lambda path: written[path], default=None)
    if newest is not None and written[newest] > now + SKEW_S:
        behind = _span(written[newest] - now)
        return warns(
            "clock",
            f"This machine's clock says {_utc(now)}, but {newest} was written {behind} later: what depends on time "
            "(logins, certificates) may fail",
            f"Set the clock: {SET_CLOCK}",
        )
    if file_system_ahead_s is not None and abs(file_system_ahead_s) > SKEW_S:
        return warns(
            "clock",
            f"This clock says {_utc(now)}; the file system of the state folder is {_skew(file_system_ahead_s)} it",
            f"Set the clock: {SET_CLOCK}",
        )
    return ok("clock", f"{_utc(now)}, later than all that was written here before; nobody else was asked")


def _utc(at: float) -> str:
    try:
        return utc(datetime.fromtimestamp(at, UTC))
    except (OverflowError, ValueError, OSError):
        return "a time that is none"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.9 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _skew(ahead_s: float) -> str:
    return f"{_span(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'}"


def git(around: Mapping[str, str]) -> list[Finding]:
    """Asks with `git_diff` need it; no other does."""
    found = shutil.which("git", path=child_environment(around, {})["PATH"])
    if found is not None:
        return [ok("git", f"{found}, for asks with git_diff")]
    mend = "Install git and put it into PATH; then check with: git --version"
    return [warns("git", "There is no git in PATH: asks with git_diff fail", mend)]


def file_roots(roots: Sequence[Path] | None) -> list[Finding]:
    """Whether the folders that files may be read from are there."""
    name = "file-roots"
    if sys.platform == "win32":
        return [ok(name, "the hub reads no files on Windows; what clients send as attachments is taken")]
    if roots is None:
        return [ok(name, "HUB_FILE_ROOTS is not set: over stdio the project a client opens, over HTTP no file")]
    found = [
        warns(
            name,
            f"The file root {root} is no folder that this user can read: no file comes from there",
            "Correct HUB_FILE_ROOTS.",
        )
        for root in roots
        if not (os.access(root, os.R_OK | os.X_OK) and root.is_dir())  # in this order: `is_dir` may raise
    ]
    shown = ", ".join(map(str, roots)) or "none: no file is read"
    return found or [ok(name, f"HUB_FILE_ROOTS: {shown}")]


# -- the way out -------------------------------------------------------------------------------------------------------


def proxy_parts(value: str) -> tuple[str, str, int] | None:
    """A proxy's address as it may be shown, its host and its port; None for what both CLIs would not take.

    Made anew from the parts that hold no secret, and only where no part of a password can have been taken for one:
    `http://me:12/34@proxy` has the host `me` for Python.
    """
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or value.count("@") != parts.netloc.count("@"):
        return None
    port = port or (443 if parts.scheme == "https" else 80)
    secret = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{secret}{f'[{host}]' if ':' in host else host}:{port}", host, port


async def proxies(around: Mapping[str, str]) -> AsyncGenerator[Finding]:
    """The proxy variables that both CLIs are given, and whether the proxy is there."""
    given = {name: value for name, value in network_settings(around).items() if name.endswith("PROXY")}
    shown: list[str] = []
    for name, value in given.items():
        if name == "NO_PROXY":
            shown.append(f"{name}={','.join(part.rpartition('@')[2] for part in value.split(','))}")
        elif (parts := proxy_parts(value)) is None:
            yield warns(
                "proxy",
                f"{name} holds no http:// or https:// address, which both CLIs want (it is not shown: it may hold a "
                "password)",
                f"Correct {name}, for example: {name}=http://proxy.example:3128",
            )
        elif name == "HTTPS_PROXY" and (why := await _unreachable(*parts[1:])) is not None:
            yield blocks(
                "proxy",
                f"The proxy {name}={parts[0]} cannot be reached ({why})",
                f"Start it, or correct {name}.",
            )
        else:
            shown.append(f"{name}={parts[0]}")
    if shown:
        yield ok("proxy", f"handed to both CLIs: {' '.join(shown)}")
    elif not given:
        yield ok("proxy", "no proxy variable is set: the CLIs connect directly")


async def _unreachable(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_S):
            _reader, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return "no answer"
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
        return os.strerror(number) if number else "no such host, or none of its addresses answers"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


def certificates(around: Mapping[str, str]) -> list[Finding]:
    """The files of certificate authorities that both CLIs are given must be there, readable, and hold some."""
    given = {name: value for name, value in network_settings(around).items() if not name.endswith("PROXY")}
    if not given:
        return [ok("certificates", "no file of certificate authorities is named: the CLIs have their own")]
    found: list[Finding] = []
    for name, value in given.items():
        try:
            if not (Path(value).is_absolute() and Path(value).is_file()):  # the CLIs run in folders of their own
                wrong = "is no file" if Path(value).is_absolute() else "is no absolute path"
            else:
                wrong = "" if b"CERTIFICATE-----" in Path(value).read_bytes() else "holds no certificate"
        except (OSError, ValueError) as error:
            wrong = f"cannot be read ({getattr(error, 'strerror', None) or 'no such path'})"
        if wrong:
            found.append(
                blocks(
                    "certificates",
                    f"{name}={value} {wrong}: the CLIs would not trust what it was meant for",
                    f"Make {name} the path of a readable PEM file.",
                )
            )
    shown = " ".join(f"{name}={value}" for name, value in given.items())
    return found or [ok("certificates", f"handed to both CLIs: {shown}")]


# -- the store ---------------------------------------------------------------------------------------------------------


async def shared(opened: Callable[[], Store]) -> AsyncGenerator[Finding]:
    """Whether the store takes what an ask needs of it; of a Redis server also what it is."""
    holder = secrets.token_hex(8)
    store: Store | None = None
    try:
        store = opened()
        began = time.perf_counter()
        await store.take(DOCTOR, holder, limit=1_000, ttl_s=60)
        await store.release([Held(DOCTOR, holder)])
        taken = time.perf_counter() - began
        if not isinstance(store, RedisStore):
            yield ok("store", f"SQLite in the state folder, written in {taken * 1000:.1f} ms")
            return
        server = await store.examine()
    except HubError as error:
        yield told("store", error)
        return
    finally:
        if store is not None:
            await store.close()
    version = server.version or "of unknown version"
    yield ok("store", f"Redis {version} of REDIS_URL, answers in {server.latency_s * 1000:.1f} ms")
    if server.policy is None:
        yield ok("store-policy", "whether that Redis keeps all (noeviction) cannot be told: not allowed to ask")
    elif server.policy == "noeviction":
        yield ok("store-policy", "that Redis keeps all that is written (noeviction)")
    else:
        yield warns(
            "store-policy",
            f"That Redis removes what it likes when it is full ({server.policy}): answers may be lost",
            "Run: redis-cli config set maxmemory-policy noeviction",
        )
    if abs(server.ahead_s) > SKEW_S:
        yield warns(
            "store-clock",
            f"The clock of that Redis is {_skew(server.ahead_s)} this machine's: one of the two is wrong",
            f"Set the clock that is wrong; here: {SET_CLOCK}",
        )
