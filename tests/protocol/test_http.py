"""The HTTP side without an MCP client: what it serves, whom it refuses, and how it starts and ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import DEADLINE_S, TOKEN, HttpHub, World, http_hub, open_line, run_command
from tests.protocol.conftest import CANARY, MADE_UP, Shared

MCP = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}},
}
ROUTES = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/health/tokens"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
]


def ask(
    url: str, method: str, path: str, headers: dict[str, str | None] | None = None, body: bytes | Iterator[bytes] = b""
) -> tuple[int, bytes]:
    """One request: status and body. A header of None is left out, `Host` too."""
    given = {"Host": urlsplit(url).netloc, **MCP, **(headers or {})}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    if isinstance(body, bytes):
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
    else:
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(body, encode_chunked=True)
    response = connection.getresponse()
    received = response.read()
    connection.close()
    return response.status, received


# Routes -------------------------------------------------------------------------------------------------------------


def test_a_hub_that_serves_says_that_it_is_alive(shared: Shared) -> None:
    """For whoever looks after the process: no login is needed, and no provider asked."""
    assert ask(shared.url, "GET", "/health/live") == (200, b'{"status":"alive"}')


def test_the_health_of_the_logins_is_served(shared: Shared) -> None:
    """Both providers by name; the shape is the tool's."""
    status, body = ask(shared.url, "GET", "/health/tokens")

    assert status == 200
    assert {name: known["status"] for name, known in json.loads(body).items()} == {"claude": "valid", "gemini": "valid"}


def test_prometheus_can_read_the_logins(shared: Shared) -> None:
    """The text is what its own parser takes, and holds no credential."""
    status, body = ask(shared.url, "GET", "/metrics", {"Accept": "text/plain"})

    assert status == 200
    families = {family.name: family.samples for family in text_string_to_metric_families(body.decode())}
    ones = {(s.labels["provider"], s.labels["status"]) for s in families["llm_hub_credential_status"] if s.value}
    assert ones == {("claude", "valid"), ("gemini", "valid")}
    assert {sample.value for sample in families["llm_hub_credential_usable"]} == {1.0}
    assert not any(secret.encode() in body for secret in (TOKEN, *MADE_UP))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("POST", "/health/live", 405),
        ("DELETE", "/health/tokens", 405),
        ("POST", "/metrics", 405),
        ("PUT", "/mcp", 405),
    ],
)
def test_nothing_else_is_served(shared: Shared, method: str, path: str, expected: int) -> None:
    """An unknown path or method is refused as such."""
    assert ask(shared.url, method, path)[0] == expected


# Who may ask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost.evil.example:8000"}, 421),
        ({"Host": "evil.example:8000@127.0.0.1"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost@evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
    ids=str,
)
def test_every_route_refuses_foreign_names_and_foreign_pages(
    shared: Shared, method: str, path: str, headers: dict[str, str | None], expected: int
) -> None:
    """DNS rebinding ends at a page that reaches the hub by a name of its own; it must end at every route."""
    status, body = ask(shared.url, method, path, headers, json.dumps(GREETING).encode() if method == "POST" else b"")

    assert status == expected
    assert b"llm-mcp-hub" not in body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:1234"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:8000"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
    ],
    ids=str,
)
def test_names_of_this_machine_are_served(shared: Shared, headers: dict[str, str | None]) -> None:
    """By whatever name and port the machine itself is called: a tunnel or a local page may use another one."""
    for method, path in [("GET", "/health/live"), ("POST", "/mcp")]:
        body = json.dumps(GREETING).encode() if method == "POST" else b""
        assert ask(shared.url, method, path, headers, body)[0] == 200


# Sizes --------------------------------------------------------------------------------------------------------------


def _call(prompt: bytes) -> bytes:
    return (
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"_meta": '
        b'{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": '
        b'{"name": "raw", "version": "0"}, "io.modelcontextprotocol/clientCapabilities": {}}, '
        b'"name": "ask_claude", "arguments": {"unknown": 1, "prompt": "' + prompt + b'"}}}'
    )


MODERN: dict[str, str | None] = {
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "ask_claude",
}


def test_the_longest_prompt_fits_in_a_request_however_it_is_written(shared: Shared, warm: World) -> None:
    """1,000,000 characters outside of the basic plane, each escaped as 12 bytes; then one argument too many."""
    body = _call(rb"\ud83c\udfba" * 1_000_000)
    assert len(body) > 12_000_000

    status, answer = ask(shared.url, "POST", "/mcp", MODERN, body)

    assert status == 200
    error = json.loads(answer)["result"]["_meta"]["llm-mcp-hub/error"]
    assert (error["code"], error["message"]) == ("invalid_request", "An argument is unknown.")


@pytest.mark.parametrize("headers", [MODERN, {}], ids=["auto", "legacy"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_larger_request_is_refused(shared: Shared, headers: dict[str, str | None], chunked: bool) -> None:
    """Over 16 MiB nothing is read to its end, whether the length was told or not; the hub goes on."""
    whole = _call(b"x" * (16 << 20))
    pieces = (whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20))
    try:
        status, _ = ask(shared.url, "POST", "/mcp", headers, pieces if chunked else whole)
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # it answered and hung up while we were still sending

    assert status == 413
    assert ask(shared.url, "GET", "/health/live")[0] == 200


# Start and end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--host", "0.0.0.0"], {}),
        ([], {"HUB_HOST": "0.0.0.0"}),
    ],
    ids=str,
)
def test_an_address_that_others_could_reach_is_refused(
    world: World, arguments: list[str], changes: dict[str, str]
) -> None:
    """Without client tokens a subscription would be lent to the network: exit 78, one sentence, one next step."""
    world.changes.update(changes)

    ended = run_command(world, "serve", "--port", "0", *arguments)

    said = ended.stderr.decode().splitlines()
    assert ended.returncode == 78
    assert len(said) == 2
    assert said[0].startswith(
        "llm-mcp-hub: misconfigured: HUB_HOST (--host) is 0.0.0.0, which other machines can reach"
    )
    assert "HUB_HOST=127.0.0.1" in said[1]


@pytest.mark.parametrize("host", ["hub.invalid", "a" * 64 + ".example", "300.1.2.3"])
def test_a_host_that_is_none_is_told_as_that(world: World, host: str) -> None:
    """Nobody can reach it; who mistyped it is not led to client tokens."""
    ended = run_command(world, "serve", "--port", "0", "--host", host)

    said = ended.stderr.decode().splitlines()
    assert (ended.returncode, len(said)) == (78, 2)
    assert said[0].startswith(f"llm-mcp-hub: misconfigured: HUB_HOST (--host) is {host}, which is no address")
    assert "token" not in ended.stderr.decode()


def test_a_port_that_is_taken_is_told_in_one_sentence(world: World) -> None:
    """The most common reason why a server does not start needs no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_command(world, "serve", "--port", str(port))

    said = ended.stderr.decode()
    assert ended.returncode == 78, said
    assert f"llm-mcp-hub: misconfigured: Port {port} of 127.0.0.1 cannot be used (Address already in use)." in said
    assert "--port" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("port", ["65536", "http"])
def test_a_port_that_is_none_is_refused(world: World, port: str) -> None:
    """A number out of range, or no number."""
    ended = run_command(world, "serve", f"--port={port}")

    assert ended.returncode == (64 if port == "http" else 78)
    assert b"port" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_hub_in_order(world: World, number: signal.Signals) -> None:
    """Exit 0, the port free, no child left: what a service manager calls stopped, not failed."""
    with http_hub(world, "--host", "localhost") as hub:
        assert ask(hub.url.replace("localhost", "127.0.0.1"), "GET", "/health/live")[0] == 200
        hub.process.send_signal(number)
        assert hub.process.wait(DEADLINE_S) == 0

    world.wait_until_no_child()
    assert "Traceback" not in "".join(hub.log)


@pytest.mark.parametrize("ahead", [True, False])
def test_the_gemini_cli_is_started_ahead_or_with_the_first_ask(world: World, ahead: bool) -> None:
    """`HUB_GEMINI_WARM`. A warm hub starts it before it takes asks, so it is there when Claude has answered."""
    world.changes["HUB_GEMINI_WARM"] = "1" if ahead else "0"
    with http_hub(world) as hub, open_line(world, "http", "auto", hub=hub) as line:
        asked = line.call("ask_claude", {"prompt": "hello"})
        before = [child for child in world.children() if "--acp" in child.cmdline()]
        other = line.call("ask_gemini", {"prompt": "hello"})

    assert not asked.is_error
    assert not other.is_error
    assert len(before) == (1 if ahead else 0)


def test_any_asgi_server_can_serve_the_app(world: World) -> None:
    """`uvicorn llm_mcp_hub.main:app`: the app makes its hub at its start, and closes it at its end."""
    world.changes["HUB_CLAUDE_WARM"] = "0"
    hub = HttpHub(world.environment, command=("-m", "uvicorn", "llm_mcp_hub.main:app"))
    try:
        alive = ask(hub.url, "GET", "/health/live")
        status, greeting = ask(hub.url, "POST", "/mcp", {}, json.dumps(GREETING).encode())
        refused = ask(hub.url, "GET", "/health/live", {"Host": "evil.example"})[0]
    finally:
        hub.stop()

    assert alive == (200, b'{"status":"alive"}')
    assert (status, refused) == (200, 421)
    assert b'"name":"llm-mcp-hub"' in greeting
    world.wait_until_no_child()
    assert not list((world.state / "run").glob("[!.]*"))
    assert CANARY not in "".join(hub.log)
