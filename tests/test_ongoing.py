"""Segments found while a stream goes on are those of the whole stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.records import DataError
from training.metrics.ongoing import Found, OngoingSegments
from training.metrics.segments import GROUPINGS, Grouping, scored_segments


def background(classes: int) -> np.ndarray:
    return np.eye(1, classes)[0]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_they_are_those_of_the_whole_stream(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    frames, classes = data.draw(st.integers(1, 60)), data.draw(st.integers(2, 4))
    p = rng.dirichlet(np.full(classes, 0.3), frames)
    if data.draw(st.booleans()):  # longer runs
        p = p[np.sort(rng.integers(0, frames, frames))]
    there = rng.random(frames) < data.draw(st.sampled_from([0.5, 0.9, 1.0]))
    hole = data.draw(st.integers(0, frames))
    there[hole : hole + data.draw(st.integers(0, 40))] = False
    p[~there] = background(classes)
    smooth, gap, least = (data.draw(st.integers(*limits)) for limits in ((0, 3), (0, 4), (1, 3)))
    method, threshold = data.draw(st.sampled_from([("argmax", 0.0), ("per-class", 0.1)]))
    grouping = Grouping(method, smooth, gap, least, threshold)
    start = data.draw(st.integers(-5, 5))

    ongoing = OngoingSegments(grouping, classes)
    ongoing.begin(start)
    found: list[Found] = []
    for number in np.flatnonzero(there).tolist():
        found += ongoing.push(number + start, p[number])
    found += [*ongoing.skip_to(frames + start), *ongoing.finish()]
    whole = scored_segments(p, grouping)
    found = sorted(found, key=lambda f: (f.first, f.end, f.label))
    expected = zip(whole.label.tolist(), whole.first.tolist(), whole.end.tolist(), strict=True)
    assert [(f.label, f.first - start, f.end - start) for f in found] == list(expected)
    np.testing.assert_allclose([f.score for f in found], whole.score, atol=1e-9)


def test_a_segment_is_told_once_nothing_can_join_it() -> None:
    ongoing = OngoingSegments(Grouping("argmax", smooth=0, gap=2), 2)
    action = np.array([0.2, 0.8])
    told = [len(ongoing.push(n, action if n < 4 else background(2))) for n in range(8)]
    assert told == [0, 0, 0, 0, 0, 0, 1, 0]


def test_a_long_hole_takes_neither_time_nor_memory() -> None:
    ongoing = OngoingSegments(GROUPINGS["argmax"], 2)
    action = np.array([0.1, 0.9])
    for n in range(20):
        ongoing.push(n, action)
    [found] = ongoing.push(10**15, action)
    assert (found.label, found.first) == (1, 0)
    assert len(ongoing._frames) <= 11 and not ongoing._open


@pytest.mark.parametrize("method", ["windows", "actionness"])
def test_methods_that_need_the_whole_stream_are_refused(method: str) -> None:
    with pytest.raises(DataError, match="need the whole stream"):
        OngoingSegments(GROUPINGS[method], 3)
