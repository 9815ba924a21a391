"""Action detection while the frames come in: a class for every frame, half a window later.

Shape legend: J joints, C coordinates, B bodies. Width D1 belongs to frames.

Every pose goes through F-TRS once; its tokens wait in a ring of as many frames as a clip spans, and a frame's scores
cost one clip a body. `scoring.score_stream` gives the same numbers for whole tracks, and says what a track is.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .heads import FrameClassifier
from .scoring import check_fps

__all__ = ["Detection", "Detector", "Skipped"]

SLACK = 0.75  # of a frame: how far a time may lie from that of the next frame and still be its time


class Detection(NamedTuple):
    """The scores of a frame."""

    number: int
    """Of the frame; divided by the detector's `fps` it is a time in seconds."""
    probabilities: Tensor
    """`[classes]`, on the model's device and in its dtype; their sum is 1."""
    bodies: int
    """How many were there."""


@dataclass
class Skipped:
    """What a detector was given and left out."""

    late: int = 0
    """Frames that did not come after the one before, or whose time was nan or infinite."""
    not_finite: int = 0
    """Poses with nan or infinite coordinates: the body counts as not there."""
    no_hip: int = 0
    """Poses before the first of their track that has a hip to centre on, where the encoder centres."""


class _Track:
    """A body since it came in."""

    def __init__(self, pose: Tensor, number: int, ring: int) -> None:
        self.first = self.before = pose  # [J, C]: what centring and motion refer to
        self.tokens: deque[Tensor] = deque(maxlen=ring)  # [J, D1] each
        self.last = number - 1  # the frame of the newest tokens

    def append(self, tokens: Tensor) -> None:
        self.tokens.append(tokens)
        self.last += 1

    def at(self, number: int, zero: Tensor) -> Tensor:
        """A frame's tokens; `zero` before the track and after it."""
        age = self.last - number
        return self.tokens[-1 - age] if 0 <= age < len(self.tokens) else zero


class Detector:
    """Class probabilities of a stream's frames, each `delay` frames later: half a window, 12 frames by default.

    `skipped` counts what was left out. Memory does not grow with the stream. The scores are those of `FrameClassifier`
    on each body's whole track (docs/online.md). Raises ValueError for an `fps` that is not a positive number.

    Args:
        model: put into eval mode. Its weights may change between streams (before the first frame, after `flush`).
        fps: frames a second that the model was trained on. It turns times into frame numbers; and a gap of more than a
            second ends a piece of the stream, whose last frames are scored, and begins another.
    """

    def __init__(self, model: FrameClassifier, fps: float = 30.0) -> None:
        check_fps(fps)
        self.model, self.fps = model.eval(), fps
        windows = model.encoder.windows(1, model.dilate)
        self.delay = windows.pad
        """Frames from a pose to its scores: (window // 2) x dilate."""
        self.skipped = Skipped()
        """What was left out, since the detector was made."""
        self._reach = range(-self.delay, self.delay + 1, windows.dilate)
        self._last: int | None = None  # number of the newest frame
        self._tracks: dict[Hashable, _Track] = {}  # of the bodies in the newest frame
        self._pending: deque[tuple[int, list[_Track]]] = deque()  # frames to be scored, and who is in them
        self._zero: Tensor  # [J, D1]: the zero frame's tokens

    @torch.inference_mode()
    def push(
        self,
        bodies: Mapping[Hashable, Any] | Sequence[Any] | Any,
        number: int | None = None,
        time: float | None = None,
    ) -> list[Detection]:
        """Takes a frame and gives the scores that it completes: mostly one, none at first, several after a gap.

        Args:
            bodies: poses `[J, C]` (numpy or torch, metres) by body id, or `[B, J, C]`, where the id is the place. Zeros
                are missing joints; a pose of zeros alone is a body that is not there. A body that was not in the frame
                before begins a new track, whatever its id.
            number: of the frame; without it, and without a time, the next one. Numbers left out are dropped frames: who
                is there on both sides held still.
            time: in seconds, instead of a number.

        A frame in which nobody is has no scores. Raises ValueError, before anything has changed, for poses of a wrong
        shape and for a number together with a time.
        """
        poses, number = self._poses(bodies), self._number(number, time)
        if number is None or (self._last is not None and number <= self._last):
            self.skipped.late += 1
            return []
        done: list[Detection] = []
        if self._last is None:
            self._begin(number)
        elif number - self._last > self.fps:
            done = self._finish()
            self._last = number - 1
        there = self._there(poses)
        self._tracks = {body: track for body, track in self._tracks.items() if body in there}
        for missing in range(self._last + 1, number):  # type: ignore[operator]
            self._hold()
            done += self._due(missing)
        self._encode(there, number)
        self._last = number
        return done + self._due(number)

    @torch.inference_mode()
    def flush(self) -> list[Detection]:
        """The scores of the last frames. Then the detector is as new, but for its counters."""
        done = self._finish()
        self._last = None
        return done

    @property
    def newest(self) -> int | None:
        """The number of the newest frame; None before the first one."""
        return self._last

    def _poses(self, bodies: Any) -> dict[Hashable, Tensor]:
        c, poses = self.model.encoder.config, {}
        for body, given in (bodies if isinstance(bodies, Mapping) else dict(enumerate(bodies))).items():
            pose = torch.as_tensor(given)
            if pose.shape != (c.joints, c.channels):
                raise ValueError(
                    f"body {body!r} has shape {tuple(pose.shape)}; this encoder (layout {c.layout.name!r}) "
                    f"takes [{c.joints} joints, {c.channels} coordinates] of each body"
                )
            # A copy: callers fill their buffer again, and the pose is needed for the next one's motion.
            poses[body] = pose.to(self.model.classifier.weight, copy=True)
        return poses

    def _number(self, number: int | None, time: float | None) -> int | None:
        """The frame's number; None where its time is none."""
        if time is None:
            following = 0 if self._last is None else self._last + 1
            return following if number is None else operator.index(number)
        if number is not None:
            raise ValueError(f"frame number {number} and time {time} are both given; give one of them")
        place = time * self.fps
        if not math.isfinite(place):
            return None
        # A camera's rate is not quite its nominal one. Without the slack, jitter would drop and hold frames by turns
        # whenever the two are half a frame apart.
        if self._last is not None and abs(place - self._last - 1) < SLACK:
            return self._last + 1
        return round(place)

    def _there(self, poses: dict[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """The poses that can be used."""
        c, there = self.model.encoder.config, {}
        for body, pose in poses.items():
            if not pose.isfinite().all():
                self.skipped.not_finite += 1
            elif c.center and body not in self._tracks and pose.any() and not pose[c.layout.hip].any():
                self.skipped.no_hip += 1
            elif pose.any():
                there[body] = pose
        return there

    def _begin(self, number: int) -> None:
        c, weight = self.model.encoder.config, self.model.classifier.weight
        self._zero = self.model.encoder.frame_tokens(weight.new_zeros(1, c.joints, c.channels))[0]
        self._last = number - 1

    def _hold(self) -> None:
        """A dropped frame: nobody has moved."""
        still = self.model.encoder.config.stream == "motion"
        for track in self._tracks.values():
            track.append(self._zero if still else track.tokens[-1])

    def _encode(self, there: dict[Hashable, Tensor], number: int) -> None:
        for body, pose in there.items():
            if body not in self._tracks:
                self._tracks[body] = _Track(pose, number, ring=2 * self.delay + 1)
        if not there:
            return
        tracks = [self._tracks[body] for body in there]
        # `prepare` reads no other frames of a track: its first one (the hip), the one before (motion) and this one.
        rows = [
            row for track, pose in zip(tracks, there.values(), strict=True) for row in (track.first, track.before, pose)
        ]
        frames = torch.stack(rows)
        lengths = torch.full((len(tracks),), 3, device=frames.device)
        encoder = self.model.encoder
        for track, tokens, pose in zip(
            tracks, encoder.frame_tokens(encoder.prepare(frames, lengths)[2::3]), there.values(), strict=True
        ):
            track.append(tokens)
            track.before = pose
        self._pending.append((number, tracks))

    def _due(self, newest: int) -> list[Detection]:
        """The scores of the frame whose window ends with frame `newest`, if anybody is in it."""
        if self._pending and self._pending[0][0] == newest - self.delay:
            return [self._score(*self._pending.popleft())]
        return []

    def _score(self, number: int, tracks: list[_Track]) -> Detection:
        tokens = torch.stack([track.at(number + k, self._zero) for track in tracks for k in self._reach])
        index = torch.arange(len(tokens), device=tokens.device).view(len(tracks), -1)
        clips, _ = self.model.encoder.clips(tokens, index)
        logits = self.model.classifier(clips.mean(0))
        return Detection(number, logits.softmax(-1), len(tracks))

    def _finish(self) -> list[Detection]:
        """Ends a piece of the stream."""
        done = [self._score(*frame) for frame in self._pending]
        self._pending.clear()
        self._tracks = {}
        return done
