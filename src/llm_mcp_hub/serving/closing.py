"""The end of a hub that has no more callers, within a bound: a store that lets it wait keeps no process here."""

from __future__ import annotations

import asyncio

import structlog

from llm_mcp_hub.hub import Hub

log = structlog.stdlib.get_logger("llm_mcp_hub.closing")


async def closed(hub: Hub, *beside: asyncio.Task[None], within_s: float) -> None:
    """Let the hub end once these tasks have, and after `within_s` at the latest its children. Tells of a failure."""
    limit = asyncio.timeout(within_s)
    try:
        try:
            async with limit:
                await asyncio.gather(*beside, return_exceptions=True)
                await hub.close()
        finally:
            hub.kill()
    except Exception as error:
        if limit.expired() and isinstance(error, TimeoutError):
            log.warning("the hub was ended before it was done: what its last asks ended with may not be written down")
        else:
            log.exception("the hub did not end as it should", exc_info=error)
