"""The training loop: steps, logs, validation, checkpoints.

What a step computes is its task's business: `Task.losses` turns a batch into a dictionary whose "loss" is minimised.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import nvtx
import torch
from torch import Tensor, nn

from .checkpoint import Saver, load_checkpoint, remove_after
from .data.loader import Batch, Loader, Plan
from .faults import NonFinite, StopSignals, surviving
from .log import Means, NoLog, RunLog
from .meter import Meter
from .optim import OptimConfig, lr_at, make_optimizer
from .profiling import profiled
from .ranks import ALONE, Ranks
from .resume import check_identity
from .runtime import Stopped, deterministic, seed_step, timed_warm_up

TRAINING, VALIDATION = 0, 1  # streams of random numbers
SHOWN = ("loss", "lr", "sequences_per_s")
log = logging.getLogger(__name__)


class Task(Protocol):
    generator: torch.Generator
    precision: torch.dtype
    """Of matrix products; float16 makes the loop scale the loss."""

    @property
    def model(self) -> nn.Module: ...

    def losses(self, model: Callable[..., Any], batch: Batch, training: bool) -> dict[str, Tensor]:
        """`model` is `self.model` or its compiled form."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    steps: int
    warmup: int
    accumulate: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    seed: int
    compile: bool
    identity: dict[str, str]
    """What a checkpoint must share with the run that goes on from it."""
    name_of: Callable[[np.ndarray], list[str]]
    """Names of the store's sequences of these numbers, for the report of a fault."""
    override: Sequence[str] = ()
    """NAME=VALUE: what of the identity may differ all the same."""
    keep_best: bool = False
    """Whether the weights of the lowest validation loss are kept too, in the folder `best`."""
    profile: int = 0
    """Steps to profile, near the beginning."""


class Position:
    """Where in the endless series of batches a run is."""

    def __init__(self, loader: Loader, epoch: int = 0, index: int = 0) -> None:
        self.loader, self.epoch, self.index = loader, epoch, index
        self.plan: Plan = loader.plan(epoch)

    def next(self) -> Batch:
        if self.index >= len(self.plan):
            self.epoch, self.index = self.epoch + 1, 0
            self.plan = self.loader.plan(self.epoch)
        self.index += 1
        return self.loader.batch(self.plan, self.index - 1)


class Trainer:
    """One of `ranks` processes: each has its part of every batch, all have the same weights, the first one writes."""

    def __init__(
        self,
        task: Task,
        train: Loader,
        validation: Loader,
        optim: OptimConfig,
        config: LoopConfig,
        run: Path,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.task, self.validation, self.optim, self.config, self.run = task, validation, optim, config, run
        self.optimizer = make_optimizer(task.model, optim)
        device = task.generator.device
        self.scaler = torch.amp.GradScaler(device.type, enabled=task.precision == torch.float16)
        self.nonfinite = NonFinite(device, config.name_of, ranks.first)
        self.means, self.norms, self.best = Means(), Means(), math.inf
        self.meter = Meter(device)
        self.saver, self.stop = Saver(run), StopSignals()
        self.step, self.saved = 0, -1  # saved: the step of the newest checkpoint
        self.position = Position(train)
        self.call: Callable[..., Any] = task.model
        if config.compile:
            self.call = torch.compile(task.model, fullgraph=True, dynamic=False)

    def resume(self) -> None:
        """Goes on from the newest checkpoint; says so where there is none yet, and begins."""
        device = self.task.generator.device
        state = self.ranks.from_first(lambda: load_checkpoint(self.run, device), device)
        if state is None:
            log.info("%s has no checkpoint yet: starting from the beginning", self.run)
            return
        check_identity(self.run, state["identity"], self.config.identity, self.config.override)
        for name, part in self._parts().items():
            if state[name]:  # a run in another precision has no scaler
                part.load_state_dict(state[name])
        self.step, self.saved, self.best = state["step"], state["step"], state["best"]
        self.position = Position(self.position.loader, state["epoch"], state["index"])
        if self.ranks.first:
            remove_after(self.run, self.step)
        log.info("%s goes on after step %d of %d", self.run, self.step, self.config.steps)

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.task.model,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "means": self.means,
            "norms": self.norms,
            "nonfinite": self.nonfinite,
        }

    def save(self) -> None:
        if self.saved == self.step or not self.ranks.first:
            return
        with nvtx.annotate("checkpoint"):
            state = {name: part.state_dict() for name, part in self._parts().items()} | {
                "step": self.step,
                "identity": self.config.identity,
                "epoch": self.position.epoch,
                "index": self.position.index,
                "best": self.best,
            }
            self.saver.save(self.step, state)
            self.saved = self.step

    def warm_up(self) -> None:
        """Compiles for every capacity, on empty batches, so that no step waits for it."""
        self.task.model.train()
        for size in self.position.loader.sizes:
            self.task.losses(self.call, self.position.loader.empty(size), True)["loss"].backward()
        self.optimizer.zero_grad(set_to_none=True)

    def run_to_end(self, save_model: Callable[[Path], None]) -> dict[str, float]:
        """Compiles where that is wanted, and trains with the run's log open; returns what `fit` does.

        `save_model` writes the newest weights to a folder. Raises Stopped where a signal ends it early.
        """
        self.ranks.check_same(self.config.identity)
        with self.stop, deterministic(self.task.generator.device):
            if self.config.compile and self.step < self.config.steps:
                timed_warm_up(self.warm_up, len(self.position.loader.sizes))
            run_log = RunLog(self.run, self.step, self.config.steps) if self.ranks.first else NoLog()
            try:
                return self.fit(run_log, save_model)
            except Exception:
                self.saver.warn()  # what was saved before the fault counts
                raise
            finally:
                with surviving("the end of the log"):
                    run_log.close()

    def fit(self, run_log: NoLog, save_model: Callable[[Path], None]) -> dict[str, float]:
        """Trains to the end; returns the last validation's metrics and the training speed."""
        metrics = self.validate() if self.step == self.config.steps else {}
        left = self.config.steps - self.step
        profile = self.config.profile if self.ranks.first else 0
        with profiled(profile, left, self.run, self.task.generator.device) as profiled_step:
            while self.step < self.config.steps and not self._asked_to_stop():
                self.meter.count(self.train_step())
                self.step += 1
                with self.meter.paused():
                    profiled_step()
                if self._due(self.config.log_every):
                    self._log(run_log)
                with self.meter.paused():
                    if self._due(self.config.validate_every):
                        metrics = self.validate()
                        self._keep_best(metrics["loss"], save_model)
                        with surviving("a line of the log"):
                            run_log.record(self.step, "validation", metrics)
                        run_log.say("validation  " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
                    if self._due(self.config.checkpoint_every):
                        self._save_all(save_model)
        if self.stop.asked:
            self._save_all(save_model)
            self.saver.finish()
            if not self.ranks.first:
                raise Stopped
            raise Stopped(
                f"stopped by {self.stop.asked} after step {self.step} of {self.config.steps}, saved in {self.run}: the "
                f"same command with --resume, and with --run where it was not given, goes on"
            )
        self.saver.warn()
        if self.ranks.first:
            save_model(self.run)
        return metrics | self.meter.overall()

    def _asked_to_stop(self) -> bool:
        """All ranks stop after the same step, whichever the signal has come to first."""
        if self.ranks.any(self.stop.asked is not None):
            self.stop.asked = self.stop.asked or "a signal to another rank"
        return self.stop.asked is not None

    def _log(self, run_log: NoLog) -> None:
        record = self.means.read() | self.norms.read() | {"lr": self.lr(self.step - 1)} | self.meter.read()
        record |= self.ranks.traffic()
        record["skipped"] = self.nonfinite.check(self.run)
        with surviving("a line of the log"):
            run_log.record(self.step, "train", record)
        run_log.progress(self.step, {name: record[name] for name in SHOWN})

    def _save_all(self, save_model: Callable[[Path], None]) -> None:
        if self.ranks.first:
            with surviving("the newest weights"):
                save_model(self.run)
        self.save()  # last, as it goes on in the background

    def _keep_best(self, loss: float, save_model: Callable[[Path], None]) -> None:
        if self.config.keep_best and loss < self.best:
            self.best = loss
            if self.ranks.first:
                with surviving("the best weights"):
                    save_model(self.run / "best")

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def lr(self, step: int) -> float:
        return lr_at(step, self.config.steps, self.config.warmup, self.optim)

    def train_step(self) -> list[Batch]:
        """One step of the optimiser; returns the batches it saw."""
        self.task.model.train()
        seen, metrics, finite = [], [], torch.ones((), dtype=torch.bool, device=self.task.generator.device)
        for micro in range(self.config.accumulate):
            with nvtx.annotate("data"), self.meter.waiting():
                number = self.step * self.config.accumulate + micro
                seed_step(self.config.seed, TRAINING, number, self.task.generator, self.ranks.rank)
                batch = self.position.next()
            with nvtx.annotate("forward"):
                losses = self.task.losses(self.call, batch, True)
            with nvtx.annotate("backward"):
                self.scaler.scale(losses["loss"] / self.config.accumulate).backward()
            metrics.append(losses)
            seen.append(batch)
        with nvtx.annotate("all-reduce"):
            metrics = self.ranks.sum_gradients(self.task.model, metrics)
        for losses in metrics:
            counted = losses["loss"].detach().isfinite()
            self.means.add({k: torch.where(counted, v, 0) for k, v in losses.items()}, counted)
            finite = finite & counted
        with nvtx.annotate("optimiser"):
            bad = self._update(finite)
        self.nonfinite.count(bad, self.step + 1, np.concatenate([batch.everywhere.sequence for batch in seen]))
        return seen

    def _update(self, finite: Tensor) -> Tensor:
        """Steps, unless the losses are not `finite` or the gradient is not; returns 1 where it did not, else 0."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.task.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        bad = 1 - (finite & norm.isfinite()).float()
        self.norms.add({"grad_norm": torch.where(bad > 0, 0, norm)}, 1 - bad)
        if self.optim.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.optim.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step)
        # Fused optimisers read this tensor and leave everything as it is where it is 1: no step waits for the answer.
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return bad

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean metrics over the validation sequences, without dropout, with the same draws every time."""
        self.task.model.eval()
        means, plan = Means(), self.validation.plan(0)
        with self.ranks.uncounted():
            for index in range(len(plan)):
                seed_step(self.config.seed, VALIDATION, index, self.task.generator)
                batch = self.validation.batch(plan, index)
                losses = self.task.losses(self.task.model, batch, False)
                means.add(losses, weight=len(batch.everywhere.sequence))
            return means.read(self.ranks.total)
