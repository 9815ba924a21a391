"""Ghost removal for NTU RGB+D: the sensor also tracks chairs, shadows and reflections as bodies.

The rules and figures are those of CTR-GCN's preparation of NTU RGB+D (Chen et al., ICCV 2021, data/ntu), which goes on
to merge tracks and cut empty frames; here tracks are dropped and nothing else is changed. Shape legend: T frames.
"""

from __future__ import annotations

import numpy as np

from ..records import Sequence

SHORTEST = 12  # frames in which a body must be seen
WIDE = 0.8  # a frame is wide where the joints' spread in x is more than this times that in y
WIDE_SHARE = 0.69754  # a body with at least this share of wide frames is a ghost
ACTORS = 2  # bodies at a time


def without_ghosts(tracks: list[Sequence]) -> list[Sequence]:
    """The tracks `[T, 25, 3]` less those that are seen too shortly, are too wide, or move least of three at a time.

    In this order; a rule that would drop every track drops none, so no recording is lost.
    """
    tracks = [track for track in tracks if len(_seen(track)) >= SHORTEST] or tracks
    tracks = [track for track in tracks if wide_share(track) < WIDE_SHARE] or tracks
    return _actors(tracks)


def wide_share(track: Sequence) -> float:
    """The share of wide frames among those in which the body is seen."""
    seen = _seen(track)
    if not len(seen):
        return 0.0
    spread = np.ptp(seen, axis=1)
    return float((spread[:, 0] > WIDE * spread[:, 1]).mean())


def motion(track: Sequence) -> float:
    """The variances of x, y and z over all joints and the frames in which the body is seen, added (square metres)."""
    seen = _seen(track)
    return float(seen.reshape(-1, 3).var(axis=0, dtype=np.float64).sum()) if len(seen) else 0.0


def _seen(track: Sequence) -> np.ndarray:
    return track.joints[track.joints.any((1, 2))]


def _actors(tracks: list[Sequence]) -> list[Sequence]:
    """Gives tracks to two actors, most motion first, where they overlap none of the actor's; drops the rest."""
    actors: list[list[Sequence]] = [[] for _ in range(ACTORS)]
    for track in sorted(tracks, key=motion, reverse=True):
        free = [actor for actor in actors if not any(_overlap(track, other) for other in actor)]
        if free:
            free[0].append(track)
    kept = {id(track) for actor in actors for track in actor}
    return [track for track in tracks if id(track) in kept]


def _overlap(a: Sequence, b: Sequence) -> bool:
    return a.first_frame < b.first_frame + len(b.joints) and b.first_frame < a.first_frame + len(a.joints)
