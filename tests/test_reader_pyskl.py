"""pyskl's pickles: what they hold, and that nothing in them is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from training.data.readers.pyskl import PysklReader
from training.data.records import DataError
from training.prepare import main


def annotation(name: str, bodies: int = 1, frames: int = 4, joints: int = 25, channels: int = 3, **more) -> dict:
    keypoint = np.random.default_rng(0).normal(size=(bodies, frames, joints, channels)).astype(np.float16)
    return {"frame_dir": name, "total_frames": frames, "label": 2, "keypoint": keypoint} | more


def written(path: Path, annotations: list, split: dict | None = None, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps({"split": split or {}, "annotations": annotations}, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_three_dimensional(tmp_path: Path, protocol: int) -> None:
    names = ["S001C002P003R002A013", "S002C001P004R001A001"]
    absent = annotation(names[1], bodies=2)
    absent["keypoint"][1] = 0
    split = {"xsub_train": names[:1], "xsub_val": names[1:], "xview_train": names[1:], "xview_val": names[:1]}
    reader = PysklReader(written(tmp_path / "a.pkl", [annotation(names[0]), absent], split, protocol))
    first, second = list(reader)
    assert (first.subject, first.camera, first.setup, first.label, first.frames) == (3, 2, 1, 2, 4)
    assert len(second.sequences) == 1 and second.sequences[0].joints.dtype == np.float32
    assert reader.source.splits == {"xsub": names[:1], "xview": names[1:]}
    assert reader.source.layout.name == "ntu25" and reader.source.channels == 3


def test_two_dimensional_with_confidence(tmp_path: Path) -> None:
    scores = np.full((1, 4, 17), 1.02, np.float16)
    made = annotation("v", joints=17, channels=2, keypoint_score=scores)
    reader = PysklReader(written(tmp_path / "a.pkl", [made], {"train": ["v"], "val": []}))
    (sample,) = list(reader)
    assert reader.source.layout.name == "coco17" and reader.source.channels == 2
    assert sample.sequences[0].confidence.max() == 1 and sample.subject == -1
    assert reader.source.splits == {"default": ["v"]}


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "made by the pickle"
    path = written(tmp_path / "a.pkl", [annotation("v"), Hostile(trap)])
    with pytest.raises(DataError, match=r"it wants (posix|nt)\.mkdir"):
        PysklReader(path)
    assert not trap.exists()
    objects = annotation("v") | {"keypoint": np.array([Hostile(trap)], object)}
    with pytest.raises(DataError, match="not plain numbers"):
        PysklReader(written(tmp_path / "b.pkl", [objects]))
    assert not trap.exists()


class Forged:
    """An array whose bytes its dtype would take for pointers, or that claims more than it holds."""

    def __init__(self, code: str, shape: tuple[int, ...]) -> None:
        self.code, self.shape = code, shape

    def __reduce__(self) -> tuple:
        return np.ndarray, (self.shape, self.code, b"A" * 8)


@pytest.mark.parametrize("forged", [Forged("O", (1,)), Forged("f4", (2**40,)), Forged("f4", (1,))])
def test_forged_arrays_are_refused(tmp_path: Path, forged: Forged) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"annotations": [annotation("v") | {"keypoint_score": forged}]}))
    with pytest.raises(DataError, match=r"a\.pkl: "):
        list(PysklReader(path, strict=True))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"keypoint": np.zeros((1, 4, 24, 3), np.float32)}, r"not floating-point \[M, T, 25, 3\]"),
        ({"keypoint": np.zeros((1, 4, 25, 3), np.int32)}, "int32"),
        ({"keypoint": np.full((1, 4, 25, 3), np.nan, np.float32)}, "nan or infinite"),
        ({"keypoint": np.zeros((1, 4, 25, 3), np.float32)}, "no body appears"),
        ({"keypoint_score": np.zeros((1, 3, 25))}, "keypoint_score"),
        ({"label": "kick"}, "'label' is 'kick'"),
        ({"label": 10**7}, "not a whole number from 0"),
        ({"keypoint": [[[1.0], [2.0, 3.0]]]}, "'keypoint' is not an array"),
        ({"total_frames": 9}, "'total_frames' is 9"),
    ],
)
def test_one_bad_annotation_is_named(tmp_path: Path, change: dict, problem: str) -> None:
    path = written(tmp_path / "a.pkl", [annotation("good"), annotation("bad") | change])
    reader = PysklReader(path)
    assert [s.name for s in reader] == ["good"] and reader.skipped[0][0] == "bad"
    with pytest.raises(DataError, match=problem):
        list(PysklReader(path, strict=True))


def test_numbered_splits(tmp_path: Path) -> None:
    split = {"train1": ["v"], "test1": [], "train2": [], "test2": ["v"], "x_test": ["v"]}
    reader = PysklReader(written(tmp_path / "a.pkl", [annotation("v")], split))
    assert reader.source.splits == {"split1": ["v"], "split2": []}


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", [annotation("v")])
    whole = path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a\.pkl: is not a pickle of arrays"):
            PysklReader(path)
    for content in ([1], {"annotations": []}, {"annotations": [3]}):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=r"a\.pkl: "):
            PysklReader(path)
    with pytest.raises(DataError, match="cannot be read"):
        PysklReader(tmp_path / "none.pkl")
    with pytest.raises(DataError, match="known is"):
        PysklReader(written(tmp_path / "b.pkl", [annotation("v", joints=18)]))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.pkl", [annotation(f"v{i}") for i in range(3)])
    main(["pyskl", str(tmp_path / "o.zarr"), "--raw", str(path)])
    assert '"samples": 3' in capsys.readouterr().out
