"""Limits that were met: whom they stop, and for how long."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.cooldown import CoolDowns
from llm_mcp_hub.errors import BillingBlocked, HubError, QuotaExhausted
from llm_mcp_hub.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
ASK = Ask("ask_1", "one", "hi", "one-1", None, 60)
USED_UP = QuotaExhausted("Used up.", action="Wait.", retry_after_s=600, partial_text="half an", ask_id="ask_0")
PAID_EXTRA = BillingBlocked("Paid extra.", action="Wait.", retry_after_s=600)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def limits(tmp_path: Path) -> AsyncGenerator[tuple[CoolDowns, Clock]]:
    """Limits with a clock of the test's own, in a store whose clock stands still beside it."""
    clock = Clock()
    store = SqliteStore(tmp_path, clock=lambda: 0.0)
    yield CoolDowns(store, clock=clock), clock
    await store.close()


async def met(limits: CoolDowns, *, login: str = "login", model: str = "one-1", pays: bool = False) -> HubError | None:
    """What an ask would be told."""
    try:
        await limits.check(replace(ASK, model=model), login, pays_extra=pays)
    except HubError as error:
        return error
    return None


async def test_a_limit_stops_its_login_until_its_time_is_over(limits: tuple[CoolDowns, Clock]) -> None:
    """With every model, and with the time that is left; another login has other limits."""
    known, clock = limits
    await known.note("one", "login", "one-1", USED_UP)
    clock.now += 100

    told = await met(known, model="one-2")

    assert told is not None
    assert (told.code, told.message, told.retry_after_s) == ("quota_exhausted", "Used up.", 500)
    assert (told.partial_text, told.ask_id) == (None, None)  # those were another ask's
    assert await met(known, login="another") is None
    clock.now += 500
    assert await met(known) is None


async def test_a_limit_of_one_model_leaves_the_others_alone(limits: tuple[CoolDowns, Clock]) -> None:
    """Google counts by model."""
    known, _ = limits
    one_model = QuotaExhausted("Used up.", action="Wait.", retry_after_s=600, only_model=True)
    await known.note("one", "login", "one-1", one_model)

    assert await met(known) is not None
    assert await met(known, model="one-2") is None


async def test_who_pays_extra_is_bound_by_what_is_used_up_and_not_by_who_pays(limits: tuple[CoolDowns, Clock]) -> None:
    """Another hub's careful setting is not this owner's; the provider's limit is everybody's."""
    known, _ = limits
    await known.note("one", "paid", "one-1", PAID_EXTRA)
    await known.note("one", "used", "one-1", USED_UP)

    assert [await met(known, login=login, pays=True) is None for login in ("paid", "used")] == [True, False]
    assert [await met(known, login=login, pays=False) is None for login in ("paid", "used")] == [False, False]


async def test_a_limit_without_an_end_is_not_remembered(limits: tuple[CoolDowns, Clock]) -> None:
    """Nobody could say when to forget it."""
    known, _ = limits
    await known.note("one", "login", "one-1", QuotaExhausted("Used up.", action="Wait."))

    assert await met(known) is None
