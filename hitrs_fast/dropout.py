"""Dropout that does not hold a CPU up.

torch draws a CPU's dropout mask one number after another on a single thread. Here one 64-bit number serves four
elements, which saves a seventh of a training step of the `small` preset on two cores (docs/performance.md). On other
devices, and under torch.compile, which draws in parallel, torch's own is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

_STEPS = 1 << 16  # probabilities come in 65,536ths


class Dropout(nn.Module):
    """Zeroes elements with probability `p` (to 1/65,536) and scales the others so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return fn.dropout(x, self.p)
        dropped = round(self.p * _STEPS)
        kept = _random_int16(x.shape) >= dropped - _STEPS // 2
        return x * kept.to(x.dtype).mul_(_STEPS / (_STEPS - dropped))


def _random_int16(shape: torch.Size) -> Tensor:
    """Uniform over all int16 values, from torch's default generator."""
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:count].view(shape)
