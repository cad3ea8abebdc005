"""How Claude's CLI is started: contained options, a private home, and a wrapper that lets nothing else through."""

from __future__ import annotations

import re
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llm_mcp_hub.children.environment import blanked, child_environment
from llm_mcp_hub.errors import CliMissing, Misconfigured
from llm_mcp_hub.providers.claude_turn import NAME

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions
    from claude_agent_sdk.types import EffortLevel

BUFFER_BYTES = 32 << 20
"""The SDK's default of 1 MiB ends an answer of that size with a decoding error."""
SYSTEM = "Answer in text. You have no tools, no files and no network access."
# Kept by the child's wrapper beside what `environment.py` allows: what the SDK itself tells its CLI.
_SDK_NAMES = (
    "CLAUDE_AGENT_SDK_VERSION",
    "CLAUDE_AGENT_SDK_CLIENT_APP",
    "PWD",
)

_HOMES_OF_WINDOWS = ("USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP")

# The SDK merges our variables over its own and so cannot remove a name. This wrapper can: it keeps the names that it
# is told and drops the rest, notes its pid (it becomes the CLI by exec, so it is the CLI's) and, on Linux, asks the
# kernel to kill the CLI when the hub dies: over pipes it would live on. It must not drop names of its own, which may be
# somebody else's, too, or begin a line of a value that `env` shows; and OPTIND is one that dash cannot drop.
_WRAPPER = """#!/bin/sh
umask 077
unset cli keep name
echo $$ >"$HUB_CHILD_HOME/pid"
cli=$HUB_CHILD_CLI
keep=" cli keep OPTIND $HUB_CHILD_KEEP "
for name in $(env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'); do
    case $keep in *" $name "*) ;; *) unset "$name" ;; esac
done
exec FIRST"$cli" "$@"
"""


def bundled_cli() -> Path | None:
    """The CLI in claude-agent-sdk's wheel, or None where the wheel has none (a platform without a build)."""
    from importlib.util import find_spec

    package = find_spec("claude_agent_sdk")
    if package is None or package.origin is None:
        return None
    cli = Path(package.origin).parent / "_bundled" / ("claude.exe" if sys.platform == "win32" else "claude")
    return cli if cli.is_file() else None


def no_cli() -> CliMissing:
    """There is no program to start."""
    return CliMissing(
        "The Claude Code program that belongs to claude-agent-sdk is not there.",
        action="Install it again: pip install --force-reinstall claude-agent-sdk",
        provider=NAME,
    )


def state_unwritable(error: OSError) -> Misconfigured:
    """The hub's own folder cannot be written."""
    return Misconfigured(
        f"The hub cannot write its state folder ({error.strerror}).",
        action="Make HUB_STATE_DIR a folder that this user can write, with space left.",
        provider=NAME,
    )


def options(
    *,
    home: Path,
    cwd: Path,
    cli: Path,
    around: Mapping[str, str],
    model: str,
    system: str | None,
    token: str,
    upstream: str | None,
    app: str,
    effort: str | None = None,
    resume: str | None = None,
) -> ClaudeAgentOptions:
    """Lay out a child's private home, and give the contained options that start it there.

    Args:
        home: the child's own folder, made and empty.
        cwd: an empty folder.
        cli: the Claude Code program.
        around: the hub's environment.
        model: alias or full name.
        system: instruction of the ask, or None.
        token: the setup-token.
        upstream: base URL of a stand-in, for tests.
        app: the hub's name and version, told to the CLI.
        effort: `low`, `medium`, `high`, or None for the CLI's own.
        resume: id of a session whose transcript stands in `transcript_file`, or None for a new one.

    Raises OSError when the folder cannot be written.
    """
    from claude_agent_sdk import ClaudeAgentOptions

    (home / "config").mkdir(mode=0o700)
    # By file: on the command line every user of the machine could read it.
    prompt = home / "system.md"
    prompt.touch(mode=0o600)
    prompt.write_text(SYSTEM if system is None else f"{SYSTEM}\n\n{system}", "utf-8")
    wanted = child_environment(
        around,
        {
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / "config"),
            "TMPDIR": str(home),
            "CLAUDE_CODE_OAUTH_TOKEN": token,
            "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",  # the machine-wide memory, which no other option keeps out
            "CLAUDE_CODE_DISABLE_FAST_MODE": "1",  # it is paid as extra usage
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            # The SDK's own values: a Claude Code that starts the hub has them too, and blanked for that they would
            # blank the SDK's. The first stands in the wire's billing line.
            "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
            "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            **({"ANTHROPIC_BASE_URL": upstream} if upstream else {}),
        },
    )
    if sys.platform == "win32":
        # A script is no program there, and the SDK refuses batch files. So the other names stay, with empty values.
        started = cli
        told = {**wanted, **dict.fromkeys(_HOMES_OF_WINDOWS, str(home))}
    else:
        started, told = _wrapped(home, cli, wanted)
        if "OPTIND" in around:  # an empty one ends a dash before its first line
            told["OPTIND"] = "1"
    return ClaudeAgentOptions(
        tools=[],
        setting_sources=[],
        strict_mcp_config=True,
        skills=[],
        system_prompt={"type": "file", "path": str(prompt)},
        permission_mode="dontAsk",
        verbatim_prompts=True,
        max_turns=1,
        include_partial_messages=True,
        max_buffer_size=BUFFER_BYTES,
        model=model,
        effort=cast("EffortLevel | None", effort),
        resume=resume,
        cwd=cwd,
        cli_path=started,
        env=blanked(around, told),
        stderr=_ignore,  # without a callback the child would write on our own stderr
        client_app=app,
        extra_args={"no-session-persistence": None, "disable-slash-commands": None},
    )


def _wrapped(home: Path, cli: Path, wanted: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """A program that becomes the CLI with nothing but `wanted` around it, and the environment to start it in."""
    wrapper = home / "claude"
    setpriv, setsid = (
        shutil.which(name, path=wanted["PATH"]) if sys.platform == "linux" else None for name in ("setpriv", "setsid")
    )
    first = f"{setpriv} --pdeathsig KILL -- " if setpriv else ""
    wrapper.touch(mode=0o700)
    wrapper.write_text(_WRAPPER.replace("FIRST", first + (f"{setsid} " if setsid else "")))
    wrapper.chmod(stat.S_IRWXU)
    return wrapper, {
        **wanted,
        "HUB_CHILD_HOME": str(home),
        "HUB_CHILD_CLI": str(cli),
        "HUB_CHILD_KEEP": " ".join([*wanted, *_SDK_NAMES]),
    }


def transcript_file(home: Path, cwd: Path, session: str) -> Path:
    """Where the CLI looks for a session's transcript: by its working directory, every other character a dash."""
    return home / "config" / "projects" / re.sub(r"[^A-Za-z0-9]", "-", str(cwd)) / f"{session}.jsonl"


def _ignore(line: str) -> None:
    """The CLI's stderr is for its developers, and could quote a prompt: it goes nowhere."""
