"""A store of streams in which bodies stand, rise and wave, made from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from helpers import layout, tiny_config

import hitrs_fast as hf
from training import detect
from training.data.records import Sample, Sequence, Source
from training.data.writer import write_store

CLASSES = ("background", "rising", "waving")
LAYOUT = layout(5)


class StreamReader:
    """Streams s0, s1 ... of subjects 0, 1 ...; every third one is of two bodies, of which the second comes late."""

    def __init__(self, streams: int = 6, frames: int = 150, fps: float = 8.0, **more: object) -> None:
        names = [f"s{n}" for n in range(streams)]
        settings = {"splits": {"even": names[::2]}, "classes": list(CLASSES)} | more
        self.source = Source(layout=LAYOUT, fps=fps, reader="streams", path="raw", **settings)  # type: ignore[arg-type]
        self.skipped: list[tuple[str, str]] = []
        self.samples = [stream(n, frames) for n in range(streams)]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self):
        return iter(self.samples)


def stream(number: int, frames: int) -> Sample:
    rng = np.random.default_rng(number)
    segments, first = [], 8 + 3 * number
    while first + 20 < frames:
        segments.append((1 + len(segments) % 2, first, first + 15))
        first += 24
    sequences = [Sequence(joints(frames, segments, rng), body=1)]
    if number % 3 == 2:
        late = joints(frames, segments, rng)[10:] + np.float32(1)
        late[30:34] = 0  # hidden for a while
        sequences.append(Sequence(late, body=2, first_frame=10))
    return Sample(f"s{number}", frames, sequences, subject=number, segments=segments)


def joints(frames: int, segments: list[tuple[int, int, int]], rng: np.random.Generator) -> np.ndarray:
    """`[T, 5, 3]` float32: all joints rise by 0.1 m a frame, or the last two go to and fro."""
    pose = np.random.default_rng(0).normal(loc=(0, 0, 3), size=(5, 3))
    out = np.repeat(pose[None], frames, 0) + 0.01 * rng.normal(size=(frames, 5, 3))
    for label, first, end in segments:
        steps = np.arange(end - first)
        if label == 1:
            out[first:end, :, 1] += 0.1 * steps[:, None]
        else:
            out[first:end, 3:, 0] += 0.5 * (-1.0) ** steps[:, None]
    return out.astype(np.float32)


def make(folder: Path, **options: object) -> Path:
    path = folder / "streams.zarr"
    write_store(path, StreamReader(**options))  # type: ignore[arg-type]
    return path


def encoder(folder: Path) -> Path:
    """The encoder of a small run, which moves as the motion stream does."""
    torch.manual_seed(0)
    hf.HiTRS(tiny_config(stream="motion", center=True, dropout=0.0)).save_pretrained(folder)
    return folder


def detector(store: Path, init: Path, folder: Path) -> Path:
    """A detector that has learnt."""
    how = ["--device", "cpu", "--epochs", "40", "--lr", "0.02", "--batch-size", "8"]
    detect.main(["--data", str(store), "--init", str(init), "--run", str(folder), *how])
    return folder
