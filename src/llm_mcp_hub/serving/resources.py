"""What clients can read beside the tools: one's conversations, and the status of the logins."""

from __future__ import annotations

import json
import re

import mcp_types as types
from mcp.shared.exceptions import MCPError

from llm_mcp_hub.errors import HubError
from llm_mcp_hub.hub import Hub
from llm_mcp_hub.transcripts import markdown

TOKENS = "hub://tokens"
CONVERSATION = "hub://conversations/{conversation_id}"
_CONVERSATION = re.compile(r"hub://conversations/([A-Za-z0-9_-]{1,100})")
LISTED = 50


async def listed(hub: Hub, principal: str) -> list[types.Resource]:
    """The status of the logins, and the caller's last conversations; without those where the store is away."""
    tokens = types.Resource(uri=TOKENS, name="tokens", title="Status of the logins", mime_type="application/json")
    try:
        conversations = await hub.transcripts.newest(principal, LISTED)
    except HubError:
        conversations = []
    return [
        tokens,
        *(
            types.Resource(
                uri=CONVERSATION.format(conversation_id=head.conversation_id),
                name=head.conversation_id,
                title=head.title,
                description=f"{head.turns} turns, last {head.updated_at}",
                mime_type="text/markdown",
            )
            for head in conversations
        ),
    ]


def templates() -> list[types.ResourceTemplate]:
    """How a conversation is addressed."""
    return [
        types.ResourceTemplate(
            uri_template=CONVERSATION, name="conversation", title="A conversation", mime_type="text/markdown"
        )
    ]


async def read(hub: Hub, principal: str, uri: str) -> types.ReadResourceResult:
    """One resource. Raises MCPError: -32602 for one that is not there, -32603 when it cannot be read now."""
    if uri == TOKENS:
        status = {name: known.model_dump(mode="json") for name, known in (await hub.token_status()).items()}
        return _contents(uri, "application/json", json.dumps(status, indent=2))
    named = _CONVERSATION.fullmatch(uri)
    if named is None:
        raise MCPError(code=types.INVALID_PARAMS, message="Resource not found")
    try:
        head, turns = await hub.transcripts.get(principal, named[1])
    except HubError as error:
        if error.code == "not_found":
            raise MCPError(code=types.INVALID_PARAMS, message="Resource not found") from None
        raise MCPError(code=types.INTERNAL_ERROR, message=f"{error.code}: {error.message} {error.action}") from None
    return _contents(uri, "text/markdown", markdown(head, turns))


def _contents(uri: str, mime_type: str, text: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)])
