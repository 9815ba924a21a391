"""Queries, keys and values from one packed weight.

On a GPU one product gives all three, and the attention reads them where they lie. On a CPU the gradients of three views
of one tensor first have to be copied into one again, which took a tenth of a training step; three products into three
tensors need no copy, and their gradients are added up by the products themselves (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

QKV = Tensor | tuple[Tensor, Tensor, Tensor]


def project_qkv(x: Tensor, weight: Tensor, heads: int, packed: bool) -> QKV:
    """x `[..., E]` and the packed weight `[3 * heads * D, E]` (queries, keys, values).

    To one tensor `[..., 3, heads, D]` if `packed`, else to three `[..., heads, D]`.
    """
    if packed:
        return linear(x, weight).unflatten(-1, (3, heads, -1))
    if torch.is_autocast_enabled(x.device.type):  # it casts `linear`, forward and backward alike
        parts = tuple(linear(x, w) for w in weight.chunk(3))
    else:
        parts = _ThreeProducts.apply(x, weight)
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in parts)
    return q, k, v


class _ThreeProducts(torch.autograd.Function):
    """y_i = x W_i^T for the three thirds W_i of a weight; dx = sum dy_i W_i, dW_i = dy_i^T x."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return tuple(linear(x, w) for w in weight.chunk(3))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = [g.flatten(0, -2) for g in grads]
        parts = weight.chunk(3)
        into_x = rows[0] @ parts[0]
        for row, part in zip(rows[1:], parts[1:], strict=True):
            into_x.addmm_(row, part)
        into_weight = torch.empty_like(weight)
        for row, out in zip(rows, into_weight.chunk(3), strict=True):
            torch.mm(row.T, x.flatten(0, -2), out=out)
        return into_x.view_as(x), into_weight
