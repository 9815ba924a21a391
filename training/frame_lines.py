"""Frames of a stream that is read line by line.

A line is a frame, a JSON object: `bodies` is a list of poses, or an object of poses by the body's id, each a list of
joints of coordinates in metres; `number` or `time` (in seconds) say when, and without them it is the next frame. Other
keys are not read. What is no such line is counted.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

LONGEST_LINE = 1 << 22  # bytes: some thousand bodies
LARGEST_NUMBER = 2**53  # beyond it a number of frames is no exact time


class Frame(NamedTuple):
    bodies: dict[Any, np.ndarray] | list[np.ndarray]
    number: int | None
    time: float | None


class Lines:
    """The frames of a file of lines, one after another, None for a line that is none; `malformed` counts those.

    Within `with`, SIGINT and SIGTERM are the end of the file: at once while a line is awaited, else after the one at
    hand, so that no frame is half taken. A second one interrupts.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = self.malformed = 0
        self.first_fault = ""
        self._waits = self._ended = False

    def __enter__(self) -> Lines:
        self._former = {which: signal.signal(which, self._end) for which in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self._former.items():
            signal.signal(which, handler)

    def _end(self, *_: object) -> None:
        interrupts, self._ended = self._waits or self._ended, True
        if interrupts:
            raise KeyboardInterrupt

    def __iter__(self) -> Iterator[Frame | None]:
        while line := self._next():
            self.count += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := self._next()) and not rest.endswith(b"\n"):
                    pass
                self.refuse("is too long")
                yield None
            elif line.strip():
                try:
                    frame = frame_of(line)
                except (ValueError, RecursionError) as error:
                    self.refuse(str(error))
                    yield None
                else:
                    yield frame

    def _next(self) -> bytes:
        if self._ended:
            return b""
        try:
            self._waits = True
            return self._file.readline(LONGEST_LINE)
        except KeyboardInterrupt:
            return b""
        finally:
            self._waits = False

    def refuse(self, why: str) -> None:
        """Counts the newest line as none."""
        self.malformed += 1
        self.blame(why)

    def blame(self, why: str) -> None:
        """The first line at fault is told at the end."""
        self.first_fault = self.first_fault or f"line {self.count} {why}"


def frame_of(line: bytes) -> Frame:
    """ValueError, with what is wrong, for a line that is no frame."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not JSON, or is cut ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("bodies"), list | dict):
        raise ValueError("is no object with bodies")
    number, time = content.get("number"), content.get("time")
    if number is not None and type(number) is not int:
        raise ValueError(f"has the number {number!r}, which is no whole number")
    if number is not None and abs(number) > LARGEST_NUMBER:
        raise ValueError("has a number beyond all streams")
    if time is not None and type(time) not in (int, float):
        raise ValueError(f"has the time {time!r}, which is no number")
    try:
        time = None if time is None else float(time)
    except OverflowError:
        raise ValueError("has a time beyond all clocks") from None
    bodies = content["bodies"]
    if isinstance(bodies, dict):
        return Frame({body: pose_of(pose) for body, pose in bodies.items()}, number, time)
    return Frame([pose_of(pose) for pose in bodies], number, time)


def pose_of(pose: Any) -> np.ndarray:
    """`[J, C]` float32; what is too large for it becomes infinite, which the detector leaves out."""
    array = np.array(pose)
    if array.ndim != 2 or array.dtype.kind not in "if":
        raise ValueError("has a pose that is no list of joints of numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
