"""Triton kernels of the feed-forward block: LayerNorm, product, GELU, product, dropout and residual in one pass.

A program takes BLOCK tokens. Channels pass by STEP at a time; the hidden layer stays on chip, in the backward too,
which computes it again. What is read twice (a tile of tokens, the weights) comes from the caches.

Names and shapes: x tokens `[BLOCK, E]`; n tokens after LayerNorm; a hidden before and g after GELU `[BLOCK, HIDDEN]`;
z the second product, to which dropout applies. HP is HIDDEN, padded to a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .blocks import gelu, gelu_slope, product, tile
from .tuning import tuned

_FORWARD = [
    triton.Config({"STEP": 32}, num_warps=4, num_stages=2),
    triton.Config({"STEP": 64}, num_warps=4, num_stages=1),
]
_BACKWARD = [triton.Config({"STEP": 32}, num_warps=8, num_stages=2)]
_SINGLE = [triton.Config({"STEP": 32}, num_warps=4, num_stages=1)]
_KEY = ["E", "HIDDEN", "DROP", "BLOCK"]


@triton.jit
def kept(seed, row, first, threshold, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """Which of the channels from `first` on dropout keeps, `[BLOCK, STEP]`: Philox of the seed, the row, the channel.

    One call makes four 32-bit words, for four neighbouring channels; 31 bits of each decide.
    """
    counter = tl.zeros([BLOCK, STEP // 4], tl.int32)
    four = counter + (first // 4 + tl.arange(0, STEP // 4))[None, :]
    a, b, c, d = tl.philox(seed, counter + row[:, None], four, counter, counter)
    words = tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), [BLOCK, STEP])
    return (words >> 1).to(tl.int32) >= threshold


@triton.jit
def statistics(X, row, rows, eps, E: tl.constexpr, STEP: tl.constexpr):
    """Mean and inverse standard deviation of each token, `[BLOCK]`, channels passing by STEP at a time.

    Deviations are taken from the mean of each step and the steps then combined (Chan et al. 1979): no cancellation.
    """
    mean = tl.zeros_like(row).to(tl.float32)
    squares = mean
    for start in range(0, E, STEP):
        column = start + tl.arange(0, STEP)
        at, there = tile(X, row, column, rows, E, E)
        x = tl.load(at, there, 0.0).to(tl.float32)
        count = tl.minimum(E - start, STEP)
        own = tl.sum(x, 1) / count
        centred = tl.where(there, x - own[:, None], 0.0)
        apart = own - mean
        share = count / (start + count)
        squares += tl.sum(centred * centred, 1) + apart * apart * (start * share)
        mean += apart * share
    return mean, tl.rsqrt(squares / E + eps)


@triton.jit
def hidden_of(
    X, Gamma, Beta, W1, B1, Normal, row, rows, mean, rstd, hidden, E: tl.constexpr, HIDDEN: tl.constexpr,
    HP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """a = W_1 LayerNorm(x) + b_1, `[BLOCK, HP]`; writes x before gamma and beta to Normal where there is one."""
    a = tl.zeros([BLOCK, HP], tl.float32)
    for start in range(0, E, STEP):
        column = start + tl.arange(0, STEP)
        at, there = tile(X, row, column, rows, E, E)
        x = (tl.load(at, there, 0.0).to(tl.float32) - mean[:, None]) * rstd[:, None]
        gamma = tl.load(Gamma + column, column < E, 0.0).to(tl.float32)
        beta = tl.load(Beta + column, column < E, 0.0).to(tl.float32)
        n = (x * gamma[None, :] + beta[None, :]).to(W1.dtype.element_ty)
        at, inside = tile(W1, hidden, column, HIDDEN, E, E)
        a += product(n, tl.trans(tl.load(at, inside, 0.0)))
        if Normal is not None:
            tl.store(tile(Normal, row, column, rows, E, E)[0], x.to(Normal.dtype.element_ty), there)
    return a + tl.load(B1 + hidden, hidden < HIDDEN, 0.0).to(tl.float32)[None, :]


@tuned(_FORWARD, _KEY, _SINGLE, "W1")
@triton.jit
def mlp_forward(
    X, Gamma, Beta, W1, B1, W2, B2, Seed, Out, rows, eps, threshold, scale,
    E: tl.constexpr, HIDDEN: tl.constexpr, DROP: tl.constexpr, HP: tl.constexpr,
    BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = tl.arange(0, HP)
    mean, rstd = statistics(X, row, rows, eps, E, STEP)
    a = hidden_of(X, Gamma, Beta, W1, B1, None, row, rows, mean, rstd, hidden, E, HIDDEN, HP, BLOCK, STEP)
    g = gelu(a).to(W2.dtype.element_ty)
    for start in range(0, E, STEP):
        column = start + tl.arange(0, STEP)
        at, inside = tile(W2, column, hidden, E, HIDDEN, HIDDEN)
        z = product(g, tl.trans(tl.load(at, inside, 0.0)))
        z += tl.load(B2 + column, column < E, 0.0).to(tl.float32)[None, :]
        if DROP:
            z = tl.where(kept(tl.load(Seed), row, start, threshold, BLOCK, STEP), z * scale, 0.0)
        at, there = tile(X, row, column, rows, E, E)
        y = tl.load(at, there, 0.0).to(tl.float32) + z
        tl.store(tile(Out, row, column, rows, E, E)[0], y.to(Out.dtype.element_ty), there)


@tuned(_BACKWARD, _KEY, _SINGLE, "W1")
@triton.jit
def mlp_backward(
    X, Gamma, Beta, W1, B1, W2, Seed, Along, Shift, Grad, GradX, Normal, G, GradA, GradZ,
    GradB1, GradB2, rows, eps, threshold, scale,
    E: tl.constexpr, HIDDEN: tl.constexpr, DROP: tl.constexpr, HP: tl.constexpr,
    BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Gradients of the tokens, and what the weights' gradients are made of.

    Those of the biases are sums of this tile's tokens, one row a program. With dn = W_1^T da, the
    gradient of x is dy + rstd (gamma dn - mean(gamma dn) - n^ mean(gamma dn n^)), n^ before gamma and beta, means over
    channels: sum(gamma dn) = da . W_1 gamma, and sum(gamma dn n^) = da . (a - b_1 - W_1 beta), which needs no
    second pass over the channels. `Along` is W_1 gamma, `Shift` b_1 + W_1 beta, both `[HIDDEN]`.
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = tl.arange(0, HP)
    program = tl.program_id(0).to(tl.int64)
    mean, rstd = statistics(X, row, rows, eps, E, STEP)
    a = hidden_of(X, Gamma, Beta, W1, B1, Normal, row, rows, mean, rstd, hidden, E, HIDDEN, HP, BLOCK, STEP)
    grad_g = tl.zeros([BLOCK, HP], tl.float32)
    for start in range(0, E, STEP):
        column = start + tl.arange(0, STEP)
        at, there = tile(Grad, row, column, rows, E, E)
        grad_z = tl.load(at, there, 0.0).to(tl.float32)
        if DROP:
            grad_z = tl.where(kept(tl.load(Seed), row, start, threshold, BLOCK, STEP), grad_z * scale, 0.0)
        tl.store(GradB2 + program * E + column, tl.sum(grad_z, 0), column < E)
        grad_z = grad_z.to(W2.dtype.element_ty)
        if GradZ is not None:
            tl.store(tile(GradZ, row, column, rows, E, E)[0], grad_z, there)
        at, inside = tile(W2, column, hidden, E, HIDDEN, HIDDEN)
        grad_g += product(grad_z, tl.load(at, inside, 0.0))

    g_at, exists = tile(G, row, hidden, rows, HIDDEN, HIDDEN)
    tl.store(g_at, gelu(a).to(G.dtype.element_ty), exists)
    grad_a = tl.where(exists, grad_g * gelu_slope(a), 0.0)
    tl.store(GradB1 + program * HIDDEN + hidden, tl.sum(grad_a, 0), hidden < HIDDEN)
    along = tl.load(Along + hidden, hidden < HIDDEN, 0.0)
    shift = tl.load(Shift + hidden, hidden < HIDDEN, 0.0)
    level = tl.sum(grad_a * along[None, :], 1) / E
    slope = tl.sum(grad_a * (a - shift[None, :]), 1) / E
    grad_a = grad_a.to(W1.dtype.element_ty)
    tl.store(tile(GradA, row, hidden, rows, HIDDEN, HIDDEN)[0], grad_a, exists)

    for start in range(0, E, STEP):
        column = start + tl.arange(0, STEP)
        at, inside = tile(W1, hidden, column, HIDDEN, E, E)
        grad_n = product(grad_a, tl.load(at, inside, 0.0))
        at, there = tile(X, row, column, rows, E, E)
        x = tl.load(at, there, 0.0).to(tl.float32)
        n = (x - mean[:, None]) * rstd[:, None]
        gamma = tl.load(Gamma + column, column < E, 0.0).to(tl.float32)
        inner = rstd[:, None] * (grad_n * gamma[None, :] - level[:, None] - n * slope[:, None])
        grad_x = tl.load(tile(Grad, row, column, rows, E, E)[0], there, 0.0).to(tl.float32) + inner
        tl.store(tile(GradX, row, column, rows, E, E)[0], grad_x.to(GradX.dtype.element_ty), there)


@tuned([triton.Config({}, num_warps=4)], ["E"])
@triton.jit
def dropout_keep(Seed, Out, rows, threshold, E: tl.constexpr, EP: tl.constexpr, BLOCK: tl.constexpr):
    """The mask itself, for those who check."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at, there = tile(Out, row, tl.arange(0, EP), rows, E, E)
    tl.store(at, kept(tl.load(Seed), row, 0, threshold, BLOCK, EP), there)
