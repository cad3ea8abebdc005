"""How the drill of faults stands between a hub and its programs: a word in a file, and a CLI is another program.

Both CLIs are the real ones as long as that word is not there. It knows how a hub starts them, and nothing of an ask.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from pathlib import Path

import psutil

from tests.guarantees.drill import PROVIDERS, TIGHT, Provider
from tests.harness import GEMINI, World

FAKE = Path(__file__).with_name("fake_child.py")


class Programs:
    """The programs of one world's hubs."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self._programs()

    def play(self, does: str | None) -> None:
        """What the next children do that are started; None: they are the real CLIs, and no other is left."""
        for provider in PROVIDERS:
            for name in (provider, f"{provider}-fell"):
                (self.folder / name).unlink(missing_ok=True)
            if does is not None:
                (self.folder / provider).write_text(does)
        for child in self.world.children():
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                if str(FAKE) in words or (does is not None and "--acp" in words):
                    child.kill()

    def fell(self, provider: Provider) -> bool:
        """Whether the program that plays has done what it plays."""
        return (self.folder / f"{provider}-fell").exists()

    def _programs(self) -> None:
        """Both CLIs behind a word of the drill's: real, as long as it says nothing else."""
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "the drill needs setpriv (util-linux)"
        bin_ = self.folder / "bin"
        bin_.mkdir()
        play = f'"{sys.executable}" -I "{FAKE}"'
        texts = {
            "setpriv": f'case "$4" in */setsid) leads="$4";; *) leads=;; esac\n'
            f'if [ -e "{self.folder}/claude" ]; then exec "{setpriv}" --pdeathsig KILL -- $leads {play} claude '
            f'"$(cat "{self.folder}/claude")" "{self.folder}/claude-fell"; fi\nexec "{setpriv}" "$@"\n',
            "gemini": f'if [ -e "{self.folder}/gemini" ]; then exec {play} gemini '
            f'"$(cat "{self.folder}/gemini")" "{self.folder}/gemini-fell"; fi\nexec "{GEMINI}" "$@"\n',
        }
        for name, text in texts.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{text}")
            (bin_ / name).chmod(stat.S_IRWXU)
        self.world.changes |= {
            **TIGHT,
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "HUB_GEMINI_COMMAND": str(bin_ / "gemini"),
            "HUB_CLAUDE_WARM": "0",
            "HUB_ASK_TIMEOUT_S": "50",
            "HUB_WAIT_S": "3600",  # no caller is to come back for a ticket
        }


def on_a_small_disk(world: World) -> list[str]:
    """Words that give a hub a state folder of 48 MiB, and its owner's login on a file system that is read-only."""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = (
        'mount -t tmpfs -o size=48m,mode=0700 none "$1" && mount --bind "$2" "$2" && '
        'mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'
    )
    around = ["unshare", "--mount", *rights, "--propagation", "private"]
    return [*around, "/bin/sh", "-c", script, "sh", str(world.state), str(world.login_file.parent)]
