"""Northwestern-UCLA and PKU-MMD: files of a folder, their names, labels and splits, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.data.readers.nw_ucla import NwUclaReader
from training.data.readers.pku import PkuReader, bodies, joints_of, segments_of, split_names
from training.data.records import DataError
from training.data.store import Store
from training.data.writer import write_store
from training.prepare import main


def ucla(folder: Path, *names: str, frames: int = 4, **content) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        skeletons = np.arange(frames * 60, dtype=float).reshape(frames, 20, 3) / 64
        file = {"file_name": name, "skeletons": skeletons.tolist(), "label": 1} | content
        (folder / f"{name}.json").write_text(json.dumps(file))


def test_ucla_takes_the_label_from_the_name(tmp_path: Path) -> None:
    ucla(tmp_path, "a01_s02_e00_v01", "a08_s10_e03_v03", "a12_s01_e00_v02")
    reader = NwUclaReader(tmp_path)
    samples = list(reader)
    assert [(s.label, s.subject, s.camera, s.frames) for s in samples] == [(0, 2, 1, 4), (6, 10, 3, 4), (9, 1, 2, 4)]
    assert reader.source.classes[6] == "donning" and reader.source.layout.name == "kinect20"
    assert reader.source.splits == {"cross-view": ["a01_s02_e00_v01", "a12_s01_e00_v02"]}
    np.testing.assert_array_equal(samples[0].sequences[0].joints[1, 0], np.array([60, 61, 62]) / 64)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("b01", {}, "not a name like"),
        ("a07_s01_e00_v01", {}, "action 7 is not one of"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2]] * 20]}, r"shape \[1, 20, 2\]"),
        ("a01_s01_e00_v01", {"skeletons": []}, "shape"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2, "x"]] * 20]}, "not frames of 20 joints"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2, float("nan")]] * 20]}, "nan or infinite"),
    ],
)
def test_ucla_names_what_is_wrong(tmp_path: Path, name: str, content: dict, problem: str) -> None:
    ucla(tmp_path, name, **content)
    reader = NwUclaReader(tmp_path)
    assert not list(reader) and len(reader.skipped) == 1
    with pytest.raises(DataError, match=problem):
        list(NwUclaReader(tmp_path, strict=True))


def test_ucla_damaged_and_missing(tmp_path: Path) -> None:
    (tmp_path / "a01_s01_e00_v01.json").write_text('{"skeletons": [[[')
    with pytest.raises(DataError, match="is damaged"):
        list(NwUclaReader(tmp_path, strict=True))
    with pytest.raises(DataError, match="there is no such folder"):
        NwUclaReader(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no \*\.json"):
        NwUclaReader(tmp_path / "empty")


def pku(
    folder: Path, name: str, frames: int = 6, labels: str = "3,2,4,1\n51,5,6,2\n", second: slice | None = None
) -> None:
    joints = np.ones((frames, 2, 25, 3)) * np.arange(1, frames + 1)[:, None, None, None]
    if second is None:
        joints[:, 1] = 0
    else:
        joints[: second.start, 1] = joints[second.stop :, 1] = 0
    for kind, text in (
        ("skeletons", "\n".join(" ".join(f"{v:.3f}" for v in row.ravel()) for row in joints)),
        ("labels", labels),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{name}.txt").write_text(text + "\n")


def test_pku_whole_recordings(tmp_path: Path) -> None:
    pku(tmp_path, "0002-L")
    pku(tmp_path, "0003-R", second=slice(2, 4))
    (tmp_path / "cross-subject.txt").write_text("Training videos:\n0002-L, 0009-M\nValidation videos:\n0003-R,\n")
    reader = PkuReader(tmp_path)
    first, second = list(reader)
    assert first.segments == [(3, 1, 4), (51, 4, 6)] and first.label == -1 and first.camera == 1
    assert len(first.sequences) == 1 and first.sequences[0].joints.shape == (6, 25, 3)
    assert [(s.body, s.first_frame, len(s.joints)) for s in second.sequences] == [(0, 0, 6), (1, 2, 2)]
    assert reader.source.classes[0] == "background" and len(reader.source.classes) == 52
    assert reader.source.splits == {"xsub": ["0002-L", "0009-M"]}


def test_pku_trimmed(tmp_path: Path) -> None:
    pku(tmp_path, "A01N02-M", second=slice(0, 3))
    (tmp_path / "cross_view_v2.txt").write_text("Training\nA01N02-M\nValidation\n\n")
    reader = PkuReader(tmp_path, part=2, trim=True)
    samples = list(reader)
    assert [(s.name, s.label, s.frames, s.camera) for s in samples] == [
        ("A01N02-M/000", 2, 3, 2),
        ("A01N02-M/001", 50, 2, 2),
    ]
    assert [len(s.sequences) for s in samples] == [2, 1]
    np.testing.assert_array_equal(samples[1].sequences[0].joints[:, 0, 0], [5, 6])
    assert reader.source.splits == {"xview": ["A01N02-M/000", "A01N02-M/001"]} and len(reader.source.classes) == 51
    reader.start_after("A01N02-M/000")
    assert [s.name for s in reader] == ["A01N02-M/001"]


def test_pku_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2 is not 150 numbers"):
        joints_of(" ".join(["0"] * 150) + "\n1 2 3\n", "x.txt")
    with pytest.raises(DataError, match="have 3 numbers, not 150"):
        joints_of("1 2 3\n1 2 3\n", "x.txt")
    with pytest.raises(DataError, match="line 1 has nan"):
        joints_of(" ".join(["nan"] * 150), "x.txt")
    for text, problem in [
        ("52,1,2,1", "labels are 1 to 51"),
        ("1,5,2,1", "frames 5 to 2, which ends before it starts"),
        ("1,5,20,1\n2,5,20,1\n1,10,40,1", "line 3 overlaps line 1, and both have the class 1"),
        ("a,b", "not label,start,end"),
    ]:
        with pytest.raises(DataError, match=problem):
            segments_of(text, "x.txt")
    with pytest.raises(DataError, match="has 1 lines"):
        split_names("Training videos:\n", "cross-subject.txt")
    assert bodies(np.zeros((3, 2, 25, 3), np.float32)) == []
    pku(tmp_path, "0002-L", labels="3,2,9,1")
    with pytest.raises(DataError, match="has 6 frames, but a segment of its labels ends in frame 9"):
        list(PkuReader(tmp_path, strict=True))
    (tmp_path / "labels" / "0002-L.txt").unlink()
    with pytest.raises(DataError, match="no label file"):
        list(PkuReader(tmp_path, strict=True))
    with pytest.raises(DataError, match="no skeletons of PKU-MMD part 2"):
        PkuReader(tmp_path, part=2)


def test_pku_one_bad_file_does_not_end_the_conversion(tmp_path: Path) -> None:
    for name in ("0002-L", "0003-L", "0004-L", "0005-L"):
        pku(tmp_path, name)
    (tmp_path / "labels" / "0003-L.txt").write_text("nonsense\n")
    (tmp_path / "skeletons" / "0004-L.txt").write_text("")
    (tmp_path / "labels" / "0005-L.txt").write_text("")
    for trim in (False, True):
        reader = PkuReader(tmp_path, trim=trim)
        assert {s.name[:6] for s in reader} == {"0002-L"}
        assert [name for name, _ in reader.skipped] == ["0003-L", "0004-L", "0005-L"]


def test_pku_an_empty_segment_is_named(tmp_path: Path) -> None:
    pku(tmp_path, "0002-L")
    file = tmp_path / "skeletons" / "0002-L.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], *[" ".join(["0"] * 150)] * 2]))
    reader = PkuReader(tmp_path, trim=True)
    assert [s.name for s in reader] == ["0002-L/000"]
    assert reader.skipped == [("0002-L/001", "0002-L/001: no body appears in frames 5 to 6")]


def test_a_split_that_names_what_is_not_there_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("0002-L", "0003-R"):
        pku(tmp_path, name)
    (tmp_path / "cross-view.txt").write_text("Training videos:\n0002-L, 0009-M, 0008-M\nValidation videos:\n0003-R\n")
    write_store(tmp_path / "p.zarr", PkuReader(tmp_path))
    assert "2 training samples of the split 'xview' are not in the store" in caplog.text and "0008-M" in caplog.text


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ucla(tmp_path / "ucla", "a01_s02_e00_v01", "a02_s02_e00_v03")
    main(["nw-ucla", str(tmp_path / "u.zarr"), "--raw", str(tmp_path / "ucla")])
    assert "2 samples, but 1484 are published" in capsys.readouterr().err
    pku(tmp_path / "pku", "0002-L")
    main(["pku1", str(tmp_path / "p.zarr"), "--raw", str(tmp_path / "pku")])
    assert "6 frames, but 5312580 are published" in capsys.readouterr().err
    store = Store.open(tmp_path / "p.zarr")
    assert store.counts["segments"] == 2
