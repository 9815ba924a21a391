"""What a run says: a progress line, log.jsonl, and TensorBoard events where tensorboard is installed."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Means:
    """Running means of metrics, kept on the device: nothing waits until they are read."""

    def __init__(self) -> None:
        self.total: dict[str, Tensor] = {}
        self.weight: float | Tensor = 0.0

    def add(self, metrics: dict[str, Tensor], weight: float | Tensor = 1.0) -> None:
        for name, value in metrics.items():
            value = value.detach().float() * weight
            self.total[name] = self.total[name] + value if name in self.total else value
        self.weight += weight

    def read(self, over: Callable[[Tensor], Tensor] = lambda values: values) -> dict[str, float]:
        """The means since the last call, as numbers. `over` sums what each rank has of them."""
        if not self.total:
            return {}
        values = over(torch.stack(list(self.total.values()))) / self.weight
        out = dict(zip(self.total, values.tolist(), strict=True))
        self.total, self.weight = {}, 0.0
        return out

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.weight = state["total"], state["weight"]


def _drop_after(path: Path, step: int) -> None:
    """Leaves out what a run logged after the checkpoint that it goes on from: it will log that again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a kill can cut the last line
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    partial.replace(path)


class NoLog:
    """What ranks but the first write."""

    def progress(self, step: int, shown: dict[str, float]) -> None: ...

    def record(self, step: int, split: str, metrics: dict[str, float]) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


class RunLog(NoLog):
    """Writes records of a run folder and shows its progress on stderr: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, folder: Path, first: int, steps: int) -> None:
        _drop_after(folder / "log.jsonl", first)
        self.file = (folder / "log.jsonl").open("a")
        self.writer = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=first + 1)
        self.steps, self.bar = steps, None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=first, unit="step", dynamic_ncols=True)

    def progress(self, step: int, shown: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(text)
        else:
            log.info("step %d of %d  %s", step, self.steps, text)

    def record(self, step: int, split: str, metrics: dict[str, float]) -> None:
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3), "split": split}
        self.file.write(json.dumps(line | {k: round(v, 6) for k, v in metrics.items()}) + "\n")
        self.file.flush()
        if self.writer is not None:
            for name, value in metrics.items():
                self.writer.add_scalar(f"{name}/{split}", value, step)

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            log.info("%s", text)

    def close(self) -> None:
        self.file.close()
        if self.writer is not None:
            self.writer.close()
        if self.bar is not None:
            self.bar.close()
