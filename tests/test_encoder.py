"""The ragged encoder against the dense reference, in float64, on awkward sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import layout, models, pretext_batch, ragged, tiny_config

import hitrs_fast as hf
from bench.reference import dense_batch

CASES = {
    "authors": {"joints": 25},
    "paper": {"joints": 5, "self_visible": False, "input_norm": False, "layers": 2},
    "one layer": {"joints": 3, "layers": 1},
    "two coordinates": {"joints": 17, "channels": 2},
    "short clips": {"joints": 4, "window": 3, "stride": 3, "dilate": 1},
    "overlapping": {"joints": 4, "window": 5, "stride": 2, "dilate": 3},
    "gaps": {"joints": 4, "window": 3, "stride": 6, "dilate": 1},
    "even window": {"joints": 4, "window": 4, "stride": 4, "dilate": 2},
}
LENGTHS = [31, 20, 47, 19]


@pytest.fixture(params=CASES, ids=str)
def config(request) -> hf.HiTRSConfig:
    return tiny_config(**CASES[request.param])


@pytest.mark.parametrize("preset", ["authors", "paper"])
def test_losses_and_gradients_equal_the_dense_model(config: hf.HiTRSConfig, preset: str) -> None:
    pretext = hf.PretextConfig.preset(preset)
    reference, model = models(config, pretext)
    batch, capacity = pretext_batch(config, pretext, LENGTHS)
    ours, theirs = model(batch, capacity), reference.pretrain(dense_batch(batch, config))
    for name, loss in theirs.items():
        assert ours[name].item() == pytest.approx(loss.item(), rel=1e-9), name
    ours["loss"].backward()
    theirs["loss"].backward()
    assert_gradients_equal(reference, model)


def assert_gradients_equal(reference: torch.nn.Module, model: hf.Pretraining) -> None:
    config = model.encoder.config
    gradients = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    renamed = hf.load_authors_checkpoint(gradients, heads=config.heads)
    expected = dict(renamed.named_parameters())
    for name, parameter in model.named_parameters():
        difference = (parameter.grad - expected[name]).abs().max()
        assert difference <= 1e-9 * expected[name].abs().max().clamp(min=1e-3), name


def test_padding_changes_nothing(config: hf.HiTRSConfig) -> None:
    pretext = hf.PretextConfig()
    _, model = models(config, pretext)
    batch, capacity = pretext_batch(config, pretext, LENGTHS)
    plain = model(batch, capacity)
    frames, extra = len(batch.frames), 13
    pad = torch.full((extra, *batch.frames.shape[1:]), 7.0, dtype=torch.float64)
    empty = torch.zeros(2, dtype=torch.int64)
    zero = torch.full((2, config.window), frames + extra)
    pairs = torch.where(batch.pair == frames, frames + extra, batch.pair).view(2, -1, config.window)
    padded = hf.PretextBatch(
        torch.cat([batch.frames, pad]),
        torch.cat([batch.target, pad]),
        torch.cat([batch.selected, torch.zeros(extra, config.joints, dtype=torch.bool)]),
        torch.cat([batch.lengths, empty]),
        torch.cat([pairs, zero.expand(2, 2, -1)], 1).flatten(0, 1),
        torch.cat([batch.pair_valid, empty.bool()]),
        torch.cat([batch.order, torch.arange(len(batch.order), len(batch.order) + 5)]),
    )
    out = model(padded, hf.Capacity(capacity.clips + 5, capacity.longest + 3))
    for name, value in plain.items():
        assert out[name].item() == pytest.approx(value.item(), rel=1e-12), name
    out["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("tokens", [False, True])
def test_sequences_do_not_see_each_other(config: hf.HiTRSConfig, tokens: bool) -> None:
    _, model = models(config)
    frames, lengths = ragged(LENGTHS, config.joints, config.channels)
    out = model.encoder(frames, lengths, tokens=tokens)
    first = 0
    for b, length in enumerate(LENGTHS):
        alone = model.encoder(frames[first : first + length], lengths[b : b + 1])
        torch.testing.assert_close(out.frame[first : first + length], alone.frame)
        torch.testing.assert_close(out.clip.split(out.clip_lengths.tolist())[b], alone.clip)
        torch.testing.assert_close(out.video[b], alone.video[0])
        first += length
    if tokens:
        assert out.clip_tokens.shape == (len(out.clip), config.clip_tokens - 1, config.widths[1])
        assert out.video_tokens.shape == (len(out.clip), config.widths[2])


def test_levels_stop_where_asked() -> None:
    config = tiny_config()
    encoder = hf.HiTRS(config).eval()
    frames, lengths = ragged([90, 30], 5)
    frames = frames.float()
    frame = encoder(frames, lengths, levels="frame")
    assert frame.clip is None and frame.video is None and frame.frame.shape == (120, 5, 8)
    clip = encoder(frames, lengths, levels="clip", stride=1, dilate=4)
    assert clip.video is None and clip.clip_lengths.tolist() == [90, 30]
    with pytest.raises(ValueError, match="levels"):
        encoder(frames, lengths, levels="top")
    some = torch.tensor([5, 0])
    torch.testing.assert_close(
        encoder(frames, lengths, levels="clip", stride=1, dilate=4, only=some).clip, clip.clip[some]
    )
    with pytest.raises(ValueError, match="only some clips"):
        encoder(frames, lengths, only=some)


def test_wrong_shapes_are_named() -> None:
    encoder = hf.HiTRS(tiny_config())
    with pytest.raises(ValueError, match=r"\(4, 6, 3\).*5 joints"):
        encoder(torch.zeros(4, 6, 3), torch.tensor([4]))
    with pytest.raises(ValueError, match=r"\(9, 6, 3\).*5 joints"):
        encoder.embed([np.zeros((9, 5, 3), np.float32), np.zeros((9, 6, 3), np.float32)])
    with pytest.raises(ValueError, match="sequence 1"):
        encoder.embed([np.zeros((9, 5, 3), np.float32), np.zeros((0, 5, 3), np.float32)])


def test_too_many_clips_is_an_error_and_split_averages() -> None:
    encoder = hf.HiTRS(tiny_config(max_clips=4)).eval()
    long = np.random.default_rng(0).normal(size=(60, 5, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"positions for 4.*split"):
        encoder.embed([long])
    pieces = encoder.embed([long[:20], long[20:40], long[40:]])
    torch.testing.assert_close(encoder.embed([long], long="split")[0], pieces.mean(0))


def test_split_fits_windows_of_any_kind() -> None:
    encoder = hf.HiTRS(tiny_config(window=8, max_clips=5))
    long = torch.randn(70, 5, 3)
    assert encoder.embed([long, long[:36], long[:35]], long="split").isfinite().all()


def test_embed_takes_numpy_and_torch_and_keeps_order() -> None:
    encoder = hf.HiTRS(tiny_config(dropout=0.5, stream="motion", center=True)).train()
    sequences = [np.random.default_rng(i).normal(size=(20 + i, 5, 3)) for i in range(5)]
    together = encoder.embed(sequences)
    assert encoder.training and together.shape == (5, 32)
    for one, sequence in zip(together, sequences, strict=True):
        torch.testing.assert_close(encoder.embed([torch.from_numpy(sequence)])[0], one)
    assert encoder.embed([]).shape == (0, 32)


def test_save_and_load(tmp_path) -> None:
    encoder = hf.HiTRS(tiny_config(stream="bone")).eval()
    encoder.save_pretrained(tmp_path)
    loaded = hf.HiTRS.from_pretrained(tmp_path).eval()
    assert loaded.config == encoder.config
    frames, lengths = ragged([30], 5)
    assert torch.equal(encoder(frames.float(), lengths).video, loaded(frames.float(), lengths).video)


def test_recognizer_averages_the_bodies_present() -> None:
    torch.manual_seed(0)
    model = hf.Recognizer(hf.HiTRS(tiny_config()), classes=4).double().eval()
    frames, lengths = ragged([20, 30, 25, 0], 5)
    logits = model(frames, lengths, torch.tensor([0, 1, 1, 2]), samples=3)
    video = model.encoder(frames, lengths).video
    expected = model.classifier(torch.stack([video[0], video[1:3].mean(0), torch.zeros_like(video[0])]))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("weights", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 2, 1)])
def test_a_weight_of_zero_leaves_its_task_out(weights: tuple[float, ...]) -> None:
    config = tiny_config()
    _, model = models(config)
    batch, capacity = pretext_batch(config, model.pretext, LENGTHS)
    full = model(batch, capacity)
    model.weights = hf.LossWeights(*weights)
    out = model(batch, capacity)
    names = ["loss_spatial", "loss_clip", "loss_video", "loss_contrast"]
    kept = {name: w for name, w in zip(names, weights, strict=True) if w}
    assert {k for k in out if k.startswith("loss_")} == set(kept)
    assert out["loss"].item() == pytest.approx(sum(w * full[k].item() for k, w in kept.items()), rel=1e-12)


def test_configurations_that_make_no_sense_are_refused() -> None:
    for wrong in ({"window": 1}, {"dropout": 1.0}, {"stream": "video"}, {"heads": 0}, {"widths": (8, 18, 32)}):
        with pytest.raises(ValueError):
            tiny_config(**wrong)
    with pytest.raises(ValueError, match="ntu25, kinect20"):
        hf.HiTRSConfig.paper("kinect")
    with pytest.raises(ValueError, match="negative"):
        hf.LossWeights(spatial=-1)
    with pytest.raises(ValueError, match="cycle"):
        hf.SkeletonLayout("loop", ("a", "b"), (1, 0))
    assert layout(3).parents == (-1, 0, 1)


def test_frame_classifier_equals_the_dense_model(config: hf.HiTRSConfig) -> None:
    if config.window % 2 == 0:
        with pytest.raises(ValueError, match="only an odd one"):
            hf.FrameClassifier(hf.HiTRS(config), classes=3)
        return
    reference, model = models(config)
    detector = hf.FrameClassifier(model.encoder, classes=3, dilate=4).double().eval()
    frames, lengths = ragged([31, 0, 20], config.joints, config.channels)
    logits = detector(torch.cat([frames, frames[:4]]), lengths)[:51]
    for part, alone in ((logits[:31], frames[:31]), (logits[31:], frames[31:])):
        torch.testing.assert_close(part, reference.detect(alone, detector.classifier, 4))


def test_motion_predictor_adds_to_the_last_pose() -> None:
    torch.manual_seed(0)
    model = hf.MotionPredictor(hf.HiTRS(tiny_config()), hidden=6).double().eval()
    frames, lengths = ragged([31, 20], 5)
    poses = model(frames, lengths, steps=4)
    assert poses.shape == (2, 4, 5, 3)
    state, pose = model.start(model.encoder(frames, lengths).video)[1:], frames[-1:].flatten(1)
    for step in range(4):
        state = model.cell(pose, state)
        pose = pose + model.change(state)
        torch.testing.assert_close(poses[1:, step].flatten(1), pose)
    model.change.weight.data.zero_(), model.change.bias.data.zero_()
    torch.testing.assert_close(model(frames, lengths)[0], frames[30].expand(12, -1, -1))
