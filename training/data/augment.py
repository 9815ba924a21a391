"""Augmentation of ragged batches on their device (the paper's section 4.1; the authors' ranges).

An augmented sequence gets one spatial operation (scale, noise or shear) and then one temporal one (interpolation or a
crop). Crops set the lengths, so the loader draws them, and tells here which sequences are augmented and which
interpolated.

Shape legend: F frames (capacity), J joints, C coordinates, B sequences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hitrs_fast.config import PRESETS
from hitrs_fast.ragged import Rows

OPERATIONS = ("scale", "noise", "shear")
SCALE = 0.2  # factors from 0.8 to 1.2
SHEAR = 0.5  # off-diagonal entries from -0.5 to 0.5
NOISE = 0.2  # offsets from -0.2 to 0.2 metres
NOISE_JOINTS = 5


@dataclass(frozen=True)
class AugmentConfig:
    """The defaults are the authors'."""

    probability: float = 0.5
    """That a sequence is augmented."""
    operations: tuple[str, ...] = OPERATIONS
    """Spatial operations, of which an augmented sequence gets one."""
    noise_per_frame: bool = False
    """Whether noise draws new joints and offsets in every frame (the paper) or once for the sequence."""
    rotation: float = 0.0
    """Every sequence is turned about the vertical by up to so many degrees either way."""

    @classmethod
    def preset(cls, name: str) -> AugmentConfig:
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        if name == "paper":
            return cls(probability=1.0, operations=("noise", "shear"), noise_per_frame=True)
        return cls(rotation=90.0 if name == "small" else 0.0)


def augment(
    frames: Tensor,
    present: Tensor,
    rows: Rows,
    augmented: Tensor,
    interpolated: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """frames `[F, J, C]` to the same shape; `augmented` and `interpolated` `[B]` bool.

    `present` `[F, J]` bool: joints that are missing (zeros) stay so under the spatial operations. Interpolation takes
    them as points like any other, as the authors do.
    """
    operation = torch.randint(len(config.operations), augmented.shape, generator=generator, device=frames.device)
    chosen = {name: augmented & (operation == i) for i, name in enumerate(config.operations)}
    matrix = _matrices(chosen, config, frames, generator)
    frames = frames @ matrix.index_select(0, rows.sequence)
    if "noise" in chosen:
        noise = _noise(frames, rows, len(augmented), config, generator)
        frames = torch.where(chosen["noise"].index_select(0, rows.sequence)[:, None, None], frames + noise, frames)
    frames = torch.where(present[..., None], frames, 0)
    return _interpolate(frames, rows, augmented & interpolated, generator)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in -1 .. 1."""
    return 2 * torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype) - 1


def _matrices(chosen: dict[str, Tensor], config: AugmentConfig, frames: Tensor, generator: torch.Generator) -> Tensor:
    """The linear part, `[B, C, C]`, to be multiplied from the right: rotation, then scale or shear."""
    batch, size = len(next(iter(chosen.values()))), frames.shape[-1]
    identity = torch.eye(size, device=frames.device, dtype=frames.dtype)
    matrix = identity.expand(batch, -1, -1)
    if config.rotation and size == 3:
        matrix = _rotations(config.rotation * _uniform((batch,), frames, generator))
    if "scale" in chosen:
        factor = 1 + SCALE * _uniform((batch, 1, 1), frames, generator)
        matrix = torch.where(chosen["scale"][:, None, None], matrix * factor, matrix)
    if "shear" in chosen:
        shear = torch.where(identity > 0, identity, SHEAR * _uniform((batch, size, size), frames, generator))
        matrix = torch.where(chosen["shear"][:, None, None], matrix @ shear.mT, matrix)
    return matrix


def _rotations(degrees: Tensor) -> Tensor:
    """Rotations about the vertical (the second coordinate), `[B, 3, 3]`."""
    angle = degrees * (math.pi / 180)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1).view(-1, 3, 3)


def _noise(frames: Tensor, rows: Rows, batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Offsets `[F, J, C]` of some joints, zero for the others."""
    joints, size = frames.shape[1:]
    draws = frames.shape[0] if config.noise_per_frame else batch
    score = torch.rand((draws, joints), generator=generator, device=frames.device)
    picked = torch.zeros_like(score, dtype=torch.bool)
    picked.scatter_(1, score.topk(min(NOISE_JOINTS, joints)).indices, True)
    noise = torch.where(picked[..., None], NOISE * _uniform((draws, joints, size), frames, generator), 0)
    return noise if config.noise_per_frame else noise.index_select(0, rows.sequence)


def _interpolate(frames: Tensor, rows: Rows, interpolated: Tensor, generator: torch.Generator) -> Tensor:
    """y[t] = x[t] + r (x[t+1] - x[t]) with one r for a sequence; its last frame stays."""
    ratio = torch.rand(interpolated.shape, generator=generator, device=frames.device, dtype=frames.dtype)
    ratio = torch.where(interpolated, ratio, 0).index_select(0, rows.sequence)
    followed = torch.cat([rows.valid[1:], rows.valid.new_zeros(1)])  # padding bears the last sequence's number
    last = (rows.sequence != rows.sequence.roll(-1)) | ~followed
    ratio = torch.where(last | ~rows.valid, 0, ratio)[:, None, None]
    return frames + ratio * (frames.roll(-1, 0) - frames)
