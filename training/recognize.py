"""Name the action of a recording: train, test and use recognisers: `python -m training.recognize --help`."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from safetensors.torch import load_file
from torch import nn

from hitrs_fast import HiTRS, HiTRSConfig

from .data.augment import AugmentConfig
from .data.labelled import KINDS
from .data.loader import QUANTILES
from .data.records import DataError
from .data.store import Store
from .frozen import linear_probe, nearest_neighbours
from .log import RunLog
from .loop import LoopConfig, Trainer
from .metrics.classes import over_seeds
from .recognition import RecognitionRecipe, RecognitionTask, predict, recognition_recipe
from .runtime import check_compiler, demo_store, environment, keep_freed_memory, new_run_folder, pick_device, run
from .samples import Labels, Parts, SampleLoaders, parts_of
from .scores import Scores, write_results
from .setup import above, at_least, check_stream, default_preset, read_encoder, run_record, save_heads, write_json

ONE_CAPACITY = (0.99,)
log = logging.getLogger(__name__)


@dataclass
class Options:
    """Train a recogniser of actions on a store, or test one, or name the actions in new recordings (--predict)."""

    data: str | None = None
    """The store, a folder or a URL; without one, the built-in demo store."""
    init: Path | None = None
    """A run whose encoder is the start; without one, training is from scratch."""
    protocol: Literal["supervised", "semi", "linear", "knn", "test"] = "supervised"
    """supervised: all labels; semi: a fraction of them; linear: a linear classifier on the frozen encoder; knn: the
    nearest training samples of the frozen encoder, without training; test: the recogniser of --init as it is."""
    fraction: float | None = None
    """Part of the training samples that keep their labels; semi has 0.1 unless it is given."""
    labels: Literal["uniform", "per-class"] = "uniform"
    """How these are drawn; the store's lists of 1, 5 and 10 % are used where they fit."""
    label_seed: int = 0
    """Of that draw."""
    split: str | None = None
    """Which of the store's splits; the default is its first."""
    hold_out: str | None = None
    """KEY:VALUES, such as subjects:1,2: these of the training samples test, and the split's test samples are left
    alone. For choosing options."""
    map_joints: bool = False
    """Map the data's joints onto the layout of --init by their names."""
    stream: Literal["joint", "bone", "motion"] | None = None
    """What the encoder reads; the default is what --init was trained on, or joint."""
    preset: Literal["paper", "authors", "small"] | None = None
    """Sizes, schedule and rules; the default is small on a CPU and paper on CUDA. Sizes are those of --init."""
    bodies: int | None = None
    """Divide the sum over bodies by this and count absent ones as zeros (authors: 2); 0: average over those present."""
    epochs: float | None = None
    """Passes over the training samples; the default is the preset's."""
    batch_size: int | None = None
    """Samples in a batch; the default is the preset's (small 32; paper 128; authors 32, four batches a step)."""
    lr: float | None = None
    """Highest learning rate; the default is the preset's."""
    label_smoothing: float | None = None
    """Part of the target that is spread over all classes; the presets have none."""
    views: int | None = None
    """Test each sample turned about the vertical so many ways, and average."""
    k: int = 1
    """Neighbours that vote, of knn."""
    seeds: tuple[int, ...] = (0,)
    """A run for each; with several, folders seed-N within --run, and mean and spread of their figures."""
    run: Path | None = None
    """Folder for weights, logs and checkpoints; the default is runs/recognize-<time>."""
    device: str | None = None
    """cpu or cuda; the default is CUDA where there is one."""
    compile: bool = False
    """Compile the model with torch.compile; it takes a minute or more before the first step."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the last step always has one."""
    resume: bool = False
    """Go on with the run in --run."""
    predict: tuple[Path, ...] = ()
    """RUN FILE...: name the actions in these recordings (.skeleton, .npy, .npz, .csv, .json) with a finished run; of
    the other options only --device counts."""


def recognize(options: Options) -> None:
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_options(options)
    store = Store.open(options.data or demo_store())
    parts = parts_of(store, options.split, options.hold_out, labels_of(options))
    recipe = recipe_of(options, device)
    encoder = encoder_of(options, store, device, options.seeds[0])
    loaders = SampleLoaders(store, encoder, device, options.map_joints)
    if options.compile:
        check_compiler(device)
    folder = new_run_folder(options.run, "recognize", options.resume)
    log.info(
        "%s: %d training and %d test samples, %s, preset %s, %s",
        *(store.path, parts.train.sum(), parts.test.sum(), options.protocol, preset_of(options, device), device),
    )
    results = []
    for seed in options.seeds:
        own = folder if len(options.seeds) == 1 else folder / f"seed-{seed}"
        own.mkdir(exist_ok=True)
        results.append(one_seed(options, store, parts, loaders, recipe, device, seed, own))
    result = results[0]
    if len(results) > 1:
        names = [k for k, v in result.items() if isinstance(v, float)]
        spread = {name: over_seeds([r[name] for r in results]) for name in names}
        result = {name: spread[name]["mean"] for name in names} | {"seeds": spread}
    result = result | {"run": str(folder)}
    write_json(folder / "metrics.json", result)
    print(json.dumps(result))


def check_options(options: Options) -> None:
    above("lr", options.lr, 0)
    above("epochs", options.epochs, 0)
    for name in ("batch_size", "views", "k", "checkpoint_every"):
        at_least(name.replace("_", "-"), getattr(options, name), 1)
    at_least("bodies", options.bodies, 0)
    if options.fraction is not None and not 0 < options.fraction <= 1:
        raise DataError(f"--fraction is {options.fraction}; it must be above 0 and at most 1")
    if options.label_smoothing is not None and not 0 <= options.label_smoothing < 1:
        raise DataError(f"--label-smoothing is {options.label_smoothing}; it must be in 0 to 1, 1 excluded")
    if not options.seeds or min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        raise DataError(f"--seeds are {options.seeds}; give different numbers, none negative")
    if options.protocol == "test" and options.init is None:
        raise DataError("--protocol test needs --init RUN, the recogniser to test")
    if options.protocol == "supervised" and options.fraction not in (None, 1):
        raise DataError("--fraction is for --protocol semi, linear and knn; supervised uses all labels")


def labels_of(options: Options) -> Labels:
    fraction = options.fraction if options.fraction is not None else 0.1 if options.protocol == "semi" else 1.0
    assert options.labels in KINDS
    return Labels(fraction, options.labels, options.label_seed)


def preset_of(options: Options, device: torch.device) -> str:
    return options.preset or default_preset(device)


def recipe_of(options: Options, device: torch.device) -> RecognitionRecipe:
    """The preset with what the command line changes."""
    recipe = recognition_recipe(preset_of(options, device), pretrained=options.init is not None)
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("batch_size", "epochs", "label_smoothing", "views")
        if getattr(options, name) is not None
    }
    if options.epochs is not None:
        changes["least_steps"] = 0
    if options.bodies is not None:
        changes["bodies"] = options.bodies or None
    if options.lr is not None:
        changes["optim"] = dataclasses.replace(recipe.optim, lr=options.lr)
    recipe = dataclasses.replace(recipe, **changes)
    if recipe.views > 1 and not recipe.augment.rotation:
        raise DataError("--views is for presets that train with rotations (small)")
    return recipe


def encoder_of(options: Options, store: Store, device: torch.device, seed: int) -> HiTRS:
    """The encoder of --init, or a new one for the store's layout."""
    if options.init is None:
        stream = options.stream or "joint"
        check_stream(store, stream)
        torch.manual_seed(seed)
        config = HiTRSConfig.preset(preset_of(options, device), store.layout, stream=stream, channels=store.channels)
        return HiTRS(config).to(device)
    encoder = read_encoder(options.init).to(device)
    if options.stream not in (None, encoder.config.stream):
        raise DataError(
            f"{options.init} was trained on the {encoder.config.stream} stream; --stream {options.stream} needs a run "
            f"that was pre-trained on it"
        )
    return encoder


def one_seed(
    options: Options,
    store: Store,
    parts: Parts,
    loaders: SampleLoaders,
    recipe: RecognitionRecipe,
    device: torch.device,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Trains and tests with one seed; its figures, which the folder's `metrics.json` holds too."""
    if options.resume and (folder / "metrics.json").exists():
        return json.loads((folder / "metrics.json").read_text())
    begin = time.perf_counter()
    torch.manual_seed(seed)
    encoder = encoder_of(options, store, device, seed)
    task = RecognitionTask(encoder, len(store.classes), store.sample_label, recipe, device)
    test = loaders(parts.test, recipe.batch_size, None, seed)
    write_json(folder / "run.json", describe(options, parts, recipe, store, device, seed))
    if options.protocol in ("linear", "knn"):
        scores = frozen_scores(options, task, loaders, parts, seed, folder)
    else:
        if options.protocol == "test":
            load_heads(task.model, options.init, store.classes)
        else:
            fine_tune(options, store, parts, loaders, task, test, seed, folder)
        scores = predict(task, test)
    result = write_results(folder, named(store, *scores)) | {"seconds": round(time.perf_counter() - begin, 1)}
    write_json(folder / "metrics.json", result | {"run": str(folder)})
    return result


def fine_tune(
    options: Options,
    store: Store,
    parts: Parts,
    loaders: SampleLoaders,
    task: RecognitionTask,
    test: Any,
    seed: int,
    folder: Path,
) -> None:
    recipe = task.recipe
    quantiles = ONE_CAPACITY if options.compile and task.generator.device.type == "cpu" else QUANTILES
    train = loaders(parts.train, recipe.batch_size, recipe.augment, seed, quantiles)
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
        identity={
            "store": store.fingerprint,
            "seed": str(seed),
            "steps": str(steps),
            "init": str(options.init),
            **{f"encoder {k}": str(v) for k, v in vars(task.model.encoder.config).items()},
            **{k: str(v) for k, v in vars(recipe).items()},
            **parts.about,
        },
    )
    trainer = Trainer(task, train, test, recipe.optim, config, folder)
    if options.resume:
        trainer.resume()
    if options.compile and trainer.step < steps:
        log.info("compiling for %d batch sizes; about a minute each the first time", len(train.sizes))
        trainer.warm_up()
    run_log = RunLog(folder, trainer.step, steps)
    try:
        trainer.fit(run_log, lambda: save_model(folder, task.model))
    finally:
        run_log.close()


def frozen_scores(
    options: Options, task: RecognitionTask, loaders: SampleLoaders, parts: Parts, seed: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the frozen encoder's features by --protocol linear or knn; the features are kept in the folder."""
    classifier, task.model.classifier = task.model.classifier, nn.Identity()  # type: ignore[assignment]
    recipe = task.recipe
    training, testing = (loaders(part, recipe.batch_size, None, seed) for part in (parts.train, parts.test))
    turned = AugmentConfig(probability=0.0, rotation=recipe.augment.rotation) if recipe.turns > 1 else None
    task.generator.manual_seed(seed)
    passes = [predict(task, training, turned) for _ in range(recipe.turns)]
    samples, train = (np.concatenate(parts) for parts in zip(*passes, strict=True))
    queries, test = predict(task, testing)
    np.savez(folder / "features.npz", samples=samples, train=train, queries=queries, test=test)
    labels, classes = task.labels[samples], classifier.out_features
    if options.protocol == "knn":
        return queries, nearest_neighbours(train, labels, test, classes, options.k)
    probe = linear_probe(torch.from_numpy(train), torch.from_numpy(labels), classes, seed)
    with torch.no_grad():
        return queries, probe(torch.from_numpy(test)).numpy()


def named(store: Store, samples: np.ndarray, logits: np.ndarray) -> Scores:
    names = np.array([store.names[i] for i in samples.tolist()])
    return Scores(names, logits.astype(np.float32), store.sample_label[samples], np.array(store.classes))


def save_model(folder: Path, model: nn.Module) -> None:
    model.encoder.save_pretrained(folder)  # type: ignore[operator, union-attr]
    save_heads(folder, model)


def load_heads(model: nn.Module, folder: Path | None, classes: list[str]) -> None:
    """The classifier of a finished run, whose classes must be these."""
    assert folder is not None
    own = run_record(folder)["classes"]
    if own != classes:
        raise DataError(
            f"{folder} names {len(own)} classes ({', '.join(own[:3])}, ...) and the store has {len(classes)} "
            f"({', '.join(classes[:3])}, ...); they must be the same ones in the same order"
        )
    model.load_state_dict(load_file(folder / "heads.safetensors"), strict=False)


def describe(
    options: Options, parts: Parts, recipe: RecognitionRecipe, store: Store, device: torch.device, seed: int
) -> dict[str, Any]:
    return {
        "command": "recognize",
        "options": dataclasses.asdict(options),
        "seed": seed,
        "classes": store.classes,
        "recipe": dataclasses.asdict(recipe),
        "parts": parts.about | {"train": int(parts.train.sum()), "test": int(parts.test.sum())},
        "store": {"path": str(store.path), "fingerprint": store.fingerprint, "counts": store.counts},
        "environment": environment(device),
    }


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.recognize", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    if options.predict:
        from .naming import name_actions

        run(lambda: name_actions(options.predict, pick_device(options.device)))
    else:
        run(lambda: recognize(options))


if __name__ == "__main__":
    main()
