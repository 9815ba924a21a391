"""Predict how a motion goes on: train and test predictors: `python -m training.predict --help`."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from .data.labelled import labelled_list
from .data.records import DataError
from .data.store import Store
from .forecasting import Job, run_seed
from .precision import PrecisionName, precision_of, use_tf32
from .prediction import Decoder, Loss, PredictionRecipe, prediction_recipe
from .protocols import encoder_of
from .ranks import check_alone
from .runtime import keep_freed_memory, new_run_folder, pick_device, run
from .samples import Parts, frames_for, held_out
from .setup import above, at_least, check_seeds, default_preset, run_seeds

OBSERVED, PREDICTED = 2.0, 0.4  # seconds
log = logging.getLogger(__name__)


@dataclass
class Options:
    """Train a predictor of motion on the sequences of a store and test it beside two baselines that need no learning:
    the last pose repeated, and constant velocity."""

    data: str | None = None
    """The store, a folder or a URL."""
    init: Path | None = None
    """A run whose encoder is the start; without one, training is from scratch."""
    fraction: float = 1.0
    """Part of the training samples that is used, of those long enough."""
    label_seed: int = 0
    """Of that draw."""
    split: str | None = None
    """Which of the store's splits; the default is its first."""
    hold_out: str | None = None
    """KEY:VALUES, such as subjects:1,2: these of the training samples test, and the split's test samples are left
    alone. For choosing options."""
    map_joints: bool = False
    """Map the data's joints onto the layout of --init by their names."""
    preset: Literal["paper", "authors", "small"] | None = None
    """Sizes and schedule; the default is small on a CPU and paper on CUDA. Sizes are those of --init."""
    fps: float | None = None
    """Frames a second, for a store that does not know."""
    observed: int | None = None
    """Frames that are seen; the default is 2 s."""
    predicted: int | None = None
    """Frames that follow; the default is 0.4 s."""
    decoder: Decoder | None = None
    """gru: the paper's, one pose after another; direct: all at once, from the last ten poses too (small)."""
    loss: Loss | None = None
    """mse: mean squared error; l2: mean distance."""
    detach: bool = True
    """Feed the GRU's poses back without gradient."""
    relative: bool = False
    """Predict poses relative to each frame's own hip, instead of where they are in space."""
    epochs: float | None = None
    """Passes over the training sequences; the default is the preset's."""
    batch_size: int | None = None
    """Windows in a batch; the default is the preset's (small 32; others 128)."""
    lr: float | None = None
    """Highest learning rate; the default is the preset's."""
    seeds: tuple[int, ...] = (0,)
    """A run for each; with several, folders seed-N within --run, and mean and spread of their figures."""
    run: Path | None = None
    """Folder for weights, logs and checkpoints; the default is runs/predict-<time>."""
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
    """Go on with the run in --run."""
    override: tuple[str, ...] = ()
    """NAME=VALUE...: go on though these differ from the run's beginning (docs/training.md says which may)."""


def predict(options: Options) -> None:
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_alone("predict")
    check_options(options)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or "")
    fps = rate_of(options, store)
    observed = options.observed or whole_frames("observed", OBSERVED, fps)
    steps = options.predicted or whole_frames("predicted", PREDICTED, fps)
    parts = long_parts(store, options, observed + steps)
    preset = options.preset or default_preset(device)
    recipe = recipe_of(options, preset)
    encoder = encoder_of(options.init, None, store, preset, device)
    if encoder.config.stream != "joint" or encoder.config.align:
        raise DataError(
            f"{options.init} reads the {encoder.config.stream} stream; prediction needs a joint stream as it is"
        )
    frames = frames_for(encoder, store, device, options.map_joints)
    folder = new_run_folder(options.run, "predict", options.resume)
    log.info(
        "%s: %d training and %d test sequences have %d frames or more; %d are seen, %d predicted, at %g frames/s",
        *(store.path, parts.train.sum(), parts.test.sum(), observed + steps, observed, steps, fps),
    )
    job = Job(options, store, parts, frames, recipe, observed, steps, fps, preset, device, precision)
    run_seeds(options.seeds, folder, lambda seed, own: run_seed(job, seed, own))


def check_options(options: Options) -> None:
    if options.data is None:
        raise DataError("--data STORE is needed: a store of sequences that are long enough")
    for name in ("lr", "epochs", "fps"):
        above(name, getattr(options, name), 0)
    at_least("observed", options.observed, 2)
    for name in ("predicted", "batch_size", "checkpoint_every"):
        at_least(name.replace("_", "-"), getattr(options, name), 1)
    at_least("profile", options.profile, 0)
    if not 0 < options.fraction <= 1:
        raise DataError(f"--fraction is {options.fraction}; it must be above 0 and at most 1")
    check_seeds(options.seeds)


def rate_of(options: Options, store: Store) -> float:
    """Frames a second of the store."""
    if math.isnan(store.fps):
        if options.fps is None:
            raise DataError(f"{store.path} does not know its frames per second, which windows depend on; give --fps")
        return options.fps
    if options.fps is not None and options.fps != store.fps:
        raise DataError(f"--fps is {options.fps:g}, but {store.path} has {store.fps:g} frames a second")
    return store.fps


def whole_frames(option: str, seconds: float, fps: float) -> int:
    """The frames of so many seconds. DataError unless they are a whole number (29.97 a second pass for 30)."""
    frames = seconds * fps
    if round(frames) < 1 or abs(frames - round(frames)) > 0.1:
        raise DataError(f"at {fps:g} frames a second {seconds:g} s are {frames:.3g} frames; give --{option} FRAMES")
    return round(frames)


def long_parts(store: Store, options: Options, frames: int) -> Parts:
    """Which sequences `[N]` bool train and test: those with so many frames. DataError if there are none."""
    name = options.split or store.split_names[0]
    train, test, about = store.split(name), ~store.split(name), {"split": name}
    if options.hold_out is not None:
        held = held_out(store, options.hold_out)
        train, test = train & ~held, train & held
        about["hold out"] = options.hold_out
    enough = store.lengths >= frames
    train = train & (np.bincount(store.sequence_sample[enough], minlength=len(train)) > 0)
    if options.fraction < 1 and train.any():
        unlabelled = np.zeros(len(train), np.int64)
        drawn = labelled_list(
            name, train, store.names, unlabelled, 100 * options.fraction, "uniform", options.label_seed
        )
        train, about["labels"] = drawn.mask, f"{drawn.name} seed {options.label_seed} {drawn.about['sha256']}"
    parts = [part[store.sequence_sample] & enough for part in (train, test)]
    for what, part in zip(("training", "test"), parts, strict=True):
        if not part.any():
            raise DataError(
                f"{store.path}: no {what} sequence of the split {name} has the {frames} frames that are seen and "
                f"predicted; lower --observed or --predicted"
            )
    return Parts(parts[0], parts[1], about)


def recipe_of(options: Options, preset: str) -> PredictionRecipe:
    """The preset with what the command line changes."""
    recipe = prediction_recipe(preset)
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("batch_size", "epochs", "decoder", "loss")
        if getattr(options, name) is not None
    }
    if options.epochs is not None:
        changes["least_steps"] = 0
    if options.lr is not None:
        changes["optim"] = dataclasses.replace(recipe.optim, lr=options.lr)
    return dataclasses.replace(recipe, detach=options.detach, relative=options.relative, **changes)


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.predict", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(lambda: predict(options))


if __name__ == "__main__":
    main()
