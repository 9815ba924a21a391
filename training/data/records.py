"""What a reader hands to the store: recordings, each with the tracks of the bodies in it.

Words: a *sequence* is one body's track; a *sample* is one recording with one or more sequences.
Shape legend: T frames, J joints, C coordinates (metres), S labelled segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hitrs_fast.skeleton import SkeletonLayout

UNKNOWN = -1


class DataError(Exception):
    """Input that cannot be used. Its text is one sentence that names the file and what is wrong."""


class Interrupted(DataError):
    """The system, not the data, stopped a conversion. What is finished stays, and the same command goes on with it."""


@dataclass
class Sequence:
    """One body's track, without holes: frames in which the body is missing are all zeros."""

    joints: np.ndarray  # [T, J, C] float32, metres
    body: int = 0  # the sensor's body id; needs int64 (Kinect's ids have 17 digits)
    first_frame: int = 0  # within the sample
    confidence: np.ndarray | None = None  # [T, J] float32 in 0..1


@dataclass
class Sample:
    """One recording. Labels, subjects, cameras and setups are integers; -1 means unknown."""

    name: str
    frames: int  # length of the recording
    sequences: list[Sequence]
    label: int = UNKNOWN  # 0..classes-1
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    setup: int = UNKNOWN
    segments: list[tuple[int, int, int]] = field(default_factory=list)  # (label, first frame, end frame exclusive)


@dataclass
class Source:
    """What a reader knows about a data set as a whole."""

    layout: SkeletonLayout
    channels: int = 3
    fps: float = float("nan")  # nan: unknown
    classes: list[str] = field(default_factory=list)
    reader: str = ""
    options: dict[str, Any] = field(default_factory=dict)  # of the reader, recorded in the store
    path: str = ""  # where the raw data were
    splits: dict[str, list[str]] = field(default_factory=dict)  # name -> names of the training samples
    # What the data set's authors or the field count: "samples", "frames", "segments", or training samples of a split.
    published: dict[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """Yields samples in an order that depends on the data alone; appends `(name, reason)` to `skipped`."""

    source: Source
    skipped: list[tuple[str, str]]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


@runtime_checkable
class Resumable(Protocol):
    """A reader that can leave out what it has yielded before, without reading it."""

    def start_after(self, name: str) -> None:
        """Later iterations begin after the sample `name`."""
