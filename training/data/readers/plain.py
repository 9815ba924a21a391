"""A user's own recordings as `.npy` or `.csv` files, one recording of one body each.

`.npy`: `[T, J, C]` numbers. `.csv`: a line a frame, the joints' numbers one after another (x, y, z of the first joint,
and so on), with or without a line of headings. With confidence, each joint's last number is one, from 0 to 1.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from hitrs_fast.skeleton import LAYOUTS, SkeletonLayout

from ..records import DataError, Sample, Sequence, Source
from .folder import FolderReader, by_stem, files_below, read_text

SUFFIXES = (".npy", ".csv")


class PlainReader(FolderReader):
    """Reads one file, or the `.npy` and `.csv` files below a folder; skipping as in `FolderReader`.

    layout: a known layout's name. confidence: whether each joint's last number is its confidence. fps: frames a second,
    if they are known. All recordings have as many coordinates as the first.
    """

    def __init__(
        self,
        path: str | Path,
        layout: str,
        confidence: bool = False,
        strict: bool = False,
        fps: float | None = None,
    ) -> None:
        if layout not in LAYOUTS:
            raise DataError(f"layout {layout!r} is not known; known are {', '.join(LAYOUTS)}")
        super().__init__(strict)
        self.take(by_stem(_files(Path(path))))
        self._layout: SkeletonLayout = LAYOUTS[layout]
        self._confidence = confidence
        first = next(iter(self._files.values()))
        self.source = Source(
            layout=self._layout,
            channels=self._numbers(first).shape[-1] - confidence,
            fps=float("nan") if fps is None else fps,
            reader="plain",
            options={"layout": layout, "confidence": confidence, "strict": strict, "fps": fps},
            path=str(path),
        )

    def _numbers(self, file: Path) -> np.ndarray:
        """`[T, J, C]` float32, confidence included."""
        numbers = _npy(file) if file.suffix == ".npy" else _csv(file)
        if numbers.ndim == 2 and numbers.shape[1] % self._layout.joints == 0:
            numbers = numbers.reshape(len(numbers), self._layout.joints, -1)
        if numbers.ndim != 3 or numbers.shape[1] != self._layout.joints or not len(numbers):
            raise DataError(f"{file}: has shape {list(numbers.shape)}; {self._wanted()}")
        if not 2 <= numbers.shape[2] - self._confidence <= 3:
            raise DataError(f"{file}: has {numbers.shape[2]} numbers a joint; {self._wanted()}")
        if not np.isfinite(numbers).all():
            raise DataError(
                f"{file}: has nan or infinite numbers, first in frame {np.argwhere(~np.isfinite(numbers))[0, 0]}"
            )
        return numbers

    def _wanted(self) -> str:
        more = " and a confidence" if self._confidence else ""
        joints = f"{self._layout.joints} joints with 2 or 3 coordinates"
        return f"the layout {self._layout.name!r} takes frames of {joints}{more}"

    def read(self, name: str, file: Path) -> list[Sample]:
        numbers = self._numbers(file)
        channels = self.source.channels
        if numbers.shape[2] != channels + self._confidence:
            raise DataError(
                f"{file}: has {numbers.shape[2]} numbers a joint, but the first file {channels + self._confidence}"
            )
        confidence = None
        if self._confidence:
            confidence = np.ascontiguousarray(numbers[..., -1])
            if confidence.min() < 0 or confidence.max() > 1:
                raise DataError(
                    f"{file}: has confidences from {confidence.min():g} to {confidence.max():g}, not 0 to 1"
                )
        joints = np.ascontiguousarray(numbers[..., :channels])
        return [Sample(name, len(joints), [Sequence(joints, confidence=confidence)])]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path}: is not a .npz, .npy or .csv file, nor a folder of them")
        return [path]
    return files_below(path, *SUFFIXES)


def _npy(file: Path) -> np.ndarray:
    try:
        numbers = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cannot be read as numbers ({error})") from error
    if numbers.dtype.kind not in "fiu":
        raise DataError(f"{file}: has dtype {numbers.dtype}, but must hold numbers")
    return numbers.astype(np.float32)


def _csv(file: Path) -> np.ndarray:
    rows = [row for row in csv.reader(read_text(file).splitlines()) if any(cell.strip() for cell in row)]
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]  # headings
    if not rows:
        raise DataError(f"{file}: has no line of numbers")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise DataError(f"{file}: frame {number} is not {len(rows[0])} numbers, as the first is")
    return np.array(rows, np.float32)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
