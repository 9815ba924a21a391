"""What motion prediction trains: its presets, and the task that turns windows of poses into a loss.

Shape legend: W windows of a batch, n observed poses, T predicted ones, J joints, C coordinates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import HiTRS, MotionPredictor, TrajectoryPredictor
from hitrs_fast.skeleton import is_present

from .data.augment import AugmentConfig, rotations, transformed
from .data.loader import Batch, Loader
from .optim import OptimConfig
from .precision import autocast
from .recognition import halvings

Decoder = Literal["gru", "direct"]
Loss = Literal["mse", "l2"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionRecipe:
    optim: OptimConfig
    batch_size: int
    """Windows."""
    epochs: float
    warmup: float
    """Part of the schedule."""
    decoder: Decoder
    loss: Loss
    dropout: float
    """Of the decoder."""
    rotation: float = 0.0
    """Windows are turned about the vertical by up to so many degrees either way in training."""
    least_steps: int = 0
    """With few windows, more epochs are taken than `epochs`, up to so many steps."""
    detach: bool = True
    """Whether the GRU's poses are fed back without gradient."""
    relative: bool = False
    """Whether poses are predicted relative to each frame's own hip, instead of where they are in space."""

    @property
    def augment(self) -> AugmentConfig:
        """Order and place of training windows are random; crops would take away what is to be predicted."""
        return AugmentConfig(probability=0.0, rotation=self.rotation)


def prediction_recipe(preset: str) -> PredictionRecipe:
    """`paper`: Adam 1e-4, halved at epoch 20 of 25, batch 128, dropout 0.5, mean squared error (its supplement).

    The authors have published no prediction; `authors` clips gradients as their recognition does. `small` takes what
    did best on held-out training sequences (docs/prediction.md).
    """
    if preset == "small":
        return PredictionRecipe(OptimConfig(1e-3), 32, 15, 0.1, "direct", "l2", 0.2, rotation=180.0, least_steps=300)
    clip = None if preset == "paper" else 1.0
    optim = OptimConfig(1e-4, milestones=halvings((20,), 25), clip_norm=clip)
    return PredictionRecipe(optim, 128, 25, 0.0, "gru", "mse", 0.5)


class Windows(NamedTuple):
    """Poses in metres, about the last observed hip, or with `relative` about each frame's own."""

    observed: Tensor  # [W, n, J, C] as the store has them, turned in training
    recent: Tensor  # [W, n, J, C]
    truth: Tensor  # [W, T, J, C]
    there: Tensor  # [W, n + T, J] bool: joints that are not missing
    counted: Tensor  # [W, T, J] bool: those of them that were there in the last two observed frames too


class PredictionTask:
    """Windows of `observed` + `steps` frames, one after another in a batch, to a loss and the error in mm."""

    def __init__(
        self,
        encoder: HiTRS,
        observed: int,
        steps: int,
        recipe: PredictionRecipe,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.observed, self.steps, self.recipe, self.precision = observed, steps, recipe, precision
        self.model: MotionPredictor | TrajectoryPredictor
        if recipe.decoder == "gru":
            self.model = MotionPredictor(encoder, dropout=recipe.dropout, detach=recipe.detach)
        else:
            self.model = TrajectoryPredictor(encoder, steps, dropout=recipe.dropout, recent=min(10, observed))
        self.model.to(device)
        self.generator = torch.Generator(device)

    def losses(self, model: Callable[..., Any], batch: Batch, training: bool) -> dict[str, Tensor]:
        windows = self.windows(batch, training)
        error = (self.predict(windows) - windows.truth) * windows.counted[..., None]
        count = windows.counted.sum().clamp(min=1)
        distance = (error.square().sum(-1) + 1e-12).sqrt() * windows.counted
        mean = distance.sum() / count
        squared = error.square().sum() / (count * error.shape[-1])
        return {"loss": mean if self.recipe.loss == "l2" else squared, "mpjpe_mm": 1000 * mean.detach()}

    def windows(self, batch: Batch, training: bool) -> Windows:
        count, length = len(batch.sequence), self.observed + self.steps
        poses = batch.frames[: count * length]
        if training and self.recipe.rotation and poses.shape[-1] == 3:
            turn = 2 * torch.rand(count, generator=self.generator, device=poses.device) - 1
            matrix = rotations(self.recipe.rotation * turn).repeat_interleave(length, 0)
            poses = transformed(poses, matrix)
        poses = poses.unflatten(0, (count, length))
        there = is_present(poses)
        hip = self.model.encoder.config.layout.hip
        origin = poses[:, :, hip, None] if self.recipe.relative else poses[:, self.observed - 1, hip, None, None]
        if self.recipe.relative:
            there = there & there[:, :, hip, None]
        about = (poses - origin) * there[..., None]
        # Constant velocity goes on from the last two frames: a joint that is missing in one of them has none.
        before = there[:, self.observed - 2 : self.observed].all(1, keepdim=True)
        seen, coming = slice(None, self.observed), slice(self.observed, None)
        return Windows(poses[:, seen], about[:, seen], about[:, coming], there, there[:, coming] & before)

    def predict(self, windows: Windows) -> Tensor:
        """The poses `[W, T, J, C]` that follow, float32, in the coordinates of `windows.truth`."""
        encoder = self.model.encoder
        frames = windows.observed.flatten(0, 1)
        lengths = torch.full((len(windows.observed),), self.observed, device=frames.device)
        with autocast(frames.device, self.precision):
            video = encoder(encoder.prepare(frames, lengths), lengths).video
            if isinstance(self.model, TrajectoryPredictor):
                poses = self.model.decode(video, windows.recent[:, -self.model.recent :])
            else:
                poses = self.model.decode(video, windows.recent[:, -1], self.steps)
        return poses.float()


class Predictions(NamedTuple):
    sequence: np.ndarray  # [W] number in the store
    first: np.ndarray  # [W] its first frame in the store
    observed: np.ndarray  # [W, n, J, C] about the same origin as the rest
    predicted: np.ndarray  # [W, T, J, C]
    truth: np.ndarray  # [W, T, J, C]
    there: np.ndarray  # [W, n + T, J] bool
    counted: np.ndarray  # [W, T, J] bool


@torch.no_grad()
def predict_all(task: PredictionTask, loader: Loader) -> Predictions:
    """The windows of an evaluation loader in its order; those with no joint to be counted are left out."""
    task.model.eval()
    plan, parts = loader.plan(0), []
    for index in range(len(plan)):
        batch = loader.batch(plan, index)
        windows = task.windows(batch, False)
        first = batch.source[:: task.observed + task.steps][: len(batch.sequence)]
        predicted = task.predict(windows)
        tensors = (first, windows.recent, predicted, windows.truth, windows.there, windows.counted)
        parts.append([batch.sequence, *(part.cpu().numpy() for part in tensors)])
    found = Predictions(*map(np.concatenate, zip(*parts, strict=True)))
    usable = np.any(found.counted, axis=(1, 2))
    if not usable.all():
        log.info("%d of %d test windows have no joint to be counted and are left out", (~usable).sum(), len(usable))
    return Predictions(*(column[usable] for column in found))
