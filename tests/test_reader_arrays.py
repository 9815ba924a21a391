"""The `.npz` interchange format."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitrs_fast.skeleton import KINECT20, LAYOUTS, NTU25, SkeletonLayout
from training.data.readers.arrays import ArraysReader, runs
from training.data.records import DataError

DATA = Path(__file__).parents[2] / "shared" / "data"
LENGTHS = [3, 1, 5]
Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Writes three sequences of 3, 1 and 5 frames with 4 joints, with the given arrays added or replaced."""

    def save(**arrays: Any) -> Path:
        joints = np.random.default_rng(0).normal(size=(9, 4, 3)).astype(np.float32)
        given = {"joints": joints, "lengths": np.array(LENGTHS)} | arrays
        np.savez(tmp_path / "own.npz", **{key: value for key, value in given.items() if value is not None})
        return tmp_path / "own.npz"

    return save


def fault(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as raised:
        list(ArraysReader(path, **options))
    return str(raised.value)


def test_joints_and_lengths_are_enough(saved: Saved):
    reader = ArraysReader(saved())
    samples = list(reader)
    assert [s.name for s in samples] == ["sequence000000", "sequence000001", "sequence000002"]
    assert [s.frames for s in samples] == LENGTHS and len(reader) == 3
    joints = np.load(saved())["joints"]
    np.testing.assert_array_equal(np.concatenate([s.sequences[0].joints for s in samples]), joints)
    assert {(s.label, s.subject, s.camera, s.setup, len(s.segments)) for s in samples} == {(-1, -1, -1, -1, 0)}
    assert reader.source.layout.name == "own" and reader.source.layout.parents == (-1,) * 4
    assert reader.source.channels == 3 and np.isnan(reader.source.fps)
    assert reader.source.classes == [] and reader.source.splits == {}


def test_every_optional_array_is_read(saved: Saved):
    path = saved(
        names=np.array(["a", "b", "c"]),
        labels=np.array([1, -1, 0], np.int8),
        label_names=np.array(["sit", "stand"]),
        subjects=np.array([4, 5, 6], np.uint16),
        views=np.array([3, 2, 1]),
        is_train=np.array([True, False, True]),
        fps=np.float32(25),
        frame_index=np.arange(9),
    )
    reader = ArraysReader(path)
    found = [(s.name, s.label, s.subject, s.camera) for s in reader]
    assert found == [("a", 1, 4, 3), ("b", -1, 5, 2), ("c", 0, 6, 1)]
    assert reader.source.classes == ["sit", "stand"] and reader.source.fps == 25
    assert reader.source.splits == {"default": ["a", "c"]}


def test_the_rate_of_a_file_that_does_not_say(saved: Saved):
    for known in ({}, {"fps": np.float32("nan")}, {"fps": np.int64(7)}):
        assert ArraysReader(saved(**known), fps=7.0).source.fps == 7
    assert "'fps' is 25, but --fps is 7" in fault(saved(fps=np.float32(25)), fps=7.0)


def test_other_float_types_and_coordinates_become_float32(saved: Saved):
    reader = ArraysReader(saved(joints=np.ones((9, 4, 2), np.float64)))
    assert reader.source.channels == 2
    assert all(s.sequences[0].joints.dtype == np.float32 for s in reader)


def test_frame_labels_become_segments_within_each_sequence(saved: Saved):
    reader = ArraysReader(saved(frame_labels=np.array([0, 2, 2, 2, 1, 1, 0, 0, 2])))
    assert [s.segments for s in reader] == [[(2, 1, 3)], [(2, 0, 1)], [(1, 0, 2), (2, 4, 5)]]
    assert {s.label for s in reader} == {-1}
    assert reader.source.classes == ["class0", "class1", "class2"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_runs_give_back_the_frame_labels(labels: list[int]):
    found = runs(np.array(labels))
    again = np.zeros(len(labels), int)
    for label, first, end in found:
        assert label > 0 and not again[first:end].any()
        again[first:end] = label
    assert again.tolist() == labels
    assert all(a[2] < b[1] or a[0] != b[0] for a, b in itertools.pairwise(found))


def pairs(parents: tuple[int, ...]) -> np.ndarray:
    return np.array([(parent, child) for child, parent in enumerate(parents) if parent >= 0])


def test_a_known_structure_gets_the_known_layout(saved: Saved):
    many = np.ones((9, 20, 3), np.float32)
    assert ArraysReader(saved(joints=many, bones=pairs(KINECT20.parents))).source.layout is KINECT20
    assert ArraysReader(saved(joints=many, parents=np.array(KINECT20.parents))).source.layout is KINECT20
    camel = np.array([name.title().replace("_", "") for name in KINECT20.joint_names])
    assert ArraysReader(saved(joints=many, joint_names=camel)).source.layout is KINECT20
    reversed_names = ArraysReader(saved(joints=many, joint_names=camel[::-1])).source.layout
    assert reversed_names is not KINECT20 and reversed_names.joint_names[-1] == "HipCenter"


@pytest.mark.parametrize("known", LAYOUTS.values(), ids=LAYOUTS)
def test_every_known_layout_is_found(saved: Saved, known: SkeletonLayout):
    joints = np.ones((9, known.joints, 3), np.float32)
    assert ArraysReader(saved(joints=joints, parents=np.array(known.parents))).source.layout is known
    assert ArraysReader(saved(joints=joints, bones=pairs(known.parents))).source.layout is known
    assert ArraysReader(saved(joints=joints, joint_names=np.array(known.joint_names))).source.layout is known


def test_an_own_structure_gets_its_own_layout(saved: Saved):
    path = saved(bones=np.array([[0, 1], [1, 2], [1, 3]]), joint_names=np.array(["hip", "neck", "left", "right"]))
    layout = ArraysReader(path).source.layout
    assert (layout.name, layout.parents, layout.joint_names[2], layout.hip) == ("own", (-1, 0, 1, 1), "left", 0)
    assert ArraysReader(path, "mine").source.layout.name == "mine"


def test_a_named_layout_must_agree_with_the_file(saved: Saved):
    path = saved(joints=np.ones((9, 25, 3), np.float32))
    assert ArraysReader(path, "ntu25").source.layout is NTU25
    assert "its 25 joints do not hang together as in the layout 'kinect20'" in fault(path, name_of_layout="kinect20")
    chain = saved(joints=np.ones((9, 25, 3), np.float32), parents=np.arange(25) - 1)
    assert "do not hang together as in the layout 'ntu25'" in fault(chain, name_of_layout="ntu25")


def test_a_file_named_like_another_layout_is_refused(saved: Saved, tmp_path: Path):
    shutil.copy(saved(), tmp_path / "ntu25.npz")
    assert "named like the layout 'ntu25', but its joints hang together differently" in fault(tmp_path / "ntu25.npz")


def test_names_that_repeat_between_training_and_test_get_the_side(saved: Saved):
    path = saved(names=np.array(["a", "a", "b"]), is_train=np.array([True, False, False]))
    reader = ArraysReader(path)
    assert [s.name for s in reader] == ["train/a", "test/a", "test/b"]
    assert reader.source.splits == {"default": ["train/a"]}


def test_a_sequence_that_is_not_finite_is_skipped_or_raised(saved: Saved):
    joints = np.ones((9, 4, 3))
    joints[3, 2, 0], joints[6, 1, 1] = np.nan, 1e300  # the second sequence's frame 0, the third's frame 2
    path = saved(joints=joints)
    reader = ArraysReader(path)
    for _ in range(2):
        assert [s.name for s in reader] == ["sequence000000"]
        assert [name for name, _ in reader.skipped] == ["sequence000001", "sequence000002"]
    assert "first in its frame 2, joint 1" in reader.skipped[1][1]
    assert "own.npz: sequence 'sequence000001' has nan or infinite" in fault(path, strict=True)


BAD = {
    "no joints": ({"joints": None}, "lacks the array 'joints'; it has lengths"),
    "no lengths": ({"lengths": None}, "lacks the array 'lengths'"),
    "flat joints": ({"joints": np.ones((9, 12))}, "'joints' has shape [9, 12], but must have [any, any, any]"),
    "integer joints": ({"joints": np.ones((9, 4, 3), int)}, "'joints' has dtype int64, but must hold floating-point"),
    "square lengths": ({"lengths": np.array([LENGTHS])}, "'lengths' has shape [1, 3]"),
    "float lengths": ({"lengths": np.array([3.0, 1.0, 5.0])}, "'lengths' has dtype float64, but must hold integers"),
    "no sequence": ({"lengths": np.array([], int)}, "'lengths' is empty"),
    "wrong sum": ({"lengths": np.array([3, 1, 4])}, "'lengths' add up to 8 frames, but 'joints' has 9"),
    "wrapping sum": ({"lengths": np.array([9, 2**62, 2**62, 2**62, 2**62])}, f"add up to {9 + 2**64} frames"),
    "zero length": ({"lengths": np.array([3, 0, 6])}, "sequence 1 has length 0"),
    "negative length": ({"lengths": np.array([3, 7, -1])}, "sequence 2 has length -1"),
    "few names": ({"names": np.array(["a", "b"])}, "'names' has shape [2], but must have [3]"),
    "numbers as names": ({"names": np.arange(3)}, "'names' has dtype int64, but must hold text"),
    "repeated names": ({"names": np.array(["a", "b", "b"])}, "the name 'b' stands 2 times in 'names'"),
    "few labels": ({"labels": np.array([0])}, "'labels' has shape [1], but must have [3]"),
    "float subjects": ({"subjects": np.ones(3)}, "'subjects' has dtype float64, but must hold integers"),
    "few views": ({"views": np.ones(2, int)}, "'views' has shape [2]"),
    "integer is_train": ({"is_train": np.ones(3, int)}, "'is_train' has dtype int64, but must hold true or false"),
    "label beyond": (
        {"labels": np.array([0, 2, 1]), "label_names": np.array(["a", "b"])},
        "labels[1] is 2, but with 2 label names, labels go from -1 to 1",
    ),
    "label below": ({"labels": np.array([0, -2, 1])}, "labels[1] is -2"),
    "few frame labels": ({"frame_labels": np.zeros(8, int)}, "'frame_labels' has shape [8], but must have [9]"),
    "frame label below": ({"frame_labels": np.arange(-1, 8)}, "frame_labels[0] is -1"),
    "negative fps": ({"fps": np.float64(-1)}, "'fps' is -1.0; give frames per second"),
    "many fps": ({"fps": np.ones(3)}, "'fps' has shape [3], but must have []"),
    "objects": ({"names": np.array(["a", "b", None])}, "'names' holds Python objects and would need unpickling"),
    "misspelt": ({"label": np.zeros(3, int)}, "the array 'label' is not known; did you mean 'labels'?"),
    "joint names": ({"joint_names": np.array(["a"])}, "'joint_names' has shape [1], but must have [4]"),
    "both structures": (
        {"bones": np.array([[0, 1]]), "parents": np.array([-1, 0, 0, 0])},
        "has both 'bones' and 'parents'",
    ),
    "bone beyond": ({"bones": np.array([[0, 4]])}, "'bones' names joint 4, but 'joints' has 4 joints"),
    "negative bone": ({"bones": np.array([[-1, 2]])}, "bone (-1, 2) names a joint outside"),
    "wide bones": ({"bones": np.array([[0, 1, 2]])}, "'bones' has shape [1, 3], but must have [any, 2]"),
    "cycle": ({"parents": np.array([-1, 2, 1, 0])}, "form a cycle"),
    "no root": ({"parents": np.array([1, 0, 0, 0])}, "no root"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_refused_with_its_fault(saved: Saved, case: str):
    arrays, message = BAD[case]
    found = fault(saved(**arrays))
    assert message in found and "own.npz" in found


def test_files_that_are_no_npz_are_refused(saved: Saved, tmp_path: Path):
    assert "there is no such file" in fault(tmp_path / "none.npz")
    assert "there is no such file" in fault(tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    assert "is not an .npz file" in fault(tmp_path / "text.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    assert "is not an .npz file" in fault(tmp_path / "single.npy")
    whole = saved().read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "is cut" in fault(tmp_path / "cut.npz")
    (tmp_path / "flipped.npz").write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    assert "is damaged (Bad CRC-32" in fault(tmp_path / "flipped.npz")


@pytest.mark.parametrize(
    ("file", "samples", "layout", "training", "segments"),
    [
        ("nw_ucla", 1484, "kinect20", None, 0),
        ("utkinect_stream", 20, "kinect20", None, 198),
        ("cmu_mocap8_30hz", 96, "cmu38", 72, 0),
    ],
)
def test_real_files_are_read_whole(file: str, samples: int, layout: str, training: int | None, segments: int):
    path = DATA / f"{file}.npz"
    if not path.exists():
        pytest.skip("the real recordings are not here")
    reader = ArraysReader(path, strict=True)
    found = list(reader)
    assert (len(found), reader.source.layout.name) == (samples, layout)
    assert sum(len(sample.segments) for sample in found) == segments
    if training is not None:
        assert len(set(reader.source.splits["default"])) == training


def test_confidence(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)
    confidence = np.linspace(0, 1, 100, dtype=np.float32).reshape(5, 20)
    np.savez(tmp_path / "a.npz", joints=joints, lengths=[2, 3], confidence=confidence)
    first, second = list(ArraysReader(tmp_path / "a.npz"))
    np.testing.assert_array_equal(second.sequences[0].confidence, confidence[2:])
    assert first.sequences[0].confidence.shape == (2, 20)
    np.savez(tmp_path / "b.npz", joints=joints, lengths=[5], confidence=confidence * 2)
    with pytest.raises(DataError, match=r"confidence\[2, 10\]"):
        ArraysReader(tmp_path / "b.npz")
