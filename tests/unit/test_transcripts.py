"""Conversations as they are written: one turn after the other, each once, and none for longer than was promised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from llm_mcp_hub.conversation import Ask, Exchange
from llm_mcp_hub.errors import InvalidRequest, NotFound
from llm_mcp_hub.journal import Journal, Record, opened
from llm_mcp_hub.store.base import Put
from llm_mcp_hub.store.sqlite import SqliteStore
from llm_mcp_hub.transcripts import Transcripts, fitting_system

pytestmark = pytest.mark.anyio
KEPT_S = 1_000.0
ASK = Ask("ask_1", "one", "hi", "one-1", None, 60, conversation_id="conv_1")


class Noting(SqliteStore):
    """Remembers for how long what was written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: list[tuple[str, float]] = []

    async def put(self, key: str, value: bytes, *, ttl_s: float, listed: str | None = None) -> None:
        self.kept.append((key.partition(":")[0], ttl_s))
        await super().put(key, value, ttl_s=ttl_s, listed=listed)

    async def append(self, key: str, value: bytes, *, at: int, ttl_s: float, also: Sequence[Put] = ()) -> bool:
        self.kept += [(key.partition(":")[0], ttl_s), *((put.key.partition(":")[0], put.ttl_s) for put in also)]
        return await super().append(key, value, at=at, ttl_s=ttl_s, also=also)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Noting]:
    """A store of the test's own."""
    made = Noting(tmp_path)
    yield made
    await made.close()


def turn(ask: Ask) -> Exchange:
    return Exchange(ask_id=ask.ask_id, provider="one", model="one-1", prompt="hi", answer="Hello.", at="2026-11-26")


async def written(store: Noting, ask: Ask) -> bool:
    """Write an ask's turn down as the hub does, with the ask's own record."""
    journal = Journal(store, retention_s=KEPT_S, instance="here")
    record: Record = opened(ask, "here")
    return await Transcripts(store, retention_s=KEPT_S).add(ask, turn(ask), journal.put(record))


async def test_all_that_is_kept_of_an_ask_ends_with_the_retention(store: Noting) -> None:
    """HUB_RETENTION_DAYS, for the record, the conversation and its turns."""
    await Journal(store, retention_s=KEPT_S, instance="here").save(opened(ASK, "here"))
    await written(store, ASK)

    assert {kind for kind, _ in store.kept} == {"ask", "turns", "conversation"}
    assert {ttl_s for _, ttl_s in store.kept} == {KEPT_S}


async def test_a_turn_is_written_once_and_none_over_another(store: Noting) -> None:
    """Told again after a failure it is there already; told after another one it is no turn of this conversation."""
    assert [await written(store, ask) for ask in (ASK, ASK, replace(ASK, ask_id="ask_2"))] == [True, True, False]

    _, turns = await Transcripts(store, retention_s=KEPT_S).get("owner", "conv_1")
    assert [one.ask_id for one in turns] == ["ask_1"]


async def test_a_conversation_is_its_principals_alone(store: Noting) -> None:
    """G8: to everybody else it does not exist."""
    await written(store, ASK)
    held = Transcripts(store, retention_s=KEPT_S)

    for act in (held.get, held.delete):
        with pytest.raises(NotFound):
            await act("client:anna", "conv_1")
    assert (await held.get("owner", "conv_1"))[0].turns == 1


@pytest.mark.parametrize(
    ("given", "held", "fits"),
    [(None, None, True), (None, "Be brief.", True), ("Be brief.", "Be brief.", True), ("Be brief.", None, False),
     ("Be long.", "Be brief.", False)],
)  # fmt: skip
def test_an_instruction_is_given_at_the_first_turn_or_not_at_all(
    given: str | None, held: str | None, fits: bool
) -> None:
    """One that came later would be passed over in silence by a session that goes on."""
    if fits:
        assert fitting_system(given, held) == held
    else:
        with pytest.raises(InvalidRequest):
            fitting_system(given, held)
