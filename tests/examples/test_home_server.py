"""The walk of `examples/home-server.md` as it is written: the real hub and CLIs, the real ssh, two made-up machines."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.examples import systemctl
from tests.examples.machines import Machine, Sshd, free_port, furnish
from tests.harness import DEADLINE_S, ROOT, answer_of, make_world
from tests.upstreams import anthropic

WALK = ROOT / "examples" / "home-server.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SLOW_SAYS = "An answer from while the laptop slept."


def blocks(language: str) -> list[tuple[str, str]]:
    """The heading and the text of each block of the walk in one language."""
    sections = re.split(r"^## ", WALK.read_text("utf-8"), flags=re.MULTILINE)
    return [
        (section.splitlines()[0], body)
        for section in sections
        for kind, body in BLOCK.findall(section)
        if kind == language
    ]


class Walk:
    """Both machines, and a checkout at each whose ports are free ones: here both machines are one."""

    def __init__(self, folder: Path, world: Any) -> None:
        self.ports = {"home": free_port(), "laptop": free_port()}
        self.home, self.laptop = Machine(world.home), Machine(folder / "laptop")
        furnish(self.home, world, self.ports["home"])
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        shutil.copytree(ROOT / "examples", self.checkout / "examples", ignore=shutil.ignore_patterns("node_modules"))
        tunnel = self.checkout / "examples" / "systemd" / "llm-hub-tunnel.service"
        text = tunnel.read_text("utf-8")
        tunnel.write_text(self.with_ports(text.replace("/usr/bin/ssh ", f"{self.laptop.programs}/ssh "), "laptop"))
        self.token_file = self.laptop.home / ".config" / "llm-mcp-hub" / "laptop.token"

    def with_ports(self, text: str, machine: str) -> str:
        """The same with the ports that there are."""
        text = text.replace(":8000:127.0.0.1:8000", f":{self.ports['laptop']}:127.0.0.1:{self.ports['home']}")
        return text.replace("8000", str(self.ports[machine]))

    def take(self, number: int) -> subprocess.CompletedProcess[str]:
        """One block, on the machine that its heading names. It must end well."""
        heading, script = blocks("bash")[number]
        machine = "home" if heading == "At home" else "laptop"
        where = self.home if machine == "home" else self.laptop
        around = {**where.environment, "LLM_HUB_URL": f"http://127.0.0.1:{self.ports[machine]}"}
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", self.with_ports(script, machine)],
            cwd=self.checkout,
            env=around,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def status(self, token: str, machine: str = "laptop") -> int:
        """What the hub says to who comes with this token, at the laptop's end of the tunnel or at home."""
        url = f"http://127.0.0.1:{self.ports[machine]}/health/ready"
        return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=DEADLINE_S).status_code

    def configured(self) -> str:
        """The token that Claude Code has for the hub."""
        [server] = json.loads((self.laptop.home / ".claude.json").read_text("utf-8"))["mcpServers"].values()
        assert server["url"] == f"http://127.0.0.1:{self.ports['laptop']}/mcp"
        return server["headers"]["Authorization"].removeprefix("Bearer ")

    def call(self, tool: str, **arguments: Any) -> Any:
        """One call through the tunnel, by a client that then goes away."""

        async def work() -> Any:
            headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
            async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
                way = streamable_http_client(f"http://127.0.0.1:{self.ports['laptop']}/mcp", http_client=http)
                async with Client(way) as client:
                    return await client.call_tool(tool, arguments)

        return asyncio.run(work())

    def until_the_tunnel_is_there(self) -> None:
        """Or fail."""
        url = f"http://127.0.0.1:{self.ports['laptop']}/health/live"
        words = ["curl", "--retry", "20", "--retry-connrefused", "--silent", url]
        subprocess.run(words, capture_output=True, timeout=DEADLINE_S, check=True)


@pytest.fixture
def walk(tmp_path: Path) -> Generator[tuple[Walk, Any]]:
    with make_world(tmp_path / "world") as world:
        made = Walk(tmp_path, world)
        [(_, allowed)] = blocks("text")
        options = made.with_ports(allowed, "home").split(" ssh-ed25519")[0]
        with Sshd(made.home, made.laptop, options):
            try:
                yield made, world
            finally:
                made.laptop.shut_down()
                made.home.shut_down()
        assert world.surprises == []
        world.wait_until_no_child()


def test_the_walk_goes_as_it_is_written(walk: tuple[Walk, Any]) -> None:
    """From two bare machines to an ask through the tunnel, over a night's sleep, a new token, and the end of it."""
    taken, world = walk
    at_home, token, by_hand, for_good, installed, rotation, revocation = range(len(blocks("bash")))

    assert '"status":"ready"' in taken.take(at_home).stdout
    assert "laptop has a new token" in taken.take(token).stderr
    assert taken.token_file.stat().st_mode & 0o077 == 0
    first = taken.token_file.read_text().strip()
    assert taken.status("nobody", "home") == 401  # from the first client on nobody comes in without a token
    assert taken.take(by_hand).stdout.endswith("Hello from the stand-in of Claude.\n")

    taken.take(for_good)
    taken.until_the_tunnel_is_there()
    gate = threading.Event()
    world.claude.default = anthropic.Answer(SLOW_SAYS, gate=gate)
    ticket = answer_of(taken.call("ask_claude", prompt="At length, please.", wait_s=0))
    assert ticket["status"] == "working"
    for name in ("stop", "start"):  # what ServerAlive* and Restart= make of a connection that has died
        getattr(systemctl, name)(taken.laptop.home, "llm-hub-tunnel")
        gate.set()
    taken.until_the_tunnel_is_there()
    assert answer_of(taken.call("ask_result", ask_id=ticket["ask_id"]))["text"] == SLOW_SAYS

    taken.take(installed)
    assert taken.configured() == first
    taken.take(rotation)
    second = taken.token_file.read_text().strip()
    assert taken.configured() == second
    assert [taken.status(each) for each in (first, second)] == [401, 200]
    taken.take(revocation)
    assert taken.status(second) == 401


def test_the_laptops_key_opens_this_one_port(walk: tuple[Walk, Any]) -> None:
    """What stands before it in `authorized_keys` is understood as it is meant: through another port nothing comes."""
    taken, world = walk
    other = free_port()
    words = f"ssh -N -o ExitOnForwardFailure=yes -L 127.0.0.1:{other}:127.0.0.1:{world.claude.port} home"
    with subprocess.Popen(
        ["bash", "-c", f"exec {words}"], env=taken.laptop.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{other}/"
            done = subprocess.run(
                ["curl", "--retry", "20", "--retry-connrefused", "--silent", url],
                capture_output=True,
                timeout=DEADLINE_S,
                check=False,
            )
        finally:
            process.terminate()
            try:
                _, said = process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:  # seen: a signal that comes just before ssh waits is never looked at
                process.kill()
                _, said = process.communicate()

    assert done.returncode != 0
    assert "administratively prohibited" in said or "open failed" in said, said
