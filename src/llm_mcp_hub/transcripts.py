"""Conversations as the hub keeps them: their turns in order, whoever answered. Knows no provider.

The transcript is the truth; what a vendor's session remembers is a cache of it. Only completed turns are in it. One
turn at a time: whoever asks holds a lease on the conversation.
"""

from __future__ import annotations

from llm_mcp_hub.conversation import Ask, Exchange, Noun, Unshown, UnshownIfAny, read
from llm_mcp_hub.errors import InvalidRequest, NotFound
from llm_mcp_hub.journal import now, title
from llm_mcp_hub.store.base import CONVERSATION, CONVERSATIONS, TURNS, Put, Store, key


class Conversation(Noun):
    """A conversation's head; its turns are in a log of their own."""

    conversation_id: str
    principal: str
    title: Unshown
    """The beginning of its first prompt."""
    system: UnshownIfAny = None
    """Given at the first turn, and for good."""
    created_at: str
    updated_at: str
    """Both ISO 8601, UTC."""
    turns: int = 0
    characters: int = 0
    """What every further request carries."""
    provider: str
    """Who answered last."""


class Transcripts:
    """The conversations of all hubs on one store. Every method raises StoreUnavailable."""

    def __init__(self, store: Store, *, retention_s: float) -> None:
        self._store = store
        self._retention_s = retention_s

    async def get(self, principal: str, conversation_id: str) -> tuple[Conversation, tuple[Exchange, ...]]:
        """One's own conversation. Raises NotFound."""
        names = {"who": principal, "conversation_id": conversation_id}
        for _ in range(2):  # a turn may end between the two looks
            (value,) = await self._store.get(key(CONVERSATION, **names))
            entries = [read(Exchange, entry) for entry in await self._store.entries(key(TURNS, **names))]
            head, turns = read(Conversation, value), tuple(entry for entry in entries if entry is not None)
            if head is None or (head.principal, head.conversation_id) != (principal, conversation_id):
                break
            if len(turns) == len(entries) == head.turns:
                return head, turns
        raise unknown()

    async def newest(self, principal: str, limit: int) -> list[Conversation]:
        """One's own conversations, the newest first."""
        values = await self._store.newest(key(CONVERSATIONS, who=principal), limit)
        return [found for value in values if (found := read(Conversation, value)) is not None]

    async def add(self, ask: Ask, turn: Exchange, also: Put) -> bool:
        """Write a completed turn down, and `also` with it. False when another turn has come in between.

        It may be called again after a failure: a turn that had been written all the same is not written twice.
        """
        names = {"who": ask.principal, "conversation_id": ask.conversation_id}
        begun = ask.history[0] if ask.history else turn
        head = Conversation(
            conversation_id=ask.conversation_id,
            principal=ask.principal,
            title=title(begun.prompt),
            system=ask.system,
            created_at=begun.at,
            updated_at=now(),
            turns=len(ask.history) + 1,
            characters=sum(earlier.size for earlier in ask.history) + turn.size,
            provider=ask.provider,
        )
        log = key(TURNS, **names)
        written = await self._store.append(
            log,
            turn.model_dump_json().encode(),
            at=len(ask.history),
            ttl_s=self._retention_s,
            also=[
                Put(
                    key(CONVERSATION, **names),
                    head.model_dump_json().encode(),
                    self._retention_s,
                    key(CONVERSATIONS, who=ask.principal),
                ),
                also,
            ],
        )
        if written:
            return True
        there = await self._store.entries(log)
        at = len(ask.history)
        held = read(Exchange, there[at]) if at < len(there) else None
        return held is not None and held.ask_id == ask.ask_id

    async def delete(self, principal: str, conversation_id: str) -> None:
        """Forget one's own conversation. Raises NotFound."""
        names = {"who": principal, "conversation_id": conversation_id}
        if not await self._store.delete(key(CONVERSATION, **names), key(TURNS, **names)):
            raise unknown()


def unknown() -> NotFound:
    """The same for an id that never was, one that has ended, and one of somebody else."""
    return NotFound(
        "There is no such conversation.",
        action="Leave conversation_id out to begin a new one; `llm-mcp-hub conversations` lists yours.",
    )


def fitting_system(given: str | None, held: str | None) -> str | None:
    """The conversation's instruction for a later turn. Raises InvalidRequest where the turn brings another one."""
    if given is not None and given != held:
        raise InvalidRequest(
            "system can be given at the first turn of a conversation only.",
            action="Leave system out, or begin a new conversation.",
        )
    return held


def markdown(head: Conversation, turns: tuple[Exchange, ...]) -> str:
    """A conversation to be read by people."""
    parts = [f"# {head.title}\n"]
    if head.system:
        parts.append(f"Instruction: {head.system}\n")
    for turn in turns:
        parts.append(f"## Asked ({turn.at})\n")
        parts += [f"[{part.name}, {part.mime_type}]\n" for part in turn.parts]
        parts += [f"{turn.prompt}\n", f"## {turn.provider} · {turn.model}\n", f"{turn.answer}\n"]
    return "\n".join(parts)
