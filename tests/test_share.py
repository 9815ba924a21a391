"""A rank's part of a batch is, number for number, that part of the whole batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hitrs_fast as hf
from hitrs_fast.clips import Windows, clip_counts, clip_frames
from training.data.augment import AugmentConfig
from training.data.loader import Batch, Loader
from training.data.pipeline import pretext_input
from training.data.share import dealt

WINDOWS = Windows(7, 7, 2)


def loaders(ranks: int, augment: AugmentConfig | None, count: int = 70) -> list[Loader]:
    lengths = np.clip(np.random.default_rng(0).lognormal(4.0, 0.6, count).astype(int), 20, 300)
    offsets = np.concatenate([[0], lengths.cumsum()])
    frames = torch.randn(offsets[-1], 25, 3, generator=torch.Generator().manual_seed(1)).abs() + 0.1
    frames[:, 3:5][::7] = 0
    chosen = np.arange(count)
    return [Loader(frames, offsets, chosen, WINDOWS, 12, augment, 3, rank=r, ranks=ranks) for r in range(ranks)]


def drawn(batch: Batch, preset: str, augment: AugmentConfig | None) -> hf.PretextBatch:
    config = hf.HiTRSConfig.preset(preset)
    return pretext_input(batch, config, hf.PretextConfig.preset(preset), augment, torch.Generator().manual_seed(9))


def of_sequence(batch: hf.PretextBatch, number: int, clips: int) -> list[torch.Tensor]:
    """All that the model is given of one sequence, without reference to where it lies in its batch."""
    begin, end = (int(batch.lengths[:n].sum()) for n in (number, number + 1))
    counts = clip_counts(batch.lengths, WINDOWS)
    rows = slice(int(counts[:number].sum()), int(counts[: number + 1].sum()))
    pair = batch.pair[[number, len(batch.lengths) + number]]
    pair = torch.where(pair < len(batch.frames), pair - begin, -1000)
    parts = [x[begin:end] for x in (batch.frames, batch.target, batch.selected)]
    return [*parts, pair, batch.pair_valid[number], batch.order[rows] - rows.start]


@pytest.mark.parametrize("preset", ["paper", "authors", "small"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ranks", [2, 4])
def test_parts_make_the_whole(preset: str, training: bool, ranks: int) -> None:
    augment = AugmentConfig.preset(preset) if training else None
    [alone] = loaders(1, augment)
    parts = loaders(ranks, augment)
    plan = alone.plan(1)
    for index in (0, len(plan) - 1):
        batch = alone.batch(plan, index)
        whole = drawn(batch, preset, augment)
        met = []
        for loader in parts:
            part = loader.batch(loader.plan(1), index)
            assert part.everywhere.sequence.tolist() == batch.sequence.tolist() and len(part.lengths) == 12 // ranks
            own = drawn(part, preset, augment)
            for number, sequence in enumerate(part.sequence.tolist()):
                place = batch.sequence.tolist().index(sequence)
                met.append(place)
                for x, y in zip(of_sequence(own, number, 0), of_sequence(whole, place, 0), strict=True):
                    assert torch.equal(x, y)
            total = int(own.lengths.sum())
            assert not own.selected[total:].any() and torch.equal(own.frames[total:], own.target[total:])
            clip_frames(own.lengths, WINDOWS, part.capacity.clips, len(own.frames))
        assert sorted(met) == list(range(len(batch.sequence)))


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 9))
def test_dealt_evenly(lengths: list[int], ranks: int) -> None:
    length = np.array(lengths, np.int64)
    parts = [dealt(length, rank, ranks) for rank in range(ranks)]
    assert sorted(np.concatenate(parts)) == list(range(len(length)))
    for of_item in (length, -(-length // 7)):
        sums = [int(of_item[part].sum()) for part in parts]
        assert max(sums) - min(sums) <= max(of_item, default=0)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(
    st.lists(st.lists(st.integers(1, 25), min_size=1, max_size=4), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([WINDOWS, Windows(4, 3, 2), Windows(3, 1, 1), Windows(2, 5, 3)]),
)
@settings(max_examples=80, deadline=None)
def test_every_part_fits(bodies: list[list[int]], ranks: int, own: int, train: bool, windows: Windows) -> None:
    """Of whole samples with several bodies, cut into pieces of at most 10 frames."""
    lengths = np.concatenate([np.array(b) for b in bodies])
    offsets = np.concatenate([[0], lengths.cumsum()])
    samples = np.repeat(np.arange(len(bodies)), [len(b) for b in bodies])
    frames, augment = torch.ones(offsets[-1], 1, 3), AugmentConfig() if train else None
    items = []
    for rank in range(ranks):
        loader = Loader(
            frames, offsets, np.arange(len(lengths)), windows, own * ranks, augment, 0,
            samples=samples, longest=10, rank=rank, ranks=ranks,
        )  # fmt: skip
        plan = loader.plan(0)
        for index in range(len(plan)):
            batch = loader.batch(plan, index)
            assert len(batch.frames) in {s.frames for s in loader.sizes} and len(batch.item) <= batch.room == own
            assert batch.item[batch.owner[: len(batch.sequence)].numpy()].tolist() == samples[batch.sequence].tolist()
            items += batch.item.tolist()
    if not train:
        assert sorted(items) == list(range(len(bodies)))
