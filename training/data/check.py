"""The thorough check of a store: every byte against the manifest, then every count and index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .manifest import file_problems, read_manifest
from .places import place_of
from .records import UNKNOWN, DataError
from .store import Store

if TYPE_CHECKING:
    from obstore.store import ObjectStore


def check_store(where: str | Path | ObjectStore) -> list[str]:
    """All problems of a store, one line each; none if it is right. Reads it twice, chunk by chunk."""
    try:
        place = place_of(where)
        problems = file_problems(place, read_manifest(place), read=lambda name: True)
        return problems or list(_content_problems(Store.open(where)))
    except DataError as error:
        return [str(error)]


def _content_problems(store: Store) -> Iterator[str]:
    shapes = list(_shape_problems(store))
    yield from shapes
    if shapes:  # the rest relies on them
        return
    yield from _sequence_problems(store)
    yield from _sample_problems(store)
    for number, chunk in enumerate(store.chunks()):
        if not np.isfinite(chunk).all():
            yield f"frames: chunk {number} holds a number that is not finite"


def _shape_problems(store: Store) -> Iterator[str]:
    counts = store.counts
    samples, sequences, frames = counts["samples"], counts["sequences"], counts["frames"]
    joints = store.layout.joints
    expected: dict[str, tuple[int, ...]] = {
        "frames": (frames, joints, store.channels),
        "sequence_offsets": (sequences + 1,),
        "segments": (counts["segments"], 4),
        "sample_name_offsets": (samples + 1,),
    }
    expected |= {f"sequence_{name}": (sequences,) for name in ("sample", "body", "first_frame")}
    expected |= {f"sample_{name}": (samples,) for name in ("frames", "label", "subject", "camera", "setup")}
    expected |= {f"split/{name}": (samples,) for name in store.split_names}
    expected |= {f"labelled/{name}": (samples,) for name in store.labelled_lists}
    if store.has_confidence:
        expected["confidence"] = (frames, joints)
    for name, shape in expected.items():
        if store.shape(name) != shape:
            yield f"{name}: shape {list(store.shape(name))} instead of {list(shape)}"


def _sequence_problems(store: Store) -> Iterator[str]:
    sample, first = store.sequence_sample, store.sequence_first_frame
    if store.offsets[0] != 0 or store.offsets[-1] != store.counts["frames"] or (store.lengths <= 0).any():
        yield "sequence_offsets: not rising from 0 to the number of frames"
    if sample.min() < 0 or sample.max() >= store.counts["samples"]:
        yield "sequence_sample: names a sample that does not exist"
    elif (first < 0).any() or (first + store.lengths > store.sample_frames[sample]).any():
        yield "sequence_first_frame: a sequence lies outside its sample's frames"
    if len(np.unique(sample)) != store.counts["samples"]:
        yield "sequence_sample: a sample has no sequence"


def _sample_problems(store: Store) -> Iterator[str]:
    most = len(store.classes) - 1 if store.classes else np.iinfo(np.int64).max
    if store.sample_label.min() < UNKNOWN or store.sample_label.max() > most:
        yield "sample_label: a label beyond the classes"
    if len(set(store.names)) != store.counts["samples"]:
        yield "sample_name_bytes: two samples share a name"
    sample, label, first, end = store.segments.T
    if sample.size and (sample.min() < 0 or sample.max() >= store.counts["samples"]):
        yield "segments: names a sample that does not exist"
    elif (first < 0).any() or (first >= end).any() or (end > store.sample_frames[sample]).any():
        yield "segments: a segment is empty or outside its sample's frames"
    if (label < UNKNOWN).any() or (label > most).any():
        yield "segments: a label beyond the classes"
