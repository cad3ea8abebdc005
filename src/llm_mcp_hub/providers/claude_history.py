"""A conversation as Claude's CLI reads and takes it: content blocks, and the transcript of a session it resumes. Pure.

The CLI resumes a session from a file of one JSON object a line, each naming the one before; it needs no more than
stands here (measured on CLI 2.1.330: 200 turns, all on the wire in order). The file is ours, the CLI does not write on.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_mcp_hub.conversation import Exchange, Part


def blocks(parts: Sequence[Part], prompt: str) -> list[dict[str, Any]]:
    """The content of a user's message: what is put before the prompt, then the prompt, untouched."""
    return [*(_block(part) for part in parts), {"type": "text", "text": prompt}]


def _block(part: Part) -> dict[str, Any]:
    if part.data is None:
        return {"type": "text", "text": part.shown}
    source = {"type": "base64", "media_type": part.mime_type, "data": base64.b64encode(part.data).decode()}
    return {"type": "document" if part.mime_type == "application/pdf" else "image", "source": source}


def transcript(turns: Sequence[Exchange], *, session: str, cwd: Path, provider: str) -> str:
    """The lines of a session in which these turns have been. An answer of another provider says whose it is."""
    lines: list[str] = []
    parent: str | None = None
    for turn in turns:
        answer = turn.answer if turn.provider == provider else f"[Answered by {turn.model}]\n{turn.answer}"
        said = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": turn.model,
            "content": [{"type": "text", "text": answer}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        for message in ({"role": "user", "content": blocks(turn.parts, turn.prompt)}, said):
            line: dict[str, Any] = {
                "type": message["role"],
                "uuid": str(uuid.uuid4()),
                "parentUuid": parent,
                "sessionId": session,
                "timestamp": turn.at,
                "isSidechain": False,
                "userType": "external",
                "cwd": str(cwd),
                "version": "2.1.330",
                "message": message,
            }
            parent = line["uuid"]
            lines.append(json.dumps(line) + "\n")
    return "".join(lines)
