"""Which joints and windows of training.predict count, which sequences train, and the animation."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hitrs_fast as hf
from hitrs_fast.clips import Windows as Clips
from training import predict, pretrain
from training.data.loader import Loader
from training.data.records import DataError
from training.data.store import Store
from training.motion_pictures import without_missing
from training.prediction import PredictionRecipe, PredictionTask, predict_all, prediction_recipe
from training.prepare import main as prepare

NTU = hf.LAYOUTS["ntu25"]


def task_of(observed: int, steps: int, **changes) -> PredictionTask:
    recipe = PredictionRecipe(**(vars(prediction_recipe("small")) | changes))
    encoder = hf.HiTRS(hf.HiTRSConfig.small(NTU, widths=(8, 16, 32), ffn=(8, 8, 16), heads=2, head_dim=4))
    return PredictionTask(encoder, observed, steps, recipe, torch.device("cpu"), torch.float32)


def loader_of(frames: np.ndarray, length: int) -> Loader:
    """Side by side windows of sequences `[N, T, J, C]`."""
    offsets = np.arange(len(frames) + 1) * frames.shape[1]
    flat = torch.from_numpy(frames.reshape(-1, *frames.shape[2:]).astype("float32"))
    return Loader(flat, offsets, np.arange(len(frames)), Clips(7, 7, 2), 2, None, 0, (1.0,), longest=length)


def walks(samples: int = 3, length: int = 18) -> np.ndarray:
    rng = np.random.default_rng(4)
    return 2 + rng.normal(size=(samples, 1, 25, 3)) + 0.1 * rng.normal(size=(samples, length, 25, 3)).cumsum(1)


def test_joints_count_where_they_are_there_and_were_in_the_last_two_frames() -> None:
    frames = walks(1)
    frames[0, 13, 3] = frames[0, 14, 4] = frames[0, 16, 5] = frames[0, 2, 6] = 0  # observed are 0 .. 14
    counted = predict_all(task_of(15, 3), loader_of(frames, 18)).counted
    expected = np.ones((1, 3, 25), bool)
    expected[0, :, 3:5] = expected[0, 1, 5] = False
    np.testing.assert_array_equal(counted, expected)


def test_a_pose_about_a_hip_that_is_missing_does_not_count() -> None:
    frames = walks(1)
    frames[0, 16, NTU.hip] = 0
    absolute, relative = (
        predict_all(task_of(15, 3, relative=kind), loader_of(frames, 18)).counted[0] for kind in (False, True)
    )
    assert absolute[1].sum() == 24 and not relative[1].any() and relative[[0, 2]].all()


def test_windows_without_any_joint_are_left_out(caplog) -> None:
    frames = walks(3)
    frames[1, 14] = 0
    with caplog.at_level("INFO"):
        found = predict_all(task_of(15, 3), loader_of(frames, 18))
    assert found.sequence.tolist() == [0, 2] and found.first.tolist() == [0, 36]
    assert "1 of 3 test windows" in caplog.text


def test_windows_hold_the_store_s_poses_in_order() -> None:
    frames = walks(2, length=41)  # three windows of 18, the last one flush with the end
    found = predict_all(task_of(15, 3), loader_of(frames, 18))
    begin = found.first - 41 * found.sequence
    assert begin.tolist() == [0, 18, 23, 0, 18, 23]
    for row, (sequence, first) in enumerate(zip(found.sequence, begin, strict=True)):
        whole = frames[sequence, first : first + 18]
        whole = whole - whole[14, NTU.hip]
        np.testing.assert_allclose(np.concatenate([found.observed[row], found.truth[row]]), whole, atol=1e-5)


@pytest.mark.parametrize(("fps", "frames"), [(30, (60, 12)), (29.97, (60, 12)), (25, (50, 10)), (15, (30, 6))])
def test_lengths_in_frames(fps: float, frames: tuple[int, int]) -> None:
    assert (predict.whole_frames("observed", 2.0, fps), predict.whole_frames("predicted", 0.4, fps)) == frames


@pytest.mark.parametrize("fps", [7, 8, 1, 0.2])
def test_a_rate_that_does_not_fit(fps: float) -> None:
    with pytest.raises(DataError, match="give --predicted FRAMES"):
        predict.whole_frames("predicted", 0.4, fps)


def store_of(folder: Path, layout: hf.SkeletonLayout, lengths: list[int], joints: np.ndarray | None = None) -> Path:
    """At 10 frames a second; the last two sequences test."""
    if joints is None:
        rng = np.random.default_rng(0)
        joints = 1 + rng.normal(size=(1, layout.joints, 3)) + 0.02 * rng.normal(size=(sum(lengths), 1, 3)).cumsum(0)
    folder.mkdir(exist_ok=True)
    np.savez(
        folder / "a.npz", joints=joints.astype("float32"), lengths=np.array(lengths), fps=10.0,
        subjects=np.array([0] * (len(lengths) - 2) + [1] * 2), joint_names=np.array(layout.joint_names),
        parents=np.array(layout.parents),
    )  # fmt: skip
    prepare(["arrays", str(folder / "a.zarr"), "--raw", str(folder / "a.npz"), "--split", "s=subjects:0"])
    return folder / "a.zarr"


def test_a_fraction_is_of_the_sequences_that_are_long_enough(tmp_path: Path) -> None:
    store = Store.open(store_of(tmp_path, NTU, [26, 12, 26, 12, 26, 12, 26, 12, 26, 26]))
    for fraction, count in ((0.1, 1), (0.5, 2), (1.0, 4)):
        for seed in range(3):
            parts = predict.long_parts(store, predict.Options(fraction=fraction, label_seed=seed), 24)
            assert parts.train.sum() == count and (store.lengths[parts.train] == 26).all() and parts.test.sum() == 2


def test_mapped_joints_are_drawn_in_the_encoder_s_layout(tmp_path: Path) -> None:
    common = ["--device", "cpu", "--batch-size", "4"]
    first = store_of(tmp_path / "first", hf.LAYOUTS["kinect20"], [40] * 6)
    store = store_of(tmp_path / "other", NTU, [26] * 6)
    pretrain.main([*common, "--data", str(first), "--run", str(tmp_path / "pre"), "--steps", "1"])
    options = ["--init", str(tmp_path / "pre"), "--map-joints", "--epochs", "1"]
    predict.main([*common, "--data", str(store), "--run", str(tmp_path / "run"), *options])
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["windows"] == 4 and np.isfinite(figures["mpjpe_mm"])
    assert len(list(csv.DictReader((tmp_path / "run" / "windows.csv").open()))) == 4
    with Image.open(tmp_path / "run" / "motions.gif") as animation:
        assert animation.n_frames == 14  # a second that was seen and the 4 frames that follow
    assert hf.TrajectoryPredictor.from_pretrained(tmp_path / "run").encoder.config.layout.joints == 20


def test_a_frame_without_any_joint_to_compare_is_said(tmp_path: Path, capsys) -> None:
    lengths = [26] * 6
    joints = 1 + np.random.default_rng(0).normal(size=(sum(lengths), 25, 3))
    joints[[4 * 26 + 22, 4 * 26 + 24, 5 * 26 + 22, 5 * 26 + 24]] = 0  # the windows are frames 0 .. 23 and 2 .. 25
    store = store_of(tmp_path, NTU, lengths, joints)
    with pytest.raises(SystemExit) as stop:
        predict.main(["--data", str(store), "--run", str(tmp_path / "run"), "--device", "cpu", "--epochs", "1"])
    assert stop.value.code == 2 and "no joint in any test window" in capsys.readouterr().err


def test_pictures_leave_out_missing_joints_alone() -> None:
    frames = walks(1)
    frames[0, 14, 5] = frames[0, 14, NTU.hip]  # a joint where the hip is, so at the origin of the last observed pose
    frames[0, 2, 6] = 0
    frames[0, 16, 7] = 0
    shown = without_missing(predict_all(task_of(15, 3), loader_of(frames, 18)))
    assert np.argwhere(np.isnan(shown.observed[0]).all(-1)).tolist() == [[2, 6]]
    for poses in (shown.truth, shown.predicted):
        assert np.argwhere(np.isnan(poses[0]).all(-1)).tolist() == [[1, 7]]
