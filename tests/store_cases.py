"""A small store, a reader that makes it, and a disk that only notes what is flushed to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hitrs_fast.skeleton import SkeletonLayout
from training.data.records import Sample, Sequence, Source
from training.data.store import Store
from training.data.writer import write_store

LAYOUT = SkeletonLayout("three", ("hip", "knee", "foot"), (-1, 0, 1))


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Files and folders that were flushed to the disk; the flush itself is left out, as it takes most of the time."""
    done: set[tuple[int, int]] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.add(identity(os.fstat(descriptor))))
    return done


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class FakeReader:
    def __init__(self, samples: list[Sample], **source: object) -> None:
        settings = {"layout": LAYOUT, "fps": 30.0, "reader": "fake", "path": "raw", "splits": {"odd": ["s1", "s3"]}}
        self.source = Source(**(settings | source))  # type: ignore[arg-type]
        self.skipped: list[tuple[str, str]] = []
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def track(frames: int, seed: int = 0, **more: object) -> Sequence:
    joints = np.random.default_rng([seed, frames]).normal(size=(frames, 3, 3)).astype(np.float32)
    return Sequence(joints, **more)  # type: ignore[arg-type]


def four_samples() -> list[Sample]:
    """23 frames in 6 sequences; with chunks of 5 frames sequences span one to three chunks."""
    ghost = Sequence(np.zeros((7, 3, 3), np.float32), body=72057594037944738, first_frame=1)
    sure = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    return [
        Sample("s0", 8, [track(3, 1), ghost], label=0, subject=4, camera=2, setup=1),
        Sample("s1", 1, [track(1, 2)], label=1, subject=5),
        Sample("s2 ü 腕", 11, [track(4, 3), track(2, 4, first_frame=9, confidence=sure)], label=-1),
        Sample("s3", 6, [track(6, 5)], label=1, segments=[(0, 0, 3), (1, 2, 6)]),
    ]


def make(folder: Path, **options: object) -> Path:
    path = folder / "small.zarr"
    write_store(path, FakeReader(four_samples(), classes=["a", "b"]), chunk_frames=5, **options)  # type: ignore[arg-type]
    return path


def read_everything(path: Path) -> None:
    store = Store.open(path)
    store.read_frames()
    store.read_confidence()
    for name in ("sequence_sample", "sequence_body", "sequence_first_frame", "offsets", "segments", "names", "layout"):
        getattr(store, name)
    for name in ("frames", "label", "subject", "camera", "setup"):
        getattr(store, f"sample_{name}")
    for name in store.split_names:
        store.split(name)
    for name in store.labelled_lists:
        store.labelled(name)


def files_of(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file())
