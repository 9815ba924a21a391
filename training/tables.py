"""The tables of `training.reproduce`: ours beside the paper's numbers, as text, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .experiments import Cell
from .paper import Numbers

PERCENT = ("top1", "top5", "map_a", "map_v", "frame_acc")  # figures that commands print as parts of 1
NOT_RUN = "not run"


class Row(NamedTuple):
    row: str
    column: str
    ours: float | None
    """Percent or mm; None where it was not run."""
    spread: float | None
    """Standard deviation over seeds."""
    seeds: int
    paper: float | None


def rows_of(cells: Sequence[Cell], result: Callable[[str], dict[str, Any] | None], numbers: Numbers) -> list[Row]:
    """One row for every cell. `result`: the figures of a run by its name."""
    rows = []
    for cell in cells:
        figures = None if cell.run is None else result(cell.run)
        ours, spread, seeds = _value(figures, cell.column)
        rows.append(Row(cell.row, cell.column, ours, spread, seeds, numbers.get((cell.row, cell.column))))
    return rows


def _value(figures: dict[str, Any] | None, column: str) -> tuple[float | None, float | None, int]:
    """The mean over seeds, its standard deviation and how many there were."""
    if figures is None:
        return None, None, 0
    name = column if column in figures else "top1"  # columns such as 10% are accuracies
    factor = 100 if name in PERCENT else 1
    if "seeds" not in figures:
        return factor * figures[name], None, 1
    spread = figures["seeds"][name]
    return factor * spread["mean"], factor * spread["std"], len(spread["values"])


def text_of(row: Row) -> str:
    if row.ours is None:
        return NOT_RUN
    return f"{row.ours:.1f}" + (f" (std {row.spread:.1f}, {row.seeds} seeds)" if row.spread is not None else "")


def markdown(title: str, about: str, rows: Sequence[Row]) -> str:
    """One line a row of the table, one column for ours and one for the paper's."""
    lines = [f"## {title}", about, "", "| | figure | ours | the paper |", "|---|---|---|---|"]
    for row in rows:
        printed = "-" if row.paper is None else f"{row.paper:.1f}"
        lines.append(f"| {row.row} | {row.column} | {text_of(row)} | {printed} |")
    return "\n".join(lines) + "\n"


def as_csv(tables: dict[str, list[Row]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["table", *Row._fields])
    for name, rows in tables.items():
        writer.writerows([name, *("" if value is None else value for value in row)] for row in rows)
    return text.getvalue()
