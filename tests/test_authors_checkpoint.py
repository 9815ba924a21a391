"""Weights out of the authors' files and back into them, bit for bit."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from helpers import tiny_config
from test_golden import state, tensor
from torch import Tensor

import hitrs_fast as hf
from bench.reference import Reference

PRETEXT = ("s_pose_reg", "c_motion_cls", "v_motion_cls", "v_ft_reg")


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and torch.equal(ours[name], value), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("classifier", [False, True], ids=["pre-training", "recognition"])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_round_trip_of_their_file(tmp_path: Path, dtype: torch.dtype, classifier: bool, prefix: str) -> None:
    theirs = {prefix + k: t for k, t in state(dtype, classifier).items()}
    first, second = tmp_path / "theirs.pth", tmp_path / "ours.pth"
    torch.save(theirs, first)
    model = hf.load_authors_checkpoint(first, heads=2)
    hf.save_authors_checkpoint(model, second, prefix, pretext_from=first if classifier else None)
    assert_same(torch.load(second, weights_only=True), theirs)
    assert second.stat().st_size < 1.1 * first.stat().st_size


@pytest.mark.parametrize("classifier", [False, True], ids=["pre-training", "recognition"])
def test_round_trip_of_a_model_of_ours(tmp_path: Path, classifier: bool) -> None:
    encoder = hf.HiTRS(tiny_config(6, channels=2, window=5, stride=2, heads=4, head_dim=3, layers=1))
    model = hf.Recognizer(encoder, 9, bodies=2) if classifier else hf.Pretraining(encoder)
    hf.save_authors_checkpoint(model, tmp_path / "x.pth")
    again = hf.load_authors_checkpoint(tmp_path / "x.pth", heads=4, stride=2, layout=encoder.config.layout)
    assert type(again) is type(model)
    assert_same(dict(again.state_dict()), dict(model.state_dict()))


def test_the_dense_model_loads_it_strictly_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tiny_config()
    model = hf.Recognizer(hf.HiTRS(config), 7, bodies=2).double().eval()
    hf.save_authors_checkpoint(model, tmp_path / "x.pth")
    reference = torch.nn.DataParallel(Reference(config, classes=7).double().eval())
    written = torch.load(tmp_path / "x.pth", weights_only=True)
    reference.load_state_dict(written)
    assert all(not t.any() for k, t in written.items() if k.removeprefix("module.").startswith(PRETEXT))
    body = torch.randn(2, 30, 5, 3, dtype=torch.float64)
    ours = model(body.flatten(0, 1), torch.tensor([30, 30]), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(ours, reference.module.recognize([body]), rtol=1e-10, atol=1e-10)


def test_writing_changes_nothing_and_draws_nothing(tmp_path: Path) -> None:
    model = hf.Recognizer(hf.HiTRS(tiny_config()), 7, bodies=2)
    before, drawn = {k: t.clone() for k, t in model.state_dict().items()}, torch.get_rng_state()
    hf.save_authors_checkpoint(model, tmp_path / "x.pth")
    assert_same(dict(model.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_their_code_cannot_compute_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for config in (tiny_config(self_visible=False), tiny_config(input_norm=False)):
        with pytest.raises(ValueError, match="cannot compute"):
            hf.save_authors_checkpoint(hf.Pretraining(hf.HiTRS(config)), path)
    recognizer = hf.Recognizer(hf.HiTRS(tiny_config()), 7)
    with pytest.raises(ValueError, match="bodies=None"):
        hf.save_authors_checkpoint(recognizer, path)
    recognizer.bodies = 2
    with pytest.raises(ValueError, match="s_pose_reg"):
        hf.save_authors_checkpoint(recognizer, path, pretext_from=state(torch.float32, True))
    assert not path.exists()


def test_a_file_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"clip_fuse_token": tensor("state/clip_fuse_token"), "x": Runs()}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError):
        hf.load_authors_checkpoint(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
