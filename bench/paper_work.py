"""One forward and one backward launch of each kernel at the paper's sizes, to be intercepted: nothing is computed.

`groups` are what a program's rows come from: clips, frames, tokens or sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

import hitrs_fast.kernels  # noqa: F401  the operations' registration

ops = torch.ops.hitrs_fast
JOINTS, CLIP, HEADS, HEAD_DIM = 25, 176, 8, 64
WIDTHS, HIDDEN = {"frame": 128, "clip": 256, "video": 512}, {"frame": 128, "clip": 128, "video": 256}


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def attention(kind: str, dtype: torch.dtype, groups: int = 3) -> None:
    """kind: "clips" or "frames"."""
    same_frame = kind == "frames"
    qkv = zeros(groups, JOINTS if same_frame else CLIP, 3, HEADS, HEAD_DIM, dtype=dtype)
    out, lse = ops.attention_packed(qkv, JOINTS, same_frame, False)
    ops.attention_packed_backward(out, qkv, out, lse, JOINTS, same_frame, False)


def mlp(level: str, dtype: torch.dtype, p: float = 0.2, groups: int = 70) -> None:
    """At the video level the tokens are float32, as they are there under autocast."""
    width, hidden = WIDTHS[level], HIDDEN[level]
    h = zeros(groups, width, dtype=torch.float32 if level == "video" else dtype)
    w_in, w_out = zeros(hidden, width, dtype=dtype), zeros(width, hidden, dtype=dtype)
    inputs = (h, zeros(width), zeros(width), w_in, zeros(hidden), w_out, zeros(width))
    seed = torch.tensor([1]) if p else None
    out = ops.gelu_mlp(*inputs, p, seed, 1e-5)
    ops.gelu_mlp_backward(out, *inputs, p, seed, 1e-5)


def projection(dtype: torch.dtype, groups: int = 70) -> None:
    """A block wider than what stays on chip."""
    x, weight, bias = zeros(groups, 512, dtype=dtype), zeros(1024, 512, dtype=dtype), zeros(1024)
    out, a = ops.linear_gelu(x, weight, bias)
    ops.linear_gelu_backward(out, a, bias)


def pool(level: str, dtype: torch.dtype, groups: int = 3) -> None:
    video = level == "video"
    tokens, width = (40 if video else CLIP), WIDTHS[level]
    x = zeros(groups, tokens, width, dtype=torch.float32 if video else dtype)
    u, visible = zeros(groups, HEADS, width, dtype=dtype), torch.ones(groups, tokens, dtype=torch.bool)
    out, lse = ops.pool(u, x, visible if video else None, 1e-5)
    ops.pool_backward(out, u, x, visible if video else None, out, lse, 1e-5)


def embedding(channels: int = 3, groups: int = 21) -> None:
    x, weight, vector = zeros(groups, JOINTS, channels), zeros(128, channels), zeros(128)
    out = ops.joint_embedding(x, weight, vector, zeros(JOINTS, 128), None, None, 1e-5, torch.bfloat16)
    ops.joint_embedding_backward(out, x, weight, vector, None, 1e-5, False)
