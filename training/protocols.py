"""The protocols of recognition: fine-tuning, frozen encoders, and testing a recogniser as it is.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

import dataclasses
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
from .ranks import Ranks
from .recognition import RecognitionRecipe, RecognitionTask, predict
from .resume import common_identity, flat
from .samples import Parts, SampleLoaders
from .scores import Scores, write_results
from .setup import (
    ONE_CAPACITY,
    check_stream,
    load_heads,
    or_data_error,
    read_encoder,
    record_of,
    save_model,
    sequence_names,
    write_metrics,
    write_record,
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
    precision: torch.dtype
    ranks: Ranks

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
    config = or_data_error(dataclasses.replace, encoder.config, align=True)
    aligned = HiTRS(config).to(device)  # a new one, since an encoder is saved with the configuration it was made with
    aligned.load_state_dict(encoder.state_dict())
    return aligned


def encoder_of(init: Path | None, stream: str | None, store: Store, preset: str, device: torch.device) -> HiTRS:
    """The encoder of the run `init`, or a new one for the store's layout, of this `stream` (joint)."""
    if init is None:
        stream = stream or "joint"
        check_stream(store, stream)
        config = HiTRSConfig.preset(preset, store.layout, stream=stream, channels=store.channels)
        return HiTRS(config).to(device)
    encoder = read_encoder(init).to(device)
    if stream not in (None, encoder.config.stream):
        raise DataError(
            f"{init} was trained on the {encoder.config.stream} stream; --stream {stream} needs a run that was "
            f"pre-trained on it"
        )
    return encoder


def run_seed(job: Job, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if job.options.resume and (done := job.ranks.from_first(lambda: _result(folder))):
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


def _result(folder: Path) -> dict[str, Any] | None:
    """Of a run that was finished before."""
    file = folder / "metrics.json"
    return json.loads(file.read_text()) if file.exists() else None


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
        profile=options.profile,
        identity=identity(job, task, (len(train.chosen), len(test.chosen)), steps, seed),
        name_of=lambda sequences: sequence_names(job.store, sequences),
        override=options.override,
    )
    trainer = Trainer(task, train, test, recipe.optim, config, folder, job.ranks)
    if options.resume:
        trainer.resume()
    if job.ranks.first:
        write_record(folder, describe(job, seed))
    trainer.run_to_end(lambda where: save_model(where, task.model))


def identity(job: Job, task: RecognitionTask, counts: tuple[int, int], steps: int, seed: int) -> dict[str, str]:
    """What decides the numbers of a run. `counts`: training and test sequences."""
    return {
        **common_identity(job.store, counts, job.device, job.precision, job.options),
        "seed": str(seed),
        "steps": str(steps),
        "init": str(job.options.init),
        **flat(task.model.encoder.config, "encoder"),
        **flat(job.recipe),
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
        "ranks": job.ranks.count,
        "classes": job.store.classes,
        "parts": parts.about | {"train": int(parts.train.sum()), "test": int(parts.test.sum())},
    }
