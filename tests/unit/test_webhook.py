"""Alerts as HTTP requests: to a receiver on loopback that checks what it gets, answers as it likes, or does not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from aiohttp import web
from structlog.typing import EventDict

from llm_mcp_hub.credentials import webhook
from llm_mcp_hub.credentials.alerts import Alert, Alerts, alert_of
from llm_mcp_hub.credentials.webhook import Webhook, key_of, signed
from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.observe import logs
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.statuses import status as login
from tests.upstreams.loopback import LoopbackServer, Received
from tests.upstreams.redis import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
DEADLINE_S = 60.0
SECRET = "made-up-signing-secret"
CANARY = "canary-in-the-path"
PATH = f"/services/{CANARY}"
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
AT_ONCE = (0.0, 0.0)
"""Between three tries no time has to go by here."""
found = alert_of("one", login("rejected", message="한국어 & <b>"), NOON, "valid")
assert found is not None
ALERT: Alert = found


class Receiver(LoopbackServer):
    """Answers with these one after the other, the last one for ever. `hang` never answers, a path is a redirect."""

    def __init__(self, *answers: int | str) -> None:
        super().__init__(self._reply)
        self._answers = list(answers)

    async def _reply(self, request: web.Request, _received: Received) -> web.StreamResponse:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer == "hang":
            await asyncio.Event().wait()
        if answer == "flood":
            return await self._flood(request)
        if isinstance(answer, str):
            return web.Response(status=307, headers={"Location": answer})
        return web.Response(status=answer, text="what the receiver says is nobody's business")

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)


@pytest.fixture
def lines() -> Generator[list[EventDict]]:
    """The log."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@asynccontextmanager
async def delivered(url: str, secret: str | None = SECRET, **given: Any) -> AsyncGenerator[None]:
    """One alert sent to this address, and all over."""
    options: dict[str, Any] = {"pauses_s": AT_ONCE, "close_s": DEADLINE_S, **given}
    hook = Webhook(url, secret, **options)
    async with asyncio.timeout(2 * DEADLINE_S):
        hook.send(ALERT)
        await hook.close()
    yield


def verify(received: Received, key: bytes) -> None:
    """As a receiver does it that knows Standard Webhooks and not us."""
    headers = received.headers
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def reasons(lines: list[EventDict]) -> list[tuple[str, str]]:
    return [(line["reason"], line["tries"]) for line in lines if line["event"] == "alert not delivered"]


async def test_an_alert_arrives_signed(lines: list[EventDict]) -> None:
    """What chats show and what programs read, in one body; the id is the alert's, the time that of the try."""
    with Receiver(204) as receiver:
        async with delivered(receiver.url + PATH, clock=lambda: 1_800_000_000.7):
            [request] = receiver.received

    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == ALERT.id
    assert request.headers["webhook-timestamp"] == "1800000000"
    verify(request, SECRET.encode())
    assert request.json == {"text": ALERT.text, "content": ALERT.text, **ALERT.model_dump(mode="json")}
    assert "한국어" in request.json["text"]
    assert lines == []


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    """The vector that the libraries of Standard Webhooks test themselves with."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_secret_may_be_base64(lines: list[EventDict]) -> None:
    """As receivers hand it out: `whsec_`, then the key."""
    key = bytes(range(32))
    with Receiver(200) as receiver:
        async with delivered(receiver.url, "whsec_" + base64.b64encode(key).decode()):
            verify(receiver.received[0], key)

    assert lines == []


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64 at all!", "whsec_c2hvcnQ=", "whsec_abc"])
def test_a_secret_that_is_none_is_refused_at_the_start(secret: str) -> None:
    """Before anything depends on it; the complaint does not show it."""
    with pytest.raises(Misconfigured) as caught:
        Webhook("https://hooks.example/x", secret)

    assert "HUB_ALERT_WEBHOOK_SECRET" in caught.value.message
    assert secret.removeprefix("whsec_") == "" or secret not in caught.value.message


@pytest.mark.parametrize(
    "address",
    [
        f"https://1.2.3.999/{CANARY}",
        f"https://[v1.x]/{CANARY}",
        f"https://alerts.example/\x01{CANARY}",
        f"https://alerts.example/\ud800{CANARY}",
        f"https://xn--{CANARY}-.example/" + 70_000 * "x",
    ],
    ids=["no IPv4", "no IPv6", "control", "half a character", "long"],
)
def test_an_address_that_cannot_be_called_is_refused_at_the_start(address: str) -> None:
    """And not quoted: who knows it can send there."""
    with pytest.raises(Misconfigured, match="HUB_ALERT_WEBHOOK_URL") as told:
        Webhook(address)

    assert CANARY not in f"{told.value.message} {told.value.action}"
    assert told.value.__suppress_context__


async def test_without_a_secret_nothing_is_signed() -> None:
    """Slack and Discord check no signature: their address is the secret."""
    with Receiver(200) as receiver:
        async with delivered(receiver.url, None):
            [request] = receiver.received

    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == ALERT.id


@pytest.mark.parametrize("passing", [500, 503, 429, 408])
async def test_what_may_pass_is_tried_again(passing: int, lines: list[EventDict]) -> None:
    """Twice: the same alert, by its id and its bytes, each with a signature of its own time."""
    times = iter([1_800_000_000.0, 1_800_000_001.0, 1_800_000_006.0])
    with Receiver(passing, passing, 200) as receiver:
        async with delivered(receiver.url, clock=lambda: next(times)):
            requests = receiver.received

    assert len(requests) == 3
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    assert [r.headers["webhook-timestamp"] for r in requests] == ["1800000000", "1800000001", "1800000006"]
    for request in requests:
        verify(request, SECRET.encode())
    assert lines == []


async def test_three_tries_are_all(lines: list[EventDict]) -> None:
    """Then it is one line in the log: the next day tells again."""
    with Receiver(500) as receiver:
        async with delivered(receiver.url):
            assert len(receiver.received) == 3

    assert reasons(lines) == [("answered 500", "3 of 3")]


@pytest.mark.parametrize("refusal", [400, 401, 404, 410])
async def test_a_refusal_is_not_tried_again(refusal: int, lines: list[EventDict]) -> None:
    """A wrong address stays wrong."""
    with Receiver(refusal) as receiver:
        async with delivered(receiver.url):
            assert len(receiver.received) == 1

    assert reasons(lines) == [(f"answered {refusal}", "1 of 3")]


async def test_a_redirect_is_not_followed(lines: list[EventDict]) -> None:
    """What the owner's address sends elsewhere would reach whoever stands there, signed."""
    with Receiver(200) as elsewhere, Receiver(elsewhere.url + "/x") as receiver:
        async with delivered(receiver.url):
            assert len(receiver.received) == 1
            assert elsewhere.received == []

    assert reasons(lines) == [("answered 307", "1 of 3")]


async def test_one_that_hangs_is_let_go(lines: list[EventDict]) -> None:
    """Each try has its deadline, whatever the other side does with the connection."""
    with Receiver("hang") as receiver:
        async with delivered(receiver.url, try_s=0.1):
            await asyncio.to_thread(receiver.wait_until_quiet)
            assert [request.ended for request in receiver.received] == ["disconnected"] * 3

    assert reasons(lines) == [("no answer within 0.1 s", "3 of 3")]


async def test_an_answer_without_end_is_not_read(lines: list[EventDict]) -> None:
    """Its status is enough: a receiver must not fill the hub's memory."""
    with Receiver("flood") as receiver:
        async with delivered(receiver.url):
            await asyncio.to_thread(receiver.wait_until_quiet)
            assert len(receiver.received) == 1

    assert lines == []


async def test_one_that_is_not_there_is_told_of_once(lines: list[EventDict]) -> None:
    """A refused connection may pass too, so it is tried three times."""
    async with delivered(f"http://127.0.0.1:{free_port()}{PATH}"):
        pass

    assert reasons(lines) == [("ConnectError", "3 of 3")]


async def test_no_proxy_sees_what_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY` is for the world outside."""
    with Receiver(502) as proxy, Receiver(200) as receiver:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY")
        async with delivered(receiver.url):
            assert len(receiver.received) == 1
            assert proxy.received == []


async def test_the_end_of_the_hub_waits_for_it_within_a_bound(lines: list[EventDict]) -> None:
    """An alert that was just raised still goes out; one that cannot is let go, and told of."""
    with Receiver("hang") as receiver:
        hook = Webhook(receiver.url, SECRET, close_s=0.05)
        async with asyncio.timeout(DEADLINE_S):
            hook.send(ALERT)
            await asyncio.to_thread(receiver.wait_for_requests, 1)
            await hook.close()
            await asyncio.to_thread(receiver.wait_until_quiet)
            await hook.close()

    assert reasons(lines) == [("the hub ends", "1 of 3")]


async def test_who_looks_does_not_wait_for_the_receiver(tmp_path: Any) -> None:
    """An ask that finds its token refused must not hang on somebody's chat server."""
    store = SqliteStore(tmp_path)
    with Receiver("hang") as receiver:
        hub = Alerts(store, [Webhook(receiver.url, SECRET, close_s=0.0)])
        async with asyncio.timeout(DEADLINE_S):
            await hub.look({"one": login("rejected")})
            await asyncio.to_thread(receiver.wait_for_requests, 1)
            assert len(receiver.open) == 1
            await hub.close()
            await store.close()


@pytest.mark.parametrize("answer", [200, 404, 500, "hang", "/elsewhere"])
async def test_the_log_shows_neither_the_address_nor_the_secret(
    answer: int | str, capfd: pytest.CaptureFixture[str], own_log: None
) -> None:
    """Not even at DEBUG, where the library that sends it tells of every request with its whole address."""
    logs.configure("DEBUG", "json")  # here: pytest gives a test another stderr than it gives the fixtures
    with Receiver(answer) as receiver:
        async with delivered(receiver.url.replace("://", "://user:pa55word@") + PATH, try_s=0.2):
            pass
    said = capfd.readouterr().err

    assert "alert not delivered" in said or answer == 200
    assert re.search(rf"{CANARY}|services|{SECRET}|pa55word|user:", said) is None, said


@pytest.fixture
def own_log(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A log that may be configured, and pytest's again after it; the module's logger would remember it for ever."""
    monkeypatch.setattr(webhook, "log", structlog.stdlib.get_logger("llm_mcp_hub.alerts"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.reset_defaults()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
