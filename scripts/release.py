"""What a release says of itself, looked at before anything is built, and its notes.

    python scripts/release.py version              the version, as pyproject.toml has it
    python scripts/release.py check v1.2.3         exit code 1, and why, where this tree is not that release
    python scripts/release.py notes v1.2.3 IMAGE   its notes: the section of CHANGELOG.md, and the image by its digest

Needs nothing but Python: it is the first step of .github/workflows/release.yml.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = re.compile(r"[a-z0-9./_-]+@sha256:[0-9a-f]{64}")


def version(root: Path = ROOT) -> str:
    """Of the package."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def versions(root: Path = ROOT) -> dict[str, str]:
    """Each place that says which version this is, beside pyproject.toml, and what it says."""
    server = json.loads((root / "server.json").read_text("utf-8"))
    image = re.search(r"^ARG VERSION=(\S+)$", (root / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return {
        "server.json": str(server["version"]),
        **{f"server.json, {package['registryType']}": str(package["version"]) for package in server["packages"]},
        "Dockerfile": "" if image is None else image[1],
    }


def section(name: str, root: Path = ROOT) -> str:
    """What CHANGELOG.md has below the heading of that version; empty where it has none."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    found = re.search(
        rf"^## \[{re.escape(name)}\] - \d{{4}}-\d\d-\d\d$\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return "" if found is None else found[1].strip()


def disagreements(tag: str, root: Path = ROOT) -> list[str]:
    """Why this tree is not the release of that name, a sentence each; none where it is."""
    ours = version(root)
    told = [] if tag == f"v{ours}" else [f"The tag is {tag}, pyproject.toml says {ours}: it has to be v{ours}."]
    told += [
        f"{place} says {theirs}, pyproject.toml {ours}." for place, theirs in versions(root).items() if theirs != ours
    ]
    if not section(ours, root):
        told.append(f"CHANGELOG.md has nothing below a heading of the form: ## [{ours}] - YYYY-MM-DD")
    return told


def notes(tag: str, image: str, root: Path = ROOT) -> str:
    """What the release's page says. Raises ValueError for an image that is not named by its digest."""
    if IMAGE.fullmatch(image) is None:
        raise ValueError(f"{image} is no image by its digest")
    name = tag.removeprefix("v")
    return f"""{section(name, root)}

## This version

- `uv tool install llm-mcp-hub=={name}`
- `docker pull {image}`: both CLIs, for amd64 and arm64, with provenance and a list of what is in it:
  `docker buildx imagetools inspect {image} --format '{{{{json .Provenance}}}}'`, and `.SBOM`
"""


def main() -> int:
    """Do what was asked. Returns the exit code."""
    parser = argparse.ArgumentParser(description="What a release says of itself.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version")
    commands.add_parser("check").add_argument("tag")
    wanted = commands.add_parser("notes")
    wanted.add_argument("tag")
    wanted.add_argument("image")
    given = parser.parse_args()
    if given.command == "version":
        print(version())
    elif given.command == "notes":
        print(notes(given.tag, given.image), end="")
    elif told := disagreements(given.tag):
        print(*told, sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
