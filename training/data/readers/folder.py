"""Recordings that are files of a folder, one each: read one after the other, sorted by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..records import DataError, Sample, Source


class FolderReader(ABC):
    """Yields what `read` makes of each file; one that cannot be used is skipped, or raises DataError if `strict`."""

    source: Source

    def __init__(self, files: Mapping[str, Path], strict: bool) -> None:
        self._files = dict(sorted(files.items()))
        self._strict = strict
        self._after = ""
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._files)

    def start_after(self, name: str) -> None:
        """Later iterations begin after the sample `name`."""
        self._after = name

    def __iter__(self) -> Iterator[Sample]:
        self.skipped.clear()
        for name, file in self._files.items():
            if name <= self._after and not self._after.startswith(name):
                continue  # all of it came before; the file of `_after` itself may hold more samples
            try:
                samples = self.read(name, file)
            except DataError as error:
                self.skip(name, error)
                continue
            yield from (sample for sample in samples if sample.name > self._after)

    def skip(self, name: str, error: DataError) -> None:
        if self._strict:
            raise error
        self.skipped.append((name, str(error)))

    @abstractmethod
    def read(self, name: str, file: Path) -> list[Sample]:
        """The samples in one file."""


def files_below(folder: str | Path, pattern: str) -> list[Path]:
    """Files of a pattern at any depth, sorted by name; DataError where there are none."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = sorted((path for path in Path(folder).rglob(pattern) if path.is_file()), key=lambda path: path.name)
    if not found:
        raise DataError(f"{folder}: there is no {pattern} in it, at any depth")
    return found


def by_stem(files: list[Path]) -> dict[str, Path]:
    """Files by their names without ending; DataError where two have one name."""
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise DataError(f"{file}: has the same name as {found[file.stem]}; keep one of them")
        found[file.stem] = file
    return found


def read_text(file: Path) -> str:
    """A file's text; DataError where it cannot be read or is not text."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
