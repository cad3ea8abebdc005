"""The seam of a login: what a provider's own flow needs of whoever sits at the terminal, and what comes of it.

It knows neither a terminal nor a provider. A flow drives the vendor's own program; it takes a code from a person, never
a password, and gives back what the vendor's program would have kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from llm_mcp_hub.errors import UpstreamError
from llm_mcp_hub.providers.base import Provider

TRIES = 3
"""How many codes a provider may refuse before a flow gives up."""
COLUMNS = 2000
"""Of a flow's terminal: wider than any link or token, which would be cut where a line ends."""

T = TypeVar("T")


def pasted(code: str) -> str:
    """The code out of the marks that a terminal puts around a paste and of the quotes that a shell would want, and once
    where it was pasted twice."""
    code = code.replace("\x1b[200~", "").replace("\x1b[201~", "").strip("\"'")
    half = len(code) // 2
    return code[:half] if code[:half] == code[half:] else code


async def within(seconds: float, answer: Awaitable[T], *, title: str, provider: str, what: str) -> T:
    """What is awaited of a provider's own program. Raises UpstreamError where it has not come by then.

    Args:
        seconds: how long it may take.
        answer: what is awaited.
        title: the provider's, for people.
        provider: its name.
        what: what the program has not done then, as in "showed no link".
    """
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        raise UpstreamError(
            f"{title}'s CLI {what} within {seconds:.0f} s; nothing was saved.",
            action=f"Check the network and HTTPS_PROXY, then try again. Run: llm-mcp-hub login {provider}",
            provider=provider,
        ) from error


class Person(Protocol):
    """Who opens a link in a browser, anywhere, and brings back the code that it ends in."""

    async def code(self, url: str, *, note: str) -> str:
        """Show the link and wait for its code, which comes without white space.

        Args:
            url: where to log in.
            note: what was wrong with the code before, "" for the first one.

        Raises HubError when there is nobody who could answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """A login as an env file takes it: its variables, and the files that they name."""

    variables: Mapping[str, str] = field(repr=False)
    files: Mapping[Path, str] = field(default_factory=dict[Path, str], repr=False)


class LoginFlow(Protocol):
    """One provider's way to a login."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    async def make(self, person: Person) -> str:
        """Lead a person through the vendor's own login. Returns the login's content. Raises HubError.

        Whatever ends this leaves no child and no file.
        """
        ...

    def provider(self, content: str) -> Provider:
        """The provider with this login and no other, to try it out."""
        ...

    def exported(self, content: str, issued_at: datetime, env_file: Path) -> Exported:
        """What an env file takes so that a hub with it uses this login."""
        ...


async def whichever(person: Coroutine[Any, Any, str], child: Coroutine[Any, Any, T]) -> str | T:
    """What a person answers, or what the child does before that; the other one is let go.

    A browser on the same machine may finish a login by itself, a link may end, a child may die: nobody is then to sit
    before a question that has no use any more.
    """
    tasks = asyncio.ensure_future(person), asyncio.ensure_future(child)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[1].result() if tasks[1].done() else tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
