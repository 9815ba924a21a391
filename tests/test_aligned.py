"""Pieces of streams with all bodies, and the scores of their frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import layout, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import CLASSES, make, stream

import hitrs_fast as hf
from hitrs_fast.clips import Windows
from hitrs_fast.scoring import Track, score_stream
from training.data.aligned import AlignedLoader, Tracks, tracks_of
from training.data.augment import AugmentConfig
from training.data.store import Store
from training.detection import NO_LABEL, DetectionTask, FrameTables, detection_recipe, frame_labels
from training.runtime import seed_step

PLAIN = AugmentConfig(probability=0.0)


@st.composite
def tracks(draw) -> Tracks:
    """Some samples, with tracks that come and go."""
    rows = []
    for sample in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 4))):
            rows.append((sample, draw(st.integers(0, 20)), draw(st.integers(1, 30)), draw(st.booleans())))
    sample, first, length, there = (np.array(column) for column in zip(*rows, strict=True))
    there[0] = True
    offsets = np.concatenate([[0], length.cumsum()])
    return Tracks(offsets, there, sample, first, torch.zeros(len(rows), 3))


@settings(deadline=None, max_examples=40)
@given(tracks(), st.integers(1, 12), st.integers(1, 4), st.booleans())
def test_an_item_is_a_piece_of_time_with_all_that_is_in_it(
    tracks: Tracks, longest: int, batch_size: int, train: bool
) -> None:
    frames = torch.arange(tracks.offsets[-1], dtype=torch.float32)[:, None, None].expand(-1, 2, 3) + 1
    everything = np.ones(tracks.sample.max() + 1, bool)
    augment = PLAIN if train else None
    data = AlignedLoader(frames, tracks, everything, Windows(3, 1, 1), batch_size, augment, 0, longest)
    number = np.repeat(tracks.first_frame - tracks.offsets[:-1], np.diff(tracks.offsets)) + np.arange(len(frames))
    track = np.repeat(np.arange(len(tracks.sample)), np.diff(tracks.offsets))
    met = np.zeros(len(frames), bool)
    for epoch in range(3):
        plan = data.plan(epoch)
        for index in range(len(plan)):
            batch = data.batch(plan, index)
            valid = batch.rows.valid.numpy()
            source = batch.source.numpy()[valid]
            met[source] = True
            owner = batch.owner[batch.rows.sequence].numpy()[valid]
            for item in range(len(batch.item)):
                rows = source[owner == item]
                low, high = number[rows].min(), number[rows].max()
                assert high - low < longest and set(tracks.sample[track[rows]]) == {batch.item[item]}
                same = tracks.there[track] & (tracks.sample[track] == batch.item[item])
                inside = np.flatnonzero(same & (number >= low) & (number <= high))
                assert sorted(rows.tolist()) == inside.tolist()
    if not train:
        assert (met == tracks.there[track]).all()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("stream_name", "center"), [("joint", "first"), ("motion", "first"), ("joint", "in place"), ("bone", "")]
)
def test_frames_of_pieces_have_the_scores_of_whole_streams(
    tmp_path: Path, stream_name: str, center: str, skip: bool
) -> None:
    store = Store.open(make(tmp_path, streams=6, frames=90))
    frames = torch.from_numpy(store.read_frames()).double()
    encoder = hf.HiTRS(tiny_config(stream=stream_name, center=bool(center), in_place=center == "in place", dropout=0.0))
    encoder = encoder.double()
    for sequence in (0, 3):
        frames[store.offsets[sequence], encoder.config.layout.hip] = 0  # centred on a later hip
    tracks = tracks_of(store, frames, encoder.config.layout, bool(center))
    tables = FrameTables.of(store, tracks, frames.device)
    recipe = detection_recipe("paper")
    recipe = type(recipe)(**(vars(recipe) | {"piece": 20, "batch_size": 3}))
    task = DetectionTask(encoder, CLASSES, 2, tracks, tables, recipe, frames.device, torch.float32, skip)
    task.model.double()
    data = AlignedLoader(frames, tracks, np.ones(6, bool), task.windows, 3, PLAIN, 0, task.longest)
    labels = frame_labels(store)
    seen = np.zeros((6, 90), bool)
    whole = [scores(task, store, frames, sample) for sample in range(6)]
    for epoch in range(3):
        plan = data.plan(epoch)
        for index in range(len(plan)):
            seed_step(0, 0, index, task.generator)
            batch = data.batch(plan, index)
            caught: list[tuple[torch.Tensor, ...]] = []
            task.losses(lambda *inputs, kept=caught: kept.append(inputs) or task.model(*inputs), batch, True)
            whole_rows = task.whole(batch)
            each = task.of_rows(task.model, caught[0][0], batch, whole_rows)
            logits, own = task.of_frames(each, batch, whole_rows)
            slot = np.flatnonzero(own.numpy() != NO_LABEL)
            item = batch.item[slot // task.longest]
            owner = batch.owner[batch.rows.sequence]
            span = [batch.source[batch.rows.valid & (owner == i)] for i in range(len(batch.item))]
            for s, sample in zip(slot.tolist(), item.tolist(), strict=True):
                candidates = tables.number[span[s // task.longest]]
                frame = int(candidates[candidates % task.longest == s % task.longest][0])
                np.testing.assert_allclose(logits[s].softmax(-1).detach(), whole[sample][frame], atol=1e-9)
                assert own[s] == labels[sample][frame]
                seen[sample, frame] = True
    assert seen.mean() > 0.8 and seen[:, 0].any() and seen[:, -1].any()


def test_labels_are_smoothed_and_embeddings_dropped_in_training_alone(tmp_path: Path) -> None:
    store = Store.open(make(tmp_path, streams=2, frames=60))
    frames = torch.from_numpy(store.read_frames())
    encoder = hf.HiTRS(tiny_config(dropout=0.0))
    tracks = tracks_of(store, frames, encoder.config.layout, False)
    tables = FrameTables.of(store, tracks, frames.device)
    plain = dataclasses.replace(detection_recipe("paper"), piece=20)

    def losses(training: bool, **changes: float) -> float:
        recipe = dataclasses.replace(plain, **changes)
        torch.manual_seed(0)
        task = DetectionTask(encoder, CLASSES, 2, tracks, tables, recipe, frames.device, torch.float32)
        task.model.train(training)
        data = AlignedLoader(frames, tracks, np.ones(2, bool), task.windows, 3, PLAIN, 0, task.longest)
        seed_step(0, 0, 0, task.generator)
        return task.losses(task.model, data.batch(data.plan(0), 0), training)["loss"].item()

    assert losses(True) == losses(False) == losses(False, label_smoothing=0.5) == losses(False, dropout=0.5)
    assert losses(True, label_smoothing=0.5) != losses(True) != losses(True, dropout=0.5)


def scores(task: DetectionTask, store: Store, frames: torch.Tensor, sample: int) -> np.ndarray:
    own = np.flatnonzero(store.sequence_sample == sample)
    given = [
        Track(frames[a:b], torch.arange(first, first + b - a))
        for a, b, first in zip(store.offsets[own], store.offsets[own + 1], store.sequence_first_frame[own], strict=True)
    ]
    found = score_stream(task.model, given, fps=8)
    out = np.full((store.sample_frames[sample], len(CLASSES)), np.nan)
    out[found.numbers] = found.probabilities
    return out


def test_the_segment_that_began_last_labels_a_frame(tmp_path: Path) -> None:
    store = Store.open(make(tmp_path, streams=1, frames=40))
    store.__dict__["segments"] = np.array([[0, 2, 10, 20], [0, 1, 5, 30], [0, 1, 38, 40]])
    expected = np.zeros(40, int)
    expected[5:30], expected[10:20], expected[38:] = 1, 2, 1
    assert frame_labels(store)[0].tolist() == expected.tolist()


def test_the_case_has_a_second_body_that_hides() -> None:
    late = stream(2, 90).sequences[1]
    assert late.first_frame == 10 and not late.joints[30:34].any() and layout(5).joints == 5
