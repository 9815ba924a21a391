"""What of a zero-padded batch is worth encoding: each frame that is not zero, each clip that holds one.

Shape legend: R rows, one for each frame of each body, padding too; J joints, C coordinates; S sequences (a body of a
sample each); K clips of all sequences one after another; w frames of a clip; F and P, the frames and clips encoded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sizes(NamedTuple):
    """Room for what of a batch is encoded; both at least 1."""

    frames: int
    """Frames that are not zero, all bodies together."""
    clips: int
    """Clips with such a frame."""


class Padded(NamedTuple):
    """A padded batch, its clips one after another."""

    rows: Tensor  # [R, J, C]
    present: Tensor  # [R] bool: rows that are not zero
    windows: Tensor  # [K, w] rows of each clip; R is a zero frame
    counts: Tensor  # [S] clips of each sequence
    longest: int  # clips of the longest sequence, or more
    bodies: Tensor  # [S] bool: sequences with a row that is not zero


class Plan(NamedTuple):
    """What of a batch is encoded, F frames and P clips, and where the rest finds its values."""

    frames: Tensor  # [F, J, C]
    token: Tensor  # [R + 1]: which of the F frames each row is; F is the zero frame
    clips: Tensor  # [P + 1, w] of these, the last one all zero frames
    clip: Tensor  # [K]: which of the P clips each clip is; P is the zero clip


def plan_of(batch: Padded, sizes: Sizes | None, valid: Tensor) -> Plan:
    """Frames and clips without repetitions. With `sizes`, the frames are NaN if these or `valid` do not hold."""
    rows, token = _kept(batch.present, sizes and sizes.frames)
    zero = len(rows)
    token = torch.cat([token, token.new_full((1,), zero)])
    index = token.index_select(0, batch.windows.flatten()).view(batch.windows.shape)
    moving = (index < zero).any(1)
    clips, clip = _kept(moving, sizes and sizes.clips)
    frames = batch.rows.index_select(0, rows)
    if sizes is not None:
        fits = valid & (batch.present.sum() <= sizes.frames) & (moving.sum() <= sizes.clips)
        frames = frames * torch.where(fits, 1.0, torch.nan).to(frames.dtype)
    index = torch.cat([index.index_select(0, clips), index.new_full((1, index.shape[1]), zero)])
    return Plan(frames, token, index, clip)


def _kept(mask: Tensor, size: int | None) -> tuple[Tensor, Tensor]:
    """Places of the true elements of `mask` `[L]`, `size` of them if given, and for each element its number among them.

    Elements that are false have the number after the last. A `size` that is too large is filled with places that mean
    nothing; beyond one that is too small, elements have the last number.
    """
    order = mask.cumsum(0)
    if size is None:
        places = mask.nonzero()[:, 0]
    else:
        wanted = torch.arange(1, size + 1, device=mask.device)
        places = torch.searchsorted(order, wanted).clamp(max=len(mask) - 1)
    last = len(places) - 1
    return places, torch.where(mask, (order - 1).clamp(max=last), last + 1)


def extent_of(counts: Tensor, most: int, sizes: Sizes | None) -> tuple[int, int]:
    """Clips `counts` `[S]` in all and of the longest sequence; with `sizes`, the bounds if each has `most`."""
    if sizes is not None:
        return len(counts) * most, most
    return int(counts.sum()), max(int(counts.max()), 1)


def require(condition: Tensor, sizes: Sizes | None, message: str) -> None:
    if sizes is None and not condition:
        raise ValueError(message)


def checked(sizes: Sizes | None) -> Sizes | None:
    if sizes is not None and min(sizes) < 1:
        raise ValueError(f"sizes are {tuple(sizes)}; there must be room for a frame and for a clip")
    return sizes
