"""Builds the image of `Dockerfile` for real, without a container engine. Knows what is in an image, nothing of the hub.

buildah runs the Dockerfile (root, chroot isolation). Machines that check this cannot pull from an image registry, so
the two base images are made here: Debian's own packages by mmdebstrap, and Node.js with npm as
`node/package-lock.json` pins them. How this machine reaches its package indexes (certificates, mirrors, proxies) is
taken from its pip, npm and apt and shown to the build as a mounted folder, so it is in no layer.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.harness import ROOT

NAME = "localhost/llm-mcp-hub:latest"
SUITE = "trixie"
NODE = Path(__file__).parent / "node"
HOST = "/run/host"
"""Where a build sees how this machine reaches its package indexes."""
STEP_S = 900.0
CANARIES = {
    "a .env in the folder": "sk-ant-oat01-canary-in-a-dot-env",
    "a login in the folder": "1//canary-in-a-login-file",
    "git's history": "canary-in-the-history",
    "the build's environment": "canary-in-the-environment",
    "the settings of pip": "canary-in-the-settings",
}
"""Secrets that lie about while an image is built, by where they lie."""
_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
_NPM = ("registry", "proxy", "https-proxy", "noproxy", "strict-ssl")


@dataclass(frozen=True)
class Image:
    """A built image, its files mounted."""

    rootfs: Path
    config: Mapping[str, Any]
    """`Config` of the image: Env, Cmd, Entrypoint, User, Labels and so on."""
    history: str
    layers: tuple[Path, ...]
    """The files of each layer, the lowest first; what a later one takes away is still there."""
    storage: Path
    """Where it was built: the layers of every stage."""
    built_s: float
    """Of the Dockerfile alone, without its bases."""
    size: int
    """Bytes of all layers."""

    @property
    def environment(self) -> dict[str, str]:
        """What it sets itself."""
        pairs = (line.partition("=") for line in self.config["Env"])
        return {name: value for name, _, value in pairs}

    def save(self, file: Path) -> None:
        """For another process."""
        file.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, file: Path) -> Image:
        """As it was saved."""
        held: dict[str, Any] = json.loads(file.read_text())
        held |= {name: Path(held[name]) for name in ("rootfs", "storage")}
        held["layers"] = tuple(map(Path, held["layers"]))
        return cls(**held)

    def writable(self, uid: int) -> list[str]:
        """What that user could write on a root file system that is not mounted read-only, but for folders like /tmp."""
        found: list[str] = []
        for folder, _folders, files in os.walk(self.rootfs):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                held = path.lstat()
                if stat.S_ISLNK(held.st_mode) or path.is_relative_to(self.rootfs / "dev"):
                    continue
                open_to_all = held.st_mode & stat.S_IWOTH and not held.st_mode & stat.S_ISVTX
                if uid in {held.st_uid, held.st_gid} or open_to_all:
                    found.append("/" + str(path.relative_to(self.rootfs)))
        return found

    def with_secrets(self) -> list[str]:
        """Where the canaries are: in any layer, also of the stages before, in the configuration or in the history."""
        told = json.dumps(self.config) + self.history
        wanted = [word for secret in CANARIES.values() for word in ("-e", secret)]
        seen = subprocess.run(
            ["grep", "-rlF", "--devices=skip", *wanted, self.storage / "root"],
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        assert seen.returncode in {0, 1}, seen.stderr
        return [*(place for place, secret in CANARIES.items() if secret in told), *seen.stdout.splitlines()]


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and give its stdout. Raises AssertionError with the end of what it said."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=STEP_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))[:200]}\n{(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


class Buildah:
    """buildah with a storage of its own below `folder`, which ends with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._driver = "overlay" if self._overlays(folder) else "vfs"

    def __call__(self, *words: str | Path, env: Mapping[str, str] | None = None) -> str:
        root, state = self._folder / "root", self._folder / "run"
        where = ("--root", root, "--runroot", state, "--storage-driver", self._driver)
        return run("buildah", *where, *words, env=env)

    @staticmethod
    def _overlays(folder: Path) -> bool:
        """Whether this machine can mount one folder over another here; without, every layer is a full copy."""
        parts = [folder / f"try-{name}" for name in ("lower", "upper", "work", "both")]
        for part in parts:
            part.mkdir()
        lower, upper, work, both = map(str, parts)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        tried = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, both], capture_output=True, timeout=60, check=False
        )
        if tried.returncode == 0:
            run("umount", both)
        return tried.returncode == 0

    def bud(self, context: Path, name: str, *words: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Build what a folder's Dockerfile says, from local images alone."""
        fixed = ("--isolation", "chroot", "--format", "docker", "--pull-never", "--layers", "--network", "host")
        self("bud", *fixed, *words, "-t", name, context, env=env)

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self("inspect", "--type", "image", name))

    @contextmanager
    def mounted(self, name: str) -> Generator[Path]:
        """The files of an image."""
        container = self("from", "--pull-never", name).strip()
        try:
            path = Path(self("mount", container).strip())
            for parent in (folder for folder in path.parents if folder.is_relative_to(self._folder)):
                parent.chmod(0o711)  # for the users of the containers, who have to get there
            yield path
        finally:
            self("umount", container)
            self("rm", container)

    def layers(self, rootfs: Path) -> tuple[Path, ...]:
        """The folders of each layer of what is mounted there, the lowest first."""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind, options, *_ = line.split()
            if place == str(rootfs) and kind == "overlay":
                lower = next(part for part in options.split(",") if part.startswith("lowerdir="))
                return tuple(Path(part).resolve() for part in reversed(lower.removeprefix("lowerdir=").split(":")))
        return tuple(sorted((self._folder / "root" / "vfs" / "dir").iterdir()))


def _of_pip() -> str:
    """The lines of pip's configuration here that a build needs too."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    lines = ["[global]", f"cert = {HOST}/ca.pem"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP and "file://" not in value:
            lines.append(f"{key} = {value.strip(chr(39))}")
    return "\n".join([*dict.fromkeys(lines), f"# {CANARIES['the settings of pip']}", ""])


def _of_npm() -> str:
    lines = [f"cafile={HOST}/ca.pem"]
    for name in _NPM:
        value = run("npm", "config", "get", name).strip()
        if value not in {"", "null", "undefined"}:
            lines.append(f"{name}={value}")
    return "\n".join([*lines, ""])


def _mirrors() -> list[str]:
    """Where this machine has Debian's packages from; empty: where mmdebstrap goes by itself."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    sites = [site.rstrip("/") for site in dict.fromkeys(listed.split())]
    main = next((site for site in sites if site.endswith("/debian")), None)
    safe = next((site for site in sites if site.endswith("/debian-security")), None)
    lines = [f"deb {main} {suite} main" for suite in (SUITE, f"{SUITE}-updates")] if main else []
    return [*lines, *([f"deb {safe} {SUITE}-security main"] if lines and safe else [])]


def _host(folder: Path) -> Path:
    """How this machine reaches its package indexes, as a folder that a build sees."""
    folder.mkdir()
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    shutil.copyfile(bundle or "/etc/ssl/certs/ca-certificates.crt", folder / "ca.pem")
    (folder / "pip.conf").write_text(_of_pip())
    (folder / "npmrc").write_text(_of_npm())
    return folder


def _python(buildah: Buildah, folder: Path) -> str:
    """In the place of the official image of Python: Debian of the same age with Debian's Python."""
    folder.mkdir()
    slim = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
    packages = "--include=ca-certificates,python3,python3-venv"
    run("mmdebstrap", "--quiet", "--variant=minbase", packages, *slim, SUITE, folder / "base.tar", *_mirrors())
    links = f"mkdir -p {HOST} && ln -s {HOST}/pip.conf /etc/pip.conf && ln -s {HOST}/npmrc /usr/local/etc/npmrc"
    (folder / "Dockerfile").write_text(f"FROM scratch\nADD base.tar /\nRUN {links}\n")
    buildah.bud(folder, "localhost/python:check")
    (folder / "base.tar").unlink()  # room on the disk, also below
    return "localhost/python:check"


def _node(buildah: Buildah, folder: Path, python: str) -> str:
    """In the place of the official image of Node.js, with its files where that one has them."""
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(NODE / name, folder / name)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    machine = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    (folder / "Dockerfile").write_text(
        f"FROM {python}\n"
        f"COPY node_modules/node-linux-{machine}/bin/node /usr/local/bin/node\n"
        "COPY node_modules/npm /usr/local/lib/node_modules/npm\n"
        "RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm\n"
    )
    buildah.bud(folder, "localhost/node:check")
    shutil.rmtree(folder / "node_modules")
    return "localhost/node:check"


def _context(folder: Path) -> Path:
    """A copy of the project as an owner's folder looks: with what git keeps, its history, and secrets beside it."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    token, login = CANARIES["a .env in the folder"], CANARIES["a login in the folder"]
    planted = {
        ".env": f"CLAUDE_CODE_OAUTH_TOKEN={token}\n",
        "src/llm_mcp_hub/.env": f"CLAUDE_CODE_OAUTH_TOKEN={token}\n",
        "src/llm_mcp_hub/.env.local": token,
        "gemini-cli/.env": token,
        ".env.gemini.json": login,
        ".gemini/oauth_creds.json": login,
        "src/first-client.token": token,
        ".git/config": CANARIES["git's history"],
    }
    for name, content in planted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@contextmanager
def built(folder: Path) -> Generator[Image]:
    """The image, built below `folder` from what this checkout holds now. At the end nothing is mounted there."""
    storage = folder / "storage"
    storage.mkdir()
    with ExitStack() as stack:
        stack.callback(_unmount, storage)
        buildah = Buildah(storage)
        host = _host(folder / "host")
        python = _python(buildah, folder / "python")
        node = _node(buildah, folder / "node", python)
        context = _context(folder / "context")
        around = {**os.environ, "CLAUDE_CODE_OAUTH_TOKEN": CANARIES["the build's environment"]}
        arguments = [f"PYTHON_IMAGE={python}", f"NODE_IMAGE={node}"]
        words = [word for argument in arguments for word in ("--build-arg", argument)]
        began = time.monotonic()
        buildah.bud(context, NAME, *words, "--volume", f"{host}:{HOST}:ro", env=around)
        took = time.monotonic() - began
        about = buildah.inspect(NAME)
        rootfs = stack.enter_context(buildah.mounted(NAME))
        layers = buildah.layers(rootfs)
        history = json.dumps(about["OCIv1"].get("history", []))
        yield Image(rootfs, about["Docker"]["config"], history, layers, storage, took, sum(map(_size, layers)))


def _size(folder: Path) -> int:
    return int(run("du", "-sbx", folder).split()[0])


def _unmount(storage: Path) -> None:
    """Whatever is still mounted below: buildah keeps its storage mounted on itself."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{storage}/"):
            with suppress(AssertionError):
                run("umount", "--lazy", place)
