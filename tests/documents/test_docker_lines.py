"""What the README says of `docker` fits the Dockerfile, compose.yaml and the hub's own words.

No engine is run here: `make image-check` builds and runs the image. This looks at the lines that a reader types: that
each option is one of Docker's, and each name, path, port, profile and word one that there is.
"""

from __future__ import annotations

import re
import shlex

import pytest

from tests.container.test_compose import SERVICES, defaults
from tests.documents.pages import blocks, spans
from tests.documents.test_blocks import README, typed
from tests.harness import ROOT, own_commands

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IMAGE = "llm-mcp-hub:latest"
VOLUME = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
PORT = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
LOGINS, PROJECT = "/root/.gemini", "/work"
"""Where the brief mounts the owner's logins, and where a client over stdio shows its project."""
RUN = {
    **dict.fromkeys(("-d", "-i", "-it", "--rm", "--no-healthcheck", "--read-only"), 0),
    **dict.fromkeys(("--name", "-p", "-v", "-e", "--env-file", "--user", "--stop-timeout"), 1),
    **dict.fromkeys(("--tmpfs", "--cap-drop", "--security-opt"), 1),
}
"""Options of `docker run` that the README uses, and how many words each takes; every other one is looked up first."""

LINES = [
    *(line for block in blocks(README) if block.language == "console" for line in typed(block)),
    *(span for span in spans(README.read_text("utf-8")) if "…" not in span),
]
COMMANDS = [
    part.strip()
    for line in LINES
    for part in re.sub(r"\\\n\s*", " ", line).partition("  #")[0].split("&&")
    if part.strip().startswith("docker ")
]


def words(command: str) -> list[str]:
    return shlex.split(command)[1:]


def is_word_of_the_hub(given: list[str]) -> bool:
    """Whether `llm-mcp-hub` has this command; none at all is the image's own."""
    return not given or given[0] in own_commands() | {"stdio"}


def test_there_are_such_lines() -> None:
    """The three ways: alone, by compose, over stdio."""
    kinds = {(words(command)[0], "stdio" in command) for command in COMMANDS}

    assert {("build", False), ("run", False), ("run", True), ("compose", False)} <= kinds


@pytest.mark.parametrize("command", [c for c in COMMANDS if words(c)[0] == "compose"])
def test_a_line_of_compose_names_what_compose_yaml_has(command: str) -> None:
    """Profiles and services, and words of the hub in them."""
    rest = words(command)[1:]
    while rest and rest[0] == "--profile":
        assert any(rest[1] in service.get("profiles", []) for service in SERVICES.values()), rest[1]
        rest = rest[2:]
    if not rest:
        return
    verb, *rest = rest
    assert verb in {"up", "run", "exec", "down", "logs", "pull", "build"}
    rest = [word for word in rest if word not in {"-d", "--build", "--rm", "-it", "--wait"}]
    if verb in {"run", "exec"}:
        service, *rest = rest
        assert service in SERVICES
        if verb == "run":
            assert is_word_of_the_hub(rest)
        elif rest[0] == "llm-mcp-hub":
            assert is_word_of_the_hub(rest[1:])
        else:
            assert rest == ["cat", f"{VOLUME[0]}/state/first-client.token"]
    else:
        assert set(rest) <= set(SERVICES)


@pytest.mark.parametrize("command", [c for c in COMMANDS if words(c)[0] == "run" and IMAGE in c])
def test_a_line_of_docker_run_fits_the_image(command: str) -> None:
    """Its port, its volume, the places where it looks, and a word that the hub knows after its name."""
    rest = words(command)[1:]
    options: list[str] = []
    while rest[0] != IMAGE:
        option, *rest = rest
        assert option in RUN, option
        given, rest = rest[: RUN[option]], rest[RUN[option] :]
        options += [option, *given]
        if option == "-p":
            assert re.fullmatch(rf"127\.0\.0\.1:\d+:{PORT[0]}", given[0])
        if option == "-v":
            source, target, *how = given[0].split(":")
            assert target in {*VOLUME, LOGINS, PROJECT}
            assert target in VOLUME or how == ["ro"], "what is the owner's is mounted for reading"
            assert (target in VOLUME) == (re.fullmatch(r"[a-z-]+", source) is not None)

    assert is_word_of_the_hub(rest[1:])
    if "-d" in options:  # else Docker would kill a hub that brings its asks to their end
        assert options[options.index("--stop-timeout") + 1] == SERVICES["llm-hub"]["stop_grace_period"].removesuffix(
            "s"
        )


def test_the_image_is_called_as_it_is_built() -> None:
    """One name in the README, in compose.yaml and in what builds it."""
    built = [words(command) for command in COMMANDS if words(command)[0] == "build"]

    assert built == [["build", "-t", IMAGE, "."]]
    assert defaults(SERVICES["llm-hub"]["image"]) == IMAGE
