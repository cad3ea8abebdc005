"""How Gemini's CLI is started: strict settings, a private home, and an environment that leaves no other way to pay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.children.supervision import EXHAUSTED, exhausted
from llm_mcp_hub.children.terminal import TERMINAL_ACTION, TerminalError
from llm_mcp_hub.errors import CliMissing, Misconfigured
from llm_mcp_hub.providers.gemini_compiled import NODE_OPTIONS, kept_by
from llm_mcp_hub.providers.gemini_home import debug_file, login_file
from llm_mcp_hub.providers.gemini_install import CHOSEN_ACTION, DEFAULT, INSTALL_ACTION, find
from llm_mcp_hub.providers.gemini_turn import NAME

SYSTEM = "Answer in text. You have no tools, no files and no network access.\n"

SESSION_TURNS = 5
"""Exchanges with the model that a session may hold; it answers at most 3 asks. A model that calls tools again and
again, which it does not have, would else spend quota until the deadline (measured: 53 requests a second)."""

# The whole of what steers the CLI. Tested as a whole against hostile surroundings.
_SETTINGS: Mapping[str, Any] = {
    "security": {
        "auth": {"selectedType": "oauth-personal", "enforcedType": "oauth-personal"},
        "disableYoloMode": True,
        "folderTrust": {"enabled": True},
    },
    "general": {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 1,
        "retryFetchErrors": False,
        "checkpointing": {"enabled": False},
        "plan": {"enabled": False},
        "topicUpdateNarration": False,
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "billing": {"overageStrategy": "never"},
    "model": {"disableLoopDetection": True, "skipNextSpeakerCheck": True, "maxSessionTurns": SESSION_TURNS},
    "context": {"fileName": ["__none__.md"], "includeDirectoryTree": False, "discoveryMaxDirs": 0},
    "tools": {"core": [], "useRipgrep": False},
    "useWriteTodos": False,
    "mcp": {"allowed": []},
    "mcpServers": {},
    "skills": {"enabled": False},
    "hooksConfig": {"enabled": False},
    "experimental": {"enableAgents": False, "autoMemory": False, "extensionManagement": False},
    "advanced": {"ignoreLocalEnv": True, "autoConfigureMemory": False},
    "ide": {"enabled": False},
    "admin": {"extensions": {"enabled": False}, "mcp": {"enabled": False}, "skills": {"enabled": False}},
}
_POLICY = '[[rule]]\ntoolName = "*"\ndecision = "deny"\npriority = 999\n'

# Every other way to pay ends nowhere: were the settings above ever not read, a request would fail, not be billed.
_FUSE: Mapping[str, str] = {
    "GEMINI_API_KEY": "",
    "GOOGLE_API_KEY": "",
    "GOOGLE_GENAI_USE_VERTEXAI": "false",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
    "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9",
}


def program(command: str, around: Mapping[str, str], own: Path | None = None) -> Path:
    """The CLI, see `gemini_install.find`. Raises CliMissing."""
    found = find(command, around, own)
    if found is None:
        action = INSTALL_ACTION if command == DEFAULT else CHOSEN_ACTION
        raise CliMissing(f"The Gemini CLI ({command}) was not found.", action=action, provider=NAME)
    return found


def argv(home: Path, cli: Path, model: str) -> list[str]:
    """The words that start it in a home that was laid out."""
    return [str(cli), "--acp", "-m", model, "-e", "none", "--admin-policy", str(home / "deny.toml")]


def lay_out(
    home: Path, cli: Path, *, around: Mapping[str, str], login: bytes | None, project: str | None, upstream: str | None
) -> dict[str, str]:
    """Lay out a child's private home, and give its environment. Its working folder is `home / "empty"`.

    Args:
        home: the child's own folder, made and empty.
        cli: what is started there.
        around: the hub's environment.
        login: content of the login file, or None for a child that is to make one.
        project: id of the Google Cloud project that a licence hangs on.
        upstream: address of a stand-in for Code Assist, for tests.

    Raises Misconfigured when the folder cannot be written.
    """
    folder = home / ".gemini"
    files = {
        login_file(home): login,
        folder / "settings.json": json.dumps(_SETTINGS).encode(),
        folder / ".env": b"",  # see the rules of `gemini.py`
        home / "system-settings.json": json.dumps(_SETTINGS).encode(),
        home / "system-defaults.json": b"{}",
        home / "deny.toml": _POLICY.encode(),
        home / "system.md": SYSTEM.encode(),
    }
    try:
        folder.mkdir(mode=0o700)
        (home / "tmp").mkdir(mode=0o700)
        (home / "empty").mkdir(mode=0o500)
        for file, content in files.items():
            if content is not None:
                file.touch(mode=0o600)
                file.write_bytes(content)
    except OSError as error:
        raise state_unwritable(error) from error
    return child_environment(
        around,
        {
            **_FUSE,
            "HOME": str(home),
            "GEMINI_CLI_HOME": str(home),
            "TMPDIR": str(home / "tmp"),  # on an API error the CLI writes the whole conversation there
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "NO_COLOR": "1",
            "NO_BROWSER": "true",
            "GEMINI_CLI_NO_RELAUNCH": "1",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(home / "system-settings.json"),
            "GEMINI_CLI_SYSTEM_DEFAULTS_PATH": str(home / "system-defaults.json"),
            "GEMINI_SYSTEM_MD": str(home / "system.md"),
            "GEMINI_DEBUG_LOG_FILE": str(debug_file(home)),
            "NODE_OPTIONS": NODE_OPTIONS,
            **kept_by(cli),
            **({"GOOGLE_CLOUD_PROJECT": project} if project else {}),
            **({"CODE_ASSIST_ENDPOINT": upstream} if upstream else {}),
        },
    )


def state_unwritable(error: OSError) -> Misconfigured:
    """The hub's own folder cannot be written."""
    return Misconfigured(
        f"The hub cannot write its state folder ({error.strerror}).",
        action="Make HUB_STATE_DIR a folder that this user can write, with space left.",
        provider=NAME,
    )


def no_terminal(error: TerminalError | None = None) -> Misconfigured:
    """Where there is nothing to hold the CLI on: Windows, or a machine that refuses a pseudo-terminal."""
    cause = None if error is None else error.__cause__
    if isinstance(cause, OSError) and cause.errno in EXHAUSTED:
        return exhausted(cause, NAME)
    if error is None:
        what = "The Gemini CLI is held on a pseudo-terminal, which Windows has not: ask_gemini is not served here."
    else:
        what = f"This machine gives the hub no pseudo-terminal ({error})."
    return Misconfigured(what, action=TERMINAL_ACTION, provider=NAME)
