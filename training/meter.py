"""How fast a run is: rates, times and memory over a log interval, without validation and checkpoints."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from .data.loader import Batch

PAGES = Path("/proc/self/statm")  # of Linux: its second number is what the process holds in memory


class Meter:
    """Begins with the second step of a run: the first one pays for what is made once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = self.sequences = 0.0
        self.last: float | None = None
        self._clear()

    def _clear(self) -> None:
        self.recent = dict.fromkeys(("seconds", "steps", "sequences", "clips", "waited", "filled", "room"), 0.0)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what gets a batch."""
        begin = time.perf_counter()
        yield
        self.recent["waited"] += time.perf_counter() - begin

    def count(self, batches: Sequence[Batch]) -> None:
        """Ends a step, which has trained on these batches."""
        now = time.perf_counter()
        if self.last is None:
            self._clear()
        else:
            self.recent["seconds"] += now - self.last
            self.recent["steps"] += 1
            for batch in batches:
                self.recent["sequences"] += len(batch.everywhere.sequence)
                self.recent["clips"] += batch.everywhere.clips
                self.recent["filled"] += batch.filled
                self.recent["room"] += len(batch.frames)
        self.last = now

    def read(self) -> dict[str, float]:
        """Since the last call: `sequences_per_s`, `clips_per_s`; seconds a step, and of these waiting for data; the
        part of the capacity that is not padding; memory in GB, on CUDA the most that tensors took."""
        recent = self.recent
        self.seconds += recent["seconds"]
        self.sequences += recent["sequences"]
        out = {"sequences_per_s": 0.0}
        if recent["steps"]:
            out = {f"{name}_per_s": recent[name] / recent["seconds"] for name in ("sequences", "clips")}
            out |= {"step_s": recent["seconds"] / recent["steps"], "data_s": recent["waited"] / recent["steps"]}
            out |= {"fill": recent["filled"] / recent["room"]}
        self._clear()
        return out | self._memory()

    def _memory(self) -> dict[str, float]:
        if self.device.type == "cuda":
            return {"memory_gb": torch.cuda.max_memory_allocated(self.device) / 1e9}
        if not PAGES.exists():
            return {}
        return {"memory_gb": int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9}

    def overall(self) -> dict[str, float]:
        """The training speed of the whole run."""
        self.read()
        return {"sequences_per_s": self.sequences / self.seconds} if self.seconds else {}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if self.last is not None:
            self.last += time.perf_counter() - begin
