"""Detections in a stream that is read line by line (`frame_lines.py`): `python -m training.detect --live FILE|-`.

A line that is no frame is skipped and counted, and was a frame to the numbers of those after it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch

from hitrs_fast import FrameClassifier
from hitrs_fast.online import Detection, Detector

from .data.records import DataError
from .frame_lines import Frame, Lines
from .grouping import GroupingOptions, grouping_of
from .metrics.ongoing import Found, OngoingSegments
from .metrics.segments import Grouping
from .setup import load_heads, read_encoder, run_record

FAULTS = {  # of `Skipped`
    "late": "has a time that is none, or not after the one before",
    "not_finite": "has a pose with nan or infinite coordinates",
    "no_hip": "has a pose before the first hip",
}
RATE = 0.2  # part of the frames by which a stream may be slower or faster than the detector's rate without a warning
log = logging.getLogger(__name__)


class Watch:
    """A detector of frames, the segments that its scores make, and what it has seen."""

    def __init__(self, model: FrameClassifier, classes: list[str], fps: float, grouping: Grouping) -> None:
        self.detector = Detector(model, fps)
        self.classes, self.fps, self._grouping = classes, fps, grouping
        self.frames = self.scored = self.found = 0
        self.span = 0
        """Frames that the stream had time for at the detector's rate, without its gaps of over a second."""
        self._missed = 0  # lines since the newest frame that were none
        self._begin()

    def _begin(self) -> None:
        self.segments = OngoingSegments(self._grouping, len(self.classes))
        self._late: tuple[float, float] | None = None  # seconds: times of the first and the newest of late frames

    def push(self, frame: Frame) -> list[dict[str, Any]]:
        """The detections that end with this frame. ValueError for poses that do not fit the model."""
        bodies, number, time = frame
        before = self.detector.newest
        if number is None and time is None and before is not None:
            number = before + 1 + self._missed
        late = self.detector.skipped.late
        scores = self.detector.push(bodies, number, time)
        if self.detector.skipped.late > late:
            return self._restart() if self._is_set_back(number, time) else []
        newest: int = self.detector.newest  # type: ignore[assignment]  # a frame has come
        if before is None:
            self.segments.begin(newest)
        step = 1 if before is None else newest - before
        self.span += step if step <= self.fps else 1
        self._missed, self._late = 0, None
        self.frames += 1
        return self._told(scores)

    def miss(self) -> None:
        """A line was no frame; where frames have neither number nor time, it keeps its place."""
        self._missed += 1

    def finish(self) -> list[dict[str, Any]]:
        last = self.detector.newest
        found = self._told(self.detector.flush())
        rest = [] if last is None else self.segments.skip_to(last + 1)
        return found + self._described([*rest, *self.segments.finish()])

    def _is_set_back(self, number: int | None, time: float | None) -> bool:
        """Whether the frames left out since the newest one are a stream of their own, of more than a second by now."""
        now = time if number is None else number / self.fps
        if now is None or not math.isfinite(now):
            return False
        goes_on = self._late is not None and 0 <= now - self._late[1] <= 1
        self._late = (self._late[0] if goes_on else now, now)  # type: ignore[index]
        return now - self._late[0] > 1

    def _restart(self) -> list[dict[str, Any]]:
        log.warning(
            "the frames of a second all came with times before frame %d's: its time was wrong, or the clock was set "
            "back; the stream ends there for the detector, and another begins",
            self.detector.newest,
        )
        found = self.finish()
        self._begin()
        return found

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
    with file as stream, Lines(stream) as lines:
        for frame in lines:
            take(frame, lines, watching)
        show(watching.finish())
    if not watching.frames:
        raise DataError(
            f"{where}: none of its {lines.count} lines is a frame{lines.first_fault and ': '}{lines.first_fault}"
        )
    report(where, watching, lines)


def take(frame: Frame | None, lines: Lines, watching: Watch) -> None:
    """Shows what the newest line ends, and notes what is wrong with it."""
    if frame is None:
        watching.miss()
        return
    before = dict(vars(watching.detector.skipped))
    try:
        show(watching.push(frame))
    except ValueError as error:
        lines.refuse(str(error))
        watching.miss()
    for name, count in vars(watching.detector.skipped).items():
        if count > before[name]:
            lines.blame(FAULTS[name])


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
