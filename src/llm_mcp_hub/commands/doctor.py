"""`llm-mcp-hub doctor`: every precondition of an ask, each with one next step; exit 1 if anything blocks one.

Knows how findings are gathered and shown, not what is looked at: `main_commands.py` brings that. All looks run at once,
each with a deadline, and none can hide another: one that fails or hangs is a finding itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from llm_mcp_hub import main_commands as composition
from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.finding import AGAIN, Finding, Look, blocks, told, warns
from llm_mcp_hub.serving.signals import on_loop

LIMIT_S = 30.0
"""For each look; they run at once."""
GIVE_UP_S = 60.0
"""For all of it."""
MARKS = {"ok": "ok", "warning": "warn", "blocks": "BLOCKS"}
COLOURS = {"ok": "32", "warning": "33", "blocks": "1;31"}
NAME_WIDTH = 17
NARROWEST = 30
"""Characters beside the names; with fewer, or unless a terminal says how wide it is, nothing is wrapped."""


def run(env_file: Path | None, *, as_json: bool) -> int:
    """Look at everything, print it, and return the exit code."""
    try:
        with _at_most(GIVE_UP_S, as_json=as_json):
            findings = look(env_file)
    except asyncio.CancelledError:
        return 130
    return _show(findings, as_json=as_json)


def look(env_file: Path | None) -> list[Finding]:
    """Everything that was found."""
    return asyncio.run(_all(env_file))


def _show(findings: Sequence[Finding], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(as_object(findings), indent=2, ensure_ascii=False))
    else:
        around = surroundings()
        coloured = sys.stdout.isatty() and not around.get("NO_COLOR") and around.get("TERM") != "dumb"
        print(as_text(findings, coloured=coloured, width=shutil.get_terminal_size((0, 0)).columns))
    return 1 if any(finding.state == "blocks" for finding in findings) else 0


@contextlib.contextmanager
def _at_most(limit_s: float, *, as_json: bool) -> Generator[None]:
    """The last resort, for what no deadline reaches: the files and folders that are read before anything else."""

    def give_up() -> None:
        what = f"a file or folder that the hub reads first has not answered in {limit_s:g} s"
        look = "Look at the files that --env-file and NAME_FILE variables name, and at HUB_STATE_DIR."
        code = _show([blocks("doctor", what, look)], as_json=as_json)
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(limit_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


async def _all(env_file: Path | None) -> list[Finding]:
    task = asyncio.current_task()
    if task is not None:
        on_loop([signal.SIGTERM], lambda _number: task.cancel())
    with composition.preconditions_of(env_file) as looks:
        return await gathered(looks)


async def gathered(looks: Mapping[str, Look], limit_s: float = LIMIT_S) -> list[Finding]:
    """What all looks have found, in their order, after `limit_s` seconds at most."""
    found = await asyncio.gather(*(_one(name, look, limit_s) for name, look in looks.items()))
    return [finding for part in found for finding in part]


async def _one(name: str, look: Look, limit_s: float) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(limit_s):
            if callable(look):
                found += await _aside(look)
            else:
                async with contextlib.aclosing(look):
                    async for finding in look:
                        found.append(finding)
    except TimeoutError:
        found.append(warns(name, f"this look has not ended in {limit_s:g} s", f"Try again: {AGAIN}"))
    except HubError as error:
        found.append(told(name, error))
    except Exception as error:  # a doctor that falls ill tells what it knows
        what = f"this look has failed ({type(error).__name__}); it says nothing about asks"
        found.append(warns(name, what, f"Try again: {AGAIN}"))
    return found


async def _aside(look: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    """What `look` returns, from a thread that nobody waits for: a network folder that is away may hold it for ever."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[Finding]] = loop.create_future()

    def settle(found: Sequence[Finding] | Exception) -> None:
        if future.done():
            return
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)

    def run() -> None:
        try:
            found: Sequence[Finding] | Exception = look()
        except Exception as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, daemon=True).start()
    return await future


def as_object(findings: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    return {
        "ok": all(finding.state != "blocks" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def as_text(findings: Sequence[Finding], *, coloured: bool = False, width: int = 0) -> str:
    """For people: a line with a mark for each, the next step below it; wrapped where `width` leaves room for that."""
    indent = " " * (8 + NAME_WIDTH)
    lines: list[str] = []
    for finding in findings:
        mark = f"{MARKS[finding.state]:7}"
        if coloured:
            mark = f"\x1b[{COLOURS[finding.state]}m{mark}\x1b[0m"
        message, *more = _wrapped(finding.message, width - len(indent))
        lines.append(f"{mark} {finding.name:{NAME_WIDTH}}{message}")
        lines += [indent + line for line in more]
        steps = _wrapped(finding.action, width - len(indent) - 2) if finding.action else []
        lines += [f"{indent}{'  ' if number else '→ '}{line}" for number, line in enumerate(steps)]
    blocking = sum(finding.state == "blocks" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    verdict = {0: "Nothing blocks an ask", 1: "1 finding blocks an ask"}.get(
        blocking, f"{blocking} findings block asks"
    )
    lines += ["", f"{verdict}; {warnings} warning{'' if warnings == 1 else 's'}."]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    text = " ".join(text.split())
    if width < NARROWEST:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
