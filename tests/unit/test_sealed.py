"""Sealed sessions: what opens, for whom, until when. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.serving.sealed import LIVES_S, NAME_CHARS, Seal, Session, began, call_of

OLD, NEW, STRANGE = ("o" * 32, "n" * 32, "s" * 32)
NOW = 1_800_000_000.0
PARAMS = {"protocolVersion": "2025-06-18", "clientInfo": {"name": "Claude-Code", "version": "1"}}
SESSION = began("client:anna", PARAMS, NOW)


def opened(given: str, *, keys: tuple[str, ...] = (NEW,), principal: str = "client:anna", now: float = NOW) -> Any:
    return Seal(keys).opened(given, principal, now)


def test_what_was_said_at_the_beginning_is_there_again() -> None:
    """At every replica with the key: nothing else of it is kept."""
    assert opened(Seal([NEW]).sealed(SESSION)) == SESSION
    assert (SESSION.client, SESSION.version, SESSION.principal) == ("Claude-Code", "2025-06-18", "client:anna")


def test_the_seal_can_stand_in_a_header() -> None:
    """Visible ASCII, as the specification wants it, whatever the client calls itself; and no longer than it must be."""
    named = began("client:anna", {"clientInfo": {"name": "한국어\r\n\ud800" * 1_000}}, NOW)  # half a character, too
    sealed = Seal([NEW]).sealed(named)

    assert all(0x21 <= ord(character) <= 0x7E for character in sealed)
    assert len(sealed) < 1_000
    assert opened(sealed) == named


def test_two_sessions_are_never_one() -> None:
    """Of the same client at the same moment: its calls are told apart by it."""
    assert began("owner", PARAMS, NOW).id != began("owner", PARAMS, NOW).id


@pytest.mark.parametrize(
    ("keys", "principal", "now", "is_open"),
    [
        ((NEW,), "client:anna", NOW, True),
        ((OLD, NEW), "client:anna", NOW, True),
        ((NEW, OLD), "client:anna", NOW, True),
        ((STRANGE, OLD), "client:anna", NOW, False),
        ((NEW,), "client:bob", NOW, False),
        ((NEW,), "owner", NOW, False),
        ((NEW,), "client:anna", NOW + LIVES_S - 1, True),
        ((NEW,), "client:anna", NOW + LIVES_S, False),
        ((NEW,), "client:anna", NOW - 60, True),  # another machine's clock
    ],
)
def test_it_opens_with_a_known_key_for_its_client_while_it_lives(
    keys: tuple[str, ...], principal: str, now: float, is_open: bool
) -> None:
    """Anything else is no session at all."""
    sealed = Seal([NEW]).sealed(SESSION)

    assert (opened(sealed, keys=keys, principal=principal, now=now) is not None) == is_open


def test_the_first_key_seals() -> None:
    """So a new key is given to every replica before the old one is dropped."""
    sealed = Seal([NEW, OLD]).sealed(SESSION)

    assert opened(sealed, keys=(NEW,)) == SESSION
    assert opened(sealed, keys=(OLD,)) is None


def test_every_changed_character_shuts_it() -> None:
    """Also the last of the seal, whose lowest bits no decoder looks at: it opens to the same session, or not at all."""
    sealed = Seal([NEW]).sealed(SESSION)
    for place, character in enumerate(sealed):
        changed = sealed[:place] + ("A" if character != "A" else "B") + sealed[place + 1 :]
        assert opened(changed) in ([None, SESSION] if place == len(sealed) - 1 else [None]), place


def test_a_seal_of_another_content_is_no_seal_of_this_one() -> None:
    """Whose it is cannot be exchanged, nor can a seal be left out."""
    form, said, mark = Seal([NEW]).sealed(SESSION).split(".")
    content = json.loads(base64.urlsafe_b64decode(said + "=="))
    bobs = base64.urlsafe_b64encode(json.dumps({**content, "principal": "client:bob"}).encode()).decode().rstrip("=")
    for forged in (f"{form}.{bobs}.{mark}", f"{form}.{bobs}.", f"{form}.{bobs}", f"v2.{said}.{mark}", f"{said}.{mark}"):
        assert opened(forged, principal="client:bob") is None
        assert opened(forged) is None


@given(st.text() | st.binary().map(lambda value: value.decode("latin-1")))
def test_whatever_a_client_sends_is_no_session(given_: str) -> None:
    """And no error: it is 404."""
    assert opened(given_) is None
    assert opened(f"v1.{given_}") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values | st.fixed_dictionaries({"clientInfo": json_values, "protocolVersion": json_values}))
def test_a_session_begins_whatever_a_client_says_of_itself(params: Any) -> None:
    """The SDK refuses what is no `initialize`; here nothing breaks."""
    session = began("owner", params, NOW)

    assert isinstance(session, Session)
    assert len(session.client) <= NAME_CHARS
    assert session.version.startswith("20")


def test_calls_are_told_apart_by_number_and_text() -> None:
    """1 and "1" are two ids in JSON-RPC; and one of any length makes a short key."""
    calls: list[int | str] = [1, "1", 0, "", -1, 10**40, "x" * 70_000, "\ud800"]

    assert len({call_of(call) for call in calls}) == len(calls)
    assert {len(call_of(call)) for call in calls} == {32}
