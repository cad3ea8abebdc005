"""How findings are gathered and shown, and what each provider's own look makes of the programs that it finds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_mcp_hub.commands import doctor
from llm_mcp_hub.errors import BillingBlocked, CliMissing, Misconfigured
from llm_mcp_hub.finding import Finding, blocks, foreign, ok, told, warns
from llm_mcp_hub.providers import claude_doctor, gemini_doctor

DEADLINE_S = 60.0
SHORT_S = 0.2
"""The deadline of a look that is meant to miss it."""

# -- a finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["warning", "blocks"])
def test_a_finding_that_is_not_well_has_a_next_step(state: str) -> None:
    """What nobody can act upon would be noise."""
    with pytest.raises(ValueError, match="without a next step"):
        Finding("clock", state, "It is late.")  # pyright: ignore[reportArgumentType] -- the two states by turns


def test_an_error_is_told_with_its_own_next_step() -> None:
    """An ask would be told the same; where there is nothing to type in it, this command is."""
    named = CliMissing("It is not there.", action="Install it: npm install it")
    unnamed = BillingBlocked("It could pay.", action="Ask the administrator of this machine to remove it from /etc/it.")

    assert told("cli", named) == blocks("cli", "It is not there.", "Install it: npm install it")
    assert told("it", unnamed).action.endswith("remove it from /etc/it, then run: llm-mcp-hub doctor")


CLAUDES = [
    *["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"],
    *["ANTHROPIC_PROFILE", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL", "ANTHROPIC_FOUNDRY_API_KEY"],
    *["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_ANTHROPIC_AWS"],
    *["CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_CUSTOM_OAUTH_URL", "AWS_BEARER_TOKEN_BEDROCK"],
]
GEMINIS = [
    *["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_GENAI_USE_VERTEXAI"],
    *["GOOGLE_GENAI_USE_GCA", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL", "GOOGLE_CLOUD_ACCESS_TOKEN"],
    *["CODE_ASSIST_ENDPOINT", "CLOUD_SHELL", "GEMINI_CLI_USE_COMPUTE_ADC"],
]


@pytest.mark.parametrize(
    ("wanted", "variable"),
    [(claude_doctor.FOREIGN, name) for name in CLAUDES] + [(gemini_doctor.FOREIGN, name) for name in GEMINIS],
    ids=[*CLAUDES, *GEMINIS],
)
def test_a_variable_that_could_pay_is_named_and_its_value_is_not(wanted: re.Pattern[str], variable: str) -> None:
    """G1, G7: asks do not see it, its owner learns of it, and nobody learns what it holds."""
    finding = foreign("variables", {variable: "plum-canary", "PATH": "/bin"}, wanted)

    assert finding.state == "warning"
    assert finding.message.startswith(f"{variable}: ")
    assert finding.action.endswith(f"run: unset {variable}")
    assert "plum-canary" not in finding.message + finding.action


@pytest.mark.parametrize("wanted", [claude_doctor.FOREIGN, gemini_doctor.FOREIGN])
def test_what_pays_nobody_is_no_finding(wanted: re.Pattern[str]) -> None:
    """The hub's own settings, what programs need, and a variable that is set to nothing."""
    around = {
        "PATH": "/bin",
        "HOME": "/",
        "CLAUDE_CODE_OAUTH_TOKEN": "x",
        "GEMINI_PROJECT": "x",
        "GEMINI_MODEL": "x",
        "ANTHROPIC_MODEL": "x",
        "ANTHROPIC_API_KEY": "",
        "GEMINI_API_KEY": "",
    }

    assert foreign("variables", around, wanted).state == "ok"


# -- gathering ---------------------------------------------------------------------------------------------------------


async def _well() -> AsyncGenerator[Finding]:
    yield ok("well", "all is well")


async def _hanging() -> AsyncGenerator[Finding]:
    yield ok("begun", "so far")
    await asyncio.Event().wait()
    yield ok("never", "")


async def _failing() -> AsyncGenerator[Finding]:
    yield ok("begun", "so far")
    raise RuntimeError("plum-canary")


async def _refused() -> AsyncGenerator[Finding]:
    for _ in ():
        yield ok("never", "")
    raise Misconfigured("It is wrong.", action="Set HUB_IT.")


@pytest.mark.anyio
async def test_no_look_can_hide_another() -> None:
    """One that hangs or fails is a finding itself, with what it had found; the order stays."""
    for_ever = threading.Event()
    async with asyncio.timeout(DEADLINE_S):
        found = await doctor.gathered(
            {
                "hangs": _hanging(),
                "blocked": lambda: [ok("never", str(for_ever.wait()))],
                "fails": _failing(),
                "raises": lambda: [ok("never", str(1 / 0))],
                "refused": _refused(),
                "well": _well(),
                "also": lambda: [ok("also", "well")],
            },
            SHORT_S,
        )
    for_ever.set()

    assert [(finding.name, finding.state) for finding in found] == [
        ("begun", "ok"),
        ("hangs", "warning"),
        ("blocked", "warning"),
        ("begun", "ok"),
        ("fails", "warning"),
        ("raises", "warning"),
        ("refused", "blocks"),
        ("well", "ok"),
        ("also", "ok"),
    ]
    assert "has not ended" in found[1].message
    assert "ZeroDivisionError" in found[5].message
    assert "plum-canary" not in str(found)


# -- showing -----------------------------------------------------------------------------------------------------------

FOUND = [
    ok("hub", "llm-mcp-hub 1"),
    warns("clock", "It is\nlate.", "Set the clock: now"),
    blocks("gemini-cli", "It is not there.", "Install it: npm install it"),
]

SHOWN = """\
ok      hub              llm-mcp-hub 1
warn    clock            It is late.
                         → Set the clock: now
BLOCKS  gemini-cli       It is not there.
                         → Install it: npm install it

1 finding blocks an ask; 1 warning."""


def test_findings_are_a_line_each_with_the_next_step_below() -> None:
    """What a person sees at a glance: the marks, then the names."""
    assert doctor.as_text(FOUND) == SHOWN
    assert doctor.as_text(FOUND[:1]).endswith("\n\nNothing blocks an ask; 0 warnings.")
    assert doctor.as_text([FOUND[2], FOUND[2]]).endswith("2 findings block asks; 0 warnings.")


def test_a_narrow_terminal_gets_the_lines_below_each_other() -> None:
    """What a terminal would break in the middle of a word is wrapped beside the names."""
    long = blocks("store", "one two three four five six seven eight", "nine ten eleven twelve thirteen fourteen")

    assert doctor.as_text([long], width=60).splitlines()[:4] == [
        "BLOCKS  store            one two three four five six seven",
        "                         eight",
        "                         → nine ten eleven twelve thirteen",
        "                           fourteen",
    ]
    assert doctor.as_text(FOUND, width=20) == SHOWN


def test_colours_change_nothing_but_the_marks() -> None:
    """Without them the text is the same."""
    coloured = doctor.as_text(FOUND, coloured=True)

    assert "\x1b[1;31mBLOCKS" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == SHOWN


@pytest.mark.parametrize(("findings", "well"), [(FOUND, False), (FOUND[:2], True)])
def test_programs_get_the_same(findings: list[Finding], well: bool) -> None:
    """Two keys, and four a finding."""
    held = json.loads(json.dumps(doctor.as_object(findings)))

    assert held["ok"] is well
    assert [set(one) for one in held["findings"]] == [{"name", "state", "message", "action"}] * len(findings)


# -- Gemini's programs -------------------------------------------------------------------------------------------------

CLI, NODE = Path("/bin/gemini"), Path("/bin/node")


@pytest.mark.parametrize(
    ("path", "text", "state", "part"),
    [
        (CLI, "0.61.0\n", "ok", "Gemini CLI 0.61.0, /bin/gemini"),
        (CLI, "0.100.2-preview.1\n", "ok", "0.100.2-preview.1"),
        (CLI, "1.0.0\n", "ok", "1.0.0"),
        (CLI, "0.60.9\n", "blocks", "too old (0.60.9; 0.61 is needed)"),
        (CLI, "0.1.0", "blocks", "too old"),
        (CLI, "", "blocks", "tells no version"),
        (CLI, "Usage: gemini", "blocks", "tells no version"),
        (CLI, gemini_doctor.HANGS, "blocks", "hangs"),
        (None, "", "blocks", "(gemini) was not found"),
    ],
)
def test_the_gemini_cli_is_judged_by_what_it_says(path: Path | None, text: str, state: str, part: str) -> None:
    """The oldest that was measured is the oldest that will do."""
    finding = gemini_doctor.judge_cli("gemini", path, text)

    assert (finding.name, finding.state) == ("gemini-cli", state)
    assert part in finding.message


@pytest.mark.parametrize(
    ("path", "text", "runs", "state", "part"),
    [
        (NODE, "v20.0.0\n", True, "ok", "Node.js 20.0.0, /bin/node"),
        (NODE, "v26.1.3\n", False, "ok", "26.1.3"),
        (NODE, "v18.19.0\n", True, "blocks", "too old (v18.19.0; 20 is needed)"),
        (NODE, "", False, "blocks", "tells no version"),
        (NODE, gemini_doctor.HANGS, False, "blocks", "hangs"),
        (None, "", False, "blocks", "was not found in PATH"),
        (None, "", True, "ok", "runs all the same"),
    ],
)
def test_node_is_judged_by_what_it_says(path: Path | None, text: str, runs: bool, state: str, part: str) -> None:
    """A CLI that finds its Node.js by itself needs none in PATH."""
    finding = gemini_doctor.judge_node(path, text, runs=runs)

    assert (finding.name, finding.state) == ("gemini-node", state)
    assert part in finding.message


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("project", "around", "state", "part"),
    [
        (None, {}, "ok", "is not set"),
        ("my-project", {"GOOGLE_CLOUD_PROJECT": "other"}, "ok", "my-project"),
        ("123456", {}, "blocks", "is a number"),
        ("My Project!", {}, "blocks", "is no project's id"),
        ("-my-project", {}, "blocks", "is no project's id"),
        ("example.com:my-project-1", {}, "ok", "GEMINI_PROJECT is example.com:my-project-1"),
        (None, {"GOOGLE_CLOUD_PROJECT": "plum-canary"}, "warning", "GOOGLE_CLOUD_PROJECT is not handed on"),
    ],
)
async def test_a_licences_project_comes_by_its_own_variable(
    tmp_path: Path, project: str | None, around: dict[str, str], state: str, part: str
) -> None:
    """One that is set for other programs is not handed on; who needs it is told how."""
    looks = gemini_doctor.findings(
        around={"PATH": str(tmp_path), **around}, home=tmp_path, command="x", project=project
    )
    async with asyncio.timeout(DEADLINE_S):
        found = {finding.name: finding async for finding in looks}

    assert found["gemini-project"].state == state
    assert part in found["gemini-project"].message
    assert "plum-canary" not in str(found)


# -- Claude's ----------------------------------------------------------------------------------------------------------


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def claude(
    home: Path, cli: Path, *, folder: Path | None = None, limit_s: float = DEADLINE_S
) -> dict[str, Finding]:
    """What is found with this program for Claude's CLI."""
    looks = claude_doctor.findings(
        around={"PATH": os.environ["PATH"]},
        home=home,
        cli=cli,
        managed_folder=folder or home / "none",
        limit_s=limit_s,
    )
    async with asyncio.timeout(DEADLINE_S):
        return {finding.name: finding async for finding in looks}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("script", "state", "part"),
    [
        ("echo '2.1.330 (Claude Code)'", "ok", "Claude Code 2.1.330, bundled in claude-agent-sdk"),
        ("echo well", "blocks", "tells no version"),
        ("exit 1", "blocks", "cannot be started here, or tells no version"),
        ("exec sleep 600", "blocks", "has not answered"),
    ],
)
async def test_the_claude_cli_is_judged_by_what_it_says(tmp_path: Path, script: str, state: str, part: str) -> None:
    """One that hangs holds up nothing but its own line."""
    cli = program(tmp_path / "claude", script)
    found = await claude(tmp_path, cli, limit_s=SHORT_S if "sleep" in script else DEADLINE_S)

    assert found["claude-cli"].state == state
    assert part in found["claude-cli"].message
    assert found["claude-settings"].state == "ok"


@pytest.mark.anyio
async def test_a_claude_cli_that_is_not_there_is_installed_with_the_sdk(tmp_path: Path) -> None:
    """Not there, or of another machine: the wheel of the pinned version brings it."""
    foreign_program = tmp_path / "claude"
    foreign_program.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 200)
    foreign_program.chmod(0o755)
    for cli in (tmp_path / "gone", foreign_program):
        finding = (await claude(tmp_path, cli))["claude-cli"]

        assert finding.state == "blocks"
        assert re.fullmatch(r"Run: pip install --force-reinstall claude-agent-sdk==[\d.]+", finding.action)


@pytest.mark.anyio
async def test_machine_wide_settings_that_could_pay_block_an_ask(tmp_path: Path) -> None:
    """G1: what an ask would be told, before one is spent."""
    (tmp_path / "managed-settings.json").write_text('{"apiKeyHelper": "plum-canary"}')

    finding = (await claude(tmp_path, program(tmp_path / "claude", "echo 1.2.3"), folder=tmp_path))["claude-settings"]

    assert finding.state == "blocks"
    assert "apiKeyHelper" in finding.message
    assert str(tmp_path / "managed-settings.json") in finding.action
    assert "plum-canary" not in str(finding)
