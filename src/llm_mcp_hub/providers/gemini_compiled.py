"""What Node.js has compiled of the Gemini CLI, kept beside the CLI: a start then takes a quarter less.

Of `gemini --version`, which loads nearly all of it: 0.43 s instead of 0.57 with Node.js 22.23; before 22.1 nothing
comes of it. It is Node's own cache (`NODE_COMPILE_CACHE`), 4 MB: what is in it counts for the same text, the same
Node.js under the same options, and the same user alone. A program leaves it there when it ends by itself, and a child
that is killed does not. So whoever installs the CLI makes the folder and runs the CLI with it once; where nobody has,
the CLI starts as ever.
"""

from __future__ import annotations

import stat
from pathlib import Path

from llm_mcp_hub import others

FOLDER = Path("node_modules", ".cache", "compiled")
NODE_OPTIONS = "--max-old-space-size=1024"
"""Of every child. Makefile and Dockerfile have them too, where they run the CLI for the first time."""


def kept_by(cli: Path) -> dict[str, str]:
    """The variable that names the folder beside this CLI; none where there is no such folder.

    Nor where others could write there, for what is in it runs as a part of the CLI.
    """
    beside = (parent.parent for parent in cli.resolve().parents if parent.name == FOLDER.parts[0])
    for installation in (cli.parent, *beside):
        folder = installation / FOLDER
        try:
            about = folder.stat()
        except OSError:
            continue
        if stat.S_ISDIR(about.st_mode) and not others.is_anothers(about) and not others.can_write(about.st_mode):
            return {"NODE_COMPILE_CACHE": str(folder)}
    return {}
