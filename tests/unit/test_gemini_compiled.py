"""Where a child finds what Node.js has compiled of the CLI before, and where it must not look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_mcp_hub.providers.gemini_child import lay_out
from llm_mcp_hub.providers.gemini_compiled import FOLDER, NODE_OPTIONS, kept_by
from tests.harness import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation's, made by whoever has installed it."""
    folder = tmp_path / "installed" / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    return folder


@pytest.fixture
def cli(tmp_path: Path, folder: Path) -> Path:
    """As npm leaves it: a link to the program of a package."""
    modules = folder.parents[1]
    program = modules / "@google" / "gemini-cli" / "bundle" / "gemini.js"
    program.parent.mkdir(parents=True)
    program.touch()
    link = modules / ".bin" / "gemini"
    link.parent.mkdir()
    link.symlink_to(program)
    return link


def test_it_stands_beside_the_package_however_the_cli_is_called(tmp_path: Path, folder: Path, cli: Path) -> None:
    """By npm's link, by another link to that one, or by the hub's own script."""
    link = tmp_path / "gemini"
    link.symlink_to(cli)
    own = folder.parents[2] / "gemini"
    own.touch()

    assert kept_by(cli) == kept_by(link) == kept_by(own) == {"NODE_COMPILE_CACHE": str(folder)}


def test_a_child_has_it_and_the_options_that_it_counts_for(tmp_path: Path, folder: Path, cli: Path) -> None:
    """Compiled under other options it would be of no use."""
    home = tmp_path / "home"
    home.mkdir()
    around = {"PATH": os.environ["PATH"], "NODE_COMPILE_CACHE": "/another/one"}
    environment = lay_out(home, cli, around=around, login=None, project=None, upstream=None)

    assert environment["NODE_COMPILE_CACHE"] == str(folder)
    assert environment["NODE_OPTIONS"] == NODE_OPTIONS
    for file in ("Makefile", "Dockerfile"):
        text = (ROOT / file).read_text("utf-8")
        assert f"NODE_OPTIONS={NODE_OPTIONS} " in text, file
        assert FOLDER.as_posix() in text, file


@pytest.mark.parametrize("what", ["nothing", "a file", "open to others", "another's"])
def test_what_is_not_the_installers_own_is_not_used(folder: Path, cli: Path, what: str) -> None:
    """What is in it runs as a part of the CLI."""
    if what == "open to others":
        folder.chmod(0o777)
    elif what == "another's":
        os.chown(folder, 65534, 65534)
    else:
        folder.rmdir()
        if what == "a file":
            folder.touch()

    assert kept_by(cli) == {}
