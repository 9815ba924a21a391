"""Lists of the training samples that keep their labels in semi-supervised training: 1, 5 and 10 %.

They depend on names, labels, fraction and seed alone, so that anyone can draw them again: samples are ordered by the
SHA-256 of "SEED:NAME" and the first ones kept. `uniform` keeps round(fraction x samples) of all. `per-class` keeps
ceil(fraction x samples / classes) of each class, or all of a smaller one: of NTU-60's 1 % that is 7 of each, 420 in
all, as the Hi-TRS authors have it; 5 and 10 % are uniform with them (2,005 and 4,009).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .records import UNKNOWN

PERCENTS = (1, 5, 10)
KINDS = ("uniform", "per-class")


class LabelledList(NamedTuple):
    """`name` such as `xsub-1-per-class`; `about` says how it was drawn and holds a hash of the names in it."""

    name: str
    mask: np.ndarray  # [M] bool: samples that keep their label
    about: dict[str, Any]


def labelled_lists(
    splits: Mapping[str, np.ndarray], names: Sequence[str], labels: np.ndarray, seed: int = 0
) -> list[LabelledList]:
    """All lists of all splits; none where no label is known. `splits`: `[M]` bool, `labels`: `[M]`, -1 for unknown."""
    found = []
    for split, training in splits.items():
        if (training & (labels != UNKNOWN)).any():
            for percent in PERCENTS:
                found += [labelled_list(split, training, names, labels, percent, kind, seed) for kind in KINDS]
    return found


def labelled_list(
    split: str,
    training: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray,
    percent: float,
    kind: str,
    seed: int,
) -> LabelledList:
    """One list; at least one of the `training` samples `[M]` must have a label."""
    usable = np.flatnonzero(training & (labels != UNKNOWN))
    ordered = usable[np.argsort([_key(seed, names[i]) for i in usable.tolist()], kind="stable")]
    chosen = _uniform(ordered, percent) if kind == "uniform" else _per_class(ordered, labels, percent)
    return _list(split, percent, kind, seed, chosen, names)


def _key(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _uniform(ordered: np.ndarray, percent: float) -> np.ndarray:
    return ordered[: max(1, round(percent * len(ordered) / 100))]


def _per_class(ordered: np.ndarray, labels: np.ndarray, percent: float) -> np.ndarray:
    classes = len(np.unique(labels[ordered]))
    each = math.ceil(percent * len(ordered) / 100 / classes)
    taken: dict[int, int] = defaultdict(int)
    chosen = []
    for index in ordered.tolist():
        label = int(labels[index])
        if taken[label] < each:
            taken[label] += 1
            chosen.append(index)
    return np.array(chosen)


def _list(split: str, percent: float, kind: str, seed: int, chosen: np.ndarray, names: Sequence[str]) -> LabelledList:
    mask = np.zeros(len(names), bool)
    mask[chosen] = True
    listed = sorted(names[i] for i in chosen.tolist())
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    about = {"split": split, "percent": percent, "kind": kind, "seed": seed, "samples": len(listed), "sha256": digest}
    return LabelledList(f"{split}-{percent:g}-{kind}", mask, about)
