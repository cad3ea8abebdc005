"""An alert as a signed HTTP request, in the background. Knows HTTP and the signature, and no store and no login.

The body has `text` and `content`, which Slack and Discord show, beside the alert's own fields. The signature is that of
Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`. The address may be a secret itself (Slack's are), so no line
of the log shows more of it than its host.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence

import httpx2
import structlog

from llm_mcp_hub.credentials.alerts import Alert
from llm_mcp_hub.errors import Misconfigured

TRY_S = 10.0
PAUSES_S = (1.0, 5.0)
"""Between the tries: there are three."""
CLOSE_S = 5.0
KEY_BYTES = 16
PREFIX = "whsec_"
PASSING = frozenset({408, 425, 429})
"""With 5xx, what a second try may mend. A redirect or a refusal it will not."""
log = structlog.stdlib.get_logger("llm_mcp_hub.webhook")


class Webhook:
    """A sink of alerts; see `alerts.Sink`."""

    def __init__(
        self,
        url: str,
        secret: str | None = None,
        *,
        try_s: float = TRY_S,
        pauses_s: Sequence[float] = PAUSES_S,
        close_s: float = CLOSE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            url: https, or http on loopback; the settings have seen to that.
            secret: text as it is, or base64 after `whsec_`; without one nothing is signed.
            try_s: how long one try may take, whatever the other side does.
            pauses_s: seconds between the tries, of which there is one more.
            close_s: how long `close` waits for what is on its way.
            clock: seconds since 1970.

        Raises Misconfigured for a secret that is no base64 after `whsec_`, or too short, and for an address that the
        HTTP client does not take.
        """
        try:
            self._url = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError):
            raise Misconfigured(
                "HUB_ALERT_WEBHOOK_URL is no address that can be called.",
                action="Copy the address from your receiver once more: HUB_ALERT_WEBHOOK_URL.",
            ) from None  # what complains of it may quote it
        self._key = None if secret is None else key_of(secret)
        self._try_s = try_s
        self._pauses_s = tuple(pauses_s)
        self._close_s = close_s
        self._clock = clock
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, alert: Alert) -> None:
        """Begin to deliver it; returns at once."""
        task = asyncio.get_running_loop().create_task(self._deliver(alert))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Wait for what is on its way, then let go of the rest."""
        sending = list(self._sending)
        if not sending:
            return
        await asyncio.wait(sending, timeout=self._close_s)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    async def _deliver(self, alert: Alert) -> None:
        tries = len(self._pauses_s) + 1
        reason = ""
        done = 0
        try:
            # http is loopback, and must not leave the machine by a proxy.
            proxied = self._url.scheme == "https"
            async with httpx2.AsyncClient(follow_redirects=False, trust_env=proxied, timeout=None) as client:
                for pause in (*self._pauses_s, None):
                    done += 1
                    status, failure = await self._try(client, alert)
                    if status is not None and 200 <= status < 300:
                        return
                    reason = failure or f"answered {status}"
                    again = status is None or status >= 500 or status in PASSING
                    if not again or pause is None:
                        break
                    await asyncio.sleep(pause)
        except asyncio.CancelledError:
            self._lost(alert, "the hub ends", done, tries)
            raise
        except Exception as error:
            reason = type(error).__name__
        self._lost(alert, reason, done, tries)

    async def _try(self, client: httpx2.AsyncClient, alert: Alert) -> tuple[int | None, str | None]:
        """The answer's status, or what came instead of one. The answer's body is not read."""
        body = body_of(alert)
        headers = {"content-type": "application/json", "user-agent": "llm-mcp-hub"}
        headers |= signed(alert.id, int(self._clock()), body, self._key)
        try:
            # Not the client's own time-outs: they begin anew with every byte.
            async with (
                asyncio.timeout(self._try_s),
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                return answer.status_code, None
        except TimeoutError:
            return None, f"no answer within {self._try_s:g} s"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return None, type(error).__name__

    def _lost(self, alert: Alert, reason: str, done: int, tries: int) -> None:
        log.warning(
            "alert not delivered",
            host=self._url.host,
            provider=alert.provider,
            status=alert.status,
            reason=reason,
            tries=f"{done} of {tries}",
        )


def body_of(alert: Alert) -> bytes:
    """The request's body: the same bytes for every try, because they are what is signed."""
    told = {"text": alert.text, "content": alert.text, **alert.model_dump(mode="json")}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def key_of(secret: str) -> bytes:
    """The key that signs. Raises Misconfigured."""
    if not secret.startswith(PREFIX):
        return secret.encode("utf-8", "surrogatepass")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < KEY_BYTES:
        raise Misconfigured(
            f"HUB_ALERT_WEBHOOK_SECRET begins with {PREFIX} and is not base64 of {KEY_BYTES} bytes or more after it.",
            action="Set it to the secret as your receiver shows it, or to any text of 16 characters or more.",
        )
    return key


def signed(message_id: str, timestamp: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of Standard Webhooks; without a key there is no signature among them."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if key is not None:
        digest = hmac.new(key, b".".join((message_id.encode(), str(timestamp).encode(), body)), hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
