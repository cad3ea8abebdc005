"""The TypeScript SDK's client against the hub: v1 (2025-11-25), which most programs have, and v2 (2026-07-28).

It gives a call up after 60 s, whatever comes, unless the program has progress reset that.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import GEMINI_SAYS, TOOLS, Served, reach
from tests.clients.programs import HERE, around, node
from tests.harness import DEADLINE_S
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

WAYS = [("v1", "stdio"), ("v1", "http"), ("v2", "stdio"), ("v2", "http")]
SLOW_SAYS = "An answer that took longer than the client's time-out."
PROGRESS_WANTED = 3
"""The hub tells of itself every 4 s: three times is longer than the program's time-out of 10 s."""


class Program:
    """`typescript.mjs`, from its start to its end. Every line that it tells is read as it comes."""

    def __init__(self, version: str, transport: str, served: Served, folder: Path) -> None:
        self.word = f"{version}-{transport}"
        self.may_end = threading.Event()
        """Set when the slow answer may come."""
        self.told: dict[str, Any] = {}
        self.progress: list[dict[str, Any]] = []
        self._words = [
            node(),
            str(HERE / "typescript.mjs"),
            version,
            self.word,
            json.dumps(reach(transport, served)),
        ]
        self._environment = around(folder / self.word)
        self.complaints = ""

    def run(self) -> None:
        with subprocess.Popen(
            self._words, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                what, value = json.loads(line)
                self.told[what] = value
                if what == "progress":
                    self.progress.append(value)
                    if value["told"] >= PROGRESS_WANTED:
                        self.may_end.set()
            self.complaints = process.stderr.read()
            process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def programs(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Program]]:
    """All four at once: most of what they do is to wait."""
    folder = tmp_path_factory.mktemp("typescript")
    started = {program.word: program for program in (Program(*way, served, folder) for way in WAYS)}

    def claude(received: Received) -> anthropic.Reply:
        word = "\n".join(anthropic.last_user_texts(received)).removeprefix("slow ")
        return anthropic.Answer(SLOW_SAYS, gate=started[word].may_end)

    def gemini(received: Received) -> google.Reply:
        return google.Hang() if "never" in "\n".join(google.prompt_texts(received)) else google.Answer(GEMINI_SAYS)

    served.world.claude.default = claude
    served.world.gemini.default = gemini
    with ThreadPoolExecutor(len(started)) as pool:
        ended = [pool.submit(program.run) for program in started.values()]
        for each in ended:
            each.result(4 * DEADLINE_S)
    yield started
    assert served.world.surprises == []


@pytest.fixture(params=WAYS, ids="-".join)
def program(request: pytest.FixtureRequest, programs: dict[str, Program]) -> Program:
    """Each of the four, when it has ended."""
    return programs["-".join(request.param)]


def test_it_finds_the_tools_and_gets_an_answer(program: Program) -> None:
    """In the newest era that its SDK knows."""
    assert program.told.get("closed"), program.complaints
    assert program.told["server"] == "llm-mcp-hub"
    assert program.told["era"] == ("2026-07-28" if program.word.startswith("v2") else None)
    assert program.told["tools"] == TOOLS
    answer = program.told["answer"]
    assert answer["content"][0] == {"type": "text", "text": GEMINI_SAYS}
    assert answer["_meta"]["llm-mcp-hub/answer"]["status"] == "completed"
    assert "structuredContent" not in answer


def test_progress_keeps_a_call_alive_beyond_its_time_out(program: Program) -> None:
    """With resetTimeoutOnProgress; each word of it tells more than the last one."""
    assert program.told["slow"]["content"][0]["text"] == SLOW_SAYS, program.complaints
    counted = [each["progress"] for each in program.progress]
    assert len(counted) >= PROGRESS_WANTED
    assert counted == sorted(set(counted))
    ask_id = program.told["slow"]["_meta"]["llm-mcp-hub/answer"]["ask_id"]
    assert all(ask_id in each["message"] for each in program.progress)


def test_an_error_says_as_data_what_it_is(program: Program) -> None:
    """`_meta` reaches the program, beside the text for a model."""
    error = program.told["error"]

    assert error["isError"] is True
    assert error["_meta"]["llm-mcp-hub/error"]["code"] == "invalid_request"
    assert error["_meta"]["llm-mcp-hub/error"]["action"]


def test_a_cancelled_call_is_cancelled_at_the_provider(program: Program, served: Served) -> None:
    """Over stdio and the older HTTP by its notification, in the newer era by the end of its stream."""

    def asked() -> list[Received]:
        return [
            received
            for received in served.world.gemini.generations
            if f"never {program.word}" in "\n".join(google.prompt_texts(received))
        ]

    assert "enough" in program.told["cancelled"], program.told["cancelled"]
    served.world.gemini.wait_until(lambda: [each.ended for each in asked()] == ["disconnected"], timeout=DEADLINE_S)
