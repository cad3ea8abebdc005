"""Prompts that a person picks in their client: how to use the ask tools well, said to the client's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mcp_types as types
from mcp.shared.exceptions import MCPError

from llm_mcp_hub.providers.base import Traits

SECOND_OPINION, REVIEW_CODE = "second_opinion", "review_code"


def listed(traits: Sequence[Traits]) -> list[types.Prompt]:
    """The prompts, for any set of providers; none without one."""
    if not traits:
        return []
    names = ", ".join(each.name for each in traits)
    who = types.PromptArgument(name="provider", description=f"Who is asked: {names}, or all of them if left out.")
    return [
        types.Prompt(
            name=SECOND_OPINION,
            title="Second opinion",
            description="Have another model answer the same question, and compare.",
            arguments=[
                types.PromptArgument(name="question", description="What it is about.", required=True),
                who,
            ],
        ),
        types.Prompt(
            name=REVIEW_CODE,
            title="Review of the changes",
            description="Have another model review the changes in this repository, and check what it found.",
            arguments=[
                types.PromptArgument(name="base", description="Revision to compare with; the last commit if left out."),
                types.PromptArgument(name="focus", description="What to look at above all."),
                who,
            ],
        ),
    ]


def filled(name: str, given: Mapping[str, str], traits: Sequence[Traits]) -> types.GetPromptResult:
    """One prompt with its arguments. Raises MCPError (-32602) for a name or an argument that is not there."""
    known = {each.name: f"ask_{each.name}" for each in traits}
    if not known:
        raise _wrong("there is no prompt of that name")
    provider = given.get("provider")
    if provider is not None and provider not in known:
        raise _wrong(f"provider is none of: {', '.join(known)}")
    tools = " and ".join([known[provider]] if provider else list(known.values()))
    if name == SECOND_OPINION:
        question = given.get("question", "").strip()
        if not question:
            raise _wrong("question is missing")
        text = (
            f"Get a second opinion with {tools} on this:\n\n{question}\n\n"
            "The other model sees nothing but what you send: put the whole question, all facts and any code it needs "
            "into the prompt, and do not hint at the answer you expect. Then say where you agree, where you differ and "
            "why, and what you now hold to be right. To follow up, pass the conversation_id that came with the answer."
        )
    elif name == REVIEW_CODE:
        base = f'git_diff={{"base": "{given["base"]}"}}' if given.get("base") else "git_diff={}"
        focus = f" Look above all at: {given['focus']}." if given.get("focus") else ""
        text = (
            f"Have the changes in this repository reviewed: call {tools} with {base}, and ask for faults that matter, "
            f"each with file, line and a reason.{focus} Tell it what the changes are for. Then check every finding "
            "against the code yourself, and report those that hold, the most serious first."
        )
    else:
        raise _wrong("there is no prompt of that name")
    message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.GetPromptResult(messages=[message])


def _wrong(what: str) -> MCPError:
    return MCPError(code=types.INVALID_PARAMS, message=what)
