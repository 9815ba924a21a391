"""What detection trains: its presets, and the task that turns pieces of recordings into a loss of frames.

Shape legend: T_total frames of the store, F frames of a batch, B tracks, N pieces of time, K classes, M samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from hitrs_fast import FrameClassifier, HiTRS

from .data.aligned import Tracks
from .data.augment import AugmentConfig
from .data.loader import Batch
from .data.pipeline import model_frames
from .data.records import DataError
from .data.store import Store
from .optim import OptimConfig
from .precision import autocast

NO_LABEL = -100  # what the loss leaves out
BACKGROUND = 0


@dataclass(frozen=True)
class DetectionRecipe:
    augment: AugmentConfig
    optim: OptimConfig
    batch_size: int
    """Pieces of time."""
    piece: int
    """Frames of a piece that count; half a window is added at both ends."""
    epochs: float
    warmup: float
    """Part of the schedule."""
    in_place: bool = False
    """Whether an encoder that centres is made to keep bodies in place (`HiTRSConfig.in_place`)."""
    least_steps: int = 0
    """With few streams, more epochs are taken than `epochs`, up to so many steps."""
    dropout: float = 0.0
    """Of clip embeddings, before the classifier."""
    label_smoothing: float = 0.0
    """Part of a label that is spread over all classes."""


def detection_recipe(preset: str) -> DetectionRecipe:
    """The paper: Adam 4e-4, 256 frames a batch, 5 epochs, the rate constant (its supplement names no schedule).

    The authors have published no detection; `authors` has the augmentation and clipping of their recognition. `small`
    takes what did better on held-out training streams (docs/evidence.md).
    """
    constant = ((0.0, 1.0),)
    if preset == "paper":
        optim = OptimConfig(4e-4, milestones=constant, clip_norm=None)
        return DetectionRecipe(AugmentConfig(probability=0.0), optim, 4, 64, 5, 0.0)
    if preset == "authors":
        return DetectionRecipe(AugmentConfig.preset("authors"), OptimConfig(4e-4, milestones=constant), 4, 64, 5, 0.0)
    return DetectionRecipe(
        dataclasses.replace(AugmentConfig.preset("small"), mirror=True),
        OptimConfig(1e-3),
        batch_size=32,
        piece=4,
        epochs=40,
        warmup=0.1,
        in_place=True,
        least_steps=1000,
        dropout=0.5,
        label_smoothing=0.1,
    )


@dataclass(frozen=True)
class FrameTables:
    """Of every frame of the store, `[T_total]` int64 each, on the batch's device."""

    label: Tensor  # its class; 0 is the background
    number: Tensor  # within its sample
    before: Tensor  # frames of its track before it
    after: Tensor  # and after it

    @classmethod
    def of(cls, store: Store, tracks: Tracks, device: torch.device) -> FrameTables:
        lengths = np.diff(tracks.offsets)
        before = np.arange(tracks.offsets[-1]) - np.repeat(tracks.offsets[:-1], lengths)
        number = np.repeat(tracks.first_frame, lengths) + before
        samples = np.concatenate([[0], store.sample_frames.cumsum()])
        label = np.concatenate(frame_labels(store))[np.repeat(samples[tracks.sample], lengths) + number]
        columns = (label, number, before, np.repeat(lengths, lengths) - 1 - before)
        return cls(*(torch.from_numpy(column).to(device) for column in columns))


def frame_labels(store: Store) -> list[np.ndarray]:
    """Of each sample `[its frames]` int64: the class of the segment that began last, or the background, 0.

    DataError for a segment of a class that cannot be: the background's, or none of the store's.
    """
    count = len(store.classes)
    labels = [np.zeros(frames, np.int64) for frames in store.sample_frames.tolist()]
    for sample, label, first, end in store.segments[np.argsort(store.segments[:, 2], kind="stable")].tolist():
        if not 0 < label < count:
            raise DataError(
                f"{store.path}: {store.names[sample]} has a segment of class {label}; with {count} classes, of which 0 "
                f"is the background, segments have 1 to {count - 1}"
            )
        labels[sample][first:end] = label
    return labels


class DetectionTask:
    """Batches of an `AlignedLoader` to the cross-entropy and accuracy of their frames.

    A frame's class scores are the mean over the bodies in it. Frames whose window is cut by the piece, and not by the
    track, are context only.
    """

    def __init__(
        self,
        encoder: HiTRS,
        classes: Sequence[str],
        dilate: int,
        tracks: Tracks,
        tables: FrameTables,
        recipe: DetectionRecipe,
        device: torch.device,
        precision: torch.dtype,
        skip_context: bool = False,
    ) -> None:
        """`skip_context`: the clips of context are not computed. Batches then have any number of clips, and counting
        them waits for the device, so it is for a CPU and models that are not compiled."""
        self.precision, self.skip_context = precision, skip_context
        self.recipe, self.tables, self.origin = recipe, tables, tracks.origin
        self.model = FrameClassifier(encoder, classes, dilate, recipe.dropout).to(device)
        self.windows = encoder.windows(1, dilate)
        # The first frame of a piece has lost its motion.
        self.context = self.windows.pad + (encoder.config.stream == "motion")
        self.longest = recipe.piece + 2 * self.context  # frames of a piece
        self.generator = torch.Generator(device)

    def losses(self, model: Callable[..., Any], batch: Batch, training: bool) -> dict[str, Tensor]:
        device = batch.frames.device
        track = torch.from_numpy(np.pad(batch.sequence, (0, len(batch.lengths) - len(batch.sequence)))).to(device)
        origin = self.origin.index_select(0, track)
        augmentation = self.recipe.augment if training else None
        frames = model_frames(batch, self.model.encoder.config, augmentation, self.generator, origin)
        whole = self.whole(batch)
        with autocast(device, self.precision):
            each = self.of_rows(model, frames, batch, whole).float()
        logits, labels = self.of_frames(each, batch, whole)
        counted = (labels != NO_LABEL).sum().clamp(min=1)
        smoothing = self.recipe.label_smoothing if training else 0.0
        total = fn.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum", label_smoothing=smoothing)
        return {"loss": total / counted, "frame_acc": (logits.argmax(-1) == labels).sum() / counted}

    def of_rows(self, model: Callable[..., Any], frames: Tensor, batch: Batch, whole: Tensor) -> Tensor:
        """Scores of bodies' frames `[F, K]`; those that are not `whole` `[F]` count for nothing and may be zeros."""
        if not self.skip_context:
            return model(frames, batch.lengths)
        rows = whole.nonzero()[:, 0]
        each = model(frames, batch.lengths, rows)
        return each.new_zeros(len(frames), each.shape[1]).index_copy(0, rows, each)

    def of_frames(self, each: Tensor, batch: Batch, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of bodies' frames `[F, K]` to those of frames `[N * longest, K]`, and the labels of these.

        Only `whole` `[F]` rows have a label.

        The classifier is affine, so the mean of the bodies' scores is the score of their mean embedding.
        """
        rows, slots = batch.rows, batch.room * self.longest
        number = self.tables.number.index_select(0, batch.source)
        # A piece is no longer than `longest`, so the remainders of its frames differ.
        slot = batch.owner.index_select(0, rows.sequence) * self.longest + number % self.longest
        slot = torch.where(rows.valid, slot, slots)
        total = each.new_zeros(slots + 1, each.shape[1]).index_add(0, slot, each)
        bodies = each.new_zeros(slots + 1).index_add(0, slot, torch.ones_like(each[:, 0]))
        label = torch.where(whole, self.tables.label.index_select(0, batch.source), NO_LABEL)
        empty = label.new_full((slots + 1,), NO_LABEL)
        labels = empty.scatter_reduce(0, slot, label, "amin", include_self=False)
        return (total / bodies.clamp(min=1)[:, None])[:-1], labels[:-1]

    def whole(self, batch: Batch) -> Tensor:
        """Which rows `[F]` have the window that they have in the whole track."""
        position = batch.rows.position
        left = batch.lengths.index_select(0, batch.rows.sequence) - 1 - position
        before, after = (table.index_select(0, batch.source) for table in (self.tables.before, self.tables.after))
        begins = (position >= self.context) | (position == before)
        return batch.rows.valid & begins & ((left >= self.context) | (left == after))
