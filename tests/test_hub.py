"""Saving, loading and publishing by huggingface_hub's conventions, without a network."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard, hub_mixin

import hitrs_fast as hf
from hitrs_fast.hub import HEADS
from tests.helpers import ragged, tiny_config
from training.setup import save_model, write_metrics

NAMES = ["stand", "walk|run", "sit"]
FRAMES, LENGTHS = ragged([16, 23], joints=5)
FRAMES = FRAMES.float()


def encoder() -> hf.HiTRS:
    return hf.HiTRS(tiny_config())


def outputs(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        if isinstance(model, hf.Recognizer):
            return model(FRAMES, LENGTHS, torch.tensor([0, 1]), 2)
        if isinstance(model, hf.HiTRS):
            return model(FRAMES, LENGTHS).video
        return model(FRAMES, LENGTHS)


MODELS = {
    "encoder": encoder,
    "recognizer": lambda: hf.Recognizer(encoder(), NAMES, bodies=2),
    "numbered": lambda: hf.Recognizer(encoder(), 7),
    "frames": lambda: hf.FrameClassifier(encoder(), NAMES, dilate=3, dropout=0.25),
    "motion": lambda: hf.MotionPredictor(encoder(), hidden=8, dropout=0.25),
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_saved_is_loaded(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]().eval()
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved")
    assert torch.equal(outputs(loaded), outputs(model)) and not loaded.training
    encoded = hf.HiTRS.from_pretrained(tmp_path / "saved")
    own = getattr(model, "encoder", model)
    assert encoded.config == own.config and torch.equal(outputs(encoded), outputs(own))
    if kind != "encoder":
        assert loaded.options() == model.options()
        # What it was made from goes with it: once more, and through copies.
        pickle.loads(pickle.dumps(copy.deepcopy(loaded))).save_pretrained(tmp_path / "again")
        assert type(model).from_pretrained(tmp_path / "again").options() == model.options()


def test_options_can_be_changed_at_loading(tmp_path: Path) -> None:
    MODELS["recognizer"]().save_pretrained(tmp_path)
    loaded = hf.Recognizer.from_pretrained(tmp_path, bodies=None)
    assert loaded.bodies is None and loaded.class_names == NAMES and loaded.encoder.config == tiny_config()


def test_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    MODELS["recognizer"]().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="those of a Recognizer, and this is FrameClassifier"):
        hf.FrameClassifier.from_pretrained(tmp_path)
    encoder().save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"has no heads\.safetensors; an encoder alone"):
        hf.Recognizer.from_pretrained(tmp_path / "encoder")
    save_model(tmp_path / "pretext", hf.Pretraining(encoder()))
    with pytest.raises(ValueError, match="not of a model that can be rebuilt"):
        hf.Recognizer.from_pretrained(tmp_path / "pretext")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    MODELS["motion"]().save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="start"):
        hf.MotionPredictor.from_pretrained(tmp_path, hidden=9)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"layers": 4}))
    with pytest.raises(RuntimeError, match=r"frame_layers\.3"):
        hf.HiTRS.from_pretrained(tmp_path)


def test_the_card_tells_layout_data_licence_and_metrics(tmp_path: Path) -> None:
    model = MODELS["recognizer"]()
    save_model(tmp_path, model)
    assert "None recorded." in (tmp_path / "README.md").read_text()
    store = {"path": "/home/me/secret/ntu.zarr", "fingerprint": "x", "counts": {"samples": 9, "frames": 99}}
    (tmp_path / "run.json").write_text(json.dumps({"store": store, "parts": {"split": "cross-view"}}))
    write_metrics(tmp_path, {"top1": 0.8125, "loss": 1e-5, "run": str(tmp_path), "seconds": 3}, model)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "hitrs_fast" and card.data.license == "unknown" and "hi-trs" in card.data.tags
    for text in (
        "| layout | chain5: 5 joints, 3 coordinates |",
        "| classes | 3: stand, walk/run, sit |",
        "| data | ntu.zarr (9 samples, 99 frames, split cross-view) |",
        "| licence | unknown |",
        "| top1 | 0.8125 |",
        "hf.Recognizer.from_pretrained(",
    ):
        assert text in card.text, text
    assert "secret" not in card.content and str(tmp_path) not in card.content
    stated = model.generate_model_card(license="cc-by-4.0", data="my recordings")
    assert stated.data.license == "cc-by-4.0" and "| data | my recordings |" in stated.text


def test_push_to_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict = {}

    class Hub:
        def __init__(self, token=None) -> None: ...

        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **_):
            shutil.copytree(folder_path, tmp_path / "pushed")
            pushed["repo"] = repo_id
            return "url"

    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    model = MODELS["recognizer"]().eval()
    (tmp_path / "metrics.json").write_text(json.dumps({"top1": 0.5}))
    said = {"run": tmp_path, "license": "apache-2.0"}
    assert model.push_to_hub("me/gestures", model_card_kwargs=said) == "url" and pushed["repo"] == "me/gestures"
    files = {p.name for p in (tmp_path / "pushed").iterdir()}
    assert files == {"config.json", "model.safetensors", HEADS, "README.md"}
    card = ModelCard.load(tmp_path / "pushed" / "README.md")
    assert card.data.license == "apache-2.0" and "| top1 | 0.5 |" in card.text
    assert torch.equal(outputs(hf.Recognizer.from_pretrained(tmp_path / "pushed")), outputs(model))


OFFLINE = """
import socket, sys
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
import hitrs_fast as hf
model = hf.Recognizer.from_pretrained("me/gestures")
assert model.class_names == ["stand", "walk|run", "sit"] and model.bodies == 2
assert hf.HiTRS.from_pretrained("me/gestures").config == model.encoder.config
assert hf.Recognizer.from_pretrained(sys.argv[1]).class_names == model.class_names
"""


def test_offline_from_the_cache_and_from_a_folder(tmp_path: Path) -> None:
    repository = tmp_path / "cache" / "models--me--gestures"
    commit = "0" * 40
    MODELS["recognizer"]().save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    code = [sys.executable, "-c", OFFLINE, str(repository / "snapshots" / commit)]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
