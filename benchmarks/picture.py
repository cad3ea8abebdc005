"""The picture of the figures: what one ask takes, each way, as bars on a logarithmic scale. Pure; plain SVG."""

from __future__ import annotations

import math
from html import escape

from benchmarks.result import Run, shown

GROUND, INK, FAINT = "#0d1117", "#e6edf3", "#8b949e"
OURS, FLOOR, OTHERS = "#3fb950", "#58a6ff", "#d29922"
WIDTH, LABELS, FIGURES, LINE, BAR = 860, 330, 90, 26, 14
LEAST_MS = 1.0
ROWS = (
    ("ask/{}", "direct", FLOOR),
    ("ask/{}", "bare", FLOOR),
    ("turn/{}", "hub", OURS),
    ("ask/{}", "hub", OURS),
    ("ask/{}", "hub-cold", OURS),
    ("ask/{}", "shell", OURS),
    ("ask/{}", "cli", OTHERS),
    ("ask/{}", "claude-code-mcp", OTHERS),
    ("ask/{}", "gemini-mcp-tool", OTHERS),
    ("ask/{}", "gemini-bridge", OTHERS),
)


def picture(run: Run) -> str:
    """All that was measured of an ask, both providers."""
    found: list[tuple[str, float | None, str]] = []
    for provider in ("claude", "gemini"):
        found.append((provider.title(), None, INK))
        for table, key, colour in ROWS:
            row = run.row(table.format(provider), key)
            if row is not None and row.p50 is not None:
                name = "hub, the second turn of a conversation" if table.startswith("turn") else row.way
                found.append((name.replace("`", ""), row.p50, colour))
    most = max((value for _, value, _ in found if value is not None), default=10.0)
    decades = max(1, math.ceil(math.log10(most / LEAST_MS)))
    room = WIDTH - LABELS - FIGURES
    height = LINE * (len(found) + 2) + 10
    drawn: list[str] = []
    for decade in range(decades + 1):
        x = LABELS + room * decade / decades
        drawn.append(f'<rect x="{x:.0f}" y="20" width="1" height="{height - 50}" fill="#30363d"/>')
        drawn.append(_text(x, height - 12, f"{LEAST_MS * 10**decade:,.0f} ms", FAINT, "middle"))
    for number, (name, value, colour) in enumerate(found):
        y = LINE * (number + 1) + 8
        if value is None:
            drawn.append(_text(12, y, name, INK, "start", bold=True))
            continue
        width = max(2.0, room * math.log10(max(value, LEAST_MS * 1.02) / LEAST_MS) / decades)
        drawn.append(_text(LABELS - 10, y, name, INK, "end"))
        drawn.append(f'<rect x="{LABELS}" y="{y - BAR + 3}" width="{width:.0f}" height="{BAR}" fill="{colour}"/>')
        drawn.append(_text(LABELS + width + 8, y, shown(value, "ms"), INK, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13">\n<title>What one ask takes, each way (median, logarithmic scale)</title>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="{GROUND}"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _text(x: float, y: float, said: str, colour: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(said)}</text>'
