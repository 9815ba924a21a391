"""Streaming: the same batches as from memory, every sequence once an epoch, in bounded memory, resumed anywhere."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hitrs_fast.clips import Windows
from hitrs_fast.skeleton import LAYOUTS
from training import pretrain
from training.checkpoint import checkpoints, load_checkpoint
from training.data.augment import AugmentConfig
from training.data.loader import Loader
from training.data.readers.arrays import ArraysReader
from training.data.records import DataError
from training.data.samplers import bucketed, shuffled
from training.data.store import Store
from training.data.stream import Stream
from training.data.synthetic import DemoReader
from training.data.writer import write_store

WINDOWS = Windows(7, 7, 2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """200 recordings in chunks of 100 frames: sequences reach over up to four of them."""
    path = tmp_path_factory.mktemp("stream") / "demo.zarr"
    write_store(path, DemoReader(200), chunk_frames=100)
    return Store.open(path)


def streamed(store: Store, memory: int, augment: AugmentConfig | None, chosen: np.ndarray | None = None) -> Loader:
    chosen = np.arange(store.counts["sequences"]) if chosen is None else chosen
    stream = Stream(store, chosen, CPU, memory, 5 if augment else None)
    return Loader(stream, store.offsets, chosen, WINDOWS, 16, augment, 3)


def check_against_the_store(data: Loader, store: Store, epoch: int) -> list[int]:
    """Every batch's frames are pieces of its sequences; returns the sequences met."""
    frames, met = store.read_frames(), []
    plan = data.plan(epoch)
    for index in range(len(plan)):
        time.sleep(0.02)  # time for the thread to overwrite what it must not
        batch = data.batch(plan, index)
        parts = batch.frames[: int(batch.lengths.sum())].split(batch.lengths[: len(batch.sequence)].tolist())
        for number, part in zip(batch.sequence.tolist(), parts, strict=True):
            whole = frames[store.offsets[number] : store.offsets[number + 1]]
            first = int(np.flatnonzero((whole == part[0].numpy()).all((1, 2)))[0])
            assert np.array_equal(whole[first : first + len(part)], part.numpy())
            met.append(number)
    return met


@pytest.mark.parametrize("memory", [0, 3_000_000, 10**9])
def test_every_sequence_is_met_as_it_is_in_the_store(store: Store, memory: int) -> None:
    data = streamed(store, memory, AugmentConfig())
    assert (data.stream.fills == 1) == (memory == 10**9)
    orders = [check_against_the_store(data, store, epoch) for epoch in range(3)]
    for met in orders:
        assert len(set(met)) == len(met) > store.counts["sequences"] - 2 * 16
    assert orders[0] != orders[1]
    data.stream.close()


def test_evaluation_goes_through_the_store_in_order(store: Store) -> None:
    chosen = np.arange(3, store.counts["sequences"], 7)
    data = streamed(store, 3_000_000, None, chosen)
    for _ in range(2):  # validation comes again and again, each time from the first batch
        assert check_against_the_store(data, store, 0) == chosen.tolist()
    data.stream.close()


def test_the_order_is_shuffled_within_and_between_fills(store: Store) -> None:
    data = streamed(store, 3_000_000, AugmentConfig())
    plan = data.plan(0)
    assert (np.diff(plan.fill) >= 0).all() and plan.fill[-1] == data.stream.fills - 1 >= 2
    first = plan.sequence[plan.fill == 0]
    assert (np.diff(first) < 0).sum() > len(first) / 4  # not sorted
    assert set(first) != set(data.plan(1).sequence[data.plan(1).fill == 0])


@pytest.mark.parametrize("start", [(0, 3), (1, 0), (2, 7), (0, 0)])
def test_it_goes_on_from_any_epoch_and_batch(store: Store, start: tuple[int, int]) -> None:
    one, other = (streamed(store, 3_000_000, AugmentConfig()) for _ in range(2))
    for epoch in range(start[0] + 1):
        plan = one.plan(epoch)
        for index in range(len(plan)):
            batch = one.batch(plan, index)
            if (epoch, index) >= start and index < start[1] + 2:
                again = other.batch(other.plan(epoch), index)
                assert torch.equal(batch.frames, again.frames) and torch.equal(batch.lengths, again.lengths)
    one.stream.close(), other.stream.close()


def test_memory_stays_within_the_ring(store: Store) -> None:
    data = streamed(store, 3_000_000, AugmentConfig())
    assert data.frames.numel() * 4 <= 3_000_000 < store.counts["frames"] * 300


def test_a_slow_disk_is_waited_for_and_the_next_fill_read_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = streamed(store, 3_000_000, AugmentConfig())
    read: list[int] = []
    chunk = Store.chunk
    monkeypatch.setattr(Store, "chunk", lambda *a: (read.append(a[1]), time.sleep(0.005), chunk(*a))[2])
    plan = data.plan(0)
    data.batch(plan, 0)
    deadline = time.monotonic() + 10
    before, settled = 0, 0.0
    while time.monotonic() < deadline and settled < 0.3:
        time.sleep(0.1)
        settled = settled + 0.1 if len(read) == before else 0.0
        before = len(read)
    assert data.stream.fills > 2 and len(set(read)) < 2 * data.stream.held * 6 < store.counts["frames"] / 100
    monkeypatch.undo()
    check_against_the_store(data, store, 0)
    data.stream.close()
    assert not any(t.name == "stream" and t.is_alive() for t in threading.enumerate())


def test_a_damaged_chunk_is_an_error_of_the_batch_that_needs_it(tmp_path: Path) -> None:
    write_store(tmp_path / "x.zarr", DemoReader(60), chunk_frames=100)
    store = Store.open(tmp_path / "x.zarr")
    (tmp_path / "x.zarr/frames/c/9/0/0").unlink()
    data = streamed(store, 0, AugmentConfig())
    with pytest.raises(DataError, match="frames/c/9/0/0 is missing"):
        check_against_the_store(data, store, 0)


def test_a_stream_has_one_sampler(store: Store) -> None:
    stream = Stream(store, np.arange(10), CPU, 0, 0)
    with pytest.raises(ValueError, match="sampler"):
        Loader(stream, store.offsets, np.arange(10), WINDOWS, 4, AugmentConfig(), 0, sampler=bucketed(4))
    Loader(stream, store.offsets, np.arange(10), WINDOWS, 4, AugmentConfig(), 0, sampler=shuffled)


def test_pretraining_from_a_stream_resumes_bit_for_bit(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(19, 26, 40)
    joints = np.random.default_rng(1).normal(size=(lengths.sum(), 20, 3)).cumsum(0).astype(np.float32) * 0.01
    np.savez(tmp_path / "a.npz", joints=joints, lengths=lengths, parents=LAYOUTS["kinect20"].parents)
    write_store(tmp_path / "a.zarr", ArraysReader(tmp_path / "a.npz"), chunk_frames=25)

    def run(folder: Path, *more: str) -> dict[str, torch.Tensor]:
        base = ["--data", str(tmp_path / "a.zarr"), "--buffer-gb", "0.0003", "--steps", "12", "--batch-size", "4"]
        base += ["--checkpoint-every", "10", "--validate-every", "12", "--device", "cpu", "--run", str(folder)]
        pretrain.main([*base, *more])
        return load_checkpoint(folder, CPU)

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut")
    shutil.rmtree(checkpoints(tmp_path / "cut")[-1])
    resumed = run(tmp_path / "cut", "--resume")
    assert whole["epoch"] == resumed["epoch"] == 1 and whole["step"] == resumed["step"] == 12
    assert all(torch.equal(resumed["model"][k], tensor) for k, tensor in whole["model"].items())
    with pytest.raises(SystemExit):  # another buffer, other batches
        run(tmp_path / "cut", "--resume", "--buffer-gb", "0.1")
