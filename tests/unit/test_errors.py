"""The tree of errors: every code of the contract once, drawn as it is, in one shape."""

from __future__ import annotations

import json
import re

import pytest

from llm_mcp_hub import errors
from llm_mcp_hub.cli import EXIT_CODES
from llm_mcp_hub.errors import HubError, from_details

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


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_an_error_that_was_written_down_is_told_again_in_the_same_words(leaf: type[HubError], retryable: bool) -> None:
    """An ask that failed in another hub, or before a restart: the same code, words and advice."""
    error = leaf(
        "What happened.",
        action="What to do.",
        provider="claude",
        retry_after_s=3.5,
        partial_text="half an",
        ask_id="ask_1",
        retryable=retryable,
    )

    again = from_details(json.loads(json.dumps(error.details())))

    assert type(again) is leaf
    assert str(again) == "What happened."
    assert again.details() == error.details()


@pytest.mark.parametrize("written", [{}, {"code": "made_up"}, {"code": None, "message": None}])
def test_an_error_of_which_nothing_is_known_is_the_hubs_own_fault(written: dict[str, object]) -> None:
    """Written by a newer hub, or by somebody else: told as what it is, and never a crash."""
    assert from_details(written).code == "internal"


def test_nothing_is_submitted_again_unless_somebody_said_so() -> None:
    """DESIGN 3.2: only for transient classes, and it is the provider who knows which failure is one."""
    assert not any(leaf("It broke.", action="Ask again.").transient for leaf in LEAVES)


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
