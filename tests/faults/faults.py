"""The list: every fault of the five groups, and which of them strike the same hub."""

from __future__ import annotations

from itertools import groupby

from tests.faults import child, credential, host, over_http, store
from tests.faults.table import Fault

STAGES = ("plain", "guarded", "redis", "disk", "troubled")


def _hub(fault: Fault) -> tuple[int, str]:
    # Of the plain ones each group has its own: they are most of all.
    return STAGES.index(fault.stage), fault.group if fault.stage == "plain" else ""


FAULTS: list[Fault] = sorted(
    [*child.FAULTS, *credential.FAULTS, *store.FAULTS, *over_http.FAULTS, *host.FAULTS], key=_hub
)


def by_hub(faults: list[Fault]) -> list[tuple[str, list[Fault]]]:
    """These, hub by hub: the kind of the hub, and what strikes it, one after the other."""
    return [(STAGES[kind], list(own)) for (kind, _), own in groupby(faults, key=_hub)]
