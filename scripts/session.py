"""Records `docs/session.svg`: a few commands on a real terminal, in a prepared world, as a picture.

The real hub and both real CLIs answer on a pseudo-terminal; the answers are those of the stand-ins in
`tests/upstreams`. Without arguments the picture is written; with `--check` it is compared, and the exit code is 1 where
it is stale. What differs from run to run (ids, times) is replaced. The picture is made by rich and asks for no font
from anywhere.
"""

from __future__ import annotations

import argparse
import difflib
import html
import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pexpect
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.harness import DEADLINE_S, World, make_world  # noqa: E402 - after the path is set
from tests.upstreams import anthropic, google  # noqa: E402

PICTURE = ROOT / "docs" / "session.svg"
COLUMNS = 100
TITLE = "A second opinion on a change, in one conversation (answers: the bundled stand-ins)"
CLAUDE = "No: the unit changed. Callers still pass seconds, so a wait of 30 now ends after 30 ms."
GEMINI = "I agree with Claude, and would keep seconds: `wait_s: float = 30.0` needs no change at any caller."
BEFORE, AFTER = "def fetch(wait=30):\n", "def fetch(wait=30_000):\n"

CONVERSATION = re.compile(r"\bconv_[\w-]+")
STABLE: Mapping[re.Pattern[str], str] = {
    CONVERSATION: "conv_7Jq2mXw4",
    re.compile(r"(?<=, )\d+\.\d s\b"): "1.4 s",
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"): "2026-11-26T09:00:00Z",
}
"""What differs from run to run, and what stands for it."""

# One theme of its own: a dark window, readable on a light page and on a dark one.
THEME = TerminalTheme(
    (16, 20, 28),
    (214, 220, 230),
    [
        *((16, 20, 28), (240, 113, 120), (127, 201, 127), (230, 190, 110)),
        *((110, 170, 250), (200, 150, 240), (100, 200, 210), (200, 206, 216)),
    ],
)

FORM = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{unique_id}-named">
<title id="{unique_id}-named">A session in a terminal</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""As rich's own, without the fonts that it would fetch."""


def on_a_terminal(world: World, project: Path, *words: str) -> str:
    """What a person sees of `llm-mcp-hub` with these words. Raises SystemExit where it fails."""
    command, *rest = world.command
    child: pexpect.spawn[str] = pexpect.spawn(
        command,
        [*rest, *words],
        cwd=str(project),
        env=world.environment,
        encoding="utf-8",
        dimensions=(50, COLUMNS),
        timeout=DEADLINE_S,
    )
    child.expect(pexpect.EOF)
    child.close()
    seen = str(child.before or "").replace("\r\n", "\n")
    if child.exitstatus != 0:
        raise SystemExit(seen)
    return seen


def project_of(world: World) -> Path:
    """A repository with one change that is not committed."""
    folder = world.home / "project"
    folder.mkdir()
    file = folder / "fetch.py"
    file.write_text(BEFORE)
    me = ("-c", "user.name=you", "-c", "user.email=you@example.com")
    for step in (("init", "-q"), ("add", "."), (*me, "commit", "-q", "-m", "begin")):
        subprocess.run(["git", *step], cwd=folder, env=world.environment, check=True, capture_output=True)
    file.write_text(AFTER)
    return folder


def recorded() -> list[tuple[str, str]]:
    """Each command as it is typed, with what it printed."""
    with tempfile.TemporaryDirectory(prefix="llm-mcp-hub-") as folder, make_world(Path(folder)) as world:
        world.claude.default = anthropic.Answer(CLAUDE, rate_limits=anthropic.RateLimits())
        world.gemini.default = google.Answer(GEMINI)
        project = project_of(world)
        first = ("ask", "claude", "Is this change safe?", "--git-diff")
        said = on_a_terminal(world, project, *first)
        found = CONVERSATION.search(said)
        if found is None:
            raise SystemExit(f"no conversation is named: {said}")
        second = ("ask", "gemini", "--conversation", found[0], "Do you agree with Claude?")
        session = [
            (typed(first), said),
            (typed(second), on_a_terminal(world, project, *second)),
            (typed(("conversations",)), on_a_terminal(world, project, "conversations")),
        ]
        world.wait_until_no_child()
        if world.surprises:
            raise SystemExit(f"the stand-ins were surprised: {world.surprises}")
    return [(stable(command), stable(printed)) for command, printed in session]


def typed(words: tuple[str, ...]) -> str:
    """A command as a person would type it."""
    return " ".join(["llm-mcp-hub", *(shlex.quote(word).replace("'", '"') for word in words)])


def stable(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, stands in STABLE.items():
        text = pattern.sub(stands, text)
    return text


def drawn(session: list[tuple[str, str]]) -> str:
    """The session as an SVG document."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    for number, (command, printed) in enumerate(session):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")), soft_wrap=False, highlight=False)
        console.print(Text.from_ansi(printed.rstrip("\n")), highlight=False)
    return console.export_svg(title=TITLE, theme=THEME, code_format=FORM, unique_id="session").replace(
        "TITLE", TITLE, 1
    )


def text_of(picture: str) -> list[str]:
    """What stands in a picture, line by line, for a difference that can be read."""
    rows: dict[str, str] = {}
    for row, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        rows[row] = rows.get(row, "") + html.unescape(text).replace("\xa0", " ")
    return [f"{line.rstrip()}\n" for line in rows.values()]


def main() -> int:
    """Write or check the picture. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the picture is stale")
    check = parser.parse_args().check
    after = drawn(recorded())
    if not check:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(after, "utf-8")
        return 0
    before = PICTURE.read_text("utf-8")
    sys.stdout.writelines(difflib.unified_diff(text_of(before), text_of(after), PICTURE.name, "as it would be"))
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
