"""Recordings as NTU RGB+D's `.skeleton` text."""

from __future__ import annotations

import numpy as np

FIRST, SECOND = 72057594037931101, 72057594037931104  # the same number in float64

Frames = list[list[tuple[int, np.ndarray]]]  # per frame, per body: id and [25, 3]


def written(frames: Frames, newline: str = "\n") -> bytes:
    """The frames as `.skeleton` text, coordinates as their shortest float32 repr."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies:
            lines += [f"{body} 0 1 1 1 1 0 0.015 -0.11 2", "25"]
            lines += [" ".join(repr(float(v)) if v else str(v) for v in xyz) + OTHERS for xyz in joints]
    return (newline.join(lines) + newline).encode()


OTHERS = " 283.03 224.3 1027.2 -1.#INF -0.25 0.12 0.95 -9.2E-02 2"


def pose(value: float) -> np.ndarray:
    return np.full((25, 3), value, np.float32) + np.arange(25, dtype=np.float32)[:, None] / 8


SOUND = written([[(FIRST, pose(t))] for t in range(3)])
CUT = b"\n".join(SOUND.split(b"\n")[:70])
