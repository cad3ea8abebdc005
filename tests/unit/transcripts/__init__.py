"""Golden transcripts: each folder holds bytes that the real Gemini CLI wrote, and the messages in them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_mcp_hub.providers import acp

FOLDER = Path(__file__).parent


def cases() -> list[Path]:
    """Every recorded case; a new folder is a new case, without code."""
    return sorted(file.parent for file in FOLDER.glob("*/input.bin"))


def as_json(message: acp.Message) -> dict[str, Any]:
    """A message as it stands in `expected.json`; noise is shown byte for byte, as Latin-1."""
    fields = asdict(message)
    if isinstance(message, acp.Noise):
        fields["data"] = message.data.decode("latin-1")
    return {"is": type(message).__name__, **json.loads(json.dumps(fields))}


def write_expected(folder: Path, messages: list[dict[str, Any]], pending: bytes) -> None:
    """Write `expected.json`, a line for each message."""
    lines = ",\n".join("  " + json.dumps(message, ensure_ascii=False) for message in messages)
    rest = json.dumps(pending.decode("latin-1"))
    text = f'{{"messages": [\n{lines}\n],\n"pending": {rest}}}\n'
    (folder / "expected.json").write_text(text, "utf-8")
