"""Labelled and detected segments in PKU-MMD's text format: a file a recording, a line a segment.

`label,start,end,confidence`, with commas or spaces: labels from 1, frame numbers from 1, of which the end belongs to
the segment. The fourth number of a labelled segment is an annotator's (1 or 2) and not used; it may be missing. In
memory, frames count from 0 and the end is exclusive, so start is first + 1 and end stays.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data.readers.folder import by_stem, files_below, read_text
from ..data.readers.pku import refuse_overlaps, split_names
from ..data.records import DataError
from .segments import Segments

LAST_FRAME = 2**31 - 1
log = logging.getLogger(__name__)

Row = tuple[int, int, int, float]  # label, start, end as in the file, score


def read_folders(
    truth: Path, detected: Path, classes: int, split: Path | None = None
) -> tuple[list[str], list[Segments], list[Segments]]:
    """Names of the recordings, their labelled and their detected segments, from the .txt files below two folders.

    With a `split` file of PKU-MMD, the labels of its training recordings are left aside. Raises DataError for a file
    that cannot be used, and where a recording has labels and no file of detections or the reverse; one in which nothing
    was detected has an empty file.
    """
    labels, found = by_stem(files_below(truth, ".txt")), by_stem(files_below(detected, ".txt"))
    if split is not None:
        training, others = split_names(read_text(split), str(split))
        if unknown := sorted(set(labels) - {*training, *others}):
            raise DataError(f"{split}: does not name {unknown[0]}, which has labels in {truth}{_more(unknown)}")
        if absent := sorted(set(others) - set(labels)):
            log.warning("%s has no labels of %s, a test recording of %s%s", truth, absent[0], split, _more(absent))
        labels = {name: file for name, file in labels.items() if name not in training}
    names = sorted(labels)
    if extra := sorted(set(found) - set(labels)):
        among = f"{truth}" if split is None else f"{truth} among the test recordings of {split}"
        raise DataError(f"{found[extra[0]]}: there are no labels of {extra[0]} in {among}{_more(extra)}")
    if missing := sorted(set(labels) - set(found)):
        raise DataError(
            f"{detected}: has no {missing[0]}.txt, but {truth} has labels of that recording{_more(missing)}; "
            "add an empty file where nothing was detected, or name the test recordings by --split FILE"
        )
    known = [read_segments(labels[name], classes, scored=False) for name in names]
    return names, known, [read_segments(found[name], classes, scored=True) for name in names]


def read_segments(file: Path, classes: int, scored: bool) -> Segments:
    """The segments of a file in its order: detected ones if `scored`, else labelled ones.

    Raises DataError that names the line where it is no segment, its class or frames are out of range, its end lies
    before its start, its confidence is no number, or a labelled one overlaps another of its class by more than a frame.
    Segments of different classes may overlap, and so may detections.
    """
    rows = list(_rows(file, classes, scored))
    if not scored:
        refuse_overlaps([(line, *row[:3]) for line, row in rows], str(file))
    return Segments.of([(label, start - 1, end, score) for _, (label, start, end, score) in rows])


def write_segments(file: Path, segments: Segments) -> None:
    """Writes detected segments in their order; what is read back is equal. No segments make an empty file."""
    columns = segments.label, segments.first + 1, segments.end, segments.score
    rows = zip(*(column.tolist() for column in columns), strict=True)
    file.write_text("".join(f"{label},{start},{end},{score!r}\n" for label, start, end, score in rows))


def _rows(file: Path, classes: int, scored: bool) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            try:
                yield number, _row(line, classes, scored)
            except ValueError as error:
                raise DataError(f"{file}: line {number}, {line.strip()!r}, {error}") from None


def _row(line: str, classes: int, scored: bool) -> Row:
    """A line's segment; ValueError says what is wrong with it."""
    fields = re.split(r"\s*,\s*|\s+", line.strip())
    if len(fields) != 4 and (scored or len(fields) != 3):
        raise ValueError(f"has {len(fields)} fields, not the four of label,start,end,confidence")
    label, start, end = (_whole(field) for field in fields[:3])
    if not 1 <= label <= classes:
        raise ValueError(f"has the class {label}; classes are 1 to {classes}")
    if not (0 <= start <= LAST_FRAME and 0 <= end <= LAST_FRAME):
        raise ValueError(f"has a frame out of range; frames are 0 to {LAST_FRAME}")
    if end < start:
        raise ValueError("ends before it starts")
    return label, start, end, _score(fields[3]) if scored else 1.0


def _whole(field: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", field):
        raise ValueError(f"has {field!r} where label,start,end are whole numbers")
    return int(field.partition(".")[0])


def _score(field: str) -> float:
    try:
        score = float(field)
    except ValueError:
        raise ValueError(f"has the confidence {field!r}, which is no number") from None
    if not np.isfinite(score):
        raise ValueError(f"has the confidence {field}; it must be finite")
    return score


def _more(names: list[str]) -> str:
    return f" (nor of {len(names) - 1} others)" if len(names) > 1 else ""
