"""Plain-torch definitions of the operations.

Shape legend: N clips, frames or sequences; S tokens; H heads; D width of a head; E width of a token.
Queries, keys and values are `[N, S, H, D]`, which is how a packed projection leaves them: no transpose is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout, gelu, layer_norm, linear, scaled_dot_product_attention


def clip_mask(joints: int, tokens: int, self_visible: bool, device: torch.device | None = None) -> Tensor:
    """Which key each query of a clip sees, `[tokens, tokens]` bool (Hi-TRS equation 4).

    Tokens are the joints of each frame, frame after frame, then CLS. Joints of one frame do not see each other; CLS
    sees, and is seen by, all; a joint sees itself if `self_visible`.
    """
    token = torch.arange(tokens, device=device)
    frame = token // joints  # CLS, the last token, has a frame number of its own
    other = frame[:, None] != frame
    same = token[:, None] == token
    is_cls = token == tokens - 1
    return other | (same & (is_cls | self_visible))


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over `[N, S, H, D]`; `visible` is bool, broadcast to `[N, H, S, S]`.

    Gives the same shape and dtype; torch's `scaled_dot_product_attention` on every device.
    """
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=visible).transpose(1, 2)


def frame_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention among the joints of each frame: q, k, v `[F, J, H, D]` to `[F, J, H, D]`."""
    return masked_attention(q, k, v)


def clip_attention(q: Tensor, k: Tensor, v: Tensor, joints: int, self_visible: bool) -> Tensor:
    """Frame-block-masked attention within each clip: `[K, w * joints + 1, H, D]` to the same shape; see `clip_mask`."""
    if (q.shape[1] - 1) % joints:
        raise ValueError(f"a clip of {q.shape[1]} tokens is not frames of {joints} joints and one CLS token")
    return masked_attention(q, k, v, clip_mask(joints, q.shape[1], self_visible, q.device))


def pooled_attention(
    query: Tensor,
    tokens: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    visible: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """One query's attention with the key and value projections absorbed (they have no bias, so this is exact).

    With n = LayerNorm(tokens), keys k = W_k n and values v = W_v n: q . k = (W_k^T q) . n, and sum a v = W_v (sum a n).
    query `[N, H, D]`, tokens `[N, S, E]`, w_k and w_v `[H, D, E]`, visible bool `[N, S]`; gives `[N, H, D]`.
    """
    n = layer_norm(tokens, tokens.shape[-1:], norm_weight, norm_bias, eps)
    scale = query.shape[-1] ** -0.5
    absorbed = torch.einsum("nhd,hde->nhe", query * scale, w_k)
    scores = absorbed @ n.transpose(1, 2)
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None], float("-inf"))
    return torch.einsum("nhe,hde->nhd", scores.softmax(-1) @ n, w_v)


def gelu_mlp(
    h: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    p: float = 0.0,
    keep: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """h + Drop(W_out GELU(W_in LayerNorm(h) + b_in) + b_out), `[..., E]`; `keep` bool instead of a mask of torch's."""
    z = linear(gelu(linear(layer_norm(h, h.shape[-1:], norm_weight, norm_bias, eps), w_in, b_in)), w_out, b_out)
    z = dropout(z, p) if keep is None else z * keep / (1 - p)
    return h + z.to(h.dtype)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(x W^T + b), GELU by erf: x `[..., E]`, W `[HIDDEN, E]`, b `[HIDDEN]`."""
    return gelu(linear(x, weight, bias))


def joint_embedding(
    coordinates: Tensor,
    weight: Tensor,
    bias: Tensor,
    position: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """LayerNorm(GELU(W x + b)) + position, LayerNorm only where given: x `[F, J, C]`, W `[E, C]`, position `[J, E]`."""
    y = gelu(linear(coordinates, weight, bias))
    if norm_weight is not None:
        y = layer_norm(y, y.shape[-1:], norm_weight, norm_bias, eps)
    return y + position
