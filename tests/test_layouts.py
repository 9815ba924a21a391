"""The known layouts: what is published stays, structures tell them apart, mirroring fits the bones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from test_reader_arrays import DATA

import hitrs_fast as hf
from hitrs_fast.skeleton import KINECT20, NTU25, SkeletonLayout

# Of names, parents and hip: stores and checkpoints hold them, so none may change.
PUBLISHED = {
    "ntu25": "a9709f0e818c",
    "kinect20": "cac167b4dcd6",
    "coco17": "a9569ecf7747",
    "h36m17": "665c13970a51",
    "mediapipe33": "ffe644cd1ecc",
    "openpose18": "c0e444f514e6",
    "openpose25": "ad7155071495",
    "smpl24": "3e1f7ada96e2",
    "cmu38": "6439eca2898b",
}


def fingerprint(layout: SkeletonLayout) -> str:
    return hashlib.sha256(repr((layout.joint_names, layout.parents, layout.hip)).encode()).hexdigest()[:12]


def test_published_layouts_stay_as_they_are():
    assert {name: fingerprint(layout) for name, layout in hf.LAYOUTS.items()} == PUBLISHED
    assert all(name == layout.name for name, layout in hf.LAYOUTS.items())
    assert hf.LAYOUTS["ntu25"] is NTU25 and hf.LAYOUTS["kinect20"] is KINECT20


def test_readers_can_tell_layouts_by_bones_or_by_names():
    assert len({layout.parents for layout in hf.LAYOUTS.values()}) == len(hf.LAYOUTS)
    assert len({layout.joint_names for layout in hf.LAYOUTS.values()}) == len(hf.LAYOUTS)
    assert all(len(set(layout.joint_names)) == layout.joints for layout in hf.LAYOUTS.values())


@pytest.mark.parametrize("layout", hf.LAYOUTS.values(), ids=hf.LAYOUTS)
def test_bones_mirror_onto_bones(layout: SkeletonLayout):
    mirror = layout.mirror
    assert [mirror[image] for image in mirror] == list(range(layout.joints))
    for joint, parent in enumerate(layout.parents):
        assert layout.parents[mirror[joint]] == (parent if parent < 0 else mirror[parent]), layout.joint_names[joint]
    sides = [name.rpartition("_")[2] for name in layout.joint_names]
    assert all((mirror[j] == j) == (side not in ("left", "right")) for j, side in enumerate(sides))


def test_mirror_of_a_known_order():
    assert KINECT20.mirror == (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15)
    assert SkeletonLayout("numbered", ("joint0", "joint1"), (-1, 0)).mirror == (0, 1)
    assert KINECT20.two_sided and not SkeletonLayout("numbered", ("joint0", "joint1"), (-1, 0)).two_sided


def test_a_side_without_the_other_is_refused():
    lone = SkeletonLayout("lone", ("hip", "hand_left"), (-1, 0))
    with pytest.raises(ValueError, match=r"layout 'lone' has a joint 'hand_left', but no 'hand_right' to mirror it"):
        _ = lone.mirror
    assert not lone.two_sided


def test_cmu38_is_the_left_side_first():
    """In its recordings y is up; with the toes ahead of the heels, left is up x ahead."""
    path = DATA / "cmu_mocap8_30hz.npz"
    if not path.exists():
        pytest.skip("the real recordings are not here")
    joints = np.load(path)["joints"].astype(float)
    at = {name: joints[:, j] for j, name in enumerate(hf.LAYOUTS["cmu38"].joint_names)}
    ahead = at["foot_left"] + at["foot_right"] - at["ankle_left"] - at["ankle_right"]
    left = np.cross([0, 1, 0], ahead)
    assert (((at["hip_left"] - at["hip_right"]) * left).sum(-1) > 0).mean() > 0.95
    for same in (("hip_base_left", "pelvis"), ("clavicle_right", "thorax"), ("thumb_base_left", "wrist_left")):
        assert np.abs(at[same[0]] - at[same[1]]).max() < 1e-5
