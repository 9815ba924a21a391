"""Throughput beside the dense reference: first the same numbers in float64, then the time.

`extra_info` holds the comparison: `speedup` is the ratio of medians of interleaved rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

import hitrs_fast as hf

from . import cases
from .buildup import LEVELS
from .measure import PeakMemory, interleaved
from .reference import Reference, dense_batch

GATE_LENGTHS = cases.np.array([21, 40, 33])
Step = Callable[[], Tensor]


@cache
def gate() -> None:
    """Losses and gradients are the reference's, in float64, in pre-training, recognition and detection."""
    reference, product = cases.models(dtype=torch.float64)
    batch, capacity = cases.pretext_batch(GATE_LENGTHS, product, torch.float64)
    dense = dense_batch(batch, product.encoder.config)
    same(reference, product, product(batch, capacity)["loss"], reference.pretrain(dense)["loss"])

    model = cases.recognizer(reference, product)
    lengths, labels = torch.from_numpy(GATE_LENGTHS), torch.tensor([3, 1, 4])
    logits = model(batch.target, lengths, torch.arange(3), 3)
    expected = reference.recognize([x[None] for x in batch.target.split(GATE_LENGTHS.tolist())])
    same(reference, model, fn.cross_entropy(logits, labels), fn.cross_entropy(expected, labels))

    detector = hf.FrameClassifier(product.encoder, classes=52).double().eval()
    stream = batch.target[:40]
    ours = detector(stream, torch.tensor([40]))
    torch.testing.assert_close(ours, reference.detect(stream, detector.classifier, detector.dilate), rtol=1e-9, atol=0)


def same(reference: Reference, model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """The two losses and the gradients of both models agree to 1e-9."""
    for each in (reference, model):
        each.zero_grad(set_to_none=True)
    assert abs(ours.item() / theirs.item() - 1) < 1e-9
    ours.backward()
    theirs.backward()
    gradients = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    expected = dict(hf.load_authors_checkpoint(gradients).named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - expected[name]).norm() / expected[name].norm().clamp(min=1e-12)
        assert error < 1e-9, f"{name}: {error:.2e}"


def stepping(model: nn.Module, loss: Step) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def run(benchmark, rounds: int, ours: Callable[[], object], theirs: Callable[[], object], **info: float) -> None:
    seconds = interleaved({"ours": ours, "theirs": theirs}, rounds)
    record(benchmark, seconds["ours"], seconds["theirs"], **info)
    benchmark.pedantic(ours, rounds=rounds)


def record(benchmark, ours: float, theirs: float, **info: float) -> None:
    rates = {f"{name}_per_s": info[name] / ours for name in ("sequences", "clips", "frames") if name in info}
    benchmark.extra_info.update(info, speedup=theirs / ours, **rates)


def test_pretraining_step(benchmark, batch_size: int, rounds: int) -> None:
    """Forward and backward, beside the reference and each level of the build-up, all in turn."""
    gate()
    reference, product = cases.models()
    batch, capacity = cases.pretext_batch(cases.ntu_like(batch_size), product)
    ours = stepping(product, lambda: product(batch, capacity)["loss"])

    def at_level(level: int) -> Callable[[], None]:
        return stepping(reference, lambda: reference.set_level(level).pretrain_ragged(batch)["loss"])

    with PeakMemory() as memory:
        ours()
    seconds = interleaved({"product": ours} | {name: at_level(i) for i, name in enumerate(LEVELS)}, rounds)
    benchmark.extra_info["seconds"] = seconds
    clips = capacity.clips + 2 * batch_size
    record(
        benchmark, seconds["product"], seconds["reference"], sequences=batch_size, clips=clips, peak_bytes=memory.peak
    )
    benchmark.pedantic(ours, rounds=rounds)


def test_recognition_step(benchmark, batch_size: int, rounds: int) -> None:
    """Two bodies, the second one's track as long as the first's."""
    gate()
    reference, product = cases.models()
    model = cases.recognizer(reference, product)
    lengths = torch.from_numpy(cases.ntu_like(batch_size)).repeat_interleave(2)
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    sample = torch.arange(batch_size).repeat_interleave(2)
    labels = sample[::2] % cases.CLASSES
    bodies = [torch.stack(pair) for pair in zip(*[iter(frames.split(lengths.tolist()))] * 2, strict=True)]
    capacity = cases.capacity_of(lengths, product.encoder)
    ours: Step = lambda: fn.cross_entropy(model(frames, lengths, sample, batch_size, capacity), labels)  # noqa: E731
    theirs: Step = lambda: fn.cross_entropy(reference.recognize(bodies), labels)  # noqa: E731
    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    run(benchmark, rounds, stepping(model, ours), stepping(reference, theirs), sequences=2 * batch_size)


def test_encoder_forward(benchmark, batch_size: int, rounds: int) -> None:
    gate()
    reference, product = cases.models()
    lengths = torch.from_numpy(cases.ntu_like(batch_size))
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    bodies = [part[None] for part in frames.split(lengths.tolist())]
    capacity = cases.capacity_of(lengths, product.encoder)
    with torch.inference_mode():
        run(
            benchmark,
            rounds,
            lambda: product.encoder(frames, lengths, capacity=capacity),
            lambda: reference.recognize(bodies),
            sequences=batch_size,
            clips=capacity.clips,
        )


def test_detection_stream(benchmark, request, rounds: int) -> None:
    """A class for every frame of an untrimmed stream, one body, on one core."""
    gate()
    total = 5000 if request.config.getoption("--full") else 200
    reference, product = cases.models()
    model = hf.FrameClassifier(product.encoder, classes=52).eval()
    frames, lengths = cases.frames_of(total, torch.float32), torch.tensor([total])
    some = frames[:100]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            expected = reference.detect(some, model.classifier, model.dilate)
            torch.testing.assert_close(model(some, torch.tensor([100])), expected, rtol=1e-4, atol=1e-4)
            seconds = interleaved(
                {
                    "ours": lambda: model(frames, lengths),
                    "theirs on 100 frames": lambda: reference.detect(some, model.classifier, model.dilate),
                },
                rounds,
            )
            record(benchmark, seconds["ours"], seconds["theirs on 100 frames"] * total / 100, frames=total)
            benchmark.pedantic(lambda: model(frames, lengths), rounds=1)
    finally:
        torch.set_num_threads(threads)


def test_latency(benchmark, rounds: int) -> None:
    """One sequence of 80 frames, forward."""
    gate()
    reference, product = cases.models()
    frames, lengths = cases.frames_of(80, torch.float32), torch.tensor([80])
    with torch.inference_mode():
        ours, theirs = lambda: product.encoder(frames, lengths), lambda: reference.recognize([frames[None]])
        run(benchmark, 10 * rounds, ours, theirs, frames=80)
