"""What looks after processes asks: is this one alive, may requests be sent to it? Asks no provider, starts nothing."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from llm_mcp_hub.hub import Hub

STORE_S = 0.5
"""How long a look at the store may take; the answer does not depend on it."""


def alive() -> Response:
    """This process only."""
    return JSONResponse({"status": "alive"})


async def ready(hub: Hub, *, draining: bool) -> Response:
    """200 where an ask would be taken now; else 503, and what stands in its way. A store that is away does not."""
    failing = [
        *(["draining"] if draining else []),
        *([] if hub.usable else ["providers"]),
    ]
    told = {
        "status": "not ready" if failing else "ready",
        "failing": failing,
        "store": "reachable" if await hub.reaches_store(STORE_S) else "degraded",
    }
    return JSONResponse(told, 503 if failing else 200)
