"""Where the time of a training step goes: a trace of some steps by torch.profiler, and a table of its operations."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from .data.records import DataError

SKIPPED, WARM_UP = 2, 1  # steps before those that count: the first ones allocate and compile
ROWS = 30  # of the table
log = logging.getLogger(__name__)


@contextlib.contextmanager
def profiled(steps: int, left: int, run: Path, device: torch.device) -> Iterator[Callable[[], None]]:
    """Yields what is to be called after each step; after `steps` of them `run` has `trace.json` (for Chrome's
    about:tracing or Perfetto) and `profile.txt`. Nothing is profiled where `steps` is 0. DataError if fewer are `left`
    than are wanted and skipped.
    """
    if not steps:
        yield lambda: None
        return
    if (needed := SKIPPED + WARM_UP + steps) > left:
        raise DataError(f"--profile {steps} needs a run of {needed} more steps, and {left} are left")
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    by = f"self_{device.type}_time_total"

    def write(found: profile) -> None:
        found.export_chrome_trace(str(run / "trace.json"))
        (run / "profile.txt").write_text(found.key_averages().table(sort_by=by, row_limit=ROWS))
        log.info("profiled: %s and %s", run / "trace.json", run / "profile.txt")

    log.info("profiling steps %d to %d", SKIPPED + WARM_UP + 1, SKIPPED + WARM_UP + steps)
    plan = schedule(wait=SKIPPED, warmup=WARM_UP, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step
