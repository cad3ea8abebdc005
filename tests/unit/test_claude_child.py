"""What the wrapper of Claude's CLI lets through: the real script, around a program that prints what it was given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from llm_mcp_hub.providers.claude_child import options


def test_a_name_of_the_wrappers_own_does_no_harm(tmp_path: Path) -> None:
    """An exported `cli` or `keep` of the owner's: the wrapper would drop its own, and with it the program or a name."""

    def given(around: dict[str, str]) -> set[str]:
        home, cwd = tmp_path / str(len(os.listdir(tmp_path))), tmp_path / "empty"
        home.mkdir()
        cwd.mkdir(exist_ok=True)
        laid_out = options(
            home=home,
            cwd=cwd,
            cli=Path("/usr/bin/env"),
            around=around,
            model="sonnet",
            system=None,
            token="made-up",
            upstream=None,
            app="a/1",
        )
        ran = subprocess.run(
            [str(laid_out.cli_path)],
            env={**around, **laid_out.env, "CLAUDE_CODE_MAX_RETRIES": "1\ncli=1\nkeep=2"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return {line.partition("=")[0] for line in ran.stdout.splitlines()} - {"cli", "keep"}  # of that value

    plain = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "made-up"}

    assert given({**plain, "cli": "1", "keep": "1", "name": "1"}) == given(plain)
    assert {"PATH", "HOME", "CLAUDE_CODE_OAUTH_TOKEN"} <= given({**plain, "keep": "1"})
    assert given({**plain, "OPTIND": "2"}) - {"OPTIND"} == given(plain)
