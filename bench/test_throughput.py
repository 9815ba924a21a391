"""Throughput beside the dense reference: first the same numbers in float64, then the time.

`extra_info` holds the comparison: `speedup` is the ratio of medians of interleaved rounds; operations and bytes are of
one step (or forward) of the product.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

import hitrs_fast as hf

from . import cases
from .buildup import LEVELS
from .gate import gate
from .measure import as_the_system_allocates, costs, interleaved

Step = Callable[[], Tensor]
OBSERVED = 60  # frames that prediction sees, 2 s of NTU RGB+D


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    gate()


def stepping(model: nn.Module, loss: Step) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def compare(benchmark, rounds: int, ours: Callable[[], object], theirs: Callable[[], object], **info: float) -> None:
    record(benchmark, interleaved({"product": ours, "reference": theirs}, rounds), **info)
    benchmark.pedantic(ours, rounds=rounds)


def record(benchmark, seconds: dict[str, float], **info: float) -> None:
    rates = {
        f"{name}_per_s": info[name] / seconds["product"] for name in ("sequences", "clips", "frames") if name in info
    }
    speedup = seconds["reference"] / seconds["product"]
    benchmark.extra_info.update(info, seconds=seconds, speedup=speedup, **rates)


def test_pretraining_step(benchmark, batch_size: int, rounds: int) -> None:
    """Forward and backward, beside the reference and each level of the build-up, all in turn."""
    reference, product = cases.models()
    batch, capacity = cases.pretext_batch(cases.ntu_like(batch_size), product)
    loss: Step = lambda: product(batch, capacity)["loss"]  # noqa: E731
    ours = stepping(product, loss)

    def at_level(level: int) -> Callable[[], None]:
        return stepping(reference, lambda: reference.set_level(level).pretrain_ragged(batch)["loss"])

    levels = {name: at_level(i) for i, name in enumerate(LEVELS)}
    plain = {"reference, system's allocator": as_the_system_allocates(at_level(0))}
    seconds = interleaved({"product": ours} | levels | plain, rounds)
    clips = capacity.clips + 2 * batch_size
    record(benchmark, seconds, sequences=batch_size, clips=clips, **costs(ours, loss, product))
    benchmark.pedantic(ours, rounds=rounds)


def test_recognition_step(benchmark, batch_size: int, rounds: int) -> None:
    """Two bodies, the second one's track as long as the first's."""
    reference, product = cases.models()
    model = cases.recognizer(reference, product)
    lengths = cases.lengths_of(batch_size).repeat_interleave(2)
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    sample = torch.arange(batch_size, device=frames.device).repeat_interleave(2)
    labels = sample[::2] % cases.CLASSES
    bodies = [torch.stack(pair) for pair in zip(*[iter(frames.split(lengths.tolist()))] * 2, strict=True)]
    capacity = cases.capacity_of(lengths, product.encoder)
    loss: Step = lambda: fn.cross_entropy(model(frames, lengths, sample, batch_size, capacity), labels)  # noqa: E731
    ours = stepping(model, loss)

    def theirs() -> float:
        """16 recordings at a time: 32 padded ones with two bodies each do not fit 24 GB."""
        reference.zero_grad(set_to_none=True)
        total = 0.0
        for some, wanted in zip([bodies[i : i + 16] for i in range(0, batch_size, 16)], labels.split(16), strict=True):
            part = fn.cross_entropy(reference.recognize(some), wanted, reduction="sum") / batch_size
            part.backward()
            total += part.item()
        return total

    assert abs(theirs() / loss().item() - 1) < 1e-4
    info = {"sequences": 2 * batch_size, "clips": capacity.clips} | costs(ours, loss, model)
    compare(benchmark, rounds, ours, theirs, **info)


def test_prediction_step(benchmark, batch_size: int, rounds: int) -> None:
    """One body, 60 frames seen and 12 predicted; the reference's encoder with the same decoder."""
    reference, product = cases.models()
    model = hf.MotionPredictor(product.encoder).to(cases.DEVICE).eval()
    seen = cases.frames_of(batch_size * OBSERVED, torch.float32).unflatten(0, (batch_size, OBSERVED))
    lengths = torch.full((batch_size,), OBSERVED, device=cases.DEVICE)
    capacity = cases.capacity_of(lengths, product.encoder)
    loss: Step = lambda: model(seen.flatten(0, 1), lengths, capacity=capacity).square().mean()  # noqa: E731
    bodies = [x[None] for x in seen]
    theirs: Step = lambda: model.decode(reference.embed(bodies)[:, 0], seen[:, -1], 12).square().mean()  # noqa: E731
    torch.testing.assert_close(loss(), theirs(), rtol=1e-4, atol=1e-4)
    ours = stepping(model, loss)
    info = {"sequences": batch_size, "clips": capacity.clips} | costs(ours, loss, model)
    compare(benchmark, rounds, ours, stepping(reference, theirs), **info)


def test_encoder_forward(benchmark, batch_size: int, rounds: int) -> None:
    reference, product = cases.models()
    lengths = cases.lengths_of(batch_size)
    frames = cases.frames_of(int(lengths.sum()), torch.float32)
    bodies = [part[None] for part in frames.split(lengths.tolist())]
    capacity = cases.capacity_of(lengths, product.encoder)
    with torch.inference_mode():
        ours = lambda: product.encoder(frames, lengths, capacity=capacity)  # noqa: E731
        info = {"sequences": batch_size, "clips": capacity.clips} | costs(ours, ours, product)
        compare(benchmark, rounds, ours, lambda: reference.embed(bodies), **info)


def test_detection_stream(benchmark, request, rounds: int, one_core: None) -> None:
    """A class for every frame of an untrimmed stream, one body, on one core; the reference on its first 100 frames."""
    total, some = (5000 if request.config.getoption("--full") else 200), 100
    reference, product = cases.models()
    model = hf.FrameClassifier(product.encoder, classes=52).to(cases.DEVICE).eval()
    frames, lengths = cases.frames_of(total, torch.float32), torch.tensor([total], device=cases.DEVICE)
    dense = lambda: reference.detect(frames[:some], model.classifier, model.dilate)  # noqa: E731
    with torch.inference_mode():
        ours = lambda: model(frames, lengths)  # noqa: E731
        begin = model(frames[:some], torch.tensor([some], device=cases.DEVICE))
        torch.testing.assert_close(begin, dense(), rtol=1e-4, atol=1e-4)
        seconds = interleaved({"product": ours, "reference": dense}, rounds)
        seconds["reference"] *= total / some
        record(benchmark, seconds, frames=total, clips=total, **costs(ours, ours, model))
        benchmark.pedantic(ours, rounds=1)


def test_latency(benchmark, rounds: int) -> None:
    """One sequence of 80 frames, forward."""
    reference, product = cases.models()
    frames, lengths = cases.frames_of(80, torch.float32), torch.tensor([80], device=cases.DEVICE)
    with torch.inference_mode():
        ours, theirs = lambda: product.encoder(frames, lengths), lambda: reference.embed([frames[None]])
        compare(benchmark, 10 * rounds, ours, theirs, frames=80, **costs(ours, ours, product))
