"""G6, true token status: never `expired` or `rejected` for a login that works, never `valid` for one known to fail.

Lives of logins, told by a whole hub: each step is something that happens (an answer, a refusal by the provider through
its real CLI, a changed file), and what every outlet must tell of the login then.
"""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.credentials.saved import Saved
from tests.guarantees.desk import Act, Desk, Provider, Told, get, make_desk, new_token, timeless
from tests.guarantees.surroundings import make_surroundings
from tests.harness import (
    DEADLINE_S,
    HttpHub,
    World,
    answer_of,
    error_of,
    http_hub,
    make_world,
    open_line,
    run_command,
    texts_of,
)
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    # Each life begins with another login, and a CLI that was started ahead for the one before is thrown away.
    with make_desk(tmp_path_factory.mktemp("desk"), HUB_CLAUDE_WARM="0") as desk:
        yield desk


@pytest.fixture
def desk(shared_desk: Desk) -> Generator[Desk]:
    """One hub for many lives; whoever lives begins with a login that no hub has seen."""
    yield shared_desk
    for upstream in (shared_desk.world.claude, shared_desk.world.gemini):
        assert (upstream.surprises, upstream.unused) == ([], 0)


@dataclass(frozen=True)
class Step:
    """Something that happens, and what is told then."""

    what: str
    act: Act
    told: Told


LIVES: dict[str, tuple[Provider, list[Step]]] = {}


def life(provider: Provider, name: str, *steps: Step) -> None:
    """Put a life into the table."""
    assert name not in LIVES
    LIVES[name] = (provider, list(steps))


def nothing(_: Desk) -> None:
    """Nobody does anything."""


# -- Claude ------------------------------------------------------------------------------------------------------------

DATE_IT, NEW_TOKEN = "Set CLAUDE_TOKEN_ISSUED_AT", "llm-mcp-hub login claude"
UNUSED = Told("valid", "A setup-token is there.", DATE_IT, "well_formed", source="file")
WORKS = Told("valid", "It last answered", DATE_IT, ended="answered", source="file")
USED_UP = Told("valid", "A setup-token is there.", DATE_IT, ended="quota_exhausted", source="file")
REFUSED = Told("rejected", "Claude refused the token", NEW_TOKEN, days=0, ended="auth_rejected", source="file")
NO_ORGANISATION = Told("misconfigured", "does not allow Claude Code", "administrator", ended="permission_denied")
AWAY = Told("unknown", "Claude could not be reached.", "Check the network", "well_formed", ended="upstream_error")
BROKEN = replace(AWAY, says="The connection to Claude broke.")
NO_KEY = Told("misconfigured", "holds an API key", NEW_TOKEN, "present", ended="billing_blocked")
CUT = Told("misconfigured", "is cut off (79 characters)", "Copy the whole token", "present", ended="misconfigured")
NO_TOKEN = Told("misconfigured", "does not hold a setup-token", NEW_TOKEN, "present", ended="misconfigured")
NO_FILE = Told("misconfigured", "cannot be read", "CLAUDE_CODE_OAUTH_TOKEN_FILE", "present", ended="misconfigured")
NONE = Told(
    "missing",
    "There is no Claude token for the hub. One that a shell exports does not reach",
    NEW_TOKEN,
    None,
    ended="auth_missing",
)


def claude_answers(d: Desk) -> None:
    d.claude()


def claude_says(reply: anthropic.Script) -> Act:
    return lambda d: d.claude(reply)


def windows(d: Desk, provider: Provider) -> dict[str, float]:
    return {window["window"]: window["used_fraction"] for window in d.status(provider)["quota"]}


def answers_with_windows(d: Desk) -> None:
    d.claude(anthropic.Answer("Hello.", rate_limits=anthropic.RateLimits()))
    assert windows(d, "claude") == {"five_hour": 0.12, "seven_day": 0.05}


def limit_is_used_up(d: Desk) -> None:
    d.claude(anthropic.Error.quota("weekly"))
    assert windows(d, "claude")["seven_day"] == 1.0


def limit_is_remembered(d: Desk) -> None:
    before = len(d.world.claude.received)
    d.claude()
    assert len(d.world.claude.received) == before


PAID_EXTRA = anthropic.Answer("Hello.", rate_limits=anthropic.RateLimits.overage())


def paid_extra(d: Desk) -> None:
    d.claude(PAID_EXTRA)
    assert windows(d, "claude")["five_hour"] == 1.0


def no_connection(d: Desk) -> None:
    """Nobody listens where Claude's API was."""
    port = d.world.claude.port
    d.world.claude.stop()
    try:
        d.ask("claude")
    finally:
        d.world.claude = anthropic.AnthropicUpstream(port=port)
        d.world.claude.start()


def token_is(text: str) -> Act:
    """The owner writes this into the token's file, and somebody asks."""

    def write(d: Desk) -> None:
        d.write_token(text)
        d.ask("claude")

    return write


def token_over_two_lines(d: Desk) -> None:
    token = new_token()
    token_is(f"{token[:60]}\n  {token[60:]}")(d)


def another_token(d: Desk) -> None:
    d.kept = d.token_file.read_text().strip()
    d.write_token(new_token())
    d.ended = None


def token_of_before(d: Desk) -> None:
    d.write_token(d.kept)
    d.ended = None


def rotated_meanwhile(reply: anthropic.Reply) -> Act:
    """Before this answer comes to an ask with the one token, the file holds another one."""

    def act(d: Desk) -> None:
        d.kept = d.token_file.read_text().strip()
        new = new_token()

        def answer(received: Received) -> anthropic.Reply:
            assert received.headers["authorization"] == f"Bearer {d.kept}"
            d.write_token(new)
            return reply

        d.claude(answer)
        d.world.claude.default = anthropic.Answer("Hello.")
        d.ended = None

    return act


def token_file_is_gone(d: Desk) -> None:
    d.token_file.unlink()
    d.ask("claude")


def is_saved(d: Desk) -> None:
    """`login` has saved a token, ten days ago."""
    d.saved.put("claude", Saved(new_token(), datetime.now(UTC) - timedelta(days=10, hours=-1)))
    d.ended = None


def refuses(*tokens: str) -> anthropic.Script:
    def answer(received: Received) -> anthropic.Reply:
        held = received.headers["authorization"].removeprefix("Bearer ") in tokens
        return anthropic.Error.unauthorized() if held else anthropic.Answer("Hello.")

    return answer


def refuses_the_files(d: Desk) -> None:
    d.claude(refuses(d.token_file.read_text().strip()))


def refuses_both(d: Desk) -> None:
    saved = d.saved.get("claude")
    assert saved is not None
    d.claude(refuses(d.token_file.read_text().strip(), saved.content))


SAVED = Told("valid", "is good", "", "proven", days=355, ended="answered", source="saved")

life(
    "claude",
    "a setup-token from its first day",
    Step("nobody has used it", nothing, UNUSED),
    Step("it answers, and shows what is used", answers_with_windows, WORKS),
    Step("its weekly limit is used up", limit_is_used_up, replace(WORKS, ended="quota_exhausted")),
    Step("which is remembered", limit_is_remembered, replace(WORKS, ended="quota_exhausted")),
)
life(
    "claude",
    "a setup-token that is refused for a while",
    Step("401", claude_says(anthropic.Error.unauthorized()), REFUSED),
    Step("it answers again", claude_answers, WORKS),
    Step("403: revoked", claude_says(anthropic.Error.revoked()), REFUSED),
    Step("only its limit is in the way", limit_is_used_up, replace(WORKS, ended="quota_exhausted")),
)
life(
    "claude",
    "an account that may not",
    Step("its organisation forbids it", claude_says(anthropic.Error.org_not_allowed()), NO_ORGANISATION),
    Step("no longer", claude_answers, WORKS),
    Step(
        "it would pay by credit",
        claude_says(anthropic.Error.credit_balance()),
        Told("misconfigured", "credit balance is too low", NEW_TOKEN, ended="billing_blocked"),
    ),
    Step("no longer", claude_answers, WORKS),
)
life(
    "claude",
    "troubles that say nothing of a token",
    Step("too many requests", claude_says(anthropic.Error.rate_limited()), replace(UNUSED, ended="rate_limited")),
    Step("the API fails", claude_says(anthropic.Error.server_error()), replace(UNUSED, ended="upstream_error")),
    Step("no such model", claude_says(anthropic.Error.model_not_found()), replace(UNUSED, ended="model_unavailable")),
    Step("a limit, before any answer", limit_is_used_up, USED_UP),
)
life(
    "claude",
    "nobody at the other end",
    Step("nobody listens", no_connection, AWAY),
    Step("it answers again", claude_answers, WORKS),
    Step("connections are reset", claude_says(anthropic.Reset()), replace(BROKEN, level="proven")),
    Step("it is refused all the same", claude_says(anthropic.Error.unauthorized()), REFUSED),
    Step("and then away", claude_says(anthropic.Reset()), replace(REFUSED, ended="upstream_error")),
)
life(
    "claude",
    "extra usage",
    Step("an answer is paid extra", paid_extra, WORKS),
    Step("so the next ask is blocked", claude_answers, replace(WORKS, ended="billing_blocked")),
    Step("which binds no other token", lambda d: (another_token(d), d.claude()), WORKS),
    Step(
        "and still binds that one", lambda d: (token_of_before(d), d.claude()), replace(WORKS, ended="billing_blocked")
    ),
)
life(
    "claude",
    "a token that is changed while the hub runs",
    Step("refused", claude_says(anthropic.Error.unauthorized()), REFUSED),
    Step("another one is there", another_token, UNUSED),
    Step("it answers", claude_answers, WORKS),
    Step("the old one is back", token_of_before, replace(REFUSED, ended=None)),
)
life(
    "claude",
    "a token that is changed while it is used",
    Step("the answer is the old one's", rotated_meanwhile(anthropic.Answer("Hello.")), UNUSED),
    Step("which is back", token_of_before, replace(WORKS, ended=None)),
    Step("the refusal is the old one's", rotated_meanwhile(anthropic.Error.unauthorized()), UNUSED),
    Step("the new one answers", claude_answers, WORKS),
    Step("the old one is back", token_of_before, replace(REFUSED, ended=None)),
    Step("the limit is the old one's", rotated_meanwhile(anthropic.Error.quota("weekly")), UNUSED),
    Step("the new one answers", claude_answers, WORKS),
    Step("the extra usage is the old one's", rotated_meanwhile(PAID_EXTRA), UNUSED),
    Step("the new one answers", claude_answers, WORKS),
)
life(
    "claude",
    "a file that holds no token",
    Step("an API key", token_is("sk-ant-api03-" + "madeup" * 15), NO_KEY),
    Step("a token, cut at 79 characters", token_is(("sk-ant-oat01-" + "madeup" * 15)[:79]), CUT),
    Step("the word null", token_is("null"), NO_TOKEN),
    Step("nothing", token_is(""), NONE),
    Step("no file", token_file_is_gone, NO_FILE),
    Step("a token over two lines", token_over_two_lines, WORKS),
)
life(
    "claude",
    "a saved token behind the owner's",
    Step("it waits", is_saved, UNUSED),
    Step("the owner's is used", claude_answers, WORKS),
    Step("and refused", refuses_the_files, replace(SAVED, level="clock", ended="auth_rejected")),
    Step("so the saved one is used", refuses_the_files, SAVED),
    Step("and refused", refuses_both, REFUSED),
    Step("the owner's answers again", claude_answers, WORKS),
)

# -- Gemini ------------------------------------------------------------------------------------------------------------

LOG_IN = "llm-mcp-hub login gemini"
LOGIN_UNUSED = Told("valid", "A Google login is there.", "", "clock", source="file")
LOGIN_WORKS = Told("valid", "It last answered", "", ended="answered", source="file")
LOGIN_ENDED = Told("expired", "no longer accepts this login", LOG_IN, days=0, ended="auth_expired")
LOGIN_REFUSED = Told("rejected", "Google refused this login's access token", LOG_IN, days=0, ended="auth_rejected")
GOOGLE_AWAY = Told(
    "unknown", "nothing is known against the login itself", "Check the network", "clock", ended="upstream_error"
)
NOT_SERVED = Told("ineligible", "The login works, but Google no longer serves", "licence", ended="account_ineligible")
NOT_FOR_YOU = Told(
    "ineligible", "Google does not serve this account", "another Google account", ended="account_ineligible"
)
UNVERIFIED = Told("ineligible", "wants this account to be verified", "Run `gemini`", ended="account_ineligible")
NO_PROJECT = Told("misconfigured", "needs a Google Cloud project", "Set GEMINI_PROJECT", ended="misconfigured")
SWITCHED_OFF = Told(
    "misconfigured", "API is switched off", "https://console.developers.google.com/", ended="permission_denied"
)
NO_PERMISSION = Told(
    "misconfigured", "does not allow this account", "gcloud projects add-iam-policy-binding", ended="permission_denied"
)


def gemini_answers(d: Desk) -> None:
    d.gemini()


def gemini_says(reply: google.Script) -> Act:
    return lambda d: d.gemini(reply)


def account_is(account: google.Account) -> Act:
    return lambda d: d.gemini(account=account)


def over(**oauth: Any) -> Act:
    """The access token has ended, the file cannot be written, and Google's OAuth is like this."""

    def act(d: Desk) -> None:
        d.new_login(expires_in_s=-60)
        d.world.login_file.chmod(0o400)
        before = d.world.login_file.read_bytes()
        d.gemini(**oauth)
        assert d.world.login_file.read_bytes() == before

    return act


def oauth_is(**oauth: Any) -> Act:
    return lambda d: d.gemini(**oauth)


def taken_back(*names: str) -> Act:
    """These tokens of the owner's login work no more, whatever their clocks say."""
    return lambda d: d.gemini(rejected={d.login[name] for name in names})


def another_login(d: Desk) -> None:
    d.kept = d.world.login_file.read_text()
    d.new_login()
    d.ended = None


def login_of_before(d: Desk) -> None:
    d.world.login_file.write_text(d.kept)
    d.ended = None


def changed_meanwhile(reply: google.Reply) -> Act:
    """Before this answer comes to an ask with the one login, the file holds another one, which answers."""

    def act(d: Desk) -> None:
        d.kept = d.world.login_file.read_text()
        old = d.login["access_token"]

        def answer(received: Received) -> google.Reply:
            if received.headers["authorization"] != f"Bearer {old}":
                return google.Answer("Hello.")
            d.new_login()
            return reply

        d.gemini(answer)
        assert d.ended == "answered"
        d.ended = None

    return act


HALF = "half"


def file_is(content: str, *, asks: bool = True) -> Act:
    """What stands in the login's file now; `HALF` is half of what stood there."""

    def act(d: Desk) -> None:
        held = d.world.login_file.read_text()
        d.world.login_file.write_text(held[: len(held) // 2] if content == HALF else content)
        d.ended = None
        if asks:
            d.ask("gemini")

    return act


def file_is_gone(d: Desk) -> None:
    d.world.login_file.unlink()
    d.ask("gemini")


def folder_in_its_place(d: Desk) -> None:
    d.world.login_file.mkdir()
    d.ask("gemini")


def encrypted(d: Desk) -> None:
    d.world.login_file.rmdir()
    d.world.login_file.with_name("gemini-credentials.json").write_text("00:11:22")
    d.ask("gemini")


def whole_again(d: Desk) -> None:
    d.world.login_file.with_name("gemini-credentials.json").unlink(missing_ok=True)
    d.new_login()
    d.ask("gemini")


def newer_one_is_saved(d: Desk) -> None:
    """`login` has just saved another login than the owner's."""
    d.kept = google.write_login(d.world.home / "elsewhere").read_text()
    d.saved.put("gemini", Saved(d.kept, datetime.now(UTC)))
    d.gemini()


def saved_is_revoked(d: Desk) -> None:
    saved = json.loads(d.kept)
    d.gemini(rejected={saved["access_token"], saved["refresh_token"]})


def both_are_revoked(d: Desk) -> None:
    names = ("access_token", "refresh_token")
    d.gemini(rejected={login[name] for login in (json.loads(d.kept), d.login) for name in names})


UNREADABLE = Told("misconfigured", "empty or cut off", LOG_IN, "present", ended="misconfigured")
BRIDGED = replace(LOGIN_WORKS, says="goes on with the copy", action=LOG_IN)

life(
    "gemini",
    "a Google login from its first day",
    Step("nobody has used it", nothing, LOGIN_UNUSED),
    Step("it answers", gemini_answers, LOGIN_WORKS),
    Step("its access token is taken back early", taken_back("access_token"), LOGIN_WORKS),
    Step(
        "a model's quota is used up",
        gemini_says(google.Error.quota_exhausted()),
        replace(LOGIN_WORKS, ended="quota_exhausted"),
    ),
)
life(
    "gemini",
    "an access token that is over",
    Step("it is renewed beside a file that cannot be written", over(), LOGIN_WORKS),
    Step("revoked", over(token="invalid_grant"), LOGIN_ENDED),
    Step("taken back, and it answers again", gemini_answers, LOGIN_WORKS),
    Step(
        "to be confirmed anew, by the organisation's rule",
        over(token="invalid_rapt"),
        replace(LOGIN_ENDED, says="organisation"),
    ),
)
life(
    "gemini",
    "a login that Google no longer knows",
    Step("tokeninfo refuses every token", oauth_is(tokeninfo="invalid_token"), LOGIN_ENDED),
    Step("another login is there", another_login, LOGIN_UNUSED),
    Step("it is revoked as a whole", taken_back("access_token", "refresh_token"), LOGIN_ENDED),
    Step("the first is back", login_of_before, replace(LOGIN_ENDED, ended=None)),
    Step("and answers", gemini_answers, LOGIN_WORKS),
)
life(
    "gemini",
    "a login that is changed while it is used",
    Step("the answer is the old one's", changed_meanwhile(google.Answer("Hello.")), LOGIN_UNUSED),
    Step("which is back", login_of_before, replace(LOGIN_WORKS, ended=None)),
    Step(
        "refused, and the new one answers",
        changed_meanwhile(google.Error.unauthenticated()),
        replace(LOGIN_WORKS, ended=None),
    ),
)
life(
    "gemini",
    "nobody at Google's login service",
    Step("unreachable", oauth_is(token="unreachable"), GOOGLE_AWAY),
    Step("it answers again", gemini_answers, LOGIN_WORKS),
    Step("a renewal fails", over(token="error500"), GOOGLE_AWAY),
    Step("tokeninfo fails", lambda d: (d.new_login(), d.gemini(tokeninfo="error500")), GOOGLE_AWAY),
)
life(
    "gemini",
    "an account that is not served",
    Step("UNSUPPORTED_CLIENT", account_is(google.Account.ineligible()), NOT_SERVED),
    Step("with a tier all the same", account_is(google.Account.ineligible(tier="free-tier")), NOT_SERVED),
    Step("UNSUPPORTED_LOCATION", account_is(google.Account.ineligible("UNSUPPORTED_LOCATION")), NOT_FOR_YOU),
    Step("RESTRICTED_AGE", account_is(google.Account.ineligible("RESTRICTED_AGE")), NOT_FOR_YOU),
    Step("a reason of tomorrow", account_is(google.Account.ineligible("OUT_OF_MOOD")), NOT_FOR_YOU),
    Step("VALIDATION_REQUIRED", account_is(google.Account.validation_required()), UNVERIFIED),
    Step("a licence without its project", account_is(google.Account.licensed()), NO_PROJECT),
    Step("SERVICE_DISABLED", account_is(google.Account.failing(google.Error.service_disabled())), SWITCHED_OFF),
    Step("no licence", account_is(google.Account.failing(google.Error.permission_denied())), NO_PERMISSION),
    Step(
        "Code Assist fails, which lifts nothing",
        account_is(google.Account.failing(google.Error.internal())),
        replace(NO_PERMISSION, ended="upstream_error"),
    ),
    Step("a new account is taken in", account_is(google.Account.onboarding()), LOGIN_WORKS),
)
life(
    "gemini",
    "an account that is refused at a prompt",
    Step("401, whatever is renewed", gemini_says(google.Error.unauthenticated()), LOGIN_REFUSED),
    Step(
        "only a quota is in the way",
        gemini_says(google.Error.daily_quota()),
        replace(LOGIN_UNUSED, level="proven", ended="quota_exhausted"),
    ),
)
life(
    "gemini",
    "an account that is refused for a while at a prompt",
    Step("SERVICE_DISABLED", gemini_says(google.Error.service_disabled()), SWITCHED_OFF),
    Step("no permission", gemini_says(google.Error.permission_denied()), NO_PERMISSION),
    Step("it wants to be verified", gemini_says(google.Error.validation_required()), UNVERIFIED),
    Step("it answers", gemini_answers, LOGIN_WORKS),
    Step("too many requests", gemini_says(google.Error.rate_limited(30)), replace(LOGIN_WORKS, ended="rate_limited")),
    Step("no capacity", gemini_says(google.Error.no_capacity()), replace(LOGIN_WORKS, ended="model_unavailable")),
    Step(
        "its connections are reset",
        gemini_says(google.Reset()),
        Told("unknown", "The connection to Gemini broke.", "Check the network", ended="upstream_error"),
    ),
)
life(
    "gemini",
    "a file that breaks and is mended",
    Step("half of it, before anybody has read the whole", file_is(HALF), UNREADABLE),
    Step("it is whole, and answers", whole_again, LOGIN_WORKS),
    Step("half of it", file_is(HALF, asks=False), replace(BRIDGED, ended=None)),
    Step("which is no obstacle", gemini_answers, BRIDGED),
    Step("blanked", file_is("{}"), BRIDGED),
    Step("nothing in it", file_is(""), BRIDGED),
    Step(
        "deleted: the owner has logged out",
        file_is_gone,
        Told("missing", "There is no Google login at", LOG_IN, None, ended="auth_missing"),
    ),
    Step(
        "a folder that a container made",
        folder_in_its_place,
        Told("misconfigured", "is a folder", "Remove the folder", "present", ended="misconfigured"),
    ),
    Step(
        "the CLI's encrypted store",
        encrypted,
        Told("misconfigured", "encrypted store", LOG_IN, "present", ended="misconfigured"),
    ),
    Step(
        "no login at all",
        lambda d: (d.new_login(), file_is('{"a": 1}')(d)),
        replace(UNREADABLE, says="is not a login of the Gemini CLI"),
    ),
    Step(
        "a cloud account's key",
        file_is('{"type": "service_account"}'),
        replace(UNREADABLE, says="cloud account", ended="billing_blocked"),
    ),
    Step("whole again", whole_again, LOGIN_WORKS),
)
life(
    "gemini",
    "a saved login beside the owner's",
    Step("the owner's answers", gemini_answers, LOGIN_WORKS),
    Step("a newer one is used", newer_one_is_saved, replace(LOGIN_WORKS, source="saved")),
    Step("and revoked: the owner's is next", saved_is_revoked, replace(LOGIN_WORKS, ended="auth_expired")),
    Step("which answers", gemini_answers, LOGIN_WORKS),
    Step("both are revoked", both_are_revoked, LOGIN_ENDED),
)


@pytest.mark.parametrize("name", LIVES)
def test_the_status_is_true_in_every_step_of_a_life(desk: Desk, name: str) -> None:
    """Status, use, days, how it is known, what happened and the next step; the same over every way to ask."""
    provider, steps = LIVES[name]
    desk.begin(provider)
    for number, step in enumerate(steps, 1):
        step.act(desk)
        status = desk.status(provider)
        try:
            step.told.check(status, desk.ended)
        except AssertionError as error:
            error.add_note(f"in step {number}, {step.what!r}")
            raise


def test_there_are_as_many_steps_as_promised() -> None:
    """At least forty scenarios in which a CLI or a file decides."""
    steps = [step for _provider, steps in LIVES.values() for step in steps]
    print(f"\nstatus truth: {len(LIVES)} lives, {len(steps)} steps")

    assert len(steps) >= 40


# -- One command after the other: what is known outlives a hub, and hangs on settings ----------------------------------


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    with make_world(tmp_path_factory.mktemp("commands")) as world:
        yield world


@pytest.fixture
def commands(shared_world: World) -> Generator[World]:
    """A world in which every command is a hub of its own; both logins are new."""
    world = shared_world
    world.claude.clear()
    world.gemini.clear()
    world.prefix = []
    world.changes = {"CLAUDE_CODE_OAUTH_TOKEN": new_token(), "HUB_CLAUDE_WARM": "0"}
    google.write_login(world.login_file.parent)
    yield world
    assert world.surprises == []


def status_of(world: World, provider: Provider) -> dict[str, Any]:
    """What `status --json` tells."""
    shown = run_command(world, "status", "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)[provider]


def asked(world: World, provider: Provider) -> tuple[str, dict[str, Any]]:
    """How an `ask --json` ended: its code, and what it said."""
    shown = run_command(world, "ask", provider, "-", "--json", stdin="Hello?")
    said = json.loads(shown.stdout)
    return said["error"]["code"] if "error" in said else "answered", said


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
YEAR = timedelta(days=365)
GOOD = Told("valid", "The setup-token is good:", "", "clock", source="env")
SOON = Told("warning", "The setup-token ends soon:", NEW_TOKEN, "clock", source="env")
OVER = Told("expired", "The setup-token has ended:", NEW_TOKEN, "clock", days=0, source="env")
REFUTED = Told("valid", "the date is wrong", DATE_IT, "proven", ended="answered", source="env")


@dataclass(frozen=True)
class Dated:
    """A token that its owner has dated.

    Attributes:
        ends_in: how long from now it ends by that date.
        told: what must be told.
        reply: what Claude's API answers to an ask before; None: nobody asks.
        to_a_day: dated by the day, without an hour.
        changes: variables beside the date.
    """

    ends_in: timedelta
    told: Told
    reply: anthropic.Reply | None = None
    to_a_day: bool = False
    changes: Mapping[str, str] | None = None


HELLO = anthropic.Answer("Hello.")
DATED: dict[str, Dated] = {
    "made ten days ago": Dated(355 * DAY + HOUR, replace(GOOD, days=355)),
    "four days before its end": Dated(4 * DAY + HOUR, replace(GOOD, days=4)),
    "three days before its end": Dated(3 * DAY - HOUR, replace(SOON, days=2)),
    "an hour before its end": Dated(HOUR, replace(SOON, days=0)),
    "an hour after its end": Dated(-HOUR, OVER),
    "an hour after its end, and it answers": Dated(-HOUR, REFUTED, HELLO),
    "an hour after its end, and it is used up": Dated(
        -HOUR, replace(REFUTED, ended="quota_exhausted"), anthropic.Error.quota()
    ),
    "an hour after its end, and it is refused": Dated(
        -HOUR,
        replace(OVER, level="proven", says="the provider refuses it", ended="auth_rejected"),
        anthropic.Error.unauthorized(),
    ),
    "a hundred days before its end, and it is refused": Dated(
        100 * DAY, replace(REFUSED, source="env"), anthropic.Error.revoked()
    ),
    "a hundred days before its end, and it answers": Dated(
        100 * DAY + HOUR, replace(GOOD, days=100, level="proven", ended="answered"), HELLO
    ),
    "a hundred days before its end, and it cannot be reached": Dated(
        100 * DAY + HOUR,
        Told("unknown", "The setup-token is good:", "Check the network", "clock", "upstream_error", 100, "env"),
        anthropic.Reset(),
    ),
    "to a day: today": Dated(timedelta(0), replace(SOON, says="The setup-token ends today:", days=0), to_a_day=True),
    "to a day: the day before yesterday": Dated(-2 * DAY, OVER, to_a_day=True),
    "made by a clock two days ahead": Dated(YEAR + 2 * DAY + HOUR, replace(GOOD, days=367)),
    "twenty days before its end, with a month's warning": Dated(
        20 * DAY + HOUR, replace(SOON, days=20), changes={"HUB_ALERT_DAYS": "30"}
    ),
    "no warning wanted": Dated(HOUR, replace(GOOD, days=0), changes={"HUB_ALERT_DAYS": "0"}),
}


@pytest.mark.parametrize("name", DATED)
def test_a_dated_token_ends_by_its_date_unless_it_answers(commands: World, name: str) -> None:
    """`days_remaining` counts to the date; an answer after it says that it is wrong, a refusal that it is right."""
    row = DATED[name]
    issued = datetime.now(UTC) + row.ends_in - YEAR
    commands.changes["CLAUDE_TOKEN_ISSUED_AT"] = issued.strftime("%Y-%m-%d") if row.to_a_day else issued.isoformat()
    commands.changes.update(row.changes or {})
    ended = None
    if row.reply is not None:
        commands.claude.default = row.reply
        ended, _said = asked(commands, "claude")

    row.told.check(status_of(commands, "claude"), ended)


def test_an_answer_says_when_its_login_ends_soon(commands: World) -> None:
    """Who asks may be the only one who looks: to a model, to a program and in a terminal."""
    commands.changes["CLAUDE_TOKEN_ISSUED_AT"] = (datetime.now(UTC) + 2 * DAY + HOUR - YEAR).isoformat()
    with open_line(commands, "stdio", "auto") as line:
        result = line.call("ask_claude", {"prompt": "Hello?"})
    shown = run_command(commands, "ask", "claude", "-", stdin="Hello?")

    (warning,) = answer_of(result)["warnings"]
    assert warning.startswith("The setup-token ends soon:")
    assert ", 2 days " in warning
    assert NEW_TOKEN in warning
    assert f"warning: {warning}" in (texts_of(result)[1] or "")
    assert "The setup-token ends soon:" in shown.stderr.decode()


def test_what_is_said_of_an_account_hangs_on_the_project(commands: World) -> None:
    """A licence hangs on a project: a refusal counts under that setting alone, and a bad one is not `valid`."""
    commands.gemini.account = google.Account.licensed("my-work-project")
    number = Told("misconfigured", "GEMINI_PROJECT is a number", "Set GEMINI_PROJECT", ended="misconfigured")
    wrong = replace(NO_PERMISSION, action="add-iam-policy-binding some-other-project ")
    for project, tries, told in [
        ("123456789", True, number),
        ("some-other-project", True, wrong),
        ("my-work-project", False, LOGIN_UNUSED),
        ("my-work-project", True, LOGIN_WORKS),
        ("some-other-project", False, LOGIN_WORKS),
    ]:
        commands.changes["GEMINI_PROJECT"] = project
        ended = asked(commands, "gemini")[0] if tries else None
        replace(told, ended=ended).check(status_of(commands, "gemini"), ended)
        assert ended == (told.ended if tries else None), project


def test_a_login_in_a_folder_that_cannot_be_written_is_renewed(commands: World) -> None:
    """As a container mounts it: read-only as a whole, and the hub's own copy is renewed beside it."""
    google.write_login(commands.login_file.parent, expires_in_s=-60)
    before = commands.login_file.read_bytes()
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    commands.prefix = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh"]
    commands.prefix.append(str(commands.login_file.parent))

    ends = [asked(commands, "gemini")[0] for _ in range(2)]

    assert ends == ["answered", "answered"]
    LOGIN_WORKS.check(status_of(commands, "gemini"), ends[-1])
    assert commands.login_file.read_bytes() == before
    assert commands.gemini.oauth.refreshes == 1


@pytest.mark.parametrize("variable", ["an API key", "a cut token"])
def test_a_variable_that_holds_no_token_is_told(commands: World, variable: str) -> None:
    """And never its value."""
    value = "sk-ant-api03-" + "madeup" * 15 if variable == "an API key" else new_token()[:79]
    commands.changes["CLAUDE_CODE_OAUTH_TOKEN"] = value
    before = status_of(commands, "claude")
    code, said = asked(commands, "claude")

    told = replace(NO_KEY if variable == "an API key" else CUT, source="env")
    told.check(before, told.ended)
    told.check(status_of(commands, "claude"), code)
    assert value not in json.dumps([before, said])
    assert commands.claude.received == []


# -- Around a hub ------------------------------------------------------------------------------------------------------


def test_settings_of_the_machine_that_could_pay_are_told_until_they_are_gone(tmp_path: Path) -> None:
    """They stop every ask, whatever the token, which is told before one is made; and they say nothing of the token."""
    told = Told("misconfigured", "machine-wide settings", "administrator", "present")
    with make_surroundings(tmp_path / "around") as around:
        around.plant(around.etc / "claude-code" / "managed-settings.json", {"apiKeyHelper": "x"}, mode=0o644)
        with around.line() as line:
            statuses = [line.call("token_status", {"provider": "claude"}).structured_content]
            blocked = error_of(line.call("ask_claude", {"prompt": "Hello?"}))["code"]
            statuses.append(line.call("token_status", {"provider": "claude"}).structured_content)
            (around.etc_of_a_running_hub() / "claude-code" / "managed-settings.json").unlink()
            gone = line.call("token_status", {"provider": "claude"}).structured_content
            answer = line.call("ask_claude", {"prompt": "Hello?"})
            after = line.call("token_status", {"provider": "claude"}).structured_content

    assert gone is not None
    assert after is not None
    for status in statuses:
        assert status is not None
        told.check(status["claude"], None)
    assert blocked == "billing_blocked"
    assert gone["claude"]["usable"]
    assert answer_of(answer)["text"]
    replace(WORKS, source="env").check(after["claude"], "answered")


def test_google_that_does_not_answer_is_unknown(tmp_path: Path) -> None:
    """The CLI would wait for ever; after the hub's own time nothing is known against the login."""
    with make_desk(tmp_path / "desk", HUB_CLAUDE_WARM="0") as desk:
        desk.new_login(expires_in_s=-60)
        desk.gemini(token="hang")

        told = Told("unknown", "may be unreachable", "Check the network", "clock", ended="upstream_error")
        told.check(desk.status("gemini"), desk.ended)


def test_hosts_that_nobody_reaches_are_unknown(tmp_path: Path) -> None:
    """Neither API has an address where anybody listens: both logins are what they were."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{held.getsockname()[1]}"
        with make_desk(tmp_path / "desk", HUB_CLAUDE_UPSTREAM=nowhere, HUB_GEMINI_UPSTREAM=nowhere) as desk:
            desk.ask("claude")
            AWAY.check(desk.status("claude"), desk.ended)
            desk.ask("gemini")
            told = Told("unknown", "The connection to Gemini broke.", "Check the network", "clock", "upstream_error")
            told.check(desk.status("gemini"), desk.ended)

            assert get(desk.hub.url, "/health/tokens?strict=1")[0] == 200


# -- Several hubs ------------------------------------------------------------------------------------------------------


def test_hubs_on_one_state_folder_know_the_same(desk: Desk) -> None:
    """What one has been told every one knows, also one that starts later; a recovery too."""
    desk.begin("claude")
    desk.begin("gemini")
    with http_hub(desk.world) as other:
        desk.claude(anthropic.Error.unauthorized())
        desk.gemini(account=google.Account.ineligible())
        told = get(other.url)[1]
        after_a_restart = json.loads(run_command(desk.world, "status", "--json").stdout)
        assert timeless(told) == timeless(get(desk.hub.url)[1]) == timeless(after_a_restart)
        REFUSED.check(told["claude"], "auth_rejected")
        NOT_SERVED.check(told["gemini"], "account_ineligible")

        desk.world.claude.default = HELLO
        desk.world.gemini.account = google.Account.free()
        with open_line(desk.world, "http", "auto", hub=other) as line:
            for provider in ("claude", "gemini"):
                answer_of(line.call(f"ask_{provider}", {"prompt": "Hello?"}))

    WORKS.check(desk.status("claude"), "answered")
    LOGIN_WORKS.check(desk.status("gemini"), "answered")


def test_a_verified_status_costs_one_ask_a_minute_over_all_hubs(desk: Desk) -> None:
    """However many want it; the ask is tiny, and nothing of it is left."""
    desk.begin("claude")
    desk.begin("gemini")
    forget_verifying(desk)
    spent: list[tuple[int, int]] = []
    with http_hub(desk.world) as other, open_line(desk.world, "http", "auto", hub=other) as line:
        for round_ in ("first", "at once again", "a minute later"):
            if round_ == "a minute later":
                forget_verifying(desk)
            calls = [one.begin("token_status", {"verify": True}) for one in (desk.line, line) for _ in range(2)]
            for call in calls:
                assert not call.result(DEADLINE_S).is_error
            spent.append((len(desk.world.claude.received), len(desk.world.gemini.generations)))
            WORKS.check(desk.status("claude"), "answered")
            LOGIN_WORKS.check(desk.status("gemini"), "answered")
        desk.world.claude.default = anthropic.Error.unauthorized()
        desk.world.gemini.account = google.Account.free()
        forget_verifying(desk)
        refused = line.call("token_status", {"verify": True, "provider": "claude"}).structured_content

    assert spent == [(1, 1), (1, 1), (2, 2)]
    assert max(len(prompt) for prompt in desk.world.claude.prompts) < 50
    assert refused is not None
    REFUSED.check(refused["claude"], "auth_rejected")
    assert not kept(desk, desk.world.claude.prompts[-1])


def forget_verifying(desk: Desk) -> None:
    """As if a minute had passed since somebody verified."""
    with closing(sqlite3.connect(desk.world.state / "hub.sqlite3", timeout=DEADLINE_S)) as store, store:
        store.execute("DELETE FROM records WHERE substr(key, 1, 9) = ?", (b"verified:",))


def kept(desk: Desk, text: str) -> bool:
    """Whether this stands in any value of the store."""
    with closing(sqlite3.connect(desk.world.state / "hub.sqlite3", timeout=DEADLINE_S)) as store:
        values = [*store.execute("SELECT value FROM records"), *store.execute("SELECT value FROM entries")]
    return any(text.encode() in value for (value,) in values)


# -- Clocks ------------------------------------------------------------------------------------------------------------

SHIFTED = """
import datetime, sys, time
shift, real = float(sys.argv.pop(1)), time.time
time.time = lambda: real() + shift
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)
datetime.datetime = Shifted
from llm_mcp_hub.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""A whole hub whose clock is off. Its children have the right one, as those of a container with another's have not."""


@pytest.mark.parametrize("shift", [2 * DAY, -2 * DAY], ids=["ahead", "behind"])
def test_a_clock_that_is_two_days_off_makes_no_false_status(tmp_path: Path, shift: timedelta) -> None:
    """Beside a hub whose clock is right, on one store: what either has seen counts for both, in the order it came."""
    issued = datetime.now(UTC) + (DAY + HOUR if shift > timedelta(0) else -DAY + HOUR) - YEAR
    dated = make_desk(tmp_path / "desk", CLAUDE_TOKEN_ISSUED_AT=issued.isoformat(), HUB_CLAUDE_WARM="0")
    with dated as desk, ExitStack() as stack:
        off = HttpHub(desk.world.environment, command=("-c", SHIFTED, str(shift.total_seconds()), "serve"))
        stack.callback(off.stop)
        line = stack.enter_context(open_line(desk.world, "http", "auto", hub=off))
        of_both = [desk.line, line]
        logged = datetime.fromisoformat(json.loads(off.log[0])["timestamp"])
        assert abs(logged - datetime.now(UTC) - shift) < HOUR

        for one, other in (of_both, of_both[::-1]):
            # Refused at the one, and then it answers the other; revoked, and then it is mended.
            desk.world.claude.default = anthropic.Error.unauthorized()
            desk.world.gemini.default = google.Error.permission_denied()
            for provider in ("claude", "gemini"):
                error_of(one.call(f"ask_{provider}", {"prompt": "Hello?"}))
            assert [states(hub)["claude"] in {"rejected", "expired"} for hub in of_both] == [True, True]
            assert [states(hub)["gemini"] for hub in of_both] == ["misconfigured", "misconfigured"]
            desk.world.claude.default = HELLO
            desk.world.gemini.default = google.Answer("Hello.")
            for provider in ("claude", "gemini"):
                answer_of(other.call(f"ask_{provider}", {"prompt": "Hello?"}))
            assert [states(hub)["gemini"] for hub in of_both] == ["valid", "valid"]
            assert states(other)["claude"] in {"valid", "warning"}

        # By the right clock the token has a day left (or has ended a day ago), by the other one it is the other way.
        print(f"\nclock {shift}: {[states(hub) for hub in of_both]}")
        for hub in of_both:
            for status in told_by(hub).values():
                assert status["usable"], status


def told_by(line: Any) -> dict[str, Any]:
    return line.call("token_status").structured_content


def states(line: Any) -> dict[str, str]:
    return {name: status["status"] for name, status in told_by(line).items()}


@pytest.mark.parametrize("off", [2 * DAY, -2 * DAY], ids=["ahead", "behind"])
def test_a_login_written_by_a_clock_two_days_off_works(desk: Desk, off: timedelta) -> None:
    """Its access token seems good and is over, or seems over and is good: the CLI goes by the file, Google does not."""
    desk.begin("gemini")
    login = desk.new_login(expires_in_s=HOUR.total_seconds() + off.total_seconds())
    rejected = {login["access_token"]} if off > timedelta(0) else set[str]()

    desk.gemini(rejected=rejected)

    LOGIN_WORKS.check(desk.status("gemini"), desk.ended)


# -- Outlets -----------------------------------------------------------------------------------------------------------


def no_login(d: Desk) -> None:
    d.world.login_file.unlink()


STRICT: dict[str, tuple[list[Act], int]] = {
    "two logins that nobody has used": ([nothing], 200),
    "one of them has not been set up": ([lambda d: d.write_token("")], 200),
    "the other has not been set up": ([no_login], 200),
    "none has been set up": ([lambda d: d.write_token(""), no_login], 503),
    "an API key for a token": ([lambda d: d.write_token("sk-ant-api03-" + "madeup" * 15)], 503),
    "half a login": ([lambda d: d.world.login_file.write_text("{")], 503),
    "a token that is refused": ([claude_says(anthropic.Error.unauthorized())], 503),
    "and answers again": ([claude_says(anthropic.Error.unauthorized()), claude_answers], 200),
    "a used-up limit": ([limit_is_used_up], 200),
    "an API that nobody reaches": ([claude_says(anthropic.Reset())], 200),
    "an account that is not served": ([account_is(google.Account.ineligible())], 503),
}


@pytest.mark.parametrize("name", STRICT)
def test_strict_health_fails_when_a_login_that_is_there_cannot_be_used(desk: Desk, name: str) -> None:
    """For monitors that look at the code alone; without `strict` it is 200 whatever the body says."""
    desk.begin("claude")
    desk.begin("gemini")
    acts, code = STRICT[name]
    for act in acts:
        act(desk)

    strict, told = get(desk.hub.url, "/health/tokens?strict=1")
    lenient, same = get(desk.hub.url)

    assert (strict, lenient) == (code, 200)
    assert timeless(told) == timeless(same)
    usable = [status["usable"] for status in told.values() if status["status"] != "missing"]
    assert (code == 200) is (bool(usable) and all(usable))
