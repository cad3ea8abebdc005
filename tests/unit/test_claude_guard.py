"""Who pays for Claude: the machine's managed settings, and the account that the handshake names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.errors import BillingBlocked, HubError, Misconfigured
from llm_mcp_hub.providers.claude_guard import (
    check_account,
    check_managed_settings,
    check_settings_in_force,
)
from tests.unit.strategies import any_json

SETTINGS = "managed-settings.json"
DROP_INS = "managed-settings.d"


@pytest.mark.parametrize(
    "content",
    {
        "an object": "{}",
        "permissions": '{"permissions": {"deny": ["Bash"]}, "cleanupPeriodDays": 20}',
        "deeper names": '{"permissions": {"env": {}, "apiKeyHelper": "x"}}',
    }.items(),
    ids=lambda item: item[0],
)
def test_managed_settings_that_cannot_pay_are_left_alone(tmp_path: Path, content: tuple[str, str]) -> None:
    """A company's permissions must not keep its people from asking."""
    (tmp_path / SETTINGS).write_text(content[1])

    check_managed_settings(tmp_path)


@pytest.mark.parametrize("folder", [None, Path("no-such-folder")])
def test_a_machine_without_managed_settings_is_fine(folder: Path | None) -> None:
    """Most machines have none; some platforms have no such place."""
    check_managed_settings(folder)


def text(content: str, name: str = SETTINGS) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode("latin-1"))

    return plant


PAID: dict[str, Callable[[Path], None]] = {
    "env": text('{"env": {"ANTHROPIC_API_KEY": "x"}}'),
    "an empty env": text('{"env": {}}'),
    "apiKeyHelper": text('{"apiKeyHelper": "/bin/helper"}'),
    "a helper that prints settings": text('{"policyHelper": {"command": "/bin/helper"}}'),
    "helpers that print settings": text('{"policyHelpers": []}'),
    "in a drop-in": text('{"apiKeyHelper": "/bin/helper"}', f"{DROP_INS}/10-company.json"),
    "in the last of two drop-ins": lambda folder: [
        text("{}", f"{DROP_INS}/10-a.json")(folder),
        text('{"env": {}}', f"{DROP_INS}/20-b.json")(folder),
    ][-1],
    "a list": text("[]"),
    "no JSON": text("{"),
    "empty": text(""),
    "no UTF-8": text('{"a": "\xff"}'),
    "deeper than anybody nests": text("[" * 100_000),
    "a folder in its place": lambda folder: (folder / SETTINGS).mkdir(),
    "a file in the drop-ins' place": text("x", DROP_INS),
}


@pytest.mark.parametrize("plant", PAID.values(), ids=PAID)
def test_managed_settings_that_could_pay_stop_every_ask(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """G1: with `env` or `apiKeyHelper` in them, or unreadable, nobody knows who would pay."""
    plant(tmp_path)

    with pytest.raises(BillingBlocked) as raised:
        check_managed_settings(tmp_path)

    assert str(tmp_path) in raised.value.message
    assert raised.value.action


@pytest.mark.parametrize(
    "plant",
    [
        text('{"hooks": {"Stop": []}}'),
        text('{"hooks": null}'),
        text('{"hooks": {}}', f"{DROP_INS}/10-company.json"),
        text("{}", "managed-mcp.json"),
    ],
)
def test_managed_programs_stop_every_ask(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """G2: a hook or an MCP server of the machine would run with each ask."""
    plant(tmp_path)

    with pytest.raises(Misconfigured) as raised:
        check_managed_settings(tmp_path)

    assert str(tmp_path) in raised.value.action


@pytest.mark.parametrize("name", ["env", "apiKeyHelper", "policyHelper", "hooks"])
def test_what_managed_settings_hold_is_never_told(tmp_path: Path, name: str) -> None:
    """The refusal names the file and the setting; the key in it is nobody's business."""
    (tmp_path / SETTINGS).write_text(json.dumps({name: {"ANTHROPIC_API_KEY": "sk-made-up"}}))

    with pytest.raises(HubError) as raised:
        check_managed_settings(tmp_path)

    assert name in raised.value.message
    assert "sk-made-up" not in raised.value.message + raised.value.action


# -- the settings in force, as the CLI tells them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"permissions": {"deny": ["Bash"]}}, {"model": "opus", "cleanupPeriodDays": 1}]
)
def test_settings_in_force_that_cannot_pay_are_left_alone(settings: dict[str, Any]) -> None:
    """An organisation's permissions must not keep its people from asking."""
    check_settings_in_force({"effective": settings, "served_settings_state": "none"})


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"effective": {"env": {"ANTHROPIC_API_KEY": "sk-made-up"}}}, BillingBlocked),
        ({"effective": {"env": {}}}, BillingBlocked),
        ({"effective": {"apiKeyHelper": "/bin/helper"}}, BillingBlocked),
        ({"effective": {"hooks": {"Stop": []}}}, Misconfigured),
        ({"effective": {}, "served_settings_state": "pending"}, BillingBlocked),
        ({"effective": None}, BillingBlocked),
        ({"effective": []}, BillingBlocked),
        ({}, BillingBlocked),
    ],
    ids=str,
)
def test_settings_in_force_that_could_pay_or_run_stop_the_ask(told: dict[str, Any], error: type[HubError]) -> None:
    """G1, G2: an organisation's settings come over the network, and no file of this machine shows them."""
    with pytest.raises(error) as raised:
        check_settings_in_force(told)

    assert raised.value.action
    assert "sk-made-up" not in str(raised.value)


@given(st.dictionaries(st.sampled_from(["effective", "served_settings_state", "x"]), any_json()))
def test_what_the_cli_tells_of_its_settings_is_judged_whatever_it_is(told: dict[str, Any]) -> None:
    """Fail closed: only an object without the known dangers passes."""
    effective = told.get("effective")
    try:
        check_settings_in_force(told)
    except HubError:
        return

    assert isinstance(effective, dict)
    assert not {"env", "apiKeyHelper", "hooks"} & set(cast("dict[str, Any]", effective))


# -- the account -------------------------------------------------------------------------------------------------------

GOOD = {"tokenSource": "CLAUDE_CODE_OAUTH_TOKEN", "apiProvider": "firstParty"}


def test_what_a_handshake_names_besides_is_never_told() -> None:
    """Three of its words say who would pay; the others may hold anything."""
    with pytest.raises(BillingBlocked) as raised:
        check_account({"tokenSource": "none", "secretField": "sk-made-up"})

    assert "sk-made-up" not in raised.value.message


def test_the_subscriptions_token_alone_is_accepted() -> None:
    """What the handshake names when a setup-token is used (measured)."""
    check_account(GOOD)


@pytest.mark.parametrize(
    "account",
    [
        {**GOOD, "apiKeySource": "ANTHROPIC_API_KEY"},
        {**GOOD, "apiKeySource": "apiKeyHelper"},
        {**GOOD, "apiKeySource": None},
        {**GOOD, "tokenSource": "ANTHROPIC_AUTH_TOKEN"},
        {**GOOD, "tokenSource": "none"},
        {**GOOD, "apiProvider": "bedrock"},
        {"apiProvider": "bedrock"},
        {"tokenSource": "CLAUDE_CODE_OAUTH_TOKEN"},
        {"subscriptionType": "Claude Max", "apiProvider": "firstParty"},
        {},
    ],
    ids=str,
)
def test_any_other_account_is_refused(account: dict[str, Any]) -> None:
    """Every row of the measured handshakes but the subscription's, and silence too."""
    with pytest.raises(BillingBlocked):
        check_account(account)


@given(st.dictionaries(st.sampled_from(["tokenSource", "apiKeySource", "apiProvider", "x"]), any_json()))
def test_nothing_else_gets_through(account: dict[str, Any]) -> None:
    """Fail closed: whatever the handshake holds, only exactly the good one passes."""
    with pytest.raises(BillingBlocked):
        check_account(account)
