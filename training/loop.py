"""The training loop: steps, logs, validation, checkpoints.

What a step computes is its task's business: `Task.losses` turns a batch into a dictionary whose "loss" is minimised.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nvtx
import torch
from torch import Tensor, nn

from .checkpoint import load_checkpoint, save_checkpoint
from .data.loader import Batch, Loader, Plan
from .data.records import DataError
from .log import Means, RunLog
from .optim import OptimConfig, lr_at, make_optimizer
from .runtime import seed_step

TRAINING, VALIDATION = 0, 1  # streams of random numbers
SHOWN = ("loss", "lr", "sequences_per_s")
log = logging.getLogger(__name__)


class Task(Protocol):
    generator: torch.Generator

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


class Position:
    """Where in the endless series of batches a run is."""

    def __init__(self, loader: Loader, epoch: int = 0, index: int = 0) -> None:
        self.loader, self.epoch, self.index = loader, epoch, index
        self.plan: Plan = loader.plan(epoch)

    def next(self) -> Batch:
        if self.index == len(self.plan):
            self.epoch, self.index = self.epoch + 1, 0
            self.plan = self.loader.plan(self.epoch)
        self.index += 1
        return self.loader.batch(self.plan, self.index - 1)


class Trainer:
    def __init__(
        self, task: Task, train: Loader, validation: Loader, optim: OptimConfig, config: LoopConfig, run: Path
    ) -> None:
        self.task, self.validation, self.optim, self.config, self.run = task, validation, optim, config, run
        self.optimizer = make_optimizer(task.model, optim)
        self.step = 0
        self.position = Position(train)
        self.call: Callable[..., Any] = task.model
        if config.compile:
            self.call = torch.compile(task.model, fullgraph=True, dynamic=False)

    def resume(self) -> None:
        """Goes on from the newest checkpoint; says so where there is none yet, and begins."""
        state = load_checkpoint(self.run, self.task.generator.device)
        if state is None:
            log.info("%s has no checkpoint yet: starting from the beginning", self.run)
            return
        then, now = state["identity"], self.config.identity
        if differing := [f"{k} ({then.get(k)}, now {now.get(k)})" for k in then | now if then.get(k) != now.get(k)]:
            raise DataError(f"{self.run} cannot go on, because it was begun with another {', '.join(differing)}")
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.position = Position(self.position.loader, state["epoch"], state["index"])

    def save(self) -> None:
        with nvtx.annotate("checkpoint"):
            state = {
                "model": self.task.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "identity": self.config.identity,
                "epoch": self.position.epoch,
                "index": self.position.index,
            }
            save_checkpoint(self.run, self.step, state)

    def warm_up(self) -> None:
        """Compiles for every capacity, on empty batches, so that no step waits for it."""
        self.task.model.train()
        for size in self.position.loader.sizes:
            self.task.losses(self.call, self.position.loader.empty(size), True)["loss"].backward()
        self.optimizer.zero_grad(set_to_none=True)

    def run_to_end(self, save_model: Callable[[], None]) -> dict[str, float]:
        """Compiles where that is wanted, and trains with the run's log open; returns what `fit` does."""
        if self.config.compile and self.step < self.config.steps:
            log.info(
                "compiling for %d batch sizes; about a minute each the first time", len(self.position.loader.sizes)
            )
            self.warm_up()
        run_log = RunLog(self.run, self.step, self.config.steps)
        try:
            return self.fit(run_log, save_model)
        finally:
            run_log.close()

    def fit(self, run_log: RunLog, save_model: Callable[[], None]) -> dict[str, float]:
        """Trains to the end; returns the last validation's metrics and the training speed."""
        means, speed = Means(), _Speed()
        metrics: dict[str, float] = {}
        if self.step == self.config.steps:
            metrics = self.validate()
            save_model()
        while self.step < self.config.steps:
            sequences = self.train_step(means)
            self.step += 1
            speed.count(sequences)
            if self._due(self.config.log_every):
                record = means.read() | {"lr": self.lr(self.step - 1)} | speed.read()
                run_log.record(self.step, "train", record)
                run_log.progress(self.step, {name: record[name] for name in SHOWN})
            if self._due(self.config.validate_every):
                with speed.paused():
                    metrics = self.validate()
                run_log.record(self.step, "validation", metrics)
                run_log.say("validation  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
            if self._due(self.config.checkpoint_every):
                with speed.paused():
                    self.save()
                    save_model()
        return metrics | speed.overall()

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def lr(self, step: int) -> float:
        return lr_at(step, self.config.steps, self.config.warmup, self.optim)

    def train_step(self, means: Means) -> int:
        """One step of the optimiser; returns how many sequences it saw."""
        self.task.model.train()
        sequences = 0
        for micro in range(self.config.accumulate):
            with nvtx.annotate("data"):
                seed_step(self.config.seed, TRAINING, self.step * self.config.accumulate + micro, self.task.generator)
                batch = self.position.next()
            with nvtx.annotate("forward"):
                losses = self.task.losses(self.call, batch, True)
            with nvtx.annotate("backward"):
                (losses["loss"] / self.config.accumulate).backward()
            means.add(losses)
            sequences += len(batch.sequence)
        with nvtx.annotate("optimiser"):
            self._update()
        return sequences

    def _update(self) -> None:
        if self.optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.optim.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean metrics over the validation sequences, without dropout, with the same draws every time."""
        self.task.model.eval()
        means, plan = Means(), self.validation.plan(0)
        for index in range(len(plan)):
            seed_step(self.config.seed, VALIDATION, index, self.task.generator)
            batch = self.validation.batch(plan, index)
            means.add(self.task.losses(self.task.model, batch, False), weight=len(batch.sequence))
        return means.read()


class _Speed:
    """Sequences per second of training, without validation and checkpoints, and without the first step."""

    def __init__(self) -> None:
        self.seconds = self.sequences = 0.0
        self.recent_seconds = self.recent_sequences = 0.0
        self.last: float | None = None

    def count(self, sequences: int) -> None:
        now = time.perf_counter()
        if self.last is not None:
            self.recent_seconds += now - self.last
            self.recent_sequences += sequences
        self.last = now

    def read(self) -> dict[str, float]:
        self.seconds += self.recent_seconds
        self.sequences += self.recent_sequences
        rate = self.recent_sequences / self.recent_seconds if self.recent_seconds else 0.0
        self.recent_seconds = self.recent_sequences = 0.0
        return {"sequences_per_s": rate}

    def overall(self) -> dict[str, float]:
        self.read()
        return {"sequences_per_s": self.sequences / self.seconds} if self.seconds else {}

    def paused(self) -> _Pause:
        return _Pause(self)


class _Pause:
    def __init__(self, speed: _Speed) -> None:
        self.speed = speed

    def __enter__(self) -> None:
        self.begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self.speed.last is not None:
            self.speed.last += time.perf_counter() - self.begin
