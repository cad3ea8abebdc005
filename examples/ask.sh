#!/usr/bin/env bash
# The hub over HTTP with curl alone: is it well, how are the logins, one ask, and what an error looks like.
#
#   ./ask.sh gemini "What is a pseudo-terminal?"
#   LLM_HUB_URL=http://127.0.0.1:8000 LLM_HUB_TOKEN_FILE=laptop.token ./ask.sh claude "What is a pseudo-terminal?"
#
# Needs bash, curl (7.76 or newer) and python3, for JSON. In the protocol's era 2026-07-28 a call is one POST; in the older
# one it would be three, with a session to keep. The answer goes to stdout, the rest to stderr.
# Exit codes: 0 an answer, 1 the ask has failed, 2 wrong words, 22 the hub refuses the request, 7 there is no hub.
set -euo pipefail

hub=${LLM_HUB_URL:-http://127.0.0.1:8000}
era=2026-07-28

say() { printf '%s\n' "$*" >&2; }

# The token reaches curl by a pipe: on the command line every user of the machine could read it.
token() {
    if [ -n "${LLM_HUB_TOKEN_FILE:-}" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$(<"$LLM_HUB_TOKEN_FILE")"
    fi
}

# request PATH [options of curl]: the body on stdout; or what is wrong on stderr, and curl's exit code.
request() {
    local path=$1 body code=0
    shift
    body=$(curl --silent --show-error --fail-with-body --config <(token) "$@" "$hub$path") || code=$?
    case $code in
    0) printf '%s\n' "$body" ;;
    7) say "Next: start the hub (llm-mcp-hub serve), or set LLM_HUB_URL to where it is." ;;
    *) say "$body" ;;
    esac
    return $code
}

# call TOOL < ARGUMENTS: a tool's result. It comes as a stream of events, of which the last one is the result.
call() {
    python3 -c '
import json, sys
about = {"protocolVersion": sys.argv[1], "clientInfo": {"name": "ask.sh", "version": "1"}, "clientCapabilities": {}}
meta = {f"io.modelcontextprotocol/{name}": value for name, value in about.items()}
params = {"name": sys.argv[2], "arguments": json.load(sys.stdin), "_meta": meta}
print(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
' "$era" "$1" | request /mcp --data-binary @- \
        --header "Content-Type: application/json" --header "Accept: application/json, text/event-stream" \
        --header "MCP-Protocol-Version: $era" --header "Mcp-Method: tools/call" --header "Mcp-Name: $1" |
        sed -n -e 's/^data: \(..*\)/\1/p' -e '/^{/p' | tail -n 1
}

# show < RESULT: the answer, and a line about it on stderr; or the error as its data tells it, and exit code 1.
show() {
    python3 -c '
import json, sys
text = sys.stdin.read().strip()
if not text:  # what the hub or curl had to say stands on stderr
    sys.exit()
reply = json.loads(text)
if "error" in reply:  # no call of a tool at all
    sys.exit(reply["error"]["message"])
result = reply["result"]
error = result["_meta"].get("llm-mcp-hub/error")
if error:
    sys.exit("{code}: {message}\nNext: {action}".format(**error))
answer, about = result["content"]
print(answer["text"])
print(about["text"], file=sys.stderr)
'
}

if [ $# -ne 2 ]; then
    say "usage: $0 claude|gemini QUESTION"
    exit 2
fi
# curl would take a second line for an option, and show what it does not know.
if [ -n "${LLM_HUB_TOKEN_FILE:-}" ] && ! [[ $(<"$LLM_HUB_TOKEN_FILE") =~ ^[A-Za-z0-9._~+/=-]+$ ]]; then
    say "$LLM_HUB_TOKEN_FILE holds no token: one line without blanks."
    exit 2
fi

say "--- is it alive, would it take an ask, how are the logins? (each fit for a monitor)"
request /health/live >&2
request /health/ready >&2 || say "(not ready: the body says why)"
request /health/tokens | python3 -m json.tool >&2

say "--- an error is a result too, with a code and one next step; this one costs nothing"
printf '{"prompt": "hello", "model": "no-such-model"}' | call "ask_$1" | show || say "(exit code $?)"

say "--- the answer; wait_s: this call waits for it, and gets no ticket for ask_result"
printf '%s' "$2" |
    python3 -c 'import json, sys; print(json.dumps({"prompt": sys.stdin.read(), "wait_s": 3600}))' |
    call "ask_$1" | show
