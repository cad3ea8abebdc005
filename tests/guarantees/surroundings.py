"""Hostile surroundings for a hub: its environment, its owner's home, its working directory and the machine's `/etc`.

The hub runs as in production here: no address of a stand-in is given to it. Both providers' own host names lead to the
stand-ins, through a proxy that terminates TLS and refuses every other host, and `/etc/hosts` leads the names to
loopback for whoever passes the proxy by. So a variable that redirects a CLI is seen to redirect it, where a hub that is
told its upstream would hide it.

It knows the wire and the machine. It does not know which surroundings there are, nor what the hub makes of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast
from uuid import uuid4

import aiohttp
import psutil
import trustme
from aiohttp import web
from anyio.from_thread import start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from yarl import URL

from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.harness import DEADLINE_S, GEMINI, TOKEN, Line, World
from tests.upstreams.anthropic import AnthropicUpstream
from tests.upstreams.google import CODE_ASSIST_DOMAIN, OAUTH_HOSTS, GoogleUpstream, write_login
from tests.upstreams.loopback import LoopbackServer, Received

Provider = Literal["claude", "gemini"]
PROVIDERS: tuple[Provider, ...] = ("claude", "gemini")

CLAUDE_DOMAIN = "api.anthropic.com"
CLAUDE_SETTINGS = "/api/claude_code/settings"
OF_THE_ORGANISATION = (CLAUDE_SETTINGS, "/api/claude_code/policy_limits")
"""What the CLI asks of Anthropic beside the Messages API; 404 means that there is none."""
KEY_HEADERS = ("x-api-key", "x-goog-api-key", "x-goog-user-project", "proxy-authorization", "cookie")
"""Each of them can name another payer than the bearer of `authorization`."""

_HUB = Path(sys.executable).parent / "llm-mcp-hub"
_KNOWN_TUNNELS = {f"{host}:443" for host in (CLAUDE_DOMAIN, CODE_ASSIST_DOMAIN, *OAUTH_HOSTS)}

_WITH_OTHER_HOSTS = """set -e
mount --bind "$2/hosts" /etc/hosts
shift 2
exec "$@"
"""
# `cp`, not an overlay: a container's root is one already, and cannot be the upper layer of another.
_IN_A_PRIVATE_ETC = """set -e
mount -t tmpfs none "$1"
cp -a /etc/. "$1"
cp -a "$2"/. "$1"
mount --bind "$1" /etc
shift 2
exec "$@"
"""


class PublicHosts(GoogleUpstream):
    """Google's stand-in; its proxy also leads to Code Assist and to Anthropic's API under their real names."""

    def __init__(self, folder: Path, claude: AnthropicUpstream) -> None:
        super().__init__(folder)
        authority = trustme.CA()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(CLAUDE_DOMAIN, CODE_ASSIST_DOMAIN).configure_cert(tls)  # pyright: ignore[reportUnknownMemberType] -- optional pyOpenSSL
        self._both_authorities = folder / "both-ca.pem"
        self._both_authorities.write_bytes(self.ca_file.read_bytes() + authority.cert_pem.bytes())
        self._claude = claude
        self.settings_of_the_organisation: dict[str, Any] | None = None
        """What Anthropic's API delivers as an organisation's managed settings; None: there are none."""
        self.paid_tier: Mapping[str, Any] | None = None
        """What Code Assist says of an account beside its tier: that it has credits to pay with, say."""
        self.tunnels: list[str] = []
        """Whom the proxy was asked for, as `host:port`."""
        self.anthropic_api = LoopbackServer(self._answer_anthropic_api, tls=tls)
        self.code_assist_api = LoopbackServer(self._answer_code_assist_api, tls=tls)

    def start(self) -> Self:
        self.anthropic_api.start()
        self.code_assist_api.start()
        return super().start()

    def stop(self) -> None:
        super().stop()
        self.code_assist_api.stop()
        self.anthropic_api.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "NODE_EXTRA_CA_CERTS": str(self._both_authorities)}

    def _tunnel_to(self, target: str) -> int | Literal["drop"] | None:
        self.tunnels.append(target)
        ours = {
            f"{CLAUDE_DOMAIN}:443": self.anthropic_api.port,
            f"{CODE_ASSIST_DOMAIN}:443": self.code_assist_api.port,
        }
        return ours.get(target) or super()._tunnel_to(target)

    async def _answer_anthropic_api(self, request: web.Request, received: Received) -> web.StreamResponse:
        if received.path == CLAUDE_SETTINGS and self.settings_of_the_organisation is not None:
            settings = self.settings_of_the_organisation
            return web.json_response({"uuid": str(uuid4()), "checksum": "made-up", "settings": settings})
        if received.path in OF_THE_ORGANISATION:
            return web.json_response({"error": {"type": "not_found_error", "message": "Not found"}}, status=404)
        return await _passed_on(self._claude.url, request, received)

    async def _answer_code_assist_api(self, request: web.Request, received: Received) -> web.StreamResponse:
        adds = self.paid_tier if received.path.endswith(":loadCodeAssist") else None
        return await _passed_on(self.url, request, received, adds)


async def _passed_on(
    base: str, request: web.Request, received: Received, adds: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    """Ask a stand-in the same, and answer as it does, piece by piece; with `adds`, at once and with these fields."""
    of_this_hop = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
    headers = {name: value for name, value in received.headers.items() if name not in of_this_hop}
    address = URL(base + request.raw_path, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.request(received.method, address, headers=headers, data=received.body) as far,
    ):
        if adds is not None:
            return web.json_response({**cast("dict[str, Any]", await far.json()), **adds}, status=far.status)
        said = {name: value for name, value in far.headers.items() if name.lower() not in of_this_hop}
        response = web.StreamResponse(status=far.status, headers=said)
        await response.prepare(request)
        async for piece in far.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


class Trap:
    """A stranger's server: takes every connection, of whatever protocol, and keeps what came first."""

    def __init__(self) -> None:
        came: list[bytes] = []

        class Visit(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(DEADLINE_S)
                came.append(self.request.recv(1 << 16))
                self.request.sendall(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

        self.came = came
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Visit)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="trap", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE_S)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@dataclass(frozen=True)
class Outcome:
    """How one `llm-mcp-hub ask --json` ended."""

    exit_code: int
    said: dict[str, Any]
    """The answer, or `{"error": ...}`."""

    @property
    def code(self) -> str:
        """The error's code; `answered` when there was none."""
        return self.said["error"]["code"] if "error" in self.said else "answered"


@dataclass
class Surroundings:
    """A world that can be poisoned, a stranger's repository as the working directory, and a stranger's server."""

    world: World
    hosts: PublicHosts
    trap: Trap
    folder: Path
    canary: str = field(default_factory=lambda: f"canary{uuid4().hex}")
    """Stands in every poisoned value; on the wire it is a key, a redirect or a payer that came from outside."""
    planted: dict[Path, str] = field(default_factory=dict[Path, str])
    """Every planted file with its text."""
    wrapper: tuple[str, ...] = ()
    """A command that starts the hub."""

    @property
    def home(self) -> Path:
        return self.world.home

    @property
    def cwd(self) -> Path:
        """The working directory: a cloned repository."""
        return self.folder / "repository"

    @property
    def etc(self) -> Path:
        """What is planted here stands below `/etc` when the hub looks; the machine's own is never written."""
        return self.folder / "etc"

    @property
    def ran(self) -> Path:
        """Made by every planted program, when somebody runs it."""
        return self.folder / "a-planted-program-ran"

    @property
    def google_token(self) -> str:
        """The access token of the owner's Google login."""
        return json.loads(self.world.login_file.read_text())["access_token"]

    def set(self, **variables: str) -> None:
        """Put variables into the hub's environment, each once: poisons that are planted together stay whole."""
        assert not variables.keys() & self.world.changes.keys()
        self.world.changes.update(variables)

    def plant(self, file: Path, content: str | Mapping[str, Any], *, mode: int = 0o600) -> Path:
        """Write a file, as JSON if it is not text; every folder on the way to it is made. No poison hides another's."""
        text = content if isinstance(content, str) else json.dumps(content)
        assert self.planted.setdefault(file, text) == text, f"two poisons want {file}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def plant_program(self, file: Path, prints: str = "") -> Path:
        """Write an executable that leaves its mark, and prints."""
        return self.plant(file, f"#!/bin/sh\n: >'{self.ran}'\nprintf '%s\\n' '{prints}'\n", mode=0o755)

    def plant_script(self, file: Path) -> Path:
        """Write a JavaScript file that leaves its mark."""
        return self.plant(file, f"require('node:fs').writeFileSync({str(self.ran)!r}, '')\n")

    def start(self, provider: Provider, prompt: str = "hello") -> subprocess.Popen[bytes]:
        """Start `llm-mcp-hub ask` in these surroundings, by the command that people install."""
        return self._start([str(_HUB), "ask", provider, prompt, "--json"], self.world.environment)

    @contextmanager
    def line(self) -> Generator[Line]:
        """A client on a hub over stdio in these surroundings."""
        program, *arguments = self._command([str(_HUB)])
        server = StdioServerParameters(command=program, args=arguments, env=self.world.environment, cwd=self.cwd)
        log = self.folder / "stdio.log"
        with log.open("a") as errors:
            client = Client(stdio_client(server, errlog=errors), mode="auto")
            with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(client):
                yield Line(portal, client, log.read_text)

    def etc_of_a_running_hub(self) -> Path:
        """The `/etc` that the one hub of these surroundings sees: it can be planted in while the hub runs."""
        hubs: list[psutil.Process] = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):  # of another test of this worker
                if str(_HUB) in process.cmdline()[1:2]:
                    hubs.append(process)
        assert len(hubs) == 2, hubs  # the process that the client knows, and the hub behind it
        etc = Path(f"/proc/{hubs[0].pid}/root/etc")
        assert (etc / "hosts").read_text() == (self.etc / "hosts").read_text(), "not a private /etc"
        return etc

    def run_bare(self, provider: Provider, prompt: str = "hello") -> None:
        """Put the question to the provider's own program in these surroundings, without a hub, to its end."""
        kept = ("PATH", "HOME", "LANG", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", *self.world.changes)
        environment = {name: self.world.environment[name] for name in kept if self.world.environment[name]}
        if provider == "claude":
            command = [str(bundled_cli()), "-p", prompt]
            environment["CLAUDE_CODE_OAUTH_TOKEN"] = TOKEN
        else:
            model = environment.get("GEMINI_MODEL", "gemini-2.5-pro")
            command = [str(GEMINI), "--skip-trust", "-m", model, "-p", prompt]
            settings = self.home / ".gemini" / "settings.json"
            if not settings.exists():
                once = {"maxAttempts": 1, "retryFetchErrors": False}
                self.plant(settings, {"security": {"auth": {"selectedType": "oauth-personal"}}, "general": once})
        self._start(command, environment).communicate(timeout=DEADLINE_S)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(command),
            env=environment,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _command(self, command: Sequence[str]) -> list[str]:
        """`command` as it is run in these surroundings: in a mount namespace of its own."""
        (self.folder / "mount").mkdir(exist_ok=True)
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        inside = _WITH_OTHER_HOSTS if os.listdir(self.etc) == ["hosts"] else _IN_A_PRIVATE_ETC
        script = ["/bin/sh", "-c", inside, "sh", str(self.folder / "mount"), str(self.etc)]
        return ["unshare", "--mount", *rights, "--propagation", "private", *script, *self.wrapper, *command]

    def ask(self, providers: Sequence[Provider] = PROVIDERS, prompt: str = "hello") -> dict[Provider, Outcome]:
        """Ask these at once, each through a hub of its own, and wait for all."""
        running: dict[Provider, subprocess.Popen[bytes]] = {}
        for provider in providers:
            running[provider] = self.start(provider, prompt)
        return {provider: finished(process) for provider, process in running.items()}

    def sent(self, provider: Provider) -> list[Received]:
        """Every request that reached a host of this provider, whatever it was for."""
        if provider == "claude":
            return [*self.hosts.anthropic_api.received, *self.world.claude.received]
        return [*self.hosts.code_assist_api.received, *self.hosts.received, *self.hosts.oauth_received]

    def bearer(self, provider: Provider) -> str:
        """The one credential that this provider may be shown."""
        return TOKEN if provider == "claude" else self.google_token

    def breaches(self) -> list[str]:
        """Whatever happened that could have been paid, answered or steered by anybody but the owner's subscription."""
        found = [f"a surprise: {surprise}" for surprise in self.world.surprises]
        found += [f"the stranger's server was visited: {first!r}" for first in self.trap.came]
        found += [f"asked the proxy for {target}" for target in self.hosts.tunnels if target not in _KNOWN_TUNNELS]
        if self.ran.exists():
            found.append("a planted program ran")
        for provider in PROVIDERS:
            for request in self.sent(provider):
                found += [
                    f"{request.method} {request.host}{request.path}: {why}" for why in self._faults(provider, request)
                ]
        return found

    def _faults(self, provider: Provider, request: Received) -> list[str]:
        everything = whole(request)
        faults = [f"the header {name}" for name in KEY_HEADERS if name in request.headers]
        if request.headers.get("authorization") != f"Bearer {self.bearer(provider)}":
            faults.append("a bearer that is not the owner's")
        if self.canary.encode() in everything:
            faults.append("something planted")
        if b"enabled_credit_types" in everything:
            faults.append("offers to pay with credits")
        if request.path == "/v1/messages" and b"cc_entrypoint=sdk-py;" not in request.body:
            faults.append("billed as another program")
        return faults


def finished(process: subprocess.Popen[bytes]) -> Outcome:
    """Wait for an `ask --json`. Raises AssertionError when it says nothing that can be read."""
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert out, err.decode(errors="replace")
    return Outcome(process.returncode, json.loads(out))


def whole(request: Received) -> bytes:
    """All of a request, as bytes to search in."""
    head = [request.method, request.host, request.path, *request.query, *request.query.values()]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\n".join(head).encode() + b"\n" + request.body


@contextmanager
def make_surroundings(folder: Path) -> Generator[Surroundings]:
    """Fresh and harmless ones below `folder`."""
    home = folder / "home"
    home.mkdir(mode=0o700, parents=True)
    (folder / "repository").mkdir()
    (folder / "etc").mkdir(mode=0o755)
    names = (CLAUDE_DOMAIN, CODE_ASSIST_DOMAIN, *OAUTH_HOSTS)
    names += (
        "platform.claude.com",
        "console.anthropic.com",
        "generativelanguage.googleapis.com",
        "play.googleapis.com",
    )
    (folder / "etc" / "hosts").write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    with (
        AnthropicUpstream() as claude,
        PublicHosts(folder / "google", claude) as hosts,
        Trap() as trap,
    ):
        write_login(home / ".gemini")
        # Set to nothing: the hub is told no upstream, and finds the providers by their names.
        world = World(home, claude, hosts, {"HUB_CLAUDE_UPSTREAM": "", "HUB_GEMINI_UPSTREAM": ""})
        yield Surroundings(world, hosts, trap, folder)
