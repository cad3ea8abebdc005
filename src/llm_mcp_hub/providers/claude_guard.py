"""Who pays for Claude, and what would run beside it, is settled before a prompt is sent. Knows no SDK."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llm_mcp_hub.errors import BillingBlocked, Misconfigured
from llm_mcp_hub.providers.claude_turn import NAME

MANAGED_FOLDERS = {
    "Linux": Path("/etc/claude-code"),
    "Darwin": Path("/Library/Application Support/ClaudeCode"),
    "Windows": Path("C:/Program Files/ClaudeCode"),
}
MANAGED_FOLDER = MANAGED_FOLDERS.get(platform.system())
"""This machine's; None where the CLI has none."""

PAYING = ("env", "apiKeyHelper")
"""Settings that can name another payer or another address."""
COMPUTED = ("policyHelper", "policyHelpers")
"""Settings that name a program whose output becomes settings."""


def check_managed_settings(folder: Path | None = MANAGED_FOLDER) -> None:
    """Refuse machine-wide settings that could pay or redirect. They cannot be switched off for a child.

    Measured: `env` in them puts an API key or another base URL on the wire, `apiKeyHelper` likewise, and the handshake
    looks clean; a `policyHelper` is a program that prints either of them. Raises BillingBlocked.

    Nor can their hooks and MCP servers be switched off: programs that would run with each ask. Raises Misconfigured.

    Neither says anything of the login (`shows` is None): it is found anew at each look at it, here and nowhere else.
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
            where, whom = f"Claude Code's machine-wide settings ({file})", f"this machine to remove it from {file}"
            forbidden = (*PAYING, *COMPUTED)
            found = [n for n in forbidden if n in held] if isinstance(held, dict) else ["something else than an object"]
            if found:
                raise _could_pay(where, found, whom=whom, shows=None)
            if "hooks" in held:
                raise _would_run(where, "hooks", whom=whom, shows=None)
        servers = folder / "managed-mcp.json"
        if servers.exists():
            where, whom = f"Claude Code's machine-wide settings ({servers})", f"this machine to remove {servers}"
            raise _would_run(where, "MCP servers", whom=whom, shows=None)
    except (OSError, ValueError, RecursionError) as error:
        raise BillingBlocked(
            f"Claude Code's machine-wide settings in {folder} cannot be read ({type(error).__name__}), so it is not "
            "known who would pay; nothing was sent.",
            action=f"Make the files in {folder} readable and valid JSON, or remove them.",
            provider=NAME,
        ) from error


def check_settings_in_force(told: Mapping[str, Any]) -> None:
    """Refuse what the CLI itself says is in force, wherever it comes from.

    The files are not all there is: Anthropic's API delivers an organisation's settings when the CLI starts, and macOS
    and Windows have further places for a machine's. Measured: an `env` of an organisation puts an `x-api-key` or
    another address on the wire, its hooks run, and the handshake looks clean. Raises BillingBlocked or Misconfigured.
    """
    settings = told.get("effective")
    if not isinstance(settings, dict) or told.get("served_settings_state") == "pending":
        raise BillingBlocked(
            "Claude's CLI does not tell which settings are in force, so nobody knows who would pay. Nothing was sent.",
            action="Ask again.",
            provider=NAME,
        )
    whose = "The settings that this account's organisation, or this machine, gives Claude Code"
    whom = "the organisation to remove it from Claude Code's managed settings"
    found = [name for name in PAYING if name in settings]
    if found:
        raise _could_pay(whose, found, whom=whom, shows="refused")
    if "hooks" in settings:
        raise _would_run(whose, "hooks", whom=whom, shows="refused")


def _could_pay(where: str, found: Sequence[str], *, whom: str, shows: Literal["refused"] | None) -> BillingBlocked:
    return BillingBlocked(
        f"{where} hold {' and '.join(found)}: they could make Claude use a paid key or another address, so nothing was "
        "sent.",
        action=f"Ask the administrator of {whom}.",
        provider=NAME,
        shows=shows,
    )


def _would_run(where: str, what: str, *, whom: str, shows: Literal["refused"] | None) -> Misconfigured:
    return Misconfigured(
        f"{where} hold {what}: programs that would run with each ask, which is text in and text out alone. Nothing was "
        "sent.",
        action=f"Ask the administrator of {whom}.",
        provider=NAME,
        shows=shows,
    )


def _is_word(value: object) -> bool:
    """Whether it is the name of a source, which has no digits. Anything else could be what stands there."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_. /-]{1,30}", value) is not None


def check_account(account: Mapping[str, Any]) -> None:
    """The handshake must name the subscription's token and no other way to pay. Raises a HubError otherwise."""
    if (
        account.get("tokenSource") == "CLAUDE_CODE_OAUTH_TOKEN"
        and "apiKeySource" not in account
        and account.get("apiProvider") == "firstParty"
    ):
        return
    told = {key: account[key] for key in ("tokenSource", "apiKeySource", "apiProvider") if key in account}
    seen = {key: value if _is_word(value) else "something else than a word" for key, value in told.items()}
    raise BillingBlocked(
        f"Claude's CLI would not use the subscription's token alone ({seen or 'no account named'}), so nothing was "
        "sent.",
        action="Remove API keys and cloud settings for Claude from this machine, then ask again.",
        provider=NAME,
        shows="refused",
    )
