"""Pictures: what is drawn of which sample, the kinds of file, and the errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hitrs_fast.skeleton import SkeletonLayout
from training import prepare
from training.data.records import Sample, Sequence, Source
from training.data.show import bone_lines, read_bodies
from training.data.store import Store
from training.data.writer import write_store

LAYOUT = SkeletonLayout("four", ("root", "middle", "right_hand", "left_hand"), (-1, 0, 1, 1))


class Two:
    """Two samples: one body of 40 frames; two bodies, of which the second comes later and misses a joint once."""

    def __init__(self, channels: int) -> None:
        rng = np.random.default_rng(0)
        joints = [rng.normal(size=(frames, 4, channels)).astype(np.float32) + 9 for frames in (40, 5, 3)]
        joints[2][1, 2] = 0
        self.samples = [
            Sample("a", 40, [Sequence(joints[0])]),
            Sample("b", 6, [Sequence(joints[1]), Sequence(joints[2], 7, first_frame=3)]),
        ]
        self.source = Source(layout=LAYOUT, channels=channels, reader="test", splits={"d": ["a"]})
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return 2

    def __iter__(self):
        return iter(self.samples)


def made(folder: Path, channels: int = 3) -> Store:
    write_store(folder / "s.zarr", Two(channels))
    return Store.open(folder / "s.zarr")


def test_bodies_lie_where_they_were_seen(tmp_path: Path) -> None:
    bodies = read_bodies(made(tmp_path), 1)
    first, second = (sequence.joints for sequence in Two(3).samples[1].sequences)
    assert bodies.shape == (2, 6, 4, 3)
    np.testing.assert_array_equal(bodies[0, :5], first)
    np.testing.assert_array_equal(bodies[1, [3, 5]], second[[0, 2]])
    assert np.isnan(bodies[0, 5]).all() and np.isnan(bodies[1, :3]).all()
    assert np.isnan(bodies[1, 4]).all(-1).tolist() == [False, False, True, False]


def test_bones_by_side_and_without_missing_joints() -> None:
    pose = np.arange(12, dtype=np.float32).reshape(4, 3)
    lines = bone_lines(pose, LAYOUT, (2, 1))
    np.testing.assert_array_equal(lines["right"], [[8, 5, np.nan], [7, 4, np.nan]])
    np.testing.assert_array_equal(lines["other"][0], [5, 2, np.nan, 11, 5, np.nan])
    pose[3] = np.nan
    np.testing.assert_array_equal(bone_lines(pose, LAYOUT, (2, 1))["other"][0], [5, 2] + [np.nan] * 4)


@pytest.mark.parametrize("channels", [2, 3])
def test_a_strip_and_an_animation(tmp_path: Path, channels: int) -> None:
    store = made(tmp_path, channels)
    for name in ("x.png", "x.gif"):
        prepare.main(["show", store.path, "--index", "1", "--out", str(tmp_path / name)])
        with Image.open(tmp_path / name) as picture:
            assert getattr(picture, "n_frames", 1) == (6 if name == "x.gif" else 1)
            colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
            assert len(colours) > 2  # something is drawn
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.zarr", "x.gif", "x.png"]


@pytest.mark.parametrize(
    ("index", "name", "message"),
    [
        (2, "x.png", "there is no sample 2; its 2 samples are 0 to 1"),
        (-1, "x.png", "there is no sample -1"),
        (0, "x.jpg", "must end in .png"),
        (0, "none/x.png", "there is no folder"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, capsys, index: int, name: str, message: str) -> None:
    with pytest.raises(SystemExit) as end:
        prepare.main(["show", made(tmp_path).path, f"--index={index}", "--out", str(tmp_path / name)])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_without_matplotlib(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        prepare.main(["show", made(tmp_path).path, "--out", str(tmp_path / "x.png")])
    assert end.value.code == 2 and "pip install 'hitrs-fast[viz]'" in capsys.readouterr().err
