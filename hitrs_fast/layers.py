"""The pre-LN transformer layer that all three levels share, and the start of the position tables."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from hitrs_fast.kernels import draw_seed, gelu_mlp, pooled_attention, uses_triton

from .dropout import Dropout
from .projection import QKV, project_qkv

Attend = Callable[[QKV], Tensor]


class Layer(nn.Module):
    """h = x + Drop(W_o MHA(LN x)); y = h + Drop(W_2 GELU(W_1 LN h)). The attention's projections have no bias.

    Which token sees which is the caller's: `attend` gets queries, keys and values, `[..., heads, head_dim]` each or
    packed in one tensor `[..., 3, heads, head_dim]`, and returns `[..., heads, head_dim]`.
    """

    impl = "auto"  # see `HiTRS.use_kernels`

    def __init__(self, width: int, hidden: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, hidden)
        self.ffn_out = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """x `[..., width]` to the same shape."""
        packed = x.device.type != "cpu" or torch.compiler.is_compiling() or uses_triton(self.impl, x)
        qkv = project_qkv(self.attention_norm(x), self.qkv.weight, self.heads, packed)
        return self._finish(x, attend(qkv))

    def pooled(self, x: Tensor, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """The layer's output for one token of each row alone, exact and without the other tokens' outputs.

        x `[N, width]` is that token; `tokens` `[N, S, width]` are all of the row's, x among them.
        """
        w_q, w_k, w_v = self.qkv.weight.unflatten(0, (3, self.heads, self.head_dim)).unbind(0)
        query = nn.functional.linear(self.attention_norm(x), w_q.flatten(0, 1)).unflatten(-1, w_q.shape[:2])
        norm = self.attention_norm
        attended = pooled_attention(query, tokens, norm.weight, norm.bias, w_k, w_v, visible, norm.eps, self.impl)
        return self._finish(x, attended)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        h = x + self.dropout(self.out(attended.flatten(-2)))
        if not uses_triton(self.impl, h):
            return h + self.dropout(self.ffn_out(gelu(self.ffn_in(self.ffn_norm(h)))))
        norm, first, second = self.ffn_norm, self.ffn_in, self.ffn_out
        weights = (norm.weight, norm.bias, first.weight, first.bias, second.weight, second.bias)
        p = self.dropout.p if self.dropout.training else 0.0
        return gelu_mlp(h, *weights, p, draw_seed(h.device) if p else None, norm.eps, self.impl)


def sinusoid(rows: int, width: int) -> Tensor:
    """`[rows, width]`: sines in the even columns, cosines in the odd ones, base 10,000 (Vaswani et al. 2017, 3.5)."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()


def sinusoid_2d(frames: int, joints: int, width: int) -> Tensor:
    """`[frames, joints, width]`: the first half of the channels encodes the joint, the second half the frame."""
    joint = sinusoid(joints, width // 2).expand(frames, -1, -1)
    frame = sinusoid(frames, width // 2)[:, None].expand(-1, joints, -1)
    return torch.cat([joint, frame], -1).contiguous()
