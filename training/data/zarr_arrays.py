"""Zarr arrays as a store has them: compressed, checked by a crc32c, whole chunks written in one go."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from .records import Interrupted


class WriteThread(ThreadPoolExecutor):
    """The one thread that writes a store. As a context it waits for its last write before it ends.

    Without it Ctrl-C would leave Zarr's own threads at work in a folder that is being removed.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(max_workers=1)
        self._target = target

    def call(self, work: Callable[..., Any], *args: object) -> Any:
        """The result of `work(*args)`; a write that the system refuses becomes a Interrupted."""
        try:
            return self.submit(work, *args).result()
        except OSError as error:
            raise Interrupted(f"{self._target}: cannot be written ({error.strerror})") from error


def create_group(folder: Path) -> zarr.Group:
    return zarr.create_group(folder, zarr_format=3)


def create_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, chunk: int | None = None
) -> zarr.Array:
    """An array in chunks of `chunk` rows, or in one. Every chunk is written, so that a missing one is always a loss.

    zstd makes coordinates in int16 a quarter smaller than lz4 does; the bytes of float32 are noise to both.
    """
    codec = BloscCodec(cname="zstd" if dtype == np.int16 else "lz4", clevel=5, shuffle="shuffle")
    return group.create_array(
        name,
        shape=shape,
        chunks=(max(1, chunk or shape[0]), *shape[1:]),
        dtype=dtype,
        compressors=[codec, Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


class GrowingArray:
    """An array `[length, *shape]` that grows; whole chunks go to disk, the rest waits in memory.

    stored: rows that lie on the disk already, whole chunks; as many are passed over before anything is written.
    written: called, on the writing thread, after each whole chunk.
    """

    def __init__(
        self,
        thread: WriteThread,
        group: zarr.Group,
        name: str,
        shape: tuple[int, ...],
        chunk: int,
        stored: int = 0,
        written: Callable[[], None] = lambda: None,
        dtype: type = np.float32,
    ) -> None:
        self._thread, self._group, self._name, self._stored, self._written = thread, group, name, stored, written
        self._buffer: np.ndarray = np.empty((chunk, *shape), dtype)
        self._filled = 0
        self._array: zarr.Array | None = None
        self.length = 0
        if stored:
            self._array = thread.call(create_array, group, name, (stored, *shape), self._buffer.dtype, chunk)

    def pass_over(self, rows: int) -> None:
        """Count `rows` that lie on the disk."""
        self.length += rows

    def append(self, block: np.ndarray) -> None:
        passed = min(len(block), max(0, self._stored - self.length))
        self.pass_over(passed)
        block = block[passed:]
        while len(block):
            part = block[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            self.length += len(part)
            block = block[len(part) :]
            if self._filled == len(self._buffer):
                self._thread.call(self._write_chunk)

    def _write_chunk(self) -> None:
        self.flush()
        self._written()

    def flush(self) -> None:
        """Write what waits. Only the last flush may find less than a chunk; a sole chunk is as short as its data."""
        if self._filled == 0:
            return
        block = self._buffer[: self._filled]
        if self._array is None:
            self._array = create_array(self._group, self._name, block.shape, block.dtype)
        else:
            self._array.resize((self.length, *block.shape[1:]))
        self._array[self.length - self._filled :] = block
        self._filled = 0

    def append_ones(self, count: int) -> None:
        size = len(self._buffer)
        for first in range(0, count, size):
            self.append(np.ones((min(size, count - first), *self._buffer.shape[1:]), np.float32))
