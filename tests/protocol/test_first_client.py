"""`serve --first-client`: a container's first start is closed to all but its owner, and its owner can come in (G8)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import DEADLINE_S, HttpHub, World, http_hub, run_command
from tests.protocol.test_door import RIGHT, add, call, elsewhere


@pytest.fixture
def empty(world: World) -> World:
    """A world in which nothing has happened yet, and whose hubs start nothing: there is no login."""
    world.changes |= {"HUB_CLAUDE_WARM": "0", "CLAUDE_CODE_OAUTH_TOKEN": "", "LOG_LEVEL": "DEBUG"}
    world.login_file.unlink()
    return world


def said(hub: HttpHub) -> list[str]:
    """The commands that the log names for reading a token."""
    found = [re.search(r"read its token with: (cat [^\"]+)", line) for line in hub.log]
    return [one[1] for one in found if one is not None]


def token_by(command: str) -> str:
    """What the command of the log prints."""
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def test_the_first_start_makes_a_client_and_says_where_its_token_is(empty: World) -> None:
    """From the first request on nobody comes in without it. The log has the way to it, and not the token itself."""
    with http_hub(empty, "--first-client", "owner") as hub:
        (command,) = said(hub)
        shown = token_by(command)
        token = shown.strip()
        answers = [call(hub.url, path=path, token=given).status for path in PATHS for given in (None, token)]
        log = "".join(hub.log)

    file = Path(shlex.split(command)[1])
    assert re.fullmatch(r"llmhub_[\w-]{43}\n", shown)
    assert answers == [401, 200] * 2 + [401, 503]
    assert token not in log
    assert (file.parent, file.stat().st_mode & 0o777) == (empty.state, 0o600)
    assert empty.state.stat().st_mode & 0o777 == 0o700
    assert token not in (empty.state / "clients.json").read_text()
    (client,) = json.loads(run_command(empty, "client", "list", "--json").stdout).items()
    assert (client[0], client[1]["scopes"]) == ("owner", ["ask:claude", "ask:gemini", "status"])


PATHS = ["/health/live", "/health/tokens", "/health/ready"]


@pytest.mark.parametrize("before", ["itself", "another", "nobody left"])
def test_where_there_are_clients_it_does_nothing(empty: World, before: str) -> None:
    """A container starts again and again: no token is made anew, no client comes back that was revoked."""
    if before == "itself":
        with http_hub(empty, "--first-client", "owner") as hub:
            pass
    else:
        add(empty, "anna")
    if before == "nobody left":
        run_command(empty, "client", "revoke", "anna")
    files = {
        file: file.read_bytes() for file in empty.state.glob("*c*") if file.is_file() and "sqlite" not in file.name
    }

    with http_hub(empty, "--first-client", "owner") as hub:
        stranger = call(hub.url).status

    after = {
        file: file.read_bytes() for file in empty.state.glob("*c*") if file.is_file() and "sqlite" not in file.name
    }
    assert after == files
    assert stranger == 401
    assert said(hub) == []
    assert any("all were revoked" in line for line in hub.log) is (before == "nobody left")


def test_of_two_that_start_at_once_one_makes_the_client(empty: World) -> None:
    """Two replicas on one volume: both serve, and the token that was told is the one that counts."""
    with ThreadPoolExecutor(4) as pool:
        starts = [pool.submit(HttpHub, empty.environment, "--first-client", "owner") for _ in range(4)]
        hubs = [start.result(4 * DEADLINE_S) for start in starts]
    try:
        commands = [command for hub in hubs for command in said(hub)]
        token = token_by(commands[0]).strip()
        seen = [call(hub.url, token=given).status for hub in hubs for given in (None, token)]
    finally:
        for hub in hubs:
            hub.stop()

    assert len(commands) == 1
    assert seen == [401, 200] * 4
    assert [len(client["tokens"]) for client in clients_of(empty).values()] == [1]


def clients_of(world: World) -> dict[str, dict[str, list[object]]]:
    return json.loads(run_command(world, "client", "list", "--json").stdout)


def test_a_containers_first_start_is_closed_and_usable(empty: World) -> None:
    """On every address, by a name, with nothing but variables: as the image starts it."""
    empty.changes |= {"HUB_HOST": "0.0.0.0", "HUB_ALLOWED_HOSTS": "hub.example", "HUB_FIRST_CLIENT": "owner"}
    file = empty.state / "first-client.token"

    came = elsewhere(
        empty,
        ["-m", "llm_mcp_hub", "serve"],
        ["read", str(file)],
        ["192.0.2.7", "GET", "/health/live", {"Host": "hub.example"}],
        ["192.0.2.7", "GET", "/health/live", RIGHT],
        ["192.0.2.7", "GET", "/health/live", {"Authorization": "Bearer TOKEN"}],
    )

    assert [step[0] for step in came[1:]] == [401, 200, 421]


@pytest.mark.parametrize("there", [False, True], ids=["no clients", "with clients"])
def test_a_clients_file_on_a_read_only_mount(empty: World, tmp_path: Path, there: bool) -> None:
    """Where it would have to be written: exit 78 and one sentence. Where it is there it is read, and nothing else."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    empty.changes["HUB_CLIENTS_FILE"] = str(folder / "clients.json")
    if there:
        add(empty, "anna")
    mount = f'mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec "$@"'
    before = [*IN_MOUNTS_OF_ITS_OWN, "sh", "-c", mount, "sh"]
    serve = ["serve", "--port", "0", "--first-client", "owner"]

    if there:
        hub = HttpHub(
            empty.environment,
            command=["-c", RUNS, *before, sys.executable, "-m", "llm_mcp_hub", *serve[:1], *serve[3:]],
        )
        status = call(hub.url).status
        hub.process.terminate()
        hub.process.wait(DEADLINE_S)
        assert (status, said(hub)) == (401, [])
        return
    empty.prefix = before
    ended = run_command(empty, *serve)

    told = ended.stderr.decode()
    assert ended.returncode == 78, told
    assert len(told.splitlines()) == 2
    assert told.startswith("llm-mcp-hub: misconfigured: The clients' file ")
    assert "Read-only file system" in told
    assert not (empty.state / "first-client.token").exists()


IN_MOUNTS_OF_ITS_OWN = ["unshare", "--mount", "--map-root-user"]
RUNS = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"


def test_a_name_that_is_none_is_refused(empty: World) -> None:
    """Before anything is written."""
    ended = run_command(empty, "serve", "--port", "0", "--first-client", "a:b")

    assert (ended.returncode, ended.stdout) == (64, b"")
    assert not (empty.state / "clients.json").exists()
    assert not (empty.state / "first-client.token").exists()


# Addresses of the newer Internet protocol ---------------------------------------------------------------------------


def test_the_hub_serves_on_the_loopback_address_of_ipv6(empty: World) -> None:
    """No token is needed there, and every name of this machine will do."""
    with http_hub(empty, "--host", "::1") as hub:
        assert hub.url.startswith("http://[::1]:")
        assert call(hub.url).status == 200
        assert call(hub.url, headers=[("Host", "localhost")]).status == 200
        assert call(hub.url, headers=[("Host", "hub.example")]).status == 421


def test_the_hub_serves_on_every_address_of_ipv6_with_tokens(empty: World) -> None:
    """By its listed names, in brackets or not; the way in is the token's."""
    empty.changes["HUB_ALLOWED_HOSTS"] = "hub.example, [fd00::1]"
    token = add(empty, "anna")
    with http_hub(empty, "--host", "::") as hub:
        url = hub.url.replace("[::]", "[::1]")
        seen = [call(url, headers=[("Host", host)], token=given).status for host in NAMES for given in (None, token)]

    assert seen == [401, 200] * 3 + [421, 421]


NAMES = ["hub.example", "[fd00::1]", "[::1]", "[fd00::2]"]
