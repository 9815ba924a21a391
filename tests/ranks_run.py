"""What torchrun starts in the tests: a command with a tiny model without dropout. Arguments: its name, then its own.

RANKS_DIE="RANK STEP KIND": that rank ends itself in that step of the first start, by KIND: KILL or TERM.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest
import run_cases

from training import pretrain, recognize
from training.loop import Trainer

COMMANDS = {"pretrain": pretrain.main, "recognize": recognize.main}


def die(rank: int, step: int, kind: str) -> None:
    whole = Trainer.train_step

    def train_step(self: Trainer):
        if (self.ranks.rank, self.step) == (rank, step) and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.Signals["SIG" + kind])
        return whole(self)

    Trainer.train_step = train_step  # type: ignore[method-assign]


if __name__ == "__main__":
    run_cases.SIZES["dropout"] = 0.0
    run_cases.tiny_models(pytest.MonkeyPatch())
    if "RANKS_DIE" in os.environ:
        rank, step, kind = os.environ["RANKS_DIE"].split()
        die(int(rank), int(step), kind)
    COMMANDS[sys.argv[1]](sys.argv[2:])
