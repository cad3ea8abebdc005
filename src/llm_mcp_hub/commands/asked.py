"""`llm-mcp-hub asks` and `llm-mcp-hub conversations`: what was asked before, listed, shown, cancelled or deleted."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import unicodedata

from llm_mcp_hub import main as composition
from llm_mcp_hub.commands.stdout import aside
from llm_mcp_hub.conversation import OWNER
from llm_mcp_hub.errors import InvalidRequest, NotFound
from llm_mcp_hub.settings import Settings
from llm_mcp_hub.transcripts import markdown

LISTED = 50
OF_TITLE = 24
"""Columns without which a title says nothing."""
NARROWEST = 50
"""Columns for a line, so that an id is whole; with fewer it is left to the terminal."""


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code. Raises HubError: also the one that a shown ask has ended with."""
    if (given.action == "list") != (given.id is None):
        raise InvalidRequest(
            f"{given.action} {'takes no' if given.action == 'list' else 'needs an'} id.",
            action=f"Run: llm-mcp-hub {given.command} --help",
        )
    return asyncio.run((_asks if given.command == "asks" else _conversations)(settings, given))


async def _asks(settings: Settings, given: argparse.Namespace) -> int:
    async with composition.build_hub(settings) as hub:
        if given.action == "delete":
            await hub.forget(OWNER, given.id)
            print(f"{given.id} is deleted.", file=sys.stderr)
            return 0
        if given.action == "list":
            records = await hub.recent(OWNER, LISTED)
        elif given.action == "cancel":
            records = [await hub.cancel(OWNER, given.id)]
            if records[0].status in {"completed", "failed"}:
                aside("It had ended already.")
        else:
            records = [await hub.result(OWNER, given.id)]
    if given.json:
        told = [record.model_dump(mode="json") for record in records]
        print(json.dumps(told if given.action == "list" else told[0], indent=2, ensure_ascii=False))
        return 0
    if not records:
        print('No asks are kept. A first one: llm-mcp-hub ask claude "…"', file=sys.stderr)
    for record in records:
        print(_line(f"{record.ask_id}  {record.status:9}  {record.provider:8}  {record.created_at}  ", record.title))
        if given.action == "show":
            text = record.answer.text if record.answer is not None else record.partial_text
            print(f"\n{text or '(no text)'}")
            if record.failure is not None:
                raise record.failure
    return 0


async def _conversations(settings: Settings, given: argparse.Namespace) -> int:
    try:
        return await _talks(settings, given)
    except NotFound as error:  # whose next step is for who asks
        raise NotFound(error.message, action="Those there are: llm-mcp-hub conversations") from error


async def _talks(settings: Settings, given: argparse.Namespace) -> int:
    async with composition.build_hub(settings) as hub:
        if given.action == "delete":
            await hub.transcripts.delete(OWNER, given.id)
            print(f"{given.id} is deleted.", file=sys.stderr)
            return 0
        if given.action == "show":
            head, turns = await hub.transcripts.get(OWNER, given.id)
            if given.json:
                whole = {**head.model_dump(mode="json"), "exchanges": [turn.model_dump(mode="json") for turn in turns]}
                print(json.dumps(whole, indent=2, ensure_ascii=False))
            else:
                print(markdown(head, turns))
            return 0
        heads = await hub.transcripts.newest(OWNER, LISTED)
    if given.json:
        print(json.dumps([head.model_dump(mode="json") for head in heads], indent=2, ensure_ascii=False))
        return 0
    if not heads:
        print('No conversations are kept. An answer begins one: llm-mcp-hub ask claude "…"', file=sys.stderr)
    for head in heads:
        turns = "turn " if head.turns == 1 else "turns"
        about = f"{head.conversation_id}  {head.turns:3} {turns}  {head.provider:8}  {head.updated_at}  "
        print(_line(about, head.title))
    return 0


def _line(about: str, title: str) -> str:
    """One line of a list: at a terminal no longer than that is wide, else whole. A narrow one has the title below."""
    line = about + title
    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout and sys.stdout.isatty() else 0
    if width < NARROWEST or sum(map(_columns, line)) <= width:
        return line
    if width - len(about) < OF_TITLE:
        return f"{about.rstrip()}\n{_cut(f'    {title}', width)}"
    return _cut(line, width)


def _cut(line: str, width: int) -> str:
    """What fits into so many columns."""
    if sum(map(_columns, line)) <= width:
        return line
    taken, used = "", 1  # for the ellipsis
    for character in line:
        used += _columns(character)
        if used > width:
            break
        taken += character
    return f"{taken.rstrip()}…"


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes: two for Hangul."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
