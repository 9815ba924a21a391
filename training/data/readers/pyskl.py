"""The pickles of pyskl and mmaction2 (`ntu60_3danno.pkl`, ...), read without running what is in them.

A dictionary: `annotations`, a list of dictionaries with `frame_dir` (the name), `total_frames`, `label` and `keypoint`
`[M, T, V, C]` (bodies, frames, joints, coordinates), for 2-D poses also `keypoint_score` `[M, T, V]`; and `split`,
lists of names (https://github.com/kennymckormick/pyskl, data/README.md). 3-D coordinates are metres, 2-D ones pixels.

A pickle can run any program. This one may make numpy arrays, numbers, text, lists, tuples and dictionaries alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hitrs_fast.skeleton import LAYOUTS

from ..records import UNKNOWN, DataError, Sample, Sequence, Source

_ADMITTED = {
    *((module, name) for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
      for name in ("ndarray", "dtype", "_reconstruct", "scalar")),
    ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"), ("_codecs", "encode"),
}  # fmt: skip
_BY_JOINTS = {25: "ntu25", 17: "coco17", 20: "kinect20"}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is not an array or a plain container")
        return super().find_class(module, name)


class PysklReader:
    """Reads the pickle at `path`, held in memory as a whole; one sequence for each body that appears.

    Splits named `X_train` become `X`, others keep their names. An annotation that cannot be used is skipped, or raises
    DataError if `strict`.
    """

    def __init__(self, path: str | Path, strict: bool = False) -> None:
        self._path, self._strict = Path(path), strict
        self.skipped: list[tuple[str, str]] = []
        content = self._load()
        self._annotations = content["annotations"]
        shape = np.shape(self._annotations[0].get("keypoint"))
        if len(shape) != 4 or shape[2] not in _BY_JOINTS:
            known = ", ".join(map(str, sorted(_BY_JOINTS)))
            raise self._error(
                f"its first 'keypoint' has shape {list(shape)}; known is [M, T, V, C] with V one of {known}"
            )
        labels = [int(a.get("label", UNKNOWN)) for a in self._annotations]
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
        try:
            with self._path.open("rb") as file:
                content = _Unpickler(file).load()
        except OSError as error:
            raise self._error(f"cannot be read ({error.strerror})") from error
        # What a damaged or hostile pickle can raise, beside its own error: all of it comes from numpy and containers.
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise self._error(f"is not a pickle of arrays and plain containers, or is damaged: {error}") from error
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
        joints = np.asarray(annotation.get("keypoint"))
        found = f"{joints.dtype} {list(joints.shape)}"
        if joints.dtype.kind != "f" or joints.ndim != 4 or joints.shape[2:] != wanted or not joints.shape[1]:
            raise self._error(f"{name}: 'keypoint' is {found}, not floating-point [M, T, {wanted[0]}, {wanted[1]}]")
        joints = joints.astype(np.float32)
        if not np.isfinite(joints).all():
            raise self._error(f"{name}: has nan or infinite coordinates")
        scores = self._scores(name, annotation, joints.shape[:3])
        sequences = [
            Sequence(body, number, confidence=None if scores is None else scores[number])
            for number, body in enumerate(joints)
            if body.any()
        ]
        if not sequences:
            raise self._error(f"{name}: no body appears in it")
        label = int(annotation.get("label", UNKNOWN))
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
    from .ntu import parse_name

    try:
        parsed = parse_name(name)
    except DataError:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return parsed.performer, parsed.camera, parsed.setup


def _training(splits: Any) -> dict[str, list[str]]:
    """`X_train` and `X_val` are one split; what has no such pair is kept as it is."""
    found = {}
    for key, names in splits.items() if isinstance(splits, dict) else ():
        if key.endswith(("_val", "_test")) or key in ("val", "test"):
            continue
        found["default" if key == "train" else key.removesuffix("_train")] = [str(name) for name in names]
    return found
