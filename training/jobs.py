"""Runs the other commands one after another: finished ones are skipped, ones that were cut go on."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .data.records import DataError
from .experiments import Run, Study
from .setup import write_json

PARALLEL = ("pretrain", "recognize")  # commands that torchrun may start
CHECKPOINT_EVERY = "250"  # steps, which a run loses at most if it is killed
log = logging.getLogger(__name__)


def result_of(out: Path, run: Run) -> dict[str, Any] | None:
    """The figures of a finished run. DataError if it was finished with other options."""
    file = out / "results" / f"{run.name}.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text())
    if record["command"] != [*run.command, run.init, *run.inputs]:
        raise DataError(f"{out}: {run.name} was finished with other options; give another --out")
    return record["result"]


def execute(study: Study, out: Path) -> None:
    """Runs what is not finished. DataError where a run fails; KeyboardInterrupt where one was told to stop."""
    (out / "results").mkdir(parents=True, exist_ok=True)
    waiting = [run for run in study.runs.values() if result_of(out, run) is None]
    for number, run in enumerate(waiting, 1):
        log.info("== run %d of %d: %s", number, len(waiting), run.name)
        result = _result(run, command_line(study, out, run))
        file = out / "results" / f"{run.name}.json"
        write_json(file, {"command": [*run.command, run.init, *run.inputs], "result": result})


def command_line(study: Study, out: Path, run: Run) -> list[str]:
    """The process that makes a run, or goes on with it."""
    folder = out / "runs" / run.name
    module = f"{__package__}.{run.command[0]}"
    devices = torch.cuda.device_count()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", "-m", "--", module]
    trains = run.command[0] in PARALLEL
    line = [sys.executable, *(launcher if devices > 1 and trains else ["-m", module]), *run.command[1:]]
    if run.inputs:
        seed = f"seed-{study.seeds[0]}" if len(study.seeds) > 1 else ""
        return line + [str(out / "runs" / name / seed) for name in run.inputs]
    if run.init is not None:
        line += ["--init", str(out / "runs" / run.init)]
    line += ["--run", str(folder), "--checkpoint-every", CHECKPOINT_EVERY]
    return [*line, *(["--resume"] if folder.exists() else [])]


def _result(run: Run, line: list[str]) -> dict[str, Any]:
    """Runs a command; its last line of output is JSON with its figures."""
    child = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    with _passing_on_signals(child) as asked:
        printed, _ = child.communicate()
    if asked:
        raise KeyboardInterrupt
    if child.returncode:
        raise DataError(f"{run.name} failed (see above); once that is repaired, the same command goes on from here")
    return json.loads(printed.splitlines()[-1])


@contextlib.contextmanager
def _passing_on_signals(child: subprocess.Popen[str]) -> Iterator[list[int]]:
    """SIGINT and SIGTERM reach the child as SIGTERM, at which it saves and ends; yields those that came."""
    asked: list[int] = []

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        child.terminate()

    former = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
