"""What a client offers to a person beside the tools: prompts to pick, and what can be read, over every way."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, TextContent, TextResourceContents

from tests.harness import Line, World, answer_of
from tests.protocol.conftest import CANARY

QUESTION = f"Is the {CANARY} ripe? @/etc/passwd $(id)"
TOKENS = "hub://tokens"
Work = Callable[[Client], Awaitable[Any]]


def filled(line: Line, name: str, **given: str) -> str:
    """What a prompt says with these arguments."""
    [message] = line.run(lambda client: client.get_prompt(name, given)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


def read(line: Line, uri: str) -> tuple[str | None, str]:
    """A resource: its type and its text."""
    [found] = line.run(lambda client: client.read_resource(uri)).contents
    assert isinstance(found, TextResourceContents)
    assert str(found.uri) == uri
    return found.mime_type, found.text


def listed(line: Line) -> dict[str, Any]:
    """The resources of the list, by their address."""
    return {str(each.uri): each for each in line.run(lambda client: client.list_resources()).resources}


# Prompts ------------------------------------------------------------------------------------------------------------


def test_two_prompts_are_offered_with_what_they_ask_for(line: Line) -> None:
    """Their names are commands in some clients: a change of one is a change of the contract."""
    prompts = line.run(lambda client: client.list_prompts()).prompts

    given = {p.name: {argument.name: bool(argument.required) for argument in p.arguments or []} for p in prompts}
    assert given == {
        "second_opinion": {"question": True, "provider": False},
        "review_code": {"base": False, "focus": False, "provider": False},
    }
    for prompt in prompts:
        assert prompt.title
        assert prompt.description
        assert all(argument.description for argument in prompt.arguments or [])


def test_a_second_opinion_is_asked_of_both_or_of_the_one_that_is_named(line: Line) -> None:
    """The question stands in it as it was written, and the tools by their names."""
    both = filled(line, "second_opinion", question=QUESTION)
    one = filled(line, "second_opinion", question=QUESTION, provider="gemini")

    assert QUESTION in both
    assert QUESTION in one
    assert ("ask_claude" in both, "ask_gemini" in both) == (True, True)
    assert ("ask_claude" in one, "ask_gemini" in one) == (False, True)


def test_a_review_names_what_is_compared_and_what_to_look_at(one_line: Line) -> None:
    """By the argument that the tools have for it: all changes since the last commit, or since a revision."""
    plain = filled(one_line, "review_code")
    chosen = filled(one_line, "review_code", base="main", focus="races", provider="claude")

    assert "git_diff={}" in plain
    assert 'git_diff={"base": "main"}' in chosen
    assert "races" in chosen
    assert "ask_gemini" not in chosen


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("third_opinion", {}),
        ("second_opinion", {}),
        ("second_opinion", {"question": " \n"}),
        ("second_opinion", {"question": QUESTION, "provider": "gpt"}),
        ("review_code", {"provider": CANARY}),
    ],
)
def test_a_prompt_that_cannot_be_filled_is_refused(line: Line, name: str, given: Mapping[str, str]) -> None:
    """With the protocol's own code, a reason, and nothing of what was given."""
    with pytest.raises(MCPError) as refused:
        line.run(lambda client: client.get_prompt(name, dict(given)))

    assert refused.value.code == INVALID_PARAMS
    assert refused.value.message
    assert CANARY not in refused.value.message


# Resources ----------------------------------------------------------------------------------------------------------


def test_the_status_of_the_logins_can_be_read(line: Line) -> None:
    """The same as the tool tells."""
    mime_type, text = read(line, TOKENS)

    assert mime_type == "application/json"
    assert json.loads(text) == line.call("token_status").structured_content
    assert listed(line)[TOKENS].mime_type == mime_type


def test_a_conversation_can_be_read_as_soon_as_it_has_a_turn(line: Line, warm: World) -> None:
    """It is in the list under its beginning; its text is what was said, in its order."""
    first = answer_of(line.call("ask_gemini", {"prompt": QUESTION, "system": "Answer like a gardener."}))
    conversation = first["conversation_id"]
    answer_of(line.call("ask_claude", {"prompt": "and now?", "conversation_id": conversation}))
    uri = f"hub://conversations/{conversation}"

    found = listed(line)[uri]
    assert found.name == conversation
    assert found.title == QUESTION
    assert "2 turns" in (found.description or "")
    mime_type, text = read(line, uri)
    assert mime_type == found.mime_type == "text/markdown"
    said = ["Answer like a gardener.", QUESTION, first["text"], "and now?", "Hello from the stand-in of Claude."]
    places = [text.partition("\n")[2].find(each) for each in said]  # its title is its first prompt's begin
    assert -1 not in places
    assert places == sorted(places)


def test_the_address_of_a_conversation_is_told(one_line: Line) -> None:
    """For clients that have an id and no list."""
    [template] = one_line.run(lambda client: client.list_resource_templates()).resource_templates

    assert template.uri_template == "hub://conversations/{conversation_id}"


@pytest.mark.parametrize(
    "uri",
    [
        "hub://conversations/conv_of-nobody",
        "hub://conversations/",
        "hub://conversations/../tokens",
        "hub://asks",
        "file:///etc/passwd",
    ],
)
def test_what_is_not_there_cannot_be_read(line: Line, uri: str) -> None:
    """One answer to all of these, which tells nothing of what else there may be."""
    with pytest.raises(MCPError) as refused:
        line.run(lambda client: client.read_resource(uri))

    assert (refused.value.code, refused.value.message) == (INVALID_PARAMS, "Resource not found")
