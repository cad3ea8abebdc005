"""Every failure a user can meet, as one tree. It knows codes and sentences, and nothing of how they come about.

    HubError
    ├── the caller can mend it
    │   ├── InvalidRequest      invalid_request
    │   ├── Refused             refused            the model declined to answer
    │   ├── Busy                busy
    │   ├── Cancelled           cancelled
    │   └── NotFound            not_found
    ├── a credential or an account is at fault
    │   ├── AuthMissing         auth_missing
    │   ├── AuthExpired         auth_expired       the login has ended and must be made again
    │   ├── AuthRejected        auth_rejected      the provider refused a credential that looks alive
    │   ├── PermissionDenied    permission_denied
    │   └── AccountIneligible   account_ineligible
    ├── the provider is at fault, or full
    │   ├── QuotaExhausted      quota_exhausted    the subscription's own limit, until it resets
    │   ├── RateLimited         rate_limited       too fast for the moment
    │   ├── ModelUnavailable    model_unavailable
    │   ├── Timeout             timeout
    │   └── UpstreamError       upstream_error
    └── the hub or its surroundings are at fault
        ├── CliMissing          cli_missing
        ├── BillingBlocked      billing_blocked    something other than the subscription might have paid
        ├── Misconfigured       misconfigured
        ├── StoreUnavailable    store_unavailable
        └── Internal            internal

Each error has one message (what happened) and one action (the next step, a command where there is one).
Neither ever holds a token or prompt text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Shows = Literal["refused", "unreachable", "accepted"]


class HubError(Exception):
    """Something a caller is told as a code, a sentence and one next step.

    Attributes:
        message: what happened, one or two sentences.
        action: the one next step, a command where there is one.
        provider: its name in the provider table, or None when no provider is involved.
        retry_after_s: seconds until a new try makes sense, None when unknown.
        partial_text: text that had arrived before the failure; never shown inside the message.
        ask_id: the ask that failed, once there is one.
        retryable: whether the same ask may succeed later; the kind's own unless given.
        transient: whether the hub may submit the ask again at once, as long as no text has come.
        only_model: whether a limit counts for the asked model alone, not for the whole account.
        shows: what the failure says of the login: `refused`: the provider itself does not take it, or not this
            account; `unreachable`: the provider could not be asked; `accepted`: it knows the login, and something else
            is in the way. None: nothing. The kind's own unless given.
    """

    code: ClassVar[str] = "internal"
    retryable: bool = False
    shows: Shows | None = None

    def __init__(
        self,
        message: str,
        *,
        action: str,
        provider: str | None = None,
        retry_after_s: float | None = None,
        partial_text: str | None = None,
        ask_id: str | None = None,
        retryable: bool | None = None,
        transient: bool = False,
        only_model: bool = False,
        shows: Shows | None = None,
    ) -> None:
        super().__init__(message)
        self.message = encodable(message)
        self.action = encodable(action)
        self.provider = provider
        self.retry_after_s = retry_after_s
        self.partial_text = partial_text
        self.ask_id = ask_id
        if retryable is not None:
            self.retryable = retryable
        self.transient = transient
        self.only_model = only_model
        if shows is not None:
            self.shows = shows

    def details(self) -> dict[str, Any]:
        """The error as a program reads it: the shape of `_meta["llm-mcp-hub/error"]`."""
        return {
            "code": self.code,
            "message": self.message,
            "action": self.action,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
            "provider": self.provider,
            "ask_id": self.ask_id,
            "partial_text": self.partial_text,
        }


def encodable(text: str) -> str:
    """Half a character, of a program's words or of a file's name, would keep the error from being written down."""
    return text.encode(errors="replace").decode()


class InvalidRequest(HubError):
    """The request cannot be sent as it is."""

    code = "invalid_request"


class Refused(HubError):
    """The model declined to answer."""

    code = "refused"


class Busy(HubError):
    """All places are taken."""

    code = "busy"
    retryable = True


class Cancelled(HubError):
    """The ask was cancelled by its caller."""

    code = "cancelled"


class NotFound(HubError):
    """No such thing, or it belongs to somebody else."""

    code = "not_found"


class AuthMissing(HubError):
    """There is no login for this provider."""

    code = "auth_missing"


class AuthExpired(HubError):
    """The login has ended and must be made again."""

    code = "auth_expired"
    shows = "refused"


class AuthRejected(HubError):
    """The provider refused the credential."""

    code = "auth_rejected"
    shows = "refused"


class PermissionDenied(HubError):
    """The account is known, and not allowed to do this."""

    code = "permission_denied"
    shows = "refused"


class AccountIneligible(HubError):
    """The login works, but the provider no longer serves this kind of account through its CLI."""

    code = "account_ineligible"
    shows = "refused"


class QuotaExhausted(HubError):
    """The subscription's own limit is used up until it resets."""

    code = "quota_exhausted"
    retryable = True
    shows = "accepted"


class RateLimited(HubError):
    """Too many requests for the moment; the subscription's limit is not the reason."""

    code = "rate_limited"
    retryable = True


class ModelUnavailable(HubError):
    """The provider does not offer this model now."""

    code = "model_unavailable"


class Timeout(HubError):
    """The answer did not come in time."""

    code = "timeout"
    retryable = True


class UpstreamError(HubError):
    """The provider, or the way to it, failed."""

    code = "upstream_error"
    retryable = True


class CliMissing(HubError):
    """A program that the hub drives is not installed, or too old."""

    code = "cli_missing"


class BillingBlocked(HubError):
    """Something other than the subscription might have paid, so nothing was sent."""

    code = "billing_blocked"


class Misconfigured(HubError):
    """A setting, a file or the machine must be mended first."""

    code = "misconfigured"


class StoreUnavailable(HubError):
    """The hub's shared memory cannot be reached."""

    code = "store_unavailable"
    retryable = True


class Internal(HubError):
    """A fault of the hub itself; its log says more."""

    code = "internal"


CODES = tuple(sorted(kind.code for kind in HubError.__subclasses__()))
"""Every code that there is."""


def from_details(details: Mapping[str, Any]) -> HubError:
    """The error that `details()` described: one that was written down is told again in the same words."""
    kinds = {kind.code: kind for kind in HubError.__subclasses__()}
    return kinds.get(str(details.get("code")), Internal)(
        str(details.get("message", "")),
        action=str(details.get("action", "")),
        provider=details.get("provider"),
        retry_after_s=details.get("retry_after_s"),
        partial_text=details.get("partial_text"),
        ask_id=details.get("ask_id"),
        retryable=details.get("retryable"),
    )
