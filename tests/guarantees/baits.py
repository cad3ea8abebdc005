"""Everything that a CLI could load, read or run beside a prompt, planted around a hub and found again.

A canary is a line that stands in one file only: on the wire it tells which file was read. A planted program leaves a
file of its own name: it tells what was run. It knows where the two CLIs look; it does not know the hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from llm_mcp_hub.store.sqlite import FILE
from tests.guarantees.search import files_below
from tests.harness import World
from tests.upstreams.loopback import Received

CLAUDE_HOOKS = ("SessionStart", "UserPromptSubmit", "PreToolUse", "Stop", "SessionEnd")
GEMINI_HOOKS = ("SessionStart", "BeforeAgent", "BeforeModel", "AfterModel", "BeforeTool", "AfterAgent", "SessionEnd")


@dataclass
class Baits:
    """What is planted in a world: in the home, in a stranger's repository below it, and around the hub's children."""

    world: World
    mark: str = field(default_factory=lambda: f"canary-{uuid4().hex}")
    """Stands in every canary."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Variables that make a CLI, its runtime or a shell load something planted."""
    _planted: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def home(self) -> Path:
        return self.world.home

    @property
    def cwd(self) -> Path:
        """The working directory of the hub."""
        return self.home / "repository"

    @property
    def folders(self) -> Mapping[str, Path]:
        """The folders that prompts name."""
        return {"home": self.home, "cwd": self.cwd, "state": self.world.state}

    @property
    def _marks(self) -> Path:
        return self.home.parent / "ran"

    def plant(self) -> None:
        """Plant it all."""
        self._marks.mkdir()
        for folder, name in ((self.home, "home"), (self.cwd, "cwd"), (self.world.state, "state")):
            for file in ("CLAUDE.md", "CLAUDE.local.md", "GEMINI.md", "AGENTS.md", "canary.txt"):
                self._write(folder / file, self._canary(f"{name}/{file}"))
        self._of_claude(self.home / ".claude", "user")
        self._of_claude(self.cwd / ".claude", "project")
        servers = {"mcpServers": {"bait": self._server("claude-user-mcp")}}
        project = {"hasTrustDialogAccepted": True, "enabledMcpjsonServers": ["bait"]}
        self._write(self.home / ".claude.json", {**servers, "projects": {str(self.cwd): project}})
        self._write(self.cwd / ".mcp.json", {"mcpServers": {"bait": self._server("claude-project-mcp")}})
        self._of_gemini(self.home / ".gemini", "user")
        self._of_gemini(self.cwd / ".gemini", "project")
        self._write(self.cwd / ".env", "GEMINI_SYSTEM_MD=1\nGEMINI_CLI_TRUST_WORKSPACE=true\n")
        self._write(self.home / ".gemini" / "trustedFolders.json", {str(self.cwd): "TRUST_FOLDER"})
        script = f"require('node:fs').writeFileSync('{self._marks}/preload', '')\n"
        self.variables = self._variables(
            script=self._write(self.home / "preload.js", script),
            shell=self._write(self.home / "shell.sh", self.command("shell")),
            system=self._write(self.home / "system.md", self._canary("system.md")),
        )
        self._planted = self._snapshot()

    def _variables(self, *, script: Path, shell: Path, system: Path) -> dict[str, str]:
        return {
            "NODE_OPTIONS": f"--require={script}",
            "BASH_ENV": str(shell),
            "ENV": str(shell),
            "GEMINI_SYSTEM_MD": str(system),
            "GEMINI_CLI_HOME": str(self.home),
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(self.cwd / ".gemini" / "settings.json"),
            "CLAUDE_CONFIG_DIR": str(self.home / ".claude"),
            "CLAUDE_PROJECT_DIR": str(self.cwd),
            "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
        }

    @property
    def ran(self) -> list[str]:
        """The planted programs that somebody ran."""
        return sorted(file.name for file in self._marks.iterdir())

    def command(self, name: str) -> str:
        """A shell command that leaves the mark `name`."""
        return f": >'{self._marks}/{name}'"

    def target(self, name: str) -> Path:
        """A file that does not exist; whoever makes it leaves the mark `name`."""
        return self._marks / name

    def read(self, requests: Iterable[Received] | None = None) -> list[str]:
        """The files whose canaries stand anywhere in these requests; in all that reached either provider, if None."""
        names: set[str] = set()
        world = self.world
        if requests is None:
            requests = [*world.claude.received, *world.gemini.received, *world.gemini.oauth_received]
        for request in requests:
            around = repr((request.path, request.query, request.headers)).encode()
            names.update(
                found.split(b"|")[1].decode() for found in (request.body + around).split(self.mark.encode())[1:]
            )
        return sorted(names)

    @property
    def declared_tools(self) -> list[Any]:
        """The tools that either model was offered."""
        found: list[Any] = []
        for request in self.world.claude.received:
            found += request.json.get("tools") or []
        for request in self.world.gemini.generations:
            tools: list[dict[str, Any]] = request.json["request"].get("tools") or []
            found += [held for tool in tools for held in tool.values() if held]
        return found

    def assert_untouched(self) -> None:
        """No file was read or written, no program was run, no tool was offered."""
        assert self.read() == []
        assert self.ran == []
        assert self.declared_tools == []
        assert self._snapshot() == self._planted
        assert self.world.surprises == []

    def _snapshot(self) -> Mapping[str, str]:
        # Every file of the home by its content, but for what the hub keeps: for its children, its store, its copies of
        # logins.
        own = {self.world.state / "run", self.world.state / "logins"}
        store = {self.world.state / f"{FILE}{end}" for end in ("", "-wal", "-shm")}
        files = (file for file in files_below(self.home) if own.isdisjoint(file.parents))
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file not in store}

    # -- what is planted --------------------------------------------------------------------------------------------

    def _canary(self, name: str) -> str:
        return f"{self.mark}|{name}|"

    def _write(self, file: Path, content: str | Mapping[str, Any]) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def _hook(self, name: str) -> list[dict[str, Any]]:
        return [{"hooks": [{"type": "command", "command": self.command(name)}]}]

    def _server(self, name: str) -> dict[str, Any]:
        return {"command": "/bin/sh", "args": ["-c", self.command(name)], "trust": True}

    def _described(self, name: str, title: str) -> str:
        said = self._canary(name)
        return f"---\nname: {title}\ndescription: {said}\n---\n{said}\n"

    def _of_claude(self, folder: Path, whose: str) -> None:
        self._write(folder / "CLAUDE.md", self._canary(f"claude-{whose}/CLAUDE.md"))
        self._write(folder / "rules" / "bait.md", self._canary(f"claude-{whose}/rule"))
        self._write(folder / "commands" / "bait.md", self._canary(f"claude-{whose}/command"))
        self._write(
            folder / "skills" / "bait-skill" / "SKILL.md", self._described(f"claude-{whose}/skill", "bait-skill")
        )
        self._write(folder / "agents" / "bait-agent.md", self._described(f"claude-{whose}/agent", "bait-agent"))
        self._write(folder / "output-styles" / "bait-style.md", self._described(f"claude-{whose}/style", "bait-style"))
        plugin = folder / "skills" / "bait-plugin"
        self._write(plugin / ".claude-plugin" / "plugin.json", {"name": "bait-plugin", "version": "1.0.0"})
        self._write(plugin / "hooks" / "hooks.json", {"hooks": {"SessionStart": self._hook(f"claude-{whose}-plugin")}})
        settings = {
            "hooks": {event: self._hook(f"claude-{whose}-{event}") for event in CLAUDE_HOOKS},
            "permissions": {"allow": ["Bash", "Read", "Write", "Edit", "WebFetch"]},
            "enableAllProjectMcpServers": True,
            "outputStyle": "bait-style",
            "statusLine": {"type": "command", "command": self.command(f"claude-{whose}-status")},
        }
        self._write(folder / "settings.json", settings)
        self._write(folder / "settings.local.json", settings)

    def _of_gemini(self, folder: Path, whose: str) -> None:
        self._write(folder / "GEMINI.md", self._canary(f"gemini-{whose}/GEMINI.md"))
        self._write(folder / "system.md", self._canary(f"gemini-{whose}/system.md"))
        self._write(folder / "commands" / "bait.toml", f'prompt = "{self._canary(f"gemini-{whose}/command")}"\n')
        self._write(
            folder / "skills" / "bait-skill" / "SKILL.md", self._described(f"gemini-{whose}/skill", "bait-skill")
        )
        self._write(folder / "agents" / "bait-agent.md", self._described(f"gemini-{whose}/agent", "bait-agent"))
        self._write(folder / "policies" / "bait.toml", '[[rule]]\ntoolName = "*"\ndecision = "allow"\npriority = 999\n')
        extension = folder / "extensions" / "bait"
        self._write(extension / "GEMINI.md", self._canary(f"gemini-{whose}/extension"))
        server = {"bait": self._server(f"gemini-{whose}-extension-mcp")}
        self._write(extension / "gemini-extension.json", {"name": "bait", "version": "1.0.0", "mcpServers": server})
        self._write(
            folder / "settings.json",
            {
                "security": {"auth": {"selectedType": "oauth-personal"}},
                "hooksConfig": {"enabled": True},
                "hooks": {event: self._hook(f"gemini-{whose}-{event}") for event in GEMINI_HOOKS},
                "mcpServers": {"bait": self._server(f"gemini-{whose}-mcp")},
                "context": {"fileName": ["GEMINI.md", "CLAUDE.md", "AGENTS.md"]},
                "skills": {"enabled": True},
                "experimental": {"enableAgents": True},
            },
        )
