"""The MCP clients that `install` configures: where each keeps its servers, in which form, and what it takes.

Pure: paths and entries are values, made from a platform's name, a home and variables; nothing is read here. A new
client is one entry of CLIENTS and, where its form is its own, one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath
from typing import Any

SERVER = "llm-hub"
"""The key of our server in every client's file."""
TOKEN_INPUT = "llm-hub-token"  # noqa: S105 -- the name of a question, not an answer to it
BRIDGE = "mcp-remote@0.15.1"
"""The npm package that a client is given which takes no remote server from its file; the version that tests run."""
LONGEST_ASK_MS = 3_660_000
"""A minute more than the longest ask may take: over stdio and HTTP Claude Code waits for an ask to its end."""
GEMINI_CLI_MS = 660_000
"""More than the 540 s after which the hub hands Gemini CLI a ticket."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a client's folder depends on.

    Attributes:
        platform: as `sys.platform` has it.
        home: the user's home folder.
        variables: the environment.
        packages: names in `%LOCALAPPDATA%\\Packages`, on Windows.
    """

    platform: str
    home: PurePath
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    packages: Sequence[str] = ()

    def folder(self, name: str, fallback: PurePath) -> PurePath:
        """A folder that a variable names, if it does so from the root."""
        named = self.home / self.variables.get(name, "")
        return named if self.variables.get(name) and type(self.home)(self.variables[name]).is_absolute() else fallback

    @property
    def applications(self) -> PurePath:
        """Where programs with a window keep their settings."""
        if self.platform == "win32":
            return self.folder("APPDATA", self.home / "AppData" / "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.folder("XDG_CONFIG_HOME", self.home / ".config")


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a client's file for our server.

    Attributes:
        server: the value at SERVER.
        question: what the client is to ask its user for, where it does: an element of its `inputs`.
        token_in_file: whether the token stands in it.
    """

    server: dict[str, Any]
    question: dict[str, Any] | None = None
    token_in_file: bool = False


@dataclass(frozen=True, slots=True)
class Remote:
    """A hub somewhere else.

    Attributes:
        url: of its `/mcp`.
        token: the client's, where the hub wants one.
        npx: the program that gets and starts a bridge, by its path where that is known.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    npx: PurePath | None = None


@dataclass(frozen=True, slots=True)
class McpClient:
    """One client.

    Attributes:
        title: its name for people.
        files: where its file may be; the first that is there, else the last.
        signs: files and folders of which one is there where the client is.
        program: its command, where it has one.
        outer: the key that holds the servers.
        started: the entry for a hub that the client starts, from the command's words.
        remote: the entry for a hub at a URL.
        bridged: whether it takes no such hub from its file, and starts a bridge to it.
        asks_for_token: whether it asks its user for the token, so that no file needs to hold it.
        lock: what the client holds beside its file while it writes it, put behind the file's name.
        comments: whether its file may have comments and trailing commas; without knowing better: they may.
        then: what its user does next.
    """

    title: str
    files: Callable[[Around], tuple[PurePath, ...]]
    signs: Callable[[Around], tuple[PurePath, ...]]
    then: str
    started: Callable[[str, Sequence[str]], dict[str, Any]]
    remote: Callable[[Remote], Entry]
    bridged: bool = False
    program: str | None = None
    outer: str = "mcpServers"
    asks_for_token: bool = False
    lock: str | None = None
    comments: bool = True


def _desktop_files(around: Around) -> tuple[PurePath, ...]:
    """On Windows the program from the store, or from the newer installer, reads a folder of its package's alone."""
    name = "claude_desktop_config.json"
    places: list[PurePath] = []
    if around.platform == "win32":
        local = around.folder("LOCALAPPDATA", around.home / "AppData" / "Local") / "Packages"
        packages = [package for package in around.packages if package.startswith("Claude_")]
        if packages:
            return tuple(local / each / "LocalCache" / "Roaming" / "Claude" / name for each in packages)
    places.append(around.applications / "Claude" / name)
    return tuple(places)


def _code_files(around: Around) -> tuple[PurePath, ...]:
    own = around.folder("CLAUDE_CONFIG_DIR", around.home)
    folder = around.folder("CLAUDE_CONFIG_DIR", around.home / ".claude")
    return (folder / ".config.json", own / ".claude.json")  # the first is that of its early versions, which it prefers


def _gemini_folder(around: Around) -> PurePath:
    return around.folder("GEMINI_CLI_HOME", around.home) / ".gemini"


def _stdio(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    return {"type": "stdio", "command": command, "args": list(arguments)}


def _served(remote: Remote) -> dict[str, Any]:
    headers = {} if remote.token is None else {"headers": {"Authorization": f"Bearer {remote.token}"}}
    return {"url": remote.url, **headers}


def _asked(remote: Remote) -> Entry:
    """VS Code asks for the token, and keeps the answer where it keeps passwords."""
    if remote.token is None:
        return Entry({"type": "http", **_served(remote)})
    answer = Remote(remote.url, "${input:" + TOKEN_INPUT + "}")
    question = {
        "type": "promptString",
        "id": TOKEN_INPUT,
        "description": f"Client token of {remote.url}",
        "password": True,
    }
    return Entry({"type": "http", **_served(answer)}, question)


def _bridged(remote: Remote) -> Entry:
    """By mcp-remote, which takes the header's value from its environment: arguments are seen by everybody.

    A program with a window has a PATH of its own, and `npx` looks for Node.js in it.
    """
    plain = ["--allow-http"] if remote.url.startswith("http:") else []
    header = [] if remote.token is None else ["--header", "Authorization:${HUB_AUTHORIZATION}"]
    around: dict[str, str] = {}
    if isinstance(remote.npx, PurePosixPath):
        around["PATH"] = ":".join(dict.fromkeys([str(remote.npx.parent), "/usr/local/bin", "/usr/bin", "/bin"]))
    if remote.token is not None:
        around["HUB_AUTHORIZATION"] = f"Bearer {remote.token}"
    words = ["-y", BRIDGE, remote.url, "--transport", "http-only", *plain, *header]
    server: dict[str, Any] = {"command": str(remote.npx or "npx"), "args": words}
    return Entry({**server, "env": around} if around else server, token_in_file=remote.token is not None)


CLIENTS: Mapping[str, McpClient] = {
    "claude-desktop": McpClient(
        title="Claude Desktop",
        files=_desktop_files,
        signs=lambda around: tuple(file.parent for file in _desktop_files(around)),
        started=lambda command, arguments: {"command": command, "args": list(arguments)},
        remote=_bridged,
        bridged=True,
        then="Quit Claude Desktop and start it again.",
    ),
    "claude-code": McpClient(
        title="Claude Code",
        files=_code_files,
        signs=lambda around: (*_code_files(around), around.folder("CLAUDE_CONFIG_DIR", around.home / ".claude")),
        program="claude",
        started=lambda command, arguments: {**_stdio(command, arguments), "timeout": LONGEST_ASK_MS},
        remote=lambda remote: Entry(
            {"type": "http", **_served(remote), "timeout": LONGEST_ASK_MS}, token_in_file=remote.token is not None
        ),
        lock=".lock",
        comments=False,
        then="See whether it connects: claude mcp list",
    ),
    "cursor": McpClient(
        title="Cursor",
        files=lambda around: (around.home / ".cursor" / "mcp.json",),
        signs=lambda around: (around.home / ".cursor",),
        program="cursor",
        started=_stdio,
        remote=lambda remote: Entry(_served(remote), token_in_file=remote.token is not None),
        then="Turn llm-hub on in Cursor: Settings, MCP.",
    ),
    "vscode": McpClient(
        title="VS Code",
        files=lambda around: (around.applications / "Code" / "User" / "mcp.json",),
        signs=lambda around: (around.applications / "Code" / "User",),
        program="code",
        outer="servers",
        started=_stdio,
        remote=_asked,
        asks_for_token=True,
        then="Start llm-hub in VS Code: command palette, MCP: List Servers.",
    ),
    "gemini-cli": McpClient(
        title="Gemini CLI",
        files=lambda around: (_gemini_folder(around) / "settings.json",),
        signs=lambda around: (_gemini_folder(around) / "settings.json",),
        program="gemini",
        started=lambda command, arguments: {"command": command, "args": list(arguments), "timeout": GEMINI_CLI_MS},
        remote=lambda remote: Entry(
            {**_served(remote), "type": "http", "timeout": GEMINI_CLI_MS}, token_in_file=remote.token is not None
        ),
        then="See whether it connects, in a folder that it trusts: gemini mcp list",
    ),
}


def command_of(
    *, scripts: PurePath, interpreter: PurePath, platform: str, exists: Callable[[PurePath], bool]
) -> list[str]:
    """The words that start this installation's hub from anywhere.

    Args:
        scripts: where this installation's programs stand.
        interpreter: the Python that runs this, by the path it was started with: in a venv that is a link.
        platform: as `sys.platform` has it.
        exists: whether there is such a file.
    """
    for folder in (scripts, interpreter.parent):
        program = folder / ("llm-mcp-hub.exe" if platform == "win32" else "llm-mcp-hub")
        if exists(program):
            return [str(program)]
    return [str(interpreter), "-m", "llm_mcp_hub"]
