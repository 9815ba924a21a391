"""Options that several commands have, and the checks of their values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .data.records import DataError
from .precision import PrecisionName
from .setup import above, at_least, check_seeds


@dataclass(kw_only=True)
class RunOptions:
    """Of every command that trains."""

    data: str | None = None
    """The store, a folder or a URL."""
    split: str | None = None
    """Which of the store's splits; the default is its first."""
    preset: Literal["paper", "authors", "small"] | None = None
    """Sizes, schedule and rules; the default is small on a CPU and paper on CUDA."""
    lr: float | None = None
    """Highest learning rate; the default is the preset's."""
    run: Path | None = None
    """Folder for weights, logs and checkpoints; the default is runs/COMMAND-<time>."""
    device: str | None = None
    """cpu or cuda; the default is CUDA where there is one."""
    precision: PrecisionName | None = None
    """Of matrix products; the default is bf16 on CUDA and fp32 on a CPU. Weights are float32 always."""
    tf32: bool = False
    """On CUDA, round the factors of float32 products to 10 bits."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the last step always has one."""
    profile: int = 0
    """Profile so many steps near the beginning: trace.json and profile.txt in the run's folder."""
    resume: bool = False
    """Go on with the run in --run from its newest checkpoint."""
    override: tuple[str, ...] = ()
    """NAME=VALUE...: go on though these differ from the run's beginning (docs/training.md says which may)."""


@dataclass(kw_only=True)
class TuningOptions(RunOptions):
    """Of the commands that put an encoder to use."""

    init: Path | None = None
    """A run whose encoder is the start, with its sizes; without one, training is from scratch."""
    fraction: float | None = None
    """Part of the training samples that is used; the default is all of them."""
    label_seed: int = 0
    """Of that draw."""
    hold_out: str | None = None
    """KEY:VALUES, such as subjects:1,2: these of the training samples test, and the split's test samples are left
    alone. For choosing options."""
    map_joints: bool = False
    """Map the data's joints onto the layout of --init by their names."""
    epochs: float | None = None
    """Passes over the training samples; the default is the preset's."""
    batch_size: int | None = None
    """Of what a batch is made; the default is the preset's."""
    seeds: tuple[int, ...] = (0,)
    """A run for each; with several, folders seed-N within --run, and mean and spread of their figures."""


def check_tuning(options: TuningOptions) -> None:
    """DataError for a value out of range."""
    above("lr", options.lr, 0)
    above("epochs", options.epochs, 0)
    at_least("batch-size", options.batch_size, 1)
    at_least("checkpoint-every", options.checkpoint_every, 1)
    at_least("profile", options.profile, 0)
    if options.fraction is not None and not 0 < options.fraction <= 1:
        raise DataError(f"--fraction is {options.fraction}; it must be above 0 and at most 1")
    check_seeds(options.seeds)
