"""`llm-mcp-hub ask`: one question, whose answer is streamed to the terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llm_mcp_hub import main as composition
from llm_mcp_hub import starting
from llm_mcp_hub.commands import stdin, stdout
from llm_mcp_hub.commands.live import LiveLine
from llm_mcp_hub.commands.spoken import spoken
from llm_mcp_hub.errors import HubError, InvalidRequest
from llm_mcp_hub.material.diff import GitDiff
from llm_mcp_hub.material.gathering import Attachment
from llm_mcp_hub.providers.base import Event, Restarted, Text
from llm_mcp_hub.running import Watch
from llm_mcp_hub.serving.signals import ENDING, on_loop
from llm_mcp_hub.settings import Settings


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Ask, and print. Returns the exit code. Raises HubError, with `--json` after it was printed as JSON too."""
    try:
        prompt, piped = stdin.read(given)  # before the loop runs: in it no Ctrl-C could end the reading
        return asyncio.run(_ask(settings, given, prompt, piped))
    except HubError as error:
        if given.json:
            told = error.details() | {"message": spoken(error.message), "action": spoken(error.action)}
            print(json.dumps({"error": told}, ensure_ascii=False))
        raise


async def _ask(settings: Settings, given: argparse.Namespace, prompt: str, piped: Sequence[Attachment]) -> int:
    printed = 0
    unread = False
    unwritable: OSError | None = None
    task = asyncio.current_task()

    def show(event: Event) -> None:
        nonlocal printed, unread, unwritable
        if isinstance(event, Text):
            if not printed:
                live.clear()
            try:
                sys.stdout.write(event.piece)
                sys.stdout.flush()
            except BrokenPipeError:  # `| head` has seen enough
                unread = True
                if task is not None:
                    task.cancel()
            except OSError as error:  # a full disk: the ask is spent, so its answer is waited for and kept
                unwritable = unwritable or error
                stdout.throw_away()
            printed += len(event.piece)
        elif isinstance(event, Restarted) and printed:
            stdout.aside("\n[the answer began anew]")
            printed = 0

    here = composition.working_folder()
    files = [file if here is None else str(here / file) for file in given.file or () if file != "-"]
    if here is None and not all(Path(file).is_absolute() for file in files):
        raise InvalidRequest(
            "The folder you are in is no more, so --file cannot start there.",
            action="Change into another one, or give the whole path.",
        )
    live = LiveLine(quiet=given.json)
    if task is not None:
        on_loop(ENDING, lambda _number: task.cancel())
    try:
        # What somebody types in a shell may read what that person can read; relative to where it is typed.
        async with composition.build_hub(settings, roots=(*((here,) if here else ()), Path("/"))) as hub:
            starting.loaded()
            ask = hub.new_ask(
                given.provider,
                prompt,
                model=given.model,
                system=given.system,
                conversation_id=given.conversation,
                effort=given.effort,
                timeout_s=given.timeout,
            )
            ask = await hub.with_material(
                ask,
                files=files,
                git_diff=None if given.git_diff is None else GitDiff(given.git_diff or None, ()),
                attachments=piped,
            )
            for part in ask.parts:
                if not part.size and not given.json:
                    print(f"{part.name} is empty, and is put before the question so.", file=sys.stderr)
            watch = Watch(None if given.json else show)
            title = next(traits.title for traits in hub.traits if traits.name == given.provider)
            async with live.shown(title, watch):
                answer = await hub.ask(ask, watch)
    except HubError:
        if printed:
            print()
        raise
    except asyncio.CancelledError:
        if unread:
            stdout.throw_away()
            return 0
        print("\nllm-mcp-hub: cancelled", file=sys.stderr)
        return 130
    if given.json:
        print(answer.model_dump_json())
        return 0
    try:
        if not printed:
            sys.stdout.write(answer.text)
        if not answer.text.endswith("\n"):
            print()
        sys.stdout.flush()  # before what goes to stderr: both may be one pipe
    except BrokenPipeError:
        stdout.throw_away()
    except OSError as error:
        unwritable = error
        stdout.throw_away()
    if unwritable is not None:
        stdout.aside(
            f"llm-mcp-hub: what was to be printed cannot be written ({unwritable.strerror})",
            f"  The answer is kept: llm-mcp-hub asks show {answer.ask_id}",
        )
        return stdout.EX_IOERR
    about = (
        f"{answer.model} ({answer.model_source}), {answer.duration_ms / 1000:.1f} s, paid by {answer.billing.source}"
    )
    if answer.conversation_id is not None:
        about += f"; go on with --conversation {answer.conversation_id}"
    stdout.aside(about, *answer.warnings)
    return 0
