"""What is held of a login, and what is known of it: the values that a status is made of. Pure.

What is **held** is what a reader found now: a form, perhaps a clock. What is **known** is what asks have shown of that
very login, here or at another hub: that it worked, that it was accepted though no answer came of it, that it was
refused, that nobody could be asked. Known things merge in any order to the same whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from llm_mcp_hub.conversation import Noun, QuotaWindow, Seconds
from llm_mcp_hub.credentials.status import Credential, Level
from llm_mcp_hub.errors import HubError


@dataclass(frozen=True, slots=True)
class Held:
    """A login as a reader found it now.

    Attributes:
        name: what people call it, as the beginning of a sentence: `The setup-token`.
        credential: which one it is; None where there is none at all.
        source: where it was found: a variable's name, or a path.
        renew: the one next step when it has ended or is refused.
        secret: what an ask needs; never shown.
        mark: names the login without telling it; empty where there is none that may be used.
        problem: why it may not be used.
        level: what the reader could see of it.
        lifetime: how long such a login lives from its making; None where that is not known.
        issued: when it was made, and how much later it may have been (a day without an hour says little).
        issued_by: where this stands: `ledger` if the hub made the login, else the operator's setting.
        since: when the file that it is in was written, seconds since 1970: of two logins nobody has seen before, the
            later one is the newer.
        undated: what to say of its end as long as nothing is known of it, and the next step if one helps.
        note: what else is to be told, a sentence.
        setting: settings that the provider's answer hangs on beside the login; a refusal under others says nothing.
        account: names whose login it is, without telling it; empty where that is not known.
        firm: whether a problem with it is told at once, even where another login could be used.
    """

    name: str
    credential: Credential | None
    source: str
    renew: str
    secret: str = field(default="", repr=False)
    mark: str = ""
    problem: HubError | None = None
    level: Level = "well_formed"
    lifetime: timedelta | None = None
    issued: tuple[datetime, timedelta] | None = None
    issued_by: str = ""
    since: float = 0.0
    undated: tuple[str, str] = ("", "")
    note: str = ""
    setting: str = ""
    account: str = ""
    firm: bool = False

    def secrets(self) -> list[str]:
        """The values that must never be seen: the secret, or every long one in it where it is an object of several."""
        try:
            held: object = json.loads(self.secret)
        except (ValueError, RecursionError):
            held = None
        if not isinstance(held, dict):
            return [self.secret]
        values = cast("dict[str, object]", held).items()
        return [value for name, value in values if isinstance(value, str) and "token" in name and len(value) > 12]


class Reading(Noun):
    """What one ask has shown of a login. `code`, `message` and `action` are the error's, if it was one."""

    at: Seconds
    """Seconds since 1970, by a clock that never goes back on one store."""
    code: str = ""
    message: str = ""
    action: str = ""
    setting: str = ""


class Lasted(Noun):
    """How long one login of an account has lived, in seconds. `exact`: its beginning was seen."""

    seconds: Seconds
    exact: bool


class Known(Noun):
    """All that asks have shown of one login. `merged` joins two of these."""

    success: Reading | None = None
    accepted: Reading | None = None
    """The provider has counted an ask of it against its quota, and answered nothing."""
    refusal: Reading | None = None
    trouble: Reading | None = None
    """The provider could not be asked."""
    issued_at: Seconds | None = None
    """When it was made; the hub made it, or saw it made."""
    first_seen: Seconds | None = None
    quota: tuple[QuotaWindow, ...] = ()
    """By window, in the order of their names."""

    @property
    def newest(self) -> float:
        """When the last of it was seen; 0 for nothing."""
        readings = (self.success, self.accepted, self.refusal, self.trouble)
        return max((reading.at for reading in readings if reading), default=0.0)

    @property
    def works(self) -> Reading | None:
        """The last sign that the provider takes it: an answer, or one that only its quota has kept away."""
        return _latest(self.success, self.accepted)

    @property
    def refused(self) -> Reading | None:
        """The refusal that nothing has lifted since."""
        refusal, works = self.refusal, self.works
        return refusal if refusal is not None and (works is None or refusal.at >= works.at) else None


def merged(one: Known, other: Known) -> Known:
    """Both, whatever the order: of each kind the newest, the earliest beginning, every window as it was seen last."""
    windows = {window.window: window for window in one.quota}
    for window in other.quota:
        windows[window.window] = _later(windows.get(window.window, window), window)
    return Known(
        success=_latest(one.success, other.success),
        accepted=_latest(one.accepted, other.accepted),
        refusal=_latest(one.refusal, other.refusal),
        trouble=_latest(one.trouble, other.trouble),
        issued_at=_least(one.issued_at, other.issued_at),
        first_seen=_least(one.first_seen, other.first_seen),
        quota=tuple(windows[name] for name in sorted(windows)),
    )


def _latest(one: Reading | None, other: Reading | None) -> Reading | None:
    if one is None or other is None:
        return one or other
    # The text decides between readings of one moment: any rule will do that does not look at the order.
    return max(one, other, key=lambda reading: (reading.at, reading.model_dump_json()))


def _later(one: QuotaWindow, other: QuotaWindow) -> QuotaWindow:
    return max(one, other, key=lambda window: (window.observed_at, window.model_dump_json()))


def _least(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


NOTHING = Known()
