"""Detections in a stream that is read line by line: `python -m training.detect --live FILE|- --init RUN`.

A line is a frame, a JSON object: `bodies` is a list of poses, or an object of poses by the body's id, each a list of
joints of coordinates in metres; `number` or `time` (in seconds) say when, and without them it is the next frame. Other
keys are not read. What is no such line is skipped and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from hitrs_fast import FrameClassifier
from hitrs_fast.online import Detection, Detector

from .data.records import DataError
from .grouping import GroupingOptions, grouping_of
from .metrics.ongoing import Found, OngoingSegments
from .metrics.segments import Grouping
from .setup import load_heads, read_encoder, run_record

LONGEST_LINE = 1 << 22  # bytes: some thousand bodies
RATE = 0.2  # part of the frames by which a stream may be slower or faster than the detector's rate without a warning
log = logging.getLogger(__name__)


class Frame(NamedTuple):
    bodies: dict[Any, np.ndarray] | list[np.ndarray]
    number: int | None
    time: float | None


class Lines:
    """The frames of a file of lines, one after another; `malformed` counts the lines that are none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = self.malformed = 0
        self.first_fault = ""

    def __iter__(self) -> Iterator[Frame]:
        while line := self._file.readline(LONGEST_LINE):
            self.count += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                self.refuse("is too long")
            elif line.strip():
                try:
                    frame = frame_of(line)
                except (ValueError, RecursionError) as error:
                    self.refuse(str(error))
                else:
                    yield frame

    def refuse(self, why: str) -> None:
        """Counts the newest line."""
        self.malformed += 1
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


class Watch:
    """A detector of frames, the segments that its scores make, and what it has seen."""

    def __init__(self, model: FrameClassifier, classes: list[str], fps: float, grouping: Grouping) -> None:
        self.detector = Detector(model, fps)
        self.segments = OngoingSegments(grouping, len(classes))
        self.classes, self.fps = classes, fps
        self.frames = self.scored = self.found = 0
        self._first = self._last = 0  # frame numbers

    def push(self, frame: Frame) -> list[dict[str, Any]]:
        """The detections that end with this frame. ValueError for poses that do not fit the model."""
        late = self.detector.skipped.late
        scores = self.detector.push(*frame)
        if self.detector.skipped.late > late:
            return []
        self._last = self.detector.newest  # type: ignore[assignment]  # a frame has come
        if not self.frames:
            self._first = self._last
            self.segments.begin(self._first)
        self.frames += 1
        return self._told(scores)

    def finish(self) -> list[dict[str, Any]]:
        found = self._told(self.detector.flush())
        return found + self._described([*self.segments.skip_to(self._last + 1), *self.segments.finish()])

    @property
    def span(self) -> int:
        """Frames from the first to the last, at the detector's rate."""
        return self._last - self._first + 1 if self.frames else 0

    def _told(self, scores: list[Detection]) -> list[dict[str, Any]]:
        self.scored += len(scores)
        found = []
        for score in scores:
            found += self.segments.push(score.number, score.probabilities.cpu().numpy())
        return self._described(found)

    def _described(self, found: list[Found]) -> list[dict[str, Any]]:
        self.found += len(found)
        return [
            {
                "action": self.classes[f.label],
                **f._asdict(),
                "score": round(f.score, 5),
                "seconds": [round(f.first / self.fps, 3), round(f.end / self.fps, 3)],
            }
            for f in found
        ]


def watch(where: str, run: Path | None, options: GroupingOptions, device: torch.device) -> None:
    """Prints each detection as it ends, then a line of JSON with counts; DataError if no line is a frame."""
    if run is None:
        raise DataError("--live needs --init RUN, a finished run of training.detect")
    model, record = read_detector(run, device)
    grouping = grouping_of(options, record["fps"], Grouping(**record["grouping"]))
    watching = Watch(model, record["classes"], record["fps"], grouping)
    file: Any = contextlib.nullcontext(sys.stdin.buffer) if where == "-" else open(where, "rb")  # noqa: SIM115
    with file as stream:
        lines = Lines(stream)
        for frame in lines:
            try:
                found = watching.push(frame)
            except ValueError as error:
                lines.refuse(str(error))
            else:
                show(found)
    show(watching.finish())
    if not watching.frames:
        raise DataError(
            f"{where}: none of its {lines.count} lines is a frame{lines.first_fault and ': '}{lines.first_fault}"
        )
    report(where, watching, lines)


def show(found: list[dict[str, Any]]) -> None:
    for line in found:
        print(json.dumps(line), flush=True)


def report(where: str, watching: Watch, lines: Lines) -> None:
    skipped = {"malformed": lines.malformed, **vars(watching.detector.skipped)}
    if any(skipped.values()):
        log.warning(
            "%s: skipped %d lines that are no frame, %d frames whose time is none or not after the one before, %d "
            "poses with nan or infinite coordinates, %d poses before the first hip; %s",
            *(where, *skipped.values(), lines.first_fault or "all lines were frames"),
        )
    window = 2 * watching.detector.delay + 1
    if watching.span < window:
        log.warning("%s: the stream has %d frames, fewer than a window's %d", where, watching.span, window)
    elif abs((watching.frames + skipped["late"]) / watching.span - 1) > RATE:
        log.warning(
            "%s: %d frames came in the time of %d; the detector was trained at %g frames a second",
            *(where, watching.frames + skipped["late"], watching.span, watching.fps),
        )
    counts = {"lines": lines.count, "frames": watching.frames, "scored": watching.scored, "detections": watching.found}
    print(json.dumps(counts | {"skipped": skipped}))


def read_detector(run: Path, device: torch.device) -> tuple[FrameClassifier, dict[str, Any]]:
    """The model of a finished run of detection, and its `run.json`."""
    record = run_record(run, "detect")
    model = FrameClassifier(read_encoder(run), len(record["classes"]), record["dilate"])
    load_heads(model, run)
    return model.to(device), record
