"""Skeleton layouts (which joints, and how they hang together) and the joint, bone and motion streams.

Shape legend: F frames of all sequences one after another, J joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STREAMS = ("joint", "bone", "motion")


@dataclass(frozen=True)
class SkeletonLayout:
    """Names and connections of the joints of one kind of skeleton.

    `parents[j]` is the joint that joint `j` hangs from; -1 marks a root, whose bone is zero.
    `hip` is the joint that sequences are centred on.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    hip: int = 0

    def __post_init__(self) -> None:
        joints = len(self.parents)
        if joints == 0 or len(self.joint_names) != joints:
            raise ValueError(f"layout {self.name!r}: {len(self.joint_names)} joint names for {joints} parents")
        wrong = [j for j, p in enumerate(self.parents) if not -1 <= p < joints or p == j]
        if wrong:
            raise ValueError(f"layout {self.name!r}: joint {wrong[0]} has parent {self.parents[wrong[0]]}")
        if not 0 <= self.hip < joints:
            raise ValueError(f"layout {self.name!r}: hip joint {self.hip} is not one of {joints} joints")
        self._refuse_cycles()

    def _refuse_cycles(self) -> None:
        for start in range(self.joints):
            joint = start
            for _ in range(self.joints):
                joint = self.parents[joint] if joint >= 0 else -1
            if joint >= 0:
                raise ValueError(f"layout {self.name!r}: the parents of joint {start} form a cycle")

    @property
    def joints(self) -> int:
        return len(self.parents)

    @classmethod
    def from_bones(
        cls, name: str, bones: Sequence[tuple[int, int]], joint_names: Sequence[str] | None = None, joints: int = 0
    ) -> SkeletonLayout:
        """A layout from `(parent, child)` pairs. `joints` is needed only where neither names nor bones tell."""
        count = len(joint_names) if joint_names is not None else max([joints - 1, *(max(b) for b in bones)]) + 1
        parents = [-1] * count
        for parent, child in bones:
            if not 0 <= child < count or not 0 <= parent < count:
                raise ValueError(f"layout {name!r}: bone ({parent}, {child}) names a joint outside 0..{count - 1}")
            if parents[child] != -1:
                raise ValueError(f"layout {name!r}: joint {child} has two parents, {parents[child]} and {parent}")
            parents[child] = parent
        return cls.from_parents(name, parents, joint_names)

    @classmethod
    def from_parents(
        cls, name: str, parents: Sequence[int], joint_names: Sequence[str] | None = None
    ) -> SkeletonLayout:
        """A layout from each joint's parent (-1 for a root); the first root counts as the hip."""
        fixed = tuple(int(p) for p in parents)
        if -1 not in fixed:
            raise ValueError(f"layout {name!r}: no root (a joint whose parent is -1)")
        names = tuple(str(n) for n in joint_names) if joint_names is not None else _numbered(len(fixed))
        return cls(name, names, fixed, hip=fixed.index(-1))


def _numbered(joints: int) -> tuple[str, ...]:
    return tuple(f"joint{j}" for j in range(joints))


# Kinect v2, in NTU RGB+D's joint order. The bones are the pairs the Hi-TRS authors (and CrosSCLR) subtract:
# hand tips hang from the thumbs, and the root is the spine at the shoulders.
NTU25 = SkeletonLayout(
    "ntu25",
    tuple(
        (
            "spine_base spine_mid neck head shoulder_left elbow_left wrist_left hand_left shoulder_right elbow_right "
            "wrist_right hand_right hip_left knee_left ankle_left foot_left hip_right knee_right ankle_right "
            "foot_right spine_shoulder hand_tip_left thumb_left hand_tip_right thumb_right"
        ).split()
    ),
    (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, -1, 22, 7, 24, 11),
)
# Kinect v1 (NW-UCLA, UTKinect, CWBG).
KINECT20 = SkeletonLayout(
    "kinect20",
    tuple(
        (
            "hip_center spine shoulder_center head shoulder_left elbow_left wrist_left hand_left shoulder_right "
            "elbow_right wrist_right hand_right hip_left knee_left ankle_left foot_left hip_right knee_right "
            "ankle_right foot_right"
        ).split()
    ),
    (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
)
# COCO's key points; the hips hang from the shoulders, as in its list of limbs, and the nose is the root.
COCO17 = SkeletonLayout(
    "coco17",
    tuple(
        (
            "nose eye_left eye_right ear_left ear_right shoulder_left shoulder_right elbow_left elbow_right wrist_left "
            "wrist_right hip_left hip_right knee_left knee_right ankle_left ankle_right"
        ).split()
    ),
    (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    hip=11,
)
# Human3.6M in the order of VideoPose3D and its successors.
H36M17 = SkeletonLayout(
    "h36m17",
    tuple(
        (
            "pelvis hip_right knee_right ankle_right hip_left knee_left ankle_left spine thorax neck head "
            "shoulder_left elbow_left wrist_left shoulder_right elbow_right wrist_right"
        ).split()
    ),
    (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
)
# MediaPipe (BlazePose).
MEDIAPIPE33 = SkeletonLayout(
    "mediapipe33",
    tuple(
        (
            "nose eye_inner_left eye_left eye_outer_left eye_inner_right eye_right eye_outer_right ear_left ear_right "
            "mouth_left mouth_right shoulder_left shoulder_right elbow_left elbow_right wrist_left wrist_right "
            "pinky_left pinky_right index_left index_right thumb_left thumb_right hip_left hip_right knee_left "
            "knee_right ankle_left ankle_right heel_left heel_right foot_index_left foot_index_right"
        ).split()
    ),
    (
        *(-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26),
        *(27, 28, 29, 30),
    ),
    hip=23,
)
LAYOUTS = {layout.name: layout for layout in (NTU25, KINECT20, COCO17, H36M17, MEDIAPIPE33)}


def stream_of(frames: Tensor, starts: Tensor, layout: SkeletonLayout, stream: str) -> Tensor:
    """The joint, bone or motion stream of `frames` `[F, J, C]` (Hi-TRS section 4.1; the authors' definitions).

    joint: the coordinates; bone: x[child] - x[parent], 0 at a root; motion: x[t] - x[t-1], 0 in a sequence's
    first frame. `starts` `[F]` (bool) marks the first frame of each sequence.
    """
    if stream == "joint":
        return frames
    if stream == "bone":
        own = torch.arange(layout.joints, device=frames.device)
        # Without waiting for the device, as a plain copy to it would.
        parents = torch.tensor(layout.parents).to(frames.device, non_blocking=True)
        return frames - frames.index_select(1, torch.where(parents < 0, own, parents))
    if stream == "motion":
        before = frames.roll(1, 0)
        return torch.where(starts[:, None, None], 0, frames - before)
    raise ValueError(f"stream is {stream!r}, not one of {', '.join(STREAMS)}")


def centre_on_hip(frames: Tensor, sequence: Tensor, sequences: int, layout: SkeletonLayout) -> Tensor:
    """Moves each sequence so that its first hip that is there is the origin; missing joints (zeros) stay zeros.

    `sequence` `[F]`: for every frame of `frames` `[F, J, C]`, its sequence in 0 .. `sequences` - 1.
    """
    count, hip = len(frames), frames[:, layout.hip]
    row = torch.where((hip != 0).any(-1), torch.arange(count, device=frames.device), count)
    first = row.new_full((sequences,), count).scatter_reduce(0, sequence, row, "amin")
    origin = torch.where(first[:, None] < count, hip.index_select(0, first.clamp(max=count - 1)), 0)
    present = is_present(frames)[..., None].to(frames.dtype)
    return torch.addcmul(frames, origin.index_select(0, sequence)[:, None], present, value=-1)


def is_present(frames: Tensor) -> Tensor:
    """Which joints `[..., J]` of `frames` `[..., J, C]` are there: those with a coordinate that is not zero."""
    present = frames[..., 0] != 0  # coordinate by coordinate: twice as fast as any() over so short an axis
    for axis in range(1, frames.shape[-1]):
        present |= frames[..., axis] != 0
    return present
