"""Pieces that several Triton kernels are made of; imported, like them, only where a kernel is launched."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(a, b):
    """a @ b accumulated in float32; float32 operands stay IEEE."""
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def gelu(a):
    """a Phi(a), by erf."""
    return 0.5 * a * (1 + tl.erf(a * 0.7071067811865476))


@triton.jit
def gelu_slope(a):
    """Phi(a) + a phi(a)."""
    return 0.5 * (1 + tl.erf(a * 0.7071067811865476)) + a * 0.3989422804014327 * tl.exp(-0.5 * a * a)


@triton.jit
def tile(pointer, row, column, rows, stride, columns):
    """Addresses of `[rows, columns]`, and which of them exist. 64 bits: half a million tokens of 512 are common."""
    at = pointer + row.to(tl.int64)[:, None] * stride + column[None, :]
    return at, (row < rows)[:, None] & (column < columns)[None, :]


@triton.jit
def normalised(x, eps, E: tl.constexpr, EP: tl.constexpr):
    """Rows `[BLOCK, EP]` less their mean, over their standard deviation; and one over that `[BLOCK]`.

    Of E channels; what x holds in the others, up to EP, does not count.
    """
    real = (tl.arange(0, EP) < E)[None, :]
    x = tl.where(real, x.to(tl.float32), 0.0)
    centred = tl.where(real, x - (tl.sum(x, 1) / E)[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / E + eps)
    return centred * rstd[:, None], rstd
