"""--precision, --tf32, and the loss scaler of float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import logged, pretrained, recognized, state_of, tiny_models, tiny_store

from training import pretrain
from training.data.records import DataError
from training.precision import precision_of, use_tf32

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models(monkeypatch)


def test_defaults_and_refusals() -> None:
    assert precision_of(None, CPU) == torch.float32 and precision_of(None, CUDA) == torch.bfloat16
    assert precision_of("bf16", CPU) == torch.bfloat16 and precision_of("fp16", CUDA) == torch.float16
    with pytest.raises(DataError, match="fp16 is for CUDA"):
        precision_of("fp16", CPU)
    with pytest.raises(DataError, match="tf32 is for CUDA"):
        use_tf32(True, CPU)


@pytest.mark.parametrize("options", [("--precision", "fp16"), ("--tf32",)])
def test_refusals_leave_no_run(store: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    for command in (pretrained, recognized):
        with pytest.raises(SystemExit) as stop:
            command(store, tmp_path / "run", *options)
        assert stop.value.code == 2 and not (tmp_path / "run").exists()


def test_bfloat16_is_near_and_its_weights_are_float32(store: Path, tmp_path: Path) -> None:
    runs = [pretrained(store, tmp_path / name, "--steps", "3", "--precision", name) for name in ("fp32", "bf16")]
    exact, rounded = (logged(run)[-1] for run in runs)
    assert exact["loss"] != rounded["loss"] and exact["loss"] == pytest.approx(rounded["loss"], rel=0.03)
    state = state_of(runs[1])
    moments = [t for each in state["optimizer"]["state"].values() for t in each.values()]
    assert {t.dtype for t in [*state["model"].values(), *moments]} == {torch.float32}


def test_recognition_in_bfloat16(store: Path, tmp_path: Path) -> None:
    run = recognized(store, tmp_path / "run", "--epochs", "1", "--precision", "bf16")
    assert state_of(run)["identity"]["precision"] == "bfloat16"


def test_float16_scales_and_resumes(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA only by the command's rule; torch's CPU autocast serves to test the loop's part in it."""
    exact = pretrained(store, tmp_path / "exact", "--steps", "4", "--checkpoint-every", "2")
    monkeypatch.setattr(pretrain, "precision_of", lambda name, device: torch.float16)
    run = pretrained(store, tmp_path / "run", "--steps", "4", "--checkpoint-every", "2")
    state = state_of(run)
    skipped = state["nonfinite"]["total"].item()
    assert state["scaler"]["scale"] == 2.0 ** (16 - skipped)  # it halves at each overflow
    assert logged(run)[-1]["loss"] == pytest.approx(logged(exact)[-1]["loss"], rel=0.05)
    (sorted((run / "checkpoints").iterdir())[-1] / "state.pt").unlink()
    pretrained(store, run, "--steps", "4", "--checkpoint-every", "2", "--resume")
    again = state_of(run)
    assert again["scaler"] == state["scaler"]
    assert all(torch.equal(again["model"][k], state["model"][k]) for k in state["model"])
