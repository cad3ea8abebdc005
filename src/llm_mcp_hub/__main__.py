"""`llm-mcp-hub` and `python -m llm_mcp_hub`: what is needed before the commands are there."""

import sys


def main() -> int:
    """Run one command. Returns the exit code: 130 also for a Ctrl-C that comes while the commands are still loaded."""
    # This program draws nothing with rich; structlog loads it wherever it is installed, for a tenth of a start's time.
    sys.modules.setdefault("rich", None)  # pyright: ignore[reportArgumentType]
    try:
        from llm_mcp_hub import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
