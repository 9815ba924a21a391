"""Errors of predicted poses in millimetres, and the two predictions that need no learning.

Shape legend: W windows, n observed poses, T predicted frames, J joints, C coordinates in metres.
"""

from __future__ import annotations

import numpy as np

HORIZONS = (80, 160, 320, 400)  # ms after the last observed frame, as Martinez et al. (CVPR 2017) print them
SLACK = 0.25  # part of a horizon by which its frame may lie before or after it


def joint_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances `[W, T, J]` in mm, float64, of poses `[W, T, J, C]`. ValueError if one is not finite."""
    errors = 1000 * np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1)
    if not np.isfinite(errors).all():
        raise ValueError(
            "predicted poses are not finite; the training diverged (try a lower --lr), or the weights are damaged"
        )
    return errors


def mpjpe(errors: np.ndarray, counted: np.ndarray, fps: float) -> dict[str, float]:
    """The mean error over all counted joints, frames and windows, and that of the frame nearest to each horizon.

    errors: `[W, T, J]`; counted: `[W, T, J]` bool, of which each frame must have one. Horizons beyond T are left out,
    as are those to which no frame is near at this rate.
    """
    if not counted.any((0, 2)).all():
        raise ValueError("a predicted frame has no joint to be counted")
    frames = np.where(counted, errors, 0).sum((0, 2)) / counted.sum((0, 2))
    figures = {"mpjpe_mm": float(errors[counted].mean())}
    for ms in HORIZONS:
        exact = ms * fps / 1000
        if abs(round(exact) - exact) <= SLACK * exact and round(exact) <= len(frames):
            figures[f"mpjpe_{ms}ms_mm"] = float(frames[round(exact) - 1])
    return figures


def window_errors(errors: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The mean `[W]` over each window's counted joints and frames, of which it must have one."""
    return np.where(counted, errors, 0).sum((1, 2)) / counted.sum((1, 2))


def last_pose(observed: np.ndarray, steps: int) -> np.ndarray:
    """The last of the poses `[W, n, J, C]` repeated: `[W, steps, J, C]`."""
    return np.repeat(observed[:, -1:], steps, 1)


def constant_velocity(observed: np.ndarray, steps: int) -> np.ndarray:
    """The last step of the poses `[W, n >= 2, J, C]` repeated: `[W, steps, J, C]`."""
    step = np.arange(1, steps + 1)[:, None, None]
    return observed[:, -1:] + step * (observed[:, -1:] - observed[:, -2:-1])
