"""What a store holds, as text: counts, lengths, missing joints, classes and the lists of labelled samples.

Shape legend: J joints, K classes, N sequences, M samples, S labelled segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .records import UNKNOWN
from .store import Store

BINS, BAR = 10, 40  # of the histogram: rows, and characters of the longest bar


def describe(store: Store) -> str:
    """The whole text. Frames are read chunk by chunk, so memory does not grow with the store."""
    parts = [_counts(store), _lengths(store), _missing(store), _classes(store), _labelled(store)]
    return "\n\n".join("\n".join(part) for part in parts)


def missing_joints(store: Store) -> tuple[np.ndarray, int]:
    """`[J]` int64: frames in which all coordinates of a joint are zero; and the frames in which all joints are so."""
    joints, bodies = np.zeros(store.layout.joints, np.int64), 0
    for chunk in store.chunks():
        missing = (chunk == 0).all(-1)
        joints += missing.sum(0)
        bodies += int(missing.all(-1).sum())
    return joints, bodies


def class_counts(store: Store) -> np.ndarray:
    """`[K, 4]` int64: samples, of these for training, for testing, and frames of sequences, for each class.

    Where no sample has a label but segments do, segments are counted instead, with the recording's frames they span.
    The last row is for those without a label. Training and testing follow the default split.
    """
    if counts_segments(store):
        sample, labels, first, end = store.segments.T
        training, frames = store.split()[sample], end - first
    else:
        labels, training = store.sample_label, store.split()
        frames = np.zeros(len(labels), np.int64)
        np.add.at(frames, store.sequence_sample, store.lengths)
    classes = max(len(store.classes), int(labels.max(initial=UNKNOWN)) + 1)
    counts = np.zeros((classes + 1, 4), np.int64)
    np.add.at(counts, labels, np.stack([np.ones_like(frames), training, ~training, frames], -1))  # -1: the last row
    return counts


def counts_segments(store: Store) -> bool:
    return len(store.segments) > 0 and bool((store.sample_label == UNKNOWN).all())


def _counts(store: Store) -> Iterator[str]:
    fps = store.fps
    seconds = "" if np.isnan(fps) else f" ({store.counts['frames'] / fps / 3600:.2f} h at {fps:g} a second)"
    yield f"{store.path}: layout {store.layout.name}, {store.layout.joints} joints, {store.channels} coordinates"
    for name in ("samples", "sequences", "frames", "segments"):
        yield f"{name:<10}{store.counts[name]:>12,}{seconds if name == 'frames' else ''}"
    for name in ("subject", "camera", "setup"):
        values = getattr(store, f"sample_{name}")
        unknown = int((values == UNKNOWN).sum())
        note = f" ({unknown:,} samples without)" if unknown else ""
        yield f"{name + 's':<10}{len(np.unique(values[values != UNKNOWN])):>12,}{note}"
    bodies = np.bincount(np.bincount(store.sequence_sample, minlength=store.counts["samples"]))
    several = ", ".join(f"{number:,} with {count}" for count, number in enumerate(bodies) if number)
    yield f"samples by their number of sequences: {several}"
    for name in store.split_names:
        training = int(store.split(name).sum())
        yield f"split {name}: {training:,} samples train, {store.counts['samples'] - training:,} test"


def _lengths(store: Store) -> Iterator[str]:
    lengths = store.lengths
    low, middle, high = lengths.min(), np.median(lengths), lengths.max()
    yield f"Frames a sequence: {low} at least, {middle:g} in the middle (median), {high} at most"
    width = -(-(high - low + 1) // BINS)
    number = np.bincount((lengths - low) // width)
    for row, count in enumerate(number.tolist()):
        first = low + row * width
        bar = "#" * -(-BAR * count // int(number.max()))
        yield f"{first:>7} to {first + width - 1:<7}{count:>9,} {bar}".rstrip()


def _missing(store: Store) -> Iterator[str]:
    joints, bodies = missing_joints(store)
    frames = store.counts["frames"]
    overall = joints.sum() / (frames * len(joints))
    yield f"Missing joints (all coordinates zero): {joints.sum():,}, {overall:.2%} of all"
    yield f"Frames without any joint (a body not seen): {bodies:,}, {bodies / frames:.2%}"
    wide = max(map(len, store.layout.joint_names))
    for name, count in zip(store.layout.joint_names, joints.tolist(), strict=True):
        if count:
            yield f"  {name:<{wide}} {count:>12,} {count / frames:>8.2%}"


def _classes(store: Store) -> Iterator[str]:
    counts = class_counts(store)
    names = [*store.classes, *(f"class {number}" for number in range(len(store.classes), len(counts) - 1))]
    rows = list(zip([f"{number} {name}" for number, name in enumerate(names)], counts[:-1].tolist(), strict=True))
    if counts[-1, 0]:
        rows.append(("no label", counts[-1].tolist()))
    wide = max(len(name) for name, _ in [("class", []), *rows])
    what = "segments" if counts_segments(store) else "samples"
    yield f"Classes (training and testing as in the split {store.split_names[0]})"
    yield f"{'class':<{wide}}{what:>10}{'train':>10}{'test':>10}{'frames':>12}"
    for name, row in [*rows, ("all", counts.sum(0).tolist())]:
        yield f"{name:<{wide}}{row[0]:>10,}{row[1]:>10,}{row[2]:>10,}{row[3]:>12,}"


def _labelled(store: Store) -> Iterator[str]:
    lists: Sequence[tuple[str, dict]] = list(store.labelled_lists.items())
    if not lists:
        yield "Lists of labelled samples: none"
        return
    yield "Lists of labelled samples"
    wide = max(len(name) for name, _ in lists)
    for name, about in lists:
        yield f"{name:<{wide}}{about['samples']:>9,}  seed {about['seed']}  sha256 {about['sha256']}"
