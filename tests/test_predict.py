"""training.predict end to end, its errors against plain arithmetic, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_config

import hitrs_fast as hf
from training import predict, pretrain
from training.metrics.motion import constant_velocity, joint_errors, last_pose, mpjpe, window_errors
from training.prepare import main as prepare


def make(
    folder: Path, fps: float = 10.0, frames: tuple[int, int] = (26, 60), samples: int = 16, layout="kinect20"
) -> Path:
    """Bodies that walk straight on, each at its own speed, swinging a little."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(*frames, samples)
    body = rng.normal(size=(1, hf.LAYOUTS[layout].joints, 3)) + 1
    parts = []
    for length in lengths:
        time = np.arange(length)[:, None, None]
        parts.append(body + 0.05 * time * rng.normal(size=(1, 1, 3)) + 0.05 * np.sin(time / 3 + rng.random()) * body)
    names = np.array(hf.LAYOUTS[layout].joint_names)
    np.savez(
        folder / "a.npz", joints=np.concatenate(parts).astype("float32"), lengths=lengths,
        subjects=np.arange(samples) % 4, joint_names=names, parents=np.array(hf.LAYOUTS[layout].parents), fps=fps,
    )  # fmt: skip
    prepare(["arrays", str(folder / "a.zarr"), "--raw", str(folder / "a.npz"), "--split", "s=subjects:0,1,2"])
    return folder / "a.zarr"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data"))


def run(store: Path, folder: Path, *options: str) -> None:
    predict.main(["--data", str(store), "--run", str(folder), "--device", "cpu", "--batch-size", "4", *options])


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(store, folder, "--epochs", "3")
    return folder


def test_figures_stand_beside_both_baselines(finished: Path) -> None:
    figures = json.loads((finished / "metrics.json").read_text())
    for name in ("mpjpe", "last_pose", "constant_velocity"):
        assert figures[f"{name}_mm"] > 0 and figures[f"{name}_400ms_mm"] > figures[f"{name}_80ms_mm"] * 0.1
    rows = list(csv.DictReader((finished / "windows.csv").open()))
    assert len(rows) == figures["windows"] and (finished / "motions.png").stat().st_size > 1000
    mean = np.mean([float(row["mpjpe_mm"]) for row in rows])
    assert mean == pytest.approx(figures["mpjpe_mm"], abs=0.02)
    record = json.loads((finished / "run.json").read_text())
    assert (record["observed"], record["predicted"], record["fps"]) == (20, 4, 10.0)
    model = hf.TrajectoryPredictor.from_pretrained(finished)
    assert model.steps == 4 and model.recent == 10


def test_the_paper_s_decoder_and_its_options(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "gru", "--epochs", "1", "--decoder", "gru", "--loss", "mse", "--relative", "--no-detach")
    model = hf.MotionPredictor.from_pretrained(tmp_path / "gru")
    assert not model.detach and model.cell.hidden_size == 1024


def test_windows_of_the_test_set_are_fixed(store: Path, finished: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "other", "--epochs", "1", "--seeds", "5")

    def named(folder: Path) -> list[tuple[str, str]]:
        return [(row["name"], row["first_frame"]) for row in csv.DictReader((folder / "windows.csv").open())]

    assert named(finished) == named(tmp_path / "other")


def test_resume_is_bit_for_bit(store: Path, tmp_path: Path, monkeypatch) -> None:
    options = ("--epochs", "3", "--checkpoint-every", "2")
    run(store, tmp_path / "whole", *options)
    monkeypatch.setattr("training.forecasting.predict_all", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(store, tmp_path / "cut", *options)
    monkeypatch.undo()
    newest = sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1]
    for file in newest.iterdir():
        file.unlink()  # as if the last checkpoint had never been
    run(store, tmp_path / "cut", *options, "--resume")
    whole, cut = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "cut"))
    assert whole["mpjpe_mm"] == cut["mpjpe_mm"]


def test_an_encoder_of_pretraining_is_the_start(store: Path, tmp_path: Path) -> None:
    common = ["--data", str(store), "--batch-size", "4", "--device", "cpu"]
    pretrain.main([*common, "--run", str(tmp_path / "pre"), "--steps", "1"])
    run(
        store, tmp_path / "tuned", "--init", str(tmp_path / "pre"), "--epochs", "1", "--lr", "1e-9", "--fraction", "0.5"
    )
    before, after = (hf.HiTRS.from_pretrained(tmp_path / name).clip_cls for name in ("pre", "tuned"))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_what_does_not_do_is_said(store: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "ntu").mkdir()
    other = make(tmp_path / "ntu", layout="ntu25", samples=4)
    common = ["--data", str(store), "--batch-size", "4", "--device", "cpu", "--steps", "1"]
    pretrain.main([*common, "--run", str(tmp_path / "pre")])
    pretrain.main([*common, "--run", str(tmp_path / "bone"), "--stream", "bone"])
    capsys.readouterr()
    cases = [
        (store, ("--observed", "60"), "no training sequence of the split s has the 64 frames"),
        (store, ("--fps", "30"), "has 10 frames a second"),
        (store, ("--fps", "nan"), "--fps is nan; it must be a number above 0"),
        (store, ("--lr", "nan"), "--lr is nan"),
        (store, ("--epochs", "inf"), "--epochs is inf"),
        (store, ("--fraction", "0"), "--fraction is 0"),
        (store, ("--observed", "1"), "--observed is 1"),
        (other, ("--init", str(tmp_path / "pre")), "layout"),
        (store, ("--init", str(tmp_path / "bone")), "reads the bone stream"),
    ]
    for data, options, message in cases:
        with pytest.raises(SystemExit) as stop:
            run(data, tmp_path / "no", *options)
        assert stop.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        run(store, tmp_path / "diverged", "--lr", "1e30", "--epochs", "3")
    assert stop.value.code == 2 and "the training diverged (try a lower --lr)" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_baselines_are_exact_on_what_they_assume() -> None:
    rng = np.random.default_rng(1)
    still = np.repeat(rng.normal(size=(2, 1, 5, 3)), 9, 1)
    assert joint_errors(last_pose(still[:, :5], 4), still[:, 5:]).max() == 0
    moving = still + np.arange(9)[:, None, None] * rng.normal(size=(2, 1, 1, 3))
    assert joint_errors(constant_velocity(moving[:, :5], 4), moving[:, 5:]).max() < 1e-9
    assert joint_errors(last_pose(moving[:, :5], 4), moving[:, 5:]).min() > 0


def test_errors_are_means_of_counted_joints_in_mm() -> None:
    truth = np.zeros((1, 12, 2, 3))
    predicted = truth.copy()
    predicted[0, :, 0, 0] = np.arange(1, 13) / 1000  # frame t is t mm off in the first joint
    counted = np.ones((1, 12, 2), bool)
    counted[0, :, 1] = False
    found = mpjpe(joint_errors(predicted, truth), counted, 30.0)
    assert found["mpjpe_mm"] == pytest.approx(6.5) and found["mpjpe_80ms_mm"] == pytest.approx(2)
    assert found["mpjpe_160ms_mm"] == pytest.approx(5) and found["mpjpe_400ms_mm"] == pytest.approx(12)
    assert window_errors(joint_errors(predicted, truth), counted) == pytest.approx([6.5])
    at = {"mpjpe_80ms_mm", "mpjpe_160ms_mm", "mpjpe_320ms_mm", "mpjpe_400ms_mm"}
    for fps, near in {10.0: at, 7.0: at - {"mpjpe_80ms_mm"}, 1.0: set()}.items():
        assert mpjpe(joint_errors(predicted, truth), counted, fps).keys() == {"mpjpe_mm"} | near, fps


def test_trajectories_start_from_the_last_pose() -> None:
    torch.manual_seed(0)
    model = hf.TrajectoryPredictor(hf.HiTRS(tiny_config()), steps=3, hidden=6, recent=4).double().eval()
    frames, lengths = torch.randn(51, 5, 3, dtype=torch.float64), torch.tensor([31, 20])
    poses = model(frames, lengths)
    video = model.encoder(frames, lengths).video
    recent = torch.stack([frames[27:31], frames[47:51]])
    torch.testing.assert_close(poses, model.decode(video, recent))
    model.change.weight.data.zero_(), model.change.bias.data.zero_()
    torch.testing.assert_close(model(frames, lengths)[1], frames[50].expand(3, -1, -1))
