"""What a Claude ask needs of this machine, looked at without an ask: its CLI, the SDK, and who else might pay."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import requires, version
from pathlib import Path

from llm_mcp_hub.children.environment import child_environment
from llm_mcp_hub.children.supervision import said
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.finding import Finding, blocks, foreign, ok, told, warns
from llm_mcp_hub.providers.claude_child import bundled_cli
from llm_mcp_hub.providers.claude_guard import MANAGED_FOLDER, check_managed_settings

VERSION_S = 15.0
"""`claude --version` takes 0.02 s."""
INSTALL = "Run: pip install --force-reinstall claude-agent-sdk=={wanted}"

FOREIGN = re.compile(
    r"ANTHROPIC_(\w+_)?(API_KEY|AUTH_TOKEN|BASE_URL)|ANTHROPIC_(CUSTOM_HEADERS|PROFILE)"
    r"|CLAUDE_CODE_USE_(BEDROCK|VERTEX|FOUNDRY|ANTHROPIC_AWS|MANTLE)|AWS_BEARER_TOKEN_BEDROCK|CLOUD_ML_REGION"
    r"|CLAUDE_CODE_(SIMPLE|CUSTOM_OAUTH_URL)|CLAUDE_LOCAL_OAUTH_API_BASE|USE_LOCAL_OAUTH"
)
"""Each was measured, or read in the CLI: another payer, another address, or no subscription at all."""


async def findings(
    *,
    around: Mapping[str, str],
    home: Path,
    upstream: str | None = None,
    cli: Path | None = None,
    managed_folder: Path | None = None,
    limit_s: float = VERSION_S,
) -> AsyncGenerator[Finding]:
    """Every precondition of Claude's own.

    Args:
        around: the hub's environment.
        home: a folder of this look's own, which the CLI gets for its home.
        upstream: the stand-in that asks would go to, if one is set.
        cli: the Claude Code program; the bundled one by default.
        managed_folder: where machine-wide settings are; the platform's by default.
        limit_s: how long the CLI may take to say its version.
    """
    sdk, wanted = version("claude-agent-sdk"), _pinned()
    if sdk != wanted:
        yield warns(
            "claude-sdk",
            f"claude-agent-sdk is {sdk}; the hub was measured with {wanted}",
            INSTALL.format(wanted=wanted),
        )
    yield await _cli(cli or bundled_cli(), around, home, limit_s)
    yield _setpriv(around)
    folder = managed_folder or MANAGED_FOLDER
    try:
        check_managed_settings(folder)
    except HubError as error:
        yield told("claude-settings", error)
    else:
        yield ok("claude-settings", f"no machine-wide settings that could pay or run something ({folder})")
    yield foreign("claude-variables", around, FOREIGN)
    if upstream is not None:
        yield warns(
            "claude-upstream", "Asks go to a stand-in on this machine, not to Claude", "Unset HUB_CLAUDE_UPSTREAM."
        )


async def _cli(cli: Path | None, around: Mapping[str, str], home: Path, limit_s: float) -> Finding:
    name, sdk, install = "claude-cli", version("claude-agent-sdk"), INSTALL.format(wanted=_pinned())
    if cli is None:
        return blocks(name, f"claude-agent-sdk {sdk} has brought no Claude Code program", install)
    private = {"HOME": str(home), "CLAUDE_CONFIG_DIR": str(home), "TMPDIR": str(home), "DISABLE_AUTOUPDATER": "1"}
    try:
        text = await said([str(cli), "--version"], environment=child_environment(around, private), limit_s=limit_s)
    except OSError as error:
        return blocks(name, f"{cli} cannot be started ({error.strerror or 'not executable'})", install)
    if text is None:
        return blocks(
            name,
            f"{cli} --version has not answered in {limit_s:g} s",
            f"See what stops it: {shlex.quote(str(cli))} --version",
        )
    number = re.search(r"\d+\.\d+\.\d+", text)
    if number is None:
        return blocks(name, f"{cli} cannot be started here, or tells no version", install)
    return ok(name, f"Claude Code {number[0]}, bundled in claude-agent-sdk {sdk}")


def _setpriv(around: Mapping[str, str]) -> Finding:
    if sys.platform != "linux":
        how = "only Linux ends Claude's CLI with a hub that is killed: here the next hub that starts ends what is left"
        return ok("claude-setpriv", how)
    found = shutil.which("setpriv", path=child_environment(around, {})["PATH"])
    if found is None:
        return warns(
            "claude-setpriv",
            "There is no setpriv in PATH: Claude's CLI could live on when the hub is killed",
            "Install it (Debian, Ubuntu): apt-get install util-linux",
        )
    return ok("claude-setpriv", f"{found} ends Claude's CLI with the hub")


def _pinned() -> str:
    """The SDK's version that this hub asks for."""
    found = [re.fullmatch(r"claude-agent-sdk==([\w.]+)", line) for line in requires("llm-mcp-hub") or ()]
    return next(match[1] for match in found if match is not None)
