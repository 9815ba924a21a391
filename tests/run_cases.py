"""A tiny labelled store, and what two runs on it must have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from training import pretrain, recognize
from training.checkpoint import load_checkpoint
from training.prepare import main as prepare

BEGUN_ANEW = ("time", "sequences_per_s", "clips_per_s", "step_s", "data_s", "fill", "memory_gb")
TRAIN = ["--batch-size", "4", "--device", "cpu"]
SIZES = {"widths": (8, 16, 32), "ffn": (8, 8, 16), "heads": 2, "head_dim": 4, "layers": 1}


def tiny_models(patch: pytest.MonkeyPatch) -> None:
    """Presets get a model whose steps take milliseconds."""
    preset = hf.HiTRSConfig.preset
    patch.setattr(hf.HiTRSConfig, "preset", lambda name, layout, **more: preset(name, layout, **(SIZES | more)))


def tiny_store(folder: Path, seed: int = 0) -> Path:
    """24 bodies of 5 joints that walk at random, of two classes."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(19, 26, 24)
    walk = rng.normal(size=(lengths.sum(), 5, 3)).cumsum(0) * 0.01
    number = np.arange(24)
    np.savez(
        folder / "a.npz", joints=walk.astype("float32"), lengths=lengths, labels=number % 2, subjects=number % 3,
        parents=np.arange(-1, 4),
    )  # fmt: skip
    path = folder / "a.zarr"
    prepare(["arrays", str(path), "--raw", str(folder / "a.npz"), "--split", "by-subject=subjects:1,2"])
    return path


def arguments(store: Path, run: Path, *more: str) -> list[str]:
    return ["--data", str(store), "--run", str(run), *TRAIN, *more]


def pretrained(store: Path, run: Path, *more: str) -> Path:
    pretrain.main(arguments(store, run, *more))
    return run


def recognized(store: Path, run: Path, *more: str) -> Path:
    recognize.main(arguments(store, run, *more))
    return run


def state_of(run: Path) -> dict[str, Any]:
    state = load_checkpoint(run, torch.device("cpu"))
    assert state is not None
    return state


def logged(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in BEGUN_ANEW} for line in lines]


def assert_same(ours: Path, theirs: Path) -> None:
    """Equal bits: weights, optimiser, counters, position, and every loss and metric of the log."""
    one, other = state_of(ours), state_of(theirs)
    assert one.pop("identity") == other.pop("identity")
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert logged(ours) == logged(theirs)
    for file in ("model.safetensors", "heads.safetensors"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()
