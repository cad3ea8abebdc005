"""What the README says of clients' configurations is what `install` does."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath, PureWindowsPath

from llm_mcp_hub.commands.mcp_clients import BRIDGE, CLIENTS, SERVER, Around
from tests.harness import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_table_of_files_is_true() -> None:
    """For each client and platform."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.splitlines()
        if re.match(r"\| `[a-z-]+` \|.*\.json`", line)
    ]

    def shown(client: str, around: Around) -> str:
        path = str(CLIENTS[client].files(around)[-1])
        return path.replace("C:\\roaming", "%APPDATA%").replace("C:\\~", "~").replace("/~", "~")

    linux, mac = Around("linux", PurePosixPath("/~")), Around("darwin", PurePosixPath("/~"))
    windows = Around("win32", PureWindowsPath("C:/~"), {"APPDATA": "C:/roaming"})
    told = {row[0].strip("`"): [cell.split("`")[1] for cell in row[1:]] for row in rows}
    assert told == {client: [shown(client, around) for around in (linux, mac, windows)] for client in CLIENTS}


def test_what_others_are_to_be_given_is_what_is_written() -> None:
    """A client that is not in the list takes the form of the one that has the least."""
    (text,) = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    servers = json.loads(text)["mcpServers"]

    assert servers == {SERVER: CLIENTS["claude-desktop"].started(servers[SERVER]["command"], [])}


def test_the_bridge_is_named_with_its_version() -> None:
    """It is somebody else's program, and runs with the client's token."""
    assert BRIDGE.replace("@", " ") in README
