"""Augmentation of ragged batches on their device (the paper's supplement, section 1; the authors' ranges).

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
from hitrs_fast.skeleton import SkeletonLayout, is_present

from .share import Share, for_sequences

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
    mirror: bool = False
    """Whether half of the sequences are mirrored; none of a layout whose joints' names do not tell both sides."""

    @classmethod
    def preset(cls, name: str) -> AugmentConfig:
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        if name == "paper":
            return cls(probability=1.0, operations=("noise", "shear"), noise_per_frame=True)
        return cls(rotation=90.0 if name == "small" else 0.0)


def augment(
    frames: Tensor,
    raw: Tensor,
    rows: Rows,
    augmented: Tensor,
    interpolated: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    share: Share | None = None,
) -> Tensor:
    """frames `[F, J, C]` to the same shape; `augmented` and `interpolated` `[B]` bool.

    `raw` `[F, J, C]`, the coordinates before centring: joints that are missing there (zeros) stay so under the spatial
    operations. Interpolation takes them as points like any other, as the authors do. `share`: see `share.py`.
    """
    operation = for_sequences(
        lambda n: torch.randint(len(config.operations), (n,), generator=generator, device=frames.device),
        len(augmented),
        share,
    )
    chosen = {name: augmented & (operation == i) for i, name in enumerate(config.operations)}
    frames = transformed(frames, _matrices(chosen, config, frames, generator, share).index_select(0, rows.sequence))
    if "noise" in chosen:
        frames = _add_noise(frames, raw, rows, chosen["noise"], config, generator, share)
    return _interpolate(frames, rows, augmented & interpolated, generator, share)


def mirrored(
    frames: Tensor, rows: Rows, sequences: int, layout: SkeletonLayout, generator: torch.Generator, share: Share | None
) -> Tensor:
    """frames `[F, J, C]`, half of the sequences as in a mirror; ValueError unless the layout is `two_sided`."""
    chosen = for_sequences(lambda n: torch.rand(n, generator=generator, device=frames.device) < 0.5, sequences, share)
    image = frames.index_select(1, torch.tensor(layout.mirror).to(frames.device, non_blocking=True))
    image[..., 0].neg_()
    return torch.where(chosen.index_select(0, rows.sequence)[:, None, None], image, frames)


def transformed(frames: Tensor, matrix: Tensor) -> Tensor:
    """`frames @ matrix`, `[F, J, C]` and `[F, C, C]`; for matrices so small twice as fast by columns on a CPU."""
    out = torch.empty_like(frames)
    for column, target in enumerate(out.unbind(-1)):
        torch.mul(frames[..., 0], matrix[:, 0, column, None], out=target)
        for row in range(1, frames.shape[-1]):
            target.addcmul_(frames[..., row], matrix[:, row, column, None])
    return out


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in -1 .. 1."""
    return 2 * torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype) - 1


def _matrices(
    chosen: dict[str, Tensor], config: AugmentConfig, frames: Tensor, generator: torch.Generator, share: Share | None
) -> Tensor:
    """The linear part, `[B, C, C]`, to be multiplied from the right: rotation, then scale or shear."""
    batch, size = len(next(iter(chosen.values()))), frames.shape[-1]
    identity = torch.eye(size, device=frames.device, dtype=frames.dtype)
    matrix = identity.expand(batch, -1, -1)

    def uniform(*shape: int) -> Tensor:
        return for_sequences(lambda n: _uniform((n, *shape), frames, generator), batch, share)

    if config.rotation and size == 3:
        matrix = rotations(config.rotation * uniform())
    if "scale" in chosen:
        factor = 1 + SCALE * uniform(1, 1)
        matrix = torch.where(chosen["scale"][:, None, None], matrix * factor, matrix)
    if "shear" in chosen:
        shear = torch.where(identity > 0, identity, SHEAR * uniform(size, size))
        matrix = torch.where(chosen["shear"][:, None, None], matrix @ shear.mT, matrix)
    return matrix


def rotations(degrees: Tensor) -> Tensor:
    """Rotations about the vertical (the second coordinate), `[B, 3, 3]`."""
    angle = degrees * (math.pi / 180)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1).view(-1, 3, 3)


def _add_noise(
    frames: Tensor,
    raw: Tensor,
    rows: Rows,
    noisy: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    share: Share | None,
) -> Tensor:
    """Adds offsets, in place, to NOISE_JOINTS joints of each of the `noisy` `[B]` sequences."""
    count, joints, size = frames.shape
    draws, each = (count, None) if config.noise_per_frame else (len(noisy), rows.sequence)
    if share is not None:
        draws = share.frames if config.noise_per_frame else share.sequences
        each = share.row if config.noise_per_frame else share.sequence.index_select(0, rows.sequence)
    joint = subsets(draws, joints, min(NOISE_JOINTS, joints), frames, generator)
    offset = NOISE * _uniform((*joint.shape, size), frames, generator)
    if each is not None:
        joint, offset = joint.index_select(0, each), offset.index_select(0, each)
    place = (torch.arange(count, device=frames.device)[:, None] * joints + joint).flatten()
    present = is_present(raw.flatten(0, 1).index_select(0, place)).view_as(joint)
    moved = present & noisy.index_select(0, rows.sequence)[:, None]
    offset = torch.where(moved[..., None], offset, 0)
    frames.view(-1, size).index_add_(0, place, offset.view(-1, size))
    return frames


def subsets(draws: int, items: int, size: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random subsets of `size` of the numbers below `items`, `[draws, size]` (Floyd's algorithm, CACM 30, 1987)."""
    draw = torch.rand((size, draws), generator=generator, device=like.device)
    picked: list[Tensor] = []
    for number, last in enumerate(range(items - size, items)):
        new = (draw[number] * (last + 1)).long().clamp(max=last)
        taken = torch.zeros_like(new, dtype=torch.bool)
        for earlier in picked:
            taken |= new == earlier
        picked.append(torch.where(taken, last, new))
    return torch.stack(picked, 1)


def _interpolate(
    frames: Tensor, rows: Rows, interpolated: Tensor, generator: torch.Generator, share: Share | None
) -> Tensor:
    """y[t] = x[t] + r (x[t+1] - x[t]) with one r for a sequence; its last frame stays."""
    ratio = for_sequences(
        lambda n: torch.rand(n, generator=generator, device=frames.device, dtype=frames.dtype),
        len(interpolated),
        share,
    )
    ratio = torch.where(interpolated, ratio, 0).index_select(0, rows.sequence)
    followed = (rows.sequence[1:] == rows.sequence[:-1]) & rows.valid[1:]  # padding bears the last sequence's number
    ratio = torch.where(followed, ratio[:-1], 0)[:, None, None]
    out = torch.empty_like(frames)
    torch.lerp(frames[:-1], frames[1:], ratio, out=out[:-1])
    out[-1] = frames[-1]
    return out
