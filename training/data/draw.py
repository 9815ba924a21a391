"""Pictures of skeleton sequences."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from pathlib import Path
from typing import Any

import numpy as np

from hitrs_fast.skeleton import SkeletonLayout

from .records import Sample

COLOURS = {"left": "#2a7ab9", "right": "#d1602c", "": "#333333"}
CELL = (0.84, 0.86)  # inches: one figure
METRES_PER_INCH = 2.6


def contact_sheet(
    samples: Rows[Sample],
    layout: SkeletonLayout,
    path: str | Path,
    frames_per_row: int = 8,
    classes: Rows[str] = (),
) -> None:
    """Writes a PNG with one row of stick figures for each sample, at evenly spaced frames, seen from the front.

    `classes` names the labels, which are numbers otherwise. Left limbs are blue, right ones orange, a second body is
    paler. Frames in which a body is missing (all zeros) are left empty. Raises ImportError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'hitrs-fast[viz]'") from error
    width, height = CELL[0] * frames_per_row + 1.1, CELL[1] * len(samples)
    figure = Figure(figsize=(width, height), dpi=92)
    FigureCanvasAgg(figure)
    for row, sample in enumerate(samples):
        axis = figure.add_axes((0, 1 - (row + 1) / len(samples), 1, 1 / len(samples)))
        _row(axis, sample, layout, frames_per_row, classes)
    figure.savefig(path)


def _row(axis: Any, sample: Sample, layout: SkeletonLayout, columns: int, classes: Rows[str]) -> None:
    shown = [s.joints[..., :2] for s in sample.sequences]
    there = np.concatenate([s[s.any((1, 2))].reshape(-1, 2) for s in shown])
    middle, floor = there.mean(0)[0], np.quantile(there[:, 1], 0.005)
    cell, margin = CELL[0] * METRES_PER_INCH, 1.1 * METRES_PER_INCH
    for column, frame in enumerate(np.linspace(0, sample.frames - 1, columns).round().astype(int)):
        shift = (margin + (column + 0.5) * cell - middle, -floor)
        for number, (sequence, points) in enumerate(zip(sample.sequences, shown, strict=True)):
            at = frame - sequence.first_frame
            if 0 <= at < len(points) and points[at].any():
                _figure(axis, points[at] + shift, layout, 0.45 if number else 1.0)
    axis.plot([margin, margin + columns * cell], [0, 0], color="#cccccc", linewidth=0.6, zorder=0)
    title = classes[sample.label] if classes and sample.label >= 0 else f"class {sample.label}"
    axis.text(0.1, 1.0, f"{title}\n{sample.frames} frames", fontsize=8, va="center")
    axis.set(xlim=(0, margin + columns * cell), ylim=(-0.08, CELL[1] * METRES_PER_INCH - 0.08))
    axis.set_axis_off()


def _figure(axis: Any, points: np.ndarray, layout: SkeletonLayout, strength: float) -> None:
    """One skeleton `[J, 2]`: each joint is joined to the one it hangs from."""
    for joint, parent in enumerate(layout.parents):
        if parent >= 0:
            side = next((s for s in ("left", "right") if s in layout.joint_names[joint]), "")
            ends = points[[joint, parent]].T
            axis.plot(*ends, color=COLOURS[side], linewidth=1.3, alpha=strength, solid_capstyle="round", clip_on=False)
