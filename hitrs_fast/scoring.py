"""Action detection over whole recordings, of any length in bounded memory.

Shape legend: T frames of a track, J joints, C coordinates, N scored frames, w frames of a clip. Width D1 belongs to
frames, D2 to clips.

A *track* is one body from coming in to leaving. Frames that are missing between two of its frames (dropped by the
camera, or on the way) hold the pose before them, at most for a second; a longer gap ends one track and begins another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .heads import FrameClassifier
from .skeleton import is_present

__all__ = ["Scores", "Track", "score_stream"]

CHUNK = 32  # frames, and clips, at a time: larger ones are slower on a CPU, whose caches they leave


class Track(NamedTuple):
    """One body's poses, from its coming in to its leaving."""

    frames: Any
    """`[T, J, C]`, numpy or torch, in metres; zeros are missing joints."""
    numbers: Any = None
    """`[T]` integers, ascending: the number of each frame. Without them 0, 1, 2 and so on."""


class Scores(NamedTuple):
    """Of a recording."""

    numbers: Tensor
    """`[N]` int64, ascending: the frames in which anybody is. On the CPU."""
    probabilities: Tensor
    """`[N, classes]`, on the model's device and in its dtype; each row's sum is 1."""


def score_stream(model: FrameClassifier, tracks: Sequence[Track], fps: float = 30.0, chunk: int = CHUNK) -> Scores:
    """Class probabilities of every frame in which anybody is, without dropout, as `online.Detector` gives them.

    Each track's clips are embedded as `FrameClassifier` does with the prepared track alone; a frame's class scores come
    from the mean embedding of the bodies that are there. A pose of zeros alone means that the body is not there, and
    the next one begins a new track. With centring a track begins when its hip is first there.

    `fps` is frames a second: numbers that are further apart than a second end a track and begin another.
    Memory is that of `chunk` frames and clips, whatever the tracks' lengths, besides the tracks and the scores.
    Raises ValueError for poses of a wrong shape or with nan or infinite coordinates, and for numbers that do not fit.
    """
    check_fps(fps)
    poses, numbers = _checked(model, tracks)
    pieces = [piece for p, n in zip(poses, numbers, strict=True) for piece in _pieces(model, p, n, fps)]
    weight = model.classifier.weight
    frames = torch.cat([n for _, n in pieces] or [torch.zeros(0, dtype=torch.int64)]).unique()
    total = weight.new_zeros(len(frames), weight.shape[0])
    bodies = weight.new_zeros(len(frames), 1)
    with _scoring(model):
        for piece, observed in pieces:
            row = torch.searchsorted(frames, observed).to(weight.device)
            done = 0
            for clips in _clips(model, piece, observed - observed[0], chunk):
                # The classifier is affine: the mean of the bodies' logits is the logit of their mean.
                part = row[done : done + len(clips)]
                total.index_add_(0, part, model.classifier(clips))
                done += len(clips)
            bodies[row] += 1
        return Scores(frames, (total / bodies).softmax(-1))


def check_fps(fps: float) -> None:
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}; it must be a positive number")


@contextmanager
def _scoring(model: FrameClassifier) -> Iterator[None]:
    """Without dropout and without gradients; the model's mode afterwards is that before."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _checked(model: FrameClassifier, tracks: Sequence[Track]) -> tuple[list[Tensor], list[Tensor]]:
    """Every track's poses in the model's precision (where they lie) and their numbers, int64."""
    c = model.encoder.config
    poses, numbers = [], []
    for i, track in enumerate(tracks):
        frames = torch.as_tensor(track.frames).to(model.classifier.weight.dtype)
        number = torch.arange(len(frames)) if track.numbers is None else torch.as_tensor(track.numbers)
        if frames.ndim != 3 or frames.shape[1:] != (c.joints, c.channels):
            raise ValueError(
                f"track {i} has shape {tuple(frames.shape)}; this encoder (layout {c.layout.name!r}) "
                f"takes [frames, {c.joints} joints, {c.channels} coordinates]"
            )
        if number.shape != frames.shape[:1] or number.is_floating_point() or (number.diff() <= 0).any():
            raise ValueError(f"track {i}: its numbers must be {len(frames)} whole numbers, one a frame, ascending")
        wrong = ~frames.isfinite().flatten(1).all(1)
        if wrong.any():
            raise ValueError(
                f"track {i} has nan or infinite coordinates, first in row {int(wrong.nonzero()[0])}: "
                "leave such a frame out, or set the joint to zeros, which means that it is missing"
            )
        poses.append(frames)
        numbers.append(number.long().cpu())
    return poses, numbers


def _pieces(model: FrameClassifier, frames: Tensor, numbers: Tensor, fps: float) -> Iterator[tuple[Tensor, Tensor]]:
    """What a track falls into: poses with every missing frame held `[T', J, C]`, and the numbers that were observed."""
    rows = is_present(frames).any(-1).nonzero()[:, 0].cpu()
    kept = numbers[rows]
    cut = (rows.diff() > 1) | (kept.diff() > fps)
    for piece in rows.tensor_split((cut.nonzero()[:, 0] + 1).tolist()):
        if model.encoder.config.center:
            hip = (frames[piece.to(frames.device), model.encoder.config.layout.hip] != 0).any(-1).cpu()
            piece = piece[hip.cumsum(0) > 0]
        if len(piece):
            observed = numbers[piece]
            steps = torch.nn.functional.pad(observed.diff(), (0, 1), value=1)
            yield frames[piece.repeat_interleave(steps).to(frames.device)], observed


def _clips(model: FrameClassifier, frames: Tensor, centres: Tensor, chunk: int) -> Iterator[Tensor]:
    """Clip embeddings `[some, D2]` of the clips centred on `centres` (ascending rows of `frames` `[T', J, C]`).

    The tokens of twice the padding are carried from one chunk to the next: no frame is encoded twice.
    """
    encoder, windows = model.encoder, model.encoder.windows(1, model.dilate)
    frames = frames.to(model.classifier.weight.device)
    prepared = encoder.prepare(frames, torch.tensor([len(frames)], device=frames.device))
    zero = encoder.frame_tokens(torch.zeros_like(prepared[:1])).expand(windows.pad, -1, -1)
    parts = (encoder.frame_tokens(part) for part in prepared.split(chunk))
    reach = windows.dilate * torch.arange(windows.window)
    held, begin = zero[:0], 0  # row 0 of `held` is the first frame of the clip centred on frame `begin`
    for part in chain([zero], parts, [zero]):
        held = torch.cat([held, part])
        complete = max(len(held) - 2 * windows.pad, 0)
        some = centres[(centres >= begin) & (centres < begin + complete)] - begin
        if len(some):
            yield encoder.clips(held, (some[:, None] + reach).to(frames.device))[0]
        held, begin = held[complete:], begin + complete
