"""What recognition trains: its presets, and the task that turns batches of samples into a loss.

Shape legend: M samples of the store, N samples of a batch, B sequences, F frames, J joints, C coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from hitrs_fast import HiTRS, Recognizer

from .data.augment import AugmentConfig, rotations, transformed
from .data.loader import Batch, Loader
from .data.pipeline import model_frames
from .optim import OptimConfig
from .precision import autocast

NO_LABEL = -100  # rows of padding, which the loss leaves out


@dataclass(frozen=True)
class RecognitionRecipe:
    augment: AugmentConfig
    optim: OptimConfig
    batch_size: int
    """Samples, each with all its bodies."""
    accumulate: int
    epochs: float
    warmup: float
    """Part of the schedule."""
    bodies: int | None
    """What the sum over bodies is divided by; None: the number of bodies that are there."""
    label_smoothing: float = 0.0
    least_steps: int = 0
    """With few labels, more epochs are taken than `epochs`, up to so many steps."""
    turns: int = 1
    """Times that a frozen encoder reads each training sample, turned about the vertical at random (1: as it is)."""
    views: int = 1
    """Turns about the vertical that a sample is tested in, whose probabilities are averaged."""


def recognition_recipe(preset: str, pretrained: bool) -> RecognitionRecipe:
    """The paper's and the authors' schedules (the paper's supplement; the authors' published settings).

    `paper` halves the rate at epochs 20, 25 and 30 of 50, or from scratch at 40, 50 and 60 of 70. `authors` keeps
    their epoch 50 of a schedule of 70. The paper says nothing of augmentation here, so `paper` has none.
    """
    if preset == "paper":
        marks, epochs = ((20, 25, 30), 50) if pretrained else ((40, 50, 60), 70)
        optim = OptimConfig(4e-4, milestones=halvings(marks, epochs), clip_norm=None)
        return RecognitionRecipe(AugmentConfig(probability=0.0), optim, 128, 1, epochs, 0.0, None)
    if preset == "authors":
        if pretrained:
            epochs, milestones = 50, halvings((20, 30, 40), 50)
        else:
            epochs, milestones = 70, (*halvings((30, 40, 50), 70), (55 / 70, 0.0125))
        optim = OptimConfig(4e-4, milestones=milestones)
        return RecognitionRecipe(AugmentConfig.preset("authors"), optim, 32, 4, epochs, 0.0, 2)
    return RecognitionRecipe(
        AugmentConfig.preset("small"), OptimConfig(1e-3), 32, 1, 30, 0.1, None, least_steps=300, turns=4
    )


def halvings(epochs: tuple[int, ...], of: int) -> tuple[tuple[float, float], ...]:
    return tuple((epoch / of, 0.5 ** (number + 1)) for number, epoch in enumerate(epochs))


class RecognitionTask:
    """Batches of whole samples to cross-entropy and top-1 accuracy. `labels` `[M]`: the store's."""

    def __init__(
        self,
        encoder: HiTRS,
        classes: Sequence[str],
        labels: np.ndarray,
        recipe: RecognitionRecipe,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.recipe, self.precision = recipe, precision
        self.labels = labels
        self.model = Recognizer(encoder, classes, recipe.bodies).to(device)
        self.generator = torch.Generator(device)

    def losses(self, model: Callable[..., Any], batch: Batch, training: bool) -> dict[str, Tensor]:
        recipe = self.recipe
        augmentation = recipe.augment if training else None
        frames = model_frames(batch, self.model.encoder.config, augmentation, self.generator)
        padded = np.full(batch.room, NO_LABEL)
        padded[: len(batch.item)] = self.labels[batch.item]
        labels = torch.from_numpy(padded).to(frames.device, non_blocking=True)
        logits = logits_of(model, frames, batch, self.precision)
        smoothing = recipe.label_smoothing if training else 0.0
        each = fn.cross_entropy(
            logits, labels, ignore_index=NO_LABEL, label_smoothing=smoothing, reduction="none"
        )  # fmt: skip
        count = max(batch.everywhere.items, 1)  # of all ranks, whose losses and metrics add up
        return {"loss": each.sum() / count, "top1": (logits.argmax(-1) == labels).sum() / count}


def logits_of(model: Callable[..., Any], frames: Tensor, batch: Batch, precision: torch.dtype) -> Tensor:
    """`[N, classes]` float32."""
    with autocast(frames.device, precision):
        return model(frames, batch.lengths, batch.owner, batch.room, batch.capacity).float()


@torch.no_grad()
def predict(
    task: RecognitionTask, loader: Loader, augment: AugmentConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The samples `[N]` of an evaluation loader in its order, and their logits `[N, classes]` float32.

    With several views, the logarithm of their mean probability, which has the same softmax.
    """
    task.model.eval()
    plan, samples, scores = loader.plan(0), [], []
    for index in range(len(plan)):
        batch = loader.batch(plan, index)
        frames = model_frames(batch, task.model.encoder.config, augment, task.generator)
        scores.append(view_scores(task, frames, batch)[: len(batch.item)].cpu().numpy())
        samples.append(batch.item)
    return np.concatenate(samples), np.concatenate(scores)


def view_scores(task: RecognitionTask, frames: Tensor, batch: Batch) -> Tensor:
    """`[N, classes]`: logits, or of several turns about the vertical, evenly spread within the training's rotation."""
    views = task.recipe.views
    if views == 1:
        return logits_of(task.model, frames, batch, task.precision)
    turns = torch.linspace(-task.recipe.augment.rotation, task.recipe.augment.rotation, views, device=frames.device)
    turned = (transformed(frames, rotations(turn[None]).expand(len(frames), 3, 3)) for turn in turns)
    each = [logits_of(task.model, view, batch, task.precision) for view in turned]
    return torch.stack(each).log_softmax(-1).logsumexp(0) - math.log(views)
