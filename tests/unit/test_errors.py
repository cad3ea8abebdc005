"""The tree of errors: every code of the contract once, drawn as it is, in one shape."""

from __future__ import annotations

import json
import re

import pytest

from llm_mcp_hub import errors
from llm_mcp_hub.cli import EXIT_CODES
from llm_mcp_hub.errors import HubError

CODES = [
    "auth_missing",
    "auth_expired",
    "auth_rejected",
    "permission_denied",
    "account_ineligible",
    "quota_exhausted",
    "rate_limited",
    "model_unavailable",
    "invalid_request",
    "refused",
    "timeout",
    "upstream_error",
    "cli_missing",
    "billing_blocked",
    "busy",
    "cancelled",
    "not_found",
    "misconfigured",
    "store_unavailable",
    "internal",
]
"""DESIGN 3.2, in its order."""

LEAVES: list[type[HubError]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, HubError) and value is not HubError
]


def test_every_code_of_the_contract_is_one_class() -> None:
    """None is missing, none is there twice, none is new."""
    assert sorted(leaf.code for leaf in LEAVES) == sorted(CODES)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each line `Class  code` of the drawing is a class with that code, and each class is drawn."""
    drawn = dict(re.findall(r"[├└]── ([A-Z]\w+)\s+([a-z_]+)", errors.__doc__ or ""))

    assert drawn == {leaf.__name__: leaf.code for leaf in LEAVES}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_a_class_says_what_it_means(leaf: type[HubError]) -> None:
    """The docstring is what a reader of the code sees of an error; one sentence."""
    assert leaf.__doc__
    assert leaf.__doc__ != HubError.__doc__
    assert leaf.__doc__.strip().endswith(".")


RETRYABLE = {"busy", "quota_exhausted", "rate_limited", "timeout", "upstream_error", "store_unavailable"}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_only_what_time_can_mend_is_retryable(leaf: type[HubError]) -> None:
    """A program that repeats a refused login locks an account; one that never repeats a busy hub is useless."""
    assert leaf.retryable is (leaf.code in RETRYABLE)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_details_have_the_shape_of_the_contract(leaf: type[HubError]) -> None:
    """DESIGN 3.2: `_meta["llm-mcp-hub/error"]`, as plain JSON."""
    error = leaf(
        "What happened.",
        action="What to do.",
        provider="claude",
        retry_after_s=3.5,
        partial_text="half an",
        ask_id="ask_1",
    )

    assert json.loads(json.dumps(error.details())) == {
        "code": leaf.code,
        "message": "What happened.",
        "action": "What to do.",
        "retryable": leaf.retryable,
        "retry_after_s": 3.5,
        "provider": "claude",
        "ask_id": "ask_1",
        "partial_text": "half an",
    }


def test_what_is_not_known_is_null() -> None:
    """Every name is there all the same: a program need not ask whether it is."""
    details = errors.Internal("It broke.", action="See the log.").details()

    unknown = {name for name, value in details.items() if value is None}
    assert unknown == {"retry_after_s", "provider", "partial_text", "ask_id"}


def test_an_errors_text_is_its_message_alone() -> None:
    """Text that had arrived is never part of what a log or a traceback prints."""
    error = errors.Timeout("Too late.", action="Again.", partial_text="the owner's own words")

    assert str(error) == "Too late."
    assert "own words" not in repr(error)


def test_every_exit_code_belongs_to_an_error() -> None:
    """A code that no error has is a misspelt row of the table."""
    assert set(EXIT_CODES) <= set(CODES)
