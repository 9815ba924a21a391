"""Random ragged batches of fixed capacity from a store's frames.

The frames lie in memory, on the host or on the device: all of a store, or the part of it that a `Stream` has read. A
batch is one gather. What sets the lengths (which sequences, and temporal crops) is drawn on the host for an epoch at a
time, from (seed, epoch) alone, so that a run can go on from (epoch, batch) without any other state.

Words: a *piece* is a sequence, or a part of a long one. An *item* is what batches are made of: a piece, or, where whole
samples are wanted, all pieces of a sample.

Shape legend: F frames (capacity), J joints, C coordinates, B sequences, P pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import Capacity
from hitrs_fast.clips import Windows, clip_counts
from hitrs_fast.ragged import Rows, rows_of

from .augment import AugmentConfig
from .samplers import Sampler, shuffled
from .share import Share, dealt, share_of
from .stream import Arrangement, Stream

CROP = 0.2  # at most this part of a sequence is cut off
LONGEST = 300  # frames; longer recordings enter as random pieces of this length
QUANTILES = (0.33, 0.75, 0.99)  # of the frames of random batches: where the capacities lie
SIMULATED = 400  # random batches that the capacities are read off


class Size(NamedTuple):
    """One capacity: a batch of up to so many frames and clips."""

    frames: int
    capacity: Capacity


class Batch(NamedTuple):
    frames: Tensor  # [F, J, C]; rows of padding are zeros
    lengths: Tensor  # [B] int64; empty sequences at the end where the batch is not full
    rows: Rows
    augmented: Tensor  # [B] bool
    interpolated: Tensor  # [B] bool
    sequence: np.ndarray  # [n <= B] int64: number of each sequence in the store
    capacity: Capacity
    owner: Tensor  # [B] int64: the item of the batch that each sequence belongs to; 0 for empty ones
    item: np.ndarray  # [items] int64: number of each item in the store: of the sample, or of the sequence
    room: int  # items that a batch may have
    source: Tensor  # [F] int64: where each row lies among the loader's frames; 0 for padding
    filled: int  # rows that are not padding
    share: Share | None  # where this rank's part lies in the whole batch; None where it is the whole
    everywhere: Everywhere


class Everywhere(NamedTuple):
    """What the parts of all ranks hold together."""

    sequence: np.ndarray  # [n] int64: number of each sequence in the store
    items: int
    clips: int


class Pieces(NamedTuple):
    """An epoch's pieces before crops, item after item."""

    which: np.ndarray  # [P] which of the chosen sequences
    within: np.ndarray  # [P] its first frame in the sequence
    length: np.ndarray  # [P] frames
    first: np.ndarray  # [items + 1] the first piece of each item


@dataclass
class Plan:
    """One epoch: where each piece lies among the loader's frames, and where batches begin."""

    epoch: int
    sequence: np.ndarray
    start: np.ndarray
    length: np.ndarray
    augmented: np.ndarray
    interpolated: np.ndarray
    fill: np.ndarray  # of the stream; 0 without one
    first: np.ndarray  # [items + 1] the first piece of each item
    bounds: np.ndarray  # [batches + 1] of items

    def __len__(self) -> int:
        return len(self.bounds) - 1


class Loader:
    """Batches of the sequences `chosen` (numbers of sequences in the store).

    frames: `[T, J, C]` of the whole store, where batches are wanted, or a stream of it.
    offsets: `[N + 1]`, the store's.
    augment: None for evaluation: every sequence whole, in order, the last batch partly empty. Otherwise epochs are
        shuffled and augmented, and a last batch that is not full is left out (unless it is the only one).
    quantiles: one capacity for each; fewer mean less to compile and more padding.
    sampler: the order of a training epoch; a stream has only shuffled ones.
    samples: `[N]`, the sample of each of the store's sequences: batches are then of `batch_size` whole samples, and
        hold as many sequences for each as the sample with the most pieces. Not for a stream.
    longest: frames of a piece; longer sequences enter as pieces of this length, in training at random places.
    rank, ranks: this loader's place among as many, in other processes. Plans are those of one loader alone, and so
        are batches, of which each rank gathers its part: `batch_size`, which they divide, counts all parts together.
    """

    def __init__(
        self,
        frames: Tensor | Stream,
        offsets: np.ndarray,
        chosen: np.ndarray,
        windows: Windows,
        batch_size: int,
        augment: AugmentConfig | None,
        seed: int,
        quantiles: tuple[float, ...] = QUANTILES,
        sampler: Sampler = shuffled,
        rank: int = 0,
        ranks: int = 1,
        samples: np.ndarray | None = None,
        longest: int = LONGEST,
    ) -> None:
        self.stream = frames if isinstance(frames, Stream) else None
        if self.stream and sampler is not shuffled:
            raise ValueError("a stream has no sampler but the shuffled one")
        if self.stream and samples is not None:
            raise ValueError("a stream has no batches of whole samples")
        self.frames = frames.frames if isinstance(frames, Stream) else frames
        self.windows, self.batch_size = windows, batch_size
        self.sampler, self.rank, self.ranks = sampler, rank, ranks
        self.augment, self.seed, self.longest = augment, seed, longest
        self.chosen = np.asarray(chosen, np.int64)
        self.first = offsets[self.chosen]
        self.full = offsets[self.chosen + 1] - self.first
        self.samples = samples
        self.whole_sizes = self._sizes(quantiles)
        self.sizes = self.whole_sizes if ranks == 1 else [self._part(size) for size in self.whole_sizes]

    def _clips(self, lengths: np.ndarray) -> np.ndarray:
        return clip_counts(torch.from_numpy(lengths), self.windows).numpy()

    def _pieces(self, rng: np.random.Generator) -> Pieces:
        which, within, length = side_by_side(self.full, self.longest)
        if self.augment is not None:
            within = rng.integers(0, self.full[which] - length + 1)
        return Pieces(which, within, length, self._items(which))

    def _items(self, which: np.ndarray) -> np.ndarray:
        """`[items + 1]`: the first piece of each item, of pieces that belong to the chosen sequences `which` `[P]`."""
        if self.samples is None:
            return np.arange(len(which) + 1)
        return np.flatnonzero(np.diff(self.samples[self.chosen[which]], prepend=-1, append=-1))

    def plan(self, epoch: int) -> Plan:
        rng = np.random.default_rng([self.seed, epoch])
        which, within, length, first = self._pieces(rng)
        place = self._placed(epoch)
        begin = first[:-1]
        order = np.arange(len(begin))
        if self.augment is not None:
            order = self.sampler(rng, np.add.reduceat(length, begin), self.chosen[which[begin]])
        order = order[np.argsort(place.fill[which[begin[order]]], kind="stable")]
        pieces, first = runs_of(begin[order], np.diff(first)[order])
        which, within, length = which[pieces], within[pieces], length[pieces]
        count = len(which)
        augmented = cropped = np.zeros(count, bool)
        if self.augment is not None:
            augmented = rng.random(count) < self.augment.probability
            cropped = augmented & (rng.random(count) < 0.5)
            cut = np.round(length * CROP * rng.random(count)).astype(np.int64) * cropped
            within, length = within + rng.integers(0, cut + 1), length - cut
        fill, begin = place.fill[which], first[:-1]
        bounds = self._bounds(np.add.reduceat(length, begin), np.add.reduceat(self._clips(length), begin), fill[begin])
        return Plan(
            epoch,
            sequence=self.chosen[which],
            start=place.start[which] + within,
            length=length,
            augmented=augmented,
            interpolated=augmented & ~cropped,
            fill=fill,
            first=first,
            bounds=bounds,
        )

    def _placed(self, epoch: int) -> Arrangement:
        """Of the chosen sequences."""
        if self.stream is None:
            return Arrangement(np.zeros(len(self.chosen), np.int64), self.first)
        return Arrangement(*(column[self.chosen] for column in self.stream.arrange(epoch)))

    def _bounds(self, length: np.ndarray, clips: np.ndarray, fill: np.ndarray) -> np.ndarray:
        """Where batches of `batch_size` items begin, or of fewer, where the largest capacity would overflow and where
        a batch would reach into a third fill."""
        largest = self.whole_sizes[-1]
        limits = (length, largest.frames), (clips, largest.capacity.clips)
        sums = [(np.pad(of_item.cumsum(), (1, 0)), limit) for of_item, limit in limits]
        bounds = [0]
        while bounds[-1] < len(length):
            first = bounds[-1]
            fits = min(int(np.searchsorted(sum_, sum_[first] + limit, "right")) - 1 for sum_, limit in sums)
            near = int(np.searchsorted(fill, fill[first] + 1, "right"))
            bounds.append(min(first + self.batch_size, fits, near))
        if self.augment is not None and len(bounds) > 2 and bounds[-1] - bounds[-2] < self.batch_size:
            bounds.pop()
        return np.array(bounds)

    def _sizes(self, quantiles: tuple[float, ...]) -> list[Size]:
        """Capacities at quantiles of the sampler's batches, the largest able to hold any one item."""
        rng = np.random.default_rng([self.seed, 1 << 32])
        which, _, length, first = self._pieces(rng)
        self.pieces = int(np.diff(first).max())  # of an item
        clips = self._clips(length)
        longest = int(clips.max())
        which = which[first[:-1]]
        length, clips = np.add.reduceat(length, first[:-1]), np.add.reduceat(clips, first[:-1])
        count = min(self.batch_size, len(length))
        if self.augment is None:  # the batches themselves, of which the largest capacity holds every one
            draws = [np.arange(first, min(first + count, len(length))) for first in range(0, len(length), count)]
            quantiles = (*quantiles[:-1], 1.0)
        else:
            draws = []
            while len(draws) < SIMULATED:
                order = self.sampler(rng, length, self.chosen[which])
                draws += [order[first : first + count] for first in range(0, len(order) - count + 1, count)]
        # Crops shorten half of the augmented sequences by a tenth on average.
        shrink = 1 - (self.augment.probability * 0.25 * CROP if self.augment is not None else 0)
        frames_quantiles = np.quantile([length[d].sum() for d in draws], quantiles) * shrink
        clips_quantiles = np.quantile([clips[d].sum() for d in draws], quantiles) * shrink
        self.largest = floors = int(length.max()), int(clips.max())  # frames and clips of an item
        sizes = {
            (max(_rounded_up(f, 32), floors[0]), max(_rounded_up(c, 4), floors[1]))
            for f, c in zip(frames_quantiles, clips_quantiles, strict=True)
        }
        return [Size(f, Capacity(c, longest)) for f, c in sorted(sizes)]

    def _part(self, whole: Size) -> Size:
        """Room for any rank's part of a batch that fits `whole`: see `dealt`."""
        frames, clips = (-(-n // self.ranks) for n in (whole.frames, whole.capacity.clips))
        if self.samples is not None:  # an item's clips do not quite grow with its frames, if it has several pieces
            lengths = np.arange(1, self.longest + 1)
            more = (self._clips(lengths) - lengths / self.windows.stride).max()
            clips += int(np.ceil(more * self.pieces * self.batch_size / self.ranks))
        return Size(frames + self.largest[0], Capacity(clips + self.largest[1], whole.capacity.longest))

    def _fitting(self, sizes: list[Size], length: np.ndarray) -> Size:
        clips = int(self._clips(length).sum())
        return next(s for s in sizes if length.sum() <= s.frames and clips <= s.capacity.clips)

    def empty(self, size: Size) -> Batch:
        """A batch of this capacity that holds nothing."""
        nothing = np.zeros(0, np.int64)
        no = nothing.astype(bool)
        whole = _Whole(self.whole_sizes[0].frames, nothing, nothing, Everywhere(nothing, 0, 0))
        return self._gather(size, nothing, nothing, no, no, nothing, nothing, nothing, whole)

    def batch(self, plan: Plan, index: int) -> Batch:
        """Batch `index` of an epoch's plan, or this rank's part of it, gathered on the device of the frames."""
        items = plan.first[plan.bounds[index] : plan.bounds[index + 1] + 1]
        part = slice(items[0], items[-1])
        if self.stream is not None and len(plan.fill[part]):
            self.stream.need(plan.epoch, *plan.fill[part][[0, -1]].tolist())
        lengths = plan.length[part]
        own = dealt(np.add.reduceat(lengths, items[:-1] - items[0]), self.rank, self.ranks)
        pieces, first = runs_of(items[own], np.diff(items)[own])
        length = plan.length[pieces]
        number = pieces - items[0]
        begin = (lengths.cumsum() - lengths)[number]
        everywhere = Everywhere(plan.sequence[part], len(items) - 1, int(self._clips(lengths).sum()))
        whole = _Whole(self._fitting(self.whole_sizes, lengths).frames, number, begin, everywhere)
        owner = np.repeat(np.arange(len(own)), np.diff(first))
        arrays = (plan.start[pieces], length, plan.augmented[pieces], plan.interpolated[pieces])
        leading = plan.sequence[items[own]]
        return self._gather(
            self._fitting(self.sizes, length), *arrays, owner, plan.sequence[pieces], leading, whole
        )  # fmt: skip

    def _gather(
        self,
        size: Size,
        start: np.ndarray,
        length: np.ndarray,
        augmented: np.ndarray,
        interpolated: np.ndarray,
        owner: np.ndarray,
        sequence: np.ndarray,
        leading: np.ndarray,
        whole: _Whole,
    ) -> Batch:
        """`leading`: the first sequence of each item."""
        room = self.batch_size // self.ranks
        fill = (0, room * self.pieces - len(length))
        starts, lengths, augmenteds, interpolateds, owners, numbers, begins = (
            torch.from_numpy(np.pad(x, fill)).to(self.frames.device, non_blocking=True)
            for x in (start, length, augmented, interpolated, owner, whole.number, whole.begin)
        )
        rows = rows_of(lengths, size.frames)
        source = torch.where(rows.valid, starts.index_select(0, rows.sequence) + rows.position, 0)
        frames = self.frames.index_select(0, source)
        frames[int(length.sum()) :] = 0
        item = leading if self.samples is None else self.samples[leading]
        share = None
        if self.ranks > 1:
            share = share_of(self.batch_size * self.pieces, whole.frames, numbers, begins, rows)
        return Batch(
            frames, lengths, rows, augmenteds, interpolateds, sequence, size.capacity, owners, item, room, source,
            int(length.sum()), share, whole.everywhere,
        )  # fmt: skip


class _Whole(NamedTuple):
    """A batch of all ranks, and where one's sequences lie in it."""

    frames: int  # capacity
    number: np.ndarray
    begin: np.ndarray  # rows
    everywhere: Everywhere


def runs_of(begin: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of runs of `count` from `begin` on, one run after another, and where each lies among them."""
    first = np.concatenate([[0], count.cumsum()])
    return np.arange(first[-1]) + np.repeat(begin - first[:-1], count), first


def side_by_side(full: np.ndarray, longest: int = LONGEST) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of at most `longest` frames of sequences of `full` frames: the sequence, first frame and length of each.

    The last one is flush with the sequence's end, so that every frame is seen.
    """
    pieces = -(-full // longest)
    which = np.repeat(np.arange(len(full)), pieces)
    length = np.minimum(full[which], longest)
    number = np.arange(len(which)) - np.repeat(pieces.cumsum() - pieces, pieces)
    return which, np.minimum(number * longest, full[which] - length), length


def _rounded_up(value: float, multiple: int) -> int:
    return int(np.ceil(value / multiple)) * multiple


def long_enough(lengths: np.ndarray, windows: Windows) -> np.ndarray:
    """Which sequences keep at least 3 clips after the worst crop: two to put in order and the last to be found."""
    worst = lengths - np.round(lengths * CROP).astype(np.int64)
    return clip_counts(torch.from_numpy(worst), windows).numpy() >= 3
