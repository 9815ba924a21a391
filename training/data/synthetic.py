"""The built-in demo data: labelled human motion as a Kinect v2 would see it, made from nothing but a seed.

Coordinates are Kinect's: metres, x to the right of the (mirrored) picture, y up, z away from the camera.
Shape legend: T frames, J joints.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hitrs_fast.skeleton import NTU25

from .body import Body, skeleton
from .motions import ACTIONS
from .poses import Action, perform
from .records import DataError, Sample, Sequence, Source

FPS = 30.0
SUBJECTS = 20
VIEWS = (0.0, 45.0, -45.0)  # degrees by which people are turned away from each camera
CAMERA_HEIGHTS = (1.0, 0.95, 1.05)  # metres
TEST_CAMERA = 0
FIRST_BODY = 72057594037927936  # 2**56; Kinect's ids lie close to it, and float64 merges neighbours
NOISE_AT = {"tip": 2.2, "thumb": 2.2, "hand": 1.6, "foot": 1.6, "wrist": 1.3, "ankle": 1.3}  # that of the trunk is 1


def _unsteadiness(name: str) -> float:
    return next((factor for part, factor in NOISE_AT.items() if part in name), 1.0)


NOISE = np.array([_unsteadiness(name) for name in NTU25.joint_names])


class DemoReader:
    """`count` samples of 16 actions by 20 subjects before 3 cameras, in NTU's joint order and length distribution.

    Sample i depends on `seed` and i alone. Raises DataError where `count` is not positive.
    """

    def __init__(self, count: int = 600, seed: int = 0) -> None:
        if count < 1:
            raise DataError(f"demo data: count is {count}; ask for at least one sample")
        if seed < 0:
            raise DataError(f"demo data: seed is {seed}; it must not be negative")
        self.count, self.seed = count, seed
        self.skipped: list[tuple[str, str]] = []
        keys = [(_name(i), *_key(i)) for i in range(count)]
        self.source = Source(
            layout=NTU25,
            fps=FPS,
            classes=[a.name for a in ACTIONS],
            reader="demo",
            options={"count": count, "seed": seed},
            splits={
                "cross-subject": [name for name, _, subject, _, _ in keys if subject % 2 == 0],
                "cross-view": [name for name, _, _, camera, _ in keys if camera != TEST_CAMERA],
            },
        )

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(i) for i in range(self.count))

    def sample(self, index: int) -> Sample:
        label, subject, camera, _ = _key(index)
        rng = np.random.default_rng([self.seed, index])
        tracks = film(ACTIONS[label], subject, camera, self.seed, rng)
        first = FIRST_BODY + int(rng.integers(1000)) * 16
        sequences = [
            Sequence((track + _noise(len(track), rng)).astype(np.float32), first + n) for n, track in enumerate(tracks)
        ]
        return Sample(_name(index), len(tracks[0]), sequences, label, subject, camera, setup=0)


def _key(index: int) -> tuple[int, int, int, int]:
    """Label, subject, camera and repetition: labels in turn, and for each label all 60 pairs of subject and camera."""
    turn, label = divmod(index, len(ACTIONS))
    pair = turn + label  # so that few samples have many subjects already
    return label, pair % SUBJECTS, pair % len(VIEWS), turn // (SUBJECTS * len(VIEWS))


def _name(index: int) -> str:
    label, subject, camera, repetition = _key(index)
    return f"S001C{camera + 1:03}P{subject + 1:03}R{repetition + 1:03}A{label + 1:03}"


def film(what: Action, subject: int, camera: int, seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The noise-free tracks `[T, J, 3]` float64 of one performance, one for each person, as `camera` sees them."""
    frames = int(np.clip(rng.lognormal(4.33, 0.42), 20, 300))
    actors = [subject, (subject + 2 * int(rng.integers(1, SUBJECTS // 2))) % SUBJECTS]  # on the same side of the split
    bodies = [_actor(seed, number) for number in actors]
    tempo, hand = _manner(seed, subject)
    motions = perform(what, np.arange(frames) / FPS, tempo * rng.uniform(0.88, 1.14), rng)
    unit = float(np.mean([body.stature for body in bodies[: len(motions)]]))
    tracks = [skeleton(body, motion, unit) for body, motion in zip(bodies, motions, strict=False)]
    if rng.random() < (0.1 if hand > 0 else 0.9):
        tracks = [mirrored(track) for track in tracks]
    if what.distance:
        tracks = _face_to_face(tracks, what.distance * unit)
    return _before_camera(tracks, camera, rng)


def _actor(seed: int, subject: int) -> Body:
    rng = np.random.default_rng([seed, subject, 1])
    legs, arms, width = rng.normal(1, 0.025, 3)
    stature, stance, toe_out, slouch = rng.uniform([1.55, 0.048, 3, 0], [1.88, 0.072, 14, 6])
    return Body(stature, legs, arms, width, stance, toe_out, slouch)


def _manner(seed: int, subject: int) -> tuple[float, int]:
    """A subject's tempo and handedness (1 right, -1 left)."""
    rng = np.random.default_rng([seed, subject, 2])
    return rng.uniform(0.85, 1.18), 1 if rng.random() < 0.75 else -1


def mirrored(track: np.ndarray) -> np.ndarray:
    """The track `[T, J, 3]` in the body frame with left and right exchanged."""
    return track[:, list(NTU25.mirror)] * [-1.0, 1.0, 1.0]


def _face_to_face(tracks: list[np.ndarray], distance: float) -> list[np.ndarray]:
    """Two tracks in one frame whose first person looks along z, in profile to the camera after a quarter turn."""
    first, second = tracks[0] - [0, 0, distance / 2], tracks[1] - [0, 0, distance / 2]
    return [_turned(first, 90), _turned(second, -90)]


def _before_camera(tracks: list[np.ndarray], camera: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Turns body frames so that people face the camera, and puts them 2.6 to 3.6 m before it."""
    angle = 180 + VIEWS[camera] + rng.normal(0, 8)
    place = np.array([rng.normal(0, 0.2), -CAMERA_HEIGHTS[camera], rng.uniform(2.6, 3.6)])
    seen = [_turned(track, angle) for track in tracks]
    middle = np.mean([track[:, 0].mean(0) for track in seen], 0) * [1, 0, 1]
    return [track - middle + place for track in seen]


def _turned(track: np.ndarray, degrees: float) -> np.ndarray:
    """`track` rotated about the vertical axis, z towards x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return track @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _noise(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Errors `[T, J, 3]` in metres: half of the power slow (about 0.2 s), larger at the ends of limbs and in depth."""
    apart = np.subtract.outer(np.arange(frames), np.arange(frames))
    smooth = np.exp(-0.5 * (apart / 4.0) ** 2)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)
    slow = (smooth @ rng.standard_normal((frames, len(NOISE) * 3))).reshape(frames, -1, 3)
    fast = rng.standard_normal((frames, len(NOISE), 3))
    return rng.uniform(0.7, 1.3) * NOISE[:, None] * [1, 1, 1.3] * (0.0028 * slow + 0.0014 * fast)
