"""Operations and memory at batch 256, counted without computing (FakeTensorMode): the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from . import cases
from .measure import flops, saved_bytes
from .reference import dense_batch


def counted(function: Callable[[Any], Any], inputs: Any, model: torch.nn.Module) -> tuple[int, int]:
    """(forward operations, bytes saved for the backward) of `function(inputs)`."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = tree_map_only(torch.Tensor, mode.from_tensor, inputs)
        return flops(lambda: function(fake)), saved_bytes(lambda: function(fake), model)


def of_product(lengths: np.ndarray) -> tuple[int, int]:
    _, product = cases.models()
    batch, capacity = cases.pretext_batch(lengths, product)
    return counted(lambda x: product(x, capacity)["loss"], batch, product)


def test_operations_and_memory_of_a_pretraining_step(benchmark) -> None:
    lengths = cases.ntu_like(256)
    reference, product = cases.models()
    batch, _ = cases.pretext_batch(lengths, product)
    dense = dense_batch(batch, product.encoder.config)
    ours = of_product(lengths)
    theirs = counted(lambda x: reference.pretrain(x)["loss"], dense, reference)
    info = {
        "forward_tflop": ours[0] / 1e12,
        "flops_ratio": ours[0] / theirs[0],
        "saved_gib": ours[1] / 2**30,
        "saved_bytes_ratio": ours[1] / theirs[1],
    }
    benchmark.extra_info.update(info)
    benchmark.pedantic(lambda: None)
    assert info["flops_ratio"] <= 0.23 and info["saved_bytes_ratio"] <= 0.30, info


@pytest.mark.parametrize("what", ["batch", "length"])
def test_cost_grows_linearly(what: str) -> None:
    """Twice the sequences, or sequences twice as long, cost twice as much, to 5 %."""
    if what == "batch":
        small, large = np.full(32, 84), np.full(64, 84)
    else:
        small, large = np.full(32, 140), np.full(32, 280)
    for one, two in zip(of_product(small), of_product(large), strict=True):
        # Clip pairs are drawn per sequence, so they do not grow with the length.
        assert (1.7 if what == "length" else 1.95) < two / one < 2.05
