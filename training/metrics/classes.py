"""Metrics of classification: top-1, top-5, mean per-class accuracy, calibration, confusion; intervals over seeds.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

BINS = 15  # of confidence, for the calibration error
# Student's t at 97.5 %, for 1 to 9 degrees of freedom (any table of it); the normal's 1.96 is its limit.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class ClassScores(NamedTuple):
    top1: float
    top5: float
    mean_class: float  # mean over the classes that have samples of their share that is right
    ece: float
    confusion: np.ndarray  # [K, K] int64: samples of class (row) that were named (column)


def classification(logits: np.ndarray, labels: np.ndarray) -> ClassScores:
    """Scores of logits `[N, K]` against labels `[N]`; with fewer than five classes top-5 is 1.

    Ties count against the sample in top-1 and top-5: a model that says the same of all classes is right of none. The
    expected calibration error is Guo et al.'s (ICML 2017): over equal bins of the highest probability, the mean
    difference of its mean and the share that is right, weighted by the samples in the bin.
    """
    if not len(labels):
        raise ValueError("there is no sample to score")
    if not np.isfinite(logits).all():
        raise ValueError("scores are not finite; the weights are damaged or the training diverged")
    classes = logits.shape[1]
    own = np.take_along_axis(logits, labels[:, None], 1)
    rank = (logits >= own).sum(1)  # 1: no other class is as high
    named = logits.argmax(1)
    confusion = np.bincount(labels * classes + named, minlength=classes**2).reshape(classes, classes)
    count = confusion.sum(1)
    recall = confusion.diagonal()[count > 0] / count[count > 0]
    return ClassScores(
        float((rank == 1).mean()),
        float((rank <= 5).mean()),
        float(recall.mean()),
        calibration(logits, labels),
        confusion,
    )


def calibration(logits: np.ndarray, labels: np.ndarray) -> float:
    probability = softmax(logits)
    confidence = probability.max(1)
    right = probability.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, confidence, BINS) - np.bincount(bins, right, BINS)
    return float(np.abs(gap).sum() / len(labels))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def over_seeds(values: list[float]) -> dict[str, Any]:
    """The values, their mean, standard deviation (n - 1) and half the mean's 95 % interval (Student's t)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return {"values": values, "mean": mean}
    spread = float(np.std(values, ddof=1))
    t = T_975[count - 2] if count - 2 < len(T_975) else 1.96
    return {"values": values, "mean": mean, "std": spread, "ci95": t * spread / math.sqrt(count)}
