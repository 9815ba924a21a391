"""Name the action of a recording: train, test and use recognisers: `python -m training.recognize --help`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from .data.records import DataError
from .data.store import Store
from .options import TuningOptions, check_tuning
from .precision import precision_of, use_tf32
from .protocols import RecognitionJob, run_seed, start_of
from .ranks import ALONE, join
from .recognition import RecognitionRecipe, recognition_recipe
from .runtime import (
    demo_store,
    keep_freed_memory,
    new_run_folder,
    pick_device,
    run,
    use_compiler,
)
from .samples import Labels, SampleLoaders, parts_of
from .setup import at_least, check_classes, default_preset, run_seeds
from .tuning import changed

ALIGNED_ROTATION = 30.0  # degrees, of the first frame's facing from skeletons that shake
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(TuningOptions):
    """Train a recogniser of actions on a store, or test one, or name the actions in new recordings (--predict)."""

    data: str | None = None
    """The store, a folder or a URL; without one, the built-in demo store."""
    protocol: Literal["supervised", "semi", "linear", "knn", "test"] = "supervised"
    """supervised: all labels; semi: a fraction of them; linear: a linear classifier on the frozen encoder; knn: the
    nearest training samples of the frozen encoder, without training; test: the recogniser of --init as it is."""
    fraction: float | None = None
    """Part of the training samples that keep their labels; semi has 0.1 unless it is given."""
    labels: Literal["uniform", "per-class"] = "uniform"
    """How these are drawn; the store's lists of 1, 5 and 10 % are used where they fit."""
    stream: Literal["joint", "bone", "motion"] | None = None
    """What the encoder reads; the default is what --init was trained on, or joint."""
    align: bool = False
    """Turn every sequence about the vertical so that its body faces the camera at first, in training and testing;
    augmentation that turns sequences then stays within 30 degrees. For encoders that centre (small)."""
    bodies: int | None = None
    """Divide the sum over bodies by this and count absent ones as zeros (authors: 2); 0: average over those present."""
    batch_size: int | None = None
    """Samples in a batch, over all ranks of torchrun together; the default is the preset's (small 32; paper 128;
    authors 32, four batches a step)."""
    label_smoothing: float | None = None
    """Part of the target that is spread over all classes; the presets have none."""
    views: int | None = None
    """Test each sample turned about the vertical so many ways, and average."""
    k: int = 1
    """Neighbours that vote, of knn."""
    compile: bool = False
    """Compile the model with torch.compile; it takes a minute or more before the first step."""
    predict: tuple[Path, ...] = ()
    """RUN FILE...: name the actions in these recordings (.skeleton, .npy, .npz, .csv, .json) with a finished run; of
    the other options only --device counts."""


def recognize(options: Options) -> None:
    device, ranks = join(options.device)
    if options.protocol in ("linear", "knn", "test"):  # one process is enough for them
        if not ranks.first:
            return
        ranks = ALONE
    if device.type == "cpu":
        keep_freed_memory()
    check_options(options)
    precision = precision_of(options.precision, device)
    use_tf32(options.tf32, device)
    store = Store.open(options.data or ranks.in_turn(demo_store))
    parts = parts_of(store, options.split, options.hold_out, labels_of(options))
    preset = options.preset or default_preset(device)
    recipe = recipe_of(options, preset)
    ranks.share(recipe.batch_size)
    encoder = start_of(options, store, preset, device)
    loaders = SampleLoaders(store, encoder, device, options.map_joints, ranks)
    if options.init is not None and options.protocol == "test":
        check_classes(options.init, store.classes)
    if options.compile:
        use_compiler(device, options.run)
    folder = ranks.from_first(lambda: new_run_folder(options.run, "recognize", options.resume))
    log.info(
        "%s: %d training and %d test samples, %s, preset %s, %s",
        *(store.path, parts.train.sum(), parts.test.sum(), options.protocol, preset, device),
    )
    job = RecognitionJob(
        command="recognize", options=options, store=store, parts=parts, recipe=recipe, preset=preset, device=device,
        precision=precision, ranks=ranks, loaders=loaders,
    )  # fmt: skip
    run_seeds(options.seeds, folder, lambda seed, own: run_seed(job, seed, own), ranks)
    ranks.leave()


def check_options(options: Options) -> None:
    check_tuning(options)
    at_least("views", options.views, 1)
    at_least("k", options.k, 1)
    at_least("bodies", options.bodies, 0)
    if options.label_smoothing is not None and not 0 <= options.label_smoothing < 1:
        raise DataError(f"--label-smoothing is {options.label_smoothing}; it must be in 0 to 1, 1 excluded")
    if options.protocol == "test" and options.init is None:
        raise DataError("--protocol test needs --init RUN, the recogniser to test")
    if options.protocol == "supervised" and options.fraction not in (None, 1):
        raise DataError("--fraction is for --protocol semi, linear and knn; supervised uses all labels")


def labels_of(options: Options) -> Labels:
    fraction = options.fraction if options.fraction is not None else 0.1 if options.protocol == "semi" else 1.0
    return Labels(fraction, options.labels, options.label_seed)


def recipe_of(options: Options, preset: str) -> RecognitionRecipe:
    """The preset with what the command line changes."""
    recipe = recognition_recipe(preset, pretrained=options.init is not None)
    changes: dict[str, Any] = {}
    if options.bodies is not None:
        changes["bodies"] = options.bodies or None
    if options.align:
        turns = min(ALIGNED_ROTATION, recipe.augment.rotation)
        changes["augment"] = dataclasses.replace(recipe.augment, rotation=turns)
    recipe = changed(recipe, options, "label_smoothing", "views", **changes)
    if recipe.views > 1 and not recipe.augment.rotation:
        raise DataError("--views is for presets that train with rotations (small)")
    return recipe


def main(args: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, prog="python -m training.recognize", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    if options.predict:
        from .naming import name_actions

        run(lambda: name_actions(options.predict, pick_device(options.device)))
    else:
        run(lambda: recognize(options))


if __name__ == "__main__":
    main()
