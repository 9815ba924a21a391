"""Frame accuracy, edit score and F1 of frame labels, against the definitions in loops."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.records import DataError
from training.metrics.frames import edit_score, evaluate_frames, label_runs

labels = st.lists(st.integers(0, 3), min_size=1, max_size=30)
pairs = st.lists(
    labels.flatmap(
        lambda true: st.tuples(st.just(true), st.lists(st.integers(0, 3), min_size=len(true), max_size=len(true)))
    ),
    min_size=1,
    max_size=4,
)


def loop_runs(frames: list[int]) -> list[tuple[int, int, int]]:
    found, start = [], 0
    for t in range(1, len(frames) + 1):
        if t == len(frames) or frames[t] != frames[start]:
            if frames[start] != 0:
                found.append((frames[start], start, t))
            start = t
    return found


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def rest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + (a[i] != b[j]))

    return rest(0, 0)


def counts(detected: list[int], truth: list[int], overlap: float) -> tuple[int, int, int]:
    """True and false positives, and misses: frames as sets, each run tried in order of time."""
    true_runs, taken, right, wrong = loop_runs(truth), set(), 0, 0
    for label, first, end in loop_runs(detected):
        frames, best, largest = set(range(first, end)), None, 0.0
        for number, (known, a, b) in enumerate(true_runs):
            others = set(range(a, b))
            shared = len(frames & others) / len(frames | others) if known == label else 0
            if shared > largest:
                best, largest = number, shared
        if largest >= overlap and best not in taken:
            taken.add(best)
            right += 1
        else:
            wrong += 1
    return right, wrong, len(true_runs) - right


@settings(max_examples=200, deadline=None)
@given(pairs)
def test_equals_loops(videos: list[tuple[list[int], list[int]]]) -> None:
    truth, detected = zip(*videos, strict=True)
    found = evaluate_frames([np.array(d) for d in detected], [np.array(t) for t in truth])
    frames = [a == b for t, d in videos for a, b in zip(t, d, strict=True)]
    assert found["frame_acc"] == pytest.approx(np.mean(frames))
    edits = []
    for t, d in videos:
        a, b = (tuple(run[0] for run in loop_runs(side)) for side in (d, t))
        edits.append(1 - distance(a, b) / max(len(a), len(b)) if a or b else 1)
    assert found["edit"] == pytest.approx(np.mean(edits))
    for overlap, key in ((0.1, "f1_10"), (0.25, "f1_25"), (0.5, "f1_50")):
        right, wrong, missed = np.sum([counts(d, t, overlap) for t, d in videos], 0)
        expected = 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 0
        assert found[key] == pytest.approx(expected), key


def test_by_hand() -> None:
    truth = np.array([0, 1, 1, 1, 1, 0, 2, 2, 2, 2])
    detected = np.array([0, 1, 1, 0, 1, 0, 3, 2, 2, 2])
    # Runs 1 1 3 2 against 1 2: two to delete. Overlaps 2/4, 1/4 (taken), none, 3/4: two of four right, none missed.
    expected = {"frame_acc": 0.8, "edit": 0.5, "f1_10": 2 / 3, "f1_25": 2 / 3, "f1_50": 2 / 3}
    assert evaluate_frames([detected], [truth]) == pytest.approx(expected)
    assert evaluate_frames([truth], [truth]) == dict.fromkeys(expected, 1)
    nothing = np.zeros(4, np.int64)
    assert evaluate_frames([nothing], [nothing]) == {"frame_acc": 1, "edit": 1, "f1_10": 0, "f1_25": 0, "f1_50": 0}


@given(st.lists(st.integers(1, 3), max_size=12), st.lists(st.integers(1, 3), max_size=12))
def test_edit_distance(a: list[int], b: list[int]) -> None:
    expected = 1 - distance(tuple(a), tuple(b)) / max(len(a), len(b), 1)
    assert edit_score(np.array(a, int), np.array(b, int)) == pytest.approx(expected)


@given(labels)
def test_runs(frames: list[int]) -> None:
    assert list(zip(*(a.tolist() for a in label_runs(np.array(frames))), strict=True)) == loop_runs(frames)


@pytest.mark.parametrize(
    ("detected", "truth", "message"),
    [
        ([np.zeros(3)], [], "1 recordings"),
        ([], [], "no recordings"),
        ([np.zeros(3), np.zeros(3)], [np.zeros(3), np.zeros(4)], "recording 1"),
        ([np.zeros(0)], [np.zeros(0)], "recording 0"),
        ([np.zeros((2, 2))], [np.zeros((2, 2))], "recording 0"),
    ],
)
def test_bad_input(detected: list, truth: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_frames(detected, truth)
