"""The package as its users get it: installed as a tool, away from the checkout, in an empty home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.harness import DEADLINE_S, ROOT, World
from tests.protocol import wheels


@dataclass(frozen=True)
class Package:
    """What is built of the sources, and what it needs."""

    wheel: Path
    sdist: Path
    libraries: Path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Built once."""
    folder = tmp_path_factory.mktemp("package")
    wheel, sdist = wheels.build("wheel", ROOT, folder), wheels.build("sdist", ROOT, folder)
    return Package(wheel, sdist, wheels.stubs(folder / "libraries"))


def run(words: list[str | Path], environment: dict[str, str]) -> str:
    """What it says; it must end well."""
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_uv(package: Package, home: Path) -> Path:
    around = {"PATH": os.defpath, "HOME": str(home), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    way = ["--no-index", "--find-links", package.libraries, "--python", sys.executable]
    run([Path(sys.executable).with_name("uv"), "tool", "install", *way, package.wheel], around)
    return home / ".local" / "bin"


def by_pipx(package: Package, home: Path) -> Path:
    around = {
        "PATH": os.defpath,
        "HOME": str(home),
        "PIPX_HOME": str(home / "pipx"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    way = ["--python", sys.executable, "--pip-args", f"--no-index --find-links {package.libraries}"]
    run([sys.executable, "-m", "pipx", "install", *way, package.wheel], around)
    return home / ".local" / "bin"


def by_pip(package: Package, home: Path) -> Path:
    around = {"PATH": os.defpath, "HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run([sys.executable, "-m", "venv", home / "venv"], around)
    way = ["--no-index", "--find-links", package.libraries]
    run([home / "venv" / "bin" / "pip", "install", "--quiet", *way, package.wheel], around)
    return home / "venv" / "bin"


@pytest.mark.parametrize("install", [by_uv, by_pipx, by_pip])
def test_an_installed_hub_works_without_its_sources(
    world: World, package: Package, install: Callable[[Package, Path], Path]
) -> None:
    """Its version, the doctor, and the tools as a real client lists them."""
    program = install(package, world.home) / "llm-mcp-hub"
    version = run([program, "--version"], world.environment)
    findings = json.loads(run([program, "doctor", "--json"], world.environment))["findings"]

    async def tools() -> set[str]:
        started = StdioServerParameters(command=str(program), env=world.environment, cwd=world.home)
        with anyio.fail_after(DEADLINE_S):
            async with Client(started) as client:
                return {tool.name for tool in (await client.list_tools()).tools}

    assert version == f"{wheels.VERSION}\n"
    assert "ok" in [each["state"] for each in findings if each["name"] == "claude-cli"]
    assert {"ask_claude", "ask_gemini"} <= anyio.run(tools)
    python = program.resolve().with_name("python")  # its first line does not name it where that would be too long
    where = "from llm_mcp_hub.providers import gemini_install as g; print(g.pin(), g.wanted())"
    pin, wanted = run([python, "-c", where], world.environment).split()
    assert ROOT not in Path(pin).parents
    pinned = json.loads((ROOT / "gemini-cli" / "package.json").read_text())
    assert wanted == pinned["dependencies"]["@google/gemini-cli"]
    world.wait_until_no_child()


def test_the_wheel_has_what_the_hub_reads_and_nothing_of_the_workshop(package: Package) -> None:
    """The pinned CLI's lock, byte for byte, and the mark of a typed package; no test, no script."""
    held = wheels.contents(package.wheel)

    for name in ("package.json", "package-lock.json"):
        assert held[f"llm_mcp_hub/gemini-cli/{name}"] == (ROOT / "gemini-cli" / name).read_bytes()
    assert "llm_mcp_hub/py.typed" in held
    assert {name.split("/")[0] for name in held} == {"llm_mcp_hub", f"llm_mcp_hub-{wheels.VERSION}.dist-info"}


def test_an_sdist_makes_the_same_wheel(package: Package, tmp_path: Path) -> None:
    """Whoever packages it for others starts there."""
    source = wheels.unpacked(package.sdist, tmp_path / "source")

    assert wheels.contents(wheels.build("wheel", source, tmp_path)) == wheels.contents(package.wheel)
