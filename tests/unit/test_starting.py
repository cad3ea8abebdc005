"""What makes the program's start short changes nothing but when things are loaded. In processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

BEGIN = "import sys; from llm_mcp_hub import starting; starting.shorten()\n"


def after(program: str, begin: str = BEGIN, words: Sequence[str] = ()) -> str:
    """What this prints in a process that has begun as the program does."""
    ran = subprocess.run(
        [sys.executable, "-c", begin + program, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_what_serves_is_there_without_the_sdks_client_and_its_own_server_classes() -> None:
    """They, httpx and rich are half of what the packages would load."""
    loaded = after(
        "import llm_mcp_hub.main, llm_mcp_hub.serving.server, llm_mcp_hub.serving.stdio, llm_mcp_hub.serving.http\n"
        "print(*sys.modules)"
    ).split()

    assert {"mcp", "mcp.server", "mcp.server.lowlevel.server", "mcp_types"} <= set(loaded)
    assert not {"mcp.client", "mcp.client.session", "mcp.server.mcpserver", "httpx2"} & set(loaded)


@pytest.mark.parametrize(
    "program",
    [
        "import mcp; print(mcp.ClientSession.__name__, mcp.server.MCPServer.__name__)",
        "from mcp import ClientSession as a; from mcp.server import MCPServer as b; print(a.__name__, b.__name__)",
        "from mcp.server import MCPServer as b; from mcp import ClientSession as a; print(a.__name__, b.__name__)",
        "import mcp.server.lowlevel.server as one; from mcp.server import Server, MCPServer; import mcp\n"
        "assert Server is one.Server; print(mcp.ClientSession.__name__, MCPServer.__name__)",
        "import mcp, mcp.server.mcpserver as own; print(mcp.ClientSession.__name__, own.MCPServer.__name__)",
    ],
)
def test_a_package_that_was_put_off_is_whole_for_who_asks_for_more(program: str) -> None:
    """Other packages import from it, and need not know."""
    assert after(program) == "ClientSession MCPServer"


def test_the_claude_sdk_finds_all_it_needs_and_makes_nothing_whole() -> None:
    """It wants the server class of the package, which is that of the module."""
    program = (
        "import claude_agent_sdk, sys, mcp.server, mcp.server.lowlevel\n"
        "assert mcp.server.Server is mcp.server.lowlevel.Server\n"
        "print(claude_agent_sdk.ClaudeSDKClient.__name__, 'mcp.server.mcpserver' in sys.modules)"
    )

    assert after(program).split() == ["ClaudeSDKClient", "False"]


def test_what_a_package_has_not_is_an_error_as_ever() -> None:
    """Before it is whole, and after."""
    program = (
        "import mcp\n"
        "for name in ('NoSuchThing', 'NoSuchThing', '__no_such_thing__'):\n"
        "    try: getattr(mcp, name)\n"
        "    except AttributeError: print('none')\n"
        "try: from mcp.server import NoSuchThing\n"
        "except ImportError: print('none')"
    )

    assert after(program).split() == ["none"] * 4


def test_what_is_loaded_already_or_not_there_is_left_alone() -> None:
    """A program that has begun otherwise keeps what it has."""
    program = (
        "import mcp.server; before = mcp.server\n"
        "from llm_mcp_hub import starting; starting.put_off('mcp', 'mcp.server', 'no_such_package', 'no_such.part')\n"
        "import sys; print(sys.modules['mcp.server'] is before, 'no_such_package' in sys.modules)"
    )

    assert after(program, "") == "True False"


def test_models_are_built_when_they_are_used_and_hold_what_they_held() -> None:
    """Strict types, unknown fields and what they refer to, whichever is used first; but for what threads make."""
    program = (
        "import mcp_types; from llm_mcp_hub.conversation import Billing, Part\n"
        "print(mcp_types.Tool.__pydantic_complete__, Billing.__pydantic_complete__, Part.__pydantic_complete__)\n"
        "tool = mcp_types.Tool.model_validate({'name': 'one', 'inputSchema': {'type': 'object'}})\n"
        "print(tool.name, mcp_types.Tool.__pydantic_complete__)\n"
        "from pydantic import ValidationError\n"
        "try: mcp_types.Tool.model_validate({'name': 1})\n"
        "except ValidationError as error: print(error.error_count())"
    )

    assert after(program).split() == ["False", "False", "True", "one", "True", "2"]


def test_garbage_is_looked_for_again_once_there_is_a_server(tmp_path: Path) -> None:
    """A start makes none; a hub that goes on for days does."""
    program = (
        "import asyncio, gc\n"
        "from llm_mcp_hub import main\n"
        "from llm_mcp_hub.settings import load\n"
        "async def serve():\n"
        "    settings = load(around={'HUB_STATE_DIR': sys.argv[1]})\n"
        "    async with main.build_hub(settings) as hub:\n"
        "        print(gc.isenabled(), end=' ')\n"
        "        main.build_server(hub, settings)\n"
        "        print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "asyncio.run(serve())"
    )

    assert after(program, words=[str(tmp_path / "state")]) == "False True True"


def test_a_command_that_ends_looks_through_nothing_once_more() -> None:
    """Python would, at its end, through all that was loaded: a fifth of what `status` takes."""
    program = "import gc\nfrom llm_mcp_hub.__main__ import main\nmain()\nprint(gc.get_freeze_count() > 10_000)"

    assert after(program, begin="import sys\n", words=["status"]).splitlines()[-1] == "True"
