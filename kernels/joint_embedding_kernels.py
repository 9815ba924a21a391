"""Triton kernels of the joints' embedding: coordinates to tokens in one pass, forward and backward.

Names and shapes: a row is a joint of a frame; x its C coordinates; a = W x + b and y after GELU and LayerNorm,
`[BLOCK, E]`. With two or three coordinates a product is a few multiplications, not one for the matrix units. EP is E,
padded to a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .blocks import gelu, gelu_slope, normalised, tile
from .tuning import tuned

_CONFIGS = [triton.Config({}, num_warps=4), triton.Config({}, num_warps=8)]
_KEY = ["C", "E", "BLOCK"]


@triton.jit
def before_gelu(X, W, Bias, row, rows, column, C: tl.constexpr, E: tl.constexpr, BLOCK: tl.constexpr, EP: tl.constexpr):
    """a = W x + b, `[BLOCK, EP]`."""
    a = tl.zeros([BLOCK, EP], tl.float32) + tl.load(Bias + column, column < E, 0.0)[None, :]
    for c in tl.static_range(C):
        x = tl.load(X + row.to(tl.int64) * C + c, row < rows, 0.0)
        a += x[:, None] * tl.load(W + column * C + c, column < E, 0.0)[None, :]
    return a


@tuned(_CONFIGS, _KEY)
@triton.jit
def embedding_forward(
    X, W, Bias, Position, Gamma, Beta, Out, rows, eps,
    J: tl.constexpr, C: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, EP)
    y = gelu(before_gelu(X, W, Bias, row, rows, column, C, E, BLOCK, EP))
    if Gamma is not None:
        gamma = tl.load(Gamma + column, column < E, 0.0)[None, :]
        y = normalised(y, eps, E, EP)[0] * gamma + tl.load(Beta + column, column < E, 0.0)[None, :]
    at, there = tile(Out, row, column, rows, E, E)
    y += tl.load(tile(Position, row % J, column, J, E, E)[0], there, 0.0)
    tl.store(at, y.to(Out.dtype.element_ty), there)


@tuned(_CONFIGS, _KEY)
@triton.jit
def embedding_backward(
    X, W, Bias, Gamma, Grad, GradX, GradA, GradGamma, GradBeta, rows, eps,
    C: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over a tile's rows for the weights, one row a program; the gradients of x, and of W `[C, E]` and b.

    `GradA` `[programs, C + 1, E]` holds the sums of da x_c and, last, of da.
    """
    program = tl.program_id(0)
    row = program * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, EP)
    a = before_gelu(X, W, Bias, row, rows, column, C, E, BLOCK, EP)
    at, there = tile(Grad, row, column, rows, E, E)
    grad = tl.load(at, there, 0.0).to(tl.float32)
    if Gamma is not None:
        n, rstd = normalised(gelu(a), eps, E, EP)
        tl.store(GradGamma + program.to(tl.int64) * E + column, tl.sum(grad * n, 0), column < E)
        tl.store(GradBeta + program.to(tl.int64) * E + column, tl.sum(grad, 0), column < E)
        grad = grad * tl.load(Gamma + column, column < E, 0.0)[None, :]
        mean = tl.sum(grad, 1) / E
        along = tl.sum(grad * n, 1) / E
        grad = rstd[:, None] * (grad - mean[:, None] - n * along[:, None])
    grad_a = tl.where(there, grad * gelu_slope(a), 0.0)
    sums = GradA + program.to(tl.int64) * (C + 1) * E + column
    for c in tl.static_range(C):
        x = tl.load(X + row.to(tl.int64) * C + c, row < rows, 0.0)
        tl.store(sums + c * E, tl.sum(grad_a * x[:, None], 0), column < E)
        if GradX is not None:
            w = tl.load(W + column * C + c, column < E, 0.0)
            tl.store(GradX + row.to(tl.int64) * C + c, tl.sum(grad_a * w[None, :], 1), row < rows)
    tl.store(sums + C * E, tl.sum(grad_a, 0), column < E)
