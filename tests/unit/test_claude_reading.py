"""What becomes of an ask whose CLI says something that the SDK takes apart wrongly."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from claude_agent_sdk import ClaudeSDKError
from claude_agent_sdk._internal.message_parser import parse_message

from llm_mcp_hub.providers.claude import messages_of

pytestmark = pytest.mark.anyio


class Client:
    """The SDK's client as far as it is read: its own parser, on these messages."""

    def __init__(self, *said: Any) -> None:
        self._said = said

    async def receive_response(self) -> AsyncGenerator[Any]:
        for raw in self._said:
            yield parse_message(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "assistant", "message": 5},
        {"type": "assistant", "message": []},
        {"type": "rate_limit_event", "rate_limit_info": "x"},
    ],
    ids=["a number for a message", "a list for a message", "a text for limits"],
)
async def test_a_message_of_the_wrong_kinds_is_an_error_of_the_cli(raw: Any) -> None:
    """The SDK raises whatever Python does; the ask must end as `upstream_error`, not as a fault of the hub."""
    with pytest.raises(ClaudeSDKError):
        async for _ in messages_of(cast("Any", Client(raw))):
            pass
