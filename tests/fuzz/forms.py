"""What is common to several of these targets: a private folder, cuts, and the forms of inputs."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llm_mcp_hub.conversation import Ask, Exchange
from tests.fuzz.engine import CANARY
from tests.unit.strategies import any_json

FAILED = frozenset(
    {
        *("auth_expired", "auth_rejected", "permission_denied", "account_ineligible", "quota_exhausted", "timeout"),
        *("rate_limited", "model_unavailable", "upstream_error", "invalid_request", "refused", "billing_blocked"),
        *("misconfigured", "cli_missing"),
    }
)
"""Codes that a provider's failure may have."""


def an_ask(prompt: str = CANARY, system: str | None = None, turns: tuple[Exchange, ...] = ()) -> Ask:
    """A question of nobody in particular."""
    return Ask("ask_1", "gemini", prompt, "gemini-2.5-pro", system, 60.0, history=turns)


def cut(data: bytes, cuts: bytes) -> list[bytes]:
    """The same bytes in pieces; where, the bytes of `cuts` say."""
    at = sorted({0, len(data), *(number * len(data) // 256 for number in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=3)
TOKEN = f"sk-ant-oat01-{CANARY}-" + "a" * 80
CUTS = st.binary(max_size=6)


@cache
def folder() -> Path:
    """Where all of it happens; gone when the program ends."""
    kept = tempfile.TemporaryDirectory(prefix="fuzz-")
    KEPT.append(kept)
    return Path(kept.name)


KEPT: list[tempfile.TemporaryDirectory[str]] = []


def placed(name: str, content: bytes) -> Path:
    """A file of that content."""
    file = folder() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as written:
        written.write(content)
    return file


def written_down(value: Any) -> bytes:
    """Bytes as they are, anything else as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


BYTES = st.one_of(st.binary(max_size=60), any_json().map(written_down))
