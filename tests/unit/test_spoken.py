"""What a shell is told of an error that was written for tools."""

from __future__ import annotations

import re

import pytest

from llm_mcp_hub.commands.spoken import spoken
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.endings import told
from llm_mcp_hub.errors import AuthRejected
from llm_mcp_hub.material import git, reading, repository

OF_TOOLS = re.compile(r"attachments|ask_|git_diff|timeout_s|conversation_id|`base`|`paths`|first file root")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Call ask_result without ask_id: it lists your last asks.", "llm-mcp-hub asks"),
        ("Wait for that answer (ask_result lists it), or ask without conversation_id.", "without --conversation"),
        ("Leave conversation_id out to begin a new one; `llm-mcp-hub conversations` lists yours.", "--conversation"),
        ("Send the output of git diff in `attachments`.", "git diff | llm-mcp-hub ask"),
        (repository.OUTSIDE, "Go into the repository"),
        (git.LOOK, "Or pipe its output in."),
        (git.FEWER, "--git-diff=BASE"),
        ("Leave git_diff out, or name another `base` or other `paths`.", "--git-diff=BASE"),
        (reading.OUTSIDE[1], "pipe its content in"),
        ("Check the path; a relative one starts at the first file root.", "in the folder you are in"),
        ("timeout_s is not between 1 and 3600.", "--timeout is not"),
        ("Ask again with a larger timeout_s.", "a larger --timeout."),
        ('attachments: "stdin" is no text, image or PDF by its content.', "stdin is no text"),
    ],
)
def test_a_next_step_is_one_for_a_shell(text: str, part: str) -> None:
    """Nobody can call a tool there."""
    assert part in spoken(text)
    assert OF_TOOLS.search(spoken(text)) is None


def test_the_other_provider_is_a_command() -> None:
    """Whose login works is the way out that needs nobody."""
    ask = Ask("ask_1", "claude", "Who?", "sonnet", None, 60, "owner", "")

    action = spoken(told(AuthRejected("No.", action="Log in."), ask, None, ["gemini"]).action)

    assert action == "Log in. Or ask the other: llm-mcp-hub ask gemini."
