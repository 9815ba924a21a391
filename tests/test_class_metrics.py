"""Metrics of classification against their words, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics.classes import calibration, classification, over_seeds, softmax


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_against_the_words(samples: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(samples, classes)).astype(np.float32), rng.integers(0, classes, samples)
    found = classification(logits, labels)
    order = [sorted(range(classes), key=lambda c, row=row: -row[c]) for row in logits]
    assert found.top1 == pytest.approx(np.mean([o[0] == y for o, y in zip(order, labels, strict=True)]))
    assert found.top5 == pytest.approx(np.mean([y in o[:5] for o, y in zip(order, labels, strict=True)]))
    recalls = [
        np.mean([o[0] == c for o, y in zip(order, labels, strict=True) if y == c]) for c in sorted(set(labels.tolist()))
    ]
    assert found.mean_class == pytest.approx(np.mean(recalls))
    assert found.confusion.sum() == samples
    for o, y in zip(order, labels, strict=True):
        found.confusion[y, o[0]] -= 1
    assert not found.confusion.any()


def test_saying_the_same_of_all_classes_is_never_right() -> None:
    found = classification(np.zeros((4, 6), np.float32), np.array([0, 1, 2, 3]))
    assert (found.top1, found.top5) == (0, 0)


def test_calibration_of_three_samples() -> None:
    # Confidences 0.9 (right), 0.9 (wrong), 0.6 (right): bins [0.9, 0.9] and [0.6].
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]))
    assert calibration(logits, np.array([0, 1, 1])) == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1)) / 3)


def test_softmax_of_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1, 0]]


def test_over_seeds() -> None:
    assert over_seeds([0.5]) == {"values": [0.5], "mean": 0.5}
    found = over_seeds([1.0, 2.0, 3.0])
    assert found["mean"] == 2 and found["std"] == 1
    assert found["ci95"] == pytest.approx(4.303 / np.sqrt(3))


@pytest.mark.parametrize(("logits", "message"), [(np.zeros((0, 3)), "no sample"), (np.full((1, 3), np.nan), "finite")])
def test_bad_scores(logits: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(logits, np.zeros(len(logits), int))
