"""What the README shows of commands is what they print."""

from __future__ import annotations

import subprocess
import sys

from tests.harness import ROOT


def test_the_screenshots_in_the_readme_are_what_the_commands_print() -> None:
    """Taken again in a prepared world, they are the same; `make screenshots` renews them."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "screenshots.py"), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, f"run `make screenshots`:\n{done.stdout}{done.stderr}"
