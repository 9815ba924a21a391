"""What every sample must satisfy before it may enter a store."""

from __future__ import annotations

import numpy as np

from .records import UNKNOWN, DataError, Sample, Sequence, Source


def check_sample(sample: Sample, source: Source) -> None:
    """DataError that names the sample unless its shapes, types, values, frame numbers and labels are all in order."""
    where = f"{named(source)}: sample {sample.name!r}"
    if not sample.name:
        raise DataError(f"{where}: the name is empty")
    if not sample.sequences:
        raise DataError(f"{where}: there is no sequence in it")
    for number, sequence in enumerate(sample.sequences):
        _check_sequence(sequence, sample, source, f"{where}, sequence {number}")
    _check_label(sample.label, source, where)
    for label, first, end in sample.segments:
        if not 0 <= first < end <= sample.frames:
            raise DataError(f"{where}: segment [{first}, {end}) is empty or outside its {sample.frames} frames")
        _check_label(label, source, where)


def named(source: Source) -> str:
    """The source in messages; data that were made and not read have no path."""
    return source.path or f"{source.reader} data"


def _check_sequence(sequence: Sequence, sample: Sample, source: Source, where: str) -> None:
    frames = len(sequence.joints)
    _check_array(sequence.joints, (frames, source.layout.joints, source.channels), f"{where}: joints")
    if frames == 0:
        raise DataError(f"{where}: no frames")
    if sequence.first_frame < 0 or sequence.first_frame + frames > sample.frames:
        span = f"{sequence.first_frame} to {sequence.first_frame + frames - 1}"
        raise DataError(f"{where}: frames {span} are outside its sample's {sample.frames} frames")
    if sequence.confidence is not None:
        _check_array(sequence.confidence, (frames, source.layout.joints), f"{where}: confidence")
        if sequence.confidence.min() < 0 or sequence.confidence.max() > 1:
            raise DataError(f"{where}: confidence outside 0..1")


def _check_array(array: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    if array.shape != shape or array.dtype != np.float32:
        raise DataError(f"{where}: {array.dtype} {list(array.shape)} instead of float32 {list(shape)}")
    finite = np.isfinite(array)
    if not finite.all():
        frame, joint = np.argwhere(~finite)[0][:2]
        raise DataError(f"{where}: not a finite number in frame {frame}, joint {joint}")


def _check_label(label: int, source: Source, where: str) -> None:
    """Where the classes are not named, any label from 0 on is allowed."""
    most = len(source.classes) - 1 if source.classes else label
    if label != UNKNOWN and not 0 <= label <= most:
        raise DataError(f"{where}: label {label} is negative or beyond the {len(source.classes)} named classes")
