"""The protocols of recognition: fine-tuning, frozen encoders, and testing a recogniser as it is.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hitrs_fast import HiTRS, HiTRSConfig

from .data.augment import AugmentConfig
from .data.loader import QUANTILES, Loader
from .data.records import DataError
from .data.store import Store
from .frozen import linear_probe, nearest_neighbours
from .loop import LoopConfig, Trainer
from .recognition import RecognitionRecipe, RecognitionTask, predict
from .samples import Parts, SampleLoaders
from .scores import Scores, write_results
from .setup import (
    ONE_CAPACITY,
    check_stream,
    load_heads,
    read_encoder,
    record_of,
    save_model,
    write_json,
    write_metrics,
)

if TYPE_CHECKING:
    from .recognize import Options


@dataclass(frozen=True)
class Job:
    """What the runs of all seeds share."""

    options: Options
    store: Store
    parts: Parts
    loaders: SampleLoaders
    recipe: RecognitionRecipe
    preset: str
    device: torch.device

    def task(self, seed: int) -> RecognitionTask:
        """A new model with this seed's random weights."""
        torch.manual_seed(seed)
        encoder = encoder_of(self.options, self.store, self.preset, self.device)
        return RecognitionTask(encoder, self.store.classes, self.store.sample_label, self.recipe, self.device)


def encoder_of(options: Options, store: Store, preset: str, device: torch.device) -> HiTRS:
    """The encoder of --init, or a new one for the store's layout."""
    if options.init is None:
        stream = options.stream or "joint"
        check_stream(store, stream)
        config = HiTRSConfig.preset(preset, store.layout, stream=stream, channels=store.channels)
        return HiTRS(config).to(device)
    encoder = read_encoder(options.init).to(device)
    if options.stream not in (None, encoder.config.stream):
        raise DataError(
            f"{options.init} was trained on the {encoder.config.stream} stream; --stream {options.stream} needs a run "
            f"that was pre-trained on it"
        )
    return encoder


def run_seed(job: Job, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (folder / "metrics.json").exists():
        return json.loads((folder / "metrics.json").read_text())
    begin = time.perf_counter()
    task = job.task(seed)
    write_json(folder / "run.json", describe(job, seed))
    test = job.loaders(job.parts.test, job.recipe.batch_size, None, seed)
    if job.options.protocol in ("linear", "knn"):
        samples, logits = frozen_scores(job, task, test, seed, folder)
    else:
        if job.options.init is not None and job.options.protocol == "test":
            load_heads(task.model, job.options.init)
        else:
            fine_tune(job, task, test, seed, folder)
        samples, logits = predict(task, test)
    names = np.array([job.store.names[i] for i in samples.tolist()])
    labels, classes = job.store.sample_label[samples], np.array(job.store.classes)
    scores = Scores(names, logits.astype(np.float32), labels, classes)
    result = write_results(folder, scores) | {"seconds": round(time.perf_counter() - begin, 1), "run": str(folder)}
    write_metrics(folder, result, task.model)
    return result


def fine_tune(job: Job, task: RecognitionTask, test: Loader, seed: int, folder: Path) -> None:
    """Trains encoder and classifier; the weights of the last step count, none is chosen by its test figures."""
    options, recipe = job.options, job.recipe
    quantiles = ONE_CAPACITY if options.compile and job.device.type == "cpu" else QUANTILES
    train = job.loaders(job.parts.train, recipe.batch_size, recipe.augment, seed, quantiles)
    steps = max(1, recipe.least_steps, round(recipe.epochs * len(train.plan(0)) / recipe.accumulate))
    config = LoopConfig(
        steps=steps,
        warmup=round(recipe.warmup * steps),
        accumulate=recipe.accumulate,
        log_every=max(1, min(50, steps // 10)),
        validate_every=steps,
        checkpoint_every=options.checkpoint_every,
        seed=seed,
        compile=options.compile,
        identity=identity(job, task, steps, seed),
    )
    trainer = Trainer(task, train, test, recipe.optim, config, folder)
    if options.resume:
        trainer.resume()
    trainer.run_to_end(lambda: save_model(folder, task.model))


def identity(job: Job, task: RecognitionTask, steps: int, seed: int) -> dict[str, str]:
    """What decides the numbers of a run."""
    return {
        "store": job.store.fingerprint,
        "seed": str(seed),
        "steps": str(steps),
        "init": str(job.options.init),
        **{f"encoder {k}": str(v) for k, v in vars(task.model.encoder.config).items()},
        **{k: str(v) for k, v in vars(job.recipe).items()},
        **job.parts.about,
    }


def frozen_scores(
    job: Job, task: RecognitionTask, testing: Loader, seed: int, folder: Path
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


def describe(job: Job, seed: int) -> dict[str, Any]:
    """What `run.json` holds."""
    parts = job.parts
    return record_of("recognize", job.options, job.recipe, job.store, job.device) | {
        "seed": seed,
        "classes": job.store.classes,
        "parts": parts.about | {"train": int(parts.train.sum()), "test": int(parts.test.sum())},
    }
