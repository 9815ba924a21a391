"""The protocols of recognition: fine-tuning, frozen encoders, and testing a recogniser as it is.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hitrs_fast import HiTRS

from .data.augment import AugmentConfig
from .data.loader import Loader
from .data.store import Store
from .frozen import linear_probe, nearest_neighbours
from .recognition import RecognitionTask, predict
from .samples import SampleLoaders
from .scores import Scores, write_results
from .setup import (
    load_heads,
    quantiles_of,
    sequence_names,
    write_metrics,
    write_record,
)
from .tuning import Job, encoder_of, finished, reading, tune

if TYPE_CHECKING:
    from .recognize import Options


@dataclass(frozen=True, kw_only=True)
class RecognitionJob(Job):
    loaders: SampleLoaders

    def task(self, seed: int) -> RecognitionTask:
        """A new model with this seed's random weights."""
        torch.manual_seed(seed)
        encoder = start_of(self.options, self.store, self.preset, self.device)
        classes, labels = self.store.classes, self.store.sample_label
        return RecognitionTask(encoder, classes, labels, self.recipe, self.device, self.precision)


def start_of(options: Options, store: Store, preset: str, device: torch.device) -> HiTRS:
    """What recognition starts from: `encoder_of`; --align changes what it reads, not its weights."""
    encoder = encoder_of(options.init, options.stream, store, preset, device)
    if not options.align:
        return encoder
    return reading(encoder, align=True)


def run_seed(job: RecognitionJob, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (done := job.ranks.from_first(lambda: finished(job, folder, seed))):
        return done
    begin = time.perf_counter()
    task = job.task(seed)
    if job.options.protocol in ("linear", "knn", "test"):
        write_record(folder, describe(job, seed))
    test = job.loaders(job.parts.test, job.recipe.batch_size, None, seed)
    if job.options.protocol in ("linear", "knn"):
        samples, logits = frozen_scores(job, task, test, seed, folder)
    else:
        if job.options.init is not None and job.options.protocol == "test":
            load_heads(task.model, job.options.init)
        else:
            fine_tune(job, task, test, seed, folder)
        samples, logits = predict(task, test)
        parts = job.ranks.of_all((samples, logits))
        samples, logits = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(samples, kind="stable")
        samples, logits = samples[order], logits[order]
    if not job.ranks.first:
        return {}
    names = np.array([job.store.names[i] for i in samples.tolist()])
    labels, classes = job.store.sample_label[samples], np.array(job.store.classes)
    scores = Scores(names, logits.astype(np.float32), labels, classes)
    result = write_results(folder, scores) | {"seconds": round(time.perf_counter() - begin, 1), "run": str(folder)}
    write_metrics(folder, result, task.model)
    return result


def fine_tune(job: RecognitionJob, task: RecognitionTask, test: Loader, seed: int, folder: Path) -> None:
    recipe = job.recipe
    quantiles = quantiles_of(job.options.compile, job.device)
    train = job.loaders(job.parts.train, recipe.batch_size, recipe.augment, seed, quantiles)
    identity = job.identity(task.model.encoder.config, (len(train.chosen), len(test.chosen)), seed)
    names = partial(sequence_names, job.store)
    tune(job, task, train, test, folder, identity, describe(job, seed), names, recipe.accumulate)


def frozen_scores(
    job: RecognitionJob, task: RecognitionTask, testing: Loader, seed: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Test samples `[N]` and their scores `[N, K]` by linear or knn; the folder keeps the encoder's features."""
    recipe, classes = job.recipe, task.model.classifier.out_features
    task.model.classifier = nn.Identity()  # type: ignore[assignment]
    training = job.loaders(job.parts.train, recipe.batch_size, None, seed)
    turned = AugmentConfig(probability=0.0, rotation=recipe.augment.rotation) if recipe.turns > 1 else None
    task.generator.manual_seed(seed)
    passes = [predict(task, training, turned) for _ in range(recipe.turns)]
    samples, train = (np.concatenate(each) for each in zip(*passes, strict=True))
    queries, test = predict(task, testing)
    np.savez(folder / "features.npz", samples=samples, train=train, queries=queries, test=test)
    labels = task.labels[samples]
    if job.options.protocol == "knn":
        return queries, nearest_neighbours(train, labels, test, classes, job.options.k)
    probe = linear_probe(torch.from_numpy(train), torch.from_numpy(labels), classes, seed)
    with torch.no_grad():
        return queries, probe(torch.from_numpy(test)).numpy()


def describe(job: RecognitionJob, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    return job.record(seed, ranks=job.ranks.count, classes=job.store.classes)
