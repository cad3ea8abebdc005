"""What a run means: which budgets hold, and the ratios that the README quotes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.result import Run, shown, times

ERAS = ("2025-11-25", "2026-07-28")
CLIENTS = (1, 16, 64)


@dataclass(frozen=True)
class Budget:
    """One promise of speed or size, and what this run has to say to it."""

    what: str
    limit: float
    unit: str
    measured: float | None
    beside: str
    """What was measured beside it, in the same run: the floor, and what others take."""

    @property
    def holds(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.limit


@dataclass(frozen=True)
class Quote:
    """A row of the README's table: what it is about, and its ratios in the order in which they stand there."""

    what: str
    ratios: Sequence[float | None]

    @property
    def figures(self) -> list[str]:
        """As they are quoted. Raises ValueError where the run has none."""
        if None in self.ratios:
            raise ValueError(f"the run says nothing of: {self.what}")
        return [times(ratio) for ratio in self.ratios if ratio is not None]


def budgets(run: Run) -> list[Budget]:
    """All of them, as the design sets them."""
    gemini, floor = run.p50("ask/gemini", "hub"), run.p50("ask/gemini", "direct")
    start, bare = run.p50("start", "hub"), run.p50("start", "bare")
    return [
        Budget(
            "`ask_gemini`, warm: added to direct HTTP, p50",
            15,
            "ms",
            None if gemini is None or floor is None else gemini - floor,
            _beside(run, "ask/gemini", "direct", "bare", "cli"),
        ),
        Budget(
            "`ask_claude`, a new conversation, warm, p50",
            130,
            "ms",
            run.p50("ask/claude", "hub"),
            _beside(run, "ask/claude", "direct", "bare", "cli"),
        ),
        *(
            Budget(
                f"second turn, {provider.title()}, p50",
                45,
                "ms",
                run.p50(f"turn/{provider}", "hub"),
                _beside(run, f"turn/{provider}", "cli"),
            )
            for provider in ("claude", "gemini")
        ),
        Budget("20 Gemini asks of 1 s at once", 1.4, "s", run.p50("burst", "hub"), "the one second alone is the floor"),
        *(
            Budget(
                f"cancel to quiet, {provider.title()}, p99 (of fewer than 100, the most)",
                250,
                "ms",
                _tail(run, f"cancel/{provider}", "hub"),
                _beside(run, f"cancel/{provider}", "direct", "bare", "cli"),
            )
            for provider in ("claude", "gemini")
        ),
        Budget(
            "start over stdio to `tools/list`, against a bare SDK server, p50",
            1.2,
            "times",
            None if start is None or not bare else start / bare,
            f"hub {shown(start, 'ms')}, bare {shown(bare, 'ms')}",
        ),
        Budget("the hub's own process, serving", 130, "MB", run.p50("own", "own"), "its resident set"),
        Budget("and each idle conversation", 6, "KB", run.p50("each", "each"), "over some hundreds of them"),
    ]


def _tail(run: Run, table: str, key: str) -> float | None:
    """The p99, or the most where there are too few values for one."""
    row = run.row(table, key)
    return None if row is None else row.p99 if row.p99 is not None else row.most


def _beside(run: Run, table: str, *keys: str) -> str:
    rows = [run.row(table, key) for key in keys]
    return ", ".join(
        f"{row.way} {shown(row.p50, 'ms')}" if row.p50 is not None else f"{row.way}: {row.note}"
        for row in rows
        if row is not None
    )


def quotes(run: Run) -> list[Quote]:
    """What the README's table says, row by row."""

    def faster(table: str, key: str, than: str = "cli") -> float | None:
        mine, other = run.p50(table, key), run.p50(table, than)
        return None if not mine or other is None else other / mine

    def more(table: str, key: str, than: str) -> float | None:
        mine, other = run.p50(table, key), run.p50(table, than)
        return None if mine is None or not other else mine / other

    over_http: list[float | None] = []
    for clients in CLIENTS:
        found = [more(f"http-{clients}/{era}", "token", "bare") for era in ERAS]
        known = [ratio for ratio in found if ratio is not None]
        over_http.append(max(known) if len(known) == len(ERAS) else None)
    return [
        Quote("`ask_gemini`, warm, against `gemini -p`", [faster("ask/gemini", "hub")]),
        Quote("`ask_claude`, warm, against `claude -p`", [faster("ask/claude", "hub")]),
        Quote("`llm-mcp-hub ask gemini`, cold, against `gemini -p`", [faster("ask/gemini", "shell")]),
        Quote("`llm-mcp-hub ask claude`, cold, against `claude -p`", [faster("ask/claude", "shell")]),
        Quote("a next turn with Gemini, warm, against `gemini -p` with the history", [faster("turn/gemini", "hub")]),
        Quote("a next turn with Claude, warm, against `claude -p --resume`", [faster("turn/claude", "hub")]),
        Quote(
            "the same at another hub: Gemini, Claude",
            [faster("turn/gemini", "hub-cold"), faster("turn/claude", "hub-cold")],
        ),
        Quote(
            "`ask_gemini`, warm, against npm `gemini-mcp-tool` and PyPI `gemini-bridge`",
            [faster("ask/gemini", "hub", "gemini-mcp-tool"), faster("ask/gemini", "hub", "gemini-bridge")],
        ),
        Quote(
            "`ask_claude`, warm, against npm `@steipete/claude-code-mcp`",
            [faster("ask/claude", "hub", "claude-code-mcp")],
        ),
        Quote(
            "answers a second for 8 callers, against a CLI each: Gemini, Claude",
            [more("throughput-8/gemini", "hub", "cli"), more("throughput-8/claude", "hub", "cli")],
        ),
        Quote("memory of 8 Gemini asks at once: `gemini -p` against the hub", [faster("busy/gemini", "hub")]),
        Quote("start over stdio to `tools/list`, against a bare server of the MCP SDK", [more("start", "hub", "bare")]),
        Quote("a trivial call over HTTP with a token, against the same: 1, 16 and 64 clients", over_http),
    ]
