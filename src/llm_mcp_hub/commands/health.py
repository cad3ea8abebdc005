"""`llm-mcp-hub health`: does a hub answer here? For an image's HEALTHCHECK and for other probes that run beside a hub.

It needs no token, so no probe has to be given one: a hub that refuses (401) lives, and no dead one refuses. Another
program that has the port answers too, but without a hub's sign. What it does not tell is whether an ask would be
answered; `GET /health/ready` does.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException

from llm_mcp_hub.serving.sign import PROBED, SIGN, SIGNED
from llm_mcp_hub.settings import Settings

LIMIT_S = 4.0
"""Less than the five seconds that the image gives it: then it says itself what is wrong."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where a hub on all addresses is met


def run(settings: Settings) -> int:
    """Ask the hub at HUB_HOST and HUB_PORT. Returns the exit code: 0 if it answers, 1 if not."""
    host = EVERYWHERE.get(settings.hub_host, settings.hub_host)
    where = f"{host}, port {settings.hub_port}"
    connection = HTTPConnection(host, settings.hub_port, timeout=LIMIT_S)
    try:
        connection.request("GET", PROBED)
        answer = connection.getresponse()
    except (OSError, UnicodeError, HTTPException) as error:  # UnicodeError: a host that is no name
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hangs = isinstance(error, TimeoutError)
        step = "Look at its log, and start it again." if hangs else "Start it with: llm-mcp-hub serve"
        _tell(f"no hub answers at {where} ({why})", step)
        return 1
    finally:
        connection.close()
    if answer.getheader(SIGN) != SIGNED:
        _tell(
            f"what answers at {where}, is no hub ({answer.status})",
            "Stop that program, or give the hub another HUB_PORT.",
        )
        return 1
    print(f"a hub answers at {where} ({answer.status})")
    return 0


def _tell(what: str, action: str) -> None:
    print(f"llm-mcp-hub: {what}\n  {action}", file=sys.stderr)
