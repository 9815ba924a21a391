"""Segments from frame probabilities: each way against a loop over frames, and small cases by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.records import DataError
from training.metrics.segments import GROUPINGS, Grouping, Segments, runs, scored_segments, smoothed

Span = tuple[int, int, int]  # label, first, end


def spans(segments: Segments) -> list[Span]:
    return list(zip(segments.label.tolist(), segments.first.tolist(), segments.end.tolist(), strict=True))


def one_hot(labels: list[int], classes: int = 4) -> np.ndarray:
    return np.eye(classes)[labels]


def loop_runs(labels: list[int]) -> list[Span]:
    found: list[Span] = []
    for t, label in enumerate(labels):
        if label and t and labels[t - 1] == label:
            found[-1] = (label, found[-1][1], t + 1)
        elif label:
            found.append((label, t, t + 1))
    return found


def loop_joined(found: list[Span], gap: int) -> list[Span]:
    done: list[Span] = []
    for label, first, end in sorted(found):
        if gap and done and done[-1][0] == label and first - done[-1][2] <= gap:
            done[-1] = (label, done[-1][1], end)
        else:
            done.append((label, first, end))
    return done


def loop_windows(labels: list[int], share: float) -> list[Span]:
    """Frame by frame, straight from the words; frames after the recording are background."""
    frames, found, i = len(labels), [], 0
    padded = labels + [0] * 60

    def of_class(c: int, after: int, to: int) -> int:
        return padded[after + 1 : to + 1].count(c)

    while i < frames:
        c = padded[i]
        if not c or of_class(c, i, i + 15) / 15 <= share:
            i += 1
            continue
        end = i + 15
        while of_class(c, end, end + 15) / 15 > share:
            end += 15
        while not of_class(c, end - 2, end):
            end -= 2
        found.append((c, i, min(end + 1, frames)))
        i = end
    return found


def loop_spans(p: np.ndarray, g: Grouping) -> list[Span]:
    classes = p.shape[1]
    if g.method == "argmax":
        found = loop_runs([int(frame.argmax()) for frame in p])
    elif g.method == "windows":
        found = loop_windows([int(frame.argmax()) for frame in p], g.threshold)
    elif g.method == "per-class":
        found = [s for c in range(1, classes) for s in loop_runs([c * int(frame[c] > g.threshold) for frame in p])]
    else:
        active = loop_runs([int(1 - frame[0] >= g.threshold) for frame in p])
        found = [(1 + int(p[a:b, 1:].mean(0).argmax()), a, b) for _, a, b in active]
    kept = [s for s in loop_joined(found, g.gap) if s[2] - s[1] >= g.min_length]
    return sorted(kept, key=lambda s: (s[1], s[2], s[0]))


@st.composite
def probabilities(draw: st.DrawFn) -> np.ndarray:
    """Recordings in which classes stay for a while, with single frames of others between."""
    seed, frames, classes = draw(st.integers(0, 10**6)), draw(st.integers(1, 120)), draw(st.integers(2, 4))
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, classes, frames), rng.integers(1, draw(st.integers(2, 40)), frames))[:frames]
    noisy = np.where(rng.random(frames) < draw(st.sampled_from([0, 0.1, 0.5])), 0, labels)
    logits = rng.normal(size=(frames, classes)) + draw(st.sampled_from([1, 8])) * np.eye(classes)[noisy]
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


@settings(max_examples=150, deadline=None)
@given(probabilities(), st.sampled_from(sorted(GROUPINGS)), st.integers(0, 6), st.integers(1, 12))
def test_equals_loops(p: np.ndarray, name: str, gap: int, min_length: int) -> None:
    for grouping in (GROUPINGS[name], replace(GROUPINGS[name], gap=gap, min_length=min_length, smooth=0)):
        found = scored_segments(p, grouping)
        means = smoothed(p, grouping.smooth)
        assert spans(found) == loop_spans(means, grouping)
        for score, (label, first, end) in zip(found.score, spans(found), strict=True):
            assert score == pytest.approx(means[first:end, label].mean(), abs=1e-12)


@given(probabilities(), st.integers(0, 7))
def test_smoothing_is_a_mean_of_the_frames_that_there_are(p: np.ndarray, reach: int) -> None:
    expected = [p[max(t - reach, 0) : t + reach + 1].mean(0) for t in range(len(p))]
    np.testing.assert_allclose(smoothed(p, reach), expected, atol=1e-12)


def test_argmax_joins_over_gaps_and_drops_what_is_short() -> None:
    labels = [0, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 0, 1]
    plain = Grouping("argmax")
    assert spans(scored_segments(one_hot(labels), plain)) == loop_runs(labels)
    joined = scored_segments(one_hot(labels), replace(plain, gap=2))
    assert spans(joined) == [(1, 1, 9), (2, 6, 7), (1, 12, 13)]
    assert joined.score.tolist() == [5 / 8, 1, 1]
    assert spans(scored_segments(one_hot(labels), replace(plain, gap=2, min_length=2))) == [(1, 1, 9)]


def test_windows_reach_over_gaps_and_are_cut_back() -> None:
    # A frame of class 1, 13 others, two frames of it: the end is the last of them.
    labels = [0] * 3 + [1] + [0] * 13 + [1, 1] + [0] * 40
    assert spans(scored_segments(one_hot(labels), GROUPINGS["windows"])) == [(1, 3, 19)]
    assert spans(scored_segments(one_hot([1] * 20), GROUPINGS["windows"])) == [(1, 0, 20)]
    assert spans(scored_segments(one_hot([1, 0, 0]), GROUPINGS["windows"])) == []


def test_per_class_segments_overlap_and_actionness_takes_the_best_class() -> None:
    p = np.array([[0.9, 0.1, 0], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [1, 0, 0]])
    found = scored_segments(p, GROUPINGS["per-class"])
    assert spans(found) == [(1, 0, 3), (2, 1, 3)]
    np.testing.assert_allclose(found.score, [0.8 / 3, 0.25])
    found = scored_segments(p, GROUPINGS["actionness"])
    assert spans(found) == [(1, 1, 3)] and found.score.tolist() == pytest.approx([0.35])


def test_background_alone_gives_nothing() -> None:
    for grouping in GROUPINGS.values():
        found = scored_segments(one_hot([0] * 50), grouping)
        assert len(found) == 0 and found.label.dtype == np.int64 and found.score.dtype == np.float64


def test_runs_are_column_by_column() -> None:
    mask = np.array([[1, 0], [1, 1], [0, 1], [1, 1]], bool)
    assert [a.tolist() for a in runs(mask)] == [[0, 0, 1], [0, 3, 1], [2, 4, 4]]


@pytest.mark.parametrize(
    ("p", "grouping", "message"),
    [
        (np.ones(3), GROUPINGS["argmax"], "shape"),
        (np.ones((3, 1)), GROUPINGS["argmax"], "shape"),
        (np.ones((0, 3)), GROUPINGS["argmax"], "shape"),
        (np.array([[1, 0], [2.0, -1.0]]), GROUPINGS["argmax"], "frame 1"),
        (np.array([[np.nan, 1.0]]), GROUPINGS["argmax"], "softmax"),
        (np.eye(2), Grouping("argmax", smooth=-1), "smooth"),
        (np.eye(2), Grouping("argmax", min_length=0), "min_length"),
        (np.eye(2), Grouping("per-class", threshold=1.0), "threshold"),
    ],
)
def test_bad_input(p: np.ndarray, grouping: Grouping, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scored_segments(p, grouping)
