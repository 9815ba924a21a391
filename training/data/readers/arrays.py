"""The `.npz` interchange format: a user's own recordings as plain arrays, one body in each.

Shape legend: F frames of all recordings one after another, N recordings, J joints, C coordinates, K classes.

    joints        [F, J, C] float, metres               lengths      [N] int, sums to F
    names         [N] text, all different               fps          scalar float, nan = unknown
    labels        [N] int, -1 = unknown                 label_names  [K] text
    subjects      [N] int                               views        [N] int, kept as the camera
    is_train      [N] bool, becomes the split "default"
    joint_names   [J] text                              bones [J - 1, 2] int (parent, child)  or  parents [J] int
    frame_labels  [F] int, 0 = background, for untrimmed recordings
    confidence    [F, J] float in 0..1
    frame_index   [F] int, the sensor's frame number, ascending; a gap of more than a second cuts a recording in two
                  sequences, so that no clip reaches across. The sensor counts `index_fps` (scalar, else 30) a second

`joints` and `lengths` must be there. Where `frame_labels` is, `label_names` counts from the background. Where names
repeat and `is_train` is there (some data sets count each side from 1), all become `train/NAME` and `test/NAME`.
"""

from __future__ import annotations

import difflib
import itertools
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from hitrs_fast.skeleton import LAYOUTS, SkeletonLayout

from ..records import UNKNOWN, DataError, Sample, Sequence, Source

KEYS = (
    *("joints", "lengths", "names", "fps", "labels", "label_names", "subjects", "views", "is_train"),
    *("joint_names", "bones", "parents", "frame_labels", "frame_index", "index_fps", "confidence"),
)
SENSOR_FPS = 30.0  # of Kinects
# By numpy's dtype.kind.
KINDS = {"f": "floating-point numbers", "iu": "integers", "fiu": "a number", "U": "text", "b": "true or false"}


class ArraysReader:
    """Reads the `.npz` at `path`, which is held in memory as a whole; the format is this module's docstring.

    `name_of_layout` is a known layout ("ntu25", "kinect20"), which the file must then agree with, or the name for the
    layout that the file describes; without it, a known layout of the same structure is used, else the file's own,
    named after the file. `fps` is for a file that does not say how many frames a second it has. A sequence that is not
    finite in float32 is appended to `skipped`, or raises DataError if `strict`; every other fault raises DataError at
    once. The split may name sequences that are skipped later.
    """

    def __init__(
        self, path: str | Path, name_of_layout: str | None = None, strict: bool = False, fps: float | None = None
    ) -> None:
        self._file = _Arrays(Path(path))
        self._strict = strict
        self.skipped: list[tuple[str, str]] = []
        self._joints = self._file.take("joints", "f", (None, None, None))
        self._lengths = self._file.take("lengths", "iu", (None,)).astype(np.int64)
        self._check_lengths()
        samples = len(self._lengths)
        self._is_train = self._file.find("is_train", "b", (samples,))
        self._names = self._read_names()
        self._frame_labels = self._file.find("frame_labels", "iu", (len(self._joints),))
        self._breaks = self._read_breaks()
        self._confidence = self._read_confidence()
        labels = self._file.find("labels", "iu", (samples,))
        classes = self._read_classes(labels)
        self._labels = _or_unknown(labels, samples)
        self._subjects = _or_unknown(self._file.find("subjects", "iu", (samples,)), samples)
        self._views = _or_unknown(self._file.find("views", "iu", (samples,)), samples)
        self.source = Source(
            layout=_layout(self._file, self._joints.shape[1], name_of_layout),
            channels=self._joints.shape[2],
            fps=self._read_fps(fps),
            classes=classes,
            reader="arrays",
            options={"name_of_layout": name_of_layout, "strict": strict, "fps": fps},
            path=str(path),
            splits=self._splits(),
        )

    def _check_lengths(self) -> None:
        if not len(self._lengths):
            raise self._file.error("'lengths' is empty, so there is no sequence")
        if (short := np.flatnonzero(self._lengths <= 0)).size:
            raise self._file.error(f"sequence {short[0]} has length {self._lengths[short[0]]}; lengths are 1 or more")
        total = sum(self._lengths.tolist())
        if total != len(self._joints):
            raise self._file.error(f"'lengths' add up to {total} frames, but 'joints' has {len(self._joints)}")

    def _read_breaks(self) -> np.ndarray:
        """The frames, of all recordings, before which more than a second is missing."""
        index = self._file.find("frame_index", "iu", (len(self._joints),))
        if index is None:
            return np.zeros(0, np.int64)
        given = self._file.find("index_fps", "fiu", ())
        second = SENSOR_FPS if given is None else float(given)
        if not 0 < second < np.inf:
            raise self._file.error(f"'index_fps' is {second}; give the sensor's frame numbers per second")
        step = np.diff(index.astype(np.int64))
        step[self._lengths.cumsum()[:-1] - 1] = 1  # from one recording to the next
        if (wrong := np.flatnonzero(step <= 0)).size:
            raise self._file.error(
                f"frame_index[{wrong[0] + 1}] is {index[wrong[0] + 1]}, which is not after the one before"
            )
        return np.flatnonzero(step / second > 1) + 1

    def _read_confidence(self) -> np.ndarray | None:
        found = self._file.find("confidence", "f", self._joints.shape[:2])
        if found is not None and not ((found >= 0) & (found <= 1)).all():
            frame, joint = np.argwhere(~((found >= 0) & (found <= 1)))[0]
            raise self._file.error(f"confidence[{frame}, {joint}] is {found[frame, joint]}, not between 0 and 1")
        return None if found is None else found.astype(np.float32)

    def _read_names(self) -> list[str]:
        given = self._file.find("names", "U", (len(self._lengths),))
        if given is None:
            return [f"sequence{number:06d}" for number in range(len(self._lengths))]
        names = given.tolist()
        if len(set(names)) < len(names) and self._is_train is not None:
            sides = ["train" if trains else "test" for trains in self._is_train.tolist()]
            names = [f"{side}/{name}" for side, name in zip(sides, names, strict=True)]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise self._file.error(f"the name {name!r} stands {count} times in 'names', but names must differ")
        return names

    def _read_classes(self, labels: np.ndarray | None) -> list[str]:
        """`label_names`, or numbered names up to the largest label; checks the labels against them."""
        used = [("labels", labels, UNKNOWN), ("frame_labels", self._frame_labels, 0)]
        found = [(key, values, lowest) for key, values, lowest in used if values is not None and values.size]
        given = self._file.find("label_names", "U", (None,))
        count = max((int(values.max()) + 1 for _, values, _ in found), default=0) if given is None else len(given)
        for key, values, lowest in found:
            if (wrong := np.flatnonzero((values < lowest) | (values >= count))).size:
                raise self._file.error(
                    f"{key}[{wrong[0]}] is {values[wrong[0]]}, but with {count} label names, "
                    f"{key} go from {lowest} to {count - 1}"
                )
        return [f"class{number}" for number in range(count)] if given is None else given.tolist()

    def _read_fps(self, unless_known: float | None) -> float:
        given = self._file.find("fps", "fiu", ())
        fps = float("nan") if given is None else float(given)
        if fps <= 0 or np.isinf(fps):
            raise self._file.error(f"'fps' is {fps}; give frames per second, or nan where unknown")
        if unless_known is None or np.isclose(fps, unless_known):
            return fps
        if np.isnan(fps):
            return unless_known
        raise self._file.error(f"'fps' is {fps:g}, but --fps is {unless_known:g}; leave it out")

    def _splits(self) -> dict[str, list[str]]:
        if self._is_train is None:
            return {}
        return {"default": [name for name, trains in zip(self._names, self._is_train, strict=True) if trains]}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Sample]:
        self.skipped.clear()
        ends = np.cumsum(self._lengths).tolist()
        for number, (name, end) in enumerate(zip(self._names, ends, strict=True)):
            start = end - int(self._lengths[number])
            with np.errstate(over="ignore"):  # becomes inf and is refused
                joints = self._joints[start:end].astype(np.float32)
            if not np.isfinite(joints).all():
                self._skip(name, joints)
                continue
            yield Sample(
                name,
                len(joints),
                self._sequences(joints, start),
                label=int(self._labels[number]),
                subject=int(self._subjects[number]),
                camera=int(self._views[number]),
                segments=[] if self._frame_labels is None else runs(self._frame_labels[start:end]),
            )

    def _sequences(self, joints: np.ndarray, start: int) -> list[Sequence]:
        """A recording's frames `[T, J, C]`, the first of them frame `start` of all, cut at its index's gaps."""
        end = start + len(joints)
        cuts = self._breaks[(self._breaks > start) & (self._breaks < end)]
        edges = itertools.pairwise([start, *cuts.tolist(), end])
        confidence = self._confidence
        return [
            Sequence(
                joints[a - start : b - start],
                first_frame=a - start,
                confidence=None if confidence is None else confidence[a:b],
            )
            for a, b in edges
        ]

    def _skip(self, name: str, joints: np.ndarray) -> None:
        frame, joint, _ = np.argwhere(~np.isfinite(joints))[0]
        reason = f"sequence {name!r} has nan or infinite coordinates, first in its frame {frame}, joint {joint}"
        if self._strict:
            raise self._file.error(reason)
        self.skipped.append((name, reason))


def runs(frame_labels: np.ndarray) -> list[tuple[int, int, int]]:
    """The runs of one label other than 0 in `frame_labels` [T]: (label, first frame, end frame exclusive)."""
    cuts = np.flatnonzero(np.diff(frame_labels)) + 1
    edges = [0, *cuts.tolist(), len(frame_labels)]
    found = ((int(frame_labels[first]), first, end) for first, end in itertools.pairwise(edges))
    return [run for run in found if run[0] != 0]


def _or_unknown(values: np.ndarray | None, samples: int) -> np.ndarray:
    return np.full(samples, UNKNOWN) if values is None else values


class _Arrays:
    """The arrays of one `.npz`, each checked when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise self.error("there is no such file")
        if not zipfile.is_zipfile(path):
            raise self.error("is not an .npz file, or is cut; write it with numpy.savez or numpy.savez_compressed")
        try:
            with np.load(path, allow_pickle=False) as file:
                self._arrays = {key: self._load(file, key) for key in file.files if key in KEYS}
                unknown = [key for key in file.files if key not in KEYS]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self.error(f"is damaged ({error})") from error
        for key in unknown:
            if close := difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8):
                raise self.error(f"the array {key!r} is not known; did you mean {close[0]!r}?")

    def _load(self, file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
        try:
            return file[key]
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise self.error(f"{key!r} holds Python objects and would need unpickling, which is refused") from None

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.path}: {problem}")

    def take(self, key: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array that must be there; None in `shape` stands for any length."""
        array = self.find(key, kinds, shape)
        if array is None:
            raise self.error(f"lacks the array {key!r}; it has {', '.join(self._arrays) or 'none that is known'}")
        return array

    def find(self, key: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray | None:
        """An array that may be missing."""
        array = self._arrays.get(key)
        if array is None:
            return None
        if array.dtype.kind not in kinds:
            raise self.error(f"{key!r} has dtype {array.dtype}, but must hold {KINDS[kinds]}")
        fits = array.ndim == len(shape) and all(n in (None, own) for n, own in zip(shape, array.shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise self.error(f"{key!r} has shape {list(array.shape)}, but must have [{wanted}]")
        return array


def _layout(file: _Arrays, joints: int, name: str | None) -> SkeletonLayout:
    """The known layout that is named or has the structure of the file's, else the file's own."""
    joint_names = file.find("joint_names", "U", (joints,))
    bones = file.find("bones", "iu", (None, 2))
    parents = file.find("parents", "iu", (joints,))
    if bones is not None and parents is not None:
        raise file.error("has both 'bones' and 'parents'; keep one of them")
    structured = bones is not None or parents is not None
    own = _own_layout(file, name or file.path.stem, joints, joint_names, bones, parents)
    if name in LAYOUTS:
        known = LAYOUTS[name]
        if joints != known.joints or (structured and own.parents != known.parents):
            raise file.error(f"its {joints} joints do not hang together as in the layout {name!r}")
        return known
    if name is not None:
        return own
    for known in LAYOUTS.values():
        if own.parents == known.parents or (not structured and _plain(own.joint_names) == _plain(known.joint_names)):
            return known
    if own.name in LAYOUTS:
        raise file.error(f"is named like the layout {own.name!r}, but its joints hang together differently; rename it")
    return own


def _own_layout(
    file: _Arrays,
    name: str,
    joints: int,
    joint_names: np.ndarray | None,
    bones: np.ndarray | None,
    parents: np.ndarray | None,
) -> SkeletonLayout:
    names = None if joint_names is None else joint_names.tolist()
    try:
        if parents is not None:
            own = SkeletonLayout.from_parents(name, parents.tolist(), names)
        else:
            pairs = [] if bones is None else [(parent, child) for parent, child in bones.tolist()]
            own = SkeletonLayout.from_bones(name, pairs, names, joints)
    except ValueError as error:
        raise file.error(str(error)) from None
    if own.joints != joints:
        raise file.error(f"'bones' names joint {own.joints - 1}, but 'joints' has {joints} joints")
    return own


def _plain(joint_names: tuple[str, ...]) -> list[str]:
    """HipCenter and hip_center are one name."""
    return ["".join(c for c in name.lower() if c.isalnum()) for name in joint_names]
