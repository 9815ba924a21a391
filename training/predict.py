"""Predict how a motion goes on: train and test predictors: `python -m training.predict --help`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tyro

from .data.records import DataError
from .data.store import Store
from .forecasting import PredictionJob, run_seed
from .options import TuningOptions, check_tuning
from .precision import precision_of, use_tf32
from .prediction import Decoder, Loss, prediction_recipe
from .ranks import check_alone
from .runtime import keep_freed_memory, new_run_folder, pick_device, run
from .samples import Parts, drawn, frames_for, split_parts
from .setup import above, at_least, default_preset, run_seeds
from .tuning import changed, encoder_of, frame_rate

OBSERVED, PREDICTED = 2.0, 0.4  # seconds
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(TuningOptions):
    """Train a predictor of motion on the sequences of a store and test it beside two baselines that need no learning:
    the last pose repeated, and constant velocity."""

    fraction: float | None = None
    """Part of the training samples that is used, of those long enough; the default is all of them."""
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
    batch_size: int | None = None
    """Windows in a batch; the default is the preset's (small 32; others 128)."""


def predict(options: Options) -> None:
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_alone("predict")
    check_options(options)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or "")
    fps = frame_rate(store, options.fps)
    observed = options.observed or whole_frames("observed", OBSERVED, fps)
    steps = options.predicted or whole_frames("predicted", PREDICTED, fps)
    parts = long_parts(store, options, observed + steps)
    preset = options.preset or default_preset(device)
    named = {"detach": options.detach, "relative": options.relative}
    recipe = changed(prediction_recipe(preset), options, "decoder", "loss", **named)
    encoder = encoder_of(options.init, None, store, preset, device)
    c = encoder.config
    if c.stream != "joint" or c.align or c.in_place:
        turned = ", turned to face the camera" * c.align + ", kept in place" * c.in_place
        raise DataError(
            f"{options.init} reads the {c.stream} stream{turned}; prediction needs the joint stream as it is"
        )
    frames = frames_for(encoder, store, device, options.map_joints)
    folder = new_run_folder(options.run, "predict", options.resume)
    log.info(
        "%s: %d training and %d test sequences have %d frames or more; %d are seen, %d predicted, at %g frames/s",
        *(store.path, parts.train.sum(), parts.test.sum(), observed + steps, observed, steps, fps),
    )
    job = PredictionJob(
        command="predict", options=options, store=store, parts=parts, recipe=recipe, preset=preset, device=device,
        precision=precision, frames=frames, observed=observed, steps=steps, fps=fps,
    )  # fmt: skip
    run_seeds(options.seeds, folder, lambda seed, own: run_seed(job, seed, own))


def check_options(options: Options) -> None:
    if options.data is None:
        raise DataError("--data STORE is needed: a store of sequences that are long enough")
    above("fps", options.fps, 0)
    at_least("observed", options.observed, 2)
    at_least("predicted", options.predicted, 1)
    check_tuning(options)


def whole_frames(option: str, seconds: float, fps: float) -> int:
    """The frames of so many seconds. DataError unless they are a whole number (29.97 a second pass for 30)."""
    frames = seconds * fps
    if round(frames) < 1 or abs(frames - round(frames)) > 0.1:
        raise DataError(f"at {fps:g} frames a second {seconds:g} s are {frames:.3g} frames; give --{option} FRAMES")
    return round(frames)


def long_parts(store: Store, options: Options, frames: int) -> Parts:
    """Which sequences `[N]` bool train and test: those with so many frames. DataError if there are none."""
    train, test, about = split_parts(store, options.split, options.hold_out)
    enough = store.lengths >= frames
    train = train & (np.bincount(store.sequence_sample[enough], minlength=len(train)) > 0)
    if options.fraction is not None and options.fraction < 1 and train.any():
        unlabelled = np.zeros(len(train), np.int64)
        how = (options.fraction, options.label_seed, unlabelled)
        train, about["labels"] = drawn(store, about["split"], train, *how)
    parts = [part[store.sequence_sample] & enough for part in (train, test)]
    for what, part in zip(("training", "test"), parts, strict=True):
        if not part.any():
            raise DataError(
                f"{store.path}: no {what} sequence of the split {about['split']} has the {frames} frames that are seen "
                f"and predicted; lower --observed or --predicted"
            )
    return Parts(parts[0], parts[1], about)


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.predict", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(lambda: predict(options))


if __name__ == "__main__":
    main()
