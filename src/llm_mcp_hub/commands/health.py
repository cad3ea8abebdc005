"""`llm-mcp-hub health`: does a hub answer here? For an image's HEALTHCHECK and for other probes that run beside a hub.

It needs no token, so no probe has to be given one: a hub that refuses (401) lives, and no dead one refuses. What it
does not tell is whether an ask would be answered; `GET /health/ready` does.
"""

from __future__ import annotations

import sys
from http.client import NOT_FOUND, HTTPConnection, HTTPException

from llm_mcp_hub.settings import Settings

LIMIT_S = 4.0
"""Less than the five seconds that the image gives it: then it says itself what is wrong."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where a hub on all addresses is met


def run(settings: Settings) -> int:
    """Ask the hub at HUB_HOST and HUB_PORT. Returns the exit code: 0 if it answers, 1 if not."""
    host = EVERYWHERE.get(settings.hub_host, settings.hub_host)
    connection = HTTPConnection(host, settings.hub_port, timeout=LIMIT_S)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print(f"llm-mcp-hub: no hub answers at {host}, port {settings.hub_port} ({why})", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status == NOT_FOUND:  # by whatever else has this port: every hub has that route
        print(f"llm-mcp-hub: what answers at {host}, port {settings.hub_port}, is no hub", file=sys.stderr)
        return 1
    print(f"a hub answers at {host}, port {settings.hub_port} ({status})")
    return 0
