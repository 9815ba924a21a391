"""Random models, batches and layouts that several tests use."""

from __future__ import annotations

import torch

import hitrs_fast as hf
from bench.reference import Reference
from hitrs_fast.clips import Windows, clip_counts
from training.data.corrupt import draw_pretext


def layout(joints: int) -> hf.SkeletonLayout:
    """A chain of joints."""
    return hf.SkeletonLayout.from_parents(f"chain{joints}", range(-1, joints - 1))


def tiny_config(joints: int = 5, **sizes) -> hf.HiTRSConfig:
    defaults = {"widths": (8, 16, 32), "ffn": (8, 8, 16), "heads": 2, "head_dim": 4, "max_clips": 50}
    return hf.HiTRSConfig.authors(layout(joints), **(defaults | sizes))


def ragged(lengths: list[int], joints: int, channels: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(sum(lengths), joints, channels, generator=generator, dtype=torch.float64)
    return frames, torch.tensor(lengths)


def pretext_batch(
    config: hf.HiTRSConfig, pretext: hf.PretextConfig, lengths: list[int], seed: int = 0
) -> tuple[hf.PretextBatch, hf.Capacity]:
    frames, counted = ragged(lengths, config.joints, config.channels, seed)
    windows = Windows(config.window, config.stride, config.dilate)
    counts = clip_counts(counted, windows)
    generator = torch.Generator().manual_seed(seed)
    batch = draw_pretext(frames, counted, windows, pretext, int(counts.sum()), generator)
    return batch, hf.Capacity(int(counts.sum()), int(counts.max()))


def models(
    config: hf.HiTRSConfig, pretext: hf.PretextConfig | None = None, seed: int = 0
) -> tuple[Reference, hf.Pretraining]:
    """The dense reference and the product with the same random weights, in float64, without dropout."""
    torch.manual_seed(seed)
    reference = Reference(config, pretext, classes=7).double().eval()
    state = {k: t for k, t in reference.state_dict().items() if not k.startswith("v_cls.")}
    loaded = hf.load_authors_checkpoint(state, heads=config.heads, stride=config.stride, dilate=config.dilate)
    # What shapes do not tell: the mask's rule, dropout and the layout's names.
    model = hf.Pretraining(hf.HiTRS(config), pretext).double().eval()
    model.load_state_dict(loaded.state_dict())
    return reference, model
