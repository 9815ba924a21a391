"""The feed-forward block of a pre-LN layer: the public function, its registration and its launches.

Shape legend: N tokens in all, E width of a token, HIDDEN width of the hidden layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .dispatch import launching_on, misfit, operand_dtype, padded, uses_triton
from .linear_gelu import linear_gelu

LARGEST = 256  # hidden channels of a tile of tokens that stay on chip


def gelu_mlp(
    h: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    p: float = 0.0,
    seed: Tensor | None = None,
    eps: float = 1e-5,
    impl: str = "auto",
) -> Tensor:
    """h + Drop_p(W_out GELU(W_in LayerNorm(h) + b_in) + b_out), GELU by erf; `[..., E]` to the same shape and dtype.

    w_in `[HIDDEN, E]`, w_out `[E, HIDDEN]`. With kernels the hidden layer does not reach memory in the forward, and the
    backward computes it again: nothing but the inputs is kept. They hold up to 256 hidden channels; wider blocks run by
    `linear_gelu` and torch. Matrix products are in the weights' dtype, or autocast's; all else is in float32.

    With probability `p` an element of the block's result is dropped, by Philox from `seed`, an int64 tensor of one
    element (`draw_seed`); `dropout_mask` reads it back. Without kernels torch draws the mask and `seed` is not read.

    Raises ValueError for p outside [0, 1), for shapes that do not fit, and for p > 0 without a seed where a kernel
    needs one.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}; a probability of dropout lies in [0, 1)")
    hidden, width = w_in.shape
    if h.shape[-1] != width or w_out.shape != (width, hidden) or b_in.shape != (hidden,) or b_out.shape != (width,):
        raise misfit(h=h, w_in=w_in, b_in=b_in, w_out=w_out, b_out=b_out)
    if norm_weight.shape != (width,) or norm_bias.shape != (width,):
        raise ValueError(f"norm_weight and norm_bias must have {width} elements")
    weights = (norm_weight, norm_bias, w_in, b_in, w_out, b_out)
    if not uses_triton(impl, h):
        return reference.gelu_mlp(h, *weights, p, eps=eps)
    if w_in.shape[0] > LARGEST:
        return _by_parts(h, weights, p, eps)
    if p > 0 and seed is None:
        raise ValueError("dropout needs a seed: pass draw_seed(h.device)")
    dtype = operand_dtype(h.device, w_in)
    w_in, w_out = w_in.to(dtype), w_out.to(dtype)
    rows = h.reshape(-1, h.shape[-1]).contiguous()
    drop = (p, seed if p > 0 else None, eps)
    return torch.ops.hitrs_fast.gelu_mlp(rows, norm_weight, norm_bias, w_in, b_in, w_out, b_out, *drop).view(h.shape)


def draw_seed(device: torch.device) -> Tensor:
    """A seed for dropout, `[1]` int64, from torch's generator of the device: saved and restored with the others."""
    return torch.randint(2**62, (1,), device=device)


def _by_parts(h: Tensor, weights: tuple[Tensor, ...], p: float, eps: float) -> Tensor:
    norm_weight, norm_bias, w_in, b_in, w_out, b_out = weights
    normed = torch.nn.functional.layer_norm(h, h.shape[-1:], norm_weight, norm_bias, eps)
    z = torch.nn.functional.linear(linear_gelu(normed, w_in, b_in, impl="triton"), w_out, b_out)
    return h + torch.nn.functional.dropout(z, p).to(h.dtype)


def dropout_mask(seed: Tensor, rows: int, width: int, p: float) -> Tensor:
    """What `gelu_mlp` keeps of `[rows, width]` at this seed `[1]` and dropout `p`, bool; needs Triton."""
    import triton

    from .mlp_kernels import dropout_keep

    out = torch.empty(rows, width, dtype=torch.bool, device=seed.device)
    with launching_on(seed):
        dropout_keep[(triton.cdiv(rows, 16),)](seed, out, rows, _threshold(p), E=width, EP=padded(width), BLOCK=16)
    return out


def _threshold(p: float) -> int:
    """Of 31 random bits: those below it are dropped."""
    return round(p * 2**31)


def _sizes(w_in: Tensor, p: float) -> dict[str, Any]:
    """BLOCK tokens a program: as many as the registers hold beside the hidden layer."""
    hidden, width = w_in.shape
    block = 64 if w_in.dtype != torch.float32 and hidden <= 128 else 16
    return {"E": width, "HIDDEN": hidden, "DROP": p > 0, "HP": padded(hidden), "BLOCK": block}


@torch.library.custom_op("hitrs_fast::gelu_mlp", mutates_args=())
def _gelu_mlp(
    h: Tensor, norm_weight: Tensor, norm_bias: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor,
    p: float, seed: Tensor | None, eps: float,
) -> Tensor:  # fmt: skip
    from .mlp_kernels import mlp_forward

    out = torch.empty_like(h)
    if len(h):
        weights = (t.contiguous() for t in (norm_weight, norm_bias, w_in, b_in, w_out, b_out))
        arguments = (h, *weights, seed, out)
        sizes = _sizes(w_in, p)
        programs = -(-len(h) // sizes["BLOCK"])
        with launching_on(h):
            mlp_forward[(programs,)](*arguments, len(h), eps, _threshold(p), 1 / (1 - p), **sizes)
    return out


@torch.library.custom_op("hitrs_fast::gelu_mlp_backward", mutates_args=())
def _gelu_mlp_backward(
    grad: Tensor, h: Tensor, norm_weight: Tensor, norm_bias: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor,
    b_out: Tensor, p: float, seed: Tensor | None, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of h and of the six weights, in this order."""
    from .mlp_kernels import mlp_backward

    rows, (hidden, width) = len(h), w_in.shape
    if rows == 0:
        return tuple(torch.zeros_like(t) for t in (h, norm_weight, norm_bias, w_in, b_in, w_out, b_out))  # type: ignore[return-value]
    grad, w_in, w_out, b_in = (t.contiguous() for t in (grad, w_in, w_out, b_in))
    norm_weight, norm_bias = norm_weight.contiguous(), norm_bias.contiguous()
    grad_h = torch.empty_like(h)
    normal, (g, grad_a) = w_in.new_empty(rows, width), w_in.new_empty(2, rows, hidden)
    grad_z = w_in.new_empty(rows, width) if p > 0 or grad.dtype != w_in.dtype else None
    with torch.autocast(h.device.type, enabled=False):
        along = w_in.float() @ norm_weight.float()
        shift = b_in.float() + w_in.float() @ norm_bias.float()
    sizes = _sizes(w_in, p)
    programs = -(-rows // sizes["BLOCK"])
    sums = [torch.empty(programs, size, device=h.device) for size in (hidden, width)]
    with launching_on(h):
        mlp_backward[(programs,)](
            h, norm_weight, norm_bias, w_in, b_in, w_out, seed, along, shift, grad, grad_h, normal, g, grad_a, grad_z,
            *sums, rows, eps, _threshold(p), 1 / (1 - p), **sizes,
        )  # fmt: skip
    b1, b2 = (s.sum(0) for s in sums)
    # LayerNorm is linear in gamma and beta, so what they need is in the first product's gradient already.
    before = (grad_a.T @ normal).float()  # the gradient of W_in, were gamma 1 and beta 0
    gamma, beta = (w_in.float() * before).sum(0), (w_in.float() * b1[:, None]).sum(0)
    grad_w_in = before * norm_weight.float() + b1[:, None] * norm_bias.float()
    grad_w_out = (grad if grad_z is None else grad_z).T @ g
    like = (norm_weight, norm_bias, w_in, b_in, w_out, b_out)
    grads = (gamma, beta, grad_w_in, b1, grad_w_out, b2)
    return grad_h, *(t.to(weight.dtype) for t, weight in zip(grads, like, strict=True))  # type: ignore[return-value]


@_gelu_mlp.register_fake
def _(h: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(h)


@_gelu_mlp_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in inputs[:7])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.p, seed, ctx.eps = inputs
    ctx.save_for_backward(*tensors, seed)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, seed = ctx.saved_tensors
    return *torch.ops.hitrs_fast.gelu_mlp_backward(grad, *tensors, ctx.p, seed, ctx.eps), None, None, None


_gelu_mlp.register_autograd(_gradient, setup_context=_keep)
