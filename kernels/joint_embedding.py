"""The joints' embedding: the public function, its registration and its launches.

Shape legend: F frames, J joints, C coordinates, E width of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .dispatch import launching_on, misfit, padded, uses_triton

TILE = 4096  # elements of a program's tile of tokens
LARGEST = 4096  # channels of a token that one tile row may have


def joint_embedding(
    coordinates: Tensor,
    weight: Tensor,
    bias: Tensor,
    position: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
    dtype: torch.dtype | None = None,
    impl: str = "auto",
) -> Tensor:
    """LayerNorm(GELU(W x + b)) + position, LayerNorm only where its weights are given; GELU by erf.

    coordinates `[F, J, C]`, weight `[E, C]`, position `[J, E]`; gives `[F, J, E]` in `dtype` (as the coordinates are,
    by default). All of it is computed in float32, autocast or not: at 3 m, bfloat16 would round coordinates to 16 mm.

    Raises ValueError for shapes that do not fit, and for tokens of more than 4,096 channels where the kernel is meant.
    """
    dtype = dtype or coordinates.dtype
    exact = torch.float64 if coordinates.dtype == torch.float64 else torch.float32
    coordinates, weight, bias, position = (t.to(exact) for t in (coordinates, weight, bias, position))
    norm = [t if t is None else t.to(exact) for t in (norm_weight, norm_bias)]
    if not uses_triton(impl, coordinates):
        with torch.autocast(coordinates.device.type, enabled=False):
            return reference.joint_embedding(coordinates, weight, bias, position, norm[0], norm[1], eps).to(dtype)
    (joints, channels), width = coordinates.shape[1:], weight.shape[0]
    if weight.shape != (width, channels) or bias.shape != (width,) or position.shape != (joints, width):
        raise misfit(coordinates=coordinates, weight=weight, bias=bias, position=position)
    if (norm_weight is None) != (norm_bias is None) or width > LARGEST:
        raise ValueError(f"norm_weight and norm_bias go together, and the kernel takes up to {LARGEST} channels")
    return torch.ops.hitrs_fast.joint_embedding(coordinates, weight, bias, position, *norm, eps, dtype)


def _sizes(weight: Tensor) -> dict[str, int]:
    width, channels = weight.shape
    columns = padded(width, least=1)
    return {"C": channels, "E": width, "EP": columns, "BLOCK": max(1, min(64, TILE // columns))}


@torch.library.custom_op("hitrs_fast::joint_embedding", mutates_args=())
def _joint_embedding(
    coordinates: Tensor, weight: Tensor, bias: Tensor, position: Tensor, norm_weight: Tensor | None,
    norm_bias: Tensor | None, eps: float, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    from .joint_embedding_kernels import embedding_forward

    frames, joints, _ = coordinates.shape
    out = coordinates.new_empty(frames, joints, len(weight), dtype=dtype)
    sizes = _sizes(weight)
    if rows := frames * joints:
        weights = (t if t is None else t.contiguous() for t in (weight, bias, position, norm_weight, norm_bias))
        grid = (-(-rows // sizes["BLOCK"]),)
        with launching_on(out):
            embedding_forward[grid](coordinates.contiguous(), *weights, out, rows, eps, J=joints, **sizes)
    return out


@torch.library.custom_op("hitrs_fast::joint_embedding_backward", mutates_args=())
def _joint_embedding_backward(
    grad: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor | None, eps: float,
    into_coordinates: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the coordinates (empty unless asked for), weight, bias, position, norm weight and norm bias."""
    from .joint_embedding_kernels import embedding_backward

    frames, joints, channels = coordinates.shape
    sizes = _sizes(weight)
    rows = frames * joints
    programs = -(-rows // sizes["BLOCK"])
    width = len(weight)
    sums = grad.new_empty(programs, channels + 1, width, dtype=torch.float32)
    norm = grad.new_empty(2, programs, width if norm_weight is not None else 0, dtype=torch.float32)
    into = torch.empty_like(coordinates, memory_format=torch.contiguous_format) if into_coordinates else None
    if rows:
        weights = (t if t is None else t.contiguous() for t in (weight, bias, norm_weight))
        tensors = (coordinates.contiguous(), *weights, grad.contiguous(), into, sums, *norm)
        with launching_on(grad):
            embedding_backward[(programs,)](*tensors, rows, eps, **sizes)
    of_weights = sums.sum(0)
    into_position = grad.sum(0, dtype=torch.float32)
    gamma, beta = norm.sum(1)
    if into is None:
        into = coordinates.new_empty(0)
    return into, of_weights[:-1].T.contiguous(), of_weights[-1].clone(), into_position, gamma.clone(), beta.clone()


@_joint_embedding.register_fake
def _(coordinates: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return coordinates.new_empty(*coordinates.shape[:2], len(weight), dtype=rest[-1])


@_joint_embedding_backward.register_fake
def _(
    grad: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor | None, eps: float, into: bool
) -> tuple[Tensor, ...]:
    norm = weight.new_empty(0 if norm_weight is None else len(weight))
    position = weight.new_empty(coordinates.shape[1], len(weight))
    of_coordinates = weight.new_empty(coordinates.shape if into else 0)
    of_bias = bias.new_empty(bias.shape)
    return of_coordinates, weight.new_empty(weight.shape), of_bias, position, norm, norm.new_empty(norm.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    coordinates, weight, bias, _, norm_weight, _, ctx.eps, _ = inputs
    ctx.save_for_backward(coordinates, weight, bias, norm_weight)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    asked = ctx.needs_input_grad[0]
    found = torch.ops.hitrs_fast.joint_embedding_backward(grad, *ctx.saved_tensors, ctx.eps, asked)
    coordinates, weight, bias, position, *norm = found
    if ctx.saved_tensors[3] is None:
        norm = [None, None]
    return coordinates if asked else None, weight, bias, position, *norm, None, None


_joint_embedding.register_autograd(_gradient, setup_context=_keep)
