"""Find the actions in untrimmed streams: train, test and use detectors: `python -m training.detect --help`."""

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

from hitrs_fast import HiTRS
from hitrs_fast.heads import DETECTION_DILATE

from .data.records import DataError
from .data.store import Store
from .detection import DetectionRecipe, detection_recipe, frame_labels
from .grouping import GroupingOptions, grouping_of, in_frames
from .metrics.segments import Grouping
from .precision import PrecisionName, precision_of, use_tf32
from .protocols import encoder_of
from .ranks import check_alone
from .runtime import check_compiler, keep_freed_memory, new_run_folder, pick_device, run, use_compile_cache
from .samples import Parts, frames_for
from .setup import above, at_least, check_classes, check_seeds, default_preset, run_record, run_seeds
from .spotting import Job, run_seed, stream_parts

RATES = 0.1  # by which two rates of frames may differ and still be one
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(GroupingOptions):
    """Train a detector of actions on the labelled streams of a store, or test one, or watch a stream (--live)."""

    data: str | None = None
    """The store, a folder or a URL; its segments are what is to be found."""
    init: Path | None = None
    """A run whose encoder is the start; without one, training is from scratch. The detector, of --test and --live."""
    test: bool = False
    """Score the detector of --init as it is, without training."""
    fraction: float = 1.0
    """Part of the training streams that is used."""
    label_seed: int = 0
    """Of that draw."""
    split: str | None = None
    """Which of the store's splits; the default is its first."""
    hold_out: str | None = None
    """KEY:VALUES, such as subjects:1,2: these of the training streams test, and the split's test streams are left
    alone. For choosing options."""
    map_joints: bool = False
    """Map the data's joints onto the layout of --init by their names."""
    stream: Literal["joint", "bone", "motion"] | None = None
    """What the encoder reads; the default is what --init was trained on, or joint."""
    preset: Literal["paper", "authors", "small"] | None = None
    """Sizes and schedule; the default is small on a CPU and paper on CUDA. Sizes are those of --init."""
    fps: float | None = None
    """Frames a second, for a store that does not know."""
    dilate: int | None = None
    """Frames from one frame of a clip to the next; the default is that of --test's detector, or 4/30 s."""
    epochs: float | None = None
    """Passes over the training streams; the default is the preset's."""
    batch_size: int | None = None
    """Pieces of 64 frames in a batch; the default is the preset's, 4."""
    lr: float | None = None
    """Highest learning rate; the default is the preset's."""
    seeds: tuple[int, ...] = (0,)
    """A run for each; with several, folders seed-N within --run, and mean and spread of their figures."""
    run: Path | None = None
    """Folder for weights, logs and checkpoints; the default is runs/detect-<time>."""
    device: str | None = None
    """cpu or cuda; the default is CUDA where there is one."""
    compile: bool = False
    """Compile the model with torch.compile; it takes a minute or more before the first step."""
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
    live: str | None = None
    """FILE of frames as JSON lines, or - for stdin (docs/online.md): print what the detector of --init finds, as JSON
    lines. Of the other options, only those of segments and --device count."""


def detect(options: Options) -> None:
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_alone("detect")
    check_options(options)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or "")
    fps = rate_of(options, store)
    parts = stream_parts(store, options.split, options.hold_out, options.fraction, options.label_seed)
    frame_labels(store)  # says so if a segment has a class that cannot be
    preset = options.preset or default_preset(device)
    recipe = recipe_of(options, preset)
    tested = detector_record(options.init, store, fps) if options.test else None
    grouping = grouping_of(options, fps, Grouping(**tested["grouping"]) if tested else None)
    dilate = options.dilate or (tested["dilate"] if tested else usual_dilate(fps))
    encoder = encoder_of(options.init, options.stream, store, preset, device)
    if encoder.config.align:
        raise DataError(f"{options.init} reads sequences that face the camera (--align), which streams do not")
    check_lengths(store, parts, encoder, dilate)
    frames = frames_for(encoder, store, device, options.map_joints)
    if options.compile:
        check_compiler(device)
    folder = new_run_folder(options.run, "detect", options.resume)
    use_compile_cache(folder)
    log.info(
        "%s: %d training and %d test streams, %g frames/s, a clip's frames %d apart, preset %s, %s",
        *(store.path, parts.train.sum(), parts.test.sum(), fps, dilate, preset, device),
    )
    job = Job(options, store, parts, frames, recipe, grouping, fps, dilate, preset, device, precision)
    run_seeds(options.seeds, folder, lambda seed, own: run_seed(job, seed, own))


def check_options(options: Options) -> None:
    if options.data is None:
        raise DataError("--data STORE is needed: a store of streams with labelled segments")
    above("lr", options.lr, 0)
    above("epochs", options.epochs, 0)
    above("fps", options.fps, 0)
    at_least("batch-size", options.batch_size, 1)
    at_least("dilate", options.dilate, 1)
    at_least("checkpoint-every", options.checkpoint_every, 1)
    at_least("profile", options.profile, 0)
    if not 0 < options.fraction <= 1:
        raise DataError(f"--fraction is {options.fraction}; it must be above 0 and at most 1")
    check_seeds(options.seeds)
    if options.test and options.init is None:
        raise DataError("--test needs --init RUN, the detector to test")


def rate_of(options: Options, store: Store) -> float:
    """Frames a second of the store."""
    if math.isnan(store.fps):
        if options.fps is None:
            raise DataError(f"{store.path} does not know its frames per second, which windows depend on; give --fps")
        return options.fps
    if options.fps is not None and not same_rate(options.fps, store.fps):
        raise DataError(f"--fps is {options.fps:g}, but {store.path} has {store.fps:g} frames a second")
    return store.fps


def same_rate(one: float, other: float) -> bool:
    return abs(one / other - 1) <= RATES


def usual_dilate(fps: float) -> int:
    if (dilate := in_frames(DETECTION_DILATE, fps)) < 1:
        raise DataError(f"at {fps:g} frames a second a clip of about a second has too few frames; give --dilate")
    return dilate


def check_lengths(store: Store, parts: Parts, encoder: HiTRS, dilate: int) -> None:
    """DataError for a stream that is shorter than one window."""
    window = (encoder.config.window - 1) * dilate + 1
    short = np.flatnonzero((parts.train | parts.test) & (store.sample_frames < window))
    if len(short):
        more = f" (and so have {len(short) - 1} others)" if len(short) > 1 else ""
        raise DataError(
            f"{store.path}: the stream {store.names[short[0]]} has {store.sample_frames[short[0]]} frames, fewer than "
            f"a window's {window}{more}; leave it out, or lower --dilate"
        )


def detector_record(folder: Path | None, store: Store, fps: float) -> dict[str, Any]:
    """The `run.json` of the detector to be tested. DataError unless its classes and rate are the store's."""
    assert folder is not None
    check_classes(folder, store.classes, "detect")
    record = run_record(folder, "detect")
    if not same_rate(fps, record["fps"]):
        raise DataError(
            f"{folder} was trained at {record['fps']:g} frames a second, and {store.path} has {fps:g}; resample it"
        )
    return record


def recipe_of(options: Options, preset: str) -> DetectionRecipe:
    """The preset with what the command line changes."""
    recipe = detection_recipe(preset)
    changes: dict[str, Any] = {
        name: getattr(options, name) for name in ("batch_size", "epochs") if getattr(options, name) is not None
    }
    if options.epochs is not None:
        changes["least_steps"] = 0
    if options.lr is not None:
        changes["optim"] = dataclasses.replace(recipe.optim, lr=options.lr)
    return dataclasses.replace(recipe, **changes)


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.detect", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    if options.live is not None:
        from .live import watch

        run(lambda: watch(options.live, options.init, options, pick_device(options.device)))  # type: ignore[arg-type]
    else:
        run(lambda: detect(options))


if __name__ == "__main__":
    main()
