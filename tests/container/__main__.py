"""`make image-check`: builds the image, runs `image_check.py` against it on a network of its own, prints the figures.

Everything is made below one temporary folder, which goes at the end, with whatever is mounted there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.container.build import built
from tests.container.figures import IMAGE, note, table
from tests.harness import ROOT

PROGRAMS = ("buildah", "mmdebstrap", "bwrap", "setpriv", "nsenter", "unshare", "mount", "git", "npm")
CHECKS_S = 600.0
PLACE = "/var/tmp"  # /tmp may be memory
ROOM = 6e9
"""Bytes; 4.9e9 were measured. A disk that is full is told by buildah as a closed pipe."""


def main() -> int:
    """Build and check. Returns the exit code."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing or sys.platform != "linux" or os.geteuid() != 0:
        print(
            "This needs root on Linux. On Debian: apt-get install buildah mmdebstrap bubblewrap util-linux mount git\n"
            f"Missing: {', '.join(missing) or 'root'}",
            file=sys.stderr,
        )
        return 69
    if (room := shutil.disk_usage(PLACE).free) < ROOM:
        print(f"This needs {ROOM / 1e9:.0f} GB of room below {PLACE}; there are {room / 1e9:.1f}.", file=sys.stderr)
        return 69
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it leaves nothing then, either
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llm-mcp-hub-image-", dir=PLACE) as place:
        folder = Path(place)
        folder.chmod(0o711)
        told, figures = folder / "image.json", folder / "figures"
        print("Building the image and its bases from packages …", flush=True)
        with built(folder) as image:
            image.save(told)
            note("seconds for its bases, from packages", f"{time.monotonic() - began - image.built_s:.0f}", figures)
            note("build seconds", f"{image.built_s:.0f}", figures)
            note("megabytes", f"{image.size / 1e6:.0f} (in {len(image.layers)} layers)", figures)
            words = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).with_name("image_check.py"))]
            words += ["-p", "no:cacheprovider", "--timeout", "300", f"--basetemp={folder / 'tests'}"]
            checked = subprocess.run(
                ["unshare", "--net", *words],
                cwd=ROOT,
                env={**os.environ, IMAGE: str(told)},
                timeout=CHECKS_S,
                check=False,
            )
        note("seconds in all", f"{time.monotonic() - began:.0f}", figures)
        print("\n" + table(figures))
    return checked.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
