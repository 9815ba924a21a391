"""The operations of the hot path: plain torch on CPUs, Triton kernels on CUDA (see `uses_triton`).

Shape legend: F frames, J joints, C coordinates, w frames of a clip; N sequences, clips or frames, S tokens of each, H
heads, D width of a head, E width of a token, HIDDEN width of a feed-forward block's hidden layer.
"""

from .attention import clip_attention, clip_attention_packed, frame_attention, frame_attention_packed
from .dispatch import IMPLS, operand_dtype, uses_triton
from .joint_embedding import joint_embedding
from .linear_gelu import linear_gelu
from .mlp import draw_seed, dropout_mask, gelu_mlp
from .pooled import pooled_attention
from .reference import masked_attention

__all__ = [
    "IMPLS",
    "clip_attention",
    "clip_attention_packed",
    "draw_seed",
    "dropout_mask",
    "frame_attention",
    "frame_attention_packed",
    "gelu_mlp",
    "joint_embedding",
    "linear_gelu",
    "masked_attention",
    "operand_dtype",
    "pooled_attention",
    "uses_triton",
]
