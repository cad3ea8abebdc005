"""What the hub stands on is missing, too old or refused: told as `cli_missing` or `misconfigured`, with what mends it.

The programs are real where they can be; an old Gemini CLI and a broken one are stood in for by scripts that say what
such a one says. What the machine refuses is refused by the kernel: rights, a terminal, room on a disk.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers.claude import ClaudeProvider
from tests.harness import TOKEN, Line, World, answer_of, error_of, make_world, open_line, run_command
from tests.protocol.conftest import CANARY
from tests.upstreams.google import write_login

PROMPT = f"Is the {CANARY} in?"


def check(result: CallToolResult, code: str, message: str, action: str, provider: str = "gemini") -> None:
    """The code, and parts of the sentence and of the one next step; nothing was sent and nothing is echoed."""
    error = error_of(result)

    assert error["code"] == code, error
    assert message in error["message"], error
    assert action in error["action"], error
    assert error["retryable"] is False
    assert error["provider"] == provider
    assert CANARY not in result.model_dump_json()


def without_rights_of_root() -> list[str]:
    """Words that make root as powerless before a file's mode as everybody is. Others need none."""
    refused = "-dac_override,-dac_read_search"
    return [] if os.geteuid() else ["setpriv", "--bounding-set", refused]


def in_a_mount_namespace(script: str, *arguments: str) -> list[str]:
    """Words that run `script` in a mount namespace of its own, and then become what follows."""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    private = ["unshare", "--mount", *rights, "--propagation", "private"]
    return [*private, "/bin/sh", "-c", f'{script} && shift {len(arguments)} && exec "$@"', "sh", *arguments]


# Claude's CLI -------------------------------------------------------------------------------------------------------


def _no_such_file(path: Path) -> None:
    assert not path.exists()


def _not_executable(path: Path) -> None:
    path.write_text("#!/bin/sh\n")


def _of_another_machine(path: Path) -> None:
    path.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 200)
    path.chmod(0o755)


def _without_its_loader(path: Path) -> None:
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)


@pytest.mark.anyio
@pytest.mark.parametrize("make", [_no_such_file, _not_executable, _of_another_machine, _without_its_loader])
async def test_a_claude_cli_that_cannot_be_started_is_cli_missing(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Not there, or there and useless on this machine: the wheel that brings it must be installed again."""
    cli = tmp_path / "claude"
    make(cli)
    run = RunFolder(tmp_path / "state")
    provider = ClaudeProvider(
        run=run,
        around={"PATH": os.environ["PATH"]},
        token=lambda: TOKEN,
        default_model="sonnet",
        upstream="http://127.0.0.1:9",
        cli=cli,
    )
    try:
        with pytest.raises(HubError) as caught:
            async for _ in provider.ask(Ask("ask_1", "claude", PROMPT, "sonnet", None, 60)):
                pass
    finally:
        await provider.close()
        run.close()

    assert caught.value.code == "cli_missing"
    assert "Claude Code program" in caught.value.message
    assert "pip install --force-reinstall claude-agent-sdk" in caught.value.action
    assert caught.value.provider == "claude"


# Gemini's CLI -------------------------------------------------------------------------------------------------------


def fake(path: Path, script: str) -> str:
    """A program at `path` that runs a Python script; returns the path."""
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(script)} "$@"\n')
    path.chmod(0o755)
    return str(path)


# Begins on the terminal as the real one does, then answers whatever is asked as an agent of some version.
OLD = r"""
import json, sys
sys.stdout.write("\x1b[8m\x1b[?u\x1b[c\x1b[2K\r\x1b[0m")
sys.stdout.flush()
for line in sys.stdin:
    try:
        asked = json.loads(line[line.index("{"):])
    except ValueError:
        continue
    result = {"protocolVersion": 1, AGENT}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}) + "\n")
    sys.stdout.flush()
"""
WITHOUT_ACP = r"""
import sys
sys.stderr.write("Usage: gemini [options] [command]\n\nUnknown arguments: acp, admin-policy, adminPolicy\n")
sys.exit(1)
"""


def _old(agent: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.changes["HUB_GEMINI_COMMAND"] = fake(world.home / "gemini", OLD.replace("AGENT", agent))

    return make


def _without_acp(world: World) -> None:
    world.changes["HUB_GEMINI_COMMAND"] = fake(world.home / "gemini", WITHOUT_ACP)


def _command(command: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.changes["HUB_GEMINI_COMMAND"] = command

    return make


def _mode_of_a_document(world: World) -> None:
    file = world.home / "gemini"
    file.write_text("#!/bin/sh\n")
    world.changes["HUB_GEMINI_COMMAND"] = str(file)


def _no_node(world: World) -> None:
    nothing = world.home / "bin"
    nothing.mkdir()
    world.changes["PATH"] = str(nothing)


INSTALL = "npm install -g @google/gemini-cli@0.61.0"
CORRECT = "Correct HUB_GEMINI_COMMAND"

GEMINIS: dict[str, tuple[Callable[[World], None], str, str]] = {
    # what is there -> a part of the message, a part of the next step
    "no such path": (_command("/nonexistent/gemini"), "/nonexistent/gemini", CORRECT),
    "no such name": (_command("gemini-of-nobody"), "gemini-of-nobody", CORRECT),
    "not executable": (_mode_of_a_document, "was not found", CORRECT),
    "too old": (_old('"agentInfo": {"name": "gemini-cli", "version": "0.1.0"}'), "too old (0.1.0)", INSTALL),
    "too old to tell": (_old('"agentCapabilities": {}'), "too old", INSTALL),
    "without ACP": (_without_acp, "too old", INSTALL),
    "no Node.js": (_no_node, "Node.js", "Install Node.js 20"),
}


@pytest.mark.parametrize("row", GEMINIS)
def test_a_gemini_cli_that_cannot_be_used_is_cli_missing(world: World, row: str) -> None:
    """Each time the same: what is wrong with it, the command that mends it, and no child left behind."""
    make, message, action = GEMINIS[row]
    make(world)
    with open_line(world, "stdio", "auto") as line:
        check(line.call("ask_gemini", {"prompt": PROMPT}), "cli_missing", message, action)
        world.wait_until_no_child()

    assert world.gemini.received == world.gemini.oauth_received == []


# The machine --------------------------------------------------------------------------------------------------------


def test_a_machine_without_pseudo_terminals_is_misconfigured_for_gemini_alone(world: World) -> None:
    """The kernel refuses the terminal; Claude, which needs none, still answers."""
    world.prefix = in_a_mount_namespace("mount --bind /dev/null /dev/ptmx")
    with open_line(world, "stdio", "auto") as line:
        check(line.call("ask_gemini", {"prompt": PROMPT}), "misconfigured", "pseudo-terminal", "/dev/pts")
        assert answer_of(line.call("ask_claude", {"prompt": PROMPT}))["provider"] == "claude"


STATE = "HUB_STATE_DIR"


@pytest.mark.parametrize("command", [[], ["serve", "--port", "0"], ["ask", "claude", "hello"], ["status"]])
def test_a_state_folder_that_cannot_be_made_ends_each_command_with_one_sentence(
    world: World, command: list[str]
) -> None:
    """Told at the start, to the person who started it: exit 78, the variable's name, no traceback."""
    (world.home / "file").write_text("")
    world.changes[STATE] = str(world.home / "file" / "state")

    ended = run_command(world, *command)

    said = ended.stderr.decode()
    assert ended.returncode == 78, said
    assert "misconfigured: The state folder" in said
    assert STATE in said
    assert "Traceback" not in said
    assert len(said) < 1000


def test_a_state_folder_that_may_not_be_written_ends_the_start(world: World) -> None:
    """As root, too, once root is bound to a file's mode."""
    world.state.mkdir(mode=0o500)
    world.prefix = without_rights_of_root()

    ended = run_command(world, "status")

    assert ended.returncode == 78
    assert b"Permission denied" in ended.stderr
    assert STATE.encode() in ended.stderr


def test_a_state_folder_that_closes_later_is_told_at_the_ask(world: World) -> None:
    """A hub that runs already meets it at the next child's folder; opened again, it goes on."""
    world.prefix = without_rights_of_root()
    with open_line(world, "stdio", "auto") as line:
        assert not line.call("token_status").is_error
        [folder] = [path for path in (world.state / "run").iterdir() if path.is_dir()]
        folder.chmod(0o500)
        for name in ("claude", "gemini"):
            closed = line.call(f"ask_{name}", {"prompt": PROMPT})
            check(closed, "misconfigured", "Permission denied", STATE, name)
        folder.chmod(0o700)

        assert answer_of(line.call("ask_gemini", {"prompt": PROMPT}))["provider"] == "gemini"


@pytest.mark.parametrize("size", ["4k", "36k"], ids=["for the hub", "for the CLI"])
def test_a_full_disk_is_misconfigured(world: World, size: str) -> None:
    """Whether the hub or the CLI itself is the one that finds no room, the next step names the folder."""
    world.state.mkdir(mode=0o700)
    world.prefix = in_a_mount_namespace(f'mount -t tmpfs -o size={size},mode=0700 none "$1"', str(world.state))
    with open_line(world, "stdio", "auto") as line:
        check(line.call("ask_gemini", {"prompt": PROMPT}), "misconfigured", "write", "space left")


# The login file -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A login file as it is found, and what is said of it: by the status, and as the error of an ask."""

    make: Callable[[Path], None]
    state: str
    code: str
    message: str
    action: str = "llm-mcp-hub login gemini"


def _text(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(text)

    return make


def _folder(path: Path) -> None:
    path.mkdir()


def _unreadable(path: Path) -> None:
    write_login(path.parent)
    path.chmod(0)


def _encrypted(path: Path) -> None:
    (path.parent / "gemini-credentials.json").write_text("00:11:22")


def _huge(path: Path) -> None:
    path.write_text(json.dumps({"access_token": "made-up", "refresh_token": "x" * (1 << 20)}))


def _nothing(path: Path) -> None:
    assert not path.exists()


def _link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "gone.json")


def _ended(path: Path) -> None:
    write_login(path.parent, expires_in_s=-60, without=["refresh_token"])


def _service_account(path: Path) -> None:
    key = {"type": "service_account", "private_key": "made-up", "client_email": "x@example.invalid"}
    path.write_text(json.dumps(key))


FILES: dict[str, File] = {
    "nothing": File(_nothing, "missing", "auth_missing", "no Google login"),
    "a link to nothing": File(_link_to_nothing, "missing", "auth_missing", "no Google login"),
    "a folder": File(_folder, "misconfigured", "misconfigured", "is a folder", "Remove the folder"),
    "unreadable": File(_unreadable, "misconfigured", "misconfigured", "Permission denied", "chmod u+r"),
    "empty": File(_text(""), "misconfigured", "misconfigured", "cut off"),
    "cut off": File(_text('{"access_token": "made-up", "refresh_to'), "misconfigured", "misconfigured", "cut off"),
    "a list": File(_text("[]"), "misconfigured", "misconfigured", "not a login"),
    "a login of Claude Code": File(
        _text('{"accessToken": "made-up", "refreshToken": "made-up", "expiresAt": 1736553600}'),
        "misconfigured",
        "misconfigured",
        "not a login",
    ),
    "a service account": File(_service_account, "misconfigured", "billing_blocked", "not a person's login"),
    "huge": File(_huge, "misconfigured", "misconfigured", "not a login"),
    "encrypted": File(_encrypted, "misconfigured", "misconfigured", "encrypted store"),
    "ended, with nothing to renew it": File(_ended, "expired", "auth_expired", "has ended"),
}


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[World, Line]]:
    """A hub that reads the file of its row at each question, bound to file modes like everybody."""
    with make_world(tmp_path_factory.mktemp("reading")) as world:
        world.prefix = without_rights_of_root()
        link = world.home / "of-the-row"
        world.changes["GEMINI_AUTH_PATH"] = str(link / "oauth_creds.json")
        with open_line(world, "stdio", "auto") as line:
            yield world, line
            assert world.children() == []
            assert CANARY not in line.log
        assert world.gemini.received == world.gemini.oauth_received == []


@pytest.mark.parametrize("row", FILES)
def test_a_login_file_that_cannot_be_used_is_told_with_what_mends_it(
    reading: tuple[World, Line], tmp_path: Path, row: str
) -> None:
    """The status and an ask say the same; no CLI is started with it, and nothing of its content is shown."""
    world, line = reading
    file = FILES[row]
    folder = world.home / "of-the-row"
    folder.unlink(missing_ok=True)
    folder.symlink_to(tmp_path)
    file.make(tmp_path / "oauth_creds.json")

    failed = line.call("ask_gemini", {"prompt": PROMPT})
    shown = line.call("token_status", {"provider": "gemini"})

    check(failed, file.code, file.message, file.action)
    assert shown.structured_content is not None
    status: dict[str, Any] = shown.structured_content["gemini"]
    assert (status["status"], status["usable"]) == (file.state, False)
    assert file.message in status["message"]
    assert status["action"] in error_of(failed)["action"]
    assert "made-up" not in failed.model_dump_json() + shown.model_dump_json()


def test_a_login_file_without_the_clis_clock_is_used(world: World) -> None:
    """Files made by hand or by other tools name no `expiry_date`; the CLI takes them, and so does the hub."""
    login = {
        "access_token": "made-up-access",
        "refresh_token": "made-up-refresh",
        "token_uri": "https://oauth2.googleapis.com/token",
        "expiry": "2026-01-10T12:00:00Z",
    }
    world.login_file.write_text(json.dumps(login))
    with open_line(world, "stdio", "auto") as line:
        shown = line.call("token_status").structured_content
        answer = answer_of(line.call("ask_gemini", {"prompt": PROMPT}))

    assert shown is not None
    status = shown["gemini"]
    assert (status["status"], status["evidence"]["level"], status["days_remaining"]) == ("valid", "well_formed", None)
    assert answer["provider"] == "gemini"
