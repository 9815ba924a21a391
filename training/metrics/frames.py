"""Metrics of frame labels: accuracy, edit score, F1 at overlaps of 10, 25 and 50 %.

Lea et al., CVPR 2017 (edit score and segmental F1), as Farha and Gall, CVPR 2019 (MS-TCN), report them: accuracy over
all frames, the edit score as a mean over recordings, F1 from counts over all recordings; the background (class 0)
counts as a class in the accuracy only.

Shape legend: T frames, S runs of a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.records import DataError
from .segments import Segments

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # class, first frame and end (exclusive), each [S]
F1_OVERLAPS = (0.10, 0.25, 0.50)
BACKGROUND = 0


def evaluate_frames(detected: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> dict[str, float]:
    """`frame_acc`, `edit`, `f1_10`, `f1_25`, `f1_50`, each between 0 and 1, from two lists of integer labels `[T]`.

    Raises DataError where the lists, or the labels of a recording, differ in length, or there are no frames.
    """
    if len(detected) != len(truth):
        raise DataError(f"there are frame labels of {len(detected)} recordings, but true ones of {len(truth)}")
    for number, (own, true) in enumerate(zip(detected, truth, strict=True)):
        if own.shape != true.shape or own.ndim != 1 or not len(true):
            raise DataError(f"recording {number} has frame labels {list(own.shape)}, but true ones {list(true.shape)}")
    if not truth:
        raise DataError("there are no recordings to evaluate")
    frames = sum(len(true) for true in truth)
    right = sum(int((own == true).sum()) for own, true in zip(detected, truth, strict=True))
    runs = [(label_runs(own), label_runs(true)) for own, true in zip(detected, truth, strict=True)]
    return {"frame_acc": right / frames} | evaluate_runs(runs)


def evaluate_runs(pairs: Sequence[tuple[Runs, Runs]]) -> dict[str, float]:
    """`edit`, `f1_10`, `f1_25`, `f1_50` from the detected and the true runs of one recording or more."""
    scores = {"edit": float(np.mean([edit_score(own[0], true[0]) for own, true in pairs]))}
    hits = sum(matched(*own, *true) for own, true in pairs)
    total = sum(len(own[0]) + len(true[0]) for own, true in pairs)
    for overlap, number in zip(F1_OVERLAPS, np.atleast_1d(hits), strict=True):
        scores[f"f1_{100 * overlap:.0f}"] = float(2 * number / total) if total else 0.0
    return scores


def painted_runs(segments: Segments) -> Runs:
    """What is seen of segments painted over each other, the lowest score first and of equal ones the earliest."""
    edges = np.unique([0, 1, *segments.first, *segments.end])
    labels = np.full(len(edges) - 1, BACKGROUND)
    for index in np.lexsort((segments.first, segments.score)):
        labels[slice(*np.searchsorted(edges, (segments.first[index], segments.end[index])))] = segments.label[index]
    label, first, end = label_runs(labels)
    return label, edges[first], edges[end]


def label_runs(labels: np.ndarray) -> Runs:
    """The runs of one class in `labels` `[T]`, background left out."""
    first = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    end = np.append(first[1:], len(labels))
    kept = labels[first] != BACKGROUND
    return labels[first][kept], first[kept], end[kept]


def edit_score(detected: np.ndarray, truth: np.ndarray) -> float:
    """1 - Levenshtein distance / the longer one's length, of two lists of classes. 1 if both are empty."""
    column = np.arange(len(detected) + 1)
    distance = column
    for row, label in enumerate(truth.tolist(), 1):
        below = np.minimum(distance[:-1] + (detected != label), distance[1:] + 1)
        # A step along the row costs 1: the least of those to the left, each plus the way from there.
        distance = np.minimum.accumulate(np.concatenate([[row], below]) - column) + column
    return 1 - int(distance[-1]) / max(len(detected), len(truth), 1)


def matched(
    label: np.ndarray,
    first: np.ndarray,
    end: np.ndarray,
    known_label: np.ndarray,
    known_first: np.ndarray,
    known_end: np.ndarray,
) -> np.ndarray:
    """How many runs are true at each of F1_OVERLAPS. In order of time a run is taken for the true run of its class with
    the largest overlap (the first of equal ones), and is false if that is too small, or taken already.
    """
    if not len(label) or not len(known_label):
        return np.zeros(len(F1_OVERLAPS), np.int64)
    both = np.minimum.outer(end, known_end) - np.maximum.outer(first, known_first)
    hull = np.maximum.outer(end, known_end) - np.minimum.outer(first, known_first)
    shared = np.where(np.equal.outer(label, known_label), both / hull, 0.0)
    best, largest = shared.argmax(1), shared.max(1)
    return np.array([len(np.unique(best[largest >= overlap])) for overlap in F1_OVERLAPS])
