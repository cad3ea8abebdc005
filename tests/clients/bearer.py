"""A proxy on loopback that puts a client's token before each request: the conformance suite has no way to send one."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from tests.upstreams.loopback import LoopbackServer, Received

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class WithToken(LoopbackServer):
    """Hands on everything else as it came, streams as streams."""

    def __init__(self, target: str, token: str) -> None:
        super().__init__(self._hand_on)
        self._target = target
        self._token = token

    async def _hand_on(self, request: web.Request, received: Received) -> web.StreamResponse:
        kept = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers = {**kept, "Authorization": f"Bearer {self._token}"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, self._target + request.path_qs, headers=headers, data=received.body) as got,
        ):
            told = {name: value for name, value in got.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=got.status, headers=told)
            await response.prepare(request)
            async for piece in got.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response
