#!/bin/sh
# A new Claude token: tried out, saved for every hub of yours, and put into the .env of this folder if there is one.
[ -f .env ] && set -- --write-env .env "$@"
exec env PATH="$(dirname "$0")/../.venv/bin:$PATH" llm-mcp-hub login claude "$@"
