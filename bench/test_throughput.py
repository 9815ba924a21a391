"""Throughput beside the dense reference: first the same numbers in float64, then the time.

`extra_info` holds the comparison: `speedup` is the ratio of medians of interleaved rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as fn

import hitrs_fast as hf

from . import cases
from .buildup import LEVELS, BuildUp
from .measure import PeakMemory, flops, interleaved, saved_bytes
from .reference import dense_batch

GATE_LENGTHS = cases.np.array([21, 40, 33])
Step = Callable[[], Tensor]


@cache
def gate() -> None:
    """The product's loss and gradients are the reference's, in float64: no figure without this."""
    reference, product = cases.models(dtype=torch.float64)
    batch, capacity = cases.pretext_batch(GATE_LENGTHS, product, torch.float64)
    ours = product(batch, capacity)["loss"]
    theirs = reference.pretrain(dense_batch(batch, product.encoder.config))["loss"]
    assert abs(ours.item() / theirs.item() - 1) < 1e-9
    ours.backward()
    theirs.backward()
    gradients = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    expected = dict(hf.load_authors_checkpoint(gradients).named_parameters())
    for name, parameter in product.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - expected[name]).norm() / expected[name].norm().clamp(min=1e-12)
        assert error < 1e-9, f"{name}: {error:.2e}"


def stepping(model: torch.nn.Module, loss: Step) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def run(benchmark, function: Callable[[], object], other: Callable[[], object], **info: float) -> None:
    seconds = interleaved({"ours": function, "theirs": other})
    benchmark.extra_info.update(info, speedup=seconds["theirs"] / seconds["ours"])
    benchmark.extra_info.update({f"{k}_per_s": v / seconds["ours"] for k, v in info.items() if k in RATES})
    benchmark.pedantic(function, rounds=3, warmup_rounds=0)


RATES = ("sequences", "clips", "frames")


def test_pretraining_step(benchmark, batch_size: int) -> None:
    gate()
    reference, product = cases.models()
    batch, capacity = cases.pretext_batch(cases.ntu_like(batch_size), product)
    dense = dense_batch(batch, product.encoder.config)
    ours: Step = lambda: product(batch, capacity)["loss"]  # noqa: E731
    theirs: Step = lambda: reference.pretrain(dense)["loss"]  # noqa: E731
    with PeakMemory() as memory:
        stepping(product, ours)()
    info = {
        "sequences": batch_size,
        "clips": capacity.clips + 2 * batch_size,
        "flops": flops(ours),
        "flops_ratio": flops(ours) / flops(theirs),
        "saved_bytes": saved_bytes(ours, product),
        "saved_bytes_ratio": saved_bytes(ours, product) / saved_bytes(theirs, reference),
        "peak_bytes": memory.peak,
    }
    run(benchmark, stepping(product, ours), stepping(reference, theirs), **info)


@pytest.mark.parametrize("level", range(1, len(LEVELS)), ids=LEVELS[1:])
def test_build_up(benchmark, batch_size: int, level: int) -> None:
    """The reference with the first savings, against the reference without them."""
    gate()
    reference, product = cases.models()
    batch, _ = cases.pretext_batch(cases.ntu_like(batch_size), product)
    better: BuildUp = cases.models()[0].set_level(level)
    ours: Step = lambda: better.pretrain_ragged(batch)["loss"]  # noqa: E731
    theirs: Step = lambda: reference.pretrain_ragged(batch)["loss"]  # noqa: E731
    run(benchmark, stepping(better, ours), stepping(reference, theirs), sequences=batch_size)


def test_recognition_step(benchmark, batch_size: int) -> None:
    """Two bodies, the second one's track as long as the first's."""
    gate()
    reference, product = cases.models()
    model = cases.recognizer(reference, product)
    lengths = torch.from_numpy(cases.ntu_like(batch_size)).repeat_interleave(2)
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    sample = torch.arange(batch_size).repeat_interleave(2)
    labels = sample[::2] % cases.CLASSES
    bodies = [torch.stack(pair) for pair in zip(*[iter(frames.split(lengths.tolist()))] * 2, strict=True)]
    counts = hf.encoder.clip_counts(lengths, product.encoder.windows())
    capacity = hf.Capacity(int(counts.sum()), int(counts.max()))
    ours: Step = lambda: fn.cross_entropy(model(frames, lengths, sample, batch_size, capacity), labels)  # noqa: E731
    theirs: Step = lambda: fn.cross_entropy(reference.recognize(bodies), labels)  # noqa: E731
    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    run(benchmark, stepping(model, ours), stepping(reference, theirs), sequences=2 * batch_size)


def test_encoder_forward(benchmark, batch_size: int) -> None:
    gate()
    reference, product = cases.models()
    lengths = torch.from_numpy(cases.ntu_like(batch_size))
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    bodies = [part[None] for part in frames.split(lengths.tolist())]
    counts = hf.encoder.clip_counts(lengths, product.encoder.windows())
    capacity = hf.Capacity(int(counts.sum()), int(counts.max()))
    with torch.inference_mode():
        run(
            benchmark,
            lambda: product.encoder(frames, lengths, capacity=capacity),
            lambda: reference.recognize(bodies),
            sequences=batch_size,
            clips=capacity.clips,
        )


def test_detection_stream(benchmark, request) -> None:
    """A class for every frame of an untrimmed stream, one body, on one core."""
    gate()
    total = 5000 if request.config.getoption("--full") else 300
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
                rounds=3,
            )
            ours, theirs = total / seconds["ours"], 100 / seconds["theirs on 100 frames"]
            benchmark.extra_info.update(frames_per_s=ours, speedup=ours / theirs)
            benchmark.pedantic(lambda: model(frames, lengths), rounds=1)
    finally:
        torch.set_num_threads(threads)


def test_latency(benchmark) -> None:
    """One sequence of 80 frames, forward."""
    gate()
    reference, product = cases.models()
    frames, lengths = cases.frames_of(80, torch.float32), torch.tensor([80])
    with torch.inference_mode():
        run(benchmark, lambda: product.encoder(frames, lengths), lambda: reference.recognize([frames[None]]), frames=80)
