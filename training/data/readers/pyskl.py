"""The pickles of pyskl and mmaction2 (`ntu60_3danno.pkl`, ...), read without running what is in them.

A dictionary: `annotations`, a list of dictionaries with `frame_dir` (the name), `total_frames`, `label` and `keypoint`
`[M, T, V, C]` (bodies, frames, joints, coordinates), for 2-D poses also `keypoint_score` `[M, T, V]`; and `split`,
lists of names (https://github.com/kennymckormick/pyskl, data/README.md). 3-D coordinates are metres, 2-D ones pixels.

A pickle can run any program. This one is read by `plain_pickle`, which makes arrays and plain containers alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hitrs_fast.skeleton import LAYOUTS

from ..records import UNKNOWN, DataError, Sample, Sequence, Source
from .ntu import parse_name
from .plain_pickle import load_plain

MOST_CLASSES = 10_000
_BY_JOINTS = {25: "ntu25", 17: "coco17", 20: "kinect20"}


class PysklReader:
    """Reads the pickle at `path`, held in memory as a whole; one sequence for each body that appears.

    A split `X_train` becomes `X`, `train` becomes `default`, `train1` `split1`; `X_val` and `X_test` are what is left.
    An annotation that cannot be used is skipped, or raises DataError if `strict`.
    """

    def __init__(self, path: str | Path, strict: bool = False) -> None:
        self._path, self._strict = Path(path), strict
        self.skipped: list[tuple[str, str]] = []
        content = self._load()
        self._annotations = content["annotations"]
        first = self._annotations[0].get("keypoint")
        shape: tuple[int, ...] = first.shape if isinstance(first, np.ndarray) else ()
        if len(shape) != 4 or shape[2] not in _BY_JOINTS:
            known = ", ".join(map(str, sorted(_BY_JOINTS)))
            raise self._error(
                f"its first 'keypoint' has shape {list(shape)}; known is [M, T, V, C] with V one of {known}"
            )
        if shape[2:] == (17, 3):
            raise self._error("its 17 joints in 3-D may be Human3.6M's or COCO's; write them as .npy and give --layout")
        labels = [label for a in self._annotations if _is_label(label := a.get("label"))]
        self.source = Source(
            layout=LAYOUTS[_BY_JOINTS[shape[2]]],
            channels=shape[3],
            classes=[f"class{number}" for number in range(max(labels, default=-1) + 1)],
            reader="pyskl",
            options={"strict": strict},
            path=str(path),
            splits=_training(content.get("split", {})),
        )

    def _load(self) -> dict[str, Any]:
        content = load_plain(self._path)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise self._error("holds no list 'annotations'; an old mmaction pickle is a bare list and is not read")
        if not content["annotations"] or not all(isinstance(a, dict) for a in content["annotations"]):
            raise self._error("'annotations' is empty, or not dictionaries")
        return content

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self._path}: {problem}")

    def __len__(self) -> int:
        return len(self._annotations)

    def __iter__(self) -> Iterator[Sample]:
        self.skipped.clear()
        for number, annotation in enumerate(self._annotations):
            name = str(annotation.get("frame_dir", f"annotation{number:06d}"))
            try:
                yield self._sample(name, annotation)
            except DataError as error:
                if self._strict:
                    raise
                self.skipped.append((name, str(error)))

    def _sample(self, name: str, annotation: dict[str, Any]) -> Sample:
        wanted = (self.source.layout.joints, self.source.channels)
        joints = annotation.get("keypoint")
        if not isinstance(joints, np.ndarray):
            raise self._error(f"{name}: 'keypoint' is not an array")
        found = f"{joints.dtype} {list(joints.shape)}"
        if joints.dtype.kind != "f" or joints.ndim != 4 or joints.shape[2:] != wanted or not joints.shape[1]:
            raise self._error(f"{name}: 'keypoint' is {found}, not floating-point [M, T, {wanted[0]}, {wanted[1]}]")
        joints = joints.astype(np.float32)
        if not np.isfinite(joints).all():
            raise self._error(f"{name}: has nan or infinite coordinates")
        label = annotation.get("label", UNKNOWN)
        if not _is_label(label):
            raise self._error(f"{name}: 'label' is {label!r}, not a whole number from 0 to {MOST_CLASSES - 1}")
        if (total := annotation.get("total_frames", joints.shape[1])) != joints.shape[1]:
            raise self._error(f"{name}: 'total_frames' is {total!r}, but 'keypoint' has {joints.shape[1]} frames")
        scores = self._scores(name, annotation, joints.shape[:3])
        sequences = [
            Sequence(body, number, confidence=None if scores is None else scores[number])
            for number, body in enumerate(joints)
            if body.any()
        ]
        if not sequences:
            raise self._error(f"{name}: no body appears in it")
        return Sample(name, joints.shape[1], sequences, label, *_from_name(name))

    def _scores(self, name: str, annotation: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
        """Confidences `[M, T, V]`, 0 to 1; detectors exceed 1 a little."""
        scores = annotation.get("keypoint_score")
        if scores is None:
            return None
        if np.shape(scores) != shape:
            raise self._error(f"{name}: 'keypoint_score' has shape {list(np.shape(scores))}, not {list(shape)}")
        return np.asarray(scores, np.float32).clip(0, 1)


def _from_name(name: str) -> tuple[int, int, int]:
    """Subject, camera and setup where the name is NTU RGB+D's."""
    try:
        parsed = parse_name(name)
    except DataError:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return parsed.performer, parsed.camera, parsed.setup


def _is_label(label: Any) -> bool:
    return isinstance(label, int) and UNKNOWN <= label < MOST_CLASSES


def _training(splits: Any) -> dict[str, list[str]]:
    """Names of the training samples by split; see the reader."""
    found = {}
    for key, names in splits.items() if isinstance(splits, dict) else ():
        if not isinstance(names, list | tuple) or re.search(r"(^|_)(val|test)\d*$", str(key)):
            continue
        training = re.fullmatch(r"(?:(.+)_)?train(\d*)", key)
        name = key if training is None else (training[1] or "") + (f"split{training[2]}" if training[2] else "")
        found[name or "default"] = [str(name) for name in names]
    return found
