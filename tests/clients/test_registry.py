"""`server.json`, by which the MCP registry knows the hub: by its own schema, which is in skillsaw's wheel."""

from __future__ import annotations

import json
import subprocess
import tomllib
from typing import Any

import jsonschema
import pytest

from llm_mcp_hub.settings import SECRETS, Settings
from tests.clients.programs import PYTHON
from tests.harness import DEADLINE_S, ROOT

SCHEMA = """
import importlib.resources, sys
folder = importlib.resources.files("skillsaw.schemas.mcp_registry") / ("v" + sys.argv[1].replace("-", "_"))
print((folder / "server.schema.json").read_text("utf-8"))
"""


@pytest.fixture(scope="module")
def server() -> dict[str, Any]:
    return json.loads((ROOT / "server.json").read_text("utf-8"))


def test_it_has_the_form_that_the_registry_wants(server: dict[str, Any]) -> None:
    """Of the version that it names."""
    version = server["$schema"].split("/")[-2]
    told = subprocess.run(
        [str(PYTHON), "-c", SCHEMA, version], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    schema = json.loads(told.stdout)

    assert schema["$id"] == server["$schema"]
    jsonschema.validate(server, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**server, "name": "llm-mcp-hub"}, schema)


def test_it_says_what_the_package_says(server: dict[str, Any]) -> None:
    """Its name and version; and the README, which PyPI shows, has the mark by which the registry knows its owner."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (package,) = server["packages"]

    assert (server["version"], package["version"]) == (project["version"], project["version"])
    assert package["identifier"] == project["name"]
    assert f"mcp-name: {server['name']}\n" in (ROOT / "README.md").read_text("utf-8")


def test_the_variables_that_it_names_are_settings(server: dict[str, Any]) -> None:
    """And those are secrets that are."""
    variables = server["packages"][0]["environmentVariables"]

    assert variables
    for variable in variables:
        assert variable["name"].lower() in Settings.model_fields
        assert variable.get("isSecret", False) == (variable["name"] in SECRETS)
