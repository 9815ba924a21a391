"""Evaluate files of predictions without a model, and export models: `python -m training.evaluate --help`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .data.records import DataError
from .grouping import GroupingOptions
from .runtime import run_subcommand

MOST_CLASSES = 100_000  # more is a slip of the pen, and would fill the memory

if TYPE_CHECKING:
    from .metrics.detection import DetectionScores


@dataclass(kw_only=True)
class Detection:
    """Score detected segments against labelled ones, as PKU-MMD's script does (docs/detection.md).

    Both folders hold a text file a recording, of the same names, with a line a segment: label,start,end,confidence.
    """

    truth: Path
    """The folder of labels."""
    pred: Path
    """The folder of detections; an empty file where nothing was detected."""
    classes: int = 51
    """Labels are 1 to this."""
    overlap: float = 0.5
    """The intersection over union from which a detection is right, over 0 and at most 1."""
    split: Path | None = None
    """A split file of the data set, such as cross-subject.txt: labels of its training recordings are left aside."""

    def run(self) -> None:
        from .metrics.detection import evaluate
        from .metrics.frames import evaluate_runs, painted_runs
        from .metrics.pku_text import read_folders

        if not 1 <= self.classes <= MOST_CLASSES:
            raise DataError(f"--classes is {self.classes}; it must be 1 to {MOST_CLASSES:,}")
        names, truth, detected = read_folders(self.truth, self.pred, self.classes, self.split)
        scores = evaluate(detected, truth, self.classes, self.overlap)
        print("\n".join(detection_table(scores, self.overlap)), file=sys.stderr)
        segmental = evaluate_runs([*zip(map(painted_runs, detected), map(painted_runs, truth), strict=True)])
        shown = ", ".join(f"{name} {value:.2%}" for name, value in segmental.items())
        print(f"segments painted over each other: {shown}", file=sys.stderr)
        empty = [name for name, labels in zip(names, truth, strict=True) if not len(labels)]
        if empty:
            print(f"warning: {len(empty)} recordings have no label and count 0 in map_v: {empty[0]}", file=sys.stderr)
        figures = ("map_a", "map_v", "map_a_present", "map_a_voc", "ap", "ap_2d", "f1")
        counts = {"recordings": len(names), "labelled": sum(map(len, truth)), "detected": sum(map(len, detected))}
        official = {name: getattr(scores, name) for name in figures}
        print(json.dumps(official | segmental | counts | {"overlap": self.overlap}))


def detection_table(scores: DetectionScores, overlap: float) -> Iterator[str]:
    """Lines: each class that is labelled or detected, then the figures of all."""
    yield f"{'class':>5}{'labelled':>10}{'detected':>10}{'AP':>9}{'VOC AP':>9}"
    counts = (scores.class_truths.tolist(), scores.class_detections.tolist())
    for label, row in enumerate(zip(*counts, scores.class_ap, scores.class_ap_voc, strict=True), 1):
        if row[0] or row[1]:
            yield f"{label:>5}{row[0]:>10,}{row[1]:>10,}{row[2]:>9.2%}{row[3]:>9.2%}"
    classes, present = len(scores.class_ap), int((scores.class_truths > 0).sum())
    yield f"at an overlap of {overlap:g}:"
    yield f"{scores.map_a:>9.2%}  map_a, the mean over {classes} classes"
    if present < classes:
        yield f"{scores.map_a_present:>9.2%}  map_a_present, over the {present} with labels; the others count 0 above"
    yield f"{scores.map_v:>9.2%}  map_v, the mean over {len(scores.video_ap)} recordings"
    yield f"{scores.map_a_voc:>9.2%}  map_a_voc, by Pascal VOC's rules over the {present} labelled classes"
    yield f"{scores.ap:>9.2%}  ap of everything, f1 {scores.f1:.2%}"
    yield f"{scores.ap_2d:>9.2%}  ap_2d, the mean of ap at overlaps 0.05, 0.10 ... 1"


@dataclass(kw_only=True)
class Fuse:
    """Fuse the scores of several runs of training.recognize, such as joint, bone and motion streams of one split."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or their scores.npz."""
    weights: tuple[float, ...] | None = None
    """Of each run; equal unless given. Do not choose them on the samples that are scored."""
    softmax: bool = False
    """Average probabilities instead of logits."""
    out: Path | None = None
    """A new folder for the fused scores, predictions, confusion matrix and per-class table."""

    def run(self) -> None:
        from .metrics.classes import classification
        from .scores import figures, fused, write_results

        if len(self.runs) < 2:
            raise DataError("fuse takes two or more runs")
        scores = fused(self.runs, self.weights, self.softmax)
        if self.out is None:
            result = figures(classification(scores.logits, scores.labels))
        else:
            if self.out.exists():
                raise DataError(f"{self.out} exists already; give another --out")
            self.out.mkdir(parents=True)
            result = write_results(self.out, scores)
        print(json.dumps(result | {"samples": len(scores.names), "runs": [str(path) for path in self.runs]}))


@dataclass(kw_only=True)
class FuseFrames(GroupingOptions):
    """Fuse the frame scores of several runs of training.detect, or group those of one run anew (docs/detection.md)."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or their scores.npz."""
    weights: tuple[float, ...] | None = None
    """Of each run; equal unless given. Do not choose them on the streams that are scored."""
    softmax: bool = False
    """Average probabilities instead of logits."""
    out: Path | None = None
    """A new folder for the fused scores, labels and detections as text, tables and pictures."""

    def run(self) -> None:
        from .frame_scores import frame_figures, fused_frames, write_frame_results
        from .grouping import grouping_of

        if not self.runs:
            raise DataError("fuse-frames takes one or more runs")
        scores = fused_frames(self.runs, self.weights, self.softmax)
        scores = scores.grouped(grouping_of(self, float(scores.fps), scores.how()))
        if self.out is None:
            result = frame_figures(scores)
        else:
            if self.out.exists():
                raise DataError(f"{self.out} exists already; give another --out")
            self.out.mkdir(parents=True)
            result = write_frame_results(self.out, scores)
        print(json.dumps(result | {"streams": len(scores.names), "runs": [str(path) for path in self.runs]}))


@dataclass(kw_only=True)
class Export:
    """Write a run's recogniser, detector or encoder as a file that runs without this package (docs/drop_in.md)."""

    run_folder: tyro.conf.Positional[Path]
    """The finished run."""
    to: Literal["pt2", "onnx"] = "pt2"
    """pt2: a program of torch.export; onnx: for onnxruntime and others (extra `export`)."""
    out: Path | None = None
    """The file; the default is model.pt2 or model.onnx in the run's folder."""

    def run(self) -> None:
        from .exporting import LENGTHS, export_run

        out = self.out or self.run_folder / f"model.{self.to}"
        difference = export_run(self.run_folder, self.to, out)
        print(f"{out}: agrees with the model on {len(LENGTHS)} lengths to {difference:.1e}", file=sys.stderr)
        print(json.dumps({"file": str(out), "bytes": out.stat().st_size, "difference": difference}))


Command = (
    Annotated[Detection, tyro.conf.subcommand("detection")]
    | Annotated[Fuse, tyro.conf.subcommand("fuse")]
    | Annotated[FuseFrames, tyro.conf.subcommand("fuse-frames")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)


def main(args: Sequence[str] | None = None) -> None:
    """`args` instead of the command line's, for tests."""
    run_subcommand(Command, "python -m training.evaluate", __doc__, args)


if __name__ == "__main__":
    main()
