"""What makes a start of the program short: what others load at once is loaded when it is used. Knows packages by name.

Most of a start is imports, and half of those are of things that a hub never touches: the MCP SDK's packages load its
client, its web frameworks and its own server classes with them, pydantic builds the validators of every message of both
protocol eras, and structlog loads rich. Measured, from the start to `tools/list` over stdio and without rich: 0.67 s of
CPU with all of it, 0.58 without the SDK's packages, 0.51 with validators built at their first use too.

Only the program does this (`__main__`): who imports the hub's modules has the packages as they are.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

PACKAGES = ("mcp", "mcp.server")
"""The hub imports from their modules; what their `__init__` gathers from all others it does not need."""
HOMES = {"mcp.server.Server": "mcp.server.lowlevel"}
"""What claude-agent-sdk takes from such a package, and the module that has it: for that alone none is made whole."""


class _OnDemand(ModuleType):
    """A package whose `__init__` runs when somebody asks for what it defines; its modules are imported as ever.

    For one thread: imports of these packages are all in the main one.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:  # asked of any module, by the import system
            raise AttributeError(name)
        if home := HOMES.get(f"{self.__name__}.{name}"):
            return getattr(importlib.import_module(home), name)
        self.__class__ = ModuleType  # pyright: ignore[reportAttributeAccessIssue]
        spec.loader.exec_module(self)
        return getattr(self, name)


def shorten() -> None:
    """Have this process load less, and look for no garbage meanwhile. Called once, before anything of these packages is
    loaded; whoever goes on for longer than a start calls `loaded` then."""
    gc.disable()
    # This program draws nothing with rich; structlog loads it wherever it is installed, for a tenth of a start's time.
    sys.modules.setdefault("rich", None)  # pyright: ignore[reportArgumentType]
    put_off(*PACKAGES)
    from pydantic import BaseModel

    # Which every model takes over; most are never used. One that threads make opts out (`conversation.Part`).
    BaseModel.model_config["defer_build"] = True


def loaded() -> None:
    """Everything is there: from now on garbage in cycles is looked for. What has been loaded is none, and stays."""
    gc.freeze()
    gc.enable()


def put_off(*packages: str) -> None:
    """Have these packages' `__init__` run on demand; a package stands before those in it. Passes over what is not there
    or loaded already."""
    for name in packages:
        parent, _, own = name.rpartition(".")
        if name in sys.modules or (parent and parent not in sys.modules):
            continue
        spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
        if spec is None or spec.submodule_search_locations is None:
            continue
        module = importlib.util.module_from_spec(spec)
        module.__class__ = _OnDemand
        sys.modules[name] = module
        if parent:
            setattr(sys.modules[parent], own, module)
