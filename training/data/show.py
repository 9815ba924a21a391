"""Pictures of a recording, so that one sees whether axes, joints and bodies are right.

A .png is a strip of frames, a .gif an animation, both from the front (x, y) and from the side (z, y); two coordinates
have one view, with y downwards as in images. Shape legend: B bodies (sequences), T frames, J joints, C coordinates.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hitrs_fast.skeleton import SkeletonLayout

from .records import UNKNOWN, DataError
from .store import Store

STRIP = 8  # frames of a .png, spread over the recording
LONGEST = 300  # frames of a .gif: the recording's first
FPS = 30  # of a .gif where the store does not know
VIEWS = {3: {"front": (0, 1), "side": (2, 1)}, 2: {"image": (0, 1)}}
MARGIN = 0.08  # around everything that is drawn, of its extent


def draw(store: Store, index: int, out: Path) -> int:
    """Draws the sample `index` with all its bodies into `out`, a .png or .gif; returns the number of frames drawn.

    A picture that exists is replaced once the new one is complete. DataError for an index beyond the samples, another
    kind of file, and where matplotlib is not installed.
    """
    kinds: dict[str, Callable[..., int]] = {".png": _strip, ".gif": _animation}
    if out.suffix not in kinds:
        raise DataError(f"{out}: the picture's name must end in .png (a strip of frames) or .gif (an animation)")
    if not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}; make it first")
    _need_matplotlib()
    bodies = read_bodies(store, index)
    part = out.with_name(f".part-{os.getpid()}-{out.name}")
    try:
        drawn = kinds[out.suffix](store, index, bodies, part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return drawn


def read_bodies(store: Store, index: int) -> np.ndarray:
    """`[B, T, J, C]` float32 over the whole recording: nan where a body or a joint (all zeros) is missing."""
    samples = store.counts["samples"]
    if not 0 <= index < samples:
        raise DataError(f"{store.path}: there is no sample {index}; its {samples} samples are 0 to {samples - 1}")
    sequences = np.flatnonzero(store.sequence_sample == index)
    shape = (len(sequences), int(store.sample_frames[index]), store.layout.joints, store.channels)
    bodies = np.full(shape, np.nan, np.float32)
    for body, sequence in zip(bodies, sequences.tolist(), strict=True):
        begin, end = store.offsets[sequence : sequence + 2].tolist()
        first = int(store.sequence_first_frame[sequence])
        body[first : first + end - begin] = _frames(store, begin, end)
    bodies[(bodies == 0).all(-1)] = np.nan
    return bodies


def _frames(store: Store, begin: int, end: int) -> np.ndarray:
    """`[end - begin, J, C]`: those rows of the frames, from the chunks that hold them alone."""
    rows = store.chunk_rows("frames")
    first = begin // rows
    chunks = [store.chunk(number) for number in range(first, -(-end // rows))]
    return np.concatenate(chunks)[begin - first * rows : end - first * rows]


def bone_lines(pose: np.ndarray, layout: SkeletonLayout, view: tuple[int, int]) -> dict[str, np.ndarray]:
    """The bones of a pose `[J, C]` as lines `[2, 3n]` for plotting, of the right side and of all others.

    Each bone is two points and a nan that lifts the pen; a bone to a missing joint is nan throughout.
    """
    bones = [(child, parent) for child, parent in enumerate(layout.parents) if parent >= 0]
    lines = {}
    for part in ("right", "other"):
        mine = [bone for bone in bones if ("right" in layout.joint_names[bone[0]].lower()) == (part == "right")]
        points = np.full((len(mine), 3, 2), np.nan)
        if mine:
            points[:, :2] = pose[np.array(mine)][..., list(view)]
        points[np.isnan(points[:, :2]).any((1, 2))] = np.nan
        lines[part] = points.reshape(-1, 2).T
    return lines


def _need_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise DataError("pictures need matplotlib, which is not installed: pip install 'hitrs-fast[viz]'") from None


def _strip(store: Store, index: int, bodies: np.ndarray, out: Path) -> int:
    from matplotlib.figure import Figure

    frames = np.unique(np.linspace(0, bodies.shape[1] - 1, STRIP).round().astype(int)).tolist()
    views = VIEWS[store.channels]
    figure = Figure(figsize=(1.75 * len(frames) + 1.5, 2.9 * len(views) + 0.9), layout="constrained")
    grid = figure.subplots(len(views), len(frames), sharex="row", sharey="row", squeeze=False)
    for row, (name, view) in zip(grid, views.items(), strict=True):
        for axes, frame in zip(row, frames, strict=True):
            _set_axes(axes, bodies, view)
            _lines(axes, len(bodies), store)(bodies[:, frame], view)
            axes.set_title(f"frame {frame}", fontsize=9)
        for axes in row[1:]:
            axes.set_ylabel("")
        row[0].set_ylabel(f"{name}: {row[0].get_ylabel()}")
    _explain(figure, store, index)
    figure.savefig(out, dpi=100, format="png")
    return len(frames)


def _animation(store: Store, index: int, bodies: np.ndarray, out: Path) -> int:
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    views = VIEWS[store.channels]
    figure = Figure(figsize=(4.2 * len(views), 5.0), layout="constrained")
    grid = figure.subplots(1, len(views), squeeze=False)[0]
    for axes, (_, view) in zip(grid, views.items(), strict=True):
        _set_axes(axes, bodies, view)
    moves = [_lines(axes, len(bodies), store) for axes in grid]
    _explain(figure, store, index)
    frames = min(bodies.shape[1], LONGEST)
    writer = PillowWriter(fps=FPS if np.isnan(store.fps) else max(1, round(store.fps)))
    with writer.saving(figure, out, dpi=80):
        for frame in range(frames):
            for axes, move, (name, view) in zip(grid, moves, views.items(), strict=True):
                move(bodies[:, frame], view)
                axes.set_title(f"{name}, frame {frame} of {bodies.shape[1]}", fontsize=9)
            writer.grab_frame()
            figure.set_layout_engine("none")  # the first frame's layout for all: no jitter
    return frames


def _lines(axes: Any, count: int, store: Store) -> Callable[[np.ndarray, tuple[int, int]], None]:
    """Adds lines for `count` bodies; the function that is returned moves them to poses `[B, J, C]`."""
    styles = {"other": "-", "right": ":"}
    drawn = [
        {part: axes.plot([], [], style, color=f"C{body}", linewidth=1.6)[0] for part, style in styles.items()}
        for body in range(count)
    ]

    def move(poses: np.ndarray, view: tuple[int, int]) -> None:
        for lines, pose in zip(drawn, poses, strict=True):
            for part, points in bone_lines(pose, store.layout, view).items():
                lines[part].set_data(*points)

    return move


def _set_axes(axes: Any, bodies: np.ndarray, view: tuple[int, int]) -> None:
    """The same limits and scale for all frames of a view; y points down for two coordinates, as in images."""
    across, up = (bodies[..., axis][~np.isnan(bodies[..., axis])] for axis in view)
    if across.size:
        margin = MARGIN * max(np.ptp(across), np.ptp(up), 1e-3)
        axes.set_xlim(across.min() - margin, across.max() + margin)
        axes.set_ylim(up.min() - margin, up.max() + margin)
    unit = " (m)" if bodies.shape[-1] == 3 else ""
    axes.set_xlabel("xyz"[view[0]] + unit)
    axes.set_ylabel("xyz"[view[1]] + unit)
    axes.set_aspect("equal", adjustable="box")
    axes.grid(color="0.9", linewidth=0.6)
    axes.tick_params(labelsize=8)
    if bodies.shape[-1] == 2:
        axes.invert_yaxis()


def _explain(figure: Any, store: Store, index: int) -> None:
    """The title, and what colours and dots mean."""
    from matplotlib.lines import Line2D

    label = int(store.sample_label[index])
    classes = store.classes
    action = "no label" if label == UNKNOWN else classes[label] if label < len(classes) else f"class {label}"
    figure.suptitle(f"sample {index}: {store.names[index]} ({action})", fontsize=11)
    ids = store.sequence_body[store.sequence_sample == index].tolist()
    handles = [Line2D([], [], color=f"C{body}", label=f"body {number}") for body, number in enumerate(ids)]
    handles.append(Line2D([], [], color="0.3", linestyle=":", label="right limbs"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), fontsize=8)
