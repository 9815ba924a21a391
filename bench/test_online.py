"""Online detection: how long a frame takes, and whole recordings in bounded memory. `paper` preset, one body, one core.

First the same scores by all three ways, then the time.
"""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from hitrs_fast.online import Detector
from hitrs_fast.scoring import Track, score_stream
from training.frame_lines import Frame
from training.live import Watch
from training.metrics.segments import GROUPINGS

from . import cases
from .measure import PeakMemory, interleaved, resident_bytes

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def model() -> hf.FrameClassifier:
    torch.manual_seed(0)
    return hf.FrameClassifier(hf.HiTRS(hf.HiTRSConfig.paper()), classes=52).to(cases.DEVICE).eval()


def in_one_call(model: hf.FrameClassifier, frames: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(frames, torch.tensor([len(frames)], device=frames.device)).softmax(-1)


def test_latency_of_a_frame(benchmark, request, model: hf.FrameClassifier) -> None:
    """From a pose to the scores that it completes; `extra_info` has milliseconds."""
    total = 3000 if request.config.getoption("--full") else 200
    frames = cases.frames_of(total, torch.float32)
    poses, detector = frames.cpu().numpy(), Detector(model)
    milliseconds, found = [], []
    for pose in poses:
        begin = time.perf_counter()
        found += detector.push([pose])
        if found:
            found[-1].probabilities.cpu()  # waits for the device
        milliseconds.append(1e3 * (time.perf_counter() - begin))
    scores = torch.stack([d.probabilities for d in found + detector.flush()])
    torch.testing.assert_close(scores[:100], in_one_call(model, frames[:112])[:100], rtol=0, atol=1e-5)
    for pose in poses[: detector.delay]:
        detector.push([pose])
    settled = milliseconds[2 * detector.delay :]
    benchmark.extra_info.update(median_ms=float(np.median(settled)), p99_ms=float(np.percentile(settled, 99)))
    benchmark.pedantic(lambda: detector.push([poses[0]]), rounds=20)


def test_memory_of_an_endless_stream(benchmark, request) -> None:
    """Detector and segments over 100,000 frames (--full), as --live runs them: people come and go, frames are dropped.

    A small encoder: what grows does so by frames, not by widths.
    """
    total = 100_000 if request.config.getoption("--full") else 2_000
    config = hf.HiTRSConfig.paper(widths=(8, 16, 32), ffn=(8, 8, 16), heads=2, head_dim=4)
    watching = Watch(hf.FrameClassifier(hf.HiTRS(config), 4), list("abcd"), 30.0, GROUPINGS["argmax"])
    poses = cases.frames_of(60, torch.float32).cpu().numpy()

    def watch(begin: int, end: int) -> int:
        for n in range(begin, end):
            bodies = {"stays": poses[n % 60], f"guest {n // 40}": poses[-n % 60]}
            watching.push(Frame(bodies, None, (n + n // 7 + 50 * (n // 5000)) / 30))
        gc.collect()
        return resident_bytes()

    settled = watch(0, total // 10)
    grown = watch(total // 10, total) - settled
    benchmark.extra_info.update(frames=watching.frames, grown_bytes=grown)
    assert watching.frames > 0.99 * total and grown < 1e6
    benchmark.pedantic(lambda: watch(total, total + 20), rounds=1)


def test_a_recording_in_chunks(benchmark, request, rounds: int, model: hf.FrameClassifier) -> None:
    """Beside one call of the model, whose memory grows with the recording: 3.6 GB at 1,500 frames."""
    total, some = (5000, 1500) if request.config.getoption("--full") else (200, 200)
    frames = cases.frames_of(total, torch.float32)
    chunked = lambda: score_stream(model, [Track(frames[:some])])  # noqa: E731
    whole = lambda: in_one_call(model, frames[:some])  # noqa: E731
    torch.testing.assert_close(chunked().probabilities, whole(), rtol=0, atol=1e-6)
    seconds = interleaved({"product": chunked, "reference": whole}, rounds)
    peaks = {}
    for name, step in (("chunked", lambda: score_stream(model, [Track(frames)])), ("whole", whole)):
        with PeakMemory() as memory:
            step()
        peaks[f"{name}_peak_bytes"] = memory.peak
    rates = {"frames_per_s": some / seconds["product"], "whole_frames_per_s": some / seconds["reference"]}
    benchmark.extra_info.update(frames=total, whole_frames=some, **rates, **peaks)
    benchmark.pedantic(chunked, rounds=1)
