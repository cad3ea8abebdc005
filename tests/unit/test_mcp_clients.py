"""Where each client keeps its servers, on every platform, and what is put there: by the shapes that they document."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import jsonschema
import pytest

from llm_mcp_hub.commands.mcp_clients import CLIENTS, SERVER, Around, Entry, Remote, command_of

WINDOWS = PureWindowsPath("C:/homes/you")
MAC, LINUX = PurePosixPath("/homes/you"), PurePosixPath("/home/you")
DESKTOP = "claude_desktop_config.json"
ROAMING = {"APPDATA": "D:\\Roaming", "LOCALAPPDATA": "D:\\Local"}
PLACES: list[tuple[str, Around, str]] = [
    ("claude-desktop", Around("linux", LINUX), f"/home/you/.config/Claude/{DESKTOP}"),
    ("claude-desktop", Around("linux", LINUX, {"XDG_CONFIG_HOME": "/c"}), f"/c/Claude/{DESKTOP}"),
    (
        "claude-desktop",
        Around("linux", LINUX, {"XDG_CONFIG_HOME": "c"}),
        f"/home/you/.config/Claude/{DESKTOP}",
    ),
    (
        "claude-desktop",
        Around("darwin", MAC),
        f"/homes/you/Library/Application Support/Claude/{DESKTOP}",
    ),
    (
        "claude-desktop",
        Around("win32", WINDOWS),
        f"C:\\homes\\you\\AppData\\Roaming\\Claude\\{DESKTOP}",
    ),
    (
        "claude-desktop",
        Around("win32", WINDOWS, ROAMING, ["Other_1"]),
        f"D:\\Roaming\\Claude\\{DESKTOP}",
    ),
    (
        "claude-desktop",
        Around("win32", WINDOWS, ROAMING, ["Other_1", "Claude_pzs8sxrjxfjjc"]),
        f"D:\\Local\\Packages\\Claude_pzs8sxrjxfjjc\\LocalCache\\Roaming\\Claude\\{DESKTOP}",
    ),
    ("claude-code", Around("linux", LINUX), "/home/you/.claude.json"),
    ("claude-code", Around("linux", LINUX, {"CLAUDE_CONFIG_DIR": "/c"}), "/c/.claude.json"),
    ("claude-code", Around("darwin", MAC), "/homes/you/.claude.json"),
    ("claude-code", Around("win32", WINDOWS), "C:\\homes\\you\\.claude.json"),
    ("cursor", Around("linux", LINUX), "/home/you/.cursor/mcp.json"),
    ("cursor", Around("darwin", MAC), "/homes/you/.cursor/mcp.json"),
    ("cursor", Around("win32", WINDOWS), "C:\\homes\\you\\.cursor\\mcp.json"),
    ("vscode", Around("linux", LINUX), "/home/you/.config/Code/User/mcp.json"),
    ("vscode", Around("darwin", MAC), "/homes/you/Library/Application Support/Code/User/mcp.json"),
    ("vscode", Around("win32", WINDOWS, ROAMING), "D:\\Roaming\\Code\\User\\mcp.json"),
    ("gemini-cli", Around("linux", LINUX), "/home/you/.gemini/settings.json"),
    ("gemini-cli", Around("linux", LINUX, {"GEMINI_CLI_HOME": "/c"}), "/c/.gemini/settings.json"),
    ("gemini-cli", Around("darwin", MAC), "/homes/you/.gemini/settings.json"),
    ("gemini-cli", Around("win32", WINDOWS), "C:\\homes\\you\\.gemini\\settings.json"),
]


@pytest.mark.parametrize(("client", "around", "place"), PLACES)
def test_a_client_reads_the_file_of_its_platform(client: str, around: Around, place: str) -> None:
    """Of its own variables too, where they name a folder from the root."""
    assert str(CLIENTS[client].files(around)[-1]) == place


def test_every_client_is_in_that_table_for_every_platform() -> None:
    """A new one cannot be forgotten there."""
    assert {(client, around.platform) for client, around, _place in PLACES} == {
        (client, platform) for client in CLIENTS for platform in ("linux", "darwin", "win32")
    }


# What stands in it ---------------------------------------------------------------------------------------------------

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
MAP: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
WEB: dict[str, Any] = {"type": "string", "pattern": "^https?://"}
TIMEOUT: dict[str, Any] = {"type": "integer", "minimum": 60_000}


def shape(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


STDIO = {"command": TEXT, "args": TEXTS, "env": MAP}
INPUT = shape(
    ["type", "id", "description", "password"],
    type={"const": "promptString"},
    id=TEXT,
    description=TEXT,
    password={"const": True},
)
DOCUMENTED: dict[str, list[dict[str, Any]]] = {
    # modelcontextprotocol.io, "Connect to local MCP servers"
    "claude-desktop": [shape(["command"], **STDIO)],
    # code.claude.com, "Connect Claude Code to tools via MCP"
    "claude-code": [
        shape(["command"], type={"const": "stdio"}, timeout=TIMEOUT, **STDIO),
        shape(["type", "url"], type={"const": "http"}, url=WEB, headers=MAP, timeout=TIMEOUT),
    ],
    # cursor.com, "Model Context Protocol"
    "cursor": [shape(["type", "command"], type={"const": "stdio"}, **STDIO), shape(["url"], url=WEB, headers=MAP)],
    # code.visualstudio.com, "MCP configuration reference"
    "vscode": [
        shape(["type", "command"], type={"const": "stdio"}, **STDIO),
        shape(["type", "url"], type={"const": "http"}, url=WEB, headers=MAP),
    ],
    # geminicli.com, "MCP servers with the Gemini CLI"
    "gemini-cli": [
        shape(["command"], timeout=TIMEOUT, **STDIO),
        shape(["url"], url=WEB, type={"const": "http"}, headers=MAP, timeout=TIMEOUT),
    ],
}
"""The members that each client's own documentation names for a server."""


def entries(client: str) -> dict[str, Entry]:
    """What is written for every way to a hub."""
    about = CLIENTS[client]
    return {
        "started": Entry(about.started("/venv/bin/llm-mcp-hub", ["--env-file", "/etc/hub.env"])),
        "at a URL": about.remote(Remote("http://127.0.0.1:8000/mcp")),
        "with a token": about.remote(Remote("https://hub.example/mcp", "llmhub_madeup", PurePosixPath("/n/bin/npx"))),
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_an_entry_has_the_form_that_its_client_documents(client: str) -> None:
    """No member is spelled wrongly: most clients pass over what they do not know in silence."""
    for way, entry in entries(client).items():
        jsonschema.validate(entry.server, {"oneOf": DOCUMENTED[client]})
        if entry.question is not None:
            jsonschema.validate(entry.question, INPUT)
        in_file = "llmhub_madeup" in str(entry)
        assert entry.token_in_file == in_file == (way == "with a token" and not CLIENTS[client].asks_for_token)
        assert bool(entry.question) == (way == "with a token" and CLIENTS[client].asks_for_token)


def test_a_bridge_gets_the_token_by_its_environment() -> None:
    """Its arguments can be read by every user of the machine; and it finds Node.js where npx is."""
    server = entries("claude-desktop")["with a token"].server

    assert "llmhub_madeup" not in " ".join([server["command"], *server["args"]])
    assert server["env"]["HUB_AUTHORIZATION"] == "Bearer llmhub_madeup"
    assert server["env"]["PATH"].startswith("/n/bin:")
    assert "--allow-http" not in server["args"]
    assert "--allow-http" in entries("claude-desktop")["at a URL"].server["args"]


VENV, USER = "/v/bin/llm-mcp-hub", "/home/you/.local/bin/llm-mcp-hub"
WINDOWS_VENV = "C:/v/Scripts/llm-mcp-hub.exe"


@pytest.mark.parametrize(
    ("platform", "scripts", "interpreter", "there", "words"),
    [
        # a venv, pipx, `uv tool`: the program stands beside the interpreter
        ("linux", "/v/bin", "/v/bin/python3", VENV, [VENV]),
        ("darwin", "/v/bin", "/v/bin/python3", VENV, [VENV]),
        ("win32", "C:/v/Scripts", "C:/v/Scripts/python.exe", WINDOWS_VENV, [WINDOWS_VENV.replace("/", "\\")]),
        # `pip install --user`, a distribution's Python: it stands elsewhere
        ("linux", "/home/you/.local/bin", "/usr/bin/python3", USER, [USER]),
        # no program at all: PYTHONPATH, an unpacked wheel
        ("linux", "/v/bin", "/usr/bin/python3", "", ["/usr/bin/python3", "-m", "llm_mcp_hub"]),
    ],
)
def test_the_command_starts_this_installation(
    platform: str, scripts: str, interpreter: str, there: str, words: list[str]
) -> None:
    """By absolute paths: a client's PATH is not this shell's."""
    kind: type[PurePath] = PureWindowsPath if platform == "win32" else PurePosixPath
    found = command_of(
        scripts=kind(scripts),
        interpreter=kind(interpreter),
        platform=platform,
        exists=lambda path: path.as_posix() == there,
    )

    assert found == words


def test_the_key_is_short_enough_for_every_client() -> None:
    """Gemini CLI shortens `mcp_SERVER_TOOL` above 64 characters, Cursor drops tools above 60."""
    assert len(f"mcp__{SERVER}__token_status") < 60
