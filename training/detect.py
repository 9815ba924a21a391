"""Find the actions in untrimmed streams: train, test and use detectors: `python -m training.detect --help`."""

from __future__ import annotations

import dataclasses
import logging
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
from .detection import detection_recipe, frame_labels
from .grouping import GroupingOptions, grouping_of, in_frames
from .live import watch
from .metrics.segments import Grouping
from .options import TuningOptions, check_tuning
from .precision import precision_of, use_tf32
from .ranks import check_alone
from .runtime import keep_freed_memory, new_run_folder, pick_device, run, use_compiler
from .samples import Parts, frames_for
from .setup import above, at_least, check_classes, default_preset, run_record, run_seeds
from .spotting import DetectionJob, run_seed, stream_parts
from .tuning import changed, encoder_of, frame_rate, same_rate

RATES = 0.1  # by which two rates of frames may differ and still be one
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(GroupingOptions, TuningOptions):
    """Train a detector of actions on the labelled streams of a store, or test one, or watch a stream (--live)."""

    data: str | None = None
    """The store, a folder or a URL; its segments are what is to be found."""
    init: Path | None = None
    """A run whose encoder is the start; without one, training is from scratch. The detector, of --test and --live."""
    test: bool = False
    """Score the detector of --init as it is, without training."""
    stream: Literal["joint", "bone", "motion"] | None = None
    """What the encoder reads; the default is what --init was trained on, or joint."""
    fps: float | None = None
    """Frames a second, for a store that does not know."""
    dilate: int | None = None
    """Frames from one frame of a clip to the next; the default is that of --test's detector, or 4/30 s."""
    batch_size: int | None = None
    """Pieces of a recording in a batch; the default is the preset's (small 32 of 4 frames; others 4 of 64)."""
    compile: bool = False
    """Compile the model with torch.compile; it takes a minute or more before the first step."""
    live: str | None = None
    """FILE of frames as JSON lines, or - for stdin (docs/online.md): print what the detector of --init finds, as JSON
    lines. Beside it, only the options of segments and --device may be given."""


def detect(options: Options) -> None:
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_alone("detect")
    check_options(options)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or "")
    fps = frame_rate(store, options.fps, RATES)
    fraction = 1.0 if options.fraction is None else options.fraction
    parts = stream_parts(store, options.split, options.hold_out, fraction, options.label_seed)
    frame_labels(store)  # says so if a segment has a class that cannot be
    preset = options.preset or default_preset(device)
    recipe = changed(detection_recipe(preset), options)
    tested = detector_record(options.init, store, fps) if options.test else None
    grouping = grouping_of(options, fps, Grouping(**tested["grouping"]) if tested else None)
    dilate = options.dilate or (tested["dilate"] if tested else usual_dilate(fps))
    encoder = encoder_of(options.init, options.stream, store, preset, device)
    if encoder.config.align:
        raise DataError(f"{options.init} reads sequences that face the camera (--align), which streams do not")
    check_lengths(store, parts, encoder, dilate)
    frames = frames_for(encoder, store, device, options.map_joints)
    if options.compile:
        use_compiler(device, options.run)
    folder = new_run_folder(options.run, "detect", options.resume)
    log.info(
        "%s: %d training and %d test streams, %g frames/s, a clip's frames %d apart, preset %s, %s",
        *(store.path, parts.train.sum(), parts.test.sum(), fps, dilate, preset, device),
    )
    job = DetectionJob(
        command="detect", options=options, store=store, parts=parts, recipe=recipe, preset=preset, device=device,
        precision=precision, frames=frames, grouping=grouping, fps=fps, dilate=dilate,
    )  # fmt: skip
    run_seeds(options.seeds, folder, lambda seed, own: run_seed(job, seed, own))


def check_options(options: Options) -> None:
    if options.data is None:
        raise DataError("--data STORE is needed: a store of streams with labelled segments")
    above("fps", options.fps, 0)
    at_least("dilate", options.dilate, 1)
    check_tuning(options)
    if options.test and options.init is None:
        raise DataError("--test needs --init RUN, the detector to test")


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
    if not same_rate(fps, record["fps"], RATES):
        raise DataError(
            f"{folder} was trained at {record['fps']:g} frames a second, and {store.path} has {fps:g}; resample it"
        )
    return record


def watch_live(options: Options) -> None:
    used = {"live", "init", "device"} | {field.name for field in dataclasses.fields(GroupingOptions)}
    for field in dataclasses.fields(options):
        if field.name not in used and getattr(options, field.name) != field.default:
            raise DataError(
                f"--live does not use --{field.name.replace('_', '-')}: the detector is as it is; leave it out"
            )
    watch(options.live or "", options.init, options, pick_device(options.device))


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.detect", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(lambda: detect(options) if options.live is None else watch_live(options))


if __name__ == "__main__":
    main()
