"""The pre-training input pipeline as a data set of samples has it: the baselines of `test_data.py`.

The rules are those of the authors' code (`PretextConfig()` and `AugmentConfig()`): one sample at a time is cropped,
augmented, corrupted and cut into windows, and a batch is padded to its longest sample. `PerSampleLoader` draws a
sample's numbers at once and compares its frames at once; `LoopLoader` goes through frames, joints and clips one by one,
as the rules are told in words.

Shape legend: T frames, J joints, C coordinates, K clips, w frames of a clip.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hitrs_fast.clips import Windows


@dataclass
class Item:
    corrupted: np.ndarray  # [T, J, C]
    target: np.ndarray  # [T, J, C]
    selected: np.ndarray  # [T, J] bool
    clips: np.ndarray  # [K, w] padded frame numbers
    order: np.ndarray  # [K - 1] with two clips swapped
    pair: np.ndarray  # [2, w] padded frame numbers of a clip and the same with two frames swapped
    moving: bool


class PerSampleLoader:
    """Batches of sequences of `frames` `[T_total, J, C]`, one sample after another."""

    def __init__(self, frames: np.ndarray, offsets: np.ndarray, windows: Windows, seed: int = 0) -> None:
        self.frames, self.offsets, self.windows = frames, offsets, windows
        self.rng = np.random.default_rng(seed)

    def batch(self, sequences: np.ndarray) -> dict[str, Tensor]:
        items = [self.item(self.frames[self.offsets[n] : self.offsets[n + 1]].copy()) for n in sequences.tolist()]
        longest, most = max(len(i.target) for i in items), max(len(i.clips) for i in items)
        return {
            "corrupted": _padded([i.corrupted for i in items], longest),
            "target": _padded([i.target for i in items], longest),
            "selected": _padded([i.selected for i in items], longest),
            "clips": _padded([i.clips for i in items], most),
            "order": _padded([i.order for i in items], most),
            "pair": torch.from_numpy(np.stack([i.pair for i in items])),
            "moving": torch.tensor([i.moving for i in items]),
            "lengths": torch.tensor([len(i.target) for i in items]),
        }

    def item(self, x: np.ndarray) -> Item:
        if self.rng.random() < 0.5:
            x = self.augmented(x)
        corrupted, selected = self.corrupted(x)
        clips = self.clips(len(x), self.windows.stride)
        pair, moving = self.pair(x)
        return Item(corrupted, x, selected, clips, self.order(len(clips) - 1), pair, moving)

    def augmented(self, x: np.ndarray) -> np.ndarray:
        rng, present = self.rng, (x != 0).any(-1, keepdims=True)
        operation = rng.integers(3)
        if operation == 0:
            x = x * np.float32(rng.uniform(0.8, 1.2))
        elif operation == 1:
            joints = rng.choice(x.shape[1], 5, replace=False)
            x[:, joints] += rng.uniform(-0.2, 0.2, (5, 3)).astype(np.float32)
        else:
            shear = rng.uniform(-0.5, 0.5, (3, 3)).astype(np.float32)
            np.fill_diagonal(shear, 1)
            x = x @ shear.T
        x = np.where(present, x, 0)
        if rng.random() < 0.5:
            cut = round(len(x) * rng.uniform(0, 0.2))
            first = rng.integers(cut + 1)
            return x[first : len(x) - (cut - first)]
        x[:-1] += np.float32(rng.random()) * (x[1:] - x[:-1])
        return x

    def corrupted(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng, (frames, joints, _) = self.rng, x.shape
        selected, out = rng.random((frames, joints)) < 0.15, x.copy()
        for t, j in np.argwhere(selected).tolist():
            kind = rng.random()
            if kind < 0.8:
                out[t, j] = 1
            elif kind < 0.9:
                other = (t + 1 + rng.integers(frames - 1)) % frames
                out[t, j] = x[other, (j + 1 + rng.integers(joints - 1)) % joints]
        return out, selected

    def clips(self, frames: int, stride: int) -> np.ndarray:
        window, _, dilate = self.windows
        padded = frames + 2 * self.windows.pad
        clips = []
        for start in range(0, padded, stride):
            clips.append([min(start + k * dilate, padded - 1) for k in range(window)])
            last = start + (window - 1) * dilate
            if last >= padded - self.windows.pad - 1 and last + stride >= padded:
                break
        return np.array(clips)

    def order(self, shown: int) -> np.ndarray:
        order = np.arange(shown)
        if shown >= 2:
            first, second = self.two(shown)
            order[[first, second]] = order[[second, first]]
        return order

    def two(self, count: int) -> tuple[int, int]:
        """Two places at a distance of at least two, or of one where there are only two."""
        while True:
            first, second = self.rng.integers(count, size=2)
            if abs(first - second) >= min(2, count - 1):
                return first, second

    def pair(self, x: np.ndarray) -> tuple[np.ndarray, bool]:
        candidates = self.moving(x, self.clips(len(x), 1))
        clip = candidates[self.rng.integers(len(candidates))] if candidates else self.clips(len(x), 1)[0]
        first, second = self.two(len(clip))
        swapped = clip.copy()
        swapped[[first, second]] = clip[[second, first]]
        return np.stack([clip, swapped]), bool(candidates)

    def moving(self, x: np.ndarray, clips: np.ndarray) -> list[np.ndarray]:
        """The clips in which a frame differs from the one before it."""
        moves = np.zeros(len(x) + 2 * self.windows.pad, bool)
        moves[self.windows.pad + 1 : self.windows.pad + len(x)] = (x[1:] != x[:-1]).any((1, 2))
        return list(clips[moves[clips].any(1)])


class LoopLoader(PerSampleLoader):
    """The same by loops."""

    def corrupted(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frames, joints, _ = x.shape
        selected, out = np.zeros((frames, joints), bool), x.copy()
        for t in range(frames):
            for j in range(joints):
                if random.random() >= 0.15:
                    continue
                selected[t, j] = True
                kind = random.random()
                if kind < 0.8:
                    out[t, j] = 1
                elif kind < 0.9:
                    other = (t + random.randrange(1, frames)) % frames
                    out[t, j] = x[other, (j + random.randrange(1, joints)) % joints]
        return out, selected

    def moving(self, x: np.ndarray, clips: np.ndarray) -> list[np.ndarray]:
        distance = np.abs(np.diff(x, axis=0, prepend=x[:1])).sum((1, 2))
        found = []
        for clip in clips:
            inside = [f - self.windows.pad for f in clip if 0 < f - self.windows.pad < len(x)]
            if sum(distance[t] for t in inside) > 0:
                found.append(clip)
        return found


def _padded(arrays: list[np.ndarray], length: int) -> Tensor:
    out = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)
