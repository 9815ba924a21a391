"""python -m training.pretrain, end to end on a store of a few short sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from training import pretrain
from training.checkpoint import checkpoints, load_checkpoint
from training.optim import OptimConfig, lr_at, make_optimizer
from training.prepare import main as prepare


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lengths = np.r_[rng.integers(19, 26, 24), [5, 12]]
    walk = rng.normal(size=(lengths.sum(), 20, 3)).cumsum(0) * 0.01
    parents = hf.LAYOUTS["kinect20"].parents
    subjects = np.arange(26) % 3
    np.savez(folder / "a.npz", joints=walk.astype("float32"), lengths=lengths, subjects=subjects, parents=parents)
    args = [str(folder / "a.zarr"), "--raw", str(folder / "a.npz"), "--split", "by-subject=subjects:1,2"]
    prepare(["arrays", *args])
    return folder / "a.zarr"


def run(store: Path, folder: Path, *options: str) -> None:
    pretrain.main(["--data", str(store), "--run", str(folder), "--batch-size", "4", "--device", "cpu", *options])


def train_losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(store, folder, "--steps", "6", "--checkpoint-every", "3")
    return folder


def test_a_run_folder_holds_what_the_readme_says(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    assert names >= {"config.json", "model.safetensors", "heads.safetensors", "run.json", "log.jsonl", "metrics.json"}
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics) >= {"loss", "pose_mm", "clip_acc", "video_acc", "retrieval_acc", "sequences_per_s"}
    assert all(np.isfinite(v) for v in metrics.values() if isinstance(v, float))
    recorded = json.loads((finished / "run.json").read_text())
    assert recorded["options"]["steps"] == 6 and recorded["store"]["fingerprint"].startswith("sha256:")
    assert [p.name for p in checkpoints(finished)] == ["step-0000003", "step-0000006"]
    encoder = hf.HiTRS.from_pretrained(finished)
    assert encoder.config.layout.name == "kinect20" and encoder.config.center
    state = load_checkpoint(finished, torch.device("cpu"))
    assert torch.equal(state["model"]["encoder.clip_cls"], encoder.clip_cls)


def test_resume_goes_on_bit_for_bit(store: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    run(store, folder, "--steps", "6", "--checkpoint-every", "3")
    newest = checkpoints(folder)[-1]
    (newest / "state.pt").write_bytes(b"damaged")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "spl')  # killed while it wrote
    run(store, folder, "--steps", "6", "--checkpoint-every", "3", "--resume")
    assert train_losses(folder) == train_losses(finished)
    ours, theirs = (load_checkpoint(f, torch.device("cpu"))["model"] for f in (folder, finished))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_resume_before_the_first_checkpoint_starts_over(store: Path, finished: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    run(store, tmp_path / "new", "--steps", "2", "--checkpoint-every", "3", "--resume")
    assert "no checkpoint yet" in caplog.text
    with pytest.raises(SystemExit) as stop:
        run(store, finished, "--steps", "7", "--resume")
    assert stop.value.code == 2


def test_resume_with_another_store_names_what_differs(finished: Path, tmp_path: Path, capsys) -> None:
    prepare(["demo", str(tmp_path / "demo.zarr"), "--count", "40"])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "demo.zarr", finished, "--steps", "6", "--resume")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "layout (kinect20, now ntu25)" in message and "store (sha256:" in message


def test_resuming_a_finished_run_restores_its_weights(store: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "done"
    shutil.copytree(finished, folder)
    (folder / "model.safetensors").unlink()
    run(store, folder, "--steps", "6", "--checkpoint-every", "3", "--resume")
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    ours, theirs = (json.loads((f / "metrics.json").read_text()) for f in (folder, finished))
    assert ours | {"run": ""} == theirs | {"run": ""}


def test_too_short_sequences_are_counted(store: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    run(store, tmp_path / "run", "--steps", "1")
    assert "2 of 26 sequences are too short" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere.zarr"], "nowhere.zarr"),
        (["--split", "cross-view"], "by-subject"),
        (["--steps", "0"], "--steps is 0"),
        (["--steps", "5", "--epochs", "1"], "exclude each other"),
        (["--device", "cuda:99"], "CUDA devices"),
        (["--device", "abacus"], "abacus"),
        (["--device", "meta"], "meta"),
        (["--seed", "-1"], "--seed is -1"),
        (["--warmup", "9"], "--warmup is 9"),
        (["--validate-every", "0"], "--validate-every is 0"),
        (["--batch-size", "1"], "--batch-size is 1"),
        (["--weights.spatial", "-1"], "negative"),
        (["--lr", "-1"], "--lr"),
    ],
)
def test_bad_input_is_one_sentence(store: Path, tmp_path: Path, capsys, options: list[str], message: str) -> None:
    data = [] if "--data" in options else ["--data", str(store)]
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*data, "--run", str(tmp_path / "run"), "--steps", "1", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused(store: Path, finished: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run(store, finished, "--steps", "6")
    assert stop.value.code == 2 and "--resume" in capsys.readouterr().err


def test_streams_differ(store: Path, tmp_path: Path) -> None:
    for stream in ("bone", "motion"):
        run(store, tmp_path / stream, "--steps", "1", "--stream", stream)
        assert hf.HiTRS.from_pretrained(tmp_path / stream).config.stream == stream


def test_only_matrices_decay() -> None:
    model = hf.Pretraining(hf.HiTRS(hf.HiTRSConfig.small("kinect20")))
    decayed, others = make_optimizer(model, OptimConfig(1e-3)).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(p.ndim == 2 for p in decayed["params"]) and len(decayed["params"]) + len(others["params"]) == len(names)
    left = {names[id(p)] for p in others["params"] if p.ndim > 1}
    assert left == {"encoder.joint_position", "encoder.clip_position", "encoder.video_position"}


def test_schedule() -> None:
    config = OptimConfig(1.0, end_lr=0.1)
    rates = [lr_at(step, 110, 10, config) for step in (0, 5, 10, 60, 110)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.55, 0.1])
