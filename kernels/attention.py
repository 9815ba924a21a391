"""Attention within clips and within frames: the public functions, their registration and their launches.

Shape legend: N clips or frames, S tokens of each, H heads, D width of a head. Packed tensors `[N, S, 3, H, D]` hold
queries, keys and values, as one projection leaves them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from . import reference
from .dispatch import launching_on, padded, uses_triton

TILE = 64  # tokens that one program of the frame attention holds


def clip_attention(q: Tensor, k: Tensor, v: Tensor, joints: int, self_visible: bool, impl: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(D)) v within clips: a joint does not see the others of its frame (Hi-TRS equation 4).

    q, k, v: `[clips, w * joints + 1, H, D]`, of any strides, float32, bfloat16 or float16 (and float64 in torch).
    Tokens are the joints of each frame, frame after frame, then CLS, which sees and is seen by all. A joint sees
    itself if `self_visible`. Gives the same shape and dtype; softmax and sums are in float32. Autocast changes nothing:
    the dtype is that of the projection before.

    Raises ValueError where the tokens are not whole frames and CLS; for `impl` see `dispatch.uses_triton`.
    """
    _check_clip(q.shape[1], joints)
    if uses_triton(impl, q):
        _check_alike(q, k, v)
        return torch.ops.hitrs_fast.attention(q, k, v, joints, False, self_visible)[0]
    return reference.clip_attention(q, k, v, joints, self_visible)


def clip_attention_packed(qkv: Tensor, joints: int, self_visible: bool, impl: str = "auto") -> Tensor:
    """`clip_attention` of a packed tensor `[clips, S, 3, H, D]`, whose gradient is packed too: nothing is copied.

    Gives `[clips, S, H, D]`. Raises ValueError where the tokens are not whole frames and CLS.
    """
    _check_clip(qkv.shape[1], joints)
    if uses_triton(impl, qkv):
        return torch.ops.hitrs_fast.attention_packed(qkv, joints, False, self_visible)[0]
    q, k, v = qkv.unbind(2)
    return reference.clip_attention(q, k, v, joints, self_visible)


def frame_attention(q: Tensor, k: Tensor, v: Tensor, impl: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(D)) v among the joints of each frame (Hi-TRS equations 2 and 3).

    q, k, v: `[F, J, H, D]`; gives the same shape and dtype. Strides and dtypes as for `clip_attention`. Raises
    ValueError where a kernel is meant and q, k and v are not alike.
    """
    if uses_triton(impl, q):
        _check_alike(q, k, v)
        return torch.ops.hitrs_fast.attention(q, k, v, q.shape[1], True, True)[0]
    return reference.frame_attention(q, k, v)


def frame_attention_packed(qkv: Tensor, impl: str = "auto") -> Tensor:
    """`frame_attention` of a packed tensor `[F, J, 3, H, D]`, whose gradient is packed too. Gives `[F, J, H, D]`."""
    if uses_triton(impl, qkv):
        return torch.ops.hitrs_fast.attention_packed(qkv, qkv.shape[1], True, True)[0]
    return reference.frame_attention(*qkv.unbind(2))


def _check_alike(q: Tensor, k: Tensor, v: Tensor) -> None:
    if not q.shape == k.shape == v.shape or not q.dtype == k.dtype == v.dtype:
        found = [(list(t.shape), t.dtype) for t in (q, k, v)]
        raise ValueError(f"q, k and v must be alike, but are {found}")


def _check_clip(tokens: int, joints: int) -> None:
    if (tokens - 1) % joints or tokens <= 1:
        raise ValueError(f"a clip of {tokens} tokens is not frames of {joints} joints and one CLS token")


def span_of(tokens: int, same_frame: bool) -> int:
    """Tokens that are attended together: a clip's, or those of as many frames as fill a tile."""
    return tokens * max(1, TILE // tokens) if same_frame else tokens


def _launch(
    kernel: Any,
    tensors: list[Tensor],
    strided: list[Tensor],
    scales: list[float],
    joints: int,
    flags: tuple[bool, bool],
) -> None:
    """One program for each tile of each head of each span.

    `tensors` and `strided`, those of them whose strides are given, stand in the order of the kernel's arguments.
    """
    count, tokens, heads, width = strided[0].shape
    span = span_of(tokens, flags[0])
    total = count * tokens
    strides = [s for t in strided for s in t.stride()]
    if total == 0:
        return

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (-(-total // span) * heads * -(-span // meta["BLOCK"]),)

    sizes = {"PERIOD": tokens, "SPAN": span, "JOINTS": joints, "SAME_FRAME": flags[0], "SELF": flags[1]}
    with launching_on(tensors[0]):
        kernel[grid](*tensors, total, *scales, *strides, **sizes, HEADS=heads, D=width, DP=padded(width))


def _forward(
    q: Tensor, k: Tensor, v: Tensor, joints: int, same_frame: bool, self_visible: bool
) -> tuple[Tensor, Tensor]:
    from .attention_kernels import attention_forward

    out, lse = _outputs(q)
    scales = [math.log2(math.e) / q.shape[-1] ** 0.5]
    _launch(attention_forward, [q, k, v, out, lse], [q, k, v, out], scales, joints, (same_frame, self_visible))
    return out, lse


def _outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """Room for the output `[N, S, H, D]` and the log-sum-exp `[H, N * S]`."""
    lse = q.new_empty(q.shape[2], q.shape[0] * q.shape[1], dtype=torch.float32)
    return q.new_empty(q.shape), lse


def _backward(grads: tuple[Tensor, ...], inputs: tuple[Tensor, ...], saved: tuple[Any, ...]) -> None:
    """Writes the gradients of q, k, v into `grads`."""
    from .attention_kernels import attention_backward

    grad, out, lse, joints, same_frame, self_visible = saved
    scale = inputs[0].shape[-1] ** -0.5
    tensors = [*inputs, out, grad, lse, *grads]
    strided = [*inputs, out, grad, *grads]
    scales = [scale, scale * math.log2(math.e)]
    _launch(attention_backward, tensors, strided, scales, joints, (same_frame, self_visible))


@torch.library.custom_op("hitrs_fast::attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, joints: int, same_frame: bool, self_visible: bool
) -> tuple[Tensor, Tensor]:
    return _forward(q, k, v, joints, same_frame, self_visible)


@torch.library.custom_op("hitrs_fast::attention_packed", mutates_args=())
def _attention_packed(qkv: Tensor, joints: int, same_frame: bool, self_visible: bool) -> tuple[Tensor, Tensor]:
    q, k, v = qkv.unbind(2)
    return _forward(q, k, v, joints, same_frame, self_visible)


@torch.library.custom_op("hitrs_fast::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    joints: int, same_frame: bool, self_visible: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grads = (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape))
    _backward(grads, (q, k, v), (grad, out, lse, joints, same_frame, self_visible))
    return grads


@torch.library.custom_op("hitrs_fast::attention_packed_backward", mutates_args=())
def _attention_packed_backward(
    grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, joints: int, same_frame: bool, self_visible: bool
) -> Tensor:
    grads = qkv.new_empty(qkv.shape)
    _backward(grads.unbind(2), qkv.unbind(2), (grad, out, lse, joints, same_frame, self_visible))
    return grads


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _outputs(q)


@_attention_packed.register_fake
def _(qkv: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _outputs(qkv.select(2, 0))


@_attention_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


@_attention_packed_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_: Any) -> Tensor:
    return qkv.new_empty(qkv.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, joints, same_frame, self_visible = inputs
    ctx.set_materialize_grads(False)  # the log-sum-exp has none
    ctx.save_for_backward(*tensors, *output)
    ctx.rest = (joints, same_frame, self_visible)


def _gradient(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *torch.ops.hitrs_fast.attention_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None, None


def _packed_gradient(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return torch.ops.hitrs_fast.attention_packed_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None, None


_attention.register_autograd(_gradient, setup_context=_keep)
_attention_packed.register_autograd(_packed_gradient, setup_context=_keep)
