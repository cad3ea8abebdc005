"""Writes the documents' screenshots: what commands print in a prepared world, between their markers.

    <!-- screenshot: doctor -->
    <!-- end -->

Without arguments the documents are rewritten; with `--check` they are compared, and the exit code is 1 where one is
stale. A further screenshot is a function in `SHOTS` and a pair of markers in some document. Whatever differs between
machines and moments (paths, versions of Python and Node.js, times) is replaced, so that only what the hub itself says
can change one.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llm_mcp_hub.commands.doctor import as_text  # noqa: E402 - after the path is set
from llm_mcp_hub.commands.status import table  # noqa: E402
from llm_mcp_hub.credentials.status import TokenStatus  # noqa: E402
from llm_mcp_hub.finding import Finding  # noqa: E402
from tests.harness import GEMINI, World, make_world, run_command  # noqa: E402
from tests.upstreams import anthropic, google  # noqa: E402

DOCUMENTS = (ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").glob("*.md")))
COLUMNS = 118
SEEN, END = datetime(2026, 11, 27, 9, 41, tzinfo=UTC), datetime(2026, 11, 29, 14, 3, tzinfo=UTC)
PROGRAMS = ("gemini", "node", "git", "setpriv")

YEAR = datetime.now().astimezone().year
STABLE: Mapping[str, str] = {
    r"CPython \d+\.\d+\.\d+": "CPython 3.12.8",
    r"Node\.js \d+\.\d+\.\d+": "Node.js 22.12.0",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "2026-11-25T09:00:00Z",
    rf"\w+day \d+ \w+ {YEAR} \d\d:\d\d [\w+-]+": "Wednesday 25 Nov 2026 09:00 UTC",
    rf"\w+day \d+ \w+ {YEAR + 1} \d\d:\d\d [\w+-]+": "Thursday 25 Nov 2027 09:00 UTC",
    r"\b\d+\.\d [GM]B left": "120.5 GB left",
    r"\b\d+\.\d ms\b": "2.1 ms",
    r"127\.0\.0\.1:\d+": "proxy.example:3128",
    r"/[^\s\"]+/google-ca\.pem": "/etc/ssl/our-ca.pem",
}
"""What differs from run to run, and what stands for it."""


def doctor(world: World) -> str:
    """A machine with one thing to mend and one to know, on a terminal of COLUMNS columns."""
    world.login_file.unlink()
    proxy = world.environment["HTTPS_PROXY"]
    world.changes |= {"GEMINI_API_KEY": "made-up", "HTTPS_PROXY": proxy.replace("//", "//me:made-up@")}
    # Wrapped here, after the paths have become those of the picture: the real ones are of any length.
    findings = [Finding(**finding) for finding in json.loads(printed(world, "doctor", "--json"))["findings"]]
    return f"$ llm-mcp-hub doctor\n{as_text(findings, width=COLUMNS)}\n"


def status(world: World) -> str:
    """A token that ends soon and answers, and an account that Google no longer serves; both proved by a tiny ask."""
    made = datetime.now().astimezone() - timedelta(days=363, hours=-1)
    world.changes |= {"CLAUDE_TOKEN_ISSUED_AT": made.isoformat(), "TZ": "UTC"}
    world.claude.default = anthropic.Answer("ok", rate_limits=anthropic.RateLimits())
    world.gemini.account = google.Account.ineligible()
    ended = run_command(world, "status", "--verify", "--json")
    if ended.stderr:
        raise SystemExit(ended.stderr.decode())
    told = ended.stdout.decode().replace(str(world.home), "/home/you")
    date = r"\w+day \d+ \w+ \d{4} \d\d:\d\d UTC"
    told = re.sub(rf"{date}(?=, \d+ days)", f"{END:%A %-d %b %Y %H:%M} UTC", told)
    told = re.sub(rf"{date}(?!, \d+ days)", f"{SEEN:%A %-d %b %Y %H:%M} UTC", told)
    told = re.sub(r'("expires_at": )"[^"]+"', rf'\1"{END.isoformat()}"', told)
    told = re.sub(r'("observed_at": )"[^"]+"', rf'\1"{SEEN.isoformat()}"', told)
    known = {name: TokenStatus.model_validate(one) for name, one in json.loads(told).items()}
    return f"$ llm-mcp-hub status --verify\n{table(known, SEEN + timedelta(minutes=3), columns=COLUMNS)}\n"


SHOTS: Mapping[str, Callable[[World], str]] = {"doctor": doctor, "status": status}


def printed(world: World, *words: str) -> str:
    """What a command prints, as it would on a machine of one's own."""
    programs = world.home / "bin"
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
        found = GEMINI if name == "gemini" else shutil.which(name)
        if found is None:
            raise SystemExit(f"{name} is needed for the screenshots.")
        (programs / name).symlink_to(found)
    unset = ("HUB_GEMINI_COMMAND", "HUB_CLAUDE_UPSTREAM", "HUB_GEMINI_UPSTREAM", "HUB_STATE_DIR", "GEMINI_AUTH_PATH")
    world.changes |= {**dict.fromkeys(unset, ""), "PATH": f"{programs}:{world.environment['PATH']}"}
    ended = run_command(world, *words)
    if ended.stderr:
        raise SystemExit(ended.stderr.decode())
    text = ended.stdout.decode().replace(str(programs), "/usr/bin").replace(str(world.home), "/home/you")
    for pattern, stable in STABLE.items():
        text = re.sub(pattern, stable, text)
    return text


def taken() -> dict[str, str]:
    """Every screenshot, each in a world of its own."""
    shots: dict[str, str] = {}
    for name, shot in SHOTS.items():
        with tempfile.TemporaryDirectory(prefix="llm-mcp-hub-") as folder, make_world(Path(folder)) as world:
            shots[name] = shot(world)
            world.wait_until_no_child()
            if world.surprises:
                raise SystemExit(f"the stand-ins were surprised: {world.surprises}")
    return shots


def placed(text: str, shots: Mapping[str, str]) -> str:
    """A document with these between their markers, where it has them."""
    for name, shot in shots.items():
        marked = re.compile(rf"(<!-- screenshot: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marked.sub(lambda found, shot=shot: f"{found[1]}```text\n{shot}```\n{found[2]}", text)
    return text


def main() -> int:
    """Rewrite or check the documents. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a document is stale")
    check = parser.parse_args().check
    before = {document: document.read_text("utf-8") for document in DOCUMENTS if document.exists()}
    for name in SHOTS:
        if not any(f"<!-- screenshot: {name} -->" in text for text in before.values()):
            raise SystemExit(f"No document has a place for the screenshot {name}.")
    shots = taken()
    stale = False
    for document, text in before.items():
        after = placed(text, shots)
        if after == text:
            continue
        stale = True
        if check:
            named = document.relative_to(ROOT).as_posix()
            sys.stdout.writelines(
                difflib.unified_diff(text.splitlines(True), after.splitlines(True), named, "as it would be")
            )
        else:
            document.write_text(after, "utf-8")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
