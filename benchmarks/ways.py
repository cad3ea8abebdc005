"""Every way to put a prompt to a provider that a part compares: opened, it asks, and its processes can be weighed.

    direct   a plain HTTP request to the stand-in: the floor
    bare     a bare server of the MCP SDK whose tool sends that same request, over stdio
    hub      `ask_*` of the hub, over stdio
    shell    `llm-mcp-hub ask`, a hub for one ask
    cli      the vendor's CLI, once per ask
    peer     a public bridge, started over stdio as its users do; under it the same CLI

All of them see an environment made from nothing, a home of their own, made-up logins and the stand-ins.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import psutil
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult

from benchmarks import bare
from benchmarks.peers import Peer
from benchmarks.result import FailedError
from llm_mcp_hub.providers.claude_child import bundled_cli
from tests.harness import GEMINI, TOKEN, World, answer_of
from tests.upstreams import anthropic, google
from tests.upstreams.google import PROJECT, write_login
from tests.upstreams.loopback import Received

Provider = Literal["claude", "gemini"]
PROVIDERS: tuple[Provider, ...] = ("claude", "gemini")
DEADLINE_S = 180.0
"""Of one ask; what takes longer counts as failed."""


@dataclass(frozen=True)
class Opened:
    """A way that is ready to ask."""

    ask: Callable[[str], Awaitable[str]]
    """Returns the answer's text. Raises FailedError. Cancelled, it cancels as its users would."""
    roots: Callable[[], list[psutil.Process]]
    """The processes it consists of now, their children left out."""
    first_text: Callable[[str], Awaitable[float]] | None = None
    """Asks, and returns the milliseconds until the first text could be seen. None: with the whole answer."""
    client: Client | None = None


@dataclass(frozen=True)
class Way:
    """One way to ask one provider."""

    key: str
    name: str
    provider: Provider
    open: Callable[[], AbstractAsyncContextManager[Opened]]
    stays: bool
    """It answers many asks without starting a CLI for each: cheap enough for many rounds."""


# -- the ways ----------------------------------------------------------------------------------------------------------


def ways(world: World, peers: Sequence[Peer], *, provider: Provider | None = None) -> list[Way]:
    """All but the hub's shell, which is no way for many asks."""
    found: list[Way] = []
    for each in PROVIDERS if provider is None else (provider,):
        found += [direct(world, each), bare_server(world, each), hub(world, each), cli(world, each)]
        found += [peer_server(world, peer) for peer in peers if peer.provider == each]
    return found


def plain_request(world: World, provider: Provider) -> dict[str, Any]:
    """The one request that an ask is to the provider, with PROMPT where the prompt goes."""
    if provider == "claude":
        return {
            "url": f"{world.claude.url}/v1/messages?beta=true",
            "headers": {
                "authorization": f"Bearer {TOKEN}",
                "anthropic-beta": "oauth-2025-04-20",
                "content-type": "application/json",
            },
            "body": {
                "model": "claude-sonnet-5-5",
                "max_tokens": 100,
                "stream": True,
                "messages": [{"role": "user", "content": bare.PROMPT}],
            },
        }
    token = json.loads(world.login_file.read_text())["access_token"]
    return {
        "url": f"{world.gemini.url}/v1internal:streamGenerateContent?alt=sse",
        "headers": {"authorization": f"Bearer {token}", "content-type": "application/json"},
        "body": {
            "model": "gemini-2.5-pro",
            "project": PROJECT,
            "request": {"contents": [{"role": "user", "parts": [{"text": bare.PROMPT}]}]},
        },
    }


def direct(world: World, provider: Provider) -> Way:
    """A plain HTTP request: nothing can be faster."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        request = plain_request(world, provider)
        body = json.dumps(request["body"])
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client:

            async def ask(prompt: str) -> str:
                content = body.replace(json.dumps(bare.PROMPT), json.dumps(prompt))
                answer = await client.post(request["url"], content=content, headers=request["headers"])
                if answer.is_error:
                    raise FailedError(answer.text[:300])
                return answer.text

            async def first_text(prompt: str) -> float:
                content = body.replace(json.dumps(bare.PROMPT), json.dumps(prompt))
                began = time.perf_counter()
                async with client.stream("POST", request["url"], content=content, headers=request["headers"]) as answer:
                    async for line in answer.aiter_lines():
                        if '"text": "' in line and '"text": ""' not in line:
                            return (time.perf_counter() - began) * 1e3
                raise FailedError("no text came")

            yield Opened(ask, list, first_text)

    return Way("direct", "direct HTTP", provider, opened, stays=True)


def bare_server(world: World, provider: Provider) -> Way:
    """What MCP alone costs."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(world.home),
        "LANG": "C.UTF-8",
        bare.REQUEST: json.dumps(plain_request(world, provider)),
    }
    command = [sys.executable, bare.__file__]
    opened = _server(command, environment, world.home, "ask", lambda prompt: {"prompt": prompt})
    return Way("bare", "bare MCP SDK server", provider, opened, stays=True)


def hub(world: World, provider: Provider) -> Way:
    """The hub as an MCP client starts it."""
    opened = _server(
        world.command, world.environment, world.home, f"ask_{provider}", lambda prompt: {"prompt": prompt}, world=world
    )
    return Way("hub", f"hub, `ask_{provider}`", provider, opened, stays=True)


def shell(world: World, provider: Provider) -> Way:
    """A hub started for one ask."""

    def command(prompt: str) -> tuple[list[str], bytes]:
        return [*world.command, "ask", provider, "-"], prompt.encode()

    opened = _program(command, world.environment, world.home)
    return Way("shell", f"hub, `llm-mcp-hub ask {provider}`", provider, opened, stays=False)


def cli(world: World, provider: Provider) -> Way:
    """The vendor's CLI as scripts and bridges run it, the prompt on its stdin."""
    environment, cwd = cli_surroundings(world, f"bare-{provider}")
    fixed = (
        [str(bundled_cli()), "-p", "--model", "sonnet"]
        if provider == "claude"
        else [str(GEMINI), "-m", "gemini-2.5-pro", "-p", ""]
    )

    def command(prompt: str) -> tuple[list[str], bytes]:
        return fixed, prompt.encode()

    return Way("cli", f"`{provider} -p`", provider, _program(command, environment, cwd), stays=False)


def peer_server(world: World, peer: Peer) -> Way:
    """A public bridge, which starts the CLI for each ask."""
    environment, cwd = cli_surroundings(world, peer.key)
    environment |= peer.environment

    def arguments(prompt: str) -> dict[str, Any]:
        return peer.arguments(prompt, str(cwd))

    opened = _server(peer.command, environment, cwd, peer.tool, arguments)
    return Way(peer.key, peer.name, peer.provider, opened, stays=False)


def cli_surroundings(world: World, name: str) -> tuple[dict[str, str], Path]:
    """A person's machine with both CLIs in PATH and both logins: its environment, and the folder to work in."""
    home = world.home / name
    work, programs = home / "work", home / "bin"
    if not work.is_dir():
        work.mkdir(parents=True)
        programs.mkdir()
        claude = bundled_cli()
        assert claude is not None, "claude-agent-sdk's wheel has no CLI here"
        (programs / "claude").symlink_to(claude)
        (programs / "gemini").symlink_to(GEMINI.resolve())
        write_login(home / ".gemini")
        settings = {
            "security": {"auth": {"selectedType": "oauth-personal"}, "folderTrust": {"enabled": False}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
        (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "ANTHROPIC_BASE_URL": world.claude.url,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        **world.gemini.environment,
    }
    if os.geteuid() == 0:
        # claude takes a bridge's --dangerously-skip-permissions from root only where it is told of a sandbox.
        environment["IS_SANDBOX"] = "1"
    return environment, work


# -- how they are opened -----------------------------------------------------------------------------------------------


def text_of(result: CallToolResult) -> str:
    """The first block's text. Raises FailedError for an error."""
    text = str(getattr(result.content[0], "text", "")) if result.content else ""
    if result.is_error:
        raise FailedError(text)
    return text


def _server(
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    tool: str,
    arguments: Callable[[str], dict[str, Any]],
    *,
    world: World | None = None,
) -> Callable[[], AbstractAsyncContextManager[Opened]]:
    """An MCP server over stdio, with the official client. `world`: a hub's, whose children may have left its tree."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        failed: FailedError | None = None
        before = {child.pid for child in psutil.Process().children()}
        server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(environment), cwd=cwd)
        with open(os.devnull, "w") as errors:  # noqa: ASYNC230, PTH123 - it never blocks
            async with Client(stdio_client(server, errlog=errors)) as client:
                own = [child for child in psutil.Process().children() if child.pid not in before]

                async def ask(prompt: str) -> str:
                    try:
                        async with asyncio.timeout(DEADLINE_S):
                            return text_of(await client.call_tool(tool, arguments(prompt)))
                    except TimeoutError:
                        raise FailedError(f"no answer within {DEADLINE_S:.0f} s") from None
                    except FailedError:
                        raise
                    except Exception as error:  # whatever a client raises for an error that is no result
                        raise FailedError(str(error)) from error

                def roots() -> list[psutil.Process]:
                    return [*own, *(world.children() if world is not None else [])]

                async def told_by_the_hub(prompt: str) -> float:
                    return float(answer_of(await client.call_tool(tool, arguments(prompt)))["first_text_ms"])

                try:
                    yield Opened(ask, roots, told_by_the_hub if world is not None else None, client)
                except FailedError as error:  # from within the client's task groups it would come out in groups
                    failed = error
        if failed is not None:
            raise failed

    return opened


def _program(
    command: Callable[[str], tuple[list[str], bytes]], environment: Mapping[str, str], cwd: Path
) -> Callable[[], AbstractAsyncContextManager[Opened]]:
    """A program that is started for each ask and prints the answer. Cancelled, it gets the signal of Ctrl-C."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        running: set[asyncio.subprocess.Process] = set()
        left: set[asyncio.subprocess.Process] = set()

        async def start(words: list[str]) -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *words,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a terminal's Ctrl-C goes to all of a command's processes
            )

        async def first_text(prompt: str) -> float:
            words, given = command(prompt)
            began = time.perf_counter()
            process = await start(words)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(given)
            process.stdin.close()
            async with asyncio.timeout(DEADLINE_S):
                first = await process.stdout.read(1)
                taken = (time.perf_counter() - began) * 1e3
                _rest, complaint = await process.communicate()
            if process.returncode or not first:
                raise FailedError(f"exit code {process.returncode}: {complaint.decode(errors='replace')[-300:]}")
            return taken

        async def ask(prompt: str) -> str:
            words, given = command(prompt)
            process = await start(words)
            running.add(process)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    said, complaint = await process.communicate(given)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                left.add(process)
                raise
            finally:
                running.discard(process)
            if process.returncode:
                raise FailedError(f"exit code {process.returncode}: {complaint.decode(errors='replace')[-300:]}")
            return said.decode()

        def roots() -> list[psutil.Process]:
            return [psutil.Process(process.pid) for process in running if process.returncode is None]

        try:
            yield Opened(ask, roots, first_text)
        finally:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    return opened


@contextmanager
def answering(
    world: World,
    provider: Provider,
    chunks: Sequence[str],
    *,
    between_s: float = 0.0,
    gate: threading.Event | None = None,
) -> Generator[None]:
    """Meanwhile the stand-in answers in these pieces; with a gate the second and the rest wait for it."""
    if provider == "claude":
        claude = world.claude
        before = claude.default
        claude.default = anthropic.Answer(chunks=chunks, chunk_delay_s=between_s, gate=gate, gate_after=1)
        try:
            yield
        finally:
            claude.default = before
    else:
        gemini = world.gemini
        usual = gemini.default
        gemini.default = google.Answer(chunks=chunks, chunk_delay_s=between_s, gate=gate, gate_after=1)
        try:
            yield
        finally:
            gemini.default = usual


def asked(world: World, provider: Provider) -> list[Received]:
    """Every request for an answer that has arrived, in the order of their coming."""
    return world.claude.received if provider == "claude" else world.gemini.generations


def default_answer(provider: Provider) -> str:
    """What the stand-in says where nothing else is scripted."""
    return f"Hello from the stand-in of {'Claude' if provider == 'claude' else 'Gemini'}."


async def ask_well(opened: Opened, way: Way, prompt: str = "hello") -> None:
    """One ask that must be answered with the stand-in's own words. Raises FailedError: a bridge may call an error an
    answer."""
    must_hold(await opened.ask(prompt), default_answer(way.provider))


def must_hold(said: str, expected: str) -> None:
    """Raises FailedError with what was said instead."""
    if expected not in said:
        raise FailedError(said[:300])


def tree(roots: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes and all below them, each once."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                found[process.pid] = process
    return list(found.values())


def weight(processes: Sequence[psutil.Process]) -> tuple[float, float, int]:
    """MB of a tree, each shared page counted once (PSS); MB that are nobody else's (USS); and how many processes."""
    pss = uss = 0.0
    number = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            info = cast("Any", process.memory_full_info())
            pss, uss, number = pss + info.pss, uss + info.uss, number + 1
    return pss / 1e6, uss / 1e6, number


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds that a tree has used, with those of the children that it has waited for."""
    spent = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            spent += sum(process.cpu_times()[:4])  # user, system, and the same of children
    return spent
