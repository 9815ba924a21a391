"""A run of detection: which streams train and test, training, and the scores of whole streams.

Shape legend: M samples (streams), T frames of one, K classes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import FrameClassifier, HiTRS
from hitrs_fast.scoring import CHUNK, Track, score_stream

from .data.aligned import AlignedLoader, Tracks, tracks_of
from .data.augment import AugmentConfig
from .data.records import DataError
from .data.store import Store
from .detection import BACKGROUND, DetectionTask, FrameTables, frame_labels
from .frame_scores import FrameScores, write_frame_results
from .metrics.segments import Grouping
from .samples import Parts, check_parts, drawn, split_parts
from .setup import load_heads, quantiles_of, write_metrics, write_record
from .tuning import Job, encoder_of, finished, reading, tune

CUDA_CHUNK = 4096  # frames and clips at a time, of whole streams on a GPU
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DetectionJob(Job):
    frames: Tensor  # [F, J, C] of the whole store, metres
    grouping: Grouping
    fps: float
    dilate: int


def stream_parts(store: Store, split: str | None, hold_out: str | None, fraction: float, seed: int) -> Parts:
    """Training and test streams; with `hold_out`, KEY:VALUES, those of the training streams test and the rest train.

    `fraction` of the training streams is drawn as lists of labelled samples are (training/data/labelled.py). DataError
    if there is nothing to train or test, or the store has no segments.
    """
    if not len(store.segments) or len(store.classes) < 2:
        raise DataError(
            f"{store.path} has no labelled segments; detection needs them, and the background as the first class"
        )
    train, test, about = split_parts(store, split, hold_out)
    check_parts(store, train, test, about, "streams")
    if fraction < 1:
        unlabelled = np.zeros(len(train), np.int64)  # streams have many classes, so the draw knows none
        train, about["labels"] = drawn(store, about["split"], train, fraction, seed, unlabelled)
    seen, asked = (np.unique(store.segments[part[store.segments[:, 0]], 1]) for part in (train, test))
    if len(untrained := np.setdiff1d(asked, seen)):
        named = ", ".join(store.classes[c] for c in untrained[:5].tolist())
        log.warning("%d classes are tested and not in the training streams: %s", len(untrained), named)
    return Parts(train, test, about)


def run_seed(job: DetectionJob, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (done := finished(job, folder, seed)):
        return done
    begin = time.perf_counter()
    torch.manual_seed(seed)
    encoder = start_of(job)
    tracks = tracks_of(job.store, job.frames, encoder.config.layout, encoder.config.center)
    tables = FrameTables.of(job.store, tracks, job.device)
    eager = job.device.type == "cpu" and not job.options.compile
    where = (job.device, job.precision, eager)
    task = DetectionTask(encoder, job.store.classes, job.dilate, tracks, tables, job.recipe, *where)
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


def start_of(job: DetectionJob) -> HiTRS:
    """What detection starts from: `encoder_of`, reading what the recipe says; a detector to test is as it is."""
    encoder = encoder_of(job.options.init, job.options.stream, job.store, job.preset, job.device)
    if job.options.test or not job.recipe.in_place or not encoder.config.center:
        return encoder
    return reading(encoder, in_place=True)


def train(job: DetectionJob, task: DetectionTask, tracks: Tracks, seed: int, folder: Path) -> None:
    recipe = job.recipe

    def loader(part: np.ndarray, augment: AugmentConfig | None) -> AlignedLoader:
        quantiles = quantiles_of(job.options.compile, job.device)
        return AlignedLoader(
            job.frames, tracks, part, task.windows, recipe.batch_size, augment, seed, task.longest, quantiles
        )

    def names(numbers: np.ndarray) -> list[str]:
        """Batches have numbers of tracks, of which a sequence of the store has several."""
        return [job.store.names[sample] for sample in tracks.sample[numbers].tolist()]

    training, test = loader(job.parts.train, recipe.augment), loader(job.parts.test, None)
    counts = int(job.parts.train.sum()), int(job.parts.test.sum())
    identity = job.identity(task.model.encoder.config, counts, seed) | {"dilate": str(job.dilate)}
    tune(job, task, training, test, folder, identity, describe(job, seed), names)


def score_streams(job: DetectionJob, model: FrameClassifier) -> FrameScores:
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


def describe(job: DetectionJob, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    more = {"classes": job.store.classes, "fps": job.fps, "dilate": job.dilate, "grouping": vars(job.grouping)}
    return job.record(seed, **more)
