"""The operations of the hot path. Each has a plain-torch definition in `reference`."""

from .reference import clip_attention, frame_attention, masked_attention, pooled_attention

__all__ = ["clip_attention", "frame_attention", "masked_attention", "pooled_attention"]
