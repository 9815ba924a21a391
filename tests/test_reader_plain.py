"""Recordings in .npy and .csv files with a layout by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.readers.plain import PlainReader
from training.data.records import DataError
from training.prepare import main


def recording(frames: int, joints: int, numbers: int) -> np.ndarray:
    return np.random.default_rng(frames).uniform(0, 1, (frames, joints, numbers)).astype(np.float32)


def as_csv(path: Path, values: np.ndarray, heading: bool) -> None:
    names = [f"j{j}_{c}" for j in range(values.shape[1]) for c in "xyzs"[: values.shape[2]]]
    lines = [",".join(names)] * heading + [",".join(repr(float(v)) for v in row.ravel()) for row in values]
    path.write_text("\n".join(lines) + "\n\n")


@pytest.mark.parametrize(
    ("layout", "joints", "channels"), [("coco17", 17, 2), ("h36m17", 17, 3), ("mediapipe33", 33, 3)]
)
def test_a_folder_of_both(tmp_path: Path, layout: str, joints: int, channels: int) -> None:
    first, second = recording(5, joints, channels), recording(3, joints, channels)
    np.save(tmp_path / "a.npy", first.astype(np.float64))
    as_csv(tmp_path / "b.csv", second, heading=True)
    reader = PlainReader(tmp_path, layout, fps=50.0)
    a, b = list(reader)
    assert (a.name, b.name, a.frames, b.frames, reader.source.channels) == ("a", "b", 5, 3, channels)
    assert reader.source.fps == 50 and np.isnan(PlainReader(tmp_path, layout).source.fps)
    np.testing.assert_array_equal(a.sequences[0].joints, first)
    np.testing.assert_array_equal(b.sequences[0].joints, second)


def test_confidence_and_no_heading(tmp_path: Path) -> None:
    values = recording(4, 17, 3)
    as_csv(tmp_path / "a.csv", values, heading=False)
    (sample,) = list(PlainReader(tmp_path / "a.csv", "coco17", confidence=True))
    np.testing.assert_array_equal(sample.sequences[0].joints, values[..., :2])
    np.testing.assert_array_equal(sample.sequences[0].confidence, values[..., 2])
    np.save(tmp_path / "b.npy", values + 1)
    with pytest.raises(DataError, match="confidences from 1"):
        list(PlainReader(tmp_path / "b.npy", "coco17", confidence=True, strict=True))


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"layout 'coco' is not known; known are ntu25"):
        PlainReader(tmp_path, "coco")
    (tmp_path / "a.csv").write_text("1,2,3\n4,5\n")
    with pytest.raises(DataError, match="frame 1 is not 3 numbers"):
        PlainReader(tmp_path / "a.csv", "coco17")
    (tmp_path / "a.csv").write_text("x,y\n")
    with pytest.raises(DataError, match="no line of numbers"):
        PlainReader(tmp_path / "a.csv", "coco17")
    np.save(tmp_path / "b.npy", recording(4, 18, 2))
    with pytest.raises(DataError, match=r"shape \[4, 18, 2\]; the layout 'coco17' takes frames of 17 joints"):
        PlainReader(tmp_path / "b.npy", "coco17")
    np.save(tmp_path / "c.npy", np.array(["text"]))
    with pytest.raises(DataError, match="must hold numbers"):
        PlainReader(tmp_path / "c.npy", "coco17")
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as numbers"):
        PlainReader(tmp_path / "d.npy", "coco17")
    with pytest.raises(DataError, match=r"is not a \.npz, \.npy or \.csv"):
        (tmp_path / "e.txt").write_text("1")
        PlainReader(tmp_path / "e.txt", "coco17")


def test_files_must_agree(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", recording(4, 17, 2))
    np.save(tmp_path / "b.npy", recording(4, 17, 3))
    reader = PlainReader(tmp_path, "coco17")
    assert [s.name for s in reader] == ["a"]
    assert "has 3 numbers a joint, but the first file 2" in reader.skipped[0][1]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", recording(9, 17, 3))
    main(["arrays", str(tmp_path / "o.zarr"), "--raw", str(tmp_path / "a.npy"), "--layout", "coco17", "--confidence"])
    assert '"samples": 1' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["arrays", str(tmp_path / "p.zarr"), "--raw", str(tmp_path / "a.npy")])
    assert "need --layout" in capsys.readouterr().err
