"""Run in a network of its own, where this machine has one address more: calls a hub there as other machines would.

Reads steps from stdin as JSON and writes what came of each: a request `[address, method, path, headers]` gives its
status and body, `["run", …]` a command of the hub, whose output is the TOKEN of later steps, `["read", FILE]` a file
that holds one.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from llm_mcp_hub.children.environment import surroundings
from tests.harness import DEADLINE_S, HttpHub

HERE = "192.0.2.7"
"""Of a block that nobody has (RFC 5737)."""
IN_A_NETWORK_OF_ITS_OWN = ["unshare", "--net", "--map-root-user"]
_SET_FLAGS, _SET_ADDRESS, _UP = 0x8914, 0x8916, 0x41
"""Of Linux' ioctl: SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP and IFF_RUNNING. So no program for networks is needed."""


def furnish() -> None:
    """Bring this network's loopback up, and give it HERE as one address more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as through:
        up = [struct.pack("16sH14x", name, _UP) for name in (b"lo", b"lo:1")]
        here = struct.pack("16sH2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(HERE))
        fcntl.ioctl(through, _SET_FLAGS, up[0])
        fcntl.ioctl(through, _SET_ADDRESS, here)
        fcntl.ioctl(through, _SET_FLAGS, up[1])


def request(port: int, address: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_S)
    host = {"Host": f"{address}:{port}", "Accept": "application/json, text/event-stream"}
    connection.request(method, path, headers={**host, **headers})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def main(command: list[str]) -> None:
    furnish()
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
            elif step[0] == "read":
                token = Path(step[1]).read_text().strip()
                came.append(None)
            else:
                address, method, path, headers = step
                sent = {name: value.replace("TOKEN", token) for name, value in headers.items()}
                came.append(request(port, address, method, path, sent))
    finally:
        code = hub.stop()
    json.dump({"came": came, "code": code}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
