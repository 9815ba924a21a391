"""Interrupted conversions: whatever the moment, no finished store appears, and the same command goes on to the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hitrs_fast.skeleton import SkeletonLayout
from training.data.check import check_store
from training.data.manifest import list_files
from training.data.records import DataError, Sample, Sequence, Source
from training.data.store import Store
from training.data.writer import write_store

CHUNK = 64


class SlowReader:
    """Sixty samples of 1 to 2 sequences, some with confidence, one in seven skipped; `pause` seconds before each."""

    def __init__(self, pause: float = 0.0, path: str = "", count: int = 60) -> None:
        layout = SkeletonLayout("three", ("hip", "knee", "foot"), (-1, 0, 1))
        self.source = Source(layout, reader="slow", path=path, splits={"even": [f"s{i}" for i in range(0, count, 2)]})
        self.skipped: list[tuple[str, str]] = []
        self.pause, self.count = pause, count
        self.begun: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return self.after(0)

    def after(self, first: int) -> Iterator[Sample]:
        del self.skipped[:]
        for number in range(first, self.count):
            self.begun.append(number)
            time.sleep(self.pause)
            if number % 7 == 3:
                self.skipped.append((f"s{number}", "unlucky"))
            else:
                yield self.sample(number)

    def sample(self, number: int) -> Sample:
        rng = np.random.default_rng(number)
        tracks = []
        for _ in range(1 + number % 2):
            frames = int(rng.integers(1, 100))
            confidence = rng.random((frames, 3)).astype(np.float32) if number > 25 and number % 3 else None
            tracks.append(Sequence(rng.normal(size=(frames, 3, 3)).astype(np.float32), number, 0, confidence))
        return Sample(f"s{number}", 100, tracks, label=number % 4, segments=[(1, 0, 50)] * (number % 3))


class ResumableReader(SlowReader):
    first = 0

    def start_after(self, name: str) -> None:
        self.first = int(name[1:]) + 1

    def __iter__(self) -> Iterator[Sample]:
        return self.after(self.first)


def convert(path: Path, pause: float) -> None:
    write_store(path, ResumableReader(pause), chunk_frames=CHUNK)


def contents(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in list_files(path)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "x.zarr"
    convert(path, 0)
    return contents(path)


def finished_chunks(work: Path) -> dict[str, os.stat_result]:
    """The chunks that the journal vouches for."""
    journal = work / "journal"
    if not journal.exists():
        return {}
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    names = [name for line in lines for name in json.loads(line[9:])["files"]]
    return {name: (work / "store" / name).stat() for name in names}


def untouched(status: os.stat_result) -> tuple[int, int]:
    """What a file that is not written again keeps."""
    return status.st_ino, status.st_mtime_ns


def kill_after(path: Path, seconds: float) -> bool:
    """Starts the conversion and kills it; whether it was still at work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=convert, args=(path, 0.004))
    process.start()
    deadline = time.monotonic() + 60
    while not path.with_name("x.zarr.partial").exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(30)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_writer_killed_at_twenty_random_moments(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    rng = np.random.default_rng(0)
    killed = went_on = 0
    for number in range(20):
        path = tmp_path / str(number) / "x.zarr"
        path.parent.mkdir()
        for _ in range(1 + number % 2):  # half of them twice
            killed += kill_after(path, rng.uniform(0, 0.8))
            if path.exists():
                assert contents(path) == undisturbed
                break
            with pytest.raises(DataError, match="no such folder"):
                Store.open(path)
        else:
            work = path.with_name("x.zarr.partial")
            before = finished_chunks(work)
            went_on += bool(before)
            held = os.open(work, os.O_RDONLY)  # the folder's number stays taken, so that a new one has another
            convert(path, 0)
            os.close(held)
            assert {n: untouched(s) for n, s in before.items()} == {n: untouched((path / n).stat()) for n in before}
        assert contents(path) == undisturbed
        assert os.listdir(path.parent) == ["x.zarr"]
        shutil.rmtree(path.parent)
    assert killed >= 15 and went_on >= 8  # the moments were spread over the conversion


class Stop(BaseException):
    """What no writer expects."""


@pytest.mark.parametrize("reader", [SlowReader, ResumableReader])
def test_it_goes_on_wherever_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], reader: type[SlowReader]
) -> None:
    """Stopped at every third flush to the disk, so between any two steps of the writer, the manifest's included."""
    path = tmp_path / "x.zarr"
    flushes = 0

    def fsync(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == limit:
            raise Stop

    monkeypatch.setattr(os, "fsync", fsync)
    skipped = [(f"s{i}", "unlucky") for i in range(60) if i % 7 == 3]
    rounds, limit = 0, 30
    while not path.exists():
        flushes, rounds = 0, rounds + 1
        limit += 37
        source = reader()
        before = finished_chunks(tmp_path / "x.zarr.partial")
        try:
            summary = write_store(path, source, chunk_frames=CHUNK)
        except Stop:
            assert not path.exists()
        folder = path if path.exists() else tmp_path / "x.zarr.partial/store"
        assert {n: untouched(s) for n, s in before.items()} == {n: untouched((folder / n).stat()) for n in before}
    assert rounds > 5
    assert contents(path) == undisturbed and check_store(path) == []
    assert summary.skipped == skipped
    assert (0 in source.begun) == (reader is SlowReader)
    assert os.listdir(tmp_path) == ["x.zarr"]


def interrupted(path: Path, reader: SlowReader) -> Path:
    """The work folder of a conversion that stopped after 40 samples."""
    whole = reader.sample
    reader.sample = lambda number: whole(number) if number < 40 else exec("raise KeyboardInterrupt")  # type: ignore
    with pytest.raises(KeyboardInterrupt):
        write_store(path, reader, chunk_frames=CHUNK)
    assert not path.exists()
    return path.with_name(f"{path.name}.partial")


def test_other_data_or_options_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, raw = tmp_path / "x.zarr", tmp_path / "raw"
    raw.write_bytes(b"1")
    with caplog.at_level("INFO"):
        interrupted(path, SlowReader(path=str(raw)))
        assert "the same command goes on" in caplog.text
        raw.write_bytes(b"22")
        write_store(path, reader := ResumableReader(path=str(raw)), chunk_frames=CHUNK)
    assert "starting anew" in caplog.text and reader.begun[0] == 0
    interrupted(path.with_name("y.zarr"), SlowReader())
    write_store(path.with_name("y.zarr"), reader := ResumableReader(), chunk_frames=CHUNK, rules=["a=labels:1"])
    assert reader.begun[0] == 0 and check_store(path.with_name("y.zarr")) == []


@pytest.mark.parametrize("damage", ["chunk", "missing", "journal", "cut"])
def test_a_damaged_work_folder_is_done_again_from_there(
    tmp_path: Path, undisturbed: dict[str, bytes], damage: str
) -> None:
    path = tmp_path / "x.zarr"
    work = interrupted(path, SlowReader())
    chunk, journal = work / "store/frames/c/3/0/0", work / "journal"
    if damage == "missing":
        chunk.unlink()
    elif damage == "cut":
        journal.write_bytes(journal.read_bytes()[:-20])
    else:
        file = chunk if damage == "chunk" else journal
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.write_bytes(data)
    write_store(path, reader := ResumableReader(), chunk_frames=CHUNK)
    assert 0 < reader.begun[0] < 40
    assert contents(path) == undisturbed


def test_a_reader_that_begins_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    interrupted(path, SlowReader())
    changed = SlowReader()
    changed.after = lambda first: iter([SlowReader().sample(5)])  # type: ignore[method-assign]
    with pytest.raises(DataError, match="does not begin as it did"):
        write_store(path, changed, chunk_frames=CHUNK)
