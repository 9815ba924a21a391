"""Commands with a tiny model without dropout, on several ranks.

Under torchrun: the command's name, then its arguments. Otherwise the same after a list of numbers of ranks, such as
1,2,4: each is run in turn, with {} in the arguments replaced by it, in children of this process, which saves the time
to import torch; at the end it prints how they ended. RANKS_DIE="RANK STEP SIGNAL": that rank gets the signal in that
step, of the first start.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

import pytest
import run_cases
import torch._dynamo  # noqa: F401 - optimisers load it, which takes seconds

from training import pretrain, recognize
from training.loop import Trainer

COMMANDS = {"pretrain": pretrain.main, "recognize": recognize.main}


def die(rank: int, step: int, kind: str) -> None:
    whole = Trainer.train_step

    def train_step(self: Trainer):
        if (self.ranks.rank, self.step) == (rank, step) and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.Signals[kind])
        return whole(self)

    Trainer.train_step = train_step  # type: ignore[method-assign]


def main(name: str, *args: str) -> None:
    run_cases.SIZES["dropout"] = 0.0
    run_cases.tiny_models(pytest.MonkeyPatch())
    if "RANKS_DIE" in os.environ:
        rank, step, kind = os.environ["RANKS_DIE"].split()
        die(int(rank), int(step), kind)
    COMMANDS[name](args)


def child(rank: int, count: int, port: int, args: list[str]) -> int:
    """The process id of a rank, which has the environment that torchrun would give it."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        numbers = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
            "MASTER_PORT": port,
        }
        os.environ |= {name: str(number) for name, number in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0"}
        main(*(arg.replace("{}", str(count)) for arg in args))
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os._exit(status)


def started(count: int, args: list[str]) -> dict[str, object]:
    """How each rank ended (its exit code, or minus its signal), and the seconds from the first end to the last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {child(rank, count, port, args): rank for rank in range(count)}
    ends, times = {}, []
    while len(ends) < count:
        pid, status = os.wait()
        ends[ranks[pid]] = os.waitstatus_to_exitcode(status)
        times.append(time.monotonic())
    return {"ends": [ends[rank] for rank in range(count)], "seconds": times[-1] - times[0]}


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        main(*sys.argv[1:])
    else:
        counts = [int(count) for count in sys.argv[1].split(",")]
        found = [started(count, sys.argv[2:]) for count in counts]
        print(json.dumps(found))
