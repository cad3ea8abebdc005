"""The pages that list something list all of it, as the code has it: settings with defaults and bounds, error codes."""

from __future__ import annotations

import re

import pytest

from llm_mcp_hub.children.environment import HARMLESS, NETWORK
from llm_mcp_hub.cli import EX_UNAVAILABLE, EXIT_CODES
from llm_mcp_hub.errors import CODES, HubError
from llm_mcp_hub.settings import SECRETS, Settings, load
from tests.documents.pages import sections, table
from tests.harness import ROOT

# -- settings ----------------------------------------------------------------------------------------------------------

SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text("utf-8")
ROWS = {row[0].strip("`"): row[1:] for row in table(SETTINGS_PAGE, "setting", "default", "values", "what it does")}


def test_every_setting_has_its_row_and_no_other_name_has() -> None:
    """A setting that is not listed is not found; one that is none does nothing in silence."""
    assert set(ROWS) == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", ROWS)
def test_a_settings_default_is_the_one_that_is_shown(name: str) -> None:
    """Given as it stands there, it changes nothing; where none is shown the hub has none."""
    shown = ROWS[name][0]
    without = load(around={})

    if shown == "none":
        assert getattr(without, name.lower()) in {None, ()}
    else:
        assert load(around={name: shown.strip("`")}) == without


@pytest.mark.parametrize("name", ROWS)
def test_a_settings_bounds_are_those_that_are_shown(name: str) -> None:
    """`1 to 3,600` is what the hub takes, and `over 0` excludes it."""
    values = ROWS[name][1]
    bounds = {
        sort: getattr(part, sort)
        for part in Settings.model_fields[name.lower()].metadata
        for sort in ("ge", "gt", "le", "min_length")
        if getattr(part, sort, None) is not None
    }
    told = re.search(r"(over )?([\d,]+) to ([\d,]+)", values)
    least = re.search(r"([\d,]+) characters or more", values)

    if told is not None:
        low, high = (float(told[part].replace(",", "")) for part in (2, 3))
        assert bounds == {"gt" if told[1] else "ge": low, "le": high}
    elif least is not None:
        assert bounds == {"min_length": int(least[1])}
    else:
        assert bounds == {}


def test_every_secret_and_nothing_else_may_be_given_as_a_file() -> None:
    """What is marked so is what the hub reads from `NAME_FILE`."""
    assert {name for name, row in ROWS.items() if "`NAME_FILE`" in row[1]} == set(SECRETS)


def test_every_unit_is_told() -> None:
    """A name that ends in seconds or days says so beside its bounds."""
    units = {"_S": " s", "_DAYS": " days"}
    bare = [n for n, row in ROWS.items() for end, unit in units.items() if n.endswith(end) and unit not in row[1]]

    assert bare == []


def test_what_is_handed_on_is_told() -> None:
    """The variables that reach the CLIs are named, all of them."""
    [handed] = [part.source for part in sections(SETTINGS_PAGE) if part.heading == "What is handed on"]

    assert set(re.findall(r"`([A-Z_]+)`", handed)) == {*NETWORK, *HARMLESS}


# -- error codes -------------------------------------------------------------------------------------------------------

TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
KINDS = {kind.code: kind for kind in HubError.__subclasses__()}


def test_every_error_code_is_listed_with_its_exit_code_and_whether_to_try_again() -> None:
    """As the shell ends with it, and as an error of that kind says by itself."""
    listed = {
        re.sub(r"\[`(\w+)`\]\(#\1\)", r"\1", row[0]): (row[2], row[3])
        for row in table(TROUBLES, "code", "whose matter it is", "again", "exit code")
    }

    assert listed == {
        code: ("yes" if KINDS[code].retryable else "no", str(EXIT_CODES.get(code, EX_UNAVAILABLE))) for code in CODES
    }


def test_every_error_code_has_a_section_that_says_what_to_do() -> None:
    """In the order of the list, and none is a heading alone."""
    listed = re.findall(r"^\| \[`(\w+)`\]", TROUBLES, re.MULTILINE)
    told = {part.heading.strip("`"): part.source for part in sections(TROUBLES) if part.heading.startswith("`")}

    assert list(told) == listed
    assert [code for code, source in told.items() if len(source) < 80] == []


def test_the_codes_in_the_readme_are_codes() -> None:
    """Its short list names nothing that the hub does not say."""
    rows = table((ROOT / "README.md").read_text("utf-8"), "code", "what it means", "what to do")

    assert rows
    assert {row[0].strip("`") for row in rows} <= set(CODES)
