"""A jointed human body: from what the limbs do in each frame to the 25 joints of a Kinect v2.

Body frame: x to the body's left, y up, z forward, metres; the floor is y = 0 and the origin lies between the
feet of the standing body. Hands and feet are placed by two-bone inverse kinematics, so planted feet do not slide.
Shape legend: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from hitrs_fast.skeleton import NTU25

Motion = dict[str, np.ndarray]  # channel name -> [T, 3] positions, or [T] degrees and weights
JOINT = {name: j for j, name in enumerate(NTU25.joint_names)}
SIDES = {"left": 1.0, "right": -1.0}

# Lengths of an average body as fractions of its stature, in the proportions Kinect reports.
SPINE, CHEST, NECK, HEAD = 0.168, 0.132, 0.038, 0.078
CLAVICLE, UPPER_ARM, FOREARM, HAND, TIP, THUMB = 0.100, 0.152, 0.138, 0.044, 0.042, 0.030
HIP_WIDTH, HIP_DROP, THIGH, SHANK = 0.047, 0.010, 0.242, 0.228
ANKLE_HEIGHT, FOOT_LENGTH, TOE_HEIGHT = 0.036, 0.070, 0.014  # ankle above the foot joint; that above the floor

STRETCH = 0.997  # limbs stop short of straight: a straight knee or elbow pops
SOFT = 0.003  # metres over which that limit takes hold


@dataclass(frozen=True)
class Body:
    """Stature in metres, and the length of limbs relative to those of an average body of that stature."""

    stature: float = 1.70
    legs: float = 1.0
    arms: float = 1.0
    width: float = 1.0
    stance: float = 0.055  # half the distance between the standing feet, of stature
    toe_out: float = 8.0  # degrees
    slouch: float = 2.0  # degrees that the chest leans forward at ease


def skeleton(body: Body, motion: Motion, unit: float | None = None) -> np.ndarray:
    """The joints `[T, 25, 3]` float64 in the body frame, in metres.

    `motion` holds the channels of motions.CHANNELS in units of stature and degrees; the places on the floor and in the
    room (`left_at`, `right_at`) are in `unit` metres, by default the stature (two bodies that meet share it).
    """
    unit = unit or body.stature
    joints = np.zeros((len(motion["lean"]), len(JOINT), 3))
    pelvis_turn, chest_turn = _trunk(body, motion, joints)
    for side, sign in SIDES.items():
        _leg(body, motion, joints, pelvis_turn, side, sign)
        _arm(body, motion, joints, chest_turn, side, sign, unit)
    return joints


def rotation(turn: np.ndarray, lean: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Rotation matrices `[T, 3, 3]`: bend `side` to the left, then `lean` forward, then `turn` left; degrees `[T]`."""
    (cy, cx, cz), (sy, sx, sz) = ([f(np.radians(angle)) for angle in (turn, lean, -side)] for f in (np.cos, np.sin))
    matrix = np.empty((len(turn), 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = cx * sz, cx * cz, -sx
    matrix[:, 2, 0], matrix[:, 2, 1], matrix[:, 2, 2] = cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx
    return matrix


def two_bones(
    root: np.ndarray, target: np.ndarray, upper: float, lower: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The middle and the end `[T, 3]` of a limb from `root` towards `target` `[T, 3]` that bends towards `pole`.

    Law of cosines. A target out of reach is approached as far as the limb goes, smoothly.
    """
    way = target - root
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    along = way / np.maximum(distance, 1e-9)
    reach = _soft_min(distance, STRETCH * (upper + lower))
    reach = np.maximum(reach, np.sqrt(upper**2 + lower**2 - 1.7 * upper * lower))  # folded to about 32 degrees
    part = (upper**2 - lower**2 + reach**2) / (2 * reach)
    height = np.sqrt(np.maximum(upper**2 - part**2, 0))
    return root + part * along + height * across(pole, along), root + reach * along


def across(vectors: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The unit vectors of the parts of `vectors` that are perpendicular to the unit vectors `along`, `[T, 3]`."""
    rest = vectors - (vectors * along).sum(-1, keepdims=True) * along
    return rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-9)


def _soft_min(value: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    return cast(np.ndarray, -SOFT * np.logaddexp(-value / SOFT, -np.asarray(limit) / SOFT))


def _apply(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., None])[..., 0]


def _trunk(body: Body, motion: Motion, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places pelvis, spine, neck, head and hips; returns the rotations of pelvis and chest `[T, 3, 3]`."""
    size = body.stature
    turn, twist, lean, side = (motion[name] for name in ("turn", "twist", "lean", "side"))
    pelvis = rotation(turn + 0.35 * twist, 0.45 * lean, 0.3 * side)
    belly = rotation(turn + 0.6 * twist, 0.75 * lean, 0.6 * side)
    chest = rotation(turn + twist, lean + body.slouch, side)
    head = chest @ rotation(motion["look"], motion["nod"] - 0.5 * body.slouch, np.zeros_like(lean))

    place = motion["pelvis"] * size
    place[:, 1] += size * (TOE_HEIGHT + ANKLE_HEIGHT + HIP_DROP + body.legs * (THIGH + SHANK))
    for name, sign in SIDES.items():
        hip = _apply(pelvis, np.array([sign * HIP_WIDTH * body.width, -HIP_DROP, 0]) * size)
        gap = _ankle(body, motion, name, sign) - (place + hip)
        flat = np.hypot(gap[:, 0], gap[:, 2])
        leg = STRETCH * size * body.legs * (THIGH + SHANK)
        # The pelvis sinks where a leg would not reach the floor: feet are never pulled along.
        rise = np.sqrt(np.maximum(leg**2 - flat**2, 0.01)) + gap[:, 1]
        place[:, 1] += _soft_min(rise, 0.0)
        joints[:, JOINT[f"hip_{name}"]] = hip
    for name in SIDES:
        joints[:, JOINT[f"hip_{name}"]] += place

    up = np.array([0.0, size, 0.0])
    joints[:, JOINT["spine_base"]] = place
    joints[:, JOINT["spine_mid"]] = mid = place + _apply(belly, SPINE * up)
    joints[:, JOINT["spine_shoulder"]] = collar = mid + _apply(chest, CHEST * up)
    joints[:, JOINT["neck"]] = neck = collar + _apply(chest, NECK * up)
    joints[:, JOINT["head"]] = neck + _apply(head, np.array([0, HEAD, 0.25 * HEAD]) * size)
    return pelvis, chest


def _ankle(body: Body, motion: Motion, side: str, sign: float) -> np.ndarray:
    """Where the ankle `[T, 3]` is: the heel turns up about the foot joint, which stays on the floor."""
    foot, direction = _foot(body, motion, side, sign)
    return foot + _apply(direction, np.array([0, ANKLE_HEIGHT, -FOOT_LENGTH]) * body.stature)


def _foot(body: Body, motion: Motion, side: str, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the foot joint is `[T, 3]` and the rotation of the foot `[T, 3, 3]`."""
    stance = np.array([sign * body.stance, TOE_HEIGHT, FOOT_LENGTH])
    heel = motion[f"{side}_heel"]
    direction = rotation(motion[f"{side}_toe"] + sign * body.toe_out, heel, np.zeros_like(heel))
    return (motion[f"{side}_foot"] + stance) * body.stature, direction


def _leg(body: Body, motion: Motion, joints: np.ndarray, pelvis: np.ndarray, side: str, sign: float) -> None:
    _, direction = _foot(body, motion, side, sign)
    # Knees point where both the pelvis and the foot point, and a little outwards.
    pole = _apply(pelvis + direction, np.array([0.12 * sign, 0.0, 1.0]))
    bones = body.stature * body.legs * THIGH, body.stature * body.legs * SHANK
    knee, ankle = two_bones(joints[:, JOINT[f"hip_{side}"]], _ankle(body, motion, side, sign), *bones, pole)
    joints[:, JOINT[f"knee_{side}"]] = knee
    joints[:, JOINT[f"ankle_{side}"]] = ankle
    offset = _apply(direction, np.array([0, -ANKLE_HEIGHT, FOOT_LENGTH]) * body.stature)
    joints[:, JOINT[f"foot_{side}"]] = ankle + offset


def _arm(
    body: Body, motion: Motion, joints: np.ndarray, chest: np.ndarray, side: str, sign: float, unit: float
) -> None:
    collar = joints[:, JOINT["spine_shoulder"]]
    fixed = motion[f"{side}_fixed"][:, None]
    place = collar + _apply(chest, motion[f"{side}_hand"] * body.stature)
    target = (1 - fixed) * place + fixed * motion[f"{side}_at"] * unit
    local = _apply(np.swapaxes(chest, -1, -2), target - collar)
    shoulder = collar + _apply(chest, _shoulder(body, local, sign))
    along = target - shoulder
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    pole = _elbow_pole(chest, along, sign, motion[f"{side}_elbow"])

    size = body.stature * body.arms
    elbow, hand = two_bones(shoulder, target, size * UPPER_ARM, size * (FOREARM + HAND), pole)
    forearm = (hand - elbow) / (size * (FOREARM + HAND))
    inner = -across(pole, forearm)  # where the thumb is, and where fingers curl to
    joints[:, JOINT[f"shoulder_{side}"]] = shoulder
    joints[:, JOINT[f"elbow_{side}"]] = elbow
    joints[:, JOINT[f"wrist_{side}"]] = elbow + forearm * size * FOREARM
    joints[:, JOINT[f"hand_{side}"]] = hand
    joints[:, JOINT[f"hand_tip_{side}"]] = hand + (0.97 * forearm + 0.24 * inner) * size * TIP
    joints[:, JOINT[f"thumb_{side}"]] = hand + (0.5 * forearm + 0.87 * inner) * size * THUMB


def _shoulder(body: Body, hand: np.ndarray, sign: float) -> np.ndarray:
    """The shoulder `[T, 3]` in the chest frame: it rises with a raised hand and goes forward with a reaching one."""
    reach = hand / (body.stature * body.arms * (UPPER_ARM + FOREARM + HAND))
    lift = np.radians(-14 + 26 / (1 + np.exp(-5 * (reach[:, 1] - 0.1))))
    ahead = np.radians(16 * np.clip(reach[:, 2], -0.6, 1.0))
    flat = np.cos(lift)
    arm = np.stack([sign * flat * np.cos(ahead), np.sin(lift), flat * np.sin(ahead)], -1)
    return arm * CLAVICLE * body.width * body.stature


def _elbow_pole(chest: np.ndarray, along: np.ndarray, sign: float, swivel: np.ndarray) -> np.ndarray:
    """The direction `[T, 3]` elbows bend to: down and out for an arm held forward, carried along to where the arm is.

    The least rotation from the forward arm to the present one takes that direction with it: an arm hanging down then
    bends backwards, one raised overhead forwards. `swivel` degrees turn the elbow outwards and up.
    """
    forward = _apply(chest, np.array([0.15 * sign, -0.3, 0.94]))
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    pole = across(_apply(chest, np.array([0.35 * sign, -0.9, -0.25])), forward)
    axis, cosine = np.cross(forward, along), (forward * along).sum(-1, keepdims=True)
    pole = pole + np.cross(axis, pole) + np.cross(axis, np.cross(axis, pole)) / np.maximum(1 + cosine, 0.05)
    angle = np.radians(sign * swivel)[:, None]
    return across(np.cos(angle) * pole + np.sin(angle) * np.cross(along, pole), along)
