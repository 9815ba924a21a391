"""Skeleton layouts (which joints, and how they hang together) and the joint, bone and motion streams.

Shape legend: F frames of all sequences one after another, J joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .layouts import TABLE

STREAMS = ("joint", "bone", "motion")


@dataclass(frozen=True)
class SkeletonLayout:
    """Names and connections of the joints of one kind of skeleton.

    Raises ValueError if names and parents differ in number, or if the parents name no joint or form a cycle.
    """

    name: str
    """What the layout is called in messages and in a store; what it is, the other fields tell."""
    joint_names: tuple[str, ...]
    """A name for each joint, those of a side ending in `_left` or `_right`."""
    parents: tuple[int, ...]
    """The joint that each joint hangs from; -1 marks a root, whose bone is zero."""
    hip: int = 0
    """The joint that sequences are centred on."""

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
        """How many joints there are."""
        return len(self.parents)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint its mirror image: the one whose name ends in `_right` for `_left`, or in `_left` for `_right`.

        Joints whose names have no side are their own image. ValueError if the other side of a joint is missing.
        """
        index = {name: joint for joint, name in enumerate(self.joint_names)}
        images = [_other_side(name) for name in self.joint_names]
        for name, image in zip(self.joint_names, images, strict=True):
            if image not in index:
                raise ValueError(f"layout {self.name!r} has a joint {name!r}, but no {image!r} to mirror it")
        return tuple(index[image] for image in images)

    @cached_property
    def two_sided(self) -> bool:
        """Whether joints have sides, and each has its `mirror` image."""
        images = [_other_side(name) for name in self.joint_names]
        return set(images) == set(self.joint_names) and images != list(self.joint_names)

    @cached_property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """Left and right hip, and left and right shoulder, of those that have such names."""
        index = {name: joint for joint, name in enumerate(self.joint_names)}
        pairs = [(f"{part}_left", f"{part}_right") for part in ("hip", "shoulder")]
        return tuple((index[left], index[right]) for left, right in pairs if left in index and right in index)

    @classmethod
    def from_bones(
        cls, name: str, bones: Sequence[tuple[int, int]], joint_names: Sequence[str] | None = None, joints: int = 0
    ) -> SkeletonLayout:
        """A layout from `(parent, child)` pairs; the first joint without a parent counts as the hip.

        `joints`, their number, is needed only where neither names nor bones tell. Raises ValueError for a bone to a
        joint that is not there, and for a joint with two parents.
        """
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
        """A layout from each joint's parent (-1 for a root); the first root counts as the hip.

        Without names the joints are `joint0`, `joint1` and so on. Raises ValueError where there is no root.
        """
        fixed = tuple(int(p) for p in parents)
        if -1 not in fixed:
            raise ValueError(f"layout {name!r}: no root (a joint whose parent is -1)")
        names = tuple(str(n) for n in joint_names) if joint_names is not None else _numbered(len(fixed))
        return cls(name, names, fixed, hip=fixed.index(-1))


def _other_side(name: str) -> str:
    for own, other in (("_left", "_right"), ("_right", "_left")):
        if name.endswith(own):
            return name.removesuffix(own) + other
    return name


def _numbered(joints: int) -> tuple[str, ...]:
    return tuple(f"joint{j}" for j in range(joints))


LAYOUTS = {
    name: SkeletonLayout(name, tuple(names.split()), parents, hip) for name, (names, parents, hip) in TABLE.items()
}
"""The known layouts by name: `ntu25`, `kinect20`, `coco17`, `openpose18` and others (docs/data.md lists them)."""
NTU25, KINECT20 = LAYOUTS["ntu25"], LAYOUTS["kinect20"]


def stream_of(frames: Tensor, starts: Tensor, layout: SkeletonLayout, stream: str) -> Tensor:
    """The joint, bone or motion stream of `frames` `[F, J, C]` (the paper's section 4.4; the authors' definitions).

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


def centre_on_hip(
    frames: Tensor,
    sequence: Tensor,
    sequences: int,
    layout: SkeletonLayout,
    align: bool = False,
    in_place: bool = False,
) -> Tensor:
    """Moves each sequence so that its first hip that is there is the origin; missing joints (zeros) stay zeros.

    `align` also turns it about the vertical so that the body faces the camera in that frame (C = 3): the sum of the
    lines from left to right hip and shoulder then points along the first axis. Lines with a missing end are left out;
    a sequence without any is not turned. `in_place` then moves every frame as `kept_in_place` does.

    `sequence` `[F]`: for every frame of `frames` `[F, J, C]`, its sequence in 0 .. `sequences` - 1.
    """
    count, hip = frames.shape[0], frames[:, layout.hip]  # len() would fix the count in torch.export
    row = torch.where((hip != 0).any(-1), torch.arange(count, device=frames.device), count)
    first = row.new_full((sequences,), count).scatter_reduce(0, sequence, row, "amin")
    poses = _rows_or_zero(frames, first)
    present = is_present(frames)[..., None].to(frames.dtype)
    centred = torch.addcmul(frames, poses[:, layout.hip].index_select(0, sequence)[:, None], present, value=-1)
    if align:
        centred = _facing(centred, poses, sequence, layout)
    return kept_in_place(centred, frames, layout) if in_place else centred


def kept_in_place(centred: Tensor, frames: Tensor, layout: SkeletonLayout) -> Tensor:
    """Moves every frame horizontally, in all coordinates but the second, so that its hip has zeros there, or, where the
    hip is missing, the mean of the joints that are there; missing joints (zeros) stay zeros.

    `centred` `[F, J, C]`: what `centre_on_hip` made of `frames`, which tell what is missing.
    """
    present = is_present(frames)[..., None].to(frames.dtype)
    mean = centred.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
    there = (frames[:, layout.hip, None] != 0).any(-1, keepdim=True)
    horizontal = torch.arange(frames.shape[2], device=frames.device) != 1
    offset = torch.where(there, centred[:, layout.hip, None], mean) * horizontal
    return torch.addcmul(centred, offset, present, value=-1)


def _facing(frames: Tensor, poses: Tensor, sequence: Tensor, layout: SkeletonLayout) -> Tensor:
    """`frames` `[F, J, 3]` turned so that each sequence's pose of `poses` `[B, J, 3]` faces the camera."""
    left, right = torch.tensor(layout.sides).to(frames.device, non_blocking=True).T
    there = is_present(poses)
    there = there.index_select(1, left) & there.index_select(1, right)
    lines = poses.index_select(1, right) - poses.index_select(1, left)
    across, _, away = (lines * there[..., None]).sum(1).unbind(-1)
    length = torch.hypot(across, away)
    cos = torch.where(length > 0, across / length, 1).index_select(0, sequence)[:, None]
    sin = torch.where(length > 0, away / length, 0).index_select(0, sequence)[:, None]
    x, y, z = frames.unbind(-1)
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], -1)


def _rows_or_zero(values: Tensor, index: Tensor) -> Tensor:
    """Rows of `values` by `index`, zeros for an index past the end."""
    rows = values.index_select(0, index.clamp(max=values.shape[0] - 1))
    return torch.where((index < values.shape[0]).view(-1, *[1] * (values.ndim - 1)), rows, 0)


def is_present(frames: Tensor) -> Tensor:
    """Which joints `[..., J]` of `frames` `[..., J, C]` are there: those with a coordinate that is not zero."""
    present = frames[..., 0] != 0  # coordinate by coordinate: twice as fast as any() over so short an axis
    for axis in range(1, frames.shape[-1]):
        present |= frames[..., axis] != 0
    return present
