"""Triton kernels of one query's attention over normalised tokens, forward and backward.

A program takes one sequence: its H queries against its tokens, BLOCK at a time. A tile is read from memory once,
normalised, and is keys and values at the same time; that the heads are padded to 16 rows for the matrix units costs
nothing, because memory is what bounds this.

Names and shapes: u queries `[HP, EP]`; n tokens after normalisation `[BLOCK, EP]`; HP and EP are H heads and E
channels, padded. ELEMENTS is the size of a tile, so BLOCK = ELEMENTS / EP. Exponentials are base 2; `lse` is a base-2
logarithm.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .blocks import normalised, product
from .tuning import tuned

# 4096 elements are 16 tokens of 256 channels: a clip's 176 tokens are 11 whole tiles.
_FORWARD = [
    triton.Config({"ELEMENTS": 4096}, num_warps=4, num_stages=1),
    triton.Config({"ELEMENTS": 8192}, num_warps=4, num_stages=2),
]
_BACKWARD = [triton.Config({"ELEMENTS": 4096}, num_warps=8, num_stages=1)]
_KEY = ["H", "E"]
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def per_head(pointer, s_h, s_e, H: tl.constexpr, E: tl.constexpr, HP: tl.constexpr, EP: tl.constexpr):
    """Addresses `[HP, EP]` of one sequence's vectors, and which of them exist."""
    h = tl.arange(0, HP)[:, None]
    e = tl.arange(0, EP)[None, :]
    return pointer + h * s_h + e * s_e, (h < H) & (e < E)


@triton.jit
def seen(Visible, row, tokens, v_s):
    """Which tokens of a tile exist and are visible: the others are not even read."""
    there = row < tokens
    if Visible is not None:
        there = there & tl.load(Visible + row * v_s, there, 0).to(tl.int1)
    return there


@tuned(_FORWARD, _KEY)
@triton.jit
def pooled_forward(
    U, X, Visible, Out, Lse, tokens, eps, u_n, u_h, u_e, x_n, x_s, x_e, v_n, v_s, o_n, o_h, o_e,
    H: tl.constexpr, E: tl.constexpr, HP: tl.constexpr, EP: tl.constexpr, ELEMENTS: tl.constexpr,
):  # fmt: skip
    """out = softmax(u n^T) n of one sequence (online softmax)."""
    BLOCK: tl.constexpr = max(16, ELEMENTS // EP)
    sequence = tl.program_id(0).to(tl.int64)
    u_at, real = per_head(U + sequence * u_n, u_h, u_e, H, E, HP, EP)
    u = tl.load(u_at, real, 0.0)
    e = tl.arange(0, EP)[None, :]
    if Visible is not None:
        Visible += sequence * v_n
    peak = tl.full([HP], float("-inf"), tl.float32)
    weight = tl.zeros([HP], tl.float32)
    out = tl.zeros([HP, EP], tl.float32)
    for start in range(0, tokens, BLOCK):
        row = start + tl.arange(0, BLOCK)
        there = seen(Visible, row, tokens, v_s)
        x = tl.load(X + sequence * x_n + row[:, None] * x_s + e * x_e, there[:, None] & (e < E), 0.0)
        n = normalised(x, eps, E, EP)[0].to(u.dtype)
        score = tl.where(there[:, None], product(n, tl.trans(u)) * LOG2E, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 0))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # the first tiles may hold no visible token
        p = tl.exp2(score - base[None, :])
        shrink = tl.exp2(peak - base)
        weight = weight * shrink + tl.sum(p, 0)
        out = out * shrink[:, None] + product(tl.trans(p.to(n.dtype)), n)
        peak = higher
    weight = tl.where(weight == 0, 1.0, weight)
    out_at, real = per_head(Out + sequence * o_n, o_h, o_e, H, E, HP, EP)
    tl.store(out_at, (out / weight[:, None]).to(Out.dtype.element_ty), real)
    h = tl.arange(0, HP)
    tl.store(Lse + sequence * H + h, peak + tl.log2(weight), h < H)


@tuned(_BACKWARD, _KEY)
@triton.jit
def pooled_backward(
    U, X, Visible, Out, Grad, Lse, GradU, GradX, tokens, eps,
    u_n, u_h, u_e, x_n, x_s, x_e, v_n, v_s, o_n, o_h, o_e, g_n, g_h, g_e, gu_n, gu_h, gu_e, gx_n, gx_s, gx_e,
    H: tl.constexpr, E: tl.constexpr, HP: tl.constexpr, EP: tl.constexpr, ELEMENTS: tl.constexpr,
):  # fmt: skip
    """Gradients of u and of the tokens before normalisation, of one sequence, in one pass over them.

    With probabilities a, scores s, their gradient ds, and da = grad n^T, all `[HP, BLOCK]`: the gradient of n is
    dn = ds^T u + a^T grad, and that of x is rstd (dn - mean(dn) - n mean(dn n)), means over channels. Both means are
    sums over heads: of ds mean(u) + a mean(grad), and of (ds s + a da) / E.
    """
    BLOCK: tl.constexpr = max(16, ELEMENTS // EP)
    sequence = tl.program_id(0).to(tl.int64)
    u_at, real = per_head(U + sequence * u_n, u_h, u_e, H, E, HP, EP)
    u = tl.load(u_at, real, 0.0)
    grad_at, real = per_head(Grad + sequence * g_n, g_h, g_e, H, E, HP, EP)
    grad = tl.load(grad_at, real, 0.0)
    out_at, real = per_head(Out + sequence * o_n, o_h, o_e, H, E, HP, EP)
    delta = tl.sum(grad.to(tl.float32) * tl.load(out_at, real, 0.0).to(tl.float32), 1)
    u_mean = tl.sum(u.to(tl.float32), 1) / E
    grad_mean = tl.sum(grad.to(tl.float32), 1) / E
    h = tl.arange(0, HP)
    lse = tl.load(Lse + sequence * H + h, h < H, float("inf"))  # probabilities of padded heads are zero
    e = tl.arange(0, EP)[None, :]
    if Visible is not None:
        Visible += sequence * v_n
    grad_u = tl.zeros([HP, EP], tl.float32)
    excess = tl.zeros([HP], tl.float32)
    for start in range(0, tokens, BLOCK):
        row = start + tl.arange(0, BLOCK)
        there = seen(Visible, row, tokens, v_s)
        x = tl.load(X + sequence * x_n + row[:, None] * x_s + e * x_e, there[:, None] & (e < E), 0.0)
        exact, rstd = normalised(x, eps, E, EP)
        n = exact.to(u.dtype)
        score = product(n, tl.trans(u))
        grad_a = product(n, tl.trans(grad))
        a = tl.where(there[:, None], tl.exp2(score * LOG2E - lse[None, :]), 0.0)
        grad_score = a * (grad_a - delta[None, :])
        excess += tl.sum(grad_score, 0)
        along = tl.sum(grad_score * score + a * grad_a, 1) / E
        a = a.to(u.dtype)
        grad_score = grad_score.to(u.dtype)
        shift = tl.sum(grad_score.to(tl.float32) * u_mean[None, :] + a.to(tl.float32) * grad_mean[None, :], 1)
        grad_u += product(tl.trans(grad_score), n)
        grad_n = product(grad_score, u) + product(a, grad)
        grad_x = rstd[:, None] * (grad_n - shift[:, None] - exact * along[:, None])
        at = GradX + sequence * gx_n + row[:, None] * gx_s + e * gx_e
        tl.store(at, grad_x.to(GradX.dtype.element_ty), (row < tokens)[:, None] & (e < E))
    # The gradients of a softmax's scores add up to zero; by how much they do not, delta was rounded. It multiplies
    # sum a n = out, so that much of it is taken back.
    grad_u -= excess[:, None] * tl.load(out_at, real, 0.0).to(tl.float32)
    at, real = per_head(GradU + sequence * gu_n, gu_h, gu_e, H, E, HP, EP)
    tl.store(at, grad_u.to(GradU.dtype.element_ty), real)
