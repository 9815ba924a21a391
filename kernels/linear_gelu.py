"""A projection with bias and GELU: the public function, its registration and its launches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .dispatch import launching_on, misfit, operand_dtype, uses_triton

TILE = (64, 64)  # rows and channels of a program of the backward


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, impl: str = "auto") -> Tensor:
    """GELU(x W^T + b), GELU by erf: x `[..., E]`, W `[HIDDEN, E]`, b `[HIDDEN]` to `[..., HIDDEN]`, any sizes.

    The result and the products are in autocast's dtype, or else the weight's. The kernel keeps a = x W^T + b for the
    backward: to compute it again would be a second product of the same cost. Raises ValueError for shapes that do not
    fit.
    """
    if not uses_triton(impl, x):
        return reference.linear_gelu(x, weight, bias)
    if x.shape[-1] != weight.shape[1] or bias.shape != weight.shape[:1]:
        raise misfit(x=x, weight=weight, bias=bias)
    dtype = operand_dtype(x.device, weight)
    rows = x.reshape(-1, x.shape[-1]).to(dtype).contiguous()
    out, _ = torch.ops.hitrs_fast.linear_gelu(rows, weight.to(dtype), bias)
    return out.view(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("hitrs_fast::linear_gelu", mutates_args=())
def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    from .linear_gelu_kernels import linear_gelu_forward

    rows, (hidden, width) = len(x), weight.shape
    out, a = x.new_empty(rows, hidden), x.new_empty(rows, hidden)

    def grid(meta: dict[str, Any]) -> tuple[int, int]:
        return -(-rows // meta["BLOCK"]), -(-hidden // meta["COLUMNS"])

    if rows:
        with launching_on(x):
            linear_gelu_forward[grid](x, weight.contiguous(), bias.contiguous(), out, a, rows, E=width, HIDDEN=hidden)
    return out, a


@torch.library.custom_op("hitrs_fast::linear_gelu_backward", mutates_args=())
def _linear_gelu_backward(grad: Tensor, a: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a and of the bias."""
    from .linear_gelu_kernels import linear_gelu_backward

    rows, hidden = a.shape
    block, columns = TILE
    grid = -(-rows // block), -(-hidden // columns)
    grad_a = torch.empty_like(a)
    sums = torch.empty(grid[0], hidden, device=a.device)
    if rows:
        sizes = {"HIDDEN": hidden, "BLOCK": block, "COLUMNS": columns}
        with launching_on(a):
            linear_gelu_backward[grid](grad.contiguous(), a, grad_a, sums, rows, **sizes)
    return grad_a, sums.sum(0).to(bias.dtype)


@_linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], weight.shape[0])
    return x.new_empty(shape), x.new_empty(shape)


@_linear_gelu_backward.register_fake
def _(grad: Tensor, a: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(bias)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # nobody asks for the gradient of a
    ctx.save_for_backward(*inputs, output[1])


def _gradient(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    x, weight, bias, a = ctx.saved_tensors
    grad_a, grad_bias = torch.ops.hitrs_fast.linear_gelu_backward(grad, a, bias)
    return grad_a @ weight, grad_a.T @ x, grad_bias


_linear_gelu.register_autograd(_gradient, setup_context=_keep)
