"""The demo data: repeatable, shaped like NTU's, and moving as people do."""

from __future__ import annotations

import sys
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hitrs_fast.skeleton import NTU25
from training.data.body import JOINT, Body, skeleton
from training.data.draw import contact_sheet
from training.data.motions import ACTIONS
from training.data.poses import interpolate, perform
from training.data.records import DataError, Sample
from training.data.synthetic import DemoReader, film, mirrored

TREE = [
    ("spine_base", "spine_mid", "spine_shoulder", "neck", "head"),
    *[
        ("spine_shoulder", *(f"{part}_{side}" for part in ("shoulder", "elbow", "wrist", "hand", "hand_tip")))
        for side in ("left", "right")
    ],
    *[("spine_base", *(f"{part}_{side}" for part in ("hip", "knee", "ankle", "foot"))) for side in ("left", "right")],
    ("hand_left", "thumb_left"),
    ("hand_right", "thumb_right"),
]
BONES = [(JOINT[a], JOINT[b]) for chain in TREE for a, b in pairwise(chain)]
NAMES = [a.name for a in ACTIONS]
SEEDS = range(2)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(DemoReader(600))


@cache
def clean(name: str, seed: int) -> list[np.ndarray]:
    """The noise-free tracks of one performance."""
    return film(ACTIONS[NAMES.index(name)], seed % 20, seed % 3, 0, np.random.default_rng(seed))


def joint(track: np.ndarray, name: str) -> np.ndarray:
    return track[:, JOINT[name]]


def gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b, axis=-1).min())


def test_a_sample_depends_on_seed_and_index_alone(samples: list[Sample]) -> None:
    for index in (37, 0, 599, 13):
        alone = DemoReader(600).sample(index)
        assert (alone.name, alone.frames) == (samples[index].name, samples[index].frames)
        for own, listed in zip(alone.sequences, samples[index].sequences, strict=True):
            assert own.body == listed.body
            np.testing.assert_array_equal(own.joints, listed.joints)
    short = list(DemoReader(5))
    np.testing.assert_array_equal(short[4].sequences[0].joints, samples[4].sequences[0].joints)
    other = DemoReader(5, seed=1).sample(4)
    assert other.frames != short[4].frames or not np.array_equal(
        other.sequences[0].joints, short[4].sequences[0].joints
    )


def test_shapes_types_and_lengths(samples: list[Sample]) -> None:
    assert len(DemoReader(600)) == len(samples) == 600
    for sample in samples:
        for sequence in sample.sequences:
            assert sequence.joints.shape == (sample.frames, 25, 3)
            assert sequence.joints.dtype == np.float32
            assert np.isfinite(sequence.joints).all()
            assert 2**53 < sequence.body < 2**63
    lengths = np.array([s.frames for s in samples])
    assert lengths.min() >= 20
    assert lengths.max() <= 300
    assert 70 < lengths.mean() < 95


def test_people_stand_before_the_camera(samples: list[Sample]) -> None:
    hips = np.concatenate([s.joints[:, JOINT["spine_base"]] for sample in samples for s in sample.sequences])
    assert -0.2 < np.median(hips[:, 1]) < 0.1
    assert hips[:, 2].min() > 1.2
    assert hips[:, 2].max() < 5.0
    # Facing the camera, the left shoulder is at negative x, as in Kinect's recordings.
    front = [s for s in samples if s.label == NAMES.index("drink") and s.camera == 0]
    for sample in front:
        left, right = (joint(sample.sequences[0].joints, f"shoulder_{side}") for side in ("left", "right"))
        assert (left[:, 0] < right[:, 0]).all()


def test_names_labels_and_splits(samples: list[Sample]) -> None:
    source = DemoReader(600).source
    names = [s.name for s in samples]
    assert len(set(names)) == 600
    counts = np.bincount([s.label for s in samples], minlength=len(source.classes))
    assert counts.max() - counts.min() <= 1
    assert {s.subject for s in samples} == set(range(20))
    assert {s.camera for s in samples} == set(range(3))
    assert next(iter(source.splits)) == "cross-subject"
    for split, field in (("cross-subject", "subject"), ("cross-view", "camera")):
        train = set(source.splits[split])
        assert train < set(names)
        here = {getattr(s, field) for s in samples if s.name in train}
        there = {getattr(s, field) for s in samples if s.name not in train}
        assert not here & there
        for members in (train, set(names) - train):
            assert {s.label for s in samples if s.name in members} == set(range(len(source.classes)))


@pytest.mark.parametrize("count", [1, 16, 17])
def test_few_samples_have_splits_too(count: int) -> None:
    reader = DemoReader(count)
    assert [s.name for s in reader] == [reader.sample(i).name for i in range(count)]
    for train in reader.source.splits.values():
        assert count == 1 or 0 < len(train) < count


def test_no_samples_is_an_error() -> None:
    with pytest.raises(DataError, match="count is 0"):
        DemoReader(0)


def test_two_person_actions_have_two_distinct_bodies(samples: list[Sample]) -> None:
    for sample in samples:
        people = 2 if ACTIONS[sample.label].distance else 1
        assert len(sample.sequences) == people
        assert len({s.body for s in sample.sequences}) == people
        if people == 2:
            assert not np.array_equal(sample.sequences[0].joints, sample.sequences[1].joints)


@pytest.mark.parametrize("name", NAMES)
def test_bones_keep_their_length(name: str) -> None:
    for track in (t for seed in SEEDS for t in clean(name, seed)):
        for a, b in BONES:
            length = np.linalg.norm(track[:, a] - track[:, b], axis=-1)
            assert np.ptp(length) < 1e-6
            assert 0.02 < length.mean() < 0.55


def test_noise_is_a_few_millimetres(samples: list[Sample]) -> None:
    for index in range(0, 600, 67):
        sample = samples[index]
        tracks = film(ACTIONS[sample.label], sample.subject, sample.camera, 0, np.random.default_rng([0, index]))
        error = np.std(sample.sequences[0].joints - tracks[0], axis=(0, 2))
        assert 0.001 < error[JOINT["spine_mid"]] < error[JOINT["hand_tip_left"]] < 0.02


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("kick", "throw", "jump up", "walk in a circle", "push", "hug")]
)
def test_standing_feet_do_not_slide(name: str) -> None:
    for track in (t for seed in SEEDS for t in clean(name, seed)):
        for side in ("left", "right"):
            assert np.ptp(joint(track, f"foot_{side}"), axis=0).max() < 0.02


def test_walking_feet_are_planted() -> None:
    for seed in SEEDS:
        (track,) = clean("walk in a circle", seed)
        feet = np.stack([joint(track, f"foot_{side}") for side in ("left", "right")], 1)
        floor = feet[..., 1].min()
        speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * 30
        assert speed.min(1).max() < 0.3  # of two feet one stands
        assert speed[feet[1:, :, 1] < floor + 0.004].max() < 0.6  # a foot near the floor lands or leaves
        assert (np.abs(feet[..., 1].min(1) - floor) < 0.01).all()


@pytest.mark.parametrize("name", NAMES)
def test_knees_bend_forward_and_elbows_bend(name: str) -> None:
    motions = perform(ACTIONS[NAMES.index(name)], np.arange(80) / 30, 1.0, np.random.default_rng(3))
    for track in (skeleton(Body(), motion) for motion in motions):
        across = joint(track, "hip_left") - joint(track, "hip_right")
        ahead = np.cross(across, [0, 1, 0])
        ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
        for side in ("left", "right"):
            hip, knee, ankle = (joint(track, f"{part}_{side}") for part in ("hip", "knee", "ankle"))
            bent = np.cross(knee - hip, ankle - knee)
            # Turned about the axis from left to right: the heel goes back, never forward.
            assert ((bent * across).sum(-1) > -1e-3).all()
            assert (((knee - (hip + ankle) / 2) * ahead).sum(-1) > -0.02).all()


@pytest.mark.parametrize("name", NAMES)
def test_movement_is_smooth(name: str) -> None:
    for track in (t for seed in SEEDS for t in clean(name, seed)):
        speed = np.linalg.norm(np.diff(track, axis=0), axis=-1) * 30
        assert speed.max() < 14  # metres per second; a fast kick or throw of an adult


def test_actions_are_what_they_are_called() -> None:
    for seed in SEEDS:
        (drink,), (clap,), (jump,), (sit,) = (clean(n, seed) for n in ("drink", "clap", "jump up", "sit down"))
        assert min(gap(joint(drink, f"hand_{side}"), joint(drink, "head")) for side in ("left", "right")) < 0.22
        assert gap(joint(clap, "hand_left"), joint(clap, "hand_right")) < 0.1
        feet = np.minimum(joint(jump, "foot_left")[:, 1], joint(jump, "foot_right")[:, 1])
        assert feet.max() - feet[0] > 0.1
        hip = joint(sit, "spine_base")[:, 1]
        assert hip[0] - hip[-1] > 0.3
        first, second = clean("handshake", seed)
        assert (
            min(gap(joint(first, f"hand_{side}"), joint(second, f"hand_{side}")) for side in ("left", "right")) < 0.06
        )
        first, second = clean("punch", seed)
        assert gap(joint(first, "head"), joint(second, "head")) > 0.3
        assert min(gap(joint(first, f"hand_{side}"), joint(second, "head")) for side in ("left", "right")) < 0.3


def test_mirror_exchanges_sides() -> None:
    (motion,) = perform(ACTIONS[NAMES.index("kick")], np.arange(33) / 30, 1.0, np.random.default_rng(0))
    track = skeleton(Body(), motion)
    np.testing.assert_allclose(mirrored(track)[:, JOINT["foot_left"]], joint(track, "foot_right") * [-1, 1, 1])
    np.testing.assert_array_equal(mirrored(mirrored(track)), track)


def test_curves_pass_through_keys_without_overshooting() -> None:
    times, values = np.array([0.0, 0.3, 0.5, 1.5]), np.array([[0.0], [1.0], [3.0], [2.0]])
    np.testing.assert_allclose(interpolate(times, times, values), values)
    curve = interpolate(np.linspace(-1, 3, 4001), times, values)[:, 0]
    assert curve.min() == 0
    assert curve.max() == 3
    assert curve[-1] == 2
    assert (np.diff(curve[:1500]) >= 0).all()


def test_speed_allows_600_in_20_seconds() -> None:
    start = time.process_time()
    list(DemoReader(60))
    assert time.process_time() - start < 2.0


def test_contact_sheet_writes_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    reader = DemoReader(14)
    shown = [reader.sample(0), reader.sample(13)]
    shown[1].sequences[1].joints[:] = 0  # missing throughout
    contact_sheet(shown, NTU25, tmp_path / "sheet.png", frames_per_row=3, classes=reader.source.classes)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"hitrs-fast\[viz\]"):
        contact_sheet([DemoReader(1).sample(0)], NTU25, tmp_path / "sheet.png")
