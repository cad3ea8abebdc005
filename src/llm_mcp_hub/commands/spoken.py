"""Errors as a shell is told them: the tools' names for things are no words there. Pure; programs get them unchanged."""

from __future__ import annotations

import re

_WORDS = [
    (r"Call ask_result without ask_id: it lists your last asks\.", "Run: llm-mcp-hub asks"),
    (r"Wait for that answer \(ask_result lists it\)", "Wait for that answer (llm-mcp-hub asks lists it)"),
    (r"Leave conversation_id out", "Leave --conversation out"),
    (r"Or use ask_(\w+)(?: or ask_\w+)*", r"Or ask the other: llm-mcp-hub ask \1"),
    (r'attachments: "stdin"', "stdin"),
    (r"git_diff: no file root is in a git work tree\.", "--git-diff: this folder is in no git repository."),
    (
        r"Set HUB_FILE_ROOTS to the repository, or send the output of git diff.*",
        "Go into the repository, and ask there.",
    ),
    (r"Send the output of git diff in `attachments`\.", 'Pipe it in: git diff | llm-mcp-hub ask claude "…"'),
    (r"(?:S|s)end (?:the|its) (content|output) in `attachments`", r"pipe its \1 in"),
    (r"Leave git_diff out, or name another `base` or other `paths`\.", "Name another base: --git-diff=BASE"),
    (
        r"Name fewer files, or fewer `paths` of the diff\.",
        "Put less before it: fewer files, less piped, a nearer --git-diff=BASE",
    ),
    (r"Name fewer files in `paths`, or a nearer `base`\.", "Name a nearer base: --git-diff=BASE"),
    (r"a relative one starts at the first file root", "a relative one starts in the folder you are in"),
    (r"^model is no model name", "--model is no model name"),
    (r"\bLeave effort out", "Leave --effort out"),
    (r"`base`", "BASE of --git-diff"),
    (r"\bgit_diff\b", "--git-diff"),
    (r"\btimeout_s\b", "--timeout"),
    (r"\bconversation_id\b", "--conversation"),
]


def spoken(text: str) -> str:
    """A sentence in the words of the commands."""
    for tools, shell in _WORDS:
        text = re.sub(tools, shell, text)
    return text
