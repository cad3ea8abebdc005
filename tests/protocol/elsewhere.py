"""Run in a network of its own, where this machine has one address more: calls a hub there as other machines would.

Reads steps from stdin as JSON and writes what came of each: a request `[address, method, path, headers]` gives its
status and body, `["run", …]` a command of the hub, whose output is written.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from typing import Any

from llm_mcp_hub.children.environment import surroundings
from tests.harness import DEADLINE_S, HttpHub

HERE = "192.0.2.7"
"""Of a block that nobody has (RFC 5737)."""
IN_A_NETWORK_OF_ITS_OWN = [
    "unshare",
    "--net",
    "--map-root-user",
    "sh",
    "-c",
    f'ip link set lo up && ip address add {HERE}/32 dev lo && exec "$@"',
    "sh",
]


def request(port: int, address: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_S)
    host = {"Host": f"{address}:{port}", "Accept": "application/json, text/event-stream"}
    connection.request(method, path, headers={**host, **headers})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def main(command: list[str]) -> None:
    hub = HttpHub(surroundings(), command=command)
    port = int(hub.url.rpartition(":")[2])
    came: list[Any] = []
    token = ""
    try:
        for step in json.load(sys.stdin):
            if step[0] == "run":
                words = [sys.executable, "-m", "llm_mcp_hub", *step[1:]]
                done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
                token = done.stdout.strip()
                came.append(done.returncode)
            else:
                address, method, path, headers = step
                sent = {name: value.replace("TOKEN", token) for name, value in headers.items()}
                came.append(request(port, address, method, path, sent))
    finally:
        code = hub.stop()
    json.dump({"came": came, "code": code}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
