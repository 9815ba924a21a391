"""Pictures of detection, where matplotlib is installed (extra `viz`): timelines, precision against recall."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics.segments import Segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 20  # more classes have no colours of their own in the curves
INCHES = 11.0
LEGEND_COLUMNS = 7


def draw_timeline(
    path: Path, name: str, truth: Segments, found: Segments, frames: int, classes: list[str], fps: float
) -> None:
    """Writes a PNG: labelled segments above, detected ones below, paler the lower their score."""
    if not find_spec("matplotlib"):
        return
    shown = np.union1d(truth.label, found.label).tolist()
    rows = max(1, -(-len(shown) // LEGEND_COLUMNS))
    figure = _figure(INCHES, 1.6 + 0.2 * rows)
    axis = figure.add_subplot()
    colours = dict(zip(shown, _colours(len(shown)), strict=True))
    for segments, low in ((truth, 1.1), (found, 0.0)):
        order = np.argsort(segments.score, kind="stable").tolist()
        for index in order:
            first, end, label = segments.first[index], segments.end[index], int(segments.label[index])
            opacity = 1.0 if segments is truth else 0.35 + 0.65 * float(segments.score[index])
            axis.barh(
                low, (end - first) / fps, left=first / fps, height=0.9, align="edge", color=colours[label],
                alpha=opacity, edgecolor="white", linewidth=0.5,
            )  # fmt: skip
    axis.set(xlim=(0, frames / fps), ylim=(-0.08, 2.08), xlabel="seconds")
    axis.set_yticks([1.55, 0.45], ["labelled", "detected"])
    axis.set_title(name, loc="left", fontsize=10)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    _legend(figure, [(classes[label], colours[label]) for label in shown])
    figure.savefig(path)


def draw_precision_recall(path: Path, curves: list[tuple[np.ndarray, np.ndarray]], classes: list[str]) -> None:
    """Writes a PNG of the curves that `precision_recall` gives: of each class with detections, and of all in black."""
    if not find_spec("matplotlib"):
        return
    own = [(name, *curve) for name, curve in zip(classes[1:], curves[:-1], strict=True) if len(curve[0]) > 1]
    coloured = len(own) <= MANY
    colours = _colours(len(own)) if coloured else ["#b8c4d0"] * len(own)
    figure = _figure(7.6 if coloured else 5.6, 4.8)
    axis = figure.add_subplot()
    for (_, precision, recall), colour in zip(own, colours, strict=True):
        axis.plot(recall[1:], precision[1:], color=colour, linewidth=1.3 if coloured else 0.7)
    precision, recall = curves[-1]
    axis.plot(recall[1:], precision[1:], color="black", linewidth=2.2)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="at an overlap of 0.5")
    axis.grid(color="#e4e4e4", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    entries = [(name, colour) for (name, *_), colour in zip(own, colours, strict=True)] if coloured else []
    _legend(figure, [("all classes", "black"), *entries], beside=True)
    figure.savefig(path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=92, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(figure: Figure, entries: list[tuple[str, Any]], beside: bool = False) -> None:
    from matplotlib.patches import Patch

    if entries:
        place: Any = "outside center right" if beside else "outside lower center"
        columns = 1 if beside else min(len(entries), LEGEND_COLUMNS)
        patches = [Patch(color=colour, label=name) for name, colour in entries]
        figure.legend(handles=patches, loc=place, ncols=columns, frameon=False, fontsize=9, handlelength=1.0)


def _colours(count: int) -> list[Any]:
    """So many colours that differ."""
    from matplotlib import colormaps

    if count <= 10:
        return [colormaps["tab10"](i) for i in range(count)]
    if count <= MANY:
        return [colormaps["tab20"](i) for i in range(count)]
    return [colormaps["hsv"](i / count) for i in range(count)]
