"""What may stand in the store, where others can write too, thrown at what reads it and who uses what that gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from hypothesis import strategies as st
from mcp_types import CallToolResult

from llm_mcp_hub import journal
from llm_mcp_hub.begun import Call
from llm_mcp_hub.conversation import Answer, Exchange, Noun, read
from llm_mcp_hub.cooldown import Cooled, met_by
from llm_mcp_hub.credentials.alerts import Told
from llm_mcp_hub.credentials.known import Held, Known, Lasted, Reading, merged
from llm_mcp_hub.journal import Record
from llm_mcp_hub.serving import shapes
from llm_mcp_hub.transcripts import Conversation, markdown
from tests.fuzz.engine import CANARY, TAKEN, Target
from tests.fuzz.forms import BYTES, NOW, written_down
from tests.fuzz.logins import status_of
from tests.unit.strategies import any_json

# -- the store ---------------------------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "ask_id": "ask_1",
    "status": "completed",
    "provider": "claude",
    "model": "claude-sonnet-5-5",
    "model_source": "served",
    "text": CANARY,
    "conversation_id": "c1",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
    "duration_ms": 5,
    "first_text_ms": 2,
    "billing": {"source": "subscription", "evidence": "handshake"},
    "warnings": ["w"],
}
ERROR: dict[str, Any] = {
    "code": "quota_exhausted",
    "message": "It is used up.",
    "action": "Wait.",
    "retryable": True,
    "retry_after_s": 60,
    "provider": "claude",
    "ask_id": "ask_1",
}
RECORD: dict[str, Any] = {
    "ask_id": "ask_1",
    "principal": "owner",
    "provider": "claude",
    "model": "sonnet",
    "status": "failed",
    "instance": "hub-1",
    "conversation_id": "c1",
    "title": "hello",
    "created_at": "2026-11-26T11:59:00.000Z",
    "updated_at": "2026-11-26T11:59:30.000Z",
    "partial_text": "some text",
    "answer": None,
    "error": ERROR,
}
TURN: dict[str, Any] = {
    "ask_id": "ask_1",
    "provider": "claude",
    "model": "m",
    "prompt": CANARY,
    "parts": [{"name": "a.png", "mime_type": "image/png", "data": "iVBORw0KGgo="}],
    "answer": CANARY,
    "at": "2026-11-26T11:59:00Z",
}
HEAD: dict[str, Any] = {
    "conversation_id": "c1",
    "principal": "owner",
    "title": "hello",
    "created_at": "2026-11-26T11:59:00Z",
    "updated_at": "2026-11-26T11:59:00Z",
    "turns": 1,
    "characters": 9,
    "provider": "claude",
}
COOLED: dict[str, Any] = {"error": ERROR, "until": NOW.timestamp() + 60}
READING: dict[str, Any] = {"at": NOW.timestamp() - 60, "code": "auth_rejected", "message": "No.", "action": "Log in."}
WINDOW: dict[str, Any] = {"window": "five_hour", "used_fraction": 0.5, "resets_at": None, "observed_at": "2026-11-26"}
KNOWN: dict[str, Any] = {
    "success": READING,
    "accepted": READING,
    "refusal": {**READING, "at": NOW.timestamp()},
    "trouble": READING,
    "issued_at": NOW.timestamp() - 86_400,
    "first_seen": NOW.timestamp() - 86_400,
    "quota": [WINDOW],
}


def _told(result: CallToolResult) -> None:
    result.model_dump_json(by_alias=True)


def _record(value: Noun) -> None:
    record = cast("Record", value)
    _told(shapes.outcome(record, offset=3))
    _told(shapes.listing([record]))
    _told(shapes.cancellation(record))
    assert record.lease.holder
    assert record.turn.lease
    if not record.ended:
        _told(shapes.ticket(record))
        journal.failed(record, journal.died(record)).model_dump_json()
    journal.completed(record, Answer.model_validate(ANSWER)).model_dump_json()
    if record.failure is not None:
        assert record.failure.code


def _exchange(value: Noun) -> None:
    turn = cast("Exchange", value)
    assert turn.size >= 0
    markdown(Conversation.model_validate(HEAD), (turn,)).encode()
    turn.model_dump_json()


def _cooled(value: Noun) -> None:
    error = met_by(cast("Cooled", value), NOW.timestamp())
    if error is not None:
        _told(shapes.failure(error))


def _known(value: Noun) -> None:
    known = cast("Known", value)
    held = [
        Held("The setup-token", None, "x", "Log in.", mark="m", lifetime=timedelta(days=365)),
        Held("The Google login", None, "x", "Log in.", mark="m"),
    ]
    for one in held:
        status_of([one], merged(known, Known()), (Lasted(seconds=86_400.0, exact=True),))


def _lasted(value: Noun) -> None:
    status_of([Held("The Google login", None, "x", "Log in.", mark="m")], Known(), (cast("Lasted", value),))


def _nothing(value: Noun) -> None:
    value.model_dump_json()


KINDS: dict[str, tuple[type[Noun], Any, Callable[[Noun], None]]] = {
    "record": (Record, RECORD, _record),
    "answered": (Record, {**RECORD, "status": "completed", "error": None, "answer": ANSWER}, _record),
    "open": (Record, {**RECORD, "status": "working", "error": None}, _record),
    "turn": (Exchange, TURN, _exchange),
    "head": (Conversation, HEAD, _nothing),
    "cooled": (Cooled, COOLED, _cooled),
    "reading": (Reading, READING, _nothing),
    "known": (Known, KNOWN, _known),
    "lasted": (Lasted, {"seconds": 86_400.0, "exact": True}, _lasted),
    "call": (Call, {"ask_id": "ask_1"}, _nothing),
    "told": (Told, {"status": "expired", "source": "env"}, _nothing),
}


def _stored(value: tuple[str, Any]) -> str:
    """What cannot be read counts as absent; what is read can be used and told."""
    kind, held = value
    content = written_down(held)
    if kind not in KINDS:
        return "absent"
    noun, _, use = KINDS[kind]
    found = read(noun, content)
    if found is None:
        return "absent"
    use(found)
    return TAKEN


def _nearly() -> st.SearchStrategy[Any]:
    """Members of every kind of record with values of other members, or any."""
    rights = [right for _, right, _ in KINDS.values()]
    names = sorted({name for right in rights for name in right})
    values = st.one_of(st.sampled_from([value for right in rights for value in right.values()]), any_json())
    return st.tuples(st.sampled_from(rights), st.dictionaries(st.sampled_from(names), values, max_size=2)).map(
        lambda drawn: {name: drawn[1].get(name, value) for name, value in drawn[0].items()}
    )


def targets() -> list[Target]:
    """All of them."""
    kinds = st.sampled_from(sorted(KINDS))
    return [
        Target(
            "stored records",
            [(kind, form) for kind, (_, right, _) in KINDS.items() for form in (right, right, written_down(right))],
            st.tuples(kinds, st.one_of(BYTES, _nearly())),
            _stored,
            frozenset({"absent"}),
            3,
        ),
    ]
