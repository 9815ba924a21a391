"""Convert data sets into stores, and check, describe and draw stores: `python -m training.prepare --help`."""

from __future__ import annotations

import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .data.records import DataError, Reader, Sample, Source
from .runtime import run_subcommand

LISTED = 20  # skipped files that are named
LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal


@dataclass(kw_only=True)
class Convert(ABC):
    """What all conversions share."""

    out: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT")]]
    """The store to write; it appears complete or not at all."""
    overwrite: bool = False
    """Replace the store OUT once the new one is complete."""
    split: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A split as NAME=KEY:VALUES (training values), e.g. cross-view=views:1,2. May be given again; the first is the
    default."""

    label_seed: int = 0
    """Of the lists of 1, 5 and 10 % of the training samples that keep their labels in semi-supervised training."""
    compact: bool = False
    """Round coordinates to steps of 0.2 mm: about a third of the size, at most 0.1 mm off, and none beyond 6.55 m."""

    @abstractmethod
    def reader(self) -> Reader:
        """What yields the samples."""

    def run(self) -> None:
        from .data.writer import write_store

        reader = self.reader()
        summary = write_store(
            self.out,
            reader,
            self.overwrite,
            self.split,
            show_progress,
            compact=self.compact,
            label_seed=self.label_seed,
        )
        report_skipped(summary.skipped)
        for line in differences(reader.source, vars(summary), {name for name, _ in summary.skipped}):
            print(f"warning: {line}", file=sys.stderr)
        print(json.dumps(vars(summary) | {"skipped": len(summary.skipped)}))


@dataclass(kw_only=True)
class ConvertRaw(Convert):
    """What the conversions of files share."""

    raw: Path
    """The raw data."""
    strict: bool = False
    """Stop at the first file that cannot be used, instead of skipping it."""


@dataclass(kw_only=True)
class Demo(Convert):
    """Make a small store of synthetic motions."""

    count: int = 600
    """Samples to make."""
    seed: int = 0
    """Of the random numbers; the same seed makes the same store."""

    def reader(self) -> Reader:
        from .data.synthetic import DemoReader

        return DemoReader(count=self.count, seed=self.seed)


@dataclass(kw_only=True)
class Arrays(ConvertRaw):
    """Convert arrays in an .npz file (RAW), or .npy and .csv files, one recording each (RAW: a file or a folder)."""

    layout: str | None = None
    """The joints' layout by name: ntu25, kinect20, coco17, h36m17, mediapipe33, openpose18, openpose25, smpl24, cmu38.
    An .npz may describe its own."""
    confidence: bool = False
    """The last number of each joint in .npy and .csv files is its confidence, 0 to 1."""
    fps: float | None = None
    """Frames a second, which .npy and .csv files do not say and an .npz may leave out."""

    def reader(self) -> Reader:
        from .data.readers.arrays import ArraysReader
        from .data.readers.plain import PlainReader

        if self.fps is not None and not 0 < self.fps < math.inf:
            raise DataError(f"--fps is {self.fps:g}; give frames a second, above 0")
        if self.raw.suffix == ".npz":
            if self.confidence:
                raise DataError(f"{self.raw}: --confidence is for .npy and .csv files")
            return ArraysReader(self.raw, self.layout, self.strict, self.fps)
        if self.layout is None:
            raise DataError(f"{self.raw}: .npy and .csv files need --layout, such as ntu25 or coco17")
        return PlainReader(self.raw, self.layout, self.confidence, self.strict, self.fps)


@dataclass(kw_only=True)
class Ntu60(ConvertRaw):
    """Convert the .skeleton files of NTU RGB+D (60 actions) below the folder RAW."""

    bodies: Literal["tracked", "first-two"] = "tracked"
    """One sequence per tracked body id, or the first two bodies listed in each frame."""
    denoise: bool = False
    """Drop tracked bodies that are likely no persons: seen in fewer than 12 frames, too wide, or a third at a time."""
    workers: int | None = None
    """Processes that read files; the default is one for each core, up to 8."""

    def reader(self) -> Reader:
        return self._reader(60)

    def _reader(self, actions: int) -> Reader:
        from .data.readers.ntu import NtuReader

        return NtuReader(self.raw, self.bodies, actions, self.strict, self.workers, self.denoise)


@dataclass(kw_only=True)
class Ntu120(Ntu60):
    """Convert the .skeleton files of NTU RGB+D 120 below the folder RAW."""

    def reader(self) -> Reader:
        return self._reader(120)


@dataclass(kw_only=True)
class NwUcla(ConvertRaw):
    """Convert Northwestern-UCLA: the folder all_sqe of JSON files (RAW)."""

    def reader(self) -> Reader:
        from .data.readers.nw_ucla import NwUclaReader

        return NwUclaReader(self.raw, self.strict)


@dataclass(kw_only=True)
class Pku1(ConvertRaw):
    """Convert PKU-MMD I: a folder with its skeletons, labels and split files below it (RAW)."""

    trim: bool = False
    """One sample of each labelled segment, instead of whole recordings with segments."""

    def reader(self) -> Reader:
        return self._reader(1)

    def _reader(self, part: int) -> Reader:
        from .data.readers.pku import PkuReader

        return PkuReader(self.raw, part, self.trim, self.strict)


@dataclass(kw_only=True)
class Pku2(Pku1):
    """Convert PKU-MMD II: a folder with its skeletons, labels and split files below it (RAW)."""

    def reader(self) -> Reader:
        return self._reader(2)


@dataclass(kw_only=True)
class Pyskl(ConvertRaw):
    """Convert a pickle of pyskl or mmaction2 (RAW), without running anything that is in it."""

    def reader(self) -> Reader:
        from .data.readers.pyskl import PysklReader

        return PysklReader(self.raw, self.strict)


@dataclass(kw_only=True)
class Check:
    """Read every byte of a store; exit code 0 only if every checksum, count and index is right."""

    store: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="STORE")]]
    """The store to check, a folder or a URL such as s3://bucket/name.zarr."""

    def run(self) -> None:
        from .data.check import check_store
        from .data.store import Store

        problems = check_store(self.store)
        if len(problems) == 1:
            raise DataError(problems[0])
        for problem in problems:
            print(problem, file=sys.stderr)
        if problems:
            raise DataError(f"{self.store}: {len(problems)} problems; convert the data again with --overwrite")
        print(json.dumps({"store": self.store, **Store.open(self.store).counts, "problems": 0}))


@dataclass(kw_only=True)
class Stats:
    """Print what a store holds: counts, lengths, missing joints, classes, lists of labelled samples."""

    store: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="STORE")]]
    """The store, a folder or a URL such as s3://bucket/name.zarr."""

    def run(self) -> None:
        from .data.stats import describe
        from .data.store import Store

        print(describe(Store.open(self.store)))


@dataclass(kw_only=True)
class Show:
    """Draw a sample with all its bodies, from the front and the side."""

    store: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="STORE")]]
    """The store, a folder or a URL such as s3://bucket/name.zarr."""
    out: Path
    """The picture: a strip of frames if it ends in .png, an animation of at most 300 frames if in .gif."""
    index: int = 0
    """Which sample, from 0."""

    def run(self) -> None:
        from .data.show import draw
        from .data.store import Store

        store = Store.open(self.store)
        frames = draw(store, self.index, self.out)
        print(json.dumps({"picture": str(self.out), "sample": store.names[self.index], "frames": frames}))


def show_progress(samples: Iterable[Sample], reader: Reader, done: int) -> Iterable[Sample]:
    """A bar with samples a second and the time left on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        return _progress_lines(samples, len(reader), done)
    from tqdm import tqdm

    return tqdm(samples, initial=done, total=len(reader), unit="sample")


def _progress_lines(samples: Iterable[Sample], total: int, done: int) -> Iterator[Sample]:
    begin = last = time.monotonic()
    for number, sample in enumerate(samples):
        if time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            rate = number / (last - begin)
            left = (total - done - number) / rate
            print(f"{done + number} of {total} samples, {rate:.0f}/s, {left / 60:.0f} min left", file=sys.stderr)
        yield sample


def differences(source: Source, counts: Mapping[str, object], skipped: Collection[str]) -> list[str]:
    """Where a store's counts are not those that are published for its data set, in words."""
    for name, training in source.splits.items():
        counts = {**counts, name: len(set(training) - set(skipped))}
    return [
        f"{source.path}: {counts[what]} {what if what not in source.splits else f'training samples of {what}'}, "
        f"but {number} are published"
        for what, number in source.published.items()
        if what in counts and counts[what] != number
    ]


def report_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    for name, reason in skipped[:LISTED]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if len(skipped) > LISTED:
        print(f"skipped {len(skipped) - LISTED} more", file=sys.stderr)


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Arrays, tyro.conf.subcommand("arrays")]
    | Annotated[Ntu60, tyro.conf.subcommand("ntu60")]
    | Annotated[Ntu120, tyro.conf.subcommand("ntu120")]
    | Annotated[NwUcla, tyro.conf.subcommand("nw-ucla")]
    | Annotated[Pku1, tyro.conf.subcommand("pku1")]
    | Annotated[Pku2, tyro.conf.subcommand("pku2")]
    | Annotated[Pyskl, tyro.conf.subcommand("pyskl")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Stats, tyro.conf.subcommand("stats")]
    | Annotated[Show, tyro.conf.subcommand("show")]
)


def main(args: Sequence[str] | None = None) -> None:
    """`args` instead of the command line's, for tests."""
    run_subcommand(Command, "python -m training.prepare", __doc__, args)


if __name__ == "__main__":
    main()
