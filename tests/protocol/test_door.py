"""Who comes in over HTTP where there are client tokens: every route, both eras, one client beside another (G8)."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from tests.guarantees.durable import until
from tests.harness import (
    DEADLINE_S,
    ROOT,
    Era,
    HttpHub,
    Line,
    World,
    answer_of,
    error_of,
    http_hub,
    make_world,
    open_line,
    run_command,
    texts_of,
)
from tests.protocol.conftest import CANARY
from tests.protocol.elsewhere import HERE, IN_A_NETWORK_OF_ITS_OWN
from tests.protocol.streams import Open
from tests.protocol.test_http import GREETING, MCP, ROUTES
from tests.upstreams import anthropic

ERAS: list[Era] = ["auto", "legacy"]
SCOPES = {"anna": [], "bob": [], "carol": ["ask:claude"], "dave": ["status"]}
"""The clients of these tests; without scopes: all."""
NEEDS_TOKENS = "This hub has no client tokens"


def add(world: World, name: str, *scopes: str) -> str:
    """A new token for that client."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    done = run_command(world, "client", "add", name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@dataclass
class Seen:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


def call(
    url: str,
    method: str = "GET",
    path: str = "/health/live",
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
    token: str | None = None,
) -> Seen:
    """One request, as written: headers may come twice."""
    given = list(headers or [])
    given += [(name, value) for name, value in MCP.items() if name not in dict(given)]
    if token is not None:
        given.append(("Authorization", f"Bearer {token}"))
    if "Host" not in dict(given):
        given.append(("Host", urlsplit(url).netloc))
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in given:
        connection.putheader(name, value)
    if not {"Content-Length", "Transfer-Encoding"} & set(dict(given)):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    seen = Seen(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return seen


def greeting(method: str) -> bytes:
    return json.dumps(GREETING).encode() if method == "POST" else b""


@dataclass
class Guarded:
    """A hub that wants tokens, the tokens of its clients, and their lines to it."""

    world: World
    hub: HttpHub
    tokens: dict[str, str]
    lines: dict[tuple[str, Era], Line]

    @property
    def url(self) -> str:
        return self.hub.url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Guarded]:
    """At its end its log holds no token and no prompt, at DEBUG; every client's token has stood in a header."""
    with make_world(tmp_path_factory.mktemp("guarded")) as world, ExitStack() as stack:
        world.changes["LOG_LEVEL"] = "DEBUG"
        world.changes["HUB_CLAUDE_WARM"] = "0"
        world.changes["HUB_ALLOWED_HOSTS"] = "hub.example:8000, any.example:*, [fd00::1]"
        world.changes["HUB_ALLOWED_ORIGINS"] = "https://pages.example"
        tokens = {name: add(world, name, *scopes) for name, scopes in SCOPES.items()}
        hub = stack.enter_context(http_hub(world))
        lines: dict[tuple[str, Era], Line] = {
            (name, era): stack.enter_context(open_line(world, "http", era, hub=hub, token=tokens[name]))
            for name in SCOPES
            for era in ERAS
        }
        yield Guarded(world, hub, tokens, lines)
        stack.close()
        for secret in (*tokens.values(), CANARY):
            assert secret not in "".join(hub.log)
        assert world.surprises == []
        world.wait_until_no_child()


# Tokens -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("DELETE", "/mcp"), ("OPTIONS", "/mcp"), ("GET", "/metrics/")])
def test_every_route_wants_a_token(guarded: Guarded, method: str, path: str) -> None:
    """Also those that a container or Prometheus asks for, and those that are not there: a stranger learns nothing."""
    right = guarded.tokens["anna"]
    wrong = [right[:-1], right + "x", right.upper(), "llmhub_" + "A" * 43, "", "x" * 5_000, f'"{right}"']

    without = call(guarded.url, method, path, body=greeting(method))
    answers = [call(guarded.url, method, path, body=greeting(method), token=token) for token in wrong]
    known = call(guarded.url, method, path, body=greeting(method), token=right)

    assert (without.status, without.headers["www-authenticate"]) == (401, 'Bearer realm="llm-mcp-hub"')
    for answer in answers:
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert "resource_metadata" not in answer.headers["www-authenticate"]
    assert known.status not in {401, 403, 503}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER   {}", 200),
        ("{}", 401),
        ("Basic {}", 401),
        ("Token {}", 401),
        ("Bearer{}", 401),
        ("Bearer {}, Bearer {}", 401),
        ("Bearer x {}", 401),
    ],
)
def test_the_token_stands_in_its_header(guarded: Guarded, form: str, expected: int) -> None:
    """As RFC 6750 has it; the scheme's name may be written in any case."""
    header = form.replace("{}", guarded.tokens["anna"])

    assert call(guarded.url, headers=[("Authorization", header)]).status == expected


@pytest.mark.parametrize("name", ["access_token", "token", "Authorization"])
def test_a_token_in_an_address_or_a_cookie_is_none(guarded: Guarded, name: str) -> None:
    """Addresses end up in logs and histories, and a browser adds cookies by itself."""
    token = guarded.tokens["anna"]

    assert call(guarded.url, path=f"/health/live?{name}={token}").status == 401
    assert call(guarded.url, headers=[("Cookie", f"{name}={token}")]).status == 401


def test_two_headers_are_no_choice(guarded: Guarded) -> None:
    """What stands before the hub may have looked at the other one (RFC 6750: 400, invalid_request)."""
    token = guarded.tokens["anna"]
    for first, second in [(token, "wrong"), ("wrong", token), (token, token)]:
        headers = [("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]

        answer = call(guarded.url, headers=headers)

        assert answer.status == 400
        assert 'error="invalid_request"' in answer.headers["www-authenticate"]


def test_a_stranger_cannot_make_the_hub_read(guarded: Guarded) -> None:
    """Over 64 KiB it is told so at once, and of a body whose end is open nothing is waited for; a client goes on."""
    for length, expected in [("65536", 401), ("65537", 413), ("9" * 15, 413)]:
        answer = call(guarded.url, "POST", "/mcp", [("Content-Length", length)])
        assert answer.status == expected, length
    endless = call(guarded.url, "POST", "/mcp", [("Transfer-Encoding", "chunked")], b"1\r\nx\r\n")
    assert (endless.status, endless.headers["connection"]) == (401, "close")

    assert call(guarded.url, token=guarded.tokens["anna"]).status == 200


# Scopes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health/tokens", "/metrics"])
def test_what_tells_of_the_logins_needs_the_scope_status(guarded: Guarded, path: str) -> None:
    """403 names the scope; whether the process is alive every client may know."""
    refused = call(guarded.url, path=path, token=guarded.tokens["carol"])

    assert refused.status == 403
    assert 'error="insufficient_scope", scope="status"' in refused.headers["www-authenticate"]
    assert call(guarded.url, path=path, token=guarded.tokens["dave"]).status == 200
    assert call(guarded.url, token=guarded.tokens["carol"]).status == 200


@pytest.mark.parametrize("era", ERAS)
def test_a_client_sees_the_tools_that_it_may_use(guarded: Guarded, era: Era) -> None:
    """A model is not offered what would be refused."""
    own = {"ask_result", "ask_cancel"}
    seen = {name: {tool["name"] for tool in guarded.lines[name, era].tools()} for name in SCOPES}

    assert seen["anna"] == seen["bob"] == own | {"ask_claude", "ask_gemini", "token_status"}
    assert seen["carol"] == own | {"ask_claude"}
    assert seen["dave"] == own | {"token_status"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "tool", "arguments", "scope"),
    [
        ("carol", "ask_gemini", {"prompt": CANARY}, "ask:gemini"),
        ("carol", "ask_gemini", {"prompt": 7}, "ask:gemini"),
        ("carol", "token_status", {}, "status"),
        ("dave", "ask_claude", {"prompt": CANARY}, "ask:claude"),
        ("dave", "token_status", {"verify": True}, "ask:claude"),
        ("dave", "token_status", {"verify": True, "provider": "gemini"}, "ask:gemini"),
    ],
)
def test_a_tool_without_its_scope_is_refused(
    guarded: Guarded, era: Era, name: str, tool: str, arguments: dict[str, Any], scope: str
) -> None:
    """Told to the model as any other error, and nothing is spent: neither by an ask nor by proving a login."""
    before = [guarded.world.prompts_received(provider) for provider in ("claude", "gemini")]

    error = error_of(guarded.lines[name, era].call(tool, arguments))

    assert (error["code"], error["retryable"]) == ("permission_denied", False)
    assert scope in error["message"]
    assert [guarded.world.prompts_received(provider) for provider in ("claude", "gemini")] == before


@pytest.mark.parametrize("era", ERAS)
def test_what_a_client_may_do_is_done(guarded: Guarded, era: Era) -> None:
    """Each with the one scope that it has."""
    carol, dave = guarded.lines["carol", era], guarded.lines["dave", era]

    assert answer_of(carol.call("ask_claude", {"prompt": CANARY}))["status"] == "completed"
    assert not dave.call("token_status").is_error


@pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")
def test_the_status_cannot_be_read_or_watched_without_its_scope(guarded: Guarded) -> None:
    """As a resource it is the same as by the tool."""

    async def read(client: Client) -> Any:
        return await client.read_resource("hub://tokens")

    async def subscribe(client: Client) -> Any:
        return await client.subscribe_resource("hub://tokens")  # pyright: ignore[reportDeprecated]

    for work in (read, subscribe):
        with pytest.raises(MCPError, match="permission_denied"):
            guarded.lines["carol", "legacy"].run(work)
        guarded.lines["dave", "legacy"].run(work)


def test_a_stream_without_the_scope_is_told_of_nothing(guarded: Guarded) -> None:
    """It is acknowledged for what it will carry: with the scope the logins' status, without it nothing."""
    acknowledged: list[Any] = []
    for name in ("carol", "dave"):
        with Open(guarded.url, guarded.tokens[name]) as stream:
            stream.listens("auto")
            until(lambda stream=stream: b"\n\n" in stream.body.replace(b"\r", b""), "the acknowledgement")
            (line,) = [line for line in stream.body.splitlines() if line.startswith(b"data:")]
            acknowledged.append(json.loads(line.removeprefix(b"data:"))["params"]["notifications"])

    assert acknowledged == [{}, {"resourceSubscriptions": ["hub://tokens"]}]


@pytest.mark.parametrize("era", ERAS)
def test_no_next_step_names_a_tool_that_the_client_may_not_use(guarded: Guarded, era: Era) -> None:
    """The other provider is a way out for those alone who may ask it. Nor does a prompt name it."""

    async def prompt(client: Client) -> Any:
        return await client.get_prompt("second_opinion", {"question": "why?"})

    told: dict[str, list[str]] = {}
    for name in ("anna", "carol"):
        line = guarded.lines[name, era]
        guarded.world.claude.script(anthropic.Error.org_not_allowed())
        told[name] = [
            error_of(line.call("ask_claude", {"prompt": CANARY}))["action"],
            str(line.call("ask_result").content),
            line.run(prompt).messages[0].content.text,
        ]
        guarded.world.forget_limits()

    assert ["ask_gemini" in text for text in told["anna"]] == [True, False, True]
    assert not any("ask_gemini" in text for text in told["carol"])
    with pytest.raises(MCPError):
        guarded.lines["dave", era].run(prompt)


# One client beside another ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_one_client_cannot_reach_what_is_anothers(guarded: Guarded, era: Era) -> None:
    """By ids that it knows: every way ends as for an id of nobody, and nothing is touched. The shell is the owner's."""
    anna, bob = guarded.lines["anna", era], guarded.lines["bob", era]
    answer = answer_of(anna.call("ask_claude", {"prompt": CANARY}))
    ask_id, conversation_id = answer["ask_id"], answer["conversation_id"]

    def resource(line: Line, name: str) -> str:
        async def read(client: Client) -> Any:
            return await client.read_resource(f"hub://conversations/{name}")

        try:
            return line.run(read).contents[0].text
        except MCPError as error:
            return f"{error.error.code} {error.error.message}"

    def listed(line: Line) -> str:
        async def read(client: Client) -> Any:
            return await client.list_resources()

        return line.run(read).model_dump_json()

    for right, wrong in [(ask_id, "ask_" + "x" * 24), (conversation_id, "conv_" + "x" * 24)]:
        told: list[Any] = []
        for name in (right, wrong):
            if name.startswith("ask_"):
                calls = [("ask_result", {"ask_id": name}), ("ask_cancel", {"ask_id": name})]
            else:
                calls = [(f"ask_{one}", {"prompt": "go on", "conversation_id": name}) for one in ("claude", "gemini")]
            told.append([{**error_of(bob.call(*one)), "ask_id": None} for one in calls])
        assert told[0] == told[1]
        assert {error["code"] for error in told[0]} == {"not_found"}
    assert resource(bob, conversation_id) == resource(bob, "conv_" + "x" * 24)
    assert CANARY not in resource(bob, conversation_id)
    assert conversation_id not in listed(bob)
    assert ask_id not in json.dumps(texts_of(bob.call("ask_result")))
    for command in ("asks", "conversations"):
        assert run_command(guarded.world, command, "list", "--json").stdout.strip() == b"[]"

    assert ask_id in json.dumps(texts_of(anna.call("ask_result")))
    assert answer_of(anna.call("ask_result", {"ask_id": ask_id}))["text"] == answer["text"]
    assert conversation_id in listed(anna)
    assert CANARY in resource(anna, conversation_id)
    again = answer_of(anna.call("ask_gemini", {"prompt": "go on", "conversation_id": conversation_id}))
    assert again["conversation_id"] == conversation_id


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_session_is_its_clients(guarded: Guarded, method: str) -> None:
    """Of the older era: for another client it does not exist, and with its own it goes on."""
    opened = call(guarded.url, "POST", "/mcp", body=greeting("POST"), token=guarded.tokens["anna"])
    session = opened.headers["mcp-session-id"]
    ping = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}).encode()
    body = ping if method == "POST" else b""

    for name, theirs in [("bob", session), ("carol", session), ("anna", "0" * 32)]:
        headers = [("Mcp-Session-Id", theirs)]
        answer = call(guarded.url, method, "/mcp", headers, body, guarded.tokens[name])
        assert (answer.status, b"Session not found" in answer.body) == (404, True), name
    assert call(guarded.url, method, "/mcp", [("Mcp-Session-Id", session)], body).status == 401

    headers = [("Mcp-Session-Id", session)]
    assert call(guarded.url, "POST", "/mcp", headers, ping, guarded.tokens["anna"]).status == 200
    assert call(guarded.url, "DELETE", "/mcp", headers, b"", guarded.tokens["anna"]).status == 200


def test_the_log_names_the_client_of_an_ask(guarded: Guarded) -> None:
    """So its owner sees who used a subscription; the token itself is nowhere (see the fixture)."""
    answer = answer_of(guarded.lines["bob", "legacy"].call("ask_claude", {"prompt": CANARY}))

    events = [json.loads(line) for line in guarded.hub.log if answer["ask_id"] in line]
    assert events
    assert {event.get("client") for event in events} == {"bob"}


# Names and pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Host", "hub.example:8000", 200),
        ("Host", "HUB.example:8000", 200),
        ("Host", "any.example", 200),
        ("Host", "any.example:1", 200),
        ("Host", "[fd00::1]", 200),
        ("Host", "localhost:1", 200),
        ("Host", "hub.example", 421),
        ("Host", "hub.example:8001", 421),
        ("Host", "x.hub.example:8000", 421),
        ("Host", "hub.example:8000.evil.example", 421),
        ("Host", "any.example:*", 421),
        ("Host", "any.example:1x", 421),
        ("Host", "any.example.:1", 421),
        ("Host", "[fd00::1]:8000", 421),
        ("Host", "evil.example", 421),
        ("Origin", "https://pages.example", 200),
        ("Origin", "https://PAGES.example", 200),
        ("Origin", "http://localhost:5173", 200),
        ("Origin", "http://pages.example", 403),
        ("Origin", "https://pages.example:8443", 403),
        ("Origin", "https://x.pages.example", 403),
        ("Origin", "https://pages.example.evil.example", 403),
        ("Origin", "https://hub.example:8000", 403),
        ("Origin", "null", 403),
    ],
)
@pytest.mark.parametrize("path", ["/health/live", "/mcp"])
def test_names_and_pages_are_those_of_the_lists(
    guarded: Guarded, path: str, name: str, value: str, expected: int
) -> None:
    """As written there, with the port that stands there; a right token opens no other name."""
    method = "POST" if path == "/mcp" else "GET"

    answer = call(guarded.url, method, path, [(name, value)], greeting(method), guarded.tokens["anna"])

    assert answer.status == expected


# Without a restart --------------------------------------------------------------------------------------------------


@pytest.fixture
def own(world: World) -> Generator[HttpHub]:
    """A hub of the test's own, in its world; it has no tokens yet."""
    world.changes["HUB_CLAUDE_WARM"] = "0"
    world.changes["HUB_ALLOWED_HOSTS"] = "hub.example"
    world.changes["HUB_ALLOWED_ORIGINS"] = "https://pages.example"
    with http_hub(world) as hub:
        yield hub


def test_tokens_come_take_turns_and_go_without_a_restart(world: World, own: HttpHub) -> None:
    """The first shuts the door to everybody else; two live; a third ends the first; the last revoked leaves it shut."""

    def opens(*tokens: str | None) -> list[int]:
        return [call(own.url, token=token).status for token in tokens]

    assert opens(None) == [200]
    session = call(own.url, "POST", "/mcp", body=greeting("POST")).headers["mcp-session-id"]

    first = add(world, "anna")
    assert opens(None, first) == [401, 200]
    ping = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}).encode()
    assert call(own.url, "POST", "/mcp", [("Mcp-Session-Id", session)], ping, first).status == 404  # it was the owner's

    second = add(world, "anna")
    assert opens(first, second) == [200, 200]
    session = call(own.url, "POST", "/mcp", body=greeting("POST"), token=first).headers["mcp-session-id"]
    third = add(world, "anna")
    assert opens(first, second, third) == [401, 200, 200]
    assert call(own.url, "POST", "/mcp", [("Mcp-Session-Id", session)], ping, third).status == 200  # the same client

    assert run_command(world, "client", "revoke", "anna", "--token", "1").returncode == 0
    assert opens(second, third) == [401, 200]
    assert run_command(world, "client", "revoke", "anna").returncode == 0
    assert opens(None, third) == [401, 401]
    with http_hub(world) as restarted:
        assert call(restarted.url).status == 401


def test_without_tokens_lists_of_names_and_pages_open_nothing(own: HttpHub) -> None:
    """They come by a proxy of this machine, so from anywhere: everybody would be the owner. The sentence says why."""
    for method, path in ROUTES:
        for header in [("Host", "hub.example"), ("Origin", "https://pages.example")]:
            answer = call(own.url, method, path, [header], greeting(method))

            assert (answer.status, NEEDS_TOKENS in answer.body.decode()) == (403, True)
        assert call(own.url, method, path, [("Host", "evil.example")], greeting(method)).status == 421


@pytest.mark.parametrize("how", ["broken", "written by others", "gone"])
def test_a_file_that_breaks_shuts_the_door(world: World, own: HttpHub, how: str) -> None:
    """503 everywhere, with a right token too, and a coded line in the log, once; mended, it opens."""
    token = add(world, "anna")
    assert call(own.url, token=token).status == 200
    file = world.state / "clients.json"
    whole = file.read_bytes()

    if how == "broken":
        file.write_bytes(whole[:-30])
    elif how == "gone":
        file.unlink()
    else:
        file.chmod(0o666)
    answers = [
        call(own.url, method, path, body=greeting(method), token=given)
        for method, path in ROUTES
        for given in (token, None)
    ]

    assert {answer.status for answer in answers} == {503}
    assert not any(b"clients.json" in answer.body for answer in answers)
    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    file.chmod(0o600)
    assert call(own.url, token=token).status == 200
    own.stop()
    told = [json.loads(line) for line in own.log if "nobody is let in" in line]
    assert [(event["level"], event["code"]) for event in told] == [("error", "misconfigured")]
    assert told[0]["action"]


# Start --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", ""])
@pytest.mark.parametrize(("tokens", "hosts"), [(False, False), (True, False), (False, True)])
def test_an_address_that_others_reach_needs_tokens_and_names(
    world: World, address: str, tokens: bool, hosts: bool
) -> None:
    """Else exit 78, and one sentence that names what is missing."""
    if tokens:
        add(world, "anna")
    if hosts:
        world.changes["HUB_ALLOWED_HOSTS"] = "hub.example"

    ended = run_command(world, "serve", "--port", "0", "--host", address)

    said = ended.stderr.decode()
    assert ended.returncode == 78
    assert len(said.splitlines()) == 2
    assert said.startswith("llm-mcp-hub: misconfigured: HUB_HOST (--host) is ")
    assert ("a client token" in said, "client add" in said) == (not tokens, not tokens)
    assert ("HUB_ALLOWED_HOSTS" in said) is not hosts


def test_a_client_that_was_revoked_is_no_token(world: World) -> None:
    """An empty file admits nobody, so there is nothing to serve to others."""
    world.changes["HUB_ALLOWED_HOSTS"] = "hub.example"
    add(world, "anna")
    run_command(world, "client", "revoke", "anna")

    assert run_command(world, "serve", "--port", "0", "--host", "0.0.0.0").returncode == 78


@pytest.mark.parametrize("change", [{}, {"HUB_CLIENTS_FILE": "~/nowhere.json"}], ids=["broken", "not there"])
def test_a_file_that_admits_nobody_is_told_at_the_start(world: World, change: dict[str, str]) -> None:
    """On loopback too: a server that lets nobody in is not what was meant."""
    world.changes.update(change)
    world.state.mkdir(mode=0o700)
    (world.state / "clients.json").write_text("{")

    ended = run_command(world, "serve", "--port", "0")

    assert ended.returncode == 78
    assert len(ended.stderr.splitlines()) == 2
    assert b"admits nobody" in ended.stderr


def elsewhere(world: World, command: list[str], *steps: list[Any]) -> list[Any]:
    """What a hub started by `command` answers in a network where this machine has one address more."""
    world.changes["HUB_CLAUDE_WARM"] = "0"
    done = subprocess.run(
        [*IN_A_NETWORK_OF_ITS_OWN, sys.executable, "-m", "tests.protocol.elsewhere", *command],
        env=world.environment,
        cwd=ROOT,
        input=json.dumps(steps).encode(),
        capture_output=True,
        timeout=4 * DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["code"] in {0, -signal.SIGTERM}  # uvicorn's own ends by the signal that ended it
    return told["came"]


RIGHT = {"Authorization": "Bearer TOKEN", "Host": "hub.example"}


def test_any_asgi_server_keeps_others_out_until_there_are_tokens(world: World) -> None:
    """`uvicorn llm_mcp_hub.main:app --host 0.0.0.0` hides its address; where a request arrived does not."""
    world.changes["HUB_ALLOWED_HOSTS"] = "hub.example"
    routes: list[list[Any]] = [[HERE, method, path, {}] for method, path in ROUTES]
    local = {"Host": "localhost"}

    came = elsewhere(
        world,
        ["-m", "uvicorn", "llm_mcp_hub.main:app", "--host", "0.0.0.0"],
        ["127.0.0.1", "GET", "/health/live", {}],
        *routes,
        [HERE, "GET", "/health/live", local],
        [HERE, "GET", "/health/live", {**local, "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}],
        ["run", "client", "add", "anna"],
        [HERE, "GET", "/health/live", RIGHT],
        [HERE, "GET", "/health/live", {"Host": "hub.example"}],
        [HERE, "GET", "/health/live", {"Authorization": "Bearer TOKEN"}],
        ["127.0.0.1", "GET", "/health/live", {}],
    )

    assert came.pop(0)[0] == 200
    for status, body in came[: len(routes) + 2]:
        assert (status, NEEDS_TOKENS in body) == (403, True)
    assert [step[0] for step in came[len(routes) + 3 :]] == [200, 401, 421, 401]


@pytest.mark.parametrize("address", ["0.0.0.0", HERE])
def test_with_tokens_and_names_the_hub_serves_others(world: World, address: str) -> None:
    """What it was all for: started by its own command, on every address or on one."""
    world.changes["HUB_ALLOWED_HOSTS"] = "hub.example"
    add(world, "anna")

    came = elsewhere(
        world,
        ["-m", "llm_mcp_hub", "serve", "--host", address],
        ["run", "client", "add", "bob"],
        [HERE, "GET", "/health/live", RIGHT],
        [HERE, "GET", "/health/tokens", RIGHT],
        [HERE, "GET", "/health/tokens", {"Host": "hub.example"}],
        [HERE, "GET", "/health/live", {"Authorization": "Bearer TOKEN", "Host": "evil.example"}],
    )

    assert [step[0] for step in came[1:]] == [200, 200, 401, 421]


# The commands -------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_alone(world: World) -> None:
    """On stdout, for a pipe; nowhere else, and in no file. The words say what became of the others."""
    shown = [run_command(world, "client", "add", "anna", "--scope", "status") for _ in range(3)]

    tokens = [done.stdout.decode() for done in shown]
    words = [done.stderr.decode() for done in shown]
    assert all(re.fullmatch(r"llmhub_[\w-]{43}\n", token) for token in tokens)
    assert not any(token.strip() in "".join(words) for token in tokens)
    kept = [file for file in world.state.rglob("*") if file.is_file()]
    assert world.state / "clients.json" in kept
    for file in kept:
        assert not any(token.strip().encode() in file.read_bytes() for token in tokens), file
    assert ["revoke anna --token 1" in text for text in words] == [False, True, True]
    assert ["oldest token has gone" in text for text in words] == [False, False, True]
    assert all("for: status." in text for text in words)


def test_the_list_shows_no_secret(world: World) -> None:
    """A line for each token, with the number that `revoke` takes; the same for programs."""
    assert run_command(world, "client", "list").stdout.startswith(b"No clients: every program on this")
    for name in ("bob", "anna", "anna"):
        add(world, name, "ask:claude", "status")

    table = run_command(world, "client", "list").stdout.decode().splitlines()
    told = json.loads(run_command(world, "client", "list", "--json").stdout)

    assert [line.split()[:2] for line in table[1:]] == [["anna", "1"], ["anna", "2"], ["bob", "1"]]
    assert all(line.endswith("  ask:claude status") for line in table[1:])
    assert [len(told[name]["tokens"]) for name in ("anna", "bob")] == [2, 1]
    assert told["bob"]["rotated_at"] is None
    assert not re.search(r"[0-9a-f]{64}|llmhub_", json.dumps(told) + "".join(table))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["add"],
        ["revoke"],
        ["list", "anna"],
        ["add", "a:b"],
        ["add", "anna", "--scope", "all"],
        ["add", "anna", "--json"],
        ["add", "anna", "--token", "1"],
        ["revoke", "nobody"],
        ["revoke", "anna", "--scope", "status"],
        ["revoke", "anna", "--token", "two"],
        ["revoke", "anna", "--token", "1", "--token", "2"],
        ["list", "--token", "1"],
    ],
    ids=str,
)
def test_words_that_make_no_sense_change_nothing(world: World, words: list[str]) -> None:
    """Exit 64, nothing on stdout that could be taken for a token."""
    ended = run_command(world, "client", *words)

    assert (ended.returncode, ended.stdout) == (64, b"")
    assert ended.stderr
    assert not (world.state / "clients.json").exists()


def test_the_file_may_stand_elsewhere(world: World, tmp_path: Path) -> None:
    """HUB_CLIENTS_FILE, for a volume of its own; the commands and the hub mean the same one."""
    file = tmp_path / "volume" / "who.json"
    world.changes["HUB_CLIENTS_FILE"] = str(file)

    token = add(world, "anna")

    assert file.stat().st_mode & 0o777 == 0o600
    assert not (world.state / "clients.json").exists()
    with http_hub(world) as hub:
        assert [call(hub.url, token=given).status for given in (None, token)] == [401, 200]
