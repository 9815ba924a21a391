"""Batches of whole samples: every body of a recording in one batch, each with its owner."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hitrs_fast.clips import Windows
from training.data.augment import AugmentConfig
from training.data.loader import LONGEST, Loader

WINDOWS = Windows(3, 3, 1)


def loader(bodies: list[int], longest: int, batch_size: int, augment: AugmentConfig | None, **ranks: int) -> Loader:
    rng = np.random.default_rng(len(bodies))
    lengths = rng.integers(1, longest + 1, sum(bodies))
    offsets = np.concatenate([[0], lengths.cumsum()])
    frames = torch.arange(offsets[-1], dtype=torch.float32)[:, None, None] + 1
    samples = np.repeat(10 + np.arange(len(bodies)), bodies)  # numbers with a gap at the beginning
    chosen = np.arange(len(lengths))
    return Loader(frames, offsets, chosen, WINDOWS, batch_size, augment, 0, samples=samples, **ranks)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=12),
    st.sampled_from([5, 40, LONGEST + 50]),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_body_comes_once_with_its_sample(bodies: list[int], longest: int, batch_size: int, train: bool) -> None:
    augment = AugmentConfig(probability=0.0) if train else None
    data = loader(bodies, longest, batch_size, augment)
    plan = data.plan(0)
    seen: dict[int, list[int]] = {}
    for index in range(len(plan)):
        batch = data.batch(plan, index)
        assert len(batch.item) <= batch.room == batch_size and len(batch.lengths) == batch_size * data.pieces
        owner = batch.owner[: len(batch.sequence)].numpy()
        assert (np.diff(owner) >= 0).all()
        assert batch.item[owner].tolist() == data.samples[batch.sequence].tolist()
        assert set(owner.tolist()) == set(range(len(batch.item)))
        begin = 0
        for sequence, length in zip(batch.sequence.tolist(), batch.lengths.tolist(), strict=False):
            piece = batch.frames[begin : begin + length, 0, 0]
            inside = (piece - 1 >= data.first[sequence]) & (piece - 1 < data.first[sequence] + data.full[sequence])
            assert inside.all()
            seen.setdefault(sequence, []).append(length)
            begin += length
    if not train:
        assert set(seen) == set(range(sum(bodies)))
        for sequence, lengths in seen.items():
            assert len(lengths) == -(-int(data.full[sequence]) // LONGEST)
            assert sum(lengths) >= data.full[sequence]


def test_ranks_share_the_samples_of_a_batch() -> None:
    bodies = [1, 2] * 8
    augment = AugmentConfig(probability=0.0)
    whole = loader(bodies, 9, 4, augment)
    parts = [loader(bodies, 9, 4, augment, rank=rank, ranks=2) for rank in range(2)]
    plans = [data.plan(3) for data in parts]
    plan = whole.plan(3)
    for index in range(len(plan)):
        together = whole.batch(plan, index).item.tolist()
        split = [data.batch(own, index).item.tolist() for data, own in zip(parts, plans, strict=True)]
        assert sorted(split[0] + split[1]) == sorted(together)


def test_an_empty_batch() -> None:
    data = loader([1, 2, 1], 5, 2, None)
    batch = data.empty(data.sizes[0])
    assert not batch.lengths.any() and not len(batch.item)
