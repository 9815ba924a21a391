"""The operations of the hot path: plain torch on CPUs, Triton kernels on CUDA (see `dispatch`)."""

from .attention import clip_attention, clip_attention_packed, frame_attention, frame_attention_packed
from .dispatch import IMPLS, uses_triton
from .reference import masked_attention, pooled_attention

__all__ = [
    "IMPLS",
    "clip_attention",
    "clip_attention_packed",
    "frame_attention",
    "frame_attention_packed",
    "masked_attention",
    "pooled_attention",
    "uses_triton",
]
