"""What a child may see: an allow-list, and nothing that nobody thought of."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.children.environment import (
    HARMLESS,
    NETWORK,
    blanked,
    child_environment,
    network_settings,
    surroundings,
)

PAID = [
    *["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"],
    *["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_SIMPLE"],
    *["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "CLOUD_ML_REGION"],
    *["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GEMINI_BASE_URL", "CLOUD_SHELL"],
    *["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_ACCESS_TOKEN", "OPENAI_API_KEY"],
    *["NODE_OPTIONS", "LD_PRELOAD", "BASH_ENV", "ENV", "PYTHONPATH", "BUN_INSPECT", "ALL_PROXY", "all_proxy"],
    *["HOME", "TMPDIR", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "GEMINI_CLI_HOME", "BROWSER", "DISPLAY", "SHELL"],
    *["CLAUDE_CODE_OAUTH_TOKEN", "HUB_GEMINI_COMMAND", "REDIS_URL"],
]

NAMES = st.one_of(
    st.sampled_from([*HARMLESS, *NETWORK, *(name.lower() for name in NETWORK), *PAID]),
    st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=12),
)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SURROUNDINGS = st.dictionaries(NAMES, VALUES, max_size=12)


@pytest.mark.parametrize("name", PAID)
def test_what_could_pay_redirect_or_configure_stays_outside(name: str) -> None:
    """G1, G8: known bad names are left out like every unknown one."""
    assert name not in child_environment({name: "x", "PATH": "/bin"}, {})


def test_a_child_gets_what_any_program_needs() -> None:
    """Without PATH no script finds node; without LANG text becomes question marks."""
    around = {"PATH": "/bin", "LANG": "C.UTF-8", "TZ": "Asia/Seoul", "LC_ALL": ""}

    assert child_environment(around, {"HOME": "/private"}) == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "TZ": "Asia/Seoul",
        "HOME": "/private",
    }


def test_a_child_has_a_path_in_any_case() -> None:
    """A hub that a service manager starts with an empty environment must still find its programs."""
    assert child_environment({}, {}) == {"PATH": os.defpath}


@pytest.mark.parametrize(
    ("path", "kept"),
    {
        "/usr/bin:/bin": "/usr/bin:/bin",
        ".:/bin": "/bin",
        "node_modules/.bin:/bin:": "/bin",
        "::/bin": "/bin",
        "~/bin:/bin": "/bin",
        ".": os.defpath,
        "": os.defpath,
    }.items(),
)
def test_programs_are_not_looked_for_in_the_working_folder(path: str, kept: str) -> None:
    """G8: a cloned repository must not bring the programs that the hub starts inside it."""
    assert child_environment({"PATH": path}, {})["PATH"] == kept


@pytest.mark.parametrize("name", NETWORK)
def test_the_way_out_of_the_network_is_handed_on(name: str) -> None:
    """In both spellings, under the upper-case name; upper case wins."""
    assert network_settings({name.lower(): "low"}) == {name: "low"}
    assert network_settings({name: "up", name.lower(): "low"}) == {name: "up"}
    assert network_settings({name: "", name.lower(): "low"}) == {name: "low"}
    assert network_settings({name: ""}) == {}


def test_the_surroundings_are_a_copy() -> None:
    """Whoever changes them changes nothing of this process."""
    surroundings()["HUB_MADE_UP"] = "x"

    assert "HUB_MADE_UP" not in os.environ


@given(SURROUNDINGS, SURROUNDINGS)
def test_a_child_sees_allowed_names_and_its_own_only(around: dict[str, str], extra: dict[str, str]) -> None:
    """Whatever is around: every other name is missing, and what the provider gives wins."""
    environment = child_environment(around, extra)

    assert set(environment) <= {*HARMLESS, *NETWORK, *extra}
    assert {name: environment[name] for name in extra} == extra
    for name in set(environment) - set(extra) - {"PATH"}:
        assert environment[name] in {around.get(name), around.get(name.lower())}


@given(SURROUNDINGS, SURROUNDINGS)
def test_blanking_hides_every_other_name(around: dict[str, str], environment: dict[str, str]) -> None:
    """For a parent that merges over `os.environ`: merged, nothing of ours is left but what was given."""
    merged = {**around, **blanked(around, environment)}

    assert {name: value for name, value in merged.items() if value} == {n: v for n, v in environment.items() if v}
