"""mAP of PKU-MMD: the vectors that the official script gives, and the definition in plain loops."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.records import DataError
from training.metrics.detection import DetectionScores, evaluate
from training.metrics.segments import Segments

Row = tuple[int, int, int, float]  # label, start, end as in a file (both belong to the segment), score
TRUTH: list[Row] = [(1, 0, 100, 1), (2, 200, 300, 1)]
# Detections, and what the official script and Pascal VOC's AP of everything say.
VECTORS: list[tuple[list[Row], float, float]] = [
    ([(1, 0, 100, 0.9), (2, 200, 300, 0.8)], 1, 1),
    ([(1, 0, 100, 0.9)], 0.5, 0.5),
    ([(1, 0, 100, 0.9), (3, 400, 500, 0.5), (3, 600, 700, 0.4)], 1 / 6, 0.5),
    ([(1, 0, 100, 0.9), (2, 200, 300, 0.8), (3, 400, 500, 0.5)], 1, 1),
    ([(3, 400, 500, 0.95), (1, 0, 100, 0.9), (2, 200, 300, 0.8)], 2 / 3, 2 / 3),
    ([(1, 0, 100, 0.9), (1, 10, 100, 0.8), (2, 200, 300, 0.7)], 5 / 6, 5 / 6),
    ([(1, 0, 50, 0.9), (2, 200, 300, 0.8)], 1, 1),
    ([(1, 0, 49, 0.9), (2, 200, 300, 0.8)], 0.25, 0.25),
    ([(2, 0, 100, 0.9), (2, 200, 300, 0.8)], 0.25, 0.25),
]


def of_file(rows: list[Row]) -> Segments:
    return Segments.of([(label, start - 1, end, score) for label, start, end, score in rows])


def scores(detected: list[list[Row]], truth: list[list[Row]], classes: int = 3, overlap: float = 0.5):
    return evaluate([of_file(v) for v in detected], [of_file(v) for v in truth], classes, overlap)


@pytest.mark.parametrize(("rows", "official", "voc"), VECTORS)
def test_vectors(rows: list[Row], official: float, voc: float) -> None:
    found = scores([rows], [TRUTH])
    assert found.ap == pytest.approx(official, abs=1e-12) and found.map_v == found.ap
    # VOC's of everything: all classes made one, moved so far apart that they cannot meet.
    apart = [[(1, s + 1000 * label, e + 1000 * label, c) for label, s, e, c in v] for v in (rows, TRUTH)]
    assert scores([apart[0]], [apart[1]], classes=1).class_ap_voc[0] == pytest.approx(voc, abs=1e-12)


# The definition in plain words. Segments are (recording, label, start, end, score); exact fractions throughout.


def brute_overlap(p: tuple, g: tuple, plus: int) -> Fraction:
    if p[:2] != g[:2]:
        return Fraction(0)
    both, hull = min(p[3], g[3]) - max(p[2], g[2]) + plus, max(p[3], g[3]) - min(p[2], g[2]) + plus
    return Fraction(both, hull) if hull else Fraction(1)


def brute_match(proposals: list[tuple], truths: list[tuple], theta: Fraction) -> list[int | None]:
    matches: list[int | None] = []
    for p in proposals:
        best = None
        for i, g in enumerate(truths):
            o = brute_overlap(p, g, plus=0)
            if o >= theta and (best is None or o >= brute_overlap(p, truths[best], plus=0)):
                best = i
        matches.append(best)
    return matches


def brute_ap(proposals: list[tuple], truths: list[tuple], theta: Fraction) -> Fraction:
    proposals = sorted(proposals, key=lambda p: (p[4], p[0], p[2], p[3], p[1]))
    matches = brute_match(proposals, truths, theta)

    def precision_recall() -> tuple[Fraction, Fraction]:
        distinct = len({m for m in matches if m is not None})
        if not matches or not truths:
            return Fraction(0), Fraction(0)
        return Fraction(distinct, len(matches)), Fraction(distinct, len(truths))

    envelope, recall = precision_recall()
    ap = Fraction(0)
    while matches:
        if matches.pop(0) is None:
            continue
        precision, left = precision_recall()
        envelope = max(envelope, precision)
        ap += envelope * (recall - left)
        recall = left
    return ap


def brute_voc(proposals: list[tuple], truths: list[tuple], theta: Fraction) -> Fraction:
    proposals = sorted(proposals, key=lambda p: (p[4], p[0], p[2], p[3], p[1]), reverse=True)
    used, true, points = set(), 0, []
    for number, p in enumerate(proposals, 1):
        best = max(range(len(truths)), key=lambda i: brute_overlap(p, truths[i], plus=1), default=None)
        if best is not None and brute_overlap(p, truths[best], plus=1) >= theta and best not in used:
            used.add(best)
            true += 1
        points.append((Fraction(true, len(truths)), Fraction(true, number)))
    ap = Fraction(0)
    for step in range(1, len(truths) + 1):
        ap += max((p for r, p in points if r >= Fraction(step, len(truths))), default=Fraction(0)) / len(truths)
    return ap


def assert_equal_to_words(found: DetectionScores, p: list[tuple], g: list[tuple], v: int, k: int, theta: Fraction):
    def some(segments: list[tuple], place: int, value: int) -> list[tuple]:
        return [s for s in segments if s[place] == value]

    labels = range(1, k + 1)
    present = [c for c in labels if some(g, 1, c)]
    class_ap = {c: brute_ap(some(p, 1, c), some(g, 1, c), theta) for c in labels}
    voc = [brute_voc(some(p, 1, c), some(g, 1, c), theta) for c in present]
    distinct = len({m for m in brute_match(p, g, theta) if m is not None})
    precision, recall = Fraction(distinct, len(p) or 1), Fraction(distinct, len(g))
    expected = {
        "map_a": sum(class_ap.values()) / k,
        "map_v": sum(brute_ap(some(p, 0, i), some(g, 0, i), theta) for i in range(v)) / v,
        "ap": brute_ap(p, g, theta),
        "ap_2d": sum(brute_ap(p, g, Fraction(i, 20)) for i in range(1, 21)) / 20,
        "f1": 2 * precision * recall / (precision + recall) if distinct else 0,
        "map_a_present": sum(class_ap[c] for c in present) / len(present),
        "map_a_voc": sum(voc) / len(voc),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(float(value), abs=1e-12), name


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[list[Row]], list[list[Row]], int]:
    """Few frames, classes and scores: many equal overlaps, scores and segments; recordings and classes without any."""
    classes = draw(st.integers(1, 3))
    frames = st.tuples(st.integers(1, 12), st.integers(0, 8))
    segment = st.tuples(st.integers(1, classes), frames, st.sampled_from([0.1, 0.2, 0.3, 0.9]))
    rows = st.lists(segment.map(lambda s: (s[0], s[1][0], s[1][0] + s[1][1], s[2])), max_size=6)
    detected, truth = [], []
    for _ in range(draw(st.integers(1, 3))):
        truth.append(draw(rows))
        exact = draw(st.lists(st.sampled_from(truth[-1]), max_size=3)) if truth[-1] else []
        detected.append(draw(rows) + exact)
    if not any(truth):
        truth[0] = [(1, 1, 5, 1.0)]
    return detected, truth, classes


@settings(max_examples=250, deadline=None)
@given(recordings(), st.integers(1, 20))
def test_equals_the_words(case: tuple[list[list[Row]], list[list[Row]], int], twentieths: int) -> None:
    detected, truth, classes = case
    p, g = ([(v, *row) for v, rows in enumerate(side) for row in rows] for side in (detected, truth))
    found = scores(detected, truth, classes, twentieths / 20)
    assert_equal_to_words(found, p, g, len(truth), classes, Fraction(twentieths, 20))
    again = scores([rows[::-1] for rows in detected], truth, classes, twentieths / 20)
    assert (again.map_a, again.map_v, again.map_a_voc) == (found.map_a, found.map_v, found.map_a_voc)


def test_classes_and_recordings_without_labels() -> None:
    found = scores([[(1, 1, 9, 0.5)], [(2, 1, 9, 0.5)]], [[(1, 1, 9, 1)], []], classes=4)
    assert (found.map_a, found.map_a_present, found.map_v) == (0.25, 1, 0.5)
    assert found.class_truths.tolist() == [1, 0, 0, 0] and found.class_detections.tolist() == [1, 1, 0, 0]
    nothing = scores([[]], [[(1, 1, 9, 1)]])
    assert (nothing.map_a, nothing.map_v, nothing.f1, nothing.ap_2d, nothing.map_a_voc) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("detected", "truth", "overlap", "message"),
    [
        ([[]], [TRUTH], 0.0, "overlap is 0"),
        ([[]], [TRUTH], 1.5, "overlap is 1.5"),
        ([[]], [TRUTH], float("nan"), "overlap is nan"),
        ([[], []], [TRUTH], 0.5, "2 recordings"),
        ([], [], 0.5, "no recordings"),
        ([[]], [[]], 0.5, "labelled"),
        ([[(4, 1, 2, 0.5)]], [TRUTH], 0.5, "class 4"),
        ([[(0, 1, 2, 0.5)]], [TRUTH], 0.5, "class 0"),
        ([[], [(1, 5, 2, 0.5)]], [TRUTH, []], 0.5, "recording 1"),
        ([[(1, 1, 2, float("nan"))]], [TRUTH], 0.5, "score nan"),
    ],
)
def test_bad_input(detected: list, truth: list, overlap: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scores(detected, truth, 3, overlap)


def test_a_whole_test_set_takes_seconds() -> None:
    rng = np.random.default_rng(0)

    def video(number: int) -> Segments:
        first = rng.integers(0, 5000, number)
        return Segments(rng.integers(1, 52, number), first, first + rng.integers(20, 200, number), rng.random(number))

    truth, detected = [video(20) for _ in range(132)], [video(1500) for _ in range(132)]  # ten times the usual
    start = time.perf_counter()
    evaluate(detected, truth, 51)
    assert time.perf_counter() - start < 5
