"""Numbers made by the authors' code on random weights (tests/golden/authors_small.npz) must come out again."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from bench.reference import DensePretextBatch, Reference, window_list
from hitrs_fast.clips import Windows, clip_counts, clip_frames
from hitrs_fast.kernels.reference import clip_mask
from hitrs_fast.ragged import offsets_of
from hitrs_fast.skeleton import stream_of

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
PAD = 6


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "golden" / "authors_small.npz") as file:
        return dict(file)


def tensor(name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.tensor(golden()[name], dtype=dtype)


def state(dtype: torch.dtype, classifier: bool) -> dict[str, torch.Tensor]:
    names = [k for k in golden() if k.startswith("state/") and (classifier or "/v_cls." not in k)]
    return {k.removeprefix("state/"): tensor(k, dtype) for k in names}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["f64", "f32"])
def dtype(request) -> torch.dtype:
    return request.param


def assert_near(ours: torch.Tensor, name: str) -> None:
    expected = tensor(name, torch.float64)
    error = (ours.detach().double() - expected).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert error <= TOLERANCE[ours.dtype] * scale, f"{name}: off by {error:.3g}"


def test_config_is_read_off_the_tensors() -> None:
    told = json.loads(str(golden()["config"]))
    config = hf.load_authors_checkpoint(state(torch.float64, True), heads=told["nhead"]).encoder.config
    assert (config.window, config.layers, config.head_dim) == (told["w_size"], told["layer_num"], told["d_att"])
    assert config.widths == tuple(told["d_model"] * k for k in (1, 2, 4))
    assert config.layout.name == "ntu25"


def test_a_missing_tensor_is_named() -> None:
    for name in ("c_pe.pe", "c_enc.layer_stack.0.slf_attn.w_ks.weight"):
        some = {k: t for k, t in state(torch.float64, True).items() if k != name}
        with pytest.raises(ValueError, match="missing"):
            hf.load_authors_checkpoint(some, heads=2)


def test_window_lists() -> None:
    for frames in (25, 40, 19):
        expected = golden()[f"windows_pretrain/{frames}"]
        index = clip_frames(torch.tensor([frames]), Windows(7, 7, 2), len(expected), zero_row=frames)
        inside = (expected >= PAD) & (expected < PAD + frames)
        assert (index.numpy() == np.where(inside, expected - PAD, frames)).all()
        assert window_list(frames, 7, 7, 2) == expected.tolist()
        assert clip_counts(torch.tensor([frames]), Windows(7, 7, 2)).item() == len(expected)


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_streams(stream: str) -> None:
    frames = tensor("seq/0")
    starts = torch.arange(len(frames)) == 0
    assert torch.equal(stream_of(frames, starts, hf.LAYOUTS["ntu25"], stream), tensor(f"view/{stream}"))


def test_clip_mask() -> None:
    visible = clip_mask(25, 176, self_visible=True)
    # The authors' table holds -1 at CLS itself, which their code does not take for blocked.
    assert torch.equal(visible, tensor("clip_mask_1_means_blocked") != 1)


def test_recognition(dtype: torch.dtype) -> None:
    model = hf.load_authors_checkpoint(state(dtype, classifier=True), heads=2).eval()
    assert isinstance(model, hf.Recognizer)
    bodies = [tensor(f"ar/bodies/{i}", dtype) for i in range(3)]
    frames = torch.cat([b.flatten(0, 1) for b in bodies])
    lengths = torch.tensor([b.shape[1] for b in bodies for _ in range(2)])
    out = model.encoder(frames, lengths)
    assert_near(out.video, "ar/video_embedding")
    assert_near(model(frames, lengths, torch.tensor([0, 0, 1, 1, 2, 2]), 3), "ar/logits")
    clips = tensor("ar/clip_embeddings", torch.float64)
    expected = torch.cat([c[:n] for c, n in zip(clips, out.clip_lengths.tolist(), strict=True)])
    assert (out.clip.double() - expected).abs().max() < TOLERANCE[dtype]
    reference = _reference(dtype)
    assert_near(reference.recognize(bodies), "ar/logits")


def _reference(dtype: torch.dtype) -> Reference:
    config = hf.load_authors_checkpoint(state(dtype, classifier=True), heads=2).encoder.config
    reference = Reference(config, classes=6).to(dtype).eval()
    reference.load_state_dict(state(dtype, classifier=True))
    return reference


def golden_batch(dtype: torch.dtype) -> tuple[hf.PretextBatch, hf.Capacity]:
    lengths = torch.tensor(json.loads(str(golden()["config"]))["lengths"])
    cut = [slice(PAD, PAD + n) for n in lengths.tolist()]
    masked, clean, selected = (
        torch.cat([x[s] for x, s in zip(tensor(f"pretrain_batch/{name}"), cut, strict=True)])
        for name in ("masked_seq", "org_seq", "mask_seq_mask")
    )
    offsets = offsets_of(lengths)[:-1]
    frame = tensor("pretrain_batch/c_motion_clip") - PAD
    real = (frame >= 0) & (frame < lengths[:, None, None])
    pair = torch.where(real, frame + offsets[:, None, None], lengths.sum()).transpose(0, 1).flatten(0, 1)
    counts = clip_counts(lengths, Windows(7, 7, 2)).tolist()
    order, first = [], 0
    for row, count in zip(tensor("pretrain_batch/permute_v").tolist(), counts, strict=True):
        order += [first + k for k in row[: count - 1]] + [first + count - 1]
        first += count
    batch = hf.PretextBatch(
        masked.to(dtype),
        clean.to(dtype),
        selected[..., 0] > 0,
        lengths,
        pair,
        tensor("pretrain_batch/c_motion_valid_flg") > 0,
        torch.tensor(order),
    )
    return batch, hf.Capacity(sum(counts), max(counts))


LOSSES = {
    "loss_spatial": "pose_loss",
    "loss_clip": "clip_loss",
    "loss_video": "video_loss",
    "loss_contrast": "infonce_loss_pred_then_target",
}


def test_pretraining(dtype: torch.dtype) -> None:
    model = hf.load_authors_checkpoint(state(dtype, classifier=False), heads=2).eval()
    assert isinstance(model, hf.Pretraining)
    batch, capacity = golden_batch(dtype)
    out = model(batch, capacity)
    for ours, theirs in LOSSES.items():
        assert_near(out[ours], f"pretrain_out/{theirs}")
    tokens = model.encoder.frames(batch.frames)
    expected = tensor("pretrain_out/frame_embeddings", torch.float64)
    expected = torch.cat([x[PAD : PAD + n] for x, n in zip(expected, batch.lengths.tolist(), strict=True)])
    assert (tokens[:-1].double() - expected).abs().max() < TOLERANCE[dtype]


def test_reference_pretraining(dtype: torch.dtype) -> None:
    g = golden()
    counts = clip_counts(torch.tensor([25, 40, 19]), Windows(7, 7, 2)).tolist()
    batch = DensePretextBatch(
        tensor("pretrain_batch/masked_seq", dtype),
        tensor("pretrain_batch/org_seq", dtype),
        np.flatnonzero(g["pretrain_batch/mask_seq_mask"]).tolist(),
        g["pretrain_batch/c_motion_clip"].tolist(),
        np.flatnonzero(g["pretrain_batch/c_motion_valid_flg"]).tolist(),
        [g[f"windows_pretrain/{n}"].tolist() for n in (25, 40, 19)],
        [row[: n - 1] for row, n in zip(g["pretrain_batch/permute_v"].tolist(), counts, strict=True)],
    )
    out = _reference(dtype).pretrain(batch)
    for ours, theirs in LOSSES.items():
        assert_near(out[ours], f"pretrain_out/{theirs}")
