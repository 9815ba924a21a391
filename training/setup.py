"""What the commands that train share: checks of their options, frames on the device, files of a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hitrs_fast import HiTRS
from hitrs_fast.hub import HEADS, HubHead, HubModel, heads_of

from .data.loader import QUANTILES
from .data.records import DataError
from .data.store import Store
from .data.stream import fits, memory_of
from .metrics.classes import over_seeds
from .ranks import ALONE, Ranks
from .runtime import environment

ONE_CAPACITY = (0.99,)  # of random batches: the only one to compile for, where that takes a CPU minutes
log = logging.getLogger(__name__)
T = TypeVar("T")
Saved = TypeVar("Saved", bound=HubModel)


def quantiles_of(compile: bool, device: torch.device) -> tuple[float, ...]:
    """Of the capacities that a training loader has."""
    return ONE_CAPACITY if compile and device.type == "cpu" else QUANTILES


def default_preset(device: torch.device) -> str:
    return "paper" if device.type == "cuda" else "small"


def above(option: str, value: float | None, limit: float) -> None:
    """DataError unless the value of `--option` is above the limit, or not given."""
    if value is not None and not limit < value < math.inf:
        raise DataError(f"--{option} is {value}; it must be a number above {limit}")


def at_least(option: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise DataError(f"--{option} is {value}; it must be at least {least}")


def or_data_error(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """What the function returns; its ValueError becomes a DataError, which ends a command with one sentence."""
    try:
        return function(*args, **options)
    except ValueError as error:
        raise DataError(str(error)) from error


def check_stream(store: Store, stream: str) -> None:
    if stream == "bone" and max(store.layout.parents) < 0:
        raise DataError(
            f"{store.path}: its layout has no bones, so it has no bone stream; give the data bones or parents"
        )


def frames_of(store: Store, device: torch.device, buffer_gb: float | None = None, ranks: Ranks = ALONE) -> Tensor | int:
    """All frames of the store on the device, or the bytes of the buffers that they are to be streamed through.

    All ranks do the same, as the one with the least memory can; on CPUs those of a host share its memory.
    """
    memory = ranks.least(memory_of(device) // (ranks.on_host if device.type == "cpu" else 1))
    if buffer_gb is None and fits(store, memory):
        return torch.from_numpy(store.read_frames()).to(device)
    size = memory // 4 if buffer_gb is None else int(buffer_gb * 1e9)
    if size <= 0:
        raise DataError(f"--buffer-gb is {buffer_gb}; it must be above 0")
    log.info("%s is streamed through a buffer of %.1f GB", store.path, size / 1e9)
    return size // 2  # one for training, one for validation


def save_model(folder: Path, model: nn.Module) -> None:
    """The newest weights, for `from_pretrained(folder)` of the model's class and of the encoder; each file whole.

    Pretext heads are for going on with the training alone: they do not say how they are rebuilt.
    """
    partial = folder / "weights.partial"
    shutil.rmtree(partial, ignore_errors=True)
    saved = model if isinstance(model, HubHead) else model.encoder
    saved.save_pretrained(partial, model_card_kwargs={"run": folder})  # type: ignore[operator, union-attr]
    if saved is not model:
        save_file(heads_of(model), partial / HEADS)
    for file in partial.iterdir():
        file.replace(folder / file.name)
    partial.rmdir()


def write_metrics(folder: Path, result: dict[str, Any], model: nn.Module) -> None:
    """The run's figures, and the model card with them where the run has saved its weights."""
    write_json(folder / "metrics.json", result)
    if (folder / "README.md").exists():
        saved = model if isinstance(model, HubHead) else model.encoder
        saved.generate_model_card(run=folder).save(folder / "README.md")  # type: ignore[operator, union-attr]


def load_heads(model: nn.Module, folder: Path) -> None:
    """The heads that `save_model` has written, into a model with the same ones. DataError for a damaged file."""
    try:
        model.load_state_dict(load_file(folder / HEADS), strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{folder / HEADS}: is damaged, or of another model ({error})") from error


def record_of(command: str, options: Any, recipe: Any, store: Store, device: torch.device) -> dict[str, Any]:
    """What `run.json` holds of every run; `options` and `recipe` are dataclasses."""
    return {
        "command": command,
        "options": dataclasses.asdict(options),
        "recipe": dataclasses.asdict(recipe),
        "store": {"path": str(store.path), "fingerprint": store.fingerprint, "counts": store.counts},
        "environment": environment(device),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1, default=str) + "\n")


def as_written(content: dict[str, Any]) -> dict[str, Any]:
    """What `write_json` has written when it is read again."""
    return json.loads(json.dumps(content, default=str))


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all: a run may be killed while it writes."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes `run.json`; where a run goes on, it keeps the environments of its earlier parts."""
    file = folder / "run.json"
    if file.exists():
        former = json.loads(file.read_text())
        record = record | {"earlier": [*former.get("earlier", []), former["environment"]]}
    write_json(file, record)


def sequence_names(store: Store, sequences: np.ndarray) -> list[str]:
    """Names of sequences: that of the sample, and where it has several bodies the body's."""
    several = np.bincount(store.sequence_sample)[store.sequence_sample[sequences]] > 1
    return [
        store.names[store.sequence_sample[number]] + f" body {store.sequence_body[number]}" * bool(more)
        for number, more in zip(sequences.tolist(), several, strict=True)
    ]


def read_encoder(folder: Path) -> HiTRS:
    """The encoder of a run folder. DataError if there is none."""
    return read_pretrained(HiTRS, folder)


def read_pretrained(kind: type[Saved], folder: Path) -> Saved:
    """The model of a run folder that is a `kind`. DataError if it holds no encoder, or cannot be read."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is no run with an encoder: it has no {name}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for a command's figures; the mixin prints to it
            return kind.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder}: its encoder cannot be read ({error})") from error


def run_record(folder: Path, command: str = "recognize") -> dict[str, Any]:
    """The `run.json` of a finished run of `training.<command>`; DataError if the folder is none."""
    file = folder / "run.json"
    record = json.loads(file.read_text()) if file.exists() else {}
    if record.get("command") != command or not (folder / HEADS).exists():
        raise DataError(f"{folder} is not a finished run of training.{command}, so it has no classifier")
    return record


def check_classes(folder: Path, classes: list[str], command: str = "recognize") -> None:
    """DataError unless the folder holds a finished run with these classes."""
    own = run_record(folder, command)["classes"]
    if own != classes:
        raise DataError(
            f"{folder} names {len(own)} classes ({', '.join(own[:3])}, ...) and the store has {len(classes)} "
            f"({', '.join(classes[:3])}, ...); they must be the same ones in the same order"
        )


def check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise DataError(f"--seeds are {seeds}; give different numbers, none negative")


def run_seeds(
    seeds: Sequence[int], folder: Path, run_one: Callable[[int, Path], dict[str, Any]], ranks: Ranks = ALONE
) -> None:
    """A run for each seed, with several in folders seed-N; their figures, or mean and spread, as JSON.

    `run_one` takes a seed and its folder and gives its figures.
    """
    results = []
    for seed in seeds:
        own = folder if len(seeds) == 1 else folder / f"seed-{seed}"
        own.mkdir(exist_ok=True)
        results.append(run_one(seed, own))
    if not ranks.first:
        return
    result = results[0]
    if len(results) > 1:
        names = [k for k, v in result.items() if isinstance(v, float)]
        spread = {name: over_seeds([r[name] for r in results]) for name in names}
        result = {name: spread[name]["mean"] for name in names} | {"seeds": spread}
    result = result | {"run": str(folder)}
    write_json(folder / "metrics.json", result)
    print(json.dumps(result))
