"""A run of detection: which streams train and test, training, and the scores of whole streams.

Shape legend: M samples (streams), T frames of one, K classes.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import FrameClassifier
from hitrs_fast.scoring import CHUNK, Track, score_stream

from .data.aligned import AlignedLoader, Tracks, tracks_of
from .data.augment import AugmentConfig
from .data.labelled import labelled_list
from .data.loader import QUANTILES
from .data.records import DataError
from .data.store import Store
from .detection import BACKGROUND, DetectionRecipe, DetectionTask, FrameTables, frame_labels
from .frame_scores import FrameScores, write_frame_results
from .loop import LoopConfig, Trainer
from .metrics.segments import Grouping
from .protocols import encoder_of
from .resume import common_identity, flat
from .samples import Parts, held_out
from .setup import ONE_CAPACITY, load_heads, record_of, save_model, write_metrics, write_record

if TYPE_CHECKING:
    from .detect import Options

CUDA_CHUNK = 4096  # frames and clips at a time, of whole streams on a GPU
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What the runs of all seeds share."""

    options: Options
    store: Store
    parts: Parts
    frames: Tensor
    recipe: DetectionRecipe
    grouping: Grouping
    fps: float
    dilate: int
    preset: str
    device: torch.device
    precision: torch.dtype


def stream_parts(store: Store, split: str | None, hold_out: str | None, fraction: float, seed: int) -> Parts:
    """Training and test streams; with `hold_out`, KEY:VALUES, those of the training streams test and the rest train.

    `fraction` of the training streams is drawn as lists of labelled samples are (training/data/labelled.py). DataError
    if there is nothing to train or test, or the store has no segments.
    """
    if not len(store.segments) or len(store.classes) < 2:
        raise DataError(
            f"{store.path} has no labelled segments; detection needs them, and the background as the first class"
        )
    name = split or store.split_names[0]
    train, test = store.split(name), ~store.split(name)
    about = {"split": name}
    if hold_out is not None:
        held = held_out(store, hold_out)
        train, test = train & ~held, train & held
        about["hold out"] = hold_out
    for what, part in (("training", train), ("test", test)):
        if not part.any():
            without = f" with {hold_out} held out" if hold_out else ""
            raise DataError(f"{store.path}: no {what} streams in the split {name}{without}")
    if fraction < 1:
        unlabelled = np.zeros(len(train), np.int64)  # streams have many classes, so the draw knows none
        drawn = labelled_list(name, train, store.names, unlabelled, 100 * fraction, "uniform", seed)
        train, about["labels"] = drawn.mask, f"{drawn.name} seed {seed} {drawn.about['sha256']}"
    seen, asked = (np.unique(store.segments[part[store.segments[:, 0]], 1]) for part in (train, test))
    if len(untrained := np.setdiff1d(asked, seen)):
        named = ", ".join(store.classes[c] for c in untrained[:5].tolist())
        log.warning("%d classes are tested and not in the training streams: %s", len(untrained), named)
    return Parts(train, test, about)


def run_seed(job: Job, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (folder / "metrics.json").exists():
        return json.loads((folder / "metrics.json").read_text())
    begin = time.perf_counter()
    torch.manual_seed(seed)
    encoder = encoder_of(job.options.init, job.options.stream, job.store, job.preset, job.device)
    tracks = tracks_of(job.store, job.frames, encoder.config.layout, encoder.config.center)
    tables = FrameTables.of(job.store, tracks, job.device)
    task = DetectionTask(encoder, job.store.classes, job.dilate, tracks, tables, job.recipe, job.device, job.precision)
    if job.options.test:
        write_record(folder, describe(job, seed))
        load_heads(task.model, job.options.init)  # type: ignore[arg-type]
    else:
        train(job, task, tracks, seed, folder)
    scores = score_streams(job, task.model)
    result = write_frame_results(folder, scores)
    result |= {"seconds": round(time.perf_counter() - begin, 1), "run": str(folder)}
    write_metrics(folder, result, task.model)
    return result


def train(job: Job, task: DetectionTask, tracks: Tracks, seed: int, folder: Path) -> None:
    """Trains encoder and classifier; the weights of the last step count, none is chosen by its test figures."""
    options, recipe = job.options, job.recipe

    def loader(part: np.ndarray, augment: AugmentConfig | None) -> AlignedLoader:
        quantiles = ONE_CAPACITY if options.compile and job.device.type == "cpu" else QUANTILES
        return AlignedLoader(
            job.frames, tracks, part, task.windows, recipe.batch_size, augment, seed, task.longest, quantiles
        )

    training, test = loader(job.parts.train, recipe.augment), loader(job.parts.test, None)
    steps = max(1, recipe.least_steps, round(recipe.epochs * len(training.plan(0))))
    config = LoopConfig(
        steps=steps,
        warmup=round(recipe.warmup * steps),
        accumulate=1,
        log_every=max(1, min(50, steps // 10)),
        validate_every=steps,
        checkpoint_every=options.checkpoint_every,
        seed=seed,
        compile=options.compile,
        profile=options.profile,
        identity=identity(job, task, steps, seed),
        # Batches have numbers of tracks, of which a sequence of the store has several.
        name_of=lambda numbers: [job.store.names[sample] for sample in tracks.sample[numbers].tolist()],
        override=options.override,
    )
    trainer = Trainer(task, training, test, recipe.optim, config, folder)
    if options.resume:
        trainer.resume()
    write_record(folder, describe(job, seed))
    trainer.run_to_end(lambda where: save_model(where, task.model))


def identity(job: Job, task: DetectionTask, steps: int, seed: int) -> dict[str, str]:
    """What decides the numbers of a run."""
    counts = int(job.parts.train.sum()), int(job.parts.test.sum())
    return {
        **common_identity(job.store, counts, job.device, job.precision, job.options),
        "seed": str(seed),
        "steps": str(steps),
        "init": str(job.options.init),
        "dilate": str(job.dilate),
        **flat(task.model.encoder.config, "encoder"),
        **flat(job.recipe),
        **job.parts.about,
    }


def score_streams(job: Job, model: FrameClassifier) -> FrameScores:
    """Every frame of the test streams; one in which nobody is counts as background with a probability of 1."""
    store, frames, part = job.store, job.frames, job.parts.test
    labels = frame_labels(store)
    probabilities, samples = [], np.flatnonzero(part)
    chunk = CUDA_CHUNK if frames.is_cuda else CHUNK
    for sample in samples.tolist():
        own = np.flatnonzero(store.sequence_sample == sample)
        spans = [(store.offsets[s], store.offsets[s + 1], store.sequence_first_frame[s]) for s in own.tolist()]
        tracks = [Track(frames[a:b], torch.arange(first, first + b - a)) for a, b, first in spans]
        scores = score_stream(model, tracks, job.fps, chunk)
        p = np.zeros((store.sample_frames[sample], len(store.classes)), np.float32)
        p[:, BACKGROUND] = 1
        p[scores.numbers.numpy()] = scores.probabilities.float().cpu().numpy()
        probabilities.append(p)
    segments = store.segments[part[store.segments[:, 0]]].copy()
    segments[:, 0] = np.searchsorted(samples, segments[:, 0])
    return FrameScores(
        np.array([store.names[s] for s in samples.tolist()]),
        store.sample_frames[samples],
        np.concatenate(probabilities),
        np.concatenate([labels[s] for s in samples.tolist()]),
        segments,
        np.array(store.classes),
        np.array(job.fps, np.float64),
        np.array(""),
    ).grouped(job.grouping)


def describe(job: Job, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    parts = job.parts
    return record_of("detect", job.options, job.recipe, job.store, job.device) | {
        "seed": seed,
        "classes": job.store.classes,
        "fps": job.fps,
        "dilate": job.dilate,
        "grouping": vars(job.grouping),
        "parts": parts.about | {"train": int(parts.train.sum()), "test": int(parts.test.sum())},
    }
