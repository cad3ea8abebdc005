"""`llm-mcp-hub setup`: a newcomer at a terminal who is interrupted again and again, and a script that asks nobody.

Everything is real: npm, the Gemini CLI that it installs from this machine's registry, both sign-ins, a client's file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pexpect
import pytest

from llm_mcp_hub.providers.gemini_compiled import FOLDER
from tests.harness import DEADLINE_S, World, run_command
from tests.protocol.test_login import Desk, make_desk

BEFORE = dict(os.environ)
"""This machine's, before a test scrubs it: where its npm gets packages, and nothing else."""
URL = r"\r\n(https://\S+)\r\n"


def npm_of_this_machine() -> dict[str, str]:
    """What leads npm to the registry that this machine has, from another home and past the stand-ins' proxy."""
    asked = subprocess.run(
        ["npm", "config", "get", "registry", "cache", "userconfig"],
        env=BEFORE,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    told = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
    way = BEFORE.get("HTTPS_PROXY") or BEFORE.get("https_proxy")
    trusted = BEFORE.get("NODE_EXTRA_CA_CERTS")
    return {
        **{name: value for name, value in BEFORE.items() if name.lower().startswith("npm_config_")},
        "npm_config_cache": told["cache"],
        "npm_config_prefer_offline": "true",  # what `make install` had from there serves without a network too
        "npm_config_userconfig": told["userconfig"],
        **(
            {"npm_config_https_proxy": way}
            if way
            else {"npm_config_noproxy": urlsplit(told["registry"]).hostname or ""}
        ),
        **({"npm_config_cafile": trusted} if trusted else {}),
    }


@pytest.fixture
def desks(world: World, tmp_path: Path) -> Generator[dict[str, Desk]]:
    """Nothing but Node.js, npm and the traces of one MCP client; a Google Cloud project stands in the environment."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("node", "npm", "sh", "sed", "env", "setpriv", "git"):
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(Path(found).resolve() if name == "node" else found)
    (world.home / ".cursor").mkdir()
    world.changes |= {"HUB_GEMINI_COMMAND": "", "PATH": str(programs), "GOOGLE_CLOUD_PROJECT": "made-up-project"}
    with make_desk("claude", world, tmp_path) as desk:
        yield {"claude": desk, "gemini": Desk("gemini", world, None)}


@contextmanager
def terminal(world: World, *words: str) -> Generator[pexpect.spawn[str]]:
    """`setup` at a terminal; killed at the end, after which none of its children lives."""
    program, *before = world.command
    child: pexpect.spawn[str] = pexpect.spawn(
        program,
        [*before, "setup", *words],
        env=world.environment,
        encoding="utf-8",
        timeout=DEADLINE_S,
        dimensions=(24, 400),
    )
    try:
        yield child
    finally:
        child.close(force=True)
        world.wait_until_no_child()


def ended(child: pexpect.spawn[str]) -> tuple[int, str]:
    """The exit code, and what was said since the last look."""
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus is not None, child.signalstatus
    return child.exitstatus, str(child.before)


def log_in(child: pexpect.spawn[str], desk: Desk) -> None:
    """Open the link, type its code."""
    child.expect(URL)
    match = child.match
    assert isinstance(match, re.Match)
    child.expect_exact("Paste the code")
    child.sendline(desk.authorize(str(match[1])))
    child.expect_exact("has answered: the login works")


def test_a_newcomer_who_is_interrupted_at_every_step_goes_on_where_it_was(world: World, desks: dict[str, Desk]) -> None:
    """Killed while npm works and at each question; what was done is not done again, and at the end all works.

    It takes some 25 s: one real installation, two real sign-ins, seven starts.
    """
    own = world.state / "gemini-cli"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # 1 · npm waits for a registry that never answers; setup dies, and npm with it.
        world.changes |= {"npm_config_registry": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        with terminal(world) as child:
            child.expect_exact("Install Gemini CLI 0.61.0")
            child.sendline("")
            silent.settimeout(DEADLINE_S)
            silent.accept()[0].close()
        assert [path.name[:5] for path in own.iterdir() if path.name != ".lock"] == [".new-"]
    del world.changes["npm_config_registry"]
    world.changes |= npm_of_this_machine()

    # 2 · The real one. Ctrl-C at the question of the project.
    with terminal(world) as child:
        child.expect_exact("Install Gemini CLI 0.61.0")
        child.sendline("y")
        child.expect_exact("installed: ")
        child.expect_exact("GOOGLE_CLOUD_PROJECT is made-up-project")
        child.expect_exact("[y/N]")
        child.sendintr()
        code, said = ended(child)
    assert (code, "to go on, run: llm-mcp-hub setup" in said) == (130, True)
    assert len([path for path in own.iterdir() if path.name != ".lock"]) == 1
    assert not (world.home / ".config").exists()
    told = subprocess.run([*own.glob("*/node"), "--version"], capture_output=True, text=True, check=True).stdout
    compiles = tuple(map(int, told.strip().removeprefix("v").split(".")[:2])) >= (22, 1)
    assert compiles == bool(list(own.glob(f"*/{FOLDER.as_posix()}/*/*")))

    # 3 · Killed at Claude's link.
    with terminal(world) as child:
        child.expect_exact("there already: Gemini CLI 0.61.0")
        child.expect_exact("[y/N]")
        child.sendline("y")
        child.expect_exact("Log in to Claude now?")
        child.sendline("")
        child.expect_exact("Paste the code")

    # 4 · Claude's login; killed at Gemini's link.
    with terminal(world) as child:
        child.expect_exact("there already: GEMINI_PROJECT is made-up-project")
        child.expect_exact("Log in to Claude now?")
        child.sendline("")
        log_in(child, desks["claude"])
        child.expect_exact("Log in to Gemini now?")
        child.sendline("")
        child.expect_exact("Paste the code")

    # 5 · Gemini's login by that CLI, its sign-in behind another proxy; killed at the question of the client.
    world.changes |= {name: value for name, value in world.gemini.environment.items() if name != "CODE_ASSIST_ENDPOINT"}
    with terminal(world) as child:
        child.expect_exact("Log in to Gemini now?")
        child.sendline("")
        log_in(child, desks["gemini"])
        child.expect_exact("configuration of cursor?")

    # 6 · To the end.
    with terminal(world) as child:
        child.expect_exact("configuration of cursor?")
        child.sendline("")
        code, said = ended(child)
    assert code == 0, said
    assert "Claude has answered already" in said
    assert "Gemini has answered already" in said
    assert "Done now: cursor.\r\n" in said

    # 7 · Once more, by a script: nothing is asked, nothing done.
    folders = [world.home / ".cursor", world.home / ".config"]
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    spent = world.prompts_received("claude"), world.prompts_received("gemini")
    again = run_command(world, "setup")
    assert again.returncode == 0, again.stdout.decode()
    assert "Everything was done already." in again.stdout.decode()
    assert {path: path.read_bytes() for path in before} == before
    assert (world.prompts_received("claude"), world.prompts_received("gemini")) == spent == (1, 1)

    settings = world.home / ".config" / "llm-mcp-hub" / ".env"
    assert settings.read_text() == "GEMINI_PROJECT=made-up-project\n"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.parent.stat().st_mode) == 0o700
    assert "llm-hub" in json.loads((world.home / ".cursor" / "mcp.json").read_text())["mcpServers"]


def test_a_script_without_a_terminal_is_asked_nothing(world: World, desks: dict[str, Desk]) -> None:
    """What wants a person's word is left out and told, with the command that takes it; nothing is written or spent."""
    done = run_command(world, "setup", stdin="y\n" * 9)
    said = done.stdout.decode()

    assert done.returncode == 1
    assert "[Y/n]" not in said
    for left in ("Gemini CLI", "Google Cloud project", "Claude's login", "Gemini's login", "cursor", "one ask"):
        assert re.search(rf"^Left out: .*\b{left}\b", said, re.MULTILINE), said
    assert said.endswith("Next: llm-mcp-hub setup --yes\n")
    assert not (world.home / ".config").exists()
    assert not (world.state / "gemini-cli").exists()
    assert list((world.home / ".cursor").iterdir()) == []


def test_what_is_there_is_left_alone_and_one_ask_is_spent_once(world: World) -> None:
    """`--yes` asks nothing either; a login that has answered is not asked again. Steps are left out by name."""
    first = run_command(world, "setup", "--yes", "--skip", "clients", "--skip", "project")
    spent = world.prompts_received("claude"), world.prompts_received("gemini")
    second = run_command(world, "setup", "--yes", "--skip", "clients", "--skip", "doctor")
    said = first.stdout.decode()

    assert (first.returncode, second.returncode) == (0, 0), said
    assert "Claude has answered: Hello from the stand-in of Claude" in said
    assert "Gemini has answered: Hello from the stand-in of Gemini" in said
    assert "Done now: an answer of Claude, an answer of Gemini.\nLeft out: Google Cloud project, MCP clients.\n" in said
    assert spent == (1, 1) == (world.prompts_received("claude"), world.prompts_received("gemini"))
    assert second.stdout.count(b"has answered already") == 2
    assert b"7/7 everything that an ask needs \xe2\x80\xa6\n    left out: --skip\n" in second.stdout


def test_a_step_that_fails_stops_no_other_one(world: World) -> None:
    """A project that is a number is refused as the settings do it; a client's broken file is told and kept."""
    world.changes |= {"GOOGLE_CLOUD_PROJECT_ID": "123456"}
    broken = world.home / ".cursor" / "mcp.json"
    broken.parent.mkdir()
    broken.write_text("{ not json")
    done = run_command(world, "setup", "--yes", "--skip", "ask", "--skip", "gemini-cli")
    said = done.stdout.decode()

    assert done.returncode == 1
    assert "misconfigured: GOOGLE_CLOUD_PROJECT_ID is a number" in said
    assert "cursor: misconfigured: " in said
    assert "Nothing blocks an ask" in said
    assert "Failed: Google Cloud project (misconfigured), cursor (misconfigured).\nNext: Set GEMINI_PROJECT" in said
    assert broken.read_text() == "{ not json"
    assert not (world.home / ".config").exists()


@pytest.mark.parametrize("held", ["null", "[]", '"none"'])
def test_a_clients_file_of_another_shape_stops_no_other_step(world: World, held: str) -> None:
    """It is JSON, and what should hold the servers holds none."""
    strange = world.home / ".cursor" / "mcp.json"
    strange.parent.mkdir()
    strange.write_text(f'{{"mcpServers": {held}}}')
    done = run_command(world, "setup", "--yes", "--skip", "ask", "--skip", "gemini-cli")
    said = done.stdout.decode()

    assert done.returncode == 1, done.stderr
    assert "Nothing blocks an ask" in said
    assert "Failed: cursor (misconfigured).\n" in said
    assert strange.read_text() == f'{{"mcpServers": {held}}}'


def test_without_its_cli_no_login_of_gemini_is_begun(world: World, desks: dict[str, Desk]) -> None:
    """It would fail, and name this very command as its mend."""
    Path(world.changes["PATH"], "npm").unlink()
    with terminal(world, "--skip", "project", "--skip", "login-claude") as child:
        child.expect_exact("Install Gemini CLI")
        child.sendline("y")
        child.expect_exact("cli_missing: The Gemini CLI is not installed: npm")
        child.expect_exact("left out: it needs the Gemini CLI; later: llm-mcp-hub login gemini")
        child.expect_exact("configuration of cursor?")
        child.sendline("q")
        ended(child)


def test_a_step_that_does_not_exist_is_refused(world: World) -> None:
    """A typing mistake must not spend what was to be left out."""
    done = run_command(world, "setup", "--yes", "--skip", "asks")

    assert done.returncode == 64
    assert b"did you mean ask?" in done.stderr
