"""What the pretext tasks draw, checked sample by sample against the rules in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hitrs_fast as hf
from bench.reference import window_list
from hitrs_fast.clips import Windows, clip_counts, clip_frames, padded_window, window_rows
from hitrs_fast.ragged import rows_of, slots_of
from training.data.corrupt import (
    _folded,
    _in_moving_clips,
    corrupt_joints,
    draw_order,
    draw_pairs,
    select,
    swap_positions,
)

WINDOWS = Windows(7, 7, 2)
lengths_lists = st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(lambda n: sum(n) > 0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(lengths_lists, st.integers(0, 9))
def test_rows(lengths: list[int], extra: int) -> None:
    rows = rows_of(torch.tensor(lengths), sum(lengths) + extra)
    expected = [(b, i) for b, n in enumerate(lengths) for i in range(n)]
    found = list(zip(rows.sequence.tolist(), rows.position.tolist(), strict=True))
    assert found[: len(expected)] == expected
    assert rows.valid.tolist() == [True] * len(expected) + [False] * extra
    assert rows.sequence.max() < len(lengths)


@given(lengths_lists, st.integers(0, 5), st.integers(0, 3))
def test_slots(counts: list[int], extra: int, slack: int) -> None:
    total, longest = sum(counts) + extra, max(counts) + slack
    starts = torch.tensor([sum(counts[:b]) for b in range(len(counts))])
    slots = slots_of(starts, torch.tensor(counts), total, longest)
    row = slots.row.view(len(counts), longest + 1)
    for b, n in enumerate(counts):
        assert row[b, :n].tolist() == list(range(starts[b], starts[b] + n))
        assert row[b, longest] == total + b
        assert slots.visible[b].tolist() == [True] * n + [False] * (longest - n) + [True]
        for i in range(n):
            assert slots.slot[starts[b] + i] == b * (longest + 1) + i
            assert slots.position[starts[b] + i] == i
        assert slots.slot[total + b] == b * (longest + 1) + longest
    assert slots.row.max() < total + len(counts) and slots.slot.max() < row.numel()


@given(lengths_lists, st.integers(2, 7), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=200)
def test_clips_equal_the_window_lists(lengths: list[int], window: int, stride: int, dilate: int) -> None:
    windows = Windows(window, stride, dilate)
    zero = sum(lengths)
    expected, first = [], 0
    counts = clip_counts(torch.tensor(lengths), windows).tolist()
    for n, count in zip(lengths, counts, strict=True):
        clips = window_list(n, *windows) if n else []
        assert count == len(clips)
        expected += [[first + f - windows.pad if 0 <= f - windows.pad < n else zero for f in clip] for clip in clips]
        first += n
    index = clip_frames(torch.tensor(lengths), windows, sum(counts) + 3, zero)
    assert index.tolist() == expected + [[zero] * window] * 3


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 1000))
def test_swapped_positions_keep_their_distance(n: int, distance: int, seed: int) -> None:
    first, second = swap_positions(torch.full((50,), n), distance, generator(seed))
    assert (first >= 0).all() and (second < n).all()
    assert (second - first >= min(distance, n - 1)).all()


def test_swapped_positions_are_uniform() -> None:
    first, second = swap_positions(torch.full((60_000,), 7), 2, generator())
    counts = np.bincount((first * 7 + second).numpy(), minlength=49)
    assert (counts > 0).sum() == 15  # pairs of 7 at a distance of 2 or more
    assert np.abs(counts[counts > 0] / 4000 - 1).max() < 0.08


def test_order_swaps_two_clips_and_leaves_the_last() -> None:
    counts = torch.tensor([5, 0, 2, 3, 1, 9])
    order = draw_order(counts, 25, 2, generator(1)).tolist()
    assert order[20:] == list(range(20, 25))
    first = 0
    for n in counts.tolist():
        part = [row - first for row in order[first : first + n]]
        assert sorted(part) == list(range(n))
        assert n == 0 or part[-1] == n - 1
        changed = [i for i, p in enumerate(part) if i != p]
        assert len(changed) == (2 if n >= 3 else 0)
        if n >= 4:
            assert changed[1] - changed[0] >= 2
        first += n


def numbered(lengths: list[int], joints: int = 5) -> torch.Tensor:
    """Frames in which every joint's coordinates tell its row and number."""
    row = torch.arange(sum(lengths))[:, None].expand(-1, joints)
    return torch.stack([row, torch.arange(joints).expand_as(row), torch.zeros_like(row)], -1).double() + 0.25


@pytest.mark.parametrize("preset", ["authors", "paper"])
def test_corrupted_joints(preset: str) -> None:
    lengths = [40, 0, 1, 300, 30]
    frames = torch.cat([numbered(lengths), torch.zeros(9, 5, 3)])
    rows = rows_of(torch.tensor(lengths), len(frames))
    pretext = hf.PretextConfig.preset(preset)
    many = [corrupt_joints(frames, torch.tensor(lengths), rows, pretext, generator(s)) for s in range(40)]
    kinds = np.zeros(3)
    for corrupted, selected in many:
        assert not selected[-9:].any()
        assert torch.equal(corrupted[~selected], frames[~selected])
        for t, j in selected.nonzero().tolist():
            first = sum(lengths[: rows.sequence[t]])
            inside = frames[first : first + lengths[rows.sequence[t]]]
            got, kept = corrupted[t, j], frames[t, j]
            if torch.equal(got, kept):
                kinds[2] += 1
            elif pretext.fill == "ones" and torch.equal(got, torch.ones(3).double()):
                kinds[0] += 1
            elif (got - got.floor() == 0.25).all():
                kinds[1] += 1
                source, joint = int(got[0]), int(got[1])
                assert first <= source < first + len(inside) and joint != j
                assert pretext.fill == "box" or source != t or len(inside) == 1
            else:
                assert pretext.fill == "box"
                kinds[0] += 1
                assert (got >= inside.amin((0, 1))).all() and (got <= inside.amax((0, 1))).all()
    share = np.mean([s.sum().item() / (371 * 5) for _, s in many])
    assert share == pytest.approx(0.15, abs=0.005)
    assert kinds / kinds.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_pairs_are_moving_clips_and_their_swaps() -> None:
    lengths = [30, 0, 12, 25]
    frames = numbered(lengths)
    frames[0:20] = 1.0  # sequence 0 moves from its frame 20 on
    frames[30:42] = 2.0  # sequence 1 of those with frames never moves
    counted = torch.tensor(lengths)
    rows = rows_of(counted, len(frames))
    starts = set()
    for seed in range(60):
        pair, valid = draw_pairs(frames, counted, rows, WINDOWS, hf.PretextConfig(), generator(seed))
        assert valid.tolist() == [True, False, False, True]
        original, swapped = pair.view(2, 4, 7)
        assert (original != swapped).sum(1).max() <= 2
        assert (original.sort(1).values == swapped.sort(1).values).all()
        centre = original[0, 3].item()
        starts.add(centre)
        assert any(20 <= f < 30 for f in original[0].tolist())
        assert original[2].tolist() == [67] * 3 + [30, 32, 34, 36]  # the first clip
    # Every clip with a frame among 20..29 is drawn sooner or later: the clips centred on 14..29, by parity.
    assert starts == {c for c in range(30) if any(20 <= c + d < 30 for d in range(-6, 7, 2))}


def test_the_paper_draws_any_clip() -> None:
    frames, lengths = torch.zeros(40, 5, 3), torch.tensor([30, 10])
    rows = rows_of(lengths, 40)
    _, valid = draw_pairs(frames, lengths, rows, WINDOWS, hf.PretextConfig.preset("paper"), generator())
    assert valid.all()


@pytest.mark.parametrize("probability", [0.01, 0.15, 0.9])
def test_selected_places_are_independent(probability: float) -> None:
    count = 400
    hits = torch.zeros(3000, count + 1)
    for seed, row in enumerate(hits):
        place = select(count, probability, generator(seed), torch.device("cpu"))
        inside = place[place < count]
        assert len(inside.unique()) == len(inside) and (place.diff() >= 0).all()
        row[place] = 1
    hits = hits[:, :count]
    error = (probability * (1 - probability) / 3000) ** 0.5
    assert (hits.mean(0) - probability).abs().max() < 4.5 * error  # every place alike, the first and last too
    assert hits.sum(1).var().item() == pytest.approx(count * probability * (1 - probability), rel=0.12)
    both = (hits[:, 1:] * hits[:, :-1]).mean().item()
    assert both == pytest.approx(probability**2, rel=0.05, abs=2e-5)


@given(st.integers(1, 40), st.integers(1, 9))
def test_boxes_by_folding(count: int, joints: int) -> None:
    frames = torch.randn(count, joints, 3)
    assert torch.equal(_folded(frames, torch.minimum), frames.amin(1))
    assert torch.equal(_folded(frames, torch.maximum), frames.amax(1))


@given(lengths_lists, st.integers(0, 5), st.integers(2, 8), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_moving_clips_are_those_of_the_windows(
    lengths: list[int], extra: int, window: int, dilate: int, seed: int
) -> None:
    windows, rng = Windows(window, 1, dilate), np.random.default_rng(seed)
    frames = torch.from_numpy((rng.random((sum(lengths) + extra, 2, 3)) < 0.03).astype(np.float32))
    counted = torch.tensor(lengths)
    rows = rows_of(counted, len(frames))
    found = _in_moving_clips(frames, rows, windows)
    index = window_rows(padded_window(rows.position, windows), rows.sequence, rows.valid, counted, windows, len(frames))
    moves = [False] * (len(frames) + 1)
    for row in range(1, sum(lengths)):
        moves[row] = bool(rows.position[row] > 0 and (frames[row] != frames[row - 1]).any())
    expected = [any(moves[i] for i in clip) for clip in index.tolist()]
    assert found[: sum(lengths)].tolist() == expected[: sum(lengths)] and not found[sum(lengths) :].any()
