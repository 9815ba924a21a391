"""Which run may go on from which checkpoint.

A run's identity is a dictionary of texts: all that decides its numbers. Threads, paths, and how often is logged,
validated and saved are not in it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hitrs_fast import SkeletonLayout

from .data.records import DataError
from .data.store import Store

HARMLESS = {
    "store": "the same sequences, prepared anew: their number, layout and split are compared on their own",
    "buffer": "another order of the sequences, from the next batch on",
    "device": "other random numbers of the same kind, and rounding",
    "compile": "other padding, so other random numbers of the same kind, and rounding",
    "precision": "rounding",
    "tf32": "rounding",
    "init": "the encoder that a run began with; its checkpoint holds the weights",
}
"""What may differ with --override, and what it changes. All else (sizes, losses, batches, schedule, seed) may not."""


def common_identity(
    store: Store, counts: tuple[int, int], device: torch.device, precision: torch.dtype, options: Any
) -> dict[str, str]:
    """The part of an identity that all commands share. `counts`: training and test sequences."""
    return {
        "store": store.fingerprint,
        "sequences": f"{counts[0]} to train and {counts[1]} to test",
        **layout_identity(store.layout),
        "device": device.type,
        "compile": str(vars(options).get("compile", False)),  # prediction has no --compile
        "precision": str(precision).removeprefix("torch."),
        "tf32": str(options.tf32),
    }


def layout_identity(layout: SkeletonLayout) -> dict[str, str]:
    return {"layout": layout.name, "joints": f"{layout.joints} ({zlib.crc32(repr(layout).encode()):08x})"}


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """A dataclass as texts, nested ones with their names before: `optim lr`. Layouts are left out."""
    out: dict[str, str] = {}
    for field in dataclasses.fields(value):
        name, part = f"{prefix} {field.name}".strip(), getattr(value, field.name)
        if dataclasses.is_dataclass(part):
            out |= {} if isinstance(part, SkeletonLayout) else flat(part, name)
        else:
            out[name] = str(part)
    return out


def check_identity(run: Path, then: dict[str, str], now: dict[str, str], override: Sequence[str]) -> None:
    """DataError that names all fields that differ, unless each is a harmless one that `override` (NAME=VALUE) names."""
    allowed = {}
    for text in override:
        name, _, value = text.partition("=")
        if name not in HARMLESS:
            raise DataError(f"--override {text}: only {', '.join(HARMLESS)} can be overridden, each as NAME=VALUE")
        if value != now.get(name):
            raise DataError(f"--override {text}: this command has {name}={now.get(name)}")
        allowed[name] = value
    differing = [name for name in then | now if then.get(name) != now.get(name) and name not in allowed]
    if differing:
        named = ", ".join(f"{name} ({then.get(name)}, now {now.get(name)})" for name in differing)
        message = f"{run} cannot go on, because it was begun with another {named}"
        if all(name in HARMLESS for name in differing):
            message += f"; to go on all the same: --override {' '.join(f'{n}={now.get(n)}' for n in differing)}"
        raise DataError(message)
