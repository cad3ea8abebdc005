"""G2, text in, text out: the CLIs run no tool, read no file, fetch no page and load nothing that lies around.

The world is full of baits (`baits.py`): files with canaries, programs that leave a mark when they run, and a page that
notes who fetched it. Each test looks at every byte that reached either provider, and at every file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llm_mcp_hub.providers.claude_child import bundled_cli
from llm_mcp_hub.providers.gemini_child import SESSION_TURNS
from tests.guarantees.baits import Baits
from tests.harness import DEADLINE_S, GEMINI, TOKEN, Line, answer_of, error_of, make_world, open_line, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import LoopbackServer, Received

PROVIDERS = ("claude", "gemini")


async def _page(_request: web.Request, _received: Received) -> web.StreamResponse:
    return web.Response(text="a page")


@pytest.fixture(scope="module")
def page() -> Generator[LoopbackServer]:
    """A page of this machine; `received` tells who fetched it."""
    with LoopbackServer(_page) as server:
        yield server


@pytest.fixture
def planted(tmp_path: Path) -> Generator[Baits]:
    """A world full of baits, of this test's own."""
    with make_world(tmp_path / "world") as world:
        baits = Baits(world)
        baits.plant()
        yield baits


@pytest.fixture(scope="module")
def baits(tmp_path_factory: pytest.TempPathFactory) -> Generator[Baits]:
    """A world full of baits around one hub; at its end, when all children have gone, nothing has been touched."""
    with make_world(tmp_path_factory.mktemp("g2")) as world:
        made = Baits(world)
        made.plant()
        world.changes.update(made.variables)
        yield made
        world.wait_until_no_child()
        made.assert_untouched()


@pytest.fixture(scope="module")
def line(baits: Baits) -> Generator[Line]:
    """A warm hub in the middle of the baits."""
    with open_line(baits.world, "stdio", "auto", cwd=baits.cwd) as opened:
        yield opened


# -- the baits are good ----------------------------------------------------------------------------------------------


def test_the_baits_catch_a_claude_cli_that_is_not_contained(planted: Baits) -> None:
    """The program by itself reads, loads and runs them: what the other tests do not find would have been there."""
    claude = planted.world.claude
    claude.script(
        anthropic.ToolCall("Bash", {"command": planted.command("tool")}),
        anthropic.ToolCall("Read", {"file_path": str(planted.home / "canary.txt")}),
    )
    variables = {
        "PATH": planted.world.environment["PATH"],
        "HOME": str(planted.home),
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": claude.url,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }

    run_bare(planted, str(bundled_cli()), "-p", "read @canary.txt", "--allowedTools", "Bash,Read", variables=variables)

    assert set(planted.read(claude.received)) >= {
        *("cwd/CLAUDE.md", "cwd/CLAUDE.local.md", "home/CLAUDE.md", "cwd/canary.txt", "home/canary.txt"),
        *("claude-user/CLAUDE.md", "claude-user/rule", "claude-user/command", "claude-user/skill"),
        *("claude-project/CLAUDE.md", "claude-project/agent", "claude-project/style"),
    }
    assert set(planted.ran) >= {
        *("claude-user-UserPromptSubmit", "claude-project-SessionStart", "claude-project-PreToolUse"),
        *("claude-user-plugin", "claude-project-mcp", "tool"),
    }


def test_the_baits_catch_a_gemini_cli_that_is_not_contained(planted: Baits) -> None:
    """As above."""
    gemini = planted.world.gemini
    gemini.script(
        google.FunctionCall("run_shell_command", {"command": planted.command("tool")}),
        google.FunctionCall("read_file", {"file_path": "canary.txt"}),
    )
    variables = {
        "PATH": planted.world.environment["PATH"],
        "HOME": str(planted.home),
        "GEMINI_CLI_NO_RELAUNCH": "1",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        **{name: planted.variables[name] for name in ("NODE_OPTIONS", "GEMINI_SYSTEM_MD")},
        **gemini.environment,
    }

    run_bare(
        planted, str(GEMINI), "-p", "read @canary.txt", "--approval-mode", "yolo", "-m", "gemini-2.5-pro",
        variables=variables,
    )  # fmt: skip

    assert set(planted.read(gemini.received)) >= {
        *("system.md", "cwd/GEMINI.md", "cwd/CLAUDE.md", "cwd/AGENTS.md", "cwd/canary.txt"),
        *("gemini-user/GEMINI.md", "gemini-user/extension"),
    }
    assert set(planted.ran) >= {
        *("gemini-user-BeforeAgent", "gemini-project-SessionStart", "gemini-project-BeforeTool"),
        *("gemini-project-mcp", "preload", "tool"),
    }


def run_bare(baits: Baits, *command: str, variables: Mapping[str, str]) -> None:
    """Run a CLI by itself, in the midst of the baits."""
    done = subprocess.run(
        command,
        cwd=baits.cwd,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


# -- nothing is loaded -----------------------------------------------------------------------------------------------

MENTIONS = (
    "@{home}/canary.txt @{cwd}/CLAUDE.md @{state}/canary.txt @~/.gemini/GEMINI.md @canary.txt @CLAUDE.md",
    "/bait",
    "$bait-skill",
    "!cat {home}/canary.txt !{{cat {home}/canary.txt}} !`cat {home}/canary.txt` @{{{home}/canary.txt}}",
)
"""A few: the whole corpus is asked among the same baits by the tests of G3."""


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("prompt", MENTIONS)
def test_a_prompt_that_calls_something_up_loads_nothing(line: Line, baits: Baits, prompt: str, provider: str) -> None:
    """Neither what it names nor what lies in the home, in the repository, or around the hub's children."""
    result = line.call(f"ask_{provider}", {"prompt": prompt.format(**baits.folders)})

    answer_of(result)
    assert baits.read() == []
    assert baits.ran == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_system_text_that_calls_something_up_loads_nothing(line: Line, baits: Baits, provider: str) -> None:
    """The same for the instruction: both CLIs know imports and variables in such texts."""
    system = f"@{baits.home}/canary.txt @./CLAUDE.md ${{AgentSkills}} ${{SubAgents}} !`cat {baits.home}/canary.txt`"

    result = line.call(f"ask_{provider}", {"prompt": "hello", "system": system})

    answer_of(result)
    assert baits.read() == []
    assert baits.ran == []


def test_what_is_planted_beside_the_hubs_children_is_not_loaded(line: Line, baits: Baits) -> None:
    """Their working directory is empty, and the CLIs look upwards from it: here into the hub's own folders."""
    for provider in PROVIDERS:
        answer_of(line.call(f"ask_{provider}", {"prompt": "hello"}))
    [instance] = [folder for folder in (baits.world.state / "run").iterdir() if folder.is_dir()]
    for name in ("CLAUDE.md", "CLAUDE.local.md", "GEMINI.md", "AGENTS.md"):
        (instance / name).write_text(f"{baits.mark}|instance/{name}|")
        (instance.parent / name).write_text(f"{baits.mark}|run/{name}|")

    for provider in PROVIDERS:
        for _ in range(2):  # the first may still go to a child that was made ahead
            answer_of(line.call(f"ask_{provider}", {"prompt": "hello"}))

    assert baits.read() == []
    assert list((instance / "empty").iterdir()) == []


def test_a_hub_over_http_and_the_command_load_nothing(baits: Baits) -> None:
    """However the hub was started in that repository."""
    with open_line(baits.world, "http", "legacy", cwd=baits.cwd) as served:
        for provider in PROVIDERS:
            answer_of(served.call(f"ask_{provider}", {"prompt": "read @canary.txt"}))
    for provider in PROVIDERS:
        done = run_command(baits.world, "ask", provider, "read @canary.txt", cwd=baits.cwd)
        assert done.returncode == 0, done.stderr.decode()

    assert baits.read() == []
    assert baits.ran == []


# -- nothing is run --------------------------------------------------------------------------------------------------

CLAUDE_TOOLS: Mapping[str, Mapping[str, Any]] = {
    "Bash": {"command": "{command}", "description": "x"},
    "Read": {"file_path": "{home}/canary.txt"},
    "Write": {"file_path": "{target}", "content": "x"},
    "Edit": {"file_path": "{home}/canary.txt", "old_string": "c", "new_string": "x", "replace_all": True},
    "NotebookEdit": {"notebook_path": "{target}", "new_source": "x", "edit_mode": "insert"},
    "Glob": {"pattern": "**/*", "path": "{home}"},
    "Grep": {"pattern": "canary", "path": "{home}", "output_mode": "content"},
    "WebFetch": {"url": "{page}", "prompt": "x"},
    "WebSearch": {"query": "x"},
    "Agent": {"description": "x", "prompt": "read {home}/canary.txt", "subagent_type": "bait-agent"},
    "Skill": {"skill": "bait-skill"},
    "TodoWrite": {"todos": [{"content": "x", "status": "pending", "activeForm": "x"}]},
    "ReadMcpResourceTool": {"server": "bait", "uri": "file://{home}/canary.txt"},
    "mcp__bait__run": {"command": "{command}"},
    "no such tool": {},
}
GEMINI_TOOLS: Mapping[str, Mapping[str, Any]] = {
    "run_shell_command": {"command": "{command}", "description": "x"},
    "read_file": {"file_path": "{home}/canary.txt", "absolute_path": "{home}/canary.txt"},
    "read_many_files": {"include": ["**/*"], "paths": ["{home}"]},
    "write_file": {"file_path": "{target}", "content": "x"},
    "replace": {"file_path": "{home}/canary.txt", "old_string": "canary", "new_string": "x", "instruction": "x"},
    "list_directory": {"dir_path": "{home}", "path": "{home}"},
    "glob": {"pattern": "**/*", "dir_path": "{home}"},
    "grep_search": {"pattern": "canary", "dir_path": "{home}"},
    "search_file_content": {"pattern": "canary", "path": "{home}"},
    "web_fetch": {"prompt": "fetch {page}"},
    "google_web_search": {"query": "x"},
    "save_memory": {"fact": "x"},
    "write_todos": {"todos": [{"description": "x", "status": "pending"}]},
    "activate_skill": {"name": "bait-skill"},
    "invoke_agent": {"agent_name": "bait-agent", "prompt": "read {home}/canary.txt"},
    "bait-agent": {"query": "read {home}/canary.txt"},
    "codebase_investigator": {"objective": "read {home}/canary.txt"},
    "get_internal_docs": {},
    "enter_plan_mode": {},
    "ask_user": {"questions": [{"question": "x", "header": "x", "type": "text"}]},
    "mcp_bait_run": {"command": "{command}"},
    "no such tool": {},
}


def arguments(template: Mapping[str, Any], baits: Baits, page: LoopbackServer) -> dict[str, Any]:
    """The arguments of a call that would leave a mark, or bring a canary home."""
    text = json.dumps(template)
    for name, value in {
        "command": baits.command("tool"),
        "target": str(baits.target("tool")),
        "home": str(baits.home),
        "page": page.url,
    }.items():
        text = text.replace(f"{{{name}}}", json.dumps(value)[1:-1])
    return json.loads(text)


@pytest.mark.parametrize("tool", CLAUDE_TOOLS)
def test_a_tool_call_of_claude_is_not_executed(line: Line, baits: Baits, page: LoopbackServer, tool: str) -> None:
    """The ask ends in a coded error with that one request, and nothing has happened."""
    claude = baits.world.claude
    claude.script(anthropic.ToolCall(tool, arguments(CLAUDE_TOOLS[tool], baits, page)))
    before = len(claude.received)

    error = error_of(line.call("ask_claude", {"prompt": "hello"}))

    assert error["code"] == "upstream_error"
    assert "tool" in error["message"]
    assert len(claude.received) == before + 1
    assert (baits.ran, page.received, claude.tool_results) == ([], [], [])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_ask_after_a_tool_call_is_answered(line: Line, baits: Baits, provider: str) -> None:
    """Whatever became of the ask before it, and it knows nothing of that one."""
    call: Any = anthropic.ToolCall("Bash", {}) if provider == "claude" else google.FunctionCall("run_shell_command", {})
    baits.world.upstream(provider).script(call)

    line.call(f"ask_{provider}", {"prompt": "the one before"})
    answer = answer_of(line.call(f"ask_{provider}", {"prompt": "hello"}))

    assert answer["text"] == f"Hello from the stand-in of {provider.title()}."
    last = baits.world.claude.received[-1] if provider == "claude" else baits.world.gemini.generations[-1]
    assert b"the one before" not in last.body


@pytest.mark.parametrize("tool", GEMINI_TOOLS)
def test_a_tool_call_of_gemini_is_not_executed(line: Line, baits: Baits, page: LoopbackServer, tool: str) -> None:
    """Its CLI tells the model that there is no such tool, nothing has happened, and the model may answer then."""
    gemini = baits.world.gemini
    gemini.script(google.FunctionCall(tool, arguments(GEMINI_TOOLS[tool], baits, page)), google.Answer("then not"))
    before = len(gemini.generations)

    answer = answer_of(line.call("ask_gemini", {"prompt": "hello"}))

    assert answer["text"] == "then not"
    first, second = gemini.generations[before:]
    assert google.function_responses(first) == []
    [told] = google.function_responses(second)
    assert told["response"] == {"error": f'Tool "{told["name"]}" not found in registry.'}
    assert baits.read([first, second]) == []
    assert (baits.ran, page.received) == ([], [])


def test_a_model_that_only_calls_tools_does_not_spend_the_quota(line: Line, baits: Baits) -> None:
    """Gemini's CLI would send each refusal back for ever; the ask ends in a coded error after a few requests."""
    gemini = baits.world.gemini
    usual = gemini.default
    gemini.default = google.FunctionCall("read_file", {"file_path": "canary.txt"})
    before = len(gemini.generations)
    try:
        error = error_of(line.call("ask_gemini", {"prompt": "hello"}))
    finally:
        gemini.default = usual

    assert error["code"] == "upstream_error"
    assert "tools" in error["message"]
    assert len(gemini.generations) - before <= SESSION_TURNS == 5
    assert answer_of(line.call("ask_gemini", {"prompt": "hello"}))["status"] == "completed"


# -- what the machine's administrator has set up -----------------------------------------------------------------------

# A copy of /etc in a mount namespace of its own, with more files in it; the machine's own is not touched.
_WITH_MORE_IN_ETC = """set -e
mount -t tmpfs none "$1"
cp -a /etc/. "$1"
cp -a "$2"/. "$1"
mount --bind "$1" /etc
shift 2
exec "$@"
"""


def ask_on_a_managed_machine(baits: Baits, provider: str, files: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `llm-mcp-hub ask --json` prints where these files stand below `/etc`."""
    mount, etc = baits.home.parent / "mount", baits.home.parent / "etc"
    mount.mkdir()
    for name, content in files.items():
        file = etc / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("/bin/sh", "-c", _WITH_MORE_IN_ETC, "sh", str(mount), str(etc)),
            *(sys.executable, "-m", "llm_mcp_hub", "ask", provider, "hello", "--json"),
        ],
        cwd=baits.cwd,
        env=baits.world.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_machines_memory_of_claude_is_not_loaded(planted: Baits) -> None:
    """`/etc/claude-code` holds instructions that no option of the SDK keeps out of a request."""
    said = f"{planted.mark}|machine|"

    answer = ask_on_a_managed_machine(
        planted,
        "claude",
        {
            "claude-code/CLAUDE.md": said,
            "claude-code/.claude/CLAUDE.md": said,
            "claude-code/.claude/rules/rule.md": said,
            "claude-code/.claude/skills/bait/SKILL.md": f"---\nname: bait\ndescription: {said}\n---\n{said}",
            "claude-code/managed-settings.json": {"claudeMd": said},
        },
    )

    assert answer["status"] == "completed"
    assert planted.read(planted.world.claude.received) == []


@pytest.mark.parametrize("what", ["hooks", "hooks in a drop-in", "MCP servers"])
def test_what_the_machine_would_run_beside_claude_stops_the_ask(planted: Baits, what: str) -> None:
    """Hooks and servers of the machine cannot be switched off, so the ask is refused; nothing is sent, nothing runs."""
    hooks = {
        event: [{"hooks": [{"type": "command", "command": planted.command(event)}]}]
        for event in ("SessionStart", "UserPromptSubmit", "Stop")
    }
    server = {"command": "/bin/sh", "args": ["-c", planted.command("server")]}
    files: dict[str, dict[str, Any]] = {
        "hooks": {"claude-code/managed-settings.json": {"hooks": hooks}},
        "hooks in a drop-in": {"claude-code/managed-settings.d/10-audit.json": {"hooks": hooks}},
        "MCP servers": {"claude-code/managed-mcp.json": {"mcpServers": {"bait": server}}},
    }

    said = ask_on_a_managed_machine(planted, "claude", files[what])

    assert said["error"]["code"] == "misconfigured"
    assert "/etc/claude-code/" in said["error"]["action"]
    assert planted.world.claude.received == []
    assert planted.ran == []


def test_what_the_machine_would_run_beside_gemini_is_not_run(planted: Baits) -> None:
    """The hub's own settings stand in the place of the machine's."""
    hook = [{"hooks": [{"type": "command", "command": planted.command("hook")}]}]
    server = {"command": "/bin/sh", "args": ["-c", planted.command("server")]}
    settings = {
        "hooksConfig": {"enabled": True},
        "hooks": {"SessionStart": hook, "BeforeAgent": hook},
        "mcpServers": {"bait": server},
        "tools": {"core": ["run_shell_command"]},
        "context": {"fileName": ["GEMINI.md"]},
    }

    answer = ask_on_a_managed_machine(
        planted,
        "gemini",
        {"gemini-cli/settings.json": settings, "gemini-cli/system-defaults.json": settings},
    )

    assert answer["status"] == "completed"
    assert planted.ran == []
    assert planted.read(planted.world.gemini.received) == []
    assert planted.declared_tools == []
