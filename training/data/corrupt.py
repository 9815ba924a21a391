"""What the pretext tasks do to a ragged batch: corrupted joints, clips with swapped frames, videos with swapped clips.

All of it is tensor code on the batch's device, drawn from an explicit generator, without a loop over samples, frames
or joints and without waiting for the device. The rules are those of the paper's section 3.2 and of the authors' code,
as `PretextConfig` tells them apart.

Shape legend: F frames (capacity), J joints, C coordinates, B sequences, K clips (capacity), w frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from hitrs_fast import PretextBatch, PretextConfig
from hitrs_fast.clips import Windows, clip_counts, padded_window, window_rows
from hitrs_fast.ragged import Rows, offsets_of, rows_of

from .share import Share, for_sequences

# Of the selected joints, 80 % are filled, 10 % replaced by another joint and 10 % left as they are.
FILLED, REPLACED = 0.8, 0.9


def draw_pretext(
    frames: Tensor,
    lengths: Tensor,
    windows: Windows,
    pretext: PretextConfig,
    clips: int,
    generator: torch.Generator,
    share: Share | None = None,
) -> PretextBatch:
    """frames `[F, J, C]` (clean stream) and lengths `[B]` to a pre-training batch with room for `clips` clips.

    share: where the batch is a rank's part of a larger one, for which the numbers are drawn.
    """
    rows = rows_of(lengths, frames.shape[0])
    corrupted, selected = corrupt_joints(frames, lengths, rows, pretext, generator, share)
    pair, pair_valid = draw_pairs(frames, lengths, rows, windows, pretext, generator, share)
    order = draw_order(clip_counts(lengths, windows), clips, pretext.swap_distance, generator, share)
    return PretextBatch(corrupted, frames, selected, lengths, pair, pair_valid, order)


def below(n: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """One uniform integer in 0 .. n - 1 for each entry of `n` `[N]` (0 where n is 0); with a `share`, a sequence's."""
    draw = for_sequences(lambda count: torch.rand(count, generator=generator, device=n.device), len(n), share)
    return torch.minimum((draw * n).long(), n - 1).clamp(min=0)


def corrupt_joints(
    frames: Tensor,
    lengths: Tensor,
    rows: Rows,
    pretext: PretextConfig,
    generator: torch.Generator,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """frames `[F, J, C]` with joints corrupted, and which were selected, `[F, J]` bool (unchanged ones included).

    Only what is selected is drawn, gathered and written: S places, a fixed number, of which those past the last frame
    and those of other ranks are written to a spare row.
    """
    count, joints, channels = frames.shape
    flat, spare = frames.flatten(0, 1), count * joints
    drawn = count if share is None else share.frames
    place = select(drawn * joints, pretext.mask_ratio, generator, frames.device)
    if share is not None:
        row = pad(share.own, (0, 1), value=count).index_select(0, place // joints)
        place = row * joints + place % joints
    place = torch.where(place < lengths.sum() * joints, place, spare)
    corrupted = torch.cat([flat, flat.new_zeros(1, channels)])
    if pretext.fill == "ones":
        corrupted.index_fill_(0, place, 1.0)
    else:
        corrupted.index_copy_(0, place, _in_box(frames, rows, len(lengths), place, generator))
    rest = torch.cat([place, place.new_full((1,), spare)])  # of which those not filled are given a joint's coordinates
    rest = rest.index_select(0, select(len(place), 1 - FILLED, generator, frames.device))
    other = _other_joint(rest, frames, lengths, rows, pretext, generator)
    replaced = torch.rand(rest.shape, generator=generator, device=frames.device) < (REPLACED - FILLED) / (1 - FILLED)
    source = torch.where(replaced, other, rest.clamp(max=spare - 1))
    corrupted.index_copy_(0, rest, flat.index_select(0, source))
    selected = torch.zeros(spare + 1, dtype=torch.bool, device=frames.device).index_fill_(0, place, True)
    return corrupted[:-1].view_as(frames), selected[:-1].view(count, joints)


def select(count: int, probability: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Of `count` places each with this probability: those selected, ascending, then `count` up to a fixed number.

    The distances between successes of independent trials are geometric: floor(log(u) / log(1 - p)) + 1. The number of
    places allowed for lies eight standard deviations above the mean (exceeded with a chance of 1e-15).
    """
    mean = count * probability
    allowed = min(count, math.ceil(mean + 8 * math.sqrt(mean) + 8))
    draw = torch.rand(allowed, generator=generator, device=device)
    distance = (torch.log1p(-draw) / math.log1p(-probability)).int() + 1
    return (distance.cumsum(0) - 1).clamp(max=count)


def _in_box(frames: Tensor, rows: Rows, sequences: int, place: Tensor, generator: torch.Generator) -> Tensor:
    """Random points `[S, C]` of the bounding boxes of the sequences that the joints at `place` `[S]` belong to."""
    owner = rows.sequence[:, None].expand(-1, frames.shape[-1])
    sequence = rows.sequence.index_select(0, (place // frames.shape[1]).clamp(max=len(frames) - 1))
    box = []
    for extreme, mode, fold in ((math.inf, "amin", torch.minimum), (-math.inf, "amax", torch.maximum)):
        of_frame = torch.where(rows.valid[:, None], _folded(frames, fold), extreme)
        corner = frames.new_full((sequences, frames.shape[-1]), extreme).scatter_reduce_(0, owner, of_frame, mode)
        box.append(corner.index_select(0, sequence))
    low, high = box
    return low + torch.rand(low.shape, generator=generator, device=low.device, dtype=low.dtype) * (high - low)


def _folded(frames: Tensor, fold: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`[F, J, C]` to `[F, C]` by halving; on a CPU faster than a reduction over a middle axis."""
    while (joints := frames.shape[1]) > 1:
        half = joints // 2
        folded = fold(frames[:, :half], frames[:, half : 2 * half])
        if joints % 2:
            folded[:, 0] = fold(folded[:, 0], frames[:, -1])
        frames = folded
    return frames[:, 0]


def _other_joint(
    place: Tensor,
    frames: Tensor,
    lengths: Tensor,
    rows: Rows,
    pretext: PretextConfig,
    generator: torch.Generator,
) -> Tensor:
    """For each joint `[S]` the place of one of another index, from another (or, in the paper, any) frame."""
    count, joints, _ = frames.shape
    row = (place // joints).clamp(max=count - 1)
    sequence = rows.sequence.index_select(0, row)
    length = lengths.index_select(0, sequence).clamp(min=1)
    if pretext.other_frame_only:
        frame = (rows.position.index_select(0, row) + 1 + below(length - 1, generator)) % length
    else:
        frame = below(length, generator)
    joint = (place + 1 + below(torch.full_like(place, joints - 1), generator)) % joints
    first = offsets_of(lengths).index_select(0, sequence)
    # An empty last sequence begins past the end; its rows are padding, so any row will do for them.
    return (first + frame).clamp(max=count - 1) * joints + joint


def draw_pairs(
    frames: Tensor,
    lengths: Tensor,
    rows: Rows,
    windows: Windows,
    pretext: PretextConfig,
    generator: torch.Generator,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """One clip of each sequence and the same with two frames swapped, `[2 B, w]` rows; and which count, `[B]` bool.

    Candidates are the stride-1 clips, one centred on every frame. With `moving_clips_only` a clip counts as moving if
    some frame of it differs from the frame before; a sequence in which nothing moves gives its first clip, not counted.
    """
    candidate = _in_moving_clips(frames, rows, windows) if pretext.moving_clips_only else rows.valid
    chosen, found = _choose(candidate, lengths, generator, share)
    sequence, position, valid = (x.index_select(0, chosen) for x in rows)
    clip = window_rows(padded_window(position, windows), sequence, valid, lengths, windows, zero_row=frames.shape[0])
    first, second = swap_positions(torch.full_like(chosen, windows.window), pretext.swap_distance, generator, share)
    place = torch.arange(windows.window, device=frames.device).expand_as(clip)
    swapped = clip.gather(1, swapped_place(place, first[:, None], second[:, None]))
    return torch.cat([clip, swapped]), found


def _in_moving_clips(frames: Tensor, rows: Rows, windows: Windows) -> Tensor:
    """`[F]` bool: whether a frame differs from the one before it in the clip that has its middle at a row.

    Such a clip takes the frames at fixed distances from its middle, so that no index of it need be looked at.
    """
    farthest = (frames[1:] - frames[:-1]).abs_().amax((1, 2))  # on a CPU faster than != and any()
    moves = pad(farthest > 0, (1, 0)) & (rows.position > 0) & rows.valid
    reach = windows.pad
    moves = pad(moves, (reach, reach))
    owner = pad(rows.sequence, (reach, reach), value=-1)
    found = torch.zeros_like(rows.valid)
    for step in range(windows.window):
        part = slice(step * windows.dilate, step * windows.dilate + len(frames))
        found |= moves[part] & (owner[part] == rows.sequence)
    return found & rows.valid


def _choose(
    candidate: Tensor, lengths: Tensor, generator: torch.Generator, share: Share | None
) -> tuple[Tensor, Tensor]:
    """A uniform choice among each sequence's candidate rows `[F]`: row `[B]` (the first without any), and if found."""
    running = candidate.cumsum(0)
    offsets = offsets_of(lengths)
    at = pad(running, (1, 0)).index_select(0, offsets)
    before, count = at[:-1], at.diff()
    row = torch.searchsorted(running, before + below(count, generator, share) + 1)
    row = torch.where(count > 0, row, offsets[:-1])
    return row.clamp(max=len(candidate) - 1), count > 0


def draw_order(
    counts: Tensor, clips: int, distance: int, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Rows `[clips]` of each sequence's clips with two of all but its last swapped; too few clips stay as they are."""
    rows = rows_of(counts, clips)
    shown = counts - 1
    swap = swap_positions(shown, distance, generator, share)
    first, second = (p.index_select(0, rows.sequence) for p in swap)
    swappable = rows.valid & (shown >= 2).index_select(0, rows.sequence)
    moved = swapped_place(rows.position, first, second) - rows.position
    return torch.arange(clips, device=counts.device) + torch.where(swappable, moved, 0)


def swap_positions(
    n: Tensor, distance: int, generator: torch.Generator, share: Share | None = None
) -> tuple[Tensor, Tensor]:
    """Two positions p < q of each list of `n` entries, uniform over the pairs with q - p >= distance.

    A list too short for that distance takes the largest it allows. Pairs at a distance of at least g are the pairs of
    distinct positions of a list shorter by g - 1, the second moved on by g - 1.
    """
    extra = torch.minimum(torch.full_like(n, distance), n - 1).clamp(min=1) - 1
    a = below(n - extra, generator, share)
    b = below(n - extra - 1, generator, share)
    b = b + (b >= a)
    return torch.minimum(a, b), torch.maximum(a, b) + extra


def swapped_place(place: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`place` with `first` and `second` exchanged."""
    return torch.where(place == first, second, torch.where(place == second, first, place))
