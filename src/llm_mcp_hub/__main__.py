"""`llm-mcp-hub` and `python -m llm_mcp_hub`: what is needed before the commands are there."""

import gc
import os
import sys


def main() -> int:
    """Run one command. Returns the exit code: 130 also for a Ctrl-C that comes while the commands are still loaded."""
    _fill_closed()
    try:
        from llm_mcp_hub import starting

        starting.shorten()
        from llm_mcp_hub import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # or Python would look through all that was loaded once more, before it lets go of it


def _fill_closed() -> None:
    """What a shell has closed (`<&-`, `>&-`, `2>&-`) becomes the null device.

    The next file that is opened would have that number: a database would get what a CLI says to its stderr. A closed
    stdin stays known (`sys.stdin` is None), a closed stdout fails as a full one does, and what would go to a closed
    stderr goes nowhere.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    if sys.stdout is None:
        unwritable = os.open(os.devnull, os.O_RDONLY)
        os.dup2(unwritable, 1)
        os.close(unwritable)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
