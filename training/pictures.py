"""Pictures of results, where matplotlib is installed (extra `viz`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

NAMED = 60  # more classes have no names on the axes
WRITTEN = 25  # more classes have no numbers in the cells


def draw_confusion(path: Path, confusion: np.ndarray, classes: list[str]) -> None:
    """Writes a PNG of the confusion matrix `[K, K]`, each row in parts of its class; nothing without matplotlib."""
    if not find_spec("matplotlib"):
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(classes)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    size = min(3.4 + 0.34 * count, 16)
    figure = Figure(figsize=(size, size), dpi=92, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if count <= NAMED:
        axis.set_xticks(range(count), classes, rotation=90)
        axis.set_yticks(range(count), classes)
    if count <= WRITTEN:
        for row, column in np.argwhere(confusion).tolist():
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(
                column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8
            )
    axis.set_xlabel("named (per cent of the true class)")
    axis.set_ylabel("true")
    figure.savefig(path)
