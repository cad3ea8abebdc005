"""The hub's log: structlog on stderr, JSON for programs and lines for people; the libraries' loggers go the same way.

Nothing here knows what is logged. Secrets are kept out twice: by their exact values (`hide`), and by the forms that
tokens have. Prompt text is never given to a logger in the first place. Tracebacks show where and what kind, no local
variable, and no words of the exception: they may quote what was asked (a validation error shows its input, a decoding
error the line). What the interpreter itself would print (warnings, errors that nobody caught) goes the same way.

An event is one line, whoever chose its words: what is no printable character is shown as its escape, so that nobody
can end the line, move the cursor or turn the direction of what follows. A person's traceback alone has several.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import math
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO, cast

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
LONGEST = 2_000
"""Characters of one text: a caller may have chosen them, and has 16 MiB to choose from."""
TRACEBACK = "exception"
UNSHOWN = "a record that cannot be shown"
_TELLING = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, OSError)}
"""Exceptions by whose words a fault is found, and that quote a path at most: the system's own."""
_PLAIN = ("DeprecationWarning", "PendingDeprecationWarning", "ResourceWarning", "RuntimeWarning", "ImportWarning")
"""Warnings whose words are Python's or a library's own."""
RENEWED = 128
"""Values of logins that are renewed: of them the newest, for each line looks for all. Google's live for an hour."""
_kept: dict[str, None] = {}
_renewed: dict[str, None] = {}
"""The one that was given last stands last."""
_longest_first: list[str] = []
_hiding = threading.Lock()


def hide(secret: str, *, renewed: bool = False) -> None:
    """Never let this value through, whatever its form; a `renewed` one until 128 others have been given after it."""
    if len(secret) < 8:
        return
    values = _renewed if renewed else _kept
    with _hiding:
        is_new = secret not in values
        values.pop(secret, None)
        values[secret] = None
        if is_new:
            while len(_renewed) > RENEWED:
                del _renewed[next(iter(_renewed))]
            # A short one inside a long one would leave the rest of it.
            _longest_first[:] = sorted({**_kept, **_renewed}, key=len, reverse=True)


def cleaned(text: str) -> str:
    """`text` without any secret that is known or looks like one."""
    for secret in tuple(_longest_first):
        text = text.replace(secret, HIDDEN)
    return _FORMS.sub(HIDDEN, text)


def printable(text: str) -> str:
    """`text` on one line: whatever does not print, or steers a terminal, as its escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _shown(text: str) -> str:
    text = cleaned(text)
    left_out = len(text) - LONGEST
    return printable(text if left_out <= 0 else f"{text[:LONGEST]}… ({left_out:,} characters more)")


def _clean(value: object) -> object:
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, Mapping):
        return {_clean(k): _clean(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in cast("list[object]", value)]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _shown(repr(value))  # what a renderer would print of it, after us


def _clean_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {_shown(name): _clean_field(name, value) for name, value in event.items()}


def _clean_field(name: str, value: object) -> object:
    if name.startswith("_"):  # structlog's own, and never printed
        return value
    if name == TRACEBACK and isinstance(value, str):
        return "\n".join(printable(line) for line in cleaned(value).split("\n"))
    return _clean(value)


def _first_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """asyncio tells of a task or a callback that broke with its `repr`: arguments, and the words of its error."""
    record: logging.LogRecord | None = event.get("_record")
    words = str(event["event"]).rstrip()
    if record is not None and record.name.partition(".")[0] == "asyncio":
        words = words.partition("\n")[0].partition("(")[0]
    event["event"] = words
    return event


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
    said = f": {printable(str(error))}" if type(error).__name__ in _TELLING else ""
    where = "".join(traceback.format_tb(error.__traceback__, limit=-FRAMES))
    lines = f"Traceback (most recent call last):\n{where}{type(error).__name__}{said}\n"
    inner = [_lines(one) for one in getattr(error, "exceptions", ())]
    return "\n".join([*([_lines(led)] if led is not None else []), lines, *inner])


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that a record could not be shown (`%d` of a text, say): logging itself would print all its words."""
        told = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, UNSHOWN, (), None)
        with contextlib.suppress(Exception):  # whoever reads the log may have gone
            self.stream.write(self.format(told) + self.terminator)
            self.flush()


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
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_words, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    _speak_for_the_interpreter()
    root.setLevel(level)
    # The libraries' own chatter is only wanted when looking for a fault; at DEBUG they may quote messages.
    for noisy in ("mcp", "asyncio", "httpx", "httpx2", "httpcore2", "sse_starlette", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It calls an error what is either meant (the hub has ended the child) or told as a coded error.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)


def _speak_for_the_interpreter() -> None:
    """Log what Python would print to stderr by itself, with all its words.

    `logging.captureWarnings` would do so for warnings, and quote them: pydantic's show the value that they warn of.
    """
    log = structlog.stdlib.get_logger("llm_mcp_hub.python")

    def warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        said = {"said": str(message)} if category.__name__ in _PLAIN else {}
        log.warning("python warns", category=category.__name__, where=f"{filename}:{lineno}", **said)

    def die(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, Exception):  # Ctrl-C
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("the program broke", error=kind.__name__, exc_info=(kind, error, trace))

    def thread_died(told: threading.ExceptHookArgs) -> None:
        name = "" if told.thread is None else told.thread.name
        _told_of(log, "a thread broke", told.exc_value, thread=name)

    def unraisable(told: sys.UnraisableHookArgs) -> None:
        _told_of(log, "an error could not be raised", told.exc_value)

    warnings.showwarning = warn
    sys.excepthook = die
    threading.excepthook = thread_died
    sys.unraisablehook = unraisable


def _told_of(log: structlog.stdlib.BoundLogger, event: str, error: BaseException | None, **more: str) -> None:
    if error is not None and not isinstance(error, SystemExit):
        log.error(event, error=type(error).__name__, exc_info=error, **more)
