"""Failures at the providers, provoked at the stand-ins: each arrives as the right code with one next step.

A row is a situation: what the stand-in does, and what the caller must be told. The rows of one provider go through
one warm hub, as they do in life, so a failure that spoils the hub for the next ask shows in the rows after it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp_types import CallToolResult

from tests.harness import (
    DEADLINE_S,
    TOKEN,
    Line,
    World,
    answer_of,
    error_of,
    make_world,
    open_line,
    own_commands,
    texts_of,
)
from tests.protocol.conftest import CANARY
from tests.upstreams import anthropic as claude
from tests.upstreams import google
from tests.upstreams.anthropic import last_user_texts
from tests.upstreams.google import UNSUPPORTED_CLIENT_TEXT, Account, OAuth, write_login
from tests.upstreams.loopback import Received

PROMPT = f"What does the {CANARY} eat?"
QUOTED = (
    f"{PROMPT} Not logged in. Request timed out. invalid_grant; permission; UNAUTHENTICATED; no capacity; daily quota; "
    "Requested entity was not found; verify your account; service_disabled; numeric project; reset after 9h"
)
"""Text of the caller's that an API may quote in its complaint: it must neither be shown nor decide anything."""


@dataclass(frozen=True)
class Told:
    """What the caller must be told of a failure."""

    code: str
    message: str
    """A part of the sentence that says what happened."""
    action: str
    """A part of the next step."""
    retryable: bool = False
    retry_after_s: tuple[float, float] | None = None
    """At least and at most; None: it must not be told, for nobody knows."""
    partial_text: str | None = None


def check(result: CallToolResult, told: Told, provider: str) -> dict[str, Any]:
    """The error is the expected one, and what is shown of it holds neither the prompt nor a credential."""
    error = error_of(result)

    assert error["code"] == told.code, error
    assert told.message in error["message"], error
    assert told.action in error["action"], error
    assert error["retryable"] is told.retryable, error
    assert error["partial_text"] == told.partial_text, error
    assert error["provider"] == provider
    if told.code == "busy":  # it was never accepted, so there is nothing to come back for
        assert error["ask_id"] is None
    else:
        assert error["ask_id"].startswith("ask_")
    if told.retry_after_s is None:
        assert error["retry_after_s"] is None, error
    else:
        least, most = told.retry_after_s
        assert least <= error["retry_after_s"] <= most, error
    assert set(re.findall(r"llm-mcp-hub (\w+)", error["action"])) <= own_commands(), error
    assert texts_of(result)[1:] == ([] if told.partial_text is None else [told.partial_text])
    assert result.structured_content is None
    seen = result.model_dump_json(by_alias=True)
    for secret in (CANARY, TOKEN, "made-up-access", "made-up-refresh", "invalid_grant"):
        assert secret not in seen
    return error


# Claude -------------------------------------------------------------------------------------------------------------

NEW_TOKEN = "llm-mcp-hub login claude"
NEW_LOGIN = "llm-mcp-hub login gemini"
HOUR_S = 3600.0

CLAUDE: dict[str, tuple[claude.Reply | Callable[[], claude.Reply], Told]] = {
    # what is answered to every request, made anew each time where it holds a moment -> what the caller is told
    "401": (claude.Error.unauthorized(), Told("auth_rejected", "refused the token", NEW_TOKEN)),
    "403 revoked": (claude.Error.revoked(), Told("auth_rejected", "refused the token", NEW_TOKEN)),
    "403 organisation": (claude.Error.org_not_allowed(), Told("permission_denied", "organisation", "administrator")),
    "429 of the 5-hour window": (
        lambda: claude.Error.quota("5-hour"),
        Told("quota_exhausted", "5-hour limit", "after the reset", True, (1.9 * HOUR_S, 2 * HOUR_S)),
    ),
    "429 of the week": (
        lambda: claude.Error.quota("weekly"),
        Told("quota_exhausted", "weekly limit", "after the reset", True, (71.9 * HOUR_S, 72 * HOUR_S)),
    ),
    "429 of one model": (
        lambda: claude.Error.quota("opus"),
        Told("quota_exhausted", "Opus limit", "another model (sonnet,", True, (71.9 * HOUR_S, 72 * HOUR_S)),
    ),
    "429 of the moment": (
        claude.Error.rate_limited(),
        Told("rate_limited", "limiting requests", "Try again", True, (1, 60)),
    ),
    "400 credit": (claude.Error.credit_balance(), Told("billing_blocked", "credit balance", NEW_TOKEN)),
    "404 model": (claude.Error.model_not_found(), Told("model_unavailable", "sonnet", "one of: opus, haiku, fable.")),
    "400 too long": (claude.Error.prompt_too_long(), Told("invalid_request", "longer", "Shorten")),
    "400 other": (claude.Error.bad_request(), Told("invalid_request", "refused the request", "Change")),
    "400 that quotes the caller": (
        claude.Error.bad_request(f"messages.0: {QUOTED}"),
        Told("invalid_request", "refused the request", "Change"),
    ),
    "413": (claude.Error.too_large(), Told("invalid_request", "larger", "Shorten")),
    "500": (claude.Error.server_error(), Told("upstream_error", "HTTP 500", "again", True)),
    "500 that quotes the caller": (
        claude.Error(500, "api_error", f"Could not answer {QUOTED}"),
        Told("upstream_error", "HTTP 500", "again", True),
    ),
    "503": (claude.Error.server_error(503), Told("upstream_error", "HTTP 503", "again", True)),
    "529": (claude.Error.overloaded(), Told("upstream_error", "overloaded", "again", True, (1, 600))),
    "overloaded in the stream": (
        claude.StreamError("Well, "),
        Told("upstream_error", "overloaded", "again", True, (1, 600), "Well, "),
    ),
    "refusal": (claude.Answer.refusal(), Told("refused", "declined", "differently")),
    "refusal after text": (claude.Answer.refusal("I would"), Told("refused", "declined", "differently")),
    "length limit": (
        claude.Answer.cut_short("And so on. "),
        Told("upstream_error", "length limit", "shorter", True, None, "And so on. " * 4),
    ),
    "connection reset": (claude.Reset(), Told("upstream_error", "connection to Claude broke", "again", True)),
    "connection cut": (claude.Cut(), Told("upstream_error", "connection to Claude broke", "again", True)),
    "malformed": (claude.Malformed(), Told("upstream_error", "could not be read", "again", True)),
    "no text": (claude.Answer(""), Told("upstream_error", "no text", "again", True)),
    "a tool call": (claude.ToolCall("Bash", {"command": "id"}), Told("upstream_error", "tool", "text only", True)),
}


def _scripted_by_prompt(received: Received) -> claude.Reply:
    # Looked for in the whole conversation: the CLI goes on by itself after some failures, with a text of its own.
    conversation = json.dumps(received.json["messages"])
    [reply] = [script for row, (script, _) in CLAUDE.items() if f'"{row}: {PROMPT}' in conversation]
    return reply() if callable(reply) else reply


LIMITS = ("429 of the 5-hour window", "429 of the week", "429 of one model")
"""What stops every ask that waits: no more of them than there are places, at a hub of their own."""


@pytest.fixture(scope="module")
def claude_failures(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Future[CallToolResult]]]:
    """All rows asked for at once: most of them wait, for the CLI asks again a little later."""
    asked: dict[str, Future[CallToolResult]] = {}
    with ExitStack() as stack:
        used: list[tuple[World, Line]] = []
        for rows in (LIMITS, [row for row in CLAUDE if row not in LIMITS]):
            world = stack.enter_context(make_world(tmp_path_factory.mktemp("failures")))
            line = stack.enter_context(open_line(world, "stdio", "auto"))
            world.claude.default = _scripted_by_prompt
            used.append((world, line))
            asked |= {row: line.begin("ask_claude", {"prompt": f"{row}: {PROMPT}", "wait_s": 600}) for row in rows}
        yield asked
        for world, line in used:
            assert world.surprises == []
            assert CANARY not in line.log
            assert TOKEN not in line.log


@pytest.mark.parametrize("row", CLAUDE)
def test_a_failure_at_claude_is_told_as_what_it_is(
    claude_failures: dict[str, Future[CallToolResult]], row: str
) -> None:
    """Each way in which Claude's API can fail has its code, its next step and what is known of when to come back."""
    _, told = CLAUDE[row]

    check(claude_failures[row].result(DEADLINE_S), told, "claude")


# Gemini -------------------------------------------------------------------------------------------------------------

OTHERS = "gemini-3-pro-preview"
"""One of the models that the CLI offers beside the one that is asked."""

GEMINI: dict[str, tuple[google.Script, Told]] = {
    # what is answered to the one request -> what the caller is told
    "401": (google.Error.unauthenticated(), Told("auth_rejected", "access token", NEW_LOGIN)),
    "403": (google.Error.permission_denied(), Told("permission_denied", "does not allow", "licence")),
    "403 API switched off": (
        google.Error.service_disabled("p-1"),
        Told("permission_denied", "switched off", "cloudaicompanion.googleapis.com/overview?project=p-1"),
    ),
    "403 verify first": (google.Error.validation_required(), Told("account_ineligible", "verified", "`gemini`")),
    "403 that quotes the caller": (
        google.Error(403, "PERMISSION_DENIED", f"Not to be asked: {PROMPT}"),
        Told("permission_denied", "does not allow", "licence"),
    ),
    "404 model": (google.Error.model_not_found(), Told("model_unavailable", "gemini-2.5-pro", OTHERS)),
    "400": (google.Error.invalid_argument(), Told("invalid_request", "refused the request", "Change")),
    "400 that quotes the caller": (
        google.Error(400, "INVALID_ARGUMENT", f"Unreadable: {QUOTED}"),
        Told("invalid_request", "refused the request", "Change"),
    ),
    "500": (google.Error.internal(), Told("upstream_error", "HTTP 500", "again", True)),
    "500 that quotes the caller": (
        google.Error(500, "INTERNAL", f"Broke at: {QUOTED}"),
        Told("upstream_error", "HTTP 500", "again", True),
    ),
    "503": (google.Error.unavailable(), Told("upstream_error", "HTTP 503", "again", True)),
    "429 of the day": (
        google.Error.daily_quota(),
        Told("quota_exhausted", "used up", "another Gemini model", True),
    ),
    "429 for hours": (
        google.Error.quota_exhausted(),
        Told("quota_exhausted", "another 5 h 12 min", "another Gemini model", True, (18723, 18724)),
    ),
    "429 for seconds": (google.Error.rate_limited(2), Told("rate_limited", "moment", "again", True, (1, 3))),
    "429 without details": (
        google.Error.exhausted_without_details(),
        Told("rate_limited", "moment", "again", True, (1, 60)),
    ),
    "429 no capacity": (google.Error.no_capacity(), Told("model_unavailable", "no capacity", OTHERS)),
    "malformed": (google.Malformed(), Told("upstream_error", "no text", "again", True)),
    "malformed after text": (
        google.Malformed("The half"),
        Told("upstream_error", "broke off", "again", True, None, "The half"),
    ),
    "no finish": (
        google.NoFinish("Without an end"),
        Told("upstream_error", "broke off", "again", True, None, "Without an end"),
    ),
    "empty": (google.Empty(), Told("upstream_error", "no text", "again", True)),
    "safety": (google.Safety(), Told("upstream_error", "filter", "differently", True)),
    "connection cut": (
        google.Cut("The beginning"),
        Told("upstream_error", "connection to Gemini broke", "again", True, None, "The beginning"),
    ),
    "connection reset": (google.Reset(), Told("upstream_error", "connection to Gemini broke", "again", True)),
}


@pytest.mark.parametrize("row", GEMINI)
def test_a_failure_at_gemini_is_told_as_what_it_is(one_line: Line, warm: World, row: str) -> None:
    """Each way in which Code Assist can fail has its code, its next step and what is known of when to come back."""
    warm.gemini.default, told = GEMINI[row]  # also where the hub tries again

    check(one_line.call("ask_gemini", {"prompt": PROMPT}), told, "gemini")


def test_a_model_that_the_account_is_not_offered_is_refused_with_the_known_list(one_line: Line, warm: World) -> None:
    """The CLI would send any name; the hub compares it with the account's list, so no quota is spent on a guess."""
    before = warm.prompts_received("gemini")

    result = one_line.call("ask_gemini", {"prompt": PROMPT, "model": "gemini-9-ultra"})

    check(result, Told("model_unavailable", "gemini-9-ultra", "gemini-2.5-pro"), "gemini")
    assert warm.prompts_received("gemini") == before


# Over every way -----------------------------------------------------------------------------------------------------


def test_every_failure_of_gemini_reads_the_same_over_every_way(line: Line, warm: World) -> None:
    """Transport and protocol era change nothing of code, next step, hint and partial text. All rows are asked at once,
    but for used-up quotas: those are remembered, and told to whoever asks after them."""
    limits = [row for row, (_, told) in GEMINI.items() if told.code == "quota_exhausted"]
    others = [row for row in GEMINI if row not in limits]

    def scripted_by_prompt(received: Received) -> google.Reply:
        [reply] = [GEMINI[row][0] for row in GEMINI if google.prompt_texts(received)[-1] == f"{row}: {PROMPT}"]
        return reply(received) if callable(reply) else reply

    warm.gemini.default = scripted_by_prompt
    failed: dict[str, CallToolResult] = {}
    for row in limits:
        failed[row] = line.call("ask_gemini", {"prompt": f"{row}: {PROMPT}"})
        warm.forget_limits()
    begun = {row: line.begin("ask_gemini", {"prompt": f"{row}: {PROMPT}"}) for row in others}
    failed |= {row: waiting.result(DEADLINE_S) for row, waiting in begun.items()}

    for row, result in failed.items():
        check(result, GEMINI[row][1], "gemini")


def test_failures_of_claude_read_the_same_over_every_way(line: Line, warm: World) -> None:
    """Two kinds of end, of which each takes a process of its CLI; the tests above have them all over one way."""
    rows = ("401", "refusal")
    warm.claude.default = _scripted_by_prompt
    begun = {row: line.begin("ask_claude", {"prompt": f"{row}: {PROMPT}", "wait_s": 600}) for row in rows}

    for row, waiting in begun.items():
        check(waiting.result(DEADLINE_S), CLAUDE[row][1], "claude")


# The hub's own deadlines and places ---------------------------------------------------------------------------------


def _by_prompt(received: Received) -> claude.Reply:
    silent = last_user_texts(received)[-1].endswith("silent")
    return claude.Hang() if silent else claude.Hang("So far ")


def test_an_answer_that_does_not_come_in_time_is_a_timeout_with_what_had_come(one_line: Line, warm: World) -> None:
    """The caller's deadline ends an ask at either provider, the upstream request is closed, the text so far is kept."""
    _started(one_line)
    warm.claude.default = _by_prompt
    warm.gemini.script(google.Hang("So far "))
    begun = {
        "claude": one_line.begin("ask_claude", {"prompt": PROMPT, "timeout_s": 7}),
        "gemini": one_line.begin("ask_gemini", {"prompt": PROMPT, "timeout_s": 7}),
        "silent": one_line.begin("ask_claude", {"prompt": f"{PROMPT} silent", "timeout_s": 1}),
    }

    told = Told("timeout", "within 7 s", "timeout_s", True, None, "So far ")
    check(begun["claude"].result(DEADLINE_S), told, "claude")
    check(begun["gemini"].result(DEADLINE_S), told, "gemini")
    check(begun["silent"].result(DEADLINE_S), Told("timeout", "within 1 s", "timeout_s", True), "claude")
    warm.claude.wait_until_quiet()
    warm.gemini.wait_until_quiet()
    warm.claude.default = claude.Answer("Here again.")
    assert answer_of(one_line.call("ask_claude", {"prompt": "hello", "model": "opus"}))["provider"] == "claude"


def test_silence_is_noticed_before_and_after_the_first_text(tmp_path: Path) -> None:
    """Two deadlines of the hub's own: for the first text, and for silence after it. Each names its variable."""
    with ExitStack() as stack:
        begun: list[tuple[Future[CallToolResult], str, Told]] = []
        for name, seconds, text in (("HUB_FIRST_TEXT_TIMEOUT_S", 1, ""), ("HUB_IDLE_TIMEOUT_S", 6, "So far ")):
            world = stack.enter_context(make_world(tmp_path / name))
            world.changes[name] = str(seconds)
            line = stack.enter_context(open_line(world, "stdio", "auto"))
            if text:
                _started(line)
            world.claude.default = claude.Hang(text)
            world.gemini.default = google.Hang(text)
            said = f"came for {seconds} s" if text else f"text within {seconds} s"
            for provider in ("claude", "gemini"):
                told = Told("timeout", said, name, True, None, text or None)
                begun.append((line.begin(f"ask_{provider}", {"prompt": PROMPT}), provider, told))

        for waiting, provider, told in begun:
            check(waiting.result(DEADLINE_S), told, provider)


def _started(line: Line) -> None:
    """Both CLIs run. A deadline that is looked at must not end their start, which takes long on a busy machine."""
    for provider in ("claude", "gemini"):
        tries = 0
        while line.call(f"ask_{provider}", {"prompt": "hello"}).is_error:
            tries += 1
            assert tries < 10


def test_more_asks_than_places_are_told_to_come_back(world: World) -> None:
    """One ask runs, one may wait until its deadline, a third is turned away at once."""
    world.changes.update(HUB_GEMINI_CONCURRENCY="1", HUB_QUEUE_LIMIT="1")
    gate = threading.Event()
    world.gemini.script(google.Answer("Done.", gate=gate))
    with open_line(world, "stdio", "auto") as line:
        first = line.begin("ask_gemini", {"prompt": PROMPT})
        world.gemini.wait_for_generations(1, timeout=DEADLINE_S)
        others = [line.begin("ask_gemini", {"prompt": PROMPT, "timeout_s": 2}) for _ in range(2)]
        ended = [waiting.result(DEADLINE_S) for waiting in others]
        gate.set()

        assert answer_of(first.result(DEADLINE_S))["text"] == "Done."
        # Which of the two was the first to wait is not said.
        ended.sort(key=lambda result: error_of(result)["code"])
        check(ended[0], Told("busy", "queue is full", "Try again", True, (1, 60)), "gemini")
        check(ended[1], Told("timeout", "No place", "timeout_s", True), "gemini")


def test_a_cli_that_dies_before_its_first_text_is_tried_again(world: World) -> None:
    """A child that was killed from outside costs its ask a moment: nothing had come that could come twice."""
    world.claude.script(claude.Hang())
    world.gemini.script(google.Hang())
    with open_line(world, "stdio", "legacy") as line:
        begun = {name: line.begin(f"ask_{name}", {"prompt": PROMPT}) for name in ("claude", "gemini")}
        world.claude.wait_for_requests(1, timeout=DEADLINE_S)
        world.gemini.wait_for_generations(1, timeout=DEADLINE_S)
        for child in world.children():
            with suppress(psutil.NoSuchProcess):  # what a CLI has started may end by itself meanwhile
                child.kill()

        for name, waiting in begun.items():
            assert answer_of(waiting.result(DEADLINE_S))["provider"] == name
    assert (world.prompts_received("claude"), world.prompts_received("gemini")) == (2, 2)


def test_a_failure_after_the_first_text_is_not_tried_again(world: World) -> None:
    """The caller has seen a part: another answer would be another one."""
    world.gemini.script(google.Cut("The beginning"))
    with open_line(world, "stdio", "legacy") as line:
        told = Told("upstream_error", "connection to Gemini broke", "again", True, None, "The beginning")
        check(line.call("ask_gemini", {"prompt": PROMPT}), told, "gemini")
    assert world.prompts_received("gemini") == 1


def test_a_used_up_quota_is_told_again_without_asking(world: World) -> None:
    """Also by another hub, until it resets; another model and the other provider are not held to it."""
    world.gemini.script(google.Error.quota_exhausted("4h", 14_400))
    with open_line(world, "stdio", "auto") as line:
        first = error_of(line.call("ask_gemini", {"prompt": PROMPT}))
        again = error_of(line.call("ask_gemini", {"prompt": PROMPT}))
        other = line.call("ask_gemini", {"prompt": PROMPT, "model": OTHERS})
    with open_line(world, "stdio", "auto") as line:
        elsewhere = error_of(line.call("ask_gemini", {"prompt": PROMPT}))
        asked = world.prompts_received("gemini")

    for error in (first, again, elsewhere):
        assert (error["code"], error["retryable"]) == ("quota_exhausted", True)
        assert 14_000 < error["retry_after_s"] <= 14_400
        assert error["action"].endswith("Or use ask_claude.")
    assert answer_of(other)["model"] == OTHERS
    assert asked == 2  # the first, and that of the other model


def test_a_next_step_offers_the_other_provider_only_when_its_login_is_usable(world: World) -> None:
    """`Or use ask_gemini.` helps a model that can call it, and misleads where there is no Google login."""
    world.login_file.unlink()
    world.claude.default = claude.Error.overloaded()
    with open_line(world, "stdio", "auto") as line:
        alone = error_of(line.call("ask_claude", {"prompt": PROMPT}))
        missing = error_of(line.call("ask_gemini", {"prompt": PROMPT}))
        write_login(world.home / ".gemini")
        both = error_of(line.call("ask_claude", {"prompt": PROMPT}))

    assert "ask_" not in alone["action"]
    assert missing["code"] == "auth_missing"
    assert missing["action"].endswith(" Or use ask_claude.")
    assert both["action"].endswith(" Or use ask_gemini.")


# The account and the login at Google --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Google:
    """How Google treats an account and its login when the CLI starts."""

    told: Told
    account: Account = field(default_factory=Account.free)
    oauth: OAuth = field(default_factory=OAuth)
    expires_in_s: float = 3600


UNREACHABLE = Told("upstream_error", "nothing is known against the login", "HTTPS_PROXY", True)
ENDED = Told("auth_expired", "no longer accepts this login", NEW_LOGIN)

ACCOUNTS: dict[str, Google] = {
    "no project named": Google(
        Told("misconfigured", "needs a Google Cloud project", "GEMINI_PROJECT"), Account.licensed()
    ),
    "no longer served": Google(
        Told("account_ineligible", UNSUPPORTED_CLIENT_TEXT[:60], "Standard or Enterprise"), Account.ineligible()
    ),
    "no longer served, though it has a tier": Google(
        Told("account_ineligible", UNSUPPORTED_CLIENT_TEXT[:60], "Standard or Enterprise"),
        Account.ineligible(tier="free-tier"),
    ),
    "location": Google(
        Told("account_ineligible", "not currently available in your location", "another Google account"),
        Account.ineligible("UNSUPPORTED_LOCATION"),
    ),
    "age": Google(
        Told("account_ineligible", "18 or older", "another Google account"), Account.ineligible("RESTRICTED_AGE")
    ),
    "any other reason": Google(
        Told("account_ineligible", "MADE_UP_REASON", "another Google account"), Account.ineligible("MADE_UP_REASON")
    ),
    "verify first": Google(Told("account_ineligible", "verified", "`gemini`"), Account.validation_required()),
    "401": Google(Told("auth_rejected", "access token", NEW_LOGIN), Account.failing(google.Error.unauthenticated())),
    "403": Google(
        Told("permission_denied", "The caller does not have permission", "GEMINI_PROJECT"),
        Account.failing(google.Error.permission_denied()),
    ),
    "403 API switched off": Google(
        Told("permission_denied", "switched off", "https://console.developers.google.com/apis/api/"),
        Account.failing(google.Error.service_disabled()),
    ),
    "500": Google(
        Told("upstream_error", "Internal error encountered", "again", True), Account.failing(google.Error.internal())
    ),
}
"""Told when the CLI opens a session."""

LOGINS: dict[str, Google] = {
    "login revoked": Google(ENDED, oauth=OAuth(token="invalid_grant"), expires_in_s=-60),
    "login to be made again": Google(ENDED, oauth=OAuth(token="invalid_rapt"), expires_in_s=-60),
    "access token revoked": Google(ENDED, oauth=OAuth(tokeninfo="invalid_token")),
    "token endpoint unreachable": Google(UNREACHABLE, oauth=OAuth(token="unreachable"), expires_in_s=-60),
    "tokeninfo broken": Google(UNREACHABLE, oauth=OAuth(tokeninfo="error500")),
}
"""Told when the CLI starts."""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[World, Line]]:
    """One hub and one CLI for all accounts that are not served: no session is ever opened."""
    with make_world(tmp_path_factory.mktemp("refused")) as world, open_line(world, "stdio", "auto") as line:
        yield world, line
        assert world.surprises == []


@pytest.fixture(scope="module")
def logins(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[World, Line]]:
    """One hub for many logins: each new one in the file makes it start the CLI anew."""
    with make_world(tmp_path_factory.mktemp("logins")) as world, open_line(world, "stdio", "auto") as line:
        yield world, line
        assert world.surprises == []


@pytest.mark.parametrize("row", ACCOUNTS)
def test_what_google_says_of_an_account_is_told_as_what_it_is(refused: tuple[World, Line], row: str) -> None:
    """No prompt is sent to find out. All rows meet one CLI, whose debug log still holds the reasons of those before."""
    world, line = refused
    world.gemini.clear()
    world.gemini.account = ACCOUNTS[row].account

    failed = line.call("ask_gemini", {"prompt": PROMPT})

    check(failed, ACCOUNTS[row].told, "gemini")
    assert world.gemini.generations == []
    assert CANARY not in line.log


def test_an_account_that_was_mended_is_served_by_the_same_hub(logins: tuple[World, Line]) -> None:
    """Who bought a licence, verified the account or switched the API on asks again, and starts nothing anew."""
    world, line = logins
    world.gemini.clear()
    world.gemini.account = ACCOUNTS["verify first"].account
    write_login(world.login_file.parent)
    check(line.call("ask_gemini", {"prompt": PROMPT}), ACCOUNTS["verify first"].told, "gemini")

    world.gemini.account = Account.free()

    assert answer_of(line.call("ask_gemini", {"prompt": PROMPT}))["stop_reason"] == "end_turn"


@pytest.mark.parametrize("row", LOGINS)
def test_a_login_that_ended_is_told_from_a_network_that_failed(logins: tuple[World, Line], row: str) -> None:
    """Only Google's own word ends a login; without it the way is at fault, and once that is mended asks work again."""
    world, line = logins
    told = LOGINS[row].told
    world.gemini.clear()
    world.gemini.oauth = LOGINS[row].oauth
    write_login(world.login_file.parent, expires_in_s=LOGINS[row].expires_in_s)

    failed = line.call("ask_gemini", {"prompt": PROMPT})

    check(failed, told, "gemini")
    assert world.gemini.generations == []
    if told is UNREACHABLE:
        world.gemini.clear()
        again = line.call("ask_gemini", {"prompt": PROMPT})
        while again.is_error:  # after a failed start the hub holds off for a moment, and says why and for how long
            check(again, Told("upstream_error", told.message, "Try again in 1 s", True, (1, 1)), "gemini")
            again = line.call("ask_gemini", {"prompt": PROMPT})
        assert answer_of(again)["text"] == "Hello from the stand-in of Gemini."


def test_asks_that_fail_on_the_same_start_are_told_each_under_its_own_name(logins: tuple[World, Line]) -> None:
    """Asks that wait for one CLI fail together; who looks for an ask by its id must find that ask."""
    world, line = logins
    world.gemini.clear()
    world.gemini.oauth.token = "invalid_grant"
    write_login(world.login_file.parent, expires_in_s=-60)

    together = [line.begin("ask_gemini", {"prompt": PROMPT}) for _ in range(3)]

    errors = [check(waiting.result(DEADLINE_S), ENDED, "gemini") for waiting in together]
    assert len({error["ask_id"] for error in errors}) == 3
    assert {error["action"].count("ask_claude") for error in errors} == {1}


def test_a_login_that_ends_while_the_cli_runs_is_told_at_the_next_ask(logins: tuple[World, Line]) -> None:
    """A running CLI renews an access token by itself; when that is refused, it is the login that has ended."""
    world, line = logins
    world.gemini.clear()
    world.gemini.oauth.lifetime_s = 60
    write_login(world.login_file.parent, expires_in_s=60)
    assert answer_of(line.call("ask_gemini", {"prompt": PROMPT}))
    world.gemini.oauth.token = "invalid_grant"

    ended = line.call("ask_gemini", {"prompt": PROMPT})

    check(ended, ENDED, "gemini")


@pytest.mark.parametrize(
    ("project", "told"),
    [
        ("another-project", Told("permission_denied", "Permission denied on resource project", "GEMINI_PROJECT")),
        ("123456789", Told("misconfigured", "is a number", "GEMINI_PROJECT")),
        ("My Project!", Told("misconfigured", "is no project's id", "GEMINI_PROJECT")),
    ],
)
def test_a_project_that_cannot_be_right_is_named_as_the_thing_to_mend(world: World, project: str, told: Told) -> None:
    """The next step names the variable; no prompt is sent."""
    world.changes["GEMINI_PROJECT"] = project
    world.gemini.account = Account.licensed("my-work-project")
    with open_line(world, "stdio", "auto") as line:
        check(line.call("ask_gemini", {"prompt": PROMPT}), told, "gemini")

    assert world.gemini.generations == []


def test_a_provider_that_nobody_listens_at_is_an_upstream_error(world: World) -> None:
    """A refused connection is a fault of the way, not of the login."""
    world.changes.update(HUB_CLAUDE_UPSTREAM="http://127.0.0.1:9", HUB_GEMINI_UPSTREAM="http://127.0.0.1:9")
    with open_line(world, "stdio", "auto") as line:
        check(
            line.call("ask_claude", {"prompt": PROMPT}),
            Told("upstream_error", "could not be reached", "HTTPS_PROXY", True),
            "claude",
        )
        check(
            line.call("ask_gemini", {"prompt": PROMPT}), Told("upstream_error", "connection", "again", True), "gemini"
        )


@pytest.fixture(scope="module", autouse=True)
def at_a_mute_login_service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Future[CallToolResult]]:
    """An ask to a hub whose CLI waits for Google's login service in vain. Begun first, for it takes half a minute."""
    with make_world(tmp_path_factory.mktemp("mute")) as world:
        world.gemini.oauth.tokeninfo = "hang"
        with open_line(world, "stdio", "auto") as line:
            yield line.begin("ask_gemini", {"prompt": PROMPT})
        world.wait_until_no_child()


def test_a_login_service_that_does_not_answer_does_not_hold_an_ask_for_ever(
    at_a_mute_login_service: Future[CallToolResult],
) -> None:
    """The CLI has no time-out for it; the hub's ends the start with a code that does not blame the login."""
    result = at_a_mute_login_service.result(DEADLINE_S)

    check(result, Told("upstream_error", "login service may be unreachable", "HTTPS_PROXY", True), "gemini")
