"""What the documents show of commands is what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.harness import ROOT

PICTURE = (ROOT / "docs" / "session.svg").read_text("utf-8")


@pytest.mark.parametrize("script", ["screenshots.py", "session.py"])
def test_the_screenshots_are_what_the_commands_print(script: str) -> None:
    """Taken again in a prepared world, they are the same; `make screenshots` renews them."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, f"run `make screenshots`:\n{done.stdout}{done.stderr}"


def test_the_picture_of_the_session_asks_nobody_for_anything() -> None:
    """A page that shows it fetches no font, no style and no script, and it is small."""
    picture = ElementTree.fromstring(PICTURE)
    names = {element.tag.rpartition("}")[2] for element in picture.iter()}

    assert names <= {"svg", "title", "style", "defs", "clipPath", "rect", "g", "circle", "text"}
    assert re.findall(r"@font-face|@import|url\((?!#)|href|https?://(?!www\.w3\.org/2000/svg)", PICTURE) == []
    assert len(PICTURE.encode()) < 100_000


def test_the_picture_of_the_session_can_be_read_on_any_page() -> None:
    """It has a ground of its own under every letter, far enough from their colour, whatever the page's colour is."""
    ground = re.search(r'<rect fill="(#[0-9a-f]{6})"', PICTURE)
    letters = set(re.findall(r"\bfill: (#[0-9a-f]{6})", PICTURE))

    assert ground is not None
    assert letters
    assert all(contrast(letter, ground[1]) >= 4.5 for letter in letters)  # WCAG AA


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' relative luminances, by WCAG: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
