"""Other codebases' calling conventions, against the dense reference and the authors' numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import models, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from test_golden import assert_near, state, tensor
from torch import Tensor
from torch.nn import functional as fn

import hitrs_fast as hf
from bench.reference import Reference
from hitrs_fast.clips import Windows, clip_count, clip_counts
from hitrs_fast.compat import HiTRSRecognition, PysklBackbone, Sizes, STGCNRecognition
from hitrs_fast.encoder import LEVELS

CASES = {
    "authors": {},
    "paper": {"self_visible": False, "input_norm": False, "layers": 2},
    "overlapping": {"window": 5, "stride": 2, "dilate": 3, "layers": 2},
    "gaps": {"window": 3, "stride": 6, "dilate": 1, "layers": 1},
}
LENGTHS = (31, 20, 47, 8)
ENOUGH = Sizes(frames=300, clips=400)
SMALL = {"layers": 1, "dropout": 0.0}


def recordings(lengths: tuple[int, ...] = LENGTHS, joints: int = 5, absent: tuple[int, ...] = (0, 2)) -> list[Tensor]:
    """Each `[2, T, J, 3]`; the second body of those in `absent` is zeros, and a few frames of the others are."""
    torch.manual_seed(1)
    bodies = [torch.randn(2, t, joints, 3, dtype=torch.float64) for t in lengths]
    for i, body in enumerate(bodies):
        body[:, 3:5] = 0
        if i in absent:
            body[1] = 0
    return bodies


def padded(bodies: list[Tensor], extra: int = 4) -> Tensor:
    """pyskl's `[N, M, T, J, C]`, zero padded."""
    longest = max(b.shape[1] for b in bodies) + extra
    return torch.stack([fn.pad(b, (0, 0, 0, 0, 0, longest - b.shape[1])) for b in bodies])


def cut(reference: Reference, bodies: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The authors' x `[N, K, w, 2, J, C]` and w_pad_mask `[N, 2, K + 1]`."""
    clips, counts = reference.cut(bodies)
    column = torch.arange(clips.shape[1] + 1)
    mask = (column >= torch.tensor(counts)[:, None]) & (column < clips.shape[1])
    return clips.unflatten(0, (-1, 2)).permute(0, 2, 3, 1, 4, 5), mask.long().unflatten(0, (-1, 2))


def both(config: hf.HiTRSConfig, bodies: int | None = 2) -> tuple[Reference, hf.Recognizer]:
    reference, product = models(config)
    model = hf.Recognizer(product.encoder, 7, bodies).double().eval()
    model.classifier.load_state_dict(reference.v_cls.state_dict())
    return reference, model


def calls(reference: Reference, model: hf.Recognizer, sizes: Sizes | None = None) -> dict[str, Callable[[], Tensor]]:
    bodies = recordings()
    x, mask = cut(reference, bodies)
    time = padded(bodies)
    head = lambda f: model.classifier(f.mean((3, 4)).sum(1) / 2)  # noqa: E731
    return {
        "authors": lambda: HiTRSRecognition(model, sizes)(x, w_pad_mask=mask),
        "st-gcn": lambda: STGCNRecognition(model, sizes)(time.permute(0, 4, 2, 3, 1)),
        "pyskl": lambda: head(PysklBackbone(model.encoder, sizes=sizes)(time)),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("sizes", [None, Sizes(200, 40)], ids=["read off", "fixed"])
def test_the_authors_numbers(dtype: torch.dtype, sizes: Sizes | None) -> None:
    model = hf.load_authors_checkpoint(state(dtype, classifier=True), heads=2).eval()
    bodies = [tensor(f"ar/bodies/{i}", dtype) for i in range(3)]
    x, mask = cut(Reference(model.encoder.config), bodies)
    assert torch.equal(mask, tensor("ar/pad_mask"))
    assert_near(HiTRSRecognition(model, sizes)(x, mask), "ar/logits")
    time = padded(bodies)
    assert_near(STGCNRecognition(model, sizes)(time.permute(0, 4, 2, 3, 1)), "ar/logits")
    video = PysklBackbone(model.encoder, sizes=sizes)(time)
    assert video.shape == (3, 2, 64, 1, 1)
    assert_near(video.flatten(0, 1).flatten(1), "ar/video_embedding")


@pytest.mark.parametrize("sizes", [None, ENOUGH], ids=["read off", "fixed"])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_equal_the_dense_model(case: str, sizes: Sizes | None) -> None:
    reference, model = both(tiny_config(**CASES[case]))
    expected = reference.recognize(recordings())
    expected.square().sum().backward()
    gradients = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    theirs = dict(hf.load_authors_checkpoint(gradients, heads=2).named_parameters())
    for name, call in calls(reference, model, sizes).items():
        model.zero_grad()
        logits = call()
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10, msg=name)
        logits.square().sum().backward()
        for parameter, value in model.named_parameters():
            error = (value.grad - theirs[parameter]).abs().max()
            assert error <= 1e-9 * theirs[parameter].abs().max().clamp(min=1e-3), (name, parameter)


def test_absent_bodies_are_left_out_where_the_recogniser_says_so() -> None:
    _, model = both(tiny_config(), bodies=None)
    reference, _ = both(tiny_config())
    bodies = recordings()
    video = reference.embed(bodies)
    present = torch.tensor([[1, int(i not in (0, 2))] for i in range(4)])[..., None]
    expected = model.classifier((video * present).sum(1) / present.sum(1))
    x, mask = cut(reference, bodies)
    torch.testing.assert_close(HiTRSRecognition(model)(x, mask), expected)
    torch.testing.assert_close(STGCNRecognition(model)(padded(bodies).permute(0, 4, 2, 3, 1)), expected)


@pytest.mark.parametrize("sizes", [None, ENOUGH], ids=["read off", "fixed"])
@pytest.mark.parametrize("level", LEVELS)
def test_features_of_every_level(level: str, sizes: Sizes | None) -> None:
    _, model = both(tiny_config())
    x = padded(recordings())
    out = PysklBackbone(model.encoder, level, sizes)(x)
    lengths = torch.tensor(LENGTHS).repeat_interleave(2)
    frames = torch.cat([b.flatten(0, 1) for b in recordings()])
    expected = model.encoder(frames, lengths)
    if level == "frame":
        assert out.shape == (4, 2, 8, x.shape[2], 5)
        by_sequence = out.permute(0, 1, 3, 4, 2).flatten(0, 1)
        ours = torch.cat([s[:t] for s, t in zip(by_sequence, lengths, strict=True)])
        torch.testing.assert_close(ours, expected.frame)
        zero = model.encoder.frames(frames[:0])[0]
        torch.testing.assert_close(by_sequence[2, 20:], zero.expand(x.shape[2] - 20, -1, -1))
    elif level == "clip":
        by_sequence = out[..., 0].transpose(2, 3).flatten(0, 1)
        counts = expected.clip_lengths.tolist()
        torch.testing.assert_close(torch.cat([s[:k] for s, k in zip(by_sequence, counts, strict=True)]), expected.clip)
        assert by_sequence[2, counts[2] :].eq(0).all() and out.shape[:3] == (4, 2, 16) and out.shape[4] == 1
    else:
        torch.testing.assert_close(out.flatten(0, 1).flatten(1), expected.video)


def test_only_what_is_not_zero_is_computed(monkeypatch) -> None:
    reference, model = both(tiny_config())
    encoder, seen = model.encoder, []
    frames, clips = encoder.frames, encoder.clips
    monkeypatch.setattr(encoder, "frames", lambda x: seen.append(len(x)) or frames(x))
    monkeypatch.setattr(encoder, "clips", lambda t, index: seen.append(len(index)) or clips(t, index))
    # Stride 7 and dilate 2: every frame is in one clip at most. Two zero frames in each of six bodies.
    real = 2 * sum(LENGTHS) - LENGTHS[0] - LENGTHS[2] - 6 * 2
    clipped = sum(-(-t // 7) * (1 + (i not in (0, 2))) for i, t in enumerate(LENGTHS))
    for name, call in calls(reference, model).items():
        seen.clear()
        call()
        assert seen[0] <= real and (name == "authors" or seen[0] == real), name
        assert seen[1] == clipped + 1, name


def test_lengths_say_where_zero_frames_are_real() -> None:
    _, model = both(tiny_config())
    bodies = recordings()
    bodies[1][:, -9:] = 0
    x, lengths = padded(bodies).permute(0, 4, 2, 3, 1), torch.tensor(LENGTHS)
    frames = torch.cat([b.flatten(0, 1) for b in bodies])
    sample = torch.arange(4).repeat_interleave(2)
    adapter = STGCNRecognition(model)
    torch.testing.assert_close(adapter(x, lengths), model(frames, lengths.repeat_interleave(2), sample, 4))
    assert (adapter(x) - adapter(x, lengths))[1].abs().max() > 1e-6
    short = lengths - 3
    cut_off = torch.cat([b[:, :-3].flatten(0, 1) for b in bodies])
    torch.testing.assert_close(adapter(x, short), model(cut_off, short.repeat_interleave(2), sample, 4))


def test_a_body_that_appears_past_the_length_is_absent() -> None:
    _, model = both(tiny_config(), bodies=None)
    x = padded(recordings()).permute(0, 4, 2, 3, 1).clone()
    x[0, :, 40:, :, 1] = 1.0
    lengths = torch.tensor(LENGTHS)
    for sizes in (None, ENOUGH):
        adapter = STGCNRecognition(model, sizes)
        torch.testing.assert_close(adapter(x, lengths), adapter(padded(recordings()).permute(0, 4, 2, 3, 1), lengths))


def test_a_batch_of_zeros() -> None:
    reference, model = both(tiny_config())
    x, mask = cut(reference, [torch.zeros(2, 20, 5, 3, dtype=torch.float64)])
    expected = reference.recognize([torch.zeros(2, 20, 5, 3, dtype=torch.float64)])
    for sizes in (None, Sizes(1, 1)):
        torch.testing.assert_close(HiTRSRecognition(model, sizes)(x, mask), expected)
        # Here nothing tells how long a sample is: it has no frames, and no body is averaged in.
        empty = STGCNRecognition(model, sizes)(torch.zeros(2, 3, 20, 5, 2, dtype=torch.float64))
        torch.testing.assert_close(empty, model.classifier.bias.expand(2, -1))


@pytest.mark.parametrize("sizes", [Sizes(20, 400), Sizes(300, 4)], ids=["frames", "clips"])
def test_too_small_sizes_are_not_a_number(sizes: Sizes) -> None:
    reference, model = both(tiny_config())
    for name, call in calls(reference, model, sizes).items():
        assert call().isnan().all(), name
    x = padded(recordings())
    for level in LEVELS[sizes.frames == 300 :]:
        assert PysklBackbone(model.encoder, level, sizes)(x)[0, 0, :, 0, 0].isnan().all()


def test_bad_input_is_told() -> None:
    reference, model = both(tiny_config())
    bodies = recordings()
    x, mask = cut(reference, bodies)
    time = padded(bodies).permute(0, 4, 2, 3, 1)
    authors, stgcn, pyskl = HiTRSRecognition(model), STGCNRecognition(model), PysklBackbone(model.encoder)
    hole, masked_cls = mask.clone(), mask.clone()
    hole[1, 0, 0] = 1
    masked_cls[2, 1, -1] = 1
    for wrong in (hole, masked_cls):
        with pytest.raises(ValueError, match="padding must come last"):
            authors(x, wrong)
        assert HiTRSRecognition(model, ENOUGH)(x, wrong).isnan().all()
    for call, message in (
        (lambda: authors(x[..., :4, :], mask), "5 joints"),
        (lambda: authors(x[:, :, :3], mask), "7 frames"),
        (lambda: authors(x, mask[:, :, 1:]), "w_pad_mask has shape"),
        (lambda: stgcn(time[0]), "samples, coordinates"),
        (lambda: stgcn(time[:, :2]), "2 coordinates"),
        (lambda: pyskl(time), "joints and"),
        (lambda: pyskl(time[0]), "samples, bodies"),
        (lambda: stgcn(time, torch.tensor([1, 2, 3])), "one length"),
        (lambda: stgcn(time, torch.tensor([1, 2, 3, 99])), "between 0 and the 51"),
        (lambda: PysklBackbone(model.encoder, "top"), "not one of"),
        (lambda: STGCNRecognition(model, Sizes(0, 1)), "room"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert STGCNRecognition(model, ENOUGH)(time, torch.tensor([1, 2, 3, 99])).isnan().all()


@given(st.integers(0, 80), st.integers(2, 8), st.integers(1, 9), st.integers(1, 5))
def test_clips_counted_on_the_host(frames: int, window: int, stride: int, dilate: int) -> None:
    windows = Windows(window, stride, dilate)
    assert clip_count(frames, windows) == clip_counts(torch.tensor([frames]), windows).item()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=4), st.data())
def test_any_zeros_anywhere(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    """The padded input through the encoder as it is, every zero frame computed."""
    torch.manual_seed(0)
    model = hf.Recognizer(hf.HiTRS(tiny_config(2, window=3, stride=2, **SMALL)), 3, bodies=2).double().eval()
    x = torch.randn(len(spans), 2, 12, 2, 3, dtype=torch.float64)
    for i, span in enumerate(spans):
        for body, length in enumerate(span):
            x[i, body, length:] = 0
            for t in data.draw(st.lists(st.integers(0, 11), max_size=3)):
                x[i, body, t] = 0
    lengths = [int(s.any((0, 2, 3)).nonzero().max()) + 1 if s.any() else 0 for s in x.ne(0)]
    frames = torch.cat([s[:, :t].flatten(0, 1) for s, t in zip(x, lengths, strict=True)])
    sequences = torch.tensor(lengths).repeat_interleave(2)
    sample, capacity = torch.arange(len(spans)).repeat_interleave(2), hf.Capacity(80, 10)
    expected = model(frames, sequences, sample, len(spans), capacity)
    for sizes in (None, Sizes(100, 100)):
        torch.testing.assert_close(STGCNRecognition(model, sizes)(x.permute(0, 4, 2, 3, 1)), expected)
