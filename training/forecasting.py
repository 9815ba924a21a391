"""A run of prediction: training, and the errors of the test windows beside baselines that need no learning.

Shape legend: N sequences of the store, W windows, T predicted frames, J joints, C coordinates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import SkeletonLayout

from .data.augment import AugmentConfig
from .data.loader import Loader
from .data.records import DataError
from .metrics.motion import constant_velocity, joint_errors, last_pose, mpjpe, window_errors
from .motion_pictures import draw_animation, draw_strip
from .prediction import Predictions, PredictionTask, predict_all
from .scores import write_csv
from .setup import or_data_error, sequence_names, write_metrics
from .tuning import Job, encoder_of, finished, tune

BASELINES = {"last_pose": last_pose, "constant_velocity": constant_velocity}


@dataclass(frozen=True, kw_only=True)
class PredictionJob(Job):
    """Its parts are of sequences."""

    frames: Tensor  # [F, J, C] of the whole store, metres
    observed: int
    steps: int
    fps: float


def run_seed(job: PredictionJob, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (done := finished(job, folder, seed)):
        return done
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


def loader(
    job: PredictionJob, task: PredictionTask, part: np.ndarray, augment: AugmentConfig | None, seed: int
) -> Loader:
    """Windows of the sequences `part` `[N]` bool: at random places with `augment`, else side by side, the last flush
    with the sequence's end."""
    length = job.observed + job.steps
    windows = task.model.encoder.windows()
    chosen = np.flatnonzero(part)
    size = min(job.recipe.batch_size, len(chosen)) if augment is not None else job.recipe.batch_size
    return Loader(job.frames, job.store.offsets, chosen, windows, size, augment, seed, (1.0,), longest=length)


def train(job: PredictionJob, task: PredictionTask, test: Loader, seed: int, folder: Path) -> None:
    training = loader(job, task, job.parts.train, job.recipe.augment, seed)
    counts = int(job.parts.train.sum()), int(job.parts.test.sum())
    identity = job.identity(task.model.encoder.config, counts, seed)
    identity |= {"observed": str(job.observed), "predicted": str(job.steps)}
    tune(job, task, training, test, folder, identity, describe(job, seed), partial(sequence_names, job.store))


def write_results(job: PredictionJob, found: Predictions, layout: SkeletonLayout, folder: Path) -> dict[str, Any]:
    """The figures; `windows.csv` names every window with its errors; `motions.png` and `motions.gif` show some.

    `layout`: of the poses, the encoder's.
    """
    steps = found.truth.shape[1]
    if not found.counted.any((0, 2)).all():
        raise DataError(f"{job.store.path}: a predicted frame has no joint in any test window, so there is no figure")
    errors = {"mpjpe_mm": or_data_error(joint_errors, found.predicted, found.truth)}
    for name, baseline in BASELINES.items():
        errors[f"{name}_mm"] = joint_errors(baseline(found.observed, steps), found.truth)
    result: dict[str, Any] = mpjpe(errors["mpjpe_mm"], found.counted, job.fps)
    for name in BASELINES:
        of_horizons = mpjpe(errors[f"{name}_mm"], found.counted, job.fps)
        result |= {key.replace("mpjpe", name): value for key, value in of_horizons.items()}
    of_window = {name: window_errors(each, found.counted) for name, each in errors.items()}
    begin = found.first - job.store.offsets[found.sequence]
    names = sequence_names(job.store, found.sequence)
    rows = [
        [name, first, *(f"{each[row]:.2f}" for each in of_window.values())]
        for row, (name, first) in enumerate(zip(names, begin.tolist(), strict=True))
    ]
    write_csv(folder / "windows.csv", ["name", "first_frame", *of_window], rows)
    shown = (found, of_window["mpjpe_mm"], names, layout, job.fps)
    draw_strip(folder / "motions.png", *shown)
    draw_animation(folder / "motions.gif", *shown)
    return {k: round(v, 3) for k, v in result.items()} | {"windows": len(names)}


def describe(job: PredictionJob, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    return job.record(seed, fps=job.fps, observed=job.observed, predicted=job.steps)
