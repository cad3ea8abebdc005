"""The image, run for real: on a read-only root, as other users, with the stand-ins as providers (`make image-check`).

Not one of `make test`: its image has to be built first, which takes root and Debian's buildah, mmdebstrap and
bubblewrap.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pexpect
import psutil
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from llm_mcp_hub.providers.gemini_compiled import FOLDER, NODE_OPTIONS
from tests.container.build import Image, run
from tests.container.engine import Engine, Running, read_env_file
from tests.container.figures import IMAGE, note
from tests.harness import DEADLINE_S, ROOT, TOKEN, World, answer_of, make_world, with_token
from tests.upstreams.google import write_login

pytestmark = pytest.mark.anyio
BUILT = os.environ.get(IMAGE)
SIOCSIFFLAGS, UP_AND_RUNNING = 0x8914, 0x41
OWNER = 1000
"""A usual uid of a Linux desktop. The image knows no user of it."""
ADDRESS = "http://127.0.0.1:8000"
HELLO = {"ask_claude": "Hello from the stand-in of Claude.", "ask_gemini": "Hello from the stand-in of Gemini."}


@pytest.fixture(scope="session")
def image() -> Image:
    """What `__main__.py` has built."""
    assert BUILT is not None, "run: make image-check"
    return Image.load(Path(BUILT))


@pytest.fixture(scope="session", autouse=True)
def own_network() -> None:
    """This process was started on a network without any way out, whose loopback has to be switched on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP_AND_RUNNING))


@pytest.fixture
def engine(image: Image, tmp_path: Path) -> Engine:
    for folder in (tmp_path, *tmp_path.parents[:2]):  # the containers' users have to get there
        folder.chmod(0o711)
    return Engine(image, tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    """The stand-ins; their authority's certificate can be read by all."""
    with make_world(tmp_path / "world") as made:
        for folder in (tmp_path / "world", made.gemini.ca_file.parent):
            folder.chmod(0o755)
        made.gemini.ca_file.chmod(0o644)
        yield made
        assert made.surprises == []


@pytest.fixture
def start(engine: Engine, tmp_path: Path) -> Generator[Callable[[list[str]], Running]]:
    """Starts a container in the background; none outlives the test."""
    started: list[Running] = []

    def begin(command: list[str]) -> Running:
        started.append(Running(engine, command, tmp_path / f"container-{len(started)}.log"))
        return started[-1]

    yield begin
    for container in started:
        container.kill()


def surroundings(world: World) -> tuple[dict[str, str], dict[str, Path]]:
    """What leads a container to the stand-ins: variables, and a mounted certificate."""
    inside = "/tmp/stand-in.pem"
    told = {name: value for name, value in world.gemini.environment.items() if name != "CODE_ASSIST_ENDPOINT"}
    return {
        **told,
        "NODE_EXTRA_CA_CERTS": inside,
        "HUB_CLAUDE_UPSTREAM": world.claude.url,
        "HUB_GEMINI_UPSTREAM": world.gemini.url,
    }, {inside: world.gemini.ca_file}


def login_of(uid: int, folder: Path) -> Path:
    """A `~/.gemini` as that user's own machine has it: 0700 and 0600."""
    file = write_login(folder / f"gemini-of-{uid}")
    os.chown(file, uid, uid)
    os.chown(file.parent, uid, uid)
    return file.parent


def project_of(uid: int, folder: Path) -> Path:
    """A repository of that user's, with a change that is not committed."""
    place = folder / "project"
    place.mkdir()
    file = place / "notes.txt"
    file.write_text("what was there\n")
    author = ("-c", "user.name=Somebody", "-c", "user.email=somebody@project.example")
    for words in (("init", "--quiet"), ("add", "."), (*author, "commit", "--quiet", "--message", "The first")):
        run("git", *words, cwd=place)
    file.write_text("what was there\nwhat was added since\n")
    run("chown", "-R", f"{uid}:{uid}", place)
    return place


def first_token(container: Running, volume: Path) -> str:
    """The first client's token, found by the log's word."""
    deadline = time.monotonic() + DEADLINE_S
    while "Uvicorn running on" not in container.log:
        assert container.process.poll() is None, container.log
        assert time.monotonic() < deadline, container.log
        threading.Event().wait(0.05)
    told = re.search(r"read its token with: cat (\S+/first-client\.token)", container.log)
    assert told is not None, container.log
    read = container.execute("cat", told[1], env={})
    assert read.returncode == 0, read.stderr
    assert (volume / "state" / "first-client.token").stat().st_mode & 0o777 == 0o600
    return read.stdout.strip()


async def ask_both(client: Client) -> None:
    """Both providers answer through the real CLIs, and both logins are well."""
    for tool, hello in HELLO.items():
        answer = answer_of(await client.call_tool(tool, {"prompt": "Who are you?"}))
        assert answer["text"] == hello
        assert answer["billing"]["source"] == "subscription"
    status: Any = (await client.call_tool("token_status", {})).structured_content
    assert {name: told["status"] for name, told in status.items()} == {"claude": "valid", "gemini": "valid"}
    assert {told["evidence"]["level"] for told in status.values()} == {"proven"}


async def test_it_serves_http_from_a_read_only_root_as_its_own_user(
    engine: Engine, world: World, start: Callable[[list[str]], Running], tmp_path: Path
) -> None:
    """`docker run --env-file .env -v ~/.gemini:/root/.gemini:ro -p …`: as the brief has it, as uid 10001."""
    around, mounts = surroundings(world)
    file = tmp_path / ".env"
    file.write_text((ROOT / ".env.example").read_text() + f"CLAUDE_CODE_OAUTH_TOKEN={TOKEN}\nLOG_LEVEL=INFO\n")
    await serves(engine, start, {**around, **read_env_file(file.read_text())}, mounts, tmp_path, None)


async def test_it_serves_the_owner_of_the_mounted_login(
    engine: Engine, world: World, start: Callable[[list[str]], Running], tmp_path: Path
) -> None:
    """`docker run -e CLAUDE_CODE_OAUTH_TOKEN=… --user 1000:1000`, the login readable by that user alone."""
    around, mounts = surroundings(world)
    await serves(engine, start, {**around, "CLAUDE_CODE_OAUTH_TOKEN": TOKEN}, mounts, tmp_path, OWNER)


async def serves(
    engine: Engine,
    start: Callable[[list[str]], Running],
    env: dict[str, str],
    mounts: dict[str, Path],
    tmp_path: Path,
    uid: int | None,
) -> None:
    """Serve MCP over HTTP, be looked after, and end by SIGTERM with nothing left."""
    volume = engine.volume()
    mounts = {**mounts, "/root/.gemini": login_of(uid or 10001, tmp_path)}
    began = time.monotonic()
    container = start(engine.command(env=env, uid=uid, volume=volume, mounts=mounts))
    token = first_token(container, volume)
    note(f"seconds until it serves, as uid {uid or 10001}", f"{time.monotonic() - began:.1f}")
    stranger = httpx.get(f"{ADDRESS}/health/live")
    async with Client(with_token(f"{ADDRESS}/mcp", token)) as client:
        await ask_both(client)
    doctor = container.execute("llm-mcp-hub", "doctor", "--json", env=env)
    healthy = container.execute(*engine.image.config["Healthcheck"]["Test"][1:], env=env)
    cache = {"NODE_OPTIONS": NODE_OPTIONS, "NODE_COMPILE_CACHE": f"/opt/gemini-cli/{FOLDER.as_posix()}"}
    about = {**env, **cache, "HOME": "/tmp", "GEMINI_CLI_NO_RELAUNCH": "1", "NODE_DEBUG_NATIVE": "COMPILE_CACHE"}
    starts = container.execute("gemini", "--version", env=about)
    hub = max(container.first.children(), key=lambda process: process.memory_info().rss)
    hub.send_signal(signal.SIGSTOP)
    ill = container.execute(*engine.image.config["Healthcheck"]["Test"][1:], env=env)
    hub.send_signal(signal.SIGCONT)
    again = container.execute(*engine.image.config["Healthcheck"]["Test"][1:], env=env)
    seen = Path(f"/proc/{hub.pid}/status").read_text()
    capabilities = sum(int(line.split()[1], 16).bit_count() for line in seen.splitlines() if line.startswith("Cap"))
    namespace = container.namespace
    began = time.monotonic()
    code = container.stop()
    took = time.monotonic() - began
    left = container.processes(namespace)
    note(f"capabilities left, as uid {uid or 10001}", str(capabilities))
    note(f"seconds from SIGTERM to exit code {code}, as uid {uid or 10001}", f"{took:.1f}")
    note("processes left", str(len(left)))

    assert (stranger.status_code, "llm-mcp-hub" in stranger.headers["www-authenticate"]) == (401, True)
    assert [found for found in json.loads(doctor.stdout)["findings"] if found["state"] == "blocks"] == []
    assert "gemini-cli/bundle/gemini.js because cache was the same" in starts.stdout + starts.stderr
    assert (healthy.returncode, ill.returncode, again.returncode) == (0, 1, 0), ill.stdout + ill.stderr
    assert "no hub answers" in ill.stderr
    assert "request refused" not in container.log
    assert TOKEN not in container.log
    assert token not in container.log
    assert "NoNewPrivs:\t1" in seen
    assert capabilities == 0
    assert code == 0, container.log
    assert left == []


async def test_a_client_starts_it_over_stdio_as_any_user(engine: Engine, world: World, tmp_path: Path) -> None:
    """`docker run -i --rm -v "$PWD:/work:ro" llm-mcp-hub stdio`: as a uid that no list of users has.

    The end of stdin ends it.
    """
    around, mounts = surroundings(world)
    mounts |= {"/root/.gemini": login_of(4242, tmp_path), "/work": project_of(4242, tmp_path)}
    program, *words = engine.command("stdio", env={**around, "CLAUDE_CODE_OAUTH_TOKEN": TOKEN}, uid=4242, mounts=mounts)
    async with Client(StdioServerParameters(command=program, args=words)) as client:
        await ask_both(client)
        about: dict[str, Any] = {"prompt": "What has changed?", "files": ["notes.txt"], "git_diff": {}}
        answer_of(await client.call_tool("ask_claude", about))
    asked = world.claude.received[-1].body.decode()
    gone, alive = psutil.wait_procs([p for p in psutil.process_iter() if _of(p, 4242)], timeout=DEADLINE_S)

    assert alive == [], gone
    assert "+what was added since" in asked
    assert "what was there" in asked


def _of(process: psutil.Process, uid: int) -> bool:
    try:
        return process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_a_login_is_made_inside(engine: Engine, world: World) -> None:
    """`docker run -it … login gemini`: in a terminal, with a browser elsewhere; kept in the volume."""
    around, mounts = surroundings(world)
    volume = engine.volume()
    program, *words = engine.command("login", "gemini", env=around, uid=OWNER, volume=volume, mounts=mounts)
    words.remove("--new-session")  # a terminal is handed in, as `docker run -it` does
    child: pexpect.spawn[str] = pexpect.spawn(program, words, encoding="utf-8", timeout=DEADLINE_S, dimensions=(24, 80))
    child.expect(r"\r\n(https://\S+)\r\n")
    match = child.match
    assert isinstance(match, re.Match)
    child.expect_exact("Paste the code")
    child.sendline(world.gemini.oauth.authorize(str(match[1])))
    child.expect(pexpect.EOF)
    child.close()
    saved = volume / "state" / "logins" / "gemini.json"

    assert child.exitstatus == 0, child.before
    assert (saved.stat().st_uid, saved.stat().st_mode & 0o777) == (OWNER, 0o600)


def test_a_login_that_this_user_cannot_read_is_named(engine: Engine, tmp_path: Path) -> None:
    """On Linux the brief's own line mounts the owner's 0600 file for another user: told, with what to do."""
    mounts = {"/root/.gemini": login_of(OWNER, tmp_path)}
    done = subprocess.run(
        engine.command("status", "--json", env={}, mounts=mounts),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    gemini = json.loads(done.stdout)["gemini"]

    assert gemini["status"] == "misconfigured"
    assert "/root/.gemini/oauth_creds.json" in gemini["message"]
    assert gemini["action"]


def test_an_address_for_others_needs_names(engine: Engine) -> None:
    """`-e HUB_ALLOWED_HOSTS=`: refused before anything is started, with exit code 78 (G8)."""
    command = engine.command(env={"HUB_ALLOWED_HOSTS": ""})
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert (done.returncode, "HUB_ALLOWED_HOSTS" in done.stderr) == (78, True)


def test_a_state_folder_that_another_uid_made_first_is_refused(engine: Engine) -> None:
    """The volume is open to any uid: who was there first must not be the one whose logins are used."""
    volume = engine.volume()
    planted = volume / "state"
    planted.mkdir()
    planted.chmod(0o777)
    os.chown(planted, 4242, 4242)
    done = subprocess.run(
        engine.command(env={}, volume=volume), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )

    assert done.returncode == 78, done.stderr
    assert "(HUB_STATE_DIR) belongs to another user" in done.stderr  # whose number a sandbox may not show
    assert list(planted.iterdir()) == []


def test_nothing_in_it_is_the_users(image: Image) -> None:
    """Code, CLIs and settings belong to root; so neither CLI can put another version in its own place."""
    writable = {uid: image.writable(uid) for uid in (10001, OWNER)}
    note("files writable by the user", str(max(map(len, writable.values()))))

    assert writable == {10001: [], OWNER: []}
    assert not (image.rootfs / "etc" / "claude-code").exists()
    assert (image.rootfs / "root").stat().st_mode & 0o777 == 0o711


def test_no_secret_is_in_it(image: Image) -> None:
    """Not from the folder it is built in, nor from the environment and the settings of who builds it."""
    found = image.with_secrets()
    note("secrets found in layers", str(len(found)))

    assert found == []
    assert [name for name in image.environment if re.search("TOKEN|KEY|SECRET|PASSWORD", name)] == []


def test_it_is_compiled(image: Image) -> None:
    """On a read-only root nobody can do it later; every start would take twice as long."""
    packages = next((image.rootfs / "opt/llm-mcp-hub/lib").glob("python3.*/site-packages"))
    sources = list((packages / "llm_mcp_hub").rglob("*.py"))
    compiled = [list((file.parent / "__pycache__").glob(f"{file.stem}.cpython-*.pyc")) for file in sources]

    assert len(sources) > 50
    assert all(compiled)
    assert {one[0].read_bytes()[4] for one in compiled} == {1}, "by hash, and not looked at again"


def test_its_labels_say_what_it_is(image: Image) -> None:
    """For registries of images and of MCP servers."""
    labels = image.config["Labels"]

    assert labels["io.modelcontextprotocol.server.name"] == "io.github.llm-mcp-hub/llm-mcp-hub"
    assert {name for name in labels if name.startswith("org.opencontainers.image.")} == {
        f"org.opencontainers.image.{name}" for name in ("title", "description", "licenses", "version", "revision")
    }
    assert image.config["User"] == "10001:10001"
    assert list(image.config["ExposedPorts"]) == ["8000/tcp"]
