"""Where the time of a training step goes: a trace of some steps by torch.profiler, and a table of its operations."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

SKIPPED, WARM_UP = 2, 1  # steps before those that count: the first ones allocate and compile
ROWS = 30  # of the table
log = logging.getLogger(__name__)


@contextlib.contextmanager
def profiled(steps: int, run: Path, device: torch.device) -> Iterator[Callable[[], None]]:
    """Yields what is to be called after each step; after `steps` of them `run` has `trace.json` (for Chrome's
    about:tracing or Perfetto) and `profile.txt`. Nothing is profiled where `steps` is 0."""
    if not steps:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    by = f"self_{device.type}_time_total"

    def write(found: profile) -> None:
        found.export_chrome_trace(str(run / "trace.json"))
        (run / "profile.txt").write_text(found.key_averages().table(sort_by=by, row_limit=ROWS))
        log.info("profiled %d steps: %s and %s", steps, run / "trace.json", run / "profile.txt")

    plan = schedule(wait=SKIPPED, warmup=WARM_UP, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step
