"""The page of figures, of one run and of what the drills wrote down beside it. Pure: values in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from benchmarks.result import Part, Run, cell, grid, markdown, shown
from benchmarks.verdicts import budgets, quotes

PICTURE = "../benchmarks/results/asks.svg"
TITLES = {
    "ask_latency": "Asks",
    "conversations": "Conversations, bursts, the hub itself",
    "throughput": "Many at once",
    "weight": "Memory and CPU time",
    "start_up": "Start, and calls that ask nobody",
    "cancel": "Cancel to quiet",
    "large": "Large prompts and answers",
    "over_http": "Over HTTP",
    "store_away": "While Redis is in trouble",
}


def page(run: Run, others: Mapping[str, Any]) -> str:
    """The whole page. `others`: the results of drills, by name, as they lie beside the run's."""
    parts = "\n".join(_part(part) for part in run.parts)
    more = "\n".join(["", *(_other(held) for held in others.values())])
    return (
        "# Figures\n\n"
        "<!-- Written by `make figures` from benchmarks/results: change nothing here. -->\n\n"
        "One run of `make bench` on one machine, against the stand-ins of both services on loopback that answer at "
        "once: so this is what stands between a caller and the provider, not what a model takes to think. The "
        "stand-ins and all callers share the machine with what is measured. Compare rows of one table; another "
        "machine has other figures.\n\n"
        f"{_ran_on(run)}\n"
        f"## Budgets\n\n{_budgets(run)}\n\n"
        f"## At a glance\n\n![What one ask takes, each way, on a logarithmic scale]({PICTURE})\n\n"
        f"## What the README quotes\n\n{_quotes(run)}\n\n"
        f"{parts}{more}"
    ).rstrip() + "\n"


def _ran_on(run: Run) -> str:
    on = run.ran_on
    kind = "**a quick run of a tenth of the rounds: no figures to go by**" if on["quick"] else "a full run"
    return (
        grid(
            ["what", "which"],
            [
                ("machine", f"{on['system']}, {on['cores']} cores ({on['cpu']}), {on['memory_gb']} GB"),
                ("load at the start", f"{on['load_at_start']} (average of a minute)"),
                ("Python, Node.js", f"{on['python']}, {on['node']}"),
                ("commit", f"{on['commit']}, {on['date']}"),
                ("the run", f"{kind}, {on['seconds']:.0f} s"),
                ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
            ],
        )
        + "\n"
    )


def _budgets(run: Run) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        (each.what, f"≤ {each.limit:g} {each.unit}", shown(each.measured, each.unit), words[each.holds], each.beside)
        for each in budgets(run)
    ]
    return grid(["what", "budget", "this run", "holds", "beside it"], rows)


def _quotes(run: Run) -> str:
    def figures(what: Any) -> str:
        try:
            return ", ".join(what.figures)
        except ValueError:
            return "not measured"

    return grid(["what", "times"], [(each.what, figures(each)) for each in quotes(run)])


def _part(part: Part) -> str:
    tables = "\n".join(markdown(table) for table in part.tables) or f"It failed: {part.failed}\n"
    about = f"Load at its start {part.load}; it took {part.seconds:.0f} s."
    return f"## {TITLES.get(part.key, part.key)}\n\n{part.about} {about}\n\n{tables}"


def _other(held: Mapping[str, Any]) -> str:
    """A drill's result; what it has nested is told flat."""
    rows = [[cell(value) for value in row] for row in held["rows"]]
    summary, on = held.get("summary", ""), _flat(held.get("ran_on", {}))
    if isinstance(summary, Mapping):
        summary = cast("Mapping[str, Any]", summary).get("text") or _flat(summary)
    return f"## {held['title']}\n\n{summary}\n\n{grid(held['columns'], rows)}\n\n{on}\n"


def _flat(held: Any) -> str:
    """What was noted of a run, as it is typed: a seed has no commas."""
    if isinstance(held, Mapping):
        named = cast("Mapping[str, Any]", held).items()
        return ", ".join(_flat(value) if isinstance(value, Mapping) else f"{name} {value}" for name, value in named)
    return str(held)
