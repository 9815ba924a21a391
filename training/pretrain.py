"""Pre-train an encoder without labels: `python -m training.pretrain --help`."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from hitrs_fast import HiTRS, LossWeights, Pretraining
from hitrs_fast.clips import Windows
from hitrs_fast.pretext import loss_counts

from .data.augment import AugmentConfig
from .data.loader import Batch, Loader, long_enough
from .data.pipeline import pretext_input
from .data.records import DataError
from .data.store import Store
from .data.stream import Stream
from .loop import LoopConfig, Trainer
from .options import RunOptions
from .precision import autocast, precision_of, use_tf32
from .presets import PretrainRecipe, pretrain_recipe
from .ranks import ALONE, Ranks, join
from .resume import common_identity, flat
from .runtime import (
    demo_store,
    keep_freed_memory,
    new_run_folder,
    run,
    use_compiler,
)
from .setup import (
    above,
    at_least,
    check_stream,
    default_preset,
    frames_of,
    quantiles_of,
    record_of,
    save_model,
    sequence_names,
    write_metrics,
    write_record,
)

DEMO_STEPS = 300
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(RunOptions):
    """Pre-train Hi-TRS on the sequences of a store, without their labels."""

    data: str | None = None
    """The store, a folder or a URL such as s3://bucket/name.zarr; without one, the built-in demo store, made on first
    use."""
    stream: Literal["joint", "bone", "motion"] = "joint"
    """What the encoder reads: coordinates, their differences along bones, or along time."""
    dilate: int | None = None
    """Frames from one frame of a clip to the next; the default is 2, for about 30 frames a second."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Weight of each pretext task; 0 switches it off and skips its work."""
    steps: int | None = None
    """Length of the schedule; the default is the preset's (small 3,000; paper 30,000; authors 50,000), or 300 with the
    demo store."""
    epochs: float | None = None
    """Instead of steps: passes over the training sequences."""
    batch_size: int | None = None
    """Sequences in a batch, over all ranks of torchrun together; the default is the preset's (small 32; paper 256;
    authors 64, four batches a step)."""
    warmup: int | None = None
    """Steps of linear warm-up; the default is a thirtieth of the steps."""
    decay: Literal["decoupled", "l2"] = "decoupled"
    """Weight decay apart from the gradient (AdamW), or within it (Adam with L2)."""
    seed: int = 0
    """Of every random number."""
    buffer_gb: float | None = None
    """Read the frames ahead into a buffer of so many GB; the default is to hold all of them where they fit in half of
    the memory, and otherwise a buffer of a quarter of it."""
    compile: bool = False
    """Compile the model with torch.compile; it takes a minute or more before the first step."""
    validate_every: int | None = None
    """Steps between validations; the default is a fifth of the steps."""


class PretrainTask:
    """Turns batches of coordinates into pretext losses."""

    def __init__(
        self,
        recipe: PretrainRecipe,
        weights: LossWeights,
        device: torch.device,
        seed: int,
        precision: torch.dtype,
        ranks: Ranks = ALONE,
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.precision, self.ranks = recipe, precision, ranks
        self.model = Pretraining(HiTRS(recipe.encoder), recipe.pretext, weights).to(device)
        self.model.others = ranks if ranks.count > 1 else None
        self.generator = torch.Generator(device)

    def losses(self, model: Callable[..., Any], batch: Batch, training: bool) -> dict[str, Tensor]:
        recipe = self.recipe
        augmentation = recipe.augment if training else None
        inputs = pretext_input(batch, recipe.encoder, recipe.pretext, augmentation, self.generator)
        if self.ranks.count > 1:
            inputs = inputs._replace(total=self.ranks.total(loss_counts(inputs, self.model.encoder.windows())))
        with autocast(batch.frames.device, self.precision):
            return model(inputs, batch.capacity)


def pretrain(options: Options) -> None:
    device, ranks = join(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    if options.compile:
        use_compiler(device, options.run)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or ranks.in_turn(demo_store))
    recipe = recipe_of(options, store, device)
    own = ranks.share(recipe.batch_size)
    train, validation = loaders(options, store, recipe, device, ranks)
    counts = len(train.chosen), len(validation.chosen)
    config = loop_config(options, recipe, store, train, common_identity(store, counts, device, precision, options))
    folder = ranks.from_first(lambda: new_run_folder(options.run, "pretrain", options.resume))
    task = PretrainTask(recipe, options.weights, device, options.seed, precision, ranks)
    trainer = Trainer(task, train, validation, recipe.optim, config, folder, ranks)
    if options.resume:
        trainer.resume()
    if ranks.first:
        record = record_of("pretrain", options, recipe, store, device) | {"seed": options.seed, "ranks": ranks.count}
        write_record(folder, record)
    log.info(
        "%s: %d training and %d validation sequences, preset %s, %s",
        *(store.path, *counts, options.preset or default_preset(device), device),
    )
    if ranks.count * recipe.accumulate > 1:
        log.info(
            "a step: %d independent micro-batches of %d sequences, %d on each of %d ranks; the discriminative task "
            "finds a clip among the %d of its micro-batch",
            *(recipe.accumulate, recipe.batch_size, own, ranks.count, recipe.batch_size),
        )
    metrics = trainer.run_to_end(lambda folder: save_model(folder, task.model))
    if ranks.first:
        finish(folder, metrics, config.steps, task)
    ranks.leave()


def finish(folder: Path, metrics: dict[str, float], steps: int, task: PretrainTask) -> None:
    """Writes the run's figures, and prints them."""
    result = {k: round(v, 5) for k, v in metrics.items()} | {"run": str(folder), "steps": steps}
    if (folder / "metrics.json").exists():  # of a run that was finished before: its speed was measured then
        result = json.loads((folder / "metrics.json").read_text()) | result
    write_metrics(folder, result, task.model)
    print(json.dumps(result))


def recipe_of(options: Options, store: Store, device: torch.device) -> PretrainRecipe:
    """The preset with what the command line changes."""
    preset = options.preset or default_preset(device)
    at_least("dilate", options.dilate, 1)
    sizes = {} if options.dilate is None else {"dilate": options.dilate}
    recipe = pretrain_recipe(preset, store.layout, stream=options.stream, channels=store.channels, **sizes)
    above("lr", options.lr, 0)
    above("batch-size", options.batch_size, 1)
    at_least("seed", options.seed, 0)
    check_stream(store, options.stream)
    optim = dataclasses.replace(recipe.optim, decay=options.decay, lr=options.lr or recipe.optim.lr)
    return dataclasses.replace(recipe, optim=optim, batch_size=options.batch_size or recipe.batch_size)


def loaders(
    options: Options, store: Store, recipe: PretrainRecipe, device: torch.device, ranks: Ranks = ALONE
) -> tuple[Loader, Loader]:
    """Training and validation loaders over the store's frames, which are read onto the device."""
    encoder = recipe.encoder
    windows = Windows(encoder.window, encoder.stride, encoder.dilate)
    training = store.split(options.split)[store.sequence_sample]
    usable = long_enough(store.lengths, windows)
    if not usable.all():
        log.info("%d of %d sequences are too short for three clips and are left out", (~usable).sum(), len(usable))
    for kind, part in (("training", training & usable), ("validation", ~training & usable)):
        if part.sum() < 2:
            raise DataError(f"{store.path}: only {part.sum()} {kind} sequences are long enough; two or more are needed")
    frames = frames_of(store, device, options.buffer_gb, ranks)
    quantiles = quantiles_of(options.compile, device)

    def loader(part: np.ndarray, augment: AugmentConfig | None) -> Loader:
        chosen = np.flatnonzero(part & usable)
        source: Tensor | Stream
        if isinstance(frames, Tensor):
            source = frames
        else:
            source = Stream(store, chosen, device, frames, None if augment is None else options.seed)
        size = recipe.batch_size
        return Loader(
            source, store.offsets, chosen, windows, size, augment, options.seed, quantiles,
            rank=ranks.rank, ranks=ranks.count,
        )  # fmt: skip

    return loader(training, recipe.augment), loader(~training, None)


def loop_config(
    options: Options, recipe: PretrainRecipe, store: Store, train: Loader, common: dict[str, str]
) -> LoopConfig:
    if options.steps is not None and options.epochs is not None:
        raise DataError("--steps and --epochs exclude each other")
    steps = options.steps
    if steps is None and options.epochs is not None:
        steps = round(options.epochs * len(train.plan(0)) / recipe.accumulate)
    if steps is None:
        steps = DEMO_STEPS if options.data is None else recipe.steps
    if options.epochs is not None and steps < 1:
        raise DataError(f"--epochs {options.epochs} is less than one step of {recipe.batch_size} sequences")
    at_least("steps", steps, 1)
    at_least("checkpoint-every", options.checkpoint_every, 1)
    at_least("profile", options.profile, 0)
    at_least("validate-every", options.validate_every, 1)
    warmup = steps // 30 if options.warmup is None else options.warmup
    if not 0 <= warmup <= steps:
        raise DataError(f"--warmup is {warmup}; it must lie between 0 and the {steps} steps")
    return LoopConfig(
        steps=steps,
        warmup=warmup,
        accumulate=recipe.accumulate,
        log_every=max(1, min(50, steps // 10)),
        validate_every=options.validate_every or max(1, steps // 5),
        checkpoint_every=options.checkpoint_every,
        seed=options.seed,
        compile=options.compile,
        profile=options.profile,
        identity=common
        | {"split": options.split or store.split_names[0], "seed": str(options.seed)}
        | flat(options.weights, "weights")
        | flat(recipe)
        | {"steps": str(steps), "warmup": str(warmup)}
        | {"buffer": str(train.stream.held) if train.stream else "all"},
        name_of=lambda sequences: sequence_names(store, sequences),
        override=options.override,
        keep_best=True,
    )


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.pretrain", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(lambda: pretrain(options))


if __name__ == "__main__":
    main()
