"""One page about one or several runs, side by side: `python -m training.report --help`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from . import runtime
from .charts import Line, line_chart
from .data.records import DataError
from .page import KINDS, charts, page, pictures, section, table
from .setup import write_whole

NOT_DRAWN = ("step", "time", "split")


@dataclass(frozen=True)
class RunFolder:
    """What a run has left."""

    name: str
    record: dict[str, Any]
    log: list[dict[str, Any]]
    metrics: dict[str, Any]
    pictures: list[Path] = field(default_factory=list)


@dataclass
class Options:
    """Write a page about runs: curves, options that differ, final figures, pictures. It is one file that needs nothing
    else, so it can be sent and kept."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; of a run with several seeds each seed is shown."""
    out: Path = Path("report.html")
    """The page, written anew."""


def report(options: Options) -> None:
    if not options.runs:
        raise DataError("name at least one run folder")
    runs = [found for path in options.runs for found in read_runs(path)]
    text = page("hitrs_fast: " + ", ".join(str(path) for path in options.runs), sections_of(runs))
    write_whole(options.out, text)
    print(json.dumps({"report": str(options.out), "runs": [found.name for found in runs]}))


def read_runs(path: Path) -> list[RunFolder]:
    """The run in a folder, or those of its seeds. DataError if there is none, or its files are damaged."""
    seeds = sorted(path.glob("seed-*"), key=lambda seed: (len(seed.name), seed.name))
    found = [read_run(folder) for folder in seeds or [path]]
    if seeds and (path / "metrics.json").exists():
        found.insert(0, RunFolder(str(path), {}, [], _json(path / "metrics.json")))
    return found


def read_run(folder: Path) -> RunFolder:
    if not (folder / "run.json").is_file():
        raise DataError(f"{folder} is no run folder: it has no run.json")
    files = sorted(file for file in folder.iterdir() if file.suffix in KINDS)
    metrics = _json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    return RunFolder(str(folder), _json(folder / "run.json"), _log(folder / "log.jsonl"), metrics, files)


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} is damaged: it holds no table of names and values")
    return content


def _log(file: Path) -> list[dict[str, Any]]:
    """The log's lines; a last one that was cut by a kill is left out. Nothing where a run has none: knn, for one."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    out = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if number < len(lines):
                raise DataError(f"{file}, line {number}: is not JSON ({error})") from error
            continue
        if (
            not isinstance(record, dict)
            or not all(map(_is_logged, record.items()))
            or not {"step", "split"} <= set(record)
        ):
            raise DataError(f"{file}, line {number}: is no line of a training's log")
        out.append(record)
    return out


def _is_logged(item: tuple[str, Any]) -> bool:
    name, value = item
    return isinstance(value, str) if name == "split" else isinstance(value, (int, float))


def sections_of(runs: Sequence[RunFolder]) -> list[str]:
    """The parts of a page about these runs."""
    without = [run.name for run in runs if run.record and not run.log]
    about = "Training is drawn whole, validation and test dashed."
    if without:
        about += f" Without a log, as after a test or nearest neighbours: {', '.join(without)}."
    return [
        section("Final figures", table(["run", *(names := figure_names(runs))], figure_rows(runs, names))),
        section("Curves", charts(curves(runs)), about=about),
        section("Pictures", pictures([(f"{run.name}: {file.name}", file) for run in runs for file in run.pictures])),
        section("What differs", table(["option", *(run.name for run in runs)], differing(runs))),
        section("How they were run", table(["", *(run.name for run in runs)], environment_rows(runs))),
    ]


def figure_names(runs: Sequence[RunFolder]) -> list[str]:
    return list(dict.fromkeys(k for run in runs for k, v in run.metrics.items() if isinstance(v, (int, float))))


def figure_rows(runs: Sequence[RunFolder], names: Sequence[str]) -> list[list[object]]:
    return [[run.name, *(run.metrics.get(name) for name in names)] for run in runs if run.metrics]


def curves(runs: Sequence[RunFolder]) -> list[str]:
    """A chart for each logged number, with a line for each run and part of the data."""
    lines: dict[str, list[Line]] = {}
    for colour, run in enumerate(run for run in runs if run.log):
        for split in dict.fromkeys(record["split"] for record in run.log):
            own = [record for record in run.log if record["split"] == split]
            for name in dict.fromkeys(k for record in own for k in record if k not in NOT_DRAWN):
                points = [(record["step"], record[name]) for record in own if name in record]
                label = f"{run.name} {split}" if len(runs) > 1 else split
                x, y = zip(*points, strict=True)
                lines.setdefault(name, []).append(Line(label, x, y, colour, dashed=split != "train"))
    return [line_chart(name, each) for name, each in lines.items()]


def differing(runs: Sequence[RunFolder]) -> list[list[object]]:
    """The options and settings that are not the same in all runs."""
    flat = [flattened((run.record.get("options") or {}) | {"recipe": run.record.get("recipe") or {}}) for run in runs]
    names = dict.fromkeys(name for each in flat for name in each)
    return [
        [name, *(each.get(name) for each in flat)] for name in names if len({str(each.get(name)) for each in flat}) > 1
    ]


def environment_rows(runs: Sequence[RunFolder]) -> list[list[object]]:
    """What each `run.json` says of where and on what it ran."""
    flat = [
        flattened({key: run.record.get(key, {}) for key in ("command", "seed", "store", "parts", "environment")})
        for run in runs
    ]
    return [[name, *(each.get(name) for each in flat)] for name in dict.fromkeys(n for each in flat for n in each)]


def flattened(content: dict[str, Any], prefix: str = "") -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            out |= flattened(value, f"{prefix}{key} ")
        else:
            out[prefix + key] = " ".join(map(str, value)) if isinstance(value, list) else value
    return out


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.report", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    runtime.run(lambda: report(options))


if __name__ == "__main__":
    main()
