"""The workflows of a forge, which have never run: by their schema, by who may do what, and by the scripts in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from scripts import release
from tests.harness import DEADLINE_S, ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VERSION = release.version()
IMAGE = "ghcr.io/llm-mcp-hub/llm-mcp-hub@sha256:" + 64 * "a"
RIGHTS = {
    "ci": {"contents": "read"},
    "dist": {"contents": "read"},
    "bases": {"contents": "read"},
    "image": {"contents": "read", "packages": "write"},
    "pypi": {"contents": "read", "id-token": "write"},
    "index": {"packages": "write"},
    "registry": {"contents": "read", "id-token": "write"},
    "page": {"contents": "write"},
}
"""What each job of a release may do, and no more."""


@cache
def workflow(name: str) -> dict[str, Any]:
    file = ROOT / ".github" / "workflows" / f"{name}.yml"
    return cast("dict[str, Any]", YAML(typ="safe").load(file))  # pyright: ignore[reportUnknownMemberType]


JOBS: dict[str, dict[str, Any]] = workflow("release")["jobs"]
EVERY_JOB = [*JOBS.values(), *workflow("ci")["jobs"].values()]


def steps() -> Iterator[dict[str, Any]]:
    for job in EVERY_JOB:
        yield from job.get("steps", ())


def before(job: str) -> set[str]:
    """Every job that has to have ended well before this one begins."""
    needs: str | list[str] = JOBS[job].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*map(before, direct))


def test_they_are_workflows() -> None:
    """By the schema that editors and the forge go by."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.github-workflows", *FILES],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name for file in FILES] == ["ci.yml", "release.yml"]


def test_each_job_has_the_rights_that_it_needs() -> None:
    """What a workflow says of none counts for each job that says nothing: so each says what it needs, and its time."""
    assert {name: job["permissions"] for name, job in JOBS.items()} == RIGHTS
    assert (workflow("release")["permissions"], workflow("ci")["permissions"]) == ({}, {"contents": "read"})
    assert workflow("ci")["jobs"]["run"]["permissions"] == {"contents": "read"}
    assert [job for job in EVERY_JOB if "uses" not in job and "timeout-minutes" not in job] == []
    assert JOBS["pypi"]["environment"] == "pypi", "which the publisher at PyPI names, and a person may have to approve"


def test_no_secret_is_stored() -> None:
    """Only the run's own token is used, by two programs, and no checkout leaves it where a script could find it."""
    texts = "".join(file.read_text() for file in FILES)
    given = [step["env"] for step in steps() if "env" in step] + [job["env"] for job in EVERY_JOB if "env" in job]
    tokens = {name for env in given for name, value in env.items() if "token" in str(value)}
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]

    assert "secrets" not in re.sub("#.*", "", texts)
    assert tokens == {"TOKEN", "GH_TOKEN"}
    assert set(re.findall(r"github\.token", texts)) == {"github.token"}
    assert [step["with"] for step in checkouts] == [{"persist-credentials": False}] * 7


def test_each_action_is_a_commit() -> None:
    """A tag can be moved. The same action is the same commit everywhere, with its version beside it for people."""
    used = re.findall(r"uses: (\S+?)@(.*)", "".join(file.read_text() for file in FILES))
    pinned = [(name, re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", at)) for name, at in used]

    assert {name for name, _ in used} == {
        f"actions/{name}" for name in ("checkout", "upload-artifact", "download-artifact")
    }
    assert [name for name, found in pinned if found is None] == []
    assert len(set(used)) == 3


def test_bash_takes_each_script_and_nothing_is_pasted_into_one() -> None:
    """An expression is put into a script as text, whatever it holds: it comes by a variable instead."""
    scripts = [step["run"] for step in steps() if "run" in step]
    bash = shutil.which("bash")
    assert bash is not None
    wrong = {
        script: done.stderr
        for script in scripts
        if (done := subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, check=False)).returncode
    }

    assert len(scripts) > 10
    assert wrong == {}
    assert [script for script in scripts if "${{" in script] == []
    assert {"shell": "bash"} == workflow("release")["defaults"]["run"] == workflow("ci")["defaults"]["run"]


def test_what_they_call_is_there() -> None:
    """The verbs of a contributor, and scripts of this tree."""
    text = "\n".join(step.get("run", "") for step in steps())
    makefile = (ROOT / "Makefile").read_text().replace("$(RELEASE)", ".tools/release")
    targets = set(re.findall(r"\bmake (?!nodejs)(\S+)", text))

    assert targets == {"dist", ".tools/release/ready"}
    assert {
        target for target in targets if re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) is None
    } == set()
    assert "bash .ci/run" in text
    assert set(re.findall(r"python3 (\S+\.py) (\w+)", text)) == {
        ("scripts/release.py", "check"),
        ("scripts/release.py", "notes"),
    }


def test_nothing_is_public_before_everything_is_tried() -> None:
    """What PyPI has once it has for ever: the tests, both packages and both images come before it, all else after."""
    assert workflow("release")["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert before("pypi") == {"ci", "dist", "bases", "image"}
    assert before("index") >= {"pypi", "image"}
    assert before("registry") >= {"pypi"}
    assert before("page") == set(JOBS) - {"page"}
    assert "push-by-digest=true" in str(JOBS["image"]), "an image without a name"
    assert "--tag" not in str(JOBS["image"])


def test_both_machines_have_an_image_that_says_what_it_is_made_of() -> None:
    """On their own kind of machine, on the same bases, with provenance and a list of contents."""
    script = " ".join(step.get("run", "") for step in JOBS["image"]["steps"])

    assert [each["machine"] for each in JOBS["image"]["strategy"]["matrix"]["include"]] == ["amd64", "arm64"]
    for words in ("--provenance mode=max", "--sbom true", "--build-arg PYTHON_IMAGE=", "--build-arg NODE_IMAGE="):
        assert words in script
    assert set(re.findall(r"--build-arg (\w+)=", script)) == set(
        re.findall(r"^ARG (\w+)=", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    )


# -- the versions, and the notes ---------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What says a version, as it stands here, with this version in the changelog."""
    for name in ("pyproject.toml", "server.json", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path)
    text = (ROOT / "CHANGELOG.md").read_text()
    dated = f"## [Unreleased]\n\n## [{VERSION}] - 2026-11-26\n"
    (tmp_path / "CHANGELOG.md").write_text(
        f"{text.replace('## [Unreleased]', dated)}\n## [0.0.1] - 2026-01-01\n- Old.\n"
    )
    return tmp_path


def test_every_version_of_this_tree_is_the_same() -> None:
    """A registry that names another version than PyPI has sends its users to nothing."""
    assert set(release.versions().values()) == {VERSION}
    assert len(release.versions()) == 3


def test_a_tree_that_is_the_release_is_one(tree: Path) -> None:
    """With a dated heading in the changelog, whose section is what the page says; the image by its digest."""
    assert release.disagreements(f"v{VERSION}", tree) == []
    told = release.notes(f"v{VERSION}", IMAGE, tree)
    assert told.startswith("### Added\n- `ask_claude`")
    assert f"docker pull {IMAGE}" in told
    assert "- Old." not in told
    with pytest.raises(ValueError, match="digest"):
        release.notes(f"v{VERSION}", IMAGE.partition("@")[0] + ":latest", tree)


WRONG = {
    "server.json": (f'"version": "{VERSION}"', '"version": "9.9.9"', ["server.json says", "server.json, pypi says"]),
    "Dockerfile": (f"ARG VERSION={VERSION}", "ARG VERSION=9.9.9", ["Dockerfile says 9.9.9"]),
    "CHANGELOG.md": (f"## [{VERSION}] - 2026-11-26", f"## [{VERSION}]", ["CHANGELOG.md has nothing"]),
}


@pytest.mark.parametrize("file", WRONG)
def test_what_disagrees_is_named(tree: Path, file: str) -> None:
    """Before anything is built, each with the place to mend."""
    before, after, told = WRONG[file]
    text = (tree / file).read_text()
    assert before in text
    (tree / file).write_text(text.replace(before, after))

    found = release.disagreements(f"v{VERSION}", tree)

    assert [any(line.startswith(words) for line in found) for words in told] == [True] * len(told)
    assert len(found) == len(told)


@pytest.mark.parametrize("tag", ["v9.9.9", VERSION, f"v{VERSION}rc1"])
def test_a_tag_of_another_version_is_no_release(tree: Path, tag: str) -> None:
    """The package would have another version than its page."""
    assert release.disagreements(tag, tree) == [
        f"The tag is {tag}, pyproject.toml says {VERSION}: it has to be v{VERSION}."
    ]
