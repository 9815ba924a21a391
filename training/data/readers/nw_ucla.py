"""Northwestern-UCLA Multiview Action 3D (Wang et al., CVPR 2014), as the folder `all_sqe` of JSON files.

A file holds one recording: `{"file_name": "a01_s01_e00_v01", "skeletons": [[[x, y, z], ... 20 joints], ... frames],
"label": n}`, Kinect v1, metres. Names say action, subject, repetition and view; the label is taken from there.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hitrs_fast.skeleton import KINECT20

from ..records import DataError, Sample, Sequence, Source
from .folder import FolderReader, by_stem, files_below, read_json

# The data set's actions by their numbers in the names; 7 and 10 were never released.
ACTIONS = {
    1: "pick up with one hand", 2: "pick up with two hands", 3: "drop trash", 4: "walk around", 5: "sit down",
    6: "stand up", 8: "donning", 9: "doffing", 11: "throw", 12: "carry",
}  # fmt: skip
TRAINING_VIEWS = {1, 2}  # the usual cross-view protocol tests on view 3
PUBLISHED = {"samples": 1484, "cross-view": 1020}


class NwUclaReader(FolderReader):
    """Reads the `*.json` below `folder`; the split is `cross-view`. Skipping as in `FolderReader`."""

    def __init__(self, folder: str | Path, strict: bool = False) -> None:
        super().__init__(strict)
        self.take(by_stem(files_below(folder, ".json")))
        views = {name: parsed[3] for name in self._files if (parsed := _parse(name))}
        self.source = Source(
            layout=KINECT20,
            classes=list(ACTIONS.values()),
            reader="nw-ucla",
            options={"strict": strict},
            path=str(folder),
            splits={"cross-view": [name for name, view in views.items() if view in TRAINING_VIEWS]},
            published=PUBLISHED,
        )

    def read(self, name: str, file: Path) -> list[Sample]:
        parsed = _parse(name)
        if parsed is None:
            raise DataError(f"{file}: not a name like a01_s01_e00_v01, so action, subject and view are unknown")
        action, subject, _, view = parsed
        if action not in ACTIONS:
            raise DataError(f"{file}: action {action} is not one of {', '.join(map(str, ACTIONS))}")
        joints = _joints(file)
        return [Sample(name, len(joints), [Sequence(joints)], list(ACTIONS).index(action), subject, view)]


def _parse(name: str) -> tuple[int, ...] | None:
    match = re.fullmatch(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)", name)
    return match and tuple(int(digits) for digits in match.groups())


def _joints(file: Path) -> np.ndarray:
    """`[T, 20, 3]` float32."""
    content = read_json(file)
    if not isinstance(content, dict) or "skeletons" not in content:
        raise DataError(f"{file}: has no 'skeletons'")
    try:
        joints = np.array(content["skeletons"], np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: 'skeletons' is not frames of 20 joints of three numbers ({error})") from error
    if joints.ndim != 3 or joints.shape[1:] != (20, 3) or not len(joints):
        raise DataError(f"{file}: 'skeletons' has shape {list(joints.shape)}, but must have [frames, 20, 3]")
    if not np.isfinite(joints).all():
        raise DataError(f"{file}: has nan or infinite coordinates")
    return joints
