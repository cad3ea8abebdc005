"""`llm-mcp-hub status`: what is known of the logins, as a table that a person understands at a glance, or as JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime

from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.commands.live import LiveLine
from llm_mcp_hub.credentials.status import TokenStatus, local_moment
from llm_mcp_hub.settings import Settings

NARROW, WIDE = 60, 110
"""Columns: how the text is wrapped, whatever the terminal's width."""
UNTIL = 38
"""Columns of the longest date in English, at least: in UTC a year away it has one more."""
KNOWN = "HOW IT IS KNOWN"
KNOWN_AT = 31
"""Columns before the last one, besides those of the dates."""
_SIGNS = {"valid": ("ok", "32"), "warning": ("soon", "33"), "unknown": ("?", "33"), "missing": ("none", "2")}
_DOWN = ("DOWN", "31;1")


def run(settings: Settings, *, as_json: bool, verify: bool) -> int:
    """Print it. Returns the exit code."""
    known = asyncio.run(looked(settings, verify, quiet=as_json))
    if as_json:
        print(json.dumps({name: status.model_dump(mode="json") for name, status in known.items()}, indent=2))
        return 0
    around = surroundings()
    coloured = sys.stdout.isatty() and not around.get("NO_COLOR") and around.get("TERM") != "dumb"
    columns = shutil.get_terminal_size((WIDE, 24)).columns if sys.stdout.isatty() else WIDE
    print(table(known, datetime.now(UTC), columns=columns, coloured=coloured))
    return 0


async def looked(settings: Settings, verify: bool, *, quiet: bool = True) -> dict[str, TokenStatus]:
    """What is known of all logins; `verify` spends one tiny ask for each, and says that it does where not `quiet`."""
    from llm_mcp_hub import main as composition

    async with composition.build_hub(settings) as hub:
        if not verify:
            return await hub.token_status()
        async with LiveLine(quiet=quiet).shown("One tiny ask of each", None):
            return await hub.token_status(verify=True)


def table(known: Mapping[str, TokenStatus], now: datetime, *, columns: int = WIDE, coloured: bool = False) -> str:
    """The table: a line for each login, and below it what is known, what is used, and the next step."""
    width = max(NARROW, min(columns, WIDE))
    until = max([UNTIL, *(len(_until(status)) for status in known.values())])
    beside = width >= until + KNOWN_AT + max([len(KNOWN), *(len(_how(status, now)) for status in known.values())])
    dated = width >= until + KNOWN_AT - 1
    heads = ("UNTIL" if dated else "", KNOWN if beside else "")
    lines = [f"{'':5} {'LOGIN':8} {'STATUS':14} {heads[0]:{until}} {heads[1]}".rstrip()]
    for name, status in known.items():
        sign, colour = _SIGNS.get(status.status, _DOWN)
        mark = f"{sign:5}"
        if coloured:
            mark = f"\x1b[{colour}m{mark}\x1b[0m"
        how = _how(status, now)
        ends = _until(status) if dated else ""
        lines.append(f"{mark} {name:8} {status.status:14} {ends:{until}} {how if beside else ''}".rstrip())
        told = [] if dated else [f"until: {_until(status)}"]
        told += [status.message] if beside or status.evidence is None else [f"known: {how}", status.message]
        if status.quota:
            told.append("used: " + ", ".join(_used(window.window, window.used_fraction) for window in status.quota))
        if status.action:
            told.append(f"next: {status.action}")
        for text in told:
            lines += textwrap.wrap(
                text,
                width,
                initial_indent=" " * 6,
                subsequent_indent=" " * 8,
                break_on_hyphens=False,
                break_long_words=False,
            )
    return "\n".join(lines)


def _until(status: TokenStatus) -> str:
    if status.expires_at is None:
        return "no date known" if status.status not in {"missing", "misconfigured"} else "-"
    end = local_moment(datetime.fromisoformat(status.expires_at))
    if status.expires_source == "first_seen":
        return f"{end} at most"
    if status.days_remaining is None or status.status not in {"valid", "warning", "unknown"}:
        return end
    return f"{end}, {status.days_remaining} day{'' if status.days_remaining == 1 else 's'}"


def _how(status: TokenStatus, now: datetime) -> str:
    if status.evidence is None:
        return "-"
    seconds = (now - datetime.fromisoformat(status.evidence.observed_at)).total_seconds()
    when = next(
        (
            f"{round(seconds / size)} {unit} ago"
            for unit, size in (("d", 86_400), ("h", 3600), ("min", 60))
            if seconds >= size
        ),
        "now",
    )
    return f"{status.evidence.level.replace('_', '-')} ({when})"


def _used(window: str, fraction: float | None) -> str:
    return f"{window.replace('_', ' ')} {'?' if fraction is None else f'{fraction:.0%}'}"
