"""The firm rules of the house, by reading the repository: imports, libraries, settings, documents, addresses."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest

from llm_mcp_hub.children.environment import NETWORK
from llm_mcp_hub.settings import SECRETS, Settings, load
from tests.documents.pages import kept_files
from tests.harness import DEADLINE_S, ROOT

SRC = ROOT / "src" / "llm_mcp_hub"
MODULES = sorted(SRC.rglob("*.py"))
LONGEST = 400


def named(file: Path) -> str:
    """A module by its path below the package: `providers/claude.py`."""
    return file.relative_to(SRC).as_posix()


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def imports(file: Path) -> Generator[str]:
    """Every module that `file` imports, wherever in it."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str) -> set[str]:
    """Which of our modules import `module` or a part of it."""
    return {named(file) for file in MODULES if any(f"{name}.".startswith(f"{module}.") for name in imports(file))}


def lines_with(pattern: str, files: tuple[Path, ...] | list[Path]) -> list[str]:
    """`file:line: text` of each line that holds the pattern."""
    wanted = re.compile(pattern)
    found: list[str] = []
    for file in files:
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1):
            if wanted.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


# -- imports -----------------------------------------------------------------------------------------------------------


def test_imports_point_down() -> None:
    """The contracts of import-linter, as `make check` runs them."""
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout
    assert "0 kept" not in run.stdout


ONE_PLACE = {
    "mcp": r"serving/\w+\.py|main\.py",  # main.py in annotations only: see the next test
    "mcp_types": r"serving/\w+\.py",
    "claude_agent_sdk": r"providers/claude\w*\.py",
    "pexpect": r"children/terminal\.py",
    "psutil": r"children/supervision\.py",
    "dotenv": r"env_text\.py",
    "platformdirs": r"settings\.py",
    "uvicorn": r"serving/\w+\.py",
    "httpx2": r"credentials/webhook\.py",
    "prometheus_client": r"observe/metrics\.py",
    "limits": r"serving/limits\.py",
    "opentelemetry": r"observe/traces\.py",
    "redis": r"store/redis\.py",
    "sqlite3": r"store/sqlite\.py",
}


@pytest.mark.parametrize("library", ONE_PLACE)
def test_a_library_is_known_in_one_place(library: str) -> None:
    """Whoever replaces it, or meets its next version, reads that place alone."""
    users = importers(library)

    assert users
    assert {name for name in users if re.fullmatch(ONE_PLACE[library], name) is None} == set()


def test_the_composition_root_names_the_servers_type_and_uses_nothing_of_it() -> None:
    """`main.py` may annotate what it builds, and imports no serving library when it runs."""
    for node in tree(SRC / "main.py").body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = ast.unparse(node)
            assert re.search(r"\b(mcp|starlette|uvicorn)\b", text) is None, text


def test_the_environment_is_read_in_one_place() -> None:
    """`os.environ` and its relatives: a variable read anywhere else would not be in the settings, nor scrubbed."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    users: set[str] = set()
    for file in MODULES:
        for node in ast.walk(tree(file)):
            by_attribute = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and node.attr in names
            by_name = isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names}
            if by_attribute or by_name:
                users.add(named(file))

    assert users == {"children/environment.py"}


@pytest.mark.parametrize(
    ("module", "users"), [("settings", r"cli\.py|main\w*\.py|commands/\w+\.py"), ("observe", r"cli\.py|main\w*\.py")]
)
def test_settings_and_logs_are_handed_in_from_the_root(module: str, users: str) -> None:
    """A room that read a setting by itself could not be tested, or used, with another one."""
    found = importers(f"llm_mcp_hub.{module}")

    assert found
    assert {name for name in found if re.fullmatch(users, name) is None} == set()


@pytest.mark.parametrize(("one", "other"), [("claude", "gemini"), ("gemini", "claude")])
@pytest.mark.parametrize("room", ["providers", "credentials"])
def test_a_provider_knows_nothing_of_another(room: str, one: str, other: str) -> None:
    """A third provider must be addable, and each removable, by its own files."""
    files = sorted((SRC / room).glob(f"{one}*.py"))

    assert files
    for file in files:
        assert [name for name in imports(file) if f".{other}" in name] == [], named(file)


def test_nothing_provider_shaped_stands_outside_the_providers() -> None:
    """Only the composition roots name them; the tools and the use case are made of their traits."""
    shaped = re.compile(r"llm_mcp_hub\.(providers\.(claude|gemini|acp)|credentials\.(claude|gemini))")
    users = {named(file) for file in MODULES if any(shaped.match(name) for name in imports(file))}
    rooms = re.compile(r"(providers|credentials)/(claude|gemini)\w*\.py")

    assert len({name for name in users if rooms.fullmatch(name)}) > 10
    assert {name for name in users if rooms.fullmatch(name) is None} == {"main.py", "main_commands.py"}


# -- size and leftovers ------------------------------------------------------------------------------------------------


def test_a_long_module_has_an_answer_to_why() -> None:
    """Over 400 lines is a question; the answer stands in ARCHITECTURE.md, on a line that names the module."""
    answered = [line for line in (ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines() if "400 lines" in line]
    long = [named(file) for file in MODULES if len(file.read_text("utf-8").splitlines()) > LONGEST]

    assert [name for name in long if not any(Path(name).name in line for line in answered)] == []


def test_a_path_in_a_next_step_can_be_typed_as_it_stands() -> None:
    """On macOS the state and the settings are in `Application Support`: unquoted, `rm` would get two paths."""
    typed = r"(?:chmod [\w+-]+|\brm|\bmv|\bcat|stops it:) \{(?!shlex\.quote)"
    assert lines_with(typed, MODULES) == []


def test_dates_are_written_as_every_system_writes_them() -> None:
    """`%-d` is glibc's; Windows raises for it, and no test can see that here."""
    assert lines_with(r"%[-_^0#][A-Za-z]", MODULES) == []


def test_no_work_is_left_as_a_note() -> None:
    """What is to be done stands in an issue; what is not done is not promised."""
    assert lines_with(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", MODULES) == []


# -- settings and documents --------------------------------------------------------------------------------------------

SETTINGS = {field.upper() for field in Settings.model_fields}


def example_lines() -> dict[str, str]:
    """The assignments of `.env.example`, commented out or not."""
    text = (ROOT / ".env.example").read_text("utf-8")
    return dict(re.findall(r"^#? ?([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def test_the_example_file_lists_every_setting_and_no_other() -> None:
    """A setting that is not there is not found; one that is no setting does nothing in silence."""
    assert set(example_lines()) == SETTINGS


def test_the_example_file_shows_the_defaults() -> None:
    """It says so at its top: taken over as it is, it changes nothing."""
    shown = {name: value for name, value in example_lines().items() if value}

    assert len(shown) > 10
    assert load(around=shown) == load(around={})


PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
"""What the README has no room for."""
ASKED_FOR = "docs/brief-vs-reality.md"
"""Names variables that were asked for, and are none."""


@pytest.mark.parametrize(
    "file",
    ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", *(file for file in PAGES if file != ASKED_FOR)],
)
def test_every_variable_that_a_document_names_exists(file: str) -> None:
    """A setting, one of its spellings, what is handed to children, or a name of the code, the Makefile or compose."""
    text = (ROOT / file).read_text("utf-8")
    readers = (*MODULES, ROOT / "Makefile", ROOT / "compose.yaml")
    code = "".join(reader.read_text("utf-8") for reader in readers)
    known = {*SETTINGS, *(f"{name}_FILE" for name in SECRETS), *NETWORK, "NAME_FILE"}

    names = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", text))

    assert {name for name in names - known if re.search(rf"\b{name}\b", code) is None} == set()


def code_in(file: Path) -> str:
    """What a document shows as code: its blocks and its `spans`."""
    text = file.read_text("utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def texts_of_the_hub() -> str:
    """Every text in the hub's code that is no docstring: what it may say to a user."""
    found: list[str] = []
    for file in MODULES:
        docs = {
            id(node.value)
            for node in ast.walk(tree(file))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found.append(node.value)
    return "\n".join(found)


@cache
def helped(command: str) -> str | None:
    """What `llm-mcp-hub COMMAND --help` prints, None if there is no such command."""
    run = subprocess.run(
        [sys.executable, "-m", "llm_mcp_hub", command, "--help"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return run.stdout if run.returncode == 0 else None


COMMAND = re.compile(r"llm-mcp-hub[ \t]+([a-z]\w*)(?![\w-])([^\n|&>`]*)")


def test_every_command_that_the_documents_show_exists() -> None:
    """With every option that is shown with it."""
    used = COMMAND.findall("\n".join(code_in(ROOT / file) for file in ("README.md", *PAGES)))

    assert used
    for command, rest in used:
        text = helped(command)
        assert text is not None, command
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in text, f"{command} {option}"


def test_every_command_that_the_hub_names_exists() -> None:
    """An error's one next step must not be a command that does not exist."""
    named_commands = {command for command, _ in COMMAND.findall(texts_of_the_hub())}

    assert len(named_commands) > 3
    assert {command for command in named_commands if helped(command) is None} == set()


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_target_that_is_named_exists(file: str) -> None:
    """The two commands of the README most of all."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = code_in(ROOT / file) if file.endswith(".md") else (ROOT / file).read_text("utf-8")
    targets = set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))

    assert targets
    assert {target for target in targets if re.search(rf"^{target}:", makefile, re.MULTILINE) is None} == set()


def test_the_tree_in_the_architecture_names_every_module() -> None:
    """A newcomer finds each file in the one drawing there is."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    drawn = text.split("```")[1].split("src/llm_mcp_hub/\n", 1)[1].split("\nDockerfile", 1)[0]
    room, found = "", list[str]()
    for line in drawn.splitlines():
        if begins := re.match(r"  (\w+/|\S)", line):  # indented deeper a room goes on
            room = begins[1] if begins[1].endswith("/") else ""
        found += [f"{room}{name}" for name in re.findall(r"\w+\.py", line)]
    files = [named(file) for file in MODULES if file.name != "__init__.py"]

    assert sorted(found) == sorted(files)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        # but not /proc/{pid}/root/, nor where the image has the login of Gemini's CLI
        r"(?<![\w.~}-])/(work|root(?!/\.gemini\b)|Users)" r"/",
        r"/home/" r"(?!you\b|me\b)[a-z]",
        r"/tmp/" r"lab",
        r"https?://\S+\.(whl" r"|tgz)\b",
        r"(index|registry)[-_]?url\s*[=:]\s*" r"http",
        r"registry\s*=\s*" r"http",
        r"(pythonhosted|npm" r"js)\.(org|com)",
    ],
)
def test_no_file_knows_the_machine_it_was_made_on(pattern: str) -> None:
    """Paths of a home or a workshop, and addresses of a package registry, work nowhere else."""
    assert lines_with(pattern, kept_files()) == []


@pytest.mark.parametrize("folder", ["gemini-cli", "tests/clients", "tests/container/node", "examples/typescript"])
def test_the_locks_of_npm_have_hashes_and_no_addresses(folder: str) -> None:
    """`npm ci` takes every package from the registry that the machine has, and checks what it got."""
    lock = json.loads((ROOT / folder / "package-lock.json").read_text("utf-8"))
    packages = {name: held for name, held in lock["packages"].items() if name}

    assert packages
    assert [name for name, held in packages.items() if "resolved" in held] == []
    assert [name for name, held in packages.items() if "integrity" not in held and not held.get("inBundle")] == []


@pytest.mark.parametrize(
    "file",
    [
        *(f"requirements/{name}.txt" for name in ("build", "dev", "release", "runtime", "uv")),
        "tests/clients/requirements.txt",
    ],
)
def test_the_locks_of_python_have_hashes_and_no_addresses(file: str) -> None:
    """Every requirement is one version with at least one hash."""
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]

    assert requirements
    for line in requirements:
        assert re.match(r"[A-Za-z0-9._\[\],-]+==\S+ ", line), line
        assert "--hash=sha256:" in line, line
        assert "://" not in line, line


def test_the_gemini_cli_to_install_is_the_one_that_was_measured() -> None:
    """The version that errors tell to install, the one that is pinned, and the locked one are the same."""
    pinned = json.loads((ROOT / "gemini-cli" / "package.json").read_text("utf-8"))["dependencies"]["@google/gemini-cli"]
    lock = json.loads((ROOT / "gemini-cli" / "package-lock.json").read_text("utf-8"))
    told = set(re.findall(r"@google/gemini-cli@([\d.]+)", texts_of_the_hub()))

    assert told == {pinned}
    assert lock["packages"]["node_modules/@google/gemini-cli"]["version"] == pinned


# -- tests -------------------------------------------------------------------------------------------------------------

TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)


HUB_TESTS = [file for file in TESTS if file.name.startswith("test_") and file.parent.name != "upstreams"]
"""All but those of the stand-ins, which are tables of a wire."""


@pytest.mark.parametrize("file", HUB_TESTS, ids=lambda file: file.stem)
def test_every_test_says_what_it_is_for(file: Path) -> None:
    """Its name is a sentence, its docstring the reason: what would break for whom if it failed."""
    tests = [
        node
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]

    assert tests
    assert [test.name for test in tests if not ast.get_docstring(test)] == []


def test_no_test_is_skipped_or_mocks_the_house() -> None:
    """Real parts, and every test counts."""
    forbidden = {"skip", "skipif", "xfail", "importorskip"}
    found: list[str] = []
    for file in TESTS:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Attribute) and node.attr in forbidden and "pytest" in ast.unparse(node.value):
                found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
        found += [f"{file.name}: {name}" for name in imports(file) if name.startswith(("unittest.mock", "mock"))]

    assert found == []


def test_make_looks_for_what_it_needs_before_it_fetches_anything(tmp_path: Path) -> None:
    """One sentence each, and no download that comes to nothing."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for words, sentence in [
        (["PYTHON=false"], "Python 3.11 or newer is needed: make PYTHON=python3.12 ...\n"),
        (["PYTHON=true", "PATH=/nonexistent", "SHELL=/bin/sh"], "Node.js 20 or newer is needed: see nodejs.org\n"),
    ]:
        made = subprocess.run(["make", *words, "install"], cwd=tmp_path, capture_output=True, text=True, check=False)

        assert (made.returncode, made.stdout) == (2, "")
        assert made.stderr.startswith(sentence)
        assert not (tmp_path / ".venv").exists()


STAND_IN = """#!/bin/sh
echo "python $*" >> asked
if [ "$2" = venv ]; then
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "uv $*" >> asked\\nexit %s\\n' "$UV_ENDS" > .venv/bin/uv
    chmod +x .venv/bin/uv
fi
"""
"""Notes what it is asked to do, and makes a venv with a uv that ends as is wanted."""


@pytest.mark.parametrize("uv_ends", ["0", "1"], ids=["uv can", "uv cannot"])
def test_make_has_pip_install_what_uv_cannot(tmp_path: Path, uv_ends: str) -> None:
    """Behind a mirror that pip alone is told of; by either, nothing comes whose hash is not locked."""
    (tmp_path / "requirements").mkdir()
    for file in ("Makefile", "pyproject.toml", "requirements/uv.txt", "requirements/dev.txt"):
        shutil.copy(ROOT / file, tmp_path / file)
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    words = ["make", f"PYTHON={python}", ".venv/ready"]
    subprocess.run(words, cwd=tmp_path, env={**os.environ, "UV_ENDS": uv_ends}, capture_output=True, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    fetching = [line for line in asked if " -r " in line]
    by_pip = [line for line in fetching if line.startswith("python -m pip")]

    assert [line.rpartition("requirements/")[2] for line in by_pip] == ["uv.txt", "dev.txt"][: 1 + int(uv_ends)]
    assert [line for line in fetching if line.startswith("uv") and line.endswith("requirements/dev.txt")]
    assert [line for line in fetching if "--require-hashes" not in line] == []
    assert any(line.startswith("python") and line.endswith("-e .") for line in asked) is (uv_ends == "1")
