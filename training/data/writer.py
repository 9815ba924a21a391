"""Writes the samples of a reader into a new store, in bounded memory. `store.py` describes the layout.

Shape legend: J joints, C coordinates, N sequences, M samples, S labelled segments.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .journal import Journal, Row, key_of
from .labelled import labelled_lists
from .manifest import FORMAT, VERSION, list_files, write_manifest
from .records import DataError, Interrupted, Reader, Resumable, Sample, Sequence, Source
from .replace import new_store
from .splits import hashed_split, parse_rule, rule_columns, split_from_rule
from .validate import check_sample, named
from .zarr_arrays import GrowingArray, WriteThread, create_array, create_group

CHUNK_FRAMES = 65536
STEP = 0.0002  # metres, of compact coordinates
SAMPLE_COLUMNS = ("frames", "label", "subject", "camera", "setup")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What went into a store; `skipped` lists `(name, reason)`."""

    store: str
    samples: int
    sequences: int
    frames: int
    skipped: list[tuple[str, str]]


def write_store(
    path: str | Path,
    reader: Reader,
    overwrite: bool = False,
    rules: Collection[str] = (),
    progress: Callable[[Iterable[Sample], Reader, int], Iterable[Sample]] = lambda samples, *_: samples,
    chunk_frames: int = CHUNK_FRAMES,
    compact: bool = False,
    label_seed: int = 0,
) -> Summary:
    """Convert everything `reader` yields into a store at `path`, which appears complete or not at all.

    `rules` are splits as `NAME=KEY:VALUES`; they come before the reader's own, and the first split is the default.
    `label_seed` draws the lists of `labelled`. `compact` rounds coordinates to steps of 0.2 mm, so that none is off by
    more than 0.1 mm (and none beyond 6.55 m).
    `progress` wraps the samples as tqdm does, and is told of the reader and how many samples were done before.
    Memory: one chunk of `chunk_frames` frames, one sample, a few numbers per sequence. Interrupted, or refused by the
    system (Interrupted), it leaves `path`.partial, from which the same call goes on; finished chunks are not written
    again. DataError for an existing target without `overwrite`, an invalid sample, or no sample at all.
    """
    target = Path(path).resolve()
    for rule in rules:
        parse_rule(rule)  # before a conversion that may take hours
    with new_store(target, overwrite) as work, WriteThread(target) as thread:
        settings = {"source": vars(reader.source), "rules": list(rules), "chunk": chunk_frames, "compact": compact}
        settings["label_seed"] = label_seed
        journal = thread.call(Journal, work, key_of(reader.source.path, settings | {"version": _version()}))
        try:
            writer = _Writer(thread, journal, reader, chunk_frames, compact)
            for sample in progress(_rest(reader, journal), reader, len(journal.rows)):
                writer.add(sample)
            if not writer.names:
                raise DataError(_nothing(reader))
            counts = thread.call(writer.finish, _splits(reader.source, list(rules), writer), label_seed)
            thread.call(write_manifest, journal.store, counts)
        except DataError as error:
            if not isinstance(error, Interrupted):
                journal.discard()
            raise
    skipped = [(name, why) for row in journal.rows for name, why in row.skipped] + reader.skipped
    return Summary(str(path), counts["samples"], counts["sequences"], counts["frames"], list(dict.fromkeys(skipped)))


def _rest(reader: Reader, journal: Journal) -> Iterator[Sample]:
    """The samples that are not in the journal."""
    done = [row.name for row in journal.rows]
    if done and isinstance(reader, Resumable):
        reader.start_after(done[-1])
        done = []
    samples = iter(reader)
    for name in done:
        if (found := next(samples, None)) is None or found.name != name:
            raise DataError(f"{named(reader.source)}: does not begin as it did when the conversion was interrupted")
    yield from samples


def _nothing(reader: Reader) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in reader.skipped[:3])
    return f"{named(reader.source)}: no sample in it ({len(reader.skipped)} skipped{': ' * bool(reasons)}{reasons})"


class _Writer:
    """Turns samples into arrays, after those in the journal. Only `thread` touches the disk."""

    def __init__(self, thread: WriteThread, journal: Journal, reader: Reader, chunk_frames: int, compact: bool) -> None:
        self.group = thread.call(create_group, journal.store)
        self.source = source = reader.source
        self._compact = compact
        self.names: dict[str, None] = {}  # ordered
        self.columns: defaultdict[str, list[int]] = defaultdict(list)
        self._journal, self._skipped, self._skips_seen = journal, reader.skipped, 0
        self._pending: list[Row] = []  # samples that are not in the journal
        self._growing = partial(self._growing_array, thread, chunk_frames)
        self._offsets = [0]
        self._segments: list[tuple[int, ...]] = []
        self._frames = self._growing(
            "frames",
            (source.layout.joints, source.channels),
            written=self._record,
            dtype=np.int16 if compact else np.float32,
        )
        self._confidence: GrowingArray | None = None
        for row in journal.rows:
            self._note(row)
        self._frames.pass_over(self._offsets[-1])
        if any(sure for row in journal.rows for *_, sure in row.sequences):
            self._confidence = self._growing("confidence", (source.layout.joints,))
            self._confidence.pass_over(self._offsets[-1])

    def _growing_array(
        self, thread: WriteThread, chunk: int, name: str, shape: tuple[int, ...], **more: Any
    ) -> GrowingArray:
        stored = chunk * sum(file.startswith(f"{name}/") for file in self._journal.files)
        return GrowingArray(thread, self.group, name, shape, chunk, stored, **more)

    def add(self, sample: Sample) -> None:
        check_sample(sample, self.source)
        if sample.name in self.names:
            raise DataError(f"{named(self.source)}: two samples are named {sample.name!r}; names must differ")
        for sequence in sample.sequences:
            self._add_confidence(sequence)
            self._frames.append(self._steps(sequence.joints, sample) if self._compact else sequence.joints)
        row = Row.of(sample, self._skipped[self._skips_seen :])
        self._skips_seen = len(self._skipped)
        self._pending.append(row)
        self._note(row)

    def _steps(self, joints: np.ndarray, sample: Sample) -> np.ndarray:
        steps = np.rint(joints / np.float32(STEP))
        if np.abs(steps).max() > np.iinfo(np.int16).max:
            where = f"{named(self.source)}: sample {sample.name!r}"
            raise DataError(f"{where}: {np.abs(joints).max():g} m is more than --compact can hold (6.55); leave it out")
        return steps.astype(np.int16)

    def _note(self, row: Row) -> None:
        number = len(self.names)
        self.names[row.name] = None
        for column, value in zip(SAMPLE_COLUMNS, row.columns, strict=True):
            self.columns[f"sample_{column}"].append(value)
        for frames, body, first_frame, _ in row.sequences:
            self._offsets.append(self._offsets[-1] + frames)
            self.columns["sequence_sample"].append(number)
            self.columns["sequence_body"].append(body)
            self.columns["sequence_first_frame"].append(first_frame)
        self._segments += [(number, *segment) for segment in row.segments]

    def _record(self) -> None:
        """A chunk of frames is written, and the confidence's before it."""
        paths = [
            f"{name}/{file}" for name in ("frames", "confidence") for file in list_files(self._journal.store / name)
        ]
        chunks = [path for path in paths if "/c/" in path and path not in self._journal.files]
        self._journal.add(chunks, self._pending)
        self._pending = []

    def _add_confidence(self, sequence: Sequence) -> None:
        """The array starts with the first sequence that has a confidence; all before it get 1."""
        if self._confidence is None:
            if sequence.confidence is None:
                return
            self._confidence = self._growing("confidence", (self.source.layout.joints,))
            self._confidence.append_ones(self._frames.length)
        if sequence.confidence is None:
            self._confidence.append_ones(len(sequence.joints))
        else:
            self._confidence.append(sequence.confidence)

    def finish(self, splits: dict[str, np.ndarray], label_seed: int) -> dict[str, int]:
        """Write all that is left; returns the counts for the manifest."""
        self._frames.flush()
        if self._confidence is not None:
            self._confidence.flush()
        self._write_small("sequence_offsets", np.array(self._offsets, np.int64))
        for name, values in self.columns.items():
            self._write_small(name, np.array(values, np.int64))
        self._write_small("segments", np.array(self._segments, np.int64).reshape(-1, 4))
        self._write_names()
        for name, training in splits.items():
            self._write_small(f"split/{name}", training)
        labels = np.array(self.columns["sample_label"], np.int64)
        lists = labelled_lists(splits, list(self.names), labels, label_seed)
        for name, kept, _ in lists:
            self._write_small(f"labelled/{name}", kept)
        about = {"labelled": {name: about for name, _, about in lists}} | ({"step": STEP} if self._compact else {})
        self.group.attrs.put(_attributes(self.source, list(splits)) | about)
        sequences = len(self._offsets) - 1
        return {
            "samples": len(self.names),
            "sequences": sequences,
            "frames": self._frames.length,
            "segments": len(self._segments),
        }

    def _write_names(self) -> None:
        """As UTF-8 bytes and offsets: Zarr 3 has no text type that is part of its specification."""
        encoded = [name.encode() for name in self.names]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._write_small("sample_name_bytes", np.frombuffer(b"".join(encoded), np.uint8))
        self._write_small("sample_name_offsets", offsets)

    def _write_small(self, name: str, values: np.ndarray) -> None:
        create_array(self.group, name, values.shape, values.dtype)[...] = values


def _splits(source: Source, rules: list[str], writer: _Writer) -> dict[str, np.ndarray]:
    """Name -> `[M]` bool, True for training; the rules' splits, then the reader's, or else one by hash."""
    names = list(writer.names)
    known = (writer.columns[f"sample_{column}"] for column in ("label", "subject", "camera", "setup"))
    columns = rule_columns(*(np.array(values, np.int64) for values in known))
    training: dict[str, Iterable[str]] = {}
    for rule in rules:
        name, chosen = split_from_rule(rule, names, columns)
        if name in training:
            raise DataError(f"--split {rule}: there are two splits called {name!r}; give each its own name")
        training[name] = chosen
    training |= {name: chosen for name, chosen in source.splits.items() if name not in training}
    if not training:
        log.info("%s has no split: every tenth sample by a hash of its name is held out, as 'default'", named(source))
        training["default"] = hashed_split(names)
    return {name: _mask(name, names, set(chosen), source) for name, chosen in training.items()}


def _mask(split: str, names: list[str], training: set[str], source: Source) -> np.ndarray:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", split):
        raise DataError(f"{named(source)}: {split!r} cannot name a split; use letters, digits, '.', '_' and '-'")
    if missing := training.difference(names):
        log.warning(
            "%s: %d training samples of the split %r are not in the store (skipped, or never there), such as %r",
            named(source), len(missing), split, min(missing),
        )  # fmt: skip
    mask = np.array([name in training for name in names])
    if mask.all() or not mask.any():
        side = "training" if mask.all() else "testing"
        log.warning("%s: in the split %r every sample is for %s", named(source), split, side)
    return mask


def _attributes(source: Source, splits: list[str]) -> dict[str, Any]:
    reader = {"name": source.reader, "options": source.options, "package_version": _version()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "layout": asdict(source.layout),
        "channels": source.channels,
        "fps": None if math.isnan(source.fps) else source.fps,
        "classes": source.classes,
        "reader": json.loads(json.dumps(reader, default=str)),  # options may be paths
        "source": source.path,
        "splits": splits,
    }


def _version() -> str:
    try:
        return metadata.version("hitrs-fast")
    except metadata.PackageNotFoundError:
        return "not installed"
