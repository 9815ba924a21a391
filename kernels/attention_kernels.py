"""Triton kernels of masked attention within clips and within frames, forward and backward.

Rows are tokens: of all clips, or of all frames, one after another. A *span* is what is attended together: one clip, or
as many frames as fill a tile. Keys that a query does not see are found by arithmetic on indices; no mask is read.

Names: ROW and COL are query and key tokens within a span. PERIOD tokens lie `stride_s` apart, then the next begins at
`stride_n`: a clip's tokens, or a frame's joints. Exponentials are base 2; `lse` is a base-2 logarithm.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .blocks import product
from .tuning import tuned

_FORWARD = [
    triton.Config({"BLOCK": 64, "STEP": 64}, num_warps=4, num_stages=2),
    triton.Config({"BLOCK": 64, "STEP": 32}, num_warps=4, num_stages=2),
    triton.Config({"BLOCK": 64, "STEP": 64}, num_warps=4, num_stages=1),
    triton.Config({"BLOCK": 128, "STEP": 64}, num_warps=8, num_stages=2),
]
_FORWARD_SINGLE = [
    triton.Config({"BLOCK": 32, "STEP": 32}, num_warps=4, num_stages=1),
    triton.Config({"BLOCK": 32, "STEP": 16}, num_warps=4, num_stages=1),
]
_BACKWARD = [
    triton.Config({"BLOCK": 64, "STEP": 32}, num_warps=4, num_stages=1),
    triton.Config({"BLOCK": 64, "STEP": 32}, num_warps=4, num_stages=2),
]
_BACKWARD_SINGLE = [
    triton.Config({"BLOCK": 32, "STEP": 16}, num_warps=4, num_stages=1),
    triton.Config({"BLOCK": 16, "STEP": 16}, num_warps=4, num_stages=1),
]
_KEY = ["PERIOD", "SPAN", "JOINTS", "SAME_FRAME", "HEADS", "D"]


@triton.jit
def visible(row, col, limit, SPAN: tl.constexpr, JOINTS: tl.constexpr, SAME_FRAME: tl.constexpr, SELF: tl.constexpr):
    """Within frames: keys of the query's frame. Within clips: keys of other frames, CLS, and with SELF its own."""
    if SAME_FRAME:
        sees = row // JOINTS == col // JOINTS
    else:
        sees = row // JOINTS != col // JOINTS  # CLS, the last token, has a frame number of its own
        sees = sees | ((row == col) if SELF else (row == col) & (row == SPAN - 1))
    return sees & (col < limit)


@triton.jit
def offsets(token, head, stride_n, stride_s, stride_h, stride_d, PERIOD: tl.constexpr, DP: tl.constexpr):
    """Element offsets `[tokens, DP]` of tokens' vectors of one head."""
    start = (token // PERIOD).to(tl.int64) * stride_n + (token % PERIOD) * stride_s + head * stride_h
    return start[:, None] + (tl.arange(0, DP) * stride_d)[None, :]


@triton.jit
def inside(row, limit, D: tl.constexpr, DP: tl.constexpr):
    """Which elements of a tile `[rows, DP]` exist."""
    return (row < limit)[:, None] & (tl.arange(0, DP) < D)[None, :]


@triton.jit
def place(total, SPAN: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr):
    """This program's tile, head, first token of its span, and how many of the span's tokens exist."""
    tiles: tl.constexpr = (SPAN + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    first = pid // tiles // HEADS * SPAN
    return pid % tiles * BLOCK, pid // tiles % HEADS, first, tl.minimum(total - first, SPAN)


@tuned(_FORWARD, _KEY, _FORWARD_SINGLE, "Q")
@triton.jit
def attention_forward(
    Q, K, V, Out, Lse, total, scale_log2,
    q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d,
    PERIOD: tl.constexpr, SPAN: tl.constexpr, JOINTS: tl.constexpr, SAME_FRAME: tl.constexpr, SELF: tl.constexpr,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile of BLOCK queries of one head; keys and values pass by STEP at a time (online softmax)."""
    begin, head, first, limit = place(total, SPAN, HEADS, BLOCK)
    row = begin + tl.arange(0, BLOCK)
    q = tl.load(Q + offsets(first + row, head, q_n, q_s, q_h, q_d, PERIOD, DP), inside(row, limit, D, DP), 0.0)
    peak = tl.full([BLOCK], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK], tl.float32)
    out = tl.zeros([BLOCK, DP], tl.float32)
    for start in range(0, SPAN, STEP):
        col = start + tl.arange(0, STEP)
        there = inside(col, limit, D, DP)
        k = tl.load(K + offsets(first + col, head, k_n, k_s, k_h, k_d, PERIOD, DP), there, 0.0)
        v = tl.load(V + offsets(first + col, head, v_n, v_s, v_h, v_d, PERIOD, DP), there, 0.0)
        sees = visible(row[:, None], col[None, :], limit, SPAN, JOINTS, SAME_FRAME, SELF)
        score = tl.where(sees, product(q, tl.trans(k)) * scale_log2, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # a query may see no key of a step
        p = tl.exp2(score - base[:, None])
        shrink = tl.exp2(peak - base)
        weight = weight * shrink + tl.sum(p, 1)
        out = out * shrink[:, None] + product(p.to(v.dtype), v)
        peak = higher
    weight = tl.where(weight == 0, 1.0, weight)  # rows past the span see nothing
    out_at = Out + offsets(first + row, head, o_n, o_s, o_h, o_d, PERIOD, DP)
    tl.store(out_at, (out / weight[:, None]).to(Out.dtype.element_ty), inside(row, limit, D, DP))
    tl.store(Lse + head.to(tl.int64) * total + first + row, peak + tl.log2(weight), row < limit)


# The loops below load their tiles themselves: through functions that they shared, the backward kernel spilled on sm_90.
@triton.jit
def score_gradient(q, k, v, grad, lse, delta, sees, scale_log2):
    """Probabilities p and the gradient p (dp - delta) of the scores, delta = sum_d grad out; both `[rows, cols]`."""
    p = tl.where(sees, tl.exp2(product(q, tl.trans(k)) * scale_log2 - lse[:, None]), 0.0)
    return p, p * (product(grad, tl.trans(v)) - delta[:, None])


@triton.jit
def key_gradients(
    Q, K, V, Out, Grad, Lse, begin, first, limit, head, scale_log2,
    q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d, g_n, g_s, g_h, g_d,
    PERIOD: tl.constexpr, SPAN: tl.constexpr, JOINTS: tl.constexpr, SAME_FRAME: tl.constexpr, SELF: tl.constexpr,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A tile's keys and values against all queries; gives their gradients `[BLOCK, DP]`, the keys' before `scale`."""
    col = begin + tl.arange(0, BLOCK)
    own = inside(col, limit, D, DP)
    k = tl.load(K + offsets(first + col, head, k_n, k_s, k_h, k_d, PERIOD, DP), own, 0.0)
    v = tl.load(V + offsets(first + col, head, v_n, v_s, v_h, v_d, PERIOD, DP), own, 0.0)
    grad_k = tl.zeros([BLOCK, DP], tl.float32)
    grad_v = tl.zeros([BLOCK, DP], tl.float32)
    for start in range(0, SPAN, STEP):
        row = start + tl.arange(0, STEP)
        there = inside(row, limit, D, DP)
        q = tl.load(Q + offsets(first + row, head, q_n, q_s, q_h, q_d, PERIOD, DP), there, 0.0)
        out = tl.load(Out + offsets(first + row, head, o_n, o_s, o_h, o_d, PERIOD, DP), there, 0.0)
        grad = tl.load(Grad + offsets(first + row, head, g_n, g_s, g_h, g_d, PERIOD, DP), there, 0.0)
        lse = tl.load(Lse + row, row < limit, 0.0)
        delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
        sees = visible(row[:, None], col[None, :], limit, SPAN, JOINTS, SAME_FRAME, SELF) & (row < limit)[:, None]
        p, grad_score = score_gradient(q, k, v, grad, lse, delta, sees, scale_log2)
        grad_v += product(tl.trans(p.to(grad.dtype)), grad)
        grad_k += product(tl.trans(grad_score.to(q.dtype)), q)
    return grad_k, grad_v


@triton.jit
def query_gradients(
    Q, K, V, Out, Grad, Lse, begin, first, limit, head, scale_log2,
    q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d, g_n, g_s, g_h, g_d,
    PERIOD: tl.constexpr, SPAN: tl.constexpr, JOINTS: tl.constexpr, SAME_FRAME: tl.constexpr, SELF: tl.constexpr,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A tile's queries against all keys; gives their gradient `[BLOCK, DP]` before `scale`."""
    row = begin + tl.arange(0, BLOCK)
    own = inside(row, limit, D, DP)
    q = tl.load(Q + offsets(first + row, head, q_n, q_s, q_h, q_d, PERIOD, DP), own, 0.0)
    out = tl.load(Out + offsets(first + row, head, o_n, o_s, o_h, o_d, PERIOD, DP), own, 0.0)
    grad = tl.load(Grad + offsets(first + row, head, g_n, g_s, g_h, g_d, PERIOD, DP), own, 0.0)
    lse = tl.load(Lse + row, row < limit, 0.0)
    delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
    grad_q = tl.zeros([BLOCK, DP], tl.float32)
    for start in range(0, SPAN, STEP):
        col = start + tl.arange(0, STEP)
        there = inside(col, limit, D, DP)
        k = tl.load(K + offsets(first + col, head, k_n, k_s, k_h, k_d, PERIOD, DP), there, 0.0)
        v = tl.load(V + offsets(first + col, head, v_n, v_s, v_h, v_d, PERIOD, DP), there, 0.0)
        sees = visible(row[:, None], col[None, :], limit, SPAN, JOINTS, SAME_FRAME, SELF) & (row < limit)[:, None]
        _, grad_score = score_gradient(q, k, v, grad, lse, delta, sees, scale_log2)
        grad_q += product(grad_score.to(k.dtype), k)
    return grad_q


@tuned(_BACKWARD, _KEY, _BACKWARD_SINGLE, "Q")
@triton.jit
def attention_backward(
    Q, K, V, Out, Grad, Lse, GradQ, GradK, GradV, total, scale, scale_log2,
    q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d, g_n, g_s, g_h, g_d,
    gq_n, gq_s, gq_h, gq_d, gk_n, gk_s, gk_h, gk_d, gv_n, gv_s, gv_h, gv_d,
    PERIOD: tl.constexpr, SPAN: tl.constexpr, JOINTS: tl.constexpr, SAME_FRAME: tl.constexpr, SELF: tl.constexpr,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile of BLOCK tokens of one head: as keys and values, then as queries.

    Every element is written by one program, so the result does not depend on an order of additions.
    """
    begin, head, first, limit = place(total, SPAN, HEADS, BLOCK)
    lse = Lse + head.to(tl.int64) * total + first
    token = begin + tl.arange(0, BLOCK)
    own = inside(token, limit, D, DP)
    grad_k, grad_v = key_gradients(
        Q, K, V, Out, Grad, lse, begin, first, limit, head, scale_log2,
        q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d, g_n, g_s, g_h, g_d,
        PERIOD, SPAN, JOINTS, SAME_FRAME, SELF, D, DP, BLOCK, STEP,
    )  # fmt: skip
    at = GradK + offsets(first + token, head, gk_n, gk_s, gk_h, gk_d, PERIOD, DP)
    tl.store(at, (grad_k * scale).to(GradK.dtype.element_ty), own)
    at = GradV + offsets(first + token, head, gv_n, gv_s, gv_h, gv_d, PERIOD, DP)
    tl.store(at, grad_v.to(GradV.dtype.element_ty), own)
    grad_q = query_gradients(
        Q, K, V, Out, Grad, lse, begin, first, limit, head, scale_log2,
        q_n, q_s, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_d, o_n, o_s, o_h, o_d, g_n, g_s, g_h, g_d,
        PERIOD, SPAN, JOINTS, SAME_FRAME, SELF, D, DP, BLOCK, STEP,
    )  # fmt: skip
    at = GradQ + offsets(first + token, head, gq_n, gq_s, gq_h, gq_d, PERIOD, DP)
    tl.store(at, (grad_q * scale).to(GradQ.dtype.element_ty), own)
