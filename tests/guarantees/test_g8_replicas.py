"""G8 with replicas: any of them serves any request, in both eras, and nothing that one knows is unknown to another.

Two real `serve` on one Redis, each with a state folder of its own, as on two machines; and the real nginx before them,
with the example's very file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from mcp.client import Client

from llm_mcp_hub.store.base import AILING, key
from tests.guarantees.drill import FIRST, PROVIDERS, Call, Provider
from tests.guarantees.durable import WHOLE, Question, Voices, held_in, store_of, until
from tests.guarantees.replicas import KEY, Nginx, Receiver, Replica, Wire, id_of, wires
from tests.harness import DEADLINE_S, Era, Line, World, answer_of, error_of, make_world, run_command
from tests.upstreams import anthropic, google
from tests.upstreams.redis import RedisServer

ERAS: list[Era] = ["auto", "legacy"]
PLACES = 2
"""Of each provider, over both replicas."""
NEW_KEY = "another-key-that-takes-the-place-of-the-first"


@dataclass
class Pair:
    """Two replicas, and what is told to them."""

    world: World
    voices: Voices
    a: Replica
    b: Replica

    def wire(self, era: Era, name: str = "wire") -> Wire:
        """A client that has begun at A."""
        wire = Wire(era, name=name)
        return wire.greet(self.a.port) if era == "legacy" else wire

    def waits(self, wire: Wire, question: Question, port: int, **more: Any) -> tuple[Call, str]:
        """Ask there, until the first words have come. Returns the call that waits, and the ask."""
        log = self.a.log if port == self.a.port else self.b.log
        before = len(log.found("first text", provider=question.provider))
        call = wire.call(port, f"ask_{question.provider}", prompt=question.prompt, wait_s=DEADLINE_S)
        self.voices.under_way(question)
        log.wait_for("first text", more_than=before, provider=question.provider)
        return call, id_of(wire.call(self.b.port, "ask_result").result(), question.prompt)

    def settled(self) -> None:
        """Block until no ask runs and no place is taken."""
        until(lambda: held_in(self.world) == [], "every lease is free again")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """At its end the logs hold neither a key nor a sealed session, and no child is left."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("pair")
        world = stack.enter_context(make_world(folder / "world"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        world.changes |= {
            "REDIS_URL": redis.url,
            "HUB_CLAUDE_CONCURRENCY": str(PLACES),
            "HUB_GEMINI_CONCURRENCY": str(PLACES),
            "HUB_DRAIN_S": "1",
            "HUB_ALLOWED_HOSTS": "hub.example",
            "LOG_LEVEL": "DEBUG",
        }
        voices = Voices(world)
        a = stack.enter_context(Replica(world, "a"))
        b = stack.enter_context(Replica(world, "b"))
        yield Pair(world, voices, a, b)
        stack.pop_all().close()
        world.wait_until_no_child()
        assert world.surprises == []
        for replica in (a, b):
            assert KEY not in replica.log.text
            assert "Traceback" not in replica.log.text


@contextmanager
def open_line_to(port: int, era: Era) -> Generator[Line]:
    """The official client, connected to that port."""
    client = Client(f"http://127.0.0.1:{port}/mcp", mode=era)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(client):
        yield Line(portal, client, str)


def reached(wire: Wire, port: int) -> bool:
    """Whether a call that costs nothing is answered there."""
    try:
        return not wire.call(port, "token_status").result().is_error
    except ConnectionError:
        return False


def both(wire: Wire, ports: Iterable[int], tool: str, **arguments: Any) -> list[Any]:
    return [wire.call(port, tool, **arguments).result() for port in ports]


# What is shared -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("era", ERAS)
def test_a_conversation_begun_at_one_goes_on_at_the_other(pair: Pair, era: Era, provider: Provider) -> None:
    """With all its turns, and in the same session of the client's."""
    with wires() as made:
        made.append(wire := pair.wire(era))
        first, second = pair.voices.holds(provider), pair.voices.holds(provider)
        first.go_on.set()
        second.go_on.set()
        begun = answer_of(wire.call(pair.a.port, f"ask_{provider}", prompt=first.prompt).result())
        conversation = begun["conversation_id"]
        gone_on = answer_of(
            wire.call(pair.b.port, f"ask_{provider}", prompt=second.prompt, conversation_id=conversation).result()
        )

    assert (begun["text"], gone_on["text"], gone_on["conversation_id"]) == (WHOLE, WHOLE, conversation)
    assert first.prompt in json.dumps(second.request.json)
    pair.settled()


@pytest.mark.parametrize("era", ERAS)
def test_a_ticket_of_one_is_fetched_and_cancelled_at_the_other(pair: Pair, era: Era) -> None:
    """`ask_result` and `ask_cancel` go wherever the balancer sends them."""
    with wires() as made:
        made.append(wire := pair.wire(era))
        kept, unwanted = pair.voices.holds("gemini"), pair.voices.hangs("gemini")
        tickets = [
            answer_of(wire.call(pair.a.port, "ask_gemini", prompt=each.prompt, wait_s=0).result())["ask_id"]
            for each in (kept, unwanted)
        ]
        for each in (kept, unwanted):
            pair.voices.under_way(each)
        cancelled = wire.call(pair.b.port, "ask_cancel", ask_id=tickets[1]).result()
        kept.go_on.set()
        fetched = answer_of(wire.call(pair.b.port, "ask_result", ask_id=tickets[0], wait_s=DEADLINE_S).result())

    assert cancelled.structured_content["status"] == "cancelled"
    assert unwanted.request.done.wait(DEADLINE_S)
    assert unwanted.request.ended == "disconnected"
    assert fetched["text"] == WHOLE
    pair.settled()


def test_places_count_over_both(pair: Pair) -> None:
    """Three asks at each, and never more at the provider than there are places in all."""
    with wires() as made:
        made.append(wire := pair.wire("auto"))
        questions = [pair.voices.holds("gemini") for _ in range(6)]
        pair.voices.most_open["gemini"] = 0
        ports = [pair.a.port, pair.b.port] * 3
        calls = [wire.call(port, "ask_gemini", prompt=each.prompt) for port, each in zip(ports, questions, strict=True)]
        until(lambda: sum(bool(each.requests) for each in questions) == PLACES, "every place is taken")
        for each in questions:
            each.go_on.set()
        answers = [answer_of(call.result())["text"] for call in calls]

    assert answers == [WHOLE] * 6
    assert pair.voices.most_open["gemini"] == PLACES
    pair.settled()


def test_what_an_ask_shows_of_a_login_at_one_is_known_at_the_other(pair: Pair) -> None:
    """The ledger of evidence is shared: the other replica has asked nobody."""
    with wires() as made:
        made.append(wire := pair.wire("auto"))
        question = pair.voices.holds("claude")
        question.go_on.set()
        answer_of(wire.call(pair.a.port, "ask_claude", prompt=question.prompt).result())
        known = [
            result.structured_content["claude"]
            for result in both(wire, (pair.a.port, pair.b.port), "token_status", provider="claude")
        ]

    assert [each["evidence"]["level"] for each in known] == ["proven", "proven"]
    assert known[0]["last_success_at"] == known[1]["last_success_at"]
    pair.settled()


# Sessions of the older era --------------------------------------------------------------------------------------------


def test_a_session_begun_at_one_is_known_at_the_other_and_to_nobody_else(pair: Pair) -> None:
    """404 for what no replica has sealed, 400 for none at all, as the specification has it."""
    wire = pair.wire("legacy")
    session = wire.session
    assert session is not None
    ping = wire.message("ping", {}, number=7)
    said, _, mark = session.removeprefix("v1.").partition(".")
    other = json.loads(base64.urlsafe_b64decode(said + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**other, "principal": "client:bob"}).encode()).decode().rstrip("=")
    for wrong in ("0" * 32, session[:-2], f"v1.{forged}.{mark}", f"v1.{said}.", "v1..", "x", session + "A" * 9_000):
        for method in ("POST", "DELETE"):
            status, _, body = wire.send(pair.b.port, ping, method, **{"mcp-session-id": wrong})
            assert (status, json.loads(body)["error"]["message"]) == (404, "Session not found"), wrong
    for port in (pair.a.port, pair.b.port):
        assert wire.send(port, ping)[0] == 200
        assert wire.send(port, ping, "DELETE")[0] == 200
        assert wire.send(port, None, "GET")[0] == 405
    wire.session = None
    assert wire.send(pair.b.port, ping)[0] == 400
    assert wire.send(pair.b.port, ping, "DELETE")[0] == 400


def test_a_session_tells_every_replica_how_long_its_client_waits(pair: Pair) -> None:
    """What was said at `initialize` is in the sealed session: nothing of it is kept anywhere."""
    sealed = pair.wire("legacy", name="claude-code").session
    assert sealed is not None
    said = sealed.split(".")[1]

    known = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))

    assert (known["client"], known["version"], known["principal"]) == ("claude-code", "2025-11-25", "owner")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_lost_connection_only_detaches_in_the_older_era(pair: Pair, provider: Provider) -> None:
    """The SDK would end the call with it: the ask goes on, and is fetched at the other replica."""
    with wires() as made:
        made.append(wire := pair.wire("legacy"))
        question = pair.voices.holds(provider)
        call, ask_id = pair.waits(wire, question, pair.a.port)
        lost = len(pair.a.log.found("connection lost"))
        call.hang_up()
        pair.a.log.wait_for("connection lost", more_than=lost)
        assert question.request.ended == "open"
        question.go_on.set()
        fetched = answer_of(wire.call(pair.b.port, "ask_result", ask_id=ask_id, wait_s=DEADLINE_S).result())

    assert (fetched["status"], fetched["text"]) == ("completed", WHOLE)
    pair.settled()


def test_a_closed_stream_of_the_newer_era_cancels(pair: Pair) -> None:
    """There the specification makes it one, replicas or not."""
    with wires() as made:
        made.append(wire := pair.wire("auto"))
        question = pair.voices.hangs("gemini")
        call, ask_id = pair.waits(wire, question, pair.a.port)
        call.hang_up()
        assert question.request.done.wait(DEADLINE_S)
        ended = error_of(wire.call(pair.b.port, "ask_result", ask_id=ask_id, wait_s=DEADLINE_S).result())

    assert (ended["code"], ended["partial_text"]) == ("cancelled", FIRST)
    pair.settled()


@pytest.mark.parametrize("at", ["the same", "the other"])
def test_an_explicit_cancel_finds_its_ask_wherever_it_arrives(pair: Pair, at: str) -> None:
    """The notification names a call of its session, and goes where the balancer sends it."""
    with wires() as made:
        made.append(wire := pair.wire("legacy"))
        made.append(stranger := pair.wire("legacy"))
        question, others = pair.voices.hangs("gemini"), pair.voices.holds("gemini")
        call, ask_id = pair.waits(wire, question, pair.a.port)
        theirs, _ = pair.waits(stranger, others, pair.a.port)
        assert call.number == theirs.number  # the same id, in another session

        assert wire.cancel(pair.a.port if at == "the same" else pair.b.port, call) == 202
        assert question.request.done.wait(DEADLINE_S)
        ended = error_of(wire.call(pair.b.port, "ask_result", ask_id=ask_id, wait_s=DEADLINE_S).result())
        told = error_of(call.result())

        assert (ended["code"], ended["partial_text"], told["code"]) == ("cancelled", FIRST, "cancelled")
        assert others.request.ended == "open"
        others.go_on.set()
        assert answer_of(theirs.result())["text"] == WHOLE
    pair.settled()


def test_an_ask_that_was_handed_back_is_no_concern_of_a_late_cancel(pair: Pair) -> None:
    """A ticket ends by none of the client's comings and goings."""
    with wires() as made:
        made.append(wire := pair.wire("legacy"))
        question = pair.voices.holds("gemini")
        call = wire.call(pair.a.port, "ask_gemini", prompt=question.prompt, wait_s=0)
        ask_id = answer_of(call.result())["ask_id"]
        pair.voices.under_way(question)
        for port in (pair.a.port, pair.b.port):
            assert wire.cancel(port, call) == 202
            assert wire.call(port, "token_status").result().is_error is False
        question.go_on.set()
        fetched = answer_of(wire.call(pair.b.port, "ask_result", ask_id=ask_id, wait_s=DEADLINE_S).result())

    assert fetched["text"] == WHOLE
    pair.settled()


def test_the_older_era_is_not_promised_what_it_cannot_be_told(pair: Pair) -> None:
    """Subscriptions live in a session, and there is none; the newer era's streams are told as ever."""
    wire = pair.wire("legacy")
    info = {"name": "wire", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    _, _, body = wire.send(pair.b.port, wire.message("initialize", params, number=1))
    _, _, refused = wire.send(pair.b.port, wire.message("resources/subscribe", {"uri": "hub://tokens"}, number=2))

    assert '"subscribe":true' not in body.decode()
    assert '"code":-32601' in refused.decode()


def test_a_session_belongs_to_its_client_and_outlives_a_change_of_keys(pair: Pair, tmp_path: Path) -> None:
    """Replicas that know both keys take what the old one sealed; what the new one seals the old replica does not."""
    with make_world(tmp_path / "world") as world, ExitStack() as stack:
        world.changes |= {"REDIS_URL": pair.world.changes["REDIS_URL"], "HUB_CLIENTS_FILE": str(world.home / "clients")}
        tokens = {name: run_command(world, "client", "add", name).stdout.decode().strip() for name in ("anna", "bob")}
        world.changes["HUB_GEMINI_COMMAND"] = "/nowhere"  # nothing is asked here: no CLI has to start
        old = stack.enter_context(Replica(world, "old"))
        new = stack.enter_context(Replica(world, "new", HUB_STATE_KEY=f"{NEW_KEY},{KEY}"))
        anna, bob = (Wire("legacy", token=token).greet(old.port) for token in tokens.values())
        late = Wire("legacy", token=tokens["anna"]).greet(new.port)
        ping = anna.message("ping", {}, number=7)

        assert [anna.send(port, ping)[0] for port in (old.port, new.port)] == [200, 200]
        assert [late.send(port, ping)[0] for port in (old.port, new.port)] == [404, 200]
        assert bob.session is not None
        for port in (old.port, new.port):
            for method in ("POST", "DELETE"):
                assert anna.send(port, ping, method, **{"mcp-session-id": bob.session})[0] == 404
        assert "Traceback" not in old.log.text + new.log.text


def test_a_key_that_is_too_short_ends_the_start_with_one_sentence(pair: Pair) -> None:
    """A key that can be guessed would let anybody in who has a token be anybody else; the sentence does not show it."""
    pair.world.changes["HUB_STATE_KEY"] = "guessable"
    try:
        ended = run_command(pair.world, "serve", "--port", "0")
    finally:
        del pair.world.changes["HUB_STATE_KEY"]

    said = ended.stderr.decode()
    assert ended.returncode == 78, said
    assert said.startswith("llm-mcp-hub: misconfigured: HUB_STATE_KEY is not usable: must be 32 bytes of text or more")
    assert "guessable" not in said
    assert "Traceback" not in said


# Limits that were met, and who is told --------------------------------------------------------------------------------


def test_a_limit_met_at_one_is_answered_at_once_by_the_other(tmp_path: Path) -> None:
    """And of a login that is refused a person is told once, whichever replica sees it, and as often as they start."""
    with ExitStack() as stack:
        world = stack.enter_context(make_world(tmp_path / "world"))
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        receiver = stack.enter_context(Receiver())
        world.changes |= {"REDIS_URL": redis.url, "HUB_ALERT_WEBHOOK_URL": receiver.url}
        world.claude.default = anthropic.Error.unauthorized()
        world.gemini.default = google.Error.quota_exhausted()
        wire = Wire("auto")
        stack.callback(wire.close)
        a = stack.enter_context(Replica(world, "a"))
        b = stack.enter_context(Replica(world, "b"))

        first = error_of(wire.call(a.port, "ask_gemini", prompt="hello").result())
        asked = world.prompts_received("gemini")
        second = error_of(wire.call(b.port, "ask_gemini", prompt="hello").result())

        assert (first["code"], second["code"]) == ("quota_exhausted", "quota_exhausted")
        assert world.prompts_received("gemini") == asked
        assert abs(first["retry_after_s"] - second["retry_after_s"]) <= DEADLINE_S

        assert error_of(wire.call(a.port, "ask_claude", prompt="hello").result())["code"] == "auth_rejected"
        a.log.wait_for("login needs attention", provider="claude")
        b.stop()
        b.start()  # it looks when it starts
        until(lambda: _ailing(world, "claude") == 2, "both have seen it")
        assert [replica.stop() for replica in (a, b)] == [0, 0]
        told = [log.found("login needs attention", provider="claude") for each in (a, b) for log in each.logs]
        assert [len(lines) for lines in told] == [1, 0, 0]
        assert [(alert["provider"], alert["status"]) for alert in receiver.alerts] == [("claude", "rejected")]
        world.wait_until_no_child()
        assert world.surprises == []


def _ailing(world: World, provider: str) -> int:
    """How many hubs say that they have seen a login that needs a person."""

    async def look() -> int:
        store = store_of(world)
        try:
            return len(await store.holders(key(AILING, provider=provider)))
        finally:
            await store.close()

    return asyncio.run(look())


# Behind nginx ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def balanced(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Generator[int]:
    """The port of nginx before the pair."""
    with Nginx(tmp_path_factory.mktemp("nginx") / "nginx", [pair.a, pair.b]) as nginx:
        yield nginx.port


@pytest.mark.parametrize("era", ERAS)
def test_the_official_client_is_served_by_both_through_nginx(pair: Pair, balanced: int, era: Era) -> None:
    """A session, a conversation and its resources, wherever each request goes; and both replicas have had some."""
    question = pair.voices.holds("gemini")
    question.go_on.set()

    async def talk() -> list[str]:
        texts: list[str] = []
        async with asyncio.timeout(DEADLINE_S), Client(f"http://127.0.0.1:{balanced}/mcp", mode=era) as client:
            conversation = None
            for _ in range(8):
                given = {"prompt": question.prompt} | ({"conversation_id": conversation} if conversation else {})
                answer = answer_of(await client.call_tool("ask_gemini", given))
                conversation = answer["conversation_id"]
                texts.append(answer["text"])
            read = await client.read_resource(f"hub://conversations/{conversation}")
            texts.append(getattr(read.contents[0], "text", ""))
        return texts

    before = [len(replica.log.found("first text")) for replica in (pair.a, pair.b)]
    *texts, read = asyncio.run(talk())
    after = [len(replica.log.found("first text")) for replica in (pair.a, pair.b)]

    assert texts == [WHOLE] * 8
    assert read.count(f"\n\n{question.prompt}\n") == 8
    assert all(now > then for now, then in zip(after, before, strict=True))
    pair.settled()


@pytest.mark.parametrize("era", ERAS)
def test_what_is_said_meanwhile_comes_through_nginx_at_once(pair: Pair, balanced: int, era: Era) -> None:
    """Progress before the answer: a proxy that holds it back lets every idle timer strike."""
    question = pair.voices.holds("gemini")
    heard = threading.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.set()

    with open_line_to(balanced, era) as line:
        call = line.begin("ask_gemini", {"prompt": question.prompt}, on_progress)
        assert heard.wait(DEADLINE_S)
        question.go_on.set()
        assert answer_of(call.result(DEADLINE_S))["text"] == WHOLE
    pair.settled()


def test_names_and_sizes_are_as_strict_behind_nginx(pair: Pair, balanced: int) -> None:
    """Host and Origin reach the hub as they were written; an ask of the largest size passes, and nothing larger."""
    wire = Wire("auto")
    listing = wire.message("tools/list", {}, number=1)
    for headers, status in [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"host": f"127.0.0.1:{balanced}"}, 200),
    ]:
        assert wire.send(balanced, listing, **headers)[0] == status
    # The owner alone is served as long as there are no tokens: from this machine, and by its own names.
    assert wire.send(balanced, listing, host="hub.example")[0] == 403
    large = wire.message("tools/call", {"name": "ask_gemini", "arguments": {"prompt": "x" * 15_900_000}}, number=1)
    status, _, body = wire.send(balanced, large)
    assert (status, "invalid_request" in body.decode()) == (200, True)
    large["params"]["arguments"]["prompt"] = "x" * (16 << 20)
    assert wire.send(balanced, large)[0] == 413
    assert wire.send(balanced, listing, **{"x-long": "y" * 70_000})[0] == 400


def test_a_dead_replica_is_passed_over_and_no_ask_is_put_twice(tmp_path: Path) -> None:
    """What had not reached it goes to the other; what had is closed as failed, and never sent again."""
    with ExitStack() as stack:
        world = stack.enter_context(make_world(tmp_path / "world"))
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        world.changes |= {"REDIS_URL": redis.url, "LOG_LEVEL": "DEBUG"}
        voices = Voices(world)
        replicas = [Replica(world, name).start() for name in ("a", "b")]
        for replica in replicas:
            stack.callback(replica.stop)
        nginx = stack.enter_context(Nginx(tmp_path / "nginx", replicas))
        older, newer = Wire("legacy").greet(nginx.port), Wire("auto")
        for wire in (older, newer):
            stack.callback(wire.close)
        questions = [voices.hangs("gemini"), voices.hangs("gemini")]
        calls = [
            # The newer one's answer has not begun in the sense of HTTP: a proxy could send it again.
            wire.call(nginx.port, "ask_gemini", prompt=question.prompt, wait_s=DEADLINE_S)
            for wire, question in zip((older, newer), questions, strict=True)
        ]
        for question in questions:
            voices.under_way(question)
        listed = newer.call(nginx.port, "ask_result").result()
        ids = [id_of(listed, question.prompt) for question in questions]

        for replica in replicas:
            # The one that came back may be passed over for a second yet.
            until(lambda: reached(newer, nginx.port), "nginx serves")
            replica.kill()
            until(lambda: reached(older, nginx.port), "the other one serves")
            replica.start()
        for call in calls:
            with pytest.raises(ConnectionError):
                call.result()
        fetched = [
            error_of(newer.call(nginx.port, "ask_result", ask_id=each, wait_s=DEADLINE_S).result()) for each in ids
        ]

        assert [(each["code"], each["ask_id"]) for each in fetched] == [("internal", each) for each in ids]
        assert [len(question.requests) for question in questions] == [1, 1]
        until(lambda: held_in(world) == [], "every lease is free again")
        assert [replica.stop() for replica in replicas] == [0, 0]
        world.wait_until_no_child()
