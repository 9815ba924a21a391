"""The README's picture of the demo data, a row an action: `python -m bench.demo_sheet OUT.png`."""

from __future__ import annotations

import sys

import numpy as np

from training.data.draw import contact_sheet
from training.data.records import Sample
from training.data.synthetic import DemoReader


def draw(path: str) -> None:
    """Of each action, the sample that shows most movement."""
    reader = DemoReader()
    best: dict[int, Sample] = {}
    for sample in (s for s in reader if 75 <= s.frames <= 100):
        best[sample.label] = max(sample, best.get(sample.label, sample), key=movement)
    contact_sheet([best[label] for label in sorted(best)], reader.source.layout, path, 10, reader.source.classes)


def movement(sample: Sample) -> float:
    """How far the first body's joints move across the picture, in metres, summed."""
    return float(np.ptp(sample.sequences[0].joints[..., :2], axis=0).sum())


if __name__ == "__main__":
    draw(sys.argv[1])
