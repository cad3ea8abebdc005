"""The Dockerfile by what it promises, without building it; `make image-check` builds it."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from llm_mcp_hub import settings as settings_module
from tests.container.engine import read_env_file
from tests.harness import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@cache
def instructions() -> tuple[tuple[str, str], ...]:
    """Its instructions: a word, and what follows."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (" ".join(line.split()) for line in text.splitlines() if line.strip())
    return tuple((line.partition(" ")[0], line.partition(" ")[2]) for line in lines)


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE of each."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def environment() -> dict[str, str]:
    """What ENV sets."""
    return pairs(part for rest in of("ENV") for part in shlex.split(rest))


def test_its_bases_are_arguments_with_tags() -> None:
    """So that it can be built from other ones; digests are written in by who releases it."""
    arguments = pairs(of("ARG"))
    bases = [rest.partition(" ")[0] for rest in of("FROM")]

    assert set(bases) == {"${PYTHON_IMAGE}", "${NODE_IMAGE}"}
    for name in ("PYTHON_IMAGE", "NODE_IMAGE"):
        assert re.fullmatch(r"[a-z]+:[0-9][\w.-]+", arguments[name]), arguments[name]


def test_it_installs_what_is_locked() -> None:
    """Python by hashes, npm by its lock and without any package's script; nothing is fetched by other means."""
    commands = "\n".join(of("RUN"))

    assert commands.count("--require-hashes") == 2
    assert "npm ci" in commands
    assert "--ignore-scripts" in commands
    assert re.findall(r"\b(?:curl|wget|npm install|npx|git clone)\b", commands) == []
    assert of("ADD") == []


def test_what_the_package_is_built_of_is_there() -> None:
    """In the stage that builds it, at the place where pyproject.toml looks."""
    begins = instructions().index(("FROM", "${PYTHON_IMAGE} AS python"))
    ends = next(at for at, (_, rest) in enumerate(instructions()) if at > begins and "hatchling build" in rest)
    copied = [rest.split() for name, rest in instructions()[begins:ends] if name == "COPY"]
    there = {str(Path(where) / Path(source).name) for *sources, where in copied for source in sources}
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert {*wheel["force-include"], PYPROJECT["project"]["readme"], "LICENSE", "pyproject.toml"} <= there


def test_it_sets_no_secret() -> None:
    """Everybody who has the image has its ENV."""
    secret = {*settings_module.SECRETS, *(f"{name}_FILE" for name in settings_module.SECRETS)}

    assert set(environment()) & secret == set()
    assert [rest for rest in of("ARG") if re.search("TOKEN|KEY|SECRET|PASSWORD", rest)] == []


def test_the_hub_takes_its_settings(tmp_path: Path) -> None:
    """Each variable is one of the hub's or of any program's, and its value is usable."""
    around = environment() | {"HOME": str(tmp_path)}
    known = {name.upper() for name in settings_module.Settings.model_fields}
    settings = settings_module.load(around=around)

    assert set(environment()) - known == {"HOME", "LANG", "PYTHONUNBUFFERED"}
    assert settings.hub_first_client == "owner"
    assert not settings.loopback_only
    assert settings.hub_allowed_hosts == ("localhost:*", "127.0.0.1:*")
    assert of("EXPOSE") == [str(settings.hub_port)]
    assert settings.hub_state_dir.is_relative_to(of("VOLUME")[0])


def test_its_version_is_the_projects() -> None:
    """The label of an image that nobody gave another version."""
    assert f"VERSION={PYPROJECT['project']['version']}" in of("ARG")


def test_only_what_is_named_gets_into_the_build() -> None:
    """A folder that an owner works in has a .env and logins; whatever is new there stays out by itself."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = {source for rest in of("COPY") if "--from" not in rest for source in rest.split()[:-1]}

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert "**/.env*" in lines[-6:]


def test_the_example_of_settings_is_an_env_file_of_docker_too() -> None:
    """`docker run --env-file` takes values as they stand: quotes would be part of them, and so would comments."""
    text = (ROOT / ".env.example").read_text("utf-8")
    set_all = re.sub(r"^# ?(?=[A-Z][A-Z0-9_]*=)", "", text, flags=re.MULTILINE)
    values = read_env_file(set_all)

    assert {name.upper() for name in settings_module.Settings.model_fields} <= set(values)
    assert {name: value for name, value in values.items() if re.search(r"['\"\s]", value)} == {}
