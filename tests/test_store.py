"""The store: exact round trips, splits, what may not enter, and replacement of a store as a whole."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import LAYOUT, FakeReader, files_of, four_samples, identity, make, track
from store_cases import synced as synced  # a fixture

from training.data.check import check_store
from training.data.records import DataError, Sample, Sequence
from training.data.store import Store
from training.data.writer import write_store


class FailingReader(FakeReader):
    """Fails after its samples."""

    def __init__(self, samples: list[Sample], error: BaseException) -> None:
        super().__init__(samples)
        self.error = error

    def __iter__(self) -> Iterator[Sample]:
        yield from self.samples
        raise self.error


def test_every_field_comes_back(tmp_path: Path) -> None:
    store = Store.open(make(tmp_path))
    sequences = [q for s in four_samples() for q in s.sequences]
    frames = store.read_frames()
    assert frames.dtype == np.float32
    assert frames.tobytes() == np.concatenate([q.joints for q in sequences]).tobytes()
    assert store.lengths.tolist() == [len(q.joints) for q in sequences] == [3, 7, 1, 4, 2, 6]
    assert store.offsets.tolist() == [0, 3, 10, 11, 15, 17, 23]
    assert store.sequence_sample.tolist() == [0, 0, 1, 2, 2, 3]
    assert store.sequence_body.tolist() == [0, 72057594037944738, 0, 0, 0, 0]
    assert store.sequence_first_frame.tolist() == [0, 1, 0, 0, 9, 0]
    assert store.sample_frames.tolist() == [8, 1, 11, 6]
    assert store.sample_label.tolist() == [0, 1, -1, 1]
    assert store.sample_subject.tolist() == [4, 5, -1, -1]
    assert store.sample_camera.tolist() == [2, -1, -1, -1]
    assert store.sample_setup.tolist() == [1, -1, -1, -1]
    assert store.segments.tolist() == [[3, 0, 0, 3], [3, 1, 2, 6]]
    assert store.names == ["s0", "s1", "s2 ü 腕", "s3"]
    assert (store.layout, store.channels, store.fps, store.classes) == (LAYOUT, 3, 30.0, ["a", "b"])
    assert store.counts == {"samples": 4, "sequences": 6, "frames": 23, "segments": 2}
    assert check_store(store.path) == []


def test_confidence_is_one_where_a_sequence_has_none(tmp_path: Path) -> None:
    confidence = Store.open(make(tmp_path)).read_confidence()
    expected = np.ones((23, 3), np.float32)
    expected[15:17] = np.linspace(0, 1, 6).reshape(2, 3)
    assert confidence.dtype == np.float32
    assert np.array_equal(confidence, expected)


def test_without_confidence_no_array_is_stored(tmp_path: Path) -> None:
    write_store(tmp_path / "x.zarr", FakeReader([Sample("s", 2, [track(2)])], fps=float("nan")))
    store = Store.open(tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr/confidence").exists()
    assert (store.read_confidence() == 1).all()
    assert np.isnan(store.fps)
    assert store.segments.shape == (0, 4)
    assert "NaN" not in (tmp_path / "x.zarr/zarr.json").read_text()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 17), min_size=1, max_size=6), chunk=st.integers(1, 12))
def test_any_lengths_and_chunks_round_trip(tmp_path: Path, lengths: list[int], chunk: int) -> None:
    samples = [Sample(f"s{i}", n, [track(n, i)]) for i, n in enumerate(lengths)]
    write_store(tmp_path / "x.zarr", FakeReader(samples), overwrite=True, chunk_frames=chunk)
    store = Store.open(tmp_path / "x.zarr")
    assert store.lengths.tolist() == lengths
    assert np.array_equal(store.read_frames(), np.concatenate([s.sequences[0].joints for s in samples]))
    stored = [len(c) for c in store.chunks()]
    assert stored[:-1] == [chunk] * (len(stored) - 1) and 0 < stored[-1] <= chunk


def test_plain_zarr_reads_it_with_a_checksum_last(tmp_path: Path) -> None:
    group = zarr.open_group(make(tmp_path), mode="r")
    frames = group["frames"]
    assert group.metadata.zarr_format == 3
    assert frames.chunks == (5, 3, 3)
    for name in ("frames", "sequence_offsets", "split/odd", "sample_name_bytes"):
        assert group[name].metadata.to_dict()["codecs"][-1]["name"] == "crc32c"


def test_the_same_data_give_the_same_fingerprint_and_other_data_another(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    prints = [Store.open(make(folder)).fingerprint for folder in (tmp_path, tmp_path / "b")]
    assert prints[0] == prints[1]
    samples = four_samples()
    samples[0].sequences[0].joints[0, 0, 0] += 1e-6
    write_store(tmp_path / "c.zarr", FakeReader(samples, classes=["a", "b"]), chunk_frames=5)
    assert Store.open(tmp_path / "c.zarr").fingerprint != prints[0]


def test_every_file_and_folder_is_flushed_to_the_disk(tmp_path: Path, synced: set[tuple[int, int]]) -> None:
    path = make(tmp_path)
    assert [p for p in (tmp_path, path, *path.rglob("*")) if identity(p.stat()) not in synced] == []


def test_compact_coordinates_are_a_tenth_of_a_millimetre_off_at_most(tmp_path: Path) -> None:
    walk = np.random.default_rng(0).normal(0, 0.004, (5000, 3, 3)).cumsum(0).clip(-6.5, 6.5).astype(np.float32)
    walk[7, 1] = 0
    walk[8, :, 0] = 6.5533, -6.5533, 0.00011
    for name, compact in (("whole", False), ("compact", True)):
        reader = FakeReader([Sample("s", 5000, [Sequence(walk)])])
        write_store(tmp_path / name, reader, compact=compact, chunk_frames=999)
    store = Store.open(tmp_path / "compact")
    frames = store.read_frames()
    assert frames.dtype == np.float32 and np.abs(frames.astype(np.float64) - walk).max() <= 0.0001 + 1e-6
    assert (frames[7, 1] == 0).all() and frames[8, 2, 0] == np.float32(0.0002)
    assert np.array_equal(np.concatenate(list(store.chunks())), frames)
    assert check_store(store.path) == []
    sizes = [sum(f.stat().st_size for f in files_of(tmp_path / n / "frames")) for n in ("whole", "compact")]
    assert sizes[1] < sizes[0] * 0.6 and sizes[1] < walk.nbytes / 2


@pytest.mark.parametrize("far", [6.56, -7.0, 1e30])
def test_compact_refuses_what_it_cannot_hold(tmp_path: Path, far: float) -> None:
    sample = Sample("s", 4, [track(4)])
    sample.sequences[0].joints[1, 1, 1] = far
    with pytest.raises(DataError, match=r"sample 's'.*more than --compact can hold"):
        write_store(tmp_path / "x.zarr", FakeReader([sample]), compact=True)
    assert os.listdir(tmp_path) == []


# Splits


def test_rules_come_before_the_readers_splits(tmp_path: Path) -> None:
    store = Store.open(make(tmp_path, rules=["by-label=labels:1"]))
    assert store.split_names == ["by-label", "odd"]
    assert store.split().tolist() == [False, True, False, True]
    assert store.split("odd").tolist() == [False, True, False, True]
    assert store.split().dtype == bool


def test_without_a_split_some_are_held_out_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = [Sample(f"s{i}", 1, [track(1)]) for i in range(200)]
    with caplog.at_level("INFO"):
        write_store(tmp_path / "x.zarr", FakeReader(samples, splits={}))
    store = Store.open(tmp_path / "x.zarr")
    assert store.split_names == ["default"]
    assert 150 < store.split().sum() < 200
    assert "hash" in caplog.text


def test_unknown_and_unusable_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'xsub'; it has odd"):
        Store.open(make(tmp_path)).split("xsub")
    with pytest.raises(DataError, match="cannot name a split"):
        write_store(tmp_path / "x.zarr", FakeReader(four_samples(), splits={"../up": ["s0"]}))
    with pytest.raises(DataError, match="two splits"):
        write_store(tmp_path / "x.zarr", FakeReader(four_samples()), rules=["a=labels:1", "a=labels:0"])
    assert os.listdir(tmp_path) == ["small.zarr"]


# What may not enter


def wrong(**changes: object) -> Callable[[], list[Sample]]:
    def build() -> list[Sample]:
        sample = Sample("good", 4, [track(4)])
        for name, value in changes.items():
            setattr(sample, name, value)
        return [sample]

    return build


NOT_FINITE = track(4)
NOT_FINITE.joints[2, 1, 0] = np.nan
CASES = {
    "frame 2, joint 1": wrong(sequences=[NOT_FINITE]),
    "float64": wrong(sequences=[Sequence(np.zeros((4, 3, 3)))]),
    r"\[4, 2, 3\]": wrong(sequences=[Sequence(np.zeros((4, 2, 3), np.float32))]),
    r"\[4, 3, 2\]": wrong(sequences=[Sequence(np.zeros((4, 3, 2), np.float32))]),
    "no frames": wrong(sequences=[track(0)]),
    "no sequence": wrong(sequences=[]),
    "frames 1 to 4 are outside": wrong(sequences=[track(4, first_frame=1)]),
    "frames -1 to 2 are outside": wrong(sequences=[track(4, first_frame=-1)]),
    "confidence outside": wrong(sequences=[track(1, confidence=np.full((1, 3), 1.5, np.float32))]),
    r"confidence: float32 \[1, 4\]": wrong(sequences=[track(1, confidence=np.ones((1, 4), np.float32))]),
    "label 2": wrong(label=2),
    "label -2": wrong(label=-2),
    r"segment \[3, 5\)": wrong(segments=[(0, 3, 5)]),
    r"segment \[2, 2\)": wrong(segments=[(0, 2, 2)]),
    "name is empty": wrong(name=""),
    "two samples": lambda: [Sample("a", 1, [track(1)]), Sample("a", 1, [track(1)])],
}


@pytest.mark.parametrize("message", CASES)
def test_an_invalid_sample_is_refused_and_leaves_nothing(tmp_path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_store(tmp_path / "new" / "x.zarr", FakeReader(CASES[message](), classes=["a", "b"]))
    assert os.listdir(tmp_path) == []


def test_no_sample_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    reader = FakeReader([])
    reader.skipped = [("S001", "the file is empty")]
    with pytest.raises(DataError, match=r"raw: no sample in it \(1 skipped: S001: the file is empty\)"):
        write_store(tmp_path / "x.zarr", reader)
    assert os.listdir(tmp_path) == []


# One store in the place of another


INTERRUPTIONS = [RuntimeError("broken"), KeyboardInterrupt(), OSError(errno.ENOSPC, "no space")]


@pytest.mark.parametrize("error", [*INTERRUPTIONS, DataError("bad input")])
def test_an_error_leaves_no_new_store_and_the_old_one_whole(tmp_path: Path, error: BaseException) -> None:
    left = [] if isinstance(error, DataError) else [".partial"]
    with pytest.raises(type(error)):
        write_store(tmp_path / "new.zarr", FailingReader(four_samples(), error), chunk_frames=5)
    assert os.listdir(tmp_path) == [f"new.zarr{ending}" for ending in left]
    for folder in left:
        with pytest.raises(DataError, match="did not finish"):
            Store.open(tmp_path / f"new.zarr{folder}" / "store")
        shutil.rmtree(tmp_path / f"new.zarr{folder}")
    old = Store.open(make(tmp_path)).fingerprint
    with pytest.raises(type(error)):
        write_store(tmp_path / "small.zarr", FailingReader(four_samples(), error), overwrite=True, chunk_frames=5)
    assert sorted(os.listdir(tmp_path)) == ["small.zarr", *(f"small.zarr{ending}" for ending in left)]
    assert Store.open(tmp_path / "small.zarr").fingerprint == old
    assert check_store(tmp_path / "small.zarr") == []


@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_before_the_first_chunk_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_store(tmp_path / "deep" / "new.zarr", FailingReader(four_samples(), error), chunk_frames=100)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_what_is_finished_stays(tmp_path: Path) -> None:
    reader = FakeReader([Sample(f"s{i}", 500, [track(500, i)]) for i in range(10)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (8_000, 1_000):  # refuses a line of the journal; the first chunk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(DataError, match="zarr: cannot be written"):
                write_store(tmp_path / "big.zarr", reader, chunk_frames=100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(tmp_path) == ["big.zarr.partial"]
    write_store(tmp_path / "big.zarr", reader, chunk_frames=100)
    assert os.listdir(tmp_path) == ["big.zarr"]
    assert check_store(tmp_path / "big.zarr") == []


def test_an_existing_store_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = make(tmp_path)
    other = FakeReader([Sample("other", 2, [track(2)])])
    with pytest.raises(DataError, match="--overwrite"):
        write_store(path, other)
    assert len(Store.open(path).names) == 4
    write_store(path, other, overwrite=True)
    assert Store.open(path).names == ["other"]
    assert os.listdir(tmp_path) == ["small.zarr"]


def test_overwrite_spares_what_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"2")
    for name in ("photos", "file"):
        with pytest.raises(DataError, match="not a store"):
            write_store(tmp_path / name, FakeReader(four_samples()), overwrite=True)
    assert (tmp_path / "photos" / "one.jpg").read_bytes() == b"1"
    assert sorted(os.listdir(tmp_path)) == ["file", "photos"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    shutil.copytree(make(tmp_path), tmp_path / "new.zarr.partial")
    (tmp_path / "new.zarr.partial" / "extra").write_bytes(b"x")
    write_store(tmp_path / "new.zarr", FakeReader(four_samples()))
    assert sorted(os.listdir(tmp_path)) == ["new.zarr", "small.zarr"]
    assert check_store(tmp_path / "new.zarr") == []


def test_an_old_store_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.rename(tmp_path / "small.zarr.replaced")
    with pytest.raises(DataError, match="exists already"):
        write_store(path, FakeReader(four_samples()))
    assert os.listdir(tmp_path) == ["small.zarr"]
    assert check_store(path) == []


def test_two_processes_cannot_write_one_store(tmp_path: Path) -> None:
    partial = tmp_path / "small.zarr.partial"
    partial.mkdir()
    (partial / "theirs").write_bytes(b"x")
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            make(tmp_path)
    finally:
        os.close(descriptor)
    assert (partial / "theirs").exists()
    make(tmp_path)
    assert os.listdir(tmp_path) == ["small.zarr"]


def test_if_the_new_store_cannot_move_in_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "store":
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="input/output"):
        write_store(path, FakeReader([Sample("other", 2, [track(2)])]), overwrite=True)
    assert os.listdir(tmp_path) == ["small.zarr"]
    assert len(Store.open(path).names) == 4
