"""Index arithmetic for sequences that lie one after another in one tensor, without padding between them.

A ragged batch is `frames` `[F, ...]` with `lengths` `[B]`: sequence b owns rows `offsets[b] : offsets[b + 1]`. Rows
past the last sequence are padding to a fixed capacity; a sequence may be empty. Nothing here reads a tensor's values
on the host, so nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """For each of the capacity's rows R."""

    sequence: Tensor  # [R] int64: the sequence it belongs to; the last one for rows of padding
    position: Tensor  # [R] int64: its place within the sequence; beyond the length for rows of padding
    valid: Tensor  # [R] bool: false for rows of padding


def offsets_of(lengths: Tensor) -> Tensor:
    """Lengths `[B]` to offsets `[B + 1]`, int64, the first 0."""
    return torch.nn.functional.pad(lengths.long().cumsum(0), (1, 0))


def rows_of(lengths: Tensor, capacity: int) -> Rows:
    """Which sequence, and which place in it, each of `capacity` rows has. Needs `sum(lengths) <= capacity`."""
    offsets = offsets_of(lengths)
    row = torch.arange(capacity, device=lengths.device)
    sequence = torch.searchsorted(offsets[1:], row, right=True)
    valid = sequence < lengths.shape[0]
    sequence = sequence.clamp(max=lengths.shape[0] - 1)
    return Rows(sequence, row - offsets.index_select(0, sequence), valid)


class Slots(NamedTuple):
    """Where packed rows lie in a padded `[B, L + 1]` grid whose last column is each sequence's CLS."""

    row: Tensor  # [B * (L + 1)] int64: packed row of each slot; CLS rows follow the R clip rows
    slot: Tensor  # [R + B] int64: slot of each packed row
    visible: Tensor  # [B, L + 1] bool
    position: Tensor  # [R] int64: place of each clip row in its sequence, within 0 .. L - 1


def slots_of(starts: Tensor, counts: Tensor, rows: int, longest: int) -> Slots:
    """Slots for sequences of `counts` `[B]` rows beginning at `starts` `[B]` (ascending) among `rows` packed rows."""
    batch = starts.shape[0]
    column = torch.arange(longest, device=starts.device)
    inside = column < counts[:, None]
    cls_row = rows + torch.arange(batch, device=starts.device)
    clip_row = torch.where(inside, starts[:, None] + column, cls_row[:, None])
    row = torch.arange(rows, device=starts.device)
    sequence = (torch.searchsorted(starts, row, right=True) - 1).clamp(min=0)
    position = (row - starts.index_select(0, sequence)).clamp(0, longest - 1)
    width = longest + 1
    return Slots(
        row=torch.cat([clip_row, cls_row[:, None]], 1).flatten(),
        slot=torch.cat([sequence * width + position, torch.arange(batch, device=starts.device) * width + longest]),
        visible=torch.nn.functional.pad(inside, (0, 1), value=True),
        position=position,
    )


def groups_of(sequences: Sequence[Tensor], most: int) -> list[list[int]]:
    """Runs of sequences that hold at most `most` frames together (or one sequence that alone holds more)."""
    groups: list[list[int]] = []
    frames = most
    for i, sequence in enumerate(sequences):
        if frames + len(sequence) > most:
            groups.append([])
            frames = 0
        groups[-1].append(i)
        frames += len(sequence)
    return groups
