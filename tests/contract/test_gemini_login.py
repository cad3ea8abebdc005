"""What the real Gemini CLI makes of a login, and what the provider makes of that: tokens that were taken back early,
renewals, a login that is changed while it is used."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.errors import HubError, UpstreamError
from llm_mcp_hub.providers.base import Finished
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from tests.contract.conftest import DEADLINE_S, within
from tests.harness import GEMINI
from tests.upstreams import google

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(200)]


class Rig:
    """The provider with a login file, and what it was told of renewals."""

    def __init__(self, folder: Path) -> None:
        self.upstream = google.GoogleUpstream(folder / "google")
        self.upstream.start()
        self.login = google.write_login(folder / "login")
        self.renewed: list[tuple[str, str]] = []
        around = {name: value for name, value in self.upstream.environment.items() if name != "CODE_ASSIST_ENDPOINT"}
        self.run = RunFolder(folder / "state")
        self.provider = GeminiProvider(
            run=self.run,
            around={"PATH": os.environ["PATH"], **around},
            login=self.read,
            default_model="gemini-2.5-pro",
            command=str(GEMINI),
            upstream=self.upstream.url,
            renewed=lambda mark, content: self.renewed.append((mark, content)),
        )

    def read(self) -> Login:
        content = self.login.read_bytes()
        return Login(content, json.loads(content).get("refresh_token", "none"))

    @property
    def held(self) -> dict[str, str]:
        return json.loads(self.login.read_text())

    async def ask(self, prompt: str = "Hello?") -> Finished | HubError:
        """The end of an ask, or why it failed."""

        async def whole() -> Finished | HubError:
            ask = Ask(f"ask_{os.urandom(6).hex()}", "gemini", prompt, "gemini-2.5-pro", None, DEADLINE_S)
            try:
                *_, last = [event async for event in self.provider.ask(ask)]
            except HubError as error:
                return error
            assert isinstance(last, Finished)
            return last

        return await within(whole())

    def signed(self) -> list[str]:
        """What the requests for an answer were signed with."""
        return [received.headers["authorization"].removeprefix("Bearer ") for received in self.upstream.generations]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[Rig]:
    made = Rig(tmp_path)
    try:
        yield made
        await within(made.provider.close())
        assert made.upstream.surprises == []
    finally:
        made.provider.kill()
        made.upstream.stop()
        made.run.close()


def code(end: Finished | HubError) -> str:
    return end.code if isinstance(end, HubError) else "answered"


async def test_an_access_token_that_was_taken_back_early_is_renewed(rig: Rig) -> None:
    """The CLI goes by the clock alone and would send it for an hour: the login behind it is fine."""
    first = await rig.ask()
    rig.upstream.oauth.rejected.add(rig.held["access_token"])

    ends = [await rig.ask(), await rig.ask()]

    assert [code(first), *map(code, ends)] == ["answered"] * 3
    assert rig.upstream.oauth.refreshes == 1
    assert rig.signed()[-2:] == [rig.upstream.oauth.issued[-1]] * 2
    assert [mark for mark, _ in rig.renewed][-1:] == [rig.held["refresh_token"]]
    assert json.loads(rig.renewed[-1][1])["access_token"] == rig.upstream.oauth.issued[-1]


async def test_at_a_start_too(rig: Rig) -> None:
    """Google's tokeninfo refuses it then, and the CLI asks for a new login: it needs none."""
    rig.upstream.oauth.rejected.add(rig.held["access_token"])

    end = await rig.ask()

    assert code(end) == "answered"
    assert rig.upstream.oauth.refreshes == 1


async def test_twenty_asks_that_meet_it_at_once_renew_it_once(rig: Rig) -> None:
    """They share one process, and its successor."""
    assert code(await rig.ask()) == "answered"
    rig.upstream.oauth.rejected.add(rig.held["access_token"])

    ends = await asyncio.gather(*(rig.ask(str(number)) for number in range(20)))

    assert {code(end) for end in ends} == {"answered"}
    assert rig.upstream.oauth.refreshes == 1


async def test_a_login_that_is_gone_is_told_by_its_renewal(rig: Rig) -> None:
    """Refused twice: as it was, and renewed. Only that says that the login has ended."""
    rig.upstream.oauth.rejected |= {rig.held["access_token"], rig.held["refresh_token"]}

    end = await rig.ask()

    assert isinstance(end, HubError)
    assert (end.code, end.shows) == ("auth_expired", "refused")
    assert rig.upstream.generations == []


async def test_a_renewal_that_nobody_can_be_asked_for_says_nothing_of_the_login(rig: Rig) -> None:
    """An unreachable host is not a rejection (G6)."""
    google.write_login(rig.login.parent, expires_in_s=-60)
    rig.upstream.oauth.token = "unreachable"

    end = await rig.ask()

    assert isinstance(end, HubError)
    assert (end.code, end.shows) == ("upstream_error", "unreachable")


async def test_without_a_refresh_token_a_refusal_is_final(rig: Rig) -> None:
    """There is nothing to renew it with: no second start."""
    login = rig.held
    google.write_login(rig.login.parent, access_token=login["access_token"], without=["refresh_token"])
    rig.upstream.oauth.rejected.add(login["access_token"])

    end = await rig.ask()

    assert isinstance(end, HubError)
    assert end.shows == "refused"
    assert rig.upstream.oauth.refreshes == 0


async def test_a_renewed_login_is_handed_out_and_the_owners_file_stays(rig: Rig) -> None:
    """The file may be mounted read-only."""
    google.write_login(rig.login.parent, expires_in_s=-60)
    rig.login.chmod(0o400)
    before = rig.login.read_bytes()

    end = await rig.ask()

    assert code(end) == "answered"
    assert rig.login.read_bytes() == before
    assert [json.loads(content)["access_token"] for _, content in rig.renewed] == [rig.upstream.oauth.issued[-1]]


async def test_a_login_that_is_changed_while_one_starts_does_not_wait_for_the_old_one(rig: Rig) -> None:
    """Else the new login would be blamed for what the old one met."""
    old = rig.held
    rig.upstream.oauth.token = "hang"
    google.write_login(rig.login.parent, expires_in_s=-60)
    waiting = asyncio.ensure_future(rig.ask("with the old login"))
    await asyncio.to_thread(rig.upstream.wait_for_oauth, "/token")

    google.write_login(rig.login.parent)
    new = await rig.ask("with the new one")

    assert code(new) == "answered"
    assert old["access_token"] not in rig.signed()
    assert rig.signed() == [rig.held["access_token"]]
    rig.upstream.oauth.token = "ok"  # the old one starts after all
    end = await waiting  # which is tried again by who knows with which login: what comes of it is noted for that one
    assert isinstance(end, UpstreamError)
    assert end.transient
    assert rig.signed() == [rig.held["access_token"]]
    async with asyncio.timeout(DEADLINE_S):
        while rig.run.children("gemini")[0] > 1:  # and is let go
            await asyncio.sleep(0.01)


async def test_a_login_that_comes_back_while_its_first_start_lasts_leaves_one_cli(rig: Rig) -> None:
    """Another one was tried in between, in vain: both starts with the first are its own, and one is enough."""
    first = google.write_login(rig.login.parent, expires_in_s=-60).read_bytes()
    rig.upstream.oauth.token = "hang"
    waiting = [asyncio.ensure_future(rig.ask("with the first"))]
    await asyncio.to_thread(rig.upstream.wait_for_oauth, "/token")
    google.write_login(rig.login.parent)
    rig.upstream.oauth.rejected.add(rig.held["access_token"])
    rig.login.write_text(json.dumps({name: value for name, value in rig.held.items() if name != "refresh_token"}))
    assert code(await rig.ask("with another")) == "auth_expired"

    rig.login.write_bytes(first)
    waiting.append(asyncio.ensure_future(rig.ask("with the first again")))
    async with asyncio.timeout(DEADLINE_S):
        while rig.run.children("gemini")[0] < 2:
            await asyncio.sleep(0.01)
    rig.upstream.oauth.token = "ok"

    assert [code(end) for end in await asyncio.gather(*waiting)] == ["answered"] * 2
    async with asyncio.timeout(DEADLINE_S):
        while rig.run.children("gemini")[0] > 1:
            await asyncio.sleep(0.01)


async def test_a_used_up_quota_is_told_as_a_window_of_its_model(rig: Rig) -> None:
    """Google counts by model, and says when it begins anew."""
    rig.upstream.default = google.Error.quota_exhausted()
    ask = Ask("ask_1", "gemini", "Hello?", "gemini-2.5-pro", None, DEADLINE_S)
    told: list[tuple[str, float | None, bool]] = []

    async def collect() -> None:
        async for event in rig.provider.ask(ask):
            for window in getattr(event, "windows", ()):
                told.append((window.window, window.used_fraction, window.resets_at is not None))

    with pytest.raises(HubError):
        await within(collect())

    assert told == [("gemini-2.5-pro", 1.0, True)]


async def test_what_stops_it_from_getting_warm_is_returned(rig: Rig) -> None:
    """Without an ask: so a container's start tells a dead login, and an account that is not served."""
    rig.upstream.account = google.Account.ineligible()

    error = await within(rig.provider.warm())

    assert isinstance(error, HubError)
    assert (error.code, error.shows) == ("account_ineligible", "refused")
    rig.upstream.account = google.Account.free()
    assert await within(rig.provider.warm()) is None
