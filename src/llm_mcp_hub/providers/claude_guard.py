"""Who pays for Claude, and what would run beside it, is settled before a prompt is sent. Knows no SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_mcp_hub.errors import BillingBlocked, Misconfigured

NAME = "claude"

MANAGED_FOLDERS = {
    "Linux": Path("/etc/claude-code"),
    "Darwin": Path("/Library/Application Support/ClaudeCode"),
    "Windows": Path("C:/Program Files/ClaudeCode"),
}

PAYING = ("env", "apiKeyHelper")
"""Settings that can name another payer or another address."""
COMPUTED = ("policyHelper", "policyHelpers")
"""Settings that name a program whose output becomes settings."""


def check_managed_settings(folder: Path | None) -> None:
    """Refuse machine-wide settings that could pay or redirect. They cannot be switched off for a child.

    Measured: `env` in them puts an API key or another base URL on the wire, `apiKeyHelper` likewise, and the handshake
    looks clean; a `policyHelper` is a program that prints either of them. Raises BillingBlocked.

    Nor can their hooks and MCP servers be switched off: programs that would run with each ask. Raises Misconfigured.
    """
    if folder is None:
        return
    try:
        files = [folder / "managed-settings.json"]
        if (folder / "managed-settings.d").exists():
            files += sorted((folder / "managed-settings.d").iterdir())
        for file in files:
            try:
                held = json.loads(file.read_text("utf-8"))
            except FileNotFoundError:
                continue
            if not isinstance(held, dict):
                raise ValueError("not an object")  # noqa: TRY004 -- told below, as unreadable
            found = [name for name in (*PAYING, *COMPUTED) if name in held]
            if found:
                raise _could_pay(f"Claude Code's machine-wide settings ({file})", found, f"this machine to take them out of {file}")
            if "hooks" in held:
                raise _would_run("hooks", file)
        if (folder / "managed-mcp.json").exists():
            raise _would_run("MCP servers", folder / "managed-mcp.json")
    except (OSError, ValueError, RecursionError) as error:
        raise BillingBlocked(
            f"Claude Code's machine-wide settings in {folder} cannot be read ({type(error).__name__}), so it is not "
            "known who would pay; nothing was sent.",
            action=f"Make the files in {folder} readable and valid JSON, or remove them.",
            provider=NAME,
        ) from error


def check_settings_in_force(told: Mapping[str, Any]) -> None:
    """Refuse what the CLI itself says is in force, wherever it comes from.

    The files are not all there is: Anthropic's API delivers an organisation's settings at the CLI's start, and
    macOS and Windows have further places for a machine's. Measured: such an `env` puts an `x-api-key` or another address
    on the wire and the handshake looks clean. Raises HubError.
    """
    settings = told.get("effective")
    if not isinstance(settings, dict) or told.get("served_settings_state") == "pending":
        raise BillingBlocked(
            "Claude's CLI did not tell which settings are in force, so it is not known who would pay; nothing was sent.",
            action="Ask again.",
            provider=NAME,
        )
    where = "The settings that this Claude account's organisation or this machine give Claude Code"
    found = [name for name in PAYING if name in settings]
    if found:
        raise _could_pay(where, found, "the organisation or this machine to take them out of Claude Code's managed settings")


def _could_pay(where: str, found: Sequence[str], whom: str) -> BillingBlocked:
    return BillingBlocked(
        f"{where} hold {' and '.join(found)}: they could make Claude use a paid key or another address, so nothing was "
        "sent.",
        action=f"Ask the administrator of {whom}, or use ask_gemini.",
        provider=NAME,
    )


def _would_run(what: str, file: Path) -> Misconfigured:
    return Misconfigured(
        f"Claude Code's machine-wide settings ({file}) hold {what}: programs that would run with each ask, which is text in "
        "and text out alone. Nothing was sent.",
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
