"""The stats command: every figure of a small store counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hitrs_fast.skeleton import SkeletonLayout
from training import prepare
from training.data.records import Sample, Sequence, Source
from training.data.stats import class_counts, describe, missing_joints
from training.data.store import Store
from training.data.writer import write_store

LAYOUT = SkeletonLayout("three", ("root", "middle", "end"), (-1, 0, 1))


class Listed:
    """A reader of the given samples."""

    def __init__(self, samples: list[Sample], **source) -> None:
        self.samples, self.skipped = samples, []
        self.source = Source(layout=LAYOUT, reader="test", **source)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self):
        return iter(self.samples)


def sequence(frames: int, *missing: tuple[int, int]) -> Sequence:
    """A track of ones with joints `missing` at (frame, joint)."""
    joints = np.ones((frames, 3, 3), np.float32)
    for place in missing:
        joints[place] = 0
    return Sequence(joints)


def small(path: Path) -> Store:
    samples = [
        Sample("a", 7, [sequence(7, (0, 1), (1, 0), (1, 1), (1, 2)), sequence(4)], label=0, subject=1, camera=1),
        Sample("b", 25, [sequence(25, (24, 1))], label=2, subject=2, camera=1),
        Sample("c", 5, [sequence(5)], subject=1),
    ]
    samples[2].sequences[0].joints[0, 0, :2] = 0  # one coordinate is left: not missing
    write_store(path, Listed(samples, fps=30.0, classes=["sit", "run", "wave"], splits={"mine": ["b", "c"]}))
    return Store.open(path)


def test_counts_by_hand(tmp_path: Path) -> None:
    store = small(tmp_path / "s.zarr")
    joints, bodies = missing_joints(store)
    assert (joints.tolist(), bodies) == ([1, 3, 1], 1)
    assert class_counts(store).tolist() == [[1, 0, 1, 11], [0, 0, 0, 0], [1, 1, 0, 25], [1, 1, 0, 5]]


def test_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small(tmp_path / "s.zarr")
    prepare.main(["stats", store.path])
    text = capsys.readouterr().out
    assert text == describe(store) + "\n"
    lines = [line.split() for line in text.splitlines()]
    for row in (
        ["samples", "3"],
        ["sequences", "4"],
        ["subjects", "2"],
        ["cameras", "1", "(1", "samples", "without)"],
        ["setups", "0", "(3", "samples", "without)"],
        ["middle", "3", "7.32%"],
        ["0", "sit", "1", "0", "1", "11"],
        ["1", "run", "0", "0", "0", "0"],
        ["no", "label", "1", "1", "0", "5"],
        ["all", "3", "2", "1", "41"],
    ):
        assert row in lines, f"{row} not in\n{text}"
    assert "2 with 1, 1 with 2" in text and "split mine: 2 samples train, 1 test" in text
    assert "4 at least, 6 in the middle (median), 25 at most" in text
    bars = [line for line in text.splitlines() if line.endswith("#")]
    counts = [int(line.split()[3]) for line in bars]
    assert sum(counts) == 4 and bars[0].count("#") == max(line.count("#") for line in bars)
    assert ["mine-1-uniform", "1", "seed", "0", "sha256", store.labelled_lists["mine-1-uniform"]["sha256"]] in lines


def test_segments_count_where_samples_have_no_label(tmp_path: Path) -> None:
    samples = [
        Sample("a", 9, [sequence(9)], segments=[(1, 0, 4), (0, 4, 9)]),
        Sample("b", 6, [sequence(6)], segments=[(1, 2, 5)]),
    ]
    write_store(tmp_path / "s.zarr", Listed(samples, classes=["rest", "run"], splits={"d": ["a"]}))
    store = Store.open(tmp_path / "s.zarr")
    assert class_counts(store).tolist() == [[1, 1, 0, 5], [2, 1, 1, 7], [0, 0, 0, 0]]
    text = describe(store)
    assert "segments     train" in text and "no label" not in text and "Lists of labelled samples: none" in text


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        prepare.main(["stats", str(tmp_path / "none.zarr")])
    assert end.value.code == 2 and "none.zarr" in capsys.readouterr().err
