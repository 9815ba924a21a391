"""One query's attention over all tokens of a sequence: the public function, its registration and its launches.

Shape legend: N sequences or clips, S tokens of each, H heads, D width of a head, E width of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .dispatch import launching_on, misfit, operand_dtype, padded, uses_triton

LARGEST = 512  # channels whose tile of 16 tokens fits the shared memory of all GPUs since sm_80


def pooled_attention(
    query: Tensor,
    tokens: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    visible: Tensor | None = None,
    eps: float = 1e-5,
    impl: str = "auto",
) -> Tensor:
    """softmax(q . W_k n / sqrt(D)) W_v n with n = LayerNorm(tokens), for one query a sequence.

    query `[N, H, D]`; tokens `[N, S, E]` before LayerNorm; w_k, w_v `[H, D, E]`; visible bool `[N, S]`, at least one in
    each row; gives `[N, H, D]`. The projections are absorbed, so the tokens are read once and no key or value is made:
    with n = gamma n^ + beta, the scores are (gamma W_k^T q) . n^ and a constant, which a softmax does not see, and the
    result is W_v (gamma sum a n^ + beta). The kernel makes sum a n^ of the tokens as they are, up to 512 wide.

    Raises ValueError for shapes that do not fit, and for wider tokens where the kernel is meant.
    """
    if not uses_triton(impl, tokens):
        return reference.pooled_attention(query, tokens, norm_weight, norm_bias, w_k, w_v, visible, eps)
    if w_k.shape[-1] > LARGEST:
        raise ValueError(f'tokens are {w_k.shape[-1]} wide, and the kernel takes {LARGEST}: choose impl="reference"')
    (count, _, width), (heads, dim) = tokens.shape, query.shape[1:]
    fits = query.shape[0] == count and w_k.shape == w_v.shape == (heads, dim, width)
    if not fits:
        raise misfit(query=query, tokens=tokens, w_k=w_k, w_v=w_v)
    if visible is not None and visible.shape != tokens.shape[:2]:
        raise misfit(tokens=tokens, visible=visible)
    dtype = operand_dtype(tokens.device, query)
    absorbed = torch.einsum("nhd,hde->nhe", query * query.shape[-1] ** -0.5, w_k)
    u = (absorbed * norm_weight).to(dtype)
    pooled = torch.ops.hitrs_fast.pool(u, tokens, visible, eps)[0]
    return torch.einsum("nhe,hde->nhd", (pooled * norm_weight + norm_bias).to(dtype), w_v)


def _sizes(u: Tensor) -> dict[str, int]:
    heads, width = u.shape[1:]
    return {"H": heads, "E": width, "HP": padded(heads), "EP": padded(width)}


def _visible(visible: Tensor | None) -> tuple[Tensor | None, tuple[int, ...]]:
    return (None, (0, 0)) if visible is None else (visible.view(torch.uint8), visible.stride())


@torch.library.custom_op("hitrs_fast::pool", mutates_args=())
def _pool(u: Tensor, tokens: Tensor, visible: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """softmax(u . n^) n^ `[N, H, E]` and the log-sum-exp `[N, H]`, base 2."""
    from .pooled_kernels import pooled_forward

    out, lse = _outputs(u)
    seen, strides = _visible(visible)
    if len(u):
        tensors = (u, tokens, seen, out, lse)
        steps = (*u.stride(), *tokens.stride(), *strides, *out.stride())
        with launching_on(u):
            pooled_forward[(len(u),)](*tensors, tokens.shape[1], eps, *steps, **_sizes(u))
    return out, lse


def _outputs(u: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty(u.shape[:2], dtype=torch.float32)


@torch.library.custom_op("hitrs_fast::pool_backward", mutates_args=())
def _pool_backward(
    grad: Tensor, u: Tensor, tokens: Tensor, visible: Tensor | None, out: Tensor, lse: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    from .pooled_kernels import pooled_backward

    grad_u, grad_tokens = u.new_empty(u.shape), tokens.new_empty(tokens.shape)
    seen, strides = _visible(visible)
    if len(u):
        tensors = (u, tokens, seen, out, grad, lse, grad_u, grad_tokens)
        steps = [s for t in (out, grad, grad_u, grad_tokens) for s in t.stride()]
        all_steps = (*u.stride(), *tokens.stride(), *strides, *steps)
        with launching_on(u):
            pooled_backward[(len(u),)](*tensors, tokens.shape[1], eps, *all_steps, **_sizes(u))
    return grad_u, grad_tokens


@_pool.register_fake
def _(u: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _outputs(u)


@_pool_backward.register_fake
def _(grad: Tensor, u: Tensor, tokens: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), tokens.new_empty(tokens.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    u, tokens, visible, ctx.eps = inputs
    ctx.set_materialize_grads(False)  # the log-sum-exp has none
    ctx.save_for_backward(u, tokens, visible, *output)


def _gradient(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.hitrs_fast.pool_backward(grad, *ctx.saved_tensors, ctx.eps), None, None


_pool.register_autograd(_gradient, setup_context=_keep)
