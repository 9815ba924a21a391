"""Make the paper's tables again on the data that are given: `python -m training.reproduce --help`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from .charts import Bar, Line, bar_chart, line_chart
from .estimates import seconds_of
from .experiments import EXPERIMENTS, SCALES, Study, study_of
from .jobs import execute, result_of
from .page import charts, page, pictures, section, table
from .report import curves, read_runs
from .roles import roles_of
from .runtime import demo_store, run
from .setup import check_seeds, write_whole
from .tables import Row, as_csv, markdown, rows_of, text_of

log = logging.getLogger(__name__)


@dataclass
class Options:
    """Make tables of the paper (Hi-TRS, ECCV 2022) again: plan the runs, make those that are missing, and print the
    paper's numbers beside ours. Run it again to go on after an interruption."""

    what: tyro.conf.Positional[Literal["table1", "table2", "table3", "table4", "table5", "figure3", "all"]]
    """Which table."""
    data: tuple[str, ...] = ()
    """Stores. Of those without segments, the first with labels is for recognition, the second what transfer starts
    from, and the first of 10 or more frames a second for prediction; the first with segments and a known frame rate is
    for detection. Without any, the built-in demo store."""
    scale: Literal["paper", "small", "tiny"] = "small"
    """How long the runs are; tiny only checks the plumbing."""
    seeds: tuple[int, ...] = (0,)
    """Each figure is made with these, and is their mean; pre-training takes seed 0."""
    out: Path | None = None
    """Folder for runs and tables; the default is runs/reproduce-<scale>."""
    plan: bool = False
    """Only print the plan."""


def reproduce(options: Options) -> None:
    check_seeds(options.seeds)
    roles = roles_of([str(path) for path in options.data] or [str(demo_store())])
    study = study_of(options.what, roles, options.scale, options.seeds)
    out = options.out or Path("runs") / f"reproduce-{options.scale}"
    print_plan(study, out)
    if options.plan:
        return
    try:
        execute(study, out)
    finally:
        tables = write_tables(study, out, options.scale)
    print(json.dumps({"out": str(out), "tables": {name: figures(rows) for name, rows in tables.items()}}))


def print_plan(study: Study, out: Path) -> None:
    for line in study.roles.lines():
        log.info("%s", line)
    left = 0.0
    for planned in study.runs.values():
        done = result_of(out, planned) is not None
        seconds = 0.0 if done else seconds_of(study, planned)
        left += seconds
        log.info("%10s  %s", "finished" if done else f"{seconds / 60:.0f} min", planned.name)
    log.info("%d runs, about %.1f hours left (an estimate)", len(study.runs), left / 3600)


def write_tables(study: Study, out: Path, scale: str) -> dict[str, list[Row]]:
    """Prints the tables and writes `tables.md`, `tables.csv` and `report.html`, with what is finished."""

    def result(name: str) -> dict | None:
        return result_of(out, study.runs[name])

    tables = {name: rows_of(cells, result, EXPERIMENTS[name][2]) for name, cells in study.tables.items()}
    about = f"Ours: {', '.join(map(study.roles.name, study.roles.layouts))}; scale {scale} ({SCALES[scale].note})."
    about += " The paper: NTU RGB+D and PKU-MMD. The two are not to be compared number by number."
    text = "\n".join(markdown(EXPERIMENTS[name][1], about, rows) for name, rows in tables.items())
    out.mkdir(parents=True, exist_ok=True)
    (out / "tables.md").write_text(text)
    (out / "tables.csv").write_text(as_csv(tables))
    write_whole(out / "report.html", page("The paper's tables again", report_of(study, out, tables, about)))
    print(text, file=sys.stderr)
    return tables


def report_of(study: Study, out: Path, tables: dict[str, list[Row]], about: str) -> list[str]:
    """The sections of the page: the tables, table 4 and figure 3 drawn too, the pretext curves, the runs' pictures."""
    head = ["", "figure", "ours", "the paper"]
    parts = []
    for name, rows in tables.items():
        drawn = CHARTS[name](rows) if name in CHARTS else []
        cells = [[row.row, row.column, text_of(row), row.paper] for row in rows]
        parts.append(section(EXPERIMENTS[name][1], table(head, cells), charts(drawn), about=about))
    finished = [planned for planned in study.runs.values() if not planned.inputs and result_of(out, planned)]
    found = [one for planned in finished for one in read_runs(out / "runs" / planned.name)]
    pretext = [one for one in found if one.record.get("command") == "pretrain"]
    files = [(f"{one.name}: {file.name}", file) for one in found for file in one.pictures]
    return [*parts, section("Pre-training", charts(curves(pretext))), section("Pictures", pictures(files))]


def ablation_charts(rows: Sequence[Row]) -> list[str]:
    """Table 4: a bar for each set of levels that was run."""
    drawn = []
    for column, title in (("top1", "top-1 accuracy, %"), ("mpjpe_mm", "error of predicted joints, mm")):
        bars = [Bar(row.row, row.ours, row.spread) for row in rows if row.column == column and row.ours is not None]
        drawn.append(bar_chart(title, bars))
    return drawn


def fraction_charts(rows: Sequence[Row]) -> list[str]:
    """Figure 3: accuracy over the part of the labels, a line for each row of the table."""
    lines = []
    for colour, name in enumerate(dict.fromkeys(row.row for row in rows)):
        own = [row for row in rows if row.row == name and row.ours is not None]
        parts, values = [float(row.column.rstrip("%")) for row in own], [row.ours or 0.0 for row in own]
        lines.append(Line(name, parts, values, colour))
    return [line_chart("top-1 accuracy, %", lines, "% of the labels")]


CHARTS = {"table4": ablation_charts, "figure3": fraction_charts}


def figures(rows: Sequence[Row]) -> dict[str, float | None]:
    return {f"{row.row} {row.column}": None if row.ours is None else round(row.ours, 2) for row in rows}


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.reproduce", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(lambda: reproduce(options))


if __name__ == "__main__":
    main()
