"""What of a conversion is finished, so that the same command can go on after an interruption, wherever it fell.

The work folder holds the journal beside the unfinished store. A line is added each time a chunk of frames is on the
disk, flushed: the chunk's files with sizes and checksums, and every sample that came to its end before the chunk did.
Each line bears its own checksum; from the first line that does not fit, or whose files do not, all is done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .manifest import list_files, sync_and_measure, sync_folder
from .records import Sample

JOURNAL, STORE = "journal", "store"  # in the work folder
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A sample as the journal has it: all that a store holds of it except coordinates and confidences."""

    name: str
    columns: list[int]  # frames, label, subject, camera, setup
    sequences: list[list[int]]  # frames, body, first frame, 1 if it has a confidence
    segments: list[list[int]]  # label, first frame, end frame
    skipped: list[list[str]]  # (name, reason) since the sample before

    @classmethod
    def of(cls, sample: Sample, skipped: list[tuple[str, str]]) -> Row:
        columns = [sample.frames, sample.label, sample.subject, sample.camera, sample.setup]
        sequences = [
            [len(q.joints), int(q.body), int(q.first_frame), int(q.confidence is not None)] for q in sample.sequences
        ]
        segments = [[int(value) for value in segment] for segment in sample.segments]
        return cls(sample.name, [int(value) for value in columns], sequences, segments, [[*pair] for pair in skipped])


def key_of(path: str, settings: dict[str, Any]) -> str:
    """A digest of all that decides a store: `settings`, and names, sizes and times of the raw files at `path`."""
    stamps = [] if not path else [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in _files(Path(path))]
    return hashlib.sha256(json.dumps([settings, stamps], default=str).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for name in list_files(path):
        yield path / name


class Journal:
    """The journal of the conversion `key` in the folder `work`. Opening it removes whatever is not vouched for."""

    def __init__(self, work: Path, key: str) -> None:
        self.path, self.store, self._key = work / JOURNAL, work / STORE, key
        self.rows: list[Row] = []
        self.files: dict[str, tuple[int, int]] = {}  # path within the store -> size, CRC-32
        kept = b"".join(self._finished_lines())
        if kept:
            log.info("going on after %d samples that are converted already", len(self.rows))
            self._cut(len(kept))
        else:
            self.discard()
        self._tidy(work)

    def _finished_lines(self) -> Iterator[bytes]:
        """The lines that hold, taken in."""
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines(keepends=True):
            checksum, _, body = line.partition(b" ")
            if checksum != b"%08x" % zlib.crc32(body):
                return  # cut off while it was written
            content = json.loads(body)
            if content["key"] != self._key:
                log.info("%s is of other data or options: starting anew", self.path.parent)
                return
            files = {name: tuple(found) for name, found in content["files"].items()}
            if any(_measured(self.store / name) != found for name, found in files.items()):
                return
            self.files |= files
            self.rows += [Row(**row) for row in content["rows"]]
            yield line

    def _cut(self, size: int) -> None:
        with self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def _tidy(self, work: Path) -> None:
        for entry in work.iterdir():
            if entry not in (self.path, self.store):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for name in set(list_files(self.store)) - self.files.keys():
            (self.store / name).unlink()
        for folder, _, _ in os.walk(self.store, topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)

    def add(self, names: list[str], rows: list[Row]) -> None:
        """Vouch for these files of the store, once they are on the disk, and for these samples."""
        files = {name: sync_and_measure(self.store / name) for name in names}
        for folder in {parent for name in names for parent in (self.store / name).parents}:
            if folder.is_relative_to(self.path.parent):
                sync_folder(folder)
        self.files |= files
        body = json.dumps({"key": self._key, "files": files, "rows": [asdict(row) for row in rows]}).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(b"%08x %b" % (zlib.crc32(body), body))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Nothing here is to be gone on with."""
        self.path.unlink(missing_ok=True)


def _measured(path: Path) -> tuple[int, int] | None:
    return sync_and_measure(path) if path.is_file() else None
