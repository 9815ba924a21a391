"""Detection metrics of PKU-MMD: mAP over actions, mAP over videos, AP, F1 and 2D-AP; and a Pascal VOC variant.

The official definition is the data set's script (github.com/ECHO960/PKU-MMD, evaluate.py), in the words of
docs/detection.md. Two things in it are unusual: lengths are a frame short, because they are end - start of frame
numbers that both belong to the segment; and the precision that counts at a recall is the one after the detection that
reached it is taken away, so that false detections ranked below all true ones lower the figure. `*_voc` has neither.

Detections of equal score rank by recording, first frame, end and class, so a figure depends on no order of rows.

Shape legend: V recordings, K classes without the background, P detections, G labelled segments, Q pairs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.records import DataError
from .segments import Segments

OVERLAPS_2D = np.arange(1, 21) / 20  # of the 2D-AP; k / 20 is nearest to the number meant, k * 0.05 is not


@dataclass(frozen=True)
class DetectionScores:
    """All between 0 and 1, higher is better."""

    map_a: float  # mean of class_ap over all K classes: one without labelled segments counts 0
    map_v: float  # mean of video_ap over all V recordings
    ap: float  # of everything pooled
    ap_2d: float  # mean of `ap` at overlaps 0.05, 0.10 ... 1
    f1: float
    map_a_present: float  # mean of class_ap over the classes that have labelled segments
    map_a_voc: float  # mean of class_ap_voc over these
    class_ap: np.ndarray  # [K] float64
    class_ap_voc: np.ndarray  # [K] float64
    video_ap: np.ndarray  # [V] float64
    class_truths: np.ndarray  # [K] int64: labelled segments
    class_detections: np.ndarray  # [K] int64


@dataclass(frozen=True)
class _Pool:
    """The segments of all recordings, one after another."""

    video: np.ndarray  # [P] or [G]
    label: np.ndarray
    first: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def evaluate(
    detected: Sequence[Segments], truth: Sequence[Segments], classes: int, overlap: float = 0.5
) -> DetectionScores:
    """Compare detections with labels, both a list of V recordings in the same order.

    Labels are 1 to `classes`; a match needs an intersection over union of `overlap`, over 0 and at most 1. Raises
    DataError for other values, lists of different lengths, segments without a frame, and labels that are all empty.
    """
    if not 0 < overlap <= 1:
        raise DataError(f"the overlap is {overlap}; it must be over 0 and at most 1")
    if len(detected) != len(truth):
        raise DataError(f"there are detections for {len(detected)} recordings but labels for {len(truth)}")
    found, known = _pool(detected, classes, ranked=True), _pool(truth, classes, ranked=False)
    if not len(known):
        raise DataError("no recording has a labelled segment, so there is nothing to detect")
    best, shared = _best_truths(found, known, classes, missing_frames=1)
    match = np.where(shared >= overlap, best, -1)
    usual, shared_usual = _best_truths(found, known, classes, missing_frames=0)
    match_voc = np.where(shared_usual >= overlap, usual, -1)

    class_truths = np.bincount(known.label, minlength=classes + 1)[1:]
    class_ap, class_ap_voc = np.zeros(classes), np.zeros(classes)
    for index, truths in enumerate(class_truths.tolist()):
        own = found.label == index + 1
        class_ap[index] = average_precision(match[own], truths)
        class_ap_voc[index] = average_precision_voc(match_voc[own], truths)
    video_truths = np.bincount(known.video, minlength=len(truth)).tolist()
    video_ap = np.array([average_precision(match[found.video == v], n) for v, n in enumerate(video_truths)])
    at_overlaps = [average_precision(np.where(shared >= o, best, -1), len(known)) for o in OVERLAPS_2D]
    there = class_truths > 0
    return DetectionScores(
        map_a=float(class_ap.mean()),
        map_v=float(video_ap.mean()),
        ap=average_precision(match, len(known)),
        ap_2d=float(np.mean(at_overlaps)),
        # 2 precision recall / (precision + recall), with as many true detections as labelled segments that are matched
        f1=2 * len(np.unique(match[match >= 0])) / (len(found) + len(known)),
        map_a_present=float(class_ap[there].mean()),
        map_a_voc=float(class_ap_voc[there].mean()),
        class_ap=class_ap,
        class_ap_voc=class_ap_voc,
        video_ap=video_ap,
        class_truths=class_truths,
        class_detections=np.bincount(found.label, minlength=classes + 1)[1:],
    )


def precision_recall(
    detected: Sequence[Segments], truth: Sequence[Segments], classes: int, overlap: float = 0.5
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Precision and recall `[P + 1]`, from the surest detection on, of each of `classes` and then of everything.

    Matches are the official ones; the first point is that without detections. Errors as in `evaluate`.
    """
    found, known = _pool(detected, classes, ranked=True), _pool(truth, classes, ranked=False)
    best, shared = _best_truths(found, known, classes, missing_frames=1)
    match = np.where(shared >= overlap, best, -1)
    own = [(match[found.label == c], int((known.label == c).sum())) for c in range(1, classes + 1)]
    each = [_curves(m, max(truths, 1))[:2] for m, truths in [*own, (match, len(known))]]
    return [(precision[::-1], recall[::-1]) for precision, recall in each]


def average_precision(match: np.ndarray, truths: int) -> float:
    """The official AP of detections in ascending order of score.

    `match` `[P]` is the labelled segment that a detection is taken for, -1 for none; several may have the same.
    `truths` is G. 0 where there are no detections or no labelled segments.
    """
    if not len(match) or not truths:
        return 0.0
    precision, recall, _ = _curves(match, truths)
    # With all detections, and after each matched one is taken away.
    states = np.concatenate([[0], np.flatnonzero(match >= 0) + 1])
    highest = np.maximum.accumulate(precision[states])
    return float(np.sum(highest[1:] * -np.diff(recall[states])))


def average_precision_voc(match: np.ndarray, truths: int) -> float:
    """All-point AP (Everingham et al. 2010): at each recall the highest precision at that recall or a higher one.

    Arguments as above; of several detections of a labelled segment the one with the highest score is true.
    """
    if not len(match) or not truths:
        return 0.0
    precision, _, true = _curves(match, truths)
    return float(np.maximum.accumulate(precision[:-1])[true].sum() / truths)


def _curves(match: np.ndarray, truths: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall without the k lowest detections, `[P + 1]`; which are the highest of their match, `[P]`."""
    true = np.zeros(len(match), bool)
    hits = np.flatnonzero(match >= 0)[::-1]
    true[hits[np.unique(match[hits], return_index=True)[1]]] = True
    matched = np.append(true[::-1].cumsum()[::-1], 0)
    left = np.arange(len(match), -1, -1)
    return matched / np.maximum(left, 1), matched / truths, true


def _best_truths(found: _Pool, known: _Pool, classes: int, missing_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """For each detection `[P]` the labelled segment of its recording and class with the largest overlap, and that
    overlap: -1 and 0 where there is none. Lengths are short by `missing_frames`. Where the overlap is equal, the
    official script takes the later labelled segment, and VOC's the earlier.
    """
    key, known_key = (pool.video * (classes + 1) + pool.label for pool in (found, known))
    order = np.argsort(known_key, kind="stable")
    low, high = (np.searchsorted(known_key[order], key, side) for side in ("left", "right"))
    count = high - low
    p = np.repeat(np.arange(len(found)), count)  # [Q]
    g = order[np.arange(len(p)) - np.repeat(count.cumsum() - count - low, count)]  # [Q]
    shared = _overlap(found.first[p], found.end[p] - missing_frames, known.first[g], known.end[g] - missing_frames)
    last = np.lexsort((g if missing_frames else -g, shared, p))
    last = last[np.flatnonzero(np.diff(p[last], append=-1))]
    best, overlap = np.full(len(found), -1), np.zeros(len(found))
    best[p[last]], overlap[p[last]] = g[last], shared[last]
    return best, overlap


def _overlap(first: np.ndarray, end: np.ndarray, known_first: np.ndarray, known_end: np.ndarray) -> np.ndarray:
    """Intersection over the hull, which is the union of segments that meet; below 0 for those that do not.

    Two equal segments of one frame, whose official length is 0, overlap wholly: there the script divides by 0.
    """
    hull = np.maximum(end, known_end) - np.minimum(first, known_first)
    both = np.minimum(end, known_end) - np.maximum(first, known_first)
    return np.where(hull == 0, 1.0, both / np.maximum(hull, 1))


def _pool(videos: Sequence[Segments], classes: int, ranked: bool) -> _Pool:
    """All segments; if `ranked`, in ascending order of score."""
    if not videos:
        raise DataError("there are no recordings to evaluate")
    names = ("label", "first", "end", "score")
    label, first, end, score = (np.concatenate([getattr(segments, name) for segments in videos]) for name in names)
    video = np.repeat(np.arange(len(videos)), [len(segments) for segments in videos])
    wrong = np.flatnonzero((label < 1) | (label > classes) | (first >= end) | ~np.isfinite(score))
    if wrong.size:
        w = wrong[0]
        raise DataError(
            f"recording {video[w]} has a segment of class {label[w]}, frames {first[w]} to {end[w]} (exclusive), score "
            f"{score[w]}; classes are 1 to {classes}, a segment has a frame or more, and a score is a finite number"
        )
    order = np.lexsort((label, end, first, video, score)) if ranked else np.arange(len(label))
    return _Pool(video[order], label[order], first[order], end[order])
