"""Time and memory of a pre-training step against batch size and sequence length: `python -m bench.scaling OUT.png`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

import hitrs_fast as hf

from . import cases
from .measure import PeakMemory, interleaved
from .test_throughput import stepping

BATCHES, LENGTHS = (4, 8, 16, 32), (40, 80, 160, 300)


def _loss(model: hf.Pretraining, batch: hf.PretextBatch, capacity: hf.Capacity) -> Tensor:
    return model(batch, capacity)["loss"]


def measured(lengths: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """Median seconds and peak MiB of a step (forward and backward) on each batch, the batches taking turns."""
    _, product = cases.models()
    steps = []
    for each in lengths:
        batch, capacity = cases.pretext_batch(each, product)
        steps.append(stepping(product, partial(_loss, product, batch, capacity)))
    seconds = interleaved({str(i): step for i, step in enumerate(steps)}, rounds=5)
    peaks = []
    for step in steps:
        with PeakMemory() as memory:
            step()
        peaks.append(memory.peak / 2**20)
    return list(seconds.values()), peaks


def draw(out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    panels = (
        ("sequences of 80 frames", BATCHES, [np.full(b, 80) for b in BATCHES]),
        ("frames of each of 8 sequences", LENGTHS, [np.full(8, t) for t in LENGTHS]),
    )
    for axes, (title, sizes, lengths) in zip(figure.subplots(1, 2), panels, strict=True):
        seconds, peaks = measured(lengths)
        for size, second, peak in zip(sizes, seconds, peaks, strict=True):
            print(f"{size:4d} {title}: {second:.3f} s, {peak:.0f} MiB")
        axes.plot(sizes, seconds, "o-")
        axes.set(xlabel=title, ylabel="seconds a step", xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        memory = axes.twinx()
        memory.plot(sizes, peaks, "s--", color="tab:orange")
        memory.set(ylabel="peak MiB (dashed)", ylim=(0, None))
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    draw(Path(sys.argv[1]))
