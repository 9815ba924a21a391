"""Walking, which is a rule rather than a list of poses.

Shape legend: T frames.
"""

from __future__ import annotations

import numpy as np

from .body import FOOT_LENGTH, SIDES, Motion

STANCE = 0.055  # half the distance between the lines the feet walk on


def walk(motion: Motion, seconds: np.ndarray, rng: np.random.Generator) -> None:
    """Changes a standing motion in place into walking along a circle: a planted foot swings to its next footprint.

    Distances are fractions of the stature; phase n is the moment foot n (odd: left) lands at arc length n * step.
    The body starts from both feet, and walks until the end of `seconds` `[T]`.
    """
    step, pace, radius = rng.uniform(0.24, 0.33), rng.uniform(1.5, 1.9), rng.uniform(0.45, 0.7)
    phase = np.clip(seconds * pace - 0.3, 0, None)
    middle = step * _eased(phase - 0.5)
    going = np.clip(phase, 0, 1)
    sway = -0.014 * np.sin(np.pi * phase) * going
    motion["turn"] += np.degrees(middle / radius)
    motion["pelvis"] += _on_circle(middle, sway, 0.0, radius)
    motion["lean"] += 3 * going
    motion["twist"] -= 5 * np.cos(np.pi * phase) * going
    for side, sign in SIDES.items():
        swing = sign * np.cos(np.pi * phase) * going  # the left hand is ahead when the right foot is
        lifted = 0.012 * (going + swing**2)
        motion[f"{side}_hand"] += np.stack([0 * swing, lifted, 0.02 * going + 0.085 * swing], -1)
        place, lift = _footfall(phase, 1 if side == "left" else 0, step)
        lag = (middle - place) / step
        motion[f"{side}_heel"] += 38 * np.clip((lag - 0.2) / 0.8, 0, 1) ** 1.5
        motion[f"{side}_toe"] += np.degrees(place / radius)
        motion[f"{side}_foot"] += _on_circle(place, sign * STANCE, FOOT_LENGTH, radius)
        motion[f"{side}_foot"] -= [sign * STANCE, 0.0, FOOT_LENGTH]
        motion[f"{side}_foot"][:, 1] += lift


def _eased(phase: np.ndarray) -> np.ndarray:
    """0 before phase 0 and `phase` after it, with half a step of getting under way."""
    start = np.clip(phase + 0.25, 0, 0.5)
    return start**2 + np.maximum(phase - 0.25, 0)


def _footfall(phase: np.ndarray, parity: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Arc length and lift `[T]` of the foot that lands at the phases n with n % 2 == parity."""
    swinging = np.floor(phase).astype(int) + 1
    own = swinging % 2 == parity
    target = np.where(own, swinging, swinging - 1)
    part = np.where(own, np.clip((phase - swinging + 1) / 0.9, 0, 1), 1.0)
    ease = part**3 * (10 - 15 * part + 6 * part**2)
    start, end = (step * np.maximum(n, 0) for n in (target - 2, target))
    return start + (end - start) * ease, 0.035 * np.sin(np.pi * part) * (end > start)


def _on_circle(arc: np.ndarray, left: np.ndarray | float, ahead: float, radius: float) -> np.ndarray:
    """The place `[T, 3]` that lies `left` and `ahead` of the point at `arc` on a circle that turns left."""
    sine, cosine = np.sin(arc / radius), np.cos(arc / radius)
    x = radius * (1 - cosine) + left * cosine + ahead * sine
    z = radius * sine - left * sine + ahead * cosine
    return np.stack([x, np.zeros_like(x), z], -1)
