"""Key poses, and how a list of them becomes smooth motion.

A pose names only what differs from standing at ease; all positions are fractions of the stature, all angles degrees:

    pelvis                 shift to the (left, up, forward)
    lean, side, twist      of the chest: forward, to the left, turned left; the pelvis follows in part
    nod, look, turn        head down, head left, the whole body left
    left, right, both      hands, seen from the collar: (out to the own side, up, forward), turning with the chest
    left_at, ...           hands in the room, seen from the spot stood on: (out, height above the floor, forward)
    left_elbow, ...        elbow out and up
    left_foot, ...         foot moved from its stance (out, up, forward)
    left_heel, left_toe    heel up about the toes, foot turned left
    other=dict(...)        the second person, in the same words; two people face each other

Actions are written for the right-handed; the reader mirrors them.
Shape legend: T frames, K key poses, D numbers that describe a pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .body import SIDES, Motion

# At ease. Positions are (out, up, forward) here and in poses, (left, up, forward) in a Motion.
CHANNELS: dict[str, tuple[float, ...]] = {
    "pelvis": (0, 0, 0),
    **dict.fromkeys(("lean", "side", "twist", "nod", "look", "turn"), (0,)),
    **{f"{side}_hand": (0.128, -0.348, 0.03) for side in SIDES},
    **{f"{side}_at": (0, 0, 0) for side in SIDES},
    **{f"{side}_fixed": (0,) for side in SIDES},  # 1 where the hand is held by the room, 0 where by the chest
    **{f"{side}_foot": (0, 0, 0) for side in SIDES},
    **{f"{side}_{part}": (0,) for side in SIDES for part in ("elbow", "heel", "toe")},
}
ENDS = np.cumsum([len(rest) for rest in CHANNELS.values()]).tolist()
COLUMNS = {name: slice(end - len(CHANNELS[name]), end) for name, end in zip(CHANNELS, ENDS, strict=True)}
REST = np.concatenate([np.array(rest, dtype=float) for rest in CHANNELS.values()])
# Seconds by which parts of the body follow the legs, as a chain of muscles does.
DELAYS = {"lean": 0.02, "side": 0.02, "twist": 0.02, "look": -0.06, "nod": 0.04}
DELAYS |= {f"{side}_{part}": 0.05 for side in SIDES for part in ("hand", "at", "fixed", "elbow")}
DELAY = np.concatenate([np.full(len(rest), DELAYS.get(name, 0.0)) for name, rest in CHANNELS.items()])
# How much standing people sway: standard deviations, in units of the channels.
SWAY = {"pelvis": 0.0035, "lean": 0.7, "side": 0.6, "twist": 1.2, "nod": 1.5, "look": 3.0}
SWAY |= {f"{side}_hand": 0.004 for side in SIDES}


@dataclass(frozen=True)
class Pose:
    move: float  # seconds to get here
    hold: float  # seconds to stay
    bodies: tuple[np.ndarray, np.ndarray]  # [D] for the first and the second person; NaN: no place in the room


@dataclass(frozen=True)
class Action:
    """`enter`, then `cycle` as often as time allows, then `leave`; from the pose `start`, or from standing at ease.

    `size`: how much the extent of the movement varies, as a fraction; small where hands must meet something.
    `distance` between two people, in statures; 0: one person. `drive` changes the motion after the key poses.
    """

    name: str
    enter: list[Pose]
    cycle: list[Pose]
    leave: list[Pose]
    start: Pose
    size: float
    distance: float
    drive: Callable[[Motion, np.ndarray, np.random.Generator], None] | None


def pose(move: float, hold: float = 0.0, other: dict[str, Any] | None = None, **channels: Any) -> Pose:
    return Pose(move, hold, (_numbers(channels), _numbers(other or {})))


def action(
    name: str,
    cycle: list[Pose],
    *,
    enter: list[Pose] | None = None,
    leave: list[Pose] | None = None,
    start: Pose | None = None,
    size: float = 0.15,
    distance: float = 0.0,
    drive: Callable[[Motion, np.ndarray, np.random.Generator], None] | None = None,
) -> Action:
    return Action(name, enter or [], cycle, leave or [], start or pose(0), size, distance, drive)


def _numbers(channels: dict[str, Any]) -> np.ndarray:
    """A pose `[D]` in (left, up, forward); hands that no place in the room holds have NaN there."""
    numbers = REST.copy()
    for side, sign in SIDES.items():
        own = {name.replace("both", side, 1): value for name, value in channels.items() if not _of_other(name, side)}
        own = {f"{side}_hand" if name == side else name: value for name, value in own.items()}
        own.setdefault(f"{side}_at", (np.nan,) * 3)
        own[f"{side}_fixed"] = 0.0 if np.isnan(own[f"{side}_at"][0]) else 1.0
        for name, value in own.items():
            numbers[COLUMNS[name]] = value
        for part in ("hand", "at", "foot"):
            numbers[COLUMNS[f"{side}_{part}"].start] *= sign
    return numbers


def _of_other(name: str, side: str) -> bool:
    return any(name.startswith(other) for other in SIDES if other != side)


def perform(what: Action, seconds: np.ndarray, tempo: float, rng: np.random.Generator) -> list[Motion]:
    """The motion of each person at the times `seconds` `[T]`; `tempo` 1 is the speed the poses are written for.

    What does not fit is played faster, and what leaves much time slower; the rest is spent before and after.
    """
    total = float(seconds[-1] - seconds[0])
    fixed, once = _length(what.enter + what.leave), _length(what.cycle)
    repeats = max(1, int((total * tempo - fixed) / once)) if once else 0
    plan = [*what.enter, *what.cycle * repeats, *what.leave]
    times, numbers = _keys(plan, what.start)
    idle = rng.uniform(0.05, 0.35)
    speed = max(float(times[-1]) / total, float(np.clip(times[-1] / total / (1 - idle), 0.7 * tempo, tempo)))
    begin = 0.0 if what.drive else rng.uniform(0.2, 0.8) * (total - times[-1] / speed)
    extent, meeting = rng.uniform(1 - what.size, 1 + what.size), rng.normal(0, 0.012, 2)
    motions = []
    for keys in numbers[: 2 if what.distance else 1]:
        _vary(keys, extent, meeting, rng)
        motion = _motion((seconds - begin) * speed, times, keys)
        if what.drive:
            what.drive(motion, (seconds - begin) * speed, rng)
        _sway(motion, seconds, rng)
        motions.append(motion)
    return motions


def _length(plan: list[Pose]) -> float:
    return sum(step.move + step.hold for step in plan)


def _keys(plan: list[Pose], start: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Key times `[K]` in seconds and the two persons' key poses `[2, K, D]`."""
    times, keys = [0.0], [start.bodies]
    for step in plan:
        for seconds in (step.move, step.hold):
            if seconds:
                times.append(times[-1] + seconds)
                keys.append(step.bodies)
    return np.array(times), np.array(keys).swapaxes(0, 1)


def _vary(keys: np.ndarray, extent: float, meeting: np.ndarray, rng: np.random.Generator) -> None:
    """Scales the movement in place, moves where hands meet things, and makes each repetition a little different."""
    keys[:] = REST + extent * (keys - REST)
    for side in SIDES:
        weight, place, hand = (COLUMNS[f"{side}_{part}"] for part in ("fixed", "at", "hand"))
        keys[:, weight] = keys[:, weight] > 0
        keys[:, place] = _fill(keys[:, place] / extent)
        keys[:, place] += [0, *meeting]
        keys[:, hand] += rng.normal(0, 0.006, (len(keys), 3))


def _fill(places: np.ndarray) -> np.ndarray:
    """`[K, 3]` with NaN replaced by the place before, or by the next one: a hand lets go where it was."""
    known = np.flatnonzero(~np.isnan(places[:, 0]))
    if not len(known):
        return np.zeros_like(places)
    before = np.searchsorted(known, np.arange(len(places)), side="right") - 1
    return places[known[np.maximum(before, 0)]]


def _motion(at: np.ndarray, times: np.ndarray, keys: np.ndarray) -> Motion:
    curves = np.empty((len(at), len(REST)))
    for delay in np.unique(DELAY):
        late = delay == DELAY
        curves[:, late] = interpolate(at - delay, times, keys[:, late])
    return {name: curves[:, at] if at.stop - at.start > 1 else curves[:, at.start] for name, at in COLUMNS.items()}


def interpolate(at: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The curve through `values` `[K, D]` at increasing `times` `[K]`, sampled at `at` `[T]`; `[T, D]`.

    Monotone cubic (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980; tangents by harmonic means): it never
    overshoots a key, passes through those on the way without a stop, and eases in and out of the others.
    """
    if len(times) == 1:
        return np.repeat(values, len(at), 0)
    width = np.diff(times)[:, None]
    slope = np.diff(values, axis=0) / width
    tangent = np.zeros_like(values)
    product = slope[:-1] * slope[1:]
    both = slope[:-1] + slope[1:]
    tangent[1:-1] = np.where(product > 0, 2 * product / np.where(product > 0, both, 1), 0)
    at = np.clip(at, times[0], times[-1])
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    w, u = width[left], (at - times[left])[:, None] / width[left]
    start, end = values[left], values[left + 1]
    ease = u * u * (3 - 2 * u)
    return start + (end - start) * ease + w * u * (1 - u) * ((1 - u) * tangent[left] - u * tangent[left + 1])


def _sway(motion: Motion, seconds: np.ndarray, rng: np.random.Generator) -> None:
    """Adds the slow drift of a body that stands, and breathing."""
    for name, spread in SWAY.items():
        parts = 3 if motion[name].ndim == 2 else 1
        pace, phase = rng.uniform(0.1, 0.6, (3, 1, parts)), rng.uniform(0, 2 * np.pi, (3, 1, parts))
        drift = np.sin(2 * np.pi * pace * seconds[:, None] + phase).sum(0) * spread * np.sqrt(2 / 3)
        motion[name] += drift if parts == 3 else drift[:, 0]
    motion["lean"] += 0.4 * np.sin(2 * np.pi * 0.27 * seconds + rng.uniform(0, 2 * np.pi))
