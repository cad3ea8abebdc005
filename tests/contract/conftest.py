"""Each provider with its real CLI and the stand-in of its upstream, in this process: what the contract is run on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import select
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import psutil
import pytest

from llm_mcp_hub.children.supervision import RunFolder
from llm_mcp_hub.conversation import Ask, Exchange, Part
from llm_mcp_hub.errors import AuthMissing
from llm_mcp_hub.providers.base import Event, Finished, Provider, Text
from llm_mcp_hub.providers.claude import ClaudeProvider
from llm_mcp_hub.providers.gemini import GeminiProvider, Login
from tests.harness import GEMINI, MACHINES_PATH
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received

DEADLINE_S = 90.0
Failure = Literal["the login is refused", "the upstream fails", "the quota is used up"]
CODES: dict[Failure, str] = {
    "the login is refused": "auth_rejected",
    "the upstream fails": "upstream_error",
    "the quota is used up": "quota_exhausted",
}


class Rig(Protocol):
    """What the contract needs to know of one provider and its stand-in."""

    provider: Provider
    run: RunFolder
    signed_in: bool

    def say(self, *pieces: str, gate: threading.Event | None = None) -> None:
        """Line up an answer in these pieces; nothing of it is sent before the gate opens."""
        ...

    def say_to_each(self, answer: Callable[[str], str], gate: threading.Event) -> None:
        """Answer whatever comes by its prompt."""
        ...

    def hang(self, after_text: str) -> None:
        """Line up an upstream that stops in the middle, or before the first byte for an empty text."""
        ...

    def fail(self, how: Failure) -> None: ...

    @property
    def received(self) -> Sequence[Received]:
        """The requests for an answer, in order."""
        ...

    def prompt_of(self, received: Received) -> str: ...

    def texts_of(self, received: Received) -> list[str]:
        """All that the model reads, in its order: the instruction, then the conversation."""
        ...

    def answers_of(self, received: Received) -> list[str]:
        """What stands there as the model's own earlier words."""
        ...

    def data_of(self, received: Received) -> list[tuple[str, bytes]]:
        """Pictures and the like by type and content, in the conversation's order."""
        ...

    def wait_until(self, happened: Callable[[], bool]) -> None: ...

    def renew_login(self) -> str:
        """The owner logs in anew. Returns what the requests of that login are signed with."""
        ...


class ClaudeRig:
    """Claude: a setup-token, and Anthropic's stand-in."""

    def __init__(self, folder: Path) -> None:
        self.signed_in = True
        self.run = RunFolder(folder / "state")
        self.upstream = anthropic.AnthropicUpstream()
        self.upstream.start()
        self._token = "sk-ant-oat01-" + "first" * 16
        self.provider: Provider = ClaudeProvider(
            run=self.run,
            around={"PATH": os.environ["PATH"], "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},
            token=self._signed,
            default_model="sonnet",
            upstream=self.upstream.url,
            managed_folder=folder / "no-managed-settings",
        )

    def _signed(self) -> str:
        if not self.signed_in:
            raise AuthMissing("There is none.", action="Make one.", provider="claude")
        return self._token

    def say(self, *pieces: str, gate: threading.Event | None = None) -> None:
        self.upstream.script(anthropic.Answer(chunks=pieces, gate=gate))

    def say_to_each(self, answer: Callable[[str], str], gate: threading.Event) -> None:
        self.upstream.default = lambda received: anthropic.Answer(answer(self.prompt_of(received)), 5, gate=gate)

    def hang(self, after_text: str) -> None:
        self.upstream.script(anthropic.Hang(after_text))

    def fail(self, how: Failure) -> None:
        errors = {
            "the login is refused": anthropic.Error.unauthorized(),
            "the upstream fails": anthropic.Error.server_error(),
            "the quota is used up": anthropic.Error.quota(),
        }
        self.upstream.default = errors[how]  # the CLI may repeat a request

    @property
    def received(self) -> Sequence[Received]:
        return list(self.upstream.received)

    def prompt_of(self, received: Received) -> str:
        return anthropic.last_user_texts(received)[-1]

    def texts_of(self, received: Received) -> list[str]:
        spoken = [
            str(block["text"])
            for role, blocks in anthropic.all_blocks(received)
            for block in blocks
            if role != "system" and block.get("type") == "text"
        ]
        return [*anthropic.system_texts(received), *spoken]

    def answers_of(self, received: Received) -> list[str]:
        return [
            str(block.get("text"))
            for role, blocks in anthropic.all_blocks(received)
            for block in blocks
            if role == "assistant"
        ]

    def data_of(self, received: Received) -> list[tuple[str, bytes]]:
        sources = [
            cast("dict[str, str]", block["source"])
            for _role, blocks in anthropic.all_blocks(received)
            for block in blocks
            if "source" in block
        ]
        return [(source["media_type"], base64.b64decode(source["data"])) for source in sources]

    def wait_until(self, happened: Callable[[], bool]) -> None:
        self.upstream.wait_until(happened, timeout=DEADLINE_S)

    def renew_login(self) -> str:
        self._token = "sk-ant-oat01-" + os.urandom(40).hex()
        return self._token

    def stop(self) -> None:
        self.upstream.stop()


class GeminiRig:
    """Gemini: a login file, and Google's stand-in."""

    def __init__(self, folder: Path) -> None:
        self.signed_in = True
        self.run = RunFolder(folder / "state")
        self.upstream = google.GoogleUpstream(folder / "google")
        self.upstream.start()
        self._folder = folder / "login"
        google.write_login(self._folder)
        around = {name: value for name, value in self.upstream.environment.items() if name != "CODE_ASSIST_ENDPOINT"}
        self.provider: Provider = GeminiProvider(
            run=self.run,
            around={"PATH": MACHINES_PATH, **around},
            login=self._login,
            default_model="gemini-2.5-pro",
            command=str(GEMINI),
            upstream=self.upstream.url,
        )

    def _login(self) -> Login:
        if not self.signed_in:
            raise AuthMissing("There is none.", action="Make one.", provider="gemini")
        content = (self._folder / "oauth_creds.json").read_bytes()
        return Login(content, json.loads(content)["refresh_token"])

    def say(self, *pieces: str, gate: threading.Event | None = None) -> None:
        self.upstream.script(google.Answer(chunks=pieces, gate=gate))

    def say_to_each(self, answer: Callable[[str], str], gate: threading.Event) -> None:
        self.upstream.default = lambda received: google.Answer(answer(self.prompt_of(received)), 5, gate=gate)

    def hang(self, after_text: str) -> None:
        self.upstream.script(google.Hang(after_text))

    def fail(self, how: Failure) -> None:
        errors = {
            "the login is refused": google.Error.unauthenticated(),
            "the upstream fails": google.Error.internal(),
            "the quota is used up": google.Error.quota_exhausted(),
        }
        self.upstream.default = errors[how]

    @property
    def received(self) -> Sequence[Received]:
        return self.upstream.generations

    def prompt_of(self, received: Received) -> str:
        return google.prompt_texts(received)[-1]

    def texts_of(self, received: Received) -> list[str]:
        spoken = [text for _role, texts in google.all_texts(received) for text in texts]
        return [google.system_text(received), *spoken]

    def answers_of(self, received: Received) -> list[str]:
        return [text for role, texts in google.all_texts(received) for text in texts if role == "model"]

    def data_of(self, received: Received) -> list[tuple[str, bytes]]:
        return google.all_data(received)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        self.upstream.wait_until(happened, timeout=DEADLINE_S)

    def renew_login(self) -> str:
        access = google.made_up("access")
        google.write_login(self._folder, access_token=access)
        return access

    def stop(self) -> None:
        self.upstream.stop()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the rigs live as long."""
    return "asyncio"


@pytest.fixture(scope="module", params=[ClaudeRig, GeminiRig], ids=["claude", "gemini"])
async def shared_rig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[ClaudeRig | GeminiRig]:
    """One rig a provider for all of a module's tests: each of them leaves the provider able to answer."""
    made: ClaudeRig | GeminiRig = request.param(tmp_path_factory.mktemp(request.param.__name__))
    try:
        yield made
        await within(made.provider.close())
        assert children(made) == []
    finally:
        made.provider.kill()
        made.stop()
        made.run.close()


@pytest.fixture
def rig(shared_rig: ClaudeRig | GeminiRig) -> Iterable[Rig]:
    """The shared rig with a stand-in that knows nothing yet; at the end it may have seen nothing unexpected."""
    shared_rig.upstream.clear()
    shared_rig.signed_in = True
    yield shared_rig
    assert (shared_rig.upstream.surprises, shared_rig.upstream.unused) == ([], 0)


# -- what the tests do with a rig --------------------------------------------------------------------------------------

T = TypeVar("T")


async def within(work: Any) -> Any:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


def new_ask_id() -> str:
    return f"ask_{os.urandom(6).hex()}"


def new_ask(rig: Rig, prompt: str = "Hello?", system: str | None = None, parts: Sequence[Part] = ()) -> Ask:
    """An ask as the hub makes it: the first turn of a conversation of its own."""
    traits = rig.provider.traits
    return Ask(
        new_ask_id(),
        traits.name,
        prompt,
        traits.default_model,
        system,
        DEADLINE_S,
        conversation_id=f"conv_{os.urandom(6).hex()}",
        parts=tuple(parts),
    )


def exchange(ask: Ask, text: str, provider: str | None = None, model: str | None = None) -> Exchange:
    """The turn that this ask became with this answer, as the hub writes it down; it may be another provider's."""
    return Exchange(
        ask_id=ask.ask_id,
        provider=provider or ask.provider,
        model=model or ask.model,
        prompt=ask.prompt,
        parts=ask.parts,
        answer=text,
        at="2026-11-24T00:00:00.000Z",
    )


def next_ask(ask: Ask, turn: Exchange, prompt: str, parts: Sequence[Part] = ()) -> Ask:
    """The next turn of the ask's conversation, as the hub makes it: with all that was said, and the instruction."""
    return replace(
        ask,
        ask_id=new_ask_id(),
        prompt=prompt,
        parts=tuple(parts),
        history=(*ask.history, turn),
    )


async def all_events(rig: Rig, ask: Ask) -> list[Event]:
    """Every event of an ask. Raises what the provider raises."""

    async def collect() -> list[Event]:
        async with contextlib.aclosing(rig.provider.ask(ask)) as events:
            return [event async for event in events]

    return await within(collect())


async def answer(rig: Rig, prompt: str = "Hello?", system: str | None = None) -> Finished:
    """The end of an ask that is answered."""
    return await answer_to(rig, new_ask(rig, prompt, system))


async def answer_to(rig: Rig, ask: Ask) -> Finished:
    """The end of this ask, which is answered."""
    last = (await all_events(rig, ask))[-1]
    assert isinstance(last, Finished)
    return last


async def until(rig: Rig, happened: Callable[[], bool]) -> None:
    """Until something has happened at the stand-in; the provider goes on meanwhile."""
    await asyncio.to_thread(rig.wait_until, happened)


async def first_text(events: AsyncGenerator[Event]) -> str:
    """Read until the first piece of text."""

    async def read() -> str:
        async for event in events:
            if isinstance(event, Text):
                return event.piece
        raise AssertionError("no text came")

    return await within(read())


def children(rig: Rig) -> list[psutil.Process]:
    """The processes that live in the provider's folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = process.environ().get("HOME", "").startswith(str(rig.run.path))
            if here and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_children(rig: Rig) -> None:
    """SIGKILL to each of them; what a CLI has started may end by itself meanwhile."""
    for child in children(rig):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def wait_until_ended(processes: Iterable[psutil.Process]) -> None:
    """Block until none of them runs. They are not reaped here: that is their parent's business."""
    for process in processes:
        assert _one_ended([process]), f"it lives on: {process}"


async def until_no_more_children_than(rig: Rig, count: int) -> None:
    """Until at most so many children live; it is looked at whenever one of them ends."""
    while len(alive := children(rig)) > count:
        assert await asyncio.to_thread(_one_ended, alive), f"they live on: {alive}"


def _one_ended(processes: Iterable[psutil.Process]) -> bool:
    """Wait until one of them has ended."""
    watched: list[int] = []
    poll = select.poll()
    try:
        for process in processes:
            try:
                watched.append(os.pidfd_open(process.pid))
            except ProcessLookupError:
                return True
            poll.register(watched[-1], select.POLLIN)
        return bool(poll.poll(DEADLINE_S * 1000))
    finally:
        for descriptor in watched:
            os.close(descriptor)
