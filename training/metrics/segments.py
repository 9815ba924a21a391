"""From the class probabilities of a recording's frames to scored segments.

The Hi-TRS paper does not say how it does this, and the choice moves mAP by points. `GROUPINGS` has the three ways that
public code uses, with its values, and the default, `argmax`, which is none of theirs:

argmax      mean of 5 frames either side; a class's frames are those where it is the most probable; segments of a class
            at most 15 frames apart become one; those under 12 frames are dropped
windows     github.com/JHang2020/Simple-Skeleton-Detection: a segment grows by 15 frames while more than a tenth of the
            next 15 have its class, see `_windows`
per-class   github.com/wengwanjiang/FoundSkelModel: where a class has a probability over 0.02; segments of several
            classes may overlap
actionness  Luo et al., ECCV 2018: where all actions together have a probability of 0.4 or more; the class is the one
            with the highest mean

Everywhere the score of a segment is the mean probability of its class in its frames.

Shape legend: T frames, K classes with the background as class 0, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data.records import DataError

BLOCK, TAIL = 15, 2  # frames by which `windows` grows and is cut back
ROUNDING = 1e-3  # how far from 1 a frame's probabilities may sum

Spans = tuple[np.ndarray, np.ndarray, np.ndarray]  # label, first, end: [S] int64 each


@dataclass(frozen=True)
class Segments:
    """The labelled or detected segments of one recording, each `[S]`."""

    label: np.ndarray  # int64, 1 to K - 1
    first: np.ndarray  # int64, its first frame, from 0
    end: np.ndarray  # int64, the frame after its last
    score: np.ndarray  # float64; that of labelled segments means nothing

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Segments:
        """From rows of label, first, end and, for detected segments, score."""
        table = np.array([(*row, 1.0)[:4] for row in rows], np.float64).reshape(-1, 4)
        label, first, end = table[:, :3].T.astype(np.int64)
        return cls(label, first, end, table[:, 3])

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Grouping:
    """How frames become segments."""

    method: Literal["argmax", "windows", "per-class", "actionness"]
    """What frames a segment has; see the module."""
    smooth: int = 0
    """Frames either side over which probabilities are averaged before all else."""
    gap: int = 0
    """Segments of a class with at most this many frames between them become one; 0 joins none."""
    min_length: int = 1
    """Segments with fewer frames are dropped, after joining."""
    threshold: float = 0.0
    """`per-class`: the probability to be exceeded. `actionness`: the least. `windows`: the share to be exceeded."""


GROUPINGS = {
    "argmax": Grouping("argmax", smooth=5, gap=15, min_length=12),
    "windows": Grouping("windows", threshold=0.1),
    "per-class": Grouping("per-class", threshold=0.02),
    "actionness": Grouping("actionness", threshold=0.4),
}


def scored_segments(probabilities: np.ndarray, grouping: Grouping = GROUPINGS["argmax"]) -> Segments:
    """Segments in order of their first frames, from `probabilities` `[T, K]`, the softmax of the frames' logits.

    Raises DataError where these are no probabilities, or an option of `grouping` is out of range.
    """
    p = _checked(np.asarray(probabilities, np.float64), grouping)
    if grouping.smooth:
        p = smoothed(p, grouping.smooth)
    sums = np.concatenate([np.zeros((1, p.shape[1])), p.cumsum(0)])
    label, first, end = _METHODS[grouping.method](p, sums, grouping.threshold)
    if grouping.gap:
        label, first, end = _joined(label, first, end, grouping.gap)
    order = np.lexsort((label, end, first))
    order = order[(end - first)[order] >= grouping.min_length]
    label, first, end = label[order], first[order], end[order]
    return Segments(label, first, end, (sums[end, label] - sums[first, label]) / (end - first))


def smoothed(p: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each frame and `reach` frames either side, of those that there are: `[T, K]` to `[T, K]`."""
    sums = np.concatenate([np.zeros((1, p.shape[1])), p.cumsum(0)])
    frame = np.arange(len(p))
    low, high = np.maximum(frame - reach, 0), np.minimum(frame + reach + 1, len(p))
    return (sums[high] - sums[low]) / (high - low)[:, None]


def runs(mask: np.ndarray) -> Spans:
    """Column, first frame and end of every maximal run of true frames in `mask` `[T, K]`, column by column."""
    padded = np.pad(mask, ((1, 1), (0, 0))).astype(np.int8)
    edges = np.diff(padded, axis=0).T
    column, first = np.nonzero(edges == 1)
    return column, first, np.nonzero(edges == -1)[1]


def _argmax(p: np.ndarray, sums: np.ndarray, threshold: float) -> Spans:
    return _shifted(runs(p.argmax(1)[:, None] == np.arange(1, p.shape[1])))


def _per_class(p: np.ndarray, sums: np.ndarray, threshold: float) -> Spans:
    return _shifted(runs(p[:, 1:] > threshold))


def _actionness(p: np.ndarray, sums: np.ndarray, threshold: float) -> Spans:
    _, first, end = runs(1 - p[:, :1] >= threshold)
    return (sums[end] - sums[first])[:, 1:].argmax(1) + 1, first, end


def _windows(p: np.ndarray, sums: np.ndarray, threshold: float) -> Spans:
    """From a frame i of class c, if more than `threshold` of the 15 frames after it are of class c, the end moves on by
    15 frames, and again while that is so of the 15 after it; then back by 2 while neither of the last 2 is of class c.
    The search goes on from the end, which belongs to the segment. Frames after the recording are background; there, the
    original has frames of padding.
    """
    classes, frame = p.argmax(1), np.arange(len(p))
    hot = np.zeros((len(p) + 3 * BLOCK, p.shape[1]), np.int64)
    hot[frame + 1, classes] = 1
    before = hot.cumsum(0)  # frames of each class before a frame
    follow = before[frame + 1 + BLOCK, classes] - before[frame + 1, classes]
    starts = np.flatnonzero((classes > 0) & (follow / BLOCK > threshold))
    found, here = [], 0
    while (at := np.searchsorted(starts, here)) < len(starts):
        start = int(starts[at])
        own = before[:, classes[start]]
        last = start + BLOCK
        while (own[last + 1 + BLOCK] - own[last + 1]) / BLOCK > threshold:
            last += BLOCK
        while own[last + 1] == own[last + 1 - TAIL]:  # ends after `start`: one of the 15 frames is of the class
            last -= TAIL
        found.append((classes[start], start, min(last + 1, len(p))))
        here = last
    label, first, end = np.array(found, np.int64).reshape(-1, 3).T
    return label, first, end


_METHODS = {"argmax": _argmax, "windows": _windows, "per-class": _per_class, "actionness": _actionness}


def _shifted(spans: Spans) -> Spans:
    """Of columns without the background: their classes."""
    return spans[0] + 1, spans[1], spans[2]


def _joined(label: np.ndarray, first: np.ndarray, end: np.ndarray, gap: int) -> Spans:
    order = np.lexsort((first, label))
    label, first, end = label[order], first[order], end[order]
    apart = (label[1:] != label[:-1]) | (first[1:] - end[:-1] > gap)
    begins = np.flatnonzero(np.concatenate([[True], apart])[: len(label)])
    ends = np.flatnonzero(np.concatenate([apart, [True]])[: len(label)])
    return label[begins], first[begins], end[ends]


def _checked(p: np.ndarray, grouping: Grouping) -> np.ndarray:
    if p.ndim != 2 or p.shape[0] < 1 or p.shape[1] < 2:
        raise DataError(f"frame probabilities have the shape {list(p.shape)}, not [frames, background and classes]")
    wrong = np.flatnonzero(~((p >= 0).all(1) & (abs(p.sum(1) - 1) <= ROUNDING)))  # nan is wrong too
    if wrong.size:
        raise DataError(f"frame {wrong[0]} has no probabilities that sum to 1; take the softmax of the logits first")
    if grouping.smooth < 0 or grouping.gap < 0 or grouping.min_length < 1 or not 0 <= grouping.threshold < 1:
        raise DataError(f"{grouping} must have smooth and gap of 0 or more, min_length of 1 or more, threshold in 0..1")
    return p
