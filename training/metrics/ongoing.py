"""Segments of a stream that goes on: what `segments.scored_segments` finds, each as soon as it is certain.

Memory is that of the smoothing's frames and of one open segment a class, however long the stream.

Shape legend: K classes with the background as class 0.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from ..data.records import DataError
from .segments import Grouping


class Found(NamedTuple):
    label: int
    first: int  # frame
    end: int  # the frame after its last
    score: float


class _Open:
    """A segment that may still grow."""

    def __init__(self, first: int) -> None:
        self.first = self.end = first
        self.total = self.total_at_end = 0.0  # of its class's probability, up to now and up to its end


class OngoingSegments:
    """Frames in, segments out. `argmax` and `per-class` alone end without a look at the whole stream.

    Frames that are left out between two numbers are background. Raises DataError for the other methods.
    """

    def __init__(self, grouping: Grouping, classes: int) -> None:
        if grouping.method not in ("argmax", "per-class"):
            raise DataError(f"segments by {grouping.method} need the whole stream; give --method argmax or per-class")
        self._grouping = grouping
        self._background = np.eye(1, classes)[0]
        self._frames: deque[np.ndarray] = deque(maxlen=2 * grouping.smooth + 1)
        self._next = 0  # number of the frame to come
        self._waiting = 0  # frames that are not smoothed yet
        self._open: dict[int, _Open] = {}

    def begin(self, number: int) -> None:
        """The number of the stream's first frame."""
        self._next = number

    def push(self, number: int, probabilities: np.ndarray) -> list[Found]:
        """Takes a frame's probabilities `[K]`; numbers ascend. Gives the segments that are certain now."""
        return [*self.skip_to(number), *self._take(np.asarray(probabilities, np.float64))]

    def skip_to(self, number: int) -> list[Found]:
        """All frames before `number` that have not come are background."""
        quiet = 2 * self._grouping.smooth + self._grouping.gap + 1  # frames after which nothing is open any more
        found = []
        for _ in range(min(number - self._next, quiet)):
            found += self._take(self._background)
        self._next = number
        return found

    def finish(self) -> list[Found]:
        """The stream has ended: gives the rest."""
        found = []
        for _ in range(self._waiting):
            if len(self._frames) > self._grouping.smooth + self._waiting:
                self._frames.popleft()
            found += self._decide()
        return [*found, *(f for label in sorted(self._open) for f in self._closed(label))]

    def _take(self, p: np.ndarray) -> list[Found]:
        self._frames.append(p)
        self._next += 1
        self._waiting += 1
        return self._decide() if self._waiting > self._grouping.smooth else []

    def _decide(self) -> list[Found]:
        """Smooths the oldest frame that waits, and says which segments have ended with it."""
        p = np.mean(self._frames, 0)
        number = self._next - self._waiting
        self._waiting -= 1
        if self._grouping.method == "argmax":
            active = {int(p.argmax())} - {0}
        else:
            active = set((np.flatnonzero(p[1:] > self._grouping.threshold) + 1).tolist())
        for label in active - set(self._open):
            self._open[label] = _Open(number)
        found = []
        for label, segment in list(self._open.items()):
            segment.total += p[label]
            if label in active:
                segment.end, segment.total_at_end = number + 1, segment.total
            elif number - segment.end >= self._grouping.gap:
                found += self._closed(label)
        return found

    def _closed(self, label: int) -> list[Found]:
        segment = self._open.pop(label)
        length = segment.end - segment.first
        if length < self._grouping.min_length:
            return []
        return [Found(label, segment.first, segment.end, float(segment.total_at_end / length))]
