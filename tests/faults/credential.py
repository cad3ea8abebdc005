"""Faults of a login: it is gone, torn, of another shape, by a wrong clock, changed or refused while it is used."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from tests.faults.child import BOTH_ANSWER
from tests.faults.stage import Stage
from tests.faults.table import ANSWERED, Fault, Got, Strike
from tests.guarantees.drill import HELLO, PROVIDERS
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

DAY_S = 86_400


def files_are(change: Callable[[Stage], object]) -> Strike:
    """Both files are changed, somebody asks, and their owner puts them right."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        change(stage)
        try:
            yield stage.ask()
        finally:
            stage.new_logins()

    return strike


def gone(stage: Stage) -> None:
    stage.token_file.unlink()
    stage.world.login_file.unlink()


def read_by_others(stage: Stage) -> None:
    stage.token_file.chmod(0o644)
    stage.world.login_file.chmod(0o644)


def torn(stage: Stage) -> None:
    """Half of each has been written."""
    for file in (stage.token_file, stage.world.login_file):
        whole = file.read_text()
        file.write_text(whole[: len(whole) // 2])


def emptied(stage: Stage) -> None:
    stage.token_file.write_text("")
    stage.world.login_file.write_text("")


def folders(stage: Stage) -> None:
    """What a container makes of a mount whose file is not there yet."""
    gone(stage)
    stage.token_file.mkdir()
    stage.world.login_file.mkdir()


def of_another_shape(stage: Stage) -> None:
    """Each as the other CLI, or another version, keeps it."""
    stage.token_file.write_text(json.dumps({"claudeAiOauth": {"accessToken": stage["setup token"]}}))
    stage.world.login_file.write_text(json.dumps({"tokens": {"refreshToken": stage["refresh token"]}}))


def keys(stage: Stage) -> None:
    """What is paid by use."""
    stage.token_file.write_text("sk-ant-api03-" + "madeup" * 15)
    account = {"type": "service_account", "private_key": stage["refresh token"], "client_email": "a@b.example"}
    stage.world.login_file.write_text(json.dumps(account))


@contextmanager
def of_the_past(stage: Stage) -> Generator[Got]:
    """By the clock that wrote it the access token was over two days ago; it is renewed, the owner's file is not."""
    stage.write_login(expiry_date=1, expires_in_s=-2 * DAY_S)
    before = stage.world.login_file.read_bytes()
    got = stage.ask()
    assert stage.world.login_file.read_bytes() == before
    yield got
    stage.new_logins()


@contextmanager
def of_the_future(stage: Stage) -> Generator[Got]:
    """By the clock that wrote it the access token has two days; Google says that it is over."""
    token = google.made_up("access")
    stage.write_login(access_token=token, refresh_token=google.made_up("refresh"), expires_in_s=2 * DAY_S)
    stage.world.gemini.oauth = google.OAuth(rejected={token})
    yield stage.ask()
    stage.world.gemini.oauth = google.OAuth()
    stage.new_logins()


@contextmanager
def changed_meanwhile(stage: Stage) -> Generator[Got]:
    """The owner makes new ones while the old ones are in use."""

    token, access = "sk-ant-oat01-" + "another" * 12, google.made_up("access")

    def answer(provider: Any) -> Callable[[Received], Any]:
        def reply(_received: Received) -> Any:
            if provider == "claude":
                stage.write_token(token)
                return anthropic.Answer(HELLO["claude"])
            stage.write_login(access_token=access, refresh_token=google.made_up("refresh"))
            return google.Answer(HELLO["gemini"])

        return reply

    stage.replies.update({provider: answer(provider) for provider in PROVIDERS})
    yield stage.ask()
    stage.replies.clear()
    assert stage.next_ask() == ANSWERED
    last = (stage.world.claude.received[-1], stage.world.gemini.generations[-1])
    assert [one.headers["authorization"].removeprefix("Bearer ") for one in last] == [token, access]
    stage.new_logins()


@contextmanager
def refused(stage: Stage) -> Generator[Got]:
    """Both providers refuse them."""
    stage.write_login(refresh_token=google.made_up("refresh"), expires_in_s=-60)
    stage.world.gemini.oauth = google.OAuth(token="invalid_grant")
    stage.replies["claude"] = anthropic.Error.unauthorized()
    yield stage.ask()
    stage.replies.clear()
    stage.world.gemini.oauth = google.OAuth()
    stage.new_logins()


@contextmanager
def nobody_renews(stage: Stage) -> Generator[Got]:
    """The access token is over, and Google's login service cannot be reached: that says nothing of the login."""
    stage.write_login(refresh_token=google.made_up("refresh"), expires_in_s=-60)
    stage.world.gemini.oauth = google.OAuth(token="unreachable")
    yield stage.ask()
    stage.world.gemini.oauth = google.OAuth()
    stage.new_logins()


@contextmanager
def read_only(stage: Stage) -> Generator[Got]:
    """Their folder is read-only for the hub, and the access token has to be renewed."""
    stage.write_login(refresh_token=google.made_up("refresh"), expires_in_s=-60)
    renewals = stage.world.gemini.oauth.refreshes
    got = stage.ask()
    assert stage.world.gemini.oauth.refreshes > renewals
    yield got
    stage.new_logins()


def clock_off(seconds: float) -> Strike:
    """The hub's clock is off by so much."""

    @contextmanager
    def strike(stage: Stage) -> Generator[Got]:
        (stage.folder / "clock").write_text(str(seconds))
        try:
            yield stage.ask()
        finally:
            (stage.folder / "clock").unlink()

    return strike


def fault(name: str, strike: Strike, claude: str, gemini: str, **more: Any) -> Fault:
    expected = {"claude": claude, "gemini": gemini}
    return Fault(name, "credential", more.pop("stage", "plain"), strike, expected, **more)


ALL_UNUSABLE = dict.fromkeys(PROVIDERS, "misconfigured")

FAULTS = [
    fault(
        "missing",
        files_are(gone),
        "misconfigured",
        "auth_missing",
        outage={"claude": "misconfigured", "gemini": "missing"},
    ),
    fault("others can read it (0644)", files_are(read_by_others), ANSWERED, ANSWERED),
    fault("a torn write", files_are(torn), "misconfigured", ANSWERED, outage={"claude": "misconfigured"}),
    fault("emptied", files_are(emptied), "auth_missing", ANSWERED, outage={"claude": "missing"}),
    fault("a folder in its place", files_are(folders), "misconfigured", "misconfigured", outage=ALL_UNUSABLE),
    fault("of another shape", files_are(of_another_shape), "misconfigured", "misconfigured", outage=ALL_UNUSABLE),
    fault("a key that is paid by use", files_are(keys), "billing_blocked", "billing_blocked", outage=ALL_UNUSABLE),
    fault("by a clock two days behind", of_the_past, ANSWERED, ANSWERED),
    fault("by a clock two days ahead", of_the_future, ANSWERED, ANSWERED),
    fault("changed while it is used", changed_meanwhile, ANSWERED, ANSWERED),
    fault(
        "refused by its provider",
        refused,
        "auth_rejected",
        "auth_expired",
        outage={"claude": "rejected", "gemini": "expired"},
    ),
    fault("nobody there to renew it", nobody_renews, ANSWERED, "upstream_error"),
    fault("on a file system that is read-only", read_only, *BOTH_ANSWER.values(), stage="disk"),
    fault("the hub's clock two days ahead", clock_off(2 * DAY_S), ANSWERED, ANSWERED, stage="troubled", by="injected"),
    fault(
        "the hub's clock two days behind", clock_off(-2 * DAY_S), ANSWERED, ANSWERED, stage="troubled", by="injected"
    ),
]
