"""PKU-MMD I and II (Liu et al. 2017): untrimmed recordings with labelled segments, Kinect v2, 30 frames a second.

Skeletons `NNNN-V.txt` (I) or `AnnNnn-V.txt` (II), V one of L, M, R: a line a frame, 150 numbers, two bodies of 25
joints; a body that is not there is zeros. Labels, files of the same names elsewhere: lines of label (1 to 51), start,
end, confidence, with commas. The documentation does not say from where frames count
(https://github.com/ECHO960/PKU-MMD/issues/11); here the first is 1, and the end belongs to the segment. Splits, files
`cross_subject*.txt` and `cross_view*.txt` (or with `-`): a heading, the training recordings separated by commas, a
heading, the others.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from hitrs_fast.skeleton import NTU25

from ..records import DataError, Sample, Sequence, Source
from .folder import FolderReader, by_stem, files_below, read_text

ACTIONS = 51
VIEWS = {"L": 1, "M": 2, "R": 3}
NAMES = {1: r"\d{4}-[LMR]", 2: r"A\d+N\d+-[LMR]"}
# Recordings, frames and labelled segments that the authors publish; trimmed, a sample is a segment.
PUBLISHED = {1: {"samples": 1076, "frames": 5_312_580, "segments": 21_545}, 2: {"samples": 1009}}

Segment = tuple[int, int, int]  # label, first frame, end frame (exclusive), counted from 0


class PkuReader(FolderReader):
    """Reads the recordings below `folder`, of part 1 or 2.

    Whole recordings carry segments, whose classes count from 1 (0 is the background). With `trim` each segment becomes
    a sample of its own with its class, counted from 0. Splits are named after their files, without part and dashes.
    Skipping as in `FolderReader`.
    """

    def __init__(self, folder: str | Path, part: int = 1, trim: bool = False, strict: bool = False) -> None:
        super().__init__(strict)
        files = files_below(folder, ".txt")
        self._labels, skeletons = sorted_out([file for file in files if re.fullmatch(NAMES[part], file.stem)])
        if not skeletons:
            raise DataError(f"{folder}: no skeletons of PKU-MMD part {part} below it, named like {NAMES[part]}.txt")
        self.take(skeletons)
        self._trim = trim
        self._faults: dict[str, DataError] = {}
        self._segments = {name: self._read_segments(name) for name in self._files}
        actions = [f"A{number:02d}" for number in range(1, ACTIONS + 1)]
        counts = PUBLISHED[part]
        self.source = Source(
            layout=NTU25,
            fps=30.0,
            classes=actions if trim else ["background", *actions],
            reader="pku-mmd",
            options={"part": part, "trim": trim, "strict": strict},
            path=str(folder),
            splits=self._splits(files),
            published={"samples": counts["segments"]} if trim and part == 1 else {} if trim else counts,
        )

    def _read_segments(self, name: str) -> list[Segment]:
        """Empty where there are none, or where they cannot be read, which `read` reports."""
        file = self._labels.get(name)
        try:
            return [] if file is None else segments_of(read_text(file), str(file))
        except DataError as error:
            self._faults[name] = error
            return []

    def _splits(self, files: list[Path]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in files:
            if match := re.fullmatch(r"cross[-_](subject|view)(?:[-_]v2)?", file.stem, re.IGNORECASE):
                recordings, _ = split_names(read_text(file), str(file))
                found[{"subject": "xsub", "view": "xview"}[match[1].lower()]] = self._samples_of(recordings)
        return found

    def _samples_of(self, recordings: list[str]) -> list[str]:
        if not self._trim:
            return recordings
        return [part for name in recordings for part in self._trimmed(name)]

    def _trimmed(self, name: str) -> list[str]:
        return [f"{name}/{number:03d}" for number in range(len(self._segments.get(name, ())))]

    def read(self, name: str, file: Path) -> list[Sample]:
        if name in self._faults:
            raise self._faults[name]
        joints = joints_of(read_text(file), str(file))
        segments = self._segments[name]
        if not segments:
            raise DataError(f"{file}: there is no label file {name}.txt beside it, or it is empty")
        if (last := max(end for _, _, end in segments)) > len(joints):
            raise DataError(f"{file}: has {len(joints)} frames, but a segment of its labels ends in frame {last}")
        whole = Sample(name, len(joints), bodies(joints), camera=VIEWS[name[-1]])
        if not self._trim:
            return [replace(whole, segments=segments)]
        return self._cut(whole, joints, segments)

    def _cut(self, whole: Sample, joints: np.ndarray, segments: list[Segment]) -> list[Sample]:
        samples = []
        for own, (label, first, end) in zip(self._trimmed(whole.name), segments, strict=True):
            sequences = bodies(joints[first:end])
            if sequences:
                samples.append(replace(whole, name=own, frames=end - first, sequences=sequences, label=label - 1))
            else:
                self.skip(own, DataError(f"{own}: no body appears in frames {first + 1} to {end}"))
        return samples


def sorted_out(files: list[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Labels and skeletons by name. An empty file says nothing of itself: it is what its name still lacks."""
    kinds = {file: is_label(file) for file in files}
    skeletons = {file.stem for file, label in kinds.items() if label is False}
    labels = [file for file, label in kinds.items() if label or (label is None and file.stem in skeletons)]
    return by_stem(labels), by_stem([file for file in files if file not in labels])


def is_label(file: Path) -> bool | None:
    """Skeletons and labels have the same names: a label's first line has four numbers. None for an empty file."""
    try:
        with file.open() as lines:
            first = lines.readline().strip()
            return len(re.split(r"[,\s]+", first)) <= 4 if first else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def joints_of(text: str, where: str) -> np.ndarray:
    """`[T, 2, 25, 3]` float32 from lines of 150 numbers."""
    lines = text.splitlines()
    try:
        rows = np.array([line.split() for line in lines if line.strip()], np.float32)
    except ValueError:
        wrong = next(i for i, line in enumerate(lines, 1) if line.strip() and not _is_row(line))
        raise DataError(f"{where}: line {wrong} is not 150 numbers") from None
    if rows.ndim != 2 or rows.shape[1] != 150:
        raise DataError(f"{where}: its lines have {rows.shape[-1] if rows.size else 0} numbers, not 150")
    if not np.isfinite(rows).all():
        raise DataError(f"{where}: line {np.argwhere(~np.isfinite(rows))[0, 0] + 1} has nan or infinite coordinates")
    return rows.reshape(-1, 2, 25, 3)


def _is_row(line: str) -> bool:
    try:
        return len([float(number) for number in line.split()]) == 150
    except ValueError:
        return False


def bodies(joints: np.ndarray) -> list[Sequence]:
    """`[T, 2, 25, 3]` to a sequence for each body, from its first frame to its last."""
    found = []
    for body in range(joints.shape[1]):
        there = np.flatnonzero(joints[:, body].any((1, 2)))
        if there.size:
            first, last = int(there[0]), int(there[-1])
            found.append(Sequence(np.ascontiguousarray(joints[first : last + 1, body]), body, first))
    return found


def segments_of(text: str, where: str) -> list[Segment]:
    """Lines `label,start,end,confidence`, in order of their start; the confidence is an annotator's and not kept."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (3, 4) or not all(re.fullmatch(r"\d+(\.0*)?", field) for field in fields[:3]):
            raise DataError(f"{where}: line {number} is {line.strip()!r}, not label,start,end,confidence")
        label, start, end = (int(float(field)) for field in fields[:3])
        if not 1 <= label <= ACTIONS:
            raise DataError(f"{where}: line {number} has the label {label}; labels are 1 to {ACTIONS}")
        if end < start or end < 1:
            raise DataError(f"{where}: line {number} has frames {start} to {end}, which ends before it starts")
        found.append((number, label, start, end))
    refuse_overlaps(found, where)
    return sorted(((label, max(start - 1, 0), end) for _, label, start, end in found), key=lambda segment: segment[1:])


def refuse_overlaps(rows: list[tuple[int, int, int, int]], where: str) -> None:
    """DataError where two of a class overlap. Rows: line, label, start and end as in the file.

    The frame that ends a segment may start the next: in the metric's lengths they only meet.
    """
    latest: dict[int, tuple[int, int, int]] = {}  # by class: start, end, line
    for line, label, start, end in sorted(rows, key=lambda row: row[2:]):
        before = latest.get(label)
        if before and (start < before[1] or (start, end) == before[:2]):
            lines = sorted((before[2], line))
            raise DataError(f"{where}: line {lines[1]} overlaps line {lines[0]}, and both have the class {label}")
        latest[label] = (start, end, line)


def split_names(text: str, where: str) -> tuple[list[str], list[str]]:
    """The training recordings and the others, a split file's second and fourth line. There may be no others."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        raise DataError(f"{where}: has {len(lines)} lines; the second of a split's four holds the training recordings")
    lists = ([name.strip().removesuffix(".txt") for name in line.split(",")] for line in [*lines, "", ""][1:4:2])
    training, others = ([name for name in names if name] for names in lists)
    return training, others
