"""Frames of a store larger than memory, in chunk-shuffled order, read ahead by a thread.

A *run* is a few chunks side by side with all sequences that begin in them. An epoch takes the runs in random order,
some at a time: a *fill*. The ring has two halves; while batches are drawn from one fill, in random order among all of
its sequences, the next fill is read into the other half. A batch may reach from one fill into the next. Fills are
numbered through all epochs, so that the first fill of an epoch is read while the last one of the epoch before is used.

Shape legend: R rows of the ring, J joints, C coordinates, N sequences.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .store import Store

RUN_CHUNKS = 4  # a run also reads the chunk after it, for the sequence that reaches into it
STAGED = 2  # pinned buffers on the way to a device


def fits(store: Store, memory: int) -> bool:
    """Whether all frames fit in half of so many bytes."""
    return _bytes(store) <= memory / 2


def memory_of(device: torch.device) -> int:
    """Bytes of the device that are free, or of the host."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(store: Store) -> int:
    return store.counts["frames"] * store.layout.joints * store.channels * 4


class Arrangement(NamedTuple):
    """One epoch: the fill that each sequence is in, and where it lies in the ring."""

    fill: np.ndarray  # [N] within the epoch
    start: np.ndarray  # [N] row of its first frame


class Stream:
    """The ring `frames` `[R, J, C]` float32 on `device`, which a thread fills from `store`.

    chosen: the sequences that are wanted; runs without any are not read.
    memory: bytes for the ring; at least two runs are held, whatever it says.
    seed: None takes the runs in order.
    """

    def __init__(
        self, store: Store, chosen: np.ndarray, device: torch.device, memory: int, seed: int | None = None
    ) -> None:
        self._store, self._seed = store, seed
        self._chunk = store.chunk_rows("frames")
        run = store.offsets[:-1] // (RUN_CHUNKS * self._chunk)
        self._runs, self._run = np.unique(run, return_inverse=True)  # of all sequences; those not chosen follow
        self._wanted_runs = np.unique(self._run[chosen])
        self._first = store.offsets[:-1][np.searchsorted(run, self._runs)]
        self._end = store.offsets[np.searchsorted(run, self._runs, "right")]
        self._slot = int((self._end - self._first)[self._wanted_runs].max())  # rows of one run
        frame = store.layout.joints * store.channels * 4
        self.held = int(np.clip(memory // (2 * self._slot * frame), 1, len(self._wanted_runs)))  # runs of a fill
        self.fills = -(-len(self._wanted_runs) // self.held)
        shape = (2 * self.held * self._slot, store.layout.joints, store.channels)
        self.frames = torch.zeros(shape, device=device)
        self._reader: _Reader | None = None

    def _order(self, epoch: int) -> np.ndarray:
        if self._seed is None:
            return self._wanted_runs
        return np.random.default_rng([self._seed, epoch, 1]).permutation(self._wanted_runs)

    def arrange(self, epoch: int) -> Arrangement:
        """For all sequences of the store; those of runs that are not read get -1."""
        fill, base = np.full(len(self._runs), -1), np.full(len(self._runs), -1)
        order = self._order(epoch)
        place = np.arange(len(order))
        fill[order] = place // self.held
        half = (epoch * self.fills + fill[order]) % 2
        base[order] = (half * self.held + place % self.held) * self._slot
        start = base[self._run] + self._store.offsets[:-1] - self._first[self._run]
        return Arrangement(fill[self._run], np.where(base[self._run] < 0, -1, start))

    def need(self, epoch: int, first: int, last: int) -> None:
        """Wait until fills `first` to `last` (at most the next one) of an epoch are there; earlier ones may go."""
        first, last = epoch * self.fills + first, epoch * self.fills + last
        if self._reader is None or not self._reader.holds(first):
            self.close()
            self._reader = _Reader(self, first)
        self._reader.wait(first, last)

    def read(self, number: int, copier: _Copier) -> None:
        """Fill `number`, counted through all epochs, into its half of the ring."""
        epoch, fill = divmod(number, self.fills)
        for place, run in enumerate(self._order(epoch)[fill * self.held : (fill + 1) * self.held]):
            base = ((number % 2) * self.held + place) * self._slot
            first, end = self._first[run], self._end[run]
            for chunk in range(first // self._chunk, -(-end // self._chunk)):
                begin = chunk * self._chunk
                part = slice(max(first - begin, 0), end - begin)
                row = base + max(begin - first, 0)
                copier.copy(self._store.chunk(chunk)[part], row)
        copier.finish()

    def close(self) -> None:
        """End the thread; `need` starts another."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None


class _Reader:
    """The thread that reads fills from `begin` on, at most one ahead of what is used."""

    def __init__(self, stream: Stream, begin: int) -> None:
        self._condition = threading.Condition()
        self._used = self._read = begin  # fills before `used` may be overwritten, before `read` are there
        self._stopped = False
        self._error: BaseException | None = None
        self._copier = _Copier(stream.frames)
        self._thread = threading.Thread(target=self._work, args=(stream,), name="stream", daemon=True)
        self._thread.start()

    def holds(self, number: int) -> bool:
        """Whether fill `number` is there, or will be next."""
        return self._error is None and self._used <= number <= self._used + 2

    def wait(self, first: int, last: int) -> None:
        with self._condition:
            if first > self._used:
                self._copier.after_what_is_queued()
                self._used = first
                self._condition.notify_all()
            self._condition.wait_for(lambda: self._read > last or self._error)
            if self._error:
                raise self._error

    def _work(self, stream: Stream) -> None:
        try:
            while self._may_read():
                stream.read(self._read, self._copier)
                with self._condition:
                    self._read += 1
                    self._condition.notify_all()
        except BaseException as error:  # raised where the frames are waited for
            with self._condition:
                self._error = error
                self._condition.notify_all()

    def _may_read(self) -> bool:
        """Waits until the next fill's half of the ring is free; false if the reader is to end."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopped or self._used >= self._read - 1)
            return not self._stopped

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        self._thread.join()


class _Copier:
    """Copies blocks into the ring; onto a device through pinned buffers, on a stream of its own."""

    def __init__(self, ring: Tensor) -> None:
        self._ring = ring
        self._cuda = torch.cuda.Stream(ring.device) if ring.is_cuda else None
        self._staged: list[tuple[Tensor, torch.cuda.Event]] = []
        self._turn = 0

    def copy(self, block: np.ndarray, row: int) -> None:
        target = self._ring[row : row + len(block)]
        if self._cuda is None:
            target.numpy()[...] = block
            return
        buffer, free = self._buffer(len(block))
        free.synchronize()
        buffer.numpy()[...] = block
        with torch.cuda.stream(self._cuda):
            target.copy_(buffer, non_blocking=True)
            free.record()

    def _buffer(self, rows: int) -> tuple[Tensor, torch.cuda.Event]:
        self._turn = (self._turn + 1) % STAGED
        if len(self._staged) < STAGED:
            self._staged.append((torch.empty((0, *self._ring.shape[1:])), torch.cuda.Event()))
        buffer, free = self._staged[self._turn % len(self._staged)]
        if len(buffer) < rows:
            free.synchronize()
            buffer = torch.empty((rows, *self._ring.shape[1:]), pin_memory=True)
            self._staged[self._turn % len(self._staged)] = buffer, free
        return buffer[:rows], free

    def finish(self) -> None:
        """Wait until all copies have arrived."""
        if self._cuda is not None:
            self._cuda.synchronize()

    def after_what_is_queued(self) -> None:
        """Later copies wait for the work that the caller's stream has now, which may still read what they overwrite."""
        if self._cuda is not None:
            self._cuda.wait_stream(torch.cuda.current_stream(self._ring.device))
