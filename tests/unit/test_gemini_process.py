"""One `gemini --acp` on its terminal: the traps of its start, and a CLI that talks nonsense. With a scripted child."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask, Exchange
from llm_mcp_hub.errors import HubError
from llm_mcp_hub.providers import gemini_home, gemini_process, gemini_sessions
from llm_mcp_hub.providers.base import Event, Finished, Text
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from llm_mcp_hub.providers.gemini_child import SESSION_TURNS
from llm_mcp_hub.providers.gemini_process import Process

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
FAKE = Path(__file__).parent / "fake_gemini.py"
MODEL = "gemini-2.5-pro"
ASK = Ask("ask_1", "gemini", "hello", MODEL, None, DEADLINE_S)


def reply(**result: Any) -> dict[str, Any]:
    return {"id": "same", "result": result}


def error(code: Any, message: Any) -> dict[str, Any]:
    return {"id": "same", "error": {"code": code, "message": message}}


def chunk(text: Any, session: Any = "s-1") -> dict[str, Any]:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    return {"method": "session/update", "params": {"sessionId": session, "update": update}}


END = reply(stopReason="end_turn", _meta={"quota": {"token_count": {"input_tokens": 3, "output_tokens": 2}}})
GOOD: dict[str, Any] = {
    "initialize": [reply(protocolVersion=1, agentInfo={"name": "gemini-cli", "version": "0.61.0"})],
    "session/new": [reply(sessionId="s-1", models={"availableModels": [{"modelId": MODEL}]})],
    "session/prompt": [chunk("Hello."), END],
}

Begin = Callable[[dict[str, Any]], Awaitable[Process]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncGenerator[Begin]:
    """Starts a process with a script; at the end none is left."""
    run = RunFolder(tmp_path / "state")
    made: list[Process] = []

    async def start(script: dict[str, Any]) -> Process:
        home = run.new_home("gemini")
        process = Process(run, home, "mark", MODEL)
        made.append(process)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
        await process.start([sys.executable, str(FAKE), json.dumps({**GOOD, **script})], environment, tmp_path)
        return process

    yield start
    for process in made:
        await process.close()
    assert [process for process in psutil.process_iter() if str(run.path) in _home(process)] == []
    run.close()


def _home(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("HOME", "")
    return ""


async def talk(process: Process, ask: Ask = ASK) -> list[Event]:
    """One ask, in the session that is there for it; an answered one is kept for the next turn."""
    async with asyncio.timeout(DEADLINE_S):
        session = await process.take_session(ask)
        async with contextlib.aclosing(process.converse(session, ask)) as events:
            said = [event async for event in events]
        process.sessions.keep(session, ask)
        return said


# -- the start ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deaf", [0, 3])
async def test_the_first_request_is_repeated_until_it_is_heard(begin: Begin, tmp_path: Path, deaf: int) -> None:
    """What is written before the CLI's reader is attached is lost without a trace."""
    process = await begin({"deaf": deaf})

    assert isinstance((await talk(process))[-1], Finished)
    assert (tmp_path / "heard").read_bytes().count(b'"initialize"') > deaf


async def test_a_home_that_cannot_be_written_any_more_is_told_as_such(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system has turned read-only between the layout and the start."""
    really_new = RunFolder.new_home

    def taken(run: RunFolder, name: str) -> Path:
        home = really_new(run, name)
        (home / "pid").mkdir()  # what root cannot write over
        return home

    monkeypatch.setattr(RunFolder, "new_home", taken)

    with pytest.raises(HubError) as told:
        await begin({})
    assert told.value.code == "misconfigured"
    assert "HUB_STATE_DIR" in told.value.action


async def test_what_cannot_be_removed_of_a_session_spoils_no_answer(begin: Begin) -> None:
    """It goes with the home."""
    process = await begin({})
    (process.home.path / ".gemini/tmp/x/chats/session-1-s-1.jsonl").mkdir(parents=True)

    process.home.forget("s-1")

    assert isinstance((await talk(process))[-1], Finished)


def test_a_home_that_is_gone_does_not_hide_why_its_cli_ended(tmp_path: Path) -> None:
    """Nobody can tell any more how full its disk is."""
    assert gemini_home.died_at_start(tmp_path / "gone").code == "upstream_error"


@pytest.mark.parametrize("pieces", [["\x1b[8m\x1b[c\x1b[2K\r\x1b[0m"], ["\x1b[8m\x1b[", "c\x1b[2K\r\x1b[0m"]], ids=len)
async def test_the_terminals_query_is_answered(begin: Begin, tmp_path: Path, pieces: list[str]) -> None:
    """Without the answer the CLI waits for a second at each start. It need not come in one piece."""
    await begin({"preamble": pieces})

    assert (tmp_path / "heard").read_bytes().startswith(b"\x1b[?62c{")


@pytest.mark.parametrize(
    "preamble",
    [
        "Please visit the following URL to authorize the application:\n\nhttps://x\n\nEnter the authorization code: ",
        "\x1b[c\x1b[0mEnter the authorization code: ",
        "Opening authentication page in your browser.\n",
    ],
)
async def test_nothing_is_sent_to_a_cli_that_asks_for_a_login(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preamble: str
) -> None:
    """It would take our line for an authorization code, and post it to Google."""
    monkeypatch.setattr(gemini_home, "DEBUG_LOG_S", 0.05)

    with pytest.raises(HubError) as raised:
        await begin({"preamble": preamble})

    assert raised.value.code == "auth_expired"
    heard = tmp_path / "heard"
    assert not heard.exists() or b"{" not in heard.read_bytes()


async def test_nothing_is_sent_before_the_terminals_preamble_ends(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a CLI that never gets so far is given up."""
    monkeypatch.setattr(gemini_process, "START_TIMEOUT_S", 0.5)

    with pytest.raises(HubError) as raised:
        await begin({"preamble": "\x1b[8mloading"})

    assert raised.value.code == "upstream_error"
    assert not (tmp_path / "heard").exists() or (tmp_path / "heard").read_bytes() == b""


def agent(info: Any) -> dict[str, Any]:
    return {"initialize": [{"id": "same", "result": {"protocolVersion": 1, "agentInfo": info}}]}


@pytest.mark.parametrize(
    "info",
    [None, [], "gemini-cli", {}, {"version": None}, {"version": "new"}, {"version": "0.60.9"}, {"version": [0, 61]}],
    ids=str,
)
async def test_a_cli_that_is_too_old_or_says_nothing_of_its_age_is_refused(begin: Begin, info: Any) -> None:
    """What was measured holds from 0.61 on."""
    with pytest.raises(HubError) as raised:
        await begin(agent(info))

    assert raised.value.code == "cli_missing"
    assert "npm install" in raised.value.action


@pytest.mark.parametrize("version", ["0.61.0", "0.62.0-nightly", "1.0"])
async def test_a_newer_cli_is_taken(begin: Begin, version: str) -> None:
    """It may bring changes, but the newest is what people have."""
    process = await begin(agent({"version": version}))

    assert isinstance((await talk(process))[-1], Finished)


# -- talk --------------------------------------------------------------------------------------------------------------

ANSWERED: dict[str, dict[str, Any]] = {
    "noise in between": {"session/prompt": ["a warning\n", chunk("Hel"), "\n\n{}\n[]\n", chunk("lo."), END]},
    "text for somebody else": {"session/prompt": [chunk("no", "s-2"), chunk("Hello."), END]},
    "an answer to nobody": {"session/prompt": [{"id": 4711, "result": {}}, chunk("Hello."), END, END]},
    "models that are none": {"session/new": [reply(sessionId="s-1", models="all")]},
    "a list of models that is none": {"session/new": [reply(sessionId="s-1", models={"availableModels": {"a": 1}})]},
    "models of another kind": {
        "session/new": [
            reply(sessionId="s-1", models={"availableModels": [None, 3, "x", {}, {"modelId": 5}, {"modelId": MODEL}]})
        ]
    },
}


@pytest.mark.parametrize("script", ANSWERED.values(), ids=ANSWERED)
async def test_what_is_not_about_an_ask_does_not_hinder_it(begin: Begin, script: dict[str, Any]) -> None:
    """A newer CLI may say more than we know."""
    events = await talk(await begin(script))

    end = events[-1]
    assert isinstance(end, Finished)
    assert end.text == "Hello."


FAILED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    # the script, our code, the partial text
    "no session": ({"session/new": [reply()]}, "upstream_error", None),
    "a session of another kind": ({"session/new": [reply(sessionId=7)]}, "upstream_error", None),
    "a session without a name": ({"session/new": [reply(sessionId="")]}, "upstream_error", None),
    "a session that is a list": ({"session/new": [{"id": "same", "result": []}]}, "upstream_error", None),
    "a session refused in no words": ({"session/new": [error(None, None)]}, "upstream_error", None),
    "dead at the session": ({"session/new": ["die"]}, "upstream_error", None),
    "dead at the prompt": ({"session/prompt": ["die"]}, "upstream_error", None),
    "dead in the middle": ({"session/prompt": [chunk("half an"), "die"]}, "upstream_error", "half an"),
    "dead in the middle of a line": (
        {"session/prompt": [chunk("half an"), '{"jsonrpc":"2.0","id":', "die"]},
        "upstream_error",
        "half an",
    ),
    "an end that is a list": ({"session/prompt": [chunk("x"), {"id": "same", "result": []}]}, "upstream_error", "x"),
    "an end of nonsense": (
        {"session/prompt": [chunk("x"), reply(stopReason=[1], _meta=[{"quota": 1}])]},
        "upstream_error",
        "x",
    ),
    "chunks of nonsense": ({"session/prompt": [chunk([1]), chunk(None), END]}, "upstream_error", None),
    "an error of nonsense": ({"session/prompt": [error("x", [1])]}, "upstream_error", None),
    "refused in the middle": ({"session/prompt": [chunk("half an"), error(401, "x")]}, "auth_rejected", "half an"),
    "forbidden in the middle": (
        {"session/prompt": [chunk("half an"), error(403, "x")]},
        "permission_denied",
        "half an",
    ),
}


@pytest.mark.parametrize(("script", "code", "partial"), FAILED.values(), ids=FAILED)
async def test_nonsense_is_a_coded_error(
    begin: Begin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: dict[str, Any],
    code: str,
    partial: str | None,
) -> None:
    """Whatever the CLI says or leaves unsaid, the ask ends, with a code and what had arrived."""
    monkeypatch.setattr(gemini_home, "DEBUG_LOG_S", 0.05)
    process = await begin(script)

    with pytest.raises(HubError) as raised:
        await talk(process)

    assert raised.value.code == code
    assert raised.value.action
    assert raised.value.partial_text == partial
    sent = (tmp_path / "heard").read_bytes().count(b'"session/prompt"')
    assert sent == (0 if "session/new" in script else 1)


async def test_a_silent_cli_is_given_up_and_gets_no_further_ask(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no time-out of its own."""
    monkeypatch.setattr(gemini_process, "CONTROL_TIMEOUT_S", 0.3)
    process = await begin({"session/new": []})

    with pytest.raises(HubError) as raised:
        await talk(process)

    assert raised.value.code == "upstream_error"
    assert process.worn_out


async def test_a_cli_that_was_silent_before_anybody_asked_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would live until the next ask, which may never come."""
    monkeypatch.setattr(gemini_process, "CONTROL_TIMEOUT_S", 0.3)
    command = tmp_path / "gemini"
    script = shlex.quote(json.dumps({**GOOD, "session/new": []}))
    command.write_text(f"#!/bin/sh\nexec {sys.executable} {FAKE} {script}\n")
    command.chmod(0o700)
    run = RunFolder(tmp_path / "state")
    provider = GeminiProvider(
        run=run,
        around={"PATH": os.environ["PATH"]},
        login=lambda: Login(b"{}", "mark"),
        default_model=MODEL,
        command=str(command),
    )
    try:
        error = await provider.warm()

        assert error is not None
        assert error.message == "Gemini's CLI did not answer within 0 s."
        async with asyncio.timeout(DEADLINE_S):
            while list(run.path.glob("gemini-*")):
                await asyncio.sleep(0.02)
        assert [process for process in psutil.process_iter() if str(run.path) in _home(process)] == []
    finally:
        provider.kill()
        await provider.close()
        run.close()


async def test_who_waits_behind_a_request_without_an_answer_is_told_with_it(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three sessions are opened at once: each three would wait as long again, and their asks for minutes."""
    monkeypatch.setattr(gemini_process, "CONTROL_TIMEOUT_S", 1.0)
    process = await begin({"session/new": []})

    ends = await asyncio.gather(*(talk(process) for _ in range(12)), return_exceptions=True)

    assert (tmp_path / "heard").read_bytes().count(b'"session/new"') == gemini_process.OPENING_AT_ONCE
    assert [getattr(end, "message", end) for end in ends] == ["Gemini's CLI did not answer within 1 s."] * 12


async def test_who_waits_for_the_reason_of_a_refusal_keeps_no_other_from_asking(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The CLI writes it down a little later, or never."""
    monkeypatch.setattr(gemini_home, "DEBUG_LOG_S", DEADLINE_S)
    process = await begin({"session/new": [error(-32000, "Request failed")]})
    asks = [asyncio.create_task(talk(process)) for _ in range(2 * gemini_process.OPENING_AT_ONCE)]

    async with asyncio.timeout(DEADLINE_S / 2):
        while (tmp_path / "heard").read_bytes().count(b'"session/new"') < len(asks):
            await asyncio.sleep(0.02)

    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)


async def test_without_a_free_descriptor_a_session_is_let_go_of_all_the_same(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ask that ends just then has another error to tell."""
    process = await begin({})
    log = gemini_home.debug_file(process.home.path)
    log.write_text("what was said")

    def full(*_arguments: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "scandir", full)
    process.home.forget("s-1")

    assert log.read_text() == ""


async def test_a_line_without_an_end_ends_the_cli(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it would be kept: the hub would grow until the machine has no memory left."""
    monkeypatch.setattr(gemini_process, "LONGEST_LINE", 1 << 12)
    process = await begin({"session/prompt": [chunk("A"), "x" * 20_000]})

    with pytest.raises(HubError) as raised:
        await talk(process)

    assert (raised.value.code, raised.value.partial_text) == ("upstream_error", "A")
    assert process.worn_out


async def test_a_cli_whose_home_was_removed_gets_no_further_ask(begin: Begin, tmp_path: Path) -> None:
    """It would refuse every session, as if the request were at fault (measured)."""
    process = await begin({})
    assert not process.worn_out
    tmp_path.rename(tmp_path.with_name("away"))

    worn_out = process.worn_out

    tmp_path.with_name("away").rename(tmp_path)
    assert worn_out


async def test_the_agent_is_refused_what_it_asks_for(begin: Begin) -> None:
    """A permission in the middle of an answer: cancelled at once, and the answer goes on."""
    asks: dict[str, Any] = {"id": 99, "method": "session/request_permission", "params": {"options": []}}
    process = await begin({"session/prompt": [asks, "wait", END]})

    *_, heard, _ = await talk(process)

    assert isinstance(heard, Text)
    assert json.loads(heard.piece) == {"jsonrpc": "2.0", "id": 99, "result": {"outcome": {"outcome": "cancelled"}}}


@pytest.mark.parametrize("listens", [True, False])
async def test_a_cancelled_ask_is_quiet_or_its_process_is_gone(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """A CLI that answers the cancel serves on; one that does not is ended rather than left answering."""
    monkeypatch.setattr(gemini_process, "CANCEL_S", DEADLINE_S if listens else 0.2)
    script = {"session/prompt": [chunk("half an"), *(["wait", reply(stopReason="cancelled")] if listens else [])]}
    process = await begin(script)
    async with asyncio.timeout(DEADLINE_S):
        events = process.converse(await process.take_session(ASK), ASK)
        first = [event async for event in _until_text(events)]
        await events.aclose()

    assert first[-1] == Text("half an")
    assert process.ended is not listens
    assert process.worn_out is not listens


async def test_an_ask_that_is_cancelled_while_it_is_made_quiet_leaves_no_process(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deadline has passed, and its caller leaves while the CLI is told: who would hear that it did not listen?"""
    monkeypatch.setattr(gemini_process, "CANCEL_S", DEADLINE_S)
    process = await begin({"session/prompt": [chunk("half an")]})
    async with asyncio.timeout(DEADLINE_S):
        events = process.converse(await process.take_session(ASK), ASK)
        assert [event async for event in _until_text(events)]
        closing = asyncio.ensure_future(events.aclose())
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    assert process.ended
    assert process.worn_out


async def test_a_process_that_does_not_listen_is_left_to_the_other_asks(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending it would end their answers too: it gets no further ask, and goes with the last of them."""
    monkeypatch.setattr(gemini_process, "CANCEL_S", 0.2)
    process = await begin({"session/prompt": [chunk("half an")]})
    process.active = 2
    async with asyncio.timeout(DEADLINE_S):
        events = process.converse(await process.take_session(ASK), ASK)
        assert [event async for event in _until_text(events)]
        await events.aclose()

    assert not process.ended
    assert process.worn_out


# -- kept sessions -----------------------------------------------------------------------------------------------------

EACH: dict[str, Any] = {
    "session/new": [reply(sessionId="next", models={"availableModels": [{"modelId": MODEL}]})],
    "session/prompt": [chunk("Hello.", "same"), END],
}
"""A CLI whose sessions differ."""
ONE, TWO, THREE = "s-000001", "s-000002", "s-000003"


def first_turn(conversation: str, number: int = 1) -> Ask:
    return replace(ASK, ask_id=f"ask_{conversation}_{number}", conversation_id=conversation)


def next_turn(ask: Ask) -> Ask:
    """The turn after this one was answered."""
    answered = Exchange(
        ask_id=ask.ask_id,
        provider="gemini",
        model=MODEL,
        prompt=ask.prompt,
        answer="Hello.",
        at="2026-11-24T00:00:00.000Z",
    )
    number = len(ask.history) + 2
    return replace(ask, ask_id=f"ask_{ask.conversation_id}_{number}", history=(*ask.history, answered))


def used(tmp_path: Path) -> list[str]:
    """The session of each prompt, in order."""
    lines = (tmp_path / "heard").read_bytes().split(b"\n")
    sent = [json.loads(line[line.find(b"{") :]) for line in lines if b'"session/prompt"' in line]
    return [message["params"]["sessionId"] for message in sent]


def blocks_of_last(tmp_path: Path) -> list[str]:
    """The text blocks of the last prompt."""
    line = [line for line in (tmp_path / "heard").read_bytes().split(b"\n") if b'"session/prompt"' in line][-1]
    return [block["text"] for block in json.loads(line[line.find(b"{") :])["params"]["prompt"]]


def written(tmp_path: Path) -> set[str]:
    """The sessions of which the CLI's home still holds what was said."""
    return {file.stem[-8:] for file in (tmp_path / "state").glob("run/*/gemini-*/.gemini/tmp/*/chats/session-*.jsonl")}


async def test_the_next_turn_goes_on_in_the_session_of_the_one_before(begin: Begin, tmp_path: Path) -> None:
    """It has seen the conversation: the prompt alone is sent."""
    process = await begin(EACH)
    first = first_turn("conv")

    await talk(process, first)
    await talk(process, replace(next_turn(first), prompt="And now?"))

    assert used(tmp_path) == [ONE, ONE]
    assert blocks_of_last(tmp_path) == ["And now?"]


async def test_a_session_that_missed_a_turn_is_not_used_again(begin: Begin, tmp_path: Path) -> None:
    """Another hub, or the other provider, answered in between: a new session is told all of it, the old one goes."""
    process = await begin(EACH)
    first = first_turn("conv")
    second = next_turn(first)  # answered elsewhere
    await talk(process, first)

    await talk(process, next_turn(second))

    assert used(tmp_path) == [ONE, TWO]
    assert blocks_of_last(tmp_path).count("The user asked:\n") == 2
    assert written(tmp_path) == {TWO}


async def test_a_session_is_not_used_for_a_beginning_of_the_same_name(begin: Begin, tmp_path: Path) -> None:
    """A conversation that was deleted and one without turns yet: what the session has seen does not belong there."""
    process = await begin(EACH)

    await talk(process, first_turn("conv"))
    await talk(process, first_turn("conv", 7))

    assert used(tmp_path) == [ONE, TWO]
    assert written(tmp_path) == {TWO}


async def test_conversations_have_sessions_of_their_own(begin: Begin, tmp_path: Path) -> None:
    """Each goes on where it was, whatever came in between."""
    process = await begin(EACH)
    one, two = first_turn("conv-one"), first_turn("conv-two")

    for ask in (one, two, next_turn(two), next_turn(one)):
        await talk(process, ask)

    assert used(tmp_path) == [ONE, TWO, TWO, ONE]


async def test_a_session_is_in_one_hand(begin: Begin, tmp_path: Path) -> None:
    """Two turns that both follow the same one: the second must not find the session that the first has taken."""
    process = await begin(EACH)
    first = first_turn("conv")
    await talk(process, first)

    async with asyncio.timeout(DEADLINE_S):
        taken = [(await process.take_session(next_turn(first))).id for _ in range(2)]

    assert taken == [ONE, TWO]


async def test_an_ask_without_a_conversation_keeps_nothing(begin: Begin, tmp_path: Path) -> None:
    """Nobody can come back to it: what was said is removed at once."""
    process = await begin(EACH)

    await talk(process)

    assert used(tmp_path) == [ONE]
    assert written(tmp_path) == set()


async def test_a_session_answers_a_bounded_number_of_turns(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLI counts a session's exchanges and refuses beyond its limit: before that, a new one begins with it all."""
    monkeypatch.setattr(gemini_sessions, "KEPT_TURNS", 2)
    process = await begin(EACH)
    ask = first_turn("conv")

    for _ in range(5):
        await talk(process, ask)
        ask = next_turn(ask)

    assert used(tmp_path) == [ONE, ONE, TWO, TWO, THREE]
    assert blocks_of_last(tmp_path).count("The user asked:\n") == 4
    assert written(tmp_path) == {THREE}


def test_a_session_is_turned_over_before_the_cli_refuses() -> None:
    """Each turn is one exchange at least, and one may be spent on a tool that there is not."""
    assert gemini_sessions.KEPT_TURNS < SESSION_TURNS


async def test_an_old_session_is_not_used_again(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept has an end; the conversation has not."""
    monkeypatch.setattr(gemini_sessions, "KEPT_S", 0.0)
    process = await begin(EACH)
    first = first_turn("conv")

    await talk(process, first)
    await talk(process, next_turn(first))

    assert used(tmp_path) == [ONE, TWO]
    assert written(tmp_path) == {TWO}


async def test_a_session_that_nobody_comes_back_to_is_forgotten(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked any more, and what was said is removed all the same."""
    monkeypatch.setattr(gemini_sessions, "KEPT_S", 0.05)
    process = await begin(EACH)
    await talk(process, first_turn("one"))
    await talk(process, first_turn("two"))
    gone = asyncio.Event()

    def look() -> None:
        gone.set() if not written(tmp_path) else asyncio.get_running_loop().call_later(0.01, look)

    look()
    async with asyncio.timeout(DEADLINE_S):
        await gone.wait()

    assert used(tmp_path) == [ONE, TWO]


async def test_a_bounded_number_of_sessions_is_kept(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversation that nobody has gone on with for longest loses its session, and what it wrote."""
    monkeypatch.setattr(gemini_sessions, "KEPT", 2)
    process = await begin(EACH)
    one, two, three = first_turn("one"), first_turn("two"), first_turn("three")
    await talk(process, one)
    await talk(process, two)
    await talk(process, next_turn(one))

    await talk(process, three)

    assert written(tmp_path) == {ONE, THREE}
    async with asyncio.timeout(DEADLINE_S):
        kept = await process.take_session(next_turn(next_turn(one)))
    assert kept.id == ONE


async def test_what_a_forgotten_session_wrote_is_removed(begin: Begin, tmp_path: Path) -> None:
    """A turn that failed is not in the transcript, so its session must not go on, nor its file stay."""
    process = await begin(EACH)
    first = first_turn("conv")
    await talk(process, first)
    async with asyncio.timeout(DEADLINE_S):
        session = await process.take_session(next_turn(first))
    assert written(tmp_path) == {ONE}

    process.sessions.forget(session)

    assert written(tmp_path) == set()
    await talk(process, next_turn(first))
    assert used(tmp_path) == [ONE, TWO]


async def _until_text(events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    async for event in events:
        yield event
        if isinstance(event, Text):
            return
