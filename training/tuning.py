"""What recognition, detection and prediction share: what their runs know, and how one is trained."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from hitrs_fast import HiTRS, HiTRSConfig

from .data.loader import Loader
from .data.records import DataError
from .data.store import Store
from .loop import LoopConfig, Task, Trainer
from .options import TuningOptions
from .ranks import ALONE, Ranks
from .resume import HARMLESS, common_identity, flat
from .samples import Parts
from .setup import as_written, check_stream, or_data_error, read_encoder, record_of, save_model, write_record

Recipe = TypeVar("Recipe")
# Options that decide nothing in a run's figures, and those of which the recipe, the parts or the store tell more.
ELSEWHERE = {"run", "resume", "seeds", "checkpoint_every", "profile", "override"} | {
    *("data", "preset", "epochs", "batch_size", "lr", "fraction", "split", "hold_out")
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the runs of all seeds share. A recipe has `optim`, `batch_size`, `epochs`, `warmup` and `least_steps`."""

    command: str
    options: Any
    store: Store
    parts: Parts
    recipe: Any
    preset: str
    device: torch.device
    precision: torch.dtype
    ranks: Ranks = ALONE

    def record(self, seed: int, **more: Any) -> dict[str, Any]:
        """What `run.json` holds."""
        counts = {"train": int(self.parts.train.sum()), "test": int(self.parts.test.sum())}
        record = record_of(self.command, self.options, self.recipe, self.store, self.device)
        return record | {"seed": seed, "parts": self.parts.about | counts} | more

    def identity(self, encoder: HiTRSConfig, counts: tuple[int, int], seed: int) -> dict[str, str]:
        """What decides the numbers of a run, beside its length. `counts`: of what trains and what tests."""
        return {
            **common_identity(self.store, counts, self.device, self.precision, self.options),
            "seed": str(seed),
            "init": str(self.options.init),
            **flat(encoder, "encoder"),
            **flat(self.recipe),
            **self.parts.about,
        }


def tune(
    job: Job,
    task: Task,
    training: Loader,
    test: Loader,
    folder: Path,
    identity: dict[str, str],
    record: dict[str, Any],
    name_of: Callable[[np.ndarray], list[str]],
    accumulate: int = 1,
) -> None:
    """Trains encoder and head; the weights of the last step count, none is chosen by its test figures.

    `name_of`: names for error messages, of a batch's `sequence` `[n]`.
    """
    options, recipe = job.options, job.recipe
    steps = max(1, recipe.least_steps, round(recipe.epochs * len(training.plan(0)) / accumulate))
    config = LoopConfig(
        steps=steps,
        warmup=round(recipe.warmup * steps),
        accumulate=accumulate,
        log_every=max(1, min(50, steps // 10)),
        validate_every=steps,
        checkpoint_every=options.checkpoint_every,
        seed=record["seed"],
        compile=vars(options).get("compile", False),  # prediction has no --compile
        profile=options.profile,
        identity=identity | {"steps": str(steps)},
        name_of=name_of,
        override=options.override,
    )
    trainer = Trainer(task, training, test, recipe.optim, config, folder, job.ranks)
    if options.resume:
        trainer.resume()
    if job.ranks.first:
        write_record(folder, record)
    trainer.run_to_end(lambda where: save_model(where, task.model))


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


def reading(encoder: HiTRS, **changes: bool) -> HiTRS:
    """The encoder with other input: a new one, since an encoder is saved with the configuration it was made with."""
    other = HiTRS(or_data_error(dataclasses.replace, encoder.config, **changes)).to(encoder.clip_cls.device)
    other.load_state_dict(encoder.state_dict())
    return other


def changed(recipe: Recipe, options: TuningOptions, *names: str, **more: Any) -> Recipe:
    """The preset with what the command line changes: length, batch, rate, the options `names`, and `more`."""
    changes = {name: getattr(options, name) for name in ("batch_size", "epochs", *names)}
    changes = {name: value for name, value in changes.items() if value is not None}
    if options.epochs is not None:
        changes["least_steps"] = 0
    if options.lr is not None:
        changes["optim"] = dataclasses.replace(recipe.optim, lr=options.lr)  # type: ignore[attr-defined]
    return dataclasses.replace(recipe, **changes, **more)  # type: ignore[type-var]


def finished(job: Job, folder: Path, seed: int) -> dict[str, Any] | None:
    """The figures of a run that was finished before. DataError if it had other data, options or recipe."""
    file = folder / "metrics.json"
    if not file.exists():
        return None
    if not (folder / "run.json").exists():
        raise DataError(f"{folder} holds the runs of several seeds; give the same --seeds, or another --run")
    then, now = map(_deciding, (json.loads((folder / "run.json").read_text()), as_written(job.record(seed))))
    allowed = {text.partition("=")[0] for text in job.options.override} & HARMLESS.keys()
    differing = [name for name in then if name in now and name not in allowed and then[name] != now[name]]
    if differing:
        named = ", ".join(f"{name} ({then[name]}, now {now[name]})" for name in differing)
        raise DataError(f"{folder} was finished with another {named}; give another --run, or what it had")
    return json.loads(file.read_text())


def _deciding(record: dict[str, Any]) -> dict[str, Any]:
    """What decides a run's figures, of its `run.json`."""
    options = {name: value for name, value in record["options"].items() if name not in ELSEWHERE}
    return {
        **options,
        **record["recipe"],
        **record["parts"],
        "store": record["store"]["fingerprint"],
        "seed": record["seed"],
    }


def frame_rate(store: Store, fps: float | None, slack: float = 0.0) -> float:
    """Frames a second of the store; `fps` is for one that does not know, and may else differ by a part of `slack`."""
    if math.isnan(store.fps):
        if fps is None:
            raise DataError(f"{store.path} does not know its frames per second, which windows depend on; give --fps")
        return fps
    if fps is not None and not same_rate(fps, store.fps, slack):
        raise DataError(f"--fps is {fps:g}, but {store.path} has {store.fps:g} frames a second")
    return store.fps


def same_rate(one: float, other: float, slack: float) -> bool:
    return abs(one / other - 1) <= slack
