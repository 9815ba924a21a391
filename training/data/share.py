"""What one of several processes has of a batch, so that it draws the numbers of a process that has all of it.

Every rank draws for the whole batch and keeps what belongs to its own sequences. The numbers that a sequence meets then
depend neither on how many ranks there are nor on how much room each of them has.

Shape legend: B sequences and F frames of this rank's part (capacities); N items of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hitrs_fast.ragged import Rows


class Share(NamedTuple):
    """Where a rank's part lies in the whole batch."""

    sequences: int  # of the whole batch, empty ones included
    frames: int  # rows of the whole batch, padding included
    sequence: Tensor  # [B] int64 number in the whole batch; 0 for empty ones
    row: Tensor  # [F] int64 row in the whole batch; 0 for rows of padding
    own: Tensor  # [frames] int64 row in the part of each of the whole batch's rows; F for those of other ranks


def share_of(sequences: int, frames: int, sequence: Tensor, first: Tensor, rows: Rows) -> Share:
    """`sequence` and `first` `[B]`: number and first row in the whole batch; `rows` are the part's."""
    row = first.index_select(0, rows.sequence) + rows.position
    own = torch.full((frames + 1,), len(row), device=row.device)
    own.index_copy_(0, torch.where(rows.valid, row, frames), torch.arange(len(row), device=row.device))
    return Share(sequences, frames, sequence, torch.where(rows.valid, row, 0), own[:-1])


def for_sequences(draw: Callable[[int], Tensor], count: int, share: Share | None) -> Tensor:
    """`draw(n)` gives `[n, ...]`, numbers for n sequences; those of this rank's `count`."""
    return draw(count) if share is None else draw(share.sequences).index_select(0, share.sequence)


def dealt(length: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """The numbers, ascending, of those of N items `[N]` that a rank gets: as many frames for each as whole items allow.

    The items are dealt by length, longest first, there and back. No rank then has more than the longest item above
    the mean, nor above the mean number of clips, which grows with the length.
    """
    turn, place = np.divmod(np.arange(len(length)), ranks)
    to = np.where(turn % 2, ranks - 1 - place, place)
    return np.sort(np.argsort(-length, kind="stable")[to == rank])
