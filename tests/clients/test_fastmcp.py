"""FastMCP's client against the hub, over stdio and HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import GEMINI_SAYS, TOOLS, Served, reach
from tests.clients.programs import HERE, PYTHON, around, run


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_it_lists_asks_and_knows_an_error(transport: str, hubs: Served, home: Path) -> None:
    """It raises for an error what a model would read, or hands it over with its data."""
    words = [str(PYTHON), str(HERE / "fastmcp_client.py"), json.dumps(reach(transport, hubs))]

    ended = run(words, around(home))

    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = dict(json.loads(line) for line in ended.stdout.splitlines())
    assert told["tools"] == TOOLS
    assert told["answer"] == [GEMINI_SAYS, GEMINI_SAYS]
    assert told["status"] == {"claude": "valid", "gemini": "valid"}
    assert told["raised"].startswith("invalid_request: ")
    assert told["error"] == "invalid_request"
    assert "Why?" in told["prompt"]
    assert "hub://tokens" in told["resources"]
