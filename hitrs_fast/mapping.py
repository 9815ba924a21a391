"""Frames of one layout as frames of another, joint by joint, by what the joints' names mean.

Shape legend: F frames, J_source and J_target joints of the two layouts, C coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import layout_from
from .skeleton import SkeletonLayout, is_present

_SIDES = ("left", "right")
# Joints that mean the same: a few centimetres apart at most, as sensors and bodies differ by as much.
_SAME = (
    "pelvis hip_center spine_base mid_hip",
    "spine spine_mid spine2",
    "shoulder_center spine_shoulder thorax",
    *(f"foot_{side} foot_index_{side} big_toe_{side}" for side in _SIDES),
)
_GROUPS = {name: tuple(group.split()) for group in _SAME for name in group.split()}
# Where bones of length 0 put joints of cmu38.
_COINCIDE = {"lower_back": "pelvis", "neck_base": "thorax"}
for _side in _SIDES:
    _COINCIDE |= {f"hip_base_{_side}": "pelvis", f"clavicle_{_side}": "thorax"}
    _COINCIDE |= {f"finger_base_{_side}": f"wrist_{_side}", f"thumb_base_{_side}": f"wrist_{_side}"}
# Joints that lie in the middle of two others.
_MEANS = {
    "pelvis": ("hip_left", "hip_right"),
    "spine": ("pelvis", "shoulder_center"),
    "shoulder_center": ("shoulder_left", "shoulder_right"),
    "neck": ("shoulder_left", "shoulder_right"),
    "head": ("ear_left", "ear_right"),
    **{f"hand_{side}": (f"index_{side}", f"pinky_{side}") for side in _SIDES},
}


@dataclass(frozen=True)
class JointMapping:
    """How frames of the layout `source` become frames of `target`; `joint_mapping` makes one."""

    source: SkeletonLayout
    """The layout of the frames that are given."""
    target: SkeletonLayout
    """The layout that is wanted."""
    pairs: tuple[tuple[int, int] | None, ...]
    """For each joint of `target` the two joints of `source` in whose middle it lies: one twice; None if missing."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the target's joints that the source lacks."""
        return tuple(n for n, pair in zip(self.target.joint_names, self.pairs, strict=True) if pair is None)

    def apply(self, frames: Tensor) -> Tensor:
        """`[F, J_source, C]` (float) -> `[F, J_target, C]`, of the same dtype and on the same device.

        Missing joints are zeros, which count as absent; so is a mean of two of which one is absent. Confidences
        `[F, J_source, 1]` may be mapped likewise. Units stay what they are. Raises ValueError for another shape.
        """
        if frames.ndim != 3 or frames.shape[1] != self.source.joints:
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; the layout {self.source.name!r} takes "
                f"[F, {self.source.joints}, C]"
            )
        known = [joint for joint, pair in enumerate(self.pairs) if pair is not None]
        pairs = torch.tensor([pair for pair in self.pairs if pair is not None], device=frames.device)
        first, second = frames.index_select(1, pairs[:, 0]), frames.index_select(1, pairs[:, 1])
        both = is_present(first) & is_present(second)
        out = frames.new_zeros(len(frames), self.target.joints, frames.shape[2])
        out[:, known] = torch.where(both[..., None], (first + second) / 2, 0)
        return out


def joint_mapping(source: str | SkeletonLayout, target: str | SkeletonLayout) -> JointMapping:
    """How to make frames of the layout `target` from those of `source`; layouts are known names or `SkeletonLayout`s.

    A joint of the same name comes first, then one that means the same, then the mean of two. `spine_base`, `hip_center`
    and `pelvis` are one joint, and the middle of the hips where there is none of them. Raises ValueError, which lists
    them, if more than half of the target's joints are missing; and if two joints of the source share a name.
    """
    source, target = layout_from(source), layout_from(target)
    index = {name: joint for joint, name in enumerate(source.joint_names)}
    if len(index) < source.joints:
        raise ValueError(f"layout {source.name!r} has two joints of one name; names must differ to map them")
    mapping = JointMapping(source, target, tuple(_pair(index, joint) for joint in target.joint_names))
    if 2 * len(mapping.missing) > target.joints:
        raise ValueError(
            f"{len(mapping.missing)} of the {target.joints} joints of the layout {target.name!r} are missing in "
            f"{source.name!r}: {', '.join(mapping.missing)}; train an encoder on {source.name!r}, or name its joints "
            f"as a layout of hitrs_fast.LAYOUTS does"
        )
    return mapping


def _pair(index: Mapping[str, int], joint: str) -> tuple[int, int] | None:
    """The two joints of the source, whose names `index` numbers, that `joint` is the mean of."""
    single = _find(index, joint)
    if single is not None:
        return single, single
    for name in _names(joint):
        if name in _MEANS:
            first, second = (_find(index, part) for part in _MEANS[name])
            if first is not None and second is not None:
                return first, second
    return None


def _find(index: Mapping[str, int], joint: str) -> int | None:
    return next((index[name] for name in _names(joint) if name in index), None)


def _names(joint: str) -> tuple[str, ...]:
    """What a joint may be called, its own name first."""
    place = _COINCIDE.get(joint, joint)
    return (joint, place, *_GROUPS.get(place, ()))


def check_layout(expected: SkeletonLayout, found: SkeletonLayout, where: str) -> None:
    """ValueError unless both layouts have the same joints with the same parents, whatever the layouts are called.

    `expected` is a model's layout, `found` that of the data, which are called `where`.
    """
    own, theirs = (list(zip(layout.joint_names, layout.parents, strict=True)) for layout in (found, expected))
    if own == theirs:
        return
    details = [
        f"; joint {joint} is {a[0]!r} with parent {a[1]}, not {b[0]!r} with {b[1]}"
        for joint, (a, b) in enumerate(zip(own, theirs, strict=False))
        if a != b
    ]
    raise ValueError(
        f"{where} has the layout {found.name!r} with {found.joints} joints, but the model was made for "
        f"{expected.name!r} with {expected.joints}{''.join(details[:1])}. Map the frames with "
        f"hitrs_fast.joint_mapping(data_layout, model.config.layout).apply(frames), or give --map-joints"
    )
