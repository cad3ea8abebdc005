"""Which ask a call began, for a caller that calls it off at another hub. Knows no protocol.

One record for each call, which whoever comes first writes: the call, with the ask that it began; or its caller, who
wants it no more. So neither can miss the other, whatever they meet at.
"""

from __future__ import annotations

from llm_mcp_hub.conversation import Noun, read
from llm_mcp_hub.store.base import CALL, Store, key

CALL_S = 3_900.0
"""Longer than any ask."""
CALLED_OFF_S = 60.0
"""How long before its call a wish may come that it should end."""


class Call(Noun):
    """What is known of a call: the ask that it began; None where it was called off before."""

    ask_id: str | None


class Begun:
    """The calls of all hubs on one store. Every method raises StoreUnavailable.

    A call is named by its session (an id of chance that only its client knows) and by what the client calls it there.
    """

    def __init__(self, store: Store, *, called_off_s: float = CALLED_OFF_S) -> None:
        self._store = store
        self._called_off_s = called_off_s

    async def note(self, session: str, call: str, ask_id: str) -> bool:
        """Write down which ask a call began. Returns whether it is still wanted."""
        name, value = key(CALL, session=session, call=call), Call(ask_id=ask_id).model_dump_json().encode()
        if await self._store.add(name, value, ttl_s=CALL_S):
            return True
        (found,) = await self._store.get(name)
        known = read(Call, found)
        await self._store.put(name, value, ttl_s=CALL_S)  # or a client that uses an id twice
        return known is None or known.ask_id is not None

    async def forget(self, session: str, call: str) -> None:
        """The call is over: from now on its caller's wishes are no concern of the ask."""
        await self._store.delete(key(CALL, session=session, call=call))

    async def called_off(self, session: str, call: str) -> str | None:
        """The ask of a call that is not wanted any more. None where there is none yet: the call will find it out."""
        name = key(CALL, session=session, call=call)
        if await self._store.add(name, Call(ask_id=None).model_dump_json().encode(), ttl_s=self._called_off_s):
            return None
        (found,) = await self._store.get(name)
        known = read(Call, found)
        return None if known is None else known.ask_id
