"""`llm-mcp-hub doctor`, the real command, in surroundings that are made: it finds what is wrong, and spends nothing.

Both real CLIs, real files, a real Redis; what is old, or hangs, is stood in for by scripts. Nothing may reach a
provider's stand-in, and no child may be left, whatever was found.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import DEADLINE_S, GEMINI, TOKEN, World, own_commands, run_command
from tests.protocol.conftest import CANARY, MADE_UP
from tests.protocol.test_programs import in_a_mount_namespace, without_rights_of_root
from tests.unit.test_doctor import CLAUDES, GEMINIS
from tests.upstreams.redis import RedisServer, free_port

NAMED = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b|`[^`]+`|: \S+ \S+|--[a-z]+")
"""A variable, or a command: what every next step must name."""


@pytest.fixture(autouse=True)
def nothing_is_spent_or_left(world: World) -> Generator[None]:
    """No ask, no call to a provider, no child: whatever there was to find."""
    yield
    assert world.claude.received == []
    assert world.gemini.received == world.gemini.oauth_received == []
    world.wait_until_no_child()


@pytest.fixture
def healthy(world: World) -> World:
    """A world in which asks would go to the providers themselves, and nothing is there to complain of."""
    world.changes |= {"HUB_CLAUDE_UPSTREAM": "", "HUB_GEMINI_UPSTREAM": ""}
    return world


def examined(world: World, *arguments: str, code: int | None = None) -> dict[str, dict[str, Any]]:
    """What `doctor --json` finds, by name: of two of a name, the worse. Checks what holds for every finding."""
    ended = run_command(world, *arguments, "doctor", "--json")
    said = ended.stdout.decode()
    told = json.loads(said)
    worst = {"ok": 0, "warning": 1, "blocks": 2}
    found: dict[str, dict[str, Any]] = {}
    for finding in told["findings"]:
        assert set(finding) == {"name", "state", "message", "action"}
        if finding["state"] != "ok":
            assert NAMED.search(finding["action"]), finding
        for command in re.findall(r"llm-mcp-hub ([a-z]+)", finding["action"]):
            assert command in own_commands()
        before = found.get(finding["name"])
        if before is None or worst[finding["state"]] > worst[before["state"]]:
            found[finding["name"]] = finding
    blocked = any(finding["state"] == "blocks" for finding in found.values())
    assert told["ok"] is not blocked
    assert ended.returncode == (1 if blocked else 0)
    assert ended.stderr == b""
    for secret in (CANARY, TOKEN, *MADE_UP):
        assert secret not in said
    return found


def worse(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The names that are not well, with their states."""
    return {name: finding["state"] for name, finding in found.items() if finding["state"] != "ok"}


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def begun(world: World) -> subprocess.Popen[bytes]:
    """A doctor that will not be heard out."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*world.command, "doctor"], env=world.environment, stdin=quiet, stdout=quiet, stderr=quiet)


# -- all is well -------------------------------------------------------------------------------------------------------


def test_a_healthy_machine_has_no_finding_against_it(healthy: World) -> None:
    """Both CLIs tell their versions, the logins theirs; each thing that an ask needs has a line."""
    found = examined(healthy)

    assert worse(found) == {}
    assert set(found) >= {
        *[
            "hub",
            "settings",
            "state-folder",
            "clock",
            "store",
            "proxy",
            "certificates",
            "file-roots",
            "git",
            "http",
            "replicas",
        ],
        *["claude-cli", "claude-setpriv", "claude-settings", "claude-variables", "claude-login"],
        *["gemini-cli", "gemini-node", "gemini-terminal", "gemini-project", "gemini-variables", "gemini-login"],
    }
    assert re.match(r"Claude Code \d+\.\d+\.\d+, bundled in claude-agent-sdk \d", found["claude-cli"]["message"])
    assert found["gemini-cli"]["message"] == f"Gemini CLI 0.61.0, {GEMINI}"
    assert "CLAUDE_CODE_OAUTH_TOKEN" in found["claude-login"]["message"]
    assert str(healthy.login_file) in found["gemini-login"]["message"]
    assert healthy.state.stat().st_mode & 0o777 == 0o700


def test_a_person_sees_marks_and_next_steps(world: World) -> None:
    """Not on a terminal there are no colours; a stand-in that a test has left set is told."""
    ended = run_command(world, "doctor")
    lines = ended.stdout.decode().splitlines()

    assert ended.returncode == 0
    assert lines[0].startswith("ok      hub")
    assert "warn    claude-upstream  Asks go to a stand-in on this machine, not to Claude" in lines
    assert lines[lines.index(next(line for line in lines if "gemini-upstream" in line)) + 1].endswith(
        "→ Unset HUB_GEMINI_UPSTREAM."
    )
    assert lines[-1] == "Nothing blocks an ask; 2 warnings."
    assert "\x1b" not in ended.stdout.decode()


@pytest.mark.parametrize(("changes", "coloured"), [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(
    world: World, changes: dict[str, str], coloured: bool
) -> None:
    """NO_COLOR is what its owner set."""
    world.changes |= {"HUB_GEMINI_COMMAND": "gemini-of-nobody", **changes}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*world.command, "doctor"], env=world.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # EIO: the other side has gone
        pass
    finally:
        os.close(ours)

    assert process.wait(DEADLINE_S) == 1
    assert (b"\x1b[1;31mBLOCKS" in said) is coloured
    assert b"BLOCKS" in said


# -- the CLIs and what they stand on -----------------------------------------------------------------------------------

INSTALL = "npm install -g @google/gemini-cli@0.61.0"


def _gemini(text: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.changes["HUB_GEMINI_COMMAND"] = script(world.home / "bin" / "gemini", text)

    return make


def _no_gemini(world: World) -> None:
    world.changes["HUB_GEMINI_COMMAND"] = "/nonexistent/gemini"


def _no_node(world: World) -> None:
    (world.home / "bin").mkdir()
    world.changes["PATH"] = str(world.home / "bin")


def _old_node(world: World) -> None:
    script(world.home / "bin" / "node", "echo v18.20.4")
    world.changes["PATH"] = f"{world.home / 'bin'}:{os.environ['PATH']}"


PROGRAMS: dict[str, tuple[Callable[[World], None], str, str, str]] = {
    # what is there -> the finding, a part of its message, a part of its next step
    "no Gemini CLI": (_no_gemini, "gemini-cli", "(/nonexistent/gemini) was not found", "Correct HUB_GEMINI_COMMAND"),
    "an old one": (_gemini("echo 0.41.2"), "gemini-cli", "too old (0.41.2; 0.61 is needed)", INSTALL),
    "a broken one": (_gemini("exit 1"), "gemini-cli", "cannot be started", "--version"),
    "a hanging one": (_gemini("sleep 600 & wait"), "gemini-cli", "--version hangs", "--version"),
    "no Node.js": (_no_node, "gemini-node", "was not found in PATH", "node --version"),
    "an old Node.js": (_old_node, "gemini-node", "too old (v18.20.4; 20 is needed)", "node --version"),
}


@pytest.mark.parametrize("row", PROGRAMS)
def test_a_program_that_gemini_needs_blocks_its_asks(healthy: World, row: str) -> None:
    """Each with the step that mends it; one that hangs, with what it has started, is ended."""
    make, name, message, action = PROGRAMS[row]
    make(healthy)

    finding = examined(healthy)[name]

    assert finding["state"] == "blocks"
    assert message in finding["message"]
    assert action in finding["action"]


def test_a_machine_without_pseudo_terminals_blocks_gemini_alone(healthy: World) -> None:
    """The kernel refuses the terminal."""
    healthy.prefix = in_a_mount_namespace("mount --bind /dev/null /dev/ptmx")

    found = examined(healthy)

    assert worse(found) == {"gemini-terminal": "blocks"}
    assert "/dev/pts" in found["gemini-terminal"]["action"]


def test_machine_wide_settings_that_could_pay_block_claude_alone(healthy: World) -> None:
    """G1: under the real `/etc`, made private for this one hub."""
    etc, planted = healthy.home / "etc", healthy.home / "planted"
    etc.mkdir()
    planted.write_text(json.dumps({"env": {"ANTHROPIC_API_KEY": CANARY}}))
    planted.chmod(0o644)
    healthy.prefix = in_a_mount_namespace(
        'mount -t tmpfs none "$1" && cp -a /etc/. "$1" && mkdir -p "$1/claude-code" && '
        'cp "$2" "$1/claude-code/managed-settings.json" && mount --bind "$1" /etc',
        str(etc),
        str(planted),
    )

    found = examined(healthy)

    assert worse(found) == {"claude-settings": "blocks", "claude-login": "blocks"}
    assert "/etc/claude-code/managed-settings.json" in found["claude-settings"]["action"]


def test_a_hub_that_hangs_while_it_sweeps_is_told_among_all_findings(healthy: World) -> None:
    """It holds what every hub that starts needs. That is waited for once, and everything else is looked at."""
    usual = examined(healthy)
    run = healthy.state / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = examined(healthy)

    assert "it may hang" in found["logins"]["message"]
    assert worse(found) == {**worse(usual), "logins": "warning"}
    assert usual.keys() - found.keys() == {"claude-login", "gemini-login"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_doctor_that_is_ended_leaves_no_child(
    healthy: World, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """G5: while a CLI hangs; by SIGKILL, the kernel ends the CLI with us."""
    up = tmp_path / "up"
    os.mkfifo(up)
    healthy.changes["HUB_GEMINI_COMMAND"] = script(healthy.home / "bin" / "gemini", f'echo >"{up}"\nexec sleep 600')
    process = begun(healthy)
    assert up.read_text() == "\n"  # it runs
    process.send_signal(number)

    assert process.wait(DEADLINE_S) == code
    healthy.wait_until_no_child()


def test_a_doctor_that_is_killed_while_it_starts_a_program_leaves_none(healthy: World, tmp_path: Path) -> None:
    """G5: before the kernel has been told to end the program with us."""
    up, goes_on, ran = (tmp_path / name for name in ("up", "goes-on", "ran"))
    os.mkfifo(up)
    slow = healthy.home / "bin" / "setpriv"
    waits = f'echo >"{up}"; until [ -e "{goes_on}" ]; do sleep 0.02; done'
    script(slow, f'case "$*" in */gemini*) {waits} ;; esac\nexec "{shutil.which("setpriv")}" "$@"')
    healthy.changes |= {
        "PATH": f"{slow.parent}:{os.environ['PATH']}",
        "HUB_GEMINI_COMMAND": script(healthy.home / "bin" / "gemini", f'echo >"{ran}"\nexec sleep 600'),
    }
    process = begun(healthy)
    with up.open("r+b", buffering=0) as one_starts:
        one_starts.read(1)
        process.kill()
        process.wait(DEADLINE_S)
        goes_on.touch()

    healthy.wait_until_no_child()
    assert not ran.exists()


# -- the owner's environment -------------------------------------------------------------------------------------------


def test_variables_that_could_pay_are_named_and_never_shown(healthy: World) -> None:
    """All of them at once: asks are not touched, so nothing blocks."""
    healthy.changes |= dict.fromkeys([*CLAUDES, *GEMINIS, "GOOGLE_CLOUD_PROJECT"], CANARY)

    found = examined(healthy)

    assert worse(found) == dict.fromkeys(["claude-variables", "gemini-variables", "gemini-project"], "warning")
    for name, variables in (("claude-variables", CLAUDES), ("gemini-variables", GEMINIS)):
        said = re.findall(r"\w+", found[name]["message"])
        assert [variable for variable in variables if variable not in said] == []


def test_a_proxys_password_is_hidden(healthy: World) -> None:
    """Shown are the address and the other variables that the CLIs are given."""
    healthy.changes["HTTPS_PROXY"] = healthy.environment["HTTPS_PROXY"].replace("//", f"//me:{CANARY}@")
    proxy = healthy.environment["HTTPS_PROXY"].rpartition("@")[2]

    finding = examined(healthy)["proxy"]

    assert finding["state"] == "ok"
    assert f"HTTPS_PROXY=http://***@{proxy} NO_PROXY=127.0.0.1,localhost" in finding["message"]


@pytest.mark.parametrize(
    ("value", "state", "part"),
    [
        ("http://127.0.0.1:{}", "blocks", "cannot be reached (Connection refused)"),
        (f"http://{CANARY}@127.0.0.1:{{}}", "blocks", "http://***@127.0.0.1:"),
        (f"127.0.0.1:{{}}/{CANARY}", "warning", "no http:// or https:// address"),
    ],
)
def test_a_proxy_that_is_away_or_no_address_is_told(healthy: World, value: str, state: str, part: str) -> None:
    """Every ask would meet it."""
    healthy.changes["HTTPS_PROXY"] = value.format(free_port())

    finding = examined(healthy)["proxy"]

    assert finding["state"] == state
    assert part in finding["message"]
    assert "HTTPS_PROXY" in finding["action"]


def test_a_file_of_certificates_that_is_gone_blocks(healthy: World) -> None:
    """Whoever named it needs it; one that is a FIFO holds nothing up."""
    os.mkfifo(healthy.home / "fifo")
    for path in (healthy.home / "gone.pem", healthy.home / "fifo"):
        healthy.changes["SSL_CERT_FILE"] = str(path)
        finding = examined(healthy)["certificates"]

        assert finding["state"] == "blocks"
        assert f"SSL_CERT_FILE={path} is no file" in finding["message"]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_that_are_wrong_are_all_told_and_the_rest_is_looked_at(healthy: World) -> None:
    """Where every other command ends at the first one."""
    healthy.changes |= {"HUB_PORT": CANARY, "HUB_ASK_TIMEOUT_S": "0", "CLAUDE_CODE_OAUTH_TOKEN": ""}
    healthy.changes["CLAUDE_CODE_OAUTH_TOKEN_FILE"] = str(healthy.home / "gone")
    ended = run_command(healthy, "doctor")
    said = ended.stdout.decode()

    assert ended.returncode == 1
    for variable in ("HUB_PORT", "HUB_ASK_TIMEOUT_S", "CLAUDE_CODE_OAUTH_TOKEN_FILE"):
        assert re.search(rf"^BLOCKS  settings .*\b{variable}\b.*\n +→ .*\b{variable}\b", said, re.MULTILINE), said
    assert "Gemini CLI 0.61.0" in said
    assert "BLOCKS  claude-login" in said
    assert CANARY not in said


def test_an_env_file_that_others_can_write_is_told(healthy: World) -> None:
    """The hub's own is refused, so what is in it does not count; one that was named is used, and told."""
    own = healthy.home / ".config" / "llm-mcp-hub" / ".env"
    own.parent.mkdir(parents=True)
    own.write_text("HUB_PORT=8123\n")
    own.chmod(0o666)
    refused = examined(healthy)
    named = examined(healthy, "--env-file", str(own))
    own.chmod(0o600)
    mended = examined(healthy)

    assert refused["settings"]["state"] == "blocks"
    assert refused["settings"]["action"] == named["settings"]["action"] == f"Run: chmod 600 {own}"
    assert "port 8000" in refused["http"]["message"]
    assert named["settings"]["state"] == "warning"
    assert mended["settings"]["message"] == f"from the environment, and {own} (settings file, mode 0600)"
    assert "port 8123" in mended["http"]["message"]


def test_a_file_that_never_answers_ends_the_doctor_too(healthy: World) -> None:
    """A FIFO that nobody writes, as a network folder that is away: told in the end, whoever waits gets an answer."""
    os.mkfifo(healthy.home / "fifo")
    run = "import sys; from pathlib import Path; from llm_mcp_hub.commands import doctor; doctor.GIVE_UP_S = 1.0; "
    run += "sys.exit(doctor.run(Path(sys.argv[1]), as_json=True))"
    ended = subprocess.run(
        [sys.executable, "-c", run, str(healthy.home / "fifo")],
        env=healthy.environment,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )

    told = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert told["ok"] is False
    assert "HUB_STATE_DIR" in told["findings"][0]["action"]


def test_an_address_that_others_can_reach_blocks(healthy: World) -> None:
    """`serve` would refuse it."""
    healthy.changes["HUB_HOST"] = "0.0.0.0"

    assert worse(examined(healthy)) == {"http": "blocks"}


def test_a_model_that_is_none_blocks_the_hub(healthy: World) -> None:
    """What the hub itself refuses at its start is told as it tells it."""
    healthy.changes["CLAUDE_MODEL"] = "gpt"

    found = examined(healthy)

    assert worse(found) == {"logins": "blocks"}
    assert "CLAUDE_MODEL" in found["logins"]["message"]


def test_an_address_for_alerts_that_cannot_be_called_blocks_the_hub(healthy: World) -> None:
    """As it stops every start; nothing of it is shown."""
    healthy.changes["HUB_ALERT_WEBHOOK_URL"] = "https://1.2.3.999/made-up-path"

    found = examined(healthy)
    asked = run_command(healthy, "ask", "claude", "Hello?")

    assert worse(found) == {"logins": "blocks"}
    assert "HUB_ALERT_WEBHOOK_URL" in found["logins"]["message"]
    assert asked.returncode == 78
    assert b"HUB_ALERT_WEBHOOK_URL" in asked.stderr
    assert b"made-up-path" not in asked.stderr


# -- the state folder, the clock ---------------------------------------------------------------------------------------


def test_a_state_folder_that_cannot_be_written_blocks(healthy: World) -> None:
    """As root, too, once root is bound to a file's mode; the CLIs are looked at all the same."""
    healthy.state.mkdir(mode=0o500)
    healthy.prefix = without_rights_of_root()

    found = examined(healthy)

    assert worse(found) == {"state-folder": "blocks", "store": "blocks", "logins": "blocks"}
    assert "Permission denied" in found["state-folder"]["message"]
    assert "HUB_STATE_DIR" in found["state-folder"]["action"]


def test_a_state_folder_without_room_blocks(healthy: World) -> None:
    """A CLI could not even start."""
    healthy.state.mkdir(mode=0o700)
    healthy.prefix = in_a_mount_namespace('mount -t tmpfs -o size=600k,mode=0700 none "$1"', str(healthy.state))

    finding = examined(healthy)["state-folder"]

    assert finding["state"] == "blocks"
    assert "MB left" in finding["message"]
    assert "HUB_STATE_DIR" in finding["action"]


def test_a_clock_that_has_gone_back_is_told(healthy: World) -> None:
    """What an earlier hub wrote is two days ahead of it."""
    examined(healthy)
    later = time.time() + 2 * 86_400
    os.utime(healthy.state / "hub.sqlite3", (later, later))

    found = examined(healthy)

    assert worse(found) == {"clock": "warning"}
    assert "hub.sqlite3 was written 2 days later" in found["clock"]["message"]


# -- the logins --------------------------------------------------------------------------------------------------------


def test_logins_that_are_not_there_block(healthy: World) -> None:
    """Each with how to make it."""
    healthy.changes["CLAUDE_CODE_OAUTH_TOKEN"] = ""
    healthy.login_file.unlink()

    found = examined(healthy)

    assert worse(found) == {"claude-login": "blocks", "gemini-login": "blocks"}


# -- Redis -------------------------------------------------------------------------------------------------------------


def test_a_redis_server_is_looked_at(healthy: World, tmp_path: Path) -> None:
    """Reached, written, its version, how fast it is, and that it keeps what is written; its password is not shown."""
    with RedisServer(tmp_path / "redis", requirepass=CANARY) as redis:
        healthy.changes["REDIS_URL"] = redis.url.replace("//", f"//:{CANARY}@")
        found = examined(healthy)
        left = redis.keys()

    assert worse(found) == {}
    assert re.fullmatch(r"Redis \d+\.\d+\.\d+ of REDIS_URL, answers in \d+\.\d ms", found["store"]["message"])
    assert "noeviction" in found["store-policy"]["message"]
    assert [key for key in left if b"doctor" in key] == []


def test_a_redis_server_that_removes_what_it_likes_is_told(healthy: World, tmp_path: Path) -> None:
    """Asks work, until it is full."""
    with RedisServer(tmp_path / "redis", maxmemory="50mb", maxmemory_policy="allkeys-lru") as redis:
        healthy.changes["REDIS_URL"] = redis.url
        found = examined(healthy)

    assert worse(found) == {"store-policy": "warning"}
    assert "allkeys-lru" in found["store-policy"]["message"]
    assert "maxmemory-policy noeviction" in found["store-policy"]["action"]


def test_a_redis_user_with_no_more_rights_than_needed_is_well(healthy: World, tmp_path: Path) -> None:
    """The rights that the hub asks for do not tell the policy; that is said, and is no fault."""
    with RedisServer(tmp_path / "redis") as redis:
        with redis.client() as client:
            rights = "~hub:* +@read +@write +@scripting +@connection +time -@dangerous"
            client.execute_command("ACL", "SETUSER", "hub", "on", f">{CANARY}", *rights.split())
        healthy.changes["REDIS_URL"] = redis.url.replace("//", f"//hub:{CANARY}@")
        found = examined(healthy)

    assert worse(found) == {}
    assert re.match(r"Redis \d", found["store"]["message"])
    assert "not allowed to ask" in found["store-policy"]["message"]


@pytest.mark.parametrize("how", ["away", "frozen", "no server's address"])
def test_a_redis_server_that_is_not_there_blocks(healthy: World, tmp_path: Path, how: str) -> None:
    """No ask is accepted without its store, and no other one is taken in silence."""
    with RedisServer(tmp_path / "redis") as redis:
        healthy.changes["REDIS_URL"] = redis.url + ("/none" if how.startswith("no ") else "")
        if how == "away":
            redis.kill()
        elif how == "frozen":
            redis.freeze()
        found = examined(healthy)

    assert found["store"]["state"] == "blocks"
    assert "REDIS_URL" in found["store"]["message"]
