"""Recordings that are files of a folder, one each: read one after the other, sorted by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..records import DataError, Sample, Source


class FolderReader:
    """Yields the samples of each file; one that cannot be used is skipped, or raises DataError if `strict`.

    A subclass says what is in a file by `read`, or of all files by `results`. What it skips before any file is read
    stays in `skipped`.
    """

    source: Source

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._after = ""
        self._files: dict[str, Path] = {}
        self.skipped: list[tuple[str, str]] = []

    def take(self, files: Mapping[str, Path]) -> None:
        """The files to be read, by name."""
        self._files = dict(sorted(files.items()))
        self._skipped_unread = len(self.skipped)

    def __len__(self) -> int:
        return len(self._files)

    def start_after(self, name: str) -> None:
        """Later iterations begin after the sample `name`."""
        self._after = name

    def __iter__(self) -> Iterator[Sample]:
        del self.skipped[self._skipped_unread :]
        # The file of `_after` itself may hold more samples.
        files = {name: f for name, f in self._files.items() if name > self._after or self._after.startswith(name)}
        for name, result in zip(files, self.results(files), strict=True):
            if isinstance(result, DataError):
                self.skip(name, result)
            else:
                yield from (sample for sample in result if sample.name > self._after)

    def results(self, files: Mapping[str, Path]) -> Iterator[list[Sample] | DataError]:
        """What is in each file, or why it cannot be used, in order."""
        for name, file in files.items():
            try:
                yield self.read(name, file)
            except DataError as error:
                yield error

    def skip(self, name: str, error: DataError) -> None:
        if self._strict:
            raise error
        self.skipped.append((name, str(error)))

    def read(self, name: str, file: Path) -> list[Sample]:
        """The samples in one file; for a subclass that leaves `results` as it is."""
        raise NotImplementedError


def files_below(folder: str | Path, *suffixes: str) -> list[Path]:
    """Files with one of these endings at any depth, sorted by name; DataError where there are none."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = [path for path in Path(folder).rglob("*") if path.suffix in suffixes and path.is_file()]
    if not found:
        raise DataError(f"{folder}: there is no {' or '.join(f'*{suffix}' for suffix in suffixes)} in it, at any depth")
    return sorted(found, key=lambda path: path.name)


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
        return file.read_text(encoding="utf-8-sig")  # editors of Windows mark the beginning
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def read_json(file: Path) -> Any:
    """What a JSON file holds; DataError where it cannot be read or is no JSON."""
    try:
        return json.loads(read_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{file}: is damaged, is cut or is no JSON ({error})") from error
