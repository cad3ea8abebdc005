"""Faults of those who come over HTTP: too slow, too large, gone in the middle, from elsewhere, with what is not theirs.

Each must be told so, and nobody else may feel it: while it lasts, another client is answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from tests.faults.stage import MIB, Stage
from tests.faults.table import ANSWERED, Fault, Got, Strike
from tests.guarantees.drill import PROVIDERS
from tests.guarantees.raw import Talk, request
from tests.guarantees.replicas import Wire
from tests.harness import DEADLINE_S, run_command

OTHERS = "another client"


def port(stage: Stage) -> int:
    return int(stage.hub.url.split(":")[2].split("/")[0])


def client(stage: Stage, name: str = "alice", *, era: Any = "auto") -> Wire:
    return Wire(era, token=stage.tokens[name])


def bearer(stage: Stage, name: str = "alice") -> tuple[str, str]:
    return "Authorization", f"Bearer {stage.tokens[name]}"


def sends(of: Callable[[Stage], bytes], expected: str) -> tuple[Strike, dict[str, str]]:
    """These bytes on a connection of their own; what must come back."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        with Talk(port(stage)) as talk:
            sender = talk.send_meanwhile(of(stage))
            heard = talk.hear(1)
            got: Got = {"the request": f"HTTP {heard.last.status}", OTHERS: stage.ask("gemini")["gemini"]}
            stage.search.look("a response", heard.last.body + repr(heard.last.headers).encode())
            talk.socket.close()
            sender.join(DEADLINE_S)
        yield got

    return strike, {"the request": expected, OTHERS: ANSWERED}


def holds(of: Callable[[Stage], bytes], times: int = 1) -> tuple[Strike, dict[str, str]]:
    """So many connections stay open and have sent only this; others are answered meanwhile."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        talks = [Talk(port(stage)) for _ in range(times)]
        try:
            for talk in talks:
                talk.send(of(stage))
            yield {OTHERS: stage.ask("gemini")["gemini"]}
        finally:
            for talk in talks:
                talk.socket.close()

    return strike, {OTHERS: ANSWERED}


def post(stage: Stage, *more: tuple[str, str], host: str = "localhost", body: bytes = b"", token: bool = True) -> bytes:
    own = [bearer(stage)] if token else []
    told = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    return request("POST", "/mcp", *own, *told, ("MCP-Protocol-Version", "2026-07-28"), *more, host=host, body=body)


@contextmanager
def hangs_up(stage: Stage) -> Generator[Got]:
    """The newer era: a stream that is closed calls its ask off, at both providers."""
    calls = stage.mid_answer()
    since = {provider: len(stage.log.found("ask cancelled", provider=provider)) for provider in PROVIDERS}
    for call in calls.values():
        call.hang_up()
    for provider in PROVIDERS:
        stage.log.wait_for("ask cancelled", provider=provider, more_than=since[provider])
        stage.world.upstream(provider).wait_until_quiet(timeout=DEADLINE_S)
    stage.replies.clear()
    yield dict.fromkeys(PROVIDERS, "cancelled")


@contextmanager
def lost_in_the_older_era(stage: Stage) -> Generator[Got]:
    """A lost connection only detaches: the ask goes on, and its answer is fetched by who comes back."""
    wire = client(stage, era="legacy").greet(port(stage))
    before = len(stage.log.found("ask started", provider="gemini"))
    answered = len(stage.log.found("ask answered", provider="gemini"))
    call = wire.call(port(stage), "ask_gemini", prompt=f"{stage['prompt']} detached")
    stage.log.wait_for("ask started", provider="gemini", more_than=before)
    call.hang_up()
    stage.log.wait_for("ask answered", provider="gemini", more_than=answered)
    told = client(stage).call(port(stage), "ask_result").result()
    assert told.meta is not None
    (newest, *_) = told.meta["llm-mcp-hub/asks"]
    yield {"gemini": "detached" if newest["status"] == "completed" else newest["status"]}


def large_prompt(stage: Stage) -> Got:
    """5 MiB of a prompt: more than an ask may have, less than a body may."""
    told = client(stage).call(port(stage), "ask_claude", prompt="x" * (5 * MIB)).result()
    assert told.meta is not None
    return {"the request": told.meta["llm-mcp-hub/error"]["code"]}


def deep(_stage: Stage) -> bytes:
    return b"[" * 100_000


def revoked(stage: Stage) -> Got:
    """A client that is taken its right while the hub runs."""
    wire = client(stage, "gone")
    listing = wire.message("tools/list", {}, number=1)
    first, _, _ = wire.send(port(stage), listing)
    if first == 200:
        assert run_command(stage.world, "client", "revoke", "gone").returncode == 0
    while (status := wire.send(port(stage), listing)[0]) == 200:  # by its beat the hub reads the file again
        pass
    return {"the request": f"HTTP {status}"}


def foreign_session(stage: Stage) -> Got:
    """Another client comes with a session that it has seen."""
    owner = client(stage, era="legacy").greet(port(stage))
    thief = client(stage, "bob", era="legacy")
    thief.session = owner.session
    status, _, _ = thief.send(port(stage), thief.message("tools/list", {}, number=1))
    return {"the request": f"HTTP {status}"}


def ended_session(stage: Stage) -> Got:
    """A session that has ended is used again."""
    wire = client(stage, era="legacy").greet(port(stage))
    assert wire.send(port(stage), method="DELETE")[0] == 200
    status, _, _ = wire.send(port(stage), wire.message("tools/list", {}, number=1))
    return {"the request": f"HTTP {status}"}


def foreign_ask(stage: Stage) -> Got:
    """Another client replays the handle of an ask."""
    own = client(stage).call(port(stage), "ask_gemini", prompt=f"{stage['prompt']} mine?").result()
    assert own.meta is not None
    handle = own.meta["llm-mcp-hub/answer"]["ask_id"]
    told = client(stage, "bob").call(port(stage), "ask_result", ask_id=handle).result()
    stage.search.look("another's result", told.model_dump_json())
    assert told.meta is not None
    return {"the request": told.meta["llm-mcp-hub/error"]["code"]}


def does(work: Callable[[Stage], Got]) -> Strike:
    """Something that is over when it has been told."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        yield work(stage)

    return strike


def fault(name: str, strike: Strike, expected: dict[str, Any]) -> Fault:
    return Fault(name, "http", "guarded", strike, expected)


def said(name: str, of: Callable[[Stage], bytes], expected: str) -> Fault:
    return fault(name, *sends(of, expected))


FAULTS = [
    fault("a slow head", *holds(lambda stage: b"POST /mcp HTTP/1.1\r\nHost: localh")),
    fault("a body that never comes", *holds(lambda stage: post(stage, ("Content-Length", "5000")))),
    fault("200 connections that do nothing", *holds(lambda stage: b"", 200)),
    fault("hangs up in the middle of its stream", hangs_up, dict.fromkeys(PROVIDERS, "cancelled")),
    fault("the connection is lost, older era", lost_in_the_older_era, {"gemini": "detached"}),
    fault("a prompt of 5 MiB", does(large_prompt), {"the request": "invalid_request"}),
    said("a body of 100 MiB", lambda stage: post(stage, ("Content-Length", str(100 * MIB))), "HTTP 413"),
    said("JSON of 100,000 levels", lambda stage: post(stage, body=deep(stage)), "HTTP 400"),
    said(
        "half of a JSON body", lambda stage: post(stage, body=json.dumps({"jsonrpc": "2.0"}).encode()[:-4]), "HTTP 400"
    ),
    said("a host's name that is not the hub's", lambda stage: post(stage, host="evil.example"), "HTTP 421"),
    said("a page from elsewhere", lambda stage: post(stage, ("Origin", "https://evil.example")), "HTTP 403"),
    said("no token", lambda stage: post(stage, token=False), "HTTP 401"),
    said(
        "a wrong token",
        lambda stage: post(stage, ("Authorization", "Bearer llmhub_" + "A" * 43), token=False),
        "HTTP 401",
    ),
    fault("a token that is revoked", does(revoked), {"the request": "HTTP 401"}),
    fault("another's session", does(foreign_session), {"the request": "HTTP 404"}),
    fault("a session that has ended", does(ended_session), {"the request": "HTTP 404"}),
    fault("another's ask", does(foreign_ask), {"the request": "not_found"}),
]
