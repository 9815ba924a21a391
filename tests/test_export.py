"""One sequence of any length as a graph: equal to the model, as torch.export's program and as ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import tiny_config

import hitrs_fast as hf
from hitrs_fast.export import SingleSequence, export
from training import evaluate, exporting
from training.setup import save_model

LENGTHS = (1, 2, 5, 13, 14, 20, 80)


def model_of(kind: str, **sizes) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = hf.HiTRS(tiny_config(layers=2, dropout=0.3, **sizes))
    made = {
        "encoder": lambda: encoder,
        "recogniser": lambda: hf.Recognizer(encoder, ["a", "b", "c"]),
        "authors": lambda: hf.Recognizer(encoder, 3, bodies=2),
        "detector": lambda: hf.FrameClassifier(encoder, 3, dilate=2),
    }
    return made[kind]().eval()


def eager(model: torch.nn.Module, frames: torch.Tensor) -> torch.Tensor:
    if isinstance(model, hf.HiTRS):
        return model.embed([frames])[0]
    lengths = torch.tensor([len(frames)])
    prepared = model.encoder.prepare(frames, lengths)
    if isinstance(model, hf.FrameClassifier):
        return model(prepared, lengths)
    return model(prepared, lengths, torch.zeros(1, dtype=torch.long), 1)[0]


@pytest.mark.parametrize(
    "kind, stream, center",
    [
        ("encoder", "motion", ""),
        ("recogniser", "joint", "first"),
        ("authors", "joint", ""),
        ("detector", "joint", "first"),
        ("detector", "joint", "in place"),
    ],
)
def test_a_program_for_every_length(kind: str, stream: str, center: str) -> None:
    model = model_of(kind, stream=stream, center=bool(center), in_place=center == "in place").double()
    program = export(model).module()
    for length in LENGTHS:
        frames = torch.randn(length, model_joints(model), 3, dtype=torch.float64)
        with torch.no_grad():
            expected = eager(model, frames)
            for found in (SingleSequence(model)(frames), program(frames)):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def model_joints(model: torch.nn.Module) -> int:
    return SingleSequence(model).encoder.config.joints


@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_the_command_writes_and_checks_a_file(to: str, tmp_path: Path, capsys) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra export is not installed")
        pytest.importorskip("onnxscript", reason="the extra export is not installed")
    run = tmp_path / "run"
    run.mkdir()
    model = model_of("recogniser", center=True)
    save_model(run, model)
    evaluate.main(["export", str(run), "--to", to])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["difference"] < 1e-4 and Path(result["file"]) == run / f"model.{to}"
    assert sorted(p.name for p in run.iterdir() if p.suffix == ".partial") == []
    if to == "pt2":
        frames = torch.randn(33, model_joints(model), 3)
        with torch.no_grad():
            loaded = torch.export.load(result["file"]).module()(frames)
            torch.testing.assert_close(loaded, eager(model, frames), rtol=0, atol=1e-5)


def test_what_cannot_be_exported_is_said(monkeypatch, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_model(run, model_of("recogniser"))
    (tmp_path / "there.pt2").touch()
    cases = [
        ([str(tmp_path)], "no run with an encoder"),
        ([str(run), "--out", str(tmp_path / "there.pt2")], "exists already"),
        ([str(run), "--to", "onnx"], r"hitrs-fast[export]"),
    ]
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    for arguments, message in cases:
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["export", *arguments])
        assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_file_that_differs_is_not_left(monkeypatch, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_model(run, model_of("recogniser"))
    monkeypatch.setattr(exporting, "largest_difference", lambda *_: 1.0)
    with pytest.raises(SystemExit):
        evaluate.main(["export", str(run)])
    assert "differ by 1.0e+00" in capsys.readouterr().err
    assert not list(run.glob("model.pt2*"))


def test_nan_is_no_agreement(monkeypatch, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_model(run, model_of("recogniser"))
    monkeypatch.setattr(exporting, "_write_pt2", lambda *_: lambda frames: torch.full((3,), torch.nan))
    with pytest.raises(SystemExit):
        evaluate.main(["export", str(run)])
    assert "differ by nan" in capsys.readouterr().err
    assert not list(run.glob("model.pt2*"))
