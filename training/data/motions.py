"""The demo's actions: key poses in data.

To add an action, append an `action(...)` to ACTIONS: the poses to be in, each with the seconds it takes to get there
and the seconds to stay. poses.py explains the words. Actions are written for the right-handed; the reader mirrors them.
"""

from __future__ import annotations

from typing import Any

from .poses import Action, Pose, action, pose
from .walk import walk


def together(move: float, hold: float = 0.0, **channels: Any) -> Pose:
    """A pose that both people take."""
    return pose(move, hold, other=channels, **channels)


Words = dict[str, Any]
SIT: Words = {"pelvis": (0, -0.235, -0.2), "lean": 2, "both_at": (0.085, 0.345, -0.02), "both_elbow": 10}
GUARD: Words = {
    "right": (0.06, -0.05, 0.15),
    "left": (0.05, -0.03, 0.2),
    "lean": 6,
    "pelvis": (0, -0.02, 0),
    "twist": -15,
}
STRIKE: Words = {"right_at": (-0.01, 0.91, 0.4), "left": (0.05, -0.05, 0.14), "lean": 14, "pelvis": (0, -0.03, 0.06)}
STRIKE |= {"twist": 32, "right_heel": 30}
HIT: Words = {"pelvis": (0, -0.02, -0.05), "both": (0.17, -0.22, 0.13)}
OPEN: Words = {"both": (0.22, -0.1, 0.22), "both_elbow": 20, "lean": 3}
EMBRACE: Words = {"right_at": (0.04, 0.8, 0.4), "left_at": (0.04, 0.67, 0.38), "both_elbow": 45, "lean": 9, "side": 5}

ACTIONS: list[Action] = [
    action(
        "drink",
        [
            pose(0.9, 0.6, right=(0.025, 0.075, 0.105), right_elbow=22, nod=-14, lean=-2),
            pose(0.7, 0.3, right=(0.07, -0.16, 0.2), nod=3),
        ],
        enter=[pose(0.5, right=(0.1, -0.2, 0.2), nod=10)],
        leave=[pose(0.6)],
        size=0.04,
    ),
    action(
        "wave hand",
        [
            pose(0.24, right=(0.27, 0.11, 0.1), right_elbow=10, look=-3, side=-1),
            pose(0.24, right=(0.1, 0.15, 0.13), right_elbow=10, look=3),
        ],
        enter=[pose(0.6, right=(0.13, 0.13, 0.12), right_elbow=10)],
        leave=[pose(0.6)],
    ),
    action(
        "clap",
        [
            pose(0.16, right=(0.012, -0.08, 0.2), left=(0.012, -0.08, 0.2), both_elbow=25),
            pose(0.2, both=(0.1, -0.08, 0.19), both_elbow=35),
        ],
        enter=[pose(0.5, both=(0.1, -0.08, 0.19), both_elbow=35)],
        leave=[pose(0.6)],
        size=0.03,
    ),
    action(
        "kick",
        [
            pose(
                0.3,
                right_foot=(0, 0.07, -0.16),
                right_heel=50,
                pelvis=(0.04, -0.01, 0),
                lean=6,
                left=(0.15, -0.2, 0.15),
            ),
            pose(
                0.2,
                0.05,
                right_foot=(-0.02, 0.3, 0.42),
                right_heel=-20,
                pelvis=(0.05, 0, 0.01),
                lean=-10,
                twist=15,
                right=(0.2, -0.28, -0.08),
                left=(0.16, -0.15, 0.18),
            ),
            pose(0.35, right_foot=(0, 0.05, 0.06), pelvis=(0.04, -0.005, 0), lean=2),
            pose(0.25, 0.2),
        ],
    ),
    action(
        "sit down",
        [],
        enter=[
            pose(0.4, pelvis=(0, -0.03, -0.03), lean=10, look=-12, nod=10),
            pose(0.6, pelvis=(0, -0.16, -0.16), lean=38, both_at=(0.1, 0.36, 0.02), nod=-8),
            pose(0.35, pelvis=(0, -0.235, -0.2), lean=24, both_at=(0.085, 0.35, 0)),
            pose(0.5, **SIT),
        ],
        size=0.08,
    ),
    action(
        "stand up",
        [],
        start=pose(0, **SIT),
        enter=[
            pose(0.5, pelvis=(0, -0.232, -0.17), lean=40, both_at=(0.09, 0.35, 0.04), nod=-10),
            pose(0.45, pelvis=(0, -0.12, -0.1), lean=34, both=(0.13, -0.29, 0.12)),
            pose(0.6),
        ],
        size=0.08,
    ),
    action(
        "pick up",
        [
            pose(
                1.0,
                0.25,
                pelvis=(0, -0.2, -0.12),
                lean=66,
                twist=8,
                nod=-5,
                both_heel=8,
                right_at=(0.03, 0.05, 0.24),
                left_at=(0.1, 0.3, 0.1),
            ),
            pose(0.5, pelvis=(0, -0.09, -0.06), lean=35, right=(0.1, -0.25, 0.12)),
            pose(0.6, 0.4, right=(0.06, -0.17, 0.18), right_elbow=10, nod=15),
            pose(0.5, 0.1),
        ],
        size=0.06,
    ),
    action(
        "throw",
        [
            pose(
                0.35,
                pelvis=(-0.02, -0.01, -0.03),
                twist=-38,
                lean=-8,
                look=30,
                right=(0.2, 0.06, -0.1),
                left=(0.08, -0.06, 0.24),
                left_foot=(0, 0.05, 0.08),
            ),
            pose(
                0.16,
                pelvis=(0, -0.03, 0.03),
                twist=-10,
                lean=2,
                look=8,
                right=(0.2, 0.16, -0.02),
                right_elbow=25,
                left=(0.15, -0.15, 0.15),
                left_foot=(0, 0, 0.17),
            ),
            pose(
                0.14,
                pelvis=(0, -0.03, 0.08),
                twist=22,
                lean=14,
                right=(0.1, 0.14, 0.26),
                right_heel=20,
                left=(0.15, -0.22, 0.05),
                left_foot=(0, 0, 0.17),
            ),
            pose(
                0.25,
                0.1,
                pelvis=(0, -0.035, 0.09),
                twist=38,
                lean=24,
                right=(-0.08, -0.2, 0.2),
                right_heel=35,
                left_foot=(0, 0, 0.17),
            ),
            pose(0.3, pelvis=(0, -0.01, 0.03), twist=6, lean=6, left_foot=(0, 0.04, 0.08)),
            pose(0.25, 0.3),
        ],
    ),
    action(
        "jump up",
        [
            pose(0.4, 0.05, pelvis=(0, -0.13, -0.06), lean=32, both=(0.15, -0.27, -0.14), nod=-15),
            pose(0.2, pelvis=(0, 0.03, 0), lean=3, both_heel=42, both=(0.13, -0.05, 0.2)),
            pose(0.2, pelvis=(0, 0.16, 0), lean=2, both_heel=35, both_foot=(0, 0.13, -0.01), both=(0.13, 0.12, 0.2)),
            pose(0.2, pelvis=(0, 0.0, -0.01), lean=8, both_heel=15, both=(0.16, -0.15, 0.14)),
            pose(0.18, pelvis=(0, -0.1, -0.04), lean=24, both=(0.17, -0.26, 0.08)),
            pose(0.35, 0.25),
        ],
    ),
    action("walk in a circle", [], drive=walk),
    action(
        "bow", [pose(0.8, 0.4, pelvis=(0, -0.005, -0.07), lean=52, nod=12, both=(0.11, -0.335, 0.06)), pose(0.8, 0.3)]
    ),
    action(
        "raise both arms",
        [
            pose(0.25, both=(0.3, -0.22, 0.05)),
            pose(0.3, both=(0.4, 0.02, 0.05)),
            pose(0.45, 0.3, both=(0.12, 0.33, 0.03), nod=-12, lean=-3),
            pose(0.4, both=(0.4, 0.02, 0.05)),
            pose(0.3, both=(0.3, -0.22, 0.05)),
            pose(0.25, 0.1),
        ],
        size=0.1,
    ),
    action(
        "handshake",
        [
            together(0.2, right_at=(0, 0.62, 0.235), twist=12, lean=5),
            together(0.2, right_at=(0, 0.56, 0.235), twist=12, lean=7),
        ],
        enter=[together(0.7, 0.1, right_at=(0, 0.59, 0.235), twist=12, lean=5)],
        leave=[pose(0.7)],
        size=0.03,
        distance=0.48,
    ),
    action(
        "punch",
        [
            pose(0.3, 0.05, **GUARD | {"twist": -30, "right": (0.1, -0.06, 0.06)}, other={"lean": -2}),
            pose(0.13, **STRIKE, other={"lean": -4, "nod": 4}),
            pose(0.12, **GUARD, other=HIT | {"lean": -22, "nod": -22, "look": 18, "twist": 12}),
            pose(0.3, **GUARD, other=HIT | {"lean": -6}),
            pose(0.3, 0.2, **GUARD),
        ],
        enter=[pose(0.4, **GUARD)],
        leave=[pose(0.4)],
        size=0.06,
        distance=0.46,
    ),
    action(
        "push",
        [
            pose(0.3, both=(0.09, -0.05, 0.12), both_elbow=20, lean=-2, pelvis=(0, -0.02, -0.02), other={"nod": 3}),
            pose(0.16, both_at=(0.07, 0.76, 0.35), lean=16, pelvis=(0, -0.03, 0.06), both_heel=12, other={"lean": -2}),
            pose(
                0.14,
                both_at=(0.07, 0.74, 0.38),
                lean=20,
                pelvis=(0, -0.035, 0.08),
                both_heel=20,
                other=HIT | {"lean": -16, "nod": 12, "pelvis": (0, -0.02, -0.06), "right_foot": (0, 0.04, -0.1)},
            ),
            pose(
                0.3,
                both=(0.12, -0.25, 0.14),
                lean=6,
                other=HIT | {"lean": 6, "pelvis": (0, -0.04, -0.1), "right_foot": (0, 0, -0.22), "right_heel": 20},
            ),
            pose(0.4, 0.1, other={"right_foot": (0, 0.03, -0.1), "pelvis": (0, -0.01, -0.04)}),
            pose(0.3, 0.2),
        ],
        size=0.06,
        distance=0.44,
    ),
    action(
        "hug",
        [],
        enter=[
            together(0.35, pelvis=(-0.01, -0.01, 0.04), right_foot=(0, 0.04, 0.08), **OPEN),
            together(0.2, pelvis=(0, -0.015, 0.09), right_foot=(0, 0, 0.13), left_heel=25, **OPEN),
            together(0.25, pelvis=(0.01, -0.01, 0.12), right_foot=(0, 0, 0.13), left_foot=(0, 0.03, 0.08), **EMBRACE),
            together(0.3, 0.7, pelvis=(0.02, -0.01, 0.13), both_foot=(0, 0, 0.13), **EMBRACE),
            together(0.35, pelvis=(0.01, -0.01, 0.1), right_foot=(0, 0, 0.13), left_foot=(0, 0.03, 0.07), **OPEN),
            together(0.25, pelvis=(0, -0.01, 0.05), right_foot=(0, 0, 0.13)),
            together(0.25, pelvis=(0, -0.01, 0.02), right_foot=(0, 0.03, 0.06)),
            pose(0.3),
        ],
        size=0.04,
        distance=0.5,
    ),
]
