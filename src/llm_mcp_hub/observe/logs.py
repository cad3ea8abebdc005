"""The hub's log: structlog on stderr, JSON for programs and lines for people; the libraries' loggers go the same way.

Nothing here knows what is logged. Secrets are kept out twice: by their exact values (`hide`), and by the forms that
tokens have. Prompt text is never given to a logger in the first place. Tracebacks show where and what kind, no local
variable, and no words of the exception: they may quote what was asked (a validation error shows its input, a decoding
error the line).
"""

from __future__ import annotations

import builtins
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

HIDDEN = "[hidden]"
_FORMS = re.compile(
    r"sk-ant-[A-Za-z0-9_-]{8,}"
    r"|llmhub_[A-Za-z0-9_-]{8,}"
    r"|ya29\.[A-Za-z0-9._-]{8,}"
    r"|1//[A-Za-z0-9_-]{16,}"
    r"|AIza[A-Za-z0-9_-]{16,}"
    r"|GOCSPX-[A-Za-z0-9_-]{8,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
FRAMES = 20
_TELLING = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, OSError)}
"""Exceptions by whose words a fault is found, and that quote a path at most: the system's own."""
_exact: set[str] = set()


def hide(secret: str) -> None:
    """Never let this value through, whatever its form."""
    if len(secret) >= 8:
        _exact.add(secret)


def cleaned(text: str) -> str:
    """`text` without any secret that is known or looks like one."""
    for secret in sorted(_exact, key=len, reverse=True):  # a short one inside a long one would leave the rest of it
        text = text.replace(secret, HIDDEN)
    return _FORMS.sub(HIDDEN, text)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, Mapping):
        return {_clean(k): _clean(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in cast("list[object]", value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    return cleaned(repr(value))  # what a renderer would print of it, after us


def _clean_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # Names with `_` are structlog's own, and never printed.
    return {cleaned(name): value if name.startswith("_") else _clean(value) for name, value in event.items()}


_structured = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=FRAMES)


def _for_programs(exc_info: ExcInfo) -> list[dict[str, Any]]:
    return [_wordless(stack) for stack in _structured(exc_info)]


def _wordless(stack: dict[str, Any]) -> dict[str, Any]:
    value = stack["exc_value"] if stack["exc_type"] in _TELLING else ""
    traces = cast("list[list[dict[str, Any]]]", stack.get("exceptions") or [])
    inner = [[_wordless(one) for one in trace] for trace in traces]
    return {**stack, "exc_value": value, "exc_notes": [], "syntax_error": None, "exceptions": inner}


def _for_people(exc_info: ExcInfo) -> str:
    return _lines(exc_info[1]).rstrip()


def _lines(error: BaseException) -> str:
    led = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    said = f": {error}" if type(error).__name__ in _TELLING else ""
    where = "".join(traceback.format_tb(error.__traceback__, limit=-FRAMES))
    lines = f"Traceback (most recent call last):\n{where}{type(error).__name__}{said}\n"
    inner = [_lines(one) for one in getattr(error, "exceptions", ())]
    return "\n".join([*([_lines(led)] if led is not None else []), lines, *inner])


def configure(level: str, form: str | None) -> None:
    """Set logging up for the whole process. `form` is `json`, `console`, or None to look whether a person reads."""
    console = form == "console" or (form is None and sys.stderr.isatty())
    # The console's renderer takes text only.
    tracebacks = structlog.processors.ExceptionRenderer(_for_people if console else _for_programs)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        tracebacks,
        _clean_event,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The libraries' own chatter is only wanted when looking for a fault; at DEBUG they may quote messages.
    for noisy in ("mcp", "asyncio", "httpx", "httpx2", "httpcore2", "sse_starlette", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It calls an error what is either meant (the hub has ended the child) or told as a coded error.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
