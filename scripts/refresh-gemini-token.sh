#!/bin/sh
# A new Google login for Gemini: tried out, and saved for every hub of yours. No restart is needed.
exec env PATH="$(dirname "$0")/../.venv/bin:$PATH" llm-mcp-hub login gemini "$@"
