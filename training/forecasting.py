"""A run of prediction: training, and the errors of the test windows beside baselines that need no learning.

Shape legend: N sequences of the store, W windows, T predicted frames, J joints, C coordinates.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import SkeletonLayout

from .data.augment import AugmentConfig
from .data.loader import Loader
from .data.records import DataError
from .data.store import Store
from .loop import LoopConfig, Trainer
from .metrics.motion import constant_velocity, joint_errors, last_pose, mpjpe, window_errors
from .motion_pictures import draw_animation, draw_strip
from .prediction import PredictionRecipe, Predictions, PredictionTask, predict_all
from .protocols import encoder_of
from .resume import common_identity, flat
from .samples import Parts
from .setup import record_of, save_model, sequence_names, write_metrics, write_record

if TYPE_CHECKING:
    from .predict import Options

BASELINES = {"last_pose": last_pose, "constant_velocity": constant_velocity}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What the runs of all seeds share."""

    options: Options
    store: Store
    parts: Parts
    """Of sequences."""
    frames: Tensor
    recipe: PredictionRecipe
    observed: int
    steps: int
    fps: float
    preset: str
    device: torch.device
    precision: torch.dtype


def run_seed(job: Job, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (folder / "metrics.json").exists():
        return json.loads((folder / "metrics.json").read_text())
    begin = time.perf_counter()
    torch.manual_seed(seed)
    encoder = encoder_of(job.options.init, None, job.store, job.preset, job.device)
    task = PredictionTask(encoder, job.observed, job.steps, job.recipe, job.device, job.precision)
    test = loader(job, task, job.parts.test, None, seed)
    train(job, task, test, seed, folder)
    found = predict_all(task, test)
    result = write_results(job, found, encoder.config.layout, folder)
    result |= {"seconds": round(time.perf_counter() - begin, 1), "run": str(folder)}
    write_metrics(folder, result, task.model)
    return result


def loader(job: Job, task: PredictionTask, part: np.ndarray, augment: AugmentConfig | None, seed: int) -> Loader:
    """Windows of the sequences `part` `[N]` bool: at random places with `augment`, else side by side, the last flush
    with the sequence's end."""
    length = job.observed + job.steps
    windows = task.model.encoder.windows()
    chosen = np.flatnonzero(part)
    size = min(job.recipe.batch_size, len(chosen)) if augment is not None else job.recipe.batch_size
    return Loader(job.frames, job.store.offsets, chosen, windows, size, augment, seed, (1.0,), longest=length)


def train(job: Job, task: PredictionTask, test: Loader, seed: int, folder: Path) -> None:
    """Trains encoder and decoder; the weights of the last step count, none is chosen by its test figures."""
    options, recipe = job.options, job.recipe
    training = loader(job, task, job.parts.train, recipe.augment, seed)
    steps = max(1, recipe.least_steps, round(recipe.epochs * len(training.plan(0))))
    counts = int(job.parts.train.sum()), int(job.parts.test.sum())
    config = LoopConfig(
        steps=steps,
        warmup=round(recipe.warmup * steps),
        accumulate=1,
        log_every=max(1, min(50, steps // 10)),
        validate_every=steps,
        checkpoint_every=options.checkpoint_every,
        seed=seed,
        compile=False,
        profile=options.profile,
        identity={
            **common_identity(job.store, counts, job.device, job.precision, options),
            "seed": str(seed),
            "steps": str(steps),
            "init": str(options.init),
            "observed": str(job.observed),
            "predicted": str(job.steps),
            **flat(task.model.encoder.config, "encoder"),
            **flat(recipe),
            **job.parts.about,
        },
        name_of=lambda sequences: sequence_names(job.store, sequences),
        override=options.override,
    )
    trainer = Trainer(task, training, test, recipe.optim, config, folder)
    if options.resume:
        trainer.resume()
    write_record(folder, describe(job, seed))
    trainer.run_to_end(lambda where: save_model(where, task.model))


def write_results(job: Job, found: Predictions, layout: SkeletonLayout, folder: Path) -> dict[str, Any]:
    """The figures; `windows.csv` names every window with its errors; `motions.png` and `motions.gif` show some.

    `layout`: of the poses, the encoder's.
    """
    steps = found.truth.shape[1]
    if not found.counted.any((0, 2)).all():
        raise DataError(f"{job.store.path}: a predicted frame has no joint in any test window, so there is no figure")
    errors = {"mpjpe_mm": joint_errors(found.predicted, found.truth)}
    for name, baseline in BASELINES.items():
        errors[f"{name}_mm"] = joint_errors(baseline(found.observed, steps), found.truth)
    result: dict[str, Any] = mpjpe(errors["mpjpe_mm"], found.counted, job.fps)
    for name in BASELINES:
        of_horizons = mpjpe(errors[f"{name}_mm"], found.counted, job.fps)
        result |= {key.replace("mpjpe", name): value for key, value in of_horizons.items()}
    of_window = {name: window_errors(each, found.counted) for name, each in errors.items()}
    begin = found.first - job.store.offsets[found.sequence]
    with (folder / "windows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "first_frame", *of_window])
        names = sequence_names(job.store, found.sequence)
        writer.writerows(
            [name, first, *(f"{each[row]:.2f}" for each in of_window.values())]
            for row, (name, first) in enumerate(zip(names, begin.tolist(), strict=True))
        )
    shown = (found, of_window["mpjpe_mm"], names, layout)
    draw_strip(folder / "motions.png", *shown)
    draw_animation(folder / "motions.gif", *shown, job.fps)
    return {k: round(v, 3) for k, v in result.items()} | {"windows": len(names)}


def describe(job: Job, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    parts = job.parts
    return record_of("predict", job.options, job.recipe, job.store, job.device) | {
        "seed": seed,
        "fps": job.fps,
        "observed": job.observed,
        "predicted": job.steps,
        "parts": parts.about | {"train": int(parts.train.sum()), "test": int(parts.test.sum())},
    }
