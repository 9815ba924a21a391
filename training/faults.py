"""What a run does when it is told to stop, when the disk is full, and when its numbers are not finite."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.records import DataError
from .setup import write_json

# Steps in a row. Float16's loss scaler begins at 2^16 and halves at each overflow, so that 16 in a row are no fault.
PATIENCE = 20
REPORT = "nonfinite.json"
log = logging.getLogger(__name__)


class StopSignals:
    """SIGTERM and SIGINT ask for an end after the current step (`asked`); a SIGINT after that leaves at once."""

    def __init__(self) -> None:
        self.asked: str | None = None

    def __enter__(self) -> StopSignals:
        self.former: dict[signal.Signals, Any] = {
            which: signal.signal(which, self._ask) for which in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self.former.items():
            signal.signal(which, handler)

    def _ask(self, number: int, _frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            # Not by way of sys.stderr: the signal may have come in the middle of a write to it.
            os.write(2, b"\nstopping after this step; Ctrl-C leaves at once, without saving\n")
        self.asked = self.asked or signal.Signals(number).name


@contextlib.contextmanager
def surviving(what: str) -> Iterator[None]:
    """A full disk does not end a training that may go on for days: it is said, and the next time tries again."""
    try:
        yield
    except OSError as error:
        log.warning("%s could not be written (%s): the training goes on without", what, error)


class NonFinite:
    """Counts steps that were left out because their loss or gradient was not finite.

    The counts stay on the device, so that no step waits for them. `name_of` gives the names of the store's sequences.
    `writes`: whether this process writes the report.
    """

    def __init__(self, device: torch.device, name_of: Callable[[np.ndarray], list[str]], writes: bool = True) -> None:
        self.total = torch.zeros((), device=device)
        self.in_a_row = torch.zeros((), device=device)
        self.recent: deque[tuple[int, np.ndarray]] = deque(maxlen=PATIENCE)
        self.name_of, self.writes = name_of, writes

    def count(self, bad: Tensor, step: int, sequences: np.ndarray) -> None:
        """`bad`: 1 where the step was left out, else 0, float32."""
        self.total = self.total + bad
        self.in_a_row = (self.in_a_row + bad) * bad
        self.recent.append((step, sequences))

    def check(self, run: Path) -> float:
        """How many steps were left out so far. DataError if the last PATIENCE were; `run` then has their names."""
        total, in_a_row = torch.stack([self.total, self.in_a_row]).tolist()
        if in_a_row >= PATIENCE:
            steps = [{"step": step, "sequences": self.name_of(sequences)} for step, sequences in self.recent]
            if self.writes:
                with surviving(REPORT):
                    write_json(run / REPORT, {"steps": steps})
            raise DataError(
                f"the loss or its gradient was not finite in {in_a_row:.0f} steps in a row, up to step "
                f"{self.recent[-1][0]}: {run / REPORT} names their sequences; look for damaged data, or begin anew "
                f"with a lower --lr"
            )
        return total

    def state_dict(self) -> dict[str, Tensor]:
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.total, self.in_a_row = state["total"], state["in_a_row"]
