"""Sliding-window clips over ragged sequences (the paper's section 3.1; the authors' window rule).

A sequence of T frames is padded by (window // 2) * dilate zero frames at both ends. Clip k starts at padded frame
k * stride and takes every `dilate`-th frame. Clips end once the last real frame is covered and the next clip would
run past the padded end; an index past it repeats the last padded frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .ragged import offsets_of, rows_of


class Windows(NamedTuple):
    """How clips are cut: frames of a clip, frames between clips, frames between a clip's frames."""

    window: int
    stride: int
    dilate: int

    @property
    def pad(self) -> int:
        """Zero frames added at each end."""
        return (self.window // 2) * self.dilate


def clip_counts(lengths: Tensor, windows: Windows) -> Tensor:
    """Clips of sequences of `lengths` `[B]` frames: ceil(T / stride) for the usual windows, 0 for an empty one."""
    within, covering = _needed(lengths, windows)
    return torch.where(lengths > 0, torch.maximum(within, covering).clamp(min=1), 0)


def clip_count(frames: int, windows: Windows) -> int:
    """`clip_counts` of one sequence, on the host; `frames` may be a number that `torch.export` has left open."""
    within, covering = _needed(frames, windows)
    return torch.sym_max(torch.sym_max(within, covering), 1) if frames > 0 else 0


def _needed(lengths: Any, windows: Windows) -> tuple[Any, Any]:
    """Of a length or of each: the clips that need no filling, and the clips that it takes to see the last frame."""
    window, stride, dilate = windows
    reach = (window - 1) * dilate
    within = (lengths + 2 * windows.pad - 1 - reach) // stride + 1
    covering = -(-(lengths + windows.pad - 1 - reach) // stride) + 1
    return within, covering


def clip_frames(lengths: Tensor, windows: Windows, capacity: int, zero_row: int) -> Tensor:
    """The frames of every clip of a ragged batch, `[capacity, window]` int64.

    Clips of one sequence follow each other; indices are rows of the ragged frames, or `zero_row` for zero frames and
    for clips past the last one.
    """
    counts = clip_counts(lengths, windows)
    clip = rows_of(counts, capacity)
    index = padded_window(clip.position * windows.stride, windows)
    return window_rows(index, clip.sequence, clip.valid, lengths, windows, zero_row)


def padded_window(start: Tensor, windows: Windows) -> Tensor:
    """Padded frame numbers `[N, window]` of windows that begin at padded frames `start` `[N]`."""
    return start[:, None] + windows.dilate * torch.arange(windows.window, device=start.device)


def window_rows(
    index: Tensor, sequence: Tensor, valid: Tensor, lengths: Tensor, windows: Windows, zero_row: int | Tensor
) -> Tensor:
    """Padded frame numbers `[N, window]` within `sequence` `[N]` to rows of the ragged frames, or `zero_row`."""
    frames = lengths.index_select(0, sequence)[:, None]
    frame = torch.minimum(index, frames + 2 * windows.pad - 1) - windows.pad
    real = (frame >= 0) & (frame < frames) & valid[:, None]
    first = offsets_of(lengths).index_select(0, sequence)[:, None]
    return torch.where(real, first + frame, zero_row)


def longest_within(clips: int, windows: Windows) -> int:
    """Frames of the longest sequence that has no more than so many clips."""
    frames = clips * windows.stride
    while frames > 1 and clip_count(frames, windows) > clips:
        frames -= 1
    return frames
