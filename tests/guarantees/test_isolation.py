"""G8, one client cannot see another's: not by an id that it knows, not by guessing, and not by what an error says.

The hub itself on both stores, under names of principals as client tokens will give them. That ids cannot be guessed is
one half; these tests give the attacker the ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_mcp_hub.errors import HubError
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.providers.base import Text
from llm_mcp_hub.store.base import Store
from llm_mcp_hub.store.redis import RedisStore
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.unit.scripted import ScriptedProvider, done, login
from tests.upstreams.redis import RedisServer

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
TRIES = 10_000
SECRET = "what nobody else may see"
MINE, SAME, INSIDE, OWNER = "client:anna", "client:ann", "client:anna:conv", "owner"
"""Names that begin alike, and one that looks like a part of another's keys."""
ATTACKERS = (SAME, INSIDE, OWNER, "client:bob", "client", "", "client:*", "client:anna/", "client:anna\x00")

Attempt = Callable[[Hub, str, str], Awaitable[Any]]


async def _ask_on(hub: Hub, principal: str, conversation_id: str) -> Any:
    running = await hub.begin(hub.new_ask("one", "go on", principal=principal, conversation_id=conversation_id))
    await hub.stop(running)
    return running


ON_AN_ASK: dict[str, Attempt] = {
    "result": lambda hub, who, ask_id: hub.result(who, ask_id),
    "result, waiting": lambda hub, who, ask_id: hub.result(who, ask_id, 30),
    "cancel": lambda hub, who, ask_id: hub.cancel(who, ask_id),
    "forget": lambda hub, who, ask_id: hub.forget(who, ask_id),
}
ON_A_CONVERSATION: dict[str, Attempt] = {
    "read": lambda hub, who, conversation_id: hub.transcripts.get(who, conversation_id),
    "forget": lambda hub, who, conversation_id: hub.transcripts.delete(who, conversation_id),
    "go on": _ask_on,
}


@asynccontextmanager
async def hubs(kind: str, folder: Path) -> AsyncGenerator[tuple[Hub, Hub, asyncio.Event]]:
    """Two hubs on one store: one that has answered and still answers, one that knows nothing by itself."""
    go_on = asyncio.Event()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(folder / "redis")) if kind == "redis" else None

        def store() -> Store:
            return SqliteStore(folder) if server is None else RedisStore(server.url, timeout_s=DEADLINE_S)

        def hub(*scripts: Any, name: str) -> Hub:
            own = store()
            return Hub(
                {"one": Entry(ScriptedProvider("one", *scripts), login(own), 8)},
                store=own,
                deadlines=Deadlines(whole=600, first_text=600, idle=600),
                queue_limit=8,
                instance=name,
            )

        async with (
            hub([done(SECRET)], [Text(SECRET), go_on, done(SECRET)], name="busy") as busy,
            hub(name="idle") as idle,
        ):
            yield busy, idle, go_on


def guesses(known: str, chance: random.Random, prefix: str) -> list[str]:
    """Ids near one that is known: itself, other cases, cut, longer, with what keys and patterns are made of."""
    near = [known, known.upper(), known[:-1], known + "x", f" {known}", f"{known}\x00", f"{known}\n", f"*{known[4:]}"]
    near += [
        f"{MINE}:{known}",
        f"anna:{known}",
        f":{known}",
        f"{prefix}*",
        f"{prefix}%",
        "*",
        "%",
        " ",
        "?",
        "../" + known,
    ]
    near += [f"{known}' OR '1'='1", f"{known}\ud83d", known.replace("_", ":"), f"conv:{known}", "a" * 10_000]
    letters = list(known)
    for _ in range(20):
        at = chance.randrange(len(letters))
        near.append("".join([*letters[:at], chance.choice("abcXYZ019-_"), *letters[at + 1 :]]))
    near += [prefix + secrets.token_urlsafe(18) for _ in range(20)]
    return near


async def told(attempt: Attempt, hub: Hub, who: str, name: str) -> dict[str, Any]:
    """The error that an attempt ends with. Raises AssertionError when it ends with anything else."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            found = await attempt(hub, who, name)
    except HubError as error:
        return error.details()
    raise AssertionError(f"{who!r} reached {name!r}: {found!r}")


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_nobody_reaches_what_is_anothers(kind: str, tmp_path: Path) -> None:
    """10,000 tries with ids that are right, near and made up, at both hubs: each ends as one for an id of nobody."""
    chance = random.Random(kind)
    async with hubs(kind, tmp_path) as (busy, idle, go_on):
        ended = await busy.ask(busy.new_ask("one", SECRET, principal=MINE, system=SECRET))
        running = await busy.begin(busy.new_ask("one", SECRET, principal=MINE))
        assert ended.conversation_id is not None
        targets = [
            (ON_AN_ASK, ended.ask_id, "ask_"),
            (ON_AN_ASK, running.ask.ask_id, "ask_"),
            (ON_A_CONVERSATION, ended.conversation_id, "conv_"),
            (ON_A_CONVERSATION, running.ask.conversation_id, "conv_"),
        ]
        expected = {
            (attempts is ON_AN_ASK, name): await told(attempt, idle, MINE, prefix + secrets.token_urlsafe(18))
            for attempts, _known, prefix in targets
            for name, attempt in attempts.items()
        }
        assert {error["code"] for error in expected.values()} == {"not_found"}

        tried = 0
        while tried < TRIES:
            for attempts, known, prefix in targets:
                for who in ATTACKERS:
                    guess = known if chance.random() < 0.3 else chance.choice(guesses(known, chance, prefix))
                    name = chance.choice(list(attempts))
                    error = await told(attempts[name], chance.choice([busy, idle]), who, guess)
                    assert error == expected[attempts is ON_AN_ASK, name], (who, guess, name)
                    tried += 1
        print(f"\nG8  {kind}: {tried:,} tries to reach what is another's, none did")
        for hub in (busy, idle):
            for who in ATTACKERS:
                assert await hub.recent(who) == []
                assert await hub.transcripts.newest(who, 50) == []

        # And nothing of it has been touched.
        assert not await running.ended(0)
        go_on.set()
        assert (await running.ended(DEADLINE_S), running.outcome().text) == (True, SECRET)
        for hub in (busy, idle):
            assert {record.ask_id for record in await hub.recent(MINE)} == {ended.ask_id, running.ask.ask_id}
            record = await hub.result(MINE, ended.ask_id)
            assert record.answer == ended
            head, turns = await hub.transcripts.get(MINE, ended.conversation_id)
            assert (head.system, [turn.answer for turn in turns]) == (SECRET, [SECRET])
