"""Pictures of predicted motion, where matplotlib is installed (extra `viz`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hitrs_fast import SkeletonLayout

from .data.show import bone_lines
from .prediction import Predictions

SHOWN = (0.1, 0.5, 0.9)  # windows at these quantiles of the error
BEFORE, AFTER = 4, 4  # poses of each
SHOWN_BEFORE = 1.0  # seconds of what was seen, in an animation
FRONT = (0, 1)  # the axes of a view from the front
OBSERVED, TRUTH, PREDICTED = "#888888", "#2a7ab9", "#d1602c"


def draw_strip(
    path: Path, found: Predictions, errors: np.ndarray, names: Sequence[str], layout: SkeletonLayout, fps: float
) -> None:
    """Writes a PNG with a row for each of three windows: an easy, a middling and a hard one by their errors `[W]`.

    Observed poses are grey; then the true ones in blue with the predicted ones in orange on top. Below each is its time
    at `fps` frames a second, from the last observed pose on. Nothing without matplotlib.
    """
    if not find_spec("matplotlib"):
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(errors)
    rows = [int(order[round(q * (len(order) - 1))]) for q in SHOWN]
    found = without_missing(found)
    figure = Figure(figsize=(1.1 * (BEFORE + AFTER), 1.7 * len(rows)), dpi=92)
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        axis = figure.add_axes((0.01, 1 - (number + 1) / len(rows), 0.98, 1 / len(rows)))
        _draw_row(axis, found, row, layout, fps)
        axis.set_title(f"{names[row]}: {errors[row]:.0f} mm", fontsize=8, y=0.9, loc="left")
        axis.set_axis_off()
    for left, word, colour in ((0.79, "observed", OBSERVED), (0.865, "true", TRUTH), (0.91, "predicted", PREDICTED)):
        figure.text(left, 0.965, word, color=colour, fontsize=8)
    figure.savefig(path)


def _draw_row(axis, found: Predictions, row: int, layout: SkeletonLayout, fps: float) -> None:
    steps = found.truth.shape[1]
    past = np.linspace(0, found.observed.shape[1] - 1, BEFORE).round().astype(int)
    coming = np.linspace(0, steps - 1, AFTER).round().astype(int)
    poses = [(found.observed[row, at], OBSERVED) for at in past]
    heights = found.truth[row][..., 1]
    size = float(np.nanmax(heights) - np.nanmin(heights)) or 1.0
    for place, (pose, colour) in enumerate(poses):
        _figure(axis, pose, place * size, pose, layout, colour)
    for place, at in enumerate(coming, len(poses)):
        _figure(axis, found.truth[row, at], place * size, found.truth[row, at], layout, TRUTH)
        _figure(axis, found.predicted[row, at], place * size, found.truth[row, at], layout, PREDICTED)
    floor = float(np.nanmin(np.concatenate([found.observed[row, past], found.truth[row, coming]])[..., 1]))
    for place, frames in enumerate([*(past - past[-1]), *(coming + 1)]):
        axis.text(place * size, floor - 0.2 * size, f"{1000 * frames / fps:.0f} ms", fontsize=7, ha="center")
    axis.set_aspect("equal")


def _figure(axis, pose: np.ndarray, shift: float, about: np.ndarray, layout: SkeletonLayout, colour: str) -> None:
    """Bones of a pose `[J, C]`, seen from the front, moved to `shift` as far as brings the hip of `about` there."""
    points = pose[:, :2] - [about[layout.hip, 0], 0] + [shift, 0]
    axis.plot(*_bones(points, layout), color=colour, linewidth=1.1, solid_capstyle="round")


def _bones(pose: np.ndarray, layout: SkeletonLayout) -> np.ndarray:
    """All bones of a pose `[J, C]` as one line `[2, n]` for plotting; a bone to a missing joint (nan) is not drawn."""
    return np.concatenate(list(bone_lines(pose, layout, FRONT).values()), 1)


def draw_animation(
    path: Path, found: Predictions, errors: np.ndarray, names: Sequence[str], layout: SkeletonLayout, fps: float
) -> None:
    """Writes a GIF of the middling window by the errors `[W]`: true poses on the left, predicted ones on the right.

    It plays at `fps` frames a second; both sides begin with the same observed poses, in grey. Nothing without
    matplotlib.
    """
    if not find_spec("matplotlib"):
        return
    from matplotlib.animation import PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = without_missing(found)
    row = int(np.argsort(errors)[len(errors) // 2])
    seen = found.observed[row][-max(1, round(SHOWN_BEFORE * fps)) :]
    sides = {"true": (TRUTH, found.truth[row]), "predicted": (PREDICTED, found.predicted[row])}
    figure = Figure(figsize=(5.2, 3.0), dpi=80)
    FigureCanvasAgg(figure)
    points = np.concatenate([seen, *(poses for _, poses in sides.values())])[..., :2].reshape(-1, 2)
    panels = [_panel(figure, place, title, points) for place, title in enumerate(sides)]
    figure.text(0.01, 0.01, f"{names[row]}: {errors[row]:.0f} mm", fontsize=8)
    writer = PillowWriter(fps=max(1, round(fps)))
    with writer.saving(figure, path, dpi=80):
        for frame in range(len(seen) + len(found.truth[row])):
            coming = frame - len(seen)
            for line, (colour, poses) in zip(panels, sides.values(), strict=True):
                pose = seen[frame] if coming < 0 else poses[coming]
                line.set_data(*_bones(pose, layout))
                line.set_color(OBSERVED if coming < 0 else colour)
            writer.grab_frame()


def _panel(figure, place: int, title: str, points: np.ndarray):
    """One of two axes side by side, wide enough for all `points` `[N, 2]`; gives the line that is to be moved."""
    axis = figure.add_axes((0.01 + 0.5 * place, 0.06, 0.48, 0.84))
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    margin = 0.05 * max(float((high - low).max()), 1e-3)
    axis.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    return axis.plot([], [], linewidth=1.4, solid_capstyle="round")[0]


def without_missing(found: Predictions) -> Predictions:
    """The same with nan for joints that are missing; zeros do not tell, as poses are about the hip."""
    seen = found.observed.shape[1]
    coming = found.there[:, seen:, :, None]
    return found._replace(
        observed=np.where(found.there[:, :seen, :, None], found.observed, np.nan),
        predicted=np.where(coming, found.predicted, np.nan),
        truth=np.where(coming, found.truth, np.nan),
    )
