"""Pictures of predicted motion, where matplotlib is installed (extra `viz`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hitrs_fast import SkeletonLayout

from .prediction import Predictions

SHOWN = (0.1, 0.5, 0.9)  # windows at these quantiles of the error
BEFORE, AFTER = 4, 4  # poses of each
OBSERVED, TRUTH, PREDICTED = "#888888", "#2a7ab9", "#d1602c"


def draw_strip(
    path: Path, found: Predictions, errors: np.ndarray, names: Sequence[str], layout: SkeletonLayout
) -> None:
    """Writes a PNG with a row for each of three windows: an easy, a middling and a hard one by their errors `[W]`.

    Observed poses are grey; then the true ones in blue with the predicted ones in orange on top. Nothing without
    matplotlib.
    """
    if not find_spec("matplotlib"):
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(errors)
    rows = [int(order[round(q * (len(order) - 1))]) for q in SHOWN]
    figure = Figure(figsize=(1.1 * (BEFORE + AFTER), 1.7 * len(rows)), dpi=92)
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        axis = figure.add_axes((0, 1 - (number + 1) / len(rows), 1, 1 / len(rows)))
        _draw_row(axis, found, row, layout)
        axis.set_title(f"{names[row]}: {errors[row]:.0f} mm", fontsize=8, y=0.9, loc="left")
        axis.set_axis_off()
    figure.savefig(path)


def _draw_row(axis, found: Predictions, row: int, layout: SkeletonLayout) -> None:
    steps = found.truth.shape[1]
    past = np.linspace(0, found.observed.shape[1] - 1, BEFORE).round().astype(int)
    coming = np.linspace(0, steps - 1, AFTER).round().astype(int)
    poses = [(found.observed[row, at], OBSERVED) for at in past]
    size = np.ptp(found.truth[row][..., 1]) or 1.0
    for place, (pose, colour) in enumerate(poses):
        _figure(axis, pose, place * size, pose, layout, colour)
    for place, at in enumerate(coming, len(poses)):
        _figure(axis, found.truth[row, at], place * size, found.truth[row, at], layout, TRUTH)
        _figure(axis, found.predicted[row, at], place * size, found.truth[row, at], layout, PREDICTED)
    axis.set_aspect("equal")


def _figure(axis, pose: np.ndarray, shift: float, about: np.ndarray, layout: SkeletonLayout, colour: str) -> None:
    """Bones of a pose `[J, C]`, seen from the front, moved to `shift` as far as brings the hip of `about` there."""
    points = pose[:, :2] - [about[layout.hip, 0], 0] + [shift, 0]
    for joint, parent in enumerate(layout.parents):
        if parent >= 0 and pose[joint].any() and pose[parent].any():
            axis.plot(*points[[joint, parent]].T, color=colour, linewidth=1.1, solid_capstyle="round")
