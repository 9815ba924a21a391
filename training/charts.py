"""Charts as SVG text for a page of one file: lines over a number, with axes and a legend, and bars."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 28, 34  # margins
TICKS = 5
COLOURS = 8  # classes c0 .. c7 of the page's style
NAMED = 10  # lines in a legend; more are counted
BAR, NAMES = 22, 110  # height of a bar with its gap; width of the names beside the bars


class Line(NamedTuple):
    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dashed: bool = False


class Bar(NamedTuple):
    name: str
    value: float
    """Not negative."""
    spread: float | None = None
    """Drawn to both sides of the bar's end."""


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, lines: Sequence[Line], x_label: str = "step") -> str:
    """An `<svg>` with a line each; points that are not finite are left out."""
    kept = [
        line._replace(x=[p[0] for p in points], y=[p[1] for p in points])
        for line in lines
        if (points := [p for p in zip(line.x, line.y, strict=True) if math.isfinite(p[1])])
    ]
    if not kept:
        return ""
    x0, x1 = _range([x for line in kept for x in line.x])
    y0, y1 = _range([y for line in kept for y in line.y])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [f'<text class="title" x="{LEFT}" y="16">{html.escape(title)}</text>']
    for y in ticks(y0, y1):
        at = place(x0, y)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in ticks(x0, x1):
        at = place(x, y0)[0]
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:.6g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{html.escape(x_label)}</text>')
    parts += [_drawn(line, [place(*point) for point in zip(line.x, line.y, strict=True)]) for line in kept]
    label = html.escape(f"{title} over {x_label}", quote=True)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f"<figure>{svg}{_legend(kept)}</figure>"


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """An `<svg>` with a bar each from zero, one below the other, its value at its end."""
    if not bars:
        return ""
    height = TOP + BAR * len(bars) + 6
    most = max(bar.value + (bar.spread or 0) for bar in bars) or 1
    parts = [f'<text class="title" x="{RIGHT}" y="16">{html.escape(title)}</text>']
    for number, bar in enumerate(bars):
        y = TOP + BAR * number
        end, low, high = (
            NAMES + max(0.0, value) / most * (WIDTH - NAMES - LEFT)
            for value in (bar.value, bar.value - (bar.spread or 0), bar.value + (bar.spread or 0))
        )
        parts.append(f'<text x="{NAMES - 6}" y="{y + 12}" text-anchor="end">{html.escape(bar.name)}</text>')
        parts.append(f'<path class="bar c0" d="M{NAMES} {y}H{end:.1f}V{y + BAR - 6}H{NAMES}Z"/>')
        if bar.spread is not None:
            parts.append(f'<path class="whisker" d="M{low:.1f} {y + 8}H{high:.1f}"/>')
        parts.append(f'<text x="{high + 6:.1f}" y="{y + 12}">{bar.value:.1f}</text>')
    label = html.escape(title, quote=True)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg></figure>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _drawn(line: Line, points: Sequence[tuple[float, float]]) -> str:
    kind = f"line c{line.colour % COLOURS}" + " dashed" * line.dashed
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle class="dot c{line.colour % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points
    )
    return f'<path class="{kind}" d="{path}"/>' + (dots if len(points) <= 12 else "")


def _legend(lines: Sequence[Line]) -> str:
    """Names beside samples of the lines; none for a single line without a name."""
    if len(lines) == 1 and not lines[0].name:
        return ""
    items = []
    for line in lines[:NAMED]:
        kind = f"line c{line.colour % COLOURS}" + " dashed" * line.dashed
        sample = f'<svg class="key" viewBox="0 0 24 8"><path class="{kind}" d="M0 4H24"/></svg>'
        items.append(f"<span>{sample}{html.escape(line.name)}</span>")
    more = [f"<span>and {len(lines) - NAMED} more</span>"] if len(lines) > NAMED else []
    return f"<figcaption>{''.join(items + more)}</figcaption>"
