"""What a client sees of the hub before it asks anything: the tools, who the server is, and the status of the logins."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from llm_mcp_hub.credentials.status import TokenStatus
from tests.harness import DEADLINE_S, TOKEN, Line, World, open_line, own_commands, run_command, texts_of
from tests.protocol.conftest import Shared
from tests.upstreams.google import write_login

SNAPSHOT = Path(__file__).parent / "snapshots" / "tools.json"
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))
"""Read here, for a test does not see the environment. `make snapshots` sets it."""

ASKS = ("ask_claude", "ask_gemini")


# The tools ----------------------------------------------------------------------------------------------------------


def test_the_tools_are_those_of_the_snapshot(line: Line) -> None:
    """Names, words, schemas, annotations: a change of any is a change of the contract, and is made on purpose."""
    tools = json.loads(json.dumps(line.tools()))
    if UPDATE:
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(tools, indent=2, ensure_ascii=False) + "\n", "utf-8")

    assert tools == json.loads(SNAPSHOT.read_text("utf-8"))


def test_the_tools_keep_what_clients_rely_on(one_line: Line) -> None:
    """Rules that also hold when the snapshot is made anew: nothing unknown is taken, hints are true, sizes are told."""
    tools = {tool["name"]: tool for tool in one_line.tools()}

    assert list(tools) == [*ASKS, "ask_result", "ask_cancel", "token_status"]
    for name, tool in tools.items():
        schema = tool["inputSchema"]
        assert re.fullmatch(r"[a-z_]{1,24}", name)  # with a server's prefix in front, short enough for every client
        assert tool["title"]
        assert len(tool["description"]) > 100
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert all(argument["description"] for argument in schema["properties"].values())
        assert tool["annotations"]["readOnlyHint"] is (name != "ask_cancel")
        assert tool["annotations"]["destructiveHint"] is (name == "ask_cancel")
        assert "outputSchema" not in tool
    for name in ASKS:
        assert tools[name]["inputSchema"]["required"] == ["prompt"]
        assert tools[name]["inputSchema"]["properties"]["prompt"]["maxLength"] == 1_000_000
        assert tools[name]["annotations"]["openWorldHint"] is True
        assert tools[name]["annotations"]["idempotentHint"] is False
        assert tools[name]["_meta"] == {"anthropic/maxResultSizeChars": 500_000}
        assert "no API key" in tools[name]["description"]
    assert tools["token_status"]["annotations"]["openWorldHint"] is False
    assert tools["token_status"]["annotations"]["idempotentHint"] is True


def test_the_server_says_who_it_is(line: Line) -> None:
    """Name, version and instructions, in both eras."""
    server = line.client.server_info

    assert server is not None
    assert server.name == "llm-mcp-hub"
    assert server.title == "LLM hub: Claude and Gemini by subscription"
    assert re.fullmatch(r"\d+\.\d+\.\d+", server.version or "")
    assert "text only" in (line.client.instructions or "")
    assert line.client.server_capabilities.tools is not None


def test_each_era_is_the_one_it_should_be(shared: Shared) -> None:
    """The official client gets the newest protocol where it may choose, and the older one where it may not."""
    spoken = {way: line.client.protocol_version for way, line in shared.lines.items()}

    assert spoken == {
        ("stdio", "auto"): "2026-07-28",
        ("stdio", "legacy"): "2025-11-25",
        ("http", "auto"): "2026-07-28",
        ("http", "legacy"): "2025-11-25",
    }


# The status of the logins -------------------------------------------------------------------------------------------

FIELDS = {
    "status",
    "usable",
    "expires_at",
    "days_remaining",
    "message",
    "action",
    "expires_source",
    "credential",
    "evidence",
    "quota",
    "last_success_at",
    "last_error",
}


def check_shape(status: dict[str, Any]) -> None:
    """Exactly the fields of the contract, both providers, no secret."""
    assert list(status) == ["claude", "gemini"]
    for known in status.values():
        assert set(known) == FIELDS
        TokenStatus.model_validate(known)
        assert known["message"]
        assert known["usable"] == (known["status"] in ("valid", "warning", "unknown"))
        assert known["usable"] or known["action"]
        assert set(re.findall(r"llm-mcp-hub (\w+)", known["action"])) <= own_commands()
    assert TOKEN not in json.dumps(status)
    assert "made-up" not in json.dumps(status)


def timeless(status: Any) -> Any:
    """Without the moment of looking."""
    return json.loads(re.sub(r'("observed_at": )"[^"]*"', r"\1null", json.dumps(status)))


def test_the_token_status_is_structured_and_told_in_words(line: Line) -> None:
    """Programs get the two objects, models and people two lines; one provider can be asked for alone."""
    result = line.call("token_status")
    alone = line.call("token_status", {"provider": "gemini"})

    assert not result.is_error
    status = result.structured_content
    assert status is not None
    check_shape(status)
    [words] = texts_of(result)
    assert words is not None
    for name, said in zip(status, words.splitlines(), strict=True):
        assert said.startswith(
            f"{name}: {status[name]['status']} ({status[name]['evidence']['level'].replace('_', '-')} by "
        )
        assert status[name]["message"] in said
        assert said.endswith(status[name]["action"])
    assert timeless(alone.structured_content) == timeless({"gemini": status["gemini"]})


def test_all_who_ask_for_the_status_are_told_the_same(shared: Shared, one_line: Line) -> None:
    """The tool, the HTTP route and the command: one truth, one shape."""
    connection = http.client.HTTPConnection(urlsplit(shared.url).netloc, timeout=DEADLINE_S)
    connection.request("GET", "/health/tokens")
    by_http = json.loads(connection.getresponse().read())
    connection.close()
    by_command = json.loads(run_command(shared.world, "status", "--json").stdout)

    by_tool = one_line.call("token_status").structured_content

    check_shape(by_command)
    assert timeless(by_http) == timeless(by_tool) == timeless(by_command)


@dataclass(frozen=True)
class State:
    """A login as it is found, and what is to be said of it."""

    changes: dict[str, str]
    status: str
    level: str | None
    message: str
    action: str
    days: tuple[int, int] | None = None
    """At least and at most."""
    source: str = "none"
    prepare: Callable[[World], None] = field(default=lambda world: None)


def _ago(**time: float) -> dict[str, str]:
    return {"CLAUDE_TOKEN_ISSUED_AT": (datetime.now(UTC) - timedelta(**time)).isoformat()}


def _own_login(world: World) -> None:
    folder = world.home / ".claude"
    folder.mkdir()
    login = {"accessToken": "sk-ant-oat01-of-claude-code", "refreshToken": "made-up", "expiresAt": 1_900_000_000_000}
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))


def _token_file(world: World) -> None:
    file = world.home / "token"
    file.write_text(f"{TOKEN}\n")
    world.changes.update(CLAUDE_CODE_OAUTH_TOKEN="", CLAUDE_CODE_OAUTH_TOKEN_FILE=str(file))


NEW = "llm-mcp-hub login claude"
CLAUDE: dict[str, State] = {
    "none": State({"CLAUDE_CODE_OAUTH_TOKEN": ""}, "missing", None, "no Claude token", NEW),
    "none, but Claude Code's own": State(
        {"CLAUDE_CODE_OAUTH_TOKEN": ""}, "missing", "present", "never uses it", NEW, prepare=_own_login
    ),
    "no date": State({}, "valid", "well_formed", "does not tell", "CLAUDE_TOKEN_ISSUED_AT", source="first_seen"),
    "wrapped by a terminal": State(
        {"CLAUDE_CODE_OAUTH_TOKEN": f" {TOKEN[:50]}\n{TOKEN[50:]}\n"},
        "valid",
        "well_formed",
        "does not tell",
        "",
        source="first_seen",
    ),
    "in a file": State({}, "valid", "well_formed", "at the latest", "", source="first_seen", prepare=_token_file),
    "in its first half": State(_ago(days=100), "valid", "clock", "days", "", (264, 265), "operator"),
    "near its end": State(_ago(days=363), "warning", "clock", "ends soon", NEW, (1, 2), "operator"),
    "at its end": State(_ago(days=366), "expired", "clock", "has ended", NEW, (0, 0), "operator"),
    "an API key": State(
        {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-api03-" + "x" * 95}, "misconfigured", "present", "API key", NEW
    ),
    "cut off": State({"CLAUDE_CODE_OAUTH_TOKEN": TOKEN[:79]}, "misconfigured", "present", "79", "Copy the whole token"),
}


@pytest.mark.parametrize("row", CLAUDE)
def test_the_status_of_claudes_token_is_true_in_every_state(world: World, row: str) -> None:
    """From the variable and the operator's date alone; without a date no deadline is made up."""
    state = CLAUDE[row]
    world.changes.update(state.changes)
    state.prepare(world)

    shown = run_command(world, "status", "--json")

    assert shown.returncode == 0, shown.stderr
    status = json.loads(shown.stdout)
    check_shape(status)
    claude = status["claude"]
    assert claude["status"] == state.status
    assert state.message in claude["message"]
    assert state.action in claude["action"]
    assert claude["expires_source"] == state.source
    assert (claude["evidence"] and claude["evidence"]["level"]) == state.level
    if state.days is None:
        assert claude["days_remaining"] is None
        assert (claude["expires_at"] is None) is (state.source == "none")
    else:
        assert state.days[0] <= claude["days_remaining"] <= state.days[1]
        issued = datetime.fromisoformat(state.changes["CLAUDE_TOKEN_ISSUED_AT"])
        ends = datetime.fromisoformat(claude["expires_at"])
        assert abs(ends - issued - timedelta(days=365)) < timedelta(seconds=2)
    assert world.children() == []


@pytest.mark.parametrize(
    ("token", "code", "exit_code", "action"),
    [
        ("", "auth_missing", 77, NEW),
        ("sk-ant-api03-" + "x" * 95, "billing_blocked", 78, NEW),
        ("x" * 108, "misconfigured", 78, NEW),
        (TOKEN[:79], "misconfigured", 78, "Copy the whole token"),
    ],
    ids=["none", "an API key", "another thing", "cut off"],
)
def test_an_ask_without_a_usable_token_ends_before_a_child_is_started(
    world: World, token: str, code: str, exit_code: int, action: str
) -> None:
    """What the status says, an ask says too, as a coded error; nothing is sent and the value is not shown."""
    world.changes["CLAUDE_CODE_OAUTH_TOKEN"] = token

    asked = run_command(world, "ask", "claude", "hello", "--json")

    error = json.loads(asked.stdout)["error"]
    assert (error["code"], asked.returncode) == (code, exit_code)
    assert action in error["action"]
    assert error["action"].endswith(" Or ask the other: llm-mcp-hub ask gemini.")
    assert world.claude.received == []
    assert not token or token.encode() not in asked.stdout + asked.stderr


def test_the_status_of_googles_login_follows_the_file(world: World) -> None:
    """It is read at each question: a login that comes, changes or goes is told without a restart."""

    def gemini(line: Line) -> dict[str, Any]:
        status = line.call("token_status", {"provider": "gemini"}).structured_content
        assert status is not None
        return status["gemini"]

    with open_line(world, "stdio", "auto") as line:
        valid = gemini(line)
        write_login(world.login_file.parent, expires_in_s=-7200)
        renewable = gemini(line)
        write_login(world.login_file.parent, expires_in_s=-7200, without=["refresh_token"])
        ended = gemini(line)
        world.login_file.write_text("{")
        torn = gemini(line)
        world.login_file.write_text("[]")
        broken = gemini(line)
        world.login_file.unlink()
        missing = gemini(line)

    assert (valid["status"], valid["evidence"]["level"], valid["action"]) == ("valid", "clock", "")
    assert datetime.fromisoformat(valid["credential"]["access_expires_at"]) > datetime.now(UTC)
    assert (renewable["status"], renewable["days_remaining"], renewable["expires_at"]) == ("valid", None, None)
    assert datetime.fromisoformat(renewable["credential"]["access_expires_at"]) < datetime.now(UTC)
    assert (ended["status"], ended["usable"], ended["days_remaining"]) == ("expired", False, 0)
    assert (torn["status"], "cut off" in torn["message"]) == ("valid", True)
    assert (broken["status"], broken["usable"], broken["credential"]["kind"]) == ("misconfigured", False, "login")
    assert (missing["status"], missing["usable"], missing["credential"]) == ("missing", False, None)
    for known in (ended, broken, missing):
        assert "llm-mcp-hub login gemini" in known["action"]


def test_the_status_command_prints_a_line_and_a_next_step_for_each_login(world: World) -> None:
    """For people: the state, the deadline, the sentence, and what to do."""
    world.changes.update(_ago(days=363))
    world.login_file.unlink()

    shown = run_command(world, "status")

    lines = shown.stdout.decode().splitlines()
    assert shown.returncode == 0
    assert re.match(r"soon +claude +warning .*, [12] days? +clock \(now\)", lines[1])
    assert "The setup-token ends soon" in lines[2]
    assert f"next: Run `{NEW}`." in lines[3]
    assert re.match(r"none +gemini +missing +-", lines[4])
    assert "There is no Google login" in lines[5]
    assert "next: Run `llm-mcp-hub login gemini`." in lines[-1]
