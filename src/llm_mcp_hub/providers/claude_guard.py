"""Who pays for Claude, and what would run beside it, is settled before a prompt is sent. Knows no SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_mcp_hub.errors import BillingBlocked, Misconfigured

NAME = "claude"

MANAGED_FOLDERS = {
    "Linux": Path("/etc/claude-code"),
    "Darwin": Path("/Library/Application Support/ClaudeCode"),
    "Windows": Path("C:/Program Files/ClaudeCode"),
}


def check_managed_settings(folder: Path | None) -> None:
    """Refuse machine-wide settings that could pay or redirect. They cannot be switched off for a child.

    Measured: `env` in them puts an API key or another base URL on the wire, `apiKeyHelper` likewise, and the handshake
    looks clean. Raises BillingBlocked.

    Nor can their hooks and MCP servers be switched off: programs that would run with each ask. Raises Misconfigured.
    """
    if folder is None:
        return
    try:
        files = [folder / "managed-settings.json"]
        if (folder / "managed-settings.d").exists():
            files += sorted((folder / "managed-settings.d").iterdir())
        for file in files:
            if not file.exists():
                continue
            held = json.loads(file.read_text("utf-8"))
            if not isinstance(held, dict) or "env" in held or "apiKeyHelper" in held:
                raise BillingBlocked(
                    f"Claude Code's machine-wide settings ({file}) hold `env` or `apiKeyHelper`, or are not an object: "
                    "they could make Claude use a paid key or another address, so nothing was sent.",
                    action=f"Ask this machine's administrator to remove `env` and `apiKeyHelper` from {file}.",
                    provider=NAME,
                )
            if held.get("hooks"):
                raise _would_run("hooks", file)
        if (folder / "managed-mcp.json").exists():
            raise _would_run("MCP servers", folder / "managed-mcp.json")
    except (OSError, ValueError) as error:
        raise BillingBlocked(
            f"Claude Code's machine-wide settings in {folder} cannot be read ({type(error).__name__}), so it is not "
            "known who would pay; nothing was sent.",
            action=f"Make the files in {folder} readable and valid JSON, or remove them.",
            provider=NAME,
        ) from error


def _would_run(what: str, file: Path) -> Misconfigured:
    return Misconfigured(
        f"Claude Code's machine-wide settings ({file}) hold {what}: programs that would run with each ask, and an ask is "
        "text in, text out. Nothing was sent.",
        action=f"Ask this machine's administrator to remove the {what} from {file}, or use ask_gemini.",
        provider=NAME,
    )


def check_account(account: Mapping[str, Any]) -> None:
    """The handshake must name the subscription's token and no other way to pay. Raises a HubError otherwise."""
    if (
        account.get("tokenSource") == "CLAUDE_CODE_OAUTH_TOKEN"
        and "apiKeySource" not in account
        and account.get("apiProvider") == "firstParty"
    ):
        return
    seen = {key: str(account[key]) for key in ("tokenSource", "apiKeySource", "apiProvider") if key in account}
    raise BillingBlocked(
        f"Claude's CLI would not use the subscription's token alone ({seen or 'no account named'}), so nothing was "
        "sent.",
        action="Remove API keys and cloud settings for Claude from this machine, then ask again.",
        provider=NAME,
    )
