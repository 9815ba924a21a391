"""Options, of several commands, that say how frame scores become segments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from .data.records import DataError
from .metrics.segments import GROUPINGS, Grouping
from .setup import at_least

USUAL_FPS = 30.0  # of the data sets whose values `GROUPINGS` and the paper's dilate are


@dataclass(kw_only=True)
class GroupingOptions:
    """In frames. What is not given is as it was in the run, or else the method's value scaled to the data's rate."""

    method: Literal["argmax", "windows", "per-class", "actionness"] | None = None
    """How frame scores become segments; argmax unless given (docs/detection.md)."""
    smooth: int | None = None
    """Frames either side over which scores are averaged first; argmax: 1/6 s, the others: 0."""
    gap: int | None = None
    """Segments of a class at most so many frames apart become one; argmax: 1/2 s, the others: 0."""
    min_length: int | None = None
    """Segments of fewer frames are dropped; argmax: 0.4 s, the others: 1."""
    threshold: float | None = None
    """Of per-class (0.02), actionness (0.4) and windows (0.1)."""


def grouping_of(options: GroupingOptions, fps: float, before: Grouping | None = None) -> Grouping:
    """`before`: how the run at hand did it, unless --method says otherwise. DataError for a value out of range."""
    at_least("smooth", options.smooth, 0)
    at_least("gap", options.gap, 0)
    at_least("min-length", options.min_length, 1)
    if options.threshold is not None and not 0 <= options.threshold < 1:
        raise DataError(f"--threshold is {options.threshold}; it must be in 0 to 1, 1 excluded")
    if before is None or options.method not in (None, before.method):
        before = scaled(GROUPINGS[options.method or "argmax"], fps)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(GroupingOptions)}
    return dataclasses.replace(before, **{name: value for name, value in given.items() if value is not None})


def scaled(usual: Grouping, fps: float) -> Grouping:
    return dataclasses.replace(
        usual,
        smooth=in_frames(usual.smooth, fps),
        gap=in_frames(usual.gap, fps),
        min_length=max(1, in_frames(usual.min_length, fps)),
    )


def in_frames(usual: int, fps: float) -> int:
    """Frames at `fps` that last as long as `usual` frames at 30 frames/s."""
    return round(usual * fps / USUAL_FPS)
