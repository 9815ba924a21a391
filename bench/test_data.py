"""The data's way from disk to a model's input: first the right data, then the time. One core unless it says otherwise.

`extra_info` holds the rates and, where there is a baseline, the ratio of the medians of interleaved rounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from hitrs_fast.clips import Windows, clip_counts
from training.data.augment import AugmentConfig
from training.data.loader import Batch, Loader
from training.data.pipeline import pretext_input
from training.data.readers.ntu import NtuReader
from training.data.readers.skeleton_text import parse_skeleton
from training.data.records import Sample, Sequence, Source
from training.data.store import Store
from training.data.stream import Stream
from training.data.synthetic import DemoReader
from training.data.writer import write_store

from . import skeleton_lines
from .cases import ntu_like
from .measure import interleaved, resident_bytes
from .per_sample import LoopLoader, PerSampleLoader

BATCH = 256
pytestmark = pytest.mark.usefixtures("one_core")
CPU = torch.device("cpu")
CONFIG = hf.HiTRSConfig.authors()
WINDOWS = Windows(CONFIG.window, CONFIG.stride, CONFIG.dilate)


class Walks:
    """Random walks of 25 joints, with NTU's lengths."""

    def __init__(self, count: int) -> None:
        self.source = Source(CONFIG.layout, reader="walks", splits={"all": []})
        self.skipped: list[tuple[str, str]] = []
        self.lengths = ntu_like(count)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng(0)
        for number, frames in enumerate(self.lengths.tolist()):
            walk = rng.standard_normal((frames, 25, 3), np.float32) * np.float32(0.01)
            yield Sample(str(number), frames, [Sequence(walk.cumsum(0) + np.float32(0.5))])


@pytest.fixture(scope="module")
def full(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--full")


@pytest.fixture(scope="module")
def store(full: bool, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """16,000 sequences in chunks of the usual size, or 4,000 in chunks a quarter of that."""
    path = tmp_path_factory.mktemp("bench") / "walks.zarr"
    write_store(path, Walks(16_000 if full else 4_000), chunk_frames=65536 if full else 16384)
    return Store.open(path)


def resident(store: Store, augment: AugmentConfig | None = None) -> Loader:
    chosen = np.arange(store.counts["sequences"])
    frames = torch.from_numpy(store.read_frames())
    return Loader(frames, store.offsets, chosen, WINDOWS, BATCH, augment or AugmentConfig(), 0)


def streamed(store: Store) -> tuple[Loader, Stream]:
    """Through a ring of two runs, the smallest there is."""
    chosen = np.arange(store.counts["sequences"])
    stream = Stream(store, chosen, CPU, memory=0, seed=0)
    return Loader(stream, store.offsets, chosen, WINDOWS, BATCH, AugmentConfig(), 0), stream


def epoch(data: Loader, use: Callable[[Batch], object] = lambda batch: None, number: int = 0) -> int:
    plan, sequences = data.plan(number), 0
    for index in range(len(plan)):
        batch = data.batch(plan, index)
        use(batch)
        sequences += len(batch.sequence)
    return sequences


def test_store_read(benchmark, store: Store, rounds: int, tmp_path: Path) -> None:
    """All frames into memory: the store (checked and decompressed), a memory map, an .npy file; page cache hot."""
    frames = store.read_frames()
    np.save(tmp_path / "frames.npy", frames)
    frames.tofile(tmp_path / "frames.raw")
    ways = {
        "store": store.read_frames,
        "memmap": lambda: np.array(np.memmap(tmp_path / "frames.raw", np.float32, "r", shape=frames.shape)),
        "load": lambda: np.load(tmp_path / "frames.npy"),
    }
    for way in ways.values():
        assert np.array_equal(way(), frames)
    seconds = interleaved(ways, max(rounds, 3))
    benchmark.extra_info.update({f"{name}_mb_per_s": frames.nbytes / 1e6 / s for name, s in seconds.items()})
    benchmark.pedantic(store.read_frames, rounds=rounds)


def test_resident_batches(benchmark, store: Store, rounds: int) -> None:
    data = resident(store)
    check_batches(data, store)
    seconds = interleaved({"epoch": lambda: epoch(data)}, max(rounds, 3))["epoch"]
    benchmark.extra_info["sequences_per_s"] = len(data.plan(0)) * BATCH / seconds
    benchmark.pedantic(lambda: epoch(data), rounds=rounds)


def test_streamed_batches(benchmark, store: Store, rounds: int) -> None:
    """Epochs one after another through a ring of two runs, the page cache hot. The reading thread adds a core."""
    data, stream = streamed(store)
    check_batches(data, store)
    numbers = iter(range(1, 100))
    seconds = interleaved({"epoch": lambda: epoch(data, number=next(numbers))}, max(rounds, 3))["epoch"]
    ring = data.frames.numel() * 4 / 1e6
    benchmark.extra_info.update(sequences_per_s=len(data.plan(0)) * BATCH / seconds, ring_mb=ring)
    benchmark.pedantic(lambda: epoch(data, number=next(numbers)), rounds=rounds)
    stream.close()


def check_batches(data: Loader, store: Store) -> None:
    frames, plan = store.read_frames(), data.plan(0)
    batch = data.batch(plan, 3)
    parts = batch.frames[: int(batch.lengths.sum())].split(batch.lengths.tolist())
    for number, part in zip(batch.sequence.tolist(), parts, strict=True):
        whole = frames[store.offsets[number] : store.offsets[number + 1]]
        assert any(np.array_equal(whole[i : i + len(part)], part) for i in range(len(whole) - len(part) + 1))


@pytest.mark.parametrize("preset", ["authors", "paper", "small"])
def test_pretraining_input(benchmark, store: Store, rounds: int, preset: str) -> None:
    """Gather, augment, stream, corrupt, pairs, order, capacities; `authors` beside loaders of single samples."""
    config, pretext = hf.HiTRSConfig.preset(preset), hf.PretextConfig.preset(preset)
    augment = AugmentConfig.preset(preset)
    data, generator = resident(store, augment), torch.Generator()
    plan = data.plan(0)
    numbers = iter(range(10**6))

    def product() -> None:
        batch = data.batch(plan, next(numbers) % len(plan))
        pretext_input(batch, config, pretext, augment, generator)

    ways: dict[str, Callable[[], object]] = {"product": product}
    if preset == "authors":
        for name, kind in (("numpy", PerSampleLoader), ("loops", LoopLoader)):
            baseline = kind(data.frames.numpy(), store.offsets, WINDOWS)
            same_statistics(data, baseline)
            ways[name] = partial(baseline.batch, plan.sequence[:BATCH])
    seconds = interleaved(ways, 5 * rounds)
    seconds["product"] = interleaved({"product": product}, 20 * max(rounds, 2))["product"]
    benchmark.extra_info["sequences_per_s"] = BATCH / seconds["product"]
    for name in ways.keys() - {"product"}:
        benchmark.extra_info[f"{name}_sequences_per_s"] = BATCH / seconds[name]
        benchmark.extra_info[f"speedup_over_{name}"] = seconds[name] / seconds["product"]
    benchmark.pedantic(product, rounds=10 * rounds)


def same_statistics(data: Loader, loops: PerSampleLoader) -> None:
    """Both do the same work: as many frames, corrupted joints, clips and swaps, within the scatter of random draws."""
    plan, generator = data.plan(0), torch.Generator().manual_seed(0)
    batch = data.batch(plan, 0)
    ours = pretext_input(batch, CONFIG, hf.PretextConfig(), data.augment, generator)
    theirs = loops.batch(batch.sequence)
    frames, their_frames = int(ours.lengths.sum()), int(theirs["lengths"].sum())
    assert abs(frames / their_frames - 1) < 0.05
    assert abs(ours.selected.sum() / frames - theirs["selected"].sum() / their_frames) < 0.1
    ones, their_ones = ((x == 1).all(-1).sum() for x in (ours.frames, theirs["corrupted"]))
    assert abs(ones / frames - their_ones / their_frames) < 0.1
    counts = clip_counts(theirs["lengths"], WINDOWS)
    assert (counts == (theirs["clips"].amax(-1) > 0).sum(1)).all()
    assert theirs["moving"].all() and ours.pair_valid.all()


def test_memory_is_flat_while_streaming(benchmark, full: bool, tmp_path: Path) -> None:
    """A store more than ten times as large as the ring: memory grows by a few chunks at most."""
    write_store(tmp_path / "x.zarr", Walks(16_000 if full else 4_400), chunk_frames=4096)
    store = Store.open(tmp_path / "x.zarr")
    data, stream = streamed(store)
    ring, size = data.frames.numel() * 4, store.counts["frames"] * 300
    assert size > 10 * ring
    batch = data.frames.new_zeros(data.sizes[-1].frames, 25, 3)  # what one batch needs
    plan = data.plan(0)
    data.batch(plan, 0)
    before, grown = resident_bytes(), []
    benchmark.pedantic(lambda: epoch(data, lambda _: grown.append(resident_bytes() - before)), rounds=2)
    benchmark.extra_info.update(store_mb=size / 1e6, ring_mb=ring / 1e6, most_grown_mb=max(grown) / 1e6)
    assert max(grown) < ring + 4 * batch.numel() * 4 + 16e6
    assert max(grown[len(grown) // 2 :]) < max(grown[: len(grown) // 2]) + 8e6  # the second epoch needs no more
    stream.close()


def test_skeleton_files(benchmark, full: bool, rounds: int, tmp_path: Path) -> None:
    """Parsing `.skeleton` text, beside readers that go line by line."""
    files = skeleton_lines.write_files(tmp_path, ntu_like(200 if full else 40))
    size = sum(file.stat().st_size for file in files)
    for file in files:
        expected = skeleton_lines.read_all(file)
        assert np.array_equal(parse_skeleton(file.read_bytes(), str(file)).joints, expected)
        assert np.array_equal(skeleton_lines.read_some(file), expected)
    ways = {
        "product": lambda: [parse_skeleton(file.read_bytes(), str(file)) for file in files],
        "all": lambda: [skeleton_lines.read_all(file) for file in files],
        "some": lambda: [skeleton_lines.read_some(file) for file in files],
    }
    seconds = interleaved(ways, max(rounds, 3))
    benchmark.extra_info.update(
        mb_per_s=size / 1e6 / seconds["product"],
        files_per_s=len(files) / seconds["product"],
        speedup_over_all_values=seconds["all"] / seconds["product"],
        speedup_over_xyz_alone=seconds["some"] / seconds["product"],
    )
    benchmark.pedantic(ways["product"], rounds=rounds)


def test_conversion(benchmark, full: bool, rounds: int, tmp_path: Path) -> None:
    """Files to a store with one and two processes that read. Each file stands for many: links to 40 recordings."""
    recordings = skeleton_lines.write_files(tmp_path, ntu_like(40))
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(4_800 if full else 800):
        name = f"S{1 + number // 2400:03}C001P{1 + number // 60 % 40:03}R001A{1 + number % 60:03}.skeleton"
        os.link(recordings[number % 40], raw / name)
    numbers = iter(range(1000))

    def convert(workers: int) -> float:
        begin = time.perf_counter()
        write_store(tmp_path / f"{next(numbers)}.zarr", NtuReader(raw, workers=workers))
        return time.perf_counter() - begin

    convert(2)  # starts the server that workers are forked from
    seconds = interleaved({"one": lambda: convert(1), "two": lambda: convert(2)}, rounds if full else 1)
    count = len(NtuReader(raw))
    rates = {f"{name}_files_per_s": count / s for name, s in seconds.items()}
    benchmark.extra_info.update(rates, scaling=seconds["one"] / seconds["two"])
    benchmark.pedantic(lambda: convert(2), rounds=1)


def test_compact_size(benchmark, full: bool, tmp_path: Path) -> None:
    """Bytes on disk, over those of the coordinates in float32, of the demo's motions."""
    sizes = {}
    for name, compact in (("whole", False), ("compact", True)):
        write_store(tmp_path / name, DemoReader(600 if full else 60), compact=compact)
        sizes[name] = sum(file.stat().st_size for file in (tmp_path / name / "frames").rglob("*") if file.is_file())
    raw, compact_store = Store.open(tmp_path / "whole").read_frames(), Store.open(tmp_path / "compact")
    assert np.abs(raw - compact_store.read_frames()).max() < 0.000101
    benchmark.extra_info.update({f"{name}_size": size / raw.nbytes for name, size in sizes.items()})
    benchmark.pedantic(compact_store.read_frames, rounds=3)
    assert sizes["compact"] < 0.5 * raw.nbytes
