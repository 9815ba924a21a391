"""Batches for labels of frames: pieces of recordings with all the bodies that are in them at the time.

A *track* is one body from coming in to leaving. The store's sequences may hold frames in which nobody is (all zeros);
`tracks_of` cuts there, as `hitrs_fast.scoring` does.

Shape legend: T_total frames of the store, J joints, C coordinates, R tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hitrs_fast.clips import Windows
from hitrs_fast.skeleton import SkeletonLayout, is_present

from .augment import AugmentConfig
from .loader import QUANTILES, Loader, Pieces, Size, runs_of, side_by_side
from .store import Store


@dataclass(frozen=True)
class Tracks:
    offsets: np.ndarray  # [R + 1] int64: where each begins in the store's frames; R counts stretches without a body too
    there: np.ndarray  # [R] bool: whether it is a track
    sample: np.ndarray  # [R] int64
    first_frame: np.ndarray  # [R] int64, within the sample
    origin: Tensor  # [R, C]: its first hip, what it is centred on


def tracks_of(store: Store, frames: Tensor, layout: SkeletonLayout, center: bool) -> Tracks:
    """The tracks of a store's `frames` `[T_total, J, C]`; with `center` one begins where its hip is first there."""
    usable = is_present(frames).any(-1).cpu().numpy()
    hip = (frames[:, layout.hip] != 0).any(-1).cpu().numpy()
    offsets = _borders(store.offsets, usable)
    if center:
        before = np.concatenate([[0], hip.cumsum()])  # frames with a hip before each
        usable &= before[1:] > np.repeat(before[offsets[:-1]], np.diff(offsets))
        offsets = _borders(store.offsets, usable)
    first = offsets[:-1]
    sequence = np.searchsorted(store.offsets, first, side="right") - 1
    return Tracks(
        offsets,
        usable[first],
        store.sequence_sample[sequence],
        store.sequence_first_frame[sequence] + first - store.offsets[sequence],
        frames[torch.from_numpy(first).to(frames.device), layout.hip],
    )


def _borders(offsets: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The sequences' borders, and those between frames with a body and without."""
    return np.union1d(offsets, np.flatnonzero(usable[1:] != usable[:-1]) + 1)


class AlignedLoader(Loader):
    """A `Loader` whose items are pieces of time: of each track, the part that lies in it.

    An epoch has as many pieces of a recording as lie side by side; in training each is at a random place.
    """

    def __init__(
        self,
        frames: Tensor,
        tracks: Tracks,
        part: np.ndarray,
        windows: Windows,
        batch_size: int,
        augment: AugmentConfig | None,
        seed: int,
        longest: int,
        quantiles: tuple[float, ...] = QUANTILES,
    ) -> None:
        """`part` `[M]` bool: the samples. `batch_size` and `longest`: pieces of a batch, and frames of a piece."""
        chosen = np.flatnonzero(tracks.there & part[tracks.sample])
        self._begin = tracks.first_frame[chosen]
        self._end = self._begin + np.diff(tracks.offsets)[chosen]
        super().__init__(
            frames, tracks.offsets, chosen, windows, batch_size, augment, seed, quantiles,
            samples=tracks.sample, longest=longest,
        )  # fmt: skip

    def _pieces(self, rng: np.random.Generator) -> Pieces:
        recording = self._items(np.arange(len(self.chosen)))  # where each recording's tracks begin
        begin = np.minimum.reduceat(self._begin, recording[:-1])
        full = np.maximum.reduceat(self._end, recording[:-1]) - begin
        of, low, length = side_by_side(full, self.longest)
        if self.augment is not None:
            # Drawn beyond both ends, so that their frames, whose windows only the first or last piece holds, are as
            # frequent as others.
            pad, last = self.windows.pad, full[of] - length
            low = rng.integers(-pad, last + pad + 1).clip(0, last)
        low = low + begin[of]
        which, first = runs_of(recording[of], np.diff(recording)[of])  # every piece with every track of its recording
        piece = np.repeat(np.arange(len(of)), np.diff(first))
        start = np.maximum(self._begin[which], low[piece])
        end = np.minimum(self._end[which], (low + length)[piece])
        kept = end > start
        which, piece, start, end = which[kept], piece[kept], start[kept], end[kept]
        items = np.flatnonzero(np.diff(piece, prepend=-1, append=-1))
        return Pieces(which, start - self._begin[which], end - start, items)

    def _sizes(self, quantiles: tuple[float, ...]) -> list[Size]:
        """The largest holds any piece of time: a random draw of pieces need not have met the fullest."""
        sizes = super()._sizes(quantiles)
        at_once = tracks = 0
        for first, end in self._recordings():
            begin, stop = self._begin[first:end], self._end[first:end]
            for last in begin.tolist():  # the fullest piece ends where a track begins
                tracks = max(tracks, int(((begin <= last) & (stop > last - self.longest + 1)).sum()))
                at_once = max(at_once, int(((begin <= last) & (stop > last)).sum()))
        self.pieces = tracks
        frames = max(at_once * self.longest, sizes[-1].frames)
        return [*sizes[:-1], Size(frames, sizes[-1].capacity._replace(clips=frames))]

    def _recordings(self) -> list[tuple[int, int]]:
        edges = self._items(np.arange(len(self.chosen)))
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
