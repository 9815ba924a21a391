"""Which samples of a store train and test recognition, and loaders of them.

Shape legend: M samples of the store, N sequences.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import HiTRS, joint_mapping
from hitrs_fast.mapping import check_layout

from .data.augment import AugmentConfig
from .data.labelled import labelled_list
from .data.loader import QUANTILES, Loader
from .data.records import UNKNOWN, DataError
from .data.splits import rule_columns, selected
from .data.store import Store
from .ranks import ALONE, Ranks
from .setup import frames_of, or_data_error

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    train: np.ndarray  # [M] bool
    test: np.ndarray  # [M] bool
    about: dict[str, str]
    """How they were chosen, as a run records it."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Which of the training samples keep their labels."""

    fraction: float = 1.0
    kind: str = "uniform"
    seed: int = 0


def parts_of(store: Store, split: str | None, hold_out: str | None, labels: Labels) -> Parts:
    """Training and test samples; with `hold_out`, KEY:VALUES, those of the training samples test and the rest train.

    DataError if there is nothing to train or test, or if a class of the test samples has no training sample at all.
    Samples without a label or without any body are left out, with a message.
    """
    bodies = np.bincount(store.sequence_sample, minlength=len(store.names)) > 0
    usable = bodies & (store.sample_label != UNKNOWN)
    if not store.classes or not (store.sample_label != UNKNOWN).any():
        raise DataError(f"{store.path} has no labels; recognition needs the action of each sample")
    if not usable.all():
        log.info("%d of %d samples have no body or no label and are left out", (~usable).sum(), len(usable))
    train, test, about = split_parts(store, split, hold_out)
    train, test, name = train & usable, test & usable, about["split"]
    check_parts(store, train, test, about, "samples")
    _check_classes(store, name, train, test)
    if labels.fraction < 1:
        train, about["labels"] = _labelled(store, name, train, labels)
        seen = np.unique(store.sample_label[train])
        if len(seen) < len(np.unique(store.sample_label[test])):
            log.warning(
                "the labelled samples cover %d of %d classes; the others cannot be learnt",
                len(seen),
                len(store.classes),
            )
    return Parts(train, test, about)


def split_parts(store: Store, split: str | None, hold_out: str | None) -> Parts:
    """All samples that a split trains and tests; with `hold_out`, KEY:VALUES, those of the training samples test and
    the rest train."""
    name = split or store.split_names[0]
    train, about = store.split(name), {"split": name}
    if hold_out is None:
        return Parts(train, ~train, about)
    held = _held_out(store, hold_out)
    return Parts(train & ~held, train & held, about | {"hold out": hold_out})


def check_parts(store: Store, train: np.ndarray, test: np.ndarray, about: dict[str, str], things: str) -> None:
    """DataError if there is nothing to train or test. `train`, `test`: `[M]` bool of the samples."""
    for what, part in (("training", train), ("test", test)):
        if not part.any():
            held = f" with {about['hold out']} held out" if "hold out" in about else ""
            raise DataError(f"{store.path}: no {what} {things} in the split {about['split']}{held}")


def drawn(
    store: Store, split: str, train: np.ndarray, fraction: float, seed: int, labels: np.ndarray, kind: str = "uniform"
) -> tuple[np.ndarray, str]:
    """A fraction of the samples `train` `[M]` bool, by the rule of lists of labelled ones; and how it was drawn.

    `labels` `[M]` int64: the classes that the draw keeps apart, if it is by class.
    """
    found = labelled_list(split, train, store.names, labels, 100 * fraction, kind, seed)
    return found.mask, f"{found.name} seed {seed} {found.about['sha256']}"


def _held_out(store: Store, rule: str) -> np.ndarray:
    """`[M]` bool: samples that KEY:VALUES names."""
    columns = rule_columns(store.sample_label, store.sample_subject, store.sample_camera, store.sample_setup)
    return selected(f"hold-out={rule}", store.names, columns)[1]


def _check_classes(store: Store, split: str, train: np.ndarray, test: np.ndarray) -> None:
    untrained = np.setdiff1d(store.sample_label[test], store.sample_label[train])
    if len(untrained):
        named = ", ".join(f"{store.classes[c]!r}" for c in untrained[:5].tolist())
        raise DataError(
            f"{store.path}: in the split {split} {len(untrained)} classes are tested and never trained: {named}; "
            f"take another --split"
        )


def _labelled(store: Store, split: str, train: np.ndarray, labels: Labels) -> tuple[np.ndarray, str]:
    """The samples that keep their labels: the store's own list where it has one, else one drawn by the same rule."""
    name = f"{split}-{100 * labels.fraction:g}-{labels.kind}"
    if store.labelled_lists.get(name, {}).get("seed") == labels.seed and (train == store.split(split)).all():
        return store.labelled(name), f"{name} {store.labelled_lists[name]['sha256']}"
    return drawn(store, split, train, labels.fraction, labels.seed, store.sample_label, labels.kind)


class SampleLoaders:
    """Loaders over a store's frames, which are held on the device in the encoder's layout.

    map_joints: whether frames of another layout are mapped onto the encoder's; else another layout is a DataError.
    ranks: the processes among which every batch is divided.
    """

    def __init__(
        self, store: Store, encoder: HiTRS, device: torch.device, map_joints: bool, ranks: Ranks = ALONE
    ) -> None:
        self.store, self.windows, self.ranks = store, encoder.windows(), ranks
        self.frames = frames_for(encoder, store, device, map_joints, ranks)

    def __call__(
        self,
        part: np.ndarray,
        batch_size: int,
        augment: AugmentConfig | None,
        seed: int,
        quantiles: tuple[float, ...] = QUANTILES,
    ) -> Loader:
        """Batches of the samples `part` `[M]` bool."""
        store = self.store
        chosen = np.flatnonzero(part[store.sequence_sample])
        return Loader(
            self.frames, store.offsets, chosen, self.windows, batch_size, augment, seed, quantiles,
            samples=store.sequence_sample, rank=self.ranks.rank, ranks=self.ranks.count,
        )  # fmt: skip


def frames_for(encoder: HiTRS, store: Store, device: torch.device, map_joints: bool, ranks: Ranks = ALONE) -> Tensor:
    """All frames of the store on the device, in the encoder's layout; `map_joints` as in `SampleLoaders`."""
    config = encoder.config
    if store.channels != config.channels:
        raise DataError(
            f"{store.path} has {store.channels} coordinates a joint and the encoder reads {config.channels}"
        )
    mapping = None
    if map_joints:
        mapping = or_data_error(joint_mapping, store.layout, config.layout)
    else:
        or_data_error(check_layout, config.layout, store.layout, store.path)
    frames = frames_of(store, device, ranks=ranks)
    if isinstance(frames, int):
        raise DataError(f"{store.path} does not fit into half of the memory of {device}, which this command needs")
    if mapping is None:
        return frames
    if mapping.missing:
        log.warning("the data have no %s: these joints stay empty", ", ".join(mapping.missing))
    return mapping.apply(frames)
