"""Frames of one layout as frames of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hitrs_fast as hf
from hitrs_fast.mapping import check_layout
from hitrs_fast.skeleton import SkeletonLayout, is_present

NAMES = list(hf.LAYOUTS)
# What must be complete; docs/data.md lists it.
COMPLETE = {
    "ntu25": {"kinect20", "h36m17"},
    "kinect20": {"h36m17"},
    "coco17": {"openpose18"},
    "h36m17": set(),
    "mediapipe33": {"coco17", "openpose18"},
    "openpose18": {"coco17"},
    "openpose25": {"coco17", "h36m17", "openpose18"},
    "smpl24": {"kinect20", "h36m17"},
    "cmu38": {"ntu25", "kinect20", "h36m17"},
}


def missing(source: str, target: str) -> tuple[str, ...] | None:
    try:
        return hf.joint_mapping(source, target).missing
    except ValueError:
        return None


def frames_of(layout: str, frames: int = 6, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(frames, hf.LAYOUTS[layout].joints, channels, generator=generator)


def test_which_mappings_are_complete():
    found = {s: {t for t in NAMES if t != s and missing(s, t) == ()} for s in NAMES}
    assert found == COMPLETE
    refused = {(s, t) for s in NAMES for t in NAMES if missing(s, t) is None}
    assert refused == {(s, "mediapipe33") for s in ("ntu25", "kinect20", "h36m17", "smpl24", "cmu38")}


def test_kinect_2_to_kinect_1_joint_by_joint():
    frames = frames_of("ntu25")
    expected = frames[:, [0, 1, 20, *range(3, 20)]]
    assert torch.equal(hf.joint_mapping("ntu25", "kinect20").apply(frames), expected)


def test_coco_to_openpose_makes_the_middle_of_the_shoulders():
    frames = frames_of("coco17", channels=2).double()
    order = [0, 5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    expected = frames[:, order]
    expected[:, 1] = frames[:, [5, 6]].mean(1)
    assert torch.equal(hf.joint_mapping("coco17", "openpose18").apply(frames), expected)


def test_missing_joints_are_zeros_and_named():
    mapping = hf.joint_mapping("kinect20", "ntu25")
    assert mapping.missing == ("hand_tip_left", "thumb_left", "hand_tip_right", "thumb_right")
    out = mapping.apply(frames_of("kinect20"))
    assert is_present(out).all(0).tolist() == [j < 21 for j in range(25)]
    assert not is_present(out)[:, 21:].any()


@pytest.mark.parametrize(
    ("there", "between"), [("kinect20", "ntu25"), ("kinect20", "cmu38"), ("ntu25", "cmu38"), ("coco17", "mediapipe33")]
)
def test_there_and_back_again(there: str, between: str):
    frames = frames_of(there)
    back = hf.joint_mapping(between, there).apply(hf.joint_mapping(there, between).apply(frames))
    assert torch.equal(back, frames)


coordinates = st.one_of(st.just(0.0), st.floats(-1000, 1000, width=32))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 4), st.integers(1, 3))
def test_every_joint_is_itself_the_mean_of_two_or_absent(data, source: str, target: str, count: int, channels: int):
    frames = data.draw(arrays(np.float32, (count, hf.LAYOUTS[source].joints, channels), elements=coordinates))
    if missing(source, target) is None:
        return
    mapping = hf.joint_mapping(source, target)
    out = mapping.apply(torch.from_numpy(frames)).numpy()
    if source == target:
        assert mapping.missing == () and np.array_equal(out, frames)
    assert out.shape == (count, len(mapping.pairs), channels) and out.dtype == frames.dtype
    for t in range(count):
        for joint, pair in enumerate(mapping.pairs):
            parts = [frames[t, j] for j in pair or ()]
            absent = not parts or any(not part.any() for part in parts)
            expected = np.zeros(channels) if absent else np.mean(np.array(parts, np.float64), axis=0)
            np.testing.assert_allclose(out[t, joint], expected, rtol=1e-6, atol=1e-4)
            assert not absent or not out[t, joint].any()


def test_own_layouts_map_by_name():
    own = SkeletonLayout("own", ("hip_right", "hip_left", "tail"), (-1, 0, 1))
    target = SkeletonLayout("target", ("mid_hip", "tail"), (-1, 0))
    out = hf.joint_mapping(own, target).apply(torch.tensor([[[1.0, 2], [3, 6], [5, 5]], [[0, 0], [3, 6], [5, 5]]]))
    assert out.tolist() == [[[2, 4], [5, 5]], [[0, 0], [5, 5]]]


def test_what_cannot_be_mapped_is_told():
    with pytest.raises(
        ValueError, match=r"19 of the 33 joints of the layout 'mediapipe33' are missing in 'kinect20': n"
    ):
        hf.joint_mapping("kinect20", "mediapipe33")
    with pytest.raises(ValueError, match="unknown layout 'kinect'"):
        hf.joint_mapping("kinect", "ntu25")
    with pytest.raises(ValueError, match="layout 'twice' has two joints of one name"):
        hf.joint_mapping(SkeletonLayout("twice", ("hip", "hip"), (-1, 0)), "ntu25")
    with pytest.raises(ValueError, match=r"shape \(6, 20, 3\); the layout 'ntu25' takes \[F, 25, C\]"):
        hf.joint_mapping("ntu25", "kinect20").apply(frames_of("kinect20"))


def test_layouts_agree_by_joints_and_parents():
    ntu = hf.LAYOUTS["ntu25"]
    check_layout(ntu, SkeletonLayout("other_name", ntu.joint_names, ntu.parents, hip=1), "a.zarr")
    with pytest.raises(ValueError) as raised:
        check_layout(ntu, hf.LAYOUTS["kinect20"], "a.zarr")
    assert str(raised.value) == (
        "a.zarr has the layout 'kinect20' with 20 joints, but the model was made for 'ntu25' with 25; joint 0 is "
        "'hip_center' with parent -1, not 'spine_base' with 1. Map the frames with "
        "hitrs_fast.joint_mapping(data_layout, model.config.layout).apply(frames), or give --map-joints"
    )
    with pytest.raises(ValueError, match="joint 3 is 'head' with parent 1, not 'head' with 2"):
        check_layout(ntu, SkeletonLayout("ntu25", ntu.joint_names, (1, 20, 20, 1, *ntu.parents[4:])), "a.zarr")
    with pytest.raises(ValueError, match=r"joints, but the model was made for 'chain' with 2\. Map"):
        check_layout(SkeletonLayout("chain", ("a", "b"), (-1, 0)), SkeletonLayout("c", ("a",), (-1,)), "a.zarr")
