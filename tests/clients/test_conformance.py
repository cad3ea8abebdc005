"""The official conformance suite against a hub that serves HTTP, in both eras; and its fixtures behind the hub's door.

Which scenarios can say something of the hub, and why the others cannot, stands in `conformance/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from tests.clients.bearer import WithToken
from tests.clients.conftest import Served
from tests.clients.programs import HERE, PACKAGES, around, node, run
from tests.harness import HttpHub, World, run_command

ERAS: Mapping[str, tuple[str, list[str]]] = {
    "2025-11-25": ("@modelcontextprotocol/conformance", ["--suite", "all"]),
    "2026-07-28": ("conformance-next", ["--requirements", "2026-07-28"]),
}
"""The suite that knows an era, as npm names it here, and which of its scenarios."""
ENTRY = re.compile(r"^  - ([\w-]+)(?::[\w-]+)?(?:  # (.+))?$", re.MULTILINE)


def baseline(name: str) -> Path:
    return HERE / "conformance" / f"{name}.yml"


def lists(file: Path) -> dict[str, dict[str, str]]:
    """A baseline's lists, each as its scenarios with what is said of them."""
    found: dict[str, dict[str, str]] = {}
    for part in re.split(r"^(?=\w+:$)", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition(":\n")
        found[name] = {scenario: reason or "" for scenario, reason in ENTRY.findall(rest)}
    return found


def suite(package: str, home: Path, url: str, *words: str) -> tuple[int, str, dict[str, list[str]]]:
    """Run it. Returns its exit code, what it printed, and how the checks of each scenario ended."""
    program = PACKAGES / package / "dist" / "index.js"
    ended = run([node(), str(program), "server", "--url", url, *words, "-o", "out"], around(home))
    checks: dict[str, list[str]] = {}
    for file in sorted((home / "out").glob("server-*/checks.json")):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        checks[scenario] = [f"{check['status']} {check['id']}" for check in json.loads(file.read_text("utf-8"))]
    return ended.returncode, ended.stdout + ended.stderr, checks


@pytest.fixture(params=["owner", "with a token"])
def url(request: pytest.FixtureRequest, hubs: Served) -> Generator[str]:
    """Of a hub as people run it: without tokens for this machine alone, and with them."""
    if request.param == "owner":
        yield hubs.url
    else:
        with WithToken(hubs.guarded.removesuffix("/mcp"), hubs.token) as proxy:
            yield f"{proxy.url}/mcp"


@pytest.mark.parametrize("era", ERAS)
def test_every_scenario_that_applies_to_the_hub_passes(era: str, url: str, home: Path) -> None:
    """What else fails wants something built in for the suite's sake, and is listed with it; so is a false pass."""
    package, words = ERAS[era]

    code, said, checks = suite(package, home, url, *words, "--expected-failures", str(baseline(era)))

    known = lists(baseline(era))
    assert code == 0, said
    assert set(checks) == {scenario for listed in known.values() for scenario in listed}
    for scenario in (*known["applies"], *known["passes_without_its_fixture"]):
        assert not [check for check in checks[scenario] if check.startswith(("FAILURE", "WARNING"))], scenario
    for scenario in known["applies"]:
        assert any(check.startswith("SUCCESS") for check in checks[scenario]), scenario


@pytest.fixture(scope="module")
def fixtures(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The suite's own tools, prompts and resources behind the hub's door, which wants a token."""
    state = tmp_path_factory.mktemp("fixtures")
    world = World(served.world.home, served.world.claude, served.world.gemini, {"HUB_STATE_DIR": str(state)})
    token = run_command(world, "client", "add", "suite").stdout.decode().strip()
    hub = HttpHub(world.environment, command=(str(HERE / "fixture_server.py"), "serve"))
    try:
        with WithToken(hub.url, token) as proxy:
            yield f"{proxy.url}/mcp"
    finally:
        hub.stop()


@pytest.mark.parametrize("era", ERAS)
def test_with_its_fixtures_the_suite_passes_behind_the_hubs_door(era: str, fixtures: str, home: Path) -> None:
    """Calls, streams, progress, requests of the server to its client, sessions: all the ways through what is ours."""
    package, words = ERAS[era]
    exceptions = baseline(f"fixtures-{era}")

    code, said, checks = suite(package, home, fixtures, *words, "--expected-failures", str(exceptions))

    assert code == 0, said
    excused = {scenario for listed in lists(exceptions).values() for scenario in listed}
    of_the_hub = {scenario for listed in lists(baseline(era)).values() for scenario in listed}
    assert set(checks) == of_the_hub
    assert len(of_the_hub - excused) >= 25
    for scenario in of_the_hub - excused:
        ended = {check.split()[0] for check in checks[scenario]}
        assert "SUCCESS" in ended, scenario
        assert not ended & {"FAILURE", "WARNING"}, scenario


def test_sessions_of_the_older_era_live_and_end_as_specified(url: str, home: Path) -> None:
    """Which only the pre-release of the suite looks at."""
    code, said, checks = suite(
        "conformance-next", home, url, "--scenario", "server-session-lifecycle", "--spec-version", "2025-11-25"
    )

    assert code == 0, said
    assert [check.split()[0] for check in checks["server-session-lifecycle"]] == ["SUCCESS"] * 3


@pytest.mark.parametrize("file", sorted((HERE / "conformance").glob("*.yml")), ids=lambda file: file.stem)
def test_every_exception_has_a_reason(file: Path) -> None:
    """A scenario that fails or says nothing is not taken from the list without a word."""
    known = lists(file)

    assert known["server"]
    for name in set(known) - {"applies"}:
        assert [scenario for scenario, reason in known[name].items() if not reason] == []
