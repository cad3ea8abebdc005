"""A hub like any other, but for its patience: what would take minutes to be seen takes seconds."""

from __future__ import annotations

import sys

from llm_mcp_hub import cli
from llm_mcp_hub.serving import bodies, connections, http, limits

HEAD_S, IDLE_S, QUIET_S, WHOLE_S, STALL_S = 3.0, 6.0, 3.0, 6.0, 3.0
FAILURES = 12
SESSIONS = 40

if __name__ == "__main__":
    connections.HEAD_S, connections.IDLE_S, connections.STALL_S = HEAD_S, IDLE_S, STALL_S
    bodies.QUIET_S, bodies.WHOLE_S = QUIET_S, WHOLE_S
    http.MAX_SESSIONS = SESSIONS
    limits.FAILURES_PER_MINUTE = FAILURES
    raise SystemExit(cli.main(sys.argv[1:]))
