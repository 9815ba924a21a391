"""Several processes, ranks, that train one model: who they are, and what passes between them.

torchrun starts them and says so in the environment. Without it, or with one process, nothing here touches
torch.distributed. Gradients are summed by one all-reduce after the backward pass, without DistributedDataParallel
(docs/scaling.md says why). CPU tensors travel by gloo, CUDA tensors by NCCL.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .data.records import DataError
from .runtime import pick_device

TIMEOUT = timedelta(minutes=10)  # longer than ranks may differ in compiling a batch size
TRAFFIC: Counter[str] = Counter()  # steps, and bytes that this process has given to all-reduces and got from gathers
T = TypeVar("T")


@contextlib.contextmanager
def in_touch() -> Iterator[None]:
    """Around communication: a rank that is gone is an error that says so (an OSError, which ends a command)."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"rank {dist.get_rank()} of {dist.get_world_size()} has lost touch with another one, which has ended or "
            f"did nothing for {TIMEOUT} ({str(error).split('. ')[0]}); look for the first error of any rank; the same "
            f"command with --resume goes on from the newest checkpoint"
        ) from error


@torch.library.custom_op("hitrs_fast::gather_rows", mutates_args=())
def gather_rows(rows: Tensor, ranks: int) -> Tensor:
    """`[B, ...]` of each rank to `[ranks * B, ...]` in their order. For what needs no gradient: it has none.

    One opaque operation, so that a compiled model stays one graph.
    """
    out = rows.new_empty(ranks * len(rows), *rows.shape[1:])
    with in_touch():
        dist.all_gather_single(out, rows.contiguous())
    TRAFFIC["gathered"] += out.nbytes
    return out


@gather_rows.register_fake
def _(rows: Tensor, ranks: int) -> Tensor:
    return rows.new_empty(ranks * len(rows), *rows.shape[1:])


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; `on_host` of them share its machine, among which it is number `local`."""

    rank: int = 0
    count: int = 1
    local: int = 0
    on_host: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes: logs, checkpoints, results."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        return gather_rows(rows, self.count)

    def total(self, values: Tensor) -> Tensor:
        """Their sum over all ranks."""
        if self.count > 1:
            values = values.clone()
            with in_touch():
                dist.all_reduce(values)
            TRAFFIC["reduced"] += values.nbytes
        return values

    def sum_gradients(self, model: nn.Module, metrics: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Sums the gradients of `model` over the ranks, and the scalars of `metrics`, which come back summed.

        Each rank's loss is its sum over the count of all ranks, so that a sum is what one process would have. The bits
        are the same on all ranks, and so the weights stay.
        """
        if self.count == 1:
            return metrics
        owners = [p for p in model.parameters() if p.grad is not None]
        parts = [p.grad.flatten() for p in owners if p.grad is not None]
        scalars = torch.stack([value.detach().float() for each in metrics for value in each.values()])
        *summed, scalars = self.total(torch.cat([*parts, scalars])).split([*map(len, parts), len(scalars)])
        for parameter, gradient in zip(owners, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)
        TRAFFIC["steps"] += 1
        values = iter(scalars.unbind())
        return [{name: next(values) for name in each} for each in metrics]

    def traffic(self) -> dict[str, float]:
        """Megabytes a training step since the last call: given to all-reduces, and got from gathers."""
        steps = TRAFFIC["steps"]
        found = {f"{name}_mb": TRAFFIC[name] / steps / 1e6 for name in ("reduced", "gathered")} if steps else {}
        TRAFFIC.clear()
        return found

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        before = TRAFFIC.copy()
        yield
        TRAFFIC.clear()
        TRAFFIC.update(before)

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank. Waits for the others' processes, not for their devices."""
        return self._extreme(int(here), dist.ReduceOp.MAX) > 0 if self.count > 1 else here

    def least(self, number: int) -> int:
        return self._extreme(number, dist.ReduceOp.MIN) if self.count > 1 else number

    def _extreme(self, number: int, which: Any) -> int:
        found = torch.tensor(number)
        with in_touch():
            dist.all_reduce(found, which)
        return int(found)

    def from_first(self, make: Callable[[], T], device: torch.device | None = None) -> T:
        """What `make` gives on the first rank, for all of them, tensors on `device`; its DataError or OSError too."""
        if self.count == 1:
            return make()
        made: Any = None
        if self.first:
            try:
                made = make()
            except (DataError, OSError) as error:
                made = error
        copy = io.BytesIO()
        torch.save(made, copy)
        box = [copy.getvalue()]
        with in_touch():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        if not self.first:
            made = torch.load(io.BytesIO(box[0]), map_location=device, weights_only=False)
        if isinstance(made, Exception):
            raise made
        return made

    def of_all(self, mine: T) -> list[T]:
        """Each rank's, in their order."""
        every: list[Any] = [mine] * self.count
        if self.count > 1:
            with in_touch():
                dist.all_gather_object(every, mine)
        return every

    def in_turn(self, make: Callable[[], T]) -> T:
        """Runs it on one process of each machine before the others, which find what that one has made."""
        if self.local == 0:
            made = make()
        self.any(False)
        return made if self.local == 0 else make()

    def check_same(self, identity: dict[str, str]) -> None:
        """DataError on ranks that were started otherwise than the first, on a host with another store for instance."""
        first = self.from_first(lambda: identity)
        if differing := [name for name in first | identity if first.get(name) != identity.get(name)]:
            raise DataError(
                f"rank {self.rank} differs from rank 0 in {', '.join(differing)}: give all hosts the same data and "
                f"options"
            )

    def share(self, batch_size: int) -> int:
        """A rank's part of a batch. DataError if the batch does not divide."""
        if batch_size % self.count:
            raise DataError(
                f"--batch-size is {batch_size}, which counts all ranks together; {self.count} do not divide it"
            )
        return batch_size // self.count

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


ALONE = Ranks()


def _among_others() -> bool:
    """Whether torchrun has started this process and others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"


def check_alone(command: str) -> None:
    """DataError under torchrun, for commands that train in one process."""
    if _among_others():
        raise DataError(f"training.{command} trains in one process; start it without torchrun")


def join(device: str | None) -> tuple[torch.device, Ranks]:
    """This process's device and its place among those that torchrun has started; `device` as in `pick_device`."""
    own = pick_device(device)
    if not _among_others():
        return own, ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    ranks = Ranks(*(int(os.environ[name]) for name in names))
    if own.type == "cuda":
        own = pick_device(f"cuda:{ranks.local}")
        torch.cuda.set_device(own)
    store, _, _ = next(iter(dist.rendezvous("env://", ranks.rank, ranks.count, timeout=TIMEOUT)))
    # Ranks that are started again must not find the addresses of those that have died.
    store = dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "gloo" if own.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.count, timeout=TIMEOUT)
    if not ranks.first:
        logging.disable(logging.WARNING)  # all say the same
    return own, ranks
