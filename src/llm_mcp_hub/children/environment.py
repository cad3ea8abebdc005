"""What a child process may see of our surroundings. The one place that reads `os.environ`.

A child's environment is built from an allow-list, never by removing bad names from ours: a name that nobody thought
of cannot pay, redirect or configure anything. Whatever is provider-shaped is given by the provider as `extra`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

HARMLESS = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT", "WINDIR")
"""What any program needs to run; none of it steers either CLI."""

NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
"""The way out of the operator's network; `doctor` shows them. Lower-case spellings are read too, as curl does."""


def surroundings() -> dict[str, str]:
    """A copy of the process environment."""
    return dict(os.environ)


def network_settings(around: Mapping[str, str]) -> dict[str, str]:
    """The proxy and certificate variables that are handed to children, by their upper-case names."""
    found: dict[str, str] = {}
    for name in NETWORK:
        value = around.get(name) or around.get(name.lower())
        if value:
            found[name] = value
    return found


def child_environment(around: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a child: the harmless names, the network's, and `extra` over both."""
    kept = {name: around[name] for name in HARMLESS if around.get(name)}
    kept["PATH"] = _absolute(kept.get("PATH", "")) or os.defpath
    return {**kept, **network_settings(around), **extra}


def _absolute(path: str) -> str:
    """PATH without `.` and the like: a cloned repository must not bring the programs that the hub starts inside it."""
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if Path(folder).is_absolute())


def blanked(around: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, and an empty value for every other name around us.

    For a parent that merges over `os.environ` and so cannot remove a name, as claude-agent-sdk does.
    """
    return {**dict.fromkeys(around, ""), **environment}
