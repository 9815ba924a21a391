"""Reads a store: one Zarr 3 group that holds every sequence of a data set, and the manifest that vouches for it.

Shape legend: T_total frames of all sequences one after another, J joints, C coordinates, N sequences, M samples,
S labelled segments. The arrays, each compressed without loss and ending with a crc32c:

    frames [T_total, J, C] float32 (in a compact store int16, in steps of `step` metres),
    confidence [T_total, J] float32 (optional), sequence_offsets [N+1] int64,
    sequence_{sample, body, first_frame} [N] int64, sample_{frames, label, subject, camera, setup} [M] int64,
    segments [S, 4] int64 (sample, label, first frame, end frame exclusive), split/NAME [M] bool (True: training),
    labelled/NAME [M] bool (samples that keep their label in semi-supervised training, see `labelled`),
    sample_name_bytes [B] uint8 (UTF-8), sample_name_offsets [M+1] int64

Attributes: format, version, layout, channels, fps (null: unknown), classes, reader, source, splits (the first is the
default), labelled (how each list was drawn), step (of compact stores). Zarr reads a chunk that is missing as zeros;
here that is an error, because the manifest lists it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from hitrs_fast.skeleton import SkeletonLayout

from .manifest import Manifest, file_problems, read_manifest
from .places import Place, place_of
from .records import DataError

if TYPE_CHECKING:
    from obstore.store import ObjectStore


def _column(name: str) -> cached_property[np.ndarray]:
    return cached_property(lambda store: store.array(name))


class Store:
    """A store opened for reading. `Store.open` checks what is quick to check; `check_store` reads every byte.

    `N` and `M` arrays are numpy int64, read on first use and kept; treat them as read-only.
    """

    sequence_sample = _column("sequence_sample")  # [N]
    sequence_body = _column("sequence_body")  # [N] the sensor's id
    sequence_first_frame = _column("sequence_first_frame")  # [N] within the sample
    offsets = _column("sequence_offsets")  # [N+1] into frames
    sample_frames = _column("sample_frames")  # [M] length of the recording
    sample_label = _column("sample_label")  # [M] -1: unknown, as in the next three
    sample_subject = _column("sample_subject")  # [M]
    sample_camera = _column("sample_camera")  # [M]
    sample_setup = _column("sample_setup")  # [M]
    segments = _column("segments")  # [S, 4]

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self.path = str(place)
        self.counts = manifest.counts  # samples, sequences, frames, segments
        self.fingerprint = manifest.checksum  # differs wherever any byte of the store does
        self.has_confidence = "confidence/zarr.json" in manifest.files
        self._place, self._group = place, place.group()
        self._arrays: dict[str, zarr.Array] = {}

    @classmethod
    def open(cls, where: str | Path | ObjectStore) -> Store:
        """A store in a folder, at a URL such as s3://bucket/name.zarr, or in an obstore store.

        DataError for a missing, unfinished or visibly damaged one (file list, sizes, every `zarr.json`).
        """
        place = place_of(where)
        manifest = read_manifest(place)
        problems = file_problems(place, manifest, read=lambda name: name.endswith("zarr.json"))
        if problems:
            more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            raise DataError(f"{place} is damaged: {problems[0]}{more}; convert the data again with --overwrite")
        return cls(place, manifest)

    @cached_property
    def layout(self) -> SkeletonLayout:
        stored = self._attributes["layout"]
        return SkeletonLayout(stored["name"], tuple(stored["joint_names"]), tuple(stored["parents"]), hip=stored["hip"])

    @property
    def channels(self) -> int:
        return self._attributes["channels"]

    @property
    def fps(self) -> float:
        """Frames a second; nan where unknown."""
        fps = self._attributes["fps"]
        return float("nan") if fps is None else fps

    @property
    def classes(self) -> list[str]:
        return self._attributes["classes"]

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        return dict(self._group.attrs)

    @cached_property
    def names(self) -> list[str]:
        """The names of the samples."""
        data = self.array("sample_name_bytes").tobytes()
        offsets = self.array("sample_name_offsets").tolist()
        return [data[first:end].decode() for first, end in pairwise(offsets)]

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64: frames of each sequence."""
        return np.diff(self.offsets)

    @property
    def split_names(self) -> list[str]:
        return self._attributes["splits"]

    def split(self, name: str | None = None) -> np.ndarray:
        """[M] bool, True for training, of the split called `name`, or of the default one."""
        known = self.split_names
        if name is not None and name not in known:
            raise DataError(f"{self.path} has no split {name!r}; it has {', '.join(known)}")
        return self.array(f"split/{name or known[0]}")

    @property
    def labelled_lists(self) -> dict[str, dict[str, Any]]:
        """How each list of labelled samples was drawn: split, percent, kind, seed, samples, sha256."""
        return self._attributes.get("labelled", {})

    def labelled(self, name: str) -> np.ndarray:
        """[M] bool: training samples that keep their label in the list called `name`, such as xsub-1-per-class."""
        if name not in self.labelled_lists:
            raise DataError(f"{self.path} has no list {name!r}; it has {', '.join(self.labelled_lists) or 'none'}")
        return self.array(f"labelled/{name}")

    def read_frames(self) -> np.ndarray:
        """[T_total, J, C] float32: all frames, in memory."""
        return self.array("frames")

    def read_confidence(self) -> np.ndarray:
        """[T_total, J] float32 in 0..1; all ones where the store has none."""
        if self.has_confidence:
            return self.array("confidence")
        return np.ones((self.counts["frames"], self.layout.joints), np.float32)

    def chunks(self, name: str = "frames") -> Iterator[np.ndarray]:
        """The stored chunks of an array in order; the last may be shorter. Chunks divide the first axis alone."""
        for number in range(-(-self.shape(name)[0] // self.chunk_rows(name))):
            yield self.chunk(number, name)

    def chunk_rows(self, name: str) -> int:
        """Rows of a chunk of this array."""
        return self._member(name).chunks[0]

    def chunk(self, number: int, name: str = "frames") -> np.ndarray:
        """One stored chunk; coordinates in metres, float32."""
        array = self._member(name)
        size = array.chunks[0]
        chunk = self._read(array, slice(number * size, (number + 1) * size), number)
        return chunk * np.float32(self._attributes["step"]) if chunk.dtype == np.int16 else chunk

    def shape(self, name: str) -> tuple[int, ...]:
        return self._member(name).shape

    def array(self, name: str) -> np.ndarray:
        """The whole of a stored array, in memory."""
        array = self._member(name)
        out = np.empty(array.shape, np.float32 if array.dtype == np.int16 else array.dtype)
        first = 0
        for chunk in self.chunks(name):
            out[first : first + len(chunk)] = chunk
            first += len(chunk)
        return out

    def _member(self, name: str) -> zarr.Array:
        if name not in self._arrays:
            try:
                self._arrays[name] = cast(zarr.Array, self._group[name])
            except KeyError:
                raise DataError(f"{self.path}: the array {name} is missing; convert the data again") from None
        return self._arrays[name]

    def _read(self, array: zarr.Array, part: slice, number: int) -> np.ndarray:
        """`part` of `array`, which lies in the chunk with this number along the first axis."""
        file = "/".join([array.path, "c", str(number), *["0"] * (array.ndim - 1)])
        if not self._place.has(file):  # Zarr would read zeros
            raise DataError(f"{self.path}: {file} is missing; convert the data again with --overwrite")
        try:
            return np.asarray(array[part])
        except (ValueError, RuntimeError, OSError) as error:
            raise DataError(f"{self.path}: {file} cannot be read ({error}); convert again with --overwrite") from error
