"""Frame scores of whole recordings as files that anybody can fuse and group anew, and what is made of them.

A `scores.npz` of training.detect holds, for N recordings of F frames in all: `names` [N] str, `lengths` [N] int64,
`probabilities` [F, K] float32, `labels` [F] int64 (0: background), `segments` [S, 4] int64 (recording, label, first
frame, end frame exclusive), `classes` [K] str (the first is the background), `fps`, and `grouping`, how segments were
made, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data.records import DataError
from .detection_pictures import draw_precision_recall, draw_timeline
from .metrics.classes import softmax
from .metrics.detection import DetectionScores, evaluate, precision_recall
from .metrics.frames import evaluate_frames, painted_runs
from .metrics.pku_text import write_segments
from .metrics.segments import Grouping, Segments, scored_segments
from .scores import FILE, read_arrays, shares, write_csv

FIGURES = ("map_a", "map_v", "map_a_present", "map_a_voc", "ap", "ap_2d", "f1")


class FrameScores(NamedTuple):
    names: np.ndarray  # [N] str
    lengths: np.ndarray  # [N] int64
    probabilities: np.ndarray  # [F, K] float32
    labels: np.ndarray  # [F] int64
    segments: np.ndarray  # [S, 4] int64
    classes: np.ndarray  # [K] str
    fps: np.ndarray  # [] float64
    grouping: np.ndarray  # [] str

    def of_each(self, rows: np.ndarray) -> list[np.ndarray]:
        """`rows` `[F, ...]`, recording by recording."""
        return np.split(rows, self.lengths.cumsum()[:-1])

    def how(self) -> Grouping:
        return Grouping(**json.loads(str(self.grouping)))

    def grouped(self, grouping: Grouping) -> FrameScores:
        return self._replace(grouping=np.array(json.dumps(dataclasses.asdict(grouping))))

    def found(self) -> list[Segments]:
        return [scored_segments(p, self.how()) for p in self.of_each(self.probabilities)]

    def truth(self) -> list[Segments]:
        return [Segments.of(self.segments[self.segments[:, 0] == n][:, 1:].tolist()) for n in range(len(self.names))]


def read_frame_scores(path: Path) -> FrameScores:
    """The scores of a run folder, or of a file. DataError if there are none or they do not fit together."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: there are no frame scores; training.detect writes them at its end")
    scores = FrameScores(*read_arrays(file, FrameScores._fields))
    frames = int(scores.lengths.sum())
    shapes = scores.lengths.shape, scores.probabilities.shape, scores.labels.shape
    if shapes != (scores.names.shape, (frames, len(scores.classes)), (frames,)):
        raise DataError(f"{file}: names, lengths, probabilities, labels and classes do not fit together")
    _check_segments(scores, file)
    if not 0 < float(scores.fps) < math.inf:
        raise DataError(f"{file}: has {scores.fps} frames a second")
    try:
        scores.how()
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: does not say how its segments were made ({error})") from error
    return scores


def _check_segments(scores: FrameScores, file: Path) -> None:
    """DataError for a segment outside its recording, or of no class."""
    if scores.segments.ndim != 2 or scores.segments.shape[1] != 4:
        raise DataError(f"{file}: segments have shape {list(scores.segments.shape)}, not [S, 4]")
    recording, label, first, end = scores.segments.T
    there = (recording >= 0) & (recording < len(scores.lengths))
    ends = scores.lengths[np.where(there, recording, 0)]
    wrong = ~(there & (label >= 1) & (label < len(scores.classes)) & (first >= 0) & (first < end) & (end <= ends))
    if wrong.any():
        raise DataError(f"{file}: the segment {scores.segments[wrong][0].tolist()} is in no recording, or of no class")


def fused_frames(paths: Sequence[Path], weights: Sequence[float] | None, use_softmax: bool) -> FrameScores:
    """The weighted mean of several runs' frame scores: of logits (up to what softmax ignores) or of probabilities.

    DataError unless all have the same recordings, frames, labels and classes.
    """
    each = shares(weights, len(paths))
    first, *others = [read_frame_scores(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        for key in ("classes", "names", "lengths", "labels", "segments"):
            if not np.array_equal(getattr(first, key), getattr(other, key)):
                raise DataError(
                    f"{path} has other {key} than {paths[0]}, so their scores cannot be fused; fuse runs of one store "
                    f"and split"
                )
    total = np.zeros(first.probabilities.shape)
    for scores, weight in zip([first, *others], each, strict=True):
        p = scores.probabilities.astype(np.float64)
        total += weight * (p if use_softmax else np.log(np.maximum(p, np.finfo(np.float32).tiny)))
    mean = total if use_softmax else softmax(total)
    return first._replace(probabilities=mean.astype(np.float32))


def write_frame_results(folder: Path, scores: FrameScores) -> dict[str, Any]:
    """Scores, labels and detections as text, the per-class table and pictures; the figures as a dictionary."""
    found, truth, classes = scores.found(), scores.truth(), scores.classes.tolist()
    np.savez_compressed(folder / FILE, **scores._asdict())
    files = file_names(scores.names.tolist())
    for kind, segments in (("labels", truth), ("detections", found)):
        (folder / kind).mkdir(exist_ok=True)
        for name, own in zip(files, segments, strict=True):
            write_segments(folder / kind / f"{name}.txt", own)
    (folder / "timelines").mkdir(exist_ok=True)
    for number, file in enumerate(files):
        frames, title = int(scores.lengths[number]), str(scores.names[number])
        picture = folder / "timelines" / f"{file}.png"
        draw_timeline(picture, title, truth[number], found[number], frames, classes, float(scores.fps))
    measured = evaluate(found, truth, len(classes) - 1)
    draw_precision_recall(folder / "precision_recall.png", precision_recall(found, truth, len(classes) - 1), classes)
    _write_classes(folder / "per_class.csv", measured, classes)
    return figures_of(scores, found, measured)


def frame_figures(scores: FrameScores) -> dict[str, Any]:
    """What `write_frame_results` gives, without files."""
    found = scores.found()
    return figures_of(scores, found, evaluate(found, scores.truth(), len(scores.classes) - 1))


def figures_of(scores: FrameScores, found: list[Segments], measured: DetectionScores) -> dict[str, Any]:
    """Each between 0 and 1.

    `frame_acc` is that of the frames' most probable classes as they are; `segment_frame_acc`, `edit` and `f1_*` are of
    the detected segments, painted over each other in order of their score.
    """
    frames = evaluate_frames([painted(own, n) for own, n in zip(found, scores.lengths.tolist(), strict=True)],
                             scores.of_each(scores.labels))  # fmt: skip
    accuracy = float((scores.probabilities.argmax(1) == scores.labels).mean())
    figures = {name: getattr(measured, name) for name in FIGURES}
    figures |= {"frame_acc": accuracy, "background": float((scores.labels == 0).mean())}
    figures |= {"segment_frame_acc": frames.pop("frame_acc")} | frames
    return {name: round(value, 5) for name, value in figures.items()}


def painted(segments: Segments, frames: int) -> np.ndarray:
    """The class of each frame `[T]`: of the segment with the highest score, or 0."""
    labels = np.zeros(frames, np.int64)
    for label, first, end in zip(*painted_runs(segments), strict=True):
        labels[first:end] = label
    return labels


def file_names(names: list[str]) -> list[str]:
    """The recordings' names as names of files; DataError where two become one."""
    files = [name.replace("/", "_") for name in names]
    if len(set(files)) < len(files):
        raise DataError(f"two recordings would have the same file: {max(files, key=files.count)}")
    return files


def _write_classes(path: Path, measured: DetectionScores, classes: list[str]) -> None:
    columns = (
        measured.class_truths,
        measured.class_detections,
        measured.class_ap.round(5),
        measured.class_ap_voc.round(5),
    )
    rows = [list(row) for row in zip(classes[1:], *(column.tolist() for column in columns), strict=True)]
    write_csv(path, ["class", "labelled", "detected", "ap", "ap_voc"], rows)
