"""The figures that `make image-check` prints at its end; noted by two processes, so kept in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

IMAGE = "HUB_CHECKED_IMAGE"
"""The variable that names the file with what has been built; the figures stand beside it."""
_file = Path(os.environ[IMAGE]).with_name("figures") if IMAGE in os.environ else None


def note(name: str, value: str, file: Path | None = None) -> None:
    """Keep one for the end."""
    place = file or _file
    assert place is not None
    with place.open("a") as kept:
        kept.write(json.dumps([name, value]) + "\n")


def table(file: Path) -> str:
    """All of them, in the order in which they came."""
    noted = dict(json.loads(line) for line in file.read_text().splitlines())
    width = max(map(len, noted), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in noted.items())
