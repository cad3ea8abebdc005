"""The Google Cloud project that some licences hang on: what can be one's id. Pure."""

from __future__ import annotations

import re

from llm_mcp_hub.errors import Misconfigured

PROJECT_ACTION = "Set GEMINI_PROJECT to the id of the Google Cloud project that your Code Assist licence hangs on."

_ID = re.compile(r"[a-z0-9](?:[a-z0-9.:-]*[a-z0-9])?")
"""Characters of an id; a company's may begin with its domain (`example.com:my-project`)."""


def check_project(project: str | None, name: str = "GEMINI_PROJECT") -> None:
    """Raise Misconfigured for what can be no project's id; `name`: of the variable that holds it."""
    if project is not None and project.isdigit():
        raise numeric_project(name)
    if project is not None and not _ID.fullmatch(project):
        raise _no_id(
            f"{name} is no project's id: small letters, digits and hyphens between them, as in my-project-1234."
        )


def numeric_project(name: str = "GEMINI_PROJECT") -> Misconfigured:
    """What is told of a project that is a number."""
    return _no_id(f"{name} is a number; Google wants the project's id.")


def _no_id(what: str) -> Misconfigured:
    # As Google refuses it: no ask can be answered under this setting.
    return Misconfigured(what, action=PROJECT_ACTION, provider="gemini", shows="refused")
