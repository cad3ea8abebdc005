"""What Gemini's CLI says, as ours: prompt blocks in, answers and coded errors out. Pure: no I/O, no clock, no process.

The texts that are looked for were measured on gemini-cli 0.61.0. Errors keep Google's own sentence only where no prompt
had been sent yet (start, account): a later one could quote the prompt.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from llm_mcp_hub.conversation import Ask, Part, QuotaWindow, StopReason, Usage, whole
from llm_mcp_hub.errors import (
    AccountIneligible,
    AuthExpired,
    AuthRejected,
    HubError,
    InvalidRequest,
    Misconfigured,
    ModelUnavailable,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    Refused,
    UpstreamError,
)
from llm_mcp_hub.providers import acp
from llm_mcp_hub.providers.base import Limits
from llm_mcp_hub.providers.gemini_project import PROJECT_ACTION, numeric_project

NAME = "gemini"
LOGIN_ACTION = "Run `llm-mcp-hub login gemini`."
RENEWED_WITHIN_S = 300.0
QUOTA_FROM_S = 300.0
"""A 429 that asks for a longer wait than this is a used-up quota, a shorter one is a passing limit."""
LONGEST_WAIT_S = 366 * 86_400.0
"""A message may hold any number, and JSON has none that is infinite."""

LOGIN_VERDICT = "Cached credentials are not valid"
"""Begins the line of the CLI's debug log that says why it asks for a login."""

# After the verdict: the token endpoint's or tokeninfo's own words, or nothing to renew the login with. Anything else
# that stands there (`internal_failure`, `request to … failed`) says nothing about the login.
_DEAD_LOGIN = re.compile(
    re.escape(LOGIN_VERDICT) + r': (?:invalid_grant|invalid_token|No refresh token|.*"error":\s*"invalid_grant")'
)
_BROKEN = re.compile(
    r"Premature close|fetch failed|socket hang up|E(?:CONNRESET|CONNREFUSED|TIMEDOUT|PIPE|AI_AGAIN)|ENOTFOUND"
)
_PROJECT = re.compile(r"\bprojects?[/ ]([a-z][a-z0-9-]{4,28}[a-z0-9])\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")
_RESET = re.compile(r"(?:reset after|retry after|Retrying after)\s+((?:\d+(?:\.\d+)?\s*(?:ms|h|m|s))+)", re.IGNORECASE)
_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def prompt_blocks(ask: Ask, *, seen: bool) -> list[acp.Block]:
    """The blocks of one turn; the prompt is always the last one, untouched.

    The CLI runs a turn whose text begins with `/about`, `/memory`, `/extensions` … itself, leading white space or not,
    and it looks at the first block. So whatever does not begin with a letter or digit gets a block before it.

    Args:
        ask: what is asked.
        seen: whether the session has seen the conversation so far. If not, it is told before the prompt.
    """
    before: list[acp.Block] = []
    if not seen and ask.system is not None:
        before.append(f"Instruction for this conversation:\n{ask.system}\n\n")
    if not seen and ask.history:
        before.append("The conversation so far.\n\n")
        for turn in ask.history:
            answered = "You answered" if turn.provider == NAME else f"{turn.model} answered"
            before += ["The user asked:\n", *(_block(part) for part in turn.parts), f"{turn.prompt}\n\n"]
            before.append(f"{answered}:\n{turn.answer}\n\n")
    before += [_block(part) for part in ask.parts]
    if not before and ask.prompt[:1].isalnum():
        return [ask.prompt]
    return [*before, "Request:\n", ask.prompt]


def _block(part: Part) -> acp.Block:
    return part.shown if part.data is None else acp.Data(part.mime_type, part.data)


def reset_after_s(message: str) -> float | None:
    """Seconds of a `reset after 5h12m3s` in a message, None when there is none."""
    found = _RESET.search(message)
    if found is None:
        return None
    seconds = sum(float(n) * _SECONDS[unit.lower()] for n, unit in _UNIT.findall(found.group(1)))
    return min(seconds, LONGEST_WAIT_S)


def _spoken(seconds: float) -> str:
    """A wait as a person says it: `5 h 12 min`, `40 min`, `7 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{max(1, round(seconds))} s"


def quoted(message: str) -> str:
    """Google's own sentence, fit for one line of ours. For some errors the CLI hands the whole JSON body on."""
    said = message.split("\n\n💡", maxsplit=1)[0]
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        said = str(json.loads(said)["error"]["message"])
    return whole(_CONTROL.sub(" ", said).strip()[:400])


def start_error(*, debug_log: str) -> HubError:
    """The CLI asked for a login at its start. Only its debug log tells a dead login from a dead network (measured)."""
    if _DEAD_LOGIN.search(debug_log):
        return _ended(debug_log.rpartition(LOGIN_VERDICT)[2])
    if LOGIN_VERDICT in debug_log:
        return UpstreamError(
            "Google's login service could not be reached or failed, so the login could not be renewed; nothing is "
            "known against the login itself.",
            action="Check the network and HTTPS_PROXY, then try again.",
            provider=NAME,
            shows="unreachable",
        )
    # Why, the CLI did not say in time: so nobody knows whether the login is dead.
    return AuthExpired(
        "Gemini's CLI does not accept this login and asks for a new one.",
        action=LOGIN_ACTION,
        provider=NAME,
        shows="unreachable",
    )


def account_error(reply: acp.Reply, *, debug_log: str) -> HubError:
    """`session/new` was refused: it is about the account or the login; no prompt has been sent.

    The reply holds Google's sentence and no reason code; the CLI's debug log names the class of its error.
    """
    said = quoted(reply.error_message)
    low = said.lower()
    if "no longer supported" in low:
        return AccountIneligible(
            f"The login works, but Google no longer serves this account through the Gemini CLI: {said}",
            action="Use an account with a Gemini Code Assist Standard or Enterprise licence; personal accounts (free, "
            "AI Pro, AI Ultra) ended here on 2026-06-18.",
            provider=NAME,
        )
    if "InvalidNumericProjectIdError" in debug_log or "project number" in low:
        return numeric_project()
    if "ProjectIdRequiredError" in debug_log or "google_cloud_project" in low:
        return Misconfigured(
            "This account's licence needs a Google Cloud project.",
            action=PROJECT_ACTION,
            provider=NAME,
            shows="refused",
        )
    if "ValidationRequiredError" in debug_log or "validation required" in low:
        return _unverified()
    if "IneligibleTierError" in debug_log:
        return AccountIneligible(
            f"Google does not serve this account through the Gemini CLI: {said}",
            action="Log in with another Google account: run `gemini`.",
            provider=NAME,
        )
    return prompt_error(reply, model="", known=(), account=True)


def prompt_error(reply: acp.Reply, *, model: str, known: tuple[str, ...], account: bool = False) -> HubError:
    """A failed `session/prompt` (or, with `account`, `session/new`) as a coded error.

    After a prompt only the code and the message's first words count: the rest may be the prompt, quoted by Google, and
    a question about `invalid_grant` must not end a login.
    """
    code, said = reply.error_code, reply.error_message
    low = said.lower()
    wait = reset_after_s(said)
    if low.startswith("verify your account"):
        return _unverified()
    if low.startswith(("invalid_grant", "invalid_rapt")) or (account and "invalid_grant" in low):
        return _ended(low[:400] if account else low.partition("\n")[0][:40])
    if (
        code == 401
        or low.startswith("authentication required")
        or (account and ("invalid authentication" in low or "unauthenticated" in low))
    ):
        return AuthRejected("Google refused this login's access token.", action=LOGIN_ACTION, provider=NAME)
    switched_off = "service_disabled" in low or "has not been used" in low
    if code == 403 or (account and ("permission" in low or switched_off)):
        link = re.search(r"https://console\.[\w./?=&%-]+", said)
        if switched_off or link:
            return PermissionDenied(
                "The Gemini for Google Cloud API is switched off in this account's project.",
                action=f"Switch it on: {link.group(0)}"
                if link
                else "Run: gcloud services enable cloudaicompanion.googleapis.com --project YOUR_PROJECT",
                provider=NAME,
            )
        named = _PROJECT.search(said) if account else None
        project = named[1] if named else "YOUR_PROJECT"
        return PermissionDenied(
            "Google does not allow this account to use Gemini Code Assist" + (f": {quoted(said)}" if account else "."),
            action="Set GEMINI_PROJECT to the project of your Code Assist licence, or have its administrator run: "
            f"gcloud projects add-iam-policy-binding {project} --member=user:YOUR_ADDRESS "
            "--role=roles/cloudaicompanion.user",
            provider=NAME,
        )
    if code == 429 and ("no capacity" in low or "model_capacity" in low):
        return ModelUnavailable(
            f"Google has no capacity for {model or 'this model'} now.",
            action=_other_models(model, known),
            provider=NAME,
        )
    if code == 404 or low.startswith("requested entity was not found"):
        return ModelUnavailable(
            f"Google does not know the model {model}.", action=_other_models(model, known), provider=NAME
        )
    if code == 429:
        if "daily quota" in low or "quota_exhausted" in low or "limit: 0" in low or (wait or 0) >= QUOTA_FROM_S:
            return QuotaExhausted(
                f"Gemini's quota of this account for {model or 'this model'} is used up"
                + (f" for another {_spoken(wait)}." if wait else "."),
                action="Ask with another Gemini model, or again after the reset.",
                provider=NAME,
                retry_after_s=round(wait) if wait else None,
                only_model=True,  # Google counts by model
            )
        return RateLimited(
            "Gemini is limiting requests for the moment.",
            action="Try again in a moment.",
            provider=NAME,
            retry_after_s=max(1, round(wait)) if wait else 30,
            transient=True,
        )
    if code == 400 or code in {-32602, -32603}:
        return InvalidRequest(
            "Gemini refused the request as it is.", action="Change the prompt or the model.", provider=NAME
        )
    broken = _BROKEN.search(said) is not None
    if broken:  # the CLI gives this the code 500, which nobody had sent
        message = "The connection to Gemini broke."
    elif account:
        message = f"Google's Code Assist failed: {quoted(said)}"
    else:
        message = f"Gemini failed{f' (HTTP {code})' if code and 500 <= code < 600 else ''}."
    return UpstreamError(
        message,
        action="Check the network and HTTPS_PROXY, then try again." if broken else "Try again.",
        provider=NAME,
        transient=True,
        shows="unreachable" if broken else None,
    )


def _ended(said: str) -> AuthExpired:
    """A login that cannot be renewed; `said` are Google's words for it."""
    why = "it was revoked or has ended"
    if "invalid_rapt" in said:
        why = "its organisation wants it to be made again from time to time"
    return AuthExpired(f"Google no longer accepts this login: {why}.", action=LOGIN_ACTION, provider=NAME)


def _unverified() -> AccountIneligible:
    return AccountIneligible(
        "Google wants this account to be verified before it serves it.",
        action="Run `gemini` once in a terminal and follow the link it shows.",
        provider=NAME,
    )


def used_up(model: str, error: HubError, now: datetime) -> Limits:
    """What a used-up quota says of the account's windows: Google has one for each model."""
    at = now + timedelta(seconds=error.retry_after_s or 0)
    window = QuotaWindow(
        window=model,
        used_fraction=1.0,
        resets_at=at.strftime("%Y-%m-%dT%H:%M:%SZ") if error.retry_after_s else None,
        observed_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return Limits((window,))


def to_be_renewed(login: bytes, now: float) -> bytes | None:
    """The login with an access token that the CLI takes for over, so that it renews it at its start.

    None where that would change nothing: nothing to renew it with, or over already (the CLI renews within 5 minutes of
    the end, measured).
    """
    try:
        held: dict[str, Any] = json.loads(login)
        ends = float(held.get("expiry_date") or 0) / 1000
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if not held.get("refresh_token") or 0 < ends < now + RENEWED_WITHIN_S:
        return None
    return json.dumps({**held, "expiry_date": 1}).encode()


def unknown_model(model: str, known: tuple[str, ...]) -> ModelUnavailable:
    """The model is not in the list that the CLI gave for this account."""
    return ModelUnavailable(
        f"This account's Gemini CLI does not offer {model}.", action=_other_models(model, known), provider=NAME
    )


def _other_models(model: str, known: tuple[str, ...]) -> str:
    others = [name for name in known if name != model]
    return f"Use one of: {', '.join(others)}." if others else "Ask with another model."


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = value.get(name)
    return cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else {}


def _count(value: Mapping[str, Any], name: str) -> int:
    count = value.get(name)
    return max(0, count) if isinstance(count, int) else 0


def agent_version(result: Mapping[str, Any]) -> str:
    """The CLI's version in its answer to `initialize`, "" when it tells none."""
    version = _part(result, "agentInfo").get("version")
    return whole(version) if isinstance(version, str) else ""


def version_of(told: str) -> tuple[int, int] | None:
    """The first two numbers of a version, None where there are none."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", told)
    return None if numbers is None else (int(numbers[1]), int(numbers[2]))


def opened(result: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The name of a new session, and the models that this account is offered. Raises HubError without a name."""
    session = result.get("sessionId")
    if not isinstance(session, str) or not session or whole(session) != session:
        raise UpstreamError("Gemini's CLI opened no session.", action="Ask again.", provider=NAME)
    offered = _part(result, "models").get("availableModels")
    models = cast("list[object]", offered) if isinstance(offered, list) else []
    names = [cast("Mapping[str, Any]", model).get("modelId") for model in models if isinstance(model, Mapping)]
    return session, tuple(whole(name) for name in names if isinstance(name, str) and name != "auto")


def finished(result: Mapping[str, Any], text: str) -> tuple[StopReason, Usage]:
    """A `session/prompt` result that is a whole answer. Raises HubError for one that only looks like it.

    The CLI ends a blocked, an empty, a malformed and an unfinished stream alike, as `end_turn`: they are told by an
    empty text or by usage of 0/0.
    """
    reason = result.get("stopReason")
    count = _part(_part(_part(result, "_meta"), "quota"), "token_count")
    usage = Usage(input_tokens=_count(count, "input_tokens"), output_tokens=_count(count, "output_tokens"))
    nothing_counted = usage.input_tokens == 0 and usage.output_tokens == 0
    if reason == "refusal":
        raise Refused("Gemini declined to answer this.", action="Put the question differently.", provider=NAME)
    if reason == "max_tokens" and nothing_counted and not text:
        raise InvalidRequest("The prompt is longer than Gemini takes.", action="Shorten the prompt.", provider=NAME)
    if reason == "cancelled":
        raise UpstreamError(
            "Gemini's CLI dropped the ask.", action="Ask again.", provider=NAME, partial_text=text or None
        )
    if reason == "max_turn_requests":
        raise UpstreamError(
            "Gemini tried to use tools instead of answering; the hub gives it none.",
            action="Ask again and ask for an answer in text only.",
            provider=NAME,
            partial_text=text or None,
        )
    if not text.strip():
        raise UpstreamError(
            "Gemini answered with no text (blocked by a filter, or nothing came).",
            action="Ask again, or put the question differently.",
            provider=NAME,
        )
    if nothing_counted:
        raise UpstreamError(
            "Gemini's answer broke off before its end.",
            action="Ask again; the text so far is attached.",
            provider=NAME,
            partial_text=text,
        )
    ended: dict[str, StopReason] = {"end_turn": "end_turn", "max_tokens": "max_tokens"}
    return ended.get(str(reason), "unknown"), usage
