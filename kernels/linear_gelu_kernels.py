"""Triton kernels of a projection with bias and GELU in its epilogue, and of that epilogue's gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from .blocks import gelu, gelu_slope, product, tile
from .tuning import tuned

_HALF = [
    triton.Config({"BLOCK": 64, "COLUMNS": 64, "STEP": 64}, num_warps=4, num_stages=3),
    triton.Config({"BLOCK": 128, "COLUMNS": 64, "STEP": 32}, num_warps=4, num_stages=3),
    triton.Config({"BLOCK": 64, "COLUMNS": 128, "STEP": 32}, num_warps=4, num_stages=3),
]
_SINGLE = [triton.Config({"BLOCK": 32, "COLUMNS": 32, "STEP": 32}, num_warps=4, num_stages=2)]


@tuned(_HALF, ["E", "HIDDEN"], _SINGLE, "W")
@triton.jit
def linear_gelu_forward(
    X, W, Bias, Out, A, rows, E: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A tile `[BLOCK, COLUMNS]` of GELU(a) and of a = x W^T + b, which the backward needs."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    a = tl.zeros([BLOCK, COLUMNS], tl.float32)
    for start in range(0, E, STEP):
        channel = start + tl.arange(0, STEP)
        at, there = tile(X, row, channel, rows, E, E)
        x = tl.load(at, there, 0.0)
        at, there = tile(W, column, channel, HIDDEN, E, E)
        a += product(x, tl.trans(tl.load(at, there, 0.0)))
    a += tl.load(Bias + column, column < HIDDEN, 0.0).to(tl.float32)[None, :]
    at, there = tile(A, row, column, rows, HIDDEN, HIDDEN)
    tl.store(at, a.to(A.dtype.element_ty), there)
    tl.store(tile(Out, row, column, rows, HIDDEN, HIDDEN)[0], gelu(a).to(Out.dtype.element_ty), there)


@tuned([triton.Config({}, num_warps=4)], ["HIDDEN"])
@triton.jit
def linear_gelu_backward(
    Grad, A, GradA, GradBias, rows, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr
):
    """da = dy GELU'(a), and the sums of a tile's rows of it."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    at, there = tile(A, row, column, rows, HIDDEN, HIDDEN)
    slope = gelu_slope(tl.load(at, there, 0.0).to(tl.float32))
    grad = tl.load(tile(Grad, row, column, rows, HIDDEN, HIDDEN)[0], there, 0.0).to(tl.float32)
    tl.store(tile(GradA, row, column, rows, HIDDEN, HIDDEN)[0], (grad * slope).to(GradA.dtype.element_ty), there)
    sums = GradBias + tl.program_id(0).to(tl.int64) * HIDDEN + column
    tl.store(sums, tl.sum(grad * slope, 0), column < HIDDEN)
